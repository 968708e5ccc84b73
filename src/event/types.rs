//! What happens during a recovery, as data: the journal keeps it, the interface and the command line show it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::time::Timestamp;
use crate::core::{Lsn, TimelineId, Xid};
use crate::pgdata::server_log::Stopped;
use crate::plan::checklist::{ItemId, ItemState};
use crate::plan::{Estimate, Finding, Plan, Severity, StepId};

pub use crate::plan::Strategy;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub at: Timestamp,
    /// In which recovery.
    pub recovery: String,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum What {
    /// A plan is to be carried out. The first event of every journal; a retarget brings another one.
    Planned {
        /// The plan.
        plan: Box<Plan>,
        /// Its hash, checked before it runs.
        hash: String,
        /// How a retarget gets there; `None` for the first plan.
        strategy: Option<Strategy>,
    },
    /// How the retarget that was planned really gets there, now that the server is stopped.
    Approach {
        /// Which way.
        strategy: Strategy,
        /// Why not a shorter one, in words; empty for the shortest.
        why: String,
        /// What it takes.
        estimate: Estimate,
    },
    /// The data directory is about to be taken, and marked: made, or found empty.
    Directory {
        /// Whether it is made.
        made: bool,
    },
    /// A further directory is about to be taken, and marked: for tablespaces, or for a kept copy.
    FurtherDirectory {
        /// Which.
        directory: PathBuf,
        /// Whether it is made.
        made: bool,
    },
    /// Everything that the recovery made is about to be removed: nothing but that is left to be done.
    Discarding,
    /// Somebody goes on with what was interrupted.
    Resumed {
        /// What was found, in words.
        found: String,
    },
    /// A step is about to begin. Journalled before it does.
    StepStarted {
        /// Which.
        step: StepId,
    },
    /// How far a step has come. Not journalled.
    Progress(Progress),
    /// A step is done.
    StepFinished {
        /// Which.
        step: StepId,
        /// How long it took.
        seconds: f64,
        /// Bytes unpacked, or bytes of WAL replayed.
        bytes: Option<u64>,
    },
    /// The recovery is in another state.
    State {
        /// Which.
        state: RecoveryState,
    },
    /// The server was started.
    ServerStarted {
        /// The postmaster's process id.
        pid: u32,
    },
    /// The server has no role of the planned name; this one it has.
    Role {
        /// Its name.
        role: String,
    },
    /// Replay stopped at the target, as PostgreSQL reported it.
    Stopped {
        /// What it said.
        stopped: Stopped,
        /// The end of the last record replayed, where it could be asked.
        replayed_lsn: Option<Lsn>,
        /// The time of the last transaction replayed, where it could be asked.
        last_commit_at: Option<Timestamp>,
    },
    /// Recovery ended on a new timeline.
    Promoted {
        /// Its number.
        timeline: TimelineId,
    },
    /// Something became of an item of the list of what is left to do after promotion. Journalled before it is begun, too.
    Item {
        /// Which.
        item: ItemId,
        /// What.
        state: ItemState,
        /// What there is to say about it, line by line: what programs said, as they said it.
        said: Vec<String>,
        /// How the server is reached from now on, where that is not as before.
        connection: Option<String>,
        /// Whether the server, which runs, is stopped and started for it: until the item has come to its end, it has to be
        /// started again. One that failed has only come to it where the server runs as before.
        #[serde(default)]
        restarts: bool,
    },
    /// A line of the server's log. Not journalled: the log is a file of its own.
    Log {
        /// The line, as the server wrote it: not fit for a terminal unescaped.
        line: String,
    },
    /// Something was found while doing it.
    Finding(Finding),
    /// A step failed; nothing more happens until the operator decides.
    Failed(Failure),
    /// What a newer Walback wrote and this one does not know.
    #[serde(other)]
    Unknown,
}

/// How far a step has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Which step.
    pub step: StepId,
    /// Units done.
    pub done: u64,
    /// Units to do; `None` where that cannot be known.
    pub total: Option<u64>,
    /// What is counted: `bytes`.
    pub unit: Cow<'static, str>,
    /// Units a second, smoothed.
    pub rate: Option<f64>,
    /// Seconds to go.
    pub eta_s: Option<f64>,
    /// How far replay is: the end of the last record replayed.
    pub replayed_lsn: Option<Lsn>,
    /// The time of the last transaction replayed.
    pub last_commit_at: Option<Timestamp>,
    /// What it is doing just now, in words: `base/16384/2619`, `replaying 000000010000000000000004`.
    pub doing: Option<String>,
    /// What replay waits for, where it does not go on.
    #[serde(default)]
    pub waits_for: Option<WaitsFor>,
}

