//! When a rule's finding opens, and what keeps it open. Pure functions of one source's case in one window.

use std::time::Duration;

use super::{
    evidence::{Ended, Evidence, Horizon, SESSIONS},
    thresholds::Thresholds,
};
use crate::{broker::OpenNow, source::Sums, verdict::Verdict};

/// What a health check by close looks like: nothing said, or the protocol header only.
pub const CLOSES: &[Verdict] = &[Verdict::ProbeClose, Verdict::ProbeHeader];

/// What is known of one source at the end of a window in which it occurs.
pub struct Case<'a> {
    /// The rules' numbers.
    pub thresholds: &'a Thresholds,
    /// How far back evidence counts.
    pub horizon: Horizon,
    /// What it did within the horizon, this window included.
    pub evidence: &'a Evidence,
    /// What it did in this window.
    pub sums: &'a Sums,
    /// When it did that.
    pub ended: Ended,
    /// The clock it follows.
    pub period: Option<Duration>,
    /// What it holds open.
    pub open: OpenNow,
}

/// The evidence that opens a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// When it began, in µs since the epoch.
    pub since_us: i64,
    /// How many connections it is.
    pub count: u64,
}

impl Case<'_> {
    /// How many connections of these verdicts are new in this window.
    pub fn new_of(&self, verdicts: &[Verdict]) -> u64 {
        verdicts.iter().map(|verdict| self.sums.verdicts[*verdict as usize]).sum()
    }

    fn held(&self, verdicts: &[Verdict]) -> u64 {
        self.evidence.held(verdicts)
    }

    /// These verdicts' connections within the horizon, or of this window if it has more because it is longer.
    pub fn start(&self, verdicts: &[Verdict]) -> Start {
        let (held, new) = (self.held(verdicts), self.new_of(verdicts));
        if new >= held && new > 0 {
            return Start { since_us: self.ended.first_of(new), count: new };
        }
        Start { since_us: self.evidence.since_us(verdicts, self.horizon), count: held }
    }

    fn at_least(&self, verdicts: &[Verdict], least: u64) -> Option<Start> {
        (self.held(verdicts) >= least).then(|| self.start(verdicts))
    }

    /// The source's clock, where it can be that of these verdicts: they are half of its connections or more.
    pub fn period_of(&self, verdicts: &[Verdict]) -> Option<Duration> {
        let half = self.held(verdicts).saturating_mul(2) >= self.evidence.connections();
        self.period.filter(|_| half)
    }

    /// Connections that are silent right now, if one of them has been for too long.
    pub fn silent(&self) -> u64 {
        let too_long = self.open.longest_silence.is_some_and(|longest| longest > self.thresholds.silence);
        if too_long { self.open.silent.max(1) } else { 0 }
    }

    /// Sessions a second since the first within the horizon.
    pub fn session_rate(&self) -> f64 {
        let since_us = self.evidence.since_us(SESSIONS, self.horizon);
        let span = Duration::from_micros(self.evidence.last_us().saturating_sub(since_us).unsigned_abs());
        self.held(SESSIONS) as f64 / span.max(self.thresholds.rate_over).as_secs_f64()
    }

    /// The share of sessions that the source reset, from 0 to 1.
    fn torn_share(&self) -> f64 {
        self.held(&[Verdict::SessionReset]) as f64 / (self.held(SESSIONS).max(1) as f64)
    }
}

/// A health check: probes as a clock, or enough of them from a source without sessions. They must go on for a while, so
/// that the first moment of a storm is not taken for a check.
pub fn checks(case: &Case, probes: &[Verdict]) -> Option<Start> {
    let held = case.held(probes);
    let clock = case.period_of(probes).is_some_and(|period| {
        let beats = case.thresholds.horizon.as_secs_f64() / period.as_secs_f64();
        // A check that is slower than the horizon has one beat in it at most; the others are in its period.
        held as f64 >= beats.floor().clamp(1.0, 3.0)
            && period.as_secs_f64() * case.thresholds.storm_rate >= 1.0
    });
    let start = case.start(probes);
    let going_on = Duration::from_micros(case.ended.last_us.saturating_sub(start.since_us).unsigned_abs());
    let many = held >= case.thresholds.checks && case.held(SESSIONS) == 0;
    (clock || many && going_on >= case.thresholds.rate_over).then_some(start)
}

/// AT001.
pub fn checks_by_reset(case: &Case) -> Option<Start> {
    checks(case, &[Verdict::ProbeReset])
}

/// AT002.
pub fn checks_by_close(case: &Case) -> Option<Start> {
    checks(case, CLOSES)
}

/// AT003. Of connections that are silent now it is not known when each began: the window is as far back as is said.
pub fn stalled(case: &Case) -> Option<Start> {
    let timed_out = case.at_least(&[Verdict::HandshakeTimeout], case.thresholds.stalls);
    let start = || Start { since_us: i64::MAX, count: case.new_of(&[Verdict::HandshakeTimeout]) };
    timed_out.or_else(|| (case.silent() > 0).then(start))
}

/// AT004.
pub fn churn(case: &Case) -> Option<Start> {
    case.at_least(SESSIONS, case.thresholds.churn_sessions).filter(|_| is_churn(case, 1.0))
}

/// What keeps AT004 open: sessions as short, at half the rate.
pub fn still_churn(case: &Case) -> bool {
    is_churn(case, 0.5)
}

fn is_churn(case: &Case, part: f64) -> bool {
    let short = case.evidence.median_life().is_some_and(|life| life <= case.thresholds.churn_life);
    short && case.session_rate() >= case.thresholds.churn_rate * part
}

/// AT005.
pub fn storm(case: &Case) -> Option<Start> {
    let (since_us, count) = case.evidence.resets_since();
    let is_storm = case.evidence.resets(case.horizon) >= case.thresholds.storm_rate;
    is_storm.then_some(Start { since_us, count })
}

/// What keeps AT005 open: half the rate.
pub fn still_storm(case: &Case) -> bool {
    case.evidence.resets(case.horizon) * 2.0 >= case.thresholds.storm_rate
}

/// AT006.
pub fn refused(case: &Case) -> Option<Start> {
    case.at_least(&[Verdict::Refused], case.thresholds.refusals)
}

/// AT007.
pub fn queue_full(case: &Case) -> Option<Start> {
    case.at_least(&[Verdict::AcceptQueueFull], case.thresholds.queue_full)
}

/// AT008.
pub fn foreign(case: &Case) -> Option<Start> {
    case.at_least(&[Verdict::NotAmqp], case.thresholds.foreign)
}

/// AT009.
pub fn torn(case: &Case) -> Option<Start> {
    let start = case.at_least(&[Verdict::SessionReset], case.thresholds.torn);
    start.filter(|_| case.torn_share() >= case.thresholds.torn_share)
}

/// What keeps AT009 open: half the share.
pub fn still_torn(case: &Case) -> bool {
    case.torn_share() * 2.0 >= case.thresholds.torn_share
}

/// AT010.
pub fn lost(case: &Case) -> Option<Start> {
    case.at_least(&[Verdict::TimedOut], case.thresholds.lost)
}

/// What keeps the other findings open: any new evidence.
pub fn always(_: &Case) -> bool {
    true
}
