//! Keeps the rules of `docs/architecture.md`: who may import whom, and where the world may be read or changed.
//!
//! It reads the sources as text, without their tests: what a rule cannot see (a type, a renamed import) it lets pass.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "support/rust_source.rs"]
#[allow(unreachable_pub)]
mod rust_source;

use std::fs;
use std::path::Path;

use rust_source::{Token, paths, tokens, without_tests};

/// Who may import whom, as the table in `docs/architecture.md` says it. A module may use itself and `error`;
/// `main.rs` and `lib.rs` may use all.
const MAY_USE: [(&str, &str); 14] = [
    ("core", "nothing of ours"),
    ("error", "core"),
    ("config", "core"),
    ("wal, pgdata", "core"),
    ("catalog", "core, wal, pgdata"),
    ("resolve", "core, wal, pgdata, catalog"),
    ("plan", "core, pgdata, catalog, resolve"),
    ("event", "core, pgdata, resolve, plan"),
    ("source", "core, config, wal, pgdata, catalog"),
    ("engine", "core, config, wal, pgdata, catalog, resolve, plan, event, source"),
    ("drill, demo", "all above"),
    ("app", "core, wal, pgdata, catalog, resolve, plan, event"),
    ("cli", "all but tui, app"),
    ("tui", "all but cli; inside it only perform.rs uses engine, source, config, demo"),
];

/// Modules that work on values alone: no files, no processes, no network, no clock.
const PURE: [&str; 8] = ["core", "wal", "pgdata", "catalog", "resolve", "plan", "event", "app"];

/// What a pure module may not name.
const IMPURE: [&str; 11] = [
    "std::fs",
    "std::process",
    "std::net",
    "tokio",
    "tokio_postgres",
    "nix",
    "iana_time_zone",
    "SystemTime",
    "Instant::now",
    "Utc::now",
    "Local::now",
];

/// What only `tui` may name.
const TERMINAL: [&str; 2] = ["ratatui", "crossterm"];

/// The only folder of `engine` that changes the world.
const HOST: &str = "engine/host/";

/// The only files of `source` that write, and only below the cache directory.
const CACHE: [&str; 2] = ["source/cache.rs", "source/command/store.rs"];

/// What changes files: not for `source`, and in `engine` only for the host.
const CHANGES_FILES: [&str; 18] = [
    "fs::write",
    "fs::remove_file",
    "fs::remove_dir",
    "fs::remove_dir_all",
    "fs::rename",
    "fs::create_dir",
    "fs::create_dir_all",
    "fs::copy",
    "fs::hard_link",
    "fs::soft_link",
    "fs::symlink",
    "fs::set_permissions",
    "fs::chown",
    "fs::*",
    "DirBuilder",
    "File::create",
    "File::create_new",
    "File::options",
];

/// What else in `engine` only the host may name.
const CHANGES_THE_WORLD: [&str; 4] = ["std::process", "tokio::process", "nix", "OpenOptions"];

/// Methods of `OpenOptions` that open a file for more than reading.
const OPENS_FOR_WRITING: [&str; 5] = ["write", "append", "create", "create_new", "truncate"];

/// The only files that know how versions differ.
const VERSIONS: [&str; 2] = ["core/version.rs", "wal/layout.rs"];

/// The only file with `unsafe`: it asks the processor for an instruction.
const UNSAFE: &str = "wal/crc.rs";

