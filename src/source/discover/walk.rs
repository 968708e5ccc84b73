//! Walks directories, the nearest first, and says of each what it is.

use std::collections::{HashSet, VecDeque};
use std::fs::{self, FileType};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::statfs::{FsType, PROC_SUPER_MAGIC, SYSFS_MAGIC, statfs};

use crate::catalog::compression::archived;
use crate::catalog::found::{ArchiveKind, Met, MetBackup};
use crate::catalog::{BackupKind, Folder, LeftAlone};
use crate::core::ArchiveFile;
use crate::core::progress::grouped;
use crate::error::{Error, Result};

use super::super::Cancel;
use super::super::unreadable;
use super::{BackupHistories, Bounds, backups_in, data_directory, foreign, tells_of_backup};

/// Copies of a file system as it was, which some file systems show in every directory: all that is in them was met before.
const SNAPSHOTS: [&str; 4] = [".snapshot", ".snapshots", ".zfs", "@Recently-Snapshot"];
/// Says that a directory is one of `pg_dump --format=directory`.
const DUMP: &str = "toc.dat";

/// Of more files in one directory than this, not each is opened.
const MANY: usize = 2000;

/// What a walk saw.
#[derive(Default)]
pub(super) struct Seen {
    /// All but the archives.
    pub(super) met: Met,
    /// Directories with WAL.
    pub(super) wal: Vec<(PathBuf, ArchiveKind)>,
    /// The `.backup` files of archives.
    pub(super) backup_histories: BackupHistories,
}

/// A directory that waits to be looked into.
struct Waiting {
    path: PathBuf,
    /// Levels below what was named.
    level: usize,
    /// The device of what was named.
    device: u64,
    /// Whether a link led here: another one is not followed from here on.
    by_link: bool,
}

/// What a directory has.
#[derive(Default)]
struct Entries {
    /// All names, as well as they can be written.
    names: Vec<String>,
    /// Those of directories.
    directories: Vec<String>,
    /// Those of links.
    links: Vec<String>,
    /// Those of plain files, sorted.
    files: Vec<String>,
}

impl Entries {
    fn has(&self, name: &str) -> bool {
        self.names.iter().any(|known| known == name)
    }
}

/// Walks over what is at and below these directories.
///
/// # Errors
/// When one of them cannot be read, or when it was cancelled.
pub(super) fn walk(paths: &[PathBuf], bounds: Bounds, cache: Option<&Path>, cancel: &Cancel) -> Result<Seen> {
    let mut walk = Walk {
        bounds,
        cache,
        cancel,
        seen: Seen::default(),
        known: HashSet::new(),
        waiting: VecDeque::new(),
        links: VecDeque::new(),
        entries: 0,
        deep: Vec::new(),
        beside: Vec::new(),
    };
    for path in paths {
        walk.begin(path)?;
    }
    // Links come last: what they lead to has its own name, if it lies here too.
    while let Some(next) = walk.waiting.pop_front().or_else(|| walk.links.pop_front()) {
        cancel.check()?;
        if walk.seen.met.cut_short.is_some() {
            break;
        }
        walk.look_into(&next)?;
    }
    walk.say_what_is_too_deep();
    walk.say_what_lies_beside();
    let mut seen = walk.seen;
    seen.met.paths = paths.to_vec();
    without_doubles(&mut seen.wal);
    Ok(seen)
}

struct Walk<'a> {
    bounds: Bounds,
    cache: Option<&'a Path>,
    cancel: &'a Cancel,
    seen: Seen,
    /// The device and inode of each directory that was looked into.
    known: HashSet<(u64, u64)>,
    waiting: VecDeque<Waiting>,
    /// The same behind links.
    links: VecDeque<Waiting>,
    /// Entries that were looked at.
    entries: u64,
    /// Directories that lie too deep.
    deep: Vec<PathBuf>,
    /// What lies in directories that have no backup themselves.
    beside: Vec<(PathBuf, Vec<LeftAlone>)>,
}

