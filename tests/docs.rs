//! Keeps the documents complete: every key, command, option, configuration key and code that the program has is in
//! them, and they name none that it does not have.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use walback::app::command::{Danger, SEARCH, on};
use walback::app::state::Screen;
use walback::cli::args::Cli;
use walback::config::{Config, Overrides};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &str) -> String {
    fs::read_to_string(root().join(file)).unwrap()
}

/// What stands between backticks.
fn quoted(text: &str) -> BTreeSet<&str> {
    let mut fenced = false;
    let lines = text.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        fenced ^= fence;
        !fenced && !fence
    });
    lines.flat_map(|line| line.split('`').skip(1).step_by(2)).collect()
}

#[test]
fn keys_are_those_of_the_table_of_commands() {
    let document = read("docs/keys.md");
    let screens = [
        ("Recovery points", Screen::Points),
        ("Plan", Screen::Plan),
        ("Recovery", Screen::Recovery),
        ("Paused", Screen::Paused),
        ("Archive", Screen::Archive),
        ("Log", Screen::Log),
        ("Drills", Screen::Drills),
    ];
    let tables = screens.map(|(title, screen)| (title, on(screen).collect::<Vec<_>>()));
    let search = ("While something was looked for", SEARCH.iter().collect());
    for (title, commands) in tables.into_iter().chain([search]) {
        let rows = commands.into_iter().map(|command| {
            let keys: Vec<String> = command.keys.iter().map(|key| format!("`{key}`")).collect();
            let danger = match command.danger {
                Danger::None => "",
                Danger::Changes => "changes",
                Danger::Typed => "typed",
            };
            format!("| {} | {} | {} | {danger} |\n", keys.join(" "), command.name, command.doc)
        });
        let head = ["| keys | command | does | danger |\n".to_owned(), "| --- | --- | --- | --- |\n".to_owned()];
        let table: String = head.into_iter().chain(rows).collect();
        let section = document.split("\n## ").find(|section| section.starts_with(&format!("{title}\n"))).unwrap();
        let described: String =
            section.lines().filter(|line| line.starts_with('|')).map(|line| format!("{line}\n")).collect();
        assert!(described == table, "“{title}” in docs/keys.md should have exactly this table:\n{table}");
    }
}

#[test]
fn every_command_and_option_is_described_and_no_other() {
    let document = read("docs/cli.md");
    let mut program = Cli::command();
    program.build();
    let mut options = BTreeSet::new();
    for command in std::iter::once(&program).chain(program.get_subcommands()) {
        options.extend(command.get_arguments().filter_map(|argument| argument.get_long()).map(str::to_owned));
    }
    let commands: BTreeSet<&str> = program.get_subcommands().map(|command| command.get_name()).collect();
    let described: BTreeSet<&str> =
        document.lines().filter_map(|line| line.strip_prefix("### `")?.split(['`', ' ']).next()).collect();
    assert_eq!(described, commands, "headings of commands in docs/cli.md");

    let words = quoted(&document);
    let named: BTreeSet<String> = words
        .iter()
        .flat_map(|text| text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '-')))
        .filter_map(|word| word.strip_prefix("--"))
        // The families of aliases.
        .filter(|word| !word.is_empty() && !word.ends_with('-'))
        .map(str::to_owned)
        .collect();
    assert_eq!(named, options, "long options in docs/cli.md");
}

/// What serde says that it knows where it meets a key that nobody knows.
fn keys_beside(yaml: &str) -> Vec<String> {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("walback.yaml");
    fs::write(&file, yaml).unwrap();
    let error = load(file).unwrap_err();
    let expected = error.report().causes.join(" ").split_once("expected ").unwrap().1.to_owned();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn load(file: PathBuf) -> walback::error::Result<Config> {
    let overrides = Overrides { file: Some(file), ..Overrides::default() };
    Config::load(&overrides, &|name| (name == "HOME").then(|| OsString::from("/home/op")))
}

#[test]
fn every_configuration_key_is_described_and_no_other() {
    let known = [
        ("", "nobody: 1"),
        ("suspects.", "suspects: {nobody: 1}"),
        ("interface.", "interface: {nobody: 1}"),
        ("cache.", "cache: {nobody: 1}"),
        ("thresholds.", "thresholds: {nobody: 1}"),
        ("sources.NAME.", "sources: {a: {nobody: 1}}"),
        ("sources.NAME.backups.", "sources: {a: {backups: [{nobody: 1}]}}"),
        ("sources.NAME.wal.", "sources: {a: {wal: [{nobody: 1}]}}"),
        ("sources.NAME.checks.", "sources: {a: {checks: [{nobody: 1}]}}"),
        ("sources.NAME.restore.", "sources: {a: {restore: {nobody: 1}}}"),
        ("sources.NAME.drill.", "sources: {a: {drill: {nobody: 1}}}"),
    ];
    let keys: BTreeSet<String> = known
        .iter()
        .flat_map(|(prefix, yaml)| keys_beside(yaml).into_iter().map(move |key| format!("{prefix}{key}")))
        .collect();
    let document = read("docs/configuration.md");
    let section = document.split("\n## ").find(|section| section.starts_with("Every key\n")).unwrap();
    let described: BTreeSet<String> =
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).map(str::to_owned).collect();
    assert_eq!(described, keys, "docs/configuration.md, “Every key”");
    let written: BTreeSet<String> = walback::config::keys::KEYS.iter().map(|key| key.documented()).collect();
    assert_eq!(written, keys, "src/config/keys.rs");

    let sample = read("assets/walback.yaml");
    for key in &keys {
        let last = key.rsplit('.').next().unwrap();
        assert!(sample.contains(&format!("{last}:")), "assets/walback.yaml has no {key}");
    }
}

