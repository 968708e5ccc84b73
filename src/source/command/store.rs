//! What a command has fetched, kept below the cache directory: `fetched/`, with a directory for each command in it.
//!
//! A segment's file is there whole or not at all: it is written elsewhere, looked at, synced and renamed. Which files
//! the command has given, and which it has not, is in the ledger `known`, a line for each time; the files themselves
//! take no more than a bounded number of bytes, and the oldest go first. Several Walbacks use it at once.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
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
/// Begins the name of a directory in which a command is at work; the id of Walback's process and a number follow. Whoever
/// made it has it locked: another process may have the same id, in a container of its own or after a restart.
const WORK: &str = "work-";
/// So many names are tried for one.
const TRIES: u32 = 10_000;
/// So many hexadecimal digits name the directory of a command.
const DIGITS: usize = 16;
/// In so many bytes at the front of a ledger is a line of ours.
const FRONT: u64 = 4096;
/// Where a command puts a file, as a server names it.
const PLACE: &str = "pg_wal/RECOVERYXLOG";
/// The directory that this is in.
const WAL: &str = "pg_wal";
/// So many of the newest segments stay, whatever the bound: they are being read.
const STAY: usize = 4;
/// A ledger of more bytes than this is not one.
const LEDGER_BYTES: u64 = 1 << 30;

/// The number of the next work directory of this process, whatever its command.
static WORKS: AtomicU64 = AtomicU64::new(0);

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
}

/// A directory in which a command does its work; it goes when this does.
#[derive(Debug)]
pub(super) struct Work {
    path: PathBuf,
    /// Locked as long as this lives; `None` on a file system that has no locks.
    _lock: Option<File>,
}

impl Store {
    /// The one of this command below the cache directory.
    ///
    /// # Errors
    /// Where it cannot be made, or something is in its place that Walback did not make.
    pub(super) fn open(cache: &Path, command: &FetchCommand, bound: u64) -> Result<Store> {
        let root = cache.join(DIRECTORY);
        let digest = Sha256::digest(&command.command);
        let name: String = digest.iter().take(DIGITS / 2).map(|byte| format!("{byte:02x}")).collect();
        let directory = root.join(name);
        DirBuilder::new().recursive(true).mode(0o700).create(cache).map_err(|error| unusable(cache, &error))?;
        ensure_own(&root).map_err(|error| unusable(&root, &error))?;
        mark(&root)?;
        ensure_own(&directory).map_err(|error| unusable(&directory, &error))?;
        let store = Store { root, directory: directory.clone(), bound, known: Mutex::default() };
        store.remove_left_over();
        store.reload().map_err(|error| unusable(&directory, &error))?;
        Ok(store)
    }

