//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`: the beginning and the end of
//! a connection.

use core::ffi::{c_int, c_void};

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{Counter, flag, state};

use super::{
    emit::emit,
    maps::{Tracked, count},
    settings::watched,
    socket::Socket,
    tracked,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    let new: c_int = ctx.arg(2);
    // Of all transitions only these two matter: who closed first is told by the state that CLOSE was reached from.
    if new == c_int::from(state::ESTABLISHED) {
        established(&ctx);
    } else if new == c_int::from(state::CLOSE) {
        closed(&ctx);
    }
    0
}

#[inline(always)]
fn established(ctx: &BtfTracePointContext) {
    let Some(socket) = Socket::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    if !watched(socket.local_port()) {
        return;
    }
    let old: c_int = ctx.arg(1);
    // A connection that this host opened from a watched port is not one to the broker; remembering that keeps it
    // from looking like one that is older than the tracer.
    let flags = if old == c_int::from(state::SYN_SENT) { flag::OUTGOING } else { 0 };
    // SAFETY: the helper has no preconditions.
    let established_ns = unsafe { bpf_ktime_get_ns() };
    tracked::begin(socket, Tracked { established_ns, flags: flags.into() });
    debug!(ctx, "established, source port {}", socket.remote_port());
}

#[inline(always)]
fn closed(ctx: &BtfTracePointContext) {
    let old: c_int = ctx.arg(1);
    // Only what was established has an end that is a connection's: not a listener's, and not an open that failed.
    let Ok(last_state) = u8::try_from(old) else {
        return;
    };
    if !matches!(
        last_state,
        state::ESTABLISHED
            | state::FIN_WAIT1
            | state::FIN_WAIT2
            | state::CLOSE_WAIT
            | state::LAST_ACK
            | state::CLOSING
    ) {
        return;
    }
    let Some(socket) = Socket::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    // The port is put back before this fires, so `local_port` is 0 here; only `inet_sport` still has it.
    let Some(tcp) = socket.tcp() else {
        if watched(socket.local_port()) {
            count(Counter::ReadFailed);
        }
        return;
    };
    if !watched(tcp.stored_port()) {
        return;
    }
    let known = tracked::end(socket).unwrap_or(Tracked { established_ns: 0, flags: 0 });
    if known.flags & u64::from(flag::OUTGOING) != 0 {
        return;
    }
    emit(ctx, socket, tcp, known, last_state);
}
