//! `walback check`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;

use crate::catalog::{Backup, Catalog};
use crate::core::progress::{Bytes, Pace, Seconds};
use crate::core::{SegmentName, Timestamp};
use crate::engine::archive::space;
use crate::engine::host::{Host, now};
use crate::engine::primary::archiver;
use crate::engine::verify::{Verified, verify};
use crate::error::{Error, ErrorKind, Result};
use crate::plan::archive::{Report, without_backups};
use crate::plan::archiving::{Against, Space};
use crate::plan::audit::{ArchiveFinding, Audit};
use crate::plan::primary::days_left;
use crate::plan::retention::{advice, newest, retention, too_old};
use crate::plan::{Finding, Severity};
use crate::source::inspect::inspect;
use crate::source::{LocalSource, Source};

use super::args::{CheckArgs, CheckFormat};
use super::watch::Bar;
use super::{Context, archive, print};
use checked::{BackupRow, Checked, LookedAt, PrimaryRow, SpaceRow, TimelineRow, alone, silent};

mod checked;
pub mod nagios;
mod prometheus;
mod words;

/// So many of the newest segments tell how much room a segment takes.
const SAMPLED: usize = 100;
const READ_AND_DAMAGED: &str = "reading all of it found damage";
/// So many names are said in one sentence.
const NAMED: usize = 4;

/// Looks for what is missing or damaged in the archive and the backups, and says what that means.
///
/// # Errors
/// When the source cannot be read, when it was interrupted, or when the result cannot be written.
pub fn run(context: &Context, args: &CheckArgs) -> Result<u8> {
    let format = format_of(context, args)?;
    // Before hours of reading: it would be a pity.
    let host = args.output.as_ref().map(|_| Host::new(context.config.read_only)).transpose()?;
    let checked = look(context, args)?;
    let status = if checked.worst() == Some(Severity::Error) { ErrorKind::Problems.exit_status() } else { 0 };
    let (text, status) = match format {
        CheckFormat::Text => {
            let colour = args.output.is_none() && context.config.colour.on(std::io::stdout().is_terminal());
            (words::describe(&checked, colour), status)
        }
        CheckFormat::Json => (json(&checked)?, status),
        CheckFormat::Nagios => nagios::line(&checked),
        CheckFormat::Prometheus => (prometheus::page(&checked), status),
    };
    match args.output.as_deref().zip(host) {
        // node_exporter and others read it as another user.
        Some((file, host)) => host.write_document(&absolute(file)?, &format!("{text}\n"), 0o644, true)?,
        None => print(&text)?,
    }
    Ok(status)
}

fn absolute(path: &Path) -> Result<PathBuf> {
    std::path::absolute(path).map_err(|error| {
        Error::usage("bad-path", format!("this path cannot be made absolute: {}", path.display())).caused_by(&error)
    })
}

fn format_of(context: &Context, args: &CheckArgs) -> Result<CheckFormat> {
    match args.format {
        Some(format) if context.json && format != CheckFormat::Json => {
            Err(Error::usage("usage", "--json and another --format are asked for at once")
                .hint("leave one of them out"))
        }
        Some(format) => Ok(format),
        None if context.json => Ok(CheckFormat::Json),
        None => Ok(CheckFormat::Text),
    }
}

