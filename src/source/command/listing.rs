//! What a command has, found out by asking: history files one number after the other, `.backup` files of base backups
//! that do not say where they end, and segments from the base backups on.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use crate::catalog::{Asked, Listing};
use crate::core::{ArchiveFile, Lsn, SegmentName, SegmentSize, TimelineId};
use crate::error::{ErrorKind, Result};
use crate::pgdata::history::History;
use crate::source::Cancel;
use crate::source::local::SEGMENT_DAMAGED;
use crate::wal::SegmentHeader;

use super::run::Missing;
use super::store::{Known, now};
use super::walk::{self, Answer, Walk};
use super::{Commands, Fetcher, Got, SMALL_FILE, lock, run};

/// So many history files in a row have to be missing behind the last timeline that is known. The server takes the first
/// one that is missing for the end (`findNewestTimeLine`, `src/backend/access/transam/timeline.c` of 13 to 18).
const HISTORIES_IN_A_ROW: u32 = 3;
/// Of so many timelines that only WAL in directories speaks of, histories are asked for.
const TIMELINES_OF_WAL: usize = 64;
/// Between segments that lie in directories no more than so many are taken to be there: 16 TiB of the usual size.
const FAR: u64 = 1 << 20;
/// So many calls of a command are made at once.
const AT_ONCE: usize = 4;
/// For so many seconds a command that works is believed to.
const TRUSTED_S: i64 = 3600;
/// Of the segments in gaps, so many are asked for again each time.
const ASKED_AGAIN: usize = 64;
/// For so many seconds those behind the end are not asked for again.
const BEHIND_S: i64 = 600;
/// A `.partial` that was fetched so many seconds ago may have grown.
const PARTIAL_S: i64 = 300;

impl Commands {
    /// Puts into the listing what the commands have; the backups and what lies in directories have to be in it.
    ///
    /// # Errors
    /// Where a command is broken, or it was cancelled.
    pub fn list(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        if self.is_empty() {
            return Ok(());
        }
        self.cancelled_by(cancel);
        let mut listed = BTreeSet::new();
        for fetcher in &self.fetchers {
            listed.extend(fetcher.list(listing, cancel)?);
        }
        *lock(&self.listed) = Some(listed);
        Ok(())
    }
}

/// The last time that something was not there, and how that was said.
type LastMissing = Option<(Instant, Missing)>;

/// A round of asking a command.
struct Round<'a> {
    listing: &'a mut Listing,
    cancel: &'a Cancel,
    size: SegmentSize,
    last_missing: LastMissing,
    /// What is wrong with the last segment that was given and is none.
    last_damaged: Option<String>,
    /// What was found not to be there.
    absent: Vec<ArchiveFile>,
}

/// The WAL of one timeline that may be of use.
#[derive(Debug, Default)]
struct Stretch {
    /// The first segment.
    from: u64,
    /// Segments that should be there.
    expected: Vec<u64>,
}

impl Fetcher {
    /// Gives the segments that it has, or is taken to have.
    fn list(&self, listing: &mut Listing, cancel: &Cancel) -> Result<BTreeSet<SegmentName>> {
        let store = self.store()?;
        store.reload().map_err(|error| {
            super::super::unreadable("what is kept of a command", std::path::Path::new("known"), &error)
        })?;
        let said = listing.backups.iter().find_map(|backup| backup.system_identifier);
        if let Some(cluster) = said.or(listing.system_identifier) {
            let _ = self.cluster.set(cluster);
        }
        let mut last_missing = None;
        self.take_histories(listing, &mut last_missing, cancel)?;
        self.take_backup_files(listing, cancel)?;
        let Some(size) = self.segment_size(listing, cancel)? else {
            listing.problems.push(format!(
                "nothing tells from where on to ask {} for WAL: there is no base backup with a start, and no segment at one",
                self.command.shown()
            ));
            return Ok(BTreeSet::new());
        };
        let files_before = self.fetched_files();
        let mut round = Round { listing, cancel, size, last_missing, last_damaged: None, absent: Vec::new() };
        let mut all = BTreeSet::new();
        for (timeline, stretch) in stretches(round.listing, size) {
            all.extend(self.walk(timeline, &stretch, &mut round)?);
        }
        let Round { last_missing, absent, .. } = round;
        self.conclude(self.fetched_files() > files_before, last_missing, absent, cancel)?;
        Ok(all)
    }

