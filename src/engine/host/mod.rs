//! The only place that changes the world: files, processes, the clock, SQL.

use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, User};

use crate::core::time::Timestamp;
use crate::error::{Error, ErrorKind, Result};

pub mod clusters;
mod combining;
pub mod facts;
pub mod launch;
pub mod lock;
pub mod programs;
pub(crate) mod space;
pub mod spool;
mod staged;
mod system;
pub mod tree;

/// How often a program that runs long is looked at.
const WATCH_EVERY: Duration = Duration::from_millis(50);

/// A user of the operating system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id.
    pub uid: u32,
    /// Its primary group.
    pub gid: u32,
    /// Its home directory, where the system knows one.
    pub home: Option<PathBuf>,
}

/// The permission to change this machine. With `--read-only` none can be had.
#[derive(Debug, Clone)]
pub struct Host {
    /// This program, which starts servers as another user and in a session of their own.
    program: PathBuf,
    /// Whose rights files are reached with, where it is not this program's own.
    acting: Option<Account>,
}

impl Host {
    /// # Errors
    /// With `--read-only`, and where the program cannot find itself.
    pub fn new(read_only: bool) -> Result<Host> {
        if read_only {
            return Err(Error::usage("read-only", "this would change something, and --read-only forbids it")
                .hint("leave --read-only out"));
        }
        let program = std::env::current_exe()
            .map_err(|error| Error::failed("no-program", "cannot find this program's own file").caused_by(&error))?;
        Ok(Host { program, acting: None })
    }

    /// The same, reaching files with the rights of `owner` and no more. For everything inside a directory that the
    /// server's user owns: that user could put a link there at any moment, and root would follow it.
    #[must_use]
    pub fn acting_as(&self, owner: &Account) -> Host {
        Host { acting: Some(owner.clone()), ..self.clone() }
    }

