//! `amqptrace demo`: the main job on traffic of its own, and whether the table says what was done.

use std::{net::IpAddr, thread};

use anyhow::{Context as _, bail};
use tokio::sync::oneshot;

use super::run::trace;
use crate::{
    cli::{self, Command, DemoArgs},
    demo::{
        sources::{self, Source},
        stand_in::StandIn,
    },
    pipeline::Traced,
    settings::Settings,
    verdict::Verdict,
};

/// Makes the traffic, traces it, and compares.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let port = args.port;
    let stand_in =
        StandIn::listen(port).with_context(|| format!("cannot listen on 127.0.0.1 port {port}"))?;
    match &stand_in {
        Some(_) => println!(
            "Nobody listens on 127.0.0.1 port {port}: a listener of this process stands in for the broker."
        ),
        None => println!("A broker listens on port {port}: the traffic goes to it."),
    }
    println!("Six sources on loopback do what a broker's neighbours do:\n");
    for source in sources::all() {
        println!("  {}  {:>2} × {}", source.address, source.times, source.what);
    }
    println!();

    let (done, finished) = oneshot::channel();
    let traffic = async move {
        let spawned = thread::Builder::new().spawn(move || {
            let _ = done.send(make(port, stand_in));
        });
        spawned.context("cannot start the traffic")?;
        finished.await.context("the traffic ended without a result")?
    };
    let mut result = Ok(());
    let traced = trace(settings(port)?, async { result = traffic.await }).await?;
    result?;
    compare(&traced, &sources::all())
}

/// The settings of `run --port PORT --interval 1h`: one table, at the end.
fn settings(port: u16) -> anyhow::Result<Settings> {
    let port = port.to_string();
    let line = ["amqptrace", "run", "--interval", "1h", "--port", &port];
    match cli::parse(line.map(Into::into)) {
        Ok(Command::Run(args)) => Ok(Settings::new(args)?),
        _ => bail!("the demo's own arguments are wrong: {}", line.join(" ")),
    }
}

/// All sources at once; returns when every connection is closed on both sides.
fn make(port: u16, stand_in: Option<StandIn>) -> anyhow::Result<()> {
    let running: Vec<_> = sources::all()
        .into_iter()
        .map(|source| {
            thread::spawn(move || source.run(port).with_context(|| format!("{} failed", source.address)))
        })
        .collect();
    for source in running {
        match source.join() {
            Ok(result) => result?,
            Err(_) => bail!("a source of the demonstration panicked"),
        }
    }
    if let Some(stand_in) = stand_in {
        stand_in.wait_closed(connections());
    }
    Ok(())
}

/// How many connections the listener gets to see.
fn connections() -> u64 {
    let established = |source: &&Source| source.verdict != Verdict::ProbeHalfOpen;
    sources::all().iter().filter(established).map(|source| source.times).sum()
}

/// Says whether each source was named with what it did.
fn compare(traced: &Traced, sources: &[Source]) -> anyhow::Result<()> {
    for Source { address, verdict, times, .. } in sources {
        let counted =
            traced.total.get(IpAddr::V4(*address)).map_or(0, |sums| sums.verdicts[*verdict as usize]);
        match (verdict, &traced.attempts.half_open) {
            (Verdict::ProbeHalfOpen, Err(why)) => {
                println!("{address} is not in the table: half-open checks are not observed here ({why}).");
            }
            _ if counted != *times => bail!("{address} made {times} × {verdict}; counted: {counted}"),
            _ => {}
        }
    }
    println!(
        "Every source that can be observed was counted exactly, under the verdict that fits what it did."
    );
    Ok(())
}
