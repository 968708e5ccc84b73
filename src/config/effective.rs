//! What is in effect, value by value, and where each comes from.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserializer, Serialize, Serializer};
use serde_yaml::Value;

use super::keys::{KEYS, known};
use super::{Config, FROM_COMMAND_LINE, Overrides};
use crate::core::FetchCommand;
use crate::error::Result;

/// A value that is in effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its key as the file has it, with places in lists from 0 on: `sources.shop.wal[0].path`. What no file can say has a
    /// name of its own, like `state directory`.
    pub key: String,
    /// What holds; passwords are masked.
    pub value: String,
    /// Where it comes from.
    pub from: Origin,
}

/// Where a value comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// It was left out everywhere.
    Default,
    /// A line of the configuration file, counted from 1; unknown where the file does not tell.
    File(String, Option<usize>),
    /// A variable of the environment.
    Environment(&'static str),
    /// An option of the command line.
    CommandLine(&'static str),
    /// It was found below directories that the command line names.
    Found,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File(file, Some(line)) => write!(f, "{file}:{line}"),
            Self::File(file, None) => f.write_str(file),
            Self::Environment(name) => write!(f, "${name}"),
            Self::CommandLine(option) => f.write_str(option),
            Self::Found => f.write_str("found below --in"),
        }
    }
}

impl Serialize for Origin {
    /// `{"kind": "file", "name": "/etc/walback/walback.yaml", "line": 3}`
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        use serde::ser::SerializeMap;
        let (kind, name, line) = match self {
            Self::Default => ("default", None, None),
            Self::File(file, line) => ("file", Some(file.as_str()), *line),
            Self::Environment(name) => ("environment", Some(*name), None),
            Self::CommandLine(option) => ("command-line", Some(*option), None),
            Self::Found => ("found", Some("--in"), None),
        };
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("kind", kind)?;
        map.serialize_entry("name", &name)?;
        map.serialize_entry("line", &line)?;
        map.end()
    }
}

impl Config {
    /// Every value that is in effect: those of the file and of the command line, and the defaults of what neither says.
    /// `overrides` and `environment` are those that it was loaded with.
    ///
    /// # Errors
    /// When the file cannot be read any more.
    pub fn settings(
        &self,
        overrides: &Overrides,
        environment: &dyn Fn(&str) -> Option<OsString>,
    ) -> Result<Vec<Setting>> {
        let mut settings = self.places(overrides, environment);
        let of_file = self.said_by_file()?;
        let is_overruled = |setting: &Setting| match setting.key.strip_prefix("sources.") {
            Some(rest) => !self.found_below.is_empty() || self.is_replaced(rest, overrides),
            None => setting.key == "time_zone" && overrides.time_zone.is_some(),
        };
        let mut values: Vec<Setting> = of_file.into_iter().filter(|setting| !is_overruled(setting)).collect();
        values.extend(self.said_by_command_line(overrides));
        for (place, key) in KEYS.iter().enumerate() {
            let names = match key.name.strip_prefix("sources.NAME.") {
                Some(_) => self.sources.keys().map(|name| key.name.replacen("NAME", name, 1)).collect(),
                None => vec![key.name.to_owned()],
            };
            // What only has other keys below it, and what a list may have many of, has no default of its own.
            let is_leaf = !KEYS.get(place + 1).is_some_and(|next| next.name.starts_with(&format!("{}.", key.name)));
            let has_default = is_leaf && !key.default.is_empty() && !key.name.contains('[');
            for name in names.into_iter().filter(|_| has_default) {
                let is_said = values.iter().any(|setting| is_at_or_below(&setting.key, &name));
                if !is_said {
                    values.push(Setting {
                        value: self.default_of(&name, key.default, environment),
                        from: self.origin_of_default(&name, environment),
                        key: name,
                    });
                }
            }
        }
        values.sort_by_key(|setting| self.rank(&setting.key));
        settings.extend(values);
        Ok(settings)
    }

