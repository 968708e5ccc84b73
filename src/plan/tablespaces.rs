//! Where the tablespaces of a base backup go: never to where they were. Pure.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::catalog::Backup;

use super::Finding;
use super::chain::tablespaces_of;

/// What is added to the name of the data directory for the directory of tablespaces beside it.
const BESIDE: &str = ".tablespaces";

/// Where a tablespace goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlacedTablespace {
    /// Its OID.
    pub oid: u32,
    /// Where it was, as the backup has it; empty where that is not known. Never written to.
    pub from: String,
    /// Where its files go.
    pub to: PathBuf,
    /// The directory that the recovery makes for it, and that carries its mark: this one, or the one above for all.
    pub root: PathBuf,
}

/// The places of a backup's tablespaces, and what is wrong with them. `wanted` are places that the operator chose, by
/// where the tablespace was, or by its OID.
#[must_use]
pub fn place(backup: &Backup, directory: &Path, wanted: &[(String, PathBuf)]) -> (Vec<PlacedTablespace>, Vec<Finding>) {
    let beside = beside(directory);
    let known = tablespaces_of(backup);
    let is_meant = |what: &str, oid: u32, from: &str| {
        what == oid.to_string() || (!from.is_empty() && normal(Path::new(what)) == normal(Path::new(from)))
    };
    let placed = known.iter().map(|(oid, from)| {
        let chosen = wanted.iter().rfind(|(what, _)| is_meant(what, *oid, from));
        let (to, root) = match chosen {
            Some((_, to)) => (normal(to), normal(to)),
            None => (beside.join(oid.to_string()), beside.clone()),
        };
        PlacedTablespace { oid: *oid, from: from.clone(), to, root }
    });
    let placed: Vec<PlacedTablespace> = placed.collect();
    let mut findings: Vec<Finding> = placed.iter().filter_map(|one| misplaced(one, &placed, directory)).collect();
    let unknown = wanted.iter().filter(|(what, _)| !known.iter().any(|(oid, from)| is_meant(what, *oid, from)));
    findings.extend(unknown.map(|(what, _)| {
        let had: Vec<String> = known.iter().map(|(oid, from)| format!("{oid} at {from}")).collect();
        let had = if had.is_empty() { "it has none".to_owned() } else { format!("it has {}", had.join(", ")) };
        Finding::error("tablespace-unknown", format!("the backup has no tablespace that was at {what}: {had}"))
            .hint("give OLDDIR as “walback backups” shows it, or the OID: --tablespace OLDDIR=NEWDIR")
    }));
    (placed, findings)
}

/// Where tablespaces go for which nobody chose a place: `/srv/copy` → `/srv/copy.tablespaces`.
#[must_use]
pub fn beside(directory: &Path) -> PathBuf {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(BESIDE);
    directory.with_file_name(name)
}

/// A place that cannot be one, whatever is there.
fn misplaced(one: &PlacedTablespace, all: &[PlacedTablespace], directory: &Path) -> Option<Finding> {
    let to = one.to.display();
    let why = if !one.to.is_absolute() || one.to.components().any(|part| matches!(part, Component::ParentDir)) {
        "this is no absolute path".to_owned()
    } else if one.to.starts_with(directory) || directory.starts_with(&one.to) {
        // pg_basebackup of such a server fails, and the server warns of it.
        format!("it lies inside the data directory {} or around it", directory.display())
    } else if let Some(other) = all.iter().find(|other| overlaps(one, other)) {
        format!("the tablespace {} goes there too", other.oid)
    } else if let Some(other) = all.iter().find(|other| is_at_origin(&one.to, other)) {
        format!("the tablespace {} was there, and the original's places are never used", other.oid)
    } else {
        return None;
    };
    Some(
        Finding::error("tablespace-misplaced", format!("the tablespace {} cannot go to {to}: {why}", one.oid))
            .hint("give it a new directory of its own: --tablespace OLDDIR=NEWDIR"),
    )
}

fn overlaps(one: &PlacedTablespace, other: &PlacedTablespace) -> bool {
    other.oid != one.oid && (one.to.starts_with(&other.to) || other.to.starts_with(&one.to))
}

fn is_at_origin(to: &Path, other: &PlacedTablespace) -> bool {
    let origin = normal(Path::new(&other.from));
    origin.is_absolute() && (to.starts_with(&origin) || origin.starts_with(to))
}

/// Without `.` and slashes that say nothing.
fn normal(path: &Path) -> PathBuf {
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Tablespace;
    use crate::plan::example;

    fn backup() -> Backup {
        let at = |oid, location: &str| Tablespace { oid, location: location.to_owned(), size_bytes: None };
        Backup { tablespaces: vec![at(16385, "/srv/fast disk"), at(16386, "/srv/slow")], ..example().backup }
    }

    fn placed(wanted: &[(&str, &str)]) -> (Vec<String>, Vec<String>) {
        let wanted: Vec<_> = wanted.iter().map(|(what, to)| ((*what).to_owned(), PathBuf::from(to))).collect();
        let (placed, findings) = place(&backup(), Path::new("/srv/copy"), &wanted);
        let codes = findings.into_iter().map(|finding| finding.code.into_owned());
        (placed.iter().map(|one| one.to.display().to_string()).collect(), codes.collect())
    }

    #[test]
    fn they_go_beside_the_data_directory_or_where_they_are_told() {
        let beside = |oid| format!("/srv/copy.tablespaces/{oid}");
        assert_eq!(placed(&[]), (vec![beside(16385), beside(16386)], Vec::new()));
        let (to, findings) = placed(&[("/srv/fast disk/", "/new/a/"), ("16386", "/new/b")]);
        assert_eq!((to, findings), (vec!["/new/a".to_owned(), "/new/b".to_owned()], Vec::new()));
    }

    #[test]
    fn places_that_cannot_be_are_refused() {
        for to in ["/srv/copy", "/srv/copy/pg_tblspc/x", "/srv", "/srv/slow", "/srv/fast disk/x", "relative", "/a/../b"]
        {
            let findings = placed(&[("16385", to)]).1;
            assert!(!findings.is_empty() && findings.iter().all(|code| code == "tablespace-misplaced"), "{to}");
        }
        assert_eq!(placed(&[("16385", "/new"), ("16386", "/new/b")]).1, ["tablespace-misplaced"; 2]);
        assert_eq!(placed(&[("/srv/other", "/new")]).1, ["tablespace-unknown"]);
    }
}
