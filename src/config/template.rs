//! A new configuration file: what was found filled in, every other key with its default as a comment.

use std::fmt::Write as _;
use std::path::Path;

use super::keys::{KEYS, Key};

/// A source to be written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filled {
    /// Its name.
    pub name: String,
    /// What it is: a comment above it.
    pub comment: String,
    /// The directories with its backups, each with a comment.
    pub backups: Vec<(String, String)>,
    /// The directories with its WAL in order, each with a comment.
    pub wal: Vec<(String, String)>,
}

/// The text of a configuration file with these sources. A comment begins with `# `; a `#` with no space behind it takes
/// a key away.
#[must_use]
pub fn render(head: &str, sources: &[Filled]) -> String {
    let mut text = String::new();
    comment(&mut text, 0, head);
    text.push('\n');
    let (of_sources, others): (Vec<&Key>, Vec<&Key>) = KEYS.iter().partition(|key| key.name.starts_with(SOURCE));
    for (place, key) in others.iter().filter(|key| key.name != "sources").enumerate() {
        if place > 0 && !key.name.contains('.') {
            text.push('\n');
        }
        write_commented(&mut text, key);
    }
    text.push('\n');
    if let Some(sources) = KEYS.iter().find(|key| key.name == "sources") {
        comment(&mut text, 0, sources.doc);
    }
    text.push_str("sources:\n");
    for (place, source) in sources.iter().enumerate() {
        if place > 0 {
            text.push('\n');
        }
        write_source(&mut text, source, &of_sources, place == 0);
    }
    text
}

/// What the names of a source's keys begin with.
const SOURCE: &str = "sources.NAME.";
/// The widest line of a comment.
const WIDTH: usize = 100;

fn write_source(text: &mut String, source: &Filled, keys: &[&Key], with_all: bool) {
    comment(text, 2, &source.comment);
    let _ = writeln!(text, "  {}:", scalar(&source.name));
    for key in keys {
        let entries = match key.name.strip_prefix(SOURCE).unwrap_or_default() {
            "backups" => &source.backups,
            "wal" => &source.wal,
            "backups[].path" if !source.backups.is_empty() => continue,
            "wal[].path" if !source.wal.is_empty() => continue,
            _ if with_all => {
                write_commented(text, key);
                continue;
            }
            _ => continue,
        };
        if entries.is_empty() {
            if with_all {
                write_commented(text, key);
            }
            continue;
        }
        let _ = writeln!(text, "    {}:", key.parts().last().unwrap_or(&""));
        for (path, why) in entries {
            comment(text, 6, why);
            let _ = writeln!(text, "      - path: {}", scalar(path));
        }
    }
    if !with_all {
        comment(text, 4, "The other keys are the same as above.");
    }
}

/// A key that is taken away, and what it is.
fn write_commented(text: &mut String, key: &Key) {
    let parts: Vec<&str> = key.name.split('.').collect();
    let last = parts.last().copied().unwrap_or_default();
    let parent = parts.len().checked_sub(2).and_then(|at| parts.get(at)).copied().unwrap_or_default();
    let column = 2 * (parts.len() - 1) + if parent.ends_with(']') { 2 } else { 0 };
    let (item, column) = match parent {
        _ if parent.ends_with("[]") => ("- ", column - 2),
        _ => ("", column),
    };
    let default = match key.default {
        "" => String::new(),
        words if words == key.value => String::new(),
        words => format!(" Left out: {words}."),
    };
    comment(text, column, &format!("{}{default}", key.doc));
    let space = if key.value.is_empty() { "" } else { " " };
    let _ = writeln!(text, "{}#{item}{last}:{space}{}", " ".repeat(column), key.value);
}

