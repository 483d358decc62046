//! Running other programs, and where things are.
//!
//! In: a [`Command`]. Out: its success or output. Refused: a program that cannot start or that fails, with an error that
//! names the command line.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// The repository's root, which is where every command starts.
pub(crate) fn root() -> PathBuf {
    // cargo sets the variable for what it runs; the compiled-in path is for an xtask started by hand.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    manifest.parent().map_or_else(|| manifest.clone(), Path::to_path_buf)
}

/// The folder cargo builds into.
pub(crate) fn target_dir() -> PathBuf {
    root().join(env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The cargo that runs this xtask, at the repository's root.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(root());
    command
}

/// Runs a command on this terminal and waits for it.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed ({status})", shown(command));
    }
    Ok(())
}

/// Like [`run`], with the command's output on stderr: stdout is kept for what the verb itself has to say.
pub(crate) fn run_aside(command: &mut Command) -> Result<()> {
    run(command.stdin(Stdio::null()).stdout(io::stderr()))
}

/// Runs a command and returns what it printed on stdout.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let last = stderr.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it printed no error");
        bail!("`{}` failed ({}): {}", shown(command), output.status, last.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The full path of a program, looked for on PATH and where system programs are when PATH leaves those out.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// Whether a program asks for no dynamic loader, so that it also runs where there are no libraries.
pub(crate) fn is_static(program: &Path) -> Result<bool> {
    // The loader's path stands in the first page or two of a program, right behind its headers.
    let mut head = Vec::new();
    let file = fs::File::open(program).with_context(|| format!("cannot read {}", program.display()))?;
    file.take(16 * 1024)
        .read_to_end(&mut head)
        .with_context(|| format!("cannot read {}", program.display()))?;
    Ok(!contains(&head, b"/ld-linux") && !contains(&head, b"/ld-musl"))
}

/// Whether `needle` occurs in `hay`.
pub(crate) fn contains(hay: &[u8], needle: &[u8]) -> bool {
    hay.windows(needle.len()).any(|window| window == needle)
}

/// The command line as a person would type it.
fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let name = program.file_name().unwrap_or(program.as_os_str());
    let words = std::iter::once(name).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failing_command_is_named_with_its_last_words() {
        let error = output(Command::new("/bin/sh").args(["-c", "echo first >&2; echo last >&2; exit 3"]));
        let text = error.map_or_else(|error| format!("{error:#}"), |_| String::from("it passed"));
        assert!(
            text.contains("sh -c") && text.contains("exit status: 3") && text.ends_with("last"),
            "{text}"
        );
    }

    #[test]
    fn a_command_that_is_not_there_is_named() {
        let error = run(&mut Command::new("/nowhere/no-such-program"));
        let text = error.map_or_else(|error| format!("{error:#}"), |()| String::from("it passed"));
        assert!(text.starts_with("cannot start `no-such-program`"), "{text}");
    }

    #[test]
    fn programs_are_found_by_name_only_when_executable() {
        assert!(find("sh").is_some());
        assert_eq!(find("no-such-program-anywhere"), None);
    }
}
