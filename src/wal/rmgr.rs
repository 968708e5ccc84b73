//! What records say: the main data of those that Walback wants to know, by their resource manager.

use serde::{Deserialize, Serialize};

use super::cursor::Cursor;
use super::layout::Layout;
use super::record::{Fragments, Header};
use crate::core::{Lsn, TimelineId, Timestamp, Xid};

/// Resource managers (`src/include/access/rmgrlist.h`), numbered alike in 13 to 18.
const XLOG: u8 = 0;
const XACT: u8 = 1;
const STORAGE: u8 = 2;
const DATABASE: u8 = 4;
const TABLESPACE: u8 = 5;
const STANDBY: u8 = 8;
const HEAP2: u8 = 9;
const HEAP: u8 = 10;
const SEQUENCE: u8 = 15;
const BRIN: u8 = 17;
const GENERIC: u8 = 20;
/// The last that the server itself has: logical messages.
pub(super) const LAST_BUILTIN: u8 = 21;
/// The first number that extensions may have (`RM_MIN_CUSTOM_ID`).
pub(super) const FIRST_CUSTOM: u8 = 128;

/// What the record manager keeps to itself; the other four bits are the resource manager's (`XLR_INFO_MASK`,
/// `src/include/access/xlogrecord.h`).
const OPERATION: u8 = 0xF0;

/// Records about WAL itself (`src/include/catalog/pg_control.h`).
mod xlog {
    pub(super) const CHECKPOINT_SHUTDOWN: u8 = 0x00;
    pub(super) const CHECKPOINT_ONLINE: u8 = 0x10;
    pub(super) const SWITCH: u8 = 0x40;
    pub(super) const BACKUP_END: u8 = 0x50;
    pub(super) const PARAMETER_CHANGE: u8 = 0x60;
    pub(super) const RESTORE_POINT: u8 = 0x70;
    pub(super) const END_OF_RECOVERY: u8 = 0x90;
    pub(super) const PAGE_IMAGE: u8 = 0xB0;
    pub(super) const OVERWRITE_CONTRECORD: u8 = 0xD0;
    pub(super) const OVERWRITE_CONTRECORD_BYTES: usize = 16;
    pub(super) const CHECKPOINT_BYTES: usize = 88;
    pub(super) const PARAMETER_CHANGE_BYTES: usize = 28;
    pub(super) const RESTORE_POINT_BYTES: usize = 72;
}

/// Records about transactions (`src/include/access/xact.h`).
mod xact {
    pub(super) const OPERATION: u8 = 0x70;
    pub(super) const COMMIT: u8 = 0x00;
    pub(super) const PREPARE: u8 = 0x10;
    pub(super) const ABORT: u8 = 0x20;
    pub(super) const COMMIT_PREPARED: u8 = 0x30;
    pub(super) const ABORT_PREPARED: u8 = 0x40;
    /// Flag: an information word follows the time.
    pub(super) const HAS_INFO: u8 = 0x80;
    /// The longest name of a prepared transaction (`GIDSIZE`, with its closing zero).
    pub(super) const GID_BYTES: usize = 200;

    /// Bits of the information word, in the order in which what they announce follows.
    pub(super) const HAS_DATABASE: u32 = 0x0001;
    pub(super) const HAS_SUBXACTS: u32 = 0x0002;
    pub(super) const HAS_DROPPED_FILES: u32 = 0x0004;
    pub(super) const HAS_DROPPED_STATS: u32 = 0x0100;
    pub(super) const HAS_INVALIDATIONS: u32 = 0x0008;
    pub(super) const HAS_TWO_PHASE: u32 = 0x0010;
    /// It took locks that shut out even readers.
    pub(super) const HAS_LOCKS: u32 = 0x0040;
    pub(super) const HAS_GID: u32 = 0x0080;
    pub(super) const HAS_ORIGIN: u32 = 0x0020;
    /// What a dropped statistics entry is about: a relation (`PGSTAT_KIND_RELATION`, `src/include/pgstat.h`).
    pub(super) const STATS_OF_RELATION: i32 = 2;
    /// An invalidation message (`SharedInvalidationMessage`, `src/include/storage/sinval.h`).
    pub(super) const INVALIDATION_BYTES: usize = 16;
}

/// Records about rows (`src/include/access/heapam_xlog.h`).
mod heap {
    pub(super) const OPERATION: u8 = 0x70;
    pub(super) const INSERT: u8 = 0x00;
    pub(super) const DELETE: u8 = 0x10;
    pub(super) const UPDATE: u8 = 0x20;
    pub(super) const TRUNCATE: u8 = 0x30;
    pub(super) const HOT_UPDATE: u8 = 0x40;
    pub(super) const INPLACE: u8 = 0x70;
    pub(super) const DELETE_BYTES: usize = 8;
    /// A delete's flag: the row is none yet, an `INSERT … ON CONFLICT` takes it back.
    pub(super) const DELETES_SPECULATIVE: u8 = 0x08;
    /// A delete's flag: the row goes to another partition.
    pub(super) const DELETES_MOVED: u8 = 0x10;
    /// Of the resource manager `Heap2`.
    pub(super) const MULTI_INSERT: u8 = 0x50;
    pub(super) const MULTI_INSERT_BYTES: usize = 4;
}

/// Records about relations' files (`src/include/catalog/storage_xlog.h`).
mod storage {
    pub(super) const CREATE: u8 = 0x10;
    pub(super) const TRUNCATE: u8 = 0x20;
    pub(super) const BYTES: usize = 20;
    pub(super) const MAIN_FORK: i32 = 0;
    pub(super) const INIT_FORK: i32 = 3;
}

