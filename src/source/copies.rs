//! The copies of one archived file in several archives: where they lie, and whether one is what its name says.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{FileStat, SFlag, stat};

use super::identity::{Identity, place_of};
use super::{Blocks, blocks, compress, open_file};
use crate::catalog::compression::names_of;
use crate::catalog::layout::path_in;
use crate::catalog::{Compression, Folder, Layouts};
use crate::core::{ArchiveFile, PgMajor, SegmentName, SegmentSize, TimelineId};
use crate::pgdata::history::History;
use crate::wal::{BadPage, SegmentHeader};

/// Above this a segment is unpacked a piece after the other, even where all at once is faster.
const LARGE: u64 = 64 << 20;
/// Bytes of a history or `.backup` file at most; real ones have a few hundred.
const SMALL_FILE: u64 = 1 << 20;

/// A file of an archive that may be the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    /// Where it lies.
    pub path: PathBuf,
    /// How it is compressed, by its name.
    pub compression: Compression,
    /// Tells whether it is still the same file.
    pub identity: Identity,
    /// Whether it is a file, and no directory or the like of that name.
    is_plain: bool,
    /// Whether it is a `.partial`.
    is_partial: bool,
    /// Whether it lies in a server's `pg_wal`, where files of later names wait to be written.
    is_in_pg_wal: bool,
}

/// What a segment's file has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expected {
    /// Which segment.
    pub name: SegmentName,
    /// How long it is.
    pub size: SegmentSize,
    /// Whose WAL it is.
    pub system_identifier: u64,
    /// The major that wrote it.
    pub major: PgMajor,
}

/// Why a copy is not the file that is wanted.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// It cannot be read.
    #[error(transparent)]
    Unreadable(#[from] io::Error),
    /// It is something else, or broken; in words.
    #[error("{0}")]
    Damaged(String),
    /// It is a file that a server keeps under a later name to write to: the segment is not there yet.
    #[error("nothing was written to it yet")]
    Unwritten,
}

/// The copies of `file` in one archive, in the order in which they are tried; with `partial` the segment's `.partial`
/// too, the last of all.
///
/// # Errors
/// When the archive cannot be asked. That it has none is no error.
pub fn in_archive(archive: &Path, file: ArchiveFile, partial: bool) -> io::Result<Vec<Copy>> {
    let of_partial = file.whole_segment().filter(|_| partial).map(ArchiveFile::Partial);
    in_turn(archive, file, of_partial, &mut |path| stat(path))
}

/// Looks for the whole file, then for the `.partial`, and where neither is there for the whole file once more: an archive
/// that is written to gives it another name meanwhile (`pg_receivewal` renames `X.gz.partial` to `X.gz`), and a file that
/// was looked for under either name at the wrong moment must not pass for one that is not there.
fn in_turn(archive: &Path, whole: ArchiveFile, partial: Option<ArchiveFile>, stat: Stat) -> io::Result<Vec<Copy>> {
    let mut copies = named(archive, whole, stat)?;
    if let Some(partial) = partial {
        copies.extend(named(archive, partial, stat)?);
    }
    if copies.is_empty() {
        copies = named(archive, whole, stat)?;
    }
    // Of an archive that is gone, or whose directory may not be entered, nothing can be said. It is looked at last: it
    // may have gone in between.
    if copies.is_empty() && !fs::metadata(archive.join("."))?.is_dir() {
        return Err(io::Error::from(io::ErrorKind::NotADirectory));
    }
    Ok(copies)
}

/// What the system says of a path.
type Stat<'a> = &'a mut dyn FnMut(&Path) -> nix::Result<FileStat>;

