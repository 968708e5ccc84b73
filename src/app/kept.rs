//! The segments whose points are held, a bounded number of them: what is looked at stays, what was left goes.

use std::collections::{BTreeSet, HashMap};
use std::ops::RangeInclusive;

use crate::catalog::Point;
use crate::core::TimelineId;

/// A segment by its timeline and number.
pub(super) type Key = (TimelineId, u64);

/// So many segments are kept, unless more of them are seen at once.
const SEGMENTS: usize = 64;
/// So many points are kept: some hundred bytes each.
const POINTS: usize = 1_000_000;
/// So many segments may be asked for and not yet be there: whoever pages on fast gets what he arrives at, and does
/// not wait for all that he passed.
const ASKED: usize = 16;

/// A segment's points, or why they cannot be had.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Held {
    /// Its listed points by position.
    Points(Vec<Point>),
    /// It cannot be read: why.
    Failed(String),
}

#[derive(Debug, Clone, PartialEq)]
struct Entry {
    held: Held,
    /// When it was last needed, in calls of [`Kept::need`].
    used: u64,
}

/// The segments that are held.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Kept {
    entries: HashMap<Key, Entry>,
    asked: BTreeSet<Key>,
    points: usize,
    now: u64,
    /// Grows with every segment that comes or goes.
    revision: u64,
}

impl Kept {
    /// What is held of a segment.
    #[must_use]
    pub(super) fn get(&self, key: Key) -> Option<&Held> {
        self.entries.get(&key).map(|entry| &entry.held)
    }

    /// The points of a segment, if they are held.
    #[must_use]
    pub(super) fn points(&self, key: Key) -> Option<&[Point]> {
        match self.get(key)? {
            Held::Points(points) => Some(points),
            Held::Failed(_) => None,
        }
    }

    /// All points that are held, in no order.
    pub(super) fn all(&self) -> impl Iterator<Item = &Point> {
        self.entries.values().flat_map(|entry| match &entry.held {
            Held::Points(points) => points.as_slice(),
            Held::Failed(_) => &[],
        })
    }

    /// Another number after every change.
    #[must_use]
    pub(super) fn revision(&self) -> u64 {
        self.revision
    }

    /// Says which segments are needed now, the most urgent first; returns those that have to be asked for, as
    /// stretches.
    pub(super) fn need(&mut self, keys: impl IntoIterator<Item = Key>) -> Vec<(TimelineId, RangeInclusive<u64>)> {
        self.now += 1;
        let mut missing = BTreeSet::new();
        for key in keys {
            match self.entries.get_mut(&key) {
                Some(entry) => entry.used = self.now,
                None if self.asked.len() < ASKED && !self.asked.contains(&key) => {
                    self.asked.insert(key);
                    missing.insert(key);
                }
                None => {}
            }
        }
        stretches(missing)
    }

    /// Takes a segment in; what was not needed for longest goes where there are too many.
    pub(super) fn put(&mut self, key: Key, held: Held) {
        self.asked.remove(&key);
        self.points += count(&held);
        if let Some(old) = self.entries.insert(key, Entry { held, used: self.now }) {
            self.points -= count(&old.held);
        }
        self.revision += 1;
        while self.entries.len() > SEGMENTS || self.points > POINTS {
            let oldest = self.entries.iter().filter(|(_, entry)| entry.used < self.now);
            let Some(oldest) = oldest.min_by_key(|(key, entry)| (entry.used, **key)).map(|(key, _)| *key) else {
                return;
            };
            if let Some(gone) = self.entries.remove(&oldest) {
                self.points -= count(&gone.held);
            }
        }
    }

    /// How many segments and points are held.
    #[cfg(test)]
    pub(super) fn len(&self) -> (usize, usize) {
        (self.entries.len(), self.points)
    }
}

fn count(held: &Held) -> usize {
    match held {
        Held::Points(points) => points.len(),
        Held::Failed(_) => 0,
    }
}

/// Numbers in a row on one timeline become one stretch.
fn stretches(keys: BTreeSet<Key>) -> Vec<(TimelineId, RangeInclusive<u64>)> {
    let mut stretches: Vec<(TimelineId, RangeInclusive<u64>)> = Vec::new();
    for (timeline, number) in keys {
        match stretches.last_mut() {
            Some((last, range)) if *last == timeline && range.end().checked_add(1) == Some(number) => {
                *range = *range.start()..=number;
            }
            _ => stretches.push((timeline, number..=number)),
        }
    }
    stretches
}

#[cfg(test)]
mod tests {
    use super::*;

    const T: TimelineId = TimelineId(1);

    #[test]
    fn what_is_needed_is_asked_for_once_and_in_stretches() {
        let mut kept = Kept::default();
        assert_eq!(kept.need([(T, 7), (T, 5), (T, 6), (TimelineId(2), 7)]), [(T, 5..=7), (TimelineId(2), 7..=7)]);
        assert_eq!(kept.need([(T, 7), (T, 8)]), [(T, 8..=8)], "the others are on their way");
        kept.put((T, 7), Held::Points(Vec::new()));
        assert_eq!(kept.need([(T, 7)]), []);
        let many = kept.need((100..200).map(|number| (T, number)));
        assert_eq!(many, [(T, 100..=111)], "no more at once than can be waited for");
    }

    #[test]
    fn what_was_left_goes_and_what_is_looked_at_stays() {
        let mut kept = Kept::default();
        for number in 0..200 {
            kept.need([(T, 3), (T, number)]);
            kept.put((T, number), Held::Points(Vec::new()));
            assert!(kept.len().0 <= SEGMENTS);
        }
        assert!(kept.get((T, 3)).is_some() && kept.get((T, 199)).is_some() && kept.get((T, 4)).is_none());
        // More are seen at once than are kept: they stay.
        kept.need((1000..1100).map(|number| (T, number)));
        for number in 1000..1100 {
            kept.put((T, number), Held::Failed("no".to_owned()));
        }
        assert_eq!(kept.len().0, 100);
    }
}