/// Records about tablespaces (`src/include/commands/tablespace.h`).
mod tablespace {
    pub(super) const CREATE: u8 = 0x00;
    /// The OID, and the longest path of a server (`MAXPGPATH`) with its closing zero.
    pub(super) const CREATE_BYTES: usize = 4 + 1024;
}

/// Records that give a relation its first page, beside whole pages (`src/include/access/brin_xlog.h`,
/// `src/include/commands/sequence.h`).
mod first_page {
    pub(super) const BRIN_CREATE_INDEX: u8 = 0x00;
    pub(super) const BRIN_OPERATION: u8 = 0x70;
    pub(super) const SEQUENCE_LOG: u8 = 0x00;
}

/// Records for those who read along (`src/include/storage/standbydefs.h`).
mod standby {
    pub(super) const LOCKS: u8 = 0x00;
    pub(super) const RUNNING_TRANSACTIONS: u8 = 0x10;
    pub(super) const LOCK_BYTES: usize = 12;
    /// So many locks of one record are looked at: few have more than some.
    pub(super) const LOCKS_BYTES: usize = 4 + 1024 * LOCK_BYTES;
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A transaction committed, or a prepared one was committed.
    Commit(Outcome),
    /// A transaction rolled back, or a prepared one was rolled back.
    Abort(Outcome),
    /// A transaction was prepared. Recovery never stops at one.
    Prepare {
        /// The transaction.
        xid: Xid,
        /// Its global identifier; bytes that are no UTF-8 are replaced.
        gid: String,
        /// When it was prepared.
        at: Timestamp,
    },
    /// `pg_create_restore_point`.
    RestorePoint {
        /// As it was given, at most 63 bytes; bytes that are no UTF-8 are replaced.
        name: String,
        /// When it was made.
        at: Timestamp,
    },
    /// A checkpoint, online or at shutdown.
    Checkpoint(Checkpoint),
    /// A base backup that was taken from a primary ended here.
    BackupEnd {
        /// Where it had started: the START WAL LOCATION of its label.
        start: Lsn,
    },
    /// Recovery ended here and a timeline began, without a checkpoint.
    EndOfRecovery {
        /// The one that began.
        timeline: TimelineId,
        /// The one that it continues.
        previous_timeline: TimelineId,
        /// When.
        at: Timestamp,
    },
    /// Settings that a server in recovery has to match.
    ParameterChange(ParameterChange),
    /// The rest of the segment is unused.
    Switch,
    /// A database's files were removed.
    DatabaseDrop {
        /// Its OID.
        database: u32,
    },
    /// `CREATE TABLESPACE`. Who replays it makes the tablespace at the same place, and that at once: it belongs to no
    /// transaction's end.
    TablespaceCreate {
        /// Its OID.
        tablespace: u32,
        /// Where it is on the original server; bytes that are no UTF-8 are replaced.
        location: String,
    },
    /// A record of an extension's own resource manager (from PostgreSQL 15 on): only a server that has loaded the
    /// extension can replay it.
    Extension {
        /// The resource manager's number.
        rmgr: u8,
    },
    /// The record's transaction changed rows of a relation.
    Rows(Rows),
    /// `TRUNCATE`, for those who decode WAL: only written with `wal_level = logical`.
    RelationTruncate {
        /// The database's OID.
        database: u32,
        /// The relations' OIDs.
        relations: Vec<u32>,
    },
    /// A relation's main file was made: of a new relation, or new contents for one.
    FileCreate(RelFileLocator),
    /// The file was made that an unlogged relation is reset to after a crash or a recovery: a new unlogged relation, or
    /// new contents for one.
    InitFileCreate(RelFileLocator),
    /// A relation's files were cut off, mostly by `VACUUM`, behind its last used page.
    FileTruncate {
        /// Whose.
        relation: RelFileLocator,
        /// Pages of 8192 bytes that are left of the main file.
        pages: u32,
    },
    /// Whole new pages of a relation, as building an index or `VACUUM FULL` writes them; also what gives a BRIN index
    /// or a sequence its first page, and what indexes of extensions write.
    PageImages {
        /// Whose.
        relation: RelFileLocator,
        /// How many pages.
        pages: u32,
    },
    /// A row was overwritten where it stands; that belongs to no transaction. `DROP DATABASE` marks its database so.
    HeapInplace(RelFileLocator),
    /// Locks that shut out even readers (`AccessExclusiveLock`), held until their transaction ends.
    Locks(Vec<Lock>),
    /// The transactions that run: written now and then.
    RunningTransactions(RunningTransactions),
    /// A server that crashed had begun a record and never completed it: this one says so.
    OverwriteContrecord {
        /// Where the incomplete record starts.
        aborted: Lsn,
        /// When this was written.
        at: Timestamp,
    },
    /// Anything else.
    Other,
}

/// How a transaction ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// When, by the server's clock, read before the record was written: not always ascending in WAL.
    pub at: Timestamp,
    /// The transaction that ended. For a prepared one that is not the record's own, which has none.
    pub xid: Xid,
    /// It had been prepared (`COMMIT PREPARED`, `ROLLBACK PREPARED`).
    pub prepared: bool,
    /// Its subtransactions that ended with it.
    pub subxacts: Vec<Xid>,
    /// The relations' files that this removed, by their main fork.
    pub dropped: Vec<RelFileLocator>,
    /// The OIDs of the relations whose statistics this removed: those that were dropped, temporary ones too. Empty
    /// before PostgreSQL 15, which did not write them down.
    pub dropped_statistics: Vec<u32>,
    /// It took locks that shut out even readers: a server in recovery gives them back here
    /// (`XACT_XINFO_HAS_AE_LOCKS`, `src/include/access/xact.h`).
    pub locks: bool,
    /// Where the transaction came from, where it was replicated.
    pub origin: Option<Origin>,
}

