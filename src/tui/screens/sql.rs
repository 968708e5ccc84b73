//! SQL that is typed, and what the recovered server answers.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::dialog::{draw_field, open_wide};
use crate::app::query::{Said, SqlForm};
use crate::core::{Rows, Zone};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, width};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;

/// A column is at most so wide.
const WIDEST: usize = 40;

pub(super) fn draw(canvas: &mut Canvas<'_>, zone: Zone, form: &SqlForm, area: Rect) {
    let theme = canvas.theme;
    let room = usize::from(area.height.saturating_sub(2));
    let title = format!("Ask the recovered server: database {}", clean(form.database()));
    let inner = open_wide(canvas, area, &title, "Enter asks, Tab database, Esc leaves", room, area.width);
    draw_field(canvas, &form.field, inner, 0);
    let below = match &form.answer {
        Said::Unasked => {
            let mut doc = Doc::new(inner.width, theme);
            doc.paragraph(
                &format!("One statement, in a transaction that can only read: nothing can be changed this way. Times are in {zone}."),
                theme.dim(),
            );
            doc.lines()
        }
        Said::Asked => vec![Line::styled("asking …", theme.dim())],
        Said::Rows(rows) => table(rows, form.scroll, room.saturating_sub(2), theme),
        Said::Refused(error) => {
            let mut doc = Doc::new(inner.width, theme);
            let report = error.report();
            doc.hanging(&format!("{} ", glyphs::BAD), theme.bad(), &clean(&report.message), theme.bad());
            for cause in &report.causes {
                doc.hanging("  ", theme.plain(), &clean(cause), theme.plain());
            }
            if let Some(hint) = &report.hint {
                doc.hanging("  ", theme.plain(), &clean(hint), theme.strong());
            }
            doc.lines()
        }
    };
    for (row, line) in below.iter().enumerate() {
        canvas.line(inner, row + 2, line);
    }
}

/// The rows from `from` on that there is room for, in columns, with how many there are below.
pub(crate) fn table(rows: &Rows, from: usize, room: usize, theme: Theme) -> Vec<Line<'static>> {
    let shown = |cell: &Option<String>| cell.as_deref().map_or_else(|| "null".to_owned(), |cell| short(&clean(cell)));
    let count = match (rows.rows.len(), rows.more) {
        (1, false) => "1 row".to_owned(),
        (count, false) => format!("{count} rows"),
        (count, true) => format!("the first {count} rows; there are more"),
    };
    let page: Vec<Vec<String>> =
        rows.rows.iter().skip(from).take(room.saturating_sub(2)).map(|row| row.iter().map(shown).collect()).collect();
    let heads: Vec<String> = rows.columns.iter().map(|head| short(&clean(head))).collect();
    let widths: Vec<usize> = (0..heads.len())
        .map(|place| {
            page.iter().chain([&heads]).filter_map(|row| row.get(place)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let line = |cells: &Vec<String>| {
        let padded = cells
            .iter()
            .zip(&widths)
            .map(|(cell, wide)| format!("{cell}{}", " ".repeat(wide.saturating_sub(width(cell)))));
        padded.collect::<Vec<_>>().join("  ")
    };
    let head = Line::styled(line(&heads), theme.label());
    let last = from + page.len();
    let place =
        if last < rows.rows.len() || from > 0 { format!(", {} to {last} shown", from + 1) } else { String::new() };
    let body = page.iter().map(|row| Line::styled(line(row), theme.plain()));
    std::iter::once(head)
        .chain(body)
        .chain([Line::from(Span::styled(format!("{count}{place}"), theme.dim()))])
        .collect()
}

fn short(text: &str) -> String {
    if width(text) <= WIDEST {
        return text.to_owned();
    }
    let mut kept = String::new();
    for character in text.chars() {
        if width(&kept) + 2 > WIDEST {
            break;
        }
        kept.push(character);
    }
    kept + "…"
}
