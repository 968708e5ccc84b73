//! Finds the base backups below a directory, and says what else lies there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::catalog::compression::archived;
use crate::catalog::{LeftAlone, Listing, Part, PartContents};
use crate::error::{Error, Result};

use super::base_backup;
use super::left_alone::{self, File, Notes};
use super::survey::{Reach, Surveyor};
use super::tar_backup::{self, Described, named_part, order};
use super::{Cancel, unreadable};

/// How deep below a given directory base backups are looked for.
pub(super) const DEPTH: usize = 3;

/// Looks for backups.
pub(super) struct Finder<'a> {
    /// The archives' directories, of which nothing is said here.
    pub(super) archives: &'a [PathBuf],
    pub(super) surveyor: Surveyor<'a>,
    pub(super) cancel: &'a Cancel,
    /// The directories that were looked into already, by device and inode: links are followed once.
    pub(super) seen: BTreeSet<(u64, u64)>,
}

impl Finder<'_> {
    /// Puts every backup at or below `root` into the listing: a directory, or one tar.
    ///
    /// # Errors
    /// When the directory cannot be read, or when it was cancelled.
    pub(super) fn find(&mut self, root: &Path, listing: &mut Listing) -> Result<()> {
        self.seen.clear();
        if !root.is_file() {
            self.below(root, DEPTH, listing)?;
            // Tablespaces may have been copied to places between the backups.
            let parts: BTreeSet<&Path> =
                listing.backups.iter().flat_map(|backup| &backup.parts).map(|part| part.path.as_path()).collect();
            listing.left_alone.retain(|left| !parts.contains(left.path.as_path()));
            return Ok(());
        }
        let (Some(directory), Some(name)) = (root.parent(), root.file_name().and_then(|name| name.to_str())) else {
            return Ok(());
        };
        let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
        let names = names_in(directory).map_err(|error| unreadable("the backups", directory, &error))?;
        let mut alone = Listing::default();
        self.tars(directory, &names, Some(name), &mut alone)?;
        listing.problems.append(&mut alone.problems);
        listing.left_alone.extend(alone.left_alone.into_iter().filter(|left| left.path == root));
        listing.backups.append(&mut alone.backups);
        Ok(())
    }

    /// Puts the backups into the listing that this directory is or has itself, and what else lies in it; `names` are those
    /// of its entries.
    ///
    /// # Errors
    /// When it was cancelled.
    pub(super) fn at(&mut self, directory: &Path, names: &[String], listing: &mut Listing) -> Result<()> {
        if is_data_directory(&|name| has(names, name)) {
            listing.backups.push(base_backup::describe_copy(directory, names, self.cancel)?);
            return Ok(());
        }
        self.tars(directory, names, None, listing)
    }

    fn below(&mut self, directory: &Path, depth: usize, listing: &mut Listing) -> Result<()> {
        self.cancel.check()?;
        let mut names = match names_in(directory) {
            Ok(names) => names,
            Err(error) if depth == DEPTH => return Err(unreadable("the backups", directory, &error)),
            Err(error) => {
                let path = directory.to_path_buf();
                listing.left_alone.push(LeftAlone { path, why: format!("it cannot be read: {error}") });
                listing.problems.push(format!("cannot read {}: {error}", directory.display()));
                return Ok(());
            }
        };
        names.sort();
        if !self.is_new(directory) {
            return Ok(());
        }
        let is_copy = is_data_directory(&|name| has(&names, name));
        if !is_copy && let Some(what) = left_alone::directory(directory, &names) {
            listing.left_alone.push(LeftAlone { path: directory.to_path_buf(), why: what.to_owned() });
            return Ok(());
        }
        self.at(directory, &names, listing)?;
        if is_copy {
            return Ok(());
        }
        for name in names {
            let below = directory.join(&name);
            if !below.is_dir() {
                continue;
            }
            if depth > 0 {
                self.below(&below, depth - 1, listing)?;
            } else {
                let why = format!(
                    "it was not looked into: it lies more than {DEPTH} directories deep; name it with --backups"
                );
                listing.left_alone.push(LeftAlone { path: below, why });
            }
        }
        Ok(())
    }

    /// Whether a directory was not looked into yet, by another name.
    fn is_new(&mut self, directory: &Path) -> bool {
        fs::metadata(directory).is_ok_and(|metadata| self.seen.insert((metadata.dev(), metadata.ino())))
    }

    /// Whether a directory belongs to an archive that was given, whose files are told of elsewhere.
    fn is_archive(&self, directory: &Path) -> bool {
        let same = |one: &Path, other: &Path| match (fs::metadata(one), fs::metadata(other)) {
            (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
            _ => false,
        };
        self.archives.iter().any(|archive| directory.starts_with(archive) || same(archive, directory))
    }

    /// The backups that are tars in one directory, and what else its files are. `only`: the name of the one that is
    /// asked for, whose tar is then read to its end.
    fn tars(&mut self, directory: &Path, names: &[String], only: Option<&str>, listing: &mut Listing) -> Result<()> {
        let is_archive = self.is_archive(directory);
        let mut left = Vec::new();
        let (mut named, mut alone, mut wal): (Vec<Part>, Vec<Part>, u64) = (Vec::new(), Vec::new(), 0);
        let has_manifest = names.iter().any(|name| name == "backup_manifest");
        for name in names {
            self.cancel.check()?;
            let path = directory.join(name);
            if path.is_dir() || name == "backup_manifest" {
                continue;
            }
            if let Some(why) = left_alone::by_name(name) {
                left.push((name, why.to_owned()));
                continue;
            }
            if archived(name).is_some() {
                wal += 1;
                continue;
            }
            let size_bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
            if let Some(part) = named_part(path.clone(), size_bytes) {
                named.push(part);
                continue;
            }
            match left_alone::look(&path, name) {
                File::Tar(compression, size_bytes) => {
                    alone.push(Part {
                        path,
                        holds: PartContents::Data,
                        compression,
                        size_bytes,
                        inside: PathBuf::new(),
                    });
                }
                File::Nothing(why) => left.push((name, why)),
                File::Unreadable(why) => {
                    // It may be a backup, under any name.
                    if only.is_none_or(|only| only == name) {
                        listing.problems.push(format!("{}: {why}", path.display()));
                    }
                    left.push((name, why));
                }
            }
        }
        named.sort_by_key(order);
        let bases = named.iter().filter(|part| part.holds == PartContents::Data).count();
        let in_scope = |part: &Part| only.is_none_or(|only| part.path.file_name().is_some_and(|name| name == only));
        if bases > 0 {
            let wanted = only.is_none() || named.iter().any(in_scope);
            let parts = std::mem::take(&mut named);
            if wanted {
                self.tar(directory, parts, has_manifest, reach(only), listing)?;
            }
        }
        // What lies beside one tar is its own; beside several, nobody can tell whose.
        let mut beside = if alone.len() == 1 && bases == 0 { std::mem::take(&mut named) } else { Vec::new() };
        let has_manifest = has_manifest && alone.len() == 1 && bases == 0;
        for part in alone.into_iter().filter(in_scope) {
            let path = part.path.clone();
            let parts = std::iter::once(part).chain(std::mem::take(&mut beside)).collect();
            if let Some(why) = self.tar(&path, parts, has_manifest, reach(only), listing)? {
                let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                left.extend(names.iter().find(|known| *known == name).map(|name| (name, why)));
            }
        }
        let mut notes = Notes::of(directory, listing);
        for (name, why) in left {
            notes.add(name, why);
        }
        for part in named {
            let name = part.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let why = "a part of a backup, and it is not certain of which: there is no base.tar beside it, or there are several tars";
            notes.add(&name, why);
        }
        (0..wal).filter(|_| !is_archive).for_each(|_| notes.add_wal());
        notes.close();
        Ok(())
    }

    /// Describes one backup; gives what it is where it is none.
    fn tar(
        &mut self,
        location: &Path,
        parts: Vec<Part>,
        has_manifest: bool,
        reach: Reach,
        listing: &mut Listing,
    ) -> Result<Option<String>> {
        let several = parts.iter().filter(|part| part.holds == PartContents::Data).count() > 1;
        match tar_backup::describe(location, parts, has_manifest, reach, &mut self.surveyor, self.cancel)? {
            Described::Nothing(why) => Ok(Some(why)),
            Described::Backup(mut backup, unknown) => {
                if several {
                    let why = "base.tar is there more than once, packed and not, or packed in two ways: move all but one of them elsewhere";
                    backup.problems.push(why.to_owned());
                }
                listing.problems.extend(unknown);
                listing.backups.push(*backup);
                Ok(None)
            }
        }
    }
}

