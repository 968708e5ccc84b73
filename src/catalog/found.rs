//! What a search of directories met, told apart by cluster: which sources that makes, and why.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};

use crate::core::progress::{Bytes, counted};
use crate::core::{PgMajor, TimelineId, Timestamp};

use super::{Backup, BackupKind, Catalog, Compression, LeftAlone};

mod cover;
mod naming;
mod order;

/// What a search met, before anything is concluded from it.
#[derive(Debug, Default)]
pub struct Met {
    /// The directories below which it searched, absolute.
    pub paths: Vec<PathBuf>,
    /// How many directories it looked into.
    pub directories: u64,
    /// Base backups.
    pub backups: Vec<MetBackup>,
    /// Directories with WAL.
    pub archives: Vec<MetArchive>,
    /// Data directories of servers.
    pub data_directories: Vec<DataDirectory>,
    /// What other programs keep backups in.
    pub foreign: Vec<Foreign>,
    /// What was not looked into, or taken for nothing.
    pub left_alone: Vec<LeftAlone>,
    /// Why the search did not come to its end, where it did not.
    pub cut_short: Option<String>,
    /// How deep below a configured directory base backups are looked for later.
    pub depth: usize,
}

/// A base backup as a search met it.
#[derive(Debug)]
pub struct MetBackup {
    /// What it says of itself.
    pub backup: Backup,
    /// What told of which cluster it is, where that was not itself: a few words.
    pub identified_by: Option<String>,
}

/// A directory with WAL as a search met it.
#[derive(Debug)]
pub struct MetArchive {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub kind: ArchiveKind,
    /// What it has.
    pub catalog: Catalog,
    /// The major version that wrote its segments.
    pub pg_version: Option<PgMajor>,
}

/// What a directory with WAL is, in the order in which such directories are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// An archive.
    Archive,
    /// The `pg_wal` of a server that does not run here, or one without its data directory.
    PgWal,
    /// The `pg_wal` of a server that runs.
    PgWalOfRunning,
}

/// A data directory of a server: not a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DataDirectory {
    /// Where it is.
    pub path: PathBuf,
    /// Its major version.
    pub pg_version: Option<PgMajor>,
    /// Which cluster it is of.
    #[serde(serialize_with = "as_text")]
    pub system_identifier: Option<u64>,
    /// Whether a server runs in it on this machine.
    pub running: bool,
    /// Whether Walback made it, for a recovery: its WAL is that of an archive, or of a timeline of its own.
    pub made_by_walback: bool,
    /// What it is, and what was made of it, in words.
    pub note: String,
}

/// Something that another program keeps its backups in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Foreign {
    /// Where it is.
    pub path: PathBuf,
    /// The program, a stable word: `pgbackrest`, `barman`, `wal-g`, `pg_probackup`.
    pub program: &'static str,
    /// What it is, in words.
    pub what: String,
    /// What can be done with it all the same.
    pub hint: String,
}

/// What was found, told apart by cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// The directories below which it was searched, absolute.
    pub paths: Vec<PathBuf>,
    /// How many directories were looked into.
    pub directories: u64,
    /// One for each cluster, by name.
    pub sources: Vec<FoundSource>,
    /// Base backups of which nothing tells the cluster.
    pub unplaced_backups: Vec<FoundBackup>,
    /// Directories with WAL of which nothing tells the cluster.
    pub unplaced_wal: Vec<FoundArchive>,
    /// Data directories of servers.
    pub data_directories: Vec<DataDirectory>,
    /// What other programs keep backups in.
    pub foreign: Vec<Foreign>,
    /// What was not looked into, or taken for nothing, sorted.
    pub left_alone: Vec<LeftAlone>,
    /// Why the search did not come to its end, where it did not.
    pub cut_short: Option<String>,
}

/// Backups and archives of one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundSource {
    /// A name for it, made of the names of its directories, unique among those that were found.
    pub name: String,
    /// Which cluster it is; `None` where nothing told.
    #[serde(serialize_with = "as_text")]
    pub system_identifier: Option<u64>,
    /// The major versions of its backups, or of its WAL where there are none.
    pub pg_versions: BTreeSet<PgMajor>,
    /// The directories to be configured for its backups: each has backups of this cluster only, now.
    pub backup_directories: Vec<PathBuf>,
    /// Its base backups, the oldest first.
    pub backups: Vec<FoundBackup>,
    /// Its directories with WAL, in the order in which they are to be asked.
    pub wal: Vec<FoundArchive>,
}

/// A base backup that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundBackup {
    /// Where it is.
    pub path: PathBuf,
    /// How it is kept.
    pub kind: BackupKind,
    /// How it is compressed.
    pub compression: Compression,
    /// Its major version.
    pub pg_version: Option<PgMajor>,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// Bytes it takes where it is.
    pub size_bytes: u64,
    /// What told of which cluster it is, in words.
    pub why: String,
    /// What is broken about it, in words.
    pub problems: Vec<String>,
}

