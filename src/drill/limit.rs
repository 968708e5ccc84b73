//! Limits of time and room for work that only knows how to be cancelled.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use crate::source::Cancel;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// Room is measured so often, at most.
const MEASURE_EVERY: Duration = Duration::from_secs(1);
/// And it takes no more than one part of so many of the time: there may be very many files.
const MEASURING_PART: u32 = 20;

/// What was too much.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TooMuch {
    /// Time.
    Time,
    /// Room: so many bytes.
    Room(u64),
}

/// How much room something may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Room {
    /// What is measured, with everything in it; what is not there takes none.
    pub(super) directories: Vec<PathBuf>,
    /// Bytes at most.
    pub(super) most: u64,
}

/// Cancels work when it has taken too much, or when whoever asked for it gives it up. Looks no further when it is dropped.
#[derive(Debug)]
pub(super) struct Limit {
    cancel: Cancel,
    exceeded: Arc<OnceLock<TooMuch>>,
    _running: Sender<()>,
}

impl Limit {
    /// Of time only, from now on.
    pub(super) fn new(parent: &Cancel, limit: Duration) -> Limit {
        Limit::with_room(parent, limit, None)
    }

    /// Of time, from now on, and of room.
    pub(super) fn with_room(parent: &Cancel, limit: Duration, room: Option<Room>) -> Limit {
        let (cancel, exceeded) = (Cancel::default(), Arc::new(OnceLock::new()));
        let (running, ended) = channel();
        let (parent, to_cancel, is_exceeded) = (parent.clone(), cancel.clone(), Arc::clone(&exceeded));
        let started = Instant::now();
        thread::spawn(move || {
            let mut measured = started;
            let mut pause = MEASURE_EVERY;
            while ended.recv_timeout(LOOK_EVERY) == Err(RecvTimeoutError::Timeout) {
                if parent.is_cancelled() {
                    return to_cancel.cancel();
                }
                let mut too_much = (started.elapsed() >= limit).then_some(TooMuch::Time);
                if let Some(room) = room.as_ref().filter(|_| measured.elapsed() >= pause) {
                    let begun = Instant::now();
                    too_much = too_much.or_else(|| room.exceeded());
                    measured = Instant::now();
                    pause = MEASURE_EVERY.max((measured - begun) * MEASURING_PART);
                }
                if let Some(too_much) = too_much {
                    let _ = is_exceeded.set(too_much);
                    return to_cancel.cancel();
                }
            }
        });
        Limit { cancel, exceeded, _running: running }
    }

    /// What the work is to heed.
    pub(super) fn cancel(&self) -> &Cancel {
        &self.cancel
    }

    /// What was too much, where the work was cancelled for that.
    pub(super) fn exceeded(&self) -> Option<TooMuch> {
        self.exceeded.get().copied()
    }
}

impl Room {
    fn exceeded(&self) -> Option<TooMuch> {
        let taken = self.directories.iter().fold(0_u64, |sum, directory| sum.saturating_add(taken_by(directory)));
        (taken > self.most).then_some(TooMuch::Room(taken))
    }
}

/// Bytes that a directory takes with everything in it. Links are not followed, and what goes away meanwhile takes nothing; a
/// file with several names takes its room once.
fn taken_by(directory: &Path) -> u64 {
    let (mut bytes, mut linked, mut open) = (0_u64, BTreeSet::new(), vec![directory.to_path_buf()]);
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            if metadata.is_dir() {
                open.push(entry.path());
            }
            if metadata.nlink() == 1 || metadata.is_dir() || linked.insert((metadata.dev(), metadata.ino())) {
                // The unit of st_blocks, whatever the file system's own is (stat(2)).
                bytes = bytes.saturating_add(metadata.blocks().saturating_mul(512));
            }
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_for(condition: impl Fn() -> bool) {
        let started = Instant::now();
        while !condition() {
            assert!(started.elapsed() < Duration::from_secs(60));
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn it_tells_its_own_end_from_a_wish() {
        let parent = Cancel::default();
        let short = Limit::new(&parent, Duration::from_millis(1));
        wait_for(|| short.cancel().is_cancelled());
        assert!(short.exceeded() == Some(TooMuch::Time) && !parent.is_cancelled());
        let long = Limit::new(&parent, Duration::MAX);
        assert!(!long.cancel().is_cancelled());
        parent.cancel();
        wait_for(|| long.cancel().is_cancelled());
        assert_eq!(long.exceeded(), None);
    }

    #[test]
    fn what_takes_more_room_than_it_may_is_cancelled() {
        let place = tempfile::tempdir().unwrap();
        fs::create_dir(place.path().join("base")).unwrap();
        fs::write(place.path().join("base/small"), [7; 8192]).unwrap();
        std::os::unix::fs::symlink("/usr", place.path().join("link")).unwrap();
        let room = |most| Room { directories: vec![place.path().join("gone"), place.path().to_path_buf()], most };
        assert_eq!(room(1 << 20).exceeded(), None);
        let limit = Limit::with_room(&Cancel::default(), Duration::MAX, Some(room(1 << 20)));
        fs::write(place.path().join("base/large"), vec![7; 2 << 20]).unwrap();
        fs::hard_link(place.path().join("base/large"), place.path().join("same")).unwrap();
        wait_for(|| limit.cancel().is_cancelled());
        assert!(matches!(limit.exceeded(), Some(TooMuch::Room(bytes)) if (2 << 20..3 << 20).contains(&bytes)));
    }
}