    /// Reads a small file inside a data directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let _rights = self.rights()?;
        fs::read(path)
    }

    /// Takes on the rights to act with, until the value is dropped.
    fn rights(&self) -> io::Result<Option<Rights>> {
        match &self.acting {
            Some(owner) if is_root() => Rights::of(owner).map(Some),
            _ => Ok(None),
        }
    }

    /// Makes a directory that only `owner` can enter.
    ///
    /// # Errors
    /// When it exists already, or cannot be made.
    pub fn make_directory(&self, path: &Path, owner: &Account) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("make the directory", path, &error))?;
        fs::DirBuilder::new().mode(0o700).create(path).map_err(|error| failed("make the directory", path, &error))?;
        self.give(path, owner)
    }

    /// Makes a directory inside a data directory where it is not there yet.
    ///
    /// # Errors
    /// When it cannot be made, or something else has its name.
    pub fn ensure_directory(&self, path: &Path, owner: &Account) -> Result<()> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(()),
            Ok(_) => Err(Error::failed("not-a-directory", format!("this is not a directory: {}", path.display()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.make_directory(path, owner),
            Err(error) => Err(failed("look at", path, &error)),
        }
    }

    /// Takes over an empty directory: 0700, owned by `owner`.
    ///
    /// # Errors
    /// When it is not empty any more, or cannot be changed.
    pub fn take_directory(&self, path: &Path, owner: &Account) -> Result<()> {
        let mut entries = fs::read_dir(path).map_err(|error| failed("read the directory", path, &error))?;
        if entries.next().is_some() {
            return Err(Error::failed(
                "directory-not-empty",
                format!("the directory is not empty: {}", path.display()),
            )
            .hint("give a new directory with --into; Walback never restores over anything"));
        }
        self.give(path, owner)?;
        fs::set_permissions(path, Permissions::from_mode(0o700))
            .map_err(|error| failed("set the mode of", path, &error))
    }

    /// Makes a new file inside a data directory, owned by `owner`; never follows a link, never replaces anything.
    ///
    /// # Errors
    /// When something has its name already, or it cannot be made.
    pub fn create_file(&self, path: &Path, mode: u32, owner: &Account) -> Result<File> {
        let rights = self.rights().map_err(|error| failed("make the file", path, &error))?;
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
            .map_err(|error| failed("make the file", path, &error))?;
        if is_root() && rights.is_none() {
            fchown(&file, Some(owner.uid), Some(owner.gid))
                .map_err(|error| failed("set the owner of", path, &error))?;
        }
        Ok(file)
    }

    /// What is in a directory inside a data directory.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self, path: &Path) -> io::Result<Vec<fs::DirEntry>> {
        let _rights = self.rights()?;
        fs::read_dir(path)?.collect()
    }

    /// Makes a new file with the contents of another, inside data directories: its own, or where they are to be `shared`,
    /// the very blocks (`FICLONE`). Gives its bytes.
    ///
    /// # Errors
    /// When it exists already, cannot be made, or the file system does not share blocks.
    pub fn clone_file(&self, from: &Path, to: &Path, mode: u32, owner: &Account, shared: bool) -> io::Result<u64> {
        let rights = self.rights()?;
        // Nobody has put a link there.
        let flags = nix::fcntl::OFlag::O_NOFOLLOW.bits();
        let mut original = OpenOptions::new().read(true).custom_flags(flags).open(from)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(to)?;
        let bytes = original.metadata()?.len();
        let copied = match shared {
            // Nothing has no blocks.
            true if bytes == 0 => Ok(()),
            true => rustix::fs::ioctl_ficlone(&file, &original).map_err(io::Error::from),
            false => io::copy(&mut original, &mut file).map(drop),
        };
        let given = copied.and_then(|()| match is_root() && rights.is_none() {
            true => fchown(&file, Some(owner.uid), Some(owner.gid)),
            false => Ok(()),
        });
        given.map(|()| bytes)
    }

    /// Writes a file whole or not at all: beside it, synced, renamed.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_file(&self, path: &Path, contents: &[u8], mode: u32, owner: &Account) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("write", path, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let beside = path.with_file_name(format!("{name}.walback-new"));
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &beside, &error)),
            _ => {}
        }
        let mut file = self.create_file(&beside, mode, owner)?;
        file.write_all(contents).and_then(|()| file.sync_all()).map_err(|error| failed("write", &beside, &error))?;
        fs::rename(&beside, path).map_err(|error| failed("put in place", path, &error))?;
        sync_directory(path.parent().unwrap_or(path))
    }

    /// Writes a document for the operator, with this mode whatever the umask. Where it may `replace` nothing, a file that
    /// is there already is left as it is.
    ///
    /// # Errors
    /// When it is there and must not be replaced, or cannot be written.
    pub fn write_document(&self, path: &Path, contents: &str, mode: u32, replace: bool) -> Result<()> {
        let owner = current_account();
        if replace {
            self.write_file(path, contents.as_bytes(), mode, &owner)?;
        } else {
            let mut file = self.create_file(path, mode, &owner)?;
            file.write_all(contents.as_bytes())
                .and_then(|()| file.sync_all())
                .map_err(|error| failed("write", path, &error))?;
        }
        self.set_mode(path, mode)
    }

    /// Puts a copy of this program into a data directory, for the server's user to run.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub fn copy_program(&self, path: &Path, owner: &Account) -> Result<()> {
        // Its own file may be closed to the owner, and may have been replaced since it was started.
        let mut program = File::open("/proc/self/exe")
            .or_else(|_| File::open(&self.program))
            .map_err(|error| failed("read this program's own file for", path, &error))?;
        let _rights = self.rights().map_err(|error| failed("write", path, &error))?;
        let beside = path.with_extension("walback-new");
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("remove", &beside, &error)),
            _ => {}
        }
        let mut copy = self.create_file(&beside, 0o755, owner)?;
        io::copy(&mut program, &mut copy)
            .and_then(|_| copy.set_permissions(Permissions::from_mode(0o755)))
            .and_then(|()| copy.sync_all())
            .map_err(|error| failed("write", &beside, &error))?;
        // As long as it is open for writing, nobody can run it.
        drop(copy);
        fs::rename(&beside, path).map_err(|error| failed("put in place", path, &error))
    }

    /// Removes a file, if it is there.
    ///
    /// # Errors
    /// When it is there and cannot be removed.
    pub fn remove_file(&self, path: &Path) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("remove", path, &error))?;
        match fs::remove_file(path) {
            Ok(()) => sync_directory(path.parent().unwrap_or(path)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(failed("remove", path, &error)),
        }
    }

    /// Removes everything inside `directory` but the entry `spared`; never follows a link out of it.
    ///
    /// Only for directories that carry Walback's mark, which the caller has checked.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn empty_directory(&self, directory: &Path, spared: Option<&str>) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("empty", directory, &error))?;
        let entries = fs::read_dir(directory).map_err(|error| failed("read the directory", directory, &error))?;
        for entry in entries {
            let entry = entry.map_err(|error| failed("read the directory", directory, &error))?;
            if spared.is_some_and(|spared| entry.file_name() == spared) {
                continue;
            }
            let path = entry.path();
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let removed = if is_directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|error| failed("remove", &path, &error))?;
        }
        Ok(())
    }

    /// Removes everything inside `directory`, the entry `last` at the end, synced before: where that is still there, the
    /// rest may be too.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn empty_directory_but_last(&self, directory: &Path, last: &str) -> Result<()> {
        self.empty_directory(directory, Some(last))?;
        sync_directory(directory)?;
        self.remove_file(&directory.join(last))
    }

    /// Removes an empty directory, if it is there.
    ///
    /// # Errors
    /// When it is not empty, or cannot be removed.
    pub fn remove_directory(&self, path: &Path) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("remove", path, &error))?;
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
            _ => Ok(()),
        }
    }

    /// Gives a directory another name beside the one that it has: one that nothing has, which the system itself sees to
    /// (`renameat2(2)`, `RENAME_NOREPLACE`). Durable when it returns.
    ///
    /// # Errors
    /// When something has the name, when it is a mount point, or when the file system cannot do that.
    pub fn move_aside(&self, from: &Path, to: &Path) -> Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        let cannot = |error: &io::Error| {
            let failed =
                Error::failed("cannot-rename", format!("cannot rename {} to {}", from.display(), to.display()));
            failed.caused_by(error)
        };
        let (Some(parent), Some(old), Some(new)) = (from.parent(), from.file_name(), to.file_name()) else {
            return Err(cannot(&io::ErrorKind::InvalidInput.into()));
        };
        let parent = File::open(parent).map_err(|error| cannot(&error))?;
        // Both names are looked up in the same directory, whatever becomes of the way to it meanwhile.
        renameat_with(&parent, old, &parent, new, RenameFlags::NOREPLACE).map_err(|error| {
            let hint = match io::Error::from(error).kind() {
                io::ErrorKind::AlreadyExists => "make the plan again; it will get another name",
                io::ErrorKind::InvalidInput => "this file system cannot rename without replacing; rename it by hand",
                _ => "rename it by hand, or give a new directory with --into",
            };
            cannot(&error.into()).hint(hint)
        })?;
        parent.sync_all().map_err(|error| cannot(&error))
    }

    /// Sets the mode of a directory of ours.
    ///
    /// # Errors
    /// When it cannot be set.
    pub fn set_mode(&self, path: &Path, mode: u32) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("set the mode of", path, &error))?;
        fs::set_permissions(path, Permissions::from_mode(mode)).map_err(|error| failed("set the mode of", path, &error))
    }

    /// Makes everything on the file system of `path` durable at once.
    ///
    /// # Errors
    /// When the disk reports an error.
    pub fn sync_file_system(&self, path: &Path) -> Result<()> {
        let directory = File::open(path).map_err(|error| failed("open", path, &error))?;
        nix::unistd::syncfs(&directory).map_err(|error| failed("sync the file system of", path, &error.into()))
    }

    /// Makes a directory of Walback's own state, with its parents.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn make_state_directory(&self, path: &Path) -> Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| {
            failed("make the directory", path, &error).hint("set WALBACK_STATE_DIR to a directory of your own")
        })
    }

    /// Opens a journal for appending, and locks it: two Walbacks never drive one recovery.
    ///
    /// # Errors
    /// When it cannot be opened, or another Walback has it.
    pub fn open_journal(&self, path: &Path) -> Result<File> {
        let file = OpenOptions::new().read(true).append(true).create(true).mode(0o600).open(path).map_err(|error| {
            match (error.kind(), owner_name(path)) {
                (io::ErrorKind::PermissionDenied, Some(owner)) => failed("open the journal", path, &error)
                    .hint(format!("the recovery was begun by {owner}: run walback as that user")),
                _ => failed("open the journal", path, &error),
            }
        })?;
        lock::take(&file, path)?;
        if file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            // A new one has to be found again after the machine has gone down.
            path.ancestors().skip(1).take(3).try_for_each(sync_directory)?;
        }
        drop_unfinished_line(&file).map_err(|error| failed("mend the journal", path, &error))?;
        Ok(file)
    }

    /// Adds a line to a journal, synced: what it announces is only then begun.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn append(&self, journal: &mut File, line: &str) -> Result<()> {
        let before = journal.metadata().map(|metadata| metadata.len());
        journal.write_all(line.as_bytes()).and_then(|()| journal.sync_data()).map_err(|error| {
            // Half a line must not stand in the way of the next one; the next opening mends what this cannot.
            let _ = before.and_then(|before| journal.set_len(before));
            Error::failed("journal-unwritable", "cannot write the journal").caused_by(&error).hint("is the disk full?")
        })
    }

    /// Starts a server that outlives this program and its terminal: in a session of its own, as `account`, with its
    /// output added to `log`. Gives the postmaster's process id.
    ///
    /// # Errors
    /// When the program cannot be run. That the server stays up is for the caller to watch.
    pub fn start_server(&self, command: &[String], log: &Path, account: &Account) -> Result<u32> {
        let launcher_failed = |why: String| {
            Error::failed("server-not-started", format!("cannot start the server: {}", command.join(" "))).because(why)
        };
        let output = Command::new(&self.program)
            .arg(launch::SUBCOMMAND)
            .args([&account.name, &log.display().to_string()])
            .args(command)
            .stdin(Stdio::null())
            .output()
            .map_err(|error| launcher_failed(error.to_string()))?;
        let said = String::from_utf8_lossy(&output.stdout);
        match said.trim().parse() {
            Ok(pid) if output.status.success() => Ok(pid),
            _ => Err(launcher_failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
        }
    }

    /// Runs a program to its end as `account` (without that user's further groups), without a shell and without a terminal.
    ///
    /// # Errors
    /// When it cannot be run; with what it said when it fails.
    pub fn run_as(&self, account: &Account, program: &Path, arguments: &[&str]) -> Result<String> {
        let shown = || format!("{} {}", program.display(), arguments.join(" "));
        let output = quiet_command(account, program, arguments)
            .output()
            .map_err(|error| Error::failed("program-failed", format!("cannot run {}", shown())).caused_by(&error))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = [output.stderr, output.stdout].concat();
        Err(Error::failed("program-failed", format!("this failed: {}", shown()))
            .because(String::from_utf8_lossy(&said).trim().to_owned()))
    }

    /// Runs a program that may take long to its end as `account`, as [`Host::run_as`] does; `false` of `go_on`, which is
    /// asked again and again, has it interrupted. Gives what it said, on both its outputs, and whether it succeeded.
    ///
    /// # Errors
    /// When it cannot be run, or was interrupted.
    pub fn run_watched(
        &self,
        account: &Account,
        program: &Path,
        arguments: &[String],
        go_on: &dyn Fn() -> bool,
    ) -> Result<(bool, String)> {
        let shown = format!("{} {}", program.display(), arguments.join(" "));
        watched(quiet_command(account, program, arguments), &shown, &|_| go_on())
    }

    /// The same with all the groups of that user, and with the process id for whoever is asked whether to go on.
    ///
    /// # Errors
    /// When it cannot be run, or was interrupted.
    pub fn run_long(
        &self,
        account: &Account,
        program: &Path,
        arguments: &[String],
        go_on: &dyn Fn(u32) -> bool,
    ) -> Result<(bool, String)> {
        let mut command = command_as(account, program);
        command.args(arguments).stdin(Stdio::null()).current_dir("/");
        // What it says is looked into.
        command.env("LC_ALL", "C").env_remove("PG_COLOR");
        watched(command, &format!("{} {}", program.display(), arguments.join(" ")), go_on)
    }

    /// Ends a program that the caller knows to be ours, at once.
    ///
    /// # Errors
    /// When it may not be sent. That the process is gone already is no error.
    pub fn end_program(&self, pid: u32) -> Result<()> {
        match kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => Err(Error::failed("signal-failed", format!("cannot end process {pid}")).caused_by(&error)),
        }
    }

    /// Renames everything inside of one directory of ours into another on the same file system, but what is called
    /// `left`. Where the first is not there, that was done before. Durable when it returns.
    ///
    /// # Errors
    /// When something cannot be renamed.
    pub fn move_contents(&self, from: &Path, to: &Path, left: &str) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("move", from, &error))?;
        let entries = match fs::read_dir(from) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(|error| failed("read the directory", from, &error))?,
        };
        for entry in entries {
            let entry = entry.map_err(|error| failed("read the directory", from, &error))?;
            if entry.file_name() != left {
                let path = entry.path();
                fs::rename(&path, to.join(entry.file_name())).map_err(|error| failed("put in place", &path, &error))?;
            }
        }
        sync_directory(to)?;
        sync_directory(from)
    }

    /// Removes a directory of ours with everything in it, if it is there.
    ///
    /// # Errors
    /// When something of it cannot be removed.
    pub fn remove_tree(&self, path: &Path) -> Result<()> {
        let _rights = self.rights().map_err(|error| failed("remove", path, &error))?;
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path, &error)),
            _ => Ok(()),
        }
    }

    /// Has a postmaster that the caller knows to be ours read its settings again.
    ///
    /// # Errors
    /// When it may not be sent. That the process is gone is no error.
    pub fn reload(&self, pid: u32) -> Result<()> {
        match kill(Pid::from_raw(pid.cast_signed()), Signal::SIGHUP) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => {
                Err(Error::failed("signal-failed", format!("cannot send SIGHUP to process {pid}")).caused_by(&error))
            }
        }
    }

    /// Asks a postmaster that the caller knows to be ours to shut down.
    ///
    /// # Errors
    /// When it may not be sent. That the process is gone already is no error.
    pub fn shut_down(&self, pid: u32, how: Shutdown) -> Result<()> {
        let signal = match how {
            Shutdown::Fast => Signal::SIGINT,
            Shutdown::Immediate => Signal::SIGQUIT,
        };
        match kill(Pid::from_raw(pid.cast_signed()), signal) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
            Err(error) => {
                Err(Error::failed("signal-failed", format!("cannot send {signal} to process {pid}")).caused_by(&error))
            }
        }
    }

    fn give(&self, path: &Path, owner: &Account) -> Result<()> {
        if !is_root() || self.acting.is_some() {
            return Ok(());
        }
        std::os::unix::fs::lchown(path, Some(owner.uid), Some(owner.gid))
            .map_err(|error| failed("set the owner of", path, &error))
    }
}

