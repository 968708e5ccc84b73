//! Looks at names, sizes and beginnings of the files in an archive, and into `.partial` files.

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use crate::catalog::compression::archived;
use crate::catalog::inspection::{Flaw, Inspection, Partial, Unfit};
use crate::catalog::{Catalog, Compression, Folder};
use crate::core::{ArchiveFile, SegmentName};
use crate::error::Result;
use crate::wal::decoder::Piece;
use crate::wal::{Body, Decoder, SegmentHeader};

use super::Cancel;
use super::archive::{is_pg_wal, is_recycled};
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
                Ok(entry) if of_server && is_recycled(&entry.path()) => {}
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
    found.unfit.sort_by_key(|unfit| unfit.name);
    found.partials.sort_by_key(|partial| partial.name);
    found.backup_files.sort();
    found.temporary.sort();
    found.unknown.sort();
    Ok(found)
}

/// The folder of an archive that this is.
fn folder_of(entry: &fs::DirEntry) -> Option<Folder> {
    let folder = entry.file_name().to_str().and_then(Folder::parse)?;
    entry.path().is_dir().then_some(folder)
}

fn look_at(path: &Path, folder: Option<Folder>, catalog: &Catalog, found: &mut Inspection) {
    // A file may be renamed away under us: an archive is written to while we read.
    let Ok(metadata) = fs::metadata(path) else { return };
    if !metadata.is_file() {
        return;
    }
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    match archived(&name).filter(|(file, _)| folder.is_none_or(|folder| folder.is_of(*file))) {
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
        None if is_temporary(&name) || name.ends_with(".partial") => found.temporary.push(path.to_owned()),
        None => found.unknown.push(path.to_owned()),
    }
}

/// What writers of archives, and servers in their `pg_wal`, call what is not complete yet.
fn is_temporary(name: &str) -> bool {
    let ends = [".tmp", ".temp", ".part", ".swp", "~"];
    name.starts_with('.')
        || name.starts_with("xlogtemp.")
        || matches!(name, "RECOVERYXLOG" | "RECOVERYHISTORY")
        || ends.iter().any(|end| name.ends_with(end))
}

/// What is wrong with a segment, as far as its size and its header tell.
fn flaw_of(name: SegmentName, path: &Path, compression: Compression, bytes: u64, catalog: &Catalog) -> Option<Flaw> {
    let size = catalog.segment_size;
    let form = compress::form_of(path, compression, Some(size));
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
