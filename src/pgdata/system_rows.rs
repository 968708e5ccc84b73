//! Rows of the catalogs that name databases, schemas and relations, read from the pages of their files.
//!
//! The files of a base backup are copied while the server works: a page may be of any moment of the copying, and a row
//! in it may be old. That is enough for giving names to numbers, and for nothing else.

use super::bytes::{le_u16, le_u32};
use crate::core::{DatabaseLocaleColumns, PgMajor};

/// The size of a page (`BLCKSZ`, `src/include/pg_config.h`).
const PAGE: usize = 8192;
/// Bytes of a page's header (`PageHeaderData`, `src/include/storage/bufpage.h`).
const PAGE_HEADER: usize = 24;
/// Bytes of a name (`NAMEDATALEN`, `src/include/pg_config_manual.h`).
const NAME: usize = 64;
/// A line pointer's flags say that a row is there (`LP_NORMAL`, `src/include/storage/itemid.h`).
const NORMAL: u32 = 1;
/// Nobody has deleted the row (`HEAP_XMAX_INVALID`, `src/include/access/htup_details.h`).
const XMAX_INVALID: u16 = 0x0800;
/// Some columns are null (`HEAP_HASNULL`).
const HAS_NULL: u16 = 0x0001;
/// The bits of the number of columns (`HEAP_NATTS_MASK`).
const COUNT: u16 = 0x07FF;
/// Where the bits for columns begin (`SizeofHeapTupleHeader`).
const PRESENT_AT: usize = 23;

/// A row as it stands in a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Row<'a> {
    /// As far as the row itself says, nobody has deleted or replaced it.
    current: bool,
    /// Its columns.
    columns: &'a [u8],
    /// A bit for each column that is not null; `None` where none is.
    present: Option<&'a [u8]>,
    /// How many columns it has; further ones are null.
    count: usize,
}

impl Row<'_> {
    /// Whether the column of this `attnum` is not null.
    fn has(&self, number: usize) -> bool {
        let Some(at) = number.checked_sub(1).filter(|_| number <= self.count) else { return false };
        self.present.is_none_or(|bits| bits.get(at / 8).is_some_and(|byte| byte & (1 << (at % 8)) != 0))
    }
}

/// An object with a name: a database or a schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// Its OID.
    pub oid: u32,
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// Nobody has deleted or replaced this row, as far as it says itself.
    pub current: bool,
}

/// A row of `pg_class`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Class {
    /// The relation's OID.
    pub oid: u32,
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// The OID of its schema.
    pub namespace: u32,
    /// The number of its files; 0 where it has none, and for mapped catalogs.
    pub relfilenode: u32,
    /// What it is: `r` a table, `i` an index, `t` a TOAST table, `S` a sequence, `m` a materialized view, ….
    pub kind: char,
    /// Nobody has deleted or replaced this row, as far as it says itself.
    pub current: bool,
}

/// The rows of a file of `pg_class` (`src/include/catalog/pg_class.h`).
pub fn classes(file: &[u8], major: PgMajor) -> impl Iterator<Item = Class> + '_ {
    rows(file).filter_map(move |row| {
        Some(Class {
            oid: le_u32(row.columns, 0)?,
            name: name_at(row.columns, 4)?,
            namespace: le_u32(row.columns, 68)?,
            relfilenode: le_u32(row.columns, 88)?,
            kind: char::from(*row.columns.get(major.pg_class_kind_at())?),
            current: row.current,
        })
    })
}

/// The rows of a file of `pg_namespace` or `pg_database` (`src/include/catalog/`): both begin with OID and name.
pub fn named(file: &[u8]) -> impl Iterator<Item = Named> + '_ {
    rows(file).filter_map(|row| {
        Some(Named { oid: le_u32(row.columns, 0)?, name: name_at(row.columns, 4)?, current: row.current })
    })
}

