//! What a base backup says about itself: its label, manifest and control file, read without unpacking it.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::catalog::{Backup, BackupKind, Compression, IncrementalFrom, Part, PartContents, Tablespace};
use crate::core::{PgMajor, SegmentName};
use crate::error::Result;
use crate::pgdata::auto_conf::AutoConf;
use crate::pgdata::backup_label::BackupLabel;
use crate::pgdata::control_file::ControlFile;
use crate::pgdata::manifest::Manifest;
use crate::pgdata::tablespace_map::TablespaceMap;
use crate::wal::SegmentHeader;

use super::archive::is_recycled;
use super::compress::{self, Count};
use super::{Cancel, copied, open_file};

/// The longest label, map or version file that is read.
const SMALL_FILE: usize = 1 << 20;
/// Where the server's `log_timezone` is set.
const CONFIGURATIONS: [&str; 2] = ["postgresql.conf", "postgresql.auto.conf"];
/// Bytes at the end of a file of xz that may be padding; what has more is left to unpacking.
const PADDED: u64 = 4096;
/// The longest manifest that is read.
const LARGEST_MANIFEST: usize = 2 << 30;

/// Describes the backup that is this data directory.
///
/// # Errors
/// Only when it was cancelled: what is broken is described too.
pub(super) fn describe_copy(directory: &Path, names: &[String], cancel: &Cancel) -> Result<Backup> {
    let has = |wanted: &str| names.iter().any(|name| name == wanted);
    let mut backup = Backup::at(directory, BackupKind::Directory, Compression::None);
    backup.manifest = has("backup_manifest");
    describe_directory(&mut backup, has("backup_label"), cancel)?;
    check_version(&mut backup);
    Ok(backup)
}

/// Whether a tablespace is outside of the data directory. One that is not (`allow_in_place_tablespaces`) has a path that
/// is relative to it.
pub(super) fn is_elsewhere(tablespace: &Tablespace) -> bool {
    Path::new(&tablespace.location).is_absolute()
}

/// The last four bytes of a gzip file are its length modulo 2³², and a tar's length is a multiple of 512: a file that
/// was cut off ends in other bytes. What this lets through, unpacking notices.
pub(super) fn check_gzip_end(part: &Part) -> io::Result<()> {
    let cut_off = || io::Error::other("the file is cut off: gzip's trailer is missing");
    if part.size_bytes < 18 {
        return Err(cut_off());
    }
    let mut file = open_file(&part.path)?;
    file.seek(SeekFrom::End(-4))?;
    let mut length = [0; 4];
    file.read_exact(&mut length)?;
    if u32::from_le_bytes(length).is_multiple_of(512) { Ok(()) } else { Err(cut_off()) }
}

/// Every stream of xz ends in these two bytes, and nothing but zeros may lie behind the last one.
pub(super) fn check_xz_end(part: &Part) -> io::Result<()> {
    let mut file = open_file(&part.path)?;
    let mut last = Vec::new();
    file.seek(SeekFrom::Start(part.size_bytes.saturating_sub(PADDED)))?;
    file.take(PADDED).read_to_end(&mut last)?;
    match last.iter().rposition(|byte| *byte != 0).and_then(|end| last.get(..=end)) {
        Some(rest) if !rest.ends_with(b"YZ") => Err(io::Error::other("the file is cut off: xz's footer is missing")),
        _ => Ok(()),
    }
}

/// What one of the telling files says.
pub(super) fn take_file(backup: &mut Backup, name: &str, bytes: &[u8]) {
    let text = || String::from_utf8_lossy(bytes);
    match name {
        "backup_label" => match BackupLabel::parse(&text()) {
            Ok(label) => take_label(backup, &label),
            Err(error) => backup.problems.push(format!("backup_label: {error}")),
        },
        "tablespace_map" => match TablespaceMap::parse(&text()) {
            Ok(TablespaceMap(map)) => {
                backup.tablespaces =
                    map.into_iter().map(|(oid, location)| Tablespace { oid, location, size_bytes: None }).collect();
            }
            Err(error) => backup.problems.push(format!("tablespace_map: {error}")),
        },
        "PG_VERSION" => match PgMajor::parse(&text()) {
            Some(major) => backup.pg_version = Some(major),
            None => backup.problems.push("PG_VERSION does not have a version".to_owned()),
        },
        "postgresql.conf" | "postgresql.auto.conf" => {
            if let Some(zone) = AutoConf::parse(&text()).get("log_timezone") {
                backup.log_timezone = Some(zone.to_owned());
            }
        }
        _ => match ControlFile::parse(bytes) {
            Ok(control) => {
                backup.system_identifier = backup.system_identifier.or(Some(control.system_identifier));
                backup.segment_size = backup.segment_size.or(Some(control.segment_size));
                if backup.from_standby {
                    backup.stop_lsn = backup.stop_lsn.or(control.min_recovery_point);
                }
            }
            Err(error) => backup.problems.push(format!("global/pg_control: {error}")),
        },
    }
}

