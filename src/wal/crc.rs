//! CRC-32C of records, as fast as this machine can.
//!
//! Records are short (a hundred bytes or two) but for those with images of pages (thousands). For long runs the crate
//! `crc-fast` folds many words at once. For short ones a call into any crate costs more than the checksum: there the
//! processor's own instruction is used, a record behind the other without a wait between them, so that the processor
//! works on several at once. `benches/wal_scan.rs` measures both ways; docs/performance.md says what the second gains.

use crc_fast::{CrcAlgorithm, Digest};

use super::record::Header;

/// From so many bytes on `crc-fast` is faster than one instruction after the other, which have to wait for each other.
const LONG: usize = 512;

/// Of CRC-32C, the lowest power in the highest bit.
const POLYNOMIAL: u32 = 0x82F6_3B78;

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

/// A way to compute the checksum of a record that lies whole in the bytes in hand.
pub(super) trait Way {
    /// Whether the record of `total` bytes has the checksum that it says. `words` are all of it, and the padding behind it
    /// up to a whole word.
    fn is_sound(words: &[Word], total: usize) -> bool;
}

/// Eight bytes, as they lie in WAL: records begin at a multiple of as many.
pub(super) type Word = [u8; 8];

/// What wants checksums while it works.
pub(super) trait Work {
    /// What it comes to.
    type Output;

    /// Does it, with checksums computed in this way.
    fn work<W: Way>(self) -> Self::Output;
}

/// Does what wants many checksums in the way that is fastest here. It is compiled once for each way, so that nothing is
/// called for a short record.
#[inline(always)]
pub(super) fn work_fast<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("sse4.2") {
        // SAFETY: the processor has what the function is compiled for; that was just asked.
        #[allow(unsafe_code)]
        return unsafe { sse42::work(work) };
    }
    work.work::<Portable>()
}

/// By the crate alone.
struct Portable;

impl Way for Portable {
    fn is_sound(words: &[Word], total: usize) -> bool {
        let Some((header, behind)) = words.as_flattened().get(..total).and_then(<[u8]>::split_first_chunk) else {
            return false;
        };
        is_checksum_of(header, portable(u32::MAX, behind), portable)
    }
}