impl Walk<'_> {
    /// Takes in a directory that was named: it has to be there.
    fn begin(&mut self, path: &Path) -> Result<()> {
        let metadata = fs::metadata(path).map_err(|error| unreadable("the directory", path, &error))?;
        if !metadata.is_dir() {
            let above = path.parent().unwrap_or(path).display().to_string();
            return Err(Error::usage("bad-path", format!("this is a file, not a directory: {}", path.display()))
                .hint(format!("give the directory that has it: {above}")));
        }
        if is_of_the_kernel(path) {
            return Err(Error::usage("bad-path", format!("the kernel shows itself here: {}", path.display()))
                .hint("give directories with base backups or WAL"));
        }
        let waiting = Waiting { path: path.to_path_buf(), level: 0, device: metadata.dev(), by_link: false };
        self.waiting.push_back(waiting);
        Ok(())
    }

    fn leave(&mut self, path: &Path, why: impl Into<String>) {
        self.seen.met.left_alone.push(LeftAlone { path: path.to_path_buf(), why: why.into() });
    }

    fn look_into(&mut self, at: &Waiting) -> Result<()> {
        let metadata = match fs::metadata(&at.path) {
            Ok(metadata) => metadata,
            Err(error) => {
                self.leave(&at.path, format!("cannot be looked into: {error}"));
                return Ok(());
            }
        };
        if !self.known.insert((metadata.dev(), metadata.ino())) {
            if at.by_link {
                self.leave(&at.path, "a link to a directory that was looked into already");
            }
            return Ok(());
        }
        let entries = match self.entries_of(&at.path) {
            Ok(entries) => entries,
            Err(error) if at.level == 0 => return Err(unreadable("the directory", &at.path, &error)),
            Err(error) => {
                self.leave(&at.path, format!("cannot be looked into: {error}"));
                return Ok(());
            }
        };
        if self.seen.met.cut_short.is_some() {
            return Ok(());
        }
        self.seen.met.directories += 1;
        let Some(spared) = self.take_for_something(&at.path, at.level, &entries)? else { return Ok(()) };
        self.go_below(at, &entries, spared);
        Ok(())
    }

    /// Reads the names in a directory, as many as the bound lets through.
    fn entries_of(&mut self, directory: &Path) -> io::Result<Entries> {
        let mut entries = Entries::default();
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            self.entries += 1;
            if self.entries > self.bounds.entries {
                self.seen.met.cut_short = Some(format!(
                    "the search ended in {}, after {} entries: give the directories themselves, not one so far above them",
                    directory.display(),
                    grouped(self.bounds.entries)
                ));
                break;
            }
            let name = entry.file_name().to_string_lossy().into_owned();
            let kind = entry.file_type();
            let is = |what: fn(&FileType) -> bool| kind.as_ref().is_ok_and(what);
            if is(FileType::is_dir) {
                entries.directories.push(name.clone());
            } else if is(FileType::is_symlink) {
                entries.links.push(name.clone());
            } else if is(FileType::is_file) {
                entries.files.push(name.clone());
            }
            entries.names.push(name);
        }
        entries.directories.sort();
        entries.links.sort();
        entries.files.sort();
        Ok(entries)
    }

    /// Says what a directory is. Where it may have more below it, the names of what belongs to what it is.
    fn take_for_something(
        &mut self,
        path: &Path,
        level: usize,
        entries: &Entries,
    ) -> Result<Option<&'static [&'static str]>> {
        let has = |name: &str| entries.has(name);
        if let Some(directory) = data_directory::recognize(path, &has) {
            if !directory.made_by_walback && has("pg_wal") {
                let kind = if directory.running { ArchiveKind::PgWalOfRunning } else { ArchiveKind::PgWal };
                self.seen.wal.push((path.join("pg_wal"), kind));
            }
            self.seen.met.data_directories.push(directory);
            return Ok(None);
        }
        if let Some(recognized) = foreign::recognize(path, &has) {
            self.seen.met.foreign.push(recognized.foreign);
            return Ok((!recognized.inside.is_empty()).then_some(recognized.inside));
        }
        let found = backups_in(path, &self.worth_a_look(path, entries), self.cache, self.cancel)?;
        if found.backups.is_empty() {
            self.beside.push((path.to_path_buf(), found.left_alone));
        } else {
            // What is below a copy of a data directory belongs to it; beside tars may lie more.
            let is_copy = found.backups.iter().any(|backup| backup.kind == BackupKind::Directory);
            let met = found.backups.into_iter().map(|backup| MetBackup { backup, identified_by: None });
            self.seen.met.backups.extend(met);
            self.seen.met.left_alone.extend(found.left_alone);
            if is_copy {
                return Ok(None);
            }
        }
        if has(DUMP) {
            self.leave(path, "a dump of pg_dump: no WAL goes with it; pg_restore reads it");
            return Ok(None);
        }
        self.take_for_archive(path, level, entries);
        Ok(Some(&[]))
    }

    /// The names in a directory that are looked into. Of many files that are no WAL, only those that are called like tars:
    /// each is opened, and a search may come by anything.
    fn worth_a_look(&mut self, path: &Path, entries: &Entries) -> Vec<String> {
        if entries.files.len() <= MANY {
            return entries.names.clone();
        }
        let is_other = |name: &&String| archived(name).is_none();
        let others = entries.files.iter().filter(is_other).count();
        if others <= MANY {
            return entries.names.clone();
        }
        let others = grouped(others as u64);
        self.leave(path, format!("{others} files that are no WAL: only those with the name of a tar were looked into"));
        let is_file = |name: &String| entries.files.binary_search(name).is_ok();
        let is_named = |name: &String| name.contains(".t") || name == "backup_manifest" || name == "PG_VERSION";
        entries.names.iter().filter(|name| !is_file(name) || is_named(name)).cloned().collect()
    }

    /// What lies in a directory between its backups is said, where these are directories too.
    fn say_what_lies_beside(&mut self) {
        let backups = self.seen.met.backups.iter().filter_map(|met| met.backup.location.parent());
        let above: HashSet<&Path> = backups.collect();
        let beside = std::mem::take(&mut self.beside);
        let beside = beside.into_iter().filter(|(directory, _)| above.contains(directory.as_path()));
        let beside: Vec<LeftAlone> = beside.flat_map(|(_, left)| left).collect();
        self.seen.met.left_alone.extend(beside);
    }

    /// Takes a directory with segments for an archive. A folder that has the segments of one timeline, or of one 4 GB of
    /// it, belongs to the archive above.
    fn take_for_archive(&mut self, path: &Path, level: usize, entries: &Entries) {
        let of_wal = |name: &&String| {
            let file = archived(name).map(|(file, _)| file);
            matches!(file, Some(ArchiveFile::Segment(_) | ArchiveFile::Partial(_)))
        };
        for name in &entries.files {
            if let Some(segment) = tells_of_backup(name) {
                self.seen.backup_histories.entry(segment).or_default().push(path.join(name));
            }
        }
        let Some(first) = entries.files.iter().chain(&entries.links).find(of_wal) else {
            if entries.files.iter().any(|name| archived(name).is_some()) {
                self.leave(path, "there are files of a WAL archive in it, and no segment");
            }
            return;
        };
        let kind = if entries.has("archive_status") { ArchiveKind::PgWal } else { ArchiveKind::Archive };
        self.seen.wal.push((archive_of(path, first, level), kind));
    }

    /// Has what lies below looked into, but for what is `spared`.
    fn go_below(&mut self, at: &Waiting, entries: &Entries, spared: &[&str]) {
        let links = entries.links.iter().filter(|name| at.path.join(name).is_dir());
        let below: Vec<(&String, bool)> =
            entries.directories.iter().map(|name| (name, false)).chain(links.map(|name| (name, true))).collect();
        for (name, is_link) in below {
            let path = at.path.join(name);
            if spared.contains(&name.as_str()) {
                continue;
            }
            match self.why_not(at, &path, name, is_link) {
                Some(why) => self.leave(&path, why),
                None if at.level >= self.bounds.depth => self.deep.push(path),
                None => {
                    let by_link = at.by_link || is_link;
                    let queue = if by_link { &mut self.links } else { &mut self.waiting };
                    queue.push_back(Waiting { path, level: at.level + 1, device: at.device, by_link });
                }
            }
        }
    }

    /// Why a directory is not looked into, where it is not.
    fn why_not(&self, at: &Waiting, path: &Path, name: &str, is_link: bool) -> Option<String> {
        if SNAPSHOTS.contains(&name) {
            return Some("the file system's own copies of what is here: name one, to look into it".to_owned());
        }
        if archived(name).is_some() {
            return Some("a directory with a name of WAL: what it has is no part of the archive".to_owned());
        }
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            // It was just seen: a name that cannot be written was mangled, or somebody removed it.
            Err(error) => return Some(format!("cannot be looked into: {error}")),
        };
        if metadata.dev() != at.device {
            return Some("another file system: name it too, where base backups or WAL are in it".to_owned());
        }
        if !is_link {
            return None;
        }
        if at.by_link {
            return Some("a link behind a link: name it too, where base backups or WAL are there".to_owned());
        }
        let target = path.canonicalize().ok()?;
        let here = at.path.canonicalize().ok()?;
        here.starts_with(&target).then(|| "a link back to where it came from".to_owned())
    }

    fn say_what_is_too_deep(&mut self) {
        let Some(first) = self.deep.first().cloned() else { return };
        let levels = self.bounds.depth;
        let why = match self.deep.len() - 1 {
            0 => format!("more than {levels} levels below what was named: name it, to look into it"),
            more => format!(
                "more than {levels} levels below what was named, as {more} more are: name them, to look into them"
            ),
        };
        self.leave(&first, why);
    }
}

