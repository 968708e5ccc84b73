//! What an archive holds, and what of it which base backup needs. Pure, like the audit whose findings it has.

use std::collections::BTreeSet;

use super::audit::{ArchiveFinding, Audit};
use super::{Finding, Severity};
use crate::catalog::{Backup, Gap, Timeline};
use crate::core::progress::{Bytes, counted};
use crate::core::{ArchiveFile, Lsn, SegmentName, SegmentSize, TimelineId, TimelinePath, Timestamp};

/// What is known of a segment, the best first: where several share a place, the worst is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Holding {
    /// It is there, and was read to its end.
    Present,
    /// It is there, and was not read yet.
    Unread,
    /// It is there as `.partial` only.
    Partial,
    /// It is there, and is damaged, or no segment of this cluster.
    Damaged,
    /// It is not there.
    Missing,
}

impl Holding {
    /// All of them, the best first.
    pub const ALL: [Holding; 5] = [Self::Present, Self::Unread, Self::Partial, Self::Damaged, Self::Missing];

    /// In a word or two.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Present => "there",
            Self::Unread => "not yet read",
            Self::Partial => ".partial",
            Self::Damaged => "damaged",
            Self::Missing => "missing",
        }
    }
}

/// Segments in a row of which the same is known, by number, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The first one.
    pub first: u64,
    /// The last one.
    pub last: u64,
    /// What is known of them.
    pub holding: Holding,
}

/// A timeline's segments from the first one to the last.
#[derive(Debug, Clone, PartialEq)]
pub struct Continuity {
    /// The timeline.
    pub timeline: TimelineId,
    /// What is known of them, without anything between; empty where the archive has no segment of it.
    pub stretches: Vec<Stretch>,
    /// How many are there.
    pub segments: u64,
    /// The first one.
    pub first: Option<SegmentName>,
    /// The last one.
    pub last: Option<SegmentName>,
    /// The time of the first commit or rollback in those that were read.
    pub first_at: Option<Timestamp>,
    /// The time of the last one.
    pub last_at: Option<Timestamp>,
}

impl Continuity {
    /// The worst of what is known in each of so many columns.
    #[must_use]
    pub fn columns(&self, columns: usize) -> Vec<Holding> {
        let (Some(first), Some(last)) = (self.stretches.first(), self.stretches.last()) else { return Vec::new() };
        let (first, all) = (first.first, u128::from(last.last - first.first) + 1);
        let start = |column: usize| first + (column as u128 * all / (columns.max(1) as u128)) as u64;
        let worst = |column: usize| {
            let (from, behind) = (start(column), start(column + 1));
            let to = behind.saturating_sub(1).max(from);
            let place = self.stretches.partition_point(|stretch| stretch.last < from);
            let within = self.stretches.iter().skip(place).take_while(|stretch| stretch.first <= to);
            within.map(|stretch| stretch.holding).max().unwrap_or(Holding::Missing)
        };
        (0..columns).map(worst).collect()
    }

    /// How many segments of a kind there are.
    #[must_use]
    pub fn count(&self, holding: Holding) -> u64 {
        let of = self.stretches.iter().filter(|stretch| stretch.holding == holding);
        of.map(|stretch| stretch.last - stretch.first + 1).sum()
    }
}

/// What a base backup needs, and how far recovery from it gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Needs {
    /// The backup's id.
    pub backup: String,
    /// Why it cannot be used at all; then nothing else is known.
    pub problem: Option<String>,
    /// The segments from its start to its end.
    pub segments: Option<(SegmentName, SegmentName)>,
    /// Those of them that are not there: nothing can be recovered without them.
    pub missing: Vec<Gap>,
    /// How far recovery gets without a gap.
    pub reach: Option<Reach>,
    /// The same in sentences, along every timeline that it leads to: the audit's.
    pub told: Vec<String>,
}

