//! Reads from the kernel's `struct sock`, at offsets that come from its BTF.
//!
//! A tp_btf program gets its arguments as typed pointers: the verifier checks each load against the structure, and
//! the kernel turns a fault into a zero. So these are plain loads, without `bpf_probe_read_kernel`.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_skc_to_tcp_request_sock, bpf_skc_to_tcp_sock};
use tracer_ebpf::Field;

use super::settings::offset;

const AF_INET: u16 = 2;
/// `SOCK_DONE` of `enum sock_flags`: `tcp_fin` sets it when the peer's FIN is taken.
const SOCK_DONE: u64 = 1 << 1;

/// A `struct sock *` from a tracepoint's argument.
#[derive(Clone, Copy)]
pub struct Socket(*const c_void);

/// The same socket as `struct tcp_sock *`, through which the fields past `struct sock` can be read.
#[derive(Clone, Copy)]
pub struct TcpSocket(*const c_void);

/// Loads `field` from `base`.
///
/// # Safety
/// `base` is a BTF-typed pointer that the verifier trusts, to the structure that `field` belongs to, and `T` has the
/// member's size.
#[inline(always)]
pub unsafe fn load<T: Copy>(base: *const c_void, field: Field) -> T {
    // SAFETY: by this function's contract; volatile so that the load stays where the verifier can follow it.
    unsafe { base.byte_add(offset(field)).cast::<T>().read_volatile() }
}

/// Inode number of a network namespace.
///
/// # Safety
/// `net` is a typed `struct net *`; it may be null.
#[inline(always)]
pub unsafe fn netns_of(net: *const c_void) -> u32 {
    // SAFETY: by this function's contract; the kernel turns a fault into a zero.
    unsafe { load(net, Field::NetInode) }
}

impl Socket {
    /// Wraps a tracepoint's argument; `None` for the null that `tcp_send_reset` passes without a socket.
    #[inline(always)]
    pub fn new(sk: *const c_void) -> Option<Self> {
        if sk.is_null() { None } else { Some(Self(sk)) }
    }

    pub const fn as_ptr(self) -> *const c_void {
        self.0
    }

    /// The local port in host order; 0 once the port is put back, which is before the tracepoint of CLOSE fires.
    #[inline(always)]
    pub fn local_port(self) -> u16 {
        // SAFETY: `Socket` holds a typed `struct sock *`, which begins with `struct sock_common`.
        unsafe { load(self.0, Field::LocalPort) }
    }

    /// One of `tracer_ebpf::state`.
    #[inline(always)]
    pub fn state(self) -> u8 {
        // SAFETY: as in `local_port`.
        unsafe { load(self.0, Field::State) }
    }

    /// Whether a listener's accept queue takes no more: `sk_acceptq_is_full`.
    #[inline(always)]
    pub fn accept_queue_is_full(self) -> bool {
        // SAFETY: as in `local_port`, and a listener is a full `struct sock`.
        let (queued, most): (u32, u32) =
            unsafe { (load(self.0, Field::AcceptQueue), load(self.0, Field::AcceptQueueMost)) };
        queued > most
    }

    /// The next sequence number of a half-open connection, if this is one.
    #[inline(always)]
    pub fn request_next(self) -> Option<u32> {
        // SAFETY: the helper takes any `struct sock_common *` and returns null for what is no TCP request.
        let request: *const c_void =
            unsafe { bpf_skc_to_tcp_request_sock(self.0.cast_mut()) }.cast_const().cast();
        // SAFETY: a typed `struct tcp_request_sock *`, checked here.
        if request.is_null() { None } else { Some(unsafe { load(request, Field::RequestNext) }) }
    }

    /// The same socket with TCP's own fields; `None` when it is not a full TCP socket.
    #[inline(always)]
    pub fn tcp(self) -> Option<TcpSocket> {
        // SAFETY: the helper takes any `struct sock_common *` and returns null for what is not TCP.
        let tcp: *const c_void = unsafe { bpf_skc_to_tcp_sock(self.0.cast_mut()) }.cast_const().cast();
        if tcp.is_null() { None } else { Some(TcpSocket(tcp)) }
    }

