//! Keeps what was read of segments below the cache directory: the only file of `source` that writes, and only there.
//!
//! A row is good only for the files that it was made of, as they were: its basis says which. Nothing that goes wrong
//! here is an error. What cannot be kept on disk is kept in memory until the end, and what cannot be had is read again.

use std::fs::{self, DirBuilder, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::libc;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, TransactionBehavior, ffi, params};

/// Counted up whenever what is kept changes its form, or summaries mean something else than before: a database of
/// another format is never read.
pub const FORMAT: u32 = 5;
/// What the database's file is called, before its format.
const NAME: &str = "index";
/// No link in the whole path is followed.
const NOFOLLOW: OpenFlags = OpenFlags::SQLITE_OPEN_NOFOLLOW;
/// How long another Walback's writing is waited for.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries to open a database that another Walback is making.
const AGAIN: Duration = Duration::from_millis(5);
/// So many batches in a row that found the database locked, and it is not written to any more.
const REFUSALS: u32 = 4;
/// What was not used for so long is forgotten.
const UNUSED: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// At most so many rows are forgotten at once.
const FORGOTTEN: u32 = 10_000;

const SCHEMA: &str = "
    create table segment (
        place integer not null, cluster integer not null, timeline integer not null, number integer not null,
        floor integer not null, behind integer not null, basis blob not null, summary blob not null,
        checksum integer not null,
        primary key (place, cluster, timeline, number)
    ) without rowid;
    create table fate (
        place integer not null, cluster integer not null, timeline integer not null, number integer not null,
        xid integer not null, basis blob not null, fate blob not null, checksum integer not null,
        primary key (place, cluster, timeline, number, xid)
    ) without rowid;
    create table overview (
        source blob primary key, digest blob not null, overview blob not null, checksum integer not null,
        used integer not null
    ) without rowid;
    create table used (
        place integer not null, cluster integer not null, used integer not null, primary key (place, cluster)
    ) without rowid;
";

/// Counts tables that are none of those.
const OTHERS: &str = "select count(*) from sqlite_schema
    where type = 'table' and name not like 'sqlite_%' and name not in ('segment', 'fate', 'overview', 'used')";

/// Which segments of which archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scope {
    /// The directory that they lie in, see [`super::identity::place_of`].
    pub place: u64,
    /// The cluster's system identifier.
    pub cluster: u64,
    /// Their timeline.
    pub timeline: u32,
}

/// What is kept of one segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u64,
    /// Transactions that changed fewer rows are not kept with all that they did.
    pub floor: u64,
    /// So many of the segments behind were looked into for its last record.
    pub behind: u32,
    /// What it was made of.
    pub basis: Vec<u8>,
    /// What was read, packed; empty where it was not asked for.
    pub summary: Vec<u8>,
}

/// What was read of segments, on disk where that can be, else in memory.
#[derive(Debug)]
pub struct Cache {
    disk: Option<Disk>,
    memory: Option<Connection>,
    warnings: Vec<String>,
}

#[derive(Debug)]
struct Disk {
    path: PathBuf,
    connection: Connection,
    /// Batches in a row that found it locked.
    refused: u32,
    /// It was made anew already: that is tried once.
    renewed: bool,
    /// It is only read from now on.
    read_only: bool,
}

impl Cache {
    /// Below `directory`, which is made where it is not there; in memory alone without one, and where that fails.
    #[must_use]
    pub fn open(directory: Option<&Path>) -> Cache {
        let memory = Connection::open_in_memory().ok().filter(|memory| memory.execute_batch(SCHEMA).is_ok());
        let mut cache = Cache { disk: None, memory, warnings: Vec::new() };
        if let Some(directory) = directory {
            cache.open_disk(directory);
        }
        cache
    }

    fn open_disk(&mut self, directory: &Path) {
        // A home that cannot be written to is nobody's mistake: it is not even worth a word.
        if !make_private(directory) {
            return;
        }
        let path = directory.join(format!("{NAME}-{FORMAT}.db"));
        remove_older(directory);
        let (connection, renewed) = match connect(&path) {
            Ok(connection) => (connection, false),
            Err(error) if is_damaged(&error) => {
                self.warnings.push(renewed(&path, &error));
                remove(&path);
                match connect(&path) {
                    Ok(connection) => (connection, true),
                    Err(error) => return self.warnings.push(given_up(&path, &error)),
                }
            }
            Err(error) if is_not_writable(&error) => return,
            Err(error) => return self.warnings.push(given_up(&path, &error)),
        };
        self.disk = Some(Disk { path, connection, refused: 0, renewed, read_only: false });
    }

