//! Finds names for the relations of suspects in base backups: in the catalogs' own files, without a server.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, BufReader, Read};

use crate::catalog::{Backup, BackupKind, Catalog, Compression, Part, PartContents, RelationNames, Suspect};
use crate::core::PgMajor;
use crate::error::Result;
use crate::pgdata::FilenodeMap;
use crate::pgdata::incremental_file::{upon, whole_name};
use crate::pgdata::system_rows::classes;

use super::compress::{self, Count};
use super::{Cancel, open_file};

/// OIDs of catalogs, and the numbers of their files unless they were rewritten (`src/include/catalog/`).
const PG_CLASS: u32 = 1259;
const PG_DATABASE: u32 = 1262;
const PG_NAMESPACE: u32 = 2615;
/// The longest file of a catalog that is read: more than a million relations.
const LONGEST: u64 = 512 << 20;
/// A compressed backup has to be read from its front: names are not worth more than this, some second. xz and bzip2 take
/// several times as long as the others for a byte of the file.
const LARGEST_COMPRESSED: u64 = 96 << 20;
const LARGEST_OF_SLOW: u64 = 16 << 20;

/// The names that base backups know, read when they are first asked for.
#[derive(Debug, Default)]
pub struct NameBook {
    known: HashMap<String, RelationNames>,
    /// Backups that should have told and could not, with the reason, in words.
    pub problems: Vec<String>,
}

impl NameBook {
    /// Names the relations of suspects, as the last backup from before each of them has them. What was made after
    /// that backup stays without a name.
    ///
    /// # Errors
    /// When it was cancelled. A backup that cannot be read leaves its suspects without names, and is a problem.
    pub fn name(&mut self, suspects: &mut [Suspect], catalog: &Catalog, cancel: &Cancel) -> Result<()> {
        for suspect in suspects {
            let Some(backup) = last_before(catalog, suspect) else { continue };
            if let Some(names) = self.of(backup, catalog, cancel)? {
                names.name(suspect);
            }
        }
        Ok(())
    }

    /// The database that users made, where a backup has only one and names are soon had from it.
    ///
    /// # Errors
    /// When it was cancelled.
    pub fn only_database(&mut self, backup: &Backup, catalog: &Catalog, cancel: &Cancel) -> Result<Option<String>> {
        if !read_for(backup, catalog).into_iter().all(is_quick) {
            return Ok(None);
        }
        Ok(self.of(backup, catalog, cancel)?.and_then(RelationNames::only_database).map(str::to_owned))
    }

    /// What this backup knows, read where it was not yet.
    fn of(&mut self, backup: &Backup, catalog: &Catalog, cancel: &Cancel) -> Result<Option<&RelationNames>> {
        if !self.known.contains_key(&backup.id) {
            let names = match read_names(&read_for(backup, catalog), cancel) {
                Ok(names) => names,
                Err(error) => {
                    cancel.check()?;
                    self.problems.push(format!("{}: names of relations: {error}", backup.location.display()));
                    RelationNames::default()
                }
            };
            self.known.insert(backup.id.clone(), names);
        }
        Ok(self.known.get(&backup.id))
    }
}

/// The backup from which names are soon had and that was made last before this.
fn last_before<'a>(catalog: &'a Catalog, suspect: &Suspect) -> Option<&'a Backup> {
    let leads_there = |backup: &&Backup| {
        let path = catalog.path_to(suspect.timeline);
        backup.start_lsn.is_some_and(|start| start <= suspect.lsn)
            && path.is_some_and(|path| catalog.leads_along(backup, &path))
    };
    let soon = |backup: &&Backup| read_for(backup, catalog).into_iter().all(is_quick);
    catalog.usable_backups().filter(soon).filter(leads_there).max_by_key(|backup| backup.start_lsn)
}

/// The backups that are read for the names of one: itself, and before it those that it builds upon.
fn read_for<'a>(backup: &'a Backup, catalog: &'a Catalog) -> Vec<&'a Backup> {
    let chain = catalog.chain_of(backup);
    if chain.is_empty() { vec![backup] } else { chain }
}

