//! docs/FINDINGS.md says what the tables say.

use crate::finding::{RULES, THRESHOLDS};

const DOC: &str = include_str!("../../../../docs/FINDINGS.md");

#[test]
fn every_rule_is_documented() {
    for rule in &RULES {
        let row =
            DOC.lines().find(|line| line.starts_with(&format!("| {} |", rule.code))).unwrap_or_default();
        assert!(row.contains(&format!("`{}`", rule.name)), "{} {} has no row", rule.code, rule.name);
        assert!(row.contains(&format!("| {} |", rule.severity)), "{}: severity in '{row}'", rule.code);
        for verdict in rule.evidence {
            assert!(row.contains(&format!("`{verdict}`")), "{}: {verdict} in '{row}'", rule.code);
        }
        assert!(DOC.contains(rule.advice), "{}: its advice is missing", rule.code);
    }
}

#[test]
fn every_threshold_is_documented_with_its_default_and_what_is_allowed() {
    for threshold in THRESHOLDS {
        let allowed = threshold.kind.allowed();
        let allowed = allowed.split(',').next().unwrap_or_default();
        let row = format!("| `{}` | {} | {allowed} | {} |", threshold.name, threshold.kind, threshold.doc);
        assert!(DOC.lines().any(|line| line == row), "no line is\n{row}");
    }
}

#[test]
fn codes_and_names_are_unique_and_well_formed() {
    for (place, rule) in RULES.iter().enumerate() {
        assert_eq!(rule.code, format!("AT{:03}", place + 1));
        assert!(rule.name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", rule.name);
        assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1);
        assert!(!rule.evidence.is_empty() && !rule.advice.is_empty());
        assert!(rule.yields_to.is_none_or(|code| RULES.iter().any(|other| other.code == code)));
    }
}
