//! The main job with real servers: every target, every way on from a pause, and what is left behind.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, History, Options, ROWS, Running, Server, Stop, Transaction, as_operator, ask,
    client, rows, run, tree_digest, wait_until, walback,
};
use walback::core::Lsn;

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

const LIMIT: Duration = Duration::from_secs(60);

/// Where the program is run, and on what.
struct Operator<'a> {
    directory: &'a Directory,
    backups: PathBuf,
    archive: PathBuf,
}

impl<'a> Operator<'a> {
    /// One who works on the shared history.
    fn of_history(directory: &'a Directory) -> Operator<'a> {
        Operator { directory, backups: HISTORY.backups.clone(), archive: HISTORY.archive.clone() }
    }

    /// The program with these words after the options that name the source.
    fn command(&self, words: &[&str]) -> Command {
        let mut command = walback(self.directory);
        command.arg("--backups").arg(&self.backups).arg("--wal").arg(&self.archive).args(words);
        command
    }

    fn place(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// `restore … --into DIRECTORY/name --yes`, with JSON.
    fn restore(&self, name: &str, words: &[&str]) -> Command {
        let mut command = self.command(&["--json", "restore"]);
        command.args(words).arg("--into").arg(self.place(name)).arg("--yes");
        command
    }

    /// Another command about a recovery, without a source: its journal knows everything.
    fn about(&self, words: &[&str]) -> Answer {
        ask(walback(self.directory).arg("--json").args(words))
    }

    fn status(&self, name: &str) -> Value {
        self.about(&["status", name]).ended_with(0).recovery()
    }

    /// Restores, and checks that it is paused where it was predicted to, with these rows.
    #[track_caller]
    fn recovers(&self, name: &str, words: &[&str], expected: &str) -> Value {
        let recovery = ask(&mut self.restore(name, words)).ended_with(0).recovery();
        assert_paused(&recovery, expected);
        recovery
    }

    #[track_caller]
    fn discards(&self, name: &str) {
        let recovery = self.about(&["discard", name, "--yes"]).ended_with(0).recovery();
        assert_eq!(recovery["state"], "discarded");
        assert!(!self.place(name).exists());
    }
}

/// Panics where a field, `like/this`, has another value.
#[track_caller]
fn assert_is(value: &Value, field: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    assert_eq!(value.pointer(&format!("/{field}")), Some(&expected), "{field} in {value:#}");
}

#[track_caller]
fn assert_paused(recovery: &Value, expected: &str) {
    assert_is(recovery, "state", "paused");
    assert_is(recovery, "matches_prediction", true);
    assert_eq!(sql(recovery, ROWS), expected, "{recovery:#}");
    assert_eq!(sql(recovery, "select pg_is_in_recovery(), pg_is_wal_replay_paused()"), "t|t");
    let replayed = sql(recovery, "select pg_last_wal_replay_lsn()");
    assert_is(recovery, "replayed_lsn", replayed.as_str());
    assert_is(recovery, "resolved/replay_end", replayed.as_str());
}

/// Asks the recovered server, by the connection string that the program gave.
#[track_caller]
fn sql(recovery: &Value, query: &str) -> String {
    let connection = recovery["connection"].as_str().unwrap();
    run(client("psql").args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", connection, "-c", query]))
}

/// What `postgresql.auto.conf` sets, the last value of each name.
fn auto_conf(directory: &Path) -> Vec<(String, String)> {
    let text = fs::read_to_string(directory.join("postgresql.auto.conf")).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(" = ")).map(|(name, value)| (name.into(), value.into())).collect()
}

fn postmaster(directory: &Path) -> u32 {
    let file = fs::read_to_string(directory.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

fn is_running(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, state)| !state.starts_with(['Z', 'X']))
}

/// Field of `/proc/PID/stat` behind the name: 0 is the state, 3 the session, 4 the terminal (`proc(5)`).
fn stat_field(pid: u32, field: usize) -> i64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.split(' ').nth(field).unwrap().parse().unwrap()
}

fn events<'a>(lines: &'a [Value], event: &str, field: &str) -> Vec<&'a str> {
    lines.iter().filter(|line| line["event"] == event).map(|line| line[field].as_str().unwrap()).collect()
}