/// Where a replicated transaction came from (`xl_xact_origin`, `src/include/access/xact.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Origin {
    /// The replication origin's number (`pg_replication_origin.roident`); 0 where the record does not say.
    pub id: u16,
    /// Where it ended at its origin.
    pub lsn: Lsn,
    /// When it ended at its origin.
    pub at: Timestamp,
}

/// Rows of one relation that one record changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// Whose.
    pub relation: RelFileLocator,
    /// What happened to them.
    pub change: RowChange,
    /// How many: one, but for inserts of many at once.
    pub rows: u16,
}

/// What a record did to rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RowChange {
    /// They were inserted.
    #[default]
    Insert,
    /// They were updated, or moved to another partition.
    Update,
    /// They were deleted.
    Delete,
}

/// A lock that shuts out even readers (`xl_standby_lock`, `src/include/storage/lockdefs.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lock {
    /// Who holds it.
    pub xid: Xid,
    /// The database's OID.
    pub database: u32,
    /// The relation's OID.
    pub relation: u32,
}

/// The transactions that run (`xl_running_xacts`, `src/include/storage/standbydefs.h`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningTransactions {
    /// Transactions that run.
    pub transactions: u32,
    /// Their subtransactions, as far as they are listed.
    pub subtransactions: u32,
    /// Not all subtransactions are listed: until another such record that is complete, a server that starts its
    /// recovery here does not let anybody look.
    pub overflowed: bool,
    /// The next transaction id to be given out.
    pub next_xid: Xid,
    /// All before this one have ended.
    pub oldest_running: Xid,
    /// Those that run, and then their subtransactions, as far as they are listed.
    pub xids: Vec<Xid>,
}

impl RunningTransactions {
    /// Whether nothing is missing in it.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        !self.overflowed || self.transactions == 0
    }
}

/// The files of one relation (`RelFileLocator`, `src/include/storage/relfilelocator.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RelFileLocator {
    /// The tablespace's OID; 1663 is `pg_default`, 1664 `pg_global`.
    pub tablespace: u32,
    /// The database's OID; 0 for relations that all databases share.
    pub database: u32,
    /// The name of its files. Often, but not always, the relation's OID.
    pub relation: u32,
}

/// A checkpoint record (`CheckPoint`, `src/include/catalog/pg_control.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Checkpoint {
    /// Where replay has to start to recover from it.
    pub redo: Lsn,
    /// The timeline that it was made on.
    pub timeline: TimelineId,
    /// The same, except in the first record of a timeline: the one that it continues.
    pub previous_timeline: TimelineId,
    /// The next transaction id to be given out, with its epoch in the upper 32 bits.
    pub next_xid: u64,
    /// When, to the second.
    pub at: Timestamp,
    /// The server was shut down here, or its recovery ended here.
    pub shutdown: bool,
}

/// Settings that a server in recovery has to match (`xl_parameter_change`, `src/include/access/xlog_internal.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ParameterChange {
    /// `max_connections`
    pub max_connections: i32,
    /// `max_worker_processes`
    pub max_worker_processes: i32,
    /// `max_wal_senders`
    pub max_wal_senders: i32,
    /// `max_prepared_transactions`
    pub max_prepared_transactions: i32,
    /// `max_locks_per_transaction`
    pub max_locks_per_transaction: i32,
    /// `wal_level`: 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    /// `wal_log_hints`
    pub wal_log_hints: bool,
    /// `track_commit_timestamp`
    pub track_commit_timestamp: bool,
}

impl ParameterChange {
    /// The `wal_level` with which WAL does not have everything that recovery needs.
    pub const MINIMAL: i32 = 0;
}

/// How many bytes of a record's main data [`Body::read`] looks at, at most; 0 where its block references are enough,
/// and `None` where the header says everything.
pub(super) fn wanted_bytes(layout: &Layout, header: &Header) -> Option<usize> {
    let operation = header.info & OPERATION;
    match header.rmgr {
        XLOG => match operation {
            xlog::CHECKPOINT_SHUTDOWN | xlog::CHECKPOINT_ONLINE => Some(xlog::CHECKPOINT_BYTES),
            xlog::BACKUP_END => Some(size_of::<u64>()),
            xlog::PARAMETER_CHANGE => Some(xlog::PARAMETER_CHANGE_BYTES),
            xlog::RESTORE_POINT => Some(xlog::RESTORE_POINT_BYTES),
            xlog::END_OF_RECOVERY => Some(layout.end_of_recovery_bytes),
            xlog::OVERWRITE_CONTRECORD => Some(xlog::OVERWRITE_CONTRECORD_BYTES),
            xlog::PAGE_IMAGE => Some(0),
            _ => None,
        },
        XACT => match header.info & xact::OPERATION {
            xact::COMMIT | xact::ABORT | xact::COMMIT_PREPARED | xact::ABORT_PREPARED => Some(usize::MAX),
            xact::PREPARE => Some(layout.prepare_bytes + xact::GID_BYTES),
            _ => None,
        },
        HEAP => match header.info & heap::OPERATION {
            heap::DELETE => Some(heap::DELETE_BYTES),
            heap::TRUNCATE => Some(usize::MAX),
            heap::INSERT | heap::UPDATE | heap::HOT_UPDATE | heap::INPLACE => Some(0),
            _ => None,
        },
        HEAP2 if header.info & heap::OPERATION == heap::MULTI_INSERT => Some(heap::MULTI_INSERT_BYTES),
        SEQUENCE | BRIN | GENERIC if writes_pages(header) => Some(0),
        STORAGE if matches!(operation, storage::CREATE | storage::TRUNCATE) => Some(storage::BYTES),
        STANDBY if operation == standby::LOCKS => Some(standby::LOCKS_BYTES),
        STANDBY if operation == standby::RUNNING_TRANSACTIONS => Some(usize::MAX),
        DATABASE if operation == layout.database_drop => Some(size_of::<u32>()),
        TABLESPACE if operation == tablespace::CREATE => Some(tablespace::CREATE_BYTES),
        _ => None,
    }
}

