//! Random targets of every kind, on, between and beside what there is in WAL.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use walback::catalog::{Backup, Catalog};
use walback::config::SourceConfig;
use walback::core::{Action, Lsn, RestorePointName, Target, TargetKind, TimelineChoice, TimelineId, Timestamp, Xid};
use walback::source::scan::{Scan, Start};
use walback::source::{Cancel, LocalSource, Source as _};
use walback::wal::{Body, Record};

use crate::past::{NAMES, Past};
use crate::support::Random;

/// What there is to aim at along one timeline. It only says where to aim: what happens there says the server.
#[derive(Debug, Default)]
struct Along {
    timeline: u32,
    /// Where records start, and where they end, in the order of WAL.
    records: Vec<(Lsn, Lsn)>,
    /// Transactions that ended, where and when, in the order of WAL.
    ended: Vec<(Lsn, Xid, Timestamp)>,
    /// Subtransactions, where the transaction ended, and which one that was.
    subtransactions: Vec<(Lsn, Xid, Xid)>,
    /// All that wrote something and did not end by themselves: running, lost, or part of another.
    not_ended: Vec<Xid>,
}

/// What a past has to aim at.
#[derive(Debug)]
pub(crate) struct Ground {
    /// What Walback knows of it.
    pub(crate) catalog: Catalog,
    along: Vec<Along>,
    /// Commits and aborts at the time of the one before, and earlier than the one before, on all timelines.
    pub(crate) ties: usize,
    /// See above.
    pub(crate) disorder: usize,
}

/// Where to aim, and from which backup.
#[derive(Debug, Clone)]
pub(crate) struct Aim {
    /// The target.
    pub(crate) target: Target,
    /// The backup; else Walback chooses.
    pub(crate) backup: Option<String>,
}

impl Ground {
    /// The transaction that this is a part of.
    pub(crate) fn transaction_of(&self, part: Xid) -> Option<Xid> {
        let mut all = self.along.iter().flat_map(|along| &along.subtransactions);
        all.find(|(_, xid, _)| *xid == part).map(|(.., transaction)| *transaction)
    }

    #[track_caller]
    pub(crate) fn survey(past: &Past) -> Ground {
        let source = LocalSource::new(&SourceConfig {
            name: "past".to_owned(),
            backups: vec![past.backups.clone()],
            wal: vec![past.archive.clone()],
            ..SourceConfig::default()
        });
        let catalog = source.list(&Cancel::default()).unwrap();
        let along: Vec<Along> =
            catalog.timelines.iter().map(|timeline| survey(&source, &catalog, timeline.id)).collect();
        let pairs = || along.iter().flat_map(|along| along.ended.windows(2));
        let ties = pairs().filter(|pair| pair[0].2 == pair[1].2).count();
        let disorder = pairs().filter(|pair| pair[0].2 > pair[1].2).count();
        Ground { catalog, along, ties, disorder }
    }

    /// Somewhere.
    pub(crate) fn aim(&self, random: &mut Random) -> Aim {
        let backups: Vec<&Backup> = self.catalog.usable_backups().collect();
        let backup = *random.pick(&backups).unwrap();
        let along = random.pick(&self.along).unwrap();
        let timeline = match random.below(10) {
            0..2 => TimelineChoice::Current,
            2..4 => TimelineChoice::Latest,
            _ => TimelineChoice::Number(TimelineId(along.timeline)),
        };
        let action = match random.below(10) {
            0 => Action::Promote,
            1 => Action::Shutdown,
            _ => Action::Pause,
        };
        // Mostly behind the backup: before its end all is refused alike.
        let from = if random.chance(75) { backup.stop_lsn.unwrap_or(Lsn(0)) } else { Lsn(0) };
        let kind = match random.below(100) {
            0..26 => TargetKind::Time(time(random, along, backup, from)),
            26..52 => TargetKind::Xid(xid(random, along, from)),
            52..78 => TargetKind::Lsn(lsn(random, along, backup, from)),
            78..90 => TargetKind::Name(name(random)),
            90..95 => TargetKind::Immediate,
            _ => TargetKind::Latest,
        };
        let has_sides = Target::new(kind.clone()).has_sides();
        let target = Target { kind, inclusive: !has_sides || random.chance(50), timeline, action };
        Aim { target, backup: random.chance(75).then(|| backup.id.clone()) }
    }
}

