//! What records say: the main data of those that Walback wants to know, by their resource manager.

use super::cursor::Cursor;
use super::layout::Layout;
use super::record::Header;
use crate::core::{Lsn, TimelineId, Timestamp, Xid};

/// Resource managers (`src/include/access/rmgrlist.h`), numbered alike in 13 to 18.
const XLOG: u8 = 0;
const XACT: u8 = 1;
const DATABASE: u8 = 4;
const HEAP: u8 = 10;
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
    /// An invalidation message (`SharedInvalidationMessage`, `src/include/storage/sinval.h`).
    pub(super) const INVALIDATION_BYTES: usize = 16;
}

/// Records about rows (`src/include/access/heapam_xlog.h`).
mod heap {
    pub(super) const OPERATION: u8 = 0x70;
    pub(super) const DELETE: u8 = 0x10;
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
    /// The record's transaction deleted one row, or moved it to another partition.
    HeapDelete,
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
}

/// The files of one relation (`RelFileLocator`, `src/include/storage/relfilelocator.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

/// How many bytes of a record's main data [`Body::read`] looks at, at most. 0 where the header says everything.
pub(super) fn wanted_bytes(layout: &Layout, header: &Header) -> usize {
    match header.rmgr {
        XLOG => match header.info & OPERATION {
            xlog::CHECKPOINT_SHUTDOWN | xlog::CHECKPOINT_ONLINE => xlog::CHECKPOINT_BYTES,
            xlog::BACKUP_END => size_of::<u64>(),
            xlog::PARAMETER_CHANGE => xlog::PARAMETER_CHANGE_BYTES,
            xlog::RESTORE_POINT => xlog::RESTORE_POINT_BYTES,
            xlog::END_OF_RECOVERY => layout.end_of_recovery_bytes,
            _ => 0,
        },
        XACT => match header.info & xact::OPERATION {
            xact::COMMIT | xact::ABORT | xact::COMMIT_PREPARED | xact::ABORT_PREPARED => usize::MAX,
            xact::PREPARE => layout.prepare_bytes + xact::GID_BYTES,
            _ => 0,
        },
        DATABASE if header.info & OPERATION == layout.database_drop => size_of::<u32>(),
        _ => 0,
    }
}

