//! Sources that only look whether the broker is there.

use std::{thread, time::Duration};

use super::{assert_verdict, trace_client};
use crate::harness::{
    Tracer, assert_same,
    oracle::Counters,
    rabbitmq::RabbitMq,
    traffic::{Client, HEADER, connect},
};

#[test]
fn goproxy_style_probes() {
    const EACH: usize = 100;
    let broker = RabbitMq::shared();
    let hosts = [broker.new_host(), broker.new_host()];
    let before = broker.host().enter(Counters::read);
    let tracer = Tracer::start(&[broker.port()], &[]);
    let mut made = Vec::new();
    for _ in 0..EACH {
        for host in &hosts {
            made.push(host.enter(|| connect(host.ip, broker.address()).reset()));
        }
        // As often as a check of many proxies; a flood would only fill the broker's accept queue of 128.
        thread::sleep(Duration::from_millis(3));
    }
    hosts.iter().for_each(|host| tracer.wait_for_connections_from(host.ip, EACH));
    let found = tracer.stop();
    let after = broker.host().enter(Counters::read);
    assert_eq!(after.since(&before, "TcpExt.ListenDrops"), 0, "the broker's kernel dropped none");

    for host in &hosts {
        let records = found.connections_from(host.ip);
        let made = made.iter().copied().filter(|peer| peer.ip() == host.ip);
        assert_same(records.iter().map(|record| record.source.address()), made);
        for record in &records {
            assert_verdict(record, "probe_reset", "source", Some("source"));
            assert_eq!(record.netns, broker.host().inode());
        }
        assert_eq!(found.sums_by_source()[&Some(host.ip)], EACH as u64);
    }
}

/// What the broker says of such a probe depends on the moment it comes; what the tracer says does not.
#[test]
fn probes_that_reset_after_a_while() {
    let broker = RabbitMq::shared();
    for wait in [0, 50, 1_000] {
        let (_, record) = trace_client(&broker, b"", |client| {
            thread::sleep(Duration::from_millis(wait));
            client.reset()
        });
        assert_verdict(&record, "probe_reset", "source", Some("source"));
        // Established on the broker's side is when the last acknowledgement arrives, just after the client's side.
        assert!(record.duration_ns.unwrap() + 10_000_000 >= wait * 1_000_000, "{wait} ms: {record:?}");
    }
}

#[test]
fn a_close_without_a_word_is_a_probe_close() {
    let broker = RabbitMq::shared();
    let (_, record) = trace_client(&broker, b"", Client::finish);
    assert_verdict(&record, "probe_close", "source", Some("broker"));
}

#[test]
fn a_header_then_a_reset_is_a_probe_header() {
    let broker = RabbitMq::shared();
    let (peer, record) = trace_client(&broker, &HEADER, |mut client| {
        client.receive(200);
        client.reset()
    });
    assert_verdict(&record, "probe_header", "source", Some("source"));
    broker.wait_for_log(peer, "client unexpectedly closed TCP connection");
}
