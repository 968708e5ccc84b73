//! `walback demo`, from end to end: what it predicts is what happens, the rows are back, and nothing is left.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, User, geteuid};
use serde_json::Value;

use support::{Directory, Server, Tmux, client, describe, run, wait_until, walback};

/// `walback demo ARGUMENT…` with the programs of `server`, its temporary directory in `directory`.
fn demo(directory: &Directory, server: &Server, arguments: &[&str]) -> Command {
    let mut command = walback(directory);
    command.env("TMPDIR", directory.create("tmp")).args(["demo", "--bin-dir"]).arg(&server.bin_dir).args(arguments);
    command
}

#[track_caller]
fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", describe(command, &output));
    String::from_utf8(output.stdout).unwrap()
}

/// What stands behind `name` at the beginning of a line.
#[track_caller]
fn named<'a>(story: &'a str, name: &str) -> &'a str {
    let found = story.lines().find_map(|line| line.trim_start().strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("there is no “{name}” in:\n{story}")).trim()
}

/// The processes that were started with a path at or below `directory` among their words, or work there.
fn processes(directory: &Path) -> Vec<String> {
    let below = |word: &str| Path::new(word).starts_with(directory);
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let words = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let words = String::from_utf8_lossy(&words).into_owned();
        let works_there = fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory));
        if works_there || words.split('\0').any(below) {
            found.push(words.replace('\0', " "));
        }
    }
    found
}

#[track_caller]
fn assert_nothing_left(directory: &Path) {
    assert!(!directory.exists(), "{} is still there", directory.display());
    assert_eq!(processes(directory), Vec::<String>::new());
}

fn recovers(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let story = succeed(&mut demo(&directory, &server, &["--auto"]));

    assert!(story.starts_with(&format!("A real PostgreSQL {major} cluster")), "{story}");
    let predicted = named(&story, "predicted").strip_prefix("stops ").unwrap();
    assert!(predicted.starts_with("before transaction "), "{story}");
    assert_eq!(named(&story, "happened"), format!("PostgreSQL stopped {predicted}"), "{story}");
    assert!(story.contains("\n             as predicted\n"), "{story}");
    for (table, lost) in [("customers", true), ("order_items", true), ("products", false)] {
        let rows = named(&story, table).replace("no table", "none");
        let rows: Vec<&str> = rows.split_whitespace().collect();
        let [before, after, recovered] = rows[..] else { panic!("{story}") };
        assert_eq!((before == recovered, before != after), (true, lost), "{table}\n{story}");
    }
    assert_eq!(named(&story, "timeline"), "3, and it takes writes", "{story}");
    assert!(story.lines().all(|line| line.chars().count() <= 80), "{story}");
    assert_nothing_left(Path::new(named(&story, "where")));
    assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
}

#[test]
fn a_cluster_of_13_is_recovered() {
    recovers(13);
}

#[test]
fn a_cluster_of_14_is_recovered() {
    recovers(14);
}

#[test]
fn a_cluster_of_15_is_recovered() {
    recovers(15);
}

#[test]
fn a_cluster_of_16_is_recovered() {
    recovers(16);
}

#[test]
fn a_cluster_of_17_is_recovered() {
    recovers(17);
}

#[test]
fn a_cluster_of_18_is_recovered() {
    recovers(18);
}

#[test]
fn an_ordinary_user_can_do_all_of_it() {
    let directory = Directory::new();
    let mut command = demo(&directory, &Server::v15(), &["--auto"]);
    if geteuid().is_root() {
        let user = User::from_name("postgres").unwrap().unwrap();
        command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
    }
    let story = succeed(&mut command);
    assert!(story.contains("as predicted") && story.contains("takes writes"), "{story}");
    assert_nothing_left(Path::new(named(&story, "where")));
}