/// Looks at everything.
fn look(context: &Context, args: &CheckArgs) -> Result<Checked> {
    let begun = Instant::now();
    let source: LocalSource = context.source()?;
    let config = context.config.source()?;
    // It is asked first: what the archive is listed to have later cannot seem to be behind it.
    let connection = args.primary.as_deref().or(config.primary.as_deref());
    let answer = connection.map(archiver);
    context.cancel.check()?;
    let catalog = archive::list(context, &source)?;
    let (catalog, overview) = match args.quick {
        true => (catalog, None),
        false => archive::read_all(context, &source, catalog).map(|(catalog, overview)| (catalog, Some(overview)))?,
    };
    let inspection = inspect(source.archives(), &catalog, &context.cancel)?;
    let verified = args.deep.then(|| read_backups(context, &catalog)).transpose()?;
    let mut catalog = catalog;
    leave_damaged_ones_out(&mut catalog, verified.as_deref().unwrap_or_default());
    let catalog = catalog;
    let thresholds = &context.config.thresholds;
    let zone = context.config.zone;
    let audit = Audit { catalog: &catalog, inspection: &inspection, overview: overview.as_ref(), zone };
    let report = Report::of(&audit);
    let at = now();
    let bytes_of = |names: &[SegmentName]| source.identities(names).into_iter().flatten().map(|file| file.bytes).sum();
    let retention = retention(&catalog, &bytes_of);

    let mut findings = audit.findings();
    // What is wrong with these is told one by one.
    findings.retain(|found| !found.finding.message.ends_with(READ_AND_DAMAGED));
    findings.extend(verified.iter().flatten().flat_map(|verified: &Verified| verified.findings.clone()));
    let spaces = space(source.archives().iter().chain(source.backups()));
    findings.extend(spaces.iter().filter_map(|space| space.finding(thresholds)).map(alone));
    if let Some(restore) = &config.restore.directory {
        findings.extend(room_to_restore(restore, &spaces, &source, &catalog, context).map(alone));
    }
    if !source.backups().is_empty() {
        findings.extend(without_backups(&report).map(alone));
    }
    findings.extend(too_old(&catalog, at, thresholds));
    findings.extend(advice(&catalog, &retention, &report.backups));
    findings.extend(left_alone(&catalog));
    let primary = answer.map(|answer| {
        let against = Against::newer(&catalog, thresholds);
        match &answer {
            Ok(archiver) => findings.extend(archiver.findings(&against).into_iter().map(alone)),
            Err(error) => findings.push(silent(error)),
        }
        answer.map(|archiver| {
            let mut row = PrimaryRow::of(archiver, &against, zone);
            findings.extend(growth(&mut row, &source, &catalog, &spaces).map(alone));
            row
        })
    });
    findings.sort_by_key(|found| (std::cmp::Reverse(found.finding.severity), found.timeline, found.lsn));
    Ok(Checked {
        source: config.name.clone(),
        zone,
        thresholds: *thresholds,
        at,
        took_s: begun.elapsed().as_secs_f64(),
        archive: LookedAt::of(&catalog, overview.as_ref()),
        timelines: TimelineRow::all(&report),
        backups: BackupRow::all(&catalog, &report, verified.as_deref()),
        backup_age_h: newest(&catalog, at).map(|(_, hours)| hours),
        space: spaces,
        primary,
        retention,
        verified,
        left_alone: catalog.left_alone,
        findings,
    })
}

/// What was read and is damaged cannot be recovered from: it is none of those that can be used.
fn leave_damaged_ones_out(catalog: &mut Catalog, verified: &[Verified]) {
    let is_damaged = |id: &str| verified.iter().any(|one| one.backup == id && one.damaged);
    let problem = |backup: &Backup| match catalog.chain_of(backup).into_iter().find(|of| is_damaged(&of.id)) {
        _ if is_damaged(&backup.id) => Some(READ_AND_DAMAGED.to_owned()),
        Some(parent) => Some(format!("it builds upon {}, which is damaged", parent.id)),
        None => None,
    };
    let problems: Vec<Option<String>> =
        catalog.backups.iter().map(|backup| problem(backup).filter(|_| backup.is_usable())).collect();
    for (backup, problem) in catalog.backups.iter_mut().zip(problems) {
        backup.problems.extend(problem);
    }
}

/// Reads all base backups to their ends, with a bar.
fn read_backups(context: &Context, catalog: &Catalog) -> Result<Vec<Verified>> {
    let bar = Bar::new("backups");
    let (mut pace, begun) = (Pace::default(), Instant::now());
    let verified = verify(&catalog.backups, &context.cancel, &mut |done, total| {
        pace.observe(begun.elapsed().as_secs_f64(), done);
        bar.show(done, Some(total), pace.per_second(), pace.eta_s(total));
    });
    bar.clear();
    verified
}

/// Whether there is room where recoveries go. Where that is the file system of an archive, its share was told already.
fn room_to_restore(
    restore: &Path,
    spaces: &[Space],
    source: &LocalSource,
    catalog: &Catalog,
    context: &Context,
) -> Option<Finding> {
    let there = restore.ancestors().find(|directory| directory.is_dir())?.to_path_buf();
    let own = space(source.archives().iter().chain(source.backups()).chain([&there])).len() > spaces.len();
    let room = space([&there].into_iter()).pop()?;
    let needed = newest(catalog, now()).and_then(|(backup, _)| backup.unpacked_bytes);
    let finding = room.finding_for_restore(needed, &context.config.thresholds)?;
    let lacks = room.bytes.as_ref().is_ok_and(|(free, _)| needed.is_some_and(|needed| needed > *free));
    (own || lacks).then_some(finding)
}

