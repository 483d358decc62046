//! Every map, and the counters' one way in. Sizes are fixed: nothing here grows with traffic.

use core::arch::asm;

use aya_ebpf::{
    btf_maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf, SkStorage},
    macros::btf_map,
};
use tracer_ebpf::{ConnectionRecord, Counter, OverflowKey, OverflowValue};

/// What is remembered of a connection from ESTABLISHED to CLOSE.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tracked {
    /// CLOCK_MONOTONIC, nanoseconds; 0 when it was established before the tracer.
    pub established_ns: u64,
    /// Bits of `tracer_ebpf::flag`, widened so that they can be set atomically.
    pub flags: u64,
}

/// A socket and the state it came into.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct StateChange {
    /// The kernel's address of it.
    pub socket: u64,
    /// One of `tracer_ebpf::state`.
    pub new: u64,
}

impl StateChange {
    /// A power of two, far above how many state changes happen at the same time.
    pub const COUNT: u32 = 4_096;
}

/// Finished connections on their way to the daemon, which may set another size at load.
#[btf_map]
pub static RECORDS: RingBuf<ConnectionRecord, { 4 << 20 }> = RingBuf::new();

/// A place in [`SLOTS`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Slot {
    /// How many sockets claim the slot at this moment: 0 or 1, more only while a claim is being refused.
    pub claims: u64,
    /// The kernel's address of the socket that claimed it last.
    pub socket: u64,
    pub state: Tracked,
}

impl Slot {
    /// A power of two: about as many connections as a broker has open, at 32 bytes each.
    pub const COUNT: u32 = 65_536;
}

/// A handshake that found the accept queue full.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Attempt {
    pub source: [u8; 16],
    pub netns: u32,
    pub source_port: u16,
    pub destination_port: u16,
}

/// When each such handshake was tried last: CLOCK_MONOTONIC, nanoseconds.
#[btf_map]
pub static ATTEMPTS: LruHashMap<Attempt, u64, 16_384> = LruHashMap::new();

/// State per socket in fixed places. The daemon shrinks it to one place where it is not used.
#[btf_map]
pub static SLOTS: Array<Slot, { Slot::COUNT as usize }> = Array::new();

/// State per socket, freed by the kernel with the socket.
#[btf_map]
pub static SOCKETS: SkStorage<Tracked> = SkStorage::new();

/// State per socket by its address, where tracing programs may not use socket storage (kernels before 5.11). The
/// daemon shrinks it to one entry elsewhere.
#[btf_map]
pub static SOCKETS_HASH: LruHashMap<u64, Tracked, 65_536> = LruHashMap::new();

#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::ALL.len() }> = PerCpuArray::new();

/// The last state change that a program on `inet_sock_set_state` saw of the sockets in each place.
#[btf_map]
pub static SEEN: Array<StateChange, { StateChange::COUNT as usize }> = Array::new();

/// Totals per source while the ring is full.
#[btf_map]
pub static OVERFLOW: HashMap<OverflowKey, OverflowValue, 32_768> = HashMap::new();

/// The generation of new overflow entries.
#[btf_map]
pub static GENERATION: Array<u32, 1> = Array::new();

/// Adds one to a counter.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(slot) = COUNTERS.get_ptr_mut(counter.slot()) {
        // A program can be interrupted by another one in softirq on the same CPU, so even a per-CPU slot is added to
        // atomically. SAFETY: the map lookup gave a valid, aligned slot that lives as long as the program runs.
        unsafe { add(slot, 1) };
    }
}

/// Adds to a map's value atomically: BPF's own add instruction, known to every kernel that has BPF.
///
/// # Safety
/// `slot` points into a map's value, aligned to 8.
#[inline(always)]
pub unsafe fn add(slot: *mut u64, amount: u64) {
    // SAFETY: by this function's contract; the instruction touches these eight bytes and nothing else.
    unsafe { asm!("lock *(u64 *)({slot} + 0) += {amount}", slot = in(reg) slot, amount = in(reg) amount) };
}
