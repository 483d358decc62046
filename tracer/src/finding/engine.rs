//! All sources that have evidence or findings. Bounded: when there is no room, those with the least evidence go.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    time::Duration,
};

use jiff::Timestamp;

use super::{
    Finding,
    active::Active,
    condition::Case,
    evidence::{Ended, Evidence, Horizon},
    rules::RULES,
    thresholds::Thresholds,
};
use crate::{broker::OpenNow, encode::Window, source::Sums};

/// What is known of one source at the end of a window.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    /// Who.
    pub source: IpAddr,
    /// What of its connections ended in this window; zero connections if none did.
    pub sums: &'a Sums,
    /// The period of its connections, if they come as a clock.
    pub period: Option<Duration>,
    /// What it holds open right now, if that is known.
    pub open: Option<OpenNow>,
}

/// A source with open findings.
#[derive(Debug)]
struct Offender {
    evidence: Box<Evidence>,
    active: Vec<Active>,
}

/// The findings engine.
#[derive(Debug)]
pub struct Findings {
    thresholds: Thresholds,
    horizon: Horizon,
    most: usize,
    /// Sources without open findings.
    watched: HashMap<IpAddr, Box<Evidence>>,
    /// The others, in order, so that what is said of a window is, too.
    offenders: BTreeMap<IpAddr, Offender>,
    untracked: u64,
    /// When those without evidence were last dropped.
    swept: Timestamp,
}

impl Findings {
    /// An engine that keeps evidence of at most `most` sources, and of at least one.
    pub fn new(thresholds: Thresholds, most: usize) -> Self {
        Self {
            horizon: Horizon::new(thresholds.horizon, thresholds.rate_over),
            thresholds,
            most: most.max(1),
            watched: HashMap::new(),
            offenders: BTreeMap::new(),
            untracked: 0,
            swept: Timestamp::UNIX_EPOCH,
        }
    }

    /// Takes in a window and returns what there is to say at its end, a finding's opening before its closing.
    pub fn end_window<'a>(
        &mut self,
        window: Window,
        observed: impl IntoIterator<Item = Observed<'a>>,
    ) -> Vec<Finding> {
        let mut said = Vec::new();
        for one in observed {
            self.observe(window, one, &mut said);
        }
        self.advance(window, &mut said);
        self.sweep(window.end);
        said
    }

    /// The findings that are open, as of the last window.
    pub fn open(&self) -> impl Iterator<Item = &Finding> {
        self.offenders.values().flat_map(|offender| offender.active.iter().map(|active| &active.finding))
    }

    /// How often a source found no room or lost it, in total: with findings open for all others it is not looked at, and
    /// otherwise the smallest evidence of another is forgotten.
    pub const fn untracked(&self) -> u64 {
        self.untracked
    }

    /// How many sources are held.
    pub fn sources(&self) -> usize {
        self.watched.len() + self.offenders.len()
    }

    fn observe(&mut self, window: Window, one: Observed, said: &mut Vec<Finding>) {
        let look = Look { thresholds: &self.thresholds, horizon: self.horizon, window, one: &one };
        if let Some(offender) = self.offenders.get_mut(&one.source) {
            look.add_to(&mut offender.evidence);
            look.keep_open(offender);
            look.open_into(&offender.evidence, &mut offender.active, said);
            return;
        }
        let mut active = Vec::new();
        if let Some(evidence) = self.watched.get_mut(&one.source) {
            look.add_to(evidence);
            look.open_into(evidence, &mut active, said);
            if !active.is_empty()
                && let Some(evidence) = self.watched.remove(&one.source)
            {
                self.offenders.insert(one.source, Offender { evidence, active });
            }
            return;
        }
        let mut evidence = Box::new(Evidence::new());
        look.add_to(&mut evidence);
        // Who only checks half-open, or holds connections that speak, needs no room.
        let silent = look.case(&evidence).silent() > 0;
        if evidence.connections() == 0 && !silent || !self.make_room() {
            return;
        }
        let look = Look { thresholds: &self.thresholds, horizon: self.horizon, window, one: &one };
        look.open_into(&evidence, &mut active, said);
        if !active.is_empty() {
            self.offenders.insert(one.source, Offender { evidence, active });
        } else if evidence.connections() > 0 {
            self.watched.insert(one.source, evidence);
        }
    }

    /// Says what is due of the open findings, and closes those that are over.
    fn advance(&mut self, window: Window, said: &mut Vec<Finding>) {
        let Self { offenders, watched, thresholds, horizon, .. } = self;
        let mut clean = Vec::new();
        for (source, offender) in offenders.iter_mut() {
            let Offender { evidence, active } = offender;
            let open: Vec<&str> = active.iter().map(|active| active.finding.rule.code).collect();
            active.retain_mut(|active| {
                let rule = active.finding.rule;
                let yields = rule.yields_to.is_some_and(|code| open.contains(&code));
                let Some(finding) = active.advance(window, thresholds, yields) else {
                    return true;
                };
                let closed = finding.resolution.is_some();
                if closed {
                    evidence.forget(rule.evidence);
                }
                said.push(finding);
                !closed
            });
            if active.is_empty() {
                clean.push(*source);
            }
        }
        for source in clean {
            if let Some(Offender { evidence, .. }) = offenders.remove(&source)
                && !evidence.is_spent(window.end, *horizon)
            {
                watched.insert(source, evidence);
            }
        }
    }

    /// Drops sources whose evidence has left the horizon. Once a slot is enough, and cheap with short windows.
    fn sweep(&mut self, end: Timestamp) {
        if self.horizon.same_slot(self.swept, end) {
            return;
        }
        self.swept = end;
        self.watched.retain(|_, evidence| !evidence.is_spent(end, self.horizon));
    }

    /// Makes room for one more source, unless all that are held have open findings. A tenth goes at once, so that a
    /// flood of new sources does not search for the smallest each time; of two as small, the one not seen for longer.
    fn make_room(&mut self) -> bool {
        if self.sources() < self.most {
            return true;
        }
        if self.watched.is_empty() {
            self.untracked = self.untracked.saturating_add(1);
            return false;
        }
        let mut by_size: Vec<(u64, i64, IpAddr)> = self
            .watched
            .iter()
            .map(|(source, evidence)| (evidence.connections(), evidence.last_us(), *source))
            .collect();
        let go = by_size.len().div_ceil(10);
        if go < by_size.len() {
            by_size.select_nth_unstable(go);
        }
        for (_, _, source) in by_size.iter().take(go) {
            self.watched.remove(source);
            self.untracked = self.untracked.saturating_add(1);
        }
        true
    }
}

