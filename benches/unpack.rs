//! How fast a base backup is unpacked, as ratios to GNU tar with the usual decompressors, in one run on the same files.
//!
//! ```sh
//! cargo bench --bench unpack [-- ROUNDS [DIRECTORY [FORM...]]]
//! ```
//!
//! The backup is made once, by `benches/make-backup.sh` with PostgreSQL 15, below `target/bench/`; delete it to have
//! another. It is unpacked below DIRECTORY, by default in the directory for temporary files, which has to be one that the
//! server's user can enter; of the FORMs plain, gz, zst and lz4 only these, where any are named. All are processes of their
//! own, run in turn; each begins with nothing waiting to be written to the disks. What they leave is moved away before the next
//! one begins, and removed in the end. What is compared are the medians. `docs/performance.md` holds the table.

// A measurement that cannot go on stops.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use walback::engine::host::Host;
use walback::engine::host::facts::server_account;
use walback::engine::record::Recorder;
use walback::engine::{Recoveries, steps};
use walback::plan::Plan;
use walback::source::Cancel;

fn main() {
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    match arguments.next().as_deref() {
        Some("unpack") => unpack(Path::new(&arguments.next().unwrap()), Path::new(&arguments.next().unwrap())),
        rounds => {
            let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
            let forms: Vec<String> = arguments.collect();
            measure(rounds.map_or(5, |rounds| rounds.parse().unwrap()), &place, &forms);
        }
    }
}

/// What the program does when it carries the plan's first step out: unpack, compare, sync.
fn unpack(plan: &Path, into: &Path) {
    let mut plan: Plan = serde_json::from_slice(&fs::read(plan).unwrap()).unwrap();
    plan.directory = into.join("new");
    let host = Host::new(false).unwrap();
    let recoveries = Recoveries::below(&into.join("state"));
    let recorder = Recorder::open(&host, &recoveries, &plan.recovery, &|_| {}).unwrap();
    let owner = server_account(None).unwrap();
    steps::unpack::unpack(&host, &plan, &owner, &recorder, &Cancel::default()).unwrap();
}

/// A way to unpack, and how long it took each time.
struct Subject {
    name: String,
    program: String,
    arguments: Vec<String>,
    runs: Vec<(Duration, Duration)>,
}

impl Subject {
    fn ours(form: &str, place: &Path) -> Subject {
        let plan = place.join(format!("{form}.json")).display().to_string();
        let into = place.join("into").display().to_string();
        let program = std::env::current_exe().unwrap().display().to_string();
        let arguments = vec!["unpack".to_owned(), plan, into];
        Subject { name: format!("walback, {form}: compared and synced"), program, arguments, runs: Vec::new() }
    }

    fn shell(name: String, script: String) -> Subject {
        Subject { name, program: "sh".to_owned(), arguments: vec!["-ec".to_owned(), script], runs: Vec::new() }
    }

    fn run(&mut self, into: &Path) {
        put_away(into);
        fs::create_dir(into).unwrap();
        fs::set_permissions(into, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        assert!(Command::new("sync").status().unwrap().success());
        let used = || {
            let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
            let time = |at: nix::sys::time::TimeVal| Duration::new(at.tv_sec() as u64, at.tv_usec() as u32 * 1000);
            time(usage.user_time()) + time(usage.system_time())
        };
        let (before, start) = (used(), Instant::now());
        let mut command = Command::new(&self.program);
        let status = command.args(&self.arguments).stdin(Stdio::null()).stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{}: {status}", self.name);
        self.runs.push((start.elapsed(), used() - before));
    }

    /// The medians of the time that passed and of the processors' time, in seconds.
    fn medians(&self) -> (f64, f64) {
        let median = |mut times: Vec<Duration>| {
            times.sort();
            times[times.len() / 2].as_secs_f64()
        };
        (median(self.runs.iter().map(|run| run.0).collect()), median(self.runs.iter().map(|run| run.1).collect()))
    }
}

/// So much has to be free for the next one, in bytes.
const ROOM: u64 = 4 << 30;

/// Makes way for the next one, without removing anything: for some minutes, ext4 gives no inode anew that was freed, and
/// looking for others takes it longer than all the rest (`recently_deleted`, `fs/ext4/ialloc.c`). Where room becomes scarce,
/// files are emptied, and it is waited until the disk has heard of that.
fn put_away(into: &Path) {
    if !into.exists() {
        return;
    }
    let away = (0..).map(|number| into.with_file_name(format!("away-{number}"))).find(|away| !away.exists());
    fs::rename(into, away.unwrap()).unwrap();
    let place = into.parent().unwrap();
    let known = nix::sys::statvfs::statvfs(place).unwrap();
    if known.blocks_available() as u64 * known.fragment_size() as u64 > ROOM {
        return;
    }
    let mut left = vec![place.to_path_buf()];
    while let Some(directory) = left.pop() {
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            let kind = entry.file_type().unwrap();
            if kind.is_dir() {
                left.push(entry.path());
            } else if kind.is_file() && directory != place {
                fs::OpenOptions::new().write(true).open(entry.path()).unwrap().set_len(0).unwrap();
            }
        }
    }
    assert!(Command::new("sync").status().unwrap().success());
    // With the mount option `discard` the file system goes on after that, and says nowhere when it is done.
    std::thread::sleep(Duration::from_secs(10));
}