/// Lines of a comment.
fn comment(text: &mut String, column: usize, words: &str) {
    for paragraph in words.lines() {
        let mut line = String::new();
        for word in paragraph.split(' ') {
            if !line.is_empty() && column + 2 + line.chars().count() + 1 + word.chars().count() > WIDTH {
                let _ = writeln!(text, "{}# {line}", " ".repeat(column));
                line.clear();
            }
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
        let _ = writeln!(text, "{}# {line}", " ".repeat(column));
    }
}

/// A text as YAML reads it back: plain where it can be nothing else, else in quotes.
#[must_use]
pub fn scalar(text: &str) -> String {
    let is_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "/_-.".contains(c))
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"].contains(&text.to_lowercase().as_str());
    if is_plain { text.to_owned() } else { quoted(text) }
}

/// In double quotes, with what does not show escaped.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() || !c.is_ascii() && !c.is_alphanumeric() => {
                let _ = write!(quoted, "\\U{:08X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A path as it can be written; `None` where it is not UTF-8, which YAML has no way to say.
#[must_use]
pub fn written(path: &Path) -> Option<String> {
    path.to_str().map(str::to_owned)
}

/// The same text with every key that was taken away: as whoever takes away each `#` would have it.
#[must_use]
pub fn uncommented(text: &str) -> String {
    let line = |line: &str| {
        let column = line.len() - line.trim_start().len();
        match line.get(column..).and_then(|rest| rest.strip_prefix('#')) {
            Some(key) if !key.is_empty() && !key.starts_with(' ') => {
                format!("{}{key}", line.get(..column).unwrap_or_default())
            }
            _ => line.to_owned(),
        }
    };
    text.lines().map(|text| line(text) + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Overrides};
    use super::*;
    use proptest::prelude::*;
    use std::ffi::OsString;

    fn load(text: &str) -> Config {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("walback.yaml");
        std::fs::write(&file, text).unwrap();
        let overrides = Overrides { file: Some(file), ..Overrides::default() };
        Config::load(&overrides, &|name| (name == "HOME").then(|| OsString::from("/home/op"))).unwrap()
    }

    fn two() -> Vec<Filled> {
        let place = |path: &str| (path.to_owned(), "why it was taken, in words".to_owned());
        let filled = |name: &str, backups: &[&str], wal: &[&str]| Filled {
            name: name.to_owned(),
            comment: "PostgreSQL 15".to_owned(),
            backups: backups.iter().map(|path| place(path)).collect(),
            wal: wal.iter().map(|path| place(path)).collect(),
        };
        vec![filled("shop", &["/b/one", "/b/t wo: #x"], &["/w"]), filled("on", &[], &["/w\u{1b}2", "/ä"])]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let config = load(&render("A head.", &two()));
        assert_eq!(config.sources["shop"].backups, ["/b/one", "/b/t wo: #x"].map(std::path::PathBuf::from));
        assert_eq!(config.sources["on"].wal, ["/w\u{1b}2", "/ä"].map(std::path::PathBuf::from));
        assert!(config.sources["on"].backups.is_empty() && config.sources["shop"].restore == Default::default());
        assert_eq!(config.suspect_rows, None);
    }

    #[test]
    fn every_key_is_there_and_real_where_its_mark_is_taken_away() {
        for sources in [two(), two()[1..].to_vec()] {
            let text = render("A head.\nOf two lines.", &sources);
            let all = uncommented(&text);
            let config = load(&all);
            let first = &config.sources[&sources[0].name];
            assert_eq!((config.suspect_rows, first.restore.port), (Some(1000), Some(5499)), "{all}");
            assert_eq!(first.checks.len(), 1, "{all}");
            assert!(first.primary.is_some() && first.restore.directory.is_some());
            for key in KEYS {
                let last = key.parts().pop().unwrap().to_owned();
                assert!(all.contains(&format!("{last}:")), "{} is not in {text}", key.name);
            }
            assert!(text.lines().all(|line| line.chars().count() <= 140), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in "\\PC{0,12}|[\\x00-\\x7f]{0,8}|[0-9eE.+:#'\"-]{0,6}") {
            let yaml = format!("a: {}\n", scalar(&text));
            let back: std::collections::BTreeMap<String, String> = serde_yaml::from_str(&yaml).unwrap();
            prop_assert_eq!(&back["a"], &text, "{}", yaml);
        }
    }
}
