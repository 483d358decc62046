//! Debian's kernels.
//!
//! In: a kernel series and a folder. Out: the newest build's image and its modules that the tracer needs, in that folder,
//! fetched once and kept. Refused: a series that the machine's Debian mirror does not have.
//!
//! apt does the fetching and checks the signatures, with lists and settings of its own, so that the machine's apt is left
//! as it is.

use std::cmp::Ordering;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::mirror::{self, Mirror};
use super::modules;
use crate::command;

/// A kernel series, and the Debian suite it is found in.
pub(super) struct Series {
    pub(super) version: &'static str,
    suite: &'static str,
    /// Whether the suite moves on to the next series one day, and the guest with it.
    moves: bool,
}

/// From the oldest kernel the tracer supports to the newest there is.
pub(super) const SERIES: [Series; 4] = [
    Series { version: "5.10", suite: "bullseye", moves: false },
    Series { version: "6.1", suite: "bookworm", moves: false },
    Series { version: "6.12", suite: "trixie", moves: false },
    Series { version: "7.2", suite: "sid", moves: true },
];

/// The image is in `linux-binary-…` where that exists, else in `linux-image-…`.
const PREFIXES: [&str; 2] = ["linux-binary-", "linux-image-"];
/// Where the image has a package of its own, its modules and the lists of them have too.
const PARTS: [&str; 2] = ["linux-modules-", "linux-base-"];
/// Small, and with what cloud hosts run; its drivers are modules, and a guest needs none of them.
const FLAVOUR: &str = "-cloud-amd64";

/// A kernel to boot.
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    /// In the order to load them.
    pub(super) modules: Vec<PathBuf>,
}

/// The kernel of `series`, fetched into `folder` unless it is there.
pub(super) fn of(series: &Series, folder: &Path) -> Result<Kernel> {
    let kernel = folder.join("kernel");
    if !kernel.exists() {
        fetch(series, folder, &kernel).with_context(|| format!("kernel {}", series.version))?;
    }
    Ok(Kernel { image: kernel.join("vmlinuz"), modules: modules::taken(&kernel.join("modules"))? })
}

fn fetch(series: &Series, folder: &Path, kernel: &Path) -> Result<()> {
    let mirror = mirror::of_this_machine()?;
    let work = folder.join("apt");
    remove(&work)?;
    let apt = Apt::at(&work, &mirror, series.suite)?;
    eprintln!("guest {}: fetching Debian's package lists …", series.version);
    // A mirror may have dropped one of the suites; what counts is whether a kernel was found.
    let update = command::run_aside(apt.command("apt-get").args(["update", "-q"]));
    let names = command::output(apt.command("apt-cache").args(["pkgnames", "linux-"]))?;
    let Some(package) = newest(&names, series) else {
        update?;
        bail!("{} has no {}*{FLAVOUR} in {}", mirror.archive, PREFIXES[1], series.suite);
    };
    eprintln!("guest {}: fetching {package} …", series.version);
    let packages = with_parts(&names, package);
    command::run_aside(apt.command("apt-get").args(["download", "-q"]).args(&packages))?;
    let tree = work.join("tree");
    for deb in entries(&work, |name| name.ends_with(".deb")) {
        command::run_aside(Command::new("dpkg").arg("-x").arg(&deb).arg(&tree))?;
    }
    let whole = work.join("kernel");
    let modules = modules_in(&tree).with_context(|| format!("{package} has no modules"))?;
    modules::take(&modules, &whole.join("modules")).context(package.to_owned())?;
    let image = image_in(&tree, &modules).with_context(|| format!("{package} has no vmlinuz"))?;
    fs::rename(&image, whole.join("vmlinuz")).with_context(|| format!("cannot move {}", image.display()))?;
    // Last, and in one step: a kernel that is there is a whole one.
    fs::rename(&whole, kernel).with_context(|| format!("cannot write {}", kernel.display()))?;
    remove(&work)
}

fn remove(folder: &Path) -> Result<()> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("cannot remove {}", folder.display()))?;
    }
    Ok(())
}

