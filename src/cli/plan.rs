//! `walback plan`, and how a plan is told to people.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds};
use crate::engine::host::{Host, now};
use crate::engine::runbook::Runbook;
use crate::engine::{Preparation, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::{Finding, Plan, Pristine, Severity};
use crate::resolve::{Place, Resolved, StopSide};

use super::args::{RestoreArgs, ScriptArgs, TargetArgs};
use super::locate::{log_zone, write_resolved};
use super::table::{Align, Table, plain, plain_lines, wrapped};
use super::watch::Bar;
use super::{Context, note, print};

/// Says everything that a recovery would do.
///
/// # Errors
/// When the target cannot be reached, or the source cannot be read.
pub fn run(context: &Context, target: &TargetArgs, restore: &RestoreArgs, script: &ScriptArgs) -> Result<u8> {
    let plan = make(context, target, restore)?;
    if let Some(file) = &script.script {
        write_runbook(context, &plan, file, script.yes)?;
    }
    if context.json {
        context.print_json("plan", &plan)?;
    } else {
        print(&plain_lines(&describe(&plan, context.config.zone)))?;
    }
    Ok(if plan.is_forbidden() { ErrorKind::Problems.exit_status() } else { 0 })
}

/// Writes the runbook: a shell script, and the same as Markdown beside it. A plan that cannot work has none.
fn write_runbook(context: &Context, plan: &Plan, file: &Path, replace: bool) -> Result<()> {
    let host = Host::new(context.config.read_only)?;
    if plan.is_forbidden() {
        note("warning: no runbook was written: a finding forbids this recovery");
        return Ok(());
    }
    let runbook = Runbook::at(file);
    runbook.write(&host, plan, context.config.zone, replace)?;
    let (script, document) = (runbook.script.display().to_string(), runbook.document.display().to_string());
    note(&format!("runbook: {} and {}", plain(&script), plain(&document)));
    Ok(())
}

/// Makes the plan that a command line asks for.
///
/// # Errors
/// When the target cannot be reached, or the source cannot be read.
pub fn make(context: &Context, target: &TargetArgs, restore: &RestoreArgs) -> Result<Plan> {
    let target = target.target(context.config.zone, now())?;
    let configured = context.config.source_to_restore()?.restore.clone();
    let directory = directory(context, restore)?;
    let mut settings = configured.settings;
    settings.extend(restore.settings.iter().cloned());
    let tablespaces = configured.tablespaces.into_iter().chain(restore.tablespaces.iter().cloned()).collect();
    let request = Request {
        target,
        backup: restore.backup.clone(),
        directory,
        restore: crate::config::RestoreConfig {
            directory: None,
            port: restore.port.or(configured.port),
            bin_dir: restore.bin_dir.clone().or(configured.bin_dir),
            run_as: restore.run_as.clone().or(configured.run_as),
            role: restore.role.clone().or(configured.role),
            settings,
            tablespaces,
        },
        pristine: restore.keep_pristine.map(Pristine::from),
        make_way: restore.make_way,
        zone: context.config.zone,
    };
    let (source, catalog) = context.catalog()?;
    let recoveries = context.recoveries();
    let bar = Bar::new("reading WAL");
    let preparation = Preparation {
        source: &source,
        catalog: &catalog,
        recoveries: &recoveries,
        cache: context.config.cache_directory.as_deref(),
        names: &Mutex::default(),
        progress: &|bytes| bar.show(bytes, None, None, None),
        cancel: &context.cancel,
    };
    let plan = preparation.plan(&request);
    bar.clear();
    plan
}

fn directory(context: &Context, restore: &RestoreArgs) -> Result<PathBuf> {
    let configured = context.config.source()?.restore.directory.clone();
    let wanted = restore.into.clone().or(configured).ok_or_else(|| {
        Error::usage("no-directory", "it is not said into which directory the recovery shall go")
            .hint("give a new directory with --into DIR")
    })?;
    std::path::absolute(&wanted)
        .map_err(|error| Error::usage("bad-path", format!("this is no path: {}", wanted.display())).caused_by(&error))
}

/// A plan in words.
#[must_use]
pub fn describe(plan: &Plan, zone: Zone) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_plan(&mut text, plan, zone);
    text.trim_end().to_owned()
}

fn write_plan(out: &mut String, plan: &Plan, zone: Zone) -> std::fmt::Result {
    let resolved = &plan.resolved;
    writeln!(out, "Recovery   {} into {}", plan.recovery, plan.directory.display())?;
    if let Some(former) = &plan.make_way {
        writeln!(out, "Renamed    what is there, to {}", former.to.display())?;
    }
    writeln!(out, "Target     {}", plan.target.in_words_on(zone, resolved.timeline))?;
    write_resolved(out, &plan.target, resolved, log_zone(Some(&plan.backup)).as_ref(), zone)?;
    let backup = &plan.backup;
    let begun =
        backup.started_at.map(|at| format!(", begun {}", at.in_zone(zone).replace(".000000", ""))).unwrap_or_default();
    writeln!(
        out,
        "Backup     {}, {}, PostgreSQL {}{begun}",
        backup.id,
        super::backups::describe_kind(backup),
        plan.server.major
    )?;
    for command in &plan.commands {
        writeln!(out, "WAL by     {}", plain(&command.fetch.command))?;
    }
    for (number, tablespace) in plan.tablespaces.iter().enumerate() {
        let word = if number == 0 { "Tablespaces" } else { "" };
        writeln!(out, "{word:<11} {} into {}", tablespace.oid, tablespace.to.display())?;
    }
    writeln!(out, "Work       {}", describe_estimate(plan))?;
    writeln!(
        out,
        "Server     port {}, user {}, programs in {}",
        plan.server.port,
        plan.server.run_as,
        plan.server.bin_dir.display()
    )?;
    if plan.candidates.len() > 1 {
        writeln!(out, "\nBase backups\n{}", describe_candidates(plan))?;
    }
    writeln!(out, "\nFindings")?;
    if plan.findings.iter().all(|finding| finding.severity == Severity::Note) {
        writeln!(out, "  nothing speaks against it")?;
    }
    write_findings(out, &plan.findings)?;
    writeln!(out, "\nSettings, in postgresql.auto.conf")?;
    for (name, value) in &plan.settings {
        writeln!(out, "  {name} = '{}'", value.replace('\'', "''"))?;
    }
    writeln!(out, "\nSteps")?;
    for (number, step) in plan.steps.iter().enumerate() {
        writeln!(out, "  {}. {}", number + 1, step.title)?;
        for command in &step.commands {
            writeln!(out, "       {command}")?;
        }
    }
    Ok(())
}

