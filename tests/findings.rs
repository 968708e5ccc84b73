//! For each finding of a plan a case that provokes it, and one next to it that does not: real backups, real archives.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use nix::unistd::geteuid;
use serde_json::Value;
use support::{
    Answer, Cluster, Directory, Format, History, Operator, Options, Server, Stop, as_operator, ask, assert_paused,
    client, run, sql, wait_until,
};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// The plan to restore point `first`, or to where `words` say.
fn plan_command(operator: &Operator<'_>, words: &[&str]) -> Command {
    let targets = ["--name", "--latest", "--xid", "--lsn", "--time"];
    let mut command = operator.command(&["plan"]);
    if !words.iter().any(|word| targets.contains(word)) {
        command.args(["--name", "first"]);
    }
    if !words.contains(&"--into") {
        command.arg("--into").arg(operator.place("new"));
    }
    command.args(words);
    command
}

fn plan(operator: &Operator<'_>, words: &[&str]) -> Value {
    planned(&ask(&mut plan_command(operator, words)))
}

fn planned(answer: &Answer) -> Value {
    assert!([0, 3].contains(&answer.status), "{}", answer.shown);
    let plan = answer.json()["plan"].clone();
    let errors = plan["findings"].as_array().unwrap().iter().any(|finding| finding["severity"] == "error");
    assert_eq!(answer.status == 3, errors, "{}", answer.shown);
    plan
}

fn finding<'a>(plan: &'a Value, code: &str) -> Option<&'a Value> {
    plan["findings"].as_array().unwrap().iter().find(|finding| finding["code"] == code)
}

/// It has the finding, of this severity, with a hint, and with all of `says` in it.
#[track_caller]
fn has(plan: &Value, code: &str, severity: &str, says: &[&str]) {
    let found = finding(plan, code).unwrap_or_else(|| panic!("no {code}: {:#}", plan["findings"]));
    assert_eq!(found["severity"], severity, "{found:#}");
    assert!(found["hint"].as_str().is_some_and(|hint| hint.len() > 10), "{found:#}");
    for part in says {
        assert!(found.to_string().contains(part), "{part:?} is not said: {found:#}");
    }
}

#[track_caller]
fn lacks(plan: &Value, code: &str) {
    assert_eq!(finding(plan, code), None);
}

/// A value of `field` of a plan's settings.
fn setting<'a>(plan: &'a Value, name: &str) -> &'a str {
    plan["settings"][name].as_str().unwrap_or_default()
}

fn skip(what: &str) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("a test").to_owned();
    let _ = std::io::stderr().write_all(format!("SKIPPED: {test}: {what}\n").as_bytes());
}

/// One who works with a copy of the plain backup that may be changed.
fn with_backup<'a>(directory: &'a Directory, change: impl FnOnce(&Path)) -> Operator<'a> {
    let copy = directory.path().join("backup");
    run(Command::new("cp").arg("-a").arg(HISTORY.backups.join("plain-none")).arg(&copy));
    change(&copy);
    // It is as it was changed, and its manifest would say so.
    let _ = fs::remove_file(copy.join("backup_manifest"));
    Operator { directory, backups: copy, archive: HISTORY.archive.clone() }
}

/// Adds lines to a file of a backup.
fn add(backup: &Path, file: &str, lines: &str) {
    let path = backup.join(file);
    let before = fs::read_to_string(&path).unwrap_or_default();
    fs::write(&path, format!("{before}{lines}\n")).unwrap();
}

/// What `with_backup` gives where only lines of the configuration are added.
fn with_lines<'a>(directory: &'a Directory, lines: &str) -> Operator<'a> {
    with_backup(directory, |backup| add(backup, "postgresql.conf", lines))
}

#[test]
fn every_code_in_the_document_has_a_case_and_a_neighbour() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| fs::read_to_string(root.join(file)).unwrap();
    let document = read("docs/findings.md");
    let (of_plans, of_checks) = document.split_once("\n## Archives and backups\n").unwrap();
    // Codes with their severities.
    let codes = |part: &str| -> BTreeSet<(String, String)> {
        let rows = part.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('|'));
        let cells =
            rows.map(|(code, rest)| (code.trim_end_matches(['`', ' ']), rest.split('|').next().unwrap().trim()));
        cells.map(|(code, severity)| (code.to_owned(), severity.to_owned())).collect()
    };
    let squeezed: String = read("tests/findings.rs").split_whitespace().collect();
    let calls = |name: &str, end: &str| {
        let calls = squeezed.split(name).skip(1).filter_map(|rest| rest.split(';').next());
        calls.filter(|call| call.contains(end)).count()
    };
    // These need what another test has: a compressed archive, a file system of its own, tablespaces, a server at the stop.
    let elsewhere = [
        ("decompressor-missing", "tests/compressed.rs"),
        ("too-little-space", "tests/refusals.rs"),
        ("tablespace-misplaced", "tests/unpack.rs"),
        ("tablespace-unknown", "tests/unpack.rs"),
        ("tablespaces-unverified", "tests/unpack.rs"),
        ("backup-unverified", "tests/unpack.rs"),
        ("backup-has-more", "tests/unpack.rs"),
        ("pristine-left", "tests/retarget.rs"),
        ("paused-on-the-way", "tests/faults.rs"),
        ("fetch-unusable", "tests/fetched.rs"),
        ("program-copied", "tests/fetched.rs"),
        ("no-combinebackup", "tests/incremental.rs"),
        ("backup-combined", "tests/incremental.rs"),
        ("combine-warned", "tests/incremental.rs"),
        ("command-not-runnable", "tests/command.rs"),
    ];
    for (code, file) in elsewhere {
        assert!(read(file).contains(&format!("\"{code}\"")), "{file} has no case for {code}");
    }
    let of_plans = codes(of_plans);
    assert!(of_plans.len() > 30, "{of_plans:?}");
    for (code, severity) in of_plans.iter().filter(|(code, _)| !elsewhere.iter().any(|(known, _)| known == code)) {
        // Where recovery stops is told with the targets, in a test of its own.
        let stops = root.join("tests/resolution.rs");
        if stops.exists() && fs::read_to_string(&stops).unwrap().contains(&format!("\"{code}\"")) {
            continue;
        }
        assert!(calls("has(", &format!(",\"{code}\",\"{severity}\",")) > 0, "no case provokes {code}: {severity}");
        assert!(calls("lacks(", &format!(",\"{code}\")")) > 0, "no neighbour of {code}");
    }
    // What a check says of archives has tests of its own, some of them beside what says it.
    let with_servers = ["archive", "archives", "check", "command", "index", "hardship", "refusals"];
    let with_servers = with_servers.map(|name| read(&format!("tests/{name}.rs"))).concat();
    let beside = ["audit", "archive", "archiving", "primary", "retention"].map(|name| {
        let source = read(&format!("src/plan/{name}.rs"));
        source.split_once("#[cfg(test)]").map(|(_, tests)| tests.to_owned()).unwrap()
    });
    let of_archives = with_servers + &beside.concat();
    // What cannot be read is made by no test that root runs; what changes while it is read, by none that can be relied on;
    // for segments that do not go on where the one before ends there would have to be another server's by chance; and how
    // long there is room is told of a server that has archived for hours.
    let unprovoked = ["not-looked-at", "backup-changes", "wal-discontinuous", "archive-growth"];
    for (code, _) in codes(of_checks).into_iter().filter(|(code, _)| !unprovoked.contains(&code.as_str())) {
        assert!(of_archives.contains(&format!("\"{code}\"")), "no test knows {code}");
    }
}

