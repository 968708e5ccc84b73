//! How fast a server replays with `walback fetch`, as ratios to other ways of getting WAL to it, in one run.
//!
//! ```sh
//! cargo bench --bench fetch [-- ROUNDS [FORM …]]
//! ```
//!
//! Of the FORMs plain, gz, zst and lz4 only these, where any are named, and that with everything in `pg_wal`.
//!
//! `benches/make-replay.sh` makes a base backup and WAL once, with PostgreSQL 15, below `target/bench/`; delete it to have
//! others. Each run recovers a fresh copy of the base backup, all ways in turn. The time is what the server itself says
//! that redo took; the processors' time is that of the server with everything that it started, what makes segments ready
//! too. `docs/performance.md` holds the table.

// A measurement that cannot go on stops.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::fs;
use std::os::unix::fs::chown;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, User, geteuid};
use serde_json::json;
use walback::core::Lsn;

const SEGMENT: u64 = 16 << 20;

/// A way in which the server gets WAL.
struct Way {
    name: &'static str,
    archive: PathBuf,
    command: Restore,
    runs: Vec<Run>,
}

impl Way {
    fn form(&self) -> &str {
        self.archive.file_name().unwrap().to_str().unwrap()
    }
}

enum Restore {
    /// All of it lies in `pg_wal` already.
    Nothing,
    Shell(String),
    Fetch,
}

struct Run {
    redo_s: f64,
    /// Of the process that replays.
    startup_s: f64,
    /// Of everything.
    all_s: f64,
}

fn main() {
    let rounds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(5);
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench/replay");
    if !made.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/make-replay.sh");
        assert!(Command::new(script).arg(&made).status().unwrap().success(), "nothing to replay could be made");
    }
    set_child_subreaper(true).unwrap();
    let mut ways = ways(&made);
    let forms: Vec<_> = ways.iter().map(|way| way.form().to_owned()).collect();
    let named: Vec<_> = std::env::args().skip(1).filter(|word| forms.contains(word)).collect();
    ways.retain(|way| {
        named.is_empty() || matches!(way.command, Restore::Nothing) || named.iter().any(|form| form == way.form())
    });
    for round in 1..=rounds {
        for way in &mut ways {
            let run = replay(&made, way);
            println!("round {round}: {:<28} {:>6.2} s, load {}", way.name, run.redo_s, load());
            way.runs.push(run);
        }
    }
    report(&ways, fs::read_dir(made.join("plain")).unwrap().count());
}

fn ways(made: &Path) -> Vec<Way> {
    let shell = |program: &str, ending: &str, from: &str| {
        Restore::Shell(format!("{program} {}/%f{ending} {from}", made.join(directory_of(ending)).display()))
    };
    let way = |name, ending, command| Way { name, archive: made.join(directory_of(ending)), command, runs: Vec::new() };
    vec![
        way("all in pg_wal", "", Restore::Nothing),
        way("cp", "", shell("cp", "", "%p")),
        way("fetch, plain", "", Restore::Fetch),
        way("gunzip -c", ".gz", shell("gunzip -c", ".gz", "> %p")),
        way("fetch, gzip", ".gz", Restore::Fetch),
        way("zstd -dc", ".zst", shell("zstd -dcq", ".zst", "> %p")),
        way("fetch, zstd", ".zst", Restore::Fetch),
        way("lz4 -dc", ".lz4", shell("lz4 -dcq", ".lz4", "> %p")),
        way("fetch, lz4", ".lz4", Restore::Fetch),
    ]
}

fn directory_of(ending: &str) -> &str {
    if ending.is_empty() { "plain" } else { &ending[1..] }
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().split(' ').next().unwrap().to_owned()
}

fn user() -> Option<User> {
    geteuid().is_root().then(|| User::from_name("postgres").unwrap().unwrap())
}

