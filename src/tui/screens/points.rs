//! Home: backups and timelines on top, activity and transactions below, details of what is selected.
//!
//! ```text
//! ╭ Backups ───────╮╭ Timelines ───────╮
//! ╰────────────────╯╰──────────────────╯
//! ╭ Activity ──────────────────────────╮
//! ├ Transactions ──────────────────────┤
//! ├────────────────────────────────────┤
//! ╰────────────────────────────────────╯
//! ```

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::chart::MarkKind;
use crate::app::keys::key_of;
use crate::app::points::{Lack, Row};
use crate::app::state::{Loading, ScanState};
use crate::app::{Act, Hit, Pane, State, course, drills, suspects};
use crate::catalog::overview::SegmentRows;
use crate::catalog::{Backup, Catalog, Point, PointKind, Suspect};
use crate::core::progress::{Bytes, Seconds, counted, grouped};
use crate::core::{SegmentName, Timestamp, Zone};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};
use crate::tui::widgets::doc::Doc;
use crate::tui::widgets::{chart, timelines};
use crate::tui::words;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let panes = panes_height(state, body);
    let top = Rect { height: panes, ..body };
    let rest = Rect { y: body.y + panes, height: body.height - panes, ..body };
    if panes > 0 {
        let left = body.width / 2;
        backups(canvas, state, Rect { width: left, ..top });
        graph(canvas, state, Rect { x: body.x + left, width: body.width - left, ..top });
    }
    match state.pane {
        // Where there is no room for panes side by side, the one that has the keys is all that is drawn.
        Pane::Backups if panes == 0 => backups(canvas, state, rest),
        Pane::Timelines if panes == 0 => graph(canvas, state, rest),
        Pane::Chart if chart::rows(rest.height) == (0, 0) => only_chart(canvas, state, rest),
        _ => lower(canvas, state, rest),
    }
}

/// The chart alone, where there is no room for it beside the list.
fn only_chart(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    canvas.hit(area, Hit::Pane(Pane::Chart));
    let (title, legend) = chart::titles(state, area.width);
    let inner = canvas.frame(area, &title, &legend, true);
    let below = if inner.height > 3 { 2 } else { 1 };
    chart::draw(canvas, state, inner, (inner.height.saturating_sub(below), below));
}

fn panes_height(state: &State, body: Rect) -> u16 {
    // The graph has a row for its axis.
    let wanted = state.loaded().map_or(1, |catalog| catalog.backups.len().max(catalog.timelines.len() + 1)) as u16;
    match body.height {
        0..14 => 0,
        14..30 => 2 + wanted.clamp(2, 3),
        height => 2 + wanted.clamp(3, height / 4),
    }
}

fn backups(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let focused = state.pane == Pane::Backups;
    let count = state.loaded().map_or(String::new(), |c| grouped(c.backups.len() as u64));
    // What an accident would cost now is to be seen before there is one.
    let takes = drills::forecast_of_newest(state).map(|seconds| format!("restore ~{}", Seconds(seconds)));
    let title = if takes.is_some() { format!("Backups  {count}") } else { "Backups".to_owned() };
    let inner = canvas.frame(area, &title, &takes.unwrap_or(count), focused);
    canvas.hit(area, Hit::Pane(Pane::Backups));
    let Some(catalog) = catalog_or_why(canvas, state, inner) else { return };
    if catalog.backups.is_empty() {
        canvas.line(inner, 0, &Line::from("no base backup here"));
    }
    let rows = usize::from(inner.height);
    let first = state.backup.saturating_sub(rows / 2).min(catalog.backups.len().saturating_sub(rows));
    for (row, (place, backup)) in catalog.backups.iter().enumerate().skip(first).take(rows).enumerate() {
        let line = backup_row(canvas, state, backup, place == state.backup, inner.width);
        canvas.line(inner, row, &line);
        let area = Rect { y: inner.y + row as u16, height: 1, ..inner };
        if focused && place == state.backup {
            canvas.style(area, canvas.theme.selected());
        }
        canvas.hit(area, Hit::Backup(place));
    }
}

