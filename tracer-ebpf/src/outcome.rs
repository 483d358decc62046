//! What a connection's verdict depends on, and nothing else: few enough values to count by, in the kernel, when the
//! ring is full, and to test one by one.

use crate::errno::{ECONNABORTED, ECONNRESET, EHOSTUNREACH, ENETUNREACH, ETIMEDOUT};
use crate::record::{ConnectionRecord, flag, kind, state};

/// RabbitMQ's `handshake_timeout` is set in milliseconds and is 10 s unless changed. Whatever it closes sooner than
/// this after ESTABLISHED was closed for another reason.
const STALLED_NS: u64 = 1_000_000_000;

/// `AMQP` and the four octets that follow (AMQP 0-9-1, section 4.2.2).
const PROTOCOL_HEADER: u64 = 8;

/// How the connection ended: the first act of closing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// A RST from the source, before any FIN.
    SourceReset,
    /// A FIN from the source.
    SourceClose,
    /// The broker closed, with FIN or RST.
    BrokerClose,
    /// Somebody on the broker's host destroyed the socket (`tcp_abort`).
    Abort,
    /// The kernel gave up on a peer that no longer answers (`tcp_write_err`).
    TimeOut,
    /// Never established: the source reset after the SYN-ACK.
    HalfOpen,
    /// Never established: nobody listened.
    Refused,
    /// Never established for the broker, whose accept queue was full; the source believes it is.
    AcceptQueueFull,
}

/// How much one side sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Sent {
    /// No data at all.
    Nothing,
    /// Less than a protocol header.
    PartOfHeader,
    /// Exactly the eight bytes of a protocol header.
    Header,
    /// More than a protocol header.
    More,
}

/// The part of a [`ConnectionRecord`] that carries its verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// Whether it lived long enough for the broker's handshake time-out to have closed it.
    pub long_enough: bool,
    /// What the source sent.
    pub source_sent: Sent,
    /// What the broker sent.
    pub broker_sent: Sent,
}

impl Outcome {
    /// Reads the outcome off a record.
    #[must_use]
    #[inline(always)]
    pub fn of(record: &ConnectionRecord) -> Self {
        Self {
            ending: ending(record),
            // A connection older than the tracer has no known age; what is known does not speak against it.
            long_enough: record.preexisting()
                || record.established_ns != 0
                    && record.closed_ns.saturating_sub(record.established_ns) >= STALLED_NS,
            // Data that never came in order was still sent: it is no longer a probe that sent nothing.
            source_sent: match sent(record.bytes_in) {
                Sent::Nothing if record.segments_in > 0 => Sent::PartOfHeader,
                sent => sent,
            },
            broker_sent: sent(record.bytes_out),
        }
    }

    /// The outcome as a number, for the key of the overflow table.
    #[must_use]
    #[inline(always)]
    pub const fn pack(self) -> u16 {
        self.ending as u16
            | (self.long_enough as u16) << 3
            | (self.source_sent as u16) << 4
            | (self.broker_sent as u16) << 6
    }

    /// The reverse of [`Outcome::pack`]; `None` for a number it never gives.
    #[must_use]
    pub const fn unpack(packed: u16) -> Option<Self> {
        if packed >> 8 != 0 {
            return None;
        }
        Some(Self {
            ending: match packed & 7 {
                0 => Ending::SourceReset,
                1 => Ending::SourceClose,
                2 => Ending::BrokerClose,
                3 => Ending::Abort,
                4 => Ending::TimeOut,
                5 => Ending::HalfOpen,
                6 => Ending::Refused,
                _ => Ending::AcceptQueueFull,
            },
            long_enough: packed & 1 << 3 != 0,
            source_sent: sent_from(packed >> 4),
            broker_sent: sent_from(packed >> 6),
        })
    }
}

/// The TCP state machine itself keeps who sent the first FIN: CLOSE_WAIT and LAST_ACK are reached only after the
/// source's, FIN_WAIT and CLOSING only after the broker's. A socket that goes from ESTABLISHED to CLOSE was reset,
/// given up, or disconnected by the broker (SO_LINGER 0, or closed with data unread).
#[inline(always)]
const fn ending(record: &ConnectionRecord) -> Ending {
    match record.kind {
        kind::HALF_OPEN => return Ending::HalfOpen,
        kind::REFUSED => return Ending::Refused,
        kind::ACCEPT_QUEUE_FULL => return Ending::AcceptQueueFull,
        _ => {}
    }
    match record.last_state {
        state::CLOSE_WAIT | state::LAST_ACK => Ending::SourceClose,
        state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => Ending::BrokerClose,
        _ if record.has(flag::RESET_RECEIVED) => Ending::SourceReset,
        _ => match record.error {
            // `tcp_reset` leaves this error for a RST that was received; a RST of one's own leaves it only after CLOSE.
            ECONNRESET => Ending::SourceReset,
            ETIMEDOUT | EHOSTUNREACH | ENETUNREACH => Ending::TimeOut,
            ECONNABORTED => Ending::Abort,
            _ => Ending::BrokerClose,
        },
    }
}

