//! Where replay is on its way from the base backup to the stop, in time.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::chart::{self, Pin};
use crate::app::chart::column_at;
use crate::app::{State, course};
use crate::core::progress::Seconds;
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;
use crate::tui::theme::Theme;

/// So many rows of bars with marks and times below them, and what the signs mean; nothing where no time is known.
pub(crate) fn lines(state: &State, columns: u16, bars: u16, theme: Theme) -> Vec<Line<'static>> {
    let view = state.course.view();
    let Some(window) = view.window.filter(|_| columns > 0) else { return Vec::new() };
    let Some(plan) = &state.recovery.plan else { return Vec::new() };
    let below = if bars > 1 { 2 } else { 1 };
    let mut buffer = Buffer::empty(Rect::new(0, 0, columns, bars + below));
    let mut canvas = Canvas::new(&mut buffer, theme);
    let column = |at| column_at(window, at, usize::from(columns));
    let mut pins = Vec::new();
    if let Some(column) = course::time_of(&plan.resolved).and_then(column) {
        pins.push(Pin { column, symbol: glyphs::TARGET, style: theme.target(), words: String::new() });
    }
    let replayed = course::replayed(state);
    // At the stop the two are at one place: what happened goes over what was meant to.
    if let Some(column) = replayed.and_then(column) {
        pins.push(Pin { column, symbol: glyphs::REPLAY, style: theme.replay(), words: String::new() });
    }
    let area = canvas.area();
    chart::draw_axis(&mut canvas, state, view, area, (bars, below), &pins, None);
    let mut lines = lines_of(&buffer);
    lines.push(legend(state, usize::from(columns), theme));
    lines
}

/// `▶ replayed to 09:12:01, 5 h 13 min before the stop  ◎ stop 14:25:40  ⚠ suspect`.
fn legend(state: &State, columns: usize, theme: Theme) -> Line<'static> {
    let stop = state.recovery.plan.as_ref().and_then(|plan| course::time_of(&plan.resolved));
    let replayed = course::replayed(state);
    let mut parts = Vec::new();
    if let Some(at) = replayed {
        let before = stop.map(|stop| stop.seconds_since(at)).filter(|seconds| *seconds >= 1.0);
        let before = before.map(|seconds| format!(", {} before the stop", Seconds(seconds))).unwrap_or_default();
        parts.push((glyphs::REPLAY, format!("replayed to {}{before}", at.clock(state.zone)), theme.replay()));
    }
    if let Some(at) = stop {
        parts.push((glyphs::TARGET, format!("stop {}", at.clock(state.zone)), theme.target()));
    }
    let spans = parts.into_iter().map(|(sign, words, style)| Span::styled(format!("{sign} {words}  "), style));
    let mut line: Line<'static> = spans.collect::<Vec<_>>().into();
    let room = columns.saturating_sub(line.width());
    let signs = chart::marked(state.course.view());
    line.push_span(Span::styled(chart::legend(&signs, room), theme.dim()));
    line
}

/// The rows of a buffer, for a text that is scrolled.
fn lines_of(buffer: &Buffer) -> Vec<Line<'static>> {
    let columns = usize::from(buffer.area.width).max(1);
    let line = |cells: &[ratatui::buffer::Cell]| {
        let mut spans: Vec<(String, Style)> = Vec::new();
        for cell in cells {
            match spans.last_mut() {
                Some((text, style)) if *style == cell.style() => text.push_str(cell.symbol()),
                _ => spans.push((cell.symbol().to_owned(), cell.style())),
            }
        }
        Line::from(spans.into_iter().map(|(text, style)| Span::styled(text, style)).collect::<Vec<_>>())
    };
    buffer.content.chunks(columns).map(line).collect()
}
