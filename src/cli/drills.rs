//! `walback drills`

use serde::Serialize;

use crate::core::progress::{Seconds, counted};
use crate::core::{Timestamp, Zone};
use crate::drill::store::Verified;
use crate::drill::{Drills, Known, Link};
use crate::error::{Error, ErrorKind, Result};
use crate::event::DrillReport;
use crate::event::drill::document;

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
pub fn run(context: &Context, verify: bool, head: Option<&str>) -> Result<u8> {
    let drills = Drills::below(&context.config.state_directory);
    let mut verified = verify.then(|| drills.verify()).transpose()?;
    if let (Some(verified), Some(head)) = (&mut verified, head) {
        verified.problems.extend(not_in_chain(&drills, head)?);
    }
    let known = match (drills.all(), &verified) {
        (Ok(known), _) => known,
        // That it cannot be read is what verifying tells.
        (Err(_), Some(_)) => Vec::new(),
        (Err(error), None) => return Err(error),
    };
    let wanted = context.config.named_source();
    let listed = known.iter().map(|known| Listed::of(known, &drills));
    let is_wanted = |listed: &Listed| wanted.is_none_or(|name| listed.source.as_deref().is_none_or(|of| of == name));
    let listed: Vec<Listed> = listed.filter(is_wanted).collect();
    if listed.is_empty() && wanted.is_some() {
        // It may be mistyped; one that is not configured any more may have drills.
        context.config.source()?;
    }
    if context.json {
        print_json(&listed, verified.as_ref())?;
    } else {
        let text = match (listed.is_empty(), wanted) {
            (true, Some(name)) => format!("no drills of {name} below {}", drills.directory().display()),
            (true, None) => format!("no drills below {}; “walback drill” makes one", drills.directory().display()),
            (false, _) => describe(&listed, context.config.zone),
        };
        print(&plain_lines(&text))?;
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
                let place = drills.place(&report.id).join(document::HTML).display().to_string();
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
    let mut table = Table::new(&[
        ("DRILL", Align::Left),
        ("SOURCE", Align::Left),
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
            drill.source.clone().unwrap_or_default(),
            drill.begun_at.map(|at| at.in_zone_to_the_second(zone)).unwrap_or_default(),
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

/// What is wrong where no report has the SHA-256 that somebody kept.
fn not_in_chain(drills: &Drills, head: &str) -> Result<Option<String>> {
    let is_it = |link: &Link| link.hash.eq_ignore_ascii_case(head.trim());
    let chain = drills.chain().unwrap_or_default();
    if head.trim().len() != 64 || !head.trim().chars().all(|c| c.is_ascii_hexdigit()) {
        return Err(Error::usage("bad-hash", format!("this is no SHA-256: {head}"))
            .hint("it has 64 hexadecimal digits; a drill prints its own at its end"));
    }
    Ok((!chain.iter().any(is_it)).then(|| {
        format!("no report has the SHA-256 {}: it was changed or removed, or the chain was made anew", head.trim())
    }))
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
