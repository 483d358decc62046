//! What this host offers to the tracer: one [`Check`] for each thing it needs, with what to do where it is missing.
//! `doctor` prints them all; a `run` that cannot start speaks with the same words.

mod host;
mod listeners;
mod open;
mod probes;

use std::fmt;

use tracer_ebpf::PortSet;

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// As it should be.
    Ok,
    /// Tracing works, with less than it could give.
    Degraded,
    /// Tracing does not work.
    Missing,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Missing => "missing",
        })
    }
}

/// One thing looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// How it went.
    pub status: Status,
    /// What was found.
    pub found: String,
    /// What to do about it; empty where there is nothing to do.
    pub advice: &'static str,
}

impl Check {
    fn ok(name: &'static str, found: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, found: found.into(), advice: "" }
    }

    fn degraded(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, status: Status::Degraded, found: found.into(), advice }
    }

    fn missing(name: &'static str, found: impl Into<String>, advice: &'static str) -> Self {
        Self { name, status: Status::Missing, found: found.into(), advice }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<9} {:<18} {}", self.status, self.name, self.found)?;
        if !self.advice.is_empty() {
            write!(f, "\n{:>28} {}", "→", self.advice)?;
        }
        Ok(())
    }
}

/// Every check, the probes really loaded and attached for a moment among them.
pub fn checks(ports: &[u16], set: PortSet) -> Vec<Check> {
    let mut checks = needs();
    checks.extend(probes::attach(set));
    checks.push(host::cgroup2());
    checks.push(host::tracefs());
    checks.push(open::check(ports));
    checks.extend(listeners::check(ports));
    checks
}

/// What `run` cannot do without, cheapest first.
fn needs() -> Vec<Check> {
    vec![
        host::kernel(),
        host::capabilities(),
        host::lockdown(),
        probes::btf(),
        probes::tracepoints(),
        probes::ring_buffer(),
        probes::socket_storage(),
    ]
}

/// Puts what is missing on this host before the kernel's own words, which alone are often a bare EPERM.
pub fn explain(error: anyhow::Error) -> anyhow::Error {
    match needs().into_iter().find(|check| check.status == Status::Missing) {
        Some(Check { name, found, advice, .. }) => {
            error.context(format!("cannot trace: {name}: {found}; {advice}"))
        }
        None => error.context("cannot trace"),
    }
}
