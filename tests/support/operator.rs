//! Somebody who recovers a cluster with the program, and what the recovered server then says.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::Value;

use super::answer::{Answer, Running, ask};
use super::cluster::{Cluster, LIMIT};
use super::history::{History, ROWS};
use super::program::walback;
use super::server::client;
use super::{Directory, run, wait_until};

/// Where the program is run, and on what.
#[derive(Debug)]
pub struct Operator<'a> {
    /// What holds the recoveries, and the operator's home.
    pub directory: &'a Directory,
    /// Where base backups are looked for.
    pub backups: PathBuf,
    /// Where WAL is.
    pub archive: PathBuf,
}

impl<'a> Operator<'a> {
    /// One who works with one backup of a history, or with all where none is named.
    pub fn of(directory: &'a Directory, history: &History, backup: &str) -> Operator<'a> {
        Operator { directory, backups: history.backups.join(backup), archive: history.archive.clone() }
    }

    /// One who works with one backup of a cluster that a test made in this directory, or with all where none is named.
    pub fn of_cluster(directory: &'a Directory, cluster: &Cluster<'_>, backup: &str) -> Operator<'a> {
        let backups = directory.path().join("backups").join(backup);
        Operator { directory, backups, archive: cluster.archive.clone() }
    }

    /// As [`Operator::of`] with copies of the backup and the archive, for a test that changes them.
    #[track_caller]
    pub fn of_copies(directory: &'a Directory, history: &History, backup: &str) -> Operator<'a> {
        let copy = |what: &Path, name: &str| {
            let copy = directory.path().join(name);
            run(Command::new("cp").arg("-a").arg(what).arg(&copy));
            copy
        };
        let backups = copy(&history.backups.join(backup), "the-backup");
        Operator { directory, backups, archive: copy(&history.archive, "the-archive") }
    }

    /// The program with these words after the options that name the source, answering in JSON.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = walback(self.directory);
        command.arg("--json").arg("--backups").arg(&self.backups).arg("--wal").arg(&self.archive).args(words);
        command
    }

    /// Where the recovery `name` goes.
    pub fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `restore … --into DIRECTORY/name --yes`.
    pub fn restore(&self, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(&["restore", "--yes"]);
        command.args(words).arg("--into").arg(self.place(name));
        command
    }

    /// Another command about a recovery, without a source: its journal knows everything.
    pub fn about(&self, words: &[&str]) -> Answer {
        ask(walback(self.directory).arg("--json").args(words))
    }

    /// The recovery as `status` tells it.
    #[track_caller]
    pub fn status(&self, name: &str) -> Value {
        self.about(&["status", name]).ended_with(0).recovery()
    }

    /// The recoveries that the program knows.
    #[track_caller]
    pub fn recoveries(&self) -> Vec<Value> {
        self.about(&["recoveries"]).ended_with(0).json()["recoveries"].as_array().unwrap().clone()
    }

    /// The base backups as `backups` lists them.
    #[track_caller]
    pub fn listed(&self) -> Vec<Value> {
        ask(&mut self.command(&["backups"])).ended_with(0).json()["backups"].as_array().unwrap().clone()
    }

    /// Restores, and checks that it is paused where it was predicted to, with these rows.
    #[track_caller]
    pub fn recovers(&self, name: &str, words: &[&str], expected: &str) -> Value {
        let recovery = ask(&mut self.restore(name, words)).ended_with(0).recovery();
        assert_paused(&recovery, expected);
        recovery
    }

    /// Discards a recovery, and checks that its directory is gone.
    #[track_caller]
    pub fn discards(&self, name: &str) {
        let recovery = self.about(&["discard", name, "--yes"]).ended_with(0).recovery();
        assert_eq!(recovery["state"], "discarded");
        assert!(!self.place(name).exists());
    }

    /// The journal of the recovery of that name.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.directory.path().join("home/state/recoveries").join(name).join("journal.jsonl")
    }
}

/// Panics where a field, `like/this`, has another value.
#[track_caller]
pub fn assert_is(value: &Value, field: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    assert_eq!(value.pointer(&format!("/{field}")), Some(&expected), "{field} in {value:#}");
}

/// Panics where a recovery is not paused where it was predicted to be, or its table `kept` holds other rows.
#[track_caller]
pub fn assert_paused(recovery: &Value, expected: &str) {
    assert_is(recovery, "state", "paused");
    assert_is(recovery, "matches_prediction", true);
    assert_eq!(sql(recovery, ROWS), expected, "{recovery:#}");
    assert_eq!(sql(recovery, "select pg_is_in_recovery(), pg_is_wal_replay_paused()"), "t|t");
    let replayed = sql(recovery, "select pg_last_wal_replay_lsn()");
    assert_is(recovery, "replayed_lsn", replayed.as_str());
    assert_is(recovery, "resolved/replay_end", replayed.as_str());
}

