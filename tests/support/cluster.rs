//! A cluster that archives its WAL, and what a test does with it.

use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use walback::core::Lsn;

use super::backup::Backup;
use super::server::{Server, client};
use super::{Directory, describe, run, wait_until};

/// How long anything that a server does may take; far more than it should, for busy machines.
pub const LIMIT: Duration = Duration::from_secs(60);

/// How a cluster is made.
#[derive(Debug, Clone)]
pub struct Options {
    /// The size of WAL segments in MiB, a power of two.
    pub segment_mib: u32,
    /// Whether pages have checksums. 18 has them even where this is `false`.
    pub checksums: bool,
    /// Whether the archive's files are compressed by gzip, with `.gz` after their names.
    pub gzip: bool,
    /// More for `postgresql.conf`: names and values, without quotes.
    pub settings: Vec<(&'static str, String)>,
    /// A library that the servers are made to load before all others (`LD_PRELOAD`).
    pub preload: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_mib: 16, checksums: false, gzip: false, settings: Vec::new(), preload: None }
    }
}

/// How a server is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Disconnects everybody, writes a checkpoint and archives what there is.
    Fast,
    /// As a crash does.
    Immediate,
}

/// A cluster in a [`Directory`], with an archive beside it. It is stopped when the directory is dropped.
#[derive(Debug)]
pub struct Cluster<'a> {
    directory: &'a Directory,
    /// The programs it runs with.
    pub server: Server,
    /// Its data directory.
    pub data: PathBuf,
    /// Where its WAL is archived; clusters made from its backups archive there too.
    pub archive: PathBuf,
    /// What its socket's name ends with: `.s.PGSQL.PORT`.
    pub port: u16,
    gzip: bool,
    preload: Option<PathBuf>,
}

