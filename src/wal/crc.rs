//! CRC-32C of records, as fast as this machine can.
//!
//! Records are short (a hundred bytes or two) but for those with images of pages (thousands). For long runs the crate
//! `crc-fast` folds many words at once. For short ones a call into any crate costs more than the checksum: there the
//! processor's own instruction is used, a record behind the other without a wait between them, so that the processor
//! works on several at once. `benches/wal_scan.rs` measures both ways; docs/performance.md says what the second gains.

use crc_fast::{CrcAlgorithm, Digest};

use super::record::{Header, Place};

/// From so many bytes on `crc-fast` is faster than one instruction after the other, which have to wait for each other.
const LONG: usize = 512;

/// A checksum, as far as it has come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crc(u32);

impl Crc {
    /// Of nothing.
    pub(super) const NEW: Crc = Crc(u32::MAX);

    /// Goes on over `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.0 = over(self.0, bytes);
    }

    /// The checksum.
    pub(super) fn value(self) -> u32 {
        !self.0
    }
}

/// How many of the records at `places` on `page` have the right checksum, before the first that has not.
pub(super) fn sound(page: &[u8], places: &[Place]) -> usize {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function is compiled for; that was just asked.
        #[allow(unsafe_code)]
        return unsafe { sse42::sound(page, places) };
    }
    sound_by(page, places, portable)
}

fn over(crc: u32, bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if bytes.len() < LONG && std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function is compiled for; that was just asked.
        #[allow(unsafe_code)]
        return unsafe { sse42::over(crc, bytes) };
    }
    portable(crc, bytes)
}

fn portable(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(CrcAlgorithm::Crc32Iscsi, crc.into());
    digest.update(bytes);
    digest.get_state() as u32
}

#[inline(always)]
fn sound_by(page: &[u8], places: &[Place], over: impl Fn(u32, &[u8]) -> u32) -> usize {
    let is_sound = |place: &&Place| {
        let record = page.get(place.range()).unwrap_or_default();
        let Some((header, behind)) = record.split_first_chunk::<{ Header::BYTES }>() else { return false };
        let (checked, expected) = header.split_at(Header::CHECKED_BYTES);
        !over(over(u32::MAX, behind), checked) == u32::from_le_bytes(expected.try_into().unwrap_or_default())
    };
    places.iter().take_while(is_sound).count()
}

/// With the instruction for it that x86 has had since 2008. Nothing in here is unsafe by itself: only calling it on a
/// processor without the instruction would be.
#[cfg(target_arch = "x86_64")]
mod sse42 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    use super::{Header, LONG, Place, portable, sound_by};

    #[target_feature(enable = "sse4.2")]
    pub(super) fn sound(page: &[u8], places: &[Place]) -> usize {
        places.iter().take_while(|place| is_sound(page, **place)).count()
    }

    /// Reads whole words only: those that come behind the record's last whole one take part as far as they belong to it.
    /// Going over its last bytes one by one, the processor would guess wrongly for most records how many there are.
    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn is_sound(page: &[u8], place: Place) -> bool {
        let (total, whole) = (place.header.total as usize, place.header.total as usize & !7);
        let record = page.get(place.at as usize..).unwrap_or_default();
        if total >= LONG || record.len() < whole + 8 {
            let over = |crc, bytes: &[u8]| if bytes.len() < LONG { over(crc, bytes) } else { portable(crc, bytes) };
            return sound_by(page, &[place], over) == 1;
        }
        let (Some(header), Some(behind), Some(last)) = (
            record.first_chunk::<{ Header::BYTES }>(),
            record.get(Header::BYTES..whole),
            record.get(whole..).and_then(|rest| rest.first_chunk()),
        ) else {
            return false;
        };
        let (words, _) = behind.as_chunks();
        let crc = words.iter().fold(u32::MAX.into(), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word)));
        let crc = over_front(crc, u64::from_le_bytes(*last), (total - whole) as u32 * 8);
        let (checked, expected) = header.split_at(Header::CHECKED_BYTES);
        !over(crc as u32, checked) == u32::from_le_bytes(expected.try_into().unwrap_or_default())
    }

    /// Goes on over the first `bits` of a word, less than 64. Zeros in front of them would not change a checksum that is
    /// zero: they stand there in place of what does not belong to it. What of `crc` they do not reach, moves up.
    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn over_front(crc: u64, word: u64, bits: u32) -> u64 {
        (crc >> bits) ^ _mm_crc32_u64(0, ((crc ^ word) << (63 - bits)) << 1)
    }

    #[target_feature(enable = "sse4.2")]
    #[inline]
    pub(super) fn over(crc: u32, bytes: &[u8]) -> u32 {
        let (words, rest) = bytes.as_chunks();
        let crc = words.iter().fold(crc.into(), |crc, word| _mm_crc32_u64(crc, u64::from_le_bytes(*word))) as u32;
        let (half, rest) = rest.as_chunks();
        let crc = half.iter().fold(crc, |crc, half| _mm_crc32_u32(crc, u32::from_le_bytes(*half)));
        rest.iter().fold(crc, |crc, byte| _mm_crc32_u8(crc, *byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Lsn;
    use crate::wal::writer::record;
    use proptest::prelude::*;

    /// The polynomial's definition, a bit after the other.
    fn by_definition(bytes: &[u8]) -> u32 {
        let bit = |crc: u32, _| (crc >> 1) ^ (if crc & 1 == 1 { 0x82F6_3B78 } else { 0 });
        !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), bit))
    }

    #[test]
    fn it_is_the_checksum_of_rfc_3720() {
        let crc = |bytes: &[u8]| {
            let mut crc = Crc::NEW;
            crc.push(bytes);
            crc.value()
        };
        assert_eq!(crc(b"123456789"), 0xE306_9283);
        assert_eq!(crc(&[0; 32]), 0x8A91_36AA);
    }

    proptest! {
        #[test]
        fn however_it_is_computed_it_is_the_same(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000), cut: prop::sample::Index,
        ) {
            let (front, back) = bytes.split_at(cut.index(bytes.len() + 1));
            let mut crc = Crc::NEW;
            crc.push(front);
            crc.push(back);
            prop_assert_eq!(crc.value(), by_definition(&bytes));
            prop_assert_eq!(!portable(portable(u32::MAX, front), back), by_definition(&bytes));
        }

        #[test]
        fn records_are_sound_up_to_the_first_that_is_not(
            lengths in proptest::collection::vec(0usize..1500, 1..8), broken: prop::sample::Index, bit in 0usize..8,
        ) {
            let (mut page, mut places) = (Vec::new(), Vec::new());
            for length in lengths {
                let record = record(Lsn(8), 10, 0, 7, &vec![1; length]);
                places.push(Place { at: page.len() as u32, header: Header { total: record.len() as u32, ..Header::default() } });
                page.extend(record);
                page.resize(page.len().next_multiple_of(8), 0);
            }
            prop_assert_eq!(sound(&page, &places), places.len());
            prop_assert_eq!(sound_by(&page, &places, portable), places.len());
            let broken = broken.index(page.len());
            page[broken] ^= 1 << bit;
            // Padding belongs to no record, and nothing looks at two bytes of the header.
            let hit = places.iter().position(|place| place.range().contains(&broken));
            prop_assert_eq!(sound(&page, &places), hit.unwrap_or(places.len()));
            prop_assert_eq!(sound_by(&page, &places, portable), hit.unwrap_or(places.len()));
            prop_assert_eq!(sound(&page, &[Place { at: page.len() as u32 - 8, header: Header { total: 40, ..Header::default() } }]), 0, "behind the end");
        }
    }
}
