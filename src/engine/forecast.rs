//! What a recovery would take now, before anybody asks for one.

use std::collections::{BTreeMap, BTreeSet};

use crate::catalog::{Backup, Catalog};
use crate::core::Lsn;
use crate::plan::Estimate;
use crate::plan::chain::Amounts;
use crate::plan::estimate::{Experience, Work};

use super::experience;
use super::record::Recoveries;

/// What a recovery from each base backup that can be used to the end of the WAL that it leads to would take, by its name:
/// from what recoveries and drills on this machine took. Reads no WAL: what is there is told by the names of files.
#[must_use]
pub fn of_each(catalog: &Catalog, recoveries: &Recoveries) -> BTreeMap<String, Estimate> {
    let usable = || catalog.best_first().into_iter().filter(|backup| backup.is_usable());
    let experience = experience::gather(recoveries, usable());
    usable().filter_map(|backup| Some((backup.id.clone(), of(catalog, backup, &experience)?))).collect()
}

fn of(catalog: &Catalog, backup: &Backup, experience: &Experience) -> Option<Estimate> {
    let chain = catalog.chain_of(backup);
    let work = Work {
        backup,
        chain: &chain,
        amounts: Amounts::of(backup, &chain, &BTreeSet::new()),
        replay_end: end_of_wal(catalog, backup)?,
        segment_size: catalog.segment_size,
        packed_wal: !catalog.compressions.is_empty(),
        free_bytes: None,
    };
    Some(experience.estimate(&work))
}

/// Up to where there is WAL without a gap; at least to where the backup is consistent.
fn end_of_wal(catalog: &Catalog, backup: &Backup) -> Option<Lsn> {
    let path = catalog.path_to(catalog.newest_reachable(backup)?)?;
    let size = catalog.segment_size;
    let end = match catalog.missing(backup, &path, None).first() {
        Some(gap) => size.start_of(gap.first.number(size)),
        None => size.start_of(catalog.last_number(&path)? + 1),
    };
    Some(end.max(backup.stop_lsn.or(backup.start_lsn)?))
}
