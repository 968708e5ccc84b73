//! Faults made for real, each with a right and readable end, and a way on from there.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};
use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, Gate, History, LIMIT, Moment, Operator, Options, Running, Server, Stop, Tmux,
    ask, assert_is, assert_paused, client, is_running, is_worked_in, postmaster, run, run_and_kill, wait_until,
    walback, within_seconds,
};
use walback::core::Lsn;

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

fn rows_at(restore_point: &str) -> &'static str {
    &HISTORY.restore_points[restore_point]
}

fn segment_of(transaction: &str) -> String {
    let number = HISTORY.transaction(transaction).lsn.parse::<Lsn>().unwrap().0 >> 20;
    format!("{:08X}{:08X}{:08X}", 1, number >> 12, number & 0xFFF)
}

/// A small file system in memory, for as long as this lives.
struct Small(PathBuf);

impl Small {
    /// `None` where that takes rights that we do not have.
    fn mount(directory: &Directory, options: &str) -> Option<Small> {
        if !geteuid().is_root() {
            eprintln!("SKIPPED: only root can mount a small file system");
            return None;
        }
        let place = directory.create("small");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", options, "walback-test"]).arg(&place).status();
        if !mounted.is_ok_and(|status| status.success()) {
            eprintln!("SKIPPED: a small file system cannot be mounted here");
            return None;
        }
        fs::set_permissions(&place, fs::Permissions::from_mode(0o755)).unwrap();
        Some(Small(place))
    }

    fn remount(&self, options: &str) {
        run(Command::new("mount").args(["-o", &format!("remount,{options}")]).arg(&self.0));
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// The recovery `copy` whose server waits before the segment of the transaction `three`, and the walback that follows it.
struct Held {
    walback: Running,
    gate: Gate,
}

impl Held {
    #[track_caller]
    fn begin(operator: &Operator<'_>, into: &Path) -> Held {
        let gate = Gate::before(operator.directory, &segment_of("three"));
        let mut command = operator.command(&["restore", "--yes", "--events", "--name", "trunk", "--timeline", "1"]);
        gate.stands_before(command.arg("--into").arg(into));
        let mut walback = Running::start(&mut command);
        walback.wait_for("replay", |line| line["state"] == "replaying");
        gate.wait_reached();
        Held { walback, gate }
    }
}

#[track_caller]
fn never_promoted(copy: &Path) {
    let log = fs::read(copy.join(".walback/server.log")).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(!log.contains("ready to accept connections") && !log.contains("selected new timeline"), "{log}");
    assert!(copy.join("recovery.signal").exists());
}

/// It failed with these words, as everybody is told; and goes on to the target once the cause is mended.
#[track_caller]
fn failed_with(operator: &Operator<'_>, words: &[&str]) {
    let status = ask(walback(operator.directory).args(["status", "copy"])).ended_with(0);
    for word in words {
        assert!(status.out.contains(word), "no {word:?} in\n{}", status.out);
    }
    assert!(status.out.contains("walback resume copy"), "{}", status.out);
    assert_is(&operator.status("copy"), "state", "failed");
}

#[track_caller]
fn resumes(operator: &Operator<'_>, restore_point: &str) -> Value {
    let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
    assert_paused(&recovery, rows_at(restore_point));
    recovery
}

#[test]
fn a_disk_that_is_full_while_unpacking() {
    let directory = Directory::new();
    // There is room for the bytes, and not for so many files: no plan could know.
    let Some(small) = Small::mount(&directory, "size=1g,nr_inodes=400") else { return };
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = small.0.join("copy");
    let restore = |operator: &Operator<'_>| {
        let mut command = operator.command(&["restore", "--yes", "--name", "first", "--timeline", "1"]);
        ask(command.arg("--into").arg(&copy))
    };
    let answer = restore(&operator).ended_with(1);
    assert!(
        answer.err.contains("No space left on device") && answer.err.contains("file system is full"),
        "{}",
        answer.err
    );
    assert!(answer.err.contains("what was unpacked so far was removed again"), "{}", answer.err);
    assert!(!copy.exists());
    failed_with(&operator, &["No space left on device"]);
    small.remount("nr_inodes=20000");
    resumes(&operator, "first");
    operator.about(&["discard", "copy", "--yes"]).ended_with(0);
    assert!(!copy.exists());
    HISTORY.assert_untouched();
}

#[test]
fn a_disk_that_is_full_while_replaying() {
    let directory = Directory::new();
    let Some(small) = Small::mount(&directory, "size=1g") else { return };
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = small.0.join("copy");
    let held = Held::begin(&operator, &copy);
    let filler = small.0.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[7; 1 << 16]).is_ok() {}
    while file.write_all(&[7]).is_ok() {}
    // Removed later, it has to be gone.
    drop(file);
    held.gate.open();
    let (status, error, _) = held.walback.wait();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("error: recovery failed") && error.contains("hint: "), "{error}");
    never_promoted(&copy);
    fs::remove_file(&filler).unwrap();
    failed_with(&operator, &["recovery failed"]);
    resumes(&operator, "trunk");
    operator.about(&["discard", "copy", "--yes"]).ended_with(0);
    HISTORY.assert_untouched();
}

