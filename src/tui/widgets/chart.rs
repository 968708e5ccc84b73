//! Commits over time as bars, with what else happened below them, and the time.

use std::collections::BTreeMap;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::chart::{Mark, MarkKind, View, column_at, column_of};
use crate::app::unreached::Unreached;
use crate::app::window::{Tick, Window};
use crate::app::{Hit, Pane, State, course, suspects};
use crate::core::Timestamp;
use crate::core::progress::{counted, grouped};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::{clean, cut, width};
use crate::tui::theme::Bars;

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

/// What its title says on the left and on the right, in so many columns: the signs that are on screen, in words, and
/// the keys.
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
    let room = usize::from(columns).saturating_sub(width(&title) + 9);
    let legend = legend(&signs(state), room);
    let right = match legend.is_empty() {
        true => keys.to_owned(),
        false if width(&legend) + 3 + width(keys) <= room => format!("{legend}   {keys}"),
        false => legend,
    };
    (title, right)
}

/// Signs with their words, as many as there is room for; none where there is hardly any.
pub(crate) fn legend(signs: &[(&str, &str)], room: usize) -> String {
    const FEW: usize = 3;
    let words: Vec<String> = signs.iter().map(|(sign, word)| format!("{sign} {word}")).collect();
    let fits = |count: &usize| width(&words.get(..*count).unwrap_or_default().join("  ")) <= room;
    let count = (1..=words.len()).rev().find(fits).unwrap_or(0);
    if count < FEW.min(words.len()) { String::new() } else { words.get(..count).unwrap_or_default().join("  ") }
}

/// The signs that are on the time axis now, and a word for each.
fn signs(state: &State) -> Vec<(&'static str, &'static str)> {
    let view = state.chart.view();
    let is_in = |at: Option<Timestamp>| view.window.zip(at).is_some_and(|(window, at)| window.contains(at));
    let mut signs = Vec::new();
    if is_in(course::chosen(state).and_then(course::time_of)) {
        signs.push((glyphs::TARGET, "stop"));
    }
    signs.extend(marked(view));
    if is_in(state.points.moment()) {
        signs.push((glyphs::HERE, "selected"));
    }
    signs
}

/// The signs of a view's marks and stretches, and a word for each.
pub(crate) fn marked(view: &View) -> Vec<(&'static str, &'static str)> {
    let kinds = [
        (MarkKind::Suspect, glyphs::SUSPECT, "suspect"),
        (MarkKind::RestorePoint, glyphs::RESTORE_POINT, "restore point"),
        (MarkKind::Backup, glyphs::BACKUP, "backup"),
        (MarkKind::Lack, glyphs::BAD, "gap"),
        (MarkKind::Promotion, glyphs::FORK, "promoted"),
    ];
    let is_there = |kind: MarkKind| view.marks.iter().any(|mark| mark.kind == kind);
    let marks = kinds.into_iter().filter(|(kind, _, _)| is_there(*kind)).map(|(_, sign, word)| (sign, word));
    let unreached = (!view.unreached.is_empty()).then_some((glyphs::UNREACHED, "out of reach"));
    marks.chain(unreached).collect()
}

/// From when to when, as finely as it is long: `10-02 14:30 – 10-03 02:00`, `10-02 14:30:05 – 14:31:10`.
fn range(window: Window, state: &State) -> String {
    let end = match window.micros() {
        ..5_000 => 26,
        5_000..5_000_000 => 23,
        5_000_000..3_600_000_000 => 19,
        _ => 16,
    };
    let (from, to) = (window.from(), window.last());
    let offsets = [from, to].map(|at| at.offset_if_twice(state.zone));
    between(&from.in_zone(state.zone), &to.in_zone(state.zone), end, &offsets)
}

/// Two times of [`Timestamp::in_zone`] up to this column, with what is to be read behind each of them.
fn between(from: &str, to: &str, end: usize, [behind_from, behind_to]: &[String; 2]) -> String {
    let part = |time: &str, from: usize| time.get(from..end).unwrap_or_default().to_owned();
    let same_day = from.get(..10) == to.get(..10);
    format!("{}{behind_from} – {}{behind_to}", part(from, 5), part(to, if same_day { 11 } else { 5 }))
}

/// Bars, and below them marks and times, in one row or in two; what is clicked there is gone to.
pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect, rows: (u16, u16)) {
    let Some(window) = state.chart.view().window.filter(|_| area.width > 0) else { return };
    show(canvas, state, area, rows);
    let selected = state.points.moment().and_then(|at| column_at(window, at, usize::from(area.width)));
    if let Some(column) = selected.filter(|_| state.pane == Pane::Chart) {
        let x = area.x + column as u16;
        canvas.style(Rect { x, width: 1, height: rows.0, ..area }, canvas.theme.selected());
    }
    for column in 0..area.width {
        let place = Rect { x: area.x + column, width: 1, height: rows.0 + rows.1, ..area };
        canvas.hit(place, Hit::Chart { column, columns: area.width });
    }
}

