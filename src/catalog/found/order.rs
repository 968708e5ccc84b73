//! In which order the archives of one cluster are asked: the most complete first, the `pg_wal` of a server last.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::core::progress::{counted, grouped};
use crate::core::{Lsn, SegmentName, TimelineId};
use crate::pgdata::History;

use super::super::LeftAlone;
use super::{ArchiveKind, FoundArchive, MetArchive};

/// Puts them in order, and says why. `start` is where the oldest backup starts: what lies before it, nobody needs. Those
/// that contradict one before them are left alone.
pub(super) fn in_order(
    mut archives: Vec<MetArchive>,
    start: Option<Lsn>,
    left_alone: &mut Vec<LeftAlone>,
) -> Vec<FoundArchive> {
    let wanted: BTreeSet<SegmentName> = archives
        .iter()
        .filter(|archive| archive.kind == ArchiveKind::Archive)
        .flat_map(|archive| needed(archive, start))
        .collect();
    let lacks = |archive: &MetArchive| wanted.difference(&archive.catalog.segments).count();
    archives.sort_by_cached_key(|archive| {
        (archive.kind, lacks(archive), !archive.catalog.compressions.is_empty(), archive.path.clone())
    });
    archives = without_contradictions(archives, left_alone);
    let of_archives = archives.iter().filter(|archive| archive.kind == ArchiveKind::Archive).count();
    let placed = archives.into_iter().enumerate().map(|(place, archive)| {
        let has = wanted.len() - lacks(&archive);
        let why = match archive.kind {
            ArchiveKind::Archive if of_archives == 1 => "the only archive".to_owned(),
            ArchiveKind::Archive => {
                let order = if place == 0 { "asked first" } else { "asked next" };
                let wanted = grouped(wanted.len() as u64);
                let of = if start.is_some() { "from the oldest backup on" } else { "that there are" };
                match lacks(&archive) {
                    0 => format!("{order}: has all {wanted} segments {of}"),
                    _ => format!("{order}: has {} of the {wanted} segments {of}", grouped(has as u64)),
                }
            }
            ArchiveKind::PgWal => {
                let own = in_words(needed(&archive, start).filter(|name| !wanted.contains(name)).count() as u64);
                format!("asked last: the pg_wal of a server that does not run here; {own}")
            }
            ArchiveKind::PgWalOfRunning => {
                let own = in_words(needed(&archive, start).filter(|name| !wanted.contains(name)).count() as u64);
                format!("asked last: the pg_wal of a running server, which removes WAL from it as it goes on; {own}")
            }
        };
        FoundArchive::of(archive, why)
    });
    placed.collect()
}

/// What a `pg_wal` has that no archive has.
fn in_words(own: u64) -> String {
    match own {
        0 => "it has nothing now that no archive has".to_owned(),
        own => format!("{} that no archive has", counted(own, "segment")),
    }
}

/// The segments that recovery from the oldest backup may need.
fn needed(archive: &MetArchive, start: Option<Lsn>) -> impl Iterator<Item = SegmentName> {
    let size = archive.catalog.segment_size;
    let from = start.map_or(0, |start| size.number_of(start));
    archive.catalog.segments.iter().copied().filter(move |name| name.number(size) >= from)
}

/// Two histories of one timeline tell of two timelines that have the same number: of those, one only can be followed.
fn without_contradictions(archives: Vec<MetArchive>, left_alone: &mut Vec<LeftAlone>) -> Vec<MetArchive> {
    let mut known: BTreeMap<TimelineId, (History, PathBuf)> = BTreeMap::new();
    let mut kept = Vec::new();
    for archive in archives {
        let histories = &archive.catalog.histories;
        let contradicted = histories.iter().find_map(|(timeline, history)| {
            known.get(timeline).filter(|(other, _)| other != history).map(|(_, place)| (*timeline, place.clone()))
        });
        if let Some((timeline, place)) = contradicted {
            let why = format!(
                "its timeline {timeline} is not the one that {} has: two servers were promoted to the same number; give \
                 it with --wal instead of that one, if it is the one to be followed",
                place.display()
            );
            left_alone.push(LeftAlone { path: archive.path, why });
            continue;
        }
        for (timeline, history) in histories {
            known.entry(*timeline).or_insert_with(|| (history.clone(), archive.path.clone()));
        }
        kept.push(archive);
    }
    kept
}