    /// Notes what is not there, once it is proven that the command works where that is in doubt: where it has given
    /// something in this round, so that there is news, or has not in a long time.
    fn conclude(&self, gave: bool, missing: LastMissing, absent: Vec<ArchiveFile>, cancel: &Cancel) -> Result<()> {
        let store = self.store()?;
        let given = store.all_known().into_iter().filter(|(_, known)| known.contents.is_some());
        let last = given.map(|(_, known)| known.at).max();
        let is_in_doubt = gave || last.is_none_or(|last| now() - last > TRUSTED_S);
        if let Some((at, missing)) = missing.filter(|(_, missing)| is_in_doubt && !missing.certain) {
            self.prove(Some(at), &missing, cancel)?;
        }
        for file in absent {
            if store.known_of(file).is_none_or(|known| known.contents.is_some() || now() - known.at >= BEHIND_S) {
                store.note_absent(file)?;
            }
        }
        Ok(())
    }

    fn fetched_files(&self) -> u64 {
        self.files.load(Ordering::Relaxed)
    }

    /// Asks for the histories of the timelines that are known of, and of so many behind each of them: of those that base
    /// backups and WAL are of, that histories are of, and that histories name. Numbers between that nothing speaks of are
    /// not asked for: a file of an odd name would make them very many.
    fn take_histories(&self, listing: &mut Listing, last_missing: &mut LastMissing, cancel: &Cancel) -> Result<()> {
        let mut wanted = BTreeSet::from_iter(behind(TimelineId::FIRST));
        for timeline in timelines(listing) {
            wanted.insert(timeline.0);
            wanted.extend(behind(timeline));
        }
        for (timeline, text) in &listing.histories {
            wanted.extend(spoken_of(*timeline, text));
        }
        let mut asked: BTreeSet<u32> = listing.histories.iter().map(|(timeline, _)| timeline.0).collect();
        asked.extend([0, TimelineId::FIRST.0]);
        let mut damaged = 0;
        while let Some(number) = wanted.pop_first() {
            cancel.check()?;
            if !asked.insert(number) {
                continue;
            }
            let timeline = TimelineId(number);
            match self.text(ArchiveFile::History(timeline), cancel) {
                Ok(Ok(text)) => {
                    wanted.extend(spoken_of(timeline, &text));
                    listing.histories.push((timeline, text));
                }
                Ok(Err(missing)) => *last_missing = Some((Instant::now(), missing)),
                // That something else is given for its name does not show that there is such a timeline.
                Err(error) if error.report().code == SEGMENT_DAMAGED => {
                    damaged += 1;
                    if damaged <= HISTORIES_IN_A_ROW {
                        listing.problems.push(error.report().message.clone());
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// What a small file holds; or how the command said that it is not there.
    fn text(&self, file: ArchiveFile, cancel: &Cancel) -> Result<std::result::Result<String, Missing>> {
        match self.get(file, cancel)? {
            Got::Missing(missing) => Ok(Err(missing)),
            Got::File(file) => {
                let mut bytes = Vec::new();
                file.take(SMALL_FILE).read_to_end(&mut bytes).map_err(|error| {
                    super::super::unreadable("what a command fetched", std::path::Path::new(""), &error)
                })?;
                Ok(Ok(String::from_utf8_lossy(&bytes).into_owned()))
            }
        }
    }

    /// Asks for the `.backup` files of the backups that do not say where they end. Not every command knows such names:
    /// what it says of them is not taken for more.
    fn take_backup_files(&self, listing: &mut Listing, cancel: &Cancel) -> Result<()> {
        let wanted = listing.backups.iter().filter(|backup| backup.stop_lsn.is_none() && !backup.from_standby);
        let wanted: Vec<ArchiveFile> = wanted
            .filter_map(|backup| {
                let (start, lsn, size) =
                    (backup.start_wal?, backup.start_lsn?, backup.segment_size.or(listing.segment_size)?);
                let offset = u32::try_from(lsn.0 % size.bytes()).ok()?;
                Some(ArchiveFile::BackupHistory(start, offset))
            })
            .collect();
        for file in wanted {
            match self.text(file, cancel) {
                Ok(Ok(text)) => listing.backup_histories.push((file.to_string(), text)),
                Ok(Err(_)) => {}
                Err(error) if error.report().kind == ErrorKind::Interrupted => return Err(error),
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// How long segments are: as the listing says, else as the first segment of a backup does.
    fn segment_size(&self, listing: &mut Listing, cancel: &Cancel) -> Result<Option<SegmentSize>> {
        let known = listing.backups.iter().find_map(|backup| backup.segment_size);
        if let Some(size) = listing.segment_size.or(known) {
            listing.segment_size = Some(size);
            return Ok(Some(size));
        }
        for start in listing.backups.iter().filter_map(|backup| backup.start_wal).collect::<BTreeSet<_>>() {
            let mut file = match self.get(ArchiveFile::Segment(start), cancel) {
                Ok(Got::File(file)) => file,
                Ok(Got::Missing(_)) => continue,
                // It is asked for again with the others, and named then.
                Err(error) if error.report().code == SEGMENT_DAMAGED => continue,
                Err(error) => return Err(error),
            };
            let mut front = vec![0; SegmentHeader::BYTES];
            if let Some(header) = file.read_exact(&mut front).ok().and_then(|()| SegmentHeader::parse(&front).ok()) {
                listing.segment_size = Some(header.segment_size);
                listing.system_identifier = listing.system_identifier.or(Some(header.system_identifier));
                return Ok(listing.segment_size);
            }
        }
        // Without any segment, those of the usual size are asked for: the command may say why it has none.
        Ok(listing.backups.iter().any(|backup| backup.start_wal.is_some()).then_some(SegmentSize::DEFAULT))
    }

    /// Finds out where the WAL of a timeline ends, and puts it into the listing.
    fn walk(&self, timeline: TimelineId, stretch: &Stretch, round: &mut Round<'_>) -> Result<BTreeSet<SegmentName>> {
        let (size, began) = (round.size, Instant::now());
        let name = |number| SegmentName::new(timeline, number, size);
        let elsewhere = near(listed_numbers(round.listing, timeline, size), stretch.from);
        let (mut walk, again) = self.what_is_known(timeline, size, &elsewhere)?;
        let is_new = walk.there.is_empty();
        let expected: Vec<u64> = stretch.expected.iter().copied().chain(again).collect();
        let mut ask = |numbers: &[u64]| {
            round.cancel.check()?;
            self.ask_for(&numbers.iter().map(|number| name(*number)).collect::<Vec<_>>(), round)
        };
        let again = walk.begin(stretch.from, &expected, &mut ask)?;
        if again.is_some() {
            self.forget_missing(timeline, began);
        }
        let end = walk.go(stretch.from, &again.unwrap_or_default(), &mut ask)?;
        if walk.is_all_damaged_behind(end) {
            return Err(self.gives_anything(round));
        }
        // Reading it says what is wrong with what is damaged at the end.
        let end = walk.behind_damaged(end);
        let is_gap = |number: &u64| walk.absent.contains(number) || walk.left_out.contains(number);
        let here: Vec<u64> = (stretch.from..end).filter(|number| !is_gap(number)).collect();
        let not_there = walk.absent.iter().chain(&walk.left_out).filter(|number| **number >= stretch.from);
        round.absent.extend(not_there.map(|number| ArchiveFile::Segment(name(*number))));
        let new = here.iter().filter(|number| !elsewhere.contains(number));
        round.listing.files.extend(new.map(|number| (ArchiveFile::Segment(name(*number)), size.bytes())));
        let mut all: BTreeSet<SegmentName> = here.iter().map(|number| name(*number)).collect();
        if self.take_partial(name(end), round)? {
            all.insert(name(end));
        }
        if is_new && end == stretch.from {
            self.say_nothing_came(name(end), round);
        }
        let given = here.iter().filter(|number| walk.there.contains(number)).count() as u64;
        round.listing.asked.push(Asked {
            command: self.command.shown(),
            timeline,
            first: name(stretch.from),
            end: name(end),
            given,
            missing: (end - stretch.from).saturating_sub(here.len() as u64),
            presumed: here.len() as u64 - given,
            behind: walk::asked_behind(),
        });
        Ok(all)
    }

    /// What is known of a timeline's segments without asking, and the numbers of those that were missing and may have come
    /// since. `elsewhere` are those that others have.
    fn what_is_known(
        &self,
        timeline: TimelineId,
        size: SegmentSize,
        elsewhere: &BTreeSet<u64>,
    ) -> Result<(Walk, Vec<u64>)> {
        let mine = |(file, known): (ArchiveFile, Known)| {
            let segment = file.whole_segment().filter(|segment| segment.timeline == timeline)?;
            Some((segment.number(size), known))
        };
        let known: Vec<(u64, Known)> = self.store()?.all_known().into_iter().filter_map(mine).collect();
        let given = known.iter().filter(|(_, known)| known.contents.is_some()).map(|(number, _)| *number);
        let there: BTreeSet<u64> = given.chain(elsewhere.iter().copied()).collect();
        let next = there.last().map_or(0, |last| last + 1);
        let (mut absent, mut left_out, mut again) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        for (number, known) in known.iter().filter(|(number, _)| !there.contains(number)) {
            // The next one is asked for each time, those behind it not again at once.
            if *number > next && now() - known.at < BEHIND_S {
                absent.insert(*number);
            } else if *number < next && again.len() < ASKED_AGAIN {
                again.push(*number);
            } else if *number < next {
                left_out.insert(*number);
            }
        }
        let last = (size.per_log_id() << 32) - 1;
        Ok((Walk { there, absent, damaged: BTreeSet::new(), left_out, last }, again))
    }

    /// What was missing on this timeline before `began` may have come.
    fn forget_missing(&self, timeline: TimelineId, began: Instant) {
        let is_of = |file: &ArchiveFile| file.whole_segment().is_some_and(|segment| segment.timeline == timeline);
        lock(&self.missing).retain(|file, (at, _)| *at >= began || !is_of(file));
    }

    /// The error of a command that has something for every name, none of it WAL: where WAL ends cannot be known.
    fn gives_anything(&self, round: &Round<'_>) -> crate::error::Error {
        let error = run::broken(format!(
            "{} cannot be trusted: it gives something that is no WAL for every name",
            self.command.named()
        ));
        let error = match &round.last_damaged {
            Some(last) => error.because(last.clone()),
            None => error,
        };
        error.hint(
            "run it by hand for a name that is not there: it has to end with a status that says so, as curl does with --fail only; what it gives has to be unpacked and decrypted",
        )
    }

    /// Where even the first segment is not there, it may be that the command does not work.
    fn say_nothing_came(&self, first: SegmentName, round: &mut Round<'_>) {
        let is_start = round.listing.backups.iter().any(|backup| backup.start_wal == Some(first));
        if let Some((_, missing)) = round.last_missing.as_ref().filter(|_| is_start) {
            round.listing.problems.push(format!(
                "{} says that {first}, with which a base backup begins, is not there ({}): either its WAL is gone, or the command does not work; run it by hand for that file",
                self.command.shown(),
                missing.words
            ));
        }
    }

    /// The `.partial` behind the end of a timeline, as a promotion leaves it.
    fn take_partial(&self, name: SegmentName, round: &mut Round<'_>) -> Result<bool> {
        let file = ArchiveFile::Partial(name);
        let known = self.store()?.known_of(file);
        let is_old = known.is_some_and(|known| known.contents.is_some() && now() - known.at > PARTIAL_S);
        let got = if is_old { self.ask(file, round.cancel) } else { self.get(file, round.cancel) };
        match got {
            Ok(Got::File(_)) => {
                round.listing.files.push((file, round.size.bytes()));
                Ok(true)
            }
            Ok(Got::Missing(_)) => Ok(false),
            Err(error) if error.report().kind == ErrorKind::Interrupted => Err(error),
            // Not every command knows such names.
            Err(_) => Ok(false),
        }
    }

    /// Asks for these segments, several at once.
    fn ask_for(&self, names: &[SegmentName], round: &mut Round<'_>) -> Result<Vec<Answer>> {
        let cancel = round.cancel;
        let (next, answers) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE.min(names.len()) {
                scope.spawn(|| {
                    loop {
                        let place = next.fetch_add(1, Ordering::Relaxed);
                        let Some(name) = names.get(place) else { return };
                        let got = self.get(ArchiveFile::Segment(*name), cancel);
                        let is_over = got.as_ref().is_err_and(|error| error.report().code != SEGMENT_DAMAGED);
                        lock(&answers).insert(place, got);
                        if is_over {
                            next.store(names.len(), Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut there = Vec::with_capacity(names.len());
        for (_, got) in answers.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            there.push(match got {
                Ok(Got::File(_)) => Answer::There,
                Ok(Got::Missing(missing)) => {
                    round.last_missing = Some((Instant::now(), missing));
                    Answer::Absent
                }
                Err(error) if error.report().code == SEGMENT_DAMAGED => {
                    let message = &error.report().message;
                    round.last_damaged = Some(message.clone());
                    round.listing.problems.push(message.clone());
                    Answer::Damaged
                }
                Err(error) => return Err(error),
            });
        }
        Ok(there)
    }
}

/// The timelines of the base backups and of WAL in directories; of the latter not all, where there are very many.
fn timelines(listing: &Listing) -> BTreeSet<TimelineId> {
    let plain = listing.files.iter().filter_map(|(file, _)| file.whole_segment());
    let of_wal: BTreeSet<TimelineId> =
        plain.chain(listing.compressed.iter().map(|(name, _)| *name)).map(|name| name.timeline).collect();
    let of_backups = listing.backups.iter().filter_map(|backup| backup.timeline);
    of_backups.chain(of_wal.into_iter().take(TIMELINES_OF_WAL)).collect()
}

/// The timelines whose histories may be there, where one is: its ancestors, and those behind it.
fn spoken_of(timeline: TimelineId, text: &str) -> BTreeSet<u32> {
    let history = History::parse(timeline, text).ok();
    let ancestors = history.into_iter().flat_map(|history| history.entries).map(|entry| entry.timeline.0);
    ancestors.chain(behind(timeline)).collect()
}

/// So many numbers behind a timeline.
fn behind(timeline: TimelineId) -> impl Iterator<Item = u32> {
    (1..=HISTORIES_IN_A_ROW).filter_map(move |more| timeline.0.checked_add(more))
}

/// The segments of a timeline that the listing has already.
fn listed_numbers(listing: &Listing, timeline: TimelineId, size: SegmentSize) -> BTreeSet<u64> {
    let plain = listing.files.iter().filter(|(_, bytes)| *bytes == size.bytes());
    let plain = plain.filter_map(|(file, _)| file.whole_segment());
    let all = plain.chain(listing.compressed.iter().map(|(name, _)| *name));
    all.filter(|name| name.timeline == timeline).map(|name| name.number(size)).collect()
}

/// Without those that lie so far behind the others that they can be of no use: an odd name in a directory would have all
/// the numbers before it taken to be there.
fn near(numbers: BTreeSet<u64>, from: u64) -> BTreeSet<u64> {
    let mut before = from;
    let mut is_near = |number: &u64| {
        let is_near = number.saturating_sub(before) <= FAR;
        before = before.max(*number);
        is_near
    };
    numbers.into_iter().take_while(|number| is_near(number)).collect()
}

/// The WAL that may be of use: from the base backups on, on their timelines and on those that fork off behind.
fn stretches(listing: &Listing, size: SegmentSize) -> BTreeMap<TimelineId, Stretch> {
    let histories =
        listing.histories.iter().filter_map(|(id, text)| History::parse(*id, text).ok().map(|parsed| (*id, parsed)));
    let forks: BTreeMap<TimelineId, (TimelineId, Lsn)> =
        histories.filter_map(|(id, history)| Some((id, (history.parent()?, history.forked_at()?)))).collect();
    let mut all: BTreeMap<TimelineId, Stretch> = BTreeMap::new();
    for backup in &listing.backups {
        let Some(start) = backup.start_wal else { continue };
        let ends = backup.stop_lsn.map(|stop| size.number_of(Lsn(stop.0.saturating_sub(1))));
        begin(&mut all, start.timeline, start.number(size))
            .expected
            .extend(ends.filter(|_| backup.timeline == Some(start.timeline)));
    }
    if all.is_empty() {
        for name in listing.files.iter().filter_map(|(file, _)| file.whole_segment()) {
            begin(&mut all, name.timeline, name.number(size));
        }
    }
    // A timeline may fork off one that does itself; there are no more rounds than timelines.
    for _ in 0..forks.len() {
        for (child, (parent, at)) in &forks {
            let fork = size.number_of(*at);
            if all.get(parent).is_some_and(|parent| parent.from <= fork)
                && all.get(child).is_none_or(|child| child.from > fork)
            {
                begin(&mut all, *child, fork);
                if let Some(parent) = all.get_mut(parent) {
                    // The file of the fork itself is often there of the new timeline only.
                    parent.expected.push(fork.saturating_sub(1));
                }
            }
        }
    }
    all
}

fn begin(all: &mut BTreeMap<TimelineId, Stretch>, timeline: TimelineId, number: u64) -> &mut Stretch {
    let stretch = all.entry(timeline).or_insert(Stretch { from: number, expected: Vec::new() });
    stretch.from = stretch.from.min(number);
    stretch.expected.push(number);
    stretch
}
