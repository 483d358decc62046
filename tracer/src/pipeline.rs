//! Everything between the ring and the output: decode, judge, tally, and at the end of each window, write.

use std::{collections::HashMap, io, net::IpAddr};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};
use tracer_ebpf::Counter;

use crate::{
    cli::Format,
    encode::{Event, Origin, Window, json},
    finding::{Finding, Findings, Observed, State},
    kernel::{Attempts, Clock, Counters, Kernel},
    look::Look,
    loss::{Loss, Unseen, losses, not_observed},
    names::Names,
    pattern::{Patterns, Period},
    record::Connection,
    settings::Settings,
    sink::Sink,
    source::{Sums, Tally},
    verdict::judge,
    view::table,
};

/// A window's lines are written whenever this many bytes have come together, so that many sources take no more memory.
const WRITE_AT: usize = 256 << 10;

/// How many sources findings are kept of, 0.7 KB each: those that do most stand out among fewer than the sums know.
const FINDINGS_OF: usize = 10_000;

/// How many sources and verdicts clocks are looked for in, 0.2 KB each.
const CLOCKS_OF: usize = 20_000;

/// What a finished trace has to say.
pub struct Traced {
    /// Sums since the start, kept with [`Format::Table`] only.
    pub total: Tally,
    /// How attempts that never became a connection were observed.
    pub attempts: Attempts,
}

/// Everything between the ring and the output.
pub struct Pipeline {
    settings: Settings,
    /// The probes, whose ring is waited on from outside.
    pub kernel: Kernel,
    sink: Sink,
    origin: Origin,
    zone: TimeZone,
    since: Timestamp,
    window_start: Timestamp,
    /// Sums of the running window.
    window: Tally,
    patterns: Patterns,
    findings: Findings,
    /// What was seen last of what is open and who listens.
    look: Look,
    /// The clocks known so far, kept for the table only.
    periods: HashMap<IpAddr, Period>,
    /// Sums since the start, kept for the table only.
    total: Option<Tally>,
    /// The kernel's counts at the beginning of the window.
    counters: Counters,
    /// Sources that findings had no room for, at the beginning of the window.
    untracked: u64,
    /// Lines that wait for the end of a drain, to be written at once.
    lines: Vec<u8>,
}

impl Pipeline {
    /// A pipeline whose first window begins now.
    pub fn new(settings: Settings, kernel: Kernel, sink: Sink) -> anyhow::Result<Self> {
        let now = Timestamp::now();
        let names = settings.resolve.then(Names::start).transpose();
        Ok(Self {
            origin: Origin {
                names: names.context("cannot start the threads that ask for names")?,
                host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
                grouping: settings.grouping,
            },
            zone: TimeZone::system(),
            since: now,
            window_start: now,
            window: Tally::new(settings.max_sources),
            patterns: Patterns::new(settings.max_sources.min(CLOCKS_OF)),
            findings: Findings::new(settings.thresholds.clone(), settings.max_sources.min(FINDINGS_OF)),
            look: Look::default(),
            periods: HashMap::new(),
            total: (settings.format == Format::Table).then(|| Tally::new(settings.max_sources)),
            counters: Counters::default(),
            untracked: 0,
            lines: Vec::new(),
            settings,
            kernel,
            sink,
        })
    }

    /// Takes one batch of what the kernel has: records, and the sums of what found the ring full. Returns whether the ring
    /// was emptied; a caller that has nothing more urgent to do calls again until it is.
    pub fn drain(&mut self) -> anyhow::Result<bool> {
        let emptied = self.drain_batch()?;
        let counters = self.kernel.counters()?;
        for overflowed in self.kernel.drain_overflow(&counters)? {
            let source = self.settings.grouping.source(overflowed.source);
            self.window.add_overflowed(source, &overflowed, judge(overflowed.outcome));
        }
        Ok(emptied)
    }

    /// Takes one batch of records and writes their lines; returns whether that emptied the ring.
    fn drain_batch(&mut self) -> anyhow::Result<bool> {
        let Self { kernel, window, patterns, lines, settings, origin, look, .. } = self;
        let clock = Clock::now();
        let write = settings.format == Format::Json && settings.events.connections;
        let mut written: io::Result<()> = Ok(());
        let emptied = kernel.drain(|record| {
            let connection = Connection::new(record, clock);
            let verdict = judge(connection.outcome);
            let source = settings.grouping.source(connection.source.ip());
            window.add(source, &connection, verdict);
            patterns.add(source, verdict, connection.began_ns);
            if write && written.is_ok() {
                written = {
                    let listener = look.listener(connection.netns, connection.destination);
                    json::encode(Event::Connection(&connection, verdict, listener), origin, lines)
                };
            }
        });
        written.context("cannot encode a connection")?;
        self.flush()?;
        Ok(emptied)
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        if self.lines.is_empty() {
            return Ok(());
        }
        let result = self.sink.write(&self.lines);
        self.lines.clear();
        result
    }

    /// Takes in what is open now and who listens.
    pub fn see(&mut self, look: Look) {
        self.look = look;
    }

    /// Ends the running window: writes what it has to say and begins the next.
    pub fn end_window(&mut self) -> anyhow::Result<()> {
        self.drain()?;
        self.write_window()
    }

