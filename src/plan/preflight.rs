//! What can be known to go wrong before anything is done. Pure: the facts are gathered elsewhere.

use std::path::{Path, PathBuf};

use crate::catalog::{Backup, Gap};
use crate::core::progress::{Bytes, counted};
use crate::core::time::Timestamp;
use crate::core::{PgMajor, Target, TargetKind, Zone};
use crate::resolve::{Resolved, StopSide};

use super::Finding;

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
    /// Bytes free there for the user that will own it; `None` where that could not be asked.
    pub free_bytes: Option<u64>,
    /// Who owns the port already, in words; `None` where it is free.
    pub port_taken_by: Option<String>,
    /// Where the server's programs of the right version are.
    pub bin_dir: Option<PathBuf>,
    /// Where they were looked for.
    pub searched: Vec<PathBuf>,
    /// What the programs in a directory that was set say that they are.
    pub wrong_version: Option<(PathBuf, String)>,
    /// The user that will own the directory and run the server; the error where there is none.
    pub run_as: Result<String, String>,
    /// The archives that this user cannot read, with why.
    pub unreadable_archives: Vec<(PathBuf, String)>,
    /// Programs that unpack the archives' segments, and are not on this machine.
    pub missing_programs: Vec<String>,
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
    /// Its version.
    pub major: PgMajor,
    /// The new data directory.
    pub directory: &'a Path,
    /// The port.
    pub port: u16,
    /// The target.
    pub target: &'a Target,
    /// Segments that are missing up to the target.
    pub missing: &'a [Gap],
    /// Where the target leads.
    pub resolved: &'a Resolved,
    /// Bytes of WAL to replay.
    pub wal_bytes: u64,
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
        findings.extend(self.directory(&host.directory));
        findings.extend(self.space(host.free_bytes));
        findings.extend(self.port(host));
        findings.extend(self.programs(host));
        findings.extend(self.account(host));
        findings.extend(decompressors(host));
        findings.extend(wal_missing(self.missing, self.resolved));
        findings.extend(self.tablespaces());
        findings.extend(self.time());
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        findings
    }

    fn directory(&self, facts: &DirectoryFacts) -> Option<Finding> {
        let directory = self.directory.display();
        match facts {
            DirectoryFacts::Absent | DirectoryFacts::Empty => None,
            DirectoryFacts::NotEmpty { sample, data_directory } => {
                let what = if *data_directory { "it holds a data directory" } else { "it holds" };
                let sample = sample.join(", ");
                Some(
                    Finding::error(
                        "directory-not-empty",
                        format!("the directory is not empty: {directory} ({what}: {sample})"),
                    )
                    .hint("give a new directory with --into; Walback never restores over anything"),
                )
            }
            DirectoryFacts::NotADirectory => Some(
                Finding::error("not-a-directory", format!("this is a link or a file, not a directory: {directory}"))
                    .hint("give a new directory with --into"),
            ),
            DirectoryFacts::NoParent(parent) => Some(
                Finding::error(
                    "no-parent-directory",
                    format!("the parent directory does not exist: {}", parent.display()),
                )
                .hint("make it first, on the file system that has the space"),
            ),
            DirectoryFacts::NotWritable { path, why } => Some(
                Finding::error("parent-not-writable", format!("cannot write here: {} ({why})", path.display()))
                    .hint("choose another place with --into, or run walback as a user who may write there"),
            ),
            DirectoryFacts::Unreachable { path, user } => Some(
                Finding::error(
                    "directory-unreachable",
                    format!("the user {user}, who will run the server, may not enter {}", path.display()),
                )
                .hint(format!("choose a place that {user} can reach with --into, or another user with --run-as")),
            ),
            DirectoryFacts::InsideDataDirectory(above) => Some(
                Finding::error(
                    "inside-data-directory",
                    format!("{directory} lies inside a data directory: {}", above.display()),
                )
                .hint("choose a place of its own with --into"),
            ),
            DirectoryFacts::InsideSource(source) => Some(
                Finding::error("inside-source", format!("{directory} lies inside a source: {}", source.display()))
                    .hint("choose a place outside of the backups and archives with --into"),
            ),
        }
    }

    /// Bytes that the recovery needs.
    fn needed(&self) -> u64 {
        let data = self.backup.unpacked_bytes.unwrap_or(self.backup.size_bytes);
        data + self.wal_bytes.min(WAL_KEPT) + SPARE_BYTES
    }

    fn space(&self, free: Option<u64>) -> Option<Finding> {
        let free = free?;
        let needed = self.needed();
        let least = if self.backup.unpacked_bytes.is_some() { "" } else { "at least " };
        if free >= needed {
            return None;
        }
        Some(
            Finding::error(
                "too-little-space",
                format!(
                    "too little space for {}: the recovery takes {least}{}, and {} are free",
                    self.directory.display(),
                    Bytes(needed),
                    Bytes(free)
                ),
            )
            .hint("make space there, or choose a larger file system with --into"),
        )
    }

    fn port(&self, host: &HostFacts) -> Option<Finding> {
        let by = host.port_taken_by.as_ref()?;
        Some(
            Finding::error("port-taken", format!("port {} is taken: {by}", self.port))
                .hint("give a free one with --port, or leave it out to have one chosen"),
        )
    }

    fn programs(&self, host: &HostFacts) -> Option<Finding> {
        let major = self.major;
        let install = format!(
            "install them (Debian, Ubuntu: apt-get install postgresql-{major}) or say where they are with --bin-dir"
        );
        if let Some((directory, version)) = &host.wrong_version {
            return Some(
                Finding::error(
                    "server-programs-wrong",
                    format!(
                        "the backup is of PostgreSQL {major}, the programs in {} are {version}",
                        directory.display()
                    ),
                )
                .hint(install),
            );
        }
        if host.bin_dir.is_some() {
            return None;
        }
        let places: Vec<String> = host.searched.iter().map(|path| path.display().to_string()).collect();
        Some(
            Finding::error(
                "server-programs-missing",
                format!("the programs of PostgreSQL {major} are not on this machine (looked in {})", places.join(", ")),
            )
            .hint(install),
        )
    }

    fn account(&self, host: &HostFacts) -> Vec<Finding> {
        let user = match &host.run_as {
            Ok(user) => user,
            Err(why) => {
                let finding = Finding::error("no-server-user", why.clone())
                    .hint("PostgreSQL never runs as root: name a user with --run-as");
                return vec![finding];
            }
        };
        let unreadable = host.unreadable_archives.iter().map(|(archive, why)| {
            Finding::error(
                "archive-unreadable",
                format!("the user {user}, who will run the server, cannot read {} ({why})", archive.display()),
            )
            .hint(format!("let {user} read the archive, or run the server as another user with --run-as"))
        });
        unreadable.collect()
    }

    fn tablespaces(&self) -> Option<Finding> {
        let oids: Vec<String> = self.backup.tablespaces.iter().map(|tablespace| tablespace.oid.to_string()).collect();
        if oids.is_empty() {
            return None;
        }
        Some(
            Finding::error("tablespaces", format!("the backup has tablespaces (OID {})", oids.join(", ")))
                .hint("this version of Walback does not place tablespaces yet; restore this backup by hand"),
        )
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

/// The server unpacks compressed segments with the system's programs.
fn decompressors(host: &HostFacts) -> Option<Finding> {
    let programs = host.missing_programs.join(", ");
    let message = format!("the WAL archive is compressed, and what unpacks it is not on this machine: {programs}");
    let hint = format!("install it (Debian, Ubuntu: apt-get install {})", host.missing_programs.join(" "));
    (!host.missing_programs.is_empty()).then(|| Finding::error("decompressor-missing", message).hint(hint))
}

/// Segments that are missing between the base backup and the target, or the end of the archive where that is the target.
#[must_use]
pub fn wal_missing(missing: &[Gap], resolved: &Resolved) -> Option<Finding> {
    let first = missing.first()?;
    let total: u64 = missing.iter().map(|gap| gap.segments).sum();
    let more = match missing.len() - 1 {
        0 => String::new(),
        more => format!(", and {}", counted(more as u64, "more gap")),
    };
    let are = if total == 1 { "is" } else { "are" };
    let segments = counted(total, "segment");
    let remedy = "add the archive that has them with another --wal, such as the pg_wal of the old server";
    let (end, hint) = match resolved.stop {
        StopSide::EndOfWal => (
            "the end of the archive",
            format!(
                "{remedy}; or stop at the last record before the gap with --lsn {} --timeline {}",
                resolved.lsn,
                resolved.path.last().copied().unwrap_or(resolved.timeline)
            ),
        ),
        _ => ("the target", remedy.to_owned()),
    };
    let message = format!("{segments} between the base backup and {end} {are} missing: {first}{more}");
    Some(Finding::error("wal-missing", message).hint(hint))
}