/// From a cluster with an archive to a promoted copy that is removed again.
#[track_caller]
fn main_path(major: u16, format: Format, options: &Options) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, options);
    cluster.psql("create table kept (n int); insert into kept select generate_series(1, 3)");
    cluster.base_backup(format, "monday");
    cluster.psql("insert into kept values (4); delete from kept where n = 1");
    let wanted = rows(&cluster);
    cluster.restore_point("before deploy");
    cluster.psql("delete from kept");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let backups = directory.path().join("backups");
    let before = [tree_digest(&backups), tree_digest(&cluster.archive)];

    let operator = Operator { directory: &directory, backups, archive: cluster.archive.clone() };
    let copy = operator.place("copy");
    let mut restore = operator.restore("copy", &["--name", "before deploy"]);
    if major != 15 {
        // They lie where nobody would look for them.
        restore.arg("--bin-dir").arg(&server.bin_dir);
    }
    let answer = ask(restore.arg("--events")).ended_with(0);
    assert_story(&answer.lines());
    let recovery = answer.recovery();
    assert_paused(&recovery, &wanted);
    assert_is(&recovery, "id", "copy");
    assert_is(&recovery, "directory", copy.to_str());
    assert_is(&recovery, "stopped/name", "before deploy");
    assert_isolated(&recovery, &copy);

    let answer = operator.about(&["promote", "copy", "--yes"]).ended_with(0);
    let recovery = answer.recovery();
    assert_is(&recovery, "state", "promoted");
    assert_is(&recovery, "timeline", 2);
    let segment = sql(&recovery, "select pg_is_in_recovery(), pg_walfile_name(pg_current_wal_lsn())");
    assert!(segment.starts_with("f|00000002"), "{segment}");
    sql(&recovery, "insert into kept values (7); select pg_switch_wal(); checkpoint");
    assert_eq!(sql(&recovery, ROWS), format!("{wanted},7"));
    let left =
        auto_conf(&copy).into_iter().find(|(name, _)| name.starts_with("recovery_") || name == "restore_command");
    assert_eq!(left, None, "settings of recovery are left");
    assert!(!copy.join("recovery.signal").exists() && !copy.join("standby.signal").exists());

    let server = postmaster(&copy);
    let stopped = operator.about(&["stop", "copy"]).ended_with(0).recovery();
    assert_eq!(stopped["state"], "shut-down");
    assert!(!is_running(server) && !copy.join("postmaster.pid").exists());
    operator.discards("copy");
    tree_digest(&operator.backups).assert_same_as(&before[0]);
    tree_digest(&operator.archive).assert_same_as(&before[1]);
}

/// The events of a recovery that goes well.
#[track_caller]
fn assert_story(lines: &[Value]) {
    let (last, events_alone) = lines.split_last().unwrap();
    assert!(last["recovery"].is_object() && last["event"].is_null(), "{last:#}");
    for line in events_alone {
        assert!(line["event"].is_string() && line["recovery"] == "copy", "{line:#}");
        assert!(line["at"].as_str().unwrap().ends_with('Z'), "{line:#}");
    }
    assert_eq!(lines[0]["event"], "planned");
    assert_eq!(events(lines, "step-started", "step"), ["unpack", "configure", "start", "replay"]);
    assert_eq!(events(lines, "step-finished", "step"), ["unpack", "configure", "start", "replay"]);
    assert_eq!(events(lines, "state", "state"), ["unpacking", "configured", "replaying", "paused"]);
    let progress: Vec<&Value> = lines.iter().filter(|line| line["event"] == "progress").collect();
    let unpacked = progress.iter().filter(|line| line["step"] == "unpack").map(|line| line["done"].as_u64().unwrap());
    let unpacked: Vec<u64> = unpacked.collect();
    assert!(!unpacked.is_empty() && unpacked.is_sorted(), "{unpacked:?}");
    for line in progress {
        assert_eq!(line["unit"], "bytes");
        assert!(line["done"].as_u64() <= line["total"].as_u64(), "{line:#}");
    }
    assert!(events(lines, "log", "line").iter().any(|line| line.contains("recovery stopping at restore point")));
}

