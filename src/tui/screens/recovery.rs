//! A recovery while it runs: steps, one gauge, where replay is, what the server says.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::keys::key_of;
use crate::app::{Act, State};
use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds};
use crate::event::{EventBuffer, Phase, Progress};
use crate::plan::{Plan, StepId};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut};
use crate::tui::theme::Theme;
use crate::tui::widgets::{course, doc::Doc, gauge};
use crate::tui::words;

/// Below so many rows there is only the gauge and the steps.
const COMPACT: u16 = 10;
/// Below so many rows nothing is set apart by empty ones.
const DENSE: u16 = 22;

/// Rows that the server's log has at least, of so many in all.
fn log_rows(height: u16) -> u16 {
    match height {
        0..COMPACT => 0,
        COMPACT..16 => 2,
        16..30 => 4,
        _ => 8,
    }
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let buffer = &state.recovery;
    let name = state.following.as_deref().unwrap_or("?");
    let right = if buffer.running == Some(StepId::Replay) {
        format!("{} leaves, the server goes on", key_of(state, Act::Quit))
    } else {
        String::new()
    };
    let inner = canvas.frame(body, &format!("Recovery {name}"), &right, true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let mut doc = Doc::new(inner.width, canvas.theme);
    match &buffer.plan {
        None => doc.paragraph("Waiting for its first news …", canvas.theme.plain()),
        Some(plan) if inner.height < COMPACT => {
            interrupted(&mut doc, canvas.theme, state);
            progress(&mut doc, canvas.theme, state, plan, inner.width);
            steps(&mut doc, canvas.theme, state, plan, inner.width);
        }
        Some(plan) => {
            interrupted(&mut doc, canvas.theme, state);
            doc.row("Will stop", &words::predicted(&plan.resolved), canvas.theme.strong());
            if inner.height >= DENSE {
                doc.row("Into", &plan.directory.display().to_string(), canvas.theme.plain());
                doc.blank();
            }
            steps(&mut doc, canvas.theme, state, plan, inner.width);
            if inner.height >= DENSE {
                doc.blank();
            }
            progress(&mut doc, canvas.theme, state, plan, inner.width);
            way(&mut doc, canvas.theme, state, inner);
        }
    }
    for finding in &buffer.findings {
        doc.hanging(&format!("{} ", glyphs::SUSPECT), canvas.theme.warning(), &finding.message, canvas.theme.plain());
    }
    let lines = doc.lines();
    let upper = (lines.len() as u16).min(inner.height.saturating_sub(log_rows(inner.height)));
    canvas.scrolled(Rect { height: upper, ..inner }, &lines, state.scroll);
    let rest = inner.height.saturating_sub(upper);
    if rest > 1 {
        canvas.divider(body, inner.y + upper, "The server says", "", true);
        log(canvas, buffer, state.zone, Rect { y: inner.y + upper + 1, height: rest - 1, ..inner });
    }
}

/// That nobody works on it, where that is so.
pub(super) fn interrupted(doc: &mut Doc, theme: Theme, state: &State) {
    let Some(found) = &state.interrupted else { return };
    let style = theme.warning();
    doc.hanging(&format!("{} ", glyphs::SUSPECT), style, "INTERRUPTED, AND NOBODY WORKS ON IT", style);
    doc.hanging("  ", style, found, theme.plain());
    doc.blank();
}

fn steps(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, columns: u16) {
    let buffer = &state.recovery;
    for step in &plan.steps {
        let phase = buffer.phases.iter().rev().find(|phase| phase.step == step.id);
        let (sign, style, words) = match phase {
            _ if buffer.running == Some(step.id) && state.interrupted.is_some() => {
                (glyphs::SUSPECT, theme.warning(), "interrupted".to_owned())
            }
            _ if buffer.running == Some(step.id) => (glyphs::CURSOR, theme.key(), running(state)),
            Some(phase) => (glyphs::GOOD, theme.good(), took(phase)),
            None => (glyphs::WAITING, theme.dim(), "to come".to_owned()),
        };
        // Below so much room a title is no more than its first word.
        let room = usize::from(columns).saturating_sub(37);
        let title = if room < 16 { String::new() } else { cut(&clean(&step.title), room) };
        doc.line(Line::from(vec![
            Span::styled(format!("{sign} {:<10}", step.id), style),
            Span::styled(format!("{words:<24} "), style),
            Span::styled(title, theme.dim()),
        ]));
    }
}

fn running(state: &State) -> String {
    // The clock ticks once a second: what is less says nothing.
    let seconds = state.step_began.map(|began| state.now.seconds_since(began).floor());
    let seconds = seconds.filter(|seconds| *seconds >= 1.0);
    seconds.map_or("running".to_owned(), |seconds| format!("running for {}", Seconds(seconds)))
}

fn took(phase: &Phase) -> String {
    match phase.bytes {
        Some(bytes) => format!("{} in {}", Bytes(bytes), Seconds(phase.seconds)),
        None => format!("in {}", Seconds(phase.seconds)),
    }
}

fn progress(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, columns: u16) {
    let buffer = &state.recovery;
    if let Some(progress) = &buffer.progress {
        if let Some(total) = progress.total {
            doc.line(gauge::bar(usize::from(columns), progress.done, total, theme));
        }
        doc.paragraph(&gauge::words(progress), theme.strong());
        if let Some(doing) = &progress.doing {
            doc.paragraph(&cut(&clean(doing), usize::from(columns)), theme.dim());
        }
    }
    if buffer.running == Some(StepId::Replay) && state.interrupted.is_none() {
        replay(doc, theme, state, plan, buffer.progress.as_ref());
    }
}

/// Where replay is in time, where there is room for that.
fn way(doc: &mut Doc, theme: Theme, state: &State, inner: Rect) {
    let bars = match inner.height {
        _ if state.recovery.running != Some(StepId::Replay) || state.interrupted.is_some() => return,
        0..16 => return,
        16..DENSE => 1,
        DENSE..34 => 2,
        34..48 => 4,
        _ => 8,
    };
    if inner.height >= DENSE {
        doc.blank();
    }
    for line in course::lines(state, inner.width, bars, theme) {
        doc.line(line);
    }
}

/// Where replay is, and how far it is from where it will stop.
fn replay(doc: &mut Doc, theme: Theme, state: &State, plan: &Plan, progress: Option<&Progress>) {
    let buffer = &state.recovery;
    let replayed = progress.and_then(|p| p.replayed_lsn).or(buffer.replayed_lsn);
    let last = words::moment(buffer.last_commit_at, state.zone);
    doc.row("Replayed to", &format!("{}, last transaction {last}", words::position(replayed)), theme.plain());
    let goal = plan.resolved.replay_end;
    let ahead = replayed.map(|lsn| format!(", {} ahead", Bytes(goal.bytes_since(lsn)))).unwrap_or_default();
    doc.row("Up to", &format!("{goal}{ahead}"), theme.plain());
}

/// Below a text that leaves so much of a frame free: what the server says.
pub(super) fn log_below(canvas: &mut Canvas<'_>, state: &State, body: Rect, inner: Rect, lines: usize) {
    const LEAST: u16 = 8;
    let used = (lines as u16).saturating_add(1);
    let free = inner.height.saturating_sub(used);
    if free < LEAST || state.recovery.log.is_empty() {
        return;
    }
    canvas.divider(body, inner.y + used, "The server says", "", true);
    let area = Rect { y: inner.y + used + 1, height: free - 1, ..inner };
    log(canvas, &state.recovery, state.zone, area);
}

/// The last lines of the server's log that fit, cut off at the edge: the log itself has them whole.
fn log(canvas: &mut Canvas<'_>, buffer: &EventBuffer, zone: Zone, area: Rect) {
    let rows = usize::from(area.height);
    let mut last: Vec<&String> = buffer.log.iter().rev().filter(|line| !words::is_not_yet(line)).take(rows).collect();
    last.reverse();
    if last.is_empty() {
        let line = Line::from(Span::styled("nothing yet", canvas.theme.dim()));
        canvas.line(area, 0, &line);
    }
    for (row, line) in last.into_iter().enumerate() {
        let text = cut(&clean(&words::log_line(line, zone)), usize::from(area.width));
        let bad = ["FATAL", "PANIC", "ERROR"].iter().any(|word| text.contains(word));
        let style = if bad { canvas.theme.bad() } else { canvas.theme.dim() };
        canvas.line(area, row, &Line::from(Span::styled(text, style)));
    }
}
