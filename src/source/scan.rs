//! Reads WAL along a path of timelines, segment after segment, as the server does in recovery.

use std::collections::HashMap;
use std::io::Read;
use std::ops::ControlFlow;

use crate::catalog::{Backup, Catalog, Point, PointKind};
use crate::core::{Lsn, SegmentName, TimelinePath, Xid};
use crate::error::{Error, Result};
use crate::wal::{Body, Decoder, EndReason, Outcome, Reached, Record, RowChange, Rows};

use super::local::SEGMENT_DAMAGED;
use super::{Cancel, Source};

/// Bytes read from a segment at a time.
const BLOCK: usize = 256 << 10;
/// Transactions whose changed rows are counted at once; beyond, the oldest counts are dropped.
const COUNTED_TRANSACTIONS: usize = 1 << 20;

/// Where reading starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// Exactly at a record, like the redo pointer of a base backup.
    Record(Lsn),
    /// At the first record that starts in the segment of this number.
    Segment(u64),
}

/// Where reading ended, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanEnd {
    /// Where the next record would have started.
    pub at: Lsn,
    /// Why there is none.
    pub cause: EndCause,
}

/// Why reading ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndCause {
    /// Nobody has this segment.
    NoSegment(SegmentName),
    /// The WAL in this segment ends.
    EndOfWal(SegmentName, EndReason),
    /// This segment's file cannot be unpacked, and why.
    Damaged(SegmentName, String),
    /// Whoever got the records had enough.
    Enough,
}

impl EndCause {
    /// The segment at which reading ended, where it was not because of enough.
    #[must_use]
    pub fn segment(&self) -> Option<&SegmentName> {
        match self {
            EndCause::NoSegment(name) | EndCause::EndOfWal(name, _) | EndCause::Damaged(name, _) => Some(name),
            EndCause::Enough => None,
        }
    }
}

/// A segment that was opened, or why there is none.
type Opened = std::result::Result<(SegmentName, Box<dyn Read + Send>), EndCause>;

/// A stretch of WAL to read.
pub struct Scan<'a> {
    /// Where segments come from.
    pub source: &'a dyn Source,
    /// Which segments there are, and their size.
    pub catalog: &'a Catalog,
    /// The backup whose own segments count too.
    pub backup: Option<&'a Backup>,
    /// Along which timelines.
    pub path: &'a TimelinePath,
    /// From where on.
    pub start: Start,
}

