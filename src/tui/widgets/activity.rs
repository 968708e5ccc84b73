//! Commits over time as bars, with suspects, restore points and the selected moment below them.

use ratatui::layout::Rect;

use crate::app::State;
use crate::app::points::{Activity, Bin};
use crate::core::progress::counted;
use crate::tui::canvas::Canvas;
use crate::tui::glyphs;

/// What its title says on the left and on the right.
pub(crate) fn titles(state: &State) -> (String, String) {
    let activity = state.points.activity();
    let span = activity.span.map_or("no times yet".to_owned(), |(from, to)| {
        let short = to.seconds_since(from) < 3600.0;
        range(&from.in_zone(state.zone), &to.in_zone(state.zone), short)
    });
    let legend =
        format!("{} suspect  {} restore point  {} selected", glyphs::SUSPECT, glyphs::RESTORE_POINT, glyphs::HERE);
    (format!("Activity  {span}  {}", counted(activity.commits, "commit")), legend)
}

/// From when to when, to the second where it is short: `10-02 14:30 – 10-03 02:00`, `10-02 14:30:05 – 14:31:10`.
fn range(from: &str, to: &str, short: bool) -> String {
    let part = |time: &str, from: usize, to: usize| time.get(from..to).unwrap_or_default().to_owned();
    let end = if short { 19 } else { 16 };
    let same_day = part(from, 0, 10) == part(to, 0, 10);
    format!("{} – {}", part(from, 5, end), part(to, if same_day { 11 } else { 5 }, end))
}

/// Bars in all rows but the last, which has the marks.
pub(crate) fn draw(canvas: &mut Canvas<'_>, state: &State, area: Rect) {
    let activity = state.points.activity();
    let columns = sums(activity, usize::from(area.width));
    let most = columns.iter().map(|bin| bin.commits).max().unwrap_or(0);
    let bars = area.height.saturating_sub(1);
    let selected = state.points.selected().and_then(|p| p.at).and_then(|at| activity.place(at, columns.len()));
    for (x, bin) in (area.left()..).zip(&columns) {
        for row in 0..bars {
            if let Some(level) = level(bin.commits, most, bars, row) {
                canvas.sign(x, area.y + bars - 1 - row, level, canvas.theme.bar());
            }
        }
        let (mark, style) = match bin {
            _ if selected == Some(usize::from(x - area.left())) => (glyphs::HERE, canvas.theme.key()),
            Bin { suspects: 1.., .. } => (glyphs::SUSPECT, canvas.theme.warning()),
            Bin { restore_points: 1.., .. } => (glyphs::RESTORE_POINT, canvas.theme.name()),
            _ => continue,
        };
        canvas.sign(x, area.y + bars, mark, style);
    }
}

/// What fills a bar's cell in this row from the bottom. A single commit is never invisible.
fn level(commits: u32, most: u32, rows: u16, row: u16) -> Option<&'static str> {
    let steps = u64::from(rows) * glyphs::LEVELS.len() as u64;
    let height = (u64::from(commits) * steps).div_ceil(u64::from(most.max(1)));
    let here = height.checked_sub(u64::from(row) * glyphs::LEVELS.len() as u64 + 1)?;
    glyphs::LEVELS.get(here as usize).or(glyphs::LEVELS.last()).copied()
}

/// The bins, added up to so many columns.
fn sums(activity: &Activity, columns: usize) -> Vec<Bin> {
    let bins = &activity.bins;
    (0..columns)
        .map(|column| {
            let (from, to) = (column * bins.len() / columns, (column + 1) * bins.len() / columns);
            let mut sum = Bin::default();
            for bin in bins.get(from..to).unwrap_or_default() {
                sum.commits += bin.commits;
                sum.suspects += bin.suspects;
                sum.restore_points += bin.restore_points;
            }
            sum
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_range_has_seconds_and_one_day_is_said_once() {
        let from = "2024-10-02 14:30:05.000000 +02:00";
        assert_eq!(range(from, "2024-10-02 14:31:10.000000 +02:00", true), "10-02 14:30:05 – 14:31:10");
        assert_eq!(range(from, "2024-10-02 16:00:00.000000 +02:00", false), "10-02 14:30 – 16:00");
        assert_eq!(range(from, "2024-10-03 14:30:05.000000 +02:00", false), "10-02 14:30 – 10-03 14:30");
    }

    #[test]
    fn bars_reach_from_the_first_commit_to_the_top() {
        assert_eq!(level(0, 100, 1, 0), None);
        assert_eq!(level(1, 100, 1, 0), Some("▁"));
        assert_eq!(level(100, 100, 1, 0), Some("█"));
        assert_eq!((level(50, 100, 2, 0), level(50, 100, 2, 1)), (Some("█"), None));
        assert_eq!((level(75, 100, 2, 0), level(75, 100, 2, 1)), (Some("█"), Some("▄")));
    }
}
