//! The last rows: what to do next, and the keys that work, from the table of commands.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::command::{self, Act, Command};
use crate::app::{Hit, State, guide};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width, wrap};

/// Below so many columns what is said may take two rows.
const NARROW: u16 = 80;

/// Rows that it takes. In a narrow place always as many, so that nothing moves when something else is said.
pub(crate) fn height(state: &State, area: Rect) -> u16 {
    match area.height {
        0..20 => 2,
        _ if area.width < NARROW => 4,
        _ => 1 + (rows(state, area.width).len() as u16).clamp(1, 3),
    }
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let said = say(canvas, state, area);
    // What lies over the screen has the keys; the rows stay, so that the screen below does not move.
    if state.dialog.is_some() {
        return;
    }
    let theme = canvas.theme;
    let mut rows = rows(state, area.width);
    let room = usize::from(area.height).saturating_sub(said);
    if rows.len() > room {
        rows.truncate(room);
        end_with_help(&mut rows, state, area.width);
    }
    for (row, commands) in rows.into_iter().enumerate() {
        let mut x = area.x + 1;
        let y = area.y + (said + row) as u16;
        for (command, key) in commands {
            let columns = (width(&key) + 1 + width(command.label)) as u16;
            let place = Rect { x, y, width: columns, height: 1 }.intersection(area);
            let words =
                vec![Span::styled(key, theme.key()), Span::styled(format!(" {}", command.label), theme.plain())];
            canvas.line(place, 0, &Line::from(words));
            if let Some(pressed) = state.keys.of(command).first() {
                canvas.hit(place, Hit::Key(*pressed));
            }
            x = x.saturating_add(columns + GAP as u16);
        }
    }
}

/// Columns between two commands.
const GAP: usize = 2;

type Row = Vec<(&'static Command, String)>;

/// Where not all commands fit, the last one that is seen leads to the others.
fn end_with_help(rows: &mut [Row], state: &State, columns: u16) {
    let Some(help) = command::now(state).find(|command| command.act == Act::Help) else { return };
    let Some(key) = state.keys.of(help).first().map(ToString::to_string) else { return };
    let Some(row) = rows.last_mut() else { return };
    row.push((help, key));
    let columns_of = |row: &Row| -> usize { row.iter().map(|(c, key)| width(key) + 1 + width(c.label) + GAP).sum() };
    while row.len() > 1 && columns_of(row) > usize::from(columns) - 1 + GAP {
        row.remove(row.len() - 2);
    }
}

/// Says what to do next, or what was just done, and returns how many rows that took.
fn say(canvas: &mut Canvas<'_>, state: &State, area: Rect) -> usize {
    let theme = canvas.theme;
    let room = usize::from(area.width).saturating_sub(3);
    let (sign, sign_style, text, style) = match &state.status {
        Some(status) if status.refusal => (glyphs::SUSPECT, theme.warning(), status.text.clone(), theme.warning()),
        Some(status) => ("→", theme.strong(), status.text.clone(), theme.strong()),
        None => ("→", theme.key(), guide::next(state), theme.strong()),
    };
    let text = clean(&text);
    let most = if area.height > 3 && area.width < NARROW { 2 } else { 1 };
    let mut parts = if most > 1 { wrap(&text, room) } else { vec![cut(&text, room)] };
    if parts.len() > most {
        // What does not fit at all is cut off where it can be seen to be.
        let rest = parts.split_off(most - 1).join(" ");
        parts.push(cut(&rest, room));
    }
    for (row, part) in parts.iter().enumerate() {
        let sign = if row == 0 { sign } else { " " };
        let spans = vec![Span::styled(format!(" {sign} "), sign_style), Span::styled(part.clone(), style)];
        canvas.line(area, row, &Line::from(spans));
    }
    parts.len().max(1)
}

/// What is worth a place: what can be done now. Nothing leads out of the outermost level.
fn shown(state: &State) -> impl Iterator<Item = &'static Command> {
    let outermost = state.screens.len() < 2;
    let leads_out = move |command: &&Command| !(outermost && command.act == Act::Back);
    command::now(state)
        .filter(|command| !command.label.is_empty() && (command.enabled)(state).is_ok())
        .filter(leads_out)
}

/// The commands in rows of this width.
fn rows(state: &State, columns: u16) -> Vec<Row> {
    let room = usize::from(columns).saturating_sub(1);
    let mut rows = vec![Vec::new()];
    let mut used = 0;
    for command in shown(state) {
        let Some(key) = state.keys.of(command).first().map(ToString::to_string) else { continue };
        let columns = width(&key) + 1 + width(command.label) + GAP;
        if used + columns > room + GAP {
            rows.push(Vec::new());
            used = 0;
        }
        used += columns;
        if let Some(row) = rows.last_mut() {
            row.push((command, key));
        }
    }
    rows
}
