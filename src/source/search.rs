//! Finds out from which segment on WAL has to be read for a target, without reading what lies before it.
//!
//! What is trusted, and what is proven:
//!
//! * Times go up along WAL, but not strictly: a server takes the time of a commit shortly before the commit gets its
//!   place. It is trusted that this is less than a second. The segment is found by the times of the first transactions
//!   that ended in some segments, guessing by how the times run between the two ends (the ITP method: it takes no more
//!   than some steps more than bisection, and mostly far fewer). It is then read whole, and so are those before it in
//!   which transactions ended, until one lies a second before the target.
//! * In between there may be WAL in which no transaction ends, as bulk operations write it. Where its edges are, is
//!   guessed by ids. That there is none, between two segments that are taken for neighbours, is proven by who is listed
//!   as running before and behind it, see [`super::proof`]; where the proof does not succeed, everything between is
//!   read. So what is named as the last transaction that is kept, or the first that is lost, is just that.
//! * For a transaction's id, it is trusted that it does not end before transactions do whose ids are so much higher that
//!   they first end in the ninth segment behind, or later.
//!
//! Where all segments were read before, the first one in which a transaction ended too late is known, and nothing has to
//! be trusted but that the files are the same as then. Whoever needs proof asks for all the summaries.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use crate::catalog::Catalog;
use crate::core::{SegmentName, TimelinePath, Timestamp, Xid};
use crate::error::Result;
use crate::wal::Summary;

use super::Cancel;
use super::closing::Wanted;
use super::index::Index;
use super::probe::{Head, Probe, probe};
use super::proof::Events;

/// So many segments before the one that was found are read whole at most: a server that writes more than that in
/// [`SAFE_MICROS`] is faster than any.
const NEIGHBOURS: usize = 64;
/// So many segments before the one that was found are looked into for the end of a transaction: others that were given
/// an id before it may end behind it.
const XID_NEIGHBOURS: u64 = 8;
/// A segment whose transactions all ended so long before the target has none before it that ended behind the target.
const SAFE_MICROS: i64 = 1_000_000;
/// So many steps more than bisection may be taken.
const SLACK: i32 = 8;

/// Segments along a path of timelines.
pub struct Search<'a> {
    pub(super) index: &'a Index<'a>,
    path: &'a TimelinePath,
    pub(super) cancel: &'a Cancel,
    /// What was seen of the segments that were looked into.
    pub(super) probes: RefCell<BTreeMap<u64, Probe>>,
    /// What those say that were read to prove something; `None` of those that cannot be read whole.
    pub(super) events: RefCell<BTreeMap<u64, Option<Rc<Events>>>>,
    /// Between these no transaction ended.
    pub(super) closed: RefCell<BTreeSet<(u64, u64)>>,
    /// In how many segments one id is given out, on average.
    pub(super) segments_per_id: Cell<f64>,
}

/// How far behind what is looked for something lies: positive where it lies behind.
type Beyond<'f> = &'f dyn Fn(&Head) -> i64;
/// Whether what is looked for is in a segment, so that what lies behind it does not matter.
type Enough<'f> = &'f dyn Fn(&Summary) -> bool;

