//! What is refused, and what fails: it names the thing and the remedy, it changes nothing, or it is undone again.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::unistd::geteuid;
use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, History, Options, Pack, Running, Server, Stop, TreeDigest, as_operator, ask,
    bzip2, run, tree_digest, wait_until, walback, xz,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// An operator with a place for recoveries, in which something lies already.
struct Place {
    directory: Directory,
    place: PathBuf,
    backups: PathBuf,
    archive: PathBuf,
}

impl Place {
    fn new() -> Place {
        let directory = Directory::new();
        let place = directory.create("place");
        directory.write("place/sentinel", "nobody touches this");
        directory.create("place/outside");
        Place { directory, place, backups: HISTORY.backups.join("tar-stream"), archive: HISTORY.archive.clone() }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = walback(&self.directory);
        command.arg("--json").arg("--backups").arg(&self.backups).arg("--wal").arg(&self.archive).args(words);
        command
    }

    /// `restore --name first`, or what `words` have instead, into `PLACE/new`.
    fn restore(&self, words: &[&str]) -> Command {
        let mut command = self.command(&["restore", "--yes"]);
        if !words.iter().any(|word| TARGETS.contains(word)) {
            command.args(["--name", "first"]);
        }
        if !words.contains(&"--into") {
            command.arg("--into").arg(self.place.join("new"));
        }
        command.args(words);
        command
    }

    fn recoveries(&self) -> Vec<Value> {
        let answer = ask(walback(&self.directory).args(["--json", "recoveries"])).ended_with(0);
        answer.json()["recoveries"].as_array().unwrap().clone()
    }

    /// It is refused: with this exit status and code, with all of `says` in the message, and nothing has changed.
    #[track_caller]
    fn refuses(&self, command: &mut Command, status: i32, code: &str, says: &[&str]) -> Value {
        let before = tree_digest(&self.place);
        let answer = ask(command).ended_with(status);
        let error = assert_error(&answer, code, says);
        tree_digest(&self.place).assert_same_as(&before);
        assert_eq!(self.recoveries(), [] as [Value; 0], "it left a journal");
        error
    }

    /// It begins and fails, and what it made is gone again.
    #[track_caller]
    fn fails_and_cleans_up(&self, command: &mut Command, code: &str, says: &[&str]) {
        let before = self.within();
        let answer = ask(command).ended_with(1);
        assert_error(&answer, code, says);
        self.within().assert_same_as(&before);
        for recovery in self.recoveries() {
            assert_eq!(recovery["state"], "failed", "{recovery:#}");
            assert_eq!(recovery["failure"]["code"], code, "{recovery:#}");
        }
    }

    fn within(&self) -> TreeDigest {
        tree_digest(&self.place).within()
    }
}

const LIMIT: Duration = Duration::from_secs(60);

const TARGETS: [&str; 6] = ["--time", "--xid", "--lsn", "--name", "--immediate", "--latest"];

/// The error on standard error for people, and on standard output for programs.
#[track_caller]
fn assert_error(answer: &Answer, code: &str, says: &[&str]) -> Value {
    let error = answer.lines().pop().unwrap()["error"].clone();
    assert_eq!(error["code"], code, "{}", answer.shown);
    let message = error["message"].as_str().unwrap();
    let hint = error["hint"].as_str().unwrap_or_else(|| panic!("there is no hint\n{}", answer.shown));
    for part in says {
        assert!(message.contains(part) || hint.contains(part), "{part:?} is not said\n{}", answer.shown);
        assert!(answer.err.contains(part), "{part:?} is not on standard error\n{}", answer.shown);
    }
    assert!(answer.err.lines().any(|line| line.starts_with("error: ")), "{}", answer.shown);
    assert!(!answer.err.contains("panicked") && !answer.err.contains('\u{1b}'), "{}", answer.shown);
    error
}

/// The processes that work in a directory or below it.
fn processes_in(directory: &Path) -> Vec<PathBuf> {
    let processes = fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    processes.filter(|process| fs::read_link(process.join("cwd")).is_ok_and(|cwd| cwd.starts_with(directory))).collect()
}

fn skip(what: &str) {
    // One write past what `cargo test` keeps, so that it is seen and does not mix with other lines.
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("SKIPPED: {test}: {what}\n").as_bytes());
}

