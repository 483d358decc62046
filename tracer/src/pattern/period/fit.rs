//! Sorted arrivals in, the clock that tells most about them out, unless chance might have made it.
//!
//! Every candidate ([`super::beats`]) gets the period that fits it best. How well it fits, how many beats it calls
//! missed and how many probers it needs make one number, its chance: how many candidates that tell as much are to be
//! expected of arrivals at random. The smallest wins. Half the period does not win by fitting better, because it has to
//! call every other beat missed.

use std::f64::consts::TAU;

use super::{
    LEAST, MOST,
    beats::{Arrival, Beats},
};

/// In how many cases [`LEAST`] arrivals at random may be called a clock; in half as many with each arrival more. A
/// source that stays has its buffer full and is asked every window: what is rare for one question is not for a day's.
const MOST_CHANCE: f64 = 0.005;

/// A beat with a larger standard deviation, as a fraction of the period, is a rate and not a clock.
const MOST_JITTER: f64 = 0.2;

/// No check is more even than this fraction of its period; what fits better proves no more.
const LEAST_JITTER: f64 = 1e-4;

/// The shares of the clocks that are expected to be two probers, and to miss beats, and of the beats that those miss.
/// They share out what chance may do: the rarer a clock is expected to be, the more evidence it needs.
const TWO_PROBERS: f64 = 0.05;
const MISSING: f64 = 0.3;
const MISSED: f64 = 0.25;

/// What the arrivals follow.
pub struct Clock {
    pub period_ns: f64,
    pub jitter: f64,
}

struct Fit {
    period: f64,
    jitter: f64,
    chance: f64,
}

/// The clock behind sorted arrivals, at least [`LEAST`].
pub fn clock(sorted: &[u64]) -> Option<Clock> {
    let mut times = [0.0; MOST];
    let first = *sorted.first()?;
    for (time, at_ns) in times.iter_mut().zip(sorted) {
        *time = at_ns.saturating_sub(first) as f64;
    }
    let best = best(times.get(..sorted.len())?)?;
    let most_chance = sorted[LEAST..].iter().fold(MOST_CHANCE, |most, _| most / 2.0);
    let is_clock = best.jitter <= MOST_JITTER && best.chance <= most_chance;
    is_clock.then_some(Clock { period_ns: best.period, jitter: best.jitter })
}

/// The candidate that chance makes least often.
fn best(times: &[f64]) -> Option<Fit> {
    let last = times.len().checked_sub(1).filter(|_| times.len() >= LEAST)?;
    let span_of = |from: usize, to: usize, beats: usize| (times[to] - times[from]) / beats as f64;
    let mut best = fit(&Beats::in_turns(times));
    let mut try_out = |beats: Beats| {
        let next = fit(&beats)?;
        let period = next.period;
        if best.as_ref().is_none_or(|best| next.chance < best.chance) {
            best = Some(next);
        }
        Some(period)
    };
    // One prober: from the first arrival to the last is a whole number of periods, and half of the beats are there.
    for beats in last..=2 * last {
        if let Some(finer) = try_out(Beats::of_one(times, span_of(0, last, beats))) {
            try_out(Beats::of_one(times, finer));
        }
    }
    // Two: so it is from the first to the last arrival of the same one, and one of these pairs is of the same one.
    for (from, to) in [(0, last), (1, last), (0, last - 1)] {
        for beats in (to - from) / 2..=(to - from) * 3 / 4 {
            try_out(Beats::of_two(times, span_of(from, to, beats)));
        }
    }
    best
}

/// Least squares of the period and of each prober's phase.
fn fit(beats: &Beats) -> Option<Fit> {
    let missed = beats.missed()?;
    let arrivals = beats.arrivals();
    let n = arrivals.len() as f64;
    let mean = |of: fn(&Arrival) -> f64| arrivals.iter().map(of).sum::<f64>() / n;
    let (mean_at, mean_beat, mean_prober) = (mean(|a| a.at), mean(|a| a.beat), mean(|a| a.prober));
    let centred = arrivals.iter().map(|a| (a.at - mean_at, a.beat - mean_beat, a.prober - mean_prober));
    let (mut beat_at, mut beat_beat, mut beat_prober, mut prober_at, mut prober_prober) =
        (0.0, 0.0, 0.0, 0.0, 0.0);
    for (at, beat, prober) in centred.clone() {
        beat_at += beat * at;
        beat_beat += beat * beat;
        beat_prober += beat * prober;
        prober_at += prober * at;
        prober_prober += prober * prober;
    }
    // What of the probers' difference the beats do not explain already.
    let apart = prober_prober - beat_prober * beat_prober / beat_beat;
    let phase = if beats.two { (prober_at - beat_at * beat_prober / beat_beat) / apart } else { 0.0 };
    let period = (beat_at - phase * beat_prober) / beat_beat;
    let free = if beats.two { n - 3.0 } else { n - 2.0 };
    let squares: f64 = centred.map(|(at, beat, prober)| (at - period * beat - phase * prober).powi(2)).sum();
    let jitter = ((squares / free).sqrt() / period).max(LEAST_JITTER);

    let (first, last) = (arrivals.first()?, arrivals.last()?);
    let periods = (last.at - first.at) / period;
    let spread = (n * beat_beat).sqrt() / (last.beat - first.beat);
    let phases = if beats.two { apart.sqrt() / periods } else { 1.0 };
    let room = ball(free, jitter * free.sqrt() / periods) * spread * phases;
    let chance = by_chance(arrivals.len(), room) / share(n, missed, beats.two);
    (period > 0.0 && free > 0.0 && chance.is_finite()).then_some(Fit { period, jitter, chance })
}

/// How many of the ways in which arrivals may be at random fit one candidate this well. Those between the first and the
/// last are anywhere, in any order; `room` is the volume of where they fit, of the unit cube of where they may be.
fn by_chance(arrivals: usize, room: f64) -> f64 {
    (1..arrivals.saturating_sub(1)).fold(room, |ways, i| ways * i as f64)
}

/// The volume of a ball: of where the residuals of a fit are that leaves no more than this.
fn ball(dimensions: f64, radius: f64) -> f64 {
    let (mut of, mut volume) = if dimensions % 2.0 == 0.0 { (0.0, 1.0) } else { (1.0, 2.0 * radius) };
    while of < dimensions {
        of += 2.0;
        volume *= TAU / of * radius * radius;
    }
    volume
}

/// The candidate's share of what chance may do. Over all candidates that n arrivals can have, the shares sum up to one.
fn share(n: f64, missed: f64, two: bool) -> f64 {
    let probers = if two { TWO_PROBERS } else { 1.0 - TWO_PROBERS };
    let whole = if missed == 0.0 { 1.0 - MISSING } else { 0.0 };
    probers * (whole + MISSING * (1.0 - MISSED).powf(n - 1.0) * MISSED.powf(missed))
}
