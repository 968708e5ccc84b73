//! Whether a server in recovery lets anybody connect yet: only then can it pause.

use crate::core::Xid;
use crate::wal::{Body, RunningTransactions, Summary};

/// What a server in recovery knows of the transactions that run (`standbyState`, `ProcArrayApplyRecoveryInfo` in
/// `src/backend/storage/ipc/procarray.c` of 13 to 18; `xlog_redo` for checkpoints of a server that was shut down).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Standby {
    /// Nothing yet.
    #[default]
    Begins,
    /// Subtransactions are missing in what it was told. They all have lower ids than this one, or this one: once all
    /// of those have ended, nothing is missing any more.
    Incomplete(Xid),
    /// Everything: whoever connects sees what is committed.
    Ready,
}

impl Standby {
    /// Takes what the next record says.
    pub(super) fn feed(&mut self, body: &Body) {
        match body {
            Body::RunningTransactions(running) => *self = self.told(running),
            Body::Checkpoint(checkpoint) if checkpoint.shutdown => *self = Standby::Ready,
            _ => {}
        }
    }

    fn told(self, running: &RunningTransactions) -> Standby {
        match self {
            Standby::Ready => Standby::Ready,
            Standby::Incomplete(missing) if !running.is_complete() => {
                if missing.precedes(running.oldest_running) {
                    Standby::Ready
                } else {
                    self
                }
            }
            _ if running.overflowed => Standby::Incomplete(Xid(running.next_xid.0.wrapping_sub(1))),
            _ => Standby::Ready,
        }
    }

    pub(super) fn is_ready(self) -> bool {
        self == Standby::Ready
    }

    /// Whether a record of this segment may change it.
    pub(super) fn may_change(self, segment: &Summary) -> bool {
        match self {
            Standby::Ready => false,
            Standby::Begins => segment.complete_list || segment.oldest_running.is_some(),
            Standby::Incomplete(missing) => {
                segment.complete_list || segment.oldest_running.is_some_and(|oldest| missing.precedes(oldest))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineId, Timestamp};
    use crate::wal::Checkpoint;

    fn running(overflowed: bool, transactions: u32, oldest: u32, next: u32) -> Body {
        Body::RunningTransactions(RunningTransactions {
            transactions,
            subtransactions: 0,
            overflowed,
            next_xid: Xid(next),
            oldest_running: Xid(oldest),
            xids: Vec::new(),
        })
    }

    fn shutdown(shutdown: bool) -> Body {
        Body::Checkpoint(Checkpoint {
            redo: Lsn(8),
            timeline: TimelineId(1),
            previous_timeline: TimelineId(1),
            next_xid: 7,
            at: Timestamp::UNIX_EPOCH,
            shutdown,
        })
    }

    /// After how many of these it lets anybody connect.
    fn ready_after(told: &[Body]) -> Option<usize> {
        let mut standby = Standby::default();
        let is_ready = |body: &Body| {
            standby.feed(body);
            standby.is_ready()
        };
        told.iter().map(is_ready).position(|ready| ready).map(|at| at + 1)
    }

    #[test]
    fn it_is_ready_when_nothing_is_missing() {
        assert_eq!(ready_after(&[running(false, 3, 90, 100)]), Some(1));
        assert_eq!(ready_after(&[shutdown(false), shutdown(true)]), Some(2));
        assert_eq!(ready_after(&[running(true, 1, 90, 100), shutdown(false)]), None);
        assert_eq!(ready_after(&[running(true, 1, 90, 100), running(false, 1, 90, 100)]), Some(2));
        // Everything that can be missing has an id below 100.
        assert_eq!(ready_after(&[running(true, 1, 90, 100), running(true, 1, 99, 200)]), None);
        assert_eq!(ready_after(&[running(true, 1, 90, 100), running(true, 1, 100, 200)]), Some(2));
        // What is missing is known from the first time on; later ones add nothing to it.
        let told = [running(true, 1, 90, 100), running(true, 1, 95, 300), running(true, 1, 101, 400)];
        assert_eq!(ready_after(&told), Some(3));
    }

    #[test]
    fn ids_go_round() {
        let told = [running(true, 1, u32::MAX - 9, 4), running(true, 1, u32::MAX, 9), running(true, 1, 5, 9)];
        assert_eq!(ready_after(&told), Some(3));
    }
}
