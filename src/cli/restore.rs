//! `walback restore`

use crate::engine::Engine;
use crate::error::Result;
use crate::event::{Recovery, RecoveryState};
use crate::plan::Plan;

use super::args::{ActArgs, RestoreArgs, TargetArgs};
use super::ask::confirm;
use super::plan::say_findings;
use super::recoveries::describe;
use super::table::plain_lines;
use super::watch::Watcher;
use super::{Context, note, plan, print};

/// Carries a plan out until it is paused, promoted or shut down.
///
/// # Errors
/// When a finding forbids it, nobody confirms it, or a step fails.
pub fn run(context: &Context, target: &TargetArgs, restore: &RestoreArgs, act: ActArgs) -> Result<u8> {
    let engine = Engine::new(&context.config)?;
    let made = plan::make(context, target, restore)?;
    let hash = made.hash()?;
    if !act.yes && !made.is_forbidden() {
        note(&plain_lines(&plan::describe(&made, context.config.zone)));
        note("");
        say_findings(&made);
        confirm(false, &question(&made), &made.recovery)?;
    }
    if act.yes && !made.is_forbidden() {
        say_findings(&made);
    }
    let watcher = Watcher::new(act.events, context.config.zone);
    let done = engine.begin(&made, &hash, &|event| watcher.tell(event), &context.cancel);
    conclude(context, &engine, &watcher, act, &made.recovery, done)
}

fn question(plan: &Plan) -> String {
    let directory = plan.directory.display();
    let makes = format!("makes {directory} and starts a server in it");
    match &plan.make_way {
        Some(former) => format!("This renames {directory} to {}, {makes}", former.to.display()),
        None => format!("This {makes}"),
    }
}

/// Tells how a command ended: the last of the JSON lines is the recovery, also where it failed.
///
/// # Errors
/// What the command failed with; when standard output cannot be written.
pub fn conclude(
    context: &Context,
    engine: &Engine,
    watcher: &Watcher,
    act: ActArgs,
    id: &str,
    done: Result<Recovery>,
) -> Result<u8> {
    watcher.clear();
    let failed = match done {
        Ok(recovery) => return finish(context, watcher, act, &recovery),
        Err(error) => error,
    };
    if let Some(recovery) = engine.recoveries().load(id).ok().and_then(|buffer| buffer.recovery()) {
        watcher.finish(&recovery);
    }
    Err(failed)
}

/// Tells how a recovery stands at the end of a command.
///
/// # Errors
/// When standard output cannot be written.
fn finish(context: &Context, watcher: &Watcher, act: ActArgs, recovery: &Recovery) -> Result<u8> {
    watcher.finish(recovery);
    match (act.events, context.json) {
        (true, _) => {}
        (false, true) => context.print_json("recovery", &recovery)?,
        (false, false) => print(&plain_lines(&describe(recovery, context.config.zone)))?,
    }
    let differs = recovery.matches_prediction == Some(false);
    if differs {
        note("error: PostgreSQL did not stop where it was predicted to; look before you promote");
    }
    let bad = differs || recovery.state == RecoveryState::Failed;
    Ok(u8::from(bad))
}
