//! `postgresql.auto.conf`: reading a copied one, and writing recovery's settings into it.

use std::iter::Peekable;
use std::str::Chars;

/// A configuration file as a list of lines that keeps what it does not change, to the letter.
///
/// The syntax is that of `src/backend/utils/misc/guc-file.l`: names in any case, an optional `=`, values bare or in
/// single quotes, comments from `#` on. The last line with a name wins. Order matters to the server all the same:
/// a second recovery target is refused, even an empty one that comes after the one that is meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AutoConf {
    lines: Vec<Line>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Line {
    /// As it is written, without its end.
    text: String,
    meaning: Meaning,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Meaning {
    Setting {
        name: String,
        value: String,
    },
    /// Blank, or only a comment.
    Nothing,
    /// The server refuses a file with such a line.
    Unreadable,
}

impl AutoConf {
    /// Reads a file. Lines that no server understands are kept, and told by [`AutoConf::unreadable`].
    #[must_use]
    pub fn parse(text: &str) -> AutoConf {
        let lines = text.strip_suffix('\n').unwrap_or(text).split('\n');
        let line = |text: &str| Line { text: text.to_owned(), meaning: meaning(text) };
        AutoConf { lines: if text.is_empty() { Vec::new() } else { lines.map(line).collect() } }
    }

    /// What the file sets `name` to, if it does.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.settings().filter(|(set, _)| set.eq_ignore_ascii_case(name)).last().map(|(_, value)| value)
    }

    /// Every setting with its value, in the order of the file, the overridden ones too.
    pub fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        self.lines.iter().filter_map(|line| match &line.meaning {
            Meaning::Setting { name, value } => Some((name.as_str(), value.as_str())),
            Meaning::Nothing | Meaning::Unreadable => None,
        })
    }

    /// The lines for which a server would refuse the file, with their numbers from 1.
    pub fn unreadable(&self) -> impl Iterator<Item = (usize, &str)> {
        let unreadable = |line: &&Line| line.meaning == Meaning::Unreadable;
        (1..).zip(&self.lines).filter(move |(_, line)| unreadable(line)).map(|(number, line)| (number, &*line.text))
    }

    /// Sets `name` to `value` in a new last line, and removes every earlier line that set it.
    ///
    /// Any value can be written, also one with quotes, backslashes and line ends. (NUL alone cannot be a part of
    /// any setting: the server takes the value to end there.) A `name` that is none, see [`is_setting_name`], is
    /// written so that the server refuses the file: it must never come to set something else.
    ///
    /// A value with a line's end is right here but does not survive `ALTER SYSTEM`, which writes all settings anew
    /// with the bare line's end, and with that a file that no server starts with (15.18).
    pub fn set(&mut self, name: &str, value: &str) {
        self.remove(name);
        let written = if is_setting_name(name) { name.to_owned() } else { quoted(name) };
        self.lines.push(Line {
            text: format!("{written} = {}", quoted(value)),
            meaning: Meaning::Setting { name: name.to_owned(), value: value.to_owned() },
        });
    }

    /// Removes every line that sets `name`.
    pub fn remove(&mut self, name: &str) {
        self.lines.retain(
            |line| !matches!(&line.meaning, Meaning::Setting { name: set, .. } if set.eq_ignore_ascii_case(name)),
        );
    }

    /// The file's text.
    #[must_use]
    pub fn render(&self) -> String {
        self.lines.iter().flat_map(|line| [line.text.as_str(), "\n"]).collect()
    }
}

/// Whether a text can stand for a setting's name in a configuration file: letters, digits and underscores, not
/// beginning with a digit (ID of guc-file.l), and one dot between two such parts for an extension's setting.
#[must_use]
pub fn is_setting_name(name: &str) -> bool {
    let is_id = |part: &str| part.starts_with(is_letter) && part.chars().all(|c| is_letter(c) || c.is_ascii_digit());
    name.split_once('.').map_or_else(|| is_id(name), |(class, rest)| is_id(class) && is_id(rest))
}

/// LETTER of guc-file.l, which is any byte above ASCII too.
fn is_letter(character: char) -> bool {
    character.is_ascii_alphabetic() || character == '_' || !character.is_ascii()
}

/// In single quotes, on one line, as `DeescapeQuotedString` reads it.
fn quoted(value: &str) -> String {
    let mut text = String::with_capacity(value.len() + 2);
    text.push('\'');
    for character in value.chars() {
        match character {
            '\'' => text.push_str("''"),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\0' => text.push_str("\\000"),
            _ => text.push(character),
        }
    }
    text.push('\'');
    text
}

fn meaning(text: &str) -> Meaning {
    let blank = |c: char| matches!(c, ' ' | '\t' | '\r');
    let rest = text.trim_start_matches(blank);
    if rest.is_empty() || rest.starts_with('#') {
        return Meaning::Nothing;
    }
    let (name, rest) = word(rest);
    let rest = rest.trim_start_matches(blank);
    let rest = rest.strip_prefix('=').unwrap_or(rest).trim_start_matches(blank);
    let value = if rest.starts_with('\'') { unquote(rest) } else { bare(rest) };
    match value {
        Some((value, rest)) if is_setting_name(name) => {
            let rest = rest.trim_start_matches(blank);
            let ends = rest.is_empty() || rest.starts_with('#');
            if ends { Meaning::Setting { name: name.to_owned(), value } } else { Meaning::Unreadable }
        }
        _ => Meaning::Unreadable,
    }
}

