//! What came of a check, for every form in which it is told.

use std::path::PathBuf;

use serde::Serialize;

use crate::catalog::{Catalog, LeftAlone, Overview};
use crate::core::{Thresholds, TimelineId, Timestamp, Zone};
use crate::engine::verify::Verified;
use crate::error::Error;
use crate::plan::archive::{Holding, Report};
use crate::plan::archiving::{Against, Archiver, Space};
use crate::plan::audit::{ArchiveFinding, worst};
use crate::plan::primary::{Details, per_hour};
use crate::plan::retention::Retention;
use crate::plan::{Finding, Severity};

/// Everything that a check came to.
pub(super) struct Checked {
    /// The source's name.
    pub(super) source: String,
    pub(super) zone: Zone,
    pub(super) thresholds: Thresholds,
    /// When it ended.
    pub(super) at: Timestamp,
    pub(super) took_s: f64,
    /// The worst first.
    pub(super) findings: Vec<ArchiveFinding>,
    pub(super) archive: LookedAt,
    pub(super) timelines: Vec<TimelineRow>,
    pub(super) backups: Vec<BackupRow>,
    /// Hours since the newest base backup that can be used.
    pub(super) backup_age_h: Option<f64>,
    pub(super) space: Vec<Space>,
    /// `None` where no primary is named.
    pub(super) primary: Option<Result<PrimaryRow, Error>>,
    pub(super) retention: Vec<Retention>,
    /// `None` without `--deep`.
    pub(super) verified: Option<Vec<Verified>>,
    pub(super) left_alone: Vec<LeftAlone>,
}

impl Checked {
    pub(super) fn worst(&self) -> Option<Severity> {
        worst(&self.findings)
    }

    pub(super) fn count(&self, severity: Severity) -> u64 {
        self.findings.iter().filter(|found| found.finding.severity == severity).count() as u64
    }
}

/// What was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct LookedAt {
    pub(super) segments: u64,
    pub(super) bytes: u64,
    pub(super) timelines: u64,
    pub(super) backups: u64,
    /// Null where segments were not read.
    pub(super) commits: Option<u64>,
    pub(super) first_commit_at: Option<Timestamp>,
    pub(super) last_commit_at: Option<Timestamp>,
}

impl LookedAt {
    pub(super) fn of(catalog: &Catalog, overview: Option<&Overview>) -> LookedAt {
        let segments = overview.map(|overview| overview.segments.as_slice()).unwrap_or_default();
        LookedAt {
            segments: catalog.segments.len() as u64,
            bytes: catalog.segments.len() as u64 * catalog.segment_size.bytes(),
            timelines: catalog.timelines.len() as u64,
            backups: catalog.backups.len() as u64,
            commits: overview.map(|_| segments.iter().map(|segment| u64::from(segment.commits)).sum()),
            first_commit_at: segments.iter().filter_map(|segment| segment.earliest).min(),
            last_commit_at: segments.iter().filter_map(|segment| segment.latest).max(),
        }
    }
}

/// One timeline in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct TimelineRow {
    pub(super) id: TimelineId,
    pub(super) segments: u64,
    pub(super) missing: u64,
    pub(super) damaged: u64,
    pub(super) last_commit_at: Option<Timestamp>,
}

impl TimelineRow {
    pub(super) fn all(report: &Report) -> Vec<TimelineRow> {
        let row = |timeline: &crate::plan::archive::Continuity| TimelineRow {
            id: timeline.timeline,
            segments: timeline.segments,
            missing: timeline.count(Holding::Missing),
            damaged: timeline.count(Holding::Damaged),
            last_commit_at: timeline.last_at,
        };
        report.timelines.iter().map(row).collect()
    }
}

/// One base backup in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct BackupRow {
    pub(super) id: String,
    /// Whether it can be recovered from: nothing is wrong with it, as far as was looked, and the WAL that it needs is there.
    pub(super) usable: bool,
    pub(super) size_bytes: u64,
    pub(super) started_at: Option<Timestamp>,
    pub(super) finished_at: Option<Timestamp>,
    /// What came of reading all of it; null without `--deep`.
    pub(super) verified: Option<bool>,
}

