//! Kernel bytes in, [`Connection`] out.
//!
//! Refuses records of another length or kind, and states that no connection or attempt can have ended in: what the
//! kernel side did not write is an error, never a value.

use std::{
    mem::offset_of,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use jiff::Timestamp;
use thiserror::Error;
use tracer_ebpf::{ConnectionRecord, Ending, Outcome, errno, flag, kind, state};

use crate::kernel::Clock;

/// A record that the kernel side cannot have written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Of another length.
    #[error("a kernel record of {0} bytes; allowed: {size}", size = ConnectionRecord::SIZE)]
    Length(usize),
    /// Of an unknown kind.
    #[error(
        "a kernel record of kind {0}; allowed: 1 (connection), 2 (half-open), 3 (refused), 4 (accept queue full)"
    )]
    Kind(u8),
    /// With a state in which what it is does not end.
    #[error("a kernel record of kind {kind} that ends in TCP state {state}; allowed: {}", allowed_states(*kind))]
    State {
        /// What the record is.
        kind: u8,
        /// Its state.
        state: u8,
    },
}

/// Reads a record from the ring's bytes.
pub fn decode(bytes: &[u8]) -> Result<ConnectionRecord, DecodeError> {
    let bytes: &[u8; ConnectionRecord::SIZE] =
        bytes.try_into().map_err(|_| DecodeError::Length(bytes.len()))?;
    macro_rules! field {
        ($name:ident: $type:ty) => {
            <$type>::from_ne_bytes(array(bytes, offset_of!(ConnectionRecord, $name)))
        };
    }
    let record = ConnectionRecord {
        closed_ns: field!(closed_ns: u64),
        established_ns: field!(established_ns: u64),
        bytes_in: field!(bytes_in: u64),
        bytes_out: field!(bytes_out: u64),
        source: array(bytes, offset_of!(ConnectionRecord, source)),
        destination: array(bytes, offset_of!(ConnectionRecord, destination)),
        netns: field!(netns: u32),
        segments_in: field!(segments_in: u32),
        error: field!(error: u32),
        source_port: field!(source_port: u16),
        destination_port: field!(destination_port: u16),
        flags: field!(flags: u16),
        last_state: field!(last_state: u8),
        kind: field!(kind: u8),
        reserved: field!(reserved: u32),
    };
    let states = states_of(record.kind).ok_or(DecodeError::Kind(record.kind))?;
    if !states.contains(&record.last_state) {
        return Err(DecodeError::State { kind: record.kind, state: record.last_state });
    }
    Ok(record)
}

/// The states in which a record of this kind can end; `None` for a kind that is not known.
const fn states_of(kind: u8) -> Option<&'static [u8]> {
    Some(match kind {
        kind::CONNECTION => &state::LAST,
        kind::HALF_OPEN | kind::ACCEPT_QUEUE_FULL => &[state::SYN_RECV],
        kind::REFUSED => &[state::CLOSE],
        _ => return None,
    })
}

fn allowed_states(kind: u8) -> String {
    let states: Vec<String> = states_of(kind).unwrap_or_default().iter().map(u8::to_string).collect();
    states.join(", ")
}

fn array<const N: usize>(bytes: &[u8; ConnectionRecord::SIZE], at: usize) -> [u8; N] {
    std::array::from_fn(|i| bytes[at + i])
}

/// Who sent something, or closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Party {
    /// The remote end.
    Source,
    /// The broker's end.
    Broker,
    /// The broker's kernel, on its own or an administrator's account.
    Kernel,
}

/// One finished connection or failed attempt, as the daemon speaks of it.
#[derive(Clone, Debug)]
pub struct Connection {
    /// When it ended.
    pub time: Timestamp,
    /// When it was established, or ended if that is not known: CLOCK_MONOTONIC, nanoseconds.
    pub began_ns: u64,
    /// When it was established; `None` when that was before the tracer, or never.
    pub established: Option<Timestamp>,
    /// Whether it was established before the tracer.
    pub preexisting: bool,
    /// From established to ended.
    pub duration: Option<Duration>,
    /// The remote end.
    pub source: SocketAddr,
    /// The broker's end.
    pub destination: SocketAddr,
    /// Payload bytes from the source.
    pub bytes_in: u64,
    /// Payload bytes from the broker.
    pub bytes_out: u64,
    /// Segments with data from the source.
    pub segments_in: u32,
    /// Inode of the network namespace.
    pub netns: u32,
    /// What the verdict depends on.
    pub outcome: Outcome,
    /// Who closed it, or kept it from being established.
    pub closed_by: Party,
    /// Who sent a RST, if anybody did.
    pub reset_by: Option<Party>,
    /// Whether a FIN came from the source.
    pub fin_received: bool,
    /// The TCP state that it left when it ended, or got to.
    pub last_state: &'static str,
    /// `sk_err` at the end; 0 for none.
    pub error: u32,
}

