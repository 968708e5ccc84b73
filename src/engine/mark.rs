//! The mark on what Walback made. Only what carries it is ever removed.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::make_way::Identity;

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
    #[serde(flatten)]
    identity: Identity,
}

impl Mark {
    /// Marks a new data directory.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn put(host: &Host, directory: &Path, recovery: &str, made_directory: bool, owner: &Account) -> Result<()> {
        let mark = Mark { recovery: recovery.to_owned(), made_directory, identity: identity(directory)? };
        let own = directory.join(OWN_DIRECTORY);
        // Of two that take the same empty directory at once, the second finds this there.
        host.make_directory(&own, owner)?;
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
            .hint("Walback works only on what it made; if it has to go, remove it by hand")
        };
        let path = directory.join(OWN_DIRECTORY).join(MARK);
        let text = std::fs::read(&path).map_err(|error| refused(format!("{}: {error}", path.display())))?;
        let mark: Mark = serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        if mark.recovery != recovery {
            return Err(refused(format!("it carries the mark of “{}”", mark.recovery)));
        }
        if !mark.identity.is_of(&identity(directory)?) {
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

/// No mark is larger.
const MOST: u64 = 64 << 10;

/// The recovery whose mark a directory carries, whichever it is and wherever the directory is now.
#[must_use]
pub fn named_by(directory: &Path) -> Option<String> {
    let path = directory.join(OWN_DIRECTORY).join(MARK);
    // Whoever owns the directory could have put anything there.
    std::fs::symlink_metadata(&path).ok().filter(|file| file.is_file() && file.len() < MOST)?;
    let mark: Mark = serde_json::from_slice(&std::fs::read(path).ok()?).ok()?;
    let harmless = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    Some(mark.recovery).filter(|name| !name.is_empty() && name.bytes().all(harmless))
}

/// What tells a directory from every other.
///
/// # Errors
/// When it cannot be looked at.
pub fn identity(directory: &Path) -> Result<Identity> {
    let metadata = std::fs::symlink_metadata(directory).map_err(|error| {
        Error::failed("unreadable", format!("cannot look at {}", directory.display())).caused_by(&error)
    })?;
    let born = metadata.created().ok().and_then(|born| born.duration_since(std::time::UNIX_EPOCH).ok());
    let born = born.and_then(|born| u64::try_from(born.as_nanos()).ok());
    Ok(Identity { device: metadata.dev(), inode: metadata.ino(), born })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::host::current_account;

    #[test]
    fn a_mark_is_of_one_directory_and_outlasts_a_restart_of_the_machine() {
        let parent = tempfile::tempdir().unwrap();
        let (directory, host) = (parent.path().join("copy"), Host::new(false).unwrap());
        std::fs::create_dir(&directory).unwrap();
        let owner = current_account();
        Mark::put(&host, &directory, "copy", true, &owner).unwrap();
        assert!(Mark::check(&directory, "copy").unwrap().made_directory);
        assert!(Mark::check(&directory, "other").is_err());
        assert!(Mark::put(&host, &directory, "other", true, &owner).is_err(), "another one was first");

        let file = directory.join(OWN_DIRECTORY).join(MARK);
        let mark: Mark = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        let with = |mark: Mark| std::fs::write(&file, serde_json::to_vec(&mark).unwrap()).unwrap();
        let was = mark.identity;
        let with = |identity: Identity| with(Mark { identity, ..mark.clone() });
        with(Identity { device: was.device + 1, ..was });
        assert_eq!(Mark::check(&directory, "copy").is_ok(), was.born.is_some(), "devices are numbered anew");
        with(Identity { inode: was.inode + 1, ..was });
        assert!(Mark::check(&directory, "copy").is_err());
        with(Identity { born: was.born.map(|born| born + 1), device: was.device + 1, ..was });
        assert!(Mark::check(&directory, "copy").is_err(), "a copy");
    }

    /// It becomes a part of a path, and is printed.
    #[test]
    fn a_name_in_a_mark_that_no_recovery_can_have_is_none() {
        let parent = tempfile::tempdir().unwrap();
        std::fs::create_dir(parent.path().join(OWN_DIRECTORY)).unwrap();
        let named = |name: &str| {
            let mark =
                Mark { recovery: name.to_owned(), made_directory: true, identity: identity(parent.path()).unwrap() };
            let text = serde_json::to_vec(&mark).unwrap();
            std::fs::write(parent.path().join(OWN_DIRECTORY).join(MARK), text).unwrap();
            named_by(parent.path())
        };
        assert_eq!(named("shop_1-2").as_deref(), Some("shop_1-2"));
        for bad in ["", "..", "../../x", "a/b", "\u{1b}[2J"] {
            assert_eq!(named(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn only_half_a_mark_is_bare() {
        let parent = tempfile::tempdir().unwrap();
        let directory = parent.path().join("copy");
        assert!(!is_bare(&directory), "there is none");
        std::fs::create_dir(&directory).unwrap();
        assert!(is_bare(&directory));
        let own = directory.join(OWN_DIRECTORY);
        std::fs::create_dir(&own).unwrap();
        assert!(is_bare(&directory));
        std::fs::write(own.join("recovery.json.walback-new"), "{").unwrap();
        assert!(is_bare(&directory));
        for somebodys in [own.join(MARK), own.join("notes"), directory.join("notes")] {
            std::fs::write(&somebodys, "").unwrap();
            assert!(!is_bare(&directory), "{somebodys:?}");
            std::fs::remove_file(somebodys).unwrap();
        }
        std::fs::remove_dir_all(&own).unwrap();
        std::os::unix::fs::symlink("/", &own).unwrap();
        assert!(!is_bare(&directory), "a link");
    }
}