impl<'a> Cluster<'a> {
    /// Makes a cluster in `DIRECTORY/primary` that archives to `DIRECTORY/archive`, and starts it.
    #[track_caller]
    pub fn create(directory: &'a Directory, server: &Server, options: &Options) -> Cluster<'a> {
        let archive = directory.create("archive");
        let cluster = Cluster::at(directory, server, "primary", archive, options);
        let mut initdb = server.command("initdb");
        initdb.arg("-D").arg(&cluster.data).args(["-N", "-A", "trust", "-U", "postgres", "--no-locale", "-E", "UTF8"]);
        initdb.arg(format!("--wal-segsize={}", options.segment_mib));
        initdb.args(options.checksums.then_some("--data-checksums"));
        run(&mut initdb);
        cluster.configure(&[("fsync", "off"), ("archive_mode", "on"), ("archive_command", &cluster.archive_command())]);
        for (name, value) in &options.settings {
            cluster.configure(&[(name, value)]);
        }
        cluster.start();
        cluster
    }

    /// The cluster `name`, with a port of its own; nothing is made yet.
    fn at(directory: &'a Directory, server: &Server, name: &str, archive: PathBuf, options: &Options) -> Cluster<'a> {
        let data = directory.path().join(name);
        let (gzip, preload) = (options.gzip, options.preload.clone());
        Cluster { directory, server: server.clone(), data, archive, port: free_port(), gzip, preload }
    }

    /// Another one, `name`, beside it, with its archive; nothing is made yet.
    fn beside(&self, name: &str) -> Cluster<'a> {
        let options = Options { gzip: self.gzip, preload: self.preload.clone(), ..Options::default() };
        Cluster::at(self.directory, &self.server, name, self.archive.clone(), &options)
    }

    /// Copies to a temporary name and renames; a file that is there already has to be the same.
    fn archive_command(&self) -> String {
        let file = format!("{}/%f", self.archive.display());
        if self.gzip {
            format!(
                "if test -f {file}.gz; then gzip -dc < {file}.gz | cmp -s - %p; else gzip -1 < %p > {file}.tmp && mv {file}.tmp {file}.gz; fi"
            )
        } else {
            format!("if test -f {file}; then cmp -s {file} %p; else cp %p {file}.tmp && mv {file}.tmp {file}; fi")
        }
    }

    /// A `restore_command` that reads its archive.
    pub fn restore_command(&self) -> String {
        let file = format!("{}/%f", self.archive.display());
        if self.gzip { format!("test -f {file}.gz && gzip -dc < {file}.gz > %p") } else { format!("cp {file} %p") }
    }

    /// Adds lines to `postgresql.conf`; its own port and socket directory too.
    #[track_caller]
    pub fn configure(&self, settings: &[(&str, &str)]) {
        let sockets = self.directory.path().display();
        let mut lines = format!("port = {}\nlisten_addresses = ''\nunix_socket_directories = '{sockets}'\n", self.port);
        for (name, value) in settings {
            let _ = writeln!(lines, "{name} = '{}'", value.replace('\'', "''"));
        }
        let mut file = OpenOptions::new().append(true).open(self.data.join("postgresql.conf")).unwrap();
        file.write_all(lines.as_bytes()).unwrap();
    }

    /// Starts it, and waits until it takes connections.
    #[track_caller]
    pub fn start(&self) {
        let mut command = self.pg_ctl("start");
        command.args(["-w", "-t", &LIMIT.as_secs().to_string(), "-l"]).arg(self.log_file());
        // The server inherits the standard output and would keep a pipe open.
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert!(status.success(), "{command:?}: {status}\n{}", self.log());
    }

    /// Stops it, and waits until it has.
    #[track_caller]
    pub fn stop(&self, how: Stop) {
        let mode = match how {
            Stop::Fast => "fast",
            Stop::Immediate => "immediate",
        };
        run(self.pg_ctl("stop").args(["-w", "-t", &LIMIT.as_secs().to_string(), "-m", mode]));
    }

    fn pg_ctl(&self, what: &str) -> Command {
        let mut command = self.server.command("pg_ctl");
        command.arg(what).arg("-D").arg(&self.data);
        command.envs(self.preload.iter().map(|library| ("LD_PRELOAD", library)));
        command
    }

    fn log_file(&self) -> PathBuf {
        self.data.with_extension("log")
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// How libpq reaches it.
    pub fn connection(&self) -> String {
        format!("host={} port={} user=postgres dbname=postgres", self.directory.path().display(), self.port)
    }

    fn psql_command(&self) -> Command {
        let mut command = client("psql");
        command.env("PGOPTIONS", "-c client_min_messages=warning");
        command.args(["-XAtq", "-v", "ON_ERROR_STOP=1", "-d", &self.connection()]);
        command
    }

    /// What SQL gives: a line for each row, `|` between the columns.
    #[track_caller]
    pub fn psql(&self, sql: &str) -> String {
        let mut command = self.psql_command();
        let output = command.args(["-c", sql]).output().unwrap();
        assert!(output.status.success(), "{}\n--- log\n{}", describe(&command, &output), self.log());
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// A connection that is held open.
    #[track_caller]
    pub fn session(&self) -> Session {
        let mut child = self.psql_command().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take(), BufReader::new(child.stdout.take().unwrap()));
        Session { child, input, output }
    }

    /// Writes a restore point and gives its position, as PostgreSQL prints it.
    #[track_caller]
    pub fn restore_point(&self, name: &str) -> String {
        self.psql(&format!("select pg_create_restore_point('{}')", name.replace('\'', "''")))
    }

    /// Ends the segment that is written, and waits until all there is has been archived; gives the last segment's name.
    #[track_caller]
    pub fn switch_and_wait_archived(&self) -> String {
        let switched: Lsn = self.psql("select pg_switch_wal()").parse().unwrap();
        // Where nothing was written since the last switch, this is the start of the next segment.
        let segment = self.segment_before(switched);
        self.wait_archived(&segment);
        segment
    }

    /// Waits until so many receivers have all WAL that there is.
    #[track_caller]
    pub fn wait_received(&self, what: &str, receivers: usize) {
        let lsn = self.psql("select pg_current_wal_lsn()");
        let query = format!("select count(*) from pg_stat_replication where flush_lsn >= '{lsn}'");
        wait_until(what, LIMIT, || (self.psql(&query) == receivers.to_string()).then_some(()));
    }

    /// The name of the segment that holds the byte before `position`: WAL that ends there ends in it.
    #[track_caller]
    pub fn segment_before(&self, position: Lsn) -> String {
        self.psql(&format!("select pg_walfile_name('{}')", Lsn(position.0 - 1)))
    }

    /// Waits until the archive has a file of that name, and gives its path.
    #[track_caller]
    pub fn wait_archived(&self, name: &str) -> PathBuf {
        let file = self.archive.join(if self.gzip { format!("{name}.gz") } else { name.to_owned() });
        wait_until(&format!("{} in the archive\n{}", name, self.log()), LIMIT, || file.exists().then(|| file.clone()))
    }

    /// Its timeline.
    #[track_caller]
    pub fn timeline(&self) -> u32 {
        let segment = self.psql("select pg_walfile_name(pg_current_wal_insert_lsn())");
        u32::from_str_radix(&segment[..8], 16).unwrap()
    }

    /// Unpacks a backup as the cluster `DIRECTORY/name` and starts it with these settings of recovery, and this
    /// cluster's archive to read. It does not archive until `archive_mode` is among the settings.
    #[track_caller]
    pub fn recover(&self, backup: &Backup, name: &str, target: &[(&str, &str)]) -> Cluster<'a> {
        let copy = self.beside(name);
        backup.unpack(&self.directory.create(name));
        copy.configure(&[("archive_mode", "off"), ("restore_command", &self.restore_command())]);
        copy.configure(target);
        self.directory.write(&format!("{name}/recovery.signal"), "");
        copy.start();
        copy
    }

    /// Recovers a backup to a target and promotes it: a new timeline, which goes on into the same archive and has its
    /// history file there already. `target` is like `[("recovery_target_name", "before")]`.
    #[track_caller]
    pub fn promote_copy(&self, backup: &Backup, name: &str, target: &[(&str, &str)]) -> Cluster<'a> {
        let mut settings = vec![("archive_mode", "on"), ("recovery_target_action", "promote")];
        settings.extend(target);
        let copy = self.recover(backup, name, &settings);
        wait_until(&format!("promotion\n{}", copy.log()), LIMIT, || {
            (copy.psql("select pg_is_in_recovery()") == "f").then_some(())
        });
        copy.wait_archived(&format!("{:08X}.history", copy.timeline()));
        copy
    }