impl Connection {
    /// Reads times by `clock`, and names what the record's numbers say.
    pub fn new(record: &ConnectionRecord, clock: Clock) -> Self {
        let outcome = Outcome::of(record);
        let established = (record.established_ns != 0).then_some(record.established_ns);
        Self {
            time: clock.wall(record.closed_ns),
            began_ns: established.unwrap_or(record.closed_ns),
            established: established.map(|at| clock.wall(at)),
            preexisting: record.preexisting(),
            duration: established.map(|at| Duration::from_nanos(record.closed_ns.saturating_sub(at))),
            source: SocketAddr::new(address(record.source), record.source_port),
            destination: SocketAddr::new(address(record.destination), record.destination_port),
            bytes_in: record.bytes_in,
            bytes_out: record.bytes_out,
            segments_in: record.segments_in,
            netns: record.netns,
            outcome,
            closed_by: closed_by(outcome.ending),
            reset_by: reset_by(record, outcome.ending),
            fin_received: record.has(flag::FIN_RECEIVED),
            last_state: state_name(record.last_state).unwrap_or("unknown"),
            error: record.error,
        }
    }
}

/// IPv4-mapped addresses are given as IPv4.
pub fn address(bytes: [u8; 16]) -> IpAddr {
    IpAddr::V6(Ipv6Addr::from(bytes)).to_canonical()
}

const fn closed_by(ending: Ending) -> Party {
    match ending {
        Ending::SourceReset | Ending::SourceClose | Ending::HalfOpen => Party::Source,
        Ending::BrokerClose => Party::Broker,
        Ending::Abort | Ending::TimeOut | Ending::Refused | Ending::AcceptQueueFull => Party::Kernel,
    }
}

/// Who sent a RST. The source's is seen by itself. The broker's is seen only when it comes before the socket closes;
/// when it comes with the close, the transition tells: an established or half-closed socket goes straight to CLOSE
/// only in `tcp_disconnect` and in `tcp_close` with data unread, and both then send a RST.
fn reset_by(record: &ConnectionRecord, ending: Ending) -> Option<Party> {
    match ending {
        Ending::HalfOpen => return Some(Party::Source),
        Ending::Refused => return Some(Party::Broker),
        Ending::AcceptQueueFull => return None,
        _ => {}
    }
    // `tcp_reset` also leaves its error, EPIPE for a half-closed socket, should the probe on it have been skipped.
    if record.has(flag::RESET_RECEIVED) || matches!(record.error, errno::ECONNRESET | errno::EPIPE) {
        return Some(Party::Source);
    }
    let closed_at_once = matches!(record.last_state, state::ESTABLISHED | state::CLOSE_WAIT);
    let by_closing = closed_at_once && record.error == 0 && ending != Ending::TimeOut;
    (record.has(flag::RESET_SENT) || by_closing).then_some(Party::Broker)
}

