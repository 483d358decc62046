//! Checks of the host around the probes: kernel version, rights, lockdown, mounts.

use std::fs;

use caps::{CapSet, Capability};

use super::Check;
use crate::kernel;

/// Ring buffers came with 5.8, socket storage for tracing programs with 5.11.
pub(super) fn kernel() -> Check {
    const NAME: &str = "kernel";
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    match kernel::version() {
        None => {
            Check::degraded(NAME, format!("{release}: not a version known here"), "the other checks tell")
        }
        Some(version) if version < (5, 8) => {
            Check::missing(NAME, release, "5.8 or newer is needed, for BPF ring buffers")
        }
        Some(version) if version < (5, 11) => Check::degraded(
            NAME,
            format!("{release}: the state of about 65,536 open connections is kept"),
            "from 5.11 on it is kept in the sockets, without a limit",
        ),
        Some(_) => Check::ok(NAME, release),
    }
}

/// CAP_BPF loads, CAP_PERFMON lets a program read kernel structures; CAP_SYS_ADMIN has both.
pub(super) fn capabilities() -> Check {
    const NAME: &str = "capabilities";
    const ADVICE: &str = "run as root, or give the process CAP_BPF and CAP_PERFMON";
    let effective = match caps::read(None, CapSet::Effective) {
        Ok(effective) => effective,
        Err(error) => return Check::missing(NAME, format!("cannot be read: {error}"), ADVICE),
    };
    if effective.contains(&Capability::CAP_SYS_ADMIN) {
        return Check::ok(NAME, "CAP_SYS_ADMIN");
    }
    let lacking: Vec<String> = [Capability::CAP_BPF, Capability::CAP_PERFMON]
        .into_iter()
        .filter(|capability| !effective.contains(capability))
        .map(|capability| capability.to_string())
        .collect();
    if lacking.is_empty() {
        Check::ok(NAME, "CAP_BPF, CAP_PERFMON")
    } else {
        let uid = rustix::process::geteuid().as_raw();
        Check::missing(NAME, format!("uid {uid} lacks {}", lacking.join(" and ")), ADVICE)
    }
}

/// Lockdown's confidentiality mode is about reading the kernel, which is what the probes do.
pub(super) fn lockdown() -> Check {
    const NAME: &str = "lockdown";
    match fs::read_to_string("/sys/kernel/security/lockdown") {
        Ok(modes) => match modes.split(['[', ']']).nth(1) {
            Some("confidentiality") => Check::missing(
                NAME,
                "confidentiality: the kernel may not be read",
                "boot with lockdown=integrity or without lockdown",
            ),
            Some(mode) => Check::ok(NAME, mode),
            None => Check::ok(NAME, modes.trim()),
        },
        Err(_) => Check::ok(NAME, "not to be read here (no securityfs); whether the probes attach tells"),
    }
}

/// Not needed to trace TCP; said because it is what per-packet tracing would attach to.
pub(super) fn cgroup2() -> Check {
    mount("cgroup2", "cgroup2")
}

/// Not needed: the probes find their tracepoints by BTF.
pub(super) fn tracefs() -> Check {
    mount("tracefs", "tracefs")
}

fn mount(name: &'static str, kind: &str) -> Check {
    let found = procfs::mounts()
        .ok()
        .and_then(|mounts| mounts.into_iter().find(|mount| mount.fs_vfstype == kind))
        .map_or_else(|| "not mounted".to_owned(), |mount| mount.fs_file);
    Check::ok(name, format!("{found}; not needed by run"))
}
