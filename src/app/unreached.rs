//! Stretches of time to which recovery does not come, and why.

use super::chart::BINS;
use super::points::Points;
use super::reach::{Reach, Why};
use super::window::Window;
use crate::catalog::Backup;
use crate::catalog::overview::SegmentRows;
use crate::core::{TimelineId, Timestamp};

/// A stretch of the chart that lies wholly in WAL to which recovery does not come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unreached {
    /// Its first bin.
    pub first: usize,
    /// Its last bin.
    pub last: usize,
    /// Why.
    pub why: Why,
}

/// The stretches of a window, in their order. Where timelines lie beside each other, it is enough that recovery comes
/// to one of them.
pub(super) fn unreached(points: &Points, backups: &[Backup], reach: &Reach, window: Window) -> Vec<Unreached> {
    let mut cover = Cover::new(window);
    let mut before: Option<(TimelineId, Option<Why>, Timestamp)> = None;
    for segment in points.segments() {
        let Some((from, to)) = segment.earliest.zip(segment.latest).filter(|_| segment.rows > 0) else { continue };
        // What holds for two segments holds for the time between them.
        let since = |why| before.filter(|b| (b.0, b.1) == (segment.timeline, why)).map_or(from, |b| b.2.min(from));
        let ends = match standing(points, reach, segment) {
            Standing::Reached => {
                if let Some((_, Some(why), ended)) = before.filter(|b| b.0 == segment.timeline) {
                    cover.not_reached(ended, first_stop(backups, ended, from), why);
                }
                cover.reached(since(None), to);
                None
            }
            Standing::From(first, why) => {
                cover.not_reached(since(Some(why)), first, why);
                cover.reached(first, to);
                None
            }
            Standing::UpTo(last, why) => {
                cover.reached(since(None), last);
                cover.not_reached(last, to, why);
                Some(why)
            }
            Standing::Not(why) => {
                cover.not_reached(since(Some(why)), to, why);
                Some(why)
            }
        };
        before = Some((segment.timeline, ends, to));
    }
    cover.stretches()
}

/// The first end of a backup from one moment to another one; the first moment where there is none.
fn first_stop(backups: &[Backup], from: Timestamp, to: Timestamp) -> Timestamp {
    let ends = backups.iter().filter(|backup| backup.is_usable()).filter_map(|backup| backup.finished_at);
    ends.filter(|at| (from..=to).contains(at)).min().unwrap_or(from)
}

/// How much of a segment recovery comes to.
enum Standing {
    Reached,
    /// From this moment on.
    From(Timestamp, Why),
    /// Up to this moment.
    UpTo(Timestamp, Why),
    Not(Why),
}

fn standing(points: &Points, reach: &Reach, segment: &SegmentRows) -> Standing {
    let start = points.segment_size().start_of(segment.number);
    let end = points.segment_size().start_of(segment.number + 1);
    let Some(why) = reach.why(segment.timeline, start, end) else { return Standing::Reached };
    if !reach.meets(segment.timeline, start, end) {
        return Standing::Not(why);
    }
    // It begins or ends within: exact only where the very points are held.
    let Some(held) = points.points_of(segment) else { return Standing::Reached };
    let times = |reached: bool| held.iter().filter(move |p| reach.reaches(p) == reached).filter_map(|p| p.at);
    match (times(true).min(), times(true).max(), times(false).max()) {
        (None, _, _) => Standing::Not(why),
        (Some(_), Some(last), Some(lost)) if lost > last => Standing::UpTo(last, why),
        (Some(first), _, _) => Standing::From(first, why),
    }
}

/// What lies over each bin.
struct Cover {
    window: Window,
    reached: Vec<i32>,
    not: [Vec<i32>; Why::ALL.len()],
}

impl Cover {
    fn new(window: Window) -> Cover {
        Cover { window, reached: vec![0; BINS + 1], not: Why::ALL.map(|_| vec![0; BINS + 1]) }
    }

    fn reached(&mut self, from: Timestamp, to: Timestamp) {
        add(&mut self.reached, self.window, from, to);
    }

    fn not_reached(&mut self, from: Timestamp, to: Timestamp, why: Why) {
        if let Some(steps) = self.not.get_mut(why as usize) {
            add(steps, self.window, from, to);
        }
    }

