//! Starts the server.

use crate::error::{Error, Result};
use crate::event::What;
use crate::plan::Plan;
use crate::plan::build::server_command;

use super::super::host::{Account, Host};
use super::super::record::Recorder;
use super::super::remains::settle;
use super::super::server::LogTail;

/// Starts the plan's server, and gives where its log ended before. Whether it stays up is for replay to see.
///
/// # Errors
/// When a server runs in the directory already, processes of one are left there, or the program cannot be run.
pub fn start(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>) -> Result<u64> {
    if let Some(pid) = settle(&plan.directory)? {
        return Err(Error::failed(
            "server-running",
            format!("a server runs in this directory already: {} (process {pid})", plan.directory.display()),
        )
        .hint(format!("stop it first: “walback stop {}”", plan.recovery)));
    }
    let log_end = LogTail::end_of(&plan.server.log);
    let command = server_command(&plan.server, &plan.directory);
    let pid = host.start_server(&command, &plan.server.log, owner)?;
    recorder.emit(What::ServerStarted { pid })?;
    Ok(log_end)
}