/// What most records are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Common {
    /// They say nothing that Walback wants to know.
    Nothing,
    /// They changed one row so: only its relation is wanted of them.
    Row(RowChange),
    /// They are about rows in another way: only [`read_rows`] is wanted of them.
    Rows,
    /// A commit of which only the time is to be read.
    PlainCommit,
    /// Anything else.
    No,
}

/// What records are by their resource manager and the upper half of their information byte: looked up, because they
/// change so often that the processor would guess wrongly where to go on.
static COMMON: [[Common; 16]; 256] = {
    // What extensions have is seldom, and has to be noticed.
    let mut table = [[Common::No; 16]; 256];
    let mut rmgr = 0;
    while rmgr <= LAST_BUILTIN {
        let mut half = 0;
        while half < 16 {
            table[rmgr as usize][half as usize] = Common::by_definition(rmgr, half << 4);
            half += 1;
        }
        rmgr += 1;
    }
    table
};

impl Common {
    #[inline(always)]
    pub(super) fn of(header: &Header) -> Common {
        COMMON[usize::from(header.rmgr)][usize::from(header.info >> 4)]
    }

    /// The same, of the third word of a record's header: the information byte, then the resource manager's.
    #[inline(always)]
    pub(super) fn of_word(word: u64) -> Common {
        COMMON[(word >> 8) as usize & 0xFF][(word >> 4) as usize & 0xF]
    }

    const fn by_definition(rmgr: u8, info: u8) -> Common {
        match (rmgr, info & heap::OPERATION) {
            (HEAP, heap::INSERT) => Common::Row(RowChange::Insert),
            (HEAP, heap::UPDATE | heap::HOT_UPDATE) => Common::Row(RowChange::Update),
            (HEAP, heap::DELETE) => Common::Row(RowChange::Delete),
            (HEAP2, heap::MULTI_INSERT) => Common::Rows,
            (XACT, xact::COMMIT) if info & xact::HAS_INFO == 0 => Common::PlainCommit,
            (HEAP, heap::TRUNCATE | heap::INPLACE) => Common::No,
            (XLOG | XACT | STORAGE | DATABASE | TABLESPACE | STANDBY | SEQUENCE | BRIN | GENERIC, _) => Common::No,
            _ => Common::Nothing,
        }
    }
}

impl Body {
    /// From what a record's fragments say, and its main data or the first [`wanted_bytes`] of it. `None` where that is
    /// too short for what it is.
    pub(super) fn read(layout: &Layout, header: &Header, fragments: &Fragments, main: &[u8]) -> Option<Body> {
        let main = Cursor(main);
        let operation = header.info & OPERATION;
        match header.rmgr {
            XLOG if operation == xlog::PAGE_IMAGE => Some(read_page_images(fragments).unwrap_or(Body::Other)),
            XLOG => read_xlog(layout, operation, main),
            XACT => read_xact(layout, header, fragments, main),
            // No server looks at these before it applies them, so that they never end WAL.
            HEAP => Some(read_heap(header, fragments, main).unwrap_or(Body::Other)),
            HEAP2 if header.info & heap::OPERATION == heap::MULTI_INSERT => {
                Some(read_rows(header, fragments, main.0).map_or(Body::Other, Body::Rows))
            }
            SEQUENCE | BRIN | GENERIC if writes_pages(header) => {
                Some(read_page_images(fragments).unwrap_or(Body::Other))
            }
            STORAGE => Some(read_storage(operation, main).unwrap_or(Body::Other)),
            STANDBY => Some(read_standby(operation, main).unwrap_or(Body::Other)),
            DATABASE if operation == layout.database_drop => read_database_drop(main),
            TABLESPACE if operation == tablespace::CREATE => Some(read_tablespace_create(main).unwrap_or(Body::Other)),
            rmgr if rmgr >= FIRST_CUSTOM => Some(Body::Extension { rmgr }),
            _ => Some(Body::Other),
        }
    }
}

/// Whether a record of these resource managers writes pages as building a relation does.
fn writes_pages(header: &Header) -> bool {
    match header.rmgr {
        SEQUENCE => header.info & OPERATION == first_page::SEQUENCE_LOG,
        BRIN => header.info & first_page::BRIN_OPERATION == first_page::BRIN_CREATE_INDEX,
        rmgr => rmgr == GENERIC,
    }
}

fn read_page_images(fragments: &Fragments) -> Option<Body> {
    Some(Body::PageImages { relation: fragments.relation?, pages: fragments.blocks.into() })
}

