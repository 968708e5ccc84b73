//! The index over archives: what it says is what reading everything says, and what it keeps is never stale.

// A test that cannot go on stops.
#![allow(clippy::unwrap_used)]

#[path = "support/made_up.rs"]
mod made_up;

use std::fs;
use std::io::Read;
use std::ops::ControlFlow;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::{Duration, UNIX_EPOCH};

use made_up::{MadeUp, Writer};
use tempfile::TempDir;
use walback::catalog::overview::Extent;
use walback::catalog::{Backup, Catalog, Overview, PointKind};
use walback::config::SourceConfig;
use walback::core::{Lsn, SegmentName, SegmentSize, TimelineId, Timestamp};
use walback::error::{ErrorKind, Result};
use walback::source::{Blocks, Cancel, Identity, Index, LocalSource, Source};

/// What the index is kept in; the number is that of its format (`source::cache`).
const DATABASE: &str = "index-5.db";
/// Rows from which on a change is a suspect.
const ROWS: u64 = 1000;

fn size() -> SegmentSize {
    SegmentSize::new(1 << 20).unwrap()
}

fn second(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + second as i64).unwrap()
}

/// A commit, a rollback and, in every fifth segment, a restore point.
fn content(number: u64, segment: &mut Writer) {
    segment.commit(1000 + 2 * number as u32, second(60 * number));
    segment.abort(1001 + 2 * number as u32, second(60 * number + 30));
    if number.is_multiple_of(5) {
        segment.restore_point(&format!("point {number}"), second(60 * number + 40));
    }
}

/// An archive in a directory, with a place for the cache.
struct Archive {
    directory: TempDir,
    made: MadeUp,
}

impl Archive {
    /// Of segments 1 to `last`. Their times of change lie long enough back for all of them to be kept.
    fn new(last: u64) -> Archive {
        let directory = tempfile::tempdir().unwrap();
        let archive = Archive { directory, made: MadeUp::new(size(), 1, last, Box::new(content)) };
        fs::create_dir(archive.wal()).unwrap();
        for number in 1..=last {
            archive.write(number, &archive.made.beginning(number));
        }
        archive.settle();
        archive
    }

    fn wal(&self) -> PathBuf {
        self.directory.path().join("wal")
    }

    fn cache(&self) -> PathBuf {
        self.directory.path().join("cache")
    }

    fn path(&self, number: u64) -> PathBuf {
        self.wal().join(self.made.name_of(number).to_string())
    }

    fn write(&self, number: u64, beginning: &[u8]) {
        let mut bytes = beginning.to_vec();
        bytes.resize(size().bytes() as usize, 0);
        fs::write(self.path(number), bytes).unwrap();
    }

    /// Waits until files may be trusted to be as they were when they are read from now on.
    fn settle(&self) {
        let changed_ns = |path: &Path| {
            let metadata = fs::metadata(path).unwrap();
            Duration::new(metadata.ctime() as u64, metadata.ctime_nsec() as u32)
        };
        let newest = fs::read_dir(self.wal()).unwrap().map(|entry| changed_ns(&entry.unwrap().path())).max().unwrap();
        while UNIX_EPOCH.elapsed().unwrap() < newest + Duration::from_millis(150) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn source(&self) -> Counting {
        Counting::of(self.wal())
    }

    /// The overview, and which segments were read for it.
    fn index(&self) -> (Overview, Vec<u64>) {
        let source = self.source();
        let overview = build(&source, Some(&self.cache()));
        (overview, source.opened())
    }
}

/// A directory's segments, and which of them were opened.
struct Counting {
    inner: LocalSource,
    opened: Mutex<Vec<u64>>,
    /// What is cancelled when so many were opened.
    limit: Option<(usize, Cancel)>,
}

impl Counting {
    fn of(wal: PathBuf) -> Counting {
        let config = SourceConfig { wal: vec![wal], ..SourceConfig::default() };
        Counting { inner: LocalSource::new(&config), opened: Mutex::default(), limit: None }
    }

    fn count(&self, name: SegmentName, is_there: bool) {
        if is_there {
            let mut opened = self.opened.lock().unwrap();
            opened.push(name.number(size()));
            if let Some((_, cancel)) = self.limit.as_ref().filter(|(limit, _)| opened.len() == *limit) {
                cancel.cancel();
            }
        }
    }

