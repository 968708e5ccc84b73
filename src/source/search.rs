//! Finds out from which segment on WAL has to be read for a target, without reading what lies before it.
//!
//! Times and transaction ids go up along WAL, but not strictly: a transaction takes its time before it gets its place in
//! WAL, and may be long. A search that opens only few segments has to trust something:
//!
//! * A segment's first transactions that ended stand for it. The segments are narrowed down by them, guessing by how the
//!   times run between the two ends (the ITP method: it takes no more than some steps more than bisection, and mostly far
//!   fewer).
//! * WAL in which no transaction ends, as bulk operations write it, is passed over in ever longer steps, within what was
//!   narrowed down already. How many transactions ended between two segments is known by their ids, and so is about in
//!   how many segments they did. The records of a bulk operation have its own id, or there are others with newer ones:
//!   by these ids it is told which of the missing transactions ended before it and which behind it, and its edges are
//!   where they all fit. Where records have no ids, as those of `VACUUM`, its edges are found by bisection of what is
//!   left, and it takes more segments.
//! * None ended between two segments where hardly any id is missing, and the segments next to them were looked into. As
//!   long as ids are missing, more segments are looked into, at most some; where that does not find them, everything
//!   between is read.
//! * What is found is then read whole, and so are the segments before it in which transactions ended, until one lies at
//!   least a second before the target, at most two of them: a transaction that has an earlier place and a later time is
//!   not farther away.
//!
//! Where all segments were read before, the first one in which a transaction ended too late is known, and nothing has to
//! be trusted but that the files are the same as then. Whoever needs proof asks for all the summaries.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::ops::ControlFlow;

use crate::catalog::Catalog;
use crate::core::{SegmentName, TimelinePath, Timestamp, Xid};
use crate::error::Result;
use crate::wal::{Body, Decoder, Reached, Record, SegmentHeader, Summary};

use super::Cancel;
use super::index::Index;
use super::summarize::fill;

/// So many segments before the one that was found are read whole at most.
const NEIGHBOURS: usize = 2;
/// So many segments before the one that was found are looked into for the end of a transaction: others that were given
/// an id before it may end behind it.
const XID_NEIGHBOURS: u64 = 8;
/// A segment whose transactions all ended so long before the target has none before it that ended behind the target.
const SAFE_MICROS: i64 = 1_000_000;
/// So many transactions stand for a segment: long ones among them have old ids.
const FIRST_ENDED: usize = 8;
/// Between two transactions whose ids differ by no more others are not looked for: some may run at once.
const CLOSE_XIDS: u32 = 8;
/// So many segments are looked into where others have to be between two, and are not where they should be.
const EXPLORED: usize = 64;
/// Bytes read from the beginning of a segment at a time.
const BLOCK: u64 = 64 << 10;
/// So many steps more than bisection may be taken.
const SLACK: i32 = 8;
/// By so many times the width of what is known of a bulk operation it is looked for its edges.
const FAR: u64 = 15;

/// Segments along a path of timelines.
pub struct Search<'a> {
    index: &'a Index<'a>,
    path: &'a TimelinePath,
    cancel: &'a Cancel,
    /// What stands for the segments that were looked into; `None` where no transaction ended.
    heads: RefCell<BTreeMap<u64, Option<Head>>>,
    /// The newest id that records name in those in which no transaction ended.
    begun: RefCell<BTreeMap<u64, Xid>>,
    /// How often was looked for others between two that should be close.
    explored: Cell<usize>,
    /// In how many segments one id is given out, on average.
    segments_per_id: Cell<f64>,
}

