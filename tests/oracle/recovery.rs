//! What the server does: a recovery of a copy of a backup, followed in its log.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use chrono::DateTime;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use walback::core::Lsn;

use crate::support::{Directory, LIMIT, Server, as_server, client, run};

/// Settings in the order in which they are written.
pub(crate) type Settings = Vec<(String, String)>;

/// What recovery did.
#[derive(Debug, Default)]
pub(crate) struct Happened {
    /// Where it stopped, as the log says it.
    pub(crate) stop: Option<Stop>,
    /// Where the data was consistent.
    pub(crate) consistent: Option<Lsn>,
    /// How it ended.
    pub(crate) end: End,
    /// Where the last record starts that was replayed, where that is told.
    pub(crate) redo_done: Option<Lsn>,
    /// How far replay came.
    pub(crate) replay_end: Option<Lsn>,
    /// The transaction whose commit was replayed last, in a server that could be asked: none is zero.
    pub(crate) last_committed: Option<u32>,
    /// Whether the transaction is committed that was said to be lost, in a server that could be asked.
    pub(crate) has_lost: Option<bool>,
    /// What is in a server that could be asked, where that was to be told.
    pub(crate) contents: Option<String>,
    /// The whole log.
    pub(crate) log: String,
}

/// How a recovery ended.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// Paused at the target.
    Paused,
    /// Paused since a setting is lower than it was on the primary.
    PausedForSettings,
    /// Shut down at the target.
    ShutDown,
    /// Took a new timeline.
    Promoted,
    /// Ended with this message.
    Fatal(String),
    /// None of that within the time that it had.
    #[default]
    Unknown,
}

/// The line with which the log says where recovery stops.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// At the end of a transaction.
    Transaction {
        /// Before it.
        before: bool,
        /// The transaction.
        xid: u32,
        /// Its time, in microseconds since 1970.
        at: i64,
    },
    /// At a place in WAL.
    Lsn {
        /// Before it.
        before: bool,
        /// The record's start.
        lsn: Lsn,
    },
    /// At a restore point.
    RestorePoint {
        /// Its name.
        name: String,
        /// Its time, in microseconds since 1970.
        at: i64,
    },
    /// As soon as the data was consistent.
    Consistency,
}

impl Stop {
    fn of(line: &str) -> Option<Stop> {
        let (_, text) = line.split_once("LOG:  recovery stopping ")?;
        if text == "after reaching consistency" {
            return Some(Stop::Consistency);
        }
        if let Some(text) = text.strip_prefix("at restore point \"") {
            let (name, at) = text.rsplit_once("\", time ")?;
            return Some(Stop::RestorePoint { name: name.to_owned(), at: micros(at)? });
        }
        let (side, text) = text.split_once(' ')?;
        let before = side == "before";
        if let Some(lsn) = text.strip_prefix("WAL location (LSN) \"") {
            return Some(Stop::Lsn { before, lsn: lsn.strip_suffix('"')?.parse().ok()? });
        }
        let (_, text) = text.split_once(" of transaction ")?;
        let (xid, at) = text.split_once(", time ")?;
        Some(Stop::Transaction { before, xid: xid.parse().ok()?, at: micros(at)? })
    }
}

fn micros(text: &str) -> Option<i64> {
    Some(DateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f%#z").ok()?.timestamp_micros())
}

/// A backup, unpacked once, of which every recovery gets a copy.
pub(crate) struct Bench<'a> {
    /// What holds the copies.
    pub(crate) directory: &'a Directory,
    /// The programs.
    pub(crate) server: &'a Server,
    /// Where the unpacked backup is.
    pub(crate) unpacked: PathBuf,
}

