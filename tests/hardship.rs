//! What is rare and was got wrong once: odd backups, odd configurations, odd places, and what others did meanwhile.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nix::unistd::geteuid;
use serde_json::Value;
use support::{
    Abandoned, Cluster, Directory, Format, History, LIMIT, Operator, Options, Server, as_server, ask, assert_is,
    assert_paused, auto_conf_names, is_running, is_worked_in, postmaster, rows, run, sql, tree_digest, wait_until,
    walback, within_seconds,
};
use walback::core::Lsn;

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

const PAGE: u64 = 8192;

fn rows_at(restore_point: &str) -> &'static str {
    &HISTORY.restore_points[restore_point]
}

#[track_caller]
fn lsn(value: &Value) -> Lsn {
    value.as_str().unwrap_or_else(|| panic!("this is no LSN: {value}")).parse().unwrap()
}

/// Whether recovery from a backup starts behind the first page of a segment.
#[track_caller]
fn starts_behind_the_first_page(backup: &Value, segment_mib: u64) -> bool {
    lsn(&backup["start_lsn"]).0 % (segment_mib << 20) >= PAGE
}

#[track_caller]
fn backup<'a>(listed: &'a [Value], name: &str) -> &'a Value {
    listed.iter().find(|backup| backup["label"] == name).unwrap_or_else(|| panic!("no {name} in {listed:#?}"))
}

/// Writes WAL until the table `halt` has a row, or for too long.
const WRITE_ON: &str = "do $$ begin
    while clock_timestamp() < now() + interval '60 s' and not exists (select from halt) loop
        insert into filler select string_agg(md5(random()::text), '') from generate_series(1, 3200); commit;
    end loop; end $$";

#[test]
fn a_backup_that_was_begun_while_others_wrote() {
    let directory = Directory::new();
    let settings = vec![("max_wal_size", "4GB".to_owned())];
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { settings, ..Options::default() });
    cluster.psql("create table kept (n int); insert into kept values (1)");
    cluster.psql("create table halt (); create unlogged table nothing ()");
    cluster.psql("create table filler (t text); alter table filler alter t set storage external");
    let mut operator = Operator::of_cluster(&directory, &cluster, "");
    let found = std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| cluster.psql(WRITE_ON));
        }
        let found = (1..=8).map(|number| format!("try{number}")).find(|name| {
            operator.backups = cluster.base_backup_by(Format::Tar, name, &["-X", "fetch"]).path;
            operator.listed().iter().any(|backup| starts_behind_the_first_page(backup, 16))
        });
        cluster.psql("insert into halt default values");
        found
    });
    assert!(found.is_some(), "every backup started on the first page of its segment");
    cluster.psql("insert into kept values (2)");
    cluster.restore_point("wanted");
    cluster.psql("delete from kept");
    cluster.switch_and_wait_archived();

    let recovery = operator.recovers("copy", &["--name", "wanted"], "1,2");
    assert_is(&recovery, "stopped/name", "wanted");
    operator.discards("copy");
    operator.recovers("copy", &["--immediate"], "1");
    operator.discards("copy");
}

