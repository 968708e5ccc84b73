//! Checksums of data pages, where a cluster has them (`src/include/storage/checksum_impl.h` and `bufpage.h`, alike in 13 to
//! 18).

use std::path::{Component, Path};

use crate::core::Lsn;

/// Bytes of a page.
pub const PAGE: usize = 8192;
/// Pages of a file; what a relation has behind them is in the next one.
const PAGES_OF_A_FILE: u32 = 131_072;
const SUMS: usize = 32;
const PRIME: u32 = 16_777_619;
const BASES: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];
/// Where the checksum stands in a page, as the bytes of which it is made have zeros.
const AT: std::ops::Range<usize> = 8..10;

/// The checksum of a page that is the relation's block of this number.
#[must_use]
pub fn checksum(page: &[u8; PAGE], block: u32) -> u16 {
    let mut sums = BASES;
    let mix = |sum: &mut u32, value: u32| {
        let mixed = *sum ^ value;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    };
    for (row, words) in page.chunks_exact(4 * SUMS).enumerate() {
        for (at, (sum, word)) in sums.iter_mut().zip(words.chunks_exact(4)).enumerate() {
            let mut value = word.iter().rev().fold(0, |value, byte| value << 8 | u32::from(*byte));
            if row == 0 && at == AT.start / 4 {
                value &= 0xFFFF_0000;
            }
            mix(sum, value);
        }
    }
    for _ in 0..2 {
        sums.iter_mut().for_each(|sum| mix(sum, 0));
    }
    let folded = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    (folded % 65_535) as u16 + 1
}

/// The pages of a file that goes by in pieces, and how many of them have a wrong checksum.
#[derive(Debug, Clone)]
pub struct Pages {
    held: Vec<u8>,
    block: u32,
    start: Lsn,
    wrong: u64,
}

impl Pages {
    /// Of a file of this name below the data directory, in a backup that began at `start`; `None` where it is no relation's.
    #[must_use]
    pub fn of(name: &Path, start: Lsn) -> Option<Pages> {
        let segment = segment_of_relation(name)?;
        Some(Pages { held: Vec::new(), block: segment.checked_mul(PAGES_OF_A_FILE)?, start, wrong: 0 })
    }

    /// Takes the next bytes.
    pub fn take(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let room = PAGE - self.held.len();
            let (now, rest) = bytes.split_at(room.min(bytes.len()));
            bytes = rest;
            if let (true, Ok(page)) = (self.held.is_empty(), <&[u8; PAGE]>::try_from(now)) {
                self.look(page);
                continue;
            }
            self.held.extend_from_slice(now);
            let held = std::mem::take(&mut self.held);
            match <&[u8; PAGE]>::try_from(held.as_slice()) {
                Ok(page) => self.look(page),
                Err(_) => self.held = held,
            }
        }
    }

    /// How many pages have a wrong checksum. What was written after the backup began, WAL brings anew.
    #[must_use]
    pub fn wrong(&self) -> u64 {
        self.wrong
    }

    fn look(&mut self, page: &[u8; PAGE]) {
        let block = self.block;
        self.block = block.wrapping_add(1);
        let word =
            |at: usize| page.get(at..at + 4).map_or(0, |word| word.iter().rev().fold(0, |v, b| v << 8 | u64::from(*b)));
        let lsn = Lsn(word(0) << 32 | word(4));
        // A page that nothing was ever put on has no header (pd_upper).
        let is_new = page.get(14..16) == Some(&[0, 0]);
        let noted = page.get(AT).map_or(0, |sum| sum.iter().rev().fold(0, |value, byte| value << 8 | u16::from(*byte)));
        if !is_new && lsn < self.start && checksum(page, block) != noted {
            self.wrong += 1;
        }
    }
}

/// Which of a relation's files it is, by its name: `base/5/16384.1`, `global/1262_fsm`, `pg_tblspc/1/PG_15_…/5/2_vm`.
fn segment_of_relation(name: &Path) -> Option<u32> {
    let parts: Vec<&str> = name
        .components()
        .map(|part| match part {
            Component::Normal(part) => part.to_str(),
            _ => None,
        })
        .collect::<Option<_>>()?;
    let file = match parts.as_slice() {
        ["global", file] | ["base", _, file] | ["pg_tblspc", _, _, _, file] => *file,
        _ => return None,
    };
    let (relation, segment) = file.split_once('.').unwrap_or((file, "0"));
    let (node, fork) = relation.split_once('_').unwrap_or((relation, "main"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(node) && matches!(fork, "main" | "fsm" | "vm" | "init")).then(|| segment.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A page as a server leaves it: something on it, and its checksum.
    fn page(block: u32, lsn: u64) -> [u8; PAGE] {
        let mut page = [0; PAGE];
        page[..4].copy_from_slice(&((lsn >> 32) as u32).to_le_bytes());
        page[4..8].copy_from_slice(&(lsn as u32).to_le_bytes());
        page[14..16].copy_from_slice(&8000_u16.to_le_bytes());
        page[8100..8104].copy_from_slice(b"data");
        let sum = checksum(&page, block);
        page[8..10].copy_from_slice(&sum.to_le_bytes());
        page
    }

    #[test]
    fn relations_are_known_by_their_names() {
        let of = |name: &str| segment_of_relation(Path::new(name));
        for (name, segment) in [
            ("base/5/16384", 0),
            ("base/5/16384.2", 2),
            ("base/5/16384_vm", 0),
            ("base/5/16384_fsm.1", 1),
            ("global/1262", 0),
            ("pg_tblspc/16385/PG_15_202209061/5/2600", 0),
        ] {
            assert_eq!(of(name), Some(segment), "{name}");
        }
        for name in
            ["base/5/PG_VERSION", "base/5/pg_filenode.map", "base/5/t3_16384", "global/pg_control", "pg_xact/0000"]
        {
            assert_eq!(of(name), None, "{name}");
        }
    }

    #[test]
    fn a_changed_page_is_noticed_and_a_new_or_later_one_is_none() {
        let wrong = |pages: &[[u8; PAGE]]| {
            let mut found = Pages::of(Path::new("base/5/1"), Lsn(1000)).unwrap();
            found.take(&pages.concat());
            found.wrong()
        };
        let (first, second) = (page(0, 900), page(1, 900));
        assert_eq!(wrong(&[first, second, [0; PAGE]]), 0);
        let mut changed = second;
        changed[8100] ^= 1;
        assert_eq!(wrong(&[first, changed]), 1);
        assert_eq!(wrong(&[second]), 1, "another block's");
        let mut later = page(0, 1000);
        later[8100] ^= 1;
        assert_eq!(wrong(&[later]), 0);
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(sizes in prop::collection::vec(1usize..20_000, 1..9)) {
            let mut bytes = [page(0, 9), page(1, 9), page(2, 9)].concat();
            bytes[9000] ^= 1;
            let mut found = Pages::of(Path::new("base/5/1"), Lsn(1000)).unwrap();
            let mut rest = bytes.as_slice();
            for size in sizes.iter().cycle() {
                let (now, behind) = rest.split_at((*size).min(rest.len()));
                found.take(now);
                rest = behind;
                if rest.is_empty() {
                    break;
                }
            }
            prop_assert_eq!(found.wrong(), 1);
        }
    }
}
