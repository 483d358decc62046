//! What the end-to-end tests need of this machine's kernel.
//!
//! In: `/proc` and `/sys`. Out: nothing when all is there. Refused: a machine that lacks something, in one line that names
//! all of it and the flag that skips these tests.

use std::fs;

use anyhow::{Result, bail};

use super::SKIP_KERNEL;

/// The capabilities the tracer and the tests' network namespaces take, by their bit.
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (21, "CAP_SYS_ADMIN"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// What is looked at, apart from the looking.
#[derive(Clone, Default)]
struct Look {
    /// `/proc/self/status`.
    status: String,
    /// Whether `/sys/kernel/btf/vmlinux` can be opened.
    btf: bool,
    /// Whether the kernel has the bpf system call at all.
    bpf: bool,
    /// `/sys/kernel/security/lockdown`, empty where there is none.
    lockdown: String,
}

/// Fails with one line unless the end-to-end tests can run here.
pub(super) fn check() -> Result<()> {
    let missing = missing(&Look {
        status: fs::read_to_string("/proc/self/status").unwrap_or_default(),
        btf: fs::File::open("/sys/kernel/btf/vmlinux").is_ok(),
        // This setting is compiled in together with the system call.
        bpf: fs::exists("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or(false),
        lockdown: fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default(),
    });
    if !missing.is_empty() {
        bail!("the kernel tests need {} ({SKIP_KERNEL} leaves them out)", missing.join(", "));
    }
    Ok(())
}

fn missing(look: &Look) -> Vec<String> {
    let effective = look.status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok()).unwrap_or(0);
    let absent = CAPABILITIES.iter().filter(|(bit, _)| effective & (1 << bit) == 0).map(|(_, name)| *name);
    let absent = absent.collect::<Vec<_>>();
    let mut missing = Vec::new();
    if !absent.is_empty() {
        missing.push(format!("root (effective capabilities lack {})", absent.join(", ")));
    }
    if !look.bpf {
        missing.push("a kernel with CONFIG_BPF_SYSCALL".to_owned());
    }
    if !look.btf {
        missing.push("a readable /sys/kernel/btf/vmlinux (CONFIG_DEBUG_INFO_BTF)".to_owned());
    }
    // Lockdown in its stricter mode lets BPF programs load and forbids them to read the kernel's memory.
    if look.lockdown.contains("[confidentiality]") {
        missing.push("a kernel that is not locked down for confidentiality".to_owned());
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> Look {
        let status = "Name:\txtask\nCapEff:\t000001ffffffffff\n".to_owned();
        Look { status, btf: true, bpf: true, lockdown: "none [integrity] confidentiality\n".to_owned() }
    }

    #[test]
    fn a_machine_with_everything_lacks_nothing() {
        assert_eq!(missing(&good()), Vec::<String>::new());
    }

    #[test]
    fn each_lack_is_named() {
        let lack = |change: fn(&mut Look)| {
            let mut look = good();
            change(&mut look);
            missing(&look).join("; ")
        };
        assert_eq!(
            lack(|look| look.status = "CapEff:\t0000007fffffffff\n".into()),
            "root (effective capabilities lack CAP_BPF)"
        );
        assert!(
            lack(|look| look.status.clear()).contains("CAP_NET_ADMIN, CAP_SYS_ADMIN, CAP_PERFMON, CAP_BPF")
        );
        assert!(lack(|look| look.btf = false).contains("/sys/kernel/btf/vmlinux"));
        assert!(lack(|look| look.bpf = false).contains("CONFIG_BPF_SYSCALL"));
        assert!(
            lack(|look| look.lockdown = "none integrity [confidentiality]\n".into()).contains("locked down")
        );
    }

    #[test]
    fn everything_missing_is_one_line() {
        let lines = missing(&Look::default()).join(", ");
        assert_eq!(lines.lines().count(), 1);
        assert!(lines.contains("root") && lines.contains("BPF_SYSCALL") && lines.contains("btf"));
    }
}
