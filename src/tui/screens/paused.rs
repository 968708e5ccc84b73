//! A recovery that stands still: at its target, promoted, stopped, failed, discarded.

use std::collections::VecDeque;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::guide::{NEVER_RESUME, locked};
use crate::app::keys::key_of;
use crate::app::query::Checks;
use crate::app::{Act, Screen, State, command};
use crate::catalog::Suspect;
use crate::event::{Failure, Recovery, RecoveryState};
use crate::plan::StepId;
use crate::plan::checklist::ItemState;
use crate::plan::suspects_kept::destroyed_by;
use crate::resolve::Resolved;
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, width};
use crate::tui::theme::Theme;
use crate::tui::widgets::course;
use crate::tui::widgets::doc::{Doc, halves};
use crate::tui::words;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let name = state.following.as_deref().unwrap_or("?");
    let word = state.recovery_state().map_or("unknown", RecoveryState::word);
    let inner = canvas.frame(body, &format!("Recovery {name}"), word, true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let theme = canvas.theme;
    let Some(recovery) = state.recovery.recovery() else {
        let mut doc = Doc::new(inner.width, theme);
        doc.paragraph("Waiting for its first news …", theme.plain());
        return canvas.scrolled(inner, &doc.lines(), state.scroll);
    };
    if let Some((left, right)) = halves(inner) {
        let column = |area: Rect| Doc::new(area.width.saturating_sub(1), theme);
        let (mut what, mut now) = (column(left), column(right));
        head(&mut what, theme, state, &recovery);
        let area = Rect { width: left.width.saturating_sub(1), ..left };
        happened(&mut what, theme, state, &recovery, area);
        place(&mut what, theme, state, &recovery);
        next(&mut now, theme, state, &recovery);
        let (what, now) = (what.lines(), now.lines());
        canvas.scrolled_beside([left, right], [&what, &now], state.scroll);
        return super::recovery::log_below(canvas, state, body, inner, what.len().max(now.len()));
    }
    let mut doc = Doc::new(inner.width, theme);
    head(&mut doc, theme, state, &recovery);
    if recovery.state == RecoveryState::Paused {
        happened(&mut doc, theme, state, &recovery, inner);
        next(&mut doc, theme, state, &recovery);
    } else {
        next(&mut doc, theme, state, &recovery);
        doc.blank();
        happened(&mut doc, theme, state, &recovery, inner);
    }
    place(&mut doc, theme, state, &recovery);
    canvas.scrolled(inner, &doc.lines(), state.scroll);
}

/// All that there is to say about how it stands, for a reader of lines; what can be done with it is not among it.
pub(crate) fn write(doc: &mut Doc, theme: Theme, state: &State, recovery: &Recovery) {
    // Beside each other is for eyes: one below the other is for ears.
    const BELOW: u16 = 60;
    head(doc, theme, state, recovery);
    compared(doc, state, recovery, BELOW, theme);
    connection(doc, theme, recovery);
    place(doc, theme, state, recovery);
}

/// How it stands, and why where it failed.
fn head(doc: &mut Doc, theme: Theme, state: &State, recovery: &Recovery) {
    super::recovery::interrupted(doc, theme, state);
    headline(doc, state, theme, recovery);
    if let Some(failure) = recovery.failure.as_ref().filter(|_| recovery.state == RecoveryState::Failed) {
        why(doc, theme, state, failure);
    }
    for finding in recovery.warnings() {
        let style = theme.warning();
        doc.hanging(&format!("{} ", glyphs::SUSPECT), style, &finding.message, style);
        finding.hint.iter().for_each(|hint| doc.hanging("  ", style, hint, theme.plain()));
    }
}

/// What was predicted and what happened, and how to look at it.
fn happened(doc: &mut Doc, theme: Theme, state: &State, recovery: &Recovery, area: Rect) {
    if recovery.state == RecoveryState::Paused {
        compared(doc, state, recovery, area.width, theme);
        connection(doc, theme, recovery);
        way(doc, theme, state, area);
    } else {
        connection(doc, theme, recovery);
        compared(doc, state, recovery, area.width, theme);
    }
}

/// What the checks say, and what can be done now.
fn next(doc: &mut Doc, theme: Theme, state: &State, recovery: &Recovery) {
    if recovery.state == RecoveryState::Paused {
        checks(doc, theme, state);
    }
    ways(doc, theme, state);
    if recovery.state == RecoveryState::Paused {
        let (on, end) = (key_of(state, Act::Retarget), key_of(state, Act::Promote));
        doc.hanging("  ", theme.plain(), &format!("{NEVER_RESUME} {on} goes on, {end} promotes."), theme.dim());
    }
}

