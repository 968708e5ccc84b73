//! `walback timelines`

use crate::catalog::Timeline;
use crate::core::TimelineId;
use crate::core::progress::Bytes;
use crate::error::Result;

use super::table::{Align, Table, plain};
use super::{Context, print};

/// Lists timelines with what the archive has of each; gaps and damaged files by name.
///
/// # Errors
/// When the source cannot be read.
pub fn run(context: &Context) -> Result<u8> {
    let (_, catalog) = context.catalog()?;
    if context.json {
        context.print_json(&serde_json::json!({ "timelines": catalog.timelines }))?;
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
        ("STATE", Align::Left),
        ("REASON", Align::Left),
    ]);
    for timeline in &catalog.timelines {
        table.row(row(timeline, catalog.segment_size.bytes()));
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
        known(timeline.first_segment.map(|name| name.to_string())),
        known(timeline.last_segment.map(|name| name.to_string())),
        timeline.segments.to_string(),
        Bytes(timeline.segments * segment_bytes).to_string(),
        state,
        known(timeline.reason.as_ref().map(|reason| reason.trim().to_owned())),
    ]
}
