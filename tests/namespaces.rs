//! Several hosts, each with its own address and its own network namespace.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use crate::harness::{
    Connection, Ending, Host, Listener, Manners, Network, Tracer, assert_same, count,
    listener::start_frame,
    oracle::Counters,
    ports,
    traffic::{Client, LOGIN, at_once, connect, reset_probes, reset_probes_to},
    wait,
};

fn listen(host: &Host, port: u16, manners: Manners) -> Listener {
    host.enter(|| Listener::on((Ipv4Addr::UNSPECIFIED, port), manners))
}

/// The tracer runs on the machine; broker and sources are elsewhere, as containers are.
#[test]
fn several_hosts_probe_a_broker_in_another_namespace() {
    const EACH: usize = 500;
    let network = Network::new();
    let broker = network.host();
    let sources: Vec<Host> = (0..5).map(|_| network.host()).collect();
    let port = ports::free();
    let listener = listen(&broker, port, Manners::default());
    let destination = SocketAddr::new(broker.ip, port);
    let before = broker.enter(Counters::read);
    let tracer = Tracer::start(&[port], &["--interval", "200ms"]);
    let made =
        at_once(&sources, |source| source.enter(|| reset_probes_to(destination, source.ip, &listener, EACH)))
            .concat();
    listener.wait_ended(made.len());
    let found = tracer.stop();

    assert_same(found.peers(), made.iter().copied());
    let expected: BTreeMap<_, _> = sources.iter().map(|source| (Some(source.ip), EACH as u64)).collect();
    assert_eq!(found.sums_by_source(), expected);
    for connection in found.connections() {
        assert_eq!(connection.verdict, "probe_reset");
        assert_eq!(connection.destination.address(), destination);
        assert_eq!(
            connection.netns,
            broker.inode(),
            "the broker's namespace, not the source's or the tracer's"
        );
    }
    // The broker's kernel counted as many resets of established connections, and opened as many passively.
    let after = broker.enter(Counters::read);
    assert_eq!(after.since(&before, "Tcp.EstabResets"), made.len() as u64);
    assert_eq!(after.since(&before, "Tcp.PassiveOpens"), made.len() as u64);
    assert_eq!(after.since(&before, "TcpExt.ListenDrops"), 0);
}

/// Two brokers on the same port in two namespaces are told apart by the namespace.
#[test]
fn the_same_port_in_two_namespaces() {
    let network = Network::new();
    let (first, second, source) = (network.host(), network.host(), network.host());
    let port = ports::free();
    let listeners = [&first, &second].map(|host| listen(host, port, Manners::default()));
    let tracer = Tracer::start(&[port], &[]);
    for ((host, listener), n) in [&first, &second].into_iter().zip(&listeners).zip([30, 50]) {
        let destination = SocketAddr::new(host.ip, port);
        source.enter(|| reset_probes_to(destination, source.ip, listener, n));
        listener.wait_ended(n);
    }
    let found = tracer.stop();
    let by_destination = count(found.connections().iter().map(|c| (c.destination.ip, c.netns)));
    assert_eq!(by_destination, [((first.ip, first.inode()), 30), ((second.ip, second.inode()), 50)].into());
    assert_eq!(found.sums_by_source(), [(Some(source.ip), 80)].into());
}

#[test]
fn sources_with_ipv6_addresses() {
    let network = Network::new();
    let (broker, source) = (network.host(), network.host());
    let port = ports::free();
    let listener = broker.enter(|| Listener::on((Ipv6Addr::UNSPECIFIED, port), Manners::default()));
    let tracer = Tracer::start(&[port], &[]);
    let mut made = Vec::new();
    for (from, to) in [(source.ipv6, broker.ipv6), (source.ip, broker.ip)] {
        let probes = source.enter(|| reset_probes_to(SocketAddr::new(to, port), from, &listener, 40));
        made.extend(probes);
    }
    listener.wait_ended(made.len());
    let found = tracer.stop();
    assert_same(found.peers(), made);
    assert_eq!(found.sums_by_source(), [(Some(source.ipv6), 40), (Some(source.ip), 40)].into());
    for connection in found.connections() {
        let expected = if connection.source.ip.is_ipv4() { broker.ip } else { broker.ipv6 };
        assert_eq!((connection.destination.ip, connection.netns), (expected, broker.inode()));
    }
}

