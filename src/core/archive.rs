//! Where archived WAL comes from: directories, and commands that fetch one file each.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::segment::{ArchiveFile, SegmentName};

/// What a command is called that has no name which can be shown.
pub const UNNAMED: &str = "the command";
/// What ends a word in a shell, and what ends a command or does something else than to be a part of a word.
const BLANKS: [char; 3] = [' ', '\t', '\n'];
const OPERATORS: [char; 7] = [';', '|', '&', '<', '>', '(', ')'];
/// Seconds that one call of a command may take, unless the operator says otherwise.
pub const PATIENCE_S: u64 = 600;

/// A command that fetches one archived file, as a `restore_command` does.
///
/// It is the operator's own text, and is run by `/bin/sh -c`. As PostgreSQL does (`BuildRestoreCommand`,
/// `src/common/archive.c` of 13 to 15; `shell_restore`, `src/backend/access/transam` of 16 to 18), `%f` is replaced by
/// the file's name, `%p` by the path that it shall go to, `%r` by the name of the last segment that a restart still
/// needs, and `%%` by `%`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct FetchCommand {
    /// Its text.
    pub command: String,
    /// The exit statuses that mean that the file is not there, where the operator says so; else those that are
    /// customary, see [`FetchCommand::verdict`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<u8>,
    /// Seconds that one call may take.
    #[serde(default = "patience")]
    pub timeout_s: u64,
}

fn patience() -> u64 {
    PATIENCE_S
}

/// A command among the directories of a source.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PlacedCommand {
    /// So many of the directories are asked before it.
    pub after: usize,
    /// The command.
    #[serde(flatten)]
    pub fetch: FetchCommand,
}

/// Where archived WAL comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Archive<'a> {
    /// A directory.
    Directory(&'a Path),
    /// A command.
    Command(&'a FetchCommand),
}

/// All of them, in the order in which they are asked.
#[must_use]
pub fn in_order<'a>(directories: &'a [PathBuf], commands: &'a [PlacedCommand]) -> Vec<Archive<'a>> {
    let at = |place: usize| commands.iter().filter(move |command| command.after == place);
    let mut all = Vec::with_capacity(directories.len() + commands.len());
    for (place, directory) in directories.iter().enumerate() {
        all.extend(at(place).map(|command| Archive::Command(&command.fetch)));
        all.push(Archive::Directory(directory));
    }
    let behind = commands.iter().filter(|command| command.after >= directories.len());
    all.extend(behind.map(|command| Archive::Command(&command.fetch)));
    all
}

/// What a call of the command says of the file that was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It gave a file.
    There,
    /// The file is not there.
    Missing {
        /// Whether this status means nothing else. Many programs end with the same one for whatever goes wrong.
        certain: bool,
    },
    /// It could not do its work; nothing is known of the file.
    Broken,
}

/// Programs whose exit status tells what is not there from what went wrong, and those that have another status for it
/// than 1: the program, its statuses, and whether they mean nothing else.
///
/// wal-g: `wal-fetch` ends with 74 since 2.0 (its pull request 1195), before with 1 for everything. pgBackRest:
/// `archive-get` ends with 1 for what is not there, errors from 25 on (its user guide; `src/common/error/error.auto.c.inc`).
/// barman-wal-restore: 1 where `get-wal` failed, “likely” since it is not there, 2 for the connection (its manual page).
/// curl: 22 with `--fail` for every status from 400 on, 78 for what is not there (its manual page). rclone: 3 and 4 (its
/// documentation). rsync: 23 (its manual page). s3cmd: 12. wget: 8. gpg: 2 for whatever it is.
const CUSTOMS: [(&str, &[u8], bool); 11] = [
    ("wal-g", &[74], true),
    ("wal-g-pg", &[74], true),
    ("pgbackrest", &[1], true),
    ("rclone", &[3, 4], true),
    ("s3cmd", &[12], true),
    ("barman-wal-restore", &[1], false),
    ("barman-cloud-wal-restore", &[1], false),
    ("curl", &[22, 78], false),
    ("wget", &[8], false),
    ("rsync", &[23], false),
    ("gpg", &[1, 2], false),
];
/// Of all others: `cp`, `cat`, `aws s3 cp`, `azcopy` and most scripts end with 1; a shell that cannot open a file to read
/// from, with 2 (`dash`, as POSIX allows) or 1 (`bash`).
const CUSTOMARY: [u8; 2] = [1, 2];

