//! The errors with which TCP closes a socket, as Linux numbers them in `sk_err`.

/// `tcp_reset` on a socket whose peer had closed its direction.
pub const EPIPE: u32 = 32;
/// An ICMP error, when the kernel gives up retransmitting.
pub const ENETUNREACH: u32 = 101;
/// `tcp_abort`: somebody on the host destroyed the socket.
pub const ECONNABORTED: u32 = 103;
/// `tcp_reset` on an established socket.
pub const ECONNRESET: u32 = 104;
/// `tcp_write_err`: keepalive or retransmission in vain.
pub const ETIMEDOUT: u32 = 110;
/// An ICMP error, when the kernel gives up retransmitting.
pub const EHOSTUNREACH: u32 = 113;

/// The error's name; `None` for one that TCP does not close with.
#[must_use]
pub const fn name_of(error: u32) -> Option<&'static str> {
    Some(match error {
        EPIPE => "EPIPE",
        ENETUNREACH => "ENETUNREACH",
        ECONNABORTED => "ECONNABORTED",
        ECONNRESET => "ECONNRESET",
        ETIMEDOUT => "ETIMEDOUT",
        EHOSTUNREACH => "EHOSTUNREACH",
        _ => return None,
    })
}
