//! What there is to recover from: base backups, timelines, WAL. Pure: it is made from listings, and reads nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::core::{ArchiveFile, Lsn, SegmentName, SegmentSize, TimelineId, TimelinePath};
use crate::pgdata::backup_label::BackupHistory;
use crate::pgdata::history::History;

pub mod asked;
pub mod backup;
pub mod backup_files;
pub mod chain;
pub mod compression;
mod destroyed;
pub mod found;
pub mod inspection;
pub mod layout;
pub mod names;
pub mod overview;
pub mod point;
pub mod suspect;
pub mod timeline;

pub use asked::Asked;
pub use backup::{Backup, BackupKind, Part, PartContents, Tablespace};
pub use backup_files::BackupFiles;
pub use chain::IncrementalFrom;
pub use compression::Compression;
pub use found::{Found, FoundArchive, FoundBackup, FoundSource};
pub use layout::{Folder, Layout, Layouts};
pub use names::{RelationName, RelationNames, is_of_users};
pub use overview::{Overview, OverviewBuilder};
pub use point::{Point, PointKind};
pub use suspect::{Suspect, SuspectKind, SuspectRelation};
pub use timeline::{Gap, LeftBehind, Timeline};

/// What a source found, before anything is concluded from it.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// Base backups as they describe themselves.
    pub backups: Vec<Backup>,
    /// The archives' files with their sizes in bytes.
    pub files: Vec<(ArchiveFile, u64)>,
    /// The segments that are compressed, and how.
    pub compressed: Vec<(SegmentName, Compression)>,
    /// The `.partial` files that are compressed, by their segments, and how.
    pub compressed_partials: Vec<(SegmentName, Compression)>,
    /// How history files are compressed, as far as they are: a server in recovery asks for those too.
    pub compressed_histories: BTreeSet<Compression>,
    /// Where in the archives' directories their files lie.
    pub layouts: Layouts,
    /// How files are compressed whose names do not say so.
    pub unmarked: BTreeSet<Compression>,
    /// Segments that somebody was writing while it was looked: nothing is wrong with them, and they are not there yet.
    pub growing: Vec<SegmentName>,
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
    /// What lies between the backups and is none.
    pub left_alone: Vec<LeftAlone>,
    /// What commands were asked for.
    pub asked: Vec<Asked>,
}

/// A file or directory that was looked at and taken for nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LeftAlone {
    /// Where it lies.
    pub path: PathBuf,
    /// Why it was taken for nothing: a few words that can follow its name and a colon.
    pub why: String,
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
    /// What lies between the backups and is none, sorted.
    pub left_alone: Vec<LeftAlone>,
    /// What commands were asked for, to find out what they have.
    pub asked: Vec<Asked>,
    /// The whole segments that the archives have; of compressed ones it is not known before they are read whether they
    /// are whole.
    pub segments: BTreeSet<SegmentName>,
    /// Those of them that are there as `.partial` only: the last one of a timeline, as `pg_receivewal` writes it and a
    /// promotion leaves it. A server never asks for it by that name.
    pub partials: BTreeSet<SegmentName>,
    /// Files with a segment's name and another size: the server stops at them, as if somebody had cut them off.
    pub cut_off: BTreeSet<SegmentName>,
    /// Files that somebody was writing while it was looked, and that are not whole yet.
    pub growing: BTreeSet<SegmentName>,
    /// How segments and history files are compressed, as far as they are.
    pub compressions: BTreeSet<Compression>,
    /// How those are compressed whose names do not say so.
    pub unmarked: BTreeSet<Compression>,
    /// Where in the archives' directories their files lie.
    pub layouts: Layouts,
    /// The history of every timeline that has one which parses.
    pub histories: BTreeMap<TimelineId, History>,
}

