//! Walback killed with SIGKILL at random moments of everything it does, and what `walback resume` makes of it.
//!
//! `WALBACK_KILLS` is how often it is killed (7 by default), `WALBACK_SEED` chooses the moments and the major that is begun
//! with: each recovery is of the next one. `WALBACK_MAJOR` has all be of one. Each run prints its seed and a table of what
//! was hit.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use support::{
    Cluster, Directory, Format, History, LIMIT, Moment, Operator, Options, ROWS, Random, Server, Stop, Traced,
    assert_is, assert_paused, auto_conf_names, is_worked_in, run, run_and_kill, sql, wait_until, walback,
};

/// The majors that it is killed with, as far as they are there.
const MAJORS: [u16; 4] = [13, 15, 17, 18];

fn number(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().map_or(otherwise, |value| value.parse().unwrap())
}

/// Somebody who is killed all the time.
struct Unlucky<'a> {
    operator: Operator<'a>,
    history: &'a History,
    /// Where its server's programs are.
    bin_dir: String,
    random: Random,
    kills: u64,
    /// How often it was killed where, in the words of the journal.
    hits: BTreeMap<String, u64>,
}

/// What the journal said last when it was killed.
fn last_words(journal: &Path) -> String {
    let text = fs::read_to_string(journal).unwrap_or_default();
    let Some(last) = text.lines().last() else { return "before its first line".to_owned() };
    let Ok(last) = serde_json::from_str::<Value>(last) else { return "half a line".to_owned() };
    let word = |field: &str| last[field].as_str().map(|word| format!(" {word}")).unwrap_or_default();
    format!("{}{}{}", last["event"].as_str().unwrap(), word("step"), word("state"))
}

