//! Closes the gap between two segments: looks into some between them until no transaction ended between the two.
//!
//! Where to look is guessed, from times and ids: a wrong guess costs a segment, and nothing else. Whether nothing is left
//! to look for is proven, see [`super::proof`]; and what cannot be proven is read.

use std::rc::Rc;

use crate::core::{SegmentName, Xid};
use crate::error::Result;
use crate::wal::Summary;
use crate::wal::summary::Tail;

use super::probe::{Head, Probe};
use super::proof::{Events, Verdict, verdict};
use super::search::Search;
use super::summarize::{Show, summarize};

/// What is looked for between two segments.
pub(super) struct Wanted<'w> {
    /// How far behind it lies what ended: positive where it lies behind.
    pub(super) beyond: &'w dyn Fn(&Head) -> i64,
    /// Where to look first, between these two.
    pub(super) guess: &'w mut dyn FnMut(u64, u64) -> Result<u64>,
    /// Whether it is in this segment, so that what lies behind does not matter.
    pub(super) enough: &'w dyn Fn(&Summary) -> bool,
}

/// A segment of which it is known which id was the next to be given out there.
#[derive(Debug, Clone, Copy)]
struct Point {
    number: u64,
    next: Xid,
    /// So many transactions ended in it, where any did.
    ends: Option<f64>,
}

/// Ids that were given out between two segments, with some between them that were not looked into.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    from: Point,
    to: Point,
    ids: u32,
}

