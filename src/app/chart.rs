//! Commits over time, for a window that can be zoomed and panned: counted once for every change, not for every frame.

use std::collections::BTreeMap;

use super::points::Points;
use super::reach::Reach;
use super::unreached::{Unreached, unreached};
use super::window::Window;
use crate::catalog::overview::SegmentRows;
use crate::catalog::{Backup, PointKind};
use crate::core::{TimelineId, Timestamp};

/// How finely commits are counted: several times as finely as any terminal has columns, so that a width that does not
/// divide it shows no ripples.
pub const BINS: usize = 2048;

/// Where no more segments than this lie in the window, their very points are counted; else what is known of whole
/// segments is spread over their time.
const BY_POINTS: usize = 24;

/// What a mark on the chart is, what must not be hidden last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MarkKind {
    /// A server was promoted.
    Promotion,
    /// A base backup ended.
    Backup,
    /// A restore point.
    RestorePoint,
    /// WAL is missing or damaged.
    Lack,
    /// A suspect.
    Suspect,
}

/// One or more things of a kind at one place of the chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The bin that they lie in.
    pub bin: usize,
    /// What they are.
    pub kind: MarkKind,
    /// How many there are.
    pub number: u32,
    /// The first of them: its place among what the kind is kept in.
    pub first: usize,
}

/// What is drawn.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct View {
    /// From when to when; `None` while nothing has a time.
    pub window: Option<Window>,
    /// Commits in equal parts of the window; parts of a commit where only the segment is known.
    pub bins: Vec<f32>,
    /// What lies in the window besides, by bin.
    pub marks: Vec<Mark>,
    /// Commits in the window.
    pub commits: u64,
    /// Whether points were counted, where they are held, and not only segments.
    pub by_points: bool,
    /// Missing and damaged WAL in bins: the first and the last one.
    pub lacks: Vec<(usize, usize)>,
    /// Stretches to which recovery does not come.
    pub unreached: Vec<Unreached>,
    /// The segments whose points would make it exact.
    pub wanted: Vec<(TimelineId, u64)>,
}

/// What a [`View`] was made from.
#[derive(Debug, Clone, PartialEq)]
struct Basis {
    revision: u64,
    /// Of the points that are held, where they matter.
    held: Option<u64>,
    backups: usize,
    zoomed: Option<Window>,
}

/// The chart.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Chart {
    zoomed: Option<Window>,
    /// The moment that the window has followed.
    followed: Option<Timestamp>,
    span: Option<Window>,
    view: View,
    basis: Option<Basis>,
    /// The reach that the view was made with.
    reach: Reach,
}

impl Chart {
    /// What is drawn.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Whether everything is in the window.
    #[must_use]
    pub fn shows_all(&self) -> bool {
        self.zoomed.is_none()
    }

    /// Follows the cursor where that has left the window, and counts anew what has changed.
    pub fn refresh(&mut self, points: &Points, backups: &[Backup], reach: &Reach) {
        let basis = |zoomed, held| Basis { revision: points.revision(), held, backups: backups.len(), zoomed };
        if self.basis.as_ref().is_none_or(|old| (old.revision, old.backups) != (points.revision(), backups.len())) {
            self.span = span(points);
        }
        let moment = points.moment();
        if moment != self.followed {
            self.followed = moment;
            if let (Some(window), Some(at), Some(span)) = (self.zoomed, moment, self.span) {
                self.zoomed = Some(window.following(at, span));
            }
        }
        // Whether points are counted depends on nothing else in the basis: what held for the last view holds still.
        let held = |view: &View| view.by_points.then(|| points.held());
        if self.basis.as_ref() != Some(&basis(self.zoomed, held(&self.view))) || self.reach != *reach {
            self.view = view(points, backups, reach, self.zoomed.or(self.span));
            self.basis = Some(basis(self.zoomed, held(&self.view)));
            self.reach = reach.clone();
        }
    }

    /// Shows what lies behind a moment, with a little before it, where so much of the time lies before that the rest would
    /// be hard to tell apart; leaves a window that was chosen.
    pub fn leave_out_before(&mut self, moment: Timestamp) {
        let Some(span) = self.span.filter(|span| self.zoomed.is_none() && span.contains(moment)) else { return };
        let (all, rest) = (span.micros(), Window::over(moment, span.last()).micros());
        if rest < all / 3 * 2 {
            let from = moment.plus_micros(-rest / 20);
            self.zoomed = Some(Window::over(from.max(span.from()), span.last()));
        }
    }

