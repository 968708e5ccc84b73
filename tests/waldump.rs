//! Holds what Walback reads in WAL against what `pg_waldump` of the same major says of it, record by record: not one
//! missing, not one invented. For 14, of which there is no `pg_waldump` to be had, 13's stands in.
//!
//! `pg_waldump` prints no times of restore points and checkpoints. Those of restore points are held against the clock of
//! the server that made them, and one against the log of a server that stopped there.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::ControlFlow;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use chrono::DateTime;
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use support::{
    Cluster, Directory, Dump, Format, Options, Said, Server, Stop, Told, Waldump, What, assert_same, said_by_walback,
};
use walback::catalog::{Catalog, Point, PointKind};
use walback::config::{RestoreConfig, SourceConfig};
use walback::core::{ArchiveFile, Lsn, SegmentName, SegmentSize, TimelineId, TimelinePath, Timestamp};
use walback::source::scan::{EndCause, Scan, Start, all_points};
use walback::source::{Cancel, LocalSource, Source as _};
use walback::wal::{Body, Decoded, Decoder, EndReason, Record, RowChange, SegmentHeader};

/// A server and its `pg_waldump`; `None` where one of the two is not to be had.
fn versions(major: u16) -> Option<(Server, Waldump)> {
    Some((Server::available(major)?, Waldump::available(major)?))
}

/// The settings that the work needs, and more.
fn options(segment_mib: u32, more: &[(&'static str, &str)]) -> Options {
    let mut settings = vec![("max_prepared_transactions", "8".to_owned()), ("autovacuum", "off".to_owned())];
    settings.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Options { segment_mib, settings, ..Options::default() }
}

/// A restore point as the server that made it told of it.
#[derive(Debug)]
struct Made {
    name: String,
    end_lsn: Lsn,
    /// The server's clock, in microseconds since 1970, on both sides of it.
    between: (i64, i64),
}

/// What is done in a cluster, so that its WAL has everything in it that Walback tells of.
struct Work<'a> {
    cluster: &'a Cluster<'a>,
    made: Vec<Made>,
}

impl<'a> Work<'a> {
    fn on(cluster: &'a Cluster<'a>) -> Work<'a> {
        Work { cluster, made: Vec::new() }
    }

    /// Runs statements, each a transaction of its own where it does not say otherwise.
    #[track_caller]
    fn sql(&self, sql: &str) -> String {
        self.cluster.session().query(sql)
    }

    fn restore_point(&mut self, name: &str) {
        let clock = "extract(epoch from clock_timestamp()) * 1000000";
        let told = self.sql(&format!(
            "select trunc({clock})::bigint; select pg_create_restore_point('{name}'); select trunc({clock})::bigint;"
        ));
        let told: Vec<&str> = told.lines().collect();
        let [before, lsn, after] = told[..] else { panic!("{told:?}") };
        let between = (before.parse().unwrap(), after.parse().unwrap());
        self.made.push(Made { name: name.to_owned(), end_lsn: lsn.parse().unwrap(), between });
    }

    /// Everything, in tables whose names begin with `tag`.
    fn everything(&mut self, tag: &str) {
        self.sql(&ORDINARY.replace("TAG", tag));
        self.restore_point(&format!("{tag}; subxacts: 1"));
        self.sql(&DEFINITIONS.replace("TAG", tag));
        self.restore_point("twice, täglich");
        self.sql(&LARGE.replace("TAG", tag));
        self.restore_point("twice, täglich");
        self.sql(&PREPARED.replace("TAG", tag));
    }

    /// Crashes with a transaction open and another prepared, comes back, and ends the prepared one.
    fn crash(&mut self, tag: &str) {
        let mut session = self.cluster.session();
        session.query(&format!(
            "begin; insert into {tag}_kept values (7001, 'prepared'); savepoint s; delete from {tag}_kept where n = 100; \
             prepare transaction '{tag} before the crash'; begin; insert into {tag}_kept values (7002, 'lost'); \
             savepoint s; insert into {tag}_kept values (7003, 'lost');"
        ));
        // What another transaction flushes, takes the open one's records with it.
        self.sql(&format!("insert into {tag}_kept values (7004, 'kept');"));
        self.cluster.stop(Stop::Immediate);
        self.cluster.start();
        self.sql(&format!("commit prepared '{tag} before the crash'; insert into {tag}_kept values (7005, 'after');"));
    }

    /// Commits, which writes all before it out: of a restore point alone, a crash would leave nothing.
    fn last(&self, tag: &str) {
        self.sql(&format!("update {tag}_kept set v = v || '!' where n = 112;"));
    }

    /// Ends a transaction so close before the end of a segment that the record of its commit goes on in the next.
    fn commit_across_segments(&self, tag: &str, segment_bytes: u64) {
        let left = format!("({segment_bytes} - (pg_current_wal_insert_lsn() - '0/0')::bigint % {segment_bytes})");
        self.sql(&format!(
            "begin; {} insert into {tag}_full select repeat('x', 8000) from generate_series(1, {left} / 8192 - 4);
             select 1 from pg_logical_emit_message(false, '',
               repeat('x', greatest(({left} * 8168 / 8192 - 900)::int, 0))); commit;",
            SUBTRANSACTIONS.replace("TAG", tag)
        ));
    }
}

/// 400 subtransactions, whose numbers take 1600 bytes of a commit.
const SUBTRANSACTIONS: &str = "do $$ begin for i in 10001..10400 loop
      begin insert into TAG_kept values (i, 'z'); exception when raise_exception then null; end;
    end loop; end $$;";

