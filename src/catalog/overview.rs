//! An archive's contents at a glance: everything about it that fits into memory, made of its segments' summaries.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, SegmentName, SegmentSize, TimelineId, Timestamp, Xid};
use crate::wal::summary::{Damage, Fate, Mark, MarkKind, Summary, Tail};

use super::suspect::{Stitch, Suspect, sort_worst_first, suspects_of};
use super::{Point, PointKind};

/// What is known of one segment for lists and charts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentRows {
    /// The timeline of its file.
    pub timeline: TimelineId,
    /// Its number: its position in WAL, counted in segments.
    pub number: u64,
    /// Whether it has been read. All that follows is nothing while it has not.
    pub read: bool,
    /// Recovery points that are listed: commits, rollbacks, restore points, ends of backups and of recovery, and the
    /// end of WAL where it lies in this segment.
    pub rows: u32,
    /// Transactions that committed.
    pub commits: u32,
    /// The earliest time of a commit or rollback.
    pub earliest: Option<Timestamp>,
    /// The latest time of a commit or rollback.
    pub latest: Option<Timestamp>,
}

impl SegmentRows {
    /// Of a segment that has not been read.
    #[must_use]
    pub fn unread(timeline: TimelineId, number: u64) -> SegmentRows {
        SegmentRows { timeline, number, read: false, rows: 0, commits: 0, earliest: None, latest: None }
    }
}

/// A damaged place in a segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedPlace {
    /// The timeline of the segment's file.
    pub timeline: TimelineId,
    /// The segment's number.
    pub number: u64,
    /// The name of the segment's file.
    pub file: String,
    /// How much of it is harmed.
    pub extent: Extent,
    /// What is wrong there.
    pub damage: Damage,
}

/// How much of a segment is harmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Extent {
    /// All of it: it cannot be read, or is none of this cluster's segments.
    Whole,
    /// What lies from one place on, or between two.
    Part,
    /// Nothing in it, but it does not go on where the segment before it ends.
    Border,
}

impl DamagedPlace {
    /// What it means for recovery, in words.
    #[must_use]
    pub fn meaning(&self) -> String {
        let at = self.damage.at;
        match self.extent {
            Extent::Whole => format!(
                "recovery from a base backup taken before {at} ends there; what lies behind can only be recovered from a later backup"
            ),
            Extent::Part | Extent::Border => format!(
                "recovery that comes to {at} ends there; what lies behind can only be recovered from a backup taken behind it"
            ),
        }
    }
}

/// Everything about an archive that fits into memory, however large it is.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Overview {
    /// Every segment, by timeline and number.
    pub segments: Vec<SegmentRows>,
    /// Restore points, ends of backups and of recovery, ends of WAL; by timeline and position.
    pub marks: Vec<Point>,
    /// Transactions that destroyed data, the worst first.
    pub suspects: Vec<Suspect>,
    /// Damaged places, by timeline and position.
    pub damaged: Vec<DamagedPlace>,
    /// Whether every segment has been read.
    pub complete: bool,
}

/// Makes an [`Overview`] of summaries, fed by timeline and number, parents before those that forked off them.
#[derive(Debug)]
pub struct OverviewBuilder {
    overview: Overview,
    size: SegmentSize,
    rows: u64,
    stitch: Stitch,
    /// How the segment before ends, where it could be read.
    before: Option<Border>,
    /// What was known where timelines fork off that are still to come.
    at_forks: BTreeMap<TimelineId, (Stitch, Option<Border>)>,
}

/// What the segment behind has to go on with.
#[derive(Debug, Clone, Copy)]
struct Border {
    number: u64,
    /// Where the last record starts.
    last: Option<Lsn>,
    /// Where WAL ends in it, if it does.
    ends: Option<Lsn>,
}

impl OverviewBuilder {
    /// Suspects are those that deleted or updated at least `rows` rows, and those that dropped, truncated or rewrote.
    /// Segments are `size` bytes long.
    #[must_use]
    pub fn new(rows: u64, size: SegmentSize) -> OverviewBuilder {
        let overview = Overview { complete: true, ..Overview::default() };
        let (stitch, at_forks) = (Stitch::new(rows), BTreeMap::new());
        OverviewBuilder { overview, size, rows, stitch, before: None, at_forks }
    }

    /// Begins a timeline. What was open at its fork goes on: a prepared transaction may be committed on it.
    pub fn begin_timeline(&mut self, timeline: TimelineId) {
        (self.stitch, self.before) = self.at_forks.remove(&timeline).unwrap_or_else(|| (Stitch::new(self.rows), None));
    }

    /// Says that a timeline forks off in the segment that is fed next: to be called before that.
    pub fn fork(&mut self, child: TimelineId) {
        self.at_forks.insert(child, (self.stitch.clone(), self.before));
    }

