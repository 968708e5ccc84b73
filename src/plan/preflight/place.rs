//! Whether the place, the programs and the user are fit for the recovery.

use super::{DirectoryFacts, HostFacts, OwnProgram, Preflight, SPARE_BYTES, WAL_KEPT};
use crate::core::progress::Bytes;
use crate::plan::Finding;
use crate::plan::fetch::copied_program;

impl Preflight<'_> {
    pub(super) fn directory(&self, facts: &DirectoryFacts) -> Option<Finding> {
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
            DirectoryFacts::Foreign { owner, user } => Some(
                Finding::error(
                    "directory-foreign",
                    format!("{directory} belongs to {owner}, and a server that {user} runs refuses to work in it"),
                )
                .hint("give a directory that is not there yet with --into, or one of that user's own"),
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

    pub(super) fn space(&self, free: Option<u64>) -> Option<Finding> {
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

    pub(super) fn port(&self, host: &HostFacts) -> Option<Finding> {
        let by = host.port_taken_by.as_ref()?;
        Some(
            Finding::error("port-taken", format!("port {} is taken: {by}", self.port))
                .hint("give a free one with --port, or leave it out to have one chosen"),
        )
    }

    pub(super) fn programs(&self, host: &HostFacts) -> Option<Finding> {
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

    pub(super) fn account(&self, host: &HostFacts) -> Vec<Finding> {
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

    /// What is done where the server cannot run Walback as it is.
    pub(super) fn own_program(&self, host: &HostFacts) -> Option<Finding> {
        let user = host.run_as.as_deref().unwrap_or("the server's user");
        match host.own_program.as_ref()? {
            OwnProgram::Runs(_) => None,
            OwnProgram::Closed { program, why } => {
                let copy = copied_program(self.directory);
                let message = format!(
                    "the server gets WAL by Walback, and {user} cannot run {} ({why}): a copy of it goes to {}",
                    program.display(),
                    copy.display()
                );
                Some(Finding::note("program-copied", message))
            }
            OwnProgram::Unusable(why) => {
                let message = format!("the server cannot get WAL by Walback ({why}), and uses the system's programs");
                Some(Finding::note("fetch-unusable", message).hint("replay will take longer than it has to"))
            }
        }
    }
}

/// What unpacks compressed segments besides Walback itself.
pub(super) fn decompressors(host: &HostFacts) -> Option<Finding> {
    if host.missing_programs.is_empty() {
        return None;
    }
    let programs = host.missing_programs.join(", ");
    let message = format!("the WAL archive is compressed, and what unpacks it is not on this machine: {programs}");
    let hint = format!("install it (Debian, Ubuntu: apt-get install {})", host.missing_programs.join(" "));
    Some(match host.own_program {
        Some(OwnProgram::Runs(_) | OwnProgram::Closed { .. }) => {
            let message = format!("{message}; Walback unpacks it itself, the runbook cannot");
            Finding::note("decompressor-missing", message).hint(format!("for the runbook, {hint}"))
        }
        _ => Finding::error("decompressor-missing", message).hint(hint),
    })
}