/// Findings, each with its hint.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_findings(out: &mut String, findings: &[Finding]) -> std::fmt::Result {
    for finding in findings {
        writeln!(out, "  {}: {} [{}]", finding.severity, finding.message, finding.code)?;
        if let Some(hint) = &finding.hint {
            writeln!(out, "    hint: {hint}")?;
        }
    }
    Ok(())
}

/// Says on standard error what is to be known before a plan is carried out: once more, where the plan was shown and
/// is long.
pub fn say_findings(plan: &Plan) {
    let mut text = String::new();
    for finding in plan.findings.iter().filter(|finding| finding.severity != Severity::Note) {
        let _ = writeln!(text, "{}: {}", finding.severity, finding.message);
        if let Some(hint) = &finding.hint {
            let _ = writeln!(text, "  hint: {hint}");
        }
    }
    if !text.is_empty() {
        note(plain_lines(&text).trim_end());
    }
}

/// Where recovery stops, in words.
#[must_use]
pub fn describe_stop(resolved: &Resolved, zone: Zone) -> String {
    let at = resolved.at.map(|at| format!(", {}", at.in_zone(zone))).unwrap_or_default();
    let lsn = resolved.lsn;
    if let Some((what, xid)) = resolved.before_it_began() {
        return format!("just before {}, LSN {lsn}", what.of(xid));
    }
    match (resolved.stop, resolved.xid, &resolved.name) {
        (StopSide::EndOfWal, ..) => format!("after the last record in the archive, LSN {lsn}"),
        (StopSide::Consistency, ..) => format!("as soon as the data is consistent, LSN {}", resolved.consistent_at),
        (side, Some(xid), _) => format!("just {} the end of transaction {xid}, LSN {lsn}{at}", word(side)),
        (_, None, Some(name)) => format!("at restore point “{}”, LSN {lsn}{at}", plain(name)),
        (side, None, None) => format!("just {} the record at LSN {lsn}", word(side)),
    }
}

fn word(side: StopSide) -> &'static str {
    if side == StopSide::Before { "before" } else { "after" }
}

/// A transaction in words.
#[must_use]
pub fn describe_place(place: Option<&Place>, none: &str, zone: Zone) -> String {
    let Some(place) = place else { return none.to_owned() };
    let xid = place.xid.map(|xid| format!("transaction {xid}, ")).unwrap_or_default();
    let at = place.at.map(|at| format!(", {}", at.in_zone(zone))).unwrap_or_default();
    format!("{xid}LSN {}{at}", place.lsn)
}

fn describe_estimate(plan: &Plan) -> String {
    let estimate = &plan.estimate;
    let about = |seconds: Option<f64>| match seconds {
        Some(seconds) => format!("about {}", Seconds(seconds)),
        None => "time not known".to_owned(),
    };
    let parts = match (estimate.unpack_s, estimate.replay_s) {
        (Some(unpack), Some(replay)) => format!(" ({} and {})", Seconds(unpack), Seconds(replay)),
        _ => String::new(),
    };
    let free = match estimate.free_after_bytes {
        Some(bytes) => format!("; {} will be left free", Bytes(bytes)),
        None => String::new(),
    };
    let basis = wrapped("           ", &estimate.basis);
    format!("{}\n           {}{parts}{free}\n{basis}", estimate.amounts(), about(estimate.total_s))
}

/// The base backups that lead to the target, with what each takes, and the others with why they do not.
fn describe_candidates(plan: &Plan) -> String {
    let mut table = Table::new(&[
        ("  BACKUP", Align::Left),
        ("UNPACK", Align::Right),
        ("WAL", Align::Right),
        ("SEGMENTS", Align::Right),
        ("TIME", Align::Right),
        ("", Align::Left),
    ]);
    let mut others = Vec::new();
    for candidate in &plan.candidates {
        let chosen = candidate.backup == plan.backup.id;
        match (&candidate.estimate, &candidate.why_not) {
            (Some(estimate), None) => table.row(vec![
                format!("  {}", candidate.backup),
                Bytes(estimate.unpack_bytes).to_string(),
                Bytes(estimate.wal_bytes).to_string(),
                estimate.wal_segments.to_string(),
                estimate.total_s.map_or("-".to_owned(), |seconds| Seconds(seconds).to_string()),
                if chosen { "chosen".to_owned() } else { String::new() },
            ]),
            (_, why_not) => {
                let why_not = plain(why_not.as_deref().unwrap_or("it was not looked at"));
                others.push(wrapped("  ", &format!("not {}: {why_not}", plain(&candidate.backup))));
            }
        }
    }
    std::iter::once(table.render()).chain(others).collect::<Vec<_>>().join("\n")
}
