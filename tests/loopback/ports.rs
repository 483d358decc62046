//! Which connections are the broker's: those that came to a watched port, and no others.

use std::net::{Ipv4Addr, SocketAddr};

use crate::harness::{
    Listener, Manners, Tracer, assert_same, count, loopback, ports,
    traffic::{at_once, connect_from, reset_probes, sessions},
};

#[test]
fn a_port_that_is_not_watched_contributes_nothing() {
    let (watched, other) = (ports::free(), ports::free());
    let listener = |port| Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let listeners = [listener(watched), listener(other)];
    let tracer = Tracer::start(&[watched], &["--interval", "200ms"]);
    // The same source at both, so that a count too many cannot hide behind another address.
    let made = at_once(&listeners, |listener| {
        let mut made = reset_probes(loopback(1, 1), listener, 300);
        made.extend(sessions(loopback(1, 1), listener, 30));
        listener.wait_ended(made.len());
        made
    });
    let found = tracer.stop();
    assert_same(found.peers(), made[0].iter().copied());
    assert_eq!(found.sums_by_source(), [(Some(loopback(1, 1)), 330)].into());
    assert!(found.connections().iter().all(|connection| connection.destination.port == watched));
}

/// As many as may be watched at once, each with a number of probes of its own.
#[test]
fn sixty_four_ports_at_once() {
    let ports = ports::several(64);
    let addresses: Vec<SocketAddr> =
        ports.iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, *port))).collect();
    let listener = Listener::on_all(&addresses, Manners::default());
    let tracer = Tracer::start(&ports, &[]);
    let mut made = Vec::new();
    for (place, address) in addresses.iter().enumerate() {
        for _ in 0..=place % 7 {
            connect_from(SocketAddr::new(loopback(1, 1), 0), *address).reset();
            made.push(address.port());
        }
    }
    listener.wait_ended(made.len());
    let found = tracer.stop();
    assert_eq!(count(found.connections().iter().map(|connection| connection.destination.port)), count(made));
}

/// A client on the broker's host may by chance have a watched port as its own. Its connections lead elsewhere.
#[test]
fn what_the_host_opens_from_a_watched_port_is_not_to_the_broker() {
    let (watched, elsewhere) = (ports::free(), ports::free());
    let here = loopback(5, 5);
    let broker = Listener::on((Ipv4Addr::LOCALHOST, watched), Manners::default());
    let other = Listener::on((Ipv4Addr::LOCALHOST, elsewhere), Manners::default());
    let tracer = Tracer::start(&[watched], &[]);
    let from_watched = |port| connect_from(SocketAddr::new(loopback(5, port), watched), other.address());
    from_watched(1).reset();
    let mut session = from_watched(2);
    session.shake_hands();
    session.finish();
    let closed = from_watched(3);
    other.close(closed.local, crate::harness::Ending::Reset);
    closed.await_end();
    other.wait_ended(3);
    // And one that is, so that an empty answer is not mistaken for a right one.
    let made = reset_probes(here, &broker, 1);
    broker.wait_ended(1);
    assert_same(tracer.stop().peers(), made);
}
