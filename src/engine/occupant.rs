//! Looks at a data directory that is not Walback's, or not this recovery's: what it is, and whether it may be renamed.
//! Changes nothing.

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::data_directory::control_file;
use super::host::now;
use super::mark::{self, named_by};
use super::remains::{OF_A_SERVER, at_work_on, processes};
use super::server::{is_alive, postmaster_pid};
use crate::pgdata::control_file::ClusterState;
use crate::plan::make_way::{Identity, Occupant, Stopped, former_name};

/// Whether the data directory that lies where a recovery shall go can be renamed, and what it would be called; as
/// [`stays`].
#[must_use]
pub fn look(directory: &Path, sources: &[PathBuf], needed: &[PathBuf]) -> Occupant {
    let identity = match mark::identity(directory) {
        Ok(identity) => identity,
        Err(error) => return Occupant::Stays(error.report().message.clone()),
    };
    if let Some(why) = stays(directory, sources, needed) {
        return Occupant::Stays(why);
    }
    Occupant::Stopped(Stopped {
        identity,
        to: former_name(directory, now(), &|path| path.symlink_metadata().is_ok()),
        recovery: named_by(directory),
        elsewhere: links_of(directory),
        unclean: unclean(directory),
    })
}

/// Why a data directory must not be renamed, in words: neither a source may lie in it nor what is `needed` else, Walback's
/// own journals and PostgreSQL's programs.
#[must_use]
pub fn stays(directory: &Path, sources: &[PathBuf], needed: &[PathBuf]) -> Option<String> {
    if fs::symlink_metadata(directory).is_ok_and(|metadata| !metadata.is_dir()) {
        return Some("it is a link or a file, not a directory".to_owned());
    }
    let is_file = |name: &str| fs::symlink_metadata(directory.join(name)).is_ok_and(|metadata| metadata.is_file());
    if !(is_file("PG_VERSION") && is_file("global/pg_control")) {
        return Some("it has no PG_VERSION and global/pg_control, and so is no whole data directory".to_owned());
    }
    if let Some(mounted) = mounted_in(directory) {
        return Some(match mounted == directory {
            true => "a file system is mounted there, and a mount point cannot be renamed".to_owned(),
            false => format!("a file system is mounted inside of it: {}", mounted.display()),
        });
    }
    if let Some(source) = sources.iter().find(|source| is_in(source, directory)) {
        return Some(format!("a source lies inside of it, which would not be found any more: {}", source.display()));
    }
    if let Some(needed) = needed.iter().find(|needed| is_in(needed, directory)) {
        return Some(format!("this recovery needs what lies inside of it: {}", needed.display()));
    }
    if let Some(inner) = links_of(directory).iter().find(|target| is_in(target, directory)) {
        return Some(format!("a link in it leads back into it, and would lead into the new one: {}", inner.display()));
    }
    let server = server_in(directory)?;
    Some(format!("a server runs in it: process {server}. Stop it first"))
}

/// A process of a server that works in this directory: by `postmaster.pid`, by where processes work, and by what they were
/// called with. What cannot be told counts as one.
#[must_use]
pub fn server_in(directory: &Path) -> Option<u32> {
    let here = fs::metadata(directory).ok().map(|metadata| (metadata.dev(), metadata.ino()));
    // By number and not by path: a server in a container has another view of where it works.
    let works_in = |pid: u32| fs::metadata(format!("/proc/{pid}/cwd")).map(|at| Some((at.dev(), at.ino())) == here);
    let name = |pid: u32| fs::read_to_string(format!("/proc/{pid}/comm")).ok();
    let is_of_a_server = |pid: u32| name(pid).is_some_and(|name| OF_A_SERVER.contains(&name.trim_end()));
    let named = postmaster_pid(directory).map(|file| file.pid).filter(|pid| is_alive(*pid));
    // Where another user's process works is not for everybody to see.
    let may_be_it = |pid: u32| works_in(pid).unwrap_or_else(|_| name(pid).is_none() || is_of_a_server(pid));
    if let Some(pid) = named.filter(|pid| may_be_it(*pid)) {
        return Some(pid);
    }
    // The operator may be there, too.
    let ours = fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse().ok());
    let others = processes().filter(|pid| Some(*pid) != ours);
    let mut there = others.filter(|pid| is_of_a_server(*pid) && works_in(*pid).unwrap_or(false));
    there.next().or_else(|| at_work_on(directory, None).first().copied())
}

/// Where the links lead that a data directory has: those of tablespaces, and `pg_wal`.
#[must_use]
pub fn links_of(directory: &Path) -> Vec<PathBuf> {
    let tablespaces = fs::read_dir(directory.join("pg_tblspc")).into_iter().flatten().flatten();
    let links = tablespaces.map(|entry| entry.path()).chain([directory.join("pg_wal")]);
    let target = |link: PathBuf| {
        let to = fs::read_link(&link).ok()?;
        Some(link.parent().unwrap_or(directory).join(to))
    };
    let mut targets: Vec<PathBuf> = links.filter_map(target).collect();
    targets.sort();
    targets
}

