//! Lists a WAL archive: its files, whose they are, and what the small ones say.

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::catalog::compression::{archived, name_of};
use crate::catalog::layout::path_in;
use crate::catalog::{Compression, Folder, Layouts, Listing};
use crate::core::{ArchiveFile, SegmentSize};
use crate::error::Result;
use crate::wal::{BadPage, SegmentHeader};

use super::compress;
use super::identity::{self, Sizes};
use super::{Cancel, unreadable};

/// Bytes of a history or `.backup` file that are read; real ones have a few hundred.
const SMALL_FILE: u64 = 1 << 20;
/// So many segments are asked at most whose they are.
const SAMPLE: usize = 12;

/// Puts the files of the archive in this directory into the listing, and gives where in it they lie.
///
/// # Errors
/// When the directory cannot be read, or it was cancelled. Of a single file, or of a folder below, it is a problem in the
/// listing.
pub(super) fn list(directory: &Path, listing: &mut Listing, cancel: &Cancel) -> Result<Layouts> {
    let found = look_into(directory, &mut listing.problems);
    let mut found = found.map_err(|error| unreadable("the WAL archive", directory, &error))?;
    cancel.check()?;
    if is_pg_wal(directory) {
        found.retain(|found| !is_recycled(&found.path_in(directory)));
    }
    if found.is_empty() {
        check_searchable(directory)?;
    }
    found.sort_unstable_by_key(|found| (found.compression, found.file, found.folder));
    take_headers(directory, &found, listing);
    mark_packed(directory, &mut found, listing);
    for found in &found {
        cancel.check()?;
        take_text(directory, found, listing);
    }
    watch_short(directory, &mut found, listing);
    let layouts = layouts_of(&found);
    listing.layouts = listing.layouts.and(layouts);
    take_files(&found, listing);
    if found.is_empty() {
        listing.problems.push(format!("{}: there are no WAL segments here", directory.display()));
    }
    Ok(layouts)
}

/// A file of an archive.
#[derive(Debug, Clone, Copy)]
struct Found {
    file: ArchiveFile,
    /// In which folder it lies; `None` at the top.
    folder: Option<Folder>,
    compression: Compression,
    /// Its name does not say that it is packed.
    is_unmarked: bool,
    /// Its size, packed as it is.
    bytes: u64,
}

impl Found {
    /// Where it lies. Of a packed `.partial` there are several names: nobody asks for those.
    fn path_in(&self, directory: &Path) -> PathBuf {
        let by_name = if self.is_unmarked { Compression::None } else { self.compression };
        directory.join(path_in(self.folder, &name_of(self.file, by_name)))
    }

    /// Not even a header was written to it.
    fn is_empty(&self) -> bool {
        self.bytes == 0
    }
}

/// The files of an archive, in no order. Their sizes are asked for on all cores while the directories are still read.
fn look_into(directory: &Path, problems: &mut Vec<String>) -> io::Result<Vec<Found>> {
    let sizes = Sizes::of(directory);
    identity::as_they_come(Names::of(directory, problems)?, &|(folder, name): (Option<Folder>, String)| {
        let (file, compression) = archived(&name)?;
        if folder.is_some_and(|folder| !folder.is_of(file)) {
            return None;
        }
        let of = |file, bytes| Some(Found { file, folder, compression, is_unmarked: false, bytes });
        if let Some(bytes) = sizes.get(&path_in(folder, &name)) {
            return of(file, bytes);
        }
        // A file may be renamed away under us: an archive is written to while we read. Its new name may be one that had
        // been passed already.
        let ArchiveFile::Partial(segment) = file else { return None };
        let file = ArchiveFile::Segment(segment);
        of(file, sizes.get(&path_in(folder, &name_of(file, compression)))?)
    })
}

/// The names in an archive's directory, and then those in the folders in which it may have sorted its files.
struct Names<'a> {
    directory: &'a Path,
    open: fs::ReadDir,
    /// The folder that is being read.
    inside: Option<Folder>,
    folders: VecDeque<Folder>,
    problems: &'a mut Vec<String>,
}

impl<'a> Names<'a> {
    fn of(directory: &'a Path, problems: &'a mut Vec<String>) -> io::Result<Names<'a>> {
        Ok(Names { directory, open: fs::read_dir(directory)?, inside: None, folders: VecDeque::new(), problems })
    }

    /// Goes on to the next folder that can be read.
    fn go_on(&mut self) -> Option<()> {
        loop {
            let folder = self.folders.pop_front()?;
            let path = self.directory.join(folder.to_string());
            match fs::read_dir(&path) {
                Ok(open) => {
                    (self.open, self.inside) = (open, Some(folder));
                    return Some(());
                }
                // What is no directory is no folder of an archive.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory | io::ErrorKind::NotFound) => {}
                Err(error) => self.problems.push(format!("cannot read {}: {error}", path.display())),
            }
        }
    }
}

