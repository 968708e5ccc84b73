//! Commits over time as bars, with what else happened below them, and the time.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::chart::{Mark, MarkKind, View, column_at, column_of};
use crate::app::window::{Tick, Window};
use crate::app::{Hit, Pane, State, suspects};
use crate::core::progress::{counted, grouped};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};

/// Columns between two times on the axis at least.
const APART: usize = 6;
/// What is said of a mark is worth a place only where so much of it fits.
const WORDS: usize = 8;

/// Rows of the bars, and of what lies below them, where the chart and what goes with it have so many.
pub(crate) fn rows(height: u16) -> (u16, u16) {
    match height {
        0..11 => (0, 0),
        // Marks and times share a row.
        11..20 => (1, 1),
        20..30 => (2, 2),
        30..38 => (4, 2),
        _ => (6, 2),
    }
}

/// What its title says on the left and on the right, in so many columns.
pub(crate) fn titles(state: &State, columns: u16) -> (String, String) {
    let view = state.chart.view();
    let title = match view.window {
        None => return ("Activity  no times yet".to_owned(), String::new()),
        Some(window) => {
            let commits = if state.chart.shows_all() { state.points.commits() } else { view.commits };
            let about = if state.chart.shows_all() || view.is_exact() { "" } else { "about " };
            format!("Activity  {}  {about}{}", range(window, state), counted(commits, "commit"))
        }
    };
    let keys = "← → pan  + - zoom  0 all";
    let legend = format!(
        "{} suspect  {} restore point  {} backup  {} missing  {} selected",
        glyphs::SUSPECT,
        glyphs::RESTORE_POINT,
        glyphs::BACKUP,
        glyphs::BAD,
        glyphs::HERE
    );
    let both = format!("{legend}   {keys}");
    let room = usize::from(columns).saturating_sub(width(&title) + 9);
    let right = [both, legend, keys.to_owned()].into_iter().find(|right| width(right) <= room);
    (title, right.unwrap_or_default())
}

/// From when to when, as finely as it is long: `10-02 14:30 – 10-03 02:00`, `10-02 14:30:05 – 14:31:10`.
fn range(window: Window, state: &State) -> String {
    let end = match window.micros() {
        ..5_000 => 26,
        5_000..5_000_000 => 23,
        5_000_000..3_600_000_000 => 19,
        _ => 16,
    };
    between(&window.from().in_zone(state.zone), &window.last().in_zone(state.zone), end)
}

fn between(from: &str, to: &str, end: usize) -> String {
    let part = |time: &str, from: usize| time.get(from..end).unwrap_or_default().to_owned();
    let same_day = from.get(..10) == to.get(..10);
    format!("{} – {}", part(from, 5), part(to, if same_day { 11 } else { 5 }))
}

/// Bars, and below them marks and times, in one row or in two.
pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect, (bars, below): (u16, u16)) {
    let view = state.chart.view();
    let columns = usize::from(area.width);
    let Some(window) = view.window.filter(|_| columns > 0) else { return };
    draw_bars(canvas, view, Rect { height: bars, ..area });
    let marks = Rect { y: area.y + bars, height: 1, ..area };
    let axis = Rect { y: area.y + bars + below - 1, height: 1, ..area };
    let selected = state.points.moment().and_then(|at| column_at(window, at, columns));
    let shown = shown_marks(view, columns);
    let ticks = window.ticks(state.zone, columns, APART);
    let marked = |column: usize| below == 1 && shown.iter().any(|(at, _)| *at == column);
    let taken = |column: usize| selected == Some(column) || marked(column);
    for tick in &ticks {
        draw_tick(canvas, tick, axis, taken);
    }
    draw_marks(canvas, state, &shown, marks, below > 1);
    if let Some(column) = selected {
        let x = area.x + column as u16;
        canvas.sign(x, axis.y, glyphs::HERE, canvas.theme.key());
        if state.pane == Pane::Chart {
            canvas.style(Rect { x, width: 1, height: bars, ..area }, canvas.theme.selected());
        }
    }
    for column in 0..area.width {
        let place = Rect { x: area.x + column, width: 1, height: bars + below, ..area };
        canvas.hit(place, Hit::Chart { column, columns: area.width });
    }
}

fn draw_bars(canvas: &mut Canvas<'_>, view: &View, area: Rect) {
    let columns = view.columns(usize::from(area.width));
    let most = columns.iter().copied().fold(0.0, f32::max);
    for (from, to) in &view.lacks {
        let (from, to) = (column_of(*from, columns.len()), column_of(*to, columns.len()));
        for column in from..=to {
            canvas.sign(area.x + column as u16, area.bottom().saturating_sub(1), "░", canvas.theme.bad());
        }
    }
    for (x, commits) in (area.left()..).zip(&columns) {
        for row in 0..area.height {
            if let Some(level) = level(*commits, most, area.height, row) {
                canvas.sign(x, area.bottom() - 1 - row, level, canvas.theme.bar());
            }
        }
    }
}

/// What fills a bar's cell in this row from the bottom. A single commit is never invisible.
fn level(commits: f32, most: f32, rows: u16, row: u16) -> Option<&'static str> {
    if commits <= 0.0 {
        return None;
    }
    let steps = f32::from(rows) * glyphs::LEVELS.len() as f32;
    let height = (commits * steps / most.max(f32::MIN_POSITIVE)).ceil().max(1.0) as usize;
    let here = height.checked_sub(usize::from(row) * glyphs::LEVELS.len() + 1)?;
    glyphs::LEVELS.get(here).or(glyphs::LEVELS.last()).copied()
}

