//! Segments read a block after the other, in place: nothing is unpacked before it is asked for, and nothing is copied
//! once more. What a block holds is still in the processor's cache when it is looked at.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek};
use std::path::{Path, PathBuf};

use lz4_flex::frame::FrameDecoder;
use zstd::zstd_safe::{DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name};

use super::compress::{self, Uncut, cut_off, gunzip, open_packed, read_at_most, too_long};
use super::gunzip::Gunzip;
use crate::catalog::Compression;

/// Bytes of a plain segment in a block: they stay in the second-level cache.
const BLOCK: usize = 256 << 10;
/// Bytes that are unpacked at a time, and bytes of a file that they are unpacked from: as large as zstd's blocks are.
const UNPACKED: usize = 128 << 10;
/// Bytes of the first block, where it may be smaller: often no more is wanted of a segment.
const FRONT: usize = 64 << 10;

/// A segment, read from its beginning on.
pub trait Blocks: Send {
    /// The next bytes; none at the end.
    ///
    /// # Errors
    /// When the file cannot be read, is damaged, cut off or longer than a segment.
    fn next_block(&mut self) -> io::Result<&[u8]>;

    /// Goes over what has not been asked for: a packed file that is damaged there is no segment for whoever unpacks it
    /// to restore from.
    ///
    /// # Errors
    /// As [`Blocks::next_block`].
    fn check_rest(&mut self) -> io::Result<()> {
        while !self.next_block()?.is_empty() {}
        Ok(())
    }
}

/// Opens a segment of at most `segment_bytes`.
///
/// # Errors
/// When the file cannot be opened, or is packed in another way than its name says.
pub fn open(path: &Path, compression: Compression, segment_bytes: u64) -> io::Result<Box<dyn Blocks>> {
    let room = usize::try_from(segment_bytes).map_err(io::Error::other)?;
    let file = open_packed(path, compression)?;
    Ok(match compression {
        Compression::None => of_plain(Box::new(file)),
        Compression::Gzip => Box::new(Gzip { file, room, step: Step::Front, memory: take_spare() }),
        Compression::Zstd => Box::new(Zstd::open(file, room)?),
        Compression::Lz4 => Box::new(Lz4::open(file, room)?),
        Compression::Xz => of_packed(Box::new(compress::xz(BufReader::with_capacity(UNPACKED, file))?), room),
        Compression::Bzip2 => of_packed(Box::new(compress::bzip2(BufReader::with_capacity(UNPACKED, file))), room),
    })
}

/// Opens the file of a segment that is not known to be whole, see [`compress::open_partial`].
///
/// # Errors
/// When the file cannot be opened, or is packed in another way than its name says.
pub fn open_partial(path: &Path, compression: Compression, segment_bytes: u64) -> io::Result<Box<dyn Blocks>> {
    if compression == Compression::None {
        return open(path, compression, segment_bytes);
    }
    let room = usize::try_from(segment_bytes).map_err(io::Error::other)?;
    Ok(of_packed(compress::open_partial(path, compression, segment_bytes)?, room))
}

/// The same with other copies of the segment: where one turns out to be damaged or cut off, the next one goes on.
#[must_use]
pub fn falling_back(
    first: Box<dyn Blocks>,
    others: Vec<(PathBuf, Compression)>,
    segment_bytes: u64,
) -> Box<dyn Blocks> {
    let others = others.into_iter();
    Box::new(FallingBack { current: first, others, given: 0, segment_bytes, block: Vec::new() })
}

struct FallingBack {
    current: Box<dyn Blocks>,
    others: std::vec::IntoIter<(PathBuf, Compression)>,
    /// Bytes that were given out.
    given: u64,
    segment_bytes: u64,
    block: Vec<u8>,
}

impl FallingBack {
    /// Reads a block of the current copy.
    fn read(&mut self) -> io::Result<()> {
        let block = self.current.next_block()?;
        self.block.clear();
        self.block.extend_from_slice(block);
        if block.is_empty() && self.given < self.segment_bytes {
            return Err(cut_off());
        }
        Ok(())
    }

