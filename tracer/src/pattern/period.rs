//! When one source's connections were established goes in; whether that is a clock, its period and its jitter come out.
//!
//! A period is never a guess: it is told only where arrivals at random (a Poisson process) would look so much like a
//! clock less than once in 200 times with eight arrivals, and in 50,000 with sixteen. The clock may be that of two
//! probers with the same period behind one address, and may miss beats.
//!
//! Refused are fewer than eight arrivals since the last long silence, a period below 50 ms (a loop, not a check), a
//! standard deviation above a fifth of the period (a rate), and more than two connections a beat.
//!
//! Not told from a clock is what is nearly one: gaps that scatter by a third of their mean are called a clock in a
//! third of the cases with eight arrivals, in a tenth with sixteen; the jitter then says so. Two probers half a period
//! apart, give or take a tenth of it with 5 % jitter, are told as one with half the period.

mod beats;
mod fit;

use std::time::Duration;

/// How many arrivals are kept: eight of each of two probers.
const MOST: usize = 16;

/// With fewer, 20 % jitter cannot be told from chance.
const LEAST: usize = 8;

/// Connections that follow one another faster are a loop or a burst, however evenly they do.
const SHORTEST: Duration = Duration::from_millis(50);

/// A gap this many times the upper quartile of all gaps is a silence: what was before says nothing of the beat after.
const SILENCE: u64 = 8;

/// The latest arrivals of one source.
#[derive(Clone, Copy, Debug, Default)]
pub struct Arrivals {
    at_ns: [u64; MOST],
    next: usize,
    held: usize,
}

/// There is one a source, and there may be many sources.
const _: () = assert!(size_of::<Arrivals>() <= 160);

/// The clock that a source's arrivals follow.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Period {
    /// From one beat to the next.
    pub length: Duration,
    /// Standard deviation of the arrivals about the beat, as a fraction of the period.
    pub jitter: f64,
}

impl Arrivals {
    /// Adds an arrival at this time of CLOCK_MONOTONIC; the one added longest ago goes. Any order will do.
    pub fn push(&mut self, at_ns: u64) {
        self.at_ns[self.next % MOST] = at_ns;
        self.next = (self.next + 1) % MOST;
        self.held = (self.held + 1).min(MOST);
    }

    /// The clock, if these arrivals cannot well be anything else.
    pub fn period(&self) -> Option<Period> {
        let mut sorted = self.at_ns;
        let sorted = sorted.get_mut(..self.held)?;
        sorted.sort_unstable();
        let run = since_silence(sorted);
        if run.len() < LEAST {
            return None;
        }
        let clock = fit::clock(run)?;
        let length = Duration::try_from_secs_f64(clock.period_ns / 1e9).ok()?;
        (length >= SHORTEST).then_some(Period { length, jitter: clock.jitter })
    }
}

