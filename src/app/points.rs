//! The recovery points as a list: sorted, filtered, with a cursor, ready for a million rows.

use crate::catalog::{Point, PointKind};
use crate::core::{Lsn, TimelineId, Timestamp};

/// A transaction that deletes this many rows is a suspect.
pub const MANY_ROWS: u64 = 1000;

/// How finely commits over time are counted: some ten times as finely as any terminal has columns, so that
/// drawing them at a width that does not divide it shows no ripples.
const BINS: usize = 2048;

/// How many of the last points of a timeline may be without a time.
const WITHOUT_TIME: usize = 64;

/// Whether a transaction destroyed data. One that was rolled back destroyed nothing.
#[must_use]
pub fn is_suspect(point: &Point) -> bool {
    point.kind == PointKind::Commit && (point.drops > 0 || point.deletes >= MANY_ROWS)
}

/// Whether a point is listed. Checkpoints and prepared transactions never stop recovery.
fn is_listed(point: &Point) -> bool {
    !matches!(point.kind, PointKind::Checkpoint | PointKind::Prepare)
}

/// What came of looking for a point.
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

/// Commits over time.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Activity {
    /// Of the first and the last listed point that has a time.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Equal stretches of the span.
    pub bins: Vec<Bin>,
    /// Commits in all of them.
    pub commits: u64,
}

/// One stretch of an [`Activity`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Bin {
    /// Transactions that committed.
    pub commits: u32,
    /// Those that are suspects.
    pub suspects: u32,
    /// Restore points.
    pub restore_points: u32,
}

impl Activity {
    /// Which of `parts` equal parts of the span `at` lies in.
    #[must_use]
    pub fn place(&self, at: Timestamp, parts: usize) -> Option<usize> {
        let (from, to) = self.span?;
        let whole = to.seconds_since(from);
        let share = if whole > 0.0 { at.seconds_since(from) / whole } else { 0.5 };
        let in_span = (0.0..=1.0).contains(&share) && parts > 0;
        in_span.then(|| ((share * parts as f64) as usize).min(parts - 1))
    }
}

/// The recovery points of a source.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Points {
    /// By timeline, then position.
    all: Vec<Point>,
    /// Not sorted in yet: sorting after every batch would make a million rows wait.
    incoming: Vec<Point>,
    /// Places in `all` of what is listed.
    shown: Vec<u32>,
    /// Commits among the first so many of `shown`; one longer than it.
    commits: Vec<u32>,
    /// Places in `all` of suspects and restore points on every timeline.
    marks: Vec<u32>,
    filter: Option<TimelineId>,
    cursor: usize,
    moved: bool,
    activity: Activity,
}

impl Points {
    /// Takes in more, in any order.
    pub fn add(&mut self, batch: Vec<Point>) {
        self.incoming.extend(batch);
        // At least a sixteenth more each time: the cost of sorting in stays in proportion to what there is.
        if self.incoming.len() * 16 >= self.all.len() {
            self.settle();
        }
    }

    /// Sorts in what came since the last time.
    pub fn settle(&mut self) {
        if self.incoming.is_empty() {
            return;
        }
        let kept = self.selected().map(place_of);
        self.all.append(&mut self.incoming);
        if !self.all.is_sorted_by_key(place_of) {
            self.all.sort_by_key(place_of);
        }
        self.all.dedup_by(|a, b| place_of(a) == place_of(b) && a.kind == b.kind);
        self.list(kept);
    }