    /// What no file can say.
    fn places(&self, overrides: &Overrides, environment: &dyn Fn(&str) -> Option<OsString>) -> Vec<Setting> {
        let is_set = |name: &&&str| environment(name).is_some_and(|value| !value.is_empty());
        let first_set = |names: &[&'static str]| {
            names.iter().find(is_set).map_or(Origin::Default, |name| Origin::Environment(name))
        };
        let option = |is: bool, option: &'static str| if is { Origin::CommandLine(option) } else { Origin::Default };
        let words = |is: bool| if is { "yes" } else { "no" }.to_owned();
        let shown = |path: Option<&Path>| path.map_or_else(|| "none".to_owned(), |path| path.display().to_string());
        let file_from = match (&overrides.file, environment("WALBACK_CONFIG")) {
            (Some(_), _) => Origin::CommandLine("--config"),
            (None, Some(_)) => Origin::Environment("WALBACK_CONFIG"),
            (None, None) => Origin::Default,
        };
        let colour = match self.colour {
            super::Colour::Auto => "auto",
            super::Colour::Always => "always",
            super::Colour::Never => "never",
        };
        let row = |key: &str, value: String, from: Origin| Setting { key: key.to_owned(), value, from };
        let mut rows = vec![
            row("configuration file", shown(self.file.as_deref()), file_from),
            row(
                "state directory",
                shown(Some(&self.state_directory)),
                first_set(&["WALBACK_STATE_DIR", "XDG_STATE_HOME", "HOME"]),
            ),
            row(
                "cache directory",
                shown(self.cache_directory.as_deref()),
                first_set(&["WALBACK_CACHE_DIR", "XDG_CACHE_HOME", "HOME"]),
            ),
            row("read only", words(self.read_only), option(self.read_only, "--read-only")),
            row("plain", words(self.plain), option(self.plain, "--plain")),
            row("colour", colour.to_owned(), option(self.colour != super::Colour::Auto, "--color")),
        ];
        match (&overrides.source, self.source()) {
            (Some(name), _) => rows.push(row("source", name.clone(), Origin::CommandLine("--source"))),
            (None, Ok(only)) if !self.sources.is_empty() => {
                rows.push(row("source", format!("{}, the only one", only.name), Origin::Default));
            }
            _ => {}
        }
        rows
    }

    /// Every value of the file, with its line.
    fn said_by_file(&self) -> Result<Vec<Setting>> {
        let Some(file) = &self.file else { return Ok(Vec::new()) };
        let text = super::read_text(file)?;
        let root: Value = serde_yaml::from_str(&text).unwrap_or_default();
        let mut leaves = Vec::new();
        collect(&root, &mut Vec::new(), &mut leaves);
        let base = super::absolute(file)?.parent().map(Path::to_path_buf).unwrap_or_default();
        let setting = |(steps, value): (Vec<Step>, String)| {
            let line = line_of(&text, &steps);
            let parts: Vec<&str> = steps.iter().filter_map(Step::name).collect();
            // A tablespace's place is a key below its own.
            let key = known(&parts).or_else(|| known(parts.get(..parts.len().saturating_sub(1)).unwrap_or_default()));
            let value = match key {
                Some(key) if key.is_path => base.join(&value).display().to_string(),
                _ => masked(&parts, value),
            };
            Setting { key: written(&steps), value, from: Origin::File(file.display().to_string(), line) }
        };
        Ok(leaves.into_iter().map(setting).collect())
    }

    /// Whether the command line says another list: `rest` is the key behind `sources.`.
    fn is_replaced(&self, rest: &str, overrides: &Overrides) -> bool {
        let of = |list: &str| {
            overrides.source.as_ref().is_some_and(|name| rest.starts_with(&format!("{}.{list}[", part(name))))
        };
        let says_wal = !overrides.wal.is_empty() || !overrides.wal_commands.is_empty();
        (!overrides.backups.is_empty() && of("backups")) || (says_wal && of("wal"))
    }