#[test]
fn where_nothing_is_wrong_nothing_is_found() {
    let directory = Directory::new();
    for backup in ["plain-none", "plain-stream", "tar-none", "tar-stream", "gz"] {
        let operator = Operator::of(&directory, &HISTORY, backup);
        // But for the timeline that there is besides.
        let plan = plan(&operator, &["--name", "first", "--timeline", "1"]);
        let findings = plan["findings"].as_array().unwrap();
        let codes: Vec<&Value> = findings.iter().map(|finding| &finding["code"]).collect();
        assert_eq!(codes, ["other-branches"], "{backup}");
    }
    HISTORY.assert_untouched();
}

#[test]
fn the_place() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let into = |path: &Path| plan(&operator, &["--into", path.to_str().unwrap()]);
    let fine = into(&directory.path().join("new"));
    let full = directory.create("full");
    directory.write("full/file", "x");
    has(&into(&full), "directory-not-empty", "error", &["file"]);
    lacks(&into(&directory.create("empty")), "directory-not-empty");
    has(&into(&full.join("file")), "not-a-directory", "error", &[]);
    lacks(&fine, "not-a-directory");
    has(&into(&directory.path().join("none/new")), "no-parent-directory", "error", &["none"]);
    lacks(&fine, "no-parent-directory");
    has(&into(&HISTORY.archive.join("new")), "inside-source", "error", &["archive"]);
    lacks(&fine, "inside-source");
    directory.create("cluster");
    directory.write("cluster/PG_VERSION", "15\n");
    directory.create("cluster/deep");
    has(&into(&directory.path().join("cluster/deep/new")), "inside-data-directory", "error", &["cluster"]);
    directory.create("kept.pristine");
    let keep = |words: &[&str]| plan(&operator, words);
    let place = |name: &str| directory.path().join(name).display().to_string();
    let taken = keep(&["--keep-pristine=copy", "--into", &place("kept")]);
    has(&taken, "pristine-taken", "error", &["kept.pristine"]);
    lacks(&keep(&["--keep-pristine=copy", "--into", &place("new")]), "pristine-taken");
    let memory = Directory::in_memory();
    let there = memory.path().join("new").display().to_string();
    has(
        &keep(&["--keep-pristine", "--into", &there]),
        "no-reflinks",
        "error",
        &["tmpfs", "--keep-pristine=copy takes"],
    );
    lacks(&keep(&["--keep-pristine=copy", "--into", &there]), "no-reflinks");
    directory.create("cluster-beside");
    lacks(&into(&directory.path().join("cluster-beside/new")), "inside-data-directory");
    HISTORY.assert_untouched();
}

#[test]
fn places_of_other_users() {
    if !geteuid().is_root() {
        return skip("only root can make what the server's user may not use");
    }
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let closed = directory.create("closed");
    let inside = closed.join("new");
    let into = ["--into", inside.to_str().unwrap()];
    let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    nix::unistd::chown(&closed, Some(0.into()), Some(0.into())).unwrap();
    set(&closed, 0o700);
    has(&plan(&operator, &into), "directory-unreachable", "error", &["postgres", "closed"]);
    set(&closed, 0o755);
    lacks(&plan(&operator, &into), "directory-unreachable");
    let as_postgres = |words: &[&str]| planned(&ask(&mut as_operator(&plan_command(&operator, words))));
    has(&as_postgres(&into), "parent-not-writable", "error", &["closed"]);
    set(&closed, 0o777);
    lacks(&as_postgres(&into), "parent-not-writable");

    let foreign = ["--into", closed.to_str().unwrap()];
    has(&as_postgres(&foreign), "directory-foreign", "error", &["root", "postgres"]);
    let own = directory.create("own");
    lacks(&as_postgres(&["--into", own.to_str().unwrap()]), "directory-foreign");
    lacks(&plan(&operator, &foreign), "directory-foreign");

    let copies = Directory::new();
    let operator = Operator::of_copies(&copies, &HISTORY, "tar-none");
    lacks(&plan(&operator, &[]), "archive-unreadable");
    nix::unistd::chown(&operator.archive, Some(0.into()), Some(0.into())).unwrap();
    set(&operator.archive, 0o700);
    has(&plan(&operator, &[]), "archive-unreadable", "error", &["postgres"]);
}

#[test]
fn programs_users_and_ports() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let fine = plan(&operator, &[]);
    has(&plan(&operator, &["--bin-dir", "/nonexistent"]), "server-programs-missing", "error", &["15", "/nonexistent"]);
    lacks(&fine, "server-programs-missing");
    has(&plan(&operator, &["--run-as", "nobody-of-this-name"]), "no-server-user", "error", &["nobody-of-this-name"]);
    lacks(&fine, "no-server-user");
    let tcp = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = tcp.local_addr().unwrap().port().to_string();
    has(&plan(&operator, &["--port", &port]), "port-taken", "error", &[&port]);
    lacks(&fine, "port-taken");
    if let Some(other) = Server::available(16) {
        let other = ["--bin-dir", other.bin_dir.to_str().unwrap()];
        has(&plan(&operator, &other), "server-programs-wrong", "error", &["16"]);
        lacks(&fine, "server-programs-wrong");
    }
}

