//! What a recovery will take: bytes, segments, seconds, and what the seconds rest on. Pure: what was measured is given.

use crate::catalog::{Backup, BackupKind, Compression};
use crate::core::progress::{Bytes, counted};
use crate::core::{Lsn, SegmentSize};

use super::Estimate;
use super::chain::Amounts;
use super::preflight::WAL_KEPT;

/// A measurement says something about work of up to so many times its size: what is small is mostly starting and ending.
const REACHES: u64 = 16;
/// So many of the newest measurements are taken.
const NEWEST: usize = 5;
/// Bytes a second that are copied where nothing was measured: a plain disk, one stream.
const ASSUMED_COPY: f64 = 150e6;
/// Bytes a second that are written where only decompressing was tried: the same disk.
const ASSUMED_WRITE: f64 = 200e6;
/// Bytes of WAL a second that are replayed where nothing was measured. On data that lies in memory one processor
/// replays three to five times as much, on a disk that has to seek for every page much less.
const ASSUMED_REPLAY: f64 = 60e6;
/// Seconds until a server replays, where nothing was measured.
const ASSUMED_START_S: f64 = 1.0;

/// What recoveries on this machine took, the newest first, and what was tried just now.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Experience {
    /// Unpackings: the bytes are those read from the backup.
    pub unpacked: Vec<(BackupKind, Compression, Measured)>,
    /// Combinations of incremental backups: the bytes are those written.
    pub combined: Vec<Measured>,
    /// Replays, and whether segments had to be decompressed for them.
    pub replayed: Vec<(bool, Measured)>,
    /// Decompressions that were tried just now.
    pub tried: Vec<(Compression, Tried)>,
}

/// Work that was done, and how long it took.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Measured {
    /// How much.
    pub bytes: u64,
    /// How long.
    pub seconds: f64,
    /// Whether it was done in a drill.
    pub of_drill: bool,
}

/// The front of a compressed file, decompressed into nowhere.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tried {
    /// Bytes read from the file.
    pub read: u64,
    /// Bytes that they became.
    pub became: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What there is to do.
#[derive(Debug, Clone, Copy)]
pub struct Work<'a> {
    /// The base backup.
    pub backup: &'a Backup,
    /// It with all that it builds upon, the full one first; empty for a full one.
    pub chain: &'a [&'a Backup],
    /// What these take.
    pub amounts: Amounts,
    /// Where replay ends.
    pub replay_end: Lsn,
    /// The size of the cluster's segments.
    pub segment_size: SegmentSize,
    /// Whether segments have to be decompressed.
    pub packed_wal: bool,
    /// Bytes free where the data goes.
    pub free_bytes: Option<u64>,
}

impl Experience {
    /// What the work will take.
    #[must_use]
    pub fn estimate(&self, work: &Work<'_>) -> Estimate {
        let (wal_bytes, wal_segments) = wal_to_replay(work.backup, work.replay_end, work.segment_size);
        let read_bytes = work.amounts.read;
        let (unpack_s, unpack_basis) = match work.chain {
            [] => self.unpacking(work.backup, read_bytes),
            chain => self.combining(chain, work.amounts.data),
        };
        let (replay_s, replay_basis) = self.replaying(work.packed_wal, wal_bytes);
        let data = work.amounts.data;
        let unpack_bytes = match work.chain {
            [] => work.backup.unpacked_bytes.unwrap_or(read_bytes),
            _ => work.amounts.peak(),
        };
        Estimate {
            unpack_bytes,
            read_bytes,
            wal_bytes,
            wal_segments,
            unpack_s: Some(unpack_s),
            replay_s: Some(replay_s),
            total_s: Some(unpack_s + replay_s),
            basis: format!("{unpack_basis}; {replay_basis}"),
            free_after_bytes: work
                .free_bytes
                .map(|free| free.saturating_sub(data.saturating_add(wal_bytes.min(WAL_KEPT)))),
        }
    }

    /// What the work will take for a server that goes on, starting at `redo`: nothing is unpacked.
    #[must_use]
    pub fn going_on(&self, work: &Work<'_>, redo: Lsn) -> Estimate {
        let (wal_bytes, wal_segments) = wal_between(redo, work.replay_end, work.segment_size);
        let (replay_s, basis) = self.replaying(work.packed_wal, wal_bytes);
        Estimate {
            wal_bytes,
            wal_segments,
            unpack_s: Some(0.0),
            replay_s: Some(replay_s),
            total_s: Some(replay_s),
            basis,
            free_after_bytes: work.free_bytes,
            ..Estimate::default()
        }
    }

