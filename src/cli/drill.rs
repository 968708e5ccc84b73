//! `walback drill`

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds};
use crate::drill::store::Sealed;
use crate::drill::{Aim, Asked, Done, Drill, Heard, Which};
use crate::engine::facts::source_of;
use crate::engine::host::{Host, now};
use crate::error::{Error, ErrorKind, Result};
use crate::event::drill::document;
use crate::event::{DrillReport, DrillResult, Recovery};
use crate::plan::Severity;

use super::args::{ActionArg, DrillArgs, TargetArgs};
use super::table::{Align, Table, plain, plain_lines};
use super::watch::Watcher;
use super::{Context, note};

/// The form of a report's file.
const FORMS: [(&str, &str); 3] = [("html", document::HTML), ("md", document::MARKDOWN), ("json", document::JSON)];

/// Makes a drill, and tells what came of it.
///
/// # Errors
/// When it cannot be begun, or its report cannot be written.
pub fn run(context: &Context, target: &TargetArgs, args: &DrillArgs) -> Result<u8> {
    let asked = asked(context, target, args)?;
    let copies = args.report.as_deref().map(|file| Copies::at(file, context)).transpose()?;
    let watcher = Watcher::new(args.events, context.config.zone);
    let listen = |id: &str, heard: Heard<'_>| tell(&watcher, args.events, id, heard);
    let drill = Drill::new(&context.config, &listen)?;
    let done = drill.run(&asked, &context.cancel);
    watcher.clear();
    let Done { sealed, recovery } = done?;
    let mut status = sealed.report.result.exit_status();
    let written = copies.map_or(Ok(()), |copies| copies.write(&sealed, context));
    let said = say(context, args.events, &sealed, recovery.as_ref());
    for error in [written.err(), said.err()].into_iter().flatten() {
        note(&plain_lines(&error.to_string()));
        status = status.max(error.report().kind.exit_status());
    }
    if sealed.report.result != DrillResult::Passed {
        note(&plain(&sealed.report.summary));
    }
    Ok(status)
}

fn asked(context: &Context, target: &TargetArgs, args: &DrillArgs) -> Result<Asked> {
    if target.action != ActionArg::Pause {
        return Err(Error::usage("drill-action", "a drill always pauses at its target, to look at what is there")
            .hint("leave --action out; “promote: true” of “drill” in the configuration promotes the copy after that"));
    }
    let aim = match args.random_point {
        true => Aim::Random,
        false => Aim::At(target.target(context.config.zone, now())?),
    };
    Ok(Asked {
        aim,
        which: args.backup.as_deref().map_or(Which::Default, Which::of),
        scratch: args.scratch.clone(),
        bin_dir: args.bin_dir.clone(),
        keep: args.keep,
    })
}

/// Where else the report goes.
struct Copies {
    file: PathBuf,
    /// The document that it is; `None` for all, in a directory.
    document: Option<&'static str>,
}

impl Copies {
    /// Looks before anything is begun whether it can be written there: nothing is ever overwritten.
    fn at(file: &Path, context: &Context) -> Result<Copies> {
        let file = std::path::absolute(file).map_err(|error| {
            Error::usage("bad-path", format!("this is no path: {}", file.display())).caused_by(&error)
        })?;
        let source = context.config.source()?;
        let sources: Vec<PathBuf> = source.backups.iter().chain(&source.wal).cloned().collect();
        if let Some(source) = source_of(&file, &sources) {
            let message = format!("{} lies inside a source: {}", file.display(), source.display());
            return Err(Error::usage("inside-source", message).hint("sources are only ever read: choose another place"));
        }
        if file.is_dir() {
            return Ok(Copies { file, document: None });
        }
        let ending = file.extension().unwrap_or_default().to_string_lossy().into_owned();
        let Some((_, document)) = FORMS.iter().find(|(form, _)| *form == ending) else {
            return Err(Error::usage("report-form", format!("this is not the name of a report: {}", file.display()))
                .hint("let it end with .html, .md or .json, or name a directory that is there"));
        };
        // A drill takes hours: that there is no such directory is not to be found out at its end.
        if !file.parent().is_some_and(Path::is_dir) {
            return Err(Error::usage("bad-path", format!("there is no directory for this file: {}", file.display()))
                .hint("make it first, or name one that is there"));
        }
        if file.symlink_metadata().is_ok() {
            let message = format!("this file is there already: {}", file.display());
            return Err(Error::new(ErrorKind::Unconfirmed, "file-exists", message)
                .hint("give another name, or a directory: there each report has a name of its own"));
        }
        Ok(Copies { file, document: Some(document) })
    }

    fn write(&self, sealed: &Sealed, context: &Context) -> Result<()> {
        let host = Host::new(context.config.read_only)?;
        for (form, document) in FORMS {
            let to = match self.document {
                None => self.file.join(format!("{}.{form}", sealed.report.id)),
                Some(only) if only == document => self.file.clone(),
                Some(_) => continue,
            };
            let from = sealed.directory.join(document);
            let text = fs::read_to_string(&from).map_err(|error| {
                Error::failed("unreadable", format!("cannot read {}", from.display())).caused_by(&error)
            })?;
            host.write_document(&to, &text, 0o644, false)?;
        }
        Ok(())
    }
}

