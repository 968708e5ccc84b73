//! What the commands say of an archive: what lies in it, where a target is, and what is wrong with it.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::LazyLock;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use support::{Cluster, Directory, Format, History, Operator, Options, Running, Server, Stop, ask, assert_is, walback};
use walback::core::{Lsn, SegmentName, SegmentSize, TimelineId};
use walback::wal::SegmentHeader;

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

const SEGMENT: u64 = 1 << 20;

fn operator(directory: &Directory) -> Operator<'_> {
    Operator::of(directory, &HISTORY, "")
}

/// The same without `--json`.
fn in_words(operator: &Operator<'_>, words: &[&str]) -> Command {
    let mut command = walback(operator.directory);
    command.arg("--backups").arg(&operator.backups).arg("--wal").arg(&operator.archive).args(words);
    command
}

fn field<'a>(values: &'a [Value], name: &str) -> Vec<&'a str> {
    values.iter().map(|value| value[name].as_str().unwrap_or("-")).collect()
}

/// The segment in which a transaction ended, and where in it.
fn place_of(transaction: &str) -> (SegmentName, u64) {
    let lsn: Lsn = HISTORY.transaction(transaction).lsn.parse().unwrap();
    let size = SegmentSize::new(SEGMENT as u32).unwrap();
    (SegmentName::new(TimelineId(1), size.number_of(lsn), size), lsn.0 % SEGMENT)
}

fn xid_of(transaction: &str) -> u64 {
    HISTORY.transaction(transaction).xid.parse().unwrap()
}

/// PostgreSQL's form of a time in UTC, as JSON has it.
fn in_json(at: &str) -> String {
    let (date, rest) = at.split_once(' ').unwrap();
    let (second, fraction) = rest.trim_end_matches("+00").split_once('.').unwrap_or((rest.trim_end_matches("+00"), ""));
    format!("{date}T{second}.{fraction:0<6}Z")
}

#[test]
fn points_are_listed_in_the_order_of_wal() {
    let directory = Directory::new();
    let operator = operator(&directory);
    let all = ask(&mut operator.command(&["points"])).ended_with(0).lines();
    let lsns: Vec<(u64, Lsn)> = all
        .iter()
        .map(|point| (point["timeline"].as_u64().unwrap(), point["lsn"].as_str().unwrap().parse().unwrap()))
        .collect();
    assert!(lsns.is_sorted(), "{lsns:?}");
    for (name, transaction) in &HISTORY.transactions {
        let xid = xid_of(name);
        let timeline = if *name == "branch" { 2 } else { 1 };
        let point = all.iter().find(|point| point["xid"] == xid && point["timeline"] == timeline);
        let point = point.unwrap_or_else(|| panic!("{name} is not listed"));
        assert_is(point, "kind", if transaction.at.is_empty() { "abort" } else { "commit" });
        if !transaction.at.is_empty() {
            assert_is(point, "at", in_json(&transaction.at));
        }
        assert_is(point, "subxacts", u64::from(*name == "two"));
    }
    let accident = HISTORY.transaction("accident");
    let point = all.iter().find(|point| point["xid"] == xid_of("accident")).unwrap();
    assert_is(point, "deletes", accident.before.split(',').count());
    assert!(all.iter().all(|point| point["kind"] != "checkpoint" && point["kind"] != "prepare"));
    let ends = all.iter().filter(|point| point["kind"] == "end-of-wal").count();
    assert_eq!((ends, all.last().unwrap()["kind"].as_str()), (2, Some("end-of-wal")));
    assert_eq!(all.iter().filter(|point| point["kind"] == "backup-end").count(), 6);

    let table = ask(&mut in_words(&operator, &["points"])).ended_with(0).out;
    assert_eq!(table.lines().count(), all.len() + 1, "a head, and a line each");
    let positions: BTreeSet<usize> = table.lines().skip(1).filter_map(|line| line.find("  0/")).collect();
    assert_eq!(positions.len(), 1, "the columns are aligned:\n{table}");
    HISTORY.assert_untouched();
}