/// How far recovery from a backup gets.
#[derive(Debug, Clone, PartialEq)]
pub struct Reach {
    /// Along the newest timeline that it leads to.
    pub timeline: TimelineId,
    /// To there.
    pub lsn: Lsn,
    /// The last commit before that, as far as segments were read.
    pub last_commit_at: Option<Timestamp>,
    /// Why not further; `None` where WAL ends there.
    pub why: Option<String>,
}

impl Needs {
    /// Whether recovery from it comes to where its data is consistent.
    #[must_use]
    pub fn is_recoverable(&self) -> bool {
        self.problem.is_none() && self.missing.is_empty() && self.reach.is_some()
    }
}

/// Why no usable backup can use a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrphanKind {
    /// No recovery comes to it: WAL before it is missing or damaged.
    BehindGap,
    /// No usable backup leads to its timeline, or it forked off before.
    OffThePath,
    /// A `.partial` that recovery never asks for.
    Partial,
    /// A `.backup` file of a segment that is not there.
    BackupFile,
    /// A history file of a timeline without a segment.
    History,
}

/// Files that no usable backup can use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Why not.
    pub kind: OrphanKind,
    /// The first one's name.
    pub first: String,
    /// The last one's name; the first one's, where it is one.
    pub last: String,
    /// How many.
    pub files: u64,
}

impl Orphan {
    /// Why no usable backup can use it, in words.
    #[must_use]
    pub fn meaning(&self) -> &'static str {
        match self.kind {
            OrphanKind::BehindGap => {
                "No recovery from a base backup here comes to it: WAL before it is missing or damaged. With a good copy \
                 of that, it could be used."
            }
            OrphanKind::OffThePath => {
                "No base backup here leads to it: its timeline forked off, or was left, before the backups that could. \
                 With an older base backup it could be used."
            }
            OrphanKind::Partial => {
                "A server in recovery never asks for a .partial file. Its whole segment, or the next timeline's first \
                 one, has what it holds, or nothing has: the notes of “walback check” say which."
            }
            OrphanKind::BackupFile => {
                "It tells where a base backup began and ended, whose first segment is not in the archive."
            }
            OrphanKind::History => "It tells where a timeline forked off of which the archive has no segment.",
        }
    }
}

/// What no base backup needs any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unneeded {
    /// The first segment that the oldest usable backup needs.
    pub before: SegmentName,
    /// Whose it is.
    pub backup: String,
    /// Segments before that.
    pub segments: u64,
    /// What they take where they are not compressed.
    pub bytes: u64,
}

impl Unneeded {
    /// `segments before 0000… are not needed by any base backup: 12 segments, 192 MB`
    #[must_use]
    pub fn in_words(&self) -> String {
        let before = self.before;
        match self.segments {
            0 => format!("no segment before {before}: the oldest base backup needs everything that is here"),
            n => format!(
                "segments before {before} are not needed by any base backup: {}, {}",
                counted(n, "segment"),
                Bytes(self.bytes)
            ),
        }
    }
}

/// What an archive holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Every timeline, by number.
    pub timelines: Vec<Continuity>,
    /// What is wrong, the worst first: the errors and warnings of the audit.
    pub findings: Vec<ArchiveFinding>,
    /// What is good to know: its notes, without those on how far backups reach.
    pub notes: Vec<ArchiveFinding>,
    /// Every base backup, the newest first.
    pub backups: Vec<Needs>,
    /// What no usable backup can use, besides what is older than all of them.
    pub orphans: Vec<Orphan>,
    /// What is older than all of them; `None` where no backup can be used.
    pub unneeded: Option<Unneeded>,
    /// Whether every segment was read.
    pub complete: bool,
    /// How many segments there are.
    pub segments: u64,
}

