//! The configuration of a copied cluster: what its files set, and which of their includes cannot be followed.

use serde::{Deserialize, Serialize};

use super::auto_conf::AutoConf;

/// The file that the server reads first.
pub const MAIN: &str = "postgresql.conf";
/// The file that it reads last.
pub const AUTO: &str = "postgresql.auto.conf";
/// So deep may includes lie in one another (`CONF_FILE_MAX_DEPTH`, `src/include/utils/conffiles.h`).
const DEEPEST: usize = 10;
/// More files are not read: they include one another without an end.
const MOST_FILES: usize = 1000;

/// The files of a data directory, by their names in it.
pub trait ConfigurationFiles {
    /// A file's text; `None` where it is not there.
    fn text(&self, name: &str) -> Option<String>;
    /// The names of the files right in a directory; `None` where that is not there.
    fn names_in(&self, directory: &str) -> Option<Vec<String>>;
}

/// What the files set.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Configuration {
    /// Names and values in the order in which the server reads them: the last one of a name holds.
    pub settings: Vec<(String, String)>,
    /// Lines that a copy of the data directory has no use for.
    pub not_followed: Vec<NotFollowed>,
    files_read: usize,
}

/// What is put before a line that is to be a comment from now on.
pub const SET_ASIDE: &str = "# set aside by Walback: ";

/// An include that leads nowhere, or out of the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NotFollowed {
    /// The file in which it stands, by its name in the data directory.
    pub file: String,
    /// The number of its line, from 1.
    pub line: usize,
    /// What it includes, as it is written.
    pub path: String,
    /// It leads out of the data directory; else there is nothing.
    pub leads_out: bool,
}

impl Configuration {
    /// Reads the files as the server does (`ParseConfigFile`, `src/backend/utils/misc/guc-file.l`).
    #[must_use]
    pub fn read(files: &dyn ConfigurationFiles) -> Configuration {
        let mut configuration = Configuration::read_main(files);
        if let Some(text) = files.text(AUTO) {
            configuration.settings.extend(owned(&AutoConf::parse(&text)));
        }
        configuration
    }

    /// The same but for [`AUTO`], which comes last and wins.
    #[must_use]
    pub fn read_main(files: &dyn ConfigurationFiles) -> Configuration {
        let mut configuration = Configuration::default();
        configuration.file(files, MAIN, 0);
        configuration
    }

    /// What holds for a name.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let set = self.settings.iter().rev().find(|(set, _)| set.eq_ignore_ascii_case(name));
        set.map(|(_, value)| value.as_str())
    }

    fn file(&mut self, files: &dyn ConfigurationFiles, name: &str, depth: usize) {
        let Some(text) = files.text(name).filter(|_| depth <= DEEPEST && self.files_read < MOST_FILES) else { return };
        self.files_read += 1;
        for (line, text) in (1..).zip(text.split('\n')) {
            for (set, value) in owned(&AutoConf::parse(text)) {
                match Include::of(&set) {
                    None => self.settings.push((set, value)),
                    Some(include) => self.include(files, name, line, include, &value, depth),
                }
            }
        }
    }

    fn include(
        &mut self,
        files: &dyn ConfigurationFiles,
        file: &str,
        line: usize,
        include: Include,
        path: &str,
        depth: usize,
    ) {
        let mut set_aside = |leads_out| {
            let (file, path) = (file.to_owned(), path.to_owned());
            self.not_followed.push(NotFollowed { file, line, path, leads_out });
        };
        let Some(inside) = beside(file, path) else { return set_aside(true) };
        match include {
            Include::File if files.text(&inside).is_none() => set_aside(false),
            Include::File | Include::IfExists => self.file(files, &inside, depth + 1),
            Include::Directory => match files.names_in(&inside) {
                None => set_aside(false),
                Some(mut names) => {
                    names.retain(|name| name.ends_with(".conf") && !name.starts_with('.'));
                    names.sort();
                    let separator = if inside.is_empty() { "" } else { "/" };
                    for name in names {
                        self.file(files, &format!("{inside}{separator}{name}"), depth + 1);
                    }
                }
            },
        }
    }
}

