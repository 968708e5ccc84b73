//! How long recovery took, and what would have been lost, drill by drill: the oldest on the left.
//!
//! ```text
//! RTO                   █
//! up to 14 min  ▅ ▄ ▆   █ ▅
//! limit 30 min  █ █ █   █ █
//! RPO           ▁ ▁ █   ▁ ▁
//!               ✓ ✓ ✗ · ✓ ✓
//! ```

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::chart::{bar, steps};
use crate::core::progress::Seconds;
use crate::event::{DrillReport, DrillResult};
use crate::tui::glyphs;
use crate::tui::text::width;
use crate::tui::theme::{Bars, Theme};

/// Columns of what stands left of the bars.
const LABEL: usize = 20;
/// Columns that a drill has at most, with one that is free.
const WIDEST: usize = 4;

/// The bars of drills, the oldest first: so many rows for each measure, and one for how they ended. Of more than there is
/// room for, the newest.
pub(crate) fn lines(
    drills: &[&DrillReport],
    chosen: Option<usize>,
    columns: usize,
    rows: (u16, u16),
    theme: Theme,
) -> Vec<Line<'static>> {
    let room = columns.saturating_sub(LABEL);
    let shown = drills.get(drills.len().saturating_sub(room)..).unwrap_or_default();
    let chosen = chosen.and_then(|place| place.checked_sub(drills.len() - shown.len()));
    if shown.is_empty() {
        return Vec::new();
    }
    let breadth = (room / shown.len()).clamp(1, WIDEST);
    let trend = Trend { drills: shown, chosen, breadth, theme };
    let mut lines = trend.bars("RTO", rows.0, |drill| drill.rto_s, |drill| drill.rto_limit_s);
    lines.extend(trend.bars("RPO", rows.1, |drill| drill.rpo_s, |drill| drill.rpo_limit_s));
    lines.push(trend.results());
    lines
}

/// The sign and the style of how a drill ended.
pub(crate) fn look(result: DrillResult, theme: Theme) -> (&'static str, Style) {
    match result {
        DrillResult::Passed => (glyphs::GOOD, theme.good()),
        DrillResult::Failed => (glyphs::BAD, theme.bad()),
        DrillResult::Interrupted => (glyphs::WAITING, theme.dim()),
    }
}

struct Trend<'a> {
    drills: &'a [&'a DrillReport],
    chosen: Option<usize>,
    breadth: usize,
    theme: Theme,
}

impl Trend<'_> {
    fn bars(
        &self,
        name: &str,
        rows: u16,
        measured: fn(&DrillReport) -> Option<f64>,
        limit: fn(&DrillReport) -> Option<f64>,
    ) -> Vec<Line<'static>> {
        let most = self.drills.iter().filter_map(|drill| measured(drill)).fold(0.0, f64::max);
        let newest_limit = self.drills.last().and_then(|drill| limit(drill));
        let labels = labels(name, most, newest_limit, rows);
        let row = |(place, label): (u16, String)| {
            let mut line = Line::from(Span::styled(format!("{label:<LABEL$}"), self.theme.label()));
            for (number, drill) in self.drills.iter().enumerate() {
                let value = measured(drill);
                let is_over = value.zip(limit(drill)).is_some_and(|(value, limit)| value > limit);
                let style = if is_over { self.theme.bad() } else { self.theme.bar() };
                let height = steps(value.unwrap_or_default() as f32, most as f32, rows, rows - 1 - place, 8);
                let bars = if self.theme.bars() == Bars::Ascii { Bars::Ascii } else { Bars::Blocks };
                let symbol = bar(bars, height, 0).unwrap_or(' ');
                line.spans.extend(self.cell(&symbol.to_string(), self.breadth.saturating_sub(1).max(1), number, style));
            }
            line
        };
        (0..rows).zip(labels).map(row).collect()
    }

    fn results(&self) -> Line<'static> {
        let mut line = Line::from(" ".repeat(LABEL));
        for (number, drill) in self.drills.iter().enumerate() {
            let (sign, style) = look(drill.result, self.theme);
            line.spans.extend(self.cell(sign, 1, number, style));
        }
        line
    }

    /// A symbol, so many times; what is free of a drill's columns behind it. The chosen one stands out.
    fn cell(&self, symbol: &str, times: usize, number: usize, style: Style) -> [Span<'static>; 2] {
        let style = if self.chosen == Some(number) { style.patch(self.theme.selected()) } else { style };
        let symbols = symbol.repeat(times);
        let free = self.breadth.saturating_sub(width(&symbols));
        [Span::styled(symbols, style), Span::raw(" ".repeat(free))]
    }
}

/// What is said left of so many rows: what it is, how much the highest bar is, how much it may be.
fn labels(name: &str, most: f64, limit: Option<f64>, rows: u16) -> Vec<String> {
    let most = Seconds(most);
    let limit = limit.map(|limit| format!("at most {}", Seconds(limit)));
    let mut labels = match rows {
        0 => Vec::new(),
        1 => vec![format!("{name} to {most}")],
        _ => vec![format!("{name}, up to {most}"), limit.unwrap_or_default()],
    };
    labels.resize(usize::from(rows), String::new());
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::drill::tests::report;

    fn shown(drills: &[DrillReport], columns: usize) -> Vec<String> {
        let drills: Vec<&DrillReport> = drills.iter().collect();
        let lines = lines(&drills, None, columns, (2, 1), Theme::new(false));
        lines.iter().map(|line| line.to_string().trim_end().to_owned()).collect()
    }

    fn drill(rto_s: Option<f64>, result: DrillResult) -> DrillReport {
        DrillReport { rto_s, rpo_s: Some(1.0), result, ..report() }
    }

    #[test]
    fn bars_are_as_high_as_what_was_measured() {
        let drills = [
            drill(Some(60.0), DrillResult::Passed),
            drill(Some(120.0), DrillResult::Failed),
            drill(None, DrillResult::Interrupted),
        ];
        assert_eq!(
            shown(&drills, 80),
            [
                "RTO, up to 2 min 00 s    ███",
                "at most 30 min 00 s ███ ███",
                "RPO to 1.0 s        ███ ███ ███",
                "                    ✓   ✗   ·",
            ]
        );
    }

    #[test]
    fn of_too_many_the_newest_are_shown() {
        let mut drills = vec![drill(Some(1.0), DrillResult::Passed); 200];
        drills.push(drill(Some(1.0), DrillResult::Failed));
        let last = shown(&drills, 60).pop().unwrap_or_default();
        assert_eq!(last.trim(), format!("{}✗", "✓".repeat(60 - LABEL - 1)));
    }

    #[test]
    fn nothing_is_drawn_of_nothing() {
        assert!(shown(&[], 80).is_empty());
        assert!(shown(&[drill(None, DrillResult::Failed)], LABEL).is_empty(), "there is no room for it");
    }
}