/// Where its directory and its log are.
fn place(doc: &mut Doc, theme: Theme, state: &State, recovery: &Recovery) {
    if recovery.state == RecoveryState::Discarded {
        return;
    }
    doc.heading("Where it is");
    doc.row("Directory", &recovery.directory.display().to_string(), theme.plain());
    if let Some(plan) = &state.recovery.plan {
        doc.row("Server log", &plan.server.log.display().to_string(), theme.plain());
    }
}

/// Where it stands in time, where there is room for that.
fn way(doc: &mut Doc, theme: Theme, state: &State, inner: Rect) {
    let bars = match inner.height {
        0..26 => return,
        26..40 => 2,
        _ => 4,
    };
    let lines = course::lines(state, inner.width, bars, theme);
    if !lines.is_empty() {
        doc.heading("On the way from the backup");
    }
    for line in lines {
        doc.line(line);
    }
}

/// The checks of the configuration, with what came of them.
pub(crate) fn checks(doc: &mut Doc, theme: Theme, state: &State) {
    let results = match &state.checks {
        Checks::None | Checks::Waiting => return,
        Checks::Running => return doc.row("Checks", "the server is being asked …", theme.dim()),
        Checks::Done(Err(error)) => return doc.row("Checks", &error.report().message, theme.bad()),
        Checks::Done(Ok(results)) => results,
    };
    doc.heading("Checks");
    for result in results {
        let (sign, style) = if result.passed { (glyphs::GOOD, theme.good()) } else { (glyphs::BAD, theme.bad()) };
        let value = match (&result.value, &result.error) {
            (_, Some(error)) => clean(error).into_owned(),
            (Some(value), None) => format!("{}, expected {}", clean(value), clean(&result.expected)),
            (None, None) => format!("null, expected {}", clean(&result.expected)),
        };
        doc.hanging(&format!("{sign} "), style, &format!("{}: {value}", clean(&result.name)), theme.plain());
    }
}

fn connection(doc: &mut Doc, theme: Theme, recovery: &Recovery) {
    if matches!(recovery.state, RecoveryState::Paused | RecoveryState::Promoted) {
        let quoted = recovery.connection.replace('\'', "'\\''");
        doc.row("connect with", &format!("psql '{quoted}'"), theme.plain());
    }
}

/// What is the case, in words that leave no doubt.
fn headline(doc: &mut Doc, state: &State, theme: Theme, recovery: &Recovery) {
    let timeline = recovery.timeline;
    let (sign, style, title, text) = match recovery.state {
        RecoveryState::Paused if recovery.matches_prediction == Some(false) => (
            glyphs::BAD,
            theme.bad(),
            "PAUSED, BUT NOT WHERE IT WAS PREDICTED TO STOP".to_owned(),
            "The database is readable and nothing is decided yet. Do not promote before you know why.",
        ),
        RecoveryState::Paused => (
            glyphs::GOOD,
            theme.good(),
            format!("PAUSED AT THE TARGET, ON TIMELINE {timeline}"),
            "The database is readable, nobody can write to it, nothing is decided yet.",
        ),
        RecoveryState::Promoting => {
            (glyphs::CURSOR, theme.key(), "BEING PROMOTED".to_owned(), "Recovery is being ended.")
        }
        RecoveryState::Promoted => (
            glyphs::GOOD,
            theme.good(),
            format!("PROMOTED TO TIMELINE {timeline}"),
            if !recovery.is_isolated() {
                "Recovery is over and the server takes writes."
            } else {
                "Recovery is over and the server takes writes. It is still isolated: its own port and socket, no TCP, no archiving."
            },
        ),
        RecoveryState::ShutDown => {
            (glyphs::WAITING, theme.strong(), "THE SERVER IS STOPPED".to_owned(), "Its directory is kept as it is.")
        }
        RecoveryState::Failed => {
            let unpacking = recovery
                .failure
                .as_ref()
                .is_some_and(|failure| matches!(failure.step, Some(StepId::Unpack | StepId::Combine)));
            let kept = match unpacking {
                true => {
                    "Backups and archive are as they were. Half a backup is of no use: what was unpacked is removed again."
                }
                false => "Backups and archive are as they were. What was made is kept for you to look at.",
            };
            (glyphs::BAD, theme.bad(), "THE RECOVERY HAS FAILED".to_owned(), kept)
        }
        RecoveryState::Discarded => (
            glyphs::WAITING,
            theme.strong(),
            "DISCARDED".to_owned(),
            "What it made was removed. Backups and archive are as they were.",
        ),
        other => (glyphs::CURSOR, theme.key(), other.word().to_uppercase(), "It is being worked on."),
    };
    doc.hanging(&format!("{sign} "), style, &title, style);
    doc.hanging("  ", style, text, theme.plain());
    if recovery.state == RecoveryState::Promoted {
        doc.heading("What is left to do");
        let text = format!(
            "{} lists it, each item with what it changes: statistics, archiving, a new base backup, then network and port \
             for the clients. None of it happens by itself.",
            key_of(state, Act::Checklist)
        );
        doc.hanging("  ", theme.plain(), &text, theme.plain());
        for (word, state) in [("done", ItemState::Done), ("skipped", ItemState::Skipped), ("failed", ItemState::Failed)]
        {
            let items = recovery.checklist.iter().filter(|(_, of)| **of == state).map(|(item, _)| item.word());
            let items: Vec<&str> = items.collect();
            if !items.is_empty() {
                let style = if state == ItemState::Failed { theme.bad() } else { theme.plain() };
                doc.row(word, &items.join(", "), style);
            }
        }
    }
}

