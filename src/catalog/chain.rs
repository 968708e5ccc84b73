//! Incremental backups, and what they build upon. Pure.
//!
//! An incremental backup (PostgreSQL 17 and later) names in its `backup_label` where the backup began that it was taken
//! against. `pg_combinebackup` holds that against the START WAL LOCATION and START TIMELINE of the backup before it, and
//! nothing else (`check_backup_label_files`, `src/bin/pg_combinebackup/pg_combinebackup.c` of 17 and 18): so does this.

use serde::{Deserialize, Serialize};

use crate::core::{Lsn, TimelineId};

use super::{Backup, Catalog};

/// Where the backup began that an incremental one builds upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct IncrementalFrom {
    /// Its START WAL LOCATION.
    pub lsn: Lsn,
    /// Its START TIMELINE.
    pub timeline: TimelineId,
}

impl Catalog {
    /// An incremental backup with all that it builds upon, the full one first; nothing for a full one.
    #[must_use]
    pub fn chain_of<'a>(&'a self, backup: &'a Backup) -> Vec<&'a Backup> {
        if backup.parent.is_none() {
            return Vec::new();
        }
        let mut chain: Vec<&Backup> = vec![backup];
        let mut parent = backup.parent.as_deref();
        // A chain cannot be longer than all that there is.
        while let Some(found) = parent.and_then(|id| self.backup(id)).filter(|_| chain.len() <= self.backups.len()) {
            chain.push(found);
            parent = found.parent.as_deref();
        }
        chain.reverse();
        chain
    }
}

/// Finds the parents of the incremental ones. What has none, or one that cannot be used, has a problem.
pub(super) fn link(backups: &mut [Backup]) {
    // What begins earlier is linked first: a problem of a parent is one of what builds upon it.
    let mut order: Vec<(Lsn, usize)> = Vec::new();
    for (i, backup) in backups.iter().enumerate().filter(|(_, backup)| backup.incremental_from.is_some()) {
        order.extend(backup.start_lsn.map(|start| (start, i)));
    }
    order.sort_unstable();
    for (_, i) in order {
        let Some((from, found)) = backups.get(i).and_then(|backup| Some((backup.incremental_from?, backup))) else {
            continue;
        };
        let (parent, problem) = match parent_of(found, from, backups) {
            Ok(parent) => (Some(parent), None),
            Err((parent, problem)) => (parent, Some(problem)),
        };
        if let Some(backup) = backups.get_mut(i) {
            backup.parent = parent;
            backup.problems.extend(problem);
        }
    }
}

/// The backup that `child` builds upon; else why it cannot be combined, with the parent that is no good where there is
/// one.
fn parent_of(child: &Backup, from: IncrementalFrom, all: &[Backup]) -> Result<String, (Option<String>, String)> {
    let IncrementalFrom { lsn, timeline } = from;
    let is_parent = |other: &&Backup| {
        let same = child.system_identifier.zip(other.system_identifier).is_none_or(|(ours, theirs)| ours == theirs);
        // What begins where it begins itself would be combined without an end.
        same && other.start_lsn == Some(lsn) && other.timeline == Some(timeline) && child.start_lsn > Some(lsn)
    };
    let candidates: Vec<&Backup> = all.iter().filter(is_parent).collect();
    let usable: Vec<&&Backup> = candidates.iter().filter(|other| other.is_usable()).collect();
    match (usable.as_slice(), candidates.as_slice()) {
        ([first, others @ ..], _) if others.iter().all(|other| is_copy(first, other)) => Ok(first.id.clone()),
        ([_, ..], _) => {
            let named: Vec<&str> = usable.iter().map(|other| other.id.as_str()).collect();
            Err((
                None,
                format!(
                    "it is an incremental backup, and several begin at LSN {lsn} on timeline {timeline}, where the one \
                     began that it builds upon: {}; give --backups only the right one",
                    named.join(", ")
                ),
            ))
        }
        ([], [broken, ..]) => Err((
            Some(broken.id.clone()),
            format!("it is an incremental backup and builds upon {}, which cannot be used itself", broken.id),
        )),
        ([], []) => Err((
            None,
            format!(
                "it is an incremental backup, and the one that it builds upon is not here: one that begins at LSN {lsn} \
                 on timeline {timeline}; give the directory that has it with another --backups"
            ),
        )),
    }
}