#[test]
fn points_are_listed_by_kind_time_and_timeline() {
    let directory = Directory::new();
    let operator = operator(&directory);
    let points = |words: &[&str]| {
        let words: Vec<&str> = ["points"].iter().chain(words).copied().collect();
        ask(&mut operator.command(&words)).ended_with(0).lines()
    };
    let named = points(&["--kind", "restore-point"]);
    assert_eq!(
        field(&named, "name"),
        ["inside", "first", "while prepared", "fork", "trunk", "on the branch"],
        "each once, on the timeline that it was made on"
    );
    let prepared = points(&["--kind", "prepare", "--kind", "checkpoint", "--timeline", "1"]);
    assert_eq!(prepared.iter().filter(|point| point["kind"] == "prepare").count(), 1);
    assert_is(prepared.iter().find(|point| point["kind"] == "prepare").unwrap(), "name", "half");
    assert!(prepared.iter().any(|point| point["kind"] == "checkpoint"));

    let (one, two) = (HISTORY.transaction("one"), HISTORY.transaction("two"));
    let between = points(&["--from", &one.at, "--to", &two.at, "--timeline", "1"]);
    let xids: Vec<String> = between.iter().map(|point| point["xid"].to_string()).collect();
    assert_eq!(xids, [one.xid.as_str(), "null", two.xid.as_str()], "the restore point between them too: {between:#?}");
    let from_two = points(&["--from", &two.at, "--timeline", "1", "--kind", "commit"]);
    assert_eq!(from_two[0]["xid"].to_string(), two.xid);
    assert_eq!(points(&["--timeline", "1", "--from", "2001-01-01", "--to", "2001-01-02"]), Vec::<Value>::new());
    let branch = points(&["--timeline", "2", "--kind", "commit"]);
    assert_eq!(branch[0]["xid"].to_string(), HISTORY.transaction("branch").xid);
    assert!(branch.iter().all(|point| point["timeline"] == 2));

    for (words, status, code) in [
        (&["points", "--from", "2026-10-25 14:00", "--to", "2026-10-25 13:00"][..], 2, "bad-time"),
        (&["suspects", "--from", "no time"], 2, "bad-time"),
        (&["points", "--timeline", "7"], 4, "unknown-timeline"),
    ] {
        let answer = ask(&mut operator.command(words)).ended_with(status);
        assert_is(&answer.json(), "error/code", code);
    }
    let unknown = ask(&mut operator.command(&["points", "--kind", "commits"])).ended_with(2);
    assert!(unknown.err.contains("restore-point"), "the kinds that there are are named: {}", unknown.err);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let directory = Directory::new();
    let mut command = operator(&directory).command(&["points"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap().as_str()), (Some(0), ""));
}

#[test]
fn a_target_is_located_as_a_plan_resolves_it() {
    let directory = Directory::new();
    let operator = operator(&directory);
    let (one, three) = (HISTORY.transaction("one"), HISTORY.transaction("three"));
    for words in [
        &["--xid", &one.xid, "--exclusive"][..],
        &["--time", &three.at, "--timeline", "1"],
        &["--name", "on the branch"],
        &["--lsn", &three.lsn, "--timeline", "1"],
        &["--immediate", "--backup", "gz"],
        &["--latest", "--timeline", "1", "--backup", "by-sql"],
    ] {
        let place = operator.place("nowhere");
        let located = ask(operator.command(&["locate"]).args(words)).ended_with(0).json();
        let planned = ask(operator.command(&["plan", "--into"]).arg(&place).args(words)).json();
        assert_eq!(located["resolved"], planned["plan"]["resolved"], "{words:?}");
        let said = ask(in_words(&operator, &["locate"]).args(words)).ended_with(0).out;
        for part in ["Target  ", "Stops  ", "Keeps  ", "Loses  ", "Timeline  ", "Backup  "] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }
    let late = ask(&mut operator.command(&["locate", "--time", "2100-01-01"])).ended_with(4);
    assert_is(&late.json(), "error/code", "target-not-reached");
    HISTORY.assert_untouched();
}

