//! What a base backup's own files say that matters before it is unpacked.

use std::collections::BTreeMap;

use crate::core::PgMajor;
use crate::pgdata::configuration::{Configuration, ConfigurationFiles, MAIN};
use crate::pgdata::system_rows::{DatabaseLocale, database_locales};
use crate::pgdata::{ControlFile, FilenodeMap};

/// The control file.
const CONTROL: &str = "global/pg_control";
/// `pg_database`, by its OID (`src/include/catalog/pg_database.h`).
const PG_DATABASE: u32 = 1262;
/// What a recovery or a standby leaves behind, and what is taken out before the server is started.
const LEFT_BEHIND: [&str; 3] = ["recovery.signal", "standby.signal", "recovery.conf"];
/// The longest file of the configuration that is wanted, in bytes.
pub const LONGEST_TEXT: u64 = 1 << 20;
/// The longest catalog file that is wanted, in bytes.
pub const LONGEST_CATALOG: u64 = 8 << 20;

/// Files of a base backup, by their names in the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct BackupFiles {
    /// All of the backup was looked at: what is not among the files is not in the backup.
    pub is_complete: bool,
    /// The bytes of those that are wanted.
    pub files: BTreeMap<String, Vec<u8>>,
}

impl BackupFiles {
    /// Whether a file of this name and length is wanted: the control file, the catalogs that all databases share, and
    /// whatever may belong to the configuration.
    #[must_use]
    pub fn is_wanted(name: &str, bytes: u64) -> bool {
        match name.split_once('/') {
            Some(("global", "pg_control" | "pg_filenode.map")) => bytes <= LONGEST_TEXT,
            Some(("global", file)) => {
                let file = file.strip_prefix("INCREMENTAL.").unwrap_or(file);
                bytes <= LONGEST_CATALOG && file.bytes().all(|byte| byte.is_ascii_digit())
            }
            Some((directory, _)) => bytes <= LONGEST_TEXT && directory != "base" && !directory.starts_with("pg_"),
            None => bytes <= LONGEST_TEXT && name != "backup_manifest",
        }
    }

    /// What `pg_control` says, where it was met and is whole.
    #[must_use]
    pub fn control(&self) -> Option<ControlFile> {
        ControlFile::parse(self.files.get(CONTROL)?).ok()
    }

    /// What the configuration sets; `None` where that cannot be known.
    #[must_use]
    pub fn configuration(&self) -> Option<Configuration> {
        self.is_complete.then(|| Configuration::read(self))
    }

    /// Whether the main file of the configuration is there; `None` where that cannot be known.
    #[must_use]
    pub fn has_configuration(&self) -> Option<bool> {
        self.is_complete.then(|| self.files.contains_key(MAIN))
    }

    /// The files that an earlier recovery or a standby left.
    #[must_use]
    pub fn left_behind(&self) -> Vec<&'static str> {
        LEFT_BEHIND.into_iter().filter(|name| self.files.contains_key(*name)).collect()
    }

    /// The locales of its databases.
    #[must_use]
    pub fn locales(&self, major: PgMajor) -> Vec<DatabaseLocale> {
        let map = self.files.get("global/pg_filenode.map").and_then(|bytes| FilenodeMap::parse(bytes).ok());
        let number = map.and_then(|map| map.file_of(PG_DATABASE)).unwrap_or(PG_DATABASE);
        let file = self.files.get(&format!("global/{number}")).map(Vec::as_slice).unwrap_or_default();
        database_locales(file, major).collect()
    }
}

impl ConfigurationFiles for BackupFiles {
    fn text(&self, name: &str) -> Option<String> {
        self.files.get(name).map(|bytes| String::from_utf8_lossy(bytes).into_owned())
    }

    fn names_in(&self, directory: &str) -> Option<Vec<String>> {
        let inside = |name: &String| {
            let rest = if directory.is_empty() { name } else { name.strip_prefix(directory)?.strip_prefix('/')? };
            Some(rest.to_owned())
        };
        let names: Vec<String> = self.files.keys().filter_map(inside).collect();
        // An empty directory has no files, and does no harm where it is taken for none.
        (!names.is_empty()).then(|| names.into_iter().filter(|name| !name.contains('/')).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_that_are_wanted_are_few() {
        for name in ["global/pg_control", "global/1262", "global/pg_filenode.map", "postgresql.conf", "conf.d/x.conf"] {
            assert!(BackupFiles::is_wanted(name, 8192), "{name}");
            assert!(!BackupFiles::is_wanted(name, 1 << 30), "{name}");
        }
        for name in ["global/1262_fsm", "base/1/1259", "pg_wal/x", "pg_xact/0000", "backup_manifest"] {
            assert!(!BackupFiles::is_wanted(name, 8192), "{name}");
        }
    }
}