#[test]
fn backups_of_a_standby() {
    let directory = Directory::new();
    let settings = ["autovacuum", "bgwriter_lru_maxpages"].map(|name| (name, "0".to_owned())).to_vec();
    let primary =
        Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, settings, ..Options::default() });
    primary.psql("create table kept (n int); create table filler (t text)");
    let standby = primary.standby("standby");
    // The checkpoint's place is where the backup begins, between two of the primary's own.
    primary.psql("insert into filler select md5(n::text) from generate_series(1, 1000) n; insert into kept values (1)");
    primary.psql("checkpoint");
    standby.wait_caught_up(&primary);
    standby.base_backup_by(Format::Tar, "between", &["-X", "none"]);

    // A backup of each that begin at the same place.
    primary.base_backup_without_wal(Format::Tar, "of the primary");
    primary.psql("insert into kept values (2)");
    standby.wait_caught_up(&primary);
    standby.base_backup_by(Format::TarGz, "of the standby", &["-X", "none", "--no-manifest"]);
    primary.psql("insert into kept values (3)");
    let wanted = rows(&primary);
    primary.restore_point("wanted");
    primary.psql("delete from kept");
    primary.switch_and_wait_archived();

    let backups = directory.path().join("backups");
    let operator = Operator { directory: &directory, backups, archive: primary.archive.clone() };
    let listed = operator.listed();
    let [between, of_primary, of_standby] =
        ["between", "of the primary", "of the standby"].map(|name| backup(&listed, name));
    assert!(starts_behind_the_first_page(between, 1), "{between:#}");
    assert_eq!(of_standby["start_lsn"], of_primary["start_lsn"], "the test is not what it says");
    assert!(lsn(&of_standby["stop_lsn"]) > lsn(&of_primary["stop_lsn"]), "{of_standby:#}\n{of_primary:#}");
    assert!(of_primary["finished_at"].is_string(), "{of_primary:#}");
    assert_is(of_standby, "finished_at", Value::Null);
    assert_is(of_standby, "manifest", false);

    for (backup, immediate) in [(between, "1"), (of_primary, "1"), (of_standby, "1,2")] {
        let id = backup["id"].as_str().unwrap();
        operator.recovers("copy", &["--name", "wanted", "--backup", id], &wanted);
        operator.discards("copy");
        let recovery = operator.recovers("copy", &["--immediate", "--backup", id], immediate);
        assert_is(&recovery, "resolved/replay_end", backup["stop_lsn"].clone());
        operator.discards("copy");
    }
}

#[test]
fn backups_with_a_tablespace() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let far = directory.create("far");
    cluster.psql(&format!("create tablespace far location '{}'", far.display()));
    cluster.psql("create table kept (n int) tablespace far; insert into kept values (1)");
    let oid: u64 = cluster.psql("select oid from pg_tablespace where spcname = 'far'").parse().unwrap();
    let moved = directory.path().join("moved");
    let mapping = format!("{}={}", far.display(), moved.display());
    cluster.base_backup_by(Format::Plain, "plain", &["-T", &mapping]);
    cluster.base_backup_by(Format::Tar, "tar", &[]);
    cluster.base_backup_by(Format::TarGz, "gz", &["-X", "none"]);
    cluster.switch_and_wait_archived();

    for (name, location) in [("plain", &moved), ("tar", &far), ("gz", &far)] {
        let backups = directory.path().join("backups").join(name);
        let operator = Operator { directory: &directory, backups, archive: cluster.archive.clone() };
        let listed = operator.listed()[0]["tablespaces"].clone();
        assert_is(&listed, "0/oid", oid);
        assert_is(&listed, "0/location", location.display().to_string());
        assert!(listed[0]["size_bytes"].as_u64().is_some_and(|bytes| bytes >= PAGE), "{name}: {listed}");
        let before = tree_digest(&moved);
        let plan = ask(operator.command(&["plan", "--immediate"]).arg("--into").arg(operator.place("copy")));
        let plan = plan.ended_with(0).json()["plan"].clone();
        let found = plan["findings"].as_array().unwrap().iter().any(|finding| {
            finding["code"] == "tablespaces"
                && finding["severity"] == "note"
                && finding["message"].as_str().unwrap().contains(&oid.to_string())
        });
        assert!(found, "{name}: {plan:#}");
        let place = directory.path().join("copy.tablespaces").join(oid.to_string());
        assert_is(&plan, "tablespaces/0/to", place.display().to_string());
        // The original's places are never used, nor is what would be inside the data directory.
        for bad in [location.clone(), location.join("x"), operator.place("copy").join("x")] {
            let word = format!("{oid}={}", bad.display());
            let words = ["--immediate", "--tablespace", &word];
            let refused = ask(&mut operator.restore("copy", &words)).ended_with(3);
            assert_is(&refused.json(), "error/code", "plan-forbidden");
        }
        assert!(!operator.place("copy").exists());
        assert_eq!(operator.recoveries(), [] as [Value; 0]);
        tree_digest(&moved).assert_same_as(&before);
    }
}

