//! The slots of the per-CPU counters.

/// What the kernel side counts; the discriminant is the slot in the per-CPU array.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Counter {
    /// Connections to a watched port that ended.
    Seen = 0,
    /// Of these, written to the ring.
    Sent = 1,
    /// Of these, not written because the ring was full; they are in the overflow table instead.
    RingFull = 2,
    /// Of the ring-full ones, not counted per source because the overflow table was full as well.
    OverflowFull = 3,
    /// Established connections that could be given no state; they later look older than the tracer.
    StateFailed = 4,
    /// Sockets on a watched port that the kernel does not know as TCP sockets (SCTP, for one).
    ReadFailed = 5,
    /// State changes, of any socket, that the first program on `inet_sock_set_state` was skipped for and a later one saw.
    Rescued = 6,
}

impl Counter {
    /// Every counter, in slot order.
    pub const ALL: [Self; 7] = [
        Self::Seen,
        Self::Sent,
        Self::RingFull,
        Self::OverflowFull,
        Self::StateFailed,
        Self::ReadFailed,
        Self::Rescued,
    ];

    /// The slot in the per-CPU array.
    #[must_use]
    pub const fn slot(self) -> u32 {
        self as u32
    }
}
