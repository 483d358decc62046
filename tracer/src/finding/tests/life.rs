//! How a finding lives: it opens once, is said again seldom, and closes when it is over and not before.

use super::*;
use Verdict::{ProbeClose, ProbeHalfOpen, ProbeReset, Refused, Session};

use crate::finding::Resolution;

/// A prober with jitter that misses a third of its beats, for an hour.
fn misses(period: u64, seed: u64) -> Source {
    let mut random = Random(seed);
    let beats = u64::try_from(HOUR).unwrap_or(0) / period;
    let mut ends = Ends::new();
    let mut missed = 0;
    for beat in 0..beats {
        // Three in a row are as many as it misses, so that its habit stays visible.
        if missed < 3 && beat > 5 && random.below(3) == 0 {
            missed += 1;
            continue;
        }
        missed = 0;
        let jitter = random.signed(period / 5);
        ends.push((i64::try_from(beat * period).unwrap_or(0) + jitter, ProbeReset, 0));
    }
    Source::of(ends)
}

#[test]
fn a_check_that_misses_beats_does_not_flap() {
    for seed in 1..20 {
        for period in [500, 2_000, 15_000, 30_000, 60_000] {
            for length in [1_000, 10_000, 40_000] {
                let said = misses(period, seed * 7_919).trace(length, 2 * HOUR);
                let name = format!("seed {seed}, every {period} ms, windows of {length} ms");
                assert_eq!(opened(&said), ["AT001"], "{name}");
                assert_well_formed(&said);
                let updates = said.iter().filter(|finding| finding.state == State::Update).count();
                assert!((5..=60).contains(&updates), "{name}: {updates} updates");
            }
        }
    }
}

#[test]
fn updates_come_at_most_once_a_minute_and_only_with_news() {
    let mut findings = Findings::new(Thresholds::default(), 10);
    let source = Source::of(every(2_000, 0, 10 * MINUTE, ProbeReset, 0));
    let mut last: Option<(i64, u64)> = None;
    for start in (0..20 * MINUTE).step_by(1_000) {
        let sums = source.sums(start, start + 1_000);
        let observed = Observed { source: SOURCE, sums: &sums, period: None, open: None };
        let observed = (sums.connections > 0).then_some(observed);
        for finding in findings.end_window(window(start, start + 1_000), observed) {
            if finding.state == State::Update {
                assert!(
                    last.is_some_and(|(said, count)| start - said >= MINUTE && finding.count > count),
                    "{finding:?}"
                );
            }
            last = Some((start, finding.count));
        }
    }
    assert_eq!(findings.open().count(), 0);
}

#[test]
fn it_closes_after_its_quiet_and_never_before() {
    for (step, quiet) in [(2_000, MINUTE), (10_000, MINUTE), (20_000, 100_000), (60_000, 5 * MINUTE)] {
        for length in [100, 10_000] {
            let source = Source::of(every(step, 0, 20 * MINUTE, ProbeClose, 1));
            let mut findings = Findings::new(Thresholds::default(), 10);
            let mut closed = None;
            for start in (0..HOUR).step_by(usize::try_from(length).unwrap_or(1)) {
                let sums = source.sums(start, start + length);
                let observed = Observed { source: SOURCE, sums: &sums, period: None, open: None };
                let observed = (sums.connections > 0).then_some(observed);
                for finding in findings.end_window(window(start, start + length), observed) {
                    if finding.state == State::Closed {
                        closed = Some((start + length, ms(finding.last_seen)));
                    }
                }
            }
            let idle = closed.map(|(end, last)| end - last).unwrap_or_default();
            assert_eq!(closed.map(|(_, last)| last), Some(20 * MINUTE - step));
            assert!(
                idle >= quiet && idle < quiet + length,
                "every {step} ms: closed {idle} ms after its last"
            );
        }
    }
}

#[test]
fn what_comes_again_is_a_new_finding() {
    let ends =
        [every(2_000, 0, 5 * MINUTE, ProbeReset, 0), every(2_000, 7 * MINUTE, 9 * MINUTE, ProbeReset, 0)];
    let said = Source::of(ends.concat()).trace(10_000, HOUR);
    assert_eq!(opened(&said), ["AT001", "AT001"]);
    assert_eq!(by_id(&said).len(), 2);
    assert_well_formed(&said);
    assert_eq!(said.first().map(|finding| finding.id.clone()), Some(format!("AT001:10.77.0.11:{BEGIN}")));
}

#[test]
fn one_straggler_does_not_open_it_again() {
    let mut ends = every(2_000, 0, 5 * MINUTE, ProbeReset, 0);
    ends.push((5 * MINUTE + 90_000, ProbeReset, 0));
    assert_eq!(opened(&Source::of(ends).trace(10_000, HOUR)), ["AT001"]);
    let mut storm = every(5, 0, MINUTE, ProbeReset, 0);
    storm.push((3 * MINUTE, ProbeReset, 0));
    assert_eq!(opened(&Source::of(storm).trace(10_000, HOUR)), ["AT005"]);
}

