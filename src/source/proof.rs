//! Proves that no transaction ended in a stretch of WAL, without reading the stretch.
//!
//! A server writes down now and then which transactions run, and which id is the next to be given out: with each
//! checkpoint, and every 15 seconds while anything is written (`LogStandbySnapshot`,
//! `src/backend/storage/ipc/standby.c`; `LOG_SNAPSHOT_INTERVAL_MS`, `src/backend/postmaster/bgwriter.c`). Only a
//! transaction with an id writes a record when it ends (`RecordTransactionCommit` and `RecordTransactionAbort`,
//! `src/backend/access/transam/xact.c`), and it leaves the list only behind that record. Between two lists, that is,
//! those can have ended which are on the first one or got their ids between the two, and nobody else. Everything from
//! the first list to the stretch is read, and everything from the stretch to the second list. Who ended there, or wrote
//! anything behind the stretch, did not end in it. Where that is everybody but those who are still on the second list,
//! nobody ended in the stretch.
//!
//! This holds for prepared transactions and long ones, which end under old ids, and for subtransactions; lists that do
//! not have all of these are passed over. What is trusted is the second list: a server that waits for a synchronous
//! standby lists those as running whose commits it has written, until the standby has them too
//! (`SyncRepWaitForLSN` comes before `ProcArrayEndTransaction`).

use std::collections::HashSet;

use crate::core::Xid;
use crate::wal::{Body, Record, RunningTransactions};

/// Lists are not compared between which more ids than this were given out.
const MOST: u32 = 1 << 22;

/// What a segment says about who ended, and who did not.
#[derive(Debug, Default)]
pub(super) struct Events {
    /// Transactions and subtransactions that ended.
    ended: HashSet<Xid>,
    /// Those that wrote anything.
    wrote: HashSet<Xid>,
    /// The first and the last list of all that run.
    lists: Option<(RunningTransactions, RunningTransactions)>,
}

/// What is known about a stretch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// No transaction ended in it.
    Empty,
    /// Some ended in it, or came to no end at all as in a crash: these are the first and the last of them by their ids.
    Missing(Xid, Xid),
    /// There is no telling.
    Unknown,
}

impl Events {
    /// Takes in the next record of the segment.
    pub(super) fn take(&mut self, record: &Record) {
        self.wrote.extend(record.xid);
        match &record.body {
            Body::Commit(outcome) | Body::Abort(outcome) => {
                self.ended.insert(outcome.xid);
                self.ended.extend(&outcome.subxacts);
            }
            Body::RunningTransactions(running) if !running.overflowed => match &mut self.lists {
                Some((_, last)) => last.clone_from(running),
                none => *none = Some((running.clone(), running.clone())),
            },
            _ => {}
        }
    }

    /// Whether it has a list of those that run.
    pub(super) fn has_list(&self) -> bool {
        self.lists.is_some()
    }
}

