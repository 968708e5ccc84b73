//! What lies in the archive, read for the commands that tell of it, with a bar while that takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::suspect::Fate;
use crate::catalog::{Catalog, Overview, OverviewBuilder};
use crate::core::{SegmentName, Xid};
use crate::error::Result;
use crate::source::summarize::{Unreadable, summarize};
use crate::source::{LocalSource, Source};
use crate::wal::summary::Summary;

use super::Context;
use super::watch::Bar;

/// Reads everything, for suspects of at least `rows` rows.
///
/// # Errors
/// When a segment cannot be read, or when it was cancelled.
pub fn overview(context: &Context, source: &LocalSource, catalog: &Catalog, rows: u64) -> Result<Overview> {
    let mut builder = OverviewBuilder::new(rows);
    let bar = Bar::new("reading");
    let mut done = 0;
    for timeline in &catalog.timelines {
        builder.begin_timeline(timeline.id);
        let mut last = None;
        for name in catalog.segments_of(timeline.id) {
            let number = name.number(catalog.segment_size);
            for child in &catalog.timelines {
                let forks = child.parent == Some(timeline.id)
                    && child.forked_at_lsn.is_some_and(|fork| catalog.segment_size.number_of(fork) == number);
                if forks {
                    builder.fork(child.id);
                }
            }
            let summary = read(context, source, catalog, *name, rows / 2)?.ok();
            last = summary.as_ref().map(|summary| summary.end).or(last);
            builder.segment(timeline.id, number, summary.as_ref(), &mut |xids| {
                ask(context, source, catalog, *name, xids)
            });
            done += catalog.segment_size.bytes();
            bar.show(done, Some(catalog.segments.len() as u64 * catalog.segment_size.bytes()), None, None);
        }
        if let Some(end) = last {
            builder.end_of_wal(timeline.id, end);
        }
    }
    bar.clear();
    Ok(builder.finish())
}

fn read(
    context: &Context,
    source: &LocalSource,
    catalog: &Catalog,
    name: SegmentName,
    floor: u64,
) -> Result<std::result::Result<Summary, Unreadable>> {
    summarize(source as &dyn Source, catalog, name, floor, &context.cancel, &mut |_| {})
}

fn ask(context: &Context, source: &LocalSource, catalog: &Catalog, name: SegmentName, xids: &[Xid]) -> BTreeMap<Xid, Fate> {
    let wanted: BTreeSet<Xid> = xids.iter().copied().collect();
    let mut fates = BTreeMap::new();
    let _ = summarize(source as &dyn Source, catalog, name, 0, &context.cancel, &mut |record| {
        let (outcome, committed) = match &record.body {
            crate::wal::Body::Commit(outcome) => (outcome, true),
            crate::wal::Body::Abort(outcome) => (outcome, false),
            _ => return,
        };
        for xid in std::iter::once(&outcome.xid).chain(&outcome.subxacts).filter(|xid| wanted.contains(xid)) {
            fates.insert(*xid, if committed {
                Fate::Committed(Box::new(crate::wal::summary::Ended {
                    lsn: record.lsn,
                    end_lsn: record.end_lsn,
                    xid: outcome.xid,
                    at: outcome.at,
                    subxacts: outcome.subxacts.clone(),
                    dropped: outcome.dropped.clone(),
                    dropped_oids: outcome.dropped_statistics.clone(),
                    work: crate::wal::summary::Work::default(),
                }))
            } else { Fate::RolledBack });
        }
    });
    fates
}
