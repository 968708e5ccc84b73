//! What is missing or damaged in an archive and its backups, and what that means for recovery. Pure: it was looked at
//! elsewhere.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use serde::Serialize;

use crate::catalog::compression::{archived, may_be_short};
use crate::catalog::inspection::{Flaw, Growing, Inspection, Partial, STILL_WRITTEN, Unfit};
use crate::catalog::overview::{DamagedPlace, Extent};
use crate::catalog::{Asked, Backup, Catalog, Compression, Gap, LeftAlone, Overview, PointKind};
use crate::core::progress::counted;
use crate::core::{ArchiveFile, Lsn, TimelineId, TimelinePath, Zone};

use super::{Finding, Severity};

/// What the system says where a file may not be read.
const NOT_ALLOWED: &str = "Permission denied";

/// So many of a kind are named in one sentence.
const NAMED: usize = 4;

/// Something that is wrong with an archive or a backup, or good to know of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ArchiveFinding {
    /// What, how bad, and what to do.
    #[serde(flatten)]
    pub finding: Finding,
    /// The timeline that it is about.
    pub timeline: Option<TimelineId>,
    /// The file, by name.
    pub file: Option<String>,
    /// Where in WAL.
    pub lsn: Option<Lsn>,
}

/// What an audit looks at.
#[derive(Debug, Clone, Copy)]
pub struct Audit<'a> {
    /// What there is, by names and sizes.
    pub catalog: &'a Catalog,
    /// What names, sizes and beginnings tell of single files.
    pub inspection: &'a Inspection,
    /// What lies in the segments; `None` where they were not read.
    pub overview: Option<&'a Overview>,
    /// For saying times.
    pub zone: Zone,
}

