//! What there is to recover from: base backups, timelines, WAL. Pure: it is made from listings, and reads nothing.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::{ArchiveFile, Lsn, SegmentName, SegmentSize, TimelineId, TimelinePath};
use crate::pgdata::backup_label::BackupHistory;
use crate::pgdata::history::History;

pub mod backup;
pub mod point;
pub mod timeline;

pub use backup::{Backup, BackupKind, Compression, Part, PartContents, Tablespace};
pub use point::{Point, PointKind};
pub use timeline::{Gap, Timeline};

/// What a source found, before anything is concluded from it.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Base backups as they describe themselves.
    pub backups: Vec<Backup>,
    /// The archives' files with their sizes in bytes.
    pub files: Vec<(ArchiveFile, u64)>,
    /// The contents of the archives' history files.
    pub histories: Vec<(TimelineId, String)>,
    /// The contents of the archives' `.backup` files, with their names.
    pub backup_histories: Vec<(String, String)>,
    /// The size of the cluster's segments, where a segment told.
    pub segment_size: Option<SegmentSize>,
    /// The cluster's identifier, where a segment told.
    pub system_identifier: Option<u64>,
    /// What could not be read, in words.
    pub problems: Vec<String>,
}

/// Everything that a source has.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    /// Base backups, the newest first.
    pub backups: Vec<Backup>,
    /// Timelines by number.
    pub timelines: Vec<Timeline>,
    /// Which cluster it all is of, where anything told.
    pub system_identifier: Option<u64>,
    /// The size of the cluster's segments.
    pub segment_size: SegmentSize,
    /// What could not be read, or does not belong here, in words.
    pub problems: Vec<String>,
    /// The whole segments that the archives have.
    pub segments: BTreeSet<SegmentName>,
    /// The history of every timeline that has one which parses.
    pub histories: BTreeMap<TimelineId, History>,
}

impl Catalog {
    /// Concludes from a listing what there is.
    #[must_use]
    pub fn build(listing: Listing) -> Catalog {
        let size = listing.segment_size.unwrap_or(SegmentSize::DEFAULT);
        let mut catalog = Catalog {
            backups: listing.backups,
            timelines: Vec::new(),
            system_identifier: listing.system_identifier,
            segment_size: size,
            problems: listing.problems,
            segments: BTreeSet::new(),
            histories: BTreeMap::new(),
        };
        let mut damaged: BTreeMap<TimelineId, Vec<String>> = BTreeMap::new();
        for (id, text) in &listing.histories {
            match History::parse(*id, text) {
                Ok(history) => {
                    catalog.histories.insert(*id, history);
                }
                Err(error) => {
                    let name = ArchiveFile::History(*id).to_string();
                    catalog.problems.push(format!("{name}: {error}"));
                    damaged.entry(*id).or_default().push(name);
                }
            }
        }
        for (file, bytes) in &listing.files {
            match file {
                ArchiveFile::Segment(name) if *bytes == size.bytes() && u64::from(name.seg) < size.per_log_id() => {
                    catalog.segments.insert(*name);
                }
                ArchiveFile::Segment(name) => damaged.entry(name.timeline).or_default().push(name.to_string()),
                _ => {}
            }
        }
        catalog.timelines = catalog.describe_timelines(&listing.files, damaged);
        catalog.complete_backups(&listing.backup_histories);
        catalog
    }

    fn describe_timelines(
        &self,
        files: &[(ArchiveFile, u64)],
        mut damaged: BTreeMap<TimelineId, Vec<String>>,
    ) -> Vec<Timeline> {
        let mut ids: BTreeSet<TimelineId> = self.histories.keys().chain(damaged.keys()).copied().collect();
        ids.extend(self.histories.values().flat_map(|h| h.path().stretches().to_vec()).map(|s| s.timeline));
        ids.extend(self.backups.iter().filter_map(|backup| backup.timeline));
        ids.extend(files.iter().map(|(file, _)| match file {
            ArchiveFile::Segment(name) | ArchiveFile::Partial(name) | ArchiveFile::BackupHistory(name, _) => {
                name.timeline
            }
            ArchiveFile::History(id) => *id,
        }));
        ids.into_iter()
            .map(|id| {
                let history = self.histories.get(&id);
                let forked_at_lsn = history.and_then(History::forked_at);
                let mine: Vec<SegmentName> = self.segments_of(id).copied().collect();
                Timeline {
                    id,
                    parent: history.and_then(History::parent),
                    forked_at_lsn,
                    reason: history.and_then(|h| h.reason().map(str::to_owned)),
                    first_segment: mine.first().copied(),
                    last_segment: mine.last().copied(),
                    segments: mine.len() as u64,
                    end_lsn: mine.last().map(|last| last.start(self.segment_size).plus(self.segment_size.bytes())),
                    first_commit_at: None,
                    last_commit_at: None,
                    gaps: self.gaps_within(id, &mine, forked_at_lsn),
                    damaged: damaged.remove(&id).unwrap_or_default(),
                }
            })
            .collect()
    }