/// Rows, subtransactions, rollbacks; no statement may open a transaction block around all.
const ORDINARY: &str = "
create table TAG_kept (n int primary key, v text);
alter table TAG_kept alter v set storage external;
create table TAG_full (v text); alter table TAG_full alter v set storage plain;
insert into TAG_kept select i, 'v' from generate_series(1, 200) i;
begin; insert into TAG_kept values (1001, 'a'); savepoint a; insert into TAG_kept values (1002, 'b'); savepoint b;
delete from TAG_kept where n < 20; rollback to b; delete from TAG_kept where n < 10; release a; commit;
begin; delete from TAG_kept where n between 20 and 40; savepoint a; delete from TAG_kept where n between 41 and 60; commit;
begin; insert into TAG_kept values (1003, 'c'); savepoint a; delete from TAG_kept where n = 61; rollback;
do $$ begin for i in 2001..2150 loop
  begin insert into TAG_kept values (i, 'x'); if i % 3 = 0 then raise exception 'no'; end if;
  exception when raise_exception then null; end;
end loop; end $$;
begin;
do $$ begin for i in 3001..3100 loop
  begin insert into TAG_kept values (i, 'y'); exception when raise_exception then null; end;
end loop; end $$;
rollback;
update TAG_kept set v = 'w' where n > 150;
begin; select 1 from TAG_kept where n = 70 for update; savepoint a; select 1 from TAG_kept where n = 71 for share; commit;
select pg_switch_wal();
";

/// Long commits: many relations dropped, and many invalidations.
const DEFINITIONS: &str = "
create schema TAG_schema;
do $$ begin for i in 1..25 loop
  execute format('create table TAG_schema.t%s (n serial primary key, v text)', i);
end loop; end $$;
drop schema TAG_schema cascade;
begin; create table TAG_lost (n int primary key, v text); savepoint a; create index on TAG_lost (v); rollback;
create table TAG_cut (n int primary key, v text); insert into TAG_cut values (1), (2); truncate TAG_cut;
alter table TAG_cut alter n type bigint; create function TAG_f() returns int language sql as 'select 1';
drop function TAG_f(); drop table TAG_cut; vacuum full TAG_kept; vacuum TAG_kept; checkpoint;
create sequence TAG_sequence; select nextval('TAG_sequence'); drop sequence TAG_sequence;
select 1 from pg_replication_origin_create('TAG'); select pg_replication_origin_session_setup('TAG');
begin; select pg_replication_origin_xact_setup('0/1234', '2024-10-02 12:30:05.123456+00');
insert into TAG_kept values (4001, 'origin'); savepoint a; insert into TAG_kept values (4002, 'origin'); commit;
select pg_replication_origin_session_reset(); select pg_replication_origin_drop('TAG');
";

/// Records longer than pages and segments of 1 MB.
const LARGE: &str = "
insert into TAG_kept select 5001, string_agg(md5(i::text), '') from generate_series(1, 20000) i;
copy TAG_kept (n) from program 'seq 6001 6900'; delete from TAG_kept where n = 5001;
select 1 from pg_logical_emit_message(true, 'long', repeat('m', 2500000));
select 1 from pg_logical_emit_message(false, 'long', repeat('m', 100000));
select pg_switch_wal();
select pg_switch_wal();
";

/// Prepared transactions, one with a name that looks like what `pg_waldump` prints behind it.
const PREPARED: &str = "
begin; insert into TAG_kept values (8001, 'p'); savepoint a; delete from TAG_kept where n = 101; prepare transaction 'TAG one';
commit prepared 'TAG one';
create table TAG_old (n int);
begin; insert into TAG_kept values (8002, 'p'); savepoint a; drop table TAG_old; create table TAG_new (n int);
prepare transaction 'TAG: 2026-01-01 00:00:00.000000 UTC; rels: für';
rollback prepared 'TAG: 2026-01-01 00:00:00.000000 UTC; rels: für';
begin; insert into TAG_kept values (8003, 'p'); savepoint a; drop table TAG_old; create table TAG_new (n int);
prepare transaction 'TAG one'; commit prepared 'TAG one';
";

/// The WAL of a history in one directory, and both readings of it.
struct Wal {
    directory: PathBuf,
    source: LocalSource,
    catalog: Catalog,
    dumps: BTreeMap<TimelineId, Dump>,
}

impl Wal {
    /// Gathers whole segments, begun ones too, and histories: of the archive first, then of the servers' own
    /// directories. A `.partial` file is read as the segment that it would have become.
    fn gather(directory: &Directory, waldump: &Waldump, from: &[PathBuf]) -> Wal {
        let wal = directory.create("wal");
        let link = |file: &Path, name: String| {
            let link = wal.join(name);
            if !link.exists() {
                fs::hard_link(file, link).unwrap();
            }
        };
        for (file, name) in from.iter().flat_map(|directory| wal_files(directory)) {
            match name {
                ArchiveFile::Segment(_) | ArchiveFile::History(_) => link(&file, name.to_string()),
                _ => {}
            }
        }
        for (file, name) in from.iter().flat_map(|directory| wal_files(directory)) {
            if let ArchiveFile::Partial(segment) = name {
                link(&file, segment.to_string());
            }
        }
        Wal::read(wal, waldump)
    }

    fn read(directory: PathBuf, waldump: &Waldump) -> Wal {
        let restore = RestoreConfig::default();
        let config = SourceConfig {
            name: "here".to_owned(),
            backups: Vec::new(),
            wal: vec![directory.clone()],
            restore,
            ..SourceConfig::default()
        };
        let source = LocalSource::new(&config);
        let catalog = source.list(&Cancel::default()).unwrap();
        assert_eq!(catalog.problems, Vec::<String>::new());
        let first = |timeline: TimelineId| catalog.segments_of(timeline).next().unwrap().start(catalog.segment_size);
        let ids = catalog.timelines.iter().map(|timeline| timeline.id);
        let dumps = ids.map(|id| (id, waldump.read(&directory, id.0, first(id)))).collect();
        Wal { directory, source, catalog, dumps }
    }

