//! What a report says, as tables of texts: the same in every document.

use crate::core::progress::{Bytes, Seconds, grouped};
use crate::core::{Timestamp, Zone};
use crate::event::drill::{DrillCheck, DrilledStop};
use crate::event::{DrillReport, DrillResult};

/// The word for what is as expected.
pub(super) const PASSED: &str = "passed";
/// The word for what is not.
pub(super) const FAILED: &str = "FAILED";

/// The part that comes before all others.
pub(super) const WHY: &str = "Why it did not pass";

/// `2026-11-22 03:00:12 +01:00, on db2: drill-shop-20261122030012`
pub(super) fn when_and_which(report: &DrillReport, zone: Zone) -> String {
    format!("{}, on {}: {}", report.begun_at.in_zone_to_the_second(zone), report.by.host, report.id)
}

/// What it proves, for whoever reads no further.
pub(super) fn in_short(report: &DrillReport) -> String {
    let backup = report
        .backup
        .as_ref()
        .map_or_else(|| "A base backup".to_owned(), |backup| format!("The base backup “{}”", backup.id));
    match report.result {
        DrillResult::Passed => {
            let took = report
                .rto_s
                .map(|s| format!(" In an accident the data could be used again after {} (RTO).", Seconds(s)));
            let lost = report.rpo_s.map(|s| {
                format!(
                    " Work of {} would have been lost (RPO), measured against {}.",
                    Seconds(s),
                    report.rpo_against.as_deref().unwrap_or("what is known")
                )
            });
            let (took, lost) = (took.unwrap_or_default(), lost.unwrap_or_default());
            format!("{backup} was restored, and everything that was checked is as expected.{took}{lost}")
        }
        DrillResult::Failed => "This drill does not prove that the data can be recovered as it should be.".to_owned(),
        DrillResult::Interrupted => "This drill did not come to its end, and proves nothing.".to_owned(),
    }
}

/// A part of a report.
pub(super) struct Section {
    pub(super) title: &'static str,
    /// The heads of its columns; `None` for names with their values.
    pub(super) heads: Option<&'static [&'static str]>,
    /// Texts that may come from outside.
    pub(super) rows: Vec<Vec<String>>,
}

impl Section {
    fn facts(title: &'static str, facts: Vec<(&'static str, Option<String>)>) -> Section {
        let rows = facts.into_iter().filter_map(|(name, value)| Some(vec![name.to_owned(), value?])).collect();
        Section { title, heads: None, rows }
    }

    fn table(title: &'static str, heads: &'static [&'static str], rows: Vec<Vec<String>>) -> Section {
        Section { title, heads: Some(heads), rows }
    }
}

/// All parts that say anything.
pub(super) fn sections(report: &DrillReport, former: &[DrillReport], zone: Zone) -> Vec<Section> {
    let list = |title, lines: &[String]| Section {
        title,
        heads: None,
        rows: lines.iter().map(|line| vec![line.clone()]).collect(),
    };
    let all = [
        list(WHY, &report.failures),
        error(report),
        restored(report, zone),
        stop(report, zone),
        checks(report),
        skipped(report),
        measures(report, zone),
        phases(report),
        findings(report),
        list("Notes", &report.notes),
        made(report, zone),
        history(report, former, zone),
        chain(report),
    ];
    all.into_iter().filter(|section| !section.rows.is_empty()).collect()
}

fn error(report: &DrillReport) -> Section {
    let failure = report.failure.as_ref();
    let causes = failure.map(|failure| failure.causes.join("\n")).filter(|causes| !causes.is_empty());
    Section::facts(
        "The error that ended it",
        vec![
            ("Error", failure.map(|failure| format!("{} [{}]", failure.message, failure.code))),
            ("Caused by", causes),
            ("Hint", failure.and_then(|failure| failure.hint.clone())),
        ],
    )
}

fn restored(report: &DrillReport, zone: Zone) -> Section {
    let backup = report.backup.as_ref();
    let left = match (report.kept, report.removed) {
        (true, _) => "it was kept",
        (false, true) => "everything was removed again",
        (false, false) => "NOT everything was removed",
    };
    Section::facts(
        "What was restored",
        vec![
            ("Source", Some(report.source.name.clone())),
            ("Cluster", report.source.system_identifier.as_ref().map(|id| format!("system identifier {id}"))),
            ("Base backup", backup.map(|backup| format!("{}, {}", backup.id, backup.location.display()))),
            ("Taken", backup.and_then(|backup| backup.started_at).map(|at| at.in_zone(zone))),
            (
                "Size",
                backup.map(|backup| {
                    let unpacked = backup.unpacked_bytes.map(|bytes| format!(", {} unpacked", Bytes(bytes)));
                    format!("{} as it lies there{}", Bytes(backup.size_bytes), unpacked.unwrap_or_default())
                }),
            ),
            ("PostgreSQL", backup.map(|backup| backup.pg_version.to_string())),
            ("Target", report.target.as_ref().map(|target| target.in_words(zone))),
            ("Chosen", Some(report.chosen.clone()).filter(|chosen| !chosen.is_empty())),
            ("Into", Some(report.directory.display().to_string())),
            ("Then", Some(left.to_owned())),
        ],
    )
}

fn stop(report: &DrillReport, zone: Zone) -> Section {
    let told = |stop: &Option<DrilledStop>| stop.as_ref().map(|stop| stop_in_words(stop, zone));
    let verdict = report.matches_prediction.map(|same| if same { "the same" } else { "NOT the same" }.to_owned());
    Section::facts(
        "Where recovery stopped",
        vec![("Predicted", told(&report.predicted)), ("Happened", told(&report.actual)), ("Verdict", verdict)],
    )
}