#[test]
fn a_segment_that_is_missing_or_damaged_in_the_middle_and_an_archive_that_cannot_be_read() {
    type Fault = fn(&Path, &Path);
    let faults: [(Fault, &[&str]); 3] = [
        (|segment, _| fs::remove_file(segment).unwrap(), &["could not restore file"]),
        (|segment, _| fs::write(segment, vec![7; 1 << 20]).unwrap(), &["ended before", "invalid magic number"]),
        (
            |_, archive| fs::set_permissions(archive, fs::Permissions::from_mode(0o000)).unwrap(),
            &["could not restore file"],
        ),
    ];
    for (fault, words) in faults {
        let directory = Directory::in_memory();
        let operator = Operator::of_copies(&directory, &HISTORY, "tar-stream");
        let held = Held::begin(&operator, &operator.place("copy"));
        let segment = operator.archive.join(segment_of("three"));
        let whole = fs::read(&segment).unwrap();
        fault(&segment, &operator.archive);
        held.gate.open();
        let (status, error, _) = held.walback.wait();
        assert_eq!(status, Some(1), "{error}");
        never_promoted(&operator.place("copy"));
        failed_with(&operator, words);
        fs::set_permissions(&operator.archive, fs::Permissions::from_mode(0o700)).unwrap();
        fs::write(&segment, whole).unwrap();
        run(Command::new("chown").arg("--reference").arg(&operator.archive).arg(&segment));
        resumes(&operator, "trunk");
        operator.discards("copy");
    }
}

fn startup_of(server: u32) -> u32 {
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    let is_startup = |child: &&str| {
        fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|title| title.contains("startup"))
    };
    children.split_whitespace().find(is_startup).unwrap().parse().unwrap()
}

fn kill_process(pid: u32) {
    kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL).unwrap();
}

/// Kills the server and all its processes as the end of a machine does: nobody of them sees another one go.
fn kill_whole(server: u32) {
    // Stopped first, so that it neither ends its children nor starts others when one of them dies.
    kill(Pid::from_raw(server.cast_signed()), Signal::SIGSTOP).unwrap();
    let children = fs::read_to_string(format!("/proc/{server}/task/{server}/children")).unwrap();
    for child in children.split_whitespace() {
        // The session that asked for the checkpoint may just be ending by itself.
        let gone = kill(Pid::from_raw(child.parse().unwrap()), Signal::SIGKILL);
        assert!(matches!(gone, Ok(()) | Err(Errno::ESRCH)), "{gone:?}");
    }
    kill_process(server);
}

