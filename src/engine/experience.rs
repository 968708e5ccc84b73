//! What recoveries on this machine took, and how fast a backup's front can be decompressed here.

use std::io::Read;
use std::time::{Duration, Instant};

use crate::catalog::{Backup, Compression};
use crate::plan::StepId;
use crate::plan::estimate::{Experience, Measured, Tried};
use crate::source::compress::{self, Count};

use super::record::Recoveries;

/// Older recoveries than so many say nothing any more.
const NEWEST: usize = 20;
/// A decompression is tried for so long at most, and all of them together for no longer than [`ALL_TRIED`].
const ONE_TRIED: Duration = Duration::from_millis(80);
const ALL_TRIED: Duration = Duration::from_millis(250);
/// Bytes that are decompressed at a time.
const BLOCK: usize = 256 << 10;

/// What the journals of former recoveries say, and what decompressing the beginning of `backups` shows where they say
/// nothing. Only the first backup of each compression is tried.
#[must_use]
pub(super) fn gather<'a>(recoveries: &Recoveries, backups: impl Iterator<Item = &'a Backup>) -> Experience {
    let mut experience = Experience::default();
    for buffer in recoveries.newest(NEWEST) {
        let Some(plan) = &buffer.plan else { continue };
        let mut is_unpacked = false;
        let of_drill = recoveries.is_drill(&plan.recovery);
        for phase in &buffer.phases {
            // A server that goes on replays what it has replayed before, much faster.
            let is_new = is_unpacked;
            is_unpacked = match phase.step {
                StepId::Unpack => true,
                StepId::Replay => false,
                _ => is_unpacked,
            };
            let Some(bytes) = phase.bytes else { continue };
            let measured = Measured { bytes, seconds: phase.seconds, of_drill };
            match phase.step {
                StepId::Combine => experience.combined.push(measured),
                // What several backups took together says little about one.
                StepId::Unpack if plan.chain.is_some() => {}
                StepId::Unpack => experience.unpacked.push((plan.backup.kind, plan.backup.compression, measured)),
                StepId::Replay if is_new => {
                    let command = plan.fetch.as_ref().map_or(&plan.restore_command, |fetch| &fetch.by_hand);
                    experience.replayed.push((unpacks_segments(command), measured));
                }
                _ => {}
            }
        }
    }
    let started = Instant::now();
    for backup in backups {
        let compression = backup.compression;
        let is_known = compression == Compression::None
            || experience.tried.iter().any(|(tried, _)| *tried == compression)
            || experience.unpacked.iter().any(|(_, known, _)| *known == compression);
        if is_known || started.elapsed() > ALL_TRIED - ONE_TRIED {
            continue;
        }
        experience.tried.extend(try_to_decompress(backup).map(|tried| (compression, tried)));
    }
    experience
}

/// Whether a `restore_command` decompresses segments.
fn unpacks_segments(command: &str) -> bool {
    Compression::PACKED.iter().any(|compression| {
        compression.program().is_some_and(|(program, options)| command.contains(&format!("{program} {options} ")))
    })
}

fn try_to_decompress(backup: &Backup) -> Option<Tried> {
    let part = backup.parts.first()?;
    let count = Count::default();
    let mut reader = compress::open(&part.path, part.compression, &count).ok()?;
    let mut block = vec![0; BLOCK];
    let (mut became, started) = (0, Instant::now());
    while started.elapsed() < ONE_TRIED {
        match reader.read(&mut block) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => became += bytes as u64,
        }
    }
    Some(Tried { read: count.bytes(), became, seconds: started.elapsed().as_secs_f64() })
}
