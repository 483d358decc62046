//! Whether open connections can be listed, said as a check: it is really done once.

use super::Check;
use crate::broker::Scanner;

/// One check for all ports.
pub(super) fn check(ports: &[u16]) -> Check {
    const NAME: &str = "open connections";
    match Scanner::new(ports).scan() {
        Ok(scan) if scan.unreadable == 0 => {
            Check::ok(NAME, format!("can be listed; {} on these ports now", scan.connections.len()))
        }
        Ok(scan) => Check::degraded(
            NAME,
            format!("{} network namespaces cannot be looked into", scan.unreadable),
            "CAP_SYS_ADMIN is needed for other network namespaces than this one",
        ),
        Err(error) => Check::degraded(
            NAME,
            error.to_string(),
            "the kernel's tcp_diag is needed (modprobe tcp_diag); run goes on without",
        ),
    }
}