/// The ports on which a process listens, of the form of `/proc/net/tcp`.
fn tcp_ports_of(pid: u32) -> Vec<String> {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten().flat_map(|fd| fs::read_link(fd.path()));
    let sockets: Vec<String> = links.map(|link| link.display().to_string()).collect();
    assert!(sockets.iter().any(|link| link.starts_with("socket:")), "it has no socket at all: {sockets:?}");
    let tables =
        ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/{pid}/net/{table}")).unwrap_or_default());
    let lines = tables.iter().flat_map(|table| table.lines().skip(1));
    let fields = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
    let listening = fields.filter(|fields| fields[3] == "0A" && sockets.contains(&format!("socket:[{}]", fields[9])));
    listening.map(|fields| fields[1].to_owned()).collect()
}

#[test]
fn a_configuration_that_would_do_harm() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "plain-none");
    // It is changed below, and its manifest would say so.
    let _ = fs::remove_file(operator.backups.join("backup_manifest"));
    let witness = directory.create("witness");
    directory.write("witness/archived", "nobody touches this");
    let at = witness.display();
    let settings = format!(
        "log_error_verbosity = verbose\nlogging_collector = on\nlog_directory = '{at}'\nlog_destination = 'csvlog'\n\
         log_min_messages = panic\nlog_line_prefix = 'recovery stopping before commit '\n\
         unix_socket_group = 'nosuchgroup'\nunix_socket_permissions = 0777\nunix_socket_directories = '{at}'\n\
         session_preload_libraries = 'nosuchlib'\nlocal_preload_libraries = 'nosuchlib'\n\
         shared_preload_libraries = 'nosuchlib'\n\
         data_directory = '{at}'\nexternal_pid_file = '{at}/pid'\nhba_file = '{at}/hba'\nident_file = '{at}/ident'\n\
         archive_mode = on\narchive_command = 'echo %f >> {at}/archived'\n\
         restore_command = 'echo %f >> {at}/archived; false'\nrecovery_end_command = 'echo end >> {at}/archived'\n\
         archive_cleanup_command = 'echo %r >> {at}/archived'\nrecovery_min_apply_delay = '1h'\n\
         primary_conninfo = 'host={at}'\nprimary_slot_name = 'nosuchslot'\nsynchronous_standby_names = '*'\n\
         promote_trigger_file = '{at}/archived'\nlisten_addresses = '*'\nssl = on\nhot_standby = off\n\
         default_transaction_read_only = on\n"
    );
    let mut conf = OpenOptions::new().append(true).open(operator.backups.join("postgresql.conf")).unwrap();
    conf.write_all(settings.replace("promote_trigger_file", "#promote_trigger_file").as_bytes()).unwrap();
    let before = tree_digest(&witness);

    let recovery = operator.recovers("copy", &["--name", "first"], rows_at("first"));
    let server = postmaster(&operator.place("copy"));
    let port: u16 = sql(&recovery, "show port").parse().unwrap();
    let assert_alone = || {
        assert_eq!(tcp_ports_of(server), [] as [&str; 0]);
        assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
        tree_digest(&witness).assert_same_as(&before);
    };
    assert_alone();
    let promoted = operator.about(&["promote", "--yes"]).ended_with(0).recovery();
    assert_is(&promoted, "state", "promoted");
    assert_is(&promoted, "timeline", 3);
    sql(&promoted, "begin read write; insert into kept values (7); commit; select pg_switch_wal()");
    sql(&promoted, "checkpoint");
    assert_alone();
    operator.about(&["stop", "copy"]).ended_with(0);
    assert!(!is_running(server));
    operator.discards("copy");
    tree_digest(&witness).assert_same_as(&before);
}

