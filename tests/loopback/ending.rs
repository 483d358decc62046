//! How the tracer ends: with everything written that had happened, and exit code 0.

use std::{
    io::Read as _,
    net::Ipv4Addr,
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::harness::{
    Listener, Manners, Tracer, assert_same, count, loopback, ports,
    record::parse,
    tracer,
    traffic::{at_once, reset_probes},
};

#[test]
fn sigterm_right_after_the_last_probe() {
    signal_right_after_the_last_probe(Signal::TERM);
}

#[test]
fn sigint_right_after_the_last_probe() {
    signal_right_after_the_last_probe(Signal::INT);
}

fn signal_right_after_the_last_probe(signal: Signal) {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let sources = [loopback(1, 1), loopback(1, 2), loopback(1, 3)];
    let tracer = Tracer::start(&[port], &[]);
    // The daemon sleeps over the probes, so that it finds the signal and all of the records at once.
    tracer.signal(Signal::STOP);
    let made = at_once(&sources, |source| reset_probes(*source, &listener, 700)).concat();
    // The stand-in has read every reset, so the kernel has ended every connection.
    listener.wait_ended(made.len());
    tracer.signal(signal);
    tracer.signal(Signal::CONT);
    let found = tracer.wait();
    assert_eq!(found.code, Some(0), "{:?}", found.stderr);
    assert_same(found.peers(), made);
    assert_eq!(found.sums_by_source(), sources.map(|ip| (Some(ip), 700)).into());
    let last = found.stderr.last().unwrap();
    assert!(last.contains("2100 connections ended"), "{last}");
}

#[test]
fn a_duration_ends_it() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let begin = Instant::now();
    let tracer = Tracer::start(&[port], &["--duration", "1s"]);
    let made = reset_probes(loopback(1, 1), &listener, 10);
    tracer.wait_for_connections(made.len());
    let found = tracer.wait();
    assert!(begin.elapsed().as_secs_f64() >= 1.0);
    assert_eq!(found.code, Some(0), "{:?}", found.stderr);
    assert_same(found.peers(), made);
    assert_eq!(found.sums_by_source(), [(Some(loopback(1, 1)), 10)].into(), "the last window is written too");
}

/// Neither its duration nor its windows may wait for a moment without traffic, which may never come.
#[test]
fn a_duration_ends_it_also_when_its_reader_cannot_follow() {
    const AT_MOST: Duration = Duration::from_secs(40);
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let arguments = ["--duration", "5s", "--interval", "100ms", "--ring-kib", "256"];
    let (tracer, mut stdout) = Tracer::start_unread(&[port], &arguments);
    let begin = Instant::now();
    let slow_reader = thread::spawn(move || {
        let mut output = Vec::new();
        let mut part = [0; 65_536];
        while let Ok(n @ 1..) = stdout.read(&mut part) {
            output.extend(&part[..n]);
            thread::sleep(Duration::from_millis(20));
        }
        String::from_utf8(output).unwrap()
    });
    let running = thread::spawn(move || tracer.wait());
    at_once(&[loopback(1, 1), loopback(1, 2), loopback(1, 3)], |source| {
        while !running.is_finished() && begin.elapsed() < AT_MOST {
            reset_probes(*source, &listener, 10);
        }
    });
    assert!(begin.elapsed() < AT_MOST, "the traffic had to end before the tracer did");
    assert_eq!(running.join().unwrap().code, Some(0));
    let output = slow_reader.join().unwrap();
    let records: Vec<_> = output.lines().map(parse).collect();
    let windows = tracer::sources(records.clone());
    let summed: u64 = windows.iter().map(|window| window.connections - window.unrecorded).sum();
    assert_eq!(tracer::connections(records).len() as u64, summed);
    let ends = count(windows.iter().map(|window| window.window_end));
    assert!(ends.len() > 1, "a single window of 5 s instead of 100 ms");
}

/// Windows follow each other without a gap, from the beginning to the end.
#[test]
fn nothing_happens_between_two_windows() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], &["--interval", "100ms"]);
    let mut made = 0;
    let begin = Instant::now();
    while begin.elapsed().as_millis() < 1_000 {
        made += reset_probes(loopback(1, 1), &listener, 20).len();
        listener.wait_ended(made);
    }
    let found = tracer.stop();
    let windows = found.sources();
    assert!(windows.len() > 2, "{windows:?}");
    for pair in windows.windows(2) {
        assert!(pair[0].window_end <= pair[1].window_start, "{pair:?}");
    }
    for window in &windows {
        assert!(window.last_seen <= window.window_end, "{window:?}");
    }
    assert_eq!(windows.iter().map(|window| window.connections).sum::<u64>(), made as u64);
}
