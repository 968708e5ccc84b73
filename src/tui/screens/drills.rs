//! Drills: what one is, and the commands that make and show them.

use ratatui::layout::Rect;

use crate::app::{State, drills};
use crate::tui::canvas::Canvas;
use crate::tui::widgets::doc::Doc;

pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, body: Rect) {
    let inner = canvas.frame(body, "Drills", "in another terminal", true);
    let inner = Rect { x: inner.x + 1, width: inner.width.saturating_sub(2), ..inner };
    let theme = canvas.theme;
    let mut doc = Doc::new(inner.width, theme);
    doc.paragraph("Drills are made in another terminal, or by a timer: this screen does not run them.", theme.strong());
    doc.blank();
    doc.paragraph(
        "A drill proves the backups before they are needed: restore one beside everything else, ask it something, measure, \
         and remove it. A backup that was never restored is a hope.",
        theme.plain(),
    );
    doc.heading("The commands");
    for (place, step) in drills::steps(state).iter().enumerate() {
        doc.blank();
        doc.hanging(&format!("{}. ", place + 1), theme.key(), step.what, theme.plain());
        doc.hanging("   ", theme.plain(), &step.command, theme.strong());
        doc.hanging("   ", theme.plain(), step.note, theme.dim());
    }
    canvas.scrolled(inner, &doc.lines(), state.scroll);
}