fn read_heap(header: &Header, fragments: &Fragments, mut main: Cursor<'_>) -> Option<Body> {
    match header.info & heap::OPERATION {
        heap::TRUNCATE => {
            let (database, count, _flags_padded) = (main.u32()?, main.u32()?, main.u32()?);
            let (oids, _) = main.bytes(usize::try_from(count).ok()?.checked_mul(4)?)?.as_chunks();
            Some(Body::RelationTruncate {
                database,
                relations: oids.iter().map(|oid| u32::from_le_bytes(*oid)).collect(),
            })
        }
        heap::INPLACE => Some(Body::HeapInplace(fragments.relation?)),
        _ => read_rows(header, fragments, main.0).map(Body::Rows),
    }
}

/// The rows that a record is about, if any. No server looks at these before it applies them, so that they never end
/// WAL.
#[inline(always)]
pub(super) fn read_rows(header: &Header, fragments: &Fragments, main: &[u8]) -> Option<Rows> {
    let relation = fragments.relation?;
    let one = |change| Some(Rows { relation, change, rows: 1 });
    match (header.rmgr, header.info & heap::OPERATION) {
        (HEAP, heap::INSERT) => one(RowChange::Insert),
        (HEAP, heap::UPDATE | heap::HOT_UPDATE) => one(RowChange::Update),
        (HEAP, heap::DELETE) => match *main.get(heap::DELETE_BYTES - 1)? {
            flags if flags & heap::DELETES_SPECULATIVE != 0 => None,
            flags if flags & heap::DELETES_MOVED != 0 => one(RowChange::Update),
            _ => one(RowChange::Delete),
        },
        (HEAP2, heap::MULTI_INSERT) => {
            let (_flags_padded, rows) = main.first_chunk::<{ heap::MULTI_INSERT_BYTES }>()?.split_at(2);
            Some(Rows { relation, change: RowChange::Insert, rows: Cursor(rows).u16()? })
        }
        _ => None,
    }
}

/// Whether a delete with these flags deletes a row that there was, and for good: the last byte of the first
/// [`DELETE_BYTES`].
#[inline(always)]
pub(super) fn is_plain_delete(flags: u8) -> bool {
    flags & (heap::DELETES_SPECULATIVE | heap::DELETES_MOVED) == 0
}

/// The main data of a delete that says anything (`SizeOfHeapDelete`).
pub(super) const DELETE_BYTES: usize = heap::DELETE_BYTES;

/// Whose row a record is about that changed one so, and what really happened to it. `None` where there was none.
#[inline(always)]
pub(super) fn read_row(change: RowChange, fragments: &Fragments, main: &[u8]) -> Option<(RelFileLocator, RowChange)> {
    let relation = fragments.relation?;
    if change != RowChange::Delete {
        return Some((relation, change));
    }
    match *main.get(heap::DELETE_BYTES - 1)? {
        flags if flags & heap::DELETES_SPECULATIVE != 0 => None,
        flags if flags & heap::DELETES_MOVED != 0 => Some((relation, RowChange::Update)),
        _ => Some((relation, RowChange::Delete)),
    }
}

/// When a transaction ended, of which no more is said.
#[inline(always)]
pub(super) fn read_plain_time(main: &[u8]) -> Option<Timestamp> {
    Cursor(main).timestamp()
}

fn read_storage(operation: u8, mut main: Cursor<'_>) -> Option<Body> {
    Some(match operation {
        storage::CREATE => {
            let relation = RelFileLocator::read(&mut main)?;
            match main.i32()? {
                storage::MAIN_FORK => Body::FileCreate(relation),
                storage::INIT_FORK => Body::InitFileCreate(relation),
                _ => Body::Other,
            }
        }
        storage::TRUNCATE => {
            let pages = main.u32()?;
            Body::FileTruncate { relation: RelFileLocator::read(&mut main)?, pages }
        }
        _ => Body::Other,
    })
}

fn read_standby(operation: u8, mut main: Cursor<'_>) -> Option<Body> {
    Some(match operation {
        standby::LOCKS => {
            let count = usize::try_from(main.i32()?).ok()?;
            let locks = main.0.chunks_exact(standby::LOCK_BYTES).take(count);
            Body::Locks(locks.map(|lock| Lock::read(Cursor(lock))).collect::<Option<_>>()?)
        }
        standby::RUNNING_TRANSACTIONS => {
            let (transactions, subtransactions, overflowed) = (main.u32()?, main.u32()?, main.u32()? & 0xFF != 0);
            let (next_xid, oldest_running, _latest_completed) = (Xid(main.u32()?), Xid(main.u32()?), main.u32()?);
            let listed = usize::try_from(transactions.checked_add(subtransactions)?).ok()?.checked_mul(4)?;
            let (xids, _) = main.bytes(listed)?.as_chunks();
            Body::RunningTransactions(RunningTransactions {
                transactions,
                subtransactions,
                overflowed,
                next_xid,
                oldest_running,
                xids: xids.iter().map(|xid| Xid(u32::from_le_bytes(*xid))).collect(),
            })
        }
        _ => Body::Other,
    })
}

fn read_xlog(layout: &Layout, operation: u8, mut main: Cursor<'_>) -> Option<Body> {
    Some(match operation {
        xlog::CHECKPOINT_SHUTDOWN => Body::Checkpoint(read_checkpoint(main, true)?),
        xlog::CHECKPOINT_ONLINE => Body::Checkpoint(read_checkpoint(main, false)?),
        xlog::SWITCH => Body::Switch,
        xlog::BACKUP_END => Body::BackupEnd { start: main.lsn()? },
        xlog::PARAMETER_CHANGE => Body::ParameterChange(read_parameter_change(main)?),
        xlog::RESTORE_POINT => {
            let at = main.timestamp()?;
            Body::RestorePoint { name: text(main.bytes(xlog::RESTORE_POINT_BYTES - size_of::<i64>())?), at }
        }
        xlog::END_OF_RECOVERY => {
            let mut main = Cursor(main.bytes(layout.end_of_recovery_bytes)?);
            let at = main.timestamp()?;
            Body::EndOfRecovery { timeline: main.timeline()?, previous_timeline: main.timeline()?, at }
        }
        xlog::OVERWRITE_CONTRECORD => Body::OverwriteContrecord { aborted: main.lsn()?, at: main.timestamp()? },
        _ => Body::Other,
    })
}

