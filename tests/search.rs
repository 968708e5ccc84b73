//! Finding the stop without reading everything: the same answer as by reading everything, from few segments.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "support/made_up.rs"]
mod made_up;

use made_up::{MadeUp, SYSTEM, Writer};
use std::ops::ControlFlow;
use std::sync::Mutex;

use proptest::prelude::*;
use tempfile::TempDir;
use walback::catalog::{Catalog, Listing};
use walback::config::RestoreConfig;
use walback::core::{
    Action, ArchiveFile, Lsn, RestorePointName, SegmentSize, Target, TargetKind, TimelineChoice, TimelineId, Timestamp,
    Xid, Zone,
};
use walback::engine::{Preparation, Recoveries, Request};
use walback::error::ErrorKind;
use walback::resolve::{BeforeWhat, Resolved, Resolver};
use walback::source::scan::{Scan, Start};
use walback::source::{Cancel, Index};

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

/// Microseconds after some moment.
fn micros(micros: i64) -> Timestamp {
    Timestamp::from_unix_micros(1_700_000_000_000_000 + micros).unwrap()
}

/// An archive, and a base backup that was taken at its beginning: segment 1 has its end.
struct Archive {
    made: MadeUp,
    catalog: Catalog,
    directory: TempDir,
}

/// Where the backup starts: the first record.
const START: Lsn = Lsn((1 << 20) + 40);

impl Archive {
    /// Segments 2 to `last` hold what `content` writes.
    fn new(last: u64, content: impl Fn(u64, &mut Writer) + Send + Sync + 'static) -> Archive {
        let made = MadeUp::new(
            size(),
            1,
            last,
            Box::new(move |number, segment| match number {
                0 => {}
                1 => {
                    segment.running(4, &[3]);
                    segment.backup_end(START);
                }
                number => content(number, segment),
            }),
        );
        let files = (1..=last).map(|number| (ArchiveFile::Segment(made.name_of(number)), size().bytes()));
        let catalog = Catalog::build(Listing {
            backups: vec![made_up::backup(size(), START)],
            files: files.collect(),
            segment_size: Some(size()),
            system_identifier: Some(SYSTEM),
            ..Listing::default()
        });
        Archive { made, catalog, directory: tempfile::tempdir().unwrap() }
    }

    /// What is found by `plan`'s way, which proves, or by `locate`'s; or the code of the error.
    fn find(&self, target: &Target, proven: bool, cached: bool) -> Result<Resolved, &'static str> {
        let recoveries = Recoveries::below(self.directory.path());
        let cache = self.directory.path().join("cache");
        let cancel = Cancel::default();
        let preparation = Preparation {
            source: &self.made,
            catalog: &self.catalog,
            recoveries: &recoveries,
            cache: cached.then_some(cache.as_path()),
            names: &Mutex::default(),
            progress: &|_| {},
            cancel: &cancel,
        };
        let request = Request {
            target: target.clone(),
            backup: None,
            directory: self.directory.path().join("new"),
            restore: RestoreConfig::default(),
            pristine: None,
            make_way: false,
            zone: Zone::UTC,
        };
        let resolved =
            if proven { preparation.plan(&request).map(|plan| plan.resolved) } else { preparation.locate(&request) };
        resolved.map_err(|error| {
            assert_eq!(error.report().kind, ErrorKind::Unreachable, "{error}");
            error.report().code
        })
    }

    /// What the resolver says to everything.
    fn read_all(&self, target: &Target) -> Result<Resolved, &'static str> {
        let path = self.catalog.path_to(TimelineId(1)).unwrap();
        let mut resolver = Resolver::new(target, &path, START, None);
        let scan =
            Scan { source: &self.made, catalog: &self.catalog, backup: None, path: &path, start: Start::Record(START) };
        let mut feed = |record: &_| {
            let _ = resolver.feed(record);
            ControlFlow::Continue(())
        };
        let end = scan.run(&Cancel::default(), &mut |_| {}, &mut feed).unwrap();
        resolver.went_to_the_end(None);
        let resolved = resolver.finish(end.at).map_err(|_| "target-not-reached")?;
        let resolved = self.with_choice(resolved, target)?;
        // Where nobody can connect, the server is told to shut down.
        let told = resolved.as_told(target).clone();
        let down = (!resolved.is_readable).then_some(Target { action: Action::Shutdown, ..told });
        let told = down.or(resolved.told);
        Ok(Resolved { backups: vec!["backup".to_owned()], told, ..resolved })
    }

    /// The same where “before” may be before the first lock: what lies between is the difference of what is lost.
    fn with_choice(&self, mut resolved: Resolved, target: &Target) -> Result<Resolved, &'static str> {
        let consistent_at = resolved.consistent_at;
        let Some(lock) = resolved.before.iter().position(|place| place.what == BeforeWhat::FirstLock) else {
            return Ok(resolved);
        };
        let place = &mut resolved.before[lock];
        let told = Target { kind: TargetKind::Lsn(place.lsn), inclusive: false, ..target.clone() };
        if place.lsn < consistent_at {
            return Ok(resolved);
        }
        let before_lock = self.read_all(&told)?;
        place.commits_lost = before_lock.commits_lost.unwrap() - resolved.commits_lost.unwrap();
        if place.commits_lost > 0 || !matches!(target.kind, TargetKind::Xid(_)) {
            return Ok(resolved);
        }
        resolved.before.iter_mut().enumerate().for_each(|(i, place)| place.chosen = i == lock);
        Ok(Resolved { before: resolved.before, told: Some(told), ..before_lock })
    }

    /// Reads everything into the cache.
    fn index(&self) {
        let cache = self.directory.path().join("cache");
        let index = Index::new(&self.made, &self.catalog, Some(&cache), 1000);
        index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap();
        self.made.opened();
    }
}

