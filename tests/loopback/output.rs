//! Where records and tables go, and what they look like from outside.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::PermissionsExt as _,
};

use crate::harness::{
    Listener, Manners, Tracer, assert_same, count, loopback, ports,
    record::parse,
    tracer,
    traffic::{reset_probes, sessions},
};

#[test]
fn a_file_is_appended_to_in_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("connections.json");
    let target = format!("file:{}", path.display());
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let mut made = Vec::new();
    for _ in 0..2 {
        let tracer = Tracer::start(&[port], &["--output", &target]);
        made.extend(reset_probes(loopback(1, 1), &listener, 300));
        listener.wait_ended(made.len());
        assert!(tracer.stop().stdout.is_empty());
    }
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.ends_with('\n'));
    let records: Vec<_> = text.lines().map(parse).collect();
    let peers: Vec<_> =
        tracer::connections(records.clone()).iter().map(|connection| connection.source.address()).collect();
    assert_eq!(count(peers), count(made), "both runs, the first one's lines kept");
    assert_eq!(tracer::sources(records).len(), 2);
    // The mode is 0640 less what the umask takes away.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:")).unwrap();
    let umask = u32::from_str_radix(umask.trim(), 8).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640 & !umask);
}

/// As `amqptrace run --format json | head -1` does.
#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let (tracer, stdout) = Tracer::start_unread(&[port], &["--interval", "100ms"]);
    reset_probes(loopback(1, 1), &listener, 1);
    let mut first = String::new();
    let mut reader = BufReader::new(stdout);
    reader.read_line(&mut first).unwrap();
    parse(first.trim_end());
    drop(reader);
    // What it writes from here on finds nobody.
    reset_probes(loopback(1, 1), &listener, 100);
    let finished = tracer.wait();
    assert_eq!(finished.code, Some(0), "{:?}", finished.stderr);
    assert!(!finished.stderr.iter().any(|line| line.contains("panicked")), "{:?}", finished.stderr);
}

#[test]
fn events_choose_the_records() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let only = |events| Tracer::start(&[port], &["--events", events]);
    let (connections, sources, loss) = (only("connections"), only("sources"), only("loss"));
    let both = only("sources,connections");
    let made = reset_probes(loopback(1, 1), &listener, 30);
    listener.wait_ended(made.len());
    let [connections, sources, loss, both] = [connections, sources, loss, both].map(Tracer::stop);
    assert_eq!((connections.connections().len(), connections.records().len()), (30, 30));
    assert_eq!((sources.sums_by_source()[&Some(loopback(1, 1))], sources.connections().len()), (30, 0));
    assert!(loss.losses().is_empty(), "{:?}", loss.losses());
    assert_eq!(loss.records().len(), loss.not_observed().len(), "one window, and nothing but losses");
    assert_eq!((both.connections().len(), both.sources().len()), (30, 1));
}

/// One row for each source with its counts; who probes most stands first, who behaves well last, however much it does.
#[test]
fn the_table_has_the_worst_source_first() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let probers = [(loopback(1, 1), 7), (loopback(1, 2), 70), (loopback(1, 3), 700)];
    let well_behaved = loopback(1, 4);
    let tracer = Tracer::start(&[port], &["--format", "table"]);
    let mut made = sessions(well_behaved, &listener, 800);
    for (source, n) in probers {
        made.extend(reset_probes(source, &listener, n));
    }
    listener.wait_ended(made.len());
    let table = tracer.stop().stdout;

    let head = table
        .iter()
        .position(|line| line.trim_start().starts_with("SOURCE "))
        .unwrap_or_else(|| panic!("{table:?}"));
    let cells = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(cells(&table[head])[..4], ["SOURCE", "CONNECTIONS", "PROBE_RESET", "SESSION"]);
    // A row begins with an address; what follows the rows does not.
    let is_row =
        |line: &&String| line.split_whitespace().next().is_some_and(|cell| cell.parse::<IpAddr>().is_ok());
    let rows: Vec<Vec<String>> =
        table[head + 1..].iter().take_while(is_row).map(|line| cells(line)[..4].to_vec()).collect();
    let none = "·".to_owned();
    let row = |source: IpAddr, n: usize| vec![source.to_string(), n.to_string(), n.to_string(), none.clone()];
    let mut expected: Vec<_> = probers.iter().rev().map(|(source, n)| row(*source, *n)).collect();
    expected.push(vec![well_behaved.to_string(), "800".to_owned(), none.clone(), "800".to_owned()]);
    assert_eq!(rows, expected, "{}", table.join("\n"));
    assert!(table[0].contains("1577 connections from 4 sources"), "{}", table[0]);
    let us = format!("listening: {} by ", listener.address());
    assert!(
        table[1].starts_with(&us) && table[1].contains(&format!("(pid {})", std::process::id())),
        "{}",
        table[1]
    );
}

#[test]
fn the_kernel_sides_own_lines_come_only_when_asked_for() {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let (quiet, talkative) = (Tracer::start(&[port], &[]), Tracer::start(&[port], &["--kernel-log"]));
    let made = reset_probes(loopback(1, 1), &listener, 3);
    listener.wait_ended(made.len());
    for peer in &made {
        talkative.wait_for_stderr(&format!("kernel: closed from state 1, source port {}", peer.port()));
    }
    let talkative = talkative.stop();
    let of_kernel = |line: &&String| line.starts_with("amqptrace: kernel:");
    assert_eq!(talkative.stderr.iter().filter(of_kernel).count(), 2 * made.len(), "{:?}", talkative.stderr);
    assert_same(talkative.peers(), made.iter().copied());
    let quiet = quiet.stop();
    assert_eq!(quiet.stderr.iter().filter(of_kernel).count(), 0, "{:?}", quiet.stderr);
    assert_same(quiet.peers(), made);
}
