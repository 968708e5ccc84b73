//! Puts what is written to a file together in memory, to be written in large blocks past the system's page cache.
//!
//! What is unpacked is larger than most caches, and is read by nobody before the server starts. Writing it through the cache
//! costs a copy and new pages for all of it, drives out what other servers on this machine have there, and leaves most of
//! the work to the end, when it is synced. docs/performance.md says what the other way gains.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Bytes that are written at once.
const BLOCK: usize = 1 << 20;
/// Where memory and file have to begin: as long as the blocks of the file systems and disks that there are.
const ALIGNED: usize = 4096;
/// Blocks of one file that are written or wait for it, at most.
const AHEAD: usize = 2;

/// A part of a file that was not written yet.
#[derive(Debug)]
pub(super) struct Staged {
    memory: Vec<u8>,
    /// Where the part begins in memory.
    from: usize,
    filled: usize,
}

thread_local! {
    /// What the last file of a thread was put together in: new memory costs more than writing a small file.
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

impl Staged {
    /// Nothing yet.
    pub(super) fn new() -> Staged {
        let mut memory = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        memory.resize(BLOCK + ALIGNED, 0);
        // It may say that it cannot tell.
        let from = memory.as_ptr().align_offset(ALIGNED);
        Staged { memory, from: if from < ALIGNED { from } else { 0 }, filled: 0 }
    }

    /// Takes as many of `bytes` as there is room for; gives the others.
    pub(super) fn push<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let (taken, rest) = bytes.split_at(bytes.len().min(BLOCK - self.filled));
        let at = self.from + self.filled;
        if let Some(room) = self.memory.get_mut(at..at + taken.len()) {
            room.copy_from_slice(taken);
        }
        self.filled += taken.len();
        rest
    }

    /// Whether a whole block is there.
    pub(super) fn is_full(&self) -> bool {
        self.filled == BLOCK
    }

    /// What is there.
    pub(super) fn bytes(&self) -> &[u8] {
        self.memory.get(self.from..self.from + self.filled).unwrap_or_default()
    }

    /// Forgets what is there: it was written.
    pub(super) fn clear(&mut self) {
        self.filled = 0;
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        let memory = std::mem::take(&mut self.memory);
        // A thread that ends has nothing to keep it for.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() <= AHEAD {
                spare.push(memory);
            }
        });
    }
}

/// Writes blocks of one file on a thread of its own: past the cache, each is waited for until the disk has it.
#[derive(Debug)]
pub(super) struct Behind {
    /// Nothing once the thread is to end.
    blocks: Option<SyncSender<(Staged, u64)>>,
    written: Receiver<Written>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

/// A block, where in the file it belongs, and how writing it went.
pub(super) type Written = (Staged, u64, io::Result<()>);

impl Behind {
    /// For writing to `file`.
    ///
    /// # Errors
    /// When there can be no more threads.
    pub(super) fn start(file: Arc<File>) -> io::Result<Behind> {
        let (blocks, taken) = sync_channel::<(Staged, u64)>(AHEAD);
        let (done, written) = sync_channel(AHEAD);
        let thread = std::thread::Builder::new().name("write".to_owned()).spawn(move || {
            for (staged, at) in taken {
                let result = file.write_all_at(staged.bytes(), at);
                if done.send((staged, at, result)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Behind { blocks: Some(blocks), written, under_way: 0, thread: Some(thread) })
    }

    /// Has a block written at this place.
    ///
    /// # Errors
    /// When there is nobody to write it any more.
    pub(super) fn push(&mut self, staged: Staged, at: u64) -> io::Result<()> {
        let blocks = self.blocks.as_ref().ok_or_else(nobody)?;
        blocks.send((staged, at)).map_err(|_| nobody())?;
        self.under_way += 1;
        Ok(())
    }

    /// Whether one has to be waited for before the next may come.
    pub(super) fn is_full(&self) -> bool {
        self.under_way == AHEAD
    }

    /// Waits for the next one; `None` where none is under way.
    ///
    /// # Errors
    /// When there is nobody to write it any more.
    pub(super) fn wait(&mut self) -> io::Result<Option<Written>> {
        if self.under_way == 0 {
            return Ok(None);
        }
        self.under_way -= 1;
        self.written.recv().map(Some).map_err(|_| nobody())
    }
}

fn nobody() -> io::Error {
    io::Error::other("the thread that writes has ended")
}

impl Drop for Behind {
    /// Nothing is written any more when it is gone.
    fn drop(&mut self) {
        self.blocks = None;
        while matches!(self.wait(), Ok(Some(_))) {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn nothing_is_lost_or_put_elsewhere(pieces in proptest::collection::vec(0usize..700_000, 1..12)) {
            let mut staged = Staged::new();
            let (mut given, mut blocks) = (Vec::new(), Vec::new());
            for (number, length) in pieces.into_iter().enumerate() {
                let piece: Vec<u8> = (0..length).map(|at| (at * 7 + number) as u8).collect();
                given.extend_from_slice(&piece);
                let mut rest = &piece[..];
                while !rest.is_empty() {
                    rest = staged.push(rest);
                    if staged.is_full() {
                        prop_assert_eq!(staged.bytes().len(), BLOCK);
                        prop_assert_eq!(staged.bytes().as_ptr().align_offset(ALIGNED), 0);
                        blocks.extend_from_slice(staged.bytes());
                        staged.clear();
                    }
                }
            }
            blocks.extend_from_slice(staged.bytes());
            prop_assert!(blocks == given);
        }
    }
}