#[test]
fn settings_of_the_operator() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "gz");
    let set = |setting: &str| plan(&operator, &["--set", setting]);
    let harmless = set("work_mem=8MB");
    has(&set("hba_file=/x"), "setting-reserved", "error", &["hba_file"]);
    lacks(&harmless, "setting-reserved");
    has(&set("listen_addresses=*"), "isolation-weakened", "warning", &["listen_addresses"]);
    lacks(&harmless, "isolation-weakened");
    has(&set("max_connections=20"), "setting-too-low", "error", &["20", "100"]);
    let higher = set("max_connections=200");
    lacks(&higher, "setting-too-low");
    assert_eq!(setting(&higher, "max_connections"), "200");
    has(&set("shared_buffers=lots"), "setting-wrong", "error", &["shared_buffers", "lots"]);
    has(&set("nonsense=1"), "setting-wrong", "error", &["unrecognized"]);
    lacks(&harmless, "setting-wrong");
    lacks(&set("my_extension.depth=3"), "setting-wrong");
    has(&set("shared_preload_libraries=no_such_library"), "library-missing", "error", &["no_such_library"]);
    lacks(&set("shared_preload_libraries=auto_explain"), "library-missing");
}

#[test]
fn timelines_and_times() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    has(&plan(&operator, &["--latest"]), "timeline-left", "warning", &["timeline 1"]);
    let chosen = plan(&operator, &["--latest", "--timeline", "1"]);
    lacks(&chosen, "timeline-left");

    // Of two timelines one is not followed, whichever it is; the newer may have forked off too early for the backup.
    has(&chosen, "other-branches", "note", &["2 (off 1 at ", "--timeline 2"]);
    lacks(&plan(&operator, &["--latest", "--timeline", "2"]), "other-branches");

    // The clock of the machine that made the WAL went wrong.
    let last = HISTORY.transaction("after");
    let is_its_end = |record: &[u8]| {
        record[17] == 1 && record[16] & 0x70 == 0 && record[4..8] == last.xid.parse::<u32>().unwrap().to_le_bytes()
    };
    let time = [HISTORY.transaction("accident").at.as_str(), "2098-01-01 00:00:00+00"];
    let to = |time: &str| plan(&operator, &["--time", time, "--timeline", "1"]);
    lacks(&to(time[0]), "time-in-the-future");
    patch(&operator.archive, &is_its_end, &|record| {
        // 2099, in microseconds since 2000; behind the headers of the record and of its main data.
        record[26..34].copy_from_slice(&(99_i64 * 31_557_600 * 1_000_000).to_le_bytes());
    });
    has(&to(time[1]), "time-in-the-future", "warning", &["2098"]);
}

#[test]
fn two_transactions_at_one_time() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let [first, second] = ["accident", "after"].map(|name| HISTORY.transaction(name));
    let to = || plan(&operator, &["--time", &first.at, "--exclusive", "--timeline", "1"]);
    lacks(&to(), "same-time");
    let ends = |record: &[u8], xid: &str| {
        record[17] == 1 && record[16] & 0x70 == 0 && record[4..8] == xid.parse::<u32>().unwrap().to_le_bytes()
    };
    let time = Cell::new([0; 8]);
    patch(&operator.archive, &|record| ends(record, &first.xid), &|record| {
        time.set(record[26..34].try_into().unwrap());
    });
    patch(&operator.archive, &|record| ends(record, &second.xid), &|record| {
        record[26..34].copy_from_slice(&time.get());
    });
    has(&to(), "same-time", "warning", &[&second.xid, "--xid"]);
}

#[test]
fn a_timeline_that_forked_off_before_the_backup() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    let early = cluster.base_backup_without_wal(Format::Tar, "early");
    cluster.restore_point("first");
    cluster.switch_and_wait_archived();
    cluster.promote_copy(&early, "copy", &[("recovery_target_name", "first")]).stop(Stop::Fast);
    cluster.base_backup_without_wal(Format::Tar, "late");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let backups = directory.path().join("backups");
    let of = |backup: &str| Operator {
        directory: &directory,
        backups: backups.join(backup),
        archive: cluster.archive.clone(),
    };
    lacks(&plan(&of("early"), &["--latest"]), "newer-timeline");
    has(&plan(&of("late"), &["--latest"]), "newer-timeline", "note", &["timeline 2", "no backup leads there"]);
    let both = Operator { backups: backups.clone(), ..of("early") };
    let late = planned(&ask(&mut plan_command(&both, &["--latest", "--backup", "late"])));
    has(&late, "newer-timeline", "note", &["--timeline 2 --backup early"]);

    // What the older one says is what matters where the newer one does not lead to the timeline at all.
    let error = |words: &[&str]| ask(&mut plan_command(&both, words)).ended_with(4).json()["error"].clone();
    assert_eq!(error(&["--name", "nobody", "--timeline", "2"])["code"], "target-not-reached");
    let before = error(&["--name", "first", "--timeline", "1", "--backup", "late"]);
    assert!(before["hint"].as_str().unwrap().contains("--backup early"), "{before:#}");
}

/// Changes the last record that is meant, in the archive's segments, and its checksum.
#[track_caller]
fn patch(archive: &Path, is_meant: &dyn Fn(&[u8]) -> bool, change: &dyn Fn(&mut [u8])) {
    let mut segments: Vec<PathBuf> = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().path()).collect();
    segments.retain(|path| path.file_name().unwrap().len() == 24 && path.to_string_lossy().contains("/00000001"));
    segments.sort();
    for path in segments.into_iter().rev() {
        let mut bytes = fs::read(&path).unwrap();
        for at in (0..bytes.len() - 24).step_by(8) {
            let length = u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
            if !(24..1000).contains(&length) || at + length > bytes.len() {
                continue;
            }
            let record = &mut bytes[at..at + length];
            if record[20..24] == checksum(record) && is_meant(record) {
                change(record);
                let sum = checksum(record);
                record[20..24].copy_from_slice(&sum);
                return fs::write(&path, bytes).unwrap();
            }
        }
    }
    panic!("there is no such record");
}

