//! One open finding: what keeps it open, when it is said again, and when it closes.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;

use super::{
    Finding, Resolution, State,
    condition::{Case, Start},
    evidence::{SESSIONS, micros},
    rules::{Rule, Sequel},
    summary::{Facts, seconds},
    thresholds::Thresholds,
};
use crate::{encode::Window, verdict::Verdict};

/// A finding while it is open.
#[derive(Clone, Debug)]
pub struct Active {
    /// As of now, but for its state, which is what was said last.
    pub finding: Finding,
    facts: Facts,
    /// Connections by verdict that are its evidence; those that are silent may be as many or more.
    events: u64,
    last_us: i64,
    /// The longest gap between its evidence, which wears off within some horizons.
    gap_us: i64,
    said_us: i64,
    said_count: u64,
    /// What says that the trouble is over, since the latest evidence.
    after: After,
}

/// What came after the latest evidence.
#[derive(Clone, Copy, Debug, Default)]
struct After {
    count: u64,
    first_us: i64,
    last_us: i64,
    period: Option<Duration>,
}

/// At least so many half-open checks are a habit.
const HABIT: u64 = 2;

impl Active {
    /// Opens a finding.
    pub fn open(rule: &'static Rule, source: IpAddr, case: &Case, start: Start, window: Window) -> Self {
        let silent = if rule.silence { case.silent() } else { 0 };
        let end_us = window.end.as_microsecond();
        let last_us = if silent > 0 { end_us } else { case.ended.last_us };
        let since_us =
            if start.since_us == i64::MAX { since_silent(case, window) } else { start.since_us.min(last_us) };
        let since = timestamp(since_us);
        let gaps = i64::try_from(start.count.saturating_sub(1)).unwrap_or(i64::MAX);
        let mut active = Self {
            finding: Finding {
                id: format!("{}:{source}:{}", rule.code, since.as_millisecond()),
                rule,
                state: State::Open,
                source,
                since,
                last_seen: timestamp(last_us),
                count: 0,
                period: None,
                resolution: None,
                summary: String::new(),
            },
            facts: Facts { sessions: case.start(SESSIONS).count, ..Facts::default() },
            events: start.count,
            last_us,
            gap_us: last_us.saturating_sub(since_us).checked_div(gaps).unwrap_or(0),
            said_us: end_us,
            said_count: 0,
            after: After::default(),
        };
        active.learn(case);
        active.say(State::Open, end_us);
        active
    }

    /// Takes in what the source did in a window.
    pub fn see(&mut self, case: &Case, window: Window, horizon: Duration) {
        let rule = self.finding.rule;
        let new = case.new_of(rule.evidence);
        let silent = if rule.silence { case.silent() } else { 0 };
        self.facts.sessions = self.facts.sessions.saturating_add(case.new_of(SESSIONS));
        if new == 0 && silent == 0 || !(rule.holds)(case) {
            self.facts.silent = silent;
            self.describe();
            self.see_after(case, window);
            return;
        }
        let last_us = if silent > 0 { window.end.as_microsecond() } else { case.ended.last_us };
        let first_us = if new > 0 { case.ended.first_of(new) } else { last_us };
        self.wear(first_us, micros(horizon));
        self.gap_us = self.gap_us.max(first_us.saturating_sub(self.last_us));
        let gaps = i64::try_from(new.saturating_sub(1)).unwrap_or(i64::MAX);
        let within = case.ended.last_us.saturating_sub(first_us).checked_div(gaps).unwrap_or(0);
        self.gap_us = self.gap_us.max(within);
        self.last_us = self.last_us.max(last_us);
        self.events = self.events.saturating_add(new);
        self.after = After::default();
        self.learn(case);
    }

    /// Lets the longest gap wear off: by half within a horizon.
    fn wear(&mut self, now_us: i64, horizon_us: i64) {
        let passed = now_us.saturating_sub(self.last_us).clamp(0, horizon_us);
        let part = i128::from(self.gap_us) * i128::from(passed) / (2 * i128::from(horizon_us.max(1)));
        self.gap_us = self.gap_us.saturating_sub(i64::try_from(part).unwrap_or(0));
    }

    fn learn(&mut self, case: &Case) {
        let rule = self.finding.rule;
        self.finding.period = case.period_of(rule.evidence).or(self.finding.period);
        self.facts.peak = self.facts.peak.max(case.evidence.resets(case.horizon));
        self.facts.life = case.evidence.median_life().or(self.facts.life);
        self.facts.silent = if rule.silence { case.silent() } else { 0 };
        self.facts.longest_silence = case.open.longest_silence.unwrap_or_default();
        self.finding.last_seen = timestamp(self.last_us);
        self.finding.count = self.events.max(self.facts.silent).max(self.finding.count);
        self.describe();
    }

