//! WAL segments and the names of the files in an archive.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::lsn::Lsn;
use super::timeline::TimelineId;

/// The size of a cluster's WAL segments: a power of two from 1 MiB to 1 GiB (`IsValidWalSegSize`,
/// `src/include/access/xlog_internal.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentSize(u32);

impl SegmentSize {
    /// 16 MiB, what `initdb` uses unless told otherwise.
    pub const DEFAULT: SegmentSize = SegmentSize(16 << 20);

    /// `None` where no cluster can have segments of that many bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Option<SegmentSize> {
        (bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes)).then_some(SegmentSize(bytes))
    }

    /// In bytes.
    #[must_use]
    pub fn bytes(self) -> u64 {
        u64::from(self.0)
    }

    /// Segments in 4 GiB of WAL: where the middle eight digits of a file name are counted up.
    #[must_use]
    pub fn per_log_id(self) -> u64 {
        (1 << 32) / self.bytes()
    }

    /// The number of the segment that holds the byte at `lsn`.
    #[must_use]
    pub fn number_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.bytes()
    }

    /// Where segment `number` starts.
    #[must_use]
    pub fn start_of(self, number: u64) -> Lsn {
        Lsn(number.saturating_mul(self.bytes()))
    }
}

/// The name of a segment's file: `TTTTTTTTLLLLLLLLSSSSSSSS`. Ordered by timeline, then position.
///
/// What the last sixteen digits mean depends on the segment size, so they are kept as they are read and are
/// turned into a number with a [`SegmentSize`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline in the file's name. Pages inside may carry an older one.
    pub timeline: TimelineId,
    /// The middle eight digits.
    pub log: u32,
    /// The last eight digits.
    pub seg: u32,
}

impl SegmentName {
    /// The name of segment `number` on `timeline`.
    #[must_use]
    pub fn new(timeline: TimelineId, number: u64, size: SegmentSize) -> SegmentName {
        let per_log_id = size.per_log_id();
        SegmentName { timeline, log: (number / per_log_id) as u32, seg: (number % per_log_id) as u32 }
    }

    /// The segment's number, counted from the start of WAL.
    #[must_use]
    pub fn number(self, size: SegmentSize) -> u64 {
        u64::from(self.log) * size.per_log_id() + u64::from(self.seg)
    }

    /// Where the segment starts.
    #[must_use]
    pub fn start(self, size: SegmentSize) -> Lsn {
        size.start_of(self.number(size))
    }

    /// From exactly 24 upper-case hexadecimal digits.
    #[must_use]
    pub fn parse(name: &str) -> Option<SegmentName> {
        if name.len() != 24 {
            return None;
        }
        Some(SegmentName {
            timeline: TimelineId(hex8(name.get(0..8)?)?),
            log: hex8(name.get(8..16)?)?,
            seg: hex8(name.get(16..24)?)?,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.log, self.seg)
    }
}

impl Serialize for SegmentName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for SegmentName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SegmentName, D::Error> {
        let name = String::deserialize(deserializer)?;
        SegmentName::parse(&name).ok_or_else(|| serde::de::Error::custom("not a segment's name"))
    }
}

/// What a file of a WAL archive is, by its name (`src/include/access/xlog_internal.h`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ArchiveFile {
    /// A whole segment.
    Segment(SegmentName),
    /// `SEGMENT.partial`: the last one of a timeline that ended, or the one being received. Recovery never asks for it.
    Partial(SegmentName),
    /// `TTTTTTTT.history`.
    History(TimelineId),
    /// `SEGMENT.OOOOOOOO.backup`: where a base backup taken from a primary began and ended.
    BackupHistory(SegmentName, u32),
}