#[test]
fn command_lines_that_make_no_sense() {
    let place = Place::new();
    let into = place.place.join("new");
    let into = into.to_str().unwrap();
    for (words, says) in [
        (&["--time", "2030-01-01", "--xid", "7", "--into", into][..], &["--time", "--xid"][..]),
        (&["--into", into], &["--time", "--latest"]),
        (&["--lsn", "hello", "--into", into], &["hello", "--lsn"]),
        (&["--lsn", "0/", "--into", into], &["0/", "--lsn"]),
        (&["--xid", "abc", "--into", into], &["abc", "--xid"]),
        (&["--xid", "-1", "--into", into], &["-1"]),
        (&["--xid", "0", "--into", into], &["0", "reserved"]),
        (&["--xid", "8589935327", "--into", into], &["8589935327", "735", "epoch 2"]),
        (&["--name", "", "--into", into], &["--name"]),
        (&["--latest", "--timeline", "zero", "--into", into], &["zero", "latest"]),
        (&["--latest", "--port", "99999", "--into", into], &["99999", "--port"]),
        (&["--latest", "--set", "novalue", "--into", into], &["novalue", "NAME=VALUE"]),
    ] {
        place.refuses(&mut place.command(&[&["restore", "--yes"], words].concat()), 2, "usage", says);
    }
    let no_sides = &mut place.restore(&["--latest", "--exclusive"]);
    place.refuses(no_sides, 2, "no-sides", &["--exclusive", "--time"]);
    place.refuses(&mut place.command(&["restore", "--yes", "--latest"]), 2, "no-directory", &["--into"]);
    let mut nowhere = walback(&place.directory);
    nowhere.args(["--json", "restore", "--latest", "--yes", "--into", into]);
    place.refuses(&mut nowhere, 2, "no-source", &["--backups", "--wal"]);
    place.refuses(&mut place.restore(&["--read-only"]), 2, "read-only", &["--read-only"]);
    for setting in ["port=1", "restore_command=true", "Recovery_Target_Action=promote", "data_directory=/"] {
        let name = setting.split('=').next().unwrap();
        place.refuses(&mut place.restore(&["--set", setting]), 3, "plan-forbidden", &[name, "Walback itself"]);
    }
    place.refuses(&mut place.restore(&["--backup", "friday"]), 2, "unknown-backup", &["friday", "tar-stream"]);
    HISTORY.assert_untouched();
}

#[test]
fn times_that_are_none_or_two() {
    let place = Place::new();
    let in_berlin = |time: &str, says: &[&str]| {
        let words = ["--time-zone", "Europe/Berlin", "--time", time];
        place.refuses(&mut place.restore(&words), 2, "bad-time", says);
    };
    in_berlin("2024-10-27 02:30", &["2024-10-27 02:30", "+02", "+01", "twice"]);
    in_berlin("2024-03-31 02:30", &["2024-03-31 02:30", "Europe/Berlin"]);
    in_berlin("half past nine", &["half past nine"]);
    in_berlin("2024-02-30 12:00", &["2024-02-30"]);
    let words = ["--time-zone", "Europe/Berlim", "--time", "14:30"];
    place.refuses(&mut place.restore(&words), 2, "unknown-zone", &["Europe/Berlim", "Europe/Berlin"]);
}

#[test]
fn targets_that_cannot_be_reached() {
    let place = Place::new();
    let early = "target-before-backup-end";
    let refuse = |words: &[&str], code: &str, says: &[&str]| {
        place.refuses(&mut place.restore(words), 4, code, says);
    };
    refuse(&["--time", "2001-01-01 00:00:00+00"], early, &["2001-01-01", "tar-stream", "later target"]);
    refuse(&["--lsn", "0/28"], early, &["0/28", "tar-stream"]);
    refuse(&["--time", "2099-01-01 00:00:00+00", "--timeline", "1"], "target-not-reached", &["2099-01-01", "--latest"]);
    refuse(&["--xid", "4000000"], "target-not-reached", &["4000000", "timeline"]);
    refuse(&["--lsn", "F/0"], "target-not-reached", &["F/0"]);
    refuse(&["--name", "no such point"], "target-not-reached", &["no such point"]);
    refuse(&["--latest", "--timeline", "7"], "unknown-timeline", &["7", "1, 2"]);

    // While a backup is being made, what it copies is not consistent yet.
    let place = Place { backups: HISTORY.backups.join("by-sql"), ..place };
    let meanwhile = HISTORY.transaction("meanwhile");
    for words in [["--xid", &meanwhile.xid], ["--name", "inside"]] {
        place.refuses(&mut place.restore(&words), 4, early, &["by-sql"]);
    }
    HISTORY.assert_untouched();
}

