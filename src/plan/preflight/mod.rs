//! What can be known to go wrong before anything is done. Pure: the facts are gathered elsewhere.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::catalog::{Backup, BackupKind, Gap, Tablespace};
use crate::core::time::Timestamp;
use crate::core::{PgMajor, SegmentName, Target, TargetKind, Zone};
use crate::resolve::Resolved;

use super::make_way::Occupant;
use super::pristine::{Pristine, PristineFacts};
use super::{CombineFacts, Finding, PlacedTablespace};

pub mod backup;
mod place;
mod wal;

pub use backup::BackupFacts;
pub use place::space_again;
pub use wal::{ADD_UNARCHIVED, add_wal, obstacles, wal_missing};

/// Room for a recovery besides the data and its WAL: the server's log, temporary files, a little air.
const SPARE_BYTES: u64 = 64 << 20;
/// The server removes replayed WAL at restartpoints; until then it may pile up to about this much
/// (`max_wal_size`'s default is 1 GB, and a restartpoint takes time).
pub(super) const WAL_KEPT: u64 = 2 << 30;

/// What this machine is like, as far as it matters to a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostFacts {
    /// What is where the new data directory shall be.
    pub directory: DirectoryFacts,
    /// Where that looks like a data directory: whether it can make way.
    pub occupant: Option<Occupant>,
    /// What is where a copy of the data would be kept.
    pub pristine: PristineFacts,
    /// Bytes free there for the user that will own it; `None` where that could not be asked.
    pub free_bytes: Option<u64>,
    /// What is where the directories for tablespaces shall be.
    pub tablespace_places: Vec<PlaceFacts>,
    /// Who owns the port already, in words; `None` where it is free.
    pub port_taken_by: Option<String>,
    /// Where the server's programs of the right version are.
    pub bin_dir: Option<PathBuf>,
    /// Where they were looked for.
    pub searched: Vec<PathBuf>,
    /// What combines the backup with those that it builds upon, where it is an incremental one.
    pub combine: Option<CombineFacts>,
    /// What the programs in a directory that was set say that they are.
    pub wrong_version: Option<(PathBuf, String)>,
    /// The user that will own the directory and run the server; the error where there is none.
    pub run_as: Result<String, String>,
    /// The archives that this user cannot read, with why.
    pub unreadable_archives: Vec<(PathBuf, String)>,
    /// The programs of fetch commands that its user does not find.
    pub unrunnable_commands: Vec<String>,
    /// Whether the server can run Walback itself to get WAL; `None` where it does not have to.
    pub own_program: Option<OwnProgram>,
    /// Programs that unpack the archives' segments, and are not on this machine.
    pub missing_programs: Vec<String>,
    /// Locales that the backup needs, and that are not on this machine.
    pub missing_locales: BTreeSet<String>,
    /// The version of the C library, where it is glibc, like `2.36`.
    pub glibc: Option<String>,
    /// Libraries that the operator wants to have loaded, and that are not where the server's are.
    pub missing_libraries: Vec<String>,
    /// The operator's settings that the server would not start with, each with what it says.
    pub refused_settings: Vec<(String, String)>,
    /// Data directories whose `pg_wal` is used as an archive, and in which a server runs.
    pub running_sources: Vec<PathBuf>,
    /// A `pg_wal` of this cluster on this machine that has more than the archives.
    pub unarchived: Option<UnarchivedWal>,
    /// The backup's tablespaces of which something lies on this machine where they were.
    pub occupied: Vec<Tablespace>,
}

/// Whether the user that runs the server can run Walback.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OwnProgram {
    /// As it is.
    Runs(PathBuf),
    /// Not where it lies. A copy in the data directory can be.
    Closed {
        /// The program.
        program: PathBuf,
        /// Why it cannot be run there.
        why: String,
    },
    /// Nor a copy of it; in words, why.
    Unusable(String),
}

/// WAL that is in no archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnarchivedWal {
    /// The `pg_wal` that has it.
    pub directory: PathBuf,
    /// The newest segment in it.
    pub newest: SegmentName,
}

/// What is where a directory for tablespaces shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlaceFacts {
    /// The directory.
    pub root: PathBuf,
    /// What is there.
    pub directory: DirectoryFacts,
    /// Bytes free there; `None` where that could not be asked.
    pub free_bytes: Option<u64>,
    /// Which file system it is on; that of the data directory is 0.
    pub file_system: u64,
}

