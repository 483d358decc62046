//! When the daemon does not keep up: the totals per source stay exact, and what has no record of its own is said to.

use std::{collections::BTreeMap, net::Ipv4Addr};

use rustix::process::Signal;

use crate::harness::{
    Listener, Loss, Manners, Tracer, count,
    listener::start_frame,
    loopback, ports,
    traffic::{at_once, reset_probes, sessions},
};

#[test]
fn totals_stay_exact_when_the_ring_is_full() {
    const SESSIONS: usize = 100;
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let probes = [(1, 400), (2, 500), (3, 600), (4, 700), (5, 800)];
    let talker = loopback(2, 1);
    let tracer = Tracer::start(&[port], &["--ring-kib", "4"]);
    tracer.signal(Signal::STOP);
    let mut made = at_once(&probes, |(host, n)| reset_probes(loopback(1, *host), &listener, *n)).concat();
    made.extend(sessions(talker, &listener, SESSIONS));
    listener.wait_ended(made.len());
    tracer.signal(Signal::CONT);
    let found = tracer.stop();

    let by_source: BTreeMap<_, _> =
        count(made.iter().map(|peer| peer.ip())).into_iter().map(|(ip, n)| (Some(ip), n)).collect();
    assert_eq!(by_source.values().sum::<u64>(), 3_100);
    assert_eq!(found.sums_by_source(), by_source);

    let made_by_peer = count(made.iter().copied());
    let recorded = count(found.peers());
    for (peer, records) in &recorded {
        assert!(*records <= made_by_peer.get(peer).copied().unwrap_or(0), "{peer} has {records} records");
    }
    let missing = made.len() as u64 - recorded.values().sum::<u64>();
    assert!(missing > 2_000, "a ring of 4 KiB held all but {missing} of the records");
    let sources = found.sources();
    assert_eq!(sources.iter().map(|source| source.unrecorded).sum::<u64>(), missing);
    check_loss(&found.losses(), missing);

    let verdicts = |ip| {
        let mut sums = BTreeMap::new();
        for source in sources.iter().filter(|source| source.source.ip == Some(ip)) {
            for (verdict, n) in &source.verdicts {
                *sums.entry(verdict.as_str()).or_insert(0) += n;
            }
        }
        sums
    };
    for (host, n) in probes {
        assert_eq!(verdicts(loopback(1, host)), [("probe_reset", n as u64)].into());
    }
    assert_eq!(verdicts(talker), [("session", SESSIONS as u64)].into());
    let bytes = |pick: fn(&crate::harness::Source) -> u64| {
        sources.iter().filter(|source| source.source.ip == Some(talker)).map(pick).sum::<u64>()
    };
    assert_eq!(bytes(|source| source.bytes_in), 68 * SESSIONS as u64);
    assert_eq!(bytes(|source| source.bytes_out), (start_frame().len() * SESSIONS) as u64);
}

/// The same while it runs: several windows, each of which loses something, add up.
#[test]
fn totals_stay_exact_over_windows_that_lose() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let sources = [loopback(1, 1), loopback(1, 2)];
    let tracer = Tracer::start(&[port], &["--ring-kib", "4", "--interval", "100ms"]);
    let mut made = Vec::new();
    for _ in 0..5 {
        tracer.signal(Signal::STOP);
        made.extend(at_once(&sources, |source| reset_probes(*source, &listener, 300)).concat());
        tracer.signal(Signal::CONT);
        made.extend(at_once(&sources, |source| reset_probes(*source, &listener, 300)).concat());
    }
    listener.wait_ended(made.len());
    let found = tracer.stop();
    let expected: BTreeMap<_, _> = sources.iter().map(|ip| (Some(*ip), 3_000)).collect();
    assert_eq!(found.sums_by_source(), expected);
    let missing = made.len() as u64 - found.peers().len() as u64;
    assert!(missing > 0);
    assert_eq!(found.sources().iter().map(|source| source.unrecorded).sum::<u64>(), missing);
    check_loss(&found.losses(), missing);
}

fn check_loss(losses: &[Loss], missing: u64) {
    assert!(losses.iter().all(|loss| loss.reason == "ring_full"), "{losses:?}");
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), missing, "{losses:?}");
}
