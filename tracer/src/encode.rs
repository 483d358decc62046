//! What there is to say, and the formats to say it in. An encoder turns one [`Event`] into one line.

pub mod json;

use jiff::Timestamp;

use crate::{
    loss::Loss,
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

/// One thing to write.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A finished connection.
    Connection(&'a Connection, Verdict),
    /// A source's sums over a window.
    Source(Window, std::net::IpAddr, &'a Sums),
    /// The sums of the sources that did not fit.
    Rest(Window, &'a Rest),
    /// Something that was not seen in detail.
    Loss(Window, Loss),
}
