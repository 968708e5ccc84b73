//! `walback resume`, `retarget`, `promote`, `stop` and `discard`

use crate::core::{Target, TimelineChoice};
use crate::engine::Engine;
use crate::engine::host::now;
use crate::engine::prepare::plan_retarget;
use crate::error::Result;
use crate::event::{Recovery, Strategy};

use super::Context;
use super::args::{ActArgs, TargetArgs};
use super::ask::confirm;
use super::plan::{describe_stop, say_findings};
use super::recoveries::watcher;
use super::restore::conclude;
use super::watch::Bar;

/// Goes on with a recovery that was interrupted. It asks nothing: whatever it does was confirmed when it was begun.
///
/// # Errors
/// When it cannot go on from where it stands, or a step fails.
pub fn resume(context: &Context, wanted: Option<&str>, events: bool) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = engine.recoveries().find(wanted)?;
    let act = ActArgs { yes: true, events };
    let watcher = watcher(context, act);
    let done = engine.resume(&recovery.id, &|event| watcher.tell(event), &context.cancel);
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

/// Takes a recovery to another target.
///
/// # Errors
/// When the target cannot be reached, nobody confirms, or a step fails.
pub fn retarget(context: &Context, wanted: Option<&str>, target: &TargetArgs, act: ActArgs) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = find(context, &engine, wanted)?;
    let stays = target.timeline.is_none().then_some(TimelineChoice::Number(recovery.resolved.timeline));
    let target = target.target(context.config.zone, now())?;
    let target = Target { timeline: stays.unwrap_or(target.timeline), ..target };
    let bar = Bar::new("reading WAL");
    let zone = context.config.zone;
    let planned = plan_retarget(&engine, &recovery.id, &target, zone, &context.cancel, &|bytes| {
        bar.show(bytes, None, None, None);
    });
    bar.clear();
    let (plan, strategy) = planned?;
    let stop = describe_stop(&plan.resolved, zone);
    let question = match strategy {
        Strategy::InPlace => {
            format!("This restarts the server and goes on along timeline {}, to stop {stop}", plan.resolved.timeline)
        }
        Strategy::Unpack => format!(
            "This removes what is in {} and unpacks the base backup again, to go along timeline {}, and to stop {stop}",
            plan.directory.display(),
            plan.resolved.timeline
        ),
    };
    say_findings(&plan);
    confirm(act.yes, &question, &recovery.id)?;
    let hash = plan.hash()?;
    let watcher = watcher(context, act);
    let done = engine.retarget(&plan, &hash, strategy, &|event| watcher.tell(event), &context.cancel);
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

/// Ends a paused recovery.
///
/// # Errors
/// When it is not paused, nobody confirms, or promotion fails.
pub fn promote(context: &Context, wanted: Option<&str>, act: ActArgs) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = find(context, &engine, wanted)?;
    let lost = match recovery.resolved.first_lost {
        Some(_) => "; what comes after the target is left behind for good",
        None => "",
    };
    let question = format!(
        "This ends the recovery {}: its server takes writes on a new timeline{lost}. There is no way back",
        recovery.id
    );
    confirm(act.yes, &question, &recovery.id)?;
    let watcher = watcher(context, act);
    let done = engine.promote(&recovery.id, &|event| watcher.tell(event));
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

/// Stops a recovery's server.
///
/// # Errors
/// When it does not stop.
pub fn stop(context: &Context, wanted: Option<&str>) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = engine.recoveries().find(wanted)?;
    let act = ActArgs { yes: true, events: false };
    let watcher = watcher(context, act);
    let done = engine.stop(&recovery.id, &|event| watcher.tell(event));
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

/// Removes what a recovery made.
///
/// # Errors
/// When nobody confirms, or something cannot be removed.
pub fn discard(context: &Context, wanted: Option<&str>, act: ActArgs) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = engine.recoveries().find(wanted)?;
    let question = format!("This stops the server of {} and removes {}", recovery.id, recovery.directory.display());
    confirm(act.yes, &question, &recovery.id)?;
    let watcher = watcher(context, act);
    let done = engine.discard(&recovery.id, &|event| watcher.tell(event));
    conclude(context, &engine, &watcher, act, &recovery.id, done)
}

/// The recovery that is meant, as it stands now and not as its walback left it.
fn find(context: &Context, engine: &Engine, wanted: Option<&str>) -> Result<Recovery> {
    let recovery = engine.recoveries().find(wanted)?;
    use crate::event::RecoveryState::{Discarded, Promoted};
    if !matches!(recovery.state, Discarded | Promoted) {
        engine.refresh(&recovery.id, &|_| {})?;
        return context.recoveries().find(Some(&recovery.id));
    }
    Ok(recovery)
}
