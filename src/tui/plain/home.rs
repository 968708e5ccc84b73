//! What there is to recover from, in lines: backups, timelines, activity, suspects, restore points, transactions.

use super::text::table;
use crate::app::points::{Place, Row};
use crate::app::state::{Loading, ScanState};
use crate::app::{State, suspects};
use crate::catalog::{Backup, Catalog, Point, PointKind, Suspect, Timeline};
use crate::core::progress::{Bytes, counted, grouped};
use crate::core::{SegmentName, Timestamp};
use crate::tui::screens::points::{changes, format};
use crate::tui::words;

/// Suspects and restore points of the overview.
const FEW: usize = 5;
/// Suspects that are listed when they are asked for.
const MANY: usize = 50;
/// Transactions of a page.
pub(super) const PAGE: u64 = 20;

/// Where it works, said once at the start.
pub(super) fn heading(state: &State) -> Vec<String> {
    let mut lines = vec![
        format!("Walback {}: lines instead of a screen. “help” lists the commands.", env!("CARGO_PKG_VERSION")),
        format!("source: {}", state.source),
        format!("times are in {}; now it is {}", state.zone, state.now.in_zone(state.zone)),
    ];
    if state.read_only {
        lines.push("--read-only was given: nothing is changed".to_owned());
    }
    lines
}

/// Backups and timelines.
pub(super) fn listed(state: &State, catalog: &Catalog) -> Vec<String> {
    let mut lines = vec![format!("{}, the newest first:", counted(catalog.backups.len() as u64, "base backup"))];
    let rows: Vec<_> = (1..).zip(&catalog.backups).map(|(number, backup)| backup_row(state, number, backup)).collect();
    lines.extend(table(&rows));
    lines.push(format!("{}:", counted(catalog.timelines.len() as u64, "timeline")));
    lines.extend(catalog.timelines.iter().flat_map(|timeline| timeline_lines(state, timeline)));
    lines.extend(catalog.problems.iter().map(|problem| format!("warning: {problem}")));
    lines
}

fn backup_row(state: &State, number: usize, backup: &Backup) -> Vec<String> {
    let when = backup.finished_at.or(backup.started_at).map(|at| at.short(state.zone));
    let mut row = vec![number.to_string(), when.unwrap_or_else(|| "no time".to_owned())];
    if let Some(problem) = backup.problems.first() {
        row.push(format!("cannot be used: {problem}"));
        return row;
    }
    let timeline = backup.timeline.map_or("timeline unknown".to_owned(), |id| format!("timeline {id}"));
    row.extend([format(backup), Bytes(backup.size_bytes).to_string(), timeline, backup.id.clone()]);
    row
}

fn timeline_lines(state: &State, timeline: &Timeline) -> Vec<String> {
    let fork = match (timeline.parent, timeline.forked_at_lsn) {
        (Some(parent), Some(at)) => format!(", left timeline {parent} at {at}"),
        _ => String::new(),
    };
    let last = timeline.last_commit_at.or_else(|| state.points.last_at(timeline.id));
    let last = last.map(|at| format!(", last transaction {}", at.in_zone(state.zone))).unwrap_or_default();
    let segments = counted(timeline.segments, "segment");
    let mut lines = vec![format!("  timeline {}{fork}: {segments}{last}", timeline.id)];
    lines.extend(timeline.gaps.iter().map(|gap| format!("    missing: {gap}")));
    lines.extend(timeline.damaged.iter().map(|file| format!("    damaged: {file}")));
    lines
}

/// The recoveries that were begun on this machine and are not discarded; nothing where there are none.
pub(super) fn recoveries(state: &State) -> Vec<String> {
    use crate::event::RecoveryState::Discarded;
    let left: Vec<_> = state.recoveries.iter().filter(|known| known.recovery.state != Discarded).collect();
    if left.is_empty() {
        return Vec::new();
    }
    let row = |known: &&crate::app::state::Known| {
        let recovery = &known.recovery;
        let target = recovery.target.in_words(state.zone);
        vec![recovery.id.clone(), recovery.state.to_string(), target, recovery.directory.display().to_string()]
    };
    let mut lines = vec!["recoveries begun on this machine; “recoveries NAME” opens one:".to_owned()];
    lines.extend(table(&left.iter().map(row).collect::<Vec<_>>()));
    lines
}