/// An apt that knows one suite and shares nothing with the machine's but how it reaches its sources.
struct Apt {
    settings: PathBuf,
    folder: PathBuf,
}

impl Apt {
    fn at(folder: &Path, mirror: &Mirror, suite: &str) -> Result<Self> {
        let root = folder.display();
        for part in ["state/lists/partial", "cache/archives/partial"] {
            fs::create_dir_all(folder.join(part)).with_context(|| format!("cannot make {root}/{part}"))?;
        }
        let options = format!("[arch=amd64 signed-by={} target=Packages]", mirror.keys);
        let mut sources = format!("deb {options} {} {suite} main\n", mirror.archive);
        if let Some(security) = mirror.security.as_ref().filter(|_| suite != "sid") {
            sources.push_str(&format!("deb {options} {security} {suite}-security main\n"));
        }
        // Proxies, time-outs and the like are the machine's; its hooks, pins and indices stay out.
        let all = command::output(Command::new("apt-config").arg("dump"))?;
        let kept = all
            .lines()
            .filter(|line| line.starts_with("Acquire::") && !line.starts_with("Acquire::IndexTargets"));
        let settings = format!(
            "{}\nDir::State \"{root}/state\";\nDir::State::status \"{root}/status\";\nDir::Cache \"{root}/cache\";\n\
             Dir::Etc::SourceList \"{root}/sources.list\";\nDir::Etc::SourceParts \"/dev/null\";\n\
             Dir::Etc::Preferences \"/dev/null\";\nDir::Etc::PreferencesParts \"/dev/null\";\nDir::Etc::Parts \"/dev/null\";\n\
             APT::Sandbox::User \"root\";\nAPT::Architecture \"amd64\";\n",
            kept.collect::<Vec<_>>().join("\n")
        );
        for (name, text) in [("status", ""), ("sources.list", &sources), ("apt.conf", &settings)] {
            fs::write(folder.join(name), text).with_context(|| format!("cannot write {root}/{name}"))?;
        }
        Ok(Self { settings: folder.join("apt.conf"), folder: folder.to_owned() })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.settings).env("LC_ALL", "C").current_dir(&self.folder);
        command
    }
}

/// The package with the newest build's image, of the wanted series unless its suite has moved on.
fn newest<'a>(names: &'a str, series: &Series) -> Option<&'a str> {
    let wanted = format!("{}.", series.version);
    let builds = PREFIXES.iter().flat_map(|prefix| {
        names.lines().filter_map(move |name| {
            let build = name.strip_prefix(prefix)?.strip_suffix(FLAVOUR)?;
            // A build's name has all three numbers; `linux-image-6.1-cloud-amd64` only points at one.
            (build.split('.').count() >= 3 && build.starts_with(|c: char| c.is_ascii_digit()))
                .then_some((build, name))
        })
    });
    // `rev`, because of equals the last is taken, and of one build's two packages the first prefix's has the image.
    let builds = builds.collect::<Vec<_>>();
    let best = |builds: &mut dyn Iterator<Item = &(&'a str, &'a str)>| {
        builds.max_by(|a, b| by_number(a.0, b.0)).map(|(_, name)| *name)
    };
    let exact = best(&mut builds.iter().rev().filter(|(build, _)| build.starts_with(&wanted)));
    let other = || best(&mut builds.iter().rev().filter(|_| series.moves));
    exact.or_else(other)
}

/// The image's package, and those of `names` that go with it.
fn with_parts<'a>(names: &'a str, package: &'a str) -> Vec<&'a str> {
    let build = package.strip_prefix(PREFIXES[0]);
    let is_part = |name: &&str| {
        build.is_some()
            && PARTS.iter().any(|prefix| name.strip_prefix(prefix).is_some_and(|name| Some(name) == build))
    };
    std::iter::once(package).chain(names.lines().filter(is_part)).collect()
}

