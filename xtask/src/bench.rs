//! `cargo xtask bench`: what tracing costs, beside the peers, in one run on the same load.
//!
//! In: how many connections and rounds. Out: one table on stdout, each figure with what it is to reach. Refused: running
//! without root. Nothing here is asserted: a slow machine makes a slow figure, not a failed test.

mod bpf;
mod load;
mod tracefs;
mod tracer;

use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::setup::{self, Goal};
use crate::{command, table};
use load::Load;
use tracer::{Idle, Start, Tracer};

/// Options of `cargo xtask bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Connections in each measurement.
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1_000..=10_000_000))]
    connections: u32,
    /// Rounds; each measures everything once, and the medians are shown.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
}

/// Distinct sources in the measurement of memory: ten times as many as are kept apart by default.
const SOURCES: u32 = 1_000_000;

/// Under what the load is measured.
const UNDER: [Under; 5] = [
    Under { name: "nothing", start: None },
    Under { name: "amqptrace", start: Some(Start::Amqptrace { watched: true }) },
    Under { name: "amqptrace, other port", start: Some(Start::Amqptrace { watched: false }) },
    Under { name: "tcplife", start: Some(Start::Peer("tcplife")) },
    Under { name: "tcpstates", start: Some(Start::Peer("tcpstates")) },
];

struct Under {
    name: &'static str,
    start: Option<Start>,
}

/// Medians over the rounds for one of [`UNDER`].
struct Figure {
    name: &'static str,
    per_second: f64,
    /// Beside nothing in the same round.
    ratio: f64,
    bpf_ns: f64,
}

/// Measures and prints.
pub(crate) fn run(args: &Args) -> Result<()> {
    setup::run(Goal::Bench)?;
    command::run_aside(&mut command::cargo(["build", "--release", "--locked", "--package", "amqptrace"]))?;
    let _tracefs = tracefs::Tracefs::ensure()?;
    let load = Load::new(args.connections)?;
    load.run().context("the load does not run")?;

    let mut lost = 0;
    let mut rates = vec![Vec::new(); UNDER.len()];
    let mut ratios = vec![Vec::new(); UNDER.len()];
    let mut bpf_ns = vec![Vec::new(); UNDER.len()];
    for round in 1..=args.rounds {
        let mut of_round = Vec::new();
        for (place, under) in UNDER.iter().enumerate() {
            eprintln!("bench: round {round} of {}: under {}", args.rounds, under.name);
            let tracer = under.start.map(|start| Tracer::start(start, load.port())).transpose()?;
            let rate = f64::from(args.connections) / load.run()?.as_secs_f64();
            if let Some(tracer) = tracer {
                lost += tracer.stop()?;
            }
            of_round.push(rate);
            // The statistics cost time themselves, so what the programs take is measured in a run of its own.
            if let Some(start) = under.start {
                let statistics = bpf::Statistics::enable()?;
                let tracer = Tracer::start(start, load.port())?;
                load.run()?;
                let spent = statistics.spent_by(tracer.pid())?;
                lost += tracer.stop()?;
                bpf_ns[place].push(spent / f64::from(args.connections));
            }
        }
        // The machine itself becomes faster and slower in the course of a round, so it is measured at both ends.
        let again = f64::from(args.connections) / load.run()?.as_secs_f64();
        of_round[0] = f64::midpoint(of_round[0], again);
        for (place, rate) in of_round.iter().enumerate() {
            rates[place].push(*rate);
            ratios[place].push(rate / of_round[0]);
        }
    }
    let figures: Vec<Figure> = UNDER
        .iter()
        .enumerate()
        .map(|(place, under)| Figure {
            name: under.name,
            per_second: median(&mut rates[place]),
            ratio: median(&mut ratios[place]),
            bpf_ns: median(&mut bpf_ns[place]),
        })
        .collect();
    let idle = tracer::idle(load.port(), 11)?;
    eprintln!("bench: {SOURCES} sources");
    let crowded = tracer::crowded(&Load::new(SOURCES)?)?;
    lost += crowded.lost;
    println!(
        "{} connections (connect, reset) on loopback, median of {} rounds\n",
        args.connections, args.rounds
    );
    println!("{}", loads(&figures));
    println!("{}", goals(&figures, lost, &idle, crowded.peak_kib));
    Ok(())
}

fn loads(figures: &[Figure]) -> String {
    let mut rows = vec![["under", "connections/s", "ratio", "BPF ns/connection"].map(String::from)];
    for figure in figures {
        let bpf = if figure.bpf_ns > 0.0 { format!("{:.0}", figure.bpf_ns) } else { String::new() };
        rows.push([
            figure.name.to_owned(),
            format!("{:.0}", figure.per_second),
            format!("{:.3}", figure.ratio),
            bpf,
        ]);
    }
    table::aligned(&rows)
}

fn goals(figures: &[Figure], lost: u64, idle: &Idle, peak_kib: u64) -> String {
    let of = |name: &str| figures.iter().find(|figure| figure.name == name);
    let ratio = |name| of(name).map_or(f64::NAN, |figure| figure.ratio);
    let bpf = |name| of(name).map_or(f64::NAN, |figure| figure.bpf_ns);
    let rows = [
        ["figure", "measured", "to reach"].map(String::from),
        ["connections/s beside nothing".into(), format!("{:.3}", ratio("amqptrace")), "≥ 0.95".into()],
        ["the same on other ports".into(), format!("{:.3}", ratio("amqptrace, other port")), "≥ 0.99".into()],
        [
            "BPF time beside tcplife's".into(),
            format!("1/{:.0}", bpf("tcplife") / bpf("amqptrace")),
            "≤ 1/20".into(),
        ],
        ["records lost".into(), lost.to_string(), "0".into()],
        ["resident memory, idle".into(), format!("{:.1} MB", mib(idle.resident_kib)), "< 20 MB".into()],
        [
            format!("resident memory at most, {SOURCES} sources"),
            format!("{:.1} MB", mib(peak_kib)),
            "< 100 MB".into(),
        ],
        [
            "exec to attached".into(),
            format!("{:.0} ms", median(&mut milliseconds(&idle.attached))),
            "≤ 80 ms".into(),
        ],
    ];
    table::aligned(&rows)
}

#[expect(clippy::cast_precision_loss, reason = "kibibytes of one process, shown with one digit")]
fn mib(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

fn milliseconds(times: &[Duration]) -> Vec<f64> {
    times.iter().map(|time| time.as_secs_f64() * 1000.0).collect()
}

/// The middle value; 0 of none.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::median;

    #[test]
    fn the_median_is_the_middle_value() {
        assert!((median(&mut [9.0, 1.0, 5.0]) - 5.0).abs() < f64::EPSILON);
        assert!(median(&mut []).abs() < f64::EPSILON);
    }
}
