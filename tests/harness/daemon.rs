//! A server as a child process, with a directory of its own; both are gone when its value is dropped, and also when
//! this process is killed.

use std::{
    fs, io,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::wait;

/// What a guard does when this process ends without having stopped the daemon: its standard input closes then.
const GUARD: &str = r#"read -r _; kill -KILL "$1"; rm -rf "$2"; eval "$3""#;

/// A running server.
pub struct Daemon {
    name: &'static str,
    child: Child,
    guard: Child,
    directory: TempDir,
}

impl Daemon {
    /// Starts `command`, which uses `directory`; what else it leaves behind `clean_up`, a shell command, takes away
    /// should this process be killed. Call it in the network namespace it should run in.
    pub fn start(name: &'static str, mut command: Command, directory: TempDir, clean_up: &str) -> Self {
        let output = fs::File::create(directory.path().join("output")).unwrap();
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone().unwrap())
            .stderr(output)
            .spawn()
            .unwrap_or_else(|error| {
                panic!("cannot start {name} ({error}); is its Debian package installed?")
            });
        let guard = Command::new("sh")
            .args(["-c", GUARD, "guard", &child.id().to_string()])
            .arg(directory.path())
            .arg(clean_up)
            // Not in the terminal's foreground group, or Ctrl-C would end it before its turn.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self { name, child, guard, directory }
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Waits until a file in its directory holds `text`; panics with its output when it ends before.
    pub fn wait_for(&mut self, file: &str, text: &str) {
        let path = self.directory().join(file);
        wait::until(&format!("{text:?} in {}", path.display()), || {
            if let Some(status) = self.child.try_wait().unwrap() {
                let said = read(self.directory().join("output"));
                panic!("{} ended with {status}: {}", self.name, said.trim());
            }
            read(path.clone()).contains(text).then_some(())
        });
    }

    /// The text of a file in its directory; of one that is not there yet, nothing.
    pub fn text_of(&self, file: &str) -> String {
        read(self.directory().join(file))
    }

    /// Ends it with SIGTERM and waits until it is gone. Does nothing when it is already.
    pub fn stop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
            wait::until(self.name, || self.child.try_wait().unwrap());
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
        // Each fails only when the process has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

fn read(path: PathBuf) -> String {
    match fs::read(path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => panic!("cannot read a log: {error}"),
    }
}
