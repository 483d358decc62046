//! One guest under QEMU.
//!
//! In: a kernel image and an initramfs. Out: the guest's console, whole or cut short by the time allowed. Refused: nothing
//! but a QEMU that cannot start; what the console says is judged elsewhere.

use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};

use super::console::Console;

/// For coming up: a guest takes a few seconds, but now and then one hangs before its first word, for good.
const PATIENCE: Duration = Duration::from_secs(40);
/// How often such a guest is started.
const STARTS: u32 = 4;
/// For one guest in all, whatever happens.
const BOUND: Duration = Duration::from_secs(900);

/// Boots `image` with `initramfs` and listens until the tests are over, or the time is.
pub(super) fn run(name: &str, image: &Path, initramfs: &Path) -> Result<Console> {
    let end = Instant::now() + BOUND;
    for start in 1..=STARTS {
        eprintln!("guest {name}: booting …");
        let guest = Guest::start(image, initramfs)?;
        let console = listen(&guest.lines, (Instant::now() + PATIENCE).min(end), end);
        if start == STARTS || !console.hung_at_start() {
            return Ok(console);
        }
        let waited = PATIENCE.as_secs();
        eprintln!("guest {name}: not up in {waited} s, starting it again ({start} of {})", STARTS - 1);
    }
    Ok(Console::default())
}

/// Takes in lines until the guest is done, gone, not up by `first`, or not done by `end`.
fn listen(lines: &Receiver<String>, first: Instant, end: Instant) -> Console {
    let mut console = Console::default();
    while !console.is_done() {
        let deadline = if console.is_up() { end } else { first };
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                eprintln!("  | {}", line.trim_end());
                console.push(&line);
            }
            Err(RecvTimeoutError::Timeout) => {
                let allowed = if console.is_up() { BOUND } else { PATIENCE };
                console.cut(format!("{} s were over", allowed.as_secs()));
                break;
            }
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    console
}

/// A running QEMU and the lines of its console; stopped, whatever happens, when it goes out of scope.
struct Guest {
    qemu: Child,
    lines: Receiver<String>,
}

impl Guest {
    fn start(image: &Path, initramfs: &Path) -> Result<Self> {
        // By way of setpriv, so that no guest outlives an xtask that was itself killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "qemu-system-x86_64"]);
        // Without KVM, which the machines that run tests seldom have. Both processors in one thread: with a thread each,
        // the emulator now and then loses the race when the kernel patches a tracepoint in while another processor runs
        // over it, and the guest dies of an `int3` that no kernel put there for long.
        command.args(["-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "512"]);
        // No devices but the console: the tests need none, and QEMU then needs none of its firmware packages.
        command.args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-serial",
            "stdio",
            "-no-reboot",
        ]);
        command.arg("-kernel").arg(image).arg("-initrd").arg(initramfs);
        command.args(["-append", "console=ttyS0 quiet panic=-1"]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let mut qemu = command.spawn().context("cannot start setpriv, for qemu-system-x86_64")?;
        let output = qemu.stdout.take();
        let (sender, lines) = mpsc::channel();
        let guest = Self { qemu, lines };
        if let Some(output) = output {
            thread::spawn(move || read_lines(output, |line| sender.send(line).is_ok()));
        }
        Ok(guest)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // Both fail only for a child that has already ended and been waited for.
        let _gone = self.qemu.kill();
        let _waited = self.qemu.wait();
    }
}

/// Hands on every line of `output`, whatever bytes are in it, until its end or until nobody listens.
fn read_lines(output: impl Read, mut hand_on: impl FnMut(String) -> bool) {
    let mut output = BufReader::new(output);
    loop {
        let mut line = Vec::new();
        match output.read_until(b'\n', &mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if !hand_on(String::from_utf8_lossy(&line).into_owned()) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(words: &[u8]) -> Console {
        let (sender, lines) = mpsc::channel();
        read_lines(words, |line| sender.send(line).is_ok());
        drop(sender);
        let end = Instant::now() + BOUND;
        listen(&lines, end, end)
    }

    #[test]
    fn listening_ends_with_the_tests_and_takes_any_bytes() {
        let words = b"AMQPTRACE-GUEST-UP:6.1\r\n\xff\xfe\r\ntest result: ok. 3 passed; 0 failed\r\nAMQPTRACE-GUEST-EXIT:0\r\nlater\r\n";
        let console = said(words);
        assert_eq!(console.verdict(), Ok(3));
        assert!(!console.tail(9).contains("later"));
    }

    #[test]
    fn a_guest_that_ends_early_is_not_waited_for_nor_started_again() {
        let console = said(b"Kernel panic - not syncing");
        assert!(!console.hung_at_start());
        assert_eq!(console.verdict(), Err("it stopped before it was up".to_owned()));
    }

    #[test]
    fn a_guest_that_hangs_at_its_start_is_told_from_one_that_hangs_later() {
        let (sender, lines) = mpsc::channel();
        let now = Instant::now();
        let console = listen(&lines, now, now + BOUND);
        assert!(console.hung_at_start());
        assert_eq!(console.verdict(), Err("40 s were over before it was up".to_owned()));
        assert!(sender.send("AMQPTRACE-GUEST-UP:6.1".to_owned()).is_ok());
        let console = listen(&lines, now + BOUND, now);
        assert!(!console.hung_at_start());
        assert_eq!(console.verdict(), Err("900 s were over before its tests ended".to_owned()));
    }
}