/// One host has as many addresses as it likes, and is one source if it is so wished; each record still names its own.
#[test]
fn ipv6_addresses_of_one_prefix_are_one_source() {
    let network = Network::new();
    let (broker, source) = (network.host(), network.host());
    let address = |subnet, host| IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, subnet, 0, 0, 0, host));
    let port = ports::free();
    let listener = broker.enter(|| Listener::on((Ipv6Addr::UNSPECIFIED, port), Manners::default()));
    broker.run_ip(&format!("addr add {}/64 dev eth0 nodad", address(1, 1)));
    let tracer = Tracer::start(&[port], &["--group-v6", "64"]);
    let mut made = source.enter(|| reset_probes_to((broker.ip, port).into(), source.ip, &listener, 4));
    for (subnet, to, hosts) in [(0, broker.ipv6, 0x100..0x110), (1, address(1, 1), 0x100..0x102)] {
        for host in hosts {
            let from = address(subnet, host);
            source.run_ip(&format!("addr add {from}/64 dev eth0 nodad"));
            made.extend(source.enter(|| reset_probes_to((to, port).into(), from, &listener, 3)));
        }
    }
    listener.wait_ended(made.len());
    let found = tracer.stop();

    assert_same(found.peers(), made);
    let expected = [(Some(address(0, 0)), 48), (Some(address(1, 0)), 6), (Some(source.ip), 4)];
    assert_eq!(found.sums_by_source(), expected.into());
    for record in found.sources() {
        let is_v6 = record.source.ip.is_some_and(|ip| ip.is_ipv6());
        assert_eq!(record.source.prefix, is_v6.then_some(64), "{record:?}");
    }
}

/// The tracer's host is also a host like any other: its loopback is not the other namespaces' loopback.
#[test]
fn loopback_inside_a_namespace() {
    let network = Network::new();
    let broker = network.host();
    let port = ports::free();
    let listener = broker.enter(|| Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default()));
    let tracer = Tracer::start(&[port], &[]);
    let made = broker.enter(|| reset_probes(Ipv4Addr::LOCALHOST.into(), &listener, 25));
    listener.wait_ended(made.len());
    let found = tracer.stop();
    assert_same(found.peers(), made);
    assert!(found.connections().iter().all(|connection| connection.netns == broker.inode()));
}

/// A broker and a source, each on a host of its own, and a tracer that has seen nothing yet.
struct Closing {
    broker: Host,
    source: Host,
    listener: Listener,
    port: u16,
    tracer: Tracer,
    _network: Network,
}

impl Closing {
    fn new() -> Self {
        let network = Network::new();
        let (broker, source) = (network.host(), network.host());
        let port = ports::free();
        let listener = listen(&broker, port, Manners::default());
        Self { tracer: Tracer::start(&[port], &[]), broker, source, listener, port, _network: network }
    }

    /// Sessions that the broker closes first, with a FIN, and the source ends as told.
    fn sessions(&self, times: usize, end: impl Fn(Client) -> SocketAddr) -> Vec<SocketAddr> {
        let session = |_| {
            let address = SocketAddr::new(self.broker.ip, self.port);
            let mut client = self.source.enter(|| connect(self.source.ip, address));
            client.shake_hands();
            client.send(&LOGIN);
            self.listener.wait_received(client.local, 68);
            self.listener.close(client.local, Ending::Fin);
            end(client)
        };
        (0..times).map(session).collect()
    }

    /// Stops the tracer, and gives the records, of which there is one for each that was made.
    fn records(self, made: Vec<SocketAddr>) -> Vec<Connection> {
        self.tracer.wait_for_connections(made.len());
        let found = self.tracer.stop();
        assert_same(found.peers(), made);
        let records = found.connections();
        for record in &records {
            let judged = (record.verdict.as_str(), record.closed_by.as_str());
            assert_eq!(judged, ("broker_closed", "broker"), "{record:?}");
        }
        records
    }
}

