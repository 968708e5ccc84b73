//! Goes through the parts of a backup: a compressed tar on one thread beside the one that decompresses it, a plain tar
//! and a directory on several, a file each.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::catalog::PartContents;
use crate::error::{Error, Result};
use crate::source::{open_file, open_unlinked};

use super::archive::{Entry, Forward, Walk};
use super::decoded::Decoded;
use super::names::{Fate, Kind};
use super::write::{Place, Wanted, Work, Writer, broken, locked, stray};

/// The most hard links that are kept in mind until all files are there.
const MOST_LINKS: usize = 100_000;

/// One thing to do.
enum Job {
    Directory(PathBuf, u32),
    File { relative: PathBuf, mode: u32, bytes: u64, stored: u64, read_only: bool, from: From },
}

/// Where a file's contents are.
enum From {
    Tar { at: u64, runs: Vec<(u64, u64)> },
    Path(PathBuf),
}

/// What the threads of a part take their jobs from.
pub(super) struct Jobs<'p> {
    place: &'p Place<'p>,
    kind: Taken,
    links: Vec<(PathBuf, PathBuf)>,
}

enum Taken {
    Tar {
        walk: Walk<Hop>,
        counted: u64,
        /// How long the tar is.
        bytes: u64,
    },
    /// A tar that was walked over to its end.
    Nothing,
    Directory(Vec<Level>),
}

/// A directory that is being read, with what it is below the part's own.
struct Level {
    inside: PathBuf,
    entries: fs::ReadDir,
}

/// A plain file that is hopped over.
struct Hop {
    file: File,
    at: u64,
    bytes: u64,
}

impl io::Read for Hop {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Forward for Hop {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match self.at.checked_add(bytes).filter(|at| *at <= self.bytes) {
            Some(at) => self.at = at,
            None => return Err(io::Error::from(io::ErrorKind::UnexpectedEof)),
        }
        Ok(())
    }
}

/// The file of a plain tar, for reading at any place.
pub(super) fn open_tar(place: &Place<'_>) -> Result<File> {
    open_file(&place.part.path).map_err(|error| broken(&place.part.path, &error))
}

impl<'p> Jobs<'p> {
    /// Those of a plain tar.
    pub(super) fn of_tar(place: &'p Place<'p>) -> Result<Jobs<'p>> {
        let file = open_tar(place)?;
        let bytes = file.metadata().map_err(|error| broken(&place.part.path, &error))?.len();
        let kind = Taken::Tar { walk: Walk::new(Hop { file, at: 0, bytes }), counted: 0, bytes };
        Ok(Jobs { place, kind, links: Vec::new() })
    }

    /// Those of a directory.
    pub(super) fn of_directory(place: &'p Place<'p>) -> Result<Jobs<'p>> {
        let top = Level::open(&place.part.path, PathBuf::new())?;
        Ok(Jobs { place, kind: Taken::Directory(vec![top]), links: Vec::new() })
    }

    /// The hard links, which are made when all files are there.
    pub(super) fn take_links(&mut self) -> Vec<(PathBuf, PathBuf)> {
        std::mem::take(&mut self.links)
    }

    fn next(&mut self, work: &Work<'_>) -> Result<Option<Job>> {
        loop {
            work.check()?;
            let part = &self.place.part.path;
            let (name, kind, job) = match &mut self.kind {
                Taken::Tar { walk, counted, bytes } => {
                    let entry = walk.next().map_err(|error| broken(part, &error))?;
                    let end = entry.as_ref().map_or(self.place.part.size_bytes, |entry| entry.at);
                    work.count.add(end.saturating_sub(*counted));
                    let Some(entry) = entry else {
                        self.kind = Taken::Nothing;
                        return Ok(None);
                    };
                    // Whichever thread takes it: the next one would find the end of the tar, and not say of what.
                    *counted = entry.at.saturating_add(entry.stored);
                    if *counted > *bytes {
                        let name = entry.name.to_string_lossy();
                        return Err(broken(part, &io::ErrorKind::UnexpectedEof.into())
                            .because(format!("“{}” is not all there", name.escape_debug())));
                    }
                    let Entry { name, kind, mode, bytes, stored, at, runs } = entry;
                    (name, kind, (mode, bytes, stored, From::Tar { at, runs }))
                }
                Taken::Nothing => return Ok(None),
                Taken::Directory(levels) => {
                    let found = match next_of(levels, self.place) {
                        Ok(found) => found,
                        Err(error) => {
                            work.tolerate(error)?;
                            continue;
                        }
                    };
                    let Some(found) = found else { return Ok(None) };
                    found
                }
            };
            let (mode, bytes, stored, from) = job;
            match self.place.fate(&name, &kind) {
                Fate::Directory(relative) => return Ok(Some(Job::Directory(relative, mode))),
                Fate::File(relative) => {
                    return Ok(Some(Job::File { relative, mode, bytes, stored, read_only: false, from }));
                }
                Fate::ReadOnly(relative) => {
                    return Ok(Some(Job::File { relative, mode, bytes, stored, read_only: true, from }));
                }
                Fate::Link(from, to) if self.links.len() < MOST_LINKS => self.links.push((from, to)),
                Fate::Link(..) => return Err(stray(part, &name, "there are too many hard links")),
                Fate::LeftOut => work.count.add(stored),
                Fate::Refused(why) => work.tolerate(stray(part, &name, &why))?,
            }
        }
    }
}

