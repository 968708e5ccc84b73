//! `backup_manifest`: every file of a base backup with its size and checksum, and the WAL that it needs.

use std::borrow::Cow;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Deserializer};
use sha2::{Digest, Sha256};

use crate::core::{Lsn, TimelineId};

/// A manifest whose own checksum is right (`src/backend/backup/backup_manifest.c`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// 1 (PostgreSQL 13 to 16) or 2 (from 17).
    pub version: u32,
    /// The cluster that the backup is of; only version 2 tells it.
    pub system_identifier: Option<u64>,
    /// The files, in the order in which they were sent. WAL is not among them.
    pub files: Vec<ManifestFile>,
    /// The WAL without which the backup is not consistent.
    pub wal_ranges: Vec<WalRange>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ManifestFile {
    /// Relative to the data directory, with ordinary components only. Bytes, as the file system has them: a name
    /// that is no UTF-8 stands in the manifest as `Encoded-Path` in hexadecimal. Files in tablespaces stand under
    /// `pg_tblspc/OID/`.
    pub path: PathBuf,
    /// In bytes.
    pub size: u64,
    /// `None` for a backup taken with `--manifest-checksums=NONE`.
    pub checksum: Option<Checksum>,
}

/// A file's checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksum {
    /// How it was computed.
    pub algorithm: ChecksumAlgorithm,
    /// As many bytes as the algorithm gives. Those of a CRC-32C are in little-endian order.
    pub bytes: Vec<u8>,
}

