//! Opening files that may be compressed.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::bufread::MultiBzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::{CONCATENATED, Stream, TELL_UNSUPPORTED_CHECK};

use super::gunzip::Gunzip;
use super::open_file;
use crate::catalog::Compression;
use crate::catalog::compression::may_be_short;
use crate::core::SegmentSize;

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
/// When the file cannot be opened, or is packed in another way than its name says.
pub fn open(path: &Path, compression: Compression, count: &Count) -> io::Result<Box<dyn Read + Send>> {
    let file = Counted { inner: open_packed(path, compression)?, count: count.clone() };
    let buffered = BufReader::with_capacity(256 << 10, file);
    Ok(match compression {
        Compression::None => Box::new(buffered),
        Compression::Gzip => Box::new(Gunzip::new(buffered)),
        Compression::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(buffered)?),
        Compression::Lz4 => Box::new(Lz4Frames(lz4_flex::frame::FrameDecoder::new(Uncut(buffered)))),
        Compression::Xz => Box::new(xz(buffered)?),
        Compression::Bzip2 => Box::new(bzip2(buffered)),
    })
}

/// Opens a file whose name says that it is packed in this way.
///
/// # Errors
/// When it cannot be opened, or is packed in another way.
pub(super) fn open_packed(path: &Path, compression: Compression) -> io::Result<File> {
    let file = open_file(path)?;
    if compression != Compression::None {
        let checked = compression.check_contents(first_bytes(&file)?.as_slice());
        checked.map_err(|why| io::Error::new(io::ErrorKind::InvalidData, why))?;
    }
    Ok(file)
}

/// As many as tell how it is packed.
pub(super) fn first_bytes(file: &File) -> io::Result<Vec<u8>> {
    let mut first_bytes = vec![0; 6];
    let there = file.read_at(&mut first_bytes, 0)?;
    first_bytes.truncate(there);
    Ok(first_bytes)
}

/// How an archived file is packed whose name says this. Where the name says nothing, its first bytes do; one that is as
/// long as a segment of `size` is one, and is not opened.
///
/// # Errors
/// When it is not there, cannot be read, or is no plain file.
pub(super) fn form_of(path: &Path, by_name: Compression, size: Option<SegmentSize>) -> io::Result<Compression> {
    if by_name != Compression::None {
        return Ok(by_name);
    }
    let is_whole = |size: SegmentSize| Ok::<_, io::Error>(std::fs::metadata(path)?.len() == size.bytes());
    if size.map(is_whole).transpose()? == Some(true) {
        return Ok(Compression::None);
    }
    Ok(by_name.or_of_contents(&first_bytes(&open_file(path)?)?))
}

/// Memory that unpacking xz may take: `xz -9` needs 65 MiB for it, and nothing but a dictionary that was chosen by hand
/// needs more. It is set aside as the file says, so that any file could ask for 4 GiB.
const MOST_MEMORY_OF_XZ: u64 = 72 << 20;

/// What unpacks xz, all streams of a file.
pub(super) fn xz<R: BufRead>(packed: R) -> io::Result<Worded<XzDecoder<R>>> {
    let stream = Stream::new_stream_decoder(MOST_MEMORY_OF_XZ, CONCATENATED | TELL_UNSUPPORTED_CHECK);
    Ok(Worded(XzDecoder::new_stream(packed, stream?)))
}

/// What unpacks bzip2, all streams of a file. It takes 4 MB at most.
pub(super) fn bzip2<R: BufRead>(packed: R) -> Worded<MultiBzDecoder<R>> {
    Worded(MultiBzDecoder::new(packed))
}

/// Says in our own words what is wrong with a file of xz or bzip2.
pub(super) struct Worded<R>(R);

impl<R: Read> Read for Worded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // To xz, no room is no progress, and that it takes for damage the second time.
        if buffer.is_empty() {
            return Ok(0);
        }
        self.0.read(buffer).map_err(in_words)
    }
}

