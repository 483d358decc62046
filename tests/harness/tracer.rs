//! The tracer under test, as a child process.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead as _, BufReader, Read},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Instant,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{
    DEADLINE,
    record::{Connection, Finding, Loss, Open, Record, Source, parse},
};

/// The binary under test.
pub fn binary() -> PathBuf {
    env::var_os("AMQPTRACE_BIN").unwrap_or_else(|| env!("CARGO_BIN_EXE_amqptrace").into()).into()
}

/// A running `amqptrace run`, attached. Killed on drop.
pub struct Tracer {
    child: Child,
    stdout: Arc<Lines>,
    stderr: Arc<Lines>,
}

impl Tracer {
    /// Starts `amqptrace run --format json` on `ports` with `more` arguments, and returns when it is attached.
    pub fn start(ports: &[u16], more: &[&str]) -> Self {
        let (mut tracer, stdout) = Self::start_unread(ports, more);
        tracer.stdout = Lines::read(stdout);
        tracer
    }

    /// The same, but leaves its standard output to the caller.
    pub fn start_unread(ports: &[u16], more: &[&str]) -> (Self, ChildStdout) {
        let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
        let mut command = Command::new(binary());
        command.args(["run", "--port", &ports.join(",")]).args(more);
        if !more.contains(&"--format") {
            command.args(["--format", "json"]);
        }
        if !more.contains(&"--duration") {
            // Should this process be killed, the tracer ends all the same.
            command.args(["--duration", "15m"]);
        }
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot start {}: {error}", binary().display()));
        let stdout = child.stdout.take().unwrap();
        let stderr = Lines::read(child.stderr.take().unwrap());
        let tracer = Self { child, stdout: Lines::none(), stderr };
        let attached = |lines: &[String]| lines.iter().any(|line| line.starts_with("amqptrace: attached"));
        if !tracer.stderr.wait(attached) {
            panic!("the tracer does not trace here: {}", tracer.stderr.snapshot().join(" "));
        }
        (tracer, stdout)
    }

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    /// Sends a signal to it.
    pub fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// Waits until it has written `n` connection records.
    pub fn wait_for_connections(&self, n: usize) {
        self.wait_for_lines(n, |line| line.contains(r#""type":"connection""#));
    }

    /// Waits until it has written `n` connection records of this source.
    pub fn wait_for_connections_from(&self, source: IpAddr, n: usize) {
        let source = format!(r#""source":{{"ip":"{source}","port""#);
        self.wait_for_lines(n, |line| line.contains(&source));
    }

    /// Whether one of its lines so far holds `text`.
    pub fn has_said(&self, text: &str) -> bool {
        self.stdout.snapshot().iter().any(|line| line.contains(text))
    }

    fn wait_for_lines(&self, n: usize, wanted: impl Fn(&str) -> bool) {
        let (mut read, mut found) = (0, 0);
        let complete = self.stdout.wait(|lines| {
            found += lines[read..].iter().filter(|line| wanted(line)).count();
            read = lines.len();
            found >= n
        });
        let last = self.stdout.snapshot().pop();
        assert!(complete, "{found} of {n} connection records after {DEADLINE:?}; the last line: {last:?}");
    }

    /// Waits until a line on its standard error holds `text`.
    pub fn wait_for_stderr(&self, text: &str) {
        let found = self.stderr.wait(|lines| lines.iter().any(|line| line.contains(text)));
        assert!(found, "no {text:?} on stderr: {:?}", self.stderr.snapshot());
    }

    /// Stops it with SIGTERM; it must exit with 0.
    pub fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        let finished = self.wait();
        assert_eq!(finished.code, Some(0), "{:?}", finished.stderr);
        finished
    }

    /// Waits until it ends.
    pub fn wait(mut self) -> Finished {
        assert!(self.stderr.wait_end(), "the tracer has not ended after {DEADLINE:?}");
        let code = self.child.wait().unwrap().code();
        assert!(self.stdout.wait_end(), "somebody else still holds the tracer's standard output");
        Finished { code, stdout: self.stdout.snapshot(), stderr: self.stderr.snapshot() }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        // Both fail only when it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a tracer left.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: Vec<String>,
    pub stderr: Vec<String>,
}

impl Finished {
    /// All its lines as records.
    pub fn records(&self) -> Vec<Record> {
        self.stdout.iter().map(|line| parse(line)).collect()
    }

    /// Its connection records.
    pub fn connections(&self) -> Vec<Connection> {
        connections(self.records())
    }

    /// Its connection records of one source.
    pub fn connections_from(&self, source: IpAddr) -> Vec<Connection> {
        self.connections().into_iter().filter(|connection| connection.source.ip == source).collect()
    }

    /// Its source records.
    pub fn sources(&self) -> Vec<Source> {
        sources(self.records())
    }

    /// What it says that sources hold open.
    pub fn open(&self) -> Vec<Open> {
        let of = |record| if let Record::Open(open) = record { Some(open) } else { None };
        self.records().into_iter().filter_map(of).collect()
    }

    /// Its findings, as often as each was said.
    pub fn findings(&self) -> Vec<Finding> {
        let of = |record| if let Record::Finding(finding) = record { Some(finding) } else { None };
        self.records().into_iter().filter_map(of).collect()
    }

    /// Its loss records, without those of what this kernel does not let be observed at all.
    pub fn losses(&self) -> Vec<Loss> {
        self.all_losses().into_iter().filter(|loss| !loss.reason.ends_with("_not_observed")).collect()
    }

    /// What it says that this kernel does not let be observed.
    pub fn not_observed(&self) -> BTreeSet<String> {
        let reasons = self.all_losses().into_iter().map(|loss| loss.reason);
        reasons.filter(|reason| reason.ends_with("_not_observed")).collect()
    }

    fn all_losses(&self) -> Vec<Loss> {
        let of = |record| if let Record::Loss(loss) = record { Some(loss) } else { None };
        self.records().into_iter().filter_map(of).collect()
    }

    /// The source address and port of each connection record.
    pub fn peers(&self) -> Vec<SocketAddr> {
        self.connections().iter().map(|connection| connection.source.address()).collect()
    }

    /// How many connections each source has in the source records of all windows; `None` is the rest.
    pub fn sums_by_source(&self) -> BTreeMap<Option<IpAddr>, u64> {
        let mut sums = BTreeMap::new();
        for source in self.sources() {
            *sums.entry(source.source.ip).or_default() += source.connections;
        }
        sums
    }
}

/// The connections among the records.
pub fn connections(records: Vec<Record>) -> Vec<Connection> {
    let of = |record| if let Record::Connection(connection) = record { Some(connection) } else { None };
    records.into_iter().filter_map(of).collect()
}

/// The sources among the records.
pub fn sources(records: Vec<Record>) -> Vec<Source> {
    let of = |record| if let Record::Source(source) = record { Some(source) } else { None };
    records.into_iter().filter_map(of).collect()
}

/// What a stream has said so far.
#[derive(Default)]
struct Lines {
    said: Mutex<Said>,
    more: Condvar,
}

#[derive(Default)]
struct Said {
    lines: Vec<String>,
    ended: bool,
}

impl Lines {
    /// A stream that somebody else reads.
    fn none() -> Arc<Self> {
        Arc::new(Self { said: Mutex::new(Said { ended: true, ..Said::default() }), ..Self::default() })
    }

    /// Reads a stream to its end on a thread of its own.
    fn read(stream: impl Read + Send + 'static) -> Arc<Self> {
        let lines = Arc::new(Self::default());
        let filled = Arc::clone(&lines);
        thread::spawn(move || {
            for line in BufReader::new(stream).lines() {
                filled.said.lock().unwrap().lines.push(line.expect("the tracer writes UTF-8"));
                filled.more.notify_all();
            }
            filled.said.lock().unwrap().ended = true;
            filled.more.notify_all();
        });
        lines
    }

    /// Waits until `enough` holds; false when the stream ended or the deadline passed before.
    fn wait(&self, mut enough: impl FnMut(&[String]) -> bool) -> bool {
        let begin = Instant::now();
        let mut said = self.said.lock().unwrap();
        loop {
            if enough(&said.lines) {
                return true;
            }
            let left = DEADLINE.saturating_sub(begin.elapsed());
            if said.ended || left.is_zero() {
                return false;
            }
            said = self.more.wait_timeout(said, left).unwrap().0;
        }
    }

    /// Waits until the stream ends; false when the deadline passed before.
    fn wait_end(&self) -> bool {
        // Never enough: `wait` returns at the end or at the deadline, and the first is what is asked for.
        self.wait(|_| false);
        self.said.lock().unwrap().ended
    }

    fn snapshot(&self) -> Vec<String> {
        self.said.lock().unwrap().lines.clone()
    }
}
