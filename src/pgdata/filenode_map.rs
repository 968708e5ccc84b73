//! `pg_filenode.map`: the files of the catalogs that every server has to find before it can read any catalog.

use super::bytes::le_u32;

/// What the file begins with (`RELMAPPER_FILEMAGIC`, `src/backend/utils/cache/relmapper.c`).
const MAGIC: u32 = 0x0059_2717;
/// Its length and where its checksum stands: in 13 to 15, and from 16 on.
const FORMS: [(usize, usize); 2] = [(512, 504), (524, 520)];

/// Which file a mapped catalog has: pairs of its OID and its file's number.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FilenodeMap(pub Vec<(u32, u32)>);

/// Why bytes are no such map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadFilenodeMap {
    /// No version's map is so long.
    #[error("{0} bytes are no length that it can have")]
    Length(usize),
    /// It begins otherwise.
    #[error("it does not begin as such a map does")]
    Magic,
    /// It was damaged.
    #[error("its checksum does not match")]
    Checksum,
}

impl FilenodeMap {
    /// Reads the file as the server does (`read_relmap_file`, `src/backend/utils/cache/relmapper.c`, 13 to 18).
    ///
    /// # Errors
    /// See [`BadFilenodeMap`].
    pub fn parse(bytes: &[u8]) -> Result<FilenodeMap, BadFilenodeMap> {
        let form = FORMS.iter().find(|(length, _)| *length == bytes.len());
        let (_, checksum_at) = *form.ok_or(BadFilenodeMap::Length(bytes.len()))?;
        if le_u32(bytes, 0) != Some(MAGIC) {
            return Err(BadFilenodeMap::Magic);
        }
        let checked = bytes.get(..checksum_at).unwrap_or_default();
        if le_u32(bytes, checksum_at) != Some(crc_fast::crc32_iscsi(checked)) {
            return Err(BadFilenodeMap::Checksum);
        }
        let count = le_u32(bytes, 4).unwrap_or(0) as usize;
        let (pairs, _) = checked.get(8..).unwrap_or_default().as_chunks::<8>();
        let pair = |pair: &[u8; 8]| Some((le_u32(pair, 0)?, le_u32(pair, 4)?));
        Ok(FilenodeMap(pairs.iter().take(count).filter_map(pair).collect()))
    }

    /// The number of a catalog's file.
    #[must_use]
    pub fn file_of(&self, oid: u32) -> Option<u32> {
        self.0.iter().find(|(catalog, _)| *catalog == oid).map(|(_, file)| *file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn file(length: usize, checksum_at: usize, pairs: &[(u32, u32)]) -> Vec<u8> {
        let mut bytes = MAGIC.to_le_bytes().to_vec();
        bytes.extend((pairs.len() as u32).to_le_bytes());
        bytes.extend(pairs.iter().flat_map(|(oid, file)| [oid.to_le_bytes(), file.to_le_bytes()].concat()));
        bytes.resize(checksum_at, 0);
        bytes.extend(crc_fast::crc32_iscsi(&bytes).to_le_bytes());
        bytes.resize(length, 0);
        bytes
    }

    #[test]
    fn both_forms_are_read() {
        for (length, checksum_at) in FORMS {
            let map = FilenodeMap::parse(&file(length, checksum_at, &[(1259, 1259), (1249, 16500)])).unwrap();
            assert_eq!((map.file_of(1249), map.file_of(1255)), (Some(16500), None));
        }
    }

    #[test]
    fn what_is_damaged_is_refused() {
        let mut bytes = file(512, 504, &[(1259, 1259)]);
        bytes[9] ^= 1;
        assert_eq!(FilenodeMap::parse(&bytes), Err(BadFilenodeMap::Checksum));
        bytes[0] ^= 1;
        assert_eq!(FilenodeMap::parse(&bytes), Err(BadFilenodeMap::Magic));
        assert_eq!(FilenodeMap::parse(&bytes[..511]), Err(BadFilenodeMap::Length(511)));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600), count: u32) {
            let _ = FilenodeMap::parse(&bytes);
            let mut valid = file(524, 520, &[]);
            valid[4..8].copy_from_slice(&count.to_le_bytes());
            let checksum = crc_fast::crc32_iscsi(&valid[..520]);
            valid[520..].copy_from_slice(&checksum.to_le_bytes());
            let _ = FilenodeMap::parse(&valid);
        }
    }
}
