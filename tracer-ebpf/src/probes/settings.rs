//! What the daemon sets before load. The map behind these is frozen, so the verifier takes each value for a constant:
//! an unused branch is not even verified, and a structure offset is as good as one written in the code.

use aya_ebpf::Global;
use tracer_ebpf::{Field, PORT_WORDS, bit_of, word_of};

#[unsafe(no_mangle)]
static OFFSETS: Global<[u32; Field::COUNT]> = Global::new([0; Field::COUNT]);

#[unsafe(no_mangle)]
static PORTS: Global<[u64; PORT_WORDS]> = Global::new([0; PORT_WORDS]);

#[unsafe(no_mangle)]
static SOCKET_STORAGE: Global<u8> = Global::new(1);

#[unsafe(no_mangle)]
static SOCKET_SLOTS: Global<u8> = Global::new(0);

#[unsafe(no_mangle)]
static REPEATED: Global<u8> = Global::new(0);

#[unsafe(no_mangle)]
static WAKE_AT: Global<u64> = Global::new(0);

#[unsafe(no_mangle)]
static DROP_WITHOUT_LISTENER: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static DROP_OF_HALF_OPEN: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static DROP_OF_COOKIE: Global<u32> = Global::new(0);

#[unsafe(no_mangle)]
static DROP_WITHOUT_ROOM: Global<u32> = Global::new(0);

/// The byte offset of `field` in the running kernel.
#[inline(always)]
pub fn offset(field: Field) -> usize {
    // SAFETY: `Field`'s discriminants are the places in this array, and the read is volatile because the daemon
    // writes the value after compilation.
    unsafe { (&raw const OFFSETS).cast::<u32>().add(field as usize).read_volatile() as usize }
}

/// Whether `port` (host order) is watched.
#[inline(always)]
pub fn watched(port: u16) -> bool {
    // SAFETY: `word_of` is below `PORT_WORDS` for every port; volatile as above.
    let word = unsafe { (&raw const PORTS).cast::<u64>().add(word_of(port)).read_volatile() };
    word & bit_of(port) != 0
}

/// Whether per-socket state has a table of slots in front.
#[inline(always)]
pub fn socket_slots() -> bool {
    SOCKET_SLOTS.load() != 0
}

/// Whether per-socket state, or what of it has no slot, lives in socket storage.
#[inline(always)]
pub fn socket_storage() -> bool {
    SOCKET_STORAGE.load() != 0
}

/// Whether further programs are attached to `inet_sock_set_state`.
#[inline(always)]
pub fn repeated() -> bool {
    REPEATED.load() != 0
}

/// The kernel's reason for dropping a SYN that found nobody listening; 0 where it is not to be looked for.
#[inline(always)]
pub fn drop_without_listener() -> u32 {
    DROP_WITHOUT_LISTENER.load()
}

/// The kernel's reason for dropping the RST of a half-open connection; 0 where it is not to be looked for.
#[inline(always)]
pub fn drop_of_half_open() -> u32 {
    DROP_OF_HALF_OPEN.load()
}

/// The kernel's reason for dropping an ACK that brings back a SYN cookie; 0 where it is not to be looked for.
#[inline(always)]
pub fn drop_of_cookie() -> u32 {
    DROP_OF_COOKIE.load()
}

/// The kernel's reason for dropping what completes a handshake into a full accept queue; 0 where it is not to be
/// looked for.
#[inline(always)]
pub fn drop_without_room() -> u32 {
    DROP_WITHOUT_ROOM.load()
}

/// Unread bytes in the ring at which the daemon is woken.
#[inline(always)]
pub fn wake_at() -> u64 {
    WAKE_AT.load()
}
