//! Sums per source and window in, findings out: what a source does wrong, since when, how often, and what to change.
//!
//! Pure: no I/O, and no clock but that of the windows. A finding opens when the evidence of a horizon carries it, says
//! so again while its count rises, and closes when nothing of the kind has come for long enough, so that it does not
//! flap. Which rules there are is one table, [`RULES`]; every number in them is a [`Thresholds`].

mod active;
mod condition;
mod engine;
mod evidence;
mod rules;
mod summary;
#[cfg(test)]
mod tests;
mod thresholds;

use std::{fmt, net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

pub use engine::{Findings, Observed};
pub use rules::{RULES, Rule};
pub use thresholds::{THRESHOLDS, ThresholdError, Thresholds};

/// How much an operator should mind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Good to know.
    Info,
    /// Costs little; mend it when convenient.
    Low,
    /// Costs the broker or hides other errors; mend it.
    Medium,
    /// Service is or soon will be affected.
    High,
}

impl Severity {
    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Where a finding is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Said for the first time.
    Open,
    /// Said before, and its count has risen.
    Update,
    /// Over; nothing more is said under this id.
    Closed,
}

/// Why a finding closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Resolution {
    /// Nothing of the kind came any more.
    Quiet,
    /// Nothing of the kind came any more, and the source now checks half-open, which costs the broker nothing.
    HalfOpen,
    /// The broker takes the source's connections again.
    Recovered,
}

/// One thing that a source does wrong.
#[derive(Clone, Debug)]
pub struct Finding {
    /// `CODE:SOURCE:MILLISECONDS`, the last being [`Finding::since`] since the epoch; the same from open to closed.
    pub id: String,
    /// Which rule it is by.
    pub rule: &'static Rule,
    /// What is said of it.
    pub state: State,
    /// Who does it.
    pub source: IpAddr,
    /// When its evidence began.
    pub since: Timestamp,
    /// When its latest evidence came.
    pub last_seen: Timestamp,
    /// How many connections are its evidence, those that opened it included.
    pub count: u64,
    /// From one to the next, if they came as a clock.
    pub period: Option<Duration>,
    /// Why it closed; `None` until it does.
    pub resolution: Option<Resolution>,
    /// One sentence for the operator.
    pub summary: String,
}