/// The catalog, or what stands in its place until it is there.
fn catalog_or_why<'s>(canvas: &mut Canvas<'_>, state: &'s State, area: Rect) -> Option<&'s Catalog> {
    match &state.catalog {
        Loading::Loaded(catalog) => return Some(catalog),
        Loading::Loading => canvas.line(area, 0, &Line::from("listing …")),
        Loading::Failed(error) => {
            let mut doc = Doc::new(area.width, canvas.theme);
            doc.paragraph(&error.report().message, canvas.theme.bad());
            for (row, line) in doc.lines().iter().enumerate() {
                canvas.line(area, row, line);
            }
        }
    }
    None
}

/// Format and compression as they are called in a directory listing.
pub(crate) fn format(backup: &Backup) -> String {
    use crate::catalog::BackupKind::{Directory, Tar};
    match (backup.kind, backup.compression) {
        (Tar, compression) => format!("tar{}", compression.ending()),
        (Directory, _) => "plain".to_owned(),
    }
}

fn backup_row(canvas: &Canvas<'_>, state: &State, backup: &Backup, here: bool, columns: u16) -> Line<'static> {
    let theme = canvas.theme;
    let cursor = if here { glyphs::CURSOR } else { " " };
    let when = backup.finished_at.or(backup.started_at).map(|at| at.short(state.zone));
    let when = when.unwrap_or_else(|| format!("{:<11}", "no time"));
    let mut spans = vec![Span::raw(format!("{cursor} "))];
    if let Some(problem) = backup.problems.first() {
        let room = usize::from(columns).saturating_sub(16);
        spans.push(Span::styled(format!("{} {when} {}", glyphs::BAD, cut(&clean(problem), room)), theme.bad()));
        return Line::from(spans);
    }
    spans.push(Span::styled(glyphs::BACKUP, theme.good()));
    let timeline = backup.timeline.map_or("?".to_owned(), |id| id.to_string());
    let size = Bytes(backup.size_bytes).to_string();
    // An incremental one is marked: by itself it is only a part of the data.
    let plus = if backup.incremental_from.is_some() { " +" } else { "" };
    let mut text = format!(" {when} {:<6} {size:>8} TLI {timeline}{plus}", format(backup));
    // From here on to the end of WAL, as drills and recoveries went here.
    let takes = drills::forecast(state, backup).and_then(|estimate| estimate.total_s);
    let takes = takes.map(|seconds| format!("  ~{}", Seconds(seconds))).unwrap_or_default();
    if usize::from(columns) > width(&text) + width(&takes) {
        text.push_str(&takes);
    }
    if usize::from(columns) > width(&text) + 12 {
        text.push_str(&format!("  {}", clean(&backup.id)));
        let upon = backup.parent.as_ref().map(|parent| format!(" upon {}", clean(parent))).unwrap_or_default();
        // Only as a whole: half a name is another backup's.
        text.push_str(if usize::from(columns) > width(&text) + width(&upon) { &upon } else { "" });
    }
    spans.push(Span::raw(text));
    Line::from(spans)
}

/// What the graph's signs mean, as many of those that are there as there is room for.
fn graph_legend(state: &State, columns: u16) -> String {
    let stop = course::chosen(state).map(|_| (glyphs::TARGET, "stop"));
    let backup = Some((glyphs::BACKUP, "backup"));
    let named = state.points.restore_points().next().map(|_| (glyphs::RESTORE_POINT, "restore point"));
    let suspect = (state.points.suspects_listed() > 0).then_some((glyphs::SUSPECT, "suspect"));
    let lack = (!state.points.lacks().is_empty()).then_some((glyphs::BAD, "gap"));
    let unreached = (!state.chart.view().unreached.is_empty()).then_some((glyphs::UNREACHED, "out of reach"));
    let signs: Vec<_> = [stop, backup, named, suspect, lack, unreached].into_iter().flatten().collect();
    chart::legend(&signs, usize::from(columns).saturating_sub(20))
}

fn graph(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let legend = graph_legend(state, area.width);
    let title = match state.points.filter() {
        Some(id) => format!("Timelines: only {id}"),
        None => "Timelines".to_owned(),
    };
    let inner = canvas.frame(area, &title, &legend, state.pane == Pane::Timelines);
    canvas.hit(area, Hit::Pane(Pane::Timelines));
    let Loading::Loaded(catalog) = &state.catalog else { return };
    if catalog.timelines.is_empty() {
        canvas.line(inner, 0, &Line::from("no WAL in the archive"));
    }
    timelines::draw(canvas, state, catalog, inner);
}

/// Activity, transactions and details, in one frame.
fn lower(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let focused = state.pane == Pane::Points;
    let (bars, below) = chart::rows(area.height);
    let details: u16 = match area.height {
        0..8 => 0,
        8..22 => 2,
        _ => 4,
    };
    canvas.hit(area, Hit::Pane(Pane::Points));
    let (title, right) = list_titles(state);
    let inner = if bars == 0 {
        canvas.frame(area, &title, &right, focused)
    } else {
        let (title, legend) = chart::titles(state, area.width);
        canvas.frame(area, &title, &legend, state.pane == Pane::Chart)
    };
    let mut list = inner;
    if bars > 0 {
        let rows = bars + below;
        canvas.hit(Rect { height: rows + 1, ..area }, Hit::Pane(Pane::Chart));
        chart::draw(canvas, state, Rect { height: rows, ..inner }, (bars, below));
        let y = inner.y + rows;
        canvas.divider(area, y, &title, &right, focused);
        list = Rect { y: y + 1, height: inner.height.saturating_sub(rows + 1), ..inner };
    }
    if details > 0 {
        list.height = list.height.saturating_sub(details + 1);
        let y = list.bottom();
        canvas.divider(area, y, "", "", focused);
        detail(canvas, state, Rect { y: y + 1, height: details, ..inner });
    }
    rows(canvas, state, list);
}

fn list_titles(state: &State) -> (String, String) {
    let only = state.points.filter().map(|id| format!(" on timeline {id}")).unwrap_or_default();
    let title = format!("Transactions{only}");
    let scan = &state.scan;
    let right = match &scan.state {
        ScanState::Waiting if matches!(state.catalog, Loading::Failed(_)) => "nothing was read".to_owned(),
        ScanState::Waiting => "listing comes first".to_owned(),
        ScanState::Running if scan.total == 0 => "reading WAL …".to_owned(),
        ScanState::Running => {
            let eta = scan.pace.eta_s(scan.total).map(|eta| format!(", about {} left", Seconds(eta)));
            let percent = scan.done.saturating_mul(100) / scan.total;
            let (eta, stop) = (eta.unwrap_or_default(), key_of(state, Act::CancelScan));
            format!("reading WAL: {percent} % of {}{eta}, {stop} stops", Bytes(scan.total))
        }
        ScanState::Cancelled => {
            format!("stopped: not everything is listed; {} reads again", key_of(state, Act::Reload))
        }
        ScanState::Failed(_) => format!("{} WAL could not be read to its end", glyphs::BAD),
        ScanState::Finished => {
            let suspects = match state.points.suspects_listed() as u64 {
                0 => "no suspect".to_owned(),
                n => counted(n, "suspect"),
            };
            let here = if state.points.is_empty() { 0 } else { state.points.cursor() + 1 };
            format!("{suspects}  {} of {}", grouped(here), grouped(state.points.len()))
        }
    };
    (title, right)
}

/// Below so many columns the rows have only what names a transaction; the rest is in the details.
const NARROW: usize = 64;

/// From so many columns on, rows have the position in WAL, too; the details have it always.
const WIDE: usize = 100;

/// Whether rows say which timeline they are on: where there is room, or more than one.
fn says_timeline(state: &State, columns: usize) -> bool {
    columns >= WIDE || state.points.timelines().len() > 1
}

/// Only the rows that are seen are made, around the cursor: what happened before and after it is always in view.
fn rows(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    if area.height < 2 {
        return;
    }
    let theme = canvas.theme;
    let columns = usize::from(area.width);
    let zone = cut(&state.zone.to_string(), 21);
    let heading = match columns {
        0..NARROW => format!("  {:<15} {:>10}  what", cut(&zone, 15), "xid"),
        _ => {
            let timeline = if says_timeline(state, columns) { " TLI" } else { "" };
            let position = if columns >= WIDE { format!(" {:>12}", "LSN") } else { String::new() };
            format!("  {zone:<21}{timeline} {:>10}{position}  what", "xid")
        }
    };
    canvas.line(area, 0, &Line::from(Span::styled(heading, theme.label())));
    let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    if state.points.is_empty() {
        empty(canvas, state, area);
    }
    canvas.drawn.page = usize::from(area.height);
    let height = u64::from(area.height);
    let cursor = state.points.cursor();
    let first = cursor.saturating_sub(height / 2).min(state.points.len().saturating_sub(height));
    // One more on either side: clocks may be changed between what is seen and what is not.
    let before = first.saturating_sub(1);
    let at = |number: u64| if number == cursor { state.points.here() } else { state.points.row(number) };
    let around: Vec<_> = (before..first.saturating_add(height).saturating_add(1)).map_while(at).collect();
    let offsets = changed_offsets(&around, state.zone);
    let skipped = usize::from(before < first);
    let seen = (first..).zip(around.into_iter().zip(offsets).skip(skipped));
    for (place, (number, (row, with_offset))) in seen.take(usize::from(area.height)).enumerate() {
        let here = number == cursor;
        canvas.line(area, place, &row_line(canvas, state, row, (here, with_offset), columns));
        let place = Rect { y: area.y + place as u16, height: 1, ..area };
        if here && state.pane == Pane::Points {
            canvas.style(place, theme.selected());
        }
        canvas.hit(place, Hit::Point(number));
    }
}

fn empty(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let text = match &state.scan.state {
        ScanState::Waiting if matches!(state.catalog, Loading::Failed(_)) => "the backups could not be listed",
        ScanState::Waiting | ScanState::Running => "reading the WAL archive …",
        ScanState::Finished | ScanState::Cancelled => "nothing at which recovery could stop was found",
        ScanState::Failed(error) => &error.report().message,
    };
    let line = format!("  {}", clean(text));
    canvas.line(area, 0, &Line::from(line));
}

/// From when to when a row goes.
fn times_of(row: Row<'_>) -> Option<(Timestamp, Timestamp)> {
    match row {
        Row::Point(point) => point.at.map(|at| (at, at)),
        Row::Waiting(segment) | Row::Failed(segment, _) => segment.earliest.zip(segment.latest),
        Row::Lack(lack) => lack.after.map(|at| (at, at)),
    }
}

/// Of rows that follow each other, those between which a zone's clocks are changed.
pub(crate) fn changed_offsets(rows: &[Row<'_>], zone: Zone) -> Vec<bool> {
    let mut changed = vec![false; rows.len()];
    let mut last: Option<(usize, i64)> = None;
    for (number, row) in rows.iter().enumerate() {
        let Some((from, to)) = times_of(*row) else { continue };
        if let Some((before, offset)) = last
            && offset != from.utc_offset_s(zone)
        {
            for row in [before, number] {
                changed.get_mut(row).into_iter().for_each(|changed| *changed = true);
            }
        }
        last = Some((number, to.utc_offset_s(zone)));
    }
    changed
}

fn row_line(
    canvas: &Canvas<'_>,
    state: &State,
    row: Row<'_>,
    (here, with_offset): (bool, bool),
    columns: usize,
) -> Line<'static> {
    let theme = canvas.theme;
    let cursor = if here { glyphs::CURSOR } else { " " };
    let (time, timeline, xid, lsn, what, style) = match row {
        Row::Point(point) => {
            let (what, style) = what(canvas, state, point, columns >= 100);
            let time = point.at.map_or(String::new(), |at| at.in_row(state.zone, with_offset));
            let xid = point.xid.map_or(String::new(), |xid| xid.to_string());
            (time, point.timeline, xid, point.lsn.to_string(), what, style)
        }
        Row::Waiting(segment) => {
            let name = SegmentName::new(segment.timeline, segment.number, state.points.segment_size());
            let time = stretch_of(segment, state.zone, with_offset);
            (time, segment.timeline, "…".into(), "…".into(), name.to_string(), theme.dim())
        }
        Row::Failed(segment, why) => {
            let what = format!("{} {why}", glyphs::BAD);
            (
                stretch_of(segment, state.zone, with_offset),
                segment.timeline,
                "?".into(),
                "?".into(),
                clean(&what).into(),
                theme.bad(),
            )
        }
        Row::Lack(lack) => {
            let time = lack.after.map_or(String::new(), |at| at.in_row(state.zone, with_offset));
            let what = format!("{} {}", glyphs::BAD, lack.words);
            (time, lack.timeline, String::new(), lack.lsn.to_string(), what, theme.bad())
        }
    };
    let lead = if columns < NARROW {
        let has_date = time.get(2..3) == Some("-");
        let time = if has_date { time.get(6..).unwrap_or_default() } else { &time };
        format!("{cursor} {:<15} {xid:>10}  ", cut(time, 15))
    } else {
        let timeline = if says_timeline(state, columns) { format!(" {:>3}", timeline.0) } else { String::new() };
        let position = if columns >= WIDE { format!(" {lsn:>12}") } else { String::new() };
        format!("{cursor} {time:<21}{timeline} {xid:>10}{position}  ")
    };
    let room = columns.saturating_sub(width(&lead));
    let reached = match row {
        Row::Point(point) => state.reach.reaches(point),
        Row::Waiting(_) => false,
        Row::Failed(..) | Row::Lack(_) => true,
    };
    let (lead_style, style) = if reached { (theme.plain(), style) } else { (theme.dim(), theme.dim()) };
    Line::from(vec![Span::styled(lead, lead_style), Span::styled(cut(&what, room), style)])
}

/// `10-02 14:30 – 14:35`: from when to when a segment goes. Where offsets have to be told, the date gives way.
fn stretch_of(segment: &SegmentRows, zone: Zone, with_offset: bool) -> String {
    let Some((from, to)) = segment.earliest.zip(segment.latest) else { return String::new() };
    let is_clear = !with_offset && !from.comes_twice(zone) && !to.comes_twice(zone);
    let clock = |at: Timestamp| at.in_row(zone, false).get(6..11).unwrap_or_default().to_owned();
    match (is_clear, from.offset(zone) == to.offset(zone)) {
        (true, true) => format!("{} – {}", from.short(zone), clock(to)),
        (false, true) => format!("{} – {}{}", clock(from), clock(to), to.offset(zone)),
        (_, false) => format!("{}{} – {}{}", clock(from), from.offset(zone), clock(to), to.offset(zone)),
    }
}

fn what(canvas: &Canvas<'_>, state: &State, point: &Point, wide: bool) -> (String, Style) {
    let theme = canvas.theme;
    match point.kind {
        PointKind::Commit if state.points.is_suspect(point) => {
            let kind = if wide { "commit  " } else { "" };
            let destroyed: Vec<String> = state.points.suspects_of(point).map(suspects::in_words).collect();
            let database = state.points.suspects_of(point).next().filter(|_| state.points.has_several_databases());
            let database = database.map(Suspect::in_databases).unwrap_or_default();
            (format!("{kind}{} {}{}", glyphs::SUSPECT, clean(&destroyed.join(", ")), clean(&database)), theme.warning())
        }
        PointKind::Commit if changes(point).is_some() => {
            (format!("commit  {}", changes(point).unwrap_or_default()), theme.dim())
        }
        PointKind::Commit => ("commit".to_owned(), theme.plain()),
        PointKind::Abort => ("rolled back".to_owned(), theme.dim()),
        PointKind::RestorePoint => {
            let name = point.name.as_deref().unwrap_or("?");
            (format!("{} {}", glyphs::RESTORE_POINT, clean(name)), theme.name())
        }
        PointKind::BackupEnd => (format!("{} end of a base backup", glyphs::BACKUP), theme.good()),
        PointKind::EndOfRecovery => ("a server was promoted".to_owned(), theme.label()),
        PointKind::EndOfWal => ("end of the archived WAL".to_owned(), theme.label()),
        PointKind::Prepare => ("prepared".to_owned(), theme.dim()),
        PointKind::Checkpoint => ("checkpoint".to_owned(), theme.dim()),
    }
}

/// `deletes 12 rows, updates 3`: what is too little to be a suspect.
pub(crate) fn changes(point: &Point) -> Option<String> {
    let parts = [("drops", point.drops, "file"), ("deletes", point.deletes, "row"), ("updates", point.updates, "row")];
    let parts = parts.into_iter().filter(|(_, number, _)| *number > 0);
    let parts: Vec<String> = parts.map(|(verb, number, of)| format!("{verb} {}", counted(number, of))).collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn detail(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let mut doc = Doc::new(area.width, canvas.theme);
    match state.pane {
        Pane::Points => {
            doc = as_many_names_as_fit(usize::from(area.height), |names| {
                let mut doc = Doc::new(area.width, canvas.theme);
                point_detail(&mut doc, canvas, state, names);
                doc
            });
        }
        Pane::Backups => backup_detail(&mut doc, canvas, state),
        Pane::Timelines => timeline_detail(&mut doc, canvas, state),
        Pane::Chart => chart_detail(&mut doc, canvas, state),
    }
    for (row, line) in doc.lines().iter().enumerate() {
        canvas.line(area, row, line);
    }
}

/// A text with as many names of relations as leave it no longer than so many lines, or than it is with one.
pub(crate) fn as_many_names_as_fit(lines: usize, text: impl Fn(usize) -> Doc) -> Doc {
    /// More fit into no terminal.
    const MOST: usize = 512;
    let length = |names: usize| text(names).lines().len();
    let lines = lines.max(length(1));
    let fits = |names: usize| length(names) <= lines;
    if fits(MOST) {
        return text(MOST);
    }
    // What is fewer than these is shorter, or as long.
    let (mut fit, mut too_many) = (1, MOST);
    while too_many - fit > 1 {
        let middle = fit.midpoint(too_many);
        if fits(middle) { fit = middle } else { too_many = middle }
    }
    text(fit)
}

fn point_detail(doc: &mut Doc, canvas: &Canvas<'_>, state: &State, names: usize) {
    let theme = canvas.theme;
    let point = match state.points.here() {
        Some(Row::Point(point)) => point,
        Some(Row::Waiting(segment)) => return segment_detail(doc, state, segment, theme.dim()),
        Some(Row::Failed(segment, why)) => {
            doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), why, theme.bad());
            return segment_detail(doc, state, segment, theme.plain());
        }
        Some(Row::Lack(lack)) => return lack_detail(doc, canvas, state, lack),
        None => return,
    };
    let name = point.name.as_deref().unwrap_or("?");
    let subject = match (point.kind, point.xid) {
        (PointKind::Commit, Some(xid)) => format!("Transaction {xid} committed"),
        (PointKind::Abort, Some(xid)) => format!("Transaction {xid} was rolled back"),
        (PointKind::RestorePoint, _) => format!("Restore point “{name}”"),
        (PointKind::BackupEnd, _) => "A base backup ended".to_owned(),
        (PointKind::EndOfRecovery, _) => "A server was promoted".to_owned(),
        (PointKind::EndOfWal, _) => {
            "The archived WAL ends. The server may have written more: see its pg_wal".to_owned()
        }
        _ => "This record was written".to_owned(),
    };
    let when = point.at.map_or(String::new(), |at| format!(" at {}", at.in_zone(state.zone)));
    doc.paragraph(&format!("{subject}{when}"), theme.strong());
    let utc = point.at.filter(|at| at.in_zone(state.zone) != at.in_zone(Zone::UTC));
    let utc = utc.map(|at| format!("{} UTC, ", at.time_of_day(Zone::UTC)));
    let mut second = format!("{}LSN {}, timeline {}", utc.unwrap_or_default(), point.lsn, point.timeline);
    let later = state.points.commits_after();
    if later.number > 0 {
        second.push_str(&format!("; {} after it", later.of("commit")));
    }
    // Where it matters most there are two rows for all of it.
    if let Some(why) = state.reach.why_not(point) {
        doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &why, theme.bad());
    }
    for suspect in state.points.suspects_of(point) {
        let words = suspect.in_full(names);
        doc.hanging(&format!("{} ", glyphs::SUSPECT), theme.warning(), &words, theme.warning());
    }
    doc.paragraph(&second, theme.plain());
    for note in state.points.suspects_of(point).filter_map(|suspect| suspect.note.as_ref()) {
        doc.paragraph(note, theme.dim());
    }
}

