//! `global/pg_control`: what a cluster knows about itself when no server runs.

use std::fmt;

use serde::Serialize;

use crate::core::{Lsn, PgMajor, SegmentSize, TimelineId, Timestamp};

/// Bytes of `pg_control` that are read. The file has 8192; they are zero behind the checksum.
const READ_BYTES: usize = 296;

/// Where the checksum lies, by `pg_control_version` (`src/include/catalog/pg_control.h`, x86-64). Everything that
/// is read here lies at the same place in all of them.
const CHECKSUM_AT: [(u32, usize); 3] = [(1300, 288), (1700, 288), (1800, 292)];

/// What `pg_control` says, as far as recovery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ControlFile {
    /// The number that `initdb` gave to the cluster; the same in every copy of it.
    pub system_identifier: u64,
    /// `pg_control_version`: the form of this file. 13 to 16 share one.
    pub control_version: u32,
    /// `catalog_version_no`: tells every major.
    pub catalog_version: u32,
    /// What the cluster was doing.
    pub state: ClusterState,
    /// Where the latest checkpoint's record starts (the latest restartpoint's, in recovery).
    pub checkpoint: Lsn,
    /// Where replay begins after a crash.
    pub redo: Lsn,
    /// The timeline that the checkpoint is on.
    pub checkpoint_timeline: TimelineId,
    /// When the checkpoint was begun.
    pub checkpoint_at: Option<Timestamp>,
    /// Recovery is not consistent before here. `None` outside archive recovery.
    pub min_recovery_point: Option<Lsn>,
    /// The timeline of `min_recovery_point`; 0 where there is none.
    pub min_recovery_timeline: TimelineId,
    /// Where the base backup that is being recovered began; `None` once its end was replayed.
    pub backup_start: Option<Lsn>,
    /// Where it ended, for a backup taken from a standby.
    pub backup_end: Option<Lsn>,
    /// Recovery is not consistent before the record that ends the backup.
    pub backup_end_required: bool,
    /// 0 minimal, 1 replica, 2 logical.
    pub wal_level: i32,
    /// `max_connections` of the cluster that wrote the WAL; hot standby needs as much, here and below.
    pub max_connections: u32,
    /// `max_worker_processes`.
    pub max_worker_processes: u32,
    /// `max_wal_senders`.
    pub max_wal_senders: u32,
    /// `max_prepared_transactions`.
    pub max_prepared_xacts: u32,
    /// `max_locks_per_transaction`.
    pub max_locks_per_xact: u32,
    /// The size of the cluster's WAL segments.
    pub segment_size: SegmentSize,
    /// Whether data pages carry checksums.
    pub data_checksums: bool,
}

/// What the cluster was doing when `pg_control` was written (`DBState`, `src/include/catalog/pg_control.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClusterState {
    /// Being made by `initdb`, or coming up.
    StartingUp,
    /// Stopped in order, not in recovery.
    ShutDown,
    /// Stopped in order, in the middle of recovery.
    ShutDownInRecovery,
    /// Stopping.
    ShuttingDown,
    /// Replaying the WAL in `pg_wal` after a crash.
    InCrashRecovery,
    /// Replaying WAL from an archive, paused or not; or killed while doing so.
    InArchiveRecovery,
    /// Taking writes; or killed while doing so, or copied by a base backup.
    InProduction,
}

impl fmt::Display for ClusterState {
    /// As `pg_controldata` words it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::StartingUp => "starting up",
            Self::ShutDown => "shut down",
            Self::ShutDownInRecovery => "shut down in recovery",
            Self::ShuttingDown => "shutting down",
            Self::InCrashRecovery => "in crash recovery",
            Self::InArchiveRecovery => "in archive recovery",
            Self::InProduction => "in production",
        })
    }
}

/// Why bytes are not a control file that can be relied on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadControlFile {
    /// Cut off.
    #[error("it has {0} bytes, where a control file has 8192: it is cut off")]
    TooShort(usize),
    /// Neither of the forms that 13 to 18 write.
    #[error("its format is {0}; PostgreSQL 13 to 18 write 1300, 1700 or 1800")]
    UnknownFormat(u32),
    /// From a machine that writes integers the other way round.
    #[error("it was written on a machine with the other byte order, whose clusters cannot be recovered on this one")]
    OtherByteOrder,
    /// Damaged, or caught while it was being written.
    #[error(
        "its checksum is {stored:08X} and its content gives {computed:08X}: it is damaged, or was read while being written"
    )]
    Checksum {
        /// What the file says.
        stored: u32,
        /// What its bytes give.
        computed: u32,
    },
    /// Not a state of [`ClusterState`].
    #[error("its cluster state is {0}, which no PostgreSQL from 13 to 18 writes")]
    UnknownState(u32),
    /// Not a size that a segment can have.
    #[error("its WAL segments have {0} bytes, which is not a power of two from 1 MB to 1 GB")]
    SegmentSize(u32),
}

