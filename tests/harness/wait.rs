//! Waiting for what another process or the kernel does, never longer than [`DEADLINE`].

use std::{
    thread,
    time::{Duration, Instant},
};

/// The longest wait for anything: for the emulated guests generous, for a hung test still an end.
pub const DEADLINE: Duration = Duration::from_secs(120);

/// Looks again and again until `look` finds something; for what gives no event, as a log file or a kernel counter.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < DEADLINE, "waited {DEADLINE:?} in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
