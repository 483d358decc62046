//! What sources do to a broker, one connection at a time. Each generator returns the address and port that it came
//! from, so that a test knows whom the tracer must name.

use std::{
    io::{self, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use rustix::thread::{CpuSet, sched_getcpu, sched_setaffinity};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::{DEADLINE, Listener, listener::start_frame};

/// What a client of AMQP 0-9-1 begins with.
pub use super::listener::HEADER;

/// Stands for what a client says after the header: 60 bytes, in one segment.
pub const LOGIN: [u8; 60] = [b'l'; 60];

/// What a browser, or a health check for the wrong protocol, sends.
pub const HTTP: &[u8] = b"GET / HTTP/1.1\r\nHost: broker\r\n\r\n";

/// A source's end of an established connection.
pub struct Client {
    stream: TcpStream,
    /// The address and port it came from.
    pub local: SocketAddr,
}

/// Connects from `source` to `destination`; panics when that fails.
pub fn connect(source: IpAddr, destination: SocketAddr) -> Client {
    connect_from(SocketAddr::new(source, 0), destination)
}

/// The same from a port of one's own choice.
pub fn connect_from(source: SocketAddr, destination: SocketAddr) -> Client {
    connect_on(bound(source, destination), destination)
}

/// The same, but the kernel holds the handshake's last ACK back until there is something to send, for 200 ms at most:
/// as HAProxy does it, whose reset then comes before it.
pub fn connect_without_ack(source: IpAddr, destination: SocketAddr) -> Client {
    let socket = bound(SocketAddr::new(source, 0), destination);
    socket.set_tcp_quickack(false).unwrap();
    connect_on(socket, destination)
}

/// Tries to connect where nobody listens; gives the address and port that it came from.
pub fn be_refused(source: IpAddr, destination: SocketAddr) -> SocketAddr {
    let socket = bound(SocketAddr::new(source, 0), destination);
    let error = socket.connect(&destination.into()).expect_err("nobody listens");
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    socket.local_addr().unwrap().as_socket().unwrap()
}

fn bound(source: SocketAddr, destination: SocketAddr) -> Socket {
    stay_on_this_cpu();
    let socket = Socket::new(Domain::for_address(destination), Type::STREAM, Some(Protocol::TCP)).unwrap();
    if source.port() != 0 {
        socket.set_reuse_address(true).unwrap();
    }
    socket.bind(&source.into()).unwrap_or_else(|error| panic!("cannot come from {source}: {error}"));
    socket
}

fn connect_on(socket: Socket, destination: SocketAddr) -> Client {
    let source = socket.local_addr().unwrap().as_socket().unwrap();
    socket
        .connect(&destination.into())
        .unwrap_or_else(|error| panic!("cannot connect from {source} to {destination}: {error}"));
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let local = socket.local_addr().unwrap().as_socket().unwrap();
    Client { stream: socket.into(), local }
}

/// On loopback each CPU has a queue of its own. A thread that moves to another one between the ACK of its handshake and
/// its RST lets the RST overtake the ACK, and what it was told is established never is on the broker's side.
fn stay_on_this_cpu() {
    let mut here = CpuSet::new();
    here.set(sched_getcpu());
    sched_setaffinity(None, &here).unwrap();
}

impl Client {
    /// Sends `bytes`, in one segment if they are few.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Reads exactly `n` bytes.
    pub fn receive(&mut self, n: usize) {
        let mut bytes = vec![0; n];
        self.stream.read_exact(&mut bytes).unwrap();
    }

    /// Sends the header and reads all of a [`Listener`]'s answer to it.
    pub fn shake_hands(&mut self) {
        self.send(&HEADER);
        self.receive(start_frame().len());
    }

    /// Ends with a RST, at once.
    pub fn reset(self) -> SocketAddr {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        self.local
    }

    /// Ends with a FIN. What was not read by then would make the kernel send a RST instead.
    pub fn close(self) -> SocketAddr {
        self.local
    }

    /// Sends a FIN, reads until the broker's end closes too, and is gone.
    pub fn finish(self) -> SocketAddr {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
        self.await_end()
    }

    /// Waits until the broker's end has sent its FIN, and keeps this one open.
    pub fn await_eof(&mut self) {
        let mut buffer = [0; 4096];
        while self.stream.read(&mut buffer).unwrap() > 0 {}
    }

    /// Says nothing more and waits until the broker's end closes or resets.
    pub fn await_end(mut self) -> SocketAddr {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return self.local,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => return self.local,
                Err(error) => panic!("{} was not closed: {error}", self.local),
            }
        }
    }

    /// The connection itself, for a client that says more.
    pub const fn stream(&mut self) -> &mut TcpStream {
        &mut self.stream
    }
}

/// `n` connections from `source`, each reset as soon as it is established: goproxy's health check.
pub fn reset_probes(source: IpAddr, listener: &Listener, n: usize) -> Vec<SocketAddr> {
    reset_probes_to(listener.address(), source, listener, n)
}

/// The same to another of the listener's addresses, as from another host.
pub fn reset_probes_to(
    destination: SocketAddr,
    source: IpAddr,
    listener: &Listener,
    n: usize,
) -> Vec<SocketAddr> {
    let probe = |_| {
        listener.admit();
        connect(source, destination).reset()
    };
    (0..n).map(probe).collect()
}

/// `n` connections from `source` that do all an ordinary client does: header, answer, data, orderly end.
pub fn sessions(source: IpAddr, listener: &Listener, n: usize) -> Vec<SocketAddr> {
    let session = |_| {
        listener.admit();
        let mut client = connect(source, listener.address());
        client.shake_hands();
        client.send(&LOGIN);
        client.finish()
    };
    (0..n).map(session).collect()
}

/// Runs `generate` for all sources at once, each on a thread of its own, and gives what they made.
pub fn at_once<S: Sync, T: Send>(sources: &[S], generate: impl Fn(&S) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let running: Vec<_> = sources.iter().map(|source| scope.spawn(|| generate(source))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
            .collect()
    })
}
