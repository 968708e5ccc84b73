//! A screen that has no words of its own as lines: as it is drawn, without its frames.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;

use crate::app::State;
use crate::tui::theme::Theme;
use crate::tui::{draw, glyphs};

/// Columns and rows that it is drawn in.
const SIZE: (u16, u16) = (120, 60);

/// What it shows, without frames and empty lines, and without the header and the footer.
pub(super) fn lines(state: &State) -> Vec<String> {
    let mut buffer = Buffer::empty(Rect::new(0, 0, SIZE.0, SIZE.1));
    draw(state, Theme::new(false), &mut buffer);
    let row = |y: u16| {
        let symbols = (0..SIZE.0).filter_map(|x| buffer.cell((x, y))).map(|cell| cell.symbol());
        let text: String = symbols.map(|symbol| if glyphs::is_frame(symbol) { " " } else { symbol }).collect();
        text.trim_end().to_owned()
    };
    (1..SIZE.1.saturating_sub(2)).map(row).filter(|line| !line.trim().is_empty()).collect()
}