/// The server is nobody's but its own.
#[track_caller]
fn assert_isolated(recovery: &Value, copy: &Path) {
    let ours = fs::metadata("/proc/self").unwrap().uid();
    let owner = fs::metadata(copy).unwrap();
    assert_eq!(owner.mode() & 0o7777, 0o700, "{copy:?}");
    let pid = postmaster(copy);
    assert_eq!(recovery["server_pid"], pid);
    let server = fs::metadata(format!("/proc/{pid}")).unwrap();
    assert_eq!(server.uid(), owner.uid());
    if ours == 0 {
        assert_ne!(server.uid(), 0, "the server runs as root");
        let name = run(Command::new("ps").args(["-o", "user=", "-p", &pid.to_string()]));
        assert_eq!(name.trim(), "postgres");
    }
    let strangers = run(Command::new("find").arg(copy).args(["!", "-uid", &owner.uid().to_string()]));
    assert_eq!(strangers, "", "these belong to somebody else");
    assert_ne!(stat_field(pid, 3), stat_field(std::process::id(), 3), "it is in our session");
    assert_eq!(stat_field(pid, 4), 0, "it has a terminal");
    assert_eq!(sql(recovery, "show listen_addresses") + &sql(recovery, "show archive_mode"), "off");
}

#[test]
fn the_main_path_of_15_from_tar_gz() {
    // The defaults of an initdb that nobody thought about.
    main_path(15, Format::TarGz, &Options::default());
}

#[test]
fn the_main_path_of_13() {
    main_path(13, Format::Tar, &Options { segment_mib: 1, ..Options::default() });
}

#[test]
fn the_main_path_of_14() {
    main_path(14, Format::Plain, &Options { segment_mib: 1, checksums: true, ..Options::default() });
}

#[test]
fn the_main_path_of_16() {
    main_path(16, Format::Tar, &Options { segment_mib: 1, ..Options::default() });
}

#[test]
fn the_main_path_of_17() {
    main_path(17, Format::TarGz, &Options { segment_mib: 1, ..Options::default() });
}

#[test]
fn the_main_path_of_18() {
    main_path(18, Format::Plain, &Options { segment_mib: 1, ..Options::default() });
}

/// Recovers to both sides of the end of a transaction on timeline 1, by each way to name it.
#[track_caller]
fn both_sides(backup: &str, ways: &[&str], named: &str) {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let Transaction { xid, at, lsn, before, after } = HISTORY.transaction(named);
    for way in ways {
        let value = match *way {
            "--xid" => xid,
            "--time" => at,
            _ => lsn,
        };
        let words = [way, value.as_str(), "--timeline", "1", "--backup", backup];
        let kept = operator.recovers("copy", &words, after);
        operator.discards("copy");
        let words = [&words[..], &["--exclusive"]].concat();
        let lost = operator.recovers("copy", &words, before);
        // Inclusive, a time stops before the first transaction that is later.
        assert_is(&kept, "stopped/before", *way == "--time");
        assert_is(&lost, "stopped/before", true);
        if *way != "--lsn" {
            assert_is(&lost, "resolved/xid", xid.parse::<u64>().unwrap());
        }
        operator.discards("copy");
    }
    HISTORY.assert_untouched();
}

#[test]
fn both_sides_of_a_commit_by_xid_and_time() {
    both_sides("tar-none", &["--xid", "--time"], "two");
}

#[test]
fn both_sides_of_a_commit_by_lsn() {
    both_sides("plain-stream", &["--lsn"], "three");
}

#[test]
fn both_sides_of_an_aborted_transaction() {
    both_sides("by-sql", &["--xid"], "aborted");
}

#[test]
fn both_sides_of_a_prepared_transaction() {
    both_sides("plain-none", &["--xid"], "prepared");
}

