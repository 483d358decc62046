//! A real HAProxy on a host of its own, that checks one broker.

use std::{net::SocketAddr, process::Command};

use super::{Host, daemon::Daemon};

/// A running HAProxy.
pub struct HaProxy(Daemon);

impl HaProxy {
    /// Starts one on `host` whose backend has these `check` lines; it checks `broker` ten times a second.
    pub fn start(host: &Host, broker: SocketAddr, check: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("amqptrace-haproxy-").tempdir().unwrap();
        let path = directory.path().join("haproxy.cfg");
        let check: String = check.iter().map(|line| format!("    {line}\n")).collect();
        // Without a frontend it would not run; nobody comes to this one.
        let configuration = format!(
            "defaults\n    mode tcp\n    timeout connect 5s\n    timeout check 5s\n    timeout client 5s\n    \
             timeout server 5s\nlisten rabbitmq\n    bind 127.0.0.1:5672\n{check}    \
             server broker {broker} check inter 100ms\n"
        );
        std::fs::write(&path, configuration).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-db").arg("-f").arg(path);
        Self(host.enter(|| Daemon::start("haproxy", command, directory, "")))
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.0.pid()
    }

    /// Stops it: from then on it checks no more.
    pub fn stop(mut self) {
        self.0.stop();
    }
}
