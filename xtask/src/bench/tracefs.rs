//! tracefs, which the peers need to find their tracepoints and amqptrace does not.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command;

const FOLDER: &str = "/sys/kernel/tracing";

/// Keeps tracefs mounted while it lives.
pub(crate) struct Tracefs {
    mounted_here: bool,
}

impl Tracefs {
    pub(crate) fn ensure() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/mounts").context("cannot read /proc/mounts")?;
        if mounts.lines().any(|line| line.split(' ').nth(2) == Some("tracefs")) {
            return Ok(Self { mounted_here: false });
        }
        command::run_aside(Command::new("mount").args(["-t", "tracefs", "tracefs"]).arg(Path::new(FOLDER)))?;
        Ok(Self { mounted_here: true })
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if self.mounted_here {
            // Left mounted, it would only be there for others too.
            let _ = command::run_aside(Command::new("umount").arg(FOLDER));
        }
    }
}