    /// Opens the next copy, and goes to where the last one was left.
    fn turn_to(&mut self, path: &Path, compression: Compression) -> io::Result<()> {
        self.current = open(path, compression, self.segment_bytes)?;
        let mut behind = 0;
        while behind <= self.given {
            let block = self.current.next_block()?;
            if block.is_empty() {
                return Err(cut_off());
            }
            let before = behind;
            behind += block.len() as u64;
            if behind > self.given {
                let from = usize::try_from(self.given - before).unwrap_or(block.len());
                self.block.clear();
                self.block.extend_from_slice(block.get(from..).unwrap_or_default());
            }
        }
        Ok(())
    }
}

impl Blocks for FallingBack {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let mut read = self.read();
        while let Err(first) = read {
            let Some((path, compression)) = self.others.next() else { return Err(first) };
            // What the first one said is the likeliest to help.
            read = self.turn_to(&path, compression).map_err(|_| first);
        }
        self.given += self.block.len() as u64;
        Ok(&self.block)
    }
}

/// Blocks of what is read as it is.
#[must_use]
pub fn of_plain(segment: Box<dyn Read + Send>) -> Box<dyn Blocks> {
    let mut memory = take_spare();
    memory.bytes.resize(BLOCK, 0);
    Box::new(Plain { segment, block: FRONT, memory })
}

/// What the last segment of a thread was read with, to be used again: asking for so much memory anew each time takes
/// longer than some ways of unpacking into it.
#[derive(Default)]
struct Memory {
    packed: Vec<u8>,
    bytes: Vec<u8>,
    zstd: Option<DCtx<'static>>,
    lz4: Option<Lz4Frame>,
}

thread_local! {
    static SPARE: RefCell<Memory> = RefCell::default();
}

fn take_spare() -> Memory {
    SPARE.take()
}

impl Memory {
    fn give_back(&mut self) {
        SPARE.set(std::mem::take(self));
    }
}

struct Plain {
    segment: Box<dyn Read + Send>,
    /// Bytes of the next block.
    block: usize,
    memory: Memory,
}

impl Blocks for Plain {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let block = std::mem::replace(&mut self.block, BLOCK);
        let filled = fill(&mut self.segment, self.memory.bytes.get_mut(..block).unwrap_or_default())?;
        Ok(self.memory.bytes.get(..filled).unwrap_or_default())
    }

    /// Nothing can be wrong with it.
    fn check_rest(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Plain {
    fn drop(&mut self) {
        self.memory.give_back();
    }
}

/// Fills `room` as far as the file goes.
fn fill(file: &mut impl Read, room: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = room.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read(rest) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// Blocks of what comes out of a decompressor, at most `room` bytes.
fn of_packed(decoder: Box<dyn Read + Send>, room: usize) -> Box<dyn Blocks> {
    let mut memory = take_spare();
    memory.bytes.resize(UNPACKED, 0);
    Box::new(Packed { decoder, left: room, memory })
}

struct Packed {
    decoder: Box<dyn Read + Send>,
    /// The segment may still have so many bytes.
    left: usize,
    memory: Memory,
}

impl Blocks for Packed {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let filled = fill(&mut self.decoder, self.memory.bytes.get_mut(..UNPACKED).unwrap_or_default())?;
        self.left = self.left.checked_sub(filled).ok_or_else(too_long)?;
        Ok(self.memory.bytes.get(..filled).unwrap_or_default())
    }
}

impl Drop for Packed {
    fn drop(&mut self) {
        self.memory.give_back();
    }
}

/// The fastest way to unpack gzip wants all of it at once; a slower one gives the beginning alone.
struct Gzip {
    file: File,
    room: usize,
    step: Step,
    memory: Memory,
}

enum Step {
    Front,
    Rest { behind: usize },
    End,
}

impl Blocks for Gzip {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let Memory { packed, bytes, .. } = &mut self.memory;
        match self.step {
            Step::Front => {
                bytes.resize(self.room, 0);
                let front = bytes.get_mut(..FRONT.min(self.room)).unwrap_or_default();
                let filled = fill(&mut Gunzip::new(BufReader::new(&self.file)), front)?;
                self.step = Step::Rest { behind: filled };
                Ok(front.get(..filled).unwrap_or_default())
            }
            Step::Rest { behind } => {
                self.step = Step::End;
                self.file.rewind()?;
                read_at_most(&self.file, self.room + self.room / 16 + (1 << 20), packed)?;
                let unpacked = gunzip(packed, bytes)?;
                Ok(bytes.get(behind..unpacked).unwrap_or_default())
            }
            Step::End => Ok(&[]),
        }
    }
}

