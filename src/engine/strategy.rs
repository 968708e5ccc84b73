//! How a recovery gets to another target: looks at its copy and at WAL, and has [`crate::plan::retarget`] judge.

use std::cell::{Cell, RefCell};
use std::sync::Mutex;

use crate::catalog::Catalog;
use crate::config::SourceConfig;
use crate::core::{Target, TimelinePath, Zone};
use crate::error::{Error, ErrorKind, Result};
use crate::event::EventBuffer;
use crate::plan::preflight::space_again;
use crate::plan::retarget::{
    Ahead, Approach, Bar, Behind, Otherwise, Standing, Strategy, barred, barred_ahead, path_of,
};
use crate::plan::{Estimate, Plan};
use crate::resolve::{Resolver, StopSide};
use crate::source::{Cancel, Index, LocalSource, Source};

use super::data_directory::control_file;
use super::facts;
use super::find::Find;
use super::prepare::Preparation;
use super::run::Engine;

/// What is known now of the copy of a recovery; what its server does may change it at any moment.
pub(super) fn standing(recovery: &EventBuffer) -> Option<Standing> {
    let plan = recovery.plan.as_ref()?;
    Some(Standing {
        timeline: plan.resolved.timeline,
        reached: recovery.reached,
        control: control_file(&plan.directory),
    })
}

/// The backups and archives that a recovery was planned with.
pub(super) fn source_of(plan: &Plan) -> LocalSource {
    LocalSource::new(&SourceConfig {
        name: plan.recovery.clone(),
        backups: plan.backups_read().map(|backup| backup.location.clone()).collect(),
        wal: plan.wal.clone(),
        commands: plan.commands.clone(),
        ..SourceConfig::default()
    })
}

impl Preparation<'_> {
    /// Whether a copy can go in place to where the plan stops, proven by WAL: a server that starts at its redo pointer
    /// stops at the very same record, and nothing that was replayed behind it outlasts going back.
    ///
    /// # Errors
    /// When WAL cannot be read, or when it was cancelled.
    pub(super) fn barred(&self, plan: &Plan, copy: &Standing) -> Result<std::result::Result<(), Bar>> {
        let (Ok(()), Ok(control)) = (barred(copy, &plan.resolved), &copy.control) else {
            return Ok(barred(copy, &plan.resolved));
        };
        let path = self.catalog.path_to(plan.resolved.timeline).unwrap_or_else(|| path_of(&plan.resolved));
        let index = self.index();
        let find = self.finding(&index, &path, plan);
        let told = plan.resolved.as_told(&plan.target);
        let written = control.min_recovery_point.unwrap_or(plan.resolved.replay_end);
        let mut resolver = Resolver::going_on(told, &path, control.redo, written);
        let end = find.to_stop(&mut resolver, control.redo)?;
        let stop = resolver.finish(end.at);
        let behind = match (&stop, copy.reached) {
            (Ok(_), Some(reached)) if reached > plan.resolved.replay_end => behind(&find, plan, reached)?,
            _ => Behind::Nothing,
        };
        Ok(barred_ahead(&plan.target, &plan.resolved, &Ahead { stop, behind }))
    }

    fn finding<'f>(&'f self, index: &'f Index<'f>, path: &'f TimelinePath, plan: &'f Plan) -> Find<'f> {
        Find {
            source: self.source,
            catalog: self.catalog,
            index,
            backup: &plan.backup,
            path,
            progress: self.progress,
            cancel: self.cancel,
            done: Cell::new(0),
            names: RefCell::default(),
            on_the_way: RefCell::default(),
        }
    }
}

/// What was replayed behind the plan's stop and does not go back.
fn behind(find: &Find<'_>, plan: &Plan, reached: crate::core::Lsn) -> Result<Behind> {
    let resolved = &plan.resolved;
    // The record at which it stops is replayed, or is the first one that is not.
    let from = if resolved.stop == StopSide::Before { resolved.lsn } else { resolved.lsn.plus(1) };
    find.lasting_until(resolved.lsn, from, reached)
}

/// How a recovery could get to another target, as things are now.
pub(super) struct Ways<'a> {
    pub(super) engine: &'a Engine,
    pub(super) preparation: &'a Preparation<'a>,
    pub(super) recovery: &'a EventBuffer,
    pub(super) current: &'a Plan,
}

