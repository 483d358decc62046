//! What a process's BPF programs cost, by the kernel's own statistics.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;

const SWITCH: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// Keeps the kernel's statistics on while it lives, and leaves them as they were.
pub(crate) struct Statistics {
    before: String,
}

impl Statistics {
    pub(crate) fn enable() -> Result<Self> {
        let before = fs::read_to_string(SWITCH).with_context(|| format!("cannot read {SWITCH}"))?;
        fs::write(SWITCH, "1").with_context(|| format!("cannot write {SWITCH}"))?;
        Ok(Self { before })
    }

    /// Nanoseconds spent so far in the programs that process `pid` holds.
    pub(crate) fn spent_by(&self, pid: u32) -> Result<f64> {
        let bpftool = command::find("bpftool").context("bpftool is not there")?;
        let text = command::output(Command::new(bpftool).args(["--json", "prog", "show"]))?;
        let programs: Value = serde_json::from_str(&text).context("bpftool's output is not JSON")?;
        let held = held_by(pid)?;
        let spent = programs.as_array().into_iter().flatten().filter_map(|program| {
            let id = program.get("id")?.as_u64()?;
            held.contains(&id).then(|| program.get("run_time_ns")?.as_f64())?
        });
        Ok(spent.sum())
    }
}

impl Drop for Statistics {
    fn drop(&mut self) {
        let _ = fs::write(SWITCH, self.before.trim());
    }
}

/// The ids of the programs behind the descriptors of process `pid`.
fn held_by(pid: u32) -> Result<HashSet<u64>> {
    let folder = format!("/proc/{pid}/fdinfo");
    let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?;
    let infos = entries.filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    Ok(infos
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect())
}
