//! What a command has fetched, kept below the cache directory: `fetched/`, with a directory for each command in it.
//!
//! A segment's file is there whole or not at all: it is written elsewhere, looked at, synced and renamed. Which files
//! the command has given, and which it has not, is in the ledger `known`, a line for each time; the files themselves
//! take no more than a bounded number of bytes, and the oldest go first. Several Walbacks use it at once.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::libc;
use nix::unistd::geteuid;
use sha2::{Digest, Sha256};

use crate::core::{ArchiveFile, FetchCommand};
use crate::error::{Error, Result};

/// The directory below the cache directory.
const DIRECTORY: &str = "fetched";
/// Says whose it is.
const MARK: &str = "README";
const MARK_TEXT: &str =
    "walback keeps here what fetch commands gave, to not fetch it again. All of it may be removed.\n";
/// What is known of the command's files.
const LEDGER: &str = "known";
/// Whoever removes old files has this locked.
const LOCK: &str = "lock";
/// Begins the name of a directory in which a command is at work; the id of Walback's process follows.
const WORK: &str = "work-";
/// Where a command puts a file, as a server names it.
const PLACE: &str = "pg_wal/RECOVERYXLOG";
/// So many of the newest segments stay, whatever the bound: they are being read.
const STAY: usize = 4;
/// A ledger of more bytes than this is not one.
const LEDGER_BYTES: u64 = 1 << 30;

/// What is known of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Known {
    /// Its size and a checksum over it, where the command gave it; `None` where it said that it is not there.
    pub(super) contents: Option<(u64, u64)>,
    /// How often it has been another one than before.
    pub(super) generation: u32,
    /// When that was found out, in seconds since 1970.
    pub(super) at: i64,
}

/// What one command has fetched.
#[derive(Debug)]
pub(super) struct Store {
    /// That of all commands.
    root: PathBuf,
    directory: PathBuf,
    /// So many bytes the segments of all commands may take.
    bound: u64,
    known: Mutex<BTreeMap<ArchiveFile, Known>>,
    works: AtomicU64,
}

/// A directory in which a command does its work; it goes when this does.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
}

