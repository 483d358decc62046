//! The health checks of a real HAProxy. How many it made, and from where, is the stand-in's list of who it accepted, or
//! for those that it never sees the kernel's own count.

use std::net::Ipv4Addr;

use crate::harness::{
    Connection, Listener, Manners, Network, Tracer, assert_same, haproxy::HaProxy, oracle::Counters, ports,
    wait,
};

/// As many checks make a test.
const CHECKS: usize = 8;

/// Lets HAProxy check a stand-in with these lines, and gives the record of each check, all of them from HAProxy.
fn check(lines: &[&str]) -> Vec<Connection> {
    let network = Network::new();
    let (broker, checker) = (network.host(), network.host());
    let port = ports::free();
    let listener = broker.enter(|| Listener::on((Ipv4Addr::UNSPECIFIED, port), Manners::default()));
    let tracer = Tracer::start(&[port], &[]);
    let haproxy = HaProxy::start(&checker, (broker.ip, port).into(), lines);
    listener.wait_ended(CHECKS);
    haproxy.stop();
    let accepted = listener.accepted();
    listener.wait_ended(accepted.len());
    let found = tracer.stop();
    assert_same(found.peers(), accepted.iter().copied());
    assert!(accepted.iter().all(|peer| peer.ip() == checker.ip));
    assert_eq!(found.sums_by_source(), [(Some(checker.ip), accepted.len() as u64)].into());
    found.connections()
}

#[test]
fn a_check_that_closes_in_order_is_a_probe_close() {
    for record in check(&["option tcp-check", "tcp-check connect linger"]) {
        assert_eq!(
            (record.verdict.as_str(), record.closed_by.as_str()),
            ("probe_close", "source"),
            "{record:?}"
        );
        assert_eq!((record.bytes_in, record.bytes_out, record.segments_in), (0, 0, 0), "{record:?}");
        assert!(record.evidence.fin_received, "{record:?}");
    }
}

#[test]
fn a_check_that_sends_the_header_is_a_probe_header() {
    let lines = ["option tcp-check", "tcp-check connect", "tcp-check send-binary 414d515000000901"];
    for record in check(&lines) {
        assert_eq!(
            (record.verdict.as_str(), record.closed_by.as_str()),
            ("probe_header", "source"),
            "{record:?}"
        );
        assert_eq!((record.bytes_in, record.segments_in), (8, 1), "{record:?}");
    }
}

/// The check that a broker's operator should have: it reads the answer to the header.
#[test]
fn a_check_that_waits_for_the_answer_is_a_probe_header() {
    let lines = [
        "option tcp-check",
        "tcp-check connect",
        "tcp-check send-binary 414d515000000901",
        "tcp-check expect rbinary ^01",
    ];
    for record in check(&lines) {
        assert_eq!(
            (record.verdict.as_str(), record.closed_by.as_str()),
            ("probe_header", "source"),
            "{record:?}"
        );
        assert_eq!(record.bytes_in, 8, "{record:?}");
        assert!(record.bytes_out > 8, "{record:?}");
    }
}

/// HAProxy's default check never completes the handshake. The broker never sees it; the kernel counts each.
#[test]
fn the_default_check_is_half_open() {
    let network = Network::new();
    let (broker, checker) = (network.host(), network.host());
    let port = ports::free();
    let listener = broker.enter(|| Listener::on((Ipv4Addr::UNSPECIFIED, port), Manners::default()));
    let before = broker.enter(Counters::read);
    let tracer = Tracer::start(&[port], &[]);
    let haproxy = HaProxy::start(&checker, (broker.ip, port).into(), &[]);
    wait::until("half-open resets", || {
        let resets = broker.enter(Counters::read).since(&before, "TcpExt.EmbryonicRsts");
        (resets >= CHECKS as u64).then_some(())
    });
    haproxy.stop();
    let counted = broker.enter(Counters::read).since(&before, "TcpExt.EmbryonicRsts");
    let found = tracer.stop();
    assert!(listener.accepted().is_empty(), "the default check is half-open");
    assert_eq!(found.sums_by_source(), [(Some(checker.ip), counted)].into());
    for record in found.connections() {
        assert_eq!(
            (record.verdict.as_str(), record.source.ip),
            ("probe_half_open", checker.ip),
            "{record:?}"
        );
        assert_eq!(record.destination.address(), (broker.ip, port).into(), "{record:?}");
        assert_eq!(record.netns, broker.inode(), "{record:?}");
    }
}