/// Whether two backups that begin at the same place are the same one, as far as their labels and manifests say: one was
/// copied, or is found twice. Two of a standby may begin at the same place and be different ones.
fn is_copy(one: &Backup, other: &Backup) -> bool {
    let known = |backup: &Backup| {
        let text = (backup.label.clone(), backup.started_at, backup.incremental_from.map(|from| from.lsn));
        (text, backup.stop_lsn, backup.system_identifier)
    };
    known(one) == known(other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{BackupKind, Compression};

    /// A backup that begins there, upon another one.
    fn backup(id: &str, start: u64, from: Option<u64>) -> Backup {
        let from = from.map(|lsn| IncrementalFrom { lsn: Lsn(lsn), timeline: TimelineId(1) });
        Backup {
            id: id.to_owned(),
            start_lsn: Some(Lsn(start)),
            timeline: Some(TimelineId(1)),
            system_identifier: Some(7),
            label: Some(id.to_owned()),
            incremental_from: from,
            ..Backup::at(format!("/backups/{id}"), BackupKind::Tar, Compression::None)
        }
    }

    fn linked(backups: Vec<Backup>) -> Catalog {
        Catalog::build(crate::catalog::Listing { backups, ..Default::default() })
    }

    fn chain(catalog: &Catalog, id: &str) -> Vec<String> {
        catalog.chain_of(catalog.backup(id).unwrap()).iter().map(|backup| backup.id.clone()).collect()
    }

    fn ids(letters: &str) -> Vec<String> {
        letters.chars().map(String::from).collect()
    }

    #[track_caller]
    fn problem(catalog: &Catalog, id: &str) -> String {
        catalog.backup(id).unwrap().problems.join("\n")
    }

    #[test]
    fn a_chain_is_found_whatever_the_order_and_the_places() {
        let catalog = linked(vec![backup("c", 30, Some(20)), backup("a", 10, None), backup("b", 20, Some(10))]);
        assert!(catalog.backups.iter().all(Backup::is_usable), "{:?}", catalog.backups);
        assert_eq!((chain(&catalog, "c"), chain(&catalog, "b")), (ids("abc"), ids("ab")));
        assert_eq!((chain(&catalog, "a"), &catalog.backup("a").unwrap().parent), (Vec::new(), &None));
        // Two may build upon one.
        let two = linked(vec![backup("a", 10, None), backup("b", 20, Some(10)), backup("c", 30, Some(10))]);
        assert_eq!((chain(&two, "b"), chain(&two, "c")), (ids("ab"), ids("ac")));
    }

    #[test]
    fn what_is_missing_is_named_by_where_it_begins() {
        let catalog = linked(vec![backup("a", 0x10, None), backup("c", 0x30, Some(0x20)), backup("d", 64, Some(0x30))]);
        assert!(problem(&catalog, "c").contains("one that begins at LSN 0/20 on timeline 1"), "{catalog:?}");
        assert_eq!(
            problem(&catalog, "d"),
            "it is an incremental backup and builds upon c, which cannot be used itself"
        );
        assert_eq!(catalog.backup("d").unwrap().parent.as_deref(), Some("c"));
        assert!(catalog.backup("a").unwrap().is_usable());
    }

    #[test]
    fn another_cluster_or_timeline_is_no_parent() {
        let other = |change: fn(&mut Backup)| {
            let mut parent = backup("a", 10, None);
            change(&mut parent);
            let catalog = linked(vec![parent, backup("b", 20, Some(10))]);
            catalog.backup("b").unwrap().parent.clone()
        };
        assert_eq!(other(|_| ()).as_deref(), Some("a"));
        assert_eq!(other(|parent| parent.system_identifier = Some(8)), None);
        assert_eq!(other(|parent| parent.timeline = Some(TimelineId(2))), None);
        assert_eq!(other(|parent| parent.system_identifier = None).as_deref(), Some("a"));
        let itself = linked(vec![backup("b", 20, Some(20))]);
        assert!(problem(&itself, "b").contains("is not here"), "{itself:?}");
    }

    #[test]
    fn copies_of_one_backup_are_one_and_others_are_not_guessed_among() {
        let copy = |id: &str| Backup { label: Some("a".to_owned()), ..backup(id, 10, None) };
        let catalog = linked(vec![copy("a1"), copy("a2"), backup("b", 20, Some(10))]);
        assert_eq!(catalog.backup("b").unwrap().parent.as_deref(), Some("a1"));
        let broken = Backup { problems: vec!["cut off".to_owned()], ..copy("a1") };
        let catalog = linked(vec![broken, copy("a2"), backup("b", 20, Some(10))]);
        assert_eq!(catalog.backup("b").unwrap().parent.as_deref(), Some("a2"));
        let catalog = linked(vec![copy("a1"), backup("x", 10, None), backup("b", 20, Some(10))]);
        assert!(
            problem(&catalog, "b").contains("several begin at LSN 0/A") && problem(&catalog, "b").contains("a1, x")
        );
    }
}