impl Iterator for Names<'_> {
    type Item = io::Result<(Option<Folder>, String)>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.open.next() {
                None => self.go_on()?,
                Some(Ok(entry)) => {
                    let Ok(name) = entry.file_name().into_string() else { continue };
                    match Folder::parse(&name).filter(|_| self.inside.is_none()) {
                        Some(folder) => self.folders.push_back(folder),
                        None => return Some(Ok((self.inside, name))),
                    }
                }
                Some(Err(error)) => match self.inside {
                    None => return Some(Err(error)),
                    Some(folder) => {
                        let path = self.directory.join(folder.to_string());
                        self.problems.push(format!("cannot read {}: {error}", path.display()));
                        self.go_on()?;
                    }
                },
            }
        }
    }
}

/// A directory that may be listed and not searched has names, and nothing behind them.
fn check_searchable(directory: &Path) -> Result<()> {
    let mut entries = fs::read_dir(directory).map_err(|error| unreadable("the WAL archive", directory, &error))?;
    let Some(Ok(entry)) = entries.next() else { return Ok(()) };
    match fs::symlink_metadata(entry.path()) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(unreadable("the WAL archive", directory, &error))
        }
        _ => Ok(()),
    }
}

/// Whether this is a server's `pg_wal`.
pub(super) fn is_pg_wal(directory: &Path) -> bool {
    directory.join("archive_status").is_dir()
}

/// Whether it is a segment of a server's `pg_wal` that waits to be written: an old one under the name of one to come
/// (`RemoveXlogFile`, `src/backend/access/transam/xlog.c`), or one that was made beforehand and is still empty.
pub(super) fn is_recycled(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).and_then(ArchiveFile::parse);
    let Some(ArchiveFile::Segment(name)) = name else { return false };
    let Ok(front) = compress::front(path, Compression::None, SegmentHeader::BYTES as u64) else { return false };
    match SegmentHeader::parse(&front) {
        Ok(header) => header.pageaddr < name.start(header.segment_size),
        Err(bad) => bad == BadPage::Zeroed,
    }
}

/// Finds out of which cluster the segments are, and how long: as most of some of them say.
fn take_headers(directory: &Path, found: &[Found], listing: &mut Listing) {
    if listing.segment_size.is_some() {
        return;
    }
    let segments: Vec<_> = found.iter().filter(|found| found.file.whole_segment().is_some()).collect();
    let mut votes: Vec<((SegmentSize, u64), usize)> = Vec::new();
    let sample: Vec<_> = segments.iter().step_by(segments.len().div_ceil(SAMPLE).max(1)).collect();
    let look = |segment: &&&Found| {
        let path = segment.path_in(directory);
        let form = compress::form_of(&path, segment.compression, None).ok()?;
        SegmentHeader::parse(&compress::front(&path, form, SegmentHeader::BYTES as u64).ok()?).ok()
    };
    // Of some that are packed, megabytes have to be unpacked for it.
    let few = if sample.iter().all(|found| found.compression == Compression::None) { usize::MAX } else { 2 };
    // Where more than half of them agree, the others make no difference.
    let more_than_half = sample.len() / 2 + 1;
    let (first, others) = sample.split_at(more_than_half.min(sample.len()));
    for sample in [first, others] {
        let headers = identity::in_parallel(sample, few, &|sample| sample.iter().map(look).collect());
        for header in headers.into_iter().flatten() {
            let said = (header.segment_size, header.system_identifier);
            match votes.iter_mut().find(|(known, _)| *known == said) {
                Some((_, votes)) => *votes += 1,
                None => votes.push((said, 1)),
            }
        }
        if votes.iter().any(|(_, votes)| *votes >= more_than_half) {
            break;
        }
    }
    // Of several that are as many, the first one found.
    if let Some(((size, system), _)) = votes.into_iter().rev().max_by_key(|(_, votes)| *votes) {
        (listing.segment_size, listing.system_identifier) = (Some(size), Some(system));
    }
}

/// Finds the files that are packed and whose names do not say so. One that is as long as a segment is not looked at.
fn mark_packed(directory: &Path, found: &mut [Found], listing: &mut Listing) {
    let size = listing.segment_size.unwrap_or(SegmentSize::DEFAULT);
    let may_be =
        |found: &&mut Found| found.compression == Compression::None && found.bytes != size.bytes() && !found.is_empty();
    let mut doubtful: Vec<&mut Found> = found.iter_mut().filter(may_be).collect();
    let paths: Vec<PathBuf> = doubtful.iter().map(|found| found.path_in(directory)).collect();
    // One that cannot be read stays what its name says, and whoever reads it will say so.
    let look = |path: &PathBuf| compress::form_of(path, Compression::None, None).unwrap_or(Compression::None);
    let forms = identity::in_parallel(&paths, identity::FEW, &|paths| paths.iter().map(look).collect());
    for (found, form) in doubtful.iter_mut().zip(forms).filter(|(_, form)| *form != Compression::None) {
        (found.compression, found.is_unmarked) = (form, true);
        listing.unmarked.insert(form);
    }
}

