//! From a target to the record at which PostgreSQL will stop for it. Pure: records are fed in, nothing is read.

use serde::{Deserialize, Serialize};

use crate::catalog::Suspect;
use crate::core::time::Timestamp;
use crate::core::{Action, Lsn, Target, TimelineId, Xid};
use crate::wal::rmgr::ParameterChange;

mod accident;
pub mod obstacles;
mod resolver;
mod standby;
#[cfg(test)]
mod tests;

pub use crate::wal::summary::{Obstacle, ObstacleKind};
pub use resolver::Resolver;

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
    /// Where each of these but the last was left, in their order.
    #[serde(default)]
    pub forks: Vec<Lsn>,
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
    /// What the server is told instead of the target as it was given; `None` where it is told just that.
    #[serde(default)]
    pub told: Option<Target>,
    /// How many commits lie behind the stop up to the end of WAL; `None` where they were not counted.
    #[serde(default)]
    pub commits_lost: Option<u64>,
    /// Where they were counted up to, where the archive has more behind that: WAL is missing or broken there.
    #[serde(default)]
    pub counted_to: Option<Lsn>,
    /// The last commit in WAL, where it is not replayed.
    #[serde(default)]
    pub last_lost: Option<Place>,
    /// The other restore points of the same name further on: the server stops at the first.
    #[serde(default)]
    pub named_again: Vec<Place>,
    /// Whether the server answers queries at the stop; only then it can pause there.
    #[serde(default = "yes")]
    pub is_readable: bool,
    /// The first record after which the server answers queries; `None` where none was met.
    #[serde(default)]
    pub readable_from: Option<Lsn>,
    /// What keeps relations locked at the stop.
    #[serde(default)]
    pub locked: Vec<Locked>,
    /// Transactions that were dropping a database at the stop: it is gone there, whatever becomes of them.
    #[serde(default)]
    pub dropping: Vec<Dropping>,
    /// The least settings that the records on the way ask for.
    #[serde(default)]
    pub requires: Option<Requirements>,
    /// What is replayed on the way to the stop and not every server can replay.
    #[serde(default)]
    pub obstacles: Vec<Obstacle>,
    /// The places at which “before this transaction” can stop, in the order of WAL; empty where there is but one.
    #[serde(default)]
    pub before: Vec<StopBefore>,
    /// Transactions next to the stop that destroyed data, the worst first: what the first one that is lost destroys, and
    /// those that are kept and committed within an hour before the last one that is.
    #[serde(default)]
    pub suspects: Vec<Suspect>,
}

fn yes() -> bool {
    true
}

impl Resolved {
    /// What recovery stops before instead of a transaction's commit, so that all it destroys can be read; and that
    /// transaction.
    #[must_use]
    pub fn before_it_began(&self) -> Option<(BeforeWhat, Xid)> {
        let place = self.before.iter().find(|place| place.chosen && place.what != BeforeWhat::Commit)?;
        Some((place.what, self.first_lost?.xid?))
    }

    /// A stop at the record at `lsn`, of which nothing else is known.
    #[must_use]
    pub fn new(timeline: TimelineId, stop: StopSide, lsn: Lsn) -> Resolved {
        Resolved {
            timeline,
            path: vec![timeline],
            forks: Vec::new(),
            stop,
            lsn,
            replay_end: lsn,
            xid: None,
            at: None,
            name: None,
            consistent_at: lsn,
            last_kept: None,
            first_lost: None,
            ambiguous: Vec::new(),
            backups: Vec::new(),
            told: None,
            commits_lost: None,
            counted_to: None,
            last_lost: None,
            named_again: Vec::new(),
            is_readable: true,
            readable_from: None,
            locked: Vec::new(),
            dropping: Vec::new(),
            requires: None,
            obstacles: Vec::new(),
            before: Vec::new(),
            suspects: Vec::new(),
        }
    }

    /// What the server is told where `target` was asked for.
    #[must_use]
    pub fn as_told<'a>(&'a self, target: &'a Target) -> &'a Target {
        self.told.as_ref().unwrap_or(target)
    }

    /// What the server does at the stop where `target` was asked for: it cannot pause where nobody can connect.
    #[must_use]
    pub fn action(&self, target: &Target) -> Action {
        self.as_told(target).action
    }
}

/// Relations that stay locked while recovery is paused: a transaction took `ACCESS EXCLUSIVE` locks before the stop and
/// ends behind it. Who reads them waits until the server is promoted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Locked {
    /// The transaction; a part of it, where WAL did not tell yet whose part that is.
    pub xid: Xid,
    /// Where its first lock's record starts: whoever stops before it can read everything.
    pub from: Lsn,
    /// How many relations.
    pub relations: u64,
    /// It was prepared: promotion does not end it.
    #[serde(default)]
    pub prepared: bool,
}