    /// How many are listed.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shown.len()
    }

    /// Whether none is listed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.shown.is_empty()
    }

    /// The one in this row.
    #[must_use]
    pub fn get(&self, row: usize) -> Option<&Point> {
        self.all.get(*self.shown.get(row)? as usize)
    }

    /// The one under the cursor.
    #[must_use]
    pub fn selected(&self) -> Option<&Point> {
        self.get(self.cursor)
    }

    /// The cursor's row.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Commits over time, of what is listed.
    #[must_use]
    pub fn activity(&self) -> &Activity {
        &self.activity
    }

    /// Suspects and restore points on every timeline.
    pub fn marks(&self) -> impl Iterator<Item = &Point> {
        self.marks.iter().filter_map(|place| self.all.get(*place as usize))
    }

    /// How many suspects are listed.
    #[must_use]
    pub fn suspects(&self) -> usize {
        self.marks().filter(|point| is_suspect(point) && self.is_of_filter(point)).count()
    }

    fn is_of_filter(&self, point: &Point) -> bool {
        self.filter.is_none_or(|only| point.timeline == only)
    }

    /// Restore points on every timeline.
    pub fn restore_points(&self) -> impl Iterator<Item = &Point> {
        self.marks().filter(|point| point.kind == PointKind::RestorePoint)
    }

    /// The end of transaction `xid`, and whether there is another one of the same number (they come round again).
    #[must_use]
    pub fn transaction(&self, xid: crate::core::Xid) -> Option<&Point> {
        let ends = |point: &&Point| matches!(point.kind, PointKind::Commit | PointKind::Abort);
        self.all.iter().rev().filter(ends).find(|point| point.xid == Some(xid))
    }

    /// Commits that follow the point of this row on its timeline.
    #[must_use]
    pub fn commits_after(&self, row: usize) -> u64 {
        let Some(point) = self.get(row) else { return 0 };
        let on_later = |place: &u32| self.all.get(*place as usize).is_some_and(|p| p.timeline <= point.timeline);
        let end = self.shown.partition_point(on_later);
        let until = |row: usize| self.commits.get(row).copied().unwrap_or(0);
        u64::from(until(end).saturating_sub(until(row + 1)))
    }

    /// Commits at `lsn` and behind it on `timeline`, listed or not.
    #[must_use]
    pub fn commits_from(&self, timeline: TimelineId, lsn: Lsn) -> u64 {
        let from = self.all.partition_point(|point| place_of(point) < (timeline, lsn));
        let here = self.all.iter().skip(from).take_while(|point| point.timeline == timeline);
        here.filter(|point| point.kind == PointKind::Commit).count() as u64
    }

    /// When the last thing on a timeline happened that has a time, listed or not.
    #[must_use]
    pub fn last_at(&self, timeline: TimelineId) -> Option<Timestamp> {
        let end = self.all.partition_point(|point| point.timeline <= timeline);
        let here = self.all.get(..end)?.iter().rev().take_while(|point| point.timeline == timeline);
        // Few have no time: the end of WAL, and the checkpoints around it.
        here.take(WITHOUT_TIME).find_map(|point| point.at)
    }

    /// The only timeline that is listed; `None` for all.
    #[must_use]
    pub fn filter(&self) -> Option<TimelineId> {
        self.filter
    }

    /// Lists one timeline only, or all. The cursor stays where it was if that is still listed.
    pub fn set_filter(&mut self, filter: Option<TimelineId>) {
        let kept = self.selected().map(place_of);
        self.filter = filter;
        self.list(kept);
    }

    /// The timelines that have points.
    #[must_use]
    pub fn timelines(&self) -> Vec<TimelineId> {
        let mut ids = Vec::new();
        let mut from = 0;
        while let Some(point) = self.all.get(from) {
            ids.push(point.timeline);
            from += self.all.get(from..).unwrap_or_default().partition_point(|p| p.timeline <= point.timeline);
        }
        ids
    }

    /// Puts the cursor into this row, or the last one.
    pub fn select(&mut self, row: usize) {
        self.moved = true;
        self.cursor = row.min(self.len().saturating_sub(1));
    }

    /// Moves the cursor by so many rows.
    pub fn step(&mut self, rows: isize) {
        self.select(self.cursor.saturating_add_signed(rows));
    }

    /// Moves the cursor to the next (or the previous) one that is `wanted`, and past the end of the list on from its
    /// other end.
    pub fn seek(&mut self, forward: bool, wanted: fn(&Point) -> bool) -> Sought {
        let is_wanted = |row: &usize| self.get(*row).is_some_and(wanted);
        let (here, all) = (self.cursor, self.len());
        let (ahead, around) = if forward {
            ((here + 1..all).find(is_wanted), (0..all.min(here + 1)).find(is_wanted))
        } else {
            ((0..here.min(all)).rev().find(is_wanted), (here..all).rev().find(is_wanted))
        };
        if let Some(row) = ahead.or(around) {
            self.select(row);
        }
        match (ahead, around) {
            (Some(_), _) => Sought::Ahead,
            (None, Some(row)) if row == here => Sought::OnlyOne,
            (None, Some(_)) => Sought::Around,
            (None, None) => Sought::Nothing,
        }
    }

    /// Moves the cursor to the first one at or behind `lsn` on `timeline`; `false` where there is none.
    pub fn seek_lsn(&mut self, timeline: TimelineId, lsn: Lsn) -> bool {
        let row = self.row_of((timeline, lsn));
        let found = self.get(row).is_some_and(|point| point.timeline == timeline);
        if found {
            self.select(row);
        }
        found
    }

    fn row_of(&self, place: (TimelineId, Lsn)) -> usize {
        self.shown.partition_point(|p| self.all.get(*p as usize).is_some_and(|point| place_of(point) < place))
    }

    /// Makes the list anew, with the cursor on `kept` where that is in it.
    fn list(&mut self, kept: Option<(TimelineId, Lsn)>) {
        let places = |wanted: &dyn Fn(&Point) -> bool| -> Vec<u32> {
            (0..).zip(&self.all).filter(|(_, point)| wanted(point)).map(|(place, _)| place).collect()
        };
        let shown = places(&|point| is_listed(point) && self.is_of_filter(point));
        let marks = places(&|point| point.kind == PointKind::RestorePoint || is_suspect(point));
        (self.shown, self.marks) = (shown, marks);
        self.count();
        self.cursor = match kept {
            Some(place) if self.moved => self.row_of(place).min(self.len().saturating_sub(1)),
            _ => self.first_guess(),
        };
    }

    /// Where the cursor stands until the operator moves it: at the newest suspect, or else at the end.
    fn first_guess(&self) -> usize {
        let newest = self.shown.iter().zip(0..).filter_map(|(place, row)| {
            let point = self.all.get(*place as usize).filter(|point| is_suspect(point))?;
            Some((point.at, row))
        });
        newest.max().map_or(self.len().saturating_sub(1), |(_, row)| row)
    }

    fn count(&mut self) {
        let listed = || self.shown.iter().filter_map(|place| self.all.get(*place as usize));
        let mut commits = Vec::with_capacity(self.shown.len() + 1);
        let mut so_far = 0;
        commits.push(0);
        for point in listed() {
            so_far += u32::from(point.kind == PointKind::Commit);
            commits.push(so_far);
        }
        let times = listed().filter_map(|point| point.at);
        let span = times.fold(None, |span: Option<(Timestamp, Timestamp)>, at| {
            Some(span.map_or((at, at), |(from, to)| (from.min(at), to.max(at))))
        });
        let mut activity = Activity { span, bins: vec![Bin::default(); BINS], commits: u64::from(so_far) };
        for point in listed() {
            let Some(bin) = point.at.and_then(|at| activity.place(at, BINS)) else { continue };
            let Some(bin) = activity.bins.get_mut(bin) else { continue };
            bin.commits += u32::from(point.kind == PointKind::Commit);
            bin.suspects += u32::from(is_suspect(point));
            bin.restore_points += u32::from(point.kind == PointKind::RestorePoint);
        }
        (self.commits, self.activity) = (commits, activity);
    }
}

