//! What an archive of 100,000 segments takes: listing it, indexing it, opening it again, finding a time in it that was
//! never read.
//!
//! `cargo bench --bench index [-- SEGMENTS]` makes the archive below the target directory, in which every segment is a
//! file of 1 MB with holes, and prints figures. Each of them is measured in a process of its own.

#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/support/made_up.rs"]
mod made_up;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Instant;

use made_up::{MadeUp, Writer};
use walback::config::{RestoreConfig, SourceConfig};
use walback::core::{Lsn, SegmentSize, Target, TargetKind, Timestamp, Zone};
use walback::engine::{Preparation, Recoveries, Request};
use walback::source::{Cancel, Index, LocalSource, Source};

const SEGMENTS: u64 = 100_000;

fn second(second: u64) -> Timestamp {
    Timestamp::from_unix_seconds(1_700_000_000 + second as i64).unwrap()
}

/// Where the base backup begins: at the first record.
const START: Lsn = Lsn((1 << 20) + 40);

/// Of a thousand segments the first so many have no commits.
const BULK: u64 = 100;

/// Twenty commits in a minute and a rollback, but for stretches of bulk work by nobody in particular. As a server does, it
/// lists every 15 seconds who runs, and who comes next.
fn content(number: u64, segment: &mut Writer) {
    let (thousands, within) = (number / 1000, number % 1000);
    let mut next = ((thousands * (1000 - BULK) + within.saturating_sub(BULK)) * 21) as u32 + 1000;
    if number == 1 {
        segment.running(next, &[]);
        segment.backup_end(START);
    }
    if within < BULK {
        if number.is_multiple_of(15) {
            segment.running(next, &[]);
        }
        segment.other(1000);
        return;
    }
    for i in 0..20 {
        if i % 5 == 0 {
            segment.running(next, &[]);
        }
        segment.commit(next, second(number * 60 + i * 3));
        next += 1;
    }
    segment.abort(next, second(number * 60 + 59));
    if number.is_multiple_of(500) {
        segment.restore_point(&format!("point {number}"), second(number * 60 + 59));
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.first().map(String::as_str) {
        Some("open") => open(Path::new(&arguments[1]), Path::new(&arguments[2])),
        Some("locate") => stop(Path::new(&arguments[1]), None, time_in(arguments[2].parse().unwrap())),
        Some("plan") => {
            let kind = match arguments.get(3) {
                Some(number) => time_in(number.parse().unwrap()),
                None => TargetKind::Latest,
            };
            stop(Path::new(&arguments[1]), Some(Path::new(&arguments[2])), kind);
        }
        segments => run(segments.map_or(SEGMENTS, |segments| segments.parse().unwrap())),
    }
}

fn run(segments: u64) {
    let place = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("index-{segments}"));
    let (archive, cache) = (place.join("archive"), place.join("cache"));
    if !archive.exists() {
        make(&archive, segments);
    }
    let _ = fs::remove_dir_all(&cache);
    for what in ["cold", "warm", "warm", "warm"] {
        let start = Instant::now();
        let mut child = Command::new(std::env::current_exe().unwrap());
        let status = child.arg("open").args([&archive, &cache]).status().unwrap();
        assert!(status.success());
        println!("  {what}: {:.0} ms from start to end of the process", start.elapsed().as_secs_f64() * 1e3);
    }
    // One more segment: everything else is taken from the cache.
    let last = archive.join(format!("0000000100000{:03X}00000{:03X}", segments / 4096, segments % 4096));
    let bytes = fs::read(&last).unwrap();
    fs::write(&last, bytes).unwrap();
    let status = Command::new(std::env::current_exe().unwrap()).arg("open").args([&archive, &cache]).status().unwrap();
    assert!(status.success());
    println!("  the last segment was written anew");
    for percent in [1, 10, 31, 50, 77, 99] {
        let number = (segments * percent / 100).to_string();
        let program = std::env::current_exe().unwrap();
        assert!(Command::new(program).arg("locate").arg(&archive).arg(number).status().unwrap().success());
    }
    for number in [None, Some(segments / 10), Some(segments / 2)] {
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.arg("plan").args([&archive, &cache]).args(number.map(|number| number.to_string()));
        assert!(child.status().unwrap().success());
    }
}