#[test]
fn the_sample_configuration_is_one() {
    let config = load(root().join("assets/walback.yaml")).unwrap();
    let shop = config.source().unwrap();
    assert_eq!((shop.name.as_str(), shop.backups.len(), shop.wal.len()), ("shop", 1, 2));
    assert_eq!((shop.restore.port, shop.restore.settings["jit"].as_str()), (Some(5499), "off"));
}

const ERRORS: [&str; 3] = ["Error::failed(", "Error::usage(", "Error::new("];
const FINDINGS: [&str; 3] = ["Finding::error(", "Finding::warning(", "Finding::note("];

/// The codes of errors or findings that a source text makes: the first string in a call of their constructors.
fn codes(source: &str, makers: &[&str]) -> BTreeSet<String> {
    let program = source.split("#[cfg(test)]").next().unwrap_or_default();
    let mut codes = BTreeSet::new();
    for maker in makers {
        for after in program.split(maker).skip(1) {
            let after = after.trim_start();
            let code = match after.strip_prefix("ErrorKind::") {
                Some(kind) => kind.split_once(',').map_or("", |(_, rest)| rest).trim_start(),
                None => after,
            };
            if let Some(text) = code.strip_prefix('"') {
                codes.extend(text.split('"').next().map(str::to_owned));
            } else if let Some(name) = code.split(',').next().filter(|name| name.starts_with(char::is_uppercase)) {
                let value = program.split(&format!("const {name}: &str = \"")).nth(1).unwrap();
                codes.extend(value.split('"').next().map(str::to_owned));
            }
        }
    }
    codes
}

fn sources() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root().join("src")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
                found.push(path);
            }
        }
    }
    found
}

/// All codes of the sources that these make.
fn made_by(makers: &[&str]) -> BTreeSet<String> {
    sources().iter().flat_map(|path| codes(&fs::read_to_string(path).unwrap(), makers)).collect()
}

#[test]
fn every_code_of_an_error_is_explained() {
    let made = made_by(&ERRORS);
    for known in ["target-before-backup-end", "configuration-wrong", "cancelled"] {
        assert!(made.contains(known), "the sources are not read as they should be: no {known}");
    }
    let document = read("docs/errors.md");
    let explained = quoted(&document);
    let missing: Vec<&String> = made.iter().filter(|code| !explained.contains(code.as_str())).collect();
    assert!(missing.is_empty(), "docs/errors.md does not have {missing:?}");
}

#[test]
fn every_finding_is_explained_and_no_other() {
    let made = made_by(&FINDINGS);
    for known in ["wal-missing", "setting-too-low", "server-silent", "backup-reach"] {
        assert!(made.contains(known), "the sources are not read as they should be: no {known}");
    }
    let document = read("docs/findings.md");
    let rows: Vec<Vec<&str>> = document
        .lines()
        .filter(|line| line.starts_with("| `"))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    let explained: BTreeSet<String> = rows.iter().map(|row| row[0].trim_matches('`').to_owned()).collect();
    assert_eq!(explained, made, "the rows of docs/findings.md");
    for row in rows {
        assert!(["error", "warning", "note"].contains(&row[1]), "{row:?}");
        assert!(row[2..].iter().all(|cell| !cell.is_empty()), "{row:?}");
    }
}

/// An anchor as it is made of a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

#[test]
fn links_between_the_documents_lead_somewhere() {
    let mut files = vec![root().join("README.md")];
    files.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    let mut links = 0;
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "md")) {
        let text = fs::read_to_string(file).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let (path, fragment) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() { file.clone() } else { file.parent().unwrap().join(path) };
            links += 1;
            if path.starts_with("docs/images/") && !root().join("docs/images").exists() {
                // The pictures are made from the program, and come with it.
                continue;
            }
            assert!(target.exists(), "{}: nothing is at {link}", file.display());
            if !fragment.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                let found = target
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#').trim()) == fragment);
                assert!(found, "{}: no heading is meant by {link}", file.display());
            }
        }
    }
    assert!(links > 20, "the links are not found");
}

#[test]
fn every_format_is_backed_by_a_test_that_there_is() {
    let document = read("docs/sources.md");
    let rows: Vec<&str> =
        document.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")).collect();
    let is_head = |row: &&&str| row.ends_with("| test |");
    assert!(rows.iter().any(|row| row.ends_with("| test |")), "a table whose last column is “test”");
    for row in rows.iter().filter(|row| !is_head(row)) {
        let tests = quoted(row.trim_end_matches('|').rsplit('|').next().unwrap());
        assert!(!tests.is_empty(), "no test: {row}");
        for test in tests {
            let (file, function) = test.split_once("::").unwrap_or_else(|| panic!("FILE::FUNCTION: {test}"));
            let source = read(&format!("tests/{file}.rs"));
            let written = source.split_once(&format!("\nfn {function}()")).unwrap_or_else(|| panic!("{test}: {row}"));
            let before = written.0.rsplit_once("\n}\n").map_or(written.0, |(_, before)| before);
            assert!(before.contains("#[test]") && !before.contains("#[ignore"), "{test} does not run");
        }
    }
}