/// Whether `header` holds the checksum of a record of which `crc` is what it came to behind the header.
#[inline(always)]
fn is_checksum_of(header: &[u8; Header::BYTES], crc: u32, over: impl Fn(u32, &[u8]) -> u32) -> bool {
    let (checked, expected) = header.split_at(Header::CHECKED_BYTES);
    !over(crc, checked) == u32::from_le_bytes(expected.try_into().unwrap_or_default())
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

/// With the instruction for it that x86 has had since 2008. Nothing in here is unsafe by itself: only calling it on a
/// processor without the instruction would be.
#[cfg(target_arch = "x86_64")]
mod sse42 {
    use std::arch::x86_64::{_mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64};

    use super::{Header, LONG, POLYNOMIAL, Way, Word, Work, portable};

    #[target_feature(enable = "sse4.2")]
    pub(super) fn work<W: Work>(work: W) -> W::Output {
        work.work::<Sse42>()
    }

    /// Only [`work`] has this, so that it is used only where the processor has the instruction.
    struct Sse42;

    impl Way for Sse42 {
        #[inline(always)]
        fn is_sound(words: &[Word], total: usize) -> bool {
            // SAFETY: whoever called `work` has asked whether the processor has what the function is compiled for.
            #[allow(unsafe_code)]
            unsafe {
                is_sound(words, total)
            }
        }
    }

    /// Reads whole words only: the last one takes part as far as it belongs to the record. Going over its bytes one by
    /// one, the processor would guess wrongly for most records how many there are.
    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn is_sound(words: &[Word], total: usize) -> bool {
        let Some(([length_and_xid, previous, kind_and_crc], behind)) = words.split_first_chunk() else { return false };
        let crc = match words {
            [words @ .., last] if total < LONG && !behind.is_empty() => {
                over_front(over_behind(words), u64::from_le_bytes(*last), (total as u32).wrapping_sub(1) % 8 * 8 + 8)
            }
            _ => over_long(behind, total),
        };
        let crc = _mm_crc32_u64(crc, u64::from_le_bytes(*length_and_xid));
        let crc = _mm_crc32_u64(crc, u64::from_le_bytes(*previous));
        let kind_and_crc = u64::from_le_bytes(*kind_and_crc);
        !_mm_crc32_u32(crc as u32, kind_and_crc as u32) == (kind_and_crc >> 32) as u32
    }

    /// Goes over the words behind a record's header from the beginning. Four at a time, and only ever four: there are few
    /// turns whose number has to be guessed. What is missing from the first four is taken from the header, as zeros; what it
    /// begins with comes to the usual beginning behind those.
    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn over_behind(words: &[Word]) -> u64 {
        const BEHIND: u64 = u64::MAX;
        const PARTS: [[u64; 3]; 4] = [[0, 0, 0], [0, 0, BEHIND], [0, BEHIND, BEHIND], [BEHIND, BEHIND, BEHIND]];
        const BEGINNINGS: [u32; 4] = [before_zeros(3), before_zeros(2), before_zeros(1), before_zeros(0)];
        let from = words.len() % 4;
        let (fours, _) = words.get(from..).unwrap_or_default().as_chunks();
        let Some(([a, b, c, d], rest)) = fours.split_first() else { return u32::MAX.into() };
        let [of_a, of_b, of_c] = PARTS[from];
        let over = |crc, word: &Word| _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        let over_part = |crc, word: &Word, part| _mm_crc32_u64(crc, u64::from_le_bytes(*word) & part);
        let crc = over_part(over_part(over_part(BEGINNINGS[from].into(), a, of_a), b, of_b), c, of_c);
        rest.iter().fold(over(crc, d), |crc, [a, b, c, d]| over(over(over(over(crc, a), b), c), d))
    }

    /// What comes to the checksum of nothing behind so many words of zeros.
    const fn before_zeros(words: u32) -> u32 {
        let mut crc = u32::MAX;
        let mut bits = words * 64;
        while bits > 0 {
            // The polynomial has its highest bit: what it was added to is told by that.
            crc = if crc >> 31 == 1 { (crc ^ POLYNOMIAL) << 1 | 1 } else { crc << 1 };
            bits -= 1;
        }
        crc
    }

    /// What is long, or nothing.
    #[inline(never)]
    fn over_long(behind: &[Word], total: usize) -> u64 {
        let bytes = total.saturating_sub(Header::BYTES);
        portable(u32::MAX, behind.as_flattened().get(..bytes).unwrap_or_default()).into()
    }

    /// Goes on over the first `bits` of a word, 8 to 64. Zeros in front of them would not change a checksum that is
    /// zero: they stand there in place of what does not belong to it. What of `crc` they do not reach, moves up.
    #[target_feature(enable = "sse4.2")]
    #[inline]
    fn over_front(crc: u64, word: u64, bits: u32) -> u64 {
        (crc >> (bits - 1) >> 1) ^ _mm_crc32_u64(0, (crc ^ word) << (64 - bits))
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

    /// Asks of one record.
    struct IsSound<'a> {
        words: &'a [Word],
        total: usize,
    }

    impl Work for IsSound<'_> {
        type Output = bool;

        fn work<W: Way>(self) -> bool {
            W::is_sound(self.words, self.total)
        }
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
        fn a_record_is_sound_until_a_bit_of_it_changes(
            length in 0usize..1500, padding: u8, broken: prop::sample::Index, bit in 0usize..8,
        ) {
            let mut record = record(Lsn(8), 10, 0, 7, &vec![1; length]);
            let total = record.len();
            record.resize(total.next_multiple_of(8), padding);
            let is_sound = |record: &[u8]| {
                let words = record.as_chunks().0;
                assert_eq!(work_fast(IsSound { words, total }), IsSound { words, total }.work::<Portable>());
                work_fast(IsSound { words, total })
            };
            prop_assert!(is_sound(&record));
            let broken = broken.index(record.len());
            record[broken] ^= 1 << bit;
            // Padding belongs to no record, and nothing looks at two bytes of the header but the checksum.
            prop_assert_eq!(is_sound(&record), broken >= total);
        }

        #[test]
        fn no_words_make_it_panic(bytes: Vec<u8>, total: usize) {
            let words = bytes.as_chunks().0;
            let _ = work_fast(IsSound { words, total });
            let _ = IsSound { words, total }.work::<Portable>();
        }
    }
}
