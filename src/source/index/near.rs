//! Suspects near one place in WAL, without going through the whole archive.

use std::collections::BTreeMap;
use std::ops::{ControlFlow, RangeInclusive};

use crate::catalog::{OverviewBuilder, Suspect};
use crate::core::{SegmentName, TimelinePath, Timestamp, Xid};
use crate::error::Result;

use super::super::Cancel;
use super::Index;
use super::overview::Ask;

/// So many segments are looked at once when it is found out how far to go back.
const STEP: u64 = 32;
/// So far it goes back at most: the hour before the stop may be hundreds of thousands of segments.
const FURTHEST: u64 = 512;

impl Index<'_> {
    /// The numbers of the segments on `path` up to the one with number `last` in which something may have ended since
    /// `since`, as far as that is soon told: at most so many (`read_at_most`) have to be read for that which nobody
    /// has read yet, and a good many are looked at in any case.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn numbers_since(
        &self,
        path: &TimelinePath,
        last: u64,
        since: Timestamp,
        read_at_most: usize,
        cancel: &Cancel,
    ) -> Result<RangeInclusive<u64>> {
        let (mut first, mut left) = (last, read_at_most);
        while first > 0 && last - first < FURTHEST {
            let step = if first == last { 1 } else { STEP };
            let next = first.saturating_sub(step);
            let names = self.on_path(path, next..=first.saturating_sub(1));
            let unknown = self.unknown(&names);
            // Who may read few of them goes back one by one instead.
            if unknown > left || names.is_empty() {
                return Ok(self.one_by_one(path, first, left)..=last);
            }
            left -= unknown;
            first = next;
            let reads = self.summaries(&names, cancel, &mut |_| {})?;
            let latest = reads.iter().flatten().filter_map(|summary| summary.times).map(|(earliest, _)| earliest).min();
            if latest.is_some_and(|earliest| earliest < since) {
                break;
            }
        }
        Ok(first..=last)
    }

    /// How far back segments are there of which no more than so many have to be read.
    fn one_by_one(&self, path: &TimelinePath, mut first: u64, mut left: usize) -> u64 {
        for _ in 0..STEP {
            let names = self.on_path(path, first.saturating_sub(1)..=first.saturating_sub(1));
            let unknown = self.unknown(&names);
            if first == 0 || names.is_empty() || unknown > left {
                break;
            }
            left -= unknown;
            first -= 1;
        }
        first
    }

    /// The suspects that committed along `path` in the segments of these numbers. What they did before the first of
    /// them does not count. Segments that are not known are read.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn suspects_along(
        &self,
        path: &TimelinePath,
        numbers: RangeInclusive<u64>,
        cancel: &Cancel,
    ) -> Result<Vec<Suspect>> {
        let size = self.catalog.segment_size;
        let mut builder = OverviewBuilder::new(self.rows, size);
        let mut stretches = path.stretches().iter().peekable();
        while let Some(stretch) = stretches.next() {
            builder.begin_timeline(stretch.timeline);
            let mut fork = stretch.end.map(|end| size.number_of(end)).zip(stretches.peek().map(|next| next.timeline));
            let last = stretch.end.map_or(*numbers.end(), |end| size.number_of(end).min(*numbers.end()));
            let mine = size.number_of(stretch.begin).max(*numbers.start())..=last;
            let names = mine.map(|number| SegmentName::new(stretch.timeline, number, size));
            let entries = self.entries(names.filter(|name| self.catalog.segments.contains(name)));
            self.stream_known(&entries, &mut |entry, known| {
                cancel.check()?;
                if let Some((_, child)) = fork.take_if(|(at, _)| *at <= entry.number) {
                    builder.fork(child);
                }
                match self.known_or_read(entry, known, cancel)? {
                    Ok(summary) => {
                        let mut ask = |xids: &[Xid]| self.fates(entry, xids, &mut Ask::Now, cancel);
                        builder.segment(stretch.timeline, entry.number, Some(&summary), &mut ask);
                    }
                    Err(_) => builder.segment(stretch.timeline, entry.number, None, &mut |_| BTreeMap::new()),
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if let Some((_, child)) = fork {
                builder.fork(child);
            }
        }
        let mut suspects = builder.finish().suspects;
        suspects.retain(|suspect| path.timeline_at(suspect.lsn) == Some(suspect.timeline));
        Ok(suspects)
    }

    /// The segments of these numbers that hold WAL of this path and are there.
    fn on_path(&self, path: &TimelinePath, numbers: RangeInclusive<u64>) -> Vec<SegmentName> {
        let size = self.catalog.segment_size;
        let named = |number| move |timeline| SegmentName::new(timeline, number, size);
        let mut names: Vec<SegmentName> =
            numbers.flat_map(|number| path.owners_of(number, size).into_iter().map(named(number))).collect();
        names.retain(|name| self.catalog.segments.contains(name));
        names.sort_unstable();
        names
    }
}