fn in_words(error: io::Error) -> io::Error {
    use liblzma::stream::Error as Lzma;
    if is_cut_off(&error) {
        return cut_off();
    }
    let inner = error.get_ref();
    let damaged = |why: &str| io::Error::new(io::ErrorKind::InvalidData, why);
    match inner.and_then(|inner| inner.downcast_ref::<Lzma>()) {
        Some(Lzma::MemLimit) => damaged(
            "it was packed with a larger dictionary than xz -9 has, and would take too much memory: pack it anew",
        ),
        Some(Lzma::Mem) => io::Error::from_raw_os_error(nix::libc::ENOMEM),
        Some(Lzma::Options | Lzma::UnsupportedCheck) => damaged("it is packed with an option of xz that is not known"),
        Some(Lzma::Format) => damaged("it does not begin as xz does"),
        Some(_) => damaged("it is damaged"),
        None => match inner.and_then(|inner| inner.downcast_ref::<bzip2::Error>()) {
            Some(bzip2::Error::DataMagic) => damaged("it does not begin or go on as bzip2 does"),
            Some(_) => damaged("it is damaged"),
            None => error,
        },
    }
}

/// Opens the file of a segment that is not known to be whole. One that `pg_receivewal` packs is not filled with zeros
/// beforehand, and breaks off where it is still written to: what it lacks up to `segment_bytes` is zeros here, as it is
/// in the plain file.
///
/// # Errors
/// When it cannot be opened. Reading fails where it is damaged, or longer than a segment.
pub fn open_partial(path: &Path, compression: Compression, segment_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
    let is_filled = path.file_name().is_some_and(|name| may_be_short(&name.to_string_lossy()));
    let file = open(path, compression, &Count::default())?;
    Ok(Box::new(Partial { file, left: segment_bytes, is_filled, ended: false }))
}

/// At most a segment of a file, and zeros behind it where it `is_filled`.
struct Partial {
    file: Box<dyn Read + Send>,
    /// Bytes up to the end of the segment.
    left: u64,
    is_filled: bool,
    /// The file has nothing more.
    ended: bool,
}

impl Read for Partial {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Where there should be no more, one byte tells that there is not.
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).clamp(1, buffer.len().max(1));
        let Some(room) = buffer.get_mut(..most) else { return Ok(0) };
        if !self.ended {
            match self.file.read(room) {
                Ok(0) => self.ended = true,
                Err(error) if self.is_filled && is_cut_off(&error) => self.ended = true,
                Ok(bytes) => {
                    self.left = self.left.checked_sub(bytes as u64).ok_or_else(too_long)?;
                    return Ok(bytes);
                }
                Err(error) => return Err(error),
            }
        }
        if self.left == 0 || !self.is_filled {
            return Ok(0);
        }
        room.fill(0);
        self.left -= room.len() as u64;
        Ok(room.len())
    }
}

/// Frames of LZ4, one after the other, up to the end of the file. The decoder stops at the end of each.
struct Lz4Frames<R: Read>(lz4_flex::frame::FrameDecoder<Uncut<R>>);

impl<R: BufRead> Read for Lz4Frames<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let bytes = self.0.read(buffer)?;
            if bytes > 0 || buffer.is_empty() || self.0.get_mut().0.fill_buf()?.is_empty() {
                return Ok(bytes);
            }
        }
    }
}

/// The first bytes of a file, decompressed, at most so many: for looking at what it is.
///
/// # Errors
/// When the file cannot be read, or is packed in another way than its name says.
pub fn front(path: &Path, compression: Compression, bytes: u64) -> io::Result<Vec<u8>> {
    let file = BufReader::new(open_packed(path, compression)?);
    let mut front = Vec::new();
    match compression {
        Compression::None => file.take(bytes).read_to_end(&mut front)?,
        Compression::Gzip => Gunzip::new(file).take(bytes).read_to_end(&mut front)?,
        Compression::Zstd => zstd::stream::read::Decoder::with_buffer(file)?.take(bytes).read_to_end(&mut front)?,
        Compression::Lz4 => lz4_flex::frame::FrameDecoder::new(file).take(bytes).read_to_end(&mut front)?,
        Compression::Xz => xz(file)?.take(bytes).read_to_end(&mut front)?,
        Compression::Bzip2 => bzip2(file).take(bytes).read_to_end(&mut front)?,
    };
    Ok(front)
}

