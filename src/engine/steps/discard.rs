//! Removes what a recovery made, and nothing else.

use crate::error::Result;
use crate::plan::Plan;
use crate::plan::build::OWN_DIRECTORY;

use super::super::host::{Host, owner_of};
use super::super::mark::{MARK, Mark};
use super::super::server::socket_files;
use super::stop::stop;

/// Whether there is anything to remove: an unpacking that failed leaves nothing, or the empty directory that was there.
#[must_use]
pub fn is_there(plan: &Plan) -> bool {
    std::fs::read_dir(&plan.directory).is_ok_and(|mut entries| entries.next().is_some())
}

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
    let inside = inside(host, plan);
    // The mark goes last: what is interrupted here can be discarded again.
    inside.empty_directory(&plan.directory, Some(OWN_DIRECTORY))?;
    remove_socket_directory(&inside, plan);
    let own = plan.directory.join(OWN_DIRECTORY);
    inside.empty_directory_but_last(&own, MARK)?;
    inside.remove_directory(&own)?;
    if mark.made_directory { host.remove_directory(&plan.directory) } else { Ok(()) }
}

/// Makes the data directory as empty as it was before unpacking, but for what is Walback's own.
///
/// # Errors
/// When the directory does not carry this recovery's mark, or something cannot be removed.
pub fn clear_for_unpacking(host: &Host, plan: &Plan) -> Result<()> {
    Mark::check(&plan.directory, &plan.recovery)?;
    stop(host, &plan.directory)?;
    inside(host, plan).empty_directory(&plan.directory, Some(OWN_DIRECTORY))
}

/// Acting as the directory's owner, where that is not root.
fn inside(host: &Host, plan: &Plan) -> Host {
    owner_of(&plan.directory).map_or_else(|_| host.clone(), |owner| host.acting_as(&owner))
}

/// Below `/tmp`, where the path of the data directory was no good for a socket. A server that was killed leaves its
/// socket there. Nothing is lost where this does not work.
fn remove_socket_directory(inside: &Host, plan: &Plan) {
    let directory = &plan.server.socket_directory;
    if directory.starts_with(&plan.directory) {
        return;
    }
    let _ = socket_files(&plan.server).iter().try_for_each(|file| inside.remove_file(file));
    let _ = inside.remove_directory(directory);
}
