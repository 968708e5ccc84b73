//! Holds every prediction of Walback against PostgreSQL itself: on random pasts of real clusters, for random targets of
//! every kind, the server has to stop where Walback says that it will, and to fail where Walback refuses.
//!
//! Each run has another seed, which it prints. `WALBACK_SEED=N` repeats one: the same statements in the same order,
//! though the server's own timing differs. `WALBACK_TARGETS=N` and `WALBACK_HISTORIES=N` make long runs: so many targets
//! on each of so many pasts of each major. `WALBACK_RETARGETS=N` sends one recovery to so many targets, one after the
//! other. `WALBACK_KEEP=1` leaves the pasts of failed runs where they are.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../support/mod.rs"]
mod support;

mod compare;
mod past;
mod recovery;
mod retarget;
mod targets;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use compare::Judge;
use past::Past;
use support::{Random, Server};
use targets::Ground;

/// A number from the environment.
fn number(name: &str, otherwise: u64) -> u64 {
    let given = std::env::var(name).ok();
    given.map_or(otherwise, |text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

/// The seed of a run: given, or another one each time.
fn seed(major: u16) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    number("WALBACK_SEED", now.as_nanos() as u64 % 1_000_000_000 + u64::from(major))
}

/// A line on standard error, past what `cargo test` keeps of a test that passes.
fn say(line: &str) {
    // One write, so that lines of other tests do not mix with it.
    let _ = std::io::stderr().write_all(format!("{line}\n").as_bytes());
}

#[track_caller]
fn hold_against(major: u16) {
    let Some(server) = Server::available(major) else { return };
    let seed = seed(major);
    let (targets, pasts) = (number("WALBACK_TARGETS", 22), number("WALBACK_HISTORIES", 1));
    say(&format!(
        "predictions against PostgreSQL {major}: WALBACK_SEED={seed} WALBACK_TARGETS={targets} WALBACK_HISTORIES={pasts}"
    ));
    let start = Instant::now();
    let (mut mismatches, mut counts) = (Vec::new(), BTreeMap::new());
    for part in 0..pasts {
        let past = Past::make(&server, Random::new(seed, part * 2));
        let found = on(&past, &mut Random::new(seed, part * 2 + 1), targets, &mut counts);
        if found.is_empty() {
            continue;
        }
        let where_it_is = kept(past);
        for mismatch in &found {
            say(&format!(
                "\nMISMATCH of PostgreSQL {major}, WALBACK_SEED={seed}, past {part}{where_it_is}\n{mismatch}"
            ));
        }
        mismatches.extend(found);
    }
    let counts: Vec<String> = counts.iter().map(|(what, count)| format!("{what} {count}")).collect();
    say(&format!(
        "predictions against PostgreSQL {major}: {} mismatches in {:.1} s, WALBACK_SEED={seed}; {}",
        mismatches.len(),
        start.elapsed().as_secs_f64(),
        counts.join(", ")
    ));
    assert!(mismatches.is_empty(), "WALBACK_SEED={seed}\n{}", mismatches.join("\n\n"));
}

/// Where a past is left, if it shall be.
fn kept(past: Past) -> String {
    if std::env::var_os("WALBACK_KEEP").is_none() {
        return String::new();
    }
    let path: PathBuf = past.directory.path().to_owned();
    // What is not dropped is not removed. Its servers are stopped.
    std::mem::forget(past);
    format!(", kept in {}", path.display())
}

/// Gives the mismatches on one past.
#[track_caller]
fn on(past: &Past, random: &mut Random, targets: u64, counts: &mut BTreeMap<String, usize>) -> Vec<String> {
    let ground = Ground::survey(past);
    let mut count = |what: &str, by: usize| *counts.entry(what.to_owned()).or_default() += by;
    count("(same times)", ground.ties);
    count("(times out of order)", ground.disorder);
    count("(timelines)", ground.catalog.timelines.len());
    count("(backups)", ground.catalog.backups.len());
    let mut judge = Judge::new(past, &ground);
    let mut mismatches = Vec::new();
    for number in 0..targets {
        let aim = ground.aim(random);
        let verdict = judge.judge(&aim, number % 11 == 10);
        for what in &verdict.counts {
            count(what, 1);
        }
        if !verdict.differences.is_empty() {
            mismatches.push(format!("{verdict}\nthe past: {}", past.story.join("; ")));
        }
    }
    mismatches
}

#[test]
fn predictions_hold_on_13() {
    hold_against(13);
}

#[test]
fn predictions_hold_on_15() {
    hold_against(15);
}

#[test]
fn predictions_hold_on_17() {
    hold_against(17);
}

#[test]
fn predictions_hold_on_18() {
    hold_against(18);
}
