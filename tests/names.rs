//! Names of sources, as the host's own resolver has them.

use std::{net::Ipv4Addr, process::Command};

use crate::harness::{Listener, Manners, Tracer, ports, traffic::reset_probes};

/// Traces one probe from 127.0.0.1 and gives the name under which its source is written.
fn name_of_loopback(arguments: &[&str]) -> Option<String> {
    let port = ports::free();
    let listener = Listener::on((Ipv4Addr::LOCALHOST, port), Manners::default());
    let tracer = Tracer::start(&[port], arguments);
    reset_probes(Ipv4Addr::LOCALHOST.into(), &listener, 1);
    listener.wait_ended(1);
    let sources = tracer.stop().sources();
    let [source] = &sources[..] else { panic!("{sources:?}") };
    source.source.name.clone()
}

#[test]
fn sources_have_names_only_when_asked_for() {
    let known = Command::new("getent").args(["hosts", "127.0.0.1"]).output().unwrap();
    let known = String::from_utf8(known.stdout).unwrap();
    let name = known.split_whitespace().nth(1).expect("this host has a name for 127.0.0.1");
    assert_eq!(name_of_loopback(&["--resolve"]).as_deref(), Some(name));
    assert_eq!(name_of_loopback(&[]), None);
}
