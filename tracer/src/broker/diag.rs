//! Asks the kernel for TCP sockets: a `NETLINK_SOCK_DIAG` dump with `struct tcp_info`, read as it comes.

use std::{io, mem::offset_of, time::Duration};

use netlink_packet_core::{
    DefaultNla, Emitable as _, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NLMSG_NOOP, NLMSG_OVERRUN, NetlinkBuffer, NetlinkHeader, NlasIterator, Parseable as _,
};
use netlink_packet_sock_diag::{
    constants::{AF_INET, AF_INET6, INET_DIAG_INFO, IPPROTO_TCP, SOCK_DIAG_BY_FAMILY},
    inet::{ExtensionFlags, InetRequest, InetResponseHeader, SocketId, StateFlags},
};
use rustix::{
    fd::OwnedFd,
    io::{Errno, retry_on_intr},
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with,
        sockopt::{Timeout, set_socket_timeout},
    },
};
use thiserror::Error;

/// Attribute of a request: the filter of [`filter`](super::filter).
const INET_DIAG_REQ_BYTECODE: u16 = 1;
/// The only request on a socket has the only number.
const SEQUENCE: u32 = 1;
/// The kernel makes no larger messages.
const BUFFER: usize = 32 * 1024;
/// A dump is written while it is read, so nothing is ever waited for; but never for good.
const PATIENCE: Duration = Duration::from_secs(10);
/// Length of `inet_diag_msg`, which the attributes follow.
const RESPONSE: usize = 72;

/// Why a dump is not complete.
#[derive(Debug, Error)]
pub enum DiagError {
    /// The kernel has no `tcp_diag`, neither built in nor as a module to be had here.
    #[error("this kernel has no tcp_diag, which tells the open connections")]
    Unsupported,
    /// The kernel's tables changed while it was read, or the socket's buffer was full.
    #[error("the kernel interrupted the dump of its sockets")]
    Interrupted,
    /// The kernel refused.
    #[error("the kernel does not tell its sockets: {0}")]
    Refused(#[source] io::Error),
    /// The kernel said what is not understood.
    #[error("the kernel's message about its sockets is not understood: {0}")]
    Malformed(&'static str),
}

impl From<io::Error> for DiagError {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ENOENT) => Self::Unsupported,
            Some(libc::ENOBUFS) => Self::Interrupted,
            _ => Self::Refused(error),
        }
    }
}

impl From<Errno> for DiagError {
    fn from(error: Errno) -> Self {
        io::Error::from(error).into()
    }
}

/// The members of `struct tcp_info` that are of use here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpInfo {
    /// `tcpi_bytes_received`: how far `rcv_nxt` has moved, which a FIN does too.
    pub(super) bytes_received: u64,
    /// `tcpi_data_segs_in`.
    pub(super) data_segments_in: u32,
    /// `tcpi_last_data_recv`: milliseconds since the last data, or since the handshake while there was none.
    pub(super) last_data_received: u32,
}

impl TcpInfo {
    /// The structure grows at its end with each kernel, so no more of it is asked for than is used.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let u32_at = |at: usize| Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?));
        let u64_at = |at: usize| Some(u64::from_ne_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        Some(Self {
            bytes_received: u64_at(offset_of!(libc::tcp_info, tcpi_bytes_received))?,
            data_segments_in: u32_at(offset_of!(libc::tcp_info, tcpi_data_segs_in))?,
            last_data_received: u32_at(offset_of!(libc::tcp_info, tcpi_last_data_recv))?,
        })
    }
}

/// Dumps the TCP sockets of this thread's network namespace, IPv4 first, that are in one of `states` and that `filter`
/// keeps. Calls `each` with every one; one in TIME_WAIT has no `tcp_info`.
pub(super) fn dump(
    states: &StateFlags,
    filter: &[u8],
    each: &mut impl FnMut(&InetResponseHeader, Option<TcpInfo>),
) -> Result<(), DiagError> {
    for family in [AF_INET, AF_INET6] {
        let flags = SocketFlags::CLOEXEC;
        let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, flags, Some(netlink::SOCK_DIAG))?;
        set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
        // To nobody is to the kernel.
        send(&socket, &request(family, states.clone(), filter), SendFlags::empty())?;
        read(&socket, each)?;
    }
    Ok(())
}

