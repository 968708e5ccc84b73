//! `walback locate`

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::catalog::Backup;
use crate::config::{RestoreConfig, is_utf8_locale};
use crate::core::progress::counted;
use crate::core::{Target, TargetKind, Zone};
use crate::engine::host::now;
use crate::engine::{Preparation, Request};
use crate::error::Result;
use crate::pgdata::LogZone;
use crate::plan::stop_findings::stop_findings;
use crate::plan::suspects_kept::destroyed_by;
use crate::plan::way;
use crate::resolve::Resolved;

use super::args::TargetArgs;
use super::plan::{describe_place, describe_stop, write_findings};
use super::table::plain_lines;
use super::watch::Bar;
use super::{Context, print};

/// So many relations of a suspect are named.
const RELATIONS: usize = 3;

/// Says where a recovery to a target would stop.
///
/// # Errors
/// When the target cannot be reached, or the source cannot be read.
pub fn run(context: &Context, target: &TargetArgs, backup: Option<String>) -> Result<u8> {
    let zone = context.config.zone;
    let target = target.target(zone, now())?;
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
    let restore = RestoreConfig::default();
    let request = Request { target, backup, directory: PathBuf::new(), restore, pristine: None, make_way: false, zone };
    let resolved = preparation.locate(&request);
    bar.clear();
    let resolved = resolved?;
    let log_zone = log_zone(resolved.backups.first().and_then(|id| catalog.backup(id)));
    if context.json {
        context.print_json("resolved", &resolved)?;
    } else {
        print(&plain_lines(&describe(&request.target, &resolved, log_zone.as_ref(), zone)))?;
    }
    Ok(0)
}

fn describe(target: &Target, resolved: &Resolved, log_zone: Option<&LogZone>, zone: Zone) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut text, target, resolved, log_zone, zone);
    text.trim_end().to_owned()
}

fn write(
    out: &mut String,
    target: &Target,
    resolved: &Resolved,
    log_zone: Option<&LogZone>,
    zone: Zone,
) -> std::fmt::Result {
    writeln!(out, "Target     {}", target.in_words_on(zone, resolved.timeline))?;
    write_resolved(out, target, resolved, log_zone, zone)?;
    let findings = stop_findings(target, resolved, zone);
    let backups = match resolved.backups.split_first() {
        Some((best, [])) => best.clone(),
        Some((best, others)) => format!("{best}; also {}", others.join(", ")),
        None => "none".to_owned(),
    };
    writeln!(out, "Backup     {backups}")?;
    if !findings.is_empty() {
        writeln!(out, "\nFindings")?;
    }
    write_findings(out, &findings)
}

/// Where recovery stops, what it keeps, what it loses, and along which timelines it goes. The time at which it stops is
/// told in the zones in which an operator may meet it, too: in UTC, and as it stands in the server's log.
///
/// # Errors
/// When `out` cannot be written.
pub fn write_resolved(
    out: &mut String,
    target: &Target,
    resolved: &Resolved,
    log_zone: Option<&LogZone>,
    zone: Zone,
) -> std::fmt::Result {
    writeln!(out, "Stops      {}", describe_stop(resolved, zone))?;
    if let Some(at) = resolved.at {
        if at.utc_offset_s(zone) != 0 {
            writeln!(out, "           {} in UTC", at.in_zone(Zone::UTC).trim_end_matches(" +00:00"))?;
        }
        if let Some(log_zone) = log_zone {
            writeln!(out, "           {} in the server's log", log_zone.in_log(at))?;
        }
    }
    // That the end of WAL is a record goes without saying.
    if let Some(told) =
        resolved.told.as_ref().filter(|told| target.kind != TargetKind::Latest || told.action != target.action)
    {
        let action = if told.action == target.action { String::new() } else { format!("; then {}", told.action) };
        writeln!(out, "Told       PostgreSQL is told: {}{action}", told.in_words_on(zone, resolved.timeline))?;
    }
    writeln!(
        out,
        "Keeps      {}",
        describe_place(resolved.last_kept.as_ref(), "no transaction after the base backup", zone)
    )?;
    for what in destroyed_by(resolved, resolved.last_kept) {
        writeln!(out, "           ! it {}", what.in_full(RELATIONS))?;
    }
    writeln!(
        out,
        "Loses      {}",
        describe_place(resolved.first_lost.as_ref(), "nothing that is in the archive", zone)
    )?;
    for what in destroyed_by(resolved, resolved.first_lost) {
        writeln!(out, "           it {}", what.in_full(RELATIONS))?;
    }
    if let Some(commits) = resolved.commits_lost.filter(|commits| *commits > 1) {
        let last = describe_place(resolved.last_lost.as_ref(), "", zone);
        let until = resolved.counted_to.map(|to| format!(" up to {to}")).unwrap_or_default();
        writeln!(out, "           {} in all{until}, the last one: {last}", counted(commits, "commit"))?;
    }
    for other in &resolved.ambiguous {
        writeln!(out, "           at the very same time: {}", describe_place(Some(other), "", zone))?;
    }
    let drawn = if shows_unicode() { way::draw(resolved) } else { way::draw_ascii(resolved) };
    writeln!(out, "Timeline   {drawn}")
}

/// Whether more than ASCII can be shown.
fn shows_unicode() -> bool {
    is_utf8_locale(|name| std::env::var(name).ok())
}

/// The zone of the log of the server that a backup was taken from.
#[must_use]
pub fn log_zone(backup: Option<&Backup>) -> Option<LogZone> {
    LogZone::parse(backup?.log_timezone.as_deref()?)
}