/// This thread's rights over files are those of somebody else for as long as this value lives (`setfsuid(2)`): only
/// files, only this thread, so that other threads go on as they are.
/// Nested ones take on the same rights again; the outermost gives them back.
struct Rights {
    before: (Uid, Gid),
}

impl Rights {
    fn of(owner: &Account) -> io::Result<Rights> {
        let (uid, gid) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        // The group first: without root's rights it could not be set any more.
        let group = nix::unistd::setfsgid(gid);
        let before = (nix::unistd::setfsuid(uid), group);
        // It tells only what was before: whether it took is asked by setting it again.
        let took = nix::unistd::setfsuid(uid) == uid && nix::unistd::setfsgid(gid) == gid;
        let rights = Rights { before };
        if took { Ok(rights) } else { Err(io::Error::other(format!("cannot act as {}", owner.name))) }
    }
}

impl Drop for Rights {
    fn drop(&mut self) {
        let (uid, gid) = self.before;
        nix::unistd::setfsuid(uid);
        nix::unistd::setfsgid(gid);
    }
}

/// How a server is shut down (`pg_ctl stop --mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shutdown {
    /// With a checkpoint, or the restartpoint that is under way.
    Fast,
    /// At once; the next start recovers.
    Immediate,
}

/// Whether this program runs as root.
#[must_use]
pub fn is_root() -> bool {
    Uid::effective().is_root()
}

