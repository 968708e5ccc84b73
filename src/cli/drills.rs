//! `walback drills`

use serde::Serialize;

use crate::core::progress::{Seconds, counted};
use crate::core::{Timestamp, Zone};
use crate::drill::store::{HTML, Verified};
use crate::drill::{Drills, Known};
use crate::error::{Error, ErrorKind, Result};
use crate::event::DrillReport;

use super::table::{Align, Table, plain, plain_lines};
use super::{Context, note, print};

/// A drill as it is listed.
#[derive(Debug, Serialize)]
struct Listed {
    id: String,
    /// Passed, failed, interrupted; running, killed, unreadable.
    result: String,
    source: Option<String>,
    begun_at: Option<Timestamp>,
    ended_at: Option<Timestamp>,
    backup: Option<String>,
    rto_s: Option<f64>,
    rpo_s: Option<f64>,
    checks_passed: Option<usize>,
    checks: Option<usize>,
    summary: Option<String>,
    report: Option<String>,
}

/// Lists the drills, the newest last; looks whether their reports are as they were written, where that is asked for.
///
/// # Errors
/// When they cannot be read.
pub fn run(context: &Context, verify: bool) -> Result<u8> {
    let drills = Drills::below(&context.config.state_directory);
    let verified = verify.then(|| drills.verify()).transpose()?;
    let known = match (drills.all(), &verified) {
        (Ok(known), _) => known,
        // That it cannot be read is what verifying tells.
        (Err(_), Some(_)) => Vec::new(),
        (Err(error), None) => return Err(error),
    };
    let listed: Vec<Listed> = known.iter().map(|known| Listed::of(known, &drills)).collect();
    if context.json {
        print_json(&listed, verified.as_ref())?;
    } else {
        print(&plain_lines(&describe(&listed, context.config.zone)))?;
    }
    let Some(verified) = verified else { return Ok(0) };
    if !context.json {
        say_verified(&verified)?;
    }
    Ok(if verified.problems.is_empty() { 0 } else { ErrorKind::Problems.exit_status() })
}

impl Listed {
    fn of(known: &Known, drills: &Drills) -> Listed {
        match known {
            Known::Over(report) => {
                let place = drills.place(&report.id).join(HTML).display().to_string();
                Listed { report: Some(place), ..Listed::with(report, report.result.word()) }
            }
            Known::Running(report, _) => Listed::with(report, "running"),
            Known::Killed(draft) => Listed::with(&draft.report, "killed"),
            Known::Broken(id, why) => Listed {
                id: id.clone(),
                result: "unreadable".to_owned(),
                source: None,
                begun_at: None,
                ended_at: None,
                backup: None,
                rto_s: None,
                rpo_s: None,
                checks_passed: None,
                checks: None,
                summary: Some(why.clone()),
                report: None,
            },
        }
    }

    fn with(report: &DrillReport, result: &str) -> Listed {
        let (passed, all) = report.passed_checks();
        Listed {
            id: report.id.clone(),
            result: result.to_owned(),
            source: Some(report.source.name.clone()),
            begun_at: Some(report.begun_at),
            ended_at: (!report.summary.is_empty()).then_some(report.ended_at),
            backup: report.backup.as_ref().map(|backup| backup.id.clone()),
            rto_s: report.rto_s,
            rpo_s: report.rpo_s,
            checks_passed: Some(passed),
            checks: Some(all),
            summary: Some(report.summary.clone()).filter(|summary| !summary.is_empty()),
            report: None,
        }
    }
}

fn print_json(listed: &[Listed], verified: Option<&Verified>) -> Result<()> {
    let mut document = serde_json::json!({ "drills": listed });
    if let Some(verified) = verified {
        document["chain"] = serde_json::json!(verified);
    }
    let text = serde_json::to_string_pretty(&document)
        .map_err(|error| Error::failed("no-json", "the result cannot be written as JSON").caused_by(&error))?;
    print(&text)
}

fn describe(listed: &[Listed], zone: Zone) -> String {
    if listed.is_empty() {
        return "no drills on this machine; “walback drill” makes one".to_owned();
    }
    let mut table = Table::new(&[
        ("DRILL", Align::Left),
        ("BEGUN", Align::Left),
        ("RESULT", Align::Left),
        ("RTO", Align::Right),
        ("RPO", Align::Right),
        ("CHECKS", Align::Right),
        ("BACKUP", Align::Left),
    ]);
    let seconds = |seconds: Option<f64>| seconds.map_or("-".to_owned(), |seconds| Seconds(seconds).to_string());
    for drill in listed {
        let checks = drill.checks_passed.zip(drill.checks).map(|(passed, all)| format!("{passed}/{all}"));
        let word = if drill.result == "passed" { drill.result.clone() } else { drill.result.to_uppercase() };
        table.row(vec![
            drill.id.clone(),
            drill.begun_at.map(|at| to_the_second(at, zone)).unwrap_or_default(),
            word,
            seconds(drill.rto_s),
            seconds(drill.rpo_s),
            checks.unwrap_or_default(),
            drill.backup.clone().unwrap_or_default(),
        ]);
    }
    let mut text = table.render();
    if let Some(last) = listed.last() {
        let bad = last.summary.as_ref().filter(|_| last.result != "passed");
        text.extend(bad.map(|summary| format!("\n\nThe last one: {summary}")));
        text.extend(last.report.as_ref().map(|report| format!("\n\nThe last report: {report}")));
    }
    text
}

/// `2024-10-02 14:30:05 +02:00`
fn to_the_second(at: Timestamp, zone: Zone) -> String {
    let whole = at.in_zone(zone);
    match whole.split_once('.').and_then(|(time, rest)| Some((time, rest.split_once(' ')?.1))) {
        Some((time, offset)) => format!("{time} {offset}"),
        None => whole,
    }
}

fn say_verified(verified: &Verified) -> Result<()> {
    let reports = counted(verified.reports, "report");
    for problem in &verified.problems {
        note(&format!("error: {}", plain(problem)));
    }
    let head = verified.head.as_deref().unwrap_or("none");
    if verified.problems.is_empty() {
        print(&format!("\n{reports}, each as it was written. SHA-256 of the last: {head}"))
    } else {
        note("hint: these reports prove nothing any more; docs/drills.md says what the chain shows");
        Ok(())
    }
}
