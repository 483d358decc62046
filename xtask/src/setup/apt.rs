//! Debian packages.
//!
//! In: package names. Out: the version this machine's sources offer, or the packages installed. Refused: machines without
//! apt-get, or where neither root nor `sudo -n` is to be had; and installs that would remove something.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::say;
use crate::command;

/// The machine's apt, looked at only once something is missing.
#[derive(Default)]
pub(super) struct Apt {
    rights: Option<Rights>,
    updated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Rights {
    None,
    Root,
    Sudo,
}

impl Apt {
    /// Whether packages can be installed here.
    pub(super) fn usable(&mut self) -> bool {
        self.rights() != Rights::None
    }

    fn rights(&mut self) -> Rights {
        *self.rights.get_or_insert_with(|| {
            if command::find("apt-get").is_none() {
                Rights::None
            } else if fs::read_to_string("/proc/self/status").is_ok_and(|status| runs_as_root(&status)) {
                Rights::Root
            } else if command::output(Command::new("sudo").args(["-n", "true"])).is_ok() {
                Rights::Sudo
            } else {
                Rights::None
            }
        })
    }

    /// The version that would be installed of `package`, if the machine's sources have one.
    pub(super) fn offered(&mut self, package: &str) -> Option<String> {
        if !self.usable() {
            return None;
        }
        self.update();
        let mut policy = Command::new("apt-cache");
        policy.env("LC_ALL", "C").args(["policy", package]);
        candidate(&command::output(&mut policy).ok()?)
    }

    /// Installs those of `packages` that are not installed.
    pub(super) fn install(&mut self, packages: &[&str]) -> Result<()> {
        let missing = missing(packages);
        if missing.is_empty() {
            return Ok(());
        }
        if !self.usable() {
            bail!("missing: {}; apt-get with root or `sudo -n` is not to be had here", missing.join(", "));
        }
        self.update();
        say("apt", &format!("installing {} …", missing.join(" ")));
        // --no-remove: whoever's machine this is has what is on it for a reason.
        let mut install = self.apt_get(&["install", "-y", "-q", "--no-install-recommends", "--no-remove"]);
        command::run_aside(install.args(&missing))
            .with_context(|| format!("cannot install {}", missing.join(", ")))
    }

    /// Fetches the package lists, once.
    fn update(&mut self) {
        if !self.updated {
            self.updated = true;
            say("apt", "fetching the package lists …");
            if let Err(error) = command::run_aside(&mut self.apt_get(&["update", "-q"])) {
                say("apt", &format!("{error:#}; going on with the lists that are here"));
            }
        }
    }

    fn apt_get(&mut self, args: &[&str]) -> Command {
        let mut words = match self.rights() {
            Rights::Sudo => vec!["sudo", "-n", "env"],
            Rights::Root | Rights::None => vec!["env"],
        };
        words.extend(["DEBIAN_FRONTEND=noninteractive", "LC_ALL=C", "apt-get"]);
        // Another apt may be at work on a machine that has just started.
        words.extend(["-o", "DPkg::Lock::Timeout=120", "-o", "Dpkg::Use-Pty=0"]);
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(args);
        command
    }
}

/// Reads the effective user id from `/proc/self/status`.
fn runs_as_root(status: &str) -> bool {
    let uids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
    uids.and_then(|uids| uids.split_whitespace().nth(1)) == Some("0")
}

/// Reads what `apt-cache policy PACKAGE` says would be installed.
fn candidate(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

/// Those of `packages` that dpkg does not have installed.
fn missing<'a>(packages: &[&'a str]) -> Vec<&'a str> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat", "${Package} ${db:Status-Status}\n"]).args(packages);
    // dpkg-query fails when it does not know one of the names, and still lists the others.
    let listing =
        query.output().map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let installed: BTreeSet<&str> =
        listing.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    packages.iter().copied().filter(|package| !installed.contains(package)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read_from_apts_own_words() {
        let policy = "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1\n  Version table:\n     1.85.0 500\n";
        assert_eq!(candidate(policy).as_deref(), Some("1.96.0+dfsg1-1"));
        assert_eq!(candidate("x:\n  Installed: (none)\n  Candidate: (none)\n"), None);
        assert_eq!(candidate(""), None);
    }

    #[test]
    fn root_is_the_effective_user() {
        assert!(runs_as_root("Name:\txtask\nUid:\t1000\t0\t0\t0\n"));
        assert!(!runs_as_root("Name:\txtask\nUid:\t0\t1000\t0\t0\n"));
        assert!(!runs_as_root(""));
    }
}
