//! What never becomes a connection: half-open checks, refused connections, and an accept queue that is full.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    process::Command,
};

use rustix::system::uname;

use crate::harness::{
    Connection, Listener, Manners, Tracer, assert_same, loopback,
    oracle::Counters,
    ports,
    tracer::{Finished, binary},
    traffic::{Client, at_once, be_refused, connect_without_ack},
    wait,
};

/// Whether the running kernel is at least this one.
fn kernel_is(major: u32, minor: u32) -> bool {
    let release = uname().release().to_string_lossy().into_owned();
    let mut numbers = release.split('.').map(|number| number.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap(), numbers.next().unwrap()) >= (major, minor)
}

fn of(found: &Finished, verdict: &str) -> Vec<Connection> {
    found.connections().into_iter().filter(|connection| connection.verdict == verdict).collect()
}

fn addresses(connections: &[Connection]) -> Vec<SocketAddr> {
    connections.iter().map(|connection| connection.source.address()).collect()
}

/// Whom the listener accepted was established after all: his reset came later than the kernel holds the ACK back.
#[test]
fn half_open_checks_have_a_source_each() {
    const EACH: usize = 100;
    let port = ports::free();
    for (listen, sources) in [
        (IpAddr::from(Ipv4Addr::LOCALHOST), vec![loopback(1, 1), loopback(1, 2), loopback(2, 1)]),
        (IpAddr::from(Ipv6Addr::LOCALHOST), vec![Ipv6Addr::LOCALHOST.into()]),
    ] {
        let listener = Listener::on((listen, port), Manners::default());
        let tracer = Tracer::start(&[port], &[]);
        let made = at_once(&sources, |source| {
            let check = |_| connect_without_ack(*source, listener.address()).reset();
            (0..EACH).map(check).collect::<Vec<_>>()
        })
        .concat();
        tracer.wait_for_connections(made.len());
        let found = tracer.stop();

        let accepted: BTreeSet<SocketAddr> = listener.accepted().into_iter().collect();
        let half_open: Vec<_> = made.iter().copied().filter(|peer| !accepted.contains(peer)).collect();
        assert!(half_open.len() > made.len() / 2, "only {} of {}", half_open.len(), made.len());
        assert_same(addresses(&of(&found, "probe_half_open")), half_open);
        assert_same(addresses(&of(&found, "probe_reset")), accepted);
        for record in of(&found, "probe_half_open") {
            assert_eq!(record.destination.address(), listener.address());
            assert_eq!((record.bytes_in, record.bytes_out, record.segments_in), (0, 0, 0));
            assert_eq!((record.closed_by.as_str(), record.reset_by.as_deref()), ("source", Some("source")));
            assert_eq!(record.evidence.last_state, "SYN_RECV");
            assert!(!record.preexisting);
        }
    }
}

