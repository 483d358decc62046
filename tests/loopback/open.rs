//! What is open at this moment, and who listens for it.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant},
};

use crate::harness::{
    Listener, Manners, Tracer, loopback, ports,
    record::Open,
    traffic::{Client, LOGIN, connect},
    wait,
};

/// Those that were there before the tracer have a source at once, and who has said nothing yet is told apart.
#[test]
fn what_is_open_and_who_is_silent() {
    const AGE: Duration = Duration::from_millis(1_500);
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let [silent, talking, both, gone] = [1, 2, 3, 4].map(|host| loopback(1, host));
    let older: Vec<Client> = [silent, silent, silent, both].map(|ip| connect(ip, listener.address())).into();
    older.iter().for_each(|client| listener.wait_accepted(client.local));
    let begin = Instant::now();
    let tracer = Tracer::start(&[port], &["--interval", "1s", "--events", "open,sources"]);
    let mut newer: Vec<Client> = [talking, talking, both].map(|ip| connect(ip, listener.address())).into();
    for client in &mut newer {
        client.shake_hands();
        client.send(&LOGIN);
        listener.wait_received(client.local, 68);
    }
    connect(gone, listener.address()).reset();
    listener.wait_ended(1);
    wait::until("the older ones to have an age", || (begin.elapsed() > AGE).then_some(()));
    let found = tracer.stop();

    // What was said last of each.
    let open: BTreeMap<IpAddr, Open> =
        found.open().into_iter().map(|open| (open.source.ip.unwrap(), open)).collect();
    let counts: BTreeMap<_, _> = open.iter().map(|(ip, open)| (*ip, (open.open, open.silent))).collect();
    assert_eq!(counts, [(silent, (3, 3)), (talking, (2, 0)), (both, (2, 1))].into());
    for ip in [silent, both] {
        let silence = Duration::from_nanos(open[&ip].longest_silence_ns.unwrap());
        // The kernel counts in ticks of up to 10 ms.
        assert!(silence + Duration::from_millis(10) >= AGE, "{ip}: {silence:?}");
        assert!(silence <= begin.elapsed() + Duration::from_secs(1), "{ip}: {silence:?}");
    }
    assert_eq!(found.sums_by_source(), [(Some(gone), 1)].into(), "nothing of the others has ended");
    drop((older, newer));
}

/// This test is who listens, and no other process that happened to run when the packets came.
#[test]
fn who_listens_is_named() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::UNSPECIFIED, port), Manners::default());
    let tracer = Tracer::start(&[port], &["--interval", "1s"]);
    let open = connect(loopback(1, 1), (Ipv4Addr::LOCALHOST, port).into());
    // The first look is over when the first window is.
    wait::until("the first look", || tracer.has_said(r#""type":"open""#).then_some(()));
    let peer = open.reset();
    listener.wait_ended(1);
    let connections = tracer.stop().connections();

    let [record] = &connections[..] else { panic!("{connections:?}") };
    assert_eq!(record.source.address(), peer);
    let process = record.listener.as_ref().unwrap_or_else(|| panic!("{record:?}"));
    let comm = std::fs::read_to_string("/proc/self/comm").unwrap();
    assert_eq!((process.pid, process.process.as_str()), (std::process::id(), comm.trim_end()), "{record:?}");
    assert_eq!((&process.container, &process.pod), (&None, &None), "{record:?}");
}