    /// The numbers of the segments that were opened since this was asked last, in order, each once.
    fn opened(&self) -> Vec<u64> {
        let mut opened = std::mem::take(&mut *self.opened.lock().unwrap());
        opened.sort_unstable();
        opened.dedup();
        opened
    }
}

impl Source for Counting {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn backups(&self) -> &[PathBuf] {
        self.inner.backups()
    }

    fn archives(&self) -> &[PathBuf] {
        self.inner.archives()
    }

    fn list(&self, cancel: &Cancel) -> Result<Catalog> {
        self.inner.list(cancel)
    }

    fn open_segment(&self, name: SegmentName, backup: Option<&Backup>) -> Result<Option<Box<dyn Read + Send>>> {
        let opened = self.inner.open_segment(name, backup)?;
        self.count(name, opened.is_some());
        Ok(opened)
    }

    fn open_blocks(&self, name: SegmentName) -> Result<Option<Box<dyn Blocks>>> {
        let opened = self.inner.open_blocks(name)?;
        self.count(name, opened.is_some());
        Ok(opened)
    }

    fn identities(&self, names: &[SegmentName]) -> Vec<Option<Identity>> {
        self.inner.identities(names)
    }
}

fn list(source: &dyn Source) -> Catalog {
    source.list(&Cancel::default()).unwrap()
}

fn build(source: &dyn Source, cache: Option<&Path>) -> Overview {
    let catalog = list(source);
    let index = Index::new(source, &catalog, cache, ROWS);
    let overview = index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap();
    assert_eq!(index.warnings(), [""; 0]);
    assert!(overview.complete);
    overview
}

fn commits(overview: &Overview) -> u32 {
    overview.segments.iter().map(|segment| segment.commits).sum()
}

#[test]
fn what_was_read_once_is_not_read_again() {
    let archive = Archive::new(20);
    let (cold, opened) = archive.index();
    assert_eq!(opened, (1..=20).collect::<Vec<_>>());
    assert_eq!(commits(&cold), 20);
    assert_eq!(cold.marks.iter().filter(|mark| mark.kind == PointKind::RestorePoint).count(), 4);
    assert_eq!(archive.index(), (cold.clone(), vec![]));

    // With other rows, the overview is made anew of what was kept.
    let source = archive.source();
    let catalog = list(&source);
    let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS + 1);
    assert_eq!(index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap(), cold);
    assert_eq!(source.opened(), [0; 0]);
    // Only a lower floor needs what was left out.
    let index = Index::new(&source, &catalog, Some(&archive.cache()), 10);
    assert_eq!(index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap(), cold);
    assert_eq!(source.opened(), (1..=20).collect::<Vec<_>>());
}

#[test]
fn progress_and_looks_come_on_the_way() {
    let archive = Archive::new(20);
    let look_and_progress = || {
        let source = archive.source();
        let catalog = list(&source);
        let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS);
        let (mut told, mut looks) = (Vec::new(), Vec::new());
        let cancel = Cancel::default();
        index.build(&cancel, &mut |done, total| told.push((done, total)), &mut |look| looks.push(look)).unwrap();
        (told, looks)
    };
    let total = 20 * size().bytes();
    let (told, looks) = look_and_progress();
    assert_eq!((told.first(), told.last()), (Some(&(0, total)), Some(&(total, total))));
    assert!(told.is_sorted(), "{told:?}");
    assert!(looks[0].segments.len() == 20 && looks[0].segments.iter().all(|segment| !segment.read));
    assert!(looks.iter().all(|look| !look.complete), "what is shown on the way is not all");
    let (told, looks) = look_and_progress();
    assert_eq!(told, [(total, total)]);
    assert_eq!(commits(&looks[0]), 20, "what was kept is shown at once");
}

