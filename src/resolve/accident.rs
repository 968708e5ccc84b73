//! What transactions that still run have done to databases: that is not undone where they do not commit.

use std::collections::BTreeMap;

use super::Dropping;
use crate::core::{Lsn, Xid};
use crate::wal::summary::SharedDelete;
use crate::wal::{Body, Outcome, Record, RowChange, Summary};

/// Transactions that drop databases, while they run.
#[derive(Debug, Clone, Default)]
pub(super) struct Drops {
    /// The last record that overwrote a row which all databases share where it stands.
    last_mark: Option<Lsn>,
    /// Rows that they deleted of relations that all databases share.
    deletes: BTreeMap<Xid, SharedDelete>,
    /// Where the first files of a database were removed.
    removed: BTreeMap<Xid, Lsn>,
}

impl Drops {
    pub(super) fn feed(&mut self, record: &Record) {
        match &record.body {
            Body::Rows(rows) if rows.relation.database == 0 && rows.change == RowChange::Delete => {
                if let Some(xid) = record.xid {
                    self.delete(xid, SharedDelete::behind(record.lsn, self.last_mark));
                }
            }
            Body::HeapInplace(relation) if relation.database == 0 => self.last_mark = Some(record.lsn),
            Body::DatabaseDrop { .. } => {
                if let Some(xid) = record.xid {
                    self.removed.entry(xid).or_insert(record.lsn);
                }
            }
            Body::Commit(outcome) | Body::Abort(outcome) => self.end(outcome),
            Body::RunningTransactions(running) => self.forget_before(running.oldest_running),
            _ => {}
        }
    }

    pub(super) fn pass_over(&mut self, segment: &Summary) {
        for (xid, work) in &segment.open {
            if let Some(delete) = work.shared_delete {
                let mark = delete.mark.or(self.last_mark);
                self.delete(*xid, SharedDelete::behind(delete.lsn, mark));
            }
            if let Some(drop) = work.databases.first() {
                self.removed.entry(*xid).or_insert(drop.lsn);
            }
        }
        self.last_mark = segment.last_mark.or(self.last_mark);
        if let Some(oldest) = segment.oldest_running {
            self.forget_before(oldest);
        }
    }

    /// Where the transaction that ends so began to drop a database, if it did: stopping before that saves it. That is
    /// the mark that makes the database invalid, and in older minor releases, which have none, the removal of its files.
    pub(super) fn begun_by(&self, outcome: &Outcome) -> Option<Lsn> {
        let mut xids = std::iter::once(&outcome.xid).chain(&outcome.subxacts);
        xids.find_map(|xid| self.begun(*xid))
    }

    fn begun(&self, xid: Xid) -> Option<Lsn> {
        // A database that moves to another tablespace loses its files too, but not its row.
        let (delete, removed) = (self.deletes.get(&xid)?, self.removed.get(&xid)?);
        Some(delete.mark.unwrap_or(*removed))
    }

    /// The transactions that have removed the files of a database, and have not ended.
    pub(super) fn under_way(&self) -> Vec<Dropping> {
        self.removed.keys().filter_map(|xid| Some(Dropping { xid: *xid, from: self.begun(*xid)? })).collect()
    }

    fn delete(&mut self, xid: Xid, delete: SharedDelete) {
        let known = self.deletes.get(&xid).filter(|known| delete.mark.is_none() && known.mark.is_some());
        if known.is_none() {
            self.deletes.insert(xid, delete);
        }
    }

    fn end(&mut self, outcome: &Outcome) {
        if self.deletes.is_empty() && self.removed.is_empty() {
            return;
        }
        for xid in std::iter::once(&outcome.xid).chain(&outcome.subxacts) {
            self.deletes.remove(xid);
            self.removed.remove(xid);
        }
    }

    fn forget_before(&mut self, oldest: Xid) {
        self.deletes.retain(|xid, _| !xid.precedes(oldest));
        self.removed.retain(|xid, _| !xid.precedes(oldest));
    }
}
