//! What the server needs to get WAL by `walback fetch`: instructions, and the program where it cannot run the original.

use std::path::Path;

use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::fetch::{INSTRUCTIONS, Instructions, SPOOL, copied_program};

use super::super::host::{Account, Host};

/// Writes the instructions of a plan that fetches; `system_identifier` is that of the unpacked backup. What was made
/// ready for another target is removed.
///
/// # Errors
/// When something cannot be written.
pub fn prepare(host: &Host, plan: &Plan, owner: &Account, system_identifier: u64) -> Result<()> {
    clear(host, &plan.directory)?;
    let Some(mut instructions) = Instructions::of(plan, system_identifier) else { return Ok(()) };
    for archive in &mut instructions.archives {
        *archive = std::path::absolute(&*archive).unwrap_or_else(|_| archive.clone());
    }
    let json = serde_json::to_vec_pretty(&instructions)
        .map_err(|error| Error::failed("cannot-write", "the instructions cannot be written").caused_by(&error))?;
    let own = plan.directory.join(OWN_DIRECTORY);
    host.ensure_directory(&own, owner)?;
    host.write_file(&own.join(INSTRUCTIONS), &json, 0o600, owner)?;
    if plan.fetch.as_ref().is_some_and(|fetch| fetch.copied) {
        host.copy_program(&copied_program(&plan.directory), owner)?;
    }
    Ok(())
}

/// Removes what was made ready ahead of replay.
///
/// # Errors
/// When it cannot be removed.
pub fn clear(host: &Host, directory: &Path) -> Result<()> {
    let spool = directory.join(OWN_DIRECTORY).join(SPOOL);
    if !std::fs::symlink_metadata(&spool).is_ok_and(|metadata| metadata.is_dir()) {
        return Ok(());
    }
    // Somebody may still be putting a last segment there.
    let remove = || host.empty_directory(&spool, None).and_then(|()| host.remove_directory(&spool));
    remove().or_else(|_| remove()).or_else(|_| remove())
}

/// After promotion: nothing of it is left.
///
/// # Errors
/// When something cannot be removed.
pub fn forget(host: &Host, directory: &Path) -> Result<()> {
    clear(host, directory)?;
    host.remove_file(&directory.join(OWN_DIRECTORY).join(INSTRUCTIONS))?;
    host.remove_file(&copied_program(directory))
}