    /// Makes the standby `DIRECTORY/name` of it, which streams, and starts it.
    #[track_caller]
    pub fn standby(&self, name: &str) -> Cluster<'a> {
        let standby = self.beside(name);
        let mut command = self.server.pg_basebackup().expect("pg_basebackup");
        command.arg("-D").arg(&standby.data).args(["-d", &self.connection(), "-R", "-c", "fast", "-X", "stream"]);
        run(&mut command);
        standby.configure(&[]);
        standby.start();
        standby
    }

    /// Waits until this standby has replayed all that its primary wrote.
    #[track_caller]
    pub fn wait_caught_up(&self, primary: &Cluster<'_>) {
        let wanted = primary.psql("select pg_current_wal_lsn()");
        wait_until("standby that has caught up", LIMIT, || {
            (self.psql(&format!("select pg_last_wal_replay_lsn() >= '{wanted}'")) == "t").then_some(())
        });
    }

    /// The directory that holds it, its archive and its backups.
    pub fn directory(&self) -> &'a Directory {
        self.directory
    }
}

/// A connection of psql that is held open, to take backups or to leave transactions open.
#[derive(Debug)]
pub struct Session {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Session {
    /// What SQL gives; it has to end with a semicolon. Errors go to the test's standard error.
    #[track_caller]
    pub fn query(&mut self, sql: &str) -> String {
        const END: &str = "-- the end of this answer";
        let input = self.input.as_mut().unwrap();
        input.write_all(format!("{sql}\n\\echo '{END}'\n").as_bytes()).unwrap();
        let mut answer = String::new();
        loop {
            let before = answer.len();
            let read = self.output.read_line(&mut answer).unwrap();
            assert!(read > 0, "psql has ended: {sql}\n{answer}");
            if answer[before..].trim_end() == END {
                answer.truncate(before);
                return answer.trim_end().to_owned();
            }
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}

/// A port that nobody listens on now. Servers have their sockets in directories of their own, so that one that is
/// taken a moment later does no harm.
fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}