#[test]
fn a_mistyped_restore_point_is_answered_with_those_that_there_are() {
    let directory = Directory::new();
    let operator = operator(&directory);
    let place = operator.place("nowhere");
    let place = place.to_str().unwrap();
    for command in [&["locate"][..], &["plan", "--into", place], &["restore", "--yes", "--into", place]] {
        let words = [command, &["--name", "trnk", "--timeline", "1", "--backup", "gz"]].concat();
        let error = ask(&mut in_words(&operator, &words)).ended_with(4).err;
        assert!(error.contains("did you mean “trunk”?"), "{error}");
        assert!(
            error.contains("“first”") && error.contains("“while prepared”") && !error.contains("branch"),
            "{error}"
        );
    }
}

#[test]
fn timelines_say_when_their_first_and_last_transactions_ended() {
    let directory = Directory::new();
    let listed = ask(&mut operator(&directory).command(&["timelines"])).ended_with(0).json();
    assert_is(&listed, "timelines/0/last_commit_at", in_json(&HISTORY.transaction("after").at));
    let branch = in_json(&HISTORY.transaction("branch").at);
    assert_is(&listed, "timelines/1/first_commit_at", branch.as_str());
    let first = listed.pointer("/timelines/0/first_commit_at").unwrap().as_str().unwrap();
    assert!(first < in_json(&HISTORY.transaction("meanwhile").at).as_str(), "{first}");
}

#[test]
fn nothing_is_found_in_a_good_archive() {
    let directory = Directory::new();
    let operator = operator(&directory);
    // How full the disk is that the tests are run on is none of their business.
    let config = directory.write("walback.yaml", "thresholds: {free_space_percent: [0, 0]}\n");
    for words in [&["check"][..], &["check", "--quick"]] {
        let found = ask(operator.command(words).arg("--config").arg(&config)).ended_with(0).json();
        let findings = found["findings"].as_array().unwrap();
        assert_eq!(BTreeSet::from_iter(field(findings, "severity")), BTreeSet::from(["note"]), "{found:#}");
        let (advice, reaches) = findings.split_first().unwrap();
        assert_eq!(advice["code"], "retention", "what lies before the first backup: {advice}");
        assert_eq!(field(reaches, "code"), ["backup-reach"; 12], "each of the backups, on both timelines");
        let on = |timeline: &str| {
            let said = findings.iter().filter(|f| f["message"].as_str().unwrap().contains(timeline));
            said.count()
        };
        assert_eq!((on("on timeline 1"), on("on timeline 2")), (6, 6), "{found:#}");
        assert_is(&found, "archive/backups", 6);
        assert_eq!(found["archive"]["commits"].is_null(), words.len() == 2);
        let said = ask(in_words(&operator, words).arg("--config").arg(&config)).ended_with(0).out;
        assert!(said.contains("Nothing is missing or damaged: ") && said.contains("2 timelines"), "{said}");
    }
    HISTORY.assert_untouched();
}

/// One flaw of one segment.
struct Flaw {
    name: &'static str,
    harm: fn(&Path, u64),
    /// What `check` calls it.
    code: &'static str,
    /// What it says.
    says: &'static str,
    /// Whether names, sizes and headers show it.
    quick: bool,
}

fn change(path: &Path, at: u64, with: &[u8]) {
    let mut bytes = fs::read(path).unwrap();
    let at = usize::try_from(at).unwrap();
    bytes[at..at + with.len()].copy_from_slice(with);
    fs::write(path, bytes).unwrap();
}

