//! How an incremental backup becomes a data directory: it and what it builds upon are unpacked beside the data, and
//! `pg_combinebackup` of the server's own version makes one of them. Pure.
//!
//! Everything that is only needed for that lies in Walback's own directories inside of those that carry its mark, so that
//! it goes with them whatever happens. `pg_combinebackup` writes into new directories only (`create_output_directory`,
//! `src/bin/pg_combinebackup/pg_combinebackup.c`, 17 and 18), and what it has made is renamed into place.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::{Backup, BackupKind, PartContents};
use crate::core::PgMajor;
use crate::core::progress::{Bytes, counted};

use super::build::OWN_DIRECTORY;
use super::settings::shell_quote;
use super::{Finding, PlacedTablespace, Plan};

/// The program that combines.
pub const PROGRAM: &str = "pg_combinebackup";
/// What is unpacked to be combined, in Walback's own directory.
const STAGING: &str = "chain";
/// What the program has made, in Walback's own directories, before it is in its place.
const COMBINED: &str = "combined";

/// An incremental backup with everything that it builds upon.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chain {
    /// The program that combines them.
    pub program: PathBuf,
    /// The full backup first, the plan's own last.
    pub links: Vec<Link>,
}

/// One of a chain.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Link {
    /// The backup.
    pub backup: Backup,
    /// Where the program reads it: where it was unpacked, or where it lies.
    pub directory: PathBuf,
    /// Whether it is read where it lies, as a directory that the server's user can read. It is never written to.
    pub in_place: bool,
    /// Where its tablespaces are for that.
    pub tablespaces: Vec<PlacedTablespace>,
}

/// What a machine has for combining a chain.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CombineFacts {
    /// The program, or where it was looked for.
    pub program: PathBuf,
    /// Why it cannot be used, in words; `None` where it can.
    pub unusable: Option<String>,
    /// The backups, by their places, that it can read where they lie.
    pub in_place: BTreeSet<PathBuf>,
}

/// What a base backup takes, with all that it builds upon; in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Amounts {
    /// To be read, as it lies there.
    pub read: u64,
    /// What is unpacked to be combined, and removed again.
    pub staged: u64,
    /// The data, at most: how much of an incremental backup takes the place of something, only combining tells.
    pub data: u64,
}

impl Amounts {
    /// Of a backup; `chain` is it with all that it builds upon, or empty.
    #[must_use]
    pub fn of(backup: &Backup, chain: &[&Backup], in_place: &BTreeSet<PathBuf>) -> Amounts {
        let read = |backup: &Backup| backup.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.size_bytes));
        let unpacked = |backup: &Backup| backup.unpacked_bytes.unwrap_or(backup.size_bytes);
        let sum = |of: &dyn Fn(&Backup) -> u64| chain.iter().fold(0_u64, |sum, backup| sum.saturating_add(of(backup)));
        if chain.is_empty() {
            return Amounts { read: read(backup), staged: 0, data: unpacked(backup) };
        }
        let staged = |backup: &Backup| if in_place.contains(&backup.location) { 0 } else { unpacked(backup) };
        Amounts { read: sum(&read), staged: sum(&staged), data: sum(&unpacked) }
    }

    /// What has to be free while it is unpacked and combined.
    #[must_use]
    pub fn peak(&self) -> u64 {
        self.data.saturating_add(self.staged)
    }
}

impl Chain {
    /// The way from these backups, the full one first, to a data directory; `None` for a single one, which is its own.
    #[must_use]
    pub fn of(chain: &[&Backup], directory: &Path, facts: &CombineFacts) -> Option<Chain> {
        if chain.len() < 2 {
            return None;
        }
        let staging = staging(directory);
        let link = |(i, backup): (usize, &&Backup)| {
            let in_place = facts.in_place.contains(&backup.location);
            let number = (i + 1).to_string();
            let beside = staging.join(format!("{number}.tablespaces"));
            let place = |(oid, from): (u32, String)| {
                let to = if in_place { PathBuf::from(&from) } else { beside.join(oid.to_string()) };
                let root = if in_place { to.clone() } else { beside.clone() };
                PlacedTablespace { oid, from, to, root }
            };
            let directory = if in_place { backup.location.clone() } else { staging.join(number) };
            let tablespaces = tablespaces_of(backup).into_iter().map(place).collect();
            Link { backup: (*backup).clone(), directory, in_place, tablespaces }
        };
        Some(Chain { program: facts.program.clone(), links: chain.iter().enumerate().map(link).collect() })
    }

