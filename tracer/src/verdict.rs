//! Outcome in, verdict out. Pure: no I/O, no clock, no memory of other connections.
//!
//! Refuses nothing: every [`Outcome`] has exactly one verdict, and where the evidence of a TCP connection does not
//! carry a sharper one, it is the nearest that is true.

use std::fmt;

use serde::Serialize;
use tracer_ebpf::{Ending, Outcome, Sent};

/// What a connection was, by how it ended and what was sent on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(usize)]
pub enum Verdict {
    /// Established, then reset by the source before any data: the `enotconn` of RabbitMQ's log.
    ProbeReset,
    /// Established, then closed with FIN by the source before any data.
    ProbeClose,
    /// The source sent at most the eight bytes of a protocol header, then closed or reset.
    ProbeHeader,
    /// Reset by the source after the SYN-ACK, before it was established: HAProxy's health check.
    ProbeHalfOpen,
    /// The source sent at most a protocol header and the broker closed, a second or more after the handshake.
    HandshakeTimeout,
    /// The broker answered with exactly eight bytes: its own protocol header, by which it refuses what was sent
    /// (AMQP 0-9-1, section 2.2.4).
    NotAmqp,
    /// Nobody listened on the port.
    Refused,
    /// The broker's accept queue was full: the source believes that it is connected, the broker never sees it.
    AcceptQueueFull,
    /// The source sent more than a protocol header and closed first, with FIN.
    Session,
    /// The source sent more than a protocol header and reset the connection.
    SessionReset,
    /// The broker closed first.
    BrokerClosed,
    /// The kernel gave up on the peer (keepalive or retransmission).
    TimedOut,
}

impl Verdict {
    /// Every verdict, worst for a broker's operator first; a verdict's place is its discriminant.
    pub const ALL: [Self; 12] = [
        Self::ProbeReset,
        Self::ProbeClose,
        Self::ProbeHeader,
        Self::ProbeHalfOpen,
        Self::HandshakeTimeout,
        Self::NotAmqp,
        Self::Refused,
        Self::AcceptQueueFull,
        Self::Session,
        Self::SessionReset,
        Self::BrokerClosed,
        Self::TimedOut,
    ];

