//! Whether the WAL on the way can be had and be replayed.

use std::path::Path;

use crate::catalog::Gap;
use crate::core::progress::counted;
use crate::core::{Lsn, PgMajor};
use crate::plan::Finding;
use crate::plan::settings::shell_quote;
use crate::resolve::{ObstacleKind, Resolved, StopSide};

use super::HostFacts;

/// Segments that are missing between the base backup and the target, or the end of the archive where that is the target.
#[must_use]
pub fn wal_missing(missing: &[Gap], resolved: &Resolved) -> Option<Finding> {
    let first = missing.first()?;
    let total: u64 = missing.iter().map(|gap| gap.segments).sum();
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(", and {}", counted(more as u64, "more gap")),
    };
    let are = if total == 1 { "is" } else { "are" };
    let segments = counted(total, "segment");
    let remedy = "add the archive that has them with another --wal, such as the pg_wal of the old server";
    let (end, hint) = match resolved.stop {
        StopSide::EndOfWal => (
            "the end of the archive",
            format!(
                "{remedy}; or stop at the last record before the gap with --lsn {} --timeline {}",
                resolved.lsn,
                resolved.path.last().copied().unwrap_or(resolved.timeline)
            ),
        ),
        _ => ("the target", remedy.to_owned()),
    };
    let message = format!("{segments} between the base backup and {end} {are} missing, or cut off: {first}{more}");
    Some(Finding::error("wal-missing", message).hint(hint))
}

/// What lies on the way and this server cannot replay, or must not. `settings` are the operator's own.
#[must_use]
pub fn obstacles(resolved: &Resolved, major: PgMajor, settings: &[(String, String)]) -> Vec<Finding> {
    let preloaded = settings.iter().any(|(name, value)| name == PRELOADED && !value.is_empty());
    let judge = |obstacle: &crate::resolve::Obstacle| match &obstacle.kind {
        ObstacleKind::TablespaceCreated { oid, location } => Some(tablespace_created(*oid, location, obstacle.lsn)),
        ObstacleKind::WalLevelMinimal => Some(wal_level_minimal(obstacle.lsn, major)),
        ObstacleKind::Extension(_) if preloaded => None,
        ObstacleKind::Extension(rmgr) => Some(extension_records(*rmgr, obstacle.lsn)),
    };
    resolved.obstacles.iter().filter_map(judge).collect()
}

const PRELOADED: &str = "shared_preload_libraries";

fn stop_before(lsn: Lsn) -> String {
    format!("--lsn {lsn} --exclusive stops before it")
}

fn tablespace_created(oid: u32, location: &str, lsn: Lsn) -> Finding {
    let message = format!(
        "the tablespace {oid} was made at {lsn}, between the base backup and the stop: replay would make it at the same place on this machine, {location}"
    );
    let hint = format!("take a base backup that was made after it; or an earlier target: {}", stop_before(lsn));
    Finding::error("tablespace-created", message).hint(hint)
}

fn wal_level_minimal(lsn: Lsn, major: PgMajor) -> Finding {
    let refuses = if major.refuses_minimal_wal() {
        "the server refuses to recover beyond that"
    } else {
        "the server would go on beyond that, and data would be missing without a word"
    };
    let message = format!("from {lsn} on WAL was written with wal_level = minimal, which leaves data out: {refuses}");
    let hint = format!("take a base backup that was made after it; or an earlier target: {}", stop_before(lsn));
    Finding::error("wal-level-minimal", message).hint(hint)
}

fn extension_records(rmgr: u8, lsn: Lsn) -> Finding {
    let message = format!(
        "there are records of an extension on the way, the first at {lsn} (resource manager {rmgr}): a server that has not loaded it ends there"
    );
    let hint = format!("have the extension's library loaded: --set {PRELOADED}=NAME, as production has it");
    Finding::error("extension-records", message).hint(hint)
}

/// WAL that is in no archive, and servers that still write what is used as one.
pub(super) fn living(host: &HostFacts, resolved: &Resolved) -> Vec<Finding> {
    let runs = host.running_sources.iter().map(|directory| {
        let message = format!("a server runs in {}, whose pg_wal is used as an archive", directory.display());
        Finding::note("source-server-runs", message)
            .hint("its newest segment is still being written, and it removes old ones: stop it, or have it archive")
    });
    let mut findings: Vec<Finding> = runs.collect();
    if resolved.stop == StopSide::EndOfWal {
        let unarchived = host.unarchived.iter().map(|wal| {
            let message = format!(
                "the archive ends before the WAL does: {} has newer segments, up to {}",
                wal.directory.display(),
                wal.newest
            );
            Finding::warning("wal-in-pg-wal", message).hint(add_wal(&wal.directory))
        });
        findings.extend(unarchived);
    }
    findings
}

/// What the advice begins with to add WAL that was never archived.
pub const ADD_UNARCHIVED: &str = "add it with another --wal";

/// How WAL that was never archived is added.
#[must_use]
pub fn add_wal(directory: &Path) -> String {
    format!("{ADD_UNARCHIVED}: --wal {}", shell_quote(&directory.display().to_string()))
}
