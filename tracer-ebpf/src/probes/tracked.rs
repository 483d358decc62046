//! Where the state of a connection is kept between its tracepoints: in a slot of a fixed table, which costs no
//! allocation; where that is taken, in the socket itself, or in an LRU hash on kernels whose tracing programs cannot. (The
//! settings are constants to the verifier, so a way that is not taken is not even looked at.)

mod slots;

use core::{ffi::c_void, ptr};

use aya_ebpf::{bindings::BPF_SK_STORAGE_GET_F_CREATE, helpers::generated::bpf_sk_storage_get};
use tracer_ebpf::Counter;

use super::{
    maps::{SOCKETS, SOCKETS_HASH, Tracked, count},
    settings::{socket_slots, socket_storage},
    socket::Socket,
};

/// Begins to track `socket`; a failure is counted.
#[inline(always)]
pub fn begin(socket: Socket, state: Tracked) {
    if socket_slots() && slots::claim(socket, state) {
        return;
    }
    let kept = if socket_storage() {
        let mut state = state;
        !storage(socket, (&raw mut state).cast(), BPF_SK_STORAGE_GET_F_CREATE.into()).is_null()
    } else {
        SOCKETS_HASH.insert(key(socket), state, 0).is_ok()
    };
    if !kept {
        count(Counter::StateFailed);
    }
}

/// Whether `socket` is tracked.
#[inline(always)]
pub fn is_tracked(socket: Socket) -> bool {
    get(socket).is_some()
}

/// Sets bits of `tracer_ebpf::flag` on `socket`, if it is tracked.
#[inline(always)]
pub fn mark(socket: Socket, flag: u16) -> bool {
    let Some(state) = get(socket) else {
        return false;
    };
    // The kernel holds the socket's lock at both tracepoints of resets, so no other CPU writes these flags now.
    // SAFETY: `get` gives a pointer into a map's value that stays valid while the program runs.
    unsafe { (*state).flags |= u64::from(flag) };
    true
}

/// What is known of `socket`, and forgets it where the kernel does not do so with the socket.
#[inline(always)]
pub fn end(socket: Socket) -> Option<Tracked> {
    if socket_slots()
        && let Some(state) = slots::release(socket)
    {
        return Some(state);
    }
    // SAFETY: as in `mark`.
    let state = get_behind(socket).map(|state| unsafe { *state });
    if state.is_some() && !socket_storage() {
        // It can only be gone already, by eviction.
        let _: Result<(), i32> = SOCKETS_HASH.remove(key(socket));
    }
    state
}

#[inline(always)]
fn get(socket: Socket) -> Option<*mut Tracked> {
    if socket_slots()
        && let Some(state) = slots::get(socket)
    {
        return Some(state);
    }
    get_behind(socket)
}

/// The state of a socket that has no slot.
#[inline(always)]
fn get_behind(socket: Socket) -> Option<*mut Tracked> {
    if socket_storage() {
        let state = storage(socket, ptr::null_mut(), 0);
        if state.is_null() { None } else { Some(state) }
    } else {
        SOCKETS_HASH.get_ptr_mut(key(socket))
    }
}

/// aya's own `SkStorage` methods take a socket-address context only, so the helper is called as it is.
#[inline(always)]
fn storage(socket: Socket, value: *mut c_void, flags: u64) -> *mut Tracked {
    // SAFETY: the map's address and a typed socket pointer are what the helper takes; it gives null or a `Tracked`.
    unsafe {
        bpf_sk_storage_get((&raw const SOCKETS).cast_mut().cast(), socket.as_ptr().cast_mut(), value, flags)
    }
    .cast()
}

#[inline(always)]
fn key(socket: Socket) -> u64 {
    socket.as_ptr() as u64
}
