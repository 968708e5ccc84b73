//! Keys as the program understands them, whatever library reads them.

use std::fmt;
use std::str::FromStr;

/// A key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Key {
    /// A character, with Shift already in it.
    Char(char),
    /// A character with Control.
    Ctrl(char),
    /// Enter.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Tab with Shift.
    BackTab,
    /// Deletes to the left.
    Backspace,
    /// Deletes to the right.
    Delete,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// To the start.
    Home,
    /// To the end.
    End,
    /// One page up.
    PageUp,
    /// One page down.
    PageDown,
    /// A function key.
    F(u8),
}

impl fmt::Display for Key {
    /// As it is printed on a keyboard: `b`, `Ctrl-c`, `Enter`, `F5`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Char(' ') => "Space".to_owned(),
            Self::Char(c) => c.to_string(),
            Self::Ctrl(' ') => "Ctrl-Space".to_owned(),
            Self::Ctrl(c) => format!("Ctrl-{c}"),
            Self::BackTab => "Shift-Tab".to_owned(),
            Self::PageUp => "PgUp".to_owned(),
            Self::PageDown => "PgDn".to_owned(),
            Self::F(number) => format!("F{number}"),
            named => format!("{named:?}"),
        };
        f.pad(&text)
    }
}

/// The named keys, each with the names under which it is understood; the first one is the one that is shown.
const NAMED: &[(Key, &[&str])] = &[
    (Key::Char(' '), &["Space"]),
    (Key::Enter, &["Enter", "Return"]),
    (Key::Esc, &["Esc", "Escape"]),
    (Key::Tab, &["Tab"]),
    (Key::BackTab, &["Shift-Tab", "BackTab"]),
    (Key::Backspace, &["Backspace"]),
    (Key::Delete, &["Delete", "Del"]),
    (Key::Up, &["Up"]),
    (Key::Down, &["Down"]),
    (Key::Left, &["Left"]),
    (Key::Right, &["Right"]),
    (Key::Home, &["Home"]),
    (Key::End, &["End"]),
    (Key::PageUp, &["PgUp", "PageUp"]),
    (Key::PageDown, &["PgDn", "PageDown"]),
];

/// The highest function key that terminals tell of.
const LAST_F: u8 = 35;

impl FromStr for Key {
    type Err = String;

    /// The inverse of how a key is shown. Names of keys are understood in small and capital letters; a letter alone is
    /// the key that writes it.
    ///
    /// # Errors
    /// Where it is no key, with how keys are written.
    fn from_str(text: &str) -> Result<Key, String> {
        let mut characters = text.chars();
        if let (Some(c), None) = (characters.next(), characters.next()) {
            return if c.is_control() { Err(how_keys_are_written(text)) } else { Ok(Key::Char(c)) };
        }
        let is = |name: &&str| name.eq_ignore_ascii_case(text);
        if let Some((key, _)) = NAMED.iter().find(|(_, names)| names.iter().any(is)) {
            return Ok(*key);
        }
        let rest = |lead: &str| {
            text.get(..lead.len())
                .filter(|start| start.eq_ignore_ascii_case(lead))
                .and_then(|start| text.get(start.len()..))
        };
        if let Some(number) = rest("F").filter(|digits| !digits.starts_with(['0', '+'])).and_then(|n| n.parse().ok()) {
            return if number <= LAST_F { Ok(Key::F(number)) } else { Err(how_keys_are_written(text)) };
        }
        match rest("Ctrl-").map(str::parse) {
            Some(Ok(Key::Char(c))) => Ok(Key::Ctrl(c.to_ascii_lowercase())),
            _ => Err(how_keys_are_written(text)),
        }
    }
}

fn how_keys_are_written(text: &str) -> String {
    let text = text.escape_debug();
    format!("“{text}” is no key; keys are written like b, B, /, Space, Enter, PgUp, Ctrl-r, Shift-Tab, F5")
}

impl Key {
    /// The key that a terminal cannot tell from this one, because it sends the same for both.
    #[must_use]
    pub fn is_sent_as(self) -> Option<Key> {
        match self {
            Self::Ctrl('i') => Some(Self::Tab),
            Self::Ctrl('m' | 'j') => Some(Self::Enter),
            Self::Ctrl('h') => Some(Self::Backspace),
            Self::Ctrl('[') => Some(Self::Esc),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_key() -> impl Strategy<Value = Key> {
        let writable = || any::<char>().prop_filter("it writes something", |c| !c.is_control());
        prop_oneof![
            proptest::sample::select(NAMED.iter().map(|(key, _)| *key).collect::<Vec<_>>()),
            writable().prop_map(Key::Char),
            writable().prop_map(|c| Key::Ctrl(c.to_ascii_lowercase())),
            (1..=LAST_F).prop_map(Key::F),
        ]
    }

    proptest! {
        #[test]
        fn a_key_is_read_as_it_is_shown(key in any_key()) {
            prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
        }

        #[test]
        fn no_text_makes_reading_a_key_panic(text in "\\PC{0,8}|(?i)(f|ctrl-)\\PC{0,4}") {
            if let Ok(key) = text.parse::<Key>() {
                prop_assert_eq!(key.to_string().parse::<Key>(), Ok(key));
            }
        }
    }

    #[test]
    fn keys_are_read_however_their_names_are_written() {
        let read = |text: &str| text.parse::<Key>().unwrap();
        assert_eq!(
            ["ctrl-R", "escape", "PAGEUP", "f12", "space"].map(read),
            [Key::Ctrl('r'), Key::Esc, Key::PageUp, Key::F(12), Key::Char(' ')]
        );
        for bad in ["", "F0", "F36", "F+1", "Ctrl-", "Ctrl-Tab", "bb", "\t", "Alt-x"] {
            assert!(bad.parse::<Key>().unwrap_err().contains("keys are written like"), "{bad}");
        }
    }

    #[test]
    fn keys_are_named_as_on_a_keyboard() {
        let keys = [Key::Char('S'), Key::Ctrl('c'), Key::Enter, Key::PageDown, Key::F(5), Key::BackTab, Key::Char(' ')];
        assert_eq!(keys.map(|k| k.to_string()), ["S", "Ctrl-c", "Enter", "PgDn", "F5", "Shift-Tab", "Space"]);
    }
}