fn measure(rounds: usize, below: &Path, wanted: &[String]) {
    let backup = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/backup");
    if !backup.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/make-backup.sh");
        assert!(Command::new(script).arg(&backup).status().unwrap().success(), "no backup could be made");
    }
    let place = below.join(format!("walback-bench-{}", std::process::id()));
    fs::create_dir(&place).unwrap();
    fs::set_permissions(&place, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let into = place.join("into");
    let mut forms =
        vec![("plain", "", 2.2), ("gz", "gzip -dc", 3.6), ("zst", "zstd -dcq", 2.4), ("lz4", "lz4 -dcq", 3.0)];
    forms.retain(|(form, ..)| wanted.is_empty() || wanted.iter().any(|wanted| wanted == form));
    let mut subjects = Vec::new();
    for (form, program, _) in &forms {
        make_plan(&backup, form, &place);
        subjects.extend(ways(&backup, form, program, &into, &place));
    }
    println!("load before: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    for _ in 0..rounds {
        subjects.iter_mut().for_each(|subject| subject.run(&into));
    }
    println!("load behind: {}", fs::read_to_string("/proc/loadavg").unwrap().trim());
    fs::remove_dir_all(&place).unwrap();
    tell(&subjects, &forms, rounds);
}

/// Ours, and tar three times: by itself, with a sync, and with `pg_verifybackup` and a sync.
fn ways(backup: &Path, form: &str, program: &str, into: &Path, place: &Path) -> Vec<Subject> {
    let file = fs::read_dir(backup.join(form)).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|file| file.display().to_string().contains("base.tar")).unwrap();
    let (file, into) = (file.display(), into.display());
    let tar = match program {
        "" => format!("tar -xf {file} -C {into}"),
        program => format!("{program} <{file} | tar -xf - -C {into}"),
    };
    let manifest = backup.join(form).join("backup_manifest");
    let verify =
        format!("{}/pg_verifybackup -n -i backup_manifest -m {} {into}", pg_bin().display(), manifest.display());
    vec![
        Subject::ours(form, place),
        Subject::shell(format!("tar, {form}"), tar.clone()),
        Subject::shell(format!("tar, {form}: synced"), format!("{tar}; sync -f {into}")),
        Subject::shell(format!("tar, {form}: synced, pg_verifybackup"), format!("{tar}; sync -f {into}; {verify}")),
    ]
}

/// The plan as the program makes it.
fn make_plan(backup: &Path, form: &str, place: &Path) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_walback"));
    command.arg("--json").arg("--backups").arg(backup.join(form)).arg("--wal").arg(backup.join("wal"));
    command.args(["plan", "--immediate", "--into"]).arg(place.join("new"));
    let output = command.output().unwrap();
    let mut answer: serde_json::Value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    fs::write(place.join(format!("{form}.json")), serde_json::to_vec(&answer["plan"].take()).unwrap()).unwrap();
}

fn pg_bin() -> PathBuf {
    std::env::var("PG_BIN").unwrap_or("/usr/lib/postgresql/15/bin".to_owned()).into()
}

fn tell(subjects: &[Subject], forms: &[(&str, &str, f64)], rounds: usize) {
    println!("\n{:<44} {:>8} {:>8}", format!("median of {rounds} rounds, s"), "wall", "cpu");
    for subject in subjects {
        let (wall, cpu) = subject.medians();
        println!("{:<44} {wall:>8.2} {cpu:>8.2}", subject.name);
    }
    println!(
        "\n{:<8} {:>14} {:>14} {:>30} {:>8}",
        "times", "tar", "tar, synced", "tar, synced, pg_verifybackup", "goal"
    );
    for ((form, _, goal), ways) in forms.iter().zip(subjects.chunks(4)) {
        let ours = ways[0].medians().0;
        let [alone, synced, verified] = [1, 2, 3].map(|way| ways[way].medians().0 / ours);
        println!("{form:<8} {alone:>14.2} {synced:>14.2} {verified:>30.2} {goal:>8.2}");
    }
}