    /// Removes what processes have left that are no more. Whoever is at work has its directory locked.
    fn remove_left_over(&self) {
        // Nobody is between making one and locking it as long as this is held.
        let Some(_lock) = self.lock() else { return };
        for path in below(&self.directory).filter(|path| is_work(path) && is_own_directory(path)) {
            if open_directory(&path).is_ok_and(|directory| directory.try_lock().is_ok()) {
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// Locks the directories of all commands; `None` where that cannot be.
    fn lock(&self) -> Option<File> {
        let lock = own().write(true).create(true).truncate(false).open(self.root.join(LOCK)).ok()?;
        lock.lock().ok()?;
        Some(lock)
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

    /// A place for a command to work in, which is empty.
    pub(super) fn work(&self) -> Result<Work> {
        // Without locks nothing that was left is removed, either.
        let _lock = self.lock();
        for _ in 0..TRIES {
            let number = WORKS.fetch_add(1, Ordering::Relaxed);
            let path = self.directory.join(format!("{WORK}{}-{number}", std::process::id()));
            match make_directory(&path) {
                // Of another process with this id.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(unusable(&path, &error)),
                Ok(()) => {
                    let lock = open_directory(&path).ok().filter(|directory| directory.try_lock().is_ok());
                    let work = Work { path, _lock: lock };
                    make_directory(&work.path.join(WAL)).map_err(|error| unusable(&work.path, &error))?;
                    return Ok(work);
                }
            }
        }
        Err(unusable(&self.directory, &io::ErrorKind::AlreadyExists.into()))
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
        if !is_own_directory(&self.root) {
            return;
        }
        let Some(_lock) = self.lock() else { return };
        let mut segments: Vec<(SystemTime, u64, PathBuf)> = below(&self.root)
            .filter(|directory| is_of_a_command(directory))
            .flat_map(|directory| below(&directory).collect::<Vec<_>>())
            .filter(|path| is_segment(path))
            .filter_map(|path| {
                let metadata = own_metadata(&path).filter(Metadata::is_file)?;
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

/// Marks the directory of all commands as Walback's, where there is nothing in it yet.
///
/// # Errors
/// Where there is something in it, and no mark.
fn mark(root: &Path) -> Result<()> {
    let unusable = |error: &io::Error| unusable(root, error);
    // Looked at first: the mark is whole before anything else is made.
    let entries =
        fs::read_dir(root).and_then(Iterator::collect::<io::Result<Vec<_>>>).map_err(|error| unusable(&error))?;
    let path = root.join(MARK);
    if own_metadata(&path).is_some_and(|metadata| metadata.is_file()) {
        let text = own().read(true).open(&path).and_then(|file| io::read_to_string(file.take(FRONT)));
        if text.is_ok_and(|text| text == MARK_TEXT) {
            return Ok(());
        }
    }
    // One that is empty was being written when somebody was interrupted, or is being written.
    let is_empty_mark = |entry: &fs::DirEntry| {
        entry.file_name() == MARK && own_metadata(&entry.path()).is_some_and(|file| file.is_file() && file.len() == 0)
    };
    if let Some(other) = entries.iter().find(|entry| !is_empty_mark(entry)) {
        let found =
            format!("it holds “{}”, and no {MARK} of Walback's", other.file_name().to_string_lossy().escape_debug());
        return Err(unusable(&io::Error::other(found))
            .hint(format!("or move {} away, where nobody needs what is in it there", root.display())));
    }
    let written = own().write(true).create(true).truncate(false).open(&path);
    written.and_then(|mut file| file.write_all(MARK_TEXT.as_bytes())).map_err(|error| unusable(&error))
}

/// Makes a directory of our own, where there is none yet.
///
/// # Errors
/// Where it cannot be made, or is a link, no directory, or somebody else's.
fn ensure_own(path: &Path) -> io::Result<()> {
    match make_directory(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ if is_own_directory(path) => Ok(()),
        _ => Err(io::Error::other("it is not a directory of this user's own")),
    }
}

fn make_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)
}

fn open_directory(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_DIRECTORY).open(path)
}

/// What is below a directory; nothing where it cannot be read.
fn below(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// Of what is this user's own; a link is not followed.
fn own_metadata(path: &Path) -> Option<Metadata> {
    fs::symlink_metadata(path).ok().filter(|metadata| metadata.uid() == geteuid().as_raw())
}

fn is_own_directory(path: &Path) -> bool {
    own_metadata(path).is_some_and(|metadata| metadata.is_dir())
}

/// Whether this is a directory that a command's files are kept in: by its name, its owner and its ledger.
fn is_of_a_command(path: &Path) -> bool {
    let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    name(path).len() == DIGITS && name(path).bytes().all(is_digit) && is_own_directory(path) && {
        let ledger = path.join(LEDGER);
        own_metadata(&ledger).is_some_and(|metadata| metadata.is_file()) && begins_as_ledger(&ledger)
    }
}

/// Whether there is a line of ours at the front of it.
fn begins_as_ledger(path: &Path) -> bool {
    let mut front = Vec::new();
    let read = own().read(true).open(path).and_then(|file| file.take(FRONT).read_to_end(&mut front));
    let is_ours = |line: &[u8]| std::str::from_utf8(line).ok().and_then(parse).is_some();
    read.is_ok() && front.split(|byte| *byte == b'\n').any(is_ours)
}

/// Whether a segment that was fetched has this name.
fn is_segment(path: &Path) -> bool {
    let file = ArchiveFile::parse(name(path)).filter(|file| file.to_string() == name(path));
    matches!(file, Some(ArchiveFile::Segment(_) | ArchiveFile::Partial(_)))
}

/// Whether a directory that a command works in has this name.
fn is_work(path: &Path) -> bool {
    let numbers = name(path).strip_prefix(WORK).and_then(|rest| rest.split_once('-'));
    let is_number = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    numbers.is_some_and(|(process, number)| is_number(process) && is_number(number))
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

    /// A file of the segment's name in `directory`, so large that it would have to go.
    fn somebodys(directory: &Path) -> PathBuf {
        fs::create_dir_all(directory).unwrap();
        let path = directory.join(file(77).to_string());
        fs::write(&path, [1; 1000]).unwrap();
        let old = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1);
        File::options().write(true).open(&path).unwrap().set_modified(old).unwrap();
        path
    }

    #[test]
    fn only_what_was_fetched_makes_room() {
        use std::os::unix::fs::symlink;
        let (cache, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let one = store(cache.path(), 600);
        let ours = Store::open(cache.path(), &FetchCommand::new("other %f %p"), 600).unwrap();
        fetch(&ours, 1, b"wal");
        let (ledger, root) = (ours.ledger(), one.root.clone());
        let mut stay = Vec::new();
        let mut foreign = |name: &str| {
            stay.push(somebodys(&root.join(name)));
            fs::copy(&ledger, root.join(name).join(LEDGER)).unwrap();
        };
        // No name of ours, each in one way.
        for name in ["pg_wal", "0123456789abcde", "0123456789abcdef0", "0123456789ABCDEF", "0123456789abcdeg"] {
            foreign(name);
        }
        // No ledger, none of ours, and a link to one.
        stay.push(somebodys(&root.join("0000000000000001")));
        stay.push(somebodys(&root.join("0000000000000002")));
        fs::write(root.join("0000000000000002").join(LEDGER), "all about it\n").unwrap();
        stay.push(somebodys(&root.join("0000000000000003")));
        symlink(&ledger, root.join("0000000000000003").join(LEDGER)).unwrap();
        // A link to a directory, which has all that it takes.
        stay.push(somebodys(&elsewhere.path().join("wal")));
        fs::copy(&ledger, elsewhere.path().join("wal").join(LEDGER)).unwrap();
        symlink(elsewhere.path().join("wal"), root.join("0000000000000004")).unwrap();
        // In one of ours: a link, and other names.
        let link = ours.path_of(file(78));
        symlink(stay.first().unwrap(), &link).unwrap();
        let lower = ours.directory.join("0000000100000000000000ab");
        fs::write(&lower, [1; 1000]).unwrap();
        stay.extend([link, lower]);
        // Somebody else's, where we may give something away.
        let others = somebodys(&root.join("0000000000000005"));
        fs::copy(&ledger, others.with_file_name(LEDGER)).unwrap();
        let is_root = geteuid().is_root();
        if is_root {
            std::os::unix::fs::chown(root.join("0000000000000005"), Some(65534), None).unwrap();
        }
        let goes = somebodys(&root.join("0000000000000006"));
        fs::copy(&ledger, goes.with_file_name(LEDGER)).unwrap();
        for number in 1..=5 {
            fetch(&one, number, &[7; 100]);
        }
        for path in stay {
            assert!(fs::symlink_metadata(&path).is_ok(), "{} is gone", path.display());
        }
        assert!(!goes.exists(), "it is like those that stay but has all that it takes");
        assert_eq!(others.exists(), is_root);
    }

    #[test]
    fn a_directory_that_is_not_ours_is_not_used() {
        let refused = |prepare: &dyn Fn(&Path)| {
            let cache = tempfile::tempdir().unwrap();
            prepare(&cache.path().join(DIRECTORY));
            let opened = Store::open(cache.path(), &FetchCommand::new("fetch %f %p"), 1);
            let error = opened.err().map(|error| error.to_string());
            let below = fs::read_dir(cache.path().join(DIRECTORY)).unwrap().count();
            (error.unwrap_or_default(), below)
        };
        let (error, left) = refused(&|root| drop(somebodys(root)));
        assert!(error.contains("no README of Walback's") && error.contains("move"), "{error}");
        assert_eq!(left, 1, "nothing was made in it");
        let (error, _) = refused(&|root| {
            somebodys(root);
            fs::write(root.join(MARK), "notes\n").unwrap();
        });
        assert!(error.contains("no README of Walback's"), "{error}");
        let elsewhere = tempfile::tempdir().unwrap();
        let (error, left) = refused(&|root| std::os::unix::fs::symlink(elsewhere.path(), root).unwrap());
        assert!(error.contains("not a directory of this user's own"), "{error}");
        assert_eq!(left, 0);
        if geteuid().is_root() {
            let (error, left) = refused(&|root| {
                fs::create_dir(root).unwrap();
                std::os::unix::fs::chown(root, Some(65534), None).unwrap();
            });
            assert!(error.contains("not a directory of this user's own"), "{error}");
            assert_eq!(left, 0);
        }
        // An empty one is as good as none, and so is one whose mark was not written to its end.
        let made = |root: &Path| fs::create_dir(root).unwrap();
        assert_eq!(refused(&made).0, "");
        let begun = |root: &Path| {
            made(root);
            fs::write(root.join(MARK), "").unwrap();
        };
        assert_eq!(refused(&begun).0, "");
    }

    #[test]
    fn a_place_to_work_in_is_never_shared() {
        let cache = tempfile::tempdir().unwrap();
        let one = store(cache.path(), 1 << 20);
        let first = one.work().unwrap();
        fs::write(first.place(), b"one").unwrap();
        // The same command again: what is at work stays, and is not handed out twice.
        let other = store(cache.path(), 1 << 20);
        let second = other.work().unwrap();
        assert_ne!(first.path(), second.path());
        assert!(first.place().exists() && !second.place().exists());
        // What somebody with our id has left, behind the next number, is passed over.
        let next = WORKS.load(Ordering::Relaxed);
        let left: Vec<_> = (next..next + 100)
            .map(|number| one.directory.join(format!("{WORK}{}-{number}", std::process::id())))
            .collect();
        for path in &left {
            fs::create_dir_all(path.join(WAL)).unwrap();
            fs::write(path.join(PLACE), b"stale").unwrap();
        }
        let third = one.work().unwrap();
        assert!(!third.place().exists() && !left.contains(&third.path().to_path_buf()));
        // It goes when the store is opened next, though a process has that id; what is no work directory stays.
        let notes = one.directory.join("work-notes");
        fs::create_dir(&notes).unwrap();
        store(cache.path(), 1 << 20);
        assert!(left.iter().all(|path| !path.exists()) && notes.exists());
        assert!([&first, &second, &third].iter().all(|work| work.path().is_dir()));
    }

    #[test]
    fn a_path_that_a_shell_would_take_apart_is_not_told() {
        let cache = tempfile::tempdir().unwrap();
        let odd = cache.path().join("a $(b) c");
        assert_eq!(store(&odd, 1).work().unwrap().told(), PLACE);
        assert!(store(cache.path(), 1).work().unwrap().told().starts_with('/'));
    }
}