    fn write_window(&mut self) -> anyhow::Result<()> {
        let counters = self.kernel.counters()?;
        let now = Timestamp::now();
        let span = Window { start: self.window_start, end: now };
        let window = std::mem::replace(&mut self.window, Tally::new(self.settings.max_sources));
        let periods = self.patterns.periods(&window);
        let said = self.judge_sources(span, &window, &periods);
        if let Some(names) = &mut self.origin.names {
            let open = self.look.open.keys().copied();
            names.look_up(window.sources().map(|(source, _)| source).chain(open));
        }
        let untracked = self.findings.untracked();
        let unseen = Unseen { open: self.look.unseen, findings: untracked - self.untracked };
        let counted = counters.since(&self.counters);
        self.counters = counters;
        self.untracked = untracked;
        self.window_start = now;
        if self.total.is_some() {
            self.write_table(span, &window, periods, &said);
        } else {
            let lost: Vec<Loss> =
                losses(&counted, unseen).into_iter().chain(not_observed(self.kernel.attempts())).collect();
            self.encode_window(span, &window, &periods, &said, &lost)?;
        }
        self.flush()
    }

    /// The table is of everything since the start, with the window's rates.
    fn write_table(
        &mut self,
        span: Window,
        window: &Tally,
        periods: HashMap<IpAddr, Period>,
        said: &[Finding],
    ) {
        let Some(total) = &mut self.total else { return };
        total.merge(window);
        self.periods.extend(periods);
        self.periods.retain(|source, _| total.get(*source).is_some());
        let unseen = Unseen { open: self.look.unseen, findings: self.untracked };
        let text = table::render(&table::Content {
            total,
            window,
            window_length: span.end.duration_since(span.start).unsigned_abs(),
            since: self.since,
            now: span.end,
            open: &self.look.open,
            listeners: &self.look.listeners.listeners,
            periods: &self.periods,
            findings: &self.findings.open().chain(closed(said)).collect::<Vec<_>>(),
            losses: &losses(&self.counters, unseen),
            not_observed: &self.kernel.attempts().not_observed(),
            name: &|source| self.origin.name(source),
            rows: self.settings.rows,
            zone: &self.zone,
        });
        self.lines.extend(text.as_bytes());
        self.lines.push(b'\n');
    }

    /// What each source does wrong: those of the window, and those that only hold something open.
    fn judge_sources(
        &mut self,
        span: Window,
        window: &Tally,
        periods: &HashMap<IpAddr, Period>,
    ) -> Vec<Finding> {
        let none = Sums::none(span.end);
        let open = &self.look.open;
        let ended = window.sources().map(|(source, sums)| Observed {
            source,
            sums,
            period: periods.get(&source).map(|period| period.length),
            open: open.get(&source).copied(),
        });
        let only_open = open.iter().filter(|(source, _)| window.get(**source).is_none());
        let only_open = only_open.map(|(source, open)| Observed {
            source: *source,
            sums: &none,
            period: None,
            open: Some(*open),
        });
        self.findings.end_window(span, ended.chain(only_open))
    }

    fn encode_window(
        &mut self,
        span: Window,
        window: &Tally,
        periods: &HashMap<IpAddr, Period>,
        said: &[Finding],
        lost: &[Loss],
    ) -> anyhow::Result<()> {
        let Self { lines, origin, settings, sink, look, .. } = self;
        let sources = window
            .sources()
            .map(|(source, sums)| Event::Source(span, source, sums, periods.get(&source).copied()));
        let rest = window.rest().map(|rest| Event::Rest(span, rest));
        let open = look.open.iter().map(|(source, open)| Event::Open(span, *source, open));
        let findings = said.iter().map(|finding| Event::Finding(span, finding));
        let losses = lost.iter().map(|loss| Event::Loss(span, *loss));
        let events = sources
            .chain(rest)
            .filter(|_| settings.events.sources)
            .chain(open.filter(|_| settings.events.open))
            .chain(findings.filter(|_| settings.events.findings))
            .chain(losses.filter(|_| settings.events.loss));
        for event in events {
            json::encode(event, origin, lines)?;
            if lines.len() >= WRITE_AT {
                sink.write(lines)?;
                lines.clear();
            }
        }
        Ok(())
    }

    /// Detaches the probes, takes everything they left, and ends the last window.
    pub fn finish(mut self) -> anyhow::Result<Traced> {
        self.kernel.detach();
        // A probe that was running at that moment still writes its record; the kernel's counts tell when all are there.
        for _ in 0..1_000 {
            if self.kernel.counters()?.settled() {
                break;
            }
            std::thread::yield_now();
        }
        while !self.drain()? {}
        self.end_window()?;
        eprintln!("{}", ended(&self.counters));
        Ok(Traced {
            total: self.total.unwrap_or_else(|| Tally::new(self.settings.max_sources)),
            attempts: self.kernel.attempts().clone(),
        })
    }
}

fn closed(said: &[Finding]) -> impl Iterator<Item = &Finding> {
    said.iter().filter(|finding| finding.state == State::Closed)
}

fn ended(counters: &Counters) -> String {
    format!(
        "amqptrace: {} connections ended or never came to be; {} have no record of their own, {} are in no source's count, {} state changes were missed",
        counters.get(Counter::Seen),
        counters.get(Counter::RingFull),
        counters.get(Counter::OverflowFull) + counters.undecodable,
        counters.skipped,
    )
}
