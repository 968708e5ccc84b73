//! One recovery that is sent from target to target, forward and back: each time PostgreSQL has to stop exactly where it
//! was predicted to, with the very data that a recovery straight to that place has.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Instant;

use serde_json::Value;
use walback::core::Action;

use crate::compare::{Judge, Verdict, compare, words};
use crate::past::Past;
use crate::recovery::{End, Settings, contents, read};
use crate::support::Random;
use crate::support::{Answer, Server, ask, connection_to, walback};
use crate::targets::{Aim, Ground};
use crate::{kept, number, say, seed};

/// So many targets are tried for each step, some of which cannot be reached.
const TRIES: usize = 40;

struct Walk<'a> {
    past: &'a Past,
    ground: &'a Ground,
    judge: Judge<'a>,
    random: Random,
    counts: BTreeMap<String, usize>,
    differences: Vec<String>,
    /// What was asked for, one after the other.
    steps: Vec<String>,
}

impl Walk<'_> {
    fn count(&mut self, what: &str) {
        *self.counts.entry(what.to_owned()).or_default() += 1;
    }

    fn copy(&self) -> PathBuf {
        self.past.directory.path().join("copy")
    }

    fn about(&self, words: &[&str]) -> Answer {
        ask(walback(&self.past.directory).arg("--json").args(words))
    }

    fn aim(&mut self) -> Aim {
        let aim = self.ground.aim(&mut self.random);
        let target = walback::core::Target { action: Action::Pause, ..aim.target };
        Aim { target, ..aim }
    }

    /// Recovers to the first target that can be reached.
    fn begin(&mut self) -> bool {
        for _ in 0..TRIES {
            let aim = self.aim();
            let mut restore = walback(&self.past.directory);
            self.judge.source(&mut restore).args(["restore", "--yes"]).args(words(&aim)).arg("--into").arg(self.copy());
            self.judge.server_options(&mut restore);
            let answer = ask(&mut restore);
            match answer.status {
                0 => {
                    self.steps.push(words(&aim).join(" "));
                    self.check(&answer.recovery());
                    return true;
                }
                // It is refused before anything is made.
                4 => {}
                _ => {
                    self.differs(&answer.shown);
                    return true;
                }
            }
        }
        false
    }

    /// Goes to another target; false where that cannot be reached.
    fn step(&mut self) -> bool {
        let words = match self.random.below(10) {
            0..2 => vec!["--next".to_owned()],
            2..5 => vec!["--previous".to_owned()],
            _ => {
                let aim = self.aim();
                let mut words = aim.target.to_options();
                // Mostly it stays on its timeline.
                if self.random.chance(70)
                    && let Some(at) = words.iter().position(|word| word == "--timeline")
                {
                    words.drain(at..at + 2);
                }
                words
            }
        };
        self.go(&words)
    }

    /// Goes to the target that `words` name; false where that is refused.
    fn go(&mut self, words: &[String]) -> bool {
        self.steps.push(words.join(" "));
        let mut retarget: Vec<&str> = vec!["retarget", "copy", "--yes"];
        retarget.extend(words.iter().map(String::as_str));
        let before = self.about(&["status", "copy"]).recovery();
        let planned = ask(walback(&self.past.directory).args(["--json", "retarget", "copy", "--dry-run"]).args(words));
        let answer = self.about(&retarget);
        match answer.status {
            0 => {
                let recovery = answer.recovery();
                let strategy = recovery["strategy"].as_str().unwrap_or("none").to_owned();
                let replayed = |recovery: &Value| recovery["resolved"]["replay_end"].as_str().unwrap().parse().unwrap();
                let (was, is): (walback::core::Lsn, walback::core::Lsn) = (replayed(&before), replayed(&recovery));
                let way = if is < was { "back" } else { "on" };
                self.count(&format!("{way} {strategy}"));
                if recovery["state"] != "paused" {
                    self.count("(not paused)");
                }
                let announced = planned.json()["approach"]["strategy"].as_str().unwrap_or("none").to_owned();
                if announced != strategy {
                    self.count("(fell back)");
                }
                self.check(&recovery);
                true
            }
            4 => {
                self.count("refused");
                let after = self.about(&["status", "copy"]).recovery();
                if after["resolved"] != before["resolved"] || after["state"] != before["state"] {
                    self.differs(&answer.shown);
                }
                false
            }
            _ => {
                self.differs(&answer.shown);
                true
            }
        }
    }

    fn differs(&mut self, what: &str) {
        let steps = self.steps.join("\n  ");
        self.differences.push(format!("{what}\nafter the steps\n  {steps}\nthe past: {}", self.past.story.join("; ")));
    }

    /// The settings with which the server runs that is there now.
    fn settings(&self) -> Settings {
        let journal = self.past.directory.path().join("home/state/recoveries/copy/journal.jsonl");
        let journal = fs::read_to_string(journal).unwrap();
        let planned = journal.lines().rfind(|line| line.contains("\"event\":\"planned\"")).unwrap();
        let planned: Value = serde_json::from_str(planned).unwrap();
        let settings = planned["plan"]["settings"].as_object().unwrap().clone();
        settings.into_iter().map(|(name, value)| (name, value.as_str().unwrap().to_owned())).collect()
    }

    /// Holds what happened against what was predicted, and the data against that of a recovery straight to there.
    fn check(&mut self, recovery: &Value) {
        let mut verdict = Verdict::default();
        verdict.same("matches_prediction", &Value::Bool(true), &recovery["matches_prediction"]);
        let log = fs::read(self.copy().join(".walback/server.log")).unwrap();
        let log = String::from_utf8_lossy(&log).into_owned();
        let start = log.rfind("starting PostgreSQL").unwrap_or(0);
        let happened = read(log[start..].to_owned(), recovery["state"] == "shut-down");
        let settings = self.settings();
        let resolved = &recovery["resolved"];
        // A server that goes on says where it is consistent now, which is further on.
        let mut told = happened;
        told.consistent = resolved["consistent_at"].as_str().and_then(|lsn| lsn.parse().ok());
        compare(resolved, &settings, &told, &mut verdict);
        let id = recovery["backup"].as_str().unwrap().to_owned();
        let straight = self.judge.bench(&id).recover_and_tell(&settings, None);
        if recovery["state"] == "paused" && straight.end == End::Paused {
            let connection = connection_to(recovery, "postgres");
            verdict.same("the data", straight.contents.unwrap_or_default(), contents(&connection, ""));
        }
        if !verdict.differences.is_empty() {
            let text = format!("{verdict}\n{recovery:#}\n--- log\n{}", told.log);
            self.differs(&text);
        }
    }

    /// At the end it is promoted: only then it shows what was prepared.
    fn promote(&mut self) {
        let state = self.about(&["status", "copy"]).recovery();
        if state["state"] != "paused" {
            return;
        }
        let mut settings = self.settings();
        for (name, value) in &mut settings {
            if name == "recovery_target_action" {
                *value = "promote".to_owned();
            }
        }
        let id = state["backup"].as_str().unwrap().to_owned();
        let straight = self.judge.bench(&id).recover_and_tell(&settings, None);
        let promoted = self.about(&["promote", "copy", "--yes"]);
        if promoted.status != 0 {
            return self.differs(&promoted.shown);
        }
        let recovery = promoted.recovery();
        let mut verdict = Verdict::default();
        let connection = connection_to(&recovery, "postgres");
        // Where a base backup brings along the state of a transaction that is prepared behind its start, PostgreSQL forgets the
        // transaction when it replays that (`PrepareRedoAdd`, `twophase.c`; seen with 17.10: it failed to remove the file, by a
        // wrong name). Behind a restartpoint it is in the file, and known again.
        let is_forgotten = straight.log.contains("could not recover two-phase state file");
        let expected = straight.contents.unwrap_or_default();
        let known =
            |line: &&str| !(is_forgotten && line.starts_with("prepared|")) || expected.lines().any(|own| own == *line);
        let promoted = contents(&connection, "").lines().filter(known).collect::<Vec<_>>().join("\n");
        verdict.same("the end", End::Promoted, straight.end);
        verdict.same("what was promoted", expected.trim_end(), promoted.as_str());
        self.about(&["stop", "copy"]);
        if !verdict.differences.is_empty() {
            self.differs(&verdict.to_string());
        }
    }
}

