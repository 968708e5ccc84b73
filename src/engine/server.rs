//! Looking at a server without changing anything: is it running, what does it say, what does it log.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_postgres::{Client, NoTls};

use crate::core::time::Timestamp;
use crate::core::{Lsn, Xid};
use crate::error::{Error, Result};
use crate::event::WaitsFor;
use crate::pgdata::postmaster_pid::PostmasterPid;
use crate::plan::ServerPlan;

/// How long a question to the server may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest stretch of log that is read at once.
const LOG_BLOCK: u64 = 1 << 20;

/// What `postmaster.pid` in a data directory says, where there is one.
#[must_use]
pub fn postmaster_pid(directory: &Path) -> Option<PostmasterPid> {
    let text = fs::read_to_string(directory.join("postmaster.pid")).ok()?;
    PostmasterPid::parse(&text).ok()
}

/// The process id of the server that runs in this data directory, if one does.
///
/// A process is only taken for it when it works in that directory: a stale `postmaster.pid` may name anybody.
#[must_use]
pub fn running(directory: &Path) -> Option<u32> {
    let pid = postmaster_pid(directory)?.pid;
    (is_alive(pid) && works_in(pid, directory)).then_some(pid)
}

/// The socket of a server and its lock file, which a server that was killed leaves behind.
#[must_use]
pub fn socket_files(server: &ServerPlan) -> [PathBuf; 2] {
    ["", ".lock"].map(|ending| server.socket_directory.join(format!(".s.PGSQL.{}{ending}", server.port)))
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn is_alive(pid: u32) -> bool {
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        // The state follows the name, which is in parentheses and may hold anything.
        Ok(stat) => {
            !matches!(stat.rsplit(')').next().and_then(|rest| rest.trim().chars().next()), Some('Z' | 'X') | None)
        }
        Err(_) => false,
    }
}

fn works_in(pid: u32, directory: &Path) -> bool {
    let Ok(wanted) = directory.canonicalize() else { return false };
    fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|cwd| cwd == wanted)
}

/// What the startup process says that it does: `recovering 000000010000000000000004`, `waiting for …`.
#[must_use]
pub fn startup_activity(postmaster: u32) -> Option<String> {
    let children = fs::read_to_string(format!("/proc/{postmaster}/task/{postmaster}/children")).ok()?;
    children.split_whitespace().find_map(|child| {
        let title = fs::read(format!("/proc/{child}/cmdline")).ok()?;
        let title = String::from_utf8_lossy(&title).trim_end_matches(['\0', ' ']).to_owned();
        title.split_once("startup ").map(|(_, doing)| doing.trim().to_owned()).filter(|doing| !doing.is_empty())
    })
}

/// Reads a log as it grows, whole lines only.
#[derive(Debug)]
pub struct LogTail {
    path: PathBuf,
    position: u64,
    unfinished: Vec<u8>,
}

impl LogTail {
    /// From `position` on; a log that is not there yet is empty.
    #[must_use]
    pub fn new(path: &Path, position: u64) -> LogTail {
        LogTail { path: path.to_path_buf(), position, unfinished: Vec::new() }
    }

    /// Where a log ends now.
    #[must_use]
    pub fn end_of(path: &Path) -> u64 {
        fs::metadata(path).map_or(0, |metadata| metadata.len())
    }

    /// The lines that came since the last call.
    pub fn lines(&mut self) -> Vec<String> {
        String::from_utf8_lossy(&self.bytes()).lines().map(str::to_owned).collect()
    }

    /// The same to the byte, with the ends of the lines: what a server logs need not be UTF-8.
    pub fn bytes(&mut self) -> Vec<u8> {
        let mut block = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.position))?;
            file.take(LOG_BLOCK).read_to_end(&mut block)
        });
        self.position += read.unwrap_or(0) as u64;
        self.unfinished.append(&mut block);
        let Some(end) = self.unfinished.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        let rest = self.unfinished.split_off(end + 1);
        std::mem::replace(&mut self.unfinished, rest)
    }
}

/// The last lines of a log.
#[must_use]
pub fn last_lines(path: &Path, count: usize) -> Vec<String> {
    let from = LogTail::end_of(path).saturating_sub(64 << 10);
    let lines = LogTail::new(path, from).lines();
    lines.iter().skip(lines.len().saturating_sub(count)).cloned().collect()
}

/// How far replay is, as the server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReplayStatus {
    /// Whether it is in recovery at all.
    pub in_recovery: bool,
    /// The end of the last record replayed.
    pub replayed_lsn: Option<Lsn>,
    /// The time of the last transaction replayed.
    pub last_commit_at: Option<Timestamp>,
    /// Whether replay is paused.
    pub paused: bool,
    /// What replay waits for, where it does.
    pub waits_for: Option<WaitsFor>,
    /// The session whose locks it waits for.
    pub blocked_by: Option<u32>,
}

/// Why a server gives no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoAnswer {
    /// It does not take connections yet, or not any more.
    NotNow,
    /// It answers, and refuses; this is what it says.
    Refused(String),
}

impl std::fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotNow => f.write_str("the server does not answer"),
            Self::Refused(why) => write!(f, "the server says: {why}"),
        }
    }
}

/// A connection to a recovered server over its own socket.
pub struct Sql {
    runtime: tokio::runtime::Runtime,
    config: tokio_postgres::Config,
    /// The roles to try, the one that works first: the superuser need not be called postgres.
    roles: Vec<String>,
    client: Option<Client>,
}