#[test]
fn a_server_that_is_killed() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = operator.place("copy");
    let held = Held::begin(&operator, &copy);
    kill_process(postmaster(&copy));
    let (status, error, _) = held.walback.wait();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("it ended without a word"), "{error}");
    failed_with(&operator, &["the server was killed"]);
    // What it left behind waits for the segment: no second server is started beside it.
    held.gate.open();
    resumes(&operator, "trunk");

    // Killed while it is paused: nobody was there to see it.
    kill_process(postmaster(&copy));
    wait_until("end of what it left", LIMIT, || (!is_worked_in(&copy)).then_some(()));
    let status = operator.status("copy");
    assert_is(&status, "state", "paused");
    assert!(status["interrupted"].as_str().unwrap().contains("no server runs"), "{status:#}");
    resumes(&operator, "trunk");

    // One of its processes is killed: it starts over by itself, and comes to the same stop.
    let backend: u32 = run(client("psql")
        .args(["-XAtq", "-d", status["connection"].as_str().unwrap()])
        .args(["-c", "select pid from pg_stat_activity where backend_type = 'background writer'"]))
    .parse()
    .unwrap();
    let server = postmaster(&copy);
    kill_process(backend);
    let again = || {
        let log = fs::read_to_string(copy.join(".walback/server.log")).unwrap();
        let (_, rest) = log.rsplit_once("reinitializing")?;
        rest.contains("pausing at the end of recovery").then_some(())
    };
    wait_until("second pause", LIMIT, again);
    assert_eq!(postmaster(&copy), server);
    assert_paused(&operator.status("copy"), rows_at("trunk"));

    // The one that replays is killed, and takes the server along.
    let pause = startup_of(server);
    kill_process(pause);
    wait_until("end of the server", LIMIT, || (!is_running(server)).then_some(()));
    resumes(&operator, "trunk");
    operator.discards("copy");
}

/// What a restart of the machine does: the server is gone in the middle of its pause, which a restartpoint has moved on.
/// Started again, it comes to the same stop, or it is said that it would not.
#[test]
fn a_machine_that_is_restarted() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = operator.place("copy");
    let three = HISTORY.transaction("three");
    for (words, expected) in [(&["--immediate"][..], "0"), (&["--latest"], "4"), (&["--lsn", &three.lsn], &three.after)]
    {
        let begun = operator.recovers("copy", &[words, &["--timeline", "1"]].concat(), expected);
        run(client("psql").args(["-XAtq", "-d", begun["connection"].as_str().unwrap(), "-c", "checkpoint"]));
        kill_whole(postmaster(&copy));
        let resumed = operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_paused(&resumed, expected);
        // In order, too: then it is consistent nowhere but here.
        operator.about(&["stop", "copy"]).ended_with(0);
        let resumed = operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_paused(&resumed, expected);
        assert_eq!(resumed["replayed_lsn"], begun["replayed_lsn"]);
        operator.discards("copy");
    }
}

#[test]
fn the_process_that_replays_is_killed() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = operator.place("copy");
    let held = Held::begin(&operator, &copy);
    kill_process(startup_of(postmaster(&copy)));
    held.gate.open();
    let (status, error, _) = held.walback.wait();
    assert_eq!(status, Some(1), "{error}");
    assert!(error.contains("startup process (PID") && error.contains("was terminated by signal 9"), "{error}");
    never_promoted(&copy);
    failed_with(&operator, &["was terminated by signal 9"]);
    resumes(&operator, "trunk");
    operator.discards("copy");
}