#[track_caller]
fn survey(source: &LocalSource, catalog: &Catalog, timeline: TimelineId) -> Along {
    let path = catalog.path_to(timeline).unwrap();
    let first = catalog.segments_of(path.stretches()[0].timeline).next().unwrap().number(catalog.segment_size);
    let scan = Scan { source, catalog, backup: None, path: &path, start: Start::Segment(first) };
    let mut along = Along { timeline: timeline.0, ..Along::default() };
    let (mut seen, mut ended) = (BTreeSet::new(), BTreeSet::new());
    let mut note = |record: &Record| {
        along.records.push((record.lsn, record.end_lsn));
        seen.extend(record.xid.map(|xid| xid.0));
        match &record.body {
            Body::Commit(outcome) | Body::Abort(outcome) => {
                along.ended.push((record.lsn, outcome.xid, outcome.at));
                along.subtransactions.extend(outcome.subxacts.iter().map(|xid| (record.lsn, *xid, outcome.xid)));
                ended.insert(outcome.xid.0);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    };
    scan.run(&Cancel::default(), &mut |_| (), &mut note).unwrap();
    along.not_ended = seen.difference(&ended).map(|xid| Xid(*xid)).collect();
    along
}

/// Those of a list in the order of WAL that are not before `from`; all, if none is.
fn behind<T>(list: &[T], from: Lsn, place: impl Fn(&T) -> Lsn) -> &[T] {
    let behind = &list[list.partition_point(|item| place(item) < from)..];
    if behind.is_empty() { list } else { behind }
}

/// Mostly about a time at which something ended.
fn time(random: &mut Random, along: &Along, backup: &Backup, from: Lsn) -> Timestamp {
    let ended = behind(&along.ended, from, |ended| ended.0);
    let at = random.pick(ended).map_or(Timestamp::UNIX_EPOCH, |ended| ended.2);
    let last = ended.iter().map(|ended| ended.2).max().unwrap_or(at);
    match random.below(20) {
        0..6 => at,
        6..8 => at.plus_micros(1),
        8..10 => at.plus_micros(-1),
        10..12 => {
            let other = random.pick(ended).map_or(at, |ended| ended.2);
            at.plus_micros((other.unix_micros() - at.unix_micros()) / 2)
        }
        12..14 => at.plus_micros(random.between(0, 20_000) as i64 - 10_000),
        14 | 15 => {
            let about = backup.finished_at.or(backup.started_at).unwrap_or(at);
            about.plus_micros(random.between(0, 3_000_000) as i64 - 1_500_000)
        }
        16 => last,
        17 => last.plus_micros(1),
        18 => last.plus_micros(-1),
        _ => last.plus_micros(1_000_000),
    }
}

fn xid(random: &mut Random, along: &Along, from: Lsn) -> Xid {
    let highest = along.ended.iter().map(|ended| ended.1.0).max().unwrap_or(3);
    let picked = match random.below(10) {
        0..7 => random.pick(behind(&along.ended, from, |ended| ended.0)).map(|ended| ended.1),
        7 => random.pick(behind(&along.subtransactions, from, |one| one.0)).map(|one| one.1),
        8 => random.pick(&along.not_ended).copied(),
        _ => Some(Xid(highest + u32::try_from(random.between(0, 200)).unwrap())),
    };
    picked.unwrap_or(Xid(highest))
}

/// Mostly about the start of a record.
fn lsn(random: &mut Random, along: &Along, backup: &Backup, from: Lsn) -> Lsn {
    let Some((start, end)) = random.pick(behind(&along.records, from, |record| record.0)).copied() else {
        return Lsn(0x100_0028);
    };
    let (first, last) = (along.records[0].0, along.records[along.records.len() - 1]);
    let near = |random: &mut Random, lsn: Lsn| Lsn(lsn.0 + random.below(200) as u64 - 100);
    match random.below(20) {
        0..5 => start,
        5 => Lsn(start.0 + 1),
        6 => Lsn(start.0 - 1),
        7 => end,
        8 => Lsn(start.0 + random.below(usize::try_from(end.0 - start.0).unwrap()) as u64),
        9 => Lsn(start.0 & !8191),
        10 => Lsn((start.0 & !8191) + 24),
        11 => Lsn(start.0 & !((1 << 20) - 1)),
        12 => Lsn((start.0 & !((1 << 20) - 1)) + 40),
        13 => last.0,
        14 => last.1,
        15 => Lsn(last.1.0 + random.between(1, 3 << 20) as u64),
        16 => near(random, backup.start_lsn.unwrap_or(first)),
        17 | 18 => near(random, backup.stop_lsn.unwrap_or(first)),
        _ => Lsn(first.0 + random.below(usize::try_from(last.1.0 - first.0).unwrap()) as u64),
    }
}

fn name(random: &mut Random) -> RestorePointName {
    let known = *random.pick(&NAMES).unwrap();
    let name = match random.below(12) {
        0 => "nowhere".to_owned(),
        1 => known.to_uppercase(),
        2 => "fork".to_owned(),
        _ => known.to_owned(),
    };
    // In capitals it can be too long.
    RestorePointName::try_from(name).unwrap_or_else(|_| RestorePointName::try_from(known.to_owned()).unwrap())
}
