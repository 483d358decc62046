//! What there is to say, and the formats to say it in. An encoder turns one [`Event`] into one line.

pub mod json;

use std::net::IpAddr;

use jiff::Timestamp;

use crate::{
    broker::{Listener, OpenNow},
    finding::Finding,
    grouping::Grouping,
    loss::Loss,
    names::Names,
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
#[derive(Debug)]
pub struct Origin {
    /// This host's name.
    pub host: String,
    /// Which addresses are one source.
    pub grouping: Grouping,
    /// What they are called, if that was asked for.
    pub names: Option<Names>,
}

impl Origin {
    /// A source as people want it: its address or prefix, and its name if it has one.
    pub fn name(&self, source: IpAddr) -> String {
        let address = self.grouping.name(source);
        match self.names.as_ref().and_then(|names| names.get(source)) {
            Some(name) => format!("{address} ({name})"),
            None => address,
        }
    }
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
