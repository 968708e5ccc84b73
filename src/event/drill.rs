//! A drill's report, as data: what was restored, what was checked with which result, how long it took.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::core::progress::Seconds;
use crate::core::time::Timestamp;
use crate::core::{Lsn, PgMajor, Target, TimelineId, Xid};
use crate::error::ErrorKind;
use crate::plan::Finding;

use super::types::Failure;

/// The form of a report that this program writes.
pub const FORMAT: u32 = 1;
/// What a drill does first, in words.
pub const PLANNING: &str = "planning";

/// The names of what is made of a drill's report, in its directory.
pub mod document {
    /// The report itself.
    pub const JSON: &str = "report.json";
    /// A page of it, with pictures.
    pub const HTML: &str = "report.html";
    /// The same without pictures.
    pub const MARKDOWN: &str = "report.md";
}

/// So much of a value that is not as expected is said in words.
const SHOWN: usize = 200;

/// How a drill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DrillResult {
    /// The backup restores, everything was as expected, and within its limits.
    Passed,
    /// Something was not.
    Failed,
    /// It was given up, or killed: it proves nothing.
    Interrupted,
}

impl DrillResult {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }

    /// The process's exit status for it (`docs/cli.md`).
    #[must_use]
    pub fn exit_status(self) -> u8 {
        match self {
            Self::Passed => 0,
            Self::Failed => ErrorKind::Problems.exit_status(),
            Self::Interrupted => ErrorKind::Interrupted.exit_status(),
        }
    }
}

impl fmt::Display for DrillResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// Who made a drill, and with what.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct By {
    /// The user of the operating system.
    pub user: String,
    /// The machine.
    pub host: String,
    /// Walback's version.
    pub walback: String,
    /// The version of the PostgreSQL server that recovered; `None` where it did not come to one.
    pub postgresql: Option<String>,
}

/// What was drilled.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Drilled {
    /// The source's name.
    pub name: String,
    /// Where base backups were looked for.
    pub backups: Vec<PathBuf>,
    /// Where WAL was.
    pub wal: Vec<PathBuf>,
    /// The cluster's identifier, as text: it is no number that JSON keeps.
    pub system_identifier: Option<String>,
}

/// The base backup that was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrilledBackup {
    /// Its name.
    pub id: String,
    /// Where it lies.
    pub location: PathBuf,
    /// PostgreSQL's major version.
    pub pg_version: PgMajor,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// Bytes of its files.
    pub size_bytes: u64,
    /// Bytes that they take when unpacked.
    pub unpacked_bytes: Option<u64>,
}

/// Where recovery stopped, or was to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DrilledStop {
    /// On which timeline.
    pub timeline: Option<TimelineId>,
    /// The end of the last record replayed.
    pub replay_end: Option<Lsn>,
    /// The transaction at the stop.
    pub xid: Option<Xid>,
    /// The time in its record.
    pub at: Option<Timestamp>,
    /// The restore point's name.
    pub name: Option<String>,
}

/// A part of a drill that is done.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillPhase {
    /// Which: `plan`, a step of the recovery, `checks`, `verify`, `teardown`.
    pub name: String,
    /// How long it took.
    pub seconds: f64,
    /// Bytes unpacked, or bytes of WAL replayed.
    pub bytes: Option<u64>,
    /// Whether it is a part of the time after which the data can be worked with again.
    pub counts: bool,
}

impl DrillPhase {
    /// Bytes a second.
    #[must_use]
    pub fn rate(&self) -> Option<f64> {
        let bytes = self.bytes.filter(|bytes| *bytes > 0)?;
        (self.seconds > 0.0).then(|| bytes as f64 / self.seconds)
    }
}

/// What kind of a check it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CheckKind {
    /// A database opens, and its catalogs are read.
    Database,
    /// A query of the configuration.
    Sql,
    /// `pg_amcheck`.
    Amcheck,
    /// `pg_checksums --check`.
    Checksums,
    /// `pg_dumpall` to nowhere.
    Dump,
    /// The operator's own program.
    Script,
    /// The recovery itself stopped where it was predicted to.
    Stop,
}

/// A check that was carried out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillCheck {
    /// What it is called.
    pub name: String,
    /// What kind it is.
    pub kind: CheckKind,
    /// Whether it is as expected.
    pub passed: bool,
    /// What came out.
    pub value: Option<String>,
    /// What was expected.
    pub expected: String,
    /// What there is to say about it, line by line: what servers and programs said, as they said it.
    pub said: Vec<String>,
    /// How long it took.
    pub seconds: f64,
}

impl DrillCheck {
    /// `orders are there: 0, expected > 0`
    #[must_use]
    pub fn in_words(&self) -> String {
        let value = match (&self.value, self.said.first()) {
            (Some(value), _) => value,
            (None, Some(said)) => said,
            (None, None) => "null",
        };
        // It becomes a part of a line, and of an environment, which has its limits.
        let shown: String = value.chars().take(SHOWN).collect();
        let more = if shown.len() < value.len() { "…" } else { "" };
        format!("{}: {shown}{more}, expected {}", self.name, self.expected)
    }

