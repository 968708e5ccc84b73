//! Stops the server, and waits until it is gone.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

use super::super::host::{Host, Shutdown};
use super::super::remains::settle;
use super::super::server::is_alive;

/// How long a fast shutdown may take before it is made an immediate one. Mid-recovery it waits for a restartpoint.
const FAST: Duration = Duration::from_secs(60);
/// How long an immediate one may take.
const IMMEDIATE: Duration = Duration::from_secs(30);

/// Stops the server that runs in `directory`, if one does: fast, and at once where that takes too long. One that is just
/// being started is waited for, and so are the processes of one that was killed.
///
/// # Errors
/// When it may not be signalled, or does not go.
pub fn stop(host: &Host, directory: &Path) -> Result<()> {
    let Some(pid) = settle(directory)? else { return Ok(()) };
    for (how, patience) in [(Shutdown::Fast, FAST), (Shutdown::Immediate, IMMEDIATE)] {
        host.shut_down(pid, how)?;
        let started = Instant::now();
        while started.elapsed() < patience {
            if !is_alive(pid) {
                return settle(directory).map(|_| ());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    Err(Error::failed(
        "server-not-stopped",
        format!("the server does not stop: process {pid}, {}", directory.display()),
    )
    .hint("look at its log"))
}
