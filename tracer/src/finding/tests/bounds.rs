//! What no input may do: panic, leave a finding open for ever, or take memory without bound.

use std::net::Ipv4Addr;

use super::*;
use crate::finding::evidence::Evidence;

fn ip(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(number))
}

/// Anything that a window can hold, of sources that like some verdicts more than others.
fn anything(
    random: &mut Random,
    start: i64,
    end: i64,
    steps: bool,
) -> Vec<(IpAddr, Sums, Option<Duration>, Option<OpenNow>)> {
    (0..random.below(6))
        .map(|_| {
            let number = u32::try_from(random.below(40)).unwrap_or(0);
            let verdict = Verdict::ALL[usize::try_from(number).unwrap_or(0) % Verdict::ALL.len()];
            let other = Verdict::ALL[usize::try_from(random.below(12)).unwrap_or(0)];
            let length = (end - start).max(1).unsigned_abs();
            let (mut first, mut last) = (start + random.signed(length), start + random.signed(length));
            if !steps {
                (first, last) = (first.min(last), first.max(last));
            }
            let most = [2, 20, 1_000_000, 1 << 40][usize::try_from(random.below(4)).unwrap_or(0)];
            let mut sums = sums(&[(verdict, random.below(most)), (other, random.below(3))], first, last);
            for _ in 0..random.below(3) {
                sums.lives[usize::try_from(random.below(10)).unwrap_or(0)] += random.below(most);
            }
            let period = (random.below(4) == 0).then(|| Duration::from_nanos(random.below(1 << 40)));
            let open = (random.below(4) == 0).then(|| OpenNow {
                open: random.below(10),
                silent: random.below(3),
                longest_silence: (random.below(2) == 0).then(|| Duration::from_millis(random.below(20_000))),
            });
            (ip(number), sums, period, open)
        })
        .collect()
}

/// 10,000 windows of anything, then silence; returns what was said.
fn random(seed: u64, most: usize, steps: bool) -> Vec<Finding> {
    let mut random = Random(seed);
    let mut findings = Findings::new(Thresholds::default(), most);
    let mut said = Vec::new();
    let mut now = 0;
    for _ in 0..10_000 {
        let length = [100, 1_000, 10_000, 60_000, HOUR][usize::try_from(random.below(5)).unwrap_or(0)];
        if steps && random.below(50) == 0 {
            now += random.signed(20 * HOUR.unsigned_abs()) - 10 * HOUR;
        }
        let (start, end) = (now, now + length);
        let seen = anything(&mut random, start, end, steps);
        let observed = seen.iter().map(|(source, sums, period, open)| Observed {
            source: *source,
            sums,
            period: *period,
            open: *open,
        });
        said.extend(findings.end_window(window(start, end), observed));
        assert!(findings.sources() <= most, "{} sources", findings.sources());
        now = end;
    }
    // The longest period above is 18 minutes, the longest gap a few hours.
    for _ in 0..1_000 {
        said.extend(findings.end_window(window(now, now + MINUTE * 5), []));
        now += MINUTE * 5;
    }
    assert_eq!(findings.open().count(), 0, "seed {seed}");
    assert_eq!(findings.sources(), 0, "seed {seed}");
    said
}

#[test]
fn whatever_comes_every_finding_opens_once_and_closes_once() {
    for (seed, most) in [(1, 1_000), (2, 20), (3, 1)] {
        let said = random(seed * 104_729, most, false);
        assert!(said.len() > 100, "seed {seed} says {} records", said.len());
        assert_well_formed(&said);
    }
}

#[test]
fn clocks_that_are_set_do_no_harm() {
    for seed in 1..4 {
        let said = random(seed * 15_485_863, 1_000, true);
        let count = |state| said.iter().filter(|finding| finding.state == state).count();
        assert_eq!(count(State::Open), count(State::Closed));
    }
}