    /// What came of it, in a line.
    #[must_use]
    pub fn outcome(&self) -> String {
        match self.passed {
            true => format!("passed: {}", self.name),
            false => format!("FAILED: {}", self.in_words()),
        }
    }
}

/// A check that could not be carried out, and did not have to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// What it is called.
    pub name: String,
    /// Why.
    pub why: String,
}

/// What was predicted of the time, and what it took.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// Seconds that unpacking and replay were to take.
    pub predicted_s: f64,
    /// Seconds that they took, with what lies between them.
    pub actual_s: Option<f64>,
    /// What the prediction rested on.
    pub basis: String,
}

/// Everything about a drill that is over, or as far as it has come.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DrillReport {
    /// [`FORMAT`].
    pub format: u32,
    /// The drill's name, which is also its recovery's.
    pub id: String,
    /// Which of this machine's reports it is, from 1; 0 as long as it is not one of them.
    pub number: u64,
    /// SHA-256 of the report before, in hexadecimal; `None` for the first.
    pub previous: Option<String>,
    /// How it ended.
    pub result: DrillResult,
    /// All of it in one line.
    pub summary: String,
    /// Why it failed, or was interrupted, the weightiest first.
    pub failures: Vec<String>,
    /// What else is to be known.
    pub notes: Vec<String>,
    /// When it was begun.
    pub begun_at: Timestamp,
    /// When it ended.
    pub ended_at: Timestamp,
    /// Who made it.
    pub by: By,
    /// Of what.
    pub source: Drilled,
    /// How backup and target were chosen, in words.
    pub chosen: String,
    /// The base backup; `None` where it did not come to that.
    pub backup: Option<DrilledBackup>,
    /// The target.
    pub target: Option<Target>,
    /// Where it was restored to.
    pub directory: PathBuf,
    /// Where it was predicted to stop.
    pub predicted: Option<DrilledStop>,
    /// Where it stopped.
    pub actual: Option<DrilledStop>,
    /// Whether that is the same.
    pub matches_prediction: Option<bool>,
    /// What took how long.
    pub phases: Vec<DrillPhase>,
    /// Seconds until the data could have been worked with again; `None` where it did not come to that.
    pub rto_s: Option<f64>,
    /// What it may take at most.
    pub rto_limit_s: Option<f64>,
    /// Seconds of work that would have been lost.
    pub rpo_s: Option<f64>,
    /// How many it may be at most.
    pub rpo_limit_s: Option<f64>,
    /// Against what that was measured, in words.
    pub rpo_against: Option<String>,
    /// The last commit that can be recovered.
    pub recoverable_at: Option<Timestamp>,
    /// The newest commit that the archives know.
    pub newest_known_at: Option<Timestamp>,
    /// What the primary's clock showed, where it was asked.
    pub primary_at: Option<Timestamp>,
    /// Bytes of WAL that were replayed.
    pub wal_bytes: Option<u64>,
    /// Bytes of WAL that the cluster wrote in an hour, from the backup's begin to the stop.
    pub wal_bytes_per_hour: Option<f64>,
    /// What was predicted of the time.
    pub forecast: Option<Forecast>,
    /// The checks.
    pub checks: Vec<DrillCheck>,
    /// The checks that were not carried out.
    pub skipped: Vec<Skipped>,
    /// What the plan found.
    pub findings: Vec<Finding>,
    /// The error that ended it.
    pub failure: Option<Failure>,
    /// What was restored was to stay.
    pub kept: bool,
    /// Everything that it made was removed, or it has made nothing.
    pub removed: bool,
    /// The documents that were made of this, by their names, with SHA-256 in hexadecimal.
    pub documents: BTreeMap<String, String>,
}

impl DrillReport {
    /// Checks that passed, and all.
    #[must_use]
    pub fn passed_checks(&self) -> (usize, usize) {
        (self.checks.iter().filter(|check| check.passed).count(), self.checks.len())
    }

    /// `unpack 4.0 s, replay 2.0 s`: what took any time at all.
    #[must_use]
    pub fn parts(&self) -> String {
        let parts = self.phases.iter().filter(|phase| phase.seconds >= 0.05);
        parts.map(|phase| format!("{} {}", phase.name, Seconds(phase.seconds))).collect::<Vec<_>>().join(", ")
    }

    /// Whether it is of this source: of its name, and not of another cluster, as far as the clusters are known. What was given
    /// on the command line has the same name, whatever it is.
    #[must_use]
    pub fn is_of(&self, source: &Drilled) -> bool {
        let clusters = self.source.system_identifier.as_ref().zip(source.system_identifier.as_ref());
        self.source.name == source.name && clusters.is_none_or(|(one, other)| one == other)
    }

    /// Whether it went to the end of WAL, on the latest timeline.
    #[must_use]
    pub fn is_of_latest(&self) -> bool {
        self.target.as_ref().is_some_and(Target::is_of_all)
    }

    /// What a check's value was, where that was as expected.
    #[must_use]
    pub fn value_of(&self, name: &str) -> Option<&str> {
        let is_it = |check: &&DrillCheck| check.kind == CheckKind::Sql && check.name == name && check.passed;
        let check = self.checks.iter().find(is_it)?;
        check.value.as_deref()
    }
}

#[cfg(test)]
pub(crate) mod tests;