/// Of a record: first what follows its header, then the header up to the checksum.
fn checksum(record: &[u8]) -> [u8; 4] {
    crc_fast::crc32_iscsi(&[&record[24..], &record[..20]].concat()).to_le_bytes()
}

#[test]
fn segments_that_are_missing() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let latest = ["--latest", "--timeline", "1"];
    let whole = plan(&operator, &latest);
    lacks(&whole, "wal-missing");
    lacks(&whole, "losses-uncounted");
    let mut segments: Vec<String> = fs::read_dir(&operator.archive)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    segments.retain(|name| name.len() == 24 && name.starts_with("00000001"));
    segments.sort();
    let lost = &segments[segments.len() - 3];
    fs::remove_file(operator.archive.join(lost)).unwrap();
    has(&plan(&operator, &latest), "wal-missing", "error", &[lost, "--wal"]);
    // Short of it, only what is lost behind it cannot be counted.
    let short = plan(&operator, &["--name", "first", "--timeline", "1"]);
    lacks(&short, "wal-missing");
    has(&short, "losses-uncounted", "note", &["check"]);
}

#[test]
fn segments_that_are_no_segments() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let segments = |timeline: &str| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            fs::read_dir(&operator.archive).unwrap().map(|entry| entry.unwrap().path()).collect();
        let name = |path: &PathBuf| path.file_name().unwrap().to_str().unwrap().to_owned();
        all.retain(|path| name(path).len() == 24 && name(path).starts_with(timeline));
        all.sort();
        all
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let (first, second) = (segments("00000001"), segments("00000002"));
    // Where a timeline begins in a segment, the older one's file is none for it.
    let to_second = ["--latest", "--timeline", "2"];
    lacks(&plan(&operator, &to_second), "wal-missing");
    let away = directory.path().join("away");
    fs::rename(&second[0], &away).unwrap();
    has(&plan(&operator, &to_second), "wal-missing", "error", &[&name(&second[0])]);
    fs::rename(&away, &second[0]).unwrap();

    // The server refuses a file of another size, and nobody knows what was in it.
    let last = first.last().unwrap();
    let whole = fs::read(last).unwrap();
    let latest = ["--latest", "--timeline", "1"];
    for size in [4096, 0] {
        fs::write(last, &whole[..size]).unwrap();
        has(&plan(&operator, &latest), "wal-missing", "error", &[&name(last), "cut off"]);
        let xid = &HISTORY.transaction("after").xid;
        let error = ask(&mut plan_command(&operator, &["--xid", xid, "--timeline", "1"])).ended_with(4).json();
        assert!(error["error"]["message"].as_str().unwrap().contains(&name(last)), "{error:#}");
        assert!(error["error"]["hint"].as_str().unwrap().contains("good copy"), "{error:#}");
    }
    fs::write(last, &whole).unwrap();
    lacks(&plan(&operator, &latest), "wal-missing");

    // A compressed one that cannot be unpacked.
    let middle = &first[first.len() - 3];
    run(Command::new("gzip").arg(middle));
    let packed = middle.with_extension("gz");
    lacks(&plan(&operator, &latest), "wal-missing");
    let bytes = fs::read(&packed).unwrap();
    fs::write(&packed, &bytes[..bytes.len() / 2]).unwrap();
    let error = ask(&mut plan_command(&operator, &latest)).ended_with(4).json()["error"].clone();
    assert_eq!(error["code"], "wal-broken");
    assert!(error["message"].as_str().unwrap().contains(packed.to_str().unwrap()), "{error:#}");
    let reachable: Vec<&str> =
        error["reachable"]["target"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    lacks(&plan(&operator, &reachable), "wal-missing");
}

#[test]
fn configuration_that_is_elsewhere() {
    let directory = Directory::new();
    let without = with_backup(&directory, |backup| {
        for file in ["postgresql.conf", "pg_hba.conf", "pg_ident.conf"] {
            fs::remove_file(backup.join(file)).unwrap();
        }
    });
    has(&plan(&without, &[]), "configuration-elsewhere", "note", &["postgresql.conf", "/etc/postgresql/15/main"]);
    without.recovers("elsewhere", &["--name", "first"], &HISTORY.restore_points["first"]);
    without.discards("elsewhere");
    lacks(&plan(&Operator::of(&directory, &HISTORY, "plain-none"), &[]), "configuration-elsewhere");
}

#[test]
fn includes_that_lead_nowhere_or_out() {
    let directory = Directory::new();
    let outside = directory.create("outside");
    directory.write("outside/out.conf", "no_such_setting = 1\n");
    let operator = with_backup(&directory, |backup| {
        fs::create_dir(backup.join("conf.d")).unwrap();
        add(backup, "conf.d/own.conf", "work_mem = '7MB'\ninclude 'gone.conf'");
        let lines = format!("include_dir 'conf.d'\ninclude_dir 'none.d'\ninclude '{}/out.conf'", outside.display());
        add(backup, "postgresql.conf", &lines);
        run(Command::new("chown").arg("-R").arg("--reference").arg(backup.join("PG_VERSION")).arg(backup));
    });
    let says = ["gone.conf", "conf.d/own.conf, line 2", "none.d", "out.conf", "leads out"];
    has(&plan(&operator, &[]), "includes-set-aside", "warning", &says);
    let recovery = operator.recovers("set-aside", &["--name", "first"], &HISTORY.restore_points["first"]);
    assert_eq!(sql(&recovery, "show work_mem"), "7MB", "what the backup brings along is read");
    let kept = operator.place("set-aside/.walback/postgresql.conf.from-backup");
    assert!(fs::read_to_string(kept).unwrap().ends_with("out.conf'\n"));
    operator.discards("set-aside");

    let beside = Directory::new();
    let harmless = with_backup(&beside, |backup| {
        add(backup, "more.conf", "work_mem = '7MB'");
        add(backup, "postgresql.conf", "include 'more.conf'\ninclude_if_exists 'none.conf'");
    });
    lacks(&plan(&harmless, &[]), "includes-set-aside");
}