impl Bench<'_> {
    /// Recovers a copy with these settings to its end. `lost` is the transaction that it is to be asked for.
    #[track_caller]
    pub(crate) fn recover(&self, settings: &Settings, lost: Option<u32>) -> Happened {
        self.run(settings, lost, false)
    }

    /// The same, with what is in the server then.
    #[track_caller]
    pub(crate) fn recover_and_tell(&self, settings: &Settings, lost: Option<u32>) -> Happened {
        self.run(settings, lost, true)
    }

    #[track_caller]
    fn run(&self, settings: &Settings, lost: Option<u32>, tell: bool) -> Happened {
        let copy = self.directory.path().join("rec");
        run(as_server("cp").arg("-a").arg("--reflink=auto").arg(&self.unpacked).arg(&copy));
        let inside = |name: &str| copy.join(name).to_str().unwrap().to_owned();
        let own = [
            ("fsync", "off".to_owned()),
            ("port", "5432".to_owned()),
            ("listen_addresses", String::new()),
            ("unix_socket_directories", inside("")),
            ("hba_file", inside("pg_hba.conf")),
            ("ident_file", inside("pg_ident.conf")),
            ("external_pid_file", inside("server.pid")),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            ("shared_buffers", "8MB".to_owned()),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value));
        // Later lines win, and none of these is a target.
        let lines: String =
            settings.iter().chain(&own).map(|(name, value)| format!("{name} = {}\n", quoted(value))).collect();
        self.directory.write("rec/postgresql.auto.conf", lines);
        self.directory.write("rec/recovery.signal", "");
        let mut running = Running::start(self.server, &copy);
        let mut happened = running.follow();
        match happened.end {
            End::Paused => ask(&copy, lost, &mut happened),
            End::Promoted => happened.replay_end = switch_point(&copy, &happened.log),
            _ => {}
        }
        if tell && matches!(happened.end, End::Paused | End::Promoted) {
            let connection = format!("host={} port=5432 user=postgres dbname=postgres", copy.display());
            happened.contents = Some(contents(&connection, &happened.log));
        }
        running.stop();
        fs::remove_dir_all(&copy).unwrap();
        happened
    }
}

fn quoted(value: &str) -> String {
    format!("'{}'", value.replace('\\', r"\\").replace('\'', "''"))
}

struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    #[track_caller]
    fn start(server: &Server, data: &Path) -> Running {
        let log = data.with_extension("log");
        let file = File::create(&log).unwrap();
        let mut command: Command = server.command("postgres");
        command.arg("-D").arg(data).stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        Running { child: command.spawn().unwrap(), log }
    }

    /// Follows it until it is over, or stays where it is.
    fn follow(&mut self) -> Happened {
        let start = Instant::now();
        loop {
            // Asked first: what it wrote before it ended is in the log then.
            let has_ended = self.child.try_wait().unwrap().is_some();
            let happened = read(fs::read_to_string(&self.log).unwrap(), has_ended);
            if happened.end != End::Unknown || has_ended || start.elapsed() > LIMIT {
                return happened;
            }
            sleep(Duration::from_millis(4));
        }
    }

    fn stop(mut self) {
        let _ = kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGQUIT);
        self.child.wait().unwrap();
    }
}

/// What a log tells so far.
pub(crate) fn read(log: String, has_ended: bool) -> Happened {
    let mut happened = Happened::default();
    let mut fatal = None;
    for line in log.lines() {
        let lsn_after = |words: &str| {
            let (_, lsn) = line.split_once(words)?;
            lsn.split(' ').next()?.parse::<Lsn>().ok()
        };
        happened.stop = happened.stop.or_else(|| Stop::of(line));
        happened.consistent = happened.consistent.or_else(|| lsn_after("consistent recovery state reached at "));
        happened.redo_done = happened.redo_done.or_else(|| lsn_after("redo done at "));
        let is = |words: &str| line.contains(words);
        happened.end = match () {
            () if is("LOG:  pausing at the end of recovery") => End::Paused,
            () if is("DETAIL:  If recovery is unpaused, the server will shut down.") => End::PausedForSettings,
            () if is("LOG:  shutdown at recovery target") => End::ShutDown,
            () if is("LOG:  database system is ready to accept connections") => End::Promoted,
            () => happened.end,
        };
        let words = line.split_once("FATAL:  ").or_else(|| line.split_once("PANIC:  "));
        if let Some((_, words)) = words.filter(|(prefix, _)| !prefix.contains("client backend")) {
            fatal.get_or_insert_with(|| words.to_owned());
        }
    }
    if let Some(words) = fatal {
        happened.end = End::Fatal(words);
    } else if has_ended && happened.end == End::Unknown {
        happened.end = End::Fatal("it ended without a word".to_owned());
    }
    happened.log = log;
    happened
}

