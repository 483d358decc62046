//! Loads the probes that the binary carries, attaches them, and hands out what they write.

use std::{fmt, io};

use aya::{
    Btf, BtfError, Ebpf, EbpfError, EbpfLoader, include_bytes_aligned,
    maps::{Map, MapError},
    programs::{BtfTracePoint, Program, ProgramError, ProgramFd},
};
use rustix::process::{Resource, Rlimit, setrlimit};
use thiserror::Error;
use tracer_ebpf::{PortSet, name};

use super::{
    Offsets, OffsetsError,
    attempts::{self, Attempts, DropReasons},
    offsets,
    version::tracepoints_are_preemptible,
};

/// The BPF object, built by this package's build script.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/probes"));

/// The tracepoints of connections; the program on each has its name.
pub(super) const TRACEPOINTS: [&str; 3] = [name::RECEIVE_RESET, name::SEND_RESET, name::SET_STATE];

/// Each program that every kernel needs, with its tracepoint, the resets first: a connection whose end is seen has had
/// its resets seen. The further programs on `inet_sock_set_state` come last: the kernel runs them in this order.
fn programs() -> impl Iterator<Item = (&'static str, &'static str)> {
    let again = tracepoints_are_preemptible().then_some(name::SET_STATE_AGAIN);
    let again = again.into_iter().flatten().map(|program| (program, name::SET_STATE));
    TRACEPOINTS.into_iter().map(|tracepoint| (tracepoint, tracepoint)).chain(again)
}

/// Whether the table of slots may be used. Its claims need strongly ordered memory; and where the kernel skips probes,
/// a slot whose socket's end went unseen would be in the way of the next.
fn slots_are_sound() -> bool {
    cfg!(target_arch = "x86_64") && !tracepoints_are_preemptible()
}

/// aya-log's own map, shrunk to a page while nobody asks for its lines.
const KERNEL_LOG_MAP: &str = "AYA_LOGS";
const PAGE: u32 = 4096;

/// What the probes are told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The watched ports.
    pub ports: PortSet,
    /// Size of the ring: a power of two, at least a page.
    pub ring_bytes: u32,
    /// Pass the probes' own debug lines on to the log.
    pub kernel_log: bool,
}

/// Where the state of a connection lives between its tracepoints when it has no slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateStore {
    /// In the socket, freed with it: kernels since 5.11.
    SocketStorage,
    /// In an LRU hash of 65,536 sockets; beyond that the oldest are forgotten and look older than the tracer.
    LruHash,
}

impl fmt::Display for StateStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SocketStorage => "socket storage",
            Self::LruHash => "LRU hash",
        })
    }
}

