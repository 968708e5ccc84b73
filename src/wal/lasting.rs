//! What replay does to a cluster at once, and going back by replaying again does not undo.
//!
//! A server in recovery writes a page only after it has noted in `pg_control` that it is not consistent before that
//! page's last change (`UpdateMinRecoveryPoint`, `xlog.c` of 13 to 18). Killed and started again, it can stop anywhere
//! behind that point, also before where it was. But some records change files at once and without that note; whoever
//! goes back across one of them finds what it did still done.

use super::record::Record;
use super::rmgr::{Body, Outcome};

/// What a record did that stays done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lasting {
    /// A database's directory was removed (`dbase_redo`, `dbcommands.c`).
    DatabaseDrop,
    /// A tablespace's directory was removed (`tblspc_redo`, `tablespace.c`).
    TablespaceDrop,
    /// Files of relations were removed or cut off. Servers note these since 13.2; they are not relied on to.
    FilesRemoved,
    /// The map of the catalogs' files was written (`relmap_redo`, `relmapper.c`).
    CatalogMap,
    /// A prepared transaction ended: the file that keeps it from one checkpoint to the next was removed
    /// (`PrepareRedoRemove`, `twophase.c`), and rows may have been marked as its outcome says.
    PreparedEnded,
    /// What became of old transactions was forgotten (`clog_redo`, `commit_ts_redo`, `multixact_redo`).
    Forgotten,
    /// How far a replication origin has come (`CheckPointReplicationOrigin`, `origin.c`).
    Origin,
    /// An extension did what only it knows.
    Extension,
}

impl Lasting {
    /// What happened there: `a database was dropped`.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Lasting::DatabaseDrop => "a database was dropped",
            Lasting::TablespaceDrop => "a tablespace was dropped",
            Lasting::FilesRemoved => "files of relations were removed",
            Lasting::CatalogMap => "a system catalog was written anew",
            Lasting::PreparedEnded => "a prepared transaction ended",
            Lasting::Forgotten => "what became of old transactions was forgotten",
            Lasting::Origin => "a replicated transaction was noted",
            Lasting::Extension => "an extension wrote what only it understands",
        }
    }
}

/// Resource managers of which no body is read, with the operations that count (13 to 18 alike).
const CLOG: u8 = 3;
const TABLESPACE: u8 = 5;
const MULTIXACT: u8 = 6;
const CATALOG_MAP: u8 = 7;
const COMMIT_TS: u8 = 18;
const ORIGIN: u8 = 19;
const OPERATION: u8 = 0xF0;
const CLOG_TRUNCATE: u8 = 0x10;
const TABLESPACE_DROP: u8 = 0x10;
const MULTIXACT_TRUNCATE: u8 = 0x30;
const COMMIT_TS_TRUNCATE: u8 = 0x10;

impl Record {
    /// What replaying it did that stays done where the server goes back before it; `None` for nearly all.
    #[must_use]
    pub fn lasting(&self) -> Option<Lasting> {
        match (&self.body, self.rmgr, self.info & OPERATION) {
            (Body::Commit(outcome) | Body::Abort(outcome), ..) => of_outcome(outcome),
            (Body::DatabaseDrop { .. }, ..) => Some(Lasting::DatabaseDrop),
            (Body::FileTruncate { .. }, ..) => Some(Lasting::FilesRemoved),
            (Body::Extension { .. }, ..) => Some(Lasting::Extension),
            (_, TABLESPACE, TABLESPACE_DROP) => Some(Lasting::TablespaceDrop),
            (_, CATALOG_MAP, _) => Some(Lasting::CatalogMap),
            (_, CLOG, CLOG_TRUNCATE) | (_, MULTIXACT, MULTIXACT_TRUNCATE) | (_, COMMIT_TS, COMMIT_TS_TRUNCATE) => {
                Some(Lasting::Forgotten)
            }
            (_, ORIGIN, _) => Some(Lasting::Origin),
            _ => None,
        }
    }
}

fn of_outcome(outcome: &Outcome) -> Option<Lasting> {
    if outcome.prepared {
        Some(Lasting::PreparedEnded)
    } else if !outcome.dropped.is_empty() {
        Some(Lasting::FilesRemoved)
    } else {
        outcome.origin.map(|_| Lasting::Origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineId, Timestamp, Xid};
    use crate::wal::{Origin, RelFileLocator};

    fn record(rmgr: u8, info: u8, body: Body) -> Option<Lasting> {
        let (lsn, end_lsn) = (Lsn(0x100_0028), Lsn(0x100_0060));
        Record { lsn, end_lsn, timeline: TimelineId(1), previous: None, xid: None, rmgr, info, body }.lasting()
    }

    fn outcome() -> Outcome {
        Outcome::plain(Timestamp::UNIX_EPOCH, Xid(735))
    }

    #[test]
    fn what_does_not_go_back_is_known() {
        let dropped = vec![RelFileLocator { tablespace: 1663, database: 5, relation: 16384 }];
        let origin = Origin { id: 1, lsn: Lsn(1), at: Timestamp::UNIX_EPOCH };
        let ended = |outcome| record(1, 0x80, Body::Commit(outcome));
        assert_eq!(ended(outcome()), None, "the commonest of all");
        assert_eq!(ended(Outcome { prepared: true, ..outcome() }), Some(Lasting::PreparedEnded));
        assert_eq!(ended(Outcome { dropped: dropped.clone(), ..outcome() }), Some(Lasting::FilesRemoved));
        assert_eq!(ended(Outcome { origin: Some(origin), ..outcome() }), Some(Lasting::Origin));
        assert_eq!(record(1, 0x20, Body::Abort(Outcome { dropped, ..outcome() })), Some(Lasting::FilesRemoved));
        assert_eq!(record(4, 0x20, Body::DatabaseDrop { database: 5 }), Some(Lasting::DatabaseDrop));
        assert_eq!(record(3, 0x00, Body::Other), None, "a new page of transactions");
        for (rmgr, info, what) in [
            (3, 0x10, Lasting::Forgotten),
            (5, 0x10, Lasting::TablespaceDrop),
            (6, 0x30, Lasting::Forgotten),
            (7, 0x00, Lasting::CatalogMap),
            (18, 0x10, Lasting::Forgotten),
            (19, 0x10, Lasting::Origin),
        ] {
            assert_eq!(record(rmgr, info, Body::Other), Some(what), "{rmgr} {info:#x}");
        }
        assert_eq!(record(200, 0x10, Body::Extension { rmgr: 200 }), Some(Lasting::Extension));
    }
}
