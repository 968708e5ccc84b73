//! Everything that can happen to the program, as messages.

use std::sync::Arc;

use super::command::Act;
use super::editor::Edit;
use super::key::Key;
use super::state::{Known, Pane};
use crate::catalog::{Catalog, Overview, Point};
use crate::core::{Checked, Rows, Target, TimelineId, Timestamp, Xid};
use crate::error::Error;
use crate::event::Event;
use crate::plan::checklist::Item;
use crate::plan::{Approach, Plan};
use crate::resolve::Resolved;

/// Something that happened: a key, the clock, an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// The program begins.
    Started,
    /// A key was pressed.
    Key(Key),
    /// A command was given by its name, whatever its keys are.
    Command(Act),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// A second has passed; this is the time.
    Tick(Timestamp),
    /// The mouse was pressed on something that was drawn.
    Click(Hit),
    /// The wheel was turned.
    Wheel {
        /// Rows down, negative for up.
        rows: i32,
        /// What is under the pointer.
        over: Option<Hit>,
    },
    /// A frame was drawn; its text can be scrolled by this many rows.
    Drawn {
        /// Rows that do not fit.
        scroll_max: usize,
        /// Rows that the list on the screen shows; 0 where there is none.
        page: usize,
    },
    /// What the source has.
    Catalog(Result<Catalog, Error>),
    /// What is known of the archive now: more and more while it is read.
    Overview(Arc<Overview>),
    /// The recovery points of a segment.
    Points {
        /// Its timeline.
        timeline: TimelineId,
        /// Its number.
        number: u64,
        /// All of them, in any order; or why they cannot be had.
        points: Result<Vec<Point>, Error>,
    },
    /// The runbook was written, to these files; or why not, with the path that was asked for.
    Runbook {
        /// The path as it was typed.
        file: String,
        /// The script and the document.
        answer: Result<[String; 2], Error>,
    },
    /// Where a transaction ended that was looked for.
    Located {
        /// Its id.
        xid: Xid,
        /// Every commit or rollback of that number in the archive; or why that cannot be told.
        points: Result<Vec<Point>, Error>,
    },
    /// How far reading the WAL archive has come.
    ScanProgress {
        /// Bytes read.
        done: u64,
        /// Bytes to read.
        total: u64,
    },
    /// Reading the WAL archive has ended.
    ScanFinished(Result<(), Error>),
    /// The recoveries that this machine knows.
    Recoveries(Vec<Known>),
    /// Where recovery would stop.
    Resolved {
        /// For which target.
        target: Target,
        /// There; or why nowhere.
        answer: Result<Box<Resolved>, Error>,
    },
    /// The plan that was asked for.
    Planned(Result<Box<Plan>, Error>),
    /// The plan of a retarget, and how it gets there.
    RetargetPlanned(Result<(Box<Plan>, Box<Approach>), Error>),
    /// What is left to do after promotion.
    Checklist(Result<Vec<Item>, Error>),
    /// What came of the checks.
    Checked(Result<Vec<Checked>, Error>),
    /// The databases of the recovered server.
    Databases(Result<Vec<String>, Error>),
    /// What it said to a query.
    Answered(Result<Rows, Error>),
    /// What was found out about the archive.
    Archive(super::archive::News),
    /// Something about drills.
    Drill(super::drills::News),
    /// What the recovered server logged.
    Log(super::log::News),
    /// Something happened in a recovery.
    Event(Event),
    /// A recovery was interrupted, and nobody works on it.
    Interrupted {
        /// Its name.
        recovery: String,
        /// What was found, in words.
        found: String,
    },
    /// What was asked for has failed.
    Failed(Error),
    /// What was asked for is done.
    Done(ActionKind),
    /// Words for the status line.
    Note(String),
    /// The editor was left.
    Edited {
        /// What it was opened with.
        edit: Edit,
        /// What is there now; or why it could not be edited.
        answer: Result<String, Error>,
    },
}

/// What can be asked of the engine and takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// To carry a plan out.
    Start,
    /// To go on with an interrupted recovery.
    Resume,
    /// To go on or back to another target.
    Retarget,
    /// To end recovery.
    Promote,
    /// To stop the server.
    Stop,
    /// To remove what the recovery made.
    Discard,
    /// To go through what is left to do after promotion.
    Item,
    /// To stop the step that runs.
    Cancel,
}

impl ActionKind {
    /// What is going on while it is being done.
    #[must_use]
    pub fn doing(self) -> &'static str {
        match self {
            Self::Start => "the recovery is being started",
            Self::Resume => "the recovery is being gone on with",
            Self::Retarget => "the new target is being set",
            Self::Promote => "the server is being promoted",
            Self::Stop => "the server is being stopped",
            Self::Discard => "the recovery is being discarded",
            Self::Item => "an item of the checklist is being done",
            Self::Cancel => "the running step is being stopped",
        }
    }
}

/// Something that was drawn and can be clicked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hit {
    /// A pane of the home screen.
    Pane(Pane),
    /// A base backup, by its place in the list.
    Backup(usize),
    /// A recovery point, by its place in the list.
    Point(u64),
    /// A timeline.
    Timeline(TimelineId),
    /// A column of the chart.
    Chart {
        /// Which one.
        column: u16,
        /// How many there are.
        columns: u16,
    },
    /// A suspect of the list of suspects, by its rank.
    Suspect(usize),
    /// A row of the Archive screen.
    ArchiveRow(usize),
    /// A row of the Drills screen.
    DrillRow(usize),
    /// A line of the Log screen, by its place among those that are seen.
    LogLine(usize),
    /// A choice of the menu that is open.
    Choice(usize),
    /// A key of the footer.
    Key(Key),
}
