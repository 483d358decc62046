//! What was not seen in detail: the counts of a window in, one [`Loss`] for each reason out.

use serde::Serialize;
use tracer_ebpf::Counter;

use crate::kernel::{Attempts, Counters};

/// Why something was not seen in detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The ring was full. The connections are counted per source and verdict, without a record of their own.
    RingFull,
    /// The ring and the overflow table were full. The connections are in no source's count.
    OverflowFull,
    /// The kernel could not keep state for a connection, which then ends as one older than the tracer.
    StateFailed,
    /// A socket on a watched port that is not TCP.
    ReadFailed,
    /// The kernel skipped the probes for a state change, because they were running on the same CPU already.
    ProbeSkipped,
    /// A record that the daemon could not decode.
    Undecodable,
    /// Network namespaces whose open connections could not be listed.
    OpenUnseen,
    /// Sources that found no room among those that findings are kept of.
    FindingsFull,
    /// This kernel does not let half-open resets be observed.
    HalfOpenNotObserved,
    /// This kernel does not let refused connections be observed.
    RefusedNotObserved,
    /// This kernel does not let handshakes be observed that find the accept queue full.
    AcceptQueueFullNotObserved,
}

/// Counts of what the daemon itself did not see or keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unseen {
    /// For [`Reason::OpenUnseen`].
    pub open: u64,
    /// For [`Reason::FindingsFull`].
    pub findings: u64,
}

/// One reason's count in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Loss {
    /// Why.
    pub reason: Reason,
    /// How many connections, or what else the reason names.
    pub count: u64,
}

impl Loss {
    /// What it means, in a sentence.
    pub const fn summary(&self) -> &'static str {
        match self.reason {
            Reason::RingFull => {
                "the ring was full: counted per source and verdict, but without a connection record each"
            }
            Reason::OverflowFull => {
                "the ring and the overflow table were full: seen, but in no source's count"
            }
            Reason::StateFailed => {
                "no state could be kept for these connections; they are reported as older than the tracer"
            }
            Reason::ReadFailed => "sockets on a watched port that are not TCP; not traced",
            Reason::ProbeSkipped => {
                "state changes of any socket that no probe saw, because the kernel skips one that is running on the same CPU"
            }
            Reason::OpenUnseen => {
                "network namespaces whose open connections could not be listed (CAP_SYS_ADMIN is needed for others' own)"
            }
            Reason::FindingsFull => {
                "sources found no room among the 10,000 that findings are kept of; their sums are complete"
            }
            Reason::HalfOpenNotObserved => {
                "this kernel does not let half-open resets be observed: none is in any record, and how many there were is not known"
            }
            Reason::RefusedNotObserved => {
                "this kernel does not let refused connections be observed: none is in any record, and how many there were is not known"
            }
            Reason::AcceptQueueFullNotObserved => {
                "this kernel does not let full accept queues be observed: none is in any record, and how many there were is not known"
            }
            Reason::Undecodable => "kernel records that this version cannot read; in no source's count",
        }
    }
}

/// The losses of a window; none is the usual answer.
pub fn losses(window: &Counters, unseen: Unseen) -> Vec<Loss> {
    let lost = window.get(Counter::OverflowFull);
    [
        (Reason::RingFull, window.get(Counter::RingFull).saturating_sub(lost)),
        (Reason::OverflowFull, lost),
        (Reason::StateFailed, window.get(Counter::StateFailed)),
        (Reason::ReadFailed, window.get(Counter::ReadFailed)),
        (Reason::ProbeSkipped, window.skipped),
        (Reason::Undecodable, window.undecodable),
        (Reason::OpenUnseen, unseen.open),
        (Reason::FindingsFull, unseen.findings),
    ]
    .into_iter()
    .filter(|(_, count)| *count > 0)
    .map(|(reason, count)| Loss { reason, count })
    .collect()
}

/// What this kernel does not let be observed, in each window anew: a reader may have missed the first.
pub fn not_observed(attempts: &Attempts) -> impl Iterator<Item = Loss> {
    [
        (Reason::HalfOpenNotObserved, &attempts.half_open),
        (Reason::RefusedNotObserved, &attempts.refused),
        (Reason::AcceptQueueFullNotObserved, &attempts.accept_queue_full),
    ]
    .into_iter()
    .filter(|(_, way)| way.is_err())
    .map(|(reason, _)| Loss { reason, count: 1 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_count_is_one_loss_and_no_count_is_none() {
        assert_eq!(losses(&Counters::default(), Unseen::default()), []);
        let counters = Counters::of(
            &[(Counter::Seen, 100), (Counter::Sent, 60), (Counter::RingFull, 40), (Counter::OverflowFull, 5)],
            3,
            2,
        );
        let found: Vec<_> = losses(&counters, Unseen { open: 1, findings: 4 })
            .into_iter()
            .map(|loss| (loss.reason, loss.count))
            .collect();
        assert_eq!(
            found,
            [
                (Reason::RingFull, 35),
                (Reason::OverflowFull, 5),
                (Reason::ProbeSkipped, 3),
                (Reason::Undecodable, 2),
                (Reason::OpenUnseen, 1),
                (Reason::FindingsFull, 4)
            ]
        );
    }

    #[test]
    fn what_is_not_observed_is_a_loss_of_its_own() {
        let way = || Err("not on this kernel".to_owned());
        let attempts = Attempts { half_open: way(), refused: way(), accept_queue_full: way() };
        let reasons: Vec<_> = not_observed(&attempts).map(|loss| (loss.reason, loss.count)).collect();
        assert_eq!(
            reasons,
            [
                (Reason::HalfOpenNotObserved, 1),
                (Reason::RefusedNotObserved, 1),
                (Reason::AcceptQueueFullNotObserved, 1)
            ]
        );
    }
}
