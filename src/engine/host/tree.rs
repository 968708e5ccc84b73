//! Makes files in a directory of ours by names that come from outside. Each name on the way is opened by itself, below
//! the one before, and no link is followed: whatever lies there, or is put there meanwhile, nothing is written elsewhere.

use std::ffi::OsStr;
use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{FchmodatFlags, FileStat, Mode, fchmodat, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, linkat, symlinkat, unlinkat};

use serde::{Deserialize, Serialize};

use super::staged::{Behind, Staged};
use super::{Account, Host, Rights, failed, is_root, not_needed};
use crate::error::{Error, Result};

/// After so many bytes of a file, the system is asked to begin with writing them to the disk: at the end, when
/// everything is synced, little is left to be waited for.
const WRITEBACK: u64 = 8 << 20;
/// For files that can be longer than they take space for.
const ZEROS: [u8; 4096] = [0; 4096];

/// A directory in which files are made. Each thread has its own value; they may share the directory.
#[derive(Debug)]
pub struct Tree {
    host: Host,
    owner: Account,
    root: Arc<OwnedFd>,
    /// Whether large files are written past the page cache.
    past_cache: bool,
    shown: PathBuf,
    /// The directory that was used last, and what it is called below the root: files come in the order of directories.
    last: Option<(PathBuf, OwnedFd)>,
}

/// What a file is known by when it is looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    /// Its inode.
    pub inode: u64,
    /// Its length.
    pub bytes: u64,
    /// When it was changed last, in nanoseconds since 1970.
    pub changed: i64,
}

/// A file that is being written.
#[derive(Debug)]
pub struct NewFile {
    file: Arc<File>,
    /// What was written so far, or is under way, ends here.
    at: u64,
    /// What comes behind that, where it is put together to be written past the page cache.
    staged: Option<Staged>,
    /// What is under way.
    behind: Option<Behind>,
    /// Whether the file is open so that it is written past the page cache.
    is_direct: bool,
    /// Up to here the system was asked to write it to the disk.
    begun: u64,
    path: PathBuf,
}

impl Host {
    /// The directory `path`, which is there and is no link, for making files in it that belong to `owner`.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn tree(&self, path: &Path, owner: &Account) -> Result<Tree> {
        let opened = self.rights().and_then(|_rights| {
            let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
            nix::fcntl::open(path, flags, Mode::empty()).map_err(io::Error::from)
        });
        let root = opened.map_err(|error| failed("open the directory", path, &error))?;
        Ok(Tree {
            host: self.clone(),
            owner: owner.clone(),
            past_cache: writes_past_cache(&root),
            root: Arc::new(root),
            shown: path.to_path_buf(),
            last: None,
        })
    }
}

impl Clone for Tree {
    fn clone(&self) -> Tree {
        Tree {
            host: self.host.clone(),
            owner: self.owner.clone(),
            root: Arc::clone(&self.root),
            past_cache: self.past_cache,
            shown: self.shown.clone(),
            last: None,
        }
    }
}