impl Catalog {
    /// Concludes from a listing what there is.
    #[must_use]
    pub fn build(mut listing: Listing) -> Catalog {
        listing.left_alone.sort();
        let size = listing.segment_size.unwrap_or(SegmentSize::DEFAULT);
        let mut catalog = Catalog {
            backups: listing.backups,
            timelines: Vec::new(),
            system_identifier: listing.system_identifier,
            segment_size: size,
            problems: listing.problems,
            left_alone: listing.left_alone,
            asked: listing.asked,
            segments: BTreeSet::new(),
            partials: BTreeSet::new(),
            cut_off: BTreeSet::new(),
            growing: listing.growing.into_iter().collect(),
            compressions: listing.compressed_histories,
            unmarked: listing.unmarked,
            layouts: listing.layouts,
            histories: BTreeMap::new(),
        };
        let mut damaged: BTreeMap<TimelineId, Vec<String>> = BTreeMap::new();
        let mut broken = Vec::new();
        for (id, text) in &listing.histories {
            match History::parse(*id, text) {
                // An empty one was created and never written: it would say of a timeline that it has no past.
                Ok(history) if history.entries.is_empty() => broken.push((*id, "it names no timeline".to_owned())),
                Ok(history) => {
                    catalog.histories.insert(*id, history);
                }
                Err(error) => broken.push((*id, error.to_string())),
            }
        }
        for (id, why) in broken {
            let name = ArchiveFile::History(id).to_string();
            catalog.problems.push(format!("{name}: {why}"));
            // Another archive, or the same one in another form, may have it whole.
            if !catalog.histories.contains_key(&id) {
                damaged.entry(id).or_default().push(name);
            }
        }
        for (file, bytes) in &listing.files {
            match file {
                ArchiveFile::Segment(name) if *bytes == size.bytes() && u64::from(name.seg) < size.per_log_id() => {
                    catalog.segments.insert(*name);
                }
                ArchiveFile::Segment(name) => {
                    if u64::from(name.seg) < size.per_log_id() {
                        catalog.cut_off.insert(*name);
                    }
                    damaged.entry(name.timeline).or_default().push(name.to_string());
                }
                _ => {}
            }
        }
        for (name, compression) in &listing.compressed {
            if u64::from(name.seg) < size.per_log_id() {
                catalog.segments.insert(*name);
                catalog.compressions.insert(*compression);
            } else {
                damaged.entry(name.timeline).or_default().push(format!("{name}{}", compression.ending()));
            }
        }
        catalog.take_partials(&listing.files, &listing.compressed_partials);
        catalog.leave_out_replaced(&mut damaged);
        catalog.timelines = catalog.describe_timelines(&listing.files, damaged);
        catalog.complete_backups(&listing.backup_histories);
        chain::link(&mut catalog.backups);
        catalog
    }

    /// What is there in one place and broken in another is used from where it is whole.
    fn leave_out_replaced(&mut self, damaged: &mut BTreeMap<TimelineId, Vec<String>>) {
        let Catalog { segments, cut_off, growing, .. } = self;
        cut_off.retain(|name| !segments.contains(name));
        growing.retain(|name| !segments.contains(name) && !cut_off.contains(name));
        let is_whole = |name: &String| SegmentName::parse(name).is_some_and(|name| segments.contains(&name));
        damaged.values_mut().for_each(|names| names.retain(|name| !is_whole(name)));
    }

    /// Takes the last segment of a timeline from its `.partial`, where nothing else has it. How long a compressed one is,
    /// only reading all of it tells.
    fn take_partials(&mut self, files: &[(ArchiveFile, u64)], compressed: &[(SegmentName, Compression)]) {
        let size = self.segment_size;
        let plain = files.iter().filter_map(|(file, bytes)| match file {
            ArchiveFile::Partial(name) if *bytes == size.bytes() => Some(*name),
            _ => None,
        });
        let mut last: BTreeMap<TimelineId, SegmentName> = BTreeMap::new();
        for name in plain.chain(compressed.iter().map(|(name, _)| *name)) {
            if u64::from(name.seg) < size.per_log_id() {
                let newest = last.entry(name.timeline).or_insert(name);
                *newest = (*newest).max(name);
            }
        }
        last.retain(|timeline, name| self.segments_of(*timeline).next_back().is_none_or(|whole| whole < name));
        self.partials = last.into_values().collect();
        self.segments.extend(self.partials.iter().copied());
        let used = compressed.iter().filter(|(name, _)| self.partials.contains(name));
        self.compressions.extend(used.map(|(_, compression)| *compression));
    }

