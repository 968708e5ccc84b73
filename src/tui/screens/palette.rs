//! The palette: commands that are like what was typed, each with its key and what it does, or why it cannot be done now.

use ratatui::layout::Rect;
use ratatui::style::{Modifier, Style};
use ratatui::text::{Line, Span};

use super::dialog::{draw_field, inside, open, room};
use crate::app::palette::{Found, PaletteForm};
use crate::app::{Command, Danger, Hit, State};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;

/// Columns of the names and of the keys.
const NAME: usize = 22;
const KEYS: usize = 12;
/// Rows that say more of the command under the cursor, where there is room.
const DETAILS: usize = 3;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, form: &PaletteForm, area: Rect) {
    let theme = canvas.theme;
    let details = if room(area) >= 12 { DETAILS } else { 0 };
    // It stays where it is while what is found becomes more and less.
    let inner = open(canvas, area, "Do what?", "Enter does it, Esc leaves", room(area).min(14 + details));
    draw_field(canvas, &form.field, inner, 0);
    let height = usize::from(inner.height).saturating_sub(1 + details);
    let list = Rect { y: inner.y + 1, height: height as u16, ..inner }.intersection(inner);
    if form.found.is_empty() {
        canvas.line(list, 0, &Line::styled("no command of this screen is like that", theme.warning()));
        return;
    }
    let first = form.selected.saturating_sub(height / 2).min(form.found.len().saturating_sub(height));
    for (row, (number, found)) in form.found.iter().enumerate().skip(first).take(height).enumerate() {
        let Some(command) = found.command(state) else { continue };
        let here = number == form.selected;
        canvas.line(list, row, &line(state, theme, found, command, here, usize::from(inner.width)));
        let place = Rect { y: list.y + row as u16, height: 1, ..list };
        if here {
            canvas.style(place, theme.selected());
        }
        canvas.hit(place, Hit::Choice(number));
    }
    let selected = form.found.get(form.selected).and_then(|found| found.command(state));
    let below = Rect { y: list.bottom(), height: details as u16, ..inner }.intersection(inner);
    for (row, text) in selected.map(|command| said(state, theme, command, area)).unwrap_or_default().iter().enumerate()
    {
        canvas.line(below, row, text);
    }
}

fn line(state: &State, theme: Theme, found: &Found, command: &Command, here: bool, columns: usize) -> Line<'static> {
    let why = (command.enabled)(state).err();
    let style = if why.is_some() { theme.dim() } else { theme.plain() };
    let mut spans = vec![Span::styled(format!("{} ", if here { glyphs::CURSOR } else { " " }), theme.key())];
    for (place, letter) in command.name.chars().enumerate() {
        let marked = found.marks.iter().any(|mark| *mark as usize == place);
        spans.push(Span::styled(letter.to_string(), if marked { mark(theme) } else { style }));
    }
    let keys: Vec<String> = state.keys.of(command).iter().map(ToString::to_string).collect();
    let keys = cut(&keys.join(" "), KEYS);
    spans.push(Span::raw(" ".repeat(NAME.saturating_sub(width(command.name)) + 1)));
    spans.push(Span::styled(format!("{keys}{}", " ".repeat(KEYS.saturating_sub(width(&keys)) + 1)), theme.key()));
    let says = match why {
        Some(why) => format!("not now: {}", clean(&why)),
        None => command.doc.to_owned(),
    };
    spans.push(Span::styled(cut(&says, columns.saturating_sub(NAME + KEYS + 4)), style));
    Line::from(spans)
}

/// A letter that was typed.
fn mark(theme: Theme) -> Style {
    theme.key().add_modifier(Modifier::UNDERLINED)
}

/// All that there is to say of the command under the cursor.
fn said(state: &State, theme: Theme, command: &Command, area: Rect) -> Vec<Line<'static>> {
    let mut doc = Doc::new(inside(area), theme);
    let typed = if command.danger == Danger::Typed { " Asks for the name." } else { "" };
    doc.paragraph(&format!("{}{typed}", command.doc), theme.plain());
    if let Err(why) = (command.enabled)(state) {
        doc.hanging("Not now: ", theme.warning(), &why, theme.plain());
    }
    doc.lines()
}
