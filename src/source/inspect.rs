//! Looks at names, sizes and beginnings of the files in an archive, and into `.partial` files.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::catalog::compression::archived;
use crate::catalog::inspection::{Flaw, Growing, Inspection, Partial, Unfit};
use crate::catalog::{Catalog, Compression, Folder, LeftAlone};
use crate::core::{ArchiveFile, SegmentName};
use crate::error::Result;
use crate::wal::decoder::Piece;
use crate::wal::{Body, Decoder, SegmentHeader};

use super::Cancel;
use super::archive::{is_pg_wal, is_recycled, sizes_in_a_moment};
use super::compress;

/// Bytes read from a `.partial` file at a time.
const BLOCK: u64 = 256 << 10;

/// Looks at the files of these archives; `catalog` says whose they have to be.
///
/// # Errors
/// When it was cancelled.
pub fn inspect(archives: &[PathBuf], catalog: &Catalog, cancel: &Cancel) -> Result<Inspection> {
    let mut found = Inspection::default();
    for archive in archives {
        let entries = match fs::read_dir(archive) {
            Ok(entries) => entries,
            Err(error) => {
                found.problems.push(format!("cannot read {}: {error}", archive.display()));
                continue;
            }
        };
        let of_server = is_pg_wal(archive);
        let mut folders = Vec::new();
        for entry in entries {
            cancel.check()?;
            match entry {
                Ok(entry) if of_server && (is_recycled(&entry.path()) || is_of_server(&entry)) => {}
                Ok(entry) => match folder_of(&entry) {
                    Some(folder) => folders.push((entry.path(), folder)),
                    None => look_at(&entry.path(), None, catalog, &mut found),
                },
                Err(error) => found.problems.push(format!("cannot read {}: {error}", archive.display())),
            }
        }
        for (path, folder) in folders {
            // One that cannot be read is among the catalog's problems.
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                cancel.check()?;
                look_at(&entry.path(), Some(folder), catalog, &mut found);
            }
        }
    }
    set_growing_aside(catalog, &mut found);
    found.unfit.sort_by_key(|unfit| unfit.name);
    found.partials.sort_by_key(|partial| partial.name);
    found.backup_files.sort();
    found.temporary.sort();
    found.unknown.sort();
    found.odd.sort();
    Ok(found)
}

/// The folder of an archive that this is.
fn folder_of(entry: &fs::DirEntry) -> Option<Folder> {
    let folder = entry.file_name().to_str().and_then(Folder::parse)?;
    entry.path().is_dir().then_some(folder)
}

/// What else a server has in its `pg_wal` (`src/backend/postmaster/walsummarizer.c`, 17 and later).
fn is_of_server(entry: &fs::DirEntry) -> bool {
    ["archive_status", "summaries"].iter().any(|name| entry.file_name() == *name)
}

fn look_at(path: &Path, folder: Option<Folder>, catalog: &Catalog, found: &mut Inspection) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let known = archived(&name);
    let is_misplaced = known.is_some_and(|(file, _)| folder.is_some_and(|folder| !folder.is_of(file)));
    let metadata = match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => metadata,
        looked => return no_file(path, looked.ok(), known.is_some(), catalog, found),
    };
    match known {
        Some(_) if is_misplaced => {
            found.odd.push(left(path, "it lies in a folder that is not that of its name, where nobody looks for it"));
        }
        Some((ArchiveFile::Segment(name), _)) if u64::from(name.seg) >= catalog.segment_size.per_log_id() => {
            let bytes = catalog.segment_size.bytes();
            found.odd.push(left(path, &format!("no cluster with segments of {bytes} bytes has one of this name")));
        }
        Some((ArchiveFile::Segment(name), compression)) => {
            let flaw = flaw_of(name, path, compression, metadata.len(), catalog);
            found.unfit.extend(flaw.map(|flaw| Unfit { name, path: path.to_owned(), flaw }));
        }
        Some((ArchiveFile::Partial(name), compression)) => match read_partial(name, path, compression, catalog) {
            Ok(partial) => found.partials.push(partial),
            Err(error) => found.problems.push(format!("cannot read {}: {error}", path.display())),
        },
        Some((ArchiveFile::BackupHistory(segment, _), _)) => found.backup_files.push((segment, name)),
        Some((ArchiveFile::History(_), _)) => {}
        None if is_lower_case(&name) => {
            found.odd.push(left(path, "its name has small letters, and PostgreSQL's have capital ones"));
        }
        None if is_temporary(&name) || name.ends_with(".partial") => found.temporary.push(path.to_owned()),
        None if is_of_backup(path, catalog) => {}
        None => found.unknown.push(path.to_owned()),
    }
}

