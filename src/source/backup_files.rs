//! Reads the few files of a base backup that matter before it is unpacked.

use std::io::{self, BufReader, Read};
use std::path::Path;

use crate::catalog::{Backup, BackupFiles, BackupKind, Compression, Part, PartContents};
use crate::error::Result;
use crate::pgdata::incremental_file::upon;

use super::compress::{self, Count};
use super::{Cancel, open_file};

/// So much of a compressed backup is looked at, in bytes of what is in it: some second's work. It has to be read from
/// its front, and `pg_control` comes last.
const SEARCHED: u64 = 512 << 20;
/// All files together are not longer than this.
const TOTAL: u64 = 64 << 20;

/// Reads them of a backup and of those that it builds upon, the full one first, and gives what they come to.
///
/// # Errors
/// When it was cancelled.
pub fn read_all(backups: &[&Backup], cancel: &Cancel) -> Result<BackupFiles> {
    let mut all = BackupFiles { is_complete: true, ..BackupFiles::default() };
    for backup in backups {
        let found = read(backup, cancel)?;
        all = BackupFiles { is_complete: all.is_complete && found.is_complete, files: upon(&all.files, found.files) };
    }
    Ok(all)
}

/// Reads them. What cannot be read is left out, and then not all of the backup was looked at: unpacking will say what
/// is wrong.
///
/// # Errors
/// When it was cancelled.
pub fn read(backup: &Backup, cancel: &Cancel) -> Result<BackupFiles> {
    let mut reading = Reading { found: BackupFiles::default(), left: TOTAL, cancel };
    let whole = match backup.kind {
        BackupKind::Directory => reading.directory(&backup.location, ""),
        BackupKind::Tar => {
            let data = backup.parts.iter().find(|part| part.holds == PartContents::Data);
            data.map_or(Ok(false), |part| reading.tar(part))
        }
    };
    cancel.check()?;
    reading.found.is_complete = whole.unwrap_or(false);
    Ok(reading.found)
}

struct Reading<'a> {
    found: BackupFiles,
    left: u64,
    cancel: &'a Cancel,
}

impl Reading<'_> {
    /// Gives whether all of it was seen.
    fn directory(&mut self, root: &Path, inside: &str) -> io::Result<bool> {
        let mut all = true;
        for entry in std::fs::read_dir(root.join(inside))? {
            let entry = entry?;
            let (file_name, metadata) = (entry.file_name(), entry.metadata()?);
            let Some(file_name) = file_name.to_str() else { continue };
            let name = if inside.is_empty() { file_name.to_owned() } else { format!("{inside}/{file_name}") };
            if metadata.is_dir() && file_name != "base" && !file_name.starts_with("pg_") {
                all &= self.directory(root, &name)?;
            } else if metadata.is_file() && BackupFiles::is_wanted(&name, metadata.len()) {
                all &= self.take(name, metadata.len(), &mut open_file(&entry.path())?)?;
            }
            if self.cancel.is_cancelled() {
                return Ok(false);
            }
        }
        Ok(all)
    }

    fn tar(&mut self, part: &Part) -> io::Result<bool> {
        if part.compression == Compression::None {
            let mut archive = tar::Archive::new(open_file(&part.path)?);
            return self.entries(part, archive.entries_with_seek()?);
        }
        let reader = compress::open(&part.path, part.compression, &Count::default())?.take(SEARCHED);
        let mut archive = tar::Archive::new(BufReader::with_capacity(256 << 10, reader));
        let all = self.entries(part, archive.entries()?)?;
        // Where the search ends between two entries, the tar seems to end.
        Ok(all && archive.into_inner().into_inner().limit() > 0)
    }

    fn entries<R: Read>(&mut self, part: &Part, entries: tar::Entries<'_, R>) -> io::Result<bool> {
        let mut all = true;
        for entry in entries {
            let mut entry = entry?;
            let Some(name) = part.name_inside(&entry.path()?) else { continue };
            let name = name.to_string_lossy().trim_start_matches("./").to_owned();
            let bytes = entry.size();
            if entry.header().entry_type().is_file() && BackupFiles::is_wanted(&name, bytes) {
                all &= self.take(name, bytes, &mut entry)?;
            }
            if self.cancel.is_cancelled() {
                return Ok(false);
            }
        }
        Ok(all)
    }

    fn take(&mut self, name: String, bytes: u64, from: &mut dyn Read) -> io::Result<bool> {
        let Some(left) = self.left.checked_sub(bytes) else { return Ok(false) };
        self.left = left;
        let mut contents = Vec::new();
        from.take(bytes).read_to_end(&mut contents)?;
        self.found.files.insert(name, contents);
        Ok(true)
    }
}
