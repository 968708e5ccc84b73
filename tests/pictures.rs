//! The pictures of the documents: screens of the program as it is, on the demonstration's cluster.
//!
//! `WALBACK_PICTURES=1 cargo test --test pictures` makes them anew, in `docs/images`; without it they are only looked
//! at.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use support::{Directory, Tmux, run, svg, text_of, walback};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The pictures, and words that each has to show.
const PICTURES: [(&str, &[&str]); 13] = [
    ("recovery-points", &["Backups", "Timelines", "Transactions", "2 suspects"]),
    ("recovery-points-wide", &["Backups", "Timelines", "Transactions", "2 suspects"]),
    ("suspects", &["the worst first", "drop", "delete", "in database shop"]),
    ("time", &["Stop at a time", "Will stop", "Last kept", "First lost"]),
    ("archive", &["Archive", "every one read", "What there is to say"]),
    ("drills", &["Drills", "✓ passed", "History", "RTO", "recovery stopped where it was predicted to"]),
    ("plan", &["Nothing speaks against it.", "Will stop", "First lost"]),
    ("recovery", &["replay", "running", "The server says"]),
    ("paused", &["PAUSED AT THE TARGET", "predicted", "happened"]),
    ("psql", &["The recovered server of", "Never call pg_wal_replay_resume() here", "shop=#"]),
    ("log", &["Log of before-delete", "pausing at the end of recovery"]),
    ("promoted", &["PROMOTED TO TIMELINE", "What is left to do"]),
    ("help", &["Keys of this screen"]),
];

/// Pictures of what goes on by itself, or tells what took how long: no two are alike.
const IN_FLUX: [&str; 2] = ["recovery", "drills"];

/// The picture of a drill's report, which a browser draws; `tests/drills.rs` opens one.
const REPORT: &str = "drill-report.png";

fn documents() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images")
}

fn file(directory: &Path, name: &str) -> PathBuf {
    directory.join(name).with_extension("svg")
}

fn text_in(path: &Path) -> String {
    let picture = fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text_of(&picture).unwrap_or_else(|why| panic!("{}: {why}", path.display()))
}

/// The words that a screen always has: no numbers, and nothing that depends on when and where it was, as what there is
/// room for on the time axis does.
fn words(text: &str) -> BTreeSet<&str> {
    let is_path = |word: &&str| word.contains('/');
    let letters = |word: &str| word.len() >= 4 && word.chars().all(|c| c.is_ascii_lowercase());
    let axis = match text.split_once("Activity") {
        Some((before, behind)) => [before, behind.split_once("Transactions").map_or("", |(_, behind)| behind)],
        None => [text, ""],
    };
    let whole = axis.into_iter().flat_map(str::split_whitespace).filter(|word| !is_path(word));
    whole.flat_map(|word| word.split(|c: char| !c.is_ascii_alphanumeric())).filter(|word| letters(word)).collect()
}

