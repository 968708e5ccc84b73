//! What happened in the demonstration: the truth that Walback's findings are held against.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::core::{Lsn, PgMajor, TimelineId, Xid};
use crate::event::Recovery;
use crate::plan::Plan;

use super::rescue::{Promoted, TableRows};

/// The shop's tables.
pub const TABLES: [&str; 4] = ["customers", "orders", "order_items", "products"];

/// What happened, as whoever made it happen knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Story {
    /// The server's major version.
    pub pg_version: PgMajor,
    /// The base backup's name.
    pub backup: String,
    /// What was counted before anything went wrong, just before the first act of the accident.
    pub before: Vec<TableCount>,
    /// What was counted at the end, just before the server was stopped.
    pub after: Vec<TableCount>,
    /// The restore point.
    pub restore_point: RestorePoint,
    /// The promotion that nobody meant.
    pub stray: Stray,
    /// First the `DELETE`, then the `DROP TABLE`.
    pub accident: Vec<Act>,
    /// Transactions of ordinary trade, all in all.
    pub transactions: u32,
    /// Those of them that came after the first act of the accident, and are lost where recovery stops before it.
    pub transactions_after: u32,
}

/// How many rows a table has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableCount {
    /// Its name.
    pub table: String,
    /// Its rows; `None` where there is no such table any more.
    pub rows: Option<u64>,
}

/// A restore point that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePoint {
    /// Its name.
    pub name: String,
    /// What `pg_create_restore_point` gave: where its record ends.
    pub lsn: Lsn,
}

/// Somebody's test restore that was promoted and archived into the same archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stray {
    /// The timeline that came of it.
    pub timeline: TimelineId,
    /// The transactions that were made on it.
    pub transactions: u32,
}

/// One act of the accident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// What was typed.
    pub sql: String,
    /// Its transaction.
    pub xid: Xid,
    /// When that committed, as its commit record says.
    pub at: Timestamp,
    /// How many rows it destroyed.
    pub rows: u64,
}

/// What has just been done, for telling it as it happens.
#[derive(Debug)]
pub enum Scene<'a> {
    /// The place was chosen, and it begins.
    Begun {
        /// Where everything will be.
        directory: &'a Path,
        /// The server's version.
        major: PgMajor,
    },
    /// The server runs, and archives.
    Running,
    /// The shop has its tables and rows.
    Filled(&'a [TableCount]),
    /// The base backup is there.
    BackedUp {
        /// Its name.
        id: &'a str,
        /// Bytes on disk.
        bytes: u64,
    },
    /// There were so many transactions of trade.
    Traded(u32),
    /// The restore point was made.
    RestorePoint(&'a RestorePoint),
    /// A copy was promoted, and archived into the same archive.
    Strayed(&'a Stray),
    /// Something was destroyed.
    Destroyed(&'a Act),
    /// Nobody has noticed for so many transactions; now the server is stopped.
    Stopped(u32),
    /// The way back is planned.
    Planned {
        /// How.
        plan: &'a Plan,
        /// The timeline that PostgreSQL would follow by default, where that one does not have the target.
        misleading: Option<TimelineId>,
    },
    /// The recovery is paused.
    Paused(&'a Recovery),
    /// The rows were counted.
    Counted(&'a [TableRows]),
    /// The recovered server takes writes.
    Promoted(&'a Promoted),
}
