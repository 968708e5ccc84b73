//! Feeds a resolver with the WAL that matters to it, and leaves out what does not.
//!
//! First comes everything from the base backup's start until the data is consistent. From then on a segment is read only
//! where its summary says that it can hold the stop, or where it does not follow the one before it without a flaw. What
//! is left out has been read for its summary, now or earlier, down to the last checksum: the answer is the same as by
//! reading everything. Before a segment is read, so are the last ones of those left out that say who committed last and
//! who ended at the same time.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::catalog::{Backup, Catalog};
use crate::core::{Lsn, SegmentName, TargetKind, TimelinePath, Timestamp};
use crate::error::Result;
use crate::resolve::Resolver;
use crate::resolve::obstacles::OnTheWay;
use crate::source::scan::{EndCause, Scan, ScanEnd, Start};
use crate::source::search::Search;
use crate::source::summarize::Read;
use crate::source::{Cancel, Index, Source};
use crate::wal::summary::{MarkKind, Summary, Tail};
use crate::wal::{Body, Record};

/// So many segments are read ahead on all cores where every one of them has to be known.
const AHEAD: u64 = 64;

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
    /// Where the last record starts, and where it ends, that was left out since something was read.
    passed: Option<(Lsn, Lsn)>,
    /// The last segments that were left out and say what has to be known of them.
    context: Context,
    /// Summaries that were read ahead, from `next` on.
    ahead: VecDeque<(SegmentName, Read)>,
    /// The transaction that is looked for ended before this, if it did.
    is_over: bool,
}

/// The last segments in which transactions ended: as many as it takes to know who committed last, and who ended at the
/// same time as the last one.
#[derive(Default)]
struct Context(VecDeque<(u64, u32, Timestamp, Timestamp)>);

impl Context {
    fn push(&mut self, number: u64, summary: &Summary) {
        let Some((earliest, latest)) = summary.times else { return };
        self.0.push_back((number, summary.commits, earliest, latest));
        while self.0.len() > 1 && Self::says_enough(self.0.iter().skip(1)) {
            self.0.pop_front();
        }
    }

    fn says_enough<'c>(segments: impl Iterator<Item = &'c (u64, u32, Timestamp, Timestamp)> + Clone) -> bool {
        let from = segments.clone().map(|(_, _, earliest, _)| earliest).min();
        let to = segments.clone().map(|(_, _, _, latest)| latest).max();
        from != to && segments.map(|(_, commits, _, _)| commits).sum::<u32>() > 0
    }

    fn take(&mut self) -> Vec<u64> {
        self.0.drain(..).map(|(number, ..)| number).collect()
    }
}

