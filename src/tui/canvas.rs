//! What screens draw on: a buffer that nothing can be drawn outside of, and what was drawn where.

use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Style;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, BorderType, Clear, Widget};

use super::text::{clean, cut, width};
use super::theme::Theme;
use crate::app::Hit;

/// What a frame turned out to be.
#[derive(Debug, Default)]
pub struct Drawn {
    /// What can be clicked, the topmost last.
    pub hits: Vec<(Rect, Hit)>,
    /// Rows of text that did not fit.
    pub scroll_max: usize,
    /// Rows that the list on the screen shows; 0 where there is none.
    pub page: usize,
    /// Where text is being typed.
    pub cursor: Option<Position>,
}

/// A buffer with a theme.
pub(crate) struct Canvas<'a> {
    buffer: &'a mut Buffer,
    /// What colours mean.
    pub(crate) theme: Theme,
    /// What was drawn.
    pub(crate) drawn: Drawn,
}

impl<'a> Canvas<'a> {
    /// Draws into `buffer`.
    pub(crate) fn new(buffer: &'a mut Buffer, theme: Theme) -> Canvas<'a> {
        Canvas { buffer, theme, drawn: Drawn::default() }
    }

    /// All there is.
    #[must_use]
    pub(crate) fn area(&self) -> Rect {
        self.buffer.area
    }

    fn within(&self, area: Rect) -> Rect {
        area.intersection(self.buffer.area)
    }

    /// Draws a line into a row of `area`; what does not fit is left out.
    pub(crate) fn line(&mut self, area: Rect, row: usize, line: &Line<'_>) {
        let area = self.within(area);
        let Ok(row) = u16::try_from(row) else { return };
        if row < area.height && area.width > 0 {
            self.buffer.set_line(area.x, area.y + row, line, area.width);
        }
    }

    /// Draws lines from the `scroll`th on, and notes how far they can be scrolled. That there is more is said in the
    /// column to the right of `area`, which its frame leaves free: no letter is covered.
    pub(crate) fn scrolled(&mut self, area: Rect, lines: &[Line<'_>], scroll: usize) {
        let height = usize::from(self.within(area).height);
        let scroll_max = lines.len().saturating_sub(height);
        let scroll = scroll.min(scroll_max);
        for (row, line) in lines.iter().skip(scroll).take(height).enumerate() {
            self.line(area, row, line);
        }
        self.drawn.scroll_max = scroll_max;
        self.scroll_signs(area, scroll, scroll_max);
    }

    /// Draws as many lines as there is room for; where that are not all, the last one ends with a mark.
    pub(crate) fn cut_off(&mut self, area: Rect, lines: &[Line<'_>]) {
        let height = usize::from(self.within(area).height);
        for (row, line) in lines.iter().take(height).enumerate() {
            self.line(area, row, line);
        }
        if lines.len() > height && height > 0 {
            self.sign(area.right().saturating_sub(1), area.bottom().saturating_sub(1), "…", self.theme.key());
        }
    }

    /// Draws two texts beside each other, scrolled together.
    pub(crate) fn scrolled_beside(&mut self, areas: [Rect; 2], texts: [&[Line<'_>]; 2], scroll: usize) {
        let mut scroll_max = 0;
        for (area, lines) in areas.into_iter().zip(texts) {
            self.scrolled(area, lines, scroll);
            scroll_max = self.drawn.scroll_max.max(scroll_max);
        }
        self.drawn.scroll_max = scroll_max;
    }

    fn scroll_signs(&mut self, area: Rect, scroll: usize, scroll_max: usize) {
        let right = area.right();
        if scroll > 0 {
            self.sign(right, area.y, "↑", self.theme.key());
        }
        if scroll < scroll_max {
            self.sign(right, area.bottom().saturating_sub(1), "↓", self.theme.key());
        }
    }

    /// Draws one sign into one cell.
    pub(crate) fn sign(&mut self, x: u16, y: u16, symbol: &str, style: Style) {
        if let Some(cell) = self.buffer.cell_mut(Position { x, y }) {
            cell.set_symbol(symbol);
            cell.set_style(style);
        }
    }

    /// What stands in a cell.
    #[must_use]
    pub(crate) fn symbol(&self, x: u16, y: u16) -> &str {
        self.buffer.cell(Position { x, y }).map_or("", |cell| cell.symbol())
    }

    /// Puts a style over what is drawn.
    pub(crate) fn style(&mut self, area: Rect, style: Style) {
        let area = self.within(area);
        self.buffer.set_style(area, style);
    }

    /// Draws a frame with titles on the left and on the right of its upper border, and returns what is inside it.
    pub(crate) fn frame(&mut self, area: Rect, title: &str, right: &str, focused: bool) -> Rect {
        let area = self.within(area);
        let style = self.theme.frame(focused);
        let block = Block::bordered().border_type(BorderType::Rounded).border_style(style);
        let inner = block.inner(area);
        block.render(area, self.buffer);
        let row = Rect { height: area.height.min(1), ..area };
        self.titles(row, title, right, focused);
        inner
    }

    /// A line across a frame, with titles.
    pub(crate) fn divider(&mut self, frame: Rect, y: u16, title: &str, right: &str, focused: bool) {
        let row = self.within(Rect { y, height: 1, ..frame });
        let style = self.theme.frame(focused);
        for x in row.left()..row.right() {
            let symbol = match x {
                _ if x == row.left() => "├",
                _ if x + 1 == row.right() => "┤",
                _ => "─",
            };
            self.sign(x, row.y, symbol, style);
        }
        self.titles(row, title, right, focused);
    }

    fn titles(&mut self, row: Rect, title: &str, right: &str, focused: bool) {
        let room = usize::from(row.width).saturating_sub(4);
        let title = cut(&clean(title), room.saturating_sub(2));
        let style = if focused { self.theme.strong() } else { self.theme.plain() };
        let inside = Rect { x: row.x + 2, width: room as u16, ..row };
        if room > 2 && !title.is_empty() {
            self.line(inside, 0, &Line::from(Span::styled(format!(" {title} "), style)));
        }
        let right = clean(right);
        let left_over = room.saturating_sub(width(&title) + 3);
        if !right.is_empty() && width(&right) + 2 <= left_over {
            let columns = (width(&right) + 2) as u16;
            let place = Rect { x: inside.right() - columns, width: columns, ..row };
            self.line(place, 0, &Line::from(Span::styled(format!(" {right} "), self.theme.dim())));
        }
    }

    /// Wipes an area, for what lies over a screen.
    pub(crate) fn clear(&mut self, area: Rect) {
        let area = self.within(area);
        // Half of a wide character at the edge would shift the row on some terminals.
        Clear.render(area, self.buffer);
        if let Some(x) = area.x.checked_sub(1) {
            for y in area.top()..area.bottom() {
                if width(self.symbol(x, y)) > 1 {
                    self.sign(x, y, " ", Style::new());
                }
            }
        }
    }

    /// Notes that something can be clicked.
    pub(crate) fn hit(&mut self, area: Rect, hit: Hit) {
        let area = self.within(area);
        if !area.is_empty() {
            self.drawn.hits.push((area, hit));
        }
    }

    /// Notes where text is being typed.
    pub(crate) fn cursor(&mut self, x: u16, y: u16) {
        let position = Position { x, y };
        if self.buffer.area.contains(position) {
            self.drawn.cursor = Some(position);
        }
    }
}

/// The topmost thing at a place.
#[must_use]
pub fn hit_at(hits: &[(Rect, Hit)], column: u16, row: u16) -> Option<Hit> {
    let place = Position { x: column, y: row };
    hits.iter().rev().find(|(area, _)| area.contains(place)).map(|(_, hit)| *hit)
}