fn read_checkpoint(mut main: Cursor<'_>, shutdown: bool) -> Option<Checkpoint> {
    let (redo, timeline, previous_timeline) = (main.lsn()?, main.timeline()?, main.timeline()?);
    let _full_page_writes_and_wal_level = main.bytes(8)?;
    let next_xid = main.u64()?;
    let _up_to_time = main.bytes(32)?;
    let at = Timestamp::from_unix_seconds(main.i64()?)?;
    Some(Checkpoint { redo, timeline, previous_timeline, next_xid, at, shutdown })
}

fn read_parameter_change(mut main: Cursor<'_>) -> Option<ParameterChange> {
    Some(ParameterChange {
        max_connections: main.i32()?,
        max_worker_processes: main.i32()?,
        max_wal_senders: main.i32()?,
        max_prepared_transactions: main.i32()?,
        max_locks_per_transaction: main.i32()?,
        wal_level: main.i32()?,
        wal_log_hints: main.u8()? != 0,
        track_commit_timestamp: main.u8()? != 0,
    })
}

fn read_xact(layout: &Layout, header: &Header, fragments: &Fragments, main: Cursor<'_>) -> Option<Body> {
    let read_outcome = |prepared| read_outcome(layout, header, fragments, prepared, main);
    Some(match header.info & xact::OPERATION {
        xact::COMMIT => Body::Commit(read_outcome(false)?),
        xact::ABORT => Body::Abort(read_outcome(false)?),
        xact::COMMIT_PREPARED => Body::Commit(read_outcome(true)?),
        xact::ABORT_PREPARED => Body::Abort(read_outcome(true)?),
        xact::PREPARE => read_prepare(layout, main)?,
        _ => Body::Other,
    })
}

/// The order is that of `ParseCommitRecord` and `ParseAbortRecord` (`src/backend/access/rmgrdesc/xactdesc.c`).
fn read_outcome(
    layout: &Layout,
    header: &Header,
    fragments: &Fragments,
    prepared: bool,
    mut main: Cursor<'_>,
) -> Option<Outcome> {
    let at = main.timestamp()?;
    let info = if header.info & xact::HAS_INFO != 0 { main.u32()? } else { 0 };
    let (mut subxacts, mut dropped, mut dropped_statistics) = (Vec::new(), Vec::new(), Vec::new());
    if info & xact::HAS_DATABASE != 0 {
        main.bytes(8)?;
    }
    if info & xact::HAS_SUBXACTS != 0 {
        let (xids, _) = main.counted(size_of::<u32>())?.as_chunks();
        subxacts = xids.iter().map(|xid| Xid(u32::from_le_bytes(*xid))).collect();
    }
    if info & xact::HAS_DROPPED_FILES != 0 {
        let locators = main.counted(RelFileLocator::BYTES)?.chunks_exact(RelFileLocator::BYTES);
        dropped = locators.map(|locator| RelFileLocator::read(&mut Cursor(locator))).collect::<Option<_>>()?;
    }
    if let Some(item) = layout.dropped_stats_item
        && info & xact::HAS_DROPPED_STATS != 0
    {
        dropped_statistics =
            main.counted(item)?.chunks_exact(item).filter_map(|item| relation_of(Cursor(item))).collect();
    }
    if info & xact::HAS_INVALIDATIONS != 0 {
        main.counted(xact::INVALIDATION_BYTES)?;
    }
    let xid = match (prepared, info & xact::HAS_TWO_PHASE != 0) {
        (false, _) => header.xid,
        (true, true) => main.u32()?,
        (true, false) => return None,
    };
    if prepared && info & xact::HAS_GID != 0 {
        let gid = main.0.iter().position(|byte| *byte == 0)?;
        main.bytes(gid + 1)?;
    }
    let origin = match info & xact::HAS_ORIGIN {
        0 => None,
        _ => Some(Origin { id: fragments.origin.unwrap_or(0), lsn: main.lsn()?, at: main.timestamp()? }),
    };
    let locks = info & xact::HAS_LOCKS != 0;
    Some(Outcome { at, xid: Xid(xid), prepared, subxacts, dropped, dropped_statistics, locks, origin })
}

/// The relation's OID in a dropped statistics entry: 12 bytes, and 16 from PostgreSQL 18 on, where the OID is the lower
/// half of eight.
fn relation_of(mut item: Cursor<'_>) -> Option<u32> {
    let (kind, _database) = (item.i32()?, item.u32()?);
    if kind == xact::STATS_OF_RELATION { item.u32() } else { None }
}

fn read_prepare(layout: &Layout, main: Cursor<'_>) -> Option<Body> {
    let mut fields = main;
    let _magic_and_length = fields.bytes(8)?;
    let xid = Xid(fields.u32()?);
    let _database = fields.u32()?;
    let at = fields.timestamp()?;
    let length = Cursor(main.0.get(layout.prepare_gid_length..)?).u16()?;
    let gid = Cursor(main.0.get(layout.prepare_bytes..)?).bytes(usize::from(length).min(xact::GID_BYTES))?;
    Some(Body::Prepare { xid, gid: text(gid), at })
}