/// The bytes of a request.
fn request(family: u8, states: StateFlags, filter: &[u8]) -> Vec<u8> {
    let socket_id = if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() };
    let body =
        InetRequest { family, protocol: IPPROTO_TCP, extensions: ExtensionFlags::INFO, states, socket_id };
    let filter = DefaultNla::new(INET_DIAG_REQ_BYTECODE, filter.to_owned());
    let mut header = NetlinkHeader::default();
    let attributes = header.buffer_len() + body.buffer_len();
    let length = attributes + filter.buffer_len();
    header.length = u32::try_from(length).unwrap_or(u32::MAX);
    header.message_type = SOCK_DIAG_BY_FAMILY;
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    header.sequence_number = SEQUENCE;
    let mut bytes = vec![0; length];
    header.emit(&mut bytes[..header.buffer_len()]);
    body.emit(&mut bytes[header.buffer_len()..attributes]);
    filter.emit(&mut bytes[attributes..]);
    bytes
}

/// Reads one answer to its end.
fn read(
    socket: &OwnedFd,
    each: &mut impl FnMut(&InetResponseHeader, Option<TcpInfo>),
) -> Result<(), DiagError> {
    let mut buffer = vec![0; BUFFER];
    let mut interrupted = false;
    loop {
        let (_, length) = retry_on_intr(|| recv(socket, &mut buffer[..], RecvFlags::TRUNC))?;
        let datagram = buffer.get(..length).ok_or(DiagError::Malformed("it is longer than 32 KiB"))?;
        if messages(datagram, &mut interrupted, each)? {
            return if interrupted { Err(DiagError::Interrupted) } else { Ok(()) };
        }
    }
}

/// Takes the messages out of what one `recv` gave; true for the last.
fn messages(
    datagram: &[u8],
    interrupted: &mut bool,
    each: &mut impl FnMut(&InetResponseHeader, Option<TcpInfo>),
) -> Result<bool, DiagError> {
    let mut rest = datagram;
    while !rest.is_empty() {
        let message =
            NetlinkBuffer::new_checked(rest).map_err(|_| DiagError::Malformed("a message is cut off"))?;
        let length = usize::try_from(message.length()).unwrap_or(usize::MAX);
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        if message.sequence_number() != SEQUENCE {
            continue;
        }
        *interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
        match message.message_type() {
            NLMSG_DONE => return code(message.payload()).map(|()| true),
            NLMSG_ERROR => {
                code(message.payload())?;
                return Err(DiagError::Malformed("an acknowledgement in a dump"));
            }
            NLMSG_OVERRUN => *interrupted = true,
            SOCK_DIAG_BY_FAMILY => response(message.payload(), each)?,
            NLMSG_NOOP => {}
            _ => return Err(DiagError::Malformed("a message of another type")),
        }
    }
    Ok(false)
}

/// The error number that ends a dump, negative; zero is none.
fn code(payload: &[u8]) -> Result<(), DiagError> {
    let code = payload.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
    if code == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(code.saturating_neg()).into()) }
}

