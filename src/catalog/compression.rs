//! How files are packed, by their names and by the bytes that they begin with: the one place that decides it.

use serde::{Deserialize, Serialize};

use crate::core::ArchiveFile;

/// How a file of a base backup or of an archive is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    None,
    /// gzip, `.gz`.
    Gzip,
    /// LZ4 frames, `.lz4`.
    Lz4,
    /// Zstandard, `.zst`.
    Zstd,
    /// xz, `.xz`.
    Xz,
    /// bzip2, `.bz2`.
    Bzip2,
}

impl Compression {
    /// Those that pack.
    pub const PACKED: [Compression; 5] = [Self::Gzip, Self::Lz4, Self::Zstd, Self::Xz, Self::Bzip2];

    /// Those in which segments are looked for, in this order.
    pub const OF_SEGMENTS: [Compression; 6] = [Self::None, Self::Gzip, Self::Lz4, Self::Zstd, Self::Xz, Self::Bzip2];

    /// By the ending of a file's name, which is cut off: `base.tar.gz` → (`base.tar`, gzip).
    #[must_use]
    pub fn of_name(name: &str) -> (&str, Compression) {
        for compression in Self::PACKED {
            if let Some(stem) = name.strip_suffix(compression.ending()) {
                return (stem, compression);
            }
        }
        (name, Self::None)
    }

    /// By the bytes that a file begins with; `None` also where these are of no form that is known. WAL never begins
    /// like a packed file: its second byte is 0xD1 (`XLOG_PAGE_MAGIC`, `src/include/access/xlog_internal.h`).
    #[must_use]
    pub fn of_contents(first_bytes: &[u8]) -> Compression {
        let known = Self::PACKED.into_iter().find(|form| first_bytes.starts_with(form.magic()));
        known.unwrap_or(Self::None)
    }

    /// How a file is packed whose name says this, by the bytes that it begins with: a name without an ending says nothing,
    /// since Barman packs files and leaves them their names (all of its `compression`s).
    #[must_use]
    pub fn or_of_contents(self, first_bytes: &[u8]) -> Compression {
        if self == Self::None { Self::of_contents(first_bytes) } else { self }
    }

    /// What a file of this form begins with. A file of zstd or LZ4 may also begin with a frame to be skipped.
    #[must_use]
    pub fn magic(self) -> &'static [u8] {
        match self {
            Self::None => &[],
            Self::Gzip => &[0x1F, 0x8B],
            Self::Lz4 => &[0x04, 0x22, 0x4D, 0x18],
            Self::Zstd => &[0x28, 0xB5, 0x2F, 0xFD],
            Self::Xz => &[0xFD, b'7', b'z', b'X', b'Z', 0],
            Self::Bzip2 => b"BZh",
        }
    }

    /// Holds a file's name against its contents, as far as its first bytes tell.
    ///
    /// # Errors
    /// In words, where it is packed in another way than the ending of its name says: what unpacks it by its name would
    /// fail. A name without an ending says nothing.
    pub fn check_contents(self, first_bytes: &[u8]) -> Result<(), String> {
        let found = Self::of_contents(first_bytes);
        if self == Self::None || found == Self::None || found == self {
            return Ok(());
        }
        let (found, ending) = (found.name(), found.ending());
        Err(format!("it is packed with {found}, and its name ends in {} instead of {ending}", self.ending()))
    }

    /// What it adds to a file's name.
    #[must_use]
    pub fn ending(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Gzip => ".gz",
            Self::Lz4 => ".lz4",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
        }
    }

    /// The program that unpacks it from its input to its output, and its options; `None` where none is needed.
    #[must_use]
    pub fn program(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::None => None,
            Self::Gzip => Some(("gzip", "-dc")),
            Self::Lz4 => Some(("lz4", "-dcq")),
            Self::Zstd => Some(("zstd", "-dcq")),
            Self::Xz => Some(("xz", "-dcq")),
            Self::Bzip2 => Some(("bzip2", "-dcq")),
        }
    }

    /// Its name as the contract has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
        }
    }
}

/// The package of Debian that has a program of [`Compression::program`].
#[must_use]
pub fn package_of(program: &str) -> &str {
    if program == "xz" { "xz-utils" } else { program }
}

/// What a file of an archive is, and how it is packed, by its name; `None` where it is none that PostgreSQL or
/// `pg_receivewal` gives.
///
/// `pg_receivewal --compress` puts `.partial` behind the ending of the compression, an `archive_command` that packs what
/// a promotion leaves puts it before that.
#[must_use]
pub fn archived(name: &str) -> Option<(ArchiveFile, Compression)> {
    let (stem, compression) = Compression::of_name(name);
    if let Some(file) = ArchiveFile::parse(stem) {
        return Some((file, compression));
    }
    match Compression::of_name(name.strip_suffix(PARTIAL)?) {
        (_, Compression::None) => None,
        (stem, compression) => Some((ArchiveFile::Partial(ArchiveFile::parse(stem)?.whole_segment()?), compression)),
    }
}