    /// Shows `numerator`/`denominator` of the time with `about` where it was; `false` where it cannot be changed.
    pub fn zoom(&mut self, about: Option<Timestamp>, numerator: i64, denominator: i64) -> bool {
        let (Some(window), Some(span)) = (self.view.window, self.span) else { return false };
        let middle = || window.start_of(1, 2);
        let about = about.filter(|at| window.contains(*at)).unwrap_or_else(middle);
        let new = window.zoomed(about, numerator, denominator, span);
        self.zoomed = (new.micros() < span.micros()).then_some(new);
        new != window
    }

    /// Moves the window by so many of `parts` parts of it; `false` where there is nothing further on.
    pub fn pan(&mut self, by: i64, parts: i64) -> bool {
        let (Some(window), Some(span)) = (self.zoomed, self.span) else { return false };
        let new = window.panned(by, parts, span);
        self.zoomed = Some(new);
        new != window
    }

    /// Shows everything.
    pub fn show_all(&mut self) {
        self.zoomed = None;
    }

    /// The mark that must not be hidden, of those in one of `columns` columns.
    #[must_use]
    pub fn mark_in(&self, column: usize, columns: usize) -> Option<&Mark> {
        self.view.marks.iter().filter(|mark| column_of(mark.bin, columns) == column).max_by_key(|mark| mark.kind)
    }
}

/// The column in which a bin is drawn.
#[must_use]
pub fn column_of(bin: usize, columns: usize) -> usize {
    bin * columns / BINS
}

/// The column in which a moment is drawn.
#[must_use]
pub fn column_at(window: Window, at: Timestamp, columns: usize) -> Option<usize> {
    window.part(at, BINS).map(|bin| column_of(bin, columns))
}

/// The first moment that is drawn in a column.
#[must_use]
pub fn start_of(window: Window, column: usize, columns: usize) -> Timestamp {
    window.start_of((column * BINS).div_ceil(columns.max(1)), BINS)
}

impl View {
    /// The bins added up to columns.
    #[must_use]
    pub fn columns(&self, columns: usize) -> Vec<f32> {
        let mut sums = vec![0.0; columns];
        for (bin, commits) in self.bins.iter().enumerate() {
            if let Some(sum) = sums.get_mut(column_of(bin, columns)) {
                *sum += commits;
            }
        }
        sums
    }

    /// Whether every commit was counted where it lies.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.by_points && self.wanted.is_empty()
    }

    /// How many marks of a kind there are.
    #[must_use]
    pub fn number_of(&self, kind: MarkKind) -> u64 {
        self.marks.iter().filter(|mark| mark.kind == kind).map(|mark| u64::from(mark.number)).sum()
    }
}

/// From the first to the last time of what is listed.
fn span(points: &Points) -> Option<Window> {
    let segments = points.segments().iter().filter(|segment| segment.rows > 0);
    let times = segments.filter_map(|segment| segment.earliest.zip(segment.latest));
    // A restore point can be all that there is.
    let marks = points.overview().marks.iter().filter(|mark| points.lists(mark.timeline));
    let times = times.chain(marks.filter_map(|mark| Some((mark.at?, mark.at?))));
    let (from, to) = times.reduce(|(from, to), (earliest, latest)| (from.min(earliest), to.max(latest)))?;
    Some(Window::over(from, to))
}

/// What lies in a window, of what is listed.
fn view(points: &Points, backups: &[Backup], reach: &Reach, window: Option<Window>) -> View {
    let Some(window) = window else { return View::default() };
    let unreached = unreached(points, backups, reach, window);
    View { unreached, ..view_of(points, backups, window, &|timeline| points.lists(timeline)) }
}

/// What lies in a window on some timelines.
pub(super) fn view_of(points: &Points, backups: &[Backup], window: Window, is_on: &dyn Fn(TimelineId) -> bool) -> View {
    let meets = |segment: &&SegmentRows| {
        segment.rows > 0
            && is_on(segment.timeline)
            && segment.earliest.zip(segment.latest).is_some_and(|(from, to)| window.meets(from, to))
    };
    let inside: Vec<&SegmentRows> = points.overview().segments.iter().filter(meets).collect();
    let by_points = inside.len() <= BY_POINTS;
    let mut counter = Counter::new(window);
    let mut wanted = Vec::new();
    for segment in inside {
        match points.points_of(segment).filter(|_| by_points) {
            Some(held) => {
                let commits = held.iter().filter(|point| point.kind == PointKind::Commit);
                commits.filter_map(|point| point.at).for_each(|at| counter.count(at));
            }
            None => {
                if by_points {
                    wanted.push((segment.timeline, segment.number));
                }
                counter.spread(segment);
            }
        }
    }
    let bins = counter.finish();
    let commits = bins.iter().map(|commits| f64::from(*commits)).sum::<f64>().round() as u64;
    let lacks = points.lacks().iter().filter(|lack| is_on(lack.timeline));
    let lacks = lacks.filter_map(|lack| stretch(window, lack.after.or(lack.before)?, lack.before.or(lack.after)?));
    View {
        window: Some(window),
        bins,
        marks: marks(points, backups, window, is_on),
        commits,
        by_points,
        lacks: lacks.collect(),
        unreached: Vec::new(),
        wanted,
    }
}