/// The same, to look at.
pub(crate) fn show(canvas: &mut Canvas<'_>, state: &State, area: Rect, rows: (u16, u16)) {
    let view = state.chart.view();
    let columns = usize::from(area.width);
    let column = |at: Option<Timestamp>| view.window.zip(at).and_then(|(window, at)| column_at(window, at, columns));
    let stop = column(course::chosen(state).and_then(course::time_of));
    let style = canvas.theme.target();
    let pin = |column| Pin { column, symbol: glyphs::TARGET, style, words: "stops here".into() };
    let pins: Vec<Pin> = stop.map(pin).into_iter().collect();
    draw_axis(canvas, state, view, area, rows, &pins, column(state.points.moment()));
}

/// A sign of its own on the axis, over all others.
pub(crate) struct Pin {
    /// Where it is.
    pub(crate) column: usize,
    /// The sign.
    pub(crate) symbol: &'static str,
    /// How it looks.
    pub(crate) style: Style,
    /// What is said beside it, where there is room.
    pub(crate) words: String,
}

/// What is drawn in the row of marks: at most one a column.
struct Shown {
    column: usize,
    symbol: &'static str,
    style: Style,
    words: String,
}

/// A view on `area`: so many rows of bars, and one or two for what lies below them.
pub(crate) fn draw_axis(
    canvas: &mut Canvas<'_>,
    state: &State,
    view: &View,
    area: Rect,
    (bars, below): (u16, u16),
    pins: &[Pin],
    selected: Option<usize>,
) {
    let columns = usize::from(area.width);
    let Some(window) = view.window.filter(|_| columns > 0) else { return };
    draw_bars(canvas, view, Rect { height: bars, ..area });
    let marks = Rect { y: area.y + bars, height: 1, ..area };
    let axis = Rect { y: area.y + bars + below - 1, height: 1, ..area };
    let shown = shown(canvas, state, view, columns, pins);
    hatch(canvas, view, marks);
    let marked = |column: usize| below == 1 && shown.iter().any(|mark| mark.column == column);
    let taken = |column: usize| selected == Some(column) || marked(column);
    for tick in &window.ticks(state.zone, columns, APART) {
        draw_tick(canvas, tick, axis, taken);
    }
    draw_marks(canvas, &shown, marks, below > 1);
    // What there is at the cursor is not hidden by it.
    let marked = |column: usize| shown.iter().find(|mark| below == 1 && mark.column == column);
    match selected.map(|column| (column, marked(column))) {
        Some((column, Some(mark))) if mark.symbol != glyphs::UNREACHED => {
            let style = mark.style.patch(canvas.theme.selected());
            canvas.sign(area.x + column as u16, axis.y, mark.symbol, style);
        }
        Some((column, _)) => canvas.sign(area.x + column as u16, axis.y, glyphs::HERE, canvas.theme.key()),
        None => {}
    }
}

/// Where recovery does not come, below the bars.
fn hatch(canvas: &mut Canvas<'_>, view: &View, row: Rect) {
    let columns = usize::from(row.width);
    for stretch in &view.unreached {
        for column in column_of(stretch.first, columns)..=column_of(stretch.last, columns) {
            canvas.sign(row.x + column as u16, row.y, glyphs::UNREACHED, canvas.theme.unreachable());
        }
    }
}

fn draw_bars(canvas: &mut Canvas<'_>, view: &View, area: Rect) {
    let columns = usize::from(area.width);
    for (from, to) in &view.lacks {
        for column in column_of(*from, columns)..=column_of(*to, columns) {
            let bottom = area.bottom().saturating_sub(1);
            canvas.sign(area.x + column as u16, bottom, glyphs::LACKING, canvas.theme.bad());
        }
    }
    let is_reached = |column: usize| {
        let covers = |stretch: &Unreached| {
            (column_of(stretch.first, columns)..=column_of(stretch.last, columns)).contains(&column)
        };
        !view.unreached.iter().any(covers)
    };
    let braille = canvas.theme.bars() == Bars::Braille;
    let heights = view.columns(if braille { columns * 2 } else { columns });
    let most = heights.iter().copied().fold(0.0, f32::max);
    let per_row = if braille { 4 } else { 8 };
    let cells = heights.chunks(if braille { 2 } else { 1 });
    for (column, commits) in cells.enumerate() {
        let style = if is_reached(column) { canvas.theme.bar() } else { canvas.theme.unreachable() };
        for row in 0..area.height {
            let steps = |commits: &f32| steps(*commits, most, area.height, row, per_row);
            let (left, right) = (commits.first().map_or(0, steps), commits.get(1).map_or(0, steps));
            if let Some(symbol) = bar(canvas.theme.bars(), left, right) {
                let mut bytes = [0; 4];
                canvas.sign(area.x + column as u16, area.bottom() - 1 - row, symbol.encode_utf8(&mut bytes), style);
            }
        }
    }
}

/// What fills a bar's cell of so many steps.
pub(crate) fn bar(bars: Bars, left: usize, right: usize) -> Option<char> {
    let level = |levels: [&str; 8]| levels.get(left.checked_sub(1)?)?.chars().next();
    match bars {
        Bars::Blocks => level(glyphs::LEVELS),
        Bars::Ascii => level(glyphs::ASCII_LEVELS),
        Bars::Braille if left + right == 0 => None,
        Bars::Braille => Some(glyphs::braille(left, right)),
    }
}

