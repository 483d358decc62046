//! Arguments only: text in, arguments out, or one line that says what is wrong with them.

use std::{ffi::OsString, time::Duration};

use clap::{Args, CommandFactory as _, Parser, Subcommand, ValueEnum, error::ErrorKind};

use crate::sink::Target;

/// Who is behind each failed, pointless or wasteful connection to this RabbitMQ broker?
#[derive(Debug, Parser)]
#[command(name = "amqptrace", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = "Exit codes: 0 done, 1 failed at run time, 2 wrong usage.")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// A verb with its arguments.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Trace the connections to the broker's ports and say who made them
    #[command(after_help = "Examples:
  amqptrace run                                     a table of sources every 10 s, until Ctrl-C
  amqptrace run --port 5672,5671 --duration 60s     one minute, plain and TLS port
  amqptrace run --format json --events connections  one JSON line for each finished connection")]
    Run(RunArgs),
    /// Say what this host offers to the tracer, what is missing, and how to get it
    Doctor(DoctorArgs),
    /// List what findings there are, what to do about each, and the numbers that they rest on
    Rules,
    /// Run the main job on traffic that it makes itself on loopback
    Demo(DemoArgs),
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// Ports the broker listens on, in every network namespace of this host; up to 64
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', default_value = "5672", value_parser = port)]
    pub port: Vec<u16>,
    /// Length of a window: how often the table or the source summaries are written
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub interval: Duration,
    /// Stop by itself after this time
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub duration: Option<Duration>,
    /// How to write what was found
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub format: Format,
    /// Where to write it: stdout or file:PATH (appended to)
    #[arg(long, value_name = "TARGET", default_value = "stdout")]
    pub output: Target,
    /// Which records to write with --format json [default: all]
    #[arg(long, value_enum, value_name = "EVENT,…", value_delimiter = ',')]
    pub events: Vec<EventKind>,
    /// Sources to keep apart; beyond that the smallest are counted together as "other"
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub max_sources: u32,
    /// Change a number that findings rest on, as in storm_rate=50; `amqptrace rules` lists them
    #[arg(long, value_name = "NAME=VALUE")]
    pub threshold: Vec<String>,
    /// Take IPv6 addresses with the same leading bits for one source, as in 64
    #[arg(long, value_name = "BITS", default_value_t = 128, value_parser = clap::value_parser!(u8).range(1..=128))]
    pub group_v6: u8,
    /// Name sources by reverse DNS; asks the name servers for each address that is written
    #[arg(long)]
    pub resolve: bool,
    /// Sources to show in the table
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub rows: u32,
    /// Size of the ring buffer between kernel and daemon, in KiB: a power of two
    #[arg(long, value_name = "KIB", default_value_t = 4096, value_parser = clap::value_parser!(u32).range(4..=1_048_576))]
    pub ring_kib: u32,
    /// Write the kernel side's own debug lines to stderr
    #[arg(long)]
    pub kernel_log: bool,
}

/// Arguments of `doctor`.
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Ports whose listeners to look for; up to 64
    #[arg(long, value_name = "PORT,…", value_delimiter = ',', default_value = "5672", value_parser = port)]
    pub port: Vec<u16>,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Port to make the traffic on; a listener of its own stands in where none is there
    #[arg(long, value_name = "PORT", default_value = "5672", value_parser = port)]
    pub port: u16,
}

/// Formats of `run`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people: one line a source, the worst first
    Table,
    /// For programs: one native record a line
    Json,
}

/// Kinds of native records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EventKind {
    /// Each finished connection
    Connections,
    /// Sums per source and window
    Sources,
    /// What each source holds open at the end of a window
    Open,
    /// What each source does wrong
    Findings,
    /// What was not seen in detail
    Loss,
}

/// Why there is nothing to execute.
#[derive(Debug, PartialEq, Eq)]
pub enum Exit {
    /// Help or version was asked for; this is its text.
    Asked(String),
    /// Wrong usage; this line says what and what is allowed.
    Usage(String),
}

