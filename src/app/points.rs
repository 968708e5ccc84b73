//! The recovery points of a whole archive as a list: every row is known, few points are held.
//!
//! The overview says how many rows each segment has; the points of the segments around the cursor are fetched when
//! they are needed. The cursor moves at once, and settles on the exact point when its segment has come.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::kept::{Held, Kept};
use super::rows::{Holds, Run, Runs};
use super::suspects;
use crate::catalog::overview::{DamagedPlace, SegmentRows};
use crate::catalog::{Catalog, Gap, Overview, Point, PointKind, Suspect};
use crate::core::progress::counted;
use crate::core::{Lsn, SegmentName, SegmentSize, TimelineId, Timestamp, Xid};
use crate::error::Error;

/// A position on a timeline: what everything in WAL is ordered by.
pub type Place = (TimelineId, Lsn);

/// A row of the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// A point.
    Point(&'a Point),
    /// A point whose segment has not come yet.
    Waiting(&'a SegmentRows),
    /// A point whose segment cannot be read any more: why.
    Failed(&'a SegmentRows, &'a str),
    /// WAL that is not there.
    Lack(&'a Lack),
}

/// WAL that is missing or damaged: recovery comes up to it, and no further.
#[derive(Debug, Clone, PartialEq)]
pub struct Lack {
    /// Its timeline.
    pub timeline: TimelineId,
    /// The first segment's number.
    pub number: u64,
    /// Where recovery ends for it.
    pub lsn: Lsn,
    /// Why it cannot be read; `None` for what is missing.
    pub damage: Option<String>,
    /// What it is, in words.
    pub words: String,
    /// The same in two or three words.
    pub short: String,
    /// The last time before it.
    pub after: Option<Timestamp>,
    /// The first time behind it.
    pub before: Option<Timestamp>,
}

/// What came of looking for something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sought {
    /// It was found on the way to the list's end.
    Ahead,
    /// It was found from the other end on.
    Around,
    /// There is only the one that is selected.
    OnlyOne,
    /// There is none.
    Nothing,
}

/// An amount, and whether it is just that or only about that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// How many.
    pub number: u64,
    /// Whether everything that counts was counted.
    pub exact: bool,
}

/// Where the cursor is to settle once the segment under it has come.
#[derive(Debug, Clone, PartialEq)]
struct Goal {
    timeline: TimelineId,
    number: u64,
    at: GoalAt,
    /// What is there, where that is known.
    point: Option<Point>,
    /// So many rows further on: keys that were pressed meanwhile.
    rows: i64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum GoalAt {
    /// The first one at or behind this position.
    Lsn(Lsn),
    /// The first one at or after this time.
    From(Timestamp),
    /// The last one before this time.
    Before(Timestamp),
}

/// The recovery points of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct Points {
    overview: Arc<Overview>,
    size: SegmentSize,
    gaps: Vec<Gap>,
    lacks: Vec<Lack>,
    runs: Runs,
    /// Commits in the overview's segments before each of them; one longer.
    commits: Vec<u64>,
    /// The overview's suspects by position.
    suspects: Vec<usize>,
    /// Whether they are in more than one database.
    several_databases: bool,
    kept: Kept,
    filter: Option<TimelineId>,
    /// The rows of the filter.
    listed: Range<u64>,
    /// Among all rows.
    cursor: u64,
    goal: Option<Goal>,
    moved: bool,
    /// A place that something else on the screen is about.
    also: Option<Place>,
    /// Grows with every change of what is known or listed.
    revision: u64,
}

impl Default for Points {
    fn default() -> Points {
        Points::new(SegmentSize::DEFAULT, Vec::new())
    }
}

impl Points {
    /// None yet, of an archive with segments of this size and these gaps.
    #[must_use]
    pub fn new(size: SegmentSize, gaps: Vec<Gap>) -> Points {
        Points {
            overview: Arc::default(),
            size,
            gaps,
            lacks: Vec::new(),
            runs: Runs::default(),
            commits: vec![0],
            suspects: Vec::new(),
            several_databases: false,
            kept: Kept::default(),
            filter: None,
            listed: 0..0,
            cursor: 0,
            goal: None,
            moved: false,
            also: None,
            revision: 0,
        }
    }

    /// None yet, of this catalog.
    #[must_use]
    pub fn of(catalog: &Catalog) -> Points {
        Points::new(catalog.segment_size, catalog.timelines.iter().flat_map(|timeline| timeline.gaps.clone()).collect())
    }

    /// Takes in what is known of the archive now. The cursor stays on its point.
    pub fn set_overview(&mut self, overview: Arc<Overview>) {
        let anchor = self.anchor();
        self.overview = overview;
        self.commits = sums(self.overview.segments.iter().map(|segment| u64::from(segment.commits)));
        let mut places: Vec<usize> = (0..self.overview.suspects.len()).collect();
        places.sort_by_key(|place| self.overview.suspects.get(*place).map(|s| (s.timeline, s.lsn)));
        self.suspects = places;
        let mut databases = self.overview.suspects.iter().flat_map(Suspect::databases);
        let first = databases.next();
        self.several_databases = databases.any(|name| Some(name) != first);
        self.lacks = self.find_lacks();
        self.runs = self.make_runs();
        self.revision += 1;
        self.list(anchor);
        if !self.moved {
            self.first_guess();
        }
    }

    fn make_runs(&self) -> Runs {
        let segments = &self.overview.segments;
        let mut rows: Vec<u64> = segments.iter().map(|segment| u64::from(segment.rows)).collect();
        let mut runs = Vec::with_capacity(segments.len() + self.lacks.len());
        let marks = self.overview.marks.iter().enumerate();
        for (place, end) in marks.filter(|(_, point)| point.kind == PointKind::EndOfWal) {
            // It counts as a row of the timeline's last segment, and has one of its own here: it is no segment's.
            let behind = segments.partition_point(|segment| segment.timeline <= end.timeline);
            let last =
                behind.checked_sub(1).filter(|last| segments.get(*last).is_some_and(|s| s.timeline == end.timeline));
            if let Some(rows) = last.and_then(|last| rows.get_mut(last)) {
                *rows = rows.saturating_sub(1);
            }
            let number = self.size.number_of(Lsn(end.lsn.0.saturating_sub(1)));
            runs.push((Run { timeline: end.timeline, number, holds: Holds::End(place) }, 1));
        }
        for (place, lack) in self.lacks.iter().enumerate() {
            let holds = if lack.damage.is_some() { Holds::Damaged(place) } else { Holds::Gap(place) };
            runs.push((Run { timeline: lack.timeline, number: lack.number, holds }, 1));
        }
        for ((place, segment), rows) in segments.iter().enumerate().zip(rows) {
            let (timeline, number) = (segment.timeline, segment.number);
            let held = self.kept.points((timeline, number)).map(<[Point]>::len);
            let rows = held.map_or(rows, |held| held as u64);
            if rows > 0 {
                runs.push((Run { timeline, number, holds: Holds::Segment(place) }, rows));
            }
        }
        Runs::new(runs)
    }

