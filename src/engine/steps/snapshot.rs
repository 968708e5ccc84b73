//! Keeps a copy of the unpacked data directory from before its first start, and goes back to it.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::event::{Progress, What};
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::pristine::Pristine;
use crate::plan::{Plan, StepId};
use crate::source::Cancel;

use super::super::host::{Account, Host};
use super::super::mark::{Mark, is_bare};
use super::super::record::Recorder;
use super::directory::take_another;

/// Says that the copy was made to its end.
const WHOLE: &str = "whole";
const TELL_EVERY: Duration = Duration::from_millis(100);

/// Whether there is a whole copy of this recovery's data directory.
#[must_use]
pub fn is_there(plan: &Plan) -> bool {
    let kept = plan.pristine_directory();
    plan.pristine.is_some()
        && Mark::check(&kept, &plan.recovery).is_ok()
        && kept.join(OWN_DIRECTORY).join(WHOLE).is_file()
}

/// Makes the directory that the copy goes into, and tries whether files can share their blocks there: before anything is
/// unpacked that this is to be a copy of.
///
/// # Errors
/// When it is somebody else's, cannot be made, or the file system cannot do what was asked for.
pub fn prepare(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>) -> Result<()> {
    let Some(kind) = plan.pristine else { return Ok(()) };
    let kept = plan.pristine_directory();
    if fs::symlink_metadata(&kept).is_ok() && !is_bare(&kept) {
        // What an earlier unpacking left.
        Mark::check(&kept, &plan.recovery)?;
        let inside = host.acting_as(owner);
        inside.remove_file(&kept.join(OWN_DIRECTORY).join(WHOLE))?;
        inside.empty_directory(&kept, Some(OWN_DIRECTORY))?;
    } else {
        take_another(host, &kept, &plan.recovery, owner, recorder)?;
    }
    if kind == Pristine::Reflink { try_to_share(&host.acting_as(owner), plan, &kept, owner) } else { Ok(()) }
}

fn try_to_share(host: &Host, plan: &Plan, kept: &Path, owner: &Account) -> Result<()> {
    let (from, to) = (plan.directory.join(OWN_DIRECTORY).join("probe"), kept.join(OWN_DIRECTORY).join("probe"));
    host.remove_file(&to)?;
    host.write_file(&from, &[0; 8192], 0o600, owner)?;
    let shared = host.clone_file(&from, &to, 0o600, owner, true);
    host.remove_file(&from)?;
    host.remove_file(&to)?;
    shared.map(drop).map_err(|error| {
        Error::failed("no-reflinks", format!("files cannot share their blocks here: {}", kept.display()))
            .caused_by(&error)
            .hint("--keep-pristine=copy writes the data a second time; or leave it out, and going back unpacks again")
    })
}

