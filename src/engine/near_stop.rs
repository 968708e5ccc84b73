//! What destroyed data near a stop: whether it is kept or lost is what the stop was chosen for.

use std::sync::{MutexGuard, PoisonError};

use crate::catalog::{Backup, Suspect, SuspectKind};
use crate::core::TimelinePath;
use crate::error::Result;
use crate::plan::suspects_kept::{self, NEAR, destroyed_by};
use crate::resolve::Resolved;
use crate::source::names::NameBook;

use super::find::Trust;
use super::prepare::Preparation;

/// So many segments that nobody has read yet are read for it where little is to be read.
const READ: usize = 3;
/// The first transaction that is lost is looked for in so many segments behind the stop.
const BEHIND: u64 = 8;
/// A microsecond is the unit of time in WAL.
const MICROSECONDS: i64 = 1_000_000;

impl Preparation<'_> {
    /// Adds the suspects near the stop with their names. Only segments near it are looked at.
    ///
    /// # Errors
    /// When it was cancelled.
    pub(super) fn look_around(&self, path: &TimelinePath, resolved: &mut Resolved, trust: Trust) -> Result<()> {
        let size = self.catalog.segment_size;
        let index = self.index();
        let stop = size.number_of(resolved.last_kept.map_or(resolved.lsn, |last| last.lsn));
        let at = resolved.last_kept.and_then(|last| last.at);
        let at_most = if trust == Trust::Nothing { usize::MAX } else { READ };
        let back = match at {
            Some(at) => {
                let since = at.plus_micros(-(NEAR as i64) * MICROSECONDS);
                index.numbers_since(path, stop, since, at_most, self.cancel)?
            }
            None => stop..=stop,
        };
        let lost = resolved.first_lost.map(|lost| size.number_of(lost.lsn));
        let last = lost.filter(|lost| lost.saturating_sub(stop) <= BEHIND).unwrap_or(stop).max(stop);
        let found = index.suspects_along(path, *back.start()..=last, self.cancel)?;
        resolved.suspects = suspects_kept::around(resolved, found);
        self.book().name(&mut resolved.suspects, self.catalog, self.cancel)
    }

    /// The database that is looked at first: that of what the first lost transaction destroys, else of what was
    /// destroyed before the stop, else the only one that users made.
    ///
    /// # Errors
    /// When it was cancelled.
    pub(super) fn database(&self, backup: &Backup, resolved: &Resolved) -> Result<Option<String>> {
        let of = |suspect: &Suspect| suspect.databases().first().map(|name| (*name).to_owned());
        let lost = destroyed_by(resolved, resolved.first_lost).find_map(of);
        let is_there = |suspect: &&Suspect| suspect.kind != SuspectKind::DropDatabase;
        let kept = || suspects_kept::kept(resolved).into_iter().filter(is_there).find_map(of);
        match lost.or_else(kept) {
            Some(name) => Ok(Some(name)),
            None => self.book().only_database(backup, self.catalog, self.cancel),
        }
    }

    /// The names that are known. Whoever else wants some waits: most often for the same backup.
    fn book(&self) -> MutexGuard<'_, NameBook> {
        self.names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
