//! Removes what a recovery made, and nothing else.

use std::path::Path;

use crate::error::Result;
use crate::plan::Plan;
use crate::plan::build::OWN_DIRECTORY;

use super::super::host::{Host, owner_of};
use super::super::mark::{MARK, Mark};
use super::super::server::socket_files;
use super::stop::stop;
use super::{combine, snapshot};

/// Whether there is anything to remove: an unpacking that failed leaves nothing, or the empty directory that was there.
#[must_use]
pub fn is_there(plan: &Plan) -> bool {
    std::fs::read_dir(&plan.directory).is_ok_and(|mut entries| entries.next().is_some())
}

/// Stops the server, and removes everything in the data directory and in those that were made for its tablespaces; and
/// these directories, where Walback made them.
///
/// # Errors
/// When the directory does not carry this recovery's mark, or something cannot be removed.
pub fn discard(host: &Host, plan: &Plan) -> Result<()> {
    if !plan.directory.exists() {
        return Ok(());
    }
    let mark = Mark::check(&plan.directory, &plan.recovery)?;
    stop(host, &plan.directory)?;
    combine::end_what_is_left(host, plan)?;
    snapshot::forget(host, plan)?;
    let inside = inside(host, plan);
    // The mark goes last: what is interrupted here can be discarded again.
    inside.empty_directory(&plan.directory, Some(OWN_DIRECTORY))?;
    for root in plan.tablespace_roots() {
        // Where there is no mark of this recovery, or of another directory, nothing there was made by it.
        let Ok(mark) = Mark::check(root, &plan.recovery) else { continue };
        inside.empty_directory(root, Some(OWN_DIRECTORY))?;
        remove_mark(host, &inside, root, &mark)?;
    }
    remove_socket_directory(&inside, plan);
    remove_mark(host, &inside, &plan.directory, &mark)
}

/// Removes what is Walback's own in a directory, the mark last, and the directory where Walback made it.
fn remove_mark(host: &Host, inside: &Host, directory: &Path, mark: &Mark) -> Result<()> {
    let own = directory.join(OWN_DIRECTORY);
    inside.empty_directory_but_last(&own, MARK)?;
    inside.remove_directory(&own)?;
    if mark.made_directory { host.remove_directory(directory) } else { Ok(()) }
}

/// Makes the data directory, and those of its tablespaces, as empty as they were before unpacking, but for what is
/// Walback's own.
///
/// # Errors
/// When the directory does not carry this recovery's mark, or something cannot be removed.
pub fn clear_for_unpacking(host: &Host, plan: &Plan) -> Result<()> {
    Mark::check(&plan.directory, &plan.recovery)?;
    stop(host, &plan.directory)?;
    let inside = inside(host, plan);
    combine::forget(host, &inside, plan)?;
    for root in plan.tablespace_roots() {
        // One that is not there, or was not made by this recovery, is looked at when it is unpacked into.
        if Mark::check(root, &plan.recovery).is_ok() {
            inside.empty_directory(root, Some(OWN_DIRECTORY))?;
        }
    }
    inside.empty_directory(&plan.directory, Some(OWN_DIRECTORY))
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
