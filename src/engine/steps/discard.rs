//! Removes what a recovery made, and nothing else.

use crate::error::Result;
use crate::plan::Plan;
use crate::plan::build::OWN_DIRECTORY;

use super::super::host::Host;
use super::super::mark::Mark;
use super::stop::stop;

/// Stops the server, and removes everything in the data directory; and the directory, where Walback made it.
///
/// # Errors
/// When the directory does not carry this recovery's mark, or something cannot be removed.
pub fn discard(host: &Host, plan: &Plan) -> Result<()> {
    if !plan.directory.exists() {
        return Ok(());
    }
    let mark = Mark::check(&plan.directory, &plan.recovery)?;
    stop(host, &plan.directory)?;
    // The mark goes last: what is interrupted here can be discarded again.
    host.empty_directory(&plan.directory, Some(OWN_DIRECTORY))?;
    if !plan.server.socket_directory.starts_with(&plan.directory) {
        host.remove_directory(&plan.server.socket_directory)?;
    }
    host.empty_directory(&plan.directory, None)?;
    if mark.made_directory { host.remove_directory(&plan.directory) } else { Ok(()) }
}

/// Makes the data directory as empty as it was before unpacking, but for what is Walback's own.
///
/// # Errors
/// When the directory does not carry this recovery's mark, or something cannot be removed.
pub fn clear_for_unpacking(host: &Host, plan: &Plan) -> Result<Mark> {
    let mark = Mark::check(&plan.directory, &plan.recovery)?;
    stop(host, &plan.directory)?;
    host.empty_directory(&plan.directory, Some(OWN_DIRECTORY))?;
    Ok(mark)
}