/// The arrivals after the last silence: a prober that stopped and came back does not keep its beat. Three gaps in four
/// may be short, as between the two connections of a pair, without making the others silences.
fn since_silence(sorted: &[u64]) -> &[u64] {
    let mut gaps = [0; MOST];
    for (gap, pair) in gaps.iter_mut().zip(sorted.windows(2)) {
        *gap = pair[1] - pair[0];
    }
    let gaps = &gaps[..sorted.len().saturating_sub(1).min(MOST)];
    let mut by_size = [0; MOST];
    let by_size = &mut by_size[..gaps.len()];
    by_size.copy_from_slice(gaps);
    by_size.sort_unstable();
    let usual = by_size.get(gaps.len() * 3 / 4).copied().unwrap_or(0);
    let from = gaps.iter().rposition(|gap| *gap > usual.saturating_mul(SILENCE)).map_or(0, |last| last + 1);
    &sorted[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRIALS: u64 = 1_000;

    /// splitmix64.
    struct Random(u64);

    impl Random {
        /// From 0 up to 1.
        fn unit(&mut self) -> f64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
        }

        /// Uniform within this of zero.
        fn within(&mut self, most: f64) -> f64 {
            (2.0 * self.unit() - 1.0) * most
        }

        /// A gap of a Poisson process of rate one.
        fn gap(&mut self) -> f64 {
            -(1.0 - self.unit()).ln()
        }

        /// From 0.1 s to 60 s, each decade as often.
        fn period(&mut self) -> f64 {
            0.1 * 600_f64.powf(self.unit())
        }
    }

    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the tests' times are small and positive"
    )]
    fn told(seconds: &[f64]) -> Option<Period> {
        let mut arrivals = Arrivals::default();
        for at in seconds {
            arrivals.push(((at + 1e6) * 1e9) as u64);
        }
        arrivals.period()
    }

    fn is_near(told: Option<Period>, period: f64) -> bool {
        told.is_some_and(|told| (told.length.as_secs_f64() / period - 1.0).abs() <= 0.05)
    }

    /// Counts the trials in which this says so; it is given the trial's random numbers and a period in seconds.
    fn count(mut says_so: impl FnMut(&mut Random, f64) -> bool) -> usize {
        (0..TRIALS)
            .map(Random)
            .filter_map(|mut r| Some(r.period()).filter(|period| says_so(&mut r, *period)))
            .count()
    }

    /// `beat`: at which time, in periods, the arrival with this number is.
    fn assert_told(what: &str, many: usize, mut beat: impl FnMut(&mut Random, usize) -> f64) {
        let right = count(|r, period| {
            let arrivals: Vec<f64> = (0..many).map(|i| beat(r, i) * period).collect();
            is_near(told(&arrivals), period)
        });
        assert!(right >= 990, "{what}, {many} arrivals: right in {right} of {TRIALS}");
    }

    fn assert_not_told(what: &str, mut arrivals: impl FnMut(&mut Random, f64) -> Vec<f64>) {
        let wrong = count(|r, period| told(&arrivals(r, period)).is_some());
        assert!(wrong < 10, "{what}: called a clock in {wrong} of {TRIALS}");
    }

    #[test]
    fn a_clock_is_told() {
        for many in [8, 11, 16] {
            for jitter in [0.0, 0.01, 0.05, 0.2] {
                assert_told(&format!("jitter of {jitter}"), many, |r, i| i as f64 + r.within(jitter));
            }
        }
    }

    #[test]
    fn a_check_that_waits_after_each_result_is_told() {
        for many in [8, 16] {
            let mut at = 0.0;
            assert_told("a drift", many, |r, _| {
                at += 1.0 + r.within(0.06);
                at
            });
        }
    }

    #[test]
    fn missed_beats_are_no_longer_period() {
        for many in [8, 16] {
            let mut at = 0.0;
            assert_told("missed beats", many, |r, _| {
                at += 1.0;
                while r.unit() < 0.2 {
                    at += 1.0;
                }
                at + r.within(0.05)
            });
        }
    }

    #[test]
    fn the_jitter_is_the_standard_deviation() {
        let mut sum = 0.0;
        let told = count(|r, period| {
            let arrivals: Vec<f64> = (0..16).map(|i| (f64::from(i) + r.within(0.1)) * period).collect();
            told(&arrivals).inspect(|told| sum += told.jitter).is_some()
        });
        let mean = sum / told as f64;
        assert!((mean - 0.1 / 3_f64.sqrt()).abs() < 0.002, "{mean}");
    }

    /// `near_half`: so near to half a period apart that the half period is as good an answer.
    fn two_probers(r: &mut Random, period: f64, phase: f64, near_half: f64) -> bool {
        let arrivals: Vec<f64> = (0..16)
            .map(|i| (f64::from(i / 2) + f64::from(i % 2) * phase + r.within(0.05)) * period)
            .collect();
        let told = told(&arrivals);
        is_near(told, period) || ((phase - 0.5).abs() <= near_half && is_near(told, period / 2.0))
    }

    #[test]
    fn two_probers_have_the_period_of_one() {
        let right = count(|r, period| {
            let phase = r.unit();
            two_probers(r, period, phase, 0.1)
        });
        assert!(right >= 990, "any phase: {right}");
        for phase in [0.0, 0.001, 0.02, 0.05, 0.1, 0.25, 1.0 / 3.0, 0.39, 0.61, 0.9, 0.99] {
            let right = count(|r, period| two_probers(r, period, phase, 0.0));
            assert!(right >= 990, "phase {phase}: {right}");
        }
    }

    #[test]
    fn two_probers_may_miss_beats() {
        let right = count(|r, period| {
            let mut arrivals: Vec<f64> = Vec::new();
            for i in 0..40 {
                if r.unit() >= 0.1 {
                    arrivals.push((f64::from(i / 2) + 0.25 * f64::from(i % 2) + r.within(0.05)) * period);
                }
            }
            is_near(told(&arrivals[..MOST]), period)
        });
        assert!(right >= 990, "{right}");
    }

    #[test]
    fn random_arrivals_are_no_clock() {
        for many in [8, 9, 12, MOST, 3 * MOST] {
            assert_not_told(&format!("{many} at random"), |r, period| {
                let mut at = 0.0;
                (0..many)
                    .map(|_| {
                        at += period * r.gap();
                        at
                    })
                    .collect()
            });
        }
    }

    #[test]
    fn bursts_are_no_clock() {
        for (least, most) in [(2.0, 2.0), (3.0, 3.0), (2.0, 8.0), (5.0, 40.0)] {
            for many in [8, MOST, 3 * MOST] {
                assert_not_told(&format!("{many} in groups of {least} to {most}"), |r, period| {
                    let (mut at, mut arrivals) = (0.0, Vec::new());
                    while arrivals.len() < many {
                        at += 3.0 * period * r.gap();
                        let (mut left, apart) = (least + (most - least) * r.unit(), 0.01 * r.unit());
                        while left > 0.5 {
                            arrivals.push(at);
                            (at, left) = (at + apart, left - 1.0);
                        }
                    }
                    arrivals.truncate(many);
                    arrivals
                });
            }
        }
    }

    #[test]
    fn order_does_not_matter_and_a_silence_is_no_missed_beat() {
        let mut seconds: Vec<f64> = (0..4).map(|i| f64::from(i) * 2.0).collect();
        seconds.extend((0..7).map(|i| 40_000.7 + f64::from(i) * 2.0));
        assert_eq!(told(&seconds), None, "seven since the silence");
        seconds.push(40_000.7 + 7.0 * 2.0);
        seconds.swap(6, 8);
        seconds.swap(9, 10);
        assert!(is_near(told(&seconds), 2.0), "{:?}", told(&seconds));
    }

    #[test]
    fn too_few_or_too_fast_is_no_clock() {
        for many in 0..LEAST {
            let seconds: Vec<f64> = (0..many).map(|i| i as f64).collect();
            assert_eq!(told(&seconds), None);
        }
        let seconds: Vec<f64> = (0..16).map(|i| f64::from(i) * 0.04).collect();
        assert_eq!(told(&seconds), None, "a loop");
    }

    #[test]
    fn no_input_panics() {
        let ends = [0, 1, 2, u64::MAX / 2, u64::MAX - 1, u64::MAX];
        let mut r = Random(1);
        for trial in 0..2_000_u32 {
            let mut arrivals = Arrivals::default();
            for _ in 0..trial % 40 {
                let end = ends.iter().copied().find(|_| r.unit() < 0.3).unwrap_or(5);
                arrivals.push(if trial % 3 == 0 { end } else { end.wrapping_add(r.0 >> (trial % 64)) });
                arrivals.period();
            }
        }
        let mut same = Arrivals::default();
        (0..20).for_each(|_| same.push(7));
        assert_eq!(same.period(), None);
    }
}