#[test]
fn a_check_that_becomes_half_open_is_said_to_be_resolved() {
    for probe in [ProbeReset, ProbeClose] {
        for length in [1_000, 10_000, HOUR] {
            let ends = [every(2_000, 0, HOUR, probe, 0), every(2_000, HOUR, 2 * HOUR, ProbeHalfOpen, 0)];
            for source in [Source::of(ends.concat()), Source::of(ends.concat()).with_period(0, 2_000)] {
                let said = source.trace(length, 5 * HOUR);
                let closed = said.last().map(|f| (f.state, f.resolution)).unwrap_or((State::Open, None));
                assert_eq!(closed, (State::Closed, Some(Resolution::HalfOpen)), "windows of {length} ms");
                let text = said.last().map(|f| f.summary.clone()).unwrap_or_default();
                assert!(text.ends_with("; closed: now checks half-open, every 2.0 s: resolved"), "{text}");
                assert_eq!(opened(&said).len(), 1);
            }
        }
    }
    let both = [every(2_000, 0, HOUR, ProbeReset, 0), every(2_000, 0, HOUR, ProbeHalfOpen, 0)];
    let said = Source::of(both.concat()).trace(10_000, 2 * HOUR);
    assert_eq!(said.last().and_then(|finding| finding.resolution), Some(Resolution::Quiet));
    let tried = [
        every(2_000, 0, 5 * MINUTE, ProbeReset, 0),
        every(2_000, 5 * MINUTE, 5 * MINUTE + 30_000, ProbeHalfOpen, 0),
        every(2_000, 5 * MINUTE + 30_000, 9 * MINUTE, ProbeReset, 0),
    ];
    let said = Source::of(tried.concat()).trace(10_000, HOUR);
    assert_eq!(
        said.last().and_then(|finding| finding.resolution),
        Some(Resolution::Quiet),
        "it went back to resets"
    );
}

#[test]
fn a_broker_that_is_up_again_closes_broker_down_at_once() {
    let down = every(1_000, 0, 5 * MINUTE, Refused, 0);
    let polls = Source::of([down.clone(), every(3_000, 5 * MINUTE, 10 * MINUTE, Session, 5)].concat());
    let stays = Source { connected: true, ..Source::of(down.clone()) };
    for (source, resolution, within) in [
        (polls, Resolution::Recovered, 20_000),
        (stays, Resolution::Recovered, 20_000),
        (Source::of(down), Resolution::Quiet, 70_000),
    ] {
        let mut findings = Findings::new(Thresholds::default(), 10);
        let mut closed = None;
        for start in (0..20 * MINUTE).step_by(10_000) {
            let end = start + 10_000;
            let (sums, open) = (source.sums(start, end), source.open_at(end));
            let observed = Observed { source: SOURCE, sums: &sums, period: None, open };
            for finding in findings.end_window(window(start, end), [observed]) {
                if finding.state == State::Closed {
                    closed = Some((end, finding.resolution));
                }
            }
        }
        assert_eq!(closed.and_then(|(_, resolution)| resolution), Some(resolution));
        assert!(closed.is_some_and(|(end, _)| end <= 5 * MINUTE + within), "{closed:?}");
    }
}

#[test]
fn one_port_down_and_another_up_does_not_flap() {
    let ends = [every(5_000, 0, HOUR, Refused, 0), every(5_000, 100, HOUR, Session, 2_000)];
    for length in [100, 10_000] {
        let said = Source::of(ends.concat()).trace(length, 2 * HOUR);
        assert_eq!(opened(&said), ["AT006"], "windows of {length} ms");
        assert_well_formed(&said);
    }
}

#[test]
fn a_client_that_mends_its_ways_is_done_although_it_still_connects_now_and_then() {
    let (before, after) =
        (every(500, 0, 10 * MINUTE, Session, 20), every(30_000, 10 * MINUTE, HOUR, Session, 20));
    let said = Source::of([before, after].concat()).trace(10_000, HOUR);
    assert_eq!(opened(&said), ["AT004"]);
    let last = said.last().map(|finding| (finding.state, ms(finding.last_seen)));
    assert!(last.is_some_and(|(state, last)| state == State::Closed && last < 16 * MINUTE), "{last:?}");
}

#[test]
fn a_storm_that_calms_down_to_a_check_is_both_one_after_the_other() {
    let ends = [every(5, 0, 5 * MINUTE, ProbeReset, 0), every(2_000, 5 * MINUTE, HOUR, ProbeReset, 0)];
    for length in [100, 10_000] {
        let said = Source::of(ends.concat()).trace(length, 2 * HOUR);
        assert_eq!(opened(&said), ["AT001", "AT005"], "windows of {length} ms");
        assert_well_formed(&said);
    }
}

#[test]
fn a_storm_is_counted_in_full() {
    for length in [100, 1_000, 10_000, HOUR] {
        let said = Source::of(every(5, 0, 10 * MINUTE, ProbeReset, 0)).trace(length, 2 * HOUR);
        assert_eq!(said.last().map(|finding| finding.count), Some(120_000), "windows of {length} ms");
    }
}

#[test]
fn a_storm_says_nothing_twice() {
    let ends =
        [every(2_000, 0, 20 * MINUTE, ProbeReset, 0), every(5, 20 * MINUTE, 30 * MINUTE, ProbeReset, 0)];
    let said = Source::of(ends.concat()).trace(10_000, 2 * HOUR);
    assert_eq!(opened(&said), ["AT001", "AT005"]);
    assert_well_formed(&said);
    let during =
        |f: &&Finding| f.rule.code == "AT001" && (21 * MINUTE..30 * MINUTE).contains(&ms(f.last_seen));
    let twice: Vec<_> = said.iter().filter(|f| f.state == State::Update).filter(during).collect();
    assert!(twice.is_empty(), "{twice:?}");
}
