//! A text of labelled rows and paragraphs, wrapped to a width, for screens that are read from top to bottom.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::tui::text::{clean, width, wrap};
use crate::tui::theme::Theme;

/// Columns of the labels on the left.
const LABEL: usize = 13;

/// From so many columns on, a text has two columns beside each other.
const BESIDE: u16 = 150;

/// The areas of a text's two columns, where there is room for two.
pub(crate) fn halves(area: Rect) -> Option<(Rect, Rect)> {
    const BETWEEN: u16 = 3;
    if area.width < BESIDE {
        return None;
    }
    let left = (area.width - BETWEEN) / 2;
    let right = Rect { x: area.x + left + BETWEEN, width: area.width - left - BETWEEN, ..area };
    Some((Rect { width: left, ..area }, right))
}

/// Lines, in the making.
pub(crate) struct Doc {
    columns: usize,
    theme: Theme,
    lines: Vec<Line<'static>>,
}

impl Doc {
    /// Empty, for this width.
    pub(crate) fn new(columns: u16, theme: Theme) -> Doc {
        Doc { columns: usize::from(columns), theme, lines: Vec::new() }
    }

    /// The lines.
    pub(crate) fn lines(self) -> Vec<Line<'static>> {
        self.lines
    }

    /// An empty line, but never two and none at the top.
    pub(crate) fn blank(&mut self) {
        if self.lines.last().is_some_and(|line| line.width() > 0) {
            self.lines.push(Line::default());
        }
    }

    /// A line as it is.
    pub(crate) fn line(&mut self, line: Line<'static>) {
        self.lines.push(line);
    }

    /// A heading, set apart from what is above it.
    pub(crate) fn heading(&mut self, text: &str) {
        self.blank();
        self.lines.push(Line::from(Span::styled(text.to_owned(), self.theme.label())));
    }

    /// A label and what it stands for.
    pub(crate) fn row(&mut self, label: &str, text: &str, style: Style) {
        // Beside a label there has to be room for words; in narrow places they go below it.
        if self.columns < LABEL * 3 {
            self.lines.push(Line::from(Span::styled(label.to_owned(), self.theme.label())));
            return self.hanging("  ", Style::new(), text, style);
        }
        let label = format!("{label:<LABEL$}");
        self.hanging(&label, self.theme.label(), text, style);
    }

    /// A paragraph.
    pub(crate) fn paragraph(&mut self, text: &str, style: Style) {
        self.hanging("", Style::new(), text, style);
    }

    /// A paragraph with something in front of its first line, and the same width of nothing before the others.
    pub(crate) fn hanging(&mut self, lead: &str, lead_style: Style, text: &str, style: Style) {
        let room = self.columns.saturating_sub(width(lead)).max(1);
        for (number, part) in wrap(&clean(text), room).into_iter().enumerate() {
            let before = if number == 0 { lead.to_owned() } else { " ".repeat(width(lead)) };
            self.lines.push(Line::from(vec![Span::styled(before, lead_style), Span::styled(part, style)]));
        }
    }
}
