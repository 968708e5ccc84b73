//! Where the demonstration takes place, and how nothing is left of it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::core::PgMajor;
use crate::engine::Recoveries;
use crate::engine::host::facts::{closed_to, installed_programs};
use crate::engine::host::{Account, Host, Shutdown, current_account, now};
use crate::engine::server::is_alive;
use crate::error::{Error, Result};
use crate::event::RecoveryState;

/// The longest directory in which the server's socket has a path that is not too long: it may have 107 bytes
/// (`UNIXSOCK_PATH_BUFLEN`, `src/include/libpq/pqcomm.h`).
const LONGEST: usize = 80;
/// The longest one in which also the sockets of recoveries find room, so that none lies elsewhere.
const LONGEST_TEMPORARY: usize = 60;
/// How often servers are told to end.
const AGAIN: Duration = Duration::from_millis(500);
/// How long servers may take to end that were told to at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The newest server that `account` can run, with its version.
///
/// # Errors
/// When there is none; in one line, with what to install.
pub fn programs(bin_dir: Option<&Path>, account: Result<Account, String>) -> Result<(PathBuf, PgMajor, Account)> {
    // Links are followed now: the servers' user may be able to enter a directory, and not that of a link to it.
    let complete = |(directory, major): (PathBuf, PgMajor)| {
        directory.join("initdb").is_file().then(|| (directory.canonicalize().unwrap_or(directory), major))
    };
    let installed: Vec<_> = installed_programs(bin_dir).into_iter().filter_map(complete).collect();
    if installed.is_empty() {
        let place = bin_dir.map(|directory| format!(" in {}", directory.display())).unwrap_or_default();
        return Err(Error::failed(
            "no-programs",
            format!(
                "no PostgreSQL {} to {} server (initdb, postgres, pg_ctl) was found{place}: on Debian, “apt-get install postgresql”; elsewhere, name its directory with --bin-dir",
                PgMajor::OLDEST,
                PgMajor::NEWEST
            ),
        ));
    }
    let account = account.map_err(|why| {
        Error::failed("no-server-user", why).hint(
            "PostgreSQL never runs as root: run walback as an ordinary user, or make one with “useradd --system postgres”",
        )
    })?;
    let reachable = installed.iter().find(|(directory, _)| closed_to(&account, directory).is_none());
    match (reachable, installed.first()) {
        (Some((directory, major)), _) => Ok((directory.clone(), *major, account)),
        (None, first) => {
            let directory = first.map(|(directory, _)| directory.display().to_string()).unwrap_or_default();
            Err(Error::failed(
                "programs-closed",
                format!("the user {} cannot enter the directory of the programs: {directory}", account.name),
            )
            .hint("install PostgreSQL where every user can run it, or name another directory with --bin-dir"))
        }
    }
}

/// Stops the demonstration's servers and removes its directory, whatever happens: also in an error or a panic.
#[derive(Debug)]
pub struct Guard {
    host: Host,
    directory: PathBuf,
    removes: bool,
    stops: bool,
}

impl Guard {
    /// Makes the directory: the one that was asked for, which stays, or a temporary one.
    ///
    /// # Errors
    /// When there is something in it already, when it cannot be made, or when the servers' user cannot come there.
    pub fn make(host: Host, into: Option<&Path>, account: &Account) -> Result<Guard> {
        let directory = match into {
            Some(wanted) => make_wanted(&host, wanted, account)?,
            None => make_temporary(&host, account)?,
        };
        Ok(Guard { host, directory, removes: into.is_none(), stops: true })
    }

    /// Where everything is.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether the directory goes when this does.
    #[must_use]
    pub fn removes(&self) -> bool {
        self.removes
    }

    /// Leaves what runs in a directory that stays.
    pub fn leave_running(&mut self) {
        self.stops = self.removes;
    }

    /// Stops and removes now, and tells what goes wrong.
    ///
    /// # Errors
    /// When a server does not end, or something cannot be removed.
    pub fn close(mut self) -> Result<()> {
        let closed = self.clear();
        (self.stops, self.removes) = (false, false);
        closed
    }

    fn clear(&self) -> Result<()> {
        if self.stops {
            stop_servers(&self.host, &self.directory)?;
        }
        if !self.removes {
            return Ok(());
        }
        for outside in self.recoveries_elsewhere() {
            let outside = outside.to_string_lossy();
            eprintln!("note: a recovery outside of the demonstration stays: {}", outside.escape_debug());
        }
        // This process made it, new, and nobody else has business in it. What a server had run may still write a file.
        let started = Instant::now();
        loop {
            let removed = self.host.empty_directory(&self.directory, None);
            match removed.and_then(|()| self.host.remove_directory(&self.directory)) {
                Err(_) if started.elapsed() < PATIENCE => {
                    stop_servers(&self.host, &self.directory)?;
                    std::thread::sleep(Duration::from_millis(50));
                }
                removed => return removed,
            }
        }
    }

    fn recoveries_elsewhere(&self) -> Vec<PathBuf> {
        let known = Recoveries::below(&state_directory(&self.directory)).all().unwrap_or_default();
        let recoveries = known.into_iter().filter_map(|(_, buffer)| buffer.ok()?.recovery());
        let left = recoveries.filter(|recovery| recovery.state != RecoveryState::Discarded);
        left.map(|recovery| recovery.directory).filter(|path| !path.starts_with(&self.directory)).collect()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Err(error) = self.clear() {
            eprintln!("{error}");
        }
    }
}

/// Where the demonstration's recoveries keep their journals.
#[must_use]
pub fn state_directory(directory: &Path) -> PathBuf {
    directory.join("state")
}

