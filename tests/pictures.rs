//! The pictures of the documents: screens of the program as it is, on the demonstration's cluster.
//!
//! `WALBACK_PICTURES=1 cargo test --test pictures` makes them anew, in `docs/images`; without it they are only looked
//! at.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use support::{Directory, Tmux, run, svg, text_of, walback};

/// How long anything may take.
const LIMIT: Duration = Duration::from_secs(120);

/// The pictures, and words that each has to show.
const PICTURES: [(&str, &[&str]); 7] = [
    ("recovery-points", &["Backups", "Timelines", "Transactions", "2 suspects"]),
    ("recovery-points-wide", &["Backups", "Timelines", "Transactions", "2 suspects"]),
    ("plan", &["Nothing speaks against it.", "Will stop", "First lost"]),
    ("recovery", &["replay", "running", "The server says"]),
    ("paused", &["PAUSED AT THE TARGET", "predicted", "happened"]),
    ("promoted", &["PROMOTED TO TIMELINE", "What is left to do"]),
    ("help", &["Keys of this screen"]),
];

fn file(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/images").join(name).with_extension("svg")
}

#[test]
fn the_pictures_are_there_and_sound() {
    if std::env::var_os("WALBACK_PICTURES").is_some() {
        make();
    }
    for (name, words) in PICTURES {
        let path = file(name);
        let picture = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let text = text_of(&picture).unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        for word in words {
            assert!(text.contains(word), "{} does not show {word:?}:\n{text}", path.display());
        }
    }
}

/// The program, with colours and in a zone whose offset can be seen, in a terminal of that size.
struct Stage {
    terminal: Tmux,
}

impl Stage {
    fn open(directory: &Directory, command: &mut Command, columns: u16, rows: u16) -> Stage {
        let command = command.args(["--time-zone", "Europe/Berlin"]).env_remove("NO_COLOR");
        Stage { terminal: Tmux::start(directory, command, columns, rows) }
    }

    fn press(&self, key: &str, brings: &str) {
        self.terminal.send(&[key]);
        self.wait_for(brings);
    }

    fn wait_for(&self, words: &str) {
        self.terminal.wait_for(words, LIMIT);
    }

    fn photograph(&self, name: &str) {
        let size = |name| self.terminal.knows(name).parse().unwrap();
        let screen = self.terminal.screen_with_styles();
        fs::create_dir_all(file(name).parent().unwrap()).unwrap();
        fs::write(file(name), svg(&screen, size("pane_width"), size("pane_height"), "walback")).unwrap();
    }
}

/// Recovers the demonstration's shop to just before its first accident, and takes a picture of every screen on the way.
fn make() {
    let directory = Directory::new();
    // An archive that is slow where it shall be, so that replay is there to be seen: the server copies with this `cp`.
    let bin = directory.create("bin");
    let slow = directory.path().join("slow");
    let script = format!("#!/bin/sh\ntest -e '{}' && sleep 0.4\nPATH=/usr/bin:/bin exec cp \"$@\"\n", slow.display());
    run(Command::new("chmod").arg("755").arg(directory.write("bin/cp", script)));
    let mut command = walback(&directory);
    command.env("PATH", format!("{}:{}", bin.display(), std::env::var("PATH").unwrap())).arg("demo");

    let stage = Stage::open(&directory, &mut command, 80, 24);
    stage.wait_for("2 suspects");
    // The first accident is the one to go back before.
    stage.terminal.send(&["W"]);
    stage.terminal.wait_for_screen("the deletion under the cursor", LIMIT, |screen| {
        screen.lines().any(|line| line.contains("▸") && line.contains("⚠ deletes"))
    });
    stage.photograph("recovery-points");
    stage.press("?", "Keys of this screen");
    stage.photograph("help");
    stage.terminal.send(&["Escape"]);
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
