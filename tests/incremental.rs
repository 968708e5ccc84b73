//! Incremental backups of PostgreSQL 17 and 18, taken by `pg_basebackup` and combined by `pg_combinebackup`.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;
use support::{
    Cluster, Directory, Format, Incremental, LIMIT, Moment, Operator, Stop, TreeDigest, as_server, ask, assert_is,
    assert_paused, is_worked_in, rows, run, run_and_kill, sql, tree_digest, wait_until, walback,
};

/// A cluster's past with three chains of backups, which its restore points lie behind.
///
/// In this order: the backups `plain/1`, `plain/2` and `plain/3`, each upon the one before, with the restore point `second`
/// before the last; the restore points `third` and, behind a dropped table, `fourth`; a tablespace, and the backups `tar/1`,
/// `tar/2` and `tar/3` with it, which are compressed, and `mixed`, a directory upon `tar/2`; the restore points `middle` and
/// `end`.
struct Past {
    tools: Incremental,
    backups: PathBuf,
    archive: PathBuf,
    /// The server's programs and the one that combines.
    programs: String,
    tablespace: PathBuf,
    points: BTreeMap<&'static str, String>,
    digest: TreeDigest,
}

impl Past {
    /// That of a major: made once, for all tests.
    fn of(major: u16) -> Option<&'static Past> {
        static PASTS: [OnceLock<Option<Past>>; 2] = [OnceLock::new(), OnceLock::new()];
        PASTS[usize::from(major - 17)].get_or_init(|| Incremental::available(major).map(Past::make)).as_ref()
    }

    fn make(tools: Incremental) -> Past {
        let directory = Directory::lasting();
        let cluster = Cluster::create(directory, &tools.server, &Incremental::options());
        let mut points = BTreeMap::new();
        // Wide enough for a relation of which only some blocks change.
        cluster.psql("create table kept (n int); insert into kept values (1)");
        cluster.psql("create table wide as select n, repeat('x', 500) from generate_series(1, 2000) n");
        let grow =
            |n: u32| cluster.psql(&format!("insert into kept values ({n}); update wide set n = -n where n = {n}"));
        let mut point = |name| {
            cluster.restore_point(name);
            points.insert(name, rows(&cluster));
        };
        let one = tools.takes(&cluster, "plain/1", Format::Plain, None, &[]);
        grow(2);
        let two = tools.takes(&cluster, "plain/2", Format::Plain, Some(&one), &[]);
        grow(3);
        cluster.psql("create table doomed (n int)");
        point("second");
        tools.takes(&cluster, "plain/3", Format::Plain, Some(&two), &[]);
        grow(4);
        point("third");
        // Nothing goes back across this in place.
        cluster.psql("drop table doomed");
        grow(5);
        point("fourth");

        let tablespace = directory.create("fast");
        cluster.psql(&format!("create tablespace fast location '{}'", tablespace.display()));
        cluster.psql("create table far (n int) tablespace fast; insert into far values (1)");
        let grow = |n: u32| cluster.psql(&format!("insert into kept values ({n}); insert into far values ({n})"));
        let one = tools.takes(&cluster, "tar/1", Format::TarGz, None, &[]);
        grow(6);
        let two = tools.takes(&cluster, "tar/2", Format::TarGz, Some(&one), &[]);
        grow(7);
        tools.takes(&cluster, "tar/3", Format::TarGz, Some(&two), &[]);
        let mapping = format!("{}={}/backups/mixed.fast", tablespace.display(), directory.path().display());
        tools.takes(&cluster, "mixed", Format::Plain, Some(&two), &["-T".to_owned(), mapping]);
        grow(8);
        point("middle");
        grow(9);
        point("end");
        cluster.switch_and_wait_archived();
        cluster.stop(Stop::Fast);
        let programs = tools.programs(directory, "programs", true).display().to_string();
        let backups = directory.path().join("backups");
        let (archive, digest) = (cluster.archive.clone(), tree_digest(&backups));
        Past { tools, archive, programs, tablespace, points, digest, backups }
    }

    fn operator<'a>(&self, directory: &'a Directory) -> Operator<'a> {
        Operator { directory, backups: self.backups.clone(), archive: self.archive.clone() }
    }

    /// The options that name the restore point, the backup and the programs.
    fn words<'a>(&'a self, point: &'a str, backup: &'a str) -> Vec<&'a str> {
        vec!["--name", point, "--backup", backup, "--bin-dir", &self.programs]
    }

    #[track_caller]
    fn assert_untouched(&self) {
        tree_digest(&self.backups).assert_same_as(&self.digest);
    }
}

