//! The probes. Built for the BPF target this is the object that the daemon carries inside; on any other target it is
//! an empty program, so that one workspace-wide clippy and test run covers this crate too.

#![cfg_attr(target_arch = "bpf", no_std, no_main)]
// Rust has no atomics for the BPF target, so the one that is needed is written as the instruction itself.
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

#[cfg(target_arch = "bpf")]
mod probes;

#[cfg(not(target_arch = "bpf"))]
fn main() {}