/// The middle of the minute of a segment.
fn time_in(number: u64) -> TargetKind {
    TargetKind::Time(second(number * 60 + 30))
}

/// Finds a stop with nothing known, or plans a recovery to it with the index that was kept.
fn stop(archive: &Path, cache: Option<&Path>, kind: TargetKind) {
    let start = Instant::now();
    let config = SourceConfig { wal: vec![archive.to_owned()], ..SourceConfig::default() };
    let source = LocalSource::new(&config);
    let cancel = Cancel::default();
    let mut catalog = source.list(&cancel).unwrap();
    catalog.backups.push(made_up::backup(SegmentSize::new(1 << 20).unwrap(), START));
    let listed = start.elapsed();
    let preparation = Preparation {
        source: &source,
        catalog: &catalog,
        recoveries: &Recoveries::below(archive),
        cache,
        names: &Mutex::default(),
        progress: &|_| {},
        cancel: &cancel,
    };
    let request = Request {
        target: Target::new(kind),
        backup: None,
        directory: archive.with_file_name("new"),
        restore: RestoreConfig::default(),
        pristine: None,
        make_way: false,
        zone: Zone::UTC,
    };
    let (what, resolved) = match cache {
        None => ("located", preparation.locate(&request).unwrap()),
        Some(_) => ("planned", preparation.plan(&request).unwrap().resolved),
    };
    println!(
        "listed {:.0} ms, {} {what} at {} in {:.0} ms, {} commits are lost",
        listed.as_secs_f64() * 1e3,
        request.target.in_words(Zone::UTC),
        resolved.lsn,
        (start.elapsed() - listed).as_secs_f64() * 1e3,
        resolved.commits_lost.map_or("? ".to_owned(), |lost| lost.to_string()),
    );
}

fn make(archive: &Path, segments: u64) {
    let size = SegmentSize::new(1 << 20).unwrap();
    let made = MadeUp::new(size, 1, segments, Box::new(content));
    fs::create_dir_all(archive).unwrap();
    for number in 1..=segments {
        let path = archive.join(made.name_of(number).to_string());
        fs::write(&path, made.beginning(number)).unwrap();
        fs::File::options().write(true).open(&path).unwrap().set_len(size.bytes()).unwrap();
    }
}

fn open(archive: &Path, cache: &Path) {
    let start = Instant::now();
    let ms = |start: Instant| start.elapsed().as_secs_f64() * 1e3;
    let config = SourceConfig { wal: vec![archive.to_owned()], ..SourceConfig::default() };
    let source = LocalSource::new(&config);
    let catalog = source.list(&Cancel::default()).unwrap();
    let listed = ms(start);
    let index = Index::new(&source, &catalog, Some(cache), 1000);
    let (mut first, mut looks) = (None, 0);
    let overview = index.build(&Cancel::default(), &mut |_, _| {}, &mut |overview| {
        first.get_or_insert((ms(start), overview.segments.iter().filter(|segment| segment.read).count()));
        looks += 1;
    });
    let overview = overview.unwrap();
    let (first, known) = first.unwrap();
    println!(
        "listed {listed:.0} ms, first look {first:.0} ms with {known} segments, {looks} looks, complete {:.0} ms; \
         {} segments, {} points, {} marks, {} MB at most; {:?}",
        ms(start),
        overview.segments.len(),
        overview.segments.iter().map(|segment| u64::from(segment.rows)).sum::<u64>(),
        overview.marks.len(),
        peak_mb(),
        index.warnings(),
    );
}

/// The most memory that this process had so far.
fn peak_mb() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}