#[inline(always)]
const fn sent(bytes: u64) -> Sent {
    if bytes == 0 {
        Sent::Nothing
    } else if bytes < PROTOCOL_HEADER {
        Sent::PartOfHeader
    } else if bytes == PROTOCOL_HEADER {
        Sent::Header
    } else {
        Sent::More
    }
}

const fn sent_from(bits: u16) -> Sent {
    match bits & 3 {
        0 => Sent::Nothing,
        1 => Sent::PartOfHeader,
        2 => Sent::Header,
        _ => Sent::More,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_survives_packing() {
        let mut valid = 0;
        for packed in 0..=u16::MAX {
            if let Some(outcome) = Outcome::unpack(packed) {
                assert_eq!(outcome.pack(), packed);
                valid += 1;
            }
        }
        assert_eq!(valid, 8 * 2 * 4 * 4);
    }

    #[test]
    fn the_state_left_tells_who_closed_first() {
        let by = |last_state, flags, error| {
            Outcome::of(&ConnectionRecord { last_state, flags, error, ..ConnectionRecord::default() }).ending
        };
        assert_eq!(by(state::ESTABLISHED, flag::RESET_RECEIVED, 104), Ending::SourceReset);
        assert_eq!(by(state::ESTABLISHED, 0, ECONNRESET), Ending::SourceReset, "its mark was missed");
        assert_eq!(by(state::ESTABLISHED, 0, 0), Ending::BrokerClose);
        assert_eq!(by(state::ESTABLISHED, 0, ETIMEDOUT), Ending::TimeOut);
        assert_eq!(by(state::ESTABLISHED, flag::RESET_SENT, ECONNABORTED), Ending::Abort);
        assert_eq!(by(state::CLOSE_WAIT, flag::RESET_RECEIVED, 32), Ending::SourceClose);
        assert_eq!(by(state::LAST_ACK, flag::FIN_RECEIVED, 0), Ending::SourceClose);
        assert_eq!(by(state::FIN_WAIT1, flag::RESET_RECEIVED, 104), Ending::BrokerClose);
        assert_eq!(by(state::FIN_WAIT2, 0, 0), Ending::BrokerClose);
        assert_eq!(by(state::CLOSING, flag::FIN_RECEIVED, 0), Ending::BrokerClose);
        let attempt = |kind| Outcome::of(&ConnectionRecord { kind, ..ConnectionRecord::default() });
        assert_eq!(attempt(kind::HALF_OPEN).ending, Ending::HalfOpen);
        assert_eq!(attempt(kind::REFUSED).ending, Ending::Refused);
        assert_eq!(attempt(kind::ACCEPT_QUEUE_FULL).ending, Ending::AcceptQueueFull);
    }

    #[test]
    fn what_was_sent_is_told_by_the_eight_bytes_of_the_header() {
        let sent = |bytes_in, segments_in| {
            Outcome::of(&ConnectionRecord { bytes_in, segments_in, ..ConnectionRecord::default() })
                .source_sent
        };
        assert_eq!(sent(0, 0), Sent::Nothing);
        assert_eq!(sent(0, 1), Sent::PartOfHeader, "data out of order is data");
        assert_eq!(sent(1, 1), Sent::PartOfHeader);
        assert_eq!(sent(7, 2), Sent::PartOfHeader);
        assert_eq!(sent(8, 1), Sent::Header);
        assert_eq!(sent(9, 1), Sent::More);
    }

    #[test]
    fn only_an_age_of_a_second_or_an_unknown_one_fits_a_time_out() {
        let long = |established_ns, closed_ns| {
            let kind = kind::CONNECTION;
            Outcome::of(&ConnectionRecord { established_ns, closed_ns, kind, ..ConnectionRecord::default() })
                .long_enough
        };
        assert!(!long(5, 5 + STALLED_NS - 1));
        assert!(long(5, 5 + STALLED_NS));
        assert!(long(0, 5));
        assert!(!long(9, 5), "a record whose clock runs backwards is not long");
    }
}
