//! What a drill comes to: why it failed, and what that means, in one line.

use super::limit::TooMuch;
use super::measure;
use super::run::Drill;
use crate::core::progress::{Bytes, Seconds};
use crate::error::{Error, ErrorKind};
use crate::event::drill::{CheckKind, DrillCheck, DrillResult, DrilledStop};
use crate::event::{DrillReport, Failure};
use crate::plan::{Finding, Severity};

/// How far a drill came that did not come to its end.
pub(super) struct Ended {
    pub(super) error: Error,
    /// What was more than it may take, where it was given up for that.
    pub(super) too_much: Option<TooMuch>,
}

impl Drill<'_> {
    /// Takes into the report why it did not come to its end.
    pub(super) fn take_failure(&self, report: &mut DrillReport, ended: Ended) {
        let said = ended.error.report();
        let failure = Failure {
            step: None,
            code: said.code.into(),
            message: said.message.clone(),
            causes: said.causes.clone(),
            hint: said.hint.as_deref().map(hint_of_drill),
        };
        let first = match (ended.too_much, said.kind) {
            (Some(TooMuch::Time), _) => {
                let limit = Seconds(self.source.drill.timeout.as_secs_f64());
                format!("it was given up after {limit}, its limit")
            }
            (Some(TooMuch::Room(taken)), _) => {
                let most = Bytes(self.source.drill.max_bytes.unwrap_or_default());
                format!("it was given up: it took {}, more than the {most} that a drill may take", Bytes(taken))
            }
            (None, ErrorKind::Interrupted) => "it was given up before its end".to_owned(),
            (None, _) => said.message.clone(),
        };
        report.result = match (ended.too_much, said.kind) {
            (None, ErrorKind::Interrupted) => DrillResult::Interrupted,
            _ => DrillResult::Failed,
        };
        // What forbids the plan says it better.
        if said.code != "plan-forbidden" {
            report.failures.insert(0, first);
        }
        report.failure = Some(failure);
    }
}

/// A hint as it is right for a drill: that has another option for its place, and what it has restored is gone.
fn hint_of_drill(hint: &str) -> String {
    if ["walback resume", "walback discard", "server.log"].iter().any(|gone| hint.contains(gone)) {
        return "make it again with --keep, and look at the copy and its server's log".to_owned();
    }
    hint.replace("--into", "--scratch")
}

pub(super) fn told_of_drill(finding: &Finding) -> Finding {
    Finding { hint: finding.hint.as_deref().map(hint_of_drill), ..finding.clone() }
}

/// Whether it stopped where it was predicted to.
pub(super) fn as_predicted(report: &DrillReport) -> DrillCheck {
    let place =
        |stop: &Option<DrilledStop>| stop.as_ref().and_then(|stop| stop.replay_end).map(|lsn| format!("LSN {lsn}"));
    DrillCheck {
        name: "recovery stopped where it was predicted to".to_owned(),
        kind: CheckKind::Stop,
        passed: report.matches_prediction == Some(true),
        value: place(&report.actual),
        expected: place(&report.predicted).unwrap_or_else(|| "not known".to_owned()),
        said: Vec::new(),
        seconds: 0.0,
    }
}

/// Concludes from what was measured and checked how the drill ended. Once more where something was added since.
pub(super) fn judge(report: &mut DrillReport) {
    let interrupted = report.result == DrillResult::Interrupted && report.failure.is_some();
    let mut failures = std::mem::take(&mut report.failures);
    let failed = report.checks.iter().filter(|check| !check.passed).map(DrillCheck::in_words);
    let exceeded = measure::exceeded(report);
    let forbidding = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let more: Vec<String> = failed.chain(exceeded).chain(forbidding.map(|finding| finding.message.clone())).collect();
    for failure in more {
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }
    report.result = match (interrupted, failures.is_empty()) {
        (true, _) => DrillResult::Interrupted,
        (false, true) => DrillResult::Passed,
        (false, false) => DrillResult::Failed,
    };
    report.failures = failures;
}

/// Says all of it in one line.
pub(super) fn summarize(report: &mut DrillReport) {
    let (passed, all) = report.passed_checks();
    let mut parts = vec![format!("drill {} {}", report.id, report.result.word())];
    if let Some(first) = report.failures.first() {
        let more = report.failures.len() - 1;
        parts.push(if more > 0 { format!("{first} (and {more} more)") } else { first.clone() });
    } else if let Some(backup) = &report.backup {
        parts.push(format!("backup {}", backup.id));
    }
    parts.push(format!("{passed} of {all} checks passed"));
    parts.extend(report.rto_s.map(|seconds| format!("RTO {}", Seconds(seconds))));
    parts.extend(report.rpo_s.map(|seconds| format!("RPO {}", Seconds(seconds))));
    let line = parts.join("; ");
    report.summary = in_one_line(&line);
}

/// Whatever an error said.
pub(super) fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
