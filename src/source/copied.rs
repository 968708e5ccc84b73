//! Data directories that were copied file by file while their server ran: what of the original they still point to.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use crate::catalog::{Backup, Tablespace};
use crate::pgdata::PostmasterPid;

use super::open_file;
use super::survey::is_version_directory;

/// What the server's processes are called.
const OF_A_SERVER: [&str; 2] = ["postgres", "postmaster"];
/// The longest `postmaster.pid` that is read.
const SMALL_FILE: usize = 1 << 16;

/// Where a tablespace of a copy is.
#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Here is the copy of it.
    Copy(PathBuf),
    /// Only a link to the original's.
    Original(PathBuf),
    /// It lies in the data directory itself (`allow_in_place_tablespaces`).
    InPlace,
}

/// Finds the tablespaces of a backup that is a directory. Before, the backup has those of its `tablespace_map`, with the
/// original's places; afterwards those whose copies there are, with the copies' places. The original's files are never
/// the backup's: a server may write to them.
pub(super) fn take_tablespaces(backup: &mut Backup, directory: &Path) {
    let map = std::mem::take(&mut backup.tablespaces);
    let original = original_of(directory);
    let mut oids: Vec<u32> = map.iter().map(|tablespace| tablespace.oid).collect();
    let entries = fs::read_dir(directory.join("pg_tblspc")).into_iter().flatten().flatten();
    oids.extend(entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()));
    oids.sort_unstable();
    oids.dedup();
    for oid in oids {
        let known =
            map.iter().find(|tablespace| tablespace.oid == oid).map(|tablespace| Path::new(&tablespace.location));
        match find(directory, oid, known, original.as_deref(), backup.manifest) {
            Found::InPlace => {}
            Found::Copy(copy) => {
                let location = copy.display().to_string();
                backup.tablespaces.push(Tablespace { oid, location, size_bytes: None });
            }
            Found::Original(place) => backup.problems.push(format!(
                "the files of its tablespace {oid} were not copied: it only has a link to where the server had them ({}), and what lies there now is not the backup's. Copy them too, while the backup is taken: in the place of the link (cp -rL, rsync -L), or to {}",
                place.display(),
                beside(directory, oid).display()
            )),
        }
    }
}

fn find(directory: &Path, oid: u32, known: Option<&Path>, original: Option<&Path>, has_manifest: bool) -> Found {
    let name = Path::new("pg_tblspc").join(oid.to_string());
    let entry = directory.join(&name);
    let Ok(metadata) = fs::symlink_metadata(&entry) else {
        return copied_beside(directory, oid, known.unwrap_or(&entry));
    };
    if !metadata.is_symlink() {
        let in_place = has_manifest || known.is_some_and(Path::is_relative);
        return if in_place { Found::InPlace } else { Found::Copy(entry) };
    }
    // One that is relative begins at the link.
    let target = fs::read_link(&entry).map(|target| directory.join("pg_tblspc").join(target)).unwrap_or_default();
    let of_original = || fs::read_link(original?.join(&name)).ok();
    let is_original =
        [known.map(Path::to_owned), of_original()].into_iter().flatten().any(|place| same(&place, &target));
    // The manifest has the checksums of what was copied.
    if is_original && !has_manifest { copied_beside(directory, oid, &target) } else { Found::Copy(target) }
}

/// Where the copy of a tablespace is looked for, as its tar would be: beside the data directory, called by its OID.
fn beside(directory: &Path, oid: u32) -> PathBuf {
    directory.with_file_name(oid.to_string())
}

/// It is this backup's only where no other one lies there too.
fn copied_beside(directory: &Path, oid: u32, original: &Path) -> Found {
    let copy = beside(directory, oid);
    let names = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.file_name());
    let is_tablespace = names(&copy).any(|name| name.to_str().is_some_and(is_version_directory));
    let neighbours = fs::read_dir(directory.parent().unwrap_or(directory)).into_iter().flatten().flatten();
    let backups = neighbours.filter(|entry| entry.path().join("global").is_dir()).count();
    if is_tablespace && backups == 1 { Found::Copy(copy) } else { Found::Original(original.to_owned()) }
}

/// Whether two paths are one place.
fn same(one: &Path, other: &Path) -> bool {
    let written = |path: &Path| path.components().filter(|part| *part != Component::CurDir).collect::<PathBuf>();
    let resolved = one.canonicalize().ok().zip(other.canonicalize().ok()).is_some_and(|(one, other)| one == other);
    resolved || written(one) == written(other)
}

fn postmaster_pid(directory: &Path) -> Option<PostmasterPid> {
    let bytes = open_file(&directory.join("postmaster.pid"))
        .and_then(|mut file| super::base_backup::read_prefix(&mut file, SMALL_FILE));
    PostmasterPid::parse(&String::from_utf8_lossy(&bytes.ok()?)).ok()
}

/// The directory that a copy was made of, as its `postmaster.pid` says.
fn original_of(directory: &Path) -> Option<PathBuf> {
    let original = PathBuf::from(postmaster_pid(directory)?.data_directory?);
    (!same(&original, directory)).then_some(original)
}

/// Why a directory with a `backup_label` and a `postmaster.pid` is no copy, in words. A copy of a running server's
/// directory nearly always has that file: it names the original's directory, and no server works in the copy.
pub(super) fn in_use(directory: &Path) -> Option<String> {
    fs::symlink_metadata(directory.join("postmaster.pid")).ok()?;
    if let Some(pid) = server_in(directory) {
        return Some(format!("a server runs in it: process {pid}"));
    }
    let file = postmaster_pid(directory);
    match file.and_then(|file| file.data_directory) {
        None => Some("there is a postmaster.pid that does not say of which directory: a server has run in it, or still does".to_owned()),
        Some(named) if same(Path::new(&named), directory) => Some(
            "there is a postmaster.pid that names this directory: it is a server's own, and not a copy, or it was copied back to where it had been"
                .to_owned(),
        ),
        Some(_) => None,
    }
}