impl Audit<'_> {
    /// What was found out by asking, since there is no list of it.
    fn asked(&self) -> Vec<ArchiveFinding> {
        let note = |asked: &Asked| ArchiveFinding {
            finding: Finding::note("asked-one-by-one", asked.in_words()),
            timeline: Some(asked.timeline),
            file: None,
            lsn: None,
        };
        self.catalog.asked.iter().map(note).collect()
    }

    /// Everything that was found, the worst first, then by timeline and position.
    #[must_use]
    pub fn findings(&self) -> Vec<ArchiveFinding> {
        let mut found = Vec::new();
        found.extend(self.inspection.unfit.iter().map(|unfit| self.unfit(unfit)));
        found.extend(self.damaged());
        for timeline in &self.catalog.timelines {
            let gaps = timeline.gaps.iter().filter(|gap| !self.is_told(gap));
            found.extend(gaps.map(|gap| self.gap(timeline.id, gap)));
            found.extend(self.gaps_before_unfit(timeline.id).iter().map(|gap| self.gap(timeline.id, gap)));
        }
        found.extend(self.histories());
        found.extend(self.backups());
        found.extend(self.inspection.partials.iter().map(|partial| self.partial(partial)));
        found.extend(self.inspection.growing.iter().map(|growing| self.growing(growing)));
        found.extend(self.files());
        found.extend(self.asked());
        found.extend(self.problems());
        found.sort_by_key(|found| (Reverse(found.finding.severity), found.timeline, found.lsn));
        found
    }

    fn unfit(&self, unfit: &Unfit) -> ArchiveFinding {
        let size = self.catalog.segment_size;
        let (timeline, at) = (unfit.name.timeline, unfit.name.start(size));
        let what = format!("{}: {}", unfit.path.display(), unfit.flaw);
        let finding = if self.is_replaced(unfit) {
            Finding::warning("segment-unusable", format!("{what}; there is a good copy, and that is used"))
                .hint("remove it, or put the good copy in its place")
        } else {
            let means = self.meaning(timeline, at);
            let text = format!("{what}; {}", means.text);
            // What is not read by anybody does no harm.
            let finding = match (&unfit.flaw, means.harms) {
                (Flaw::Foreign { .. }, true) => Finding::error("segment-foreign", text),
                (Flaw::Foreign { .. }, false) => Finding::warning("segment-foreign", text),
                (_, true) => Finding::error("segment-unusable", text),
                (_, false) => Finding::warning("segment-unusable", text),
            };
            means.hinted(finding)
        };
        ArchiveFinding { finding, timeline: Some(timeline), file: Some(unfit.name.to_string()), lsn: Some(at) }
    }

    /// What is missing between a timeline's last whole segment and files behind it that are none: WAL went on there.
    fn gaps_before_unfit(&self, timeline: TimelineId) -> Vec<Gap> {
        let size = self.catalog.segment_size;
        let Some(last) = self.catalog.segments_of(timeline).next_back().map(|name| name.number(size)) else {
            return Vec::new();
        };
        let unfit = self.unfit_segments().filter(|unfit| unfit.name.timeline == timeline);
        let behind: BTreeSet<u64> =
            unfit.map(|unfit| unfit.name.number(size)).filter(|number| *number > last).collect();
        let Some(furthest) = behind.last() else { return Vec::new() };
        self.catalog.gaps_between(timeline, &behind, last.saturating_add(1), *furthest)
    }

    /// The files with a segment's name that are none, and for which there is no other copy.
    pub(super) fn unfit_segments(&self) -> impl Iterator<Item = &Unfit> {
        self.inspection.unfit.iter().filter(|unfit| !self.is_replaced(unfit))
    }

    /// Whether there is another copy of the segment, which was read, or which is whole as far as its size tells.
    pub(super) fn is_replaced(&self, unfit: &Unfit) -> bool {
        let is_harmed = |overview: &Overview| {
            let number = unfit.name.number(self.catalog.segment_size);
            overview.damaged.iter().any(|place| place.timeline == unfit.name.timeline && place.number == number)
        };
        // Such a file is not taken for a segment when the archive is listed: what was listed is another one.
        let is_no_segment = matches!(unfit.flaw, Flaw::Size { .. } | Flaw::Empty | Flaw::DeadLink);
        let is_whole = self.overview.map_or(is_no_segment, |overview| !is_harmed(overview));
        is_whole && self.catalog.segments.contains(&unfit.name)
    }

    /// What was found when segments were read, beside what their beginnings told.
    fn damaged(&self) -> Vec<ArchiveFinding> {
        let places = self.overview.map(|overview| overview.damaged.as_slice()).unwrap_or_default();
        let told =
            |place: &DamagedPlace| self.inspection.unfit.iter().any(|unfit| unfit.name.to_string() == place.file);
        let describe = |place: &DamagedPlace| {
            let (timeline, at) = (place.timeline, place.damage.at);
            let means = self.meaning(timeline, at);
            let offset = at.bytes_since(self.catalog.segment_size.start_of(place.number));
            if place.damage.reason.ends_with(STILL_WRITTEN) {
                return still_written(timeline, place.file.clone(), at, format!("{}: {STILL_WRITTEN}", place.file));
            }
            let where_ = match place.extent {
                Extent::Whole => format!("segment {} cannot be used", place.file),
                Extent::Part => format!("segment {} is damaged behind {at} (offset {offset})", place.file),
                Extent::Border => format!("segment {} does not go on where the one before it ends", place.file),
            };
            let goes_on = match place.damage.resumed {
                Some(lsn) => format!("; what follows from {lsn} on can be read, but not be recovered"),
                None => String::new(),
            };
            let text = format!("{where_}: {}{goes_on}; {}", place.damage.reason, means.text);
            let finding = match (place.extent, means.harms) {
                (Extent::Border, true) => Finding::error("wal-discontinuous", text),
                (Extent::Border, false) => Finding::warning("wal-discontinuous", text),
                (Extent::Whole | Extent::Part, true) => Finding::error("wal-damaged", text),
                (Extent::Whole | Extent::Part, false) => Finding::warning("wal-damaged", text),
            };
            let (file, lsn) = (Some(place.file.clone()), Some(at));
            ArchiveFinding { finding: means.hinted(finding), timeline: Some(timeline), file, lsn }
        };
        places.iter().filter(|place| !told(place)).map(describe).collect()
    }

    fn gap(&self, timeline: TimelineId, gap: &Gap) -> ArchiveFinding {
        let at = gap.first.start(self.catalog.segment_size);
        let means = self.meaning(timeline, at);
        let text = format!("timeline {timeline} lacks {gap}; {}", means.text);
        let finding =
            if means.harms { Finding::error("wal-missing", text) } else { Finding::warning("wal-missing", text) };
        let file = Some(gap.first.to_string());
        ArchiveFinding { finding: means.hinted(finding), timeline: Some(timeline), file, lsn: Some(at) }
    }

    /// Whether there is a file for every segment that is missing, of which more is said.
    fn is_told(&self, gap: &Gap) -> bool {
        let within = self.inspection.unfit.iter().filter(|unfit| (gap.first..=gap.last).contains(&unfit.name));
        within.map(|unfit| unfit.name).collect::<BTreeSet<_>>().len() as u64 == gap.segments
    }

    /// What it means that WAL of a timeline cannot be read at `at`.
    fn meaning(&self, timeline: TimelineId, at: Lsn) -> Meaning {
        let size = self.catalog.segment_size;
        let Some(path) = self.catalog.path_to(timeline) else {
            return Meaning {
                harms: true,
                text: format!("nothing behind {at} on timeline {timeline} can be recovered"),
            };
        };
        let leads = |backup: &&Backup| self.catalog.leads_along(backup, &path);
        let start = |backup: &Backup| backup.start_lsn.unwrap_or(Lsn::INVALID);
        let stop = |backup: &Backup| backup.stop_lsn.unwrap_or(start(backup));
        let before: Vec<&Backup> = self
            .catalog
            .usable_backups()
            .filter(leads)
            .filter(|b| size.number_of(start(b)) <= size.number_of(at))
            .collect();
        let behind =
            self.catalog.usable_backups().filter(leads).filter(|b| size.number_of(start(b)) > size.number_of(at));
        let next = behind.min_by_key(|backup| start(backup));
        let until = next.map(|backup| size.number_of(stop(backup)));
        let lost = self.lost(timeline, size.number_of(at), until);
        let up_to = next.map(|backup| format!(" up to the base backup {}", backup.id)).unwrap_or_default();
        let lost = match lost {
            Some(0) => format!("no commit of timeline {timeline} that is known lies in the segments behind it{up_to}"),
            Some(commits) => format!(
                "the {} of timeline {timeline} in the segments behind it{up_to} cannot be reached unless a good copy is found",
                counted(commits, "commit")
            ),
            None => {
                format!("what timeline {timeline} has behind it{up_to} cannot be reached unless a good copy is found")
            }
        };
        match (before.as_slice(), self.catalog.backups.is_empty()) {
            ([], true) => Meaning {
                harms: true,
                text: format!("recovery from any base backup before {at} ends there, and {lost}"),
            },
            ([], false) => Meaning { harms: false, text: "no base backup here needs it".to_owned() },
            (backups, _) => {
                let names: Vec<&str> = backups.iter().map(|backup| backup.id.as_str()).collect();
                Meaning {
                    harms: true,
                    text: format!("recovery from {} ends at {at} at the latest, and {lost}", some_of(&names)),
                }
            }
        }
    }

    /// Commits in the segments behind this one, where the segments were read.
    fn lost(&self, timeline: TimelineId, number: u64, until: Option<u64>) -> Option<u64> {
        let segments = self.overview?.segments.iter().filter(|segment| segment.timeline == timeline);
        let behind =
            segments.filter(|segment| segment.number > number && until.is_none_or(|until| segment.number < until));
        Some(behind.map(|segment| u64::from(segment.commits)).sum())
    }

    fn histories(&self) -> Vec<ArchiveFinding> {
        let describe = |id: TimelineId, broken: bool| {
            let name = ArchiveFile::History(id).to_string();
            let finding = if broken {
                Finding::error(
                    "history-broken",
                    format!(
                        "the history file of timeline {id} cannot be read as one: {name}; recovery cannot follow timeline {id}"
                    ),
                )
            } else {
                Finding::error(
                    "history-missing",
                    format!(
                        "there is WAL of timeline {id}, but not its history file {name}: recovery cannot follow timeline {id}"
                    ),
                )
            };
            let hint = "look for it in another archive, or in the pg_wal of a server on that timeline";
            ArchiveFinding { finding: finding.hint(hint), timeline: Some(id), file: Some(name), lsn: None }
        };
        let unknown =
            self.catalog.timelines.iter().filter(|timeline| {
                timeline.id != TimelineId::FIRST && !self.catalog.histories.contains_key(&timeline.id)
            });
        unknown
            .map(|timeline| {
                let name = ArchiveFile::History(timeline.id).to_string();
                describe(timeline.id, timeline.damaged.contains(&name))
            })
            .collect()
    }

    fn backups(&self) -> Vec<ArchiveFinding> {
        let mut found = Vec::new();
        for backup in &self.catalog.backups {
            let of = |finding: Finding| ArchiveFinding {
                finding,
                timeline: backup.timeline,
                file: None,
                lsn: backup.start_lsn,
            };
            if backup.is_usable() {
                found.extend(self.reaches(backup).into_iter().map(of));
            }
            for problem in &backup.problems {
                let text = format!("the base backup {} cannot be used: {problem}", backup.id);
                let hint = match problem.contains(NOT_ALLOWED) {
                    true => "run walback as root, or as a user who may read it",
                    false => "take a new one, and keep the older ones until it is proved",
                };
                found.push(of(Finding::error("backup-broken", text).hint(hint)));
            }
        }
        if !self.catalog.backups.is_empty() && self.catalog.usable_backups().next().is_none() {
            let finding = Finding::error(
                "no-usable-backup",
                "there is no base backup that can be used: nothing can be recovered",
            )
            .hint("take one now");
            found.push(ArchiveFinding { finding, timeline: None, file: None, lsn: None });
        }
        found
    }

    /// How far recovery from a backup can go: along the newest timeline that it leads to, and along every other one that
    /// ends elsewhere. After a promotion that is the older one too, where that goes on.
    fn reaches(&self, backup: &Backup) -> Vec<Finding> {
        let newest = self.catalog.newest_reachable(backup).or(backup.timeline);
        let Some((newest, along)) = newest.and_then(|id| Some((id, self.catalog.path_to(id)?))) else {
            let text = format!("no history file leads to the timeline of the base backup {}", backup.id);
            return vec![Finding::error("backup-incomplete", text).hint("add the archive that has the history file")];
        };
        let mut findings = vec![self.reach(backup, newest, &along)];
        let mut told = vec![along];
        for timeline in self.catalog.timelines.iter().rev().filter(|other| other.id != newest) {
            let Some(path) = self.catalog.path_to(timeline.id) else { continue };
            let is_told = told.iter().any(|along| self.ends_on(timeline.id, along));
            if !is_told && self.catalog.leads_along(backup, &path) {
                // What is missing on the common way was said already.
                findings.extend(Some(self.reach(backup, timeline.id, &path)).filter(|f| f.severity == Severity::Note));
                told.push(path);
            }
        }
        findings
    }

    /// Whether a timeline is a part of `along` to its end, or to where its own WAL ends.
    fn ends_on(&self, timeline: TimelineId, along: &TimelinePath) -> bool {
        let size = self.catalog.segment_size;
        let last = self.catalog.segments_of(timeline).next_back().map(|name| name.number(size));
        match along.end_of(timeline) {
            None => false,
            Some(None) => true,
            Some(Some(fork)) => last.is_none_or(|last| last <= size.number_of(fork)),
        }
    }

    /// How far recovery from a backup can go along one timeline.
    fn reach(&self, backup: &Backup, timeline: TimelineId, path: &TimelinePath) -> Finding {
        let start = backup.start_lsn.unwrap_or(Lsn::INVALID);
        let stop = backup.stop_lsn.unwrap_or(start);
        let (end, why) = self.end_of(backup, path, start);
        if end < stop || (end == start && why.is_some()) {
            let why = why.unwrap_or_else(|| "the archive ends".to_owned());
            let text = format!(
                "nothing can be recovered from the base backup {}: it is consistent at {stop}, and WAL ends before, at {end}: {why}",
                backup.id
            );
            return Finding::error("backup-incomplete", text).hint(GOOD_COPY);
        }
        let last = self.last_commit_before(path, end);
        let last = last.map(|at| format!(", the last commit at {}", at.in_zone(self.zone))).unwrap_or_default();
        let why = why.map(|why| format!("; there it ends: {why}")).unwrap_or_default();
        let text = format!(
            "the base backup {} can be recovered to any point from {stop} to {end} on timeline {timeline}{last}{why}",
            backup.id
        );
        Finding::note("backup-reach", text)
    }

    /// Where recovery from a backup along a path ends, and why there, unless that is where WAL does.
    pub(super) fn end_of(&self, backup: &Backup, path: &TimelinePath, start: Lsn) -> (Lsn, Option<String>) {
        let size = self.catalog.segment_size;
        let is_on_the_way = |timeline: TimelineId, at: Lsn| {
            size.number_of(at) >= size.number_of(start) && path.timeline_at(at) == Some(timeline)
        };
        let unfit = self.unfit_segments().map(|unfit| (unfit.name.timeline, unfit.name.start(size), unfit.name));
        let unfit: Vec<_> = unfit.filter(|(timeline, at, _)| is_on_the_way(*timeline, *at)).collect();
        // Behind the last whole segment, too, where a file says that WAL went on.
        let went_on = unfit.iter().map(|(_, at, _)| *at).max();
        let behind = went_on.into_iter().flat_map(|at| self.catalog.missing(backup, path, Some(at)));
        let missing = self.catalog.missing(backup, path, None).into_iter().chain(behind);
        let missing = missing.map(|gap| (gap.first.start(size).max(start), format!("{} is missing", gap.first)));
        let places = self.overview.map(|overview| overview.damaged.as_slice()).unwrap_or_default();
        let unfit = unfit.into_iter().map(|(_, at, file)| (at, format!("{file} is damaged")));
        let damaged = places.iter().map(|place| {
            let is_written = place.damage.reason.ends_with(STILL_WRITTEN);
            let what = if is_written { "still being written" } else { "damaged" };
            (place.timeline, place.damage.at, format!("{} is {what}", place.file))
        });
        let damaged = damaged.filter(|(timeline, at, _)| is_on_the_way(*timeline, *at)).map(|(_, at, why)| (at, why));
        let harmed = unfit.chain(damaged).map(|(at, why)| (at.max(start), why));
        match harmed.chain(missing).min_by_key(|(at, _)| *at) {
            Some((at, why)) => (at, Some(why)),
            None => (self.end_of_wal(path), None),
        }
    }

    fn end_of_wal(&self, path: &TimelinePath) -> Lsn {
        let marks = self.overview.map(|overview| overview.marks.as_slice()).unwrap_or_default();
        let ends = marks.iter().filter(|mark| mark.kind == PointKind::EndOfWal && mark.timeline == path.last());
        let listed = self.catalog.timelines.iter().find(|timeline| timeline.id == path.last());
        let forked = path.stretches().last().map_or(Lsn::INVALID, |stretch| stretch.begin);
        let end = ends.map(|mark| mark.lsn).max().or(listed.and_then(|timeline| timeline.end_lsn));
        end.unwrap_or(forked).max(forked)
    }

    pub(super) fn last_commit_before(&self, path: &TimelinePath, end: Lsn) -> Option<crate::core::Timestamp> {
        let size = self.catalog.segment_size;
        let last = size.number_of(Lsn(end.0.saturating_sub(1)));
        let on_the_way = self.overview?.segments.iter().filter(|segment| {
            segment.number <= last && path.owners_of(segment.number, size).first() == Some(&segment.timeline)
        });
        on_the_way.filter_map(|segment| segment.latest).max()
    }

    fn partial(&self, partial: &Partial) -> ArchiveFinding {
        let size = self.catalog.segment_size;
        let is_used = self.catalog.partials.contains(&partial.name);
        let whole = !is_used && self.catalog.segments.contains(&partial.name);
        let forked = self.catalog.timelines.iter().find(|timeline| {
            timeline.parent == Some(partial.name.timeline)
                && timeline.forked_at_lsn.is_some_and(|fork| {
                    size.number_of(fork) == partial.name.number(size) && partial.end.is_none_or(|end| end <= fork)
                })
        });
        let name = partial.path.display();
        let file = partial.path.file_name().map(|file| file.to_string_lossy().into_owned());
        let form = file.as_deref().and_then(archived).map_or(Compression::None, |(_, compression)| compression);
        let holds = match (partial.end, partial.commits, partial.last_commit_at) {
            (None, ..) => "it holds no whole record".to_owned(),
            (Some(end), 0, _) => format!("it holds WAL up to {end}, without a commit"),
            (Some(end), commits, at) => {
                let at = at.map(|at| format!(", the last one at {}", at.in_zone(self.zone))).unwrap_or_default();
                format!("it holds WAL up to {end} with {}{at}", counted(commits, "commit"))
            }
        };
        let (text, hint) = match (whole, forked, partial.end) {
            (true, ..) => (format!("{name}: {holds}; the whole segment is there too, so that nobody needs it"), None),
            (_, Some(child), _) => {
                (format!("{name}: {holds}; all of it is in the first segment of timeline {} too", child.id), None)
            }
            (.., None) => (format!("{name}: {holds}"), None),
            _ if is_used => {
                (format!("{name}: {holds}; it is the last segment of its timeline, and recoveries use it"), None)
            }
            _ => (
                format!("{name}: {holds}, which nothing else here has; recovery never asks for a .partial file"),
                Some(format!(
                    "to recover what it holds, give a directory with a copy of it{} named {} as another --wal",
                    self.as_plain(file.as_deref(), form),
                    partial.name
                )),
            ),
        };
        let finding = Finding { hint, ..Finding::note("partial-segment", text) };
        ArchiveFinding { finding, timeline: Some(partial.name.timeline), file, lsn: partial.end }
    }

    /// What has to be done with a copy of a `.partial` before a server takes it.
    fn as_plain(&self, file: Option<&str>, form: Compression) -> String {
        let size = self.catalog.segment_size.bytes();
        match form {
            Compression::None => String::new(),
            _ if file.is_some_and(may_be_short) => {
                format!(", unpacked and filled with zeros to a segment's size (truncate -s {size}),")
            }
            _ => ", unpacked,".to_owned(),
        }
    }

    fn growing(&self, growing: &Growing) -> ArchiveFinding {
        let size = self.catalog.segment_size;
        let (name, bytes) = (growing.path.display(), growing.bytes);
        let text = format!("{name}: {STILL_WRITTEN}, and has {bytes} bytes so far");
        still_written(growing.name.timeline, growing.name.to_string(), growing.name.start(size), text)
    }

    fn files(&self) -> Vec<ArchiveFinding> {
        let note = |finding: Finding| ArchiveFinding { finding, timeline: None, file: None, lsn: None };
        let named = |paths: &[PathBuf]| {
            let paths: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            some_of(&paths.iter().map(String::as_str).collect::<Vec<_>>())
        };
        let (temporary, unknown) = (&self.inspection.temporary, &self.inspection.unknown);
        let mut found = Vec::new();
        if !temporary.is_empty() {
            let text = format!(
                "{} that somebody is writing, or did not finish: {}",
                counted(temporary.len() as u64, "file"),
                named(temporary)
            );
            found.push(note(Finding::note("temporary-files", text)));
        }
        if !unknown.is_empty() {
            let text = format!(
                "{} that PostgreSQL does not put into an archive: {}",
                counted(unknown.len() as u64, "file"),
                named(unknown)
            );
            found.push(note(Finding::note("unknown-files", text)));
        }
        let mut odd: BTreeMap<&str, Vec<PathBuf>> = BTreeMap::new();
        for LeftAlone { path, why } in &self.inspection.odd {
            odd.entry(why).or_default().push(path.clone());
        }
        for (why, paths) in odd {
            let text = match paths.as_slice() {
                [path] => format!("{}: {why}; no recovery looks at it", path.display()),
                paths => format!("{} of these: {why}; no recovery looks at them: {}", paths.len(), named(paths)),
            };
            found.push(note(Finding::note("odd-files", text)));
        }
        found
    }

    /// What could not be read at all, besides history files, of which more is said.
    fn problems(&self) -> Vec<ArchiveFinding> {
        let is_history = |problem: &&String| {
            let name = problem.split(':').next().unwrap_or_default();
            matches!(ArchiveFile::parse(name), Some(ArchiveFile::History(_)))
        };
        let problems = self.catalog.problems.iter().filter(|problem| !is_history(problem));
        let problems = problems.chain(&self.inspection.problems);
        problems
            .map(|problem| ArchiveFinding {
                finding: Finding::warning("not-looked-at", problem.clone()),
                timeline: None,
                file: None,
                lsn: None,
            })
            .collect()
    }
}