#[test]
fn settings_that_do_not_fit_this_machine() {
    let directory = Directory::new();
    let operator = with_lines(&directory, "huge_pages = on\nlc_monetary = 'xx_XX.UTF-8'\nwal_level = minimal");
    let says = ["huge_pages from on to try", "lc_monetary from xx_XX.UTF-8 to C", "wal_level"];
    has(&plan(&operator, &[]), "settings-adapted", "note", &says);
    let recovery = operator.recovers("adapted", &["--name", "first"], &HISTORY.restore_points["first"]);
    assert_eq!(sql(&recovery, "show huge_pages"), "try");
    operator.discards("adapted");
    let beside = Directory::new();
    lacks(&plan(&with_lines(&beside, "huge_pages = off\nlc_monetary = 'C'"), &[]), "settings-adapted");
}

#[test]
fn what_an_earlier_recovery_left() {
    let directory = Directory::new();
    let operator = with_backup(&directory, |backup| {
        add(backup, "standby.signal", "");
        add(backup, "postgresql.conf", "recovery_target_time = '2020-01-01'\nrecovery_end_command = 'touch /tmp/no'");
    });
    let says = ["standby.signal", "recovery_target_time", "recovery_end_command"];
    has(&plan(&operator, &[]), "recovery-leftovers", "note", &says);
    operator.recovers("leftovers", &["--name", "first"], &HISTORY.restore_points["first"]);
    operator.discards("leftovers");
    let beside = Directory::new();
    lacks(&plan(&with_lines(&beside, "recovery_target_time = ''"), &[]), "recovery-leftovers");
}

#[test]
fn libraries_and_tls_are_set_aside() {
    let directory = Directory::new();
    let lines = "shared_preload_libraries = 'no_such_library'\nssl = on\nssl_key_file = '/etc/ssl/private/key.pem'";
    let operator = with_lines(&directory, lines);
    let found = plan(&operator, &[]);
    has(&found, "libraries-set-aside", "note", &["no_such_library"]);
    has(&found, "tls-set-aside", "note", &["server.crt", "/etc/ssl/private/key.pem"]);
    operator.recovers("set-aside", &["--name", "first"], &HISTORY.restore_points["first"]);
    operator.discards("set-aside");
    let fine = plan(&Operator::of(&directory, &HISTORY, "plain-none"), &[]);
    lacks(&fine, "libraries-set-aside");
    lacks(&fine, "tls-set-aside");
}

#[test]
fn a_large_compressed_backup_is_read_later() {
    let directory = Directory::new();
    lacks(&plan(&Operator::of(&directory, &HISTORY, "gz"), &[]), "backup-read-later");
    // A relation of zeros comes in front of everything but the label.
    directory.create("large");
    let script = "
        set -e; cd large; gzip -dc \"$1\" | tar -xf - ; truncate -s 600M base/zeros
        tar -czf base.tar.gz --use-compress-program='gzip -1' backup_label PG_VERSION base/zeros $(ls | grep -v -e backup_label -e PG_VERSION)
        find . -mindepth 1 -maxdepth 1 ! -name base.tar.gz -exec rm -r {} +";
    let gz = HISTORY.backups.join("gz/base.tar.gz");
    run(Command::new("sh").args(["-c", &script.replace("-czf", "-cf"), "sh"]).arg(gz).current_dir(directory.path()));
    let operator =
        Operator { directory: &directory, backups: directory.path().join("large"), archive: HISTORY.archive.clone() };
    let found = plan(&operator, &[]);
    has(&found, "backup-read-later", "note", &["unpacked"]);
    assert_eq!(setting(&found, "max_connections"), "", "it is not known yet");
}

/// A cluster with room for few connections when its backup is made, and for many later.
#[test]
fn more_connections_than_when_the_backup_was_made() {
    for server in [13, 15, 17].into_iter().filter_map(Server::available) {
        let directory = Directory::new();
        let few = [("max_connections", "20"), ("max_wal_senders", "4")].map(|(name, value)| (name, value.to_owned()));
        let options = Options { segment_mib: 1, settings: few.to_vec(), ..Options::default() };
        let cluster = Cluster::create(&directory, &server, &options);
        cluster.psql("create table kept (n int); insert into kept values (1)");
        let by = if server.pg_basebackup().is_some() { Format::TarGz } else { Format::Plain };
        cluster.base_backup_without_wal(by, "few");
        cluster.restore_point("few");
        cluster.stop(Stop::Fast);
        cluster.configure(&[("max_connections", "300"), ("max_locks_per_transaction", "128")]);
        cluster.start();
        cluster.psql("insert into kept values (2)");
        cluster.restore_point("many");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        let operator = Operator::of_cluster(&directory, &cluster, "");
        let bin_dir = ["--bin-dir", server.bin_dir.to_str().unwrap()];
        let few = plan(&operator, &["--name", "few", bin_dir[0], bin_dir[1]]);
        lacks(&few, "parameters-raised");
        assert_eq!(setting(&few, "max_connections"), "20");
        let many = plan(&operator, &["--name", "many", bin_dir[0], bin_dir[1]]);
        let says = ["max_connections from 20 to 300", "max_locks_per_transaction from 64 to 128"];
        has(&many, "parameters-raised", "note", &says);
        let low = plan(&operator, &["--name", "many", "--set", "max_connections=299", bin_dir[0], bin_dir[1]]);
        has(&low, "setting-too-low", "error", &["299", "300"]);
        let low = plan(&operator, &["--name", "few", "--set", "max_connections=299", bin_dir[0], bin_dir[1]]);
        lacks(&low, "setting-too-low");

        let recovery = operator.recovers("raised", &["--name", "few", bin_dir[0], bin_dir[1]], "1");
        assert_eq!(sql(&recovery, "show max_connections"), "20");
        let further = operator.about(&["retarget", "raised", "--name", "many", "--yes"]).ended_with(0).recovery();
        assert_eq!((&further["state"], &further["strategy"]), (&"paused".into(), &"in-place".into()), "{further:#}");
        assert_eq!(sql(&further, "show max_connections"), "300");
        operator.discards("raised");
        operator.recovers("at-once", &["--name", "many", bin_dir[0], bin_dir[1]], "1,2");
        operator.discards("at-once");
    }
}

