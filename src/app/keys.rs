//! The keys of the commands, as the table has them or as the configuration changed them.

use std::collections::BTreeMap;

use super::command::{self, Act, COMMANDS, Command, EVERYWHERE, SEARCH};
use super::key::Key;
use super::state::State;

/// What the configuration changed of the keys in the table of commands; nothing, unless it says so.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Keys {
    changed: BTreeMap<&'static str, Vec<Key>>,
    by_name: bool,
}

/// What is wrong with the keys of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// What is wrong, with the key and the commands.
    pub what: String,
    /// What to do about it.
    pub hint: String,
}

impl Keys {
    /// The keys that a configuration gives to commands, by the commands' names. A command that it names has these and
    /// no others, but for `Ctrl-c` and `Esc`, which nobody can take away from what they do.
    ///
    /// # Errors
    /// Where a command or a key is unknown, a terminal cannot tell a key from another one, or two commands of one screen
    /// would have the same key.
    pub fn new(wanted: &BTreeMap<String, Vec<String>>) -> Result<Keys, Wrong> {
        let mut keys = Keys::default();
        for (name, texts) in wanted {
            let command = command::named(name).ok_or_else(|| unknown(name))?;
            let mut of_command = Vec::new();
            for text in texts {
                let key = read(name, text)?;
                if !of_command.contains(&key) {
                    of_command.push(key);
                }
            }
            of_command.extend(fixed(command.act).filter(|key| !of_command.contains(key)));
            keys.changed.insert(command.name, of_command);
        }
        for screen in EVERYWHERE {
            keys.differ(&command::on(*screen).collect::<Vec<_>>(), wanted)?;
        }
        keys.differ(&SEARCH.iter().collect::<Vec<_>>(), wanted)?;
        Ok(keys)
    }

    /// The same, where nobody sees keys and commands are typed: every text has their names.
    #[must_use]
    pub fn by_name(self) -> Keys {
        Keys { by_name: true, ..self }
    }

    /// A command's keys; the first one is shown.
    #[must_use]
    pub fn of<'a>(&'a self, command: &'a Command) -> &'a [Key] {
        self.changed.get(command.name).map_or(command.keys, Vec::as_slice)
    }

    /// No key means two things among these commands.
    fn differ(&self, commands: &[&'static Command], wanted: &BTreeMap<String, Vec<String>>) -> Result<(), Wrong> {
        let mut taken: Vec<(Key, &Command)> = Vec::new();
        for command in commands {
            for key in self.of(command) {
                match taken.iter().find(|(other, _)| other == key) {
                    Some((_, other)) => return Err(twice(*key, other, command, wanted)),
                    None => taken.push((*key, command)),
                }
            }
        }
        Ok(())
    }
}

/// What can never be taken away: the way out of everything.
fn fixed(act: Act) -> Option<Key> {
    match act {
        Act::Quit => Some(Key::Ctrl('c')),
        Act::Back | Act::EndSearch => Some(Key::Esc),
        _ => None,
    }
}

fn read(name: &str, text: &str) -> Result<Key, Wrong> {
    let key: Key = text.parse().map_err(|what| Wrong {
        what: format!("the keys of {name}: {what}"),
        hint: "docs/keys.md has the names of all keys; quote a sign that YAML takes for something else".to_owned(),
    })?;
    match key.is_sent_as() {
        Some(other) => Err(Wrong {
            what: format!("the keys of {name}: a terminal sends the same for {key} as for {other}"),
            hint: format!("write {other} where that is meant, or take another key"),
        }),
        None => Ok(key),
    }
}

fn unknown(name: &str) -> Wrong {
    let all = COMMANDS.iter().chain(SEARCH).map(|command| command.name);
    let nearest = all
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness > 0.7)
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let hint = nearest.map(|(_, known)| format!("did you mean “{known}”? ")).unwrap_or_default();
    Wrong {
        what: format!("keys are given to a command that there is not: {}", name.escape_debug()),
        hint: format!("{hint}docs/keys.md has every command's name"),
    }
}

fn twice(key: Key, one: &Command, other: &Command, wanted: &BTreeMap<String, Vec<String>>) -> Wrong {
    let what = format!("{key} would mean both {} and {}", one.name, other.name);
    let hint = match [one, other].into_iter().find(|command| fixed(command.act) == Some(key)) {
        Some(kept) => format!("{key} always means {}: take another key", kept.name),
        None => {
            let free = if wanted.contains_key(one.name) { other } else { one };
            format!("give {} another key too, like {}: F6", free.name, free.name)
        }
    };
    Wrong { what, hint }
}