    /// What `pg_waldump` says along the path to a timeline.
    fn told(&self, path: &TimelinePath) -> Vec<Said> {
        let stretches = path.stretches().iter();
        let told = stretches.flat_map(|stretch| {
            let records = self.dumps[&stretch.timeline].records.iter().map(|told| told.said.clone());
            records.filter(|said| stretch.begin <= said.lsn && stretch.end.is_none_or(|end| said.lsn < end))
        });
        told.collect()
    }

    /// Walback's records from `start` on along a path.
    fn scan(&self, path: &TimelinePath, start: Start, most: usize) -> (Vec<Record>, walback::source::scan::ScanEnd) {
        let mut records = Vec::new();
        let scan = Scan { source: &self.source, catalog: &self.catalog, backup: None, path, start };
        let end = scan.run(&Cancel::default(), &mut |_| (), &mut |record| {
            records.push(record.clone());
            if records.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        (records, end.unwrap())
    }

    /// Compares everything; gives the number of records compared.
    #[track_caller]
    fn assert_read_alike(&self) -> usize {
        self.compare_points();
        let paths: Vec<TimelinePath> = self.dumps.keys().map(|id| self.catalog.path_to(*id).unwrap()).collect();
        paths.iter().map(|path| self.compare_path(path)).sum()
    }

    #[track_caller]
    fn compare_path(&self, path: &TimelinePath) -> usize {
        let size = self.catalog.segment_size;
        let first = self.catalog.segments_of(path.stretches()[0].timeline).next().unwrap().number(size);
        let told = self.told(path);
        let (records, end) = self.scan(path, Start::Segment(first), usize::MAX);
        assert_same(&format!("records along {path}"), &told, &records.iter().map(said_by_walback).collect::<Vec<_>>());
        self.check_end(path, &records, end.at, &end.cause);
        check_places(&records, size);

        // The same record is the first, wherever reading starts.
        let last = size.number_of(records.last().unwrap().lsn);
        for number in first..=last {
            let expected = told.iter().find(|said| said.lsn >= size.start_of(number));
            let found = self.scan(path, Start::Segment(number), 1).0;
            assert_eq!(found.first().map(said_by_walback).as_ref(), expected, "from segment {number} on, along {path}");
        }
        // To get to a record in a large segment takes time.
        let samples = 100 / usize::try_from(size.bytes() >> 20).unwrap();
        for expected in told.iter().step_by(told.len() / (samples + 2)) {
            let found = self.scan(path, Start::Record(expected.lsn), 1).0;
            assert_eq!(found.first().map(said_by_walback).as_ref(), Some(expected), "along {path}");
        }
        told.len()
    }

    /// The end is where `pg_waldump` says that it is: behind the same last record, and where it names the place of the
    /// record that is not there, at that place.
    #[track_caller]
    fn check_end(&self, path: &TimelinePath, records: &[Record], at: Lsn, cause: &EndCause) {
        let last = records.last().unwrap();
        let message = &self.dumps[&path.last()].end;
        let place =
            |words: &str| message.split_once(words).and_then(|(_, rest)| rest.split([':', ' ']).next()?.parse().ok());
        let size = self.catalog.segment_size;
        match place("error in WAL record at ") {
            Some(lsn) => assert_eq!(last.lsn, lsn, "{message}; {cause:?}"),
            None => assert!(message.contains("could not find file "), "{message}"),
        }
        if let Some(lsn) = place("invalid record length at ") {
            assert_eq!(next_after(at, size), lsn, "{message}; {cause:?}");
        }
        assert_eq!(at, last.end_lsn, "{cause:?}");
    }

    /// `all_points` along each timeline from its fork on.
    #[track_caller]
    fn compare_points(&self) {
        let mut points: BTreeMap<TimelineId, Vec<Known>> = BTreeMap::new();
        let mut take = |batch: Vec<Point>| {
            for point in batch.into_iter().filter(|point| point.kind != PointKind::EndOfWal) {
                points.entry(point.timeline).or_default().push(Known::of_point(point));
            }
        };
        all_points(&self.source, &self.catalog, &Cancel::default(), &mut |_, _| (), &mut take).unwrap();
        for timeline in &self.catalog.timelines {
            let told = known_points(&self.dumps[&timeline.id].records, timeline.forked_at_lsn.unwrap_or(Lsn::INVALID));
            let found = points.remove(&timeline.id).unwrap_or_default();
            assert_same(&format!("recovery points of timeline {}", timeline.id), &told, &found);
        }
        assert!(points.is_empty(), "points of timelines that there are not: {points:?}");
    }

    /// Without the file in which a timeline begins, reading stops at the fork, though the older timeline's goes on there.
    #[track_caller]
    fn assert_stops_at_the_fork(&self, timeline: u32) {
        let size = self.catalog.segment_size;
        let path = self.catalog.path_to(TimelineId(timeline)).unwrap();
        let fork = path.stretches().last().unwrap().begin;
        let missing = SegmentName::new(TimelineId(timeline), size.number_of(fork), size);
        fs::remove_file(self.directory.join(missing.to_string())).unwrap();
        let told: Vec<Said> = self.told(&path).into_iter().filter(|said| said.lsn < fork).collect();
        let parent = path.stretches()[path.stretches().len() - 2].timeline;
        let next = next_after(fork, size);
        assert!(self.dumps[&parent].records.iter().any(|told| told.said.lsn == next), "the parent goes on at the fork");
        let first = self.catalog.segments_of(TimelineId::FIRST).next().unwrap().number(size);
        let (records, end) = self.scan(&path, Start::Segment(first), usize::MAX);
        let found: Vec<Said> = records.iter().map(said_by_walback).collect();
        assert_same("records up to a fork whose segment is missing", &told, &found);
        assert_eq!((end.at, end.cause), (next, EndCause::NoSegment(missing)));
    }

    /// The restore points that servers told of are there, with their names, places and times.
    #[track_caller]
    fn check_restore_points(&self, timeline: u32, made: &[Made]) {
        let path = self.catalog.path_to(TimelineId(timeline)).unwrap();
        let first = self.catalog.segments_of(path.stretches()[0].timeline).next().unwrap();
        let records = self.scan(&path, Start::Segment(first.number(self.catalog.segment_size)), usize::MAX).0;
        assert!(!made.is_empty());
        for made in made {
            let record = records.iter().find(|record| record.end_lsn == made.end_lsn);
            let record = record.unwrap_or_else(|| panic!("there is no record that ends where {made:?} does"));
            let Body::RestorePoint { name, at } = &record.body else { panic!("{record:?} is not {made:?}") };
            let (before, after) = made.between;
            assert!(*name == made.name && (before..=after).contains(&at.unix_micros()), "{record:?} is not {made:?}");
        }
    }

    fn all(&self) -> impl Iterator<Item = &Told> {
        self.dumps.values().flat_map(|dump| &dump.records)
    }

    /// The history has it in it: else the comparison would not be one.
    #[track_caller]
    fn has(&self, what: &str, least: usize, is: impl Fn(&Told) -> bool) {
        let found = self.all().filter(|told| is(told)).count();
        assert!(found >= least, "there should be at least {least} of {what} in this WAL, and there are {found}");
    }

    fn has_operation(&self, name: &str, least: usize) {
        self.has(name, least, |told| matches!(told.said.what, What::Operation(found) if found == name));
    }

    /// What [`Work::everything`] and [`Work::crash`] make.
    #[track_caller]
    fn has_everything(&self) {
        let ended = |committed, prepared| move |told: &Told| matches!(&told.said.what, What::Ended(e) if e.committed == committed && e.prepared == prepared);
        self.has("commits", 20, ended(true, false));
        self.has("aborts", 50, ended(false, false));
        self.has("prepared commits", 3, ended(true, true));
        self.has("prepared aborts", 1, ended(false, true));
        self.has("prepares", 4, |told| matches!(told.said.what, What::Prepare { .. }));
        self.has("restore points", 3, |told| matches!(told.said.what, What::RestorePoint(_)));
        self.has(
            "the same name",
            2,
            |told| matches!(&told.said.what, What::RestorePoint(name) if name == "twice, täglich"),
        );
        let changed = |change| move |told: &Told| matches!(told.said.what, What::Rows(told, ..) if told == change);
        self.has("inserts", 100, changed(RowChange::Insert));
        self.has("updates", 10, changed(RowChange::Update));
        self.has("deletes", 40, changed(RowChange::Delete));
        self.has_operation("ASSIGNMENT", 2);
        self.has_operation("SWITCH", 2);
        let size = self.catalog.segment_size.bytes();
        let subxacts = |told: &Told| matches!(&told.said.what, What::Ended(e) if e.subxacts.len() > 64);
        self.has("commits and aborts with many subtransactions", 2, subxacts);
        self.has(
            "commits that drop much",
            1,
            |told| matches!(&told.said.what, What::Ended(e) if e.dropped.len() >= 100),
        );
        let is_end = |told: &Told| matches!(told.said.what, What::Ended(_));
        self.has("ends of transactions longer than a page", 1, |told| is_end(told) && told.bytes > 8192);
        let crosses = |told: &Told| told.said.lsn.0 % size + told.bytes > size;
        self.has("ends of transactions across segments", 1, |told| is_end(told) && crosses(told));
        self.has("records whose header goes on on the next page", 1, |told| told.said.lsn.0 % 8192 > 8192 - 24);
        let fills = |told: &Told| (told.said.lsn.0 % 8192 + told.bytes).next_multiple_of(8) == 8192;
        self.has("records that end where their page does", 1, fills);
        self.has("records of two million bytes", 1, |told| told.bytes > 2_000_000);
    }
}

/// The files of a directory of WAL, in order.
fn wal_files(directory: &Path) -> Vec<(PathBuf, ArchiveFile)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let named = entries.filter_map(|path| {
        let name = ArchiveFile::parse(path.file_name()?.to_str()?)?;
        Some((path, name))
    });
    let mut files: Vec<_> = named.collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    files
}

/// What both know of a recovery point.
#[derive(Debug, PartialEq)]
struct Known {
    kind: PointKind,
    lsn: Lsn,
    xid: Option<u32>,
    at: Option<Timestamp>,
    name: Option<String>,
    drops: u64,
    deletes: u64,
    subxacts: u64,
}

impl Known {
    fn of_point(point: Point) -> Known {
        // pg_waldump does not print these times.
        let untold = [PointKind::RestorePoint, PointKind::Checkpoint].contains(&point.kind);
        let at = point.at.filter(|_| !untold);
        let xid = point.xid.map(|xid| xid.0);
        let Point { kind, lsn, name, drops, deletes, subxacts, .. } = point;
        Known { kind, lsn, xid, at, name, drops, deletes, subxacts }
    }
}

/// The recovery points among a timeline's records from `from` on, with the rows that their transactions deleted.
fn known_points(records: &[Told], from: Lsn) -> Vec<Known> {
    let mut deletes: HashMap<u32, u64> = HashMap::new();
    let mut points = Vec::new();
    for Said { lsn, xid, what, .. } in records.iter().map(|told| &told.said) {
        let point =
            |kind| Known { kind, lsn: *lsn, xid: None, at: None, name: None, drops: 0, deletes: 0, subxacts: 0 };
        let point = match what {
            What::Rows(RowChange::Delete, relation, rows) if relation.is_of_users() => {
                *deletes.entry(*xid).or_default() += u64::from(*rows);
                continue;
            }
            What::Ended(ended) => {
                let all = ended.subxacts.iter().chain([&ended.xid]);
                let deleted: u64 = all.filter_map(|xid| deletes.remove(xid)).sum();
                let kind = if ended.committed { PointKind::Commit } else { PointKind::Abort };
                let subxacts = ended.subxacts.len() as u64;
                let (drops, deletes) = if ended.committed { (ended.dropped.len() as u64, deleted) } else { (0, 0) };
                Known { xid: Some(ended.xid), at: Some(ended.at), drops, deletes, subxacts, ..point(kind) }
            }
            What::Prepare { gid, at } => {
                Known { xid: Some(*xid), at: Some(*at), name: Some(gid.clone()), ..point(PointKind::Prepare) }
            }
            What::RestorePoint(name) => Known { name: Some(name.clone()), ..point(PointKind::RestorePoint) },
            What::Checkpoint { .. } => point(PointKind::Checkpoint),
            What::BackupEnd(_) => point(PointKind::BackupEnd),
            What::EndOfRecovery { at, .. } => Known { at: Some(*at), ..point(PointKind::EndOfRecovery) },
            _ => continue,
        };
        points.push(point);
    }
    points.retain(|point| point.lsn >= from);
    points
}

/// Each record starts where the one before ended; only behind one that a crash cut off there is more between.
#[track_caller]
fn check_places(records: &[Record], size: SegmentSize) {
    for pair in records.windows(2) {
        let (before, next) = (&pair[0], &pair[1]);
        let expected = next_after(before.end_lsn, size);
        let overwrites = next.rmgr == 0 && next.info & 0xF0 == 0xD0;
        assert!(next.lsn == expected || overwrites && next.lsn > expected, "{before:?} is followed by {next:?}");
    }
}

/// Where the next record starts when one ends there: behind the header, where that is the start of a page.
fn next_after(end: Lsn, size: SegmentSize) -> Lsn {
    match end.0 {
        at if at.is_multiple_of(size.bytes()) => end.plus(40),
        at if at.is_multiple_of(8192) => end.plus(24),
        _ => end,
    }
}

/// Three timelines of segments of 1 MB: the trunk, which goes on behind the fork, a branch from a restore point, and
/// one that was promoted out of the branch, behind a crash of it.
fn timelines_are_read_as_pg_waldump_does(major: u16) {
    let Some((server, waldump)) = versions(major) else { return };
    let directory = Directory::in_memory();
    let trunk = Cluster::create(&directory, &server, &options(1, &[]));
    let backup = trunk.base_backup(Format::Plain, "base");
    let mut work = Work::on(&trunk);
    work.everything("trunk");
    work.crash("trunk");
    work.commit_across_segments("trunk", 1 << 20);
    work.restore_point("fork");
    work.sql("begin; delete from trunk_kept where n = 110; savepoint a; delete from trunk_kept where n = 111; commit;");
    trunk.switch_and_wait_archived();

    let branch = trunk.promote_copy(&backup, "branch", &[("recovery_target_name", "fork")]);
    let stopped = "recovery stopping at restore point \"fork\", time ";
    let log = branch.log();
    let stopped_at = log.split_once(stopped).unwrap().1.lines().next().unwrap();
    let stopped_at = DateTime::parse_from_str(stopped_at, "%Y-%m-%d %H:%M:%S%.f%#z").unwrap();
    let mut branch_work = Work::on(&branch);
    branch_work.everything("branch");
    branch_work.last("branch");
    branch.stop(Stop::Immediate);
    branch.configure(&[("recovery_target_name", "")]);
    directory.write("branch/standby.signal", "");
    branch.start();
    assert_eq!(branch.psql("select pg_promote()"), "t");
    assert_eq!(branch.timeline(), 3);
    let mut twig_work = Work::on(&branch);
    twig_work.restore_point("on the third");
    twig_work.last("branch");
    branch.stop(Stop::Immediate);
    work.last("trunk");
    trunk.stop(Stop::Immediate);

    let is_partial = |file: &(PathBuf, ArchiveFile)| matches!(file.1, ArchiveFile::Partial(_));
    assert!(
        wal_files(&branch.data.join("pg_wal")).iter().any(is_partial),
        "the last segment of timeline 2 has no .partial"
    );
    let own = [&trunk, &branch].map(|cluster| cluster.data.join("pg_wal"));
    let wal = Wal::gather(&directory, &waldump, &[vec![trunk.archive.clone()], own.to_vec()].concat());
    assert_eq!(wal.dumps.keys().map(|id| id.0).collect::<Vec<_>>(), [1, 2, 3]);
    let compared = wal.assert_read_alike();
    wal.has_everything();
    wal.has("first records of timelines", 2, |told| match told.said.what {
        What::EndOfRecovery { timeline, previous_timeline, .. } => timeline != previous_timeline,
        What::Checkpoint { timeline, previous_timeline, .. } => timeline != previous_timeline,
        _ => false,
    });
    wal.check_restore_points(1, &work.made);
    wal.check_restore_points(2, &branch_work.made);
    wal.check_restore_points(3, &twig_work.made);
    assert_eq!(Some(fork_time(&wal)), Timestamp::from_chrono(&stopped_at), "the time at which the server stopped");
    wal.assert_stops_at_the_fork(2);
    println!("PostgreSQL {major}, three timelines: {compared} records alike");
}

/// The time of the restore point `fork`.
fn fork_time(wal: &Wal) -> Timestamp {
    let path = wal.catalog.path_to(TimelineId(2)).unwrap();
    let first = wal.catalog.segments_of(TimelineId(1)).next().unwrap().number(wal.catalog.segment_size);
    let records = wal.scan(&path, Start::Segment(first), usize::MAX).0;
    let mut times = records.iter().filter_map(|record| match &record.body {
        Body::RestorePoint { name, at } if name == "fork" => Some(*at),
        _ => None,
    });
    times.next().unwrap()
}

/// Where a crash leaves a record cut off.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// At a page within a segment.
    Page,
    /// At the beginning of a segment.
    Segment,
}

