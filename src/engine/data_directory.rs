//! What a data directory of a recovery says of itself: its configuration files, and `pg_control`. Only reads.

use std::fs;
use std::path::Path;
use std::time::Duration;

use super::host::Host;
use crate::pgdata::configuration::ConfigurationFiles;
use crate::pgdata::control_file::ControlFile;

/// A running server writes `pg_control` in place: it is read again so often where it was caught in the middle.
const TIMES: u32 = 20;
const BETWEEN: Duration = Duration::from_millis(5);

/// `pg_control` of a data directory.
///
/// # Errors
/// In words with its path: why it cannot be read, or is none.
pub fn control_file(directory: &Path) -> Result<ControlFile, String> {
    let path = directory.join("global/pg_control");
    let mut tried = Err(String::new());
    for _ in 0..TIMES {
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        tried = ControlFile::parse(&bytes).map_err(|error| format!("{}: {error}", path.display()));
        if tried.is_ok() {
            break;
        }
        std::thread::sleep(BETWEEN);
    }
    tried
}

/// The configuration files of a data directory. Links are not followed: they may lead anywhere.
#[derive(Debug, Clone, Copy)]
pub struct InDirectory<'a> {
    /// The data directory.
    pub directory: &'a Path,
    /// With whose rights they are read; `None` for this program's own.
    pub host: Option<&'a Host>,
}

impl ConfigurationFiles for InDirectory<'_> {
    fn text(&self, name: &str) -> Option<String> {
        let path = self.directory.join(name);
        if !fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_file()) {
            return None;
        }
        let bytes = self.host.map_or_else(|| fs::read(&path), |host| host.read_file(&path)).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn names_in(&self, directory: &str) -> Option<Vec<String>> {
        let entries = fs::read_dir(self.directory.join(directory)).ok()?.flatten();
        Some(entries.filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }
}
