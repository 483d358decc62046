//! The tracer's native records as the tests read them: strictly. A line that is no record, a field that is missing or
//! of another type, and a record that contradicts itself are failures wherever they turn up.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

/// Every name a verdict may have in this version.
const VERDICTS: [&str; 12] = [
    "probe_reset",
    "probe_close",
    "probe_header",
    "probe_half_open",
    "handshake_timeout",
    "not_amqp",
    "refused",
    "accept_queue_full",
    "session",
    "session_reset",
    "broker_closed",
    "timed_out",
];

/// Those of what was never established.
const ATTEMPTS: [&str; 3] = ["probe_half_open", "refused", "accept_queue_full"];

/// One line.
#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Record {
    /// A finished connection.
    Connection(Connection),
    /// A source's sums over a window.
    Source(Source),
    /// What a source holds open.
    Open(Open),
    /// What a source does wrong.
    Finding(Finding),
    /// What was not seen in detail.
    Loss(Loss),
}

/// What a source holds open.
#[derive(Clone, Debug, Deserialize)]
pub struct Open {
    pub source: SourceAddress,
    pub open: u64,
    pub silent: u64,
    pub longest_silence_ns: Option<u64>,
}

/// What a source does wrong.
#[derive(Clone, Debug, Deserialize)]
pub struct Finding {
    pub time: Timestamp,
    pub id: String,
    pub rule: Rule,
    pub state: String,
    pub severity: String,
    pub source: SourceAddress,
    pub since: Timestamp,
    pub last_seen: Timestamp,
    pub count: u64,
    pub period_ns: Option<u64>,
    pub resolution: Option<String>,
    pub summary: String,
    pub advice: String,
}

/// By which rule.
#[derive(Clone, Debug, Deserialize)]
pub struct Rule {
    pub code: String,
    pub name: String,
}

/// Who listened.
#[derive(Clone, Debug, Deserialize)]
pub struct ListeningProcess {
    pub pid: u32,
    pub process: String,
    pub container: Option<String>,
    pub pod: Option<String>,
}

/// An address with its port.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    pub ip: IpAddr,
    pub port: u16,
}

impl Endpoint {
    /// As the generators write it.
    pub fn address(self) -> SocketAddr {
        SocketAddr::new(self.ip, self.port)
    }
}

/// A finished connection.
#[derive(Clone, Debug, Deserialize)]
pub struct Connection {
    pub time: Timestamp,
    pub verdict: String,
    pub source: Endpoint,
    pub destination: Endpoint,
    pub established: Option<Timestamp>,
    pub duration_ns: Option<u64>,
    pub closed_by: String,
    pub reset_by: Option<String>,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub segments_in: u32,
    pub netns: u64,
    pub preexisting: bool,
    pub evidence: Evidence,
    pub listener: Option<ListeningProcess>,
}

/// The facts that a verdict rests on.
#[derive(Clone, Debug, Deserialize)]
pub struct Evidence {
    pub last_state: String,
    pub fin_received: bool,
    pub source_sent: String,
    pub broker_sent: String,
    pub socket_error: Option<String>,
}

/// A source's sums over a window.
#[derive(Clone, Debug, Deserialize)]
pub struct Source {
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    pub source: SourceAddress,
    pub folded: Option<u64>,
    pub connections: u64,
    pub verdicts: BTreeMap<String, u64>,
    pub duration_ns: Histogram,
    pub unrecorded: u64,
    pub bytes_in: u64,
    pub bytes_out: u64,
    pub first_seen: Timestamp,
    pub last_seen: Timestamp,
    pub period_ns: Option<u64>,
    pub period_jitter: Option<f64>,
}

/// `None` is the rest of the sources.
#[derive(Clone, Debug, Deserialize)]
pub struct SourceAddress {
    pub ip: Option<IpAddr>,
    pub prefix: Option<u8>,
    pub name: Option<String>,
}

/// How many lived how long.
#[derive(Clone, Debug, Deserialize)]
pub struct Histogram {
    pub bounds: Vec<u64>,
    pub counts: Vec<u64>,
}

/// What was not seen in detail.
#[derive(Clone, Debug, Deserialize)]
pub struct Loss {
    pub time: Timestamp,
    pub window_start: Timestamp,
    pub window_end: Timestamp,
    pub reason: String,
    pub count: u64,
    pub summary: String,
}

#[derive(Deserialize)]
struct Envelope {
    schema: String,
    host: String,
}