impl Search<'_> {
    /// Goes closer from both sides until no transaction ended between the two segments that it gives.
    ///
    /// # Errors
    /// When it was cancelled.
    pub(super) fn close(&self, mut low: u64, mut high: u64, wanted: &mut Wanted<'_>) -> Result<(u64, u64)> {
        let (mut is_closer, mut aim) = (true, low);
        let most = 2 * (high - low).ilog2() + 8;
        let mut explored = 0;
        while high - low > 1 && !self.closed.borrow().contains(&(low, high)) {
            let empty = self.empty_between(low, high);
            if is_closer {
                if !empty.is_empty() && self.summary(low)?.is_some_and(|summary| (wanted.enough)(&summary)) {
                    break;
                }
                aim = (wanted.guess)(low, high)?;
            }
            let outside = |place| empty.first().is_none_or(|first| place < *first) || empty.last() < Some(&place);
            let place = if is_closer && outside(aim) { Some(aim) } else { self.by_ids(low, high, &empty, aim)? };
            let place = match place.or_else(|| self.one_of_few(low, high, &empty)) {
                Some(place) => place,
                None => match self.verdict(low, high, &empty)? {
                    Verdict::Empty => {
                        self.closed.borrow_mut().insert((low, high));
                        break;
                    }
                    Verdict::Missing(oldest, newest) if explored < most => {
                        explored += 1;
                        let missing = if explored % 2 == 0 { newest } else { oldest };
                        self.ended_behind(missing, low, high, &empty)?
                    }
                    Verdict::Missing(..) | Verdict::Unknown => return self.read_between(low, high, wanted),
                },
            };
            let head = self.probe(place)?.head;
            is_closer = head.is_some();
            match head {
                Some(head) if (wanted.beyond)(&head) > 0 => high = place,
                Some(_) => low = place,
                None => {}
            }
        }
        Ok((low, high))
    }

    /// The segments between two in which no transaction ended, as far as was looked.
    fn empty_between(&self, low: u64, high: u64) -> Vec<u64> {
        self.probes.borrow().range(low + 1..high).map(|(number, _)| *number).collect()
    }

    /// A segment between two of which hardly any were not looked into: that takes no longer than to prove anything.
    fn one_of_few(&self, low: u64, high: u64, empty: &[u64]) -> Option<u64> {
        let unknown = high - low - 1 - empty.len() as u64;
        if unknown <= 2 { unknown_near(low + 1, low, high, empty) } else { None }
    }

    /// Reads everything between two segments, on all cores.
    fn read_between(&self, mut low: u64, mut high: u64, wanted: &Wanted<'_>) -> Result<(u64, u64)> {
        let unknown = (low + 1..high).filter(|number| !self.probes.borrow().contains_key(number));
        let named: Vec<(u64, SegmentName)> =
            unknown.filter_map(|number| Some((number, self.name_at(number)?))).collect();
        let names: Vec<SegmentName> = named.iter().map(|(_, name)| *name).collect();
        let read = self.index.summaries(&names, self.cancel, &mut |_| {})?;
        let probes = read.iter().map(|read| read.as_ref().map(Probe::of).unwrap_or_default());
        self.probes.borrow_mut().extend(named.iter().map(|(number, _)| *number).zip(probes));
        for number in low + 1..high {
            match self.probe(number)?.head {
                Some(head) if (wanted.beyond)(&head) > 0 => {
                    high = number;
                    break;
                }
                Some(_) => low = number,
                None => {}
            }
        }
        self.closed.borrow_mut().insert((low, high));
        Ok((low, high))
    }

    /// Where to look next by the ids that were given out from one place to the next: the records of a bulk operation
    /// have its own id, or there are lists of those that run. `None` where they do not say that anybody is missing.
    fn by_ids(&self, low: u64, high: u64, empty: &[u64], aim: u64) -> Result<Option<u64>> {
        let points = self.points(low, high, empty)?;
        self.take_average(&points);
        let pairs = points.iter().zip(points.iter().skip(1));
        let stretches = pairs.filter_map(|(from, to)| {
            let ids = to.next.0.wrapping_sub(from.next.0);
            let missing = ids > 1 && from.next.precedes(to.next);
            unknown_near(from.number + 1, from.number, to.number, empty)?;
            missing.then_some(Stretch { from: *from, to: *to, ids })
        });
        let distance =
            |stretch: &Stretch| stretch.from.number.saturating_sub(aim).max(aim.saturating_sub(stretch.to.number));
        let Some(stretch) = stretches.min_by_key(distance) else { return Ok(None) };
        let place = self.within(&stretch, &points, empty, aim);
        Ok(unknown_near(place, stretch.from.number, stretch.to.number, empty))
    }

    /// The segments from one to the other of which it is known which ids had been given out, in order.
    fn points(&self, low: u64, high: u64, empty: &[u64]) -> Result<Vec<Point>> {
        let mut points = Vec::with_capacity(empty.len() + 2);
        let first = self.probe(low)?;
        points.extend(first.next.map(|next| Point { number: low, next, ends: first.head.map(|head| head.ends) }));
        for number in empty {
            let next = self.probe(*number)?.next;
            // What is known is that these ids at least had been given out.
            let before = points.last().map(|point: &Point| point.next);
            let next = next.map(|next| before.filter(|before| next.precedes(*before)).unwrap_or(next));
            points.extend(next.map(|next| Point { number: *number, next, ends: None }));
        }
        let last = self.probe(high)?;
        let next = last.head.map(|head| head.from).or(last.next);
        points.extend(next.map(|next| Point { number: high, next, ends: last.head.map(|head| head.ends) }));
        Ok(points)
    }

    /// In how many segments an id is given out, on average, outside of what is known to be empty. What is not known yet
    /// makes it too many: the least that was found is the best.
    fn take_average(&self, points: &[Point]) {
        let pairs = points.iter().zip(points.iter().skip(1));
        let given = pairs.filter(|(from, to)| from.next.precedes(to.next));
        let (segments, ids) = given.fold((0, 0_u64), |(segments, ids), (from, to)| {
            (segments + (to.number - from.number), ids + u64::from(to.next.0.wrapping_sub(from.next.0)))
        });
        if ids > 0 {
            self.segments_per_id.set(self.segments_per_id.get().min(segments as f64 / ids as f64));
        }
    }

    /// Where within a stretch to look for the edge of what is empty at its near end. Were there only such segments as
    /// the fullest, the ids would reach so far from its far end, and no less; were it as on average, they would reach
    /// farther.
    fn within(&self, stretch: &Stretch, points: &[Point], empty: &[u64], aim: u64) -> u64 {
        let Stretch { from, to, ids } = stretch;
        let (begin, end) = (from.number, to.number);
        let is_before = match (from.ends, to.ends) {
            (Some(_), None) => true,
            (None, Some(_)) => false,
            _ if aim >= end => true,
            _ if aim <= begin => false,
            _ => return edge(begin, end, empty, aim),
        };
        // A bulk operation has an id of its own, which is given out before it.
        let ids = f64::from(ids - u32::from(is_before));
        let fullest = points.iter().filter_map(|point| point.ends).fold(1.0, f64::max);
        let alike = |next: Xid| points.iter().filter(move |point| point.ends.is_none() && point.next == next);
        let near: Vec<u64> = alike(if is_before { to.next } else { from.next }).map(|point| point.number).collect();
        let known = match near.as_slice() {
            [first, second, ..] if is_before => second - first,
            [.., before_last, last] => last - before_last,
            _ => 1,
        };
        let distance = Reach {
            width: end - begin,
            least: (ids / fullest).ceil() as u64,
            average: (ids * self.segments_per_id.get()) as u64,
            known,
            is_inside: alike(if is_before { from.next } else { to.next }).nth(1).is_some(),
        };
        let distance = distance.distance();
        if is_before { begin + distance } else { end - distance }
    }

    /// Where to look next for a transaction that is known to have ended between two segments: behind the place where it
    /// was given its id.
    fn ended_behind(&self, xid: Xid, low: u64, high: u64, empty: &[u64]) -> Result<u64> {
        let points = self.points(low, high, empty)?;
        let pairs = points.iter().zip(points.iter().skip(1));
        let behind = pairs.filter(|(_, to)| to.number == high || xid.precedes(to.next));
        let rows = behind.flat_map(|(from, to)| rows(from.number, to.number, empty).into_iter().next());
        let row = rows.into_iter().next().or_else(|| rows_all(low, high, empty));
        Ok(row.map_or(low + 1, |(begin, end)| begin + (end - begin) / 2))
    }

    /// Whether any transaction ended between two segments.
    fn verdict(&self, low: u64, high: u64, empty: &[u64]) -> Result<Verdict> {
        let gap = high - low - 1;
        if empty.len() as u64 == gap {
            return Ok(Verdict::Empty);
        }
        // To read more than that would take longer than to read what lies between.
        let before = (0..gap).map_while(|more| low.checked_sub(more));
        let Some(before) = self.events_until_list(before)? else { return Ok(Verdict::Unknown) };
        let Some(behind) = self.events_until_list(high..high.saturating_add(gap))? else { return Ok(Verdict::Unknown) };
        let before: Vec<&Events> = before.iter().map(Rc::as_ref).collect();
        let behind: Vec<&Events> = behind.iter().map(Rc::as_ref).collect();
        Ok(verdict(&before, &behind))
    }

    /// What these segments say, up to the first that lists who runs; `None` where none does.
    fn events_until_list(&self, numbers: impl Iterator<Item = u64>) -> Result<Option<Vec<Rc<Events>>>> {
        let mut all = Vec::new();
        for number in numbers {
            let Some(events) = self.events(number)? else { return Ok(None) };
            let has_list = events.has_list();
            all.push(events);
            if has_list {
                return Ok(Some(all));
            }
        }
        Ok(None)
    }

    /// What a segment says; `None` where it cannot be read whole.
    pub(super) fn events(&self, number: u64) -> Result<Option<Rc<Events>>> {
        if let Some(known) = self.events.borrow().get(&number) {
            return Ok(known.clone());
        }
        let Some(name) = self.name_at(number) else { return Ok(None) };
        let (source, catalog) = (self.index.source(), self.index.catalog());
        let mut events = Events::default();
        let read =
            summarize(source, catalog, name, u64::MAX, self.cancel, Show::Records(&mut |record| events.take(record)))?
                .read;
        let is_whole = read.is_ok_and(|summary| summary.damaged_places == 0 && summary.tail == Tail::Full);
        let events = is_whole.then(|| Rc::new(events));
        self.events.borrow_mut().insert(number, events.clone());
        Ok(events)
    }
}