    fn unpacking(&self, backup: &Backup, read: u64) -> (f64, String) {
        let alike = self
            .unpacked
            .iter()
            .filter(|(kind, compression, _)| *kind == backup.kind && *compression == backup.compression);
        if let Some((rate, times)) = measured(alike.map(|(.., measured)| *measured), read) {
            let basis = format!("unpacking at {}/s, measured here in {}", rate_of(rate), times.in_words());
            return (read as f64 / rate, basis);
        }
        let tried = self.tried.iter().find(|(compression, _)| *compression == backup.compression);
        if let Some((_, tried)) = tried.filter(|(_, tried)| tried.read > 0 && tried.seconds > 0.0) {
            let rate = tried.became as f64 / tried.seconds;
            let becomes = read as f64 * tried.became as f64 / tried.read as f64;
            let bytes = backup.unpacked_bytes.map_or(becomes, |bytes| bytes as f64);
            let basis = format!(
                "decompressing at {}/s, tried just now, and writing at {}/s, assumed",
                rate_of(rate),
                rate_of(ASSUMED_WRITE)
            );
            return (bytes / rate + bytes / ASSUMED_WRITE, basis);
        }
        let bytes = backup.unpacked_bytes.unwrap_or(read) as f64;
        (bytes / ASSUMED_COPY, format!("unpacking at {}/s, assumed", rate_of(ASSUMED_COPY)))
    }

    /// Unpacking each of a chain, and making data of so many bytes of them. What is read where it lies is read all the
    /// same, to be held against its manifest.
    fn combining(&self, chain: &[&Backup], data: u64) -> (f64, String) {
        let read = |backup: &Backup| backup.parts.iter().fold(0_u64, |sum, part| sum.saturating_add(part.size_bytes));
        let mut seconds = 0.0;
        let mut bases: Vec<String> = Vec::new();
        for backup in chain {
            let (takes, basis) = self.unpacking(backup, read(backup));
            seconds += takes;
            if !bases.contains(&basis) {
                bases.push(basis);
            }
        }
        let (takes, basis) = match measured(self.combined.iter().copied(), data) {
            Some((rate, times)) => {
                let basis = format!("combining at {}/s, measured here in {}", rate_of(rate), times.in_words());
                (data as f64 / rate, basis)
            }
            None => (data as f64 / ASSUMED_COPY, format!("combining at {}/s, assumed", rate_of(ASSUMED_COPY))),
        };
        bases.push(basis);
        (seconds + takes, bases.join("; "))
    }

    fn replaying(&self, packed_wal: bool, wal_bytes: u64) -> (f64, String) {
        let alike = self.replayed.iter().filter(|(packed, _)| *packed == packed_wal).map(|(_, measured)| *measured);
        match measured(alike, wal_bytes) {
            Some((rate, times)) => {
                let basis = format!("replay at {}/s, measured here in {}", rate_of(rate), times.in_words());
                (wal_bytes as f64 / rate, basis)
            }
            None => {
                let basis = format!("replay at {}/s, assumed", rate_of(ASSUMED_REPLAY));
                (ASSUMED_START_S + wal_bytes as f64 / ASSUMED_REPLAY, basis)
            }
        }
    }
}

/// How often something was measured, and how often of that in drills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    all: usize,
    drills: usize,
}

/// Bytes a second of the newest measurements that say something about so many bytes, and how many they are.
fn measured(measurements: impl Iterator<Item = Measured>, bytes: u64) -> Option<(f64, Times)> {
    let telling = |one: &Measured| one.bytes > 0 && one.seconds > 0.0 && one.bytes.saturating_mul(REACHES) >= bytes;
    let newest: Vec<Measured> = measurements.filter(telling).take(NEWEST).collect();
    let (bytes, seconds) = newest.iter().fold((0, 0.0), |(b, s), one| (b + one.bytes, s + one.seconds));
    let times = Times { all: newest.len(), drills: newest.iter().filter(|one| one.of_drill).count() };
    (!newest.is_empty()).then(|| (bytes as f64 / seconds, times))
}

fn rate_of(bytes_per_second: f64) -> Bytes {
    Bytes(bytes_per_second as u64)
}

impl Times {
    /// `one recovery`, `2 drills`, `the last 5 recoveries, 3 of them drills`
    fn in_words(self) -> String {
        match (self.all, self.drills) {
            (1, 0) => "one recovery".to_owned(),
            (1, _) => "one drill".to_owned(),
            (all, 0) => format!("the last {all} recoveries"),
            (all, drills) if drills == all => format!("{all} drills"),
            (all, 1) => format!("the last {all} recoveries, one of them a drill"),
            (all, drills) => format!("the last {all} recoveries, {drills} of them drills"),
        }
    }
}

/// Bytes of WAL from the start of the backup to the end of replay, and the segments that hold them.
#[must_use]
pub fn wal_to_replay(backup: &Backup, end: Lsn, size: SegmentSize) -> (u64, u64) {
    wal_between(backup.start_lsn.unwrap_or(end), end, size)
}

