//! What `walback fetch` writes: files in the places that the server names, and segments made ready ahead of replay.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::core::SegmentName;

use super::{boot, not_needed};

/// A server removes what is called like this when it starts after a crash (`RemoveTempXlogFiles`, `xlog.c` of 13 to 18).
const TEMPORARY: &str = "xlogtemp.walback";
/// Whoever makes segments ready has this file locked.
const LOCK: &str = "lock";
/// The segment that the server has asked for last.
const ASKED: &str = "asked";
/// Begins the name of a segment that is being made ready. The file is locked as long as somebody is at it.
const MAKING: &str = "making-";
/// Begins the name of a directory in which a command puts a file; the id of our process follows.
const WORK: &str = "fetching-";
/// So many of those a process may have.
const WORKS: u32 = 100;
/// What kept the disk from taking a segment, as words.
const FAILED: &str = "failed";
/// What the file is called that a command is asked for, as by a server (`RestoreArchivedFile`, `xlogarchive.c`).
const RECOVERED: &str = "RECOVERYXLOG";
/// Instructions have a few hundred bytes, and some for each archive.
const SMALL_FILE: u64 = 1 << 20;

/// Writes a file whole or not at all: beside `path`, synced, renamed. What is there, a link too, is replaced.
///
/// # Errors
/// When it cannot be written, and whatever `write` says.
pub fn put(path: &Path, write: &mut dyn FnMut(&mut File) -> io::Result<()>) -> io::Result<()> {
    let beside = path.with_file_name(TEMPORARY);
    let mut file = create(&beside)?;
    let put = write(&mut file).and_then(|()| file.sync_data()).and_then(|()| fs::rename(&beside, path));
    if put.is_err() {
        let _ = fs::remove_file(&beside);
    }
    put
}

/// Puts a file beside others where there is none of its name yet.
///
/// # Errors
/// As [`put`]. That it is there already is no error.
pub fn put_new(path: &Path, write: &mut dyn FnMut(&mut File) -> io::Result<()>) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => put(path, write),
        Err(error) => Err(error),
    }
}

/// A new file of this name; what was left there is removed. No link is followed.
fn create(path: &Path) -> io::Result<File> {
    remove(path)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Reads a small file of our own; what is a link, or somebody else's, is none.
///
/// # Errors
/// When it cannot be read.
pub fn read_own(path: &Path) -> io::Result<Vec<u8>> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.uid() != geteuid().as_raw() {
        return Err(io::Error::new(io::ErrorKind::PermissionDenied, "it is not a file of this user's own"));
    }
    let mut bytes = Vec::new();
    file.take(SMALL_FILE).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Starts this program again with these arguments, and does not wait for it. It holds on to nothing of ours.
///
/// # Errors
/// When it cannot be started.
pub fn start_again(arguments: &[&str]) -> io::Result<()> {
    let mut command = Command::new(std::env::current_exe()?);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map(drop)
}

/// Closes what was inherited beyond standard input and output: up to PostgreSQL 15 a server's children have its open
/// files, which would keep removed ones on the disk.
pub fn close_inherited() {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Segments that are ready before the server asks for them.
///
/// Each lies there under its own name, that of this run of the machine and that of the version of the file in the archive
/// that it was made of: what has changed since is not served, and what may not have reached the disk before the machine
/// went down is not either. Nothing in it is missed when it is gone.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    /// This run of the machine, where it has a name.
    boot: Option<String>,
}

/// Where a command puts a file. It goes when this does.
#[derive(Debug)]
pub struct Workplace {
    path: PathBuf,
}

/// Makes segments ready; there is one at a time.
#[derive(Debug)]
pub struct Maker<'a> {
    spool: &'a Spool,
    /// Locked as long as this lives.
    _lock: File,
}

/// A segment that is ready, and may not have reached the disk.
#[derive(Debug)]
pub struct Written {
    file: File,
    ready: PathBuf,
}