/// Compares names so that `-9` comes before `-46`: digits as numbers, all else as text.
fn by_number(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    while !a.is_empty() && !b.is_empty() {
        let (one, other) = (run(&mut a), run(&mut b));
        let order = match (one.parse::<u64>(), other.parse::<u64>()) {
            (Ok(one), Ok(other)) => one.cmp(&other),
            _ => one.cmp(other),
        };
        if order.is_ne() {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

/// Cuts the first run of digits, or of anything else, off `text`.
fn run<'a>(text: &mut &'a str) -> &'a str {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    let end = text.find(|c: char| c.is_ascii_digit() != digits).unwrap_or(text.len());
    let (run, rest) = text.split_at(end);
    *text = rest;
    run
}

/// The folder of the kernel's modules in an unpacked package, whose place Debian has moved.
fn modules_in(tree: &Path) -> Option<PathBuf> {
    ["usr/lib/modules", "lib/modules"].iter().find_map(|folder| entries(&tree.join(folder), |_| true).next())
}

/// The kernel image in an unpacked package: under `boot`, or beside its modules.
fn image_in(tree: &Path, modules: &Path) -> Option<PathBuf> {
    [&tree.join("boot"), modules]
        .iter()
        .find_map(|folder| entries(folder, |name| name.starts_with("vmlinuz")).next())
}

/// What is in `folder` by a wanted name; nothing if the folder is not there.
fn entries(folder: &Path, wanted: impl Fn(&str) -> bool) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(move |path| path.file_name().and_then(|name| name.to_str()).is_some_and(&wanted))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-cloud-amd64\nlinux-image-6.1-cloud-amd64\nlinux-image-6.1.0-9-cloud-amd64\n\
        linux-image-6.1.0-46-cloud-amd64\nlinux-image-6.1.0-47-cloud-amd64-unsigned\nlinux-image-6.1.0-48-amd64\n\
        linux-image-6.12.100+deb12-cloud-amd64\nlinux-headers-6.1.0-99-cloud-amd64\n";
    const MOVED: &str = "linux-binary-7.4.2+deb14-cloud-amd64\nlinux-image-7.4.2+deb14-cloud-amd64\n\
        linux-image-7.4.10+deb14-cloud-amd64\nlinux-binary-7.4.10+deb14-cloud-amd64\n";

    fn series(version: &'static str, moves: bool) -> Series {
        Series { version, suite: "some", moves }
    }

    #[test]
    fn the_newest_build_of_the_series_is_found_by_number() {
        assert_eq!(newest(NAMES, &series("6.1", false)), Some("linux-image-6.1.0-46-cloud-amd64"));
        assert_eq!(newest(NAMES, &series("6.12", false)), Some("linux-image-6.12.100+deb12-cloud-amd64"));
        assert_eq!(newest(NAMES, &series("5.10", false)), None);
    }

    #[test]
    fn a_suite_that_has_moved_on_gives_its_newest() {
        assert_eq!(newest(MOVED, &series("7.2", true)), Some("linux-binary-7.4.10+deb14-cloud-amd64"));
        assert_eq!(newest(MOVED, &series("7.4", true)), Some("linux-binary-7.4.10+deb14-cloud-amd64"));
        assert_eq!(newest(MOVED, &series("7.2", false)), None);
    }

    #[test]
    fn an_image_with_a_package_of_its_own_comes_with_its_modules() {
        let names = "linux-modules-7.4.2-cloud-amd64\nlinux-base-7.4.2-cloud-amd64\nlinux-headers-7.4.2-cloud-amd64\n\
            linux-modules-7.4.1-cloud-amd64\nlinux-base-6.1.0-46-cloud-amd64\n";
        let all = ["binary", "modules", "base"].map(|part| format!("linux-{part}-7.4.2-cloud-amd64"));
        assert_eq!(with_parts(names, &all[0]), all);
        assert_eq!(
            with_parts(names, "linux-image-6.1.0-46-cloud-amd64"),
            ["linux-image-6.1.0-46-cloud-amd64"]
        );
    }

    #[test]
    fn builds_are_ordered_by_number_then_length() {
        assert_eq!(by_number("5.10.0-9", "5.10.0-46"), Ordering::Less);
        assert_eq!(by_number("6.12.115+deb13", "6.12.115+deb13.1"), Ordering::Less);
        assert_eq!(by_number("7.2.13+deb14", "7.2.13+deb14"), Ordering::Equal);
    }
}
