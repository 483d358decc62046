//! The table on sums that are made up.

use super::*;
use crate::{kernel::Clock, loss::Reason, record::Connection, verdict::judge};
use jiff::SignedDuration;
use tracer_ebpf::{ConnectionRecord, flag, kind, state};

/// `count` connections from 10.0.0.`last` that end in `last_state` with `bytes_in`.
fn add(tally: &mut Tally, last: u8, count: u64, last_state: u8, flags: u16, bytes_in: u64) {
    let source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
    let record = ConnectionRecord {
        source,
        last_state,
        flags,
        bytes_in,
        bytes_out: bytes_in * 2,
        closed_ns: 3_600_000_000_000,
        established_ns: 1,
        kind: kind::CONNECTION,
        ..ConnectionRecord::default()
    };
    let connection = Connection::new(&record, Clock::from_offset(SignedDuration::ZERO));
    for _ in 0..count {
        tally.add(connection.source.ip(), &connection, judge(connection.outcome));
    }
}

fn rendered(total: &Tally, losses: &[Loss], rows: usize) -> String {
    rendered_with(total, losses, rows, &HashMap::new(), &HashMap::new())
}

fn rendered_with(
    total: &Tally,
    losses: &[Loss],
    rows: usize,
    open: &HashMap<IpAddr, OpenNow>,
    periods: &HashMap<IpAddr, Period>,
) -> String {
    render(&Content {
        total,
        window: total,
        window_length: Duration::from_secs(10),
        since: Timestamp::UNIX_EPOCH,
        now: Timestamp::from_second(10).unwrap_or_default(),
        open,
        listeners: &[],
        periods,
        findings: &[],
        losses,
        not_observed: &["half-open", "refused"],
        name: &|ip| ip.to_string(),
        rows,
        zone: &TimeZone::UTC,
    })
}

#[test]
fn the_worst_source_is_first_and_only_verdicts_that_occur_have_a_column() {
    let mut tally = Tally::new(10);
    add(&mut tally, 1, 500, state::LAST_ACK, flag::FIN_RECEIVED, 100);
    add(&mut tally, 2, 3, state::ESTABLISHED, flag::RESET_RECEIVED, 0);
    add(&mut tally, 3, 40, state::ESTABLISHED, flag::RESET_RECEIVED, 0);
    assert_eq!(
        rendered(&tally, &[], 50),
        "00:00:10 — 543 connections from 3 sources since 00:00:00
 SOURCE    CONNECTIONS  PROBE_RESET  SESSION  RATE/S  LAST SEEN
 10.0.0.3           40           40        ·    4.00   01:00:00
 10.0.0.2            3            3        ·    0.30   01:00:00
 10.0.0.1          500            ·      500   50.00   01:00:00
not observed on this kernel: half-open, refused (amqptrace doctor says why)
"
    );
}

/// Who is silent ranks as one who does wrong, also when nothing of it has ended.
#[test]
fn who_holds_something_open_has_a_row() {
    let mut tally = Tally::new(10);
    add(&mut tally, 1, 1, state::ESTABLISHED, flag::RESET_RECEIVED, 0);
    let ip = |last| IpAddr::from([10, 0, 0, last]);
    let silent = OpenNow { open: 3, silent: 2, longest_silence: Some(Duration::from_millis(7_500)) };
    let speaking = OpenNow { open: 1, silent: 0, longest_silence: None };
    let open = HashMap::from([(ip(1), speaking), (ip(2), silent)]);
    let clock = Period { length: Duration::from_millis(2_040), jitter: 0.01 };
    let text = rendered_with(&tally, &[], 50, &open, &HashMap::from([(ip(1), clock)]));
    assert_eq!(
        text,
        "00:00:10 — 1 connection from 1 source since 00:00:00
 SOURCE    CONNECTIONS  PROBE_RESET  RATE/S  PERIOD  OPEN     SILENT  LAST SEEN
 10.0.0.2            ·            ·    0.00       ·     3  2 (7.5 s)          ·
 10.0.0.1            1            1    0.10   2.0 s     1          ·   01:00:00
not observed on this kernel: half-open, refused (amqptrace doctor says why)
"
    );
}

#[test]
fn what_is_left_out_is_said() {
    let mut tally = Tally::new(2);
    for last in 1..=9 {
        add(&mut tally, last, last.into(), state::ESTABLISHED, flag::RESET_RECEIVED, 0);
    }
    let lost = Loss { reason: Reason::RingFull, count: 7 };
    let text = rendered(&tally, &[lost], 1);
    assert!(text.contains("\n other              28 "), "{text}");
    assert!(text.contains("… and 1 more source (--rows shows more)"), "{text}");
    assert!(text.contains("not seen in detail: 7 (the ring was full"), "{text}");
}

#[test]
fn an_empty_table_says_so() {
    assert!(
        rendered(&Tally::new(1), &[], 50)
            .contains("no connection to a watched port is open, or has ended or failed yet")
    );
}