/// Takes in what a history or `.backup` file says.
fn take_text(directory: &Path, found: &Found, listing: &mut Listing) {
    if !matches!(found.file, ArchiveFile::History(_) | ArchiveFile::BackupHistory(..)) {
        return;
    }
    let path = found.path_in(directory);
    let text = match compress::front(&path, found.compression, SMALL_FILE) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return,
        Err(error) => return listing.problems.push(format!("cannot read {}: {error}", path.display())),
    };
    match found.file {
        ArchiveFile::History(id) => {
            listing.histories.push((id, text));
            let compression = Some(found.compression).filter(|form| *form != Compression::None);
            listing.compressed_histories.extend(compression);
        }
        ArchiveFile::BackupHistory(..) => listing.backup_histories.push((path.display().to_string(), text)),
        ArchiveFile::Segment(_) | ArchiveFile::Partial(_) => {}
    }
}

/// Takes out the plain segments that somebody is writing: what `cp` has not finished has its final name already.
fn watch_short(directory: &Path, found: &mut Vec<Found>, listing: &mut Listing) {
    let size = listing.segment_size.unwrap_or(SegmentSize::DEFAULT).bytes();
    let is_short = |found: &Found| {
        found.compression == Compression::None && found.bytes < size && found.file.whole_segment().is_some()
    };
    let short = found.iter_mut().filter(|found| is_short(found));
    let mut short: Vec<(PathBuf, &mut Found)> = short.map(|found| (found.path_in(directory), found)).collect();
    let before: Vec<(PathBuf, u64)> = short.iter().map(|(path, found)| (path.clone(), found.bytes)).collect();
    let mut growing = Vec::new();
    for ((_, found), now) in short.iter_mut().zip(sizes_in_a_moment(&before)) {
        if now > found.bytes && now < size {
            growing.extend(found.file.whole_segment());
        }
        found.bytes = now;
    }
    found.retain(|found| !is_short(found) || !found.file.whole_segment().is_some_and(|name| growing.contains(&name)));
    listing.growing.append(&mut growing);
}

/// What was written to so short a time ago may be written to now.
pub(super) const FRESH: Duration = Duration::from_secs(2);
/// For so long it is watched: copying over a slow line, too, writes some kilobytes in this time.
pub(super) const MOMENT: Duration = Duration::from_millis(100);
/// How often it is looked at meanwhile.
pub(super) const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// The sizes of files that had these before, once all have grown of those that were written to just now, or a moment has
/// passed. Files that are older are not waited for.
pub(super) fn sizes_in_a_moment(files: &[(PathBuf, u64)]) -> Vec<u64> {
    let begun = Instant::now();
    loop {
        let looks: Vec<_> = files.iter().map(|(path, _)| fs::metadata(path).ok()).collect();
        let is_fresh =
            |look: &fs::Metadata| look.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age < FRESH);
        let waits = files
            .iter()
            .zip(&looks)
            .any(|((_, before), now)| now.as_ref().is_some_and(|now| now.len() == *before && is_fresh(now)));
        if !waits || begun.elapsed() >= MOMENT {
            let sizes = files.iter().zip(&looks);
            return sizes.map(|((_, before), now)| now.as_ref().map_or(*before, fs::Metadata::len)).collect();
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

fn layouts_of(found: &[Found]) -> Layouts {
    let mut layouts = Layouts::default();
    for found in found {
        match (found.folder, found.file) {
            // These lie at the top in most archives that have folders, too.
            (None, ArchiveFile::History(_)) => {}
            (folder, _) => layouts.add_folder(folder),
        }
    }
    layouts
}

fn take_files(found: &[Found], listing: &mut Listing) {
    for found in found {
        match (found.file, found.compression) {
            (file, Compression::None) => listing.files.push((file, found.bytes)),
            // Of one in which something is, only reading tells how much.
            (ArchiveFile::Segment(_), _) if found.is_empty() => listing.files.push((found.file, 0)),
            (ArchiveFile::Segment(name), form) => listing.compressed.push((name, form)),
            (ArchiveFile::Partial(name), form) if !found.is_empty() => listing.compressed_partials.push((name, form)),
            _ => {}
        }
    }
}