fn segment_detail(doc: &mut Doc, state: &State, segment: &SegmentRows, style: Style) {
    let name = SegmentName::new(segment.timeline, segment.number, state.points.segment_size());
    let rows = counted(u64::from(segment.rows), "row");
    doc.paragraph(&format!("Segment {name}: {rows}, {}", counted(u64::from(segment.commits), "commit")), style);
    if let Some((from, to)) = segment.earliest.zip(segment.latest) {
        doc.paragraph(&format!("from {} to {}", from.in_zone(state.zone), to.in_zone(state.zone)), style);
    }
}

fn lack_detail(doc: &mut Doc, canvas: &Canvas<'_>, state: &State, lack: &Lack) {
    let theme = canvas.theme;
    doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &lack.words, theme.bad());
    if let Some(damage) = &lack.damage {
        return doc.paragraph(damage, theme.plain());
    }
    let (after, before) = (words::moment(lack.after, state.zone), words::moment(lack.before, state.zone));
    doc.paragraph(&format!("Recovery comes up to {after} and no further."), theme.plain());
    doc.paragraph(
        &format!("Behind it, WAL goes on at {before}: a base backup taken after that leads there."),
        theme.plain(),
    );
}

fn chart_detail(doc: &mut Doc, canvas: &Canvas<'_>, state: &State) {
    let theme = canvas.theme;
    let view = state.chart.view();
    let kinds = [
        (MarkKind::Suspect, "suspect"),
        (MarkKind::RestorePoint, "restore point"),
        (MarkKind::Backup, "backup"),
        (MarkKind::Lack, "gap"),
    ];
    let mut spans = Vec::new();
    for (kind, word) in kinds {
        let (sign, style) = chart::sign(canvas, kind);
        if !spans.is_empty() {
            spans.push(Span::raw("   "));
        }
        spans.push(Span::styled(format!("{sign} {}", counted(view.number_of(kind), word)), style));
    }
    doc.line(Line::from(spans));
    let mut why: Vec<&str> = view.unreached.iter().map(|stretch| stretch.why.in_words()).collect();
    why.sort_unstable();
    why.dedup();
    if !why.is_empty() {
        let lead = format!("{} ", glyphs::UNREACHED);
        doc.hanging(&lead, theme.unreachable(), &why.join("; "), theme.unreachable());
    }
    if let Some(point) = state.points.selected() {
        let (what, style) = what(canvas, state, point, false);
        let when = point.at.map(|at| format!("{}  ", words::row_time(at, state.zone))).unwrap_or_default();
        let xid = point.xid.map(|xid| format!("xid {xid}  ")).unwrap_or_default();
        doc.hanging(&format!("{} ", glyphs::HERE), theme.key(), &format!("{when}{xid}{what}"), style);
    }
    if !view.by_points && view.window.is_some() {
        let zoom = key_of(state, Act::ZoomIn);
        let text = format!("Each segment's commits are spread over its time; {zoom} shows them one by one.");
        doc.paragraph(&text, theme.dim());
    }
}

