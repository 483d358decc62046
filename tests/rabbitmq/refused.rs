//! Clients that the broker gives up on or refuses.

use super::{assert_bytes, assert_verdict, block_on, trace, trace_client};
use crate::harness::{
    amqp::Session,
    rabbitmq::RabbitMq,
    traffic::{Client, HEADER, HTTP},
};

#[test]
fn a_silent_client_is_a_handshake_timeout() {
    let broker = RabbitMq::shared();
    let (peer, record) = trace_client(&broker, b"", Client::await_end);
    assert_verdict(&record, "handshake_timeout", "broker", Some("broker"));
    assert_eq!(record.bytes_out, 0);
    broker.wait_for_log(peer, "{handshake_timeout,handshake}");
}

#[test]
fn part_of_a_header_is_a_handshake_timeout() {
    let broker = RabbitMq::shared();
    let (peer, record) = trace_client(&broker, &HEADER[..5], Client::await_end);
    assert_verdict(&record, "handshake_timeout", "broker", Some("broker"));
    broker.wait_for_log(peer, "{handshake_timeout,handshake}");
}

#[test]
fn a_header_and_nothing_more_is_a_handshake_timeout() {
    let broker = RabbitMq::shared();
    let (peer, record) = trace_client(&broker, &HEADER, Client::await_end);
    assert_verdict(&record, "handshake_timeout", "broker", Some("broker"));
    assert!(record.bytes_out > 200, "{record:?}");
    broker.wait_for_log(peer, "{handshake_timeout,frame_header}");
}

#[test]
fn http_is_not_amqp() {
    let broker = RabbitMq::shared();
    let (peer, record) = trace_client(&broker, HTTP, Client::await_end);
    assert_verdict(&record, "not_amqp", "broker", Some("broker"));
    assert_eq!(record.bytes_out, 8);
    broker.wait_for_log(peer, "bad_header");
}

/// A TLS client on the plain port, and something that is no protocol at all.
#[test]
fn tls_and_garbage_are_not_amqp() {
    let broker = RabbitMq::shared();
    // The head of a ClientHello: handshake record, TLS 1.0, 512 bytes of client hello; the rest does not matter.
    let mut hello = vec![22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3];
    hello.resize(517, 7);
    for bytes in [&hello[..], &[0x5a; 32]] {
        let (peer, record) = trace_client(&broker, bytes, Client::await_end);
        assert_verdict(&record, "not_amqp", "broker", Some("broker"));
        assert_eq!((record.bytes_in, record.bytes_out), (bytes.len() as u64, 8), "{record:?}");
        broker.wait_for_log(peer, "bad_header");
    }
}

/// The broker lets a client with the wrong password wait and then closes: more than a header was said, so it is no
/// time-out of the handshake.
#[test]
fn a_wrong_password_is_the_brokers_close() {
    let broker = RabbitMq::shared();
    let (session, record) =
        trace(&broker, |host, address| Session::introduce(host.ip, address, "wrong").await_end());
    assert_verdict(&record, "broker_closed", "broker", Some("broker"));
    assert_bytes(&record, &session);
    broker.wait_for_log(session.peer, "PLAIN login refused");
}

/// A client that can be told why it is refused is told, and then closes: to TCP that is a session in order.
#[test]
fn a_wrong_password_of_lapin_looks_like_a_session() {
    let broker = RabbitMq::shared();
    let (result, record) = trace(&broker, |_, address| {
        let uri = format!("amqp://guest:wrong@{address}/%2f");
        let properties = lapin::ConnectionProperties::default();
        block_on(async { lapin::Connection::connect(&uri, properties).await.map(drop) })
    });
    result.unwrap_err();
    assert_verdict(&record, "session", "source", Some("broker"));
    broker.wait_for_log(record.source.address(), "PLAIN login refused");
}
