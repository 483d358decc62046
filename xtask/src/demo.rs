//! `cargo xtask demo`: the main job, from nothing to a table of sources.
//!
//! In: arguments for `amqptrace demo`, after `--`. Out: whatever `amqptrace demo` prints, and its exit code.
//! Refused: nothing here; what the host lacks is said by `setup` and by `amqptrace` itself.

use std::ffi::OsString;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;
use crate::setup::{self, Goal};

/// Options of `cargo xtask demo`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Handed to `amqptrace demo` as they are.
    #[arg(last = true, value_name = "ARGUMENTS")]
    rest: Vec<OsString>,
}

/// Sets up, builds, and becomes `amqptrace demo`; returns only when that could not be done.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(Goal::Build)?;
    command::run_aside(&mut command::cargo(["build", "--release", "--locked", "--package", "amqptrace"]))?;
    let binary = command::target_dir().join("release/amqptrace");
    // Becoming the program, not waiting for it, hands on its exit code and its signals without a line of code.
    let error = Command::new(&binary).arg("demo").args(&args.rest).exec();
    Err(error).with_context(|| format!("cannot start {}", binary.display()))
}