/// What tells how far away from the far end of a stretch the edge is of what is empty at its near end.
struct Reach {
    /// The far end's distance from the near end.
    width: u64,
    /// It is not closer to the far end than this, as far as the ids tell.
    least: u64,
    /// It is so far away where the ids are as dense as on average.
    average: u64,
    /// At the near end the last step within what is empty was as long as this.
    known: u64,
    /// The far end lies in another bulk operation, of which it is known that it has some length.
    is_inside: bool,
}

impl Reach {
    /// Each step away from the near end is at least so many times as long as the last one.
    const LONGER: u64 = 2;
    /// An average is not exact to more than such a part.
    const INEXACT: u64 = 64;

    /// Where to look: at the average, but in ever longer steps, so that there are not many.
    fn distance(&self) -> u64 {
        let (least, most) = (self.least.max(1), self.width.max(2) - 1);
        let distance = match least {
            // The ids are denser than they seemed to be.
            least if least > most => self.width / 2,
            least => {
                let step = self.known.saturating_mul(Self::LONGER).max(self.width / Self::INEXACT);
                let beside = self.width.saturating_sub(step).max(least.midpoint(most));
                let inside = if self.is_inside { self.width / 2 } else { 0 };
                self.average.min(beside).max(least).max(inside)
            }
        };
        distance.clamp(1, most)
    }
}

/// Where to look for an edge of what is known to be empty between two segments, where no ids tell: beside it, on the
/// side of `aim`, in ever longer steps but not farther than half of the way.
fn edge(from: u64, to: u64, empty: &[u64], aim: u64) -> u64 {
    let mut inside = empty.iter().copied().filter(|number| (from + 1..to).contains(number));
    let Some(first) = inside.next() else { return from + (to - from) / 2 };
    let last = inside.next_back().unwrap_or(first);
    let (left, right) = (first - from - 1, to - last - 1);
    let step = (last - first + 1).saturating_mul(2);
    if right == 0 || (left > 0 && aim < first.midpoint(last)) {
        first - step.min(left.div_ceil(2)).max(1)
    } else {
        last + step.min(right.div_ceil(2)).max(1)
    }
}

/// The rows of segments between two that were not looked into, as where they begin and what comes behind them.
fn rows(from: u64, to: u64, known: &[u64]) -> Vec<(u64, u64)> {
    let mut begin = from + 1;
    let inside = known.iter().copied().filter(|number| (from + 1..to).contains(number));
    let rows = inside.chain(std::iter::once(to)).filter_map(|number| {
        let row = (begin, number);
        begin = number + 1;
        (row.0 < row.1).then_some(row)
    });
    rows.collect()
}

/// The widest of them.
fn rows_all(from: u64, to: u64, known: &[u64]) -> Option<(u64, u64)> {
    rows(from, to, known).into_iter().max_by_key(|(begin, end)| end - begin)
}

/// The segment closest to `place`, between two, that was not looked into.
fn unknown_near(place: u64, from: u64, to: u64, known: &[u64]) -> Option<u64> {
    let closest = |(begin, end): (u64, u64)| place.clamp(begin, end - 1);
    rows(from, to, known).into_iter().map(closest).min_by_key(|number| number.abs_diff(place))
}
