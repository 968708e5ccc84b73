//! Paths without an option: `walback /backups suspects` is short for `walback --in /backups suspects`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use clap::{Command, CommandFactory};

use super::args::Cli;

/// The option that a path before the command is short for.
const OPTION: &str = "--in";

/// The same words, with the option before each path that stands before the command. A word that is the name of a command
/// is that; a word that is neither a command nor a path is left to whoever understands the command line to refuse.
#[must_use]
pub fn spelled_out(arguments: Vec<OsString>) -> Vec<OsString> {
    let program = Cli::command();
    let mut words = arguments.into_iter();
    let mut spelled: Vec<OsString> = words.by_ref().take(1).collect();
    while let Some(word) = words.next() {
        if word == "--" || program.get_subcommands().any(|command| is_called(command, &word)) {
            spelled.push(word);
            break;
        }
        if word.as_bytes().starts_with(b"-") {
            let takes_next = takes_next(&program, &word);
            spelled.push(word);
            spelled.extend(words.by_ref().take(usize::from(takes_next)));
            continue;
        }
        if is_path(&word) {
            spelled.push(OPTION.into());
        }
        spelled.push(word);
    }
    spelled.extend(words);
    spelled
}

fn is_called(command: &Command, word: &OsStr) -> bool {
    command.get_name() == word || command.get_all_aliases().any(|alias| alias == word)
}

/// Whether the word behind this one is the value of this option.
fn takes_next(program: &Command, option: &OsStr) -> bool {
    let named = |name: &str| program.get_arguments().find(|argument| argument.get_long() == Some(name));
    let argument = option.to_str().and_then(|option| option.strip_prefix("--")).and_then(named);
    argument.is_some_and(|argument| argument.get_action().takes_values())
}

fn is_path(word: &OsStr) -> bool {
    word.as_bytes().contains(&b'/') || word.as_bytes().starts_with(b".") || Path::new(word).exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spelled(words: &str) -> String {
        let arguments = words.split(' ').map(OsString::from).collect();
        let spelled = spelled_out(arguments);
        spelled.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn paths_before_the_command_are_spelled_out() {
        assert_eq!(spelled("walback /b"), "walback --in /b");
        assert_eq!(spelled("walback /b ./wal suspects --rows 5"), "walback --in /b --in ./wal suspects --rows 5");
        assert_eq!(spelled("walback --source shop /b --json"), "walback --source shop --in /b --json");
        assert_eq!(spelled("walback src"), "walback --in src", "it is there");
    }

    #[test]
    fn commands_options_and_their_values_stay() {
        for words in [
            "walback backups",
            "walback --backups /b --wal /w backups",
            "walback --wal=/w timelines",
            "walback init /b",
            "walback --in backups check",
            "walback bakups",
            "walback -- /b",
            "walback --nonsense",
            "walback sql /b",
        ] {
            assert_eq!(spelled(words), words);
        }
        assert_eq!(spelled("walback ./backups"), "walback --in ./backups", "a path that is called like a command");
    }
}
