//! How this kernel lets attempts be observed that never become a connection. None of the ways is on every kernel, so
//! each is tried, and what cannot be observed is said with the reason why.

use aya::{
    Btf, Ebpf,
    programs::{BtfTracePoint, FEntry},
};
use btf_rs::{EnumMember, Type};
use tracer_ebpf::name;

use super::load::{probe, refusal};

/// By what an attempt is observed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// fentry on `tcp_check_req`: runs once a handshake.
    CheckRequest,
    /// The tracepoint `tcp_send_reset`: runs for each reset that is sent.
    SendReset,
    /// The tracepoint `kfree_skb`: runs for each packet that the host drops.
    PacketDropped,
}

impl Way {
    /// What the probe is attached to, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::CheckRequest => "fentry on tcp_check_req",
            Self::SendReset => "the tracepoint tcp_send_reset",
            Self::PacketDropped => "the tracepoint kfree_skb, once for each packet that this host drops",
        }
    }
}

/// How each kind of attempt is observed, or why it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempts {
    /// Reset by the source after the SYN-ACK.
    pub half_open: Result<Way, String>,
    /// To a port that nobody listens on.
    pub refused: Result<Way, String>,
    /// Completed by the source into a full accept queue.
    pub accept_queue_full: Result<Way, String>,
}

impl Attempts {
    /// What is not observed on this kernel, by name.
    pub fn not_observed(&self) -> Vec<&'static str> {
        self.by_name().into_iter().filter(|(_, way)| way.is_err()).map(|(name, _)| name).collect()
    }

    /// Each kind by its name in the table and in `doctor`.
    pub fn by_name(&self) -> [(&'static str, &Result<Way, String>); 3] {
        [
            ("half-open", &self.half_open),
            ("refused", &self.refused),
            ("accept queue full", &self.accept_queue_full),
        ]
    }
}

/// This kernel's numbers for the reasons that are looked for in `kfree_skb`; 0 for what it cannot tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct DropReasons {
    pub(super) without_listener: u32,
    pub(super) half_open: u32,
    pub(super) without_room: u32,
    pub(super) cookie: u32,
    /// Whether `tcp_send_reset` tells who was refused, so that drops need not: since 6.10.
    refused_by_reset: bool,
}

impl DropReasons {
    /// Reads them from the kernel's types.
    pub(super) fn of(types: &btf_rs::Btf) -> Self {
        // 5.17 added the reason, 6.11 the receiving socket.
        let (has_reason, has_socket) = match arguments(types, name::PACKET_DROPPED) {
            Some(count) => (count >= 3, count >= 4),
            None => (false, false),
        };
        // The reason for the reset came together with resets that belong to no socket.
        let refused_by_reset = arguments(types, name::SEND_RESET).is_some_and(|count| count >= 3);
        // Looking a type up by its name goes through all of them, so it is done once.
        let reasons = if has_reason { drop_reasons(types) } else { None };
        let number = |name: &str| {
            let named = |member: &&EnumMember| types.resolve_name(*member).is_ok_and(|found| found == name);
            reasons.as_ref().and_then(|all| all.members.iter().find(named)).map_or(0, EnumMember::val)
        };
        let no_socket = number("SKB_DROP_REASON_NO_SOCKET");
        let with_socket = |number: u32| if has_socket { number } else { 0 };
        Self {
            without_listener: if refused_by_reset { 0 } else { no_socket },
            half_open: with_socket(number("SKB_DROP_REASON_NOT_SPECIFIED")),
            without_room: with_socket(number("SKB_DROP_REASON_TCP_LISTEN_OVERFLOW")),
            cookie: with_socket(no_socket),
            refused_by_reset,
        }
    }
}

/// Loads and attaches what this kernel takes; none of it is needed for connections, so nothing here is an error.
pub(super) fn attach(ebpf: &mut Ebpf, btf: &Btf, reasons: DropReasons) -> Attempts {
    let check = attach_check_request(ebpf, btf);
    let for_drops = reasons.without_listener != 0 || check.is_err() && reasons.half_open != 0;
    let drops = for_drops.then(|| attach_packet_dropped(ebpf, btf));
    let by_drops = |reason: u32| match &drops {
        Some(Ok(())) if reason != 0 => Some(Ok(Way::PacketDropped)),
        Some(Err(error)) if reason != 0 => Some(Err(format!("the tracepoint kfree_skb: {error}"))),
        _ => None,
    };
    let by_handshake = |reason: u32| match &check {
        Ok(()) => Ok(Way::CheckRequest),
        Err(error) => by_drops(reason).unwrap_or_else(|| Err(format!("fentry on tcp_check_req: {error}"))),
    };
    Attempts {
        half_open: by_handshake(reasons.half_open),
        accept_queue_full: by_handshake(reasons.without_room),
        refused: if reasons.refused_by_reset {
            Ok(Way::SendReset)
        } else {
            by_drops(reasons.without_listener).unwrap_or_else(|| {
                Err("this kernel's tracepoints do not tell; 5.17 or newer is needed".to_owned())
            })
        },
    }
}

fn attach_check_request(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut FEntry = probe(ebpf, name::CHECK_REQUEST).map_err(|error| error.to_string())?;
    program.load(name::CHECK_REQUEST, btf).map_err(|error| refusal(&error))?;
    program.attach().map(|_| ()).map_err(|error| refusal(&error))
}

fn attach_packet_dropped(ebpf: &mut Ebpf, btf: &Btf) -> Result<(), String> {
    let program: &mut BtfTracePoint = probe(ebpf, name::PACKET_DROPPED).map_err(|error| error.to_string())?;
    program.load(name::PACKET_DROPPED, btf).map_err(|error| refusal(&error))?;
    program.attach().map(|_| ()).map_err(|error| refusal(&error))
}

/// How many arguments a tracepoint has.
fn arguments(types: &btf_rs::Btf, tracepoint: &str) -> Option<usize> {
    let found = types.resolve_types_by_name(&format!("btf_trace_{tracepoint}")).ok()?;
    found.into_iter().find_map(|found| {
        let Type::Typedef(typedef) = found else { return None };
        let Type::Ptr(pointer) = types.resolve_chained_type(&typedef).ok()? else { return None };
        let Type::FuncProto(prototype) = types.resolve_chained_type(&pointer).ok()? else { return None };
        // The first is the tracepoint's own data.
        prototype.parameters.len().checked_sub(1)
    })
}

fn drop_reasons(types: &btf_rs::Btf) -> Option<btf_rs::Enum> {
    let found = types.resolve_types_by_name("skb_drop_reason").ok()?;
    found.into_iter().find_map(|found| if let Type::Enum(reasons) = found { Some(reasons) } else { None })
}