/// What an error offers instead can be taken as it stands.
#[test]
fn what_is_offered_instead_can_be_taken() {
    let place = Place::new();
    let offered = |place: &Place, words: &[&str]| {
        let into = place.place.join("new");
        let error =
            ask(place.command(&["plan", "--into"]).arg(&into).args(words)).ended_with(4).json()["error"].clone();
        let target = error["reachable"]["target"].as_array().unwrap_or_else(|| panic!("{error:#}"));
        let target: Vec<String> = target.iter().map(|word| word.as_str().unwrap().to_owned()).collect();
        let taken = ask(place.command(&["plan", "--into"]).arg(&into).args(&target)).ended_with(0).json();
        (target, taken["plan"]["resolved"].clone(), error)
    };
    let last = |resolved: &Value| resolved["last_kept"]["xid"].to_string();
    let after = &HISTORY.transaction("after").xid;
    for words in [
        &["--time", "2099-01-01 00:00:00+00", "--timeline", "1"][..],
        &["--lsn", "F/0", "--timeline", "1"],
        &["--xid", "4000000", "--timeline", "1"],
        &["--name", "no such point", "--timeline", "1"],
    ] {
        let (target, resolved, error) = offered(&place, words);
        assert_eq!((&*target[0], &*target[2..].join(" ")), ("--lsn", "--timeline 1"), "{error:#}");
        assert_eq!(&last(&resolved), after, "everything is kept: {resolved:#}");
        assert_eq!(resolved["lsn"], error["reachable"]["lsn"]);
        let hint = error["hint"].as_str().unwrap();
        if !words.contains(&"--name") {
            assert!(
                hint.contains(&format!("--xid {after} --timeline 1")) && hint.contains(&target.join(" ")),
                "{hint}"
            );
        }
    }
    let (target, resolved, _) = offered(&place, &["--time", "2001-01-01 00:00:00+00"]);
    assert_eq!((target.join(" "), &resolved["stop"]), ("--immediate".to_owned(), &"consistency".into()));

    // On the other branch, and from a backup that leads there.
    let (target, resolved, _) = offered(&place, &["--xid", after]);
    assert_eq!(target.join(" "), format!("--xid {after} --timeline 1"));
    assert_eq!(&last(&resolved), after);

    // Before a gap.
    let copy = place.directory.create("gap");
    run(Command::new("cp").arg("-a").arg(HISTORY.archive.join(".")).arg(&copy));
    let names = fs::read_dir(&copy).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24 && name.starts_with("00000001")).collect();
    names.sort();
    fs::remove_file(copy.join(&names[names.len() - 2])).unwrap();
    let place = Place { archive: copy, ..place };
    let (target, _, error) = offered(&place, &["--xid", after, "--timeline", "1"]);
    assert_eq!(&target[0], "--lsn", "{error:#}");
    assert!(error["hint"].as_str().unwrap().contains("--wal"), "{error:#}");
    HISTORY.assert_untouched();
}

#[test]
fn directories_that_are_not_for_recoveries() {
    let place = Place::new();
    let full = place.directory.create("place/full");
    place.directory.write("place/full/PG_VERSION", "15\n");
    let refuse = |into: &Path, status: i32, says: &[&str]| {
        let error =
            place.refuses(&mut place.restore(&["--into", into.to_str().unwrap()]), status, "plan-forbidden", says);
        assert!(error["hint"].as_str().unwrap().len() > 10, "{error:#}");
    };
    refuse(&full, 3, &["not empty", full.to_str().unwrap(), "PG_VERSION"]);
    refuse(&place.place.join("sentinel"), 3, &["not a directory", "sentinel"]);
    let orphan = place.place.join("missing/new");
    refuse(&orphan, 3, &["parent directory does not exist", place.place.join("missing").to_str().unwrap()]);
    refuse(&HISTORY.archive.join("new"), 3, &["inside a source", HISTORY.archive.to_str().unwrap()]);
    refuse(&HISTORY.backups.join("tar-stream/new"), 3, &["inside a source", "tar-stream"]);
    symlink(&HISTORY.archive, place.place.join("link")).unwrap();
    refuse(&place.place.join("link/new"), 3, &["inside a source"]);
    HISTORY.assert_untouched();

    let place = Place { backups: HISTORY.backups.clone(), ..place };
    let beside = HISTORY.backups.join("new");
    let words = ["--into", beside.to_str().unwrap()];
    place.refuses(&mut place.restore(&words), 3, "plan-forbidden", &["inside a source"]);
    HISTORY.assert_untouched();
}

