//! The demonstration's server: made, started, asked, stopped.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

use crate::core::{Lsn, PgMajor, SegmentName, SegmentSize, TimelineId};
use crate::engine::host::facts::choose_port;
use crate::engine::host::{Account, Host};
use crate::engine::server::{is_alive, last_lines};
use crate::engine::steps::stop::stop;
use crate::error::{Error, Result};
use crate::pgdata::auto_conf::AutoConf;
use crate::plan::settings::shell_quote;
use crate::source::Cancel;

/// How long the server may take to start, or a segment to be archived; far more than it should.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked whether something has come.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Small segments, so that the archive of a short story has several.
const SEGMENT_MIB: u32 = 1;
/// The role that owns everything.
pub const ROLE: &str = "postgres";

/// The shop's server, with its archive beside it.
#[derive(Debug)]
pub struct Cluster {
    host: Host,
    /// Its version.
    pub major: PgMajor,
    /// Where its programs are.
    pub bin_dir: PathBuf,
    /// The operating system's user that runs it.
    pub account: Account,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its WAL is archived to.
    pub archive: PathBuf,
    /// The directory of its socket, which only its user can enter.
    pub socket: PathBuf,
    /// Its port; there is no TCP.
    pub port: u16,
    log: PathBuf,
}

impl Cluster {
    /// Makes one below `directory`, archiving, and starts it.
    ///
    /// # Errors
    /// When `initdb` fails, or the server does not start; with what they said.
    pub fn create(
        host: &Host,
        directory: &Path,
        (bin_dir, major, account): (PathBuf, PgMajor, Account),
        cancel: &Cancel,
    ) -> Result<Cluster> {
        let place = |name: &str| {
            let path = directory.join(name);
            host.make_directory(&path, &account).map(|()| path)
        };
        let (data, archive, socket) = (place("primary")?, place("archive")?, place("socket")?);
        let log = directory.join("primary.log");
        drop(host.create_file(&log, 0o600, &account)?);
        let port = choose_port(None);
        let cluster = Cluster { host: host.clone(), major, bin_dir, account, data, archive, socket, port, log };
        cluster.init()?;
        cluster.start(cancel)?;
        Ok(cluster)
    }