#[test]
fn a_server_that_does_not_start() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = operator.place("copy");
    // A value that only its start refuses.
    let words = ["--name", "first", "--timeline", "1", "--set", "shared_buffers=4TB"];
    let answer = ask(&mut operator.restore("copy", &words)).ended_with(1);
    assert!(answer.err.contains("caused by: log: ") && answer.err.contains("hint: "), "{}", answer.err);
    failed_with(&operator, &["recovery failed"]);
    let again = operator.about(&["resume", "copy"]).ended_with(1);
    assert!(again.err.contains("recovery failed"), "the same, tried again: {}", again.err);
    operator.discards("copy");

    // A file that it may not read.
    operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    operator.about(&["stop", "copy"]).ended_with(0);
    let file = copy.join("pg_xact/0000");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o000)).unwrap();
    let answer = operator.about(&["resume", "copy"]).ended_with(1);
    assert!(answer.err.contains("ermission denied") && answer.err.contains("pg_xact/0000"), "{}", answer.err);
    failed_with(&operator, &["ermission denied"]);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    resumes(&operator, "first");

    // Its socket is somebody else's: another server of that port, in the directory that is named after the recovery.
    operator.about(&["stop", "copy"]).ended_with(0);
    let socket = copy.join(".walback/socket");
    fs::remove_dir_all(&socket).unwrap();
    fs::write(&socket, "").unwrap();
    let answer = operator.about(&["resume", "copy"]).ended_with(1);
    assert_is(&answer.json(), "error/code", "not-a-directory");
    fs::remove_file(&socket).unwrap();
    resumes(&operator, "first");
    operator.discards("copy");
}

/// The library that tells programs another time, where it is installed.
fn faketime() -> Option<PathBuf> {
    let places = ["/usr/lib/x86_64-linux-gnu/faketime", "/usr/lib64/faketime", "/usr/lib/faketime"];
    places.into_iter().map(|place| Path::new(place).join("libfaketime.so.1")).find(|library| library.exists())
}

/// Has a command, and every server that it starts, live in a time that is so many days away. What measures time that
/// passes goes on as it did.
fn days_away(days: i64, library: &Path, command: &mut Command) -> Command {
    command.env("LD_PRELOAD", library).env("FAKETIME", format!("{days:+}d")).env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    within_seconds(60, command)
}

#[test]
fn a_clock_that_jumps() {
    let Some(library) = faketime() else {
        eprintln!("SKIPPED: there is no libfaketime");
        return;
    };
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let about = |days: i64, words: &[&str]| -> Answer {
        ask(&mut days_away(days, &library, walback(&directory).arg("--json").args(words)))
    };
    let mut restore = operator.restore("copy", &["--name", "first", "--timeline", "1"]);
    assert_paused(&ask(&mut days_away(400, &library, &mut restore)).ended_with(0).recovery(), rows_at("first"));
    // Back by more than the recovery is old, its server's clock too.
    let on = ["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"];
    assert_paused(&about(-800, &on).ended_with(0).recovery(), rows_at("trunk"));
    assert_paused(&about(0, &["status", "copy"]).ended_with(0).recovery(), rows_at("trunk"));
    kill_process(postmaster(&operator.place("copy")));
    assert_paused(&about(3000, &["resume", "copy"]).ended_with(0).recovery(), rows_at("trunk"));
    let promoted = about(-3000, &["promote", "copy", "--yes"]).ended_with(0).recovery();
    assert_is(&promoted, "state", "promoted");
    assert_is(&promoted, "matches_prediction", true);
    about(0, &["stop", "copy"]).ended_with(0);
    operator.discards("copy");
}

#[test]
fn a_second_walback_is_told_who_the_first_is() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let held = Held::begin(&operator, &operator.place("copy"));
    let server = postmaster(&operator.place("copy"));
    let pid = operator.status("copy")["held_by"]["pid"].as_u64().unwrap();
    for words in
        [&["resume", "copy"][..], &["stop", "copy"], &["discard", "copy", "--yes"], &["promote", "copy", "--yes"]]
    {
        let refused = operator.about(words).ended_with(1);
        assert_is(&refused.json(), "error/code", "recovery-busy");
        let named = format!("process {pid} of ");
        assert!(refused.err.contains(&named) && refused.err.contains("walback restore"), "{}", refused.err);
        assert!(is_running(server), "{words:?} touched the server");
    }
    // The text of one that was killed holds nobody up.
    held.walback.signal(Signal::SIGKILL);
    assert_eq!(held.walback.wait().0, None);
    assert_is(&operator.status("copy"), "held_by", Value::Null);
    held.gate.open();
    resumes(&operator, "trunk");
    assert_eq!(postmaster(&operator.place("copy")), server);
    operator.discards("copy");
}