impl FetchCommand {
    /// A command with the customary statuses and time.
    #[must_use]
    pub fn new(command: impl Into<String>) -> FetchCommand {
        FetchCommand { command: command.into(), missing: Vec::new(), timeout_s: PATIENCE_S }
    }

    /// Whether it can be used: why not, and what to do, in words.
    ///
    /// # Errors
    /// Where it has no `%f` or `%p`, another letter behind a `%`, or is no single line.
    pub fn check(&self) -> Result<(), BadCommand> {
        if self.command.trim().is_empty() {
            return Err(BadCommand::Empty);
        }
        if self.command.chars().any(char::is_control) {
            return Err(BadCommand::Control);
        }
        let mut names = Vec::new();
        let mut rest = self.command.chars();
        while let Some(next) = rest.by_ref().find(|next| *next == '%').and_then(|_| rest.next()) {
            names.push(next);
        }
        match names.iter().find(|name| !matches!(name, 'f' | 'p' | 'r' | '%')) {
            Some(other) => Err(BadCommand::Unknown(*other)),
            None if !names.contains(&'f') => Err(BadCommand::NoFile),
            None if !names.contains(&'p') => Err(BadCommand::NoPath),
            None => Ok(()),
        }
    }

    /// The text to run for `file`, which shall go to `path`. `restart` is the last segment that a restart needs; where
    /// that is not known, PostgreSQL takes a name of zeros.
    #[must_use]
    pub fn filled(&self, file: ArchiveFile, path: &str, restart: Option<SegmentName>) -> String {
        let mut text = String::with_capacity(self.command.len() + path.len() + 64);
        let mut rest = self.command.chars();
        while let Some(next) = rest.next() {
            match (next, if next == '%' { rest.next() } else { None }) {
                ('%', Some('f')) => text.push_str(&file.to_string()),
                ('%', Some('p')) => text.push_str(path),
                ('%', Some('r')) => match restart {
                    Some(name) => text.push_str(&name.to_string()),
                    None => text.push_str("000000000000000000000000"),
                },
                ('%', Some(other)) => text.extend((other != '%').then_some('%').into_iter().chain([other])),
                (other, _) => text.push(other),
            }
        }
        text
    }

    /// The first word that names a program, without its directory and without quotes: what stands before it may set
    /// variables. Empty where a shell has to be asked which one that is.
    #[must_use]
    pub fn program(&self) -> String {
        self.first_word().map(|(_, name)| name).unwrap_or_default()
    }

    /// The same as it was written, with its directory.
    #[must_use]
    pub fn program_word(&self) -> &str {
        self.first_word().map(|(written, _)| written).unwrap_or_default()
    }

    /// The word that names the program, as it was written, and the plain name in it.
    fn first_word(&self) -> Option<(&str, String)> {
        let mut rest = self.command.as_str();
        loop {
            let word = Word::first_of(rest)?;
            rest = rest.get(word.end..)?;
            if word.sets_variable() {
                // What follows a substitution, or something that ends the command, may be more of the value.
                if word.expands || !(rest.is_empty() || rest.starts_with(BLANKS)) {
                    return None;
                }
            } else if word.written != "exec" {
                let name = word.text.rsplit('/').next().filter(|name| is_plain_name(name))?;
                let is_descriptor = rest.starts_with(['<', '>']) && name.bytes().all(|byte| byte.is_ascii_digit());
                return (!is_descriptor).then(|| (word.written, name.to_owned()));
            }
        }
    }

    /// Its name where it is only named: a command may hold a password. [`UNNAMED`] where it has no plain name.
    #[must_use]
    pub fn shown(&self) -> String {
        match self.first_word() {
            None => UNNAMED.to_owned(),
            Some((written, name)) if self.command.trim() == written => name,
            Some((_, name)) => format!("{name} …"),
        }
    }

    /// The same at the beginning of a sentence about it: `the command wal-g …`.
    #[must_use]
    pub fn named(&self) -> String {
        let shown = self.shown();
        // Where it has no name that can be shown, that is what it is called.
        if shown == UNNAMED { shown } else { format!("{UNNAMED} {shown}") }
    }