/// Leaves the cluster as a crash does that comes while a long record is written: its beginning is on the disk, the rest
/// is not. The server, when it starts again, says so in WAL (`OVERWRITE_CONTRECORD`).
fn crash_within_a_record(cluster: &Cluster<'_>, cut: Cut) {
    let mut session = cluster.session();
    session.query("checkpoint;");
    let start: Lsn = session.query("select pg_current_wal_insert_lsn();").parse().unwrap();
    session.query("select 1 from pg_logical_emit_message(true, 'cut', repeat('c', 2200000));");
    drop(session);
    cluster.stop(Stop::Immediate);
    let size = 1 << 20;
    // Two pages on, the record has begun, whatever the server wrote of its own; it is never so near the end of a segment
    // that a segment's beginning would be meant.
    let at = match cut {
        Cut::Page => {
            let page = Lsn((start.0 / 8192 + 3) * 8192);
            if page.0.is_multiple_of(size) { page.plus(8192) } else { page }
        }
        Cut::Segment => Lsn((start.0 / size + 2) * size),
    };
    forget_wal_from(&cluster.data.join("pg_wal"), at);
}

/// Makes zeros of the rest of the segment from `at` on, and removes those behind it.
fn forget_wal_from(pg_wal: &Path, at: Lsn) {
    let size = SegmentSize::new(1 << 20).unwrap();
    let number = size.number_of(at);
    for (path, file) in wal_files(pg_wal) {
        match file {
            ArchiveFile::Segment(name) if name.number(size) == number && at != size.start_of(number) => {
                let mut file = File::options().write(true).open(path).unwrap();
                let offset = at.bytes_since(size.start_of(number));
                file.seek(SeekFrom::Start(offset)).unwrap();
                file.write_all(&vec![0; usize::try_from(size.bytes() - offset).unwrap()]).unwrap();
            }
            ArchiveFile::Segment(name) if name.number(size) >= number => fs::remove_file(path).unwrap(),
            _ => {}
        }
    }
}

