//! What one source did within the horizon, in a fixed size: a ring of slots with a count for each verdict.
//!
//! A window's sums tell only when the first and the last of its connections ended. The others are taken to lie evenly
//! between, so that a window of an hour leaves the same evidence as many of a second.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    source::{LIFE_BOUNDS, Sums},
    verdict::Verdict,
};

/// Slots in the ring, one more than in a horizon: the running one is not full yet.
const SLOTS: usize = 11;

/// Verdicts of connections on which AMQP was spoken and which the source ended.
pub const SESSIONS: &[Verdict] = &[Verdict::Session, Verdict::SessionReset];

/// Verdicts that say that the source reset an established connection.
pub const RESETS: &[Verdict] = &[Verdict::ProbeReset, Verdict::SessionReset];

/// How far back to look, in the shapes that evidence wants, so that they are not computed for each source.
#[derive(Clone, Copy, Debug)]
pub struct Horizon {
    slot_us: i64,
    rate_over_us: i64,
}

impl Horizon {
    /// From the thresholds of those names.
    pub fn new(horizon: Duration, rate_over: Duration) -> Self {
        Self { slot_us: (micros(horizon) / 10).max(1), rate_over_us: micros(rate_over).max(1) }
    }

    /// Whether both times are in the same slot of the ring.
    pub fn same_slot(self, one: Timestamp, other: Timestamp) -> bool {
        self.slot(one.as_microsecond()) == self.slot(other.as_microsecond())
    }

    const fn slot(self, at_us: i64) -> i64 {
        at_us.div_euclid(self.slot_us)
    }
}

/// One source's evidence.
#[derive(Clone, Debug)]
pub struct Evidence {
    counts: [[u32; Verdict::ALL.len()]; SLOTS],
    /// When the first of the connections in the ring ended, by verdict; not before the last time there was none.
    first_us: [i64; Verdict::ALL.len()],
    /// Lives of sessions; halved with each slot, so that the latest count most.
    lives: [u32; LIFE_BOUNDS.len() + 1],
    /// Where in the ring the running slot is.
    at: usize,
    /// The running slot's number since the epoch.
    slot: i64,
    last_us: i64,
    resets: Meter,
}

/// Times in a window's sums, made sane: the first is not after the last, and neither is after the window.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// When the first connection ended, in µs since the epoch.
    pub first_us: i64,
    /// When the last did.
    pub last_us: i64,
}

impl Ended {
    /// From a window that ends then.
    pub fn new(sums: &Sums, end: Timestamp) -> Self {
        let last_us = sums.last_seen.min(end).as_microsecond();
        Self { first_us: sums.first_seen.as_microsecond().min(last_us), last_us }
    }

    /// When the first of so many of them ended: where there is one, it is taken to be the last.
    pub const fn first_of(self, count: u64) -> i64 {
        if count > 1 { self.first_us } else { self.last_us }
    }

    /// How many of so many ended at that time or later, if they lie evenly.
    fn since(self, count: u64, at_us: i64) -> u64 {
        let span = u128::from(self.last_us.abs_diff(self.first_us));
        if at_us <= self.first_of(count) || span == 0 {
            return count;
        }
        let before = u128::from(at_us.abs_diff(self.first_us)) * u128::from(count.saturating_sub(1));
        count.saturating_sub(u64::try_from(before.div_ceil(span)).unwrap_or(u64::MAX))
    }
}

impl Evidence {
    /// None yet.
    pub const fn new() -> Self {
        Self {
            counts: [[0; Verdict::ALL.len()]; SLOTS],
            first_us: [0; Verdict::ALL.len()],
            lives: [0; LIFE_BOUNDS.len() + 1],
            at: 0,
            slot: i64::MIN,
            last_us: i64::MIN,
            resets: Meter { start_us: i64::MIN, last_us: i64::MIN, count: 0, before: 0.0 },
        }
    }

    /// Adds a window's sums, which have at least one connection. Half-open checks are evidence of nothing.
    pub fn add(&mut self, sums: &Sums, ended: Ended, horizon: Horizon) {
        self.advance(horizon.slot(ended.last_us));
        self.last_us = ended.last_us;
        for verdict in Verdict::ALL {
            let count = sums.verdicts[verdict as usize];
            if count > 0 && verdict != Verdict::ProbeHalfOpen {
                self.spread(verdict, count, ended, horizon);
            }
        }
        for (life, more) in self.lives.iter_mut().zip(session_lives(sums)) {
            *life = life.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        }
        let resets = RESETS.iter().map(|verdict| sums.verdicts[*verdict as usize]).sum();
        if resets > 0 {
            self.resets.add(resets, ended, horizon);
        }
    }

    /// Puts a verdict's connections into the slots in which they ended.
    fn spread(&mut self, verdict: Verdict, count: u64, ended: Ended, horizon: Horizon) {
        if self.held(&[verdict]) == 0 {
            self.first_us[verdict as usize] = ended.first_of(count);
        }
        let mut later = 0;
        let mut begin_us = self.slot.saturating_mul(horizon.slot_us);
        for back in 0..SLOTS {
            let since = ended.since(count, begin_us);
            let here = &mut self.counts[(self.at + SLOTS - back) % SLOTS][verdict as usize];
            *here = here.saturating_add(u32::try_from(since - later).unwrap_or(u32::MAX));
            later = since;
            if later == count {
                break;
            }
            begin_us = begin_us.saturating_sub(horizon.slot_us);
        }
    }