impl Report {
    /// Of what an audit looks at.
    #[must_use]
    pub fn of(audit: &Audit<'_>) -> Report {
        let catalog = audit.catalog;
        let (findings, notes): (Vec<_>, Vec<_>) =
            audit.findings().into_iter().partition(|found| found.finding.severity > Severity::Note);
        let (reaches, notes): (Vec<_>, Vec<_>) =
            notes.into_iter().partition(|found| found.finding.code == "backup-reach");
        let reached = reached(audit);
        Report {
            timelines: catalog.timelines.iter().map(|timeline| continuity(audit, timeline)).collect(),
            findings,
            notes,
            backups: catalog.backups.iter().map(|backup| needs(audit, backup, &reaches)).collect(),
            orphans: orphans(audit, &reached),
            unneeded: unneeded(audit),
            complete: audit.overview.is_some_and(|overview| overview.complete),
            segments: catalog.segments.len() as u64,
        }
    }
}

/// The segment that holds the last byte before `lsn`.
fn number_before(lsn: Lsn, size: SegmentSize) -> u64 {
    size.number_of(Lsn(lsn.0.saturating_sub(1)))
}

fn continuity(audit: &Audit<'_>, timeline: &Timeline) -> Continuity {
    let size = audit.catalog.segment_size;
    let id = timeline.id;
    let rows = audit.overview.map(|overview| overview.segments.as_slice()).unwrap_or_default();
    let rows = rows.get(rows.partition_point(|row| row.timeline < id)..).unwrap_or_default();
    let rows = rows.get(..rows.partition_point(|row| row.timeline <= id)).unwrap_or_default();
    let is_read = |number: u64| {
        let found = rows.binary_search_by_key(&number, |row| row.number).ok();
        found.and_then(|place| rows.get(place)).is_some_and(|row| row.read)
    };
    let places = audit.overview.map(|overview| overview.damaged.as_slice()).unwrap_or_default();
    let damaged = places.iter().filter(|place| place.timeline == id).map(|place| place.number);
    let unfit = audit.unfit_segments().map(|unfit| unfit.name).filter(|name| name.timeline == id);
    let damaged: BTreeSet<u64> = damaged.chain(unfit.map(|name| name.number(size))).collect();
    let there = audit.catalog.segments_of(id).filter(|name| !damaged.contains(&name.number(size))).map(|name| {
        let number = name.number(size);
        let holding = match () {
            () if audit.catalog.partials.contains(name) => Holding::Partial,
            () if is_read(number) => Holding::Present,
            () => Holding::Unread,
        };
        (number, holding)
    });
    let mut known: Vec<(u64, Holding)> = there.chain(damaged.iter().map(|n| (*n, Holding::Damaged))).collect();
    known.sort_unstable();
    // What is missing between the fork and the first segment belongs to it, too.
    let begin = timeline.gaps.first().map(|gap| gap.first.number(size));
    Continuity {
        timeline: id,
        stretches: stretches(&known, begin),
        segments: timeline.segments,
        first: timeline.first_segment,
        last: timeline.last_segment,
        first_at: rows.iter().filter_map(|row| row.earliest).min(),
        last_at: rows.iter().filter_map(|row| row.latest).max(),
    }
}

/// Those of which the same is known, together; what lies between is missing.
fn stretches(known: &[(u64, Holding)], begin: Option<u64>) -> Vec<Stretch> {
    let mut found: Vec<Stretch> = Vec::new();
    let mut next = known.first().map_or(0, |(first, _)| begin.unwrap_or(*first).min(*first));
    for (number, holding) in known {
        if *number > next {
            found.push(Stretch { first: next, last: number - 1, holding: Holding::Missing });
        }
        match found.last_mut() {
            Some(last) if last.holding == *holding => last.last = *number,
            _ => found.push(Stretch { first: *number, last: *number, holding: *holding }),
        }
        next = number.saturating_add(1);
    }
    found
}

