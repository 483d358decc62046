//! What there is to say, and the formats to say it in. An encoder turns one [`Event`] into one line.

pub mod json;

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{
    broker::{Listener, OpenNow},
    finding::Finding,
    grouping::Grouping,
    loss::Loss,
    pattern::Period,
    record::Connection,
    source::{Rest, Sums},
    verdict::Verdict,
};

/// A span of time that a summary is about.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// Its beginning.
    pub start: Timestamp,
    /// Its end.
    pub end: Timestamp,
}

/// Who says it, and what a source is.
#[derive(Clone, Debug)]
pub struct Origin {
    /// This host's name.
    pub host: String,
    /// Which addresses are one source.
    pub grouping: Grouping,
}

/// One thing to write.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A finished connection or failed attempt, and who listens for such.
    Connection(&'a Connection, Verdict, Option<&'a Listener>),
    /// A source's sums over a window, and its clock, if it is one.
    Source(Window, IpAddr, &'a Sums, Option<Period>),
    /// The sums of the sources that did not fit.
    Rest(Window, &'a Rest),
    /// What a source holds open at the end of a window.
    Open(Window, IpAddr, &'a OpenNow),
    /// What a source does wrong.
    Finding(Window, &'a Finding),
    /// Something that was not seen in detail.
    Loss(Window, Loss),
}