#[test]
fn wal_that_was_written_with_less_than_recovery_needs() {
    for server in [13, 15].into_iter().filter_map(Server::available) {
        let directory = Directory::new();
        let cluster = Cluster::create(&directory, &server, &Options::default());
        cluster.psql("create table kept (n int); insert into kept values (1)");
        cluster.base_backup_without_wal(Format::Tar, "before");
        cluster.restore_point("before");
        let restart = |settings: &[(&str, &str)]| {
            cluster.stop(Stop::Fast);
            cluster.configure(settings);
            cluster.start();
        };
        restart(&[("wal_level", "minimal"), ("max_wal_senders", "0"), ("archive_mode", "off")]);
        cluster.psql("insert into kept values (2)");
        restart(&[("wal_level", "replica"), ("max_wal_senders", "10"), ("archive_mode", "on")]);
        cluster.restore_point("after");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        let operator = Operator::of_cluster(&directory, &cluster, "");
        let bin_dir = ["--bin-dir", server.bin_dir.to_str().unwrap()];
        let to = |name: &str| plan(&operator, &["--name", name, bin_dir[0], bin_dir[1]]);
        lacks(&to("before"), "wal-level-minimal");
        has(&to("after"), "wal-level-minimal", "error", &["minimal", "--lsn"]);
        // The remedy leads to the last place that can be reached.
        let hint = finding(&to("after"), "wal-level-minimal").unwrap()["hint"].as_str().unwrap().to_owned();
        let lsn = hint.split("--lsn ").nth(1).unwrap().split(' ').next().unwrap();
        let words = ["--lsn", lsn, "--exclusive", bin_dir[0], bin_dir[1]];
        operator.recovers("remedy", &words, "1");
        operator.discards("remedy");
    }
}

/// A cluster of two databases, one of which loses its rows.
#[test]
fn what_destroyed_data_and_is_kept() {
    for server in [13, 15, 17].into_iter().filter_map(Server::available) {
        let directory = Directory::new();
        let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
        cluster.psql("create table invoices (n int); insert into invoices select generate_series(1, 4000)");
        let by = if server.pg_basebackup().is_some() { Format::TarGz } else { Format::Plain };
        cluster.base_backup_without_wal(by, "before");
        let commit = |work: &str| cluster.psql(&format!("begin; {work}; select txid_current(); commit"));
        let first = commit("insert into invoices values (0)");
        let accident = commit("delete from invoices where n > 0");
        cluster.switch_and_wait_archived();
        let later = commit("insert into invoices values (-1)");
        let few = commit("delete from invoices");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        let operator = Operator::of_cluster(&directory, &cluster, "");
        let bin_dir = server.bin_dir.to_str().unwrap();
        let to = |words: &[&str]| plan(&operator, &[words, &["--bin-dir", bin_dir]].concat());
        let before = format!("--xid {accident} --exclusive --timeline 1 stops before {accident}");
        let did = "deletes 4,000 rows of public.invoices in database postgres, 2";
        let last = to(&["--xid", &accident]);
        has(&last, "suspect-kept", "warning", &[&accident, did, &before, "the last transaction"]);
        let relation = &last["resolved"]["suspects"][0]["relations"][0];
        assert_eq!(relation["database_name"], "postgres", "{relation:#}");
        let near = to(&["--xid", &later]);
        has(&near, "suspect-kept", "note", &[&accident, did, &before]);
        has(&to(&["--latest"]), "suspect-kept", "note", &[did, &before]);
        lacks(&to(&["--xid", &first]), "suspect-kept");
        // What it loses is not kept, and said.
        let saved = to(&["--xid", &accident, "--exclusive"]);
        lacks(&saved, "suspect-kept");
        assert_eq!(saved["resolved"]["suspects"][0]["xid"].to_string(), accident, "{saved:#}");
        // A few rows are no suspect.
        let small = to(&["--xid", &few]);
        has(&small, "suspect-kept", "note", &[&accident]);
        let located = ask(&mut operator.command(&["locate", "--xid", &accident])).json();
        assert_eq!(located["resolved"]["suspects"], last["resolved"]["suspects"]);
    }
}

#[test]
fn tablespaces() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "without");
    cluster.restore_point("before");
    let place = directory.create("a place");
    cluster.psql(&format!("create tablespace later location '{}'", place.display()));
    cluster.psql("create table there (n int) tablespace later");
    cluster.restore_point("after");
    cluster.base_backup_without_wal(Format::Tar, "with");
    cluster.restore_point("end");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = |backup: &str| Operator::of_cluster(&directory, &cluster, backup);
    let place = place.to_str().unwrap();
    let without = operator("without");
    lacks(&plan(&without, &["--name", "before"]), "tablespace-created");
    let after = plan(&without, &["--name", "after"]);
    has(&after, "tablespace-created", "error", &[place, "--lsn"]);
    lacks(&after, "tablespaces");
    let with = plan(&operator("with"), &["--name", "end"]);
    has(&with, "tablespaces", "note", &[place, "where something lies", "--tablespace"]);
    lacks(&with, "pristine-tablespaces");
    let kept = plan(&operator("with"), &["--name", "end", "--keep-pristine=copy"]);
    has(&kept, "pristine-tablespaces", "error", &["outside of its directory"]);
    lacks(&with, "tablespace-created");
}

#[test]
fn records_of_an_extension() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "backup");
    cluster.restore_point("before");
    cluster.psql("select pg_logical_emit_message(false, 'walback', 'stands for an extension')");
    cluster.restore_point("after");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = Operator::of_cluster(&directory, &cluster, "");
    let after = ["--name", "after"];
    lacks(&plan(&operator, &after), "extension-records");
    // No extension that is to be had writes records of its own: one of the server's is made into one.
    let is_meant = |record: &[u8]| record[17] == 21 && record.windows(7).any(|part| part == b"walback");
    patch(&operator.archive, &is_meant, &|record| record[17] = 200);
    has(&plan(&operator, &after), "extension-records", "error", &["200", "shared_preload_libraries"]);
    lacks(&plan(&operator, &["--name", "before"]), "extension-records");
    let loaded = plan(&operator, &["--name", "after", "--set", "shared_preload_libraries=auto_explain"]);
    lacks(&loaded, "extension-records");
}

