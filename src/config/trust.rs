//! Whether a configuration that was looked for, and not named, may have commands carried out.
//!
//! What lies in the directory one happens to be in may be anybody's, and listing an archive runs its commands.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::unistd::geteuid;

use crate::error::{Error, Result};

/// Others may make files in such a directory, and not replace those that are there.
const STICKY: u32 = 0o1000;

/// Whose a file or directory is, and who may write to it.
#[derive(Debug, Clone, Copy)]
struct Owned {
    uid: u32,
    mode: u32,
    is_directory: bool,
}

impl Owned {
    fn of(path: &Path) -> io::Result<Owned> {
        let metadata = std::fs::metadata(path)?;
        Ok(Owned { uid: metadata.uid(), mode: metadata.mode(), is_directory: metadata.is_dir() })
    }

    /// Why somebody else may have written it, where we are `us`. Who is not root may share with a group: on many systems
    /// everybody has one of his own.
    fn doubt(self, us: u32) -> Option<String> {
        let writable = if us == 0 { 0o022 } else { 0o002 };
        if self.uid != 0 && self.uid != us {
            return Some(format!("belongs to the user with the number {}", self.uid));
        }
        let is_kept = self.is_directory && self.mode & STICKY != 0;
        (self.mode & writable != 0 && !is_kept).then(|| "can be written by others".to_owned())
    }
}

/// Checks that only root or who runs this can have written the file, which has commands in it.
///
/// # Errors
/// When somebody else can, or that cannot be told.
pub(super) fn check(path: &Path) -> Result<()> {
    let us = geteuid().as_raw();
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let refused = |what: &Path, why: String| {
        Error::usage(
            "configuration-untrusted",
            format!("the configuration says what is run, and somebody else may have written it: {}", path.display()),
        )
        .because(format!("{} {why}", what.display()))
        .hint(format!(
            "look at it; then name it with --config {}, or have it and its directory belong to you, and chmod go-w both",
            path.display()
        ))
    };
    for what in [path, directory] {
        let owned = Owned::of(what).map_err(|error| refused(what, format!("cannot be looked at: {error}")))?;
        if let Some(why) = owned.doubt(us) {
            return Err(refused(what, why));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_may_have_written_is_doubted() {
        let file = |uid, mode| Owned { uid, mode, is_directory: false };
        let directory = |uid, mode| Owned { uid, mode, is_directory: true };
        for (owned, root, user) in [
            (file(0, 0o644), true, true),
            (file(1000, 0o644), false, true),
            (file(1001, 0o600), false, false),
            (file(0, 0o664), false, true),
            (file(1000, 0o664), false, true),
            (file(0, 0o666), false, false),
            (directory(0, 0o755), true, true),
            (directory(0, 0o1777), true, true),
            (directory(0, 0o777), false, false),
            (directory(1001, 0o1777), false, false),
        ] {
            let trusted = |us| owned.doubt(us).is_none();
            assert_eq!((trusted(0), trusted(1000)), (root, user), "{owned:?}");
        }
    }

    #[test]
    fn it_says_what_it_doubts() {
        use std::os::unix::fs::PermissionsExt;
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("walback.yaml");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        check(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o606)).unwrap();
        let error = check(&path).unwrap_err();
        assert!(error.to_string().contains("walback.yaml can be written by others"), "{error}");
        assert!(check(&place.path().join("gone")).is_err());
    }
}
