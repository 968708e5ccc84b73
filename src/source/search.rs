//! Finds out from which segment on WAL has to be read for a target, without reading what lies before it.
//!
//! Times and transaction ids go up along WAL, but not strictly: a transaction takes its time before it gets its place in
//! WAL, and may be long. A search that opens only few segments has to trust something:
//!
//! * A segment's first transactions that ended stand for it. The segments are narrowed down by them, guessing by how the
//!   times run between the two ends (the ITP method: it takes no more steps than bisection, and mostly far fewer).
//! * WAL in which no transaction ends, as bulk operations write it, is passed over in ever longer steps. Its edges are
//!   found by bisection, and believed where the ids on both sides are close: else there were others between them, which
//!   are looked for; and where that does not find them, everything between is read.
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
use super::summarize::next_block;

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

/// Segments along a path of timelines.
pub struct Search<'a> {
    index: &'a Index<'a>,
    path: &'a TimelinePath,
    cancel: &'a Cancel,
    /// What stands for the segments that were looked into; `None` where no transaction ended.
    heads: RefCell<BTreeMap<u64, Option<Head>>>,
    /// How often was looked for others between two that should be close.
    explored: Cell<usize>,
}

/// What stands for a segment: the first transactions that ended in it.
#[derive(Debug, Clone, Copy)]
struct Head {
    at: Timestamp,
    /// The first and the last of their ids to be given out.
    xids: (Xid, Xid),
}

/// How far behind what is looked for something lies: positive where it lies behind.
type Beyond<'f> = &'f dyn Fn(&Head) -> i64;

impl<'a> Search<'a> {
    /// Over the segments of `index` along `path`.
    #[must_use]
    pub fn new(index: &'a Index<'a>, path: &'a TimelinePath, cancel: &'a Cancel) -> Search<'a> {
        Search { index, path, cancel, heads: RefCell::default(), explored: Cell::new(0) }
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
        let low = self.narrow(first, last, &beyond)?;
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
        let number = self.narrow(first, last, &beyond)?;
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

    /// The last segment whose head is known not to lie behind what is looked for, or `first`.
    fn narrow(&self, first: u64, last: u64, beyond: Beyond<'_>) -> Result<u64> {
        let outside = (first.saturating_sub(1), last.saturating_add(1));
        let Some((mut low, mut at_low)) = self.near(first, outside, beyond)? else { return Ok(first) };
        if at_low > 0 {
            return Ok(first);
        }
        let Some((mut high, mut at_high)) = self.near(last, (low, outside.1), beyond)? else { return Ok(low) };
        if at_high <= 0 {
            return Ok(high);
        }
        let mut steps = Itp::new(low, high);
        let mut distance = 1;
        while high - low > 1 {
            // Between the two, nothing is known but segments in which no transaction ended.
            let number = match self.empty_between(low, high) {
                None => steps.next(low, at_low, high, at_high),
                Some((first, _)) if first - low - 1 > distance => first - distance,
                Some((first, _)) if first - low > 1 => low + (first - low) / 2,
                Some((_, last)) if high - last > 1 => last + (high - last) / 2,
                Some(_) => match self.others_between(low, high, self.next_where())? {
                    Some(number) => number,
                    None => break,
                },
            };
            let is_first = self.empty_between(low, high).is_none();
            let found = match self.head(number)? {
                Some(head) => Some((number, beyond(&head))),
                None if is_first => self.near(number, (number, high), beyond)?,
                None => None,
            };
            distance = if found.is_some() { 1 } else { distance.saturating_mul(4) };
            match found {
                Some((number, at)) if at > 0 => (high, at_high) = (number, at),
                Some((number, at)) => (low, at_low) = (number, at),
                None => {}
            }
        }
        Ok(low)
    }

    /// What was overlooked may be close to either side, or far from both.
    fn next_where(&self) -> Where {
        match self.explored.get() % 4 {
            0 | 2 => Where::Widest,
            1 => Where::Last,
            _ => Where::First,
        }
    }