/// What the archive has, once it was read: activity, suspects, restore points, places where WAL is missing.
pub(super) fn archive(state: &State) -> Vec<String> {
    let overview = state.points.overview();
    let mut lines = match &state.scan.state {
        ScanState::Cancelled => vec!["reading was stopped: not everything is known; “reload” reads again".to_owned()],
        ScanState::Failed(_) => vec!["the WAL could not be read to its end".to_owned()],
        ScanState::Waiting | ScanState::Running => vec!["the WAL archive is still being read; so far:".to_owned()],
        ScanState::Finished => Vec::new(),
    };
    lines.push(activity(state));
    if !state.points.lacks().is_empty() {
        lines.push("recovery cannot go across:".to_owned());
    }
    for lack in state.points.lacks().iter().take(FEW) {
        let after = words::moment(lack.after, state.zone);
        lines.push(format!("  {}, timeline {}, after {after}", lack.words, lack.timeline));
    }
    lines.extend(suspect_lines(state, FEW));
    let names: Vec<&Point> = overview.marks.iter().filter(|point| point.kind == PointKind::RestorePoint).collect();
    lines.push(format!("{}{}", counted(names.len() as u64, "restore point"), if names.is_empty() { "" } else { ":" }));
    let newest = names.iter().rev().take(FEW);
    let row = |point: &&&Point| {
        let name = point.name.clone().unwrap_or_default();
        vec![name, words::moment(point.at, state.zone), format!("timeline {}", point.timeline)]
    };
    lines.extend(table(&newest.map(|point| row(&point)).collect::<Vec<_>>()));
    if names.len() > FEW {
        lines.push(format!("  and {} older", grouped((names.len() - FEW) as u64)));
    }
    lines
}

/// From when to when something was done, and how much.
fn activity(state: &State) -> String {
    let segments = state.points.segments();
    let first: Option<Timestamp> = segments.iter().filter_map(|segment| segment.earliest).min();
    let last = segments.iter().filter_map(|segment| segment.latest).max();
    let commits = counted(state.points.commits(), "commit");
    match first.zip(last) {
        Some((first, last)) => {
            format!("activity: {commits} from {} to {}", first.in_zone(state.zone), last.in_zone(state.zone))
        }
        None => "activity: no transaction is in what was read".to_owned(),
    }
}

/// All suspects that are listed when they are asked for.
pub(super) fn suspects(state: &State) -> Vec<String> {
    suspect_lines(state, MANY)
}

fn suspect_lines(state: &State, most: usize) -> Vec<String> {
    let overview = state.points.overview();
    let all = &overview.suspects;
    let partial = if overview.complete { "" } else { " so far" };
    if all.is_empty() {
        return vec![format!(
            "no suspect{partial}: nothing in it drops, truncates or rewrites, or deletes or updates many rows"
        )];
    }
    let mut lines =
        vec![format!("{}{partial}, the worst first; “choose N” goes to one:", counted(all.len() as u64, "suspect"))];
    let row = |(number, suspect): (usize, &Suspect)| {
        let at = suspect.at.in_zone(state.zone);
        let timeline = format!("timeline {}", suspect.timeline);
        vec![number.to_string(), at, format!("xid {}", suspect.xid), timeline, suspects::in_words(suspect)]
    };
    lines.extend(table(&(1..).zip(all).take(most).map(row).collect::<Vec<_>>()));
    if all.len() > most {
        let what = if most == FEW { "“suspects” lists them" } else { "“find” finds them" };
        lines.push(format!("  and {} more: {what}", grouped((all.len() - most) as u64)));
    }
    lines
}

/// What the cursor is on, in a sentence or several; nothing while that is being read.
pub(super) fn selected(state: &State) -> Vec<String> {
    match state.points.here() {
        Some(Row::Point(point)) => point_lines(state, point),
        Some(Row::Failed(_, why)) => vec![format!("selected: a segment that cannot be read: {why}")],
        Some(Row::Lack(lack)) => {
            let after = words::moment(lack.after, state.zone);
            vec![format!("selected: {}", lack.words), format!("  recovery comes up to {after} and no further")]
        }
        Some(Row::Waiting(_)) | None => Vec::new(),
    }
}

fn point_lines(state: &State, point: &Point) -> Vec<String> {
    let when = point.at.map(|at| format!(" at {}", crate::app::dialog::in_words(at, state.zone))).unwrap_or_default();
    let subject = match (point.kind, point.xid) {
        (PointKind::Commit, Some(xid)) => format!("transaction {xid}, which committed"),
        (PointKind::Abort, Some(xid)) => format!("transaction {xid}, which was rolled back"),
        _ => what(state, point),
    };
    let mut lines = vec![format!("selected: {subject}{when}")];
    lines.extend(state.points.suspects_of(point).flat_map(|suspect| {
        std::iter::once(format!("  it {}", suspects::in_words(suspect)))
            .chain(suspect.note.iter().map(|n| format!("  {n}")))
    }));
    let later = state.points.commits_after();
    let later = if later.number > 0 { format!("; {} after it", later.of("commit")) } else { String::new() };
    lines.push(format!("  LSN {}, timeline {}{later}", point.lsn, point.timeline));
    lines.extend(state.reach.why_not(point).map(|why| format!("  recovery cannot stop here: {why}")));
    lines
}