#[test]
fn places_that_the_user_may_not_write_to() {
    let place = Place::new();
    if !geteuid().is_root() {
        return skip("only root can make a place that the server's user cannot write to");
    }
    let closed = place.place.join("closed");
    fs::create_dir(&closed).unwrap();
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700)).unwrap();
    let into = closed.join("new");
    let words = ["--into", into.to_str().unwrap()];
    place.refuses(&mut place.restore(&words), 3, "plan-forbidden", &["postgres", closed.to_str().unwrap(), "--into"]);
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o755)).unwrap();
    let mut as_postgres = as_operator(&place.restore(&words));
    place.refuses(&mut as_postgres, 3, "plan-forbidden", &["cannot write", closed.to_str().unwrap()]);

    let words = ["--run-as", "nobody-of-this-name"];
    place.refuses(&mut place.restore(&words), 3, "plan-forbidden", &["nobody-of-this-name", "--run-as"]);
    place.refuses(&mut place.restore(&["--run-as", "root"]), 3, "plan-forbidden", &["root", "--run-as"]);
}

/// A file system in memory; unmounted when this is dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// `None` where we may not mount.
    fn new(at: PathBuf, options: &str) -> Option<Mounted> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(&at);
        let mounted = geteuid().is_root() && mount.output().is_ok_and(|output| output.status.success());
        mounted.then_some(Mounted(at))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[test]
fn file_systems_that_are_too_small_or_read_only() {
    let place = Place::new();
    let Some(small) = Mounted::new(place.place.join("small"), "size=16m,mode=755") else {
        return skip("a file system cannot be mounted here");
    };
    let into = small.0.join("new");
    let words = ["--into", into.to_str().unwrap()];
    let says = ["too little space", into.to_str().unwrap(), "larger file system"];
    place.refuses(&mut place.restore(&words), 3, "plan-forbidden", &says);
    let plan = ask(place.command(&["plan", "--name", "first"]).args(words)).ended_with(3).json();
    let finding = &plan["plan"]["findings"][0];
    assert_eq!((&finding["code"], &finding["severity"]), (&"too-little-space".into(), &"error".into()));
    assert!(finding["hint"].as_str().unwrap().contains(says[2]), "{finding:#}");

    let fixed = Mounted::new(place.place.join("fixed"), "ro,mode=755").unwrap();
    let into = fixed.0.join("new");
    let words = ["--into", into.to_str().unwrap()];
    place.refuses(&mut place.restore(&words), 3, "plan-forbidden", &["cannot write", "ead-only"]);
}

#[test]
fn ports_that_are_taken() {
    let place = Place::new();
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    place.refuses(&mut place.restore(&["--port", &port]), 3, "plan-forbidden", &[&port, "listens", "--port"]);
    drop(tcp);

    let socket = PathBuf::from(format!("/tmp/.s.PGSQL.{port}"));
    let listener = UnixListener::bind(&socket).unwrap();
    let forbidden = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let says = [port.as_str(), socket.to_str().unwrap()];
        place.refuses(&mut place.restore(&["--port", &port]), 3, "plan-forbidden", &says);
    }));
    drop(listener);
    // What a crashed server left behind is in nobody's way.
    let left_behind =
        ask(place.command(&["plan", "--name", "first", "--port", &port]).arg("--into").arg(place.place.join("new")));
    fs::remove_file(&socket).unwrap();
    forbidden.unwrap();
    left_behind.ended_with(0);
}

#[test]
fn server_programs_that_are_missing_or_wrong() {
    let place = Place::new();
    let missing = ["--bin-dir", "/nonexistent"];
    place.refuses(&mut place.restore(&missing), 3, "plan-forbidden", &["PostgreSQL 15", "/nonexistent", "--bin-dir"]);
    let Some(other) = Server::available(16) else { return };
    let other = other.bin_dir.to_str().unwrap();
    let says = ["PostgreSQL 15", other, "(PostgreSQL) 16"];
    place.refuses(&mut place.restore(&["--bin-dir", other]), 3, "plan-forbidden", &says);
}

#[test]
fn a_server_that_does_not_start_is_quoted_and_does_not_run() {
    let place = Place::new();
    for (setting, says) in [("shared_buffers=4TB", &["shared memory"][..]), ("ssl=on", &["server.crt"])] {
        let answer = ask(&mut place.restore(&["--set", setting])).ended_with(1);
        assert_error(
            &answer,
            "server-ended",
            &[&["recovery failed", "log: ", "FATAL", "walback discard new"], says].concat(),
        );
        let new = place.place.join("new");
        wait_until("end of the server", LIMIT, || processes_in(&new).is_empty().then_some(()));
        let recovery = &place.recoveries()[0];
        assert_eq!(recovery["state"], "failed", "{recovery:#}");
        ask(walback(&place.directory).args(["discard", "--yes"])).ended_with(0);
        assert!(!new.exists());
        fs::remove_dir_all(place.directory.path().join("home/state")).unwrap();
    }
    HISTORY.assert_untouched();
}

