//! Every number that a rule uses: its name, its default, what is allowed, and what it means. One table.

use std::{fmt, time::Duration};

use thiserror::Error;

/// The numbers of the rules. What each means is in [`THRESHOLDS`].
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds {
    /// How far back evidence counts.
    pub horizon: Duration,
    /// The shortest time without evidence after which a finding closes.
    pub quiet: Duration,
    /// How many of its usual gaps a finding stays open without evidence.
    pub quiet_gaps: u64,
    /// The shortest time between two records of one finding.
    pub update_every: Duration,
    /// The shortest time over which a rate is judged.
    pub rate_over: Duration,
    /// How long no refusal may come until connections that are established again close a finding.
    pub recovered: Duration,
    /// Probes that make a health check.
    pub checks: u64,
    /// Handshake time-outs that make a finding.
    pub stalls: u64,
    /// How long a connection may be silent.
    pub silence: Duration,
    /// Sessions that make a connection per message.
    pub churn_sessions: u64,
    /// Sessions a second that make one.
    pub churn_rate: f64,
    /// The longest median life of such sessions.
    pub churn_life: Duration,
    /// Resets a second that make a storm.
    pub storm_rate: f64,
    /// Refused attempts that make a finding.
    pub refusals: u64,
    /// Attempts that found the accept queue full that make a finding.
    pub queue_full: u64,
    /// Connections that do not speak AMQP that make a finding.
    pub foreign: u64,
    /// Sessions that are reset that make a finding.
    pub torn: u64,
    /// Their share in the source's sessions.
    pub torn_share: f64,
    /// Connections whose peer is lost that make a finding.
    pub lost: u64,
}

/// Where a threshold's value is kept, what it is by default and what is allowed, both ends included.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// A time, in humantime's form.
    Time {
        /// Its place.
        field: fn(&mut Thresholds) -> &mut Duration,
        /// Its value unless set.
        default: Duration,
        /// The least and the most that is allowed.
        allowed: (Duration, Duration),
    },
    /// A whole number.
    Count {
        /// Its place.
        field: fn(&mut Thresholds) -> &mut u64,
        /// Its value unless set.
        default: u64,
        /// The least and the most that is allowed.
        allowed: (u64, u64),
    },
    /// Any number: a rate in 1/s, or a share.
    Number {
        /// Its place.
        field: fn(&mut Thresholds) -> &mut f64,
        /// Its value unless set.
        default: f64,
        /// The least and the most that is allowed.
        allowed: (f64, f64),
    },
}

/// One threshold.
#[derive(Clone, Copy, Debug)]
pub struct Threshold {
    /// What it is set by.
    pub name: &'static str,
    /// What it means, with its unit.
    pub doc: &'static str,
    /// Its values.
    pub kind: Kind,
}

/// Why a threshold was not set.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ThresholdError {
    /// It has no `=`.
    #[error("'{0}' is no threshold; allowed: NAME=VALUE, as in quiet=90s")]
    Form(String),
    /// No threshold has that name.
    #[error("'{name}' is no threshold; allowed: {allowed}")]
    Name {
        /// What was given.
        name: String,
        /// The names there are.
        allowed: String,
    },
    /// The value is not one, or out of range.
    #[error("'{value}' for threshold {name}; allowed: {allowed}")]
    Value {
        /// What was given.
        value: String,
        /// Which threshold.
        name: &'static str,
        /// What is allowed for it.
        allowed: String,
    },
}

const SECOND: Duration = seconds(1);
const DAY: Duration = seconds(86_400);
const WEEK: Duration = seconds(7 * 86_400);

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

macro_rules! threshold {
    ($kind:ident $field:ident = $default:expr, $least:expr, $most:expr; $doc:literal) => {
        Threshold {
            name: stringify!($field),
            doc: $doc,
            kind: Kind::$kind { field: |all| &mut all.$field, default: $default, allowed: ($least, $most) },
        }
    };
}

