//! The native record: one JSON object a line, `"schema":"amqptrace/1"` on each. docs/RECORDS.md describes every field.

use std::{collections::BTreeMap, io, net::IpAddr, time::Duration};

use jiff::Timestamp;
use serde::Serialize;
use tracer_ebpf::{Sent, errno};

use super::{Event, Origin, Window};
use crate::{
    broker::{Listener, OpenNow},
    finding::{Finding, Resolution, Severity, State},
    loss::Reason,
    pattern::Period,
    record::{Connection, Party},
    source::{LIFE_BOUNDS, Sums},
    verdict::Verdict,
};

const SCHEMA: &str = "amqptrace/1";

/// Appends `event` as one line.
pub fn encode(event: Event<'_>, origin: &Origin, line: &mut Vec<u8>) -> io::Result<()> {
    let source = |ip| SourceAddress { ip: Some(ip), prefix: origin.grouping.prefix(ip) };
    let body = match event {
        Event::Connection(connection, verdict, listener) => {
            Body::Connection(ConnectionBody::new(connection, verdict, listener))
        }
        Event::Source(window, ip, sums, period) => {
            Body::Source(SourceBody::new(window, source(ip), None, sums, period))
        }
        Event::Rest(window, rest) => {
            let nobody = SourceAddress { ip: None, prefix: None };
            Body::Source(SourceBody::new(window, nobody, Some(rest.folded), &rest.sums, None))
        }
        Event::Open(window, ip, open) => Body::Open(OpenBody::new(window, source(ip), open)),
        Event::Finding(window, finding) => {
            Body::Finding(FindingBody::new(window, source(finding.source), finding))
        }
        Event::Loss(window, loss) => Body::Loss(LossBody {
            time: window.end,
            window_start: window.start,
            window_end: window.end,
            reason: loss.reason,
            count: loss.count,
            summary: loss.summary(),
        }),
    };
    serde_json::to_writer(&mut *line, &Line { schema: SCHEMA, host: &origin.host, body })?;
    line.push(b'\n');
    Ok(())
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'static str,
    #[serde(flatten)]
    body: Body<'a>,
    host: &'a str,
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum Body<'a> {
    Connection(ConnectionBody<'a>),
    Source(SourceBody),
    Open(OpenBody),
    Finding(FindingBody<'a>),
    Loss(LossBody),
}

#[derive(Serialize)]
struct Endpoint {
    ip: IpAddr,
    port: u16,
}

#[derive(Serialize)]
struct ConnectionBody<'a> {
    time: Timestamp,
    verdict: Verdict,
    source: Endpoint,
    destination: Endpoint,
    established: Option<Timestamp>,
    duration_ns: Option<u64>,
    closed_by: Party,
    reset_by: Option<Party>,
    bytes_in: u64,
    bytes_out: u64,
    segments_in: u32,
    netns: u32,
    preexisting: bool,
    evidence: Evidence,
    listener: Option<ListenerBody<'a>>,
}

/// Who listened on the port when last looked.
#[derive(Serialize)]
struct ListenerBody<'a> {
    pid: u32,
    process: &'a str,
    container: Option<&'a str>,
    pod: Option<&'a str>,
    service: Option<&'a str>,
}

impl<'a> ListenerBody<'a> {
    fn new(listener: &'a Listener) -> Option<Self> {
        let owner = listener.owner.as_ref()?;
        Some(Self {
            pid: owner.pid,
            process: &owner.comm,
            container: owner.home.container.as_ref().map(|container| container.id.as_str()),
            pod: owner.home.pod.as_deref(),
            service: owner.home.service.as_deref(),
        })
    }
}

/// The facts that the verdict rests on.
#[derive(Serialize)]
struct Evidence {
    last_state: &'static str,
    fin_received: bool,
    source_sent: &'static str,
    broker_sent: &'static str,
    socket_error: Option<String>,
}

