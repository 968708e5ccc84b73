//! Feeds a resolver with the WAL that matters to it, and leaves out what does not.
//!
//! First comes everything from the base backup's start until the data is consistent. From then on a segment is read only
//! where its summary says that it can hold the stop, or where it does not follow the one before it without a flaw. What
//! is left out has been read for its summary, now or earlier, down to the last checksum, and the resolver is told the
//! summary: the answer is the same as by reading everything. Behind the stop summaries are enough to count what is lost.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, VecDeque};
use std::ops::ControlFlow;

use crate::catalog::{Backup, Catalog, PointKind};
use crate::core::{Lsn, SegmentName, TargetKind, TimelinePath, Timestamp};
use crate::error::Result;
use crate::plan::retarget::Behind;
use crate::resolve::obstacles::OnTheWay;
use crate::resolve::{Place, Resolver};
use crate::source::scan::{EndCause, Scan, ScanEnd, Start};
use crate::source::search::Search;
use crate::source::summarize::Read;
use crate::source::{Cancel, Index, Source};
use crate::wal::summary::{MarkKind, Summary, Tail};
use crate::wal::{Body, Record};

/// So many segments are read ahead on all cores where every one of them has to be known.
const AHEAD: u64 = 64;

/// Behind the stop so many segments are looked at one by one to count what is lost, where little has to be read for it;
/// where there are more, they are added up from the overview.
const AT_HAND: u64 = 1 << 14;
/// That is: so many segments.
const READ_TO_COUNT: usize = 32;

/// What has to be believed about segments that are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: every segment on the way is read, or was.
    Nothing,
    /// That times and transaction ids go up along WAL, see [`crate::source::search`].
    Order,
}

/// WAL from a base backup on along a path.
pub(super) struct Find<'a> {
    pub(super) source: &'a dyn Source,
    pub(super) catalog: &'a Catalog,
    pub(super) index: &'a Index<'a>,
    pub(super) backup: &'a Backup,
    pub(super) path: &'a TimelinePath,
    pub(super) progress: &'a dyn Fn(u64),
    pub(super) cancel: &'a Cancel,
    /// Bytes of WAL that were read or were known.
    pub(super) done: Cell<u64>,
    /// The restore points on the way.
    pub(super) names: RefCell<Vec<String>>,
    /// What not every server can replay.
    pub(super) on_the_way: RefCell<OnTheWay>,
}

/// How far it came.
struct Way {
    /// The segment to look at next.
    next: u64,
    /// Where the last record before it starts, where that is known.
    last: Option<Lsn>,
    /// Whether the segment before it was left out.
    skipped: bool,
    /// Summaries that were read ahead, from `next` on.
    ahead: VecDeque<(SegmentName, Read)>,
    /// The transaction that is looked for ended before this, if it did.
    is_over: bool,
}

