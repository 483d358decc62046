//! Builds the probes for the BPF target and leaves the object in `OUT_DIR`, for the binary to carry inside.

use std::{env, ffi::OsStr, path::Path, process::Command};

use anyhow::{Context as _, Result, anyhow, bail};
use aya_build::{Package, Toolchain};

/// The rustup name under which `cargo xtask setup` links a Rust that comes with its sources.
const LINKED: &str = "bpf";

fn main() -> Result<()> {
    let manifest = env::var("CARGO_MANIFEST_DIR").context("cargo sets CARGO_MANIFEST_DIR")?;
    let probes = Path::new(&manifest)
        .parent()
        .context("the package stands in the workspace's folder")?
        .join("tracer-ebpf");
    let probes = probes.to_str().context("the path to the workspace is not UTF-8")?;

    let toolchain = toolchain()?;
    // SAFETY: a build script is one thread at this point, so nobody reads the environment meanwhile.
    unsafe {
        // The BPF target has no precompiled core: building it is an unstable cargo feature, also on a stable rustc.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // aya-build shows each line of the inner cargo as a warning; without this a clean build looks like a bad one.
        env::set_var("CARGO_TERM_QUIET", "true");
    }
    aya_build::build_ebpf(
        [Package { name: "tracer-ebpf", root_dir: probes, ..Package::default() }],
        toolchain,
    )
    .map_err(|e| {
        anyhow!("{e:#}\nthe BPF object could not be built; `cargo xtask setup` installs what it needs")
    })
}

/// The Rust whose sources are there: one that the setup linked, because it was linked for this, or rustup's nightly.
fn toolchain() -> Result<Toolchain<'static>> {
    if has_sources(LINKED) {
        Ok(Toolchain::Custom(LINKED))
    } else if has_sources("nightly") {
        Ok(Toolchain::Nightly)
    } else {
        bail!("no Rust with its sources (rust-src) for the BPF target; run `cargo xtask setup`")
    }
}

fn has_sources(toolchain: &str) -> bool {
    let sysroot = Command::new("rustup")
        .args(["run", toolchain, "rustc", "--print", "sysroot"])
        .env_remove("RUSTC")
        .output();
    sysroot.is_ok_and(|out| {
        out.status.success()
            && std::str::from_utf8(&out.stdout).is_ok_and(|root| {
                Path::new(OsStr::new(root.trim())).join("lib/rustlib/src/rust/library/core").is_dir()
            })
    })
}
