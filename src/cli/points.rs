//! `walback points`

use crate::catalog::{Catalog, Gap, Point, PointKind};
use crate::core::progress::{counted, grouped};
use crate::core::time::Timestamp;
use crate::core::{Lsn, SegmentName, TimelineId, Zone};
use crate::engine::host::now;
use crate::error::{Error, Result};
use crate::source::LocalSource;
use crate::source::index::Index;
use crate::source::scan::Points;
use crate::source::summarize::{Show, summarize};
use crate::wal::{Record, Summary};

use super::args::{KindArg, Window, WindowArgs};
use super::table::plain;
use super::watch::Bar;
use super::{Context, archive, note, print};

/// Lines are written together, at the end of each segment and when so many bytes have come together.
const TOGETHER: usize = 64 << 10;

/// Lists recovery points in WAL's order, as they are read.
///
/// # Errors
/// When the source cannot be read, or when it was interrupted.
pub fn run(context: &Context, window: &WindowArgs, kinds: &[KindArg]) -> Result<u8> {
    let window = window.window(context.config.zone, now())?;
    let (source, catalog) = context.catalog()?;
    let timelines = archive::timelines(&catalog, &window)?;
    let index = archive::index(context, &source, &catalog, None);
    let kinds: Vec<PointKind> = kinds.iter().map(|kind| PointKind::from(*kind)).collect();
    let mut listing = Listing {
        context,
        source: &source,
        catalog: &catalog,
        index: &index,
        window,
        kinds: &kinds,
        out: Lines::new(context.json, context.config.zone),
        bar: Bar::new("reading"),
        done: 0,
        total: timelines.iter().map(|id| catalog.segments_of(*id).count() as u64).sum(),
    };
    for timeline in timelines {
        listing.timeline(timeline)?;
    }
    listing.bar.clear();
    listing.out.flush()?;
    if listing.out.printed == 0 {
        note("there is no such recovery point in the archive");
    }
    Ok(0)
}

struct Listing<'a> {
    context: &'a Context,
    source: &'a LocalSource,
    catalog: &'a Catalog,
    index: &'a Index<'a>,
    window: Window,
    /// None: those that are listed of themselves.
    kinds: &'a [PointKind],
    out: Lines,
    bar: Bar,
    /// Segments.
    done: u64,
    total: u64,
}

impl Listing<'_> {
    fn timeline(&mut self, timeline: TimelineId) -> Result<()> {
        let known = self.catalog.timelines.iter().find(|known| known.id == timeline);
        let from = known.and_then(|timeline| timeline.forked_at_lsn).unwrap_or(Lsn::INVALID);
        let mut points = Points::default();
        let mut place = Place { timeline, from, clock: None, end: None };
        for name in self.catalog.segments_of(timeline) {
            self.segment(*name, &mut points, &mut place)?;
        }
        if let Some(end) = place.end {
            self.take(&mut place, Point::at(PointKind::EndOfWal, timeline, end, end))?;
        }
        self.out.flush()
    }

    /// Lists what is wanted of one segment; reads it only where there may be something.
    fn segment(&mut self, name: SegmentName, points: &mut Points, place: &mut Place) -> Result<()> {
        let size = self.catalog.segment_size.bytes();
        self.warn_of_gap(name);
        self.done += 1;
        self.bar.show(self.done * size, Some(self.total * size), None, None);
        if self.window.is_bounded() {
            match self.index.summary(name, &self.context.cancel)? {
                Ok(summary) if !may_hold(&self.window, &summary) => {
                    place.clock = summary.first_and_last_time.map(|(_, last)| last).or(place.clock);
                    place.end = (summary.records > 0).then_some(summary.end).or(place.end);
                    return Ok(());
                }
                _ => {}
            }
        }
        let (source, catalog, cancel) = (self.source, self.catalog, self.context.cancel.clone());
        let mut failed = None;
        let mut each = |record: &Record| {
            let Some(point) = points.of(record).filter(|point| point.lsn >= place.from && failed.is_none()) else {
                return;
            };
            let point = Point { timeline: place.timeline, ..point };
            failed = self.take(place, point).err();
        };
        let read = summarize(source, catalog, name, u64::MAX, &cancel, Show::Records(&mut each))?;
        if let Some(error) = failed {
            return Err(error);
        }
        match read.read {
            Ok(summary) => {
                place.end = (summary.records > 0).then_some(summary.end).or(place.end);
                for damage in &summary.damage {
                    self.warn(&format!("segment {name} is damaged at {}: {}", damage.at, damage.reason));
                }
            }
            Err(unreadable) => self.warn(&format!("segment {name} is left out: {unreadable}")),
        }
        self.out.flush()
    }

    /// Lists a point, where it is wanted.
    fn take(&mut self, place: &mut Place, point: Point) -> Result<()> {
        // What has no time happened at that of what stands before it, at the earliest. Checkpoints are told when they
        // end, and their times only to the second.
        if matches!(point.kind, PointKind::Commit | PointKind::Abort) {
            place.clock = point.at;
        }
        let at = point.at.or(place.clock);
        let in_time = at.map_or(self.window.from.is_none(), |at| self.window.has(at));
        if !in_time || !self.is_wanted(point.kind) {
            return Ok(());
        }
        if self.out.printed == 0 {
            self.bar.clear();
        }
        self.out.add(&point)
    }

    fn is_wanted(&self, kind: PointKind) -> bool {
        if self.kinds.is_empty() { kind.is_listed() } else { self.kinds.contains(&kind) }
    }

    /// Says where segments are missing before this one: no recovery that begins before them comes to what is listed
    /// behind.
    fn warn_of_gap(&self, name: SegmentName) {
        let size = self.catalog.segment_size;
        let timelines = self.catalog.timelines.iter().filter(|timeline| timeline.id == name.timeline);
        let before = |gap: &&Gap| gap.last.number(size) + 1 == name.number(size);
        if let Some(gap) = timelines.flat_map(|timeline| &timeline.gaps).find(before) {
            self.warn(&format!("timeline {} lacks {gap}: what happened there is not known", name.timeline));
        }
    }

    fn warn(&self, words: &str) {
        self.bar.clear();
        note(&format!("warning: {}; “walback check” says more", plain(words)));
    }
}