    /// What the command line says.
    fn said_by_command_line(&self, overrides: &Overrides) -> Vec<Setting> {
        let mut said = Vec::new();
        if overrides.time_zone.is_some() {
            let from = Origin::CommandLine("--time-zone");
            said.push(Setting { key: "time_zone".to_owned(), value: self.zone.to_string(), from });
        }
        let is_found = !self.found_below.is_empty();
        let named = overrides.source.as_deref().unwrap_or(FROM_COMMAND_LINE);
        for source in self.sources.values().filter(|source| is_found || source.name == named) {
            let lists = [
                ("backups", &source.backups, !overrides.backups.is_empty(), "--backups"),
                ("wal", &source.wal, !overrides.wal.is_empty(), "--wal"),
            ];
            for (list, paths, is_said, option) in lists {
                let from = if is_found { Origin::Found } else { Origin::CommandLine(option) };
                let paths = paths.iter().enumerate().filter(|_| is_found || is_said);
                said.extend(paths.map(|(place, path)| Setting {
                    key: format!("sources.{}.{list}[{place}].path", part(&source.name)),
                    value: path.display().to_string(),
                    from: from.clone(),
                }));
            }
            let commands = source.commands.iter().enumerate().filter(|_| !overrides.wal_commands.is_empty());
            said.extend(commands.map(|(number, command)| Setting {
                key: format!("sources.{}.wal[{}].command", part(&source.name), source.wal.len() + number),
                value: command.fetch.shown(),
                from: Origin::CommandLine("--wal-command"),
            }));
        }
        said
    }

    fn default_of(&self, name: &str, default: &str, environment: &dyn Fn(&str) -> Option<OsString>) -> String {
        match (name, self.origin_of_default(name, environment)) {
            ("time_zone", Origin::Default) => format!("{}, {default}", self.zone),
            ("time_zone", _) => self.zone.to_string(),
            _ => default.to_owned(),
        }
    }

    fn origin_of_default(&self, name: &str, environment: &dyn Fn(&str) -> Option<OsString>) -> Origin {
        let named = || environment("TZ").filter(|zone| !zone.is_empty());
        let is_zone = |zone: OsString| {
            zone.to_string_lossy()
                .trim_start_matches(':')
                .parse::<crate::core::Zone>()
                .is_ok_and(|zone| zone == self.zone)
        };
        if name == "time_zone" && named().is_some_and(is_zone) { Origin::Environment("TZ") } else { Origin::Default }
    }

    /// Where a key comes in the list: in the order of the table, source by source.
    fn rank(&self, key: &str) -> (usize, usize) {
        let place = |name: &str| {
            let own = |key: &&super::keys::Key| {
                let documented = key.documented();
                let end = documented.strip_prefix("sources.NAME.").unwrap_or(&documented).to_owned();
                name == end || name.starts_with(&format!("{end}.")) || name.starts_with(&format!("{end}["))
            };
            KEYS.iter().rposition(|key| own(&key)).unwrap_or(KEYS.len())
        };
        match key.strip_prefix("sources.") {
            None => (0, place(key)),
            Some(rest) => {
                let of = |(number, name): (usize, &String)| {
                    rest.strip_prefix(&format!("{}.", part(name))).map(|rest| (number + 1, rest.to_owned()))
                };
                let found = self.sources.keys().enumerate().find_map(of);
                found.map_or((usize::MAX, 0), |(number, rest)| (number, place(&rest)))
            }
        }
    }
}

/// One step into a file: a key, or a place in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Place(usize),
}

impl Step {
    fn name(&self) -> Option<&str> {
        match self {
            Self::Key(name) => Some(name),
            Self::Place(_) => None,
        }
    }
}

/// `sources.shop.wal[0].path`
fn written(steps: &[Step]) -> String {
    let mut key = String::new();
    for step in steps {
        match step {
            Step::Key(name) if key.is_empty() => key = part(name),
            Step::Key(name) => key = format!("{key}.{}", part(name)),
            Step::Place(place) => key = format!("{key}[{place}]"),
        }
    }
    key
}

/// A part of a key; in quotes where it would look like several.
fn part(name: &str) -> String {
    let is_plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || "-_/ ".contains(c));
    if is_plain { name.to_owned() } else { format!("{name:?}") }
}