#[test]
fn every_change_of_a_file_is_seen() {
    let archive = Archive::new(20);
    archive.index();
    let seen = |what: &str, expected: &[u64]| {
        archive.settle();
        let (overview, opened) = archive.index();
        assert_eq!(opened, expected, "{what}");
        let (anew, _) = (build(&archive.source(), None), ());
        assert_eq!(overview, anew, "{what}");
        assert_eq!(archive.index().1, [0; 0], "{what}: then it is kept again");
    };
    // Other contents of the same length under the old time.
    let modified = fs::metadata(archive.path(7)).unwrap().modified().unwrap();
    let other = MadeUp::new(
        size(),
        1,
        20,
        Box::new(|number, segment| {
            content(number, segment);
            if number == 7 {
                segment.commit(5000, second(60 * 7 + 50));
            }
        }),
    );
    archive.write(7, &other.beginning(7));
    fs::File::options().write(true).open(archive.path(7)).unwrap().set_modified(modified).unwrap();
    seen("contents changed", &[7]);
    // Another file under the old name.
    let moved = archive.directory.path().join("moved");
    fs::copy(archive.path(7), &moved).unwrap();
    fs::rename(&moved, archive.path(7)).unwrap();
    seen("a copy under its name", &[7]);
    fs::remove_file(archive.path(20)).unwrap();
    seen("one that is gone", &[]);
    // One that comes back, as another file.
    archive.write(20, &archive.made.beginning(20));
    seen("one that comes back", &[20]);
}

#[test]
fn a_timeline_that_begins_later_is_seen() {
    let archive = Archive::new(4);
    // The first segment of timeline 2 is there before its history is: its copy of timeline 1 counts until then.
    let second_timeline = archive.wal().join(SegmentName::new(TimelineId(2), 4, size()).to_string());
    fs::copy(archive.path(4), &second_timeline).unwrap();
    archive.settle();
    let (before, _) = archive.index();
    assert_eq!(commits(&before), 5);
    let fork = size().start_of(4).plus(4096);
    fs::write(archive.wal().join("00000002.history"), format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    let (after, opened) = archive.index();
    assert_eq!(opened, [4]);
    assert_eq!(commits(&after), 4, "what lies before the fork is timeline 1's");
}

/// WAL from segment 1 on in which records cross the borders.
fn crossing(segments: u64) -> (Writer, Vec<Lsn>) {
    let mut wal = Writer::new(TimelineId(1), 1, size(), Lsn(8));
    let mut commits = Vec::new();
    let mut xid = 1000;
    while wal.position() < size().start_of(1 + segments) {
        wal.other(100_000);
        commits.push(wal.commit(xid, second(xid.into())));
        xid += 1;
    }
    (wal, commits)
}

#[test]
fn a_last_record_is_read_again_when_its_rest_comes() {
    let directory = tempfile::tempdir().unwrap();
    let (wal_directory, cache) = (directory.path().join("wal"), directory.path().join("cache"));
    fs::create_dir(&wal_directory).unwrap();
    let (wal, commits_at) = crossing(4);
    let archive = Archive { directory, made: MadeUp::new(size(), 1, 4, Box::new(content)) };
    let segment = |number: u64| &wal.bytes[((number - 1) << 20) as usize..(number << 20) as usize];
    for number in 1..=3 {
        fs::write(archive.path(number), segment(number)).unwrap();
    }
    archive.settle();
    let (before, _) = archive.index();
    fs::write(archive.path(4), segment(4)).unwrap();
    archive.settle();
    let (after, opened) = archive.index();
    assert_eq!(opened, [3, 4], "the record at the end of segment 3 goes on in segment 4");
    assert_eq!(after, build(&archive.source(), None));
    assert!(commits(&after) > commits(&before));
    let whole = commits_at.iter().filter(|at| **at < size().start_of(5)).count();
    assert!((whole as u32 - commits(&after)) <= 1, "only what is cut off at the end is missing");
    assert!(after.damaged.is_empty(), "{:?}", after.damaged);
    assert!(cache.is_dir());
}

#[test]
fn a_last_record_may_go_on_in_the_segment_of_a_timeline_that_forks_off() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("wal")).unwrap();
    let (wal, commits_at) = crossing(3);
    let archive = Archive { directory, made: MadeUp::new(size(), 1, 3, Box::new(content)) };
    let segment = |number: u64| &wal.bytes[((number - 1) << 20) as usize..(number << 20) as usize];
    for number in [1, 2] {
        fs::write(archive.path(number), segment(number)).unwrap();
    }
    let fork = commits_at.iter().find(|at| **at > size().start_of(3)).unwrap();
    let history = archive.wal().join("00000002.history");
    let heir = archive.wal().join(SegmentName::new(TimelineId(2), 3, size()).to_string());
    fs::write(&history, format!("1\t{fork}\tno recovery target specified\n")).unwrap();
    archive.settle();
    let (before, _) = archive.index();
    fs::write(&heir, segment(3)).unwrap();
    archive.settle();
    let (after, opened) = archive.index();
    assert!(opened.contains(&2), "{opened:?}");
    assert_eq!(after, build(&archive.source(), None));
    assert!(after.damaged.is_empty(), "{:?}", after.damaged);
    let first = |overview: &Overview| {
        let mine = overview.segments.iter().filter(|segment| segment.timeline == TimelineId(1));
        mine.map(|segment| segment.rows).sum::<u32>()
    };
    assert!(first(&after) >= first(&before));
}