/// The key of a command as it is shown in a text; where it has none, how the palette finds it, and where nobody sees keys,
/// its name.
#[must_use]
pub fn key_of(state: &State, act: Act) -> String {
    let Some(command) = COMMANDS.iter().chain(SEARCH).find(|command| command.act == act) else {
        return String::new();
    };
    if state.keys.by_name {
        return command.name.to_owned();
    }
    state.keys.of(command).first().map_or_else(|| format!(":{}", command.name), ToString::to_string)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::{Dialog, Msg, update};

    fn keys(wanted: &[(&str, &[&str])]) -> Result<Keys, Wrong> {
        let texts = |keys: &[&str]| keys.iter().map(|key| (*key).to_owned()).collect();
        Keys::new(&wanted.iter().map(|(name, keys)| ((*name).to_owned(), texts(keys))).collect())
    }

    #[test]
    fn what_is_changed_is_changed_and_nothing_else() {
        let keys = keys(&[("stop-before", &["B", "F3"]), ("quit", &["Ctrl-q"]), ("suspects", &[])]).unwrap();
        let of = |name| keys.of(command::named(name).unwrap()).to_vec();
        assert_eq!(of("stop-before"), [Key::Char('B'), Key::F(3)]);
        assert_eq!(of("quit"), [Key::Ctrl('q'), Key::Ctrl('c')], "it cannot be taken away");
        assert_eq!((of("suspects"), of("stop-after")), (vec![], vec![Key::Char('a')]));
        assert_eq!(keys.of(command::named("back").unwrap()), [Key::Esc]);
    }

    #[test]
    fn keys_that_nobody_gave_away_do_not_become_two_things() {
        // Free on one screen and taken on another.
        let wrong = keys(&[("up", &["t"])]).unwrap_err();
        assert!(wrong.what.contains("t would mean both target-time and up"), "{wrong:?}");
        assert!(wrong.hint.contains("target-time"), "{wrong:?}");
        assert!(keys(&[("up", &["t"]), ("target-time", &["F6"]), ("take", &["F6"])]).is_ok());
        assert!(keys(&[("stop-before", &["a"]), ("stop-after", &["b"])]).is_ok(), "they change places");
        // The commands of a search come before the others, and may have their keys.
        assert!(keys(&[("next-match", &["t"])]).is_ok());
        assert!(keys(&[("next-match", &["N"])]).unwrap_err().what.contains("next-match and previous-match"));
    }

    #[test]
    fn the_ways_out_stay() {
        for (name, key, kept) in
            [("suspects", "Esc", "back"), ("mouse", "Ctrl-c", "quit"), ("next-match", "Esc", "end-search")]
        {
            let wrong = keys(&[(name, &[key])]).unwrap_err();
            assert!(wrong.what.contains(name) && wrong.hint.contains(&format!("always means {kept}")), "{wrong:?}");
        }
        let kept = keys(&[("back", &["Backspace"]), ("end-search", &[])]).unwrap();
        assert_eq!(kept.of(command::named("back").unwrap()), [Key::Backspace, Key::Esc]);
        assert_eq!(kept.of(command::named("end-search").unwrap()), [Key::Esc]);
    }

    #[test]
    fn what_is_not_known_is_said_with_what_is_most_like_it() {
        let wrong = keys(&[("stop-befor", &["B"])]).unwrap_err();
        assert!(wrong.what.contains("stop-befor") && wrong.hint.contains("did you mean “stop-before”?"), "{wrong:?}");
        let wrong = keys(&[("stop-before", &["Ctrl-i"])]).unwrap_err();
        assert!(wrong.what.contains("stop-before") && wrong.what.contains("Tab"), "{wrong:?}");
        let wrong = keys(&[("stop-before", &["F99"])]).unwrap_err();
        assert!(wrong.what.contains("stop-before") && wrong.what.contains("“F99” is no key"), "{wrong:?}");
    }

    #[test]
    fn lists_move_with_the_keys_of_the_table_and_with_the_arrows() {
        let mut state = crate::app::update::tests::paused();
        let others: [(&str, &[&str]); 2] = [("target-name", &["F6"]), ("next-in-log", &["F7"])];
        state.keys = keys(&[("down", &["n"]), ("last", &["Z"]), others[0], others[1]]).unwrap();
        let selected = |state: &State| match &state.dialog {
            Some(Dialog::Menu(menu)) => menu.selected,
            other => panic!("no menu: {other:?}"),
        };
        let mut press = |key, place| {
            update(&mut state, Msg::Key(key));
            assert_eq!(selected(&state), place, "{key}");
        };
        // A letter of a way is that way, whatever it is elsewhere: `n` would ask for a name.
        for (key, place) in [
            (Key::Char('r'), 0),
            (Key::Down, 1),
            (Key::Char('j'), 1),
            (Key::Char('Z'), 5),
            (Key::Char('g'), 0),
            (Key::End, 5),
        ] {
            press(key, place);
        }
    }
}
