//! How fast WAL is read, as ratios to `pg_waldump` and to the programs that unpack, in one run on the same files.
//!
//! ```sh
//! cargo bench --bench wal_scan [-- ROUNDS]
//! ```
//!
//! The archive is made once, by `benches/make-wal.sh` with PostgreSQL 15, below `target/bench/`; delete it to have
//! another. `gunzip`, `zstd` and `lz4` are measured where they are installed. All are processes of their own that print
//! to nowhere, run in turn; what is compared are the medians. One thread, and whatever is compared with it, has one core to
//! run on: `zstd` reads and writes on further threads. How much a second core gains for two processes that have nothing to do
//! with each other is measured too. `docs/performance.md` holds the table.

// A measurement that cannot go on stops.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::hint::black_box;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::resource::{UsageWho, getrusage};
use nix::unistd::Pid;
use walback::config::SourceConfig;
use walback::source::summarize::Unreadable;
use walback::source::{Cancel, Index, LocalSource, Source};
use walback::wal::{Summary, record};

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("scan") => {
            let threads = arguments.next().unwrap().parse().unwrap();
            let directory = arguments.next().unwrap();
            println!("{}", scan(Path::new(&directory), threads));
        }
        rounds => measure(rounds.map_or(9, |rounds| rounds.parse().unwrap())),
    }
}

/// What a scan found, for comparing it with what others find.
#[derive(Default, PartialEq, Eq)]
struct Found {
    records: u64,
    ended: u64,
    rows: u64,
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} records, {} ends of transactions, {} rows", self.records, self.ended, self.rows)
    }
}

/// Builds the index of an archive as the program does, on so many cores, and keeps it nowhere.
fn scan(directory: &Path, threads: usize) -> Found {
    stay_on(threads);
    let config = SourceConfig { wal: vec![directory.to_owned()], ..SourceConfig::default() };
    let source = LocalSource::new(&config);
    let cancel = Cancel::default();
    let catalog = source.list(&cancel).unwrap();
    let index = Index::new(&source, &catalog, None, 1000);
    let overview = index.build(&cancel, &mut |_, _| {}, &mut |_| {}).unwrap();
    assert!(overview.complete && overview.damaged.is_empty(), "{:?}", overview.damaged);
    let mut found = Found::default();
    for timeline in &catalog.timelines {
        let each = &mut |_, read: Result<Summary, Unreadable>| {
            found.add(&read.unwrap());
            ControlFlow::Continue(())
        };
        index.for_each(timeline.id, &cancel, each).unwrap();
    }
    found
}

/// As many threads read as there are cores to run on: on some of them alone, fewer do.
fn stay_on(cores: usize) {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    sched_setaffinity(Pid::from_raw(0), &last_cores(&all, 0, cores)).unwrap();
}

/// So many of the cores, counted from the last one on: the first often has the machine's interrupts to look after.
fn last_cores(all: &CpuSet, skip: usize, count: usize) -> CpuSet {
    let mut set = CpuSet::new();
    let cores = (0..CpuSet::count()).rev().filter(|core| all.is_set(*core).unwrap());
    cores.skip(skip).take(count).for_each(|core| set.set(core).unwrap());
    set
}

impl Found {
    fn add(&mut self, summary: &Summary) {
        self.records += summary.records;
        self.ended += u64::from(summary.commits + summary.aborts + summary.prepares);
        let works = summary.notable.iter().map(|ended| &ended.work).chain(summary.open.iter().map(|(_, work)| work));
        self.rows += works.map(walback::wal::summary::Work::rows_changed).sum::<u64>();
    }
}