/// Why the probes are not running.
#[derive(Debug, Error)]
pub enum LoadError {
    /// Structure offsets.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// The kernel's types, which tell where tracepoints are.
    #[error("cannot read the kernel's BTF: {0}")]
    KernelTypes(#[from] BtfError),
    /// The object or its maps.
    #[error("the kernel does not take the probes' maps: {0}")]
    Maps(String),
    /// One program was refused at load.
    #[error("the kernel refuses the probe on {0}: {1}")]
    Refused(&'static str, String),
    /// Tracing programs of this kernel may not use socket storage: before 5.11.
    #[error("this kernel's tracing programs have no socket storage")]
    NoSocketStorage,
    /// One program was refused at attach.
    #[error("cannot attach to the tracepoint {0}: {1}")]
    Attach(&'static str, String),
    /// The object lacks what the daemon expects: they were not built together.
    #[error("the BPF object inside this binary has no {0}")]
    Object(&'static str),
    /// A map cannot be used from here.
    #[error("cannot use the map {0}: {1}")]
    Map(&'static str, #[source] MapError),
    /// The ring cannot be waited on.
    #[error("cannot wait for records: {0}")]
    Wait(#[from] io::Error),
    /// The probes' debug lines cannot be read.
    #[error("cannot read the probes' debug lines: {0}")]
    Log(#[from] aya_log::Error),
}

/// The probes as loaded, and where they keep their state.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) state: StateStore,
    btf: Btf,
    reasons: DropReasons,
}

/// What the probes are told of this kernel.
struct Facts {
    offsets: Offsets,
    reasons: DropReasons,
}

/// Loads every program; on error nothing stays behind.
pub(super) fn load(options: &Options) -> Result<Loaded, LoadError> {
    // Kernels before 5.11 count maps against this limit. Where it cannot be raised the maps' creation says so.
    let _: rustix::io::Result<()> = setrlimit(Resource::Memlock, Rlimit { current: None, maximum: None });
    let types = offsets::open()?;
    let facts = Facts { offsets: Offsets::of(&types)?, reasons: DropReasons::of(&types) };
    drop(types);
    let btf = Btf::from_sys_fs()?;
    let (ebpf, state) = match load_with(options, &facts, &btf, StateStore::SocketStorage) {
        Err(LoadError::NoSocketStorage) => {
            (load_with(options, &facts, &btf, StateStore::LruHash)?, StateStore::LruHash)
        }
        result => (result?, StateStore::SocketStorage),
    };
    Ok(Loaded { ebpf, state, btf, reasons: facts.reasons })
}

fn load_with(options: &Options, facts: &Facts, btf: &Btf, state: StateStore) -> Result<Ebpf, LoadError> {
    let in_socket = u8::from(state == StateStore::SocketStorage);
    let slots = u8::from(slots_are_sound());
    let repeated = u8::from(tracepoints_are_preemptible());
    let wake_at = u64::from(options.ring_bytes / 4);
    let log_level = if options.kernel_log { u8::MAX } else { 0 };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(btf))
        .override_global(name::OFFSETS, &facts.offsets.0, true)
        .override_global(name::PORTS, options.ports.words(), true)
        .override_global(name::SOCKET_STORAGE, &in_socket, true)
        .override_global(name::SOCKET_SLOTS, &slots, true)
        .override_global(name::REPEATED, &repeated, true)
        .override_global(name::DROP_WITHOUT_LISTENER, &facts.reasons.without_listener, true)
        .override_global(name::DROP_OF_HALF_OPEN, &facts.reasons.half_open, true)
        .override_global(name::DROP_OF_COOKIE, &facts.reasons.cookie, true)
        .override_global(name::DROP_WITHOUT_ROOM, &facts.reasons.without_room, true)
        .override_global(name::WAKE_AT, &wake_at, true)
        .override_global(aya_log::LEVEL, &log_level, true)
        .map_max_entries(name::RECORDS, options.ring_bytes);
    if state == StateStore::SocketStorage {
        loader.map_max_entries(name::SOCKETS_HASH, 1);
    }
    if !slots_are_sound() {
        loader.map_max_entries(name::SLOTS, 1);
    }
    if !options.kernel_log {
        loader.map_max_entries(KERNEL_LOG_MAP, PAGE);
    }
    let mut ebpf = loader.load(OBJECT).map_err(|error| LoadError::Maps(maps_refusal(&error)))?;
    for (program, tracepoint) in programs() {
        probe::<BtfTracePoint>(&mut ebpf, program)?
            .load(tracepoint, btf)
            .map_err(|error| load_refused(program, &error))?;
    }
    Ok(ebpf)
}

/// The probes once they run.
pub(super) struct Attached {
    /// The first program on `inet_sock_set_state`.
    pub(super) set_state: ProgramFd,
    /// How attempts are observed.
    pub(super) attempts: Attempts,
}

/// Attaches every program; they stay attached as long as `ebpf` lives.
pub(super) fn attach(loaded: &mut Loaded) -> Result<Attached, LoadError> {
    let Loaded { ebpf, btf, reasons, .. } = loaded;
    let attempts = attempts::attach(ebpf, btf, *reasons);
    for (program, tracepoint) in programs() {
        probe::<BtfTracePoint>(ebpf, program)?
            .attach()
            .map_err(|error| LoadError::Attach(tracepoint, refusal(&error)))?;
    }
    let set_state = probe::<BtfTracePoint>(ebpf, name::SET_STATE)?.fd();
    let set_state = set_state.map_err(|error| LoadError::Attach(name::SET_STATE, refusal(&error)))?;
    Ok(Attached { set_state: set_state.try_clone()?, attempts })
}

/// Takes a map out of the object by its name.
pub(super) fn take<T: TryFrom<Map, Error = MapError>>(
    ebpf: &mut Ebpf,
    map: &'static str,
) -> Result<T, LoadError> {
    let found = ebpf.take_map(map).ok_or(LoadError::Object(map))?;
    T::try_from(found).map_err(|error| LoadError::Map(map, error))
}

/// One program of the object, which must be of this kind.
pub(super) fn probe<'a, P>(ebpf: &'a mut Ebpf, program: &'static str) -> Result<&'a mut P, LoadError>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    ebpf.program_mut(program)
        .ok_or(LoadError::Object(program))?
        .try_into()
        .map_err(|_: ProgramError| LoadError::Object(program))
}

fn load_refused(program: &'static str, error: &ProgramError) -> LoadError {
    match error {
        // The verifier's words for a helper that this kind of program does not have: `unknown func NAME#NUMBER`.
        ProgramError::LoadError { verifier_log, .. }
            if verifier_log.to_string().contains("unknown func bpf_sk_storage_get") =>
        {
            LoadError::NoSocketStorage
        }
        error => LoadError::Refused(program, refusal(error)),
    }
}

/// What the kernel said, in one line: the system's error and the verifier's last word, not its whole log.
pub(super) fn refusal(error: &ProgramError) -> String {
    match error {
        ProgramError::LoadError { io_error, verifier_log } => {
            let log = verifier_log.to_string();
            // The verifier ends with its statistics; what it objected to stands before them.
            let statistics = |line: &str| {
                ["processed ", "stack depth", "verification time"].iter().any(|words| line.contains(words))
            };
            let last = log.lines().map(str::trim).rfind(|line| !line.is_empty() && !statistics(line));
            match last {
                Some(last) => format!("{io_error} ({last})"),
                None => io_error.to_string(),
            }
        }
        ProgramError::SyscallError(error) => format!("{}: {}", error.call, error.io_error),
        other => other.to_string(),
    }
}

fn maps_refusal(error: &EbpfError) -> String {
    match error {
        EbpfError::MapError(MapError::CreateError { name, io_error }) => {
            format!("creating {name}: {io_error}")
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}
