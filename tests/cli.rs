//! The command line: what it lists, prints and explains.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use serde_json::{Value, json};
use support::{Answer, Directory, History, as_server, ask, run, walback};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

/// The program on the history's backups and archive.
fn on_history(directory: &Directory, words: &[&str]) -> Answer {
    ask(walback(directory).arg("--backups").arg(&HISTORY.backups).arg("--wal").arg(&HISTORY.archive).args(words))
}

#[track_caller]
fn assert_is(value: &Value, field: &str, expected: impl Into<Value>) {
    let expected = expected.into();
    assert_eq!(value.pointer(&format!("/{field}")), Some(&expected), "{field} in {value:#}");
}

/// The value of a line `NAME: VALUE` in the label that PostgreSQL wrote.
fn from_label(backup: &str, name: &str) -> String {
    let path = HISTORY.backups.join(backup);
    let label = match fs::read_to_string(path.join("backup_label")) {
        Ok(label) => label,
        Err(_) => {
            let tar = [path.join("base.tar"), path.join("base.tar.gz")].into_iter().find(|tar| tar.exists()).unwrap();
            run(as_server("tar").arg("-xOf").arg(tar).arg("backup_label"))
        }
    };
    let value = label.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    value.split(" (").next().unwrap().to_owned()
}

/// The same in the file that the server put into the archive when the backup ended.
fn from_archive(segment: &str, name: &str) -> String {
    let text = fs::read_to_string(HISTORY.archive.join(format!("{segment}.00000028.backup"))).unwrap();
    let value = text.lines().find_map(|line| line.strip_prefix(&format!("{name}: "))).unwrap();
    value.split(" (").next().unwrap().to_owned()
}

/// `2026-11-20 21:33:50 UTC` as JSON has it.
fn in_json(time: &str) -> String {
    time.replace(' ', "T").replace("TUTC", ".000000Z")
}

fn bytes_below(path: &Path) -> u64 {
    let sizes = run(as_server("find").arg(path).args(["-type", "f", "-printf", "%s\\n"]));
    sizes.lines().map(|size| size.parse::<u64>().unwrap()).sum()
}

