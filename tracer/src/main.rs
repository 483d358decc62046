//! `amqptrace`: who is behind each failed, pointless or wasteful connection to this RabbitMQ broker?
//!
//! Parses, calls one verb, and turns its result into an exit code: 0 done, 1 failed at run time, 2 wrong usage.

mod broker;
mod cli;
mod command;
mod demo;
mod doctor;
mod encode;
mod finding;
mod grouping;
mod kernel;
mod look;
mod loss;
mod names;
mod pattern;
mod pipeline;
mod record;
mod settings;
mod sink;
mod source;
mod verdict;
mod view;

use std::{io, process::ExitCode};

const FAILED: u8 = 1;
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let command = match cli::parse(std::env::args_os()) {
        Ok(command) => command,
        Err(cli::Exit::Asked(text)) => return print(&text),
        Err(cli::Exit::Usage(line)) => return fail(&line, USAGE),
    };
    match command::execute(command) {
        Ok(()) => ExitCode::SUCCESS,
        // The reader of our output has gone, as `head` does: nothing failed.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) if error.is::<settings::SettingsError>() => fail(&format!("{error:#}"), USAGE),
        Err(error) => fail(&format!("{error:#}"), FAILED),
    }
}

fn print(text: &str) -> ExitCode {
    use io::Write as _;
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(_) => ExitCode::from(FAILED),
    }
}

fn fail(line: &str, code: u8) -> ExitCode {
    eprintln!("amqptrace: {line}");
    ExitCode::from(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}
