//! The few AMQP 0-9-1 frames of a login that is closed in order (AMQP 0-9-1, sections 2.2.4 and 2.3.5).

use std::io::{self, Read};

/// The protocol header.
pub const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// `connection.start`, as a broker with one mechanism sends it.
pub fn start() -> Vec<u8> {
    method(10, &[&[0, 9], &long(b""), &long(b"PLAIN"), &long(b"en_US")])
}

/// `connection.start-ok` of the account that every RabbitMQ lets in from loopback.
pub fn start_ok() -> Vec<u8> {
    method(11, &[&long(b""), &short(b"PLAIN"), &long(b"\0guest\0guest"), &short(b"en_US")])
}

/// `connection.tune`, with RabbitMQ's own numbers.
pub fn tune() -> Vec<u8> {
    method(30, &[&limits()])
}

/// `connection.tune-ok`.
pub fn tune_ok() -> Vec<u8> {
    method(31, &[&limits()])
}

/// `connection.open` of the default virtual host.
pub fn open() -> Vec<u8> {
    method(40, &[&short(b"/"), &short(b""), &[0]])
}

/// `connection.open-ok`.
pub fn open_ok() -> Vec<u8> {
    method(41, &[&short(b"")])
}

/// `connection.close` with reply code 200.
pub fn close() -> Vec<u8> {
    method(50, &[&200_u16.to_be_bytes(), &short(b"bye"), &[0, 0, 0, 0]])
}

/// `connection.close-ok`.
pub fn close_ok() -> Vec<u8> {
    method(51, &[])
}

/// Reads one frame and forgets it.
pub fn read(from: &mut impl Read) -> io::Result<()> {
    let mut head = [0; 7];
    from.read_exact(&mut head)?;
    let payload = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
    let left = u64::from(payload) + 1;
    let read = io::copy(&mut from.take(left), &mut io::sink())?;
    if read == left { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// A method frame of class `connection` on channel 0.
fn method(method: u8, arguments: &[&[u8]]) -> Vec<u8> {
    let mut payload = vec![0, 10, 0, method];
    payload.extend(arguments.concat());
    let mut frame = vec![1, 0, 0];
    frame.extend(u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

/// channel-max 2047, frame-max 128 KiB, heartbeat 60 s.
fn limits() -> Vec<u8> {
    [&2047_u16.to_be_bytes()[..], &131_072_u32.to_be_bytes(), &60_u16.to_be_bytes()].concat()
}

/// A long string, or an empty table, which is written the same.
fn long(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes()[..], bytes].concat()
}

fn short(bytes: &[u8]) -> Vec<u8> {
    [&[u8::try_from(bytes.len()).unwrap_or(u8::MAX)][..], bytes].concat()
}