/// The server looks for what was prepared in the older timeline's file of the segment, which it never asks for.
#[test]
fn a_transaction_that_was_prepared_in_the_segment_of_a_fork() {
    let directory = Directory::new();
    let settings = vec![("max_prepared_transactions", "2".to_owned())];
    let cluster =
        Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, settings, ..Options::default() });
    cluster.psql("create table kept (n int); insert into kept values (1)");
    let backup = cluster.base_backup_without_wal(Format::Plain, "monday");
    let first = cluster.psql("begin; insert into kept values (2); select txid_current(); commit");
    cluster.psql("begin; insert into kept values (4); prepare transaction 'open'");
    cluster.restore_point("fork");
    cluster.switch_and_wait_archived();
    let copy = cluster.promote_copy(&backup, "branch", &[("recovery_target_name", "fork")]);
    // Nothing ends in the segment of the fork behind it.
    copy.switch_and_wait_archived();
    copy.psql("insert into kept values (3)");
    copy.restore_point("on the branch");
    copy.stop(Stop::Fast);
    cluster.stop(Stop::Fast);

    let backups = directory.path().join("backups");
    let operator = Operator { directory: &directory, backups, archive: cluster.archive.clone() };
    operator.recovers("copy", &["--name", "on the branch"], "1,2,3");
    operator.discards("copy");

    // What ended there before the fork is not forgotten either where the segments are known by their summaries.
    let located = ask(&mut operator.command(&["--json", "locate", "--immediate"])).ended_with(0).json();
    assert_is(&located, "resolved/first_lost/xid", first.parse::<u64>().unwrap());
}

#[test]
fn the_record_that_ends_a_backup_can_be_stopped_after() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let backups = ask(&mut operator.command(&["--json", "backups"])).ended_with(0).json();
    let backup = backups["backups"].as_array().unwrap().iter().find(|backup| backup["id"] == "tar-none").unwrap();
    let stop: Lsn = backup["stop_lsn"].as_str().unwrap().parse().unwrap();
    // It takes 40 bytes (`XLOG_BACKUP_END`), and is the last one of the backup.
    let lsn = Lsn(stop.0 - 40).to_string();
    let words = ["--lsn", &lsn, "--backup", "tar-none", "--timeline", "1"];
    let before = ask(&mut operator.restore("copy", &[&words[..], &["--exclusive"]].concat())).ended_with(4);
    assert_eq!(before.json()["error"]["code"], "target-before-backup-end");
    let recovery = operator.recovers("copy", &words, "0");
    assert_is(&recovery, "resolved/lsn", lsn.as_str());
    assert_is(&recovery, "resolved/replay_end", stop.to_string());
    operator.discards("copy");
    HISTORY.assert_untouched();
}

#[test]
fn restore_points_consistency_and_the_end_of_wal() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let first = operator.recovers("copy", &["--name", "first", "--backup", "plain-none"], "0,1");
    assert_is(&first, "stopped/name", "first");
    assert_is(&first, "resolved/stop", "after");
    operator.discards("copy");
    operator.recovers("copy", &["--name", "while prepared", "--timeline", "current", "--backup", "gz"], "0,1,2,22");
    operator.discards("copy");
    let immediate = operator.recovers("copy", &["--immediate", "--backup", "tar-none"], "0");
    assert_is(&immediate, "resolved/stop", "consistency");
    operator.discards("copy");
    let latest = operator.recovers("copy", &["--latest", "--timeline", "1"], "4");
    assert_is(&latest, "resolved/stop", "end-of-wal");
    assert_is(&latest, "timeline", 1);
    operator.discards("copy");
    HISTORY.assert_untouched();
}

