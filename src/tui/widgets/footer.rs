//! The last rows: what to do next, and the keys that work, from the table of commands.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::command::{self, Command};
use crate::app::{Hit, State, guide};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};

/// Rows that it takes.
pub(crate) fn height(state: &State, area: Rect) -> u16 {
    let most = if area.height >= 20 { 3 } else { 1 };
    1 + (rows(state, area.width).len() as u16).clamp(1, most)
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    say(canvas, state, area);
    let theme = canvas.theme;
    for (row, commands) in rows(state, area.width).into_iter().enumerate().take(usize::from(area.height) - 1) {
        let mut x = area.x + 1;
        let y = area.y + 1 + row as u16;
        for (command, key) in commands {
            let enabled = (command.enabled)(state).is_ok();
            let (key_style, style) = if enabled { (theme.key(), theme.plain()) } else { (theme.dim(), theme.dim()) };
            let columns = (width(&key) + 1 + width(command.label)) as u16;
            let place = Rect { x, y, width: columns, height: 1 }.intersection(area);
            let words = vec![Span::styled(key, key_style), Span::styled(format!(" {}", command.label), style)];
            canvas.line(place, 0, &Line::from(words));
            if let Some(pressed) = command.keys.first() {
                canvas.hit(place, Hit::Key(*pressed));
            }
            x = x.saturating_add(columns + GAP as u16);
        }
    }
}

/// Columns between two commands.
const GAP: usize = 2;

fn say(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let room = usize::from(area.width).saturating_sub(3);
    let line = match &state.status {
        Some(status) => {
            let (sign, style) =
                if status.refusal { (glyphs::SUSPECT, theme.warning()) } else { ("→", theme.strong()) };
            Line::from(Span::styled(format!(" {sign} {}", cut(&clean(&status.text), room)), style))
        }
        None => Line::from(vec![
            Span::styled(" → ", theme.key()),
            Span::styled(cut(&clean(&guide::next(state)), room), theme.strong()),
        ]),
    };
    canvas.line(area, 0, &line);
}

/// The commands in rows of this width. Where only one row is drawn, help and quit are what may not be missing: the
/// help has all the others.
fn rows(state: &State, columns: u16) -> Vec<Vec<(&'static Command, String)>> {
    let room = usize::from(columns).saturating_sub(1);
    let mut rows = vec![Vec::new()];
    let mut used = 0;
    for command in command::on(state.screen()).filter(|command| !command.label.is_empty()) {
        let Some(key) = command.keys.first().map(ToString::to_string) else { continue };
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