    /// Where to look for transactions that ended between two segments, where by their ids there are some.
    fn others_between(&self, low: u64, high: u64, place: Where) -> Result<Option<u64>> {
        if self.explored.get() >= EXPLORED {
            return Ok(None);
        }
        self.explored.set(self.explored.get() + 1);
        let newest = self.summary(low)?.and_then(|summary| summary.xids).map(|(_, newest)| newest);
        let oldest = self.head(high)?.map(|head| head.xids.0);
        let apart = newest.zip(oldest).is_some_and(|(newest, oldest)| are_apart(newest, oldest));
        Ok(self.unknown_between(low + 1, high, place).filter(|_| apart))
    }

    /// The first and the last segment between two in which no transaction ended, as far as was looked.
    fn empty_between(&self, low: u64, high: u64) -> Option<(u64, u64)> {
        let heads = self.heads.borrow();
        let mut between = heads.range(low + 1..high).map(|(number, _)| *number);
        let first = between.next()?;
        Some((first, between.next_back().unwrap_or(first)))
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
            Some(name) => self.read_head(name)?,
            None => None,
        };
        self.heads.borrow_mut().insert(number, head);
        Ok(head)
    }

    fn read_head(&self, name: SegmentName) -> Result<Option<Head>> {
        if let Some(Ok(summary)) = self.index.known(name) {
            return Ok(head_in(&summary));
        }
        let size = self.catalog().segment_size;
        let Ok(Some(mut segment)) = self.index.source().open_blocks(name) else { return Ok(None) };
        let mut decoder = Decoder::at_segment(name.number(size), size);
        let mut left = size.bytes();
        let mut ended = Vec::new();
        while left > 0 {
            self.cancel.check()?;
            // A segment that cannot be read is as good as empty here: whoever reads on will say so.
            let Ok(block) = next_block(segment.as_mut(), left, name) else { break };
            if block.is_empty() {
                break;
            }
            let is_first = left == size.bytes();
            if is_first && SegmentHeader::parse(block).map(|header| header.pageaddr) != Ok(name.start(size)) {
                break;
            }
            left -= block.len() as u64;
            let reached = decoder.read(block, &mut |record| take_ended(record, &mut ended));
            if reached != Reached::Hungry || !ended.is_empty() {
                break;
            }
        }
        Ok(head_of(&ended))
    }

    fn summary(&self, number: u64) -> Result<Option<Summary>> {
        let Some(name) = self.name_at(number) else { return Ok(None) };
        let summary = self.index.summary(name, self.cancel)?.ok();
        self.heads.borrow_mut().insert(number, summary.as_ref().and_then(head_in));
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
        let edge = if self.is_known(from) { None } else { self.edge_behind(from, last) };
        let (mut empty, mut step, mut number) = edge.unwrap_or((from, 1, from));
        while self.head(number)?.is_none() {
            if number >= last {
                return Ok(None);
            }
            // What is known costs nothing: there is no need to pass over it.
            let next = if self.is_known(number + 1) { 1 } else { step };
            (empty, number, step) = (number + 1, (number + next).min(last), next * 2);
        }
        while empty < number {
            let middle = empty + (number - empty) / 2;
            if self.head(middle)?.is_some() { number = middle } else { empty = middle + 1 }
        }
        let before = from.checked_sub(1).filter(|before| self.heads.borrow().get(before).is_some_and(Option::is_some));
        loop {
            let unknown = before.map(|before| self.others_between(before, number, Where::Last)).transpose()?;
            let Some(middle) = unknown.flatten() else { break };
            if self.head(middle)?.is_some() {
                number = middle;
            }
        }
        Ok(Some(number))
    }

    /// The last segment from `first` on and before `number` in which a transaction ended, as far as can be trusted.
    fn previous_ended(&self, first: u64, before: u64) -> Result<Option<(u64, Summary)>> {
        let Some(mut number) = before.checked_sub(1).filter(|number| *number >= first) else { return Ok(None) };
        let (mut empty, mut step) = (number, 1);
        if let Some(edge) = if self.is_known(number) { None } else { self.edge_before(first, number) } {
            (empty, number) = (edge, edge);
        }
        while self.head(number)?.is_none() {
            if number <= first {
                return Ok(None);
            }
            let next = if self.is_known(number - 1) { 1 } else { step };
            (empty, number, step) = (number - 1, number.saturating_sub(next).max(first), next * 2);
        }
        while empty > number {
            let middle = empty - (empty - number) / 2;
            if self.head(middle)?.is_some() { number = middle } else { empty = middle - 1 }
        }
        let is_ended = self.heads.borrow().get(&before).is_some_and(Option::is_some);
        while let Some(middle) = if is_ended { self.others_between(number, before, Where::First)? } else { None } {
            if self.head(middle)?.is_some() {
                number = middle;
            }
        }
        Ok(self.summary(number)?.map(|summary| (number, summary)))
    }

    /// Whether the summary of a segment is there without reading it.
    fn is_known(&self, number: u64) -> bool {
        self.name_at(number).is_some_and(|name| self.index.known(name).is_some())
    }

    /// Where the first segment behind `from` is known in which a transaction ended, and the one before it is known to be
    /// none: that one, as what is to be looked at next.
    fn edge_behind(&self, from: u64, last: u64) -> Option<(u64, u64, u64)> {
        let heads = self.heads.borrow();
        let (ended, _) = heads.range(from..=last).find(|(_, head)| head.is_some())?;
        heads.get(&ended.checked_sub(1)?)?.is_none().then_some((*ended, 1, *ended))
    }

    /// The same before `to`.
    fn edge_before(&self, first: u64, to: u64) -> Option<u64> {
        let heads = self.heads.borrow();
        let (ended, _) = heads.range(first..=to).rfind(|(_, head)| head.is_some())?;
        heads.get(&(ended + 1))?.is_none().then_some(*ended)
    }

    /// The middle of a row of segments from `from` on and before `to` that were not looked into.
    fn unknown_between(&self, from: u64, to: u64, place: Where) -> Option<u64> {
        let heads = self.heads.borrow();
        let known = heads.range(from..to).map(|(number, _)| *number).chain(std::iter::once(to));
        let mut begin = from;
        let mut rows = known.filter_map(|number| {
            let row = (begin, number);
            begin = number + 1;
            (row.0 < row.1).then_some(row)
        });
        let (begin, end) = match place {
            Where::First => rows.next()?,
            Where::Last => rows.last()?,
            Where::Widest => rows.max_by_key(|(begin, end)| end - begin)?,
        };
        Some(begin + (end - begin) / 2)
    }
}

/// Which of several rows of segments.
#[derive(Debug, Clone, Copy)]
enum Where {
    First,
    Last,
    Widest,
}

/// Collects the first transactions that ended.
fn take_ended(record: &Record, ended: &mut Vec<Head>) -> ControlFlow<()> {
    if let Body::Commit(outcome) | Body::Abort(outcome) = &record.body {
        ended.push(Head { at: outcome.at, xids: (outcome.xid, outcome.xid) });
    }
    if ended.len() < FIRST_ENDED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
}

fn head_of(ended: &[Head]) -> Option<Head> {
    let first = ended.first()?;
    let xids = ended.iter().fold(first.xids, |(oldest, newest), head| {
        let (xid, _) = head.xids;
        (if xid.precedes(oldest) { xid } else { oldest }, if newest.precedes(xid) { xid } else { newest })
    });
    Some(Head { at: first.at, xids })
}

fn head_in(summary: &Summary) -> Option<Head> {
    let (at, _) = summary.first_and_last_time?;
    Some(Head { at, xids: summary.xids? })
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
        Itp { width, steps: 0, most: width.log2().ceil() as i32 + 1 }
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