#[test]
fn every_timeline_is_followed_where_it_leads() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    for timeline in ["latest", "2"] {
        let recovery = operator.recovers("copy", &["--latest", "--timeline", timeline], &rows_at("on the branch"));
        assert_is(&recovery, "timeline", 2);
        assert_is(&recovery, "resolved/path", vec![1, 2]);
        operator.discards("copy");
    }
    let branch = HISTORY.transaction("branch");
    operator.recovers("copy", &["--xid", &branch.xid, "--exclusive"], &rows_at("fork"));
    operator.discards("copy");

    // What happened on timeline 1 after the fork, timeline 2 does not lead to, and the answer says which one does.
    let lost = ask(&mut operator.restore("copy", &["--name", "trunk"])).ended_with(4);
    let error = &lost.json()["error"];
    assert_eq!(error["code"], "target-not-reached");
    assert!(error["message"].as_str().unwrap().contains("timeline 2"), "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("--timeline 1"), "{error:#}");
    assert!(!operator.place("copy").exists());
    let recovery = operator.recovers("copy", &["--name", "trunk", "--timeline", "1"], &rows_at("trunk"));
    assert_is(&recovery, "timeline", 1);
    HISTORY.assert_untouched();
}

fn rows_at(restore_point: &str) -> String {
    HISTORY.restore_points[restore_point].clone()
}

#[test]
fn a_recovery_goes_on_in_place_and_back_by_unpacking() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let begun = operator.recovers("copy", &["--name", "first", "--timeline", "1"], &rows_at("first"));
    let retarget = |words: &[&str]| {
        // It stays on timeline 1, though there is a newer one.
        let words = [&["retarget", "copy", "--yes"], words].concat();
        operator.about(&words).ended_with(0).recovery()
    };
    let on = retarget(&["--name", "trunk"]);
    assert_paused(&on, &rows_at("trunk"));
    assert_is(&on, "strategy", "in-place");
    let further = retarget(&["--xid", &HISTORY.transaction("accident").xid, "--exclusive"]);
    assert_paused(&further, &HISTORY.transaction("accident").before);
    assert_is(&further, "strategy", "in-place");
    // A prepared transaction ended in between, and its file is gone.
    let back = retarget(&["--time", &HISTORY.transaction("one").at, "--exclusive"]);
    assert_paused(&back, &HISTORY.transaction("one").before);
    assert_is(&back, "strategy", "unpack");
    assert_is(&back, "started_at", begun["started_at"].clone());

    // A stopped one is started again by its next target.
    operator.about(&["stop", "copy"]).ended_with(0);
    let on = retarget(&["--lsn", &HISTORY.transaction("three").lsn]);
    assert_paused(&on, &HISTORY.transaction("three").after);
    assert_is(&on, "strategy", "in-place");
    let over = retarget(&["--latest", "--action", "promote"]);
    assert_is(&over, "state", "promoted");
    assert_is(&over, "matches_prediction", true);
    assert_is(&over, "timeline", 3);
    assert_eq!(sql(&over, ROWS), "4");
    HISTORY.assert_untouched();
}

#[test]
fn what_was_promoted_has_no_other_target() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    operator.recovers("copy", &["--name", "first", "--timeline", "1"], &rows_at("first"));
    let promoted = operator.about(&["promote", "copy", "--yes"]).ended_with(0).recovery();
    sql(&promoted, "insert into kept values (77)");
    let on = ["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"];
    let refused = operator.about(&on).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "no-way-back");
    let told = ask(walback(&directory).args(["stop", "copy"])).ended_with(0);
    assert!(told.out.contains("a cluster of its own now") && !told.out.contains("retarget"), "{}", told.out);
    let refused = operator.about(&on).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "no-way-back", "the rows that it took since would be lost");
    assert!(!operator.place("copy").join("recovery.signal").exists());
    operator.discards("copy");
}

#[test]
fn a_server_shuts_down_or_promotes_at_the_target_where_that_is_asked_for() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let words = ["--name", "trunk", "--timeline", "1"];
    let down = ask(&mut operator.restore("down", &[&words[..], &["--action", "shutdown"]].concat()));
    let down = down.ended_with(0).recovery();
    assert_is(&down, "state", "shut-down");
    assert_is(&down, "matches_prediction", true);
    assert!(!operator.place("down").join("postmaster.pid").exists());
    let state = control_data(&operator.place("down"), "Database cluster state");
    assert_eq!(state, "shut down in recovery");

    let up = ask(&mut operator.restore("up", &[&words[..], &["--action", "promote"]].concat()));
    let up = up.ended_with(0).recovery();
    assert_is(&up, "state", "promoted");
    assert_is(&up, "matches_prediction", true);
    assert_is(&up, "timeline", 3);
    assert_eq!(sql(&up, ROWS), rows_at("trunk"));
    let left = auto_conf(&operator.place("up"));
    assert!(!left.iter().any(|(name, _)| name.starts_with("recovery_target")), "{left:?}");
    HISTORY.assert_untouched();
}

fn control_data(directory: &Path, field: &str) -> String {
    let told = run(Server::v15().command("pg_controldata").arg("-D").arg(directory));
    let line = told.lines().find_map(|line| line.strip_prefix(&format!("{field}:"))).unwrap();
    line.trim().to_owned()
}

#[track_caller]
fn assert_never_promoted(directory: &Path) {
    let log = fs::read_to_string(directory.join(".walback/server.log")).unwrap();
    assert!(!log.contains("ready to accept connections") && !log.contains("selected new timeline"), "{log}");
    assert!(directory.join("recovery.signal").exists());
}