    fn stretches(&self) -> Vec<Unreached> {
        let mut stretches: Vec<Unreached> = Vec::new();
        let (mut reached, mut levels) = (0, [0; Why::ALL.len()]);
        for (bin, step) in self.reached.iter().enumerate().take(BINS) {
            reached += step;
            for (level, steps) in levels.iter_mut().zip(&self.not) {
                *level += steps.get(bin).copied().unwrap_or(0);
            }
            let why = Why::ALL.into_iter().zip(levels).find(|(_, level)| *level > 0).map(|(why, _)| why);
            let Some(why) = why.filter(|_| reached == 0) else { continue };
            match stretches.last_mut() {
                Some(last) if last.why == why && last.last + 1 == bin => last.last = bin,
                _ => stretches.push(Unreached { first: bin, last: bin, why }),
            }
        }
        stretches
    }
}

/// Notes where a stretch begins and where it has ended.
fn add(steps: &mut [i32], window: Window, from: Timestamp, to: Timestamp) {
    let (from, to) = (from.min(to), to.max(from));
    if !window.meets(from, to) {
        return;
    }
    let bin = |at: Timestamp| window.part(at.clamp(window.from(), window.last()), BINS);
    let Some((first, last)) = bin(from).zip(bin(to)) else { return };
    for (bin, step) in [(first, 1), (last + 1, -1)] {
        if let Some(at) = steps.get_mut(bin) {
            *at += step;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::Overview;
    use crate::core::{Lsn, SegmentSize};

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(1_727_870_000 + seconds).unwrap()
    }

    fn size() -> SegmentSize {
        SegmentSize::DEFAULT
    }

    /// Segments 0 to 9 of timeline 1, ten seconds each with five between them.
    fn archive() -> Points {
        let rows = |number: u64| SegmentRows {
            timeline: TimelineId(1),
            number,
            read: true,
            rows: 10,
            commits: 10,
            earliest: Some(at(number as i64 * 15)),
            latest: Some(at(number as i64 * 15 + 10)),
        };
        let overview = Overview { segments: (0..10).map(rows).collect(), complete: true, ..Overview::default() };
        let mut points = Points::new(size(), Vec::new());
        points.set_overview(Arc::new(overview));
        points
    }

    fn found(stretches: &[(u64, u64)]) -> Vec<(i64, i64, Why)> {
        let stretches = stretches.iter().map(|(from, to)| (size().start_of(*from), size().start_of(*to)));
        let reach = Reach::from_stretches([(TimelineId(1), stretches.collect())]);
        let window = Window::over(at(0), at(150));
        let second = |bin: usize| (window.start_of(bin, BINS).unix_micros() + 80_000) / 1_000_000 - 1_727_870_000;
        let found = unreached(&archive(), &[], &reach, window);
        found.iter().map(|u| (second(u.first), second(u.last), u.why)).collect()
    }

    #[test]
    fn it_lies_before_the_first_backup_and_behind_a_gap_whole() {
        assert_eq!(found(&[(2, 5)]), [(0, 25, Why::TooEarly), (75, 145, Why::BehindGap)]);
        assert_eq!(found(&[(2, 4), (6, 99)]), [(0, 25, Why::TooEarly), (60, 85, Why::BehindGap)]);
        assert_eq!(found(&[(0, 99)]), []);
        assert_eq!(found(&[]), [(0, 145, Why::NoBackup)]);
        assert_eq!(
            unreached(&archive(), &[], &Reach::default(), Window::over(at(0), at(150))),
            [],
            "nothing is known yet"
        );
    }

    #[test]
    fn what_one_timeline_reaches_is_reached() {
        let mut points = archive();
        let mut overview = points.overview().clone();
        let beside = |segment: &SegmentRows| SegmentRows { timeline: TimelineId(2), ..*segment };
        let second: Vec<SegmentRows> = overview.segments.iter().map(beside).collect();
        overview.segments.extend(second);
        points.set_overview(Arc::new(overview));
        let reach = Reach::from_stretches([(TimelineId(1), vec![(Lsn(0), Lsn(u64::MAX))]), (TimelineId(2), vec![])]);
        assert_eq!(unreached(&points, &[], &reach, Window::over(at(0), at(140))), []);
    }
}
