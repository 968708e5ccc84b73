//! Backups and archives in directories.

use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use crate::catalog::{Backup, BackupKind, Catalog, Listing, PartContents};
use crate::config::SourceConfig;
use crate::core::{ArchiveFile, SegmentName};
use crate::error::{Error, Result};
use crate::wal::SegmentHeader;

use super::base_backup::{self, read_prefix};
use super::compress::{self, Count};
use super::identity::{self, Identity};
use super::{Cancel, Source, open_file, unreadable};

/// How deep below a given directory base backups are looked for.
const DEPTH: usize = 3;
/// Bytes of a history or `.backup` file that are read; real ones have a few hundred.
const SMALL_FILE: usize = 1 << 20;

/// Directories with base backups, and directories with WAL.
#[derive(Debug, Clone)]
pub struct LocalSource {
    name: String,
    backups: Vec<PathBuf>,
    wal: Vec<PathBuf>,
}

impl LocalSource {
    /// Over the directories of a configured source.
    #[must_use]
    pub fn new(config: &SourceConfig) -> LocalSource {
        LocalSource { name: config.name.clone(), backups: config.backups.clone(), wal: config.wal.clone() }
    }

    fn list_backups(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        for root in &self.backups {
            let before = listing.backups.len();
            find_backups(root, DEPTH, listing, cancel)?;
            if listing.backups.len() == before {
                let none = Error::failed("no-backup", format!("there is no base backup here: {}", root.display()))
                    .hint("a base backup is a directory with base.tar (or base.tar.gz), or one with PG_VERSION, global and backup_label; name it, or a directory above it");
                // What could not be read may be just what was looked for.
                return Err(listing.problems.iter().fold(none, |error, problem| error.because(problem.clone())));
            }
        }
        Ok(())
    }

    fn list_wal(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        for directory in &self.wal {
            let names = file_names(directory).map_err(|error| unreadable("the WAL archive", directory, &error))?;
            let (mut known, mut compressed) = (0_u64, 0_u64);
            for (name, bytes) in &names {
                cancel.check()?;
                let Some(file) = ArchiveFile::parse(name) else {
                    let (stem, _) = crate::catalog::Compression::of_name(name);
                    compressed += u64::from(stem.len() < name.len() && ArchiveFile::parse(stem).is_some());
                    continue;
                };
                known += 1;
                take_file(directory, file, *bytes, listing);
            }
            if compressed > 0 {
                listing.problems.push(format!(
                    "{}: {compressed} compressed files are not read yet by this version of Walback",
                    directory.display()
                ));
            }
            if known == 0 {
                listing.problems.push(format!("{}: there are no WAL segments here", directory.display()));
            }
        }
        Ok(())
    }
}

impl Source for LocalSource {
    fn name(&self) -> &str {
        &self.name
    }

    fn backups(&self) -> &[PathBuf] {
        &self.backups
    }

    fn archives(&self) -> &[PathBuf] {
        &self.wal
    }

    fn list(&self, cancel: &Cancel) -> Result<Catalog> {
        let mut listing = Listing::default();
        self.list_wal(&mut listing, cancel)?;
        self.list_backups(&mut listing, cancel)?;
        for backup in &mut listing.backups {
            self.look_into_base(backup, cancel)?;
            self.ask_first_segment(backup);
            listing.segment_size = listing.segment_size.or(backup.segment_size);
        }
        Ok(Catalog::build(listing))
    }

    fn open_segment(&self, name: SegmentName, backup: Option<&Backup>) -> Result<Option<Box<dyn Read + Send>>> {
        for directory in &self.wal {
            let path = directory.join(name.to_string());
            match open_file(&path) {
                Ok(file) => return Ok(Some(Box::new(file))),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(unreadable("a WAL segment", &path, &error)),
            }
        }
        match backup.filter(|backup| backup.own_wal.contains(&name)) {
            Some(backup) => open_own_segment(backup, name),
            None => Ok(None),
        }
    }

    fn identities(&self, names: &[SegmentName]) -> Vec<Option<Identity>> {
        identity::in_directories(&self.wal, names)
    }
}

impl LocalSource {
    /// Where the archives do not have the first segment that a backup needs, it may lie in the backup's own tar; and
    /// where a standby's backup ended, a compressed tar without a manifest says at its very end.
    fn look_into_base(&self, backup: &mut Backup, cancel: &Cancel) -> Result<()> {
        let Some(start) = backup.start_wal.filter(|_| backup.kind == BackupKind::Tar && backup.is_usable()) else {
            return Ok(());
        };
        let end_unknown = backup.from_standby && backup.stop_lsn.is_none();
        let wal_unknown = backup.own_wal.is_empty() && self.open_segment(start, None)?.is_none();
        if (end_unknown || wal_unknown)
            && let Err(error) = base_backup::read_whole_base(backup, cancel)
        {
            backup.problems.push(format!("{}: {error}", backup.location.display()));
        }
        cancel.check()
    }

