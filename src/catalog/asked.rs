//! What a command said of the WAL of one timeline, of which no list can be had.

use serde::Serialize;

use crate::core::progress::counted;
use crate::core::{SegmentName, TimelineId};

/// How it was found out what a command has of one timeline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Asked {
    /// The command's name: a word of it.
    pub command: String,
    /// The timeline.
    pub timeline: TimelineId,
    /// The first segment that was asked for.
    pub first: SegmentName,
    /// The first one behind the end: it is not there.
    pub end: SegmentName,
    /// How many that lie before it were given, now or earlier.
    pub given: u64,
    /// How many between those are taken to be there, and were not asked for yet.
    pub presumed: u64,
    /// How many behind the end were asked for too, and are not there.
    pub behind: u64,
}

impl Asked {
    /// A sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Asked { command, timeline, first, end, given, presumed, behind } = self;
        if first == end {
            return format!(
                "{command} was asked for WAL of timeline {timeline} from {first} on: it is not there, nor is any of {behind} behind it that were asked for"
            );
        }
        let between = match presumed {
            0 => "all of them were given".to_owned(),
            _ => format!("{given} were given, {} between them not asked for yet", counted(*presumed, "segment")),
        };
        format!(
            "{command} was asked for WAL of timeline {timeline} segment by segment: from {first} on, until {end}, which is not there, nor is any of {behind} behind it that were asked for; {between}"
        )
    }
}