#[track_caller]
fn strings<'v>(value: &'v Value, field: &str, of: &str) -> Vec<&'v str> {
    value[field].as_array().unwrap().iter().map(|one| one[of].as_str().unwrap()).collect()
}

/// Nothing of what was unpacked to be combined is left.
#[track_caller]
fn assert_no_staging(directory: &Path) {
    for left in ["copy/.walback/chain", "copy/.walback/combined", "copy.tablespaces/.walback/combined"] {
        assert!(!directory.join(left).exists(), "{left} is left");
    }
}

/// From each form, to restore points behind their last backups; forward in place, back by unpacking all of it again.
#[track_caller]
fn chains_recover(major: u16) {
    let Some(past) = Past::of(major) else { return };
    let directory = &Directory::in_memory();
    let operator = past.operator(directory);
    let recovery = operator.recovers("copy", &past.words("fourth", "plain/3"), &past.points["fourth"]);
    assert_eq!(strings(&recovery, "phases", "step")[..3], ["unpack", "combine", "configure"]);
    assert!(recovery["phases"][1]["bytes"].as_u64().unwrap() > 20_000_000, "{recovery:#}");
    assert_eq!(sql(&recovery, "select count(*), count(*) filter (where n < 0) from wide"), "2000|4");
    assert_no_staging(directory.path());
    let back = operator.about(&["retarget", "copy", "--yes", "--name", "third"]).ended_with(0).recovery();
    assert_is(&back, "strategy", "unpack");
    assert_paused(&back, &past.points["third"]);
    assert!(strings(&back, "phases", "step").contains(&"combine"), "{back:#}");
    let on = operator.about(&["retarget", "copy", "--yes", "--name", "fourth"]).ended_with(0).recovery();
    assert_is(&on, "strategy", "in-place");
    operator.discards("copy");

    // The one in the middle is one as well, and needs less.
    let words = [past.words("second", "plain/2"), vec!["--keep-pristine=copy"]].concat();
    let second = operator.recovers("copy", &words, &past.points["second"]);
    assert_is(&second, "backup", "plain/2");
    assert_eq!(strings(&second, "phases", "step")[..3], ["unpack", "combine", "snapshot"]);
    assert!(
        directory.path().join("copy.pristine/backup_label").exists()
            && !operator.place("copy.pristine/.walback/chain").exists()
    );
    operator.discards("copy");

    let recovery = operator.recovers("copy", &past.words("middle", "tar/3"), &past.points["middle"]);
    assert_eq!(sql(&recovery, "select count(*) from far"), "4");
    let link = fs::read_dir(directory.path().join("copy/pg_tblspc")).unwrap().next().unwrap().unwrap().path();
    let place = directory.path().join("copy.tablespaces").join(link.file_name().unwrap());
    assert_eq!(fs::read_link(link).unwrap(), place);
    assert_no_staging(directory.path());
    operator.discards("copy");

    // A directory upon compressed tars; the tablespace goes where it is told to.
    let elsewhere = directory.create("elsewhere");
    let mixed = operator.listed().into_iter().find(|backup| backup["id"] == "mixed").unwrap();
    let oid = mixed["tablespaces"][0]["oid"].to_string();
    let there = format!("{oid}={}", elsewhere.display());
    let words = [past.words("middle", "mixed"), vec!["--tablespace", &there]].concat();
    let recovery = operator.recovers("copy", &words, &past.points["middle"]);
    assert_eq!(sql(&recovery, "select count(*) from far"), "4");
    assert_eq!(fs::read_link(directory.path().join("copy/pg_tblspc").join(&oid)).unwrap(), elsewhere);
    operator.discards("copy");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0, "what was taken is given back empty");
    assert_eq!(fs::read_dir(&past.tablespace).unwrap().count(), 1, "where it was, nothing is changed");
    past.assert_untouched();
}

#[test]
fn chains_of_18_are_combined_and_recovered() {
    chains_recover(18);
}

#[test]
fn chains_of_17_are_combined_and_recovered() {
    chains_recover(17);
}

