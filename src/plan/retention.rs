//! What of an archive no base backup needs, for whoever decides what is kept. Pure; and nothing here deletes.

use std::collections::BTreeSet;

use serde::Serialize;

use super::Finding;
use super::archive::Needs;
use super::archiving::graded;
use super::audit::ArchiveFinding;
use crate::catalog::{Backup, Catalog};
use crate::core::progress::{Bytes, Seconds, counted};
use crate::core::{SegmentName, Thresholds, Timestamp};

/// So many are named in one sentence.
const NAMED: usize = 4;

/// What could go if a base backup were the oldest one that is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Retention {
    /// The base backup.
    pub backup: String,
    /// How many base backups are kept then, itself among them.
    pub backups: u64,
    /// The first segment that it needs.
    pub from: SegmentName,
    /// How many segments before that there are, which no backup that is kept needs.
    pub segments: u64,
    /// Bytes that they take in the first archive that has each.
    pub bytes: u64,
}

/// For every base backup that can be used, the oldest first. `bytes` gives what these segments' files take.
#[must_use]
pub fn retention(catalog: &Catalog, bytes: &dyn Fn(&[SegmentName]) -> u64) -> Vec<Retention> {
    let size = catalog.segment_size;
    let first = |backup: &Backup| {
        let named = SegmentName::new(backup.timeline?, size.number_of(backup.start_lsn?), size);
        Some((backup.start_wal.unwrap_or(named), backup.id.clone()))
    };
    let mut firsts: Vec<(SegmentName, String)> = catalog.usable_backups().filter_map(first).collect();
    firsts.sort_by_key(|(name, id)| (name.number(size), id.clone()));
    let mut names: Vec<SegmentName> = catalog.segments.iter().copied().collect();
    names.sort_by_key(|name| name.number(size));
    let all = firsts.len() as u64;
    let (mut reached, mut taken) = (0, 0);
    let of_each = (0..).zip(firsts).map(|(older, (from, backup))| {
        let before = names.partition_point(|name| name.number(size) < from.number(size));
        // Each file is looked at once, whichever backups come behind it.
        taken += bytes(names.get(reached..before).unwrap_or_default());
        reached = before.max(reached);
        Retention { backup, backups: all - older, from, segments: before as u64, bytes: taken }
    });
    of_each.collect()
}

/// What is to be said of it: what no backup needs, and the backups that nothing can be recovered from.
#[must_use]
pub fn advice(catalog: &Catalog, retention: &[Retention], needs: &[Needs]) -> Vec<ArchiveFinding> {
    let mut found = Vec::new();
    if let Some(oldest) = retention.first().filter(|oldest| oldest.segments > 0) {
        let text = format!(
            "the oldest base backup that can be used, {}, needs WAL from {} on: {} ({}) before it are needed by no base backup here that can be used",
            oldest.backup,
            oldest.from,
            counted(oldest.segments, "segment"),
            Bytes(oldest.bytes)
        );
        let hint = in_doubt(catalog, oldest.from).unwrap_or_else(|| {
            format!(
                "Walback never deletes anything; “pg_archivecleanup DIRECTORY {}” does, and so does what made the archive, where no other copy of an older base backup is kept",
                oldest.from
            )
        });
        let finding = Finding::note("retention", text).hint(hint);
        found.push(ArchiveFinding { finding, timeline: None, file: Some(oldest.from.to_string()), lsn: None });
    }
    // What an incremental backup builds upon is of use, whether anything can be recovered from it alone or not.
    let recoverable =
        needs.iter().filter(|needs| needs.is_recoverable()).filter_map(|needs| catalog.backup(&needs.backup));
    let used: BTreeSet<&str> =
        recoverable.flat_map(|backup| catalog.chain_of(backup)).map(|one| one.id.as_str()).collect();
    let is_useless = |needs: &&Needs| !needs.is_recoverable() && !used.contains(needs.backup.as_str());
    let useless: Vec<&Needs> = needs.iter().filter(is_useless).collect();
    if !useless.is_empty() {
        let bytes =
            useless.iter().filter_map(|needs| catalog.backup(&needs.backup)).map(|backup| backup.size_bytes).sum();
        let names: Vec<&str> = useless.iter().take(NAMED).map(|needs| needs.backup.as_str()).collect();
        let more = useless.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let text = format!(
            "{} cannot be recovered from as things are, and {} {}: {}{more}",
            counted(useless.len() as u64, "base backup"),
            if useless.len() == 1 { "takes" } else { "take" },
            Bytes(bytes),
            names.join(", ")
        );
        let finding = Finding::note("backup-useless", text)
            .hint("look for what is missing before one of them is removed; Walback never deletes anything");
        found.push(ArchiveFinding { finding, timeline: None, file: None, lsn: None });
    }
    found
}

