//! Computes the checksums that a `backup_manifest` has, while a file's bytes go by.

use crc_fast::{CrcAlgorithm, Digest as Crc};
use sha2::{Digest, Sha224, Sha256, Sha384, Sha512};

use super::manifest::{Checksum, ChecksumAlgorithm};

/// A checksum that is being computed. The values are as a manifest has them: those of CRC-32C in little-endian order
/// (`pg_checksum_final`, `src/common/checksum_helper.c`).
#[derive(Clone)]
pub enum RunningChecksum {
    /// Nothing is computed.
    None,
    /// CRC-32C.
    Crc32c(Crc),
    /// SHA-224.
    Sha224(Sha224),
    /// SHA-256.
    Sha256(Sha256),
    /// SHA-384.
    Sha384(Sha384),
    /// SHA-512.
    Sha512(Sha512),
}

impl RunningChecksum {
    /// Over no bytes yet.
    #[must_use]
    pub fn new(algorithm: Option<ChecksumAlgorithm>) -> RunningChecksum {
        match algorithm {
            None => RunningChecksum::None,
            Some(ChecksumAlgorithm::Crc32c) => RunningChecksum::Crc32c(Crc::new(CrcAlgorithm::Crc32Iscsi)),
            Some(ChecksumAlgorithm::Sha224) => RunningChecksum::Sha224(Sha224::new()),
            Some(ChecksumAlgorithm::Sha256) => RunningChecksum::Sha256(Sha256::new()),
            Some(ChecksumAlgorithm::Sha384) => RunningChecksum::Sha384(Sha384::new()),
            Some(ChecksumAlgorithm::Sha512) => RunningChecksum::Sha512(Sha512::new()),
        }
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            RunningChecksum::None => {}
            RunningChecksum::Crc32c(crc) => crc.update(bytes),
            RunningChecksum::Sha224(sha) => sha.update(bytes),
            RunningChecksum::Sha256(sha) => sha.update(bytes),
            RunningChecksum::Sha384(sha) => sha.update(bytes),
            RunningChecksum::Sha512(sha) => sha.update(bytes),
        }
    }

    /// What it is over all the bytes; `None` where nothing was computed.
    #[must_use]
    pub fn finish(self) -> Option<Checksum> {
        let (algorithm, bytes) = match self {
            RunningChecksum::None => return None,
            // The value has 32 bits.
            RunningChecksum::Crc32c(crc) => (ChecksumAlgorithm::Crc32c, (crc.finalize() as u32).to_le_bytes().to_vec()),
            RunningChecksum::Sha224(sha) => (ChecksumAlgorithm::Sha224, sha.finalize().to_vec()),
            RunningChecksum::Sha256(sha) => (ChecksumAlgorithm::Sha256, sha.finalize().to_vec()),
            RunningChecksum::Sha384(sha) => (ChecksumAlgorithm::Sha384, sha.finalize().to_vec()),
            RunningChecksum::Sha512(sha) => (ChecksumAlgorithm::Sha512, sha.finalize().to_vec()),
        };
        Some(Checksum { algorithm, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pgdata::manifest::unhex;
    use proptest::prelude::*;

    const ALL: [ChecksumAlgorithm; 5] = [
        ChecksumAlgorithm::Crc32c,
        ChecksumAlgorithm::Sha224,
        ChecksumAlgorithm::Sha256,
        ChecksumAlgorithm::Sha384,
        ChecksumAlgorithm::Sha512,
    ];

    fn of(algorithm: ChecksumAlgorithm, pieces: &[&[u8]]) -> Checksum {
        let mut running = RunningChecksum::new(Some(algorithm));
        pieces.iter().for_each(|piece| running.update(piece));
        running.finish().unwrap()
    }

    #[test]
    fn they_are_those_of_the_servers() {
        // The check values of the algorithms: CRC-32C of “123456789”, and SHA of “abc” (RFC 6234).
        let crc = of(ChecksumAlgorithm::Crc32c, &[b"123456789"]);
        assert_eq!(crc.bytes, 0xE306_9283_u32.to_le_bytes());
        for (algorithm, hex) in [
            (ChecksumAlgorithm::Sha224, "23097d223405d8228642a477bda255b32aadbce4bda0b3f7e36c9da7"),
            (ChecksumAlgorithm::Sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"),
        ] {
            assert_eq!(of(algorithm, &[b"abc"]).bytes, unhex(hex).unwrap(), "{algorithm:?}");
        }
        assert!(RunningChecksum::new(None).finish().is_none());
    }

    proptest! {
        #[test]
        fn pieces_make_no_difference(bytes in prop::collection::vec(any::<u8>(), 0..300), at: prop::sample::Index) {
            let (front, rest) = bytes.split_at(at.index(bytes.len() + 1));
            for algorithm in ALL {
                let whole = of(algorithm, &[&bytes]);
                prop_assert_eq!(&of(algorithm, &[front, rest]), &whole);
                prop_assert_eq!(whole.bytes.len(), algorithm.digest_bytes());
            }
        }
    }
}