/// A restore whose server waits in the middle of replay, for the segment that has the transaction `three`, until it is
/// let go on: what it runs to copy segments is the `cp` that it finds first.
struct Held {
    walback: Running,
    directory: PathBuf,
    gate: PathBuf,
}

impl Held {
    #[track_caller]
    fn begin(operator: &Operator<'_>, words: &[&str]) -> Held {
        let directory = operator.directory;
        let three: u64 = HISTORY.transaction("three").lsn.parse::<Lsn>().unwrap().0 >> 20;
        let gate = directory.write("gate", "");
        directory.create("bin");
        let cp = directory.write(
            "bin/cp",
            format!(
                "#!/bin/sh\ncase $1 in */{:024X})\n  while [ -e {1} ]; do : > {1}.reached; sleep 0.02; done;;\nesac\nPATH=/usr/bin:/bin exec cp \"$@\"\n",
                (1_u128 << 64) + u128::from(three),
                gate.display()
            ),
        );
        fs::set_permissions(cp, fs::Permissions::from_mode(0o755)).unwrap();
        let path = std::env::var("PATH").unwrap();
        let mut command = operator.restore("copy", &["--timeline", "1", "--events"]);
        command.env("PATH", format!("{}/bin:{path}", directory.path().display()));
        let mut walback = Running::start(command.args(words));
        walback.wait_for("replay", |line| line["step"] == "replay" && line["replayed_lsn"].is_string());
        let held = Held { walback, directory: operator.place("copy"), gate };
        let reached = held.gate.with_extension("reached");
        wait_until("the segment", LIMIT, || reached.exists().then_some(()));
        held
    }
}

#[test]
fn an_archive_that_vanishes_fails_the_recovery_and_promotes_nothing() {
    let directory = Directory::new();
    let archive = directory.path().join("archive");
    run(Command::new("cp").arg("-a").arg(&HISTORY.archive).arg(&archive));
    let operator = Operator { archive: archive.clone(), ..Operator::of_history(&directory) };
    let held = Held::begin(&operator, &["--name", "trunk"]);
    let server = postmaster(&held.directory);
    fs::rename(&archive, directory.path().join("elsewhere")).unwrap();
    fs::remove_file(&held.gate).unwrap();
    let (status, error, lines) = held.walback.wait();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("error: recovery failed: could not restore file"), "{error}");
    assert!(error.contains("000000010000000000"), "the segment is not named: {error}");
    assert!(error.contains("hint: "), "{error}");
    assert_eq!(events(&lines, "state", "state").last(), Some(&"replaying"));
    assert!(lines.iter().any(|line| line["event"] == "failed" && line["code"] == "server-ended"));
    assert_eq!(operator.status("copy")["state"], "failed");
    wait_until("end of the server", LIMIT, || (!is_running(server)).then_some(()));
    assert_never_promoted(&held.directory);
    assert_eq!(control_data(&held.directory, "Database cluster state"), "in archive recovery");
    operator.discards("copy");
}

#[test]
fn an_archive_that_vanishes_before_the_start_fails_the_recovery_too() {
    let directory = Directory::new();
    let archive = directory.path().join("archive");
    run(Command::new("cp").arg("-a").arg(&HISTORY.archive).arg(&archive));
    let operator = Operator { archive: archive.clone(), ..Operator::of_history(&directory) };
    // This backup has WAL of its own, enough to be consistent without any archive.
    let mut command = operator.restore("copy", &["--name", "first", "--backup", "tar-stream"]);
    let mut walback = Running::start(command.arg("--events"));
    walback.wait_for("unpacking", |line| line["event"] == "step-started" && line["step"] == "unpack");
    fs::rename(&archive, directory.path().join("elsewhere")).unwrap();
    let (status, error, _) = walback.wait();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("recovery failed"), "{error}");
    assert_eq!(operator.status("copy")["state"], "failed");
    assert_never_promoted(&operator.place("copy"));
}

