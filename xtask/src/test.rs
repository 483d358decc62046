//! `cargo xtask test`: every test there is, in stages.
//!
//! In: flags that skip the stages some machines cannot run. Out: each stage's own output, then one table of all stages.
//! Refused: going on after a stage that failed, and leaving a stage out without saying so.

mod access;

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use crate::command;
use crate::guest;
use crate::setup::{self, Goal};
use crate::table;

const SKIP_KERNEL: &str = "--skip-kernel";
const SKIP_GUESTS: &str = "--skip-guests";

/// Options of `cargo xtask test`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the end-to-end tests in this machine's kernel, which need root.
    #[arg(long)]
    skip_kernel: bool,
    /// Leave out the end-to-end tests on other kernels.
    #[arg(long)]
    skip_guests: bool,
}

/// One stage: a name, what it does, and the flag that skipped it if one did.
struct Stage {
    name: &'static str,
    run: fn() -> Result<()>,
    skipped_by: Option<&'static str>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Outcome {
    Passed(Duration),
    Failed(Duration),
    Skipped(&'static str),
    NotReached,
}

/// Runs the stages in order, up to the first that fails.
pub(crate) fn run(args: &Args) -> Result<()> {
    let stage = |name, run| Stage { name, run, skipped_by: None };
    let kernel = |name, run| Stage { name, run, skipped_by: args.skip_kernel.then_some(SKIP_KERNEL) };
    let guests = |name, run| Stage { name, run, skipped_by: args.skip_guests.then_some(SKIP_GUESTS) };
    let stages = [
        // First, so that nobody waits for a build to learn that root is missing.
        kernel("kernel access", access::check),
        stage("setup", || setup::run(Goal::Test)),
        stage("format", || cargo(&["fmt", "--all", "--check"])),
        stage("lints", || {
            cargo(&["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"])
        }),
        stage("unit tests", || cargo(&["test", "--workspace", "--lib", "--bins", "--locked"])),
        stage("doc tests", || cargo(&["test", "--workspace", "--doc", "--locked"])),
        kernel("end to end", || cargo(&["test", "--package", "amqptrace", "--test", "e2e", "--locked"])),
        guests("guests", || guest::run(&guest::Args::default())),
    ];
    let (outcomes, result) = run_all(&stages);
    println!("\n{}", summary(&stages, &outcomes));
    result
}

fn cargo(args: &[&str]) -> Result<()> {
    command::run(&mut command::cargo(args))
}

fn run_all(stages: &[Stage]) -> (Vec<Outcome>, Result<()>) {
    let mut outcomes = vec![Outcome::NotReached; stages.len()];
    for (stage, outcome) in stages.iter().zip(&mut outcomes) {
        if let Some(flag) = stage.skipped_by {
            eprintln!("\n== {}: skipped by {flag}", stage.name);
            *outcome = Outcome::Skipped(flag);
            continue;
        }
        eprintln!("\n== {}", stage.name);
        let start = Instant::now();
        let result = (stage.run)();
        *outcome =
            if result.is_ok() { Outcome::Passed(start.elapsed()) } else { Outcome::Failed(start.elapsed()) };
        if result.is_err() {
            return (outcomes, result.with_context(|| format!("stage `{}` failed", stage.name)));
        }
    }
    (outcomes, Ok(()))
}

fn summary(stages: &[Stage], outcomes: &[Outcome]) -> String {
    let mut rows = vec![["stage", "result", "took"].map(String::from)];
    for (stage, outcome) in stages.iter().zip(outcomes) {
        let took = |time: &Duration| format!("{:.1} s", time.as_secs_f64());
        let (result, took) = match outcome {
            Outcome::Passed(time) => ("passed".to_owned(), took(time)),
            Outcome::Failed(time) => ("FAILED".to_owned(), took(time)),
            Outcome::Skipped(flag) => (format!("skipped ({flag})"), String::new()),
            Outcome::NotReached => ("not reached".to_owned(), String::new()),
        };
        rows.push([stage.name.to_owned(), result, took]);
    }
    table::aligned(&rows)
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    fn stages() -> [Stage; 4] {
        [
            Stage { name: "good", run: || Ok(()), skipped_by: None },
            Stage { name: "left out", run: || bail!("ran all the same"), skipped_by: Some(SKIP_KERNEL) },
            Stage { name: "bad", run: || bail!("the reason"), skipped_by: None },
            Stage { name: "after", run: || bail!("ran all the same"), skipped_by: None },
        ]
    }

    #[test]
    fn the_first_failing_stage_ends_the_run_and_is_named() {
        let (outcomes, result) = run_all(&stages());
        assert!(matches!(
            outcomes[..],
            [Outcome::Passed(_), Outcome::Skipped(SKIP_KERNEL), Outcome::Failed(_), Outcome::NotReached]
        ));
        let text = result.map_or_else(|error| format!("{error:#}"), |()| String::new());
        assert_eq!(text, "stage `bad` failed: the reason");
    }

    #[test]
    fn the_summary_has_a_line_for_every_stage_and_names_the_flag() {
        let outcomes = [
            Outcome::Passed(Duration::from_millis(1250)),
            Outcome::Skipped(SKIP_KERNEL),
            Outcome::Failed(Duration::ZERO),
            Outcome::NotReached,
        ];
        let expected = "stage     result                   took\n\
                        good      passed                   1.2 s\n\
                        left out  skipped (--skip-kernel)\n\
                        bad       FAILED                   0.0 s\n\
                        after     not reached\n";
        assert_eq!(summary(&stages(), &outcomes), expected);
    }
}
