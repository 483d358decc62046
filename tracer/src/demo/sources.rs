//! The demonstration's sources: each an address of 127.0.0.0/8 that does one thing a number of times.

use std::{
    io::{self, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    thread,
    time::Duration,
};

use rustix::{
    net::{AddressFamily, SocketType, bind, connect, socket, sockopt},
    thread::{CpuSet, sched_getcpu, sched_setaffinity},
};

use super::frames;
use crate::verdict::Verdict;

/// Longer than RabbitMQ's handshake time-out of 10 s.
const PATIENCE: Duration = Duration::from_secs(15);

/// One source.
pub struct Source {
    /// Its address.
    pub address: Ipv4Addr,
    /// What it does, for the reader.
    pub what: &'static str,
    /// How often.
    pub times: u64,
    /// What each of its connections is to be judged.
    pub verdict: Verdict,
    /// Between two times.
    pause: Duration,
    act: fn(TcpStream) -> io::Result<()>,
}

/// Every source of the demonstration.
pub fn all() -> Vec<Source> {
    let source = |last, what, times, pause_ms, verdict, act| Source {
        address: Ipv4Addr::new(127, 0, 0, last),
        what,
        times,
        verdict,
        pause: Duration::from_millis(pause_ms),
        act,
    };
    vec![
        source(11, "goproxy-style check: connects, resets", 30, 110, Verdict::ProbeReset, reset),
        source(
            12,
            "HAProxy-style check with `connect linger`: connects, closes",
            20,
            160,
            Verdict::ProbeClose,
            close,
        ),
        source(
            13,
            "HAProxy-style check that sends the protocol header",
            10,
            150,
            Verdict::ProbeHeader,
            header,
        ),
        source(14, "silent client: connects and says nothing", 2, 0, Verdict::HandshakeTimeout, silent),
        source(15, "normal client: logs in, closes in order", 8, 200, Verdict::Session, session),
        source(16, "HAProxy-style check, half-open", 20, 160, Verdict::ProbeHalfOpen, reset),
    ]
}

impl Source {
    /// Does it all, one after the other.
    pub fn run(&self, port: u16) -> io::Result<()> {
        // On loopback each CPU has a queue of its own: a thread that moved between the ACK of its handshake and its RST
        // would let the RST overtake the ACK, and make a half-open check of what was to be a full one.
        let mut here = CpuSet::new();
        here.set(sched_getcpu());
        sched_setaffinity(None, &here)?;
        for time in 0..self.times {
            if time > 0 {
                thread::sleep(self.pause);
            }
            (self.act)(self.connect(port)?)?;
        }
        Ok(())
    }

    fn connect(&self, port: u16) -> io::Result<TcpStream> {
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None)?;
        bind(&socket, &SocketAddrV4::new(self.address, 0))?;
        if self.verdict == Verdict::ProbeHalfOpen {
            // As HAProxy does it: the kernel delays the handshake's last ACK, and the reset comes before it.
            sockopt::set_tcp_quickack(&socket, false)?;
        }
        connect(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))?;
        Ok(TcpStream::from(socket))
    }
}

fn reset(stream: TcpStream) -> io::Result<()> {
    sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "one of several acts")]
fn close(stream: TcpStream) -> io::Result<()> {
    drop(stream);
    Ok(())
}

fn header(mut stream: TcpStream) -> io::Result<()> {
    stream.write_all(&frames::HEADER)?;
    frames::read(&mut stream)
}

fn silent(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    match stream.read(&mut [0]) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(()),
        result => result.map(|_| ()),
    }
}

fn session(mut stream: TcpStream) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(&frames::HEADER)?;
    frames::read(&mut stream)?;
    stream.write_all(&frames::start_ok())?;
    frames::read(&mut stream)?;
    stream.write_all(&[frames::tune_ok(), frames::open()].concat())?;
    frames::read(&mut stream)?;
    stream.write_all(&frames::close())?;
    frames::read(&mut stream)
}