impl ArchiveFile {
    /// `None` where the name is none that PostgreSQL gives to an archived file.
    #[must_use]
    pub fn parse(name: &str) -> Option<ArchiveFile> {
        if let Some(history) = name.strip_suffix(".history") {
            return (history.len() == 8).then(|| hex8(history).map(|id| Self::History(TimelineId(id))))?;
        }
        if let Some(partial) = name.strip_suffix(".partial") {
            return SegmentName::parse(partial).map(Self::Partial);
        }
        if let Some(backup) = name.strip_suffix(".backup") {
            let (segment, offset) = backup.split_once('.')?;
            return (offset.len() == 8)
                .then(|| Some(Self::BackupHistory(SegmentName::parse(segment)?, hex8(offset)?)))?;
        }
        SegmentName::parse(name).map(Self::Segment)
    }

    /// The segment that it is, where it is a whole one.
    #[must_use]
    pub fn whole_segment(self) -> Option<SegmentName> {
        match self {
            Self::Segment(name) => Some(name),
            _ => None,
        }
    }
}

impl fmt::Display for ArchiveFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(name) => write!(f, "{name}"),
            Self::Partial(name) => write!(f, "{name}.partial"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.0),
            Self::BackupHistory(name, offset) => write!(f, "{name}.{offset:08X}.backup"),
        }
    }
}

/// Eight upper-case hexadecimal digits, as every name above is made of.
fn hex8(digits: &str) -> Option<u32> {
    let upper = digits.bytes().all(|b| b.is_ascii_digit() || (b'A'..=b'F').contains(&b));
    if upper { u32::from_str_radix(digits, 16).ok() } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_those_of_pg_walfile_name() {
        let name = |lsn, size: SegmentSize| SegmentName::new(TimelineId(2), size.number_of(Lsn(lsn)), size).to_string();
        assert_eq!(name(0x1_AB12_33F8, SegmentSize::DEFAULT), "0000000200000001000000AB");
        assert_eq!(name(0x1_AB12_33F8, SegmentSize(1 << 20)), "000000020000000100000AB1");
        assert_eq!(name(0x1_AB12_33F8, SegmentSize(1 << 30)), "000000020000000100000002");
    }

    #[test]
    fn archive_names_are_told_apart() {
        let segment = SegmentName { timeline: TimelineId(1), log: 0, seg: 2 };
        let file = ArchiveFile::parse;
        assert_eq!(file("000000010000000000000002"), Some(ArchiveFile::Segment(segment)));
        assert_eq!(file("000000010000000000000002.partial"), Some(ArchiveFile::Partial(segment)));
        assert_eq!(file("0000000A.history"), Some(ArchiveFile::History(TimelineId(10))));
        assert_eq!(file("000000010000000000000002.00000028.backup"), Some(ArchiveFile::BackupHistory(segment, 0x28)));
        for other in [
            "",
            "0000000a.history",
            "00000001000000000000000g",
            "000000010000000000000002.gz",
            "000000010000000000000002.0028.backup",
            "A.history",
            "0000000é.history",
            "archive_status",
        ] {
            assert_eq!(file(other), None, "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn names_read_back(timeline: u32, log: u32, seg: u32, offset: u32) {
            let name = SegmentName { timeline: TimelineId(timeline), log, seg };
            for file in [
                ArchiveFile::Segment(name), ArchiveFile::Partial(name),
                ArchiveFile::History(TimelineId(timeline)), ArchiveFile::BackupHistory(name, offset),
            ] {
                prop_assert_eq!(ArchiveFile::parse(&file.to_string()), Some(file));
            }
        }

        #[test]
        fn numbers_and_names_agree(number in 0u64..1 << 40, shift in 20u32..=30) {
            let size = SegmentSize(1 << shift);
            let number = number % ((1u64 << 32) * size.per_log_id());
            prop_assert_eq!(SegmentName::new(TimelineId(1), number, size).number(size), number);
            prop_assert_eq!(size.number_of(size.start_of(number)), number);
        }

        #[test]
        fn no_name_makes_it_panic(name in "\\PC*") {
            let _ = ArchiveFile::parse(&name);
        }
    }
}