#[test]
fn a_terminal_that_is_gone() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let gate = Gate::before(&directory, &segment_of("three"));
    let mut command = operator.restore("copy", &["--name", "trunk", "--timeline", "1"]);
    gate.stands_before(&mut command);
    let terminal = Tmux::start(&directory, &command, 100, 30);
    gate.wait_reached();
    let (walback, server) = (terminal.pid(), postmaster(&operator.place("copy")));
    drop(terminal);
    // It is told that the terminal is gone, and works on without one.
    assert!(is_running(server), "the server was taken along");
    gate.open();
    let paused =
        wait_until("pause", LIMIT, || Some(operator.status("copy")).filter(|recovery| recovery["state"] == "paused"));
    assert_paused(&paused, rows_at("trunk"));
    wait_until("end of walback", LIMIT, || (!is_running(walback)).then_some(()));
    assert_eq!(postmaster(&operator.place("copy")), server);
    operator.discards("copy");
}

/// Killed while it unpacked, the recovery is offered by the next walback, which says what became of it and goes on.
#[test]
fn the_interface_takes_up_what_was_interrupted() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let restore = operator.restore("copy", &["--name", "first", "--timeline", "1"]);
    let moment = Moment { line: 4, act: 500 };
    let killed = run_and_kill(&restore, &operator.journal("copy"), moment, &directory.path().join("said"));
    assert_eq!(killed.killed.map(|(moment, _)| moment), Some(moment), "{}", killed.said);
    let told = ask(walback(&directory).args(["status", "copy"])).ended_with(0);
    assert!(told.out.contains("nobody works on it") && told.out.contains("walback resume copy"), "{}", told.out);

    let mut command = walback(&directory);
    command.arg("--backups").arg(&operator.backups).arg("--wal").arg(&operator.archive);
    let terminal = Tmux::start(&directory, &command, 110, 40);
    terminal.wait_for("copy  unpacking", LIMIT);
    terminal.send(&["Enter"]);
    let screen = terminal.wait_for("INTERRUPTED, AND NOBODY WORKS ON IT", LIMIT);
    assert!(screen.contains("u resume") && screen.contains("no server runs"), "{screen}");
    terminal.send(&["u"]);
    terminal.wait_for("Go on with it?", LIMIT);
    terminal.send(&["y"]);
    terminal.wait_for("PAUSED AT THE TARGET", LIMIT);
    assert_paused(&operator.status("copy"), rows_at("first"));
    terminal.send(&["q"]);
    terminal.wait_for_exit(LIMIT);
    operator.discards("copy");
}

#[test]
fn a_pause_by_hand_is_no_end() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let held = Held::begin(&operator, &operator.place("copy"));
    let mut walback_at_work = held.walback;
    let connection = operator.status("copy")["connection"].as_str().unwrap().to_owned();
    let ask_server = |query: &str| run(client("psql").args(["-XAtq", "-d", &connection, "-c", query]));
    wait_until("connection", LIMIT, || {
        let mut psql = client("psql");
        let answers = psql.args(["-XAtq", "-d", &connection, "-c", "select 1"]).stderr(Stdio::null()).status();
        answers.is_ok_and(|status| status.success()).then_some(())
    });
    ask_server("select pg_wal_replay_pause()");
    held.gate.open();
    let found = walback_at_work.wait_for("a finding", |line| line["event"] == "finding");
    assert_is(&found, "code", "paused-on-the-way");
    walback_at_work.wait_for("what it waits for", |line| line["waits_for"] == "resume");
    assert_is(&operator.status("copy"), "state", "replaying");
    ask_server("select pg_wal_replay_resume()");
    let (status, error, lines) = walback_at_work.wait();
    assert_eq!(status, Some(0), "{error}");
    assert_paused(&lines.last().unwrap()["recovery"], rows_at("trunk"));
    // Resuming as it was said then would promote now.
    assert_is(&lines.last().unwrap()["recovery"], "findings", serde_json::json!([]));
    operator.discards("copy");
}