    fn find_lacks(&self) -> Vec<Lack> {
        let gaps = self.gaps.iter().map(|gap| {
            let short = format!("{} missing", counted(gap.segments, "segment"));
            let words =
                if gap.segments == 1 { format!("{short}: {gap}") } else { format!("{short} from {} on", gap.first) };
            (gap.first, gap.segments, self.size.start_of(gap.first.number(self.size)), None, [words, short])
        });
        let mut last = None;
        // One row for a segment, however often it is damaged.
        let is_first = |place: &&DamagedPlace| {
            let key = Some((place.timeline, place.number));
            std::mem::replace(&mut last, key) != key
        };
        let damaged = self.overview.damaged.iter().filter(is_first).map(|place| {
            let name = SegmentName::new(place.timeline, place.number, self.size);
            let words = format!("WAL is damaged: {} at {}", place.file, place.damage.at);
            let damage = format!("{}; {}", place.damage.reason, place.meaning());
            (name, 1, place.damage.at, Some(damage), [words, "damaged segment".to_owned()])
        });
        gaps.chain(damaged)
            .map(|(first, count, lsn, damage, [words, short])| {
                let (timeline, number) = (first.timeline, first.number(self.size));
                let segments = &self.overview.segments;
                let from = segments.partition_point(|s| (s.timeline, s.number) < (timeline, number));
                let behind =
                    segments.partition_point(|s| (s.timeline, s.number) < (timeline, number.saturating_add(count)));
                let here = |s: &&SegmentRows| s.timeline == timeline;
                let before = segments.get(..from).unwrap_or_default().iter().rev().take_while(here);
                let after = segments.get(behind..).unwrap_or_default().iter().take_while(here);
                Lack {
                    timeline,
                    number,
                    lsn,
                    damage,
                    words,
                    short,
                    after: before.take(NEIGHBOURS).find_map(|s| s.latest),
                    before: after.take(NEIGHBOURS).find_map(|s| s.earliest),
                }
            })
            .collect()
    }

    /// Takes in the points of a segment.
    pub fn put(&mut self, timeline: TimelineId, number: u64, points: Result<Vec<Point>, Error>) {
        let key = (timeline, number);
        let anchor = self.anchor();
        let held = match points {
            Ok(mut points) => {
                // The end of WAL has a row of its own.
                points.retain(|point| is_listed(point) && point.kind != PointKind::EndOfWal);
                points.sort_by_key(|point| point.lsn);
                Held::Points(points)
            }
            Err(error) => Held::Failed(error.report().message.clone()),
        };
        let rows = if let Held::Points(points) = &held { Some(points.len() as u64) } else { None };
        self.kept.put(key, held);
        let place = self.runs.place_of((timeline, number, 0));
        let Some(run) = self.runs.get(place).filter(|run| run.key() == (timeline, number, 0)).copied() else { return };
        if let Some(rows) = rows.filter(|rows| *rows != self.runs.rows_of(place)) {
            self.runs.set_rows(place, rows);
            self.list(anchor);
        }
        if let Some(goal) = self.goal.take_if(|goal| (goal.timeline, goal.number) == (run.timeline, run.number)) {
            self.settle(place, goal.at);
            if goal.rows != 0 {
                self.select(self.cursor().saturating_add_signed(goal.rows));
            }
        }
    }

    /// Puts the cursor where it was to go, now that the segment at this place is here.
    fn settle(&mut self, place: usize, at: GoalAt) {
        let Some(run) = self.runs.get(place).copied() else { return };
        let first = self.runs.first_row(place);
        let Some(points) = self.kept.points((run.timeline, run.number)) else {
            self.cursor = first;
            return;
        };
        let row = match at {
            GoalAt::Lsn(lsn) => first + points.partition_point(|point| point.lsn < lsn) as u64,
            GoalAt::From(time) => {
                let found = points.iter().position(|point| point.at.is_some_and(|at| at >= time));
                first + found.unwrap_or(points.len()) as u64
            }
            GoalAt::Before(time) => {
                let found = points.iter().rposition(|point| point.at.is_some_and(|at| at < time));
                found.map_or(first.saturating_sub(1), |found| first + found as u64)
            }
        };
        // Behind the segment's last point lies the next row, but not another timeline's.
        let here = self.runs.rows_on(Some(run.timeline));
        self.cursor = row.clamp(here.start, here.end.saturating_sub(1).max(here.start));
    }

