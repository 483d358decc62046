//! Connections that never came to be: reset while half-open, refused, or completed by the source into a full accept
//! queue. None of them has a socket of its own, so none is seen by the tracepoints of connections.
//!
//! `tcp_check_req(struct sock *sk, struct sk_buff *skb, struct request_sock *req, …)` runs once for the packet that
//! completes or ends a handshake. Where the kernel does not let it be attached to, `kfree_skb(struct sk_buff *skb,
//! void *location, enum skb_drop_reason reason, struct sock *rx_sk)` tells the same of packets that are dropped for it,
//! and before 6.10 also which SYN found nobody listening, which later `tcp_send_reset` does.

use core::ffi::c_void;

use aya_ebpf::{
    EbpfContext,
    helpers::bpf_ktime_get_ns,
    macros::{btf_tracepoint, fentry},
    programs::{BtfTracePointContext, FEntryContext},
};
use tracer_ebpf::{ConnectionRecord, kind, state};

use super::{
    emit::write,
    maps::{ATTEMPTS, Attempt},
    packet::{Packet, TcpHeader},
    settings::{drop_of_cookie, drop_of_half_open, drop_without_listener, drop_without_room, watched},
    socket::Socket,
};

/// A completed handshake that found the queue full is tried again with every SYN-ACK and every packet of the source's,
/// for `net.ipv4.tcp_synack_retries` of them: 63 s unless changed. What comes after this time is another attempt.
const SAME_ATTEMPT_NS: u64 = 120_000_000_000;

#[fentry(function = "tcp_check_req")]
pub fn tcp_check_req(ctx: FEntryContext) -> i32 {
    check_request(&ctx);
    0
}

#[inline(always)]
fn check_request(ctx: &FEntryContext) -> Option<()> {
    let listener = watched_listener(ctx.arg(0))?;
    let packet = Packet::new(ctx.arg(1))?;
    let request = Socket::new(ctx.arg::<*const c_void>(2))?;
    let header = packet.tcp_header()?;
    // What is not the very next in sequence neither completes nor resets the handshake.
    if header.sequence() != request.request_next()? {
        return None;
    }
    attempt(ctx, packet, &header, kind_at(listener, &header)?, listener.netns())
}

#[btf_tracepoint(function = "kfree_skb")]
pub fn kfree_skb(ctx: BtfTracePointContext) -> i32 {
    dropped(&ctx);
    0
}

#[inline(always)]
fn dropped(ctx: &BtfTracePointContext) -> Option<()> {
    let reason: u32 = ctx.arg(2);
    if is(reason, drop_without_listener()) {
        return refused(ctx, Packet::new(ctx.arg(0))?);
    }
    let half_open = is(reason, drop_of_half_open());
    // A SYN cookie that is not valid is dropped for the same reason as a valid one that finds no room.
    if !half_open && !is(reason, drop_without_room()) && !is(reason, drop_of_cookie()) {
        return None;
    }
    let listener = watched_listener(ctx.arg(3))?;
    let packet = Packet::new(ctx.arg(0))?;
    let header = packet.tcp_header()?;
    let kind = kind_at(listener, &header)?;
    if half_open != (kind == kind::HALF_OPEN) {
        return None;
    }
    attempt(ctx, packet, &header, kind, listener.netns())
}

/// What a packet makes of a handshake at a listener, if it makes anything of it.
#[inline(always)]
fn kind_at(listener: Socket, header: &TcpHeader) -> Option<u8> {
    if header.is_reset() {
        Some(kind::HALF_OPEN)
    } else if header.is_acknowledgement() && listener.accept_queue_is_full() {
        Some(kind::ACCEPT_QUEUE_FULL)
    } else {
        None
    }
}

/// Whether this is the reason; 0 is none, and the verifier then leaves out what hangs on it.
#[inline(always)]
fn is(reason: u32, wanted: u32) -> bool {
    wanted != 0 && reason == wanted
}

/// A packet to a port that nobody listens on, to which the kernel answers with a RST.
#[inline(always)]
pub fn refused(ctx: &impl EbpfContext, packet: Packet) -> Option<()> {
    let header = packet.tcp_header()?;
    if !watched(header.destination_port()) || !header.is_first() {
        return None;
    }
    attempt(ctx, packet, &header, kind::REFUSED, packet.netns())
}

#[inline(always)]
fn watched_listener(sk: *const c_void) -> Option<Socket> {
    let socket = Socket::new(sk)?;
    (socket.state() == state::LISTEN && watched(socket.local_port())).then_some(socket)
}

/// Writes an attempt. A handshake that finds the accept queue full is written once, however often it is tried.
#[inline(always)]
fn attempt(ctx: &impl EbpfContext, packet: Packet, header: &TcpHeader, kind: u8, netns: u32) -> Option<()> {
    let addresses = packet.tcp_addresses()?;
    // SAFETY: the helper has no preconditions.
    let now = unsafe { bpf_ktime_get_ns() };
    let key = Attempt {
        source: addresses.source,
        netns,
        source_port: header.source_port(),
        destination_port: header.destination_port(),
    };
    if kind == kind::ACCEPT_QUEUE_FULL && !is_first(key, now) {
        return None;
    }
    write(
        ctx,
        &ConnectionRecord {
            closed_ns: now,
            established_ns: 0,
            bytes_in: 0,
            bytes_out: 0,
            source: addresses.source,
            destination: addresses.destination,
            netns,
            segments_in: 0,
            error: 0,
            source_port: header.source_port(),
            destination_port: header.destination_port(),
            flags: 0,
            last_state: if kind == kind::REFUSED { state::CLOSE } else { state::SYN_RECV },
            kind,
            reserved: 0,
        },
    );
    None
}

/// Whether this handshake was not tried lately; it has been now.
#[inline(always)]
fn is_first(key: Attempt, now: u64) -> bool {
    // SAFETY: the value is read at once; another CPU may write a later time meanwhile, which is as good.
    let known = unsafe { ATTEMPTS.get(key) }.copied().unwrap_or(0);
    // A full LRU hash makes room; should it fail all the same, the attempt is written again and not lost.
    let _: Result<(), i32> = ATTEMPTS.insert(key, now, 0);
    known == 0 || now.wrapping_sub(known) > SAME_ATTEMPT_NS
}
