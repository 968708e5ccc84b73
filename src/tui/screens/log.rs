//! Log: what the recovered server writes. Long lines are wrapped, so that nothing has to be scrolled sideways for.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::command::Act;
use crate::app::keys::key_of;
use crate::app::log::{HELD, Line as Logged, find_in};
use crate::app::{Hit, State};
use crate::core::Zone;
use crate::core::progress::{counted, grouped};
use crate::pgdata::server_log::Severity;
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, cut_start, wrap};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;

/// Columns of the time before a line.
const TIME: usize = 9;
/// A line takes at most this share of the rows: one statement must not hide all others.
const SHARE: usize = 2;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let log = &state.log;
    let name = state.following.as_deref().unwrap_or("?");
    let follows = match log.follows() {
        true => "follows the end".to_owned(),
        false => format!("stands still, {} follows", key_of(state, Act::Last)),
    };
    let seen = log.seen();
    let at = log.at(&seen);
    let right = match (seen.is_empty(), log.only_grave) {
        (true, false) => String::new(),
        (_, true) => {
            format!("warnings and worse: {} of {}", grouped(seen.len() as u64), counted(log.len() as u64, "line"))
        }
        (false, false) => format!("{} of {}", grouped(at as u64 + 1), counted(log.len() as u64, "line")),
    };
    let inner = canvas.frame(body, &format!("Log of {}: {follows}", clean(name)), &right, true);
    let list = Rect { height: inner.height.saturating_sub(1), ..inner };
    if seen.is_empty() {
        empty(canvas, state, list);
    } else {
        lines(canvas, state, &seen, at, list);
    }
    file(canvas, state, Rect { y: list.bottom(), height: inner.height - list.height, ..inner });
}

/// Where the file is, and what is not held of it.
fn file(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let Some(path) = &state.log.path else { return };
    let more = match state.log.has_earlier() {
        true if area.width < 60 => "earlier ones: ".to_owned(),
        true => format!("The last {} lines; earlier ones are in ", grouped(HELD.min(state.log.len()) as u64)),
        false => String::new(),
    };
    let room = usize::from(area.width).saturating_sub(more.len());
    let text = format!("{more}{}", cut_start(&clean(path), room));
    canvas.line(area, 0, &Line::from(Span::styled(text, canvas.theme.dim())));
}

fn empty(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let mut doc = Doc::new(area.width, theme);
    match (&state.log.failed, &state.log.path) {
        (Some(error), _) => {
            doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &error.report().message, theme.bad());
            error.report().causes.iter().for_each(|cause| doc.paragraph(cause, theme.plain()));
        }
        (None, None) => doc.paragraph("The log is being opened …", theme.plain()),
        (None, Some(_)) if state.log.only_grave && !state.log.is_empty() => {
            doc.paragraph(
                &format!(
                    "No warning and nothing worse among the lines that are held; {} lists all of them.",
                    key_of(state, Act::FilterLog)
                ),
                theme.plain(),
            );
        }
        (None, Some(_)) => doc.paragraph("Nothing yet: the server has not written a line.", theme.plain()),
    }
    canvas.cut_off(area, &doc.lines());
}

