//! Who listens on the watched ports, said as checks.

use super::Check;
use crate::broker::{self, Listeners};

const NAME: &str = "listener";

/// One check a port.
pub(super) fn check(ports: &[u16]) -> Vec<Check> {
    match broker::find(ports, &Listeners::default()) {
        Ok(found) => ports.iter().map(|port| of_port(*port, &found)).collect(),
        Err(error) => vec![Check::degraded(
            NAME,
            format!("who listens cannot be told: {error}"),
            "is /proc mounted here? Tracing itself does not need to know",
        )],
    }
}

fn of_port(port: u16, found: &Listeners) -> Check {
    let on_port: Vec<String> = found
        .listeners
        .iter()
        .filter(|listener| listener.address.port() == port)
        .map(ToString::to_string)
        .collect();
    if !on_port.is_empty() {
        return Check::ok(NAME, on_port.join("; "));
    }
    let unseen = match found.unreadable + found.hidden {
        0 => String::new(),
        _ => format!(
            ", as far as can be seen (network namespaces not to be looked into: {}; processes: {})",
            found.unreadable, found.hidden
        ),
    };
    Check::degraded(
        NAME,
        format!("nobody listens on port {port}{unseen}"),
        "is the broker running, and is this its port (--port)? Other users' namespaces need root",
    )
}