/// All thresholds.
pub const THRESHOLDS: [Threshold; 19] = [
    threshold!(Time horizon = seconds(300), seconds(10), WEEK;
        "how far back evidence counts; up to a tenth more"),
    threshold!(Time quiet = seconds(60), SECOND, WEEK;
        "a finding closes no sooner than this after its latest evidence"),
    threshold!(Count quiet_gaps = 5, 1, 100;
        "a finding closes no sooner than this many of its usual gaps after its latest evidence"),
    threshold!(Time update_every = seconds(60), SECOND, DAY;
        "an open finding is said again no sooner than this, and only if its count rose"),
    threshold!(Time rate_over = seconds(10), SECOND, seconds(3_600);
        "the shortest time over which a rate is judged, and over which probes must have come to be a health check"),
    threshold!(Time recovered = seconds(10), SECOND, DAY;
        "broker_down closes this long after the latest refusal if connections are established again"),
    threshold!(Count checks = 5, 2, 1_000_000;
        "so many probes within the horizon, without sessions, are a health check"),
    threshold!(Count stalls = 3, 1, 1_000_000;
        "so many handshake time-outs within the horizon are stalled_handshakes"),
    threshold!(Time silence = seconds(5), SECOND, DAY;
        "a connection that is open and has been silent for longer than this is stalled_handshakes"),
    threshold!(Count churn_sessions = 20, 2, 1_000_000;
        "so many sessions within the horizon may be connection_per_message"),
    threshold!(Number churn_rate = 0.5, 0.001, 1_000_000.0;
        "so many sessions a second may be connection_per_message"),
    threshold!(Time churn_life = SECOND, Duration::from_millis(1), DAY;
        "half of the sessions live at most this long in connection_per_message"),
    threshold!(Number storm_rate = 10.0, 0.1, 1_000_000.0;
        "so many resets a second are a reset_storm"),
    threshold!(Count refusals = 3, 1, 1_000_000;
        "so many refused attempts within the horizon are broker_down"),
    threshold!(Count queue_full = 1, 1, 1_000_000;
        "so many attempts within the horizon that found the accept queue full are accept_queue_full"),
    threshold!(Count foreign = 3, 1, 1_000_000;
        "so many connections within the horizon that do not speak AMQP are not_amqp"),
    threshold!(Count torn = 5, 1, 1_000_000;
        "so many sessions reset within the horizon may be sessions_torn_down"),
    threshold!(Number torn_share = 0.2, 0.0, 1.0;
        "sessions_torn_down needs this share of the source's sessions to be reset"),
    threshold!(Count lost = 3, 1, 1_000_000;
        "so many connections within the horizon whose peer is gone are peer_lost"),
];

impl Default for Thresholds {
    fn default() -> Self {
        let mut all = Self::ZERO;
        for threshold in THRESHOLDS {
            match threshold.kind {
                Kind::Time { field, default, .. } => *field(&mut all) = default,
                Kind::Count { field, default, .. } => *field(&mut all) = default,
                Kind::Number { field, default, .. } => *field(&mut all) = default,
            }
        }
        all
    }
}

impl Thresholds {
    /// What the defaults are written into, so that each stands in one place only.
    const ZERO: Self = Self {
        horizon: Duration::ZERO,
        quiet: Duration::ZERO,
        quiet_gaps: 0,
        update_every: Duration::ZERO,
        rate_over: Duration::ZERO,
        recovered: Duration::ZERO,
        checks: 0,
        stalls: 0,
        silence: Duration::ZERO,
        churn_sessions: 0,
        churn_rate: 0.0,
        churn_life: Duration::ZERO,
        storm_rate: 0.0,
        refusals: 0,
        queue_full: 0,
        foreign: 0,
        torn: 0,
        torn_share: 0.0,
        lost: 0,
    };

