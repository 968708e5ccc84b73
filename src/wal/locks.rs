//! The locks that shut out even readers, as a server in recovery takes them over and gives them back
//! (`standby_redo` and `StandbyReleaseLockTree`, `src/backend/storage/ipc/standby.c` of 13 to 18).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde::{Deserialize, Serialize};

use super::Record;
use super::rmgr::{Body, Checkpoint, Lock, Outcome, RelFileLocator, RunningTransactions};
use crate::core::{Lsn, Xid};

/// So many locks are followed at once; of further ones it is not known who holds them.
const FOLLOWED: usize = 1 << 16;
/// So many locks of one segment are kept.
const KEPT: usize = 2048;
/// So many files that were just made are remembered, to tell the locks of new relations.
const MADE: usize = 256;
/// So many transactions that ended are remembered: a lock may be written down again just behind the end of its holder.
const ENDED: usize = 64;

/// A lock on a relation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldLock {
    /// The database's OID; 0 for a relation that all databases share.
    pub database: u32,
    /// The relation's OID.
    pub relation: u32,
    /// The transaction, or a subtransaction of it.
    pub xid: Xid,
    /// Where the first record starts that says so.
    pub from: Lsn,
    /// Nobody took it here: it was only written down again, as at every checkpoint.
    pub again: bool,
}

/// What the records of one segment do to the locks that there were before it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LockChanges {
    /// The transactions and subtransactions that gave locks back.
    pub ended: Vec<Xid>,
    /// All transactions before this one have none any more, unless they are prepared.
    pub oldest: Option<Xid>,
    /// The transactions that were prepared here, and have not ended here.
    pub prepared: Vec<Xid>,
    /// The locks that were taken here, or written down again, and are held at the end of the segment.
    pub held: Vec<HeldLock>,
}

/// The locks that are held behind the records that were fed.
///
/// A relation that its transaction made itself is not among them: nobody else knows of it.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    held: BTreeMap<(u32, u32), HeldLock>,
    prepared: BTreeSet<Xid>,
    /// The last files that were made, by whom, as far as that is known yet.
    made: VecDeque<(u32, u32, Option<Xid>)>,
    ended: VecDeque<Xid>,
    oldest: Option<Xid>,
}

impl Locks {
    /// Takes the next record.
    #[inline]
    pub fn feed(&mut self, record: &Record) {
        match &record.body {
            Body::Commit(outcome) | Body::Abort(outcome) => self.end(outcome),
            Body::Other | Body::Rows(_) => {}
            body => self.feed_rare(record, body),
        }
    }

    fn feed_rare(&mut self, record: &Record, body: &Body) {
        match body {
            Body::Locks(locks) => locks.iter().for_each(|lock| self.take(record, lock)),
            Body::RunningTransactions(RunningTransactions { oldest_running, .. }) => self.release(*oldest_running),
            // Nothing ran when the server was shut down, but what was prepared.
            Body::Checkpoint(Checkpoint { next_xid, shutdown: true, .. }) => self.release(Xid(*next_xid as u32)),
            Body::Prepare { xid, .. } => {
                self.prepared.insert(*xid);
            }
            Body::FileCreate(file) | Body::InitFileCreate(file) => self.make(record.xid, *file),
            _ => {}
        }
    }

    /// Takes a whole segment's records, by what is known of them.
    pub fn pass_over(&mut self, changes: &LockChanges) {
        self.made.clear();
        for xid in &changes.ended {
            self.give_back(*xid);
        }
        if let Some(oldest) = changes.oldest {
            self.release(oldest);
        }
        self.prepared.extend(&changes.prepared);
        for lock in &changes.held {
            self.hold(*lock);
        }
    }

    /// Whether this transaction was prepared and has not ended, as far as it was read.
    #[must_use]
    pub fn is_prepared(&self, xid: Xid) -> bool {
        self.prepared.contains(&xid)
    }

    /// The locks, by database and relation.
    pub fn held(&self) -> impl Iterator<Item = &HeldLock> {
        self.held.values()
    }

    /// Whether the end of a transaction can change anything, beside one that says itself that it had locks.
    #[inline]
    pub(super) fn awaits_ends(&self) -> bool {
        !self.made.is_empty()
    }

    /// What was fed, as changes to what there was before; `ended` are those that gave locks back.
    pub(super) fn into_changes(self, ended: Vec<Xid>) -> LockChanges {
        let mut held: Vec<HeldLock> = self.held.into_values().collect();
        if held.len() > KEPT {
            held.sort_unstable_by_key(|lock| lock.from);
            held.truncate(KEPT);
        }
        LockChanges { ended, oldest: self.oldest, prepared: self.prepared.into_iter().collect(), held }
    }