#[track_caller]
fn retarget(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let (seed, times) = (seed(major), number("WALBACK_RETARGETS", 6));
    say(&format!("retargets against PostgreSQL {major}: WALBACK_SEED={seed} WALBACK_RETARGETS={times}"));
    let start = Instant::now();
    let past = Past::make(&server, Random::new(seed, 100));
    let (counts, differences) = {
        let ground = Ground::survey(&past);
        let mut walk = Walk {
            past: &past,
            ground: &ground,
            judge: Judge::new(&past, &ground),
            random: Random::new(seed, 101),
            counts: BTreeMap::new(),
            differences: Vec::new(),
            steps: Vec::new(),
        };
        assert!(walk.begin(), "WALBACK_SEED={seed}: no target of {TRIES} could be reached");
        let begun = walk.differences.is_empty();
        for _ in (0..times).filter(|_| begun) {
            // Behind the last backup there may be next to nothing, but the end of the backup itself.
            if !(0..TRIES).any(|_| walk.step()) && !walk.go(&["--immediate".to_owned()]) {
                walk.differs("nothing else could be reached, not even the end of the backup");
                break;
            }
        }
        if begun {
            walk.promote();
        }
        (walk.counts, walk.differences)
    };
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    say(&format!(
        "retargets against PostgreSQL {major}: {} mismatches in {:.1} s, WALBACK_SEED={seed}; {}",
        differences.len(),
        start.elapsed().as_secs_f64(),
        counts.join(", ")
    ));
    if !differences.is_empty() {
        say(&kept(past));
    }
    assert!(differences.is_empty(), "WALBACK_SEED={seed}\n{}", differences.join("\n\n"));
}

#[test]
fn retargets_stop_where_predicted_on_13() {
    retarget(13);
}

#[test]
fn retargets_stop_where_predicted_on_15() {
    retarget(15);
}

#[test]
fn retargets_stop_where_predicted_on_17() {
    retarget(17);
}

#[test]
fn retargets_stop_where_predicted_on_18() {
    retarget(18);
}
