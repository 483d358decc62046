//! The load: connections on loopback that are reset as soon as they are established, as fast as one thread makes them
//! and another accepts them.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::net::sockopt::set_socket_linger;
use rustix::net::{AddressFamily, SocketType, bind, connect, listen, socket};

/// How many connections may wait to be accepted: less than the queue takes, also where the system caps it at 128.
const AHEAD: u64 = 100;

/// A listener that accepts and closes, and how many connections a run makes to it.
pub(crate) struct Load {
    connections: u32,
    address: SocketAddrV4,
    accepted: Arc<AtomicU64>,
    progress: mpsc::Receiver<u64>,
}

impl Load {
    /// Listens on a free port of loopback, for as long as the process lives.
    pub(crate) fn new(connections: u32) -> Result<Self> {
        let listener = listener().context("cannot listen on loopback")?;
        let port = listener.local_addr().context("cannot read the listener's port")?.port();
        let accepted = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&accepted);
        let (tell, progress) = mpsc::channel();
        thread::spawn(move || {
            for connection in listener.incoming() {
                drop(connection);
                let count = counter.fetch_add(1, Ordering::Relaxed) + 1;
                if count.is_multiple_of(u64::from(connections)) {
                    let _ = tell.send(count);
                }
            }
        });
        Ok(Self { connections, address: SocketAddrV4::new(Ipv4Addr::LOCALHOST, port), accepted, progress })
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// Makes the connections; returns how long it took until the last was accepted and closed on both sides.
    pub(crate) fn run(&self) -> Result<Duration> {
        self.run_from(|_| Ipv4Addr::LOCALHOST)
    }

    /// The same, each from an address of its own: all of 127.0.0.0/8 is local.
    pub(crate) fn run_from_everywhere(&self) -> Result<Duration> {
        let first = Ipv4Addr::new(127, 1, 0, 0).to_bits();
        self.run_from(|made| Ipv4Addr::from_bits(first + u32::try_from(made).unwrap_or(0)))
    }

    fn run_from(&self, source: impl Fn(u64) -> Ipv4Addr) -> Result<Duration> {
        let before = self.accepted.load(Ordering::Relaxed);
        let start = Instant::now();
        for made in 0..u64::from(self.connections) {
            // A full accept queue would drop a SYN, and a second's wait for its repetition would be all that is measured.
            while before + made > self.accepted.load(Ordering::Relaxed) + AHEAD {
                thread::yield_now();
            }
            connect_and_reset(source(made), self.address).context("a connection of the load failed")?;
        }
        let wanted = before + u64::from(self.connections);
        while self.progress.recv_timeout(Duration::from_secs(30)).context("the listener fell behind")?
            < wanted
        {}
        Ok(start.elapsed())
    }
}

fn listener() -> io::Result<TcpListener> {
    let listener = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&listener, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0))?;
    listen(&listener, 4096)?;
    Ok(TcpListener::from(listener))
}

fn connect_and_reset(source: Ipv4Addr, address: SocketAddrV4) -> io::Result<()> {
    let stream = socket(AddressFamily::INET, SocketType::STREAM, None)?;
    if source != Ipv4Addr::LOCALHOST {
        bind(&stream, &SocketAddrV4::new(source, 0))?;
    }
    connect(&stream, &address)?;
    Ok(set_socket_linger(&stream, Some(Duration::ZERO))?)
}