impl<'a> Search<'a> {
    /// Over the segments of `index` along `path`.
    #[must_use]
    pub fn new(index: &'a Index<'a>, path: &'a TimelinePath, cancel: &'a Cancel) -> Search<'a> {
        Search {
            index,
            path,
            cancel,
            probes: RefCell::default(),
            events: RefCell::default(),
            closed: RefCell::default(),
            segments_per_id: Cell::new(f64::INFINITY),
        }
    }

    fn catalog(&self) -> &'a Catalog {
        self.index.catalog()
    }

    /// The archived segment of this number that holds WAL of the path, of the newest timeline that has one.
    #[must_use]
    pub fn name_at(&self, number: u64) -> Option<SegmentName> {
        let size = self.catalog().segment_size;
        let owners = self.path.owners_of(number, size).into_iter();
        let mut names = owners.map(|owner| SegmentName::new(owner, number, size));
        names.find(|name| self.catalog().segments.contains(name))
    }

    /// The last segment before the first one that is missing, from `first` on; `None` where that is missing itself.
    #[must_use]
    pub fn last_in_a_row(&self, first: u64) -> Option<u64> {
        let size = self.catalog().segment_size;
        let mut next = first;
        for (i, stretch) in self.path.stretches().iter().enumerate() {
            let begin = size.number_of(stretch.begin);
            let end = stretch.end.map_or(u64::MAX, |end| size.number_of(end));
            if end < first {
                continue;
            }
            // The segment in which a timeline begins is there twice, and the newer file counts.
            if i > 0 && begin > first {
                if begin > next {
                    break;
                }
                next = begin;
            }
            let from = SegmentName::new(stretch.timeline, next, size);
            for name in self.catalog().segments.range(from..) {
                if name.timeline != stretch.timeline || name.number(size) != next || next > end {
                    break;
                }
                next += 1;
            }
        }
        (next > first).then(|| next - 1)
    }

    /// A segment from `first` to `last` before which, as far as can be trusted, no transaction ended at a time that
    /// `later` says is too late.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn time(&self, first: u64, last: u64, wanted: Timestamp, later: &dyn Fn(Timestamp) -> bool) -> Result<u64> {
        let beyond = |head: &Head| {
            let distance = head.at.unix_micros().saturating_sub(wanted.unix_micros());
            if later(head.at) { distance.max(1) } else { distance.min(0) }
        };
        let is_later = |summary: &Summary| summary.times.is_some_and(|(_, latest)| later(latest));
        if let Some(number) = self.time_by_rows(first, last, later)
            && self.summary(number)?.is_some_and(|summary| is_later(&summary))
        {
            return Ok(number);
        }
        let mut number = self.narrow(first, last, &beyond, &is_later)?;
        while number < last && !self.summary(number)?.is_some_and(|summary| is_later(&summary)) {
            match self.next_ended(number + 1, last)? {
                Some(next) => number = next,
                None => break,
            }
        }
        let mut before = number;
        for _ in 0..NEIGHBOURS {
            let Some((neighbour, summary)) = self.previous_ended(first, before)? else { break };
            before = neighbour;
            if is_later(&summary) {
                number = neighbour;
            }
            let latest = summary.times.map(|(_, latest)| latest.unix_micros());
            if latest.is_some_and(|latest| latest < wanted.unix_micros().saturating_sub(SAFE_MICROS)) {
                break;
            }
        }
        Ok(number)
    }

    /// The first segment in which a transaction ended too late, where all of them were read before: then nothing has to
    /// be trusted but that they are still the same.
    fn time_by_rows(&self, first: u64, last: u64, later: &dyn Fn(Timestamp) -> bool) -> Option<u64> {
        let rows = self.index.rows_kept();
        let row = |timeline, number| {
            let place = rows.binary_search_by_key(&(timeline, number), |row| (row.timeline, row.number)).ok()?;
            rows.get(place).filter(|row| row.read)
        };
        // Where a timeline begins, what lies before the fork is among the rows of the one before it.
        let owners = |number| self.path.owners_of(number, self.catalog().segment_size);
        (first..=last)
            .map(|number| {
                let mut rows = owners(number).into_iter().filter_map(|owner| row(owner, number)).peekable();
                rows.peek()?;
                Some((number, rows.any(|row| row.latest.is_some_and(later))))
            })
            .take_while(Option::is_some)
            .flatten()
            .find_map(|(number, is_later)| is_later.then_some(number))
    }

    /// A segment from `first` to `last` before which, as far as can be trusted, this transaction did not end.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn xid(&self, first: u64, last: u64, xid: Xid) -> Result<u64> {
        let beyond = |head: &Head| {
            if head.xids.1.precedes(xid) {
                -i64::from(xid.0.wrapping_sub(head.xids.1.0))
            } else {
                i64::from(head.xids.1.0.wrapping_sub(xid.0)).max(1)
            }
        };
        let number = self.narrow(first, last, &beyond, &|_| false)?;
        Ok(number.saturating_sub(XID_NEIGHBOURS).max(first))
    }

    /// The last segments before `number`, in order, that together say which transaction committed last and which
    /// ended at the time of the last one: none of them ended before them at that time.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn last_before(&self, first: u64, number: u64) -> Result<Vec<(u64, Summary)>> {
        let mut found = Vec::new();
        let mut commits = 0;
        let mut times: Option<(Timestamp, Timestamp)> = None;
        let mut behind = number;
        while let Some((number, summary)) = self.previous_ended(first, behind)? {
            commits += summary.commits;
            if let Some((earliest, latest)) = summary.times {
                times = Some(times.map_or((earliest, latest), |(from, to)| (from.min(earliest), to.max(latest))));
            }
            found.push((number, summary));
            behind = number;
            if commits > 0 && times.is_some_and(|(from, to)| from != to) {
                break;
            }
        }
        found.reverse();
        Ok(found)
    }

    /// The last segment whose head is known not to lie behind what is looked for, or `first`. It is not looked for what
    /// comes behind one that is `enough`.
    fn narrow(&self, first: u64, last: u64, beyond: Beyond<'_>, enough: Enough<'_>) -> Result<u64> {
        let outside = (first.saturating_sub(1), last.saturating_add(1));
        let Some((low, before)) = self.near(first, outside)? else { return Ok(first) };
        if beyond(&before) > 0 {
            return Ok(first);
        }
        let Some((high, behind)) = self.near(last, (low, outside.1))? else { return Ok(low) };
        if beyond(&behind) <= 0 {
            return Ok(high);
        }
        let mut steps = Itp::new(low, high);
        let at = |number| Ok(self.probe(number)?.head.map_or(0, |head| beyond(&head)));
        let mut guess = |low, high| Ok(steps.next(low, at(low)?, high, at(high)?));
        Ok(self.close(low, high, &mut Wanted { beyond, guess: &mut guess, enough })?.0)
    }

    /// The segment closest to `number`, and inside of `bounds`, in which a transaction ended, as far as one is found in
    /// ever longer steps behind it and then before it.
    fn near(&self, number: u64, bounds: (u64, u64)) -> Result<Option<(u64, Head)>> {
        let distances = || std::iter::once(0).chain((0..32).map(|power| 1_u64 << (2 * power)));
        let behind = distances().map(|distance| number.saturating_add(distance)).take_while(|place| *place < bounds.1);
        let before = distances().skip(1).map_while(|distance| number.checked_sub(distance));
        for place in behind.chain(before.take_while(|place| *place > bounds.0)) {
            if let Some(head) = self.probe(place)?.head {
                return Ok(Some((place, head)));
            }
        }
        Ok(None)
    }

    /// What is seen of a segment; nothing where it cannot be read.
    pub(super) fn probe(&self, number: u64) -> Result<Probe> {
        if let Some(known) = self.probes.borrow().get(&number) {
            return Ok(*known);
        }
        let probe = match self.name_at(number) {
            Some(name) => probe(self.index, name, self.name_at(number + 1), self.cancel)?,
            None => Probe::default(),
        };
        self.probes.borrow_mut().insert(number, probe);
        Ok(probe)
    }

    pub(super) fn summary(&self, number: u64) -> Result<Option<Summary>> {
        let Some(name) = self.name_at(number) else { return Ok(None) };
        let summary = self.index.summary(name, self.cancel)?.ok();
        let seen = || summary.as_ref().map(Probe::of).unwrap_or_default();
        self.probes.borrow_mut().entry(number).or_insert_with(seen);
        Ok(summary)
    }

    /// The last segment from `first` on and before `number` in which a record starts.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn last_with_records(&self, first: u64, number: u64) -> Result<Option<Summary>> {
        for before in (first..number).rev() {
            let Some(summary) = self.summary(before)? else { break };
            if summary.records > 0 {
                return Ok(Some(summary));
            }
        }
        Ok(None)
    }

    /// The first segment from `from` to `last` in which a transaction ended.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn next_ended(&self, from: u64, last: u64) -> Result<Option<u64>> {
        let mut number = from;
        // What is known costs nothing: there is no need to pass over it.
        while number <= last && self.is_known(number) && self.probe(number)?.head.is_none() {
            number += 1;
        }
        if number > last {
            return Ok(None);
        }
        let steps = (0..).map_while(|power| 8_u64.checked_pow(power)).map(|step| number.saturating_add(step - 1));
        let steps = steps.take_while(|place| *place < last);
        let high = match self.seen(number, last, false) {
            Some(high) => high,
            // Where nothing ends any more, the last list of those that run is the end of what can be proven.
            None => match self.first_ended_of(steps)? {
                Some(high) => high,
                None => self.ended_or_listed((number..=last).rev())?.unwrap_or(number),
            },
        };
        let Some(low) = number.checked_sub(1) else { return Ok(Some(high)) };
        let mut wanted = Wanted { beyond: &|_| 1, guess: &mut |low, _| Ok(low + 1), enough: &|_| false };
        let (_, high) = self.close(low, high, &mut wanted)?;
        Ok(self.probe(high)?.head.map(|_| high))
    }

    /// The last segment from `first` on and before `number` in which a transaction ended.
    fn previous_ended(&self, first: u64, before: u64) -> Result<Option<(u64, Summary)>> {
        let mut behind = before;
        while behind > first && self.is_known(behind - 1) && self.probe(behind - 1)?.head.is_none() {
            behind -= 1;
        }
        if behind <= first {
            return Ok(None);
        }
        let steps = (0..).map_while(|power| 8_u64.checked_pow(power)).map_while(|step| behind.checked_sub(step));
        let low = match self.seen(first, behind - 1, true) {
            Some(low) => low,
            // Where nothing ended any more, what was read before is where to start from.
            None => match self.first_ended_of(steps.take_while(|place| *place >= first))? {
                Some(low) => low,
                None if self.probe(first)?.head.is_some() => first,
                None => first.saturating_sub(1),
            },
        };
        let mut wanted = Wanted { beyond: &|_| -1, guess: &mut |_, high| Ok(high - 1), enough: &|_| false };
        let (low, _) = self.close(low, behind, &mut wanted)?;
        if low < first || self.probe(low)?.head.is_none() {
            return Ok(None);
        }
        Ok(self.summary(low)?.map(|summary| (low, summary)))
    }

    /// The first, or the last, of these segments that was looked into and in which a transaction ended.
    fn seen(&self, from: u64, to: u64, is_last: bool) -> Option<u64> {
        let probes = self.probes.borrow();
        let mut ended = probes.range(from..=to).filter(|(_, probe)| probe.head.is_some()).map(|(number, _)| *number);
        if is_last { ended.next_back() } else { ended.next() }
    }

    /// The first of these in which a transaction ended.
    fn first_ended_of(&self, mut places: impl Iterator<Item = u64>) -> Result<Option<u64>> {
        places.find_map(|place| self.probe(place).map(|probe| probe.head.map(|_| place)).transpose()).transpose()
    }

    /// The first of these in which a transaction ended, or that lists those that run.
    fn ended_or_listed(&self, places: impl Iterator<Item = u64>) -> Result<Option<u64>> {
        for place in places {
            if self.probe(place)?.head.is_some() || self.events(place)?.is_some_and(|events| events.has_list()) {
                return Ok(Some(place));
            }
        }
        Ok(None)
    }

    /// Whether the summary of a segment is there without reading it.
    fn is_known(&self, number: u64) -> bool {
        self.name_at(number).is_some_and(|name| self.index.known(name).is_some())
    }
}