/// What a row of the table allows a module.
struct Rule {
    /// The modules it may use, itself and `error` among them.
    may_use: Vec<&'static str>,
    /// Those of them that only one of its files may use, and that file.
    only_in: Option<(Vec<&'static str>, String)>,
}

fn list(names: &'static str) -> Vec<&'static str> {
    names.split(", ").collect()
}

fn all_modules() -> Vec<&'static str> {
    MAY_USE.iter().flat_map(|(modules, _)| list(modules)).collect()
}

/// The rule for `module`, where the table has one.
fn rule(module: &str) -> Option<Rule> {
    let row = MAY_USE.iter().position(|(modules, _)| list(modules).contains(&module))?;
    let (allowed, inside) = match MAY_USE[row].1.split_once("; inside it only ") {
        None => (MAY_USE[row].1, None),
        Some((allowed, inside)) => (allowed, inside.split_once(" uses ")),
    };
    let mut may_use: Vec<&str> = match allowed.strip_prefix("all but ") {
        Some(others) => all_modules().into_iter().filter(|module| !list(others).contains(module)).collect(),
        None if allowed == "all above" => MAY_USE[..row].iter().flat_map(|(modules, _)| list(modules)).collect(),
        None if allowed == "nothing of ours" => Vec::new(),
        None => list(allowed),
    };
    may_use.extend(all_modules().into_iter().filter(|other| *other == module || *other == "error"));
    Some(Rule { may_use, only_in: inside.map(|(file, modules)| (list(modules), format!("{module}/{file}"))) })
}

/// What breaks the rules in `file` (below `src/`), a line each.
fn violations(file: &str, source: &str) -> Vec<String> {
    let all = tokens(source);
    let mut found: Vec<(usize, String)> = all
        .iter()
        .filter(|token| token.text == "unsafe" && file != UNSAFE)
        .map(|token| (token.line, "`unsafe` is forbidden".to_owned()))
        .collect();
    let (program, _) = without_tests(&all);
    found.extend(imports(file, &program));
    found.extend(reaches(file, &program));
    if !VERSIONS.contains(&file) {
        found.extend(version_comparisons(&program));
    }
    found.sort();
    found.dedup();
    found.into_iter().map(|(line, what)| format!("src/{file}:{line}: {what}")).collect()
}

/// The names of the module that `file` holds.
fn module_of(file: &str) -> Vec<&str> {
    let file = file.strip_suffix(".rs").unwrap_or(file);
    let mut names: Vec<&str> = file.split('/').collect();
    if matches!(names.last(), Some(&("mod" | "lib" | "main"))) {
        names.pop();
    }
    names
}

fn imports(file: &str, program: &[Token]) -> Vec<(usize, String)> {
    let module = module_of(file);
    let Some(top) = module.first() else {
        return Vec::new();
    };
    let Some(rule) = rule(top) else {
        return vec![(1, format!("the table of who may import whom has no row for `{top}`"))];
    };
    let mut found = Vec::new();
    for path in paths(program, &module).iter().filter(|path| path.of_crate) {
        let used = path.names.first().map_or("*", String::as_str);
        if !rule.may_use.contains(&used) {
            found.push((path.line, format!("`{top}` may not use `{used}`")));
        }
        if let Some((modules, only)) = &rule.only_in
            && modules.contains(&used)
            && file != only
            // Its own modules are a part of it.
            && !file.starts_with(&format!("{}/", only.trim_end_matches(".rs")))
        {
            found.push((path.line, format!("inside `{top}` only {only} may use `{used}`")));
        }
    }
    found
}

/// Paths and calls that reach a part of the world which `file` has to leave alone.
fn reaches(file: &str, program: &[Token]) -> Vec<(usize, String)> {
    let module = module_of(file);
    let top = module.first().copied().unwrap_or_default();
    let mut forbidden: Vec<(&str, &str)> = Vec::new();
    let mut forbid = |patterns: &[&'static str], why| forbidden.extend(patterns.iter().map(|pattern| (*pattern, why)));
    if PURE.contains(&top) {
        forbid(&IMPURE, "this module does no I/O and has no clock");
    }
    if top != "tui" {
        forbid(&TERMINAL, "only tui draws");
    }
    if top == "source" && !CACHE.contains(&file) {
        forbid(&CHANGES_FILES, "archives and backups are only read");
    }
    if top == "engine" && !file.starts_with(HOST) {
        forbid(&CHANGES_FILES, "only engine/host changes the world");
        forbid(&CHANGES_THE_WORLD, "only engine/host changes the world");
    }
    let mut found = Vec::new();
    for path in paths(program, &module) {
        for (pattern, why) in forbidden.iter().filter(|(pattern, _)| path.contains(pattern)) {
            found.push((path.line, format!("`{pattern}`: {why}")));
        }
    }
    if top == "source" && !CACHE.contains(&file) {
        let calls = program.windows(4).filter(|call| {
            call[0].text == "." && OPENS_FOR_WRITING.contains(&call[1].text.as_str()) && call[3].text == "true"
        });
        found.extend(
            calls.map(|call| (call[1].line, format!("`.{}(true)`: archives and backups are only read", call[1].text))),
        );
    }
    found
}

/// Where a version's number is looked at: a major written out, the number inside one, one compared by order, or a
/// `server_version_num`.
fn version_comparisons(program: &[Token]) -> Vec<(usize, String)> {
    let is_order = |token: &Token| matches!(token.text.as_str(), "<" | ">" | "<=" | ">=");
    let is_comparison = |token: &Token| is_order(token) || matches!(token.text.as_str(), "==" | "!=");
    let number = |token: &Token| token.text.replace('_', "").parse::<u64>().ok();
    let is_variable =
        |token: &Token| token.text.contains("major") && token.text.starts_with(|c: char| c.is_lowercase());
    let mut found = Vec::new();
    for pair in program.windows(2) {
        let [left, right] = pair else { continue };
        if (is_variable(left) && is_order(right)) || (is_order(left) && is_variable(right)) {
            found.push(left.line);
        }
        let compared =
            if is_comparison(left) { number(right) } else { is_comparison(right).then(|| number(left)).flatten() };
        if compared.is_some_and(|number| number % 10_000 == 0 && (90_000..=200_000).contains(&number)) {
            found.push(left.line);
        }
    }
    for three in program.windows(3) {
        let [first, second, third] = three else { continue };
        let written_out = first.text == "PgMajor" && second.text == "(" && number(third).is_some();
        let looked_into = is_variable(first) && second.text == "." && third.text == "0";
        let bound = is_comparison(first) && second.text == "PgMajor" && third.text == "::";
        if written_out || looked_into || bound {
            found.push(first.line);
        }
    }
    for four in program.windows(4) {
        let in_a_newtype = four[0].text == "." && four[1].text == "0" && is_comparison(&four[2]);
        if in_a_newtype && number(&four[3]).is_some_and(|number| (9..=30).contains(&number)) {
            found.push(four[0].line);
        }
    }
    found
        .into_iter()
        .map(|line| (line, "versions are compared only in core/version.rs and wal/layout.rs".to_owned()))
        .collect()
}

/// The names below `src/` and contents of all sources but those that are tests as a whole.
fn sources() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                sources.push((name, fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let tests: Vec<Vec<String>> = sources.iter().flat_map(|(name, source)| test_modules(name, source)).collect();
    sources.retain(|(name, _)| {
        !tests.iter().any(|test| module_of(name).iter().zip(test).filter(|(a, b)| a == b).count() == test.len())
    });
    sources
}

/// The modules that `file` declares for tests only, in files of their own.
fn test_modules(file: &str, source: &str) -> Vec<Vec<String>> {
    let parent = module_of(file);
    let (_, names) = without_tests(&tokens(source));
    names.iter().map(|name| parent.iter().copied().chain([name.as_str()]).map(str::to_owned).collect()).collect()
}

#[test]
fn the_sources_keep_the_rules() {
    let sources = sources();
    assert!(sources.iter().any(|(name, _)| name == "core/lsn.rs"), "the sources are not where they should be");
    let found: Vec<String> = sources.iter().flat_map(|(name, source)| violations(name, source)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_document_has_the_same_table() {
    let Ok(document) = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/architecture.md")) else {
        return;
    };
    let rows = MAY_USE.map(|(modules, may_use)| format!("| {modules} | {may_use} |\n")).concat();
    assert!(document.contains(&rows), "docs/architecture.md should have these rows:\n{rows}");
}

#[test]
fn the_table_names_only_modules_that_it_has() {
    for module in all_modules() {
        let rule = rule(module).unwrap();
        let only = rule.only_in.map(|(modules, _)| modules).unwrap_or_default();
        for name in rule.may_use.iter().chain(&only) {
            assert!(all_modules().contains(name), "{module} may use {name}, which has no row");
        }
    }
    assert!(rule("tui").is_some_and(|rule| rule.only_in.is_some_and(|(_, file)| file == "tui/perform.rs")));
    assert!(rule("nowhere").is_none());
}

/// Sources that break a rule, each in one line of its own.
const BROKEN: [(&str, &str, &str); 40] = [
    ("core/lsn.rs", "use crate::wal::page;", "`core` may not use `wal`"),
    ("core/mod.rs", "use super::wal;", "`core` may not use `wal`"),
    ("core/lsn.rs", "use super::super::wal::page;", "`core` may not use `wal`"),
    ("wal/page.rs", "use crate::{core::Lsn, pgdata::{self, manifest}};", "`wal` may not use `pgdata`"),
    ("wal/page.rs", "fn f() { crate::engine::run::run(); }", "`wal` may not use `engine`"),
    ("wal/page.rs", "fn f(x: Vec<crate::catalog::Catalog>) {}", "`wal` may not use `catalog`"),
    ("wal/page.rs", "mod inner { use super::super::super::app::state; }", "`wal` may not use `app`"),
    ("wal/page.rs", "/* mod x { */ pub fn f() { let s = \"}\"; super::super::cli::run() }", "`wal` may not use `cli`"),
    ("wal/page.rs", "const C: char = '\"'; use crate::cli; const D: char = '\"';", "`wal` may not use `cli`"),
    ("catalog.rs", "use crate::*;", "`catalog` may not use `*`"),
    ("catalog.rs", "use crate as everything;", "`catalog` may not use `*`"),
    ("catalog.rs", "use crate::Lsn;", "`catalog` may not use `Lsn`"),
    ("error.rs", "use crate::wal::Damage;", "`error` may not use `wal`"),
    ("app/update.rs", "use crate::source::Source;", "`app` may not use `source`"),
    ("cli/plan.rs", "use crate::app::state;", "`cli` may not use `app`"),
    ("tui/screens/a.rs", "use crate::cli::plan;", "`tui` may not use `cli`"),
    ("tui/screens/a.rs", "use crate::engine::Host;", "inside `tui` only tui/perform.rs may use `engine`"),
    ("drill/mod.rs", "use crate::demo::Demo;", "`drill` may not use `demo`"),
    ("helpers.rs", "fn f() {}", "no row for `helpers`"),
    ("plan/build.rs", "use std::{fmt, fs::File};", "`std::fs`"),
    ("plan/build.rs", "fn f() { ::std::process::exit(1) }", "`std::process`"),
    ("resolve/mod.rs", "use std::net::TcpStream;", "`std::net`"),
    ("event/buffer.rs", "use tokio::sync::mpsc;", "`tokio`"),
    ("app/update.rs", "use std::time::SystemTime;", "`SystemTime`"),
    ("app/update.rs", "fn f() { let t = chrono::Utc::now(); }", "`Utc::now`"),
    ("app/keymap.rs", "use crossterm::event::KeyCode;", "`crossterm`"),
    ("cli/mod.rs", "use ratatui::Frame;", "`ratatui`"),
    ("engine/run.rs", "fn f() { std::fs::rename(a, b); }", "`fs::rename`"),
    ("engine/run.rs", "use std::fs::{self, OpenOptions};", "`OpenOptions`"),
    ("engine/steps/start.rs", "use std::process::Command;", "`std::process`"),
    ("source/local.rs", "fn f() { fs::remove_file(p); }", "`fs::remove_file`"),
    ("source/local/cache.rs", "fn f() { fs::remove_file(p); }", "`fs::remove_file`"),
    ("source/local.rs", "fn f() { OpenOptions::new().read(true).write(true).open(p); }", "`.write(true)`"),
    ("source/local.rs", "fn f() { std::fs::File::create(p); }", "`File::create`"),
    ("engine/run.rs", "fn f() { if major >= crate::core::PgMajor(15) {} }", "versions are compared"),
    ("source/local.rs", "fn f() { if backup.pg_major.0 == 15 {} }", "versions are compared"),
    ("source/local.rs", "fn f() { if version.0 >= 15 {} }", "versions are compared"),
    ("engine/host/mod.rs", "fn f() { if server_version_num >= 150_000 {} }", "versions are compared"),
    ("main.rs", "fn main() { unsafe { f() } }", "`unsafe`"),
    ("wal/decoder.rs", "fn f() { unsafe { g() } }", "`unsafe`"),
];

/// Sources that break none.
const SOUND: [(&str, &str); 17] = [
    ("wal/crc.rs", "fn f() { unsafe { g() } }"),
    ("wal/page.rs", "//! [`crate::engine`]\n/* use crate::cli; /* */ use crate::tui; */\nuse crate::core::Lsn;"),
    ("wal/page.rs", "const A: &str = r#\"use crate::cli; \" std::fs\"#; const B: &[u8] = b\"\\\"crate::cli\";"),
    (
        "wal/page.rs",
        "#[cfg(test)]\nmod tests { use crate::engine; use std::fs; const M: PgMajor = PgMajor(15); }\nfn f() {}",
    ),
    ("wal/page.rs", "#[test]\n#[should_panic]\nfn f() { std::fs::read(crate::cli::p) }"),
    ("wal/page.rs", "#[cfg(test)]\nuse crate::{engine, cli};\nuse crate::error::{Error, Result};"),
    (
        "wal/page.rs",
        "use super::record; mod a { use super::super::record; mod b { use super::super::super::record; } } use self::x;",
    ),
    ("core/mod.rs", "pub(crate) fn f(&self) { self.fs() } pub(super) struct S<'a>(&'a str);"),
    ("main.rs", "use walback::{tui, cli}; fn main() -> std::process::ExitCode { x }"),
    ("tui/perform/a.rs", "use crate::{engine, source, config, demo, app};"),
    ("tui/perform.rs", "use crate::{engine, source, config, demo, app}; use ratatui::Frame; use crossterm::event;"),
    ("engine/host/mod.rs", "use std::process::Command; fn f() { std::fs::rename(a, b); }"),
    ("engine/run.rs", "fn f() { std::fs::read(p); } fn g(file: std::fs::File) {}"),
    (
        "source/local.rs",
        "use std::fs::{self, File}; fn f() { fs::read_dir(p); OpenOptions::new().read(true).open(p); }",
    ),
    (
        "engine/run.rs",
        "fn f(major: Option<PgMajor>) -> bool { server.major == backup.major && major.has_pause_state() && lsn.0 >= 8192 }",
    ),
    ("core/version.rs", "fn f(self) -> bool { self >= PgMajor(15) }"),
    ("wal/layout.rs", "fn f(major: PgMajor) -> bool { major < PgMajor(15) }"),
];

#[test]
fn every_rule_can_be_broken() {
    for (file, source, expected) in BROKEN {
        let found = violations(file, &format!("fn before() {{}}\n{source}\n"));
        assert!(found.iter().any(|line| line.contains(expected)), "{file}: {source}: {found:?}");
        let place = format!("src/{file}:{}:", if expected.starts_with("no row") { 1 } else { 2 });
        assert!(found.iter().all(|line| line.starts_with(&place)), "{file}: {source}: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_let_pass() {
    for (file, source) in SOUND {
        assert_eq!(violations(file, source), Vec::<String>::new(), "{file}: {source}");
    }
}

#[test]
fn test_modules_in_files_of_their_own_are_found() {
    let source = "mod record;\n#[cfg(test)]\nmod fixtures;\n#[cfg(all(test, unix))]\nmod tests;";
    assert_eq!(test_modules("wal/decoder.rs", source), [["wal", "decoder", "fixtures"], ["wal", "decoder", "tests"]]);
    assert_eq!(test_modules("wal/mod.rs", source)[1], ["wal", "tests"]);
}
