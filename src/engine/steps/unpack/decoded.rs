//! Decompresses a file on a thread of its own, a few blocks ahead of whoever reads.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};

use crate::catalog::Part;
use crate::source::compress::{self, Count};

use super::archive::Forward;

/// Bytes of a block: it shall still lie in the cache when it is written.
const BLOCK: usize = 256 << 10;
/// Blocks that wait, at most.
const AHEAD: usize = 16;

/// What comes out of a decompressor that works elsewhere.
pub(super) struct Decoded {
    blocks: Receiver<io::Result<Vec<u8>>>,
    /// Blocks that were read go back, to be filled again.
    back: SyncSender<Vec<u8>>,
    block: Vec<u8>,
    at: usize,
    ended: bool,
}

/// The other end, which a thread is given to.
pub(super) struct Decoder {
    blocks: SyncSender<io::Result<Vec<u8>>>,
    back: Receiver<Vec<u8>>,
}

/// Both ends.
pub(super) fn pair() -> (Decoder, Decoded) {
    let (blocks, filled) = sync_channel(AHEAD);
    let (back, emptied) = sync_channel(AHEAD + 2);
    (Decoder { blocks, back: emptied }, Decoded { blocks: filled, back, block: Vec::new(), at: 0, ended: false })
}

impl Decoder {
    /// Decompresses a part to its end, or until nobody reads any more.
    pub(super) fn run(self, part: &Part, count: &Count) {
        if let Err(error) = self.decompress(&part.path, part, count) {
            // Nobody may be there to hear it.
            let _ = self.blocks.send(Err(error));
        }
    }

    fn decompress(&self, path: &Path, part: &Part, count: &Count) -> io::Result<()> {
        let mut reader = compress::open(path, part.compression, count)?;
        loop {
            let mut block = match self.back.try_recv() {
                Ok(block) => block,
                Err(TryRecvError::Empty) => vec![0; BLOCK],
                Err(TryRecvError::Disconnected) => return Ok(()),
            };
            block.resize(BLOCK, 0);
            let mut filled = 0;
            let mut ended = false;
            while let Some(room) = block.get_mut(filled..).filter(|room| !room.is_empty()) {
                match reader.read(room) {
                    Ok(0) => {
                        ended = true;
                        break;
                    }
                    Ok(bytes) => filled += bytes,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            block.truncate(filled);
            if (filled > 0 && self.blocks.send(Ok(block)).is_err()) || ended {
                return Ok(());
            }
        }
    }
}

impl BufRead for Decoded {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at >= self.block.len() && !self.ended {
            let empty = std::mem::take(&mut self.block);
            self.at = 0;
            if empty.capacity() > 0 {
                let _ = self.back.try_send(empty);
            }
            match self.blocks.recv() {
                Ok(block) => self.block = block?,
                Err(_) => self.ended = true,
            }
        }
        Ok(self.block.get(self.at..).unwrap_or_default())
    }

    fn consume(&mut self, bytes: usize) {
        self.at += bytes;
    }
}

impl Read for Decoded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?.read(buffer)?;
        self.consume(bytes);
        Ok(bytes)
    }
}

impl Forward for Decoded {
    fn skip(&mut self, mut bytes: u64) -> io::Result<()> {
        while bytes > 0 {
            let there = self.fill_buf()?.len();
            if there == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            let taken = usize::try_from(bytes).unwrap_or(usize::MAX).min(there);
            self.consume(taken);
            bytes -= taken as u64;
        }
        Ok(())
    }
}