/// What stands for a segment: the first transactions that ended in it.
#[derive(Debug, Clone, Copy)]
struct Head {
    at: Timestamp,
    /// The first and the last of their ids to be given out.
    xids: (Xid, Xid),
    /// About the id that was the next to be given out in the beginning. The commit of a bulk operation, which has an
    /// old id, is not taken for it.
    from: Xid,
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
            heads: RefCell::default(),
            begun: RefCell::default(),
            explored: Cell::new(0),
            segments_per_id: Cell::new(0.0),
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
        let low = self.narrow(first, last, &beyond, &is_later)?;
        let mut number = low;
        while number < last && !self.summary(number)?.is_some_and(|summary| is_later(&summary)) {
            match self.next_ended(number + 1, last)? {
                Some(next) => number = next,
                None => break,
            }
        }
        if self.explored.get() >= EXPLORED {
            number = self.read_between(low, number, &is_later)?;
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

    /// Where looking into some does not tell where others ended between two segments, all of them are read.
    fn read_between(&self, low: u64, number: u64, is_later: &dyn Fn(&Summary) -> bool) -> Result<u64> {
        let names: Vec<SegmentName> = (low..number).map_while(|number| self.name_at(number)).collect();
        let read = self.index.summaries(&names, self.cancel, &mut |_| {})?;
        let found = (low..).zip(read).find(|(_, read)| read.as_ref().is_ok_and(is_later));
        Ok(found.map_or(number, |(between, _)| between))
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

    /// The last segment whose head is known not to lie behind what is looked for, or `first`. It is not looked for
    /// what comes behind one that is `enough`.
    fn narrow(&self, first: u64, last: u64, beyond: Beyond<'_>, enough: Enough<'_>) -> Result<u64> {
        let outside = (first.saturating_sub(1), last.saturating_add(1));
        let Some((low, at_low)) = self.near(first, outside, beyond)? else { return Ok(first) };
        if at_low > 0 {
            return Ok(first);
        }
        let Some((high, at_high)) = self.near(last, (low, outside.1), beyond)? else { return Ok(low) };
        if at_high <= 0 {
            return Ok(high);
        }
        if let (Some(before), Some(behind)) = (self.head(low)?, self.head(high)?) {
            let ids = behind.from.0.wrapping_sub(before.from.0).max(1);
            self.segments_per_id.set((high - low) as f64 / f64::from(ids));
        }
        let mut steps = Itp::new(low, high);
        let mut guess = |low, high| {
            let at = |number| Ok(self.head(number)?.map_or(0, |head| beyond(&head)));
            Ok(steps.next(low, at(low)?, high, at(high)?))
        };
        Ok(self.close(low, high, beyond, &mut guess, enough)?.0)
    }

    /// Goes closer from both sides, on which transactions ended, until none ended between them as far as is known. Where
    /// nothing is known of what lies between, `guess` says where to look.
    fn close(
        &self,
        mut low: u64,
        mut high: u64,
        beyond: Beyond<'_>,
        guess: &mut dyn FnMut(u64, u64) -> Result<u64>,
        enough: Enough<'_>,
    ) -> Result<(u64, u64)> {
        let (mut is_closer, mut aim) = (true, low);
        while high - low > 1 {
            let empty = self.empty_between(low, high);
            if is_closer {
                aim = guess(low, high)?;
            }
            let outside =
                empty.first().is_none_or(|first| aim < *first) || empty.last().is_some_and(|last| *last < aim);
            let number = if is_closer && outside {
                aim
            } else {
                let Some(missing) = self.missing(low, high, enough)? else { break };
                let gaps = Gaps { low, high, empty: &empty, missing };
                let turn = self.explored.get();
                let by_ids = if missing > 0 { self.by_ids(&gaps, aim, turn)? } else { None };
                let Some(number) = by_ids.or_else(|| gaps.next(turn)) else { break };
                self.explored.set(turn + 1);
                number
            };
            let head = self.head(number)?;
            is_closer = head.is_some();
            match head {
                Some(head) if beyond(&head) > 0 => high = number,
                Some(_) => low = number,
                None => {}
            }
        }
        Ok((low, high))
    }

    /// Where to look next by the ids of what was running where no transaction ended: a bulk operation's records have its
    /// own id, or there are newer ones. `None` where they do not tell.
    fn by_ids(&self, gaps: &Gaps<'_>, aim: u64, turn: usize) -> Result<Option<u64>> {
        let (Some(summary), Some(head)) = (self.summary(gaps.low)?, self.head(gaps.high)?) else { return Ok(None) };
        let Some((_, newest)) = summary.xids else { return Ok(None) };
        let ended = (u64::from(summary.commits) + u64::from(summary.aborts)).max(1);
        let Some(places) = self.ids_along(gaps, newest, head.from) else { return Ok(None) };
        let pairs = places.iter().zip(places.iter().skip(1));
        let apart = pairs.filter(|((from, before), (to, behind))| to - from > 1 && are_apart(*before, *behind));
        let nearest = apart.min_by_key(|((from, _), (to, _))| from.saturating_sub(aim).max(aim.saturating_sub(*to)));
        let Some(((from, before), (to, behind))) = nearest else { return Ok(None) };
        let ids = u64::from(behind.0.wrapping_sub(before.0));
        // Where so many fit, shorter bulk operations lie among them; close to an edge there are none.
        let on_average = (ids as f64 * self.segments_per_id.get()) as u64;
        let missing = ids.div_ceil(ended);
        let gap = to - from;
        let missing = match on_average {
            _ if on_average < gap => on_average.max(missing),
            _ if gap > 16 && !turn.is_multiple_of(3) => missing.max(gap - gap / 8),
            _ => missing,
        };
        // How wide what is known of a bulk operation is beside it.
        let alike = |xid: Xid| {
            let mut alike = places.iter().filter(|(_, other)| *other == xid).map(|(number, _)| *number);
            let first = alike.next().unwrap_or_default();
            (alike.next_back().unwrap_or(first) - first + 1).saturating_mul(FAR)
        };
        let middle = from + (to - from) / 2;
        let by_ids = |number: u64| if turn % 4 == 3 || missing >= to - from { middle } else { number };
        let number = match (*from == gaps.low, *to == gaps.high) {
            (true, _) => by_ids(from.saturating_add(missing)).max(to.saturating_sub(alike(*behind))),
            (_, true) => by_ids(to.saturating_sub(missing)).min(from.saturating_add(alike(*before))),
            _ if alike(*before) < alike(*behind) => {
                by_ids(from.saturating_add(missing)).max(to.saturating_sub(alike(*behind)))
            }
            _ => by_ids(to.saturating_sub(missing)).min(from.saturating_add(alike(*before))),
        };
        Ok(Some(number.clamp(from + 1, to - 1)))
    }

    /// The segments that are known from one side to the other, with the newest id that was given out up to each.
    fn ids_along(&self, gaps: &Gaps<'_>, newest: Xid, next: Xid) -> Option<Vec<(u64, Xid)>> {
        let begun = self.begun.borrow();
        let mut places = vec![(gaps.low, newest)];
        let mut last = newest;
        for number in gaps.empty {
            last = newer(last, *begun.get(number)?);
            places.push((*number, last));
        }
        places.push((gaps.high, next));
        Some(places)
    }

    /// In about how many segments between two transactions ended that are not known, by the ids that are missing; 0
    /// where hardly any are. `None` where what lies between does not matter, or it was looked for often enough.
    fn missing(&self, low: u64, high: u64, enough: Enough<'_>) -> Result<Option<u64>> {
        let (Some(summary), Some(head)) = (self.summary(low)?, self.head(high)?) else { return Ok(None) };
        let Some((_, newest)) = summary.xids.filter(|_| !enough(&summary)) else { return Ok(None) };
        if self.explored.get() >= EXPLORED {
            return Ok(None);
        }
        if !are_apart(newest, head.from) {
            return Ok(Some(0));
        }
        let ended = u64::from(summary.commits) + u64::from(summary.aborts);
        Ok(Some(u64::from(head.from.0.wrapping_sub(newest.0)).div_ceil(ended.max(1)).max(1)))
    }

    /// The segments between two in which no transaction ended, as far as was looked.
    fn empty_between(&self, low: u64, high: u64) -> Vec<u64> {
        self.heads.borrow().range(low + 1..high).map(|(number, _)| *number).collect()
    }

    /// The segment closest to `number`, and inside of `bounds`, in which a transaction ended, as far as one is found in
    /// ever longer steps behind it and then before it; and how far beyond its head is.
    fn near(&self, number: u64, bounds: (u64, u64), beyond: Beyond<'_>) -> Result<Option<(u64, i64)>> {
        let distances = || std::iter::once(0).chain((0..32).map(|power| 1_u64 << (2 * power)));
        let behind = distances().map(|distance| number.saturating_add(distance)).take_while(|place| *place < bounds.1);
        let before = distances().skip(1).map_while(|distance| number.checked_sub(distance));
        for place in behind.chain(before.take_while(|place| *place > bounds.0)) {
            if let Some(head) = self.head(place)? {
                return Ok(Some((place, beyond(&head))));
            }
        }
        Ok(None)
    }

    /// What stands for a segment; `None` where no transaction ended in it, and where it cannot be read.
    fn head(&self, number: u64) -> Result<Option<Head>> {
        if let Some(known) = self.heads.borrow().get(&number) {
            return Ok(*known);
        }
        let head = match self.name_at(number) {
            Some(name) => self.read_head(number, name)?,
            None => None,
        };
        self.heads.borrow_mut().insert(number, head);
        Ok(head)
    }

    fn read_head(&self, number: u64, name: SegmentName) -> Result<Option<Head>> {
        if let Some(Ok(summary)) = self.index.known(name) {
            let begun = summary.open.iter().map(|(xid, _)| *xid).reduce(newer);
            self.begun.borrow_mut().extend(begun.map(|begun| (number, begun)));
            return Ok(head_in(&summary));
        }
        let size = self.catalog().segment_size;
        let Ok(Some(mut segment)) = self.index.source().open_segment(name, None) else { return Ok(None) };
        let mut decoder = Decoder::at_segment(name.number(size), size);
        let (mut block, mut left) = (Vec::new(), size.bytes());
        let (mut ended, mut begun) = (Vec::new(), None);
        while left > 0 {
            self.cancel.check()?;
            // A segment that cannot be read is as good as empty here: whoever reads on will say so.
            if fill(&mut block, segment.as_mut(), left.min(BLOCK), name).is_err() || block.is_empty() {
                break;
            }
            let is_first = left == size.bytes();
            if is_first && SegmentHeader::parse(&block).map(|header| header.pageaddr) != Ok(name.start(size)) {
                break;
            }
            left -= block.len() as u64;
            let reached = decoder.read(&block, &mut |record| {
                begun = begun_by(record).into_iter().chain(begun).reduce(newer);
                take_ended(record, &mut ended)
            });
            if reached != Reached::Hungry || !ended.is_empty() {
                break;
            }
        }
        self.begun.borrow_mut().extend(begun.map(|begun| (number, begun)));
        Ok(head_of(&ended))
    }

    fn summary(&self, number: u64) -> Result<Option<Summary>> {
        let Some(name) = self.name_at(number) else { return Ok(None) };
        let summary = self.index.summary(name, self.cancel)?.ok();
        self.heads.borrow_mut().entry(number).or_insert_with(|| summary.as_ref().and_then(head_in));
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

    /// The first segment from `from` to `last` in which a transaction ended, as far as can be trusted.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn next_ended(&self, from: u64, last: u64) -> Result<Option<u64>> {
        let mut number = from;
        // What is known costs nothing: there is no need to pass over it.
        while number <= last && self.head(number)?.is_none() && self.is_known(number) {
            number += 1;
        }
        if number > last {
            return Ok(None);
        }
        let from = number;
        let before = from.checked_sub(1).filter(|before| self.is_ended(*before));
        let known = self.heads.borrow().range(from..=last).find(|(_, head)| head.is_some()).map(|(number, _)| *number);
        let mut high = known;
        let steps = (0..).map_while(|power| 8_u64.checked_pow(power)).map(|step| from.saturating_add(step - 1));
        let mut places = steps.take_while(|place| *place < last).chain(std::iter::once(last));
        while high.is_none() {
            let Some(place) = places.next() else { return Ok(None) };
            high = self.head(place)?.map(|_| place);
        }
        let Some(high) = high else { return Ok(None) };
        if let Some(before) = before {
            return Ok(Some(self.close(before, high, &|_| 1, &mut |low, _| Ok(low + 1), &|_| false)?.1));
        }
        let (mut empty, mut number) = (from, high);
        while empty < number {
            let middle = empty + (number - empty) / 2;
            if self.head(middle)?.is_some() { number = middle } else { empty = middle + 1 }
        }
        Ok(Some(number))
    }

    /// The last segment from `first` on and before `number` in which a transaction ended, as far as can be trusted.
    fn previous_ended(&self, first: u64, before: u64) -> Result<Option<(u64, Summary)>> {
        let mut behind = before;
        while behind > first && self.is_known(behind - 1) && self.head(behind - 1)?.is_none() {
            behind -= 1;
        }
        if behind <= first {
            return Ok(None);
        }
        let known =
            self.heads.borrow().range(first..behind).rfind(|(_, head)| head.is_some()).map(|(number, _)| *number);
        let mut low = known;
        let steps = (0..).map_while(|power| 8_u64.checked_pow(power)).map_while(|step| behind.checked_sub(step));
        let mut places = steps.take_while(|place| *place > first).chain(std::iter::once(first));
        while low.is_none() {
            let Some(place) = places.next() else { return Ok(None) };
            low = self.head(place)?.map(|_| place);
        }
        let Some(low) = low else { return Ok(None) };
        let mut number = low;
        if self.is_ended(before) {
            number = self.close(low, before, &|_| -1, &mut |_, high| Ok(high - 1), &|_| false)?.0;
        } else {
            let mut empty = behind - 1;
            while empty > number {
                let middle = empty - (empty - number) / 2;
                if self.head(middle)?.is_some() { number = middle } else { empty = middle - 1 }
            }
        }
        Ok(self.summary(number)?.map(|summary| (number, summary)))
    }

    /// Whether a transaction ended in this segment, as far as it was looked into.
    fn is_ended(&self, number: u64) -> bool {
        self.heads.borrow().get(&number).is_some_and(Option::is_some)
    }

    /// Whether the summary of a segment is there without reading it.
    fn is_known(&self, number: u64) -> bool {
        self.name_at(number).is_some_and(|name| self.index.known(name).is_some())
    }
}

/// Two segments in which transactions ended, and what is known of those between them.
struct Gaps<'g> {
    low: u64,
    high: u64,
    /// In these none ended: at least one of them, in order.
    empty: &'g [u64],
    /// In about so many more they did.
    missing: u64,
}

impl Gaps<'_> {
    /// Where to look next, the `turn`th time; `None` where all was looked into.
    fn next(&self, turn: usize) -> Option<u64> {
        let (first, last) = (*self.empty.first()?, *self.empty.last()?);
        let (left, right) = (first - self.low - 1, self.high - last - 1);
        if self.missing == 0 {
            // What runs at once does not end in the order of the ids.
            return if left > 0 { Some(self.low + 1) } else { Some(self.high - 1).filter(|_| right > 0) };
        }
        let far = (last - first + 1).saturating_mul(FAR);
        if left > far {
            return Some(first - far);
        }
        if right > far {
            return Some(last + far);
        }
        let room = left + right;
        if room > 0 && (self.missing > room || turn % 4 == 3) && self.missing <= room * 2 + 2 {
            return Some(if left > right { self.low + left.div_ceil(2) } else { last + right.div_ceil(2) });
        }
        if self.missing > room {
            return self.within();
        }
        // So many of the missing ones lie on the left: the others are on the right.
        let (least, most) = (self.missing.saturating_sub(right), self.missing.min(left));
        Some(if most == 0 { self.high - self.missing } else { self.low + (least + most).div_ceil(2).max(1) })
    }

