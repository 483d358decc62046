//! The programs that tests and measurements run: brokers, probes, QEMU and what makes its guests.
//!
//! In: what the machine is to be used for. Out: each program there. Refused: machines without apt, with the list of what
//! is missing.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::{Goal, say};
use crate::command;

/// A program, the Debian package it is in, and the first goal that needs it.
struct Program {
    name: &'static str,
    package: &'static str,
    goal: Goal,
}

const PROGRAMS: [Program; 10] = [
    Program { name: "qemu-system-x86_64", package: "qemu-system-x86", goal: Goal::Guest },
    Program { name: "busybox", package: "busybox-static", goal: Goal::Guest },
    Program { name: "dpkg", package: "dpkg", goal: Goal::Guest },
    Program { name: "xz", package: "xz-utils", goal: Goal::Guest },
    Program { name: "zstd", package: "zstd", goal: Goal::Guest },
    Program { name: "rabbitmq-server", package: "rabbitmq-server", goal: Goal::Test },
    Program { name: "haproxy", package: "haproxy", goal: Goal::Test },
    Program { name: "ip", package: "iproute2", goal: Goal::Test },
    Program { name: "tcplife", package: "libbpf-tools", goal: Goal::Bench },
    Program { name: "bpftool", package: "bpftool", goal: Goal::Bench },
];

/// Makes sure that every program `goal` needs is there.
pub(super) fn ensure(goal: Goal, apt: &mut Apt) -> Result<()> {
    let missing = missing(goal, usable);
    let (names, packages): (Vec<_>, Vec<_>) =
        missing.iter().map(|program| (program.name, program.package)).unzip();
    if missing.is_empty() {
        let names = needed(goal).map(|program| program.name).collect::<Vec<_>>().join(", ");
        if !names.is_empty() {
            say(&names, "already there");
        }
        return Ok(());
    }
    if !apt.usable() {
        bail!(
            "{} not found, and apt-get with root or `sudo -n` is not to be had here; install them by hand (Debian's \
             names: {})",
            names.join(", "),
            packages.join(" ")
        );
    }
    apt.install(&packages).with_context(|| names.join(", "))?;
    say(&names.join(", "), "installed");
    Ok(())
}

fn needed(goal: Goal) -> impl Iterator<Item = &'static Program> {
    PROGRAMS.iter().filter(move |program| rank(program.goal) <= rank(goal))
}

fn missing(goal: Goal, usable: impl Fn(&str) -> bool) -> Vec<&'static Program> {
    needed(goal).filter(|program| !usable(program.name)).collect()
}

/// Each goal includes the ones before it.
fn rank(goal: Goal) -> u8 {
    match goal {
        Goal::Build => 0,
        Goal::Guest => 1,
        Goal::Test => 2,
        Goal::Bench => 3,
    }
}

fn usable(name: &str) -> bool {
    let Some(path) = command::find(name) else {
        return false;
    };
    // A guest has no libraries, so only a busybox that needs none will do.
    name != "busybox" || command::is_static(&path).unwrap_or(false)
}

/// The busybox that goes into guests.
pub(crate) fn busybox() -> Result<PathBuf> {
    command::find("busybox").context("busybox is not on PATH")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_goal_needs_what_the_ones_before_it_need() {
        let count = |goal| missing(goal, |_| false).len();
        assert_eq!(count(Goal::Build), 0);
        assert!(count(Goal::Guest) < count(Goal::Test));
        assert!(count(Goal::Test) < count(Goal::Bench));
        assert_eq!(count(Goal::Bench), PROGRAMS.len());
    }

    #[test]
    fn only_what_is_not_there_is_missing() {
        let missing = missing(Goal::Test, |name| name != "haproxy" && name != "busybox");
        let packages = missing.iter().map(|program| program.package).collect::<Vec<_>>();
        assert_eq!(packages, ["busybox-static", "haproxy"]);
    }
}