    /// Sets one from `NAME=VALUE`; on an error nothing has changed.
    pub fn set(&mut self, text: &str) -> Result<(), ThresholdError> {
        let (name, value) = text.split_once('=').ok_or_else(|| ThresholdError::Form(text.to_owned()))?;
        let (name, value) = (name.trim(), value.trim());
        let threshold = THRESHOLDS.iter().find(|threshold| threshold.name == name).ok_or_else(|| {
            let names: Vec<&str> = THRESHOLDS.iter().map(|threshold| threshold.name).collect();
            ThresholdError::Name { name: name.to_owned(), allowed: names.join(", ") }
        })?;
        let set = match threshold.kind {
            Kind::Time { field, allowed, .. } => {
                put(field(self), allowed, humantime::parse_duration(value).ok())
            }
            Kind::Count { field, allowed, .. } => put(field(self), allowed, value.parse().ok()),
            Kind::Number { field, allowed, .. } => put(field(self), allowed, value.parse().ok()),
        };
        if set {
            return Ok(());
        }
        let allowed = threshold.kind.allowed();
        Err(ThresholdError::Value { value: value.to_owned(), name: threshold.name, allowed })
    }
}

fn put<T: PartialOrd>(place: &mut T, (least, most): (T, T), value: Option<T>) -> bool {
    match value {
        Some(value) if least <= value && value <= most => {
            *place = value;
            true
        }
        _ => false,
    }
}

impl Kind {
    /// What is allowed, for people.
    pub fn allowed(&self) -> String {
        match self {
            Self::Time { allowed: (least, most), .. } => {
                format!("{} to {}, with a unit, as in 90s or 5m", time(*least), time(*most))
            }
            Self::Count { allowed: (least, most), .. } => format!("{least} to {most}"),
            Self::Number { allowed: (least, most), .. } => format!("{least} to {most}"),
        }
    }
}

/// The default, in the form that [`Thresholds::set`] takes.
impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time { default, .. } => f.pad(&time(*default)),
            Self::Count { default, .. } => f.pad(&default.to_string()),
            Self::Number { default, .. } => f.pad(&default.to_string()),
        }
    }
}

/// humantime's form without its blanks, which a command line does not like.
fn time(time: Duration) -> String {
    humantime::format_duration(time).to_string().replace(' ', "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_default_is_allowed_and_can_be_set_by_its_name() {
        let defaults = Thresholds::default();
        for threshold in THRESHOLDS {
            let mut all = Thresholds::ZERO;
            assert_eq!(all.set(&format!("{}={}", threshold.name, threshold.kind)), Ok(()));
            assert_ne!(all, Thresholds::ZERO, "{} is written nowhere", threshold.name);
        }
        let mut all = Thresholds::ZERO;
        for threshold in THRESHOLDS {
            assert_eq!(all.set(&format!(" {} = {} ", threshold.name, threshold.kind)), Ok(()));
        }
        assert_eq!(all, defaults, "two thresholds share a place");
    }

    #[test]
    fn a_refusal_is_one_line_that_names_the_value_the_threshold_and_what_is_allowed() {
        for (text, said) in [
            ("quiet", ["'quiet'", "NAME=VALUE", ""]),
            ("", ["''", "NAME=VALUE", ""]),
            ("loud=1", ["'loud'", "horizon, quiet, ", "lost"]),
            ("quiet=5", ["'5'", "threshold quiet", "1s to 7days"]),
            ("quiet=8days", ["'8days'", "threshold quiet", "1s to 7days"]),
            ("quiet=", ["''", "threshold quiet", "1s to 7days"]),
            ("checks=1", ["'1'", "threshold checks", "2 to 1000000"]),
            ("checks=-5", ["'-5'", "threshold checks", "2 to 1000000"]),
            ("checks=5.5", ["'5.5'", "threshold checks", "2 to 1000000"]),
            ("churn_rate=NaN", ["'NaN'", "threshold churn_rate", "0.001 to 1000000"]),
            ("churn_rate=inf", ["'inf'", "threshold churn_rate", "0.001 to 1000000"]),
            ("torn_share=20%", ["'20%'", "threshold torn_share", "0 to 1"]),
        ] {
            let mut all = Thresholds::default();
            let line = all.set(text).map_or_else(|error| error.to_string(), |()| "not refused".to_owned());
            assert!(said.iter().all(|part| line.contains(part)), "{text}: {line}");
            assert_eq!(line.lines().count(), 1, "{line}");
            assert_eq!(all, Thresholds::default(), "{text} changed something");
        }
    }
}
