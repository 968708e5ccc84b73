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
/// WAL to which recovery does not come.
pub const UNREACHED: &str = "░";
/// Missing WAL, in its breadth.
pub const LACKING: &str = "▒";
/// Where recovery is to stop.
pub const TARGET: &str = "◎";
/// How far replay has come.
pub const REPLAY: &str = "▶";
/// A timeline begins: a server was promoted.
pub const FORK: &str = "┬";
/// Levels of a bar in ASCII, the lowest first.
pub const ASCII_LEVELS: [&str; 8] = [".", ":", "-", "=", "+", "*", "%", "#"];
/// Levels of a bar, the lowest first.
pub const LEVELS: [&str; 8] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"];

/// Two bars side by side in one cell, each of so many of its four dots from the bottom.
pub fn braille(left: usize, right: usize) -> char {
    const LEFT: [u32; 5] = [0, 0x40, 0x44, 0x46, 0x47];
    const RIGHT: [u32; 5] = [0, 0x80, 0xa0, 0xb0, 0xb8];
    let dots = |column: [u32; 5], height: usize| column.get(height.min(4)).copied().unwrap_or(0);
    char::from_u32(0x2800 + dots(LEFT, left) + dots(RIGHT, right)).unwrap_or(' ')
}

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
        '▒' => 'x',
        '◎' => '@',
        '\u{2800}'..='\u{28ff}' => ':',
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
