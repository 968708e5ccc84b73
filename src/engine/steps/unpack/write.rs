//! What the threads of an unpacking share, and how each of them writes a file: counted, held against the manifest, and
//! noted when it is complete.

use std::fs::File;
use std::io::{self, BufRead};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::catalog::Part;
use crate::core::Lsn;
use crate::error::{Error, ErrorKind, Result};
use crate::pgdata::RunningChecksum;
use crate::pgdata::page::Pages;
use crate::source::Cancel;
use crate::source::compress::Count;

use super::super::super::host::tree::{NewFile, Tree};
use super::done::Done;
use super::ledger::{Expected, Ledger};
use super::names::{Fate, Kind, TABLESPACE_MAP, confined, fate};

/// Bytes that are read at a time.
pub(super) const BLOCK: usize = 256 << 10;
/// The longest `tablespace_map` that is looked at.
const LONGEST_MAP: usize = 1 << 20;
/// More that is wrong is not remembered: it would not be read.
const MOST_TOLERATED: usize = 1000;
const CONTROL_FILE: &str = "global/pg_control";
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// What the threads share.
pub(super) struct Work<'a> {
    pub(super) count: Count,
    /// Whether something of an earlier run may be there.
    pub(super) replace: bool,
    pub(super) ledger: Mutex<Ledger>,
    pub(super) done: Mutex<Done>,
    /// The backup's `tablespace_map`.
    pub(super) map: Mutex<Option<Vec<u8>>>,
    /// What was found wrong where the backup is only read: then that is no reason to stop.
    pub(super) tolerated: Option<Mutex<Vec<Error>>>,
    /// The backup's `pg_control`, where the backup is only read.
    pub(super) control: Mutex<Option<Vec<u8>>>,
    /// Where the backup began, where the checksums of pages are looked at; and the files in which some are wrong.
    pub(super) pages_before: Option<Lsn>,
    pub(super) wrong_pages: Mutex<Vec<(PathBuf, u64)>>,
    /// Files that were read, and of them hard links, which were not compared.
    pub(super) files: AtomicU64,
    pub(super) links: AtomicU64,
    cancel: &'a Cancel,
    doing: Mutex<String>,
    failure: Mutex<Option<Error>>,
    stopped: AtomicBool,
    skipped: AtomicU64,
    unsynced: AtomicU64,
}

