//! The running kernel's BTF in, the byte offset of each [`Field`] out.
//!
//! Rust's BPF objects carry no CO-RE relocations, so what libbpf would patch at load is read here and handed to the
//! probes as constants. Refuses a kernel whose structures lack a member, or have it in another size.

use std::{fs::File, io};

use btf_rs::{Backend, Btf, Struct, Type};
use thiserror::Error;
use tracer_ebpf::Field;

/// Where kernels since 5.4 with CONFIG_DEBUG_INFO_BTF publish their types.
pub const VMLINUX: &str = "/sys/kernel/btf/vmlinux";

/// Why the offsets could not be read.
#[derive(Debug, Error)]
pub enum OffsetsError {
    /// No BTF, or not to be read.
    #[error("cannot read {VMLINUX}: {0}")]
    Unreadable(io::Error),
    /// Not BTF.
    #[error("cannot parse {VMLINUX}: {0}")]
    Malformed(btf_rs::Error),
    /// This kernel's structure lacks the member.
    #[error("this kernel's BTF has no {0}.{1}")]
    Missing(&'static str, &'static str),
    /// The member is not of the size that the probes load.
    #[error("this kernel's {structure}.{member} has {found} bytes; the probes read {wanted}")]
    Size {
        /// The C structure.
        structure: &'static str,
        /// Its member.
        member: &'static str,
        /// Its size here.
        found: usize,
        /// The size that the probes read.
        wanted: usize,
    },
}

/// The byte offsets of all fields, in `Field`'s order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offsets(pub [u32; Field::COUNT]);

/// Each field with its C structure, its member's path and its size in bytes.
const FIELDS: [(Field, &str, &[&str], usize); Field::COUNT] = [
    (Field::Family, "sock_common", &["skc_family"], 2),
    (Field::LocalPort, "sock_common", &["skc_num"], 2),
    (Field::RemotePort, "sock_common", &["skc_dport"], 2),
    (Field::RemoteV4, "sock_common", &["skc_daddr"], 4),
    (Field::LocalV4, "sock_common", &["skc_rcv_saddr"], 4),
    (Field::RemoteV6, "sock_common", &["skc_v6_daddr"], 16),
    (Field::LocalV6, "sock_common", &["skc_v6_rcv_saddr"], 16),
    (Field::SocketFlags, "sock_common", &["skc_flags"], 8),
    (Field::State, "sock_common", &["skc_state"], 1),
    (Field::Net, "sock_common", &["skc_net", "net"], 8),
    (Field::NetInode, "net", &["ns", "inum"], 4),
    (Field::Error, "sock", &["sk_err"], 4),
    (Field::AcceptQueue, "sock", &["sk_ack_backlog"], 4),
    (Field::AcceptQueueMost, "sock", &["sk_max_ack_backlog"], 4),
    (Field::StoredPort, "inet_sock", &["inet_sport"], 2),
    (Field::BytesReceived, "tcp_sock", &["bytes_received"], 8),
    (Field::BytesSent, "tcp_sock", &["bytes_sent"], 8),
    (Field::BytesRetransmitted, "tcp_sock", &["bytes_retrans"], 8),
    (Field::DataSegmentsIn, "tcp_sock", &["data_segs_in"], 4),
    (Field::RequestNext, "tcp_request_sock", &["rcv_nxt"], 4),
    (Field::PacketHead, "sk_buff", &["head"], 8),
    (Field::NetworkHeader, "sk_buff", &["network_header"], 2),
    (Field::TransportHeader, "sk_buff", &["transport_header"], 2),
    (Field::Device, "sk_buff", &["dev"], 8),
    (Field::DeviceNet, "net_device", &["nd_net", "net"], 8),
];

impl Offsets {
    /// Reads the running kernel's.
    pub fn of_running_kernel() -> Result<Self, OffsetsError> {
        Self::of(&open()?)
    }

    pub(super) fn of(btf: &Btf) -> Result<Self, OffsetsError> {
        let mut offsets = [0; Field::COUNT];
        let mut last: Option<(&str, Struct)> = None;
        for (field, structure, path, wanted) in FIELDS {
            // Fields of one structure stand together, so each is looked up once.
            let found = match last.take() {
                Some((name, found)) if name == structure => found,
                _ => find_struct(btf, structure).ok_or(OffsetsError::Missing(structure, path[0]))?,
            };
            let member = path.last().copied().unwrap_or_default();
            let (bits, size) = walk(btf, &found, path).ok_or(OffsetsError::Missing(structure, member))?;
            if size != wanted {
                return Err(OffsetsError::Size { structure, member, found: size, wanted });
            }
            offsets[field as usize] = bits / 8;
            last = Some((structure, found));
        }
        Ok(Self(offsets))
    }
}

/// The running kernel's types. Kernels since 6.16 let them be mapped, which costs 2 ms; a copy in memory costs 130 ms.
pub(super) fn open() -> Result<Btf, OffsetsError> {
    File::open(VMLINUX).map_err(OffsetsError::Unreadable)?;
    Btf::from_file_with_backend(VMLINUX, Backend::Mmap)
        .or_else(|_| Btf::from_file(VMLINUX))
        .map_err(OffsetsError::Malformed)
}

fn find_struct(btf: &Btf, name: &str) -> Option<Struct> {
    btf.resolve_types_by_name(name).ok()?.into_iter().find_map(|found| match found {
        Type::Struct(found) => Some(found),
        _ => None,
    })
}

/// The bit offset and the size in bytes of the member at `path`, looking into unnamed structures and unions.
fn walk(btf: &Btf, within: &Struct, path: &[&str]) -> Option<(u32, usize)> {
    let (wanted, rest) = path.split_first()?;
    for member in &within.members {
        let name = btf.resolve_name(member).ok()?;
        if name != *wanted && !name.is_empty() {
            continue;
        }
        let of_type = resolve(btf, btf.resolve_chained_type(member).ok()?)?;
        let found = match (&of_type, name.is_empty()) {
            (Type::Struct(inner) | Type::Union(inner), true) => walk(btf, inner, path),
            (Type::Struct(inner) | Type::Union(inner), false) if !rest.is_empty() => walk(btf, inner, rest),
            (_, false) if rest.is_empty() => Some((0, size_of_type(&of_type)?)),
            _ => None,
        };
        if let Some((offset, size)) = found {
            return Some((member.bit_offset() + offset, size));
        }
    }
    None
}

/// The type behind typedefs and qualifiers.
fn resolve(btf: &Btf, mut of_type: Type) -> Option<Type> {
    // Bounded, for a file whose typedefs go in a circle.
    for _ in 0..32 {
        of_type = match &of_type {
            Type::Typedef(inner) => btf.resolve_chained_type(inner).ok()?,
            Type::Volatile(inner) | Type::Const(inner) | Type::Restrict(inner) => {
                btf.resolve_chained_type(inner).ok()?
            }
            Type::TypeTag(inner) => btf.resolve_chained_type(inner).ok()?,
            _ => return Some(of_type),
        };
    }
    None
}

/// Sizes as far as the members read here need them.
fn size_of_type(of_type: &Type) -> Option<usize> {
    match of_type {
        Type::Int(int) => Some(int.size()),
        Type::Enum(found) => Some(found.size()),
        Type::Struct(found) | Type::Union(found) => Some(found.size()),
        Type::Ptr(_) => Some(8),
        _ => None,
    }
}