thread_local! {
    /// What the last segment of this thread was read with, to be used again: asking for so much memory anew each time
    /// takes longer than some ways of decompressing into it.
    static SPARE: RefCell<(SegmentReader, Vec<u8>)> = RefCell::default();
}

/// A compressed segment, decompressed.
struct Unpacked {
    bytes: Vec<u8>,
    at: usize,
}

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut rest = self.bytes.get(self.at..).unwrap_or_default();
        let read = rest.read(buffer)?;
        self.at += read;
        Ok(read)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        SPARE.with(|spare| spare.borrow_mut().1 = bytes);
    }
}

/// Opens a compressed segment of at most `segment_bytes`.
///
/// # Errors
/// As [`SegmentReader::read`].
pub fn open_segment(path: &Path, compression: Compression, segment_bytes: u64) -> io::Result<Box<dyn Read + Send>> {
    SPARE.with(|spare| {
        let (reader, bytes) = &mut *spare.borrow_mut();
        let mut bytes = std::mem::take(bytes);
        reader.read(path, compression, segment_bytes, &mut bytes)?;
        Ok(Box::new(Unpacked { bytes, at: 0 }) as Box<dyn Read + Send>)
    })
}

/// Reads segments whole, decompressed: what they unpack to is known beforehand, and that is faster than a bit at a time.
#[derive(Default)]
pub struct SegmentReader {
    /// The file as it is. Kept, so that the memory is asked for once.
    packed: Vec<u8>,
}

impl SegmentReader {
    /// Reads the segment at `path` into `bytes`, instead of what they hold. A segment has `segment_bytes`; a file that
    /// was cut off, or a last one, may have less.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, cut off or longer than a segment, has more behind its compressed
    /// data, or is packed in another way than its name says.
    pub fn read(
        &mut self,
        path: &Path,
        compression: Compression,
        segment_bytes: u64,
        bytes: &mut Vec<u8>,
    ) -> io::Result<()> {
        let room = usize::try_from(segment_bytes).map_err(io::Error::other)?;
        let file = open_packed(path, compression)?;
        if compression == Compression::None {
            return read_at_most(&file, room, bytes);
        }
        // What cannot be made smaller is a little longer when it is compressed.
        read_at_most(&file, room + room / 16 + (1 << 20), &mut self.packed)?;
        unpack(&self.packed, compression, room, bytes)
    }
}

/// Reads a file into `bytes`, instead of what they hold.
pub(super) fn read_at_most(file: &File, room: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.clear();
    bytes.reserve(usize::try_from(file.metadata()?.len()).unwrap_or(room).min(room) + 1);
    file.take(room as u64 + 1).read_to_end(bytes)?;
    if bytes.len() > room { Err(too_long()) } else { Ok(()) }
}

/// Decompresses `packed` into `bytes`, instead of what they hold, to at most `room` of them.
fn unpack(packed: &[u8], compression: Compression, room: usize, bytes: &mut Vec<u8>) -> io::Result<()> {
    bytes.resize(room, 0);
    let unpacked = match compression {
        Compression::Gzip => gunzip(packed, bytes)?,
        Compression::Zstd => zstd::bulk::Decompressor::new()?.decompress_to_buffer(packed, bytes.as_mut_slice())?,
        Compression::Lz4 => unpack_lz4(packed, bytes)?,
        Compression::Xz => fill(&mut xz(packed)?, bytes)?,
        Compression::Bzip2 => fill(&mut bzip2(packed), bytes)?,
        Compression::None => fill(&mut &*packed, bytes)?,
    };
    bytes.truncate(unpacked);
    Ok(())
}

/// Without a word, `libdeflater` leaves out what follows the first member. Where there seems to be more, it is done
/// again the slow way.
pub(super) fn gunzip(packed: &[u8], bytes: &mut [u8]) -> io::Result<usize> {
    use libdeflater::{DecompressionError, Decompressor};
    let unpacked = match Decompressor::new().gzip_decompress(packed, bytes) {
        Ok(unpacked) => unpacked,
        Err(DecompressionError::InsufficientSpace) => return Err(too_long()),
        // `libdeflater` says the same of what is cut off.
        Err(DecompressionError::BadData) => {
            let slow = fill(&mut Gunzip::new(packed), bytes);
            return Err(match slow.err().filter(is_cut_off) {
                Some(_) => cut_off(),
                None => io::Error::new(io::ErrorKind::InvalidData, "it is damaged"),
            });
        }
    };
    if is_one_member(packed, unpacked) {
        return Ok(unpacked);
    }
    fill(&mut Gunzip::new(packed), bytes)
}