/// Parses the command line, the program's name included.
pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Command, Exit> {
    Cli::try_parse_from(arguments).map(|cli| cli.command).map_err(|error| match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Asked(error.to_string()),
        _ => Exit::Usage(one_line(&error)),
    })
}

/// clap explains over several lines; an operator's log wants one.
fn one_line(error: &clap::Error) -> String {
    if error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        return format!("a verb is missing; allowed: {}; see amqptrace --help", verbs());
    }
    let text = error.to_string();
    let said: Vec<&str> = text
        .lines()
        .map(str::trim)
        .take_while(|line| !line.starts_with("Usage:"))
        .filter(|line| !line.is_empty() && !line.starts_with("For more information"))
        .collect();
    let line = said.join(" ").trim_start_matches("error: ").to_owned();
    match error.kind() {
        ErrorKind::InvalidSubcommand => format!("{line}; allowed: {}", verbs()),
        ErrorKind::UnknownArgument => format!("{line}; see amqptrace --help and amqptrace VERB --help"),
        _ => line,
    }
}

fn verbs() -> String {
    let command = Cli::command();
    let names: Vec<&str> = command.get_subcommands().map(clap::Command::get_name).collect();
    names.join(", ")
}

fn port(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("allowed: 1 to 65535, several separated by commas".to_owned()),
        Ok(port) => Ok(port),
    }
}

const SHORTEST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(366 * 86_400);

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if (SHORTEST..=LONGEST).contains(&duration) => Ok(duration),
        _ => Err("allowed: 100ms to 366d, with a unit, as in 500ms, 10s, 5m, 1h30m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(arguments: &[&str]) -> String {
        let all = ["amqptrace"].iter().chain(arguments).map(OsString::from);
        match parse(all) {
            Err(Exit::Usage(line)) => line,
            other => format!("not refused: {other:?}"),
        }
    }

    #[test]
    fn definitions_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_value_and_what_is_allowed() {
        for (arguments, value, allowed) in [
            (&["fly"][..], "'fly'", "run, doctor, rules, demo"),
            (&[][..], "verb", "run, doctor, rules, demo"),
            (&["run", "--port", "0"][..], "'0'", "1 to 65535"),
            (&["run", "--port", "5672,65536"][..], "'65536'", "1 to 65535"),
            (&["run", "--port", "amqp"][..], "'amqp'", "1 to 65535"),
            (&["run", "--duration", "5"][..], "'5'", "with a unit"),
            (&["run", "--duration", "0s"][..], "'0s'", "100ms to 366d"),
            (&["run", "--interval", "99999d"][..], "'99999d'", "100ms to 366d"),
            (&["run", "--interval", "-1s"][..], "'-1'", "see amqptrace --help"),
            (&["run", "--format", "xml"][..], "'xml'", "table, json"),
            (&["run", "--events", "all"][..], "'all'", "connections, sources, open, findings, loss"),
            (&["run", "--output", "ftp:x"][..], "'ftp:x'", "stdout, file:PATH"),
            (&["run", "--output", "file:"][..], "'file:'", "stdout, file:PATH"),
            (&["run", "--max-sources", "0"][..], "'0'", "1..=10000000"),
            (&["run", "--group-v6", "129"][..], "'129'", "1..=128"),
            (&["run", "--ring-kib", "3"][..], "'3'", "4..=1048576"),
            (&["run", "--colour"][..], "'--colour'", "see amqptrace --help"),
            (&["doctor", "extra"][..], "'extra'", "see amqptrace --help"),
        ] {
            let line = usage(arguments);
            assert!(line.contains(value) && line.contains(allowed), "{arguments:?}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
        }
    }

    #[test]
    fn help_and_version_are_not_errors() {
        for asked in ["--help", "--version"] {
            let result = parse(["amqptrace", asked].map(OsString::from));
            assert!(matches!(result, Err(Exit::Asked(text)) if text.contains("amqptrace")));
        }
    }
}