fn target(kind: TargetKind, inclusive: bool) -> Target {
    Target { inclusive, timeline: TimelineChoice::Current, ..Target::new(kind) }
}

/// One commit a second. Of a hundred segments half have none, in stretches of 1 to 24, and so has one stretch of a
/// thousand: those are bulk operations that take as long as the others, each one the transaction that commits next. As a
/// server does, this one says every 15 seconds which transactions run.
fn bulky(number: u64, segment: &mut Writer) {
    let xid = first_xid(number);
    if !is_bulk(number) {
        return commit_five(number, segment);
    }
    segment.load(xid);
    if number.is_multiple_of(3) {
        segment.running(xid + 1, &[xid]);
    }
    segment.load(xid);
}

/// The same, but the bulk operations have no ids, as `VACUUM` has none.
fn bulky_without_ids(number: u64, segment: &mut Writer) {
    if !is_bulk(number) {
        return commit_five(number, segment);
    }
    segment.other(1000);
    if number.is_multiple_of(3) {
        segment.running(first_xid(number), &[]);
    }
    segment.other(1000);
}

fn commit_five(number: u64, segment: &mut Writer) {
    for i in 0..5 {
        let at = i64::try_from(number * 5 + u64::from(i)).unwrap() * 1_000_000;
        let xid = first_xid(number) + i;
        if i == 2 && number.is_multiple_of(3) {
            segment.running(xid + 1, &[xid]);
        }
        segment.commit(xid, micros(at));
    }
}

/// The first id that commits in this segment or behind it.
fn first_xid(number: u64) -> u32 {
    (before(number) * 5) as u32
}

fn is_bulk(number: u64) -> bool {
    let stretches = [(10, 11), (20, 32), (40, 64), (80, 92)];
    stretches.iter().any(|(from, to)| (*from..*to).contains(&(number % 100))) || (30_000..31_000).contains(&number)
}

/// So many segments before this one are not bulk.
fn before(number: u64) -> u64 {
    let hundreds = number / 100 - ((number / 100).clamp(300, 310) - 300);
    200 + hundreds * 51 + (number / 100 * 100..number).filter(|number| !is_bulk(*number)).count() as u64
}

/// How many segments are opened for each of these times, in the middle of a segment: what is found is checked.
fn opened_for(archive: &Archive, numbers: impl Iterator<Item = u64>) -> Vec<(u64, usize)> {
    let mut counts = Vec::new();
    for number in numbers {
        let wanted = i64::try_from(number).unwrap() * 5_000_000 + 2_500_000;
        let found = archive.find(&target(TargetKind::Time(micros(wanted)), true), false, false).unwrap();
        counts.push((number, archive.made.opened().len()));
        assert!(found.at.unwrap() > micros(wanted), "{number}");
        assert!(found.last_kept.unwrap().at.unwrap() <= micros(wanted), "{number}");
        let (lost, kept) = (found.first_lost.unwrap(), found.last_kept.unwrap());
        assert_eq!(lost.xid.unwrap().0, kept.xid.unwrap().0 + 1, "{number}: there is none between them");
    }
    counts
}

