//! Drills: what came of the last one, how all of them went over time, each in a row, and the chosen one in full.
//!
//! ```text
//! ╭ Drills ────────────────────────────╮
//! │ ✓ passed 2 days ago  RTO … RPO …   │
//! │ RTO   ▅ ▄ ▆ █                      │
//! │       ✓ ✓ ✗ ✓                      │
//! ├ History ───────────────────────────┤
//! │▸ ✓ passed  11-22 03:00  …          │
//! ├ drill-shop-20261122030000 ─────────┤
//! │ the chosen one in full             │
//! ╰────────────────────────────────────╯
//! ```

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::drills::{Entry, Running, Standing, chosen, mine, steps};
use crate::app::{Hit, State, drills};
use crate::core::TargetKind;
use crate::core::progress::{Seconds, counted, grouped};
use crate::event::drill::document;
use crate::event::{DrillCheck, DrillReport, DrillResult};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;
use crate::tui::widgets::stack::Stack;
use crate::tui::widgets::{gauge, trend};

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let inner = canvas.frame(body, "Drills", &right(state), true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let all = mine(state);
    if all.is_empty() {
        return introduction(canvas, state, inner);
    }
    let stack = Stack::new(body, inner, 4, [2, 5, 9]);
    let upper = upper(canvas, state, &all, stack.room());
    let place = format!("{} of {}", grouped(state.drills.cursor as u64 + 1), grouped(all.len() as u64));
    // The list has a heading.
    let lower = stack.draw_upper(canvas, &upper, ("History", &place), all.len() + 1);
    list(canvas, state, &all, lower.list);
    if let Some((entry, (divider, area))) = chosen(state).zip(lower.details) {
        canvas.divider(body, divider, &entry.id, "", true);
        let lines = detail(state, entry, canvas.theme, inner.width);
        canvas.cut_off(area, &lines);
    }
}

/// Whether the reports are as they were written.
fn right(state: &State) -> String {
    match (&state.drills.failed, &state.drills.listed) {
        (Some(_), _) => format!("{} they cannot be listed", glyphs::BAD),
        (None, None) => "listing …".to_owned(),
        (None, Some(listed)) if listed.drills.is_empty() => String::new(),
        (None, Some(listed)) if listed.problems.is_empty() => {
            format!("{} every report is as it was written", glyphs::GOOD)
        }
        (None, Some(listed)) => {
            format!("{} {} with the reports", glyphs::BAD, counted(listed.problems.len() as u64, "problem"))
        }
    }
}

/// What a drill is, where there is none yet.
fn introduction(canvas: &mut Canvas<'_>, state: &State, inner: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(inner.width, theme);
    match &state.drills.running {
        Some(running) => going_on(&mut doc, state, running, theme, inner.width),
        None if !state.drills.is_listed() => doc.paragraph("The drills are being listed …", theme.strong()),
        None => doc.paragraph("No drill of this cluster was made on this machine yet.", theme.strong()),
    }
    problems(&mut doc, state, theme);
    doc.blank();
    doc.paragraph(
        "A drill proves the backups before they are needed: it restores one beside everything else, asks it something, \
         measures how long that took and what would have been lost, reports, and removes it. A backup that was never \
         restored is a hope.",
        theme.plain(),
    );
    doc.heading("As commands");
    for step in steps(state) {
        doc.blank();
        doc.hanging("  ", theme.plain(), step.what, theme.dim());
        doc.hanging("  ", theme.plain(), &step.command, theme.plain());
    }
    canvas.scrolled(inner, &doc.lines(), state.scroll);
}

/// What is wrong with the list itself.
fn problems(doc: &mut Doc, state: &State, theme: Theme) {
    let lead = format!("{} ", glyphs::BAD);
    if let Some(error) = &state.drills.failed {
        doc.hanging(&lead, theme.bad(), &error.report().message, theme.bad());
    }
    let problems = state.drills.listed.iter().flat_map(|listed| &listed.problems);
    for problem in problems {
        doc.hanging(&lead, theme.bad(), problem, theme.bad());
    }
}