/// Whether anybody ended between the segments `before` and those `behind` a stretch. Of each, all are to be there up to
/// one that has a list, the one next to the stretch first.
pub(super) fn verdict(before: &[&Events], behind: &[&Events]) -> Verdict {
    let first = before.last().and_then(|events| events.lists.as_ref()).map(|(_, last)| last);
    let second = behind.last().and_then(|events| events.lists.as_ref()).map(|(first, _)| first);
    let (Some(first), Some(second)) = (first, second) else { return Verdict::Unknown };
    let given = second.next_xid.0.wrapping_sub(first.next_xid.0);
    if given > MOST {
        return Verdict::Unknown;
    }
    let still: HashSet<Xid> = second.xids.iter().copied().collect();
    let elsewhere = |xid: &Xid| {
        still.contains(xid)
            || before.iter().chain(behind).any(|events| events.ended.contains(xid))
            || behind.iter().any(|events| events.wrote.contains(xid))
    };
    let between =
        (0..given).map(|more| Xid(first.next_xid.0.wrapping_add(more))).filter(|xid| *xid >= Xid::FIRST_NORMAL);
    let mut missing: Vec<Xid> = first.xids.iter().copied().chain(between).filter(|xid| !elsewhere(xid)).collect();
    missing.sort_unstable_by_key(|xid| xid.0.wrapping_sub(first.next_xid.0) as i32);
    match (missing.first(), missing.last()) {
        (Some(first), Some(last)) => Verdict::Missing(*first, *last),
        _ => Verdict::Empty,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineId, Timestamp};
    use crate::wal::Outcome;

    fn record(xid: u32, body: Body) -> Record {
        Record {
            lsn: Lsn(40),
            end_lsn: Lsn(80),
            timeline: TimelineId(1),
            previous: None,
            xid: Some(Xid(xid)).filter(|xid| xid.0 > 0),
            rmgr: 0,
            info: 0,
            body,
        }
    }

    fn outcome(xid: u32, subxacts: &[u32]) -> Outcome {
        Outcome {
            at: Timestamp::from_unix_seconds(1_700_000_000).unwrap(),
            xid: Xid(xid),
            prepared: false,
            subxacts: subxacts.iter().map(|xid| Xid(*xid)).collect(),
            dropped: Vec::new(),
            dropped_statistics: Vec::new(),
            locks: false,
            origin: None,
        }
    }

    fn commit(xid: u32) -> Record {
        record(xid, Body::Commit(outcome(xid, &[])))
    }

    fn list(next: u32, running: &[u32]) -> RunningTransactions {
        RunningTransactions {
            transactions: running.len() as u32,
            subtransactions: 0,
            overflowed: false,
            next_xid: Xid(next),
            oldest_running: Xid(running.first().copied().unwrap_or(next)),
            xids: running.iter().map(|xid| Xid(*xid)).collect(),
        }
    }

    fn says(next: u32, running: &[u32]) -> Record {
        record(0, Body::RunningTransactions(list(next, running)))
    }

    fn events(records: &[Record]) -> Events {
        let mut events = Events::default();
        records.iter().for_each(|record| events.take(record));
        events
    }

    fn between(before: &[Record], behind: &[Record]) -> Verdict {
        verdict(&[&events(before)], &[&events(behind)])
    }

    #[test]
    fn who_ended_on_either_side_did_not_end_between() {
        let before = [says(10, &[8, 9]), commit(9), commit(10)];
        assert_eq!(between(&before, &[commit(8), says(11, &[])]), Verdict::Empty);
        assert_eq!(between(&before, &[commit(8), says(12, &[11])]), Verdict::Empty, "11 still runs");
        assert_eq!(between(&before, &[commit(8), commit(11), says(12, &[])]), Verdict::Empty);
        assert_eq!(between(&before, &[says(11, &[8])]), Verdict::Empty, "8 still runs");
        assert_eq!(between(&before, &[says(11, &[]), commit(8)]), Verdict::Empty, "behind the list counts too");
    }

    #[test]
    fn who_ended_nowhere_else_is_missing() {
        let before = [says(10, &[8, 9]), commit(9)];
        assert_eq!(between(&before, &[says(11, &[])]), Verdict::Missing(Xid(8), Xid(10)));
        assert_eq!(between(&before, &[commit(8), says(15, &[11, 12])]), Verdict::Missing(Xid(10), Xid(14)));
        // A prepared transaction has an old id.
        let prepared = [says(10, &[3]), commit(10)];
        assert_eq!(between(&prepared, &[commit(11), says(12, &[])]), Verdict::Missing(Xid(3), Xid(3)));
    }

    #[test]
    fn who_writes_behind_did_not_end_before() {
        let wrote = record(9, Body::Other);
        assert_eq!(between(&[says(10, &[9])], &[wrote.clone(), says(10, &[])]), Verdict::Empty);
        assert_eq!(between(&[says(10, &[9]), wrote], &[says(10, &[])]), Verdict::Missing(Xid(9), Xid(9)));
    }

    #[test]
    fn subtransactions_end_with_theirs_or_by_themselves() {
        let with = record(9, Body::Commit(outcome(9, &[10, 11])));
        assert_eq!(between(&[says(10, &[9])], &[with, says(12, &[])]), Verdict::Empty);
        assert_eq!(between(&[says(10, &[9])], &[commit(9), says(12, &[])]), Verdict::Missing(Xid(10), Xid(11)));
    }

    #[test]
    fn without_lists_there_is_no_telling() {
        let incomplete = RunningTransactions { overflowed: true, ..list(10, &[9]) };
        let incomplete = record(0, Body::RunningTransactions(incomplete));
        assert_eq!(between(&[commit(9)], &[says(10, &[])]), Verdict::Unknown);
        assert_eq!(between(&[says(10, &[])], &[commit(10)]), Verdict::Unknown);
        assert_eq!(between(std::slice::from_ref(&incomplete), &[says(10, &[])]), Verdict::Unknown);
        assert_eq!(between(&[says(10, &[]), incomplete], &[says(10, &[])]), Verdict::Empty);
        assert_eq!(between(&[says(10, &[])], &[says(9, &[])]), Verdict::Unknown, "ids do not go back");
        assert_eq!(verdict(&[], &[]), Verdict::Unknown);
    }

    #[test]
    fn ids_come_round_again() {
        let before = [says(u32::MAX, &[u32::MAX - 1]), commit(u32::MAX)];
        assert_eq!(between(&before, &[commit(u32::MAX - 1), commit(3), says(4, &[])]), Verdict::Empty);
        assert_eq!(between(&before, &[says(5, &[3])]), Verdict::Missing(Xid(u32::MAX - 1), Xid(4)));
    }
}