impl ControlFile {
    /// Reads the file's bytes, all 8192 or just the first 296, and checks its CRC-32C.
    ///
    /// # Errors
    /// See [`BadControlFile`]. A running server rewrites the file in place, so that a copy can be torn: read it
    /// again on [`BadControlFile::Checksum`] before believing in damage.
    pub fn parse(bytes: &[u8]) -> Result<ControlFile, BadControlFile> {
        let file = Fields(bytes.first_chunk().ok_or(BadControlFile::TooShort(bytes.len()))?);
        file.check()?;
        Ok(ControlFile {
            system_identifier: file.u64(0),
            control_version: file.u32(8),
            catalog_version: file.u32(12),
            state: cluster_state(file.u32(16))?,
            checkpoint: Lsn(file.u64(32)),
            redo: Lsn(file.u64(40)),
            checkpoint_timeline: TimelineId(file.u32(48)),
            checkpoint_at: Timestamp::from_unix_seconds(file.u64(104).cast_signed()),
            min_recovery_point: Lsn(file.u64(136)).valid(),
            min_recovery_timeline: TimelineId(file.u32(144)),
            backup_start: Lsn(file.u64(152)).valid(),
            backup_end: Lsn(file.u64(160)).valid(),
            backup_end_required: file.take::<1>(168) != [0],
            wal_level: file.u32(172).cast_signed(),
            max_connections: file.u32(180),
            max_worker_processes: file.u32(184),
            max_wal_senders: file.u32(188),
            max_prepared_xacts: file.u32(192),
            max_locks_per_xact: file.u32(196),
            segment_size: SegmentSize::new(file.u32(228)).ok_or(BadControlFile::SegmentSize(file.u32(228)))?,
            data_checksums: file.u32(252) != 0,
        })
    }

    /// The major that the cluster belongs to; `None` where none of 13 to 18 has its catalog version, as with a
    /// beta's.
    #[must_use]
    pub fn major(&self) -> Option<PgMajor> {
        PgMajor::from_catalog_version(self.catalog_version)
    }
}

fn cluster_state(number: u32) -> Result<ClusterState, BadControlFile> {
    Ok(match number {
        0 => ClusterState::StartingUp,
        1 => ClusterState::ShutDown,
        2 => ClusterState::ShutDownInRecovery,
        3 => ClusterState::ShuttingDown,
        4 => ClusterState::InCrashRecovery,
        5 => ClusterState::InArchiveRecovery,
        6 => ClusterState::InProduction,
        _ => return Err(BadControlFile::UnknownState(number)),
    })
}

/// The read part of the file. Offsets are constants below its length; one beyond it would read as zero.
struct Fields<'a>(&'a [u8; READ_BYTES]);

impl Fields<'_> {
    fn check(&self) -> Result<(), BadControlFile> {
        let version = self.u32(8);
        let form = |version: u32| CHECKSUM_AT.iter().find(|(known, _)| *known == version);
        let Some(&(_, checksum_at)) = form(version) else {
            let swapped = form(version.swap_bytes()).is_some();
            return Err(if swapped { BadControlFile::OtherByteOrder } else { BadControlFile::UnknownFormat(version) });
        };
        let computed = crc_fast::crc32_iscsi(self.0.get(..checksum_at).unwrap_or_default());
        let stored = self.u32(checksum_at);
        if stored == computed { Ok(()) } else { Err(BadControlFile::Checksum { stored, computed }) }
    }

    fn take<const N: usize>(&self, at: usize) -> [u8; N] {
        self.0.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or([0; N])
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.take(at))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.take(at))
    }
}