/// Asks a paused server how far it came.
#[track_caller]
fn ask(data: &Path, lost: Option<u32>, happened: &mut Happened) {
    let sql = format!(
        "select pg_last_wal_replay_lsn(), coalesce((select xid::text from pg_last_committed_xact()), '0'), \
         pg_xact_commit_timestamp('{}') is not null",
        lost.unwrap_or(1)
    );
    let mut psql = client("psql");
    psql.args(["-XAtq", "-d"]).arg(format!("host={} port=5432 user=postgres dbname=postgres", data.display()));
    psql.args(["-c", &sql]);
    let start = Instant::now();
    let said = loop {
        // The server says that it takes connections from another process than that it pauses.
        let output = psql.output().unwrap();
        if output.status.success() {
            break String::from_utf8(output.stdout).unwrap();
        }
        assert!(start.elapsed() < LIMIT, "{}", String::from_utf8_lossy(&output.stderr));
        sleep(Duration::from_millis(5));
    };
    let mut fields = said.trim().split('|');
    happened.replay_end = fields.next().and_then(|lsn| lsn.parse().ok());
    happened.last_committed = fields.next().and_then(|xid| xid.parse().ok());
    happened.has_lost = lost.and(fields.next()).map(|is| is == "t");
}

/// What is in the server, as far as it makes a difference: the rows, the databases with their files, the relations whose
/// files are missing, and what is prepared, which shows only after promotion.
#[track_caller]
pub(crate) fn contents(connection: &str, log: &str) -> String {
    const SQL: &str = "select 'kept', count(*), md5(coalesce(string_agg(n || ':' || by, ',' order by n, by), '')) from kept; \
        select 'large', count(*), md5(coalesce(string_agg(md5(v), ',' order by md5(v)), '')) from large; \
        select 'database', datname, pg_stat_file('base/' || oid || '/PG_VERSION', true) is not null \
            from pg_database order by datname; \
        select 'relation', oid, relname, relfilenode, relkind from pg_class where oid >= 16384 order by oid; \
        select 'missing', oid from pg_class where pg_relation_filepath(oid) is not null \
            and pg_stat_file(pg_relation_filepath(oid), true) is null order by oid; \
        select 'prepared', gid from pg_prepared_xacts order by gid";
    let mut psql = client("psql");
    psql.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", connection, "-c", SQL]);
    let start = Instant::now();
    loop {
        let output = psql.output().unwrap();
        if output.status.success() {
            return String::from_utf8(output.stdout).unwrap();
        }
        assert!(start.elapsed() < LIMIT, "{}\n--- log\n{log}", String::from_utf8_lossy(&output.stderr));
        sleep(Duration::from_millis(5));
    }
}

/// Where a promoted server left the timeline that it came along: in the last line of its history.
fn switch_point(data: &Path, log: &str) -> Option<Lsn> {
    let (_, timeline) = log.split_once("selected new timeline ID: ")?;
    let timeline: u32 = timeline.lines().next()?.trim().parse().ok()?;
    let history = fs::read_to_string(data.join(format!("pg_wal/{timeline:08X}.history"))).ok()?;
    let last = history.lines().rfind(|line| line.starts_with(|c: char| c.is_ascii_digit()))?;
    last.split('\t').nth(1)?.parse().ok()
}
