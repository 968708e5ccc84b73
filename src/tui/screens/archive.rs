//! Archive: the verdict, a bar for every timeline, and a list with what was found, what backups need, and what is around.
//!
//! ```text
//! ╭ Archive ───────────────────────────╮
//! │ ✗ critical  why                    │
//! │ TLI 1  162 segments  from … to …   │
//! │ ██████████████████✗████████████    │
//! ├ What was found ────────────────────┤
//! │▸ ✗ missing  …                      │
//! ├────────────────────────────────────┤
//! │ the chosen row in full             │
//! ╰────────────────────────────────────╯
//! ```

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::archive::{Primary, Row};
use crate::app::command::Act;
use crate::app::keys::key_of;
use crate::app::state::{Loading, ScanState};
use crate::app::{Hit, State};
use crate::core::progress::{Bytes, Seconds, counted, grouped};
use crate::plan::archive::{Continuity, Holding, Needs, Orphan, OrphanKind};
use crate::plan::archiving::{Against, Verdict};
use crate::plan::audit::ArchiveFinding;
use crate::plan::{Finding, Severity};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;
use crate::tui::widgets::stack::Stack;
use crate::tui::widgets::{continuity, gauge};

/// Columns of the word before a row.
const KIND: usize = 11;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let inner = canvas.frame(body, "Archive", &right(state), true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    // Bars give way to the list, which names what they show.
    let stack = Stack::new(body, inner, 3, [2, 4, 7]);
    let upper = upper(canvas, state, stack.room());
    let lower = stack.draw_upper(canvas, &upper, ("What there is to say", &place(state)), state.archive.len());
    rows_of(canvas, state, lower.list);
    if let Some((divider, area)) = lower.details {
        canvas.divider(body, divider, "", "", true);
        detail(canvas, state, area);
    }
}

/// What was read, in words.
fn right(state: &State) -> String {
    let archive = &state.archive;
    let segments = archive.report.as_ref().map(|report| counted(report.segments, "segment"));
    let segments = segments.unwrap_or_default();
    let check = key_of(state, Act::CheckArchive);
    match &state.scan.state {
        _ if !matches!(state.catalog, Loading::Loaded(_)) => String::new(),
        ScanState::Waiting => "listing comes first".to_owned(),
        ScanState::Running => format!("reading, {check} stops"),
        ScanState::Cancelled => format!("{segments}, not all read: {check} reads on"),
        ScanState::Failed(_) => format!("reading failed: {check} tries again"),
        ScanState::Finished => format!("{segments}, every one read"),
    }
}

fn place(state: &State) -> String {
    format!("{} of {}", grouped(state.archive.cursor as u64 + 1), grouped(state.archive.len() as u64))
}

/// The verdict, the bar of the check, and every timeline: two rows for each where there is room, else one, and where
/// that is not enough, the newest.
fn upper(canvas: &Canvas<'_>, state: &State, area: Rect) -> Vec<Line<'static>> {
    let theme = canvas.theme;
    let columns = usize::from(area.width);
    let mut lines = verdict(state, theme, columns);
    // Where there is little room, one line has to do.
    lines.truncate(if area.height < 9 { 1 } else { 2 });
    if state.scan.state == ScanState::Running {
        lines.extend(progress(state, theme, columns));
    }
    let Some(report) = &state.archive.report else { return lines };
    let room = usize::from(area.height).saturating_sub(lines.len() + 1);
    if room >= 2 * report.timelines.len() {
        for timeline in &report.timelines {
            lines.push(heading(state, timeline, theme, columns));
            lines.push(continuity::bar(timeline, columns, theme));
        }
    } else {
        let left_out = report.timelines.len().saturating_sub(room);
        lines.extend(report.timelines.iter().skip(left_out).map(|timeline| in_one_row(timeline, theme, columns)));
    }
    if !report.timelines.is_empty() {
        lines.push(continuity::legend(theme));
    }
    lines
}

/// `TLI 1   ██████✗███`
fn in_one_row(timeline: &Continuity, theme: Theme, columns: usize) -> Line<'static> {
    let label = format!("{:<8}", format!("TLI {}", timeline.timeline));
    let mut line = continuity::bar(timeline, columns.saturating_sub(label.len()), theme);
    line.spans.insert(0, Span::styled(label, theme.label()));
    line
}