/// Why nothing is to be removed before `from` yet: there are base backups that cannot be used as they are, as when they
/// cannot be read, and their WAL may begin before that.
fn in_doubt(catalog: &Catalog, from: SegmentName) -> Option<String> {
    let size = catalog.segment_size;
    let first = |backup: &Backup| {
        backup.start_wal.map(|name| name.number(size)).or(backup.start_lsn.map(|start| size.number_of(start)))
    };
    let may_need =
        |backup: &&Backup| !backup.is_usable() && first(backup).is_none_or(|number| number < from.number(size));
    let doubtful: Vec<&str> = catalog.backups.iter().filter(may_need).map(|backup| backup.id.as_str()).collect();
    if doubtful.is_empty() {
        return None;
    }
    let named = doubtful.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    let more = doubtful.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    Some(format!(
        "remove none of them yet: {} here cannot be used as things are and may need them once that is mended: {named}{more}",
        counted(doubtful.len() as u64, "base backup")
    ))
}

/// Whether the newest base backup that can be used is too old, where anybody wants to know.
#[must_use]
pub fn too_old(catalog: &Catalog, now: Timestamp, thresholds: &Thresholds) -> Option<ArchiveFinding> {
    let limits = thresholds.backup_age_hours?;
    let (backup, hours) = newest(catalog, now)?;
    let text = format!("the newest base backup that can be used, {}, is {} old", backup.id, Seconds(hours * 3600.0));
    let finding = graded(limits.at_least(hours), Finding::warning("backup-old", text))?;
    let finding = finding.hint("take one, and look why it was not taken");
    Some(ArchiveFinding { finding, timeline: backup.timeline, file: None, lsn: backup.start_lsn })
}

