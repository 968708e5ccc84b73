//! The interactive program as lines, on a real cluster: by a pipe, in a terminal that can do nothing, and with nobody there.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use support::{Cluster, Directory, Format, Options, Server, Stop, Tmux, describe, tree_digest, walback};

/// How long anything may take; far more than it should, for busy machines.
const LIMIT: Duration = Duration::from_secs(60);

/// A shop whose customers were dropped after its base backup was taken.
struct Shop<'a> {
    directory: &'a Directory,
    /// The transaction that dropped them.
    dropped: String,
    /// The last segment, which no recovery to before that needs.
    last_segment: String,
}

impl<'a> Shop<'a> {
    /// Makes the cluster and stops it: its backups and its archive stay.
    fn make(directory: &'a Directory) -> Shop<'a> {
        let options = Options { segment_mib: 1, ..Options::default() };
        let cluster = Cluster::create(directory, &Server::v15(), &options);
        cluster.psql("create table customers (n int); insert into customers select generate_series(1, 10)");
        cluster.base_backup(Format::TarGz, "nightly");
        cluster.psql("insert into customers values (11)");
        cluster.restore_point("before \u{1b}[31mdeploy");
        let dropped = cluster.psql("begin; drop table customers; select pg_current_xact_id(); commit");
        cluster.psql("create table rest (n int)");
        let last_segment = cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        Shop { directory, dropped, last_segment }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program on this shop, whose recoveries go to `restored`.
    fn walback(&self, arguments: &[&str]) -> Command {
        let here = self.directory.path().display();
        let configuration = format!(
            "sources:\n  shop:\n    backups: [{{path: {here}/backups}}]\n    wal: [{{path: {here}/archive}}]\n    \
             restore: {{directory: {here}/restored}}\n"
        );
        let file = self.directory.write("walback.yaml", configuration);
        let mut command = walback(self.directory);
        command.arg("--config").arg(file).args(arguments);
        command
    }

    /// What comes of these lines.
    #[track_caller]
    fn script(&self, arguments: &[&str], lines: &[&str]) -> (String, i32) {
        let mut command = self.walback(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        // It may leave before it has read all of them.
        let _ = child.stdin.take().unwrap().write_all(text.as_bytes());
        let output = child.wait_with_output().unwrap();
        (plain_lines(&command, &output), output.status.code().unwrap())
    }
}

/// The output, which has nothing in it but lines of text.
#[track_caller]
fn plain_lines(command: &Command, output: &Output) -> String {
    assert!(output.stderr.is_empty(), "{}", describe(command, output));
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    assert_is_plain(&text);
    text
}

#[track_caller]
fn assert_is_plain(text: &str) {
    let drawn = |c: char| matches!(c, '\u{2500}'..='\u{25ff}' | '\u{2800}'..='\u{28ff}');
    let found = text.chars().find(|c| (c.is_control() && *c != '\n') || drawn(*c));
    assert_eq!(found, None, "{text}");
}

#[track_caller]
fn assert_in_order(text: &str, all: &[&str]) {
    let mut rest = text;
    for words in all {
        let Some(place) = rest.find(words) else { panic!("no {words:?}, or not there:\n{text}") };
        rest = &rest[place + words.len()..];
    }
}

#[test]
fn a_script_brings_a_dropped_table_back() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let evidence = ["backups", "archive"].map(|name| (name, tree_digest(&shop.path(name))));
    let count = "sql select count(*) as customers from customers";
    let (text, status) = shop.script(&[], &["suspects", "choose 1", "stop-before", "start", count]);
    let chosen = format!("selected: transaction {}, which committed", shop.dropped);
    assert_in_order(
        &text,
        &[
            "source: shop",
            "1 base backup",
            "timeline 1",
            "activity: ",
            "1 suspect, the worst first",
            "drops ",
            "before \\u{1b}[31mdeploy",
            "walback> suspects",
            "walback> choose 1",
            &chosen,
            "walback> stop-before",
            "plan of recovery restored",
            "good: Nothing speaks against it.",
            "walback> start",
            "step unpack is done",
            "step replay is done",
            "good: PAUSED AT THE TARGET",
            "PostgreSQL did what was predicted.",
            "customers\n11\n1 row",
            "recovery restored stays paused at its target",
        ],
    );
    assert_eq!(status, 0, "{text}");

    // What ended with the input is picked up, and nothing dangerous is done without the name.
    let (text, status) = shop.script(&[], &["recoveries rest", "promote", "shop", "quit"]);
    assert_in_order(
        &text,
        &["restored  paused", "walback> promote", "type restored", "walback> shop", "not now: type restored"],
    );
    assert_eq!(status, 5, "{text}");
    let lines =
        ["recoveries restored", "promote", "restored", "sql select pg_is_in_recovery()", "stop", "discard", "restored"];
    let (text, status) = shop.script(&["--plain"], &lines);
    assert_in_order(
        &text,
        &[
            "PROMOTED TO TIMELINE 2",
            "pg_is_in_recovery\nf\n",
            "THE SERVER IS STOPPED",
            "is LOST",
            "walback> restored",
            "DISCARDED",
        ],
    );
    assert_eq!((status, shop.path("restored").exists()), (0, false), "{text}");
    for (name, before) in evidence {
        tree_digest(&shop.path(name)).assert_same_as(&before);
    }
}

#[test]
fn with_nobody_there_it_says_what_there_is() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let mut command = shop.walback(&[]);
    let output = command.stdin(Stdio::null()).output().unwrap();
    let text = plain_lines(&command, &output);
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert_in_order(&text, &["1 base backup", "timeline 1", "activity: ", "1 suspect", "1 restore point", "next: "]);

    // What fails ends a script, with its status.
    let failing: [(&[&str], i32, &str); 5] = [
        (&["suspicious", "stop-before", "start"], 2, "did you mean suspects"),
        (&["target-time yesterday at noon"], 2, "is not a time"),
        (&["target-time 2001-01-01 12:00"], 4, "no plan"),
        (&["target-xid 99999 before"], 4, "no plan"),
        (&["look"], 1, "cannot be given here"),
    ];
    for (lines, expected, words) in failing {
        let (text, status) = shop.script(&[], lines);
        assert!(status == expected && text.contains(words), "{status}: {text}");
    }
    assert!(!shop.path("restored").exists(), "a plan changes nothing");
    let (text, status) = shop.script(&["--read-only"], &["stop-before", "start"]);
    assert!(status == 1 && text.contains("not now: --read-only was given"), "{status}: {text}");
}

#[test]
fn a_terminal_that_can_do_nothing_has_all_of_it() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    let program = shop.walback(&[]);
    let mut command = Command::new("env");
    command.arg("TERM=dumb").arg(program.get_program()).args(program.get_args());
    command.envs(program.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(program.get_current_dir().unwrap());
    let tmux = Tmux::start(&directory, &command, 100, 50);
    let say = |line: &str, brings: &str| {
        tmux.type_text(line);
        tmux.send(&["Enter"]);
        // It waits for the next line, behind what this one brought.
        tmux.wait_for_screen(&format!("{brings:?}"), LIMIT, |screen| {
            let rest = screen.rsplit_once(&format!("> {line}\n")).map_or("", |(_, rest)| rest);
            rest.contains(brings) && rest.trim_end().ends_with('>')
        })
    };
    let screen = tmux.wait_for_screen("prompt", LIMIT, |screen| screen.trim_end().ends_with("walback>"));
    assert!(screen.contains("because TERM is “dumb”") && screen.contains("1 suspect"), "{screen}");
    assert_eq!(tmux.knows("alternate_on") + &tmux.knows("mouse_any_flag"), "00");

    say("targ", "could be: target-time, target-xid, target-lsn, target-name");
    say("choose", "1 or b  stop just before it");
    say("b", "start carries it out");
    let screen = say("start", "PAUSED AT THE TARGET");
    assert!(!screen.contains("not now"), "{screen}");
    // The terminal is lent, and comes back.
    tmux.type_text("look");
    tmux.send(&["Enter"]);
    tmux.wait_for("postgres=#", LIMIT);
    tmux.type_text("select 'there are ' || count(*) from customers;");
    tmux.send(&["Enter"]);
    tmux.wait_for("there are 11", LIMIT);
    tmux.type_text("\\q");
    tmux.send(&["Enter"]);
    tmux.wait_for_screen("prompt after psql", LIMIT, |screen| screen.trim_end().ends_with("walback>"));
    say("discard", "type restored on a line of its own");
    let screen = say("restored", "DISCARDED");
    assert!(!shop.path("restored").exists(), "{screen}");
    assert_is_plain(&tmux.screen_with_styles());
    // The end of the input leaves.
    tmux.send(&["C-d"]);
    assert_eq!(tmux.wait_for_exit(LIMIT), 0);
}

#[test]
fn a_signal_leaves_and_the_recovery_goes_on() {
    let directory = Directory::new();
    let shop = Shop::make(&directory);
    // An archive whose last segment is a long time coming: the server copies with this `cp`.
    let hold = shop.path("hold");
    let bin = directory.create("bin");
    let copy = format!(
        "#!/bin/sh\ncase $1 in */{}) while test -e '{}'; do sleep 0.05; done ;; esac\nPATH=/usr/bin:/bin exec cp \"$@\"\n",
        shop.last_segment,
        hold.display()
    );
    let script = directory.write("bin/cp", copy);
    support::run(Command::new("chmod").arg("755").arg(&script));
    fs::write(&hold, "").unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    for (signal, status) in [(Signal::SIGTERM, 0), (Signal::SIGINT, 130)] {
        let mut command = shop.walback(&[]);
        command.env("PATH", &path).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut input = child.stdin.take().unwrap();
        let (lines, until) = match signal {
            Signal::SIGTERM => ("stop-before\nstart\n", "step replay"),
            _ => ("recoveries restored\n", "walback> recoveries restored"),
        };
        input.write_all(lines.as_bytes()).unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut text = String::new();
        while !text.contains(until) {
            assert_ne!(output.read_line(&mut text).unwrap(), 0, "it ended too early:\n{text}");
        }
        kill(Pid::from_raw(child.id().try_into().unwrap()), signal).unwrap();
        output.read_to_string(&mut text).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(status), "{text}");
        assert_is_plain(&text);
        drop(input);
        if signal == Signal::SIGTERM {
            assert!(text.contains("recovery restored goes on replaying"), "{text}");
        }
    }
    fs::remove_file(&hold).unwrap();
    let (text, status) = shop.script(&[], &["recoveries restored", "discard", "restored"]);
    assert_in_order(&text, &["PAUSED AT THE TARGET", "walback> discard", "DISCARDED"]);
    assert_eq!(status, 0, "{text}");
}