    /// What a call that ended with `status` says; `came` says whether there was a file, with anything in it, thereafter. A
    /// shell gives 126 for a program that it cannot run, 127 for one that it does not find, and more for one that was
    /// killed; `None` is a shell that was killed itself.
    ///
    /// No file, or an empty one, with status 0 is not there: that is how pipelines end whose first command failed.
    #[must_use]
    pub fn verdict(&self, status: Option<i32>, came: bool) -> Verdict {
        let Some(status) = status.and_then(|status| u8::try_from(status).ok()) else { return Verdict::Broken };
        if status == 0 {
            return if came { Verdict::There } else { Verdict::Missing { certain: false } };
        }
        if !self.missing.is_empty() {
            return if self.missing.contains(&status) { Verdict::Missing { certain: true } } else { Verdict::Broken };
        }
        let (statuses, certain) = self.customary();
        if statuses.contains(&status) { Verdict::Missing { certain } } else { Verdict::Broken }
    }

    /// The statuses that mean that a file is not there.
    #[must_use]
    pub fn missing_statuses(&self) -> &[u8] {
        if self.missing.is_empty() { self.customary().0 } else { &self.missing }
    }

    /// What is customary for its program, and whether those statuses mean nothing else.
    fn customary(&self) -> (&'static [u8], bool) {
        // Of a pipeline, the status is that of its last command.
        let is_plain = !self.command.contains(['|', ';', '&']);
        let name = self.program();
        let custom = CUSTOMS.iter().find(|(program, ..)| is_plain && *program == name);
        custom.map_or((&CUSTOMARY[..], false), |(_, statuses, certain)| (*statuses, *certain))
    }
}

/// A word of a shell (POSIX.1-2017, Shell Command Language, 2.2 and 2.3).
struct Word<'a> {
    /// With its quotes.
    written: &'a str,
    /// Without them.
    text: String,
    /// Whether it has a substitution that may go on behind a blank.
    expands: bool,
    /// Where it ends, in bytes.
    end: usize,
}

impl<'a> Word<'a> {
    /// The first one of a text; `None` where a quote does not close.
    fn first_of(text: &'a str) -> Option<Word<'a>> {
        let begin = text.len() - text.trim_start_matches(BLANKS).len();
        let mut rest = text.char_indices().skip_while(|(at, _)| *at < begin).peekable();
        let (mut plain, mut expands, mut end, mut quote) = (String::new(), false, text.len(), None);
        while let Some((at, next)) = rest.next() {
            match (quote, next) {
                (Some('\''), '\'') | (Some('"'), '"') => quote = None,
                (Some('\''), _) => plain.push(next),
                (None, '\'' | '"') => quote = Some(next),
                (None, _) if BLANKS.contains(&next) || OPERATORS.contains(&next) => {
                    end = at;
                    break;
                }
                (_, '\\') => {
                    let (_, escaped) = rest.next()?;
                    // Between double quotes it stands for itself before most characters.
                    let stays = quote.is_some() && !matches!(escaped, '$' | '`' | '"' | '\\');
                    plain.extend(stays.then_some('\\').into_iter().chain([escaped]));
                }
                _ => {
                    let is_name = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
                    let is_variable = rest.peek().is_some_and(|(_, after)| is_name(after));
                    expands |= next == '`' || next == '$' && !is_variable;
                    plain.push(next);
                }
            }
        }
        let written = text.get(begin..end)?;
        quote.is_none().then_some(Word { written, text: plain, expands, end })
    }

    /// A name, without quotes, and `=` behind it.
    fn sets_variable(&self) -> bool {
        let Some((name, _)) = self.written.split_once('=') else { return false };
        let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        begins && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    }
}

/// Whether this can be a program's name, and nothing that a shell would make something else of.
fn is_plain_name(name: &str) -> bool {
    let begins = name.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '.'));
    begins && name.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '_' | '-' | '+' | '@'))
}

/// Why a command cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadCommand {
    /// There is nothing in it.
    Empty,
    /// It has a control character, as the end of a line is one.
    Control,
    /// It does not say which file.
    NoFile,
    /// It does not say where the file shall go.
    NoPath,
    /// It has this letter behind a `%`.
    Unknown(char),
}