fn is_quick(backup: &Backup) -> bool {
    let data = backup.parts.iter().filter(|part| part.holds == PartContents::Data);
    backup.kind == BackupKind::Directory
        || data.clone().all(|part| match part.compression {
            Compression::None => true,
            Compression::Xz | Compression::Bzip2 => part.size_bytes <= LARGEST_OF_SLOW,
            _ => part.size_bytes <= LARGEST_COMPRESSED,
        })
}

/// Reads the names that a base backup knows, the last of those that are read for it.
///
/// # Errors
/// When its files cannot be read.
fn read_names(backups: &[&Backup], cancel: &Cancel) -> io::Result<RelationNames> {
    let Some(major) = backups.last().and_then(|backup| backup.pg_version) else { return Ok(RelationNames::default()) };
    let mut files = Files::default();
    files.take_all(backups, &is_ordinary, cancel)?;
    // Where pg_class lies elsewhere, only its rows say where pg_namespace lies.
    for _ in 0..2 {
        let rewritten = files.rewritten(major);
        if !rewritten.is_empty() {
            files.take_all(backups, &|name| rewritten.contains(name), cancel)?;
        }
    }
    Ok(files.names(major))
}

/// Whether a file of this name in the data directory is one of the catalogs', unless they were rewritten.
fn is_ordinary(name: &str) -> bool {
    let is = |file: &str, catalog: u32| file == catalog.to_string();
    match name.split('/').collect::<Vec<_>>().as_slice() {
        ["global", file] => *file == "pg_filenode.map" || is(file, PG_DATABASE),
        ["base", _, file] => *file == "pg_filenode.map" || is(file, PG_CLASS) || is(file, PG_NAMESPACE),
        _ => false,
    }
}