fn as_server(program: &Path) -> Command {
    let Some(user) = user() else { return Command::new(program) };
    let mut command = Command::new("setpriv");
    command.args([format!("--reuid={}", user.uid), format!("--regid={}", user.gid)]).arg("--init-groups").arg(program);
    command
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    fs::write(path, text).unwrap();
    if let Some(user) = user() {
        chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
}

/// Recovers once, in a place of its own.
fn replay(made: &Path, way: &Way) -> Run {
    let place = tempfile::Builder::new().prefix("walback-bench-").tempdir_in("/tmp").unwrap();
    let data = place.path().join("data");
    fs::set_permissions(place.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert!(Command::new("cp").arg("-a").arg(made.join("base")).arg(&data).status().unwrap().success());
    fs::set_permissions(&data, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    if let Some(user) = user() {
        chown(place.path(), Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
    }
    let command = prepare(made, way, &data);
    let settings = format!(
        "listen_addresses = ''\nunix_socket_directories = '{}'\nport = 54397\narchive_mode = off\nshared_buffers = '512MB'\n\
         max_wal_size = '8GB'\nrecovery_prefetch = off\nrestore_command = '{}'\nrecovery_target_name = 'end'\n\
         recovery_target_timeline = '1'\nrecovery_target_action = 'promote'\nlc_messages = 'C'\n",
        place.path().display(),
        command.replace('\'', "''")
    );
    write(&data.join("postgresql.auto.conf"), settings);
    write(&data.join("recovery.signal"), "");
    // What was written just now, and by the run before, shall not be written to the disk meanwhile.
    assert!(Command::new("sync").status().unwrap().success());
    run(&data, &place.path().join("log"))
}

/// Puts there what the way needs, and gives the `restore_command`.
fn prepare(made: &Path, way: &Way, data: &Path) -> String {
    match &way.command {
        Restore::Shell(command) => command.clone(),
        Restore::Nothing => {
            for file in fs::read_dir(&way.archive).unwrap() {
                let file = file.unwrap();
                let to = data.join("pg_wal").join(file.file_name());
                write(&to, fs::read(file.path()).unwrap());
            }
            "false".to_owned()
        }
        Restore::Fetch => {
            let own = data.join(".walback");
            fs::create_dir(&own).unwrap();
            if let Some(user) = user() {
                chown(&own, Some(user.uid.as_raw()), Some(user.gid.as_raw())).unwrap();
            }
            write(&own.join("fetch.json"), instructions(made, way));
            format!("exec {} fetch --recovery bench %f %p", env!("CARGO_BIN_EXE_walback"))
        }
    }
}

fn instructions(made: &Path, way: &Way) -> String {
    let segment = fs::read_dir(made.join("plain")).unwrap().next().unwrap().unwrap().path();
    let system = u64::from_le_bytes(fs::read(segment).unwrap()[24..32].try_into().unwrap());
    let stop: Lsn = fs::read_to_string(made.join("end")).unwrap().parse().unwrap();
    json!({
        "format": 1, "recovery": "bench", "archives": [way.archive], "segment_size": SEGMENT,
        "system_identifier": system.to_string(), "major": 15, "stop": stop.to_string(),
        "way": [{"timeline": 1, "begin": "0/0", "end": null}], "older_files": {}, "partials": [],
    })
    .to_string()
}

fn used() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    let time = |at: nix::sys::time::TimeVal| Duration::new(at.tv_sec() as u64, at.tv_usec() as u32 * 1000);
    time(usage.user_time()) + time(usage.system_time())
}

/// Runs the server until it has promoted, and stops it.
fn run(data: &Path, log: &Path) -> Run {
    let bin: PathBuf = std::env::var("PG_BIN").unwrap_or("/usr/lib/postgresql/15/bin".to_owned()).into();
    let output = fs::File::create(log).unwrap();
    let before = used();
    let mut server = as_server(&bin.join("postgres"))
        .arg("-D")
        .arg(data)
        .stdin(Stdio::null())
        .stdout(output.try_clone().unwrap())
        .stderr(output)
        .spawn()
        .unwrap();
    let (started, mut line) = (Instant::now(), None);
    while line.is_none() {
        std::thread::sleep(Duration::from_millis(20));
        let text = fs::read_to_string(log).unwrap_or_default();
        line = text.lines().find(|line| line.contains("redo done at")).map(str::to_owned);
        let is_over = server.try_wait().unwrap().is_some() || started.elapsed() > Duration::from_secs(300);
        assert!(line.is_some() || !is_over, "{text}");
    }
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGQUIT).unwrap();
    server.wait().unwrap();
    // What it left behind is ours now: it counts too.
    while waitpid(None, None).is_ok() {}
    let line = line.unwrap();
    let number =
        |what: &str| -> f64 { line.split(what).nth(1).unwrap().trim().split(' ').next().unwrap().parse().unwrap() };
    Run {
        redo_s: number("elapsed:"),
        startup_s: number("user:") + number("system:"),
        all_s: (used() - before).as_secs_f64(),
    }
}

fn median(runs: &[Run], of: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn report(ways: &[Way], segments: usize) {
    println!("\n{segments} segments, median of {} rounds, s", ways[0].runs.len());
    println!("{:<28} {:>8} {:>8} {:>9} {:>9}", "", "redo", "least", "replaying", "all");
    for way in ways {
        let least = way.runs.iter().map(|run| run.redo_s).fold(f64::INFINITY, f64::min);
        println!(
            "{:<28} {:>8.2} {least:>8.2} {:>9.2} {:>9.2}",
            way.name,
            median(&way.runs, |run| run.redo_s),
            median(&way.runs, |run| run.startup_s),
            median(&way.runs, |run| run.all_s)
        );
    }
    let redo = |name: &str| Some(median(&ways.iter().find(|way| way.name == name)?.runs, |run| run.redo_s));
    println!("\n{:<44} {:>6} {:>6}", "times as fast as", "redo", "goal");
    let goals = [
        ("fetch, gzip", "gunzip -c", 2.5),
        ("fetch, zstd", "zstd -dc", 1.4),
        ("fetch, lz4", "lz4 -dc", 1.0),
        ("fetch, gzip", "cp", 1.0),
        ("fetch, zstd", "cp", 1.0),
        ("fetch, gzip", "all in pg_wal", 1.0 / 1.2),
        ("fetch, zstd", "all in pg_wal", 1.0 / 1.2),
    ];
    for (ours, peer, goal) in goals {
        if let (Some(peer_s), Some(ours_s)) = (redo(peer), redo(ours)) {
            println!("{:<44} {:>6.2} {goal:>6.2}", format!("{ours} : {peer}"), peer_s / ours_s);
        }
    }
}
