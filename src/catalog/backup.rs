//! Base backups, as far as they can be known without unpacking them.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize, Serializer};

use crate::core::time::Timestamp;
use crate::core::{Lsn, PgMajor, SegmentName, SegmentSize, TimelineId};

use super::{Compression, IncrementalFrom};

/// How a base backup is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum BackupKind {
    /// `base.tar` and its companions, as `pg_basebackup --format=tar` writes them, or one tar of a data directory.
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
    /// A name unique among the backups of a source: its directory's or its tar's, with as many parents as that takes.
    pub id: String,
    /// How it is kept.
    pub kind: BackupKind,
    /// The directory that holds it, or the one tar that it is.
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
    /// Whether it has a `backup_manifest` of its own, and not only that of an earlier backup, which a copied server was
    /// restored from.
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
    /// The directory in the tar that holds its contents, as the tar writes it (`./main`); empty where they lie at the
    /// top. Everything beside it belongs to no part, or to another one.
    #[serde(default, skip_serializing_if = "is_top")]
    pub inside: PathBuf,
}

#[allow(clippy::ptr_arg, reason = "serde hands a reference to the field")]
fn is_top(inside: &PathBuf) -> bool {
    inside.as_os_str().is_empty()
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

impl Part {
    /// What an entry of the tar is called in the directory that the part holds; `None` for one that lies elsewhere. A
    /// name that climbs up is left as it is, for whoever reads it to refuse.
    #[must_use]
    pub fn name_inside(&self, entry: &Path) -> Option<PathBuf> {
        if is_top(&self.inside) || entry.components().any(|part| part == Component::ParentDir) {
            return Some(entry.to_owned());
        }
        named(entry).strip_prefix(named(&self.inside)).ok().map(Path::to_owned)
    }

    /// The directories of other parts that lie inside of this one, by their names in it: a tablespace whose files were
    /// copied in the place of its link.
    #[must_use]
    pub fn others_inside(&self, parts: &[Part]) -> Vec<PathBuf> {
        let others = parts.iter().filter(|other| other.holds != self.holds);
        let below = others.filter_map(|other| match other.path == self.path {
            true => named(&other.inside).strip_prefix(named(&self.inside)).ok().map(Path::to_owned),
            false => other.path.strip_prefix(&self.path).ok().map(Path::to_owned),
        });
        below.filter(|name| !is_top(name)).collect()
    }
}

/// The names in a path, without what says nothing in a tar: `.`, and a slash at the front.
fn named(path: &Path) -> PathBuf {
    path.components().filter(|part| matches!(part, Component::Normal(_))).collect()
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

    /// Where its manifest is, if it has one of its own: in its directory, or beside its only tar.
    #[must_use]
    pub fn manifest_path(&self) -> PathBuf {
        let is_tar = self.parts.first().is_some_and(|part| part.path == self.location);
        match self.kind {
            BackupKind::Tar if is_tar => self.location.with_file_name("backup_manifest"),
            _ => self.location.join("backup_manifest"),
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

#[cfg(test)]
mod tests {
    use super::*;

    fn part(inside: &str, holds: PartContents) -> Part {
        let (path, compression) = ("/b/a.tar".into(), Compression::None);
        Part { path, holds, compression, size_bytes: 1, inside: inside.into() }
    }

    #[test]
    fn an_entry_is_called_by_its_name_in_the_part() {
        let called = |inside: &str, entry: &str| part(inside, PartContents::Data).name_inside(Path::new(entry));
        for inside in ["main", "./main", "/main", "main/"] {
            for entry in ["main/base/1", "./main/base/1", "/main/./base/1"] {
                assert_eq!(called(inside, entry), Some("base/1".into()), "{inside} {entry}");
            }
            assert_eq!(called(inside, "main/"), Some("".into()));
            assert_eq!((called(inside, "mains/x"), called(inside, "other")), (None, None));
            // Never taken for another name than it has: it is refused by that.
            assert_eq!(called(inside, "main/../../x"), Some("main/../../x".into()));
        }
        assert_eq!(called("", "/etc/passwd"), Some("/etc/passwd".into()));
        assert_eq!(called("", "./base"), Some("./base".into()));
    }

    #[test]
    fn what_lies_in_another_part_is_known() {
        let parts = [
            part("./main", PartContents::Data),
            part("./main/pg_tblspc/16385", PartContents::Tablespace(16385)),
            Part { path: "/b/16386.tar".into(), ..part("", PartContents::Tablespace(16386)) },
        ];
        assert_eq!(parts[0].others_inside(&parts), [PathBuf::from("pg_tblspc/16385")]);
        assert_eq!(parts[1].others_inside(&parts), Vec::<PathBuf>::new());
        let directory = Part { path: "/b/data".into(), ..part("", PartContents::Data) };
        let copied = Part { path: "/b/data/pg_tblspc/16385".into(), ..part("", PartContents::Tablespace(16385)) };
        assert_eq!(directory.others_inside(&[directory.clone(), copied]), [PathBuf::from("pg_tblspc/16385")]);
    }
}