/// Everywhere, before and behind stretches without commits too.
fn everywhere() -> impl Iterator<Item = u64> {
    (0..100_u64).map(|i| 2 + i * 991).chain([29_999, 30_500, 31_001, 40, 64, 1080, 99_999])
}

/// Before, within and behind a bulk operation of a thousand segments.
fn around_a_long_one() -> impl Iterator<Item = u64> {
    (29_900..31_100).step_by(31).chain([29_998, 29_999, 30_000, 30_001, 30_998, 30_999, 31_000, 31_001])
}

#[test]
fn a_time_among_100_000_segments_is_found_in_few() {
    let archive = Archive::new(100_000, bulky);
    let counts = opened_for(&archive, everywhere());
    let many: Vec<_> = counts.iter().filter(|(_, opened)| *opened >= 25).collect();
    assert!(many.is_empty(), "{many:?}");
    // Here both edges are far away.
    let counts = opened_for(&archive, around_a_long_one());
    println!("{counts:?}");
    let many: Vec<_> = counts.iter().filter(|(_, opened)| *opened >= 25).collect();
    assert!(many.len() <= 2 && many.iter().all(|(_, opened)| *opened < 30), "{many:?}");
}

#[test]
fn a_time_is_found_where_bulk_operations_have_no_ids() {
    let counts = opened_for(&Archive::new(100_000, bulky_without_ids), everywhere());
    // To find the edges of these takes more.
    let few = counts.iter().filter(|(_, opened)| *opened < 25).count();
    assert!(few >= 80, "fewer than 25 of {few} times only: {counts:?}");
}

/// A few commits in the midst of a long bulk operation: the ids that are missing on both sides say that they are there.
#[test]
fn commits_within_a_bulk_operation_are_found() {
    let archive = Archive::new(5000, |number, segment| {
        let bulk = number.clamp(2000, 2700) - 2000 + number.clamp(2706, 3000) - 2706;
        let xid = ((number - bulk) * 5) as u32;
        let is_bulk = matches!(number, 2000..2700 | 2706..3000);
        if number.is_multiple_of(3) {
            if is_bulk {
                segment.running(xid + 1, &[xid])
            } else {
                segment.running(xid, &[])
            };
        }
        if is_bulk {
            segment.load(xid);
            return;
        }
        for i in 0..5 {
            segment.commit(xid + i, micros(i64::try_from(number * 5 + u64::from(i)).unwrap() * 1_000_000));
        }
    });
    opened_for(&archive, [1999, 2001, 2350, 2698, 2699, 2700, 2703, 2705, 2706, 2800, 2999, 3000].into_iter());
}

/// Prints how many segments are opened and how long it takes: `cargo test --release --test search -- --ignored
/// --nocapture figures`.
#[test]
#[ignore = "prints figures"]
fn figures() {
    let seldom = |number: u64, segment: &mut Writer| {
        let xid = first_xid(number);
        if !is_bulk(number) {
            for i in 0..5 {
                let at = i64::try_from(number * 5 + u64::from(i)).unwrap() * 1_000_000;
                segment.commit(xid + i, micros(at));
            }
        } else {
            segment.load(xid);
        }
        if number.is_multiple_of(20) {
            if is_bulk(number) {
                segment.running(xid + 1, &[xid])
            } else {
                segment.running(xid + 5, &[])
            };
        }
    };
    for (what, archive) in [
        ("as loaded", Archive::new(100_000, bulky)),
        ("without ids", Archive::new(100_000, bulky_without_ids)),
        ("lists every 20", Archive::new(100_000, seldom)),
    ] {
        for (place, numbers) in [
            ("everywhere", everywhere().collect::<Vec<_>>()),
            ("around a long one", around_a_long_one().collect()),
            ("around short ones", (57_300..57_400).collect()),
        ] {
            let mut figures = Vec::new();
            for number in numbers {
                let start = std::time::Instant::now();
                let opened = opened_for(&archive, std::iter::once(number))[0].1;
                figures.push((opened, start.elapsed().as_micros(), number));
            }
            figures.sort_unstable();
            let few = figures.iter().filter(|(opened, ..)| *opened < 25).count();
            let (middle, last) = (figures[figures.len() / 2], figures[figures.len() - 1]);
            let slowest = figures.iter().map(|(_, took, _)| *took).max().unwrap();
            println!(
                "{what}, {place}: {} in the middle, {} at most (for {}), {few} of {} below 25; {slowest} µs at most",
                middle.0,
                last.0,
                last.2,
                figures.len(),
            );
        }
    }
}

