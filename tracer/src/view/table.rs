//! The table of sources and what they do wrong: pure text from sums.

mod findings;
#[cfg(test)]
mod tests;

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    fmt::Write as _,
    net::IpAddr,
    time::Duration,
};

use comfy_table::{CellAlignment, Table, presets};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    broker::{Listener, OpenNow},
    finding::Finding,
    loss::Loss,
    pattern::Period,
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
    /// What each source holds open.
    pub open: &'a HashMap<IpAddr, OpenNow>,
    /// Who listens on the watched ports.
    pub listeners: &'a [Listener],
    /// Which sources are clocks.
    pub periods: &'a HashMap<IpAddr, Period>,
    /// What the sources do wrong now, and what has just ended.
    pub findings: &'a [&'a Finding],
    /// Everything not seen in detail since the start.
    pub losses: &'a [Loss],
    /// Kinds of attempts that this kernel does not let be observed: an operator who looks for a source here and does not
    /// find it should know what cannot be found here.
    pub not_observed: &'a [&'a str],
    /// What a source is called.
    pub name: &'a dyn Fn(IpAddr) -> String,
    /// The most sources to show.
    pub rows: usize,
    /// The zone of the times shown.
    pub zone: &'a TimeZone,
}

/// One row: a source with what ended and what is open of it.
struct Row<'a> {
    name: String,
    sums: Option<&'a Sums>,
    in_window: u64,
    period: Option<Period>,
    open: OpenNow,
}

impl Row<'_> {
    fn offences(&self) -> u64 {
        self.sums.map_or(0, Sums::offences) + self.open.silent
    }

    fn connections(&self) -> u64 {
        self.sums.map_or(0, |sums| sums.connections)
    }
}

/// Renders the table, worst source first.
pub fn render(content: &Content<'_>) -> String {
    let (rows, more) = rows(content);
    let mut text = heading(content);
    for listener in content.listeners {
        let _ = writeln!(text, "listening: {listener}");
    }
    if rows.is_empty() {
        text.push_str("no connection to a watched port is open, or has ended or failed yet\n");
    } else {
        for line in table(&rows, content).lines() {
            text.push_str(line.trim_end());
            text.push('\n');
        }
    }
    if more > 0 {
        let _ = writeln!(text, "… and {more} more source{} (--rows shows more)", plural(more as u64));
    }
    text.push_str(&findings::render(content.findings, content.rows));
    if !content.not_observed.is_empty() {
        let _ = writeln!(
            text,
            "not observed on this kernel: {} (amqptrace doctor says why)",
            content.not_observed.join(", ")
        );
    }
    for loss in content.losses {
        let _ = writeln!(text, "not seen in detail: {} ({})", loss.count, loss.summary());
    }
    text
}

/// The rows to show, the rest among them, and how many sources there are beside.
fn rows<'a>(content: &Content<'a>) -> (Vec<Row<'a>>, usize) {
    let ended = content.total.sources().map(|(source, _)| source);
    let all: BTreeSet<IpAddr> = ended.chain(content.open.keys().copied()).collect();
    let mut rows: Vec<Row<'a>> = all
        .into_iter()
        .map(|source| Row {
            name: (content.name)(source),
            sums: content.total.get(source),
            in_window: content.window.get(source).map_or(0, |sums| sums.connections),
            period: content.periods.get(&source).copied(),
            open: content.open.get(&source).copied().unwrap_or_default(),
        })
        .collect();
    // Stable: of two as bad the lower address comes first.
    rows.sort_by_key(|row| (Reverse(row.offences()), Reverse(row.connections()), Reverse(row.open.open)));
    let more = rows.len().saturating_sub(content.rows);
    rows.truncate(content.rows);
    rows.extend(content.total.rest().map(|rest| Row {
        name: "other".to_owned(),
        sums: Some(&rest.sums),
        in_window: content.window.rest().map_or(0, |rest| rest.sums.connections),
        period: None,
        open: OpenNow::default(),
    }));
    (rows, more)
}

/// Only columns that say something of somebody.
fn table(rows: &[Row<'_>], content: &Content<'_>) -> Table {
    let count = |row: &Row<'_>, verdict: Verdict| row.sums.map_or(0, |sums| sums.verdicts[verdict as usize]);
    let verdicts: Vec<Verdict> =
        Verdict::ALL.into_iter().filter(|verdict| rows.iter().any(|row| count(row, *verdict) > 0)).collect();
    let (periods, open) =
        (rows.iter().any(|row| row.period.is_some()), rows.iter().any(|row| row.open.open > 0));

    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    let mut head = vec!["SOURCE".to_owned(), "CONNECTIONS".to_owned()];
    head.extend(verdicts.iter().map(|verdict| verdict.name().to_uppercase()));
    head.push("RATE/S".to_owned());
    head.extend(periods.then(|| "PERIOD".to_owned()));
    head.extend(open.then(|| ["OPEN", "SILENT"].map(str::to_owned)).into_iter().flatten());
    head.push("LAST SEEN".to_owned());
    table.set_header(head);
    for row in rows {
        let mut cells = vec![row.name.clone(), some(row.connections())];
        cells.extend(verdicts.iter().map(|verdict| some(count(row, *verdict))));
        cells.push(rate(row.in_window, content.window_length));
        cells.extend(periods.then(|| row.period.map_or_else(nothing, |period| seconds(period.length))));
        cells.extend(open.then(|| [some(row.open.open), silent(&row.open)]).into_iter().flatten());
        cells.push(row.sums.map_or_else(nothing, |sums| clock(sums.last_seen, content.zone)));
        table.add_row(cells);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
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

fn nothing() -> String {
    "·".to_owned()
}

fn some(count: u64) -> String {
    if count == 0 { nothing() } else { count.to_string() }
}

/// How many are silent, and the longest for how long.
fn silent(open: &OpenNow) -> String {
    match open.longest_silence {
        Some(longest) if open.silent > 0 => format!("{} ({})", open.silent, seconds(longest)),
        _ => some(open.silent),
    }
}

fn rate(count: u64, over: Duration) -> String {
    let seconds = over.as_secs_f64();
    // Counts beyond 2^52 would lose their last digit here; no window holds so many.
    #[expect(clippy::cast_precision_loss, reason = "a rate is shown with two digits")]
    let rate = if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    format!("{rate:.2}")
}

/// A time with as many digits as its size deserves.
fn seconds(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        ..0.1 => format!("{seconds:.3} s"),
        0.1..10.0 => format!("{seconds:.1} s"),
        10.0..120.0 => format!("{seconds:.0} s"),
        120.0..7_200.0 => format!("{:.0} min", seconds / 60.0),
        _ => format!("{:.0} h", seconds / 3600.0),
    }
}

fn clock(time: Timestamp, zone: &TimeZone) -> String {
    time.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string()
}

const fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}