#[test]
fn a_query_in_the_way_is_named() {
    let directory = Directory::in_memory();
    let options = Options { segment_mib: 1, ..Options::default() };
    let cluster = Cluster::create(&directory, &Server::v15(), &options);
    cluster.psql("create table kept (n int); insert into kept values (1)");
    cluster.base_backup(Format::Tar, "monday");
    cluster.psql("insert into kept values (2)");
    cluster.switch_and_wait_archived();
    cluster.psql("truncate kept; insert into kept values (3)");
    cluster.restore_point("wanted");
    let truncated = cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let backups = directory.path().join("backups");
    let operator = Operator { directory: &directory, backups, archive: cluster.archive.clone() };
    let gate = Gate::before(&directory, &truncated);
    let mut command = operator.restore("copy", &["--name", "wanted", "--events"]);
    gate.stands_before(&mut command);
    let mut walback = Running::start(&mut command);
    walback.wait_for("an answer", |line| line["replayed_lsn"].is_string());
    gate.wait_reached();
    let status = operator.status("copy");
    let mut psql = client("psql");
    psql.args(["-XAtq", "-d", status["connection"].as_str().unwrap()]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut reader = psql.spawn().unwrap();
    let mut input = reader.stdin.take().unwrap();
    input.write_all(b"begin; select count(*) from kept;\n").unwrap();
    let mut answer = [0];
    reader.stdout.as_mut().unwrap().read_exact(&mut answer).unwrap();
    gate.open();
    let waits = walback.wait_for("what it waits for", |line| line["waits_for"] == "query");
    assert!(waits["doing"].as_str().unwrap().contains("query"), "{waits}");
    assert_eq!(waits["eta_s"], Value::Null, "nobody knows how long that takes");
    drop(input);
    reader.wait().unwrap();
    let (status, error, lines) = walback.wait();
    assert_eq!(status, Some(0), "{error}");
    assert_paused(&lines.last().unwrap()["recovery"], "3");
    operator.discards("copy");
}

#[test]
fn a_journal_that_cannot_be_written() {
    let directory = Directory::in_memory();
    let Some(small) = Small::mount(&directory, "size=1m") else { return };
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let asked = |command: &mut Command| ask(command.env("WALBACK_STATE_DIR", &small.0));
    let mut restore = operator.restore("copy", &["--name", "first", "--timeline", "1"]);
    assert_paused(&asked(&mut restore).ended_with(0).recovery(), rows_at("first"));
    let server = postmaster(&operator.place("copy"));
    // Empty lines, so that no other one fits into the page that it has.
    let journal = small.0.join("recoveries/copy/journal.jsonl");
    let room = 4096 - fs::metadata(&journal).unwrap().len() % 4096;
    let mut file = OpenOptions::new().append(true).open(&journal).unwrap();
    file.write_all("\n".repeat(usize::try_from(room).unwrap()).as_bytes()).unwrap();
    let filler = small.0.join("filler");
    let mut file = File::create(&filler).unwrap();
    while file.write_all(&[7; 1024]).is_ok() {}
    drop(file);
    // What cannot be announced is not done.
    for words in [&["stop", "copy"][..], &["discard", "copy", "--yes"], &["promote", "copy", "--yes"]] {
        let refused = asked(walback(&directory).arg("--json").args(words)).ended_with(1);
        assert_is(&refused.json(), "error/code", "journal-unwritable");
        assert!(refused.err.contains("is the disk full?"), "{}", refused.err);
        assert!(is_running(server), "{words:?}");
        assert!(operator.place("copy").join("recovery.signal").exists(), "{words:?}");
    }
    fs::remove_file(&filler).unwrap();
    let discarded = asked(walback(&directory).args(["--json", "discard", "copy", "--yes"])).ended_with(0);
    assert_is(&discarded.recovery(), "state", "discarded");
}

#[test]
fn a_journal_of_a_newer_walback_is_shown_and_not_gone_on_with() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    let journal = operator.journal("copy");
    let whole = fs::read_to_string(&journal).unwrap();
    let add = |line: &str| OpenOptions::new().append(true).open(&journal).unwrap().write_all(line.as_bytes()).unwrap();
    add("{\"at\":\"2026-11-21T17:00:00Z\",\"recovery\":\"copy\",\"event\":\"frozen\",\"how\":\"deep\"}\n");
    for words in [&["resume", "copy"][..], &["promote", "copy", "--yes"], &["discard", "copy", "--yes"]] {
        let refused = operator.about(words).ended_with(1);
        assert_is(&refused.json(), "error/code", "journal-newer");
    }
    assert_is(&operator.recoveries()[0], "state", "paused");
    fs::write(&journal, &whole).unwrap();
    add("{\"at\":\"2026-11-21T17:00:00Z\",\"recovery\":\"copy\",\"event\":\"state\",\"state\":\"frozen\"}\n");
    assert_is(&operator.about(&["status", "copy"]).ended_with(1).json(), "error/code", "journal-newer");
    fs::write(&journal, &whole).unwrap();
    operator.discards("copy");
}

