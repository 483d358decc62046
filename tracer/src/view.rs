//! Pictures of the tally, for people.

pub mod table;