impl Level {
    fn open(path: &Path, inside: PathBuf) -> Result<Level> {
        let entries = fs::read_dir(path).map_err(|error| unreadable(path, &error))?;
        Ok(Level { inside, entries })
    }
}

type Found = (PathBuf, Kind, (u32, u64, u64, From));

/// The next entry of a directory and what is below it.
fn next_of(levels: &mut Vec<Level>, place: &Place<'_>) -> Result<Option<Found>> {
    let root = &place.part.path;
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            levels.pop();
            continue;
        };
        let entry = entry.map_err(|error| unreadable(&root.join(&level.inside), &error))?;
        let (path, below) = (entry.path(), level.inside.join(entry.file_name()));
        let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
        let mode = metadata.permissions().mode();
        // pg_wal is often a link to another disk.
        let wal_elsewhere = place.follows_wal && metadata.is_symlink() && below == Path::new("pg_wal") && path.is_dir();
        let kind = match () {
            () if metadata.is_dir() || wal_elsewhere => Kind::Directory,
            () if metadata.is_file() => Kind::File,
            () if metadata.is_symlink() => Kind::SymbolicLink,
            () => Kind::Other("neither a file nor a directory".to_owned()),
        };
        if kind == Kind::Directory && !place.is_of_another(&below) {
            levels.push(Level::open(&path, below.clone())?);
        }
        let bytes = if kind == Kind::File { metadata.len() } else { 0 };
        let mode = if wal_elsewhere { 0o700 } else { mode };
        return Ok(Some((below, kind, (mode, bytes, bytes, From::Path(path)))));
    }
    Ok(None)
}

fn unreadable(path: &Path, error: &io::Error) -> Error {
    Error::failed("unreadable", format!("cannot read the backup: {}", path.display())).caused_by(error)
}

/// What each of the threads does that share the jobs of a part: take the next, do it. `tar`: where their contents are,
/// for a plain tar.
pub(super) fn take_jobs<'w>(
    work: &'w Work<'w>,
    place: &'w Place<'w>,
    jobs: &Mutex<Jobs<'_>>,
    tar: Option<&File>,
) -> Result<()> {
    let mut writer = Writer::new(work, place);
    loop {
        let job = locked(jobs).next(work)?;
        let Some(job) = job else { return Ok(()) };
        do_job(work, &mut writer, job, tar).or_else(|error| work.tolerate(error))?;
    }
}