fn wal_between(start: Lsn, end: Lsn, size: SegmentSize) -> (u64, u64) {
    // What ends at a segment's end needs nothing of the next.
    let last = Lsn(end.0.saturating_sub(1)).max(start);
    (end.bytes_since(start), size.number_of(last).saturating_sub(size.number_of(start)) + 1)
}

impl Estimate {
    /// `4.3 MB to unpack, 32 MB of WAL to replay (3 segments)`
    #[must_use]
    pub fn amounts(&self) -> String {
        format!(
            "{} to unpack, {} of WAL to replay ({})",
            Bytes(self.unpack_bytes),
            Bytes(self.wal_bytes),
            counted(self.wal_segments, "segment")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    fn of(experience: &Experience) -> Estimate {
        let plan = example();
        experience.estimate(&Work {
            backup: &plan.backup,
            chain: &[],
            amounts: plan.amounts(),
            replay_end: plan.resolved.replay_end,
            segment_size: SegmentSize::DEFAULT,
            packed_wal: false,
            free_bytes: Some(1_000_000_000),
        })
    }

    fn measured(bytes: u64, seconds: f64) -> Measured {
        Measured { bytes, seconds, of_drill: false }
    }

    #[test]
    fn without_experience_it_is_assumed_and_said() {
        let estimate = of(&Experience::default());
        assert_eq!((estimate.unpack_bytes, estimate.read_bytes), (38_000_000, 3_000_000));
        assert_eq!((estimate.wal_bytes, estimate.wal_segments), (16_777_504, 2));
        let total = estimate.unpack_s.unwrap() + estimate.replay_s.unwrap();
        assert!((estimate.total_s.unwrap() - total).abs() < 1e-9 && total > 1.0, "{estimate:?}");
        assert_eq!(estimate.basis.matches("assumed").count(), 2, "{}", estimate.basis);
        assert_eq!(estimate.free_after_bytes, Some(1_000_000_000 - 38_000_000 - 16_777_504));
    }

    #[test]
    fn what_was_measured_here_wins_where_it_says_something() {
        let gzip = (BackupKind::Tar, Compression::Gzip);
        let experience = Experience {
            unpacked: vec![
                (BackupKind::Tar, Compression::None, measured(3_000_000, 100.0)),
                (gzip.0, gzip.1, measured(1_000, 10.0)),
                (gzip.0, gzip.1, measured(3_000_000, 2.0)),
                (gzip.0, gzip.1, measured(6_000_000, 4.0)),
            ],
            combined: Vec::new(),
            replayed: vec![(true, measured(20_000_000, 50.0)), (false, measured(16_777_504, 4.0))],
            tried: vec![(Compression::Gzip, Tried { read: 1000, became: 5000, seconds: 0.1 })],
        };
        let estimate = of(&experience);
        assert!((estimate.unpack_s.unwrap() - 2.0).abs() < 1e-9, "{estimate:?}");
        assert!((estimate.replay_s.unwrap() - 4.0).abs() < 1e-9, "{estimate:?}");
        assert!(estimate.basis.contains("the last 2 recoveries") && !estimate.basis.contains("assumed"));
    }

    #[test]
    fn it_is_told_what_was_learnt_from_drills() {
        let told = |drills: &[bool]| {
            let measured = drills.iter().map(|of_drill| Measured { of_drill: *of_drill, ..measured(1 << 30, 1.0) });
            let replayed = measured.map(|measured| (false, measured)).collect();
            of(&Experience { replayed, ..Experience::default() }).basis
        };
        assert!(told(&[true]).ends_with("measured here in one drill"), "{}", told(&[true]));
        assert!(told(&[true; 7]).ends_with("measured here in 5 drills"), "{}", told(&[true; 7]));
        assert!(told(&[true, false, true]).ends_with("the last 3 recoveries, 2 of them drills"));
        assert!(told(&[false, true]).ends_with("the last 2 recoveries, one of them a drill"));
    }

    #[test]
    fn what_was_tried_counts_before_what_is_assumed() {
        let tried = Tried { read: 1_000_000, became: 10_000_000, seconds: 0.1 };
        let estimate = of(&Experience { tried: vec![(Compression::Gzip, tried)], ..Experience::default() });
        assert!((estimate.unpack_s.unwrap() - (38e6 / 100e6 + 38e6 / ASSUMED_WRITE)).abs() < 1e-9, "{estimate:?}");
        assert!(estimate.basis.contains("tried just now"), "{}", estimate.basis);
        let nothing = Tried { read: 0, became: 0, seconds: 0.0 };
        let estimate = of(&Experience { tried: vec![(Compression::Gzip, nothing)], ..Experience::default() });
        assert!(estimate.total_s.unwrap().is_finite());
    }
}
