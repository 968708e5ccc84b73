//! Servers that get WAL by `walback fetch`.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use support::{
    Cluster, Directory, FORMS, Format, History, LIMIT, Operator, Options, Pack, ROWS, Running, Server, Stop, as_server,
    ask, assert_paused, auto_conf_names, gzip, run, server_user, sql, tree_digest, wait_until, walback, xz, zstd,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// A copy of an archive in which every file is packed.
fn packed(archive: &Path, into: &Path, ending: &str, pack: Pack) {
    run(Command::new("cp").arg("-a").arg(archive).arg(into));
    for entry in fs::read_dir(into).unwrap() {
        let path = entry.unwrap().path();
        let file = format!("{}.{ending}", path.display());
        fs::write(&file, pack(&fs::read(&path).unwrap())).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        fs::remove_file(&path).unwrap();
    }
}

/// The segments of an archive, in order.
fn segments(archive: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.file_name().unwrap().to_str().unwrap().split('.').next().unwrap().len() == 24);
    files.retain(|file| !file.to_str().unwrap().contains(".backup"));
    files.sort();
    files
}

/// A cluster's past on one timeline: some segments, a restore point, and some more. Gives the rows at the restore point.
fn lives(cluster: &Cluster<'_>) -> String {
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "base");
    let write = |from: u32| {
        for n in from..from + 10 {
            cluster.psql(&format!(
                "insert into kept values ({n}); create table t{n} as select generate_series(1, 5000) g"
            ));
            cluster.switch_and_wait_archived();
        }
    };
    write(1);
    cluster.restore_point("here");
    let rows = cluster.psql(ROWS);
    cluster.psql("select pg_switch_wal()");
    write(100);
    cluster.stop(Stop::Fast);
    rows
}

fn fetches(recovery: &Value, operator: &Operator<'_>) {
    let command = sql(recovery, "show restore_command");
    assert!(command.starts_with("exec ") && command.contains(" fetch --recovery "), "{command}");
    let own = PathBuf::from(recovery["directory"].as_str().unwrap()).join(".walback");
    assert!(own.join("fetch.json").exists());
    assert!(!own.join("spool").exists(), "replay is over, and so is what was made ready for it");
    assert!(operator.status(recovery["id"].as_str().unwrap())["matches_prediction"] == true);
}

fn every_form_is_recovered_from(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
    let rows = lives(&cluster);
    for (ending, pack) in FORMS {
        let archive = directory.path().join(format!("archive-{ending}"));
        packed(&cluster.archive, &archive, ending, pack);
        let files = segments(&archive);
        // A server that reads ahead meets one that is damaged behind the stop.
        let behind = &files[files.len() - 5];
        fs::write(behind, "damaged").unwrap();
        let before = tree_digest(&archive);
        let operator = Operator { directory: &directory, backups: directory.path().join("backups"), archive };
        let name = format!("from-{ending}");
        let bin_dir = server.bin_dir.display().to_string();
        let recovery = operator.recovers(&name, &["--name", "here", "--bin-dir", &bin_dir], &rows);
        fetches(&recovery, &operator);
        tree_digest(&operator.archive).assert_same_as(&before);
        if ending == "zst" {
            let promoted: Value = operator.about(&["promote", &name, "--yes"]).ended_with(0).recovery();
            assert_eq!(promoted["state"], "promoted");
            let own = operator.place(&name).join(".walback");
            assert!(!own.join("fetch.json").exists() && !own.join("spool").exists());
            assert!(!auto_conf_names(&operator.place(&name)).contains(&"restore_command".to_owned()));
            operator.about(&["stop", &name]).ended_with(0);
        }
        operator.discards(&name);
    }
}

#[test]
fn every_form_is_recovered_from_by_13() {
    every_form_is_recovered_from(13);
}

#[test]
fn every_form_is_recovered_from_by_15() {
    every_form_is_recovered_from(15);
}

#[test]
fn every_form_is_recovered_from_by_18() {
    every_form_is_recovered_from(18);
}

