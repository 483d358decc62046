//! `amqptrace run`: the way of a record from the ring to the output, until the time is up or a signal comes.

use std::{future::Future, time::Duration};

use anyhow::Context as _;
use tokio::{
    signal::unix::{SignalKind, signal},
    task::yield_now,
    time::{Instant, MissedTickBehavior, interval_at, sleep_until},
};

use crate::{
    doctor,
    kernel::Kernel,
    look::Looker,
    pipeline::{Pipeline, Traced},
    settings::Settings,
    sink::Sink,
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
/// `stop` is first polled when the probes are attached.
pub async fn trace(settings: Settings, stop: impl Future<Output = ()>) -> anyhow::Result<Traced> {
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

    let mut looker = Looker::new(&settings.ports, settings.grouping);
    looker.begin();
    let mut pipeline = Pipeline::new(settings, kernel, sink)?;
    let mut emptied = true;
    // Whether a window waits for a look to end it.
    let mut waiting = false;
    tokio::pin!(stop);
    loop {
        tokio::select! {
            // What ends the trace or a window goes first: under a flood the ring is never empty.
            biased;
            () = &mut stop => break,
            () = until(end) => break,
            _ = windows.tick() => {
                if waiting || !looker.begin() {
                    pipeline.end_window()?;
                }
                waiting = looker.is_looking();
            }
            look = looker.end() => {
                pipeline.see(look.context("cannot look at what is open")?);
                if std::mem::take(&mut waiting) {
                    pipeline.end_window()?;
                }
            }
            _ = drains.tick() => emptied = pipeline.drain()?,
            filling = pipeline.kernel.filling() => {
                filling.context("cannot wait for records")?;
                emptied = pipeline.drain()?;
            }
            // Yielding is what lets timers and signals be seen between two batches.
            () = yield_now(), if !emptied => emptied = pipeline.drain()?,
        }
    }
    pipeline.see(looker.last().await.context("cannot look at what is open")?);
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
        "amqptrace: attached; watching port {} in every network namespace, state in {}{}; {}",
        ports.join(", "),
        kernel.state(),
        match kernel.attempts().not_observed().as_slice() {
            [] => String::new(),
            not => format!("; not observed on this kernel: {}", not.join(", ")),
        },
        match settings.duration {
            Some(duration) => format!("for {}", humantime::format_duration(duration)),
            None => "until Ctrl-C".to_owned(),
        }
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
