//! Stub until the real one is merged.
use serde::{Deserialize, Serialize};

use crate::core::{Lsn, Xid, time::Timestamp};

/// What replay stopped at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopKind {
    /// A commit.
    Commit,
    /// An abort.
    Abort,
    /// A WAL location.
    Lsn,
    /// A restore point.
    RestorePoint,
    /// Consistency.
    Consistency,
}

/// Where replay stopped, as PostgreSQL's log reported it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// What it stopped at.
    pub kind: StopKind,
    /// Before it, not after it.
    pub before: bool,
    /// The transaction.
    pub xid: Option<Xid>,
    /// The time in its record.
    pub at: Option<Timestamp>,
    /// The WAL location.
    pub lsn: Option<Lsn>,
    /// The restore point's name.
    pub name: Option<String>,
}
