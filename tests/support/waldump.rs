//! `pg_waldump` of each major, what it says of WAL, and the same things as Walback says them.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chrono::NaiveDateTime;
use tempfile::TempDir;
use walback::core::{Lsn, Timestamp};
use walback::wal::{Body, Checkpoint, Outcome, ParameterChange, Record, RelFileLocator, RowChange, Rows};

use super::describe;
use super::server::{installed, skip};

/// `pg_waldump` of one major.
#[derive(Debug, Clone)]
pub struct Waldump {
    program: PathBuf,
    /// Whether it is 13's, to read WAL of 14.
    for_14: bool,
}

/// What `pg_waldump` says of one timeline.
#[derive(Debug)]
pub struct Dump {
    /// Its records, in order.
    pub records: Vec<Told>,
    /// The message with which it ended; empty where it ended without one.
    pub end: String,
}

/// What `pg_waldump` says of a record.
#[derive(Debug, Clone)]
pub struct Told {
    /// What can be held against Walback.
    pub said: Said,
    /// The record's bytes, without the headers of pages.
    pub bytes: u64,
    /// Where the record before starts.
    pub previous: Lsn,
}

/// What is said of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Said {
    /// Where it starts.
    pub lsn: Lsn,
    /// Whose it is; 0 for nobody's.
    pub xid: u32,
    /// `pg_waldump`'s name of its resource manager.
    pub rmgr: &'static str,
    /// What it is.
    pub what: What,
}

/// What a record is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// The end of a transaction.
    Ended(Ended),
    /// `PREPARE TRANSACTION`.
    Prepare { gid: String, at: Timestamp },
    /// A restore point. `pg_waldump` does not print its time.
    RestorePoint(String),
    /// A checkpoint. `pg_waldump` does not print its time.
    Checkpoint { shutdown: bool, redo: Lsn, timeline: u32, previous_timeline: u32, next_xid: u64 },
    /// The end of recovery.
    EndOfRecovery { timeline: u32, previous_timeline: u32, at: Timestamp },
    /// `PARAMETER_CHANGE`, with the words behind it.
    Parameters(String),
    /// The end of a base backup that started there.
    BackupEnd(Lsn),
    /// The removal of a database's files.
    DatabaseDrop(u32),
    /// Rows of a relation: what was done to them, whose they are, and how many.
    Rows(RowChange, RelFileLocator, u16),
    /// Another record of the resource managers XLOG or Transaction, by its name.
    Operation(&'static str),
    /// Another resource manager's.
    Other,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    pub committed: bool,
    pub prepared: bool,
    pub xid: u32,
    pub at: Timestamp,
    pub subxacts: Vec<u32>,
    /// Tablespace, database and relation of the files that were dropped.
    pub dropped: Vec<[u32; 3]>,
}

/// `pg_waldump`'s names of the resource managers, by number (`src/include/access/rmgrlist.h`).
const RMGRS: [&str; 22] = [
    "XLOG",
    "Transaction",
    "Storage",
    "CLOG",
    "Database",
    "Tablespace",
    "MultiXact",
    "RelMap",
    "Standby",
    "Heap2",
    "Heap",
    "Btree",
    "Hash",
    "Gin",
    "Gist",
    "Sequence",
    "SPGist",
    "BRIN",
    "CommitTs",
    "ReplicationOrigin",
    "Generic",
    "LogicalMessage",
];

/// The records of XLOG that Walback does not look into, by their info (`src/include/catalog/pg_control.h`).
const XLOG_OPERATIONS: [(u8, &str); 8] = [
    (0x20, "NOOP"),
    (0x30, "NEXTOID"),
    (0x40, "SWITCH"),
    (0x80, "FPW_CHANGE"),
    (0xA0, "FPI_FOR_HINT"),
    (0xB0, "FPI"),
    (0xD0, "OVERWRITE_CONTRECORD"),
    (0xE0, "CHECKPOINT_REDO"),
];

