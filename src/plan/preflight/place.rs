//! Whether the place, the programs and the user are fit for the recovery.

use std::collections::BTreeMap;
use std::path::Path;

use super::{DirectoryFacts, HostFacts, OwnProgram, PlaceFacts, Preflight, SPARE_BYTES, WAL_KEPT};
use crate::catalog::Backup;
use crate::catalog::compression::package_of;
use crate::core::progress::Bytes;
use crate::plan::chain::Amounts;
use crate::plan::fetch::copied_program;
use crate::plan::make_way::{self, Occupant};
use crate::plan::pristine::PristineFacts;
use crate::plan::{CombineFacts, Estimate, Finding};

impl Preflight<'_> {
    /// What is to be said of the new data directory, and of what is there.
    pub(super) fn directory(&self, host: &HostFacts) -> Vec<Finding> {
        let found = directory_finding(self.directory, &host.directory, "--into");
        let is_full = matches!(host.directory, DirectoryFacts::NotEmpty { .. });
        match &host.occupant {
            Some(Occupant::Stopped(stopped)) if self.make_way => {
                found.into_iter().chain(stopped.findings(self.directory)).collect()
            }
            Some(Occupant::Stays(why)) if self.make_way => vec![make_way::stays(self.directory, why)],
            None if self.make_way && is_full => {
                vec![make_way::stays(self.directory, "what is there is no data directory")]
            }
            Some(Occupant::Stopped(_)) => found.map(make_way::offered).into_iter().collect(),
            _ => found.into_iter().collect(),
        }
    }

    /// What is wrong with the directories for tablespaces.
    pub(super) fn tablespace_places(&self, host: &HostFacts) -> Vec<Finding> {
        let beside = |place: &PlaceFacts| place.root.parent() == self.directory.parent();
        host.tablespace_places
            .iter()
            // Where the data directory cannot be, what goes beside it cannot be either.
            .filter(|place| !(beside(place) && host.directory == place.directory))
            .filter_map(|place| directory_finding(&place.root, &place.directory, "--tablespace OLDDIR=NEWDIR"))
            .collect()
    }

    /// Bytes that tablespaces take that do not go where the data goes, by their file systems.
    fn elsewhere(&self, host: &HostFacts) -> BTreeMap<u64, (u64, &Path)> {
        let mut taken = BTreeMap::new();
        for placed in self.tablespaces {
            let place = host.tablespace_places.iter().find(|place| place.root == placed.root);
            let Some(place) = place.filter(|place| place.file_system != 0) else { continue };
            let of = |backup: &Backup| {
                let known = backup.tablespaces.iter().find(|known| known.oid == placed.oid);
                known.and_then(|known| known.size_bytes).unwrap_or_default()
            };
            let bytes = match self.chain {
                [] => of(self.backup),
                chain => chain.iter().fold(0_u64, |sum, backup| sum.saturating_add(of(backup))),
            };
            let (sum, _) = taken.entry(place.file_system).or_insert((0_u64, placed.to.as_path()));
            *sum = sum.saturating_add(bytes);
        }
        taken
    }

    pub(super) fn pristine(&self, facts: &PristineFacts) -> Option<Finding> {
        let pristine = self.pristine?;
        if !self.backup.tablespaces.is_empty() {
            let message = "a copy cannot be kept of a cluster with tablespaces: they lie outside of its directory";
            return Some(Finding::error("pristine-tablespaces", message).hint("leave --keep-pristine out"));
        }
        let data = self.amounts(None).data;
        pristine.finding(facts, &format!("{}.pristine", self.directory.display()), data)
    }

    /// Where there is too little space: one finding for each file system.
    pub(super) fn space(&self, host: &HostFacts) -> Vec<Finding> {
        let elsewhere = self.elsewhere(host);
        let beyond = elsewhere.values().fold(0_u64, |sum, (bytes, _)| sum.saturating_add(*bytes));
        let amounts = self.amounts(host.combine.as_ref());
        let data = amounts.data.saturating_sub(beyond);
        let kept = self.pristine.map_or(0, |pristine| pristine.takes(data, self.wal_bytes));
        // What was unpacked to be combined is gone when the copy is made and WAL comes.
        let later = kept.saturating_add(self.wal_bytes.min(WAL_KEPT)).max(amounts.staged);
        let needed = data.saturating_add(later).saturating_add(SPARE_BYTES);
        let here = host.free_bytes.map(|free| (self.directory, needed, free, "--into"));
        let there = elsewhere.into_iter().filter_map(|(file_system, (bytes, path))| {
            let place = host.tablespace_places.iter().find(|place| place.file_system == file_system)?;
            Some((path, bytes, place.free_bytes?, "--tablespace OLDDIR=NEWDIR"))
        });
        let is_known =
            self.backup.unpacked_bytes.is_some() && self.chain.iter().all(|one| one.unpacked_bytes.is_some());
        let least = if is_known { "" } else { "at least " };
        let lacking = here.into_iter().chain(there).filter(|(_, needed, free, _)| free < needed);
        let findings = lacking.map(|(path, needed, free, option)| {
            let message = format!(
                "too little space for {}: the recovery takes {least}{}, and {} are free",
                path.display(),
                Bytes(needed),
                Bytes(free)
            );
            let hint = format!("make space there, or choose a larger file system with {option}");
            Finding::error("too-little-space", message).hint(hint)
        });
        findings.collect()
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

    /// What the backup takes, with all that it builds upon.
    fn amounts(&self, facts: Option<&CombineFacts>) -> Amounts {
        let nothing = CombineFacts::default();
        Amounts::of(self.backup, self.chain, &facts.unwrap_or(&nothing).in_place)
    }

    /// What combines an incremental backup with those that it builds upon.
    pub(super) fn combining(&self, host: &HostFacts) -> Option<Finding> {
        // Where the server's programs are nowhere, it is with them.
        host.bin_dir.as_ref()?;
        host.combine.as_ref()?.finding(self.backup, self.major)
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
        let unrunnable = host.unrunnable_commands.iter().map(|program| {
            Finding::error(
                "command-not-runnable",
                format!("the user {user}, who will run the server, does not find {program}, with which WAL is fetched"),
            )
            .hint(format!("give its whole path in the command, let {user} run it, or name another user with --run-as"))
        });
        unreadable.chain(unrunnable).collect()
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

/// What is wrong with a directory that is to be made and filled, and that `option` chooses.
fn directory_finding(directory: &Path, facts: &DirectoryFacts, option: &str) -> Option<Finding> {
    let directory = directory.display();
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
                .hint(format!("give a new directory with {option}; Walback never restores over anything")),
            )
        }
        DirectoryFacts::NotADirectory => Some(
            Finding::error("not-a-directory", format!("this is a link or a file, not a directory: {directory}"))
                .hint(format!("give a new directory with {option}")),
        ),
        DirectoryFacts::NoParent(parent) => Some(
            Finding::error("no-parent-directory", format!("the parent directory does not exist: {}", parent.display()))
                .hint("make it first, on the file system that has the space"),
        ),
        DirectoryFacts::NotWritable { path, why } => Some(
            Finding::error("parent-not-writable", format!("cannot write here: {} ({why})", path.display()))
                .hint(format!("choose another place with {option}, or run walback as a user who may write there")),
        ),
        DirectoryFacts::Unreachable { path, user } => Some(
            Finding::error(
                "directory-unreachable",
                format!("the user {user}, who will run the server, may not enter {}", path.display()),
            )
            .hint(format!("choose a place that {user} can reach with {option}, or another user with --run-as")),
        ),
        DirectoryFacts::Foreign { owner, user } => Some(
            Finding::error(
                "directory-foreign",
                format!("{directory} belongs to {owner}, and a server that {user} runs refuses to work in it"),
            )
            .hint(format!("give a directory that is not there yet with {option}, or one of that user's own")),
        ),
        DirectoryFacts::InsideDataDirectory(above) => Some(
            Finding::error(
                "inside-data-directory",
                format!("{directory} lies inside a data directory: {}", above.display()),
            )
            .hint(format!("choose a place of its own with {option}")),
        ),
        DirectoryFacts::InsideSource(source) => Some(
            Finding::error("inside-source", format!("{directory} lies inside a source: {}", source.display()))
                .hint(format!("choose a place outside of the backups and archives with {option}")),
        ),
    }
}