/// The longest UNQUOTED_STRING at the start of `text`, and what follows it. Names are cut from the text by it too:
/// in `a-3` there is no name `a`.
fn word(text: &str) -> (&str, &str) {
    let belongs = |c: char| is_letter(c) || matches!(c, '0'..='9' | '-' | '.' | '_' | ':' | '/');
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A bare value at the start of `text`, a word or a number with a unit, and what follows it.
fn bare(text: &str) -> Option<(String, &str)> {
    if text.starts_with(is_letter) {
        let (value, rest) = word(text);
        // `x.y` is read as a name, which is no value.
        let is_name = value.contains('.') && is_setting_name(value);
        return (!is_name).then(|| (value.to_owned(), rest));
    }
    let belongs = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '+' | '.');
    let (value, rest) = text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()));
    is_number(value).then(|| (value.to_owned(), rest))
}

/// INTEGER with its unit, or REAL.
fn is_number(text: &str) -> bool {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(w, f)| (w, Some(f)));
    let plain = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    match fraction {
        Some(fraction) => {
            let (fraction, exponent) = fraction.split_once(['e', 'E']).map_or((fraction, "0"), |(f, e)| (f, e));
            let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
            plain(whole) && plain(fraction) && plain(exponent) && !exponent.is_empty()
        }
        None => {
            let hexadecimal = whole.strip_prefix("0x").filter(|d| d.starts_with(|c: char| c.is_ascii_hexdigit()));
            let unit = hexadecimal.map_or_else(
                || whole.trim_start_matches(|c: char| c.is_ascii_digit()),
                |digits| digits.trim_start_matches(|c: char| c.is_ascii_hexdigit()),
            );
            whole.starts_with(|c: char| c.is_ascii_digit()) && unit.bytes().all(|b| b.is_ascii_alphabetic())
        }
    }
}

