//! The kernel modules that the tracer needs.
//!
//! In: an unpacked kernel package. Out: those modules and what they depend on, decompressed, in one folder and named by the
//! order they load in. Refused: a kernel that has one of them neither as a module nor built in.
//!
//! A guest has no program that loads modules when the kernel asks for them, so its init loads these before the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;

/// What tells the open connections, and what Debian's kernels leave out of their image.
const NEEDED: [&str; 2] = ["inet_diag", "tcp_diag"];
/// What a compressed module's name ends in, and the program that takes it off.
const COMPRESSIONS: [(&str, &str); 2] = [(".xz", "xz"), (".zst", "zstd")];

/// Takes what is needed out of `package`, the folder with `modules.order` in it, into `folder`.
pub(super) fn take(package: &Path, folder: &Path) -> Result<()> {
    let list = |name| {
        let list = package.join(name);
        fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))
    };
    let lists = Lists { modules: list("modules.order")?, built_in: list("modules.builtin")? };
    let mut taken = Vec::new();
    for name in NEEDED {
        lists.take(name, &|path| plain(&package.join(path)), &mut taken)?;
    }
    fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    for (place, (name, bytes)) in taken.iter().enumerate() {
        let file = folder.join(format!("{place:02}-{name}.ko"));
        fs::write(&file, bytes).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(())
}

/// What [`take`] put into `folder`, in the order to load it.
pub(super) fn taken(folder: &Path) -> Result<Vec<PathBuf>> {
    let files = fs::read_dir(folder)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>());
    let mut files = files.with_context(|| format!("cannot read {}", folder.display()))?;
    files.sort();
    Ok(files)
}

/// Which of the modules needed are loaded and which are built in, as a person would say it.
pub(super) fn said(taken: &[PathBuf]) -> String {
    let is_taken = |name: &&str| {
        let stems = taken.iter().filter_map(|file| file.file_stem()?.to_str()?.split_once('-'));
        stems.into_iter().any(|(_, stem)| stem == *name)
    };
    let (loaded, built_in): (Vec<_>, Vec<_>) = NEEDED.into_iter().partition(is_taken);
    let parts = [("modules", loaded), ("built in", built_in)];
    let parts = parts.iter().filter(|(_, names)| !names.is_empty());
    parts.map(|(what, names)| format!("{what}: {}", names.join(", "))).collect::<Vec<_>>().join("; ")
}

/// A kernel's own lists of its modules, a path such as `kernel/net/ipv4/tcp_diag.ko` a line.
struct Lists {
    modules: String,
    built_in: String,
}

impl Lists {
    /// Adds the module `name` to `taken`, behind all that it depends on; nothing if the kernel has it built in.
    fn take(
        &self,
        name: &str,
        read: &impl Fn(&str) -> Result<Vec<u8>>,
        taken: &mut Vec<(String, Vec<u8>)>,
    ) -> Result<()> {
        if taken.iter().any(|(other, _)| other == name) || find(&self.built_in, name).is_some() {
            return Ok(());
        }
        let Some(path) = find(&self.modules, name) else {
            bail!("it has {name} neither as a module nor built in, and the tracer needs it");
        };
        let bytes = read(path)?;
        let depends = depends(&bytes).with_context(|| format!("{path} does not say what it depends on"))?;
        for other in depends.split(',').filter(|other| !other.is_empty()) {
            self.take(other, read, taken)?;
        }
        taken.push((name.to_owned(), bytes));
        Ok(())
    }
}

/// The line of the module `name`, which is the file's name with `_` for `-`.
fn find<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.lines().find(|line| {
        let file = line.rsplit('/').next().unwrap_or(line);
        file.strip_suffix(".ko").is_some_and(|stem| stem.replace('-', "_") == name)
    })
}

