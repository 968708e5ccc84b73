//! Takes the new data directory, and marks it as Walback's.

use std::path::Path;

use crate::error::{Error, Result};
use crate::event::What;
use crate::plan::Plan;
use crate::plan::build::OWN_DIRECTORY;

use super::super::host::{Account, Host};
use super::super::mark::{MARK, Mark, is_bare};
use super::super::record::Recorder;

/// Makes the plan's data directory, or takes over an empty one, and marks it. One that carries the mark already is left
/// as it is: a retarget unpacks into it again.
///
/// Whether it is made is journalled before. So one that was made and not marked yet, because that was interrupted, is
/// known for what it is, and one that somebody else made empty is never removed.
///
/// # Errors
/// When it holds what is not Walback's, or cannot be made or marked.
pub fn take(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>) -> Result<()> {
    let directory = &plan.directory;
    if Mark::check(directory, &plan.recovery).is_ok() {
        return Ok(());
    }
    let begun = recorder.buffer().made_directory;
    let is_there = directory.symlink_metadata().is_ok();
    let made = match begun {
        Some(made) if is_there => made,
        _ => !is_there,
    };
    if begun.is_none() || !is_there {
        recorder.emit(What::Directory { made })?;
    }
    if begun.is_some() && is_there && is_bare(directory) {
        remove_half_a_mark(host, directory, owner)?;
    }
    if is_there {
        host.take_directory(directory, owner)?;
    } else {
        host.make_directory(directory, owner)?;
    }
    Mark::put(&host.acting_as(owner), directory, &plan.recovery, made, owner)
}

/// Removes a directory that was made, and lost its mark or never got it; nothing where anything else is in it.
///
/// # Errors
/// When something of it cannot be removed.
pub fn remove_bare(host: &Host, plan: &Plan, made: bool) -> Result<()> {
    remove_one_bare(host, &plan.directory, made)
}

fn remove_one_bare(host: &Host, directory: &Path, made: bool) -> Result<()> {
    let is_directory = directory.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    if !is_directory || !is_bare(directory) {
        return Ok(());
    }
    if let Ok(owner) = super::super::host::owner_of(directory) {
        remove_half_a_mark(host, directory, &owner)?;
    }
    if made { host.remove_directory(directory) } else { Ok(()) }
}

/// Makes, or takes over where it is empty, a further directory of a recovery: for a tablespace, or for a kept copy. One
/// that carries the mark already is left as it is. As with [`take`], whether it is made is journalled before.
///
/// # Errors
/// When it holds what is not Walback's, or cannot be made or marked.
pub fn take_another(
    host: &Host,
    directory: &Path,
    recovery: &str,
    owner: &Account,
    recorder: &Recorder<'_>,
) -> Result<()> {
    if Mark::check(directory, recovery).is_ok() {
        return Ok(());
    }
    let begun = recorder.buffer().further.get(directory).copied();
    let is_there = directory.symlink_metadata().is_ok();
    let made = match begun {
        Some(made) if is_there => made,
        _ => !is_there,
    };
    if begun.is_none() || !is_there {
        recorder.emit(What::FurtherDirectory { directory: directory.to_path_buf(), made })?;
    }
    if is_there {
        if is_bare(directory) {
            remove_half_a_mark(host, directory, owner)?;
        }
        host.take_directory(directory, owner)?;
    } else {
        host.make_directory(directory, owner)?;
    }
    Mark::put(&host.acting_as(owner), directory, recovery, made, owner)
}

/// Removes the further directories that were made, and lost their marks or never got them; nothing where anything else is
/// in them.
///
/// # Errors
/// When something of them cannot be removed.
pub fn remove_further(host: &Host, recorder: &Recorder<'_>) -> Result<()> {
    recorder.buffer().further.iter().try_for_each(|(directory, made)| remove_one_bare(host, directory, *made))
}

/// The caller knows that there is nothing else.
fn remove_half_a_mark(host: &Host, directory: &Path, owner: &Account) -> Result<()> {
    // Made by root a moment before it was given away.
    let inside = if owner.uid == 0 { host.clone() } else { host.acting_as(owner) };
    let own = directory.join(OWN_DIRECTORY);
    if own.exists() {
        inside.remove_file(&own.join(format!("{MARK}.walback-new")))?;
        inside.remove_directory(&own)?;
    }
    Ok(())
}

/// Why a recovery cannot go on in its directory.
#[must_use]
pub fn taken_by_others(plan: &Plan) -> Error {
    Error::failed(
        "directory-taken",
        format!(
            "the directory of {} holds what Walback did not put there: {}",
            plan.recovery,
            plan.directory.display()
        ),
    )
    .because("it carries no mark of this recovery".to_owned())
    .hint(format!("look at it; once it is moved away, “walback resume {}” unpacks into a new one", plan.recovery))
}
