//! Where WAL ends of which no list can be had: it is asked for by number, as seldom as possible where the answer is a
//! whole segment. Pure.
//!
//! From what is known to be there, it is asked for at distances that double until there is one missing, and the place
//! between is halved: some 20 segments of a thousand are fetched. A segment that is missing need not be the end: somebody
//! may have removed it, or its archiving failed. So so many behind it are asked for too, one by one and then further
//! and further away; where one of those is there, there is a gap, and WAL goes on.
//!
//! What lies between segments that are there is taken to be there until it is asked for, which whoever reads it does.
//! What is given and is something else shows neither that WAL goes on nor that it ends.

use std::collections::BTreeSet;

use crate::error::Result;

/// Behind a segment that is missing, so many are asked for one by one.
pub const ONE_BY_ONE: u64 = 8;
/// And these behind it.
pub const FURTHER: [u64; 7] = [16, 32, 64, 128, 256, 512, 1024];

/// Of a gap that is no longer than this, each segment is asked for.
const WHOLE_GAP: u64 = 64;

/// What is known of the segments of one timeline, by their numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Walk {
    /// Those that are there: they were given once, or lie in a directory.
    pub there: BTreeSet<u64>,
    /// Those that were asked for and are not.
    pub absent: BTreeSet<u64>,
    /// Those that were given and are something else.
    pub damaged: BTreeSet<u64>,
    /// Those in long gaps that were not asked for.
    pub left_out: BTreeSet<u64>,
    /// The last one that there can be: none behind it is asked for.
    pub last: u64,
}

impl Default for Walk {
    fn default() -> Walk {
        let none = BTreeSet::new;
        Walk { there: none(), absent: none(), damaged: none(), left_out: none(), last: u64::MAX }
    }
}

/// What is said of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It is there.
    There,
    /// Something is given for it that is not that segment.
    Damaged,
    /// It is not there.
    Absent,
}

/// Asks for segments by number, several at once.
pub type Ask<'a> = &'a mut dyn FnMut(&[u64]) -> Result<Vec<Answer>>;

impl Walk {
    /// Asks again, whatever was known to be absent, for the segment behind the last one and for those that should be there:
    /// `expected`, and the first, `from`. Where there is news, what was absent may have come as well: gives its numbers
    /// then, which are to be asked for again by [`Walk::go`].
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn begin(&mut self, from: u64, expected: &[u64], ask: Ask<'_>) -> Result<Option<Vec<u64>>> {
        let absent = std::mem::take(&mut self.absent);
        let next = self.last_from(from).map(|last| last.saturating_add(1));
        let first: Vec<u64> =
            expected.iter().copied().filter(|number| *number >= from).chain([from]).chain(next).collect();
        let before = self.there.len() + self.damaged.len();
        self.ask(&first, ask)?;
        self.absent
            .extend(absent.into_iter().filter(|number| !self.there.contains(number) && !self.damaged.contains(number)));
        let is_news = self.there.len() + self.damaged.len() > before;
        Ok(is_news.then(|| std::mem::take(&mut self.absent).into_iter().collect()))
    }

    /// Goes along the timeline from segment `from` on. `expected` are segments that should be there: where base backups
    /// start and end, where timelines fork off. Gives the number of the first segment behind the end; `from` where there
    /// is none. Damaged ones right at the end are not before it.
    ///
    /// # Errors
    /// Those of `ask`.
    pub fn go(&mut self, from: u64, expected: &[u64], ask: Ask<'_>) -> Result<u64> {
        let mut expected: Vec<u64> = expected.iter().copied().filter(|number| *number >= from).collect();
        expected.push(from);
        self.ask(&expected, ask)?;
        let Some(mut top) = self.last_from(from) else { return self.first_behind(from, ask) };
        loop {
            let end = self.end_behind(top, ask)?;
            match self.look_behind(end, ask)? {
                None => return Ok(end),
                Some(behind) => top = behind,
            }
        }
    }

    /// The last one that is there, where nothing was where it should begin.
    fn first_behind(&mut self, from: u64, ask: Ask<'_>) -> Result<u64> {
        match self.look_behind(from, ask)? {
            None => Ok(from),
            Some(_) => self.go(from, &[], ask),
        }
    }

    fn last_from(&self, from: u64) -> Option<u64> {
        self.there.range(from..).next_back().copied()
    }

    /// Asks for those of which nothing is known.
    fn ask(&mut self, numbers: &[u64], ask: Ask<'_>) -> Result<()> {
        let known = [&self.there, &self.absent, &self.damaged];
        let is_unknown = |number: &u64| *number <= self.last && known.iter().all(|known| !known.contains(number));
        let mut unknown: Vec<u64> = numbers.iter().copied().filter(is_unknown).collect();
        unknown.sort_unstable();
        unknown.dedup();
        if unknown.is_empty() {
            return Ok(());
        }
        for (number, answer) in unknown.iter().zip(ask(&unknown)?) {
            match answer {
                Answer::There => self.there.insert(*number),
                Answer::Damaged => self.damaged.insert(*number),
                Answer::Absent => self.absent.insert(*number),
            };
        }
        Ok(())
    }

