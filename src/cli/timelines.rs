//! `walback timelines`

use crate::catalog::{Catalog, Timeline};
use crate::core::progress::Bytes;
use crate::core::time::Timestamp;
use crate::core::{Lsn, SegmentName, TimelineId, Zone};
use crate::error::Result;
use crate::source::Cancel;
use crate::source::index::Index;
use crate::wal::Summary;

use super::table::{Align, Table, plain};
use super::{Context, archive, print};

/// So many segments at either end of a timeline are looked into for a commit: a list has to be there at once.
const LOOKED_INTO: usize = 3;

/// Lists timelines with what the archive has of each; gaps and damaged files by name.
///
/// # Errors
/// When the source cannot be read, or when it was interrupted.
pub fn run(context: &Context) -> Result<u8> {
    let (source, mut catalog) = context.catalog()?;
    let ends = {
        let index = archive::index(context, &source, &catalog, None);
        let ids = catalog.timelines.iter().map(|timeline| timeline.id);
        ids.map(|id| Ends::of(&index, &catalog, id, &context.cancel)).collect::<Result<Vec<_>>>()?
    };
    for (timeline, ends) in catalog.timelines.iter_mut().zip(ends) {
        timeline.first_commit_at = ends.first;
        timeline.last_commit_at = ends.last;
        timeline.end_lsn = ends.end.or(timeline.end_lsn);
        timeline.damaged.extend(ends.damaged);
        timeline.damaged.sort();
        timeline.damaged.dedup();
    }
    if context.json {
        context.print_json("timelines", &catalog.timelines)?;
        return Ok(0);
    }
    let mut table = Table::new(&[
        ("TLI", Align::Right),
        ("PARENT", Align::Right),
        ("FORKED AT", Align::Left),
        ("FIRST SEGMENT", Align::Left),
        ("LAST SEGMENT", Align::Left),
        ("SEGMENTS", Align::Right),
        ("SIZE", Align::Right),
        ("FIRST COMMIT", Align::Left),
        ("LAST COMMIT", Align::Left),
        ("STATE", Align::Left),
        ("REASON", Align::Left),
    ]);
    for timeline in &catalog.timelines {
        table.row(row(timeline, catalog.segment_size.bytes(), context.config.zone));
    }
    print(&table.render())?;
    for timeline in &catalog.timelines {
        for gap in &timeline.gaps {
            print(&format!("timeline {}: missing {gap}", timeline.id))?;
        }
        for name in &timeline.damaged {
            print(&format!("timeline {}: damaged {}", timeline.id, plain(name)))?;
        }
    }
    Ok(0)
}

/// What the first and the last segments of a timeline tell.
#[derive(Debug, Default)]
struct Ends {
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    end: Option<Lsn>,
    damaged: Vec<String>,
}

impl Ends {
    fn of(index: &Index<'_>, catalog: &Catalog, timeline: TimelineId, cancel: &Cancel) -> Result<Ends> {
        let mut ends = Ends::default();
        for name in catalog.segments_of(timeline).take(LOOKED_INTO) {
            let Some(summary) = ends.look_into(index, *name, cancel)? else { continue };
            if let Some((first, _)) = summary.first_and_last_time {
                ends.first = Some(first);
                break;
            }
        }
        for name in catalog.segments_of(timeline).rev().take(LOOKED_INTO) {
            let Some(summary) = ends.look_into(index, *name, cancel)? else { continue };
            if summary.records > 0 {
                ends.end.get_or_insert(summary.end);
            }
            if let Some((_, last)) = summary.first_and_last_time {
                ends.last = Some(last);
                break;
            }
        }
        Ok(ends)
    }

    fn look_into(&mut self, index: &Index<'_>, name: SegmentName, cancel: &Cancel) -> Result<Option<Summary>> {
        let read = index.summary(name, cancel)?;
        if read.as_ref().map_or(true, |summary| summary.damaged_places > 0) {
            self.damaged.push(name.to_string());
        }
        Ok(read.ok())
    }
}

fn row(timeline: &Timeline, segment_bytes: u64, zone: Zone) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match (timeline.gaps.len(), timeline.damaged.len()) {
        _ if timeline.id != TimelineId::FIRST && timeline.parent.is_none() => "NO HISTORY".to_owned(),
        (0, 0) if timeline.segments == 0 => "no WAL".to_owned(),
        (0, 0) => "whole".to_owned(),
        (0, _) => "DAMAGED".to_owned(),
        (_, 0) => "GAPS".to_owned(),
        _ => "GAPS, DAMAGED".to_owned(),
    };
    vec![
        timeline.id.to_string(),
        known(timeline.parent.map(|id| id.to_string())),
        known(timeline.forked_at_lsn.map(|lsn| lsn.to_string())),
        known(timeline.first_segment.map(|name| name.to_string())),
        known(timeline.last_segment.map(|name| name.to_string())),
        timeline.segments.to_string(),
        Bytes(timeline.segments * segment_bytes).to_string(),
        known(timeline.first_commit_at.map(|at| to_the_second(at, zone))),
        known(timeline.last_commit_at.map(|at| to_the_second(at, zone))),
        state,
        known(timeline.reason.as_ref().map(|reason| reason.trim().to_owned())),
    ]
}

/// `2024-10-02 14:30:05 +02:00`: a list of timelines is wide enough.
fn to_the_second(at: Timestamp, zone: Zone) -> String {
    let text = at.in_zone(zone);
    match text.split_once('.').and_then(|(second, rest)| Some((second, rest.split_once(' ')?.1))) {
        Some((second, offset)) => format!("{second} {offset}"),
        None => text,
    }
}