fn make_wanted(host: &Host, wanted: &Path, account: &Account) -> Result<PathBuf> {
    let directory = std::path::absolute(wanted).map_err(|error| {
        Error::usage("bad-path", format!("this is no path: {}", wanted.display())).caused_by(&error)
    })?;
    if directory.as_os_str().len() > LONGEST {
        return Err(Error::usage("path-too-long", format!("the path is too long: {}", directory.display()))
            .because(format!("sockets below it would have paths that no system takes; {LONGEST} bytes are possible"))
            .hint("choose a shorter one"));
    }
    let parent = directory.parent().unwrap_or(&directory);
    if let Some(closed) = closed_to(account, parent) {
        return Err(Error::usage(
            "directory-unreachable",
            format!("the user {} that runs the server cannot enter {}", account.name, closed.display()),
        )
        .hint("choose a directory that it can come to, like one below /srv or /tmp"));
    }
    let us = current_account();
    if directory.is_dir() {
        host.take_directory(&directory, &us)?
    } else {
        host.make_directory(&directory, &us)?
    }
    host.set_mode(&directory, 0o755)?;
    Ok(directory)
}

fn make_temporary(host: &Host, account: &Account) -> Result<PathBuf> {
    let fits = |base: &PathBuf| {
        base.is_absolute()
            && base.is_dir()
            && base.as_os_str().len() + "/walback-demo-xxxx".len() <= LONGEST_TEMPORARY
            && closed_to(account, base).is_none()
    };
    let wanted = std::env::var_os("TMPDIR").map(PathBuf::from);
    let base = wanted.filter(fits).unwrap_or_else(|| PathBuf::from("/tmp"));
    let seed = now().unix_micros().unsigned_abs() ^ u64::from(std::process::id());
    for attempt in 0..100 {
        let directory = base.join(format!("walback-demo-{}", letters(seed.wrapping_add(attempt * 7919))));
        if directory.symlink_metadata().is_ok() {
            continue;
        }
        host.make_directory(&directory, &current_account())?;
        host.set_mode(&directory, 0o755)?;
        return Ok(directory);
    }
    Err(Error::failed("no-directory", format!("there is no name left for a directory in {}", base.display()))
        .hint("name one with --into"))
}

/// Four letters and digits that no name before had, most likely.
fn letters(seed: u64) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";
    let mixed = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    [59, 54, 49, 44].map(|shift| char::from(LETTERS[(mixed >> shift) as usize % LETTERS.len()])).iter().collect()
}

/// Ends every server whose data directory lies below `directory`, at once: nothing of it is needed any more.
fn stop_servers(host: &Host, directory: &Path) -> Result<()> {
    let started = Instant::now();
    let mut told: Option<Instant> = None;
    loop {
        let servers = servers_below(directory);
        let Some(server) = servers.iter().find(|server| is_alive(**server)) else { return Ok(()) };
        if started.elapsed() > PATIENCE {
            return Err(Error::failed("server-not-stopped", format!("the server does not stop: process {server}"))
                .hint(format!("end it by hand, then remove {}", directory.display())));
        }
        // One that is just starting may not hear it the first time; whoever has heard it, does not mind.
        if told.is_none_or(|told| told.elapsed() > AGAIN) {
            told = Some(Instant::now());
            servers.iter().try_for_each(|server| host.shut_down(*server, Shutdown::Immediate))?;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The postmasters whose `-D` lies below `directory`, by what the system says of every process: one that was started
/// a moment ago has no `postmaster.pid` yet.
fn servers_below(directory: &Path) -> Vec<u32> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let ours = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|byte| *byte == 0).collect();
        let is_server = words.first().is_some_and(|program| program.ends_with(b"/postgres"));
        is_server && words.windows(2).any(|pair| pair[0] == b"-D" && path(pair[1]).starts_with(directory))
    };
    pids.filter(ours).collect()
}

fn path(bytes: &[u8]) -> &Path {
    use std::os::unix::ffi::OsStrExt;
    Path::new(OsStr::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_of_four_harmless_letters_and_differ() {
        let names: std::collections::HashSet<String> =
            (0..50).map(|n| letters(1_700_000_000_000_000 + n * 7919)).collect();
        assert!(names.len() > 45, "{names:?}");
        assert!(names.iter().all(|name| name.len() == 4 && name.bytes().all(|b| b.is_ascii_alphanumeric())));
    }

    #[test]
    fn where_no_program_is_found_one_line_says_what_to_install() {
        let error = programs(Some(Path::new("/nonexistent")), Err("nobody".to_owned())).unwrap_err().to_string();
        assert_eq!(error.lines().count(), 1, "{error}");
        assert!(error.contains("/nonexistent") && error.contains("apt-get install postgresql"), "{error}");
    }

    #[test]
    fn a_guard_removes_what_it_made_and_nothing_that_stays() {
        let base = tempfile::tempdir().unwrap();
        let us = current_account();
        let kept = base.path().join("kept");
        let guard = Guard::make(Host::new(false).unwrap(), Some(&kept), &us).unwrap();
        fs::write(guard.directory().join("file"), "").unwrap();
        drop(guard);
        assert!(kept.join("file").exists());
        let error = Guard::make(Host::new(false).unwrap(), Some(&kept), &us).unwrap_err();
        assert_eq!(error.report().code, "directory-not-empty");

        let guard = Guard::make(Host::new(false).unwrap(), None, &us).unwrap();
        let directory = guard.directory().to_path_buf();
        fs::create_dir(directory.join("below")).unwrap();
        std::os::unix::fs::symlink(&kept, directory.join("below/link")).unwrap();
        drop(guard);
        assert!(!directory.exists() && kept.join("file").exists());
    }
}