fn needs(audit: &Audit<'_>, backup: &Backup, reaches: &[ArchiveFinding]) -> Needs {
    let (catalog, size) = (audit.catalog, audit.catalog.segment_size);
    let of = |timeline: TimelineId, lsn: Lsn| SegmentName::new(timeline, number_before(lsn, size), size);
    let none = Needs {
        backup: backup.id.clone(),
        problem: backup.problems.first().cloned(),
        segments: None,
        missing: Vec::new(),
        reach: None,
        told: Vec::new(),
    };
    let (Some(timeline), Some(start)) = (backup.timeline, backup.start_lsn) else { return none };
    let stop = backup.stop_lsn.unwrap_or(start);
    let first = backup.start_wal.unwrap_or_else(|| SegmentName::new(timeline, size.number_of(start), size));
    let segments = Some((first, of(timeline, stop).max(first)));
    let newest = catalog.newest_reachable(backup).unwrap_or(timeline);
    let Some(path) = catalog.path_to(newest).filter(|_| backup.is_usable()) else {
        return Needs { segments, ..none };
    };
    let (lsn, why) = audit.end_of(backup, &path, start);
    let is_consistent = lsn >= stop && (lsn > start || why.is_none());
    let its = format!("the base backup {} can ", backup.id);
    let told = reaches.iter().map(|found| &found.finding.message).filter(|message| message.starts_with(&its));
    let last_commit_at = audit.last_commit_before(&path, lsn);
    Needs {
        segments,
        missing: catalog.missing(backup, &path, Some(stop)),
        reach: is_consistent.then_some(Reach { timeline: newest, lsn, last_commit_at, why }),
        told: told.cloned().collect(),
        ..none
    }
}

/// The numbers of segments, by timeline, that recovery from some usable backup comes to.
fn reached(audit: &Audit<'_>) -> BTreeSet<(TimelineId, u64, u64)> {
    let (catalog, size) = (audit.catalog, audit.catalog.segment_size);
    let paths: Vec<TimelinePath> =
        catalog.timelines.iter().filter_map(|timeline| catalog.path_to(timeline.id)).collect();
    let mut found = BTreeSet::new();
    for backup in catalog.usable_backups() {
        let Some(start) = backup.start_lsn else { continue };
        for path in paths.iter().filter(|path| catalog.leads_along(backup, path)) {
            let (end, why) = audit.end_of(backup, path, start);
            if end <= start && why.is_some() {
                continue;
            }
            for stretch in path.stretches() {
                let from = size.number_of(stretch.begin.max(start));
                let to = number_before(stretch.end.map_or(end, |leaves| leaves.min(end)), size);
                if from <= to && stretch.end.is_none_or(|leaves| leaves > start) {
                    found.insert((stretch.timeline, from, to));
                }
            }
        }
    }
    found
}

/// The first segment that any usable backup needs, and whose it is.
fn oldest(audit: &Audit<'_>) -> Option<(SegmentName, String)> {
    let size = audit.catalog.segment_size;
    let first = |backup: &Backup| {
        let timeline = backup.timeline?;
        let name = SegmentName::new(timeline, size.number_of(backup.start_lsn?), size);
        Some((backup.start_wal.unwrap_or(name), backup.id.clone()))
    };
    audit.catalog.usable_backups().filter_map(first).min_by_key(|(name, _)| name.number(size))
}

fn unneeded(audit: &Audit<'_>) -> Option<Unneeded> {
    let size = audit.catalog.segment_size;
    let (before, backup) = oldest(audit)?;
    let older = audit.catalog.segments.iter().filter(|name| name.number(size) < before.number(size));
    let segments = older.count() as u64;
    Some(Unneeded { before, backup, segments, bytes: segments.saturating_mul(size.bytes()) })
}