/// As it happens: words on standard error, or JSON lines.
fn tell(watcher: &Watcher, json: bool, id: &str, heard: Heard<'_>) {
    let (event, name, value, words) = match heard {
        Heard::Event(event) => return watcher.tell(event),
        Heard::Doing(what) => ("doing", "doing", serde_json::json!(what), format!("{what} …")),
        Heard::Checked(check) => ("check", "check", serde_json::json!(check), check.outcome()),
        Heard::Note(what) => ("note", "note", serde_json::json!(what), what.to_owned()),
    };
    if json {
        // Somebody who stopped reading must not stop the drill.
        let line = serde_json::json!({"at": now(), "recovery": id, "event": event, name: value});
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    } else {
        watcher.clear();
        note(&format!("{id}: {}", plain(&words)));
    }
}

/// What came of it, on standard output.
fn say(context: &Context, events: bool, sealed: &Sealed, recovery: Option<&Recovery>) -> Result<()> {
    if !events && !context.json {
        return print(&plain_lines(&describe(sealed, context.config.zone)));
    }
    let document = serde_json::json!({"recovery": recovery, "drill": as_json(sealed)?});
    let text = if events { document.to_string() } else { format!("{document:#}") };
    print(&text)
}

/// Whoever does not read all of it is still to have the status.
fn print(text: &str) -> Result<()> {
    match writeln!(std::io::stdout().lock(), "{text}") {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::failed("no-output", "cannot write to standard output").caused_by(&error))
        }
        _ => Ok(()),
    }
}

/// The report, with where it is.
fn as_json(sealed: &Sealed) -> Result<serde_json::Value> {
    let mut value = serde_json::to_value(&sealed.report)
        .map_err(|error| Error::failed("no-json", "the result cannot be written as JSON").caused_by(&error))?;
    value["report"] = serde_json::json!(sealed.directory.join(document::HTML));
    value["hash"] = serde_json::json!(sealed.hash);
    Ok(value)
}

fn describe(sealed: &Sealed, zone: Zone) -> String {
    let report = &sealed.report;
    let mut lines = vec![format!("Drill      {}: {}", report.id, report.result.word())];
    let mut fact = |name: &str, value: Option<String>| {
        lines.extend(value.map(|value| format!("{name:<10} {value}")));
    };
    fact("Backup", report.backup.as_ref().map(|backup| format!("{}, PostgreSQL {}", backup.id, backup.pg_version)));
    fact("Target", report.target.as_ref().map(|target| target.in_words(zone)));
    fact(
        "Stopped",
        report
            .matches_prediction
            .map(|same| if same { "where it was predicted to" } else { "NOT where it was predicted to" }.to_owned()),
    );
    let limited = |measured: Option<f64>, limit: Option<f64>| {
        let limit = limit.map(|limit| format!(", at most {}", Seconds(limit))).unwrap_or_default();
        measured.map(|measured| format!("{}{limit}", Seconds(measured)))
    };
    fact("RTO", limited(report.rto_s, report.rto_limit_s));
    let against = report.rpo_against.as_ref().map(|what| format!(", against {what}")).unwrap_or_default();
    fact("RPO", limited(report.rpo_s, report.rpo_limit_s).map(|rpo| rpo + &against));
    fact("Took", Some(report.parts()));
    fact(
        "Forecast",
        report.forecast.as_ref().and_then(|forecast| {
            let actual = Seconds(forecast.actual_s?);
            Some(format!("{} for restoring and replaying; it took {actual}", Seconds(forecast.predicted_s)))
        }),
    );
    fact("WAL", report.wal_bytes_per_hour.map(|rate| format!("{} in an hour", Bytes(rate as u64))));
    let why = if report.result == DrillResult::Interrupted { "Because" } else { "Failed" };
    for failure in &report.failures {
        fact(why, Some(failure.clone()));
    }
    fact("Hint", report.failure.as_ref().and_then(|failure| failure.hint.clone()));
    for note in &report.notes {
        fact("Note", Some(note.clone()));
    }
    let warnings = report.findings.iter().filter(|finding| finding.severity == Severity::Warning);
    for warning in warnings {
        fact("Warning", Some(warning.message.clone()));
    }
    fact(
        "Kept",
        report.kept.then(|| {
            let id = crate::plan::settings::shell_quote(&report.id);
            format!("{}; “walback discard {id}” removes it", report.directory.display())
        }),
    );
    fact("Report", Some(sealed.directory.join(document::HTML).display().to_string()));
    fact("SHA-256", Some(sealed.hash.clone()));
    let skipped = report.skipped.iter().map(|skipped| format!("not run: {}: {}", skipped.name, skipped.why));
    let checks = (!report.checks.is_empty()).then(|| checks(report));
    lines.into_iter().chain(checks.map(|table| format!("\n{table}"))).chain(skipped).collect::<Vec<_>>().join("\n")
}

fn checks(report: &DrillReport) -> String {
    let columns = [("CHECK", Align::Left), ("RESULT", Align::Left), ("VALUE", Align::Right), ("EXPECTED", Align::Left)];
    let mut table = Table::new(&columns);
    for check in &report.checks {
        let word = if check.passed { "passed" } else { "FAILED" };
        let none = if check.said.is_empty() { "null" } else { "?" };
        let value = check.value.clone().unwrap_or_else(|| none.to_owned());
        table.row(vec![check.name.clone(), word.to_owned(), value, check.expected.clone()]);
    }
    table.render()
}
