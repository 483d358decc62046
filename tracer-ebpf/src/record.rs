//! The record that the kernel writes for each finished connection, and for each attempt that never became one.

use core::mem::{offset_of, size_of};

/// Values of [`ConnectionRecord::kind`].
pub mod kind {
    /// A connection that was established has ended.
    pub const CONNECTION: u8 = 1;
    /// The source reset after the SYN-ACK: never established (`tcp_check_req`).
    pub const HALF_OPEN: u8 = 2;
    /// A SYN to a port that nobody listens on (`tcp_send_reset` without a socket).
    pub const REFUSED: u8 = 3;
    /// The source completed the handshake, but the accept queue was full: only the source believes it is established
    /// (`tcp_check_req`).
    pub const ACCEPT_QUEUE_FULL: u8 = 4;
}

/// Bits of [`ConnectionRecord::flags`].
pub mod flag {
    /// A RST arrived from the source (`tcp_receive_reset`).
    pub const RESET_RECEIVED: u16 = 1;
    /// The broker's side sent a RST before the socket closed (`tcp_send_reset`).
    pub const RESET_SENT: u16 = 1 << 1;
    /// A FIN arrived from the source (`SOCK_DONE`, set by `tcp_fin`).
    pub const FIN_RECEIVED: u16 = 1 << 2;
    /// The host itself opened this connection from a watched port; such a socket gets no record.
    pub const OUTGOING: u16 = 1 << 3;
    /// Its record is written; set where a later program would otherwise write another, and never in a record.
    pub const RECORDED: u16 = 1 << 4;
}

/// TCP states as the kernel numbers them (`enum` in `include/net/tcp_states.h`, fixed since it is user ABI).
pub mod state {
    /// Both sides may send.
    pub const ESTABLISHED: u8 = 1;
    /// Active open, waiting for the SYN-ACK.
    pub const SYN_SENT: u8 = 2;
    /// Passive open, waiting for the last ACK of the handshake.
    pub const SYN_RECV: u8 = 3;
    /// The broker's side sent FIN first.
    pub const FIN_WAIT1: u8 = 4;
    /// That FIN is acknowledged.
    pub const FIN_WAIT2: u8 = 5;
    /// Closed.
    pub const CLOSE: u8 = 7;
    /// The source sent FIN first; the broker's side has not closed.
    pub const CLOSE_WAIT: u8 = 8;
    /// The source sent FIN first; the broker's side closed too and waits for the last ACK.
    pub const LAST_ACK: u8 = 9;
    /// Listening.
    pub const LISTEN: u8 = 10;
    /// Both sent FIN at once.
    pub const CLOSING: u8 = 11;
    /// Those from which an established connection can end.
    pub const LAST: [u8; 6] = [ESTABLISHED, FIN_WAIT1, FIN_WAIT2, CLOSE_WAIT, LAST_ACK, CLOSING];
}

/// One finished connection or failed attempt, in the machine's own byte order. Addresses are IPv6; IPv4 is written IPv4-mapped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ConnectionRecord {
    /// When the socket closed, or the attempt failed: CLOCK_MONOTONIC, nanoseconds.
    pub closed_ns: u64,
    /// When it was established: CLOCK_MONOTONIC, nanoseconds; 0 when that was before the tracer, or never.
    pub established_ns: u64,
    /// Payload bytes received from the source, each once.
    pub bytes_in: u64,
    /// Payload bytes sent by the broker, each once.
    pub bytes_out: u64,
    /// The remote address.
    pub source: [u8; 16],
    /// The local address.
    pub destination: [u8; 16],
    /// Inode number of the network namespace.
    pub netns: u32,
    /// Segments with data received, retransmissions included.
    pub segments_in: u32,
    /// `sk_err` when the socket closed: an errno, or 0.
    pub error: u32,
    /// The remote port.
    pub source_port: u16,
    /// The local port.
    pub destination_port: u16,
    /// Bits of [`flag`].
    pub flags: u16,
    /// The state that the socket left when it closed: one of [`state`]. Of an attempt the state it got to.
    pub last_state: u8,
    /// What the record is: one of [`kind`].
    pub kind: u8,
    /// Always 0: the record ends on a multiple of its alignment without hidden bytes.
    pub reserved: u32,
}

const _: () = {
    assert!(size_of::<ConnectionRecord>() == 88);
    assert!(offset_of!(ConnectionRecord, source) == 32);
    assert!(offset_of!(ConnectionRecord, netns) == 64);
    assert!(offset_of!(ConnectionRecord, source_port) == 76);
    assert!(offset_of!(ConnectionRecord, kind) == 83);
    assert!(offset_of!(ConnectionRecord, reserved) == 84);
};

impl ConnectionRecord {
    /// Size on the wire, in bytes.
    pub const SIZE: usize = size_of::<Self>();

    /// Whether the connection was established before the tracer.
    #[must_use]
    #[inline(always)]
    pub const fn preexisting(&self) -> bool {
        self.kind == kind::CONNECTION && self.established_ns == 0
    }

    /// Whether all bits of `flag` are set.
    #[must_use]
    #[inline(always)]
    pub const fn has(&self, flag: u16) -> bool {
        self.flags & flag == flag
    }
}
