//! Every way to end has its verdict, with the facts that it rests on.

mod case;

use self::case::{Case, RESET, START, TIMEOUT, check};
use crate::harness::{
    Ending, Manners,
    traffic::{HEADER, HTTP, LOGIN},
};

/// AMQP 1.0's header, which a broker of AMQP 0-9-1 refuses.
const OTHER_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

#[test]
fn what_the_source_ends() {
    let cases = [
        RESET,
        Case {
            name: "3 bytes, reset",
            act: |mut client, listener| {
                client.send(&HEADER[..3]);
                listener.wait_received(client.local, 3);
                client.reset()
            },
            verdict: "probe_header",
            bytes_in: 3,
            source_sent: "part_of_header",
            ..RESET
        },
        Case {
            name: "header, reset",
            act: |mut client, _| {
                client.shake_hands();
                client.reset()
            },
            verdict: "probe_header",
            bytes_in: 8,
            bytes_out: START,
            source_sent: "header",
            broker_sent: "more_than_header",
            ..RESET
        },
        Case {
            name: "session, reset",
            act: |mut client, listener| {
                client.shake_hands();
                client.send(&LOGIN);
                listener.wait_received(client.local, 68);
                client.reset()
            },
            verdict: "session_reset",
            bytes_in: 68,
            bytes_out: START,
            source_sent: "more_than_header",
            broker_sent: "more_than_header",
            ..RESET
        },
    ];
    check(&cases, Manners::default());
}

/// A source that closes with FIN, before a broker that closes as RabbitMQ does (RST) and one that does not.
#[test]
fn what_the_source_ends_in_order() {
    for (ending, reset_by, last_state) in
        [(Ending::Reset, Some("broker"), "CLOSE_WAIT"), (Ending::Fin, None, "LAST_ACK")]
    {
        let close =
            Case { act: |client, _| client.close(), verdict: "probe_close", reset_by, last_state, ..RESET };
        let cases = [
            Case { name: "close", ..close },
            Case { name: "close one way", act: |client, _| client.finish(), ..close },
            Case {
                name: "3 bytes, close",
                act: |mut client, _| {
                    client.send(&HEADER[..3]);
                    client.finish()
                },
                verdict: "probe_header",
                bytes_in: 3,
                source_sent: "part_of_header",
                ..close
            },
            Case {
                name: "header, close",
                act: |mut client, _| {
                    client.shake_hands();
                    client.finish()
                },
                verdict: "probe_header",
                bytes_in: 8,
                bytes_out: START,
                source_sent: "header",
                broker_sent: "more_than_header",
                ..close
            },
            Case {
                name: "session, close",
                act: |mut client, _| {
                    client.shake_hands();
                    client.send(&LOGIN);
                    client.finish()
                },
                verdict: "session",
                bytes_in: 68,
                bytes_out: START,
                source_sent: "more_than_header",
                broker_sent: "more_than_header",
                ..close
            },
            Case {
                name: "session of 100,000 bytes, close",
                act: |mut client, _| {
                    client.shake_hands();
                    client.send(&[b'm'; 100_000]);
                    client.finish()
                },
                verdict: "session",
                bytes_in: 100_008,
                bytes_out: START,
                source_sent: "more_than_header",
                broker_sent: "more_than_header",
                ..close
            },
        ];
        check(&cases, Manners { ending, ..Manners::default() });
    }
}

/// The broker gives up on who said too little, refuses what is no AMQP 0-9-1, and closes sessions.
#[test]
fn what_the_broker_ends() {
    for (ending, reset_by, last_state) in
        [(Ending::Reset, Some("broker"), "ESTABLISHED"), (Ending::Fin, None, "FIN_WAIT2")]
    {
        let silent = Case {
            name: "silent",
            act: |client, _| client.await_end(),
            verdict: "handshake_timeout",
            closed_by: "broker",
            reset_by,
            last_state,
            ..RESET
        };
        let cases = [
            Case {
                name: "part of a header, silent",
                act: |mut client, _| {
                    client.send(&HEADER[..5]);
                    client.await_end()
                },
                bytes_in: 5,
                source_sent: "part_of_header",
                ..silent
            },
            Case {
                name: "header, silent",
                act: |mut client, _| {
                    client.shake_hands();
                    client.await_end()
                },
                bytes_in: 8,
                bytes_out: START,
                source_sent: "header",
                broker_sent: "more_than_header",
                ..silent
            },
            Case {
                name: "HTTP",
                act: |mut client, _| {
                    client.send(HTTP);
                    client.await_end()
                },
                verdict: "not_amqp",
                bytes_in: HTTP.len() as u64,
                bytes_out: 8,
                source_sent: "more_than_header",
                broker_sent: "header",
                ..silent
            },
            Case {
                name: "AMQP 1.0",
                act: |mut client, _| {
                    client.send(&OTHER_HEADER);
                    client.await_end()
                },
                verdict: "not_amqp",
                bytes_in: 8,
                bytes_out: 8,
                source_sent: "header",
                broker_sent: "header",
                ..silent
            },
            silent,
        ];
        check(&cases, Manners { ending, timeout: Some(TIMEOUT), ..Manners::default() });
    }
}

/// Closed by the broker before any time-out can have passed.
#[test]
fn what_the_broker_ends_early() {
    let reset = Case {
        name: "session, reset by the broker",
        act: |mut client, listener| {
            client.shake_hands();
            client.send(&LOGIN);
            listener.wait_received(client.local, 68);
            listener.close(client.local, Ending::Reset);
            client.await_end()
        },
        verdict: "broker_closed",
        closed_by: "broker",
        reset_by: Some("broker"),
        bytes_in: 68,
        bytes_out: START,
        source_sent: "more_than_header",
        broker_sent: "more_than_header",
        ..RESET
    };
    let cases = [
        Case {
            name: "session, closed by the broker",
            act: |mut client, listener| {
                client.shake_hands();
                client.send(&LOGIN);
                listener.wait_received(client.local, 68);
                listener.close(client.local, Ending::Fin);
                client.await_end()
            },
            reset_by: None,
            last_state: "FIN_WAIT2",
            ..reset
        },
        Case {
            name: "silent, reset by the broker at once",
            act: |client, listener| {
                listener.close(client.local, Ending::Reset);
                client.await_end()
            },
            bytes_in: 0,
            bytes_out: 0,
            source_sent: "nothing",
            broker_sent: "nothing",
            ..reset
        },
        reset,
    ];
    check(&cases, Manners::default());
}
