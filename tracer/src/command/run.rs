//! `amqptrace run`: the way of a record from the ring to the output, until the time is up or a signal comes.

use std::{future::Future, io, time::Duration};

use anyhow::Context as _;
use jiff::{Timestamp, tz::TimeZone};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};
use tracer_ebpf::Counter;

use crate::{
    cli::Format,
    doctor,
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

/// How often the ring is emptied when it does not fill up sooner.
const DRAIN_EVERY: Duration = Duration::from_millis(50);

/// Runs until the duration is over, SIGINT or SIGTERM.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    trace(settings, stopped()?).await.map(|_| ())
}

/// Completes at SIGINT or SIGTERM; from this call on they no longer end the process by themselves.
fn stopped() -> anyhow::Result<impl Future<Output = ()>> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}

/// Traces until `stop` completes or the settings' duration is over, then drains what is there and ends the last window.
/// `stop` is first polled when the probes are attached. Returns the sums since the start, which are kept with
/// [`Format::Table`] only.
pub async fn trace(settings: Settings, stop: impl Future<Output = ()>) -> anyhow::Result<Tally> {
    // The output first: a tracer that cannot write should not have been attached at all.
    let sink = Sink::open(&settings.output)?;
    let kernel = Kernel::attach(&settings.kernel).map_err(|error| doctor::explain(error.into()))?;
    release_start_up_memory();
    eprintln!("{}", started(&settings, &kernel));

    let end = settings.duration.map(|duration| Instant::now() + duration);
    let mut windows = interval_at(Instant::now() + settings.interval, settings.interval);
    windows.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut drains = interval_at(Instant::now() + DRAIN_EVERY, DRAIN_EVERY);
    drains.set_missed_tick_behavior(MissedTickBehavior::Delay);

    let mut pipeline = Pipeline::new(settings, kernel, sink);
    tokio::pin!(stop);
    loop {
        tokio::select! {
            biased;
            () = &mut stop => break,
            () = until(end) => break,
            _ = windows.tick() => pipeline.end_window()?,
            _ = drains.tick() => pipeline.drain()?,
            filling = pipeline.kernel.filling() => {
                filling.context("cannot wait for records")?;
                pipeline.drain()?;
            }
        }
    }
    pipeline.finish()
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

fn started(settings: &Settings, kernel: &Kernel) -> String {
    let ports: Vec<String> = settings.ports.iter().map(u16::to_string).collect();
    format!(
        "amqptrace: attached; watching port {} in every network namespace, state in {}; {}",
        ports.join(", "),
        kernel.state(),
        match settings.duration {
            Some(duration) => format!("for {}", humantime::format_duration(duration)),
            None => "until Ctrl-C".to_owned(),
        }
    )
}

fn ended(counters: &Counters, undecodable: u64) -> String {
    format!(
        "amqptrace: {} connections ended; {} have no record of their own, {} are in no source's count, {} probe runs were skipped",
        counters.get(Counter::Seen),
        counters.get(Counter::RingFull),
        counters.get(Counter::OverflowFull) + undecodable,
        counters.skipped,
    )
}

/// Reading the kernel's types takes tens of megabytes that are not needed again; glibc would keep them.
fn release_start_up_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: `malloc_trim` only gives free pages back; it may be called at any time.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Everything between the ring and the output.
struct Pipeline {
    settings: Settings,
    kernel: Kernel,
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
    undecodable: u64,
    undecodable_in_window: u64,
    /// Lines that wait for the end of a drain, to be written at once.
    lines: Vec<u8>,
}

impl Pipeline {
    fn new(settings: Settings, kernel: Kernel, sink: Sink) -> Self {
        let now = Timestamp::now();
        Self {
            host: rustix::system::uname().nodename().to_string_lossy().into_owned(),
            zone: TimeZone::system(),
            since: now,
            window_start: now,
            window: Tally::new(settings.max_sources),
            total: (settings.format == Format::Table).then(|| Tally::new(settings.max_sources)),
            counters: Counters::default(),
            undecodable: 0,
            undecodable_in_window: 0,
            lines: Vec::new(),
            settings,
            kernel,
            sink,
        }
    }

    /// Takes what the kernel has: records, and the sums of what found the ring full.
    fn drain(&mut self) -> anyhow::Result<()> {
        while !self.drain_some()? {}
        let counters = self.kernel.counters()?;
        for overflowed in self.kernel.drain_overflow(&counters)? {
            self.window.add_overflowed(&overflowed, judge(overflowed.outcome));
        }
        Ok(())
    }

    /// Takes a bounded part of the ring; returns whether that emptied it.
    fn drain_some(&mut self) -> anyhow::Result<bool> {
        let Self { kernel, window, lines, settings, host, undecodable_in_window, .. } = self;
        let clock = Clock::now();
        let write = settings.format == Format::Json && settings.events.connections;
        let mut written: io::Result<()> = Ok(());
        let emptied = kernel.drain(|record| match record {
            Ok(record) => {
                let connection = Connection::new(&record, clock);
                let verdict = judge(connection.outcome);
                window.add(&connection, verdict);
                if write && written.is_ok() {
                    written = json::encode(Event::Connection(&connection, verdict), host, lines);
                }
            }
            Err(_) => *undecodable_in_window += 1,
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
    fn end_window(&mut self) -> anyhow::Result<()> {
        self.drain()?;
        self.write_window()
    }

    fn write_window(&mut self) -> anyhow::Result<()> {
        let counters = self.kernel.counters()?;
        let now = Timestamp::now();
        let span = Window { start: self.window_start, end: now };
        let window = std::mem::replace(&mut self.window, Tally::new(self.settings.max_sources));
        let lost = losses(&counters.since(&self.counters), self.undecodable_in_window);
        self.undecodable += std::mem::take(&mut self.undecodable_in_window);
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
                losses: &losses(&counters, self.undecodable),
                rows: self.settings.rows,
                zone: &self.zone,
            });
            self.lines.extend(text.as_bytes());
            self.lines.push(b'\n');
        } else {
            self.encode_window(span, &window, &lost).context("cannot encode a summary")?;
        }
        self.flush()
    }

    fn encode_window(&mut self, span: Window, window: &Tally, lost: &[Loss]) -> io::Result<()> {
        let Self { lines, host, settings, .. } = self;
        if settings.events.sources {
            for (source, sums) in window.sources() {
                json::encode(Event::Source(span, source, sums), host, lines)?;
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

    /// Detaches the probes, takes everything they left, and ends the last window.
    fn finish(mut self) -> anyhow::Result<Tally> {
        self.kernel.detach();
        // A probe that was running at that moment still writes its record; the kernel's counts tell when all are there.
        for _ in 0..1_000 {
            self.drain()?;
            if self.kernel.counters()?.settled() {
                break;
            }
            std::thread::yield_now();
        }
        self.end_window()?;
        eprintln!("{}", ended(&self.counters, self.undecodable));
        Ok(self.total.unwrap_or_else(|| Tally::new(self.settings.max_sources)))
    }
}
