//! The rules, one entry each. A new rule is a new entry here, its condition, its sentence, and its row in
//! docs/FINDINGS.md.

use std::fmt;

use super::{
    Finding, Severity,
    condition::{self, CLOSES, Case, Start},
    evidence::{RESETS, SESSIONS},
    summary::{self, Facts},
};
use crate::verdict::Verdict;

/// What a source can do wrong, how it is told, and what to do about it.
pub struct Rule {
    /// Stable for ever: `AT` and three digits.
    pub code: &'static str,
    /// Stable for ever, in snake_case.
    pub name: &'static str,
    /// How much to mind.
    pub severity: Severity,
    /// What to change, and where.
    pub advice: &'static str,
    /// Which verdicts are its evidence.
    pub evidence: &'static [Verdict],
    /// Whether the evidence opens a finding; asked in windows with new evidence only.
    pub opens: fn(&Case) -> Option<Start>,
    /// Whether new evidence keeps it open: less than what opens it, so that it does not flap.
    pub holds: fn(&Case) -> bool,
    /// Whether connections that are silent right now are evidence, too.
    pub silence: bool,
    /// What, coming after the latest evidence, says that the trouble is over.
    pub sequel: Sequel,
    /// The rule that says it all while its finding of the same source is open.
    pub yields_to: Option<&'static str>,
    /// Its sentence, without why it closed.
    pub summary: fn(&Finding, &Facts) -> String,
}

/// What says that a source has mended its ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sequel {
    /// Nothing but quiet.
    Quiet,
    /// Half-open checks in the place of other checks.
    HalfOpen,
    /// The broker answers, which closes a finding before its quiet.
    Answered,
}

impl fmt::Debug for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.name)
    }
}

/// What a rule is unless its entry says otherwise.
const PLAIN: Rule = Rule {
    code: "",
    name: "",
    severity: Severity::Info,
    advice: "",
    evidence: &[],
    opens: |_| None,
    holds: condition::always,
    silence: false,
    sequel: Sequel::Quiet,
    yields_to: None,
    summary: |_, _| String::new(),
};

/// All rules.
pub static RULES: [Rule; 10] = [
    Rule {
        code: "AT001",
        name: "health_check_by_reset",
        severity: Severity::Medium,
        advice: "in the source's health check: check half-open as HAProxy does by default, or send the AMQP protocol header and read the answer, or ask the broker's own health checks (rabbitmq-diagnostics, management API)",
        evidence: &[Verdict::ProbeReset],
        opens: condition::checks_by_reset,
        sequel: Sequel::HalfOpen,
        yields_to: Some("AT005"),
        summary: summary::checks_by_reset,
        ..PLAIN
    },
    Rule {
        code: "AT002",
        name: "health_check_by_close",
        severity: Severity::Low,
        advice: "in the source's health check: it costs the broker a connection process each time; check half-open as HAProxy does by default (without tcp-check connect linger), less often, or ask the broker's own health checks (rabbitmq-diagnostics, management API)",
        evidence: CLOSES,
        opens: condition::checks_by_close,
        sequel: Sequel::HalfOpen,
        summary: summary::checks_by_close,
        ..PLAIN
    },
    Rule {
        code: "AT003",
        name: "stalled_handshakes",
        severity: Severity::Medium,
        advice: "on the source: find what connects and says nothing (a port check that waits, a pool that opens early, TLS settings that differ from the port's); each holds a connection of the broker until its handshake_timeout",
        evidence: &[Verdict::HandshakeTimeout],
        opens: condition::stalled,
        silence: true,
        summary: summary::stalled,
        ..PLAIN
    },
    Rule {
        code: "AT004",
        name: "connection_per_message",
        severity: Severity::Medium,
        advice: "in the client: keep one long-lived connection and publish on its channels; where it cannot (PHP, CGI), put an AMQP proxy such as amqproxy on its host",
        evidence: SESSIONS,
        opens: condition::churn,
        holds: condition::still_churn,
        summary: summary::churn,
        ..PLAIN
    },
    Rule {
        code: "AT005",
        name: "reset_storm",
        severity: Severity::High,
        advice: "on the source: stop what connects in a loop (a health check without an interval, a client that reconnects without back-off, a scanner), or limit its rate at the firewall; it fills the broker's accept queue and log",
        evidence: RESETS,
        opens: condition::storm,
        holds: condition::still_storm,
        sequel: Sequel::HalfOpen,
        summary: summary::storm,
        ..PLAIN
    },
    Rule {
        code: "AT006",
        name: "broker_down",
        severity: Severity::High,
        advice: "on the broker's host: start the broker, or its listener on this port (rabbitmq-diagnostics listeners); if it is meant to be down, take it out of the source's list of brokers",
        evidence: &[Verdict::Refused],
        opens: condition::refused,
        sequel: Sequel::Answered,
        summary: summary::refused,
        ..PLAIN
    },
    Rule {
        code: "AT007",
        name: "accept_queue_full",
        severity: Severity::High,
        advice: "on the broker's host: it is overloaded or has stopped accepting, so look at its CPU, file descriptors and alarms first; for bursts of connects raise tcp_listen_options.backlog and net.core.somaxconn",
        evidence: &[Verdict::AcceptQueueFull],
        opens: condition::queue_full,
        summary: summary::queue_full,
        ..PLAIN
    },
    Rule {
        code: "AT008",
        name: "not_amqp",
        severity: Severity::Medium,
        advice: "on the source: use the port that speaks its protocol (5671 for TLS, 15672 for HTTP), or the protocol of this port; from an unknown source, take it for a scan",
        evidence: &[Verdict::NotAmqp],
        opens: condition::foreign,
        summary: summary::foreign,
        ..PLAIN
    },
    Rule {
        code: "AT009",
        name: "sessions_torn_down",
        severity: Severity::Medium,
        advice: "in the client: close the connection (connection.close) before the process ends, and look for crashes, kills and time-outs of proxies between; unconfirmed messages of such a session are lost",
        evidence: &[Verdict::SessionReset],
        opens: condition::torn,
        holds: condition::still_torn,
        summary: summary::torn,
        ..PLAIN
    },
    Rule {
        code: "AT010",
        name: "peer_lost",
        severity: Severity::Medium,
        advice: "between source and broker: look for hosts that vanish, and for firewalls or NAT that forget idle connections; heartbeats below their time-out keep the connections",
        evidence: &[Verdict::TimedOut],
        opens: condition::lost,
        summary: summary::lost,
        ..PLAIN
    },
];