/// Which run of the machine this is, from its start to its end, however that comes about; `None` where the system has no
/// name for it.
#[must_use]
pub fn boot() -> Option<String> {
    let id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    Some(id.trim().to_owned()).filter(|id| !id.is_empty())
}

/// Now, to the microsecond.
#[must_use]
pub fn now() -> Timestamp {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_unix_micros(i64::try_from(since_epoch.as_micros()).unwrap_or_default())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The user with this name.
///
/// # Errors
/// In words, when there is none, or when it is root.
pub fn account(name: &str) -> std::result::Result<Account, String> {
    let user = match User::from_name(name) {
        Ok(Some(user)) => user,
        Ok(None) => return Err(format!("there is no user {name} on this machine")),
        Err(error) => return Err(format!("cannot look up the user {name}: {error}")),
    };
    let account = Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: Some(user.dir) };
    if account.uid == 0 { Err("the server cannot be run as root".to_owned()) } else { Ok(account) }
}

/// The user that owns a directory.
///
/// # Errors
/// In words, when it cannot be looked up, or is root.
pub fn owner_of(path: &Path) -> std::result::Result<Account, String> {
    let uid = fs::metadata(path).map_err(|error| format!("cannot look at {}: {error}", path.display()))?.uid();
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => account(&user.name),
        _ => Err(format!("{} belongs to user id {uid}, which has no name", path.display())),
    }
}

