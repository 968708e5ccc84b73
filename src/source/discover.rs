//! Finds base backups and archives below directories, and says what it took for what. Only looks: by names, by the few
//! files in which a base backup describes itself, and by the headers of some segments.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use crate::catalog::compression::archived;
use crate::catalog::found::{ArchiveKind, Found, FoundSource, MetArchive, MetBackup};
use crate::catalog::{Backup, Compression, LeftAlone, Listing, PartContents};
use crate::config::SourceConfig;
use crate::core::{ArchiveFile, SegmentName};
use crate::error::Result;
use crate::pgdata::backup_label::BackupHistory;

use super::backups::{self, Finder};
use super::survey::Surveyor;
use super::tar_backup::read_to_the_end;
use super::{Cancel, LocalSource, Source, compress};

mod data_directory;
mod foreign;
mod walk;

/// Bytes of a `.backup` file that are read; real ones have a few hundred.
const SMALL_FILE: u64 = 1 << 20;
/// A packed backup up to this size is read to its end to learn of which cluster it is: some seconds.
const READ_WHOLE: u64 = 256 << 20;

/// How far a search goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// How many levels below a given directory are looked into.
    pub depth: usize,
    /// How many entries of directories are looked at, all in all.
    pub entries: u64,
}

impl Default for Bounds {
    /// As deep as distributions put things, and as many entries as a few large archives have: seconds.
    fn default() -> Bounds {
        Bounds { depth: 6, entries: 3_000_000 }
    }
}

/// Finds what there is at and below these directories. `cache`: where what took long to find out of a packed backup is
/// kept, so that whoever goes on with it need not read it again.
///
/// # Errors
/// When one of them cannot be read, or when it was cancelled. What cannot be read below them is said in what was found.
pub fn discover(paths: &[PathBuf], bounds: Bounds, cache: Option<&Path>, cancel: &Cancel) -> Result<Found> {
    let seen = walk::walk(paths, bounds, cache, cancel)?;
    let mut met = seen.met;
    met.depth = backups::DEPTH;
    met.archives = archives(&seen.wal, &mut met.left_alone, cancel)?;
    identify(&mut met.backups, &met.archives, &seen.backup_histories, &mut Surveyor::new(cache, cancel), cancel)?;
    Ok(Found::of(met))
}

/// The sources that were found as a configuration has them, each with what is known of it in words.
#[must_use]
pub fn configured(found: &Found) -> Vec<(SourceConfig, String)> {
    let source = |source: &FoundSource| {
        let config = SourceConfig {
            name: source.name.clone(),
            backups: source.backup_directories.clone(),
            wal: source.wal.iter().map(|archive| archive.path.clone()).collect(),
            ..SourceConfig::default()
        };
        let places = config.backups.iter().chain(&config.wal).next().map(|path| format!(", {}", path.display()));
        (config, format!("{}{}", source.in_words(), places.unwrap_or_default()))
    };
    found.sources.iter().map(source).collect()
}

/// Looks into the directories with WAL as a source does that has each of them alone.
fn archives(
    directories: &[(PathBuf, ArchiveKind)],
    left_alone: &mut Vec<LeftAlone>,
    cancel: &Cancel,
) -> Result<Vec<MetArchive>> {
    let mut met = Vec::new();
    for (path, kind) in directories {
        let source = LocalSource::new(&SourceConfig { wal: vec![path.clone()], ..SourceConfig::default() });
        match source.list(cancel) {
            Ok(mut catalog) => {
                let header = catalog.segments.last().and_then(|name| source.header_of(*name, None));
                catalog.system_identifier =
                    catalog.system_identifier.or(header.as_ref().map(|header| header.system_identifier));
                let pg_version = header.map(|header| header.layout.major);
                met.push(MetArchive { path: path.clone(), kind: *kind, catalog, pg_version });
            }
            Err(error) => {
                // Whoever interrupts means all of it.
                cancel.check()?;
                left_alone.push(LeftAlone { path: path.clone(), why: error.in_words() });
            }
        }
    }
    Ok(met)
}

/// The base backups in a directory, as a source lists them, and what lies between them.
fn backups_in(directory: &Path, names: &[String], cache: Option<&Path>, cancel: &Cancel) -> Result<Listing> {
    // Of WAL beside them nothing is said: it is taken for an archive.
    let archives = [directory.to_path_buf()];
    let surveyor = Surveyor::new(cache, cancel);
    let mut finder = Finder { archives: &archives, surveyor, cancel, seen: BTreeSet::new() };
    let mut listing = Listing::default();
    finder.at(directory, names, &mut listing)?;
    Ok(listing)
}

/// `.backup` files by the segment in whose name they have it.
type BackupHistories = HashMap<SegmentName, Vec<PathBuf>>;

/// Finds of which cluster the backups are that do not say it themselves.
fn identify(
    backups: &mut [MetBackup],
    archives: &[MetArchive],
    histories: &BackupHistories,
    surveyor: &mut Surveyor<'_>,
    cancel: &Cancel,
) -> Result<()> {
    for met in backups.iter_mut().filter(|met| met.backup.system_identifier.is_none()) {
        cancel.check()?;
        let told = met.backup.start_wal.and_then(|start| histories.get(&start));
        let file = told.into_iter().flatten().find(|file| is_about(file, &met.backup));
        let archive = file.and_then(|file| archives.iter().find(|archive| file.starts_with(&archive.path)));
        if let (Some(file), Some(archive)) = (file, archive) {
            met.backup.system_identifier = archive.catalog.system_identifier;
            met.identified_by = Some(format!("an archive tells of it in {}", file.display()));
        }
    }
    // Reading a backup to its end is worth it only where there is more than one to choose from.
    let clusters = archives.iter().filter_map(|archive| archive.catalog.system_identifier);
    let clusters = clusters.chain(backups.iter().filter_map(|met| met.backup.system_identifier));
    let clusters: BTreeSet<u64> = clusters.collect();
    if clusters.len() == 1 {
        return Ok(());
    }
    for met in backups.iter_mut().filter(|met| met.backup.system_identifier.is_none() && met.backup.is_usable()) {
        let base = met.backup.parts.iter().find(|part| part.holds == PartContents::Data);
        if base.is_some_and(|base| base.size_bytes <= READ_WHOLE) {
            let read = read_to_the_end(&mut met.backup, surveyor);
            cancel.check()?;
            if let Err(error) = read {
                met.backup.problems.push(format!("{}: {error}", met.backup.location.display()));
            }
        }
    }
    Ok(())
}

/// Whether a `.backup` file tells of this backup. Where a backup starts is no proof: every cluster begins alike.
fn is_about(file: &Path, backup: &Backup) -> bool {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let compression = archived(name).map_or(Compression::None, |(_, compression)| compression);
    let Ok(bytes) = compress::front(file, compression, SMALL_FILE) else { return false };
    BackupHistory::parse(&String::from_utf8_lossy(&bytes)).is_ok_and(|history| {
        Some(history.label.start_lsn) == backup.start_lsn
            && Some(history.label.start_segment) == backup.start_wal
            && history.label.started_at == backup.started_at
            && Some(&history.label.label) == backup.label.as_ref()
    })
}

/// Which segment a `.backup` file has in its name.
fn tells_of_backup(name: &str) -> Option<SegmentName> {
    match archived(name)?.0 {
        ArchiveFile::BackupHistory(segment, _) => Some(segment),
        _ => None,
    }
}