#[test]
fn what_lies_before_a_segment_that_cannot_be_read_is_not_lost() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("wal")).unwrap();
    let (wal, _) = crossing(4);
    let archive = Archive { directory, made: MadeUp::new(size(), 1, 4, Box::new(content)) };
    let segment = |number: u64| &wal.bytes[((number - 1) << 20) as usize..(number << 20) as usize];
    for number in [1, 2, 4] {
        fs::write(archive.path(number), segment(number)).unwrap();
    }
    archive.settle();
    let (absent, _) = archive.index();
    let packed = archive.path(3).with_extension("gz");
    fs::write(&packed, "this is no gzip").unwrap();
    archive.settle();
    for _ in 0..2 {
        let (unreadable, _) = archive.index();
        let damaged: Vec<_> = unreadable.damaged.iter().map(|place| (place.number, place.extent)).collect();
        assert_eq!(damaged, [(3, Extent::Whole)]);
        assert_eq!(commits(&unreadable), commits(&absent));
    }
    fs::remove_file(packed).unwrap();
    fs::write(archive.path(3), segment(3)).unwrap();
    archive.settle();
    let (whole, _) = archive.index();
    assert_eq!(whole, build(&archive.source(), None));
    assert!(whole.damaged.is_empty() && commits(&whole) > commits(&absent));
}

#[test]
fn a_build_that_was_cancelled_goes_on_later() {
    let archive = Archive::new(600);
    let cancel = Cancel::default();
    let mut source = archive.source();
    source.limit = Some((300, cancel.clone()));
    let catalog = list(&source);
    let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS);
    let error = index.build(&cancel, &mut |_, _| {}, &mut |_| {}).unwrap_err();
    assert_eq!(error.report().kind, ErrorKind::Interrupted);
    let first = source.opened();
    assert!(first.len() < 600 && first.contains(&600), "the newest come first");
    let (overview, second) = archive.index();
    assert_eq!(commits(&overview), 600);
    let again = second.iter().filter(|number| first.contains(number)).count();
    assert!(again <= 16, "what was read is not read again, but for what was being read: {again}");
}

