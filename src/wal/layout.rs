//! The table of everything in WAL that differs between PostgreSQL's majors.
//!
//! Only here are WAL's versions told apart: the rest of `wal` asks the [`Layout`] of the page in hand.

use crate::core::PgMajor;

/// How one major lays out its WAL.
#[derive(Debug, PartialEq, Eq)]
pub struct Layout {
    /// The major that writes it.
    pub major: PgMajor,
    /// What its pages begin with (`XLOG_PAGE_MAGIC`, `src/include/access/xlog_internal.h`).
    pub magic: u16,
    /// The bits of a full-page image's info of which any says that it is compressed, so that the length of its hole
    /// is stored (`BKPIMAGE_IS_COMPRESSED`, `src/include/access/xlogrecord.h`).
    pub image_compressed: u8,
    /// The bytes of one dropped statistics entry in a commit or abort (`xl_xact_stats_item`,
    /// `src/include/access/xact.h`); `None` where they are not recorded.
    pub dropped_stats_item: Option<usize>,
    /// Which record of the resource manager `Database` drops one (`XLOG_DBASE_DROP`,
    /// `src/include/commands/dbcommands_xlog.h`).
    pub database_drop: u8,
    /// The bytes of an end-of-recovery record (`xl_end_of_recovery`, `src/include/access/xlog_internal.h`).
    pub end_of_recovery_bytes: usize,
    /// The bytes in front of a prepared transaction's name (`xl_xact_prepare`, `src/include/access/xact.h`).
    pub prepare_bytes: usize,
    /// Where in those the length of the name stands, which counts the closing zero.
    pub prepare_gid_length: usize,
    /// Whether extensions may have resource managers of their own, 128 to 255 (`src/include/access/rmgr.h`).
    pub custom_rmgrs: bool,
}

const V13: Layout = Layout {
    major: PgMajor(13),
    magic: 0xD106,
    image_compressed: 0x02,
    dropped_stats_item: None,
    database_drop: 0x10,
    end_of_recovery_bytes: 16,
    prepare_bytes: 64,
    prepare_gid_length: 46,
    custom_rmgrs: false,
};

const V14: Layout = Layout { major: PgMajor(14), magic: 0xD10D, ..V13 };

const V15: Layout = Layout {
    major: PgMajor(15),
    magic: 0xD110,
    image_compressed: 0x04 | 0x08 | 0x10,
    dropped_stats_item: Some(12),
    database_drop: 0x20,
    prepare_bytes: 72,
    prepare_gid_length: 54,
    custom_rmgrs: true,
    ..V14
};

const V16: Layout = Layout { major: PgMajor(16), magic: 0xD113, ..V15 };

const V17: Layout = Layout { major: PgMajor(17), magic: 0xD116, end_of_recovery_bytes: 24, ..V16 };

const V18: Layout = Layout { major: PgMajor(18), magic: 0xD118, dropped_stats_item: Some(16), ..V17 };

static LAYOUTS: [Layout; 6] = [V13, V14, V15, V16, V17, V18];

impl Layout {
    /// The layout of the pages that begin with `magic`; `None` where no major that Walback knows writes them.
    #[must_use]
    pub fn of_magic(magic: u16) -> Option<&'static Layout> {
        LAYOUTS.iter().find(|layout| layout.magic == magic)
    }
}

#[cfg(test)]
impl Layout {
    /// Every layout, oldest first.
    pub(super) fn all() -> &'static [Layout] {
        &LAYOUTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_supported_major_has_one_layout() {
        let majors: Vec<PgMajor> = Layout::all().iter().map(|layout| layout.major).collect();
        assert_eq!(majors, (PgMajor::OLDEST.0..=PgMajor::NEWEST.0).map(PgMajor).collect::<Vec<_>>());
        for layout in Layout::all() {
            assert_eq!(Layout::of_magic(layout.magic), Some(layout));
        }
        assert_eq!(Layout::of_magic(0), None);
        assert_eq!(Layout::of_magic(0xD10E), None, "a development version's");
    }
}