const FLAWS: &[Flaw] = &[
    Flaw {
        name: "missing",
        harm: |path, _| fs::remove_file(path).unwrap(),
        code: "wal-missing",
        says: "lacks",
        quick: true,
    },
    Flaw {
        name: "truncated",
        harm: |path, _| fs::File::options().write(true).open(path).unwrap().set_len(300_000).unwrap(),
        code: "segment-unusable",
        says: "it is 300000 bytes long, not 1048576",
        quick: true,
    },
    Flaw {
        name: "of another cluster",
        harm: |path, _| change(path, 24, &7_u64.to_le_bytes()),
        code: "segment-foreign",
        says: "its system identifier is 7",
        quick: true,
    },
    Flaw {
        name: "zeros",
        harm: |path, _| fs::write(path, vec![0; SEGMENT as usize]).unwrap(),
        code: "segment-unusable",
        says: "zeros",
        quick: true,
    },
    Flaw {
        name: "a flipped bit",
        harm: |path, at| {
            let byte = fs::read(path).unwrap()[usize::try_from(at + 25).unwrap()];
            change(path, at + 25, &[byte ^ 0x10]);
        },
        code: "wal-damaged",
        says: "checksum does not match",
        quick: false,
    },
    Flaw {
        name: "a text",
        harm: |path, _| fs::write(path, "this is what somebody wrote down, and no WAL at all\n").unwrap(),
        code: "segment-unusable",
        says: "holds no WAL",
        quick: true,
    },
    Flaw {
        name: "another segment's contents",
        harm: |path, _| {
            let other = path.with_file_name(place_of("one").0.to_string());
            fs::copy(other, path).unwrap();
        },
        code: "segment-unusable",
        says: "its contents are those of the position",
        quick: true,
    },
];

#[test]
fn every_flaw_is_named_with_what_it_means_and_the_rest_is_usable() {
    let (segment, at) = place_of("three");
    for flaw in FLAWS {
        let directory = Directory::new();
        let operator = Operator::of_copies(&directory, &HISTORY, "");
        (flaw.harm)(&operator.archive.join(segment.to_string()), at);
        for words in [&["check"][..], &["check", "--quick"]] {
            let shows = words.len() == 1 || flaw.quick;
            let found = ask(&mut operator.command(words)).ended_with(if shows { 3 } else { 0 }).json();
            let errors: Vec<&Value> = found["findings"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|finding| finding["severity"] == "error" && finding["code"] == flaw.code)
                .collect();
            assert_eq!(errors.len(), usize::from(shows), "{}, {words:?}: {found:#}", flaw.name);
            let Some(error) = errors.first() else { continue };
            assert_is(error, "file", segment.to_string());
            assert_is(error, "timeline", 1);
            let message = error["message"].as_str().unwrap();
            assert!(message.contains(flaw.says), "{}: {message}", flaw.name);
            let means =
                if words.len() == 1 { "the 2 commits of timeline 1 in the segments behind it" } else { "behind it" };
            assert!(message.contains("recovery from ") && message.contains(means), "{}: {message}", flaw.name);
            assert!(error["hint"].as_str().unwrap().contains("good copy"), "{error:#}");
            // What each backup can still do.
            let reach =
                found["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == "backup-reach");
            assert_eq!(reach.count(), 12, "{found:#}");
        }

        // What lies before is located, and what lies behind is listed.
        let before = ask(&mut operator.command(&["locate", "--xid", &HISTORY.transaction("two").xid])).ended_with(0);
        assert_is(&before.json(), "resolved/stop", "after");
        let listed = ask(&mut operator.command(&["points", "--timeline", "1"])).ended_with(0).lines();
        let xids: Vec<String> = listed.iter().map(|point| point["xid"].to_string()).collect();
        for (name, there) in [("two", true), ("three", false), ("accident", true), ("after", true)] {
            assert_eq!(xids.contains(&HISTORY.transaction(name).xid), there, "{}: {name} in {xids:?}", flaw.name);
        }
        let suspects = ask(&mut operator.command(&["suspects", "--rows", "1"])).ended_with(0);
        assert!(suspects.err.contains("“walback check”"), "{}: {}", flaw.name, suspects.err);
        let found = suspects.json();
        assert!(found["suspects"].as_array().unwrap().iter().any(|suspect| suspect["xid"] == xid_of("accident")));
        let timelines = ask(&mut operator.command(&["timelines"])).ended_with(0).json();
        assert_is(&timelines, "timelines/0/last_commit_at", in_json(&HISTORY.transaction("after").at));
    }
}

/// What `check` finds with one change of the archive, by code: severity, message and hint.
fn found_after(change: impl FnOnce(&Path)) -> Vec<Value> {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "");
    change(&operator.archive);
    let found = ask(&mut operator.command(&["check"])).json();
    found["findings"].as_array().unwrap().clone()
}

