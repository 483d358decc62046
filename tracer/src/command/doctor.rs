//! `amqptrace doctor`: prints every check.

use std::io::{self, Write as _};

use anyhow::{Context as _, bail};

use crate::{
    cli::DoctorArgs,
    doctor::{Status, checks},
    settings,
};

/// Prints the checks; fails when something that `run` needs is missing.
pub fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let (ports, set) = settings::ports(args.port)?;
    let checks = checks(&ports, set);
    let mut out = io::stdout().lock();
    for check in &checks {
        writeln!(out, "{check}").context("cannot write to standard output")?;
    }
    let missing = checks.iter().filter(|check| check.status == Status::Missing).count();
    if missing > 0 {
        bail!("{missing} of {} checks found something missing that run needs", checks.len());
    }
    Ok(())
}
