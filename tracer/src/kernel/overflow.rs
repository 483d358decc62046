//! Reads the sums per source that the kernel kept while the ring was full.
//!
//! The kernel adds under the current generation. To read without losing an addition, the generation is changed first
//! and the entries of the one before are read a drain later, when no program that saw it can still be running.

use anyhow::Context as _;
use aya::maps::{Array, HashMap, MapData};
use jiff::Timestamp;
use std::{mem::offset_of, net::IpAddr};
use tracer_ebpf::{Outcome, OverflowKey, OverflowValue};

use super::Clock;
use crate::record::address;

const KEY: usize = size_of::<OverflowKey>();
const VALUE: usize = size_of::<OverflowValue>();

/// Connections of one source and outcome that got no record of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overflowed {
    /// The remote address.
    pub source: IpAddr,
    /// How they ended.
    pub outcome: Outcome,
    /// How many.
    pub connections: u64,
    /// Payload bytes from the source.
    pub bytes_in: u64,
    /// Payload bytes from the broker.
    pub bytes_out: u64,
    /// When the first ended.
    pub first: Timestamp,
    /// When the last ended.
    pub last: Timestamp,
}

/// The overflow table and where its reading stands.
pub(super) struct OverflowTable {
    sums: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
    generation: Array<MapData, u32>,
    current: u32,
    /// A generation that the kernel no longer adds to.
    closed: Option<u32>,
    /// Connections read so far.
    read: u64,
}

impl OverflowTable {
    pub(super) const fn new(
        sums: HashMap<MapData, [u8; KEY], [u8; VALUE]>,
        generation: Array<MapData, u32>,
    ) -> Self {
        Self { sums, generation, current: 0, closed: None, read: 0 }
    }

    /// Reads and removes what is complete, given how many connections the kernel has put into the table in all.
    pub(super) fn drain(&mut self, put: u64, clock: Clock) -> anyhow::Result<Vec<Overflowed>> {
        let found = match self.closed.take() {
            Some(generation) => self.take(|key| key == generation, clock)?,
            None => Vec::new(),
        };
        if put > self.read {
            let next = self.current ^ 1;
            self.generation.set(0, next, 0).context("cannot change the overflow table's generation")?;
            self.closed = Some(self.current);
            self.current = next;
        }
        Ok(found)
    }

    /// Reads and removes everything; only when the probes are detached.
    pub(super) fn drain_all(&mut self, clock: Clock) -> anyhow::Result<Vec<Overflowed>> {
        self.closed = None;
        self.take(|_| true, clock)
    }

    fn take(&mut self, wanted: impl Fn(u32) -> bool, clock: Clock) -> anyhow::Result<Vec<Overflowed>> {
        // Removing while iterating would begin the iteration anew, so the keys come first.
        let mut entries = Vec::new();
        for entry in self.sums.iter() {
            let (key, value) = entry.context("cannot read the overflow table")?;
            if wanted(u32::from_ne_bytes(part(&key, offset_of!(OverflowKey, generation)))) {
                entries.push((key, value));
            }
        }
        let mut found = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            self.sums.remove(&key).context("cannot remove from the overflow table")?;
            let overflowed = decode(&key, &value, clock)?;
            self.read += overflowed.connections;
            found.push(overflowed);
        }
        Ok(found)
    }
}

fn decode(key: &[u8; KEY], value: &[u8; VALUE], clock: Clock) -> anyhow::Result<Overflowed> {
    let packed = u16::from_ne_bytes(part(key, offset_of!(OverflowKey, outcome)));
    let sum = |at| u64::from_ne_bytes(part(value, at));
    Ok(Overflowed {
        source: address(part(key, offset_of!(OverflowKey, source))),
        outcome: Outcome::unpack(packed)
            .with_context(|| format!("the overflow table holds the unknown outcome {packed}"))?,
        connections: sum(offset_of!(OverflowValue, connections)),
        bytes_in: sum(offset_of!(OverflowValue, bytes_in)),
        bytes_out: sum(offset_of!(OverflowValue, bytes_out)),
        first: clock.wall(sum(offset_of!(OverflowValue, first_ns))),
        last: clock.wall(sum(offset_of!(OverflowValue, last_ns))),
    })
}

fn part<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}