/// The connection string that the program gave, to this database.
#[track_caller]
pub fn connection_to(recovery: &Value, database: &str) -> String {
    let (to, _) = recovery["connection"].as_str().unwrap().rsplit_once(" dbname=").unwrap();
    format!("{to} dbname={database}")
}

/// Asks the recovered server, by the connection string that the program gave, but in the database `postgres`: which one
/// that string opens depends on what was destroyed.
#[track_caller]
pub fn sql(recovery: &Value, query: &str) -> String {
    let connection = connection_to(recovery, "postgres");
    run(client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &connection, "-c", query]))
}

/// The names that `postgresql.auto.conf` sets.
pub fn auto_conf_names(directory: &Path) -> Vec<String> {
    let text = fs::read_to_string(directory.join("postgresql.auto.conf")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| Some(line.split_once(" = ")?.0.to_owned())).collect()
}

/// The process id of the server that runs in a data directory.
#[track_caller]
pub fn postmaster(directory: &Path) -> u32 {
    let file = fs::read_to_string(directory.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// Whether a process is there, and not only waits for its parent to ask for its exit status.
pub fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Whether any process works in a directory or below it.
pub fn is_worked_in(directory: &Path) -> bool {
    let mut processes = fs::read_dir("/proc").unwrap().flatten();
    processes.any(|process| fs::read_link(process.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory)))
}

/// The same command, killed and ended with status 137 where it takes longer than so many seconds.
pub fn within_seconds(limit: u32, command: &Command) -> Command {
    let mut limited = Command::new("timeout");
    limited
        .args(["--foreground", "--signal=KILL", &limit.to_string()])
        .arg(command.get_program())
        .args(command.get_args());
    limited.env_clear().envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    limited.current_dir(command.get_current_dir().unwrap());
    limited
}

/// Has a server wait in the middle of replay, for a segment, until it is let go on: what it runs to copy segments is the
/// `cp` that it finds first.
#[derive(Debug)]
pub struct Gate {
    gate: PathBuf,
    path: String,
}

impl Gate {
    /// Closed, before `segment`.
    #[track_caller]
    pub fn before(directory: &Directory, segment: &str) -> Gate {
        let gate = directory.write("gate", "");
        directory.create("bin");
        let cp = format!(
            "#!/bin/sh\ncase $1 in */{segment})\n  while [ -e {0} ]; do : > {0}.reached; sleep 0.02; done;;\nesac\nPATH=/usr/bin:/bin exec cp \"$@\"\n",
            gate.display()
        );
        let cp = directory.write("bin/cp", cp);
        fs::set_permissions(cp, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        Gate { gate, path: format!("{}/bin:{path}", directory.path().display()) }
    }

    /// The command with this gate before the segments that its server fetches.
    pub fn stands_before(&self, command: &mut Command) {
        command.env("PATH", &self.path);
    }

    /// Waits until a server stands before it.
    #[track_caller]
    pub fn wait_reached(&self) {
        let reached = self.gate.with_extension("reached");
        wait_until("the segment", LIMIT, || reached.exists().then_some(()));
        fs::remove_file(reached).unwrap();
    }

    /// Lets everybody through.
    #[track_caller]
    pub fn open(&self) {
        fs::remove_file(&self.gate).unwrap();
    }
}

/// The recovery `copy`, whose walback was killed while the server waits in the middle of replay, for a segment, until it
/// is let go on.
#[derive(Debug)]
pub struct Abandoned {
    directory: PathBuf,
    gate: Gate,
}

impl Abandoned {
    /// Runs `command`, which shall begin or go on with the recovery and tell its events, and comes back when the server
    /// waits for `segment` and there is no walback any more.
    #[track_caller]
    pub fn begin(operator: &Operator<'_>, mut command: Command, segment: &str) -> Abandoned {
        let gate = Gate::before(operator.directory, segment);
        gate.stands_before(&mut command);
        let mut walback = Running::start(&mut command);
        walback.wait_for("replay", |line| line["state"] == "replaying");
        gate.wait_reached();
        walback.signal(Signal::SIGKILL);
        assert_eq!(walback.wait().0, None);
        Abandoned { directory: operator.place("copy"), gate }
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.directory.join(".walback/server.log")
    }

    /// Adds to the server's log what the server did not say.
    #[track_caller]
    pub fn add_to_log(&self, text: &[u8]) {
        OpenOptions::new().append(true).open(self.log()).unwrap().write_all(text).unwrap();
    }

    /// Lets the server go on, and waits until its log says that it has paused.
    #[track_caller]
    pub fn let_it_pause(&self) {
        let pauses = || {
            let log = fs::read(self.log()).unwrap();
            String::from_utf8_lossy(&log).matches("pausing at the end of recovery").count()
        };
        let before = pauses();
        self.gate.open();
        wait_until("pause in the log", LIMIT, || (pauses() > before).then_some(()));
    }
}