    /// What went wrong so far, in words.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether something is kept for the next time.
    #[must_use]
    pub fn is_kept(&self) -> bool {
        self.disk.as_ref().is_some_and(|disk| !disk.read_only)
    }

    /// Hands the rows from segment `first` to `last` to `each`, by number; those on disk first, then those in memory.
    /// Whether they are still good is for `each` to find out.
    pub fn rows(&mut self, scope: Scope, first: u64, last: u64, with_summary: bool, each: &mut dyn FnMut(Row)) {
        let read = |connection: &Connection, each: &mut dyn FnMut(Row)| -> rusqlite::Result<()> {
            let summary = if with_summary { "summary" } else { "null" };
            let mut statement = connection.prepare_cached(&format!(
                "select number, floor, behind, basis, {summary}, checksum from segment
                 where place = ?1 and cluster = ?2 and timeline = ?3 and number between ?4 and ?5 order by number"
            ))?;
            let whole = params![scope.place as i64, scope.cluster as i64, scope.timeline, first as i64, last as i64];
            let mut rows = statement.query(whole)?;
            while let Some(row) = rows.next()? {
                let summary = match row.get_ref(4)? {
                    ValueRef::Blob(bytes) => bytes.to_vec(),
                    _ => Vec::new(),
                };
                let basis: Vec<u8> = row.get(3)?;
                let found = Row {
                    number: row.get::<_, i64>(0)? as u64,
                    floor: row.get::<_, i64>(1)? as u64,
                    behind: row.get(2)?,
                    basis,
                    summary,
                };
                if !with_summary || row.get::<_, u32>(5)? == checksum(&[&found.basis, &found.summary]) {
                    each(found);
                }
            }
            Ok(())
        };
        self.on_disk(|connection| read(connection, each));
        if let Some(memory) = &self.memory {
            // Memory does not fail; what would be missing is read again.
            let _ = read(memory, each);
        }
    }