impl BackupRow {
    pub(super) fn all(catalog: &Catalog, report: &Report, verified: Option<&[Verified]>) -> Vec<BackupRow> {
        let row = |backup: &crate::catalog::Backup| {
            let needs = report.backups.iter().find(|needs| needs.backup == backup.id);
            let verified = verified.and_then(|all| all.iter().find(|one| one.backup == backup.id));
            let verified = verified.map(|verified| verified.passed);
            BackupRow {
                id: backup.id.clone(),
                usable: needs.is_some_and(crate::plan::archive::Needs::is_recoverable),
                size_bytes: backup.size_bytes,
                started_at: backup.started_at,
                finished_at: backup.finished_at,
                verified,
            }
        };
        catalog.backups.iter().map(row).collect()
    }
}

/// A file system in figures.
#[derive(Debug, Serialize)]
pub(super) struct SpaceRow<'a> {
    directories: &'a [PathBuf],
    free_bytes: Option<u64>,
    size_bytes: Option<u64>,
    free_percent: Option<u64>,
    error: Option<&'a str>,
}

impl<'a> SpaceRow<'a> {
    pub(super) fn of(space: &'a Space) -> SpaceRow<'a> {
        let room = space.bytes.as_ref().ok();
        SpaceRow {
            directories: &space.directories,
            free_bytes: room.map(|(free, _)| *free),
            size_bytes: room.map(|(_, size)| *size),
            free_percent: space.percent(),
            error: space.bytes.as_ref().err().map(String::as_str),
        }
    }
}

/// What the primary says, in figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct PrimaryRow {
    pub(super) archive_mode: String,
    pub(super) in_recovery: bool,
    pub(super) system_identifier: Option<String>,
    pub(super) current_wal: Option<String>,
    pub(super) archived_count: u64,
    pub(super) last_archived_wal: Option<String>,
    pub(super) last_archived_at: Option<Timestamp>,
    pub(super) failed_count: u64,
    pub(super) last_failed_wal: Option<String>,
    pub(super) last_failed_at: Option<Timestamp>,
    pub(super) stats_reset: Option<Timestamp>,
    /// Whether the last attempt failed.
    pub(super) failing: bool,
    /// Segments that wait to be archived, and for how long the oldest has.
    pub(super) lag_segments: Option<u64>,
    pub(super) lag_seconds: Option<f64>,
    /// Segments that it has archived and that are not here.
    pub(super) behind_segments: Option<u64>,
    pub(super) segments_per_hour: Option<f64>,
    pub(super) wal_bytes_per_hour: Option<f64>,
    /// Days for which the room of the first archive lasts at this rate.
    pub(super) space_days: Option<f64>,
    #[serde(flatten)]
    pub(super) details: Details,
    #[serde(skip)]
    pub(super) said: Vec<String>,
}

impl PrimaryRow {
    pub(super) fn of(archiver: Archiver, against: &Against<'_>, zone: Zone) -> PrimaryRow {
        let rate = |now: Timestamp| per_hour(archiver.archived, now, archiver.since?);
        let is_own = archiver.system_identifier.zip(against.cluster).is_none_or(|(theirs, ours)| theirs == ours);
        let mut said = archiver.in_words(against.size, zone);
        said.extend(archiver.details.in_words(archiver.now, zone));
        PrimaryRow {
            failing: archiver.is_failing(),
            lag_segments: archiver.waiting(against.size),
            lag_seconds: archiver.waiting_s(against.size),
            behind_segments: archiver.behind_segments(against).filter(|_| is_own),
            segments_per_hour: archiver.now.and_then(rate),
            wal_bytes_per_hour: archiver.details.bytes_per_hour(archiver.now),
            space_days: None,
            archive_mode: archiver.mode,
            in_recovery: archiver.in_recovery,
            system_identifier: archiver.system_identifier.map(|id| id.to_string()),
            current_wal: archiver.current_wal,
            archived_count: archiver.archived,
            last_archived_wal: archiver.last_wal,
            last_archived_at: archiver.last_at,
            failed_count: archiver.failed,
            last_failed_wal: archiver.last_failed_wal,
            last_failed_at: archiver.last_failed_at,
            stats_reset: archiver.since,
            details: *archiver.details,
            said,
        }
    }
}

/// A primary that was to be asked, and did not answer: nobody knows whether archiving goes on.
pub(super) fn silent(error: &Error) -> ArchiveFinding {
    let finding = Finding::error("primary-silent", error.in_words());
    alone(Finding { hint: error.report().hint.clone(), ..finding })
}

/// A finding that is about no place in WAL.
pub(super) fn alone(finding: Finding) -> ArchiveFinding {
    ArchiveFinding { finding, timeline: None, file: None, lsn: None }
}
