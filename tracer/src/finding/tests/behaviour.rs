//! Each behaviour opens what it should and nothing else, with every length of window.

use super::*;
use Verdict::{
    AcceptQueueFull, BrokerClosed, HandshakeTimeout, NotAmqp, ProbeClose, ProbeHalfOpen, ProbeHeader,
    ProbeReset, Refused, Session, SessionReset, TimedOut,
};

const ALL: i64 = 3 * HOUR;

/// What goes on for the first hour, and the findings it should make.
fn behaviours() -> Vec<(&'static str, Source, &'static [&'static str])> {
    let for_an_hour = |step, verdict, life| every(step, 500, HOUR, verdict, life);
    let mixed = |ends: [Ends; 2]| Source::of(ends.concat());
    vec![
        ("goproxy every 2 s", Source::of(for_an_hour(2_000, ProbeReset, 0)), &["AT001"]),
        (
            "goproxy as a clock",
            Source::of(for_an_hour(2_000, ProbeReset, 0)).with_period(15_000, 2_000),
            &["AT001"],
        ),
        ("goproxy every 30 s", Source::of(for_an_hour(30_000, ProbeReset, 0)), &["AT001"]),
        ("goproxy every 60 s", Source::of(for_an_hour(60_000, ProbeReset, 0)), &["AT001"]),
        ("goproxy every 73 s", Source::of(for_an_hour(73_000, ProbeReset, 0)), &["AT001"]),
        (
            "goproxy every 6 min, as a clock",
            Source::of(for_an_hour(6 * MINUTE, ProbeReset, 0)).with_period(0, 360_000),
            &["AT001"],
        ),
        ("4 resets in an hour", Source::of(for_an_hour(15 * MINUTE, ProbeReset, 0)), &[]),
        (
            "HAProxy, half-open",
            Source::of(for_an_hour(2_000, ProbeHalfOpen, 0)).with_period(15_000, 2_000),
            &[],
        ),
        ("HAProxy, connect linger", Source::of(for_an_hour(2_000, ProbeClose, 1)), &["AT002"]),
        ("HAProxy, header", Source::of(for_an_hour(5_000, ProbeHeader, 1)), &["AT002"]),
        (
            "goproxy beside an application that polls",
            mixed([for_an_hour(2_000, ProbeReset, 0), for_an_hour(60_000, Session, 1_000)])
                .with_period(15_000, 2_000),
            &["AT001"],
        ),
        (
            "an application that resets now and then what it never used",
            mixed([for_an_hour(20_000, ProbeReset, 0), for_an_hour(10_000, Session, 5_000)])
                .with_period(80_000, 10_000),
            &[],
        ),
        ("silent", Source::of(for_an_hour(60_000, HandshakeTimeout, 10_000)), &["AT003"]),
        ("a connection per message", Source::of(for_an_hour(500, Session, 20)), &["AT004"]),
        (
            "a connection per message, as a clock",
            Source::of(for_an_hour(500, Session, 20)).with_period(5_000, 500),
            &["AT004"],
        ),
        ("frequent, but long", Source::of(for_an_hour(500, Session, 20_000)), &[]),
        (
            "long sessions beside many short probes",
            mixed([for_an_hour(500, ProbeClose, 1), for_an_hour(1_000, Session, 20_000)]),
            &[],
        ),
        ("short, but once a minute", Source::of(for_an_hour(60_000, Session, 1_000)), &[]),
        ("short, every 5 s", Source::of(for_an_hour(5_000, Session, 50)), &[]),
        ("a pool", Source { connected: true, ..Source::of(vec![(HOUR, Session, 3_600_000)]) }, &[]),
        (
            "a pool that renews",
            Source { connected: true, ..Source::of(for_an_hour(10 * MINUTE, Session, 600_000)) },
            &[],
        ),
        ("a storm of probes", Source::of(every(5, 500, 10 * MINUTE, ProbeReset, 0)), &["AT005"]),
        ("a slower storm", Source::of(every(70, 500, 10 * MINUTE, ProbeReset, 0)), &["AT005"]),
        (
            "a storm of sessions",
            Source::of(every(50, 500, 10 * MINUTE, SessionReset, 20)),
            &["AT004", "AT005", "AT009"],
        ),
        ("broker down", Source::of(for_an_hour(1_000, Refused, 0)), &["AT006"]),
        ("an accept queue full once", Source::of(vec![(MINUTE, AcceptQueueFull, 0)]), &["AT007"]),
        ("HTTP", Source::of(for_an_hour(15_000, NotAmqp, 1)), &["AT008"]),
        ("HTTP twice", Source::of(for_an_hour(30 * MINUTE, NotAmqp, 1)), &[]),
        (
            "every third session torn down",
            mixed([for_an_hour(15_000, SessionReset, 9_000), for_an_hour(7_500, Session, 9_000)]),
            &["AT009"],
        ),
        (
            "every eleventh session torn down",
            mixed([for_an_hour(50_000, SessionReset, 9_000), for_an_hour(5_000, Session, 9_000)]),
            &[],
        ),
        ("peers lost", Source::of(for_an_hour(40_000, TimedOut, 120_000)), &["AT010"]),
        ("closed by the broker", Source::of(for_an_hour(3_000, BrokerClosed, 3_000)), &[]),
    ]
}

#[test]
fn each_behaviour_is_found_and_nothing_else_whatever_the_window() {
    for (name, source, expected) in behaviours() {
        for length in [100, 10_000, 45_000, HOUR] {
            let said = source.trace(length, if length == HOUR { ALL } else { 100 * MINUTE });
            assert_eq!(opened(&said), expected, "{name}, windows of {length} ms");
            assert_well_formed(&said);
            if let Some(finding) = said.first() {
                assert!(
                    finding.since <= at(6 * MINUTE),
                    "{name}, windows of {length} ms: {:?}",
                    finding.since
                );
            }
        }
    }
}

#[test]
fn a_check_is_found_in_time() {
    for (step, within) in [(2_000, 20_000), (30_000, 3 * MINUTE), (60_000, 5 * MINUTE)] {
        let said = Source::of(every(step, 500, HOUR, ProbeReset, 0)).trace(10_000, ALL);
        assert_eq!(said.first().map(|finding| ms(finding.since)), Some(500), "every {step} ms");
        assert!(
            said.first().is_some_and(|finding| ms(finding.last_seen) <= within),
            "every {step} ms: {said:?}"
        );
    }
}

#[test]
fn a_clock_is_found_as_soon_as_it_is_one() {
    let ends = [every(2_000, 500, HOUR, ProbeReset, 0), every(60_000, 500, HOUR, Session, 1_000)];
    let said = Source::of(ends.concat()).with_period(15_000, 2_000).trace(10_000, ALL);
    assert!(said.first().is_some_and(|finding| ms(finding.last_seen) <= 20_000), "{said:?}");
}

#[test]
fn a_connection_that_is_silent_right_now_is_found() {
    for (lasts, expected) in [(5_000, &[][..]), (9_000, &["AT003"][..])] {
        let silent = Source { silent: Some((MINUTE + 300, MINUTE + 300 + lasts)), ..Source::default() };
        let said = silent.trace(1_000, 10 * MINUTE);
        assert_eq!(opened(&said), expected, "silent for {lasts} ms");
        assert_well_formed(&said);
    }
    let silent = Source { silent: Some((0, 8 * MINUTE)), connected: true, ..Source::default() };
    let said = silent.trace(10_000, HOUR);
    let text: Vec<&str> = said.iter().map(|finding| finding.summary.as_str()).collect();
    assert_eq!(
        text,
        [
            "10.77.0.11 left 1 connection waiting for the AMQP handshake, 1 silent right now, the longest for 10.0 s",
            "10.77.0.11 left 1 connection waiting for the AMQP handshake; closed: none for 60.0 s",
        ]
    );
}

#[test]
fn the_summary_names_the_numbers() {
    let last =
        |source: &Source| source.trace(10_000, ALL).pop().map(|finding| finding.summary).unwrap_or_default();
    let behaviours = behaviours();
    let of = |name: &str| behaviours.iter().find(|b| b.0 == name).map(|b| last(&b.1)).unwrap_or_default();
    for (name, text) in [
        (
            "goproxy as a clock",
            "10.77.0.11 reset 1800 connections right after the handshake, every 2.0 s: a health check by reset; closed: none for 61.5 s",
        ),
        (
            "goproxy every 60 s",
            "10.77.0.11 reset 60 connections right after the handshake, every 60.0 s on average: a health check by reset; closed: none for 5m 9s",
        ),
        (
            "a connection per message",
            "10.77.0.11 opened 7199 sessions, 2.0/s on average, half of which lived at most 100 ms: a connection for each message; closed: none for 60.5 s",
        ),
        ("a storm of probes", "10.77.0.11 reset 119900 connections, up to 200/s; closed: none for 60.0 s"),
        (
            "every third session torn down",
            "10.77.0.11 reset 240 of its 720 sessions (33 %); closed: none for 114.5 s",
        ),
    ] {
        assert_eq!(of(name), text);
    }
}