    /// Keeps rows; those that are not `durable` only until the end.
    pub fn keep<'a>(&mut self, rows: impl Iterator<Item = (Scope, &'a Row, bool)>) {
        let (durable, fleeting): (Vec<_>, Vec<_>) = rows.partition(|(_, _, durable)| *durable);
        let write = |transaction: &Transaction<'_>, rows: &[(Scope, &Row, bool)]| -> rusqlite::Result<()> {
            let mut insert = transaction
                .prepare_cached("insert or replace into segment values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)")?;
            for (scope, row, _) in rows {
                insert.execute(params![
                    scope.place as i64,
                    scope.cluster as i64,
                    scope.timeline,
                    row.number as i64,
                    row.floor.min(i64::MAX as u64) as i64,
                    row.behind,
                    row.basis,
                    row.summary,
                    checksum(&[&row.basis, &row.summary]),
                ])?;
            }
            Ok(())
        };
        if !durable.is_empty() && !self.write(|transaction| write(transaction, &durable)) {
            self.in_memory(|transaction| write(transaction, &durable));
        }
        if !fleeting.is_empty() {
            self.in_memory(|transaction| write(transaction, &fleeting));
        }
    }

    /// How a transaction ended in a segment, packed, where that was found out about the segment of this basis.
    pub fn fate(&mut self, scope: Scope, number: u64, xid: u32, basis: &[u8]) -> Option<Vec<u8>> {
        let mut found = None;
        let read = |connection: &Connection| -> rusqlite::Result<Option<Vec<u8>>> {
            let mut statement = connection.prepare_cached(
                "select fate, checksum from fate
                 where place = ?1 and cluster = ?2 and timeline = ?3 and number = ?4 and xid = ?5 and basis = ?6",
            )?;
            let key = params![scope.place as i64, scope.cluster as i64, scope.timeline, number as i64, xid, basis];
            let row: Option<(Vec<u8>, u32)> =
                statement.query_row(key, |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
            Ok(row.filter(|(fate, sum)| *sum == checksum(&[basis, fate])).map(|(fate, _)| fate))
        };
        self.on_disk(|connection| {
            found = read(connection)?;
            Ok(())
        });
        found.or_else(|| self.memory.as_ref().and_then(|memory| read(memory).ok().flatten()))
    }

    /// Keeps how a transaction ended in a segment.
    pub fn keep_fate(&mut self, scope: Scope, number: u64, xid: u32, basis: &[u8], fate: &[u8], durable: bool) {
        let write = |transaction: &Transaction<'_>| -> rusqlite::Result<()> {
            transaction
                .prepare_cached("insert or replace into fate values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?
                .execute(params![
                    scope.place as i64,
                    scope.cluster as i64,
                    scope.timeline,
                    number as i64,
                    xid,
                    basis,
                    fate,
                    checksum(&[basis, fate]),
                ])
                .map(drop)
        };
        if !durable || !self.write(write) {
            self.in_memory(write);
        }
    }

    /// What was known of a whole source the last time, packed, and the digest of the files that it was made of.
    pub fn overview(&mut self, source: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut found = None;
        self.on_disk(|connection| {
            let mut statement =
                connection.prepare_cached("select digest, overview, checksum from overview where source = ?1")?;
            let row: Option<(Vec<u8>, Vec<u8>, u32)> =
                statement.query_row([source], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?))).optional()?;
            found = row.filter(|(digest, overview, sum)| *sum == checksum(&[digest, overview]));
            Ok(())
        });
        found.map(|(digest, overview, _)| (digest, overview))
    }

    /// Keeps what is known of a whole source.
    pub fn keep_overview(&mut self, source: &[u8], digest: &[u8], overview: &[u8]) {
        self.write(|transaction| {
            transaction
                .prepare_cached("insert or replace into overview values (?1, ?2, ?3, ?4, ?5)")?
                .execute(params![source, digest, overview, checksum(&[digest, overview]), now()])
                .map(drop)
        });
    }

    /// Forgets the rows of segments that are gone, and what nobody asked for in a long time; not too much at once.
    pub fn prune(&mut self, used: &[(u64, u64)], gone: &[(Scope, u64)]) {
        self.write(|transaction| {
            let (now, unused) = (now(), now() - UNUSED.as_secs() as i64);
            for (place, cluster) in used {
                transaction.prepare_cached("insert or replace into used values (?1, ?2, ?3)")?.execute(params![
                    *place as i64,
                    *cluster as i64,
                    now
                ])?;
            }
            for (scope, number) in gone.iter().take(FORGOTTEN as usize) {
                for table in ["segment", "fate"] {
                    transaction
                        .prepare_cached(&format!(
                            "delete from {table} where place = ?1 and cluster = ?2 and timeline = ?3 and number = ?4"
                        ))?
                        .execute(params![scope.place as i64, scope.cluster as i64, scope.timeline, *number as i64])?;
                }
            }
            transaction.execute("delete from overview where used < ?1", [unused])?;
            let forgotten: Option<(i64, i64)> = transaction
                .query_row("select place, cluster from used where used < ?1 limit 1", [unused], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            let Some((place, cluster)) = forgotten else { return Ok(()) };
            let rows = transaction.execute(
                "delete from segment where (place, cluster, timeline, number) in (
                     select place, cluster, timeline, number from segment where place = ?1 and cluster = ?2 limit ?3)",
                params![place, cluster, FORGOTTEN],
            )?;
            if rows < FORGOTTEN as usize {
                transaction.execute("delete from fate where place = ?1 and cluster = ?2", [place, cluster])?;
                transaction.execute("delete from used where place = ?1 and cluster = ?2", [place, cluster])?;
            }
            Ok(())
        });
    }

    /// Reads from the disk; what fails there is as if it was not there.
    fn on_disk(&mut self, read: impl FnOnce(&Connection) -> rusqlite::Result<()>) {
        let Some(disk) = &self.disk else { return };
        if let Err(error) = read(&disk.connection) {
            self.failed(&error);
        }
    }

    /// Writes to the disk, all or nothing; `false` where nothing was written.
    fn write(&mut self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>) -> bool {
        let Some(disk) = self.disk.as_mut().filter(|disk| !disk.read_only) else { return false };
        match transact(&mut disk.connection, work) {
            Ok(()) => {
                disk.refused = 0;
                true
            }
            Err(error) => {
                self.failed(&error);
                false
            }
        }
    }

    fn in_memory(&mut self, work: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>) {
        if let Some(memory) = &mut self.memory {
            let _ = transact(memory, work);
        }
    }

    fn failed(&mut self, error: &rusqlite::Error) {
        let Some(disk) = &mut self.disk else { return };
        if is_busy(error) {
            disk.refused += 1;
            if disk.refused >= REFUSALS {
                disk.read_only = true;
                self.warnings.push(given_up(&disk.path, error));
            }
            return;
        }
        if is_damaged(error) && !disk.renewed {
            let path = disk.path.clone();
            self.warnings.push(renewed(&path, error));
            self.disk = None;
            remove(&path);
            if let Ok(connection) = connect(&path) {
                self.disk = Some(Disk { path, connection, refused: 0, renewed: true, read_only: false });
            }
            return;
        }
        self.warnings.push(given_up(&disk.path, error));
        self.disk = None;
    }
}