/// That of a server of 15 in archive recovery, for tests to change.
#[cfg(test)]
pub(crate) fn example() -> ControlFile {
    ControlFile {
        system_identifier: 7,
        control_version: 1300,
        catalog_version: 202_209_061,
        state: ClusterState::InArchiveRecovery,
        checkpoint: Lsn(0x200_0060),
        redo: Lsn(0x200_0028),
        checkpoint_timeline: TimelineId(1),
        checkpoint_at: None,
        min_recovery_point: None,
        min_recovery_timeline: TimelineId(1),
        backup_start: None,
        backup_end: None,
        backup_end_required: false,
        wal_level: 1,
        max_connections: 100,
        max_worker_processes: 8,
        max_wal_senders: 10,
        max_prepared_xacts: 0,
        max_locks_per_xact: 64,
        segment_size: SegmentSize::DEFAULT,
        data_checksums: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgdata::manifest::unhex;
    use proptest::prelude::*;

    /// Of a 15.18 server paused at a recovery target.
    const PAUSED_15: &str = "645f321486ac006b1405000025770d0c050000000000000088ac006b0000000060000002000000002800000200000000\
        01000000010000000100000000000000d602000000000000006000000100000000000000cc0200000100000001000000\
        010000000000000086ac006b000000000000000000000000d602000000000000e8030000000000000001000200000000\
        01000000000000000000000000000000000000000000000000000000010000000000000064000000080000000a000000\
        000000004000000000000000080000000000000087d63241002000000000020000200000000000014000000020000000\
        cc070000000800000100000001000000ad7213f0b59c6b14d9b6b4a2f52726be98c4a2f5162d6f051cdf33651d118f57\
        3a14a7c000000000";

    /// Of an 18.4 server at the same place.
    const PAUSED_18: &str = "75379f3982ad006b080700003300120c050000000000000085ad006b0000000080000002000000002800000200000000\
        01000000010000000100000001000000f202000000000000006000000100000000000000e80200000100000001000000\
        010000000000000082ad006b000000000000000000000000f202000000000000e8030000000000002001000200000000\
        01000000000000000000000000000000000000000000000000000000010000000000000064000000080000000a000000\
        000000004000000000000000080000000000000087d63241002000000000020000200000000000014000000020000000\
        cc07000000080000010000000100000001815bf8df24aaccea69dd766d92667d1bccffc785f5582d8a6d19ccbca4e9f4\
        bd000000ea60c5b9";

    fn bytes(hex: &str) -> Vec<u8> {
        unhex(hex).unwrap()
    }

    /// The expected values are what `pg_controldata` 15.18 printed for that file.
    #[test]
    fn says_what_pg_controldata_says() {
        assert_eq!(
            ControlFile::parse(&bytes(PAUSED_15)).unwrap(),
            ControlFile {
                system_identifier: 7_710_352_253_922_729_828,
                control_version: 1300,
                catalog_version: 202_209_061,
                state: ClusterState::InArchiveRecovery,
                checkpoint: Lsn(0x200_0060),
                redo: Lsn(0x200_0028),
                checkpoint_timeline: TimelineId(1),
                checkpoint_at: crate::pgdata::moment::parse("2026-11-20 20:24:38 UTC"),
                min_recovery_point: Some(Lsn(0x200_0100)),
                min_recovery_timeline: TimelineId(1),
                backup_start: None,
                backup_end: None,
                backup_end_required: false,
                wal_level: 1,
                max_connections: 100,
                max_worker_processes: 8,
                max_wal_senders: 10,
                max_prepared_xacts: 0,
                max_locks_per_xact: 64,
                segment_size: SegmentSize::DEFAULT,
                data_checksums: true,
            }
        );
    }

    #[test]
    fn the_checksum_of_18_lies_elsewhere() {
        let control = ControlFile::parse(&bytes(PAUSED_18)).unwrap();
        assert_eq!((control.control_version, control.major()), (1800, Some(PgMajor(18))));
        assert_eq!(control.system_identifier, 7_710_353_336_882_378_613);
        assert_eq!((control.checkpoint, control.min_recovery_point), (Lsn(0x200_0080), Some(Lsn(0x200_0120))));
        assert_eq!(ControlFile::parse(&bytes(PAUSED_15)).unwrap().major(), Some(PgMajor(15)));
    }

    #[test]
    fn whatever_is_changed_below_the_checksum_is_noticed() {
        for (file, checksum_at) in [(PAUSED_15, 288), (PAUSED_18, 292)] {
            for at in (0..checksum_at + 4).filter(|at| !(8..12).contains(at)) {
                let mut damaged = bytes(file);
                damaged[at] ^= 0x40;
                let result = ControlFile::parse(&damaged);
                assert!(matches!(result, Err(BadControlFile::Checksum { .. })), "byte {at}: {result:?}");
            }
        }
    }

    /// `file` with `value` at `at`, and the checksum made to fit.
    fn forged(at: usize, value: u32) -> Vec<u8> {
        let mut file = bytes(PAUSED_15);
        file[at..at + 4].copy_from_slice(&value.to_le_bytes());
        let checksum = crc_fast::crc32_iscsi(&file[..288]);
        file[288..292].copy_from_slice(&checksum.to_le_bytes());
        file
    }

    #[test]
    fn other_files_are_told_apart() {
        use BadControlFile::*;
        assert_eq!(ControlFile::parse(&bytes(PAUSED_15)[..295]), Err(TooShort(295)));
        assert_eq!(ControlFile::parse(&[0; 8192]), Err(UnknownFormat(0)));
        assert_eq!(ControlFile::parse(&forged(8, 1201)), Err(UnknownFormat(1201)));
        assert_eq!(ControlFile::parse(&forged(8, 1300_u32.swap_bytes())), Err(OtherByteOrder));
        assert_eq!(ControlFile::parse(&forged(16, 7)), Err(UnknownState(7)));
        assert_eq!(ControlFile::parse(&forged(228, 3 << 20)), Err(SegmentSize(3 << 20)));
        assert_eq!(ControlFile::parse(&forged(12, 202_501_011)).unwrap().major(), None);
    }

    #[test]
    fn states_are_numbered_as_the_server_numbers_them() {
        let words = (0..7).map(|n| ControlFile::parse(&forged(16, n)).unwrap().state.to_string()).collect::<Vec<_>>();
        assert_eq!(
            words,
            [
                "starting up",
                "shut down",
                "shut down in recovery",
                "shutting down",
                "in crash recovery",
                "in archive recovery",
                "in production"
            ]
        );
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(file in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = ControlFile::parse(&file);
        }

        #[test]
        fn no_valid_checksum_makes_it_panic(at in (0usize..70).prop_map(|word| word * 4), value: u32) {
            let _ = ControlFile::parse(&forged(at, value));
        }
    }
}