/// The lines around the cursor. Only those that are seen are wrapped.
fn lines(canvas: &mut Canvas<'_>, state: &State, seen: &[usize], at: usize, area: Rect) {
    let height = usize::from(area.height);
    if height == 0 || area.width == 0 {
        return;
    }
    let drawn = |at: usize| -> Vec<Line<'static>> {
        let line = seen.get(at).and_then(|place| state.log.line(*place));
        let rows = (height / SHARE).max(1);
        line.map_or_else(Vec::new, |line| rows_of(canvas.theme, line, state, area.width, rows))
    };
    let here = drawn(at);
    let mut below: Vec<(usize, Vec<Line<'static>>)> = Vec::new();
    let mut above: Vec<(usize, Vec<Line<'static>>)> = Vec::new();
    let mut used = here.len();
    // As much below the cursor as there is room for in the lower half, then above it up to the top, then below again.
    let mut take_below = |used: &mut usize, upto: usize| {
        while *used < upto {
            let next = at + below.len() + 1;
            let rows = drawn(next);
            if rows.is_empty() {
                break;
            }
            *used += rows.len();
            below.push((next, rows));
        }
    };
    take_below(&mut used, height.div_ceil(2).max(here.len()));
    while used < height {
        let Some(next) = at.checked_sub(above.len() + 1) else { break };
        let rows = drawn(next);
        used += rows.len();
        above.push((next, rows));
    }
    take_below(&mut used, height);
    let all = above.into_iter().rev().chain([(at, here)]).chain(below);
    let rows: Vec<(usize, Line<'static>)> =
        all.flat_map(|(at, rows)| rows.into_iter().map(move |row| (at, row))).collect();
    // The cursor's line is always seen whole: what is too much goes at the top, or below it at the end.
    let first = rows.iter().position(|(row, _)| *row == at).unwrap_or(0);
    let skip = rows.len().saturating_sub(height).min(first);
    let standing = !state.log.follows();
    for (row, (number, line)) in rows.iter().skip(skip).take(height).enumerate() {
        canvas.line(Rect { x: area.x + 2, width: area.width.saturating_sub(2), ..area }, row, line);
        let place = Rect { y: area.y + row as u16, height: 1, ..area };
        if *number == at && standing && rows.get((skip + row).wrapping_sub(1)).is_none_or(|(before, _)| *before != at) {
            canvas.line(place, 0, &Line::from(Span::styled(glyphs::CURSOR, canvas.theme.key())));
        }
        canvas.hit(place, Hit::LogLine(*number));
    }
}

/// A line in rows, what was looked for reversed in them.
fn rows_of(theme: Theme, line: &Logged, state: &State, columns: u16, most: usize) -> Vec<Line<'static>> {
    let (word, style) = weight(line, theme);
    let lead = format!("{:<TIME$}", time(line, state.zone));
    let room = usize::from(columns).saturating_sub(TIME + 2).max(8);
    let more = match line.cut {
        0 => String::new(),
        cut => format!(" … {} more characters: the file has them", grouped(cut as u64)),
    };
    let text = format!("{word}{}{more}", clean(&line.text));
    let mut parts = wrap(&text, room);
    if parts.len() > most {
        parts.truncate(most);
        if let Some(last) = parts.last_mut() {
            *last = cut(&format!("{last} …"), room);
        }
    }
    let row = |(place, part): (usize, String)| {
        let before = if place == 0 { lead.clone() } else { " ".repeat(TIME) };
        let mut spans = vec![Span::styled(before, theme.dim())];
        spans.extend(marked(&part, &state.log.sought, style, theme));
        Line::from(spans)
    };
    parts.into_iter().enumerate().map(row).collect()
}

/// A text with what was looked for in it reversed.
fn marked(text: &str, sought: &str, style: Style, theme: Theme) -> Vec<Span<'static>> {
    let mut spans = Vec::new();
    let mut rest = text;
    while let Some(place) = find_in(rest, sought).filter(|_| !sought.is_empty()) {
        let (before, behind) = rest.split_at(place);
        let (found, after) = behind.split_at(sought.len().min(behind.len()));
        spans.push(Span::styled(before.to_owned(), style));
        spans.push(Span::styled(found.to_owned(), style.patch(theme.selected())));
        rest = after;
    }
    spans.push(Span::styled(rest.to_owned(), style));
    spans
}

fn time(line: &Logged, zone: Zone) -> String {
    let time = line.at.map(|at| at.time_of_day(zone)).unwrap_or_default();
    time.get(..8).unwrap_or(&time).to_owned()
}

/// The word before a message, and how it is drawn; what the server says of its work has none.
fn weight(line: &Logged, theme: Theme) -> (String, Style) {
    let style = match line.severity {
        Some(Severity::Error | Severity::Fatal | Severity::Panic) => theme.bad(),
        Some(Severity::Warning) => theme.warning(),
        Some(Severity::Log) | None => theme.plain(),
        Some(_) => theme.dim(),
    };
    match line.severity {
        Some(Severity::Log) | None => (String::new(), style),
        Some(other) => (format!("{}: ", other.word()), style),
    }
}