/// The arguments of a program that reads files.
fn words(options: &str, files: impl Iterator<Item = PathBuf>) -> Vec<String> {
    std::iter::once(options.to_owned()).chain(files.map(|file| file.display().to_string())).collect()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// A process that is measured, and how it did, a round after the other.
struct Subject {
    name: String,
    program: PathBuf,
    /// Of each of the processes that run at once, each on a core of its own; a single one of ours keeps to its cores itself.
    processes: Vec<Vec<String>>,
    runs: Vec<(Duration, Duration)>,
}

impl Subject {
    fn ours(what: &str, directory: &Path, threads: usize) -> Subject {
        let arguments = vec!["scan".to_owned(), threads.to_string(), directory.display().to_string()];
        let name = format!("walback, {what}, {threads} {}", if threads == 1 { "thread" } else { "threads" });
        Subject { name, program: std::env::current_exe().unwrap(), processes: vec![arguments], runs: Vec::new() }
    }

    fn waldump(directory: &Path, what: &str) -> Subject {
        let files = files(directory);
        let name = |file: &PathBuf| file.file_name().unwrap().to_str().unwrap().to_owned();
        let arguments = vec![
            what.to_owned(),
            "--path".to_owned(),
            directory.display().to_string(),
            name(&files[0]),
            name(files.last().unwrap()),
        ];
        let of = directory.file_name().unwrap().to_string_lossy();
        Subject {
            name: format!("pg_waldump {what}, {of}"),
            program: pg_bin().join("pg_waldump"),
            processes: vec![arguments],
            runs: Vec::new(),
        }
    }

    /// `None` where the program is not installed.
    fn unpacker(program: &str, options: &str, directory: &Path) -> Option<Subject> {
        if Command::new(program).arg("--version").output().is_err() {
            println!("{program} is not installed: what is compared with it is left out (apt-get install {program})");
            return None;
        }
        let processes = vec![words(options, files(directory).into_iter())];
        Some(Subject { name: format!("{program} {options}"), program: program.into(), processes, runs: Vec::new() })
    }

    /// Two at once, each of which does half of the work.
    fn halved(program: &str, options: &str, directory: &Path) -> Subject {
        let half = |first| words(options, files(directory).into_iter().skip(first).step_by(2));
        let name = format!("two {program} {options}, half each");
        Subject { name, program: program.into(), processes: vec![half(0), half(1)], runs: Vec::new() }
    }

    fn command(&self, arguments: &[String]) -> Command {
        let mut command = Command::new(&self.program);
        // Without TZ, the C library looks for the time zone's file at every time that is printed.
        command.args(arguments).env("TZ", "UTC").stdin(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn output(&self) -> String {
        String::from_utf8_lossy(&self.command(&self.processes[0]).output().unwrap().stdout).into_owned()
    }

    /// Starts its processes, each on a core of its own, but for ours, which keeps to its cores itself.
    fn start(&self) -> Vec<Child> {
        let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
        let start = |(core, arguments): (usize, &Vec<String>)| {
            if arguments[0] != "scan" {
                // What is started may run where this one may.
                sched_setaffinity(Pid::from_raw(0), &last_cores(&all, core, 1)).unwrap();
            }
            let child = self.command(arguments).stdout(Stdio::null()).spawn().unwrap();
            sched_setaffinity(Pid::from_raw(0), &all).unwrap();
            child
        };
        self.processes.iter().enumerate().map(start).collect()
    }

    fn run(&mut self) {
        let used = || {
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
            let time = |at: nix::sys::time::TimeVal| Duration::new(at.tv_sec() as u64, at.tv_usec() as u32 * 1000);
            time(usage.user_time()) + time(usage.system_time())
        };
        let (before, start) = (used(), Instant::now());
        for mut process in self.start() {
            let _ = process.wait().unwrap();
        }
        self.runs.push((start.elapsed(), used() - before));
    }

    /// The medians of the time that passed and of the processors' time, in milliseconds.
    fn medians(&self) -> (f64, f64) {
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64() * 1e3
        };
        (median(self.runs.iter().map(|run| run.0).collect()), median(self.runs.iter().map(|run| run.1).collect()))
    }
}

fn pg_bin() -> PathBuf {
    std::env::var("PG_BIN").unwrap_or("/usr/lib/postgresql/15/bin".to_owned()).into()
}

/// What is to be how many times as fast as what.
struct Goal {
    ours: usize,
    peer: usize,
    /// `None` where it only tells what the machine can do.
    least: Option<f64>,
    /// Where several threads are compared, only the time that passes says anything.
    parallel: bool,
}

fn measure(rounds: usize) {
    let archive = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/wal");
    if !archive.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/make-wal.sh");
        assert!(Command::new(script).arg(&archive).status().unwrap().success(), "no archive could be made");
    }
    let directory = |name: &str| archive.join(name);
    check(&directory("plain"));
    compare_checksums(&directory("bulk"), "bulk WAL");
    compare_checksums(&directory("commits"), "commit-dense WAL");
    let (subjects, goals) = subjects(&directory);
    let mut subjects = subjects;
    for _ in 0..rounds {
        subjects.iter_mut().for_each(Subject::run);
    }
    println!("\n{:<58} {:>9} {:>9}", format!("median of {rounds} rounds, ms"), "wall", "cpu");
    for subject in &subjects {
        let (wall, cpu) = subject.medians();
        println!("{:<58} {wall:>9.1} {cpu:>9.1}", subject.name);
    }
    println!("\n{:<104} {:>6} {:>6} {:>6}", "times as fast as", "wall", "cpu", "goal");
    for Goal { ours, peer, least, parallel } in goals {
        let (ours, peer) = (&subjects[ours], &subjects[peer]);
        let ((our_wall, our_cpu), (wall, cpu)) = (ours.medians(), peer.medians());
        let cpu = if parallel { "-".to_owned() } else { format!("{:.2}", cpu / our_cpu) };
        let what = format!("{} : {}", ours.name, peer.name);
        let least = least.map_or_else(String::new, |least| format!("{least:.2}"));
        println!("{what:<104} {:>6.2} {cpu:>6} {least:>6}", wall / our_wall);
    }
}

fn subjects(directory: &dyn Fn(&str) -> PathBuf) -> (Vec<Subject>, Vec<Goal>) {
    let (commits, bulk) = (directory("commits"), directory("bulk"));
    let mut subjects = vec![
        Subject::waldump(&commits, "--rmgr=Transaction"),
        Subject::waldump(&commits, "--rmgr=XLOG"),
        Subject::ours("commit-dense", &commits, 1),
        Subject::ours("commit-dense", &commits, 2),
        Subject::waldump(&bulk, "--rmgr=XLOG"),
        Subject::ours("bulk", &bulk, 1),
        Subject::ours("bulk", &bulk, 2),
        Subject::ours("all", &directory("plain"), 1),
        Subject::ours("all", &directory("plain"), 2),
    ];
    let goal = |ours, peer, least| Goal { ours, peer, least: Some(least), parallel: false };
    let parallel = |ours, peer, least| Goal { ours, peer, least: Some(least), parallel: true };
    let machine = |ours, peer| Goal { ours, peer, least: None, parallel: true };
    let mut goals = vec![
        goal(2, 0, 3.5),
        goal(2, 1, 2.2),
        goal(5, 4, 2.2),
        parallel(3, 2, 1.7),
        parallel(6, 5, 1.7),
        parallel(8, 7, 1.7),
        machine(10, 9),
    ];
    // The kernel's copying is the same for all who read.
    subjects.extend(Subject::unpacker("cat", "-u", &directory("plain")));
    subjects.push(Subject::halved("cat", "-u", &directory("plain")));
    for (program, options, name, least) in
        [("gunzip", "-c", "gz", 4.2), ("zstd", "-dc", "zst", 1.1), ("lz4", "-dcm", "lz4", 1.1)]
    {
        let packed = directory(name);
        let Some(unpacker) = Subject::unpacker(program, options, &packed).filter(|_| !files(&packed).is_empty()) else {
            continue;
        };
        let at = subjects.len();
        subjects.extend([unpacker, Subject::ours(name, &packed, 1), Subject::ours(name, &packed, 2)]);
        subjects.push(Subject::halved(program, options, &packed));
        goals.extend([goal(at + 1, at, least), parallel(at + 2, at + 1, 1.8), machine(at + 3, at)]);
    }
    (subjects, goals)
}

/// What is fast must also be right: as many records and ends of transactions as `pg_waldump` finds, on one thread and on
/// two.
fn check(directory: &Path) {
    let stats = Subject::waldump(directory, "--stats").output();
    let records: u64 =
        stats.lines().find_map(|line| line.strip_prefix("Total ")?.split_whitespace().next()?.parse().ok()).unwrap();
    let ends = Subject::waldump(directory, "--rmgr=Transaction").output();
    let ends = ends
        .lines()
        .filter(|line| ["COMMIT", "ABORT", "PREPARE"].iter().any(|kind| line.contains(&format!("desc: {kind}"))))
        .count() as u64;
    for threads in [1, 2] {
        let found = Subject::ours("all", directory, threads).output();
        assert!(
            found.starts_with(&format!("{records} records, {ends} ends")),
            "pg_waldump finds other records: {found}"
        );
    }
    println!("in {} segments: {records} records, {ends} ends of transactions", files(directory).len());
}

/// The checksum of each record by itself, as Walback computes it and as the crates do.
fn compare_checksums(directory: &Path, what: &str) {
    let mut records: Vec<Vec<u8>> = Vec::new();
    for file in files(directory).iter().take(4) {
        for page in fs::read(file).unwrap().chunks_exact(8192) {
            let first = if page[2] & 2 == 0 { 24 } else { 40 };
            let remaining = u32::from_le_bytes(page[16..20].try_into().unwrap()) as usize;
            let mut at = (first + remaining).next_multiple_of(8);
            while let Some(total) =
                page.get(at..at + 4).map(|total| u32::from_le_bytes(total.try_into().unwrap()) as usize)
            {
                let Some(record) = page.get(at..at + total).filter(|record| record.len() >= 24) else { break };
                records.push(record.to_vec());
                at = (at + total).next_multiple_of(8);
            }
        }
    }
    type Way<'a> = &'a dyn Fn(&[u8]) -> u32;
    let wanted = |record: &[u8]| u32::from_le_bytes(record[20..24].try_into().unwrap());
    let bytes: usize = records.iter().map(Vec::len).sum();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..15 {
        let ways: [Way<'_>; 3] = [
            &|record| record::checksum(record).unwrap(),
            &|record| {
                let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
                digest.update(&record[24..]);
                digest.update(&record[..20]);
                digest.finalize() as u32
            },
            &|record| crc32c::crc32c_append(crc32c::crc32c(&record[24..]), &record[..20]),
        ];
        for (way, times) in ways.iter().zip(&mut times) {
            let start = Instant::now();
            let right = records.iter().filter(|record| black_box(way(record)) == wanted(record)).count();
            times.push(start.elapsed());
            assert_eq!(right, records.len());
        }
    }
    println!(
        "checksums of {} records of {what}, {} bytes on average, that lie whole on a page:",
        records.len(),
        bytes / records.len()
    );
    for (name, mut times) in ["walback", "crc-fast", "crc32c"].into_iter().zip(times) {
        times.sort();
        let each = times[times.len() / 2].as_secs_f64() * 1e9 / records.len() as f64;
        println!("  {name:<10} {each:>5.1} ns a record");
    }
}
