//! The Rust that compiles the BPF side: one with the sources of `core`, which no BPF target comes without.
//!
//! In: what rustup and /usr have. Out: a toolchain named `bpf` (Debian's, linked) or `nightly` (rustup's, with rust-src),
//! which is what the build script of `tracer` looks for, in that order. Refused: machines where neither can be had.
//!
//! When both would have to be fetched, Debian's goes first where apt may be used: its compiler, sources and LLVM are one
//! set that belongs together, while the nightly of the day may have an LLVM newer than any that a bpf-linker can be built
//! with. Elsewhere, on most people's own machines, rustup needs no rights and is the way.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::say;
use super::version::Version;
use crate::command;

/// The workspace's `rust-version`: an older compiler would refuse the BPF side.
const OLDEST: Version = Version(1, 88);
/// Debian's newest Rust goes by this name, beside the `rustc` that came with the release.
const DEBIAN_SET: [&str; 3] = ["rustc-web", "cargo-web", "rust-web-src"];
const NIGHTLY: &str = "nightly";
const LINKED: &str = "bpf";

/// A compiler that is there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Toolchain {
    /// What rustup calls it.
    pub(super) name: &'static str,
    release: Version,
    has_source: bool,
    /// The major number of its LLVM, which bpf-linker's must reach.
    pub(super) llvm: u32,
}

impl Toolchain {
    fn complete(&self) -> bool {
        self.has_source && self.release >= OLDEST
    }
}

/// What is there.
#[derive(Default)]
struct Look {
    nightly: Option<Toolchain>,
    linked: Option<Toolchain>,
    system: Option<Toolchain>,
}

/// What is to be done.
#[derive(PartialEq, Eq, Debug)]
enum Way {
    /// Use the toolchain of this name.
    Ready(&'static str),
    /// Link /usr, which has all it takes.
    Link,
    /// Install Debian's set, then link.
    Debian,
    /// Add rust-src to the nightly that is there.
    AddSource,
    /// Install rustup's nightly, or bring an old one up to date.
    Install,
}

/// Makes sure there is a toolchain for the BPF side and says which.
pub(super) fn ensure(apt: &mut Apt) -> Result<Toolchain> {
    if command::find("rustup").is_none() {
        bail!("rustup is not on PATH; the BPF side is built with a toolchain that rustup knows");
    }
    let look = Look::around();
    let way = way(&look, || debian_offers(apt));
    match way {
        Way::Ready(_) => {}
        Way::Link => link()?,
        Way::Debian => {
            say("Rust for BPF", "using Debian's, which comes with its sources …");
            apt.install(&DEBIAN_SET).context("Rust for BPF")?;
            link()?;
        }
        // rustup ends by itself when the network is silent, and undoes what it could not finish.
        Way::AddSource => {
            say("Rust for BPF", "adding rust-src to rustup's nightly …");
            rustup(&["component", "add", "rust-src", "--toolchain", NIGHTLY]).with_context(no_way)?;
        }
        Way::Install => {
            say("Rust for BPF", "installing rustup's nightly with rust-src …");
            rustup(&[
                "toolchain",
                "install",
                NIGHTLY,
                "--profile",
                "minimal",
                "--component",
                "rust-src",
                "--no-self-update",
            ])
            .with_context(no_way)?;
        }
    }
    let look = Look::around();
    let Some(toolchain) = look.ready() else {
        bail!("{}", no_way());
    };
    let state = if matches!(way, Way::Ready(_)) { "already there" } else { "installed" };
    let Toolchain { name, release, llvm, .. } = toolchain;
    say("Rust for BPF", &format!("toolchain {name}, Rust {release} with LLVM {llvm}: {state}"));
    Ok(toolchain.clone())
}

fn way(look: &Look, debian_offers: impl FnOnce() -> bool) -> Way {
    if let Some(toolchain) = look.ready() {
        return Way::Ready(toolchain.name);
    }
    match &look.nightly {
        _ if look.system.as_ref().is_some_and(Toolchain::complete) => Way::Link,
        _ if debian_offers() => Way::Debian,
        // Only the sources of the nightly that is there: whoever keeps an older one may have a reason.
        Some(nightly) if nightly.release >= OLDEST && !nightly.has_source => Way::AddSource,
        _ => Way::Install,
    }
}

/// Whether apt would install a compiler and its own sources, new enough.
fn debian_offers(apt: &mut Apt) -> bool {
    let offers = DEBIAN_SET.map(|package| apt.offered(package));
    one_set(&offers.each_ref().map(Option::as_deref))
}

fn one_set(offers: &[Option<&str>; 3]) -> bool {
    let [Some(compiler), others @ ..] = offers else {
        return false;
    };
    Version::read(compiler).is_some_and(|version| version >= OLDEST)
        && others.iter().all(|other| *other == Some(*compiler))
}

fn link() -> Result<()> {
    say("Rust for BPF", "linking /usr as rustup's toolchain bpf …");
    rustup(&["toolchain", "link", LINKED, "/usr"])
}

fn rustup(args: &[&str]) -> Result<()> {
    command::run_aside(
        Command::new("rustup").args(args).env("RUST_BACKTRACE", "0").env("RUSTUP_DOWNLOAD_TIMEOUT", "60"),
    )
}

fn no_way() -> String {
    format!(
        "the BPF side needs a Rust of at least {OLDEST} with the sources of core; either \
         `rustup toolchain install nightly --component rust-src`, or, as root on Debian, \
         `apt-get install {}` and `rustup toolchain link bpf /usr`",
        DEBIAN_SET.join(" ")
    )
}

impl Look {
    fn around() -> Self {
        let toolchains = rustup_home().join("toolchains");
        let nightly = format!("{NIGHTLY}-{}-unknown-linux-gnu", env::consts::ARCH);
        Self {
            nightly: Toolchain::at(&toolchains.join(nightly), NIGHTLY),
            linked: Toolchain::at(&toolchains.join(LINKED), LINKED),
            system: Toolchain::at(Path::new("/usr"), "/usr"),
        }
    }

