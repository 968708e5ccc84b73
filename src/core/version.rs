//! What each PostgreSQL major can do and calls things. With `wal/layout.rs` the only place that compares versions.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A PostgreSQL major version, like 15.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PgMajor(pub u16);

/// `CATALOG_VERSION_NO` of each released major (`src/include/catalog/catversion.h`).
const CATALOG_VERSIONS: [(u32, PgMajor); 6] = [
    (202_007_201, PgMajor(13)),
    (202_107_181, PgMajor(14)),
    (202_209_061, PgMajor(15)),
    (202_307_071, PgMajor(16)),
    (202_406_281, PgMajor(17)),
    (202_506_291, PgMajor(18)),
];

/// Where the locale stands in a row of `pg_database`. Places are bytes from the first column on; numbers of columns
/// are `attnum`s.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseLocaleColumns {
    /// In names of 64 bytes. Nothing is known about the version of a collation (up to 14).
    Names {
        /// The place of `datcollate`.
        collate: usize,
        /// The place of `datctype`.
        ctype: usize,
    },
    /// In texts behind all columns of a fixed length, one after the other (from 15 on).
    Texts {
        /// The place of `datlocprovider`.
        provider: usize,
        /// The place of `datcollate`, the first text.
        texts: usize,
        /// The number of `datcollate`; `datctype` follows it.
        first: usize,
        /// The number of `datcollversion`, which has only texts before it from `datcollate` on.
        version: usize,
    },
}

impl PgMajor {
    /// The oldest that Walback recovers.
    pub const OLDEST: PgMajor = PgMajor(13);
    /// The newest that Walback recovers.
    pub const NEWEST: PgMajor = PgMajor(18);

    /// All that Walback recovers, the oldest first.
    pub fn supported() -> impl DoubleEndedIterator<Item = PgMajor> {
        (Self::OLDEST.0..=Self::NEWEST.0).map(PgMajor)
    }

    /// Whether Walback knows this major's files and behaviour.
    #[must_use]
    pub fn is_supported(self) -> bool {
        (Self::OLDEST..=Self::NEWEST).contains(&self)
    }

    /// From `PG_VERSION`, a server's `--version`, or a manual setting: the number before the first dot.
    #[must_use]
    pub fn parse(text: &str) -> Option<PgMajor> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let major: u16 = text.get(..end)?.parse().ok()?;
        // Before 10, the major had two parts (9.6); none of them is of use here, but none may look like a 9.
        (major >= 1).then_some(PgMajor(major))
    }

    /// By `pg_control`'s catalog version, which alone tells 13 to 16 apart there.
    #[must_use]
    pub fn from_catalog_version(catalog_version: u32) -> Option<PgMajor> {
        CATALOG_VERSIONS.iter().find(|(number, _)| *number == catalog_version).map(|(_, major)| *major)
    }

    /// Recovery asks the archive for segments ahead of replay (`recovery_prefetch`, from 15 on).
    #[must_use]
    pub fn has_recovery_prefetch(self) -> bool {
        self >= PgMajor(15)
    }

    /// Archiving can be done by a library, which has to be switched off too (`archive_library`, from 15 on).
    #[must_use]
    pub fn has_archive_library(self) -> bool {
        self >= PgMajor(15)
    }

    /// A file can trigger promotion (`promote_trigger_file`, up to 15).
    #[must_use]
    pub fn has_promote_trigger_file(self) -> bool {
        self <= PgMajor(15)
    }

    /// Statistics are kept in files of a directory that can be set (`stats_temp_directory`, up to 14).
    #[must_use]
    pub fn has_stats_temp_directory(self) -> bool {
        self <= PgMajor(14)
    }

    /// Backups are bracketed by `pg_backup_start` and `pg_backup_stop` (from 15 on), before by `pg_start_backup` …
    #[must_use]
    pub fn has_pg_backup_start(self) -> bool {
        self >= PgMajor(15)
    }

    /// Where in a row of `pg_class` its `relkind` stands: 18 put `relallfrozen` in front of it
    /// (`src/include/catalog/pg_class.h`).
    #[must_use]
    pub fn pg_class_kind_at(self) -> usize {
        if self.0 >= 18 { 119 } else { 115 }
    }

    /// A server refuses WAL that was written with `wal_level = minimal` (from 14 on); 13 warns and goes on.
    #[must_use]
    pub fn refuses_minimal_wal(self) -> bool {
        self >= PgMajor(14)
    }

    /// Extensions may have records of their own in WAL (from 15 on).
    #[must_use]
    pub fn has_custom_resource_managers(self) -> bool {
        self >= PgMajor(15)
    }

    /// Where the locale stands in a row of `pg_database` (`src/include/catalog/pg_database.h`).
    #[must_use]
    pub fn pg_database_locale(self) -> DatabaseLocaleColumns {
        match self.0 {
            ..15 => DatabaseLocaleColumns::Names { collate: 76, ctype: 140 },
            15 => DatabaseLocaleColumns::Texts { provider: 76, texts: 96, first: 12, version: 15 },
            16 => DatabaseLocaleColumns::Texts { provider: 76, texts: 96, first: 12, version: 16 },
            _ => DatabaseLocaleColumns::Texts { provider: 76, texts: 96, first: 13, version: 17 },
        }
    }

    /// Whether a `pg_dumpall` of this version reads a server of that one: it refuses those that are newer
    /// (`_check_database_version`, `src/bin/pg_dump/pg_backup_db.c`, and `connectDatabase`, `pg_dumpall.c`).
    #[must_use]
    pub fn dumps(self, server: PgMajor) -> bool {
        self >= server
    }

    /// Whether `pg_amcheck` knows it: what that looks at heaps with (`verify_heapam`) came with 14.
    #[must_use]
    pub fn has_amcheck_program(self) -> bool {
        self >= PgMajor(14)
    }

    /// `pg_get_wal_replay_pause_state()` tells a pause that was asked for from one that has come (from 14 on).
    #[must_use]
    pub fn has_pause_state(self) -> bool {
        self >= PgMajor(14)
    }
}

impl fmt::Display for PgMajor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn majors_are_read_from_what_postgresql_writes() {
        for (text, major) in [("15\n", 15), ("15.18 (Debian 15.18-0+deb12u1)", 15), ("9.6", 9), ("18beta1", 18)] {
            assert_eq!(PgMajor::parse(text), Some(PgMajor(major)), "{text:?}");
        }
        for bad in ["", "x", "99999", "0"] {
            assert_eq!(PgMajor::parse(bad), None, "{bad:?}");
        }
        assert!(!PgMajor(9).is_supported() && PgMajor(13).is_supported() && !PgMajor(19).is_supported());
    }
}
