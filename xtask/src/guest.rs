//! `cargo xtask guest`: the end-to-end tests on other kernels.
//!
//! In: which kernels. Out: a table of kernels with how many tests passed on each; for each that failed, the end of its
//! console. Refused: machines that are not x86-64, kernels that the machine's Debian mirror does not have, and kernels
//! without what the tracer needs.
//!
//! The way of one run: each kernel from Debian's archive (`mirror`, `kernel`) with the modules the tracer needs
//! (`modules`), one static build of the tests (`payload`), then one guest after the other under QEMU (`boot`) with an
//! initramfs around both (`initramfs`), each judged by what its console said (`console`).

mod boot;
mod console;
mod initramfs;
mod kernel;
mod mirror;
mod modules;
mod payload;

use std::env;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::builder::PossibleValuesParser;

use crate::command;
use crate::setup::{self, Goal};
use crate::table;
use console::Console;
use kernel::{SERIES, Series};

/// How much of a failed guest's console is shown.
const TAIL: usize = 60;

/// Options of `cargo xtask guest`.
#[derive(clap::Args, Default)]
pub(crate) struct Args {
    /// A kernel to run on; may be given several times [default: all].
    #[arg(long, value_parser = PossibleValuesParser::new(SERIES.map(|series| series.version)))]
    kernel: Vec<String>,
}

/// Runs the end-to-end tests on each of the kernels.
pub(crate) fn run(args: &Args) -> Result<()> {
    if env::consts::ARCH != "x86_64" {
        bail!("guests run x86_64 kernels and this machine is {}", env::consts::ARCH);
    }
    setup::run(Goal::Guest)?;
    let folder = command::target_dir().join("guest");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let mut kernels = Vec::new();
    for series in SERIES.iter().filter(|series| chosen(series, args)) {
        let kernel = kernel::of(series, &folder.join(series.version))?;
        eprintln!("guest {}: {}", series.version, modules::said(&kernel.modules));
        kernels.push((series, kernel));
    }
    let payload = payload::build(&folder.join("build"))?;
    let initramfs = folder.join("initramfs.cpio");

    let mut rows = vec![["kernel", "uname -r", "tests passed", "took"].map(String::from)];
    let mut failed = Vec::new();
    for (series, kernel) in &kernels {
        let start = Instant::now();
        let written = initramfs::write(&initramfs, &payload, &kernel.modules);
        let console = written.and_then(|()| boot::run(series.version, &kernel.image, &initramfs));
        let (console, verdict) = match console {
            Ok(console) => {
                let verdict = console.verdict();
                (console, verdict)
            }
            Err(error) => (Console::default(), Err(format!("{error:#}"))),
        };
        let tests = verdict.as_ref().map_or_else(|why| format!("FAILED: {why}"), u64::to_string);
        let took = format!("{:.0} s", start.elapsed().as_secs_f64());
        eprintln!("guest {}: {tests} ({took})", series.version);
        if verdict.is_err() {
            eprintln!("guest {}: the end of its console:\n{}", series.version, console.tail(TAIL));
            failed.push(series.version);
        }
        rows.push([series.version.to_owned(), console.release().to_owned(), tests, took]);
    }
    println!("\n{}", table::aligned(&rows));
    if !failed.is_empty() {
        bail!("tests failed on kernel {}", failed.join(", "));
    }
    Ok(())
}

fn chosen(series: &Series, args: &Args) -> bool {
    args.kernel.is_empty() || args.kernel.iter().any(|version| version == series.version)
}
