//! The first row: which source, which zone, which recovery.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::{Screen, State};
use crate::event::RecoveryState;
use crate::tui::canvas::Canvas;
use crate::tui::screens::archive::look;
use crate::tui::text::{clean, cut};
use crate::tui::theme::Theme;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let theme = canvas.theme;
    let columns = usize::from(area.width);
    let archive = archive(state, theme, columns);
    let zone = Span::styled(format!("{} ", state.zone), theme.dim());
    let right = Line::from(archive.into_iter().chain([zone]).collect::<Vec<_>>());
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
        let room = columns.saturating_sub(used + right.width() + 4);
        spans.push(Span::styled(format!("  {}", cut(&words, room)), style));
    }
    let line = Line::from(spans);
    let columns_left = columns.saturating_sub(line.width());
    canvas.line(area, 0, &line);
    if columns_left > right.width() {
        let place = Rect { x: area.right() - right.width() as u16, width: right.width() as u16, ..area };
        canvas.line(place, 0, &right);
    }
}

/// The archive's verdict in a word, on the home screen, once there is one: `archive ✓ healthy`. A recovery that is
/// followed needs the room more.
fn archive(state: &State, theme: Theme, columns: usize) -> Option<Span<'static>> {
    let is_shown = state.screen() == Screen::Points && (state.following.is_none() || columns >= 100);
    let (verdict, _) = state.archive.verdict(state).filter(|_| is_shown)?;
    let (sign, style) = look(verdict, theme);
    Some(Span::styled(format!("archive {sign} {}  ", verdict.word()), style))
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
