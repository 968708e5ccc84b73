//! What a drill restores: which backup, to which point.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::catalog::{Backup, Catalog, PointKind};
use crate::core::{SegmentName, Target, TargetKind, TimelineChoice};
use crate::error::{Error, Result};
use crate::source::{Cancel, Index};

/// So many segments are looked at at once for what is in them.
const AT_ONCE: usize = 256;
/// So often another point is drawn where the one before turned out to be none.
const DRAWS: usize = 20;

/// Which base backup.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Which {
    /// The newest; for a target that it does not lead to, the best one that does.
    #[default]
    Default,
    /// The newest.
    Newest,
    /// The oldest.
    Oldest,
    /// Any.
    Random,
    /// The one of this name.
    Named(String),
}

impl Which {
    /// As an option names it.
    #[must_use]
    pub fn of(word: &str) -> Which {
        match word {
            "newest" => Which::Newest,
            "oldest" => Which::Oldest,
            "random" => Which::Random,
            name => Which::Named(name.to_owned()),
        }
    }

    fn in_words(&self) -> &'static str {
        match self {
            Which::Default => "the newest base backup that leads there",
            Which::Newest => "the newest base backup",
            Which::Oldest => "the oldest base backup",
            Which::Random => "a base backup drawn at random",
            Which::Named(_) => "the base backup that was named",
        }
    }
}

/// To where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Aim {
    /// There.
    At(Target),
    /// Behind a commit that is drawn at random from all that the backup leads to.
    Random,
}

/// What was chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    /// The base backup, where it is settled.
    pub(super) backup: Option<String>,
    /// The target.
    pub(super) target: Target,
    /// How, in words.
    pub(super) how: String,
}

/// Chooses. `notes` gets what is to be known about it.
pub(super) fn choose(
    catalog: &Catalog,
    index: &Index<'_>,
    (which, aim): (&Which, &Aim),
    notes: &mut Vec<String>,
    cancel: &Cancel,
) -> Result<Chosen> {
    let backup = backup(catalog, which, aim, notes)?;
    let (target, point) = match aim {
        Aim::At(target) => (
            target.clone(),
            if target.kind == TargetKind::Latest { "the end of WAL" } else { "the target that was named" },
        ),
        Aim::Random => {
            let backup = backup.ok_or_else(no_backup)?;
            (random_point(catalog, index, backup, cancel)?, "a commit drawn at random")
        }
    };
    Ok(Chosen {
        backup: backup.map(|backup| backup.id.clone()),
        target,
        how: format!("{}, to {point}", which.in_words()),
    })
}

/// The base backup; `None` where the planner is to find the best one for the target.
fn backup<'c>(catalog: &'c Catalog, which: &Which, aim: &Aim, notes: &mut Vec<String>) -> Result<Option<&'c Backup>> {
    let all = catalog.best_first();
    let usable = || all.iter().copied().filter(|backup| backup.is_usable());
    let found = match which {
        Which::Named(id) => return Ok(Some(catalog.backup(id).ok_or_else(|| unknown(catalog, id))?)),
        Which::Default if matches!(aim, Aim::At(target) if target.kind != TargetKind::Latest) => return Ok(None),
        Which::Default | Which::Newest => usable().next(),
        Which::Oldest => usable().next_back(),
        Which::Random => {
            let usable: Vec<&Backup> = usable().collect();
            usable.get(below(usable.len() as u64) as usize).copied()
        }
    };
    // A backup that is being taken just now looks like one that is broken: it is told, and not a failure.
    let newer = all.iter().take_while(|backup| !backup.is_usable()).filter(|_| !matches!(which, Which::Oldest));
    for backup in newer {
        let problems = backup.problems.join("; ");
        notes.push(format!("the base backup {} is newer, and cannot be used: {problems}", backup.id));
    }
    Ok(Some(found.ok_or_else(no_backup)?))
}

fn no_backup() -> Error {
    Error::failed("no-usable-backup", "there is no base backup that can be used")
        .hint("“walback backups” lists them with their problems")
}

fn unknown(catalog: &Catalog, id: &str) -> Error {
    let known: Vec<&str> = catalog.backups.iter().map(|backup| backup.id.as_str()).collect();
    Error::usage("unknown-backup", format!("there is no base backup of this name: {id}"))
        .hint(format!("there are: {}", known.join(", ")))
}

/// Just behind a commit on the way that the backup leads: each is as likely as any other.
fn random_point(catalog: &Catalog, index: &Index<'_>, backup: &Backup, cancel: &Cancel) -> Result<Target> {
    let size = catalog.segment_size;
    let path = catalog.newest_reachable(backup).and_then(|timeline| catalog.path_to(timeline));
    let from = backup.stop_lsn.or(backup.start_lsn);
    let (Some(path), Some(from)) = (path, from) else { return Ok(Target::new(TargetKind::Latest)) };
    let numbers = size.number_of(from)..=catalog.last_number(&path).unwrap_or_default();
    let on_the_way = |number: u64| {
        let mut names = path.owners_of(number, size).into_iter().map(|owner| SegmentName::new(owner, number, size));
        names.find(|name| catalog.segments.contains(name))
    };
    let names: Vec<SegmentName> = numbers.filter_map(on_the_way).collect();
    let mut commits: Vec<u64> = Vec::with_capacity(names.len());
    for some in names.chunks(AT_ONCE) {
        let read = index.summaries(some, cancel, &mut |_| {})?;
        commits.extend(read.into_iter().map(|read| read.map_or(0, |summary| u64::from(summary.commits))));
    }
    let all: u64 = commits.iter().sum();
    for _ in 0..DRAWS {
        let mut drawn = below(all);
        let place = commits.iter().position(|commits| match drawn.checked_sub(*commits) {
            Some(rest) => {
                drawn = rest;
                false
            }
            None => true,
        });
        let Some(name) = place.and_then(|place| names.get(place)) else { break };
        let points = index.points(name.timeline, name.number(size), cancel)?;
        let mut behind = points.iter().filter(|point| point.kind == PointKind::Commit && point.lsn >= from);
        if let Some(point) = behind.nth(drawn as usize) {
            let timeline = TimelineChoice::Number(path.last());
            return Ok(Target { timeline, ..Target::new(TargetKind::Lsn(point.lsn)) });
        }
    }
    // Nothing was committed since.
    Ok(Target::new(TargetKind::Latest))
}

/// A number below `end`, any as likely as another; 0 where there is none.
pub(super) fn below(end: u64) -> u64 {
    let mut hasher = RandomState::new().build_hasher();
    hasher.write_u64(end);
    hasher.finish().checked_rem(end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_drawn_is_one_of_them_and_not_always_the_same() {
        assert_eq!((below(0), below(1)), (0, 0));
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| below(4)).collect();
        assert!(drawn.iter().all(|number| *number < 4) && drawn.len() > 1, "{drawn:?}");
    }

    #[test]
    fn which_is_a_word_or_a_name() {
        assert_eq!((Which::of("oldest"), Which::of("monday")), (Which::Oldest, Which::Named("monday".to_owned())));
    }
}