    fn take(&mut self, record: &Record, lock: &Lock) {
        let again = record.xid.is_none();
        let is_made = |made: &&mut (u32, u32, Option<Xid>)| {
            (made.0, made.1) == (lock.database, lock.relation) && made.2.is_none_or(|xid| xid == lock.xid)
        };
        if let Some(made) = self.made.iter_mut().find(is_made) {
            made.2 = Some(lock.xid);
            return;
        }
        if again && self.ended.contains(&lock.xid) {
            return;
        }
        let Lock { xid, database, relation } = *lock;
        self.hold(HeldLock { database, relation, xid, from: record.lsn, again });
    }

    fn hold(&mut self, lock: HeldLock) {
        let key = (lock.database, lock.relation);
        let from = match self.held.get(&key) {
            // Only one can have it. What is written down again names the transaction instead of its subtransaction.
            Some(known) if lock.again || known.xid == lock.xid => known.from,
            None if self.held.len() >= FOLLOWED => return,
            _ => lock.from,
        };
        let again = lock.again && self.held.get(&key).is_none_or(|known| known.again);
        self.held.insert(key, HeldLock { from, again, ..lock });
    }

    /// A new relation's file has the number that its OID is, and is made next to its lock.
    fn make(&mut self, xid: Option<Xid>, file: RelFileLocator) {
        let key = (file.database, file.relation);
        let is_own = |lock: &HeldLock| !lock.again && xid.is_none_or(|xid| xid == lock.xid);
        if self.held.get(&key).is_some_and(is_own) {
            self.held.remove(&key);
        }
        if self.made.len() >= MADE {
            self.made.pop_front();
        }
        self.made.push_back((file.database, file.relation, xid));
    }

    fn end(&mut self, outcome: &Outcome) {
        if !self.made.is_empty() {
            let ended = |xid: &Xid| *xid == outcome.xid || outcome.subxacts.contains(xid);
            // Whoever made a file before it had an id has locked the relation by now.
            self.made.retain(|(_, _, xid)| xid.is_some_and(|xid| !ended(&xid)));
        }
        if !outcome.locks {
            return;
        }
        for xid in std::iter::once(&outcome.xid).chain(&outcome.subxacts) {
            self.give_back(*xid);
        }
    }

    fn give_back(&mut self, xid: Xid) {
        self.prepared.remove(&xid);
        if self.ended.len() >= ENDED {
            self.ended.pop_front();
        }
        self.ended.push_back(xid);
        if !self.held.is_empty() {
            self.held.retain(|_, lock| lock.xid != xid);
        }
    }

