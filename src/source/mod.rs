//! The only readers of backups and archives. They read, and never write.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::catalog::{Backup, Catalog};
use crate::core::{PlacedCommand, SegmentName};
use crate::error::{Error, ErrorKind, Result};

mod archive;
pub mod backup_files;
mod backups;
pub mod base_backup;
pub mod blocks;
pub mod cache;
mod closing;
pub mod command;
pub mod compress;
mod copied;
pub mod copies;
pub mod discover;
mod gunzip;
pub(crate) mod holes;
pub mod identity;
pub mod index;
pub mod inspect;
mod left_alone;
pub mod local;
pub mod names;
mod probe;
mod proof;
pub mod scan;
pub mod search;
pub mod summarize;
mod survey;
mod tar_backup;

pub use blocks::Blocks;
pub use identity::Identity;
pub use index::Index;
pub use local::LocalSource;

/// A cluster's backups and archives.
pub trait Source: Send + Sync {
    /// Its name in the configuration.
    fn name(&self) -> &str;

    /// The directories in which base backups are looked for.
    fn backups(&self) -> &[PathBuf];

    /// The archives' directories, in the order in which they are asked: what `restore_command` copies from.
    fn archives(&self) -> &[PathBuf];

    /// The commands that WAL can be asked of too, each with its place among the directories.
    fn commands(&self) -> &[PlacedCommand] {
        &[]
    }

    /// Looks at everything there is, by names and headers.
    ///
    /// # Errors
    /// When a directory of the source cannot be read, or when it was cancelled. What is broken inside is in the
    /// catalog, not an error.
    fn list(&self, cancel: &Cancel) -> Result<Catalog>;

    /// Opens a segment: from the first archive that has it, else from what `backup` brought along. `None` where
    /// nobody has it.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn open_segment(&self, name: SegmentName, backup: Option<&Backup>) -> Result<Option<Box<dyn Read + Send>>>;

    /// Opens a segment of the archives, of which perhaps only the beginning is read. Where it is damaged, that is
    /// found when it is come to.
    ///
    /// # Errors
    /// When it is there and cannot be read.
    fn open_blocks(&self, name: SegmentName) -> Result<Option<Box<dyn Blocks>>> {
        Ok(self.open_segment(name, None)?.map(blocks::of_plain))
    }

    /// What tells whether these segments' files in the archives are still the ones that they were, in order; `None`
    /// for each that no archive has. Of a source that cannot tell, nothing is kept.
    fn identities(&self, names: &[SegmentName]) -> Vec<Option<Identity>> {
        vec![None; names.len()]
    }
}

/// Asks long work to stop.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    /// Asks for it.
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// For work to ask now and then.
    ///
    /// # Errors
    /// When it was asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(ErrorKind::Interrupted, "cancelled", "cancelled")) } else { Ok(()) }
    }
}

/// Opens a file of a source for reading. What is no plain file is refused, and never waited for: a FIFO among the
/// segments would hold everything up for good.
///
/// # Errors
/// When it cannot be opened, or is no plain file.
pub(crate) fn open_file(path: &Path) -> std::io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("this is not a plain file")) }
}

/// The same for a file whose name was just seen in a directory: where a link has taken its place, that is not followed.
///
/// # Errors
/// When it cannot be opened, or is no plain file.
pub(crate) fn open_unlinked(path: &Path) -> std::io::Result<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(std::io::Error::other("this is not a plain file")) }
}

/// An error about reading `path`.
pub(crate) fn unreadable(what: &str, path: &Path, error: &std::io::Error) -> Error {
    let wrong = Error::failed("unreadable", format!("cannot read {what}: {}", path.display())).caused_by(error);
    match error.kind() {
        std::io::ErrorKind::NotFound => wrong.hint("check the path; is the file system mounted?"),
        std::io::ErrorKind::PermissionDenied => wrong.hint("run walback as root, or as a user who may read it"),
        _ => wrong,
    }
}
