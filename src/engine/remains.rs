//! Processes that are about to start or promote a server, or that a server left behind when it was killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::plan::chain::{PROGRAM, output_argument};

use super::host::launch;
use super::server::running;

/// How long such processes may take to come to their end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a process may take that is just becoming another program: on a busy machine, its turn comes late.
const BECOMING: Duration = Duration::from_secs(1);

/// Waits until it is clear whether a server runs in a data directory, and gives its process id where one does.
///
/// A Walback that is killed leaves its launcher or its `pg_ctl` at work, and a postmaster that is killed its children,
/// which notice after a moment: a second server must not be started beside them.
///
/// # Errors
/// When they do not end.
pub fn settle(directory: &Path) -> Result<Option<u32>> {
    let (started, mut quiet) = (Instant::now(), 0);
    loop {
        let server = running(directory);
        let mut left = if server.is_some() { at_work_on(directory, server) } else { around(directory) };
        if server.is_none() && started.elapsed() < BECOMING {
            left.extend(processes().filter(|pid| becomes_a_program(*pid)));
        }
        // A look takes a moment, in which a process can go on from where it was not seen to where it is not seen any more.
        quiet = if left.is_empty() { quiet + 1 } else { 0 };
        if quiet == 2 || quiet == 1 && server.is_some() {
            return Ok(server);
        }
        if quiet == 0 && started.elapsed() > PATIENCE {
            let named: Vec<String> = left.iter().map(u32::to_string).collect();
            return Err(Error::failed(
                "server-remains",
                format!("processes of a server that is gone still work in {}", directory.display()),
            )
            .because(format!("process {}", named.join(", ")))
            .hint("end them, and try again: a second server beside them would damage the data"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// All of them, where no server runs.
fn around(directory: &Path) -> Vec<u32> {
    let mut all = at_work_on(directory, None);
    all.extend(left_in(directory));
    all
}

/// Whether a process is just becoming another program (`execve(2)`): it has a file already, and its command line is not
/// there yet. Nobody can tell whose it is.
fn becomes_a_program(pid: u32) -> bool {
    fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
        && fs::read_link(format!("/proc/{pid}/exe")).is_ok()
}

/// Processes that were called to start or promote a server in this directory, or are that server and do not say so yet;
/// but for `server`, which does.
#[must_use]
pub fn at_work_on(directory: &Path, server: Option<u32>) -> Vec<u32> {
    let wanted = directory.as_os_str().as_encoded_bytes();
    let is_called = |pid: &u32| {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        let is_program = |name: &str| words.first().is_some_and(|program| program.ends_with(name.as_bytes()));
        let is_launcher = words.get(1) == Some(&launch::SUBCOMMAND.as_bytes());
        (is_program("/postgres") || is_program("/pg_ctl") || is_launcher) && words.contains(&wanted)
    };
    processes().filter(|pid| Some(*pid) != server).filter(is_called).collect()
}

/// The programs that a Walback which is gone left combining backups for this directory.
#[must_use]
pub fn combining_for(directory: &Path) -> Vec<u32> {
    let output = output_argument(directory);
    let is_called = |pid: &u32| {
        let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
        let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
        // What is in its place may be a script: then its interpreter comes first.
        let is_program = words.iter().take(2).any(|program| program.ends_with(PROGRAM.as_bytes()));
        let becomes_it = words.get(1) == Some(&launch::AS_USER.as_bytes());
        (is_program || becomes_it) && words.contains(&output.as_bytes())
    };
    processes().filter(is_called).collect()
}

/// What a server runs in its directory: itself, and what its `restore_command` consists of, which may still write there.
pub(super) const OF_A_SERVER: [&str; 8] = ["postgres", "walback", "cp", "gzip", "lz4", "zstd", "xz", "bzip2"];

/// Processes of a server that work in this directory.
fn left_in(directory: &Path) -> Vec<u32> {
    let Ok(wanted) = directory.canonicalize() else { return Vec::new() };
    let works_there = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == wanted)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| OF_A_SERVER.contains(&name.trim_end()))
    };
    // The operator may be there, too.
    let ours = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
    processes().filter(|pid| Some(*pid) != ours).filter(works_there).collect()
}

pub(super) fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
