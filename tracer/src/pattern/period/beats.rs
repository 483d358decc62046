//! Arrivals in, candidates out: each says which beat of which prober every arrival is. Which one is true is not judged
//! here ([`super::fit`]); the true one only has to be among them.

use super::MOST;

/// When an arrival was, on which beat, and of which of two probers, 0 or 1. Beats are whole numbers; they are floats
/// because all that is done with them is arithmetic with times.
#[derive(Clone, Copy, Default)]
pub struct Arrival {
    pub at: f64,
    pub beat: f64,
    pub prober: f64,
}

/// One candidate.
#[derive(Clone, Copy)]
pub struct Beats {
    arrivals: [Arrival; MOST],
    held: usize,
    /// Whether it is of two probers.
    pub two: bool,
}

impl Beats {
    fn new(times: &[f64], two: bool, beat_of: impl Fn(usize, f64) -> (f64, f64)) -> Self {
        let mut arrivals = [Arrival::default(); MOST];
        for (i, (arrival, at)) in arrivals.iter_mut().zip(times).enumerate() {
            let (beat, prober) = beat_of(i, *at);
            *arrival = Arrival { at: *at, beat, prober };
        }
        Self { arrivals, held: times.len().min(MOST), two }
    }

    /// One prober of about this period; counted from gap to gap, because a check that waits after each result drifts.
    pub fn of_one(times: &[f64], period: f64) -> Self {
        let mut beats = Self::new(times, false, |_, _| (0.0, 0.0));
        let mut before = Arrival::default();
        for arrival in beats.arrivals.iter_mut().take(beats.held).skip(1) {
            arrival.beat = before.beat + ((arrival.at - before.at) / period).round().max(1.0);
            before = *arrival;
        }
        beats
    }

    /// Two probers that take turns and miss nothing: no phase between them is too small to count so.
    pub fn in_turns(times: &[f64]) -> Self {
        Self::new(times, true, |i, _| ((i / 2) as f64, (i % 2) as f64))
    }

    /// Two probers of this period that may miss beats: the two widest gaps between all phases part them.
    pub fn of_two(times: &[f64], period: f64) -> Self {
        let (start, turn) = widest_gaps(times, period);
        let width = (turn - start).rem_euclid(1.0);
        Self::new(times, true, |_, at| {
            let cycles = at / period - start;
            (cycles.floor(), f64::from(u8::from(cycles - cycles.floor() >= width)))
        })
    }

    pub fn arrivals(&self) -> &[Arrival] {
        &self.arrivals[..self.held]
    }

    /// How many beats between the first and the last arrival have none; nothing if two arrivals have the same.
    pub fn missed(&self) -> Option<f64> {
        let slot =
            |arrival: &Arrival| if self.two { 2.0 * arrival.beat + arrival.prober } else { arrival.beat };
        let (first, last) = (self.arrivals().first()?, self.arrivals().last()?);
        let each_its_own = self.arrivals().windows(2).all(|pair| slot(&pair[0]) < slot(&pair[1]));
        each_its_own.then(|| slot(last) - slot(first) + 1.0 - self.held as f64)
    }
}

/// The middles of the two widest gaps between the phases, in cycles.
fn widest_gaps(times: &[f64], period: f64) -> (f64, f64) {
    let mut phases = [0.0; MOST];
    let phases = &mut phases[..times.len().min(MOST)];
    for (phase, at) in phases.iter_mut().zip(times) {
        *phase = (at / period).fract();
    }
    phases.sort_unstable_by(f64::total_cmp);
    let mut before = phases.last().map_or(0.0, |last| last - 1.0);
    let (mut widest, mut second) = ((0.0, 0.0), (0.0, 0.0));
    for phase in phases {
        let gap = (*phase - before, (*phase + before) / 2.0);
        if gap.0 > widest.0 {
            (widest, second) = (gap, widest);
        } else if gap.0 > second.0 {
            second = gap;
        }
        before = *phase;
    }
    (widest.1, second.1)
}
