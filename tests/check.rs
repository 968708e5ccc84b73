//! `walback check` as monitoring uses it: the primary that is asked, base backups that are read whole, thresholds, and the
//! forms in which the result is told. What it says of archives is in `archive.rs`.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use serde_json::{Value, json};
use support::{
    Cluster, Directory, FORMS, Format, History, LIMIT, Operator, Options, Pack, Server, Stop, ask, assert_is, gzip,
    run, tree_digest, wait_until, walback,
};
use walback::core::{Lsn, SegmentName, SegmentSize, TimelineId};

static HISTORY: LazyLock<History> = LazyLock::new(History::make);

fn the<'a>(found: &'a Value, code: &str) -> &'a Value {
    let findings = found["findings"].as_array().unwrap();
    findings.iter().find(|finding| finding["code"] == code).unwrap_or_else(|| panic!("no {code} in {found:#}"))
}

fn codes(found: &Value) -> Vec<&str> {
    found["findings"].as_array().unwrap().iter().map(|finding| finding["code"].as_str().unwrap()).collect()
}

fn messages(found: &Value, code: &str) -> Vec<String> {
    let findings = found["findings"].as_array().unwrap().iter().filter(|finding| finding["code"] == code);
    findings.map(|finding| finding["message"].as_str().unwrap().to_owned()).collect()
}

/// A cluster whose archiving can be made to fail, with a role for monitoring and one without any rights.
struct Primary<'a> {
    directory: &'a Directory,
    cluster: Cluster<'a>,
}

