//! From a target to the record at which PostgreSQL will stop for it. Pure: records are fed in, nothing is read.

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::core::{Lsn, TimelineId, Xid};

/// On which side of its record recovery stops.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopSide {
    /// The record is not replayed.
    Before,
    /// The record is the last one replayed.
    After,
    /// After the last record that there is.
    EndOfWal,
    /// As soon as the data is consistent.
    Consistency,
}

/// A transaction's end in WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where its commit or abort record starts.
    pub lsn: Lsn,
    /// The transaction.
    pub xid: Option<Xid>,
    /// The time in the record.
    pub at: Option<Timestamp>,
}

/// A resolved target: where recovery will stop, predicted from WAL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolved {
    /// The timeline that recovery follows, as a number.
    pub timeline: TimelineId,
    /// The timelines from the base backup to there.
    pub path: Vec<TimelineId>,
    /// On which side of the record.
    pub stop: StopSide,
    /// Where the record starts at which recovery stops.
    pub lsn: Lsn,
    /// How far replay will have come: the end of the last record replayed.
    pub replay_end: Lsn,
    /// The transaction that the record ends, where it ends one.
    pub xid: Option<Xid>,
    /// The time in the record, where it has one.
    pub at: Option<Timestamp>,
    /// The restore point's name, as it stands in WAL.
    pub name: Option<String>,
    /// Where the data becomes consistent: nothing before it can be recovered from this backup.
    pub consistent_at: Lsn,
    /// The last transaction that is kept: its commit is replayed.
    pub last_kept: Option<Place>,
    /// The first transaction that is lost: the first commit that is not replayed.
    pub first_lost: Option<Place>,
    /// The other transactions that ended at the very same time as the one at the stop.
    pub ambiguous: Vec<Place>,
    /// The base backups that lead there, the best one first.
    pub backups: Vec<String>,
}
