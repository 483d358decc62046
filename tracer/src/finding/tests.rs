//! Behaviours in, findings out: what opens on what, for how long, and what is said.

mod behaviour;
mod bounds;
mod documented;
mod life;

use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{Finding, Findings, Observed, State, Thresholds};
use crate::{
    broker::OpenNow,
    encode::Window,
    source::{LIFE_BOUNDS, Sums},
    verdict::Verdict,
};

const SOURCE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 77, 0, 11));
const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
/// Not a multiple of anything, in ms.
const BEGIN: i64 = 1_795_339_777_123;

/// A time in ms since the beginning of the test.
fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(BEGIN + ms).unwrap_or(Timestamp::MAX)
}

fn window(start: i64, end: i64) -> Window {
    Window { start: at(start), end: at(end) }
}

fn sums(verdicts: &[(Verdict, u64)], first: i64, last: i64) -> Sums {
    let mut all = [0; Verdict::ALL.len()];
    for (verdict, count) in verdicts {
        all[*verdict as usize] += count;
    }
    Sums {
        connections: all.iter().sum(),
        verdicts: all,
        lives: [0; LIFE_BOUNDS.len() + 1],
        unrecorded: 0,
        bytes_in: 0,
        bytes_out: 0,
        first_seen: at(first),
        last_seen: at(last),
    }
}

/// The ends of one source's connections: when in ms, as what, and how long it had lived in ms.
type Ends = Vec<(i64, Verdict, u64)>;

/// One every so many ms, from one time to another.
fn every(step: i64, from: i64, to: i64, verdict: Verdict, life: u64) -> Ends {
    (from..to).step_by(usize::try_from(step).unwrap_or(1)).map(|ms| (ms, verdict, life)).collect()
}

/// What one source does.
#[derive(Clone, Default)]
struct Source {
    ends: Ends,
    /// The period the tracer tells, and when it begins to.
    period: Option<(i64, Duration)>,
    /// A connection that is silent from one time to another.
    silent: Option<(i64, i64)>,
    /// A connection that is open all the time and speaks.
    connected: bool,
}

impl Source {
    fn of(mut ends: Ends) -> Self {
        ends.sort_unstable_by_key(|end| end.0);
        Self { ends, ..Self::default() }
    }

    /// From the first connection, as a tracer would from the eighth.
    fn with_period(self, after: i64, ms: u64) -> Self {
        Self { period: Some((after, Duration::from_millis(ms))), ..self }
    }

    fn open_at(&self, ms: i64) -> Option<OpenNow> {
        let silence = self.silent.filter(|(from, to)| (*from..*to).contains(&ms)).map(|(from, _)| ms - from);
        let longest_silence = silence.map(|ms| Duration::from_millis(ms.unsigned_abs()));
        let silent = u64::from(longest_silence.is_some());
        let open = silent + u64::from(self.connected);
        (open > 0).then_some(OpenNow { open, silent, longest_silence })
    }

    fn sums(&self, from: i64, to: i64) -> Sums {
        let here = &self.ends[self.ends.partition_point(|end| end.0 < from)..];
        let here = &here[..here.partition_point(|end| end.0 < to)];
        let (first, last) = (here.first().map_or(0, |end| end.0), here.last().map_or(0, |end| end.0));
        let verdicts: Vec<_> = here.iter().map(|end| (end.1, 1)).collect();
        let mut sums = sums(&verdicts, first, last);
        for (_, verdict, life) in here {
            let established =
                !matches!(verdict, Verdict::ProbeHalfOpen | Verdict::Refused | Verdict::AcceptQueueFull);
            let bucket =
                LIFE_BOUNDS.iter().take_while(|bound| Duration::from_millis(*life) > **bound).count();
            sums.lives[bucket] += u64::from(established);
        }
        sums
    }

    /// Everything that is said of it with windows of that length, until that time.
    fn trace(&self, length: i64, until: i64) -> Vec<Finding> {
        let mut findings = Findings::new(Thresholds::default(), 100);
        let mut said = Vec::new();
        let mut start = 0;
        while start < until {
            let end = start + length;
            let (sums, open) = (self.sums(start, end), self.open_at(end));
            let period = self.period.filter(|(after, _)| *after <= end).map(|(_, period)| period);
            let observed = Observed { source: SOURCE, sums: &sums, period, open };
            let occurs = sums.connections > 0 || open.is_some();
            said.extend(findings.end_window(window(start, end), occurs.then_some(observed)));
            start = end;
        }
        assert_eq!(findings.untracked(), 0);
        said
    }
}

/// Each finding's records, in order.
fn by_id(said: &[Finding]) -> BTreeMap<&str, Vec<&Finding>> {
    let mut all: BTreeMap<&str, Vec<&Finding>> = BTreeMap::new();
    for finding in said {
        all.entry(&finding.id).or_default().push(finding);
    }
    all
}

/// The codes that opened, in order of code, as often as they did.
fn opened(said: &[Finding]) -> Vec<&'static str> {
    let mut codes: Vec<_> = said.iter().filter(|f| f.state == State::Open).map(|f| f.rule.code).collect();
    codes.sort_unstable();
    codes
}

fn ms(at: Timestamp) -> i64 {
    at.as_millisecond() - BEGIN
}

/// One Open, then Updates, then one Closed; never close together; the count never falls; ids are unique.
fn assert_well_formed(said: &[Finding]) {
    for (id, records) in by_id(said) {
        let last = records.len() - 1;
        for (place, record) in records.iter().enumerate() {
            let expected = match place {
                0 => State::Open,
                place if place == last => State::Closed,
                _ => State::Update,
            };
            assert_eq!(record.state, expected, "{id}: record {place} of {}", records.len());
            assert_eq!(record.resolution.is_some(), expected == State::Closed, "{id}");
            assert!(record.since <= record.last_seen && record.count > 0, "{record:?}");
        }
        assert!(last > 0, "{id} never closed");
        assert!(records.windows(2).all(|pair| pair[0].count <= pair[1].count), "{id}");
    }
}

/// xorshift64*: the same numbers each time.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % bound.max(1)
    }

    fn signed(&mut self, bound: u64) -> i64 {
        i64::try_from(self.below(bound)).unwrap_or(0)
    }
}