/// Makes the copy of what was unpacked. Gives its bytes.
///
/// # Errors
/// When a file cannot be copied, when the data directory has links, or when it was cancelled.
pub fn keep(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<u64> {
    let Some(kind) = plan.pristine else { return Ok(0) };
    let kept = plan.pristine_directory();
    Mark::check(&kept, &plan.recovery)?;
    let host = &host.acting_as(owner);
    let bytes = Cloning::new(host, owner, recorder, cancel, kind, plan).tree(&plan.directory, &kept)?;
    host.sync_file_system(&kept)?;
    host.write_file(&kept.join(OWN_DIRECTORY).join(WHOLE), b"", 0o600, owner)?;
    Ok(bytes)
}

/// Makes the emptied data directory what it was before its first start. Gives its bytes.
///
/// # Errors
/// When there is no whole copy, when a file cannot be copied, or when it was cancelled. The copy stays as it is.
pub fn go_back(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<u64> {
    let Some(kind) = plan.pristine.filter(|_| is_there(plan)) else {
        return Err(Error::failed("no-pristine", "there is no whole copy to go back to")
            .hint("retarget again: the backup is unpacked then"));
    };
    Mark::check(&plan.directory, &plan.recovery)?;
    let host = &host.acting_as(owner);
    let kept = plan.pristine_directory();
    let bytes = Cloning::new(host, owner, recorder, cancel, kind, plan).tree(&kept, &plan.directory)?;
    host.sync_file_system(&plan.directory)?;
    Ok(bytes)
}

/// Removes the copy, where it is this recovery's.
///
/// # Errors
/// When it cannot be removed.
pub fn forget(host: &Host, plan: &Plan) -> Result<()> {
    let kept = plan.pristine_directory();
    if plan.pristine.is_none() || Mark::check(&kept, &plan.recovery).is_err() {
        return Ok(());
    }
    let inside = super::super::host::owner_of(&kept).map_or_else(|_| host.clone(), |owner| host.acting_as(&owner));
    // The mark goes last: what is interrupted here can be done again.
    inside.empty_directory(&kept, Some(OWN_DIRECTORY))?;
    inside.empty_directory(&kept, None)?;
    host.remove_directory(&kept)
}

struct Cloning<'a> {
    host: &'a Host,
    owner: &'a Account,
    recorder: &'a Recorder<'a>,
    cancel: &'a Cancel,
    kind: Pristine,
    total: u64,
    done: u64,
    told: Option<Instant>,
}

impl<'a> Cloning<'a> {
    fn new(
        host: &'a Host,
        owner: &'a Account,
        recorder: &'a Recorder<'a>,
        cancel: &'a Cancel,
        kind: Pristine,
        plan: &Plan,
    ) -> Cloning<'a> {
        let total = match plan.chain {
            None => plan.backup.unpacked_bytes.unwrap_or(plan.estimate.unpack_bytes),
            Some(_) => plan.amounts().data,
        };
        Cloning { host, owner, recorder, cancel, kind, total, done: 0, told: None }
    }

    /// Everything but what is Walback's own.
    fn tree(mut self, from: &Path, to: &Path) -> Result<u64> {
        self.directory(from, to, true)?;
        Ok(self.done)
    }

    fn directory(&mut self, from: &Path, to: &Path, is_root: bool) -> Result<()> {
        let unreadable =
            |error: &io::Error| Error::failed("unreadable", format!("cannot read {}", from.display())).caused_by(error);
        let entries = self.host.list(from).map_err(|error| unreadable(&error))?;
        for entry in entries {
            self.cancel.check()?;
            let (path, into) = (entry.path(), to.join(entry.file_name()));
            if is_root && entry.file_name() == OWN_DIRECTORY {
                continue;
            }
            let metadata = entry.metadata().map_err(|error| unreadable(&error))?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions()) & 0o7777;
            if metadata.is_dir() {
                self.host.ensure_directory(&into, self.owner)?;
                self.host.set_mode(&into, mode)?;
                self.directory(&path, &into, false)?;
            } else if metadata.is_file() {
                self.file(&path, &into, mode)?;
            } else {
                return Err(Error::failed("pristine-links", format!("this is no file: {}", path.display()))
                    .because("a copy would share what the link leads to".to_owned())
                    .hint("recover without --keep-pristine"));
            }
        }
        Ok(())
    }

    fn file(&mut self, from: &Path, to: &Path, mode: u32) -> Result<()> {
        let share = self.kind == Pristine::Reflink;
        self.done += self.host.clone_file(from, to, mode, self.owner, share).map_err(|error| {
            let failed = Error::failed("cannot-write", format!("cannot copy {} to {}", from.display(), to.display()));
            let failed = failed.caused_by(&error);
            match error.kind() {
                io::ErrorKind::StorageFull => failed.hint("the file system is full; make space and retarget again"),
                _ => failed,
            }
        })?;
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        self.told = Some(Instant::now());
        self.recorder.emit(What::Progress(Progress {
            step: StepId::Snapshot,
            done: self.done.min(self.total),
            total: Some(self.total),
            unit: "bytes".into(),
            rate: None,
            eta_s: None,
            replayed_lsn: None,
            last_commit_at: None,
            doing: Some(from.display().to_string()),
            waits_for: None,
        }))
    }
}
