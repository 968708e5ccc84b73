//! A line of text that is being typed.

use super::key::Key;

/// How much a field takes. More than any path or name has; less than what a mistaken paste brings.
const LIMIT: usize = 4096;

/// A line of text with a cursor in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Field {
    text: String,
    /// In characters from the start.
    cursor: usize,
}

impl Field {
    /// A field that says `text`, with the cursor behind it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Field {
        let text = text.into();
        Field { cursor: text.chars().count(), text }
    }

    /// What it says.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Where the cursor stands, in characters from the start.
    #[must_use]
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Edits it; `false` where the key means nothing to a field.
    pub fn press(&mut self, key: Key) -> bool {
        match key {
            Key::Char(c) => self.insert(c),
            Key::Backspace if self.cursor > 0 => {
                self.cursor -= 1;
                self.remove();
            }
            Key::Backspace => {}
            Key::Delete => self.remove(),
            Key::Left => self.cursor = self.cursor.saturating_sub(1),
            Key::Right => self.cursor = (self.cursor + 1).min(self.length()),
            Key::Home | Key::Ctrl('a') => self.cursor = 0,
            Key::End | Key::Ctrl('e') => self.cursor = self.length(),
            Key::Ctrl('u') => *self = Field::default(),
            _ => return false,
        }
        true
    }

    /// Inserts what was pasted, without its control characters: a pasted newline never confirms anything.
    pub fn paste(&mut self, text: &str) {
        for c in text.chars().filter(|c| !c.is_control()) {
            self.insert(c);
        }
    }

    fn length(&self) -> usize {
        self.text.chars().count()
    }

    fn byte(&self, characters: usize) -> usize {
        self.text.char_indices().nth(characters).map_or(self.text.len(), |(byte, _)| byte)
    }

    fn insert(&mut self, c: char) {
        if self.text.len() + c.len_utf8() <= LIMIT {
            self.text.insert(self.byte(self.cursor), c);
            self.cursor += 1;
        }
    }

    fn remove(&mut self) {
        if self.cursor < self.length() {
            self.text.remove(self.byte(self.cursor));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_is_edited_at_the_cursor() {
        let mut field = Field::new("14:3");
        for key in [Key::Char('0'), Key::Home, Key::Char('2'), Key::Delete, Key::End, Key::Backspace] {
            assert!(field.press(key));
        }
        assert_eq!((field.text(), field.cursor()), ("24:3", 4));
        assert!(!field.press(Key::Up));
    }

    #[test]
    fn a_paste_brings_no_newline() {
        let mut field = Field::default();
        field.paste("/srv/é\n/x\u{1b}[2J");
        assert_eq!(field.text(), "/srv/é/x[2J");
        field.paste(&"x".repeat(10_000));
        assert_eq!(field.text().len(), LIMIT);
    }

    proptest! {
        #[test]
        fn no_sequence_of_keys_leaves_the_cursor_outside(keys in proptest::collection::vec(0_usize..9, 0..60)) {
            let all = [Key::Char('é'), Key::Char('a'), Key::Backspace, Key::Delete, Key::Left, Key::Right, Key::Home,
                Key::End, Key::Ctrl('u')];
            let mut field = Field::new("日本");
            for key in keys {
                field.press(all[key]);
                prop_assert!(field.cursor() <= field.text().chars().count());
            }
        }
    }
}
