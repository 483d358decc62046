//! `type: "source"` and `type: "open"`: what one source did in a window, and what it holds open at its end.

use std::{collections::BTreeMap, net::IpAddr};

use jiff::Timestamp;
use serde::Serialize;

use super::nanoseconds;
use crate::{
    broker::OpenNow,
    encode::Window,
    pattern::Period,
    source::{LIFE_BOUNDS, Sums},
    verdict::Verdict,
};

#[derive(Serialize)]
pub(super) struct SourceBody<'a> {
    window_start: Timestamp,
    window_end: Timestamp,
    source: SourceAddress<'a>,
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
pub(super) struct SourceAddress<'a> {
    pub(super) ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) prefix: Option<u8>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) name: Option<&'a str>,
}

/// `counts[i]` lived at most `bounds[i]` and longer than the bound before; the last count has no bound.
#[derive(Serialize)]
struct Histogram {
    bounds: [u64; LIFE_BOUNDS.len()],
    counts: [u64; LIFE_BOUNDS.len() + 1],
}

impl<'a> SourceBody<'a> {
    pub(super) fn new(
        window: Window,
        source: SourceAddress<'a>,
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
pub(super) struct OpenBody<'a> {
    time: Timestamp,
    source: SourceAddress<'a>,
    open: u64,
    silent: u64,
    longest_silence_ns: Option<u64>,
}

impl<'a> OpenBody<'a> {
    pub(super) fn new(window: Window, source: SourceAddress<'a>, open: &OpenNow) -> Self {
        Self {
            time: window.end,
            source,
            open: open.open,
            silent: open.silent,
            longest_silence_ns: open.longest_silence.map(nanoseconds),
        }
    }
}