#[test]
fn each_kind_of_damage_is_named_and_the_rest_is_used() {
    let archive = Archive::new(12);
    let beginning = |number| archive.made.beginning(number);
    fs::remove_file(archive.path(2)).unwrap();
    fs::write(archive.path(3), &beginning(3)[..100]).unwrap();
    let mut foreign = Writer::new(TimelineId(1), 4, size(), Lsn(8)).of_system(42);
    content(4, &mut foreign);
    archive.write(4, &foreign.bytes);
    archive.write(5, &[]);
    let mut flipped = beginning(6);
    *flipped.last_mut().unwrap() ^= 1;
    archive.write(6, &flipped);
    fs::write(archive.path(7), "this is no WAL\n".repeat(10)).unwrap();
    archive.write(8, &beginning(9));
    // WAL ends within it, and goes on in the next one all the same.
    let mut ends = Writer::new(TimelineId(1), 10, size(), Lsn(8));
    ends.commit(1, second(0));
    archive.write(10, &ends.bytes);

    let source = archive.source();
    let mut catalog = list(&source);
    let overview = build(&source, Some(&archive.cache()));
    let named: Vec<(u64, Extent, &str)> =
        overview.damaged.iter().map(|place| (place.number, place.extent, place.damage.reason.as_str())).collect();
    let expected = [
        (3, Extent::Whole, "the file ends after 100 bytes"),
        (4, Extent::Whole, "of another cluster"),
        (5, Extent::Whole, "zeros"),
        (6, Extent::Part, "checksum"),
        (7, Extent::Whole, "page magic"),
        (8, Extent::Whole, "its contents are those of the position 0/900000"),
        (10, Extent::Border, "its first record comes after one at 0/8"),
        (11, Extent::Border, "WAL ends"),
    ];
    assert_eq!(named.len(), expected.len(), "{named:#?}");
    for ((number, extent, reason), (expected_number, expected_extent, words)) in named.iter().zip(expected) {
        assert_eq!((*number, *extent), (expected_number, expected_extent), "{reason}");
        assert!(reason.contains(words), "{number}: {reason}");
    }
    assert!(overview.damaged.iter().all(|place| place.meaning().contains("recovery")));
    let gaps: Vec<String> = catalog.timelines[0].gaps.iter().map(ToString::to_string).collect();
    assert!(gaps.iter().any(|gap| gap.contains("000000010000000000000002")), "{gaps:?}");
    let commits: Vec<(u64, u32)> =
        overview.segments.iter().map(|segment| (segment.number, segment.commits)).filter(|(_, n)| *n > 0).collect();
    assert_eq!(commits, [(1, 1), (6, 1), (9, 1), (10, 1), (11, 1), (12, 1)]);
    Index::complete(&mut catalog, &overview);
    let timeline = &catalog.timelines[0];
    assert_eq!(timeline.damaged.len(), 8, "{:?}", timeline.damaged);
    assert_eq!(timeline.last_commit_at, Some(second(60 * 12 + 30)));
    assert!(timeline.end_lsn.is_some_and(|end| end <= size().start_of(13)));
}

#[test]
fn a_segment_has_as_many_points_as_the_overview_counts() {
    let archive = Archive::new(12);
    let source = archive.source();
    let catalog = list(&source);
    let index = Index::new(&source, &catalog, None, ROWS);
    let cancel = Cancel::default();
    let overview = index.build(&cancel, &mut |_, _| {}, &mut |_| {}).unwrap();
    let mut all = 0;
    for segment in &overview.segments {
        let points = index.points(segment.timeline, segment.number, &cancel).unwrap();
        assert_eq!(points.len() as u32, segment.rows, "{segment:?}");
        all += points.len();
    }
    assert_eq!(all, 12 * 2 + 2 + 1, "commits and rollbacks, restore points, the end of WAL");
    let mut seen = Vec::new();
    index
        .for_each(TimelineId(1), &cancel, &mut |number, read| {
            seen.push((number, read.unwrap().commits));
            if number == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })
        .unwrap();
    assert_eq!(seen, [(1, 1), (2, 1), (3, 1)]);
}

#[test]
fn a_damaged_database_is_made_anew_and_that_is_said_once() {
    let archive = Archive::new(12);
    archive.index();
    let mut database = fs::read_dir(archive.cache()).unwrap().map(|entry| entry.unwrap().path());
    let database = database.find(|path| path.extension().is_some_and(|ending| ending == "db")).unwrap();
    let whole = fs::read(&database).unwrap();
    let mut flipped = whole.clone();
    for byte in &mut flipped[4096..] {
        *byte = !*byte;
    }
    for (what, bytes) in [
        ("text", b"this is no database, but some text that is long enough to look like one\n".repeat(100)),
        ("cut off", whole[..whole.len() / 2].to_vec()),
        ("other bytes inside", flipped),
    ] {
        fs::write(&database, bytes).unwrap();
        let source = archive.source();
        let catalog = list(&source);
        let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS);
        let overview = index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap();
        assert_eq!(commits(&overview), 12, "{what}");
        let warnings = index.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("made anew"), "{what}: {warnings:?}");
        drop(index);
        assert_eq!(archive.index(), (overview, vec![]), "{what}: the new one is used");
    }
}