/// The newest chain has a tablespace besides, whose original place is on this machine.
#[test]
fn a_drill_restores_a_chain_with_wal_that_a_command_fetches() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let scratch = directory.create("scratch");
    let configuration = format!(
        "sources:\n  shop:\n    backups: [{{path: {}}}]\n    wal: [{{command: cp {}/%f %p}}]\n    \
         checks: [{{name: far, sql: SELECT count(*) FROM far, expect: = 5}}]\n    restore: {{bin_dir: {}}}\n    \
         drill: {{scratch: {}}}\n",
        past.backups.display(),
        past.archive.display(),
        past.programs,
        scratch.display()
    );
    let file = directory.write("drills.yaml", configuration);
    let drill = ask(walback(directory).args(["--json", "--config"]).arg(file).arg("drill")).ended_with(0).json();
    let drill = &drill["drill"];
    let phases = strings(drill, "phases", "name");
    assert!(phases.contains(&"combine") && phases.contains(&"replay"), "{phases:?}");
    assert!(strings(drill, "checks", "name").contains(&"far"), "{drill:#}");
    assert_eq!(
        (&drill["matches_prediction"], &drill["removed"]),
        (&Value::Bool(true), &Value::Bool(true)),
        "{drill:#}"
    );
    assert_eq!(fs::read_dir(&scratch).unwrap().count(), 0, "the copy and its tablespaces are gone");
    assert!(!is_worked_in(&scratch));
    assert_eq!(fs::read_dir(&past.tablespace).unwrap().count(), 1, "where it was, nothing is changed");
    past.assert_untouched();
}

#[test]
fn chains_are_listed_with_what_they_build_upon() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let operator = past.operator(directory);
    let listed = operator.listed();
    let parents: BTreeMap<&str, &str> = listed
        .iter()
        .map(|backup| (backup["id"].as_str().unwrap(), backup["parent"].as_str().unwrap_or("-")))
        .collect();
    let expected = [
        ("mixed", "tar/2"),
        ("plain/1", "-"),
        ("plain/2", "plain/1"),
        ("plain/3", "plain/2"),
        ("tar/1", "-"),
        ("tar/2", "tar/1"),
        ("tar/3", "tar/2"),
    ];
    assert_eq!(parents, BTreeMap::from(expected));
    assert!(listed.iter().all(|backup| backup["problems"].as_array().unwrap().is_empty()), "{listed:#?}");
    // A table that is made between two of them: its name is among the blocks that changed.
    let suspects = ask(&mut operator.command(&["suspects"])).ended_with(0).json();
    let named =
        |suspect: &Value| suspect["relations"].as_array().unwrap().iter().any(|one| one["name"] == "public.doomed");
    assert!(suspects["suspects"].as_array().unwrap().iter().any(named), "{suspects:#}");
    let mut command = walback(directory);
    let table = ask(command.arg("--backups").arg(&operator.backups).arg("--wal").arg(&operator.archive).arg("backups"));
    assert!(table.ended_with(0).out.contains("incremental of tar/2, tar, gzip"), "{}", ask(&mut command).out);
    let plan =
        ask(operator.command(&["plan"]).args(past.words("end", "tar/3")).arg("--into").arg(operator.place("copy")));
    let plan = &plan.ended_with(0).json()["plan"];
    assert_eq!(strings(plan, "steps", "id")[..2], ["unpack", "combine"]);
    let combines = plan["steps"][1]["commands"][0].as_str().unwrap();
    assert!(combines.contains("/pg_combinebackup ") && combines.contains(".walback/chain/1 "), "{combines}");
    assert!(strings(plan, "findings", "code").contains(&"backup-combined"), "{:#}", plan["findings"]);
    let (of_chain, of_full) = (plan["estimate"]["unpack_bytes"].as_u64(), listed[0]["unpacked_bytes"].as_u64());
    assert!(of_chain > of_full.map(|bytes| 2 * bytes), "{of_chain:?} with what is unpacked beside it");
}