impl<'a> Primary<'a> {
    fn create(directory: &'a Directory) -> Primary<'a> {
        let here = directory.path().display();
        let command = format!(
            "test ! -f {here}/broken && cp %p {here}/archive/%f.tmp && mv {here}/archive/%f.tmp {here}/archive/%f"
        );
        let settings = vec![("archive_command", command), ("archive_timeout", "0".to_owned())];
        let options = Options { segment_mib: 1, settings, ..Options::default() };
        let cluster = Cluster::create(directory, &Server::v15(), &options);
        cluster.psql(
            "create role watcher login; grant pg_monitor to watcher; create role nobody login; \
             create table t (n int); select pg_create_physical_replication_slot('left_over', true)",
        );
        cluster.base_backup(Format::TarGz, "nightly");
        cluster.switch_and_wait_archived();
        Primary { directory, cluster }
    }

    fn connection(&self, role: &str) -> String {
        self.cluster.connection().replace("user=postgres", &format!("user={role}"))
    }

    /// The program, configured with thresholds that three segments exceed, and this connection.
    fn command(&self, role: &str, words: &[&str]) -> Command {
        let here = self.directory.path().display();
        let configuration = format!(
            "thresholds: {{archive_lag_segments: [2, 3], free_space_percent: [0, 0]}}\nsources:\n  \"sh\\\"op\":\n    \
             backups: [{{path: {here}/backups}}]\n    wal: [{{path: {here}/archive}}]\n    primary: \"{}\"\n",
            self.connection(role)
        );
        let file = self.directory.write("walback.yaml", configuration);
        let mut command = walback(self.directory);
        command.arg("--config").arg(file).args(words);
        command
    }

    fn json(&self, role: &str, status: i32) -> Value {
        ask(&mut self.command(role, &["--json", "check", "--quick"])).ended_with(status).json()
    }

    /// Fills so many segments; gives the last one's name.
    fn fill(&self, segments: u32) -> String {
        let mut switched = Lsn(0);
        for _ in 0..segments {
            self.cluster.psql("insert into t values (1)");
            switched = self.cluster.psql("select pg_switch_wal()").parse().unwrap();
        }
        self.cluster.segment_before(switched)
    }

    fn wait_archived(&self, segment: &str) {
        self.wait_for("archived segments", &format!("last_archived_wal >= '{segment}'"));
    }

    fn wait_for(&self, what: &str, condition: &str) {
        wait_until(what, LIMIT, || {
            (self.cluster.psql(&format!("select {condition} from pg_stat_archiver")) == "t").then_some(())
        });
    }
}

#[test]
fn the_primary_is_asked_and_what_it_says_is_judged() {
    let directory = Directory::new();
    let primary = Primary::create(&directory);
    let cluster = &primary.cluster;

    // All is well, and pg_monitor is enough to know it.
    let found = primary.json("watcher", 0);
    assert_eq!(found["primary"]["unasked"], json!([]), "{found:#}");
    assert_is(&found, "primary/archive_mode", "on");
    assert_is(&found, "primary/failing", false);
    assert_is(&found, "primary/lag_segments", 0);
    assert_is(&found, "primary/behind_segments", 0);
    assert_is(&found, "primary/command", "set");
    assert_is(&found, "primary/settings/full_page_writes", "on");
    assert_is(&found, "primary/slots/0/name", "left_over");
    assert!(found["primary"]["written"]["bytes"].as_u64().unwrap() > 0);
    assert!(codes(&found).contains(&"archive-timeout-off") && !codes(&found).contains(&"archive-lag"));
    // What another role may not know is said, and the rest is known.
    let found = primary.json("nobody", 0);
    let unasked = found["primary"]["unasked"].to_string();
    assert!(unasked.contains("pg_ls_archive_statusdir") && unasked.contains("pg_monitor"), "{unasked}");
    assert_is(&found, "primary/lag_segments", 0);

    // A copy of the archive from before is behind it.
    let copy = directory.path().join("copy");
    run(Command::new("cp").arg("-a").arg(&cluster.archive).arg(&copy));
    primary.wait_archived(&primary.fill(3));
    let mut older = primary.command("watcher", &["--json", "--source", "sh\"op", "--wal"]);
    let found = ask(older.arg(&copy).args(["check", "--quick"])).ended_with(3).json();
    assert_is(the(&found, "archive-behind"), "severity", "error");
    assert!(found["primary"]["behind_segments"].as_u64().unwrap() >= 3, "{found:#}");
    let found = primary.json("watcher", 0);
    assert!(!codes(&found).contains(&"archive-behind"));

    // Archiving fails, and segments wait.
    directory.write("broken", "");
    let last = primary.fill(3);
    primary.wait_for("a failure", "failed_count > 0");
    for role in ["watcher", "nobody"] {
        let found = primary.json(role, 3);
        assert_is(the(&found, "archive-lag"), "severity", "error");
        assert_is(the(&found, "archiving-fails"), "severity", "warning");
        assert_is(the(&found, "slot-inactive"), "severity", "warning");
        assert_is(&found, "primary/failing", true);
        assert_is(&found, "primary/lag_segments", 3);
        assert!(found["primary"]["lag_seconds"].as_f64().unwrap() >= 0.0);
    }
    let words = ask(&mut primary.command("watcher", &["check", "--quick"])).ended_with(3).out;
    assert!(words.contains("3 segments wait") && words.contains("Primary\n  Last archived: "), "{words}");
    let line = ask(&mut primary.command("watcher", &["check", "--quick", "--format", "nagios"])).ended_with(2).out;
    let (said, figures) = plugin(&line, "CRITICAL");
    assert!(said.contains("archive-lag"), "{said}");
    assert_eq!(figures["archive_lag"], "3;1;2;0");
    let page = ask(&mut primary.command("watcher", &["check", "--quick", "--format=prometheus"])).ended_with(3).out;
    let metrics = exposition(&page);
    assert_eq!(metrics["walback_archive_lag_segments{source=sh\"op}"], 3.0);
    assert_eq!(metrics["walback_archiver_failing{source=sh\"op}"], 1.0);
    assert_eq!(metrics["walback_slot_active{source=sh\"op,slot=left_over}"], 0.0);

    // It goes on: failures of the past are known and are none now.
    fs::remove_file(directory.path().join("broken")).unwrap();
    primary.wait_archived(&last);
    let found = primary.json("watcher", 0);
    assert!(!codes(&found).contains(&"archiving-fails"), "{found:#}");
    assert!(found["primary"]["failed_count"].as_u64().unwrap() > 0);
    assert_is(&found, "primary/failing", false);

    // A command that only pretends.
    cluster.psql("alter system set archive_command = '/bin/true'");
    cluster.psql("select pg_reload_conf()");
    wait_until("the new command", LIMIT, || (cluster.psql("show archive_command") == "/bin/true").then_some(()));
    assert_is(the(&primary.json("watcher", 3), "archiving-nowhere"), "severity", "error");

    // Nobody answers, or somebody refuses: that is no silence, and no password is shown.
    let refused = ask(&mut primary.command("of_nobody", &["check", "--quick"])).ended_with(3).out;
    assert!(refused.contains("primary-silent") && refused.contains("the primary refuses: "), "{refused}");
    cluster.stop(Stop::Immediate);
    let mut silent = primary.command("watcher", &["check", "--quick", "--format", "nagios", "--primary"]);
    silent.arg(format!("{} password=not-to-be-shown", primary.connection("watcher")));
    let answer = ask(&mut silent).ended_with(2);
    assert!(plugin(&answer.out, "CRITICAL").0.contains("primary-silent"), "{}", answer.out);
    let mut wrong = primary.command("watcher", &["check", "--quick", "--primary", "host password=not-to-be-shown"]);
    let wrong = ask(&mut wrong).ended_with(3);
    assert!(wrong.out.contains("cannot be read"), "{}", wrong.out);
    for said in [&answer.out, &answer.err, &wrong.out, &wrong.err] {
        assert!(!said.contains("not-to-be-shown"), "{said}");
    }
}

/// What is asked differs between majors: 13 has no `pg_stat_wal`, 17 says since when nobody uses a slot.
#[test]
fn every_major_is_asked_all_that_it_can_say() {
    for server in [13, 14, 16, 17, 18].into_iter().filter_map(Server::available) {
        let directory = Directory::new();
        let cluster = Cluster::create(&directory, &server, &Options { segment_mib: 1, ..Options::default() });
        cluster.psql("create role watcher login; grant pg_monitor to watcher");
        cluster.psql("select pg_create_physical_replication_slot('left_over', true)");
        cluster.psql("create table t (n int)");
        let last = cluster.switch_and_wait_archived();
        let archived = || cluster.psql("select last_archived_wal from pg_stat_archiver");
        wait_until("what was archived to be counted", LIMIT, || (archived() == last).then_some(()));
        let mut command = walback(&directory);
        command.args(["--json", "check", "--quick", "--wal"]).arg(&cluster.archive);
        command.args(["--primary", &cluster.connection().replace("user=postgres", "user=watcher")]);
        let found = ask(&mut command).json();
        let primary = &found["primary"];
        let major = server.major;
        let unasked = primary["unasked"].as_array().unwrap();
        assert_eq!(unasked.len(), usize::from(major == 13), "{major}: {primary:#}");
        assert_eq!(primary["written"].is_null(), major == 13, "{major}: {primary:#}");
        assert_eq!(primary["settings"]["summarize_wal"].is_string(), major >= 17, "{major}: {primary:#}");
        assert_eq!(primary["slots"][0]["inactive_since"].is_string(), major >= 17, "{major}: {primary:#}");
        assert_eq!((&primary["command"], &primary["lag_segments"]), (&json!("set"), &json!(0)), "{major}: {primary:#}");
        assert_eq!(primary["last_archived_wal"], last.as_str(), "{major}");
        // Just behind a segment, it is the next one that is written to, whatever the major calls it.
        assert!(primary["current_wal"].as_str().unwrap() > last.as_str(), "{major}: {primary:#}");
        cluster.stop(Stop::Immediate);
    }
}

/// The parts of a line of a plugin: what it says, and its figures by name.
#[track_caller]
fn plugin<'a>(out: &'a str, word: &str) -> (&'a str, BTreeMap<String, String>) {
    let line = out.strip_suffix('\n').unwrap();
    assert_eq!(line.lines().count(), 1, "{line}");
    let (said, figures) = line.split_once(" | ").unwrap_or((line, ""));
    let said = said.strip_prefix(&format!("WALBACK {word} - ")).unwrap_or_else(|| panic!("{line}"));
    assert!(!said.contains('|') && !figures.contains('|'), "{line}");
    let mut found = BTreeMap::new();
    let mut rest = figures;
    while !rest.is_empty() {
        let (name, behind) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once("'=").unwrap(),
            None => rest.split_once('=').unwrap(),
        };
        let (value, next) = behind.split_once(' ').unwrap_or((behind, ""));
        let number = value.split(';').next().unwrap().trim_end_matches(['s', '%', 'c']);
        number.parse::<f64>().unwrap_or_else(|_| panic!("{name}: {value}"));
        found.insert(name.to_owned(), value.to_owned());
        rest = next;
    }
    (said, found)
}