/// The modules a module says it depends on, separated by commas; every module says so, if only that there are none.
fn depends(module: &[u8]) -> Option<&str> {
    const KEY: &[u8] = b"\0depends=";
    let at = module.windows(KEY.len()).position(|window| window == KEY)?;
    let value = module[at + KEY.len()..].split(|byte| *byte == 0).next()?;
    std::str::from_utf8(value).ok()
}

/// Reads the module at `path`, after decompressing it there if it is compressed.
fn plain(path: &Path) -> Result<Vec<u8>> {
    for (end, program) in COMPRESSIONS {
        let mut compressed = path.as_os_str().to_owned();
        compressed.push(end);
        if Path::new(&compressed).exists() {
            command::run_aside(Command::new(program).args(["-d", "-q"]).arg(compressed))?;
        }
    }
    fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lists(modules: &str, built_in: &str) -> Lists {
        Lists { modules: modules.to_owned(), built_in: built_in.to_owned() }
    }

    /// The names of what is taken for `name` when each module depends on what `depends` says.
    fn taken_for(name: &str, lists: &Lists, depends: &[(&str, &str)]) -> Result<Vec<String>> {
        let read = |path: &str| {
            let depends =
                depends.iter().find(|(file, _)| path.ends_with(file)).map_or("", |(_, names)| names);
            Ok(format!("ELF\0license=GPL\0depends={depends}\0name=it\0").into_bytes())
        };
        let mut taken = Vec::new();
        lists.take(name, &read, &mut taken)?;
        Ok(taken.into_iter().map(|(name, _)| name).collect())
    }

    const MODULES: &str =
        "kernel/net/ipv4/tcp_diag.ko\nkernel/net/ipv4/inet_diag.ko\nkernel/net/core/sock-diag.ko\n";

    #[test]
    fn a_module_comes_behind_what_it_depends_on_and_once() -> Result<()> {
        let depends = [("tcp_diag.ko", "inet_diag,sock_diag"), ("inet_diag.ko", "sock_diag")];
        let all = ["sock_diag", "inet_diag", "tcp_diag"];
        assert_eq!(taken_for("tcp_diag", &lists(MODULES, ""), &depends)?, all);
        let built_in = lists(MODULES, "kernel/net/core/sock-diag.ko\n");
        assert_eq!(taken_for("tcp_diag", &built_in, &depends)?, all[1..]);
        Ok(())
    }

    #[test]
    fn what_is_built_in_needs_no_module() -> Result<()> {
        let built_in = lists("", "kernel/net/ipv4/inet_diag.ko\nkernel/net/ipv4/tcp_diag.ko\n");
        assert!(taken_for("tcp_diag", &built_in, &[])?.is_empty());
        Ok(())
    }

    #[test]
    fn what_is_nowhere_is_named() {
        // Only a part of another module's name.
        let other = lists("kernel/net/mptcp/mptcp_diag.ko\n", "");
        let error = taken_for("tcp_diag", &other, &[]).map_err(|error| error.to_string());
        let why = "it has tcp_diag neither as a module nor built in, and the tracer needs it";
        assert_eq!(error, Err(why.to_owned()));
    }

    #[test]
    fn what_is_loaded_and_what_is_built_in_is_said() {
        let files = ["/k/00-inet_diag.ko", "/k/01-tcp_diag.ko"].map(PathBuf::from);
        assert_eq!(said(&files), "modules: inet_diag, tcp_diag");
        assert_eq!(said(&files[1..]), "modules: tcp_diag; built in: inet_diag");
        assert_eq!(said(&[]), "built in: inet_diag, tcp_diag");
    }

    #[test]
    fn dependencies_are_read_from_a_modules_own_bytes() {
        assert_eq!(depends(b"\x7fELF\0license=GPL\0depends=a,b\0name=c\0"), Some("a,b"));
        assert_eq!(depends(b"\0depends=\0retpoline=Y\0"), Some(""));
        assert_eq!(depends(b"\xfd7zXZ\0 depends=a\0"), None);
    }
}