#[test]
fn a_bit_that_flips_in_the_database_is_never_believed() {
    let archive = Archive::new(12);
    let (whole, _) = archive.index();
    let database = archive.cache().join(DATABASE);
    let bytes = fs::read(&database).unwrap();
    for at in (0..bytes.len()).step_by(bytes.len() / 60) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 4;
        fs::write(&database, flipped).unwrap();
        let source = archive.source();
        let catalog = list(&source);
        let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS);
        assert_eq!(index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap(), whole, "byte {at}");
        drop(index);
        fs::remove_dir_all(archive.cache()).unwrap();
        fs::create_dir(archive.cache()).unwrap();
    }
}

#[test]
fn where_nothing_can_be_kept_everything_works() {
    let archive = Archive::new(12);
    // No directory can be made below a file, not even by root.
    let file = archive.directory.path().join("a file");
    fs::write(&file, "").unwrap();
    for cache in [None, Some(file.join("cache"))] {
        let source = archive.source();
        let overview = build(&source, cache.as_deref());
        assert_eq!((commits(&overview), source.opened().len()), (12, 12));
    }
    assert_eq!(fs::read(&file).unwrap(), b"");
}

#[test]
fn what_another_made_is_not_written_to() {
    let archive = Archive::new(3);
    archive.settle();
    let theirs = archive.directory.path().join("theirs.db");
    let database = archive.cache().join(DATABASE);
    let fill = || {
        let connection = rusqlite::Connection::open(&theirs).unwrap();
        connection.execute_batch("create table if not exists theirs (it integer)").unwrap();
    };
    fs::create_dir(archive.cache()).unwrap();
    let absent = archive.directory.path().join("absent");
    for (what, points_to) in [("a link to nothing", Some(&absent)), ("a link", Some(&theirs)), ("no link", None)] {
        fill();
        match points_to {
            Some(to) => std::os::unix::fs::symlink(to, &database).unwrap(),
            None => fs::copy(&theirs, &database).map(drop).unwrap(),
        }
        let (before, source) = (fs::read(&theirs).unwrap(), archive.source());
        let catalog = list(&source);
        let index = Index::new(&source, &catalog, Some(&archive.cache()), ROWS);
        let overview = index.build(&Cancel::default(), &mut |_, _| {}, &mut |_| {}).unwrap();
        assert!(commits(&overview) > 0, "{what}");
        let warnings = index.warnings();
        assert!(warnings.len() == 1 && warnings[0].contains("not kept"), "{what}: {warnings:?}");
        assert!(!absent.exists(), "{what}");
        assert_eq!(fs::read(&theirs).unwrap(), before, "{what}");
        if points_to.is_none() {
            assert_eq!(fs::read(&database).unwrap(), before, "{what}");
        }
        fs::remove_file(&database).unwrap();
    }
}

#[test]
fn only_we_may_look_into_the_cache() {
    let archive = Archive::new(3);
    archive.index();
    assert_eq!(fs::metadata(archive.cache()).unwrap().mode() & 0o777, 0o700);
    for entry in fs::read_dir(archive.cache()).unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().mode() & 0o777, 0o600);
    }
}

/// Run by `two_at_once_do_not_hinder_each_other`, in processes of its own.
#[test]
#[ignore = "a part of another test"]
fn one_of_two_at_once() {
    let (Some(wal), Some(cache)) = (std::env::var_os("WALBACK_TEST_WAL"), std::env::var_os("WALBACK_TEST_CACHE"))
    else {
        return;
    };
    let overview = build(&Counting::of(wal.into()), Some(Path::new(&cache)));
    assert_eq!(commits(&overview), 200);
}

#[test]
fn two_at_once_do_not_hinder_each_other() {
    let archive = Archive::new(200);
    let children: Vec<_> = (0..4)
        .map(|_| {
            let mut child = Command::new(std::env::current_exe().unwrap());
            child.args(["--exact", "one_of_two_at_once", "--ignored"]);
            child.env("WALBACK_TEST_WAL", archive.wal()).env("WALBACK_TEST_CACHE", archive.cache());
            child.stdout(std::process::Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
    }
    let (overview, opened) = archive.index();
    assert_eq!((commits(&overview), opened), (200, vec![]));
}
