//! What is refused: one line on stderr that names the value and what is allowed, nothing on stdout, exit code 2 for wrong
//! usage and 1 for what fails at run time.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::harness::{Listener, Manners, Tracer, loopback, ports, tracer::binary, traffic::reset_probes};

/// Runs a command that must end by itself.
fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.stdin(Stdio::null()).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
}

/// Runs it and requires one line of refusal with this exit code that holds all of `words`.
fn refused(command: &mut Command, code: i32, words: &[&str]) {
    let (found, stdout, stderr) = run(command);
    assert_eq!(found, Some(code), "{command:?}: {stderr}");
    assert_eq!(stdout, "", "{command:?}");
    assert_eq!(stderr.lines().count(), 1, "{command:?}: {stderr}");
    assert!(stderr.starts_with("amqptrace: "), "{stderr}");
    for word in words {
        assert!(stderr.contains(word), "{command:?} does not say {word:?}: {stderr}");
    }
}

#[test]
fn wrong_usage_is_one_line_and_exit_code_2() {
    let ports: Vec<String> = (1..=65).map(|port| port.to_string()).collect();
    let many = ports.join(",");
    for (arguments, words) in [
        (&[][..], &["verb", "run"][..]),
        (&["fly"], &["'fly'", "run, doctor, rules, demo"]),
        (&["run", "--port", "0"], &["'0'", "1 to 65535"]),
        (&["run", "--port", "65536"], &["'65536'", "1 to 65535"]),
        (&["run", "--port", "amqp"], &["'amqp'", "1 to 65535"]),
        (&["run", "--port", "5672,"], &["''", "1 to 65535"]),
        (&["run", "--port", &many], &["65 different ports", "64"]),
        (&["run", "--duration", "soon"], &["'soon'", "100ms to 366d"]),
        (&["run", "--duration", "5"], &["'5'", "with a unit"]),
        (&["run", "--interval", "1ms"], &["'1ms'", "100ms to 366d"]),
        (&["run", "--format", "xml"], &["'xml'", "table, json"]),
        (&["run", "--events", "sources"], &["--events", "--format json"]),
        (
            &["run", "--format", "json", "--events", "all"],
            &["'all'", "connections, sources, open, findings, loss"],
        ),
        (&["run", "--threshold", "storm_rate"], &["'storm_rate'", "NAME=VALUE"]),
        (&["run", "--threshold", "storms=3"], &["'storms'", "storm_rate"]),
        (&["run", "--threshold", "storm_rate=-1"], &["'-1'", "storm_rate"]),
        (&["run", "--group-v6", "129"], &["'129'", "1..=128"]),
        (&["run", "--output", "ftp:x"], &["'ftp:x'", "stdout, file:PATH"]),
        (&["run", "--max-sources", "0"], &["'0'", "1..=10000000"]),
        (&["run", "--ring-kib", "5"], &["'5'", "4, 8, 16"]),
        (&["run", "--colour"], &["'--colour'"]),
        (&["run", "5672"], &["'5672'"]),
        (&["doctor", "--port", "x"], &["'x'", "1 to 65535"]),
    ] {
        refused(Command::new(binary()).args(arguments), 2, words);
    }
}

#[test]
fn help_and_version_are_answers() {
    for arguments in [&["--help"][..], &["--version"], &["run", "--help"]] {
        let (code, stdout, stderr) = run(Command::new(binary()).args(arguments));
        assert_eq!((code, stderr.as_str()), (Some(0), ""), "{arguments:?}");
        assert!(stdout.contains("amqptrace"), "{stdout}");
    }
}

#[test]
fn an_output_that_cannot_be_opened_is_said_before_anything_is_attached() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing").join("file");
    for path in [missing.as_path(), directory.path(), Path::new("/proc/amqptrace")] {
        let path = path.to_str().unwrap();
        // Were it attached, it would say so, and that would be a second line.
        refused(Command::new(binary()).args(["run", "--output", &format!("file:{path}")]), 1, &[path]);
    }
    assert!(!missing.exists());
}

#[test]
fn a_full_disk_is_named() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], &["--output", "file:/dev/full"]);
    reset_probes(loopback(1, 1), &listener, 1);
    let finished = tracer.wait();
    assert_eq!(finished.code, Some(1), "{:?}", finished.stderr);
    let said: Vec<_> = finished.stderr.iter().filter(|line| !line.contains("attached")).collect();
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("/dev/full"), "{said:?}");
    assert!(finished.stdout.is_empty());
}

/// The same on standard output, which unlike a reader that has gone is a failure.
#[test]
fn a_standard_output_that_cannot_be_written_to_is_named() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let mut command = Command::new("sh");
    let script = r#"exec "$0" run --port "$1" --format json --duration 2s >/dev/full"#;
    command
        .arg("-c")
        .arg(script)
        .arg(binary())
        .arg(port.to_string())
        .stdin(Stdio::null())
        .stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    // Until it ends, so that some come after it was attached; none is needed for the test to end.
    let ended = std::thread::spawn(move || child.wait_with_output().unwrap());
    while !ended.is_finished() {
        reset_probes(loopback(1, 1), &listener, 1);
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let output = ended.join().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    let said: Vec<_> = stderr.lines().filter(|line| !line.contains("attached")).collect();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert_eq!(said.len(), 1, "{stderr}");
    assert!(said[0].contains("standard output"), "{stderr}");
}

#[test]
fn without_root_it_says_what_is_missing() {
    // A copy that everybody may execute, wherever the build's own is.
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let copy = directory.path().join("amqptrace");
    fs::copy(binary(), &copy).unwrap();
    fs::set_permissions(&copy, fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new("setpriv");
    command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&copy).arg("run");
    refused(&mut command, 1, &["root"]);
}

#[test]
fn without_the_kernels_types_it_says_so() {
    let hide = r#"mount --bind /dev/null /sys/kernel/btf/vmlinux && exec "$0" run"#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", hide]).arg(binary());
    refused(&mut command, 1, &["BTF", "/sys/kernel/btf/vmlinux"]);
}
