//! `amqptrace rules`: what findings rest on, from the same tables that judge.

use std::io;

use anyhow::Context as _;

use crate::finding::{RULES, THRESHOLDS};

/// Prints every rule with its advice, then every threshold with its default and what is allowed.
pub fn run() -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    write(&mut out).context("cannot write to standard output")
}

fn write(out: &mut impl io::Write) -> io::Result<()> {
    writeln!(out, "Findings, by what a source does:\n")?;
    for rule in &RULES {
        writeln!(out, "{} {} ({})\n    → {}", rule.code, rule.name, rule.severity, rule.advice)?;
    }
    writeln!(out, "\nThresholds, set with --threshold NAME=VALUE:\n")?;
    for threshold in &THRESHOLDS {
        let default = format!("{}={}", threshold.name, threshold.kind);
        writeln!(out, "{default:<22} {}\n    allowed: {}", threshold.doc, threshold.kind.allowed())?;
    }
    Ok(())
}