fn the<'a>(found: &'a [Value], code: &str) -> &'a Value {
    found.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code} in {found:#?}"))
}

#[test]
fn histories_partial_segments_and_strange_files_are_told() {
    let found = found_after(|archive| fs::remove_file(archive.join("00000002.history")).unwrap());
    let finding = the(&found, "history-missing");
    assert_eq!((&finding["severity"], &finding["timeline"]), (&json!("error"), &json!(2)));

    let found = found_after(|archive| fs::write(archive.join("00000002.history"), "what?\n").unwrap());
    assert_is(the(&found, "history-broken"), "file", "00000002.history");

    let found = found_after(|archive| {
        for name in ["000000010000000000000099.tmp", ".hidden", "notes.txt", "backup.sh"] {
            fs::write(archive.join(name), "x").unwrap();
        }
    });
    let (temporary, unknown) = (the(&found, "temporary-files"), the(&found, "unknown-files"));
    assert!(temporary["message"].as_str().unwrap().starts_with("2 files"), "{temporary}");
    assert!(unknown["message"].as_str().unwrap().contains("notes.txt"), "{unknown}");

    // The last segment as a server leaves it that did not fill it.
    let last = place_of("after").0;
    let found = found_after(|archive| {
        let path = archive.join(last.to_string());
        fs::rename(&path, PathBuf::from(format!("{}.partial", path.display()))).unwrap();
    });
    let partial = the(&found, "partial-segment");
    assert!(partial["message"].as_str().unwrap().contains("with 1 commit"), "{partial}");
    assert!(partial["message"].as_str().unwrap().ends_with("recoveries use it"), "{partial}");
    assert_is(partial, "severity", "note");
}

#[test]
fn a_backup_without_the_wal_to_be_consistent_is_told() {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    let backups = ask(&mut operator.command(&["backups"])).ended_with(0).json();
    let needs = backups["backups"][0]["start_wal"].as_str().unwrap().to_owned();
    fs::remove_file(operator.archive.join(&needs)).unwrap();
    let found = ask(&mut operator.command(&["check"])).ended_with(3).json();
    let incomplete = the(found["findings"].as_array().unwrap(), "backup-incomplete").clone();
    let message = incomplete["message"].as_str().unwrap();
    assert!(message.contains("the-backup") && message.contains(&needs), "{message}");
}

#[test]
fn an_interrupt_ends_a_listing_and_what_was_printed_is_valid() {
    let directory = Directory::new();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    cluster.psql("create table t (n int)");
    // More than fits into a pipe that nobody reads, and more than one segment.
    cluster.psql("do $$ begin for i in 1 .. 12000 loop insert into t values (i); commit; end loop; end $$");
    cluster.switch_and_wait_archived();
    let mut command = walback(&directory);
    command.arg("--json").arg("--wal").arg(&cluster.archive).arg("points");
    let mut listing = Running::start(&mut command);
    listing.wait_for("a point", |line| line["kind"] == "commit");
    listing.signal(Signal::SIGINT);
    let (status, error, lines) = listing.wait();
    assert_eq!(status, Some(130), "{error}");
    assert!(error.contains("cancelled"), "{error}");
    let (last, points) = lines.split_last().unwrap();
    assert_is(last, "error/code", "cancelled");
    assert!(!points.is_empty() && points.len() < 12_000, "{}", points.len());
    assert!(points.iter().all(|point| point["lsn"].is_string()));
}