    /// What a backup does not say itself, the segment at its start does: whose it is, and of which version.
    fn ask_first_segment(&self, backup: &mut Backup) {
        let complete =
            backup.pg_version.is_some() && backup.system_identifier.is_some() && backup.segment_size.is_some();
        let Some(start) = backup.start_wal.filter(|_| !complete && backup.is_usable()) else { return };
        let Ok(Some(mut segment)) = self.open_segment(start, Some(backup)) else { return };
        let Ok(bytes) = read_prefix(&mut segment, SegmentHeader::BYTES) else { return };
        if let Ok(header) = SegmentHeader::parse(&bytes) {
            backup.pg_version = backup.pg_version.or(Some(header.layout.major));
            backup.system_identifier = backup.system_identifier.or(Some(header.system_identifier));
            backup.segment_size = backup.segment_size.or(Some(header.segment_size));
        }
    }
}

/// Puts every backup at or below `directory` into the listing.
fn find_backups(directory: &Path, depth: usize, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
    cancel.check()?;
    let mut names = match file_names_and_directories(directory) {
        Ok(names) => names,
        Err(error) if depth == DEPTH => return Err(unreadable("the backups", directory, &error)),
        Err(error) => {
            listing.problems.push(format!("cannot read {}: {error}", directory.display()));
            return Ok(());
        }
    };
    if let Some(backup) = base_backup::describe(directory, &names, cancel)? {
        listing.backups.push(backup);
        return Ok(());
    }
    names.sort();
    for name in names.into_iter().filter(|_| depth > 0) {
        let below = directory.join(name);
        if below.is_dir() {
            find_backups(&below, depth - 1, listing, cancel)?;
        }
    }
    Ok(())
}

fn take_file(directory: &Path, file: ArchiveFile, bytes: u64, listing: &mut Listing) {
    let path = directory.join(file.to_string());
    let mut text = || match open_file(&path).and_then(|mut file| read_prefix(&mut file, SMALL_FILE)) {
        Ok(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => {
            listing.problems.push(format!("cannot read {}: {error}", path.display()));
            None
        }
    };
    match file {
        ArchiveFile::History(id) => {
            if let Some(text) = text() {
                listing.histories.push((id, text));
            }
        }
        ArchiveFile::BackupHistory(..) => {
            if let Some(text) = text() {
                listing.backup_histories.push((path.display().to_string(), text));
            }
        }
        ArchiveFile::Segment(_) if listing.segment_size.is_none() => {
            let header = open_file(&path).and_then(|mut file| read_prefix(&mut file, SegmentHeader::BYTES));
            if let Some(header) = header.ok().and_then(|bytes| SegmentHeader::parse(&bytes).ok()) {
                listing.segment_size = Some(header.segment_size);
                listing.system_identifier = Some(header.system_identifier);
            }
        }
        _ => {}
    }
    listing.files.push((file, bytes));
}

/// The plain files of a directory, by name, with their sizes; links are followed.
fn file_names(directory: &Path) -> std::io::Result<Vec<(String, u64)>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // A file may be renamed away under us: an archive is written to while we read.
        if let Ok(metadata) = fs::metadata(entry.path())
            && metadata.is_file()
        {
            names.push((name, metadata.len()));
        }
    }
    names.sort();
    Ok(names)
}

fn file_names_and_directories(directory: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}

/// A segment that the backup brought along: in its `pg_wal` directory, or inside `pg_wal.tar` or `base.tar`.
fn open_own_segment(backup: &Backup, name: SegmentName) -> Result<Option<Box<dyn Read + Send>>> {
    if backup.kind == BackupKind::Directory {
        let path = backup.location.join("pg_wal").join(name.to_string());
        let file = open_file(&path).map_err(|error| unreadable("a WAL segment", &path, &error))?;
        return Ok(Some(Box::new(file)));
    }
    let wal_part = backup.parts.iter().find(|part| part.holds == PartContents::Wal);
    let Some(part) = wal_part.or(backup.parts.first()) else { return Ok(None) };
    let wanted = name.to_string();
    let broken = |error: &std::io::Error| unreadable("the backup's WAL", &part.path, error);
    let reader = compress::open(&part.path, part.compression, &Count::default()).map_err(|error| broken(&error))?;
    let mut archive = tar::Archive::new(BufReader::new(reader));
    for entry in archive.entries().map_err(|error| broken(&error))? {
        let mut entry = entry.map_err(|error| broken(&error))?;
        let is_it = entry.path().is_ok_and(|path| path.file_name().is_some_and(|file| file == wanted.as_str()));
        if is_it {
            // At most one segment, 1 GB, and never more than the tar really has.
            let mut bytes = Vec::new();
            entry.by_ref().take(1 << 30).read_to_end(&mut bytes).map_err(|error| broken(&error))?;
            return Ok(Some(Box::new(std::io::Cursor::new(bytes))));
        }
    }
    Ok(None)
}
