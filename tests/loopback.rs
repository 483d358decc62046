//! What needs nothing but loopback: counting, verdicts, the record's fields, and how the tracer begins and ends. These
//! tests also run in guests with other kernels.

mod addresses;
mod attempts;
mod counting;
mod ending;
mod older;
mod open;
mod output;
mod overflow;
mod ports;
mod verdicts;