/// The states of [`states_of`], by the kernel's names for them.
const fn state_name(state: u8) -> Option<&'static str> {
    Some(match state {
        state::ESTABLISHED => "ESTABLISHED",
        state::FIN_WAIT1 => "FIN_WAIT1",
        state::FIN_WAIT2 => "FIN_WAIT2",
        state::CLOSE_WAIT => "CLOSE_WAIT",
        state::LAST_ACK => "LAST_ACK",
        state::CLOSING => "CLOSING",
        state::SYN_RECV => "SYN_RECV",
        state::CLOSE => "CLOSE",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of(record: &ConnectionRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend(record.closed_ns.to_ne_bytes());
        bytes.extend(record.established_ns.to_ne_bytes());
        bytes.extend(record.bytes_in.to_ne_bytes());
        bytes.extend(record.bytes_out.to_ne_bytes());
        bytes.extend(record.source);
        bytes.extend(record.destination);
        bytes.extend(record.netns.to_ne_bytes());
        bytes.extend(record.segments_in.to_ne_bytes());
        bytes.extend(record.error.to_ne_bytes());
        bytes.extend(record.source_port.to_ne_bytes());
        bytes.extend(record.destination_port.to_ne_bytes());
        bytes.extend(record.flags.to_ne_bytes());
        bytes.extend([record.last_state, record.kind]);
        bytes.extend(record.reserved.to_ne_bytes());
        bytes
    }

    fn sample() -> ConnectionRecord {
        ConnectionRecord {
            closed_ns: 3_500_000_000,
            established_ns: 1_000_000_000,
            bytes_in: 0x0102_0304_0506_0708,
            bytes_out: 9,
            source: std::net::Ipv4Addr::new(10, 0, 0, 7).to_ipv6_mapped().octets(),
            destination: std::net::Ipv6Addr::LOCALHOST.octets(),
            netns: 4_026_531_840,
            segments_in: 11,
            error: 104,
            source_port: 40_000,
            destination_port: 5672,
            flags: flag::RESET_RECEIVED,
            last_state: state::ESTABLISHED,
            kind: kind::CONNECTION,
            reserved: 0,
        }
    }

    #[test]
    fn every_field_is_read_from_its_own_bytes() {
        assert_eq!(decode(&bytes_of(&sample())), Ok(sample()));
    }

    #[test]
    fn what_the_kernel_side_does_not_write_is_refused() {
        let bytes = bytes_of(&sample());
        assert_eq!(decode(&bytes[1..]), Err(DecodeError::Length(87)));
        assert_eq!(decode(&[]), Err(DecodeError::Length(0)));
        assert_eq!(decode(&bytes_of(&ConnectionRecord { kind: 9, ..sample() })), Err(DecodeError::Kind(9)));
        assert_eq!(decode(&bytes_of(&ConnectionRecord { kind: 0, ..sample() })), Err(DecodeError::Kind(0)));
        for last_state in 0..=u8::MAX {
            let decoded =
                |kind| decode(&bytes_of(&ConnectionRecord { kind, last_state, ..sample() })).is_ok();
            assert_eq!(decoded(1), [1, 4, 5, 8, 9, 11].contains(&last_state), "connection, {last_state}");
            assert_eq!(decoded(2), last_state == 3, "half-open, {last_state}");
            assert_eq!(decoded(3), last_state == 7, "refused, {last_state}");
            assert_eq!(decoded(4), last_state == 3, "accept queue full, {last_state}");
        }
    }

    #[test]
    fn mapped_addresses_are_ipv4_and_times_are_wall_time() {
        let clock = Clock::from_offset(jiff::SignedDuration::from_secs(1_000));
        let connection = Connection::new(&sample(), clock);
        assert_eq!(connection.source.to_string(), "10.0.0.7:40000");
        assert_eq!(connection.destination.to_string(), "[::1]:5672");
        assert_eq!(connection.time.to_string(), "1970-01-01T00:16:43.5Z");
        assert_eq!(connection.established.map(|t| t.to_string()).as_deref(), Some("1970-01-01T00:16:41Z"));
        assert_eq!(connection.duration, Some(Duration::from_millis(2_500)));
        let older = Connection::new(&ConnectionRecord { established_ns: 0, ..sample() }, clock);
        assert_eq!((older.established, older.duration, older.preexisting), (None, None, true));
        let never = ConnectionRecord { kind: kind::HALF_OPEN, established_ns: 0, ..sample() };
        assert!(!Connection::new(&never, clock).preexisting);
    }

    #[test]
    fn a_reset_has_a_sender() {
        let by = |last_state, flags, error| {
            Connection::new(
                &ConnectionRecord { last_state, flags, error, ..sample() },
                Clock::from_offset(jiff::SignedDuration::ZERO),
            )
            .reset_by
        };
        assert_eq!(by(state::ESTABLISHED, flag::RESET_RECEIVED, 104), Some(Party::Source));
        assert_eq!(by(state::CLOSE_WAIT, flag::FIN_RECEIVED, 32), Some(Party::Source), "its mark was missed");
        assert_eq!(by(state::ESTABLISHED, 0, 0), Some(Party::Broker), "SO_LINGER 0");
        assert_eq!(by(state::CLOSE_WAIT, flag::FIN_RECEIVED, 0), Some(Party::Broker));
        assert_eq!(by(state::ESTABLISHED, flag::RESET_SENT, 110), Some(Party::Broker), "keepalive");
        assert_eq!(by(state::ESTABLISHED, 0, 110), None, "TCP_USER_TIMEOUT sends nothing");
        assert_eq!(by(state::LAST_ACK, flag::FIN_RECEIVED, 0), None);
        assert_eq!(by(state::FIN_WAIT2, 0, 0), None);
    }
}