/// Where a server's user cannot run the program, a copy of it lies in the recovery's own folder.
#[test]
fn a_program_that_the_server_cannot_run_is_copied() {
    if server_user().is_none() {
        return;
    }
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let archive = directory.path().join("packed");
    packed(&HISTORY.archive, &archive, "gz", gzip);
    let operator = Operator { archive, ..operator };
    let closed = tempfile::tempdir().unwrap();
    fs::set_permissions(closed.path(), fs::Permissions::from_mode(0o700)).unwrap();
    let program = closed.path().join("walback");
    let ours = operator.command(&[]);
    fs::copy(ours.get_program(), &program).unwrap();
    let run_by = |command: &Command| {
        let mut run = Command::new(&program);
        run.args(command.get_args()).env_clear();
        run.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run.current_dir(directory.path());
        run
    };
    let into = operator.place("closed").display().to_string();
    let told = ask(&mut run_by(&operator.command(&["plan", "--name", "first", "--into", &into]))).ended_with(0).json();
    let findings = told["plan"]["findings"].as_array().unwrap();
    let has = |code: &str| findings.iter().any(|finding| finding["code"] == code);
    assert!(has("program-copied") && !has("fetch-unusable"), "{findings:?}");
    let copy = operator.place("closed").join(".walback/walback").display().to_string();
    assert_eq!(told["plan"]["fetch"]["program"], copy);
    let recovery = ask(&mut run_by(&operator.restore("closed", &["--name", "first"]))).ended_with(0).recovery();
    assert_paused(&recovery, &HISTORY.restore_points["first"]);
    assert!(sql(&recovery, "show restore_command").contains(&copy));
    operator.discards("closed");

    // Where no program can be run from that place either, the server takes the system's programs.
    let place = directory.create("noexec");
    let mount = ["-t", "tmpfs", "-o", "noexec,mode=0755,size=256m", "walback-test"];
    if !Command::new("mount").args(mount).arg(&place).status().is_ok_and(|status| status.success()) {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    }
    let into = place.join("there").display().to_string();
    let told = ask(&mut run_by(&operator.command(&["plan", "--name", "first", "--into", &into])));
    run(Command::new("umount").arg(&place));
    let told = told.ended_with(0).json();
    let findings = told["plan"]["findings"].as_array().unwrap();
    assert!(findings.iter().any(|finding| finding["code"] == "fetch-unusable"), "{findings:?}");
    assert!(told["plan"]["fetch"].is_null() && told["plan"]["restore_command"].as_str().unwrap().contains("gzip"));
}

/// What a plan needs of an archive, taken away while the server replays.
struct Interrupted<'a> {
    operator: Operator<'a>,
    /// The server waits before it gets this segment.
    segment: String,
    restore: Running,
    gate: PathBuf,
}

