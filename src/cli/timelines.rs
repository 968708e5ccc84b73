//! `walback timelines`

use crate::catalog::{Catalog, Timeline};
use crate::core::progress::Bytes;
use crate::core::time::Timestamp;
use crate::core::{Lsn, SegmentName, TimelineId, Zone};
use crate::error::Result;
use crate::source::Cancel;
use crate::source::index::Index;
use crate::wal::Summary;

use super::table::{Align, Table, plain, wrapped};
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
    let zone = context.config.zone;
    let mut table = Table::new(&[
        ("TLI", Align::Right),
        ("PARENT", Align::Right),
        ("FORKED AT", Align::Left),
        ("SEGMENTS", Align::Right),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
    ]);
    for timeline in &catalog.timelines {
        table.row(row(timeline, catalog.segment_size.bytes()));
    }
    print(&table.render())?;
    for timeline in &catalog.timelines {
        print(&format!("\ntimeline {}\n{}", timeline.id, details(timeline, zone)))?;
    }
    for asked in &catalog.asked {
        print(&format!("\n{}", wrapped("note: ", &plain(&asked.in_words()))))?;
    }
    for text in catalog.left_behind().map(|left| left.in_words()) {
        print(&format!("\n{}", wrapped("note: ", &text)))?;
    }
    Ok(0)
}

/// What does not fit into a row of 80 columns.
fn details(timeline: &Timeline, zone: Zone) -> String {
    let mut lines = Vec::new();
    if let (Some(first), Some(last)) = (timeline.first_segment, timeline.last_segment) {
        lines.push(format!("  segments {first} to {last}"));
    }
    if let (Some(first), Some(last)) = (timeline.first_commit_at, timeline.last_commit_at) {
        lines.push(format!("  commits  {} to {}", to_the_second(first, zone), to_the_second(last, zone)));
    }
    if let Some(reason) = &timeline.reason {
        lines.push(wrapped("  reason   ", &plain(reason.trim())));
    }
    lines.extend(timeline.gaps.iter().map(|gap| format!("  missing  {gap}")));
    lines.extend(timeline.damaged.iter().map(|name| format!("  damaged  {}", plain(name))));
    if lines.is_empty() {
        lines.push("  no WAL in the archive".to_owned());
    }
    lines.join("\n")
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

fn row(timeline: &Timeline, segment_bytes: u64) -> Vec<String> {
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
        timeline.segments.to_string(),
        Bytes(timeline.segments * segment_bytes).to_string(),
        state,
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