impl<'a> Unlucky<'a> {
    fn rows_at(&self, restore_point: &str) -> &'a str {
        &self.history.restore_points[restore_point]
    }

    fn copy(&self) -> PathBuf {
        self.operator.place("copy")
    }

    /// One of the moments of a command that journals about so many lines: at each of them as likely, right behind it, a
    /// few acts later, or far into what follows; and in one of three cases where a restore takes its directory and
    /// unpacks, which is most of its acts and few of its lines.
    fn moment(&mut self, what: &str, lines: usize) -> Moment {
        let act = match self.random.below(3) {
            // The first act behind a line is that it is synced.
            0 => 1,
            1 => 1 + self.random.below(12),
            _ => self.random.below(2500),
        };
        let unpacks = what == "restore" && self.random.chance(33);
        Moment { line: if unpacks { 4 } else { self.random.below(lines) }, act }
    }

    fn kill(&mut self, command: &Command, what: &str, lines: usize) -> Traced {
        let journal = self.operator.journal("copy");
        let moment = self.moment(what, lines);
        let output = self.operator.directory.path().join("said");
        let traced = run_and_kill(command, &journal, moment, &output);
        if let Some((at, act)) = &traced.killed {
            eprintln!("  {what}: killed at {at:?}, about to {act}, after “{}”", last_words(&journal));
            self.kills += 1;
            *self.hits.entry(format!("{what}: after “{}”, about to {act}", last_words(&journal))).or_default() += 1;
        }
        traced
    }

    /// Goes on; now and then that is killed too.
    #[track_caller]
    fn resumes(&mut self) -> Value {
        if self.random.chance(25) {
            let mut resume = walback(self.operator.directory);
            self.kill(resume.args(["--json", "resume", "copy"]), "resume", 16);
        }
        let answer = self.operator.about(&["resume", "copy"]).ended_with(0);
        answer.recovery()
    }

    /// Whether the journal knows of anything; then there is a recovery, and else there must be nothing.
    fn has_begun(&self) -> bool {
        let journal = fs::read_to_string(self.operator.journal("copy")).unwrap_or_default();
        let begun = journal.contains('\n');
        assert!(begun || !self.copy().exists(), "a directory that no journal tells of");
        begun
    }

    fn restores(&mut self) {
        let bin_dir = self.bin_dir.clone();
        let words = ["--name", "first", "--timeline", "1", "--bin-dir", &bin_dir];
        let restore = self.operator.restore("copy", &words);
        self.kill(&restore, "restore", 17);
        if self.has_begun() {
            assert_paused(&self.resumes(), self.rows_at("first"));
        } else {
            self.operator.recovers("copy", &words, self.rows_at("first"));
        }
    }

    /// From where it is paused to another restore point; killed before that was journalled, it stays where it was.
    fn retargets(&mut self, from: &str, to: &str, lines: usize) {
        let mut retarget = walback(self.operator.directory);
        retarget.args(["--json", "retarget", "copy", "--name", to, "--timeline", "1", "--yes"]);
        let before = fs::read_to_string(self.operator.journal("copy")).unwrap().matches("\"planned\"").count();
        self.kill(&retarget, &format!("retarget to {to}"), lines);
        let now = fs::read_to_string(self.operator.journal("copy")).unwrap().matches("\"planned\"").count();
        let recovery = self.resumes();
        if now > before {
            assert_is(&recovery, "stopped/name", to);
            assert_paused(&recovery, self.rows_at(to));
        } else {
            assert_paused(&recovery, self.rows_at(from));
            let on = ["retarget", "copy", "--name", to, "--timeline", "1", "--yes"];
            assert_paused(&self.operator.about(&on).ended_with(0).recovery(), self.rows_at(to));
        }
    }

    fn promotes(&mut self, rows: &str) {
        let mut promote = walback(self.operator.directory);
        self.kill(promote.args(["--json", "promote", "copy", "--yes"]), "promote", 6);
        let mut recovery = self.resumes();
        if recovery["state"] == "paused" {
            assert_paused(&recovery, rows);
            recovery = self.operator.about(&["promote", "copy", "--yes"]).ended_with(0).recovery();
        }
        assert_is(&recovery, "state", "promoted");
        assert_is(&recovery, "timeline", 3);
        assert_eq!(sql(&recovery, ROWS), rows);
        assert!(!self.copy().join("recovery.signal").exists());
        let left = auto_conf_names(&self.copy());
        assert!(!left.iter().any(|name| name.starts_with("recovery_") || name == "restore_command"), "{left:?}");
        sql(&recovery, "insert into kept values (77)");
        assert_eq!(sql(&recovery, ROWS), format!("{rows},77"));
    }

    fn stops(&mut self) {
        let mut stop = walback(self.operator.directory);
        self.kill(stop.args(["--json", "stop", "copy"]), "stop", 4);
        self.resumes();
        let stopped = self.operator.about(&["stop", "copy"]).ended_with(0).recovery();
        assert_is(&stopped, "state", "shut-down");
        // What it took since is not lost by being resumed.
        let again = self.operator.about(&["resume", "copy"]).ended_with(0).recovery();
        assert_is(&again, "state", "shut-down");
        assert!(self.copy().join("PG_VERSION").exists());
    }

    fn discards(&mut self) {
        let mut discard = walback(self.operator.directory);
        self.kill(discard.args(["--json", "discard", "copy", "--yes"]), "discard", 6);
        let mut recovery = self.resumes();
        if recovery["state"] != "discarded" {
            recovery = self.operator.about(&["discard", "copy", "--yes"]).ended_with(0).recovery();
        }
        assert_is(&recovery, "state", "discarded");
        assert!(!self.copy().exists(), "something is left");
    }

    /// Nothing is left but what belongs to the test and to the operator.
    fn leaves_nothing(&self) {
        let directory = self.operator.directory.path();
        wait_until("end of every process", LIMIT, || (!is_worked_in(directory)).then_some(()));
        let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
        let mut left: Vec<String> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
        left.retain(|name| !["home", "said", "walback"].contains(&name.as_str()));
        assert_eq!(left, [""; 0]);
    }
}

