//! The findings below the table: the most severe first, and what to do about each kind once.

use std::{cmp::Reverse, fmt::Write as _};

use crate::finding::{Finding, State};

/// At most `most` findings; how many are left out is said.
pub(super) fn render(findings: &[&Finding], most: usize) -> String {
    let mut findings = findings.to_vec();
    findings.sort_by_key(|finding| (Reverse(finding.rule.severity), finding.rule.code, finding.source));
    let more = findings.len().saturating_sub(most);
    findings.truncate(most);
    let mut text = String::new();
    for of_rule in findings.chunk_by(|one, next| one.rule.code == next.rule.code) {
        for Finding { rule, state, summary, .. } in of_rule {
            let state = if *state == State::Closed { "closed" } else { rule.severity.name() };
            let _ = writeln!(text, "{state:<6} {} {}: {summary}", rule.code, rule.name);
        }
        if let Some(finding) = of_rule.first() {
            let _ = writeln!(text, "       → {}", finding.rule.advice);
        }
    }
    if more > 0 {
        let _ = writeln!(text, "… and {more} more findings (--rows shows more)");
    }
    text
}