    fn init(&self) -> Result<()> {
        let data = self.data.display().to_string();
        let segments = format!("--wal-segsize={SEGMENT_MIB}");
        let arguments = ["-U", ROLE, "--auth=trust", "-E", "UTF8", "--locale=C", "--no-sync", &segments, "-D", &data];
        self.host.run_as(&self.account, &self.bin_dir.join("initdb"), &arguments)?;
        let path = self.data.join("postgresql.conf");
        let sample = std::fs::read_to_string(&path).map_err(|error| {
            Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error)
        })?;
        let mut settings = AutoConf::parse("\n# Settings of the demonstration\n");
        self.settings().iter().for_each(|(name, value)| settings.set(name, value));
        self.host.write_file(&path, (sample + &settings.render()).as_bytes(), 0o600, &self.account)
    }

    fn settings(&self) -> [(&'static str, String); 12] {
        let text = |value: &str| value.to_owned();
        [
            ("listen_addresses", text("")),
            ("port", self.port.to_string()),
            ("unix_socket_directories", format!("\"{}\"", self.socket.display().to_string().replace('"', "\"\""))),
            ("unix_socket_permissions", text("0700")),
            ("archive_mode", text("on")),
            ("archive_command", archive_command(&self.archive)),
            // The exact times of the accident are asked of it.
            ("track_commit_timestamp", text("on")),
            // No transactions but those of the story.
            ("autovacuum", text("off")),
            ("shared_buffers", text("32MB")),
            ("timezone", text("UTC")),
            ("log_timezone", text("UTC")),
            ("lc_messages", text("C")),
        ]
    }

    fn start(&self, cancel: &Cancel) -> Result<()> {
        let command =
            [self.bin_dir.join("postgres").display().to_string(), "-D".into(), self.data.display().to_string()];
        let pid = self.host.start_server(&command, &self.log, &self.account)?;
        let started = Instant::now();
        loop {
            cancel.check()?;
            let failed = match self.session("postgres") {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if !is_alive(pid) || started.elapsed() > PATIENCE {
                let error = Error::failed("server-not-started", "the demonstration's server does not start");
                let error = last_lines(&self.log, 5)
                    .into_iter()
                    .fold(error, |error, line| error.because(format!("log: {line}")));
                return Err(error.because(failed.report().message.clone()));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// A connection to one of its databases.
    ///
    /// # Errors
    /// When the server does not take connections.
    pub fn session(&self, database: &str) -> Result<Session> {
        Session::open(&self.socket, self.port, database)
    }

    /// Waits until the archive has the segment of a timeline that holds the byte before `lsn`.
    ///
    /// # Errors
    /// When that takes too long, or was cancelled.
    pub fn wait_archived(&self, timeline: TimelineId, lsn: Lsn, cancel: &Cancel) -> Result<()> {
        let size = SegmentSize::new(SEGMENT_MIB << 20).unwrap_or(SegmentSize::DEFAULT);
        let number = size.number_of(Lsn(lsn.0.saturating_sub(1)));
        let segment = self.archive.join(SegmentName::new(timeline, number, size).to_string());
        let started = Instant::now();
        while !segment.exists() {
            cancel.check()?;
            if started.elapsed() > PATIENCE {
                let error = Error::failed("not-archived", format!("this is not archived: {}", segment.display()));
                return Err(error.hint(format!("the server's log is {}", self.log.display())));
            }
            std::thread::sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends the segment that is written to, and waits until everything before is archived.
    ///
    /// # Errors
    /// When the server does not answer, or archiving takes too long.
    pub fn archive_all(&self, session: &Session, timeline: TimelineId, cancel: &Cancel) -> Result<()> {
        let switched: Lsn = session.value("SELECT pg_switch_wal()")?;
        self.wait_archived(timeline, switched, cancel)
    }

    /// Stops it; what is left to archive is archived.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&self) -> Result<()> {
        stop(&self.host, &self.data)
    }
}

/// An `archive_command` that never overwrites anything, and lets nobody see half a file.
#[must_use]
pub fn archive_command(archive: &Path) -> String {
    let archive = shell_quote(&archive.display().to_string().replace('%', "%%"));
    format!(
        "if test -e {archive}/%f; then cmp -s \"%p\" {archive}/%f; \
         else cp \"%p\" {archive}/.%f.part && mv {archive}/.%f.part {archive}/%f; fi"
    )
}

/// A connection to a database, on a socket in a directory of its own.
pub struct Session {
    runtime: tokio::runtime::Runtime,
    client: Client,
}

impl Session {
    /// # Errors
    /// When the server does not take connections.
    pub fn open(socket: &Path, port: u16, database: &str) -> Result<Session> {
        let failed = |error: &dyn std::error::Error| {
            Error::failed("not-connected", format!("cannot connect to {}", socket.display())).caused_by(error)
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|e| failed(&e))?;
        let mut config = tokio_postgres::Config::new();
        config.host_path(socket).port(port).user(ROLE).dbname(database).application_name("walback demo");
        let client = runtime.block_on(async {
            let (client, connection) = config.connect(NoTls).await.map_err(|error| failed(&error))?;
            // An error of the connection shows at the next query.
            tokio::spawn(async move { drop(connection.await) });
            Ok::<_, Error>(client)
        })?;
        Ok(Session { runtime, client })
    }

    /// The rows that SQL gives, as text.
    ///
    /// # Errors
    /// When it fails; with the SQL's first line.
    pub fn rows(&self, sql: &str) -> Result<Vec<Vec<Option<String>>>> {
        let answer = self.runtime.block_on(self.client.simple_query(sql)).map_err(|error| {
            let first = sql.lines().find(|line| !line.starts_with("--")).unwrap_or(sql);
            Error::failed("sql-failed", format!("this failed: {first}")).caused_by(&error)
        })?;
        let rows = answer.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// Runs SQL that gives nothing of interest.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, sql: &str) -> Result<()> {
        self.rows(sql).map(drop)
    }

    /// The one value that SQL gives.
    ///
    /// # Errors
    /// When it fails, or gives something else.
    pub fn value<T: FromStr>(&self, sql: &str) -> Result<T> {
        let first = self.rows(sql)?.into_iter().next().and_then(|row| row.into_iter().next().flatten());
        first.as_deref().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let got = first.as_deref().unwrap_or("nothing");
            Error::failed("sql-unexpected", format!("this gave {got}: {sql}"))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn archiving_never_overwrites_and_repeats_harmlessly() {
        let directory = tempfile::tempdir().unwrap();
        let archive = directory.path().join("an 'archive' 100%");
        std::fs::create_dir(&archive).unwrap();
        let segment = directory.path().join("segment");
        let archived = |contents: &str| {
            std::fs::write(&segment, contents).unwrap();
            let command = archive_command(&archive).replace("%f", "SEG").replace("%p", segment.to_str().unwrap());
            Command::new("sh").arg("-c").arg(command.replace("%%", "%")).status().unwrap().success()
        };
        assert!(archived("one"));
        assert!(archived("one"), "the server may ask twice for the same file");
        assert!(!archived("two"));
        assert_eq!(std::fs::read_to_string(archive.join("SEG")).unwrap(), "one");
        assert_eq!(std::fs::read_dir(&archive).unwrap().count(), 1);
    }
}
