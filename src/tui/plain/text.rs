//! Words instead of signs: what the screens say, as lines that can be read aloud.

use crate::tui::glyphs::{self, ascii};
use crate::tui::text::{clean, width};
use crate::tui::theme::Theme;
use crate::tui::widgets::doc::Doc;

/// A text that no width wraps: whoever reads lines has them whole.
pub(super) fn doc() -> Doc {
    Doc::new(u16::MAX, Theme::new(false))
}

/// Its lines, as text.
pub(super) fn lines_of(doc: Doc) -> Vec<String> {
    doc.lines().iter().map(|line| line.spans.iter().map(|span| span.content.as_ref()).collect()).collect()
}

/// A line as it is written: nothing in it steers a terminal, no frame, bar or sign is left, and where only ASCII can be
/// shown, there is nothing else.
pub(super) fn plain(line: &str, unicode: bool) -> String {
    let cleaned = clean(line);
    let body = cleaned.trim_start_matches(' ');
    let indent = cleaned.len() - body.len();
    let (word, body) = sign(body);
    let mut text = " ".repeat(indent) + word;
    for c in body.chars() {
        match c {
            '…' => text.push_str("..."),
            '⚠' | '✗' | '✓' => text.push(ascii(c.encode_utf8(&mut [0; 4]))),
            // Frames, blocks, arrows and other shapes, and Braille.
            '\u{2190}'..='\u{21ff}' | '\u{2500}'..='\u{25ff}' => text.push(ascii(c.encode_utf8(&mut [0; 4]))),
            '\u{2800}'..='\u{28ff}' => text.push('.'),
            c if !unicode && !c.is_ascii() => text.push(ascii(c.encode_utf8(&mut [0; 4]))),
            c => text.push(c),
        }
    }
    text.truncate(text.trim_end().len());
    text
}

/// The sign before a line as a word, and the rest of the line; no word where the rest says it itself.
fn sign(body: &str) -> (&'static str, &str) {
    let signs = [(glyphs::GOOD, "good: "), (glyphs::BAD, "bad: "), (glyphs::SUSPECT, "warning: "), (glyphs::NOTE, "")];
    let said = ["error", "warning", "note", "no plan", "missing", "damaged"];
    for (sign, word) in signs {
        if let Some(rest) = body.strip_prefix(sign).and_then(|rest| rest.strip_prefix(' ')) {
            let rest = rest.trim_start_matches(' ');
            return (if said.iter().any(|said| rest.starts_with(said)) { "" } else { word }, rest);
        }
    }
    for sign in [glyphs::CURSOR, glyphs::WAITING, glyphs::BACKUP, glyphs::RESTORE_POINT, glyphs::HERE] {
        if let Some(rest) = body.strip_prefix(sign) {
            return ("", rest.trim_start_matches(' '));
        }
    }
    ("", body)
}

/// Rows in columns that are as wide as they have to be. The last column is not padded.
pub(super) fn table(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let wide = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(wide).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(place, (cell, wide))| {
            let padding = " ".repeat(wide.saturating_sub(width(cell)));
            // Numbers in front are read from the right.
            if place == 0 { format!("{padding}{cell}") } else { format!("{cell}{padding}") }
        });
        format!("  {}", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn signs_are_said() {
        let said = |line| plain(line, true);
        assert_eq!(said("✓ PAUSED AT THE TARGET"), "good: PAUSED AT THE TARGET");
        assert_eq!(said("  ✗ error    it is there"), "  error    it is there");
        assert_eq!(said("i note     take care"), "note     take care");
        assert_eq!(said("it is"), "it is");
        assert_eq!(said("1 ──▶ stop “a” …"), "1 --> stop “a” ...");
        assert_eq!(plain("vor_dem_Übel “x”", false), "vor_dem_?bel \"x\"");
        assert_eq!(said("a\u{1b}[2J\rb"), "a\\u{1b}[2J\\rb");
    }

    #[test]
    fn columns_stand_below_each_other() {
        let rows = [vec!["9".to_owned(), "a".to_owned(), "x".to_owned()], vec!["10".into(), "bcd".into(), "y".into()]];
        assert_eq!(table(&rows), ["   9  a    x", "  10  bcd  y"]);
    }

    proptest! {
        #[test]
        fn no_line_steers_a_terminal_or_draws(line: String, unicode: bool) {
            let text = plain(&line, unicode);
            prop_assert!(!text.chars().any(|c| c.is_control() || ('\u{2500}'..='\u{25ff}').contains(&c)
                || ('\u{2800}'..='\u{28ff}').contains(&c)), "{text:?}");
            prop_assert!(unicode || text.is_ascii());
        }
    }
}
