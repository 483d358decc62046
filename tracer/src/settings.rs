//! Arguments in, validated settings out: what one argument alone cannot say to be wrong is refused here.

use std::time::Duration;

use thiserror::Error;
use tracer_ebpf::{MAX_PORTS, PortSet};

use crate::{
    cli::{EventKind, Format, RunArgs},
    finding::{ThresholdError, Thresholds},
    grouping::Grouping,
    kernel,
    sink::Target,
};

/// Arguments that are right one by one but not together.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Too many ports.
    #[error("{0} different ports in --port; allowed: up to {MAX_PORTS}")]
    TooManyPorts(usize),
    /// A ring whose size the kernel does not take.
    #[error("'{0}' for --ring-kib is not a power of two; allowed: 4, 8, 16, … 1048576")]
    RingSize(u32),
    /// A threshold that is unknown, or whose value is not allowed.
    #[error(transparent)]
    Threshold(#[from] ThresholdError),
    /// Events chosen for the table.
    #[error("--events chooses records, so it needs --format json")]
    EventsOfTable,
}

/// Settings of `run`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the probes are told.
    pub kernel: kernel::Options,
    /// The watched ports, in ascending order, each once.
    pub ports: Vec<u16>,
    /// Length of a window.
    pub interval: Duration,
    /// When to stop by itself.
    pub duration: Option<Duration>,
    /// How to write.
    pub format: Format,
    /// Where to.
    pub output: Target,
    /// Which records to write.
    pub events: Events,
    /// How many sources to keep apart.
    pub max_sources: usize,
    /// The numbers that findings rest on.
    pub thresholds: Thresholds,
    /// Which addresses are one source.
    pub grouping: Grouping,
    /// Whether to name sources by reverse DNS.
    pub resolve: bool,
    /// How many to show in a table.
    pub rows: usize,
}

/// A choice of records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Events {
    /// Each finished connection.
    pub connections: bool,
    /// Sums per source and window.
    pub sources: bool,
    /// What each source holds open.
    pub open: bool,
    /// What each source does wrong.
    pub findings: bool,
    /// What was not seen in detail.
    pub loss: bool,
}

impl Settings {
    /// Validates the arguments of `run`.
    pub fn new(args: RunArgs) -> Result<Self, SettingsError> {
        if !args.ring_kib.is_power_of_two() {
            return Err(SettingsError::RingSize(args.ring_kib));
        }
        if args.format == Format::Table && !args.events.is_empty() {
            return Err(SettingsError::EventsOfTable);
        }
        let (ports, set) = ports(args.port)?;
        let mut thresholds = Thresholds::default();
        for threshold in &args.threshold {
            thresholds.set(threshold)?;
        }
        let wanted = |kind| args.events.is_empty() || args.events.contains(&kind);
        Ok(Self {
            kernel: kernel::Options {
                ports: set,
                ring_bytes: args.ring_kib.saturating_mul(1024),
                kernel_log: args.kernel_log,
            },
            ports,
            interval: args.interval,
            duration: args.duration,
            format: args.format,
            output: args.output,
            events: Events {
                connections: wanted(EventKind::Connections),
                sources: wanted(EventKind::Sources),
                open: wanted(EventKind::Open),
                findings: wanted(EventKind::Findings),
                loss: wanted(EventKind::Loss),
            },
            max_sources: usize::try_from(args.max_sources).unwrap_or(usize::MAX),
            thresholds,
            grouping: Grouping::new(args.group_v6),
            resolve: args.resolve,
            rows: usize::try_from(args.rows).unwrap_or(usize::MAX),
        })
    }
}

/// The ports in ascending order, each once, and as the probes want them.
pub fn ports(mut ports: Vec<u16>) -> Result<(Vec<u16>, PortSet), SettingsError> {
    ports.sort_unstable();
    ports.dedup();
    let set = PortSet::new(&ports).map_err(|_| SettingsError::TooManyPorts(ports.len()))?;
    Ok((ports, set))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixty_four_different_ports_and_no_more() {
        let mut many: Vec<u16> = (1..=64).chain(1..=64).collect();
        let (sorted, _) = ports(many.clone()).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(sorted.len(), 64);
        many.push(65);
        assert_eq!(ports(many).map(|_| ()), Err(SettingsError::TooManyPorts(65)));
    }
}
