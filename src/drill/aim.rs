//! What a drill restores: which backup, to which point.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::catalog::{Backup, Catalog, PointKind};
use crate::core::{SegmentName, Target, TargetKind, TimelineChoice, Timestamp};
use crate::error::{Error, Result};
use crate::source::{Cancel, Index};

/// So many segments are looked at at once for what is in them.
const AT_ONCE: usize = 256;
/// So often another point is drawn where the one before turned out to be none.
const DRAWS: usize = 20;
/// Seconds that no base backup takes: one that was begun before, and cannot be used, is not being taken any more.
const TAKES_AT_MOST: f64 = 24.0 * 3600.0;

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

/// What is to be known of the backups that were not chosen, in words.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct PassedOver {
    /// What may be as it has to be.
    pub(super) notes: Vec<String>,
    /// What is a failure of whoever takes the backups.
    pub(super) failures: Vec<String>,
}

/// Chooses, at this time. `passed_over` stands also where nothing can be chosen.
pub(super) fn choose(
    catalog: &Catalog,
    index: &Index<'_>,
    (which, aim): (&Which, &Aim),
    passed_over: &mut PassedOver,
    (now, cancel): (Timestamp, &Cancel),
) -> Result<Chosen> {
    if !matches!(which, Which::Oldest | Which::Named(_)) {
        *passed_over = PassedOver::of(catalog, now);
    }
    let backup = backup(catalog, which, aim)?;
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

impl PassedOver {
    /// The backups that cannot be used and are newer than the newest that can be, or of which that cannot be told. One that
    /// is being taken just now looks like one that is broken; one that was begun long ago does not.
    fn of(catalog: &Catalog, now: Timestamp) -> PassedOver {
        let mut passed_over = PassedOver::default();
        let best_first = catalog.best_first();
        let newest = best_first.iter().position(|backup| backup.is_usable());
        let broken = |backup: &&&Backup| !backup.is_usable();
        let newer =
            best_first.iter().take(newest.unwrap_or_default()).filter(broken).filter(|one| one.start_lsn.is_some());
        for backup in newer {
            let said =
                format!("the base backup {} is newer, and cannot be used: {}", backup.id, backup.problems.join("; "));
            let is_old = backup.started_at.is_some_and(|at| now.seconds_since(at) > TAKES_AT_MOST);
            if is_old { passed_over.failures.push(said) } else { passed_over.notes.push(said) }
        }
        let unknown = best_first.iter().filter(broken).filter(|backup| backup.start_lsn.is_none());
        passed_over.notes.extend(unknown.map(|backup| {
            let problems = backup.problems.join("; ");
            format!("the base backup {} may be newer, and cannot be used: {problems}", backup.id)
        }));
        passed_over
    }
}

/// The base backup; `None` where the planner is to find the best one for the target.
fn backup<'c>(catalog: &'c Catalog, which: &Which, aim: &Aim) -> Result<Option<&'c Backup>> {
    let all = catalog.best_first();
    let mut usable = all.iter().copied().filter(|backup| backup.is_usable());
    let found = match which {
        Which::Named(id) => return named(catalog, id).map(Some),
        Which::Default if matches!(aim, Aim::At(target) if !target.is_of_all()) => return Ok(None),
        Which::Default | Which::Newest => usable.next(),
        Which::Oldest => usable.next_back(),
        Which::Random => {
            let usable: Vec<&Backup> = usable.collect();
            usable.get(below(usable.len() as u64) as usize).copied()
        }
    };
    Ok(Some(found.ok_or_else(no_backup)?))
}

fn no_backup() -> Error {
    Error::failed("no-usable-backup", "there is no base backup that can be used")
        .hint("“walback backups” lists them with their problems")
}

/// The base backup of this name.
///
/// # Errors
/// When there is none.
pub(super) fn named<'c>(catalog: &'c Catalog, id: &str) -> Result<&'c Backup> {
    catalog.backup(id).ok_or_else(|| {
        let known: Vec<&str> = catalog.backups.iter().map(|backup| backup.id.as_str()).collect();
        Error::usage("unknown-backup", format!("there is no base backup of this name: {id}"))
            .hint(format!("there are: {}", known.join(", ")))
    })
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
    use crate::catalog::{BackupKind, Compression, Listing};
    use crate::core::{Lsn, TimelineId};

    #[test]
    fn what_is_drawn_is_one_of_them_and_not_always_the_same() {
        assert_eq!((below(0), below(1)), (0, 0));
        let drawn: std::collections::BTreeSet<u64> = (0..200).map(|_| below(4)).collect();
        assert!(drawn.iter().all(|number| *number < 4) && drawn.len() > 1, "{drawn:?}");
    }

    #[test]
    fn a_broken_backup_that_is_newer_is_a_failure_once_nobody_can_be_taking_it() {
        let hours = |hours: i64| Timestamp::from_unix_seconds(hours * 3600).unwrap();
        let backup = |id: &str, start: Option<u64>, begun: i64, problem: Option<&str>| Backup {
            id: id.to_owned(),
            start_lsn: start.map(Lsn),
            timeline: start.map(|_| TimelineId(1)),
            started_at: Some(hours(begun)),
            problems: problem.map(str::to_owned).into_iter().collect(),
            ..Backup::at(format!("/backups/{id}"), BackupKind::Tar, Compression::None)
        };
        let backups = vec![
            backup("long-gone", Some(10), 1, Some("cut off")),
            backup("good", Some(20), 100, None),
            backup("broken", Some(30), 124, Some("cut off")),
            backup("begun", Some(40), 148, Some("no end")),
            backup("empty", None, 148, Some("nothing in it")),
        ];
        let catalog = Catalog::build(Listing { backups, ..Listing::default() });
        let PassedOver { notes, failures } = PassedOver::of(&catalog, hours(149));
        assert_eq!(failures, ["the base backup broken is newer, and cannot be used: cut off"]);
        assert_eq!(notes.len(), 2, "{notes:?}");
        assert!(notes[0].contains("begun is newer") && notes[1].contains("empty may be newer"), "{notes:?}");
        let latest = Aim::At(Target::new(TargetKind::Latest));
        let chosen = |which: &Which, aim: &Aim| super::backup(&catalog, which, aim).unwrap().map(|it| it.id.as_str());
        assert_eq!((chosen(&Which::Newest, &latest), chosen(&Which::Default, &latest)), (Some("good"), Some("good")));
        let of_one = Target { timeline: TimelineChoice::Number(TimelineId(1)), ..Target::new(TargetKind::Latest) };
        assert_eq!(chosen(&Which::Default, &Aim::At(of_one)), None, "the planner finds one that leads there");
    }

    #[test]
    fn which_is_a_word_or_a_name() {
        assert_eq!((Which::of("oldest"), Which::of("monday")), (Which::Oldest, Which::Named("monday".to_owned())));
    }
}