/// What happened in one segment of a small archive.
#[derive(Debug, Clone)]
enum Happened {
    Commit(i64),
    Abort(i64),
    RestorePoint(u8),
    Lock,
    Unlock(i64),
    Running { back: u32, overflowed: bool },
    Setting(u32),
    Other,
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        4 => (-3_i64..3).prop_map(Happened::Commit),
        1 => (-3_i64..3).prop_map(Happened::Abort),
        1 => (0..3_u8).prop_map(Happened::RestorePoint),
        2 => Just(Happened::Lock),
        1 => (-3_i64..3).prop_map(Happened::Unlock),
        1 => (0..8_u32, any::<bool>()).prop_map(|(back, overflowed)| Happened::Running { back, overflowed }),
        1 => (1..5_u32).prop_map(Happened::Setting),
        2 => Just(Happened::Other),
    ]
}

/// A small archive of what happened, with times that are up to some units out of order.
fn small(segments: Vec<Vec<Happened>>) -> Archive {
    let last = segments.len() as u64 + 1;
    let mut xid = 1000;
    let numbered: Vec<Vec<(u32, Happened)>> = segments
        .into_iter()
        .map(|segment| {
            let number = |happened| {
                xid += 1;
                (xid, happened)
            };
            segment.into_iter().map(number).collect()
        })
        .collect();
    Archive::new(last, move |number, segment| {
        for (xid, happened) in numbered.get(number as usize - 2).into_iter().flatten() {
            let at = |off: i64| micros((i64::from(*xid) + off).div_euclid(2) * 1_000_000);
            match happened {
                Happened::Commit(off) => segment.commit(*xid, at(*off)),
                Happened::Abort(off) => segment.abort(*xid, at(*off)),
                Happened::RestorePoint(name) => segment.restore_point(&format!("p{name}"), at(0)),
                // The next one has it; no two have the same.
                Happened::Lock => segment.lock(*xid + 1, *xid),
                Happened::Unlock(off) => segment.unlock(*xid, at(*off)),
                Happened::Running { back, overflowed: true } => segment.running_overflowed(*xid, &[*xid - back]),
                Happened::Running { back, overflowed: false } => segment.running(*xid, &[*xid - back]),
                Happened::Setting(connections) => segment.parameter_change(*connections),
                Happened::Other => segment.other(100),
            };
        }
    })
}

fn some_target() -> impl Strategy<Value = Target> {
    let name = |name| RestorePointName::try_from(format!("p{name}")).unwrap();
    let kind = prop_oneof![
        4 => (480_i64..560).prop_map(|at| TargetKind::Time(micros(at * 1_000_000))),
        3 => (995_u32..1110).prop_map(|xid| TargetKind::Xid(Xid(xid))),
        2 => (0_u64..25 << 20).prop_map(|lsn| TargetKind::Lsn(Lsn((1 << 20) + 200 + lsn))),
        2 => (0..4_u8).prop_map(move |number| TargetKind::Name(name(number))),
        1 => Just(TargetKind::Latest),
        1 => Just(TargetKind::Immediate),
    ];
    (kind, any::<bool>()).prop_map(|(kind, inclusive)| target(kind, inclusive))
}