    /// Their names, the full one first.
    #[must_use]
    pub fn names(&self) -> String {
        self.links.iter().map(|link| link.backup.id.as_str()).collect::<Vec<_>>().join(", ")
    }

    /// What it takes.
    #[must_use]
    pub fn amounts(&self) -> Option<Amounts> {
        let all: Vec<&Backup> = self.links.iter().map(|link| &link.backup).collect();
        let in_place =
            self.links.iter().filter(|link| link.in_place).map(|link| link.backup.location.clone()).collect();
        Some(Amounts::of(all.last()?, &all, &in_place))
    }

    /// What the program is called with to make the data of `directory`, whose tablespaces go to `placed`.
    #[must_use]
    pub fn arguments(&self, directory: &Path, placed: &[PlacedTablespace]) -> Vec<String> {
        // What is made is synced and checked by who calls it, and is no backup that needs a manifest.
        let mut arguments = vec!["--no-sync".to_owned(), "--no-manifest".to_owned()];
        let last = self.links.last().map(|link| link.tablespaces.as_slice()).unwrap_or_default();
        for tablespace in placed {
            let from =
                last.iter().find(|own| own.oid == tablespace.oid).map_or(Path::new(&tablespace.from), |own| &own.to);
            let (from, to) = (escaped(from), escaped(&combined_tablespace(tablespace)));
            arguments.push(format!("--tablespace-mapping={from}={to}"));
        }
        arguments.push(output_argument(directory));
        arguments.extend(self.links.iter().map(|link| link.directory.display().to_string()));
        arguments
    }

    /// The same as an operator would type it, with what puts its work into place and removes the rest. `become_user` goes
    /// before the program.
    pub(super) fn commands(&self, directory: &Path, placed: &[PlacedTablespace], become_user: &str) -> Vec<String> {
        let quoted = |path: &Path| shell_quote(&path.display().to_string());
        let arguments = self.arguments(directory, placed);
        let words: Vec<String> = arguments.iter().map(|word| shell_quote(word)).collect();
        let mut commands = vec![format!("{become_user}{} {}", quoted(&self.program), words.join(" "))];
        let put = |from: &Path, to: &Path| {
            format!("find {} -mindepth 1 -maxdepth 1 -exec mv -t {} -- {{}} +", quoted(from), quoted(to))
        };
        commands.push(put(&combined(directory), directory));
        for tablespace in placed {
            commands.push(format!("mkdir -p -m 0700 {}", quoted(&tablespace.to)));
            commands.push(put(&combined_tablespace(tablespace), &tablespace.to));
            let link = directory.join("pg_tblspc").join(tablespace.oid.to_string());
            commands.push(format!("ln -sfn {} {}", quoted(&tablespace.to), quoted(&link)));
        }
        let left: Vec<String> = leftovers(directory, placed).iter().map(|path| quoted(path)).collect();
        commands.push(format!("rm -rf {}", left.join(" ")));
        commands
    }

    /// What is to be known of a plan with it.
    #[must_use]
    pub(super) fn note(&self) -> Option<Finding> {
        let (last, amounts) = (self.links.last()?, self.amounts()?);
        let staged = match amounts.staged {
            0 => "all are read where they lie".to_owned(),
            bytes => format!("{} are taken by what is unpacked for that and removed again", Bytes(bytes)),
        };
        let message = format!(
            "the base backup {} is an incremental one: it is combined with {} that it builds upon ({}); {staged}",
            last.backup.id,
            counted((self.links.len() - 1) as u64, "backup"),
            self.names()
        );
        Some(Finding::note("backup-combined", message))
    }
}

impl CombineFacts {
    /// What is wrong where the program cannot be used.
    #[must_use]
    pub(super) fn finding(&self, backup: &Backup, major: PgMajor) -> Option<Finding> {
        let why = self.unusable.as_ref()?;
        let message = format!(
            "the base backup {} is an incremental one, and what combines it with those that it builds upon cannot be used: \
             {PROGRAM} of PostgreSQL {major} is looked for as {}, and {why}",
            backup.id,
            self.program.display()
        );
        let hint = format!(
            "install it (Debian, Ubuntu: apt-get install postgresql-client-{major}; it belongs beside the server's programs), \
             say with --bin-dir where it and the server's are, or choose a full backup with --backup"
        );
        Some(Finding::error("no-combinebackup", message).hint(hint))
    }
}