fn take_label(backup: &mut Backup, label: &BackupLabel) {
    backup.start_lsn = Some(label.start_lsn);
    backup.start_wal = Some(label.start_segment);
    backup.timeline = Some(label.timeline());
    backup.started_at = label.started_at;
    backup.from_standby = label.from_standby;
    let abbreviation = label.started_at_text.split_whitespace().nth(2).map(str::to_owned);
    backup.log_timezone = backup.log_timezone.take().or(abbreviation);
    backup.label = Some(label.label.clone());
    let upon = |lsn| IncrementalFrom { lsn, timeline: label.incremental_timeline.unwrap_or(label.timeline()) };
    backup.incremental_from = label.incremental_from.map(upon);
}

fn describe_directory(backup: &mut Backup, has_label: bool, cancel: &Cancel) -> Result<()> {
    let directory = backup.location.clone();
    // The label first: whether it was taken from a standby decides what pg_control's fields mean.
    for name in ["backup_label", "PG_VERSION", "tablespace_map", "global/pg_control"] {
        if name == "backup_label" && !has_label {
            backup.problems.push(without_label(&directory));
            continue;
        }
        match open_file(&directory.join(name)).and_then(|mut file| read_prefix(&mut file, SMALL_FILE)) {
            Ok(bytes) => take_file(backup, name, &bytes),
            Err(error) if name == "tablespace_map" && error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => backup.problems.push(format!("cannot read {}: {error}", directory.join(name).display())),
        }
    }
    for name in CONFIGURATIONS {
        // Debian keeps one of them elsewhere, and neither is needed.
        if let Ok(bytes) = open_file(&directory.join(name)).and_then(|mut file| read_prefix(&mut file, SMALL_FILE)) {
            take_file(backup, name, &bytes);
        }
    }
    let manifest = own_manifest(backup);
    copied::take_tablespaces(backup, &directory);
    if has_label {
        backup.problems.extend(copied::in_use(&directory));
    }
    backup.own_wal = wal_of(&directory, backup.manifest);
    // Tablespaces whose files were copied in the place of their links are parts of their own.
    let inside: Vec<PathBuf> =
        backup.tablespaces.iter().map(|tablespace| PathBuf::from(&tablespace.location)).collect();
    backup.size_bytes = size_below(&directory, &inside, cancel)?;
    backup.unpacked_bytes = Some(backup.size_bytes);
    backup.parts = vec![Part {
        path: directory,
        holds: PartContents::Data,
        compression: Compression::None,
        size_bytes: backup.size_bytes,
        inside: PathBuf::new(),
    }];
    for tablespace in &mut backup.tablespaces {
        let path = PathBuf::from(&tablespace.location);
        if let Err(error) = fs::read_dir(&path) {
            backup.problems.push(format!("cannot read its tablespace {}: {}: {error}", tablespace.oid, path.display()));
        }
        let size_bytes = size_below(&path, &[], cancel)?;
        tablespace.size_bytes = Some(size_bytes);
        backup.size_bytes = backup.size_bytes.saturating_add(size_bytes);
        backup.unpacked_bytes = Some(backup.size_bytes);
        let holds = PartContents::Tablespace(tablespace.oid);
        let (compression, inside) = (Compression::None, PathBuf::new());
        backup.parts.push(Part { path, holds, compression, size_bytes, inside });
    }
    if let Some(manifest) = &manifest {
        take_manifest(backup, manifest);
    }
    Ok(())
}

/// Says where the label is not.
fn without_label(directory: &Path) -> String {
    let beside = directory.with_file_name("backup_label");
    let hint = match beside.is_file() {
        true => {
            format!("; one lies beside it, {}: where that is this copy's, copy it into the directory", beside.display())
        }
        false => String::new(),
    };
    format!("there is no backup_label: this is a data directory, or a backup that was started already{hint}")
}

/// The segments in the `pg_wal` of a copy. Those that wait there to be written have no WAL of their own. Where `pg_wal`
/// is a link, a manifest tells that it was made for this backup; else it leads to the original's.
fn wal_of(directory: &Path, has_manifest: bool) -> Vec<SegmentName> {
    let pg_wal = directory.join("pg_wal");
    if pg_wal.is_symlink() && !has_manifest {
        return Vec::new();
    }
    let Ok(entries) = fs::read_dir(&pg_wal) else { return Vec::new() };
    let names = entries.flatten().filter_map(|entry| SegmentName::parse(&entry.file_name().to_string_lossy()));
    let mut wal: Vec<SegmentName> = names.filter(|name| !is_recycled(&pg_wal.join(name.to_string()))).collect();
    wal.sort();
    wal
}