/// What the system keeps in memory of a segment that was made ready, whatever place and name the file has since.
#[derive(Debug)]
pub struct Cached(File);

impl Written {
    /// What is in memory of it; `None` where too many files are open already.
    #[must_use]
    pub fn cached(&self) -> Option<Cached> {
        self.file.try_clone().ok().map(Cached)
    }
}

impl Cached {
    /// Whether the file has no name any more: only this keeps it on the disk.
    #[must_use]
    pub fn is_removed(&self) -> bool {
        self.0.metadata().is_ok_and(|metadata| metadata.nlink() == 0)
    }

    /// Gives that memory back, what is on the disk stays. The next segment is written to it, then: memory that was used
    /// just now takes a write in a fraction of the time, and what else is in the cache does not make room for it. It is
    /// advice: nothing depends on it.
    pub fn drop_pages(&self) {
        not_needed(&self.0, 0, 0);
    }
}

impl Spool {
    /// The one in this directory, where there is one that is this user's own.
    #[must_use]
    pub fn at(path: &Path) -> Option<Spool> {
        let metadata = fs::symlink_metadata(path).ok()?;
        let is_own = metadata.is_dir() && metadata.uid() == geteuid().as_raw();
        is_own.then(|| Spool { path: path.to_path_buf(), boot: boot() })
    }

    /// The same, made where it is not there.
    #[must_use]
    pub fn make(path: &Path) -> Option<Spool> {
        // Somebody may make it at the same time, or it is something else: that is looked at.
        let _ = DirBuilder::new().mode(0o700).create(path);
        Spool::at(path)
    }

    /// Whether a rename leads from here to that place.
    #[must_use]
    pub fn is_beside(&self, place: &Path) -> bool {
        let parent = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let device = |path: &Path| fs::metadata(path).map(|metadata| metadata.dev()).ok();
        device(parent).is_some_and(|of_place| device(&self.path) == Some(of_place))
    }

    fn ready(&self, name: SegmentName, version: &str) -> PathBuf {
        self.path.join(format!("{name}.{version}.{}", self.boot()))
    }

    fn boot(&self) -> &str {
        self.boot.as_deref().unwrap_or("any")
    }

    /// The segment that is ready in the file of this name.
    fn segment(&self, file: &str) -> Option<SegmentName> {
        let (rest, boot) = file.rsplit_once('.')?;
        let (segment, _) = rest.split_once('.')?;
        SegmentName::parse(segment).filter(|_| boot == self.boot())
    }

    /// Hands a segment over, where it is ready in this version.
    #[must_use]
    pub fn hand_over(&self, name: SegmentName, version: &str, to: &Path) -> bool {
        fs::rename(self.ready(name, version), to).is_ok()
    }

    /// Waits while this segment is being made ready: both would do the same work. Whoever dies gives up its lock.
    pub fn wait_for(&self, name: SegmentName) {
        let path = self.path.join(format!("{MAKING}{name}"));
        if let Ok(file) = OpenOptions::new().read(true).custom_flags(nix::libc::O_NOFOLLOW).open(path) {
            let _ = file.lock_shared();
        }
    }

    /// Notes what the server has asked for.
    pub fn note_asked(&self, name: SegmentName) {
        // Whatever goes wrong here costs some time and nothing else.
        let _ = self.own_file(ASKED).and_then(|mut file| file.write_all(name.to_string().as_bytes()));
    }

    /// A small file of the spool, made where it is not there, for writing over its beginning.
    fn own_file(&self, name: &str) -> io::Result<File> {
        let mut how = OpenOptions::new();
        how.write(true).create(true).truncate(false).mode(0o600).custom_flags(nix::libc::O_NOFOLLOW);
        how.open(self.path.join(name))
    }

    /// What the server has asked for last.
    #[must_use]
    pub fn asked(&self) -> Option<SegmentName> {
        SegmentName::parse(&String::from_utf8_lossy(&read_own(&self.path.join(ASKED)).ok()?))
    }

