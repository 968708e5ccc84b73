//! How much room there is on a file system.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// The number of the device that a directory lies on.
pub(crate) fn device_of(directory: &Path) -> Option<u64> {
    std::fs::metadata(directory).ok().map(|metadata| metadata.dev())
}

/// Bytes that are free for others than root, and all of them without what is kept for root: of these the free ones are
/// a share, as `df` says it.
///
/// # Errors
/// When it cannot be asked.
#[allow(clippy::useless_conversion, reason = "the types differ between systems")]
pub(crate) fn room_on(directory: &Path) -> io::Result<(u64, u64)> {
    let stat = statvfs(directory)?;
    let unit = u64::from(stat.fragment_size());
    let (all, free) = (u64::from(stat.blocks()), u64::from(stat.blocks_free()));
    let available = u64::from(stat.blocks_available());
    let used = all.saturating_sub(free);
    Ok((available.saturating_mul(unit), used.saturating_add(available).saturating_mul(unit)))
}