/// Without what `locate` counts only where there is an overview of everything.
fn uncounted(resolved: Resolved) -> Resolved {
    let (commits_lost, last_lost, named_again, requires) = (None, None, Vec::new(), None);
    let (locked, readable_from, ambiguous, before) = (Vec::new(), None, Vec::new(), Vec::new());
    Resolved { commits_lost, last_lost, named_again, requires, locked, readable_from, ambiguous, before, ..resolved }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happened, in whatever order its times are: what a plan says is what reading everything says.
    #[test]
    fn the_answer_is_that_of_reading_everything(
        segments in prop::collection::vec(prop::collection::vec(happened(), 0..6), 1..20),
        target in some_target(),
    ) {
        let archive = small(segments);
        let expected = archive.read_all(&target);
        prop_assert_eq!(&archive.find(&target, true, true), &expected, "proven, nothing known");
        archive.made.opened();
        prop_assert_eq!(&archive.find(&target, true, true), &expected, "proven, all known");
        let located = archive.find(&target, false, true);
        if let (Ok(located), Ok(expected)) = (&located, &expected) {
            prop_assert!(located.ambiguous.iter().all(|place| expected.ambiguous.contains(place)));
        }
        prop_assert_eq!(located.map(uncounted), expected.map(uncounted), "located, all known");
    }
}

/// What a server does next.
#[derive(Debug, Clone)]
enum Does {
    /// A transaction gets an id, and maybe a subtransaction too.
    Begins(bool),
    /// One of those that run, by this number, ends some tenths of a second off.
    Ends(usize, i64),
    /// One of those that run writes.
    Writes(usize),
    /// It lists those that run, maybe with the one that just committed.
    Lists(bool),
    /// So many segments are filled by one of those that run, or by none.
    Fills(u8, usize),
}

fn does() -> impl Strategy<Value = Does> {
    prop_oneof![
        5 => any::<bool>().prop_map(Does::Begins),
        4 => (0..8_usize, -4_i64..=4).prop_map(|(which, off)| Does::Ends(which, off)),
        2 => (0..8_usize).prop_map(Does::Writes),
        3 => any::<bool>().prop_map(Does::Lists),
        3 => (1..12_u8, 0..8_usize).prop_map(|(segments, which)| Does::Fills(segments, which)),
    ]
}

/// What is written, by segments. Every third transaction is prepared, every fifth is rolled back.
fn written(doing: &[Does]) -> Vec<Vec<(u32, Vec<u32>, Happens)>> {
    let mut segments = vec![Vec::new()];
    let (mut next, mut clock, mut running, mut last) = (1000_u32, 0_i64, Vec::<(u32, Vec<u32>)>::new(), None);
    for does in doing {
        let count = running.len().max(1);
        let segment = segments.last_mut().unwrap();
        let before = last.take();
        match does {
            Does::Begins(with) => {
                running.push((next, if *with { vec![next + 1] } else { Vec::new() }));
                next += 1 + u32::from(*with);
            }
            Does::Ends(which, off) if !running.is_empty() => {
                let (xid, subxacts) = running.remove(which % count);
                clock += 1;
                last = Some(xid);
                segment.push((xid, subxacts, Happens::Ends(micros((clock + off) * 100_000))));
            }
            Does::Writes(which) if !running.is_empty() => {
                segment.push((running[which % count].0, Vec::new(), Happens::Writes));
            }
            Does::Lists(with) => {
                let mut xids: Vec<u32> =
                    running.iter().flat_map(|(xid, subs)| [&[*xid], subs.as_slice()].concat()).collect();
                xids.extend(before.filter(|_| *with));
                segment.push((next, xids, Happens::Lists));
            }
            Does::Fills(more, which) => {
                let xid = running.get(which % count).map_or(0, |(xid, _)| *xid);
                for _ in 0..*more {
                    segments.push(vec![(xid, Vec::new(), Happens::Writes)]);
                }
                segments.push(Vec::new());
            }
            _ => {}
        }
    }
    segments
}

