//! What lies in every segment of an archive, kept so that it is read only once.

use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sha2::{Digest, Sha256};

use crate::catalog::inspection::STILL_WRITTEN;
use crate::catalog::overview::SegmentRows;
use crate::catalog::{Catalog, Overview, Point, PointKind, Timeline};
use crate::core::{ArchiveFile, Lsn, SegmentName, TimelineId};
use crate::error::Result;

use super::archive::{FRESH, LOOK_AGAIN, MOMENT};
use super::cache::{Cache, FORMAT, Row, Scope};
use super::identity::Identity;
use super::scan::Points;
use super::summarize::{Read, Show, Summarized, Unreadable, heirs, summarize};
use super::{Cancel, Source};

mod near;
mod overview;

/// Transactions that change fewer rows than this within a segment are never kept with all that they did.
const FLOOR: u64 = 50;
/// So many segments in a row are read by one core, at most: the end of one is the beginning of the next.
const RUN: usize = 8;
/// So many summaries are taken from the cache at once.
const CHUNK: usize = 512;
/// So many summaries are kept at once.
const BATCH: usize = 256;
/// How often at most is shown what is known so far.
const LOOK: Duration = Duration::from_millis(250);
/// How long whoever waits for segments to be read waits at most until asking whether it was cancelled.
const TICK: Duration = Duration::from_millis(50);
/// A file that was changed so shortly before it was read may have been changed again at what looks like the same time:
/// file systems do not count finer than some milliseconds.
const SETTLED: Duration = Duration::from_millis(100);

/// So many times at most is a segment read again whose file goes on to change.
const AGAIN: usize = 20;

/// The segments of an archive, with what lies in each.
pub struct Index<'a> {
    source: &'a dyn Source,
    catalog: &'a Catalog,
    /// So many rows deleted or updated make a suspect.
    rows: u64,
    cache: Mutex<Cache>,
}

/// A segment, and which file it was when it was looked at.
#[derive(Debug, Clone, Copy)]
struct Entry {
    name: SegmentName,
    number: u64,
    identity: Option<Identity>,
}

/// Whether to go on, where that can fail.
type Flow = Result<ControlFlow<()>>;

/// What was read of a segment, for the cache.
struct Fresh {
    scope: Scope,
    row: Row,
    durable: bool,
}