/// The copies that have one of this file's names.
fn named(archive: &Path, file: ArchiveFile, stat: Stat) -> io::Result<Vec<Copy>> {
    let place = place_of(archive);
    let is_in_pg_wal = super::archive::is_pg_wal(archive);
    let mut copies = Vec::new();
    for folder in Layouts::ANY.places_of(file) {
        if !is_there(archive, folder, stat)? {
            continue;
        }
        for compression in Compression::OF_SEGMENTS {
            for path in names_of(file, compression).iter().map(|name| archive.join(path_in(folder, name))) {
                match stat(&path) {
                    Ok(found) => copies.push(Copy {
                        identity: Identity::of_any(place, &found),
                        is_plain: Identity::of(place, &found).is_some(),
                        path,
                        compression,
                        is_partial: matches!(file, ArchiveFile::Partial(_)),
                        is_in_pg_wal,
                    }),
                    Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
    }
    Ok(copies)
}

/// Whether an archive has this folder: most have none, and then it is enough to ask once.
fn is_there(archive: &Path, folder: Option<Folder>, stat: Stat) -> io::Result<bool> {
    let Some(folder) = folder else { return Ok(true) };
    match stat(&archive.join(folder.to_string())) {
        Ok(found) => Ok(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

impl Copy {
    /// Reads a segment, and hands it on a block after the other. The first block comes with a header that is right;
    /// that the whole is, is known when it has all been handed on.
    ///
    /// # Errors
    /// [`Unfit`]; `take`'s own errors are the second kind of result.
    pub fn read_segment<E>(
        &self,
        expected: &Expected,
        take: &mut dyn FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<Result<(), E>, Unfit> {
        let bytes = expected.size.bytes();
        let form = self.form(Some(expected.size))?;
        if form == Compression::None && self.identity.bytes != bytes {
            return Err(Unfit::Damaged(format!("it has {} bytes instead of {bytes}", self.identity.bytes)));
        }
        let mut segment = self.open(form, bytes).map_err(|error| unfit(form, error))?;
        let mut read = 0;
        loop {
            let block = segment.next_block().map_err(|error| unfit(form, error))?;
            if read == 0 {
                self.check_header(block, expected)?;
            }
            read += block.len() as u64;
            if block.is_empty() || read > bytes {
                break;
            }
            if let Err(error) = take(block) {
                return Ok(Err(error));
            }
        }
        match read == bytes {
            true => Ok(Ok(())),
            false => Err(Unfit::Damaged(format!("it holds {read} bytes instead of {bytes}"))),
        }
    }

    /// How it is packed: where its name does not say so, its first bytes do.
    fn form(&self, size: Option<SegmentSize>) -> Result<Compression, Unfit> {
        if !self.is_plain {
            return Err(Unfit::Damaged("it is not a plain file".to_owned()));
        }
        let is_whole = size.is_some_and(|size| size.bytes() == self.identity.bytes);
        if is_whole { Ok(self.compression) } else { Ok(compress::form_of(&self.path, self.compression, None)?) }
    }

    fn open(&self, form: Compression, bytes: u64) -> io::Result<Box<dyn Blocks>> {
        if self.is_partial {
            return blocks::open_partial(&self.path, form, bytes);
        }
        if form == Compression::Gzip && bytes > LARGE {
            let reader = compress::open(&self.path, form, &compress::Count::default())?;
            return Ok(blocks::of_plain(reader));
        }
        blocks::open(&self.path, form, bytes)
    }

    fn check_header(&self, front: &[u8], expected: &Expected) -> Result<(), Unfit> {
        let damaged = |why: String| Err(Unfit::Damaged(why));
        let header = match SegmentHeader::parse(front) {
            Ok(header) => header,
            Err(BadPage::Zeroed) if self.is_in_pg_wal => return Err(Unfit::Unwritten),
            Err(bad) => return damaged(bad.to_string()),
        };
        let start = expected.name.start(expected.size);
        // Of another cluster it may be, whatever it says else.
        if header.system_identifier != expected.system_identifier {
            return damaged(format!(
                "it is of another cluster: its system identifier is {} instead of {}",
                header.system_identifier, expected.system_identifier
            ));
        }
        if header.pageaddr < start && self.is_in_pg_wal {
            return Err(Unfit::Unwritten);
        }
        if header.pageaddr != start {
            return damaged(format!("its first page is that of {} instead of {start}", header.pageaddr));
        }
        if header.segment_size != expected.size {
            return damaged(format!("its segment size is {} bytes", header.segment_size.bytes()));
        }
        if header.layout.major != expected.major {
            return damaged(format!("PostgreSQL {} wrote it, not {}", header.layout.major, expected.major));
        }
        if header.timeline > expected.name.timeline {
            return damaged(format!("its first page is of timeline {}", header.timeline));
        }
        Ok(())
    }

    /// Reads a history or `.backup` file.
    ///
    /// # Errors
    /// [`Unfit`].
    pub fn read_text(&self, file: ArchiveFile) -> Result<Vec<u8>, Unfit> {
        let form = self.form(None)?;
        let bytes = match form {
            Compression::None => {
                let mut bytes = Vec::new();
                open_file(&self.path)?.take(SMALL_FILE + 1).read_to_end(&mut bytes)?;
                bytes
            }
            _ => compress::front(&self.path, form, SMALL_FILE + 1).map_err(|error| unfit(form, error))?,
        };
        if bytes.len() as u64 > SMALL_FILE {
            return Err(Unfit::Damaged("it is much too long".to_owned()));
        }
        if let ArchiveFile::History(timeline) = file {
            check_history(timeline, &bytes).map_err(Unfit::Damaged)?;
        }
        Ok(bytes)
    }
}

/// What the system says nothing about is in the file itself.
fn unfit(form: Compression, error: io::Error) -> Unfit {
    if form != Compression::None && error.raw_os_error().is_none() {
        return Unfit::Damaged(format!("it cannot be unpacked: {error}"));
    }
    Unfit::Unreadable(error)
}

/// An empty one was created and never written: a server would take it for a timeline without a past.
fn check_history(timeline: TimelineId, bytes: &[u8]) -> Result<(), String> {
    match History::parse(timeline, &String::from_utf8_lossy(bytes)) {
        Ok(history) if history.entries.is_empty() => Err("it names no timeline".to_owned()),
        Ok(_) => Ok(()),
        Err(bad) => Err(bad.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_is_renamed_while_it_is_looked_for_is_there() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path();
        let name = SegmentName::parse("000000010000000000000007").unwrap();
        let (whole, partial) = (ArchiveFile::Segment(name), ArchiveFile::Partial(name));
        let (before, after) = (archive.join(format!("{name}.gz.partial")), archive.join(format!("{name}.gz")));
        let look = |partial| {
            // Received to its end just before it is asked whether the partial is there.
            let mut looks = |path: &Path| {
                if *path == before {
                    let _ = fs::rename(&before, &after);
                }
                stat(path)
            };
            in_turn(archive, whole, partial, &mut looks).unwrap().into_iter().map(|copy| copy.path).collect::<Vec<_>>()
        };
        assert!(look(Some(partial)).is_empty(), "there is none");
        fs::write(&before, "").unwrap();
        assert!(look(None).is_empty(), "nobody may use the partial");
        assert_eq!(look(Some(partial)), [after.as_path()]);
        assert_eq!(look(Some(partial)), [after.as_path()], "once");
        assert!(in_turn(&archive.join("gone"), whole, Some(partial), &mut |path| stat(path)).is_err());
    }
}
