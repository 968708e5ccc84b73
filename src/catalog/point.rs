//! Recovery points: the places in WAL at which recovery can stop.

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::core::{Lsn, TimelineId, Xid};

/// What a recovery point is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointKind {
    /// A transaction committed.
    Commit,
    /// A transaction was rolled back. A time target stops at aborts too.
    Abort,
    /// A transaction was prepared. Never stops recovery.
    Prepare,
    /// `pg_create_restore_point()`.
    RestorePoint,
    /// A checkpoint.
    Checkpoint,
    /// A base backup ended: consistency for whoever restores it.
    BackupEnd,
    /// A server was promoted here, or ended crash recovery.
    EndOfRecovery,
    /// The WAL that there is ends here.
    EndOfWal,
}

impl PointKind {
    /// Its name as the contract has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Commit => "commit",
            Self::Abort => "abort",
            Self::Prepare => "prepare",
            Self::RestorePoint => "restore-point",
            Self::Checkpoint => "checkpoint",
            Self::BackupEnd => "backup-end",
            Self::EndOfRecovery => "end-of-recovery",
            Self::EndOfWal => "end-of-wal",
        }
    }

    /// Whether lists show it of themselves: recovery can stop there, or something ends there.
    #[must_use]
    pub fn is_listed(self) -> bool {
        !matches!(self, Self::Prepare | Self::Checkpoint)
    }
}

impl Point {
    /// A point of which only kind and place are known.
    #[must_use]
    pub fn at(kind: PointKind, timeline: TimelineId, lsn: Lsn, end_lsn: Lsn) -> Point {
        Point {
            kind,
            timeline,
            lsn,
            end_lsn,
            xid: None,
            at: None,
            name: None,
            drops: 0,
            deletes: 0,
            updates: 0,
            subxacts: 0,
        }
    }
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// What it is.
    pub kind: PointKind,
    /// The timeline whose WAL it is in.
    pub timeline: TimelineId,
    /// Where its record starts.
    pub lsn: Lsn,
    /// Just behind its record.
    pub end_lsn: Lsn,
    /// The transaction that it ends or prepares.
    pub xid: Option<Xid>,
    /// The time in the record.
    pub at: Option<Timestamp>,
    /// A restore point's or a prepared transaction's name, as it stands in WAL: not fit for a terminal unescaped.
    pub name: Option<String>,
    /// Relations (files of tables, indexes, toast) that the transaction dropped or truncated.
    pub drops: u64,
    /// Rows of users' relations that the transaction deleted.
    pub deletes: u64,
    /// Rows of users' relations that the transaction updated, or moved to another partition.
    pub updates: u64,
    /// Its subtransactions.
    pub subxacts: u64,
}