    fn is_there(&mut self, number: u64, ask: Ask<'_>) -> Result<bool> {
        self.ask(&[number], ask)?;
        Ok(self.there.contains(&number))
    }

    /// The first that is missing behind `top`, which is there, as if there was no gap.
    fn end_behind(&mut self, top: u64, ask: Ask<'_>) -> Result<u64> {
        let (mut low, mut high, mut step) = (top, None, 1_u64);
        while high.is_none() {
            let next = top.saturating_add(step);
            if next > low && self.is_there(next, ask)? {
                low = next
            } else {
                high = Some(next)
            }
            step = step.saturating_mul(2);
        }
        self.between(low, high.unwrap_or(low), ask)
    }

    /// The first missing one behind `low`, which is there, and before or at `high`, which is not.
    fn between(&mut self, mut low: u64, mut high: u64, ask: Ask<'_>) -> Result<u64> {
        while high.saturating_sub(low) > 1 {
            let middle = low + (high - low) / 2;
            if self.is_there(middle, ask)? { low = middle } else { high = middle }
        }
        Ok(high)
    }

    /// Asks for what lies behind a segment that is missing: the last one that is there, where there is one. What is missing
    /// before it is found out.
    fn look_behind(&mut self, missing: u64, ask: Ask<'_>) -> Result<Option<u64>> {
        self.ask(&behind(missing), ask)?;
        let Some(first) = self.there.range(missing..).next().copied() else { return Ok(None) };
        // The gap ends before the first that is there; what is between was not asked for, where it is further away.
        let before =
            [&self.absent, &self.damaged].map(|not_there| not_there.range(missing..first).next_back().copied());
        let (mut low, mut high) = (before.into_iter().flatten().max().unwrap_or(missing), first);
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            if self.is_there(middle, ask)? { high = middle } else { low = middle }
        }
        let gap: Vec<u64> = (missing..high).collect();
        if gap.len() as u64 <= WHOLE_GAP {
            self.ask(&gap, ask)?;
        } else {
            self.left_out.extend(gap.into_iter().filter(|number| !self.absent.contains(number)));
        }
        Ok(self.last_from(missing))
    }

    /// Whether for each segment that was asked for behind `end` something was given that is none: then nothing tells where
    /// WAL ends.
    #[must_use]
    pub fn is_all_damaged_behind(&self, end: u64) -> bool {
        let behind = behind(end);
        let mut asked = behind.iter().filter(|number| **number <= self.last).peekable();
        asked.peek().is_some() && asked.all(|number| self.damaged.contains(number))
    }

    /// The first segment at `end` or behind it that is not damaged: damage right at the end is no end of WAL.
    #[must_use]
    pub fn behind_damaged(&self, end: u64) -> u64 {
        let many = self.damaged.range(end..).zip(end..).take_while(|(damaged, number)| *damaged == number).count();
        end.saturating_add(many as u64)
    }
}

/// Those that are asked for behind a segment that is missing.
fn behind(missing: u64) -> Vec<u64> {
    (1..=ONE_BY_ONE).chain(FURTHER).map(|distance| missing.saturating_add(distance)).collect()
}