/// The server's own directory, with a logical `wal_level`, crashes in the middle of records, and a promotion behind one.
fn crashes_are_read_as_pg_waldump_does(major: u16) {
    let Some((server, waldump)) = versions(major) else { return };
    let directory = Directory::in_memory();
    // See Waldump::available.
    let level = if major == 14 { "replica" } else { "logical" };
    let more = [("wal_level", level), ("archive_mode", "off"), ("wal_keep_size", "1GB")];
    let cluster = Cluster::create(&directory, &server, &options(1, &more));
    let mut work = Work::on(&cluster);
    work.everything("first");
    crash_within_a_record(&cluster, Cut::Page);
    cluster.start();
    work.sql("insert into first_kept values (9001, 'behind the first cut');");
    work.commit_across_segments("first", 1 << 20);
    crash_within_a_record(&cluster, Cut::Segment);
    cluster.start();
    work.crash("first");
    // Twice at once: what is read goes on behind both.
    crash_within_a_record(&cluster, Cut::Page);
    cluster.start();
    crash_within_a_record(&cluster, Cut::Page);
    cluster.start();
    work.restore_point("behind the cuts");
    work.last("first");
    // A promotion takes no notice of the record that was cut off: its timeline begins where that one did.
    crash_within_a_record(&cluster, Cut::Segment);
    directory.write("primary/standby.signal", "");
    cluster.start();
    assert_eq!(cluster.psql("select pg_promote()"), "t");
    let mut promoted = Work::on(&cluster);
    promoted.restore_point("in place of the cut");
    promoted.last("first");
    cluster.stop(Stop::Immediate);

    let wal = Wal::gather(&directory, &waldump, &[cluster.data.join("pg_wal")]);
    let compared = wal.assert_read_alike();
    wal.has_everything();
    wal.has_operation("OVERWRITE_CONTRECORD", 4);
    if major > 14 {
        wal.has_operation("INVALIDATION", 10);
    }
    wal.check_restore_points(1, &work.made);
    wal.check_restore_points(2, &promoted.made);
    println!("PostgreSQL {major}, crashes: {compared} records alike");
}

