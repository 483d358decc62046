//! The one place that writes records: into the ring, or while the ring is full into the sums per source.

use aya_ebpf::{
    EbpfContext,
    bindings::{BPF_NOEXIST, BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP},
    helpers::{bpf_ktime_get_ns, generated::bpf_ringbuf_query},
};
use aya_log_ebpf::{debug, warn};
use tracer_ebpf::{ConnectionRecord, Counter, Outcome, OverflowKey, OverflowValue, flag, kind};

use super::{
    maps::{GENERATION, OVERFLOW, RECORDS, Tracked, add, count},
    settings::wake_at,
    socket::{Socket, TcpSocket},
};

/// Writes the record of a connection that has just closed.
#[inline(always)]
pub fn connection(ctx: &impl EbpfContext, socket: Socket, tcp: TcpSocket, known: Tracked, last_state: u8) {
    let fin = socket.fin_received();
    let record = ConnectionRecord {
        // SAFETY: the helper has no preconditions.
        closed_ns: unsafe { bpf_ktime_get_ns() },
        established_ns: known.established_ns,
        bytes_in: tcp.bytes_received().saturating_sub(fin.into()),
        bytes_out: tcp.bytes_sent(),
        source: socket.remote_address(),
        destination: socket.local_address(),
        netns: socket.netns(),
        segments_in: tcp.data_segments_in(),
        error: socket.error(),
        source_port: socket.remote_port(),
        destination_port: tcp.stored_port(),
        flags: known.flags as u16 | if fin { flag::FIN_RECEIVED } else { 0 },
        last_state,
        kind: kind::CONNECTION,
        reserved: 0,
    };
    write(ctx, &record);
}

/// Writes a record.
#[inline(always)]
pub fn write(ctx: &impl EbpfContext, record: &ConnectionRecord) {
    count(Counter::Seen);
    if RECORDS.output(*record, wake_flag()).is_ok() {
        count(Counter::Sent);
        debug!(
            ctx,
            "closed from state {}, source port {}, kind {}",
            record.last_state,
            record.source_port,
            record.kind
        );
    } else {
        count(Counter::RingFull);
        overflow(ctx, record);
    }
}

/// The daemon drains on a timer; it is woken in between only at the record that takes the ring past its mark, so that
/// a flood costs one wake-up and not one a record.
#[inline(always)]
fn wake_flag() -> u64 {
    // SAFETY: the helper takes the ring's address and one of its query flags.
    let unread =
        unsafe { bpf_ringbuf_query((&raw const RECORDS).cast_mut().cast(), BPF_RB_AVAIL_DATA.into()) };
    /// What a record takes in the ring, its header of 8 bytes included.
    const RECORD_IN_RING: u64 = ConnectionRecord::SIZE as u64 + 8;
    if unread.wrapping_sub(wake_at()) < RECORD_IN_RING {
        BPF_RB_FORCE_WAKEUP.into()
    } else {
        BPF_RB_NO_WAKEUP.into()
    }
}

#[inline(always)]
fn overflow(ctx: &impl EbpfContext, record: &ConnectionRecord) {
    let key = OverflowKey {
        source: record.source,
        generation: GENERATION.get(0).copied().unwrap_or(0),
        destination_port: record.destination_port,
        outcome: Outcome::of(record).pack(),
    };
    if add_to(&key, record) {
        return;
    }
    let first = OverflowValue {
        connections: 1,
        bytes_in: record.bytes_in,
        bytes_out: record.bytes_out,
        first_ns: record.closed_ns,
        last_ns: record.closed_ns,
    };
    // Another CPU may have inserted the same key meanwhile; then there is an entry to add to.
    if OVERFLOW.insert(key, first, BPF_NOEXIST.into()).is_err() && !add_to(&key, record) {
        count(Counter::OverflowFull);
        warn!(ctx, "ring and overflow table are full");
    }
}

#[inline(always)]
fn add_to(key: &OverflowKey, record: &ConnectionRecord) -> bool {
    let Some(sums) = OVERFLOW.get_ptr_mut(key) else {
        return false;
    };
    // SAFETY: the lookup gave a valid, aligned value that lives as long as the program runs; all CPUs add to it
    // atomically, and of several last times any one is true enough.
    unsafe {
        add(&raw mut (*sums).connections, 1);
        add(&raw mut (*sums).bytes_in, record.bytes_in);
        add(&raw mut (*sums).bytes_out, record.bytes_out);
        (*sums).last_ns = record.closed_ns;
    }
    true
}