    /// The segments that are ready.
    #[must_use]
    pub fn all_ready(&self) -> Vec<SegmentName> {
        let name = |entry: fs::DirEntry| self.segment(entry.file_name().to_str()?);
        fs::read_dir(&self.path).into_iter().flatten().flatten().filter_map(name).collect()
    }

    /// Why the disk did not take a segment that was handed over already, where that has happened. It is told once: that
    /// ends the server, and the next one asks for that segment again.
    #[must_use]
    pub fn take_failure(&self) -> Option<String> {
        let path = self.path.join(FAILED);
        let words = read_own(&path).ok()?;
        let _ = fs::remove_file(path);
        Some(String::from_utf8_lossy(&words).into_owned())
    }

    /// Bytes that are free on its file system for this user.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let Ok(stat) = statvfs(&self.path) else { return 0 };
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size()))
    }

    /// A directory for a command to put a file into; what dead processes have left of theirs is removed.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn workplace(&self) -> io::Result<Workplace> {
        for entry in fs::read_dir(&self.path)?.flatten() {
            let name = entry.file_name();
            let process = name.to_str().and_then(|name| name.strip_prefix(WORK)?.split('-').next());
            if process.is_some_and(|process| !Path::new("/proc").join(process).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        // A process may need two at once: it serves a segment, and those that lie beside it.
        for number in 0.. {
            let path = self.path.join(format!("{WORK}{}-{number}", std::process::id()));
            match DirBuilder::new().mode(0o700).create(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && number < WORKS => {}
                made => return made.map(|()| Workplace { path }),
            }
        }
        Err(io::ErrorKind::AlreadyExists.into())
    }

    /// Becomes the one who makes segments ready; `None` where somebody is at it, or nobody can be.
    #[must_use]
    pub fn maker(&self) -> Option<Maker<'_>> {
        let lock = self.own_file(LOCK).ok()?;
        lock.try_lock().ok()?;
        Some(Maker { spool: self, _lock: lock })
    }
}

impl Workplace {
    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn place(&self) -> PathBuf {
        self.path.join(RECOVERED)
    }

    /// Where the file shall go, as a command is told: the whole path, where a shell takes it for one word without quotes,
    /// else from the data directory on.
    #[must_use]
    pub fn told(&self) -> String {
        let is_harmless = |c: char| c.is_ascii_alphanumeric() || matches!(c, '/' | '.' | '_' | '-' | '+' | '@' | ',');
        let whole = fs::canonicalize(&self.path).ok().map(|path| path.join(RECOVERED));
        let whole = whole.as_ref().and_then(|path| path.to_str());
        if let Some(whole) = whole.filter(|path| path.chars().all(is_harmless)) {
            return whole.to_owned();
        }
        // The spool lies two folders below the data directory.
        let below: Vec<_> = self.place().components().rev().take(4).map(|part| part.as_os_str().to_owned()).collect();
        below.iter().rev().collect::<PathBuf>().display().to_string()
    }

    /// Gives the file that came its own name.
    ///
    /// # Errors
    /// When it cannot be renamed.
    pub fn take(&self, name: &str) -> io::Result<()> {
        fs::rename(self.place(), self.path.join(name))
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.path);
    }
}

