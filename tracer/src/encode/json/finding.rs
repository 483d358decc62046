//! `type: "finding"`.

use jiff::Timestamp;
use serde::Serialize;

use super::{SourceAddress, nanoseconds};
use crate::{
    encode::Window,
    finding::{Finding, Resolution, Severity, State},
};

#[derive(Serialize)]
pub(super) struct FindingBody<'a> {
    time: Timestamp,
    id: &'a str,
    rule: RuleBody,
    state: State,
    severity: Severity,
    source: SourceAddress<'a>,
    since: Timestamp,
    last_seen: Timestamp,
    count: u64,
    period_ns: Option<u64>,
    resolution: Option<Resolution>,
    summary: &'a str,
    advice: &'static str,
}

#[derive(Serialize)]
pub(super) struct RuleBody {
    code: &'static str,
    name: &'static str,
}

impl<'a> FindingBody<'a> {
    pub(super) fn new(window: Window, source: SourceAddress<'a>, finding: &'a Finding) -> Self {
        Self {
            time: window.end,
            id: &finding.id,
            rule: RuleBody { code: finding.rule.code, name: finding.rule.name },
            state: finding.state,
            severity: finding.rule.severity,
            source,
            since: finding.since,
            last_seen: finding.last_seen,
            count: finding.count,
            period_ns: finding.period.map(nanoseconds),
            resolution: finding.resolution,
            summary: &finding.summary,
            advice: finding.rule.advice,
        }
    }
}
