//! What a guest runs: the end-to-end tests and the program they test, in need of nothing else.
//!
//! In: a folder to build in. Out: two static programs. Refused: nothing here; a build that fails says why itself.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::command;

/// The two programs.
pub(super) struct Payload {
    pub(super) amqptrace: PathBuf,
    pub(super) tests: PathBuf,
}

/// Builds both, in a folder of their own so that ordinary builds stay as they are.
pub(super) fn build(folder: &Path) -> Result<Payload> {
    eprintln!("guest: building the tests without libraries …");
    let mut cargo = command::cargo([
        "test",
        "--package",
        "amqptrace",
        "--test",
        "e2e",
        "--no-run",
        "--release",
        "--locked",
    ]);
    // Naming the target keeps the flags from build scripts and procedural macros, which cannot be static.
    cargo.args(["--target", "x86_64-unknown-linux-gnu", "--message-format", "json-render-diagnostics"]);
    cargo.arg("--target-dir").arg(folder).env("RUSTFLAGS", "-C target-feature=+crt-static");
    let output =
        cargo.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !output.status.success() {
        anyhow::bail!("the static build of the tests failed ({})", output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    Ok(Payload {
        amqptrace: executable(&messages, "amqptrace", "bin")?,
        tests: executable(&messages, "e2e", "test")?,
    })
}

/// The path of the executable of that name and kind among cargo's messages.
fn executable(messages: &str, name: &str, kind: &str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut executables = messages.filter_map(|message| {
        let target = message.get("target")?;
        let is_kind = target.get("kind")?.as_array()?.iter().any(|found| found == kind);
        let is_it = is_kind && target.get("name")? == name;
        is_it.then(|| message.get("executable")?.as_str().map(PathBuf::from)).flatten()
    });
    executables.next().with_context(|| format!("cargo built no {kind} named {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"
        {"reason":"compiler-artifact","target":{"kind":["lib"],"name":"amqptrace"},"executable":null}
        {"reason":"compiler-artifact","target":{"kind":["bin"],"name":"amqptrace"},"executable":"/t/release/amqptrace"}
        not json
        {"reason":"compiler-artifact","target":{"kind":["test"],"name":"e2e"},"executable":"/t/release/deps/e2e-1f"}
        {"reason":"build-finished","success":true}"#;

    #[test]
    fn executables_are_found_among_cargos_messages() -> Result<()> {
        assert_eq!(executable(MESSAGES, "amqptrace", "bin")?, Path::new("/t/release/amqptrace"));
        assert_eq!(executable(MESSAGES, "e2e", "test")?, Path::new("/t/release/deps/e2e-1f"));
        assert!(executable(MESSAGES, "amqptrace", "test").is_err());
        Ok(())
    }
}
