//! A tracer under measurement, as a child process: amqptrace, or a peer of libbpf-tools.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::load::Load;
use crate::command;

/// What to start.
#[derive(Clone, Copy)]
pub(crate) enum Start {
    /// amqptrace, on the load's port or on another.
    Amqptrace {
        /// Whether it watches the load's port.
        watched: bool,
    },
    /// A program of libbpf-tools, with its defaults.
    Peer(&'static str),
}

/// A running tracer; stopped by its own pid.
pub(crate) struct Tracer {
    child: Child,
    /// amqptrace's diagnostics, which say what it lost.
    diagnostics: Option<BufReader<ChildStderr>>,
}

impl Tracer {
    /// Starts it and waits until it is attached.
    pub(crate) fn start(start: Start, port: u16) -> Result<Self> {
        match start {
            Start::Amqptrace { watched } => Self::amqptrace(if watched { port } else { port ^ 1 }),
            Start::Peer(name) => Self::peer(name),
        }
    }

    fn amqptrace(port: u16) -> Result<Self> {
        let program = command::target_dir().join("release/amqptrace");
        let port = port.to_string();
        let mut child = Command::new(&program)
            .args(["run", "--format", "json", "--events", "sources,loss", "--port", &port])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let stderr = child.stderr.take().context("stderr is a pipe")?;
        let mut tracer = Self { child, diagnostics: Some(BufReader::new(stderr)) };
        tracer.await_line("attached")?;
        Ok(tracer)
    }

    /// The peers do not say when they are attached; the kernel does, by the programs that they hold.
    fn peer(name: &str) -> Result<Self> {
        let program = command::find(name).with_context(|| format!("{name} is not there"))?;
        let child = Command::new(program)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let mut tracer = Self { child, diagnostics: None };
        let deadline = Instant::now() + Duration::from_secs(20);
        while !tracer.holds_a_link() {
            if Instant::now() > deadline || tracer.child.try_wait()?.is_some() {
                bail!("{name} did not attach its programs");
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(tracer)
    }

    fn holds_a_link(&self) -> bool {
        let Ok(entries) = fs::read_dir(format!("/proc/{}/fdinfo", self.pid())) else {
            return false;
        };
        entries
            .filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok())
            .any(|info| info.contains("link_id:"))
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A size in KiB that the kernel tells of the process.
    fn status_kib(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid());
        let status = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        kib.with_context(|| format!("no {name} in {path}"))
    }

    /// Reads diagnostics up to the line that contains `word`, and returns that line.
    fn await_line(&mut self, word: &str) -> Result<String> {
        let diagnostics = self.diagnostics.as_mut().context("only amqptrace has diagnostics")?;
        let mut said = String::new();
        for line in diagnostics.lines() {
            let line = line.context("cannot read amqptrace's diagnostics")?;
            if line.contains(word) {
                return Ok(line);
            }
            said.push_str(&line);
        }
        bail!("amqptrace ended without saying `{word}`; it said: {said}")
    }

    /// Stops it; returns how many connections it says it has no record of.
    pub(crate) fn stop(mut self) -> Result<u64> {
        self.signal(Signal::INT);
        if self.diagnostics.is_none() {
            self.child.wait().context("cannot wait for the peer")?;
            return Ok(0);
        }
        let line = self.await_line("connections ended or")?;
        self.child.wait().context("cannot wait for amqptrace")?;
        let numbers = line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse::<u64>().ok());
        Ok(numbers.skip(1).sum())
    }

    fn signal(&self, signal: Signal) {
        if let Some(pid) = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw) {
            // A tracer that is gone already needs no signal.
            let _ = kill_process(pid, signal);
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What the most sources make of an amqptrace.
pub(crate) struct Crowded {
    /// Its resident memory at its highest.
    pub(crate) peak_kib: u64,
    /// Connections that it says it has no record of.
    pub(crate) lost: u64,
}

/// Lets amqptrace trace a load whose connections come from an address each.
pub(crate) fn crowded(load: &Load) -> Result<Crowded> {
    let tracer = Tracer::amqptrace(load.port())?;
    load.run_from_everywhere()?;
    let peak_kib = tracer.status_kib("VmHWM:")?;
    Ok(Crowded { peak_kib, lost: tracer.stop()? })
}

/// An idle amqptrace.
pub(crate) struct Idle {
    /// Resident memory once it is attached.
    pub(crate) resident_kib: u64,
    /// From exec to attached, of each start.
    pub(crate) attached: Vec<Duration>,
}

/// Starts amqptrace a number of times, with nothing to trace.
pub(crate) fn idle(port: u16, starts: usize) -> Result<Idle> {
    let mut idle = Idle { resident_kib: 0, attached: Vec::new() };
    for _ in 0..starts {
        let start = Instant::now();
        let tracer = Tracer::amqptrace(port)?;
        idle.attached.push(start.elapsed());
        idle.resident_kib = idle.resident_kib.max(tracer.status_kib("VmRSS:")?);
        tracer.stop()?;
    }
    Ok(idle)
}
