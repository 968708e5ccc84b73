//! `walback backups`

use std::fmt::Write as _;

use crate::catalog::{Backup, LeftAlone};
use crate::core::progress::Bytes;
use crate::error::Result;

use super::table::{Align, Table, plain};
use super::{Context, print};

/// So much that is no backup is shown.
const SHOWN: usize = 10;

/// Lists base backups, the newest first; broken ones with what is broken.
///
/// # Errors
/// When the source cannot be read.
pub fn run(context: &Context) -> Result<u8> {
    let (_, catalog) = context.catalog()?;
    if context.json {
        #[derive(serde::Serialize)]
        struct Listed<'c> {
            backups: &'c [Backup],
            left_alone: &'c [LeftAlone],
        }
        context.print_document(&Listed { backups: &catalog.backups, left_alone: &catalog.left_alone })?;
        return Ok(0);
    }
    let mut table = Table::new(&[
        ("BACKUP", Align::Left),
        ("BEGUN", Align::Left),
        ("TLI", Align::Right),
        ("START", Align::Left),
        ("STOP", Align::Left),
        ("PG", Align::Right),
        ("KIND", Align::Left),
        ("SIZE", Align::Right),
        ("STATE", Align::Left),
    ]);
    for backup in &catalog.backups {
        table.row(row(context, backup));
    }
    print(&table.render())?;
    for backup in catalog.backups.iter().filter(|backup| !backup.is_usable()) {
        print(&format!("\n{}: {}", plain(&backup.id), plain(&backup.location.display().to_string())))?;
        for problem in &backup.problems {
            print(&format!("  {}", plain(problem)))?;
        }
    }
    if !catalog.left_alone.is_empty() {
        print(&left_alone(&catalog.left_alone))?;
    }
    Ok(0)
}

/// What lies beside the backups and is none, a line for each, and of many how many more there are.
fn left_alone(left: &[LeftAlone]) -> String {
    let mut text = "\nLeft alone, since these are no backups:".to_owned();
    for one in left.iter().take(SHOWN) {
        let _ = write!(text, "\n  {}: {}", plain(&one.path.display().to_string()), plain(&one.why));
    }
    if left.len() > SHOWN {
        let _ = write!(text, "\n  and {} more; --json has them all", left.len() - SHOWN);
    }
    text
}

fn row(context: &Context, backup: &Backup) -> Vec<String> {
    let known = |text: Option<String>| text.unwrap_or_else(|| "?".to_owned());
    vec![
        backup.id.clone(),
        known(backup.started_at.map(|at| at.in_zone(context.config.zone).replace(".000000", ""))),
        known(backup.timeline.map(|id| id.to_string())),
        known(backup.start_lsn.map(|lsn| lsn.to_string())),
        known(backup.stop_lsn.map(|lsn| lsn.to_string())),
        known(backup.pg_version.map(|major| major.to_string())),
        describe_kind(backup),
        Bytes(backup.size_bytes).to_string(),
        if backup.is_usable() { "usable".to_owned() } else { "BROKEN".to_owned() },
    ]
}

/// `tar, gzip`, `directory`, `incremental of monday, tar`
#[must_use]
pub fn describe_kind(backup: &Backup) -> String {
    use crate::catalog::{BackupKind, Compression};
    let form = match (backup.kind, backup.compression) {
        (BackupKind::Directory, _) => "directory".to_owned(),
        (BackupKind::Tar, Compression::None) => "tar".to_owned(),
        (BackupKind::Tar, compression) => format!("tar, {}", compression.name()),
    };
    match (&backup.incremental_from, &backup.parent) {
        (None, _) => form,
        (Some(_), Some(parent)) => format!("incremental of {parent}, {form}"),
        (Some(_), None) => format!("incremental, {form}"),
    }
}
