//! Kernel time to wall time.

use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};

/// How far the wall clock is ahead of CLOCK_MONOTONIC, in which the probes stamp. Taken anew for each drain of the
/// ring, so that a step of the wall clock shifts later records only.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    offset: SignedDuration,
}

impl Clock {
    /// Reads both clocks.
    pub fn now() -> Self {
        let since = |clock| {
            let time = clock_gettime(clock);
            SignedDuration::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or(0))
        };
        Self { offset: since(ClockId::Realtime) - since(ClockId::Monotonic) }
    }

    /// A clock with a known offset.
    #[cfg(test)]
    pub const fn from_offset(offset: SignedDuration) -> Self {
        Self { offset }
    }

    /// The wall time of a CLOCK_MONOTONIC time in nanoseconds; the Unix epoch for what no calendar can hold.
    pub fn wall(self, monotonic_ns: u64) -> Timestamp {
        let monotonic = SignedDuration::from_nanos(i64::try_from(monotonic_ns).unwrap_or(i64::MAX));
        Timestamp::from_duration(monotonic.saturating_add(self.offset)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}