fn transact(
    connection: &mut Connection,
    work: impl Fn(&Transaction<'_>) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    work(&transaction)?;
    transaction.commit()
}

/// Makes a directory that only we may look into, and those above it; `false` where it cannot be had.
fn make_private(directory: &Path) -> bool {
    directory.is_dir() || DirBuilder::new().recursive(true).mode(0o700).create(directory).is_ok()
}

/// Opens the database, and makes it where it is not there. Where another Walback is just making it, that is waited for:
/// SQLite itself does not, when the journal's mode changes.
fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let started = Instant::now();
    loop {
        match connect_once(path) {
            Err(error) if is_busy(&error) && started.elapsed() < PATIENCE => std::thread::sleep(AGAIN),
            connected => return connected,
        }
    }
}

/// A link is never followed: whoever may write to the directory could have us write to any file, and we may be root.
fn connect_once(path: &Path) -> rusqlite::Result<Connection> {
    // Made by ourselves first, so that nobody else may read it: what SQLite puts beside it has the same rights.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut how = OpenOptions::new();
    match how.read(true).write(true).create(true).truncate(false).mode(0o600).custom_flags(flags).open(path) {
        Ok(made) if made.metadata().is_ok_and(|made| made.is_file()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => return Err(not_ours("it is a link")),
        Ok(_) => return Err(not_ours("it is no plain file")),
        Err(_) => return Err(failure(ffi::SQLITE_CANTOPEN, None)),
    }
    let mut connection =
        Connection::open_with_flags(without_links(path), OpenFlags::SQLITE_OPEN_READ_WRITE | NOFOLLOW)?;
    connection.busy_timeout(PATIENCE)?;
    let number = |connection: &Connection, of: &str| connection.query_row(of, [], |row| row.get::<_, u32>(0));
    let format = |connection: &Connection| number(connection, "pragma user_version");
    if number(&connection, OTHERS)? > 0 {
        return Err(not_ours("it holds the tables of another program"));
    }
    connection.execute_batch("pragma journal_mode = wal; pragma synchronous = normal; pragma mmap_size = 0;")?;
    if format(&connection)? == 0 {
        // Another Walback may be at it just now.
        transact(&mut connection, |transaction| {
            if format(transaction)? == 0 {
                transaction.execute_batch(SCHEMA)?;
                transaction.pragma_update(None, "user_version", FORMAT)?;
            }
            Ok(())
        })?;
    }
    match format(&connection)? {
        FORMAT => Ok(connection),
        other => Err(failure(ffi::SQLITE_NOTADB, Some(format!("its format is {other}, not {FORMAT}")))),
    }
}

/// The path with the links above the file resolved: those are the user's own doing.
fn without_links(path: &Path) -> PathBuf {
    let directory = path.parent().and_then(|directory| directory.canonicalize().ok());
    directory.zip(path.file_name()).map_or_else(|| path.to_owned(), |(directory, name)| directory.join(name))
}

fn failure(code: i32, what: Option<String>) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(ffi::Error::new(code), what)
}

/// Neither written to nor removed.
fn not_ours(what: &str) -> rusqlite::Error {
    failure(ffi::SQLITE_AUTH, Some(what.to_owned()))
}

/// Removes a database and what SQLite puts beside it. They are ours.
fn remove(path: &Path) {
    for ending in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(ending);
        let _ = fs::remove_file(PathBuf::from(name));
    }
}

/// Removes the databases of older formats, which no newer Walback reads.
fn remove_older(directory: &Path) {
    for format in 0..FORMAT {
        let path = directory.join(format!("{NAME}-{format}.db"));
        if path.exists() {
            remove(&path);
        }
    }
}

fn checksum(parts: &[&[u8]]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    digest.finalize() as u32
}

/// Seconds since 1970.
fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() as i64)
}

fn code(error: &rusqlite::Error) -> Option<ErrorCode> {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => Some(failure.code),
        _ => None,
    }
}

fn is_busy(error: &rusqlite::Error) -> bool {
    matches!(code(error), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Not a database, a damaged one, or one without our tables.
fn is_damaged(error: &rusqlite::Error) -> bool {
    match error {
        rusqlite::Error::SqliteFailure(failure, _) => {
            matches!(failure.code, ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        }
        rusqlite::Error::SqlInputError { .. } => true,
        _ => matches!(error, rusqlite::Error::InvalidColumnType(..) | rusqlite::Error::IntegralValueOutOfRange(..)),
    }
}

fn is_not_writable(error: &rusqlite::Error) -> bool {
    matches!(code(error), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied))
}

fn renewed(path: &Path, error: &rusqlite::Error) -> String {
    format!("the index is made anew: {} is damaged ({error})", path.display())
}

fn given_up(path: &Path, error: &rusqlite::Error) -> String {
    format!("what is read now is not kept for the next time: {} cannot be used ({error})", path.display())
}