/// Other sizes of segments, and compressed pages.
fn a_segment_size_is_read_as_pg_waldump_does(major: u16, segment_mib: u32, compression: &'static str) {
    let Some((server, waldump)) = versions(major) else { return };
    let directory = Directory::in_memory();
    let mut more = vec![("archive_mode", "off"), ("wal_keep_size", "1GB"), ("wal_compression", compression)];
    // Nothing has to be written where nothing is.
    more.push(("wal_init_zero", "off"));
    let cluster = Cluster::create(&directory, &server, &options(segment_mib, &more));
    let mut work = Work::on(&cluster);
    let space = directory.create("space");
    work.sql(&format!(
        "create tablespace space location '{}'; create table there (n int primary key) tablespace space; \
         drop table there; drop tablespace space; create database other; drop database other;",
        space.display()
    ));
    work.everything("kind");
    work.crash("kind");
    work.commit_across_segments("kind", u64::from(segment_mib) << 20);
    work.restore_point("the end");
    work.last("kind");
    cluster.stop(Stop::Immediate);

    let wal = Wal::gather(&directory, &waldump, &[cluster.data.join("pg_wal")]);
    assert_eq!(wal.catalog.segment_size.bytes(), u64::from(segment_mib) << 20);
    let compared = wal.assert_read_alike();
    wal.has_everything();
    wal.has("databases dropped", 1, |told| matches!(told.said.what, What::DatabaseDrop(_)));
    let elsewhere =
        |told: &Told| matches!(&told.said.what, What::Ended(e) if e.dropped.iter().any(|files| files[0] > 16000));
    wal.has("relations dropped in another tablespace", 1, elsewhere);
    wal.check_restore_points(1, &work.made);
    println!("PostgreSQL {major}, segments of {segment_mib} MB: {compared} records alike");
}