impl<'a> ConnectionBody<'a> {
    fn new(connection: &Connection, verdict: Verdict, listener: Option<&'a Listener>) -> Self {
        let endpoint = |address: std::net::SocketAddr| Endpoint { ip: address.ip(), port: address.port() };
        Self {
            time: connection.time,
            verdict,
            source: endpoint(connection.source),
            destination: endpoint(connection.destination),
            established: connection.established,
            duration_ns: connection.duration.map(nanoseconds),
            closed_by: connection.closed_by,
            reset_by: connection.reset_by,
            bytes_in: connection.bytes_in,
            bytes_out: connection.bytes_out,
            segments_in: connection.segments_in,
            netns: connection.netns,
            preexisting: connection.preexisting,
            evidence: Evidence {
                last_state: connection.last_state,
                fin_received: connection.fin_received,
                source_sent: sent(connection.outcome.source_sent),
                broker_sent: sent(connection.outcome.broker_sent),
                socket_error: (connection.error != 0).then(|| error_name(connection.error)),
            },
            listener: listener.and_then(ListenerBody::new),
        }
    }
}

#[derive(Serialize)]
struct SourceBody {
    window_start: Timestamp,
    window_end: Timestamp,
    source: SourceAddress,
    #[serde(skip_serializing_if = "Option::is_none")]
    folded: Option<u64>,
    connections: u64,
    verdicts: BTreeMap<&'static str, u64>,
    duration_ns: Histogram,
    unrecorded: u64,
    bytes_in: u64,
    bytes_out: u64,
    first_seen: Timestamp,
    last_seen: Timestamp,
    period_ns: Option<u64>,
    period_jitter: Option<f64>,
}

#[derive(Serialize)]
struct SourceAddress {
    ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<u8>,
}

/// `counts[i]` lived at most `bounds[i]` and longer than the bound before; the last count has no bound.
#[derive(Serialize)]
struct Histogram {
    bounds: [u64; LIFE_BOUNDS.len()],
    counts: [u64; LIFE_BOUNDS.len() + 1],
}

impl SourceBody {
    fn new(
        window: Window,
        source: SourceAddress,
        folded: Option<u64>,
        sums: &Sums,
        period: Option<Period>,
    ) -> Self {
        Self {
            window_start: window.start,
            window_end: window.end,
            source,
            folded,
            connections: sums.connections,
            verdicts: Verdict::ALL
                .into_iter()
                .filter(|verdict| sums.verdicts[*verdict as usize] > 0)
                .map(|verdict| (verdict.name(), sums.verdicts[verdict as usize]))
                .collect(),
            duration_ns: Histogram { bounds: LIFE_BOUNDS.map(nanoseconds), counts: sums.lives },
            unrecorded: sums.unrecorded,
            bytes_in: sums.bytes_in,
            bytes_out: sums.bytes_out,
            first_seen: sums.first_seen,
            last_seen: sums.last_seen,
            period_ns: period.map(|period| nanoseconds(period.length)),
            period_jitter: period.map(|period| (period.jitter * 1e4).round() / 1e4),
        }
    }
}

#[derive(Serialize)]
struct OpenBody {
    time: Timestamp,
    source: SourceAddress,
    open: u64,
    silent: u64,
    longest_silence_ns: Option<u64>,
}

impl OpenBody {
    fn new(window: Window, source: SourceAddress, open: &OpenNow) -> Self {
        Self {
            time: window.end,
            source,
            open: open.open,
            silent: open.silent,
            longest_silence_ns: open.longest_silence.map(nanoseconds),
        }
    }
}

#[derive(Serialize)]
struct FindingBody<'a> {
    time: Timestamp,
    id: &'a str,
    rule: RuleBody,
    state: State,
    severity: Severity,
    source: SourceAddress,
    since: Timestamp,
    last_seen: Timestamp,
    count: u64,
    period_ns: Option<u64>,
    resolution: Option<Resolution>,
    summary: &'a str,
    advice: &'static str,
}

#[derive(Serialize)]
struct RuleBody {
    code: &'static str,
    name: &'static str,
}

