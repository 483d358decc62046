//! Ports of one's own. The tracer sees every network namespace of the host, so what keeps tests that run at once apart
//! is that each watches ports nobody else uses.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which the kernel takes the clients' ports, so that no client's port is a watched one.
const FIRST: u32 = 20_000;
const COUNT: u32 = 12_000;

static TAKEN: AtomicU32 = AtomicU32::new(0);

/// A port that nobody listens on and that this process has not given out before.
pub fn free() -> u16 {
    // Another test process begins elsewhere in the range.
    let begin = std::process::id().wrapping_mul(61);
    for _ in 0..COUNT {
        let place = begin.wrapping_add(TAKEN.fetch_add(1, Ordering::Relaxed)) % COUNT;
        let port = u16::try_from(FIRST + place).unwrap();
        if is_free(port) {
            return port;
        }
    }
    panic!("no free port from {FIRST} to {}", FIRST + COUNT);
}

/// As many different free ports.
pub fn several(count: usize) -> Vec<u16> {
    (0..count).map(|_| free()).collect()
}

fn is_free(port: u16) -> bool {
    let taken = |address: SocketAddr| {
        TcpListener::bind(address).is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
    };
    !taken((Ipv4Addr::UNSPECIFIED, port).into()) && !taken((Ipv6Addr::UNSPECIFIED, port).into())
}