impl Store {
    /// The one of this command below the cache directory.
    pub(super) fn open(cache: &Path, command: &FetchCommand, bound: u64) -> Result<Store> {
        let root = cache.join(DIRECTORY);
        let digest = Sha256::digest(&command.command);
        let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        let directory = root.join(name);
        let unusable = |error: &io::Error| unusable(&directory, error);
        DirBuilder::new().recursive(true).mode(0o700).create(&directory).map_err(|error| unusable(&error))?;
        let metadata = fs::symlink_metadata(&directory).map_err(|error| unusable(&error))?;
        if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
            return Err(unusable(&io::Error::other("it is not a directory of this user's own")));
        }
        let known = Mutex::default();
        let store = Store { root, directory: directory.clone(), bound, known, works: AtomicU64::new(0) };
        store.mark().map_err(|error| unusable(&error))?;
        store.remove_left_over();
        store.reload().map_err(|error| unusable(&error))?;
        Ok(store)
    }

    fn mark(&self) -> io::Result<()> {
        match own().write(true).create_new(true).open(self.root.join(MARK)) {
            Ok(mut file) => file.write_all(MARK_TEXT.as_bytes()),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Removes what processes have left that are no more.
    fn remove_left_over(&self) {
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(WORK)) else { continue };
            let process = rest.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(process).exists() {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// Reads again what is known: another Walback may have fetched more.
    pub(super) fn reload(&self) -> io::Result<()> {
        let file = match own().read(true).open(self.ledger()) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        let mut known = BTreeMap::new();
        for line in BufReader::new(file.take(LEDGER_BYTES)).split(b'\n') {
            // A line that breaks off, or is not ours, says nothing.
            known.extend(std::str::from_utf8(&line?).ok().and_then(parse));
        }
        *self.known() = known;
        Ok(())
    }

    fn ledger(&self) -> PathBuf {
        self.directory.join(LEDGER)
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<ArchiveFile, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is known of a file.
    pub(super) fn known_of(&self, file: ArchiveFile) -> Option<Known> {
        self.known().get(&file).copied()
    }

    /// All that is known.
    pub(super) fn all_known(&self) -> Vec<(ArchiveFile, Known)> {
        self.known().iter().map(|(file, known)| (*file, *known)).collect()
    }

    /// A file that is kept here whole.
    pub(super) fn kept(&self, file: ArchiveFile) -> Option<File> {
        let (bytes, _) = self.known_of(file)?.contents?;
        let path = self.path_of(file);
        let kept = own().read(true).open(&path).ok()?;
        let metadata = kept.metadata().ok()?;
        (metadata.is_file() && metadata.uid() == geteuid().as_raw() && metadata.len() == bytes).then_some(kept)
    }

    fn path_of(&self, file: ArchiveFile) -> PathBuf {
        self.directory.join(file.to_string())
    }

    /// A place for a command to work in.
    pub(super) fn work(&self) -> Result<Work> {
        let number = self.works.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{WORK}{}-{number}", std::process::id()));
        let made = DirBuilder::new().recursive(true).mode(0o700).create(path.join("pg_wal"));
        made.map_err(|error| unusable(&path, &error))?;
        Ok(Work { path })
    }

    /// Keeps the file that was fetched to `work`, and opens it.
    pub(super) fn take(&self, work: &Work, file: ArchiveFile) -> Result<File> {
        let place = work.place();
        let path = self.path_of(file);
        let taken = |error: &io::Error| unusable(&path, error);
        let mut fetched = own().read(true).open(&place).map_err(|error| taken(&error))?;
        let contents = checksum(&mut fetched).map_err(|error| taken(&error))?;
        fetched.rewind().map_err(|error| taken(&error))?;
        fetched.sync_data().and_then(|()| fs::rename(&place, &path)).map_err(|error| taken(&error))?;
        let before = self.known_of(file);
        let changed = before.and_then(|before| before.contents).is_some_and(|before| before != contents);
        let generation = before.map_or(0, |before| before.generation) + u32::from(changed);
        self.note(file, Known { contents: Some(contents), generation, at: now() })?;
        self.make_room();
        Ok(fetched)
    }

    /// Notes that the command says that a file is not there.
    pub(super) fn note_absent(&self, file: ArchiveFile) -> Result<()> {
        let generation = self.known_of(file).map_or(0, |before| before.generation);
        self.note(file, Known { contents: None, generation, at: now() })
    }

    fn note(&self, file: ArchiveFile, known: Known) -> Result<()> {
        let path = self.ledger();
        let line = line(file, known);
        // One call, at the end of the file: lines of several processes do not get mixed.
        let mut how = own();
        let written =
            how.append(true).create(true).open(&path).and_then(|mut ledger| ledger.write_all(line.as_bytes()));
        written.map_err(|error| unusable(&path, &error))?;
        self.known().insert(file, known);
        Ok(())
    }

    /// Removes the oldest segments of all commands, where they take too many bytes. Whoever has one open keeps it.
    fn make_room(&self) {
        let lock = self.root.join(LOCK);
        let Ok(lock) = own().write(true).create(true).truncate(false).open(&lock) else { return };
        if lock.lock().is_err() {
            return;
        }
        let below =
            |directory: &Path| fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_segment = |path: &PathBuf| {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(ArchiveFile::parse);
            matches!(name, Some(ArchiveFile::Segment(_) | ArchiveFile::Partial(_)))
        };
        let mut segments: Vec<(SystemTime, u64, PathBuf)> = below(&self.root)
            .flat_map(|directory| below(&directory).collect::<Vec<_>>())
            .filter(is_segment)
            .filter_map(|path| {
                let metadata = fs::symlink_metadata(&path).ok()?;
                Some((metadata.modified().ok()?, metadata.len(), path))
            })
            .collect();
        segments.sort();
        let mut bytes: u64 = segments.iter().map(|(_, bytes, _)| bytes).sum();
        let may_go = segments.len().saturating_sub(STAY);
        for (_, size, path) in segments.into_iter().take(may_go) {
            if bytes <= self.bound {
                return;
            }
            if fs::remove_file(path).is_ok() {
                bytes = bytes.saturating_sub(size);
            }
        }
    }
}

impl Work {
    /// The directory.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Where the command shall put the file, as it is told: the whole path, where a shell takes it for one word without
    /// quotes, else from the directory on.
    pub(super) fn told(&self) -> String {
        let whole = self.place();
        let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ',');
        match whole.to_str().filter(|whole| whole.chars().all(is_harmless)) {
            Some(whole) => whole.to_owned(),
            None => PLACE.to_owned(),
        }
    }

    /// The same as a path.
    pub(super) fn place(&self) -> PathBuf {
        self.path.join(PLACE)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

/// How a file of our own is opened: nobody else may read it, and no link is followed.
fn own() -> OpenOptions {
    let mut how = OpenOptions::new();
    how.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    how
}

fn unusable(path: &Path, error: &io::Error) -> Error {
    Error::failed("cannot-write", format!("what a command fetches cannot be kept in {}", path.display()))
        .caused_by(error)
        .hint("set WALBACK_CACHE_DIR to a directory of your own with some room")
}

/// The size of a file, and a checksum over it.
fn checksum(file: &mut File) -> io::Result<(u64, u64)> {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    let (mut block, mut bytes) = (vec![0; 1 << 18], 0);
    loop {
        let read = file.read(&mut block)?;
        if read == 0 {
            return Ok((bytes, digest.finalize()));
        }
        digest.update(block.get(..read).unwrap_or_default());
        bytes += read as u64;
    }
}

/// A line of the ledger.
fn line(file: ArchiveFile, known: Known) -> String {
    let Known { contents, generation, at } = known;
    let words = match contents {
        Some((bytes, sum)) => format!("{file} there {bytes} {sum:016x} {generation} {at}"),
        None => format!("{file} absent 0 0 {generation} {at}"),
    };
    format!("{words} {:08x}\n", check(&words))
}

fn parse(line: &str) -> Option<(ArchiveFile, Known)> {
    let (words, sum) = line.rsplit_once(' ')?;
    if u32::from_str_radix(sum, 16).ok()? != check(words) {
        return None;
    }
    let mut words = words.split(' ');
    let file = ArchiveFile::parse(words.next()?)?;
    let is_there = words.next()? == "there";
    let (bytes, sum) = (words.next()?.parse().ok()?, u64::from_str_radix(words.next()?, 16).ok()?);
    let (generation, at) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    Some((file, Known { contents: is_there.then_some((bytes, sum)), generation, at }))
}

fn check(words: &str) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    digest.update(words.as_bytes());
    digest.finalize() as u32
}

/// Seconds since 1970.
pub(super) fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(number: u32) -> ArchiveFile {
        ArchiveFile::parse(&format!("00000001{number:016X}")).unwrap()
    }

    fn store(cache: &Path, bound: u64) -> Store {
        Store::open(cache, &FetchCommand::new("fetch %f %p"), bound).unwrap()
    }

    fn fetch(store: &Store, number: u32, contents: &[u8]) {
        let work = store.work().unwrap();
        fs::write(work.place(), contents).unwrap();
        store.take(&work, file(number)).unwrap();
    }

    fn text(file: Option<File>) -> Option<String> {
        file.map(|file| io::read_to_string(file).unwrap())
    }

    #[test]
    fn what_was_fetched_is_kept_and_known_to_all() {
        let cache = tempfile::tempdir().unwrap();
        let (one, other) = (store(cache.path(), 1 << 20), store(cache.path(), 1 << 20));
        fetch(&one, 1, b"wal");
        one.note_absent(file(2)).unwrap();
        assert_eq!(text(one.kept(file(1))).as_deref(), Some("wal"));
        assert!(other.kept(file(1)).is_none());
        other.reload().unwrap();
        assert_eq!(text(other.kept(file(1))).as_deref(), Some("wal"));
        assert_eq!(other.known_of(file(2)).map(|known| known.contents), Some(None));
        fetch(&other, 1, b"wal");
        assert_eq!(other.known_of(file(1)).unwrap().generation, 0);
        fetch(&other, 1, b"other");
        assert_eq!(other.known_of(file(1)).unwrap().generation, 1);
        let left: Vec<_> = fs::read_dir(&one.directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left.len(), 2, "the ledger and a segment: {left:?}");
    }

    #[test]
    fn half_a_file_and_half_a_line_are_none() {
        let cache = tempfile::tempdir().unwrap();
        let before = store(cache.path(), 1 << 20);
        fetch(&before, 1, b"wal");
        fetch(&before, 2, b"more");
        fs::write(before.path_of(file(1)), b"wa").unwrap();
        let ledger = fs::read_to_string(before.ledger()).unwrap();
        fs::write(before.ledger(), &ledger[..ledger.len() - 5]).unwrap();
        fs::create_dir_all(before.directory.join("work-999999999-0/pg_wal")).unwrap();
        let after = store(cache.path(), 1 << 20);
        assert!(after.known_of(file(1)).is_some() && after.kept(file(1)).is_none());
        assert!(after.known_of(file(2)).is_none());
        assert!(!after.directory.join("work-999999999-0").exists());
        fs::remove_file(after.path_of(file(1))).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", after.path_of(file(1))).unwrap();
        assert!(after.kept(file(1)).is_none(), "no link is followed");
    }

    #[test]
    fn the_oldest_go_where_it_becomes_too_much() {
        let cache = tempfile::tempdir().unwrap();
        let store = store(cache.path(), 600);
        for number in 1..=10 {
            fetch(&store, number, &[7; 100]);
            let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000 + u64::from(number));
            File::options().write(true).open(store.path_of(file(number))).unwrap().set_modified(old).unwrap();
        }
        let kept: Vec<u32> = (1..=10).filter(|number| store.kept(file(*number)).is_some()).collect();
        assert_eq!(kept.len(), 6, "{kept:?}");
        assert!(kept.contains(&10) && !kept.contains(&1), "{kept:?}");
        assert!(store.known_of(file(1)).is_some(), "it is known all the same");
    }

    #[test]
    fn a_path_that_a_shell_would_take_apart_is_not_told() {
        let cache = tempfile::tempdir().unwrap();
        let odd = cache.path().join("a $(b) c");
        assert_eq!(store(&odd, 1).work().unwrap().told(), PLACE);
        assert!(store(cache.path(), 1).work().unwrap().told().starts_with('/'));
    }
}