/// A copy of something of the history that may be spoiled.
fn copy_of(place: &Place, what: &Path, name: &str) -> PathBuf {
    let copy = place.directory.path().join(name);
    run(Command::new("cp").arg("-a").arg(what).arg(&copy));
    copy
}

#[test]
fn what_is_not_a_whole_backup() {
    let mut place = Place::new();
    place.backups = place.directory.create("nothing");
    place.directory.write("nothing/README", "no backup");
    let here = place.backups.clone();
    place.refuses(&mut place.restore(&[]), 1, "no-backup", &[here.to_str().unwrap(), "base.tar"]);
    place.backups = place.directory.path().join("nowhere");
    place.refuses(&mut place.restore(&[]), 1, "unreadable", &["nowhere", "check the path"]);

    place.backups = copy_of(&place, &HISTORY.backups.join("tar-stream"), "cut");
    let base = place.backups.join("base.tar");
    let whole = fs::metadata(&base).unwrap().len();
    for left in [whole - 1, whole - 1024, whole - 1025, whole / 2, 512, 100, 0] {
        File::options().write(true).open(&base).unwrap().set_len(left).unwrap();
        let error = place.refuses(&mut place.restore(&[]), 1, "no-usable-backup", &["base.tar", "walback backups"]);
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("cut off") || message.contains("not a base backup"), "{left} of {whole}: {message}");
    }

    place.backups = copy_of(&place, &HISTORY.backups.join("plain-stream"), "running");
    fs::remove_file(place.backups.join("backup_label")).unwrap();
    place.refuses(&mut place.restore(&[]), 1, "no-usable-backup", &["backup_label", "data directory"]);
    HISTORY.assert_untouched();
}

#[test]
fn gzip_that_is_cut_off_or_damaged() {
    let mut place = Place::new();
    place.backups = copy_of(&place, &HISTORY.backups.join("gz"), "gz");
    let base = place.backups.join("base.tar.gz");
    let whole = fs::read(&base).unwrap();
    let end = whole.len();
    // gzip's trailer is the checksum and the length, four bytes each.
    for left in [end - 1, end - 4, end - 7, end - 8, end - 9, end - 5000, end / 2, 4096, 20, 10, 0] {
        fs::write(&base, &whole[..left]).unwrap();
        fails_at_either_place(&place, &format!("cut to {left} of {end}"));
    }
    for (at, what) in [(end - 8, "the checksum"), (end / 2, "the middle"), (end - 3000, "the end")] {
        let mut wrong = whole.clone();
        wrong[at] ^= 0x10;
        fs::write(&base, &wrong).unwrap();
        let code = fails_at_either_place(&place, what);
        assert_ne!(code, "no-usable-backup", "only who reads all of it can see that {what} is wrong");
    }
    HISTORY.assert_untouched();
}

#[test]
fn xz_and_bzip2_that_are_cut_off_or_damaged() {
    for (ending, pack) in [("xz", xz as Pack), ("bz2", bzip2)] {
        let mut place = Place::new();
        place.backups = copy_of(&place, &HISTORY.backups.join("tar-none"), ending);
        let plain = place.backups.join("base.tar");
        let base = place.backups.join(format!("base.tar.{ending}"));
        let whole = pack(&fs::read(&plain).unwrap());
        fs::remove_file(plain).unwrap();
        let end = whole.len();
        for left in [end - 1, end - 9, end / 2, 20, 0] {
            fs::write(&base, &whole[..left]).unwrap();
            fails_at_either_place(&place, &format!("{ending} cut to {left} of {end}"));
        }
        let mut wrong = whole.clone();
        wrong[end / 2] ^= 0x10;
        for (bytes, what) in [(wrong, "the middle"), ([&whole[..], b"more"].concat(), "what lies behind the end")] {
            fs::write(&base, bytes).unwrap();
            fails_at_either_place(&place, &format!("{ending}: {what}"));
        }
    }
    HISTORY.assert_untouched();
}