    fn describe(&mut self) {
        self.finding.summary = (self.finding.rule.summary)(&self.finding, &self.facts);
    }

    /// Takes note of what says that the trouble is over.
    fn see_after(&mut self, case: &Case, window: Window) {
        let new = match self.finding.rule.sequel {
            Sequel::Quiet => 0,
            Sequel::HalfOpen => case.new_of(&[Verdict::ProbeHalfOpen]),
            Sequel::Answered => {
                let unanswered = case.new_of(&[Verdict::Refused, Verdict::AcceptQueueFull]);
                case.sums.connections.saturating_sub(unanswered).saturating_add(case.open.open)
            }
        };
        if new == 0 {
            return;
        }
        let (first_us, last_us) = if case.sums.connections > 0 {
            (case.ended.first_of(new), case.ended.last_us)
        } else {
            (window.end.as_microsecond(), window.end.as_microsecond())
        };
        if self.after.count == 0 {
            self.after.first_us = first_us;
        }
        self.after.last_us = last_us;
        self.after.count = self.after.count.saturating_add(new);
        self.after.period = case.period.or(self.after.period);
    }

    /// Whether another record is due, of which kind, and says it.
    pub fn advance(&mut self, window: Window, thresholds: &Thresholds, yields: bool) -> Option<Finding> {
        let end_us = window.end.as_microsecond();
        // A clock that was set back must not keep it open until the old time comes again.
        self.last_us = self.last_us.min(end_us);
        self.said_us = self.said_us.min(end_us);
        if let Some(resolution) = self.over(end_us, thresholds) {
            self.finding.resolution = Some(resolution);
            self.say(State::Closed, end_us);
            return Some(self.finding.clone());
        }
        let risen = self.finding.count > self.said_count;
        let due = end_us.saturating_sub(self.said_us) >= micros(thresholds.update_every);
        if !risen || !due || yields {
            return None;
        }
        self.say(State::Update, end_us);
        Some(self.finding.clone())
    }

    fn over(&self, end_us: i64, thresholds: &Thresholds) -> Option<Resolution> {
        let idle_us = end_us.saturating_sub(self.last_us);
        let period_us = self.finding.period.map_or(0, micros);
        let gaps = i64::try_from(thresholds.quiet_gaps).unwrap_or(i64::MAX);
        let usual_us = self.gap_us.max(period_us).saturating_mul(gaps);
        let sequel = self.finding.rule.sequel;
        if sequel == Sequel::Answered && self.after.count > 0 {
            let recovered = idle_us >= micros(thresholds.recovered).max(usual_us);
            return recovered.then_some(Resolution::Recovered);
        }
        let mended = sequel == Sequel::HalfOpen && self.after.count >= HABIT;
        let resolution = if mended { Resolution::HalfOpen } else { Resolution::Quiet };
        (idle_us >= micros(thresholds.quiet).max(usual_us)).then_some(resolution)
    }

    fn say(&mut self, state: State, end_us: i64) {
        self.finding.state = state;
        self.said_us = end_us;
        self.said_count = self.finding.count;
        if let Some(resolution) = self.finding.resolution {
            self.describe();
            self.finding.summary += &self.why(resolution, end_us);
        }
    }

    fn why(&self, resolution: Resolution, end_us: i64) -> String {
        let idle = Duration::from_micros(end_us.saturating_sub(self.last_us).unsigned_abs());
        match resolution {
            Resolution::Quiet => format!("; closed: none for {}", seconds(idle)),
            Resolution::Recovered => "; closed: the broker takes its connections again".to_owned(),
            Resolution::HalfOpen => {
                let gaps = self.after.count.saturating_sub(1).max(1);
                let span = Duration::from_micros(
                    self.after.last_us.saturating_sub(self.after.first_us).unsigned_abs(),
                );
                let mean = span.as_secs_f64() / gaps as f64;
                let every =
                    self.after.period.or_else(|| Duration::try_from_secs_f64(mean).ok()).unwrap_or_default();
                format!("; closed: now checks half-open, every {}: resolved", seconds(every))
            }
        }
    }
}

/// Since when connections have been silent that are so now. Not before the window: another finding may have had that.
fn since_silent(case: &Case, window: Window) -> i64 {
    let longest_us = micros(case.open.longest_silence.unwrap_or_default());
    let end_us = window.end.as_microsecond();
    end_us.saturating_sub(longest_us).max(window.start.as_microsecond()).min(end_us)
}

/// The nearest that a timestamp can be.
fn timestamp(at_us: i64) -> Timestamp {
    Timestamp::from_microsecond(at_us).unwrap_or(if at_us < 0 { Timestamp::MIN } else { Timestamp::MAX })
}
