//! Reads the IP and TCP headers of a packet that belongs to no established connection, for want of a socket that has
//! its addresses. Never looks behind the TCP header.

use core::ffi::c_void;

use aya_ebpf::helpers::bpf_probe_read_kernel;
use tracer_ebpf::Field;

use super::socket::{load, netns_of};

const PROTOCOL_TCP: u8 = 6;
const FLAG_SYN: u8 = 1 << 1;
const FLAG_RST: u8 = 1 << 2;
const FLAG_ACK: u8 = 1 << 4;

/// A `struct sk_buff *` from a tracepoint's argument, whose headers the network stack has found already.
#[derive(Clone, Copy)]
pub struct Packet(*const c_void);

/// The first 16 bytes of a TCP header (RFC 9293, section 3.1).
#[derive(Clone, Copy)]
pub struct TcpHeader([u8; 16]);

/// Who sent a packet to whom; IPv4 is written IPv4-mapped.
pub struct Addresses {
    pub source: [u8; 16],
    pub destination: [u8; 16],
}

impl Packet {
    /// Wraps a tracepoint's argument; `None` for null.
    #[inline(always)]
    pub fn new(skb: *const c_void) -> Option<Self> {
        if skb.is_null() { None } else { Some(Self(skb)) }
    }

    /// The TCP header, of a packet that is known to be TCP.
    #[inline(always)]
    pub fn tcp_header(self) -> Option<TcpHeader> {
        self.read(Field::TransportHeader).map(TcpHeader)
    }

    /// The addresses, if the packet is IPv4 or IPv6 and its protocol TCP.
    #[inline(always)]
    pub fn tcp_addresses(self) -> Option<Addresses> {
        let header: [u8; 40] = self.read(Field::NetworkHeader)?;
        let (mut source, mut destination) = ([0; 16], [0; 16]);
        match header[0] >> 4 {
            // RFC 791, section 3.1.
            4 if header[9] == PROTOCOL_TCP => {
                source[10..12].copy_from_slice(&[0xff, 0xff]);
                destination[10..12].copy_from_slice(&[0xff, 0xff]);
                source[12..].copy_from_slice(&header[12..16]);
                destination[12..].copy_from_slice(&header[16..20]);
            }
            // RFC 8200, section 3. A packet with extension headers is not recognised.
            6 if header[6] == PROTOCOL_TCP => {
                source.copy_from_slice(&header[8..24]);
                destination.copy_from_slice(&header[24..40]);
            }
            _ => return None,
        }
        Some(Addresses { source, destination })
    }

    /// Inode number of the network namespace of the device that it came in by.
    #[inline(always)]
    pub fn netns(self) -> u32 {
        // SAFETY: both members are pointers to structures, so each loaded value is again a typed pointer; should one be
        // null the kernel turns the next load's fault into a zero.
        unsafe {
            let device: *const c_void = load(self.0, Field::Device);
            netns_of(load(device, Field::DeviceNet))
        }
    }

    /// The first bytes of a header.
    #[inline(always)]
    fn read<const N: usize>(self, header: Field) -> Option<[u8; N]> {
        // SAFETY: `Packet` holds a typed `struct sk_buff *`; the buffer's address is no typed pointer, so the bytes are
        // read by the helper, which checks the address.
        unsafe {
            let head: *const c_void = load(self.0, Field::PacketHead);
            let at: u16 = load(self.0, header);
            bpf_probe_read_kernel(head.byte_add(at.into()).cast::<[u8; N]>()).ok()
        }
    }
}

impl TcpHeader {
    #[inline(always)]
    pub const fn source_port(&self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }

    #[inline(always)]
    pub const fn destination_port(&self) -> u16 {
        u16::from_be_bytes([self.0[2], self.0[3]])
    }

    #[inline(always)]
    pub const fn sequence(&self) -> u32 {
        u32::from_be_bytes([self.0[4], self.0[5], self.0[6], self.0[7]])
    }

    /// A reset, which is not also a SYN.
    #[inline(always)]
    pub const fn is_reset(&self) -> bool {
        self.0[13] & (FLAG_RST | FLAG_SYN) == FLAG_RST
    }

    /// The first packet of a connection.
    #[inline(always)]
    pub const fn is_first(&self) -> bool {
        self.0[13] & (FLAG_SYN | FLAG_ACK | FLAG_RST) == FLAG_SYN
    }

    /// What completes a handshake: an acknowledgement, with or without data.
    #[inline(always)]
    pub const fn is_acknowledgement(&self) -> bool {
        self.0[13] & (FLAG_SYN | FLAG_ACK | FLAG_RST) == FLAG_ACK
    }
}