#[test]
fn what_was_left_behind_in_a_plain_backup() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "plain-none");
    // It is changed below, and its manifest would say so.
    let _ = fs::remove_file(operator.backups.join("backup_manifest"));
    let leave = |name: &str, text: &str| fs::write(operator.backups.join(name), text).unwrap();
    leave("recovery.conf", "restore_command = 'false'\nrecovery_target_timeline = '7'\n");
    leave("standby.signal", "");
    leave("recovery.signal", "");
    leave("promote", "");
    leave("postmaster.opts", "/nowhere/postgres \"-D\" \"/nowhere\"\n");
    leave("backup_label.old", "START WAL LOCATION: 0/0 (file 000000010000000000000000)\n");
    leave("postgresql.auto.conf.tmp", "port = 1\n");
    leave(
        "postgresql.auto.conf",
        "recovery_target_time = '2001-01-01 00:00:00+00'\nRecovery_Target_Name 'elsewhere' # as it was\n\
         recovery_target_inclusive = off\nrecovery_target_action = 'shutdown'\nrecovery_target_timeline = 2\n\
         primary_conninfo = 'host=/nowhere'\n",
    );
    let mut conf = OpenOptions::new().append(true).open(operator.backups.join("postgresql.conf")).unwrap();
    conf.write_all(b"recovery_target_xid = '4000000'\n").unwrap();
    let recovery = operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    assert_is(&recovery, "stopped/name", "first");
    let copy = operator.place("copy");
    assert!(!copy.join("standby.signal").exists() && !copy.join("recovery.conf").exists());
    // And on from there, by another kind of target.
    let lsn = &HISTORY.transaction("three").lsn;
    let on = operator.about(&["retarget", "--lsn", lsn, "--timeline", "1", "--yes"]).ended_with(0).recovery();
    assert_paused(&on, &HISTORY.transaction("three").after);
    let promoted = operator.about(&["promote", "--yes"]).ended_with(0).recovery();
    assert_is(&promoted, "state", "promoted");
    operator.about(&["stop"]).ended_with(0);
    operator.discards("copy");

    // A server has run in this one, or still does: it is not what the label says any more.
    leave("postmaster.pid", "1\n");
    let problems = &operator.listed()[0]["problems"];
    assert!(problems[0].as_str().unwrap().contains("postmaster.pid"), "{problems:#}");
    let refused = ask(&mut operator.restore("copy", &["--name", "first", "--timeline", "1"])).ended_with(1);
    assert_is(&refused.json(), "error/code", "no-usable-backup");
    assert!(refused.err.contains("postmaster.pid"), "{}", refused.shown);
    assert!(!copy.exists());
}

#[test]
fn a_journal_whose_last_line_was_cut_off() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    operator.recovers("copy", &["--name", "first"], rows_at("first"));
    let journal = operator.journal("copy");
    let whole = fs::read_to_string(&journal).unwrap();
    let cut = |left: usize| File::options().write(true).open(&journal).unwrap().set_len(left as u64).unwrap();
    let last = whole.trim_end().rfind('\n').unwrap() + 1;
    let paused = whole.find("\"paused\"").unwrap();
    for left in [whole.len() - 1, (last + whole.len()) / 2, last + 1, paused] {
        fs::write(&journal, &whole).unwrap();
        cut(left);
        assert_paused(&operator.status("copy"), rows_at("first"));
        assert!(fs::read(&journal).unwrap().ends_with(b"\n"), "cut to {left} of {}, and not mended", whole.len());
        assert_eq!(operator.recoveries()[0]["state"], "paused");
    }
    // Commands that nobody asked for the status before.
    let cut_half_a_line = || {
        let text = fs::read_to_string(&journal).unwrap();
        cut(text.len() - 2);
    };
    cut_half_a_line();
    assert_is(&operator.about(&["stop", "copy"]).ended_with(0).recovery(), "state", "shut-down");
    cut_half_a_line();
    let on = operator.about(&["retarget", "copy", "--name", "fork", "--yes"]).ended_with(0).recovery();
    assert_paused(&on, rows_at("fork"));
    cut_half_a_line();
    operator.discards("copy");
    assert_eq!(operator.recoveries()[0]["state"], "discarded");
}