/// Locks what a thread that panicked may have left: the panic ends the program anyway.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<'a> Work<'a> {
    pub(super) fn new(ledger: Ledger, done: Done, replace: bool, cancel: &'a Cancel) -> Work<'a> {
        Work {
            count: Count::default(),
            replace,
            ledger: Mutex::new(ledger),
            done: Mutex::new(done),
            map: Mutex::default(),
            tolerated: None,
            control: Mutex::default(),
            pages_before: None,
            wrong_pages: Mutex::default(),
            files: AtomicU64::new(0),
            links: AtomicU64::new(0),
            cancel,
            doing: Mutex::default(),
            failure: Mutex::default(),
            stopped: AtomicBool::new(false),
            skipped: AtomicU64::new(0),
            unsynced: AtomicU64::new(0),
        }
    }

    /// Of a backup that is only read.
    pub(super) fn reading(ledger: Ledger, cancel: &'a Cancel) -> Work<'a> {
        Work { tolerated: Some(Mutex::default()), ..Work::new(ledger, Done::nothing(), false, cancel) }
    }

    /// Takes note of what is wrong with a file, where that is no reason to stop.
    ///
    /// # Errors
    /// The same, where it is one.
    pub(super) fn tolerate(&self, error: Error) -> Result<()> {
        match &self.tolerated {
            Some(tolerated) if error.report().kind != ErrorKind::Interrupted => {
                let mut tolerated = locked(tolerated);
                if tolerated.len() < MOST_TOLERATED {
                    tolerated.push(error);
                }
                Ok(())
            }
            _ => Err(error),
        }
    }

    /// Whether the contents of a file are looked at as a whole.
    fn keeps(&self, name: &Path) -> bool {
        name == Path::new(TABLESPACE_MAP) || (self.tolerated.is_some() && name == Path::new(CONTROL_FILE))
    }

    fn keep(&self, name: &Path, contents: Vec<u8>) {
        let place = if name == Path::new(CONTROL_FILE) { &self.control } else { &self.map };
        *locked(place) = Some(contents);
    }

    /// For work to ask now and then.
    ///
    /// # Errors
    /// When it was cancelled, or another thread has failed.
    pub(super) fn check(&self) -> Result<()> {
        self.cancel.check()?;
        if self.stopped.load(Ordering::Relaxed) {
            // The error that counts is the other thread's.
            return Err(Error::new(ErrorKind::Interrupted, "cancelled", "cancelled"));
        }
        Ok(())
    }

    /// Keeps the first error, and has all threads stop.
    pub(super) fn fail(&self, error: Error) {
        locked(&self.failure).get_or_insert(error);
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Has other threads begin, after some have failed.
    pub(super) fn go_on(&self) {
        self.stopped.store(false, Ordering::Relaxed);
    }

    /// # Errors
    /// The first that a thread had.
    pub(super) fn outcome(&self) -> Result<()> {
        locked(&self.failure).take().map_or(Ok(()), Err)
    }

    /// The name of a file that is being unpacked.
    pub(super) fn doing(&self) -> String {
        locked(&self.doing).clone()
    }

    /// Bytes of the backup that an earlier run had unpacked.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    /// Bytes that were written since the last call that gave `true`, where they are as many as `enough`.
    pub(super) fn is_due(&self, enough: u64) -> bool {
        let due = self.unsynced.load(Ordering::Relaxed) >= enough;
        if due {
            self.unsynced.store(0, Ordering::Relaxed);
        }
        due
    }
}

/// Where the contents of a part go.
pub(super) struct Place<'a> {
    pub(super) part: &'a Part,
    /// Where they are written; `None` where the backup is only read.
    pub(super) tree: Option<Tree>,
    /// What the manifest has before the names of these files.
    pub(super) prefix: PathBuf,
    /// The tablespaces that have places of their own.
    pub(super) placed: Vec<u32>,
    /// Directories in this part that are other parts.
    pub(super) others: Vec<PathBuf>,
    /// Whether `pg_wal` may be a link to what belongs to the backup: else it leads to the original's.
    pub(super) follows_wal: bool,
}

impl Place<'_> {
    /// What becomes of an entry, by the name that the part has for it.
    pub(super) fn fate(&self, named: &Path, kind: &Kind) -> Fate {
        let Some(relative) = self.part.name_inside(named) else { return Fate::LeftOut };
        let kind = match kind {
            Kind::HardLink(target) => match self.part.name_inside(target) {
                Some(target) => Kind::HardLink(target),
                None => {
                    return Fate::Refused(format!("it is a link to {}, and that is not unpacked", target.display()));
                }
            },
            other => other.clone(),
        };
        if confined(&relative).is_some_and(|name| self.is_of_another(&name)) {
            return Fate::LeftOut;
        }
        fate(&relative, &kind, self.part.holds, &self.placed)
    }

    /// Whether a name in this part is one of another part.
    pub(super) fn is_of_another(&self, relative: &Path) -> bool {
        self.others.iter().any(|other| relative.starts_with(other))
    }
}

/// Writes the files of one part, for one thread.
pub(super) struct Writer<'w> {
    work: &'w Work<'w>,
    place: &'w Place<'w>,
    tree: Option<Tree>,
    block: Vec<u8>,
}

/// A file that is being written.
pub(super) struct Writing {
    name: PathBuf,
    file: Option<NewFile>,
    checksum: RunningChecksum,
    expected: Option<Expected>,
    kept: Option<Vec<u8>>,
    pages: Option<Pages>,
    bytes: u64,
    sparse: bool,
}

/// What a file is to be.
#[derive(Debug)]
pub(super) struct Wanted<'f> {
    pub(super) relative: &'f Path,
    pub(super) mode: u32,
    /// How long it is.
    pub(super) bytes: u64,
    /// How many bytes are read for it.
    pub(super) stored: u64,
    pub(super) read_only: bool,
    /// Whether what is zero in it may be left out.
    pub(super) sparse: bool,
}