#[test]
fn an_interrupt_leaves_the_server_replaying_and_status_finds_it_paused() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let held = Held::begin(&operator, &["--name", "trunk"]);
    let server = postmaster(&held.directory);
    held.walback.signal(Signal::SIGINT);
    let (status, error, _) = held.walback.wait();
    assert_eq!(status, Some(130), "{error}");
    assert!(error.contains("goes on replaying") && error.contains("walback status copy"), "{error}");
    assert!(is_running(server), "the server was taken along");
    assert_eq!(operator.status("copy")["state"], "replaying");
    fs::remove_file(&held.gate).unwrap();
    let recovery = wait_until("pause", LIMIT, || Some(operator.status("copy")).filter(|now| now["state"] == "paused"));
    assert_paused(&recovery, &rows_at("trunk"));
    assert_eq!(postmaster(&held.directory), server);
    operator.about(&["promote", "--yes"]).ended_with(0);
}

#[test]
fn a_killed_walback_is_no_loss() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let held = Held::begin(&operator, &["--name", "trunk"]);
    held.walback.signal(Signal::SIGKILL);
    assert_eq!(held.walback.wait().0, None);
    let now = operator.status("copy");
    assert_is(&now, "state", "replaying");
    assert_is(&now, "stopped", Value::Null);
    fs::remove_file(&held.gate).unwrap();
    // The events that the killed one did not tell come from whoever follows next.
    let followed = operator.about(&["status", "--events"]).ended_with(0);
    assert_eq!(events(&followed.lines(), "state", "state").last(), Some(&"paused"), "{}", followed.shown);
    assert_paused(&followed.recovery(), &rows_at("trunk"));
    assert_paused(&operator.status("copy"), &rows_at("trunk"));
}

#[test]
fn a_long_replay_matches_its_prediction_where_the_server_does_not_wait_to_be_asked() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    for (action, state) in [("shutdown", "shut-down"), ("promote", "promoted")] {
        let held = Held::begin(&operator, &["--name", "trunk", "--action", action]);
        fs::remove_file(&held.gate).unwrap();
        let (status, error, lines) = held.walback.wait();
        assert_eq!(status, Some(0), "{error}");
        let recovery = &lines.last().unwrap()["recovery"];
        assert_is(recovery, "state", state);
        assert_is(recovery, "matches_prediction", true);
        operator.about(&["stop", "copy"]).ended_with(0);
        operator.discards("copy");
    }
}

#[test]
fn an_operator_who_is_not_root_recovers_as_himself() {
    if !nix::unistd::geteuid().is_root() {
        return; // Then every other test is this one.
    }
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    let mut restore = operator.restore("copy", &["--name", "fork", "--backup", "tar-stream"]);
    let recovery = ask(&mut as_operator(restore.arg("--events"))).ended_with(0).recovery();
    assert_paused(&recovery, &rows_at("fork"));
    let mut promote = walback(&directory);
    let promoted = ask(&mut as_operator(promote.args(["--json", "promote", "--yes"]))).ended_with(0).recovery();
    assert_eq!(sql(&promoted, "insert into kept values (8) returning n"), "8");
    for words in [&["--json", "stop"][..], &["--json", "discard", "--yes"]] {
        ask(&mut as_operator(walback(&directory).args(words))).ended_with(0);
    }
    assert!(!operator.place("copy").exists());
}

#[test]
fn what_is_refused_is_no_failure_of_the_recovery() {
    let directory = Directory::new();
    let operator = Operator::of_history(&directory);
    operator.recovers("copy", &["--name", "first", "--timeline", "1"], &rows_at("first"));
    // Somebody stops the server past the program, as a reboot does.
    let server = postmaster(&operator.place("copy"));
    run(Command::new("kill").args(["-INT", &server.to_string()]));
    wait_until("end of the server", LIMIT, || (!is_running(server)).then_some(()));
    let refused = operator.about(&["promote", "copy", "--yes"]).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "server-not-running", "{}", refused.shown);
    assert_is(&operator.status("copy"), "state", "paused");
    let mark = operator.place("copy").join(".walback/recovery.json");
    let elsewhere = directory.path().join("mark");
    fs::rename(&mark, &elsewhere).unwrap();
    let refused = operator.about(&["discard", "copy", "--yes"]).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "not-ours", "{}", refused.shown);
    assert_is(&operator.status("copy"), "state", "paused");
    fs::rename(&elsewhere, &mark).unwrap();
    let on =
        operator.about(&["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"]).ended_with(0).recovery();
    assert_paused(&on, &rows_at("trunk"));
    assert_is(&on, "strategy", "in-place");
}