/// Whether a server runs in a directory that says so: process ids are used again. Where the system does not tell in which
/// directory its process works, it has to be called like a server, and the file has to name this directory.
pub(super) fn runs_in(directory: &Path) -> bool {
    if fs::symlink_metadata(directory.join("postmaster.pid")).is_err() {
        return false;
    }
    server_in(directory).is_some()
        || postmaster_pid(directory).is_some_and(|file| {
            let names_it = file.data_directory.is_some_and(|named| same(Path::new(&named), directory));
            let is_hidden = fs::read_link(format!("/proc/{}/cwd", file.pid)).is_err();
            names_it && is_hidden && is_of_a_server(file.pid)
        })
}

fn is_of_a_server(pid: u32) -> bool {
    let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    OF_A_SERVER.contains(&name.trim_end())
}

/// A server's process that works in a directory; by number, since one in a container has another view of where that is.
fn server_in(directory: &Path) -> Option<u32> {
    let here = fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()))?;
    let works_in = |pid: u32| fs::metadata(format!("/proc/{pid}/cwd")).is_ok_and(|at| (at.dev(), at.ino()) == here);
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let mut pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.find(|pid| is_of_a_server(*pid) && works_in(*pid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{BackupKind, Compression};
    use std::os::unix::fs::symlink;

    /// A copy of a data directory, with the original's tablespace beside it.
    struct Copied {
        place: tempfile::TempDir,
        data: PathBuf,
        origin: PathBuf,
    }

    impl Copied {
        fn make() -> Copied {
            let place = tempfile::tempdir().unwrap();
            let (data, origin) = (place.path().join("backups/data"), place.path().join("origin"));
            for directory in [data.join("pg_tblspc"), data.join("global"), origin.join("PG_15_1/5")] {
                fs::create_dir_all(directory).unwrap();
            }
            Copied { place, data, origin }
        }

        fn link(&self) -> &Copied {
            symlink(&self.origin, self.data.join("pg_tblspc/16385")).unwrap();
            self
        }

        /// Where the tablespaces are found, and what is wrong.
        fn found(&self, map: &[(u32, &Path)]) -> (Vec<PathBuf>, Vec<String>) {
            let mut backup = Backup::at(&self.data, BackupKind::Directory, Compression::None);
            let known = |(oid, place): &(u32, &Path)| Tablespace {
                oid: *oid,
                location: place.display().to_string(),
                size_bytes: None,
            };
            backup.tablespaces = map.iter().map(known).collect();
            take_tablespaces(&mut backup, &self.data);
            (backup.tablespaces.into_iter().map(|one| one.location.into()).collect(), backup.problems)
        }
    }

    #[test]
    fn the_originals_files_are_never_the_copys() {
        let copied = Copied::make();
        copied.link();
        let (found, problems) = copied.found(&[(16385, &copied.origin)]);
        assert!(
            found.is_empty() && problems[0].contains("16385") && problems[0].contains("were not copied"),
            "{problems:?}"
        );
        // The map is lost, and postmaster.pid still says of what it is a copy.
        let original = copied.place.path().join("server");
        fs::create_dir_all(original.join("pg_tblspc")).unwrap();
        symlink(&copied.origin, original.join("pg_tblspc/16385")).unwrap();
        fs::write(copied.data.join("postmaster.pid"), format!("1\n{}\n", original.display())).unwrap();
        assert!(copied.found(&[]).0.is_empty());
        // A copy beside it is taken, where it can be of no other backup.
        let copy = copied.data.with_file_name("16385");
        fs::create_dir_all(copy.join("PG_15_1")).unwrap();
        assert_eq!(copied.found(&[(16385, &copied.origin)]), (vec![copy], Vec::new()));
        fs::create_dir_all(copied.data.with_file_name("other").join("global")).unwrap();
        assert!(copied.found(&[(16385, &copied.origin)]).0.is_empty());
    }

    #[test]
    fn links_that_were_followed_or_changed_lead_to_copies() {
        let copied = Copied::make();
        let inside = copied.data.join("pg_tblspc/16385");
        fs::create_dir(&inside).unwrap();
        assert_eq!(copied.found(&[(16385, &copied.origin)]), (vec![inside], Vec::new()));
        let elsewhere = Copied::make();
        assert_eq!(elsewhere.link().found(&[]), (vec![elsewhere.origin.clone()], Vec::new()));
        // One whose link was not copied at all is missed.
        let none = Copied::make();
        assert!(none.found(&[(16385, &none.origin)]).1[0].contains("16385"));
    }

    #[test]
    fn a_postmaster_pid_of_another_directory_was_copied() {
        let copied = Copied::make();
        assert_eq!(in_use(&copied.data), None);
        let names = |directory: &Path| {
            fs::write(copied.data.join("postmaster.pid"), format!("999999\n{}\n1\n", directory.display())).unwrap();
            in_use(&copied.data)
        };
        assert_eq!(names(&copied.place.path().join("server")), None);
        assert!(names(&copied.data).unwrap().contains("names this directory"));
        fs::write(copied.data.join("postmaster.pid"), "").unwrap();
        assert!(in_use(&copied.data).unwrap().contains("does not say"));
    }
}