impl<'w> Writer<'w> {
    pub(super) fn new(work: &'w Work<'w>, place: &'w Place<'w>) -> Writer<'w> {
        Writer { work, place, tree: place.tree.clone(), block: vec![0; BLOCK] }
    }

    pub(super) fn directory(&mut self, relative: &Path, mode: u32) -> Result<()> {
        self.work.check()?;
        self.tree.as_mut().map_or(Ok(()), |tree| tree.make_directory(relative, (mode & 0o750) | 0o700))
    }

    /// Begins with a file; `None` where it is complete already. Then its contents are to be left out.
    ///
    /// # Errors
    /// When the manifest has another size for it, when it came before, or when it cannot be made.
    pub(super) fn begin(&mut self, wanted: &Wanted<'_>) -> Result<Option<Writing>> {
        self.work.check()?;
        let name = self.place.prefix.join(wanted.relative);
        let expected = {
            let mut ledger = locked(&self.work.ledger);
            let noted = ledger.note(&name).and_then(|()| ledger.expect(&name, wanted.bytes));
            noted.or_else(|error| self.work.tolerate(self.in_part(error)).map(|()| None))?
        };
        let known = locked(&self.work.done).known(&name).filter(|_| !wanted.read_only);
        if let (Some(known), Some(tree)) = (known, &mut self.tree)
            && known.bytes == wanted.bytes
            && tree.known(wanted.relative)? == Some(known)
        {
            self.work.skipped.fetch_add(wanted.stored, Ordering::Relaxed);
            return Ok(None);
        }
        let file = match self.tree.as_mut().filter(|_| !wanted.read_only) {
            None => None,
            Some(tree) => Some(tree.create(wanted.relative, (wanted.mode & 0o640) | 0o600, self.work.replace)?),
        };
        *locked(&self.work.doing) = wanted.relative.display().to_string();
        let algorithm = expected.as_ref().and_then(|expected| expected.checksum.as_ref()).map(|sum| sum.algorithm);
        Ok(Some(Writing {
            kept: self.work.keeps(&name).then(Vec::new),
            pages: self.work.pages_before.and_then(|start| Pages::of(&name, start)),
            name,
            file,
            checksum: RunningChecksum::new(algorithm),
            expected,
            bytes: 0,
            sparse: wanted.sparse,
        }))
    }

    /// Ends with a file.
    ///
    /// # Errors
    /// When it is not as the manifest says.
    pub(super) fn finish(&mut self, writing: Writing) -> Result<()> {
        let Writing { name, file, checksum, expected, kept, pages, bytes, .. } = writing;
        if let Some(expected) = &expected {
            let compared = locked(&self.work.ledger).compare(&name, expected, checksum.finish().as_ref());
            compared.or_else(|error| self.work.tolerate(self.in_part(error)))?;
        }
        self.work.files.fetch_add(1, Ordering::Relaxed);
        if let Some(pages) = pages.filter(|pages| pages.wrong() > 0) {
            locked(&self.work.wrong_pages).push((name.clone(), pages.wrong()));
        }
        if let Some(kept) = kept {
            self.work.keep(&name, kept);
        }
        let Some(file) = file else { return Ok(()) };
        let known = file.finish()?;
        self.work.unsynced.fetch_add(bytes, Ordering::Relaxed);
        locked(&self.work.done).add(&name, known)
    }

    /// Gives a file that came before another name.
    ///
    /// # Errors
    /// When no such file came, or the manifest says otherwise.
    pub(super) fn link(&mut self, from: &Path, relative: &Path) -> Result<()> {
        self.work.check()?;
        let name = self.place.prefix.join(relative);
        locked(&self.work.ledger).note(&name)?;
        let Some(tree) = &mut self.tree else {
            locked(&self.work.ledger).leave_out(&name);
            self.work.links.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        };
        let Some(known) = tree.known(from)? else {
            let why = format!("it is a link to {}, and that did not come before", from.display());
            return Err(stray(&self.place.part.path, relative, &why));
        };
        let expected = locked(&self.work.ledger).expect(&name, known.bytes)?;
        if let Some(expected) = &expected {
            let mut checksum = RunningChecksum::new(expected.checksum.as_ref().map(|sum| sum.algorithm));
            let file = tree.open_file(from)?;
            self.read_through(&file, |bytes| checksum.update(bytes))?;
            locked(&self.work.ledger).compare(&name, expected, checksum.finish().as_ref())?;
        }
        self.tree.as_mut().map_or(Ok(()), |tree| tree.link(from, relative, self.work.replace))
    }

    fn read_through(&mut self, file: &File, mut take: impl FnMut(&[u8])) -> Result<()> {
        let mut at = 0;
        loop {
            self.work.check()?;
            let bytes = file.read_at(&mut self.block, at).map_err(|error| broken(&self.place.part.path, &error))?;
            if bytes == 0 {
                return Ok(());
            }
            take(self.block.get(..bytes).unwrap_or_default());
            at += bytes as u64;
        }
    }

    /// Copies the runs of a file that lie behind each other in `from`, from `at` on.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub(super) fn copy_runs(
        &mut self,
        from: &File,
        mut at: u64,
        runs: &[(u64, u64)],
        bytes: u64,
        writing: &mut Writing,
    ) -> Result<()> {
        for (offset, length) in runs {
            writing.hole(self.work, offset.saturating_sub(writing.bytes))?;
            let end = at + length;
            while at < end {
                self.work.check()?;
                let room = usize::try_from(end - at).unwrap_or(BLOCK).min(BLOCK);
                let block = self.block.get_mut(..room).unwrap_or_default();
                let read = read_some(from, block, at).map_err(|error| self.while_reading(writing, &error))?;
                if read == 0 {
                    return Err(self.cut_off(writing));
                }
                writing.take(self.block.get(..read).unwrap_or_default())?;
                self.work.count.add(read as u64);
                at += read as u64;
            }
        }
        writing.hole(self.work, bytes.saturating_sub(writing.bytes))
    }

    /// The same from what comes out of a decompressor.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub(super) fn copy_stream(
        &mut self,
        from: &mut impl BufRead,
        runs: &[(u64, u64)],
        bytes: u64,
        writing: &mut Writing,
    ) -> Result<()> {
        for (offset, length) in runs {
            writing.hole(self.work, offset.saturating_sub(writing.bytes))?;
            let mut left = *length;
            while left > 0 {
                self.work.check()?;
                let there = from.fill_buf().map_err(|error| self.while_reading(writing, &error))?;
                if there.is_empty() {
                    return Err(self.cut_off(writing));
                }
                let taken = usize::try_from(left).unwrap_or(usize::MAX).min(there.len());
                writing.take(there.get(..taken).unwrap_or_default())?;
                from.consume(taken);
                left -= taken as u64;
            }
        }
        writing.hole(self.work, bytes.saturating_sub(writing.bytes))
    }

    /// Copies a whole file, which has so many bytes.
    ///
    /// # Errors
    /// When it cannot be read or written, or is longer or shorter meanwhile.
    pub(super) fn copy_file(&mut self, from: &File, bytes: u64, writing: &mut Writing) -> Result<()> {
        loop {
            self.work.check()?;
            let read =
                read_some(from, &mut self.block, writing.bytes).map_err(|error| self.while_reading(writing, &error))?;
            self.work.count.add(read as u64);
            if read == 0 && writing.bytes == bytes {
                return Ok(());
            }
            if read == 0 || writing.bytes + read as u64 > bytes {
                return Err(Error::failed("backup-changes", "the base backup is changed while it is read")
                    .because(format!("{} had {bytes} bytes a moment ago", writing.name.display()))
                    .hint("is it still being made? try again when it is complete"));
            }
            writing.take(self.block.get(..read).unwrap_or_default())?;
        }
    }

    fn in_part(&self, error: Error) -> Error {
        error.because(format!("in {}", self.place.part.path.display()))
    }

    fn cut_off(&self, writing: &Writing) -> Error {
        self.while_reading(writing, &io::ErrorKind::UnexpectedEof.into())
    }

    fn while_reading(&self, writing: &Writing, error: &io::Error) -> Error {
        let doing = if self.work.tolerated.is_some() { "reading" } else { "unpacking" };
        broken(&self.place.part.path, error).because(format!("while {doing} {}", writing.name.display()))
    }
}