/// Reads a page as Prometheus' text format 0.0.4 has it, and refuses what is not: a family is announced once, with HELP and
/// TYPE, before its samples, which lie together; every sample is there once.
#[track_caller]
fn exposition(page: &str) -> BTreeMap<String, f64> {
    let is_name = |name: &str| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    assert!(page.ends_with('\n'), "the last line has an end");
    let (mut families, mut found) = (Vec::<String>::new(), BTreeMap::new());
    let mut helped = None;
    for line in page.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, text) = help.split_once(' ').unwrap();
            assert!(is_name(name) && !text.is_empty() && !families.iter().any(|known| known == name), "{line}");
            helped = Some(name.to_owned());
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert_eq!(helped.take().as_deref(), Some(name), "{line}");
            assert!(matches!(kind, "gauge" | "counter"), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            families.push(name.to_owned());
        } else {
            let (name, rest) = line.split_once('{').unwrap();
            assert!(families.last().is_some_and(|family| family == name), "{line}");
            let mut labels = Vec::new();
            let mut characters = rest.chars();
            loop {
                let label: String = characters.by_ref().take_while(|c| *c != '=').collect();
                assert!(is_name(&label) && characters.next() == Some('"'), "{line}");
                let mut value = String::new();
                loop {
                    match characters.next().unwrap() {
                        '"' => break,
                        '\\' => value.push(match characters.next().unwrap() {
                            'n' => '\n',
                            c @ ('"' | '\\') => c,
                            other => panic!("\\{other} in {line}"),
                        }),
                        c => value.push(c),
                    }
                }
                labels.push(format!("{label}={value}"));
                match characters.next() {
                    Some(',') => {}
                    Some('}') => break,
                    other => panic!("{other:?} in {line}"),
                }
            }
            let value: f64 = characters.as_str().strip_prefix(' ').unwrap().parse().unwrap();
            let sample = format!("{name}{{{}}}", labels.join(","));
            assert!(found.insert(sample, value).is_none(), "{line} comes twice");
        }
    }
    assert!(!found.is_empty());
    found
}

