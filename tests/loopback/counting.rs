//! Every connection once, at its source.

use std::{collections::BTreeMap, net::IpAddr, net::Ipv4Addr, thread, time::Duration};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::harness::{
    Listener, Manners, Tracer, assert_same, count, loopback, ports,
    traffic::{Client, at_once, connect, reset_probes},
};

/// Both kinds of records against the list of who probed.
#[test]
fn a_thousand_probes_from_each_of_twenty_sources_at_once() {
    const EACH: usize = 1_000;
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let sources: Vec<IpAddr> = (1..=20).map(|host| loopback(1 + host % 3, host)).collect();
    let tracer = Tracer::start(&[port], &["--interval", "200ms"]);
    let made = at_once(&sources, |source| reset_probes(*source, &listener, EACH)).concat();
    listener.wait_ended(made.len());
    let found = tracer.stop();

    assert_eq!(made.len(), 20_000);
    assert!(found.losses().is_empty(), "{:?}", found.losses());
    // The kernel had them all established, and the records name each once and no other.
    assert_same(listener.accepted(), made.iter().copied());
    assert_same(found.peers(), made);
    let expected: BTreeMap<Option<IpAddr>, u64> = sources.iter().map(|ip| (Some(*ip), EACH as u64)).collect();
    assert_eq!(found.sums_by_source(), expected);
    for connection in found.connections() {
        assert_eq!(connection.verdict, "probe_reset", "{connection:?}");
        assert_eq!(connection.destination.address(), listener.address());
    }
    for source in found.sources() {
        assert_eq!(source.verdicts, BTreeMap::from([("probe_reset".to_owned(), source.connections)]));
        assert_eq!((source.bytes_in, source.bytes_out), (0, 0));
        assert_eq!(
            source.duration_ns.counts.iter().sum::<u64>(),
            source.connections,
            "each life in one bucket"
        );
    }
}

/// What two tracers see does not depend on each other.
#[test]
fn two_tracers_at_once_both_count_everything() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let (first, second) = (Tracer::start(&[port], &[]), Tracer::start(&[port], &[]));
    let sources = [loopback(1, 1), loopback(1, 2)];
    let mut made = at_once(&sources, |source| reset_probes(*source, &listener, 500)).concat();
    listener.wait_ended(made.len());
    let first = first.stop();
    assert!(first.losses().is_empty(), "{:?}", first.losses());
    assert_same(first.peers(), made.iter().copied());
    made.extend(reset_probes(sources[0], &listener, 100));
    listener.wait_ended(made.len());
    assert_same(second.stop().peers(), made);
}

/// How long a probe waits before it resets is how long the connection lived, and nothing else.
#[test]
fn a_probe_that_waits_before_it_resets() {
    const EACH: usize = 5;
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let waits = [(loopback(1, 1), 0), (loopback(1, 2), 50), (loopback(1, 3), 1_000)];
    let tracer = Tracer::start(&[port], &[]);
    let made = at_once(&waits, |(source, wait)| {
        let probe = |_| {
            let client = connect(*source, listener.address());
            // From here on the kernel has had it established, so the record's duration is never the shorter one.
            listener.wait_accepted(client.local);
            thread::sleep(Duration::from_millis(*wait));
            client.reset()
        };
        (0..EACH).map(probe).collect::<Vec<_>>()
    })
    .concat();
    listener.wait_ended(made.len());
    let found = tracer.stop();

    assert_same(found.peers(), made);
    for (source, wait) in waits {
        let of_source = found.connections_from(source);
        assert_eq!(of_source.len(), EACH);
        for connection in of_source {
            assert_eq!(connection.verdict, "probe_reset");
            assert!(connection.duration_ns.unwrap() >= wait * 1_000_000, "{wait} ms: {connection:?}");
            assert!(!connection.preexisting);
        }
    }
    // Lives of a second or more are in the buckets past the bound of a second, and only they.
    let long = |counts: &[u64], bounds: &[u64]| -> u64 {
        counts.iter().skip(bounds.iter().take_while(|bound| **bound <= 1_000_000_000).count()).sum()
    };
    for source in found.sources() {
        let histogram = &source.duration_ns;
        let expected = if source.source.ip == Some(waits[2].0) { EACH as u64 } else { 0 };
        assert_eq!(long(&histogram.counts, &histogram.bounds), expected, "{source:?}");
    }
}

/// With so many open at once some meet in the table in which the kernel side keeps most of its state: two thousand
/// among 65,536 places make about thirty pairs. Each must still have its own beginning.
#[test]
fn two_thousand_open_at_once() {
    const OPEN: u32 = 2_000;
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).unwrap();
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], &[]);
    let connect_one = |n| {
        let client = connect(loopback(1, n), listener.address());
        listener.wait_accepted(client.local);
        client
    };
    let open: Vec<_> = (0..OPEN).map(|n| connect_one(u8::try_from(n % 200).unwrap())).collect();
    let made: Vec<_> = open.into_iter().map(Client::reset).collect();
    listener.wait_ended(made.len());
    let found = tracer.stop();

    assert!(found.losses().is_empty(), "{:?}", found.losses());
    assert_same(found.peers(), made.iter().copied());
    let began: BTreeMap<_, _> =
        found.connections().iter().map(|c| (c.source.address(), c.established)).collect();
    let in_order: Vec<_> =
        made.iter().map(|peer| began[peer].expect("none is older than the tracer")).collect();
    assert!(in_order.is_sorted_by(|one, next| one < next), "established in the order they were made");
}

/// Beyond the bound the smallest sources are counted together: nothing is lost, only names are.
#[test]
fn more_sources_than_are_kept_apart() {
    const MOST: usize = 10;
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], &["--max-sources", "10"]);
    let mut made = Vec::new();
    for host in 1..=200 {
        made.extend(reset_probes(loopback(2, host), &listener, 1 + usize::from(host % 4)));
    }
    // One that stands out must not end in the rest.
    let large = loopback(3, 1);
    made.extend(reset_probes(large, &listener, 400));
    listener.wait_ended(made.len());
    let found = tracer.stop();

    let made_by_source = count(made.iter().map(|peer| peer.ip()));
    let records_by_source = count(found.connections().iter().map(|connection| connection.source.ip));
    assert_eq!(records_by_source, made_by_source, "the records name all");
    let sums = found.sums_by_source();
    assert_eq!(sums.values().sum::<u64>(), made.len() as u64, "{sums:?}");
    assert!(sums[&None] > 0);
    assert!(sums.keys().flatten().count() <= MOST, "{sums:?}");
    assert_eq!(sums[&Some(large)], 400);
    for (source, sum) in &sums {
        if let Some(source) = source {
            assert!(*sum <= made_by_source[source], "{source} has {sum}");
        }
    }
    let rest: Vec<_> = found.sources().into_iter().filter(|source| source.source.ip.is_none()).collect();
    let (kept, folded) = (sums.len() - 1, rest.iter().filter_map(|rest| rest.folded).sum::<u64>());
    assert!(folded >= (201 - kept) as u64, "{folded} folded, {kept} kept");
    assert_eq!(rest[0].verdicts["probe_reset"], rest[0].connections);
}
