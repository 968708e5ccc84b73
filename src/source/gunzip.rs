//! Unpacks gzip a piece after the other. `flate2` does the inflating and reads the headers; the checksum, on which its own
//! way spends a sixth of all time, is computed by `crc-fast`.

use std::io::{self, BufRead, Read};

use crc_fast::{CrcAlgorithm, Digest};
use flate2::bufread::{DeflateDecoder, GzDecoder};

/// What comes out of a file of gzip, all members of it.
pub(super) struct Gunzip<R> {
    inflating: DeflateDecoder<R>,
    /// Of the member that is being read.
    crc: Digest,
    /// Bytes that came out of it.
    bytes: u64,
    stands: Stands,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stands {
    /// Before the first member.
    Before,
    /// In the middle of one.
    Inside,
    /// Behind one.
    Behind,
    /// Behind the last one.
    AtEnd,
}

impl<R: BufRead> Gunzip<R> {
    pub(super) fn new(packed: R) -> Gunzip<R> {
        Gunzip { inflating: DeflateDecoder::new(packed), crc: new_crc(), bytes: 0, stands: Stands::Before }
    }

    /// Reads the header of the next member; what follows one has to be another one.
    fn begin_member(&mut self) -> io::Result<()> {
        let packed = self.inflating.get_mut();
        if self.stands == Stands::Behind && packed.fill_buf()?.is_empty() {
            self.stands = Stands::AtEnd;
            return Ok(());
        }
        let mut header = GzDecoder::new(packed);
        if header.header().is_none() {
            // It tells what is wrong when it is read from.
            header.read_exact(&mut [0])?;
            return Err(damaged("it does not begin or go on as gzip does"));
        }
        self.inflating.reset_data();
        (self.crc, self.bytes, self.stands) = (new_crc(), 0, Stands::Inside);
        Ok(())
    }

    /// Compares what came out of a member with what stands behind it (RFC 1952, 2.3.1).
    fn end_member(&mut self) -> io::Result<()> {
        let (mut crc, mut bytes) = ([0; 4], [0; 4]);
        let packed = self.inflating.get_mut();
        packed.read_exact(&mut crc)?;
        packed.read_exact(&mut bytes)?;
        let is_right =
            u64::from(u32::from_le_bytes(crc)) == self.crc.finalize() && u32::from_le_bytes(bytes) == self.bytes as u32;
        if !is_right {
            return Err(damaged("its checksum is not that of what comes out of it"));
        }
        self.stands = Stands::Behind;
        Ok(())
    }
}

impl<R: BufRead> Read for Gunzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // No room would look like the end of a member.
        while !buffer.is_empty() && self.stands != Stands::AtEnd {
            if self.stands != Stands::Inside {
                self.begin_member()?;
                continue;
            }
            let bytes = self.inflating.read(buffer)?;
            if bytes > 0 {
                self.crc.update(buffer.get(..bytes).unwrap_or_default());
                self.bytes += bytes as u64;
                return Ok(bytes);
            }
            self.end_member()?;
        }
        Ok(0)
    }
}

fn new_crc() -> Digest {
    Digest::new(CrcAlgorithm::Crc32IsoHdlc)
}

fn damaged(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compress::tests::{any_bytes, packed};
    use super::*;
    use crate::catalog::Compression;

    /// What comes out, where it is asked for in pieces of so many bytes, and comes in in pieces of so many.
    fn gunzip(packed: &[u8], asked: usize, given: usize) -> io::Result<Vec<u8>> {
        let mut gunzip = Gunzip::new(io::BufReader::with_capacity(given, packed));
        let (mut out, mut piece) = (Vec::new(), vec![0; asked]);
        loop {
            match gunzip.read(&mut piece)? {
                0 => return Ok(out),
                bytes => out.extend_from_slice(&piece[..bytes]),
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_packed_comes_out_in_whatever_pieces(
            first in any_bytes(), second in any_bytes(), asked in 1usize..5000, given in 1usize..5000,
        ) {
            let empty = packed(&[], Compression::Gzip);
            let file = [packed(&first, Compression::Gzip), empty, packed(&second, Compression::Gzip)].concat();
            prop_assert!(gunzip(&file, asked, given).unwrap() == [first, second].concat());
        }

        #[test]
        fn no_bit_that_was_changed_makes_other_bytes(
            bytes in any_bytes(), place: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut file = packed(&bytes, Compression::Gzip);
            // What lies in front of the data tells only when it was packed, and how hard.
            let place = 10 + place.index(file.len() - 10);
            file[place] ^= 1 << bit;
            // The last bits of the last byte before the checksum belong to nothing.
            prop_assert!(gunzip(&file, 4096, 4096).map_or(true, |out| out == bytes));
        }

        #[test]
        fn what_is_cut_off_is_told_from_what_is_damaged(bytes in any_bytes(), cut: prop::sample::Index) {
            let file = packed(&bytes, Compression::Gzip);
            let error = gunzip(&file[..cut.index(file.len())], 4096, 4096).unwrap_err();
            prop_assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
        }
    }
}