#[test]
fn suspects_are_told_in_words_from_as_many_rows_on_as_is_said() {
    let directory = Directory::new();
    let operator = operator(&directory);
    let none = ask(&mut in_words(&operator, &["suspects"])).ended_with(0).out;
    assert!(none.starts_with("no transaction there destroyed data, as far as WAL tells; "), "{none}");
    let accident = HISTORY.transaction("accident");
    let rows = accident.before.split(',').count();
    let table = ask(&mut in_words(&operator, &["--time-zone", "Asia/Kolkata", "suspects", "--rows", "2"]));
    let table = table.ended_with(0).out;
    let lines: Vec<&str> = table.lines().skip_while(|line| !line.starts_with("delete ")).take(3).collect();
    for part in ["+05:30", &accident.xid] {
        assert!(lines[0].contains(part), "{part} is not in {table}");
    }
    assert!(lines[0].ends_with(&format!(" {rows}")) && lines[1].contains("public.kept"), "{table}");
    assert!(lines[2].ends_with(&format!(": --xid {} --exclusive --timeline 1", accident.xid)), "{table}");
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");

    let config = directory.write("walback.yaml", format!("suspects: {{rows: {rows}}}\n"));
    let listed = |words: &[&str]| {
        let mut command = operator.command(&["--config"]);
        let found = ask(command.arg(&config).arg("suspects").args(words)).ended_with(0).json();
        found["suspects"].as_array().unwrap().len()
    };
    assert_eq!((listed(&[]), listed(&["--rows", &(rows + 1).to_string()])), (1, 0));
    let at = &accident.at;
    assert_eq!(
        (listed(&["--from", at, "--to", at]), listed(&["--timeline", "2"]), listed(&["--to", "2001-01-01"])),
        (1, 0, 0)
    );
}

/// A server's `pg_wal` has what was not archived any more, and segments that wait to be written under names to come.
#[test]
fn segments_that_a_server_keeps_to_be_written_again_are_no_damage() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, ..Options::default() };
    let cluster = Cluster::create(&directory, &Server::v15(), &options);
    let backup = cluster.base_backup(Format::Plain, "backup");
    cluster.psql("create table t as select md5(n::text) from generate_series(1, 60000) n");
    cluster.switch_and_wait_archived();
    cluster.psql("checkpoint");
    cluster.psql("create table u as select md5(n::text) from generate_series(1, 60000) n");
    cluster.psql("checkpoint");
    cluster.psql("create table only_in_pg_wal (n int)");
    cluster.stop(Stop::Immediate);
    let pg_wal = cluster.data.join("pg_wal");
    let size = SegmentSize::new(SEGMENT as u32).unwrap();
    let recycled = |path: &Path| {
        let name = SegmentName::parse(path.file_name().unwrap().to_str().unwrap())?;
        let header = SegmentHeader::parse(&fs::read(path).unwrap()).ok()?;
        (header.pageaddr < name.start(size)).then_some(())
    };
    let entries = fs::read_dir(&pg_wal).unwrap().filter(|entry| recycled(&entry.as_ref().unwrap().path()).is_some());
    assert!(entries.count() > 0, "nothing was recycled: this would prove nothing");

    let operator = Operator { directory: &directory, backups: backup.path, archive: cluster.archive.clone() };
    let with_pg_wal = |words: &[&str]| {
        let mut command = operator.command(&[]);
        command.arg("--wal").arg(&pg_wal).args(words);
        command
    };
    let findings = ask(&mut with_pg_wal(&["check"])).ended_with(0).json();
    let flawed = findings["findings"].as_array().unwrap().iter();
    let flawed = flawed.filter(|found| found["severity"] != "note" && found["code"] != "archive-space");
    assert_eq!(flawed.count(), 0, "{findings}");
    let resolved = ask(&mut with_pg_wal(&["locate", "--latest"])).ended_with(0).json();
    let without = ask(&mut operator.command(&["locate", "--latest"])).ended_with(0).json();
    let kept = |answer: &Value| answer["resolved"]["last_kept"]["lsn"].as_str().unwrap().parse::<Lsn>().unwrap();
    assert!(kept(&resolved) > kept(&without), "what was not archived counts: {resolved}");
}
