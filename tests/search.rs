//! Finding the stop without reading everything: the same answer as by reading everything, from few segments.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "support/made_up.rs"]
mod made_up;

use made_up::{MadeUp, SYSTEM, Writer};
use proptest::prelude::*;
use tempfile::TempDir;
use walback::catalog::{Backup, BackupKind, Catalog, Compression, Listing};
use walback::config::RestoreConfig;
use walback::core::{
    ArchiveFile, Lsn, PgMajor, RestorePointName, SegmentSize, Target, TargetKind, TimelineChoice, TimelineId,
    Timestamp, Xid, Zone,
};
use walback::engine::{Preparation, Recoveries, Request};
use walback::error::ErrorKind;
use walback::resolve::{Resolved, Resolver};
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
                    segment.other(40);
                    segment.backup_end(START);
                }
                number => content(number, segment),
            }),
        );
        let files = (1..=last).map(|number| (ArchiveFile::Segment(made.name_of(number)), size().bytes()));
        let catalog = Catalog::build(Listing {
            backups: vec![backup()],
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
            progress: &|_| {},
            cancel: &cancel,
        };
        let request = Request {
            target: target.clone(),
            backup: None,
            directory: self.directory.path().join("new"),
            restore: RestoreConfig::default(),
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
        let end = scan.run(&Cancel::default(), &mut |_| {}, &mut |record| resolver.feed(record)).unwrap();
        let resolved = resolver.finish(end.at).map_err(|_| "target-not-reached")?;
        Ok(Resolved { backups: vec!["backup".to_owned()], ..resolved })
    }

    /// Reads everything into the cache.
    fn index(&self) {
        let cache = self.directory.path().join("cache");
        let index = Index::new(&self.made, &self.catalog, Some(&cache), 1000);
        index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap();
        self.made.opened();
    }
}

fn backup() -> Backup {
    Backup {
        id: String::new(),
        kind: BackupKind::Tar,
        location: "/backups/backup".into(),
        compression: Compression::None,
        pg_version: Some(PgMajor(15)),
        system_identifier: Some(SYSTEM),
        segment_size: Some(size()),
        timeline: Some(TimelineId(1)),
        start_lsn: Some(START),
        start_wal: None,
        stop_lsn: None,
        started_at: None,
        finished_at: None,
        size_bytes: 0,
        unpacked_bytes: None,
        parent: None,
        tablespaces: Vec::new(),
        manifest: false,
        label: None,
        from_standby: false,
        log_timezone: None,
        parts: Vec::new(),
        own_wal: Vec::new(),
        problems: Vec::new(),
    }
}

fn target(kind: TargetKind, inclusive: bool) -> Target {
    Target { inclusive, timeline: TimelineChoice::Current, ..Target::new(kind) }
}

/// One commit a second. Of a hundred segments half have none, in stretches of 1 to 24, and so has one stretch of a
/// thousand: those are bulk operations that take as long as the others.
fn bulky(number: u64, segment: &mut Writer) {
    if is_bulk(number) {
        segment.other(2000);
        return;
    }
    for i in 0..5 {
        let at = i64::try_from(number * 5 + i).unwrap() * 1_000_000;
        segment.commit((before(number) * 5 + i) as u32, micros(at));
    }
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

#[test]
fn a_time_among_100_000_segments_is_found_in_few() {
    let archive = Archive::new(100_000, bulky);
    let (mut few, mut all) = (0, 0);
    // Everywhere, before and behind stretches without commits too.
    let numbers = (0..100_u64).map(|i| 2 + i * 991).chain([29_999, 30_500, 31_001, 40, 64, 1080, 99_999]);
    for number in numbers {
        let wanted = i64::try_from(number).unwrap() * 5_000_000 + 2_500_000;
        let found = archive.find(&target(TargetKind::Time(micros(wanted)), true), false, false).unwrap();
        let opened = archive.made.opened();
        assert!(found.at.unwrap() > micros(wanted), "{number}");
        assert!(found.last_kept.unwrap().at.unwrap() <= micros(wanted), "{number}");
        let (lost, kept) = (found.first_lost.unwrap(), found.last_kept.unwrap());
        assert_eq!(lost.xid.unwrap().0, kept.xid.unwrap().0 + 1, "{number}: there is none between them");
        few += usize::from(opened.len() < 25);
        all += opened.len();
    }
    // Where the time lies close to the edge of a bulk operation, it takes more to find both of its edges.
    assert!(few >= 75, "fewer than 25 of {few} times; {all} in all");
    println!("fewer than 25 of {few} times; {all} in all");
}

/// What happened in one segment of a small archive.
#[derive(Debug, Clone)]
enum Happened {
    Commit(i64),
    Abort(i64),
    RestorePoint(u8),
    Other,
}

fn happened() -> impl Strategy<Value = Happened> {
    prop_oneof![
        4 => (-3_i64..3).prop_map(Happened::Commit),
        1 => (-3_i64..3).prop_map(Happened::Abort),
        1 => (0..3_u8).prop_map(Happened::RestorePoint),
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
        prop_assert_eq!(&archive.find(&target, false, true), &expected, "located, all known");
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
}
