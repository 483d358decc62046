//! A broker's stand-in: it accepts everybody, answers a protocol header as RabbitMQ does, refuses what is none, gives
//! up on who stays silent, and closes when told to. It says who it accepted, which is the kernel's word on who was
//! established.

mod serve;

use std::{
    collections::{BTreeMap, VecDeque},
    fs,
    net::SocketAddr,
    os::fd::OwnedFd,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::event::{EventfdFlags, eventfd};
use socket2::Socket;

use self::serve::{Loop, listen};
use super::DEADLINE;

/// RabbitMQ's 8 bytes: what it answers to any other protocol, and what a client of AMQP 0-9-1 begins with.
pub const HEADER: [u8; 8] = *b"AMQP\0\0\x09\x01";

/// Open files that a listener counts on: a process may have at least 1024, and other tests run beside this one.
const FILES: usize = 256;

/// How to end a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With a RST, by SO_LINGER 0: RabbitMQ's default.
    Reset,
    /// With a FIN, as RabbitMQ when its `tcp_listen_options` are set.
    Fin,
}

/// How a listener behaves.
#[derive(Clone, Copy, Debug)]
pub struct Manners {
    /// How it closes.
    pub ending: Ending,
    /// After what time it closes a connection that sent no more than a header: RabbitMQ's `handshake_timeout`.
    pub timeout: Option<Duration>,
    /// Whether it says anything to a header.
    pub answers: bool,
    /// After what time without a segment it asks whether the source is there, and how long it waits for the answer.
    pub keepalive: Option<Duration>,
    /// How long it waits for an acknowledgement of what it sent.
    pub user_timeout: Option<Duration>,
}

impl Default for Manners {
    fn default() -> Self {
        Self { ending: Ending::Reset, timeout: None, answers: true, keepalive: None, user_timeout: None }
    }
}

/// Connection.Start, which RabbitMQ answers to a header: the frame's head, its method's class and number, and tables
/// of the length that RabbitMQ's have.
pub fn start_frame() -> Vec<u8> {
    let product: &[u8] = &[b'x'; 200];
    let mut properties = b"\x07productS".to_vec();
    properties.extend(u32::try_from(product.len()).unwrap().to_be_bytes());
    properties.extend(product);
    let mut payload = vec![0, 10, 0, 10, 0, 9];
    for long_string in [&properties[..], b"PLAIN AMQPLAIN", b"en_US"] {
        payload.extend(u32::try_from(long_string.len()).unwrap().to_be_bytes());
        payload.extend(long_string);
    }
    let mut frame = vec![1, 0, 0];
    frame.extend(u32::try_from(payload.len()).unwrap().to_be_bytes());
    frame.extend(payload);
    frame.push(0xCE);
    frame
}

/// A listener on one or more addresses, with one thread. Ends, and closes everything, on drop.
pub struct Listener {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    wake: OwnedFd,
    /// How many connections of a flood may be there at once.
    room: usize,
}

#[derive(Default)]
struct State {
    admitted: usize,
    accepted: Vec<SocketAddr>,
    received: BTreeMap<SocketAddr, u64>,
    ended: usize,
    commands: VecDeque<Command>,
}

enum Command {
    Close(SocketAddr, Ending),
    Send(SocketAddr, Vec<u8>),
    Stop,
}

impl Listener {
    /// Listens on `address`, whose port may not be 0.
    pub fn on(address: impl Into<SocketAddr>, manners: Manners) -> Self {
        Self::on_all(&[address.into()], manners)
    }

    /// Listens on all of `addresses`.
    pub fn on_all(addresses: &[SocketAddr], manners: Manners) -> Self {
        let backlog = fs::read_to_string("/proc/sys/net/core/somaxconn")
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .map_or(128, |most: i32| most.min(4096));
        let sockets: Vec<Socket> = addresses.iter().map(|a| listen(*a, backlog, manners)).collect();
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
            wake: eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap(),
            room: usize::try_from(backlog).unwrap().min(FILES) / 2,
        });
        let loop_shared = Arc::clone(&shared);
        let thread = thread::spawn(move || Loop::new(sockets, manners, loop_shared).run());
        Self { addresses: addresses.to_vec(), shared, thread: Some(thread) }
    }

    /// Where it listens; the first, if at several addresses.
    pub fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    /// Waits until there is room for one more, in the accept queue and among this process's open files, so that the
    /// kernel drops none; call it before each connect of a flood.
    pub fn admit(&self) {
        let room = self.shared.room;
        let mut state = self.wait("room for a connection", |state| state.admitted < state.ended + room);
        state.admitted += 1;
    }

    /// Waits until it has accepted the connection from `peer`.
    pub fn wait_accepted(&self, peer: SocketAddr) {
        drop(self.wait(&format!("{peer} to be accepted"), |state| state.accepted.contains(&canonical(peer))));
    }

    /// Waits until it has read `bytes` from `peer`.
    pub fn wait_received(&self, peer: SocketAddr, bytes: u64) {
        let enough = |state: &State| state.received.get(&canonical(peer)).is_some_and(|n| *n >= bytes);
        drop(self.wait(&format!("{bytes} bytes from {peer}"), enough));
    }

    /// Waits until `n` connections have been accepted and ended.
    pub fn wait_ended(&self, n: usize) {
        drop(self.wait(&format!("{n} connections to end"), |state| state.ended >= n));
    }

    /// Everybody whom it accepted.
    pub fn accepted(&self) -> Vec<SocketAddr> {
        self.shared.state.lock().unwrap().accepted.clone()
    }

    /// Closes the connection from `peer`.
    pub fn close(&self, peer: SocketAddr, ending: Ending) {
        self.wait_accepted(peer);
        self.command(Command::Close(canonical(peer), ending));
    }

    /// Sends `bytes` on the connection from `peer`.
    pub fn send(&self, peer: SocketAddr, bytes: &[u8]) {
        self.wait_accepted(peer);
        self.command(Command::Send(canonical(peer), bytes.to_vec()));
    }

    fn command(&self, command: Command) {
        self.shared.state.lock().unwrap().commands.push_back(command);
        rustix::io::write(&self.shared.wake, &1_u64.to_ne_bytes()).unwrap();
    }

    fn wait(&self, what: &str, holds: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        let state = self.shared.state.lock().unwrap();
        let (state, timeout) =
            self.shared.changed.wait_timeout_while(state, DEADLINE, |state| !holds(state)).unwrap();
        if timeout.timed_out() {
            let (accepted, ended) = (state.accepted.len(), state.ended);
            drop(state);
            panic!("waited {DEADLINE:?} in vain for {what}; {accepted} accepted, {ended} ended");
        }
        state
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.command(Command::Stop);
        // A panic of the loop has been printed already.
        let _ = self.thread.take().map(JoinHandle::join);
    }
}

/// The IPv4 client of a dual-stack listener is an IPv4 client.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