    /// Where to look between those in which none ended: as many as are missing have to fit there. Most likely it was
    /// stepped over from the wider ones into some few others.
    fn within(&self) -> Option<u64> {
        let fits = (self.missing * 3 / 4).max(1);
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for &number in self.empty {
            match runs.last_mut() {
                Some((_, end)) if number - *end - 1 < fits => *end = number,
                _ => runs.push((number, number)),
            }
        }
        if let [first, second, ..] = *runs
            && let [.., before_last, last] = *runs
        {
            let width = |run: (u64, u64)| run.1 - run.0 + 1;
            let distance = |run, gap: u64| (self.missing / 2).max(width(run)).min(gap.div_ceil(2)).max(1);
            return Some(if width(first) < width(last) {
                first.1 + distance(first, second.0 - first.1 - 1)
            } else {
                last.0 - distance(last, last.0 - before_last.1 - 1)
            });
        }
        let mut begin = self.low + 1;
        let rows = self.empty.iter().chain([&self.high]).filter_map(|end| {
            let row = (begin, *end);
            begin = end + 1;
            (row.0 < row.1).then_some(row)
        });
        rows.max_by_key(|(begin, end)| end - begin).map(|(begin, end)| begin + (end - begin) / 2)
    }
}

/// The newest id that was given out, as far as this record tells.
fn begun_by(record: &Record) -> Option<Xid> {
    match &record.body {
        Body::RunningTransactions(running) => Some(Xid(running.next_xid.0.wrapping_sub(1))),
        Body::Checkpoint(checkpoint) => Some(Xid((checkpoint.next_xid as u32).wrapping_sub(1))),
        _ => record.xid,
    }
}

