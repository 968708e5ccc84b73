//! The files of incremental backups (17 and later): the blocks of a relation's file that have changed.
//!
//! `INCREMENTAL.NAME` stands for the file NAME: a header (`src/include/backup/basebackup_incremental.h`) with a magic number,
//! how many blocks follow, how long the file is at least, and the numbers of the blocks; where there are any, zeros up to
//! the end of a block; and the blocks (`sendFile`, `src/backend/backup/basebackup.c`, alike in 17 and 18).

use std::collections::BTreeMap;

use super::bytes::le_u32;

const MAGIC: u32 = 0xD3AE_1F0D;
const BLOCK: usize = 8192;
/// The most blocks that a file of a relation has: 1 GB.
const MOST_BLOCKS: usize = 131_072;
/// What the names begin with.
const PREFIX: &str = "INCREMENTAL.";

/// The name of the file that a file of this name stands for; `None` where it stands for itself.
#[must_use]
pub fn whole_name(name: &str) -> Option<String> {
    let (folder, file) = name.rsplit_once('/').map_or(("", name), |(folder, file)| (folder, file));
    let whole = file.strip_prefix(PREFIX)?;
    Some(if folder.is_empty() { whole.to_owned() } else { format!("{folder}/{whole}") })
}

/// The files of a backup, by their names: `own` are those that it has itself, `before` those of the one that it builds
/// upon. What it has not, it has not any more.
#[must_use]
pub fn upon(before: &BTreeMap<String, Vec<u8>>, own: BTreeMap<String, Vec<u8>>) -> BTreeMap<String, Vec<u8>> {
    let whole = own.into_iter().filter_map(|(name, bytes)| match whole_name(&name) {
        None => Some((name, bytes)),
        Some(whole) => {
            let bytes = combined(before.get(&whole)?, &bytes)?;
            Some((whole, bytes))
        }
    });
    whole.collect()
}

/// The file that `changes` make of `before`; `None` where these are no such changes.
#[must_use]
pub fn combined(before: &[u8], changes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize| le_u32(changes, at.checked_mul(4)?);
    let count = usize::try_from(word(1)?).ok().filter(|count| *count <= MOST_BLOCKS)?;
    if word(0)? != MAGIC {
        return None;
    }
    let numbers: Option<Vec<usize>> = (0..count).map(|i| usize::try_from(word(3 + i)?).ok()).collect();
    let numbers = numbers?;
    let least = usize::try_from(word(2)?).ok()?;
    let blocks = numbers.iter().map(|number| number.saturating_add(1)).max().unwrap_or_default().max(least);
    // Every block that a file grew by is among the changes.
    if blocks > before.len().div_ceil(BLOCK) + count {
        return None;
    }
    let mut file = before.to_vec();
    file.resize(blocks * BLOCK, 0);
    let first = (12 + 4 * count).next_multiple_of(BLOCK);
    for (i, number) in numbers.iter().enumerate() {
        let from = changes.get(first + i * BLOCK..first + (i + 1) * BLOCK)?;
        file.get_mut(number * BLOCK..(number + 1) * BLOCK)?.copy_from_slice(from);
    }
    Some(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn changes(least: u32, blocks: &[(u32, u8)]) -> Vec<u8> {
        let words = [MAGIC, blocks.len() as u32, least].into_iter().chain(blocks.iter().map(|(number, _)| *number));
        let mut bytes: Vec<u8> = words.flat_map(u32::to_le_bytes).collect();
        if !blocks.is_empty() {
            bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
        }
        bytes.extend(blocks.iter().flat_map(|(_, fill)| [*fill; BLOCK]));
        bytes
    }

    fn blocks(fills: &[u8]) -> Vec<u8> {
        fills.iter().flat_map(|fill| [*fill; BLOCK]).collect()
    }

    #[test]
    fn changed_blocks_take_the_place_of_what_was_there() {
        let before = blocks(&[1, 2, 3]);
        assert_eq!(combined(&before, &changes(3, &[])), Some(before.clone()));
        assert_eq!(combined(&before, &changes(3, &[(1, 9)])), Some(blocks(&[1, 9, 3])));
        assert_eq!(combined(&before, &changes(1, &[])), Some(blocks(&[1])), "it was truncated");
        // What grew has all of its new blocks among the changes, in any order.
        assert_eq!(combined(&before, &changes(3, &[(4, 8), (3, 7)])), Some(blocks(&[1, 2, 3, 7, 8])));
        let too_long = [changes(3, &[(u32::MAX, 9)]), changes(9, &[(3, 9)])];
        for bad in [&changes(3, &[(1, 9)])[..BLOCK + 9], &before, b"", &too_long[0], &too_long[1]] {
            assert_eq!(combined(&before, bad), None);
        }
    }

    #[test]
    fn a_backup_has_what_it_has_itself_upon_what_was_there() {
        let files = |named: &[(&str, Vec<u8>)]| {
            named.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.clone())).collect::<BTreeMap<_, _>>()
        };
        let before = files(&[("global/1262", blocks(&[1, 2])), ("global/gone", Vec::new()), ("conf", vec![1])]);
        let own = files(&[("global/INCREMENTAL.1262", changes(2, &[(0, 5)])), ("conf", vec![2])]);
        let now = upon(&before, own);
        assert_eq!(now, files(&[("global/1262", blocks(&[5, 2])), ("conf", vec![2])]));
        assert_eq!(whole_name("INCREMENTAL.7").as_deref(), Some("7"));
        assert_eq!(whole_name("base/5/1259"), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(before: Vec<u8>, count in 0u32..5, least in 0u32..5, rest: Vec<u8>) {
            let words = [MAGIC, count, least];
            let bytes: Vec<u8> = words.into_iter().flat_map(u32::to_le_bytes).chain(rest.iter().copied()).collect();
            let _ = combined(&before, &bytes);
            let _ = combined(&before, &rest);
        }
    }
}