    /// The toolchain the build script will take, if it will do.
    fn ready(&self) -> Option<&Toolchain> {
        let with_source = |toolchain: &&Toolchain| toolchain.has_source;
        let linked = self.linked.as_ref().filter(with_source);
        linked.or(self.nightly.as_ref().filter(with_source)).filter(|toolchain| toolchain.complete())
    }
}

impl Toolchain {
    /// Reads the toolchain in a folder. By files and its own compiler, not by asking rustup, which would be slower.
    fn at(folder: &Path, name: &'static str) -> Option<Self> {
        if !folder.join("bin/cargo").exists() {
            return None;
        }
        let words = command::output(Command::new(folder.join("bin/rustc")).arg("-vV")).ok()?;
        let has_source =
            fs::exists(folder.join("lib/rustlib/src/rust/library/core/src/lib.rs")).unwrap_or(false);
        Self::read(name, &words, has_source)
    }

    /// Reads what `rustc -vV` printed.
    fn read(name: &'static str, words: &str, has_source: bool) -> Option<Self> {
        let field =
            |name: &str| words.lines().find_map(|line| line.strip_prefix(name)).and_then(Version::read);
        Some(Self { name, release: field("release: ")?, has_source, llvm: field("LLVM version: ")?.0 })
    }
}

fn rustup_home() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".rustup");
    env::var_os("RUSTUP_HOME").map_or_else(home, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toolchain(name: &'static str, minor: u32, has_source: bool) -> Toolchain {
        Toolchain { name, release: Version(1, minor), has_source, llvm: 22 }
    }

    /// For each of nightly, linked and system: the minor version and whether it has the sources.
    fn look(toolchains: [Option<(u32, bool)>; 3]) -> Look {
        let [nightly, linked, system] = toolchains;
        let named = |name| move |(minor, has_source)| toolchain(name, minor, has_source);
        Look {
            nightly: nightly.map(named(NIGHTLY)),
            linked: linked.map(named(LINKED)),
            system: system.map(named("/usr")),
        }
    }

    const DEBIAN: Option<(u32, bool)> = Some((96, true));
    const BARE_NIGHTLY: Option<(u32, bool)> = Some((97, false));

    #[test]
    fn what_is_complete_is_used_and_what_was_linked_for_this_first() {
        assert_eq!(way(&look([Some((97, true)), DEBIAN, DEBIAN]), || true), Way::Ready("bpf"));
        assert_eq!(way(&look([Some((97, true)), None, DEBIAN]), || true), Way::Ready("nightly"));
        assert_eq!(way(&look([BARE_NIGHTLY, DEBIAN, DEBIAN]), || true), Way::Ready("bpf"));
        assert_eq!(way(&look([None, DEBIAN, None]), || false), Way::Ready("bpf"));
    }

    #[test]
    fn a_complete_system_rust_is_only_linked() {
        assert_eq!(way(&look([BARE_NIGHTLY, None, DEBIAN]), || true), Way::Link);
        assert_eq!(way(&look([None, Some((96, false)), DEBIAN]), || true), Way::Link);
    }

    #[test]
    fn debian_goes_first_where_it_offers_one() {
        assert_eq!(way(&look([BARE_NIGHTLY, None, Some((63, true))]), || true), Way::Debian);
        assert_eq!(way(&look([None, None, None]), || true), Way::Debian);
        assert_eq!(way(&look([None, None, Some((96, false))]), || true), Way::Debian);
    }

    #[test]
    fn rustup_is_the_way_elsewhere() {
        assert_eq!(way(&look([BARE_NIGHTLY, None, None]), || false), Way::AddSource);
        assert_eq!(way(&look([Some((80, false)), None, None]), || false), Way::Install);
        assert_eq!(way(&look([None, None, Some((85, true))]), || false), Way::Install);
    }

    #[test]
    fn an_old_nightly_is_brought_up_to_date_where_there_is_no_other_way() {
        assert_eq!(way(&look([Some((80, true)), None, None]), || false), Way::Install);
        assert_eq!(way(&look([Some((80, true)), None, None]), || true), Way::Debian);
        assert_eq!(way(&look([Some((80, true)), DEBIAN, DEBIAN]), || true), Way::Ready("bpf"));
    }

    #[test]
    fn debians_packages_must_be_one_set_and_new_enough() {
        let new = Some("1.96.0+dfsg1-1~deb12u2");
        let old = Some("1.85.0+dfsg3-1~deb12u3");
        assert!(one_set(&[new, new, new]));
        assert!(!one_set(&[new, new, old]));
        assert!(!one_set(&[old, old, old]));
        assert!(!one_set(&[new, new, None]));
        assert!(!one_set(&[None, None, None]));
    }

    #[test]
    fn a_compilers_own_words_are_read() {
        let words = "rustc 1.96.0 (built from a source tarball)\nbinary: rustc\nrelease: 1.96.0\nLLVM version: 22.1.8\n";
        assert_eq!(Toolchain::read("bpf", words, true), Some(toolchain("bpf", 96, true)));
        assert_eq!(Toolchain::read("bpf", "release: 1.96.0\n", true), None);
    }
}
