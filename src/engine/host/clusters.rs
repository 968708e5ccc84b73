//! Looks for WAL on this machine that is in no archive. Only looks: what is there belongs to others.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::core::SegmentName;
use crate::plan::build::OWN_DIRECTORY;
use crate::plan::preflight::UnarchivedWal;
use crate::source::open_file;
use crate::wal::SegmentHeader;

/// Where distributions put data directories; `*` stands for any name.
const USUAL_PLACES: [&str; 3] = ["/var/lib/postgresql/*/*", "/var/lib/pgsql/*/data", "/var/lib/postgres/data"];
/// How many of the newest segments of a `pg_wal` are looked at: behind the last one that was written come those that
/// are ready to be written again.
const LOOKED_AT: usize = 1024;

/// The data directories whose `pg_wal` is one of these archives, and in which a server runs.
#[must_use]
pub fn running(archives: &[PathBuf]) -> Vec<PathBuf> {
    let is_wal = |archive: &&PathBuf| archive.file_name() == Some(OsStr::new("pg_wal"));
    let directories = archives.iter().filter(is_wal).filter_map(|archive| archive.parent());
    directories.filter(|directory| crate::engine::server::running(directory).is_some()).map(Path::to_path_buf).collect()
}

/// A `pg_wal` of the cluster that has a newer segment than `newest` on its timeline, and is none of the archives.
#[must_use]
pub fn unarchived(system_identifier: Option<u64>, newest: SegmentName, archives: &[PathBuf]) -> Option<UnarchivedWal> {
    let system_identifier = system_identifier?;
    let known: Vec<PathBuf> = archives.iter().filter_map(|archive| archive.canonicalize().ok()).collect();
    let places = data_directories().into_iter().filter(|place| !place.join(OWN_DIRECTORY).exists());
    let newer = places.filter_map(|place| {
        let directory = place.join("pg_wal").canonicalize().ok().filter(|directory| !known.contains(directory))?;
        let newest = newer_segment(&directory, system_identifier, newest)?;
        Some(UnarchivedWal { directory, newest })
    });
    newer.max_by_key(|wal| wal.newest)
}

/// `PGDATA`, the usual places, and where servers run.
fn data_directories() -> BTreeSet<PathBuf> {
    let mut found: BTreeSet<PathBuf> = std::env::var_os("PGDATA").map(PathBuf::from).into_iter().collect();
    found.extend(USUAL_PLACES.iter().flat_map(|pattern| matching(pattern)));
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten().map(|entry| entry.path());
    let servers =
        processes.filter(|process| fs::read_to_string(process.join("comm")).is_ok_and(|name| name == "postgres\n"));
    found.extend(servers.filter_map(|process| fs::read_link(process.join("cwd")).ok()));
    found.retain(|place| place.join("PG_VERSION").is_file());
    found
}

fn matching(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        found = match part {
            "*" => found.iter().flat_map(fs::read_dir).flatten().flatten().map(|entry| entry.path()).collect(),
            name => found.into_iter().map(|path| path.join(name)).collect(),
        };
    }
    found
}

/// The newest segment that was really written, where it is newer.
fn newer_segment(directory: &Path, system_identifier: u64, than: SegmentName) -> Option<SegmentName> {
    let names = fs::read_dir(directory).ok()?.flatten();
    let mut names: Vec<SegmentName> =
        names.filter_map(|entry| SegmentName::parse(entry.file_name().to_str()?)).collect();
    names.retain(|name| name.timeline == than.timeline && *name > than);
    names.sort();
    let written = |name: &SegmentName| {
        let mut first = [0; SegmentHeader::BYTES];
        // Anybody may have put something else there, which would have to be waited for.
        open_file(&directory.join(name.to_string())).and_then(|mut file| file.read_exact(&mut first)).ok()?;
        let header = SegmentHeader::parse(&first).ok()?;
        let is_its_own = header.pageaddr == name.start(header.segment_size);
        (is_its_own && header.system_identifier == system_identifier).then_some(*name)
    };
    names.iter().rev().take(LOOKED_AT).find_map(written)
}