/// What came of the last drill, or how far the one is that is being made; and all of them over time.
fn upper(canvas: &Canvas<'_>, state: &State, all: &[&Entry], area: Rect) -> Vec<Line<'static>> {
    let theme = canvas.theme;
    let mut doc = Doc::new(area.width, theme);
    match &state.drills.running {
        Some(running) => going_on(&mut doc, state, running, theme, area.width),
        None => last(&mut doc, state, all, theme),
    }
    let killed = all.iter().filter(|entry| entry.standing == Standing::Killed);
    for entry in killed {
        let words = format!("{} was killed: its server may still run, until the next drill clears up", entry.id);
        doc.hanging(&format!("{} ", glyphs::SUSPECT), theme.warning(), &words, theme.warning());
    }
    problems(&mut doc, state, theme);
    let mut lines = doc.lines();
    let over: Vec<(usize, &DrillReport)> = all
        .iter()
        .enumerate()
        .rev()
        .filter_map(|(place, entry)| {
            let is_over = matches!(entry.standing, Standing::Over(_));
            entry.report.as_deref().filter(|_| is_over).map(|report| (place, report))
        })
        .collect();
    let under_cursor = over.iter().position(|(place, _)| *place == state.drills.cursor);
    let reports: Vec<&DrillReport> = over.into_iter().map(|(_, report)| report).collect();
    let rows = match usize::from(area.height).saturating_sub(lines.len()) {
        0..4 => return lines,
        4..6 => (2, 1),
        6..9 => (3, 2),
        _ => (4, 3),
    };
    lines.extend(trend::lines(&reports, under_cursor, usize::from(area.width), rows, theme));
    lines
}

/// `✓ passed 11 h 47 min ago  RTO 12 min 03 s, RPO 8.0 s`
fn last(doc: &mut Doc, state: &State, all: &[&Entry], theme: Theme) {
    let over = all.iter().find_map(|entry| match entry.standing {
        Standing::Over(result) if result != DrillResult::Interrupted => Some((result, entry.report.as_deref()?)),
        _ => None,
    });
    let Some((result, report)) = over else {
        return doc.paragraph("No drill has come to its end yet: nothing is proved.", theme.strong());
    };
    let (sign, style) = trend::look(result, theme);
    let since = state.now.seconds_since(report.ended_at);
    let ago = if since < 1.0 { "just now".to_owned() } else { format!("{} ago", Seconds(since)) };
    let lead = format!("{sign} {result} {ago}  ");
    let words = match report.failures.first().filter(|_| result == DrillResult::Failed) {
        Some(failure) => failure.clone(),
        None => drills::measures(report),
    };
    doc.hanging(&lead, style, &words, theme.plain());
}

fn going_on(doc: &mut Doc, state: &State, running: &Running, theme: Theme, columns: u16) {
    let buffer = &running.recovery;
    let seconds = Seconds(state.now.seconds_since(running.began).max(0.0).floor());
    let doing = running.in_words();
    let name = running.id.as_deref().unwrap_or("a drill");
    doc.hanging(
        &format!("{} ", glyphs::CURSOR),
        theme.key(),
        &format!("{name}, for {seconds}: {doing}"),
        theme.strong(),
    );
    if let Some(progress) = buffer.progress.as_ref().filter(|_| buffer.running.is_some()) {
        if let Some(total) = progress.total {
            doc.line(gauge::bar(usize::from(columns), progress.done, total, theme));
        }
        doc.paragraph(&gauge::words(progress), theme.plain());
    }
    if let Some((last, all)) = running.checks.split_last() {
        let failed = running.checks.iter().filter(|check| !check.passed).count();
        let words = match failed {
            0 => format!("{} passed, the last: {}", counted(all.len() as u64 + 1, "check"), last.name),
            failed => format!("{} of {} FAILED", failed, counted(all.len() as u64 + 1, "check")),
        };
        let (sign, style) = if failed == 0 { (glyphs::GOOD, theme.good()) } else { (glyphs::BAD, theme.bad()) };
        doc.hanging(&format!("{sign} "), style, &words, theme.plain());
    }
    if let Some(note) = &running.note {
        doc.hanging(&format!("{} ", glyphs::NOTE), theme.dim(), note, theme.dim());
    }
}

/// Only the rows that are seen are made.
fn list(canvas: &mut Canvas<'_>, state: &State, all: &[&Entry], area: Rect) {
    if area.height == 0 {
        return;
    }
    let theme = canvas.theme;
    let heading = format!("  {:<13} {:<11} {:>12} {:>12} {:>8}  what", "result", "begun", "RTO", "RPO", "checks");
    canvas.line(area, 0, &Line::from(Span::styled(heading, theme.label())));
    let area = Rect { y: area.y + 1, height: area.height - 1, ..area };
    let height = usize::from(area.height);
    canvas.drawn.page = height;
    let cursor = state.drills.cursor;
    let first = cursor.saturating_sub(height / 2).min(all.len().saturating_sub(height));
    for (row, (number, entry)) in all.iter().enumerate().skip(first).take(height).enumerate() {
        let place = Rect { y: area.y + row as u16, height: 1, ..area };
        let line = row_of(state, entry, number == cursor, theme, usize::from(area.width));
        canvas.line(area, row, &line);
        if number == cursor {
            canvas.style(place, theme.selected());
        }
        canvas.hit(place, Hit::DrillRow(number));
    }
}

/// The sign and the style of where a drill stands.
fn look(standing: &Standing, theme: Theme) -> (&'static str, Style) {
    match standing {
        Standing::Over(result) => trend::look(*result, theme),
        Standing::Running(_) => (glyphs::REPLAY, theme.key()),
        Standing::Killed => (glyphs::SUSPECT, theme.warning()),
        Standing::Unreadable(_) => (glyphs::DOUBT, theme.bad()),
    }
}

fn row_of(state: &State, entry: &Entry, here: bool, theme: Theme, columns: usize) -> Line<'static> {
    let (sign, style) = look(&entry.standing, theme);
    let cursor = if here { glyphs::CURSOR } else { " " };
    let lead = format!("{cursor} {sign} {:<11} ", entry.standing.word());
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| Seconds(value).to_string());
    let text = match entry.report.as_deref() {
        None => why(state, entry).unwrap_or_default(),
        Some(report) => {
            let (passed, all) = report.passed_checks();
            let checks = if all == 0 { "-".to_owned() } else { format!("{passed}/{all}") };
            let (rto, rpo) = (seconds(report.rto_s), seconds(report.rpo_s));
            let what = report.failures.first().cloned().or_else(|| why(state, entry));
            let what = what.or_else(|| report.backup.as_ref().map(|backup| backup.id.clone())).unwrap_or_default();
            format!("{} {rto:>12} {rpo:>12} {checks:>8}  {what}", report.begun_at.short(state.zone))
        }
    };
    let room = columns.saturating_sub(crate::tui::text::width(&lead));
    Line::from(vec![Span::styled(lead, style), Span::styled(cut(&clean(&text), room), theme.plain())])
}