/// So many are asked for behind the end.
#[must_use]
pub fn asked_behind() -> u64 {
    ONE_BY_ONE + FURTHER.len() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What is found where just these are there, and how many of them were asked for.
    fn walked(there: &BTreeSet<u64>, from: u64, expected: &[u64], before: Walk) -> (u64, Walk, usize) {
        let (mut walk, mut fetched) = (before, 0);
        let mut ask = |numbers: &[u64]| {
            let said = |number| if there.contains(number) { Answer::There } else { Answer::Absent };
            let answers: Vec<Answer> = numbers.iter().map(said).collect();
            fetched += answers.iter().filter(|answer| **answer == Answer::There).count();
            Ok(answers)
        };
        let again = walk.begin(from, expected, &mut ask).unwrap().unwrap_or_default();
        let end = walk.go(from, &again, &mut ask);
        (end.unwrap(), walk, fetched)
    }

    #[test]
    fn what_has_come_behind_the_end_is_found_at_once() {
        let (end, mut walk, _) = walked(&(2..5).collect(), 2, &[2], Walk::default());
        assert_eq!(end, 5);
        assert!(walk.absent.contains(&6));
        let (end, again, _) = walked(&(2..11).collect(), 2, &[2], walk.clone());
        assert_eq!(end, 11, "{again:?}");
        // A new backup ends behind a gap: its last segment is there, and so is more.
        let there = (2..5).chain(8..11).collect();
        assert_eq!(walked(&there, 2, &[2], walk.clone()).0, 5, "what was missing lately is not asked for each time");
        let (end, again, _) = walked(&there, 2, &[2, 8], walk.clone());
        assert_eq!((end, again.absent.contains(&7)), (11, true), "{again:?}");
        // Without news, only the next one and those that should be there are asked for.
        let mut asked = Vec::new();
        let again = walk.begin(2, &[2, 9], &mut |numbers| {
            asked.extend(numbers);
            Ok(vec![Answer::Absent; numbers.len()])
        });
        assert_eq!((again.unwrap(), asked), (None, vec![5, 9]));
    }

    #[test]
    fn what_is_something_else_does_not_move_the_end() {
        let answered = |there: u64, damaged: std::ops::Range<u64>| {
            let mut walk = Walk { last: 1 << 20, ..Walk::default() };
            let mut most = 0;
            let mut ask = |numbers: &[u64]| {
                most = most.max(numbers.iter().copied().max().unwrap_or(0));
                let said = |number: &u64| match number {
                    number if *number < there => Answer::There,
                    number if damaged.contains(number) => Answer::Damaged,
                    _ => Answer::Absent,
                };
                Ok(numbers.iter().map(said).collect())
            };
            let again = walk.begin(2, &[2], &mut ask).unwrap().unwrap_or_default();
            let end = walk.go(2, &again, &mut ask).unwrap();
            (end, walk.behind_damaged(end), walk.is_all_damaged_behind(end), most)
        };
        assert_eq!(answered(9, 9..u64::MAX), (9, 18, true, 9 + 1024));
        assert_eq!(answered(0, 0..u64::MAX), (2, 11, true, 2 + 1024));
        assert_eq!(answered(9, 9..11), (9, 11, false, 9 + 1024));
        assert_eq!(answered(9, 12..13), (9, 9, false, 9 + 1024));
        let (end, _, is_all_damaged, most) = answered(u64::MAX, 0..0);
        assert_eq!((end, is_all_damaged), (1 + (1 << 20), false), "none is asked for behind the last one");
        assert!(most <= 1 << 20, "{most}");
    }

    #[test]
    fn the_end_of_many_is_found_with_few() {
        let there: BTreeSet<u64> = (5..1005).collect();
        let (end, walk, fetched) = walked(&there, 5, &[5], Walk::default());
        assert_eq!(end, 1005);
        assert!(fetched <= 20, "{fetched}");
        let (end, _, fetched) = walked(&there, 5, &[5], Walk { absent: BTreeSet::new(), ..walk });
        assert_eq!((end, fetched), (1005, 0), "what is known is not fetched again");
    }

    #[test]
    fn a_gap_is_not_the_end() {
        let there: BTreeSet<u64> = (5..40).filter(|number| *number != 6 && !(20..=24).contains(number)).collect();
        let (end, walk, _) = walked(&there, 5, &[5], Walk::default());
        assert_eq!(end, 40);
        assert!(walk.absent.contains(&6), "{walk:?}");
        // One that is as long as what is looked at behind it is found too, where the distance fits.
        let there: BTreeSet<u64> = (5..10).chain(25..60).collect();
        let (end, walk, _) = walked(&there, 5, &[5], Walk::default());
        assert_eq!(end, 60);
        assert!((10..25).all(|number| walk.absent.contains(&number)), "{walk:?}");
    }

    #[test]
    fn where_nothing_begins_there_may_be_something_behind() {
        let (end, walk, _) = walked(&(8..20).collect(), 5, &[5], Walk::default());
        assert_eq!((end, walk.absent.contains(&7)), (20, true));
        let (end, walk, fetched) = walked(&BTreeSet::new(), 5, &[9], Walk::default());
        assert_eq!((end, fetched), (5, 0));
        assert!(walk.there.is_empty());
    }

    proptest! {
        #[test]
        fn without_gaps_the_end_is_exact(from in 0u64..5000, many in 1u64..3000, expected in prop::collection::vec(0u64..3000, 0..4)) {
            let there: BTreeSet<u64> = (from..from + many).collect();
            let expected: Vec<u64> = expected.iter().map(|number| from + number).collect();
            let (end, walk, _) = walked(&there, from, &expected, Walk::default());
            prop_assert_eq!(end, from + many);
            prop_assert!(walk.there.is_subset(&there));
        }

        #[test]
        fn whatever_is_there_nothing_is_invented_and_no_end_is_near_to_more(
            from in 0u64..50, numbers in prop::collection::btree_set(0u64..2000, 0..400), expected in prop::collection::vec(0u64..2000, 0..4),
        ) {
            let (end, walk, _) = walked(&numbers, from, &expected, Walk::default());
            prop_assert!(walk.there.is_subset(&numbers));
            prop_assert!(walk.absent.is_disjoint(&numbers));
            prop_assert!(end >= from && (end == from || numbers.contains(&(end - 1))));
            for distance in (0..=ONE_BY_ONE).chain(FURTHER) {
                prop_assert!(!numbers.contains(&(end + distance)), "{end} + {distance}");
            }
        }
    }
}