/// One `inet_diag_msg` and its attributes.
fn response(
    payload: &[u8],
    each: &mut impl FnMut(&InetResponseHeader, Option<TcpInfo>),
) -> Result<(), DiagError> {
    let header = InetResponseHeader::parse(payload).map_err(|_| DiagError::Malformed("no inet_diag_msg"))?;
    let mut info = None;
    for attribute in NlasIterator::new(payload.get(RESPONSE..).unwrap_or_default()) {
        let attribute = attribute.map_err(|_| DiagError::Malformed("an attribute is cut off"))?;
        if attribute.kind() == INET_DIAG_INFO {
            let parsed = TcpInfo::parse(attribute.value());
            info = Some(parsed.ok_or(DiagError::Malformed("a tcp_info of before Linux 4.6"))?);
        }
    }
    each(&header, info);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    /// A message as the kernel writes it.
    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let mut header = NetlinkHeader::default();
        header.length = (header.buffer_len() + payload.len()).try_into().unwrap();
        (header.message_type, header.flags, header.sequence_number) = (kind, flags, SEQUENCE);
        let mut bytes = vec![0; header.buffer_len()];
        header.emit(&mut bytes);
        bytes.extend(payload);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// An IPv4 socket with a `tcp_info` of this length, which is not the first attribute.
    fn socket(info: usize) -> Vec<u8> {
        let mut payload = vec![0; RESPONSE];
        (payload[0], payload[1]) = (AF_INET, 1);
        let mut values = vec![0; info.max(512)];
        for (at, value) in [
            (offset_of!(libc::tcp_info, tcpi_bytes_received), 68),
            (offset_of!(libc::tcp_info, tcpi_data_segs_in), 3),
            (offset_of!(libc::tcp_info, tcpi_last_data_recv), 1_500),
        ] {
            values[at..at + 4].copy_from_slice(&u32::to_ne_bytes(value));
        }
        for attribute in
            [DefaultNla::new(8, vec![0]), DefaultNla::new(INET_DIAG_INFO, values[..info].to_vec())]
        {
            let mut bytes = vec![0; attribute.buffer_len()];
            attribute.emit(&mut bytes);
            payload.extend(bytes);
        }
        payload
    }

    /// What a datagram gives: sockets, whether it was the last, whether it was interrupted.
    fn take(datagram: &[u8]) -> Result<(Vec<Option<TcpInfo>>, bool, bool), DiagError> {
        let (mut found, mut interrupted) = (Vec::new(), false);
        let last = messages(datagram, &mut interrupted, &mut |_, info| found.push(info))?;
        Ok((found, last, interrupted))
    }

    #[test]
    fn sockets_of_older_and_newer_kernels() {
        let expected = TcpInfo { bytes_received: 68, data_segments_in: 3, last_data_received: 1_500 };
        // Linux 4.9, 5.10 and one to come.
        for length in [192, 232, 400] {
            let two = [message(20, 0, &socket(length)), message(20, 0, &socket(length))].concat();
            assert_eq!(take(&two).unwrap(), (vec![Some(expected); 2], false, false));
        }
        // One in TIME_WAIT has no tcp_info.
        assert_eq!(take(&message(20, 0, &socket(192)[..RESPONSE])).unwrap(), (vec![None], false, false));
    }

    #[test]
    fn how_a_dump_ends() {
        assert_eq!(take(&message(NLMSG_DONE, 0, &[0; 4])).unwrap(), (vec![], true, false));
        assert_eq!(take(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[])).unwrap(), (vec![], true, true));
        let interrupted =
            [message(20, NLM_F_DUMP_INTR, &socket(232)), message(NLMSG_DONE, 0, &[0; 4])].concat();
        let (found, last, interrupted) = take(&interrupted).unwrap();
        assert_eq!((found.len(), last, interrupted), (1, true, true));
        let failed = |kind, code: i32| take(&message(kind, 0, &code.to_ne_bytes())).unwrap_err();
        assert!(matches!(failed(NLMSG_ERROR, -libc::ENOENT), DiagError::Unsupported));
        assert!(matches!(failed(NLMSG_ERROR, -libc::EPERM), DiagError::Refused(_)));
        assert!(matches!(failed(NLMSG_DONE, -libc::EINVAL), DiagError::Refused(_)));
        assert!(matches!(failed(NLMSG_DONE, -libc::ENOBUFS), DiagError::Interrupted));
        assert!(matches!(failed(NLMSG_ERROR, 0), DiagError::Malformed(_)));
        assert!(matches!(failed(NLMSG_ERROR, i32::MIN), DiagError::Refused(_)));
    }

    /// Whatever is cut off or changed: an error or less, but never a panic, and never without an end.
    #[test]
    fn nothing_that_is_sent_panics() {
        let good = [message(20, 0, &socket(232)), message(NLMSG_DONE, 0, &[0; 4])].concat();
        for length in 0..good.len() {
            let _ = take(&good[..length]);
        }
        for at in 0..good.len() {
            for value in [0, 1, 3, 4, 15, 16, 17, 0x7f, 0x80, 0xff] {
                let mut bad = good.clone();
                bad[at] = value;
                let _ = take(&bad);
            }
        }
        assert!(matches!(take(&message(20, 0, &[0; 8])), Err(DiagError::Malformed(_))));
        assert!(matches!(take(&message(20, 0, &socket(100))), Err(DiagError::Malformed(_))));
        assert!(matches!(take(&message(77, 0, &[])), Err(DiagError::Malformed(_))));
    }
}