/// A server that somebody promoted past the program by `promote`, who then made a table; `first` is asked then.
#[track_caller]
fn promoted_by_hand(promote: impl Fn(&Operator<'_>, &Value), first: &[&str]) {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let paused = operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    let server = postmaster(&operator.place("copy"));
    promote(&operator, &paused);
    wait_until("promotion", LIMIT, || (sql(&paused, "select pg_is_in_recovery()") == "f").then_some(()));
    sql(&paused, "create table precious as select 1 as n");

    let retarget = ["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"];
    let back = ["retarget", "copy", "--immediate", "--timeline", "1", "--yes"];
    for words in [first, &["promote", "copy", "--yes"], &retarget, &back] {
        let answer = operator.about(words);
        match words[0] {
            "status" => {
                let recovery = answer.ended_with(0).recovery();
                assert_is(&recovery, "state", "promoted");
                assert_is(&recovery, "timeline", 3);
            }
            "promote" => assert_is(&answer.ended_with(1).json(), "error/code", "not-paused"),
            "discard" => assert_is(&answer.ended_with(1).json(), "error/code", "in-use"),
            _ => assert_is(&answer.ended_with(1).json(), "error/code", "no-way-back"),
        }
        assert_eq!(postmaster(&operator.place("copy")), server, "{words:?} touched the server");
        assert_eq!(sql(&paused, "select n from precious"), "1");
    }
    let now = operator.status("copy");
    assert_is(&now, "state", "promoted");
    assert_is(&now, "timeline", 3);
    let left = auto_conf_names(&operator.place("copy"));
    assert!(!left.iter().any(|name| name.starts_with("recovery_") || name == "restore_command"), "{left:?}");
    let refused = operator.about(&["discard", "copy", "--yes"]).ended_with(1);
    assert_is(&refused.json(), "error/code", "in-use");
    assert!(is_running(server));

    operator.about(&["stop", "copy"]).ended_with(0);
    let refused = operator.about(&retarget).ended_with(1);
    assert_is(&refused.json(), "error/code", "no-way-back");
    operator.discards("copy");
}

fn by_pg_ctl(operator: &Operator<'_>, _: &Value) {
    run(Server::v15().command("pg_ctl").args(["promote", "-w", "-D"]).arg(operator.place("copy")));
}

fn by_resuming(_: &Operator<'_>, paused: &Value) {
    sql(paused, "select pg_wal_replay_resume()");
}

#[test]
fn a_server_that_was_resumed_by_hand() {
    promoted_by_hand(by_resuming, &["status", "copy"]);
}

#[test]
fn a_server_that_was_promoted_by_hand() {
    promoted_by_hand(by_pg_ctl, &["status", "copy"]);
}

#[test]
fn a_server_that_was_promoted_by_hand_before_a_retarget() {
    promoted_by_hand(by_pg_ctl, &["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"]);
}

#[test]
fn a_server_that_was_resumed_by_hand_before_a_discard() {
    promoted_by_hand(by_resuming, &["discard", "copy", "--yes"]);
}

#[test]
fn a_server_that_was_promoted_by_hand_and_crashed() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let paused = operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    by_pg_ctl(&operator, &paused);
    sql(&paused, "create table precious as select 1 as n");
    run(Server::v15().command("pg_ctl").args(["stop", "-m", "immediate", "-D"]).arg(operator.place("copy")));
    let retarget = ["retarget", "copy", "--immediate", "--timeline", "1", "--yes"];
    let refused = operator.about(&retarget).ended_with(1);
    assert_is(&refused.json(), "error/code", "no-way-back");
    let now = operator.status("copy");
    assert_is(&now, "state", "shut-down");
    assert_is(&now, "timeline", 3);
    let left = auto_conf_names(&operator.place("copy"));
    assert!(!left.iter().any(|name| name.starts_with("recovery_target")), "{left:?}");
    assert!(operator.place("copy").join("PG_VERSION").exists());
    operator.discards("copy");
}

#[test]
fn a_fifo_is_never_waited_for() {
    for (backup, in_archive, names) in [
        ("tar-none", true, &["000000010000000000000005", "first", "needed"][..]),
        ("tar-none", false, &["base.tar", "backup_manifest"]),
        ("tar-stream", false, &["pg_wal.tar"]),
        ("gz", false, &["base.tar.gz", "pg_wal.tar.gz"]),
        ("plain-stream", false, &["backup_label", "PG_VERSION", "global/pg_control", "tablespace_map", "base/1/fifo"]),
    ] {
        for name in names {
            let directory = Directory::new();
            let operator = Operator::of_copies(&directory, &HISTORY, backup);
            let path = match *name {
                "first" => operator.archive.join(segments(&operator.archive)[0].clone()),
                "needed" => operator.archive.join(segment_of("one")),
                name if in_archive => operator.archive.join(name),
                name => operator.backups.join(name),
            };
            let _ = fs::remove_file(&path);
            run(Command::new("mkfifo").arg(&path));
            fifo_is_not_waited_for(&operator, &path);
        }
    }
}

