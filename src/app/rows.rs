//! Rows of a list that is not held: stretches with a known number of rows each, and which row lies in which.

use crate::core::TimelineId;

/// What the rows of a stretch are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holds {
    /// The points of a segment, by its place in the overview.
    Segment(usize),
    /// One row: a segment that cannot be read, by its place among what is lacking.
    Damaged(usize),
    /// One row: segments that are missing, by their place among what is lacking.
    Gap(usize),
    /// One row: the end of WAL, by its place among the overview's marks.
    End(usize),
}

impl Holds {
    fn rank(self) -> u8 {
        match self {
            Self::Segment(_) => 0,
            Self::Damaged(_) => 1,
            Self::Gap(_) => 2,
            Self::End(_) => 3,
        }
    }
}

/// Rows that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Their timeline.
    pub timeline: TimelineId,
    /// The segment's number, or the first one that is missing.
    pub number: u64,
    /// What they are.
    pub holds: Holds,
}

impl Run {
    /// What runs are ordered by, and are known again by when there are more of them.
    #[must_use]
    pub fn key(&self) -> (TimelineId, u64, u8) {
        (self.timeline, self.number, self.holds.rank())
    }
}

/// Runs in the order of the list.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Runs {
    runs: Vec<Run>,
    /// Rows before each of them, and at last all of them; empty like the runs, or one longer.
    before: Vec<u64>,
}

impl Runs {
    /// From runs with the number of their rows, in any order.
    #[must_use]
    pub fn new(mut runs: Vec<(Run, u64)>) -> Runs {
        if !runs.is_sorted_by_key(|(run, _)| run.key()) {
            runs.sort_by_key(|(run, _)| run.key());
        }
        let mut before = Vec::with_capacity(runs.len() + 1);
        let mut so_far = 0_u64;
        before.push(0);
        for (_, rows) in &runs {
            so_far = so_far.saturating_add(*rows);
            before.push(so_far);
        }
        Runs { runs: runs.into_iter().map(|(run, _)| run).collect(), before }
    }

    /// All rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.before.last().copied().unwrap_or(0)
    }

    /// The run at this place.
    #[must_use]
    pub fn get(&self, place: usize) -> Option<&Run> {
        self.runs.get(place)
    }

    /// How many runs there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.runs.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// Rows before the run at this place; all of them behind the last one.
    #[must_use]
    pub fn first_row(&self, place: usize) -> u64 {
        self.before.get(place).copied().unwrap_or(self.rows())
    }

    /// The rows of the run at this place.
    #[must_use]
    pub fn rows_of(&self, place: usize) -> u64 {
        self.first_row(place + 1).saturating_sub(self.first_row(place))
    }

    /// The run in which a row lies, and how many of the run's rows lie before it.
    #[must_use]
    pub fn at(&self, row: u64) -> Option<(usize, u64)> {
        if row >= self.rows() {
            return None;
        }
        let place = self.before.partition_point(|before| *before <= row).checked_sub(1)?;
        Some((place, row - self.first_row(place)))
    }

    /// The place of the first run that does not come before this key.
    #[must_use]
    pub fn place_of(&self, key: (TimelineId, u64, u8)) -> usize {
        self.runs.partition_point(|run| run.key() < key)
    }

    /// The rows of this timeline, or all of them.
    #[must_use]
    pub fn rows_on(&self, timeline: Option<TimelineId>) -> std::ops::Range<u64> {
        let Some(timeline) = timeline else { return 0..self.rows() };
        let from = self.runs.partition_point(|run| run.timeline < timeline);
        let to = self.runs.partition_point(|run| run.timeline <= timeline);
        self.first_row(from)..self.first_row(to)
    }

    /// The timelines that have rows.
    #[must_use]
    pub fn timelines(&self) -> Vec<TimelineId> {
        let mut ids = Vec::new();
        let mut place = 0;
        while let Some(run) = self.runs.get(place) {
            let next = self.runs.partition_point(|other| other.timeline <= run.timeline);
            if self.first_row(next) > self.first_row(place) {
                ids.push(run.timeline);
            }
            place = next;
        }
        ids
    }

    /// The run at this place turned out to have so many rows.
    pub fn set_rows(&mut self, place: usize, rows: u64) {
        let known = self.rows_of(place);
        for before in self.before.iter_mut().skip(place + 1) {
            *before = before.saturating_sub(known).saturating_add(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn run(timeline: u32, number: u64) -> Run {
        Run { timeline: TimelineId(timeline), number, holds: Holds::Segment(0) }
    }

    #[test]
    fn rows_lie_in_the_run_that_has_them() {
        let runs = Runs::new(vec![(run(2, 1), 1), (run(1, 7), 2), (run(1, 8), 0), (run(1, 9), 3)]);
        let found: Vec<_> = (0..7).map(|row| runs.at(row)).collect();
        let wanted = [Some((0, 0)), Some((0, 1)), Some((2, 0)), Some((2, 1)), Some((2, 2)), Some((3, 0)), None];
        assert_eq!(found, wanted);
        assert_eq!((runs.rows_on(Some(TimelineId(2))), runs.rows_on(None)), (5..6, 0..6));
        assert_eq!(runs.timelines(), [TimelineId(1), TimelineId(2)]);
        assert_eq!(Runs::default().at(0), None);
    }

    proptest! {
        #[test]
        fn every_row_is_found_where_counting_finds_it(
            rows in proptest::collection::vec(0_u64..5, 0..40), changed in 0_usize..40, to in 0_u64..9,
        ) {
            let mut plain = rows.clone();
            let mut runs = Runs::new((0..).zip(&rows).map(|(number, rows)| (run(1, number), *rows)).collect());
            if let Some(rows) = plain.get_mut(changed) {
                *rows = to;
                runs.set_rows(changed, to);
            }
            let counted: Vec<_> = plain.iter().enumerate().flat_map(|(place, n)| (0..*n).map(move |i| (place, i))).collect();
            prop_assert_eq!(runs.rows(), counted.len() as u64);
            let found: Vec<_> = (0..runs.rows()).filter_map(|row| runs.at(row)).collect();
            prop_assert_eq!(found, counted);
        }
    }
}
