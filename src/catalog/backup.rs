//! Base backups, as far as they can be known without unpacking them.

use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};

use crate::core::time::Timestamp;
use crate::core::{Lsn, PgMajor, SegmentName, SegmentSize, TimelineId};

use super::{Compression, IncrementalFrom};

/// How a base backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupKind {
    /// `base.tar` and its companions, as `pg_basebackup --format=tar` writes them.
    #[serde(rename = "basebackup-tar")]
    Tar,
    /// A directory like a data directory, as `pg_basebackup --format=plain` writes it.
    #[serde(rename = "basebackup-dir")]
    Directory,
}

/// A tablespace of a base backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its OID, the name of its link below `pg_tblspc`.
    pub oid: u32,
    /// Where it was on the original server; of a backup that is a directory, where the copy is. Never written to.
    pub location: String,
    /// Bytes its files take, where that is known before it is unpacked.
    #[serde(default)]
    pub size_bytes: Option<u64>,
}

/// A base backup. What cannot be known is `None`; what is broken is in `problems`, and a backup with problems is
/// listed but never recovered from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// A name unique among the backups of a source: its directory's, with as many parents as that takes.
    pub id: String,
    /// How it is kept.
    pub kind: BackupKind,
    /// The directory that holds it.
    pub location: PathBuf,
    /// How its files are compressed.
    pub compression: Compression,
    /// The major version of the server it was taken from.
    pub pg_version: Option<PgMajor>,
    /// Which cluster it is of.
    #[serde(serialize_with = "as_text", deserialize_with = "from_text")]
    pub system_identifier: Option<u64>,
    /// The size of the cluster's segments, in bytes.
    pub segment_size: Option<SegmentSize>,
    /// The timeline it was taken on.
    pub timeline: Option<TimelineId>,
    /// Where redo starts.
    pub start_lsn: Option<Lsn>,
    /// The first segment that its recovery needs.
    #[serde(serialize_with = "segment_as_text", deserialize_with = "segment_from_text")]
    pub start_wal: Option<SegmentName>,
    /// Where it ended, the earliest place at which its recovery can stop.
    pub stop_lsn: Option<Lsn>,
    /// When it was begun.
    pub started_at: Option<Timestamp>,
    /// When it ended, to the second.
    pub finished_at: Option<Timestamp>,
    /// Bytes it takes where it is.
    pub size_bytes: u64,
    /// Bytes its files take when unpacked, without WAL.
    pub unpacked_bytes: Option<u64>,
    /// The backup that an incremental one builds on, where it was found.
    pub parent: Option<String>,
    /// Where that begins; `None` for a full backup.
    #[serde(default)]
    pub incremental_from: Option<IncrementalFrom>,
    /// Its tablespaces besides `pg_default` and `pg_global`.
    pub tablespaces: Vec<Tablespace>,
    /// Whether it has a `backup_manifest`.
    pub manifest: bool,
    /// The label it was given.
    pub label: Option<String>,
    /// Whether it was taken from a standby.
    pub from_standby: bool,
    /// The zone in which its server wrote its log: the setting `log_timezone` where it could be read, else the
    /// abbreviation behind the label's `START TIME`.
    #[serde(default)]
    pub log_timezone: Option<String>,
    /// The tar files or the directory itself: what unpacking reads, the main part first.
    pub parts: Vec<Part>,
    /// Segments that it brings along in its own `pg_wal`.
    #[serde(skip)]
    pub own_wal: Vec<SegmentName>,
    /// What is broken about it, in words; empty for a backup that can be used.
    pub problems: Vec<String>,
}

/// A file (or the directory) of a base backup, and where its contents belong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Where it lies.
    pub path: PathBuf,
    /// What it holds.
    pub holds: PartContents,
    /// How it is compressed.
    pub compression: Compression,
    /// Its bytes as they are.
    pub size_bytes: u64,
}

/// What a part of a base backup holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PartContents {
    /// The data directory.
    Data,
    /// The contents of `pg_wal`.
    Wal,
    /// The tablespace of this OID.
    Tablespace(u32),
}

impl Backup {
    /// A backup of which only the place is known, and how it is kept there.
    #[must_use]
    pub fn at(location: impl Into<PathBuf>, kind: BackupKind, compression: Compression) -> Backup {
        Backup {
            id: String::new(),
            kind,
            location: location.into(),
            compression,
            pg_version: None,
            system_identifier: None,
            segment_size: None,
            timeline: None,
            start_lsn: None,
            start_wal: None,
            stop_lsn: None,
            started_at: None,
            finished_at: None,
            size_bytes: 0,
            unpacked_bytes: None,
            parent: None,
            incremental_from: None,
            tablespaces: Vec::new(),
            manifest: false,
            label: None,
            from_standby: false,
            log_timezone: None,
            parts: Vec::new(),
            own_wal: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// Whether it can be recovered from, as far as can be seen.
    #[must_use]
    pub fn is_usable(&self) -> bool {
        self.problems.is_empty()
    }
}

#[allow(clippy::ref_option, reason = "serde hands references to the field")]
fn as_text<S: Serializer>(id: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
    match id {
        Some(id) => serializer.collect_str(id),
        None => serializer.serialize_none(),
    }
}

fn from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| text.parse().map_err(serde::de::Error::custom)).transpose()
}

#[allow(clippy::ref_option, reason = "serde hands references to the field")]
fn segment_as_text<S: Serializer>(name: &Option<SegmentName>, serializer: S) -> Result<S::Ok, S::Error> {
    name.serialize(serializer)
}

fn segment_from_text<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<SegmentName>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    text.map(|text| SegmentName::parse(&text).ok_or_else(|| serde::de::Error::custom("not a segment's name")))
        .transpose()
}