fn why(doc: &mut Doc, theme: Theme, state: &State, failure: &Failure) {
    doc.blank();
    if let Some(step) = failure.step {
        doc.row("In step", step.name(), theme.plain());
    }
    doc.row("What", &failure.message, theme.bad());
    for cause in &failure.causes {
        doc.row("Because", cause, theme.plain());
    }
    if let Some(hint) = &failure.hint {
        doc.row("To do", hint, theme.strong());
    }
    let words = last_words(&state.recovery.log);
    if !words.is_empty() {
        doc.heading("The server's last words");
    }
    for line in words {
        doc.hanging("  ", theme.plain(), &words::log_line(line, state.zone), theme.dim());
    }
}

/// The last lines of the log that say what went wrong; where none does, the last lines.
fn last_words(log: &VecDeque<String>) -> Vec<&str> {
    const LINES: usize = 3;
    const GRAVE: [&str; 6] = ["ERROR:", "FATAL:", "PANIC:", "DETAIL:", "HINT:", "WARNING:"];
    let all: Vec<&String> = log.iter().filter(|line| !words::is_not_yet(line)).collect();
    let grave: Vec<&String> = all.iter().copied().filter(|line| GRAVE.iter().any(|word| line.contains(word))).collect();
    let lines = if grave.is_empty() { all } else { grave };
    let skip = lines.len().saturating_sub(LINES);
    lines.into_iter().skip(skip).map(String::as_str).collect()
}