#[test]
fn killed_at_any_moment_it_comes_to_the_right_end() {
    let seed = number("WALBACK_SEED", u64::from(std::process::id()));
    let wanted = number("WALBACK_KILLS", 7);
    eprintln!("WALBACK_SEED={seed} WALBACK_KILLS={wanted}");
    let only = number("WALBACK_MAJOR", 0);
    let majors = MAJORS.into_iter().filter(|major| only == 0 || u64::from(*major) == only);
    let servers: Vec<Server> = majors.filter_map(Server::available).collect();
    assert!(!servers.is_empty(), "there is no server of major {only}");
    let mut histories: BTreeMap<u16, History> = BTreeMap::new();
    let mut hits: BTreeMap<String, u64> = BTreeMap::new();
    let (mut kills, mut chain) = (0, 0);
    while kills < wanted {
        let directory = Directory::in_memory();
        let backup = ["tar-stream", "plain-none", "gz"][chain % 3];
        let server = &servers[(usize::try_from(seed % 1000).unwrap() + chain) % servers.len()];
        let history = &*histories.entry(server.major).or_insert_with(|| History::of(server));
        let mut unlucky = Unlucky {
            operator: Operator::of(&directory, history, backup),
            history,
            bin_dir: server.bin_dir.display().to_string(),
            random: Random::new(seed, chain as u64),
            kills: 0,
            hits: BTreeMap::new(),
        };
        let major = server.major;
        eprintln!("chain {chain}, of {major}, from {backup}");
        unlucky.restores();
        unlucky.retargets("first", "trunk", 15);
        unlucky.retargets("trunk", "first", 19);
        if unlucky.random.chance(50) {
            let rows = unlucky.rows_at("first");
            unlucky.promotes(rows);
            unlucky.stops();
        }
        unlucky.discards();
        unlucky.leaves_nothing();
        kills += unlucky.kills;
        for (what, number) in unlucky.hits {
            *hits.entry(what).or_default() += number;
        }
        chain += 1;
    }
    for (what, number) in &hits {
        eprintln!("{number:>4}  {what}");
    }
    eprintln!("{kills} kills, {} different states", hits.len());
    histories.values().for_each(History::assert_untouched);
}

/// A directory for tablespaces, or for a kept copy, that was just made and does not carry its mark yet: the journal knows of
/// it. One that was there and empty stays.
#[test]
fn a_further_directory_that_was_just_made_is_accounted_for() {
    let directory = Directory::in_memory();
    let cluster = Cluster::create(&directory, &Server::v15(), &Options { segment_mib: 1, ..Options::default() });
    let fast = directory.create("fast");
    run(Command::new("chown").arg("--reference").arg(&cluster.data).arg(&fast));
    cluster.psql("create table kept (n int); insert into kept values (1)");
    cluster.base_backup(Format::Tar, "without");
    cluster.psql(&format!("create tablespace fast location '{}'", fast.display()));
    cluster.psql("alter table kept set tablespace fast");
    cluster.base_backup(Format::Tar, "with");
    cluster.restore_point("first");
    cluster.switch_and_wait_archived();
    cluster.stop(Stop::Fast);
    let operator = |backup: &str| Operator::of_cluster(&directory, &cluster, backup);
    let elsewhere = directory.path().join("elsewhere");
    let elsewhere_for_fast = format!("{}={}", fast.display(), elsewhere.display());
    let cases: [(&str, &[&str], &Path); 3] = [
        ("with", &[], &directory.path().join("copy.tablespaces")),
        ("with", &["--tablespace", &elsewhere_for_fast], &elsewhere),
        ("without", &["--immediate", "--keep-pristine=copy"], &directory.path().join("copy.pristine")),
    ];
    let mut unmarked = 0;
    for (backup, words, further) in cases {
        let operator = operator(backup);
        let words =
            if words.contains(&"--immediate") { words.to_vec() } else { [&["--name", "first"], words].concat() };
        for act in [0, 1, 2, 3, 5, 7] {
            // Somebody made it before, and it is empty: it is taken, and given back.
            let was_there = further == elsewhere && act % 2 == 1;
            if was_there {
                fs::create_dir(further).unwrap();
            }
            let restore = operator.restore("copy", &words);
            let killed = run_and_kill(
                &restore,
                &operator.journal("copy"),
                Moment { line: 5, act },
                &directory.path().join("said"),
            );
            assert!(killed.killed.is_some(), "{}", killed.said);
            unmarked += u64::from(further.exists() && !further.join(".walback/recovery.json").exists());
            if act == 1 || act == 2 {
                assert_paused(&operator.about(&["resume", "copy"]).ended_with(0).recovery(), "1");
            }
            operator.discards("copy");
            assert_eq!(further.exists(), was_there, "{} after {:?}", further.display(), killed.killed);
            if was_there {
                assert_eq!(fs::read_dir(further).unwrap().count(), 0, "what was taken is given back empty");
                fs::remove_dir(further).unwrap();
            }
            fs::remove_dir_all(operator.journal("copy").parent().unwrap()).unwrap();
        }
    }
    assert!(unmarked > 3, "it was killed too late: {unmarked}");
}
