//! Unpacks a base backup into the new data directory: every entry stays inside it, whatever the backup says.

use std::fs;
use std::io::{self, Read, Write};
use std::path::{Component, Path, PathBuf};

use crate::catalog::{Backup, BackupKind, Part, PartContents};
use crate::core::progress::Pace;
use crate::error::{Error, Result};
use crate::event::{Progress, What};
use crate::plan::files::{LEFT_OUT, NEEDED_DIRECTORIES};
use crate::plan::{Plan, StepId};
use crate::source::Cancel;
use crate::source::compress::{self, Count};

use super::super::host::{Account, Host};
use super::super::record::Recorder;

/// Bytes that are copied at a time.
const BLOCK: usize = 256 << 10;
/// Progress is told about so often, at most.
const TELL_EVERY: std::time::Duration = std::time::Duration::from_millis(100);

/// Unpacks the plan's backup into the directory that carries the mark. Gives the bytes read from it.
///
/// # Errors
/// When the backup cannot be read or is not whole, when it has an entry that does not belong into a data directory,
/// when the disk is full, or when it was cancelled. What was unpacked is left for the caller to remove.
pub fn unpack(host: &Host, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<u64> {
    let directory = &plan.directory;
    let host = &host.acting_as(owner);
    let mut unpacking = Unpacking { host, owner, recorder, cancel, meter: Meter::new(plan) };
    for part in &plan.backup.parts {
        unpacking.part(&plan.backup, part, directory)?;
    }
    for needed in NEEDED_DIRECTORIES {
        host.ensure_directory(&directory.join(needed), owner)?;
    }
    host.sync_file_system(directory)?;
    Ok(unpacking.meter.count.bytes())
}

struct Unpacking<'a> {
    host: &'a Host,
    owner: &'a Account,
    recorder: &'a Recorder<'a>,
    cancel: &'a Cancel,
    meter: Meter,
}

/// How far it has come.
struct Meter {
    count: Count,
    total: u64,
    pace: Pace,
    started: std::time::Instant,
    told: Option<std::time::Instant>,
}

impl Meter {
    fn new(plan: &Plan) -> Meter {
        let started = std::time::Instant::now();
        let total = plan.backup.parts.iter().map(|part| part.size_bytes).sum();
        Meter { count: Count::default(), total, pace: Pace::default(), started, told: None }
    }
}

impl Unpacking<'_> {
    fn part(&mut self, backup: &Backup, part: &Part, directory: &Path) -> Result<()> {
        let root = match part.holds {
            PartContents::Data => directory.to_path_buf(),
            PartContents::Wal => directory.join("pg_wal"),
            PartContents::Tablespace(oid) => {
                return Err(Error::failed("tablespaces", format!("the backup has a tablespace (OID {oid})"))
                    .hint("this version of Walback does not place tablespaces yet; restore this backup by hand"));
            }
        };
        self.host.ensure_directory(&root, self.owner)?;
        match backup.kind {
            BackupKind::Tar => self.tar(part, &root),
            BackupKind::Directory => self.directory(&part.path, &root, Path::new("")),
        }
    }

    fn tar(&mut self, part: &Part, root: &Path) -> Result<()> {
        let broken = |error: &io::Error| broken_tar(&part.path, error);
        let reader = compress::open(&part.path, part.compression, &self.meter.count).map_err(|error| broken(&error))?;
        let mut archive = tar::Archive::new(reader);
        let mut entries = archive.entries().map_err(|error| broken(&error))?;
        loop {
            self.cancel.check()?;
            let Some(entry) = entries.next() else { break };
            let mut entry = entry.map_err(|error| broken(&error))?;
            let named = entry.path().map_err(|error| broken(&error))?.into_owned();
            if is_own(&named) {
                continue;
            }
            let Some(relative) = confined(&named) else {
                return Err(stray(&part.path, &named, "it leads out of the data directory"));
            };
            let mode = entry.header().mode().unwrap_or(0o600);
            match entry.header().entry_type() {
                tar::EntryType::Directory => self.make_directory(root, &relative, mode)?,
                tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                    self.copy(&mut entry, &part.path, root, &relative, mode)?;
                }
                tar::EntryType::XGlobalHeader => {}
                other => {
                    return Err(stray(
                        &part.path,
                        &named,
                        &format!("a data directory has no entry of this kind ({other:?})"),
                    ));
                }
            }
        }
        // A gzip's checksum comes after the tar's end.
        let mut rest = archive.into_inner();
        io::copy(&mut rest, &mut io::sink()).map_err(|error| broken(&error))?;
        Ok(())
    }

    fn directory(&mut self, from: &Path, root: &Path, relative: &Path) -> Result<()> {
        let source = from.join(relative);
        let unreadable = |path: &Path, error: &io::Error| {
            Error::failed("unreadable", format!("cannot read the backup: {}", path.display())).caused_by(error)
        };
        let mut entries: Vec<_> = fs::read_dir(&source)
            .and_then(Iterator::collect::<io::Result<_>>)
            .map_err(|error| unreadable(&source, &error))?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            self.cancel.check()?;
            let (path, below) = (entry.path(), relative.join(entry.file_name()));
            if is_own(&below) {
                continue;
            }
            let metadata = fs::symlink_metadata(&path).map_err(|error| unreadable(&path, &error))?;
            let mode = std::os::unix::fs::PermissionsExt::mode(&metadata.permissions());
            if metadata.is_dir() {
                self.make_directory(root, &below, mode)?;
                self.directory(from, root, &below)?;
            } else if metadata.is_file() {
                let mut file = fs::File::open(&path).map_err(|error| unreadable(&path, &error))?;
                let mut counted = CountedRead { file: &mut file, count: self.meter.count.clone() };
                self.copy(&mut counted, from, root, &below, mode)?;
            } else if below == Path::new("pg_wal") && path.is_dir() {
                // pg_wal is often a link to another disk.
                self.make_directory(root, &below, 0o700)?;
                self.directory(from, root, &below)?;
            } else {
                return Err(stray(from, &below, "links and special files are not copied"));
            }
        }
        Ok(())
    }

    fn make_directory(&self, root: &Path, relative: &Path, mode: u32) -> Result<()> {
        let path = root.join(relative);
        if relative.as_os_str().is_empty() {
            return Ok(());
        }
        self.make_parents(root, relative)?;
        self.host.ensure_directory(&path, self.owner)?;
        self.host.set_mode(&path, (mode & 0o750) | 0o700)
    }

    fn make_parents(&self, root: &Path, relative: &Path) -> Result<()> {
        let mut parents: Vec<&Path> =
            relative.ancestors().skip(1).filter(|parent| !parent.as_os_str().is_empty()).collect();
        parents.reverse();
        parents.into_iter().try_for_each(|parent| self.host.ensure_directory(&root.join(parent), self.owner))
    }

    fn copy(&mut self, from: &mut dyn Read, part: &Path, root: &Path, relative: &Path, mode: u32) -> Result<()> {
        if relative.parent() == Some(Path::new("")) && LEFT_OUT.iter().any(|name| relative == Path::new(name)) {
            return Ok(());
        }
        let path = root.join(relative);
        if !path.parent().is_some_and(Path::is_dir) {
            self.make_parents(root, relative)?;
        }
        let mut file = self.host.create_file(&path, (mode & 0o640) | 0o600, self.owner)?;
        let mut block = vec![0; BLOCK];
        loop {
            self.cancel.check()?;
            let bytes = match from.read(&mut block) {
                Ok(0) => return Ok(()),
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    return Err(broken_tar(part, &error).because(format!("while unpacking {}", relative.display())));
                }
            };
            let written = block.get(..bytes).map_or(Ok(()), |block| file.write_all(block));
            written.map_err(|error| cannot_write(&path, &error))?;
            self.tell(relative)?;
        }
    }

    fn tell(&mut self, relative: &Path) -> Result<()> {
        let meter = &mut self.meter;
        if meter.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return Ok(());
        }
        meter.told = Some(std::time::Instant::now());
        let done = meter.count.bytes();
        meter.pace.observe(meter.started.elapsed().as_secs_f64(), done);
        self.recorder.emit(What::Progress(Progress {
            step: StepId::Unpack,
            done: done.min(meter.total),
            total: Some(meter.total),
            unit: "bytes".into(),
            rate: meter.pace.per_second(),
            eta_s: meter.pace.eta_s(meter.total),
            replayed_lsn: None,
            last_commit_at: None,
            doing: Some(relative.display().to_string()),
            waits_for: None,
        }))
    }
}