/// Bytes of all files below a directory; what cannot be read counts nothing here and is noticed when it is copied.
fn size_below(directory: &Path, without: &[PathBuf], cancel: &Cancel) -> Result<u64> {
    let mut total = 0;
    let mut left: Vec<PathBuf> = vec![directory.to_path_buf()];
    while let Some(directory) = left.pop() {
        cancel.check()?;
        let Ok(entries) = fs::read_dir(&directory) else { continue };
        for entry in entries.flatten() {
            match entry.metadata() {
                Ok(metadata) if metadata.is_dir() => {
                    left.extend(Some(entry.path()).filter(|path| !without.contains(path)))
                }
                Ok(metadata) if metadata.is_file() => total += metadata.len(),
                _ => {}
            }
        }
    }
    Ok(total)
}

/// Reads its manifest, where it has one. One that cannot be its own is not taken for it, see [`Manifest::can_be_of`].
pub(super) fn own_manifest(backup: &mut Backup) -> Option<Manifest> {
    let path = backup.manifest_path();
    let parsed = backup.manifest.then(|| open_file(&path))?;
    let parsed =
        parsed.and_then(|mut file| read_prefix(&mut file, LARGEST_MANIFEST)).map_err(|error| error.to_string());
    match parsed.and_then(|bytes| Manifest::parse(&bytes).map_err(|error| error.to_string())) {
        Ok(manifest) => {
            backup.manifest = backup.start_lsn.is_none_or(|start| manifest.can_be_of(start));
            Some(manifest).filter(|_| backup.manifest)
        }
        Err(error) => {
            backup.problems.push(format!("{}: {error}", path.display()));
            None
        }
    }
}

pub(super) fn take_manifest(backup: &mut Backup, manifest: &Manifest) {
    backup.system_identifier = manifest.system_identifier.or(backup.system_identifier);
    backup.unpacked_bytes = Some(manifest.total_size());
    for tablespace in &mut backup.tablespaces {
        let below = Path::new("pg_tblspc").join(tablespace.oid.to_string());
        let files = manifest.files.iter().filter(|file| file.path.starts_with(&below));
        tablespace.size_bytes = Some(files.fold(0, |sum, file| sum.saturating_add(file.size)));
    }
    backup.stop_lsn = manifest.end().or(backup.stop_lsn);
}

pub(super) fn check_version(backup: &mut Backup) {
    if let Some(major) = backup.pg_version.filter(|major| !major.is_supported()) {
        let (oldest, newest) = (PgMajor::OLDEST, PgMajor::NEWEST);
        backup.problems.push(format!("it is of PostgreSQL {major}; Walback recovers {oldest} to {newest}"));
    }
}

/// What the first segment in `pg_wal.tar` says, and which segments it holds: what lies between start and stop.
pub(super) fn take_wal_part(backup: &mut Backup) {
    let Some(part) = backup.parts.iter().find(|part| part.holds == PartContents::Wal).cloned() else { return };
    if !backup.is_usable() {
        return;
    }
    let header = (|| {
        let reader = compress::open(&part.path, part.compression, &Count::default())?;
        let mut archive = tar::Archive::new(reader);
        for entry in archive.entries()? {
            let mut entry = entry?;
            let name = entry.path()?.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if SegmentName::parse(&name).is_some() {
                return read_prefix(&mut entry, SegmentHeader::BYTES).map(Some);
            }
        }
        Ok::<_, io::Error>(None)
    })();
    match header {
        Ok(Some(bytes)) => {
            if let Ok(header) = SegmentHeader::parse(&bytes) {
                backup.pg_version = backup.pg_version.or(Some(header.layout.major));
                backup.system_identifier = backup.system_identifier.or(Some(header.system_identifier));
                backup.segment_size = backup.segment_size.or(Some(header.segment_size));
            }
        }
        Ok(None) => return,
        Err(error) => return backup.problems.push(format!("{}: {error}", part.path.display())),
    }
    if let (Some(timeline), Some(start), Some(stop), Some(size)) =
        (backup.timeline, backup.start_lsn, backup.stop_lsn, backup.segment_size)
    {
        let last = size.number_of(crate::core::Lsn(stop.0.saturating_sub(1)));
        let most = part.size_bytes.max(1).saturating_mul(1100) / size.bytes() + 1;
        let numbers = (size.number_of(start)..=last).take(usize::try_from(most).unwrap_or(usize::MAX));
        backup.own_wal = numbers.map(|number| SegmentName::new(timeline, number, size)).collect();
    }
}

/// At most `most` bytes from the front of `reader`.
pub(crate) fn read_prefix(reader: &mut impl Read, most: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most as u64).read_to_end(&mut bytes)?;
    Ok(bytes)
}