macro_rules! against_pg_waldump {
    ($($name:ident: $test:ident($($argument:expr),*);)*) => {
        $(#[test] fn $name() { $test($($argument),*); })*
    };
}

against_pg_waldump! {
    three_timelines_of_13: timelines_are_read_as_pg_waldump_does(13);
    three_timelines_of_14: timelines_are_read_as_pg_waldump_does(14);
    three_timelines_of_15: timelines_are_read_as_pg_waldump_does(15);
    three_timelines_of_16: timelines_are_read_as_pg_waldump_does(16);
    three_timelines_of_17: timelines_are_read_as_pg_waldump_does(17);
    three_timelines_of_18: timelines_are_read_as_pg_waldump_does(18);
    crashes_within_records_of_13: crashes_are_read_as_pg_waldump_does(13);
    crashes_within_records_of_14: crashes_are_read_as_pg_waldump_does(14);
    crashes_within_records_of_15: crashes_are_read_as_pg_waldump_does(15);
    crashes_within_records_of_16: crashes_are_read_as_pg_waldump_does(16);
    crashes_within_records_of_17: crashes_are_read_as_pg_waldump_does(17);
    crashes_within_records_of_18: crashes_are_read_as_pg_waldump_does(18);
    segments_of_16_mb_of_14: a_segment_size_is_read_as_pg_waldump_does(14, 16, "on");
    segments_of_16_mb_of_15: a_segment_size_is_read_as_pg_waldump_does(15, 16, "lz4");
    segments_of_16_mb_of_16: a_segment_size_is_read_as_pg_waldump_does(16, 16, "off");
    segments_of_64_mb_of_13: a_segment_size_is_read_as_pg_waldump_does(13, 64, "on");
    segments_of_64_mb_of_15: a_segment_size_is_read_as_pg_waldump_does(15, 64, "zstd");
    segments_of_64_mb_of_17: a_segment_size_is_read_as_pg_waldump_does(17, 64, "off");
    segments_of_64_mb_of_18: a_segment_size_is_read_as_pg_waldump_does(18, 64, "pglz");
}

/// Where pieces of real WAL are kept.
fn seeds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wal/seeds")
}

/// How much is kept of a segment.
const SEED_BYTES: usize = 32 << 10;

/// Much in little.
const SEED: &str = "
begin; insert into seed_kept values (1, 'a'); savepoint a; insert into seed_kept values (2, 'b'); savepoint b;
delete from seed_kept where n = 1; rollback to b; release a; commit;
do $$ begin for i in 101..170 loop
  begin insert into seed_kept values (i, 'x'); exception when raise_exception then null; end;
end loop; end $$;
begin; update seed_kept set v = 'c' where n = 1; savepoint a; delete from seed_kept where n = 2; rollback;
delete from seed_kept where n < 110; truncate cut; drop table cut;
begin; insert into seed_kept values (3, 'p'); savepoint a; delete from seed_kept where n = 120; prepare transaction 'first half';
commit prepared 'first half';
begin; insert into seed_kept values (4, 'p'); prepare transaction 'other half'; rollback prepared 'other half';
select pg_create_restore_point('before the accident');
create sequence numbers; select nextval('numbers'); drop sequence numbers;
create index on seed_kept (v);
select 1 from (select pg_logical_emit_message(true, 'long', repeat('m', 9000 + i)) from generate_series(1, 3) i) messages;
";

/// Makes the pieces of real WAL in `tests/wal/seeds` anew, as its README says. They are committed.
#[test]
#[ignore = "it writes into the repository"]
fn make_seeds() {
    for major in Server::MAJORS {
        let Some(server) = Server::available(major) else { continue };
        let directory = Directory::in_memory();
        let level = if major % 2 == 0 { "logical" } else { "replica" };
        let more =
            [("archive_mode", "off"), ("full_page_writes", "off"), ("wal_level", level), ("wal_compression", "on")];
        let cluster = Cluster::create(&directory, &server, &options(1, &more));
        let work = Work::on(&cluster);
        work.sql(
            "create table seed_kept (n int primary key, v text); create table cut (n int); insert into cut values (1);",
        );
        let begin: Lsn = work.sql("checkpoint; select pg_switch_wal();").parse().unwrap();
        work.sql(SEED);
        let pg_wal = cluster.data.join("pg_wal");
        // The record of the switch is the last of its segment.
        keep_seed(&format!("major-{major}"), &pg_wal, begin.0 / (1 << 20) + 1);
        crash_within_a_record(&cluster, Cut::Segment);
        let cut = wal_files(&pg_wal).into_iter().filter_map(|(_, file)| match file {
            ArchiveFile::Segment(name) => Some(u64::from(name.seg)),
            _ => None,
        });
        let cut = cut.max().unwrap() + 1;
        cluster.start();
        work.sql("insert into seed_kept values (5, 'behind the cut'); select pg_create_restore_point('behind');");
        work.last("seed");
        keep_seed(&format!("overwritten-{major}"), &pg_wal, cut);
    }
}