/// A session that the broker closes first leaves a TIME_WAIT on its side. Its record comes when that begins, once.
#[test]
fn time_wait_is_the_end_of_a_session_that_the_broker_closed() {
    const EACH: usize = 5;
    let closing = Closing::new();
    let made = closing.sessions(EACH, Client::await_end);
    wait::until("the sockets to be in TIME_WAIT", || {
        let sockets = closing.broker.enter(|| std::fs::read_to_string("/proc/thread-self/net/sockstat"));
        sockets.unwrap().contains(&format!(" tw {EACH} ")).then_some(())
    });
    for record in closing.records(made) {
        assert_eq!(record.reset_by, None, "{record:?}");
        assert_eq!(record.evidence.last_state, "FIN_WAIT2", "{record:?}");
        assert!(record.evidence.fin_received, "{record:?}");
    }
}

/// The source resets what the broker has closed: its reset comes with the acknowledgement of the FIN, or, where the kernel
/// has acknowledged it before, to a socket that is gone already. The broker closed first either way.
#[test]
fn a_reset_after_the_broker_closed_first() {
    let closing = Closing::new();
    let made = closing.sessions(20, |mut client| {
        client.await_eof();
        client.reset()
    });
    let mut in_time = 0;
    for record in closing.records(made) {
        match (record.evidence.last_state.as_str(), record.reset_by.as_deref()) {
            ("FIN_WAIT1", Some("source")) => in_time += 1,
            ("FIN_WAIT2", None) => {}
            other => panic!("{other:?}: {record:?}"),
        }
    }
    assert!(in_time > 0, "no reset came in time to be seen");
}

/// A peer that vanishes while nothing is said: keepalive asks, nobody answers, the kernel gives up and resets.
#[test]
fn keepalive_gives_up_on_a_peer_that_vanished() {
    let manners = Manners { keepalive: Some(Duration::from_secs(1)), ..Manners::default() };
    let record = vanish(manners, |_, _| {});
    assert_eq!((record.bytes_in, record.bytes_out), (68, start_frame().len() as u64), "{record:?}");
    assert_eq!(record.reset_by.as_deref(), Some("broker"), "{record:?}");
    assert!(record.duration_ns.unwrap() >= 1_000_000_000, "{record:?}");
}

/// A peer that vanishes while something is sent to it: what is not acknowledged in time ends the connection.
#[test]
fn a_user_time_out_gives_up_on_a_peer_that_vanished() {
    let manners = Manners { user_timeout: Some(Duration::from_millis(500)), ..Manners::default() };
    let record = vanish(manners, |listener, peer| listener.send(peer, b"heartbeat"));
    let sent = start_frame().len() as u64 + 9;
    assert_eq!((record.bytes_in, record.bytes_out), (68, sent), "each byte once: {record:?}");
    assert_eq!(record.reset_by, None, "{record:?}");
}

/// A session whose source's packets and the broker's no longer arrive.
fn vanish(manners: Manners, then: impl Fn(&Listener, SocketAddr)) -> Connection {
    let network = Network::new();
    let (broker, source) = (network.host(), network.host());
    let port = ports::free();
    let listener = listen(&broker, port, manners);
    let tracer = Tracer::start(&[port], &[]);
    let mut client = source.enter(|| connect(source.ip, SocketAddr::new(broker.ip, port)));
    client.shake_hands();
    client.send(&LOGIN);
    listener.wait_received(client.local, 68);
    // A neighbour that is known for good keeps the broker from noticing by other means that the host is gone.
    broker.pin_neighbour(&source);
    source.run_ip("link set eth0 down");
    then(&listener, client.local);
    tracer.wait_for_connections(1);
    let found = tracer.stop();
    let mut connections = found.connections();
    let record = connections.pop().unwrap();
    assert!(connections.is_empty());
    assert_eq!(record.source.address(), client.local);
    assert_eq!((record.verdict.as_str(), record.closed_by.as_str()), ("timed_out", "kernel"), "{record:?}");
    assert_eq!(record.evidence.socket_error.as_deref(), Some("ETIMEDOUT"), "{record:?}");
    assert_eq!(record.evidence.last_state, "ESTABLISHED", "{record:?}");
    record
}
