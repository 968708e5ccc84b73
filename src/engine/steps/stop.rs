//! Stops the server, and waits until it is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::source::Cancel;

use super::super::host::{Host, Shutdown};
use super::super::remains::settle;
use super::super::server::is_alive;

/// How long a fast shutdown may take before it is made an immediate one. Mid-recovery it waits for a restartpoint.
const FAST: Duration = Duration::from_secs(60);
/// How long an immediate one may take.
const IMMEDIATE: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Stops the server that runs in `directory`, if one does: fast, and at once where that takes too long. One that is just
/// being started is waited for, and so are the processes of one that was killed.
///
/// # Errors
/// When it may not be signalled, or does not go.
pub fn stop(host: &Host, directory: &Path) -> Result<()> {
    stop_by(host, directory, &[(Shutdown::Fast, FAST), (Shutdown::Immediate, IMMEDIATE)])
}

/// Stops a server that recovers, at once. A fast shutdown would write everything that was replayed, and note in
/// `pg_control` that the copy is consistent nowhere before that: it could never go back (`CreateRestartPoint`,
/// `xlog.c`). This leaves it as a crash would: the next start replays again from the last restartpoint, after it has
/// synced every file, which takes its time where there are very many.
///
/// # Errors
/// When it may not be signalled, or does not go.
pub fn stop_at_once(host: &Host, directory: &Path) -> Result<()> {
    stop_by(host, directory, &[(Shutdown::Immediate, IMMEDIATE)])
}

/// Stops the server that runs in `directory` so that everything is written, however long that takes: a large buffer may
/// have much to write.
///
/// # Errors
/// When it may not be signalled, or it was cancelled.
pub fn stop_written(host: &Host, directory: &Path, cancel: &Cancel) -> Result<()> {
    let Some(pid) = settle(directory)? else { return Ok(()) };
    host.shut_down(pid, Shutdown::Fast)?;
    while is_alive(pid) {
        cancel.check()?;
        std::thread::sleep(LOOK_EVERY);
    }
    settle(directory).map(|_| ())
}

fn stop_by(host: &Host, directory: &Path, ways: &[(Shutdown, Duration)]) -> Result<()> {
    let Some(pid) = settle(directory)? else { return Ok(()) };
    for (how, patience) in ways {
        let (how, patience) = (*how, *patience);
        host.shut_down(pid, how)?;
        let started = Instant::now();
        while started.elapsed() < patience {
            if !is_alive(pid) {
                return settle(directory).map(|_| ());
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
    Err(Error::failed(
        "server-not-stopped",
        format!("the server does not stop: process {pid}, {}", directory.display()),
    )
    .hint("look at its log"))
}
