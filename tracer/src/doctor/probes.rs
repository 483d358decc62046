//! Checks of what the probes need from the kernel, and of the probes themselves.

use tracer_ebpf::PortSet;

use super::Check;
use crate::kernel::{self, Kernel, Offsets, StateStore};

const NO_BTF: &str = "a kernel with CONFIG_DEBUG_INFO_BTF=y is needed; the usual distributions' are";

/// The kernel's types, with every member that the probes read.
pub(super) fn btf() -> Check {
    const NAME: &str = "btf";
    match Offsets::of_running_kernel() {
        Ok(_) => Check::ok(NAME, kernel::VMLINUX),
        Err(error) => Check::missing(NAME, error.to_string(), NO_BTF),
    }
}

pub(super) fn tracepoints() -> Check {
    const NAME: &str = "tracepoints";
    match kernel::missing_tracepoints() {
        Ok(missing) if missing.is_empty() => {
            Check::ok(NAME, "inet_sock_set_state, tcp_receive_reset, tcp_send_reset")
        }
        Ok(missing) => Check::missing(
            NAME,
            format!("this kernel has no {}", missing.join(", ")),
            "a kernel with CONFIG_TRACEPOINTS=y and CONFIG_NET=y from 5.8 on is needed",
        ),
        Err(error) => Check::missing(NAME, error.to_string(), NO_BTF),
    }
}

pub(super) fn ring_buffer() -> Check {
    const NAME: &str = "ring buffer";
    match kernel::ring_buffer() {
        Ok(true) => Check::ok(NAME, "the kernel makes them"),
        Ok(false) => Check::missing(NAME, "this kernel has none", "5.8 or newer is needed"),
        Err(words) => Check::missing(NAME, format!("cannot ask the kernel: {words}"), RIGHTS),
    }
}

pub(super) fn socket_storage() -> Check {
    const NAME: &str = "socket storage";
    match kernel::socket_storage() {
        Ok(true) => Check::ok(NAME, "the kernel makes it"),
        Ok(false) => Check::degraded(
            NAME,
            "this kernel has none; a table and an LRU hash of 65,536 sockets each stand in",
            "from 5.11 on state is kept in the sockets",
        ),
        Err(words) => Check::missing(NAME, format!("cannot ask the kernel: {words}"), RIGHTS),
    }
}

const RIGHTS: &str = "the BPF system call must be allowed: see capabilities, and seccomp in a container";

/// Really loads and attaches everything, and takes it away again: one check for connections, and one for each kind of
/// attempt that never becomes one.
pub(super) fn attach(ports: PortSet) -> Vec<Check> {
    const NAME: &str = "probes";
    let kernel = match Kernel::attach(&kernel::Options { ports, ring_bytes: 4096, kernel_log: false }) {
        Ok(kernel) => kernel,
        Err(error) => return vec![Check::missing(NAME, error.to_string(), "see the lines above")],
    };
    let connections = match kernel.state() {
        StateStore::SocketStorage => Check::ok(NAME, "all attach; state in socket storage"),
        StateStore::LruHash => Check::degraded(
            NAME,
            "all attach; state of about 65,536 open connections is kept",
            "from kernel 5.11 on state is kept in the sockets",
        ),
    };
    let attempts = kernel.attempts().by_name().into_iter().map(|(name, way)| match way {
        Ok(way) => Check::ok(name, format!("observed by {}", way.words())),
        Err(error) => Check::degraded(name, format!("not observed: {error}"), unobserved_counter(name)),
    });
    [connections].into_iter().chain(attempts).collect()
}

/// Where the kernel at least counts what cannot be observed, without addresses.
fn unobserved_counter(attempt: &str) -> &'static str {
    match attempt {
        "half-open" => "TcpExtEmbryonicRsts in `nstat -az` counts them, without addresses",
        "refused" => "TcpOutRsts in `nstat -az` counts them among all resets, without addresses",
        _ => "TcpExtListenOverflows in `nstat -az` counts them, without addresses",
    }
}