/// Reads a line and refuses what no reader should have to expect.
pub fn parse(line: &str) -> Record {
    let envelope: Envelope =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a record ({error}): {line}"));
    assert_eq!(envelope.schema, "amqptrace/1", "{line}");
    assert!(!envelope.host.is_empty(), "{line}");
    let record: Record =
        serde_json::from_str(line).unwrap_or_else(|error| panic!("not a record ({error}): {line}"));
    if let Some(contradiction) = record.contradiction() {
        panic!("{contradiction}: {line}");
    }
    record
}

impl Record {
    fn contradiction(&self) -> Option<&'static str> {
        match self {
            Self::Connection(connection) => connection.contradiction(),
            Self::Source(source) => source.contradiction(),
            Self::Open(open) => open.contradiction(),
            Self::Finding(finding) => finding.contradiction(),
            Self::Loss(loss) => (loss.count == 0
                || loss.summary.is_empty()
                || loss.window_start > loss.window_end
                || loss.time != loss.window_end)
                .then_some("an empty loss"),
        }
    }
}

impl Connection {
    fn contradiction(&self) -> Option<&'static str> {
        let reset_by_known = [None, Some("source"), Some("broker")].contains(&self.reset_by.as_deref());
        let age = match (self.established, self.duration_ns) {
            (Some(established), Some(duration)) => {
                let duration = SignedDuration::from_nanos(i64::try_from(duration).unwrap());
                !self.preexisting && established + duration == self.time
            }
            (None, None) => self.preexisting != ATTEMPTS.contains(&self.verdict.as_str()),
            _ => false,
        };
        [
            (VERDICTS.contains(&self.verdict.as_str()), "an unknown verdict"),
            (["source", "broker", "kernel"].contains(&self.closed_by.as_str()), "an unknown closer"),
            (reset_by_known, "an unknown resetter"),
            (age, "established, duration_ns and preexisting do not fit the time"),
            (self.source.port != 0 && self.destination.port != 0, "port 0"),
            (self.netns != 0, "network namespace 0"),
            ((self.bytes_in == 0) || (self.segments_in > 0), "bytes without a segment"),
        ]
        .into_iter()
        .find_map(|(holds, otherwise)| (!holds).then_some(otherwise))
    }
}

impl Open {
    fn contradiction(&self) -> Option<&'static str> {
        (self.open == 0
            || self.silent > self.open
            || (self.silent == 0) != self.longest_silence_ns.is_none()
            || self.source.ip.is_none())
        .then_some("open connections that do not add up")
    }
}

impl Finding {
    fn contradiction(&self) -> Option<&'static str> {
        let closed = self.state == "closed";
        [
            (["open", "update", "closed"].contains(&self.state.as_str()), "an unknown state"),
            (["info", "low", "medium", "high"].contains(&self.severity.as_str()), "an unknown severity"),
            (self.id.starts_with(&format!("{}:", self.rule.code)), "an id of another rule"),
            (self.since <= self.last_seen && self.last_seen <= self.time, "times out of order"),
            (self.count > 0, "a finding without evidence"),
            (closed == self.resolution.is_some(), "a resolution of what is not closed, or none of what is"),
            (!self.summary.is_empty() && !self.advice.is_empty(), "nothing said"),
        ]
        .into_iter()
        .find_map(|(holds, otherwise)| (!holds).then_some(otherwise))
    }
}

impl Source {
    fn contradiction(&self) -> Option<&'static str> {
        let lives: u64 = self.duration_ns.counts.iter().sum();
        [
            (self.connections > 0, "a source without connections"),
            (self.verdicts.values().sum::<u64>() == self.connections, "verdicts that do not add up"),
            (self.verdicts.keys().all(|v| VERDICTS.contains(&v.as_str())), "an unknown verdict"),
            (lives + self.unrecorded <= self.connections, "more lives than connections"),
            (self.duration_ns.bounds.is_sorted(), "bounds out of order"),
            (self.duration_ns.counts.len() == self.duration_ns.bounds.len() + 1, "bounds without a bucket"),
            (self.unrecorded <= self.connections, "more unrecorded than there were"),
            (self.first_seen <= self.last_seen, "first seen after last seen"),
            (self.window_start <= self.window_end, "a window that ends before it begins"),
            (self.period_ns.is_some() == self.period_jitter.is_some(), "a period without its jitter"),
            (self.source.ip.is_none() == self.folded.is_some(), "a rest that is a source"),
        ]
        .into_iter()
        .find_map(|(holds, otherwise)| (!holds).then_some(otherwise))
    }
}
