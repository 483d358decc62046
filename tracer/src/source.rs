//! Judged connections in, sums per source out. Bounded: beyond the cap the smallest sources go to one counted rest.
//!
//! All sums are exact and mergeable: adding the sums of two windows, or of two hosts, gives what one tally over both
//! would have given.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use jiff::Timestamp;

use crate::{kernel::Overflowed, record::Connection, verdict::Verdict};

/// Upper bounds of the life histogram's buckets; a last bucket takes what is longer. Fixed within `amqptrace/1`, so that
/// histograms of different hosts and versions can be added.
pub const LIFE_BOUNDS: [Duration; 9] = [
    Duration::from_millis(1),
    Duration::from_millis(10),
    Duration::from_millis(100),
    Duration::from_secs(1),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(600),
    Duration::from_secs(3_600),
    Duration::from_secs(86_400),
];

/// Sums over some connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sums {
    /// How many connections.
    pub connections: u64,
    /// How many of each verdict, in the order of [`Verdict::ALL`].
    pub verdicts: [u64; Verdict::ALL.len()],
    /// How many lived how long, by [`LIFE_BOUNDS`]; those of unknown life are in none.
    pub lives: [u64; LIFE_BOUNDS.len() + 1],
    /// How many had no record of their own, because the ring was full.
    pub unrecorded: u64,
    /// Payload bytes from the source.
    pub bytes_in: u64,
    /// Payload bytes from the broker.
    pub bytes_out: u64,
    /// When the first ended.
    pub first_seen: Timestamp,
    /// When the last ended.
    pub last_seen: Timestamp,
}

impl Sums {
    /// One connection.
    fn of(connection: &Connection, verdict: Verdict) -> Self {
        let mut sums = Self::empty(connection.time, connection.time);
        sums.connections = 1;
        sums.verdicts[verdict as usize] = 1;
        if let Some(life) = connection.duration {
            let bucket = LIFE_BOUNDS.iter().take_while(|bound| life > **bound).count();
            sums.lives[bucket] = 1;
        }
        sums.bytes_in = connection.bytes_in;
        sums.bytes_out = connection.bytes_out;
        sums
    }

    /// What the kernel counted by itself while the ring was full.
    fn of_overflowed(overflowed: &Overflowed, verdict: Verdict) -> Self {
        let mut sums = Self::empty(overflowed.first, overflowed.last);
        sums.connections = overflowed.connections;
        sums.unrecorded = overflowed.connections;
        sums.verdicts[verdict as usize] = overflowed.connections;
        sums.bytes_in = overflowed.bytes_in;
        sums.bytes_out = overflowed.bytes_out;
        sums
    }

    /// No connection, seen at no other time than this.
    pub const fn none(at: Timestamp) -> Self {
        Self::empty(at, at)
    }

    const fn empty(first_seen: Timestamp, last_seen: Timestamp) -> Self {
        Self {
            connections: 0,
            verdicts: [0; Verdict::ALL.len()],
            lives: [0; LIFE_BOUNDS.len() + 1],
            unrecorded: 0,
            bytes_in: 0,
            bytes_out: 0,
            first_seen,
            last_seen,
        }
    }

    /// Adds other sums to these.
    pub fn merge(&mut self, other: &Self) {
        self.connections += other.connections;
        for (sum, more) in self.verdicts.iter_mut().zip(other.verdicts) {
            *sum += more;
        }
        for (sum, more) in self.lives.iter_mut().zip(other.lives) {
            *sum += more;
        }
        self.unrecorded += other.unrecorded;
        self.bytes_in += other.bytes_in;
        self.bytes_out += other.bytes_out;
        self.first_seen = self.first_seen.min(other.first_seen);
        self.last_seen = self.last_seen.max(other.last_seen);
    }

    /// How many connections an operator would want to be otherwise.
    pub fn offences(&self) -> u64 {
        Verdict::ALL.into_iter().filter(|v| v.is_offence()).map(|v| self.verdicts[v as usize]).sum()
    }
}

/// What became of the sources that did not fit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rest {
    /// How often a source's sums were put here; a source that comes back and goes again counts again.
    pub folded: u64,
    /// The sums of them all.
    pub sums: Sums,
}

/// Sums per source.
#[derive(Debug)]
pub struct Tally {
    /// Boxed, since a map that grows holds both its old and its new slots for a moment, and is half empty after it.
    sources: HashMap<IpAddr, Box<Sums>>,
    most: usize,
    rest: Option<Rest>,
}

impl Tally {
    /// An empty tally that keeps at most `most` sources apart, and at least one.
    pub fn new(most: usize) -> Self {
        Self { sources: HashMap::new(), most: most.max(1), rest: None }
    }

    /// Adds a connection of `source`.
    pub fn add(&mut self, source: IpAddr, connection: &Connection, verdict: Verdict) {
        self.add_sums(source, &Sums::of(connection, verdict));
    }

    /// Adds what the kernel counted by itself of `source`.
    pub fn add_overflowed(&mut self, source: IpAddr, overflowed: &Overflowed, verdict: Verdict) {
        self.add_sums(source, &Sums::of_overflowed(overflowed, verdict));
    }