/// The user that runs this program.
#[must_use]
pub fn current_account() -> Account {
    let (uid, gid) = (Uid::effective(), Gid::effective());
    let user = User::from_uid(uid).ok().flatten();
    let home = user.as_ref().map(|user| user.dir.clone());
    let name = user.map_or_else(|| uid.to_string(), |user| user.name);
    Account { name, uid: uid.as_raw(), gid: gid.as_raw(), home }
}

/// A command that runs as `account` where this program runs as root: with all of that user's groups, which archives
/// are often readable by, so that it is this program that becomes the user and then the other program.
pub(crate) fn command_as(account: &Account, program: &Path) -> Command {
    match std::env::current_exe() {
        Ok(this) if is_root() && account.uid != 0 => {
            let mut command = Command::new(this);
            command.args([launch::AS_USER, &account.name]).arg(program);
            command
        }
        _ => Command::new(program),
    }
}

/// The name of whoever owns a file or, where that cannot be looked at, its directory.
fn owner_name(path: &Path) -> Option<String> {
    let metadata = path.ancestors().find_map(|path| fs::metadata(path).ok())?;
    User::from_uid(Uid::from_raw(metadata.uid())).ok().flatten().map(|user| user.name)
}

/// A program that is run as `account` (without that user's further groups), without a shell and without a terminal.
fn quiet_command(account: &Account, program: &Path, arguments: &[impl AsRef<OsStr>]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).current_dir("/");
    if is_root() {
        command.uid(account.uid).gid(account.gid);
    }
    command
}