/// What lies between the base backups and is none.
fn left_alone(catalog: &Catalog) -> Option<ArchiveFinding> {
    let all = &catalog.left_alone;
    let named: Vec<String> =
        all.iter().take(NAMED).map(|left| format!("{}: {}", left.path.display(), left.why)).collect();
    let more = all.len().checked_sub(NAMED).filter(|more| *more > 0);
    let more = more.map(|more| format!("; and {more} more")).unwrap_or_default();
    let lie = match all.len() {
        1 => "lies 1 thing that is none".to_owned(),
        several => format!("lie {several} things that are none"),
    };
    let text = format!("between the base backups {lie}: {}{more}", named.join("; "));
    (!all.is_empty()).then(|| alone(Finding::note("left-alone", text)))
}

/// How long the room for the archive lasts, at the rate at which segments come.
fn growth(row: &mut PrimaryRow, source: &LocalSource, catalog: &Catalog, spaces: &[Space]) -> Option<Finding> {
    let archive = source.archives().first()?;
    let space = spaces.iter().find(|space| space.directories.contains(archive))?;
    let (free, _) = space.bytes.as_ref().ok()?;
    let newest: Vec<SegmentName> = catalog.segments.iter().rev().take(SAMPLED).copied().collect();
    let sizes: Vec<u64> = source.identities(&newest).into_iter().flatten().map(|file| file.bytes).collect();
    let each = sizes.iter().sum::<u64>() as f64 / (!sizes.is_empty()).then_some(sizes.len() as f64)?;
    let rate = row.segments_per_hour?;
    let days = days_left(*free, rate, each)?;
    row.space_days = Some(days);
    let lasts = if days < 2.0 { Seconds(days * 86400.0).to_string() } else { format!("{days:.0} days") };
    let text = format!(
        "{rate:.1} segments an hour are archived on average, each of {} here: the {} that are free where {} is last for about {lasts}",
        Bytes(each as u64),
        Bytes(*free),
        archive.display()
    );
    Some(Finding::note("archive-growth", text))
}

fn json(checked: &Checked) -> Result<String> {
    #[derive(Serialize)]
    struct Document<'a> {
        findings: &'a [ArchiveFinding],
        archive: &'a LookedAt,
        timelines: &'a [TimelineRow],
        backups: &'a [BackupRow],
        primary: Option<serde_json::Value>,
        space: Vec<SpaceRow<'a>>,
        retention: &'a [crate::plan::retention::Retention],
        verified: Option<&'a [Verified]>,
        left_alone: &'a [crate::catalog::LeftAlone],
        thresholds: serde_json::Value,
        at: Timestamp,
        took_s: f64,
    }
    let failed = |error: &serde_json::Error| {
        Error::failed("no-json", "the result cannot be written as JSON")
            .caused_by(error)
            .hint("a path that is not UTF-8 cannot; the lines without --json show it")
    };
    let primary = match &checked.primary {
        None => None,
        Some(Ok(row)) => Some(serde_json::to_value(row).map_err(|error| failed(&error))?),
        Some(Err(error)) => Some(error.to_json()),
    };
    let limits = |limits: crate::core::Limits| serde_json::json!([limits.warning, limits.critical]);
    let thresholds = serde_json::json!({
        "archive_lag_segments": limits(checked.thresholds.archive_lag_segments),
        "archive_lag_minutes": limits(checked.thresholds.archive_lag_minutes),
        "free_space_percent": limits(checked.thresholds.free_space_percent),
        "backup_age_hours": checked.thresholds.backup_age_hours.map(limits),
    });
    let document = Document {
        findings: &checked.findings,
        archive: &checked.archive,
        timelines: &checked.timelines,
        backups: &checked.backups,
        primary,
        space: checked.space.iter().map(SpaceRow::of).collect(),
        retention: &checked.retention,
        verified: checked.verified.as_deref(),
        left_alone: &checked.left_alone,
        thresholds,
        at: checked.at,
        took_s: checked.took_s,
    };
    serde_json::to_string_pretty(&document).map_err(|error| failed(&error))
}
