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

/// Whether the locale shows UTF-8, by the first of `LC_ALL`, `LC_CTYPE` and `LANG` that is set, as `setlocale(3)`
/// has it.
#[must_use]
pub fn is_utf8_locale(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"].iter().find_map(|name| variable(name).filter(|v| !v.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8") || locale.contains("utf-8@") || locale.contains("utf8@")
    })
}

/// One ASCII character for whatever stands in a cell.
fn ascii(symbol: &str) -> char {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_locale_says_whether_utf_8_is_shown() {
        let is_utf8 = |set: &[(&str, &str)]| {
            is_utf8_locale(|name| set.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(is_utf8(&[("LANG", "C.UTF-8")]) && is_utf8(&[("LC_CTYPE", "de_DE.utf8@euro")]));
        assert!(is_utf8(&[("LC_ALL", ""), ("LANG", "en_GB.UTF-8")]));
        assert!(!is_utf8(&[("LC_ALL", "C"), ("LANG", "C.UTF-8")]) && !is_utf8(&[]) && !is_utf8(&[("LANG", "de_DE")]));
    }
}