/// The newest base backup that can be used, and how many hours ago it ended.
#[must_use]
pub fn newest(catalog: &Catalog, now: Timestamp) -> Option<(&Backup, f64)> {
    let ended = |backup: &Backup| backup.finished_at.or(backup.started_at);
    let newest =
        catalog.usable_backups().filter(|backup| ended(backup).is_some()).max_by_key(|backup| ended(backup))?;
    Some((newest, now.seconds_since(ended(newest)?).max(0.0) / 3600.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{BackupKind, Compression, IncrementalFrom, Listing};
    use crate::core::{ArchiveFile, Limits, Lsn, SegmentSize, TimelineId};
    use crate::plan::Severity;
    use crate::plan::archive::Reach;

    const SEGMENT: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(SEGMENT as u32).unwrap()
    }

    fn backup(name: &str, number: u64) -> Backup {
        Backup {
            timeline: Some(TimelineId(1)),
            segment_size: Some(size()),
            start_lsn: Some(Lsn(number * SEGMENT + 0x28)),
            stop_lsn: Some(Lsn(number * SEGMENT + 0x100)),
            finished_at: Timestamp::from_unix_seconds(number as i64 * 3600),
            size_bytes: 1000,
            ..Backup::at(format!("/b/{name}"), BackupKind::Tar, Compression::None)
        }
    }

    /// Segments 3 to 9, and these backups.
    fn catalog(backups: Vec<Backup>) -> Catalog {
        let name = |number| SegmentName::new(TimelineId(1), number, size());
        let files = (3..=9).map(|number| (ArchiveFile::Segment(name(number)), SEGMENT)).collect();
        Catalog::build(Listing { files, backups, segment_size: Some(size()), ..Listing::default() })
    }

    fn ten_each(names: &[SegmentName]) -> u64 {
        names.len() as u64 * 10
    }

    #[test]
    fn what_could_go_is_told_for_every_backup() {
        let broken = Backup { problems: vec!["it is broken".to_owned()], ..backup("broken", 6) };
        let catalog = catalog(vec![backup("late", 8), backup("early", 5), broken]);
        let found = retention(&catalog, &ten_each);
        let told: Vec<_> = found.iter().map(|r| (r.backup.as_str(), r.backups, r.segments, r.bytes)).collect();
        assert_eq!(told, [("early", 2, 2, 20), ("late", 1, 5, 50)]);
        let said = advice(&catalog, &found, &[]);
        assert_eq!(said.len(), 1);
        let finding = &said[0].finding;
        assert_eq!((finding.code.as_ref(), finding.severity), ("retention", Severity::Note));
        assert!(finding.message.contains("early") && finding.message.contains("2 segments (20 B)"), "{finding:?}");
        assert!(finding.hint.as_ref().unwrap().contains("pg_archivecleanup DIRECTORY 000000010000000000000005"));
    }

    #[test]
    fn nothing_is_offered_that_a_backup_may_need_which_cannot_be_read() {
        let broken = |number| Backup { problems: vec!["it cannot be read".to_owned()], ..backup("locked", number) };
        let unread = Backup { start_lsn: None, start_wal: None, timeline: None, ..broken(9) };
        for (locked, is_offered) in [(unread, false), (broken(4), false), (broken(5), true)] {
            let catalog = catalog(vec![backup("late", 8), backup("early", 5), locked]);
            let said = advice(&catalog, &retention(&catalog, &ten_each), &[]);
            let hint = said[0].finding.hint.as_deref().unwrap();
            assert_eq!(hint.contains("pg_archivecleanup"), is_offered, "{hint}");
            assert_eq!(hint.contains("1 base backup here") && hint.ends_with(": locked"), !is_offered, "{hint}");
        }
    }

    /// Its WAL may be gone: what is taken of it are its files.
    #[test]
    fn what_an_incremental_backup_builds_upon_is_not_useless() {
        let from = |number: u64| IncrementalFrom { lsn: Lsn(number * SEGMENT + 0x28), timeline: TimelineId(1) };
        let incremental = Backup { incremental_from: Some(from(1)), ..backup("late", 8) };
        let catalog = catalog(vec![backup("full", 1), backup("other", 2), incremental]);
        let needs = |name: &str, recoverable: bool| Needs {
            backup: name.to_owned(),
            problem: (!recoverable).then(|| "its WAL is gone".to_owned()),
            segments: None,
            missing: Vec::new(),
            reach: recoverable.then_some(Reach {
                timeline: TimelineId(1),
                lsn: Lsn(0),
                last_commit_at: None,
                why: None,
            }),
            told: Vec::new(),
        };
        let said = |late: bool| {
            let needs = [needs("full", false), needs("other", false), needs("late", late)];
            let said = advice(&catalog, &[], &needs);
            assert!(said.iter().all(|found| found.finding.code == "backup-useless"));
            said.iter().map(|found| found.finding.message.clone()).collect::<String>()
        };
        assert!(said(true).contains("1 base backup ") && said(true).ends_with("other"), "{}", said(true));
        assert!(said(false).contains("full, other, late"), "{}", said(false));
    }

    #[test]
    fn nothing_is_said_where_everything_is_needed() {
        for backups in [vec![backup("first", 3)], Vec::new()] {
            let catalog = catalog(backups);
            assert!(advice(&catalog, &retention(&catalog, &ten_each), &[]).is_empty());
        }
    }

    #[test]
    fn the_age_of_the_newest_backup_is_judged_only_where_it_is_wanted() {
        let catalog = catalog(vec![backup("early", 5), backup("late", 8)]);
        let at = |hours: i64| Timestamp::from_unix_seconds(hours * 3600).unwrap();
        let usual = Thresholds::default();
        assert_eq!(too_old(&catalog, at(1000), &usual), None);
        let wanted = Thresholds { backup_age_hours: Limits::rising(25.0, 49.0).ok(), ..usual };
        let severity = |hours: i64| too_old(&catalog, at(8 + hours), &wanted).map(|found| found.finding.severity);
        assert_eq!([24, 25, 49].map(severity), [None, Some(Severity::Warning), Some(Severity::Error)]);
        let old = too_old(&catalog, at(33), &wanted).unwrap().finding;
        assert_eq!(old.code, "backup-old");
        assert!(old.message.contains("late, is 25 h 00 min old"), "{old:?}");
    }
}