/// Those of Transaction (`src/include/access/xact.h`).
const TRANSACTION_OPERATIONS: [(u8, &str); 2] = [(0x50, "ASSIGNMENT"), (0x60, "INVALIDATION")];

const WAL_LEVELS: [&str; 3] = ["minimal", "replica", "logical"];

impl Waldump {
    /// The program of `major`, where it is there and can be run; else that is said on standard error.
    ///
    /// That of 14 is not to be had. 13's takes its place: what 14 writes below a `wal_level` of `logical` is laid out as in
    /// 13, but for the number that pages begin with.
    #[track_caller]
    pub fn available(major: u16) -> Option<Waldump> {
        if major == 14 {
            return Waldump::available(13).map(|waldump| Waldump { for_14: true, ..waldump });
        }
        let fetched = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("target/postgres/pg_waldump-{major}"));
        let program = installed(major, "pg_waldump", Some(fetched));
        if program.is_none() {
            assert!(major != 15, "pg_waldump of 15 is missing: it is in the package of the server");
            skip(&format!("there is no pg_waldump of PostgreSQL {major}; tests/run.sh fetches it"));
        }
        Some(Waldump { program: program?, for_14: false })
    }

    /// The records of one timeline whose segments lie in `directory`, from `start` to where it finds no more.
    #[track_caller]
    pub fn read(&self, directory: &Path, timeline: u32, start: Lsn) -> Dump {
        let as_13 = self.for_14.then(|| copy_as_13(directory, timeline));
        let directory = as_13.as_ref().map_or(directory, TempDir::path);
        let mut command = Command::new(&self.program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").arg("-p").arg(directory);
        command.args(["-t", &timeline.to_string(), "-s", &start.to_string()]);
        let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let end = String::from_utf8(output.stderr.clone()).unwrap().trim_end().to_owned();
        // WAL that ends is an error to it.
        let ordinary = ["error in WAL record at ", "could not find file "];
        assert!(
            end.lines().count() <= 1 && ordinary.iter().any(|words| end.contains(words)),
            "{}",
            describe(&command, &output)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        Dump { records: text.lines().map(Told::parse).collect(), end }
    }
}

/// A copy of a timeline's segments of 14 whose pages say that they are 13's. Checksums do not cover that.
fn copy_as_13(directory: &Path, timeline: u32) -> TempDir {
    const PAGE: usize = 8192;
    const MAGIC_OF_13: [u8; 2] = 0xD106u16.to_le_bytes();
    const MAGIC_OF_14: [u8; 2] = 0xD10Du16.to_le_bytes();
    let copy = TempDir::new().unwrap();
    for entry in fs::read_dir(directory).unwrap().map(|entry| entry.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.starts_with(&format!("{timeline:08X}")) && name.len() == 24 {
            let mut bytes = fs::read(entry.path()).unwrap();
            for page in bytes.chunks_mut(PAGE).filter(|page| page.starts_with(&MAGIC_OF_14)) {
                page[..2].copy_from_slice(&MAGIC_OF_13);
            }
            fs::write(copy.path().join(name), bytes).unwrap();
        }
    }
    copy
}

impl Told {
    /// Parses a line like `rmgr: Heap len (rec/tot): 54/ 54, tx: 733, lsn: 0/015, prev 0/014, desc: INSERT …`.
    ///
    /// Panics at whatever it does not know: it would be a record that is not compared.
    #[track_caller]
    pub fn parse(line: &str) -> Told {
        try_parse(line).unwrap_or_else(|| panic!("this line of pg_waldump is not understood: {line}"))
    }
}

fn try_parse(line: &str) -> Option<Told> {
    let (rmgr, rest) = line.strip_prefix("rmgr: ")?.split_once("len (rec/tot): ")?;
    let rmgr = *RMGRS.iter().find(|known| **known == rmgr.trim_end())?;
    let (lengths, rest) = rest.split_once(", tx: ")?;
    let (_, bytes) = lengths.split_once('/')?;
    let (xid, rest) = rest.split_once(", lsn: ")?;
    let (lsn, rest) = rest.split_once(", prev ")?;
    let (previous, desc) = rest.split_once(", desc: ")?;
    let (operation, rest) = desc.split_once(' ').unwrap_or((desc, ""));
    let xid = xid.trim().parse().ok()?;
    let what = match rmgr {
        "XLOG" => xlog(operation, rest)?,
        "Transaction" => transaction(operation, rest, xid)?,
        "Database" if operation == "DROP" => {
            What::DatabaseDrop(rest.strip_prefix("dir ")?.split(' ').next()?.split_once('/')?.1.parse().ok()?)
        }
        "Heap" | "Heap2" => rows(operation, rest)?,
        _ => What::Other,
    };
    let said = Said { lsn: lsn.parse().ok()?, xid, rmgr, what };
    Some(Told { said, bytes: bytes.trim().parse().ok()?, previous: previous.parse().ok()? })
}

/// Deletes that take back a row which was only tried, or move it to another partition, are told by their flags, which
/// not every version prints: the histories have none.
fn rows(operation: &str, rest: &str) -> Option<What> {
    let change = match operation.trim_end_matches("+INIT") {
        "INSERT" | "MULTI_INSERT" => RowChange::Insert,
        "UPDATE" | "HOT_UPDATE" => RowChange::Update,
        "DELETE" => RowChange::Delete,
        _ => return Some(What::Other),
    };
    let count = match operation.starts_with("MULTI_INSERT") {
        true => {
            // `5 tuples flags …` up to 15, `ntuples: 5, …` later.
            let count = rest.strip_prefix("ntuples: ").unwrap_or(rest);
            count.split([' ', ',']).next()?.parse().ok()?
        }
        false => 1,
    };
    let (_, block) = rest.split_once("blkref #0: rel ")?;
    let mut numbers = block.split([' ', '/', ',']).map(|number| number.parse().ok());
    let relation =
        RelFileLocator { tablespace: numbers.next()??, database: numbers.next()??, relation: numbers.next()?? };
    Some(What::Rows(change, relation, count))
}

fn xlog(operation: &str, rest: &str) -> Option<What> {
    Some(match operation {
        "CHECKPOINT_SHUTDOWN" | "CHECKPOINT_ONLINE" => checkpoint(operation == "CHECKPOINT_SHUTDOWN", rest)?,
        "END_OF_RECOVERY" => {
            let mut fields = rest.split("; ");
            What::EndOfRecovery {
                timeline: fields.next()?.strip_prefix("tli ")?.parse().ok()?,
                previous_timeline: fields.next()?.strip_prefix("prev tli ")?.parse().ok()?,
                at: time(fields.next()?.strip_prefix("time ")?)?,
            }
        }
        "RESTORE_POINT" => What::RestorePoint(rest.to_owned()),
        "BACKUP_END" => What::BackupEnd(rest.parse().ok()?),
        "PARAMETER_CHANGE" => What::Parameters(rest.to_owned()),
        _ => What::Operation(XLOG_OPERATIONS.iter().find(|(_, name)| *name == operation)?.1),
    })
}

fn checkpoint(shutdown: bool, rest: &str) -> Option<What> {
    let mut fields = rest.split("; ");
    let redo = fields.next()?.strip_prefix("redo ")?.parse().ok()?;
    let timeline = fields.next()?.strip_prefix("tli ")?.parse().ok()?;
    let previous_timeline = fields.next()?.strip_prefix("prev tli ")?.parse().ok()?;
    let next = fields.find_map(|field| field.strip_prefix("xid "))?;
    let (epoch, next) = next.split_once(':')?;
    let next_xid = epoch.parse::<u64>().ok()? << 32 | next.parse::<u64>().ok()?;
    (rest.ends_with("; shutdown") == shutdown).then_some(())?;
    Some(What::Checkpoint { shutdown, redo, timeline, previous_timeline, next_xid })
}

fn transaction(operation: &str, rest: &str, xid: u32) -> Option<What> {
    Some(match operation {
        "COMMIT" => What::Ended(ended(true, None, rest, xid)?),
        "ABORT" => What::Ended(ended(false, None, rest, xid)?),
        "COMMIT_PREPARED" => What::Ended(ended(true, Some(()), rest, xid)?),
        "ABORT_PREPARED" => What::Ended(ended(false, Some(()), rest, xid)?),
        "PREPARE" => prepare(rest.strip_prefix("gid ")?)?,
        _ => What::Operation(TRANSACTION_OPERATIONS.iter().find(|(_, name)| *name == operation)?.1),
    })
}

fn ended(committed: bool, prepared: Option<()>, rest: &str, record_xid: u32) -> Option<Ended> {
    let (xid, rest) = match prepared {
        None => (record_xid, rest),
        Some(()) => {
            let (xid, rest) = rest.split_once(": ")?;
            (xid.parse().ok()?, rest)
        }
    };
    let mut parts = rest.split("; ");
    let at = time(parts.next()?)?;
    let mut ended =
        Ended { committed, prepared: prepared.is_some(), xid, at, subxacts: Vec::new(), dropped: Vec::new() };
    for part in parts {
        if let Some(paths) = part.strip_prefix("rels: ") {
            ended.dropped = paths.split(' ').map(relation).collect::<Option<_>>()?;
        } else if let Some(xids) = part.strip_prefix("subxacts: ") {
            ended.subxacts = xids.split(' ').map(|xid| xid.parse().ok()).collect::<Option<_>>()?;
        } else {
            is_beside_the_point(part).then_some(())?;
        }
    }
    Some(ended)
}

/// Parts of the end or the preparation of a transaction that Walback does not tell.
fn is_beside_the_point(part: &str) -> bool {
    const PARTS: [&str; 9] = [
        "rels(commit): ",
        "rels(abort): ",
        "subxacts: ",
        "dropped stats: ",
        "commit dropped stats: ",
        "abort dropped stats: ",
        "inval msgs: ",
        "relcache init file inval ",
        "origin: ",
    ];
    part == "sync" || PARTS.iter().any(|known| part.starts_with(known))
}

/// The name may have anything in it, also what looks like a time: the last one that the rest goes on behind is it.
fn prepare(rest: &str) -> Option<What> {
    let ends = rest.match_indices(": ").filter_map(|(end, _)| {
        let mut parts = rest.get(end + 2..)?.split("; ");
        let at = time(parts.next()?)?;
        parts.all(is_beside_the_point).then(|| What::Prepare { gid: rest[..end].to_owned(), at })
    });
    ends.last()
}

/// The path of a relation's files, as the server builds it (`GetRelationPath`, `src/common/relpath.c`).
fn relation(path: &str) -> Option<[u32; 3]> {
    let parts: Vec<&str> = path.split('/').collect();
    Some(match parts[..] {
        ["base", database, relation] => [1663, database.parse().ok()?, relation.parse().ok()?],
        ["global", relation] => [1664, 0, relation.parse().ok()?],
        ["pg_tblspc", space, _, database, relation] => {
            [space.parse().ok()?, database.parse().ok()?, relation.parse().ok()?]
        }
        _ => return None,
    })
}

fn time(text: &str) -> Option<Timestamp> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S.%6f UTC").ok()?;
    Timestamp::from_chrono(&time.and_utc())
}

