//! `cargo xtask setup`: what this machine lacks, and only that.
//!
//! In: what the machine is to be used for. Out: one line per step on stderr, saying what was there and what was done.
//! Refused: machines where something is missing and there is no way to get it; the error names both.

mod apt;
mod linker;
mod program;
mod rust;
mod version;

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use clap::ValueEnum;

use crate::command;
use apt::Apt;

pub(crate) use program::busybox;

/// Options of `cargo xtask setup`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What the machine is to be used for.
    #[arg(long = "for", value_enum, default_value_t = Goal::Build)]
    pub(crate) goal: Goal,
}

/// What a machine is to be used for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Goal {
    /// Building amqptrace, its BPF side included.
    Build,
    /// That, and running the end-to-end tests on other kernels.
    Guest,
    /// That, and every other test.
    Test,
    /// That, and the measurements.
    Bench,
}

/// Brings the machine to where `goal` can be reached.
pub(crate) fn run(goal: Goal) -> Result<()> {
    let mut apt = Apt::default();
    if matches!(goal, Goal::Test | Goal::Bench) {
        lints()?;
    }
    let toolchain = rust::ensure(&mut apt)?;
    linker::ensure(&toolchain, &mut apt)?;
    program::ensure(goal, &mut apt)
}

/// rustfmt and clippy, which rustup's minimal profile leaves out.
fn lints() -> Result<()> {
    // Beside the cargo that runs this, not by PATH: rustup puts a stub there for each, installed or not.
    let cargo = env::var_os("CARGO").map(PathBuf::from);
    let folder = cargo.as_deref().and_then(Path::parent).unwrap_or_else(|| Path::new(""));
    if ["cargo-fmt", "cargo-clippy"].iter().all(|name| folder.join(name).exists()) {
        say("rustfmt, clippy", "already there");
        return Ok(());
    }
    say("rustfmt, clippy", "adding them with rustup …");
    command::run_aside(Command::new("rustup").args(["component", "add", "rustfmt", "clippy"]))
        .context("the format and lint stages need rustfmt and clippy")
}

/// One line on stderr per step.
fn say(what: &str, news: &str) {
    eprintln!("setup: {what}: {news}");
}