/// Whether a path is a directory or lies inside of it, as it is written and with its links resolved; also one that is
/// still to be made.
fn is_in(path: &Path, directory: &Path) -> bool {
    let written = std::path::absolute(path).is_ok_and(|path| path.starts_with(directory));
    let there = || path.ancestors().find_map(|above| above.canonicalize().ok());
    let resolved = || Some(there()?.starts_with(directory.canonicalize().ok()?));
    written || resolved().unwrap_or(false)
}

/// The file system that is mounted at a directory or inside of it (`proc_pid_mountinfo(5)`: the fifth field).
fn mounted_in(directory: &Path) -> Option<PathBuf> {
    let resolved = directory.canonicalize().ok()?;
    let mounts = fs::read("/proc/self/mountinfo").ok()?;
    let points = mounts.split(|byte| *byte == b'\n').filter_map(|line| line.split(|byte| *byte == b' ').nth(4));
    let mut points = points.map(|point| PathBuf::from(std::ffi::OsString::from_vec(unescaped(point))));
    points
        .find(|point| point.starts_with(&resolved))
        .map(|point| if point == resolved { directory.into() } else { point })
}

/// Spaces and their like stand there in octal: `\040`.
fn unescaped(text: &[u8]) -> Vec<u8> {
    let (mut plain, mut rest) = (Vec::new(), text);
    while let Some((first, after)) = rest.split_first() {
        let digits = after.first_chunk::<3>().filter(|_| *first == b'\\');
        let value = digits.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        plain.push(value.unwrap_or(*first));
        rest = if value.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    plain
}

/// What `pg_control` says where the server did not shut down in order.
fn unclean(directory: &Path) -> Option<String> {
    let state = control_file(directory).ok()?.state;
    let in_order = matches!(state, ClusterState::ShutDown | ClusterState::ShutDownInRecovery);
    (!in_order || directory.join("postmaster.pid").exists()).then(|| state.to_string())
}

/// Whether this is the directory that was looked at.
#[must_use]
pub fn is_same(directory: &Path, identity: &Identity) -> bool {
    mark::identity(directory).is_ok_and(|now| identity.is_of(&now))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data_directory(parent: &Path) -> PathBuf {
        let directory = parent.join("data");
        fs::create_dir_all(directory.join("global")).unwrap();
        fs::create_dir(directory.join("pg_tblspc")).unwrap();
        fs::write(directory.join("PG_VERSION"), "15\n").unwrap();
        fs::write(directory.join("global/pg_control"), "").unwrap();
        directory
    }

    #[test]
    fn what_must_stay_stays() {
        let parent = tempfile::tempdir().unwrap();
        let directory = data_directory(parent.path());
        let why = |sources: &[PathBuf]| stays(&directory, sources, &[]).unwrap_or_default();
        assert_eq!(why(&[parent.path().to_path_buf(), parent.path().join("data-2")]), "");
        assert!(why(&[directory.join("pg_wal")]).contains("a source"), "also one that is not there");
        std::os::unix::fs::symlink(&directory, parent.path().join("link")).unwrap();
        assert!(why(&[parent.path().join("link/global")]).contains("a source"), "by another way");
        assert_eq!(stays(&directory, &[], &[parent.path().join("state")]), None);
        for needed in [directory.join("bin"), parent.path().join("link/state/recoveries")] {
            let why = stays(&directory, &[], std::slice::from_ref(&needed)).unwrap_or_default();
            assert!(why.contains("this recovery needs") && why.contains(&needed.display().to_string()), "{why}");
        }
        assert!(stays(&parent.path().join("link"), &[], &[]).unwrap().contains("a link"));

        let outside = parent.path().join("fast");
        std::os::unix::fs::symlink(&outside, directory.join("pg_tblspc/16385")).unwrap();
        assert_eq!((why(&[]), links_of(&directory)), (String::new(), vec![outside]));
        std::os::unix::fs::symlink(directory.join("inside"), directory.join("pg_tblspc/16386")).unwrap();
        assert!(why(&[]).contains("leads back"));
        fs::remove_file(directory.join("pg_tblspc/16386")).unwrap();

        // A process that is alive, and whose directory is another, is not its server; nor is one that is gone.
        fs::write(directory.join("postmaster.pid"), format!("{}\n", std::process::id())).unwrap();
        assert_eq!(why(&[]), "");
        fs::remove_file(directory.join("PG_VERSION")).unwrap();
        assert!(why(&[]).contains("no whole data directory"));
        assert!(stays(Path::new("/proc"), &[], &[]).is_some());
    }

    #[test]
    fn what_is_mounted_is_found_whatever_its_name() {
        assert_eq!(unescaped(br"/mnt/a\040b\134\x"), br"/mnt/a b\\x".to_vec());
        assert_eq!(mounted_in(Path::new("/proc")), Some(PathBuf::from("/proc")));
        assert_eq!(mounted_in(tempfile::tempdir().unwrap().path()), None);
    }
}