fn verdict(state: &State, theme: Theme, columns: usize) -> Vec<Line<'static>> {
    let (sign, word, style, why) = match (&state.catalog, &state.archive.failed) {
        (Loading::Loading, _) => {
            ("…", "listing", theme.plain(), "the backups and the archive are being listed".to_owned())
        }
        (Loading::Failed(error), _) | (_, Some(error)) => {
            (glyphs::BAD, "unknown", theme.bad(), error.report().message.clone())
        }
        (Loading::Loaded(_), None) => match state.archive.verdict(state) {
            Some((verdict, why)) => {
                let (sign, style) = look(verdict, theme);
                (sign, verdict.word(), style, why)
            }
            None => {
                ("…", "looking", theme.plain(), "every file's name, size and beginning is being looked at".to_owned())
            }
        },
    };
    let lead = format!("{sign} {word}  ");
    let mut doc = Doc::new(columns as u16, theme);
    // What follows from it is told with the row below.
    doc.hanging(&lead, style, why.split("; ").next().unwrap_or(&why), theme.plain());
    doc.lines()
}

/// The sign and the style of a verdict.
pub(crate) fn look(verdict: Verdict, theme: Theme) -> (&'static str, Style) {
    match verdict {
        Verdict::Healthy => (glyphs::GOOD, theme.good()),
        Verdict::Unread => (glyphs::DOUBT, theme.plain()),
        Verdict::Warning => (glyphs::SUSPECT, theme.warning()),
        Verdict::Critical => (glyphs::BAD, theme.bad()),
    }
}

fn progress(state: &State, theme: Theme, columns: usize) -> Vec<Line<'static>> {
    let scan = &state.scan;
    if scan.total == 0 {
        return vec![Line::from(Span::styled("reading begins …", theme.strong()))];
    }
    let rate = scan.pace.per_second().filter(|rate| *rate >= 1.0).map(|rate| format!(", {}/s", Bytes(rate as u64)));
    let left = scan.pace.eta_s(scan.total).map(|eta| format!(", about {} left", Seconds(eta)));
    let words = format!(
        "{} of {}{}{}",
        Bytes(scan.done),
        Bytes(scan.total),
        rate.unwrap_or_default(),
        left.unwrap_or_default()
    );
    vec![gauge::bar(columns, scan.done, scan.total, theme), Line::from(Span::styled(words, theme.strong()))]
}

/// `TLI 1  162 segments  …10F 10-01 02:00 to …1B0 10-02 14:58  2 missing, 1 damaged`
fn heading(state: &State, timeline: &Continuity, theme: Theme, columns: usize) -> Line<'static> {
    let mut text = format!("  {}", counted(timeline.segments, "segment"));
    if let Some((first, last)) = timeline.first.zip(timeline.last) {
        let at =
            |at: Option<crate::core::Timestamp>| at.map(|at| format!(" {}", at.short(state.zone))).unwrap_or_default();
        text.push_str(&format!(", {first}{} to {last}{}", at(timeline.first_at), at(timeline.last_at)));
    }
    let lacks = [Holding::Missing, Holding::Damaged].map(|holding| (timeline.count(holding), holding.word()));
    let lacks: Vec<String> = lacks
        .into_iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{} {word}", grouped(count)))
        .collect();
    let label = format!("TLI {}", timeline.timeline);
    let short = lacks.join(", ");
    // What is wrong is never what is cut off.
    let room = columns.saturating_sub(label.len() + short.len() + 2);
    Line::from(vec![
        Span::styled(label, theme.label()),
        Span::styled(cut(&text, room), theme.plain()),
        Span::styled(if short.is_empty() { String::new() } else { format!("  {short}") }, theme.bad()),
    ])
}

/// Only the rows that are seen are made.
fn rows_of(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let height = usize::from(area.height);
    let (cursor, all) = (state.archive.cursor, state.archive.len());
    let first = cursor.saturating_sub(height / 2).min(all.saturating_sub(height));
    for (row, number) in (first..all).take(height).enumerate() {
        let Some(what) = state.archive.row(number) else { break };
        let here = number == cursor;
        let told = Told::of(state, what, theme);
        let sign = if here { glyphs::CURSOR } else { " " };
        let lead = format!("{sign} {} {:<KIND$}", told.sign, told.kind);
        let room = usize::from(area.width).saturating_sub(crate::tui::text::width(&lead));
        let line = Line::from(vec![
            Span::styled(lead, told.style),
            Span::styled(cut(&clean(&told.text), room), theme.plain()),
        ]);
        canvas.line(area, row, &line);
        let place = Rect { y: area.y + row as u16, height: 1, ..area };
        if here {
            canvas.style(place, theme.selected());
        }
        canvas.hit(place, Hit::ArchiveRow(number));
    }
}

/// What a row says.
struct Told {
    sign: &'static str,
    kind: &'static str,
    style: Style,
    text: String,
}