/// A database's locale.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatabaseLocale {
    /// The database's OID.
    pub oid: u32,
    /// Its name; bytes that are no UTF-8 are replaced.
    pub name: String,
    /// Who compares texts: `c` the C library, `i` ICU, `b` the server itself.
    pub provider: char,
    /// `LC_COLLATE`.
    pub collate: String,
    /// `LC_CTYPE`.
    pub ctype: String,
    /// The version of the library with which its indexes were made; not known before 15, nor for locales that never
    /// change.
    pub collation_version: Option<String>,
}

/// The locales of databases, from a file of `pg_database`.
pub fn database_locales(file: &[u8], major: PgMajor) -> impl Iterator<Item = DatabaseLocale> + '_ {
    rows(file).filter(|row| row.current).filter_map(move |row| database_locale(&row, major))
}

fn database_locale(row: &Row<'_>, major: PgMajor) -> Option<DatabaseLocale> {
    let columns = row.columns;
    let (oid, name) = (le_u32(columns, 0)?, name_at(columns, 4)?);
    Some(match major.pg_database_locale() {
        DatabaseLocaleColumns::Names { collate, ctype } => {
            let (collate, ctype) = (name_at(columns, collate)?, name_at(columns, ctype)?);
            DatabaseLocale { oid, name, provider: 'c', collate, ctype, collation_version: None }
        }
        DatabaseLocaleColumns::Texts { provider, texts, first, version } => {
            let provider = char::from(*columns.get(provider)?);
            let mut rest = columns.get(texts..)?;
            let mut values = Vec::new();
            for number in first..=version {
                values.push(if row.has(number) { Some(short_text(&mut rest)?) } else { None });
            }
            let collation_version = values.pop().flatten();
            let mut values = values.into_iter().flatten();
            let (collate, ctype) = (values.next()?, values.next()?);
            DatabaseLocale { oid, name, provider, collate, ctype, collation_version }
        }
    })
}