    /// How many are listed.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.listed.end - self.listed.start
    }

    /// Whether none is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.listed.is_empty()
    }

    /// What stands in this row.
    #[must_use]
    pub fn row(&self, row: u64) -> Option<Row<'_>> {
        if row >= self.len() {
            return None;
        }
        let (place, offset) = self.runs.at(self.listed.start + row)?;
        let run = self.runs.get(place)?;
        match run.holds {
            Holds::Segment(place) => {
                let segment = self.overview.segments.get(place)?;
                Some(match self.kept.get((run.timeline, run.number)) {
                    Some(Held::Points(points)) => Row::Point(points.get(usize::try_from(offset).ok()?)?),
                    Some(Held::Failed(why)) => Row::Failed(segment, why),
                    None => Row::Waiting(segment),
                })
            }
            Holds::Damaged(place) | Holds::Gap(place) => self.lacks.get(place).map(Row::Lack),
            Holds::End(place) => self.overview.marks.get(place).map(Row::Point),
        }
    }

    /// What stands in the cursor's row.
    #[must_use]
    pub fn here(&self) -> Option<Row<'_>> {
        match self.row(self.cursor())? {
            Row::Waiting(segment) => {
                let known = self.goal.as_ref().and_then(|goal| goal.point.as_ref());
                Some(known.map_or(Row::Waiting(segment), Row::Point))
            }
            row => Some(row),
        }
    }

    /// The point under the cursor, where there is one and it is known.
    #[must_use]
    pub fn selected(&self) -> Option<&Point> {
        match self.here()? {
            Row::Point(point) => Some(point),
            Row::Waiting(_) | Row::Failed(..) | Row::Lack(_) => None,
        }
    }

    /// The timeline that the cursor is on.
    #[must_use]
    pub fn timeline(&self) -> Option<TimelineId> {
        let (place, _) = self.runs.at(self.cursor).filter(|_| !self.is_empty())?;
        self.runs.get(place).map(|run| run.timeline)
    }

    /// The position that the cursor is at; where its segment has not come, about that.
    #[must_use]
    pub fn place(&self) -> Option<Place> {
        match self.here()? {
            Row::Point(point) => Some((point.timeline, point.lsn)),
            Row::Lack(lack) => Some((lack.timeline, lack.lsn)),
            Row::Waiting(segment) | Row::Failed(segment, _) => {
                if let Some(GoalAt::Lsn(lsn)) = self.goal.as_ref().map(|goal| goal.at) {
                    return Some((segment.timeline, lsn));
                }
                let (place, offset) = self.runs.at(self.cursor)?;
                let share = offset as f64 / self.runs.rows_of(place).max(1) as f64;
                let bytes = (share * self.size.bytes() as f64) as u64;
                Some((segment.timeline, self.size.start_of(segment.number).plus(bytes)))
            }
        }
    }

    /// The time that the cursor is at; where its segment has not come, about that.
    #[must_use]
    pub fn moment(&self) -> Option<Timestamp> {
        match self.here()? {
            Row::Point(point) => point.at.or_else(|| self.time_before(self.cursor)),
            Row::Lack(lack) => lack.after.or(lack.before),
            Row::Waiting(segment) | Row::Failed(segment, _) => {
                if let Some(GoalAt::From(at) | GoalAt::Before(at)) = self.goal.as_ref().map(|goal| goal.at) {
                    return Some(at);
                }
                let (from, to) = (segment.earliest?, segment.latest?);
                let (place, offset) = self.runs.at(self.cursor)?;
                let share = offset as f64 / self.runs.rows_of(place).max(1) as f64;
                Some(from.plus_micros((to.unix_micros().saturating_sub(from.unix_micros()) as f64 * share) as i64))
            }
        }
    }

    /// The time of what is before a row on its timeline: the end of WAL has none of its own.
    fn time_before(&self, row: u64) -> Option<Timestamp> {
        let (place, _) = self.runs.at(row)?;
        let timeline = self.runs.get(place)?.timeline;
        let runs = (0..place).rev().take(NEIGHBOURS).filter_map(|place| self.runs.get(place));
        runs.take_while(|run| run.timeline == timeline).find_map(|run| match run.holds {
            Holds::Segment(place) => self.overview.segments.get(place)?.latest,
            _ => None,
        })
    }

    /// The cursor's row.
    #[must_use]
    pub fn cursor(&self) -> u64 {
        self.cursor.saturating_sub(self.listed.start)
    }

    /// What is known of the archive.
    #[must_use]
    pub fn overview(&self) -> &Overview {
        &self.overview
    }

    /// The same, to be handed on.
    #[must_use]
    pub fn known(&self) -> Arc<Overview> {
        Arc::clone(&self.overview)
    }

    /// The size of the archive's segments.
    #[must_use]
    pub fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// The segments of the timelines that are listed.
    #[must_use]
    pub fn segments(&self) -> &[SegmentRows] {
        self.filter.map_or(&self.overview.segments, |timeline| self.segments_of(timeline).1)
    }

    /// The segments of a timeline, and how many come before them.
    fn segments_of(&self, timeline: TimelineId) -> (usize, &[SegmentRows]) {
        let all = &self.overview.segments;
        let from = all.partition_point(|segment| segment.timeline < timeline);
        let to = all.partition_point(|segment| segment.timeline <= timeline);
        (from, all.get(from..to).unwrap_or_default())
    }

    /// The points of a segment, if they are held.
    #[must_use]
    pub fn points_of(&self, segment: &SegmentRows) -> Option<&[Point]> {
        self.kept.points((segment.timeline, segment.number))
    }

    /// Another number after every change of what is known of the archive, or of what is listed.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Another number after every change of what is held.
    #[must_use]
    pub fn held(&self) -> u64 {
        self.kept.revision()
    }

    /// Suspects on every timeline, by position.
    pub fn suspects(&self) -> impl DoubleEndedIterator<Item = &Suspect> {
        self.suspects.iter().filter_map(|place| self.overview.suspects.get(*place))
    }

    /// How many suspects are listed.
    #[must_use]
    pub fn suspects_listed(&self) -> usize {
        match self.filter {
            None => self.suspects.len(),
            Some(only) => self.suspects().filter(|suspect| suspect.timeline == only).count(),
        }
    }

    /// What this point destroyed, the worst first: a transaction can be several suspects.
    pub fn suspects_of(&self, point: &Point) -> impl Iterator<Item = &Suspect> {
        let place = Some((point.timeline, point.lsn)).filter(|_| point.kind == PointKind::Commit);
        let first = place.map_or(self.suspects.len(), |place| self.suspects_before(place));
        let here = self.suspects.get(first..).unwrap_or_default().iter();
        here.filter_map(|index| self.overview.suspects.get(*index))
            .take_while(move |suspect| Some((suspect.timeline, suspect.lsn)) == place)
    }

    /// Whether this point destroyed data.
    #[must_use]
    pub fn is_suspect(&self, point: &Point) -> bool {
        self.suspects_of(point).next().is_some()
    }

    /// Whether there is a suspect from one position up to another one on a timeline.
    #[must_use]
    pub fn has_suspect_within(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> bool {
        self.suspects_before((timeline, from)) < self.suspects_before((timeline, to))
    }

    /// Whether suspects are in more than one database: only then every row says in which.
    #[must_use]
    pub fn has_several_databases(&self) -> bool {
        self.several_databases
    }

    /// How many suspects come before a position.
    fn suspects_before(&self, place: Place) -> usize {
        let key = |index: &usize| self.overview.suspects.get(*index).map(|s| (s.timeline, s.lsn));
        self.suspects.partition_point(|index| key(index) < Some(place))
    }

    /// Restore points on every timeline.
    pub fn restore_points(&self) -> impl Iterator<Item = &Point> {
        self.overview.marks.iter().filter(|point| point.kind == PointKind::RestorePoint)
    }

    /// Missing and damaged WAL on every timeline.
    #[must_use]
    pub fn lacks(&self) -> &[Lack] {
        &self.lacks
    }

    /// Whether this timeline is listed.
    #[must_use]
    pub fn lists(&self, timeline: TimelineId) -> bool {
        self.filter.is_none_or(|only| only == timeline)
    }

    /// The end of transaction `xid`, if it is among what is at hand: suspects and the segments that are held.
    #[must_use]
    pub fn transaction(&self, xid: Xid) -> Option<Point> {
        let ends = |point: &&Point| matches!(point.kind, PointKind::Commit | PointKind::Abort);
        let held =
            self.kept.all().filter(ends).filter(|point| point.xid == Some(xid)).max_by_key(|p| (p.timeline, p.lsn));
        held.cloned().or_else(|| self.suspects().rev().find(|s| s.xid == xid).map(suspects::point))
    }

    /// The ends of transactions of this number that are at hand, by their place.
    #[must_use]
    pub fn ends_of(&self, xid: Xid) -> Vec<Point> {
        let ends = |point: &&Point| matches!(point.kind, PointKind::Commit | PointKind::Abort);
        let held = self.kept.all().filter(ends).filter(|point| point.xid == Some(xid)).cloned();
        let mut found: Vec<Point> = held.chain(self.suspects().filter(|s| s.xid == xid).map(suspects::point)).collect();
        found.sort_by_key(|point| (point.timeline, point.lsn));
        found.dedup_by_key(|point| (point.timeline, point.lsn));
        found
    }

    /// Commits that follow the cursor's row on its timeline.
    #[must_use]
    pub fn commits_after(&self) -> Amount {
        match self.place() {
            Some((timeline, lsn)) => self.commits_from(timeline, lsn.plus(1)),
            None => Amount { number: 0, exact: true },
        }
    }

    /// Commits at `lsn` and behind it on `timeline`, listed or not.
    #[must_use]
    pub fn commits_from(&self, timeline: TimelineId, lsn: Lsn) -> Amount {
        let (base, segments) = self.segments_of(timeline);
        let number = self.size.number_of(lsn);
        let from = segments.partition_point(|segment| segment.number < number);
        let until = |place: usize| self.commits.get(base + place).copied().unwrap_or(0);
        let whole = until(segments.len()).saturating_sub(until(from));
        let Some(first) = segments.get(from).filter(|segment| segment.number == number) else {
            return Amount { number: whole, exact: self.overview.complete };
        };
        let is_before = |point: &&Point| point.kind == PointKind::Commit && point.lsn < lsn;
        match self.points_of(first) {
            Some(points) => {
                let before = points.iter().filter(is_before).count() as u64;
                Amount { number: whole.saturating_sub(before), exact: self.overview.complete }
            }
            None => {
                let share = lsn.bytes_since(self.size.start_of(number)) as f64 / self.size.bytes() as f64;
                let before = (f64::from(first.commits) * share) as u64;
                Amount { number: whole.saturating_sub(before), exact: self.overview.complete && first.commits == 0 }
            }
        }
    }

    /// Commits on the timelines that are listed.
    #[must_use]
    pub fn commits(&self) -> u64 {
        match self.filter {
            None => self.commits.last().copied().unwrap_or(0),
            Some(timeline) => {
                let (base, segments) = self.segments_of(timeline);
                let until = |place: usize| self.commits.get(place).copied().unwrap_or(0);
                until(base + segments.len()).saturating_sub(until(base))
            }
        }
    }

    /// When the last thing on a timeline happened that has a time, listed or not.
    #[must_use]
    pub fn last_at(&self, timeline: TimelineId) -> Option<Timestamp> {
        self.segments_of(timeline).1.iter().rev().take(NEIGHBOURS).find_map(|segment| segment.latest)
    }

    /// The only timeline that is listed; `None` for all.
    #[must_use]
    pub fn filter(&self) -> Option<TimelineId> {
        self.filter
    }

    /// Lists one timeline only, or all. The cursor stays where it was if that is still listed.
    pub fn set_filter(&mut self, filter: Option<TimelineId>) {
        let anchor = self.anchor();
        self.filter = filter;
        self.revision += 1;
        self.list(anchor);
        if !self.moved {
            self.first_guess();
        }
    }

    /// The timelines that have points.
    #[must_use]
    pub fn timelines(&self) -> Vec<TimelineId> {
        self.runs.timelines()
    }

    /// Puts the cursor into this row, or the last one.
    pub fn select(&mut self, row: u64) {
        self.moved = true;
        self.goal = None;
        self.cursor = self.listed.start + row.min(self.len().saturating_sub(1));
    }

    /// Moves the cursor by so many rows.
    pub fn step(&mut self, rows: i64) {
        // Where the cursor is going is known when its segment has come: it goes on from there.
        if let Some(goal) = &mut self.goal
            && rows.unsigned_abs() < NEAR
        {
            goal.rows = goal.rows.saturating_add(rows);
            goal.point = None;
            return;
        }
        self.select(self.cursor().saturating_add_signed(rows));
    }

    /// Moves the cursor to the next (or the previous) one of `places`, and past the last one on from the other end.
    /// They are sorted, and of timelines that are listed.
    pub fn seek(&mut self, forward: bool, places: &[Place]) -> Sought {
        let (sought, found) = self.next_of(forward, places);
        if let Some(found) = found {
            self.go_to(found, None);
        }
        sought
    }

    /// The same with the places where WAL is missing or damaged.
    pub fn seek_lack(&mut self, forward: bool) -> Sought {
        let listed = self.lacks.iter().filter(|lack| self.lists(lack.timeline));
        let mut places: Vec<Place> = listed.map(|lack| (lack.timeline, lack.lsn)).collect();
        places.sort_unstable();
        let (sought, found) = self.next_of(forward, &places);
        let lack = self.lacks.iter().position(|lack| Some((lack.timeline, lack.lsn)) == found);
        if let Some(lack) = lack {
            self.go_to_lack(lack);
        }
        sought
    }

    /// Moves the cursor to the row that says that WAL is missing or damaged, by its place among [`Points::lacks`].
    pub fn go_to_lack(&mut self, lack: usize) -> bool {
        let Some((timeline, number)) = self.lacks.get(lack).map(|lack| (lack.timeline, lack.number)) else {
            return false;
        };
        self.unlist_unless(timeline);
        let from = self.runs.place_of((timeline, number, 0));
        let is_it = |run: &Run| run.holds == Holds::Damaged(lack) || run.holds == Holds::Gap(lack);
        let Some(place) = (from..from + 4).find(|place| self.runs.get(*place).is_some_and(is_it)) else { return false };
        self.select(self.runs.first_row(place) - self.listed.start);
        true
    }

    fn next_of(&self, forward: bool, places: &[Place]) -> (Sought, Option<Place>) {
        let Some(here) = self.place().or(places.first().copied()) else { return (Sought::Nothing, None) };
        let before = places.partition_point(|place| *place < here);
        let behind = places.partition_point(|place| *place <= here);
        let (ahead, around) = if forward {
            (places.get(behind), places.first())
        } else {
            (before.checked_sub(1).and_then(|place| places.get(place)), places.last())
        };
        let Some(found) = ahead.or(around).copied() else { return (Sought::Nothing, None) };
        let sought = match ahead {
            Some(_) => Sought::Ahead,
            None if found == here => Sought::OnlyOne,
            None => Sought::Around,
        };
        (sought, Some(found))
    }

    /// Moves the cursor to the first row at or behind a position on its timeline, at once to its segment, and to the
    /// very row when that has come. `point` is what is there, if that is known. `false` where there is none.
    pub fn go_to(&mut self, (timeline, lsn): Place, point: Option<&Point>) -> bool {
        let number = self.size.number_of(lsn);
        let place = self.runs.place_of((timeline, number, 0));
        let Some(run) = self.runs.get(place).filter(|run| run.timeline == timeline).copied() else { return false };
        self.unlist_unless(timeline);
        (self.moved, self.goal) = (true, None);
        if run.number == number && matches!(run.holds, Holds::Segment(_)) {
            self.aim(place, GoalAt::Lsn(lsn), point.filter(|point| point.lsn == lsn).cloned());
        } else {
            self.cursor = self.runs.first_row(place);
        }
        true
    }

    /// Moves the cursor to the first row at or after a time on a timeline, or to the last one before it; where there
    /// is none, to the end that is nearest. `false` where nothing on the timeline has a time.
    pub fn go_to_time(&mut self, timeline: TimelineId, at: Timestamp, before: bool) -> bool {
        let (_, segments) = self.segments_of(timeline);
        let mut timed = segments.iter().filter(|segment| segment.rows > 0 && segment.latest.is_some());
        let found = if before {
            timed.clone().rev().find(|segment| segment.earliest.is_some_and(|earliest| earliest < at)).or(timed.next())
        } else {
            timed.clone().find(|segment| segment.latest.is_some_and(|latest| latest >= at)).or(timed.next_back())
        };
        let Some(key) = found.map(|segment| (segment.timeline, segment.number, 0)) else { return false };
        self.unlist_unless(timeline);
        (self.moved, self.goal) = (true, None);
        self.aim(self.runs.place_of(key), if before { GoalAt::Before(at) } else { GoalAt::From(at) }, None);
        true
    }

    /// Where the segment begins in which the first row at or after a time lies, if the timeline has such times.
    #[must_use]
    pub fn segment_at(&self, timeline: TimelineId, at: Timestamp) -> Option<Place> {
        let (_, segments) = self.segments_of(timeline);
        let begun = segments.iter().any(|segment| segment.earliest.is_some_and(|earliest| earliest <= at));
        let found = segments.iter().find(|segment| segment.latest.is_some_and(|latest| latest >= at));
        found.filter(|_| begun).map(|segment| (timeline, self.size.start_of(segment.number)))
    }

    /// Whether the archive has this segment.
    #[must_use]
    pub fn has_segment(&self, timeline: TimelineId, number: u64) -> bool {
        let key = |segment: &SegmentRows| (segment.timeline, segment.number);
        self.overview.segments.binary_search_by_key(&(timeline, number), key).is_ok()
    }

    /// Moves the cursor to the first row of a stretch of time, on its own timeline where that has one there.
    pub fn go_to_stretch(&mut self, from: Timestamp, to: Timestamp) -> bool {
        let here = self.timeline();
        let overlaps = |timeline: &TimelineId| {
            let within = |s: &SegmentRows| s.rows > 0 && s.earliest <= Some(to) && s.latest >= Some(from);
            self.segments_of(*timeline).1.iter().any(|segment| segment.earliest.is_some() && within(segment))
        };
        let listed: Vec<TimelineId> = self.timelines().into_iter().filter(|timeline| self.lists(*timeline)).collect();
        let found = here.into_iter().chain(listed.into_iter().rev()).find(overlaps).or(here);
        found.is_some_and(|timeline| self.go_to_time(timeline, from, false))
    }

    /// Another timeline than the one that is listed has to be seen: all are listed.
    fn unlist_unless(&mut self, timeline: TimelineId) {
        if !self.lists(timeline) {
            self.set_filter(None);
        }
    }

    /// Puts the cursor into the segment at this place, exactly where that can be told.
    fn aim(&mut self, place: usize, at: GoalAt, point: Option<Point>) {
        let Some(run) = self.runs.get(place).copied() else { return };
        if self.kept.get((run.timeline, run.number)).is_some() {
            return self.settle(place, at);
        }
        self.cursor = self.runs.first_row(place);
        self.goal = Some(Goal { timeline: run.timeline, number: run.number, at, point, rows: 0 });
    }

    /// Whether the cursor is where it is only until its segment has come.
    #[must_use]
    pub fn is_settling(&self) -> bool {
        self.goal.is_some()
    }

    /// Says that something on the screen is about this position.
    pub fn attend(&mut self, place: Option<Place>) {
        self.also = place;
    }

    /// What has to be fetched so that so many rows on either side of the cursor can be shown, and the segments
    /// between these times; nothing is asked for twice.
    pub fn wanted(&mut self, rows: u64, others: &[(TimelineId, u64)]) -> Vec<(TimelineId, RangeInclusive<u64>)> {
        let mut keys: Vec<(TimelineId, u64)> = self.goal.iter().map(|goal| (goal.timeline, goal.number)).collect();
        let from = self.cursor.saturating_sub(rows).max(self.listed.start);
        let to = self.cursor.saturating_add(rows).min(self.listed.end.saturating_sub(1));
        let mut row = from;
        while row <= to && !self.is_empty() {
            let Some((place, _)) = self.runs.at(row) else { break };
            if let Some(Run { holds: Holds::Segment(_), timeline, number }) = self.runs.get(place) {
                keys.push((*timeline, *number));
            }
            row = self.runs.first_row(place) + self.runs.rows_of(place);
        }
        // What is nearest to the cursor is what is looked at.
        if let Some((_, lsn)) = self.place() {
            let here = self.size.number_of(lsn);
            keys.sort_by_key(|(_, number)| number.abs_diff(here));
        }
        let also = self.also.map(|(timeline, lsn)| (timeline, self.size.number_of(lsn)));
        keys.extend(also.filter(|(timeline, number)| self.has_segment(*timeline, *number)));
        keys.extend(others);
        self.kept.need(keys)
    }

    /// What the cursor is known again by after the rows have changed: its run, its row in it, and its point.
    fn anchor(&self) -> Option<(Run, u64, Option<Lsn>)> {
        let (place, offset) = self.runs.at(self.cursor)?;
        let lsn = match self.here() {
            Some(Row::Point(point)) => Some(point.lsn),
            _ => None,
        };
        Some((self.runs.get(place).copied()?, offset, lsn))
    }

    /// Lists anew, with the cursor where it was.
    fn list(&mut self, anchor: Option<(Run, u64, Option<Lsn>)>) {
        self.listed = self.runs.rows_on(self.filter);
        if let Some((run, offset, lsn)) = anchor {
            let place = self.runs.place_of(run.key());
            let same = self.runs.get(place).is_some_and(|found| found.key() == run.key());
            let exact = lsn.and_then(|lsn| {
                Some(self.kept.points((run.timeline, run.number))?.partition_point(|p| p.lsn < lsn) as u64)
            });
            let offset = exact.unwrap_or(offset).min(self.runs.rows_of(place).saturating_sub(1));
            self.cursor = self.runs.first_row(place) + if same { offset } else { 0 };
        }
        let last = self.listed.end.saturating_sub(1).max(self.listed.start);
        self.cursor = self.cursor.clamp(self.listed.start, last);
        if self.goal.as_ref().is_some_and(|goal| !self.lists(goal.timeline)) {
            self.goal = None;
        }
    }

    /// Where the cursor stands until the operator moves it: at the newest suspect, or else at the end.
    fn first_guess(&mut self) {
        self.goal = None;
        let newest = self.suspects().filter(|s| self.lists(s.timeline)).max_by_key(|s| (s.at, s.timeline, s.lsn));
        let newest = newest.map(|suspect| ((suspect.timeline, suspect.lsn), suspects::point(suspect)));
        let found = newest.is_some_and(|(place, point)| self.go_to(place, Some(&point)));
        if !found {
            let is_point = |row: &u64| !matches!(self.row(*row), Some(Row::Lack(_)));
            let last = (0..self.len()).rev().find(is_point).unwrap_or(0);
            self.cursor = self.listed.start + last;
        }
        self.moved = false;
    }
}