impl Find<'_> {
    /// Feeds the resolver until it has enough, or WAL ends.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn run(&self, resolver: &mut Resolver<'_>, start: Lsn, trust: Trust) -> Result<ScanEnd> {
        let mut way = match self.until_consistent(resolver, start)? {
            ControlFlow::Break(end) => return Ok(end),
            ControlFlow::Continue(way) => way,
        };
        if trust == Trust::Order && !resolver.has_stopped() {
            self.jump(resolver, &mut way)?;
        }
        // Who trusts mostly needs only few; where it becomes more, all cores are to help.
        let mut ahead = if trust == Trust::Nothing { AHEAD } else { 1 };
        loop {
            if trust == Trust::Order
                && resolver.has_stopped()
                && let ControlFlow::Break(end) = self.go_to_next_ended(&mut way)?
            {
                return Ok(end);
            }
            if let ControlFlow::Break(end) = self.step(resolver, &mut way, ahead)? {
                return Ok(end);
            }
            if trust == Trust::Order && way.is_over {
                self.go_to_end(&mut way)?;
            }
            ahead = (ahead * 2).min(AHEAD);
        }
    }

    /// Reads from the backup's start on, to the end of the segment in which the data becomes consistent.
    fn until_consistent(&self, resolver: &mut Resolver<'_>, start: Lsn) -> Result<ControlFlow<ScanEnd, Way>> {
        let size = self.catalog.segment_size;
        let (mut border, mut last) = (None, None);
        let mut passed = false;
        let end = self.scan(Start::Record(start), &mut |record| {
            passed = border.is_some_and(|border| record.lsn >= border);
            if passed || resolver.feed(record).is_break() {
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
                passed: None,
                context: Context::default(),
                ahead: VecDeque::new(),
                is_over: false,
            }),
            _ => ControlFlow::Break(end),
        })
    }

    /// Goes on to the first segment that may matter, as far as can be trusted.
    fn jump(&self, resolver: &Resolver<'_>, way: &mut Way) -> Result<()> {
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
        self.go_to(&search, way, number)
    }

    /// Leaves out everything up to segment `number`.
    fn go_to(&self, search: &Search<'_>, way: &mut Way, number: u64) -> Result<()> {
        if number > way.next {
            for (number, summary) in search.last_before(way.next, number)? {
                way.context.push(number, &summary);
            }
            way.passed = search.last_with_records(way.next, number)?.as_ref().and_then(last_record).or(way.passed);
            (way.next, way.last, way.skipped) = (number, None, false);
            way.ahead.clear();
        }
        Ok(())
    }

    /// Goes on to the last segment: what was looked for did not end before, and cannot come any more.
    fn go_to_end(&self, way: &mut Way) -> Result<()> {
        let search = Search::new(self.index, self.path, self.cancel);
        match search.last_in_a_row(way.next) {
            Some(last) => self.go_to(&search, way, last),
            None => Ok(()),
        }
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
            return self.read_on(resolver, way, from).map(ControlFlow::Break);
        };
        let sound = summary.damaged_places == 0 && summary.tail == Tail::Full;
        if sound && !self.begins_timeline(number) && !resolver.may_matter(&summary) {
            way.context.push(number, &summary);
            way.passed = last_record(&summary).or(way.passed);
            way.skipped = true;
            self.on_the_way.borrow_mut().segment(&summary);
            for mark in &summary.marks {
                if let MarkKind::RestorePoint(name) = &mark.kind {
                    self.names.borrow_mut().push(name.clone());
                }
            }
        } else {
            if let Some(end) = self.read_one(resolver, way, number)? {
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
    fn read_one(&self, resolver: &mut Resolver<'_>, way: &mut Way, number: u64) -> Result<Option<ScanEnd>> {
        self.catch_up(resolver, way, number)?;
        self.feed_one(resolver, number)
    }

    /// Feeds what has to be known of the segments that were left out before segment `number`.
    fn catch_up(&self, resolver: &mut Resolver<'_>, way: &mut Way, number: u64) -> Result<()> {
        for before in way.context.take().into_iter().filter(|before| *before != number) {
            self.feed_one(resolver, before)?;
        }
        if let Some((last, end)) = way.passed.take() {
            resolver.pass(last, end);
        }
        Ok(())
    }

    fn feed_one(&self, resolver: &mut Resolver<'_>, number: u64) -> Result<Option<ScanEnd>> {
        let border = self.catalog.segment_size.start_of(number + 1);
        let mut passed = false;
        let end = self.scan(Start::Segment(number), &mut |record| {
            passed = record.lsn >= border;
            if passed { ControlFlow::Break(()) } else { resolver.feed(record) }
        })?;
        Ok((!passed).then_some(end))
    }

    /// Feeds everything from segment `number` on.
    fn read_on(&self, resolver: &mut Resolver<'_>, way: &mut Way, number: u64) -> Result<ScanEnd> {
        self.catch_up(resolver, way, number)?;
        self.scan(Start::Segment(number), &mut |record| resolver.feed(record))
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

/// Where the last record of a segment starts, and where it ends.
fn last_record(summary: &Summary) -> Option<(Lsn, Lsn)> {
    Some((summary.last?, summary.end))
}