/// A text of at most 126 bytes, which has a header of one byte and stands where the one before it ends
/// (`VARATT_IS_1B`, `src/include/varatt.h`). Names of locales are never longer.
fn short_text(rest: &mut &[u8]) -> Option<String> {
    let header = *rest.first()?;
    let length = usize::from(header >> 1);
    let text = rest.get(1..length).filter(|_| header & 1 == 1)?;
    *rest = rest.get(length..)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

fn name_at(columns: &[u8], at: usize) -> Option<String> {
    let bytes = columns.get(at..at + NAME)?;
    let name = bytes.split(|byte| *byte == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// All rows of a heap file, page after page. What makes no sense is left out.
fn rows(file: &[u8]) -> impl Iterator<Item = Row<'_>> {
    file.chunks_exact(PAGE).flat_map(|page| {
        let lower = usize::from(le_u16(page, 12).unwrap_or(0)).min(PAGE);
        let (pointers, _) = page.get(PAGE_HEADER..lower).unwrap_or_default().as_chunks::<4>();
        pointers.iter().filter_map(|pointer| row(page, u32::from_le_bytes(*pointer)))
    })
}

/// The row that a line pointer points to (`ItemIdData`, and `HeapTupleHeaderData` in
/// `src/include/access/htup_details.h`).
fn row(page: &[u8], pointer: u32) -> Option<Row<'_>> {
    let (offset, flags, length) = ((pointer & 0x7FFF) as usize, (pointer >> 15) & 3, (pointer >> 17) as usize);
    if flags != NORMAL {
        return None;
    }
    let tuple = page.get(offset..offset.checked_add(length)?)?;
    let (xmax, infomask, header) = (le_u32(tuple, 4)?, le_u16(tuple, 20)?, *tuple.get(22)?);
    let columns = tuple.get(usize::from(header)..)?;
    let present = tuple.get(PRESENT_AT..usize::from(header)).filter(|_| infomask & HAS_NULL != 0);
    let count = usize::from(le_u16(tuple, 18)? & COUNT);
    Some(Row { current: xmax == 0 || infomask & XMAX_INVALID != 0, columns, present, count })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page with rows of these columns, the last of which was deleted.
    fn page(rows: &[Vec<u8>]) -> Vec<u8> {
        let mut page = vec![0; PAGE];
        let mut end = PAGE;
        for (i, columns) in rows.iter().enumerate() {
            let mut tuple = vec![0; 32];
            tuple[4..8].copy_from_slice(&(if i + 1 == rows.len() { 700u32 } else { 0 }).to_le_bytes());
            tuple[22] = 32;
            tuple.extend(columns);
            end -= tuple.len();
            page[end..end + tuple.len()].copy_from_slice(&tuple);
            let pointer = end as u32 | NORMAL << 15 | (tuple.len() as u32) << 17;
            let at = PAGE_HEADER + 4 * i;
            page[at..at + 4].copy_from_slice(&pointer.to_le_bytes());
            page[12..14].copy_from_slice(&(at as u16 + 4).to_le_bytes());
        }
        page
    }

    fn columns(oid: u32, name: &str) -> Vec<u8> {
        let mut columns = oid.to_le_bytes().to_vec();
        columns.extend(name.as_bytes());
        columns.resize(120, 0);
        columns[88..92].copy_from_slice(&(oid + 1).to_le_bytes());
        columns[115] = b'r';
        columns[119] = b'i';
        columns
    }

    #[test]
    fn rows_are_found_with_what_they_say() {
        let file = [page(&[columns(16384, "orders"), columns(16390, "old")]), page(&[]), vec![1; 100]].concat();
        let found: Vec<_> = named(&file).map(|row| (row.oid, row.name, row.current)).collect();
        assert_eq!(found, [(16384, "orders".to_owned(), true), (16390, "old".to_owned(), false)]);
        let kinds = |major| classes(&file, PgMajor(major)).map(|class| class.kind).collect::<String>();
        assert_eq!((kinds(17).as_str(), kinds(18).as_str()), ("rr", "ii"));
        assert_eq!(classes(&file, PgMajor(15)).map(|class| class.relfilenode).collect::<Vec<_>>(), [16385, 16391]);
    }

    /// A row of `pg_database` of 16, in which `daticulocale` and `daticurules` are null.
    fn database(texts: &[&str]) -> Vec<u8> {
        let mut columns = columns(16_385, "shop");
        columns.truncate(96);
        columns[76] = b'c';
        for text in texts {
            columns.push((text.len() as u8 + 1) << 1 | 1);
            columns.extend(text.as_bytes());
        }
        columns
    }

    #[test]
    fn locales_are_read_behind_columns_that_are_null() {
        let locale = |present: [u8; 2], texts: &[&str]| {
            let mut page = page(&[database(texts), database(&[])]);
            let at = le_u16(&page, PAGE_HEADER).map(|pointer| usize::from(pointer & 0x7FFF)).unwrap();
            page[at + 18..at + 22].copy_from_slice(&[16, 0, 1, 0]);
            page[at + 23..at + 25].copy_from_slice(&present);
            database_locales(&page, PgMajor(16)).next()
        };
        let found = locale([0xFF, 0x9F], &["de_DE.UTF-8", "C", "2.36"]).unwrap();
        assert_eq!((found.collate.as_str(), found.ctype.as_str(), found.provider), ("de_DE.UTF-8", "C", 'c'));
        assert_eq!((found.collation_version.as_deref(), found.name.as_str()), (Some("2.36"), "shop"));
        assert_eq!(locale([0xFF, 0x1F], &["C", "C"]).unwrap().collation_version, None);
        assert_eq!(locale([0xFF, 0x9F], &["C", "C"]), None, "a text that is said to be there and is not");
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(lower: u16, pointers in proptest::collection::vec(any::<u32>(), 0..200), fill: u8) {
            let mut page = vec![fill; PAGE];
            page[12..14].copy_from_slice(&lower.to_le_bytes());
            for (i, pointer) in pointers.iter().enumerate() {
                page[PAGE_HEADER + 4 * i..PAGE_HEADER + 4 * i + 4].copy_from_slice(&pointer.to_le_bytes());
            }
            let _ = classes(&page, PgMajor(18)).count() + named(&page).count();
            for major in [13, 15, 16, 17] {
                let _ = database_locales(&page, PgMajor(major)).count();
            }
        }
    }
}