/// A directory with WAL that was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FoundArchive {
    /// Where it is.
    pub path: PathBuf,
    /// What it is.
    pub kind: ArchiveKind,
    /// How many whole segments it has.
    pub segments: u64,
    /// The timelines that it has segments of.
    pub timelines: Vec<TimelineId>,
    /// How its files are compressed, as far as they are.
    pub compressions: BTreeSet<Compression>,
    /// Why it has this place in the order, in words.
    pub why: String,
    /// What could not be read, or does not belong there, in words.
    pub problems: Vec<String>,
}

impl FoundBackup {
    fn of(met: MetBackup, why: &str) -> FoundBackup {
        let MetBackup { backup, identified_by } = met;
        FoundBackup {
            path: backup.location,
            kind: backup.kind,
            compression: backup.compression,
            pg_version: backup.pg_version,
            started_at: backup.started_at,
            size_bytes: backup.size_bytes,
            why: identified_by.unwrap_or_else(|| why.to_owned()),
            problems: backup.problems,
        }
    }
}

impl FoundArchive {
    fn of(met: MetArchive, why: String) -> FoundArchive {
        let timelines: BTreeSet<TimelineId> = met.catalog.segments.iter().map(|name| name.timeline).collect();
        let mut problems = met.catalog.problems;
        if !met.catalog.cut_off.is_empty() {
            let files = counted(met.catalog.cut_off.len() as u64, "file");
            problems.push(format!(
                "{files} with a segment's name and another size than {}",
                Bytes(met.catalog.segment_size.bytes())
            ));
        }
        FoundArchive {
            path: met.path,
            kind: met.kind,
            segments: met.catalog.segments.len() as u64,
            timelines: timelines.into_iter().collect(),
            compressions: met.catalog.compressions,
            why,
            problems,
        }
    }
}

/// What belongs to one cluster, before it has a name.
#[derive(Default)]
struct Cluster {
    backups: Vec<MetBackup>,
    archives: Vec<MetArchive>,
}

impl Found {
    /// Concludes from what a search met which sources there are.
    #[must_use]
    pub fn of(met: Met) -> Found {
        let Met {
            paths,
            directories,
            backups,
            archives,
            mut data_directories,
            foreign,
            mut left_alone,
            cut_short,
            depth,
        } = met;
        let (mut clusters, unplaced_backups, unplaced_wal) = told_apart(backups, archives);
        // The pg_wal of a server alone is nothing that could be recovered.
        clusters.retain(|_, cluster| {
            !cluster.backups.is_empty() || cluster.archives.iter().any(|archive| archive.kind == ArchiveKind::Archive)
        });
        say_what_is_used(&mut data_directories, &clusters);
        let strangers: Vec<PathBuf> = unplaced_backups
            .iter()
            .filter(|met| met.backup.is_usable())
            .map(|met| met.backup.location.clone())
            .chain(data_directories.iter().map(|directory| directory.path.clone()))
            .chain(foreign.iter().map(|foreign| foreign.path.clone()))
            .collect();
        let owned: Vec<(Option<u64>, PathBuf)> = clusters
            .iter()
            .flat_map(|(id, cluster)| cluster.backups.iter().map(|met| (*id, met.backup.location.clone())))
            .collect();
        let mut sources = Vec::new();
        for (id, cluster) in clusters {
            let others: Vec<&Path> = owned
                .iter()
                .filter(|(owner, _)| *owner != id)
                .map(|(_, location)| location.as_path())
                .chain(strangers.iter().map(PathBuf::as_path))
                .collect();
            sources.push(source_of(id, cluster, &others, &paths, depth, &mut left_alone));
        }
        naming::name_all(&mut sources);
        sources.sort_by(|a, b| a.name.cmp(&b.name));
        left_alone.sort();
        left_alone.dedup();
        data_directories.sort_by(|a, b| a.path.cmp(&b.path));
        let nothing_tells = "nothing in it says of which cluster it is";
        Found {
            paths,
            directories,
            sources,
            unplaced_backups: unplaced_backups.into_iter().map(|met| FoundBackup::of(met, nothing_tells)).collect(),
            unplaced_wal: unplaced_wal.into_iter().map(|met| FoundArchive::of(met, nothing_tells.to_owned())).collect(),
            data_directories,
            foreign,
            left_alone,
            cut_short,
        }
    }
}

/// By system identifier, and what has none. What has none belongs to the only cluster that there is, where there is only
/// one; and where there is none, the backups without one are taken for one.
fn told_apart(
    backups: Vec<MetBackup>,
    archives: Vec<MetArchive>,
) -> (BTreeMap<Option<u64>, Cluster>, Vec<MetBackup>, Vec<MetArchive>) {
    let mut clusters: BTreeMap<Option<u64>, Cluster> = BTreeMap::new();
    let (mut unplaced_backups, mut unplaced_wal) = (Vec::new(), Vec::new());
    for archive in archives {
        match archive.catalog.system_identifier {
            Some(id) => clusters.entry(Some(id)).or_default().archives.push(archive),
            None => unplaced_wal.push(archive),
        }
    }
    for met in backups {
        match met.backup.system_identifier {
            Some(id) => clusters.entry(Some(id)).or_default().backups.push(met),
            None => unplaced_backups.push(met),
        }
    }
    let only = match clusters.len() {
        0 if unplaced_backups.iter().any(|met| met.backup.is_usable()) => Some(None),
        1 => clusters.keys().next().copied(),
        _ => None,
    };
    if let Some(only) = only {
        let why = match only {
            Some(_) => "nothing in it says of which cluster it is; there is one only here",
            None => "nothing in it says of which cluster it is",
        };
        let cluster = clusters.entry(only).or_default();
        for mut met in std::mem::take(&mut unplaced_backups) {
            met.identified_by.get_or_insert_with(|| why.to_owned());
            cluster.backups.push(met);
        }
    }
    (clusters, unplaced_backups, unplaced_wal)
}

