//! The probes' own debug lines, on stderr.

use log::{Log, Metadata, Record};

/// Takes aya-log's lines. Only created when they are asked for, so all are wanted.
pub(super) struct KernelLog;

impl Log for KernelLog {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        eprintln!("amqptrace: kernel: {}", record.args());
    }

    fn flush(&self) {}
}
