//! A stand-in for a broker: says what RabbitMQ says to a login and closes silent clients after its handshake time-out,
//! with the reset that RabbitMQ's default SO_LINGER of 0 makes of every close. It is no broker, and `demo` says so.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;

use super::frames;

/// RabbitMQ's is 10 s; a demonstration should be over sooner.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// A running stand-in; it lives as long as the process.
pub struct StandIn {
    closed: Receiver<()>,
}

impl StandIn {
    /// Listens on 127.0.0.1; `Ok(None)` where somebody does already.
    pub fn listen(port: u16) -> io::Result<Option<Self>> {
        let listener = match TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port)) {
            Ok(listener) => listener,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            Err(error) => return Err(error),
        };
        let (done, closed) = channel();
        thread::Builder::new().name("stand-in".to_owned()).spawn(move || accept(&listener, &done))?;
        Ok(Some(Self { closed }))
    }

    /// Waits until `connections` of them are closed on this side too.
    pub fn wait_closed(&self, connections: u64) {
        for _ in 0..connections {
            if self.closed.recv_timeout(2 * HANDSHAKE_TIMEOUT).is_err() {
                return;
            }
        }
    }
}

fn accept(listener: &TcpListener, done: &Sender<()>) {
    for connection in listener.incoming().filter_map(Result::ok) {
        let done = done.clone();
        let serve = move || {
            // A client that goes in the middle is what this is for.
            let _: io::Result<()> = serve(&connection);
            drop(connection);
            let _ = done.send(());
        };
        if thread::Builder::new().spawn(serve).is_err() {
            return;
        }
    }
}

fn serve(mut connection: &TcpStream) -> io::Result<()> {
    set_socket_linger(connection, Some(Duration::ZERO))?;
    connection.set_read_timeout(Some(HANDSHAKE_TIMEOUT))?;
    connection.read_exact(&mut [0; 8])?;
    connection.write_all(&frames::start())?;
    for answer in [frames::tune(), Vec::new(), frames::open_ok(), frames::close_ok()] {
        frames::read(&mut connection)?;
        // tune-ok has no answer; open follows it.
        connection.write_all(&answer)?;
    }
    // After close-ok the client closes first.
    connection.read(&mut [0]).map(|_| ())
}
