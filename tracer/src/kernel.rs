//! The only user of aya: puts the probes into the running kernel and takes out what they write.

mod attempts;
mod clock;
mod counters;
mod features;
mod load;
mod log;
mod offsets;
mod overflow;
mod version;

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
    programs::ProgramFd,
};
use aya_log::EbpfLogger;
use tokio::io::{Interest, unix::AsyncFd};
use tracer_ebpf::{ConnectionRecord, Counter, name};

use crate::record::decode;
pub use attempts::Attempts;
pub use clock::Clock;
pub use counters::Counters;
pub use features::{missing_tracepoints, ring_buffer, socket_storage};
pub use load::{LoadError, Options, StateStore};
pub use offsets::{Offsets, OffsetsError, VMLINUX};
pub use overflow::Overflowed;
pub use version::version;
use {log::KernelLog, overflow::OverflowTable};

/// How many records [`Kernel::drain`] takes at most, so that their lines need little memory, and a slow reader of them
/// does not hold up signals and windows for long.
pub const BATCH: usize = 1024;

/// The running probes. Dropping it detaches them and frees every map.
pub struct Kernel {
    /// Holds the programs; `None` once they are detached.
    ebpf: Option<Ebpf>,
    records: AsyncFd<RingBuf<MapData>>,
    counters: PerCpuArray<MapData, u64>,
    overflow: OverflowTable,
    /// The first program on `inet_sock_set_state`, which the kernel says how often it skipped.
    set_state: ProgramFd,
    log: Option<EbpfLogger<KernelLog>>,
    undecodable: u64,
    state: StateStore,
    attempts: Attempts,
}

impl Kernel {
    /// Loads and attaches everything; on error nothing stays behind. Must be called inside a tokio runtime.
    pub fn attach(options: &Options) -> Result<Self, LoadError> {
        let mut loaded = load::load(options)?;
        let ebpf = &mut loaded.ebpf;
        let log =
            if options.kernel_log { Some(EbpfLogger::init_with_logger(ebpf, KernelLog)?) } else { None };
        let ring = load::take::<RingBuf<MapData>>(ebpf, name::RECORDS)?;
        // SAFETY: aya's ring owns its descriptor and keeps the same one open until it is dropped.
        let records = unsafe { AsyncFd::register_with_interest(ring, Interest::READABLE) }
            .map_err(|error| LoadError::Wait(error.into()))?;
        let counters = load::take(ebpf, name::COUNTERS)?;
        let overflow =
            OverflowTable::new(load::take(ebpf, name::OVERFLOW)?, load::take(ebpf, name::GENERATION)?);
        let load::Attached { set_state, attempts } = load::attach(&mut loaded)?;
        let load::Loaded { ebpf, state, .. } = loaded;
        let ebpf = Some(ebpf);
        Ok(Self { ebpf, records, counters, overflow, set_state, log, undecodable: 0, state, attempts })
    }

    /// Where the state of a connection lives between its tracepoints when it has no slot.
    pub const fn state(&self) -> StateStore {
        self.state
    }

    /// How attempts that never become a connection are observed.
    pub const fn attempts(&self) -> &Attempts {
        &self.attempts
    }

    /// Waits until the kernel says that the ring is filling up. It says so once, at a quarter of the ring; what is
    /// below that is taken on the caller's own timer.
    pub async fn filling(&self) -> std::io::Result<()> {
        self.records.readable().await.map(|mut ready| ready.clear_ready())
    }

    /// Takes up to [`BATCH`] records out of the ring, in the order the kernel wrote them; returns whether it was emptied.
    /// What cannot be decoded is counted.
    pub fn drain(&mut self, mut each: impl FnMut(&ConnectionRecord)) -> bool {
        if let Some(log) = &mut self.log {
            log.flush();
        }
        let ring = self.records.get_mut();
        for _ in 0..BATCH {
            match ring.next() {
                Some(bytes) => match decode(&bytes) {
                    Ok(record) => each(&record),
                    Err(_) => self.undecodable += 1,
                },
                None => return true,
            }
        }
        false
    }

    /// Takes the sums of what found the ring full; see [`overflow`] for why they come a drain late.
    pub fn drain_overflow(&mut self, counters: &Counters) -> anyhow::Result<Vec<Overflowed>> {
        let put = counters.get(Counter::RingFull).saturating_sub(counters.get(Counter::OverflowFull));
        if self.ebpf.is_some() {
            self.overflow.drain(put, Clock::now())
        } else {
            self.overflow.drain_all(Clock::now())
        }
    }

    /// The totals since the probes were attached, and of what could not be decoded.
    pub fn counters(&self) -> anyhow::Result<Counters> {
        Counters::read(&self.counters, &self.set_state, self.undecodable)
    }

    /// Detaches the probes; what they wrote is still there to be drained.
    pub fn detach(&mut self) {
        self.ebpf = None;
    }
}