impl Tree {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.shown
    }

    /// Makes a directory, with those above it, where it is not there yet.
    ///
    /// # Errors
    /// When it cannot be made, or something else has a name on the way.
    pub fn make_directory(&mut self, relative: &Path, mode: u32) -> Result<()> {
        self.acting("make the directory", relative, |tree| {
            tree.enter(relative, true)?;
            let (parent, name) = split(relative)?;
            let mode = Mode::from_bits_truncate(mode & 0o777);
            Ok(fchmodat(tree.enter(parent, false)?, name, mode, FchmodatFlags::FollowSymlink)?)
        })
    }

    /// Makes a new file, with the directories above it. What has its name already is an error, or removed where it
    /// may be replaced.
    ///
    /// # Errors
    /// When it cannot be made, or something that is not a directory has a name on the way.
    pub fn create(&mut self, relative: &Path, mode: u32, replace: bool) -> Result<NewFile> {
        let path = self.shown.join(relative);
        let file = self.acting("make the file", relative, |tree| {
            let (parent, name) = split(relative)?;
            if replace {
                let parent = tree.enter(parent, true)?;
                match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            let (owner, foreign) = (tree.owner.clone(), is_root() && tree.host.acting.is_none());
            let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            let file = openat(tree.enter(parent, true)?, name, flags, Mode::from_bits_truncate(mode & 0o777))?;
            if foreign {
                fchown(&file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
            }
            Ok(File::from(file))
        })?;
        let (file, staged) = (Arc::new(file), self.past_cache.then(Staged::new));
        Ok(NewFile { file, at: 0, staged, behind: None, is_direct: false, begun: 0, path })
    }

    /// Makes `relative` another name of the file `existing`. What has that name already is an error, or removed where
    /// it may be replaced.
    ///
    /// # Errors
    /// When `existing` is no plain file of this directory, or the link cannot be made.
    pub fn link(&mut self, existing: &Path, relative: &Path, replace: bool) -> Result<()> {
        self.acting("make the link", relative, |tree| {
            let (from, from_name) = split(existing)?;
            let from = tree.enter(from, false)?.as_fd().try_clone_to_owned()?;
            if !is_file(&fstatat(&from, from_name, AtFlags::AT_SYMLINK_NOFOLLOW)?) {
                return Err(io::Error::other("what it leads to is not a plain file"));
            }
            let (parent, name) = split(relative)?;
            let parent = tree.enter(parent, true)?;
            if replace {
                match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(linkat(&from, from_name, parent, name, AtFlags::empty())?)
        })
    }

    /// Makes a symbolic link to `target`, which is text and not looked at, in the place of one that is there.
    ///
    /// # Errors
    /// When something else has its name, or it cannot be made.
    pub fn point(&mut self, relative: &Path, target: &Path) -> Result<()> {
        self.acting("make the link", relative, |tree| {
            let (parent, name) = split(relative)?;
            let parent = tree.enter(parent, true)?;
            match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(there) if is_link(&there) => unlinkat(parent, name, UnlinkatFlags::NoRemoveDir)?,
                Ok(_) => return Err(io::Error::from(io::ErrorKind::AlreadyExists)),
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(error.into()),
            }
            Ok(symlinkat(target, parent, name)?)
        })
    }

    /// What a file is known by; `None` where there is no plain file of that name.
    ///
    /// # Errors
    /// When it cannot be looked at.
    pub fn known(&mut self, relative: &Path) -> Result<Option<Known>> {
        let looked = self.acting("look at", relative, |tree| {
            let (parent, name) = split(relative)?;
            let parent = match tree.enter(parent, false) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                parent => parent?,
            };
            match fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
                Ok(there) if is_file(&there) => Ok(Some(there)),
                Ok(_) | Err(Errno::ENOENT) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })?;
        Ok(looked.map(|there| Known {
            inode: there.st_ino,
            bytes: u64::try_from(there.st_size).unwrap_or_default(),
            changed: nanoseconds(there.st_mtime, there.st_mtime_nsec),
        }))
    }

    /// Opens a plain file of this directory for reading.
    ///
    /// # Errors
    /// When it is none, or cannot be opened.
    pub fn open_file(&mut self, relative: &Path) -> Result<File> {
        self.acting("open", relative, |tree| {
            let (parent, name) = split(relative)?;
            let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
            let file = File::from(openat(tree.enter(parent, false)?, name, flags, Mode::empty())?);
            if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("this is not a plain file")) }
        })
    }

    fn acting<T>(&mut self, what: &str, relative: &Path, act: impl FnOnce(&mut Tree) -> io::Result<T>) -> Result<T> {
        let rights: io::Result<Option<Rights>> = self.host.rights();
        rights.and_then(|_rights| act(self)).map_err(|error| refused(error, what, &self.shown.join(relative)))
    }

    /// The directory of this name; made, with those above it, where it may be.
    fn enter(&mut self, relative: &Path, make: bool) -> io::Result<&OwnedFd> {
        if relative.as_os_str().is_empty() {
            return Ok(&self.root);
        }
        if self.last.as_ref().is_none_or(|(known, _)| known != relative) {
            let opened = self.open_directory(relative, make)?;
            self.last = Some((relative.to_path_buf(), opened));
        }
        self.last.as_ref().map(|(_, opened)| opened).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    fn open_directory(&self, relative: &Path, make: bool) -> io::Result<OwnedFd> {
        let mut inside = self.root.as_fd().try_clone_to_owned()?;
        for component in relative.components() {
            let Component::Normal(name) = component else { return Err(leads_out()) };
            inside = match open_below(&inside, name) {
                Err(Errno::ENOENT) if make => {
                    match mkdirat(&inside, name, Mode::S_IRWXU) {
                        // Another thread may have made it just now.
                        Ok(()) | Err(Errno::EEXIST) => {}
                        Err(error) => return Err(error.into()),
                    }
                    let made = open_below(&inside, name)?;
                    if is_root() && self.host.acting.is_none() {
                        let (uid, gid) = (Uid::from_raw(self.owner.uid), Gid::from_raw(self.owner.gid));
                        fchown(&made, Some(uid), Some(gid))?;
                    }
                    made
                }
                opened => opened?,
            };
        }
        Ok(inside)
    }
}

