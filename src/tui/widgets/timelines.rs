//! The timelines as a graph: where they forked, what lies on them, where they end.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::{Hit, State, course};
use crate::catalog::{Catalog, Timeline};
use crate::core::{Lsn, SegmentSize, TimelineId};
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::text::width;

/// Columns for a timeline's number.
const NUMBER: u16 = 4;
/// Columns for the time at which its WAL ends.
const END: u16 = 12;

/// Positions of WAL to columns.
struct Scale {
    from: Lsn,
    bytes: u64,
    area: Rect,
}

impl Scale {
    fn new(catalog: &Catalog, area: Rect) -> Scale {
        let ends = catalog.timelines.iter().map(|t| end(t, catalog));
        let starts = catalog.timelines.iter().map(|t| start(t, catalog));
        let from = starts.filter(|lsn| *lsn > Lsn::INVALID).min().unwrap_or(Lsn::INVALID);
        let to = ends.max().unwrap_or(from);
        Scale { from, bytes: to.bytes_since(from).max(1), area }
    }

    fn column(&self, lsn: Lsn) -> u16 {
        let last = self.area.width.saturating_sub(1);
        let share = lsn.bytes_since(self.from) as f64 / self.bytes as f64;
        self.area.x + (share.clamp(0.0, 1.0) * f64::from(last)).round() as u16
    }

    /// The first position that is drawn in this column of the graph, or behind it.
    fn lsn(&self, column: u16) -> Lsn {
        let last = f64::from(self.area.width.saturating_sub(1).max(1));
        let share = (f64::from(column) - 0.5).max(0.0) / last;
        self.from.plus((share * self.bytes as f64).ceil() as u64)
    }
}

fn start(timeline: &Timeline, catalog: &Catalog) -> Lsn {
    let first = timeline.first_segment.map(|segment| segment.start(catalog.segment_size));
    timeline.forked_at_lsn.or(first).unwrap_or(Lsn::INVALID)
}

fn end(timeline: &Timeline, catalog: &Catalog) -> Lsn {
    let last = timeline.last_segment.map(|s| s.start(catalog.segment_size).plus(catalog.segment_size.bytes()));
    timeline.end_lsn.or(last).unwrap_or(start(timeline, catalog))
}

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, catalog: &Catalog, area: Rect) {
    let mut newest_first: Vec<&Timeline> = catalog.timelines.iter().collect();
    newest_first.sort_by_key(|timeline| std::cmp::Reverse(timeline.id));
    let active = state.points.filter().or(state.points.timeline());
    let all = newest_first.len();
    // The axis gives way where timelines need its row.
    let has_axis = all < usize::from(area.height);
    let axis = Rect { y: area.bottom().saturating_sub(1), height: u16::from(has_axis), ..area };
    let area = Rect { height: area.height - axis.height, ..area };
    let rows = usize::from(area.height);
    let place = newest_first.iter().position(|timeline| Some(timeline.id) == active).unwrap_or(0);
    let skip = place.saturating_sub(rows / 2).min(newest_first.len().saturating_sub(rows));
    let shown: Vec<&Timeline> = newest_first.into_iter().skip(skip).take(rows).collect();
    let graph = Rect { x: area.x + NUMBER, width: area.width.saturating_sub(NUMBER + END), ..area };
    let scale = Scale::new(catalog, graph);
    for (y, timeline) in (area.y..).zip(&shown) {
        number(canvas, timeline, active, Rect { y, height: 1, ..area });
        stretch(canvas, state, &scale, timeline, catalog, y);
        ending(canvas, state, timeline, Rect { y, height: 1, ..area });
        canvas.hit(Rect { y, height: 1, ..area }, Hit::Timeline(timeline.id));
    }
    for (y, timeline) in (area.y..).zip(&shown) {
        let parent = (area.y..).zip(&shown).find(|(_, other)| Some(other.id) == timeline.parent);
        if let (Some((parent_y, _)), Some(fork)) = (parent, timeline.forked_at_lsn) {
            connect(canvas, scale.column(fork), y, parent_y);
        }
    }
    marks(canvas, state, catalog, &scale, &shown);
    if has_axis && !shown.is_empty() {
        positions(canvas, &scale, catalog.segment_size, axis);
    }
    let left = area.x + NUMBER - 1;
    if skip > 0 {
        canvas.sign(left, area.y, "↑", canvas.theme.key());
    }
    if skip + shown.len() < all {
        canvas.sign(left, area.bottom().saturating_sub(1), "↓", canvas.theme.key());
    }
}

/// Where some segments start, below the graph.
fn positions(canvas: &mut Canvas<'_>, scale: &Scale, size: SegmentSize, axis: Rect) {
    const EVERY: u16 = 20;
    for number in 0..=scale.area.width / EVERY {
        let segment = size.number_of(scale.lsn(number * EVERY).plus(size.bytes() - 1));
        let lsn = size.start_of(segment);
        let (x, words) = (scale.column(lsn), format!("└{lsn}"));
        let columns = width(&words) as u16;
        if lsn.bytes_since(scale.from) <= scale.bytes && x.saturating_add(columns) <= axis.right() {
            canvas.line(Rect { x, width: columns, ..axis }, 0, &Line::from(Span::styled(words, canvas.theme.dim())));
        }
    }
}

