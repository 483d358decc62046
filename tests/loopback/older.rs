//! Connections that were there before the tracer: reported as such, their age never guessed.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::harness::{
    Ending, Listener, Manners, Tracer,
    listener::start_frame,
    loopback, ports,
    traffic::{Client, LOGIN, connect},
};

/// What is said before the tracer starts.
type Before = fn(&mut Client);
/// How it ends once the tracer is there.
type End = fn(Client, &Listener) -> SocketAddr;

const SILENT: Before = |_| {};
const HEADER: Before = Client::shake_hands;
const SESSION: Before = |client| {
    client.shake_hands();
    client.send(&LOGIN);
};

const RESET: End = |client, _| client.reset();
const CLOSE: End = |client, _| client.finish();
const BROKER_RESETS: End = |client, listener| {
    listener.close(client.local, Ending::Reset);
    client.await_end()
};
const BROKER_CLOSES: End = |client, listener| {
    listener.close(client.local, Ending::Fin);
    client.await_end()
};

#[test]
fn a_connection_older_than_the_tracer_has_no_age_but_a_verdict() {
    let cases: [(Before, End, &str, &str, u64); 10] = [
        (SILENT, RESET, "probe_reset", "source", 0),
        (SILENT, CLOSE, "probe_close", "source", 0),
        // What is known does not speak against the time-out: nothing was sent, and the broker closed.
        (SILENT, BROKER_RESETS, "handshake_timeout", "broker", 0),
        (HEADER, RESET, "probe_header", "source", 8),
        (HEADER, CLOSE, "probe_header", "source", 8),
        (HEADER, BROKER_CLOSES, "handshake_timeout", "broker", 8),
        (SESSION, RESET, "session_reset", "source", 68),
        (SESSION, CLOSE, "session", "source", 68),
        (SESSION, BROKER_RESETS, "broker_closed", "broker", 68),
        (SESSION, BROKER_CLOSES, "broker_closed", "broker", 68),
    ];
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let older: Vec<Client> = (1..)
        .zip(&cases)
        .map(|(host, (before, _, _, _, bytes))| {
            let source: IpAddr = loopback(1, host);
            let mut client = connect(source, listener.address());
            before(&mut client);
            listener.wait_accepted(client.local);
            if *bytes > 0 {
                listener.wait_received(client.local, *bytes);
            }
            client
        })
        .collect();
    let tracer = Tracer::start(&[port], &[]);
    let peers: Vec<SocketAddr> =
        older.into_iter().zip(&cases).map(|(client, (_, end, ..))| end(client, &listener)).collect();
    // One that is not older, to tell the two apart.
    let newer = connect(loopback(1, 100), listener.address()).reset();
    tracer.wait_for_connections(cases.len() + 1);
    let found = tracer.stop();

    let connections = found.connections();
    assert_eq!(connections.len(), cases.len() + 1);
    let of = |peer: SocketAddr| connections.iter().find(|c| c.source.address() == peer).unwrap();
    assert!(!of(newer).preexisting);
    for (peer, (_, _, verdict, closed_by, bytes)) in peers.into_iter().zip(cases) {
        let record = of(peer);
        assert!(record.preexisting, "{record:?}");
        assert_eq!((record.established, record.duration_ns), (None, None), "{record:?}");
        assert_eq!((record.verdict.as_str(), record.closed_by.as_str()), (verdict, closed_by), "{record:?}");
        let answered = if bytes > 0 { start_frame().len() as u64 } else { 0 };
        assert_eq!((record.bytes_in, record.bytes_out), (bytes, answered), "all of its bytes: {record:?}");
    }
    let lives: u64 = found.sources().iter().flat_map(|source| &source.duration_ns.counts).sum();
    assert_eq!(lives, 1, "a life that is not known is in no bucket");
}

/// A tracer that comes and goes leaves nothing on a connection that outlives it.
#[test]
fn a_connection_older_than_the_second_tracer_only() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let first = Tracer::start(&[port], &[]);
    let client = connect(loopback(1, 1), listener.address());
    listener.wait_accepted(client.local);
    assert!(first.stop().connections().is_empty(), "a connection that has not ended has no record");
    let second = Tracer::start(&[port], &[]);
    let peer = client.reset();
    listener.wait_ended(1);
    let found = second.stop().connections();
    assert_eq!(found.len(), 1);
    assert_eq!((found[0].source.address(), found[0].preexisting), (peer, true));
    assert!(found[0].duration_ns.map(Duration::from_nanos).is_none());
}