fn open_below(inside: &OwnedFd, name: &OsStr) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_RDONLY;
    openat(inside, name, flags, Mode::empty())
}

fn split(relative: &Path) -> io::Result<(&Path, &OsStr)> {
    let inside = relative.components().all(|component| matches!(component, Component::Normal(_)));
    let name = relative.file_name().filter(|_| inside).ok_or_else(leads_out)?;
    Ok((relative.parent().unwrap_or(Path::new("")), name))
}

/// Since 1970; they fit until the year 2262.
fn nanoseconds(seconds: i64, more: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000).saturating_add(more)
}

fn leads_out() -> io::Error {
    io::Error::other("the name leads out of the directory")
}

fn kind_of(there: &FileStat) -> nix::libc::mode_t {
    there.st_mode & nix::libc::S_IFMT
}

fn is_file(there: &FileStat) -> bool {
    kind_of(there) == nix::libc::S_IFREG
}

fn is_link(there: &FileStat) -> bool {
    kind_of(there) == nix::libc::S_IFLNK
}

/// A link, or a file, has the name of a directory; or something has the name of the new file.
fn refused(error: io::Error, what: &str, path: &Path) -> Error {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP | Errno::ENOTDIR | Errno::EEXIST | Errno::EISDIR) => {
            Error::failed("not-as-left", format!("cannot {what}: {}", path.display()))
                .caused_by(&error)
                .because("something that Walback did not put there has a name on the way, or the backup has it twice")
                .hint("look at what lies there; “walback discard” removes what the recovery made")
        }
        _ => failed(what, path, &error),
    }
}

/// Whether large files had better be written past the page cache in this directory. Others than these file systems keep
/// checksums, compress, or are elsewhere: there the system's cache knows better.
#[cfg(target_os = "linux")]
fn writes_past_cache(directory: &OwnedFd) -> bool {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC, fstatfs};
    fstatfs(directory).is_ok_and(|known| [EXT4_SUPER_MAGIC, XFS_SUPER_MAGIC].contains(&known.filesystem_type()))
}

#[cfg(not(target_os = "linux"))]
fn writes_past_cache(_: &OwnedFd) -> bool {
    false
}

/// Has a file written past the page cache from now on, or not any more.
#[cfg(target_os = "linux")]
fn set_direct(file: &File, is_direct: bool) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, fcntl};
    let mut flags = OFlag::from_bits_retain(fcntl(file, FcntlArg::F_GETFL)?);
    flags.set(OFlag::O_DIRECT, is_direct);
    fcntl(file, FcntlArg::F_SETFL(flags))?;
    Ok(())
}

#[cfg(not(target_os = "linux"))]
fn set_direct(_: &File, _: bool) -> io::Result<()> {
    Err(io::Error::from(io::ErrorKind::Unsupported))
}