/// What was predicted beside what happened.
fn compared(doc: &mut Doc, state: &State, recovery: &Recovery, columns: u16, theme: Theme) {
    let Some(stopped) = recovery.stopped.as_ref().filter(|_| recovery.state != RecoveryState::Discarded) else {
        return;
    };
    let resolved = &recovery.resolved;
    let zone = state.zone;
    let (said, is) = (words::in_short(&words::predicted(resolved)), words::in_short(&words::happened(stopped)));
    let same = said == is || recovery.matches_prediction == Some(true);
    let mut rows = vec![("stop", said, is, Some(same))];
    if stopped.at.is_some() {
        let same = resolved.at == stopped.at;
        rows.push(("time", words::moment(resolved.at, zone), words::moment(stopped.at, zone), Some(same)));
    }
    if recovery.replayed_lsn.is_some() {
        let same = recovery.replayed_lsn == Some(resolved.replay_end);
        let (said, is) = (resolved.replay_end.to_string(), words::position(recovery.replayed_lsn));
        rows.push(("LSN", said, is, Some(same)));
    }
    doc.blank();
    let beside = usize::from(columns) > LABEL + 2 * TIME;
    if beside {
        doc.line(side_by_side("", "predicted", "happened", columns, [theme.label(); 3]));
    }
    for (label, said, is, same) in rows {
        let (sign, style) = match same {
            Some(true) => (glyphs::GOOD, theme.good()),
            Some(false) => (glyphs::BAD, theme.bad()),
            None => (" ", theme.plain()),
        };
        let label = format!("{sign} {label}");
        if beside && width(&said).max(width(&is)) <= column(columns) {
            doc.line(side_by_side(&label, &said, &is, columns, [style, theme.plain(), style]));
        } else {
            doc.row(&label, &format!("predicted {said}"), theme.plain());
            doc.row("", &format!("happened  {is}"), style);
        }
    }
    let verdict = match recovery.matches_prediction {
        Some(true) => Some((glyphs::GOOD, "PostgreSQL did what was predicted.", theme.good())),
        Some(false) => Some((
            glyphs::BAD,
            "PostgreSQL did NOT do what was predicted. Look at the data, then retarget or discard.",
            theme.bad(),
        )),
        None => None,
    };
    if let Some((sign, text, style)) = verdict {
        let label = format!("{sign} match");
        if beside { doc.hanging(&format!("{label:<LABEL$}"), style, text, style) } else { doc.row(&label, text, style) }
    }
    if recovery.matches_prediction == Some(false) {
        // What was predicted to be kept and lost is not what is.
        return;
    }
    let kept = resolved.last_kept.as_ref().map(|place| words::place(place, zone));
    doc.row("last kept", &kept.unwrap_or("no transaction after the backup".to_owned()), theme.plain());
    let lost = resolved.first_lost.as_ref().map(|place| words::place(place, zone));
    doc.row("next in WAL", &lost.unwrap_or("nothing".to_owned()), theme.plain());
    for what in next_in_words(state, resolved) {
        doc.row("", &format!("it {what}"), theme.warning());
    }
    if let Some(locked) = locked(state) {
        let text = format!("{locked}: who reads that waits until promotion");
        doc.row("locked", &text, theme.warning());
    }
}

/// So many relations of a suspect are named.
const RELATIONS: usize = 3;

/// What the next transaction in WAL destroys, as far as the archive was read.
fn next_in_words(state: &State, resolved: &Resolved) -> Vec<String> {
    let Some(next) = resolved.first_lost.filter(|_| !state.follows_another_cluster()) else { return Vec::new() };
    let is_it = |suspect: &&Suspect| suspect.lsn == next.lsn && Some(suspect.xid) == next.xid;
    let known: Vec<String> = destroyed_by(resolved, Some(next)).map(|suspect| suspect.in_full(RELATIONS)).collect();
    if !known.is_empty() {
        return known;
    }
    state.points.suspects().filter(is_it).map(|suspect| suspect.in_full(RELATIONS)).collect()
}

/// Columns of what stands before the two.
const LABEL: usize = 9;
/// Columns of a time with microseconds and offset, which is what both have to have room for.
const TIME: usize = 33;

/// Columns of each of the two.
fn column(columns: u16) -> usize {
    usize::from(columns).saturating_sub(LABEL + 1) / 2
}

fn side_by_side(label: &str, left: &str, right: &str, columns: u16, styles: [Style; 3]) -> Line<'static> {
    let wide = column(columns);
    let [label_style, left_style, right_style] = styles;
    Line::from(vec![
        Span::styled(format!("{label:<LABEL$}"), label_style),
        Span::styled(format!("{left:<wide$} "), left_style),
        Span::styled(right.to_owned(), right_style),
    ])
}

/// What can be done now, from the table of commands; and what cannot, with the reason.
fn ways(doc: &mut Doc, theme: Theme, state: &State) {
    doc.heading("What you can do now");
    let all = command::on(Screen::Paused).take_while(|command| command.name != "up");
    let (able, unable): (Vec<_>, Vec<_>) = all.partition(|command| (command.enabled)(state).is_ok());
    for command in &able {
        let key = state.keys.of(command).first().map_or(String::new(), ToString::to_string);
        let lead = format!("{key:>3}  {:<12}", command.label);
        doc.hanging(&lead, theme.key(), command.doc, theme.plain());
    }
    if able.is_empty() {
        doc.hanging("  ", theme.plain(), "nothing but going back, with Esc", theme.plain());
    }
    for command in &unable {
        let Err(why) = (command.enabled)(state) else { continue };
        let key = state.keys.of(command).first().map_or(String::new(), ToString::to_string);
        let lead = format!("{key:>3}  {:<12}", command.label);
        doc.hanging(&lead, theme.dim(), &format!("not now: {}", clean(&why)), theme.dim());
    }
}