impl Find<'_> {
    /// Feeds the resolver until it has enough, or WAL ends.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn run(&self, resolver: &mut Resolver<'_>, start: Lsn, trust: Trust) -> Result<ScanEnd> {
        let mut counts = trust == Trust::Nothing;
        let end = self.go(resolver, start, trust, &mut counts)?;
        if counts {
            let behind = |name: &SegmentName| self.catalog.goes_on_behind(*name, self.path);
            let is_cut = end.cause.segment().is_some_and(behind);
            resolver.went_to_the_end(is_cut.then_some(end.at));
        }
        for first in resolver.wants_back() {
            self.read_alone(self.catalog.segment_size.number_of(first), &mut |record| resolver.look_back(record))?;
        }
        Ok(end)
    }

    /// The same, but for looking back. `counts` says whether everything behind the stop is looked at, to count it.
    fn go(&self, resolver: &mut Resolver<'_>, start: Lsn, trust: Trust, counts: &mut bool) -> Result<ScanEnd> {
        let mut way = match self.until_consistent(resolver, start)? {
            ControlFlow::Break(end) => {
                *counts = true;
                return Ok(end);
            }
            ControlFlow::Continue(way) => way,
        };
        let (mut may_jump, mut is_asked) = (trust == Trust::Order, false);
        // Who trusts mostly needs only few; where it becomes more, all cores are to help.
        let mut ahead = if trust == Trust::Nothing { AHEAD } else { 1 };
        loop {
            // Whether anybody can connect is told by few records, which are not to be missed.
            if may_jump && !resolver.has_stopped() && resolver.is_readable() {
                self.jump(resolver, &mut way)?;
                may_jump = false;
            }
            if !*counts && !is_asked && resolver.has_stopped() {
                (is_asked, *counts) = (true, self.is_at_hand(way.next));
            }
            if !*counts
                && resolver.has_stopped()
                && let ControlFlow::Break(end) = self.look_beyond(resolver, &mut way)?
            {
                return Ok(end);
            }
            if let ControlFlow::Break(end) = self.step(resolver, &mut way, ahead)? {
                // Nothing behind the stop was left out where it is in the last segment.
                *counts |= !is_asked;
                return Ok(end);
            }
            if trust == Trust::Order && way.is_over && !resolver.has_stopped() {
                self.go_to_end(resolver, &mut way)?;
            }
            ahead = (ahead * 2).min(AHEAD);
        }
    }

    /// Feeds the resolver from `start` on until the stop is found, or WAL ends; what lies behind is not counted.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn to_stop(&self, resolver: &mut Resolver<'_>, start: Lsn) -> Result<ScanEnd> {
        let mut way = match self.until_consistent(resolver, start)? {
            ControlFlow::Break(end) => return Ok(end),
            ControlFlow::Continue(way) => way,
        };
        while !resolver.has_stopped() {
            if let ControlFlow::Break(end) = self.step(resolver, &mut way, AHEAD)? {
                return Ok(end);
            }
        }
        Ok(ScanEnd { at: self.catalog.segment_size.start_of(way.next), cause: EndCause::Enough })
    }

    /// What replaying the records from `from` up to `until` did that stays done where the server goes back. `record` is
    /// where one starts, at or before `from`.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn lasting_until(&self, record: Lsn, from: Lsn, until: Lsn) -> Result<Behind> {
        let mut found = None;
        let end = self.scan(Start::Record(record), &mut |record| {
            if record.lsn >= until {
                return ControlFlow::Break(());
            }
            if record.lsn >= from {
                found = record.lasting().map(|what| Behind::Lasting(record.lsn, what.in_words()));
            }
            if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        let all = matches!(end.cause, EndCause::Enough) || end.at >= until;
        Ok(found.unwrap_or(if all { Behind::Nothing } else { Behind::Unread(end.at) }))
    }

    /// Reads from the backup's start on, to the end of the segment in which the data becomes consistent.
    fn until_consistent(&self, resolver: &mut Resolver<'_>, start: Lsn) -> Result<ControlFlow<ScanEnd, Way>> {
        let size = self.catalog.segment_size;
        let (mut border, mut last) = (None, None);
        let mut passed = false;
        let end = self.scan(Start::Record(start), &mut |record| {
            passed = border.is_some_and(|border| record.lsn >= border);
            if passed || (resolver.feed(record).is_break() && resolver.has_failed()) {
                return ControlFlow::Break(());
            }
            last = Some(record.lsn);
            if border.is_none() && (resolver.is_consistent() || resolver.has_stopped()) {
                border = Some(size.start_of(size.number_of(record.lsn) + 1));
            }
            ControlFlow::Continue(())
        })?;
        Ok(match border {
            Some(border) if passed => ControlFlow::Continue(Way {
                next: size.number_of(border),
                last,
                skipped: false,
                ahead: VecDeque::new(),
                is_over: false,
            }),
            _ => ControlFlow::Break(end),
        })
    }

    /// Goes on to the first segment that may matter, as far as can be trusted.
    fn jump(&self, resolver: &mut Resolver<'_>, way: &mut Way) -> Result<()> {
        let search = Search::new(self.index, self.path, self.cancel);
        let size = self.catalog.segment_size;
        let first = way.next;
        let Some(last) = search.last_in_a_row(first) else { return Ok(()) };
        let target = resolver.target();
        let number = match &target.kind {
            TargetKind::Time(time) => {
                let later = |at: Timestamp| at > *time || (!target.inclusive && at == *time);
                search.time(first, last, *time, &later)?
            }
            TargetKind::Xid(xid) => search.xid(first, last, *xid)?,
            TargetKind::Lsn(lsn) => size.number_of(*lsn).saturating_sub(1).clamp(first, last),
            TargetKind::Latest => last,
            // Only all the summaries tell where a name is.
            TargetKind::Name(_) | TargetKind::Immediate => return Ok(()),
        };
        self.go_to(&search, resolver, way, number)
    }

    /// Leaves out everything up to segment `number`, but for the last ones in which transactions ended or records start.
    fn go_to(&self, search: &Search<'_>, resolver: &mut Resolver<'_>, way: &mut Way, number: u64) -> Result<()> {
        if number <= way.next {
            return Ok(());
        }
        let size = self.catalog.segment_size;
        let last = search.last_with_records(way.next, number)?.and_then(|summary| summary.first);
        let forks = self.path.stretches().iter().map(|stretch| size.number_of(stretch.begin));
        let mut wanted: BTreeSet<u64> = forks.filter(|fork| (way.next..number).contains(fork)).collect();
        wanted.extend(last.map(|first| size.number_of(first)));
        wanted.extend(search.last_before(way.next, number)?.iter().map(|(number, _)| *number));
        for wanted in wanted {
            let summary = search.name_at(wanted).map(|name| self.index.summary(name, self.cancel)).transpose()?;
            match summary.and_then(Read::ok) {
                Some(summary) if !self.begins_timeline(wanted) => resolver.pass_over(&summary),
                _ => self.read_alone(wanted, &mut |record| {
                    let _ = resolver.feed(record);
                })?,
            }
        }
        (way.next, way.last, way.skipped) = (number, None, false);
        way.ahead.clear();
        Ok(())
    }

    /// Goes on to the last segment: what was looked for did not end before, and cannot come any more.
    fn go_to_end(&self, resolver: &mut Resolver<'_>, way: &mut Way) -> Result<()> {
        let search = Search::new(self.index, self.path, self.cancel);
        match search.last_in_a_row(way.next) {
            Some(last) => self.go_to(&search, resolver, way, last),
            None => Ok(()),
        }
    }

    /// Behind the stop: breaks where enough is known, or nothing more can be.
    fn look_beyond(&self, resolver: &mut Resolver<'_>, way: &mut Way) -> Result<ControlFlow<ScanEnd>> {
        let end = ScanEnd { at: self.catalog.segment_size.start_of(way.next), cause: EndCause::Enough };
        let next = if resolver.has_enough() { ControlFlow::Break(end) } else { self.go_to_next_ended(way)? };
        if next.is_break() {
            self.count_known(resolver, way.next)?;
        }
        Ok(next)
    }

    /// Whether all that lies from segment `from` on is known, but for few segments.
    fn is_at_hand(&self, from: u64) -> bool {
        let Some(last) = self.catalog.last_number(self.path).filter(|last| last.saturating_sub(from) < AT_HAND) else {
            return false;
        };
        let search = Search::new(self.index, self.path, self.cancel);
        let names: Vec<SegmentName> = (from..=last).map_while(|number| search.name_at(number)).collect();
        self.index.unknown(&names) <= READ_TO_COUNT
    }

    /// Counts what is lost from segment `from` on, where all of it was read before: nothing is read for it.
    fn count_known(&self, resolver: &mut Resolver<'_>, from: u64) -> Result<()> {
        let size = self.catalog.segment_size;
        let timeline = self.path.last();
        let forks = self.path.stretches().iter().skip(1).map(|stretch| size.number_of(stretch.begin));
        let Some(last) = self.catalog.last_number(self.path) else { return Ok(()) };
        if forks.into_iter().any(|fork| fork >= from) {
            return Ok(());
        }
        let known = self.index.remembered();
        let rows = known.segments.iter().filter(|row| row.timeline == timeline && row.number >= from);
        let is_whole = rows.clone().filter(|row| row.read).count() as u64 == (last + 1).saturating_sub(from)
            && !known.damaged.iter().any(|place| place.timeline == timeline && place.number >= from);
        if !is_whole {
            return Ok(());
        }
        let with_commits = rows.clone().filter(|row| row.commits > 0);
        let newest = with_commits.map(|row| SegmentName::new(timeline, row.number, size)).next_back();
        let newest = newest.map(|name| self.index.summary(name, self.cancel)).transpose()?.and_then(Read::ok);
        let is_named = |name: &Option<String>| match &resolver.target().kind {
            TargetKind::Name(wanted) => name.as_deref() == Some(wanted.as_str()),
            _ => false,
        };
        let marks = known.marks.iter().filter(|mark| {
            mark.kind == PointKind::RestorePoint
                && mark.timeline == timeline
                && size.number_of(mark.lsn) >= from
                && is_named(&mark.name)
        });
        let named: Vec<Place> = marks.map(|mark| Place { lsn: mark.lsn, xid: None, at: mark.at }).collect();
        let same_time = rows.clone().filter(|row| {
            row.earliest.zip(row.latest).is_some_and(|(earliest, latest)| resolver.stopped_between(earliest, latest))
        });
        for number in same_time.map(|row| row.number).collect::<Vec<_>>() {
            self.read_alone(number, &mut |record| resolver.look_back(record))?;
        }
        let commits = rows.map(|row| u64::from(row.commits)).sum();
        resolver.count(commits, newest.and_then(|summary| summary.last_commit), named);
        resolver.went_to_the_end(None);
        Ok(())
    }

    /// How many transactions committed whose records start behind `from` and before `to`.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn commits_between(&self, from: Lsn, to: Lsn) -> Result<u64> {
        let size = self.catalog.segment_size;
        let (first, last) = (size.number_of(from), size.number_of(to));
        let search = Search::new(self.index, self.path, self.cancel);
        let mut commits = 0;
        for number in first..=last {
            let is_whole = number != first && number != last && !self.begins_timeline(number);
            let name = search.name_at(number).filter(|_| is_whole);
            let summary = name.map(|name| self.index.summary(name, self.cancel)).transpose()?;
            match summary.and_then(Read::ok) {
                Some(summary) => commits += u64::from(summary.commits),
                None => self.read_alone(number, &mut |record| {
                    let is_between = record.lsn > from && record.lsn < to;
                    commits += u64::from(is_between && matches!(record.body, Body::Commit(_)));
                })?,
            }
        }
        Ok(commits)
    }

    /// Behind the stop only the next transactions that ended matter. Breaks where there are none.
    fn go_to_next_ended(&self, way: &mut Way) -> Result<ControlFlow<ScanEnd>> {
        let search = Search::new(self.index, self.path, self.cancel);
        let size = self.catalog.segment_size;
        let last = search.last_in_a_row(way.next);
        let next = last.map(|last| search.next_ended(way.next, last)).transpose()?.flatten();
        // What ended in it before the fork is not among what its summary tells.
        let fork = self.next_fork(way.next).filter(|fork| last.is_some_and(|last| *fork <= last));
        let Some(next) = next.into_iter().chain(fork).min() else {
            let end = ScanEnd { at: size.start_of(way.next), cause: EndCause::Enough };
            return Ok(ControlFlow::Break(end));
        };
        if next > way.next {
            (way.next, way.last, way.skipped) = (next, None, false);
            way.ahead.clear();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// Reads the next segment, or leaves it out.
    fn step(&self, resolver: &mut Resolver<'_>, way: &mut Way, ahead: u64) -> Result<ControlFlow<ScanEnd>> {
        self.cancel.check()?;
        let number = way.next;
        let summary = self.summary(way, ahead)?.and_then(Read::ok);
        let follows = |summary: &Summary| match (way.last, summary.before_first) {
            (Some(last), Some(before)) => last == before,
            _ => true,
        };
        let Some(summary) = summary.filter(follows) else {
            // WAL ends before it: reading the one before it again says how.
            let from = if way.skipped { number - 1 } else { number };
            let size = self.catalog.segment_size;
            let end = self.read_on(resolver, from, size.start_of(number)).map(ControlFlow::Break);
            return end;
        };
        let sound = summary.damaged_places == 0 && summary.tail == Tail::Full;
        if sound && !self.begins_timeline(number) && !resolver.may_matter(&summary) {
            resolver.pass_over(&summary);
            way.skipped = true;
            self.on_the_way.borrow_mut().segment(&summary);
            for mark in &summary.marks {
                if let MarkKind::RestorePoint(name) = &mark.kind {
                    self.names.borrow_mut().push(name.clone());
                }
            }
        } else {
            if let Some(end) = self.feed_one(resolver, number)? {
                return Ok(ControlFlow::Break(end));
            }
            way.skipped = false;
        }
        if let TargetKind::Xid(xid) = &resolver.target().kind {
            way.is_over |= summary.oldest_running.is_some_and(|oldest| xid.precedes(oldest));
        }
        way.last = summary.last.or(way.last);
        way.next += 1;
        Ok(ControlFlow::Continue(()))
    }

    /// The summary of the next segment; `None` where the archives do not have it.
    fn summary(&self, way: &mut Way, ahead: u64) -> Result<Option<Read>> {
        let search = Search::new(self.index, self.path, self.cancel);
        if way.ahead.is_empty() {
            let names: Vec<SegmentName> =
                (way.next..way.next.saturating_add(ahead)).map_while(|number| search.name_at(number)).collect();
            let done = self.done.get();
            let read = self.index.summaries(&names, self.cancel, &mut |bytes| (self.progress)(done + bytes))?;
            self.done.set(done + names.len() as u64 * self.catalog.segment_size.bytes());
            way.ahead = names.into_iter().zip(read).collect();
        }
        Ok(way.ahead.pop_front().map(|(_, read)| read))
    }

    /// Whether a timeline of the path begins in this segment: what lies before the fork is not in its summary.
    fn begins_timeline(&self, number: u64) -> bool {
        let begins = self.path.stretches().iter().skip(1).map(|stretch| stretch.begin);
        begins.into_iter().any(|begin| self.catalog.segment_size.number_of(begin) == number)
    }

    /// The first segment from this one on in which a timeline of the path begins.
    fn next_fork(&self, from: u64) -> Option<u64> {
        let begins = self.path.stretches().iter().skip(1);
        begins.map(|stretch| self.catalog.segment_size.number_of(stretch.begin)).filter(|number| *number >= from).min()
    }

    /// Feeds the records of one segment; gives the end, where it comes to one.
    fn feed_one(&self, resolver: &mut Resolver<'_>, number: u64) -> Result<Option<ScanEnd>> {
        let border = self.catalog.segment_size.start_of(number + 1);
        let mut passed = false;
        let end = self.scan(Start::Segment(number), &mut |record| {
            passed = record.lsn >= border;
            if passed || (resolver.feed(record).is_break() && resolver.has_failed()) {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })?;
        Ok((!passed).then_some(end))
    }

    /// Shows the records that start in one segment.
    fn read_alone(&self, number: u64, each: &mut dyn FnMut(&Record)) -> Result<()> {
        let border = self.catalog.segment_size.start_of(number + 1);
        self.scan(Start::Segment(number), &mut |record| {
            if record.lsn >= border {
                return ControlFlow::Break(());
            }
            each(record);
            ControlFlow::Continue(())
        })?;
        Ok(())
    }

    /// Feeds everything from segment `number` on, but for what starts before `border`: that is known.
    fn read_on(&self, resolver: &mut Resolver<'_>, number: u64, border: Lsn) -> Result<ScanEnd> {
        self.scan(Start::Segment(number), &mut |record| {
            if record.lsn >= border && resolver.feed(record).is_break() && resolver.has_failed() {
                return ControlFlow::Break(());
            }
            ControlFlow::Continue(())
        })
    }

    fn scan(&self, start: Start, each: &mut dyn FnMut(&Record) -> ControlFlow<()>) -> Result<ScanEnd> {
        let scan =
            Scan { source: self.source, catalog: self.catalog, backup: Some(self.backup), path: self.path, start };
        let (before, mut read) = (self.done.get(), 0);
        let end = scan.run(
            self.cancel,
            &mut |bytes| {
                read = bytes;
                (self.progress)(before + bytes);
            },
            &mut |record| {
                if let Body::RestorePoint { name, .. } = &record.body {
                    self.names.borrow_mut().push(name.clone());
                }
                self.on_the_way.borrow_mut().record(record);
                each(record)
            },
        )?;
        self.done.set(before + read);
        Ok(end)
    }
}