/// The archive's segments of timeline 1, in order.
fn segments(archive: &Path) -> Vec<String> {
    let names = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.len() == 24 && name.starts_with("00000001")).collect();
    names.sort();
    names
}

/// The segment in which a transaction of timeline 1 ended.
fn segment_of(transaction: &str) -> String {
    let number = HISTORY.transaction(transaction).lsn.parse::<Lsn>().unwrap().0 >> 20;
    format!("{:08X}{:08X}{:08X}", 1, number >> 12, number & 0xFFF)
}

#[track_caller]
fn fifo_is_not_waited_for(operator: &Operator<'_>, fifo: &Path) {
    let fifo = fifo.display();
    let into = operator.place("copy");
    for words in
        [&["backups"][..], &["timelines"], &["plan", "--name", "first"], &["restore", "--name", "first", "--yes"]]
    {
        let mut command = operator.command(words);
        if words.len() > 1 {
            command.args(["--timeline", "1", "--into"]).arg(&into);
        }
        let answer = ask(&mut within_seconds(20, &command));
        assert_ne!(answer.status, 137, "{fifo}: it waited\n{}", answer.shown);
        assert!(!answer.err.contains("panicked"), "{fifo}: {}", answer.shown);
        if answer.status == 0 {
            continue;
        }
        let said = answer.lines().pop().unwrap()["error"]["message"].is_string();
        assert!(said && answer.err.contains("error: "), "{fifo}: {}", answer.shown);
    }
    assert!(!into.exists() || operator.recoveries()[0]["state"] == "paused", "{fifo}: half a recovery is left");
}

/// The directory of a recovered server's socket, outside of everything that a test removes; removed with this.
struct SocketDirectory(PathBuf);

impl SocketDirectory {
    #[track_caller]
    fn of(recovery: &Value) -> SocketDirectory {
        let shown = sql(recovery, "show unix_socket_directories");
        let directory = shown.trim_matches('"');
        let name = directory.strip_prefix("/tmp/walback-").unwrap_or_else(|| panic!("it is in {directory}"));
        assert!(!name.contains([',', '/']), "{directory}");
        SocketDirectory(PathBuf::from(directory))
    }
}

impl Drop for SocketDirectory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_directory_whose_path_is_too_long_for_a_socket() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let name = format!("{}/{}", "d".repeat(60), "e".repeat(60));
    directory.create(&"d".repeat(60));
    let recovery = operator.recovers(&name, &["--name", "first"], rows_at("first"));
    let SocketDirectory(sockets) = &SocketDirectory::of(&recovery);
    let metadata = fs::symlink_metadata(sockets).unwrap();
    assert_eq!((metadata.mode() & 0o7777, metadata.is_dir()), (0o700, true));
    assert_eq!(metadata.uid(), fs::metadata(operator.place(&name)).unwrap().uid());

    // A server that is killed leaves its socket behind.
    let server = postmaster(&operator.place(&name));
    run(Command::new("kill").args(["-9", &server.to_string()]));
    wait_until("end of the server", LIMIT, || (!is_worked_in(&operator.place(&name))).then_some(()));
    assert!(fs::read_dir(sockets).unwrap().next().is_some(), "the test is not what it says");
    let id = recovery["id"].as_str().unwrap();
    let on = operator.about(&["retarget", id, "--name", "fork", "--yes"]).ended_with(0).recovery();
    assert_paused(&on, rows_at("fork"));
    let server = postmaster(&operator.place(&name));
    run(Command::new("kill").args(["-9", &server.to_string()]));
    wait_until("end of the server", LIMIT, || (!is_worked_in(&operator.place(&name))).then_some(()));
    let discarded = operator.about(&["discard", id, "--yes"]).ended_with(0).recovery();
    assert_is(&discarded, "state", "discarded");
    assert!(!operator.place(&name).exists());
    assert!(!sockets.exists(), "{sockets:?} is left");
}