/// The bins from one moment to another one, as far as they are in the window.
fn stretch(window: Window, from: Timestamp, to: Timestamp) -> Option<(usize, usize)> {
    let (from, to) = (from.min(to), from.max(to));
    let bin = |at: Timestamp| window.part(at.clamp(window.from(), window.last()), BINS);
    window.meets(from, to).then_some(())?;
    bin(from).zip(bin(to))
}

fn marks(points: &Points, backups: &[Backup], window: Window, is_on: &dyn Fn(TimelineId) -> bool) -> Vec<Mark> {
    let mut found: BTreeMap<(usize, MarkKind), (u32, usize)> = BTreeMap::new();
    let mut add = |kind: MarkKind, timeline: Option<TimelineId>, at: Option<Timestamp>, place: usize| {
        let bin = at.and_then(|at| window.part(at, BINS));
        if let Some(bin) = bin.filter(|_| timeline.is_none_or(is_on)) {
            found.entry((bin, kind)).and_modify(|(number, _)| *number += 1).or_insert((1, place));
        }
    };
    for (place, suspect) in points.overview().suspects.iter().enumerate() {
        add(MarkKind::Suspect, Some(suspect.timeline), Some(suspect.at), place);
    }
    for (place, mark) in points.overview().marks.iter().enumerate() {
        match mark.kind {
            PointKind::RestorePoint => add(MarkKind::RestorePoint, Some(mark.timeline), mark.at, place),
            PointKind::EndOfRecovery => add(MarkKind::Promotion, Some(mark.timeline), mark.at, place),
            _ => {}
        }
    }
    for (place, lack) in points.lacks().iter().enumerate() {
        // Where it begins, or where the window does if that is before.
        let begins = lack.after.or(lack.before).map(|at| at.max(window.from()));
        let ends = lack.before.or(lack.after);
        add(MarkKind::Lack, Some(lack.timeline), begins.filter(|at| ends.is_none_or(|end| *at <= end.max(*at))), place);
    }
    for (place, backup) in backups.iter().enumerate().filter(|(_, backup)| backup.is_usable()) {
        add(MarkKind::Backup, backup.timeline, backup.finished_at, place);
    }
    found.into_iter().map(|((bin, kind), (number, first))| Mark { bin, kind, number, first }).collect()
}

/// Counts commits into bins.
struct Counter {
    window: Window,
    bins: Vec<f64>,
    /// How much more a bin and all behind it have than the one before, of what is spread evenly.
    steps: Vec<f64>,
}

impl Counter {
    fn new(window: Window) -> Counter {
        Counter { window, bins: vec![0.0; BINS], steps: vec![0.0; BINS + 1] }
    }

    fn count(&mut self, at: Timestamp) {
        if let Some(bin) = self.window.part(at, BINS).and_then(|bin| self.bins.get_mut(bin)) {
            *bin += 1.0;
        }
    }

    /// Spreads a segment's commits evenly over its time; the work is the same however long that is.
    fn spread(&mut self, segment: &SegmentRows) {
        let Some((from, to)) = segment.earliest.zip(segment.latest) else { return };
        let (from, to) = (from.unix_micros(), to.unix_micros().saturating_add(1));
        let (whole_from, whole_to) = (self.window.position(from, BINS), self.window.position(to, BINS));
        let density = f64::from(segment.commits) / (whole_to - whole_from).max(f64::MIN_POSITIVE);
        let (from, to) = (whole_from.max(0.0), whole_to.min(BINS as f64));
        if !density.is_finite() || from >= to {
            return;
        }
        let (first, last) = ((from as usize).min(BINS - 1), (to as usize).min(BINS));
        let mut add = |bin: usize, amount: f64| {
            if let Some(bin) = self.bins.get_mut(bin) {
                *bin += amount;
            }
        };
        if first == last {
            return add(first, density * (to - from));
        }
        add(first, density * (first as f64 + 1.0 - from));
        add(last, density * (to - last as f64));
        for (bin, step) in [(first + 1, density), (last, -density)] {
            if let Some(at) = self.steps.get_mut(bin) {
                *at += step;
            }
        }
    }

