//! Who listens on the watched ports, in every network namespace that a process lives in.

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    net::SocketAddr,
    os::unix::fs::MetadataExt as _,
};

use procfs::{
    net::TcpState,
    process::{FDTarget, Process, all_processes},
};

use super::Check;

struct Listener {
    address: SocketAddr,
    netns: u64,
    socket: u64,
}

/// One check a port.
pub(super) fn check(ports: &[u16]) -> Vec<Check> {
    const NAME: &str = "listener";
    let processes: Vec<Process> =
        all_processes().map(|all| all.filter_map(Result::ok).collect()).unwrap_or_default();
    let listeners = listeners(&processes, ports);
    let owners = owners(&processes, &listeners);
    ports
        .iter()
        .map(|port| {
            let on_port: Vec<String> = listeners
                .iter()
                .filter(|listener| listener.address.port() == *port)
                .map(|listener| {
                    let owner = owners.get(&listener.socket).map_or("unknown process", String::as_str);
                    format!("{} by {owner} in network namespace {}", listener.address, listener.netns)
                })
                .collect();
            if on_port.is_empty() {
                Check::degraded(
                    NAME,
                    format!("nobody listens on port {port}"),
                    "is the broker running, and is this its port (--port)? Other users' namespaces need root",
                )
            } else {
                Check::ok(NAME, on_port.join("; "))
            }
        })
        .collect()
}

/// The tables of one process show its whole namespace, so one process a namespace is asked.
fn listeners(processes: &[Process], ports: &[u16]) -> Vec<Listener> {
    let mut asked = BTreeSet::new();
    let mut found = Vec::new();
    for process in processes {
        let Ok(namespace) = fs::metadata(format!("/proc/{}/ns/net", process.pid)) else {
            continue;
        };
        if !asked.insert(namespace.ino()) {
            continue;
        }
        let entries = process.tcp().into_iter().chain(process.tcp6()).flatten();
        found.extend(
            entries
                .filter(|entry| {
                    entry.state == TcpState::Listen && ports.contains(&entry.local_address.port())
                })
                .map(|entry| Listener {
                    address: entry.local_address,
                    netns: namespace.ino(),
                    socket: entry.inode,
                }),
        );
    }
    found
}

/// Which process holds each listener's socket open, as `name (pid N)`.
fn owners(processes: &[Process], listeners: &[Listener]) -> HashMap<u64, String> {
    let wanted: BTreeSet<u64> = listeners.iter().map(|listener| listener.socket).collect();
    let mut owners = HashMap::new();
    for process in processes {
        let Ok(descriptors) = process.fd() else { continue };
        for descriptor in descriptors.filter_map(Result::ok) {
            if let FDTarget::Socket(socket) = descriptor.target
                && wanted.contains(&socket)
                && let Ok(stat) = process.stat()
            {
                owners.entry(socket).or_insert_with(|| format!("{} (pid {})", stat.comm, process.pid));
            }
        }
    }
    owners
}
