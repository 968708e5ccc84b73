//! Signs: one set, drawn as it is where the terminal shows UTF-8, else replaced cell by cell.

use ratatui::buffer::Buffer;

/// Marks the row under the cursor.
pub const CURSOR: &str = "▸";
/// Done, or as predicted.
pub const GOOD: &str = "✓";
/// Failed, broken, missing.
pub const BAD: &str = "✗";
/// Understood, but unknown.
pub const DOUBT: &str = "?";
/// A suspect, or a warning.
pub const SUSPECT: &str = "⚠";
/// A restore point.
pub const RESTORE_POINT: &str = "◆";
/// A base backup.
pub const BACKUP: &str = "●";
/// Something that is good to know.
pub const NOTE: &str = "i";
/// Points at the selected moment.
pub const HERE: &str = "▲";
/// Not begun.
pub const WAITING: &str = "·";
/// Levels of a bar, the lowest first.
pub const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// One ASCII character for whatever stands in a cell.
pub(crate) fn ascii(symbol: &str) -> char {
    match symbol.chars().next().unwrap_or(' ') {
        c if c.is_ascii() => c,
        '─' | '━' | '–' | '—' => '-',
        '│' => '|',
        '╭' | '╮' | '╰' | '╯' | '├' | '┤' | '┴' | '┬' | '┼' | '┌' | '┐' | '└' | '┘' => '+',
        '▸' | '→' | '▶' => '>',
        '←' => '<',
        '✓' => '+',
        '✗' => 'x',
        '⚠' => '!',
        '◆' => '*',
        '●' => 'o',
        '▲' | '↑' => '^',
        '↓' => 'v',
        '·' | '▁' | '░' => '.',
        '▂' => ':',
        '▃' => '-',
        '▄' => '=',
        '▅' => '+',
        '▆' => '*',
        '▇' => '%',
        '█' => '#',
        '…' => '~',
        '“' | '”' => '"',
        '’' => '\'',
        '≠' => '!',
        _ => '?',
    }
}

/// Leaves nothing but ASCII on the screen, whatever was drawn.
pub fn make_ascii(buffer: &mut Buffer) {
    for cell in &mut buffer.content {
        if !cell.symbol().is_ascii() {
            let sign = ascii(cell.symbol());
            cell.set_char(sign);
        }
    }
}

/// Whether a symbol is part of a frame.
pub(crate) fn is_frame(symbol: &str) -> bool {
    symbol.chars().all(|c| ('\u{2500}'..='\u{257f}').contains(&c)) && !symbol.is_empty()
}
