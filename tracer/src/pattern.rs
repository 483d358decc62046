//! When each source's connections were established goes in; which sources are clocks comes out. Bounded: beyond the cap the
//! sources that have been quiet the longest are forgotten.

mod period;

use std::{
    cmp::Reverse,
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use crate::{
    source::{Sums, Tally},
    verdict::Verdict,
};
use period::Arrivals;
pub use period::Period;

/// How many sources are looked at in a window, the busiest first: each costs some microseconds, during which the ring is
/// not emptied.
const LOOKED_AT: usize = 2_000;

/// The latest arrivals of each source, kept apart by verdict: the checks of a host whose clients also connect are still a
/// clock.
#[derive(Debug)]
pub struct Patterns {
    arrivals: HashMap<(IpAddr, Verdict), Recent>,
    most: usize,
}

#[derive(Debug, Default)]
struct Recent {
    arrivals: Arrivals,
    /// CLOCK_MONOTONIC, nanoseconds.
    last_ns: u64,
}

impl Patterns {
    /// Keeps at most `most` sources and verdicts, and at least one.
    pub fn new(most: usize) -> Self {
        Self { arrivals: HashMap::new(), most: most.max(1) }
    }

    /// Adds a connection of `source` that was established, or failed, at `at_ns` of CLOCK_MONOTONIC.
    pub fn add(&mut self, source: IpAddr, verdict: Verdict, at_ns: u64) {
        let key = (source, verdict);
        if self.arrivals.len() >= self.most && !self.arrivals.contains_key(&key) {
            self.shed();
        }
        let recent = self.arrivals.entry(key).or_default();
        recent.arrivals.push(at_ns);
        recent.last_ns = recent.last_ns.max(at_ns);
    }

    /// The clocks among the sources of a window.
    pub fn periods(&self, window: &Tally) -> HashMap<IpAddr, Period> {
        let mut sources: Vec<(IpAddr, &Sums)> = window.sources().collect();
        if sources.len() > LOOKED_AT {
            sources.select_nth_unstable_by_key(LOOKED_AT, |(_, sums)| Reverse(sums.connections));
            sources.truncate(LOOKED_AT);
        }
        let clock = |(source, sums): (IpAddr, &Sums)| Some((source, self.period(source, sums)?));
        sources.into_iter().filter_map(clock).collect()
    }

    /// The period of the most frequent of the source's verdicts in the window that has one.
    fn period(&self, source: IpAddr, sums: &Sums) -> Option<Period> {
        let mut verdicts: Vec<Verdict> =
            Verdict::ALL.into_iter().filter(|verdict| sums.verdicts[*verdict as usize] > 0).collect();
        verdicts.sort_by_key(|verdict| Reverse(sums.verdicts[*verdict as usize]));
        verdicts.into_iter().find_map(|verdict| self.arrivals.get(&(source, verdict))?.arrivals.period())
    }

    /// Forgets the tenth that has been quiet the longest; a tenth at once, so that a flood of new sources does not search
    /// each time.
    fn shed(&mut self) {
        let mut by_age: Vec<_> = self.arrivals.iter().map(|(key, recent)| (recent.last_ns, *key)).collect();
        let go = (by_age.len() / 10).max(1).min(by_age.len());
        if go < by_age.len() {
            by_age.select_nth_unstable(go);
        }
        let go: HashSet<_> = by_age[..go].iter().map(|(_, key)| *key).collect();
        self.arrivals.retain(|key, _| !go.contains(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{net::Ipv4Addr, time::Duration};

    const SECOND: u64 = 1_000_000_000;

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number))
    }

    #[test]
    fn the_checks_of_a_host_whose_clients_also_connect_are_a_clock() {
        let (mut patterns, mut window) = (Patterns::new(100), Tally::new(100));
        // Sessions at no regular times, more of them than checks.
        for n in 0..40_u64 {
            patterns.add(ip(1), Verdict::Session, n * n * SECOND / 50);
            window.add_one(ip(1), Verdict::Session);
        }
        for n in 0..16 {
            patterns.add(ip(1), Verdict::ProbeReset, n * 2 * SECOND);
            window.add_one(ip(1), Verdict::ProbeReset);
        }
        let period = patterns.periods(&window).get(&ip(1)).map(|period| period.length);
        assert_eq!(period, Some(Duration::from_secs(2)));
    }

    #[test]
    fn what_is_kept_is_bounded_and_the_quiet_go_first() {
        let mut patterns = Patterns::new(100);
        for number in 0..10_000 {
            patterns.add(ip(number), Verdict::ProbeReset, u64::from(number));
            patterns.add(ip(0), Verdict::ProbeReset, u64::from(number));
            assert!(patterns.arrivals.len() <= 100);
        }
        assert!(patterns.arrivals.contains_key(&(ip(9_999), Verdict::ProbeReset)));
        assert!(patterns.arrivals.contains_key(&(ip(0), Verdict::ProbeReset)), "it was never quiet");
        assert!(!patterns.arrivals.contains_key(&(ip(1), Verdict::ProbeReset)));
    }
}