/// Steps of fewer rows than this wait for a jump to settle; longer ones make up for it.
const NEAR: u64 = 1000;

/// How many segments away a time is looked for: an idle server archives many without one.
const NEIGHBOURS: usize = 4096;

/// Whether a point is listed. Checkpoints and prepared transactions never stop recovery.
#[must_use]
pub fn is_listed(point: &Point) -> bool {
    !matches!(point.kind, PointKind::Checkpoint | PointKind::Prepare)
}

/// Sums before each of the numbers, and of all.
fn sums(numbers: impl Iterator<Item = u64>) -> Vec<u64> {
    let mut sums = vec![0];
    let mut so_far = 0_u64;
    for number in numbers {
        so_far = so_far.saturating_add(number);
        sums.push(so_far);
    }
    sums
}

impl Amount {
    /// `6 commits`, `about 1,200 commits`.
    #[must_use]
    pub fn of(self, word: &str) -> String {
        let about = if self.exact { "" } else { "about " };
        format!("{about}{}", counted(self.number, word))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::app::suspects::tests::suspect;
    use crate::catalog::SuspectKind;
    use crate::catalog::overview::Extent;
    use crate::wal::summary::Damage;
    use proptest::prelude::*;

    pub(crate) fn commit(timeline: u32, lsn: u64) -> Point {
        Point {
            xid: Some(Xid(lsn as u32)),
            at: Timestamp::from_unix_seconds(1_727_870_000 + lsn as i64),
            ..Point::at(PointKind::Commit, TimelineId(timeline), Lsn(lsn), Lsn(lsn + 0x28))
        }
    }

    /// What an archive with these points is known by, and its segments' points.
    pub(crate) fn archive(points: &[Point], size: SegmentSize) -> (Overview, BTreeMap<(TimelineId, u64), Vec<Point>>) {
        let mut held: BTreeMap<_, Vec<Point>> = BTreeMap::new();
        let mut overview = Overview { complete: true, ..Overview::default() };
        let mut ends: BTreeMap<(TimelineId, u64), u32> = BTreeMap::new();
        for point in points.iter().filter(|point| is_listed(point)) {
            let key = (point.timeline, size.number_of(point.lsn));
            if !matches!(point.kind, PointKind::Commit | PointKind::Abort) {
                overview.marks.push(point.clone());
            }
            if point.kind == PointKind::EndOfWal {
                *ends.entry(key).or_default() += 1;
            }
            held.entry(key).or_default().push(point.clone());
            let kind = if point.drops > 0 { SuspectKind::Drop } else { SuspectKind::Delete };
            if point.kind == PointKind::Commit && (point.drops > 0 || point.deletes >= 1000) {
                let relations = vec![(None, point.deletes); (point.drops as usize).max(1)];
                let (timeline, at) = (point.timeline, point.at.unwrap_or(Timestamp::UNIX_EPOCH));
                overview.suspects.push(Suspect { timeline, at, ..suspect(kind, point.lsn.0, &relations) });
            }
        }
        for ((timeline, number), points) in &held {
            let ends = |p: &&Point| matches!(p.kind, PointKind::Commit | PointKind::Abort);
            let times = || points.iter().filter(ends).filter_map(|point| point.at);
            overview.segments.push(SegmentRows {
                timeline: *timeline,
                number: *number,
                read: true,
                rows: points.len() as u32,
                commits: points.iter().filter(|point| point.kind == PointKind::Commit).count() as u32,
                earliest: times().min(),
                latest: times().max(),
            });
        }
        crate::catalog::suspect::sort_worst_first(&mut overview.suspects);
        (overview, held)
    }

    fn small() -> SegmentSize {
        SegmentSize::new(1 << 20).unwrap()
    }

    /// With everything known and held.
    fn all_of(points: &[Point]) -> Points {
        let (overview, held) = archive(points, small());
        let mut list = Points::new(small(), Vec::new());
        list.set_overview(Arc::new(overview));
        for ((timeline, number), points) in held {
            list.put(timeline, number, Ok(points));
        }
        list
    }

    fn rows(points: &Points) -> Vec<(u32, u64)> {
        let point = |row| if let Some(Row::Point(p)) = points.row(row) { Some((p.timeline.0, p.lsn.0)) } else { None };
        (0..points.len()).filter_map(point).collect()
    }

    #[test]
    fn they_are_listed_by_timeline_and_position() {
        let checkpoint = Point { kind: PointKind::Checkpoint, ..commit(1, 15) };
        let mut points = all_of(&[commit(2, 30), commit(1, 20), checkpoint, commit(1, 10)]);
        assert_eq!(rows(&points), [(1, 10), (1, 20), (2, 30)]);
        assert_eq!(points.timelines(), [TimelineId(1), TimelineId(2)]);
        points.set_filter(Some(TimelineId(2)));
        assert_eq!(rows(&points), [(2, 30)]);
    }

    #[test]
    fn the_end_of_wal_has_a_row_of_its_own_be_it_on_a_border_or_within() {
        for end in [25, 2 << 20] {
            let end = Point { at: None, xid: None, kind: PointKind::EndOfWal, ..commit(1, end) };
            let (mut overview, held) = archive(&[commit(1, 10), commit(1, 20)], small());
            overview.marks.push(end.clone());
            overview.segments[0].rows += 1;
            let mut points = Points::new(small(), Vec::new());
            points.set_overview(Arc::new(overview));
            assert_eq!((points.len(), points.selected()), (3, Some(&end)), "it is known before anything is read");
            for ((timeline, number), found) in held {
                points.put(timeline, number, Ok(found));
            }
            assert_eq!(rows(&points), [(1, 10), (1, 20), (1, end.lsn.0)]);
        }
    }

    #[test]
    fn the_cursor_waits_at_the_newest_suspect_until_it_is_moved() {
        let before = [commit(1, 10), Point { drops: 1, ..commit(1, 20) }, commit(1, 30)];
        let mut points = all_of(&before);
        assert_eq!(points.selected().unwrap().lsn, Lsn(20));
        points.step(-1);
        let mut more = before.to_vec();
        more.extend([commit(1, 5), Point { deletes: 1000, ..commit(1, 40) }]);
        let (overview, held) = archive(&more, small());
        points.set_overview(Arc::new(overview));
        for ((timeline, number), found) in held {
            points.put(timeline, number, Ok(found));
        }
        assert_eq!(points.selected().unwrap().lsn, Lsn(10), "it stays on its point while others come in before it");
    }

    #[test]
    fn what_is_looked_for_is_found_around_the_end() {
        let mut points = all_of(&[commit(1, 10), commit(1, 20), commit(1, 30), commit(1, 40)]);
        let place = |lsn| (TimelineId(1), Lsn(lsn));
        points.select(1);
        assert_eq!(points.seek(true, &[place(20)]), Sought::OnlyOne);
        points.select(0);
        let mut seek = |forward| (points.seek(forward, &[place(20), place(40)]), points.selected().unwrap().lsn.0);
        assert_eq!(seek(true), (Sought::Ahead, 20));
        assert_eq!(seek(true), (Sought::Ahead, 40));
        assert_eq!(seek(true), (Sought::Around, 20));
        assert_eq!(seek(false), (Sought::Around, 40));
        assert_eq!(seek(false), (Sought::Ahead, 20));
        assert_eq!(points.seek(true, &[]), Sought::Nothing);
    }

    #[test]
    fn commits_behind_a_point_are_counted_on_its_timeline_only() {
        let aborted = Point { kind: PointKind::Abort, ..commit(1, 20) };
        let mut points = all_of(&[commit(1, 10), aborted, commit(1, 30), commit(1, 3 << 20), commit(2, 5)]);
        let after = |points: &mut Points, row| {
            points.select(row);
            points.commits_after()
        };
        let exact = |number| Amount { number, exact: true };
        assert_eq!([0, 1, 2, 3, 4].map(|row| after(&mut points, row)), [2, 2, 1, 0, 0].map(exact));
        assert_eq!(points.commits(), 4);
    }

    #[test]
    fn a_jump_goes_to_the_segment_at_once_and_to_the_point_when_that_has_come() {
        let all: Vec<Point> = (0..1000).map(|i| commit(1, i * 40_000)).collect();
        let (overview, held) = archive(&all, small());
        let mut points = Points::new(small(), Vec::new());
        points.set_overview(Arc::new(overview));
        assert_eq!(points.len(), 1000);
        let wanted = &all[555];
        assert!(points.go_to((wanted.timeline, wanted.lsn), Some(wanted)));
        assert!(matches!(points.row(points.cursor()), Some(Row::Waiting(_))) && points.is_settling());
        assert_eq!(points.selected(), Some(wanted), "what it is to be is known already");
        let number = small().number_of(wanted.lsn);
        assert!(points.wanted(5, &[]).iter().any(|(_, numbers)| numbers.contains(&number)));
        points.put(TimelineId(1), number, Ok(held[&(TimelineId(1), number)].clone()));
        assert_eq!((points.cursor(), points.selected(), points.is_settling()), (555, Some(wanted), false));
        // By time, in both directions; and a key in between ends the jump.
        let at = all[300].at.unwrap();
        for (before, row) in [(false, 300), (true, 299)] {
            points.go_to_time(TimelineId(1), at, before);
            for ((timeline, number), found) in &held {
                points.put(*timeline, *number, Ok(found.clone()));
            }
            assert_eq!(points.cursor(), row);
        }
        let (overview, _) = archive(&all, small());
        let mut points = Points::new(small(), Vec::new());
        points.set_overview(Arc::new(overview));
        points.go_to((wanted.timeline, wanted.lsn), Some(wanted));
        points.step(3);
        assert_eq!(points.selected(), None);
        points.step(-5);
        points.put(TimelineId(1), number, Ok(held[&(TimelineId(1), number)].clone()));
        assert_eq!(points.cursor(), 553, "keys that were pressed meanwhile count from there");
        points.go_to((wanted.timeline, Lsn(0)), None);
        points.step(i64::MAX / 2);
        assert_eq!((points.cursor(), points.is_settling()), (999, false), "the end is the end");
    }

    #[test]
    fn a_segment_that_cannot_be_read_says_so_in_its_rows() {
        let (overview, _) = archive(&[commit(1, 10), commit(1, 20)], small());
        let mut points = Points::new(small(), Vec::new());
        points.set_overview(Arc::new(overview));
        points.put(TimelineId(1), 0, Err(Error::failed("gone", "it is gone")));
        assert!((0..2).all(|row| matches!(points.row(row), Some(Row::Failed(_, "it is gone")))));
        assert_eq!(points.selected(), None);
    }

    #[test]
    fn missing_and_damaged_wal_have_rows_between_what_is_there() {
        let all = [commit(1, 10), commit(1, 7 << 20)];
        let name = |number| SegmentName::new(TimelineId(1), number, small());
        let gap = Gap { first: name(1), last: name(6), segments: 6 };
        let (mut overview, held) = archive(&all, small());
        overview.damaged = [(7 << 20) + 50, (7 << 20) + 99]
            .map(|at| DamagedPlace {
                timeline: TimelineId(1),
                number: 7,
                file: "000000010000000000000007".to_owned(),
                extent: Extent::Part,
                damage: Damage { at: Lsn(at), found: Lsn(at), resumed: None, reason: "zeros".to_owned() },
            })
            .to_vec();
        let mut points = Points::new(small(), vec![gap]);
        points.set_overview(Arc::new(overview));
        for ((timeline, number), found) in held {
            points.put(timeline, number, Ok(found));
        }
        assert_eq!(points.len(), 4);
        let Some(Row::Lack(lack)) = points.row(1) else { panic!("no gap") };
        assert_eq!((lack.after, lack.before, lack.damage.as_ref()), (all[0].at, all[1].at, None));
        points.select(0);
        assert_eq!(
            [true, true, true, false].map(|forward| (points.seek_lack(forward), points.cursor())),
            [(Sought::Ahead, 1), (Sought::Ahead, 3), (Sought::Around, 1), (Sought::Around, 3),]
        );
        assert!(
            matches!(points.row(3), Some(Row::Lack(lack)) if lack.damage.as_deref().is_some_and(|damage| damage.starts_with("zeros; ")))
        );
    }

    /// The state of an archive with 100,000 segments of some 4,000 transactions each.
    #[test]
    fn a_hundred_thousand_segments_are_no_burden() {
        const SEGMENTS: u64 = 100_000;
        const ROWS: u64 = 4_000;
        let at = |seconds: i64| Timestamp::from_unix_seconds(1_700_000_000 + seconds).unwrap();
        let segment = |number: u64| SegmentRows {
            timeline: TimelineId(1),
            number,
            read: true,
            rows: ROWS as u32,
            commits: ROWS as u32,
            earliest: Some(at(number as i64 * 60)),
            latest: Some(at(number as i64 * 60 + 59)),
        };
        let overview =
            Overview { segments: (0..SEGMENTS).map(segment).collect(), complete: true, ..Overview::default() };
        let size = SegmentSize::DEFAULT;
        let mut points = Points::new(size, Vec::new());
        points.set_overview(Arc::new(overview));
        assert_eq!((points.len(), points.cursor()), (SEGMENTS * ROWS, SEGMENTS * ROWS - 1));
        let read = |number: u64| -> Vec<Point> {
            let start = size.start_of(number).0;
            (0..ROWS)
                .map(|i| Point {
                    at: Some(at(number as i64 * 60).plus_micros(i as i64 * 14_750)),
                    ..commit(1, start + i * 0x100)
                })
                .collect()
        };
        let mut held = 0;
        let mut fetch = |points: &mut Points| {
            for (timeline, numbers) in points.wanted(50, &[]) {
                for number in numbers {
                    points.put(timeline, number, Ok(read(number)));
                    held += 1;
                }
            }
        };
        // To the end, to the middle by time, to a position, page after page.
        fetch(&mut points);
        assert_eq!(points.selected().unwrap().lsn, Lsn(size.start_of(SEGMENTS - 1).0 + (ROWS - 1) * 0x100));
        let wanted = at(50_000 * 60).plus_micros(14_750 * 17);
        assert!(points.go_to_time(TimelineId(1), wanted, false));
        fetch(&mut points);
        assert_eq!((points.cursor(), points.selected().unwrap().at), (50_000 * ROWS + 17, Some(wanted)));
        let lsn = size.start_of(77_777).plus(0x100 * 55 - 1);
        assert!(points.go_to((TimelineId(1), lsn), None));
        fetch(&mut points);
        assert_eq!(points.cursor(), 77_777 * ROWS + 55);
        for page in 1..500 {
            points.step(50);
            fetch(&mut points);
            assert_eq!(points.cursor(), 77_777 * ROWS + 55 + 50 * page);
            assert!(points.selected().is_some());
        }
        assert_eq!(points.commits_after(), Amount { number: (SEGMENTS - 77_777) * ROWS - 56 - 50 * 499, exact: true });
        for _ in 0..200 {
            points.step(-1_000_000);
            fetch(&mut points);
            assert!(points.selected().is_some());
        }
        assert!(held > 64 && points.kept.len().0 <= 64 && points.kept.len().1 <= 1_000_000, "{:?}", points.kept.len());
    }

    fn any_points() -> impl Strategy<Value = Vec<Point>> {
        let point = (1_u32..4, 0_u64..40, 0_u64..20, 0_usize..5).prop_map(|(timeline, segment, offset, kind)| {
            let kinds = [
                PointKind::Commit,
                PointKind::Commit,
                PointKind::Abort,
                PointKind::RestorePoint,
                PointKind::Checkpoint,
            ];
            Point { kind: kinds[kind], ..commit(timeline, (segment << 20) + offset * 0x1000) }
        });
        proptest::collection::vec(point, 0..120).prop_map(|mut points| {
            points.sort_by_key(|point| (point.timeline, point.lsn));
            points.dedup_by_key(|point| (point.timeline, point.lsn));
            points
        })
    }

    proptest! {
        #[test]
        fn it_has_the_rows_of_a_plain_list(all in any_points(), steps in proptest::collection::vec((0_usize..6, -60_i64..60), 0..60)) {
            let (overview, held) = archive(&all, small());
            let plain: Vec<Point> = all.into_iter().filter(is_listed).collect();
            let mut points = Points::new(small(), Vec::new());
            points.set_overview(Arc::new(overview.clone()));
            prop_assert_eq!(points.len(), plain.len() as u64);
            points.select(0);
            // What is to be under the cursor.
            let mut cursor = 0_usize;
            let last = plain.len().saturating_sub(1);
            for (what, number) in steps {
                match what {
                    0 => {
                        points.step(number);
                        cursor = cursor.saturating_add_signed(number as isize).min(last);
                    }
                    1 if !plain.is_empty() => {
                        cursor = number.unsigned_abs() as usize % plain.len();
                        points.go_to((plain[cursor].timeline, plain[cursor].lsn), None);
                    }
                    2 if !plain.is_empty() => {
                        let aim = &plain[number.unsigned_abs() as usize % plain.len()];
                        // Times are in order here, but not those of restore points: a segment is known by its ends.
                        if aim.kind != PointKind::RestorePoint {
                            let first = plain.iter().position(|p| p.timeline == aim.timeline && p.at >= aim.at);
                            points.go_to_time(aim.timeline, aim.at.unwrap(), false);
                            cursor = first.unwrap();
                        }
                    }
                    3 => points.set_overview(Arc::new(overview.clone())),
                    _ => {}
                }
                // Where a jump settles, more is wanted.
                loop {
                    let wanted = points.wanted(3, &[]);
                    if wanted.is_empty() {
                        break;
                    }
                    for (timeline, number) in wanted.into_iter().flat_map(|(t, numbers)| numbers.map(move |n| (t, n))) {
                        points.put(timeline, number, Ok(held[&(timeline, number)].clone()));
                    }
                }
                prop_assert!(!points.is_settling());
                prop_assert_eq!(points.selected(), plain.get(cursor));
                for (row, point) in plain.iter().enumerate().skip(cursor.saturating_sub(3)).take(cursor.min(3) + 3) {
                    prop_assert_eq!(points.row(row as u64), Some(Row::Point(point)));
                }
            }
            prop_assert_eq!(points.row(plain.len() as u64), None);
        }

        #[test]
        fn the_cursor_keeps_its_point_while_more_comes_in(all in any_points(), keep in proptest::collection::vec(proptest::bool::ANY, 120), row in 0_usize..120) {
            let plain: Vec<Point> = all.iter().filter(|point| is_listed(point)).cloned().collect();
            let (_, held) = archive(&all, small());
            // At first only some segments are known.
            let known = |point: &&Point| keep[(small().number_of(point.lsn) as usize + point.timeline.0 as usize * 40) % 120];
            let some: Vec<Point> = plain.iter().filter(known).cloned().collect();
            let mut points = Points::new(small(), Vec::new());
            points.set_overview(Arc::new(archive(&some, small()).0));
            points.select(row as u64);
            for (timeline, numbers) in points.wanted(5, &[]) {
                for number in numbers {
                    points.put(timeline, number, Ok(held[&(timeline, number)].clone()));
                }
            }
            let selected = points.selected().cloned();
            prop_assert_eq!(selected.as_ref(), some.get(row.min(some.len().saturating_sub(1))));
            points.set_overview(Arc::new(archive(&plain, small()).0));
            if selected.is_some() {
                prop_assert_eq!(points.selected(), selected.as_ref());
            }
        }
    }
}