/// One source in one window.
struct Look<'a> {
    thresholds: &'a Thresholds,
    horizon: Horizon,
    window: Window,
    one: &'a Observed<'a>,
}

impl Look<'_> {
    fn ended(&self) -> Ended {
        Ended::new(self.one.sums, self.window.end)
    }

    fn add_to(&self, evidence: &mut Evidence) {
        if self.one.sums.connections > 0 {
            evidence.add(self.one.sums, self.ended(), self.horizon);
        }
    }

    fn case<'a>(&'a self, evidence: &'a Evidence) -> Case<'a> {
        Case {
            thresholds: self.thresholds,
            horizon: self.horizon,
            evidence,
            sums: self.one.sums,
            ended: self.ended(),
            period: self.one.period,
            open: self.one.open.unwrap_or_default(),
        }
    }

    fn keep_open(&self, offender: &mut Offender) {
        let case = self.case(&offender.evidence);
        for active in &mut offender.active {
            active.see(&case, self.window, self.thresholds.horizon);
        }
    }

    /// Opens what the evidence carries and is not open yet; rules that yield to others come after them.
    fn open_into(&self, evidence: &Evidence, active: &mut Vec<Active>, said: &mut Vec<Finding>) {
        let case = self.case(evidence);
        let first = RULES.iter().filter(|rule| rule.yields_to.is_none());
        let then = RULES.iter().filter(|rule| rule.yields_to.is_some());
        for rule in first.chain(then) {
            let is_new = case.new_of(rule.evidence) > 0 || rule.silence && case.silent() > 0;
            let is_said = |code: &str| active.iter().any(|active| active.finding.rule.code == code);
            if !is_new || is_said(rule.code) || rule.yields_to.is_some_and(is_said) {
                continue;
            }
            if let Some(start) = (rule.opens)(&case) {
                let opened = Active::open(rule, self.one.source, &case, start, self.window);
                said.push(opened.finding.clone());
                active.push(opened);
            }
        }
    }
}