    /// Adds everything of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (source, sums) in &other.sources {
            self.add_sums(*source, sums);
        }
        if let Some(rest) = &other.rest {
            self.fold(rest.folded, &rest.sums);
        }
    }

    /// The sources that are kept apart, in no order.
    pub fn sources(&self) -> impl Iterator<Item = (IpAddr, &Sums)> {
        self.sources.iter().map(|(source, sums)| (*source, &**sums))
    }

    /// One source's sums, if it is kept apart.
    pub fn get(&self, source: IpAddr) -> Option<&Sums> {
        self.sources.get(&source).map(|sums| &**sums)
    }

    /// The sum of those that are not.
    pub const fn rest(&self) -> Option<&Rest> {
        self.rest.as_ref()
    }

    /// All connections.
    pub fn connections(&self) -> u64 {
        let apart: u64 = self.sources.values().map(|sums| sums.connections).sum();
        apart + self.rest.as_ref().map_or(0, |rest| rest.sums.connections)
    }

    /// A connection of which nothing else matters.
    #[cfg(test)]
    pub fn add_one(&mut self, source: IpAddr, verdict: Verdict) {
        let mut sums = Sums::empty(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        sums.connections = 1;
        sums.verdicts[verdict as usize] = 1;
        self.add_sums(source, &sums);
    }

    fn add_sums(&mut self, source: IpAddr, sums: &Sums) {
        if let Some(known) = self.sources.get_mut(&source) {
            known.merge(sums);
            return;
        }
        if self.sources.len() >= self.most {
            self.shed();
        }
        self.sources.insert(source, Box::new(sums.clone()));
    }

    /// Puts the smallest tenth of the sources into the rest; a tenth at once, so that a flood of new sources does not
    /// search for the smallest each time. Of two as small, the one not seen for longer goes.
    fn shed(&mut self) {
        let mut by_size: Vec<(u64, Timestamp, IpAddr)> =
            self.sources.iter().map(|(source, sums)| (sums.connections, sums.last_seen, *source)).collect();
        let go = (by_size.len() / 10).max(1).min(by_size.len());
        if go < by_size.len() {
            by_size.select_nth_unstable(go);
        }
        for (_, _, source) in &by_size[..go] {
            if let Some(sums) = self.sources.remove(source) {
                self.fold(1, &sums);
            }
        }
    }

    fn fold(&mut self, folded: u64, sums: &Sums) {
        match &mut self.rest {
            Some(rest) => {
                rest.folded += folded;
                rest.sums.merge(sums);
            }
            None => self.rest = Some(Rest { folded, sums: sums.clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap_or(Timestamp::UNIX_EPOCH)
    }

    fn sums(connections: u64, second: i64) -> Sums {
        let mut sums = Sums::empty(at(second), at(second));
        sums.connections = connections;
        sums.verdicts[Verdict::ProbeReset as usize] = connections;
        sums
    }

    fn ip(number: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(number))
    }

    #[test]
    fn a_full_tally_keeps_the_large_and_counts_the_small() {
        let mut tally = Tally::new(100);
        tally.add_sums(ip(1), &sums(1_000, 1));
        for number in 2..10_000 {
            tally.add_sums(ip(number), &sums(1, i64::from(number)));
            assert!(tally.sources.len() <= 100);
        }
        assert_eq!(tally.get(ip(1)).map(|s| s.connections), Some(1_000));
        assert!(tally.get(ip(2)).is_none(), "the oldest of the small has gone");
        assert!(tally.get(ip(9_999)).is_some(), "the newest has not");
        assert_eq!(tally.connections(), 1_000 + 9_998);
        let rest = tally.rest().map(|rest| (rest.folded, rest.sums.connections));
        assert_eq!(rest, Some((9_999 - tally.sources.len() as u64, 9_999 - tally.sources.len() as u64)));
    }

    #[test]
    fn a_tally_of_one_source_works() {
        let mut tally = Tally::new(0);
        tally.add_sums(ip(1), &sums(5, 1));
        tally.add_sums(ip(2), &sums(1, 2));
        assert_eq!(tally.sources().count(), 1);
        assert_eq!(tally.connections(), 6);
    }

    #[test]
    fn windows_add_up() {
        let (mut whole, mut first, mut second) = (Tally::new(10), Tally::new(10), Tally::new(10));
        for number in 0..1_000_u32 {
            let (source, sums) = (ip(number % 25), sums(u64::from(number), i64::from(number)));
            whole.add_sums(source, &sums);
            if number < 400 { &mut first } else { &mut second }.add_sums(source, &sums);
        }
        first.merge(&second);
        assert_eq!(first.connections(), whole.connections());
        assert_eq!(whole.connections(), (0..1_000).sum::<u64>());
    }

    #[test]
    fn sessions_are_no_offence() {
        let mut sums = sums(3, 1);
        sums.verdicts[Verdict::Session as usize] = 50;
        assert_eq!(sums.offences(), 3);
    }
}
