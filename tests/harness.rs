//! What the tests stand on: the tracer as a child process, generators of traffic, and hosts, brokers and checkers to
//! make it between. Everything started here is ended when its value is dropped, also by a panic.

pub mod amqp;
pub mod daemon;
pub mod haproxy;
pub mod listener;
pub mod netns;
pub mod oracle;
pub mod ports;
pub mod rabbitmq;
pub mod record;
pub mod tracer;
pub mod traffic;
pub mod wait;

pub use listener::{Ending, Listener, Manners};
pub use netns::{Host, Network};
pub use record::{Connection, Loss, Source};
pub use tracer::Tracer;
pub use wait::DEADLINE;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    net::IpAddr,
};

/// How many of each.
pub fn count<T: Ord>(items: impl IntoIterator<Item = T>) -> BTreeMap<T, u64> {
    let mut counts = BTreeMap::new();
    for item in items {
        *counts.entry(item).or_default() += 1;
    }
    counts
}

/// Requires that both have the same items, each as often; says which differ, but of many only some.
#[track_caller]
pub fn assert_same<T: Ord + Debug>(
    found: impl IntoIterator<Item = T>,
    expected: impl IntoIterator<Item = T>,
) {
    let (found, expected) = (count(found), count(expected));
    let of = |counts: &BTreeMap<T, u64>, item| counts.get(item).copied().unwrap_or(0);
    let items: BTreeSet<&T> = found.keys().chain(expected.keys()).collect();
    let differ: Vec<String> = items
        .into_iter()
        .filter(|item| of(&found, item) != of(&expected, item))
        .map(|item| format!("{item:?} {} times instead of {}", of(&found, item), of(&expected, item)))
        .collect();
    let some = &differ[..differ.len().min(5)];
    let sums = [&found, &expected].map(|counts| counts.values().sum::<u64>());
    assert!(differ.is_empty(), "{} found, {} expected; {} differ: {some:?}", sums[0], sums[1], differ.len());
}

/// An address of loopback's 127.0.0.0/8, none of which needs to be set up: `net` and `host` tell sources apart.
pub fn loopback(net: u8, host: u8) -> IpAddr {
    IpAddr::from([127, 0, net, host])
}