/// What there is to say of a drill that is not over.
fn why(state: &State, entry: &Entry) -> Option<String> {
    let is_ours = state.drills.running.as_ref().is_some_and(|running| running.id.as_ref() == Some(&entry.id));
    match &entry.standing {
        Standing::Over(_) => None,
        Standing::Running(_) if is_ours => Some("this program makes it".to_owned()),
        Standing::Running(who) => Some(who.clone()),
        Standing::Killed => Some("the next drill clears up behind it, or “walback discard” with its name".to_owned()),
        Standing::Unreadable(why) => Some(why.clone()),
    }
}

/// The chosen drill in full, what matters most first: there may be room for a few lines only.
fn detail(state: &State, entry: &Entry, theme: Theme, columns: u16) -> Vec<Line<'static>> {
    let mut doc = Doc::new(columns, theme);
    if let Some(why) = why(state, entry) {
        doc.paragraph(&why, theme.strong());
    }
    let Some(report) = entry.report.as_deref() else { return doc.lines() };
    for failure in &report.failures {
        doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), failure, theme.bad());
    }
    let what = match &report.backup {
        Some(backup) => format!("{} ({}), PostgreSQL {}", backup.id, report.chosen, backup.pg_version),
        None => report.chosen.clone(),
    };
    if !what.is_empty() {
        doc.row("Restored", &what, theme.plain());
    }
    if let Some(target) = report.target.as_ref().filter(|target| target.kind != TargetKind::Latest) {
        doc.row("Target", &target.in_words(state.zone), theme.plain());
    }
    if report.kept {
        let kept = format!("{}: “walback discard {}” removes it", report.directory.display(), report.id);
        doc.row("Kept", &kept, theme.plain());
    }
    let parts = report.parts();
    if !parts.is_empty() {
        doc.row("Took", &parts, theme.plain());
    }
    if let Some((lost, against)) = report.rpo_s.zip(report.rpo_against.as_ref()) {
        doc.row("Would lose", &format!("{}, against {against}", Seconds(lost)), theme.plain());
    }
    checks(&mut doc, report, theme);
    for note in &report.notes {
        doc.row("Note", note, theme.plain());
    }
    let by = &report.by;
    let when = report.begun_at.in_zone(state.zone);
    doc.row("Made", &format!("{when} by {} on {}, walback {}", by.user, by.host, by.walback), theme.dim());
    if matches!(entry.standing, Standing::Over(_)) {
        doc.row("Report", &entry.directory.join(document::HTML).display().to_string(), theme.dim());
    }
    doc.lines()
}

/// Each check, those that failed first.
fn checks(doc: &mut Doc, report: &DrillReport, theme: Theme) {
    let (failed, passed): (Vec<&DrillCheck>, Vec<&DrillCheck>) = report.checks.iter().partition(|check| !check.passed);
    let told = failed.iter().map(|check| (glyphs::BAD, theme.bad(), check.in_words()));
    let passed = passed.iter().map(|check| {
        let value = check.value.as_ref().map(|value| format!(": {value}")).unwrap_or_default();
        (glyphs::GOOD, theme.good(), format!("{}{value}", check.name))
    });
    for (sign, style, words) in told.chain(passed) {
        doc.hanging(&format!("{sign} "), style, &words, theme.plain());
    }
    for skipped in &report.skipped {
        doc.hanging(
            &format!("{} ", glyphs::WAITING),
            theme.dim(),
            &format!("not run: {}: {}", skipped.name, skipped.why),
            theme.dim(),
        );
    }
}