fn stop_in_words(stop: &DrilledStop, zone: Zone) -> String {
    let parts = [
        stop.replay_end.map(|lsn| format!("replayed up to LSN {lsn}")),
        stop.timeline.map(|timeline| format!("timeline {timeline}")),
        stop.xid.map(|xid| format!("transaction {xid}")),
        stop.name.as_ref().map(|name| format!("restore point “{name}”")),
        stop.at.map(|at| at.in_zone(zone)),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

/// A measure beside its limit: `12 s, at most 30 min 00 s`
fn limited(measured: Option<f64>, limit: Option<f64>) -> Option<String> {
    let measured = Seconds(measured?);
    Some(match limit {
        Some(limit) => format!("{measured}, at most {}", Seconds(limit)),
        None => format!("{measured}, no limit is configured"),
    })
}

fn measures(report: &DrillReport, zone: Zone) -> Section {
    let forecast = report.forecast.as_ref();
    let time = |at: Option<Timestamp>| at.map(|at| at.in_zone(zone));
    let took = forecast.map(|forecast| match forecast.actual_s {
        Some(actual) => format!("{} predicted, {} it was", Seconds(forecast.predicted_s), Seconds(actual)),
        None => format!("{} predicted", Seconds(forecast.predicted_s)),
    });
    Section::facts(
        "Measures",
        vec![
            ("Until the data could be worked with (RTO)", limited(report.rto_s, report.rto_limit_s)),
            ("Work that would have been lost (RPO)", limited(report.rpo_s, report.rpo_limit_s)),
            ("Measured against", report.rpo_against.clone()),
            ("Last commit that can be recovered", time(report.recoverable_at)),
            ("Newest commit in the archives", time(report.newest_known_at)),
            ("The primary's clock", time(report.primary_at)),
            ("WAL replayed", report.wal_bytes.map(|bytes| Bytes(bytes).to_string())),
            ("WAL in an hour", report.wal_bytes_per_hour.map(|rate| Bytes(rate as u64).to_string())),
            ("Restoring and replaying", took),
            ("The prediction rested on", forecast.map(|forecast| forecast.basis.clone())),
        ],
    )
}

fn phases(report: &DrillReport) -> Section {
    let row = |phase: &crate::event::drill::DrillPhase| {
        vec![
            phase.name.clone(),
            Seconds(phase.seconds).to_string(),
            phase.bytes.map(|bytes| Bytes(bytes).to_string()).unwrap_or_default(),
            phase.rate().map(|rate| format!("{}/s", Bytes(rate as u64))).unwrap_or_default(),
            if phase.counts { "yes" } else { "" }.to_owned(),
        ]
    };
    Section::table(
        "How long it took",
        &["part", "time", "amount", "rate", "part of the RTO"],
        report.phases.iter().map(row).collect(),
    )
}

fn checks(report: &DrillReport) -> Section {
    let row = |check: &DrillCheck| {
        let name = std::iter::once(&check.name).chain(&check.said).cloned().collect::<Vec<_>>().join("\n");
        vec![
            name,
            if check.passed { PASSED } else { FAILED }.to_owned(),
            check.value.clone().unwrap_or_else(|| if check.said.is_empty() { "null" } else { "?" }.to_owned()),
            check.expected.clone(),
            Seconds(check.seconds).to_string(),
        ]
    };
    Section::table("Checks", &["check", "result", "value", "expected", "time"], report.checks.iter().map(row).collect())
}

fn skipped(report: &DrillReport) -> Section {
    let rows = report.skipped.iter().map(|skipped| vec![skipped.name.clone(), skipped.why.clone()]).collect();
    Section::table("Checks that were not carried out", &["check", "why"], rows)
}

fn findings(report: &DrillReport) -> Section {
    let rows = report.findings.iter().map(|finding| {
        vec![finding.severity.to_string(), finding.message.clone(), finding.hint.clone().unwrap_or_default()]
    });
    Section::table("What the plan found", &["severity", "finding", "hint"], rows.collect())
}

fn made(report: &DrillReport, zone: Zone) -> Section {
    let by = &report.by;
    Section::facts(
        "Who made it",
        vec![
            ("By", Some(format!("{} on {}", by.user, by.host))),
            ("With", Some(format!("Walback {}", by.walback))),
            ("On", by.postgresql.as_ref().map(|version| format!("PostgreSQL {version}"))),
            ("Begun", Some(report.begun_at.in_zone(zone))),
            ("Ended", Some(report.ended_at.in_zone(zone))),
        ],
    )
}

fn history(report: &DrillReport, former: &[DrillReport], zone: Zone) -> Section {
    let row = |drill: &DrillReport| {
        let seconds = |seconds: Option<f64>| seconds.map(|seconds| Seconds(seconds).to_string()).unwrap_or_default();
        let (passed, all) = drill.passed_checks();
        vec![
            drill.begun_at.in_zone(zone),
            drill.result.word().to_owned(),
            seconds(drill.rto_s),
            seconds(drill.rpo_s),
            format!("{passed} of {all}"),
        ]
    };
    let rows = former.iter().chain([report]).map(row).collect();
    Section::table("The last drills of this source", &["begun", "result", "RTO", "RPO", "checks"], rows)
}

fn chain(report: &DrillReport) -> Section {
    let previous = match (&report.previous, report.number) {
        (Some(hash), _) => Some(hash.clone()),
        (None, 1) => Some("none, it is the first".to_owned()),
        (None, _) => None,
    };
    Section::facts(
        "The chain of reports",
        vec![
            ("Number", (report.number > 0).then(|| grouped(report.number))),
            ("SHA-256 of the report before", previous),
            ("Checked by", (report.number > 0).then(|| "walback drills --verify".to_owned())),
        ],
    )
}
