//! The native record: one JSON object a line, `"schema":"amqptrace/1"` on each. docs/RECORDS.md describes every field.

mod connection;
mod finding;
mod source;

use std::{io, time::Duration};

use jiff::Timestamp;
use serde::Serialize;

use self::{
    connection::ConnectionBody,
    finding::FindingBody,
    source::{OpenBody, SourceAddress, SourceBody},
};
use super::{Event, Origin};
use crate::loss::Reason;

const SCHEMA: &str = "amqptrace/1";

/// Appends `event` as one line.
pub fn encode(event: Event<'_>, origin: &Origin, line: &mut Vec<u8>) -> io::Result<()> {
    let name = |ip| origin.names.as_ref().and_then(|names| names.get(ip));
    let source = |ip| SourceAddress { ip: Some(ip), prefix: origin.grouping.prefix(ip), name: name(ip) };
    let body = match event {
        Event::Connection(connection, verdict, listener) => {
            Body::Connection(ConnectionBody::new(connection, verdict, listener))
        }
        Event::Source(window, ip, sums, period) => {
            Body::Source(SourceBody::new(window, source(ip), None, sums, period))
        }
        Event::Rest(window, rest) => {
            let nobody = SourceAddress { ip: None, prefix: None, name: None };
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
    Source(SourceBody<'a>),
    Open(OpenBody<'a>),
    Finding(FindingBody<'a>),
    Loss(LossBody),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        encode::Window,
        grouping::Grouping,
        kernel::Clock,
        loss::Loss,
        record::Connection,
        source::Tally,
        verdict::{Verdict, judge},
    };
    use jiff::SignedDuration;
    use tracer_ebpf::{ConnectionRecord, flag, kind, state};

    fn line(event: Event<'_>) -> String {
        let mut line = Vec::new();
        let origin = Origin { host: "broker-1\n\"".to_owned(), grouping: Grouping::default(), names: None };
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