fn is_at_or_below(key: &str, name: &str) -> bool {
    key.strip_prefix(name).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

/// The values of a document, with the way to each. Lists of plain values are one value.
fn collect(value: &Value, way: &mut Vec<Step>, leaves: &mut Vec<(Vec<Step>, String)>) {
    match value {
        Value::Mapping(map) => {
            for (key, value) in map {
                way.push(Step::Key(in_words(key)));
                collect(value, way, leaves);
                way.pop();
            }
        }
        Value::Sequence(list) if list.iter().any(|item| matches!(item, Value::Mapping(_) | Value::Sequence(_))) => {
            for (place, value) in list.iter().enumerate() {
                way.push(Step::Place(place));
                collect(value, way, leaves);
                way.pop();
            }
        }
        Value::Tagged(tagged) => collect(&tagged.value, way, leaves),
        leaf => leaves.push((way.clone(), in_words(leaf))),
    }
}

fn in_words(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Sequence(list) => format!("[{}]", list.iter().map(in_words).collect::<Vec<_>>().join(", ")),
        _ => "null".to_owned(),
    }
}

/// The line at which the value at the end of this way begins: it is gone there, and refused, so that the reader says
/// where it is.
fn line_of(text: &str, way: &[Step]) -> Option<usize> {
    let error = Locate(way).deserialize(serde_yaml::Deserializer::from_str(text)).err()?;
    error.location().map(|location| location.line())
}

struct Locate<'a>(&'a [Step]);

impl<'de> DeserializeSeed<'de> for Locate<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> std::result::Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Locate<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("what is looked for")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.0.split_first() else {
            return Err(serde::de::Error::custom("here"));
        };
        while let Some(key) = map.next_key::<Value>()? {
            if in_words(&key) == *wanted {
                map.next_value_seed(Locate(rest))?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<(), A::Error> {
        let Some((Step::Place(wanted), rest)) = self.0.split_first() else {
            return Err(serde::de::Error::custom("here"));
        };
        for _ in 0..*wanted {
            list.next_element::<IgnoredAny>()?;
        }
        list.next_element_seed(Locate(rest))?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// A value as it may be shown: a connection string without its password.
fn masked(parts: &[&str], value: String) -> String {
    match parts {
        ["sources", _, "primary"] => without_password(&value),
        // What is a password in it, only its program knows.
        ["sources", _, "wal", "command"] => FetchCommand::new(value).shown(),
        _ => value,
    }
}

/// What stands for a password.
const MASK: &str = "********";

/// A connection string of libpq's, of names and values or a URI, with what is secret in it masked.
#[must_use]
pub fn without_password(connection: &str) -> String {
    let is_scheme = |scheme: &str| !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if let Some((scheme, rest)) = connection.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) {
        let end = rest.find(['/', '?']).unwrap_or(rest.len());
        // The last “@”: a password may have one that should have been written %40.
        let (authority, tail) = match rest.rfind('@') {
            Some(at) if at > end => rest.split_at(at),
            _ => rest.split_at(end),
        };
        let authority = match authority.rsplit_once('@') {
            Some((user, host)) => format!("{}@{host}", without_its_password(user)),
            None if tail.starts_with('@') => without_its_password(authority),
            None => authority.to_owned(),
        };
        let (path, query) = tail.split_once('?').map_or((tail, None), |(path, query)| (path, Some(query)));
        let query = query.map(|query| {
            let mask = |pair: &str| match pair.split_once('=') {
                Some((name, _)) if is_secret(name) => format!("{name}={MASK}"),
                _ => pair.to_owned(),
            };
            format!("?{}", query.split('&').map(mask).collect::<Vec<_>>().join("&"))
        });
        return format!("{scheme}://{authority}{path}{}", query.unwrap_or_default());
    }
    let mut shown = String::new();
    let mut rest = connection;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, behind) = split_value(after);
        let is = is_secret(name.split_whitespace().next_back().unwrap_or_default());
        let space = after.len() - after.trim_start().len();
        let value = after.get(..space + value).unwrap_or_default();
        shown.push_str(name);
        shown.push('=');
        // What is written wrong may have it anywhere.
        shown.push_str(if is || value.to_lowercase().contains("password") { MASK } else { value });
        // One with a blank that nobody quoted goes on up to the next name.
        rest = if is { from_next_name(behind) } else { behind };
    }
    shown + rest
}

