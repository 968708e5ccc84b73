//! What names, sizes and beginnings of the files in an archive tell. Made by the source, judged elsewhere.

use std::path::PathBuf;

use crate::core::time::Timestamp;
use crate::core::{Lsn, SegmentName};

use super::LeftAlone;

/// Why a segment cannot be read that somebody is writing to just now.
pub const STILL_WRITTEN: &str = "it is still being written";

/// What names, sizes and beginnings of the files in the archives tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Inspection {
    /// Files with a segment's name that are none of this cluster's segments, by name.
    pub unfit: Vec<Unfit>,
    /// What `.partial` files hold, by name.
    pub partials: Vec<Partial>,
    /// `.backup` files, by the segment in which their backup begins, with their own names.
    pub backup_files: Vec<(SegmentName, String)>,
    /// Files that somebody has not finished writing, by their names.
    pub temporary: Vec<PathBuf>,
    /// Files that have no name that PostgreSQL gives.
    pub unknown: Vec<PathBuf>,
    /// What looks like WAL and is none, and directories that are not looked into, with why.
    pub odd: Vec<LeftAlone>,
    /// Segments that somebody was writing while it was looked.
    pub growing: Vec<Growing>,
    /// What could not be looked at, in words.
    pub problems: Vec<String>,
}

/// A file with a segment's name that is none of this cluster's segments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfit {
    /// The name.
    pub name: SegmentName,
    /// The file.
    pub path: PathBuf,
    /// What it is.
    pub flaw: Flaw,
}

/// A segment that somebody was writing while it was looked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Growing {
    /// The segment.
    pub name: SegmentName,
    /// The file.
    pub path: PathBuf,
    /// Bytes of it that were there.
    pub bytes: u64,
}

/// What a file with a segment's name is that is no such segment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Flaw {
    /// Not as long as a segment.
    #[error("it is {found} bytes long, not {expected}: {}", if .found < .expected { "it was cut off, or is still being copied" } else { "something was written behind it, or it is no segment" })]
    Size {
        /// How long it is.
        found: u64,
        /// How long segments are.
        expected: u64,
    },
    /// Nothing was ever written to it, or all of it was lost.
    #[error("it is empty")]
    Empty,
    /// A link to a file that is not there, or may not be looked at.
    #[error("it is a link to nothing that can be reached")]
    DeadLink,
    /// Zeros: nothing was ever written to it, or its contents were lost.
    #[error("it holds zeros where its header has to be")]
    Zeros,
    /// Something else under a segment's name.
    #[error("it holds no WAL: {0}")]
    NoWal(String),
    /// Another cluster's.
    #[error("it is of another cluster: its system identifier is {found}, the archive's is {expected}")]
    Foreign {
        /// Whose it is.
        found: u64,
        /// Whose archive it is.
        expected: u64,
    },
    /// Another segment under this name.
    #[error("its contents are those of the position {found}, its name that of {expected}")]
    Misnamed {
        /// Where its contents belong.
        found: Lsn,
        /// Where its name says that they belong.
        expected: Lsn,
    },
    /// Of a timeline that comes after the one in its name.
    #[error("its first page is of timeline {found}, which its name does not lead to")]
    Timeline {
        /// Of its first page.
        found: crate::core::TimelineId,
    },
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Unreadable(String),
}

/// What a `.partial` file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// The segment that it is a part of.
    pub name: SegmentName,
    /// The file.
    pub path: PathBuf,
    /// Just behind its last whole record; `None` where it has none.
    pub end: Option<Lsn>,
    /// Transactions that committed in it.
    pub commits: u64,
    /// When the last of them did.
    pub last_commit_at: Option<Timestamp>,
}