fn read_database_drop(mut main: Cursor<'_>) -> Option<Body> {
    Some(Body::DatabaseDrop { database: main.u32()? })
}

fn read_tablespace_create(mut main: Cursor<'_>) -> Option<Body> {
    Some(Body::TablespaceCreate { tablespace: main.u32()?, location: text(main.0) })
}

impl Outcome {
    /// That of a transaction of which no more is said.
    pub(super) fn plain(at: Timestamp, xid: Xid) -> Outcome {
        Outcome {
            at,
            xid,
            prepared: false,
            subxacts: Vec::new(),
            dropped: Vec::new(),
            dropped_statistics: Vec::new(),
            locks: false,
            origin: None,
        }
    }
}

impl RelFileLocator {
    /// In WAL.
    pub(super) const BYTES: usize = 12;

    #[inline]
    pub(super) fn read(cursor: &mut Cursor<'_>) -> Option<RelFileLocator> {
        let mut fields = Cursor(cursor.bytes(RelFileLocator::BYTES)?);
        Some(RelFileLocator { tablespace: fields.u32()?, database: fields.u32()?, relation: fields.u32()? })
    }
}

impl Lock {
    fn read(mut cursor: Cursor<'_>) -> Option<Lock> {
        Some(Lock { xid: Xid(cursor.u32()?), database: cursor.u32()?, relation: cursor.u32()? })
    }
}

