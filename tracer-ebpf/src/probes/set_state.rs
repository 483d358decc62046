//! `inet_sock_set_state(const struct sock *sk, const int oldstate, const int newstate)`: the beginning and the end of
//! a connection.
//!
//! The kernel skips a program that is running on the same CPU already: in softirq over an interrupted one, and since
//! tracepoints are preemptible, in another task over a preempted one, which then misses all until the first goes on. So
//! on such kernels the same program is attached four times, and each does what those before it were skipped for.

use core::ffi::{c_int, c_void};

use aya_ebpf::{helpers::bpf_ktime_get_ns, macros::btf_tracepoint, programs::BtfTracePointContext};
use aya_log_ebpf::debug;
use tracer_ebpf::{Counter, flag, state};

use super::{
    emit,
    maps::{SEEN, StateChange, Tracked, count},
    settings::{repeated, watched},
    socket::Socket,
    tracked,
};

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state(ctx: BtfTracePointContext) -> i32 {
    if repeated() {
        let _: bool = note(&ctx);
    }
    changed(&ctx, false);
    0
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state_second(ctx: BtfTracePointContext) -> i32 {
    again(&ctx)
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state_third(ctx: BtfTracePointContext) -> i32 {
    again(&ctx)
}

#[btf_tracepoint(function = "inet_sock_set_state")]
pub fn inet_sock_set_state_fourth(ctx: BtfTracePointContext) -> i32 {
    again(&ctx)
}

#[inline(always)]
fn again(ctx: &BtfTracePointContext) -> i32 {
    if note(ctx) {
        count(Counter::Rescued);
    }
    changed(ctx, true);
    0
}

/// Notes that a state change is seen; false when a program before this one has done so. The changes of one socket come one
/// after the other, so the last of each tells; those of two sockets meet in one place too seldom to matter for a count.
#[inline(always)]
fn note(ctx: &BtfTracePointContext) -> bool {
    let Some(socket) = Socket::new(ctx.arg::<*const c_void>(0)) else {
        return false;
    };
    let Some(last) = SEEN.get_ptr_mut(socket.remote_hash() % StateChange::COUNT) else {
        return false;
    };
    let new: c_int = ctx.arg(2);
    // SAFETY: the lookup gave a valid, aligned value that lives as long as the program runs; volatile because other CPUs
    // write it too.
    unsafe {
        let StateChange { socket: known, new: known_new } = last.read_volatile();
        if known == socket.as_ptr() as u64 && known_new == new as u64 {
            return false;
        }
        last.write_volatile(StateChange { socket: socket.as_ptr() as u64, new: new as u64 });
    }
    true
}

/// Of all transitions only these two matter: who closed first is told by the state that CLOSE was reached from.
#[inline(always)]
fn changed(ctx: &BtfTracePointContext, again: bool) {
    let new: c_int = ctx.arg(2);
    if new == c_int::from(state::ESTABLISHED) {
        established(ctx, again);
    } else if new == c_int::from(state::CLOSE) {
        closed(ctx);
    }
}

#[inline(always)]
fn established(ctx: &BtfTracePointContext, again: bool) {
    let Some(socket) = Socket::new(ctx.arg::<*const c_void>(0)) else {
        return;
    };
    if !watched(socket.local_port()) || again && tracked::is_tracked(socket) {
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
    let known = tracked::end(socket).unwrap_or(UNKNOWN);
    if known.flags & u64::from(flag::OUTGOING | flag::RECORDED) != 0 {
        return;
    }
    emit::connection(ctx, socket, tcp, known, last_state);
    if repeated() && !tracked::mark(socket, flag::RECORDED) {
        tracked::begin(socket, Tracked { flags: flag::RECORDED.into(), ..UNKNOWN });
    }
}

/// What is known of a connection older than the tracer.
const UNKNOWN: Tracked = Tracked { established_ns: 0, flags: 0 };