fn do_job(work: &Work<'_>, writer: &mut Writer<'_>, job: Job, tar: Option<&File>) -> Result<()> {
    match job {
        Job::Directory(relative, mode) => writer.directory(&relative, mode),
        Job::File { relative, mode, bytes, stored, read_only, from } => {
            let opened = match &from {
                From::Path(path) => Some(open_unlinked(path).map_err(|error| unreadable(path, &error))?),
                From::Tar { .. } => None,
            };
            let sparse = opened.as_ref().is_some_and(has_holes);
            let wanted = Wanted { relative: &relative, mode, bytes, stored, read_only, sparse };
            let Some(mut writing) = writer.begin(&wanted)? else {
                work.count.add(stored);
                return Ok(());
            };
            match (from, opened.as_ref(), tar) {
                (From::Tar { at, runs }, _, Some(tar)) => writer.copy_runs(tar, at, &runs, bytes, &mut writing)?,
                (_, Some(file), _) => writer.copy_file(file, bytes, &mut writing)?,
                _ => {}
            }
            writer.finish(writing)
        }
    }
}

fn has_holes(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.blocks() * 512 < metadata.len())
}

/// Makes the hard links of a part.
pub(super) fn make_links<'w>(work: &'w Work<'w>, place: &'w Place<'w>, links: &[(PathBuf, PathBuf)]) -> Result<()> {
    let mut writer = Writer::new(work, place);
    links.iter().try_for_each(|(from, to)| writer.link(from, to))
}

/// Unpacks a tar that is decompressed on another thread.
pub(super) fn unpack_stream<'w>(work: &'w Work<'w>, place: &'w Place<'w>, decoded: Decoded) -> Result<()> {
    let part = &place.part.path;
    let mut writer = Writer::new(work, place);
    let mut walk = Walk::new(decoded);
    while let Some(entry) = walk.next().map_err(|error| broken(part, &error))? {
        work.check()?;
        let (relative, read_only) = match place.fate(&entry.name, &entry.kind) {
            Fate::Directory(relative) => {
                writer.directory(&relative, entry.mode)?;
                continue;
            }
            Fate::Link(from, to) => {
                writer.link(&from, &to)?;
                continue;
            }
            Fate::LeftOut => continue,
            Fate::Refused(why) => {
                work.tolerate(stray(part, &entry.name, &why))?;
                continue;
            }
            Fate::File(relative) => (relative, false),
            Fate::ReadOnly(relative) => (relative, true),
        };
        let Entry { mode, bytes, stored, runs, .. } = entry;
        // How much of the file that is read this takes is not known before it is decompressed.
        let wanted = Wanted { relative: &relative, mode, bytes, stored: 0, read_only, sparse: false };
        if let Some(mut writing) = writer.begin(&wanted)? {
            writer.copy_stream(walk.contents(), &runs, bytes, &mut writing)?;
            walk.was_read(stored);
            writer.finish(writing)?;
        }
    }
    // The checksum of what was compressed comes after the tar's end.
    drain(work, walk.contents()).map_err(|error| broken(part, &error))
}

fn drain(work: &Work<'_>, rest: &mut Decoded) -> io::Result<()> {
    use std::io::BufRead;
    loop {
        let there = rest.fill_buf()?.len();
        if there == 0 {
            return Ok(());
        }
        rest.consume(there);
        // What was cancelled is noticed by whoever waits for this.
        if work.check().is_err() {
            return Ok(());
        }
    }
}

/// Whether a part is in the data directory itself, and so what the manifest has before its names.
pub(super) fn prefix_of(holds: PartContents) -> PathBuf {
    match holds {
        PartContents::Data => PathBuf::new(),
        PartContents::Wal => PathBuf::from("pg_wal"),
        PartContents::Tablespace(oid) => Path::new(super::names::TABLESPACE_LINKS).join(oid.to_string()),
    }
}