/// Whether there is room to make a recovery's data anew, where `freed` bytes of what is there are removed before.
#[must_use]
pub fn space_again(directory: &Path, estimate: &Estimate, free: u64, freed: u64) -> Option<Finding> {
    let needed = estimate.unpack_bytes + estimate.wal_bytes.min(WAL_KEPT) + SPARE_BYTES;
    let message = format!(
        "too little space for {}: making it anew takes {}, and {} are free once it is emptied",
        directory.display(),
        Bytes(needed),
        Bytes(free + freed)
    );
    (free + freed < needed).then(|| Finding::error("too-little-space", message).hint("make space there"))
}

/// What unpacks compressed segments besides Walback itself.
pub(super) fn decompressors(host: &HostFacts) -> Option<Finding> {
    if host.missing_programs.is_empty() {
        return None;
    }
    let programs = host.missing_programs.join(", ");
    let message = format!("the WAL archive is compressed, and what unpacks it is not on this machine: {programs}");
    let packages: Vec<&str> = host.missing_programs.iter().map(|program| package_of(program)).collect();
    let hint = format!("install it (Debian, Ubuntu: apt-get install {})", packages.join(" "));
    Some(match host.own_program {
        Some(OwnProgram::Runs(_) | OwnProgram::Closed { .. }) => {
            let message = format!("{message}; Walback unpacks it itself, the runbook cannot");
            Finding::note("decompressor-missing", message).hint(format!("for the runbook, {hint}"))
        }
        _ => Finding::error("decompressor-missing", message).hint(hint),
    })
}
