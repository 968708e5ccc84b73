//! Who works on a recovery: two Walbacks never drive the same one.
//!
//! The lock is that of the journal's file (`flock(2)`): the kernel gives it back when the process ends, however it does,
//! and so does a restart of the machine. What stands beside it only says whose it is.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::{current_account, now};
use crate::core::Timestamp;
use crate::error::{Error, Result};

/// The file that names who has the lock, beside the journal.
const HOLDER: &str = "holder.json";
/// For so long a lock is waited for that somebody may have for a moment only.
const MOMENT: Duration = Duration::from_millis(100);
/// The same where the process that took it is gone.
const PATIENCE: Duration = Duration::from_secs(5);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// A Walback that works on a recovery.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process.
    pub pid: u32,
    /// The machine that it runs on: the state directory may be shared.
    pub host: String,
    /// The user that it runs as.
    pub user: String,
    /// Since when it works on the recovery.
    pub since: Timestamp,
    /// What it was called for: the command's name, without its options.
    pub command: String,
}

impl Holder {
    fn this() -> Holder {
        Holder {
            pid: std::process::id(),
            host: host_name(),
            user: current_account().name,
            since: now(),
            command: command(std::env::args().skip(1)),
        }
    }

    /// Whether no such process runs on this machine any more.
    fn is_gone(&self) -> bool {
        let pid = i32::try_from(self.pid).map(Pid::from_raw);
        self.host == host_name() && pid.is_ok_and(|pid| kill(pid, None) == Err(Errno::ESRCH))
    }

    /// `process 4711 of postgres on db1, “walback restore”, since 2026-11-21 17:04:12.000000 +00:00`
    #[must_use]
    pub fn in_words(&self) -> String {
        let Holder { pid, host, user, since, command } = self;
        let what = if command.is_empty() { "walback".to_owned() } else { format!("walback {command}") };
        format!("process {pid} of {user} on {host}, “{what}”, since {since}")
    }
}

/// Takes the lock of an open journal, and writes down who has it.
///
/// # Errors
/// When somebody else has it, with whoever that is; when the file system knows no locks.
pub(super) fn take(journal: &File, path: &Path) -> Result<()> {
    match try_lock(journal, path) {
        Ok(()) => {
            // Where it cannot be written, whoever comes next is told less.
            let _ = write(&beside(path));
            Ok(())
        }
        Err(fs::TryLockError::WouldBlock) => Err(busy(path)),
        Err(fs::TryLockError::Error(error)) => {
            Err(Error::failed("cannot-write", format!("cannot lock the journal: {}", path.display())).caused_by(&error))
        }
    }
}

/// Waits a little: a program that was killed may leave a child that is just becoming another one, and has the lock until it
/// is; and whoever looks at who works on it has it for a moment.
fn try_lock(journal: &File, path: &Path) -> std::result::Result<(), fs::TryLockError> {
    let begun = Instant::now();
    loop {
        let is_gone = || read(path).is_some_and(|holder| holder.is_gone());
        match journal.try_lock() {
            Err(fs::TryLockError::WouldBlock)
                if begun.elapsed() < MOMENT || begun.elapsed() < PATIENCE && is_gone() =>
            {
                std::thread::sleep(LOOK_AGAIN);
            }
            outcome => return outcome,
        }
    }
}

fn busy(path: &Path) -> Error {
    let error =
        Error::failed("recovery-busy", format!("another walback is working on this recovery: {}", path.display()));
    let error = match read(path) {
        Some(holder) if holder.pid == std::process::id() && holder.host == host_name() => {
            error.because("it is this very program, which has not come to its end yet".to_owned())
        }
        Some(holder) => error.because(holder.in_words()),
        None => error,
    };
    error.hint("wait for it, or follow it with “walback status --events”")
}

/// Who works on the recovery of this journal now; `None` where nobody does. Changes nothing.
#[must_use]
pub fn holder(journal: &Path) -> Option<Option<Holder>> {
    let file = File::open(journal).ok()?;
    match file.try_lock_shared() {
        Err(fs::TryLockError::WouldBlock) => Some(read(journal)).filter(|holder| {
            // What it left has the lock for a moment, and does nothing.
            !holder.as_ref().is_some_and(Holder::is_gone)
        }),
        _ => None,
    }
}

fn read(journal: &Path) -> Option<Holder> {
    serde_json::from_slice(&fs::read(beside(journal)).ok()?).ok()
}

fn beside(journal: &Path) -> PathBuf {
    journal.with_file_name(HOLDER)
}

/// Another user may have written the one before: it is taken away, not written to. Only the directory's owner can
/// enter it, so that anybody may read the file.
fn write(path: &Path) -> std::io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&new)?;
    file.write_all(&serde_json::to_vec(&Holder::this())?)?;
    fs::rename(&new, path)
}

/// What this machine is called.
#[must_use]
pub fn host_name() -> String {
    fs::read_to_string("/proc/sys/kernel/hostname").map_or_else(|_| "?".to_owned(), |name| name.trim().to_owned())
}

/// The command among the words of a command line; none for the interface. Values of options are not words of ours.
fn command(words: impl Iterator<Item = String>) -> String {
    const COMMANDS: [&str; 10] =
        ["restore", "resume", "retarget", "promote", "checklist", "stop", "discard", "status", "demo", "drill"];
    words.into_iter().find(|word| COMMANDS.contains(&word.as_str())).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_the_lock_is_named_and_a_dead_one_is_nobody() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("journal.jsonl");
        let open = || OpenOptions::new().read(true).append(true).create(true).open(&path).unwrap();
        let first = open();
        take(&first, &path).unwrap();
        let refused = take(&open(), &path).unwrap_err();
        assert_eq!(refused.report().code, "recovery-busy");
        assert!(refused.report().causes[0].contains("this very program"), "{refused}");
        assert_eq!(holder(&path).flatten().map(|holder| holder.pid), Some(std::process::id()));

        // Another process, as far as the text goes.
        let other = Holder { pid: 1, user: "somebody".to_owned(), command: "restore".to_owned(), ..Holder::this() };
        fs::write(beside(&path), serde_json::to_vec(&other).unwrap()).unwrap();
        let refused = take(&open(), &path).unwrap_err();
        assert!(refused.report().causes[0].starts_with("process 1 of somebody on "), "{refused}");
        assert!(refused.report().causes[0].contains("“walback restore”"), "{refused}");

        // One that is gone has left somebody who is about to let go.
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        fs::write(beside(&path), serde_json::to_vec(&Holder { pid: child.id(), ..Holder::this() }).unwrap()).unwrap();
        assert_eq!(holder(&path), None);
        let second = open();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| take(&second, &path));
            drop(first);
            waiting.join().unwrap().unwrap();
        });
        drop(second);

        // The text of one that is gone is of no account. Another test's child may just be letting go.
        let begun = Instant::now();
        while holder(&path).is_some() {
            assert!(begun.elapsed() < PATIENCE);
            std::thread::sleep(LOOK_AGAIN);
        }
        take(&open(), &path).unwrap();
    }

    #[test]
    fn only_the_name_of_the_command_is_told() {
        let told = |words: &str| command(words.split(' ').map(str::to_owned));
        assert_eq!(told("--wal secret --json restore --into /x"), "restore");
        assert_eq!(told("--config restore.yaml"), "");
    }
}