impl Drop for Gzip {
    fn drop(&mut self) {
        self.memory.give_back();
    }
}

struct Zstd {
    file: File,
    /// What was read of the file and not unpacked: this part of the packed bytes.
    from: usize,
    to: usize,
    /// A frame has begun and not ended.
    inside: bool,
    /// The segment may still have so many bytes.
    left: usize,
    memory: Memory,
}

impl Zstd {
    fn open(file: File, room: usize) -> io::Result<Zstd> {
        let mut memory = take_spare();
        memory.packed.resize(UNPACKED, 0);
        memory.bytes.resize(UNPACKED, 0);
        let context = memory.zstd.get_or_insert_with(DCtx::create);
        context.reset(ResetDirective::SessionOnly).map_err(damaged)?;
        Ok(Zstd { file, from: 0, to: 0, inside: false, left: room, memory })
    }
}

impl Blocks for Zstd {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let Zstd { file, from, to, inside, left, memory: Memory { packed, bytes, zstd, .. } } = self;
        let context = zstd.get_or_insert_with(DCtx::create);
        let room = bytes.get_mut(..UNPACKED).unwrap_or_default();
        let mut filled = 0;
        while filled < room.len() {
            let mut input = InBuffer::around(packed.get(*from..*to).unwrap_or_default());
            let mut output = OutBuffer::around_pos(&mut *room, filled);
            let hint = context.decompress_stream(&mut output, &mut input).map_err(damaged)?;
            // What has been read may be all unpacked, and not all handed out.
            let moved = input.pos() > 0 || output.pos() > filled;
            (*from, filled) = (*from + input.pos(), output.pos());
            if moved {
                *inside = hint != 0;
                continue;
            }
            (*from, *to) = (0, fill(file, packed.get_mut(..UNPACKED).unwrap_or_default())?);
            match (*to, *inside) {
                (0, true) => return Err(cut_off()),
                (0, false) => break,
                _ => {}
            }
        }
        *left = left.checked_sub(filled).ok_or_else(too_long)?;
        Ok(room.get(..filled).unwrap_or_default())
    }
}

impl Drop for Zstd {
    fn drop(&mut self) {
        self.memory.give_back();
    }
}

fn damaged(code: usize) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, get_error_name(code))
}

/// A file, as long as it is read.
struct Closable(Option<File>);

impl Read for Closable {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.as_mut().map_or(Ok(0), |file| file.read(buffer))
    }
}

/// What unpacks a frame of LZ4, with memory for as large blocks as the frame says that it has.
struct Lz4Frame {
    /// What the frame says of its blocks.
    form: Vec<u8>,
    decoder: FrameDecoder<Uncut<BufReader<Closable>>>,
}

impl Lz4Frame {
    /// Uses what the last segment was read with, if its frame was of the same form.
    fn of(file: File, spare: Option<Lz4Frame>) -> io::Result<Lz4Frame> {
        // Magic, FLG and BD (`lz4_Frame_format.md`).
        let form = compress::first_bytes(&file)?;
        if let Some(mut spare) = spare.filter(|spare| spare.form == form) {
            *spare.decoder.get_mut().0.get_mut() = Closable(Some(file));
            return Ok(spare);
        }
        let file = BufReader::with_capacity(UNPACKED, Closable(Some(file)));
        Ok(Lz4Frame { form, decoder: FrameDecoder::new(Uncut(file)) })
    }
}

struct Lz4 {
    /// Always there, but in the end.
    frame: Option<Lz4Frame>,
    /// Bytes of the block that was shown last.
    shown: usize,
    /// The segment may still have so many bytes.
    left: usize,
    /// There was more than one frame.
    several: bool,
    ended: bool,
    memory: Memory,
}

impl Lz4 {
    fn open(file: File, room: usize) -> io::Result<Lz4> {
        let mut memory = take_spare();
        let frame = Some(Lz4Frame::of(file, memory.lz4.take())?);
        Ok(Lz4 { frame, shown: 0, left: room, several: false, ended: false, memory })
    }
}

