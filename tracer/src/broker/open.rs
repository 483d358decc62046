//! The connections that are open on the watched ports at this moment, the broker's ends of them only: those whose local
//! port is watched, in the network namespaces in which somebody listens there.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netlink_packet_sock_diag::{
    constants::{TCP_CLOSE_WAIT, TCP_ESTABLISHED, TCP_FIN_WAIT1, TCP_FIN_WAIT2},
    inet::{InetResponseHeader, StateFlags},
};
use thiserror::Error;

use super::{
    diag::{self, DiagError, TcpInfo},
    filter, listeners,
    namespaces::{self, Namespace, Obstacle},
};

/// How often a dump that the kernel interrupted is begun anew.
const ATTEMPTS: usize = 3;

/// Where a connection is in its life, from the broker's end: the kernel's TCP states of those that are up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Both can send. The broker need not have accepted it yet.
    Established,
    /// The source has closed, the broker has not.
    CloseWait,
    /// The broker has closed, which the source has not acknowledged.
    FinWait1,
    /// The broker has closed, the source has not.
    FinWait2,
}

impl State {
    fn from_kernel(state: u8) -> Option<Self> {
        match state {
            TCP_ESTABLISHED => Some(Self::Established),
            TCP_CLOSE_WAIT => Some(Self::CloseWait),
            TCP_FIN_WAIT1 => Some(Self::FinWait1),
            TCP_FIN_WAIT2 => Some(Self::FinWait2),
            _ => None,
        }
    }

    /// What the kernel is asked for.
    fn wanted() -> StateFlags {
        StateFlags::ESTABLISHED | StateFlags::CLOSE_WAIT | StateFlags::FIN_WAIT1 | StateFlags::FIN_WAIT2
    }

    /// Whether the broker still holds it: it has not closed.
    pub const fn is_held(self) -> bool {
        matches!(self, Self::Established | Self::CloseWait)
    }
}

/// One connection that is open now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Who opened it, IPv4 also where the broker's socket is IPv6.
    pub source: SocketAddr,
    /// The broker's own address of it.
    pub destination: SocketAddr,
    /// The inode number of its network namespace.
    pub netns: u64,
    /// The kernel's number of the socket, unique in its network namespace: what `bpf_get_socket_cookie` gives.
    pub cookie: u64,
    /// Its state.
    pub state: State,
    /// Payload bytes from the source that arrived in order: `tcpi_bytes_received` without the FIN.
    pub bytes_in: u64,
    /// Segments with payload from the source, those that came twice or early too: `tcpi_data_segs_in`.
    pub segments_in: u32,
    /// Since when no payload has come, `tcpi_last_data_recv`: since the handshake where none ever did. In milliseconds,
    /// as fine as the kernel's tick (1 to 10 ms), and it starts again from zero after 49.7 days.
    pub quiet_for: Duration,
}

impl Open {
    fn new(header: &InetResponseHeader, info: Option<TcpInfo>, netns: u64) -> Option<Self> {
        // What is left of a connection in TIME_WAIT passes for FIN_WAIT2, but knows nothing any more.
        let info = info?;
        let id = &header.socket_id;
        let state = State::from_kernel(header.state)?;
        Some(Self {
            source: SocketAddr::new(id.destination_address.to_canonical(), id.destination_port),
            destination: SocketAddr::new(id.source_address.to_canonical(), id.source_port),
            netns,
            cookie: u64::from_ne_bytes(id.cookie),
            state,
            // A FIN takes one number of the sequence. The source's has arrived in this state, and in no other here.
            bytes_in: info.bytes_received.saturating_sub((state == State::CloseWait).into()),
            segments_in: info.data_segments_in,
            quiet_for: Duration::from_millis(info.last_data_received.into()),
        })
    }

    /// How long the source has been silent since the handshake; `None` once it has sent a byte.
    pub fn silent_for(&self) -> Option<Duration> {
        (self.bytes_in == 0).then_some(self.quiet_for)
    }
}

/// What a scan found, and what was out of its reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scan {
    /// In no order.
    pub connections: Vec<Open>,
    /// Network namespaces that could not be looked into, mostly for lack of rights (CAP_SYS_ADMIN), although a watched
    /// port is listened on there or may be.
    pub unreadable: usize,
    /// Processes whose network namespace could not even be told, for lack of rights (CAP_SYS_PTRACE).
    pub hidden: usize,
}