/// Something that is no file and has a file's name, or a directory that is not looked into. What is gone meanwhile is
/// nothing: an archive is written to while we read.
fn no_file(path: &Path, looked: Option<fs::Metadata>, is_known: bool, catalog: &Catalog, found: &mut Inspection) {
    let Some(metadata) = looked else {
        if fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_symlink()) {
            dead_link(path, found);
        }
        return;
    };
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    // Base backups may lie beside WAL.
    let is_nobodys = is_hidden || is_of_backup(path, catalog) || path.ends_with("lost+found");
    let kind = metadata.file_type();
    let why = match is_known {
        true if kind.is_dir() => "a directory with a file's name",
        false if is_nobodys => return,
        false if kind.is_dir() => "a directory, which is not looked into",
        _ if kind.is_fifo() => "a FIFO, and no file",
        _ if kind.is_socket() => "a socket, and no file",
        _ => "a device, and no file",
    };
    found.odd.push(left(path, why));
}

fn dead_link(path: &Path, found: &mut Inspection) {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match archived(&name) {
        // What it led to may have been that segment.
        Some((ArchiveFile::Segment(name), _)) => {
            found.unfit.push(Unfit { name, path: path.to_owned(), flaw: Flaw::DeadLink });
        }
        _ => found.odd.push(left(path, "a link to nothing that can be reached")),
    }
}

fn left(path: &Path, why: &str) -> LeftAlone {
    LeftAlone { path: path.to_owned(), why: why.to_owned() }
}

/// Whether it is a name of WAL but for small letters, as file systems make of it that do not tell them from capital ones.
fn is_lower_case(name: &str) -> bool {
    let endings = [".history", ".partial", ".backup"].into_iter();
    let endings = endings.chain(Compression::PACKED.into_iter().map(Compression::ending));
    let capital =
        endings.fold(name.to_ascii_uppercase(), |name, ending| name.replace(&ending.to_ascii_uppercase(), ending));
    capital != name && archived(&capital).is_some()
}

/// Whether it belongs to a base backup, or lies around one.
fn is_of_backup(path: &Path, catalog: &Catalog) -> bool {
    catalog.backups.iter().any(|backup| {
        let is_part = || backup.parts.iter().any(|part| part.path == path);
        let is_beside = || path.parent() == Some(&backup.location) && !path.is_dir();
        backup.location.starts_with(path) || is_part() || (is_beside() && is_named_as_of_backup(path))
    })
}

/// What a base backup has beside its tars.
fn is_named_as_of_backup(path: &Path) -> bool {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let (stem, _) = Compression::of_name(&name);
    stem.ends_with(".tar") || ["backup_manifest", "backup_label", "tablespace_map"].contains(&stem)
}

/// Takes the files out of the flawed ones that somebody is writing to.
fn set_growing_aside(catalog: &Catalog, found: &mut Inspection) {
    let may_grow = |unfit: &Unfit| match unfit.flaw {
        Flaw::Size { found, expected } => (found < expected).then_some(found),
        Flaw::Empty => Some(0),
        _ => None,
    };
    let short: Vec<(PathBuf, u64)> =
        found.unfit.iter().filter_map(|unfit| Some((unfit.path.clone(), may_grow(unfit)?))).collect();
    let mut sizes = sizes_in_a_moment(&short).into_iter().zip(short);
    let (growing, flawed) = std::mem::take(&mut found.unfit).into_iter().partition(|unfit: &Unfit| {
        // What was not there when the archive was listed is being written now.
        let is_known = catalog.cut_off.contains(&unfit.name) || catalog.segments.contains(&unfit.name);
        let Some((now, (_, before))) = may_grow(unfit).and_then(|_| sizes.next()) else { return false };
        now > before || catalog.growing.contains(&unfit.name) || !is_known
    });
    found.unfit = flawed;
    let growing: Vec<Unfit> = growing;
    let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    found.growing = growing
        .into_iter()
        .map(|Unfit { name, path, .. }| Growing { name, bytes: size(&path), path })
        // One that has become whole meanwhile is nothing to be told.
        .filter(|growing| growing.bytes != catalog.segment_size.bytes())
        .collect();
}