/// Chooses where to look next, between two places of which one lies before what is looked for and one behind it:
/// interpolates, and keeps close enough to the middle never to need more steps than bisection and one (Oliveira and
/// Takahashi, An Enhancement of the Bisection Method Average Performance Preserving Minmax Optimality, 2020).
struct Itp {
    /// The distance in the beginning.
    width: f64,
    steps: i32,
    /// Steps that bisection would take, and one.
    most: i32,
}

impl Itp {
    fn new(low: u64, high: u64) -> Itp {
        let width = (high - low).max(1) as f64;
        Itp { width, steps: 0, most: width.log2().ceil() as i32 + SLACK }
    }

    /// Strictly between `low` and `high`, which are at least two apart; the values there are at most 0 and more than 0.
    fn next(&mut self, low: u64, at_low: i64, high: u64, at_high: i64) -> u64 {
        let width = (high - low) as f64;
        let half = width / 2.0;
        let (at_low, at_high) = (at_low as f64, at_high as f64);
        let straight = width * -at_low / (at_high - at_low);
        let towards_middle = (half - straight).signum();
        let truncated = 0.0002 * width * width / self.width;
        let moved = if truncated <= (half - straight).abs() { straight + towards_middle * truncated } else { half };
        let radius = (0.5 * f64::from(self.most - self.steps).exp2() - half).max(0.0);
        let guess = if (moved - half).abs() <= radius { moved } else { half - towards_middle * radius };
        self.steps += 1;
        low + (guess.round() as u64).clamp(1, high - low - 1)
    }
}