    /// All transactions before `oldest` have ended (`StandbyReleaseOldLocks`).
    fn release(&mut self, oldest: Xid) {
        if self.oldest.is_none_or(|known| known.precedes(oldest)) {
            self.oldest = Some(oldest);
        }
        let prepared = &self.prepared;
        self.held.retain(|_, lock| !lock.xid.precedes(oldest) || prepared.contains(&lock.xid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{TimelineId, Timestamp};
    use proptest::prelude::*;

    /// What may happen to few transactions and few relations.
    #[derive(Debug, Clone)]
    enum Happens {
        Lock(u32, u32),
        Again(u32, u32),
        End(u32, Vec<u32>),
        Prepare(u32),
        Running(u32),
        Make(u32, u32),
    }

    fn record(at: usize, happens: &Happens) -> Record {
        let lock = |xid, relation| Lock { xid: Xid(xid), database: 5, relation };
        let (xid, body) = match happens {
            Happens::Lock(xid, relation) => (Some(Xid(*xid)), Body::Locks(vec![lock(*xid, *relation)])),
            Happens::Again(xid, relation) => (None, Body::Locks(vec![lock(*xid, *relation)])),
            Happens::End(xid, subxacts) => {
                let subxacts = subxacts.iter().copied().map(Xid).collect();
                let outcome = Outcome { subxacts, locks: true, ..Outcome::plain(Timestamp::UNIX_EPOCH, Xid(*xid)) };
                (Some(Xid(*xid)), Body::Commit(outcome))
            }
            Happens::Prepare(xid) => {
                (None, Body::Prepare { xid: Xid(*xid), gid: String::new(), at: Timestamp::UNIX_EPOCH })
            }
            Happens::Running(oldest) => {
                let running = RunningTransactions {
                    transactions: 1,
                    subtransactions: 0,
                    overflowed: false,
                    next_xid: Xid(1000),
                    oldest_running: Xid(*oldest),
                    xids: vec![Xid(*oldest)],
                };
                (None, Body::RunningTransactions(running))
            }
            Happens::Make(xid, relation) => {
                let file = RelFileLocator { tablespace: 1663, database: 5, relation: *relation };
                (Some(Xid(*xid)), Body::FileCreate(file))
            }
        };
        let lsn = Lsn(at as u64 * 8);
        Record { lsn, end_lsn: lsn.plus(8), xid, body, ..Record::blank(TimelineId(1)) }
    }

    /// (xid, relation, from)
    fn after(happened: &[Happens]) -> Vec<(u32, u32, u64)> {
        let mut locks = Locks::default();
        happened.iter().enumerate().for_each(|(at, happens)| locks.feed(&record(at, happens)));
        locks.held().map(|lock| (lock.xid.0, lock.relation, lock.from.0)).collect()
    }

    use Happens::{Again, End, Lock as Take, Make, Prepare, Running};

    #[test]
    fn a_lock_is_held_until_its_transaction_ends() {
        assert_eq!(after(&[Take(10, 1), Take(11, 2), End(10, vec![])]), [(11, 2, 8)]);
        assert_eq!(after(&[Take(11, 1), End(10, vec![11])]), [], "a subtransaction's");
        assert_eq!(after(&[Take(10, 1), Running(11)]), [], "a crash ended it");
        assert_eq!(after(&[Take(10, 1), Prepare(10), Running(11)]), [(10, 1, 0)], "a prepared one goes on");
        assert_eq!(after(&[Take(10, 1), Prepare(10), End(10, vec![])]), []);
    }

    #[test]
    fn what_is_written_down_again_is_as_old_as_it_was() {
        assert_eq!(after(&[Take(12, 1), Again(10, 1)]), [(10, 1, 0)], "by the transaction instead of its part");
        assert_eq!(after(&[Again(10, 1), Again(10, 1)]), [(10, 1, 0)]);
        assert_eq!(after(&[Take(10, 1), End(10, vec![]), Again(10, 1)]), [], "its holder had just ended");
        assert_eq!(after(&[Take(10, 1), End(10, vec![]), Take(11, 1)]), [(11, 1, 16)]);
    }

    #[test]
    fn nobody_waits_for_a_relation_that_nobody_knows_of() {
        assert_eq!(after(&[Make(10, 1), Take(10, 1)]), []);
        assert_eq!(after(&[Take(10, 1), Make(10, 1)]), []);
        assert_eq!(after(&[Make(10, 1), Take(10, 1), End(10, vec![]), Take(11, 1)]), [(11, 1, 24)]);
    }

    fn happens() -> impl Strategy<Value = Happens> {
        let (xid, relation) = (|| 10_u32..16, || 1_u32..4);
        prop_oneof![
            4 => (xid(), relation()).prop_map(|(xid, relation)| Take(xid, relation)),
            2 => (xid(), relation()).prop_map(|(xid, relation)| Again(xid, relation)),
            3 => (xid(), prop::collection::vec(xid(), 0..2)).prop_map(|(xid, subxacts)| End(xid, subxacts)),
            1 => xid().prop_map(Prepare),
        ]
    }

    /// Without what no server does: nobody locks after his end, or what somebody else has.
    fn sane(happened: Vec<Happens>) -> Vec<Happens> {
        let (mut over, mut sane) = (BTreeSet::new(), Vec::new());
        for happens in happened {
            let has_lock = |xid, relation| after(&sane).iter().all(|held| held.1 != relation || held.0 == xid);
            let is_sane = match &happens {
                Take(xid, relation) | Again(xid, relation) => !over.contains(xid) && has_lock(*xid, *relation),
                Prepare(xid) | Running(xid) | Make(xid, _) => !over.contains(xid),
                End(xid, subxacts) => {
                    over.extend(subxacts.iter().chain([xid]).copied());
                    true
                }
            };
            if is_sane {
                sane.push(happens);
            }
        }
        sane
    }

    proptest! {
        /// Two segments by what is known of them are as good as their records.
        #[test]
        fn a_segment_that_is_passed_over_is_as_good_as_read(happened in prop::collection::vec(happens(), 0..30), cut in 0_usize..30) {
            let sane = sane(happened);
            let cut = cut.min(sane.len());
            let mut folded = Locks::default();
            for (from, part) in [(0, &sane[..cut]), (cut, &sane[cut..])] {
                let (mut own, mut ended) = (Locks::default(), Vec::new());
                for (at, happens) in part.iter().enumerate() {
                    own.feed(&record(from + at, happens));
                    if let End(xid, subxacts) = happens {
                        ended.extend(subxacts.iter().chain([xid]).copied().map(Xid));
                    }
                }
                folded.pass_over(&own.into_changes(ended));
            }
            let folded: Vec<_> = folded.held().map(|lock| (lock.xid.0, lock.relation, lock.from.0)).collect();
            prop_assert_eq!(folded, after(&sane));
        }
    }
}