/// Keeps the beginning of a segment, compressed.
fn keep_seed(name: &str, pg_wal: &Path, number: u64) {
    let segment = pg_wal.join(format!("00000001{:08X}{:08X}", number >> 12, number & 0xFFF));
    let mut bytes = fs::read(&segment).unwrap();
    bytes.truncate(SEED_BYTES);
    let file = File::create(seeds().join(format!("{name}.gz"))).unwrap();
    let mut encoder = GzEncoder::new(file, Compression::best());
    encoder.write_all(&bytes).unwrap();
    encoder.finish().unwrap();
}

#[test]
fn the_seeds_are_what_they_are_said_to_be() {
    for major in Server::MAJORS {
        for (name, wanted) in
            [("major", &WANTED_IN_SEEDS[..]), ("overwritten", &["RestorePoint { name: \"behind\"", "Commit"])]
        {
            let file = seeds().join(format!("{name}-{major}.gz"));
            let mut bytes = Vec::new();
            GzDecoder::new(File::open(&file).unwrap()).read_to_end(&mut bytes).unwrap();
            assert_eq!(bytes.len(), SEED_BYTES);
            let header = SegmentHeader::parse(&bytes).unwrap();
            assert_eq!(header.layout.major.0, major);
            let size = header.segment_size;
            let mut decoder = Decoder::at_segment(size.number_of(header.pageaddr), size);
            decoder.feed(&bytes);
            let mut found = String::new();
            while let Decoded::Record(record) = decoder.poll() {
                found += &format!("{:?}\n", record.body);
            }
            if name == "major" {
                assert_eq!(decoder.finish().reason, EndReason::CutOff, "{}", file.display());
            }
            for wanted in wanted {
                assert!(found.contains(wanted), "{} has no {wanted}:\n{found}", file.display());
            }
        }
    }
}

/// What is among the bodies of the records in a seed.
const WANTED_IN_SEEDS: [&str; 7] =
    ["Commit", "Abort", "prepared: true", "Prepare", "RestorePoint", "change: Delete", "RelFileLocator"];

#[test]
fn a_line_that_is_not_understood_fails() {
    let line = |desc: &str| {
        format!(
            "rmgr: Transaction len (rec/tot):     34/    34, tx:        7, lsn: 0/00000028, prev 0/00000010, desc: {desc}"
        )
    };
    let time = "2026-11-21 07:55:52.525853 UTC";
    let told = Told::parse(&line(&format!(
        "COMMIT {time}; rels: base/5/16 pg_tblspc/9/PG_18/5/17 global/18; subxacts: 8 9; sync"
    )));
    let What::Ended(ended) = told.said.what else { panic!("{told:?}") };
    assert_eq!((ended.xid, ended.subxacts, ended.prepared), (7, vec![8, 9], false));
    assert_eq!(ended.dropped, [[1663, 5, 16], [9, 5, 17], [1664, 0, 18]]);
    assert_eq!(ended.at.to_string(), "2026-11-21T07:55:52.525853Z");
    let strange = [
        "COMMIT 2026-11-21 07:55:52 UTC".to_owned(),
        format!("COMMIT {time}; something new: 1"),
        format!("COMMIT {time}; subxacts: 8 x"),
        format!("COMMIT_PREPARED {time}"),
        format!("PREPARE gid x: {time}; something new"),
        "PREPARE gid x".to_owned(),
        "REVERT now".to_owned(),
        String::new(),
    ];
    for desc in strange {
        assert!(catch_unwind(|| Told::parse(&line(&desc))).is_err(), "{desc} was understood");
    }
    for line in
        ["", "first record is after 0/100", "rmgr: Mine len (rec/tot): 34/ 34, tx: 7, lsn: 0/28, prev 0/10, desc: X"]
    {
        assert!(catch_unwind(|| Told::parse(line)).is_err(), "{line} was understood");
    }
}

#[test]
fn every_difference_fails() {
    let fails = |told: &[u32], read: &[u32]| {
        let message = catch_unwind(|| assert_same("numbers", told, read)).err()?;
        message.downcast_ref::<String>().map(|message| message.lines().next().unwrap().to_owned())
    };
    let say = |at, told, missing, read, invented| {
        Some(format!(
            "numbers: they differ at {at}; of {told} that pg_waldump has {missing} are missing, of {read} that Walback has \
             {invented} are invented"
        ))
    };
    assert_eq!(fails(&[1, 2, 3], &[1, 2, 3]), None);
    assert_eq!(fails(&[1, 2, 3], &[1, 3]), say(1, 3, 1, 2, 0));
    assert_eq!(fails(&[1, 2, 3], &[1, 2]), say(2, 3, 1, 2, 0));
    assert_eq!(fails(&[1, 2, 3], &[1, 2, 3, 4]), say(3, 3, 0, 4, 1));
    assert_eq!(fails(&[1, 2, 3], &[1, 3, 2]), say(1, 3, 0, 3, 0));
    assert_eq!(fails(&[], &[5]), say(0, 0, 0, 1, 1));
}