impl Blocks for Lz4 {
    fn next_block(&mut self) -> io::Result<&[u8]> {
        let Some(Lz4Frame { decoder, .. }) = self.frame.as_mut().filter(|_| !self.ended) else { return Ok(&[]) };
        decoder.consume(std::mem::take(&mut self.shown));
        while decoder.fill_buf()?.is_empty() {
            // Behind a frame may come another one.
            if decoder.get_mut().0.fill_buf()?.is_empty() {
                self.ended = true;
                return Ok(&[]);
            }
            self.several = true;
        }
        let block = decoder.fill_buf()?;
        self.shown = block.len();
        self.left = self.left.checked_sub(block.len()).ok_or_else(too_long)?;
        Ok(block)
    }
}

impl Drop for Lz4 {
    fn drop(&mut self) {
        // One that ended elsewhere is in the middle of something; one that read several frames has memory for others.
        if let Some(mut frame) = self.frame.take().filter(|_| self.ended && !self.several) {
            *frame.decoder.get_mut().0.get_mut() = Closable(None);
            self.memory.lz4 = Some(frame);
        }
        self.memory.give_back();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::compress::tests::{any_bytes, any_compression, packed};
    use super::*;

    /// A file that is gone as soon as it is opened.
    fn opened(contents: &[u8], compression: Compression, room: usize) -> Box<dyn Blocks> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("000000010000000000000001");
        std::fs::write(&path, contents).unwrap();
        open(&path, compression, room as u64).unwrap()
    }