impl Scan<'_> {
    /// Hands every record to `each` until WAL ends or `each` has enough; tells `progress` how many bytes were read.
    ///
    /// # Errors
    /// When a segment cannot be read, or when it was cancelled.
    pub fn run(
        &self,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
        each: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Result<ScanEnd> {
        let size = self.catalog.segment_size;
        let (mut decoder, mut number) = match self.start {
            Start::Record(lsn) => (Decoder::at_record(lsn, size), size.number_of(lsn)),
            Start::Segment(number) => (Decoder::at_segment(number, size), number),
        };
        let mut bytes_read = 0;
        let mut block = vec![0; BLOCK];
        // The decoder wants the page that its record starts on, which need not be the segment's first.
        let mut skip = decoder.wants().bytes_since(size.start_of(number));
        loop {
            let (name, mut segment) = match self.open(number)? {
                Ok(opened) => opened,
                Err(cause) => return Ok(ScanEnd { at: decoder.finish().at, cause }),
            };
            let fork = self.path.end_of(name.timeline).flatten();
            let mut left = size.bytes() - self.skip(name, segment.as_mut(), std::mem::take(&mut skip))?;
            while left > 0 {
                cancel.check()?;
                let room = block.get_mut(..usize::try_from(left).unwrap_or(BLOCK).min(BLOCK)).unwrap_or_default();
                let block = read_block(segment.as_mut(), room).map_err(|error| unreadable_segment(name, &error))?;
                if block.is_empty() {
                    let end = decoder.finish();
                    return Ok(ScanEnd { at: end.at, cause: EndCause::EndOfWal(name, end.reason) });
                }
                left -= block.len() as u64;
                bytes_read += block.len() as u64;
                if let Some(end) = self.read_on(&mut decoder, block, name, fork, each) {
                    return Ok(end);
                }
                progress(bytes_read);
            }
            number += 1;
        }
    }

    /// The segment of this number, of the newest timeline that has one; or why WAL ends before it.
    fn open(&self, number: u64) -> Result<Opened> {
        let owners = self.path.owners_of(number, self.catalog.segment_size);
        let name_of = |owner| SegmentName::new(owner, number, self.catalog.segment_size);
        for name in owners.iter().map(|owner| name_of(*owner)) {
            match self.source.open_segment(name, self.backup) {
                Ok(Some(segment)) => return Ok(Ok((name, segment))),
                Ok(None) => {}
                Err(error) if error.report().code == SEGMENT_DAMAGED => {
                    return Ok(Err(EndCause::Damaged(name, error.report().message.clone())));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Err(EndCause::NoSegment(name_of(owners.first().copied().unwrap_or(self.path.last())))))
    }

    /// Reads a block of the segment `name`, whose timeline ends at `fork`.
    fn read_on(
        &self,
        decoder: &mut Decoder,
        block: &[u8],
        name: SegmentName,
        fork: Option<Lsn>,
        each: &mut dyn FnMut(&Record) -> ControlFlow<()>,
    ) -> Option<ScanEnd> {
        let mut end = None;
        let reached = decoder.read(block, &mut |record| {
            // The next timeline forked off here, and its own file of this segment is not there.
            if fork.is_some_and(|fork| record.lsn >= fork) {
                let size = self.catalog.segment_size;
                let wanted = self.path.timeline_at(record.lsn).unwrap_or(self.path.last());
                let missing = SegmentName::new(wanted, size.number_of(record.lsn), size);
                end = Some(ScanEnd { at: record.lsn, cause: EndCause::NoSegment(missing) });
                return ControlFlow::Break(());
            }
            let enough = each(record);
            if enough.is_break() {
                end = Some(ScanEnd { at: record.end_lsn, cause: EndCause::Enough });
            }
            enough
        });
        match reached {
            Reached::End(end) => Some(ScanEnd { at: end.at, cause: EndCause::EndOfWal(name, end.reason) }),
            Reached::Enough | Reached::Hungry | Reached::Resumed(_) => end,
        }
    }

    /// Leaves out the first bytes of a segment; gives how many there were.
    fn skip(&self, name: SegmentName, segment: &mut dyn Read, bytes: u64) -> Result<u64> {
        std::io::copy(&mut segment.take(bytes), &mut std::io::sink()).map_err(|error| unreadable_segment(name, &error))
    }
}

/// Fills `room` as far as the segment goes. Always the same room: it stays in the processor's cache.
fn read_block<'a>(segment: &mut dyn Read, room: &'a mut [u8]) -> std::io::Result<&'a [u8]> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match segment.read(rest) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(room.get(..filled).unwrap_or_default())
}

fn unreadable_segment(name: SegmentName, error: &std::io::Error) -> Error {
    Error::failed("unreadable", format!("cannot read segment {name}")).caused_by(error)
}

/// Makes recovery points of records.
#[derive(Debug, Default)]
pub struct Points {
    changed: HashMap<Xid, Changed>,
}

/// Rows that a transaction changed.
#[derive(Debug, Clone, Copy, Default)]
struct Changed {
    deleted: u64,
    updated: u64,
}

impl Points {
    /// The recovery point that this record is, if it is one. To be called with every record, in order: rows changed
    /// are counted on the way.
    pub fn of(&mut self, record: &Record) -> Option<Point> {
        let point = |kind| Point::at(kind, record.timeline, record.lsn, record.end_lsn);
        match &record.body {
            Body::Rows(rows) if rows.relation.is_of_users() => {
                self.count(record.xid?, rows);
                None
            }
            Body::Commit(outcome) => {
                let Changed { deleted, updated } = self.changed_by(outcome);
                let drops = outcome.dropped.len() as u64;
                Some(Point { deletes: deleted, updates: updated, drops, ..ended(point(PointKind::Commit), outcome) })
            }
            Body::Abort(outcome) => {
                self.changed_by(outcome);
                Some(ended(point(PointKind::Abort), outcome))
            }
            Body::Prepare { xid, gid, at } => {
                Some(Point { xid: Some(*xid), at: Some(*at), name: Some(gid.clone()), ..point(PointKind::Prepare) })
            }
            Body::RestorePoint { name, at } => {
                Some(Point { at: Some(*at), name: Some(name.clone()), ..point(PointKind::RestorePoint) })
            }
            Body::Checkpoint(checkpoint) => Some(Point { at: Some(checkpoint.at), ..point(PointKind::Checkpoint) }),
            Body::BackupEnd { .. } => Some(point(PointKind::BackupEnd)),
            Body::EndOfRecovery { at, .. } => Some(Point { at: Some(*at), ..point(PointKind::EndOfRecovery) }),
            _ => None,
        }
    }