/// The checksums that `pg_basebackup --manifest-checksums` offers (`src/common/checksum_helper.c`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum ChecksumAlgorithm {
    /// CRC-32C, the default.
    Crc32c,
    /// SHA-224.
    Sha224,
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl ChecksumAlgorithm {
    /// How many bytes it gives.
    #[must_use]
    pub fn digest_bytes(self) -> usize {
        match self {
            Self::Crc32c => 4,
            Self::Sha224 => 28,
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

/// A stretch of WAL that a backup needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub struct WalRange {
    /// On which timeline.
    #[serde(rename = "Timeline")]
    pub timeline: TimelineId,
    /// From here, a redo location or a fork.
    #[serde(rename = "Start-LSN")]
    pub start: Lsn,
    /// Up to here; for the last range, where the backup ended.
    #[serde(rename = "End-LSN")]
    pub end: Lsn,
}

/// Why bytes are not a manifest that can be relied on.
#[derive(Debug, thiserror::Error)]
pub enum BadManifest {
    /// The last line is not there.
    #[error("it is cut off: its last line, with its own checksum, is missing")]
    CutOff,
    /// It was changed after it was written.
    #[error("its own SHA-256 does not fit its content: it was changed or damaged after the backup")]
    Checksum,
    /// It is no JSON, or not a manifest's.
    #[error("it is not a backup manifest")]
    NotAManifest(#[source] serde_json::Error),
    /// From a PostgreSQL that is not known yet.
    #[error("its version is {0}; PostgreSQL 13 to 18 write 1 or 2")]
    UnknownVersion(u32),
}

#[derive(Deserialize)]
struct Document<'a> {
    #[serde(rename = "PostgreSQL-Backup-Manifest-Version")]
    version: u32,
    #[serde(rename = "System-Identifier")]
    system_identifier: Option<u64>,
    #[serde(rename = "Files")]
    files: Vec<ManifestFile>,
    #[serde(rename = "WAL-Ranges", default)]
    wal_ranges: Vec<WalRange>,
    #[serde(rename = "Manifest-Checksum", borrow)]
    checksum: Cow<'a, str>,
}

impl Manifest {
    /// Reads a `backup_manifest` and checks the SHA-256 over all that stands before its last line.
    ///
    /// # Errors
    /// See [`BadManifest`]. A file's path that leads out of the data directory is an error too.
    pub fn parse(bytes: &[u8]) -> Result<Manifest, BadManifest> {
        // No string in JSON holds a bare line feed, so that no file's name can look like the last line.
        const LAST_LINE: &[u8] = b"\n\"Manifest-Checksum\"";
        let at = bytes.windows(LAST_LINE.len()).rposition(|w| w == LAST_LINE).ok_or(BadManifest::CutOff)?;
        let document: Document = serde_json::from_slice(bytes).map_err(|error| match error.is_eof() {
            true => BadManifest::CutOff,
            false => BadManifest::NotAManifest(error),
        })?;
        let checked = bytes.get(..=at).unwrap_or_default();
        if unhex(&document.checksum).as_deref() != Some(Sha256::digest(checked).as_slice()) {
            return Err(BadManifest::Checksum);
        }
        if !(1..=2).contains(&document.version) {
            return Err(BadManifest::UnknownVersion(document.version));
        }
        let Document { version, system_identifier, files, wal_ranges, .. } = document;
        Ok(Manifest { version, system_identifier, files, wal_ranges })
    }

    /// Whether it can be that of a base backup that starts here, see [`can_end_at`].
    #[must_use]
    pub fn can_be_of(&self, start: Lsn) -> bool {
        can_end_at(self.end(), start)
    }

    /// Where the backup ended; `None` where nothing is said of WAL.
    #[must_use]
    pub fn end(&self) -> Option<Lsn> {
        self.wal_ranges.iter().map(|range| range.end).max()
    }

    /// Bytes in all files together.
    #[must_use]
    pub fn total_size(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }
}

/// Whether a base backup that starts here can have a manifest whose WAL ends there. A server that was restored from a base
/// backup has its manifest in its directory for ever (`pg_basebackup` writes it there), and whoever copies the directory copies
/// that too: its WAL ends where that of the copy has not begun. `pg_basebackup` itself leaves it out (`excludeFiles`,
/// `basebackup.c` of 13 to 18).
#[must_use]
pub fn can_end_at(end: Option<Lsn>, start: Lsn) -> bool {
    end.is_none_or(|end| end > start)
}

impl<'de> Deserialize<'de> for ManifestFile {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Entry {
            #[serde(rename = "Path")]
            path: Option<String>,
            #[serde(rename = "Encoded-Path")]
            encoded_path: Option<String>,
            #[serde(rename = "Size")]
            size: u64,
            #[serde(rename = "Checksum-Algorithm")]
            algorithm: Option<ChecksumAlgorithm>,
            #[serde(rename = "Checksum")]
            checksum: Option<String>,
        }
        let entry = Entry::deserialize(deserializer)?;
        let bad = |what: &str| serde::de::Error::custom(what);
        let path = match (entry.path, entry.encoded_path) {
            (Some(path), None) => PathBuf::from(path),
            (None, Some(hex)) => {
                let bytes = unhex(&hex).ok_or_else(|| bad("an Encoded-Path is not hexadecimal"))?;
                PathBuf::from(OsString::from_vec(bytes))
            }
            _ => return Err(bad("a file has not one path")),
        };
        if !stays_inside(&path) {
            return Err(bad("a file's path leads out of the data directory"));
        }
        let checksum = match (entry.algorithm, entry.checksum) {
            (Some(algorithm), Some(hex)) => {
                let bytes = unhex(&hex).filter(|bytes| bytes.len() == algorithm.digest_bytes());
                Some(Checksum { algorithm, bytes: bytes.ok_or_else(|| bad("a file's checksum has a wrong length"))? })
            }
            (None, None) => None,
            _ => return Err(bad("a file has a checksum without its algorithm, or the reverse")),
        };
        Ok(ManifestFile { path, size: entry.size, checksum })
    }
}

fn stays_inside(path: &Path) -> bool {
    path.components().all(|part| matches!(part, Component::Normal(_))) && path.components().next().is_some()
}

/// The bytes that an even number of hexadecimal digits stand for.
pub(super) fn unhex(digits: &str) -> Option<Vec<u8>> {
    let value = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    let pair = |pair: &[u8]| match pair {
        [high, low] => Some(value(*high)? << 4 | value(*low)?),
        _ => None,
    };
    digits.as_bytes().chunks(2).map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The lines of a manifest by pg_basebackup 15.18, most files left out.
    const VERSION_1: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 1,
"Files": [
{ "Path": "pg_tblspc/16384/PG_15_202209061/5/16388", "Size": 8192, "Last-Modified": "2026-11-20 20:24:38 GMT", "Checksum-Algorithm": "SHA256", "Checksum": "d475a041314d4b049efa83afb3750cf6ec90a29c6554b08367d27285744dcd06" },
{ "Path": "backup_label", "Size": 211, "Last-Modified": "2026-11-20 20:24:39 GMT", "Checksum-Algorithm": "CRC32C", "Checksum": "23890318" },
{ "Encoded-Path": "626173652ff66e", "Size": 3, "Last-Modified": "2026-11-20 20:24:38 GMT" }
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/3000028", "End-LSN": "0/3000100" }
],
"#;

    /// The whole manifest of a backup by pg_basebackup 18.4 of which the list of files was emptied.
    const VERSION_2: &str = r#"{ "PostgreSQL-Backup-Manifest-Version": 2,
"System-Identifier": 7710353336882378613,
"Files": [
],
"WAL-Ranges": [
{ "Timeline": 1, "Start-LSN": "0/3000028", "End-LSN": "0/3000120" }
],
"#;

    fn signed(body: &str) -> Vec<u8> {
        let digest: String = Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{body}\"Manifest-Checksum\": \"{digest}\"}}\n").into_bytes()
    }

    fn error(body: &str) -> String {
        let error = Manifest::parse(&signed(body)).unwrap_err();
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        format!("{error}: {cause}")
    }

    #[test]
    fn files_and_ranges_are_read() {
        let manifest = Manifest::parse(&signed(VERSION_1)).unwrap();
        assert_eq!((manifest.version, manifest.system_identifier, manifest.total_size()), (1, None, 8192 + 211 + 3));
        let [table, label, odd] = manifest.files.as_slice() else { panic!("{manifest:?}") };
        assert_eq!(table.path, Path::new("pg_tblspc/16384/PG_15_202209061/5/16388"));
        let checksum = table.checksum.as_ref().unwrap();
        assert_eq!((checksum.algorithm, checksum.bytes[0]), (ChecksumAlgorithm::Sha256, 0xD4));
        let checksum = Checksum { algorithm: ChecksumAlgorithm::Crc32c, bytes: vec![0x23, 0x89, 0x03, 0x18] };
        assert_eq!(label.checksum, Some(checksum));
        assert_eq!(odd.path.as_os_str().as_encoded_bytes(), b"base/\xF6n");
        assert_eq!((odd.size, &odd.checksum), (3, &None));
        let range = WalRange { timeline: TimelineId(1), start: Lsn(0x300_0028), end: Lsn(0x300_0100) };
        assert_eq!(manifest.wal_ranges, [range]);
    }

    #[test]
    fn a_system_identifier_beyond_the_exact_range_of_a_float_is_exact() {
        let manifest = Manifest::parse(&signed(VERSION_2)).unwrap();
        assert_eq!((manifest.version, manifest.system_identifier), (2, Some(7_710_353_336_882_378_613)));
    }

    #[test]
    fn a_manifest_whose_wal_ends_before_a_backup_begins_is_not_its_own() {
        let mut manifest = Manifest::parse(&signed(VERSION_1)).unwrap();
        let range = *manifest.wal_ranges.last().unwrap();
        let can_be_of =
            |manifest: &Manifest| [range.start, Lsn(range.end.0 - 1), range.end].map(|start| manifest.can_be_of(start));
        assert_eq!(can_be_of(&manifest), [true, true, false]);
        // One that says nothing of WAL.
        manifest.wal_ranges.clear();
        assert_eq!(can_be_of(&manifest), [true; 3]);
    }

    #[test]
    fn a_changed_manifest_is_refused() {
        let mut changed = signed(VERSION_1);
        let at = changed.windows(3).position(|w| w == b"211").unwrap();
        changed[at] = b'3';
        assert!(matches!(Manifest::parse(&changed), Err(BadManifest::Checksum)));
        let other = String::from_utf8(signed(VERSION_1)).unwrap().replace("\"Manifest-Checksum\": \"", "$&00");
        assert!(Manifest::parse(other.as_bytes()).is_err());
    }

    #[test]
    fn a_manifest_cut_off_anywhere_is_refused() {
        let whole = signed(VERSION_1);
        for len in 0..whole.len() - 1 {
            let result = Manifest::parse(&whole[..len]);
            assert!(matches!(result, Err(BadManifest::CutOff)), "{len} of {} bytes: {result:?}", whole.len());
        }
    }

    #[test]
    fn what_no_server_writes_is_named() {
        assert_eq!(
            error(&VERSION_2.replace("Version\": 2", "Version\": 3")),
            "its version is 3; PostgreSQL 13 to 18 write 1 or 2: "
        );
        let cases = [
            ("\"backup_label\"", "\"../backup_label\"", "leads out"),
            ("\"backup_label\"", "\"/etc/passwd\"", "leads out"),
            ("\"backup_label\"", "\"\"", "leads out"),
            ("626173652ff66e", "62617", "not hexadecimal"),
            ("\"Path\": \"backup_label\", ", "", "not one path"),
            ("\"23890318\"", "\"238903\"", "wrong length"),
            (", \"Checksum\": \"23890318\"", "", "without its algorithm"),
            ("CRC32C", "MD5", "unknown variant `MD5`"),
            ("\"0/3000028\"", "\"3000028\"", "“3000028” is not an LSN"),
            ("211", "-1", "invalid value"),
        ];
        for (from, to, says) in cases {
            assert!(VERSION_1.contains(from), "{from}");
            let error = error(&VERSION_1.replace(from, to));
            assert!(error.starts_with("it is not a backup manifest: ") && error.contains(says), "{to}: {error}");
        }
    }

    #[test]
    fn nested_brackets_do_not_exhaust_the_stack() {
        let deep = format!("{{\"x\": {}\n", "[".repeat(100_000));
        assert!(Manifest::parse(&signed(&deep)).is_err());
    }

    #[test]
    fn a_large_manifest_is_read_in_one_go() {
        let line = "{ \"Path\": \"base/5/N\", \"Size\": 8192, \"Last-Modified\": \"2026-11-20 20:24:38 GMT\", \
                    \"Checksum-Algorithm\": \"CRC32C\", \"Checksum\": \"00000000\" }";
        let lines = (0..20_000).map(|n| line.replace('N', &n.to_string())).collect::<Vec<_>>().join(",\n");
        let manifest = Manifest::parse(&signed(&VERSION_2.replace("[\n]", &format!("[\n{lines}\n]")))).unwrap();
        assert_eq!((manifest.files.len(), manifest.total_size()), (20_000, 20_000 * 8192));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Manifest::parse(&bytes);
        }

        #[test]
        fn no_changed_text_makes_it_panic(at in 0usize..VERSION_1.len(), with in "[ -~]{0,6}", cut in 0usize..9) {
            let end = (at + cut).min(VERSION_1.len());
            let _ = Manifest::parse(&signed(&format!("{}{with}{}", &VERSION_1[..at], &VERSION_1[end..])));
        }

        #[test]
        fn hexadecimal_reads_back(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            prop_assert_eq!(unhex(&digits), Some(bytes));
        }
    }
}