/// Why there is no scan.
#[derive(Debug, Error)]
pub enum ScanError {
    /// No thread could be started that may change its namespace.
    #[error("cannot start a thread to look into network namespaces: {0}")]
    Thread(#[source] io::Error),
    /// The host's processes cannot be listed.
    #[error("cannot list the processes in /proc: {0}")]
    Processes(#[source] io::Error),
    /// A namespace's connections cannot be listed.
    #[error("cannot list the connections in network namespace {netns}: {source}")]
    Dump {
        /// The namespace's inode number.
        netns: u64,
        /// What went wrong, the last time it was tried.
        source: DiagError,
    },
}

/// Looks at what is open, again and again. It holds no namespace between two scans, because whoever does keeps a
/// container's network alive after the container.
#[derive(Debug)]
pub struct Scanner {
    ports: Vec<u16>,
    filter: Vec<u8>,
    /// Namespaces in which a watched port was listened on: a broker that takes no more connections, as in maintenance,
    /// keeps those it has.
    known: BTreeSet<u64>,
}

impl Scanner {
    /// For these local ports.
    pub fn new(ports: &[u16]) -> Self {
        Self { ports: ports.to_owned(), filter: filter::local_ports(ports), known: BTreeSet::new() }
    }

    /// What is open now. Blocks while it looks, on a thread of its own: the caller's stays in its namespace.
    pub fn scan(&mut self) -> Result<Scan, ScanError> {
        if self.ports.is_empty() {
            return Ok(Scan::default());
        }
        namespaces::on_a_thread(|| self.scan_here()).map_err(ScanError::Thread)?
    }

    /// Leaves the thread in some namespace or other.
    fn scan_here(&mut self) -> Result<Scan, ScanError> {
        let listing = namespaces::list().map_err(ScanError::Processes)?;
        let there: BTreeSet<u64> = listing.namespaces.iter().map(|namespace| namespace.inode).collect();
        self.known.retain(|netns| there.contains(netns));
        let mut scan = Scan { hidden: listing.hidden, ..Scan::default() };
        for namespace in listing.namespaces {
            match self
                .is_watched(&namespace)
                .and_then(|watched| watched.then(|| namespace.enter()).transpose())
            {
                Ok(Some(())) => self.connections(namespace.inode, &mut scan.connections)?,
                Ok(None) | Err(Obstacle::Gone) => {}
                Err(Obstacle::Refused) => scan.unreadable += 1,
            }
        }
        Ok(scan)
    }

    fn is_watched(&mut self, namespace: &Namespace) -> Result<bool, Obstacle> {
        if !self.known.contains(&namespace.inode) {
            if listeners::in_namespace(namespace, &self.ports, &self.filter)?.is_empty() {
                return Ok(false);
            }
            self.known.insert(namespace.inode);
        }
        Ok(true)
    }

    /// Adds those of the namespace that this thread is in.
    fn connections(&self, netns: u64, found: &mut Vec<Open>) -> Result<(), ScanError> {
        let before = found.len();
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Between two parts of a dump a new connection can move others back, which are then told twice.
            let mut told = HashSet::new();
            let dumped = diag::dump(&State::wanted(), &self.filter, &mut |header, info| {
                found.extend(Open::new(header, info, netns).filter(|open| told.insert(open.cookie)));
            });
            match dumped {
                Ok(()) => return Ok(()),
                Err(DiagError::Interrupted) if attempt < ATTEMPTS => found.truncate(before),
                Err(source) => return Err(ScanError::Dump { netns, source }),
            }
        }
    }
}

/// What one source holds open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OpenNow {
    /// Connections that the broker holds: [`State::is_held`].
    pub open: u64,
    /// How many of them never sent a byte.
    pub silent: u64,
    /// How long the oldest of those has been open.
    pub longest_silence: Option<Duration>,
}

impl OpenNow {
    /// Adds what another source holds open, as where sources are grouped.
    pub fn merge(&mut self, other: &Self) {
        self.open += other.open;
        self.silent += other.silent;
        self.longest_silence = self.longest_silence.max(other.longest_silence);
    }

    fn add(&mut self, open: &Open) {
        self.open += 1;
        if let Some(silence) = open.silent_for() {
            self.silent += 1;
            self.longest_silence = self.longest_silence.max(Some(silence));
        }
    }
}