/// What a record is about.
#[derive(Debug, Clone, Copy)]
enum Happens {
    Ends(Timestamp),
    Writes,
    Lists,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// Transactions that run long or at once, prepared ones and subtransactions, and times that are up to a second out of
    /// order: what is located, with nothing known, is what reading everything says.
    #[test]
    fn a_time_is_located_as_reading_everything_says(
        doing in prop::collection::vec(does(), 1..160),
        tenths in 0_i64..80,
        inclusive: bool,
    ) {
        let segments = written(&doing);
        let archive = Archive::new(segments.len() as u64 + 1, move |number, segment| {
            for (xid, others, happens) in segments.get(number as usize - 2).into_iter().flatten() {
                match happens {
                    Happens::Ends(at) if !others.is_empty() => segment.commit_with(*xid, others, *at),
                    Happens::Ends(at) if xid.is_multiple_of(3) => segment.commit_prepared(*xid, *at),
                    Happens::Ends(at) if xid.is_multiple_of(5) => segment.abort(*xid, *at),
                    Happens::Ends(at) => segment.commit(*xid, *at),
                    Happens::Writes => segment.load(*xid),
                    Happens::Lists => segment.running(*xid, others),
                };
            }
        });
        let wanted = target(TargetKind::Time(micros(tenths * 100_000)), inclusive);
        let (found, mut expected) = (archive.find(&wanted, false, false), archive.read_all(&wanted));
        // What is lost is counted only where that takes no more reading.
        if let (Ok(found), Ok(expected)) = (&found, &mut expected)
            && found.commits_lost.is_none()
        {
            (expected.commits_lost, expected.last_lost) = (None, None);
            // Of the same time are those that were read.
            prop_assert!(found.ambiguous.iter().all(|same| expected.ambiguous.contains(same)));
            expected.ambiguous.clone_from(&found.ambiguous);
        }
        prop_assert_eq!(found, expected);
    }
}

#[test]
fn what_is_known_is_not_read_again_for_a_plan() {
    let archive = Archive::new(2000, |number, segment| {
        for i in 0..5 {
            segment.commit((number * 5 + i) as u32, micros(i64::try_from(number * 5 + i).unwrap() * 1_000_000));
        }
        if number == 1500 {
            segment.restore_point("deploy", micros(7_600_000_000));
        }
    });
    archive.index();
    let name = RestorePointName::try_from("deploy".to_owned()).unwrap();
    for kind in [
        TargetKind::Time(micros(7_500_500_000)),
        TargetKind::Xid(Xid(7502)),
        TargetKind::Lsn(size().start_of(1500).plus(100)),
        TargetKind::Name(name),
        TargetKind::Latest,
    ] {
        for proven in [true, false] {
            let found = archive.find(&target(kind.clone(), true), proven, true).unwrap();
            let opened = archive.made.opened();
            assert!(opened.len() <= 8, "{kind:?}: {opened:?}");
            assert_eq!(Ok(found), archive.read_all(&target(kind.clone(), true)), "{kind:?}");
            archive.made.opened();
        }
    }
}

/// A clock that was set back: the first place that is too late counts, and only what lies in every segment tells.
#[test]
fn a_clock_that_was_set_back_does_not_mislead_who_knows_all() {
    let archive = Archive::new(400, |number, segment| {
        let back = if number > 200 { 100 } else { 0 };
        segment.commit(number as u32 + 1000, micros((number as i64 - back) * 1_000_000));
    });
    let wanted = target(TargetKind::Time(micros(150_500_000)), true);
    let expected = archive.read_all(&wanted);
    assert_eq!(archive.find(&wanted, true, true), expected);
    archive.index();
    assert_eq!(archive.find(&wanted, false, true), expected);
    assert_eq!(expected.unwrap().commits_lost, Some(250));
}

/// A plan counts what is lost from what is known, and goes twice over it where it stops before a lock.
#[test]
fn what_is_lost_among_10_000_segments_is_counted_from_what_is_known() {
    let last = 10_000;
    let archive = Archive::new(last, |number, segment| {
        for i in 0..5 {
            segment.commit((number * 10 + i) as u32, micros(i64::try_from(number * 10 + i).unwrap() * 1_000_000));
        }
        if number == 4000 {
            segment.lock(40_006, 16_384);
            segment.unlock(40_006, micros(40_006_000_000));
        }
    });
    archive.index();
    let before = target(TargetKind::Xid(Xid(40_006)), false);
    let started = std::time::Instant::now();
    let found = archive.find(&before, true, true).unwrap();
    println!("planned in {:?}", started.elapsed());
    let opened = archive.made.opened();
    assert!(opened.len() <= 8, "{opened:?}");
    assert_eq!(found.commits_lost, Some((last - 4000) * 5 + 1));
    assert_eq!(found.last_lost.and_then(|place| place.xid), Some(Xid(100_004)));
    assert_eq!((found.before.len(), found.told.unwrap().kind), (2, TargetKind::Lsn(found.lsn)));
    assert_eq!(found.locked, []);
    let located = archive.find(&before, false, true).unwrap();
    assert_eq!((located.commits_lost, located.last_lost), (found.commits_lost, found.last_lost));
}