/// Whether the kernel shows itself at this place: nothing in it is a file, and some of it hangs whoever reads it.
fn is_of_the_kernel(path: &Path) -> bool {
    let kinds: [FsType; 2] = [PROC_SUPER_MAGIC, SYSFS_MAGIC];
    statfs(path).is_ok_and(|statfs| kinds.contains(&statfs.filesystem_type()))
}

/// The archive that a directory with this segment is, or is a folder of: `…/00000001/`, `…/0000000100000000/`. It is not
/// sought above what was named, which is so many levels above.
fn archive_of(path: &Path, segment: &str, level: usize) -> PathBuf {
    let folder = path.file_name().and_then(|name| name.to_str()).and_then(Folder::parse);
    let is_its_own = archived(segment).zip(folder).is_some_and(|((file, _), folder)| folder.is_of(file));
    let above = path.parent().filter(|_| is_its_own && level > 0);
    above.unwrap_or(path).to_path_buf()
}

/// A directory may be met twice: as the `pg_wal` that a link in a data directory leads to, and by itself.
fn without_doubles(wal: &mut Vec<(PathBuf, ArchiveKind)>) {
    let real = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    // What is known of a server's comes first.
    wal.sort_by_key(|(path, kind)| (std::cmp::Reverse(*kind), path.clone()));
    let mut known = HashSet::new();
    wal.retain(|(path, _)| known.insert(real(path)));
    wal.sort();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_of_an_archive_belong_to_it() {
        let of =
            |path: &str, level| archive_of(Path::new(path), "00000002000000010000000A", level).display().to_string();
        assert_eq!(of("/b/wal", 1), "/b/wal");
        assert_eq!(of("/b/wal/0000000200000001", 2), "/b/wal");
        assert_eq!(of("/b/wal/00000002", 2), "/b/wal");
        assert_eq!(of("/b/wal/0000000200000002", 2), "/b/wal/0000000200000002", "of another part");
        assert_eq!(of("/b/wal/00000002", 0), "/b/wal/00000002", "it was named");
    }
}