impl Body {
    /// From a record's main data, or the first [`wanted_bytes`] of it. `None` where it is too short for what it is.
    pub(super) fn read(layout: &Layout, header: &Header, main: &[u8]) -> Option<Body> {
        let main = Cursor(main);
        match header.rmgr {
            XLOG => read_xlog(layout, header.info & OPERATION, main),
            XACT => read_xact(layout, header, main),
            DATABASE if header.info & OPERATION == layout.database_drop => read_database_drop(main),
            HEAP if header.info & heap::OPERATION == heap::DELETE => Some(Body::HeapDelete),
            _ => Some(Body::Other),
        }
    }
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

fn read_xact(layout: &Layout, header: &Header, main: Cursor<'_>) -> Option<Body> {
    Some(match header.info & xact::OPERATION {
        xact::COMMIT => Body::Commit(read_outcome(layout, header, false, main)?),
        xact::ABORT => Body::Abort(read_outcome(layout, header, false, main)?),
        xact::COMMIT_PREPARED => Body::Commit(read_outcome(layout, header, true, main)?),
        xact::ABORT_PREPARED => Body::Abort(read_outcome(layout, header, true, main)?),
        xact::PREPARE => read_prepare(layout, main)?,
        _ => Body::Other,
    })
}

/// The order is that of `ParseCommitRecord` and `ParseAbortRecord` (`src/backend/access/rmgrdesc/xactdesc.c`).
fn read_outcome(layout: &Layout, header: &Header, prepared: bool, mut main: Cursor<'_>) -> Option<Outcome> {
    let at = main.timestamp()?;
    let info = if header.info & xact::HAS_INFO != 0 { main.u32()? } else { 0 };
    let (mut subxacts, mut dropped) = (Vec::new(), Vec::new());
    if info & xact::HAS_DATABASE != 0 {
        main.bytes(8)?;
    }
    if info & xact::HAS_SUBXACTS != 0 {
        let (xids, _) = main.counted(size_of::<u32>())?.as_chunks();
        subxacts = xids.iter().map(|xid| Xid(u32::from_le_bytes(*xid))).collect();
    }
    if info & xact::HAS_DROPPED_FILES != 0 {
        let locators = main.counted(RelFileLocator::BYTES)?.chunks_exact(RelFileLocator::BYTES);
        dropped = locators.map(|locator| RelFileLocator::read(Cursor(locator))).collect::<Option<_>>()?;
    }
    if let Some(item) = layout.dropped_stats_item
        && info & xact::HAS_DROPPED_STATS != 0
    {
        main.counted(item)?;
    }
    if info & xact::HAS_INVALIDATIONS != 0 {
        main.counted(xact::INVALIDATION_BYTES)?;
    }
    let xid = match (prepared, info & xact::HAS_TWO_PHASE != 0) {
        (false, _) => header.xid,
        (true, true) => main.u32()?,
        (true, false) => return None,
    };
    Some(Outcome { at, xid: Xid(xid), prepared, subxacts, dropped })
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

impl RelFileLocator {
    /// In WAL.
    pub(super) const BYTES: usize = 12;

    fn read(mut cursor: Cursor<'_>) -> Option<RelFileLocator> {
        Some(RelFileLocator { tablespace: cursor.u32()?, database: cursor.u32()?, relation: cursor.u32()? })
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
            Body::Other => "other".to_owned(),
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
            let body = record::read_whole(v(major.parse().unwrap()), &header, &bytes).unwrap();
            assert_eq!(said_of(&body), expected, "{said}");
            count += 1;
        }
        assert_eq!(count, 45);
    }

    #[test]
    fn a_checkpoint_says_when_and_how() {
        let mut main = vec![0; 88];
        main[64..72].copy_from_slice(&1_732_221_296i64.to_le_bytes());
        for (info, shutdown) in [(0x00, true), (0x10, false), (0x11, false)] {
            let Some(Body::Checkpoint(checkpoint)) = Body::read(v(15), &header(XLOG, info, 0), &main) else {
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
            assert_eq!(Body::read(v(major), &header(XACT, 0x10, 0), &main), Some(expected), "{major}");
        }
    }

    #[test]
    fn names_end_at_the_zero_and_need_not_be_utf_8() {
        let mut main = vec![b'?'; 72];
        main[..8].fill(0);
        main[8..14].copy_from_slice(b"caf\xE9\0x");
        let Some(Body::RestorePoint { name, .. }) = Body::read(v(15), &header(XLOG, 0x70, 0), &main) else {
            panic!("not a restore point");
        };
        assert_eq!(name, "caf\u{FFFD}");
    }

    #[test]
    fn what_the_header_alone_says_needs_no_data() {
        let read = |rmgr, info| Body::read(v(15), &header(rmgr, info, 7), &[]);
        assert_eq!(read(XLOG, 0x40), Some(Body::Switch));
        assert_eq!(read(HEAP, 0x10), Some(Body::HeapDelete));
        assert_eq!(read(HEAP, 0x90), Some(Body::HeapDelete));
        assert_eq!(read(HEAP, 0x00), Some(Body::Other));
        assert_eq!(read(9, 0x10), Some(Body::Other), "another resource manager's");
        let start = 0x0200_0028u64.to_le_bytes();
        assert_eq!(
            Body::read(v(15), &header(XLOG, 0x50, 0), &start),
            Some(Body::BackupEnd { start: Lsn(0x0200_0028) })
        );
    }

    #[test]
    fn an_end_of_recovery_is_as_long_as_its_version_has_it() {
        for (major, bytes) in [(13, 16), (16, 16), (17, 24), (18, 24)] {
            let read = |bytes: usize| Body::read(v(major), &header(XLOG, 0x90, 0), &vec![0; bytes]);
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
                assert_eq!(Body::read(v(15), &header(XACT, 0x80, 7), &main), None, "{count} of {part:X}");
            }
        }
    }

    proptest! {
        #[test]
        fn no_main_data_makes_it_panic(rmgr in 0u8..12, info: u8, main: Vec<u8>, major in 13u16..=18) {
            let _ = Body::read(v(major), &header(rmgr, info, 7), &main);
        }
    }
}