#[test]
fn who_is_refused_is_named() {
    const EACH: usize = 50;
    let (port, other) = (ports::free(), ports::free());
    let tracer = Tracer::start(&[port], &[]);
    let sources = [
        (loopback(1, 1), Ipv4Addr::LOCALHOST.into()),
        (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
    ];
    let made = at_once(&sources, |(source, destination): &(IpAddr, IpAddr)| {
        // A port that is not watched is nobody's business.
        be_refused(*source, (*destination, other).into());
        (0..EACH).map(|_| be_refused(*source, (*destination, port).into())).collect::<Vec<_>>()
    })
    .concat();
    if !kernel_is(5, 17) {
        let found = tracer.stop();
        assert!(found.stderr.iter().any(|line| line.contains("not observed on this kernel: refused")));
        assert!(found.connections().is_empty(), "{:?}", found.stdout);
        assert_eq!(found.not_observed(), ["refused_not_observed".to_owned()].into());
        return;
    }
    tracer.wait_for_connections(made.len());
    let found = tracer.stop();
    assert_eq!(found.not_observed(), [].into());
    assert_same(found.peers(), made);
    for record in found.connections() {
        assert_eq!((record.verdict.as_str(), record.destination.port), ("refused", port));
        assert_eq!((record.closed_by.as_str(), record.reset_by.as_deref()), ("kernel", Some("broker")));
        assert_eq!(record.netns, crate::harness::oracle::netns_inode());
    }
    assert_eq!(found.sums_by_source(), sources.map(|(source, _)| (Some(source), EACH as u64)).into());
}

/// A listener that never accepts, and who is connected to it as far as the clients know.
struct Full {
    listener: TcpListener,
    clients: Vec<Client>,
}

impl Full {
    const BACKLOG: usize = 8;
    /// How many the kernel takes: the queue is full when there are more than the backlog.
    const ROOM: usize = Self::BACKLOG + 1;

    fn new() -> Self {
        let listener = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        listener.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        listener.listen(i32::try_from(Self::BACKLOG).unwrap()).unwrap();
        Self { listener: TcpListener::from(listener), clients: Vec::new() }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    /// So many get their SYN-ACK while there is room, and then complete the handshake by what they send.
    fn connect(&mut self, clients: usize) {
        let destination = self.address();
        let connect = |host| connect_without_ack(loopback(1, u8::try_from(host).unwrap()), destination);
        let before = self.clients.len();
        self.clients.extend((before + 1..=before + clients).map(connect));
        self.clients[before..].iter_mut().for_each(|client| client.send(b"AMQP"));
    }

    /// Compares with whom the listener has after all; each of the others once, however often he tried.
    fn judge(self, tracer: Tracer) {
        let turned_away = self.clients.len() - Self::ROOM;
        tracer.wait_for_connections(turned_away);
        self.listener.set_nonblocking(true).unwrap();
        let accepted: Vec<_> = std::iter::from_fn(|| self.listener.accept().ok()).take(Self::ROOM).collect();
        let found = of(&tracer.stop(), "accept_queue_full");
        assert_eq!(found.len(), turned_away, "{found:?}");
        let in_queue = accepted.iter().map(|(_, peer)| *peer);
        let all = self.clients.iter().map(|client| client.local);
        assert_same(addresses(&found).into_iter().chain(in_queue), all);
        for record in found {
            assert_eq!(
                (record.closed_by.as_str(), record.reset_by.as_deref()),
                ("kernel", None),
                "{record:?}"
            );
        }
    }
}

/// Whoever completes the handshake when the queue is full believes that he is connected, and tries again and again.
#[test]
fn who_finds_the_accept_queue_full_is_named_once() {
    let mut full = Full::new();
    let tracer = Tracer::start(&[full.address().port()], &[]);
    let before = Counters::read();
    full.connect(6);
    full.connect(7);
    wait::until("each to be turned away twice", || {
        (Counters::read().since(&before, "TcpExt.ListenOverflows") >= 8).then_some(())
    });
    full.judge(tracer);
}

/// With many half-open connections the kernel answers with SYN cookies, and remembers nothing of who comes back. There
/// only `kfree_skb` tells (LIMITATIONS.md).
#[test]
fn who_finds_the_accept_queue_full_after_a_syn_cookie() {
    let doctor = Command::new(binary()).arg("doctor").output().unwrap();
    let doctor = String::from_utf8(doctor.stdout).unwrap();
    let way = doctor.lines().find(|line| line.contains("accept queue full")).unwrap();
    if !way.contains("kfree_skb") {
        return;
    }
    let mut full = Full::new();
    let tracer = Tracer::start(&[full.address().port()], &[]);
    let before = Counters::read();
    full.connect(Full::ROOM + 5);
    wait::until("each to be turned away twice", || {
        (Counters::read().since(&before, "TcpExt.ListenOverflows") >= 10).then_some(())
    });
    assert!(Counters::read().since(&before, "TcpExt.SyncookiesSent") > 0);
    full.judge(tracer);
}