impl Sql {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When no runtime can be had from the system.
    pub fn new(server: &ServerPlan) -> Result<Sql> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Error::failed("no-runtime", "cannot set up connections").caused_by(&error))?;
        let mut config = tokio_postgres::Config::new();
        config
            .host_path(&server.socket_directory)
            .port(server.port)
            .dbname("postgres")
            .application_name("walback")
            .connect_timeout(ANSWER);
        let mut roles = vec![server.role.clone(), server.run_as.clone()];
        roles.dedup();
        Ok(Sql { runtime, config, roles, client: None })
    }

    /// The role that the last answer was given to.
    #[must_use]
    pub fn role(&self) -> &str {
        self.roles.first().map_or("", String::as_str)
    }

    /// The rows of a query as text, on a connection that is made when it is needed.
    ///
    /// # Errors
    /// When the server does not take connections, or refuses.
    pub fn query(&mut self, query: &str) -> Result<Vec<Vec<Option<String>>>, NoAnswer> {
        if self.client.as_ref().is_none_or(Client::is_closed) {
            self.client = Some(self.connect()?);
        }
        let Some(client) = self.client.as_ref() else { return Err(NoAnswer::NotNow) };
        let answer = self.runtime.block_on(async { tokio::time::timeout(ANSWER, client.simple_query(query)).await });
        let Ok(answer) = answer else {
            // It hangs: the next question gets a new connection.
            self.client = None;
            return Err(NoAnswer::NotNow);
        };
        let rows = answer.map_err(|error| no_answer(&error))?.into_iter().filter_map(|message| match message {
            tokio_postgres::SimpleQueryMessage::Row(row) => {
                Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect())
            }
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Connects as the first role that there is, and remembers it.
    fn connect(&mut self) -> Result<Client, NoAnswer> {
        let mut refused = NoAnswer::NotNow;
        for (place, role) in self.roles.clone().into_iter().enumerate() {
            self.config.user(&role);
            let connected = self.runtime.block_on(async {
                let (client, connection) = self.config.connect(NoTls).await?;
                // An error of the connection shows at the next query.
                tokio::spawn(async move { drop(connection.await) });
                Ok::<_, tokio_postgres::Error>(client)
            });
            match connected {
                Ok(client) => {
                    self.roles.swap(0, place);
                    return Ok(client);
                }
                Err(error) => refused = no_answer(&error),
            }
            if refused == NoAnswer::NotNow {
                break;
            }
        }
        Err(refused)
    }

    /// Whether a transaction has ended that was running at some time during the recovery that goes on.
    ///
    /// # Errors
    /// When the server does not take connections, or refuses.
    pub fn has_ended(&mut self, xid: Xid) -> Result<bool, NoAnswer> {
        // Of all ids that end with these 32 bits, the nearest to those that are given now.
        let query = format!(
            "SELECT pg_xact_status((id + CASE WHEN id - now > 2147483648 THEN -4294967296 \
                                              WHEN now - id > 2147483648 THEN 4294967296 ELSE 0 END)::text::xid8) \
             FROM (SELECT now, now - now % 4294967296 + {xid} AS id \
                   FROM (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS now) AS snapshot) AS given"
        );
        let answer = self.query(&query)?.into_iter().flatten().flatten().next();
        Ok(answer.is_some_and(|status| status != "in progress"))
    }

    /// How far replay is.
    ///
    /// # Errors
    /// When the server does not take connections, or refuses.
    pub fn replay_status(&mut self) -> Result<ReplayStatus, NoAnswer> {
        let query = "SELECT pg_is_in_recovery(), pg_last_wal_replay_lsn(), \
                     (extract(epoch FROM pg_last_xact_replay_timestamp()) * 1000000)::bigint, \
                     CASE WHEN pg_is_in_recovery() THEN pg_is_wal_replay_paused() END, \
                     (SELECT wait_event_type || '/' || wait_event FROM pg_stat_activity \
                      WHERE backend_type = 'startup'), \
                     (SELECT (pg_blocking_pids(pid))[1] FROM pg_stat_activity WHERE backend_type = 'startup')";
        let mut row = self.query(query)?.into_iter().next().unwrap_or_default().into_iter();
        let mut next = || row.next().flatten();
        Ok(ReplayStatus {
            in_recovery: next().is_some_and(|yes| yes == "t"),
            replayed_lsn: next().and_then(|lsn| lsn.parse().ok()),
            last_commit_at: next().and_then(|micros| micros.parse().ok()).and_then(Timestamp::from_unix_micros),
            paused: next().is_some_and(|paused| paused == "t"),
            waits_for: next().and_then(|event| waits_for(&event)),
            blocked_by: next().and_then(|pid| pid.parse().ok()),
        })
    }
}

/// What a wait event of the startup process stands for (`wait_event.c` of 13 to 16, `wait_event_names.txt` since).
fn waits_for(event: &str) -> Option<WaitsFor> {
    Some(match event.split_once('/')? {
        (_, "RestoreCommand") => WaitsFor::Archive,
        (_, "RecoveryApplyDelay") => WaitsFor::Delay,
        (_, "RecoveryPause") => WaitsFor::Resume,
        (_, "RecoveryWalAll" | "RecoveryWalStream" | "RecoveryRetrieveRetryInterval") => WaitsFor::Wal,
        ("Lock" | "BufferPin", _) | (_, "RecoveryConflictSnapshot" | "RecoveryConflictTablespace") => WaitsFor::Query,
        _ => return None,
    })
}

/// A server that is starting up or going away says so with class 57; whatever else it says is a refusal.
fn no_answer(error: &tokio_postgres::Error) -> NoAnswer {
    match error.as_db_error() {
        Some(refusal) if !refusal.code().code().starts_with("57") => NoAnswer::Refused(refusal.message().to_owned()),
        _ => NoAnswer::NotNow,
    }
}
