//! What `walback fetch` writes: files in the places that the server names, and segments made ready ahead of replay.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::statvfs::statvfs;
use nix::unistd::geteuid;

use crate::core::SegmentName;

/// A server removes what is called like this when it starts after a crash (`RemoveTempXlogFiles`, `xlog.c` of 13 to 18).
const TEMPORARY: &str = "xlogtemp.walback";
/// Whoever makes segments ready has this file locked.
const LOCK: &str = "lock";
/// The segment that the server has asked for last.
const ASKED: &str = "asked";
/// Begins the name of a segment that is being made ready. The file is locked as long as somebody is at it.
const MAKING: &str = "making-";
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
/// Each lies there under its own name and that of the version of the file in the archive that it was made of: what has
/// changed since is not served. Nothing in it is missed when it is gone.
#[derive(Debug)]
pub struct Spool(PathBuf);

/// Makes segments ready; there is one at a time.
#[derive(Debug)]
pub struct Maker<'a> {
    spool: &'a Spool,
    /// Locked as long as this lives.
    _lock: File,
}

impl Spool {
    /// The one in this directory, where there is one that is this user's own.
    #[must_use]
    pub fn at(path: &Path) -> Option<Spool> {
        let metadata = fs::symlink_metadata(path).ok()?;
        (metadata.is_dir() && metadata.uid() == geteuid().as_raw()).then(|| Spool(path.to_path_buf()))
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
        device(parent).is_some_and(|of_place| device(&self.0) == Some(of_place))
    }

    fn ready(name: SegmentName, version: &str) -> String {
        format!("{name}-{version}")
    }

    /// Hands a segment over, where it is ready in this version.
    #[must_use]
    pub fn hand_over(&self, name: SegmentName, version: &str, to: &Path) -> bool {
        fs::rename(self.0.join(Spool::ready(name, version)), to).is_ok()
    }

    /// Waits while this segment is being made ready: both would do the same work. Whoever dies gives up its lock.
    pub fn wait_for(&self, name: SegmentName) {
        let path = self.0.join(format!("{MAKING}{name}"));
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
        how.open(self.0.join(name))
    }

    /// What the server has asked for last.
    #[must_use]
    pub fn asked(&self) -> Option<SegmentName> {
        SegmentName::parse(&String::from_utf8_lossy(&read_own(&self.0.join(ASKED)).ok()?))
    }

    /// The segments that are ready.
    #[must_use]
    pub fn all_ready(&self) -> Vec<SegmentName> {
        let name = |entry: fs::DirEntry| SegmentName::parse(entry.file_name().to_str()?.split_once('-')?.0);
        fs::read_dir(&self.0).into_iter().flatten().flatten().filter_map(name).collect()
    }

    /// Bytes that are free on its file system for this user.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let Ok(stat) = statvfs(&self.0) else { return 0 };
        #[allow(clippy::useless_conversion, reason = "the types differ between systems")]
        u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size()))
    }

    /// Becomes the one who makes segments ready; `None` where somebody is at it, or nobody can be.
    #[must_use]
    pub fn maker(&self) -> Option<Maker<'_>> {
        let lock = self.own_file(LOCK).ok()?;
        lock.try_lock().ok()?;
        Some(Maker { spool: self, _lock: lock })
    }
}

impl Maker<'_> {
    /// Removes what somebody who died has left half made.
    pub fn remove_unfinished(&self) {
        self.remove(&|name| name.starts_with(MAKING));
    }

    /// Removes the segments that are not among these: nobody will ask for them any more.
    pub fn keep(&self, wanted: &[SegmentName]) {
        let segment = |name: &str| name.split_once('-').and_then(|(segment, _)| SegmentName::parse(segment));
        self.remove(&|name| segment(name).is_some_and(|segment| !wanted.contains(&segment)));
    }

    fn remove(&self, is_stale: &dyn Fn(&str) -> bool) {
        for entry in fs::read_dir(&self.spool.0).into_iter().flatten().flatten() {
            if is_stale(entry.file_name().to_str().unwrap_or_default()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// Makes a segment ready. Nobody sees it before it is whole and synced.
    ///
    /// # Errors
    /// When it cannot be written, and whatever `write` says.
    pub fn prepare(
        &self,
        name: SegmentName,
        version: &str,
        write: &mut dyn FnMut(&mut File) -> io::Result<()>,
    ) -> io::Result<()> {
        let making = self.spool.0.join(format!("{MAKING}{name}"));
        let mut file = create(&making)?;
        file.lock()?;
        let ready = self.spool.0.join(Spool::ready(name, version));
        let made = write(&mut file).and_then(|()| file.sync_data()).and_then(|()| fs::rename(&making, &ready));
        if made.is_err() {
            let _ = fs::remove_file(&making);
        }
        made
    }
}
