//! Everything that can happen to the program, as messages.

use super::key::Key;
use super::state::Pane;
use crate::catalog::{Catalog, Point};
use crate::core::Timestamp;
use crate::error::Error;
use crate::event::{Event, Recovery, Strategy};
use crate::plan::Plan;

/// Something that happened: a key, the clock, an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Msg {
    /// The program begins.
    Started,
    /// A key was pressed.
    Key(Key),
    /// Text was pasted.
    Paste(String),
    /// The terminal has this many columns and rows.
    Resize(u16, u16),
    /// A second has passed; this is the time.
    Tick(Timestamp),
    /// The mouse was pressed on something that was drawn.
    Click(Hit),
    /// The wheel was turned: rows down, negative for up.
    Wheel(i32),
    /// A frame was drawn; its text can be scrolled by this many rows.
    Drawn {
        /// Rows that do not fit.
        scroll_max: usize,
    },
    /// What the source has.
    Catalog(Result<Catalog, Error>),
    /// More recovery points, in any order.
    Points(Vec<Point>),
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
    Recoveries(Vec<Recovery>),
    /// The plan that was asked for.
    Planned(Result<Box<Plan>, Error>),
    /// The plan of a retarget, and how it gets there.
    RetargetPlanned(Result<(Box<Plan>, Strategy), Error>),
    /// Something happened in a recovery.
    Event(Event),
    /// What was asked for has failed.
    Failed(Error),
    /// What was asked for is done.
    Done(ActionKind),
    /// Words for the status line.
    Note(String),
}

/// What can be asked of the engine and takes a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActionKind {
    /// To carry a plan out.
    Start,
    /// To go on or back to another target.
    Retarget,
    /// To end recovery.
    Promote,
    /// To stop the server.
    Stop,
    /// To remove what the recovery made.
    Discard,
    /// To stop the step that runs.
    Cancel,
}

impl ActionKind {
    /// What is going on while it is being done.
    #[must_use]
    pub fn doing(self) -> &'static str {
        match self {
            Self::Start => "the recovery is being started",
            Self::Retarget => "the new target is being set",
            Self::Promote => "the server is being promoted",
            Self::Stop => "the server is being stopped",
            Self::Discard => "the recovery is being discarded",
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
    Point(usize),
    /// A choice of the menu that is open.
    Choice(usize),
    /// A key of the footer.
    Key(Key),
}