    /// What is missing between the fork (or the first segment) and the last one.
    fn gaps_within(&self, id: TimelineId, present: &[SegmentName], forked_at: Option<Lsn>) -> Vec<Gap> {
        let numbers: BTreeSet<u64> = present.iter().map(|name| name.number(self.segment_size)).collect();
        let (Some(first), Some(last)) = (numbers.first(), numbers.last()) else { return Vec::new() };
        let begin = forked_at.map_or(*first, |lsn| self.segment_size.number_of(lsn).min(*first));
        absent(&numbers, begin, *last).into_iter().map(|(first, last)| self.gap(id, first, last)).collect()
    }

    fn gap(&self, timeline: TimelineId, first: u64, last: u64) -> Gap {
        let name = |number| SegmentName::new(timeline, number, self.segment_size);
        Gap { first: name(first), last: name(last), segments: last - first + 1 }
    }

    /// Adds to the backups what only the archive's `.backup` files say, names them apart, and sorts them.
    fn complete_backups(&mut self, backup_histories: &[(String, String)]) {
        for (name, text) in backup_histories {
            let history = match BackupHistory::parse(text) {
                Ok(history) => history,
                Err(error) => {
                    self.problems.push(format!("{name}: {error}"));
                    continue;
                }
            };
            for backup in &mut self.backups {
                let same = backup.start_lsn == Some(history.label.start_lsn)
                    && backup.start_wal.is_none_or(|segment| segment == history.label.start_segment);
                if same {
                    backup.stop_lsn = backup.stop_lsn.or(Some(history.stop_lsn));
                    backup.finished_at = backup.finished_at.or(history.stopped_at);
                }
            }
        }
        if let Some(ours) = self.system_identifier {
            for backup in &mut self.backups {
                if let Some(theirs) = backup.system_identifier.filter(|theirs| *theirs != ours) {
                    backup.problems.push(format!(
                        "it is of another cluster: its system identifier is {theirs}, the WAL archive's is {ours}"
                    ));
                }
            }
        }
        name_apart(&mut self.backups);
        self.backups.sort_by(|a, b| {
            (b.started_at, b.start_lsn).cmp(&(a.started_at, a.start_lsn)).then_with(|| a.id.cmp(&b.id))
        });
    }

    /// The whole segments of one timeline, in order.
    pub fn segments_of(&self, timeline: TimelineId) -> impl DoubleEndedIterator<Item = &SegmentName> {
        let bound = |log, seg| SegmentName { timeline, log, seg };
        self.segments.range(bound(0, 0)..=bound(u32::MAX, u32::MAX))
    }

    /// The way to a timeline through its history; `None` where the archive has no history that leads there.
    #[must_use]
    pub fn path_to(&self, timeline: TimelineId) -> Option<TimelinePath> {
        match self.histories.get(&timeline) {
            Some(history) => Some(history.path()),
            None => (timeline == TimelineId::FIRST).then(|| TimelinePath::new(&[], timeline)),
        }
    }

    /// The backup with this id.
    #[must_use]
    pub fn backup(&self, id: &str) -> Option<&Backup> {
        self.backups.iter().find(|backup| backup.id == id)
    }

    /// The backups that can be used, as far as can be seen, the newest first.
    pub fn usable_backups(&self) -> impl Iterator<Item = &Backup> {
        self.backups.iter().filter(|backup| backup.is_usable())
    }