#[test]
fn a_chain_that_is_broken_is_said_to_be() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let copy = directory.create("backups");
    run(Command::new("cp").arg("-a").arg(past.backups.join("plain/.")).arg(&copy));
    let operator = Operator { directory, backups: copy.clone(), archive: past.archive.clone() };
    let from = |name: &str| {
        let label = fs::read_to_string(past.backups.join(name).join("backup_label")).unwrap();
        label.split_once("INCREMENTAL FROM LSN: ").unwrap().1.lines().next().unwrap().to_owned()
    };
    // One bit of the full backup, which is read where it lies.
    let table = copy.join("1/base/5/1259");
    let whole = fs::read(&table).unwrap();
    let mut flipped = whole.clone();
    flipped[100] ^= 1;
    fs::write(&table, flipped).unwrap();
    let damaged = ask(&mut operator.restore("copy", &past.words("second", "2"))).ended_with(1);
    assert_eq!(damaged.json()["error"]["code"], "backup-damaged", "{}", damaged.shown);
    assert!(!operator.place("copy").exists(), "what was unpacked is removed again");
    fs::write(&table, whole).unwrap();

    fs::rename(copy.join("2"), directory.path().join("aside")).unwrap();
    let listed = operator.listed();
    let third = listed.iter().find(|backup| backup["id"] == "3").unwrap();
    let problem = third["problems"][0].as_str().unwrap();
    assert!(problem.contains(&format!("begins at LSN {} on timeline 1", from("plain/3"))), "{problem}");
    assert!(listed.iter().find(|backup| backup["id"] == "1").unwrap()["problems"].as_array().unwrap().is_empty());
    let refused = ask(&mut operator.restore("copy", &past.words("third", "3"))).ended_with(1);
    assert_eq!(refused.json()["error"]["code"], "backup-broken", "{}", refused.shown);
    // It may lie anywhere.
    let mut elsewhere = operator.command(&["backups"]);
    elsewhere.arg("--backups").arg(directory.path().join("aside"));
    let found = ask(&mut elsewhere).ended_with(0).json();
    let third = found["backups"].as_array().unwrap().iter().find(|backup| backup["id"] == "3").unwrap();
    assert_eq!((&third["parent"], &third["problems"]), (&Value::from("aside"), &Value::Array(Vec::new())));
}

#[test]
fn without_the_program_that_combines_nothing_is_begun() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let operator = past.operator(directory);
    let refused = |programs: &Path, why: &str| {
        let programs = programs.display().to_string();
        let words = ["--name", "end", "--backup", "tar/3", "--bin-dir", &programs];
        let refused = ask(&mut operator.restore("copy", &words)).ended_with(3);
        assert!(refused.shown.contains(why), "{}", refused.shown);
        assert!(!operator.place("copy").exists());
        let plan = ask(operator.command(&["plan"]).args(words).arg("--into").arg(operator.place("copy"))).ended_with(3);
        assert!(strings(&plan.json()["plan"], "findings", "code").contains(&"no-combinebackup"), "{}", plan.shown);
    };
    let bin = past.tools.programs(directory, "bin", false);
    if !past.tools.is_installed() {
        refused(&bin, "pg_combinebackup, and it is not there");
    }
    let older = directory.write("bin/pg_combinebackup", "#!/bin/sh\necho 'pg_combinebackup (PostgreSQL) 17.2'\n");
    fs::set_permissions(older, fs::Permissions::from_mode(0o755)).unwrap();
    refused(&bin, "and it is pg_combinebackup (PostgreSQL) 17.2");
    // A full backup needs none.
    let words = ["--name", "end", "--backup", "tar/1", "--bin-dir", bin.to_str().unwrap()];
    operator.recovers("copy", &words, &past.points["end"]);
    operator.discards("copy");
}

/// How many programs combine backups for a recovery in this directory.
fn combining(directory: &Path) -> usize {
    let output = format!("--output={}/copy/.walback/combined", directory.display());
    let is_one = |process: &fs::DirEntry| {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        line.split(|byte| *byte == 0).any(|word| word == output.as_bytes())
    };
    fs::read_dir("/proc").unwrap().flatten().filter(is_one).count()
}