const GOOD_COPY: &str = "look for a good copy, in another archive or in the pg_wal of the server or of a standby, and give its directory as the first --wal";

/// Nothing is wrong with it.
fn still_written(timeline: TimelineId, file: String, at: Lsn, text: String) -> ArchiveFinding {
    let finding =
        Finding::note("segment-growing", text).hint("look again in a moment: until it is whole, it is not used");
    ArchiveFinding { finding, timeline: Some(timeline), file: Some(file), lsn: Some(at) }
}

/// What it means that a place in WAL cannot be read.
struct Meaning {
    /// Whether some recovery ends there.
    harms: bool,
    text: String,
}

impl Meaning {
    fn hinted(&self, finding: Finding) -> Finding {
        if self.harms { finding.hint(GOOD_COPY) } else { finding }
    }
}

/// `a, b, c, d and 7 more`
fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(NAMED).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

/// The worst of the findings.
#[must_use]
pub fn worst(findings: &[ArchiveFinding]) -> Option<Severity> {
    findings.iter().map(|found| found.finding.severity).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{BackupKind, Compression, Listing};
    use crate::core::{PgMajor, SegmentName, SegmentSize, Timestamp};

    const SEGMENT: u64 = 1 << 20;

    fn size() -> SegmentSize {
        SegmentSize::new(SEGMENT as u32).unwrap()
    }

    fn segment(number: u64) -> SegmentName {
        SegmentName::new(TimelineId(1), number, size())
    }

    /// A backup that begins and ends in this segment.
    fn backup(name: &str, number: u64) -> Backup {
        let start = number * SEGMENT + 0x28;
        Backup {
            compression: Compression::None,
            pg_version: Some(PgMajor(15)),
            system_identifier: Some(7),
            segment_size: Some(size()),
            timeline: Some(TimelineId(1)),
            start_lsn: Some(Lsn(start)),
            start_wal: Some(segment(number)),
            stop_lsn: Some(Lsn(start + 0x100)),
            started_at: Timestamp::from_unix_seconds(number as i64),
            ..Backup::at(format!("/b/{name}"), BackupKind::Tar, Compression::None)
        }
    }

    /// Segments 1 to 9 of timeline 1 without some; what is said, with its severity and code.
    fn audit(without: &[u64], backups: Vec<Backup>) -> Vec<(Severity, String, String)> {
        let there = (1..=9).filter(|number| !without.contains(number));
        let files = there.map(|number| (ArchiveFile::Segment(segment(number)), SEGMENT)).collect();
        let system_identifier = Some(7);
        let listing = Listing { files, backups, segment_size: Some(size()), system_identifier, ..Listing::default() };
        told(listing, &Inspection::default())
    }

    fn told(listing: Listing, inspection: &Inspection) -> Vec<(Severity, String, String)> {
        let catalog = Catalog::build(listing);
        let audit = Audit { catalog: &catalog, inspection, overview: None, zone: Zone::UTC };
        let findings = audit.findings().into_iter().map(|found| found.finding);
        findings.map(|finding| (finding.severity, finding.code.into_owned(), finding.message)).collect()
    }

    /// Behind the last whole segment a file may say that WAL went on, even where it is empty itself.
    #[test]
    fn what_is_missing_before_a_file_that_is_no_segment_is_missing() {
        let files = (1..=5).map(|number| (ArchiveFile::Segment(segment(number)), SEGMENT)).collect();
        let backups = vec![backup("early", 2)];
        let system_identifier = Some(7);
        let listing = Listing { files, backups, segment_size: Some(size()), system_identifier, ..Listing::default() };
        let empty = |number| Unfit { name: segment(number), path: format!("/w/{number}").into(), flaw: Flaw::Empty };
        let with = |numbers: &[u64]| {
            let unfit = numbers.iter().map(|number| empty(*number)).collect();
            told(listing.clone(), &Inspection { unfit, ..Inspection::default() })
        };
        let missing = |found: &[(Severity, String, String)]| -> Vec<String> {
            let missing =
                found.iter().filter(|(severity, code, _)| *severity == Severity::Error && code == "wal-missing");
            missing.map(|(_, _, message)| message.clone()).collect()
        };
        let reach = |found: &[(Severity, String, String)]| {
            found.iter().find(|(_, code, _)| code == "backup-reach").map(|(_, _, message)| message.clone()).unwrap()
        };
        let found = with(&[8]);
        assert!(missing(&found)[0].contains("000000010000000000000006"), "{found:#?}");
        assert!(
            reach(&found).contains("to 0/600000 on timeline 1; there it ends: 000000010000000000000006 is missing")
        );
        let found = with(&[6]);
        assert!(missing(&found).is_empty(), "{found:#?}");
        assert!(
            reach(&found).contains("to 0/600000 on timeline 1; there it ends: 000000010000000000000006 is damaged")
        );
        assert!(reach(&with(&[])).ends_with("to 0/600000 on timeline 1"));
    }

    #[test]
    fn a_gap_means_something_to_the_backups_before_it_up_to_the_next_one() {
        let both = || vec![backup("early", 2), backup("late", 6)];
        let found = audit(&[4], both());
        let (severity, code, message) = &found[0];
        assert_eq!((*severity, code.as_str()), (Severity::Error, "wal-missing"));
        assert!(message.contains("recovery from early ends at 0/400000 at the latest"), "{message}");
        assert!(message.contains("up to the base backup late"), "{message}");
        let reach: Vec<&String> = found[1..].iter().map(|(_, _, message)| message).collect();
        assert_eq!(reach.len(), 2, "{found:#?}");
        assert!(reach.iter().any(|text| text.contains("early") && text.contains("to 0/400000")), "{reach:?}");
        assert!(reach.iter().any(|text| text.contains("late") && text.contains("to 0/A00000")), "{reach:?}");
    }

    #[test]
    fn what_no_backup_needs_is_a_warning_and_without_backups_everything_is_needed() {
        let (severity, _, message) = &audit(&[2], vec![backup("late", 6)])[0];
        assert_eq!((*severity, message.ends_with("no base backup here needs it")), (Severity::Warning, true));
        let (severity, _, message) = &audit(&[2], Vec::new())[0];
        assert_eq!((*severity, message.contains("any base backup before 0/200000")), (Severity::Error, true));
        assert_eq!(audit(&[], Vec::new()), []);
    }

    #[test]
    fn a_backup_that_lacks_its_own_wal_cannot_be_recovered() {
        let found = audit(&[6], vec![backup("late", 6)]);
        let incomplete = found.iter().find(|(_, code, _)| code == "backup-incomplete").unwrap();
        assert_eq!(incomplete.0, Severity::Error);
        assert!(incomplete.2.contains("late") && incomplete.2.contains(&segment(6).to_string()), "{incomplete:?}");
    }

    #[test]
    fn a_copy_of_a_partial_is_made_as_long_as_a_segment() {
        let (catalog, inspection) = (Catalog::build(Listing::default()), Inspection::default());
        let audit = Audit { catalog: &catalog, inspection: &inspection, overview: None, zone: Zone::UTC };
        let name = format!("{}.gz", segment(7));
        assert_eq!(audit.as_plain(Some("a.partial"), Compression::None), "");
        assert_eq!(audit.as_plain(Some(&format!("{}.partial.gz", segment(7))), Compression::Gzip), ", unpacked,");
        let short = audit.as_plain(Some(&format!("{name}.partial")), Compression::Gzip);
        assert!(short.contains("(truncate -s 16777216)"), "{short}");
    }

    #[test]
    fn many_names_are_not_all_named() {
        assert_eq!(some_of(&["a", "b"]), "a, b");
        assert_eq!(some_of(&["a", "b", "c", "d", "e", "f"]), "a, b, c, d and 2 more");
    }
}
