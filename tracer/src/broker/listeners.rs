//! Who listens on the watched ports, in every network namespace of the host, and where that process lives.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::Path,
};

use netlink_packet_sock_diag::inet::StateFlags;
use procfs::{FromBufReadSI as _, net::TcpNetEntries};

use super::{
    Home, diag, filter,
    namespaces::{self, Namespace, Obstacle},
};

/// A listening TCP socket on a watched port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// What it is bound to; `[::]` takes IPv4 too unless it is told not to.
    pub address: SocketAddr,
    /// The inode number of the socket's network namespace, which need not be its owner's.
    pub netns: u64,
    /// The inode number of the socket.
    pub socket: u64,
    /// Who holds it open; `None` where no process was found that may be looked into.
    pub owner: Option<Owner>,
}

/// As `[::]:5672 by beam.smp (pid 812), rabbitmq-server.service in network namespace 4026531840`.
impl fmt::Display for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} by ", self.address)?;
        match &self.owner {
            Some(Owner { pid, comm, home }) => write!(f, "{comm} (pid {pid}){home}")?,
            None => f.write_str("unknown process")?,
        }
        write!(f, " in network namespace {}", self.netns)
    }
}

/// A process that holds a listener's socket open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// Its process id, in the pid namespace that `/proc` is mounted in.
    pub pid: u32,
    /// Its name, `/proc/PID/comm`: at most 15 bytes.
    pub comm: String,
    /// The container, pod or service that it lives in.
    pub home: Home,
}

impl Owner {
    fn new(pid: u32) -> Self {
        let read = |name| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        Self { pid, comm: read("comm").trim_end().to_owned(), home: Home::parse(&read("cgroup")) }
    }

    /// Whether it is still there, and the same as far as its name and home tell.
    fn runs(&self) -> bool {
        Self::new(self.pid) == *self
    }
}

/// What was found, and what was out of reach.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listeners {
    /// In order of namespace, the own one first.
    pub listeners: Vec<Listener>,
    /// Network namespaces whose sockets could not be read, mostly for lack of rights.
    pub unreadable: usize,
    /// Processes whose network namespace could not even be told, for lack of rights.
    pub hidden: usize,
}

/// Looks into every namespace, and then for the owners at the open files of every process until all are found. `before`
/// is what was found the last time, if there was one: whose owner still runs, and who had none to be found, is not looked
/// for again. Blocks for some milliseconds, longer where owners are looked for and processes hold many files open.
pub fn find(ports: &[u16], before: &Listeners) -> io::Result<Listeners> {
    if ports.is_empty() {
        return Ok(Listeners::default());
    }
    let mut found = namespaces::on_a_thread(|| in_all_namespaces(ports))??;
    let mut wanted = BTreeSet::new();
    for listener in &mut found.listeners {
        let is_it = |known: &&Listener| {
            (known.netns, known.socket, known.address) == (listener.netns, listener.socket, listener.address)
        };
        match before.listeners.iter().find(is_it) {
            Some(known) if known.owner.as_ref().is_none_or(Owner::runs) => {
                listener.owner.clone_from(&known.owner)
            }
            _ => {
                wanted.insert(listener.socket);
            }
        }
    }
    let mut owners = owners(wanted);
    for listener in found.listeners.iter_mut().filter(|listener| listener.owner.is_none()) {
        listener.owner = owners.remove(&listener.socket);
    }
    Ok(found)
}

/// Leaves the thread in some namespace or other.
fn in_all_namespaces(ports: &[u16]) -> io::Result<Listeners> {
    let listing = namespaces::list()?;
    let filter = filter::local_ports(ports);
    let mut found = Listeners { hidden: listing.hidden, ..Listeners::default() };
    for namespace in listing.namespaces {
        match in_namespace(&namespace, ports, &filter) {
            Ok(sockets) => {
                found.listeners.extend(sockets.into_iter().map(|(address, socket)| Listener {
                    address,
                    netns: namespace.inode,
                    socket,
                    owner: None,
                }));
            }
            Err(Obstacle::Refused) => found.unreadable += 1,
            Err(Obstacle::Gone) => {}
        }
    }
    Ok(found)
}

/// The listening sockets of one namespace on these ports: address and inode number of each. Call it on a thread of its
/// own, which it leaves there.
pub(super) fn in_namespace(
    namespace: &Namespace,
    ports: &[u16],
    filter: &[u8],
) -> Result<Vec<(SocketAddr, u64)>, Obstacle> {
    match namespace.enter() {
        Ok(()) => {
            let mut sockets = Vec::new();
            let dumped = diag::dump(&StateFlags::LISTEN, filter, &mut |header, _| {
                let id = &header.socket_id;
                sockets.push((SocketAddr::new(id.source_address, id.source_port), header.inode.into()));
            });
            // Without tcp_diag there are still the tables.
            if dumped.is_ok() { Ok(sockets) } else { in_tables(namespace, ports) }
        }
        Err(Obstacle::Refused) => in_tables(namespace, ports),
        Err(Obstacle::Gone) => Err(Obstacle::Gone),
    }
}

/// The same from procfs, which needs fewer rights but makes the kernel walk over every connection of the host: some
/// milliseconds for each namespace.
fn in_tables(namespace: &Namespace, ports: &[u16]) -> Result<Vec<(SocketAddr, u64)>, Obstacle> {
    let mut sockets = namespace.table("tcp", |file| listening(BufReader::new(file?), ports))?;
    // There is no such table where IPv6 is off.
    sockets.extend(namespace.table("tcp6", |file: io::Result<File>| match file {
        Ok(file) => listening(BufReader::new(file), ports),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    })?);
    Ok(sockets)
}