/// How many of a cell's steps a bar fills in this row from the bottom. A single commit is never invisible.
pub(crate) fn steps(commits: f32, most: f32, rows: u16, row: u16, per_row: usize) -> usize {
    if commits <= 0.0 {
        return 0;
    }
    let all = f32::from(rows) * per_row as f32;
    let height = (commits * all / most.max(f32::MIN_POSITIVE)).ceil().max(1.0) as usize;
    height.saturating_sub(usize::from(row) * per_row).min(per_row)
}

/// What is drawn in the row of marks: pins over marks, and where a stretch begins that recovery does not come to.
fn shown(canvas: &Canvas<'_>, state: &State, view: &View, columns: usize, pins: &[Pin]) -> Vec<Shown> {
    let mut shown: BTreeMap<usize, Shown> = BTreeMap::new();
    for stretch in &view.unreached {
        let (column, style) = (column_of(stretch.first, columns), canvas.theme.unreachable());
        let words = stretch.why.in_words().to_owned();
        shown.insert(column, Shown { column, symbol: glyphs::UNREACHED, style, words });
    }
    for (column, mark) in shown_marks(view, columns) {
        let (symbol, style) = sign(canvas, mark.kind);
        shown.insert(column, Shown { column, symbol, style, words: words(state, &mark) });
    }
    for pin in pins {
        let Pin { column, symbol, style, ref words } = *pin;
        shown.insert(column, Shown { column, symbol, style, words: words.clone() });
    }
    shown.into_values().collect()
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

fn draw_marks(canvas: &mut Canvas<'_>, shown: &[Shown], row: Rect, in_words: bool) {
    for (number, mark) in shown.iter().enumerate() {
        let x = row.x + mark.column as u16;
        canvas.sign(x, row.y, mark.symbol, mark.style);
        let until = shown.get(number + 1).map_or(usize::from(row.width), |next| next.column);
        let room = until.saturating_sub(mark.column + 3);
        if !in_words || room < WORDS || mark.words.is_empty() {
            continue;
        }
        let place = Rect { x: x + 2, width: room as u16, ..row };
        let words = cut(&clean(&mark.words), room);
        // The signs of a stretch end where its words end.
        canvas.sign(x + 1, row.y, " ", mark.style);
        canvas.sign(place.x + width(&words) as u16, row.y, " ", mark.style);
        canvas.line(place, 0, &Line::from(Span::styled(words, mark.style)));
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
        MarkKind::Promotion => (glyphs::FORK, theme.label()),
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
        let said = |from, to, end| between(from, to, end, &[String::new(), String::new()]);
        let from = "2024-10-02 14:30:05.000000 +02:00";
        assert_eq!(said(from, "2024-10-02 14:31:10.000000 +02:00", 19), "10-02 14:30:05 – 14:31:10");
        assert_eq!(said(from, "2024-10-02 16:00:00.000000 +02:00", 16), "10-02 14:30 – 16:00");
        assert_eq!(said(from, "2024-10-03 14:30:05.000000 +02:00", 16), "10-02 14:30 – 10-03 14:30");
        assert_eq!(said(from, "2024-10-02 14:30:05.000250 +02:00", 26), "10-02 14:30:05.000000 – 14:30:05.000250");
        let offsets = ["+02".to_owned(), "+01".to_owned()];
        let to = "2024-10-27 02:15:00.000000 +01:00";
        let twice = between("2024-10-27 02:30:05.000000 +02:00", to, 16, &offsets);
        assert_eq!(twice, "10-27 02:30+02 – 02:15+01");
    }

    #[test]
    fn bars_reach_from_the_first_commit_to_the_top() {
        let level = |commits, most, rows, row| bar(Bars::Blocks, steps(commits, most, rows, row, 8), 0);
        assert_eq!(level(0.0, 100.0, 1, 0), None);
        assert_eq!((level(1.0, 100.0, 1, 0), level(0.001, 100.0, 1, 0)), (Some('▁'), Some('▁')));
        assert_eq!(level(100.0, 100.0, 1, 0), Some('█'));
        assert_eq!((level(50.0, 100.0, 2, 0), level(50.0, 100.0, 2, 1)), (Some('█'), None));
        assert_eq!((level(75.0, 100.0, 2, 0), level(75.0, 100.0, 2, 1)), (Some('█'), Some('▄')));
    }

    #[test]
    fn bars_are_of_dots_or_of_ascii_too() {
        assert_eq!((bar(Bars::Ascii, 1, 0), bar(Bars::Ascii, 8, 0)), (Some('.'), Some('#')));
        let dots = |left, right| bar(Bars::Braille, left, right);
        assert_eq!((dots(0, 0), dots(1, 0), dots(0, 4), dots(4, 4)), (None, Some('⡀'), Some('⢸'), Some('⣿')));
        assert_eq!([0, 1].map(|row| steps(75.0, 100.0, 2, row, 4)), [4, 2]);
    }
}