impl Plan {
    /// What the backup takes, with all that it builds upon.
    #[must_use]
    pub fn amounts(&self) -> Amounts {
        let of_chain = self.chain.as_ref().and_then(Chain::amounts);
        of_chain.unwrap_or_else(|| Amounts::of(&self.backup, &[], &BTreeSet::new()))
    }

    /// The base backups that it reads: its own, and those that that builds upon.
    pub fn backups_read(&self) -> impl Iterator<Item = &Backup> {
        let links = self.chain.iter().flat_map(|chain| chain.links.iter().map(|link| &link.backup));
        // The plan's own is the last of its chain.
        std::iter::once(&self.backup).filter(|_| self.chain.is_none()).chain(links)
    }

    /// The plan to unpack one of its chain: into a directory of its own, with places of their own for its tablespaces.
    #[must_use]
    pub fn of_link(&self, number: usize, link: &Link) -> Plan {
        let directory = staging(&self.directory).join(number.to_string());
        let mut tablespaces = link.tablespaces.clone();
        // What is read where it lies has a place only for what is noted of it: nothing is ever written there.
        for tablespace in tablespaces.iter_mut().filter(|_| link.in_place) {
            (tablespace.to, tablespace.root) = (directory.clone(), directory.clone());
        }
        Plan { directory, backup: link.backup.clone(), tablespaces, chain: None, ..self.clone() }
    }
}

/// Where the backups are unpacked that are combined.
#[must_use]
pub fn staging(directory: &Path) -> PathBuf {
    directory.join(OWN_DIRECTORY).join(STAGING)
}

/// Where the program makes the data directory, before that is in its place.
#[must_use]
pub fn combined(directory: &Path) -> PathBuf {
    directory.join(OWN_DIRECTORY).join(COMBINED)
}

/// Where the program makes a tablespace: on its own file system.
#[must_use]
pub fn combined_tablespace(tablespace: &PlacedTablespace) -> PathBuf {
    combined(&tablespace.root).join(tablespace.oid.to_string())
}

/// Everything that combining has made besides the data.
#[must_use]
pub fn leftovers(directory: &Path, placed: &[PlacedTablespace]) -> Vec<PathBuf> {
    let roots: BTreeSet<PathBuf> = placed.iter().map(|tablespace| combined(&tablespace.root)).collect();
    [staging(directory), combined(directory)].into_iter().chain(roots).collect()
}

/// By what the program is recognised that works for a data directory.
#[must_use]
pub fn output_argument(directory: &Path) -> String {
    format!("--output={}", combined(directory).display())
}

/// `=` ends the old directory, unless it stands behind a backslash (`tablespace_list_append`,
/// `src/fe_utils/…`'s like in `pg_combinebackup.c`, 17 and 18).
fn escaped(path: &Path) -> String {
    path.display().to_string().replace('=', "\\=")
}

/// Its tablespaces, with where they were: those of which nothing is known have a part all the same.
pub(super) fn tablespaces_of(backup: &Backup) -> BTreeMap<u32, String> {
    let mut known: BTreeMap<u32, String> =
        backup.tablespaces.iter().map(|tablespace| (tablespace.oid, tablespace.location.clone())).collect();
    for part in &backup.parts {
        if let PartContents::Tablespace(oid) = part.holds {
            known.entry(oid).or_default();
        }
    }
    known
}