/// What Walback says of a record.
#[track_caller]
pub fn said_by_walback(record: &Record) -> Said {
    let rmgr = RMGRS[usize::from(record.rmgr)];
    Said { lsn: record.lsn, xid: record.xid.map_or(0, |xid| xid.0), rmgr, what: what(record) }
}

fn what(record: &Record) -> What {
    let operation = |known: &[(u8, &'static str)], mask| {
        known.iter().find(|(info, _)| *info == record.info & mask).map(|(_, name)| What::Operation(name))
    };
    match &record.body {
        Body::Commit(outcome) => What::Ended(as_ended(true, outcome)),
        Body::Abort(outcome) => What::Ended(as_ended(false, outcome)),
        Body::Prepare { xid, gid, at } => {
            assert_eq!(Some(*xid), record.xid, "{record:?}");
            What::Prepare { gid: gid.clone(), at: *at }
        }
        Body::RestorePoint { name, .. } => What::RestorePoint(name.clone()),
        Body::Checkpoint(Checkpoint { redo, timeline, previous_timeline, next_xid, shutdown, .. }) => {
            What::Checkpoint {
                shutdown: *shutdown,
                redo: *redo,
                timeline: timeline.0,
                previous_timeline: previous_timeline.0,
                next_xid: *next_xid,
            }
        }
        Body::BackupEnd { start } => What::BackupEnd(*start),
        Body::EndOfRecovery { timeline, previous_timeline, at } => {
            What::EndOfRecovery { timeline: timeline.0, previous_timeline: previous_timeline.0, at: *at }
        }
        Body::ParameterChange(parameters) => What::Parameters(words(parameters)),
        Body::DatabaseDrop { database } => What::DatabaseDrop(*database),
        Body::Rows(Rows { relation, change, rows }) => What::Rows(*change, *relation, *rows),
        Body::Switch => What::Operation("SWITCH"),
        // What these say is left to others: here it only counts that they are there.
        _ => match record.rmgr {
            0 => operation(&XLOG_OPERATIONS, 0xF0).unwrap_or_else(|| panic!("{record:?}")),
            1 => operation(&TRANSACTION_OPERATIONS, 0x70).unwrap_or_else(|| panic!("{record:?}")),
            _ => What::Other,
        },
    }
}

fn as_ended(committed: bool, outcome: &Outcome) -> Ended {
    Ended {
        committed,
        prepared: outcome.prepared,
        xid: outcome.xid.0,
        at: outcome.at,
        subxacts: outcome.subxacts.iter().map(|xid| xid.0).collect(),
        dropped: outcome.dropped.iter().map(|files| [files.tablespace, files.database, files.relation]).collect(),
    }
}

/// As `xlog_desc` has it (`src/backend/access/rmgrdesc/xlogdesc.c`).
fn words(parameters: &ParameterChange) -> String {
    let on = |is: bool| if is { "on" } else { "off" };
    format!(
        "max_connections={} max_worker_processes={} max_wal_senders={} max_prepared_xacts={} max_locks_per_xact={} \
         wal_level={} wal_log_hints={} track_commit_timestamp={}",
        parameters.max_connections,
        parameters.max_worker_processes,
        parameters.max_wal_senders,
        parameters.max_prepared_transactions,
        parameters.max_locks_per_transaction,
        WAL_LEVELS[usize::try_from(parameters.wal_level).unwrap()],
        on(parameters.wal_log_hints),
        on(parameters.track_commit_timestamp)
    )
}

/// Panics where Walback read something else than `pg_waldump` did, and shows the place.
#[track_caller]
pub fn assert_same<T: PartialEq + std::fmt::Debug>(of: &str, told: &[T], read: &[T]) {
    let differs = told.iter().zip(read).position(|(told, read)| told != read);
    let shorter = told.len().min(read.len());
    let Some(first) = differs.or((told.len() != read.len()).then_some(shorter)) else { return };
    let around = |all: &[T]| {
        let shown = all.iter().enumerate().skip(first.saturating_sub(2)).take(5);
        let lines = shown.map(|(i, one)| format!("{} {i}: {one:?}\n", if i == first { ">" } else { " " }));
        lines.collect::<String>()
    };
    let distinct = |all: &[T]| all.iter().map(|one| format!("{one:?}")).collect::<HashSet<String>>();
    let (told_once, read_once) = (distinct(told), distinct(read));
    let missing = told_once.difference(&read_once).count();
    let invented = read_once.difference(&told_once).count();
    panic!(
        "{of}: they differ at {first}; of {} that pg_waldump has {missing} are missing, of {} that Walback has \
         {invented} are invented\npg_waldump:\n{}Walback:\n{}",
        told.len(),
        read.len(),
        around(told),
        around(read)
    );
}