struct CountedRead<'a> {
    file: &'a mut fs::File,
    count: Count,
}

impl Read for CountedRead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.file.read(buffer)?;
        self.count.add(bytes as u64);
        Ok(bytes)
    }
}

/// A backup of a server that Walback recovered has what is Walback's own; this recovery has its own.
fn is_own(path: &Path) -> bool {
    let mut parts = path.components().filter(|part| *part != Component::CurDir);
    let climbs = path.components().any(|part| part == Component::ParentDir);
    !climbs && parts.next() == Some(Component::Normal(crate::plan::build::OWN_DIRECTORY.as_ref()))
}

/// An entry's path below the root, without `.`; `None` where it is absolute or climbs up.
fn confined(path: &Path) -> Option<PathBuf> {
    let mut relative = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::Normal(name) => relative.push(name),
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    // What is Walback's own is never a backup's to write.
    (!relative.starts_with(crate::plan::build::OWN_DIRECTORY)).then_some(relative)
}

fn broken_tar(path: &Path, error: &io::Error) -> Error {
    Error::failed("backup-broken", format!("the base backup cannot be read to its end: {}", path.display()))
        .caused_by(error)
        .hint("the file is cut off or damaged; choose another backup: “walback backups” lists them")
}

fn stray(part: &Path, entry: &Path, why: &str) -> Error {
    let entry = entry.to_string_lossy();
    Error::failed("backup-suspicious", format!("the base backup has an entry that is not unpacked: {}", part.display()))
        .because(format!("“{}”: {why}", entry.escape_debug()))
        .hint("this is not how PostgreSQL makes base backups; find out who made it")
}

fn cannot_write(path: &Path, error: &io::Error) -> Error {
    let failed = Error::failed("cannot-write", format!("cannot write: {}", path.display())).caused_by(error);
    match error.kind() {
        io::ErrorKind::StorageFull => {
            failed.hint("the file system is full; make space or choose another place with --into")
        }
        _ => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn entries_that_lead_out_are_refused() {
        for bad in ["/etc/passwd", "../x", "base/../../x", "..", "./../x", ".walback/recovery.json", "./.walback/x"] {
            assert_eq!(confined(Path::new(bad)), None, "{bad:?}");
        }
        assert_eq!(confined(Path::new("./pg_wal/./archive_status/")), Some("pg_wal/archive_status".into()));
        assert_eq!(confined(Path::new("./")), Some("".into()));
    }

    proptest! {
        #[test]
        fn whatever_is_let_through_stays_inside(path in "[a./]{0,12}") {
            if let Some(relative) = confined(Path::new(&path)) {
                prop_assert!(relative.components().all(|part| matches!(part, Component::Normal(_))));
                prop_assert!(Path::new("/root").join(relative).starts_with("/root"));
            }
        }
    }
}