impl Told {
    fn of(state: &State, row: Row<'_>, theme: Theme) -> Told {
        let told = |(sign, style): (&'static str, Style), kind, text: String| Told { sign, kind, style, text };
        let fine = (glyphs::GOOD, theme.good());
        let note = (glyphs::NOTE, theme.dim());
        match row {
            Row::Finding(found) => told(weight(found.finding.severity, theme), kind(found), short(found)),
            Row::Note(found) => told(note, kind(found), short(found)),
            Row::NoBackup => {
                told((glyphs::SUSPECT, theme.warning()), "backup", "there is no base backup here".to_owned())
            }
            Row::Space(space) => {
                let look = space.finding(&state.thresholds).map_or(fine, |finding| weight(finding.severity, theme));
                let directories: Vec<String> =
                    space.directories.iter().map(|path| path.display().to_string()).collect();
                let look = if space.bytes.is_err() { (glyphs::DOUBT, theme.plain()) } else { look };
                told(look, "space", format!("{}: {}", space.in_words(), directories.join(", ")))
            }
            Row::Backup(needs) if needs.is_recoverable() => told(fine, "backup", backup(state, needs)),
            Row::Backup(needs) => told((glyphs::BAD, theme.bad()), "backup", backup(state, needs)),
            Row::Unneeded(unneeded) => told(note, "retention", unneeded.in_words()),
            Row::Orphan(orphan) => told(note, orphan_kind(orphan), orphan_name(orphan)),
            Row::Primary => {
                let (look, text) = primary(state, theme);
                told(look, "primary", text)
            }
        }
    }
}

/// The sign and the style of a severity.
fn weight(severity: Severity, theme: Theme) -> (&'static str, Style) {
    match severity {
        Severity::Error => (glyphs::BAD, theme.bad()),
        Severity::Warning => (glyphs::SUSPECT, theme.warning()),
        Severity::Note => (glyphs::NOTE, theme.dim()),
    }
}

fn kind(found: &ArchiveFinding) -> &'static str {
    match found.finding.code.as_ref() {
        "wal-missing" => "missing",
        "wal-damaged" | "segment-unusable" => "damaged",
        "segment-foreign" => "foreign",
        "wal-discontinuous" => "broken",
        "history-missing" | "history-broken" => "history",
        "backup-broken" | "backup-incomplete" | "no-usable-backup" => "backup",
        "partial-segment" => "partial",
        "temporary-files" | "unknown-files" => "files",
        "asked-one-by-one" => "asked",
        _ => "unread",
    }
}

/// What is wrong, and where; what that means is told below.
fn short(found: &ArchiveFinding) -> String {
    let message = found.finding.message.as_str();
    if found.finding.code == "wal-missing" {
        let what = message.split("; ").next().unwrap_or(message);
        return what.split_once(" lacks ").map_or(what, |(_, gap)| gap).to_owned();
    }
    match &found.file {
        Some(file) if !message.contains(file.as_str()) => format!("{file}: {message}"),
        _ => message.to_owned(),
    }
}

fn backup(state: &State, needs: &Needs) -> String {
    let what = match (&needs.problem, &needs.reach, needs.missing.first()) {
        (Some(problem), ..) => problem.clone(),
        (None, _, Some(gap)) => format!("lacks {gap}: nothing can be recovered from it"),
        (None, None, None) => "recovery from it does not come to where it is consistent".to_owned(),
        (None, Some(reach), None) => {
            let to = match reach.last_commit_at {
                Some(at) => at.short(state.zone),
                None => reach.lsn.to_string(),
            };
            let ends = if reach.why.is_some() { ", and no further" } else { ", the end of WAL" };
            format!("all it needs is there; recovers up to {to} on timeline {}{ends}", reach.timeline)
        }
    };
    format!("{}: {what}", needs.backup)
}

fn orphan_kind(orphan: &Orphan) -> &'static str {
    match orphan.kind {
        OrphanKind::BehindGap => "cut off",
        _ => "orphan",
    }
}

fn orphan_name(orphan: &Orphan) -> String {
    if orphan.files == 1 {
        return orphan.first.clone();
    }
    format!("{} to {} ({})", orphan.first, orphan.last, counted(orphan.files, "segment"))
}