impl<'a> Index<'a> {
    /// Over the segments in `catalog`, which is what `source` has. Summaries are kept below the directory `cache`;
    /// without one, or where it cannot be written, nothing is kept for the next time. Suspects are transactions that
    /// deleted or updated at least `rows` rows, besides those that dropped, truncated or rewrote.
    #[must_use]
    pub fn new(source: &'a dyn Source, catalog: &'a Catalog, cache: Option<&Path>, rows: u64) -> Index<'a> {
        Index { source, catalog, rows, cache: Mutex::new(Cache::open(cache)) }
    }

    /// What went wrong with the cache, in words; everything works without it, only slower.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        self.cache().warnings().to_vec()
    }

    /// Makes every summary that there is not yet, the newest segments first. `progress` is told the bytes of WAL that
    /// are known, and of all; `look` gets what is known so far, first what was kept.
    ///
    /// # Errors
    /// When it was cancelled; what was read until then is kept. Segments that cannot be read are among the damaged
    /// places.
    pub fn build(
        &self,
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64, u64),
        look: &mut dyn FnMut(Overview),
    ) -> Result<Overview> {
        let total = self.bytes(self.catalog.segments.len());
        let (before, digest_before) = self.overview_kept();
        let first = self.as_of_now(&before.unwrap_or_default());
        look(first.clone());
        let entries = self.entries(self.catalog.segments.iter().copied());
        let digest = self.digest(&entries);
        if digest_before == digest {
            progress(total, total);
            return Ok(Overview { complete: true, ..first });
        }
        drop(first);
        let missing = self.missing(&entries);
        let mut done = self.bytes(entries.len() - missing.len());
        progress(done, total);
        let (mut looked, mut cost) = (Instant::now(), Duration::ZERO);
        let durable = self.read_all(&entries, &missing, cancel, &mut |segments| {
            done += self.bytes(segments);
            progress(done, total);
            // Looking must not take more than a fraction of the time.
            if looked.elapsed() >= LOOK.max(cost * 8) {
                let start = Instant::now();
                look(self.overview(&entries, false, cancel)?);
                (looked, cost) = (Instant::now(), start.elapsed());
            }
            Ok(())
        })?;
        let overview = self.overview(&entries, true, cancel)?;
        progress(total, total);
        self.keep_overview(&overview, if durable { &digest } else { &[] });
        self.prune(&entries);
        Ok(overview)
    }

    /// What lies in the segment `name`.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn summary(&self, name: SegmentName, cancel: &Cancel) -> Result<Read> {
        let entries = self.entries(std::iter::once(name));
        let mut found = Err(Unreadable::Absent);
        self.stream(&entries, cancel, &mut |_, read| {
            found = read;
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }

    /// What lies in these segments, in order. Those that have to be read are read on all cores; `progress` is told the
    /// bytes of WAL of all that are there so far.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn summaries(
        &self,
        names: &[SegmentName],
        cancel: &Cancel,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Vec<Read>> {
        let entries = self.entries(names.iter().copied());
        let missing = self.missing(&entries);
        let mut done = entries.len() - missing.len();
        self.read_all(&entries, &missing, cancel, &mut |segments| {
            done += segments;
            progress(self.bytes(done));
            Ok(())
        })?;
        let mut all = Vec::with_capacity(entries.len());
        self.stream(&entries, cancel, &mut |_, read| {
            all.push(read);
            ControlFlow::Continue(())
        })?;
        Ok(all)
    }

    /// What lies in the segment `name`, where that is known without reading it.
    #[must_use]
    pub fn known(&self, name: SegmentName) -> Option<Read> {
        let entries = self.entries(std::iter::once(name));
        let row = self.kept(&entries, 0..1, true).into_iter().next().flatten()?;
        postcard::from_bytes(&row.summary).ok()
    }

    /// How many of these segments would have to be read for their summaries.
    #[must_use]
    pub fn unknown(&self, names: &[SegmentName]) -> usize {
        let entries = self.entries(names.iter().copied());
        self.missing(&entries).len()
    }

    /// What was known the last time of the segments that there are now, by timeline and number. Whether the files are
    /// still the same was not looked at.
    pub(super) fn rows_kept(&self) -> Vec<SegmentRows> {
        let (before, _) = self.overview_kept();
        before.map(|before| self.as_of_now(&before).segments).unwrap_or_default()
    }

    /// Everything that was known the last time, with the segments that there are now. Whether the files are still the
    /// same was not looked at.
    #[must_use]
    pub fn remembered(&self) -> Overview {
        let (before, _) = self.overview_kept();
        self.as_of_now(&before.unwrap_or_default())
    }

    pub(super) fn source(&self) -> &'a dyn Source {
        self.source
    }

    pub(super) fn catalog(&self) -> &'a Catalog {
        self.catalog
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
        let entries = self.entries(self.catalog.segments_of(timeline).copied());
        self.stream(&entries, cancel, each)
    }

    /// The recovery points in one segment, read from it now: as many as [`Overview`] counts there. Rows that
    /// transactions changed in earlier segments are not counted.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn points(&self, timeline: TimelineId, number: u64, cancel: &Cancel) -> Result<Vec<Point>> {
        let from = self.fork_of(timeline);
        let (mut points, mut found) = (Points::default(), Vec::new());
        let name = SegmentName::new(timeline, number, self.catalog.segment_size);
        self.read(
            name,
            u64::MAX,
            cancel,
            Show::Records(&mut |record| {
                let point = points.of(record).filter(|point| point.lsn >= from && is_listed(point.kind));
                found.extend(point.map(|point| Point { timeline, ..point }));
            }),
        )?;
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

    /// What was known the last time, and of which files.
    fn overview_kept(&self) -> (Option<Overview>, Vec<u8>) {
        let Some((digest, packed)) = self.cache().overview(&self.source_key()) else { return (None, Vec::new()) };
        match postcard::from_bytes(&packed) {
            Ok(overview) => (Some(overview), digest),
            Err(_) => (None, Vec::new()),
        }
    }

    fn keep_overview(&self, overview: &Overview, digest: &[u8]) {
        if let Ok(packed) = postcard::to_stdvec(overview) {
            self.cache().keep_overview(&self.source_key(), digest, &packed);
        }
    }

    /// What was known the last time, with the segments that there are now. It may be wrong where files were changed.
    fn as_of_now(&self, before: &Overview) -> Overview {
        let size = self.catalog.segment_size;
        let key = |segment: &SegmentRows| (segment.timeline, segment.number);
        let mut known = before.segments.iter().peekable();
        let now = self.catalog.segments.iter().map(|name| SegmentRows::unread(name.timeline, name.number(size)));
        let segments = now.map(|segment| {
            while known.next_if(|known| key(known) < key(&segment)).is_some() {}
            known.next_if(|known| key(known) == key(&segment)).copied().unwrap_or(segment)
        });
        let segments = segments.collect();
        let Overview { marks, suspects, damaged, .. } = before;
        let (marks, suspects, damaged) = (marks.clone(), suspects.clone(), damaged.clone());
        Overview { segments, marks, suspects, damaged, complete: false }
    }

    /// Which source this is, to the cache.
    fn source_key(&self) -> Vec<u8> {
        let mut key = Sha256::new();
        for archive in self.source.archives() {
            key.update(archive.as_os_str().as_encoded_bytes());
            key.update([0]);
        }
        for command in self.source.commands() {
            key.update(command.fetch.command.as_bytes());
            key.update([0, 0]);
        }
        key.update(self.cluster().to_le_bytes());
        key.update(self.catalog.segment_size.bytes().to_le_bytes());
        key.update(self.rows.to_le_bytes());
        key.finalize().to_vec()
    }

    /// Everything that an overview is made of.
    fn digest(&self, entries: &[Entry]) -> Vec<u8> {
        let mut digest = Sha256::new();
        digest.update(FORMAT.to_le_bytes());
        digest.update(env!("CARGO_PKG_VERSION"));
        for timeline in &self.catalog.timelines {
            let parent = timeline.parent.map_or(0, |parent| parent.0);
            let fork = timeline.forked_at_lsn.unwrap_or(Lsn::INVALID).0;
            digest.update(timeline.id.0.to_le_bytes());
            digest.update(parent.to_le_bytes());
            digest.update(fork.to_le_bytes());
        }
        let damaged = self.catalog.timelines.iter().flat_map(|timeline| self.damaged_names(timeline));
        let damaged = self.entries(damaged);
        for entry in entries.iter().chain(&damaged) {
            digest.update(entry.name.timeline.0.to_le_bytes());
            digest.update(entry.number.to_le_bytes());
            digest.update(bytes_of(entry.identity));
        }
        digest.finalize().to_vec()
    }

    fn entries(&self, names: impl Iterator<Item = SegmentName>) -> Vec<Entry> {
        let names: Vec<SegmentName> = names.collect();
        let identities = self.source.identities(&names).into_iter().chain(std::iter::repeat(None));
        let size = self.catalog.segment_size;
        let entry = |(name, identity): (SegmentName, _)| Entry { name, number: name.number(size), identity };
        names.into_iter().zip(identities).map(entry).collect()
    }

    /// What the summary of `entries[at]` has to be made of, with so many segments behind it.
    fn basis(&self, entries: &[Entry], at: usize, behind: u32) -> Vec<u8> {
        let Some(entry) = entries.get(at) else { return Vec::new() };
        let mut basis = bytes_of(entry.identity).to_vec();
        for distance in 1..=behind as usize {
            let name = SegmentName::new(entry.name.timeline, entry.number + distance as u64, self.catalog.segment_size);
            let identity = match entries.get(at + distance).filter(|next| next.name == name) {
                Some(next) => next.identity,
                None => self.source.identities(&[name]).first().copied().flatten(),
            };
            let heirs = || self.source.identities(&heirs(self.catalog, name)).into_iter().flatten().next();
            let identity = identity.or_else(heirs);
            basis.extend(bytes_of(identity));
        }
        basis.extend(self.fork_of(entry.name.timeline).0.to_le_bytes());
        basis.extend(self.catalog.segment_size.bytes().to_le_bytes());
        basis
    }

    fn fork_of(&self, timeline: TimelineId) -> Lsn {
        let known = self.catalog.timelines.iter().find(|known| known.id == timeline);
        known.and_then(|timeline| timeline.forked_at_lsn).unwrap_or(Lsn::INVALID)
    }

    fn scope(&self, entry: &Entry) -> Scope {
        Scope {
            place: entry.identity.map_or(0, |identity| identity.place),
            cluster: self.cluster(),
            timeline: entry.name.timeline.0,
        }
    }

    /// The rows in the cache of these of the entries, where they are still good.
    fn kept(&self, entries: &[Entry], range: Range<usize>, with_summary: bool) -> Vec<Option<Row>> {
        let wanted = entries.get(range.clone()).unwrap_or_default();
        let mut found: Vec<Option<Row>> = vec![None; wanted.len()];
        let mut scopes: Vec<Scope> = wanted.iter().map(|entry| self.scope(entry)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        for scope in scopes {
            let mine = |entry: &&Entry| entry.name.timeline.0 == scope.timeline;
            let numbers = || wanted.iter().filter(mine).map(|entry| entry.number);
            let (Some(first), Some(last)) = (numbers().min(), numbers().max()) else { continue };
            self.cache().rows(scope, first, last, with_summary, &mut |row| {
                let key = |entry: &Entry| (entry.name.timeline.0, entry.number);
                let Ok(place) = wanted.binary_search_by_key(&(scope.timeline, row.number), key) else { return };
                let good = wanted.get(place).is_some_and(|entry| self.scope(entry) == scope)
                    && row.floor <= self.floor()
                    && row.basis == self.basis(entries, range.start + place, row.behind);
                if let Some(slot) = found.get_mut(place).filter(|_| good) {
                    *slot = Some(row);
                }
            });
        }
        found
    }

    /// The places of the entries that are not in the cache, or not as they are now.
    fn missing(&self, entries: &[Entry]) -> Vec<usize> {
        let mut missing = Vec::new();
        for start in (0..entries.len()).step_by(CHUNK * 8) {
            let end = entries.len().min(start + CHUNK * 8);
            let kept = self.kept(entries, start..end, false);
            missing.extend(kept.iter().enumerate().filter(|(_, row)| row.is_none()).map(|(place, _)| start + place));
        }
        missing
    }

    /// Hands out what lies in these segments, in order; reads those that are not in the cache.
    fn stream(
        &self,
        entries: &[Entry],
        cancel: &Cancel,
        each: &mut dyn FnMut(u64, Read) -> ControlFlow<()>,
    ) -> Result<()> {
        self.stream_known(entries, &mut |entry, known| {
            let read = self.known_or_read(entry, known, cancel)?;
            Ok(each(entry.number, read))
        })
    }

    /// What lies in a segment: what is known of it, or else what is read of it now, and kept.
    fn known_or_read(&self, entry: &Entry, known: Option<Read>, cancel: &Cancel) -> Result<Read> {
        if let Some(read) = known {
            return Ok(read);
        }
        let (fresh, read) = self.read_fresh(entry, cancel)?;
        self.keep(std::slice::from_ref(&fresh));
        Ok(read)
    }

    /// Hands out what the cache has of these segments, in order.
    fn stream_known(&self, entries: &[Entry], each: &mut dyn FnMut(&Entry, Option<Read>) -> Flow) -> Result<()> {
        for start in (0..entries.len()).step_by(CHUNK) {
            let end = entries.len().min(start + CHUNK);
            let kept = self.kept(entries, start..end, true);
            for (entry, row) in entries.get(start..end).unwrap_or_default().iter().zip(kept) {
                let known = row.and_then(|row| postcard::from_bytes(&row.summary).ok());
                if each(entry, known)?.is_break() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads a segment, and says what it was made of.
    fn read_fresh(&self, entry: &Entry, cancel: &Cancel) -> Result<(Fresh, Read)> {
        let started = SystemTime::now();
        let Summarized { read, behind, doubtful } = self.read_finished(entry, cancel)?;
        let size = self.catalog.segment_size;
        let names =
            (0..=u64::from(behind)).map(|next| SegmentName::new(entry.name.timeline, entry.number + next, size));
        let after = self.entries(names.flat_map(|name| std::iter::once(name).chain(heirs(self.catalog, name))));
        let now = after.first().copied().unwrap_or(*entry);
        let lasting = !doubtful && !matches!(read, Err(Unreadable::Absent));
        let durable = lasting && now.identity == entry.identity && now.identity.is_some() && settled(&after, started);
        let row = Row {
            number: entry.number,
            floor: self.floor(),
            behind,
            basis: self.basis(&after, 0, behind),
            summary: postcard::to_stdvec(&read).unwrap_or_default(),
        };
        Ok((Fresh { scope: self.scope(&now), row, durable }, read))
    }

    /// Reads a segment. One that is packed and breaks off may be one that somebody is writing under its final name: where
    /// its file goes on to change, it is read again.
    fn read_finished(&self, entry: &Entry, cancel: &Cancel) -> Result<Summarized> {
        let mut before = entry.identity;
        let mut read = summarize(self.source, self.catalog, entry.name, self.floor(), cancel, Show::Nothing)?;
        for _ in 0..AGAIN {
            if !matches!(read.read, Err(Unreadable::Failed(_))) {
                break;
            }
            let now = self.changes(entry.name, before, cancel)?;
            if now == before {
                return Ok(read);
            }
            before = now;
            read = summarize(self.source, self.catalog, entry.name, self.floor(), cancel, Show::Nothing)?;
        }
        if matches!(read.read, Err(Unreadable::Failed(_))) {
            read.read = Err(Unreadable::Failed(STILL_WRITTEN.to_owned()));
        }
        Ok(read)
    }

    /// The identity that a segment's file has once it is another one than before, or when a moment has passed. A file that
    /// was not written to just now is not waited for.
    fn changes(&self, name: SegmentName, before: Option<Identity>, cancel: &Cancel) -> Result<Option<Identity>> {
        let begun = Instant::now();
        loop {
            cancel.check()?;
            let now = self.source.identities(&[name]).first().copied().flatten();
            let is_fresh = now.is_some_and(|identity| {
                let modified = UNIX_EPOCH + Duration::from_nanos(u64::try_from(identity.modified_ns).unwrap_or(0));
                SystemTime::now().duration_since(modified).is_ok_and(|age| age < FRESH)
            });
            if now != before || !is_fresh || begun.elapsed() >= MOMENT {
                return Ok(now);
            }
            std::thread::sleep(LOOK_AGAIN);
        }
    }

    fn keep(&self, fresh: &[Fresh]) {
        self.cache().keep(fresh.iter().map(|fresh| (fresh.scope, &fresh.row, fresh.durable)));
    }

    /// Reads the missing ones of the entries on all cores, the newest first. `done` is told now and then how many
    /// more were read. Gives whether all of them will be good the next time too.
    fn read_all(
        &self,
        entries: &[Entry],
        missing: &[usize],
        cancel: &Cancel,
        done: &mut dyn FnMut(usize) -> Result<()>,
    ) -> Result<bool> {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let runs = runs(entries, missing, cores);
        let next = AtomicUsize::new(0);
        let threads = cores.min(runs.len());
        std::thread::scope(|scope| {
            let (sender, receiver) = sync_channel(BATCH);
            for _ in 0..threads {
                let (sender, runs, next) = (sender.clone(), &runs, &next);
                scope.spawn(move || self.read_runs(entries, runs, next, cancel, &sender));
            }
            drop(sender);
            let (mut batch, mut durable, mut flushed) = (Vec::new(), true, Instant::now());
            let outcome = loop {
                match receiver.recv_timeout(TICK) {
                    Ok(Ok(fresh)) => batch.push(fresh),
                    Ok(Err(cancelled)) => break Err(cancelled),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break Ok(()),
                }
                if batch.len() >= BATCH || flushed.elapsed() >= TICK {
                    durable &= batch.iter().all(|fresh| fresh.durable);
                    self.keep(&batch);
                    if let Err(error) = done(batch.len()) {
                        break Err(error);
                    }
                    batch.clear();
                    flushed = Instant::now();
                }
            };
            // What was read before it was cancelled is not read again.
            durable &= batch.iter().all(|fresh| fresh.durable);
            self.keep(&batch);
            outcome?;
            done(batch.len())?;
            Ok(durable)
        })
    }

    /// What one core does: one run after the other.
    fn read_runs(
        &self,
        entries: &[Entry],
        runs: &[Vec<usize>],
        next: &AtomicUsize,
        cancel: &Cancel,
        sender: &SyncSender<Result<Fresh>>,
    ) {
        while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
            for entry in run.iter().filter_map(|place| entries.get(*place)) {
                let fresh = self.read_fresh(entry, cancel).map(|(fresh, _)| fresh);
                let cancelled = fresh.is_err();
                // Nobody waits for it any more where the whole was given up.
                if sender.send(fresh).is_err() || cancelled {
                    return;
                }
            }
        }
    }

    /// Lets the cache forget the segments that are gone.
    fn prune(&self, entries: &[Entry]) {
        let mut scopes: Vec<Scope> = entries.iter().map(|entry| self.scope(entry)).collect();
        scopes.sort_unstable();
        scopes.dedup();
        let mut gone = Vec::new();
        for scope in &scopes {
            self.cache().rows(*scope, 0, i64::MAX as u64, false, &mut |row| {
                let name = SegmentName::new(TimelineId(scope.timeline), row.number, self.catalog.segment_size);
                let there = entries.binary_search_by_key(&name, |entry| entry.name).ok();
                if there.and_then(|place| entries.get(place)).is_none_or(|entry| self.scope(entry) != *scope) {
                    gone.push((*scope, row.number));
                }
            });
        }
        let mut used: Vec<(u64, u64)> = scopes.iter().map(|scope| (scope.place, scope.cluster)).collect();
        used.dedup();
        self.cache().prune(&used, &gone);
    }

    /// The files of a timeline that have a segment's name and are none.
    fn damaged_names(&self, timeline: &Timeline) -> impl Iterator<Item = SegmentName> {
        let size = self.catalog.segment_size;
        let segments = timeline.damaged.iter().filter_map(|name| match ArchiveFile::parse(name) {
            Some(ArchiveFile::Segment(name)) => Some(name),
            _ => None,
        });
        let possible = move |name: &SegmentName| SegmentName::new(name.timeline, name.number(size), size) == *name;
        segments.filter(possible).filter(|name| !self.catalog.segments.contains(name))
    }

    fn read<'b>(&'b self, name: SegmentName, floor: u64, cancel: &'b Cancel, show: Show<'b>) -> Result<Summarized> {
        summarize(self.source, self.catalog, name, floor, cancel, show)
    }

    fn cluster(&self) -> u64 {
        self.catalog.system_identifier.unwrap_or(0)
    }

    fn bytes(&self, segments: usize) -> u64 {
        segments as u64 * self.catalog.segment_size.bytes()
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The missing ones in runs of consecutive segments, the newest first. The fewer are left, the shorter they are: so no core
/// waits for another one for longer than a segment takes.
fn runs(entries: &[Entry], missing: &[usize], cores: usize) -> Vec<Vec<usize>> {
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let mut longest = 1;
    for (behind, place) in missing.iter().enumerate() {
        let next = |run: &&mut Vec<usize>| {
            let timeline = |place: &usize| entries.get(*place).map(|entry| entry.name.timeline);
            run.len() < longest
                && run.last().is_some_and(|last| last + 1 == *place && timeline(last) == timeline(place))
        };
        match runs.last_mut().filter(next) {
            Some(run) => run.push(*place),
            None => {
                longest = (behind / (2 * cores)).clamp(1, RUN);
                runs.push(vec![*place]);
            }
        }
    }
    runs.reverse();
    runs
}

fn bytes_of(identity: Option<Identity>) -> [u8; Identity::BYTES] {
    identity.map_or([0; Identity::BYTES], |identity| identity.to_bytes())
}

/// Whether none of the files was changed just before they began to be read.
fn settled(entries: &[Entry], started: SystemTime) -> bool {
    let since = started.duration_since(UNIX_EPOCH).unwrap_or_default().saturating_sub(SETTLED);
    let since = i64::try_from(since.as_nanos()).unwrap_or(i64::MAX);
    entries.iter().filter_map(|entry| entry.identity).all(|identity| identity.changed_ns < since)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{PgMajor, Timestamp, Xid};
    use crate::wal::summary::{
        Damage, DatabaseDrop, End, Ended, Fate, Mark, MarkKind, Obstacle, ObstacleKind, OldestEnds, RelationWork,
        SharedDelete, Summary, Tail, Work,
    };
    use crate::wal::{HeldLock, LockChanges, ParameterChange, RelFileLocator};

    #[test]
    fn no_core_has_much_more_to_read_at_the_end_than_another() {
        let size = crate::core::SegmentSize::DEFAULT;
        let name = |number: u64| SegmentName::new(TimelineId(if number < 50 { 1 } else { 2 }), number, size);
        let entry = |number: u64| Entry { name: name(number), number, identity: None };
        let entries: Vec<Entry> = (0..100).map(entry).collect();
        let missing: Vec<usize> = (0..100).filter(|place| *place != 70).collect();
        let runs = runs(&entries, &missing, 2);
        let mut all: Vec<usize> = runs.concat();
        assert_eq!(runs[0].last(), Some(&99), "the newest first: {runs:?}");
        assert_eq!(runs.iter().map(Vec::len).max(), Some(RUN));
        for run in &runs {
            assert!(run.windows(2).all(|two| two[0] + 1 == two[1]), "{run:?} is not in a row");
            assert!(!(run.contains(&49) && run.contains(&50)), "{run:?} is of two timelines");
        }
        let left = |from: usize| runs[from..].iter().map(Vec::len).sum::<usize>();
        for (place, run) in runs.iter().enumerate() {
            assert!(run.len() <= (left(place + 1) / 4).max(1), "{run:?} with {} left", left(place + 1));
        }
        all.sort_unstable();
        assert_eq!(all, missing);
    }

    /// One with something in every field.
    fn summary() -> Summary {
        let at = Timestamp::from_unix_seconds(1_700_000_000).unwrap();
        let relation = RelFileLocator { tablespace: 1663, database: 5, relation: 16384 };
        let work = Work {
            relations: vec![RelationWork {
                relation,
                created: true,
                fresh: true,
                unlogged: false,
                inserted: 1,
                updated: 2,
                deleted: 3,
                pages: 4,
            }],
            deleted_beyond: 5,
            updated_beyond: 44,
            locked: vec![45],
            shared_delete: Some(SharedDelete { lsn: Lsn(46), mark: Some(Lsn(47)) }),
            first_lock: Some(Lsn(6)),
            truncated: vec![7],
            databases: vec![DatabaseDrop { database: 8, lsn: Lsn(9) }],
            created_beyond: true,
            rows_beyond: false,
        };
        let ended = Ended {
            lsn: Lsn(10),
            end_lsn: Lsn(11),
            xid: Xid(12),
            at,
            subxacts: vec![Xid(13)],
            dropped: vec![relation],
            dropped_oids: vec![14],
            work: work.clone(),
        };
        let mut oldest_ends = OldestEnds::default();
        for (xid, fate) in [(60, Fate::Committed(Box::new(ended.clone()))), (61, Fate::RolledBack)] {
            oldest_ends.add(Xid(xid), &[Xid(62)], fate);
        }
        (63..67).for_each(|xid| oldest_ends.add(Xid(xid), &[], Fate::RolledBack));
        let mark = |kind| Mark { lsn: Lsn(15), end_lsn: Lsn(16), at: Some(at), kind };
        let change = ParameterChange {
            wal_level: 17,
            max_connections: 18,
            max_worker_processes: 19,
            max_wal_senders: 20,
            max_prepared_transactions: 21,
            max_locks_per_transaction: 22,
            wal_log_hints: true,
            track_commit_timestamp: false,
        };
        let obstacle = |kind| Obstacle { lsn: Lsn(50), kind };
        Summary {
            system_identifier: 23,
            major: PgMajor(15),
            first: Some(Lsn(24)),
            before_first: Some(Lsn(25)),
            last: Some(Lsn(26)),
            end: Lsn(27),
            tail: Tail::CutOff,
            records: 28,
            commits: 29,
            aborts: 30,
            prepares: 31,
            times: Some((at, at)),
            first_and_last_time: Some((at, at)),
            last_commit: Some(End { lsn: Lsn(49), xid: Xid(50), at }),
            last_end: Some(End { lsn: Lsn(51), xid: Xid(52), at }),
            xids: Some((Xid(32), Xid(33))),
            oldest_running: Some(Xid(34)),
            complete_list: true,
            locks: LockChanges {
                ended: vec![Xid(53)],
                oldest: Some(Xid(54)),
                prepared: vec![Xid(55)],
                held: vec![HeldLock { database: 56, relation: 57, xid: Xid(58), from: Lsn(59), again: true }],
            },
            marks: vec![
                mark(MarkKind::RestorePoint("x".to_owned())),
                mark(MarkKind::Checkpoint(Lsn(35))),
                mark(MarkKind::BackupEnd(Lsn(36))),
                mark(MarkKind::EndOfRecovery(TimelineId(37))),
            ],
            parameter_changes: vec![(Lsn(38), change)],
            obstacles: vec![
                obstacle(ObstacleKind::TablespaceCreated { oid: 49, location: "w".to_owned() }),
                obstacle(ObstacleKind::Extension(200)),
                obstacle(ObstacleKind::WalLevelMinimal),
            ],
            notable: vec![ended.clone()],
            oldest_ends,
            open: vec![(Xid(39), work)],
            last_mark: Some(Lsn(48)),
            truncated: true,
            damage: vec![Damage { at: Lsn(40), found: Lsn(41), resumed: Some(Lsn(42)), reason: "y".to_owned() }],
            damaged_places: 43,
        }
    }

    /// Where this fails, the form of what is kept has changed: count [`FORMAT`] up, and put in what comes out now.
    #[test]
    fn what_is_kept_has_the_form_of_its_format() {
        let kept = [
            Ok(summary()),
            Err(Unreadable::Absent),
            Err(Unreadable::Foreign("z".to_owned())),
            Err(Unreadable::Failed("z".to_owned())),
        ];
        let packed: Vec<u8> = kept.iter().flat_map(|read: &Read| postcard::to_stdvec(read).unwrap()).collect();
        let digest: String = Sha256::digest(&packed).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        assert_eq!((FORMAT, digest.as_str()), (5, "e9c146619cbe2536"));
        assert_eq!(postcard::from_bytes::<Read>(&postcard::to_stdvec(&kept[0]).unwrap()).unwrap(), kept[0]);
    }
}