fn place_of(point: &Point) -> (TimelineId, Lsn) {
    (point.timeline, point.lsn)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::core::Xid;

    pub(crate) fn commit(timeline: u32, lsn: u64) -> Point {
        Point {
            kind: PointKind::Commit,
            timeline: TimelineId(timeline),
            lsn: Lsn(lsn),
            end_lsn: Lsn(lsn + 0x28),
            xid: Some(Xid(lsn as u32)),
            at: Timestamp::from_unix_seconds(1_727_870_000 + lsn as i64),
            name: None,
            drops: 0,
            deletes: 0,
            updates: 0,
            subxacts: 0,
        }
    }

    fn rows(points: &Points) -> Vec<(u32, u64)> {
        (0..points.len()).filter_map(|row| points.get(row)).map(|p| (p.timeline.0, p.lsn.0)).collect()
    }

    #[test]
    fn they_are_listed_by_timeline_and_position_however_they_come() {
        let mut points = Points::default();
        points.add(vec![commit(2, 30), commit(1, 20)]);
        points.add(vec![Point { kind: PointKind::Checkpoint, ..commit(1, 15) }, commit(1, 10), commit(1, 20)]);
        assert_eq!(rows(&points), [(1, 10), (1, 20), (2, 30)]);
        assert_eq!(points.timelines(), [TimelineId(1), TimelineId(2)]);
        points.set_filter(Some(TimelineId(2)));
        assert_eq!(rows(&points), [(2, 30)]);
    }

    #[test]
    fn the_cursor_waits_at_the_newest_suspect_until_it_is_moved() {
        let mut points = Points::default();
        points.add(vec![commit(1, 10), Point { drops: 1, ..commit(1, 20) }, commit(1, 30)]);
        assert_eq!(points.selected().unwrap().lsn, Lsn(20));
        points.step(-1);
        points.add(vec![commit(1, 5), Point { deletes: MANY_ROWS, ..commit(1, 40) }]);
        assert_eq!(points.selected().unwrap().lsn, Lsn(10), "it stays on its point while others come in before it");
    }

    #[test]
    fn what_is_looked_for_is_found_around_the_end() {
        let mut points = Points::default();
        points.add(vec![commit(1, 10), Point { drops: 1, ..commit(1, 20) }, commit(1, 30)]);
        assert_eq!(points.seek(true, is_suspect), Sought::OnlyOne);
        points.add(vec![Point { deletes: MANY_ROWS, ..commit(1, 40) }]);
        points.select(0);
        let mut seek = |forward| (points.seek(forward, is_suspect), points.selected().unwrap().lsn.0);
        assert_eq!(seek(true), (Sought::Ahead, 20));
        assert_eq!(seek(true), (Sought::Ahead, 40));
        assert_eq!(seek(true), (Sought::Around, 20));
        assert_eq!(seek(false), (Sought::Around, 40));
        assert_eq!(seek(false), (Sought::Ahead, 20));
        points.set_filter(Some(TimelineId(9)));
        assert_eq!(points.seek(true, is_suspect), Sought::Nothing);
    }

    #[test]
    fn what_was_rolled_back_is_no_suspect() {
        assert!(!is_suspect(&Point { kind: PointKind::Abort, drops: 3, deletes: 5000, ..commit(1, 1) }));
        assert!(!is_suspect(&Point { deletes: MANY_ROWS - 1, ..commit(1, 1) }));
    }

    #[test]
    fn commits_behind_a_point_are_counted_on_its_timeline_only() {
        let mut points = Points::default();
        points.add(vec![commit(1, 10), Point { kind: PointKind::Abort, ..commit(1, 20) }, commit(1, 30), commit(2, 5)]);
        assert_eq!((0..4).map(|row| points.commits_after(row)).collect::<Vec<_>>(), [1, 1, 0, 0]);
        assert_eq!(points.activity().commits, 3);
    }

    #[test]
    fn the_last_time_on_a_timeline_is_found_behind_what_has_none() {
        let mut points = Points::default();
        points.add(vec![commit(1, 10), commit(1, 20), Point { at: None, ..commit(1, 30) }, commit(2, 15)]);
        points.set_filter(Some(TimelineId(2)));
        assert_eq!(points.last_at(TimelineId(1)), commit(1, 20).at);
        assert_eq!((points.last_at(TimelineId(2)), points.last_at(TimelineId(3))), (commit(2, 15).at, None));
    }

    #[test]
    fn small_batches_wait_and_none_is_lost() {
        let mut points = Points::default();
        points.add((0..1000).map(|i| commit(1, i * 2)).collect());
        points.add(vec![commit(1, 501)]);
        assert_eq!(points.len(), 1000);
        points.settle();
        assert_eq!(points.len(), 1001);
        assert!(points.seek_lsn(TimelineId(1), Lsn(500)) && points.selected().unwrap().lsn == Lsn(500));
        assert!(points.seek_lsn(TimelineId(1), Lsn(501)) && points.selected().unwrap().lsn == Lsn(501));
        assert!(!points.seek_lsn(TimelineId(1), Lsn(9999)));
    }
}
