//! What a command said of the WAL of one timeline, of which no list can be had.

use serde::Serialize;

use crate::core::progress::grouped;
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
    /// How many that lie before it are there: they were given, now or earlier, or lie in a directory.
    pub given: u64,
    /// How many between those are missing.
    pub missing: u64,
    /// How many between those are taken to be there, and were not asked for yet.
    pub presumed: u64,
    /// How many behind the end were asked for too, and are not there.
    pub behind: u64,
}

impl Asked {
    /// A sentence.
    #[must_use]
    pub fn in_words(&self) -> String {
        let Asked { command, timeline, first, end, given, missing, presumed, behind } = self;
        if first == end {
            return format!(
                "{command} was asked for WAL of timeline {timeline} from {first} on: it is not there, nor is any of {behind} behind it that were asked for"
            );
        }
        let mut between = vec![match missing + presumed {
            0 => "all of them are there".to_owned(),
            _ => format!("{} of them are there", grouped(*given)),
        }];
        if *missing > 0 {
            between.push(format!("{missing} are missing between them"));
        }
        if *presumed > 0 {
            between.push(format!("{presumed} between them were not asked for yet"));
        }
        let between = between.join(", ");
        format!(
            "{command} was asked for WAL of timeline {timeline} segment by segment: from {first} on, until {end}, which is not there, nor is any of {behind} behind it that were asked for; {between}"
        )
    }
}
