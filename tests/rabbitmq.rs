//! A real RabbitMQ: what the tracer says of each behaviour beside what the broker's own log says of the same source
//! port. Every test has hosts of its own, so tests can share the broker.

mod probes;
mod refused;
mod sessions;

use std::net::SocketAddr;

use crate::harness::{
    Connection, Host, Tracer,
    amqp::Ended,
    rabbitmq::RabbitMq,
    traffic::{Client, connect},
};

/// Traces what `act` does on a host of its own, and gives the one record of it with what `act` returned.
fn trace<T: Send>(broker: &RabbitMq, act: impl FnOnce(&Host, SocketAddr) -> T + Send) -> (T, Connection) {
    let source = broker.new_host();
    let tracer = Tracer::start(&[broker.port()], &[]);
    let made = source.enter(|| act(&source, broker.address()));
    tracer.wait_for_connections_from(source.ip, 1);
    let mut records = tracer.stop().connections_from(source.ip);
    assert_eq!(records.len(), 1, "{records:?}");
    (made, records.remove(0))
}

/// The same for a connection that says `bytes` and then does as told.
fn trace_client(
    broker: &RabbitMq,
    bytes: &[u8],
    end: impl FnOnce(Client) -> SocketAddr + Send,
) -> (SocketAddr, Connection) {
    let (peer, record) = trace(broker, |host, address| {
        let mut client = connect(host.ip, address);
        client.send(bytes);
        end(client)
    });
    assert_eq!(record.source.address(), peer, "{record:?}");
    assert_eq!(record.bytes_in, bytes.len() as u64, "{record:?}");
    (peer, record)
}

fn assert_verdict(record: &Connection, verdict: &str, closed_by: &str, reset_by: Option<&str>) {
    let found = (record.verdict.as_str(), record.closed_by.as_str(), record.reset_by.as_deref());
    assert_eq!(found, (verdict, closed_by, reset_by), "{record:?}");
}

/// Its bytes are the ones that both ends of the session counted.
fn assert_bytes(record: &Connection, session: &Ended) {
    assert_eq!(record.source.address(), session.peer, "{record:?}");
    assert_eq!((record.bytes_in, record.bytes_out), (session.sent, session.read), "{record:?}");
}

/// Runs what the client library does, on the thread and so on the host that calls it.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