fn backup_detail(doc: &mut Doc, canvas: &Canvas<'_>, state: &State) {
    let theme = canvas.theme;
    let Some(backup) = state.selected_backup() else { return };
    let version = backup.pg_version.map_or("unknown version".to_owned(), |v| format!("PostgreSQL {v}"));
    let place = backup.location.display();
    doc.paragraph(&format!("{}  {version}  {}  {place}", backup.id, format(backup)), theme.strong());
    for problem in &backup.problems {
        doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), problem, theme.bad());
    }
    if backup.is_usable() {
        let estimate = drills::forecast(state, backup);
        if let Some((estimate, seconds)) = estimate.and_then(|estimate| Some((estimate, estimate.total_s?))) {
            let words = format!("To the end of WAL in about {}: {}", Seconds(seconds), estimate.amounts());
            doc.paragraph(&format!("{words}; {}", estimate.basis), theme.plain());
        }
        let ended = words::moment(backup.finished_at, state.zone);
        let from = words::position(backup.start_lsn);
        doc.paragraph(&format!("redo from {from}; ended {ended}, {}", words::position(backup.stop_lsn)), theme.plain());
    }
}

fn timeline_detail(doc: &mut Doc, canvas: &Canvas<'_>, state: &State) {
    let theme = canvas.theme;
    let Some(catalog) = state.loaded() else { return };
    let Some(id) = state.points.filter() else {
        let count = counted(catalog.timelines.len() as u64, "timeline");
        doc.paragraph(&format!("{count}, all listed. Each promotion begins a new one."), theme.strong());
        return;
    };
    let Some(timeline) = catalog.timelines.iter().find(|timeline| timeline.id == id) else { return };
    let fork = match (timeline.parent, timeline.forked_at_lsn) {
        (Some(parent), Some(lsn)) => format!(", forked off timeline {parent} at {lsn}"),
        _ => String::new(),
    };
    let reason = timeline.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    let segments = counted(timeline.segments, "segment");
    doc.paragraph(&format!("Timeline {id}{fork}{reason}; {segments}"), theme.strong());
    for gap in &timeline.gaps {
        doc.hanging(&format!("{} missing: ", glyphs::BAD), theme.bad(), &gap.to_string(), theme.bad());
    }
    for file in &timeline.damaged {
        doc.hanging(&format!("{} damaged: ", glyphs::BAD), theme.bad(), file, theme.bad());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineId};

    #[test]
    fn rows_tell_the_offset_where_it_changes_between_them() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        // Clocks are put back at 2026-10-25 01:00 UTC. None of these times comes twice.
        let change = 1_792_890_000;
        let point = |seconds: Option<i64>| Point {
            at: seconds.and_then(|seconds| Timestamp::from_unix_seconds(change + seconds)),
            ..Point::at(PointKind::Commit, TimelineId(1), Lsn(8), Lsn(16))
        };
        let points = [-9000, -7200].map(Some).into_iter().chain([None]).chain([7200, 9000].map(Some)).map(point);
        let points: Vec<Point> = points.collect();
        let rows: Vec<Row<'_>> = points.iter().map(Row::Point).collect();
        assert_eq!(changed_offsets(&rows, berlin), [false, true, false, true, false]);
        assert_eq!(changed_offsets(&rows, Zone::UTC), [false; 5]);
        assert_eq!(changed_offsets(&[], berlin), [false; 0]);
    }

    #[test]
    fn a_stretch_tells_its_offsets_where_they_are_needed_and_has_room() {
        let stretch = |from: i64, to: i64, zone: &str, with_offset| {
            let [from, to] = [from, to].map(|s| Timestamp::from_unix_seconds(1_792_890_000 + s));
            let (timeline, number) = (TimelineId(1), 5);
            let segment = SegmentRows { timeline, number, read: true, rows: 1, commits: 1, earliest: from, latest: to };
            let text = stretch_of(&segment, zone.parse().unwrap(), with_offset);
            assert!(width(&text) <= 21, "{text}");
            text
        };
        assert_eq!(stretch(-9000, -7200, "Europe/Berlin", false), "10-25 00:30 – 01:00");
        assert_eq!(stretch(-7200, -6000, "Europe/Berlin", true), "01:00 – 01:20+02");
        assert_eq!(stretch(-1800, -600, "Europe/Berlin", false), "02:30 – 02:50+02");
        assert_eq!(stretch(-600, 600, "Europe/Berlin", false), "02:50+02 – 02:10+01");
        // Lord Howe Island put its clocks forward by half an hour three weeks before.
        assert_eq!(stretch(-600, 600, "Australia/Lord_Howe", true), "11:50 – 12:10+11");
        assert_eq!(stretch(-600, 600, "Asia/Kolkata", true), "06:20 – 06:40+0530");
    }
}
