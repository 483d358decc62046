//! The verbs, one file each.

mod demo;
mod doctor;
mod rules;
mod run;

use anyhow::Context as _;

use crate::{cli::Command, settings::Settings};

/// Executes a verb to its end.
pub fn execute(command: Command) -> anyhow::Result<()> {
    // One thread is enough: the kernel does the counting, and an idle daemon should cost nothing.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("cannot start the event loop")?;
    runtime.block_on(async {
        match command {
            Command::Run(args) => run::run(Settings::new(args)?).await,
            Command::Doctor(args) => doctor::run(args),
            Command::Demo(args) => demo::run(args).await,
            Command::Rules => rules::run(),
        }
    })
}