#[test]
fn locales_and_collations() {
    for server in [13, 15, 16, 17, 18].into_iter().filter_map(Server::available) {
        let directory = Directory::new();
        let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
        cluster.psql("create table kept (n int)");
        let bin_dir = ["--bin-dir", server.bin_dir.to_str().unwrap()];
        let take = |name: &str| {
            cluster.psql("checkpoint");
            // 14 and before have no other way than by pg_basebackup.
            if server.pg_basebackup().is_some() {
                cluster.base_backup_without_wal(Format::Plain, name);
            } else {
                cluster.base_backup_by_sql(Format::Plain, name, || ());
            }
            cluster.restore_point(name);
            cluster.switch_and_wait_archived();
            let operator = Operator::of_cluster(&directory, &cluster, name);
            plan(&operator, &["--name", name, bin_dir[0], bin_dir[1]])
        };
        let fine = take("fine");
        lacks(&fine, "locale-missing");
        lacks(&fine, "collation-changed");
        cluster.psql("create database abroad");
        let moved = "datcollate = 'xx_XX.UTF-8', datctype = 'yy_YY.UTF-8'";
        cluster.psql(&format!("update pg_database set {moved} where datname = 'abroad'"));
        let abroad = take("abroad");
        has(&abroad, "locale-missing", "error", &["abroad", "xx_XX.UTF-8", "yy_YY.UTF-8"]);
        lacks(&abroad, "collation-changed");
        if server.major < 15 {
            continue;
        }
        let older = "datcollate = 'C', datctype = 'C', datcollversion = '2.1'";
        cluster.psql(&format!("update pg_database set {older} where datname = 'abroad'"));
        // It moves elsewhere, as the catalogs' files do when they are rewritten.
        cluster.psql("vacuum full pg_database");
        let changed = take("changed");
        has(&changed, "collation-changed", "warning", &["abroad (2.1)"]);
        lacks(&changed, "locale-missing");
        cluster.psql("update pg_database set datcollversion = null where datname = 'abroad'");
    }
}

#[test]
fn wal_that_only_the_dead_server_has() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "backup");
    cluster.restore_point("archived");
    cluster.switch_and_wait_archived();
    cluster.psql("insert into kept values (1)");
    cluster.restore_point("not archived");
    cluster.psql("checkpoint");
    let operator = Operator::of_cluster(&directory, &cluster, "");
    let wal = cluster.data.join("pg_wal").canonicalize().unwrap();
    let wal = wal.to_str().unwrap();
    let known = |archives: &[&str], words: &[&str]| {
        let mut command = support::walback(&directory);
        command.arg("--json").arg("--backups").arg(&operator.backups).env("PGDATA", &cluster.data);
        for archive in archives {
            command.args(["--wal", archive]);
        }
        command.args(words).arg("--into").arg(operator.place("new"));
        ask(&mut command)
    };
    let archive = operator.archive.to_str().unwrap();
    let archived = ["plan", "--name", "archived"];
    has(&planned(&known(&[archive, wal], &archived)), "source-server-runs", "note", &[cluster.data.to_str().unwrap()]);
    cluster.stop(Stop::Immediate);
    lacks(&planned(&known(&[archive, wal], &archived)), "source-server-runs");

    let latest = ["plan", "--latest"];
    has(&planned(&known(&[archive], &latest)), "wal-in-pg-wal", "warning", &["--wal", wal]);
    lacks(&planned(&known(&[archive, wal], &latest)), "wal-in-pg-wal");
    lacks(&planned(&known(&[archive], &archived)), "wal-in-pg-wal");
    let unreached = known(&[archive], &["plan", "--name", "not archived"]).ended_with(4);
    let hint = unreached.json()["error"]["hint"].as_str().unwrap().to_owned();
    assert!(hint.contains(&format!("--wal {wal}")), "{}", unreached.shown);
    let reached = known(&[archive, wal], &["restore", "--name", "not archived", "--yes"]).ended_with(0).recovery();
    assert_paused(&reached, "1");
    operator.discards("new");
}

/// What is found while a recovery runs comes as an event.
#[track_caller]
fn events(answer: &Answer) -> Value {
    let lines = answer.lines();
    let findings: Vec<Value> = lines.iter().filter(|line| line["event"] == "finding").cloned().collect();
    serde_json::json!({ "findings": findings })
}

#[test]
fn a_server_that_lets_nobody_in() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table kept (n int)");
    cluster.base_backup_without_wal(Format::Tar, "backup");
    cluster.psql("create role boss superuser login");
    let connection = cluster.connection().replace("user=postgres", "user=boss");
    for statement in [
        "alter role postgres rename to somebody",
        "select pg_create_restore_point('nobody')",
        "alter role somebody rename to postgres",
    ] {
        run(client("psql").args(["-XAtq", "-d", &connection, "-c", statement]));
    }
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = Operator::of_cluster(&directory, &cluster, "");
    let target = ["--name", "nobody", "--events"];
    let silent = ask(&mut operator.restore("silent", &target)).ended_with(0);
    has(&events(&silent), "server-silent", "warning", &["--role"]);
    operator.discards("silent");
    let heard = ask(&mut operator.restore("heard", &["--name", "nobody", "--events", "--role", "boss"])).ended_with(0);
    lacks(&events(&heard), "server-silent");
    operator.discards("heard");
}

/// A backup that brings along the states of three transactions which were prepared while it was made. The server removes
/// them first, as it replays what prepared them; 17 and 18 only that of the first, whose id is the checkpoint's next one.
#[track_caller]
fn prepared_while_the_backup_was_made(major: u16, forgets: bool) {
    let Some(server) = Server::available(major) else { return skip(&format!("there is no PostgreSQL {major}")) };
    let directory = Directory::new();
    let settings = vec![("max_prepared_transactions", "10".to_owned())];
    let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, settings, ..Options::default() });
    cluster.psql("create table kept (n int)");
    let mut ids = Vec::new();
    cluster.base_backup_by_sql(Format::Tar, "backup", || {
        for gid in ["first", "ended", "open"] {
            let insert =
                format!("begin; insert into kept values (1) returning txid_current(); prepare transaction '{gid}'");
            ids.push(cluster.psql(&insert));
        }
        cluster.psql("checkpoint");
    });
    cluster.psql("commit prepared 'ended'");
    cluster.restore_point("here");
    cluster.psql("commit prepared 'open'");
    cluster.restore_point("behind");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = Operator::of_cluster(&directory, &cluster, "");
    let restore = |target: &[&str]| {
        let mut restore = operator.restore("copy", target);
        ask(restore.arg("--bin-dir").arg(&server.bin_dir).arg("--events")).ended_with(0)
    };

    let behind = events(&restore(&["--name", "behind"]));
    lacks(&behind, "prepared-forgotten");
    operator.discards("copy");
    let paused = events(&restore(&["--name", "here"]));
    if !forgets {
        lacks(&paused, "prepared-forgotten");
    } else {
        has(&paused, "prepared-forgotten", "warning", &[&ids[2], "--backup"]);
        let said = finding(&paused, "prepared-forgotten").unwrap().to_string();
        assert!(!said.contains(&ids[0]) && !said.contains(&ids[1]), "{said}");
        // It is still said when somebody else looks.
        has(&operator.status("copy"), "prepared-forgotten", "warning", &[&ids[2]]);
    }
    let promoted = operator.about(&["promote", "copy", "--yes"]).ended_with(0).recovery();
    let expected = if forgets { "first" } else { "first\nopen" };
    assert_eq!(sql(&promoted, "select gid from pg_prepared_xacts order by gid"), expected);
    operator.about(&["stop", "copy"]).ended_with(0);
}