/// What writers of archives, and servers in their `pg_wal`, call what is not complete yet.
fn is_temporary(name: &str) -> bool {
    let ends = [".tmp", ".temp", ".part", ".filepart", ".swp", "~"];
    name.starts_with(['.', '#'])
        || name.starts_with("xlogtemp.")
        || matches!(name, "RECOVERYXLOG" | "RECOVERYHISTORY")
        || ends.iter().any(|end| name.ends_with(end))
}

/// What is wrong with a segment, as far as its size and its header tell.
fn flaw_of(name: SegmentName, path: &Path, compression: Compression, bytes: u64, catalog: &Catalog) -> Option<Flaw> {
    let size = catalog.segment_size;
    if bytes == 0 {
        return Some(Flaw::Empty);
    }
    let form = match bytes == size.bytes() {
        true => Ok(compression),
        false => compress::form_of(path, compression, None),
    };
    let start = form.and_then(|form| Ok((form, compress::front(path, form, SegmentHeader::BYTES as u64)?)));
    let (plain, start) = match start {
        Ok((form, start)) => (form == Compression::None, start),
        Err(error) => return Some(Flaw::Unreadable(error.to_string())),
    };
    // How long a compressed one is, only reading all of it tells.
    let wrong_size = (plain && bytes != size.bytes()).then_some(Flaw::Size { found: bytes, expected: size.bytes() });
    if !start.is_empty() && start.iter().all(|byte| *byte == 0) {
        return Some(wrong_size.unwrap_or(Flaw::Zeros));
    }
    let header = match SegmentHeader::parse(&start) {
        Ok(header) => header,
        // The second byte is the same in every major that Walback reads.
        Err(_) if start.len() < SegmentHeader::BYTES && start.get(1).is_none_or(|byte| *byte == 0xD1) => {
            return wrong_size;
        }
        Err(bad) => return Some(Flaw::NoWal(bad.to_string())),
    };
    if let Some(expected) = catalog.system_identifier.filter(|ours| *ours != header.system_identifier) {
        return Some(Flaw::Foreign { found: header.system_identifier, expected });
    }
    if header.pageaddr != name.start(size) {
        return wrong_size.or(Some(Flaw::Misnamed { found: header.pageaddr, expected: name.start(size) }));
    }
    // A timeline's first segment begins with its parent's pages; never with those of one that comes later.
    let later = (header.timeline > name.timeline).then_some(Flaw::Timeline { found: header.timeline });
    wrong_size.or(later)
}

/// Reads what a `.partial` file holds; behind its last record it is filled with zeros.
fn read_partial(
    name: SegmentName,
    path: &Path,
    compression: Compression,
    catalog: &Catalog,
) -> std::io::Result<Partial> {
    let form = compress::form_of(path, compression, Some(catalog.segment_size))?;
    let mut file = compress::open_partial(path, form, catalog.segment_size.bytes())?;
    let mut decoder = Decoder::at_segment(name.number(catalog.segment_size), catalog.segment_size);
    let mut partial = Partial { name, path: path.to_owned(), end: None, commits: 0, last_commit_at: None };
    let mut block = Vec::new();
    loop {
        block.clear();
        if file.by_ref().take(BLOCK).read_to_end(&mut block)? == 0 {
            return Ok(partial);
        }
        let read = decoder.read_through(&block, &mut |piece| {
            // Behind a damaged place nothing can be recovered from it.
            let Piece::Record(record) = piece else { return ControlFlow::Break(()) };
            partial.end = Some(record.end_lsn);
            if let Body::Commit(outcome) = &record.body {
                partial.commits += 1;
                partial.last_commit_at = Some(outcome.at);
            }
            ControlFlow::Continue(())
        });
        if read.is_break() {
            return Ok(partial);
        }
    }
}