fn read_some(from: &File, block: &mut [u8], at: u64) -> io::Result<usize> {
    loop {
        match from.read_at(block, at) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => return read,
        }
    }
}

impl Writing {
    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        self.checksum.update(bytes);
        self.bytes += bytes.len() as u64;
        if let Some(pages) = &mut self.pages {
            pages.take(bytes);
        }
        if let Some(kept) = self.kept.as_mut().filter(|kept| kept.len() < LONGEST_MAP) {
            kept.extend_from_slice(bytes);
        }
        match &mut self.file {
            Some(file) if self.sparse => file.write_sparsely(bytes),
            Some(file) => file.write(bytes),
            None => Ok(()),
        }
    }

    fn hole(&mut self, work: &Work<'_>, mut bytes: u64) -> Result<()> {
        if let Some(file) = &mut self.file {
            file.skip(bytes)?;
        }
        self.bytes += bytes;
        // Where pages were left out, the others cannot be told by counting any more.
        self.pages = self.pages.take().filter(|_| bytes == 0);
        if matches!(self.checksum, RunningChecksum::None) {
            return Ok(());
        }
        while bytes > 0 {
            work.check()?;
            let piece = usize::try_from(bytes).unwrap_or(ZEROS.len()).min(ZEROS.len());
            self.checksum.update(ZEROS.get(..piece).unwrap_or_default());
            bytes -= piece as u64;
        }
        Ok(())
    }
}

pub(super) fn broken(path: &Path, error: &io::Error) -> Error {
    let error = match error.kind() {
        io::ErrorKind::UnexpectedEof => &io::Error::new(error.kind(), "it ends in the middle of something"),
        _ => error,
    };
    Error::failed("backup-broken", format!("the base backup cannot be read to its end: {}", path.display()))
        .caused_by(error)
        .hint("the file is cut off or damaged; choose another backup: “walback backups” lists them")
}

pub(super) fn stray(part: &Path, entry: &Path, why: &str) -> Error {
    let entry = entry.to_string_lossy();
    Error::failed("backup-suspicious", format!("the base backup has an entry that is not unpacked: {}", part.display()))
        .because(format!("“{}”: {why}", entry.escape_debug()))
        .hint("this is not how PostgreSQL makes base backups; find out who made it")
}