/// Says of each data directory whether its `pg_wal` became a part of a source.
fn say_what_is_used(directories: &mut [DataDirectory], clusters: &BTreeMap<Option<u64>, Cluster>) {
    for directory in directories {
        let pg_wal = directory.path.join("pg_wal");
        let cluster = directory.system_identifier.and_then(|id| clusters.get(&Some(id)));
        let used = clusters.values().flat_map(|cluster| &cluster.archives).any(|archive| archive.path == pg_wal);
        directory.note.push_str(match (directory.made_by_walback, used, cluster) {
            (true, ..) => ": no base backup",
            (_, true, _) => ": no base backup, but WAL that was not archived may be in its pg_wal",
            (_, false, Some(_)) => ": no base backup, and its pg_wal is not used",
            (_, false, None) => ": no base backup, and none of its cluster was found",
        });
    }
}

fn source_of(
    id: Option<u64>,
    cluster: Cluster,
    others: &[&Path],
    roots: &[PathBuf],
    depth: usize,
    left_alone: &mut Vec<LeftAlone>,
) -> FoundSource {
    let Cluster { mut backups, archives } = cluster;
    // Several may have begun in the same second.
    backups.sort_by(|a, b| {
        let key = |met: &MetBackup| (met.backup.started_at, met.backup.start_lsn);
        key(a).cmp(&key(b)).then_with(|| a.backup.location.cmp(&b.backup.location))
    });
    let versions = |majors: &mut dyn Iterator<Item = Option<PgMajor>>| majors.flatten().collect::<BTreeSet<_>>();
    let mut pg_versions = versions(&mut backups.iter().map(|met| met.backup.pg_version));
    if pg_versions.is_empty() {
        pg_versions = versions(&mut archives.iter().map(|met| met.pg_version));
    }
    let locations: Vec<&Path> = backups.iter().map(|met| met.backup.location.as_path()).collect();
    let backup_directories = cover::directories(&locations, others, roots, depth);
    let start = backups.iter().filter_map(|met| met.backup.start_lsn).min();
    let wal = order::in_order(archives, start, left_alone);
    let own = "its own files name the cluster";
    FoundSource {
        name: String::new(),
        system_identifier: id,
        pg_versions,
        backup_directories,
        backups: backups.into_iter().map(|met| FoundBackup::of(met, own)).collect(),
        wal,
    }
}

impl FoundSource {
    /// `PostgreSQL 15, 3 base backups of 120 MB, 45 segments`
    #[must_use]
    pub fn in_words(&self) -> String {
        let bytes = self.backups.iter().fold(0u64, |sum, backup| sum.saturating_add(backup.size_bytes));
        let backups = match self.backups.len() as u64 {
            0 => "no base backup".to_owned(),
            number => format!("{} of {}", counted(number, "base backup"), Bytes(bytes)),
        };
        let wal = match self.wal.iter().map(|archive| archive.segments).max() {
            Some(segments) => counted(segments, "segment"),
            None => "no WAL archive".to_owned(),
        };
        format!("{}, {backups}, {wal}", self.version_in_words())
    }

    /// `PostgreSQL 15`
    #[must_use]
    pub fn version_in_words(&self) -> String {
        let majors: Vec<String> = self.pg_versions.iter().map(ToString::to_string).collect();
        if majors.is_empty() { "PostgreSQL".to_owned() } else { format!("PostgreSQL {}", majors.join(", ")) }
    }
}

impl FoundBackup {
    /// `tar, gzip`, `directory`
    #[must_use]
    pub fn kind_in_words(&self) -> String {
        match (self.kind, self.compression) {
            (BackupKind::Directory, _) => "directory".to_owned(),
            (BackupKind::Tar, Compression::None) => "tar".to_owned(),
            (BackupKind::Tar, compression) => format!("tar, {}", compression.name()),
        }
    }
}

impl FoundArchive {
    /// `12 segments of timelines 1, 2, gzip`
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut words = counted(self.segments, "segment");
        let timelines: Vec<String> = self.timelines.iter().map(ToString::to_string).collect();
        if !timelines.is_empty() {
            let word = if timelines.len() == 1 { "timeline" } else { "timelines" };
            words = format!("{words} of {word} {}", timelines.join(", "));
        }
        for compression in &self.compressions {
            words = format!("{words}, {}", compression.name());
        }
        words
    }
}

#[allow(clippy::ref_option, reason = "serde hands references to the field")]
fn as_text<S: Serializer>(id: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests;
