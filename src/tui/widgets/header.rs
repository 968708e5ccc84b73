//! The first row: which source, which zone, which recovery.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::State;
use crate::event::RecoveryState;
use crate::tui::canvas::Canvas;
use crate::tui::text::{clean, cut, width};

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let columns = usize::from(area.width);
    let right = format!("{} ", state.zone);
    let mut spans = vec![
        Span::styled(" walback ", theme.strong()),
        Span::styled(format!(" {}", cut(&clean(&state.source), columns / 3)), theme.plain()),
    ];
    if state.read_only {
        spans.push(Span::styled("  read-only", theme.warning()));
    }
    if let (Some(name), Some(now)) = (&state.following, state.recovery_state()) {
        let style = match now {
            RecoveryState::Failed => theme.bad(),
            RecoveryState::Paused | RecoveryState::Promoted => theme.good(),
            _ => theme.plain(),
        };
        let used: usize = spans.iter().map(Span::width).sum();
        let words = format!("{}: {}", clean(name), doing(state, now));
        let room = columns.saturating_sub(used + width(&right) + 4);
        spans.push(Span::styled(format!("  {}", cut(&words, room)), style));
    }
    let line = Line::from(spans);
    let columns_left = columns.saturating_sub(line.width());
    canvas.line(area, 0, &line);
    if columns_left > width(&right) {
        let place = Rect { x: area.right() - width(&right) as u16, width: width(&right) as u16, ..area };
        canvas.line(place, 0, &Line::from(Span::styled(right, theme.dim())));
    }
}

fn doing(state: &State, now: RecoveryState) -> String {
    match &state.recovery.progress {
        Some(progress) => match progress.total.filter(|total| *total > 0) {
            Some(total) => format!("{now}, {} %", progress.done.saturating_mul(100) / total),
            None => now.to_string(),
        },
        None => now.to_string(),
    }
}