/// Runs a program that may take long to its end; `false` of `go_on`, which is asked again and again with its process id, has
/// it interrupted. Gives whether it succeeded, and what it said on both its outputs.
fn watched(mut command: Command, shown: &str, go_on: &dyn Fn(u32) -> bool) -> Result<(bool, String)> {
    let cannot = |error: &io::Error| Error::failed("program-failed", format!("cannot run {shown}")).caused_by(error);
    // A file and not a pipe: nobody has to read it meanwhile.
    let output = memfd_create(c"said", MFdFlags::MFD_CLOEXEC).map_err(|error| cannot(&error.into()))?;
    let output = File::from(output);
    let both = output.try_clone().and_then(|out| Ok((out, output.try_clone()?))).map_err(|error| cannot(&error))?;
    // Ctrl-C at the terminal is for us: we pass it on.
    command.stdout(both.0).stderr(both.1).process_group(0);
    let mut child = command.spawn().map_err(|error| cannot(&error))?;
    let mut interrupted = false;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(|error| cannot(&error))? {
            break status;
        }
        if !interrupted && !go_on(child.id()) {
            interrupted = true;
            let _ = kill(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
        }
        std::thread::sleep(WATCH_EVERY);
    };
    if interrupted {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted", format!("interrupted: {}", shown)));
    }
    Ok((status.success(), said(output)))
}