fn orphans(audit: &Audit<'_>, reached: &BTreeSet<(TimelineId, u64, u64)>) -> Vec<Orphan> {
    let (catalog, size) = (audit.catalog, audit.catalog.segment_size);
    let mut found: Vec<Orphan> = Vec::new();
    if let Some((oldest, _)) = oldest(audit) {
        let oldest = oldest.number(size);
        for timeline in &catalog.timelines {
            let ranges: Vec<_> = reached.iter().filter(|(id, ..)| *id == timeline.id).collect();
            let is_used = |number: u64| ranges.iter().any(|(_, from, to)| (*from..=*to).contains(&number));
            let mut before = None;
            for name in catalog.segments_of(timeline.id) {
                let number = name.number(size);
                if number < oldest || is_used(number) {
                    continue;
                }
                let goes_on = before.is_some_and(|before| before + 1 == number);
                before = Some(number);
                match found.last_mut().filter(|_| goes_on) {
                    Some(last) => (last.last, last.files) = (name.to_string(), last.files + 1),
                    None => found.push(one(kind_of(audit, *name), name.to_string())),
                }
            }
        }
    }
    let partials = audit.inspection.partials.iter().filter(|partial| !catalog.partials.contains(&partial.name));
    found.extend(partials.map(|partial| {
        let name = partial.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        one(OrphanKind::Partial, name)
    }));
    let alone = audit.inspection.backup_files.iter().filter(|(segment, _)| !catalog.segments.contains(segment));
    found.extend(alone.map(|(_, name)| one(OrphanKind::BackupFile, name.clone())));
    let bare = catalog.timelines.iter().filter(|timeline| {
        timeline.segments == 0 && timeline.damaged.is_empty() && catalog.histories.contains_key(&timeline.id)
    });
    found.extend(bare.map(|timeline| one(OrphanKind::History, ArchiveFile::History(timeline.id).to_string())));
    found
}

/// Whether a backup leads to it but for a gap, or none does.
fn kind_of(audit: &Audit<'_>, name: SegmentName) -> OrphanKind {
    let (catalog, size) = (audit.catalog, audit.catalog.segment_size);
    let Some(path) = catalog.path_to(name.timeline) else { return OrphanKind::OffThePath };
    let leads = |backup: &Backup| {
        let begins_before = backup.start_lsn.is_some_and(|start| size.number_of(start) <= name.number(size));
        begins_before && catalog.leads_along(backup, &path)
    };
    if catalog.usable_backups().any(leads) { OrphanKind::BehindGap } else { OrphanKind::OffThePath }
}

fn one(kind: OrphanKind, name: String) -> Orphan {
    Orphan { kind, first: name.clone(), last: name, files: 1 }
}