    /// Takes the next segment; `None` where it has not been read. `ask` finds out how transactions ended in it, see
    /// [`Stitch::feed`].
    pub fn segment(
        &mut self,
        timeline: TimelineId,
        number: u64,
        summary: Option<&Summary>,
        ask: &mut dyn FnMut(&[Xid]) -> BTreeMap<Xid, Fate>,
    ) {
        let Some(summary) = summary else {
            self.overview.complete = false;
            self.overview.segments.push(SegmentRows::unread(timeline, number));
            self.before = None;
            return;
        };
        self.overview.segments.push(SegmentRows {
            timeline,
            number,
            read: true,
            rows: u32::try_from(summary.listed()).unwrap_or(u32::MAX),
            commits: summary.commits,
            earliest: summary.times.map(|(earliest, _)| earliest),
            latest: summary.times.map(|(_, latest)| latest),
        });
        self.overview.marks.extend(summary.marks.iter().filter_map(|mark| listed_mark(timeline, mark)));
        for damage in &summary.damage {
            self.damaged(timeline, number, Extent::Part, damage.clone());
        }
        self.check_border(timeline, number, summary);
        for ended in self.stitch.feed(summary, ask) {
            self.overview.suspects.extend(suspects_of(&ended, timeline, self.rows));
        }
    }

    /// Takes a segment that cannot be read, or is none of this cluster's, and why in words.
    pub fn unreadable(&mut self, timeline: TimelineId, number: u64, reason: String) {
        self.overview.segments.push(SegmentRows { read: true, ..SegmentRows::unread(timeline, number) });
        self.damaged_file(timeline, number, reason);
        self.before = None;
    }

    /// Notes where a segment does not go on where the one before it ends.
    fn check_border(&mut self, timeline: TimelineId, number: u64, summary: &Summary) {
        let before = self.before.filter(|before| before.number + 1 == number);
        let break_at = |at, reason| {
            let found = self.size.start_of(number);
            Some(Damage { at, found, resumed: summary.first, reason })
        };
        let broken = match (before, summary.before_first) {
            (Some(Border { ends: Some(at), .. }), _) => {
                break_at(at, format!("WAL ends in the segment before it, at {at}, and goes on in this one"))
            }
            (Some(Border { last: Some(last), .. }), Some(previous)) if last != previous => break_at(
                self.size.start_of(number),
                format!(
                    "it does not follow the segment before it: its first record comes after one at {previous}, but the last one there is at {last}"
                ),
            ),
            _ => None,
        };
        if let Some(damage) = broken {
            self.damaged(timeline, number, Extent::Border, damage);
        }
        // Where the segment itself is damaged up to its end, that is what there is to say.
        let damaged = summary.tail == Tail::Ends && !summary.damage.is_empty();
        let end = if summary.records > 0 { summary.end } else { self.size.start_of(number) };
        self.before = (!damaged).then(|| Border {
            number,
            last: summary.last.or(before.and_then(|before| before.last)),
            ends: (summary.tail == Tail::Ends).then_some(end),
        });
    }

    /// Notes a file with a segment's name that is no whole segment, and why in words.
    pub fn damaged_file(&mut self, timeline: TimelineId, number: u64, reason: String) {
        let start = self.size.start_of(number);
        let damage = Damage { at: start, found: start, resumed: None, reason };
        self.damaged(timeline, number, Extent::Whole, damage);
    }

    fn damaged(&mut self, timeline: TimelineId, number: u64, extent: Extent, damage: Damage) {
        let file = SegmentName::new(timeline, number, self.size).to_string();
        self.overview.damaged.push(DamagedPlace { timeline, number, file, extent, damage });
    }

    /// Says where the WAL of a timeline ends, behind the segment that was fed last.
    pub fn end_of_wal(&mut self, timeline: TimelineId, end: Lsn) {
        self.overview.marks.push(Point::at(PointKind::EndOfWal, timeline, end, end));
        if let Some(last) = self.overview.segments.last_mut() {
            last.rows = last.rows.saturating_add(1);
        }
    }

    /// The overview.
    #[must_use]
    pub fn finish(mut self) -> Overview {
        sort_worst_first(&mut self.overview.suspects);
        self.overview.damaged.sort_by_key(|place| (place.timeline, place.number, place.damage.at));
        self.overview
    }
}

/// A mark as the recovery point that it is, where it is one that is listed.
fn listed_mark(timeline: TimelineId, mark: &Mark) -> Option<Point> {
    let point = |kind| Point { at: mark.at, ..Point::at(kind, timeline, mark.lsn, mark.end_lsn) };
    match &mark.kind {
        MarkKind::RestorePoint(name) => Some(Point { name: Some(name.clone()), ..point(PointKind::RestorePoint) }),
        MarkKind::BackupEnd(_) => Some(point(PointKind::BackupEnd)),
        MarkKind::EndOfRecovery(_) => Some(point(PointKind::EndOfRecovery)),
        MarkKind::Checkpoint(_) => None,
    }
}
