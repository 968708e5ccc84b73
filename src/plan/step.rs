//! The steps of a recovery.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StepId {
    /// Renames the data directory that is where the new one goes.
    #[serde(rename = "make-way")]
    MakeWay,
    /// Unpacks the base backup into the new directory.
    Unpack,
    /// Makes one of an incremental backup and those that it builds upon.
    Combine,
    /// Keeps a copy of the unpacked data, or goes back to it.
    Snapshot,
    /// Writes the settings and `recovery.signal`.
    Configure,
    /// Starts the server.
    Start,
    /// Follows replay until it stops.
    Replay,
    /// Ends recovery on a new timeline.
    Promote,
    /// Stops the server.
    Stop,
    /// Removes what the recovery made.
    Discard,
}

impl StepId {
    /// Its name as events and phases carry it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::MakeWay => "make-way",
            Self::Unpack => "unpack",
            Self::Combine => "combine",
            Self::Snapshot => "snapshot",
            Self::Configure => "configure",
            Self::Start => "start",
            Self::Replay => "replay",
            Self::Promote => "promote",
            Self::Stop => "stop",
            Self::Discard => "discard",
        }
    }
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A step as the plan announces it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Which one.
    pub id: StepId,
    /// What it does, in words.
    pub title: String,
    /// What an operator would type to do the same by hand.
    pub commands: Vec<String>,
    /// What undoes it; `None` where nothing has to be undone.
    pub undo: Option<String>,
}
