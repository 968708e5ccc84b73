//! Holds what is unpacked against the backup's manifest: sizes, checksums, and that nothing is missing.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::catalog::Backup;
use crate::core::progress::counted;
use crate::error::{Error, Result};
use crate::pgdata::{Checksum, Manifest};
use crate::plan::Finding;

/// The longest manifest that is read: that of some ten million files.
const LARGEST_MANIFEST: u64 = 2 << 30;
/// The most entries that a backup may have: what is kept of each is small, and not nothing.
pub(super) const MOST_ENTRIES: usize = 10_000_000;
/// So many names are said; of the others, how many there are.
const NAMED: usize = 5;
/// What `pg_verifybackup` ignores, with what is below them (`main`, `src/bin/pg_verifybackup/pg_verifybackup.c`).
const IGNORED: [&str; 5] = ["backup_manifest", "pg_wal", "postgresql.auto.conf", "recovery.signal", "standby.signal"];

/// What the manifest says of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Expected {
    pub(super) bytes: u64,
    pub(super) checksum: Option<Checksum>,
}

/// What is known of the files of a backup, and which of them were seen.
pub(super) struct Ledger {
    backup: String,
    /// `None` without a manifest. A file is taken out when it was seen.
    expected: Option<HashMap<PathBuf, Expected>>,
    seen: HashSet<u64>,
    hasher: RandomState,
    most: usize,
    extra: Vec<String>,
    extras: u64,
}

impl Ledger {
    /// That of a backup, with its manifest where it has one.
    ///
    /// # Errors
    /// When the manifest cannot be read, or its own checksum is not right.
    pub(super) fn open(backup: &Backup) -> Result<Ledger> {
        if !backup.manifest {
            return Ledger::of(backup, None);
        }
        let path = backup.manifest_path();
        let mut bytes = Vec::new();
        let read = std::fs::File::open(&path).and_then(|file| file.take(LARGEST_MANIFEST + 1).read_to_end(&mut bytes));
        read.map_err(|error| bad_manifest(&path).caused_by(&error))?;
        if bytes.len() as u64 > LARGEST_MANIFEST {
            return Err(bad_manifest(&path).because("it is longer than a manifest of ten million files"));
        }
        let manifest = Manifest::parse(&bytes).map_err(|error| bad_manifest(&path).caused_by(&error))?;
        drop(bytes);
        Ledger::of(backup, Some(manifest)).map_err(|error| error.because(path.display().to_string()))
    }

    fn of(backup: &Backup, manifest: Option<Manifest>) -> Result<Ledger> {
        let expected = manifest.map(|manifest| {
            let mut expected = HashMap::with_capacity(manifest.files.len());
            for file in manifest.files {
                let known = Expected { bytes: file.size, checksum: file.checksum };
                if let Some(other) = expected.insert(file.path.clone(), known.clone())
                    && other != known
                {
                    let message = "the manifest of the base backup contradicts itself";
                    return Err(Error::failed("manifest-broken", message)
                        .because(format!("it has {} twice", shown(&file.path)))
                        .hint(ANOTHER));
                }
            }
            Ok(expected)
        });
        Ok(Ledger {
            backup: backup.id.clone(),
            expected: expected.transpose()?,
            seen: HashSet::new(),
            hasher: RandomState::new(),
            most: MOST_ENTRIES,
            extra: Vec::new(),
            extras: 0,
        })
    }

    /// Notes an entry, which may come only once, and of which there may not be too many.
    ///
    /// # Errors
    /// When it came before, or too many did.
    pub(super) fn note(&mut self, name: &Path) -> Result<()> {
        // Two names that share 64 bits nobody can choose.
        if !self.seen.insert(self.hasher.hash_one(name.as_os_str().as_encoded_bytes())) {
            return Err(suspicious(&self.backup, format!("it has {} twice", shown(name))));
        }
        if self.seen.len() > self.most {
            return Err(suspicious(&self.backup, format!("it has more than {}", counted(self.most as u64, "entry"))));
        }
        Ok(())
    }