    fn all(blocks: &mut dyn Blocks) -> io::Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            match blocks.next_block()? {
                [] => return Ok(all),
                block => all.extend_from_slice(block),
            }
        }
    }

    fn read(contents: &[u8], compression: Compression, room: usize) -> io::Result<Vec<u8>> {
        all(opened(contents, compression, room).as_mut())
    }

    /// A thread uses its memory again.
    #[test]
    fn frames_of_lz4_are_read_alike_whatever_was_read_before() {
        use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};
        let bytes: Vec<u8> = (0..3 << 16).map(|byte: u32| (byte / 7) as u8).collect();
        let frame = |size: BlockSize, mode: BlockMode| {
            let info = FrameInfo::new().content_checksum(true).block_size(size).block_mode(mode);
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            std::io::Write::write_all(&mut encoder, &bytes).unwrap();
            encoder.finish().unwrap()
        };
        let small = frame(BlockSize::Max64KB, BlockMode::Independent);
        let (linked, large) =
            (frame(BlockSize::Max64KB, BlockMode::Linked), frame(BlockSize::Max1MB, BlockMode::Linked));
        let room = 2 * bytes.len();
        for first in [&small, &linked, &large] {
            for second in [&small, &linked, &large] {
                let mut damaged = first.clone();
                let middle = damaged.len() / 2;
                damaged[middle] ^= 1;
                for before in
                    [first[..middle].to_vec(), damaged, first.clone(), [first.clone(), first.clone()].concat()]
                {
                    let _ = read(&before, Compression::Lz4, room);
                    assert!(read(second, Compression::Lz4, room).unwrap() == bytes);
                }
            }
        }
    }

    #[test]
    fn another_copy_goes_on_where_one_is_damaged() {
        let segment: Vec<u8> =
            (0..1u32 << 18).map(|word| word.wrapping_mul(0x9E37_79B9)).flat_map(u32::to_le_bytes).collect();
        let directory = tempfile::tempdir().unwrap();
        let copy = |name: &str, contents: &[u8]| {
            let path = directory.path().join(name);
            std::fs::write(&path, contents).unwrap();
            path
        };
        for compression in Compression::PACKED {
            let whole = packed(&segment, compression);
            let short = packed(&segment[..700_000], compression);
            for damaged in [&whole[..whole.len() / 2], &whole[..10], &short] {
                let first = || open(&copy("first", damaged), compression, 1 << 20).unwrap();
                let bad = (copy("bad", &whole[..whole.len() / 3]), compression);
                let good = (copy("good", &segment), Compression::None);
                let mut blocks = falling_back(first(), vec![bad.clone(), good], 1 << 20);
                assert!(all(blocks.as_mut()).unwrap() == segment, "{compression:?}");
                assert!(all(falling_back(first(), vec![bad], 1 << 20).as_mut()).is_err(), "{compression:?}");
            }
        }
    }

    #[test]
    fn a_segment_is_read_however_it_is_compressed() {
        let segment: Vec<u8> = (0..1u32 << 18).flat_map(|word| (word / 7).to_le_bytes()).collect();
        assert!(read(&segment, Compression::None, 0).unwrap() == segment);
        for compression in Compression::PACKED {
            let file = packed(&segment, compression);
            assert!(read(&file, compression, 1 << 20).unwrap() == segment, "{compression:?}");
            assert!(read(&file, compression, (1 << 20) - 1).is_err(), "{compression:?} is longer than it may be");
        }
    }

    /// Of a segment of which only the beginning is wanted, no more than that is unpacked.
    #[test]
    fn the_beginning_is_there_before_the_rest_is_looked_at() {
        let segment: Vec<u8> = (0..1u32 << 18).flat_map(u32::to_le_bytes).collect();
        for compression in Compression::PACKED {
            let mut file = packed(&segment, compression);
            let middle = file.len() / 2;
            file[middle..].fill(0);
            let mut blocks = opened(&file, compression, 1 << 20);
            let first = blocks.next_block().unwrap();
            assert!(first.len() >= 8192 && segment.starts_with(first), "{compression:?}");
            assert!(blocks.check_rest().is_err(), "{compression:?}: the rest is damaged");
        }
        let mut plain = opened(&segment, Compression::None, 0);
        assert_eq!(plain.next_block().unwrap().len(), FRONT);
        plain.check_rest().unwrap();
    }

    /// What it claims to hold is never set aside.
    #[test]
    fn a_bomb_is_refused() {
        for compression in Compression::PACKED {
            let bomb = packed(&vec![0; 64 << 20], compression);
            let mut blocks = opened(&bomb, compression, 1 << 20);
            let mut bytes = 0;
            let refused = loop {
                match blocks.next_block() {
                    Ok(block) => bytes += block.len(),
                    Err(error) => break error,
                }
            };
            assert!(bytes <= 1 << 20, "{compression:?}: {bytes} bytes until {refused}");
        }
    }

    #[test]
    fn wherever_it_is_cut_off_it_is_noticed() {
        let bytes: Vec<u8> =
            (0..300u32).map(|word| word.wrapping_mul(0x9E37_79B9)).flat_map(u32::to_le_bytes).collect();
        for compression in Compression::PACKED {
            let whole = packed(&bytes, compression);
            for cut in 0..whole.len() {
                // Of nothing, some forms make nothing: that is no segment either.
                let came_out = read(&whole[..cut], compression, bytes.len()).unwrap_or_default().len();
                let is_error = read(&whole[..cut], compression, bytes.len()).is_err();
                assert!(is_error || (cut, came_out) == (0, 0), "{compression:?}, cut at {cut}: {came_out} bytes");
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn what_was_packed_comes_out(
            bytes in any_bytes(), other in any_bytes(), compression in any_compression(), more in 0usize..3,
        ) {
            let file = packed(&bytes, compression);
            prop_assert!(read(&file, compression, bytes.len() + more).unwrap() == bytes);
            prop_assert!(read(&file, compression, bytes.len() - 1).is_err());
            let (file, both) = ([file, packed(&other, compression)].concat(), [bytes, other].concat());
            prop_assert!(read(&file, compression, both.len()).unwrap() == both, "several members are one file");
            prop_assert!(read(&file, compression, both.len() - 1).is_err());
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
            prop_assert!(read(&file[..cut], compression, bytes.len()).is_err(), "{} of {}", cut, file.len());
            file.extend(more);
            prop_assert!(read(&file, compression, bytes.len() * 2 + 100).is_err());
        }

        #[test]
        fn no_bytes_make_it_panic(mut bytes: Vec<u8>, compression in any_compression(), room in 0usize..100_000) {
            let _ = read(&bytes, compression, room);
            let mut front = packed(&[1; 100], compression)[..4].to_vec();
            front.append(&mut bytes);
            let _ = read(&front, compression, room);
        }
    }
}
