//! What the program wants done: the only way from a decision to the world.

use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::editor::Edit;
use super::state::Wanted;
use crate::core::{Target, TimelineId, Xid};
use crate::plan::checklist::ItemId;
use crate::plan::{Approach, Plan};

/// Something that has to be done outside; its outcome comes back as a message.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// List backups and timelines. Answered by `Catalog`.
    LoadCatalog,
    /// Read the WAL archive. Answered by `Overview` again and again, `ScanProgress`, and at last `ScanFinished`.
    LoadOverview,
    /// Read the recovery points of these segments. Answered by one `Points` for each of them.
    LoadPoints {
        /// Their timeline.
        timeline: TimelineId,
        /// Their numbers.
        numbers: RangeInclusive<u64>,
    },
    /// Look for the end of a transaction in the whole archive. Answered by `Located`.
    Locate {
        /// Its id.
        xid: Xid,
    },
    /// List the recoveries that this machine knows. Answered by `Recoveries`.
    LoadRecoveries,
    /// Stop reading the WAL archive. Answered by `ScanFinished`.
    CancelScan,
    /// Make a plan, which changes nothing. Answered by `Planned`.
    MakePlan(Wanted),
    /// Find out where recovery would stop, as far as that can be told at once; what was asked before is given up.
    /// Answered by `Resolved`.
    Resolve {
        /// For which target.
        target: Target,
    },
    /// Write a plan as a runbook. Answered by `Runbook`.
    WriteRunbook {
        /// The plan as it was shown.
        plan: Box<Plan>,
        /// The script's path.
        file: String,
        /// Whether what is there is written anew.
        replace: bool,
    },
    /// Carry a plan out. Answered by events, then `Done` or `Failed`.
    Start {
        /// The plan as it was shown.
        plan: Box<Plan>,
    },
    /// Tell everything that happened and happens in a recovery. Answered by events, from the first one on.
    Follow {
        /// Its name.
        recovery: String,
    },
    /// Go on with an interrupted recovery. Answered by events, then `Done` or `Failed`.
    Resume {
        /// Its name.
        recovery: String,
    },
    /// Plan how to get to another target. Answered by `RetargetPlanned`.
    PlanRetarget {
        /// Its name.
        recovery: String,
        /// Where to stop instead.
        target: Target,
    },
    /// Go on or back to another target. Answered by events, then `Done` or `Failed`.
    Retarget {
        /// The plan as it was shown.
        plan: Box<Plan>,
        /// The way as it was shown.
        approach: Box<Approach>,
    },
    /// End recovery on a new timeline; the operator typed the name. Answered by events, then `Done` or `Failed`.
    Promote {
        /// Its name.
        recovery: String,
    },
    /// Carry the configured checks out. Answered by `Checked`.
    RunChecks {
        /// Its name.
        recovery: String,
    },
    /// List the databases of the recovered server. Answered by `Databases`.
    LoadDatabases {
        /// Its name.
        recovery: String,
    },
    /// Ask the recovered server something that changes nothing. Answered by `Answered`.
    Query {
        /// Its name.
        recovery: String,
        /// The database that is asked.
        database: String,
        /// The query.
        sql: String,
    },
    /// Give the query up.
    CancelQuery,
    /// List what is left to do after promotion. Answered by `Checklist`.
    LoadChecklist {
        /// Its name.
        recovery: String,
    },
    /// Do an item of that list. Answered by events, then `Done` or `Failed`.
    DoItem {
        /// Its name.
        recovery: String,
        /// Which item.
        item: ItemId,
        /// Where a base backup goes.
        into: Option<String>,
    },
    /// Note that an item is not wanted. Answered by events, then `Done` or `Failed`.
    SkipItem {
        /// Its name.
        recovery: String,
        /// Which item.
        item: ItemId,
    },
    /// Stop the server. Answered by events, then `Done` or `Failed`.
    Stop {
        /// Its name.
        recovery: String,
    },
    /// Remove what the recovery made; the operator typed the name. Answered by events, then `Done` or `Failed`.
    Discard {
        /// Its name.
        recovery: String,
    },
    /// Stop the step that runs. Answered by events, then `Done` or `Failed`.
    CancelStep {
        /// Its name.
        recovery: String,
    },
    /// Look at the archive, or at what is around it.
    Archive(super::archive::Ask),
    /// Do something about drills.
    Drill(super::drills::Ask),
    /// Tell what the recovered server logs, or not any more.
    Log(super::log::Ask),
    /// Lend the terminal to psql.
    Look {
        /// Its name.
        recovery: String,
    },
    /// Lend the terminal to a pager with the log of a recovery's server.
    Page {
        /// Its name.
        recovery: String,
    },
    /// Lend the terminal to a pager with this file.
    Read {
        /// The file.
        file: PathBuf,
    },
    /// Lend the terminal to an editor. Answered by `Edited`.
    Edit(Edit),
    /// Send a text to the terminal's clipboard.
    Copy {
        /// The text.
        text: String,
    },
    /// Give the terminal back to the shell, and stop until it says to go on.
    Suspend,
    /// Leave the program. Recoveries go on.
    Quit,
}
