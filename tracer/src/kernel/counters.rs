//! The kernel side's own counts, summed over the CPUs, and what the daemon could not read.

use std::{
    fs,
    os::fd::{AsFd as _, AsRawFd as _},
};

use anyhow::Context as _;
use aya::{
    maps::{MapData, PerCpuArray},
    programs::ProgramFd,
};
use tracer_ebpf::Counter;

/// Totals since the probes were attached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    totals: [u64; Counter::ALL.len()],
    /// State changes that no program saw, because the kernel skips one that is running on the same CPU already.
    pub skipped: u64,
    /// Records that the daemon could not decode.
    pub undecodable: u64,
}

impl Counters {
    /// Reads the totals; `set_state` is the first program on `inet_sock_set_state`.
    pub(super) fn read(
        slots: &PerCpuArray<MapData, u64>,
        set_state: &ProgramFd,
        undecodable: u64,
    ) -> anyhow::Result<Self> {
        let mut totals = [0; Counter::ALL.len()];
        for (counter, total) in Counter::ALL.into_iter().zip(&mut totals) {
            let per_cpu =
                slots.get(&counter.slot(), 0).with_context(|| format!("cannot read counter {counter:?}"))?;
            *total = per_cpu.iter().sum();
        }
        let rescued = totals[Counter::Rescued.slot() as usize];
        // A reset whose probe was skipped is still told by the socket's error, so only state changes can be missed.
        Ok(Self { totals, skipped: skipped(set_state).saturating_sub(rescued), undecodable })
    }

    /// Given totals.
    #[cfg(test)]
    pub fn of(given: &[(Counter, u64)], skipped: u64, undecodable: u64) -> Self {
        let mut totals = [0; Counter::ALL.len()];
        for (counter, total) in given {
            totals[counter.slot() as usize] = *total;
        }
        Self { totals, skipped, undecodable }
    }

    /// One counter's total.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.totals[counter.slot() as usize]
    }

    /// What was added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            totals: std::array::from_fn(|i| self.totals[i].saturating_sub(earlier.totals[i])),
            skipped: self.skipped.saturating_sub(earlier.skipped),
            undecodable: self.undecodable.saturating_sub(earlier.undecodable),
        }
    }

    /// Whether every connection that was seen end is accounted for: in the ring, or as one that did not fit.
    pub const fn settled(&self) -> bool {
        self.get(Counter::Seen) == self.get(Counter::Sent) + self.get(Counter::RingFull)
    }
}

/// `recursion_misses` of a program; aya does not give it, its file descriptor's information does. Kernels before 5.12
/// do not skip, and have no such line.
fn skipped(program: &ProgramFd) -> u64 {
    let path = format!("/proc/self/fdinfo/{}", program.as_fd().as_raw_fd());
    fs::read_to_string(path)
        .ok()
        .and_then(|info| {
            info.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse().ok())
        })
        .unwrap_or(0)
}
