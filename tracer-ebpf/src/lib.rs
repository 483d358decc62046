//! The wire contract between the probes in the kernel and the daemon: both sides compile exactly this.
//!
//! Nothing here allocates, panics on data, or depends on another crate. Sizes and offsets of everything that crosses
//! the border are asserted at compile time.

#![cfg_attr(not(test), no_std)]

mod counter;
pub mod errno;
mod field;
mod outcome;
mod overflow;
mod ports;
mod record;

pub use counter::Counter;
pub use field::Field;
pub use outcome::{Ending, Outcome, Sent};
pub use overflow::{OverflowKey, OverflowValue};
pub use ports::{MAX_PORTS, PORT_WORDS, PortSet, TooManyPorts, bit_of, word_of};
pub use record::{ConnectionRecord, flag, kind, state};

/// Names under which the daemon finds globals and maps in the BPF object.
pub mod name {
    /// Read-only global: the byte offsets of [`crate::Field`], in its order.
    pub const OFFSETS: &str = "OFFSETS";
    /// Read-only global: the watched ports as [`crate::PortSet::words`].
    pub const PORTS: &str = "PORTS";
    /// Read-only global: 1 where per-socket state lives in socket storage, 0 where it lives in [`SOCKETS_HASH`].
    pub const SOCKET_STORAGE: &str = "SOCKET_STORAGE";
    /// Read-only global: 1 where [`SLOTS`] stand in front of either.
    pub const SOCKET_SLOTS: &str = "SOCKET_SLOTS";
    /// Array of per-socket state in fixed places.
    pub const SLOTS: &str = "SLOTS";
    /// Read-only global: unread bytes in the ring at which the kernel wakes the daemon.
    pub const WAKE_AT: &str = "WAKE_AT";
    /// LRU hash of per-socket state, for kernels whose tracing programs cannot use socket storage.
    pub const SOCKETS_HASH: &str = "SOCKETS_HASH";
    /// Ring buffer of [`crate::ConnectionRecord`].
    pub const RECORDS: &str = "RECORDS";
    /// Per-CPU array of [`crate::Counter`].
    pub const COUNTERS: &str = "COUNTERS";
    /// Hash of [`crate::OverflowKey`] to [`crate::OverflowValue`], filled only while the ring is full.
    pub const OVERFLOW: &str = "OVERFLOW";
    /// Array of one `u32`: the generation that goes into new [`crate::OverflowKey`]s.
    pub const GENERATION: &str = "GENERATION";
    /// Read-only global: 1 where [`SET_STATE_AGAIN`] are attached too.
    pub const REPEATED: &str = "REPEATED";
    /// Program on `inet_sock_set_state`, which is also the tracepoint's name.
    pub const SET_STATE: &str = "inet_sock_set_state";
    /// The same program again, for what the kernel skips of those before.
    pub const SET_STATE_AGAIN: [&str; 3] =
        ["inet_sock_set_state_second", "inet_sock_set_state_third", "inet_sock_set_state_fourth"];
    /// Program on `tcp_receive_reset`.
    pub const RECEIVE_RESET: &str = "tcp_receive_reset";
    /// Program on `tcp_send_reset`.
    pub const SEND_RESET: &str = "tcp_send_reset";
    /// Program on the function `tcp_check_req`.
    pub const CHECK_REQUEST: &str = "tcp_check_req";
    /// Program on the tracepoint `kfree_skb`.
    pub const PACKET_DROPPED: &str = "kfree_skb";
    /// Read-only global: the drop reason of a SYN that found nobody listening, or 0.
    pub const DROP_WITHOUT_LISTENER: &str = "DROP_WITHOUT_LISTENER";
    /// Read-only global: the drop reason of the RST of a half-open connection, or 0.
    pub const DROP_OF_HALF_OPEN: &str = "DROP_OF_HALF_OPEN";
    /// Read-only global: the drop reason of an ACK that brings back a SYN cookie, or 0.
    pub const DROP_OF_COOKIE: &str = "DROP_OF_COOKIE";
    /// Read-only global: the drop reason of what completes a handshake into a full accept queue, or 0.
    pub const DROP_WITHOUT_ROOM: &str = "DROP_WITHOUT_ROOM";
}
