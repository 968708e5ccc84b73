//! What lies in every segment of an archive, kept so that it is read only once.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;

use crate::catalog::suspect::Fate;
use crate::catalog::{Catalog, Overview, OverviewBuilder, Point, PointKind, Timeline};
use crate::core::{ArchiveFile, Lsn, SegmentName, TimelineId, Xid};
use crate::error::Result;
use crate::wal::{Body, Record, Summary};

use super::scan::Points;
use super::summarize::{Unreadable, summarize};
use super::{Cancel, Source};

/// Transactions that change fewer rows than this within a segment are never kept with all that they did.
const FLOOR: u64 = 50;

/// What a segment's summary came to.
pub type Read = std::result::Result<Summary, Unreadable>;

/// The segments of an archive, with what lies in each.
pub struct Index<'a> {
    source: &'a dyn Source,
    catalog: &'a Catalog,
    /// So many rows deleted or updated make a suspect.
    rows: u64,
}

impl<'a> Index<'a> {
    /// Over the segments in `catalog`, which is what `source` has. Summaries are kept below the directory `cache`;
    /// without one, or where it cannot be written, nothing is kept for the next time. Suspects are transactions that
    /// deleted or updated at least `rows` rows, besides those that dropped, truncated or rewrote.
    #[must_use]
    pub fn new(source: &'a dyn Source, catalog: &'a Catalog, cache: Option<&Path>, rows: u64) -> Index<'a> {
        let _ = cache;
        Index { source, catalog, rows }
    }

    /// What went wrong with the cache, in words; everything works without it, only slower.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// Makes every summary that there is not yet, the newest segments first. `progress` is told the bytes of WAL that
    /// are known, and of all; `look` gets what is known so far, first what was kept.
    ///
    /// # Errors
    /// When it was cancelled. Segments that cannot be read are among the damaged places.
    pub fn build(
        &self,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64, u64),
        look: &mut dyn FnMut(Overview),
    ) -> Result<Overview> {
        let size = self.catalog.segment_size;
        let total = self.catalog.segments.len() as u64 * size.bytes();
        let mut done = 0;
        let mut builder = OverviewBuilder::new(self.rows, size);
        look(self.unread());
        for timeline in &self.catalog.timelines {
            builder.begin_timeline(timeline.id);
            let mut forks = self.forks_of(timeline.id);
            let mut end = None;
            self.for_each(timeline.id, cancel, &mut |number, read| {
                for (_, child) in forks.extract_if(.., |(at, _)| *at <= number) {
                    builder.fork(child);
                }
                match read {
                    Ok(summary) => {
                        let mut ask = |xids: &[Xid]| self.fates(timeline.id, number, xids, cancel);
                        builder.segment(timeline.id, number, Some(&summary), &mut ask);
                        end = (summary.records > 0).then_some(summary.end).or(end);
                    }
                    Err(unreadable) => builder.unreadable(timeline.id, number, unreadable.to_string()),
                }
                done += size.bytes();
                progress(done, total);
                ControlFlow::Continue(())
            })?;
            for (_, child) in forks {
                builder.fork(child);
            }
            if let Some(end) = end {
                builder.end_of_wal(timeline.id, end);
            }
            self.damaged_files(timeline, &mut builder, cancel)?;
        }
        Ok(builder.finish())
    }

    /// What lies in the segment `name`.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn summary(&self, name: SegmentName, cancel: &Cancel) -> Result<Read> {
        self.read(name, self.floor(), cancel, &mut |_| {})
    }

    /// Hands the summaries of a timeline's segments to `each`, in order, with their numbers, until it has enough.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn for_each(
        &self,
        timeline: TimelineId,
        cancel: &Cancel,
        each: &mut dyn FnMut(u64, Read) -> ControlFlow<()>,
    ) -> Result<()> {
        for name in self.catalog.segments_of(timeline) {
            if each(name.number(self.catalog.segment_size), self.summary(*name, cancel)?).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The recovery points in one segment, read from it now: as many as [`Overview`] counts there. Rows that
    /// transactions changed in earlier segments are not counted.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn points(&self, timeline: TimelineId, number: u64, cancel: &Cancel) -> Result<Vec<Point>> {
        let fork = self.catalog.timelines.iter().find(|known| known.id == timeline);
        let from = fork.and_then(|timeline| timeline.forked_at_lsn).unwrap_or(Lsn::INVALID);
        let (mut points, mut found) = (Points::default(), Vec::new());
        let name = SegmentName::new(timeline, number, self.catalog.segment_size);
        self.read(name, u64::MAX, cancel, &mut |record| {
            let point = points.of(record).filter(|point| point.lsn >= from && is_listed(point.kind));
            found.extend(point.map(|point| Point { timeline, ..point }));
        })?
        .ok();
        if let Some((last, end)) = self.end_of_wal(timeline, cancel)?
            && last == number
        {
            found.push(Point::at(PointKind::EndOfWal, timeline, end, end));
        }
        Ok(found)
    }

    /// The last segment of a timeline that can be read, and just behind the last record: where its WAL ends.
    fn end_of_wal(&self, timeline: TimelineId, cancel: &Cancel) -> Result<Option<(u64, Lsn)>> {
        let mut last = None;
        for name in self.catalog.segments_of(timeline).rev() {
            let Ok(summary) = self.summary(*name, cancel)? else { continue };
            let number = *last.get_or_insert(name.number(self.catalog.segment_size));
            if summary.records > 0 {
                return Ok(Some((number, summary.end)));
            }
        }
        Ok(None)
    }

    /// Fills in what names and sizes do not tell of timelines: when their first and last transactions ended, where
    /// exactly their WAL ends, and which of their files are damaged.
    pub fn complete(catalog: &mut Catalog, overview: &Overview) {
        for timeline in &mut catalog.timelines {
            let mine = overview.segments.iter().filter(|segment| segment.timeline == timeline.id);
            timeline.first_commit_at = mine.clone().filter_map(|segment| segment.earliest).min();
            timeline.last_commit_at = mine.filter_map(|segment| segment.latest).max();
            let ends = overview.marks.iter().filter(|mark| mark.kind == PointKind::EndOfWal);
            let end = ends.filter(|mark| mark.timeline == timeline.id).map(|mark| mark.lsn).max();
            timeline.end_lsn = end.or(timeline.end_lsn);
            let damaged = overview.damaged.iter().filter(|place| place.timeline == timeline.id);
            timeline.damaged.extend(damaged.map(|place| place.file.clone()));
            timeline.damaged.sort();
            timeline.damaged.dedup();
        }
    }

    /// Where nothing has been read.
    fn unread(&self) -> Overview {
        let size = self.catalog.segment_size;
        let mut builder = OverviewBuilder::new(self.rows, size);
        for name in &self.catalog.segments {
            builder.segment(name.timeline, name.number(size), None, &mut |_| BTreeMap::new());
        }
        builder.finish()
    }

    /// The timelines that forked off this one, with the segments in which they did.
    fn forks_of(&self, parent: TimelineId) -> Vec<(u64, TimelineId)> {
        let children = self.catalog.timelines.iter().filter(|timeline| timeline.parent == Some(parent));
        let forks =
            children.filter_map(|child| Some((self.catalog.segment_size.number_of(child.forked_at_lsn?), child.id)));
        forks.collect()
    }

    /// Names the files of a timeline that have a segment's name and are none.
    fn damaged_files(&self, timeline: &Timeline, builder: &mut OverviewBuilder, cancel: &Cancel) -> Result<()> {
        for name in &timeline.damaged {
            let Some(ArchiveFile::Segment(name)) = ArchiveFile::parse(name) else { continue };
            let number = name.number(self.catalog.segment_size);
            if self.catalog.segments.contains(&name)
                || SegmentName::new(name.timeline, number, self.catalog.segment_size) != name
            {
                continue;
            }
            let reason = match self.summary(name, cancel)? {
                Err(unreadable) => unreadable.to_string(),
                Ok(_) => "the file is not as long as a segment".to_owned(),
            };
            builder.damaged_file(timeline.id, number, reason);
        }
        Ok(())
    }

    /// How transactions ended in one segment.
    fn fates(&self, timeline: TimelineId, number: u64, xids: &[Xid], cancel: &Cancel) -> BTreeMap<Xid, Fate> {
        let mut fates = BTreeMap::new();
        let name = SegmentName::new(timeline, number, self.catalog.segment_size);
        let read = self.read(name, 0, cancel, &mut |record| {
            if let Body::Abort(outcome) = &record.body {
                let ended = std::iter::once(&outcome.xid).chain(&outcome.subxacts);
                fates.extend(ended.filter(|xid| xids.contains(xid)).map(|xid| (*xid, Fate::RolledBack)));
            }
        });
        let Ok(Ok(summary)) = read else { return fates };
        for ended in summary.notable {
            let asked = std::iter::once(&ended.xid).chain(&ended.subxacts).find(|xid| xids.contains(xid)).copied();
            if let Some(xid) = asked {
                fates.insert(xid, Fate::Committed(Box::new(ended)));
            }
        }
        fates
    }

    fn read(&self, name: SegmentName, floor: u64, cancel: &Cancel, each: &mut dyn FnMut(&Record)) -> Result<Read> {
        summarize(self.source, self.catalog, name, floor, cancel, each)
    }

    /// From how many rows on a transaction is kept with all that it did.
    fn floor(&self) -> u64 {
        (self.rows / 2).clamp(1, FLOOR)
    }
}

/// Whether it is one of the points that lists show.
fn is_listed(kind: PointKind) -> bool {
    !matches!(kind, PointKind::Prepare | PointKind::Checkpoint)
}