/// A quoted value at the start of `text`, without quotes and escapes, and what follows it
/// (`DeescapeQuotedString`). `None` where the quote is never closed.
fn unquote(text: &str) -> Option<(String, &str)> {
    let mut characters = text.strip_prefix('\'')?.chars().peekable();
    let mut value = Vec::new();
    loop {
        match characters.next()? {
            '\'' if characters.peek() == Some(&'\'') => {
                characters.next();
                value.push(b'\'');
            }
            '\'' => break,
            '\\' => unescape(&mut characters, &mut value)?,
            other => value.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    let rest: usize = characters.map(char::len_utf8).sum();
    let (_, rest) = text.split_at_checked(text.len() - rest)?;
    // Octal escapes can spell bytes that are no UTF-8; no server's setting that is read here has a use for them.
    Some((String::from_utf8_lossy(&value).into_owned(), rest))
}

/// What stands behind a backslash.
fn unescape(characters: &mut Peekable<Chars>, value: &mut Vec<u8>) -> Option<()> {
    match characters.next()? {
        'b' => value.push(8),
        'f' => value.push(12),
        'n' => value.push(b'\n'),
        'r' => value.push(b'\r'),
        't' => value.push(b'\t'),
        first @ '0'..='7' => {
            let mut byte = first.to_digit(8)?;
            for _ in 0..2 {
                let Some(digit) = characters.peek().and_then(|c| c.to_digit(8)) else { break };
                characters.next();
                byte = byte * 8 + digit;
            }
            // The server keeps the low eight bits of \777 as well.
            value.push((byte & 0xFF) as u8);
        }
        other => value.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const COPIED: &str = "# Do not edit this file manually!
# It will be overwritten by the ALTER SYSTEM command.
restore_command = 'cp ''/a b/%f'' \"%p\"' # old
Work_Mem 64MB
recovery_target_name='x'
archive_mode=on
work_mem = 0x10kB
";

    #[test]
    fn the_last_line_of_a_name_wins_in_any_case() {
        let conf = AutoConf::parse(COPIED);
        assert_eq!(conf.get("restore_command"), Some("cp '/a b/%f' \"%p\""));
        assert_eq!(conf.get("WORK_MEM"), Some("0x10kB"));
        assert_eq!(conf.get("archive_mode"), Some("on"));
        assert_eq!(conf.get("port"), None);
        assert_eq!(conf.settings().count(), 5);
        assert_eq!(conf.render(), COPIED, "nothing was changed");
    }

    #[test]
    fn what_is_set_comes_last_and_in_the_order_of_the_calls() {
        let mut conf = AutoConf::parse(COPIED);
        conf.set("recovery_target", "");
        conf.set("work_mem", "4MB");
        conf.set("recovery_target_name", "it's");
        conf.remove("ARCHIVE_MODE");
        conf.set("recovery_target", "immediate");
        assert_eq!(
            conf.render(),
            "# Do not edit this file manually!
# It will be overwritten by the ALTER SYSTEM command.
restore_command = 'cp ''/a b/%f'' \"%p\"' # old
work_mem = '4MB'
recovery_target_name = 'it''s'
recovery_target = 'immediate'
"
        );
    }

    #[test]
    fn a_file_without_a_last_line_end_is_not_glued_to_what_comes() {
        let mut conf = AutoConf::parse("port = 1");
        conf.set("wal_level", "replica");
        assert_eq!(conf.render(), "port = 1\nwal_level = 'replica'\n");
        let mut empty = AutoConf::parse("");
        assert_eq!(empty.render(), "");
        empty.set("port", "5");
        assert_eq!(empty.render(), "port = '5'\n");
    }

    #[test]
    fn values_are_read_as_the_server_reads_them() {
        for (text, value) in [
            ("a = 'x'", "x"),
            ("  a\t'x'\r", "x"),
            ("a='x'#c", "x"),
            ("a=on#c", "on"),
            ("a = ''", ""),
            (r"a = 'it''s \'q\' \\ \n\t\101\0601'", "it's 'q' \\ \n\tA01"),
            ("a = 'é\\é'", "éé"),
            ("a = -5", "-5"),
            ("a = 1.5e-3", "1.5e-3"),
            ("a = .5", ".5"),
            ("a = 0xFFkB", "0xFFkB"),
            ("a = 10min", "10min"),
            ("a = Europe/Berlin", "Europe/Berlin"),
            ("a = x.y.z", "x.y.z"),
            ("a+3", "+3"),
            ("a = 'b' # 'c'", "b"),
        ] {
            assert_eq!(AutoConf::parse(text).get("a"), Some(value), "{text}");
        }
        assert_eq!(AutoConf::parse("auto_explain.log_format = json").get("auto_explain.log_format"), Some("json"));
    }

    #[test]
    fn lines_that_no_server_reads_are_kept_and_told() {
        for bad in [
            "a",
            "a =",
            "a = 'x",
            "a = 'x\\'",
            "a = 'x' y",
            "= 3",
            "1a = 3",
            "a. = 3",
            "a = 1.2.3",
            "a = b c",
            "a = $x",
        ] {
            let mut conf = AutoConf::parse(&format!("b = 1\n{bad}\n"));
            assert_eq!(conf.get("a"), None, "{bad}");
            assert_eq!(conf.unreadable().collect::<Vec<_>>(), [(2, bad)]);
            conf.set("b", "2");
            assert_eq!(conf.render(), format!("{bad}\nb = '2'\n"));
        }
        assert_eq!(AutoConf::parse("\n \n# x\n\t# y").unreadable().count(), 0);
    }

    #[test]
    fn a_line_end_in_a_value_stays_on_one_line() {
        let mut conf = AutoConf::default();
        conf.set("restore_command", "a\nprimary_conninfo = 'x'\r\\n");
        assert_eq!(conf.render(), "restore_command = 'a\\nprimary_conninfo = ''x''\\r\\\\n'\n");
    }

    #[test]
    fn what_is_no_name_sets_nothing_when_the_file_is_read() {
        for bad in ["", "a b", "a = 'x' #", "x\nport = 1", "1a", "a.", ".a", "a.b.c", "a'"] {
            assert!(!is_setting_name(bad), "{bad:?}");
            let mut conf = AutoConf::default();
            conf.set(bad, "v");
            let read = AutoConf::parse(&conf.render());
            assert_eq!((read.settings().count(), read.unreadable().count()), (0, 1), "{bad:?}");
        }
    }

    fn value() -> impl Strategy<Value = String> {
        prop_oneof![any::<String>(), "[ '\\\\\n\r\t#=%n0-7\u{0}\u{e9}]{0,30}"]
    }

    proptest! {
        #[test]
        fn whatever_value_is_set_reads_back(before in value(), name in "[a-z_]{1,5}(\\.[A-Z0-9_]{1,3}x)?", value in value()) {
            prop_assume!(is_setting_name(&name));
            let mut conf = AutoConf::parse(&before);
            conf.set(&name, &value);
            let read = AutoConf::parse(&conf.render());
            prop_assert_eq!(read.get(&name), Some(value.as_str()));
            prop_assert_eq!(read, conf);
        }

        #[test]
        fn a_file_that_is_not_changed_stays_as_it_is(text in value()) {
            let end = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
            prop_assert_eq!(AutoConf::parse(&text).render(), format!("{text}{end}"));
        }

        #[test]
        fn other_settings_are_left_alone(lines in prop::collection::vec("[a-c] ?=? ?('[^'\n]{0,6}'|[a-z0-9]{1,4})( #x)?", 0..8)) {
            let mut conf = AutoConf::parse(&lines.join("\n"));
            let others = |conf: &AutoConf| {
                conf.settings().filter(|(name, _)| *name != "b").map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>()
            };
            let before = others(&conf);
            conf.set("B", "new");
            prop_assert_eq!(conf.settings().filter(|(name, _)| name.eq_ignore_ascii_case("b")).count(), 1);
            let after: Vec<_> = others(&conf).into_iter().filter(|(name, _)| name != "B").collect();
            prop_assert_eq!(after, before);
        }
    }
}