/// Sums up by source. A source whose connections the broker has all closed is not in it.
pub fn by_source(connections: &[Open]) -> HashMap<IpAddr, OpenNow> {
    let mut sources: HashMap<IpAddr, OpenNow> = HashMap::new();
    for open in connections.iter().filter(|open| open.state.is_held()) {
        sources.entry(open.source.ip()).or_default().add(open);
    }
    sources
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn open(source: &str, state: State, bytes_in: u64, quiet_ms: u64) -> Open {
        Open {
            source: source.parse().unwrap(),
            destination: "192.0.2.1:5672".parse().unwrap(),
            netns: 1,
            cookie: 0,
            state,
            bytes_in,
            segments_in: 0,
            quiet_for: Duration::from_millis(quiet_ms),
        }
    }

    #[test]
    fn sums_by_source() {
        let sums = by_source(&[
            open("192.0.2.7:1", State::Established, 0, 40),
            open("192.0.2.7:2", State::CloseWait, 0, 90),
            open("192.0.2.7:3", State::Established, 8, 5_000),
            open("192.0.2.7:4", State::FinWait2, 0, 7_000),
            open("[2001:db8::7]:1", State::Established, 8, 1),
            open("192.0.2.8:1", State::FinWait1, 0, 1),
        ]);
        let longest_silence = Some(Duration::from_millis(90));
        let expected = [
            ("192.0.2.7", OpenNow { open: 3, silent: 2, longest_silence }),
            ("2001:db8::7", OpenNow { open: 1, silent: 0, longest_silence: None }),
        ];
        assert_eq!(sums, expected.map(|(source, sums)| (source.parse().unwrap(), sums)).into());
        assert_eq!(by_source(&[]), HashMap::new());
        let mut both = OpenNow::default();
        sums.values().for_each(|sums| both.merge(sums));
        assert_eq!(both, OpenNow { open: 4, silent: 2, longest_silence });
    }

    fn header(state: u8, addresses: [&str; 2]) -> InetResponseHeader {
        let [source_address, destination_address] = addresses.map(|address| address.parse().unwrap());
        let cookie = 77_u64.to_ne_bytes();
        let socket_id = netlink_packet_sock_diag::inet::SocketId {
            source_port: 5672,
            destination_port: 40_000,
            source_address,
            destination_address,
            interface_id: 0,
            cookie,
        };
        let (recv_queue, send_queue, uid, inode) = (0, 0, 0, 0);
        InetResponseHeader { family: 0, state, timer: None, socket_id, recv_queue, send_queue, uid, inode }
    }

    #[test]
    fn the_kernels_source_is_the_brokers_end() {
        let info = Some(TcpInfo { bytes_received: 9, data_segments_in: 2, last_data_received: 1_500 });
        let mapped = header(TCP_ESTABLISHED, ["::ffff:192.0.2.1", "::ffff:192.0.2.7"]);
        let found = Open::new(&mapped, info, 1).unwrap();
        let expected =
            Open { cookie: 77, segments_in: 2, ..open("192.0.2.7:40000", State::Established, 9, 1_500) };
        assert_eq!(found, expected);
        assert_eq!(found.silent_for(), None);
        let plain = header(TCP_ESTABLISHED, ["2001:db8::1", "2001:db8::7"]);
        assert_eq!(Open::new(&plain, info, 1).unwrap().source, "[2001:db8::7]:40000".parse().unwrap());
        assert_eq!(Open::new(&header(TCP_FIN_WAIT2, ["::", "::"]), None, 1), None);
        // TIME_WAIT, LISTEN, and none at all.
        for state in [6, 10, 200] {
            assert_eq!(Open::new(&header(state, ["::", "::"]), info, 1), None);
        }
    }

    #[test]
    fn a_fin_is_no_byte() {
        let info = Some(TcpInfo { bytes_received: 1, data_segments_in: 0, last_data_received: 1_500 });
        let found = |state| Open::new(&header(state, ["192.0.2.1", "192.0.2.7"]), info, 1).unwrap();
        assert_eq!(found(TCP_CLOSE_WAIT).silent_for(), Some(Duration::from_millis(1_500)));
        assert_eq!(found(TCP_FIN_WAIT2).silent_for(), None);
    }
}
