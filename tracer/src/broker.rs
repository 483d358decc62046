//! The broker as the host sees it: who listens on the watched ports and where that process lives, and the connections
//! that are open there at this moment. Read from procfs and `NETLINK_SOCK_DIAG`; nothing is asked of the broker.

mod cgroup;
mod diag;
mod filter;
mod listeners;
mod namespaces;
mod open;

use cgroup::Home;
pub use listeners::{Listener, Listeners, find};
pub use open::{OpenNow, Scanner, by_source};

#[cfg(test)]
mod tests;