const LIMITS: [&str; 5] = [
    "max_connections",
    "max_wal_senders",
    "max_worker_processes",
    "max_prepared_transactions",
    "max_locks_per_transaction",
];

/// A cluster whose backup was taken with one set of limits, and that was restarted with a higher one afterwards. Its only
/// backup is plain, so that a test can change its configuration.
#[track_caller]
fn raised<'a>(directory: &'a Directory, server: &Server) -> Operator<'a> {
    let settings = LIMITS.map(|name| (name, "20".to_owned())).to_vec();
    let cluster = Cluster::create(directory, server, &Options { segment_mib: 1, settings, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup(Format::Plain, "monday");
    cluster.psql("insert into kept values (1)");
    cluster.restore_point("few");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    cluster.configure(&LIMITS.map(|name| (name, "30")));
    cluster.start();
    cluster.psql("insert into kept values (2)");
    cluster.restore_point("many");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    Operator::of_cluster(directory, &cluster, "monday")
}

/// The settings that recovery needs as high as they were: raised by itself where that is possible, and told from the pause
/// at the target where somebody sees to it that they stay too low.
fn limits_that_are_too_low(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::in_memory();
    let operator = raised(&directory, &server);
    let bin_dir = server.bin_dir.display().to_string();
    let limits = |recovery: &Value| LIMITS.map(|name| support::sql(recovery, &format!("show {name}"))).join(" ");

    // The backup's own configuration was lowered since, by all of them; and the primary raised them in WAL. With a manifest
    // that would be found, and the backup be refused.
    let _ = fs::remove_file(operator.backups.join("backup_manifest"));
    let mut lowered = OpenOptions::new().append(true).open(operator.backups.join("postgresql.conf")).unwrap();
    lowered.write_all(LIMITS.map(|name| format!("{name} = 5\n")).concat().as_bytes()).unwrap();
    for (name, enough) in [("few", "20 20 20 20 20"), ("many", "30 30 30 30 30")] {
        let recovery = operator.recovers(
            "copy",
            &["--name", name, "--bin-dir", &bin_dir],
            if name == "few" { "1" } else { "1,2" },
        );
        assert_eq!(limits(&recovery), enough);
        operator.discards("copy");
    }

    // By an option of the server's program, at the start and on the way, one limit after the other.
    let cases = [("few", "10", "20"), ("many", "25", "30")];
    for (place, limit) in [(0, 0), (1, 0), (1, 1), (1, 2), (1, 3), (1, 4)] {
        let ((target, set, needed), limit) = (cases[place], LIMITS[limit]);
        let programs = server.with_option(&directory, &format!("-c {limit}={set}"));
        let words = ["--name", target, "--bin-dir", &programs];
        let failed = ask(&mut operator.restore("copy", &words)).ended_with(1);
        assert!(failed.err.contains(&format!("{limit} = {set} is too low")), "{}", failed.err);
        assert!(failed.err.contains(needed) && failed.err.contains("walback resume copy"), "{}", failed.err);
        // In the middle it pauses, as it does at the target, and only 13 ends.
        let paused = failed.err.contains("paused, not at the target");
        assert_eq!(paused, target == "many" && major > 13, "{}", failed.err);
        never_promoted(&operator.place("copy"));
        failed_with(&operator, &[limit, needed]);
        assert_is(&operator.status("copy"), "failure/code", "setting-too-low");
        if limit == LIMITS[0] {
            let again = operator.about(&["resume", "copy"]).ended_with(1);
            assert!(again.err.contains("is too low"), "it is set as before: {}", again.err);
        }
        server.with_option(&directory, "");
        let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_paused(&recovery, if target == "few" { "1" } else { "1,2" });
        operator.discards("copy");
    }
}

#[test]
fn limits_that_are_too_low_on_13() {
    limits_that_are_too_low(13);
}

#[test]
fn limits_that_are_too_low_on_15() {
    limits_that_are_too_low(15);
}

#[test]
fn limits_that_are_too_low_on_18() {
    limits_that_are_too_low(18);
}

/// Listens on a port that the system gives to nobody who does not ask for it (`ip(7)`, `ip_local_port_range`): it stays
/// free for who asks for it again.
fn listen_apart() -> TcpListener {
    let range = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap();
    let given: u16 = range.split_whitespace().next().unwrap().parse().unwrap();
    // Two runs of the tests at a time begin at places of their own; Walback's own choice begins at 5499.
    let own = 10_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    let mut ports = (own..given).chain(10_000..own);
    ports.find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok()).unwrap()
}