    /// `sk_err`: an errno, or 0.
    #[inline(always)]
    pub fn error(self) -> u32 {
        // SAFETY: as in `local_port`.
        unsafe { load(self.0, Field::Error) }
    }

    /// Whether the peer's FIN was taken.
    #[inline(always)]
    pub fn fin_received(self) -> bool {
        // SAFETY: as in `local_port`.
        unsafe { load::<u64>(self.0, Field::SocketFlags) & SOCK_DONE != 0 }
    }

    /// Inode number of the socket's network namespace.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        // SAFETY: `skc_net` is a pointer, so the loaded value is again a typed pointer, to `struct net`.
        unsafe { netns_of(load(self.0, Field::Net)) }
    }

    /// The remote port in host order.
    #[inline(always)]
    pub fn remote_port(self) -> u16 {
        // SAFETY: as in `local_port`.
        u16::from_be(unsafe { load(self.0, Field::RemotePort) })
    }

    /// A number that spreads the remote addresses and ports; all ports of one IPv4 address differ in it.
    #[inline(always)]
    pub fn remote_hash(self) -> u32 {
        // SAFETY: as in `local_port`. On native IPv6 this word is the same for all, and the ports alone are spread.
        let address: u32 = unsafe { load(self.0, Field::RemoteV4) };
        // Fibonacci hashing: the upper half of the product depends on every bit of the address.
        address.wrapping_mul(0x9e37_79b9) >> 16 ^ u32::from(self.remote_port())
    }

    #[inline(always)]
    pub fn remote_address(self) -> [u8; 16] {
        self.address(Field::RemoteV4, Field::RemoteV6)
    }

    #[inline(always)]
    pub fn local_address(self) -> [u8; 16] {
        self.address(Field::LocalV4, Field::LocalV6)
    }

    /// An IPv4 client of a dual-stack listener is an AF_INET6 socket whose address is IPv4-mapped already; on native
    /// IPv6 the IPv4 fields hold rubbish. So the family decides, and IPv4 is mapped here to give one form.
    #[inline(always)]
    fn address(self, v4: Field, v6: Field) -> [u8; 16] {
        let mut words = [0u32, 0, 0xffff_u32.to_be(), 0];
        // SAFETY: as in `local_port`; `Field::RemoteV6` and `LocalV6` are 16 bytes, read here as four words.
        unsafe {
            if load::<u16>(self.0, Field::Family) == AF_INET {
                words[3] = load(self.0, v4);
            } else {
                let address = self.0.byte_add(offset(v6)).cast::<u32>();
                words[0] = address.read_volatile();
                words[1] = address.add(1).read_volatile();
                words[2] = address.add(2).read_volatile();
                words[3] = address.add(3).read_volatile();
            }
            core::mem::transmute::<[u32; 4], [u8; 16]>(words)
        }
    }
}

impl TcpSocket {
    /// The local port in host order, kept until the socket is gone.
    #[inline(always)]
    pub fn stored_port(self) -> u16 {
        // SAFETY: `TcpSocket` holds a typed `struct tcp_sock *`, which begins with `struct inet_sock`.
        u16::from_be(unsafe { load(self.0, Field::StoredPort) })
    }

    /// Bytes received in order, a FIN counted as one.
    #[inline(always)]
    pub fn bytes_received(self) -> u64 {
        // SAFETY: as in `stored_port`.
        unsafe { load(self.0, Field::BytesReceived) }
    }

    /// Payload bytes sent, each once.
    #[inline(always)]
    pub fn bytes_sent(self) -> u64 {
        // SAFETY: as in `stored_port`.
        let (sent, again): (u64, u64) =
            unsafe { (load(self.0, Field::BytesSent), load(self.0, Field::BytesRetransmitted)) };
        sent.wrapping_sub(again)
    }

    /// Segments with data received.
    #[inline(always)]
    pub fn data_segments_in(self) -> u32 {
        // SAFETY: as in `stored_port`.
        unsafe { load(self.0, Field::DataSegmentsIn) }
    }
}