    /// The segments that recovery along `path` needs up to `until`, and that are there as `.partial` only.
    #[must_use]
    pub fn partials_on(&self, path: &TimelinePath, until: Lsn) -> BTreeSet<SegmentName> {
        let size = self.segment_size;
        let is_needed = |name: &&SegmentName| {
            let number = name.number(size);
            number <= self.number_before(until) && path.owners_of(number, size).first() == Some(&name.timeline)
        };
        self.partials.iter().filter(is_needed).copied().collect()
    }

    fn describe_timelines(
        &self,
        files: &[(ArchiveFile, u64)],
        mut damaged: BTreeMap<TimelineId, Vec<String>>,
    ) -> Vec<Timeline> {
        let mut ids: BTreeSet<TimelineId> = self.histories.keys().chain(damaged.keys()).copied().collect();
        ids.extend(self.histories.values().flat_map(|h| h.path().stretches().to_vec()).map(|s| s.timeline));
        ids.extend(self.backups.iter().filter_map(|backup| backup.timeline));
        // The compressed ones are not among the files.
        ids.extend(self.segments.iter().map(|name| name.timeline));
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
        self.gaps_between(id, &numbers, begin, *last)
    }

    /// The segments of a timeline from `first` to `last` that are not among those that are `there`, by number.
    #[must_use]
    pub fn gaps_between(&self, timeline: TimelineId, there: &BTreeSet<u64>, first: u64, last: u64) -> Vec<Gap> {
        absent(there, first, last).into_iter().map(|(first, last)| self.gap(timeline, first, last)).collect()
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
                // A standby's backup may start where one of the primary did, and ends elsewhere.
                let same = !backup.from_standby
                    && backup.start_lsn == Some(history.label.start_lsn)
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

    /// All backups in the order in which they are proposed: those of the newest timeline first, since backups are taken
    /// where production went on, and of each timeline those that ended last in WAL. What their labels say of the time is
    /// no measure: clocks are set.
    #[must_use]
    pub fn best_first(&self) -> Vec<&Backup> {
        let mut backups: Vec<&Backup> = self.backups.iter().collect();
        let place = |backup: &Backup| (backup.timeline, backup.stop_lsn.or(backup.start_lsn), backup.start_lsn);
        backups.sort_by_key(|backup| std::cmp::Reverse(place(backup)));
        backups
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

    /// The segments in which timelines fork off behind the start of `backup`, each with the archive's own files of that
    /// segment from the timelines before: recovery asks for the newest alone, which repeats what the older ones have
    /// before the fork.
    #[must_use]
    pub fn older_files(&self, backup: &Backup) -> BTreeMap<SegmentName, BTreeSet<SegmentName>> {
        let size = self.segment_size;
        let start = backup.start_lsn.unwrap_or(Lsn::INVALID);
        let mut older: BTreeMap<SegmentName, BTreeSet<SegmentName>> = BTreeMap::new();
        for path in self.timelines.iter().filter_map(|timeline| self.path_to(timeline.id)) {
            for stretch in path.stretches().iter().skip(1).filter(|stretch| stretch.begin > start) {
                let number = size.number_of(stretch.begin);
                let files = path.owners_of(number, size).into_iter().map(|owner| SegmentName::new(owner, number, size));
                let mut files = files.skip_while(|file| file.timeline != stretch.timeline);
                let Some(newest) = files.next() else { continue };
                let there: BTreeSet<SegmentName> = files.filter(|file| self.segments.contains(file)).collect();
                if !there.is_empty() {
                    older.entry(newest).or_default().extend(there);
                }
            }
        }
        older
    }

    /// The timelines that were left, and go on in the archive behind the fork all the same, one for each fork.
    pub fn left_behind(&self) -> impl Iterator<Item = LeftBehind> {
        let size = self.segment_size;
        self.timelines.iter().filter_map(move |child| {
            let (timeline, fork) = (child.parent?, child.forked_at_lsn?);
            let behind = self.segments_of(timeline).rev().take_while(|name| name.number(size) > size.number_of(fork));
            let segments = behind.count() as u64;
            (segments > 0).then_some(LeftBehind { timeline, child: child.id, fork, segments })
        })
    }

    /// The number of the last segment on `path` that the archive has, be there gaps before it or not.
    #[must_use]
    pub fn last_number(&self, path: &TimelinePath) -> Option<u64> {
        let on_last = self.segments_of(path.last()).next_back().map(|name| name.number(self.segment_size));
        on_last.or_else(|| {
            // A timeline without a segment of its own ends where it forked off.
            let begin = path.stretches().last().filter(|stretch| stretch.begin != Lsn::INVALID)?.begin;
            Some(self.number_before(begin))
        })
    }

    /// Where a file behind the last whole segment on `path` would end, if there is one that was cut off.
    #[must_use]
    pub fn end_of_cut_off(&self, path: &TimelinePath) -> Option<Lsn> {
        let size = self.segment_size;
        let last = self.cut_off.iter().rev().find(|name| name.timeline == path.last())?.number(size);
        let is_behind = self.last_number(path).is_none_or(|whole| whole < last);
        is_behind.then(|| size.start_of(last.saturating_add(1)))
    }

    /// Whether there are segments behind this one: then WAL does not end in it, it is broken there.
    #[must_use]
    pub fn goes_on_behind(&self, name: SegmentName, path: &TimelinePath) -> bool {
        self.last_number(path).is_some_and(|last| last > name.number(self.segment_size))
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
        // Where a timeline begins in a segment, the older one's file lacks what it wrote.
        let needed = |number: u64| {
            let end = self.segment_size.start_of(number.saturating_add(1)).min(until.unwrap_or(Lsn(u64::MAX)));
            path.timeline_at(Lsn(end.0.saturating_sub(1)))
        };
        let counts = |name: &&SegmentName| {
            let number = name.number(self.segment_size);
            (first..=last).contains(&number)
                && path.owners_of(number, self.segment_size).contains(&name.timeline)
                && needed(number).is_none_or(|needed| name.timeline >= needed)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{PgMajor, time::Timestamp};
    use proptest::prelude::*;

    const SEGMENT: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(SEGMENT as u32).unwrap()
    }

    fn segment(timeline: u32, number: u64) -> SegmentName {
        SegmentName::new(TimelineId(timeline), number, size())
    }

    pub(crate) fn backup(location: &str, start: u64, stop: u64) -> Backup {
        Backup {
            compression: Compression::Gzip,
            pg_version: Some(PgMajor(15)),
            system_identifier: Some(7),
            segment_size: Some(size()),
            timeline: Some(TimelineId(1)),
            start_lsn: Some(Lsn(start)),
            start_wal: Some(segment(1, start / SEGMENT)),
            stop_lsn: Some(Lsn(stop)),
            started_at: Timestamp::from_unix_seconds(start as i64),
            size_bytes: 1,
            unpacked_bytes: Some(2),
            manifest: true,
            ..Backup::at(location, BackupKind::Tar, Compression::Gzip)
        }
    }

    /// Timeline 1 with segments 2 to 9, timeline 2 forked off in segment 5, timeline 3 off 2 in segment 8.
    fn listing(without: &[(u32, u64)]) -> Listing {
        let all = (2..=9).map(|n| (1, n)).chain((5..=8).map(|n| (2, n))).chain((8..=10).map(|n| (3, n)));
        let there = all.filter(|name| !without.contains(name));
        Listing {
            files: there.map(|(tli, number)| (ArchiveFile::Segment(segment(tli, number)), SEGMENT)).collect(),
            histories: vec![
                (TimelineId(2), "1\t0/500100\tno recovery target specified\n".to_owned()),
                (TimelineId(3), "1\t0/500100\tx\n2\t0/800200\tat restore point \"a\"\n".to_owned()),
            ],
            segment_size: Some(size()),
            system_identifier: Some(7),
            ..Listing::default()
        }
    }

    #[test]
    fn what_is_compressed_is_of_a_timeline_too() {
        let catalog = Catalog::build(Listing {
            compressed: vec![(segment(1, 5), Compression::Gzip), (segment(1, 7), Compression::Gzip)],
            compressed_histories: BTreeSet::from([Compression::Zstd]),
            segment_size: Some(size()),
            ..Listing::default()
        });
        let known: Vec<_> = catalog.timelines.iter().map(|timeline| (timeline.id.0, timeline.segments)).collect();
        assert_eq!(known, [(1, 2)]);
        assert_eq!(catalog.timelines[0].gaps.len(), 1);
        assert_eq!(catalog.compressions, BTreeSet::from([Compression::Gzip, Compression::Zstd]));
    }

    #[test]
    fn the_last_segment_may_be_a_packed_partial() {
        let with = |segments: &[u64], partials: &[u64]| {
            let catalog = Catalog::build(Listing {
                compressed: segments.iter().map(|number| (segment(1, *number), Compression::Gzip)).collect(),
                compressed_partials: partials.iter().map(|number| (segment(1, *number), Compression::Xz)).collect(),
                segment_size: Some(size()),
                ..Listing::default()
            });
            (catalog.partials.iter().map(|name| name.number(size())).collect::<Vec<_>>(), catalog.compressions.len())
        };
        assert_eq!(with(&[5, 6], &[7]), (vec![7], 2));
        assert_eq!(with(&[5, 6], &[6]), (vec![], 1), "the whole segment is there too");
        assert_eq!(with(&[], &[6, 7]), (vec![7], 1));
    }

    #[test]
    fn timelines_have_their_forks_and_their_gaps() {
        let mut listing = listing(&[(1, 4), (1, 7), (1, 8), (2, 5)]);
        listing.files.push((ArchiveFile::Segment(segment(1, 11)), 4711));
        listing.files.push((ArchiveFile::Partial(segment(1, 10)), SEGMENT));
        let catalog = Catalog::build(listing);
        let gaps = |id: usize| catalog.timelines[id - 1].gaps.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(
            gaps(1),
            ["000000010000000000000004", "000000010000000000000007 to 000000010000000000000008 (2 segments)"]
        );
        assert_eq!(gaps(2), ["000000020000000000000005"], "the segment of the fork belongs to it");
        assert_eq!(catalog.timelines[0].damaged, ["00000001000000000000000B"], "of the wrong size");
        let third = &catalog.timelines[2];
        assert_eq!((third.parent, third.forked_at_lsn), (Some(TimelineId(2)), Some(Lsn(0x80_0200))));
        assert_eq!(third.reason.as_deref().map(str::trim), Some("at restore point \"a\""));
    }

    #[test]
    fn older_files_of_a_fork_are_those_that_the_archive_has() {
        let older = |without: &[(u32, u64)], backup: &Backup| -> Vec<(SegmentName, Vec<SegmentName>)> {
            let files = Catalog::build(listing(without)).older_files(backup);
            files.into_iter().map(|(newest, older)| (newest, older.into_iter().collect())).collect()
        };
        let early = backup("/b/early", 0x20_0028, 0x20_0100);
        let second = (segment(2, 5), vec![segment(1, 5)]);
        let third = (segment(3, 8), vec![segment(2, 8)]);
        let behind_the_first_fork = backup("/b/late", 0x60_0028, 0x60_0100);
        assert_eq!(older(&[], &early), [second, third.clone()]);
        assert_eq!(older(&[(1, 5)], &early), older(&[], &behind_the_first_fork));
        assert_eq!(older(&[], &behind_the_first_fork), [third]);
    }

    #[test]
    fn a_backup_leads_only_along_the_path_that_it_was_taken_on() {
        let catalog = Catalog::build(listing(&[]));
        let path = |id| catalog.path_to(TimelineId(id)).unwrap();
        let early = backup("/b/early", 0x20_0028, 0x20_0100);
        let late = backup("/b/late", 0x60_0028, 0x60_0100);
        assert!(catalog.leads_along(&early, &path(3)) && catalog.leads_along(&early, &path(1)));
        assert!(!catalog.leads_along(&late, &path(2)) && catalog.leads_along(&late, &path(1)));
        assert_eq!(catalog.newest_reachable(&early), Some(TimelineId(3)));
        assert_eq!(
            catalog.newest_reachable(&late),
            Some(TimelineId(1)),
            "a branch that forked off before is not for it"
        );
        assert_eq!(catalog.path_to(TimelineId(9)), None);
    }

    #[test]
    fn what_is_missing_is_looked_for_on_the_path_alone() {
        let start = backup("/b/x", 0x20_0028, 0x20_0100);
        let missing = |without: &[(u32, u64)], timeline, until| {
            let catalog = Catalog::build(listing(without));
            let path = catalog.path_to(TimelineId(timeline)).unwrap();
            catalog.missing(&start, &path, until).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        assert!(missing(&[], 3, None).is_empty());
        assert!(missing(&[(1, 7)], 3, None).is_empty(), "timeline 1 was left before");
        assert_eq!(
            missing(&[(2, 7)], 3, None),
            ["000000020000000000000007"],
            "timeline 1's segment 7 does not stand in"
        );
        assert!(missing(&[(2, 7)], 3, Some(Lsn(0x70_0000))).is_empty(), "up to its start it is not needed");
        assert_eq!(
            missing(&[(1, 3), (1, 4)], 1, None),
            ["000000010000000000000003 to 000000010000000000000004 (2 segments)"]
        );
        assert_eq!(missing(&[(1, 2)], 1, Some(Lsn(0x20_0100))), ["000000010000000000000002"]);
    }

    #[test]
    fn what_a_backup_brings_along_is_not_missing() {
        let catalog = Catalog::build(listing(&[(1, 2)]));
        let path = catalog.path_to(TimelineId(1)).unwrap();
        let with_wal = Backup { own_wal: vec![segment(1, 2)], ..backup("/b/x", 0x20_0028, 0x20_0100) };
        assert!(catalog.missing(&with_wal, &path, None).is_empty());
    }

    #[test]
    fn one_odd_file_name_does_not_make_it_endless() {
        let mut listing = listing(&[]);
        let far = SegmentName { timeline: TimelineId(1), log: u32::MAX, seg: 0xFFF };
        listing.files.push((ArchiveFile::Segment(far), SEGMENT));
        listing.files.push((ArchiveFile::Segment(SegmentName { seg: u32::MAX, ..far }), SEGMENT));
        let catalog = Catalog::build(listing);
        assert_eq!(catalog.timelines[0].gaps.len(), 1);
        assert_eq!(catalog.timelines[0].damaged, ["00000001FFFFFFFFFFFFFFFF"], "no cluster has such a segment");
    }

    #[test]
    fn backups_are_named_apart_completed_and_sorted() {
        let mut listing = listing(&[]);
        listing.backups = ["/a/monday/base", "/b/monday/base", "/b/tuesday"]
            .iter()
            .enumerate()
            .map(|(i, location)| Backup { stop_lsn: None, ..backup(location, 0x20_0028 + i as u64 * SEGMENT, 0) })
            .collect();
        listing.backups[2].system_identifier = Some(8);
        listing.backup_histories.push((
            "x.backup".to_owned(),
            "START WAL LOCATION: 0/200028 (file 000000010000000000000002)\n\
             STOP WAL LOCATION: 0/200100 (file 000000010000000000000002)\n\
             CHECKPOINT LOCATION: 0/200060\nBACKUP METHOD: streamed\nBACKUP FROM: primary\n\
             START TIME: 2026-11-20 20:00:00 UTC\nLABEL: x\nSTART TIMELINE: 1\n\
             STOP TIME: 2026-11-20 20:00:05 UTC\nSTOP TIMELINE: 1\n"
                .to_owned(),
        ));
        let catalog = Catalog::build(listing);
        let ids: Vec<_> = catalog.backups.iter().map(|backup| backup.id.as_str()).collect();
        assert_eq!(ids, ["tuesday", "b/monday/base", "a/monday/base"], "the newest first");
        let completed = catalog.backup("a/monday/base").unwrap();
        assert_eq!(completed.stop_lsn, Some(Lsn(0x20_0100)));
        assert_eq!(completed.finished_at.map(|at| at.to_string()).as_deref(), Some("2026-11-20T20:00:05.000000Z"));
        assert!(catalog.backup("tuesday").unwrap().problems[0].contains("another cluster"));
    }

    proptest! {
        #[test]
        fn absent_stretches_are_what_is_not_there(numbers in prop::collection::btree_set(0u64..60, 0..40), first in 0u64..60, last in 0u64..60) {
            let stretches = absent(&numbers, first, last);
            let listed: Vec<u64> = stretches.iter().flat_map(|(a, b)| *a..=*b).collect();
            let expected: Vec<u64> = (first..=last).filter(|n| !numbers.contains(n)).collect();
            prop_assert_eq!(listed, expected);
            prop_assert!(stretches.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0), "as long as they can be");
        }
    }
}
