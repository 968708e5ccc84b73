//! A timeline's segments as a bar: each column says what is known of the segments in it, the worst where they differ.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::plan::archive::{Continuity, Holding};
use crate::tui::glyphs;
use crate::tui::theme::Theme;

/// The sign and the style of what is known.
fn sign(holding: Holding, theme: Theme) -> (&'static str, Style) {
    match holding {
        Holding::Present => ("█", theme.good()),
        Holding::Unread => ("░", theme.dim()),
        Holding::Partial => ("▄", theme.plain()),
        Holding::Damaged => ("!", theme.bad()),
        Holding::Missing => (glyphs::BAD, theme.bad()),
    }
}

/// The bar, so many columns wide.
pub(crate) fn bar(continuity: &Continuity, columns: usize, theme: Theme) -> Line<'static> {
    let cells = continuity.columns(columns);
    let runs = cells.chunk_by(|one, next| one == next);
    let span = |run: &[Holding]| {
        let (symbol, style) = run.first().map_or((" ", theme.plain()), |holding| sign(*holding, theme));
        Span::styled(symbol.repeat(run.len()), style)
    };
    Line::from(runs.map(span).collect::<Vec<_>>())
}

/// What the signs mean, in words.
pub(crate) fn legend(theme: Theme) -> Line<'static> {
    let words = Holding::ALL.into_iter().flat_map(|holding| {
        let (symbol, style) = sign(holding, theme);
        [Span::styled(symbol, style), Span::styled(format!(" {}  ", holding.word()), theme.dim())]
    });
    Line::from(words.collect::<Vec<_>>())
}