/// What a point is.
fn what(state: &State, point: &Point) -> String {
    match point.kind {
        PointKind::Commit if state.points.is_suspect(point) => {
            let words: Vec<String> = state.points.suspects_of(point).map(suspects::in_words).collect();
            format!("commit, suspect: {}", words.join(", "))
        }
        PointKind::Commit => changes(point).map_or("commit".to_owned(), |changes| format!("commit, {changes}")),
        PointKind::Abort => "rolled back".to_owned(),
        PointKind::RestorePoint => format!("restore point “{}”", point.name.as_deref().unwrap_or("?")),
        PointKind::BackupEnd => "end of a base backup".to_owned(),
        PointKind::EndOfRecovery => "a server was promoted".to_owned(),
        PointKind::EndOfWal => "end of the archived WAL".to_owned(),
        PointKind::Prepare => "prepared".to_owned(),
        PointKind::Checkpoint => "checkpoint".to_owned(),
    }
}

/// The rows of the page about the cursor.
pub(super) fn page_rows(state: &State) -> std::ops::Range<u64> {
    let all = state.points.len();
    let first = state.points.cursor().saturating_sub(PAGE / 2).min(all.saturating_sub(PAGE));
    first..all.min(first + PAGE)
}

fn row(state: &State, number: u64) -> Option<Row<'_>> {
    if number == state.points.cursor() { state.points.here() } else { state.points.row(number) }
}

/// Whether something of that page is being read.
pub(super) fn page_waits(state: &State) -> bool {
    page_rows(state).any(|number| matches!(row(state, number), Some(Row::Waiting(_))))
}

/// A page of transactions, and where each row of it is.
pub(super) fn page(state: &State) -> (Vec<String>, Vec<(u64, Option<Place>)>) {
    let range = page_rows(state);
    if range.is_empty() {
        return (vec!["no transaction has been read".to_owned()], Vec::new());
    }
    let heading = format!(
        "transactions {} to {} of {}; “choose N” goes to one, “next” and “previous” go on:",
        grouped(range.start + 1),
        grouped(range.end),
        grouped(state.points.len())
    );
    let mut rows = Vec::new();
    let mut places = Vec::new();
    for (number, place) in (1..).zip(range) {
        let Some(row) = row(state, place) else { break };
        let mut cells = vec![format!("{number}")];
        cells.extend(row_cells(state, row));
        if place == state.points.cursor() {
            cells.last_mut().into_iter().for_each(|what| what.push_str(" (selected)"));
        }
        rows.push(cells);
        places.push((place, place_of(state, row)));
    }
    (std::iter::once(heading).chain(table(&rows)).collect(), places)
}

fn row_cells(state: &State, row: Row<'_>) -> Vec<String> {
    let time = |at: Option<Timestamp>| at.map_or("no time".to_owned(), |at| words::row_time(at, state.zone));
    match row {
        Row::Point(point) => {
            let xid = point.xid.map_or(String::new(), |xid| format!("xid {xid}"));
            let timeline = format!("timeline {}", point.timeline);
            vec![time(point.at), timeline, xid, point.lsn.to_string(), what(state, point)]
        }
        Row::Waiting(segment) | Row::Failed(segment, _) => {
            let name = SegmentName::new(segment.timeline, segment.number, state.points.segment_size());
            let why = if let Row::Failed(_, why) = row { why } else { "being read" };
            vec![
                time(segment.earliest),
                format!("timeline {}", segment.timeline),
                String::new(),
                format!("{name}"),
                why.to_owned(),
            ]
        }
        Row::Lack(lack) => {
            let timeline = format!("timeline {}", lack.timeline);
            vec![time(lack.after), timeline, String::new(), lack.lsn.to_string(), lack.words.clone()]
        }
    }
}

/// Where a row is, for what can be chosen.
fn place_of(state: &State, row: Row<'_>) -> Option<Place> {
    match row {
        Row::Point(point) => Some((point.timeline, point.lsn)),
        Row::Lack(lack) => Some((lack.timeline, lack.lsn)),
        Row::Waiting(segment) | Row::Failed(segment, _) => {
            Some((segment.timeline, state.points.segment_size().start_of(segment.number)))
        }
    }
}

/// Where a row of the list is now.
pub(super) fn place_at(state: &State, number: u64) -> Option<Place> {
    row(state, number).and_then(|row| place_of(state, row))
}

/// Everything about the source, as it is known now.
pub(super) fn overview(state: &State) -> Vec<String> {
    let mut lines = match &state.catalog {
        Loading::Loaded(catalog) => listed(state, catalog),
        Loading::Loading => vec!["the backups are being listed".to_owned()],
        Loading::Failed(error) => vec![format!("the backups could not be listed: {}", error.report().message)],
    };
    lines.extend(recoveries(state));
    lines.extend(archive(state));
    lines.extend(selected(state));
    lines
}