#[test]
fn extreme_times_do_no_harm() {
    let mut findings = Findings::new(Thresholds::default(), 10);
    for (first, last) in [(Timestamp::MIN, Timestamp::MAX), (Timestamp::MAX, Timestamp::MIN)] {
        let mut all = sums(&[], 0, 0);
        all.verdicts = [u64::from(u32::MAX); Verdict::ALL.len()];
        all.connections = all.verdicts.iter().sum();
        (all.first_seen, all.last_seen) = (first, last);
        let open = Some(OpenNow { open: u64::MAX, silent: u64::MAX, longest_silence: Some(Duration::MAX) });
        for (start, end) in [(first, last), (last, first), (first, first), (last, last)] {
            let observed = Observed { source: SOURCE, sums: &all, period: Some(Duration::MAX), open };
            findings.end_window(Window { start, end }, [observed]);
            findings
                .end_window(Window { start, end }, [Observed { period: Some(Duration::ZERO), ..observed }]);
        }
    }
}

#[test]
fn a_clock_set_back_does_not_keep_a_finding_open() {
    let mut findings = Findings::new(Thresholds::default(), 10);
    let probes = sums(&[(Verdict::ProbeReset, 10)], HOUR, HOUR + 20_000);
    let observed = Observed { source: SOURCE, sums: &probes, period: None, open: None };
    assert_eq!(findings.end_window(window(HOUR, HOUR + 20_000), [observed]).len(), 1);
    assert_eq!(findings.end_window(window(0, 10_000), []).len(), 0);
    assert_eq!(findings.end_window(window(10_000, 69_000), []).len(), 0);
    assert_eq!(findings.end_window(window(69_000, 70_000), []).len(), 1);
}

#[test]
fn a_clock_set_back_does_not_stretch_the_horizon() {
    let mut findings = Findings::new(Thresholds::default(), 10);
    let probe = |at| sums(&[(Verdict::ProbeReset, 1)], at, at);
    for ended in (20 * HOUR..21 * HOUR).chain(0..HOUR).step_by(600_000) {
        let sums = probe(ended);
        let observed = Observed { source: SOURCE, sums: &sums, period: None, open: None };
        assert_eq!(findings.end_window(window(ended - 5_000, ended + 5_000), [observed]).len(), 0);
    }
}

#[test]
fn a_million_sources_take_the_room_of_a_thousand() {
    let mut findings = Findings::new(Thresholds::default(), 1_000);
    let mut prober = 0;
    for round in 0..1_000_u32 {
        let start = i64::from(round) * 1_000;
        let one = sums(&[(Verdict::ProbeClose, 1)], start, start + 500);
        let many = sums(&[(Verdict::ProbeReset, 2)], start, start + 900);
        let crowd = (0..1_000).map(|number| (ip(round * 1_000 + number), &one));
        let observed = crowd.chain([(SOURCE, &many)]).map(|(source, sums)| Observed {
            source,
            sums,
            period: None,
            open: None,
        });
        let said = findings.end_window(window(start, start + 1_000), observed);
        prober +=
            said.iter().filter(|finding| finding.source == SOURCE && finding.state == State::Open).count();
        assert!(findings.sources() <= 1_000);
    }
    assert_eq!(prober, 1, "the one with much evidence is kept");
    assert!(findings.untracked() > 990_000, "{}", findings.untracked());
}

#[test]
fn with_findings_for_all_a_new_source_is_refused_and_counted() {
    let mut findings = Findings::new(Thresholds::default(), 5);
    let full = sums(&[(Verdict::AcceptQueueFull, 1)], 0, 0);
    let observed =
        (0..8).map(|number| Observed { source: ip(number), sums: &full, period: None, open: None });
    assert_eq!(findings.end_window(window(0, 10_000), observed).len(), 5);
    assert_eq!((findings.sources(), findings.open().count(), findings.untracked()), (5, 5, 3));
}

#[test]
fn the_evidence_of_a_source_is_below_a_kibibyte() {
    assert!(size_of::<Evidence>() < 1_024, "{} bytes", size_of::<Evidence>());
}

#[test]
fn what_only_checks_half_open_takes_no_room() {
    let mut findings = Findings::new(Thresholds::default(), 5);
    let check = sums(&[(Verdict::ProbeHalfOpen, 5)], 0, 9_000);
    let open = Some(OpenNow { open: 3, ..OpenNow::default() });
    findings.end_window(window(0, 10_000), [Observed { source: SOURCE, sums: &check, period: None, open }]);
    assert_eq!(findings.sources(), 0);
}
