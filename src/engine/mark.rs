//! The mark on what Walback made. Only what carries it is ever removed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::build::OWN_DIRECTORY;

use super::host::{Account, Host};

/// The file that is the mark, in Walback's own directory of a data directory.
pub const MARK: &str = "recovery.json";

/// Says which recovery made a data directory, and that the directory is still that one: a copy of it carries a copy
/// of the mark, but is another directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// The recovery's name.
    pub recovery: String,
    /// Whether Walback made the directory itself, and not only what is in it.
    pub made_directory: bool,
    device: u64,
    inode: u64,
    /// When the directory was made, in nanoseconds since 1970, where the file system tells: inodes are used again.
    born: Option<u64>,
}

impl Mark {
    /// Marks a new data directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(host: &Host, directory: &Path, recovery: &str, made_directory: bool, owner: &Account) -> Result<()> {
        let (device, inode, born) = identity(directory)?;
        let mark = Mark { recovery: recovery.to_owned(), made_directory, device, inode, born };
        let own = directory.join(OWN_DIRECTORY);
        host.ensure_directory(&own, owner)?;
        let text = serde_json::to_vec_pretty(&mark)
            .map_err(|error| Error::failed("cannot-write", "the mark cannot be written").caused_by(&error))?;
        host.write_file(&own.join(MARK), &text, 0o600, owner)
    }

    /// Checks that `directory` is the one that this recovery made.
    ///
    /// # Errors
    /// When there is no mark, when it is another recovery's, or when the directory is a copy.
    pub fn check(directory: &Path, recovery: &str) -> Result<Mark> {
        let refused = |why: String| {
            Error::failed(
                "not-ours",
                format!("this directory does not carry the mark of the recovery “{recovery}”: {}", directory.display()),
            )
            .because(why)
            .hint("Walback removes only what it made; if it has to go, remove it by hand")
        };
        let path = directory.join(OWN_DIRECTORY).join(MARK);
        let text = std::fs::read(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let mark: Mark = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if mark.recovery != recovery {
            return Err(refused(format!("it carries the mark of “{}”", mark.recovery)));
        }
        let (device, inode, born) = identity(directory)?;
        let same_birth = mark.born.is_none() || born.is_none() || mark.born == born;
        if (mark.device, mark.inode) != (device, inode) || !same_birth {
            return Err(refused("it is a copy, or was moved to another file system".to_owned()));
        }
        Ok(mark)
    }
}

/// Whether a directory holds nothing but what putting the mark, or taking it away, leaves when it is interrupted: Walback's
/// own directory with nothing in it but a mark that was not put in place. An empty one does, too.
#[must_use]
pub fn is_bare(directory: &Path) -> bool {
    let own = directory.join(OWN_DIRECTORY);
    let only = |directory: &Path, name: &str| {
        let entries = std::fs::read_dir(directory).map(|entries| entries.collect::<Vec<_>>());
        entries.is_ok_and(|entries| {
            entries.iter().all(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name() == name))
        })
    };
    let is_directory = std::fs::symlink_metadata(&own).is_ok_and(|metadata| metadata.is_dir());
    only(directory, OWN_DIRECTORY) && (!own.exists() || is_directory && only(&own, &format!("{MARK}.walback-new")))
}

fn identity(directory: &Path) -> Result<(u64, u64, Option<u64>)> {
    let metadata = std::fs::symlink_metadata(directory).map_err(|error| {
        Error::failed("unreadable", format!("cannot look at {}", directory.display())).caused_by(&error)
    })?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    Ok((metadata.dev(), metadata.ino(), born.and_then(|born| u64::try_from(born.as_nanos()).ok())))
}