#[test]
fn a_good_archive_is_told_in_every_form() {
    let directory = Directory::new();
    let operator = Operator::of(&directory, &HISTORY, "");
    let words = |words: &[&str]| {
        let mut command = walback(&directory);
        command.arg("--backups").arg(&operator.backups).arg("--wal").arg(&operator.archive).arg("check").args(words);
        command
    };
    // How full the disk of the machine is that runs the tests is none of their business.
    let configuration =
        directory.write("walback.yaml", "thresholds: {free_space_percent: [0, 0], backup_age: [1d, 2d]}\n");
    let mut command = words(&["--deep", "--format", "nagios", "--config"]);
    let line = ask(command.arg(&configuration)).ended_with(0).out;
    let (said, figures) = plugin(&line, "OK");
    assert!(said.contains("of 2 timelines, 6 base backups"), "{said}");
    assert_eq!((figures["backups"].as_str(), figures["missing"].as_str()), ("6", "0;;0"));
    assert!(figures["backup_age"].ends_with("s;86399;172799;0"), "{figures:?}");
    assert!(figures.keys().any(|name| name.starts_with("free /")), "{figures:?}");

    let file = directory.path().join("walback.prom");
    let mut command = words(&["--deep", "--format", "prometheus", "--output"]);
    assert_eq!(ask(command.arg(&file)).out, "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644, "node_exporter is another user");
    let metrics = exposition(&fs::read_to_string(&file).unwrap());
    let of = |name: &str| metrics[&format!("walback_{name}")];
    assert_eq!(of("segments{source=command line,timeline=2}") as u64, 2);
    assert_eq!(of("missing_segments{source=command line,timeline=1}"), 0.0);
    assert_eq!(of("check_findings{source=command line,severity=error}"), 0.0);
    for backup in ["by-sql", "gz", "tar-none", "plain-stream", "tar-stream", "plain-none"] {
        assert_eq!(of(&format!("backup_usable{{source=command line,backup={backup}}}")), 1.0, "{backup}");
        assert_eq!(of(&format!("backup_verified{{source=command line,backup={backup}}}")), 1.0, "{backup}");
    }
    let beside = fs::read_dir(directory.path())
        .unwrap()
        .filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("walback-new"));
    assert_eq!(beside.count(), 0);

    let found = ask(&mut words(&["--format", "json", "--deep"])).json();
    let verified: BTreeMap<&str, (&Value, &str)> = found["verified"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["backup"].as_str().unwrap(), (&one["passed"], one["by"].as_str().unwrap())))
        .collect();
    assert_eq!(verified["gz"], (&json!(true), "manifest"));
    assert_eq!(verified["by-sql"], (&json!(true), "reading"), "it has no manifest");
    assert_eq!((messages(&found, "backup-verified").len(), messages(&found, "backup-unverified").len()), (5, 1));
    let retention = found["retention"].as_array().unwrap();
    assert_eq!((retention.len(), &retention[0]["backup"], &retention[0]["backups"]), (6, &json!("by-sql"), &json!(6)));
    assert_eq!(retention[0]["bytes"].as_u64().unwrap(), retention[0]["segments"].as_u64().unwrap() << 20);
    assert!(retention[5]["segments"].as_u64() > retention[0]["segments"].as_u64(), "{retention:#?}");

    // Where nothing can be said, Nagios is told so.
    let none = ask(walback(&directory).args(["check", "--format=nagios"])).ended_with(3);
    assert!(none.out.starts_with("WALBACK UNKNOWN - it is not said where"), "{}", none.out);
    let wrong = ask(&mut words(&["--format=nagios", "--nonsense"])).ended_with(3);
    assert!(wrong.out.starts_with("WALBACK UNKNOWN - ") && wrong.err.contains("--nonsense"), "{}", wrong.out);
    ask(&mut words(&["--format=prometheus", "--json"])).ended_with(2);
    ask(&mut words(&["--output", "/tmp/never", "--read-only"])).ended_with(2);
    HISTORY.assert_untouched();
}

