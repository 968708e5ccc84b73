//! Processes that are about to start or promote a server, or that a server left behind when it was killed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

use super::host::launch;
use super::server::running;

/// How long such processes may take to come to their end.
const PATIENCE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until it is clear whether a server runs in a data directory, and gives its process id where one does.
///
/// A Walback that is killed leaves its launcher or its `pg_ctl` at work, and a postmaster that is killed its children,
/// which notice after a moment: a second server must not be started beside them.
///
/// # Errors
/// When they do not end.
pub fn settle(directory: &Path) -> Result<Option<u32>> {
    let started = Instant::now();
    loop {
        let server = running(directory);
        let left = if server.is_some() { at_work_on(directory, server) } else { around(directory) };
        if left.is_empty() {
            return Ok(server);
        }
        if started.elapsed() > PATIENCE {
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

/// Processes of a server that work in this directory.
fn left_in(directory: &Path) -> Vec<u32> {
    let Ok(wanted) = directory.canonicalize() else { return Vec::new() };
    let works_there = |pid: &u32| {
        fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == wanted)
            && fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|name| name.trim_end() == "postgres")
    };
    processes().filter(works_there).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}