/// Whether a backup has the form that the program reads: 17 and 18 read directories only, and want the links to
/// tablespaces to be absolute (`scan_for_existing_tablespaces`).
#[must_use]
pub fn is_readable_form(backup: &Backup) -> bool {
    let below_link = backup.location.join("pg_tblspc");
    let absolute = |location: &str| Path::new(location).is_absolute() && !Path::new(location).starts_with(&below_link);
    backup.kind == BackupKind::Directory && backup.tablespaces.iter().all(|tablespace| absolute(&tablespace.location))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalog::{Compression, IncrementalFrom, Tablespace};
    use crate::core::{Lsn, TimelineId};
    use crate::plan::{Severity, example};

    /// A full backup in a tar, and an incremental one in a directory, with a tablespace.
    pub(crate) fn backups() -> [Backup; 2] {
        let tablespaces = vec![Tablespace { oid: 16385, location: "/srv/a=b".to_owned(), size_bytes: Some(5) }];
        let full = Backup { tablespaces, size_bytes: 10, unpacked_bytes: Some(100), ..example().backup };
        let tablespaces = vec![Tablespace { oid: 16385, location: "/backups/t".to_owned(), size_bytes: Some(1) }];
        let incremental = Backup {
            id: "tuesday".to_owned(),
            kind: BackupKind::Directory,
            location: "/backups/tuesday".into(),
            compression: Compression::None,
            unpacked_bytes: Some(7),
            parent: Some("monday".to_owned()),
            incremental_from: Some(IncrementalFrom { lsn: Lsn(0x200_0028), timeline: TimelineId(1) }),
            tablespaces,
            ..example().backup
        };
        [full, incremental]
    }

    #[test]
    fn what_is_no_directory_is_unpacked_beside_the_data_and_counts() {
        let [full, incremental] = backups();
        let all = [&full, &incremental];
        let facts = |in_place: &[&str]| CombineFacts {
            program: "/bin/pg_combinebackup".into(),
            in_place: in_place.iter().map(PathBuf::from).collect(),
            unusable: None,
        };
        let chain = Chain::of(&all, Path::new("/srv/copy"), &facts(&["/backups/tuesday"])).unwrap();
        let directories: Vec<&Path> = chain.links.iter().map(|link| link.directory.as_path()).collect();
        assert_eq!(directories, ["/srv/copy/.walback/chain/1", "/backups/tuesday"].map(Path::new));
        let amounts = chain.amounts().unwrap();
        assert_eq!((amounts.staged, amounts.data, amounts.peak()), (100, 107, 207));
        let both = Chain::of(&all, Path::new("/srv/copy"), &facts(&[])).unwrap();
        assert_eq!(both.amounts().unwrap().staged, 107);
        assert_eq!(Chain::of(&all[..1], Path::new("/srv/copy"), &facts(&[])), None);
        let root = PathBuf::from("/srv/x=y");
        let placed = [PlacedTablespace { oid: 16385, from: String::new(), to: root.join("16385"), root }];
        let tablespace = |chain: &Chain| chain.arguments(Path::new("/srv/copy"), &placed).remove(2);
        assert_eq!(tablespace(&chain), r"--tablespace-mapping=/backups/t=/srv/x\=y/.walback/combined/16385");
        let staged = "/srv/copy/.walback/chain/2.tablespaces/16385";
        assert!(tablespace(&both).starts_with(&format!("--tablespace-mapping={staged}=")), "{}", tablespace(&both));
        let arguments = chain.arguments(Path::new("/srv/copy"), &placed);
        assert_eq!(arguments.last().map(String::as_str), Some("/backups/tuesday"), "the newest comes last");
        assert!(chain.note().unwrap().message.contains("combined with 1 backup that it builds upon (monday, tuesday)"));
    }

    #[test]
    fn a_program_that_is_missing_is_named_with_where_it_was_looked_for() {
        let [_, incremental] = backups();
        let facts = CombineFacts {
            program: "/opt/18/bin/pg_combinebackup".into(),
            unusable: Some("it is not there".to_owned()),
            in_place: BTreeSet::new(),
        };
        let finding = facts.finding(&incremental, PgMajor(18)).unwrap();
        assert_eq!((finding.severity, finding.code.as_ref()), (Severity::Error, "no-combinebackup"));
        assert!(finding.message.contains("/opt/18/bin/pg_combinebackup, and it is not there"), "{finding:?}");
        assert_eq!(CombineFacts { unusable: None, ..facts }.finding(&incremental, PgMajor(18)), None);
    }

    #[test]
    fn relative_links_are_not_read_where_they_lie() {
        let [full, incremental] = backups();
        assert!(is_readable_form(&incremental) && !is_readable_form(&full));
        let location = "/backups/tuesday/pg_tblspc/../t".to_owned();
        let tablespaces = vec![Tablespace { oid: 1, location, size_bytes: None }];
        assert!(!is_readable_form(&Backup { tablespaces, ..incremental }));
    }
}