impl Maker<'_> {
    /// Removes what somebody who died has left half made.
    pub fn remove_unfinished(&self) {
        self.remove(&|name| name.starts_with(MAKING));
    }

    /// Removes the segments that are not among these: nobody will ask for them any more.
    pub fn keep(&self, wanted: &[SegmentName]) {
        let is_wanted = |name: &str| self.spool.segment(name).is_some_and(|segment| wanted.contains(&segment));
        self.remove(&|name| is_segment(name) && !is_wanted(name));
    }

    fn remove(&self, is_stale: &dyn Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.spool.path).into_iter().flatten().flatten() {
            if is_stale(entry.file_name().to_str().unwrap_or_default()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Makes a segment ready. Nobody sees it before it is whole. [`Maker::sync`] is for what comes out: nobody waits for the
    /// disk then but the server, who syncs it once more when it has it, and has little left to do.
    ///
    /// # Errors
    /// When it cannot be written, and whatever `write` says.
    pub fn prepare(
        &self,
        name: SegmentName,
        version: &str,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> io::Result<Written> {
        let making = self.spool.path.join(format!("{MAKING}{name}"));
        let mut file = create(&making)?;
        file.lock()?;
        let ready = self.spool.ready(name, version);
        // Where runs of the machine have no names, it could not be told thereafter from one that was synced.
        let sync = |file: &File| if self.spool.boot.is_some() { Ok(()) } else { file.sync_data() };
        let made = write(&mut file).and_then(|()| sync(&file)).and_then(|()| fs::rename(&making, &ready));
        if let Err(error) = made {
            let _ = fs::remove_file(&making);
            return Err(error);
        }
        file.unlock()?;
        Ok(Written { file, ready })
    }

    /// Brings a segment to the disk.
    ///
    /// # Errors
    /// When the disk does not take it.
    pub fn sync(&self, written: Written) -> io::Result<()> {
        self.settle(&written.ready, written.file.sync_data())
    }

    /// What the system could not write to the disk, it may forget, and tells only one who asks: the server would not hear of
    /// it. Where it has the segment already, the next call fails.
    fn settle(&self, ready: &Path, synced: io::Result<()>) -> io::Result<()> {
        let Err(error) = synced else { return Ok(()) };
        if fs::remove_file(ready).is_err() {
            let words = format!("{}: {error}", ready.display());
            self.spool.own_file(FAILED)?.write_all(words.as_bytes())?;
        }
        Err(error)
    }
}

/// Whether a file is, or was, a segment that is ready.
fn is_segment(file: &str) -> bool {
    file.get(..24).is_some_and(|name| SegmentName::parse(name).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u32) -> SegmentName {
        SegmentName::parse(&format!("00000001{number:016X}")).unwrap()
    }

    fn ready(spool: &Spool, number: u32) {
        let maker = spool.maker().unwrap();
        let written = maker.prepare(name(number), "v", &mut |file| file.write_all(b"wal")).unwrap();
        maker.sync(written).unwrap();
    }

    #[test]
    fn what_an_earlier_run_of_the_machine_made_ready_is_not_served() {
        let directory = tempfile::tempdir().unwrap();
        let (spool, to) = (Spool::make(&directory.path().join("spool")).unwrap(), directory.path().join("to"));
        ready(&spool, 1);
        ready(&spool, 2);
        assert_eq!(spool.all_ready().len(), 2);
        let later = Spool { boot: Some("later".to_owned()), ..Spool::at(&spool.path).unwrap() };
        assert_eq!(later.all_ready(), []);
        assert!(!later.hand_over(name(1), "v", &to) && !spool.hand_over(name(1), "other", &to));
        assert!(spool.hand_over(name(1), "v", &to) && to.exists());
        ready(&later, 3);
        later.maker().unwrap().keep(&[name(2), name(3)]);
        assert_eq!((spool.all_ready(), later.all_ready()), (vec![], vec![name(3)]));
    }

    #[test]
    fn what_the_disk_did_not_take_is_taken_back_or_told() {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::make(&directory.path().join("spool")).unwrap();
        ready(&spool, 1);
        let maker = spool.maker().unwrap();
        let broken = || Err(io::Error::from_raw_os_error(nix::libc::EIO));
        assert!(maker.settle(&spool.ready(name(1), "v"), broken()).is_err());
        assert_eq!((spool.all_ready(), spool.take_failure()), (vec![], None));
        assert!(maker.settle(&spool.ready(name(1), "v"), broken()).is_err());
        assert!(spool.take_failure().unwrap().contains("Input/output error"));
        assert_eq!(spool.take_failure(), None);
    }
}