impl NewFile {
    /// Adds bytes at its end.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let Some(staged) = &mut self.staged else { return self.write_now(rest) };
            rest = staged.push(rest);
            if staged.is_full() {
                self.write_block()?;
            }
        }
        Ok(())
    }

    /// The same, leaving out what is zero: the file takes no space there.
    ///
    /// # Errors
    /// When the disk is full, or fails.
    pub fn write_sparsely(&mut self, bytes: &[u8]) -> Result<()> {
        self.settle()?;
        for piece in bytes.chunks(ZEROS.len()) {
            if ZEROS.get(..piece.len()) == Some(piece) {
                self.at += piece.len() as u64;
            } else {
                self.write_now(piece)?;
            }
        }
        Ok(())
    }

    /// Leaves so many bytes out, which are zero then and take no space.
    ///
    /// # Errors
    /// As [`NewFile::write`]: what comes before is written now.
    pub fn skip(&mut self, bytes: u64) -> Result<()> {
        if bytes == 0 {
            return Ok(());
        }
        self.settle()?;
        self.at += bytes;
        Ok(())
    }

    /// How long it is so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.at + self.staged.as_ref().map_or(0, |staged| staged.bytes().len() as u64)
    }

    /// Gives it its length, and what it will be known by.
    ///
    /// # Errors
    /// When that cannot be done.
    pub fn finish(mut self) -> Result<Known> {
        self.settle()?;
        let metadata = self.file.metadata().and_then(|metadata| {
            if metadata.len() == self.at {
                return Ok(metadata);
            }
            self.file.set_len(self.at)?;
            self.file.metadata()
        });
        let metadata = metadata.map_err(|error| failed("write", &self.path, &error))?;
        if self.begun > 0 && self.at > self.begun {
            self.begin_writeback();
        }
        let changed = nanoseconds(metadata.mtime(), metadata.mtime_nsec());
        Ok(Known { inode: metadata.ino(), bytes: metadata.len(), changed })
    }

    fn write_now(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all_at(bytes, self.at).map_err(|error| failed("write", &self.path, &error))?;
        self.at += bytes.len() as u64;
        if self.at - self.begun >= WRITEBACK {
            self.begin_writeback();
        }
        Ok(())
    }

    /// Has the block that was put together written past the page cache, and begins the next one. Where that cannot be done
    /// after all, it is written as usual, and so is what follows.
    fn write_block(&mut self) -> Result<()> {
        let Some(staged) = self.staged.take() else { return Ok(()) };
        if self.behind.is_none() {
            self.is_direct = set_direct(&self.file, true).is_ok();
            self.behind = Behind::start(Arc::clone(&self.file)).ok().filter(|_| self.is_direct);
        }
        let Some(behind) = &mut self.behind else { return self.write_through(&staged) };
        let from = self.at;
        self.at += staged.bytes().len() as u64;
        self.begun = self.at;
        behind.push(staged, from).map_err(|error| failed("write", &self.path, &error))?;
        let spare = if behind.is_full() { self.wait()? } else { None };
        self.staged = Some(spare.unwrap_or_else(Staged::new));
        Ok(())
    }

    /// Waits for the first block under way. Its memory is used again; `None` where there is none.
    fn wait(&mut self) -> Result<Option<Staged>> {
        let Some(behind) = &mut self.behind else { return Ok(None) };
        let waited = behind.wait().map_err(|error| failed("write", &self.path, &error))?;
        let Some((mut staged, at, written)) = waited else { return Ok(None) };
        let written = match written {
            // Not here, or not from there on: a part of it may have been written, and the rest begins anywhere.
            Err(error) if error.raw_os_error() == Some(Errno::EINVAL as i32) => {
                self.end_direct().and_then(|()| self.file.write_all_at(staged.bytes(), at))
            }
            written => written,
        };
        written.map_err(|error| failed("write", &self.path, &error))?;
        staged.clear();
        Ok(Some(staged))
    }

    /// Has written what is under way or put together, the last of it through the page cache, and what follows too.
    fn settle(&mut self) -> Result<()> {
        while self.wait()?.is_some() {}
        self.behind = None;
        match self.staged.take() {
            Some(staged) => self.write_through(&staged),
            None => Ok(()),
        }
    }

    fn write_through(&mut self, staged: &Staged) -> Result<()> {
        self.end_direct().map_err(|error| failed("write", &self.path, &error))?;
        self.write_now(staged.bytes())
    }

    fn end_direct(&mut self) -> io::Result<()> {
        if std::mem::take(&mut self.is_direct) { set_direct(&self.file, false) } else { Ok(()) }
    }

    /// Where the system says that pages are not needed any more, it begins to write those that are not on the disk yet,
    /// and keeps them until then (`generic_fadvise`, Linux). It is advice: nothing depends on it.
    fn begin_writeback(&mut self) {
        not_needed(&self.file, self.begun, self.at - self.begun);
        self.begun = self.at;
    }
}

/// The record of what was done, which grows by lines.
#[derive(Debug)]
pub struct Notes {
    file: File,
    path: PathBuf,
    waiting: Vec<u8>,
    bytes: u64,
}

impl Host {
    /// Goes on with notes behind their first `bytes`, or begins them.
    ///
    /// # Errors
    /// When they cannot be opened.
    pub fn open_notes(&self, path: &Path, bytes: u64, owner: &Account) -> Result<Notes> {
        let opened = self.rights().and_then(|_rights| {
            let mut options = std::fs::OpenOptions::new();
            std::os::unix::fs::OpenOptionsExt::custom_flags(&mut options, OFlag::O_NOFOLLOW.bits());
            let file = options.write(true).create(true).truncate(false).open(path)?;
            file.set_len(bytes)?;
            file.set_permissions(Permissions::from_mode(0o600))?;
            if is_root() && self.acting.is_none() {
                std::os::unix::fs::fchown(&file, Some(owner.uid), Some(owner.gid))?;
            }
            Ok(file)
        });
        let file = opened.map_err(|error| failed("write", path, &error))?;
        Ok(Notes { file, path: path.to_path_buf(), waiting: Vec::new(), bytes })
    }
}