/// A port that was free when the plan was made, and a socket that is another server's.
#[test]
fn a_port_that_is_taken_when_the_server_starts() {
    let directory = Directory::in_memory();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let copy = operator.place("copy");
    // Taken when the plan is made, it is refused.
    let listener = listen_apart();
    let port = listener.local_addr().unwrap().port().to_string();
    let words = ["--name", "first", "--timeline", "1", "--port", &port, "--set", "listen_addresses=127.0.0.1"];
    let refused = ask(&mut operator.restore("copy", &words)).ended_with(3);
    assert!(refused.err.contains(&format!("port {port} is taken")), "{}", refused.err);
    drop(listener);

    operator.recovers("copy", &words, rows_at("first"));
    operator.about(&["stop", "copy"]).ended_with(0);
    let listener = TcpListener::bind(("127.0.0.1", port.parse().unwrap())).unwrap();
    let failed = operator.about(&["resume", "copy"]).ended_with(1);
    assert_is(&failed.json(), "error/code", "port-taken");
    assert!(failed.err.contains("Address already in use") && failed.err.contains(&port), "{}", failed.err);
    failed_with(&operator, &["is taken", "once the port is free"]);
    drop(listener);
    resumes(&operator, "first");
    operator.about(&["stop", "copy"]).ended_with(0);

    // Another server's socket is where this one's goes: it is not taken away from it.
    let socket = copy.join(format!(".walback/socket/.s.PGSQL.{port}"));
    let other = UnixListener::bind(&socket).unwrap();
    let failed = operator.about(&["resume", "copy"]).ended_with(1);
    assert_is(&failed.json(), "error/code", "port-taken");
    assert!(failed.err.contains("another server has the socket"), "{}", failed.err);
    assert!(socket.exists());
    failed_with(&operator, &["another server has the socket"]);
    // Nobody listens there any more: what is left of it is removed.
    drop(other);
    assert!(socket.exists());
    resumes(&operator, "first");
    operator.discards("copy");
}