fn newer(one: Xid, other: Xid) -> Xid {
    if one.precedes(other) { other } else { one }
}

/// Collects the first transactions that ended.
fn take_ended(record: &Record, ended: &mut Vec<(Timestamp, Xid)>) -> ControlFlow<()> {
    if let Body::Commit(outcome) | Body::Abort(outcome) = &record.body {
        ended.push((outcome.at, outcome.xid));
    }
    if ended.len() < FIRST_ENDED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn head_of(ended: &[(Timestamp, Xid)]) -> Option<Head> {
    let (at, some) = *ended.first()?;
    let mut xids: Vec<Xid> = ended.iter().map(|(_, xid)| *xid).collect();
    xids.sort_by_key(|xid| xid.0.wrapping_sub(some.0) as i32);
    let middle = xids.len() / 2;
    let from = Xid(xids.get(middle)?.0.wrapping_sub(middle as u32));
    Some(Head { at, xids: (*xids.first()?, *xids.last()?), from })
}

fn head_in(summary: &Summary) -> Option<Head> {
    let (at, _) = summary.first_and_last_time?;
    let xids = summary.xids?;
    Some(Head { at, xids, from: xids.0 })
}

/// Whether there may be others between two transactions.
fn are_apart(before: Xid, behind: Xid) -> bool {
    before.precedes(behind) && behind.0.wrapping_sub(before.0) > CLOSE_XIDS
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