/// In every column the mark that must not be hidden.
fn shown_marks(view: &View, columns: usize) -> Vec<(usize, Mark)> {
    let mut shown: Vec<(usize, Mark)> = Vec::new();
    for mark in &view.marks {
        let column = column_of(mark.bin, columns);
        match shown.last_mut() {
            Some((last, before)) if *last == column => {
                if before.kind == mark.kind {
                    before.number = before.number.saturating_add(mark.number);
                } else if mark.kind > before.kind {
                    *before = *mark;
                }
            }
            _ => shown.push((column, *mark)),
        }
    }
    shown
}

fn draw_tick(canvas: &mut Canvas<'_>, tick: &Tick, axis: Rect, taken: impl Fn(usize) -> bool) {
    let columns = width(&tick.words) + 1;
    let fits = tick.column + columns <= usize::from(axis.width);
    if fits && !(tick.column..tick.column + columns).any(taken) {
        let place = Rect { x: axis.x + tick.column as u16, width: columns as u16, ..axis };
        canvas.line(place, 0, &Line::from(Span::styled(format!("└{}", tick.words), canvas.theme.dim())));
    }
}

fn draw_marks(canvas: &mut Canvas<'_>, state: &State, shown: &[(usize, Mark)], row: Rect, in_words: bool) {
    for (number, (column, mark)) in shown.iter().enumerate() {
        let x = row.x + *column as u16;
        let (symbol, style) = sign(canvas, mark.kind);
        canvas.sign(x, row.y, symbol, style);
        let until = shown.get(number + 1).map_or(usize::from(row.width), |(next, _)| *next);
        let room = until.saturating_sub(column + 3);
        let words = if in_words && room >= WORDS { words(state, mark) } else { continue };
        let place = Rect { x: x + 2, width: room as u16, ..row };
        canvas.line(place, 0, &Line::from(Span::styled(cut(&clean(&words), room), style)));
    }
}

/// A mark's sign.
pub(crate) fn sign(canvas: &Canvas<'_>, kind: MarkKind) -> (&'static str, Style) {
    let theme = canvas.theme;
    match kind {
        MarkKind::Suspect => (glyphs::SUSPECT, theme.warning()),
        MarkKind::Lack => (glyphs::BAD, theme.bad()),
        MarkKind::RestorePoint => (glyphs::RESTORE_POINT, theme.name()),
        MarkKind::Backup => (glyphs::BACKUP, theme.good()),
        MarkKind::Promotion => ("▶", theme.label()),
    }
}

/// What a mark stands for.
pub(crate) fn words(state: &State, mark: &Mark) -> String {
    if mark.number > 1 {
        let many = match mark.kind {
            MarkKind::Suspect => "suspects",
            MarkKind::Lack => "gaps",
            MarkKind::RestorePoint => "restore points",
            MarkKind::Backup => "backups",
            MarkKind::Promotion => "promotions",
        };
        return format!("{} {many}", grouped(u64::from(mark.number)));
    }
    let overview = state.points.overview();
    let known = match mark.kind {
        MarkKind::Suspect => overview.suspects.get(mark.first).map(suspects::in_words),
        MarkKind::Lack => state.points.lacks().get(mark.first).map(|lack| lack.short.clone()),
        MarkKind::RestorePoint => overview.marks.get(mark.first).and_then(|point| point.name.clone()),
        MarkKind::Backup => state
            .loaded()
            .and_then(|catalog| catalog.backups.get(mark.first))
            .map(|backup| format!("backup {}", backup.id)),
        MarkKind::Promotion => {
            overview.marks.get(mark.first).map(|point| format!("promoted to timeline {}", point.timeline))
        }
    };
    known.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_as_fine_as_it_is_long_and_one_day_is_said_once() {
        let from = "2024-10-02 14:30:05.000000 +02:00";
        assert_eq!(between(from, "2024-10-02 14:31:10.000000 +02:00", 19), "10-02 14:30:05 – 14:31:10");
        assert_eq!(between(from, "2024-10-02 16:00:00.000000 +02:00", 16), "10-02 14:30 – 16:00");
        assert_eq!(between(from, "2024-10-03 14:30:05.000000 +02:00", 16), "10-02 14:30 – 10-03 14:30");
        assert_eq!(between(from, "2024-10-02 14:30:05.000250 +02:00", 26), "10-02 14:30:05.000000 – 14:30:05.000250");
    }

    #[test]
    fn bars_reach_from_the_first_commit_to_the_top() {
        assert_eq!(level(0.0, 100.0, 1, 0), None);
        assert_eq!((level(1.0, 100.0, 1, 0), level(0.001, 100.0, 1, 0)), (Some("▁"), Some("▁")));
        assert_eq!(level(100.0, 100.0, 1, 0), Some("█"));
        assert_eq!((level(50.0, 100.0, 2, 0), level(50.0, 100.0, 2, 1)), (Some("█"), None));
        assert_eq!((level(75.0, 100.0, 2, 0), level(75.0, 100.0, 2, 1)), (Some("█"), Some("▄")));
    }
}
