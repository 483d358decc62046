//! What a guest's console says, and whether that is a pass.
//!
//! In: lines, as they come. Out: whether the guest is up, whether it is done, how many tests passed. Refused as a pass: a
//! module that does not load, a missing or non-zero exit code, a missing or failed test result, and a result of no tests.

/// The line the guest's init prints first, with `uname -r` behind it.
const UP: &str = "AMQPTRACE-GUEST-UP:";
/// The line it prints last if a module does not load, with the module behind it.
const REFUSED: &str = "AMQPTRACE-GUEST-REFUSED:";
/// The line it prints last otherwise, with the tests' exit code behind it.
const EXIT: &str = "AMQPTRACE-GUEST-EXIT:";
/// How the test harness begins its last line.
const RESULT: &str = "test result: ";

/// One guest's console.
#[derive(Default)]
pub(super) struct Console {
    lines: Vec<String>,
    release: Option<String>,
    refused: Option<String>,
    exit: Option<String>,
    result: Option<String>,
    /// What ended the run from outside, such as the time running out.
    cut: Option<String>,
}

impl Console {
    /// Takes in one line.
    pub(super) fn push(&mut self, line: &str) {
        let line = line.trim_end();
        // Not only at a line's start: the kernel may have written into the same line.
        let after = |marker: &str| line.split_once(marker).map(|(_, rest)| rest.trim().to_owned());
        self.release = self.release.take().or_else(|| after(UP));
        self.refused = self.refused.take().or_else(|| after(REFUSED));
        self.exit = self.exit.take().or_else(|| after(EXIT));
        if let Some(result) = after(RESULT) {
            self.result = Some(result);
        }
        self.lines.push(line.to_owned());
    }

    /// Notes why the guest was not heard to its end.
    pub(super) fn cut(&mut self, why: String) {
        self.cut = Some(why);
    }

    /// Whether time ran out before the guest reached its init, though it had not stopped.
    pub(super) fn hung_at_start(&self) -> bool {
        !self.is_up() && self.cut.is_some()
    }

    /// Whether the guest reached its init.
    pub(super) fn is_up(&self) -> bool {
        self.release.is_some()
    }

    /// Whether the tests have ended, or will not be run.
    pub(super) fn is_done(&self) -> bool {
        self.exit.is_some() || self.refused.is_some()
    }

    /// The guest's `uname -r`.
    pub(super) fn release(&self) -> &str {
        self.release.as_deref().unwrap_or("-")
    }

    /// How many tests passed, or why this is not a pass.
    pub(super) fn verdict(&self) -> Result<u64, String> {
        if let Some(module) = &self.refused {
            return Err(format!("its kernel did not take {module}"));
        }
        if !self.is_done() {
            let point = if self.is_up() { "its tests ended" } else { "it was up" };
            return Err(format!("{} before {point}", self.cut.as_deref().unwrap_or("it stopped")));
        }
        let result = self.result.as_deref().ok_or("no test result was printed")?;
        let exit = self.exit.as_deref().unwrap_or_default();
        let passed =
            result.strip_prefix("ok. ").and_then(|rest| rest.split_once(" passed")).map(|(count, _)| count);
        match (exit, passed.and_then(|count| count.parse().ok())) {
            ("0", Some(0)) => Err("no test was run".to_owned()),
            ("0", Some(count)) => Ok(count),
            _ => Err(format!("exit code {exit}, test result: {result}")),
        }
    }

    /// The last lines.
    pub(super) fn tail(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn console(lines: &[&str]) -> Console {
        let mut console = Console::default();
        lines.iter().for_each(|line| console.push(line));
        console
    }

    const OK: &str =
        "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 2 filtered out; finished in 1.50s\r";

    #[test]
    fn a_pass_needs_the_result_and_the_exit_code() {
        let console = console(&["AMQPTRACE-GUEST-UP:6.1.0-50-cloud-amd64\r", OK, "AMQPTRACE-GUEST-EXIT:0\r"]);
        assert_eq!(console.release(), "6.1.0-50-cloud-amd64");
        assert!(console.is_done());
        assert_eq!(console.verdict(), Ok(5));
    }

    #[test]
    fn a_kernel_message_in_the_same_line_hides_nothing() {
        let console = console(&["[    3.1] tsc: AMQPTRACE-GUEST-UP:5.10", OK, "x AMQPTRACE-GUEST-EXIT:0"]);
        assert_eq!((console.release(), console.verdict()), ("5.10", Ok(5)));
    }

    #[test]
    fn nothing_less_is_a_pass() {
        let why = |lines: &[&str]| console(lines).verdict().err().unwrap_or_default();
        let up = "AMQPTRACE-GUEST-UP:5.10";
        assert_eq!(why(&[]), "it stopped before it was up");
        assert_eq!(why(&[up, OK]), "it stopped before its tests ended");
        assert_eq!(why(&[up, "AMQPTRACE-GUEST-EXIT:0"]), "no test result was printed");
        assert_eq!(
            why(&[up, "test result: ok. 0 passed; 0 failed", "AMQPTRACE-GUEST-EXIT:0"]),
            "no test was run"
        );
        assert!(why(&[up, OK, "AMQPTRACE-GUEST-EXIT:101"]).starts_with("exit code 101"));
        let failed = "test result: FAILED. 4 passed; 1 failed";
        assert_eq!(
            why(&[up, failed, "AMQPTRACE-GUEST-EXIT:101"]),
            "exit code 101, test result: FAILED. 4 passed; 1 failed"
        );
        assert!(why(&[up, failed, "AMQPTRACE-GUEST-EXIT:0"]).contains("FAILED"));
        assert!(why(&[up, OK, failed, "AMQPTRACE-GUEST-EXIT:0"]).contains("FAILED"));
    }

    #[test]
    fn a_module_that_does_not_load_ends_it() {
        let up = "AMQPTRACE-GUEST-UP:5.10";
        let refused = "AMQPTRACE-GUEST-REFUSED:/modules/01-tcp_diag.ko\r";
        let console = console(&[up, "insmod: can't insert", refused]);
        assert!(console.is_done());
        assert_eq!(console.verdict(), Err("its kernel did not take /modules/01-tcp_diag.ko".to_owned()));
    }

    #[test]
    fn what_cut_it_short_is_said() {
        let mut console = console(&["AMQPTRACE-GUEST-UP:5.10", "one", "two"]);
        console.cut("300 s were over".to_owned());
        assert_eq!(console.verdict(), Err("300 s were over before its tests ended".to_owned()));
        assert_eq!(console.tail(2), "one\ntwo");
        assert_eq!(console.tail(9).lines().count(), 3);
    }
}