#[test]
fn directories_whose_names_mean_something_to_others() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    for name in ["a,b", "it's a \\ place, \"so\" %p %%", "it's a \\ place \"so\" %p %%"] {
        let recovery = operator.recovers(name, &["--name", "first"], rows_at("first"));
        let outside = name.contains(',').then(|| SocketDirectory::of(&recovery));
        let id = recovery["id"].as_str().unwrap();
        assert_is(&operator.about(&["promote", id, "--yes"]).ended_with(0).recovery(), "state", "promoted");
        operator.about(&["stop", id]).ended_with(0);
        operator.about(&["discard", id, "--yes"]).ended_with(0);
        assert!(!operator.place(name).exists(), "{name}");
        assert!(outside.is_none_or(|sockets| !sockets.0.exists()), "{name}");
    }
}

#[test]
fn a_link_in_place_of_the_directory() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let place = directory.create("place");
    let target = place.join("target");
    fs::create_dir(&target).unwrap();
    symlink(&target, place.join("link")).unwrap();
    symlink(place.join("missing"), place.join("dangling")).unwrap();
    let before = tree_digest(&place);
    for name in ["place/link", "place/link/", "place/link/.", "place/dangling"] {
        let into = format!("{}/{name}", directory.path().display());
        let plan = ask(&mut operator.command(&["plan", "--name", "first", "--into", &into])).ended_with(3).json();
        assert_is(&plan, "plan/findings/0/code", "not-a-directory");
        let refused = ask(&mut operator.command(&["restore", "--name", "first", "--yes", "--into", &into]));
        assert_is(&refused.ended_with(3).json(), "error/code", "plan-forbidden");
        tree_digest(&place).assert_same_as(&before);
    }
    assert_eq!(operator.recoveries(), [] as [Value; 0]);
}

#[test]
fn what_failed_to_unpack_into_a_directory_that_was_there() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "gz");
    let base = operator.backups.join("base.tar.gz");
    let mut bytes = fs::read(&base).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&base, bytes).unwrap();
    for name in ["there", "new"] {
        if name == "there" {
            directory.create(name);
        }
        let failed = ask(&mut operator.restore(name, &["--name", "first"])).ended_with(1);
        // Whoever notices first: what decompresses it, or the manifest.
        let error = failed.json();
        let code = error["error"]["code"].as_str().unwrap();
        assert!(["backup-broken", "backup-damaged"].contains(&code), "{error}");
        assert_is(&operator.status(name), "state", "failed");
        let discarded = operator.about(&["discard", name, "--yes"]).ended_with(0).recovery();
        assert_is(&discarded, "state", "discarded");
        assert_is(&operator.status(name), "state", "discarded");
    }
    assert_eq!(fs::read_dir(operator.place("there")).unwrap().count(), 0);
    assert!(!operator.place("new").exists());
}

