//! Whose listener it is: a real server, in a network namespace and a control group of its own.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
};

use crate::harness::{
    Listener, Manners, Network, Tracer,
    haproxy::HaProxy,
    ports,
    traffic::{Client, connect},
    wait,
};

/// What a container's id looks like.
const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A control group as docker makes one, below a parent of this test's own. Both go on drop.
struct ControlGroup {
    parent: PathBuf,
    path: PathBuf,
}

impl ControlGroup {
    fn new() -> Self {
        let mounts = fs::read_to_string("/proc/mounts").unwrap();
        let cgroup2 = |line: &str| {
            let mut fields = line.split(' ').skip(1);
            let at = fields.next()?;
            (fields.next()? == "cgroup2").then(|| PathBuf::from(at))
        };
        let mount = mounts.lines().find_map(cgroup2).expect("cgroup2 is mounted");
        let parent = mount.join(format!("amqptrace-test-{}", std::process::id()));
        let path = parent.join(format!("docker-{ID}.scope"));
        fs::create_dir_all(&path).unwrap();
        Self { parent, path }
    }

    fn take(&self, pid: u32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for ControlGroup {
    fn drop(&mut self) {
        // The kernel lets it go when its last process is gone.
        wait::until("the control group to be empty", || fs::remove_dir(&self.path).ok());
        let _ = fs::remove_dir(&self.parent);
    }
}

/// Two servers on the same address and port, each in a namespace of its own, one of them in a container.
#[test]
fn each_listener_is_named_with_its_process_and_container() {
    let network = Network::new();
    let behind = network.host();
    let port = ports::free();
    let _behind = behind.enter(|| Listener::on((Ipv4Addr::UNSPECIFIED, port), Manners::default()));
    // Dropped after the HAProxy in it, which must have left it by then.
    let group = ControlGroup::new();
    // It is HAProxy's own listener that is looked at, on 127.0.0.1 port 5672; without a server behind it, it would close
    // at once.
    let broker = SocketAddr::from((Ipv4Addr::LOCALHOST, 5672));
    let hosts = [network.host(), network.host()];
    let servers = hosts.each_ref().map(|host| HaProxy::start(host, SocketAddr::new(behind.ip, port), &[]));
    group.take(servers[0].pid());
    for host in &hosts {
        wait::until("HAProxy to listen", || {
            host.enter(|| std::net::TcpStream::connect(broker).ok()).map(drop)
        });
    }
    let tracer = Tracer::start(&[5672], &["--interval", "1s"]);
    let clients = hosts.each_ref().map(|host| host.enter(|| connect(Ipv4Addr::LOCALHOST.into(), broker)));
    wait::until("the first look", || tracer.has_said(r#""type":"open""#).then_some(()));
    let peers = clients.map(Client::reset);
    tracer.wait_for_connections(peers.len());
    let found = tracer.stop().connections();

    for ((host, peer), (server, container)) in
        hosts.iter().zip(peers).zip(servers.iter().zip([Some(ID), None]))
    {
        // Other hosts' listeners on this port are other tests'.
        let record = found.iter().find(|record| record.netns == host.inode());
        let record = record.unwrap_or_else(|| panic!("{found:?}"));
        assert_eq!(record.source.address(), peer);
        let listener = record.listener.as_ref().unwrap_or_else(|| panic!("{record:?}"));
        assert_eq!((listener.pid, listener.process.as_str()), (server.pid(), "haproxy"), "{record:?}");
        assert_eq!(listener.container.as_deref(), container, "{record:?}");
    }
}