/// What a program wrote, from its beginning; of very much only the end.
fn said(mut output: File) -> String {
    const MOST: u64 = 64 << 10;
    let mut bytes = Vec::new();
    let from = output.metadata().map_or(0, |metadata| metadata.len().saturating_sub(MOST));
    // What cannot be read back is not worth a failure of what was done.
    let _ = output.seek(SeekFrom::Start(from)).and_then(|_| output.read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).trim().to_owned()
}

/// A last line without its end was being written when the machine or the program went down: what it announced was not
/// done, and nothing may be written behind it.
fn drop_unfinished_line(journal: &File) -> io::Result<()> {
    use std::os::unix::fs::FileExt;
    let length = journal.metadata()?.len();
    let mut end = length;
    let mut byte = [0];
    while end > 0 {
        journal.read_exact_at(&mut byte, end - 1)?;
        if byte == [b'\n'] {
            break;
        }
        end -= 1;
    }
    if end < length { journal.set_len(end) } else { Ok(()) }
}

/// Tells the system that the pages of `bytes` bytes of a file from `from` on are not needed in the page cache any more; 0
/// bytes are all that follow. It is advice: nothing depends on it, so nothing is said where the system does not take it.
fn not_needed(file: &File, from: u64, bytes: u64) {
    #[cfg(target_os = "linux")]
    {
        use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
        if let (Ok(from), Ok(bytes)) = (i64::try_from(from), i64::try_from(bytes)) {
            let _ = posix_fadvise(file, from, bytes, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, from, bytes);
}

fn sync_directory(path: &Path) -> Result<()> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(|error| failed("sync the directory", path, &error))
}

fn failed(what: &str, path: &Path, error: &io::Error) -> Error {
    let failed = Error::failed("cannot-write", format!("cannot {what}: {}", path.display())).caused_by(error);
    match error.kind() {
        io::ErrorKind::StorageFull => failed.hint("the file system is full; make space or choose another place"),
        io::ErrorKind::PermissionDenied => failed.hint("run walback as a user who may, or choose another place"),
        _ => failed,
    }
}