#[test]
fn links_that_the_servers_user_plants_lead_root_nowhere() {
    if !geteuid().is_root() {
        return;
    }
    const SECRET: &str = "# only root knows this\n";
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let vault = directory.create("vault");
    let secret = vault.join("secret");
    fs::write(&secret, SECRET).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let before = tree_digest(&vault);
    let copy = operator.place("copy");
    let plant = |name: &str| {
        run(as_server("rm").arg("-f").arg(copy.join(name)));
        run(as_server("ln").arg("-s").arg(&secret).arg(copy.join(name)));
    };
    let assert_kept = |what: &str| {
        tree_digest(&vault).assert_same_as(&before);
        let mut grep = Command::new("grep");
        let found = grep.args(["-rlF", SECRET.trim_end()]).arg(&copy).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&found.stdout), "", "{what}: root's secret was copied");
    };
    let strangers = || run(Command::new("find").arg(&copy).args(["!", "-user", "postgres"]));

    operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    assert_eq!(strangers(), "", "these belong to somebody else");
    // Names that are written to are taken away first.
    for name in ["pg_hba.conf", "pg_ident.conf", "recovery.json"] {
        plant(&format!(".walback/{name}.walback-new"));
    }
    plant("postgresql.auto.conf.walback-new");
    plant("recovery.signal.walback-new");
    let on = ["retarget", "copy", "--name", "fork", "--timeline", "1", "--yes"];
    assert_paused(&operator.about(&on).ended_with(0).recovery(), rows_at("fork"));
    assert_kept("names to be written");
    plant(".walback/pg_hba.conf");
    let on = ["retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes"];
    assert_paused(&operator.about(&on).ended_with(0).recovery(), rows_at("trunk"));
    assert_kept("a file to be replaced");

    // What is read is read with the rights of whoever put it there.
    plant("postgresql.auto.conf");
    let on = ["retarget", "copy", "--xid", &HISTORY.transaction("after").xid, "--timeline", "1", "--yes"];
    let refused = operator.about(&on).ended_with(1);
    assert!(
        refused.err.contains("postgresql.auto.conf") && refused.err.contains("ermission denied"),
        "{}",
        refused.shown
    );
    assert_kept("a file to be read");
    assert_eq!(strangers(), "");

    // Unpacked again, with links planted where files go.
    plant(".walback/postgresql.auto.conf.from-backup");
    let back = ["retarget", "copy", "--name", "first", "--timeline", "1", "--yes"];
    let _ = operator.about(&back);
    assert_kept("unpacking again");
    operator.discards("copy");
    tree_digest(&vault).assert_same_as(&before);
}

#[test]
fn names_that_are_not_utf_8() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let parent = directory.create("parent");
    let odd = parent.join(OsStr::from_bytes(b"back\xFFup"));
    run(Command::new("cp").arg("-a").arg(&operator.backups).arg(&odd));
    let into = operator.place("copy");
    for backups in [&odd, &parent] {
        for words in
            [&["backups"][..], &["timelines"], &["plan", "--name", "first"], &["restore", "--name", "first", "--yes"]]
        {
            let mut command = walback(&directory);
            command.arg("--json").arg("--backups").arg(backups).arg("--wal").arg(&operator.archive).args(words);
            if words.len() > 1 {
                command.arg("--into").arg(&into);
            }
            let answer = ask(&mut command);
            assert!(!answer.err.contains("panicked"), "{}", answer.shown);
            assert!([0, 1].contains(&answer.status), "{}", answer.shown);
            let told = answer.json();
            if answer.status == 1 {
                assert!(told["error"]["code"].is_string() && told["error"]["hint"].is_string(), "{}", answer.shown);
            } else {
                assert_ne!(words[0], "restore", "{}", answer.shown);
            }
            assert!(!into.exists(), "{}", answer.shown);
        }
    }
    assert_eq!(operator.recoveries(), [] as [Value; 0]);
}

#[test]
fn a_pause_behind_a_long_log_is_seen_at_once() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    let restore = operator.restore("copy", &["--name", "trunk", "--timeline", "1", "--events"]);
    let abandoned = Abandoned::begin(&operator, restore, &segment_of("three"));
    assert_is(&operator.status("copy"), "state", "replaying");
    let line = "2026-01-01 00:00:00.000 UTC [1] postgres 00000: LOG:  this says nothing that matters\n";
    abandoned.add_to_log(line.repeat(3_000_000 / line.len()).as_bytes());
    abandoned.let_it_pause();
    let recovery = operator.about(&["status", "copy"]).ended_with(0).recovery();
    assert_paused(&recovery, rows_at("trunk"));
    operator.discards("copy");
}

#[test]
fn a_pause_behind_words_that_are_not_utf_8_is_seen() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-stream");
    operator.recovers("copy", &["--name", "first", "--timeline", "1"], rows_at("first"));
    let log = operator.place("copy").join(".walback/server.log");
    let words = [&[0xFF; 20_000][..], b"\n"].concat();
    OpenOptions::new().append(true).open(log).unwrap().write_all(&words).unwrap();
    let mut retarget = walback(&directory);
    retarget.args(["--json", "retarget", "copy", "--name", "trunk", "--timeline", "1", "--yes", "--events"]);
    let abandoned = Abandoned::begin(&operator, retarget, &segment_of("three"));
    abandoned.let_it_pause();
    assert_paused(&operator.status("copy"), rows_at("trunk"));
}