/// What is where the new data directory shall be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DirectoryFacts {
    /// Nothing; its parent exists and can be written to.
    Absent,
    /// An empty directory that can be written to.
    Empty,
    /// A directory with something in it.
    NotEmpty {
        /// Some of what is in it.
        sample: Vec<String>,
        /// Whether it looks like a data directory.
        data_directory: bool,
    },
    /// Something that is not a directory.
    NotADirectory,
    /// Nothing, and its parent is missing too.
    NoParent(PathBuf),
    /// It cannot be made or written to.
    NotWritable {
        /// Which directory would have to be writable.
        path: PathBuf,
        /// Why it is not.
        why: String,
    },
    /// A directory of another user, whom the server would have to be: it refuses to run in it.
    Foreign {
        /// Whose it is, in words.
        owner: String,
        /// The user that shall run the server.
        user: String,
    },
    /// The user that runs the server cannot come there.
    Unreachable {
        /// The first directory on the way that the user may not enter.
        path: PathBuf,
        /// The user.
        user: String,
    },
    /// It lies inside a data directory, whose backups would take it along.
    InsideDataDirectory(PathBuf),
    /// It lies inside a source, which is never written to.
    InsideSource(PathBuf),
}

/// What preflight looks at.
pub struct Preflight<'a> {
    /// The base backup.
    pub backup: &'a Backup,
    /// It with all that it builds upon, the full one first; empty for a full one.
    pub chain: &'a [&'a Backup],
    /// Its version.
    pub major: PgMajor,
    /// The new data directory.
    pub directory: &'a Path,
    /// Where the backup's tablespaces go.
    pub tablespaces: &'a [PlacedTablespace],
    /// The port.
    pub port: u16,
    /// The target.
    pub target: &'a Target,
    /// Segments that are missing up to the target.
    pub missing: &'a [Gap],
    /// Where the target leads.
    pub resolved: &'a Resolved,
    /// What the backup's own files say.
    pub facts: &'a BackupFacts,
    /// The operator's own settings.
    pub settings: &'a [(String, String)],
    /// Bytes of WAL to replay.
    pub wal_bytes: u64,
    /// How a copy of the unpacked data is kept.
    pub pristine: Option<Pristine>,
    /// Whether a data directory that is there shall make way.
    pub make_way: bool,
    /// For saying times.
    pub zone: Zone,
    /// Now.
    pub now: Timestamp,
}

impl Preflight<'_> {
    /// Everything that is wrong, the worst first.
    #[must_use]
    pub fn findings(&self, host: &HostFacts) -> Vec<Finding> {
        let mut findings = Vec::new();
        findings.extend(self.directory(host));
        findings.extend(self.space(host));
        findings.extend(self.tablespace_places(host));
        findings.extend(self.pristine(&host.pristine));
        findings.extend(self.port(host));
        findings.extend(self.programs(host));
        findings.extend(self.combining(host));
        findings.extend(self.account(host));
        findings.extend(place::decompressors(host));
        findings.extend(self.own_program(host));
        findings.extend(wal_missing(self.missing, self.resolved));
        findings.extend(obstacles(self.resolved, self.major, self.settings));
        findings.extend(wal::living(host, self.resolved));
        findings.extend(self.tablespaces(&host.occupied));
        findings.extend(self.unverified_tablespaces());
        findings.extend(backup::findings(self.facts, host, self.major, self.settings));
        findings.extend(self.time());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    /// What is good to know of the tablespaces: where they were, and where they go.
    fn tablespaces(&self, occupied: &[Tablespace]) -> Option<Finding> {
        let describe = |placed: &PlacedTablespace| {
            let there = occupied.iter().any(|tablespace| tablespace.oid == placed.oid);
            let there = if there { ", where something lies on this machine" } else { "" };
            let from = if placed.from.is_empty() { "a place that is not known" } else { &placed.from };
            format!("OID {}, which was at {from}{there}, goes to {}", placed.oid, placed.to.display())
        };
        let named: Vec<String> = self.tablespaces.iter().map(describe).collect();
        let message = format!("the backup has tablespaces: {}", named.join("; "));
        let hint = "nothing: where they were, nothing is read or written; other places are chosen with --tablespace OLDDIR=NEWDIR";
        (!named.is_empty()).then(|| Finding::note("tablespaces", message).hint(hint))
    }

    /// Links in a directory may lead to the copy of a tablespace, or to the living one of a server.
    fn unverified_tablespaces(&self) -> Option<Finding> {
        let by_links = self.backup.kind == BackupKind::Directory && !self.backup.manifest;
        let named: Vec<&str> = self.tablespaces.iter().map(|tablespace| tablespace.from.as_str()).collect();
        let message = format!(
            "the backup's links lead to its tablespaces in {}, and without a manifest nobody can tell whether these are copies or what a server works with",
            named.join(", ")
        );
        let hint = "make sure that they were copied together with the backup; if a server writes there, the recovery would be wrong without a word";
        (by_links && !named.is_empty()).then(|| Finding::warning("tablespaces-unverified", message).hint(hint))
    }

    fn time(&self) -> Option<Finding> {
        let TargetKind::Time(time) = self.target.kind else { return None };
        (time > self.now).then(|| {
            Finding::warning(
                "time-in-the-future",
                format!("the target lies in the future: {}", time.in_zone(self.zone)),
            )
            .hint("check the date and the zone")
        })
    }
}