impl<'a> FindingBody<'a> {
    fn new(window: Window, source: SourceAddress, finding: &'a Finding) -> Self {
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

#[derive(Serialize)]
struct LossBody {
    time: Timestamp,
    window_start: Timestamp,
    window_end: Timestamp,
    reason: Reason,
    count: u64,
    summary: &'static str,
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

const fn sent(sent: Sent) -> &'static str {
    match sent {
        Sent::Nothing => "nothing",
        Sent::PartOfHeader => "part_of_header",
        Sent::Header => "header",
        Sent::More => "more_than_header",
    }
}

/// An error's name; one that TCP does not close with is given as its number.
fn error_name(error: u32) -> String {
    errno::name_of(error).map_or_else(|| error.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{grouping::Grouping, kernel::Clock, loss::Loss, source::Tally, verdict::judge};
    use jiff::SignedDuration;
    use tracer_ebpf::{ConnectionRecord, flag, kind, state};

    fn line(event: Event<'_>) -> String {
        let mut line = Vec::new();
        let origin = Origin { host: "broker-1\n\"".to_owned(), grouping: Grouping::default() };
        encode(event, &origin, &mut line).unwrap_or_else(|e| panic!("{e}"));
        String::from_utf8(line).unwrap_or_else(|e| panic!("{e}"))
    }

    fn probe() -> Connection {
        let record = ConnectionRecord {
            closed_ns: 2_000_000_000,
            established_ns: 1_999_950_000,
            source: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 2, 3],
            destination: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1],
            source_port: 40_000,
            destination_port: 5672,
            netns: 42,
            error: 104,
            flags: flag::RESET_RECEIVED,
            last_state: state::ESTABLISHED,
            kind: kind::CONNECTION,
            ..ConnectionRecord::default()
        };
        Connection::new(&record, Clock::from_offset(SignedDuration::from_secs(1_000_000_000)))
    }

    #[test]
    fn a_connection_is_one_line_with_every_field() {
        let connection = probe();
        assert_eq!(
            line(Event::Connection(&connection, judge(connection.outcome), None)),
            concat!(
                r#"{"schema":"amqptrace/1","type":"connection","time":"2001-09-09T01:46:42Z","verdict":"probe_reset","#,
                r#""source":{"ip":"10.1.2.3","port":40000},"destination":{"ip":"10.0.0.1","port":5672},"#,
                r#""established":"2001-09-09T01:46:41.99995Z","duration_ns":50000,"closed_by":"source","reset_by":"source","#,
                r#""bytes_in":0,"bytes_out":0,"segments_in":0,"netns":42,"preexisting":false,"#,
                r#""evidence":{"last_state":"ESTABLISHED","fin_received":false,"source_sent":"nothing","#,
                r#""broker_sent":"nothing","socket_error":"ECONNRESET"},"listener":null,"host":"broker-1\n\""}"#,
                "\n"
            )
        );
    }

    #[test]
    fn a_source_is_one_line_of_sums() {
        let mut tally = Tally::new(1);
        let connection = probe();
        tally.add(connection.source.ip(), &connection, Verdict::ProbeReset);
        tally.add(connection.source.ip(), &connection, Verdict::ProbeReset);
        let window = Window { start: connection.time, end: connection.time };
        let (ip, sums) = tally.sources().next().unwrap_or_else(|| panic!("one source"));
        let value: serde_json::Value = serde_json::from_str(&line(Event::Source(window, ip, sums, None)))
            .unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(value["type"], "source");
        assert_eq!(value["source"]["ip"], "10.1.2.3");
        assert_eq!(value["verdicts"], serde_json::json!({"probe_reset": 2}));
        assert_eq!(value["duration_ns"]["counts"], serde_json::json!([2, 0, 0, 0, 0, 0, 0, 0, 0, 0]));
        assert!(value.get("folded").is_none());
    }

    #[test]
    fn a_loss_says_what_was_lost() {
        let connection = probe();
        let window = Window { start: connection.time, end: connection.time };
        let lost = Loss { reason: Reason::RingFull, count: 12 };
        let text = line(Event::Loss(window, lost));
        assert!(
            text.contains(r#""type":"loss","#) && text.contains(r#""reason":"ring_full","count":12,"#),
            "{text}"
        );
    }
}
