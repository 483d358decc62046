//! What a finding says: one sentence with its numbers.

use std::time::Duration;

use jiff::Timestamp;

use super::{Finding, State};

/// What a sentence needs beside the finding itself, kept while it is open.
#[derive(Clone, Copy, Debug, Default)]
pub struct Facts {
    /// The highest rate seen, in 1/s.
    pub peak: f64,
    /// The bound of the median life of sessions.
    pub life: Option<Duration>,
    /// Sessions of the source since the finding's evidence began.
    pub sessions: u64,
    /// Connections that are silent right now.
    pub silent: u64,
    /// The longest silence among them.
    pub longest_silence: Duration,
}

/// AT001.
pub fn checks_by_reset(finding: &Finding, _: &Facts) -> String {
    let (source, beat) = (finding.source, beat(finding));
    format!(
        "{source} reset {} right after the handshake, {beat}: a health check by reset",
        connections(finding.count)
    )
}

/// AT002.
pub fn checks_by_close(finding: &Finding, _: &Facts) -> String {
    let (source, beat) = (finding.source, beat(finding));
    format!(
        "{source} opened and closed {} without an AMQP session, {beat}: a health check by close",
        connections(finding.count)
    )
}

/// AT003.
pub fn stalled(finding: &Finding, facts: &Facts) -> String {
    let mut text =
        format!("{} left {} waiting for the AMQP handshake", finding.source, connections(finding.count));
    if facts.silent > 0 && finding.state != State::Closed {
        let longest = seconds(facts.longest_silence);
        text += &format!(", {} silent right now, the longest for {longest}", facts.silent);
    }
    text
}

/// AT004.
pub fn churn(finding: &Finding, facts: &Facts) -> String {
    let (source, count, rate) = (finding.source, finding.count, average(finding));
    let life = facts
        .life
        .map_or_else(String::new, |life| format!(", half of which lived at most {}", seconds(life)));
    format!("{source} opened {count} sessions, {rate}{life}: a connection for each message")
}

/// AT005.
pub fn storm(finding: &Finding, facts: &Facts) -> String {
    let (source, peak) = (finding.source, facts.peak);
    format!("{source} reset {}, up to {peak:.0}/s", connections(finding.count))
}

/// AT006.
pub fn refused(finding: &Finding, _: &Facts) -> String {
    let (source, count, since) = (finding.source, times(finding.count), clock(finding.since));
    format!("{source} was refused {count} since {since}: nothing listens on the broker's port")
}

/// AT007.
pub fn queue_full(finding: &Finding, _: &Facts) -> String {
    let (source, what) = (finding.source, connections(finding.count));
    format!("{what} from {source} found the broker's accept queue full: the broker does not see them")
}

/// AT008.
pub fn foreign(finding: &Finding, _: &Facts) -> String {
    let (source, what) = (finding.source, connections(finding.count));
    format!("{source} spoke something else than AMQP 0-9-1 on {what}: HTTP, TLS or another protocol")
}

/// AT009.
pub fn torn(finding: &Finding, facts: &Facts) -> String {
    let share = finding.count as f64 * 100.0 / (facts.sessions.max(finding.count).max(1) as f64);
    format!(
        "{} reset {} of its {} sessions ({share:.0} %)",
        finding.source,
        finding.count,
        facts.sessions.max(finding.count)
    )
}

/// AT010.
pub fn lost(finding: &Finding, _: &Facts) -> String {
    let what = connections(finding.count);
    format!(
        "{what} from {} ended because it answered no more: keepalive or retransmission gave up",
        finding.source
    )
}

fn connections(count: u64) -> String {
    if count == 1 { "1 connection".to_owned() } else { format!("{count} connections") }
}

fn times(count: u64) -> String {
    if count == 1 { "once".to_owned() } else { format!("{count} times") }
}

/// How often: the clock if there is one, otherwise the average, and said to be that.
fn beat(finding: &Finding) -> String {
    finding.period.map_or_else(|| average(finding), |period| format!("every {}", seconds(period)))
}

fn average(finding: &Finding) -> String {
    let span = finding.last_seen.duration_since(finding.since).as_secs_f64();
    let rate = finding.count.saturating_sub(1) as f64 / span.max(1e-3);
    match rate {
        // No rate can be told of one connection, or of some at one moment.
        _ if span < 1e-3 || finding.count < 2 => "all at once".to_owned(),
        rate if rate >= 1.0 => format!("{rate:.1}/s on average"),
        rate => format!("every {:.1} s on average", 1.0 / rate),
    }
}

/// Seconds as people say them: to a tenth, and whole minutes and hours as such.
pub fn seconds(time: Duration) -> String {
    if time >= Duration::from_secs(120) {
        return humantime::format_duration(Duration::from_secs(time.as_secs())).to_string();
    }
    if time < Duration::from_secs(1) {
        return format!("{} ms", time.as_millis());
    }
    format!("{:.1} s", time.as_secs_f64())
}

/// A moment to the second.
fn clock(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}