/// The name under which an archive has a file that is packed in this way. Of a packed `.partial`, that is the one that an
/// `archive_command` gives, see [`names_of`].
#[must_use]
pub fn name_of(file: ArchiveFile, compression: Compression) -> String {
    format!("{file}{}", compression.ending())
}

/// The names under which an archive may have a file that is packed in this way.
#[must_use]
pub fn names_of(file: ArchiveFile, compression: Compression) -> Vec<String> {
    let ending = compression.ending();
    match file {
        ArchiveFile::Partial(segment) if compression != Compression::None => {
            vec![format!("{segment}{PARTIAL}{ending}"), format!("{segment}{ending}{PARTIAL}")]
        }
        _ => vec![name_of(file, compression)],
    }
}

/// Whether a packed file of this name may hold less than a segment, or break off: `pg_receivewal` fills only plain files
/// with zeros beforehand (`dir_open_for_write`, `walmethods.c` of 13 to 18), and may still be writing to it.
#[must_use]
pub fn may_be_short(name: &str) -> bool {
    name.ends_with(PARTIAL) && archived(name).is_some_and(|(_, compression)| compression != Compression::None)
}

/// Ends the name of a segment that is not known to be whole.
const PARTIAL: &str = ".partial";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{SegmentName, TimelineId};
    use proptest::prelude::*;

    #[test]
    fn a_name_tells_the_file_and_its_form() {
        let segment = SegmentName { timeline: TimelineId(1), log: 0, seg: 2 };
        let (whole, partial) = (ArchiveFile::Segment(segment), ArchiveFile::Partial(segment));
        for (name, expected) in [
            ("000000010000000000000002", Some((whole, Compression::None))),
            ("000000010000000000000002.xz", Some((whole, Compression::Xz))),
            ("000000010000000000000002.bz2", Some((whole, Compression::Bzip2))),
            ("000000010000000000000002.partial", Some((partial, Compression::None))),
            ("000000010000000000000002.partial.gz", Some((partial, Compression::Gzip))),
            ("000000010000000000000002.gz.partial", Some((partial, Compression::Gzip))),
            ("000000010000000000000002.lz4.partial", Some((partial, Compression::Lz4))),
            ("00000002.history.zst", Some((ArchiveFile::History(TimelineId(2)), Compression::Zstd))),
            ("00000002.history.gz.partial", None),
            ("000000010000000000000002.gz.xz", None),
            ("000000010000000000000002.gz.partial.gz", None),
            ("000000010000000000000002.partial.partial", None),
            (".gz.partial", None),
        ] {
            assert_eq!(archived(name), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_that_is_looked_for_is_known(
            seg: u32, form in prop::sample::select(&Compression::OF_SEGMENTS), kind in 0..4,
        ) {
            let segment = SegmentName { timeline: TimelineId(3), log: 1, seg };
            let file = match kind {
                0 => ArchiveFile::Segment(segment),
                1 => ArchiveFile::Partial(segment),
                2 => ArchiveFile::History(TimelineId(seg)),
                _ => ArchiveFile::BackupHistory(segment, seg),
            };
            for name in names_of(file, form) {
                prop_assert_eq!(archived(&name), Some((file, form)), "{}", &name);
                prop_assert_eq!(may_be_short(&name), kind == 1 && !form.ending().is_empty() && name.ends_with(PARTIAL));
            }
        }

        #[test]
        fn no_name_makes_it_panic(name in "[0-9A-F.a-z]{0,40}") {
            let _ = (archived(&name), may_be_short(&name));
        }
    }

    #[test]
    fn what_is_packed_otherwise_than_its_name_says_is_named() {
        let xz = Compression::Xz.magic();
        assert_eq!(Compression::of_contents(xz), Compression::Xz);
        assert_eq!(Compression::Xz.check_contents(xz), Ok(()));
        assert!(Compression::Gzip.check_contents(xz).unwrap_err().contains("ends in .gz instead of .xz"));
        assert_eq!(Compression::None.check_contents(xz), Ok(()), "a name without an ending says nothing");
        assert_eq!(Compression::None.or_of_contents(xz), Compression::Xz);
        assert_eq!(Compression::Gzip.or_of_contents(xz), Compression::Gzip);
        assert_eq!(Compression::None.or_of_contents(&[0x18, 0xD1, 5, 0]), Compression::None);
        for unknown in [&[][..], &[0x1F], &[0x18, 0xD1, 5, 0], &[0x50, 0x2A, 0x4D, 0x18]] {
            assert_eq!(Compression::Zstd.check_contents(unknown), Ok(()), "{unknown:?}");
        }
    }
}
