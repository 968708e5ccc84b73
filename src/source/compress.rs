//! Opening files that may be compressed.

use std::io::{self, BufReader, Read};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::open_file;
use crate::catalog::Compression;

/// Bytes that were read from a file so far, before decompression: what progress is measured in.
#[derive(Debug, Clone, Default)]
pub struct Count(Arc<AtomicU64>);

impl Count {
    /// How many.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Adds bytes that were read in some other way.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }
}

struct Counted<R> {
    inner: R,
    count: Count,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(buffer)?;
        self.count.add(bytes as u64);
        Ok(bytes)
    }
}

/// Opens `path` for reading its contents, decompressed; `count` goes up with the bytes read from the disk.
///
/// # Errors
/// When the file cannot be opened, or is compressed in a way that cannot be read yet.
pub fn open(path: &Path, compression: Compression, count: &Count) -> io::Result<Box<dyn Read + Send>> {
    let file = Counted { inner: open_file(path)?, count: count.clone() };
    let buffered = BufReader::with_capacity(256 << 10, file);
    match compression {
        Compression::None => Ok(Box::new(buffered)),
        Compression::Gzip => Ok(Box::new(MultiGzDecoder::new(buffered))),
        other => {
            let message = format!("{} is not read yet by this version of Walback", other.name());
            Err(io::Error::new(io::ErrorKind::Unsupported, message))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn several_gzip_members_are_one_file_and_bytes_are_counted_before_decompression() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.gz");
        let mut packed = Vec::new();
        for part in ["one ", "two"] {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(part.as_bytes()).unwrap();
            packed.extend(encoder.finish().unwrap());
        }
        std::fs::write(&path, &packed).unwrap();
        let count = Count::default();
        let mut text = String::new();
        open(&path, Compression::Gzip, &count).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!((text.as_str(), count.bytes()), ("one two", packed.len() as u64));
    }
}
