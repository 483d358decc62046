//! `tcp_receive_reset(struct sock *sk)` and `tcp_send_reset(const struct sock *sk, const struct sk_buff *skb, …)`:
//! marks on the connection, which its record carries.
//!
//! A RST that the broker causes by closing (SO_LINGER 0, unread data) is sent after the socket is CLOSE, when the
//! record is already written; `tcp_send_reset` adds those that come before, of keepalive and of `tcp_abort`.

use core::ffi::c_void;

use aya_ebpf::{macros::btf_tracepoint, programs::BtfTracePointContext};
use tracer_ebpf::flag;

use super::{attempt::refused, maps::Tracked, packet::Packet, settings::watched, socket::Socket, tracked};

#[btf_tracepoint(function = "tcp_receive_reset")]
pub fn tcp_receive_reset(ctx: BtfTracePointContext) -> i32 {
    mark(&ctx, flag::RESET_RECEIVED)
}

#[btf_tracepoint(function = "tcp_send_reset")]
pub fn tcp_send_reset(ctx: BtfTracePointContext) -> i32 {
    // Without a socket, nobody listens. Kernels before 6.10 do not pass by here then.
    if ctx.arg::<*const c_void>(0).is_null() {
        let _: Option<()> = Packet::new(ctx.arg(1)).and_then(|packet| refused(&ctx, packet));
        return 0;
    }
    mark(&ctx, flag::RESET_SENT)
}

#[inline(always)]
fn mark(ctx: &BtfTracePointContext, flag: u16) -> i32 {
    if let Some(socket) = Socket::new(ctx.arg::<*const c_void>(0))
        && watched(socket.local_port())
        && !tracked::mark(socket, flag)
        // `tcp_v4_send_reset` also names sockets in TIME_WAIT and half-open ones, which can hold no state.
        && socket.tcp().is_some()
    {
        // Established before the tracer: the reset must not be lost, so tracking begins here, with no known beginning.
        tracked::begin(socket, Tracked { established_ns: 0, flags: flag.into() });
    }
    0
}
