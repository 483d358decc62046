//! The table of sources: pure text from sums.

use std::{cmp::Reverse, fmt::Write as _, net::IpAddr, time::Duration};

use comfy_table::{CellAlignment, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    loss::Loss,
    source::{Sums, Tally},
    verdict::Verdict,
};

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
            let _ = writeln!(text, "… and {} more sources (--rows shows more)", sources.len() - shown.len());
        }
    }
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