/// Whether `packed` is a single member of gzip that holds `unpacked` bytes: it ends with their number, and nothing in
/// it looks like the header of another one (RFC 1952: magic, deflate, flags, no time to tell, how hard, system).
fn is_one_member(packed: &[u8], unpacked: usize) -> bool {
    let Some((_, length)) = packed.split_last_chunk() else { return false };
    let another = memchr::memmem::find_iter(packed.get(1..).unwrap_or_default(), &[0x1F, 0x8B, 0x08]).any(|at| {
        let header = packed.get(at + 1..at + 11).unwrap_or_default();
        matches!(header, [_, _, _, 0..0x20, _, _, _, _, 0..=8, 0..=13 | 255])
    });
    u32::from_le_bytes(*length) == unpacked as u32 && !another
}

fn unpack_lz4(packed: &[u8], bytes: &mut [u8]) -> io::Result<usize> {
    let mut decoder = lz4_flex::frame::FrameDecoder::new(Uncut(packed));
    let mut unpacked = 0;
    while !decoder.get_ref().0.is_empty() {
        unpacked += fill(&mut decoder, bytes.get_mut(unpacked..).unwrap_or_default())?;
    }
    Ok(unpacked)
}

/// Bytes that are asked for more than there are only where they are cut off. `lz4_flex` takes the end of its input for
/// that of a frame.
pub(super) struct Uncut<R>(pub(super) R);

impl<R: Read> Read for Uncut<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 if !buffer.is_empty() => Err(cut_off()),
            bytes => Ok(bytes),
        }
    }
}

/// Reads all that there is into `bytes`.
fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    loop {
        let rest = bytes.get_mut(filled..).unwrap_or_default();
        // Where there is no room left, there must not be anything more either.
        let mut more = [0];
        let full = rest.is_empty();
        match reader.read(if full { &mut more } else { rest })? {
            0 => return Ok(filled),
            _ if full => return Err(too_long()),
            bytes => filled += bytes,
        }
    }
}

pub(super) fn too_long() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "it is longer than a segment")
}

/// Not of the kind `UnexpectedEof`, which `lz4_flex` takes for the end of a frame.
pub(super) fn cut_off() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, CutOff)
}

#[derive(Debug, thiserror::Error)]
#[error("it is cut off")]
struct CutOff;

