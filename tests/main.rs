//! End to end: the built `amqptrace` against real traffic, one file per capability.
//!
//! `loopback` needs nothing but loopback and the two binaries, so it also runs in a guest with another kernel;
//! `namespaces`, `rabbitmq` and `haproxy` make hosts of their own as network namespaces. Expected numbers come from who
//! made the traffic, from the kernel's own counters or from the broker's log, never from what the tracer printed.
//!
//! The binary under test is the one cargo built, or the one that `AMQPTRACE_BIN` names. Root and BPF are needed; where
//! they are missing the tests fail with the tracer's own line about it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a test fails by panicking, and its numbers are small"
)]

mod attribution;
mod findings;
mod haproxy;
mod harness;
mod loopback;
mod names;
mod namespaces;
mod rabbitmq;
mod usage;
mod verbs;