/// A text that a zero ends.
fn text(bytes: &[u8]) -> String {
    let text = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::record;
    use proptest::prelude::*;

    /// Records as servers of 13 to 18 wrote them, with what their `pg_waldump` says of them.
    const REAL: &str = include_str!("../../tests/wal/records.txt");

    fn v(major: u16) -> &'static Layout {
        Layout::all().iter().find(|layout| layout.major.0 == major).unwrap()
    }

    fn header(rmgr: u8, info: u8, xid: u32) -> Header {
        Header { total: 0, xid, previous: Lsn(8), info, rmgr, crc: 0 }
    }

    /// No block references.
    fn none() -> Fragments {
        Fragments::default()
    }

    fn said_of(body: &Body) -> String {
        let ended = |how: &str, outcome: &Outcome| {
            let dropped: Vec<String> =
                outcome.dropped.iter().map(|d| format!("{}/{}/{}", d.tablespace, d.database, d.relation)).collect();
            let subxacts: Vec<String> = outcome.subxacts.iter().map(ToString::to_string).collect();
            let (prepared, dropped) = (if outcome.prepared { " prepared" } else { "" }, dropped.join(" "));
            let (xid, at) = (outcome.xid, outcome.at);
            format!("{how}{prepared} of {xid} at {at}, dropped [{dropped}], subxacts [{}]", subxacts.join(" "))
        };
        match body {
            Body::Commit(outcome) => ended("commit", outcome),
            Body::Abort(outcome) => ended("abort", outcome),
            Body::RestorePoint { name, .. } => format!("restore point {name}"),
            Body::Checkpoint(Checkpoint { redo, timeline, previous_timeline, next_xid, .. }) => {
                format!("checkpoint with redo {redo} on {timeline} after {previous_timeline}, next {next_xid}")
            }
            Body::EndOfRecovery { timeline, previous_timeline, at } => {
                format!("end of recovery on {previous_timeline}, start of {timeline} at {at}")
            }
            Body::ParameterChange(p) => format!(
                "parameters {} {} {} {} {} {} {} {}",
                p.max_connections,
                p.max_worker_processes,
                p.max_wal_senders,
                p.max_prepared_transactions,
                p.max_locks_per_transaction,
                p.wal_level,
                p.wal_log_hints,
                p.track_commit_timestamp
            ),
            Body::DatabaseDrop { database } => format!("drop of database {database}"),
            Body::TablespaceCreate { tablespace, location } => format!("tablespace {tablespace} made at {location}"),
            Body::Extension { rmgr } => format!("extension's record of resource manager {rmgr}"),
            Body::Other
            | Body::Rows(_)
            | Body::FileCreate(_)
            | Body::InitFileCreate(_)
            | Body::FileTruncate { .. }
            | Body::PageImages { .. }
            | Body::HeapInplace(_)
            | Body::Locks(_)
            | Body::RunningTransactions(_)
            | Body::OverwriteContrecord { .. } => "other".to_owned(),
            body => format!("{body:?}"),
        }
    }

    #[test]
    fn real_records_say_what_pg_waldump_says() {
        let mut lines = REAL.lines();
        let mut count = 0;
        while let (Some(said), Some(hex)) = (lines.next(), lines.next()) {
            let (major, expected) = said.split_once(": ").unwrap();
            let bytes: Vec<u8> =
                (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
            let header = Header::parse(&bytes).unwrap();
            assert_eq!(record::checksum(&bytes), Some(header.crc), "{said}");
            let body = record::read_sound(v(major.parse().unwrap()), &header, &bytes).unwrap();
            assert_eq!(said_of(&body), expected, "{said}");
            count += 1;
        }
        assert_eq!(count, 45);
    }

    #[test]
    fn what_is_passed_over_says_nothing() {
        for (rmgr, info) in (0..=u8::MAX).flat_map(|rmgr| (0..=u8::MAX).map(move |info| (rmgr, info))) {
            let header = header(rmgr, info, 7);
            for layout in Layout::all().iter().filter(|_| Common::of(&header) == Common::Nothing) {
                assert_eq!(wanted_bytes(layout, &header), None, "resource manager {rmgr}, info {info:02X}");
            }
        }
    }

    #[test]
    fn a_checkpoint_says_when_and_how() {
        let mut main = vec![0; 88];
        main[64..72].copy_from_slice(&1_732_221_296i64.to_le_bytes());
        for (info, shutdown) in [(0x00, true), (0x10, false), (0x11, false)] {
            let Some(Body::Checkpoint(checkpoint)) = Body::read(v(15), &header(XLOG, info, 0), &none(), &main) else {
                panic!("not a checkpoint");
            };
            assert_eq!(checkpoint.shutdown, shutdown);
            assert_eq!(checkpoint.at.to_string(), "2024-11-21T20:34:56.000000Z");
        }
    }

    #[test]
    fn a_prepared_transaction_has_its_name_where_its_version_puts_it() {
        for (major, length_at, name_at) in [(13, 46, 64), (14, 46, 64), (15, 54, 72), (16, 54, 72), (18, 54, 72)] {
            let mut main = vec![0; name_at];
            main[8..12].copy_from_slice(&735u32.to_le_bytes());
            main[length_at] = 5;
            main.extend(b"nine\0\0\0\0and what follows");
            let expected =
                Body::Prepare { xid: Xid(735), gid: "nine".to_owned(), at: Timestamp::from_postgres(0).unwrap() };
            assert_eq!(Body::read(v(major), &header(XACT, 0x10, 0), &none(), &main), Some(expected), "{major}");
        }
    }

    #[test]
    fn names_end_at_the_zero_and_need_not_be_utf_8() {
        let mut main = vec![b'?'; 72];
        main[..8].fill(0);
        main[8..14].copy_from_slice(b"caf\xE9\0x");
        let Some(Body::RestorePoint { name, .. }) = Body::read(v(15), &header(XLOG, 0x70, 0), &none(), &main) else {
            panic!("not a restore point");
        };
        assert_eq!(name, "caf\u{FFFD}");
    }

    #[test]
    fn what_the_header_alone_says_needs_no_data() {
        let read = |rmgr, info| Body::read(v(15), &header(rmgr, info, 7), &none(), &[]);
        assert_eq!(read(XLOG, 0x40), Some(Body::Switch));
        assert_eq!(read(HEAP, 0x50), Some(Body::Other));
        assert_eq!(read(9, 0x10), Some(Body::Other), "another resource manager's");
        let start = 0x0200_0028u64.to_le_bytes();
        assert_eq!(
            Body::read(v(15), &header(XLOG, 0x50, 0), &none(), &start),
            Some(Body::BackupEnd { start: Lsn(0x0200_0028) })
        );
    }

    /// There are two ways to a body: they must not come to differ.
    #[test]
    fn what_is_said_to_be_common_is() {
        for layout in Layout::all() {
            for (rmgr, info) in (0..=u8::MAX).flat_map(|rmgr| (0..=u8::MAX).map(move |info| (rmgr, info))) {
                let header = header(rmgr, info, 7);
                let relation = RelFileLocator { tablespace: 1663, database: 5, relation: 16384 };
                let fragments = Fragments { relation: Some(relation), blocks: 1, ..none() };
                let body = Body::read(layout, &header, &fragments, &[0; 300]).unwrap_or(Body::Switch);
                match Common::of(&header) {
                    Common::Nothing => assert_eq!(body, Body::Other, "{rmgr} {info:02X}"),
                    Common::Row(change) => {
                        let row = Rows { relation, change, rows: 1 };
                        assert_eq!(body, Body::Rows(row), "{rmgr} {info:02X}");
                        assert_eq!(
                            Body::read(layout, &header, &none(), &[0; 300]),
                            Some(Body::Other),
                            "no relation: {rmgr} {info:02X}"
                        );
                    }
                    Common::Rows => {
                        let rows = read_rows(&header, &fragments, &[0; 300]).map_or(Body::Other, Body::Rows);
                        assert_eq!(body, rows, "{rmgr} {info:02X}");
                    }
                    Common::PlainCommit => {
                        let at = read_plain_time(&[0; 300]).unwrap();
                        assert_eq!(body, Body::Commit(Outcome::plain(at, Xid(7))), "{rmgr} {info:02X}");
                    }
                    Common::No => {}
                }
            }
        }
    }

    #[test]
    fn an_end_of_recovery_is_as_long_as_its_version_has_it() {
        for (major, bytes) in [(13, 16), (16, 16), (17, 24), (18, 24)] {
            let read = |bytes: usize| Body::read(v(major), &header(XLOG, 0x90, 0), &none(), &vec![0; bytes]);
            assert!(matches!(read(bytes), Some(Body::EndOfRecovery { .. })), "{major}");
            assert_eq!(read(bytes - 1), None, "{major}");
        }
    }

    /// Counts that the data does not bear out are refused before anything is set aside for them.
    #[test]
    fn a_count_that_is_a_lie_is_refused() {
        for count in [1u32, 1 << 30, i32::MAX as u32, u32::MAX] {
            for part in [2u32, 4, 8, 0x100] {
                let main = [&[0; 8][..], &part.to_le_bytes(), &count.to_le_bytes(), &[0; 3]].concat();
                assert_eq!(Body::read(v(15), &header(XACT, 0x80, 7), &none(), &main), None, "{count} of {part:X}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_main_data_makes_it_panic(rmgr in 0u8..12, info: u8, main: Vec<u8>, major in 13u16..=18) {
            let _ = Body::read(v(major), &header(rmgr, info, 7), &none(), &main);
        }
    }
}