impl<'a> Interrupted<'a> {
    /// Begins to recover everything from a packed archive, and comes back when the server waits for a segment in the
    /// middle: the program that it runs has become one that waits first.
    #[track_caller]
    fn begin(directory: &'a Directory) -> Interrupted<'a> {
        let operator = Operator::of_copies(directory, &HISTORY, "tar-none");
        let archive = directory.path().join("packed");
        packed(&HISTORY.archive, &archive, "gz", gzip);
        let operator = Operator { archive, ..operator };
        let trunk: Vec<PathBuf> = segments(&operator.archive)
            .into_iter()
            .filter(|path| path.to_str().unwrap().contains("/00000001"))
            .collect();
        let segment = trunk[trunk.len() - 4].file_name().unwrap().to_str().unwrap()[..24].to_owned();
        let (program, real) = (directory.path().join("bin-walback"), directory.path().join("real-walback"));
        let command = operator.restore("copy", &["--latest", "--timeline", "1", "--events"]);
        for path in [&program, &real] {
            fs::copy(command.get_program(), path).unwrap();
        }
        let mut begin = Command::new(&program);
        begin.args(command.get_args()).env_clear().current_dir(directory.path());
        begin.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut restore = Running::start(&mut begin);
        restore.wait_for("unpacking", |line| line["state"] == "unpacking");
        let gate = directory.write("gate", "");
        let script = format!(
            "#!/bin/sh\ncase \"$*\" in *'fetch '*{segment}*) while [ -e {0} ]; do : >{0}.reached; sleep 0.02; done;; esac\nexec {1} \"$@\"\n",
            gate.display(),
            real.display()
        );
        let beside = directory.write("script", script);
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(beside, &program).unwrap();
        let reached = gate.with_extension("reached");
        wait_until("the segment", LIMIT, || reached.exists().then_some(()));
        Interrupted { operator, segment, restore, gate }
    }

    /// Lets the server go on. It has to fail, and not to promote; gives its log.
    #[track_caller]
    fn has_to_fail(self) -> String {
        fs::remove_file(&self.gate).unwrap();
        let (status, said, _) = self.restore.wait();
        assert_eq!(status, Some(1), "{said}");
        let log = fs::read_to_string(self.operator.place("copy").join(".walback/server.log")).unwrap();
        assert!(!log.contains("selected new timeline ID"), "{log}");
        assert!(self.operator.place("copy").join("recovery.signal").exists(), "{log}");
        assert_eq!(self.operator.status("copy")["state"], "failed");
        log
    }
}

#[test]
fn an_archive_that_becomes_unreadable_stops_replay() {
    let directory = Directory::new();
    let interrupted = Interrupted::begin(&directory);
    if server_user().is_some() {
        fs::set_permissions(&interrupted.operator.archive, fs::Permissions::from_mode(0o000)).unwrap();
    } else {
        fs::rename(&interrupted.operator.archive, directory.path().join("gone")).unwrap();
    }
    let segment = interrupted.segment.clone();
    let log = interrupted.has_to_fail();
    assert!(log.contains(&format!("FATAL:  could not restore file \"{segment}\" from archive")), "{log}");
    assert!(log.contains(&format!("error: cannot get {segment} from the archive")), "{log}");
}

#[test]
fn a_segment_that_is_damaged_meanwhile_stops_replay() {
    let directory = Directory::new();
    let interrupted = Interrupted::begin(&directory);
    let segment = interrupted.segment.clone();
    let file = interrupted.operator.archive.join(format!("{segment}.gz"));
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    let log = interrupted.has_to_fail();
    assert!(log.contains(&format!("FATAL:  could not restore file \"{segment}\" from archive")), "{log}");
}

#[test]
fn a_segment_that_is_gone_ends_wal_and_not_recovery() {
    let directory = Directory::new();
    let interrupted = Interrupted::begin(&directory);
    fs::remove_file(interrupted.operator.archive.join(format!("{}.gz", interrupted.segment))).unwrap();
    let log = interrupted.has_to_fail();
    assert!(log.contains("FATAL:  recovery ended before configured recovery target was reached"), "{log}");
    assert!(!log.contains("could not restore file"), "{log}");
}

/// The first archive has it, and not whole; the second one saves it.
#[test]
fn a_damaged_copy_is_passed_over() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let first = directory.path().join("first");
    packed(&HISTORY.archive, &first, "zst", zstd);
    let trunk: Vec<PathBuf> =
        segments(&first).into_iter().filter(|path| path.to_str().unwrap().contains("/00000001")).collect();
    let damaged = &trunk[trunk.len() - 5];
    let bytes = fs::read(damaged).unwrap();
    fs::write(damaged, &bytes[..bytes.len() - 7]).unwrap();
    let mut command = walback(&directory);
    command.arg("--json").arg("--backups").arg(&operator.backups).arg("--wal").arg(&first).arg("--wal");
    command.arg(&operator.archive).args(["restore", "--yes", "--latest", "--timeline", "1", "--into"]);
    let recovery = ask(command.arg(operator.place("two"))).ended_with(0).recovery();
    assert_paused(&recovery, &HISTORY.transaction("after").after);
    let log = fs::read_to_string(operator.place("two").join(".walback/server.log")).unwrap();
    assert!(log.contains("warning: ") && log.contains(damaged.to_str().unwrap()), "{log}");
    operator.discards("two");
}

