//! What this kernel has of what the probes need, without loading them.

use aya::{maps::MapType, sys::is_map_supported};
use btf_rs::Type;

use super::{
    load::TRACEPOINTS,
    offsets::{OffsetsError, open},
};

/// Tracepoints that the probes need and this kernel's BTF does not have.
pub fn missing_tracepoints() -> Result<Vec<&'static str>, OffsetsError> {
    let btf = open()?;
    let has = |tracepoint: &str| {
        // The kernel declares each tracepoint's arguments as a typedef of this name.
        btf.resolve_types_by_name(&format!("btf_trace_{tracepoint}"))
            .is_ok_and(|found| found.iter().any(|found| matches!(found, Type::Typedef(_))))
    };
    Ok(TRACEPOINTS.into_iter().filter(|tracepoint| !has(tracepoint)).collect())
}

/// Whether the kernel makes BPF ring buffers; `Err` with its words when it does not let us ask.
pub fn ring_buffer() -> Result<bool, String> {
    supported(MapType::RingBuf)
}

/// Whether the kernel makes socket storage; `Err` with its words when it does not let us ask.
pub fn socket_storage() -> Result<bool, String> {
    supported(MapType::SkStorage)
}

fn supported(map: MapType) -> Result<bool, String> {
    is_map_supported(map).map_err(|error| error.io_error.to_string())
}
