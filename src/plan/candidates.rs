//! Which base backups lead to a resolved target, and why the others do not. Pure.

use crate::catalog::{Backup, Catalog};
use crate::core::{Lsn, Target, TargetKind, TimelinePath, Zone};
use crate::resolve::Resolved;

/// Gaps that are named.
const NAMED: usize = 2;

/// The way to the place where recovery stops.
#[derive(Debug, Clone, Copy)]
pub struct Way<'c, 'a> {
    /// What there is.
    pub catalog: &'c Catalog,
    /// The timelines.
    pub path: &'a TimelinePath,
    /// The target as it was given.
    pub target: &'a Target,
    /// Where it leads from the chosen backup.
    pub resolved: &'a Resolved,
    /// For saying times.
    pub zone: Zone,
}

impl<'c> Way<'c, '_> {
    /// Every backup with why it does not lead there: the chosen one first, then those that do, the best ones first,
    /// then the others in the same order.
    #[must_use]
    pub fn backups(&self, chosen: &str) -> Vec<(&'c Backup, Option<String>)> {
        let mut judged: Vec<(&'c Backup, Option<String>)> = self
            .catalog
            .best_first()
            .into_iter()
            .map(|backup| (backup, if backup.id == chosen { None } else { self.why_not(backup) }))
            .collect();
        judged.sort_by_key(|(backup, why_not)| (backup.id != chosen, why_not.is_some()));
        judged
    }

    /// Why a recovery from this backup does not come to the same place; `None` where it does.
    fn why_not(&self, backup: &Backup) -> Option<String> {
        if let Some(problem) = backup.problems.first() {
            return Some(format!("it is broken: {problem}"));
        }
        self.off_the_path(backup).or_else(|| self.too_late(backup)).or_else(|| self.gap(backup))
    }

    fn off_the_path(&self, backup: &Backup) -> Option<String> {
        if self.catalog.leads_along(backup, self.path) {
            return None;
        }
        let (Some(timeline), Some(start)) = (backup.timeline, backup.start_lsn) else {
            return Some("it is not known where in WAL it begins".to_owned());
        };
        let stop = backup.stop_lsn.unwrap_or(start);
        Some(match self.path.end_of(timeline) {
            Some(Some(end)) => format!(
                "it ended at {stop} on timeline {timeline}, behind {end}, where timeline {} left that one",
                self.after(end)
            ),
            _ => format!("it is of timeline {timeline}, which does not lead to timeline {}", self.path.last()),
        })
    }

    /// The timeline that begins where another one was left.
    fn after(&self, fork: Lsn) -> crate::core::TimelineId {
        let begins = self.path.stretches().iter().find(|stretch| stretch.begin == fork);
        begins.map_or(self.path.last(), |stretch| stretch.timeline)
    }

    fn too_late(&self, backup: &Backup) -> Option<String> {
        if self.target.kind == TargetKind::Immediate {
            return Some("“immediate” is the end of the backup itself: this one's is another".to_owned());
        }
        let stop = backup.stop_lsn.or(backup.start_lsn)?;
        if stop > self.resolved.replay_end {
            return Some(format!("it ended at {stop}, behind the place where recovery stops"));
        }
        let TargetKind::Time(time) = self.target.kind else { return None };
        let ended = backup.finished_at.or(backup.started_at).filter(|ended| time < *ended)?;
        Some(format!("it ended at {}, later than the target", ended.in_zone(self.zone)))
    }

    fn gap(&self, backup: &Backup) -> Option<String> {
        let missing = self.catalog.missing(backup, self.path, Some(self.resolved.replay_end));
        let named: Vec<String> = missing.iter().take(NAMED).map(ToString::to_string).collect();
        let more = match missing.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        (!named.is_empty()).then(|| format!("WAL between it and the target is missing: {}{more}", named.join(", ")))
    }
}