impl Ways<'_> {
    /// The plan to get to a target, and how.
    ///
    /// # Errors
    /// When the target cannot be reached from the recovery's backup, or WAL cannot be read.
    pub(super) fn plan(&self, target: &Target, zone: Zone) -> Result<(Plan, Approach)> {
        let anew = self.preparation.replan(self.current, target, zone)?;
        let strategy = self.engine.anew(self.current);
        let estimate = match strategy {
            Strategy::Snapshot => without_unpacking(&anew.estimate),
            Strategy::InPlace | Strategy::Unpack => anew.estimate.clone(),
        };
        let can_be_made = strategy == Strategy::Snapshot || self.preparation.backup_again(self.current).is_some();
        let otherwise = can_be_made.then_some(Otherwise { strategy, estimate });
        let bar = match standing(self.recovery) {
            None => Bar::Unknown,
            Some(copy) => match (barred(&copy, &anew.resolved), &copy.control) {
                (Err(bar), _) => bar,
                (Ok(()), Err(why)) => Bar::Control(why.clone()),
                (Ok(()), Ok(control)) => {
                    // A server that goes on has to learn anew who runs.
                    let plan = self.preparation.replan_from(self.current, target, zone, control.redo)?;
                    match self.preparation.barred(&plan, &copy)? {
                        Err(bar) => bar,
                        Ok(()) => {
                            let (strategy, why) = (Strategy::InPlace, String::new());
                            let estimate = plan.estimate.clone();
                            return Ok((plan, Approach { strategy, why, estimate, otherwise }));
                        }
                    }
                }
            },
        };
        let why = bar.to_string();
        let Some(Otherwise { strategy, estimate }) = otherwise else { return Err(backup_gone(self.current, &why)) };
        let mut plan = Plan { estimate: estimate.clone(), ..anew };
        let free = facts::free_bytes(&plan.directory);
        let space =
            free.and_then(|free| space_again(&plan.directory, &estimate, free, facts::used_bytes(&plan.directory)));
        plan.findings.extend(space);
        plan.findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        Ok((plan, Approach { strategy, why, estimate, otherwise: None }))
    }
}

fn backup_gone(plan: &Plan, why: &str) -> Error {
    let location = plan.backup.location.display();
    Error::failed("backup-gone", format!("the base backup is not there any more: {location}"))
        .because(format!("going there without it is not possible: {why}"))
        .hint(
            "choose a target that the copy can go to; or “walback restore” makes another recovery, from another backup",
        )
}

/// The same from a copy that was kept: its files are made again without reading the backup.
fn without_unpacking(estimate: &Estimate) -> Estimate {
    Estimate {
        read_bytes: 0,
        unpack_s: None,
        total_s: estimate.replay_s,
        basis: format!("{}; making the files again from the kept copy is not counted", estimate.basis),
        ..estimate.clone()
    }
}

/// Everything that plans for a recovery are made with, from its own plan.
pub(super) fn with_preparation<T>(
    engine: &Engine,
    plan: &Plan,
    cancel: &Cancel,
    progress: &dyn Fn(u64),
    work: impl FnOnce(&Preparation<'_>) -> Result<T>,
) -> Result<T> {
    let source = source_of(plan).remembering(engine.cache());
    let catalog: Catalog = source.list(cancel)?;
    work(&Preparation {
        source: &source,
        catalog: &catalog,
        recoveries: engine.recoveries(),
        cache: engine.cache(),
        names: &Mutex::default(),
        progress,
        cancel,
    })
}

/// How a retarget really gets there, once the server is stopped: `pg_control` moved until then. What was announced is
/// never exceeded: a recovery that was to be made anew is.
///
/// # Errors
/// When it was cancelled, and where there is no other way. What cannot be read proves nothing, and is a reason to make
/// the copy anew.
pub(super) fn settled(
    engine: &Engine,
    before: &EventBuffer,
    plan: &Plan,
    announced: &Approach,
    cancel: &Cancel,
) -> Result<Approach> {
    if announced.strategy != Strategy::InPlace {
        return Ok(announced.clone());
    }
    let why = match standing(before) {
        None => Bar::Unknown.to_string(),
        Some(copy) => {
            let proven = with_preparation(engine, plan, cancel, &|_| {}, |preparation| preparation.barred(plan, &copy));
            match proven {
                Ok(Ok(())) => return Ok(Approach { otherwise: None, ..announced.clone() }),
                Ok(Err(bar)) => bar.to_string(),
                Err(error) if error.report().kind == ErrorKind::Interrupted => return Err(error),
                Err(error) => unread(&error),
            }
        }
    };
    let otherwise = announced.otherwise.clone().ok_or_else(|| backup_gone(plan, &why))?;
    Ok(Approach { strategy: otherwise.strategy, why, estimate: otherwise.estimate, otherwise: None })
}

fn unread(error: &Error) -> String {
    format!("what WAL says about it cannot be read: {}", error.report().message)
}