pub(super) fn is_cut_off(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::UnexpectedEof || error.get_ref().is_some_and(|inner| inner.is::<CutOff>())
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    /// Each way to compress that is read, in one piece.
    pub(in crate::source) fn packed(bytes: &[u8], compression: Compression) -> Vec<u8> {
        match compression {
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            Compression::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(3).unwrap();
                compressor.include_checksum(true).unwrap();
                compressor.compress(bytes).unwrap()
            }
            Compression::Xz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            // In blocks of 100 kB, so that the first one does not hold all of it.
            Compression::Bzip2 => {
                let mut encoder = ::bzip2::write::BzEncoder::new(Vec::new(), ::bzip2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
            _ => {
                let info = lz4_flex::frame::FrameInfo::new()
                    .content_checksum(true)
                    .block_size(lz4_flex::frame::BlockSize::Max64KB);
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
                encoder.write_all(bytes).unwrap();
                encoder.finish().unwrap()
            }
        }
    }

    pub(in crate::source) fn any_compression() -> impl Strategy<Value = Compression> {
        prop::sample::select(&Compression::PACKED)
    }

    fn unpacked(packed: &[u8], compression: Compression, room: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![7; 3];
        unpack(packed, compression, room, &mut bytes).map(|()| bytes)
    }

    /// Repeats itself, as WAL does, and does not.
    pub(in crate::source) fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
        (proptest::collection::vec(any::<u8>(), 1..3000), 1usize..60)
            .prop_map(|(bytes, times)| bytes.iter().copied().cycle().take(bytes.len() * times).collect())
    }

    #[test]
    fn a_segment_is_read_whatever_it_is_called() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("000000010000000000000001");
        let segment: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
        let (mut reader, mut bytes) = (SegmentReader::default(), Vec::new());
        for compression in Compression::OF_SEGMENTS {
            let file = if compression == Compression::None { segment.clone() } else { packed(&segment, compression) };
            assert_eq!(Compression::of_contents(&file), compression);
            std::fs::write(&path, &file).unwrap();
            reader.read(&path, compression, 1 << 20, &mut bytes).unwrap();
            assert!(bytes == segment, "{compression:?}");
            let error = reader.read(&path, compression, (1 << 20) - 1, &mut bytes).unwrap_err();
            assert!(
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::Other),
                "{compression:?}: {error}"
            );
        }
    }

    #[test]
    fn what_is_packed_otherwise_than_its_name_says_is_refused_in_words() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        for compression in Compression::PACKED {
            let other = if compression == Compression::Xz { Compression::Gzip } else { Compression::Xz };
            std::fs::write(&path, packed(b"wal", other)).unwrap();
            for error in [
                open(&path, compression, &Count::default()).err(),
                front(&path, compression, 1).err(),
                SegmentReader::default().read(&path, compression, 1 << 20, &mut Vec::new()).err(),
            ] {
                let error = error.map(|error| error.to_string()).unwrap_or_default();
                assert!(error.contains(&format!("packed with {}", other.name())), "{compression:?}: {error}");
            }
        }
    }

    /// Each dictionary that a preset of xz has can be unpacked, and no larger one takes memory.
    #[test]
    fn xz_takes_no_more_memory_than_its_presets_need() {
        use liblzma::stream::{Check, Filters, LzmaOptions};
        let pack = |dictionary: u32| {
            let mut options = LzmaOptions::new_preset(0).unwrap();
            let mut filters = Filters::new();
            filters.lzma2(options.dict_size(dictionary));
            let stream = Stream::new_stream_encoder(&filters, Check::Crc64).unwrap();
            let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
            encoder.write_all(b"wal").unwrap();
            encoder.finish().unwrap()
        };
        // `xz -0` to `xz -9`, whose packing takes ten times as much memory.
        for kilobytes in [256, 1 << 10, 2 << 10, 4 << 10, 8 << 10, 16 << 10, 32 << 10, 64 << 10] {
            assert_eq!(unpacked(&pack(kilobytes << 10), Compression::Xz, 9).unwrap(), b"wal", "{kilobytes} kB");
        }
        let error = unpacked(&pack(96 << 20), Compression::Xz, 9).unwrap_err();
        assert!(error.to_string().contains("larger dictionary than xz -9"), "{error}");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let bytes: Vec<u8> = (0..1u32 << 16).flat_map(|word| (word / 3).to_le_bytes()).collect();
        let said = |file: &[u8], form| unpacked(file, form, bytes.len()).unwrap_err().to_string();
        let gzip = packed(&bytes, Compression::Gzip);
        assert_eq!(said(&gzip[..gzip.len() / 2], Compression::Gzip), "it is cut off");
        for form in [Compression::Xz, Compression::Bzip2] {
            let whole = packed(&bytes, form);
            assert_eq!(said(&whole[..whole.len() / 2], form), "it is cut off");
            let mut flipped = whole.clone();
            flipped[whole.len() / 2] ^= 0x10;
            assert_eq!(said(&flipped, form), "it is damaged");
            let behind = said(&[whole.as_slice(), b"something else"].concat(), form);
            assert!(behind == "it is damaged" || behind == "it does not begin or go on as bzip2 does", "{behind}");
            assert!(said(b"something else", form).starts_with("it does not begin"));
            assert_eq!(said(b"", form), "it is cut off");
        }
    }

    /// What was received of a segment so far reads as the plain file does: zeros come last.
    #[test]
    fn a_packed_partial_that_is_short_or_cut_off_ends_in_zeros() {
        let directory = tempfile::tempdir().unwrap();
        let bytes: Vec<u8> =
            (0..1u32 << 16).map(|word| word.wrapping_mul(0x9E37_79B9)).flat_map(u32::to_le_bytes).collect();
        let name = |ending: &str| directory.path().join(format!("000000010000000000000001{ending}"));
        for form in Compression::PACKED {
            let whole = packed(&bytes, form);
            let read = |file: &[u8], ending: &str, room: u64| {
                let path = name(ending);
                std::fs::write(&path, file).unwrap();
                let mut all = Vec::new();
                open_partial(&path, form, room)?.read_to_end(&mut all).map(|_| all)
            };
            let written = format!("{}.partial", form.ending());
            let room = bytes.len() as u64 + 12345;
            let filled = read(&whole, &written, room).unwrap();
            assert!(filled.len() as u64 == room && filled.starts_with(&bytes), "{form:?}");
            assert!(filled[bytes.len()..].iter().all(|byte| *byte == 0), "{form:?}");
            assert!(read(&whole, &written, bytes.len() as u64).unwrap() == bytes, "{form:?}");
            assert!(read(&whole, &written, bytes.len() as u64 - 1).is_err(), "{form:?}: it is too long");
            let cut = read(&whole[..whole.len() * 3 / 4], &written, room).unwrap();
            let same = cut.iter().zip(&bytes).take_while(|(cut, whole)| cut == whole).count();
            assert!(cut.len() as u64 == room && same >= bytes.len() / 3, "{form:?}: {same}");
            // What was packed when it was complete has to be whole.
            let packed_later = format!(".partial{}", form.ending());
            assert!(read(&whole, &packed_later, room).unwrap() == bytes, "{form:?}");
            assert!(read(&whole[..whole.len() * 3 / 4], &packed_later, room).is_err(), "{form:?}");
        }
    }

    /// The limit holds before anything is set aside for what a file claims to hold.
    #[test]
    fn a_bomb_is_refused() {
        for compression in Compression::PACKED {
            let bomb = packed(&vec![0; 64 << 20], compression);
            let mut bytes = Vec::new();
            assert!(unpack(&bomb, compression, 1 << 20, &mut bytes).is_err(), "{compression:?}");
            assert!(bytes.capacity() <= 1 << 20, "{compression:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_packed_comes_out(bytes in any_bytes(), compression in any_compression(), more in 0usize..3) {
            let file = packed(&bytes, compression);
            prop_assert!(unpacked(&file, compression, bytes.len() + more).unwrap() == bytes);
            prop_assert!(unpacked(&file, compression, bytes.len() - 1).is_err());
        }

        #[test]
        fn several_members_are_one_file(
            bytes in any_bytes(), other in any_bytes(), alike: bool, compression in any_compression(),
        ) {
            let other = if alike { &bytes } else { &other };
            let file = [packed(&bytes, compression), packed(other, compression)].concat();
            let both = [bytes.as_slice(), other].concat();
            let room = both.len();
            prop_assert!(unpacked(&file, compression, room).unwrap() == both);
            prop_assert!(unpacked(&file, compression, room - 1).is_err());
        }

        #[test]
        fn what_is_cut_off_or_has_more_behind_it_is_refused(
            bytes in any_bytes(),
            compression in any_compression(),
            cut: prop::sample::Index,
            more in proptest::collection::vec(any::<u8>(), 1..40),
        ) {
            let mut file = packed(&bytes, compression);
            let cut = cut.index(file.len() - 1) + 1;
            prop_assert!(unpacked(&file[..cut], compression, bytes.len()).is_err(), "{} of {}", cut, file.len());
            file.extend(more);
            prop_assert!(unpacked(&file, compression, bytes.len() * 2 + 100).is_err());
        }

        #[test]
        fn a_flipped_bit_is_noticed_or_makes_no_difference(
            bytes in any_bytes(), compression in any_compression(), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut file = packed(&bytes, compression);
            let at = at.index(file.len());
            file[at] ^= 1 << bit;
            if let Ok(unpacked) = unpacked(&file, compression, bytes.len() * 2) {
                prop_assert!(unpacked == bytes);
            }
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, compression in any_compression(), room in 0usize..100_000) {
            let _ = unpacked(&bytes, compression, room);
            let mut front = packed(&[1; 100], compression)[..4].to_vec();
            front.append(&mut bytes);
            let _ = unpacked(&front, compression, room);
            let _ = Compression::of_contents(&front);
        }
    }

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