#[test]
fn backups_are_described_as_postgresql_described_them() {
    let directory = Directory::new();
    let listed = on_history(&directory, &["--json", "backups"]).ended_with(0).json();
    let listed = listed["backups"].as_array().unwrap();
    let ids: Vec<&str> = listed.iter().map(|backup| backup["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["plain-none", "tar-stream", "plain-stream", "tar-none", "gz", "by-sql"], "the newest first");
    for backup in listed {
        let id = backup["id"].as_str().unwrap();
        let location = HISTORY.backups.join(id);
        let (kind, compression) = match id {
            "plain-none" | "plain-stream" => ("basebackup-dir", "none"),
            "gz" => ("basebackup-tar", "gzip"),
            _ => ("basebackup-tar", "none"),
        };
        let start = from_label(id, "START WAL LOCATION");
        let segment = backup["start_wal"].as_str().unwrap();
        assert_eq!(start, from_archive(segment, "START WAL LOCATION"));
        for (field, expected) in [
            ("kind", json!(kind)),
            ("compression", json!(compression)),
            ("location", json!(location)),
            ("pg_version", json!(15)),
            ("system_identifier", json!(HISTORY.system_identifier)),
            ("timeline", json!(1)),
            ("start_lsn", json!(start)),
            ("stop_lsn", json!(from_archive(segment, "STOP WAL LOCATION"))),
            ("started_at", json!(in_json(&from_label(id, "START TIME")))),
            ("finished_at", json!(in_json(&from_archive(segment, "STOP TIME")))),
            ("label", json!(id)),
            ("parent", Value::Null),
            ("tablespaces", json!([])),
            ("manifest", json!(id != "by-sql")),
            ("problems", json!([])),
            ("size_bytes", json!(bytes_below(&location))),
        ] {
            assert_is(backup, field, expected);
        }
    }
    let unpacked = |id: &str| {
        let backup = listed.iter().find(|backup| backup["id"] == id).unwrap();
        backup["unpacked_bytes"].as_u64().unwrap()
    };
    let plain = HISTORY.backups.join("plain-none");
    assert_eq!(
        unpacked("plain-none"),
        bytes_below(&plain) - fs::metadata(plain.join("backup_manifest")).unwrap().len()
    );
    let members = run(as_server("tar").arg("-tvf").arg(HISTORY.backups.join("by-sql/base.tar")));
    let sizes = members.lines().map(|line| line.split_whitespace().nth(2).unwrap().parse::<u64>().unwrap());
    assert_eq!(unpacked("by-sql"), sizes.sum::<u64>());

    let table = on_history(&directory, &["--time-zone", "Asia/Kolkata", "backups"]).ended_with(0).out;
    assert_eq!(table.lines().count(), 7, "{table}");
    let gz = table.lines().find(|line| line.starts_with("gz ")).unwrap();
    assert!(gz.contains("+05:30") && gz.contains("tar, gzip") && gz.ends_with("usable"), "{gz}");
    assert!(!directory.path().join("home/state").exists(), "looking leaves nothing behind");
    HISTORY.assert_untouched();
}

#[test]
fn timelines_are_described_with_what_the_archive_has() {
    let directory = Directory::new();
    let listed = on_history(&directory, &["--json", "timelines"]).ended_with(0).json();
    let listed = listed["timelines"].as_array().unwrap();
    assert_eq!(listed.len(), 2, "{listed:#?}");
    let history = fs::read_to_string(HISTORY.archive.join("00000002.history")).unwrap();
    let forked_at = history.split('\t').nth(1).unwrap();
    for (timeline, id, parent, forked_at, reason) in [
        (&listed[0], 1, Value::Null, Value::Null, Value::Null),
        (&listed[1], 2, json!(1), json!(forked_at), json!("at restore point \"fork\"")),
    ] {
        let names = segments(&HISTORY.archive, id);
        assert_is(timeline, "id", id);
        assert_is(timeline, "parent", parent);
        assert_is(timeline, "forked_at_lsn", forked_at);
        assert_is(timeline, "reason", reason);
        assert_is(timeline, "first_segment", names.first().unwrap().as_str());
        assert_is(timeline, "last_segment", names.last().unwrap().as_str());
        assert_is(timeline, "segments", names.len());
        assert_is(timeline, "gaps", json!([]));
        assert_is(timeline, "damaged", json!([]));
        let end = u64::from_str_radix(&names.last().unwrap()[16..], 16).unwrap() + 1;
        assert_is(timeline, "end_lsn", format!("0/{:X}", end << 20));
        assert!(timeline.get("first_commit_at").is_some() && timeline.get("last_commit_at").is_some());
    }
    let table = on_history(&directory, &["timelines"]).ended_with(0).out;
    let branch = table.lines().nth(2).unwrap();
    assert!(branch.contains(forked_at) && branch.ends_with("whole"), "{table}");
    assert!(
        table.contains("reason   at restore point \"fork\"") && in_one_line(&table).contains("goes on behind that"),
        "{table}"
    );
    assert!(table.lines().all(|line| line.chars().count() <= 80), "{table}");
}

fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The names of a timeline's segments in an archive, in order.
fn segments(archive: &Path, timeline: u32) -> Vec<String> {
    let names = fs::read_dir(archive).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> =
        names.filter(|name| name.len() == 24 && name.starts_with(&format!("{timeline:08X}"))).collect();
    names.sort();
    names
}

fn copy_of(directory: &Directory, what: &Path, name: &str) -> PathBuf {
    let copy = directory.path().join(name);
    run(Command::new("cp").arg("-a").arg(what).arg(&copy));
    copy
}

#[test]
fn what_is_broken_or_does_not_belong_is_named_and_does_no_harm() {
    let directory = Directory::new();
    let archive = copy_of(&directory, &HISTORY.archive, "wal");
    let names = segments(&archive, 1);
    let put = |name: &str, bytes: &[u8]| directory.write(&format!("wal/{name}"), bytes);
    // What other programs leave in archives.
    put("README.txt", b"hello");
    put("000000010000000000000099.tmp", b"half");
    put(".000000010000000000000017.xyz", b"");
    put("00000001000000000000", b"");
    put("\u{1b}[2J", b"escape");
    let whole = fs::read(archive.join(&names[3])).unwrap();
    put("000000010000000000000018.partial", &whole[..4096]);
    fs::create_dir(archive.join("000000010000000000000019")).unwrap();
    std::os::unix::fs::symlink("/nowhere", archive.join("00000001000000000000001A")).unwrap();
    let ask = |words: &[&str]| {
        let answer =
            ask(walback(&directory).arg("--backups").arg(&HISTORY.backups).arg("--wal").arg(&archive).args(words));
        assert!(!answer.out.contains('\u{1b}') && !answer.err.contains('\u{1b}'), "{}", answer.shown);
        answer
    };
    let timelines = ask(&["--json", "timelines"]).ended_with(0).json();
    assert_is(&timelines, "timelines/0/segments", names.len());
    assert_is(&timelines, "timelines/0/damaged", json!([]));
    let into = directory.path().join("new");
    let plan = ["plan", "--latest", "--timeline", "1", "--into", into.to_str().unwrap()];
    let text = ask(&plan).ended_with(0).out;
    assert!(text.contains("  nothing speaks against it"), "{text}");

    // A hole, a segment that is too short, a history that is none.
    let (lost, short) = (&names[8], &names[10]);
    fs::remove_file(archive.join(lost)).unwrap();
    put(short, &whole[..1000]);
    put("00000003.history", b"what is this?\n");
    let timelines = ask(&["--json", "timelines"]).ended_with(0).json();
    let gap = |name: &str| json!({ "first": name, "last": name, "segments": 1 });
    assert_is(&timelines, "timelines/0/gaps", json!([gap(lost), gap(short)]));
    assert_is(&timelines, "timelines/0/damaged", json!([short]));
    assert_is(&timelines, "timelines/2/damaged", json!(["00000003.history"]));
    assert_is(&timelines, "timelines/2/parent", Value::Null);
    let text = ask(&["timelines"]).ended_with(0);
    for said in [format!("missing  {lost}"), format!("damaged  {short}"), "GAPS, DAMAGED".to_owned()] {
        assert!(text.out.contains(&said), "{said:?} is not said:\n{}", text.shown);
    }
    assert!(text.err.contains("00000003.history"), "{}", text.shown);
}

#[test]
fn a_broken_backup_is_listed_with_what_is_broken() {
    let directory = Directory::new();
    let backups = directory.create("backups");
    copy_of(&directory, &HISTORY.backups.join("tar-none"), "backups/cut");
    let base = backups.join("cut/base.tar");
    let whole = fs::metadata(&base).unwrap().len();
    File::options().write(true).open(&base).unwrap().set_len(whole / 2).unwrap();
    copy_of(&directory, &HISTORY.backups.join("tar-none"), "backups/good");
    copy_of(&directory, &HISTORY.backups.join("tar-none"), "backups/no-manifest");
    directory.write("backups/no-manifest/backup_manifest", "{ \"PostgreSQL-Backup-Manifest-Version\": 1,\n");
    directory.create("backups/nothing in it");
    let ask = |words: &[&str]| {
        ask(walback(&directory).arg("--backups").arg(&backups).arg("--wal").arg(&HISTORY.archive).args(words))
    };
    let listed = ask(&["--json", "backups"]).ended_with(0).json();
    let listed = listed["backups"].as_array().unwrap();
    let backup = |id: &str| listed.iter().find(|backup| backup["id"] == id).unwrap();
    assert_eq!(listed.len(), 3, "{listed:#?}");
    assert_is(backup("good"), "problems", json!([]));
    let problem = backup("cut")["problems"][0].as_str().unwrap();
    assert!(problem.contains("base.tar") && problem.contains("cut off"), "{problem}");
    let problem = backup("no-manifest")["problems"][0].as_str().unwrap();
    assert!(problem.contains("backup_manifest"), "{problem}");
    let text = ask(&["backups"]).ended_with(0).out;
    assert_eq!(text.matches("BROKEN").count(), 2, "{text}");
    assert!(text.contains("cut off"), "{text}");
    // The good one is taken.
    let into = directory.path().join("new");
    let plan = ask(&["--json", "plan", "--immediate", "--into", into.to_str().unwrap()]).ended_with(0).json();
    assert_is(&plan, "plan/backup/id", "good");
    assert_is(&plan, "plan/resolved/backups", json!(["good"]));
}

#[test]
fn a_plan_says_everything_and_does_nothing() {
    let directory = Directory::new();
    let into = directory.path().join("new");
    let xid = HISTORY.transaction("accident").xid.clone();
    let words =
        ["plan", "--xid", &xid, "--exclusive", "--timeline", "1", "--backup", "gz", "--into", into.to_str().unwrap()];
    let plan = on_history(&directory, &[&["--json"], &words[..]].concat()).ended_with(0).json()["plan"].clone();
    let number: u64 = xid.parse().unwrap();
    for (field, expected) in [
        ("backup/id", json!("gz")),
        ("target/kind", json!("xid")),
        ("target/value", json!(number)),
        ("target/inclusive", json!(false)),
        ("resolved/timeline", json!(1)),
        ("resolved/path", json!([1])),
        ("resolved/stop", json!("before")),
        ("resolved/xid", json!(number)),
        ("resolved/first_lost/xid", json!(number)),
        ("resolved/last_kept/xid", json!(HISTORY.transaction("three").xid.parse::<u64>().unwrap())),
        ("resolved/ambiguous", json!([])),
        ("settings/recovery_target_xid", json!(xid)),
        ("settings/recovery_target_inclusive", json!("off")),
        ("settings/recovery_target_timeline", json!("1")),
        ("settings/recovery_target_action", json!("pause")),
        ("settings/archive_mode", json!("off")),
        ("settings/listen_addresses", json!("")),
        ("findings/0/code", json!("other-branches")),
    ] {
        assert_is(&plan, field, expected);
    }
    assert_eq!(plan["findings"].as_array().unwrap().len(), 1, "{plan:#}");
    let last_kept = plan["resolved"]["last_kept"]["at"].as_str().unwrap();
    assert!(
        in_json(&HISTORY.transaction("three").at).starts_with(last_kept.trim_end_matches(['0', 'Z'])),
        "{last_kept}"
    );
    assert_eq!(plan["resolved"]["backups"].as_array().unwrap()[0], "gz");
    assert_eq!(plan["resolved"]["backups"].as_array().unwrap().len(), 6, "all of them lead there");
    assert!(plan["restore_command"].as_str().unwrap().contains(HISTORY.archive.to_str().unwrap()));
    let steps: Vec<&str> = plan["steps"].as_array().unwrap().iter().map(|step| step["id"].as_str().unwrap()).collect();
    assert_eq!(steps, ["unpack", "configure", "start", "replay"]);
    assert!(
        plan["steps"]
            .as_array()
            .unwrap()
            .iter()
            .all(|step| step["title"].is_string() && step["commands"][0].is_string())
    );
    for field in ["unpack_bytes", "wal_bytes", "wal_segments", "free_after_bytes"] {
        assert!(plan["estimate"][field].as_u64().unwrap() > 0, "{field}");
    }
    for field in ["unpack_s", "replay_s", "total_s"] {
        assert!(plan["estimate"][field].as_f64().unwrap() > 0.0, "{field}");
    }
    let candidates = plan["candidates"].as_array().unwrap();
    let ids: Vec<&str> = candidates.iter().map(|candidate| candidate["backup"].as_str().unwrap()).collect();
    assert_eq!(
        ids,
        ["gz", "plain-none", "tar-stream", "plain-stream", "tar-none", "by-sql"],
        "chosen first, then the last"
    );
    assert_eq!(candidates[0]["estimate"], plan["estimate"]);
    let wal: Vec<u64> = candidates[1..].iter().map(|c| c["estimate"]["wal_bytes"].as_u64().unwrap()).collect();
    assert!(wal.is_sorted() && candidates.iter().all(|c| c["why_not"].is_null()), "{candidates:#?}");
    let text = on_history(&directory, &words).ended_with(0).out;
    for said in [&format!("transaction {xid}"), "Keeps", "Loses", "recovery.signal", "tar -xzf", into.to_str().unwrap()]
    {
        assert!(text.contains(said), "{said:?} is not said:\n{text}");
    }
    assert!(!into.exists() && !directory.path().join("home/state").exists());
}

#[test]
fn a_plan_says_which_backups_do_not_lead_there_and_why() {
    let directory = Directory::new();
    let backups = directory.create("backups");
    for (from, to) in [("by-sql", "by-sql"), ("gz", "gz"), ("plain-none", "plain-none"), ("tar-none", "cut")] {
        copy_of(&directory, &HISTORY.backups.join(from), &format!("backups/{to}"));
    }
    File::options().write(true).open(backups.join("cut/base.tar")).unwrap().set_len(100_000).unwrap();
    let into = directory.path().join("new");
    let locate = |backup: &str| {
        let words = ["--json", "locate", "--immediate", "--backup", backup];
        let mut command = walback(&directory);
        command.arg("--backups").arg(&backups).arg("--wal").arg(&HISTORY.archive).args(words);
        ask(&mut command).ended_with(0).json()["resolved"]["replay_end"].as_str().unwrap().to_owned()
    };
    // A place behind the end of one and before that of another.
    let lsn = locate("gz");
    let plan = |words: &[&str]| {
        let mut command = walback(&directory);
        command.arg("--backups").arg(&backups).arg("--wal").arg(&HISTORY.archive).args(words);
        command.args(["plan", "--lsn", &lsn, "--into"]).arg(&into);
        ask(&mut command).ended_with(0)
    };
    let made = plan(&["--json"]).json()["plan"].clone();
    assert_is(&made, "backup/id", "gz");
    assert_is(&made, "resolved/backups", json!(["gz", "by-sql"]));
    let why_not = |id: &str| {
        let candidates = made["candidates"].as_array().unwrap();
        let candidate = candidates.iter().find(|candidate| candidate["backup"] == id).unwrap();
        assert!(candidate["estimate"].is_null() || candidate["why_not"].is_null(), "{candidate:#}");
        candidate["why_not"].as_str().unwrap_or_default().to_owned()
    };
    assert!(why_not("plain-none").contains("behind the place where recovery stops"), "{}", why_not("plain-none"));
    assert!(why_not("cut").starts_with("it is broken: ") && why_not("cut").contains("cut off"), "{}", why_not("cut"));
    assert_eq!(why_not("by-sql"), "");
    let text = plan(&["--time-zone", "Asia/Kolkata"]).out;
    for said in ["gz", "chosen", "not plain-none: it ended at", "not cut: it is broken"] {
        assert!(text.contains(said), "{said:?} is not said:\n{text}");
    }
}

#[test]
fn the_way_and_the_time_of_the_stop_are_told_as_an_operator_meets_them() {
    let directory = Directory::new();
    let three = HISTORY.transaction("three");
    let words = ["locate", "--xid", &three.xid, "--timeline", "current", "--time-zone", "Asia/Kolkata"];
    let text = on_history(&directory, &words).ended_with(0).out;
    // `2026-11-20 21:33:50.123456+00`; the log has three digits.
    let at = three.at.split('+').next().unwrap();
    let (second, fraction) = at.split_once('.').unwrap_or((at, ""));
    let fraction = format!("{fraction:0<6}");
    for said in [
        format!("{second}.{fraction} in UTC"),
        format!("{second}.{} ", &fraction[..3]),
        "in the server's log".to_owned(),
        "on the backup's timeline, which is 1".to_owned(),
        format!("1 ──▶ stop after {}", three.lsn),
    ] {
        assert!(text.contains(&said), "{said:?} is not said:\n{text}");
    }
    let mut ascii = walback(&directory);
    ascii.arg("--backups").arg(&HISTORY.backups).arg("--wal").arg(&HISTORY.archive).args(&words[..5]);
    let text = ask(ascii.env("LC_ALL", "C")).ended_with(0).out;
    assert!(text.contains(&format!("1 --> stop after {}", three.lsn)), "{text}");
    let fork = fs::read_to_string(HISTORY.archive.join("00000002.history")).unwrap();
    let fork = fork.split('\t').nth(1).unwrap();
    let text = on_history(&directory, &["locate", "--name", "on the branch"]).ended_with(0).out;
    assert!(text.contains(&format!("1 ──({fork})──▶ 2 ──▶ stop after ")), "{text}");
    assert!(text.contains("on the latest timeline, which is 2"), "{text}");
}

#[test]
fn recoveries_are_found_by_name_beginning_and_directory() {
    let directory = Directory::new();
    let none = ask(walback(&directory).args(["--json", "status"])).ended_with(2);
    assert_is(&none.json(), "error/code", "no-recovery");
    for name in ["monday", "monday-late"] {
        let into = directory.path().join(name);
        on_history(&directory, &["restore", "--name", "first", "--yes", "--into", into.to_str().unwrap()])
            .ended_with(0);
    }
    let status = |wanted: &str| ask(walback(&directory).args(["--json", "status", wanted]));
    let late = directory.path().join("monday-late");
    for (wanted, id) in [("monday", "monday"), ("monday-", "monday-late"), (late.to_str().unwrap(), "monday-late")] {
        let recovery = status(wanted).ended_with(0).recovery();
        assert_is(&recovery, "id", id);
        assert_is(&recovery, "state", "paused");
        assert_is(&recovery, "directory", json!(directory.path().join(id)));
        assert_is(&recovery, "backup", "plain-none");
        assert_is(&recovery, "target/kind", "name");
        assert_is(&recovery, "target/value", "first");
        assert_is(&recovery, "stopped/kind", "restore-point");
        assert_is(&recovery, "matches_prediction", true);
        assert_is(&recovery, "strategy", Value::Null);
        let steps: Vec<&str> =
            recovery["phases"].as_array().unwrap().iter().map(|phase| phase["step"].as_str().unwrap()).collect();
        assert_eq!(steps, ["unpack", "configure", "start", "replay"]);
        assert!(recovery["phases"].as_array().unwrap().iter().all(|phase| phase["seconds"].as_f64().is_some()));
    }
    for (wanted, code, says) in
        [("mon", "which-recovery", "monday, monday-late"), ("tuesday", "unknown-recovery", "monday")]
    {
        let error = status(wanted).ended_with(2).json();
        assert_is(&error, "error/code", code);
        let hint = error["error"]["hint"].as_str().unwrap();
        assert!(says.split(", ").all(|name| hint.contains(name)), "{hint}");
    }
    let listed = ask(walback(&directory).args(["--json", "recoveries"])).ended_with(0).json();
    let ids: Vec<&Value> = listed["recoveries"].as_array().unwrap().iter().map(|recovery| &recovery["id"]).collect();
    assert_eq!(ids, ["monday-late", "monday"], "the newest first");
    let text = ask(walback(&directory).args(["status", "monday"])).ended_with(0).out;
    for said in ["paused at the target", "as predicted", "psql", "walback promote monday"] {
        assert!(text.contains(said), "{said:?} is not said:\n{text}");
    }
}

#[test]
fn the_last_event_of_a_recovery_that_fails_is_the_recovery() {
    let directory = Directory::new();
    let into = directory.path().join("new");
    let words = ["restore", "--name", "first", "--yes", "--events", "--set", "ssl=on", "--into"];
    let failed = on_history(&directory, &[&words[..], &[into.to_str().unwrap()]].concat()).ended_with(1);
    assert_is(&failed.recovery(), "state", "failed");
    assert_is(&failed.recovery(), "failure/code", "server-ended");
    assert!(failed.err.contains("error: ") && failed.err.contains("server.crt"), "{}", failed.err);
    let told = ask(walback(&directory).args(["status", "--events"])).ended_with(0);
    assert_is(&told.recovery(), "state", "failed");
}

#[test]
fn every_command_explains_itself() {
    let directory = Directory::new();
    let help = |words: &[&str]| ask(walback(&directory).args(words)).ended_with(0).out;
    let overview = help(&["--help"]);
    let commands = [
        "demo",
        "backups",
        "timelines",
        "plan",
        "restore",
        "recoveries",
        "status",
        "retarget",
        "promote",
        "stop",
        "discard",
        "completions",
        "man",
    ];
    for command in commands {
        assert!(overview.contains(&format!("\n  {command} ")), "{command} is not in:\n{overview}");
        let text = help(&[command, "--help"]);
        assert!(text.contains(&format!("Usage: walback {command}")), "{text}");
        assert!(!text.contains("TODO") && text.len() > 300, "{text}");
        assert!(!help(&[command, "-h"]).is_empty());
    }
    for (command, teaches) in [
        (
            "restore",
            &["20 min ago", "--exclusive", "isolated", "--timeline <N>", "[default: pause]", "--set <NAME=VALUE>"][..],
        ),
        ("plan", &["Changes nothing", "Exit status 3"]),
        ("promote", &["There is no way back"]),
        ("discard", &["remove what the recovery made"]),
        ("status", &["the beginning of it, or its directory"]),
        ("demo", &["DELETE without WHERE"]),
    ] {
        let text = help(&[command, "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
        for lesson in teaches {
            assert!(text.contains(lesson), "{command}: {lesson:?} is not in:\n{text}");
        }
    }
    assert!(overview.contains("walback --backups /backups/base --wal /backups/wal"), "{overview}");
    assert!(help(&["--version"]).starts_with("walback "));
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = help(&["completions", shell]);
        assert!(script.contains("walback") && script.contains("retarget"), "{shell}: {script}");
    }
    let page = help(&["man"]);
    assert!(page.contains(".TH walback 1") && page.contains("last good moment"), "{page}");
}

#[test]
fn completions_are_fit_for_their_shell() {
    let directory = Directory::new();
    let script = ask(walback(&directory).args(["completions", "bash"])).ended_with(0).out;
    let file = directory.write("completions.bash", script);
    let ask = format!(
        "source {}; COMP_WORDS=(walback ret); COMP_CWORD=1; _walback walback ret walback; echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    assert_eq!(run(Command::new("bash").args(["--norc", "-c", &ask])), "retarget");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = Directory::new();
    for words in [&["completions", "bash"][..], &["man"], &["recoveries"], &["--json", "recoveries"], &["--help"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let child = walback(&directory).args(words).stdout(writer).stderr(Stdio::piped()).spawn().unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {output:?}");
    }
}

#[test]
fn a_configuration_names_sources_and_what_is_wrong_with_it() {
    let directory = Directory::new();
    let file = |name: &str, text: &str| directory.write(name, text);
    let (backups, archive) = (HISTORY.backups.display(), HISTORY.archive.display());
    let good = format!(
        "time_zone: Asia/Tokyo\nsources:\n  shop:\n    backups: [{{path: {backups}}}]\n    wal: [{{path: {archive}}}]\n    restore: {{directory: restored, port: 6123, settings: {{work_mem: 8MB}}}}\n"
    );
    let good = file("good.yaml", &good);
    // Looked for here, named by the environment, and named on the command line.
    fs::copy(&good, directory.path().join("walback.yaml")).unwrap();
    let found = ask(walback(&directory).arg("backups")).ended_with(0).out;
    assert!(found.contains("+09:00"), "{found}");
    fs::remove_file(directory.path().join("walback.yaml")).unwrap();
    assert_eq!(ask(walback(&directory).env("WALBACK_CONFIG", &good).arg("backups")).ended_with(0).out, found);
    assert_eq!(ask(walback(&directory).arg("--config").arg(&good).arg("backups")).ended_with(0).out, found);
    let plan = ask(walback(&directory).arg("--config").arg(&good).args(["--json", "plan", "--immediate"]));
    let plan = plan.ended_with(0).json();
    assert_is(&plan, "plan/directory", json!(directory.path().join("restored")));
    assert_is(&plan, "plan/settings/port", "6123");
    assert_is(&plan, "plan/settings/work_mem", "8MB");

    for (text, says) in [
        ("sources:\n  shop:\n    bakups: [{path: /b}]\n", &["bakups", "line 3", "did you mean “backups”?"][..]),
        ("time_zon: UTC\n", &["time_zon", "did you mean “time_zone”?"]),
        ("sources: {shop: {restore: {prot: 1}}}\n", &["prot", "did you mean “port”?"]),
        ("sources: {shop: {restore: {port: many}}}\n", &["port", "line 1"]),
        ("sources: [\n", &["line "]),
        ("time_zone: Europe/Berlim\n", &["Europe/Berlim", "did you mean Europe/Berlin?"]),
        ("sources: {a: {}, b: {}}\n", &["several sources", "a, b"]),
        ("{}\n", &["--backups", "--wal"]),
    ] {
        let wrong = file("wrong.yaml", text);
        let answer = ask(walback(&directory).arg("--json").arg("--config").arg(&wrong).arg("backups")).ended_with(2);
        for part in says {
            assert!(answer.err.contains(part), "{part:?} is not said about {text:?}\n{}", answer.err);
        }
        assert!(answer.json()["error"]["hint"].is_string(), "{}", answer.shown);
    }
    let missing = ask(walback(&directory).args(["--config", "nowhere.yaml", "backups"])).ended_with(2);
    assert!(missing.err.contains("nowhere.yaml") && missing.err.contains("hint: "), "{}", missing.err);
    let unknown =
        ask(walback(&directory).arg("--config").arg(&good).args(["--source", "shp", "backups"])).ended_with(2);
    assert!(unknown.err.contains("shp") && unknown.err.contains("shop"), "{}", unknown.err);
}
