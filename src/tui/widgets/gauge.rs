//! A bar that says how far something has come.

use ratatui::text::{Line, Span};

use crate::core::progress::{Bytes, Seconds};
use crate::event::Progress;
use crate::tui::theme::Theme;

/// `████████░░░░ 62 %`, `columns` wide. 100 % is shown when everything is done and not before.
pub(crate) fn bar(columns: usize, done: u64, total: u64, theme: Theme) -> Line<'static> {
    let share = if total == 0 { 0.0 } else { (done as f64 / total as f64).clamp(0.0, 1.0) };
    let room = columns.saturating_sub(6);
    let full = (share * room as f64) as usize;
    Line::from(vec![
        Span::styled("█".repeat(full), theme.bar()),
        Span::styled("░".repeat(room.saturating_sub(full)), theme.dim()),
        Span::styled(format!(" {:>3} %", (share * 100.0) as u64), theme.strong()),
    ])
}

/// `1.2 GB of 2.3 GB, 82 MB/s, about 13 s left`; what is not known is not said.
pub(crate) fn words(progress: &Progress) -> String {
    let amount =
        |n: u64| if progress.unit == "bytes" { Bytes(n).to_string() } else { format!("{n} {}", progress.unit) };
    let mut words = match progress.total {
        Some(total) => format!("{} of {}", amount(progress.done), amount(total)),
        None => format!("{} so far", amount(progress.done)),
    };
    if let Some(rate) = progress.rate.filter(|rate| rate.is_finite() && *rate >= 1.0) {
        words.push_str(&format!(", {}/s", amount(rate as u64)));
    }
    words.push_str(&match progress.eta_s.filter(|eta| eta.is_finite()) {
        Some(eta) => format!(", about {} left", Seconds(eta)),
        None if progress.total.is_some() => ", time left unknown".to_owned(),
        None => String::new(),
    });
    words
}
