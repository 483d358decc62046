//! Everything between the ring and the output: decode, judge, tally, and at the end of each window, write.

use std::io;

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};
use tracer_ebpf::Counter;

use crate::{
    cli::Format,
    encode::{Event, Window, json},
    kernel::{Clock, Counters, Kernel},
    loss::{Loss, losses},
    record::Connection,
    settings::Settings,
    sink::Sink,
    source::Tally,
    verdict::judge,
    view::table,
};

/// A window's lines are written whenever this many bytes have come together, so that many sources take no more memory.
const WRITE_AT: usize = 256 << 10;

/// Everything between the ring and the output.
pub struct Pipeline {
    settings: Settings,
    /// The probes, whose ring is waited on from outside.
    pub kernel: Kernel,
    sink: Sink,
    host: String,
    zone: TimeZone,
    since: Timestamp,
    window_start: Timestamp,
    /// Sums of the running window.
    window: Tally,
    /// Sums since the start, kept for the table only.
    total: Option<Tally>,
    /// The kernel's counts at the beginning of the window.
    counters: Counters,
    /// Lines that wait for the end of a drain, to be written at once.
    lines: Vec<u8>,
}

impl Pipeline {
    /// A pipeline whose first window begins now.
    pub fn new(settings: Settings, kernel: Kernel, sink: Sink) -> Self {
        let now = Timestamp::now();
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            zone: TimeZone::system(),
            since: now,
            window_start: now,
            window: Tally::new(settings.max_sources),
            total: (settings.format == Format::Table).then(|| Tally::new(settings.max_sources)),
            counters: Counters::default(),
            lines: Vec::new(),
            settings,
            kernel,
            sink,
        }
    }

    /// Takes one batch of what the kernel has: records, and the sums of what found the ring full. Returns whether the ring
    /// was emptied; a caller that has nothing more urgent to do calls again until it is.
    pub fn drain(&mut self) -> anyhow::Result<bool> {
        let emptied = self.drain_batch()?;
        let counters = self.kernel.counters()?;
        for overflowed in self.kernel.drain_overflow(&counters)? {
            self.window.add_overflowed(&overflowed, judge(overflowed.outcome));
        }
        Ok(emptied)
    }

    /// Takes one batch of records and writes their lines; returns whether that emptied the ring.
    fn drain_batch(&mut self) -> anyhow::Result<bool> {
        let Self { kernel, window, lines, settings, host, .. } = self;
        let clock = Clock::now();
        let write = settings.format == Format::Json && settings.events.connections;
        let mut written: io::Result<()> = Ok(());
        let emptied = kernel.drain(|record| {
            let connection = Connection::new(record, clock);
            let verdict = judge(connection.outcome);
            window.add(&connection, verdict);
            if write && written.is_ok() {
                written = json::encode(Event::Connection(&connection, verdict), host, lines);
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
        let lost = losses(&counters.since(&self.counters));
        self.counters = counters;
        self.window_start = now;
        if let Some(total) = &mut self.total {
            total.merge(&window);
            let text = table::render(&table::Content {
                total,
                window: &window,
                window_length: now.duration_since(span.start).unsigned_abs(),
                since: self.since,
                now,
                losses: &losses(&counters),
                rows: self.settings.rows,
                zone: &self.zone,
            });
            self.lines.extend(text.as_bytes());
            self.lines.push(b'\n');
        } else {
            self.encode_window(span, &window, &lost)?;
        }
        self.flush()
    }

    fn encode_window(&mut self, span: Window, window: &Tally, lost: &[Loss]) -> anyhow::Result<()> {
        let Self { lines, host, settings, sink, .. } = self;
        if settings.events.sources {
            for (source, sums) in window.sources() {
                json::encode(Event::Source(span, source, sums), host, lines)?;
                if lines.len() >= WRITE_AT {
                    sink.write(lines)?;
                    lines.clear();
                }
            }
            if let Some(rest) = window.rest() {
                json::encode(Event::Rest(span, rest), host, lines)?;
            }
        }
        if settings.events.loss {
            for loss in lost {
                json::encode(Event::Loss(span, *loss), host, lines)?;
            }
        }
        Ok(())
    }

    /// Detaches the probes, takes everything they left, and ends the last window. Returns the sums since the start, which
    /// are kept with [`Format::Table`] only.
    pub fn finish(mut self) -> anyhow::Result<Tally> {
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
        Ok(self.total.unwrap_or_else(|| Tally::new(self.settings.max_sources)))
    }
}

fn ended(counters: &Counters) -> String {
    format!(
        "amqptrace: {} connections ended; {} have no record of their own, {} are in no source's count, {} state changes were missed",
        counters.get(Counter::Seen),
        counters.get(Counter::RingFull),
        counters.get(Counter::OverflowFull) + counters.undecodable,
        counters.skipped,
    )
}
