//! What tells whether a file is still the one that was read.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;
use nix::fcntl::AtFlags;
use nix::sys::stat::{FileStat, SFlag, fstatat};
use sha2::{Digest, Sha256};

use crate::catalog::compression::names_of;
use crate::catalog::layout::path_in;
use crate::catalog::{Compression, Layouts};
use crate::core::{ArchiveFile, SegmentName};

/// What tells whether a segment's file is still the one that was read. A file that was restored with its old time of
/// modification has another time of change: nobody can set that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Identity {
    /// Stands for the directory that it lies in, see [`place_of`].
    pub place: u64,
    /// The device of its file system.
    pub device: u64,
    /// Its inode.
    pub inode: u64,
    /// Its size.
    pub bytes: u64,
    /// When its contents were changed, in nanoseconds since 1970.
    pub modified_ns: i64,
    /// When anything about it was changed, in nanoseconds since 1970.
    pub changed_ns: i64,
}

impl Identity {
    /// The bytes of [`Identity::to_bytes`].
    pub const BYTES: usize = 48;

    /// All of it, for comparing.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let Identity { place, device, inode, bytes, modified_ns, changed_ns } = *self;
        let words = [place, device, inode, bytes, modified_ns as u64, changed_ns as u64];
        let mut all = [0; Self::BYTES];
        for (eight, word) in all.chunks_exact_mut(8).zip(words) {
            eight.copy_from_slice(&word.to_le_bytes());
        }
        all
    }

    /// Of a file in the directory that `place` stands for; `None` where it is no plain file.
    #[must_use]
    pub fn of(place: u64, stat: &FileStat) -> Option<Identity> {
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        (kind == SFlag::S_IFREG).then(|| Identity::of_any(place, stat))
    }

    /// The same, whatever it is.
    pub(super) fn of_any(place: u64, stat: &FileStat) -> Identity {
        let nanoseconds = |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Identity {
            place,
            device: stat.st_dev,
            inode: stat.st_ino,
            bytes: stat.st_size as u64,
            modified_ns: nanoseconds(stat.st_mtime, stat.st_mtime_nsec),
            changed_ns: nanoseconds(stat.st_ctime, stat.st_ctime_nsec),
        }
    }
}

/// A number that stands for a directory.
#[must_use]
pub fn place_of(directory: &Path) -> u64 {
    let digest = Sha256::digest(directory.as_os_str().as_encoded_bytes());
    digest.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

/// The identities of these segments' files, plain or packed, in the first of the archives that has each.
#[must_use]
pub(super) fn in_archives(archives: &[(&Path, Layouts)], names: &[SegmentName]) -> Vec<Option<Identity>> {
    let open = |(directory, layouts): &(&Path, Layouts)| {
        Some(Open { place: place_of(directory), directory: File::open(directory).ok()?, layouts: *layouts })
    };
    let open: Vec<Open> = archives.iter().filter_map(open).collect();
    in_parallel(names, FEW, &|names| names.iter().map(|name| first_of(&open, *name)).collect())
}

/// An archive.
struct Open {
    place: u64,
    directory: File,
    layouts: Layouts,
}

impl Open {
    /// What the system says of each of the files that this one may be.
    fn looks(&self, file: ArchiveFile) -> impl Iterator<Item = Result<Option<Identity>, Errno>> {
        let look = move |path: &str| {
            let found = fstatat(self.directory.as_fd(), path, AtFlags::empty());
            found.map(|stat| Identity::of(self.place, &stat))
        };
        self.layouts.places_of(file).flat_map(move |folder| {
            let names = Compression::OF_SEGMENTS.iter().flat_map(move |form| names_of(file, *form));
            names.map(move |name| folder.map_or_else(|| look(&name), |_| look(&path_in(folder, &name))))
        })
    }
}

/// The sizes of a directory's files.
pub(super) struct Sizes(Option<File>);

impl Sizes {
    pub(super) fn of(directory: &Path) -> Sizes {
        Sizes(File::open(directory).ok())
    }

    /// The size of a file, in bytes; `None` where it is no plain file.
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        let stat = fstatat(self.0.as_ref()?.as_fd(), name, AtFlags::empty()).ok()?;
        Identity::of(0, &stat).map(|identity| identity.bytes)
    }
}

fn first_of(archives: &[Open], name: SegmentName) -> Option<Identity> {
    let of = |file: ArchiveFile| archives.iter().flat_map(move |archive| archive.looks(file));
    let looks = of(ArchiveFile::Segment(name)).chain(of(ArchiveFile::Partial(name)));
    // As with opening, a directory or the like of that name is none of its files, and a link may lead nowhere.
    looks.flatten().flatten().next()
}

/// So many short calls of the system are not worth a thread.
pub(super) const FEW: usize = 2000;

/// Does `work` to what comes, on every core while more of it comes, and gives what came out in no order.
///
/// # Errors
/// Where what comes is an error.
pub(super) fn as_they_come<T: Send, R: Send>(
    mut all: impl Iterator<Item = std::io::Result<T>>,
    work: &(dyn Fn(T) -> Option<R> + Sync),
) -> std::io::Result<Vec<R>> {
    let mut next = || all.by_ref().take(FEW).collect::<std::io::Result<Vec<T>>>();
    let first = next()?;
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    if first.len() < FEW {
        return Ok(first.into_iter().filter_map(work).collect());
    }
    let (sender, receiver) = std::sync::mpsc::channel::<Vec<T>>();
    let parts = Mutex::new(receiver);
    let take = || parts.lock().unwrap_or_else(PoisonError::into_inner).recv().ok();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..cores)
            .map(|_| scope.spawn(|| std::iter::from_fn(take).flatten().filter_map(work).collect::<Vec<R>>()))
            .collect();
        let (mut part, mut failed) = (first, None);
        while !part.is_empty() {
            // Whoever takes them ends only when the sender is gone.
            let _ = sender.send(part);
            part = next().unwrap_or_else(|error| {
                failed = Some(error);
                Vec::new()
            });
        }
        drop(sender);
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        let done = done.flatten().collect();
        failed.map_or(Ok(done), Err)
    })
}

/// Does `work` to parts of `all` on every core, and gives what came out in order. Fewer than `few` are not worth a thread: of
/// calls of the system, which are short, [`FEW`].
pub(super) fn in_parallel<T: Sync, R: Send>(all: &[T], few: usize, work: &(dyn Fn(&[T]) -> Vec<R> + Sync)) -> Vec<R> {
    if all.len() < few {
        return work(all);
    }
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    std::thread::scope(|scope| {
        let parts = all.chunks(all.len().div_ceil(cores));
        let threads: Vec<_> = parts.map(|part| scope.spawn(move || work(part))).collect();
        let done =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done.flatten().collect()
    })
}