/// What replay waits for: none of it is a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WaitsFor {
    /// `restore_command` fetches a segment.
    Archive,
    /// WAL that is not there yet.
    Wal,
    /// A query on the recovering server stands in the way of what replay has to do.
    Query,
    /// The time that `recovery_min_apply_delay` holds commits back.
    Delay,
    /// Somebody paused it by hand, before the target.
    Resume,
}

/// Why a step failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// Which step; `None` where it was between two.
    pub step: Option<StepId>,
    /// A stable word for scripts.
    pub code: Cow<'static, str>,
    /// What happened, and to what.
    pub message: String,
    /// Why, from the nearest to the deepest.
    pub causes: Vec<String>,
    /// What to do next.
    pub hint: Option<String>,
}

/// Where a recovery stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryState {
    /// Nothing was done yet.
    Planned,
    /// The base backup is being unpacked.
    Unpacking,
    /// Everything is written, the server was not started yet.
    Configured,
    /// The server replays WAL.
    Replaying,
    /// The server stands at the target, readable.
    Paused,
    /// Recovery is being ended.
    Promoting,
    /// Recovery ended; the server takes writes.
    Promoted,
    /// The server was stopped, or shut itself down at the target.
    ShutDown,
    /// A step failed.
    Failed,
    /// What was made was removed again.
    Discarded,
}

impl RecoveryState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Planned => "planned",
            Self::Unpacking => "unpacking",
            Self::Configured => "configured",
            Self::Replaying => "replaying",
            Self::Paused => "paused",
            Self::Promoting => "promoting",
            Self::Promoted => "promoted",
            Self::ShutDown => "shut-down",
            Self::Failed => "failed",
            Self::Discarded => "discarded",
        }
    }
}

impl std::fmt::Display for RecoveryState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.word())
    }
}

impl What {
    /// Whether it belongs into the journal: everything that state is made of. Progress and log lines pass.
    #[must_use]
    pub fn is_journalled(&self) -> bool {
        !matches!(self, Self::Progress(_) | Self::Log { .. })
    }
}

/// A recovery as `status` and `--json` show it: what its events fold to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Recovery {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub state: RecoveryState,
    /// Its data directory.
    pub directory: PathBuf,
    /// The base backup's id.
    pub backup: String,
    /// The target as it was given.
    pub target: crate::core::Target,
    /// Where it was predicted to stop.
    pub resolved: crate::resolve::Resolved,
    /// The timeline it follows; after promotion the new one.
    pub timeline: TimelineId,
    /// How far replay is.
    pub replayed_lsn: Option<Lsn>,
    /// The time of the last transaction replayed.
    pub last_commit_at: Option<Timestamp>,
    /// The last transaction replayed, where it is known.
    pub last_xid: Option<Xid>,
    /// Where it stopped, as PostgreSQL reported it.
    pub stopped: Option<Stopped>,
    /// Whether that is what was predicted; `None` before it stopped.
    pub matches_prediction: Option<bool>,
    /// A libpq connection string to its server.
    pub connection: String,
    /// What became of what is left to do after promotion; items that nobody has touched are not in it.
    pub checklist: BTreeMap<ItemId, ItemState>,
    /// When it was begun.
    pub started_at: Timestamp,
    /// How the last retarget went; `None` where there was none.
    pub strategy: Option<Strategy>,
    /// Where the data directory went that had to make way, from the moment on at which that was announced.
    pub made_way: Option<PathBuf>,
    /// The steps that are done, with what they took.
    pub phases: Vec<Phase>,
    /// The postmaster's process id, where one was started and not stopped.
    pub server_pid: Option<u32>,
    /// Why it failed, where it did.
    pub failure: Option<Failure>,
    /// What was found since the last plan, and still matters.
    pub findings: Vec<Finding>,
}

impl Recovery {
    /// What was found and is to be minded, while there is anything of it.
    pub fn warnings(&self) -> impl Iterator<Item = &Finding> {
        let is_there = self.state != RecoveryState::Discarded;
        self.findings.iter().filter(move |finding| is_there && finding.severity >= Severity::Warning)
    }

    /// Whether nothing was given back yet of what keeps it from touching anything else.
    #[must_use]
    pub fn is_isolated(&self) -> bool {
        let given_back =
            |(item, state): (&ItemId, &ItemState)| !item.settings().is_empty() && *state == ItemState::Done;
        !self.checklist.iter().any(given_back)
    }
}

/// A step that is done.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// Which.
    pub step: StepId,
    /// How long it took.
    pub seconds: f64,
    /// Bytes unpacked, or bytes of WAL replayed.
    pub bytes: Option<u64>,
}
