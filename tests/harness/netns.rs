//! Hosts with addresses of their own: network namespaces on a common switch. They have no names and are held by file
//! descriptors only, so the kernel removes them, their links and their addresses with the process, however it ends.

use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::MetadataExt as _,
    },
    panic::resume_unwind,
    process::Command,
    sync::atomic::{AtomicU8, Ordering},
    thread,
};

use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};

/// A network namespace.
struct Namespace(File);

impl Namespace {
    fn new() -> Self {
        let make = || {
            // SAFETY: only the network namespace is left, which no memory and no file descriptor depends on, and only
            // by this thread, which ends here.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }
                .unwrap_or_else(|error| panic!("cannot make a network namespace ({error}); root is needed"));
            File::open("/proc/thread-self/ns/net").unwrap()
        };
        let namespace = Self(on_a_thread(make));
        namespace.ip("link set lo up");
        namespace
    }

    /// Runs `act` on a thread of its own in this namespace; threads and processes that it starts are there too.
    fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        on_a_thread(|| {
            move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
            act()
        })
    }

    fn ip(&self, arguments: &str) {
        let output = self.enter(|| Command::new("ip").args(arguments.split(' ')).output());
        let output = output.unwrap_or_else(|error| panic!("cannot run ip, of iproute2: {error}"));
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "ip {arguments}: {}", said.trim());
    }

    /// As `ip` takes it for a name.
    fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }
}

fn on_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(act).join().unwrap_or_else(|panic| resume_unwind(panic)))
}

/// A switch with nobody on it yet.
pub struct Network {
    switch: Namespace,
    hosts: AtomicU8,
}

impl Network {
    /// Makes the switch: a bridge in a namespace of its own.
    pub fn new() -> Self {
        let switch = Namespace::new();
        switch.ip("link add switch type bridge");
        switch.ip("link set switch up");
        Self { switch, hosts: AtomicU8::new(0) }
    }

    /// Adds a host.
    pub fn host(&self) -> Host {
        let number = self.hosts.fetch_add(1, Ordering::Relaxed) + 1;
        let namespace = Namespace::new();
        let ip = IpAddr::V4(Ipv4Addr::new(10, 77, 0, number));
        let ipv6 = IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number.into()));
        let port = format!("port{number}");
        self.switch.ip(&format!("link add {port} type veth peer name eth0 netns {}", namespace.path()));
        self.switch.ip(&format!("link set {port} master switch up"));
        let hardware = format!("02:00:00:00:00:{number:02x}");
        namespace.ip(&format!("link set eth0 address {hardware} up"));
        namespace.ip(&format!("addr add {ip}/24 dev eth0"));
        // Without duplicate address detection, which takes a second, nobody else can have it.
        namespace.ip(&format!("addr add {ipv6}/64 dev eth0 nodad"));
        Host { namespace, ip, ipv6, hardware }
    }
}

/// A host on the switch.
pub struct Host {
    namespace: Namespace,
    /// Its IPv4 address.
    pub ip: IpAddr,
    /// Its IPv6 address.
    pub ipv6: IpAddr,
    hardware: String,
}

impl Host {
    /// Runs `act` on this host.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        self.namespace.enter(act)
    }

    /// Runs `ip` on this host, with its arguments separated by single spaces.
    pub fn run_ip(&self, arguments: &str) {
        self.namespace.ip(arguments);
    }

    /// Makes the other host a neighbour that is known for good, also when it answers no more.
    pub fn pin_neighbour(&self, other: &Self) {
        self.run_ip(&format!("neigh replace {} lladdr {} dev eth0 nud permanent", other.ip, other.hardware));
    }

    /// The inode number of its network namespace.
    pub fn inode(&self) -> u64 {
        self.namespace.0.metadata().unwrap().ino()
    }
}