/// From the next name of libpq's on; nothing where none follows.
fn from_next_name(text: &str) -> &str {
    let begins = |(at, _): &(usize, char)| {
        let name = text.get(*at + 1..).unwrap_or_default().split_once('=').map_or("", |(name, _)| name.trim());
        NAMES.contains(&name)
    };
    let next = text.char_indices().filter(|(_, c)| c.is_whitespace()).find(begins);
    next.and_then(|(at, _)| text.get(at..)).unwrap_or_default()
}

/// The names in a connection string that are common.
const NAMES: [&str; 16] = [
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "passfile",
    "service",
    "options",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "sslkey",
    "sslpassword",
    "connect_timeout",
    "application_name",
];

fn is_secret(name: &str) -> bool {
    matches!(name.to_lowercase().as_str(), "password" | "sslpassword")
}

fn without_its_password(user: &str) -> String {
    match user.split_once(':') {
        Some((name, _)) => format!("{name}:{MASK}"),
        None => user.to_owned(),
    }
}

/// How long the value is that begins behind an equals sign and spaces, and what is behind it (`conninfo_parse`,
/// `fe-connect.c`): quoted, or up to a space; a backslash takes away what the next character means.
fn split_value(after: &str) -> (usize, &str) {
    let text = after.trim_start();
    let is_quoted = text.starts_with('\'');
    let mut escaped = false;
    let end = text.char_indices().skip(usize::from(is_quoted)).find(|(_, c)| {
        if std::mem::take(&mut escaped) {
            return false;
        }
        escaped = *c == '\\';
        if is_quoted { *c == '\'' } else { c.is_whitespace() }
    });
    let end = end.map_or(text.len(), |(place, _)| if is_quoted { place + 1 } else { place });
    (end, text.get(end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_is_found_at_its_line() {
        let text = "time_zone: UTC\nsources:\n  shop:\n    wal:\n      - path: /a\n      - {path: /b}\n    restore: {port: 1,\n      settings: {jit: off}}\n";
        let key = |name: &str| Step::Key(name.to_owned());
        let shop = |more: Vec<Step>| [vec![key("sources"), key("shop")], more].concat();
        assert_eq!(line_of(text, &[key("time_zone")]), Some(1));
        assert_eq!(line_of(text, &shop(vec![key("wal"), Step::Place(1), key("path")])), Some(6));
        assert_eq!(line_of(text, &shop(vec![key("restore"), key("settings"), key("jit")])), Some(8));
        assert_eq!(line_of(text, &shop(vec![key("nothing")])), None);
    }

    #[test]
    fn passwords_are_not_shown() {
        for (connection, shown) in [
            ("host=db user=op", "host=db user=op"),
            ("host=db password=secret user=op", "host=db password=******** user=op"),
            ("password = 'sec ret\\' x' host = db", "password =******** host = db"),
            (
                "postgresql://op:secret@db:5432/shop?sslmode=require",
                "postgresql://op:********@db:5432/shop?sslmode=require",
            ),
            ("postgresql://op:sec/ret@db/shop", "postgresql://op:********@db/shop"),
            ("postgres://db/shop?user=op&password=secret", "postgres://db/shop?user=op&password=********"),
            ("postgres://op@db", "postgres://op@db"),
            ("host=h password=GEH EIM8=x user=a", "host=h password=******** user=a"),
            ("password=geheim ://", "password=********"),
        ] {
            assert_eq!(without_password(connection), shown);
        }
    }

    proptest! {
        /// Without a quote before it, which may make it a part of another value.
        #[test]
        fn no_password_is_ever_shown(before in "[a-z= ]{0,12}", after in "\\PC{0,12}") {
            let connection = format!("{before} password=geheim {after}");
            prop_assert!(!without_password(&connection).contains("geheim"), "{}", without_password(&connection));
        }
    }
}
