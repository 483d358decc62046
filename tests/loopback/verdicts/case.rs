//! One way to end, and the comparison of its record with what it must be.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use crate::harness::{
    Connection, Listener, Manners, Tracer,
    listener::start_frame,
    loopback, ports,
    traffic::{Client, at_once, connect},
};

/// The stand-in's `handshake_timeout`: the least that counts as one.
pub(super) const TIMEOUT: Duration = Duration::from_millis(1_000);

/// What a source does, and what the record of it must say.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) act: fn(Client, &Listener) -> SocketAddr,
    pub(super) verdict: &'static str,
    pub(super) closed_by: &'static str,
    pub(super) reset_by: Option<&'static str>,
    pub(super) bytes_in: u64,
    pub(super) bytes_out: u64,
    pub(super) last_state: &'static str,
    pub(super) source_sent: &'static str,
    pub(super) broker_sent: &'static str,
}

/// A connection reset by the source before any data: each case differs from this one in what it names.
pub(super) const RESET: Case = Case {
    name: "reset",
    act: |client, _| client.reset(),
    verdict: "probe_reset",
    closed_by: "source",
    reset_by: Some("source"),
    bytes_in: 0,
    bytes_out: 0,
    last_state: "ESTABLISHED",
    source_sent: "nothing",
    broker_sent: "nothing",
};

/// The length of Connection.Start; a constant, so that the cases can be.
pub(super) const START: u64 = 258;

/// Lets all cases happen at once, each from an address of its own, and compares each with its record.
pub(super) fn check(cases: &[Case], manners: Manners) {
    assert_eq!(start_frame().len() as u64, START);
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), manners);
    let numbered: Vec<(IpAddr, &Case)> = (1..).map(|host| loopback(1, host)).zip(cases).collect();
    let tracer = Tracer::start(&[port], &[]);
    let peers =
        at_once(&numbered, |(source, case)| (case.act)(connect(*source, listener.address()), &listener));
    tracer.wait_for_connections(cases.len());
    let found = tracer.stop();

    let connections = found.connections();
    assert_eq!(connections.len(), cases.len(), "{connections:?}");
    for (peer, case) in peers.iter().zip(cases) {
        let record = connections.iter().find(|connection| connection.source.address() == *peer);
        case.compare(record.unwrap_or_else(|| panic!("no record of '{}'", case.name)));
    }
}

impl Case {
    fn compare(&self, record: &Connection) {
        let evidence = &record.evidence;
        let expected = (
            (self.verdict, self.closed_by, self.reset_by),
            (self.bytes_in, self.bytes_out, self.bytes_in > 0),
            (self.last_state, self.source_sent, self.broker_sent),
        );
        let found = (
            (record.verdict.as_str(), record.closed_by.as_str(), record.reset_by.as_deref()),
            (record.bytes_in, record.bytes_out, record.segments_in > 0),
            (evidence.last_state.as_str(), evidence.source_sent.as_str(), evidence.broker_sent.as_str()),
        );
        assert_eq!(found, expected, "'{}': {record:?}", self.name);
        // A half-closed socket had a FIN, one that was reset had none. Whether the broker's kernel still takes the FIN
        // that answers its own depends on whose turn it is.
        if self.last_state != "FIN_WAIT2" {
            let half_closed = ["CLOSE_WAIT", "LAST_ACK"].contains(&self.last_state);
            assert_eq!(evidence.fin_received, half_closed, "'{}': {record:?}", self.name);
        }
        let error = (self.reset_by == Some("source")).then_some("ECONNRESET");
        assert_eq!(evidence.socket_error.as_deref(), error, "'{}': {record:?}", self.name);
        if self.verdict == "handshake_timeout" {
            let lived = Duration::from_nanos(record.duration_ns.unwrap());
            assert!(lived >= TIMEOUT, "'{}': {record:?}", self.name);
        }
    }
}
