//! Reads base backups to their ends, and says of each whether it is as it was when it was made. Writes nothing.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::catalog::Backup;
use crate::core::progress::{Bytes, counted};
use crate::error::{Error, Result};
use crate::plan::audit::ArchiveFinding;
use crate::plan::{Finding, Severity};
use crate::source::Cancel;
use crate::source::compress::Count;

use super::steps::unpack::reading::{self, Found};

/// Progress is told so often.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// So many files of a backup are told one by one; of the others, how many there are.
const TOLD: usize = 20;
/// So many names are said in one sentence.
const NAMED: usize = 5;
const ANOTHER: &str =
    "take a new base backup now, and keep the older ones until it is proved; pg_verifybackup checks one as well";

/// What a base backup was held against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum By {
    /// Its manifest: every file's size and checksum, and that none is missing.
    Manifest,
    /// Nothing but itself: it was read to its end, and its control file is whole.
    Reading,
}

/// What came of one base backup.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verified {
    /// Its id.
    pub backup: String,
    /// Whether nothing is wrong with it.
    pub passed: bool,
    /// Whether something is, so that it cannot be recovered from.
    pub damaged: bool,
    /// What it was held against.
    pub by: By,
    /// Files that were read.
    pub files: u64,
    /// Bytes that were read of it, as it lies there.
    pub bytes: u64,
    /// What is to be said of it.
    #[serde(skip)]
    pub findings: Vec<ArchiveFinding>,
}

/// Reads all of these backups, several at a time, on all cores. `progress` hears of the bytes that were read and of all.
///
/// # Errors
/// When it was cancelled.
pub fn verify(backups: &[Backup], cancel: &Cancel, progress: &mut dyn FnMut(u64, u64)) -> Result<Vec<Verified>> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let workers = cores.min(backups.len()).max(1);
    let threads = (cores / workers).max(1);
    let total = backups.iter().flat_map(|backup| &backup.parts).map(|part| part.size_bytes).sum();
    let counts: Vec<Count> = backups.iter().map(|_| Count::default()).collect();
    let (next, results) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        let handles: Vec<_> = (0..workers)
            .map(|_| {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some((backup, count)) = backups.get(place).zip(counts.get(place)) else { return Ok(()) };
                        let found = reading::read(backup, threads, count, cancel)?;
                        let verified = judge(backup, count.bytes(), found);
                        results.lock().unwrap_or_else(PoisonError::into_inner).push((place, verified));
                    }
                })
            })
            .collect();
        while !handles.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            std::thread::sleep(TELL_EVERY);
            let done = counts.iter().map(Count::bytes).sum::<u64>();
            progress(done.min(total), total);
        }
        handles.into_iter().try_for_each(|handle| match handle.join() {
            Ok(ended) => ended,
            Err(panic) => std::panic::resume_unwind(panic),
        })
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_by_key(|(place, _)| *place);
    Ok(results.into_iter().map(|(_, verified)| verified).collect())
}

fn judge(backup: &Backup, bytes: u64, found: Found) -> Verified {
    let mut findings = Vec::new();
    findings.extend(found.bad_manifest.as_ref().map(|error| of_error(backup, error)));
    findings.extend(found.problems.iter().take(TOLD).map(|error| of_error(backup, error)));
    if let Some(more) = found.problems.len().checked_sub(TOLD).filter(|more| *more > 0) {
        let text = format!("the base backup {} has {} more", backup.id, counted(more as u64, "damaged file"));
        findings.push(Finding::error("backup-damaged", text).hint(ANOTHER));
    }
    findings.extend(control(backup, &found));
    if !found.missing.is_empty() {
        let unread = found.problems.iter().any(|error| error.report().code == "backup-broken");
        let why = if unread { "are missing, or lie behind what cannot be read" } else { "are missing" };
        let text = format!(
            "the base backup {} is not whole: {} that its manifest names {why}: {}",
            backup.id,
            counted(found.missing.len() as u64, "file"),
            listed(&found.missing, found.missing.len() as u64)
        );
        findings.push(Finding::error("backup-damaged", text).hint(ANOTHER));
    }
    if found.extra.1 > 0 {
        let (extra, extras) = &found.extra;
        let text = format!(
            "the base backup {} has {} that its manifest does not know: {}",
            backup.id,
            counted(*extras, "file"),
            listed(extra, *extras)
        );
        findings.push(Finding::warning("backup-has-more", text).hint("find out who put them there"));
    }
    findings.extend(pages(backup, &found));
    let passed = findings.iter().all(|finding| finding.severity < Severity::Warning);
    let damaged = findings.iter().any(|finding| finding.severity == Severity::Error);
    let by = if found.manifest { By::Manifest } else { By::Reading };
    findings.extend(passed.then(|| whole(backup, bytes, &found)));
    let findings = findings.into_iter().map(|finding| of_backup(backup, finding)).collect();
    Verified { backup: backup.id.clone(), passed, damaged, by, files: found.files, bytes, findings }
}