/// A transaction that had begun to drop a database: its files were removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dropping {
    /// The transaction.
    pub xid: Xid,
    /// Where it began: stopping before that saves the database.
    pub from: Lsn,
}

/// The least values of settings with which a server in recovery goes on (`CheckRequiredParameterValues`,
/// `xlogrecovery.c` of 15 to 18, `xlog.c` of 13 and 14): those of the server that wrote the WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Requirements {
    /// `max_connections`.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_transactions: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_transaction: u32,
}

impl Requirements {
    /// From what [`Requirements::settings`] gives, in its order.
    #[must_use]
    pub fn of_settings(settings: [(&'static str, u32); 5]) -> Requirements {
        let [connections, processes, senders, prepared, locks] = settings.map(|(_, value)| value);
        Requirements {
            max_connections: connections,
            max_worker_processes: processes,
            max_wal_senders: senders,
            max_prepared_transactions: prepared,
            max_locks_per_transaction: locks,
        }
    }

    /// What a record asks for that says that the settings were changed.
    #[must_use]
    pub fn of(change: &ParameterChange) -> Requirements {
        let value = |value: i32| u32::try_from(value).unwrap_or(0);
        Requirements {
            max_connections: value(change.max_connections),
            max_worker_processes: value(change.max_worker_processes),
            max_wal_senders: value(change.max_wal_senders),
            max_prepared_transactions: value(change.max_prepared_transactions),
            max_locks_per_transaction: value(change.max_locks_per_transaction),
        }
    }

    /// Enough for both.
    #[must_use]
    pub fn and(self, other: Requirements) -> Requirements {
        Requirements {
            max_connections: self.max_connections.max(other.max_connections),
            max_worker_processes: self.max_worker_processes.max(other.max_worker_processes),
            max_wal_senders: self.max_wal_senders.max(other.max_wal_senders),
            max_prepared_transactions: self.max_prepared_transactions.max(other.max_prepared_transactions),
            max_locks_per_transaction: self.max_locks_per_transaction.max(other.max_locks_per_transaction),
        }
    }

    /// The settings by their names.
    #[must_use]
    pub fn settings(self) -> [(&'static str, u32); 5] {
        [
            ("max_connections", self.max_connections),
            ("max_worker_processes", self.max_worker_processes),
            ("max_wal_senders", self.max_wal_senders),
            ("max_prepared_transactions", self.max_prepared_transactions),
            ("max_locks_per_transaction", self.max_locks_per_transaction),
        ]
    }
}

/// Which of the places “before this transaction” is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BeforeWhat {
    /// Before its commit: everything that committed meanwhile is kept; what it locked stays locked.
    Commit,
    /// Before its first lock: everything can be read; what committed since then is lost.
    FirstLock,
    /// Before it marked the first database as being dropped: later, that one's files are gone.
    DatabaseDrop,
}

impl BeforeWhat {
    /// What it is of that transaction: `the first lock of transaction 735`.
    #[must_use]
    pub fn of(self, xid: Xid) -> String {
        match self {
            BeforeWhat::Commit => format!("the commit of transaction {xid}"),
            BeforeWhat::FirstLock => format!("the first lock of transaction {xid}"),
            BeforeWhat::DatabaseDrop => format!("the database drop of transaction {xid}"),
        }
    }
}

/// A place at which “before this transaction” can stop.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopBefore {
    /// Which one.
    pub what: BeforeWhat,
    /// The record before which recovery stops.
    pub lsn: Lsn,
    /// How many commits between here and its own commit are lost by stopping here.
    pub commits_lost: u64,
    /// Whether everything that the transaction destroys can be read while recovery is paused here.
    pub is_readable: bool,
    /// Whether everything that the transaction destroys is still there after stopping here.
    pub saves: bool,
    /// Whether this is where the plan stops.
    pub chosen: bool,
    /// The TARGET options that stop here.
    pub target: Vec<String>,
}

/// Why no place in WAL belongs to a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unreachable {
    /// Recovery would stop before the data is consistent, which the server refuses.
    BeforeConsistency {
        /// Where it would stop.
        stop: Lsn,
        /// The time in the record there.
        at: Option<Timestamp>,
        /// Where the base backup ended, where that is known.
        consistent_at: Option<Lsn>,
    },
    /// The WAL that there is ends before the target.
    NotReached {
        /// Where WAL ends.
        end: Lsn,
        /// The last transaction in it.
        last: Option<Place>,
        /// The last record in it.
        last_record: Option<Lsn>,
    },
}
