//! `type: "connection"`.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use serde::Serialize;
use tracer_ebpf::{Sent, errno};

use super::nanoseconds;
use crate::{
    broker::Listener,
    record::{Connection, Party},
    verdict::Verdict,
};

#[derive(Serialize)]
struct Endpoint {
    ip: IpAddr,
    port: u16,
}

#[derive(Serialize)]
pub(super) struct ConnectionBody<'a> {
    time: Timestamp,
    verdict: Verdict,
    source: Endpoint,
    destination: Endpoint,
    established: Option<Timestamp>,
    duration_ns: Option<u64>,
    closed_by: Party,
    reset_by: Option<Party>,
    bytes_in: u64,
    bytes_out: u64,
    segments_in: u32,
    netns: u32,
    preexisting: bool,
    evidence: Evidence,
    listener: Option<ListenerBody<'a>>,
}

/// Who listened on the port when last looked.
#[derive(Serialize)]
pub(super) struct ListenerBody<'a> {
    pid: u32,
    process: &'a str,
    container: Option<&'a str>,
    pod: Option<&'a str>,
    service: Option<&'a str>,
}

impl<'a> ListenerBody<'a> {
    pub(super) fn new(listener: &'a Listener) -> Option<Self> {
        let owner = listener.owner.as_ref()?;
        Some(Self {
            pid: owner.pid,
            process: &owner.comm,
            container: owner.home.container.as_ref().map(|container| container.id.as_str()),
            pod: owner.home.pod.as_deref(),
            service: owner.home.service.as_deref(),
        })
    }
}

/// The facts that the verdict rests on.
#[derive(Serialize)]
struct Evidence {
    last_state: &'static str,
    fin_received: bool,
    source_sent: &'static str,
    broker_sent: &'static str,
    socket_error: Option<String>,
}

impl<'a> ConnectionBody<'a> {
    pub(super) fn new(connection: &Connection, verdict: Verdict, listener: Option<&'a Listener>) -> Self {
        let endpoint = |address: SocketAddr| Endpoint { ip: address.ip(), port: address.port() };
        Self {
            time: connection.time,
            verdict,
            source: endpoint(connection.source),
            destination: endpoint(connection.destination),
            established: connection.established,
            duration_ns: connection.duration.map(nanoseconds),
            closed_by: connection.closed_by,
            reset_by: connection.reset_by,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            segments_in: connection.segments_in,
            netns: connection.netns,
            preexisting: connection.preexisting,
            evidence: Evidence {
                last_state: connection.last_state,
                fin_received: connection.fin_received,
                source_sent: sent(connection.outcome.source_sent),
                broker_sent: sent(connection.outcome.broker_sent),
                socket_error: (connection.error != 0).then(|| error_name(connection.error)),
            },
            listener: listener.and_then(ListenerBody::new),
        }
    }
}

const fn sent(sent: Sent) -> &'static str {
    match sent {
        Sent::Nothing => "nothing",
        Sent::PartOfHeader => "part_of_header",
        Sent::Header => "header",
        Sent::More => "more_than_header",
    }
}

/// An error's name; one that TCP does not close with is given as its number.
fn error_name(error: u32) -> String {
    errno::name_of(error).map_or_else(|| error.to_string(), str::to_owned)
}
