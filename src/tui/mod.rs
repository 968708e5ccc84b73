//! The interactive program on a terminal: draws the state, reads the keys.
//!
//! What is drawn is a function of [`State`] and size alone. Only `run.rs`, `perform.rs` and `terminal.rs` touch anything outside.

mod canvas;
pub mod glyphs;
pub mod perform;
pub mod plain;
pub mod run;
mod screens;
mod terminal;
pub mod text;
mod theme;
mod widgets;
mod words;

pub use canvas::{Drawn, hit_at};
pub use run::{MsgSender, Perform, run};
pub use theme::{Background, Bars, Depth, Role, Theme, detect::Wishes};

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::app::{Screen, State};
use canvas::Canvas;
use text::wrap;

/// What a screen needs at least, in columns and rows.
const LEAST: (u16, u16) = (40, 10);

/// Draws everything, into a buffer of any size.
pub fn draw(state: &State, theme: Theme, buffer: &mut Buffer) -> Drawn {
    let unicode = state.unicode;
    let mut canvas = Canvas::new(buffer, theme);
    let area = canvas.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        too_small(&mut canvas, state);
    } else {
        whole(&mut canvas, state, area);
    }
    let drawn = std::mem::take(&mut canvas.drawn);
    if !unicode {
        glyphs::make_ascii(buffer);
    }
    drawn
}

fn whole(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let footer = widgets::footer::height(state, area);
    let head = Rect { height: 1, ..area };
    let foot = Rect { y: area.bottom().saturating_sub(footer), height: footer, ..area };
    let body = Rect { y: area.y + 1, height: area.height.saturating_sub(1 + footer), ..area };
    widgets::header::draw(canvas, state, head);
    widgets::footer::draw(canvas, state, foot);
    match state.screen() {
        Screen::Points => screens::points::draw(canvas, state, body),
        Screen::Plan => screens::plan::draw(canvas, state, body),
        Screen::Recovery => screens::recovery::draw(canvas, state, body),
        Screen::Paused => screens::paused::draw(canvas, state, body),
        Screen::Archive => screens::archive::draw(canvas, state, body),
        Screen::Log => screens::log::draw(canvas, state, body),
        Screen::Drills => screens::drills::draw(canvas, state, body),
    }
    if let Some(dialog) = &state.dialog {
        screens::dialog::draw(canvas, state, dialog, area);
    }
}

fn too_small(canvas: &mut Canvas<'_>, state: &State) {
    let area = canvas.area();
    let mut sentence =
        format!("Walback needs {}x{}; this is {}x{}. Make it larger.", LEAST.0, LEAST.1, area.width, area.height);
    if let Some(now) = state.recovery_state() {
        sentence.push_str(&format!(" The recovery is {now}."));
    }
    for (row, line) in wrap(&sentence, usize::from(area.width)).into_iter().enumerate() {
        canvas.line(area, row, &Line::from(line));
    }
}
