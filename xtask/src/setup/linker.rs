//! bpf-linker, which turns the BPF side's LLVM bitcode into an object the kernel loads.
//!
//! In: the compiler whose bitcode it has to read. Out: a bpf-linker on PATH, new enough, with an LLVM no older than the
//! compiler's. Refused: machines where it can neither be built nor fetched.
//!
//! Built against a shared LLVM where one is to be had: here already, or from apt. Else the project's own release, which
//! has its LLVM inside, fetched by cargo-binstall; bpf-linker's authors advise that over building on any other machine.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::apt::Apt;
use super::rust::Toolchain;
use super::say;
use super::version::Version;
use crate::command;

/// The first that reads LLVM 22 and writes the BTF the tracer needs.
const OLDEST: Version = Version(0, 13);
/// The LLVMs that bpf-linker 0.13 can be built with, one feature each.
const BUILDABLE: [u32; 3] = [21, 22, 23];

/// A bpf-linker that starts.
#[derive(PartialEq, Eq, Debug)]
struct Linker {
    version: Version,
    /// The major number of the shared LLVM it uses; a release has its LLVM inside and does not say.
    llvm: Option<u32>,
}

#[derive(PartialEq, Eq, Debug)]
enum Way {
    /// Build it with this LLVM, which is here.
    Build(u32),
    /// Install this LLVM with apt, then build.
    InstallAndBuild(u32),
    /// Fetch a release.
    Release,
}

/// Makes sure there is a bpf-linker that reads what `toolchain` writes.
pub(super) fn ensure(toolchain: &Toolchain, apt: &mut Apt) -> Result<()> {
    let wrong = match Linker::on_path().map(|linker| linker.judge(toolchain.llvm)) {
        Some(Ok(version)) => {
            say("bpf-linker", &format!("{version}: already there"));
            return Ok(());
        }
        Some(Err(wrong)) => wrong,
        None => "none on PATH that starts".to_owned(),
    };
    let here =
        BUILDABLE.iter().copied().filter(|llvm| Path::new(&config(*llvm)).exists()).collect::<Vec<_>>();
    match way(toolchain.llvm, &here, |llvm| apt.offered(&format!("llvm-{llvm}-dev")).is_some()) {
        Way::Build(llvm) => {
            say("bpf-linker", &format!("{wrong}; building it with the LLVM {llvm} that is here …"));
            build(llvm)?;
        }
        Way::InstallAndBuild(llvm) => {
            say("bpf-linker", &format!("{wrong}; building it with Debian's LLVM {llvm} …"));
            apt.install(&needed_to_build(llvm).each_ref().map(String::as_str)).context("bpf-linker")?;
            build(llvm)?;
        }
        Way::Release => {
            say("bpf-linker", &format!("{wrong}; fetching a release with cargo-binstall …"));
            fetch(toolchain).with_context(|| no_way(toolchain.llvm))?;
        }
    }
    match Linker::on_path().map(|linker| linker.judge(toolchain.llvm)) {
        Some(Ok(version)) => say("bpf-linker", &format!("{version}: installed")),
        Some(Err(wrong)) => {
            bail!("bpf-linker: {wrong}, after installing one; {}", no_way(toolchain.llvm))
        }
        None => bail!("bpf-linker was installed to {} but is not on PATH", cargo_bin().display()),
    }
    Ok(())
}

fn way(compiler: u32, here: &[u32], offered: impl FnMut(u32) -> bool) -> Way {
    let mut offered = offered;
    // LLVM reads the bitcode of every older LLVM and of no newer one; the nearest is the least surprising.
    let fitting = BUILDABLE.into_iter().filter(|llvm| *llvm >= compiler).collect::<Vec<_>>();
    if let Some(llvm) = fitting.iter().find(|llvm| offered(**llvm)) {
        // Also when it is here: what else a build needs then comes with it, and nothing is done twice.
        return Way::InstallAndBuild(*llvm);
    }
    fitting.iter().find(|llvm| here.contains(llvm)).map_or(Way::Release, |llvm| Way::Build(*llvm))
}

