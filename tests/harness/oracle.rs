//! The kernel's own counts, to check the tracer's against. They are kept per network namespace, so read them inside the
//! one that is meant.

use std::{collections::BTreeMap, fs, os::unix::fs::MetadataExt as _};

/// The counts of `/proc/net/snmp` and `/proc/net/netstat`, by names as `Tcp.EstabResets` and `TcpExt.EmbryonicRsts`.
#[derive(Clone, Debug)]
pub struct Counters(BTreeMap<String, u64>);

impl Counters {
    /// Reads those of the calling thread's network namespace.
    pub fn read() -> Self {
        let mut counts = BTreeMap::new();
        for file in ["snmp", "netstat"] {
            let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap();
            let lines: Vec<&str> = text.lines().collect();
            for pair in lines.chunks_exact(2) {
                let (group, names) = pair[0].split_once(": ").unwrap();
                let (_, values) = pair[1].split_once(": ").unwrap();
                for (name, value) in names.split_whitespace().zip(values.split_whitespace()) {
                    // `Tcp.MaxConn` is -1: no count.
                    if let Ok(value) = value.parse() {
                        counts.insert(format!("{group}.{name}"), value);
                    }
                }
            }
        }
        Self(counts)
    }

    /// One count; panics on a name that this kernel does not have.
    pub fn get(&self, name: &str) -> u64 {
        *self.0.get(name).unwrap_or_else(|| panic!("this kernel does not count {name}"))
    }

    /// How much one count has grown since `earlier`.
    pub fn since(&self, earlier: &Self, name: &str) -> u64 {
        self.get(name) - earlier.get(name)
    }
}

/// The inode number of the calling thread's network namespace.
pub fn netns_inode() -> u64 {
    fs::metadata("/proc/thread-self/ns/net").unwrap().ino()
}
