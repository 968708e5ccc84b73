//! Lines and columns for people, safe for any terminal.

use unicode_width::UnicodeWidthStr;

/// How a column is set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Amounts.
    Right,
}

/// A table whose columns are as wide as they have to be.
#[derive(Debug)]
pub struct Table {
    columns: Vec<(String, Align)>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these column heads, which may come from outside.
    #[must_use]
    pub fn new(columns: &[(&str, Align)]) -> Table {
        let columns = columns.iter().map(|(head, align)| (plain(head), *align));
        Table { columns: columns.collect(), rows: Vec::new() }
    }

    /// Adds a row; its cells may come from outside.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells.iter().map(|cell| plain(cell)).collect());
    }

    /// The lines, without spaces at their ends.
    #[must_use]
    pub fn render(&self) -> String {
        let heads: Vec<String> = self.columns.iter().map(|(head, _)| head.clone()).collect();
        let widths: Vec<usize> = (0..heads.len())
            .map(|column| {
                std::iter::once(&heads)
                    .chain(&self.rows)
                    .filter_map(|row| row.get(column))
                    .map(|cell| cell.width())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let line = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).zip(&self.columns).map(|((cell, width), (_, align))| {
                let space = " ".repeat(width.saturating_sub(cell.width()));
                match align {
                    Align::Left => format!("{cell}{space}"),
                    Align::Right => format!("{space}{cell}"),
                }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        std::iter::once(&heads).chain(&self.rows).map(line).collect::<Vec<_>>().join("\n")
    }
}

/// Text for people in lines of 80 columns: the first begins with `first`, the others with as many spaces. A word that
/// is longer stands alone.
#[must_use]
pub fn wrapped(first: &str, text: &str) -> String {
    const WIDTH: usize = 80;
    let indent = " ".repeat(first.width());
    let (mut lines, mut line) = (Vec::new(), first.to_owned());
    let mut is_fresh = true;
    for word in text.split(' ') {
        if !is_fresh && line.width() + 1 + word.width() > WIDTH {
            lines.push(std::mem::replace(&mut line, indent.clone()));
            is_fresh = true;
        }
        if !is_fresh {
            line.push(' ');
        }
        line.push_str(word);
        is_fresh = false;
    }
    lines.push(line);
    lines.join("\n")
}

/// Text from outside, with control characters made visible: nothing in a backup, an archive or a log may steer the
/// operator's terminal.
#[must_use]
pub fn plain(text: &str) -> String {
    let harmful = |c: char| {
        c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    };
    if !text.chars().any(harmful) {
        return text.to_owned();
    }
    text.chars().map(|c| if harmful(c) { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// The same for text of several lines.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    text.lines().map(plain).collect::<Vec<_>>().join("\n")
}

/// The words that begin the lines of an error, in colour.
#[must_use]
pub fn painted(text: &str) -> String {
    let words = [("error:", "1;31"), ("warning:", "33"), ("caused by:", "2"), ("hint:", "36")];
    let paint = |line: &str| {
        let word = words.iter().find_map(|(word, colour)| Some((*word, colour, line.strip_prefix(word)?)));
        word.map_or_else(|| line.to_owned(), |(word, colour, rest)| format!("\x1b[{colour}m{word}\x1b[0m{rest}"))
    };
    text.lines().map(paint).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_wrapped_and_long_words_are_not_broken() {
        let text = wrapped("  x: ", &format!("{} {} b c", "a".repeat(60), "/long".repeat(20)));
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], format!("  x: {}", "a".repeat(60)));
        assert_eq!(lines[1], format!("     {}", "/long".repeat(20)));
        assert_eq!(lines[2..], ["     b c"]);
    }

    #[test]
    fn columns_are_aligned_by_what_they_show() {
        let mut table = Table::new(&[("NAME", Align::Left), ("SIZE", Align::Right)]);
        table.row(vec!["日本".into(), "7 MB".into()]);
        table.row(vec!["\u{1b}[2J".into(), "116 MB".into()]);
        assert_eq!(table.render(), "NAME         SIZE\n日本         7 MB\n\\u{1b}[2J  116 MB");
    }
}