fn reach(only: Option<&str>) -> Reach {
    if only.is_some() { Reach::Far } else { Reach::Near }
}

/// An error for a place at which there is no backup, with what is there instead.
pub(super) fn none_at(root: &Path, listing: &Listing) -> Error {
    let none = Error::failed("no-backup", format!("there is no base backup here: {}", root.display())).hint(
        "a base backup is a directory with base.tar (or base.tar.gz), a tar of a data directory, or a directory with PG_VERSION, global and backup_label; name it, or a directory above it",
    );
    // What could not be read may be just what was looked for.
    let none = listing.problems.iter().fold(none, |error, problem| error.because(problem.clone()));
    let left = listing.left_alone.iter().filter(|left| left.path.starts_with(root)).take(5);
    left.fold(none, |error, left| error.because(format!("{}: {}", left.path.display(), left.why)))
}

/// Whether a directory that `has` such entries is a data directory, or a copy of one.
pub(super) fn is_data_directory(has: &dyn Fn(&str) -> bool) -> bool {
    has("PG_VERSION") && has("global")
}

fn has(names: &[String], wanted: &str) -> bool {
    names.iter().any(|name| name == wanted)
}

fn names_in(directory: &Path) -> std::io::Result<Vec<String>> {
    fs::read_dir(directory)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