fn number(canvas: &mut Canvas<'_>, timeline: &Timeline, active: Option<TimelineId>, row: Rect) {
    let is_active = active == Some(timeline.id);
    let sign = if is_active { glyphs::CURSOR } else { " " };
    let style = if is_active { canvas.theme.strong() } else { canvas.theme.plain() };
    let text = format!("{sign}{:>2}", timeline.id.0);
    canvas.line(Rect { width: NUMBER.min(row.width), ..row }, 0, &Line::from(Span::styled(text, style)));
}

fn stretch(canvas: &mut Canvas<'_>, state: &State, scale: &Scale, timeline: &Timeline, catalog: &Catalog, y: u16) {
    let (from, to) = (scale.column(start(timeline, catalog)), scale.column(end(timeline, catalog)));
    let style = canvas.theme.plain();
    let reaches = |x: u16| {
        let column = x.saturating_sub(scale.area.x);
        state.reach.meets(timeline.id, scale.lsn(column), scale.lsn(column + 1))
    };
    for x in from..to {
        let (sign, style) = if reaches(x) { ("─", style) } else { (glyphs::UNREACHED, canvas.theme.unreachable()) };
        canvas.sign(x, y, sign, style);
    }
    let style = if reaches(to) || reaches(to.saturating_sub(1)) { style } else { canvas.theme.unreachable() };
    canvas.sign(to, y, "▶", style);
    for gap in &timeline.gaps {
        let size = catalog.segment_size;
        let (first, behind) = (gap.first.start(size), size.start_of(gap.last.number(size) + 1));
        for x in scale.column(first) + 1..scale.column(behind) {
            canvas.sign(x, y, " ", style);
        }
        canvas.sign(scale.column(first), y, glyphs::BAD, canvas.theme.bad());
    }
}

/// When its last transaction ended, or how many segments there are, on the right.
fn ending(canvas: &mut Canvas<'_>, state: &State, timeline: &Timeline, row: Rect) {
    let text = match timeline.last_commit_at.or_else(|| state.points.last_at(timeline.id)) {
        Some(at) => at.short(state.zone),
        None => format!("{} seg", timeline.segments),
    };
    let columns = (width(&text) as u16).min(row.width);
    let place = Rect { x: row.right() - columns, width: columns, ..row };
    let style = if timeline.gaps.is_empty() { canvas.theme.dim() } else { canvas.theme.bad() };
    canvas.line(place, 0, &Line::from(Span::styled(text, style)));
}

fn connect(canvas: &mut Canvas<'_>, x: u16, child_y: u16, parent_y: u16) {
    let style = canvas.theme.plain();
    canvas.sign(x, child_y, "╭", style);
    for y in child_y + 1..parent_y {
        let crossing = matches!(canvas.symbol(x, y), "─" | glyphs::UNREACHED);
        canvas.sign(x, y, if crossing { "┼" } else { "│" }, style);
    }
    let at_end = canvas.symbol(x, parent_y) == "▶";
    canvas.sign(x, parent_y, if at_end { "╯" } else { "┴" }, style);
}

fn marks(canvas: &mut Canvas<'_>, state: &State, catalog: &Catalog, scale: &Scale, shown: &[&Timeline]) {
    let theme = canvas.theme;
    let row = |id: TimelineId| (scale.area.y..).zip(shown).find(|(_, timeline)| timeline.id == id).map(|(y, _)| y);
    let mut mark = |timeline: TimelineId, lsn: Lsn, symbol: &str, style: Style| {
        if let Some(y) = row(timeline) {
            canvas.sign(scale.column(lsn), y, symbol, style);
        }
    };
    for backup in &catalog.backups {
        if let (Some(timeline), Some(lsn)) = (backup.timeline, backup.stop_lsn.or(backup.start_lsn)) {
            let style = if backup.is_usable() { theme.good() } else { theme.bad() };
            mark(timeline, lsn, glyphs::BACKUP, style);
        }
    }
    for point in state.points.restore_points() {
        mark(point.timeline, point.lsn, glyphs::RESTORE_POINT, theme.name());
    }
    for lack in state.points.lacks() {
        mark(lack.timeline, lack.lsn, glyphs::BAD, theme.bad());
    }
    // Suspects last: they must not be hidden. Looked up by column: there may be very many.
    for (y, timeline) in (scale.area.y..).zip(shown) {
        for column in 0..scale.area.width {
            if state.points.has_suspect_within(timeline.id, scale.lsn(column), scale.lsn(column + 1)) {
                canvas.sign(scale.area.x + column, y, glyphs::SUSPECT, theme.warning());
            }
        }
    }
    if let Some(stop) = course::chosen(state)
        && let Some(y) = row(stop.timeline)
    {
        canvas.sign(scale.column(stop.lsn), y, glyphs::TARGET, theme.target());
    }
    if let Some((timeline, lsn)) = state.points.place()
        && let Some(y) = row(timeline)
    {
        canvas.style(Rect { x: scale.column(lsn), y, width: 1, height: 1 }, theme.selected());
    }
}