/// How far the listing of one timeline is.
struct Place {
    timeline: TimelineId,
    /// Its fork: what its first segment has before that is its parent's.
    from: Lsn,
    /// When the last transaction so far ended.
    clock: Option<Timestamp>,
    /// Just behind the last record so far.
    end: Option<Lsn>,
}

/// Whether a segment may hold a point of the window.
fn may_hold(window: &Window, summary: &Summary) -> bool {
    let marks = summary.marks.iter().filter_map(|mark| mark.at);
    let (earliest, latest) = match summary.times {
        Some((earliest, latest)) => (Some(earliest), Some(latest)),
        None => (None, None),
    };
    let earliest = marks.clone().chain(earliest).min();
    let latest = marks.chain(latest).max();
    // Preparing has a time too, which no summary has; what has none happened at that of what stands before it.
    let elsewhen = summary.prepares > 0 || summary.marks.iter().any(|mark| mark.at.is_none());
    elsewhen || earliest.zip(latest).is_none_or(|(earliest, latest)| window.meets(earliest, latest))
}

/// Lines on standard output, several at a time.
struct Lines {
    json: bool,
    zone: Zone,
    text: String,
    printed: u64,
}

impl Lines {
    fn new(json: bool, zone: Zone) -> Lines {
        Lines { json, zone, text: String::new(), printed: 0 }
    }

    fn add(&mut self, point: &Point) -> Result<()> {
        if self.json {
            self.text.push_str(&serde_json::to_string(point).map_err(|error| {
                Error::failed("no-json", "a recovery point cannot be written as JSON").caused_by(&error)
            })?);
        } else {
            if self.printed == 0 {
                self.text.push_str(HEAD);
                self.text.push('\n');
            }
            self.text.push_str(&row(point, self.zone));
        }
        self.text.push('\n');
        self.printed += 1;
        if self.text.len() >= TOGETHER { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        if self.text.is_empty() {
            return Ok(());
        }
        let text = std::mem::take(&mut self.text);
        print(text.trim_end_matches('\n'))
    }
}

const HEAD: &str = "AT                                TLI         XID  LSN                KIND             WHAT";

/// The columns are as wide as any time, number and position is: rows are printed before the next ones are known.
fn row(point: &Point, zone: Zone) -> String {
    let at = point.at.map_or_else(|| "-".to_owned(), |at| at.in_zone(zone));
    let xid = point.xid.map_or_else(|| "-".to_owned(), |xid| xid.to_string());
    let (timeline, lsn, kind) = (point.timeline.to_string(), point.lsn.to_string(), point.kind.name());
    let line = format!("{at:<33} {timeline:>3}  {xid:>10}  {lsn:<17}  {kind:<15}  {}", what(point));
    line.trim_end().to_owned()
}

/// What else is known of a point, in words.
fn what(point: &Point) -> String {
    let mut words = Vec::new();
    if let Some(name) = &point.name {
        words.push(format!("“{}”", plain(name)));
    }
    let told = [("drops", point.drops, "file"), ("deletes", point.deletes, "row"), ("updates", point.updates, "row")];
    let told = told.iter().filter(|(_, number, _)| *number > 0);
    words.extend(told.map(|(does, number, of)| format!("{does} {}", counted(*number, of))));
    if point.subxacts > 0 {
        words.push(format!("{} subtransaction{}", grouped(point.subxacts), if point.subxacts == 1 { "" } else { "s" }));
    }
    words.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::PgMajor;
    use crate::wal::summary::{Mark, MarkKind, Summarizer, Tail};

    #[test]
    fn what_has_no_time_may_be_of_any() {
        let at = |second| Timestamp::from_unix_seconds(second).unwrap();
        let mut summary = Summarizer::new(1, PgMajor(15), Lsn::INVALID, 50).finish(Tail::Full);
        summary.times = Some((at(100), at(200)));
        let window = |from, to| Window { from: Some(at(from)), to: Some(at(to)), timeline: None };
        assert!(may_hold(&window(150, 160), &summary));
        assert!(!may_hold(&window(50, 60), &summary));
        summary.marks.push(Mark { lsn: Lsn(8), end_lsn: Lsn(16), at: None, kind: MarkKind::BackupEnd(Lsn(8)) });
        assert!(may_hold(&window(50, 60), &summary), "the segment before ends at 55");
    }
}