    /// The name in records.
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProbeReset => "probe_reset",
            Self::ProbeClose => "probe_close",
            Self::ProbeHeader => "probe_header",
            Self::ProbeHalfOpen => "probe_half_open",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::NotAmqp => "not_amqp",
            Self::Refused => "refused",
            Self::AcceptQueueFull => "accept_queue_full",
            Self::Session => "session",
            Self::SessionReset => "session_reset",
            Self::BrokerClosed => "broker_closed",
            Self::TimedOut => "timed_out",
        }
    }

    /// Whether an operator would want the source to do otherwise. A half-open check costs the broker nothing: it is what
    /// the other checks should be.
    pub const fn is_offence(self) -> bool {
        !matches!(self, Self::Session | Self::ProbeHalfOpen)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Judges one connection.
pub fn judge(outcome: Outcome) -> Verdict {
    // An answer of exactly eight bytes is a refusal whoever closed after it: RabbitMQ's first frame is far longer.
    let refused = outcome.broker_sent == Sent::Header && outcome.source_sent != Sent::Nothing;
    match (outcome.ending, outcome.source_sent) {
        (Ending::HalfOpen, _) => Verdict::ProbeHalfOpen,
        (Ending::Refused, _) => Verdict::Refused,
        (Ending::AcceptQueueFull, _) => Verdict::AcceptQueueFull,
        _ if refused => Verdict::NotAmqp,
        (Ending::SourceReset, Sent::Nothing) => Verdict::ProbeReset,
        (Ending::SourceClose, Sent::Nothing) => Verdict::ProbeClose,
        (Ending::SourceReset | Ending::SourceClose, Sent::PartOfHeader | Sent::Header) => {
            Verdict::ProbeHeader
        }
        (Ending::SourceReset, Sent::More) => Verdict::SessionReset,
        (Ending::SourceClose, Sent::More) => Verdict::Session,
        // RabbitMQ closes a connection that has said next to nothing only at its time-out, or when it stops itself.
        (Ending::BrokerClose, Sent::Nothing | Sent::PartOfHeader | Sent::Header) if outcome.long_enough => {
            Verdict::HandshakeTimeout
        }
        (Ending::BrokerClose | Ending::Abort, _) => Verdict::BrokerClosed,
        (Ending::TimeOut, _) => Verdict::TimedOut,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracer_ebpf::{ConnectionRecord, errno, flag, kind, state};

    fn every_outcome() -> impl Iterator<Item = Outcome> {
        (0..=u16::MAX).filter_map(Outcome::unpack)
    }

    #[test]
    fn a_verdicts_place_is_its_discriminant() {
        for (place, verdict) in Verdict::ALL.into_iter().enumerate() {
            assert_eq!(verdict as usize, place);
            assert_eq!(serde_json::to_value(verdict).ok(), Some(verdict.name().into()));
        }
    }

    /// What each verdict's name claims, written a second time from its definition in docs/VERDICTS.md.
    #[test]
    fn no_verdict_contradicts_its_evidence() {
        for outcome in every_outcome() {
            let Outcome { ending, long_enough, source_sent, broker_sent } = outcome;
            let by_source = matches!(ending, Ending::SourceReset | Ending::SourceClose);
            let claim = match judge(outcome) {
                Verdict::ProbeReset => ending == Ending::SourceReset && source_sent == Sent::Nothing,
                Verdict::ProbeClose => ending == Ending::SourceClose && source_sent == Sent::Nothing,
                Verdict::ProbeHeader => by_source && matches!(source_sent, Sent::PartOfHeader | Sent::Header),
                Verdict::HandshakeTimeout => {
                    ending == Ending::BrokerClose && source_sent != Sent::More && long_enough
                }
                Verdict::ProbeHalfOpen => ending == Ending::HalfOpen,
                Verdict::Refused => ending == Ending::Refused,
                Verdict::AcceptQueueFull => ending == Ending::AcceptQueueFull,
                Verdict::NotAmqp => source_sent != Sent::Nothing && broker_sent == Sent::Header,
                Verdict::Session => ending == Ending::SourceClose && source_sent == Sent::More,
                Verdict::SessionReset => ending == Ending::SourceReset && source_sent == Sent::More,
                Verdict::BrokerClosed => matches!(ending, Ending::BrokerClose | Ending::Abort),
                Verdict::TimedOut => ending == Ending::TimeOut,
            };
            assert!(claim, "{outcome:?} was judged {}", judge(outcome));
        }
    }

    /// The same for what the kernel writes: every close order, error, reset flag, age and number of bytes.
    #[test]
    fn no_verdict_contradicts_its_record() {
        let mut judged = 0;
        for record in every_record() {
            let source_reset = record.has(flag::RESET_RECEIVED) || record.error == errno::ECONNRESET;
            let (source_first, broker_first) = match record.last_state {
                state::CLOSE_WAIT | state::LAST_ACK => (true, false),
                state::FIN_WAIT1 | state::FIN_WAIT2 | state::CLOSING => (false, true),
                _ => (source_reset, !source_reset),
            };
            let said = record.bytes_in > 0 || record.segments_in > 0;
            let gave_up = [errno::ETIMEDOUT, errno::EHOSTUNREACH, errno::ENETUNREACH].contains(&record.error);
            let claim = match judge(Outcome::of(&record)) {
                Verdict::ProbeReset => source_reset && source_first && !said,
                Verdict::ProbeClose => !broker_first && record.last_state != state::ESTABLISHED && !said,
                Verdict::ProbeHeader => source_first && said && record.bytes_in <= 8,
                Verdict::NotAmqp => said && record.bytes_out == 8,
                Verdict::HandshakeTimeout => {
                    broker_first
                        && record.bytes_in <= 8
                        && (record.preexisting() || record.closed_ns - record.established_ns >= 1_000_000_000)
                }
                Verdict::Session => {
                    source_first && record.last_state != state::ESTABLISHED && record.bytes_in > 8
                }
                Verdict::SessionReset => {
                    source_reset && record.last_state == state::ESTABLISHED && record.bytes_in > 8
                }
                Verdict::BrokerClosed => broker_first,
                Verdict::TimedOut => gave_up && record.last_state == state::ESTABLISHED,
                Verdict::ProbeHalfOpen | Verdict::Refused | Verdict::AcceptQueueFull => false,
            };
            assert!(claim, "{record:?} was judged {}", judge(Outcome::of(&record)));
            judged += 1;
        }
        assert_eq!(judged, 6 * 8 * 7 * 6 * 6 * 2 * 3);
    }

    /// Finished connections in all combinations of what a verdict can depend on.
    fn every_record() -> impl Iterator<Item = ConnectionRecord> {
        const ERRORS: [u32; 7] = [
            0,
            errno::EPIPE,
            errno::ENETUNREACH,
            errno::ECONNABORTED,
            errno::ECONNRESET,
            errno::ETIMEDOUT,
            errno::EHOSTUNREACH,
        ];
        const BYTES: [u64; 6] = [0, 1, 7, 8, 9, 100_000];
        const CLOSED: u64 = 5_000_000_000;
        const ESTABLISHED: [u64; 3] = [0, CLOSED - 999_999_999, CLOSED - 1_000_000_000];
        let number = state::LAST.len() * 8 * ERRORS.len() * BYTES.len() * BYTES.len() * 2 * ESTABLISHED.len();
        (0..number).map(move |mut number| {
            let mut pick = |of: usize| {
                let picked = number % of;
                number /= of;
                picked
            };
            ConnectionRecord {
                last_state: state::LAST[pick(state::LAST.len())],
                flags: u16::try_from(pick(8)).unwrap_or(0),
                error: ERRORS[pick(ERRORS.len())],
                bytes_in: BYTES[pick(BYTES.len())],
                bytes_out: BYTES[pick(BYTES.len())],
                segments_in: u32::try_from(pick(2)).unwrap_or(0),
                established_ns: ESTABLISHED[pick(ESTABLISHED.len())],
                closed_ns: CLOSED,
                kind: kind::CONNECTION,
                ..ConnectionRecord::default()
            }
        })
    }

    #[test]
    fn every_verdict_can_be_reached() {
        for verdict in Verdict::ALL {
            assert!(every_outcome().any(|outcome| judge(outcome) == verdict), "{verdict} is never given");
        }
    }

    #[test]
    fn what_the_broker_closed_early_is_not_a_time_out() {
        let silent = Outcome {
            ending: Ending::BrokerClose,
            long_enough: false,
            source_sent: Sent::Nothing,
            broker_sent: Sent::Nothing,
        };
        assert_eq!(judge(silent), Verdict::BrokerClosed);
        assert_eq!(judge(Outcome { long_enough: true, ..silent }), Verdict::HandshakeTimeout);
        let refused_login = Outcome { source_sent: Sent::More, broker_sent: Sent::More, ..silent };
        assert_eq!(judge(Outcome { long_enough: true, ..refused_login }), Verdict::BrokerClosed);
    }
}
