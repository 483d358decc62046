//! The listener's one thread: polls, accepts, answers, gives up, and does what it is told.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd as _,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use super::{Command, Ending, HEADER, Manners, Shared, canonical, start_frame};

/// Opens a listening socket.
pub(super) fn listen(address: SocketAddr, backlog: i32, manners: Manners) -> Socket {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP)).unwrap();
    socket.set_reuse_address(true).unwrap();
    if address.is_ipv6() {
        socket.set_only_v6(false).unwrap();
    }
    // Accepted sockets inherit both.
    if let Some(time) = manners.keepalive {
        let keepalive = TcpKeepalive::new().with_time(time).with_interval(time).with_retries(1);
        socket.set_tcp_keepalive(&keepalive).unwrap();
    }
    socket.set_tcp_user_timeout(manners.user_timeout).unwrap();
    socket.bind(&address.into()).unwrap_or_else(|error| panic!("cannot listen on {address}: {error}"));
    socket.listen(backlog).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket
}

/// A connection that is open.
struct Open {
    stream: TcpStream,
    peer: SocketAddr,
    since: Instant,
    /// The first bytes, until they are a header.
    head: Vec<u8>,
    received: u64,
}

/// What became of a connection in one step.
enum Step {
    GoesOn,
    /// Closed by the other side.
    Over,
    /// To be closed by this one.
    Close(Ending),
}

/// Everything that the thread works on.
pub(super) struct Loop {
    sockets: Vec<Socket>,
    manners: Manners,
    shared: Arc<Shared>,
    open: Vec<Open>,
}

impl Loop {
    pub(super) const fn new(sockets: Vec<Socket>, manners: Manners, shared: Arc<Shared>) -> Self {
        Self { sockets, manners, shared, open: Vec::new() }
    }

    /// Serves until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            let ready = self.poll();
            let (commands, rest) = ready.split_first().unwrap();
            let (listeners, connections) = rest.split_at(self.sockets.len());
            let mut over = Vec::new();
            for (place, ready) in connections.iter().enumerate() {
                match if *ready { self.serve(place) } else { self.give_up(place) } {
                    Step::GoesOn => {}
                    Step::Over => over.push((place, self.manners.ending)),
                    Step::Close(ending) => over.push((place, ending)),
                }
            }
            // From the last on, so that the others keep their places.
            for (place, ending) in over.into_iter().rev() {
                self.end(place, ending);
            }
            for (place, _) in listeners.iter().enumerate().filter(|(_, ready)| **ready) {
                self.accept(place);
            }
            if *commands && self.obey() {
                return;
            }
        }
    }

    /// Waits for events: on the commands, on each listening socket, on each connection.
    fn poll(&self) -> Vec<bool> {
        let mut fds = vec![PollFd::new(&self.shared.wake, PollFlags::IN)];
        fds.extend(self.sockets.iter().map(|socket| PollFd::new(socket, PollFlags::IN)));
        fds.extend(self.open.iter().map(|open| PollFd::from_borrowed_fd(open.stream.as_fd(), PollFlags::IN)));
        let next = self.manners.timeout.and_then(|timeout| {
            self.open
                .iter()
                .filter(|open| open.stalls())
                .map(|open| timeout.saturating_sub(open.since.elapsed()))
                .min()
        });
        // A millisecond more, so that it wakes after the time and not just before.
        let next = next.map(|left| Timespec::try_from(left + Duration::from_millis(1)).unwrap());
        match poll(&mut fds, next.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot poll: {error}"),
        }
        fds.iter().map(|fd| !fd.revents().is_empty()).collect()
    }

    /// Does what was commanded; true to stop.
    fn obey(&mut self) -> bool {
        let mut count = [0; 8];
        // Nothing to read only means that an earlier turn took the commands already.
        let _ = rustix::io::read(&self.shared.wake, &mut count);
        let commands = std::mem::take(&mut self.shared.state.lock().unwrap().commands);
        for command in commands {
            match command {
                Command::Stop => return true,
                Command::Close(peer, ending) => {
                    if let Some(place) = self.open.iter().position(|open| open.peer == peer) {
                        self.end(place, ending);
                    }
                }
                Command::Send(peer, bytes) => {
                    let mut open = self.open.iter().filter(|open| open.peer == peer);
                    open.try_for_each(|open| (&open.stream).write_all(&bytes)).unwrap();
                }
            }
        }
        false
    }

    fn accept(&mut self, place: usize) {
        let mut accepted = Vec::new();
        // Only some in one turn, so that those that are over are closed in between.
        for _ in 0..64 {
            match self.sockets[place].accept() {
                Ok((socket, peer)) => {
                    let peer = canonical(peer.as_socket().unwrap());
                    accepted.push(peer);
                    socket.set_nonblocking(true).unwrap();
                    let stream = socket.into();
                    self.open.push(Open {
                        stream,
                        peer,
                        since: Instant::now(),
                        head: Vec::new(),
                        received: 0,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => panic!("cannot accept: {error}"),
            }
        }
        self.shared.state.lock().unwrap().accepted.extend(accepted);
        self.shared.changed.notify_all();
    }

    /// Reads what there is.
    fn serve(&mut self, place: usize) -> Step {
        let open = &mut self.open[place];
        let mut buffer = [0; 16_384];
        let step = loop {
            match open.stream.read(&mut buffer) {
                Ok(0) => break Step::Over,
                Ok(n) => {
                    open.received += n as u64;
                    if let Some(step) = open.hear(&buffer[..n], self.manners) {
                        break step;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break Step::GoesOn,
                Err(_) => break Step::Over,
            }
        };
        let (peer, received) = (open.peer, open.received);
        self.shared.state.lock().unwrap().received.insert(peer, received);
        self.shared.changed.notify_all();
        step
    }

    fn give_up(&self, place: usize) -> Step {
        let open = &self.open[place];
        match self.manners.timeout {
            Some(timeout) if open.stalls() && open.since.elapsed() >= timeout => {
                Step::Close(self.manners.ending)
            }
            _ => Step::GoesOn,
        }
    }

    fn end(&mut self, place: usize, ending: Ending) {
        let open = self.open.remove(place);
        if ending == Ending::Reset {
            SockRef::from(&open.stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        drop(open);
        self.shared.state.lock().unwrap().ended += 1;
        self.shared.changed.notify_all();
    }
}

impl Open {
    /// Whether the handshake's time-out still runs.
    const fn stalls(&self) -> bool {
        self.received <= HEADER.len() as u64
    }

    /// Takes bytes; answers when they complete a header, refuses when they complete something else.
    fn hear(&mut self, bytes: &[u8], manners: Manners) -> Option<Step> {
        if self.head.len() >= HEADER.len() {
            return None;
        }
        self.head.extend(bytes);
        let header = self.head.get(..HEADER.len())?;
        let (answer, step) = if header == HEADER {
            (start_frame(), None)
        } else {
            (HEADER.to_vec(), Some(Step::Close(manners.ending)))
        };
        if !manners.answers {
            return None;
        }
        // Who has reset meanwhile does not hear it; the next read says so.
        let _ = self.stream.write_all(&answer);
        step
    }
}