/// The text with these lines, counted from 1, turned into comments.
#[must_use]
pub fn without_lines(text: &str, lines: &[usize]) -> String {
    let line = |(number, line): (usize, &str)| {
        if lines.contains(&number) { format!("{SET_ASIDE}{line}") } else { line.to_owned() }
    };
    (1..).zip(text.split('\n')).map(line).collect::<Vec<_>>().join("\n")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Include {
    File,
    IfExists,
    Directory,
}

impl Include {
    fn of(name: &str) -> Option<Include> {
        match name.to_ascii_lowercase().as_str() {
            "include" => Some(Self::File),
            "include_if_exists" => Some(Self::IfExists),
            "include_dir" => Some(Self::Directory),
            _ => None,
        }
    }
}

fn owned(conf: &AutoConf) -> Vec<(String, String)> {
    conf.settings().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// A path that stands in `file`, as a name in the data directory; `None` where it leads out of that.
fn beside(file: &str, path: &str) -> Option<String> {
    if path.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = file.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    struct Made(BTreeMap<&'static str, &'static str>);

    impl ConfigurationFiles for Made {
        fn text(&self, name: &str) -> Option<String> {
            self.0.get(name).map(ToString::to_string)
        }

        fn names_in(&self, directory: &str) -> Option<Vec<String>> {
            let inside = |name: &&'static str| name.strip_prefix(directory)?.strip_prefix('/').map(str::to_owned);
            let names: Vec<String> = self.0.keys().filter_map(inside).collect();
            (!names.is_empty()).then_some(names)
        }
    }

    fn read(files: &[(&'static str, &'static str)]) -> Configuration {
        Configuration::read(&Made(files.iter().copied().collect()))
    }

    #[test]
    fn files_are_read_in_the_order_of_the_server() {
        let configuration = read(&[
            (MAIN, "a = 1\ninclude 'more/x.conf'\nb = 1\ninclude_dir 'conf.d'\ninclude_if_exists 'none'\n"),
            ("more/x.conf", "a = 2\nb = 2\ninclude '../y'\n"),
            ("y", "c = 'it''s'"),
            ("conf.d/2.conf", "d = 2"),
            ("conf.d/1.conf", "d = 1"),
            ("conf.d/.0.conf", "d = 0"),
            ("conf.d/README", "d = 9"),
            (AUTO, "E = 5\n"),
        ]);
        assert_eq!(configuration.not_followed, []);
        let expected = [("a", "2"), ("B", "1"), ("c", "it's"), ("d", "2"), ("e", "5")];
        assert!(expected.iter().all(|(name, value)| configuration.get(name) == Some(value)), "{configuration:?}");
        assert_eq!(configuration.get("x"), None);
    }

    #[test]
    fn what_leads_nowhere_or_out_is_told_with_its_line() {
        let main = "\ninclude '/etc/x.conf'\ninclude_dir '../y'\ninclude 'z'\ninclude 'in'\ninclude_if_exists '/q'";
        let configuration = read(&[(MAIN, main), ("in", "a = 1\nINCLUDE_DIR = 'nothing' # here\n")]);
        let told: Vec<_> = configuration
            .not_followed
            .iter()
            .map(|it| (it.file.as_str(), it.line, it.path.as_str(), it.leads_out))
            .collect();
        let expected = [
            (MAIN, 2, "/etc/x.conf", true),
            (MAIN, 3, "../y", true),
            (MAIN, 4, "z", false),
            ("in", 2, "nothing", false),
            (MAIN, 6, "/q", true),
        ];
        assert_eq!(told, expected);
        assert_eq!(without_lines("a\nb\nc\n", &[2]), "a\n# set aside by Walback: b\nc\n");
    }

    #[test]
    fn a_file_that_includes_itself_comes_to_an_end() {
        let twice = "a = 1\ninclude 'postgresql.conf'\ninclude 'postgresql.conf'";
        assert_eq!(read(&[(MAIN, twice)]).get("a"), Some("1"));
    }

    proptest! {
        #[test]
        fn no_texts_make_it_panic_or_hang(main in text(), included in text()) {
            let files = BTreeMap::from([(MAIN.to_owned(), main.clone()), ("a".to_owned(), included)]);
            let configuration = Configuration::read(&Owned(files));
            let own = configuration.not_followed.iter().filter(|include| include.file == MAIN);
            let lines: Vec<usize> = own.map(|include| include.line).collect();
            let left = without_lines(&main, &lines);
            prop_assert_eq!(left.split('\n').count(), main.split('\n').count());
            let files = BTreeMap::from([(MAIN.to_owned(), left)]);
            let again = Configuration::read(&Owned(files)).not_followed;
            prop_assert!(again.iter().all(|include| !include.leads_out), "{again:?}");
        }
    }

    struct Owned(BTreeMap<String, String>);

    impl ConfigurationFiles for Owned {
        fn text(&self, name: &str) -> Option<String> {
            self.0.get(name).cloned()
        }

        fn names_in(&self, _: &str) -> Option<Vec<String>> {
            None
        }
    }

    fn text() -> impl Strategy<Value = String> {
        let line = prop_oneof![
            "(include|include_dir|INCLUDE_IF_EXISTS|x) ?=? ?'(a|/a|[.]{2}/a|b|postgresql.conf)'",
            any::<String>()
        ];
        prop::collection::vec(line, 0..6).prop_map(|lines| lines.join("\n"))
    }
}