/// The last segment, of which the archive has nothing but what was received of it so far.
#[test]
fn a_partial_segment_is_recovered_from_where_it_is_needed() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let mut trunk = segments(&operator.archive).into_iter().filter(|path| path.to_str().unwrap().contains("/00000001"));
    let last = trunk.next_back().unwrap();
    fs::rename(&last, format!("{}.partial", last.display())).unwrap();
    let before = tree_digest(&operator.archive);
    let words = ["--latest", "--timeline", "1"];
    let recovery = operator.recovers("partial", &words, &HISTORY.transaction("after").after);
    assert!(sql(&recovery, "show restore_command").contains(" fetch "));
    operator.discards("partial");
    let recovery = operator.recovers("early", &["--name", "first"], &HISTORY.restore_points["first"]);
    assert!(!sql(&recovery, "show restore_command").contains(" fetch "), "nobody needs it for that");
    operator.discards("early");
    tree_digest(&operator.archive).assert_same_as(&before);
    // Packed by an archive_command.
    let partial = format!("{}.partial", last.display());
    let packed = format!("{partial}.xz");
    fs::write(&packed, xz(&fs::read(&partial).unwrap())).unwrap();
    fs::set_permissions(&packed, fs::Permissions::from_mode(0o644)).unwrap();
    fs::remove_file(&partial).unwrap();
    let recovery = operator.recovers("packed", &words, &HISTORY.transaction("after").after);
    assert!(sql(&recovery, "show restore_command").contains(" fetch "));
    operator.discards("packed");
}

/// What `pg_receivewal` received of the last segment: ended as it should be, and killed.
#[test]
fn what_pg_receivewal_packs_is_recovered_from_to_its_last_record() {
    let directory = Directory::new();
    let server = Server::v15();
    // The base backup's checkpoint removes no segment that a receiver has yet to read: they have no slots.
    let settings = vec![("wal_keep_size", "64MB".to_owned())];
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, settings, ..Options::default() });
    let mut receivers = [Signal::SIGINT, Signal::SIGKILL].map(|signal| {
        let received = directory.create(&format!("received-{signal}"));
        let mut receive = as_server(server.bin_dir.join("pg_receivewal"));
        // Without its server it ends.
        receive.args(["--compress=gzip:1", "--synchronous", "--no-loop", "-d", &cluster.connection()]);
        let child = receive.arg("-D").arg(&received).stderr(Stdio::null()).spawn().unwrap();
        (signal, received, child)
    });
    cluster.psql("create table kept (n int)");
    cluster.wait_received("receivers of WAL", 2);
    cluster.base_backup_without_wal(Format::Tar, "base");
    for n in 1..=4 {
        cluster.psql(&format!("insert into kept select {n} from generate_series(1, 100); select pg_switch_wal()"));
    }
    cluster.psql("insert into kept values (5)");
    cluster.wait_received("last record at the receivers", 2);
    let rows = cluster.psql(ROWS);
    for (signal, received, child) in &mut receivers {
        nix::sys::signal::kill(Pid::from_raw(child.id() as i32), *signal).unwrap();
        child.wait().unwrap();
        let names: Vec<_> = segments(received).into_iter().map(|file| file.display().to_string()).collect();
        assert!(names.last().unwrap().ends_with(".gz.partial"), "{names:?}");
    }
    cluster.stop(Stop::Immediate);
    for (signal, received, _) in &receivers {
        let operator =
            Operator { directory: &directory, backups: directory.path().join("backups"), archive: received.clone() };
        let before = tree_digest(received);
        let recovery = operator.recovers("received", &["--latest"], &rows);
        assert!(sql(&recovery, "show restore_command").contains(" fetch "), "{signal}");
        operator.discards("received");
        tree_digest(received).assert_same_as(&before);
    }
}
