//! A real RabbitMQ with everything of its own: node name, directories, ports, epmd.

use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::{Arc, Mutex, Weak},
};

use super::{Host, Network, daemon::Daemon, ports, wait};

/// In milliseconds; the least that the tracer takes for a time-out is a second.
const HANDSHAKE_TIMEOUT: u64 = 2_000;

const NODE: &str = "amqptrace@localhost";

/// A broker on a host of its own, and the network that it is on.
pub struct RabbitMq {
    daemon: Daemon,
    epmd_port: u16,
    host: Host,
    network: Network,
    port: u16,
}

impl RabbitMq {
    /// One that all tests use that run at the same time, each from hosts of its own. It takes seconds to boot.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<RabbitMq>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let new = Arc::new(Self::start());
            *shared = Arc::downgrade(&new);
            new
        })
    }

    /// Starts one, and returns when it takes connections.
    pub fn start() -> Self {
        let network = Network::new();
        let host = network.host();
        let (port, epmd_port, distribution_port) = (ports::free(), ports::free(), ports::free());
        let directory = tempfile::Builder::new().prefix("amqptrace-rabbitmq-").tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let configuration = format!(
            "listeners.tcp.default = {port}\n\
             handshake_timeout = {HANDSHAKE_TIMEOUT}\n\
             loopback_users = none\n\
             log.file.level = debug\n\
             log.connection.level = debug\n"
        );
        std::fs::write(path("rabbitmq.conf"), configuration).unwrap();
        std::fs::write(path("enabled_plugins"), "[].\n").unwrap();
        let chown = Command::new("chown").args(["-R", "rabbitmq:rabbitmq"]).arg(directory.path()).status();
        assert!(
            chown.unwrap().success(),
            "no user rabbitmq: is the Debian package rabbitmq-server installed?"
        );

        // The script makes way for the Erlang VM, so the process that is started here is the broker itself.
        let mut command = Command::new("setpriv");
        command
            .args(["--reuid=rabbitmq", "--regid=rabbitmq", "--init-groups"])
            .arg("/usr/lib/rabbitmq/bin/rabbitmq-server")
            .current_dir(directory.path())
            .env_clear()
            .envs([("PATH", "/usr/sbin:/usr/bin:/sbin:/bin"), ("LANG", "C.UTF-8")])
            .envs([("detached", "1"), ("RABBITMQ_ALLOW_INPUT", ""), ("RABBITMQ_NODENAME", NODE)])
            .envs([("ERL_EPMD_ADDRESS", "127.0.0.1"), ("ERL_EPMD_PORT", &epmd_port.to_string())])
            .env("RABBITMQ_DIST_PORT", distribution_port.to_string())
            .env("HOME", directory.path())
            .env("RABBITMQ_CONFIG_FILE", path("rabbitmq.conf"))
            .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("enabled_plugins"))
            .env("RABBITMQ_LOG_BASE", path("log"))
            .env("RABBITMQ_MNESIA_BASE", path("mnesia"))
            .env("RABBITMQ_PID_FILE", path("pid"));
        let clean_up = format!("epmd -port {epmd_port} -kill");
        let daemon = host.enter(|| Daemon::start("rabbitmq-server", command, directory, &clean_up));
        let mut broker = Self { daemon, epmd_port, host, network, port };
        broker.daemon.wait_for(&log_file(), "Server startup complete");
        broker
    }

    /// The host that it runs on.
    pub const fn host(&self) -> &Host {
        &self.host
    }

    /// A new host on its network.
    pub fn new_host(&self) -> Host {
        self.network.host()
    }

    /// The port it listens on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::new(self.host.ip, self.port)
    }

    /// Stops it with SIGTERM, as an operator does.
    pub fn stop(&mut self) {
        self.daemon.stop();
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        self.daemon.text_of(&log_file())
    }

    /// Waits until its log about the connection from `peer` holds `text`, and returns all it says about it.
    pub fn wait_for_log(&self, peer: SocketAddr, text: &str) -> String {
        wait::until(&format!("{text:?} in the broker's log about {peer}"), || {
            let said = self.log_about(peer);
            said.contains(text).then_some(said)
        })
    }

    /// What its log says about the connection from `peer`: the lines of the process that served it.
    pub fn log_about(&self, peer: SocketAddr) -> String {
        let log = self.log();
        let accepted = format!("({peer} -> ");
        let Some(process) = log.lines().rev().filter(|line| line.contains(&accepted)).find_map(process)
        else {
            return String::new();
        };
        let of_process: Vec<&str> = log.lines().filter(|line| self::process(line) == Some(process)).collect();
        of_process.join("\n")
    }

    /// Waits until its log names `n` connections that it accepted from this host, and returns who they were.
    pub fn wait_for_accepted(&self, host: &Host, n: usize) -> Vec<SocketAddr> {
        let peer = |line: &str| -> Option<SocketAddr> {
            let (_, rest) = line.split_once("accepting AMQP connection")?.1.split_once('(')?;
            rest.split_once(" -> ")?.0.parse().ok()
        };
        wait::until(&format!("{n} accepted connections in the broker's log"), || {
            let log = self.log();
            let peers = log.lines().filter_map(peer).filter(|peer| [host.ip, host.ipv6].contains(&peer.ip()));
            let peers: Vec<SocketAddr> = peers.collect();
            (peers.len() >= n).then_some(peers)
        })
    }
}

impl Drop for RabbitMq {
    fn drop(&mut self) {
        self.daemon.stop();
        // epmd outlives the broker that started it.
        self.host.enter(|| {
            let _ = Command::new("epmd")
                .args(["-port", &self.epmd_port.to_string(), "-kill"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
        });
    }
}

fn log_file() -> String {
    format!("log/{NODE}.log")
}

/// The Erlang process that a line is from: `2026-11-22 08:31:23.098481+00:00 [debug] <0.535.0> …`.
fn process(line: &str) -> Option<&str> {
    line.split_whitespace().nth(3).filter(|word| word.starts_with("<0."))
}