/// Killed at some moments of unpacking and combining, and while the program works that combines; and at some it fails.
#[test]
fn killed_while_combining_it_comes_to_the_right_end() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let operator = past.operator(directory);
    let journal = operator.journal("copy");
    let forget = || fs::remove_dir_all(journal.parent().unwrap()).unwrap();
    // The journal's lines: planned, state, unpack, its directory, that for tablespaces, five further ones and the end of
    // unpacking; then combine.
    let moments = [(7, 900), (11, 0), (12, 1), (12, 30), (12, 60), (12, 100)].map(|(line, act)| Moment { line, act });
    let mut reached = Vec::new();
    for moment in moments {
        let restore = operator.restore("copy", &past.words("middle", "mixed"));
        let killed = run_and_kill(&restore, &journal, moment, &directory.path().join("said"));
        let (at, act) = killed.killed.unwrap_or_else(|| panic!("it was not killed: {}", killed.said));
        let text = fs::read_to_string(&journal).unwrap();
        let said = text.lines().last().unwrap_or_default().to_owned();
        eprintln!("killed at {at:?}, about to {act}, after {}", &said[..said.len().min(160)]);
        reached.push(said.contains("\"step\":\"combine\""));
        let recovery = operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_paused(&recovery, &past.points["middle"]);
        assert_eq!(sql(&recovery, "select count(*) from far"), "4");
        assert_no_staging(directory.path());
        operator.discards("copy");
        forget();
    }
    assert!(reached.iter().filter(|combining| **combining).count() > 2, "it was killed too early: {reached:?}");

    // The program itself outlives whoever started it: it is ended before its work is done again.
    let bin = past.tools.programs(directory, "bin", false);
    let (slow, gate) = (directory.path().join("bin/pg_combinebackup"), directory.write("gate", ""));
    let script = format!(
        "#!/bin/sh\ncase $1 in --version) exec {0} --version;; esac\nwhile [ -e {1} ]; do : >{1}.reached; sleep 0.02; done\necho 'pg_combinebackup: warning: odd' >&2\nexec {0} \"$@\"\n",
        past.tools.combines().display(),
        gate.display()
    );
    directory.write("bin/pg_combinebackup", script);
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    let words = ["--name", "middle", "--backup", "tar/3", "--bin-dir", bin.to_str().unwrap()];
    let reached = gate.with_extension("reached");
    let begin = || {
        let mut restore = operator.restore("copy", &words);
        let walback = restore.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_until("the program that combines", LIMIT, || reached.exists().then_some(()));
        walback
    };
    let mut walback = begin();
    walback.kill().unwrap();
    walback.wait().unwrap();
    assert_eq!(combining(directory.path()), 1, "it goes on by itself");
    operator.discards("copy");
    assert_eq!(combining(directory.path()), 0);
    forget();
    fs::remove_file(&reached).unwrap();
    let mut walback = begin();
    walback.kill().unwrap();
    walback.wait().unwrap();
    fs::remove_file(&gate).unwrap();
    assert_paused(&operator.about(&["resume", "copy"]).ended_with(0).recovery(), &past.points["middle"]);
    let said = fs::read_to_string(&journal).unwrap();
    assert!(said.contains(r#""combine-warned""#) && said.contains("warning: odd"), "{said}");
    operator.discards("copy");
    forget();

    // Cancelled, it leaves nothing; what fails says what the program said.
    fs::write(&gate, "").unwrap();
    fs::remove_file(&reached).unwrap();
    let mut walback = begin();
    run(Command::new("kill").args(["-INT", &walback.id().to_string()]));
    assert_eq!(walback.wait().unwrap().code(), Some(130));
    assert!(!operator.place("copy").exists() && !directory.path().join("copy.tablespaces").exists());
    fs::write(&slow, "#!/bin/sh\ncase $1 in --version) echo 'pg_combinebackup (PostgreSQL) 18.4';; *) echo 'pg_combinebackup: error: no way' >&2; exit 1;; esac\n").unwrap();
    let failed = ask(&mut operator.restore("other", &words)).ended_with(1);
    assert_eq!(failed.json()["error"]["code"], "combine-failed", "{}", failed.shown);
    assert!(failed.err.contains("pg_combinebackup: error: no way"), "{}", failed.shown);
    assert!(!operator.place("other").exists());
    wait_until("end of every process", LIMIT, || (!is_worked_in(directory.path())).then_some(()));
    past.assert_untouched();
}

#[test]
fn the_runbook_combines_them_by_hand() {
    let Some(past) = Past::of(18) else { return };
    let directory = &Directory::in_memory();
    let operator = past.operator(directory);
    let here = directory.create("here");
    let (into, script) = (here.join("by hand"), here.join("runbook.sh"));
    for backup in ["mixed", "tar/3"] {
        let mut plan = operator.command(&["plan", "--yes"]);
        plan.args(past.words("middle", backup)).arg("--into").arg(&into).arg("--script").arg(&script);
        let plan = ask(&mut plan).ended_with(0).json()["plan"].clone();
        if let Ok(checked) = Command::new("shellcheck").arg(&script).output() {
            assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        }
        let output = Command::new("sh").arg(&script).stdin(Stdio::null()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.contains("as predicted"), "{said}");
        let connection = format!(
            "host='{}' port={} user=postgres dbname=postgres",
            plan["server"]["socket_directory"].as_str().unwrap(),
            plan["server"]["port"]
        );
        let recovery = serde_json::json!({ "connection": connection });
        assert_eq!(sql(&recovery, support::ROWS), past.points["middle"]);
        assert_eq!(sql(&recovery, "select count(*) from far"), "4");
        assert!(!into.join(".walback/chain").exists() && !into.join("tablespace_map").exists());
        let mut stop = as_server(past.tools.server.bin_dir.join("pg_ctl"));
        run(stop.arg("-D").arg(&into).args(["-m", "immediate", "-w", "stop"]));
        fs::remove_dir_all(&into).unwrap();
        fs::remove_dir_all(here.join("by hand.tablespaces")).unwrap();
    }
    past.assert_untouched();
}
