//! The table that keeps the totals per source while the ring is full.

use core::mem::size_of;

/// One source, port and outcome; `generation` parts what the daemon is reading from what the kernel is adding to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OverflowKey {
    /// The remote address, IPv4 written IPv4-mapped.
    pub source: [u8; 16],
    /// Flipped by the daemon before it reads and removes the entries of the one before.
    pub generation: u32,
    /// The local port.
    pub destination_port: u16,
    /// [`crate::Outcome::pack`].
    pub outcome: u16,
}

/// The sums for one [`OverflowKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OverflowValue {
    /// Connections that ended this way.
    pub connections: u64,
    /// Payload bytes received.
    pub bytes_in: u64,
    /// Payload bytes sent.
    pub bytes_out: u64,
    /// When the first of them ended: CLOCK_MONOTONIC, nanoseconds.
    pub first_ns: u64,
    /// When the last of them ended: CLOCK_MONOTONIC, nanoseconds.
    pub last_ns: u64,
}

const _: () = {
    assert!(size_of::<OverflowKey>() == 24);
    assert!(size_of::<OverflowValue>() == 40);
};