/// Whether listing or unpacking sees it: it fails, and nothing of it is left.
#[track_caller]
fn fails_at_either_place(place: &Place, what: &str) -> String {
    let before = place.within();
    let answer = ask(&mut place.restore(&[])).ended_with(1);
    let code = answer.lines().pop().unwrap()["error"]["code"].as_str().unwrap().to_owned();
    assert!(
        ["backup-broken", "backup-damaged", "no-usable-backup"].contains(&code.as_str()),
        "{what}: {}",
        answer.shown
    );
    assert_error(&answer, &code, &["base.tar.", "walback backups"]);
    place.within().assert_same_as(&before);
    code
}

#[test]
fn an_archive_with_a_gap_or_of_another_cluster() {
    let mut place = Place::new();
    place.archive = copy_of(&place, &HISTORY.archive, "archive");
    let mut segments: Vec<String> =
        fs::read_dir(&place.archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    segments.retain(|name| name.len() == 24 && name.starts_with("00000001"));
    segments.sort();
    let lost = segments[segments.len() - 4].clone();
    fs::remove_file(place.archive.join(&lost)).unwrap();
    let timeline = ["--timeline", "1"];
    let after = ["--xid", HISTORY.transaction("after").xid.as_str(), timeline[0], timeline[1]];
    place.refuses(&mut place.restore(&after), 4, "target-not-reached", &[&lost, "--wal"]);
    // Everything that there is, is more than what lies before the gap.
    let latest = ["--latest", timeline[0], timeline[1]];
    place.refuses(&mut place.restore(&latest), 3, "plan-forbidden", &[&lost, "missing", "--lsn"]);

    // Nor is what lies behind a broken place.
    place.archive = copy_of(&place, &HISTORY.archive, "broken");
    let path = place.archive.join(&lost);
    let mut segment = fs::read(&path).unwrap();
    segment[8..16].fill(0xFF);
    fs::write(&path, segment).unwrap();
    place.refuses(&mut place.restore(&latest), 4, "wal-broken", &[&lost, "--wal", "--lsn"]);
    place.refuses(&mut place.restore(&after), 4, "target-not-reached", &[&lost, "--wal"]);

    place.archive = OTHER.join("archive");
    place.refuses(
        &mut place.restore(&["--immediate"]),
        1,
        "no-usable-backup",
        &["another cluster", &HISTORY.system_identifier],
    );
    place.archive = place.directory.create("empty");
    place.refuses(&mut place.restore(&[]), 4, "target-not-reached", &["first"]);
    HISTORY.assert_untouched();
}

/// A cluster made like the history's own, whose backups and segments have the same names and places.
static OTHER: LazyLock<PathBuf> = LazyLock::new(|| {
    let directory = Directory::lasting();
    let cluster = Cluster::create(directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::TarGz, "other");
    cluster.restore_point("first");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    directory.path().to_owned()
});

#[test]
fn a_backup_that_does_not_say_whose_it_is_is_refused_by_its_server() {
    // Compressed and without WAL or a manifest that tells, nothing but the server compares the identifiers.
    let place = Place { backups: OTHER.join("backups"), ..Place::new() };
    let answer = ask(&mut place.restore(&["--name", "first"])).ended_with(1);
    assert_error(&answer, "server-ended", &["recovery failed", "FATAL", "walback discard new"]);
    wait_until("end of the server", LIMIT, || processes_in(&place.place).is_empty().then_some(()));
    assert!(place.place.join("new/recovery.signal").exists());
    HISTORY.assert_untouched();
}

/// `base.tar` with the files at the front of a real one, and then what `add` adds.
fn odd_backup(place: &Place, name: &str, add: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> PathBuf {
    place.directory.create("odd");
    let backup = place.directory.create(&format!("odd/{name}"));
    place.directory.write(&format!("odd/{name}/base.tar"), odd_tar(add));
    backup
}

fn odd_tar(add: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut real = tar::Archive::new(File::open(HISTORY.backups.join("tar-none/base.tar")).unwrap());
    let mut builder = tar::Builder::new(Vec::new());
    for entry in real.entries().unwrap() {
        let entry = entry.unwrap();
        let path = entry.path().unwrap().into_owned();
        if ["backup_label", "PG_VERSION", "global/pg_control"].iter().any(|name| path == Path::new(name)) {
            builder.append(&entry.header().clone(), entry).unwrap();
        }
    }
    add(&mut builder);
    builder.into_inner().unwrap()
}

/// A header with a name and a link that the tar crate itself would refuse to write.
fn header(kind: tar::EntryType, name: &str, link: &str, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    header
}

#[test]
fn tars_with_entries_that_lead_out() {
    use tar::EntryType;
    let mut place = Place::new();
    let outside = place.place.join("outside");
    let outside = outside.to_str().unwrap();
    let absolute = format!("{outside}/evil");
    let file = EntryType::Regular;
    let mut number = 0;
    let mut refuse = |entries: &[(EntryType, &str, &str)], named: &str| {
        number += 1;
        place.backups = odd_backup(&place, &format!("odd{number}"), |tar| {
            for (kind, name, link) in entries {
                let contents: &[u8] = if *kind == file { b"evil" } else { b"" };
                tar.append(&header(*kind, name, link, contents.len() as u64), contents).unwrap();
            }
        });
        place.fails_and_cleans_up(&mut place.restore(&[]), "backup-suspicious", &[named, "base.tar"]);
    };
    refuse(&[(file, "../evil", "")], "../evil");
    refuse(&[(file, "../outside/evil", "")], "../outside/evil");
    refuse(&[(file, "base/../../evil", "")], "base/../../evil");
    refuse(&[(file, &absolute, "")], &absolute);
    refuse(&[(EntryType::Directory, "../evil", "")], "../evil");
    refuse(&[(EntryType::Symlink, "base/1", outside), (file, "base/1/evil", "")], "base/1");
    refuse(&[(EntryType::Symlink, "postgresql.conf", "/etc/passwd")], "postgresql.conf");
    refuse(&[(EntryType::Link, "base/1", "/etc/passwd")], "base/1");
    refuse(&[(EntryType::Link, "base/1", "../sentinel")], "base/1");
    refuse(&[(EntryType::Char, "base/1", "")], "base/1");
    refuse(&[(EntryType::Block, "base/1", "")], "base/1");
    refuse(&[(EntryType::Fifo, "base/1", "")], "base/1");
    refuse(&[(EntryType::Link, "base/1", ".walback/recovery.json")], "base/1");
    refuse(&[(file, "base/1", ""), (file, "./base//1", "")], "base/1 twice");
    refuse(&[(file, "base/\u{1b}[2Jx/../../../evil", "")], "[2Jx");

    // The link of a tablespace is left out, so that what is written below its name stays inside.
    let tablespace = format!("{outside}/evil");
    place.backups = odd_backup(&place, "tablespace", |tar| {
        tar.append(&header(EntryType::Symlink, "pg_tblspc/16385", outside, 0), &b""[..]).unwrap();
        tar.append(&header(file, "pg_tblspc/16385/evil", "", 4), &b"evil"[..]).unwrap();
    });
    let _ = ask(&mut place.restore(&[]));
    assert!(!Path::new(&tablespace).exists(), "it was written through the link");
}

#[test]
fn directories_with_links_that_lead_out() {
    let mut place = Place::new();
    let copy = copy_of(&place, &HISTORY.backups.join("plain-stream"), "plain");
    symlink("/etc/passwd", copy.join("base/1/evil")).unwrap();
    place.backups = copy;
    place.fails_and_cleans_up(&mut place.restore(&[]), "backup-suspicious", &["base/1/evil"]);
    fs::remove_file(place.backups.join("base/1/evil")).unwrap();
    run(Command::new("mkfifo").arg(place.backups.join("global/evil")));
    place.fails_and_cleans_up(&mut place.restore(&[]), "backup-suspicious", &["global/evil"]);
    HISTORY.assert_untouched();
}

/// A compressed backup with a file of a gigabyte of zeros: it takes a while to unpack, and a lot of space.
fn huge_backup(place: &Place) -> PathBuf {
    const MEMBERS: u64 = 64;
    let zeros = vec![0; 16 << 20];
    let mut front = odd_tar(|tar| {
        let size = MEMBERS * zeros.len() as u64;
        let header = header(tar::EntryType::Regular, "base/1/16384", "", size);
        // Its contents come in members of gzip of their own.
        tar.append(&header, &b""[..]).unwrap();
    });
    front.truncate(front.len() - 1024);
    let mut packed = gzip(&front);
    let member = gzip(&zeros);
    (0..MEMBERS).for_each(|_| packed.extend_from_slice(&member));
    packed.extend(gzip(&[0; 1024]));
    place.directory.create("huge");
    place.directory.write("huge/base.tar.gz", packed);
    place.directory.path().join("huge")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_interrupt_while_unpacking_removes_what_was_unpacked() {
    let mut place = Place::new();
    place.backups = huge_backup(&place);
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let before = place.within();
        let mut walback = Running::start(place.restore(&["--name", "first"]).arg("--events"));
        walback.wait_for("unpacking", |line| line["doing"] == "base/1/16384");
        assert!(place.place.join("new/base/1/16384").exists());
        walback.signal(signal);
        let (status, error, lines) = walback.wait();
        assert_eq!(status, Some(130), "{error}");
        assert!(error.contains("cancelled") && error.contains("removed again"), "{error}");
        assert!(lines.iter().any(|line| line["event"] == "failed" && line["step"] == "unpack"));
        place.within().assert_same_as(&before);
    }
    HISTORY.assert_untouched();
}

#[test]
fn what_a_killed_walback_unpacked_can_be_discarded() {
    let mut place = Place::new();
    place.backups = huge_backup(&place);
    let before = place.within();
    let mut walback = Running::start(place.restore(&[]).arg("--events"));
    walback.wait_for("unpacking", |line| line["doing"] == "base/1/16384");
    walback.signal(Signal::SIGKILL);
    assert_eq!(walback.wait().0, None);
    assert_eq!(place.recoveries()[0]["state"], "unpacking");
    assert!(place.place.join("new/base/1/16384").exists());
    ask(support::walback(&place.directory).args(["discard", "--yes"])).ended_with(0);
    place.within().assert_same_as(&before);
}

#[test]
fn a_file_system_that_fills_up_while_unpacking() {
    let mut place = Place::new();
    let Some(small) = Mounted::new(place.place.join("small"), "size=120m,mode=755") else {
        return skip("a file system cannot be mounted here");
    };
    // Nothing tells how much there is to unpack, so that preflight cannot know.
    place.backups = huge_backup(&place);
    place.place = small.0.clone();
    place.fails_and_cleans_up(&mut place.restore(&[]), "cannot-write", &["base/1/16384", "file system is full"]);
}

#[test]
fn nothing_is_begun_that_nobody_confirmed() {
    let place = Place::new();
    let into = place.place.join("new");
    let mut unconfirmed = place.command(&["restore", "--name", "first"]);
    let says = [into.to_str().unwrap(), "--yes"];
    let error = place.refuses(unconfirmed.arg("--into").arg(&into), 5, "unconfirmed", &says);
    assert!(error["message"].as_str().unwrap().contains("starts a server"));
}

#[test]
fn only_what_a_recovery_made_is_removed() {
    let place = Place::new();
    ask(&mut place.restore(&[])).ended_with(0);
    let new = place.place.join("new");
    let mark = new.join(".walback/recovery.json");
    let marked = fs::read_to_string(&mark).unwrap();
    let refuse = |says: &[&str]| {
        let count = tree_digest(&place.place).len();
        let answer = ask(walback(&place.directory).args(["--json", "discard", "new", "--yes"])).ended_with(1);
        assert_error(&answer, "not-ours", &[&[new.to_str().unwrap(), "by hand"], says].concat());
        assert_eq!(tree_digest(&place.place).len(), count, "something was removed");
        assert_eq!(place.recoveries()[0]["state"], "paused", "a refusal changes nothing");
    };
    fs::remove_file(&mark).unwrap();
    refuse(&["No such file"]);
    fs::write(&mark, marked.replace("\"new\"", "\"old\"")).unwrap();
    refuse(&["“old”"]);
    fs::write(&mark, "{").unwrap();
    refuse(&[]);
    fs::write(&mark, &marked).unwrap();
    for words in [&["discard", "new"][..], &["promote", "new"], &["retarget", "new", "--name", "fork"]] {
        let answer = ask(walback(&place.directory).arg("--json").args(words)).ended_with(5);
        assert_error(&answer, "unconfirmed", &["--yes"]);
    }

    // A copy in its place is not what was made, whatever it carries.
    ask(walback(&place.directory).args(["stop", "new"])).ended_with(0);
    let original = place.place.join("original");
    fs::rename(&new, &original).unwrap();
    run(Command::new("cp").arg("-a").arg(&original).arg(&new));
    let answer = ask(walback(&place.directory).args(["--json", "discard", "new", "--yes"])).ended_with(1);
    assert_error(&answer, "not-ours", &["copy"]);
    assert!(new.join("PG_VERSION").exists());
    fs::remove_dir_all(&new).unwrap();
    fs::rename(&original, &new).unwrap();
    ask(walback(&place.directory).args(["discard", "new", "--yes"])).ended_with(0);
    assert!(!new.exists());
    HISTORY.assert_untouched();
}

#[test]
fn a_directory_that_was_there_stays_and_is_empty_again() {
    let place = Place::new();
    let new = place.directory.create("place/new");
    ask(&mut place.restore(&[])).ended_with(0);
    ask(walback(&place.directory).args(["discard", "--yes"])).ended_with(0);
    assert_eq!(fs::read_dir(&new).unwrap().count(), 0);
}
