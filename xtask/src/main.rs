//! The project's own commands: `cargo xtask VERB`.
//!
//! In: a verb and its options. Out: what the verb says, and an exit code: 0 done, 1 failed at run time, 2 wrong usage.
//! Refused: unknown verbs and options, by the argument parser, with what is allowed.

mod bench;
mod command;
mod demo;
mod guest;
mod setup;
mod table;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Sets up, shows, tests and measures amqptrace.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install whatever this machine lacks, and only that.
    Setup(setup::Args),
    /// Build, then run the main job on traffic it makes itself.
    Demo(demo::Args),
    /// Run every test: format, lints, unit, end to end in the kernel, guests.
    Test(test::Args),
    /// Run the end-to-end tests on other kernels, under QEMU.
    Guest(guest::Args),
    /// Measure what tracing costs, beside the peers.
    Bench(bench::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup(args) => setup::run(args.goal),
        Verb::Demo(args) => demo::run(&args),
        Verb::Test(args) => test::run(&args),
        Verb::Guest(args) => guest::run(&args),
        Verb::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // One line: a backtrace would bury what is wrong.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}
