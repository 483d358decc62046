//! The scanner beside the running kernel: what it says of connections that the test made itself. The last one needs
//! root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::MetadataExt as _,
    process::Command,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    net::sockopt::{set_socket_keepalive, set_tcp_keepidle, set_tcp_keepintvl},
    thread::{UnshareFlags, unshare_unsafe},
};

use super::open::{Open, Scan, Scanner, State, by_source};

/// A listener on a port that the kernel chose, and the port.
fn listen(address: &str) -> (TcpListener, u16) {
    let listener = TcpListener::bind(address).unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

/// Both ends of a new connection, the source's first.
fn connect(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream) {
    let source = TcpStream::connect(to).unwrap();
    (source, listener.accept().unwrap().0)
}

/// The inode number of this thread's network namespace.
fn netns() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}

/// What is open in this thread's namespace; in others there may be the same ports.
fn open_here(scanner: &mut Scanner) -> Vec<Open> {
    let netns = netns();
    scanner.scan().unwrap().connections.into_iter().filter(|open| open.netns == netns).collect()
}

/// Scans until the kernel, which is not done when a write or close returns, says what `done` waits for.
fn scan(ports: &[u16], done: impl Fn(&[Open]) -> bool) -> Vec<Open> {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let open = open_here(&mut Scanner::new(ports));
        if done(&open) || Instant::now() > deadline {
            return open;
        }
        thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn every_connection_with_its_bytes_and_no_other() {
    let listeners = ["127.0.0.1:0", "[::1]:0", "[::]:0", "[::]:0"].map(listen);
    let to = ["127.0.0.1", "::1", "127.0.0.1", "::1"];
    let ports = listeners.each_ref().map(|(_, port)| *port);
    let (other, unwatched) = listen("127.0.0.1:0");
    let _beside = connect(&other, SocketAddr::new("127.0.0.1".parse().unwrap(), unwatched));

    let mut expected = BTreeMap::new();
    let mut kept = Vec::new();
    for n in 0..200 {
        let (listener, port) = &listeners[n % 4];
        let destination = SocketAddr::new(to[n % 4].parse().unwrap(), *port);
        let (mut source, broker) = connect(listener, destination);
        let bytes = if n % 3 == 0 { 0 } else { n };
        source.write_all(&vec![b'x'; bytes]).unwrap();
        // Connections to different ports may have the same port at the source.
        expected.insert((source.local_addr().unwrap(), destination), bytes as u64);
        kept.push((source, broker));
    }
    let sent: u64 = expected.values().sum();
    let open = scan(&ports, |open| open.iter().map(|open| open.bytes_in).sum::<u64>() == sent);

    assert_eq!(open.len(), expected.len(), "each once, the sources' own ends never");
    let found: BTreeMap<_, _> =
        open.iter().map(|open| ((open.source, open.destination), open.bytes_in)).collect();
    assert_eq!(found, expected);
    for open in &open {
        assert_eq!(open.state, State::Established);
        assert_eq!(open.segments_in, u32::from(open.bytes_in > 0), "{open:?}");
        assert_eq!(open.silent_for().is_some(), open.bytes_in == 0);
    }
    let sums = by_source(&open);
    let silent = |ip: &str| sums.get(&ip.parse().unwrap()).map(|sums| (sums.open, sums.silent));
    assert_eq!((silent("127.0.0.1"), silent("::1")), (Some((100, 34)), Some((100, 33))));
}

/// 64 ports make the longest filter; one that is not accepted yet is open too.
#[test]
fn many_ports_and_a_broker_that_does_not_accept() {
    let listeners: Vec<_> = (0..64).map(|_| listen("127.0.0.1:0")).collect();
    let ports: Vec<u16> = listeners.iter().map(|(_, port)| *port).collect();
    let connect = |port: &u16| TcpStream::connect(("127.0.0.1", *port)).unwrap();
    let sources: Vec<TcpStream> = ports.iter().map(connect).collect();
    let open = scan(&ports, |open| open.len() == sources.len());
    let mut found: Vec<_> = open.iter().map(|open| (open.destination.port(), open.source)).collect();
    found.sort_unstable();
    let mut expected: Vec<_> =
        ports.into_iter().zip(sources.iter().map(|s| s.local_addr().unwrap())).collect();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn ends_that_are_half_closed() {
    let (listener, port) = listen("127.0.0.1:0");
    let to = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
    let (silent, _silent) = connect(&listener, to);
    silent.shutdown(Shutdown::Write).unwrap();
    let (mut spoke, _spoke) = connect(&listener, to);
    spoke.write_all(b"AMQP").unwrap();
    spoke.shutdown(Shutdown::Write).unwrap();
    let (left, broker) = connect(&listener, to);
    broker.shutdown(Shutdown::Write).unwrap();

    let expected: BTreeMap<_, _> = [
        (silent.local_addr().unwrap(), (State::CloseWait, 0)),
        (spoke.local_addr().unwrap(), (State::CloseWait, 4)),
        (left.local_addr().unwrap(), (State::FinWait2, 0)),
    ]
    .into();
    let states = |open: &[Open]| -> BTreeMap<_, _> {
        open.iter().map(|open| (open.source, (open.state, open.bytes_in))).collect()
    };
    let open = scan(&[port], |open| states(open) == expected);
    assert_eq!(states(&open), expected);
    let sums = by_source(&open)[&to.ip()];
    assert_eq!((sums.open, sums.silent), (2, 1));
}

/// A broker in maintenance closes its listeners and keeps its connections.
#[test]
fn connections_outlive_their_listener() {
    let (listener, port) = listen("127.0.0.1:0");
    let mut scanner = Scanner::new(&[port]);
    let _both = connect(&listener, SocketAddr::new("127.0.0.1".parse().unwrap(), port));
    assert_eq!(open_here(&mut scanner).len(), 1);
    drop(listener);
    assert_eq!(open_here(&mut scanner).len(), 1);
}

#[test]
fn no_ports_no_connections() {
    assert_eq!(Scanner::new(&[]).scan().unwrap(), Scan::default());
}

/// In a namespace where one thread of this process lives, and nothing else: the age of a silent connection is its own,
/// also when the source's kernel asks whether the broker is there, and a byte starts the quiet anew.
#[test]
fn silence_in_a_namespace_of_its_own() {
    const ASKS: Duration = Duration::from_secs(1);
    let (ready, told) = mpsc::channel();
    let (end, ended) = mpsc::channel::<()>();
    let inside = thread::spawn(move || {
        // SAFETY: only the network namespace is left, which no memory and no file descriptor depends on.
        unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
            .unwrap_or_else(|error| panic!("cannot make a network namespace ({error}); root is needed"));
        assert!(Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
        let (listener, port) = listen("[::]:0");
        let to = SocketAddr::new("127.0.0.1".parse().unwrap(), port);
        let before = Instant::now();
        let (silent, _silent) = connect(&listener, to);
        let (mut late, mut broker) = connect(&listener, to);
        let (asking, _asking) = connect(&listener, to);
        let connected = Instant::now();
        set_socket_keepalive(&asking, true).unwrap();
        set_tcp_keepidle(&asking, ASKS).unwrap();
        set_tcp_keepintvl(&asking, ASKS).unwrap();
        thread::sleep(ASKS * 2);
        late.write_all(b"A").unwrap();
        broker.read_exact(&mut [0]).unwrap();
        let addresses = [&silent, &late, &asking].map(|stream| stream.local_addr().unwrap());
        ready.send((netns(), port, addresses, before, connected)).unwrap();
        let _ = ended.recv();
    });
    let (netns, port, [silent, late, asking], before, connected) = told.recv().unwrap();
    let least = connected.elapsed();
    let mut open = Scanner::new(&[port]).scan().unwrap().connections;
    // A tick of the kernel is up to 10 ms.
    let most = before.elapsed() + Duration::from_millis(10);

    open.retain(|open| open.netns == netns);
    assert_eq!(open.len(), 3, "{open:?}");
    let of = |source| open.iter().find(|open| open.source == source).unwrap();
    for source in [silent, asking] {
        let silence = of(source).silent_for().unwrap();
        assert!(
            (least.saturating_sub(Duration::from_millis(10))..=most).contains(&silence),
            "{silence:?} is not between {least:?} and {most:?}"
        );
    }
    assert_eq!((of(late).bytes_in, of(late).silent_for()), (1, None));
    assert!(of(late).quiet_for < ASKS, "{:?}", of(late));

    // The listener is found there too, and this process as its owner.
    let found = super::find(&[port], &super::Listeners::default()).unwrap();
    let listener = found.listeners.iter().find(|listener| listener.netns == netns).unwrap();
    assert_eq!(listener.address.port(), port);
    assert_eq!(listener.owner.as_ref().map(|owner| owner.pid), Some(std::process::id()));

    drop(end);
    inside.join().unwrap();
    let left = Scanner::new(&[port]).scan().unwrap().connections;
    assert!(left.iter().all(|open| open.netns != netns), "it has gone: {left:?}");
}