/// A base backup that there is none of is worth a word of its own.
#[must_use]
pub fn without_backups(report: &Report) -> Option<Finding> {
    report.backups.is_empty().then(|| {
        Finding::warning("no-backup", "there is no base backup here: WAL alone recovers nothing")
            .hint("name the directory of the base backups with --backups, or in the configuration")
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::inspection::{Inspection, Partial};
    use crate::catalog::overview::SegmentRows;
    use crate::catalog::{BackupKind, Catalog, Compression, Listing, Overview};
    use crate::core::{PgMajor, Zone};

    const SEGMENT: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(SEGMENT as u32).unwrap()
    }

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(timeline), number, size())
    }

    /// A backup that begins and ends in this segment of timeline 1.
    fn backup(name: &str, number: u64) -> Backup {
        let start = number * SEGMENT + 0x28;
        Backup {
            pg_version: Some(PgMajor(15)),
            segment_size: Some(size()),
            timeline: Some(TimelineId(1)),
            start_lsn: Some(Lsn(start)),
            start_wal: Some(segment(1, number)),
            stop_lsn: Some(Lsn(start + 0x100)),
            ..Backup::at(format!("/b/{name}"), BackupKind::Tar, Compression::None)
        }
    }

    /// Segments 1 to 9 of timeline 1 and 6 to 8 of timeline 2, which forked off in 6; without some.
    fn report(without: &[(u32, u64)], backups: Vec<Backup>, inspection: &Inspection) -> Report {
        let all = (1..=9).map(|number| (1, number)).chain((6..=8).map(|number| (2, number)));
        let there: Vec<(u32, u64)> = all.filter(|place| !without.contains(place)).collect();
        let catalog = Catalog::build(Listing {
            files: there.iter().map(|(id, n)| (ArchiveFile::Segment(segment(*id, *n)), SEGMENT)).collect(),
            histories: vec![(TimelineId(2), "1\t0/680000\tno reason\n".to_owned())],
            backups,
            segment_size: Some(size()),
            ..Listing::default()
        });
        let rows =
            there.iter().map(|(id, n)| SegmentRows { read: *n != 3, ..SegmentRows::unread(TimelineId(*id), *n) });
        let overview = Overview { segments: rows.collect(), ..Overview::default() };
        Report::of(&Audit { catalog: &catalog, inspection, overview: Some(&overview), zone: Zone::UTC })
    }

    fn plain(without: &[(u32, u64)], backups: Vec<Backup>) -> Report {
        report(without, backups, &Inspection::default())
    }

    fn orphaned(report: &Report) -> Vec<(OrphanKind, u64)> {
        report.orphans.iter().map(|orphan| (orphan.kind, orphan.files)).collect()
    }

    #[test]
    fn a_bar_says_of_every_segment_what_is_known() {
        use Holding::{Missing, Present, Unread};
        let found = plain(&[(1, 5), (1, 6)], vec![backup("one", 2)]);
        let holdings: Vec<_> = found.timelines[0].stretches.iter().map(|s| (s.first, s.last, s.holding)).collect();
        assert_eq!(holdings, [(1, 2, Present), (3, 3, Unread), (4, 4, Present), (5, 6, Missing), (7, 9, Present)]);
        assert_eq!(found.timelines[0].columns(9)[2..6], [Unread, Present, Missing, Missing]);
        assert_eq!(found.timelines[0].columns(3), [Unread, Missing, Present], "the worst is shown");
        assert_eq!(found.timelines[0].columns(18)[8..12], [Missing; 4]);
        assert_eq!((found.timelines[0].count(Missing), found.timelines[0].count(Present)), (2, 6));
        // Where a timeline lacks its first segment, it begins at its fork all the same.
        let found = plain(&[(2, 6)], vec![backup("one", 2)]);
        assert_eq!(found.timelines[1].columns(3), [Missing, Present, Present]);
    }

    #[test]
    fn what_is_older_than_every_backup_is_needed_by_none() {
        let found = plain(&[], vec![backup("early", 3), backup("late", 5)]);
        let unneeded = found.unneeded.unwrap();
        assert_eq!((unneeded.before, unneeded.backup.as_str()), (segment(1, 3), "early"));
        assert_eq!((unneeded.segments, unneeded.bytes), (2, 2 * SEGMENT));
        assert!(unneeded.in_words().ends_with("2 segments, 2 MB"), "{}", unneeded.in_words());
        assert_eq!(plain(&[], Vec::new()).unneeded, None, "nothing is judged without a backup");
        let none = plain(&[], vec![backup("first", 1)]).unneeded.unwrap();
        assert!(none.in_words().starts_with("no segment before"), "{}", none.in_words());
    }

    #[test]
    fn what_lies_behind_a_gap_of_every_backup_is_cut_off() {
        assert_eq!(orphaned(&plain(&[], vec![backup("one", 2)])), []);
        let found = plain(&[(1, 4)], vec![backup("one", 2)]);
        assert_eq!(orphaned(&found), [(OrphanKind::BehindGap, 5), (OrphanKind::BehindGap, 3)]);
        assert_eq!(found.orphans[0].first, segment(1, 5).to_string());
        assert_eq!(found.orphans[0].last, segment(1, 9).to_string());
        // A later backup can use it.
        assert_eq!(orphaned(&plain(&[(1, 4)], vec![backup("one", 2), backup("two", 5)])), []);
        // None leads to the branch that forked off before it.
        let found = plain(&[], vec![backup("late", 7)]);
        assert_eq!(orphaned(&found), [(OrphanKind::OffThePath, 2)], "what is older is retention's");
    }

    #[test]
    fn files_that_no_server_asks_for_are_orphans() {
        let partial = Partial {
            name: segment(1, 4),
            path: format!("/wal/{}.partial", segment(1, 4)).into(),
            end: None,
            commits: 0,
            last_commit_at: None,
        };
        let files = [2, 77].map(|number| (segment(1, number), format!("{}.00000028.backup", segment(1, number))));
        let inspection = Inspection { partials: vec![partial], backup_files: files.to_vec(), ..Inspection::default() };
        let found = report(&[(2, 6), (2, 7), (2, 8)], vec![backup("one", 2)], &inspection);
        let kinds: Vec<_> = found.orphans.iter().map(|orphan| (orphan.kind, orphan.first.as_str())).collect();
        let [partial, alone] = [format!("{}.partial", segment(1, 4)), format!("{}.00000028.backup", segment(1, 77))];
        assert_eq!(
            kinds,
            [
                (OrphanKind::Partial, partial.as_str()),
                (OrphanKind::BackupFile, alone.as_str()),
                (OrphanKind::History, "00000002.history"),
            ]
        );
    }

    #[test]
    fn a_backup_says_what_it_needs_and_how_far_it_leads() {
        let long = Backup { stop_lsn: Some(Lsn(4 * SEGMENT)), ..backup("long", 2) };
        let found = plain(&[(1, 3)], vec![long, backup("short", 4)]);
        let one = |id: &str| found.backups.iter().find(|needs| needs.backup == id).unwrap();
        assert_eq!(one("long").segments, Some((segment(1, 2), segment(1, 3))), "where it ends at a border, not behind");
        assert!(!one("long").is_recoverable() && one("long").missing[0].first == segment(1, 3));
        let reach = one("short").reach.as_ref().unwrap();
        assert_eq!((reach.timeline, reach.lsn, reach.why.as_ref()), (TimelineId(2), Lsn(9 * SEGMENT), None));
        assert_eq!(one("short").told.len(), 2, "along both timelines: {:?}", one("short").told);
        let broken = Backup { problems: vec!["it is cut off".to_owned()], ..backup("broken", 2) };
        let found = plain(&[], vec![broken]);
        assert_eq!((found.backups[0].problem.as_deref(), found.unneeded), (Some("it is cut off"), None));
    }

    proptest! {
        /// Columns and stretches agree with the segments counted one by one.
        #[test]
        fn every_column_shows_the_worst_that_lies_in_it(
            there in prop::collection::btree_map(0_u64..60, 0_usize..4, 1..40), columns in 1_usize..90,
        ) {
            let known: Vec<(u64, Holding)> = there.iter().map(|(number, kind)| (*number, Holding::ALL[*kind])).collect();
            let (first, last) = (known[0].0, known[known.len() - 1].0);
            let line = Continuity {
                timeline: TimelineId(1),
                stretches: stretches(&known, None),
                segments: 0,
                first: None,
                last: None,
                first_at: None,
                last_at: None,
            };
            let at = |number: u64| there.get(&number).map_or(Holding::Missing, |kind| Holding::ALL[*kind]);
            let all = last - first + 1;
            let start = |column: usize| first + (column as u64 * all) / columns as u64;
            let expected: Vec<Holding> = (0..columns)
                .map(|column| (start(column)..start(column + 1).max(start(column) + 1)).map(at).max().unwrap())
                .collect();
            prop_assert_eq!(line.columns(columns), expected);
            prop_assert_eq!(line.stretches.iter().map(|s| s.last - s.first + 1).sum::<u64>(), all);
            prop_assert!(line.stretches.windows(2).all(|two| two[0].last + 1 == two[1].first && two[0].holding != two[1].holding));
        }
    }
}
