//! Timelines, and the way from a base backup through their forks.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::lsn::Lsn;
use super::segment::SegmentSize;

/// A timeline's number, from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelineId(pub u32);

impl TimelineId {
    /// The timeline that `initdb` starts with; the only one without a history file.
    pub const FIRST: TimelineId = TimelineId(1);
}

impl fmt::Display for TimelineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One stretch of a [`TimelinePath`]: WAL of `timeline` from `begin` on, up to `end` where the next one forked off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// Whose WAL this is.
    pub timeline: TimelineId,
    /// Where it begins: 0/0 for the first, else where it forked off its parent.
    pub begin: Lsn,
    /// Where the next timeline forked off; `None` on the last one, which is open.
    pub end: Option<Lsn>,
}

/// The history of one timeline: every ancestor with its stretch, oldest first, the timeline itself last.
///
/// The rules are those of `tliOfPointInHistory` (`src/backend/access/transam/timeline.c`): an LSN belongs to the
/// newest stretch with begin ≤ LSN < end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TimelinePath(Vec<Stretch>);

impl TimelinePath {
    /// From (timeline, where it ended) pairs as a history file lists them, and the timeline whose file it is.
    #[must_use]
    pub fn new(ancestors: &[(TimelineId, Lsn)], timeline: TimelineId) -> TimelinePath {
        let mut stretches = Vec::with_capacity(ancestors.len() + 1);
        let mut begin = Lsn::INVALID;
        for &(ancestor, end) in ancestors {
            stretches.push(Stretch { timeline: ancestor, begin, end: Some(end) });
            begin = end;
        }
        stretches.push(Stretch { timeline, begin, end: None });
        TimelinePath(stretches)
    }

    /// The stretches, oldest first; never empty.
    #[must_use]
    pub fn stretches(&self) -> &[Stretch] {
        &self.0
    }

    /// The timeline that this path leads to.
    #[must_use]
    pub fn last(&self) -> TimelineId {
        self.0.last().map_or(TimelineId::FIRST, |stretch| stretch.timeline)
    }

    /// Whose WAL holds the record that starts at `lsn`.
    #[must_use]
    pub fn timeline_at(&self, lsn: Lsn) -> Option<TimelineId> {
        self.0
            .iter()
            .rev()
            .find(|stretch| stretch.begin <= lsn && stretch.end.is_none_or(|end| lsn < end))
            .map(|stretch| stretch.timeline)
    }

    /// Where `timeline` ended on this path. `None` where it is not on it, `Some(None)` where it is the open end.
    #[must_use]
    pub fn end_of(&self, timeline: TimelineId) -> Option<Option<Lsn>> {
        self.0.iter().rev().find(|stretch| stretch.timeline == timeline).map(|stretch| stretch.end)
    }

    /// The timelines whose file of segment `number` holds WAL of this path, in the order in which the server asks for
    /// them: newest first (`XLogFileReadAnyTLI`, `xlogrecovery.c`). There is more than one only where a timeline
    /// began inside the segment. The server would go on to ask for older ones, whose WAL left this path before.
    #[must_use]
    pub fn owners_of(&self, number: u64, size: SegmentSize) -> Vec<TimelineId> {
        let mut owners = Vec::new();
        for stretch in self.0.iter().rev() {
            let began_in = size.number_of(stretch.begin);
            if began_in <= number {
                owners.push(stretch.timeline);
            }
            if began_in < number || (began_in == number && stretch.begin == size.start_of(number)) {
                break;
            }
        }
        owners
    }
}

impl fmt::Display for TimelinePath {
    /// `1 → 2 (at 0/5000148) → 4 (at 0/7000060)`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, stretch) in self.0.iter().enumerate() {
            match i {
                0 => write!(f, "{}", stretch.timeline)?,
                _ => write!(f, " → {} (at {})", stretch.timeline, stretch.begin)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path() -> TimelinePath {
        TimelinePath::new(&[(TimelineId(1), Lsn(0x500_0148)), (TimelineId(2), Lsn(0x700_0060))], TimelineId(4))
    }

    #[test]
    fn an_lsn_belongs_to_the_stretch_it_lies_in() {
        let path = path();
        assert_eq!(path.timeline_at(Lsn(0x500_0147)), Some(TimelineId(1)));
        assert_eq!(path.timeline_at(Lsn(0x500_0148)), Some(TimelineId(2)));
        assert_eq!(path.timeline_at(Lsn(0x700_0060)), Some(TimelineId(4)));
        assert_eq!(path.end_of(TimelineId(2)), Some(Some(Lsn(0x700_0060))));
        assert_eq!(path.end_of(TimelineId(4)), Some(None));
        assert_eq!(path.end_of(TimelineId(3)), None);
        assert_eq!(path.to_string(), "1 → 2 (at 0/5000148) → 4 (at 0/7000060)");
    }

    #[test]
    fn a_segment_is_asked_of_the_newest_timeline_first() {
        let owners = |number| path().owners_of(number, SegmentSize::DEFAULT);
        assert_eq!(owners(4), [TimelineId(1)]);
        assert_eq!(owners(5), [TimelineId(2), TimelineId(1)]);
        assert_eq!(owners(6), [TimelineId(2)], "timeline 1's segment 6 is not on this path");
        assert_eq!(owners(7), [TimelineId(4), TimelineId(2)]);
        assert_eq!(owners(8), [TimelineId(4)]);
    }

    /// The server records the target timeline as parent even when replay stopped on an older one: the switch
    /// points then go backwards, and recovery along such a file works.
    #[test]
    fn a_backward_switch_point_resolves_as_the_server_resolves_it() {
        let path = TimelinePath::new(&[(TimelineId(1), Lsn(0x500)), (TimelineId(3), Lsn(0x300))], TimelineId(4));
        assert_eq!(path.timeline_at(Lsn(0x2FF)), Some(TimelineId(1)));
        assert_eq!(path.timeline_at(Lsn(0x300)), Some(TimelineId(4)));
        assert_eq!(path.timeline_at(Lsn(0x600)), Some(TimelineId(4)));
    }
}