fn primary(state: &State, theme: Theme) -> ((&'static str, Style), String) {
    match &state.archive.primary {
        Primary::None => ((glyphs::NOTE, theme.dim()), "none is named in the configuration (“primary”)".to_owned()),
        Primary::Asking => ((glyphs::WAITING, theme.dim()), "it is being asked …".to_owned()),
        Primary::Silent(error) => ((glyphs::DOUBT, theme.plain()), error.report().message.clone()),
        Primary::Says(archiver) => {
            let against = Against::older(state.loaded(), &state.thresholds);
            let findings = archiver.findings(&against);
            match findings.first().filter(|finding| finding.severity > Severity::Note || archiver.in_recovery) {
                Some(finding) => (weight(finding.severity, theme), finding.message.clone()),
                None => ((glyphs::GOOD, theme.good()), archiver.in_words(against.size, state.zone).join(" ")),
            }
        }
    }
}

/// The chosen row in full.
fn detail(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(area.width, theme);
    match state.archive.row(state.archive.cursor) {
        Some(Row::Finding(found) | Row::Note(found)) => finding(&mut doc, theme, &found.finding),
        Some(Row::Space(space)) => match space.finding(&state.thresholds) {
            Some(found) => finding(&mut doc, theme, &found),
            None => doc.paragraph(&Told::of(state, Row::Space(space), theme).text, theme.plain()),
        },
        Some(Row::Backup(needs)) => {
            builds_upon(&mut doc, state, needs, theme);
            backup_detail(&mut doc, needs, theme);
        }
        Some(Row::Unneeded(unneeded)) => {
            doc.paragraph(
                &format!("The oldest base backup is {}; {}.", unneeded.backup, unneeded.in_words()),
                theme.plain(),
            );
            doc.paragraph(
                "Walback never deletes anything of an archive. pg_archivecleanup does, and so does what made the archive; \
                 let it keep what the oldest backup that you want to keep needs.",
                theme.dim(),
            );
        }
        Some(Row::Orphan(orphan)) => {
            doc.paragraph(orphan.meaning(), theme.plain());
            doc.paragraph("Walback never deletes it.", theme.dim());
        }
        Some(Row::Primary) => primary_detail(&mut doc, state, theme),
        Some(Row::NoBackup) => {
            let found = state.archive.report.as_deref().and_then(crate::plan::archive::without_backups);
            found.iter().for_each(|found| finding(&mut doc, theme, found));
        }
        None => {}
    }
    canvas.cut_off(area, &doc.lines());
}

fn finding(doc: &mut Doc, theme: Theme, finding: &Finding) {
    doc.paragraph(&finding.message, theme.plain());
    if let Some(hint) = &finding.hint {
        doc.hanging("→ ", theme.key(), hint, theme.strong());
    }
}

/// What an incremental backup is combined of.
fn builds_upon(doc: &mut Doc, state: &State, needs: &Needs, theme: Theme) {
    let Some(catalog) = state.loaded() else { return };
    let Some(backup) = catalog.backup(&needs.backup) else { return };
    let chain: Vec<&str> = catalog.chain_of(backup).iter().map(|link| link.id.as_str()).collect();
    if let [upon @ .., itself] = chain.as_slice() {
        let upon = upon.join(", ");
        doc.paragraph(
            &format!("{itself} is an incremental backup: it is combined with {upon}, which have to stay."),
            theme.plain(),
        );
    }
}

fn backup_detail(doc: &mut Doc, needs: &Needs, theme: Theme) {
    if let Some((first, last)) = needs.segments {
        let segments = if first == last { first.to_string() } else { format!("{first} to {last}") };
        let there = if needs.missing.is_empty() { "all of it is there" } else { "not all of it is there" };
        doc.paragraph(&format!("{} needs {segments} from its start to its end: {there}.", needs.backup), theme.plain());
    }
    for gap in &needs.missing {
        doc.paragraph(&format!("Missing: {gap}."), theme.bad());
    }
    if let Some(problem) = &needs.problem {
        doc.paragraph(problem, theme.bad());
    }
    for sentence in &needs.told {
        doc.paragraph(&format!("{sentence}."), theme.plain());
    }
}

fn primary_detail(doc: &mut Doc, state: &State, theme: Theme) {
    match &state.archive.primary {
        Primary::None => doc.paragraph(
            "Whether archiving goes on, only the primary knows. Name it in the configuration, as “primary” of this source, \
             and it is asked for pg_stat_archiver, reading only.",
            theme.plain(),
        ),
        Primary::Asking => doc.paragraph("It is being asked, for at most 10 s. Nothing waits for it.", theme.plain()),
        Primary::Silent(error) => {
            doc.paragraph(&error.report().message, theme.plain());
            for cause in &error.report().causes {
                doc.paragraph(cause, theme.plain());
            }
            doc.paragraph("How far archiving is cannot be told; everything else is as it is shown.", theme.dim());
        }
        Primary::Says(archiver) => {
            let against = Against::older(state.loaded(), &state.thresholds);
            for found in archiver.findings(&against) {
                finding(doc, theme, &found);
            }
            let more = archiver.details.in_words(archiver.now, state.zone);
            for sentence in archiver.in_words(against.size, state.zone).iter().chain(&more) {
                doc.paragraph(sentence, theme.plain());
            }
        }
    }
}
