//! The verbs beside `run`: what `doctor` finds is there or not, and `demo` compares its own table.

use std::{
    net::Ipv4Addr,
    process::{Command, Stdio},
};

use crate::harness::{Listener, Manners, ports, tracer::binary};

/// Runs a verb to its end; gives its exit code and standard output.
fn run(arguments: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(binary()).args(arguments).stdin(Stdio::null()).output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

/// The line of one check.
fn line<'a>(text: &'a str, check: &str) -> &'a str {
    let of_check =
        |line: &&str| line.split_once(' ').is_some_and(|(_, rest)| rest.trim_start().starts_with(check));
    text.lines().find(of_check).unwrap_or_else(|| panic!("no line about {check}: {text}"))
}

#[test]
fn doctor_names_who_listens_and_what_nobody_does() {
    let (taken, free) = (ports::free(), ports::free());
    let _listener = Listener::on((Ipv4Addr::LOCALHOST, taken), Manners::default());

    let (code, text) = run(&["doctor", "--port", &taken.to_string()]);
    assert_eq!(code, Some(0), "{text}");
    let listener = line(&text, "listener");
    assert!(
        listener.starts_with("ok ") && listener.contains(&format!("127.0.0.1:{taken} by ")),
        "{listener}"
    );
    assert!(listener.contains(&format!("(pid {})", std::process::id())), "{listener}");

    let (code, text) = run(&["doctor", "--port", &free.to_string()]);
    assert_eq!(code, Some(0), "a broker that is down does not keep anybody from tracing");
    let listener = line(&text, "listener");
    assert!(listener.starts_with("degraded ") && listener.contains(&free.to_string()), "{listener}");
}

#[test]
fn doctor_has_a_line_for_each_thing_that_run_needs() {
    let (code, text) = run(&["doctor"]);
    assert_eq!(code, Some(0), "{text}");
    for check in [
        "kernel",
        "capabilities",
        "lockdown",
        "btf",
        "tracepoints",
        "ring buffer",
        "socket storage",
        "probes",
    ] {
        assert!(!line(&text, check).starts_with("missing"), "{text}");
    }
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap();
    assert!(line(&text, "kernel").contains(release.trim()), "{text}");
    assert!(line(&text, "probes").contains("all attach"), "{text}");
    for check in ["half-open", "refused", "accept queue full", "open connections", "cgroup2", "tracefs"] {
        line(&text, check);
    }
}

/// `demo` exits with 0 only when the table says of each source what that source did.
#[test]
fn demo_names_each_of_its_sources() {
    let (code, text) = run(&["demo", "--port", &ports::free().to_string()]);
    assert_eq!(code, Some(0), "{text}");
    for (source, connections) in [
        ("127.0.0.11", "30"),
        ("127.0.0.12", "20"),
        ("127.0.0.13", "10"),
        ("127.0.0.14", "2"),
        ("127.0.0.15", "8"),
        ("127.0.0.16", "20"),
    ] {
        let in_table =
            |line: &&str| line.trim_start().starts_with(&format!("{source} ")) && !line.contains('×');
        let row = text.lines().find(in_table).unwrap_or_else(|| panic!("no row of {source}: {text}"));
        assert_eq!(row.split_whitespace().nth(1), Some(connections), "{row}");
    }
}