/// Reads the listening sockets out of `/proc/net/tcp` or `tcp6`, and not what follows: the kernel lists them first
/// (Documentation/networking/proc_net_tcp.rst), and the connections after them can be many.
fn listening(table: impl BufRead, ports: &[u16]) -> io::Result<Vec<(SocketAddr, u64)>> {
    const LISTEN: &str = "0A";
    let mut head = String::new();
    for (number, line) in table.lines().enumerate() {
        let line = line?;
        if number > 0 && line.split_whitespace().nth(3) != Some(LISTEN) {
            break;
        }
        head.push_str(&line);
        head.push('\n');
    }
    let entries = TcpNetEntries::from_buf_read(head.as_bytes(), procfs::current_system_info());
    let entries = entries.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?.0;
    let sockets = entries.into_iter().map(|entry| (entry.local_address, entry.inode));
    Ok(sockets.filter(|(address, _)| ports.contains(&address.port())).collect())
}

/// Which process holds each of these sockets open: the oldest, since workers that were forked hold it too, but not
/// process 1 if there is another, since it only holds what it hands to services.
fn owners(mut wanted: BTreeSet<u64>) -> HashMap<u64, Owner> {
    let mut owners = HashMap::new();
    let mut pids = namespaces::numbers(Path::new("/proc")).unwrap_or_default();
    pids.sort_by_key(|pid| *pid == 1);
    for pid in pids {
        if wanted.is_empty() {
            break;
        }
        for entry in fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten() {
            if let Ok(target) = fs::read_link(entry.path())
                && let Some(socket) = target.to_str().and_then(socket_inode)
                && wanted.remove(&socket)
            {
                owners.insert(socket, Owner::new(pid));
                if wanted.is_empty() {
                    break;
                }
            }
        }
    }
    owners
}

/// The number in `socket:[12345]`, which is where an open socket's link in procfs points to.
fn socket_inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    const TABLE: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1628 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 12 1 0 100 0 0 10 0
   2: 0100007F:1628 0100007F:D431 01 00000000:00000000 00:00000000 00000000     0        0 99 1 0 20 4 30 10 -1
   3: 00000000:1627 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 13 1 0 100 0 0 10 0
";

    #[test]
    fn listening_sockets_come_first() {
        // The last line cannot come from a kernel; it shows that nothing is read beyond the listening sockets.
        let found = listening(TABLE.as_bytes(), &[5672, 5671]).unwrap();
        assert_eq!(found, [("127.0.0.1:5672".parse().unwrap(), 4711)]);
        assert_eq!(listening(TABLE.as_bytes(), &[22]).unwrap(), [("0.0.0.0:22".parse().unwrap(), 12)]);
        assert_eq!(listening(TABLE.as_bytes(), &[]).unwrap(), []);
        assert_eq!(listening(&b""[..], &[5672]).unwrap(), []);
        let broken = listening(&b"header\n 0: x y 0A\n"[..], &[5672]);
        assert_eq!(broken.unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    /// The two ways to the same answer.
    #[test]
    fn the_tables_tell_what_the_dump_does() {
        let sockets =
            ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"].map(|to| TcpListener::bind(to).unwrap());
        let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let ports = addresses.map(|address| address.port());
        let (dumped, read) = namespaces::on_a_thread(|| {
            let own = namespaces::list().unwrap().namespaces.remove(0);
            let dumped = in_namespace(&own, &ports, &filter::local_ports(&ports)).unwrap();
            (BTreeSet::from_iter(dumped), BTreeSet::from_iter(in_tables(&own, &ports).unwrap()))
        })
        .unwrap();
        assert_eq!(dumped, read);
        assert!(
            addresses.iter().all(|address| dumped.iter().any(|(found, _)| found == address)),
            "{dumped:?}"
        );
    }

    #[test]
    fn links_of_sockets() {
        assert_eq!(socket_inode("socket:[4711]"), Some(4711));
        for other in ["pipe:[4711]", "socket:[]", "socket:[x]", "/tmp/socket:[1]", "anon_inode:[eventpoll]"] {
            assert_eq!(socket_inode(other), None, "{other}");
        }
    }

    #[test]
    fn told_in_a_line() {
        let address = "[::]:5672".parse().unwrap();
        let mut listener = Listener { address, netns: 7, socket: 4711, owner: None };
        assert_eq!(listener.to_string(), "[::]:5672 by unknown process in network namespace 7");
        let home = Home::parse("0::/system.slice/rabbitmq-server.service");
        listener.owner = Some(Owner { pid: 812, comm: "beam.smp".to_owned(), home });
        let expected = "[::]:5672 by beam.smp (pid 812), rabbitmq-server.service in network namespace 7";
        assert_eq!(listener.to_string(), expected);
    }

    #[test]
    fn finds_this_process() {
        let sockets = ["127.0.0.1:0", "[::1]:0"].map(|address| TcpListener::bind(address).unwrap());
        let addresses = sockets.each_ref().map(|socket| socket.local_addr().unwrap());
        let ports = addresses.map(|address| address.port());
        let found = find(&ports, &Listeners::default()).unwrap();
        for address in addresses {
            let listener = found.listeners.iter().find(|listener| listener.address == address).unwrap();
            let owner = listener.owner.as_ref().unwrap();
            assert_eq!(owner.pid, std::process::id());
            assert_eq!(owner.comm, fs::read_to_string("/proc/self/comm").unwrap().trim_end());
        }
        assert_eq!(find(&ports, &found).unwrap().listeners, found.listeners);
        // What is known of an owner that is no more is not believed.
        let mut stale = found.clone();
        for owner in stale.listeners.iter_mut().filter_map(|listener| listener.owner.as_mut()) {
            owner.comm = "gone".to_owned();
        }
        assert_eq!(find(&ports, &stale).unwrap().listeners, found.listeners);
    }
}
