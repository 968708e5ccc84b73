//! `walback resume`, `retarget`, `promote`, `stop` and `discard`

use crate::core::{Target, TimelineChoice, Zone};
use crate::engine::Engine;
use crate::engine::host::now;
use crate::engine::prepare::plan_retarget;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Recovery, Strategy};
use crate::plan::{Approach, Plan, StepTo};

use super::args::{ActArgs, TargetArgs};
use super::ask::confirm;
use super::plan::{describe_stop, say_findings};
use super::recoveries::watcher;
use super::restore::conclude;
use super::table::{plain, plain_lines};
use super::watch::Bar;
use super::{Context, note, print};

/// What `walback retarget` is given.
#[derive(Debug)]
pub struct Retarget<'a> {
    /// Where to stop.
    pub target: &'a TargetArgs,
    /// To the commit beside it instead.
    pub step: Option<StepTo>,
    /// Only say how.
    pub dry_run: bool,
    /// How to ask and tell.
    pub act: ActArgs,
}

impl Retarget<'_> {
    fn target(&self, context: &Context, recovery: &Recovery) -> Result<Target> {
        let stays = TimelineChoice::Number(recovery.resolved.timeline);
        let Some(step) = self.step else {
            let target = self.target.target(context.config.zone, now())?;
            let timeline = if self.target.timeline.is_none() { stays } else { target.timeline };
            return Ok(Target { timeline, ..target });
        };
        if recovery.matches_prediction == Some(false) {
            return Err(Error::failed("not-as-predicted", "it did not stop where it was predicted to")
                .because("which commits lie beside that place is not known".to_owned())
                .hint("give a target: --time, --xid, --lsn or --name"));
        }
        step.target(&recovery.resolved, self.target.action()).ok_or_else(|| {
            Error::new(ErrorKind::Unreachable, "no-commit", step.why_none())
                .hint("“walback points” lists the commits; give a target: --time, --xid, --lsn or --name")
        })
    }
}

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
pub fn retarget(context: &Context, wanted: Option<&str>, to: &Retarget<'_>) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let recovery = find(context, &engine, wanted)?;
    let target = to.target(context, &recovery)?;
    let bar = Bar::new("reading WAL");
    let zone = context.config.zone;
    let planned = plan_retarget(&engine, &recovery.id, &target, zone, &context.cancel, &|bytes| {
        bar.show(bytes, None, None, None);
    });
    bar.clear();
    let (plan, approach) = planned?;
    if to.dry_run {
        return say_approach(context, &plan, &approach);
    }
    say_findings(&plan);
    confirm(to.act.yes, &question(&plan, &approach, zone), &recovery.id)?;
    if to.act.yes {
        note(&format!("{}: it {}", recovery.id, approach.in_words()));
    }
    let hash = plan.hash()?;
    let watcher = watcher(context, to.act);
    let done = engine.retarget(&plan, &hash, &approach, &|event| watcher.tell(event), &context.cancel);
    conclude(context, &engine, &watcher, to.act, &recovery.id, done)
}

/// Which way, why and how long.
fn question(plan: &Plan, approach: &Approach, zone: Zone) -> String {
    let first = match (approach.strategy, &approach.otherwise) {
        (Strategy::InPlace, None) => "This restarts the server".to_owned(),
        (Strategy::InPlace, Some(_)) => {
            format!("This restarts the server in {}", plain(&plan.directory.display().to_string()))
        }
        (Strategy::Snapshot | Strategy::Unpack, _) => {
            format!("This stops the server and removes what is in {}", plain(&plan.directory.display().to_string()))
        }
    };
    let (timeline, stop) = (plan.resolved.timeline, describe_stop(&plan.resolved, zone));
    format!("{first}, to go along timeline {timeline}, and to stop {stop}.\nIt {}", approach.in_words())
}

/// Says which way a retarget would take, and nothing is changed.
fn say_approach(context: &Context, plan: &Plan, approach: &Approach) -> Result<u8> {
    if context.json {
        let document = serde_json::json!({ "plan": plan, "approach": approach });
        print(&format!("{document:#}"))?;
    } else {
        say_findings(plan);
        let stop = describe_stop(&plan.resolved, context.config.zone);
        print(&plain_lines(&format!("It would stop {stop}.\nIt {}.", approach.in_words())))?;
    }
    Ok(if plan.is_forbidden() { ErrorKind::Problems.exit_status() } else { 0 })
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
    let buffer = engine.recoveries().load(&recovery.id)?;
    let kept = buffer.plan.filter(|plan| plan.pristine.is_some()).map(|plan| plan.pristine_directory());
    let kept = kept.map(|kept| format!(" and {}", kept.display())).unwrap_or_default();
    let directory = recovery.directory.display();
    let mut question = format!("This stops the server of {} and removes {directory}{kept}", recovery.id);
    if let Some(former) = &recovery.made_way {
        question.push_str(&format!(".\nThe data directory that was there, {}, is not touched", former.display()));
    }
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