    /// Makes that slot the running one. A clock that was set back changes the slot's number and nothing else.
    fn advance(&mut self, slot: i64) {
        let steps = usize::try_from(slot.saturating_sub(self.slot)).unwrap_or(0).min(SLOTS);
        for _ in 0..steps {
            self.at = (self.at + 1) % SLOTS;
            self.counts[self.at] = [0; Verdict::ALL.len()];
            for life in &mut self.lives {
                *life /= 2;
            }
        }
        self.slot = slot;
    }

    /// How many connections of these verdicts ended within the horizon.
    pub fn held(&self, verdicts: &[Verdict]) -> u64 {
        let slots = self.counts.iter();
        slots.map(|slot| verdicts.iter().map(|v| u64::from(slot[*v as usize])).sum::<u64>()).sum()
    }

    /// When the first of them did, in µs since the epoch; at most the ring's length ago.
    pub fn since_us(&self, verdicts: &[Verdict], horizon: Horizon) -> i64 {
        let ring = i64::try_from(SLOTS).unwrap_or(i64::MAX) - 1;
        let begin_us = self.slot.saturating_sub(ring).saturating_mul(horizon.slot_us);
        let held = verdicts.iter().filter(|verdict| self.held(&[**verdict]) > 0);
        held.map(|v| self.first_us[*v as usize])
            .min()
            .unwrap_or(self.last_us)
            .clamp(begin_us, begin_us.max(self.last_us))
    }

    /// When the latest connection ended, in µs since the epoch.
    pub const fn last_us(&self) -> i64 {
        self.last_us
    }

    /// All connections within the horizon, half-open checks excepted.
    pub fn connections(&self) -> u64 {
        self.held(&Verdict::ALL)
    }

    /// Resets a second of late.
    pub fn resets(&self, horizon: Horizon) -> f64 {
        self.resets.rate(horizon)
    }

    /// When the resets that make that rate began, in µs since the epoch, and how many they are.
    pub const fn resets_since(&self) -> (i64, u64) {
        (self.resets.start_us, self.resets.count)
    }

    /// The bound of the bucket in which the median life of the sessions is; `None` if no life is known, or beyond.
    pub fn median_life(&self) -> Option<Duration> {
        let all: u64 = self.lives.iter().copied().map(u64::from).sum();
        let mut below = 0;
        let bucket = self.lives.iter().position(|lives| {
            below += u64::from(*lives);
            below > 0 && below * 2 >= all
        })?;
        LIFE_BOUNDS.get(bucket).copied()
    }

    /// Forgets the connections of these verdicts, so that a finding that closed needs new ones to open again.
    pub fn forget(&mut self, verdicts: &[Verdict]) {
        for verdict in verdicts {
            for slot in &mut self.counts {
                slot[*verdict as usize] = 0;
            }
        }
    }

    /// Whether nothing in it is within the horizon that ends then.
    pub fn is_spent(&self, end: Timestamp, horizon: Horizon) -> bool {
        let slots = i64::try_from(SLOTS).unwrap_or(i64::MAX);
        let gone = horizon.slot(end.as_microsecond()).saturating_sub(self.slot) >= slots;
        gone || self.connections() == 0
    }
}

/// The lives of a window's sessions. The histogram is of all connections; those that were no sessions are taken to be
/// the shortest, which never makes sessions look shorter than they were.
fn session_lives(sums: &Sums) -> [u64; LIFE_BOUNDS.len() + 1] {
    let sessions: u64 = SESSIONS.iter().map(|verdict| sums.verdicts[*verdict as usize]).sum();
    let without_life = [Verdict::ProbeHalfOpen, Verdict::Refused, Verdict::AcceptQueueFull];
    let never: u64 = without_life.iter().map(|verdict| sums.verdicts[*verdict as usize]).sum();
    let mut others = sums.connections.saturating_sub(sessions).saturating_sub(never);
    sums.lives.map(|lives| {
        let out = lives.min(others);
        others -= out;
        lives - out
    })
}

/// A rate over the latest `rate_over`, or over a window that is longer.
#[derive(Clone, Debug)]
struct Meter {
    start_us: i64,
    last_us: i64,
    count: u64,
    /// The rate of the period before, which stands in while the running one is too young.
    before: f64,
}

impl Meter {
    fn add(&mut self, count: u64, ended: Ended, horizon: Horizon) {
        let first_us = ended.first_of(count);
        let age = first_us.saturating_sub(self.start_us);
        if !(0..horizon.rate_over_us).contains(&age) {
            let ago = first_us.saturating_sub(self.last_us);
            self.before = if (0..horizon.rate_over_us).contains(&ago) { self.own_rate(horizon) } else { 0.0 };
            self.start_us = first_us;
            self.count = 0;
        }
        self.count = self.count.saturating_add(count);
        self.last_us = ended.last_us;
    }

    fn own_rate(&self, horizon: Horizon) -> f64 {
        let span = self.last_us.saturating_sub(self.start_us).max(horizon.rate_over_us);
        self.count as f64 / (span as f64 / 1e6)
    }

    fn rate(&self, horizon: Horizon) -> f64 {
        self.own_rate(horizon).max(self.before)
    }
}

/// In µs; what does not fit is as good as for ever.
pub fn micros(time: Duration) -> i64 {
    i64::try_from(time.as_micros()).unwrap_or(i64::MAX)
}