    /// Whether recovery from `backup` can follow `path`: it was taken on the path, before the path left its timeline.
    #[must_use]
    pub fn leads_along(&self, backup: &Backup, path: &TimelinePath) -> bool {
        let (Some(timeline), Some(start)) = (backup.timeline, backup.start_lsn) else { return false };
        let stop = backup.stop_lsn.unwrap_or(start);
        path.timeline_at(start) == Some(timeline)
            && path.end_of(timeline).is_some_and(|end| end.is_none_or(|end| stop <= end))
    }

    /// The newest timeline that recovery from `backup` can follow. Unlike the server's own "latest" this is never a
    /// branch that forked off before the backup ended.
    #[must_use]
    pub fn newest_reachable(&self, backup: &Backup) -> Option<TimelineId> {
        let candidates = self.timelines.iter().rev().map(|timeline| timeline.id).chain(backup.timeline);
        candidates.into_iter().find(|id| self.path_to(*id).is_some_and(|path| self.leads_along(backup, &path)))
    }

    /// The number of the last segment on `path` that the archive has, be there gaps before it or not.
    #[must_use]
    pub fn last_number(&self, path: &TimelinePath) -> Option<u64> {
        let on_last = self.segments_of(path.last()).next_back().map(|name| name.number(self.segment_size));
        on_last.or_else(|| {
            // A timeline without a segment of its own ends where it forked off.
            let begin = path.stretches().last().filter(|stretch| stretch.begin != Lsn::INVALID)?.begin;
            Some(self.segment_size.number_of(begin))
        })
    }

    /// The segments that recovery from `backup` along `path` needs up to `until` (or to the end of the archive), and
    /// that neither the archive nor the backup itself has.
    #[must_use]
    pub fn missing(&self, backup: &Backup, path: &TimelinePath, until: Option<Lsn>) -> Vec<Gap> {
        let Some(start) = backup.start_lsn else { return Vec::new() };
        let first = self.segment_size.number_of(start);
        let stop = backup.stop_lsn.map_or(first, |lsn| self.number_before(lsn));
        let last = match until {
            Some(lsn) => self.number_before(lsn),
            None => self.last_number(path).unwrap_or(stop),
        };
        let last = last.max(stop);
        let counts = |name: &&SegmentName| {
            let number = name.number(self.segment_size);
            (first..=last).contains(&number) && path.owners_of(number, self.segment_size).contains(&name.timeline)
        };
        let present = self.segments.iter().chain(&backup.own_wal).filter(counts);
        let numbers = present.map(|name| name.number(self.segment_size)).collect();
        let owner = |number: u64| path.owners_of(number, self.segment_size).first().copied().unwrap_or(path.last());
        absent(&numbers, first, last).into_iter().map(|(first, last)| self.gap(owner(first), first, last)).collect()
    }

    /// The segment that holds the last byte before `lsn`: where WAL ends exactly at a border, the next is not needed.
    fn number_before(&self, lsn: Lsn) -> u64 {
        self.segment_size.number_of(Lsn(lsn.0.saturating_sub(1)))
    }
}

/// The stretches from `first` to `last` that are not in `numbers`; the work grows with what is there, not with what
/// is missing, so that one odd file name cannot make it endless.
fn absent(numbers: &BTreeSet<u64>, first: u64, last: u64) -> Vec<(u64, u64)> {
    let mut stretches = Vec::new();
    let mut next = first;
    if first > last {
        return stretches;
    }
    for &number in numbers.range(first..=last) {
        if number > next {
            stretches.push((next, number - 1));
        }
        next = number + 1;
    }
    if next <= last {
        stretches.push((next, last));
    }
    stretches
}

/// Gives every backup an id of its own: the name of its directory, with as many parents as that takes.
fn name_apart(backups: &mut [Backup]) {
    let names = |backup: &Backup, depth: usize| {
        let parts: Vec<String> =
            backup.location.components().map(|part| part.as_os_str().to_string_lossy().into_owned()).collect();
        parts.get(parts.len().saturating_sub(depth)..).unwrap_or(&parts).join("/")
    };
    let deepest = backups.iter().map(|backup| backup.location.components().count()).max().unwrap_or(1);
    for depth in 1..=deepest {
        let ids: Vec<String> = backups.iter().map(|backup| names(backup, depth)).collect();
        for (i, backup) in backups.iter_mut().enumerate() {
            let alone = ids.iter().filter(|id| **id == ids[i]).count() == 1;
            if backup.id.is_empty() && (alone || depth == deepest) {
                backup.id.clone_from(&ids[i]);
            }
        }
    }
}
