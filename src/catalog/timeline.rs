//! Timelines with what the archive has of each.

use serde::Serialize;

use crate::core::time::Timestamp;
use crate::core::{Lsn, SegmentName, TimelineId};

/// A timeline, and its WAL in the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Timeline {
    /// Its number.
    pub id: TimelineId,
    /// The timeline it forked off; `None` for the first, and where the history file is missing or broken.
    pub parent: Option<TimelineId>,
    /// Where it forked off.
    pub forked_at_lsn: Option<Lsn>,
    /// What the server wrote down as the reason for the fork.
    pub reason: Option<String>,
    /// Its first segment in the archive.
    pub first_segment: Option<SegmentName>,
    /// Its last whole segment in the archive.
    pub last_segment: Option<SegmentName>,
    /// How many whole segments the archive has of it.
    pub segments: u64,
    /// Where its WAL in the archive ends; to the segment where only names were looked at.
    pub end_lsn: Option<Lsn>,
    /// Time of its first commit or abort in the archive, where it has been read.
    pub first_commit_at: Option<Timestamp>,
    /// Time of its last commit or abort in the archive, where it has been read.
    pub last_commit_at: Option<Timestamp>,
    /// Stretches that are missing between its first and last segment.
    pub gaps: Vec<Gap>,
    /// Files that cannot be right, by name: a segment of the wrong size, a history that does not parse.
    pub damaged: Vec<String>,
}

/// A timeline that another one forked off, and that goes on in the archive behind the fork: two servers have written
/// WAL since. One of them is often a copy that was promoted with archiving on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftBehind {
    /// The timeline that goes on.
    pub timeline: TimelineId,
    /// The one that forked off it.
    pub child: TimelineId,
    /// Where.
    pub fork: Lsn,
    /// How many segments the archive has of it behind that.
    pub segments: u64,
}

impl LeftBehind {
    /// `timeline 2 forked off timeline 1 at 0/5000060, and timeline 1 goes on …`
    #[must_use]
    pub fn in_words(&self) -> String {
        let LeftBehind { timeline, child, fork, segments } = self;
        let segments = crate::core::progress::counted(*segments, "segment");
        format!(
            "timeline {child} forked off timeline {timeline} at {fork}, and timeline {timeline} goes on behind that, with \
             {segments}: two servers have archived here. If one of them was a copy that was promoted, “latest” is not \
             what production went on with; give --timeline"
        )
    }
}

/// Segments that are missing in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The first one missing.
    pub first: SegmentName,
    /// The last one missing.
    pub last: SegmentName,
    /// How many there are.
    pub segments: u64,
}

impl std::fmt::Display for Gap {
    /// `000000010000000000000004`, or `… to … (12 segments)`
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.segments == 1 {
            return self.first.fmt(f);
        }
        write!(f, "{} to {} ({} segments)", self.first, self.last, self.segments)
    }
}