#[test]
fn damage_inside_a_segment_is_found_however_it_is_packed() {
    // In the middle of a record: what lies between records, nothing protects.
    let lsn: Lsn = HISTORY.transaction("three").lsn.parse().unwrap();
    let size = SegmentSize::new(1 << 20).unwrap();
    let name = &SegmentName::new(TimelineId(1), size.number_of(lsn), size).to_string();
    let at = (lsn.0 % (1 << 20)) as usize + 25;
    let bytes = fs::read(HISTORY.archive.join(name)).unwrap();
    let mut flipped = bytes.clone();
    flipped[at] ^= 0x10;
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, "tar-none");
    fs::remove_file(operator.archive.join(name)).unwrap();
    let check = |file: &str, contents: &[u8]| {
        let path = operator.archive.join(file);
        fs::write(&path, contents).unwrap();
        let found = ask(&mut operator.command(&["check"])).ended_with(3).json();
        fs::remove_file(path).unwrap();
        found
    };
    let plain: Pack = <[u8]>::to_vec;
    for (ending, pack) in std::iter::once(("", plain)).chain(FORMS) {
        let file = if ending.is_empty() { name.clone() } else { format!("{name}.{ending}") };
        // What was archived was damaged already: packed rightly, and found by the record's checksum.
        let found = check(&file, &pack(&flipped));
        let damaged = the(&found, "wal-damaged");
        assert_is(damaged, "file", name.as_str());
        let message = damaged["message"].as_str().unwrap();
        let offset: usize = message.split("(offset ").nth(1).unwrap().split(')').next().unwrap().parse().unwrap();
        assert_eq!(offset, at - 25, "{file}: the record there was changed: {message}");
        if ending.is_empty() {
            continue;
        }
        // What is packed was damaged: found by the form's own checksum, or by not being what it should.
        let mut packed = pack(&bytes);
        let middle = packed.len() / 2;
        // One form or the other has no checksum of its own.
        packed[middle..middle + 32].iter_mut().for_each(|byte| *byte ^= 0x5A);
        let found = check(&file, &packed);
        let said = messages(&found, "wal-damaged").into_iter().chain(messages(&found, "segment-unusable"));
        let said: Vec<String> = said.collect();
        assert!(said.iter().any(|message| message.contains(name)), "{file}: {found:#}");
    }
}