    /// What a file has to be like, whose size is this; `None` where nothing is said about it.
    ///
    /// # Errors
    /// When the manifest has another size for it.
    pub(super) fn expect(&mut self, name: &Path, bytes: u64) -> Result<Option<Expected>> {
        let Some(expected) = &mut self.expected else { return Ok(None) };
        let found = expected.remove(name);
        if is_ignored(name) {
            return Ok(None);
        }
        match found {
            Some(known) if known.bytes == bytes => Ok(Some(known)),
            Some(known) => {
                let why = format!("it has {bytes} bytes, and the manifest says {}", known.bytes);
                Err(damaged(&self.backup, name, why))
            }
            None => {
                if self.extra.len() < NAMED {
                    self.extra.push(shown(name));
                }
                self.extras += 1;
                Ok(None)
            }
        }
    }

    /// Compares what was computed with what the manifest says.
    ///
    /// # Errors
    /// When they differ.
    pub(super) fn compare(&self, name: &Path, expected: &Expected, found: Option<&Checksum>) -> Result<()> {
        if expected.checksum.as_ref() == found {
            return Ok(());
        }
        let why = "its contents have another checksum than the manifest says";
        Err(damaged(&self.backup, name, why.to_owned()))
    }

    /// Whether there is a manifest that files are held against.
    pub(super) fn has_manifest(&self) -> bool {
        self.expected.is_some()
    }

    /// Leaves out a file that is there and is not compared.
    pub(super) fn leave_out(&mut self, name: &Path) {
        self.expected.as_mut().and_then(|expected| expected.remove(name));
    }

    /// The files of the manifest that were not come to, sorted.
    pub(super) fn missing(&self) -> Vec<String> {
        let expected = self.expected.iter().flatten().map(|(name, _)| name);
        let mut missing: Vec<String> = expected.filter(|name| !is_ignored(name)).map(|name| shown(name)).collect();
        missing.sort_unstable();
        missing
    }

    /// Some of the files that the manifest does not know, and how many there are.
    pub(super) fn extra(&self) -> (&[String], u64) {
        (&self.extra, self.extras)
    }

    /// What is to be said when all was seen: of files that the manifest does not know, and of a manifest that there is
    /// not.
    ///
    /// # Errors
    /// When files are missing.
    pub(super) fn close(self) -> Result<Option<Finding>> {
        if self.expected.is_none() {
            let message = format!(
                "the base backup {} has no manifest: nobody can tell whether its files are as they were when it was made",
                self.backup
            );
            let hint = "nothing now; take base backups with pg_basebackup, which writes one";
            return Ok(Some(Finding::note("backup-unverified", message).hint(hint)));
        }
        let missing = self.missing();
        if !missing.is_empty() {
            let error = Error::failed("backup-damaged", format!("the base backup {} is not whole", self.backup));
            let number = counted(missing.len() as u64, "file");
            return Err(error
                .because(format!(
                    "{number} that the manifest names are missing: {}",
                    listed(&missing, missing.len() as u64)
                ))
                .hint(ANOTHER));
        }
        Ok((self.extras > 0).then(|| {
            let message = format!(
                "the base backup {} has files that its manifest does not know: {}",
                self.backup,
                listed(&self.extra, self.extras)
            );
            Finding::warning("backup-has-more", message)
                .hint("they were unpacked too; find out who put them there, and do not promote what you do not trust")
        }))
    }
}

const ANOTHER: &str =
    "choose another backup with --backup: “walback backups” lists them; pg_verifybackup checks one as a whole";

fn bad_manifest(path: &Path) -> Error {
    Error::failed("manifest-broken", format!("the backup's manifest cannot be relied on: {}", path.display()))
        .hint("choose another backup: “walback backups” lists them")
}

fn damaged(backup: &str, name: &Path, why: String) -> Error {
    Error::failed("backup-damaged", format!("the base backup {backup} is damaged: {}", shown(name)))
        .because(why)
        .hint(ANOTHER)
}

fn suspicious(backup: &str, why: String) -> Error {
    Error::failed("backup-suspicious", format!("the base backup {backup} is not unpacked"))
        .because(why)
        .hint("this is not how PostgreSQL makes base backups; find out who made it")
}

fn is_ignored(name: &Path) -> bool {
    IGNORED.iter().any(|ignored| name.starts_with(ignored))
}