/// What is said of a backup that nothing is wrong with.
fn whole(backup: &Backup, bytes: u64, found: &Found) -> Finding {
    let read = format!("{} in {}", counted(found.files, "file"), Bytes(bytes));
    if found.manifest {
        let links = match found.links {
            0 => String::new(),
            links => format!("; {} were not compared", counted(links, "hard link")),
        };
        let text = format!("the base backup {} is as its manifest says: {read}, every one read{links}", backup.id);
        return Finding::note("backup-verified", text);
    }
    let known = match &found.control {
        Some(Ok(control)) if control.data_checksums => {
            "its pages have the checksums that they should have, and of everything else"
        }
        _ => "of its files",
    };
    let text = format!(
        "the base backup {} can be read to its end ({read}), and has no manifest: {known} nobody can tell whether it is as it was",
        backup.id
    );
    Finding::note("backup-unverified", text).hint("take base backups with pg_basebackup, which writes one")
}

/// What pages tell where there is no manifest, and the cluster has checksums.
fn pages(backup: &Backup, found: &Found) -> Option<Finding> {
    let has_checksums = matches!(&found.control, Some(Ok(control)) if control.data_checksums);
    let wrong = found.wrong_pages.iter().map(|(_, pages)| pages).sum();
    let names: Vec<String> =
        found.wrong_pages.iter().map(|(name, _)| name.to_string_lossy().escape_debug().to_string()).collect();
    let text = format!(
        "the base backup {} has {} with a wrong checksum, in {}; one that was written while the backup was made may look like that, and is mended by WAL",
        backup.id,
        counted(wrong, "page"),
        listed(&names, names.len() as u64)
    );
    (has_checksums && wrong > 0).then(|| {
        Finding::warning("page-checksum", text)
            .hint("recover it once and look at these relations with pg_amcheck; or rely on another backup")
    })
}

/// What is wrong with `global/pg_control`: the server would not start.
fn control(backup: &Backup, found: &Found) -> Option<Finding> {
    let text = match &found.control {
        Some(Ok(control)) => {
            let expected = backup.system_identifier.filter(|expected| *expected != control.system_identifier)?;
            format!(
                "the base backup {} has the control file of another cluster: its system identifier is {}, and that of the backup {expected}",
                backup.id, control.system_identifier
            )
        }
        Some(Err(bad)) => format!("the base backup {} is damaged: global/pg_control: {bad}", backup.id),
        None if found.problems.is_empty() && found.missing.is_empty() => {
            format!("the base backup {} has no global/pg_control: no server starts from it", backup.id)
        }
        None => return None,
    };
    Some(Finding::error("backup-damaged", text).hint(ANOTHER))
}

/// An error of reading, as a finding.
fn of_error(backup: &Backup, error: &Error) -> Finding {
    let (report, text) = (error.report(), error.in_words());
    let text = if text.contains(&backup.id) { text } else { format!("{}: {text}", backup.id) };
    let finding = match report.code {
        "manifest-broken" => Finding::error("manifest-broken", text),
        "backup-suspicious" => Finding::error("backup-suspicious", text),
        "backup-damaged" => Finding::error("backup-damaged", text),
        "backup-changes" => {
            return Finding::warning("backup-changes", text)
                .hint("is it still being made? check again when it is complete");
        }
        _ => Finding::error("backup-broken", text),
    };
    finding.hint(ANOTHER)
}

fn of_backup(backup: &Backup, finding: Finding) -> ArchiveFinding {
    ArchiveFinding { finding, timeline: backup.timeline, file: None, lsn: None }
}

fn listed(names: &[String], all: u64) -> String {
    let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.saturating_sub(NAMED as u64) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}