#[test]
fn the_pictures_show_what_the_program_shows_now() {
    let again = std::env::var_os("WALBACK_PICTURES").is_some();
    let beside = Directory::new();
    let now = if again { documents() } else { beside.path().to_owned() };
    make(&now);
    for (name, shown) in PICTURES {
        let [old, new] = [documents(), now.clone()].map(|directory| text_in(&file(&directory, name)));
        for word in shown {
            assert!(old.contains(word) && new.contains(word), "{name} does not show {word:?}:\n{old}\n{new}");
        }
        let (old, new) = (words(&old), words(&new));
        let changed: Vec<_> = old.symmetric_difference(&new).collect();
        assert!(
            IN_FLUX.contains(&name) || changed.is_empty(),
            "docs/images/{name}.svg is not what the program shows any more: {changed:?}. Make the pictures anew: \
             WALBACK_PICTURES=1 cargo test --test pictures"
        );
    }
    let mut here: Vec<String> =
        fs::read_dir(documents()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    here.sort_unstable();
    let mut named: Vec<String> = PICTURES.iter().map(|(name, _)| format!("{name}.svg")).collect();
    named.push(REPORT.to_owned());
    named.sort_unstable();
    assert_eq!(here, named, "docs/images has these pictures and no others");
}

/// The program, with colours and in a zone whose offset can be seen, in a terminal of that size.
struct Stage {
    terminal: Tmux,
    /// Where the pictures go.
    into: PathBuf,
}

impl Stage {
    fn open(directory: &Directory, command: &mut Command, (columns, rows): (u16, u16), into: &Path) -> Stage {
        let command = command.args(["--time-zone", "Europe/Berlin"]).env_remove("NO_COLOR");
        // As a terminal does that says what it can show, and on what.
        let command = command.env("COLORTERM", "truecolor").env("COLORFGBG", "15;0");
        let terminal = Tmux::start(directory, command, columns, rows);
        Stage { terminal, into: into.to_owned() }
    }

    fn press(&self, key: &str, brings: &str) {
        self.terminal.send(&[key]);
        self.wait_for(brings);
    }

    /// Leaves what lies over the home screen, or over the pause.
    fn back(&self) {
        let before = self.terminal.screen();
        self.terminal.send(&["Escape"]);
        self.terminal.wait_for_screen("what lies below", LIMIT, |screen| screen != before);
    }

    /// What the clock showed when the transaction under the cursor committed, in full.
    fn time_under_the_cursor(&self) -> String {
        let committed = " committed at ";
        let screen = self.terminal.wait_for(committed, LIMIT);
        let line = screen.lines().find_map(|line| line.split_once(committed)).unwrap().1;
        line.trim_end_matches(['│', ' ']).to_owned()
    }

    fn wait_for(&self, words: &str) {
        self.terminal.wait_for(words, LIMIT);
    }

    fn photograph(&self, name: &str) {
        let size = |name| self.terminal.knows(name).parse().unwrap();
        let screen = self.terminal.screen_with_styles();
        fs::create_dir_all(&self.into).unwrap();
        fs::write(file(&self.into, name), svg(&screen, size("pane_width"), size("pane_height"), "walback")).unwrap();
    }
}

/// Recovers the demonstration's shop to just before its first accident, and takes a picture of every screen on the way.
fn make(into: &Path) {
    let directory = Directory::new();
    // An archive that is slow where it shall be, so that replay is there to be seen: the server copies with this `cp`.
    let bin = directory.create("bin");
    let slow = directory.path().join("slow");
    let script = format!("#!/bin/sh\ntest -e '{}' && sleep 0.4\nPATH=/usr/bin:/bin exec cp \"$@\"\n", slow.display());
    run(Command::new("chmod").arg("755").arg(directory.write("bin/cp", script)));
    let mut command = walback(&directory);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())).arg("demo");

    let stage = Stage::open(&directory, &mut command, (80, 24), into);
    stage.wait_for("2 suspects");
    // The first accident is the one to go back before.
    stage.terminal.send(&["W"]);
    stage.terminal.wait_for_screen("the deletion under the cursor", LIMIT, |screen| {
        let under = |line: &str| line.contains("▸") && line.contains("⚠ deletes");
        screen.lines().any(under) && screen.contains("✓ healthy") && screen.contains("in database shop")
    });
    stage.photograph("recovery-points");
    stage.press("?", "Keys of this screen");
    stage.photograph("help");
    stage.back();
    stage.press("s", "the worst first");
    stage.photograph("suspects");
    stage.back();
    stage.press("d", "No drill of this cluster");
    stage.press("Enter", "Make which drill?");
    stage.press("y", "The drill goes on");
    stage.terminal.wait_for_screen("the drill's end", LIMIT, |screen| {
        screen.contains("✓ passed")
            && screen.contains("every report is as it was written")
            && screen.contains("Would lose")
    });
    stage.photograph("drills");
    stage.back();
    stage.press("A", "every one read");
    stage.photograph("archive");
    stage.back();
    let at = stage.time_under_the_cursor();
    stage.press("t", "Stop at a time");
    stage.terminal.type_text(&at);
    stage.wait_for("First lost");
    stage.photograph("time");
    stage.back();
    stage.terminal.resize(120, 36);
    stage
        .terminal
        .wait_for_screen("the wide list", LIMIT, |screen| screen.lines().nth(35).is_some_and(|l| !l.is_empty()));
    stage.photograph("recovery-points-wide");
    stage.terminal.resize(80, 24);
    stage.press("b", "Nothing speaks against it.");
    stage.press("d", "Recover into which directory?");
    stage.terminal.send(&["BSpace"; "recovery".len()]);
    stage.terminal.type_text("before-delete");
    stage.press("Enter", "Plan of recovery before-delete");
    stage.photograph("plan");
    fs::write(&slow, "").unwrap();
    stage.press("Enter", "last transaction 2");
    stage.photograph("recovery");
    fs::remove_file(&slow).unwrap();
    stage.wait_for("PAUSED AT THE TARGET");
    stage.photograph("paused");
    stage.press("i", "shop=#");
    stage.photograph("psql");
    stage.terminal.type_text("\\q");
    stage.press("Enter", "PAUSED AT THE TARGET");
    stage.press("L", "pausing at the end of recovery");
    stage.photograph("log");
    stage.back();
    stage.press("p", "To do it, type before-delete");
    stage.terminal.type_text("before-delete");
    stage.wait_for("Enter does it.");
    stage.press("Enter", "PROMOTED TO TIMELINE");
    stage.photograph("promoted");
    // What the demonstration made goes with it.
    stage.terminal.send(&["q"]);
    assert_eq!(stage.terminal.wait_for_exit(LIMIT), 0);
}

#[test]
fn every_style_and_sign_becomes_what_it_is() {
    let screen =
        "\x1b[1;38;5;196mred\x1b[0m<&>\x1b[48;2;1;2;3m g \x1b[m\n\x1b[2;3;4mdim\x1b[0m  ││ ██\x1b[7m▸x\x1b[27m";
    let picture = svg(screen, 20, 2, "a & b");
    for part in [
        "<text x=\"0.0\" y=\"13.5\" textLength=\"25.2\" fill=\"#ff0000\" font-weight=\"bold\">red</text>",
        ">&lt;&amp;&gt;</text>",
        "width=\"25.2\" height=\"18.0\" fill=\"#010203\"/>",
        "font-style=\"italic\" text-decoration=\"underline\">dim</text>",
        "M46.2 18.0V36.0",
        "M54.6 18.0V36.0",
        "x=\"67.2\" y=\"18.0\" width=\"16.8\" height=\"18.0\"",
        "fill=\"#161921\">▸</text>",
    ] {
        assert!(picture.contains(part), "{part}:\n{picture}");
    }
    assert_eq!(text_of(&picture).unwrap(), "a & b red <&> g \ndim ▸ x \n\n");
    for broken in [&picture[..picture.len() - 8], &picture.replace("&amp;", "&"), &picture.replace("</g>", ""), "text"]
    {
        assert!(text_of(broken).is_err(), "{broken}");
    }
}