/// A copy of one backup that was changed, read with `--deep`.
fn deep(backup: &str, harm: impl FnOnce(&Path)) -> Value {
    let directory = Directory::new();
    let operator = Operator::of_copies(&directory, &HISTORY, backup);
    harm(&operator.backups);
    let evidence = tree_digest(&operator.backups);
    let found = ask(&mut operator.command(&["check", "--quick", "--deep"])).json();
    tree_digest(&operator.backups).assert_same_as(&evidence);
    found
}

/// Changes one byte.
fn flip(file: &Path, at: u64) {
    let file = fs::File::options().read(true).write(true).open(file).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
}

/// Where the contents of a file begin in a plain tar.
fn place_in(tar: &Path, name: &str) -> u64 {
    let mut archive = tar::Archive::new(fs::File::open(tar).unwrap());
    let mut entries = archive.entries().unwrap().map(Result::unwrap);
    entries.find(|entry| entry.path().unwrap().ends_with(name)).unwrap().raw_file_position()
}

/// The tar again, with one file left out and another one added.
fn exchanged(tar: &[u8], without: &str, with: &str) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for entry in tar::Archive::new(tar).entries().unwrap() {
        let mut entry = entry.unwrap();
        if !entry.path().unwrap().ends_with(without) {
            let header = entry.header().clone();
            builder.append(&header, &mut entry).unwrap();
        }
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(1);
    header.set_mode(0o600);
    builder.append_data(&mut header, with, &b"x"[..]).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn what_a_backup_lacks_or_has_too_much_of_is_named() {
    // A directory: a file is damaged, one is gone, one is there that nobody knows, and one is shorter.
    let found = deep("plain-none", |backup| {
        flip(&backup.join("base/1/1259"), 100);
        fs::remove_file(backup.join("base/1/1249")).unwrap();
        fs::write(backup.join("base/1/more"), "x").unwrap();
        fs::File::options().write(true).open(backup.join("base/1/1255")).unwrap().set_len(8192).unwrap();
    });
    let damaged = messages(&found, "backup-damaged");
    for says in ["base/1/1259: its contents", "base/1/1255: it has 8192 bytes", "missing: base/1/1249"] {
        assert!(damaged.iter().any(|message| message.contains(says)), "{says}: {damaged:#?}");
    }
    assert_eq!(damaged.len(), 3, "{damaged:#?}");
    assert!(messages(&found, "backup-has-more")[0].contains("base/1/more"));
    assert_is(&found, "verified/0/passed", false);
    assert_is(&found, "backups/0/usable", false);
    assert!(codes(&found).contains(&"no-usable-backup") && !codes(&found).contains(&"backup-reach"), "{found:#}");

    // A plain tar.
    let found = deep("tar-none", |backup| {
        let tar = backup.join("base.tar");
        fs::write(&tar, exchanged(&fs::read(&tar).unwrap(), "base/1/1249", "base/1/more")).unwrap();
        flip(&tar, place_in(&tar, "base/1/1259") + 5000);
    });
    let damaged = messages(&found, "backup-damaged");
    for says in ["base/1/1259: its contents", "missing: base/1/1249"] {
        assert!(damaged.iter().any(|message| message.contains(says)), "{says}: {damaged:#?}");
    }
    assert!(messages(&found, "backup-has-more")[0].contains("base/1/more"));

    // A compressed one: what is packed is another file, and then the packing itself is harmed.
    let found = deep("gz", |backup| {
        let file = backup.join("base.tar.gz");
        let plain = directory_of(&file);
        let tar = exchanged(&fs::read(&plain).unwrap(), "base/1/1249", "base/1/more");
        fs::write(&plain, tar).unwrap();
        flip(&plain, place_in(&plain, "base/1/1259") + 5000);
        fs::write(&file, gzip(&fs::read(&plain).unwrap())).unwrap();
        fs::remove_file(plain).unwrap();
    });
    let damaged = messages(&found, "backup-damaged");
    for says in ["base/1/1259: its contents", "missing: base/1/1249"] {
        assert!(damaged.iter().any(|message| message.contains(says)), "{says}: {damaged:#?}");
    }
    let found = deep("gz", |backup| {
        let file = backup.join("base.tar.gz");
        let bytes = fs::metadata(&file).unwrap().len();
        for at in 0..64 {
            flip(&file, bytes / 2 + at);
        }
    });
    assert!(messages(&found, "backup-broken")[0].contains("base.tar.gz"), "{found:#}");
    let damaged = messages(&found, "backup-damaged");
    assert!(damaged.iter().any(|message| message.contains("lie behind what cannot be read")), "{found:#}");

    // The manifest itself.
    let found = deep("plain-stream", |backup| flip(&backup.join("backup_manifest"), 500));
    assert!(messages(&found, "manifest-broken")[0].contains("backup_manifest"), "{found:#}");
    // Without one, at least the control file is known to be whole.
    let found = deep("plain-stream", |backup| {
        fs::remove_file(backup.join("backup_manifest")).unwrap();
        flip(&backup.join("global/pg_control"), 200);
    });
    let said: Vec<String> =
        ["backup-damaged", "backup-broken"].iter().flat_map(|code| messages(&found, code)).collect();
    assert!(said.iter().any(|message| message.contains("global/pg_control")), "{found:#}");
    // A name that is there twice is nothing that a server writes.
    let found = deep("tar-none", |backup| {
        let file = backup.join("base.tar");
        fs::write(&file, exchanged(&fs::read(&file).unwrap(), "base/1/1249", "base/1/1259")).unwrap();
    });
    assert!(messages(&found, "backup-suspicious")[0].contains("base/1/1259"), "{found:#}");
    // What lies beside them is none.
    let found = deep("tar-none", |backup| fs::write(backup.join("base.tar~"), "x").unwrap());
    assert!(messages(&found, "left-alone")[0].contains("base.tar~"), "{found:#}");
    let good = deep("plain-stream", |_| {});
    assert_eq!((messages(&good, "backup-verified").len(), &good["verified"][0]["passed"]), (1, &json!(true)));
}

/// What a file of gzip holds, beside it.
fn directory_of(file: &Path) -> PathBuf {
    let plain = file.with_extension("plain");
    fs::write(&plain, run_bytes(Command::new("gzip").arg("-dc").arg(file))).unwrap();
    plain
}

fn run_bytes(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap();
    assert!(output.status.success());
    output.stdout
}

/// Without a manifest, the pages of a cluster with checksums tell.
#[test]
fn pages_are_looked_at_where_there_is_no_manifest() {
    let directory = Directory::new();
    let options = Options { segment_mib: 1, checksums: true, ..Options::default() };
    let cluster = Cluster::create(&directory, &Server::v15(), &options);
    cluster.psql("create table t as select n, md5(n::text) from generate_series(1, 5000) n");
    let file = cluster.psql("select pg_relation_filepath('t')");
    cluster.psql("checkpoint");
    let backup = cluster.base_backup(Format::Plain, "backup");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    fs::remove_file(backup.path.join("backup_manifest")).unwrap();
    let operator = Operator::of_cluster(&directory, &cluster, "");
    let check = || ask(&mut operator.command(&["check", "--quick", "--deep"])).json();
    let good = check();
    assert!(!codes(&good).contains(&"page-checksum"), "{good:#}");
    assert!(the(&good, "backup-unverified")["message"].as_str().unwrap().contains("its pages have the checksums"));
    flip(&backup.path.join(&file), 3 * 8192 + 8000);
    let found = check();
    let message = the(&found, "page-checksum")["message"].as_str().unwrap();
    assert!(message.contains("1 page ") && message.contains(&file), "{message}");
}

#[test]
fn thresholds_that_make_no_sense_are_refused_with_their_line() {
    let directory = Directory::new();
    let file = directory.write("walback.yaml", "time_zone: UTC\nthresholds:\n  free_space_percent: [5, 20]\n");
    let refused = ask(walback(&directory).arg("--config").arg(file).arg("check")).ended_with(2);
    assert!(refused.err.contains("line 3") && refused.err.contains("less is worse"), "{}", refused.err);
    assert!(refused.err.contains("hint: like “archive_lag_segments: [10, 50]”"), "{}", refused.err);
}