/// Debian's packages for building bpf-linker; the first two are the LLVM, the rest what it is linked with.
fn needed_to_build(llvm: u32) -> [String; 6] {
    let fixed = ["g++", "libxml2-dev", "libzstd-dev", "zlib1g-dev"].map(String::from);
    let [compiler, xml, zstd, zlib] = fixed;
    [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev"), compiler, xml, zstd, zlib]
}

fn build(llvm: u32) -> Result<()> {
    let feature = format!("llvm-{llvm}");
    // --force: setup comes here only when the one that is installed does not start or does not fit.
    let mut install = command::cargo(["install", "bpf-linker", "--version", "^0.13", "--locked", "--force"]);
    install.args(["--no-default-features", "--features", &feature]);
    // Without the prefix the build finds whatever llvm-config comes first, and looks for libLLVM beside it.
    install.env("LLVM_PREFIX", prefix(llvm));
    command::run_aside(&mut install).context("bpf-linker")
}

fn fetch(toolchain: &Toolchain) -> Result<()> {
    if command::find("cargo-binstall").is_none() {
        say("bpf-linker", "building cargo-binstall first …");
        // With the compiler just found, since the one that runs this may be too old for it.
        let install = ["run", toolchain.name, "cargo", "install", "cargo-binstall", "--locked"];
        command::run_aside(Command::new("rustup").args(install))?;
    }
    // Not by compiling: that is what there was no LLVM for.
    let args = ["binstall", "--no-confirm", "--force", "--disable-strategies", "compile", "bpf-linker"];
    command::run_aside(&mut command::cargo(args))
}

fn no_way(llvm: u32) -> String {
    format!(
        "this Rust needs a bpf-linker of at least {OLDEST} with LLVM {llvm} or newer on PATH; either one of its \
         releases (`cargo binstall bpf-linker`), or, with llvm-{llvm}-dev installed, `LLVM_PREFIX={} cargo install \
         bpf-linker --locked --no-default-features --features llvm-{llvm}`",
        prefix(llvm)
    )
}

fn prefix(llvm: u32) -> String {
    format!("/usr/lib/llvm-{llvm}")
}

fn config(llvm: u32) -> String {
    format!("{}/bin/llvm-config", prefix(llvm))
}

fn cargo_bin() -> PathBuf {
    let home = || PathBuf::from(env::var_os("HOME").unwrap_or_default()).join(".cargo");
    env::var_os("CARGO_HOME").map_or_else(home, PathBuf::from).join("bin")
}

impl Linker {
    /// The bpf-linker on PATH, if it starts: it does not once the LLVM it was built with is gone.
    fn on_path() -> Option<Self> {
        let program = command::find("bpf-linker")?;
        let words = command::output(Command::new(&program).arg("--version")).ok()?;
        let version = words.split_whitespace().find_map(Version::read)?;
        Some(Self { version, llvm: fs::read(&program).ok().and_then(|bytes| shared_llvm(&bytes)) })
    }

    /// Its version if it will do, else what is wrong with it.
    fn judge(&self, compiler: u32) -> Result<Version, String> {
        if self.version < OLDEST {
            return Err(format!("the one on PATH is {}, at least {OLDEST} is needed", self.version));
        }
        match self.llvm {
            Some(llvm) if llvm < compiler => {
                Err(format!("the one on PATH has LLVM {llvm}, Rust for BPF writes LLVM {compiler}"))
            }
            _ => Ok(self.version),
        }
    }
}

/// The major number in the name of the shared LLVM that a program asks for.
fn shared_llvm(program: &[u8]) -> Option<u32> {
    const NAME: &[u8] = b"libLLVM";
    let mut names = program.windows(NAME.len()).enumerate().filter(|(_, window)| *window == NAME);
    // `libLLVM.so.22.1` since LLVM 18, `libLLVM-17.so.1` before.
    names.find_map(|(at, _)| {
        let rest = &program[at + NAME.len()..];
        let rest = rest.strip_prefix(b".so.").or_else(|| rest.strip_prefix(b"-"))?;
        let end = rest.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(&rest[..end]).ok()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_or_misfit_linker_is_refused_with_the_reason() {
        let linker = |minor, llvm| Linker { version: Version(0, minor), llvm };
        assert_eq!(linker(13, Some(22)).judge(22), Ok(Version(0, 13)));
        assert_eq!(linker(13, Some(23)).judge(22), Ok(Version(0, 13)));
        assert_eq!(linker(14, None).judge(23), Ok(Version(0, 14)));
        assert!(
            linker(9, None).judge(22).is_err_and(|wrong| wrong.contains("0.9") && wrong.contains("0.13"))
        );
        assert!(
            linker(13, Some(22)).judge(23).is_err_and(|wrong| wrong.contains("22") && wrong.contains("23"))
        );
    }

    #[test]
    fn the_nearest_llvm_that_reads_the_bitcode_is_chosen() {
        assert_eq!(way(22, &[], |llvm| llvm == 22), Way::InstallAndBuild(22));
        assert_eq!(way(20, &[], |_| true), Way::InstallAndBuild(21));
        assert_eq!(way(22, &[21, 22, 23], |_| false), Way::Build(22));
        assert_eq!(way(22, &[21, 23], |_| false), Way::Build(23));
    }

    #[test]
    fn without_an_llvm_that_fits_a_release_is_fetched() {
        assert_eq!(way(23, &[21, 22], |llvm| llvm == 22), Way::Release);
        assert_eq!(way(24, &[23], |_| true), Way::Release);
    }

    #[test]
    fn the_shared_llvm_is_read_from_the_programs_bytes() {
        assert_eq!(shared_llvm(b"\0libc.so.6\0libLLVM.so.22.1\0"), Some(22));
        assert_eq!(shared_llvm(b"libLLVM-17.so.1\0"), Some(17));
        assert_eq!(shared_llvm(b"libLLVM is inside\0libLLVM.so.23.1\0"), Some(23));
        assert_eq!(shared_llvm(b"nothing"), None);
    }
}