#[test]
fn what_is_made_in_a_directory_stays_and_can_be_opened_again() {
    let directory = Directory::new();
    let place = directory.path().join("shop");
    let mut command = demo(&directory, &Server::v15(), &["--json", "--auto", "--into"]);
    let document: Value = serde_json::from_str(&succeed(command.arg(&place))).unwrap();
    let demo = &document["demo"];
    let story: Value = serde_json::from_slice(&fs::read(place.join("story.json")).unwrap()).unwrap();
    assert_eq!(demo["story"], story);

    // What was found in WAL is what the server itself says about its transaction.
    let delete = &story["accident"][0];
    assert_eq!(delete["sql"], "DELETE FROM order_items");
    for what in ["predicted", "happened"] {
        assert_eq!((&demo[what]["xid"], &demo[what]["at"]), (&delete["xid"], &delete["at"]), "{what}");
    }
    assert_eq!((&demo["matches_prediction"], &demo["misleading_timeline"]), (&true.into(), &2.into()));
    let recovered = demo["rows"].as_array().unwrap().iter().map(|rows| (&rows["before"], &rows["recovered"]));
    assert!(recovered.clone().count() == 4 && recovered.clone().all(|(before, recovered)| before == recovered));
    assert_eq!(demo["promoted"]["leftovers"], Value::Array(Vec::new()));

    assert!(place.join("archive/00000002.history").is_file());
    let backup = place.join("backups").join(story["backup"].as_str().unwrap());
    assert!(backup.join("base.tar.gz").is_file());
    assert!(!place.join("test-restore").exists() && !place.join("primary/postmaster.pid").exists());

    let opened = |words: &[&str]| {
        let mut command = walback(&directory);
        command.env("WALBACK_STATE_DIR", place.join("state")).arg("--config").arg(place.join("walback.yaml"));
        command.arg("--json").args(words);
        serde_json::from_str::<Value>(&succeed(&mut command)).unwrap()
    };
    assert_eq!(opened(&["timelines"])["timelines"].as_array().unwrap().len(), 2);
    assert_eq!(opened(&["backups"])["backups"][0]["problems"], Value::Array(Vec::new()));
    let recovery = &opened(&["status"])["recovery"];
    assert_eq!((&recovery["state"], &recovery["timeline"]), (&"promoted".into(), &3.into()));

    let connection = recovery["connection"].as_str().unwrap().replace("dbname=postgres", "dbname=shop");
    let ask = |sql: &str| run(client("psql").args(["-XAtq", "-c", sql, &connection]));
    assert_eq!(ask("select count(*) > 7000, pg_is_in_recovery() from order_items"), "t|f");
    assert_eq!(opened(&["stop", "recovery"])["recovery"]["state"], "shut-down");
    assert_eq!(processes(&place), Vec::<String>::new());

    let refused = command.output().unwrap();
    assert_eq!(refused.status.code(), Some(1), "{}", describe(&command, &refused));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("the directory is not empty"));
}

#[test]
fn the_interface_opens_on_it_and_everything_goes_when_it_ends() {
    let directory = Directory::new();
    let limit = Duration::from_secs(60);
    let terminal = Tmux::start(&directory, &demo(&directory, &Server::v15(), &[]), 80, 24);
    let told = terminal.wait_for("where ", limit);
    let place = PathBuf::from(named(&told, "where"));
    terminal.wait_for_screen("both acts of the accident", limit, |screen| screen.contains("2 suspects"));
    assert!(place.join("walback.yaml").is_file());
    terminal.send(&["q"]);
    assert_eq!(terminal.wait_for_exit(limit), 0);
    assert_nothing_left(&place);
}

/// Starts the demonstration, waits for `line` and for a server that runs, and gives where it takes place.
fn begin(command: &mut Command, line: &str) -> (Child, BufReader<ChildStdout>, PathBuf) {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(child.stdout.take().unwrap());
    let mut story = String::new();
    while !story.contains(line) {
        assert!(told.read_line(&mut story).unwrap() > 0, "it ended: {story}");
    }
    let place = PathBuf::from(named(&story, "where"));
    wait_until("server", Duration::from_secs(60), || {
        processes(&place).iter().any(|words| words.contains("-D")).then_some(())
    });
    (child, told, place)
}

fn interrupted(line: &str) {
    let directory = Directory::new();
    let mut command = demo(&directory, &Server::v15(), &["--auto"]);
    let (child, told, place) = begin(&mut command, line);
    kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", describe(&command, &output));
    assert!(!place.exists(), "{}", describe(&command, &output));
    assert_nothing_left(&place);
    drop(told);
}

#[test]
fn interrupted_in_its_story_it_leaves_nothing() {
    interrupted("restore point");
}

#[test]
fn interrupted_in_its_recovery_it_leaves_nothing() {
    interrupted("keeps");
}

#[test]
fn a_reader_that_goes_away_leaves_nothing() {
    let directory = Directory::new();
    let mut command = demo(&directory, &Server::v15(), &["--auto"]);
    let (child, told, place) = begin(&mut command, "archives its WAL");
    drop(told);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), &b""[..]));
    assert_nothing_left(&place);
}

#[track_caller]
fn fails(command: &mut Command) -> (Output, String) {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", describe(command, &output));
    let said = String::from_utf8(output.stderr.clone()).unwrap();
    (output, said)
}

#[test]
fn where_there_is_no_server_one_line_says_what_to_install() {
    let directory = Directory::new();
    let (output, said) = fails(walback(&directory).args(["demo", "--auto", "--bin-dir", "/nonexistent"]));
    assert_eq!((output.stdout.len(), said.lines().count()), (0, 1), "{said}");
    assert!(said.contains("/nonexistent") && said.contains("apt-get install postgresql"), "{said}");
}

#[test]
fn without_a_terminal_nothing_is_made() {
    let directory = Directory::new();
    let (_, said) = fails(&mut demo(&directory, &Server::v15(), &[]));
    assert!(said.contains("walback demo --auto"), "{said}");
    assert_eq!(fs::read_dir(directory.path().join("tmp")).unwrap().count(), 0);
}
