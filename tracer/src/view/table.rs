//! The table of sources: pure text from sums.

use std::{cmp::Reverse, fmt::Write as _, net::IpAddr, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    loss::Loss,
    source::{Sums, Tally},
    verdict::Verdict,
};

/// An operator who looks for a source here and does not find it should know what cannot be found here.
const NOT_OBSERVED: &str = "not observed: half-open checks (HAProxy's default), refused connections\n";

/// What a table shows.
pub struct Content<'a> {
    /// Sums since the start.
    pub total: &'a Tally,
    /// Sums of the last window, for the rate.
    pub window: &'a Tally,
    /// Length of the last window.
    pub window_length: Duration,
    /// When tracing began.
    pub since: Timestamp,
    /// When the window ended.
    pub now: Timestamp,
    /// Everything not seen in detail since the start.
    pub losses: &'a [Loss],
    /// The most sources to show.
    pub rows: usize,
    /// The zone of the times shown.
    pub zone: &'a TimeZone,
}

/// Renders the table, worst source first.
pub fn render(content: &Content<'_>) -> String {
    let mut sources: Vec<(IpAddr, &Sums)> = content.total.sources().collect();
    sources.sort_by_key(|(ip, sums)| (Reverse(sums.offences()), Reverse(sums.connections), *ip));
    let shown = &sources[..sources.len().min(content.rows)];
    let rest = content.total.rest();

    let all = shown.iter().map(|(_, sums)| *sums).chain(rest.map(|rest| &rest.sums));
    let columns: Vec<Verdict> = Verdict::ALL
        .into_iter()
        .filter(|verdict| all.clone().any(|sums| sums.verdicts[*verdict as usize] > 0))
        .collect();

    let mut text = heading(content);
    if sources.is_empty() && rest.is_none() {
        text.push_str("no connection to a watched port has ended yet\n");
    } else {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let mut head = vec!["SOURCE".to_owned(), "CONNECTIONS".to_owned()];
        head.extend(columns.iter().map(|verdict| verdict.name().to_uppercase()));
        head.extend(["RATE/S".to_owned(), "LAST SEEN".to_owned()]);
        table.set_header(head);
        for (ip, sums) in shown {
            let in_window = content.window.get(*ip).map_or(0, |sums| sums.connections);
            table.add_row(row(ip.to_string(), sums, in_window, &columns, content));
        }
        if let Some(rest) = rest {
            let in_window = content.window.rest().map_or(0, |rest| rest.sums.connections);
            table.add_row(row("other".to_owned(), &rest.sums, in_window, &columns, content));
        }
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        for line in table.lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
        if sources.len() > shown.len() {
            let more = sources.len() - shown.len();
            let _ = writeln!(text, "… and {more} more source{} (--rows shows more)", plural(more as u64));
        }
    }
    text.push_str(NOT_OBSERVED);
    for loss in content.losses {
        let _ = writeln!(text, "not seen in detail: {} ({})", loss.count, loss.summary());
    }
    text
}

fn heading(content: &Content<'_>) -> String {
    let connections = content.total.connections();
    let sources = content.total.sources().count();
    format!(
        "{} — {connections} connection{} from {sources} source{} since {}\n",
        clock(content.now, content.zone),
        plural(connections),
        plural(sources as u64),
        clock(content.since, content.zone),
    )
}

fn row(name: String, sums: &Sums, in_window: u64, columns: &[Verdict], content: &Content<'_>) -> Vec<String> {
    let mut cells = vec![name, sums.connections.to_string()];
    cells.extend(columns.iter().map(|verdict| match sums.verdicts[*verdict as usize] {
        0 => "·".to_owned(),
        count => count.to_string(),
    }));
    let seconds = content.window_length.as_secs_f64();
    // Counts beyond 2^52 would lose their last digit here; no window holds so many.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with two digits")]
    let rate = if seconds > 0.0 { in_window as f64 / seconds } else { 0.0 };
    cells.extend([format!("{rate:.2}"), clock(sums.last_seen, content.zone)]);
    cells
}

fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::Clock, loss::Reason, record::Connection, verdict::judge};
    use jiff::SignedDuration;
    use tracer_ebpf::{ConnectionRecord, flag, state};

    /// `count` connections from 10.0.0.`last` that end in `last_state` with `bytes_in`.
    fn add(tally: &mut Tally, last: u8, count: u64, last_state: u8, flags: u16, bytes_in: u64) {
        let source = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, last];
        let record = ConnectionRecord {
            source,
            last_state,
            flags,
            bytes_in,
            bytes_out: bytes_in * 2,
            closed_ns: 3_600_000_000_000,
            established_ns: 1,
            ..ConnectionRecord::default()
        };
        let connection = Connection::new(&record, Clock::from_offset(SignedDuration::ZERO));
        for _ in 0..count {
            tally.add(&connection, judge(connection.outcome));
        }
    }

    fn rendered(total: &Tally, losses: &[Loss], rows: usize) -> String {
        render(&Content {
            total,
            window: total,
            window_length: Duration::from_secs(10),
            since: Timestamp::UNIX_EPOCH,
            now: Timestamp::from_second(10).unwrap_or_default(),
            losses,
            rows,
            zone: &TimeZone::UTC,
        })
    }

    #[test]
    fn the_worst_source_is_first_and_only_verdicts_that_occur_have_a_column() {
        let mut tally = Tally::new(10);
        add(&mut tally, 1, 500, state::LAST_ACK, flag::FIN_RECEIVED, 100);
        add(&mut tally, 2, 3, state::ESTABLISHED, flag::RESET_RECEIVED, 0);
        add(&mut tally, 3, 40, state::ESTABLISHED, flag::RESET_RECEIVED, 0);
        assert_eq!(
            rendered(&tally, &[], 50),
            "00:00:10 — 543 connections from 3 sources since 00:00:00
 SOURCE    CONNECTIONS  PROBE_RESET  SESSION  RATE/S  LAST SEEN
 10.0.0.3           40           40        ·    4.00   01:00:00
 10.0.0.2            3            3        ·    0.30   01:00:00
 10.0.0.1          500            ·      500   50.00   01:00:00
not observed: half-open checks (HAProxy's default), refused connections
"
        );
    }

    #[test]
    fn what_is_left_out_is_said() {
        let mut tally = Tally::new(2);
        for last in 1..=9 {
            add(&mut tally, last, last.into(), state::ESTABLISHED, flag::RESET_RECEIVED, 0);
        }
        let lost = Loss { reason: Reason::RingFull, count: 7 };
        let text = rendered(&tally, &[lost], 1);
        assert!(text.contains("\n other              28 "), "{text}");
        assert!(text.contains("… and 1 more source (--rows shows more)"), "{text}");
        assert!(text.contains("not seen in detail: 7 (the ring was full"), "{text}");
    }

    #[test]
    fn an_empty_table_says_so() {
        assert!(rendered(&Tally::new(1), &[], 50).contains("no connection to a watched port has ended yet"));
    }
}
