//! A fixed table of states, one slot for each hash of the remote address and port. It is all that most connections
//! need: socket storage is allocated and freed for each of them, and takes about half of the probes' time.
//!
//! A slot belongs to the socket whose claim found it unclaimed. Claims are counted by BPF's plain atomic add, which
//! every kernel has: of several claims at once the first reads back 1, any other more, and takes its own back. The
//! daemon turns the table on only where memory is strongly ordered, since that add orders nothing elsewhere.

use core::ptr;

use super::super::{
    maps::{SLOTS, Slot, Tracked, add},
    socket::Socket,
};

/// Takes the slot of `socket` for it; false when another socket has it.
#[inline(always)]
pub fn claim(socket: Socket, state: Tracked) -> bool {
    let Some(slot) = slot_of(socket) else {
        return false;
    };
    // SAFETY: the lookup gave a valid, aligned slot, which lives as long as the program runs; volatile because other
    // CPUs write the claims.
    unsafe {
        if !belongs(slot, socket) {
            add(&raw mut (*slot).claims, 1);
            if (&raw const (*slot).claims).read_volatile() != 1 {
                add(&raw mut (*slot).claims, u64::MAX);
                return false;
            }
        }
        (*slot).state = state;
        (&raw mut (*slot).socket).write_volatile(socket.as_ptr() as u64);
    }
    true
}

/// The state of `socket`, if it has its slot.
#[inline(always)]
pub fn get(socket: Socket) -> Option<*mut Tracked> {
    let slot = slot_of(socket)?;
    // SAFETY: as in `claim`.
    unsafe { if belongs(slot, socket) { Some(&raw mut (*slot).state) } else { None } }
}

/// Gives the slot back and returns its state, if `socket` has it.
#[inline(always)]
pub fn release(socket: Socket) -> Option<Tracked> {
    let slot = slot_of(socket)?;
    // SAFETY: as in `claim`.
    unsafe {
        if !belongs(slot, socket) {
            return None;
        }
        let state = ptr::read_volatile(&raw const (*slot).state);
        add(&raw mut (*slot).claims, u64::MAX);
        Some(state)
    }
}

/// Whether the slot is claimed, and by `socket`. A released slot still names its last socket, but has no claim.
#[inline(always)]
unsafe fn belongs(slot: *mut Slot, socket: Socket) -> bool {
    // SAFETY: by this function's callers, who looked the slot up.
    unsafe {
        (&raw const (*slot).socket).read_volatile() == socket.as_ptr() as u64
            && (&raw const (*slot).claims).read_volatile() != 0
    }
}

#[inline(always)]
fn slot_of(socket: Socket) -> Option<*mut Slot> {
    SLOTS.get_ptr_mut(socket.remote_hash() % Slot::COUNT)
}