    fn finish(self) -> Vec<f32> {
        let mut level = 0.0;
        let levelled = self.bins.iter().zip(&self.steps).map(|(bin, step)| {
            level += step;
            let sum = bin + level;
            // Adding and taking away leaves dust.
            if sum < 1e-6 { 0.0 } else { sum as f32 }
        });
        levelled.collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::points::tests::{archive, commit};
    use crate::catalog::Point;
    use crate::core::SegmentSize;
    use proptest::prelude::*;

    fn size() -> SegmentSize {
        SegmentSize::new(1 << 20).unwrap()
    }

    /// One transaction a second, `each` of them in a segment.
    fn transactions(count: u64, each: u64) -> Vec<Point> {
        let at = |i: u64| Timestamp::from_unix_seconds(1_727_870_000 + i as i64);
        (0..count).map(|i| Point { at: at(i), ..commit(1, ((i / each) << 20) + i % each * 0x100) }).collect()
    }

    fn list(all: &[Point]) -> Points {
        let mut points = Points::new(size(), Vec::new());
        points.set_overview(Arc::new(archive(all, size()).0));
        points
    }

    /// Gives the chart what it wants, until it wants no more.
    fn satisfy(chart: &mut Chart, points: &mut Points, all: &[Point]) {
        let (_, held) = archive(all, size());
        chart.refresh(points, &[], &Reach::default());
        for _ in 0..10 {
            let wanted = chart.view().wanted.clone();
            for (timeline, numbers) in points.wanted(1, &wanted) {
                for number in numbers {
                    points.put(timeline, number, Ok(held[&(timeline, number)].clone()));
                }
            }
            chart.refresh(points, &[], &Reach::default());
        }
    }

    #[test]
    fn it_goes_from_everything_to_a_single_transaction_and_back() {
        let all = transactions(100_000, 100);
        let mut points = list(&all);
        let mut chart = Chart::default();
        points.select(45_678);
        satisfy(&mut chart, &mut points, &all);
        assert_eq!((chart.view().commits, chart.view().by_points), (100_000, false));
        let selected = points.selected().cloned().unwrap();
        for _ in 0..40 {
            chart.zoom(selected.at, 1, 3);
            satisfy(&mut chart, &mut points, &all);
            let view = chart.view();
            assert!(view.window.unwrap().contains(selected.at.unwrap()));
            if view.window.unwrap().micros() < 1_000_000_000 {
                assert!(view.is_exact(), "{view:?}");
            }
        }
        assert_eq!(chart.view().commits, 1);
        let bin = chart.view().window.unwrap().part(selected.at.unwrap(), BINS).unwrap();
        assert_eq!(chart.view().bins[bin], 1.0);
        chart.show_all();
        satisfy(&mut chart, &mut points, &all);
        assert_eq!(chart.view().commits, 100_000);
    }

    #[test]
    fn the_window_follows_the_cursor_and_stays_where_it_was_moved() {
        let all = transactions(10_000, 100);
        let mut points = list(&all);
        let mut chart = Chart::default();
        points.select(5_000);
        satisfy(&mut chart, &mut points, &all);
        for _ in 0..4 {
            chart.zoom(points.moment(), 1, 3);
        }
        chart.refresh(&points, &[], &Reach::default());
        let window = chart.view().window.unwrap();
        assert!(chart.pan(1, 1));
        satisfy(&mut chart, &mut points, &all);
        let panned = chart.view().window.unwrap();
        assert!(panned != window && !panned.contains(points.moment().unwrap()), "the cursor stays behind");
        points.select(9_000);
        satisfy(&mut chart, &mut points, &all);
        assert!(chart.view().window.unwrap().contains(all[9_000].at.unwrap()));
        while chart.pan(1, 1) {}
        chart.refresh(&points, &[], &Reach::default());
        assert_eq!(chart.view().window.unwrap().last(), all[9_999].at.unwrap(), "there is an end");
    }

    #[test]
    fn it_begins_where_recovery_can_lead_unless_that_is_most_of_it_or_a_window_was_chosen() {
        let all = transactions(10_000, 100);
        let points = list(&all);
        let at = |row: usize| all[row].at.unwrap();
        let seen = |moment: Timestamp, chosen: bool| {
            let mut chart = Chart::default();
            chart.refresh(&points, &[], &Reach::default());
            if chosen {
                chart.zoom(None, 1, 3);
            }
            chart.refresh(&points, &[], &Reach::default());
            let before = chart.view().window.unwrap();
            chart.leave_out_before(moment);
            chart.refresh(&points, &[], &Reach::default());
            (before, chart.view().window.unwrap())
        };
        let (_, window) = seen(at(8_000), false);
        assert!(window.from() < at(8_000) && window.from() > at(7_000), "{window:?}");
        assert_eq!(window.last(), at(9_999));
        for (moment, chosen) in [(at(1_000), false), (at(8_000), true), (at(0).plus_micros(-1), false)] {
            let (before, after) = seen(moment, chosen);
            assert_eq!(before, after);
        }
    }

    #[test]
    fn nothing_is_counted_again_unless_something_has_changed() {
        let all = transactions(1_000, 100);
        let mut points = list(&all);
        let mut chart = Chart::default();
        satisfy(&mut chart, &mut points, &all);
        let bins = chart.view.bins.as_ptr();
        for row in 0..20 {
            points.select(row);
            chart.refresh(&points, &[], &Reach::default());
        }
        assert_eq!(chart.view.bins.as_ptr(), bins);
        chart.zoom(points.moment(), 1, 3);
        chart.refresh(&points, &[], &Reach::default());
        assert_ne!(chart.view.commits, 1_000);
    }

    #[test]
    fn every_mark_has_its_place_and_the_worst_is_the_one_that_is_seen() {
        let mut all = transactions(1_000, 100);
        all[500].drops = 1;
        let named = Point { kind: PointKind::RestorePoint, name: Some("x".to_owned()), ..all[500].clone() };
        all.push(Point { lsn: crate::core::Lsn(all[500].lsn.0 + 1), ..named });
        let mut points = list(&all);
        let mut chart = Chart::default();
        satisfy(&mut chart, &mut points, &all);
        let column = column_at(chart.view().window.unwrap(), all[500].at.unwrap(), 80).unwrap();
        assert_eq!(chart.mark_in(column, 80).map(|mark| mark.kind), Some(MarkKind::Suspect));
        assert_eq!(chart.mark_in(column + 1, 80), None);
        assert_eq!(
            [MarkKind::Suspect, MarkKind::RestorePoint, MarkKind::Lack].map(|kind| chart.view().number_of(kind)),
            [1, 1, 0]
        );
    }

    proptest! {
        #[test]
        fn no_commit_is_lost_or_made_up(
            segments in proptest::collection::vec((0_i64..1_000_000, 0_i64..500_000, 1_u32..5_000), 1..60),
        ) {
            let at = |micros: i64| Timestamp::UNIX_EPOCH.plus_micros(micros);
            let rows = |(number, (from, length, commits)): (u64, &(i64, i64, u32))| SegmentRows {
                timeline: TimelineId(1), number, read: true, rows: *commits, commits: *commits,
                earliest: Some(at(*from)), latest: Some(at(from + length)),
            };
            let overview = crate::catalog::Overview {
                segments: (0..).zip(&segments).map(rows).collect(),
                complete: true,
                ..crate::catalog::Overview::default()
            };
            let mut points = Points::new(size(), Vec::new());
            points.set_overview(Arc::new(overview));
            let mut chart = Chart::default();
            chart.refresh(&points, &[], &Reach::default());
            let all: u64 = segments.iter().map(|(_, _, commits)| u64::from(*commits)).sum();
            let sum: f64 = chart.view().bins.iter().map(|commits| f64::from(*commits)).sum();
            prop_assert!((sum - all as f64).abs() < 0.01 * all as f64 + 0.5, "{} of {}", sum, all);
            prop_assert!(chart.view().bins.iter().all(|commits| *commits >= 0.0));
            for columns in [1, 7, 78, 300] {
                let drawn: f64 = chart.view().columns(columns).iter().map(|commits| f64::from(*commits)).sum();
                prop_assert!((drawn - sum).abs() < 0.01 * sum + 0.5);
            }
        }

        #[test]
        fn a_column_starts_in_itself(length in 10_000_i64..1_000_000_000_000, columns in 1_usize..300, column in 0_usize..300) {
            prop_assume!(column < columns);
            let window = Window::over(Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH.plus_micros(length));
            prop_assert_eq!(column_at(window, start_of(window, column, columns), columns), Some(column));
        }
    }
}