impl Notes {
    /// Adds a line; it is written with the next ones, or at the next [`Notes::write`].
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn add(&mut self, line: &str) -> Result<()> {
        self.waiting.extend_from_slice(line.as_bytes());
        self.waiting.push(b'\n');
        if self.waiting.len() >= 1 << 13 { self.write() } else { Ok(()) }
    }

    /// Hands the lines to the system: they outlive this program, and not a loss of power.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self) -> Result<()> {
        let written = self.file.write_all_at(&self.waiting, self.bytes).and_then(|()| self.file.flush());
        written.map_err(|error| failed("write", &self.path, &error))?;
        self.bytes += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// How long they are.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes + self.waiting.len() as u64
    }

    /// Writes them to the disk.
    ///
    /// # Errors
    /// When that fails.
    pub fn sync(&mut self) -> Result<()> {
        self.write()?;
        self.file.sync_data().map_err(|error| failed("write", &self.path, &error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::host::current_account;
    use std::os::unix::fs::symlink;

    fn tree(directory: &Path) -> Tree {
        let host = Host::new(false).unwrap();
        host.tree(directory, &current_account()).unwrap()
    }

    #[test]
    fn no_link_is_followed_wherever_it_lies() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        std::fs::create_dir_all(inside.join("base")).unwrap();
        std::fs::create_dir(&outside).unwrap();
        std::fs::write(outside.join("file"), "untouched").unwrap();
        symlink(&outside, inside.join("base/1")).unwrap();
        symlink(outside.join("file"), inside.join("link")).unwrap();
        let mut tree = tree(&inside);
        for name in ["base/1/evil", "base/1/deeper/evil", "link"] {
            let error = tree.create(Path::new(name), 0o600, false).unwrap_err();
            assert_eq!(error.report().code, "not-as-left", "{name}");
        }
        assert!(tree.make_directory(Path::new("base/1"), 0o700).is_err());
        assert!(tree.link(Path::new("base/1/file"), Path::new("other"), false).is_err());
        assert!(tree.open_file(Path::new("link")).is_err());
        assert_eq!(tree.known(Path::new("link")).unwrap(), None);
        for name in ["../evil", "/evil", "base/../../evil", "", "."] {
            assert!(tree.create(Path::new(name), 0o600, true).is_err(), "{name}");
        }
        // What may be replaced is the link itself.
        let mut mine = tree.create(Path::new("link"), 0o600, true).unwrap();
        mine.write(b"mine").unwrap();
        mine.finish().unwrap();
        assert_eq!(std::fs::read(inside.join("link")).unwrap(), b"mine");
        assert_eq!(std::fs::read(outside.join("file")).unwrap(), b"untouched");
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1);
    }

    #[test]
    fn a_directory_that_becomes_a_link_is_not_written_through() {
        let place = tempfile::tempdir().unwrap();
        let (inside, outside) = (place.path().join("inside"), place.path().join("outside"));
        std::fs::create_dir(&inside).unwrap();
        std::fs::create_dir(&outside).unwrap();
        let mut tree = tree(&inside);
        tree.create(Path::new("base/1"), 0o600, false).unwrap().finish().unwrap();
        std::fs::rename(inside.join("base"), inside.join("moved")).unwrap();
        symlink(&outside, inside.join("base")).unwrap();
        // The directory that is open is still the one that it was, wherever it is now.
        let _ = tree.create(Path::new("base/2"), 0o600, false);
        let _ = tree.clone().create(Path::new("base/3"), 0o600, false);
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn what_is_left_out_takes_no_space_and_is_zero() {
        let place = tempfile::tempdir().unwrap();
        let mut tree = tree(place.path());
        let mut file = tree.create(Path::new("sparse"), 0o600, false).unwrap();
        file.write(b"front").unwrap();
        file.skip(40 << 20).unwrap();
        file.write_sparsely(&vec![0; 1 << 20]).unwrap();
        let known = file.finish().unwrap();
        assert_eq!(known.bytes, 5 + (41 << 20));
        assert_eq!(tree.known(Path::new("sparse")).unwrap(), Some(known));
        let metadata = std::fs::metadata(place.path().join("sparse")).unwrap();
        assert!(metadata.blocks() * 512 < 1 << 20, "{} blocks", metadata.blocks());
        let bytes = std::fs::read(place.path().join("sparse")).unwrap();
        assert!(bytes.starts_with(b"front") && bytes[5..].iter().all(|byte| *byte == 0));
    }

    /// Some directories are on file systems where it is written past the page cache, others are in memory.
    #[test]
    fn a_file_has_what_was_written_however_it_is_written() {
        for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let Ok(place) = tempfile::tempdir_in(place) else { continue };
            let mut tree = tree(place.path());
            for (length, piece) in
                [(0, 1), (1, 1), (8192, 512), (1 << 20, 100_000), ((3 << 20) + 8192, 262_144), ((2 << 20) + 77, 8000)]
            {
                let bytes: Vec<u8> = (0..length).map(|at: usize| (at / 3 + at / 4096) as u8).collect();
                let name = PathBuf::from(format!("{length}"));
                let mut file = tree.create(&name, 0o600, false).unwrap();
                let mut written = 0;
                for piece in bytes.chunks(piece) {
                    file.skip(0).unwrap();
                    file.write(piece).unwrap();
                    written += piece.len() as u64;
                    assert_eq!(file.bytes(), written);
                    assert_eq!(file.staged.is_some(), tree.past_cache);
                }
                // What follows a gap is not where a block begins.
                file.skip(100).unwrap();
                file.write(&bytes).unwrap();
                let known = file.finish().unwrap();
                let there = std::fs::read(place.path().join(&name)).unwrap();
                assert!(there == [&bytes[..], &[0; 100], &bytes].concat(), "{length} in {}", place.path().display());
                assert_eq!(tree.known(&name).unwrap(), Some(known));
            }
        }
    }

    /// Where blocks do not begin as the disk wants them to, it refuses them.
    #[test]
    fn what_is_refused_past_the_cache_is_written_through_it() {
        let place = tempfile::tempdir().unwrap();
        let mut tree = tree(place.path());
        let mut file = tree.create(Path::new("file"), 0o600, false).unwrap();
        file.at = 1;
        let bytes: Vec<u8> = (0..(5 << 20) + 3).map(|at: usize| (at / 5 + 1) as u8).collect();
        bytes.chunks(100_000).for_each(|piece| file.write(piece).unwrap());
        assert_eq!(file.behind.is_some(), tree.past_cache);
        assert_eq!(file.finish().unwrap().bytes, bytes.len() as u64 + 1);
        let there = std::fs::read(place.path().join("file")).unwrap();
        assert!(there[0] == 0 && there[1..] == bytes[..]);
    }

    #[test]
    fn what_every_thread_makes_belongs_to_the_owner() {
        if !is_root() {
            // Nobody else can give files away. Said past what `cargo test` keeps of a test that passes.
            let _ = io::stderr().write_all(b"SKIPPED: what_every_thread_makes_belongs_to_the_owner: only for root\n");
            return;
        }
        let place = tempfile::tempdir().unwrap();
        std::fs::set_permissions(place.path(), Permissions::from_mode(0o755)).unwrap();
        let owner = super::super::account("nobody").unwrap();
        let inside = place.path().join("data");
        let host = Host::new(false).unwrap();
        host.make_directory(&inside, &owner).unwrap();
        let tree = host.acting_as(&owner).tree(&inside, &owner).unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let mut tree = tree.clone();
                scope.spawn(move || {
                    let name = format!("base/{thread}/file");
                    tree.create(Path::new(&name), 0o600, false).unwrap().finish().unwrap();
                    tree.make_directory(Path::new(&format!("other/{thread}")), 0o700).unwrap();
                    assert!(Uid::effective().is_root());
                });
            }
        });
        let mut left = vec![inside];
        let mut seen = 0;
        while let Some(path) = left.pop() {
            let metadata = std::fs::symlink_metadata(&path).unwrap();
            assert_eq!((metadata.uid(), metadata.gid()), (owner.uid, owner.gid), "{}", path.display());
            seen += 1;
            if metadata.is_dir() {
                left.extend(std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            }
        }
        assert_eq!(seen, 1 + 2 + 4 * 2 + 4);
    }
}
