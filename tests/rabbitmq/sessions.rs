//! Clients that log in.

use std::net::SocketAddr;

use super::{assert_bytes, assert_verdict, block_on, trace};
use crate::harness::{
    Tracer,
    amqp::{Ended, Session},
    assert_same, count,
    rabbitmq::RabbitMq,
};

/// The real client library: publishes with confirms and closes in order.
#[test]
fn lapin_publishes_and_closes_in_order() {
    const MESSAGES: usize = 200;
    const PAYLOAD: [u8; 500] = [b'p'; 500];
    let broker = RabbitMq::shared();
    let ((), record) = trace(&broker, |_, address| block_on(publish(address, MESSAGES, &PAYLOAD)));
    assert_verdict(&record, "session", "source", Some("broker"));
    assert!(record.bytes_in > (MESSAGES * PAYLOAD.len()) as u64, "{record:?}");
    let said = broker.wait_for_log(record.source.address(), "closing AMQP connection");
    assert!(!said.contains("[warning]") && !said.contains("[error]"), "{said}");
}

async fn publish(broker: SocketAddr, messages: usize, payload: &[u8]) {
    use lapin::{BasicProperties, ConnectionProperties, options, types::FieldTable};
    let uri = format!("amqp://guest:guest@{broker}/%2f");
    let connection = lapin::Connection::connect(&uri, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(options::ConfirmSelectOptions::default()).await.unwrap();
    let queue = channel
        .queue_declare(
            "".into(),
            options::QueueDeclareOptions { exclusive: true, ..Default::default() },
            FieldTable::default(),
        )
        .await
        .unwrap();
    for _ in 0..messages {
        let confirm = channel
            .basic_publish(
                "".into(),
                queue.name().clone(),
                options::BasicPublishOptions::default(),
                payload,
                BasicProperties::default(),
            )
            .await
            .unwrap();
        confirm.await.unwrap();
    }
    connection.close(200, "done".into()).await.unwrap();
}

#[test]
fn a_session_that_closes_in_order() {
    let broker = RabbitMq::shared();
    let (session, record) = trace(&broker, |host, address| Session::open(host.ip, address).close());
    assert_verdict(&record, "session", "source", Some("broker"));
    assert_bytes(&record, &session);
    let said = broker.wait_for_log(session.peer, "closing AMQP connection");
    assert!(!said.contains("[warning]") && !said.contains("[error]"), "{said}");
}

#[test]
fn a_reset_after_the_login_is_a_session_reset() {
    let broker = RabbitMq::shared();
    let (session, record) = trace(&broker, |host, address| Session::open(host.ip, address).reset());
    assert_verdict(&record, "session_reset", "source", Some("source"));
    assert_bytes(&record, &session);
    broker.wait_for_log(session.peer, "client unexpectedly closed TCP connection");
}

#[test]
fn a_session_over_ipv6_and_one_over_ipv4_at_once() {
    let broker = RabbitMq::shared();
    let source = broker.new_host();
    let tracer = Tracer::start(&[broker.port()], &[]);
    let addresses = [(source.ip, broker.host().ip), (source.ipv6, broker.host().ipv6)];
    let ended = source.enter(|| {
        addresses
            .map(|(from, to)| Session::open(from, SocketAddr::new(to, broker.port())))
            .map(Session::close)
    });
    addresses.iter().for_each(|(from, _)| tracer.wait_for_connections_from(*from, 1));
    let found = tracer.stop();
    for ((from, to), session) in addresses.into_iter().zip(ended) {
        let records = found.connections_from(from);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_verdict(&records[0], "session", "source", Some("broker"));
        assert_bytes(&records[0], &session);
        assert_eq!(records[0].destination.ip, to);
        broker.wait_for_log(session.peer, "closing AMQP connection");
    }
}

#[test]
fn a_session_older_than_the_tracer_that_closes_in_order() {
    let broker = RabbitMq::shared();
    let source = broker.new_host();
    let session = source.enter(|| Session::open(source.ip, broker.address()));
    let tracer = Tracer::start(&[broker.port()], &[]);
    let session = session.close();
    tracer.wait_for_connections_from(source.ip, 1);
    let records = tracer.stop().connections_from(source.ip);
    assert_eq!(records.len(), 1, "{records:?}");
    assert_verdict(&records[0], "session", "source", Some("broker"));
    assert_bytes(&records[0], &session);
    assert!(records[0].preexisting);
    assert_eq!(records[0].duration_ns, None);
}

/// Who the broker says it accepted is whom the tracer names, each once.
#[test]
fn the_brokers_log_and_the_tracer_name_the_same_clients() {
    const SESSIONS: usize = 20;
    let broker = RabbitMq::shared();
    let source = broker.new_host();
    let tracer = Tracer::start(&[broker.port()], &[]);
    source.enter(|| {
        for place in 0..SESSIONS {
            let session = Session::open(source.ip, broker.address());
            let _: Ended = if place % 2 == 0 { session.close() } else { session.reset() };
        }
    });
    tracer.wait_for_connections_from(source.ip, SESSIONS);
    let records = tracer.stop().connections_from(source.ip);
    let accepted = broker.wait_for_accepted(&source, SESSIONS);
    assert_eq!(accepted.len(), SESSIONS);
    assert_same(records.iter().map(|record| record.source.address()), accepted);
    let verdicts = count(records.iter().map(|record| record.verdict.as_str()));
    assert_eq!(verdicts, [("session", 10), ("session_reset", 10)].into());
}

#[test]
fn a_broker_that_stops_closes_its_sessions() {
    let mut broker = RabbitMq::start();
    let source = broker.new_host();
    let tracer = Tracer::start(&[broker.port()], &[]);
    let sessions: Vec<Session> =
        source.enter(|| (0..3).map(|_| Session::open(source.ip, broker.address())).collect());
    broker.stop();
    let peers: Vec<SocketAddr> = sessions.into_iter().map(|session| session.await_end().peer).collect();
    tracer.wait_for_connections_from(source.ip, 3);
    let records = tracer.stop().connections_from(source.ip);
    assert_same(records.iter().map(|record| record.source.address()), peers);
    for record in &records {
        assert_eq!(
            (record.verdict.as_str(), record.closed_by.as_str()),
            ("broker_closed", "broker"),
            "{record:?}"
        );
    }
}
