//! Three parts of a screen, one above the other: what is above all, a list, and the chosen row in full.

use ratatui::layout::Rect;
use ratatui::text::Line;

use crate::tui::canvas::Canvas;

/// Where the parts are.
pub(crate) struct Stack {
    frame: Rect,
    inner: Rect,
    /// Rows that the list has at least, where there is room for any.
    least: u16,
    /// Rows for the chosen one: none where the frame is too low for them.
    details: u16,
}

/// The parts below the upper one.
pub(crate) struct Lower {
    /// Rows of the list.
    pub(crate) list: Rect,
    /// The row of the divider behind it and those of the chosen one, where there is room for it.
    pub(crate) details: Option<(u16, Rect)>,
}

impl Stack {
    /// Within `frame`, whose inside is `inner`. `least`: rows that the list has at least; `details`: rows for the chosen one in
    /// a frame that is low, usual, or high.
    pub(crate) fn new(frame: Rect, inner: Rect, least: u16, details: [u16; 3]) -> Stack {
        let [low, usual, high] = details;
        let details = match inner.height {
            0..9 => 0,
            9..14 => low,
            14..24 => usual,
            _ => high,
        };
        Stack { frame, inner, least, details }
    }

    /// The room that the upper part may take, divider left aside.
    pub(crate) fn room(&self) -> Rect {
        let below = behind_divider(self.details);
        let least = self.least.min(self.inner.height.saturating_sub(below));
        Rect { height: self.inner.height.saturating_sub(below + least + 1), ..self.inner }
    }

    /// Draws the upper part, and the divider with these titles behind it; gives the others. `rows`: so many the list needs; what
    /// it does not need is for the chosen one.
    pub(crate) fn draw_upper(
        &self,
        canvas: &mut Canvas<'_>,
        lines: &[Line<'_>],
        titles: (&str, &str),
        rows: usize,
    ) -> Lower {
        let drawn = (lines.len() as u16).min(self.room().height);
        for (row, line) in lines.iter().take(usize::from(drawn)).enumerate() {
            canvas.line(self.inner, row, line);
        }
        let mut y = self.inner.y + drawn;
        if drawn > 0 {
            canvas.divider(self.frame, y, titles.0, titles.1, true);
            y += 1;
        }
        let bottom = self.inner.bottom();
        let spare = usize::from(bottom.saturating_sub(y + behind_divider(self.details))).saturating_sub(rows);
        let height = if self.details > 0 { self.details + spare as u16 } else { 0 };
        let below = behind_divider(height);
        let details = (height > 0).then(|| {
            let divider = bottom - below;
            (divider, Rect { y: divider + 1, height, ..self.inner })
        });
        Lower { list: Rect { y, height: bottom.saturating_sub(y + below), ..self.inner }, details }
    }
}

/// So many rows with the divider before them.
fn behind_divider(rows: u16) -> u16 {
    rows + u16::from(rows > 0)
}