fn shown(name: &Path) -> String {
    name.to_string_lossy().escape_debug().to_string()
}

pub(super) fn listed(names: &[String], all: u64) -> String {
    let named = names.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", ");
    match all.saturating_sub(NAMED as u64) {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgdata::{ChecksumAlgorithm, ManifestFile};
    use crate::plan::example;

    fn file(path: &str, size: u64) -> ManifestFile {
        let checksum = Checksum { algorithm: ChecksumAlgorithm::Crc32c, bytes: vec![1, 2, 3, 4] };
        ManifestFile { path: path.into(), size, checksum: Some(checksum) }
    }

    fn ledger(files: Vec<ManifestFile>) -> Result<Ledger> {
        let manifest = Manifest { version: 2, system_identifier: None, files, wal_ranges: Vec::new() };
        Ledger::of(&example().backup, Some(manifest))
    }

    #[track_caller]
    fn says<T>(result: Result<T>, code: &str, named: &str) {
        let error = result.err().unwrap();
        assert_eq!(error.report().code, code);
        assert!(error.to_string().contains(named) && error.to_string().contains("monday"), "{error}");
    }

    #[test]
    fn sizes_and_checksums_are_compared() {
        let mut ledger = ledger(vec![file("base/1/2", 10), file("base/1/3", 10)]).unwrap();
        let expected = ledger.expect(Path::new("base/1/2"), 10).unwrap().unwrap();
        ledger.compare(Path::new("base/1/2"), &expected, expected.checksum.as_ref()).unwrap();
        let other = Checksum { bytes: vec![1, 2, 3, 5], algorithm: ChecksumAlgorithm::Crc32c };
        says(ledger.compare(Path::new("base/1/2"), &expected, Some(&other)), "backup-damaged", "base/1/2");
        says(ledger.compare(Path::new("base/1/2"), &expected, None), "backup-damaged", "base/1/2");
        says(ledger.expect(Path::new("base/1/3"), 11), "backup-damaged", "base/1/3");
    }

    #[test]
    fn what_is_missing_is_named_and_what_pg_verifybackup_ignores_is_not() {
        let files = ["a", "postgresql.auto.conf", "standby.signal"].map(|name| file(name, 1));
        says(ledger(files.to_vec()).unwrap().close(), "backup-damaged", "missing: a");
        let many = (0..9).map(|n| file(&format!("base/{n}"), 1)).collect();
        says(ledger(many).unwrap().close(), "backup-damaged", "and 4 more");
        let mut fine = ledger(files.to_vec()).unwrap();
        fine.expect(Path::new("a"), 1).unwrap().unwrap();
        // Changed after the backup, and that is all right.
        assert_eq!(fine.expect(Path::new("postgresql.auto.conf"), 99).unwrap(), None);
        assert_eq!(fine.expect(Path::new("pg_wal/000000010000000000000001"), 1).unwrap(), None);
        assert_eq!(fine.close().unwrap(), None);
    }

    #[test]
    fn what_nobody_knows_is_told() {
        let mut ledger = ledger(Vec::new()).unwrap();
        for n in 0..7 {
            ledger.expect(Path::new(&format!("more{n}")), 1).unwrap();
        }
        let finding = ledger.close().unwrap().unwrap();
        assert_eq!(finding.code, "backup-has-more");
        assert!(finding.message.contains("more0") && finding.message.ends_with("and 2 more"), "{}", finding.message);
        let without = Ledger::of(&example().backup, None).unwrap().close().unwrap().unwrap();
        assert_eq!(without.code, "backup-unverified");
    }

    #[test]
    fn an_entry_comes_once_and_there_are_not_too_many() {
        let mut ledger = ledger(Vec::new()).unwrap();
        ledger.most = 3;
        ledger.note(Path::new("a")).unwrap();
        says(ledger.note(Path::new("a")), "backup-suspicious", "a twice");
        ["b", "c"].iter().for_each(|name| ledger.note(Path::new(name)).unwrap());
        says(ledger.note(Path::new("d")), "backup-suspicious", "more than 3");
        let contradicts = super::tests::ledger(vec![file("a", 1), file("a", 2)]);
        assert_eq!(contradicts.err().unwrap().report().code, "manifest-broken");
    }
}