impl fmt::Display for BadCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Control => f.write_str("it has to be one line, without control characters"),
            Self::NoFile => f.write_str("it has no %f, the name of the file that is asked for"),
            Self::NoPath => f.write_str("it has no %p, the path that the file shall go to"),
            Self::Unknown(other) => write!(f, "%{other} means nothing in it"),
        }
    }
}

impl BadCommand {
    /// What to do.
    #[must_use]
    pub fn hint(self) -> &'static str {
        match self {
            Self::Unknown(_) => "PostgreSQL replaces %f, %p, %r and %%; a % itself is written %%",
            Self::Control => "put several lines into a script of their own, and name that",
            _ => "write it as a restore_command: wal-g wal-fetch %f %p",
        }
    }
}

impl std::error::Error for BadCommand {}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file() -> ArchiveFile {
        ArchiveFile::parse("000000010000000000000007").unwrap()
    }

    #[test]
    fn it_is_filled_in_as_the_server_does_it() {
        let filled = |command: &str| FetchCommand::new(command).filled(file(), "pg_wal/RECOVERYXLOG", None);
        assert_eq!(filled("cp /a/%f \"%p\""), "cp /a/000000010000000000000007 \"pg_wal/RECOVERYXLOG\"");
        assert_eq!(filled("x %% %r %f%p"), "x % 000000000000000000000000 000000010000000000000007pg_wal/RECOVERYXLOG");
        assert_eq!(filled("date +%%f; x %"), "date +%f; x %");
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let check = |command: &str| FetchCommand::new(command).check();
        assert_eq!(check("wal-g wal-fetch %f %p"), Ok(()));
        assert_eq!(check("date +%%s; cp %f %p"), Ok(()));
        assert_eq!(check(" "), Err(BadCommand::Empty));
        assert_eq!(check("cp /a/%%f %p"), Err(BadCommand::NoFile));
        assert_eq!(check("cp /a/%f /b"), Err(BadCommand::NoPath));
        assert_eq!(check("cp /a/%f %p %d"), Err(BadCommand::Unknown('d')));
        assert_eq!(check("cp /a/%f\n%p"), Err(BadCommand::Control));
    }

    #[test]
    fn where_it_is_only_named_no_password_is_shown() {
        let shown = |command: &str| FetchCommand::new(command).shown();
        assert_eq!(shown("PGPASSWORD='a' /usr/bin/aws --key s s3 cp s3://b/%f %p"), "aws …");
        assert_eq!(shown("exec wal-g wal-fetch %f %p"), "wal-g …");
        assert_eq!(shown("'/opt/fetch' %f %p"), "fetch …");
        assert_eq!(shown("\"/opt/my tools/fetch\" %f %p"), "fetch …");
        assert_eq!(shown(r"/opt/my\ tools/fetch %f %p"), "fetch …");
        assert_eq!(shown("cat</a/%f >%p"), "cat …");
        assert_eq!(shown(" wal-g "), "wal-g");
        assert_eq!(shown("\"$BIN\"/wal-g wal-fetch %f %p"), "wal-g …");
        for sets in [
            r#"A="my secret""#,
            "A='my secret'",
            r"A=my\ secret",
            r#"A="my \" secret""#,
            r#"A='my "'" secret""#,
            "A=$USER B=' secret' exec",
        ] {
            assert_eq!(shown(&format!("{sets} cp /a/%f %p")), "cp …", "{sets}");
            assert_eq!(FetchCommand::new(format!("{sets} cp /a/%f %p")).program_word(), "cp", "{sets}");
        }
        for told_by_a_shell in [
            r#"A="my secret cp /a/%f %p"#,
            "A='my secret cp /a/%f %p",
            r"cp\",
            "A=$(echo my secret) cp /a/%f %p",
            r#"A="$(echo my secret)" cp /a/%f %p"#,
            "A=`echo my secret` cp /a/%f %p",
            "A=${B:-my secret} cp /a/%f %p",
            r"A=$'my\' secret' cp /a/%f %p",
            "A=(my secret) cp /a/%f %p",
            "A=my&secret cp /a/%f %p",
            "A+=secret cp /a/%f %p",
            "1A=secret cp /a/%f %p",
            "2>/dev/null cp /a/%f %p",
            "</secret cat /a/%f %p",
            "$SECRET /a/%f %p",
            "'my secret' /a/%f %p",
            "-secret",
            "",
        ] {
            assert_eq!(shown(told_by_a_shell), UNNAMED, "{told_by_a_shell}");
            assert_eq!(FetchCommand::new(told_by_a_shell).program_word(), "", "{told_by_a_shell}");
        }
    }

    #[test]
    fn missing_is_told_from_broken_as_far_as_the_status_goes() {
        let verdict = |command: &str, status| FetchCommand::new(command).verdict(Some(status), false);
        let (certain, maybe) = (Verdict::Missing { certain: true }, Verdict::Missing { certain: false });
        assert_eq!(verdict("aws s3 cp s3://b/%f %p", 1), maybe);
        assert_eq!(verdict("aws s3 cp s3://b/%f %p", 255), Verdict::Broken);
        assert_eq!(verdict("wal-g wal-fetch %f %p", 74), certain);
        assert_eq!(verdict("wal-g wal-fetch %f %p", 1), Verdict::Broken);
        assert_eq!(verdict("pgbackrest archive-get %f %p", 1), certain);
        assert_eq!(verdict("pgbackrest archive-get %f %p || true", 1), maybe);
        assert_eq!(verdict("pgbackrest archive-get %f %p", 32), Verdict::Broken);
        assert_eq!(verdict("K='a wal-g' pgbackrest archive-get %f %p", 74), Verdict::Broken);
        assert_eq!(verdict("K='a b' \"/opt/wal-g\" wal-fetch %f %p", 74), certain);
        assert_eq!(verdict("curl -f http://a/%f -o %p", 22), maybe);
        assert_eq!(verdict("curl -f http://a/%f -o %p", 7), Verdict::Broken);
        for status in [3, 124, 126, 127, 137, 255] {
            assert_eq!(verdict("cp /a/%f %p", status), Verdict::Broken, "{status}");
        }
        let told = FetchCommand { missing: vec![3], ..FetchCommand::new("fetch %f %p") };
        assert_eq!((told.verdict(Some(3), false), told.verdict(Some(1), false)), (certain, Verdict::Broken));
        assert_eq!((told.verdict(Some(0), true), told.verdict(Some(0), false)), (Verdict::There, maybe));
        assert_eq!(told.verdict(None, true), Verdict::Broken);
    }

    #[test]
    fn the_order_is_kept() {
        let directories = [PathBuf::from("/a"), PathBuf::from("/b")];
        let at = |after, name: &str| PlacedCommand { after, fetch: FetchCommand::new(name) };
        let commands = [at(1, "one"), at(0, "none"), at(2, "two"), at(9, "more")];
        let names: Vec<String> = in_order(&directories, &commands)
            .iter()
            .map(|archive| match archive {
                Archive::Directory(path) => path.display().to_string(),
                Archive::Command(fetch) => fetch.command.clone(),
            })
            .collect();
        assert_eq!(names, ["none", "/a", "one", "/b", "two", "more"]);
    }

    proptest! {
        #[test]
        fn what_a_variable_is_set_to_is_never_shown(
            value in r#"[a-c \\'"$`(){};&|<>=/#-]{0,20}"#,
            quote in prop::sample::select(vec!['\'', '"']),
        ) {
            prop_assume!(!value.contains(quote));
            // With marks all over it, so that no part of it goes unseen.
            let value: String = value.chars().map(|c| if c.is_ascii_lowercase() { 'S' } else { c }).collect();
            let shown = FetchCommand::new(format!("KEY={quote}{value}{quote} cp %f %p")).shown();
            prop_assert!(!shown.contains('S'), "{value}: {shown}");
        }

        #[test]
        fn no_text_makes_it_panic_and_a_checked_one_names_the_file(text in "[a-z %fpr'\"/|=]{0,40}") {
            let command = FetchCommand::new(text);
            let filled = command.filled(file(), "PATH", None);
            let _ = (command.shown(), command.verdict(Some(1), false));
            if command.check().is_ok() {
                prop_assert!(filled.contains("000000010000000000000007") && filled.contains("PATH"));
            }
        }
    }
}