/// Files of catalogs, by their names in the data directory.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Files {
    /// Reads the wanted files of a backup and of those that it builds upon, and takes what they come to.
    fn take_all(&mut self, backups: &[&Backup], wanted: &dyn Fn(&str) -> bool, cancel: &Cancel) -> io::Result<()> {
        let mut whole = BTreeMap::new();
        for backup in backups {
            let mut own = Files::default();
            let is_wanted = |name: &str| whole_name(name).map_or_else(|| wanted(name), |whole| wanted(&whole));
            own.take(backup, &is_wanted, cancel)?;
            whole = upon(&whole, own.0);
        }
        self.0.append(&mut whole);
        Ok(())
    }

    /// Reads the wanted files of a backup.
    fn take(&mut self, backup: &Backup, wanted: &dyn Fn(&str) -> bool, cancel: &Cancel) -> io::Result<()> {
        match backup.kind {
            BackupKind::Directory => self.take_from_directory(backup, wanted),
            BackupKind::Tar => {
                let data = backup.parts.iter().find(|part| part.holds == PartContents::Data);
                data.map_or(Ok(()), |part| self.take_from_tar(part, wanted, cancel))
            }
        }
    }

    fn take_from_directory(&mut self, backup: &Backup, wanted: &dyn Fn(&str) -> bool) -> io::Result<()> {
        let mut folders = vec!["global".to_owned()];
        for entry in std::fs::read_dir(backup.location.join("base"))? {
            folders.push(format!("base/{}", entry?.file_name().to_string_lossy()));
        }
        for folder in folders {
            let Ok(entries) = std::fs::read_dir(backup.location.join(&folder)) else { continue };
            for entry in entries {
                let name = format!("{folder}/{}", entry?.file_name().to_string_lossy());
                if wanted(&name) {
                    let mut bytes = Vec::new();
                    open_file(&backup.location.join(&name))?.take(LONGEST).read_to_end(&mut bytes)?;
                    self.0.insert(name, bytes);
                }
            }
        }
        Ok(())
    }

    fn take_from_tar(&mut self, part: &Part, wanted: &dyn Fn(&str) -> bool, cancel: &Cancel) -> io::Result<()> {
        if part.compression == Compression::None {
            let mut archive = tar::Archive::new(open_file(&part.path)?);
            return self.take_entries(part, archive.entries_with_seek()?, wanted, cancel);
        }
        let reader = compress::open(&part.path, part.compression, &Count::default())?;
        let mut archive = tar::Archive::new(BufReader::with_capacity(256 << 10, reader));
        self.take_entries(part, archive.entries()?, wanted, cancel)
    }

    fn take_entries<R: Read>(
        &mut self,
        part: &Part,
        entries: tar::Entries<'_, R>,
        wanted: &dyn Fn(&str) -> bool,
        cancel: &Cancel,
    ) -> io::Result<()> {
        for entry in entries {
            let entry = entry?;
            let Some(name) = part.name_inside(&entry.path()?) else { continue };
            let name = name.to_string_lossy().trim_start_matches("./").to_owned();
            if wanted(&name) {
                let mut bytes = Vec::new();
                entry.take(LONGEST).read_to_end(&mut bytes)?;
                self.0.insert(name, bytes);
            }
            if cancel.is_cancelled() {
                return Err(io::Error::other("cancelled"));
            }
        }
        Ok(())
    }

    /// The number of the file of a catalog that is found through a map, in this folder.
    fn mapped(&self, folder: &str, catalog: u32) -> u32 {
        let map = self.0.get(&format!("{folder}/pg_filenode.map")).and_then(|bytes| FilenodeMap::parse(bytes).ok());
        map.and_then(|map| map.file_of(catalog)).unwrap_or(catalog)
    }

    fn file(&self, folder: &str, number: u32) -> Option<&Vec<u8>> {
        self.0.get(&format!("{folder}/{number}"))
    }

    /// The number of the file of `pg_namespace`, which its row in `pg_class` says.
    fn namespace(&self, folder: &str, major: PgMajor) -> u32 {
        let pg_class = self.file(folder, self.mapped(folder, PG_CLASS));
        let row = pg_class.and_then(|file| classes(file, major).find(|row| row.oid == PG_NAMESPACE && row.current));
        row.map_or(PG_NAMESPACE, |row| row.relfilenode)
    }

    fn folders(&self) -> BTreeSet<&str> {
        let maps = self.0.keys().filter_map(|name| name.strip_suffix("/pg_filenode.map"));
        maps.filter(|folder| *folder != "global").collect()
    }

    /// The files that are needed and lie elsewhere than they ordinarily do.
    fn rewritten(&self, major: PgMajor) -> BTreeSet<String> {
        let mut wanted = BTreeSet::from([format!("global/{}", self.mapped("global", PG_DATABASE))]);
        for folder in self.folders() {
            wanted.insert(format!("{folder}/{}", self.mapped(folder, PG_CLASS)));
            wanted.insert(format!("{folder}/{}", self.namespace(folder, major)));
        }
        wanted.retain(|name| !self.0.contains_key(name));
        wanted
    }

    fn names(&self, major: PgMajor) -> RelationNames {
        let mut names = RelationNames::default();
        if let Some(file) = self.file("global", self.mapped("global", PG_DATABASE)) {
            names.add_databases(file);
        }
        for folder in self.folders() {
            let Some(database) = folder.strip_prefix("base/").and_then(|oid| oid.parse().ok()) else { continue };
            let pg_class = self.file(folder, self.mapped(folder, PG_CLASS));
            let pg_namespace = self.file(folder, self.namespace(folder, major)).map_or(&[][..], Vec::as_slice);
            if let Some(pg_class) = pg_class {
                names.add_relations(database, major, pg_class, pg_namespace);
            }
        }
        names
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_the_catalogs_are_known_by_their_names() {
        for name in ["global/1262", "global/pg_filenode.map", "base/5/1259", "base/5/2615", "base/5/pg_filenode.map"] {
            assert!(is_ordinary(name), "{name}");
        }
        for name in ["global/1259", "base/5/1259_fsm", "base/5/1259.1", "base/1259", "pg_wal/1259", "base/5/16384/1259"]
        {
            assert!(!is_ordinary(name), "{name}");
        }
    }
}