#[test]
fn a_prepared_transaction_is_forgotten_by_17() {
    prepared_while_the_backup_was_made(17, true);
}

#[test]
fn a_prepared_transaction_is_forgotten_by_18() {
    prepared_while_the_backup_was_made(18, true);
}

#[test]
fn a_prepared_transaction_is_not_forgotten_by_15() {
    prepared_while_the_backup_was_made(15, false);
}

/// The findings in the journal of a recovery, as those of a plan.
fn journal(operator: &Operator<'_>, name: &str) -> Value {
    let text = fs::read_to_string(operator.journal(name)).unwrap();
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let findings: Vec<Value> = lines.filter(|line| line["event"] == "finding").collect();
    serde_json::json!({ "findings": findings })
}

#[test]
fn a_server_that_shuts_down_though_it_was_to_pause() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    operator.recovers("paused", &["--name", "first"], &HISTORY.restore_points["first"]);
    lacks(&journal(&operator, "paused"), "shut-down-unasked");
    let bin = Server::v15().with_option(&directory, "-c recovery_target_action=shutdown");
    let recovery = ask(&mut operator.restore("down", &["--name", "first", "--bin-dir", &bin])).ended_with(0).recovery();
    assert_eq!(recovery["state"], "shut-down");
    has(&journal(&operator, "down"), "shut-down-unasked", "warning", &["shut"]);
}

#[test]
fn a_pause_that_the_log_does_not_have() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    operator.recovers("told", &["--name", "first"], &HISTORY.restore_points["first"]);
    lacks(&journal(&operator, "told"), "pause-unproven");
    let bin = Server::v15().with_option(&directory, "-c log_min_messages=panic");
    let words = ["--name", "first", "--bin-dir", &bin];
    let recovery = ask(&mut operator.restore("silent", &words)).ended_with(0).recovery();
    // What PostgreSQL did not say is not made up.
    assert_eq!((&recovery["state"], &recovery["matches_prediction"]), (&"paused".into(), &Value::Null));
    assert_eq!(recovery["replayed_lsn"], recovery["resolved"]["replay_end"]);
    has(&journal(&operator, "silent"), "pause-unproven", "warning", &["paused"]);
}

#[test]
fn a_directory_that_is_gone() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    for (name, gone) in [("there", false), ("gone", true)] {
        operator.recovers(name, &["--name", "first"], &HISTORY.restore_points["first"]);
        operator.about(&["stop", name]).ended_with(0);
        if gone {
            fs::rename(operator.place(name), directory.path().join("moved")).unwrap();
        }
        operator.about(&["discard", name, "--yes"]).ended_with(0);
    }
    lacks(&journal(&operator, "there"), "directory-gone");
    has(&journal(&operator, "gone"), "directory-gone", "warning", &["gone"]);
    assert!(directory.path().join("moved/PG_VERSION").exists(), "what was moved away is nobody's to remove");
}

#[test]
fn a_server_that_somebody_else_promoted() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let recovery = operator.recovers("promoted", &["--name", "first"], &HISTORY.restore_points["first"]);
    let journal = |name: &str| journal(&operator, name);
    lacks(&journal("promoted"), "promoted-elsewhere");
    assert_eq!(sql(&recovery, "select pg_promote()"), "t");
    operator.about(&["stop", "promoted"]).ended_with(0);
    wait_until("the finding", support::LIMIT, || finding(&journal("promoted"), "promoted-elsewhere").map(drop));
    has(&journal("promoted"), "promoted-elsewhere", "warning", &["promoted"]);
}

#[test]
fn a_data_directory_that_makes_way() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "tar-none");
    let cluster = Cluster::create(&directory, &Server::v15(), &Options::default());
    let fast = directory.create("fast");
    run(Command::new("chown").arg("--reference").arg(&cluster.data).arg(&fast));
    let place = cluster.data.display().to_string();
    let make_way = || plan(&operator, &["--make-way", "--into", &place]);
    has(&make_way(), "cannot-make-way", "error", &["a server runs in it"]);
    lacks(&make_way(), "makes-way");
    // Told to end at once, it is not in order.
    cluster.stop(Stop::Immediate);
    has(&make_way(), "makes-way-unclean", "warning", &["in production"]);
    has(&make_way(), "makes-way", "note", &[&format!("{place}.before-walback-")]);
    lacks(&make_way(), "cannot-make-way");
    cluster.start();
    lacks(&make_way(), "makes-way-links");
    cluster.psql(&format!("create tablespace fast location '{}'", fast.display()));
    cluster.stop(Stop::Fast);
    lacks(&make_way(), "makes-way-unclean");
    has(&make_way(), "makes-way-links", "warning", &[fast.to_str().unwrap()]);
    lacks(&make_way(), "makes-way-recovery");
    let words = ["--name", "first", "--make-way"];
    ask(operator.restore("primary", &words).arg("--role").arg("postgres")).ended_with(0);
    operator.about(&["stop", "primary"]).ended_with(0);
    has(&make_way(), "makes-way-recovery", "warning", &["primary"]);
    operator.about(&["discard", "primary", "--yes"]).ended_with(0);
    has(&journal(&operator, "primary"), "former-directory", "note", &["primary.before-walback-"]);
    operator.recovers("new", &["--name", "first"], &HISTORY.restore_points["first"]);
    operator.about(&["discard", "new", "--yes"]).ended_with(0);
    lacks(&journal(&operator, "new"), "former-directory");
}