    fn count(&mut self, xid: Xid, rows: &Rows) {
        if rows.change == RowChange::Insert {
            return;
        }
        if self.changed.len() >= COUNTED_TRANSACTIONS && !self.changed.contains_key(&xid) {
            self.changed.clear();
        }
        let changed = self.changed.entry(xid).or_default();
        let counter = if rows.change == RowChange::Delete { &mut changed.deleted } else { &mut changed.updated };
        *counter += u64::from(rows.rows);
    }

    /// Rows that a transaction and its subtransactions changed.
    fn changed_by(&mut self, outcome: &Outcome) -> Changed {
        let mut sum = Changed::default();
        for xid in std::iter::once(&outcome.xid).chain(&outcome.subxacts) {
            let changed = self.changed.remove(xid).unwrap_or_default();
            sum.deleted += changed.deleted;
            sum.updated += changed.updated;
        }
        sum
    }
}

fn ended(point: Point, outcome: &Outcome) -> Point {
    Point { xid: Some(outcome.xid), at: Some(outcome.at), subxacts: outcome.subxacts.len() as u64, ..point }
}

/// Every recovery point of every timeline that has segments, in batches, oldest timeline first and each in WAL order,
/// each timeline from its fork (or its first segment) on.
///
/// # Errors
/// When a segment cannot be read, or when it was cancelled.
pub fn all_points(
    source: &dyn Source,
    catalog: &Catalog,
    cancel: &Cancel,
    progress: &mut dyn FnMut(u64, u64),
    batch: &mut dyn FnMut(Vec<Point>),
) -> Result<()> {
    const BATCH: usize = 4096;
    let total = catalog.segments.len() as u64 * catalog.segment_size.bytes();
    let mut before = 0;
    for timeline in &catalog.timelines {
        let Some(path) = catalog.path_to(timeline.id) else { continue };
        let forked_at = timeline.forked_at_lsn.unwrap_or(Lsn::INVALID);
        let mut next = catalog.segments_of(timeline.id).next().map(|name| name.number(catalog.segment_size));
        // A gap ends a scan; the next one starts behind it.
        while let Some(number) = next {
            let mut points = Points::default();
            let mut found = Vec::new();
            let mut read = 0;
            let scan = Scan { source, catalog, backup: None, path: &path, start: Start::Segment(number) };
            let end = scan.run(
                cancel,
                &mut |bytes| {
                    read = bytes;
                    progress(before + bytes, total);
                },
                &mut |record| {
                    let point = points.of(record).filter(|point| point.lsn >= forked_at);
                    found.extend(point.map(|point| Point { timeline: timeline.id, ..point }));
                    if found.len() >= BATCH {
                        batch(std::mem::take(&mut found));
                    }
                    ControlFlow::Continue(())
                },
            )?;
            before += read;
            next = behind(catalog, timeline.id, number, &end);
            if next.is_none() {
                found.push(Point::at(PointKind::EndOfWal, timeline.id, end.at, end.at));
            }
            batch(found);
        }
    }
    Ok(())
}

/// The first segment of the timeline behind the place at which a scan from `number` ended.
fn behind(catalog: &Catalog, timeline: crate::core::TimelineId, number: u64, end: &ScanEnd) -> Option<u64> {
    let size = catalog.segment_size;
    let stuck = end.cause.segment()?.number(size);
    let numbers = catalog.segments_of(timeline).map(|name| name.number(size));
    numbers.filter(|there| *there > stuck.max(number)).min()
}
