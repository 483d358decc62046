//! IPv6, and IPv4 on a socket of IPv6.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::harness::{
    Listener, Manners, Tracer, count,
    listener::start_frame,
    loopback, oracle, ports,
    traffic::{connect, reset_probes, sessions},
};

const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

/// RabbitMQ listens on one IPv6 socket for both.
#[test]
fn both_families_on_a_dual_stack_listener() {
    let port = ports::free();
    let listener = Listener::on((Ipv6Addr::UNSPECIFIED, port), Manners::default());
    let at = |ip| SocketAddr::new(ip, port);
    let (broker_v4, source_v4) = (IpAddr::V4(Ipv4Addr::LOCALHOST), loopback(9, 9));
    let tracer = Tracer::start(&[port], &[]);
    let mut made = Vec::new();
    for _ in 0..50 {
        made.push((connect(source_v4, at(broker_v4)).reset(), at(broker_v4)));
        made.push((connect(V6, at(V6)).reset(), at(V6)));
    }
    listener.wait_ended(made.len());
    let found = tracer.stop();

    let connections = found.connections();
    let pairs = count(connections.iter().map(|c| (c.source.address(), c.destination.address())));
    assert_eq!(pairs, count(made), "IPv4 is written as IPv4, whatever socket took it");
    assert_eq!(found.sums_by_source(), [(Some(source_v4), 50), (Some(V6), 50)].into());
    for connection in connections {
        assert_eq!((connection.verdict.as_str(), connection.netns), ("probe_reset", oracle::netns_inode()));
    }
}

/// The same fields from a socket of native IPv6, with data and both orderly and abrupt ends.
#[test]
fn sessions_over_ipv6() {
    let port = ports::free();
    let listener = Listener::on((Ipv6Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], &[]);
    let mut made = sessions(V6, &listener, 5);
    made.extend(reset_probes(V6, &listener, 5));
    listener.wait_ended(made.len());
    let found = tracer.stop();

    let connections = found.connections();
    let peers: Vec<SocketAddr> = connections.iter().map(|connection| connection.source.address()).collect();
    assert_eq!(count(peers), count(made.iter().copied()));
    for connection in connections {
        let session = made[..5].contains(&connection.source.address());
        let expected =
            if session { ("session", 68, start_frame().len() as u64) } else { ("probe_reset", 0, 0) };
        assert_eq!((connection.verdict.as_str(), connection.bytes_in, connection.bytes_out), expected);
        assert_eq!(connection.destination.address(), listener.address());
    }
}
