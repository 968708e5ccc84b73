//! Recovers the demonstration's cluster to just before its accident, and proves it.

use serde::Serialize;

use crate::core::{Target, TargetKind, TimelineChoice, TimelineId};
use crate::engine::Engine;
use crate::error::{Error, Result};
use crate::event::Recovery;
use crate::pgdata::auto_conf::AutoConf;
use crate::plan::settings::RECOVERY_SETTINGS;
use crate::plan::{Plan, ServerPlan};
use crate::source::Cancel;

use super::cluster::Session;
use super::make::{DATABASE, Demo, count, plan, trade_once, unless_interrupted};
use super::story::{Scene, Story};

/// A recovery that was carried through to the end.
#[derive(Debug)]
pub struct Rescue {
    /// How it was planned; what was predicted.
    pub plan: Plan,
    /// The timeline that PostgreSQL would have followed by default, where the target is not on it.
    pub misleading: Option<TimelineId>,
    /// How it stood when it was paused; what happened.
    pub paused: Recovery,
    /// The rows.
    pub rows: Vec<TableRows>,
    /// What it came to.
    pub promoted: Promoted,
}

/// A table's rows through it all. `None` where there was no such table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableRows {
    /// Its name.
    pub table: String,
    /// Just before the accident.
    pub before: Option<u64>,
    /// After it.
    pub after: Option<u64>,
    /// In the paused recovery.
    pub recovered: Option<u64>,
}

/// The recovery after its promotion.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Promoted {
    /// The recovery.
    pub recovery: Recovery,
    /// Whether it took a write.
    pub takes_writes: bool,
    /// What is left of recovery's settings and signal files: nothing.
    pub leftovers: Vec<String>,
}

/// Recovers to just before the first act of the accident, looks at the rows, promotes, and looks again.
///
/// # Errors
/// When anything fails, or turns out otherwise than it was predicted.
pub fn rescue(demo: &Demo, cancel: &Cancel, tell: &dyn Fn(&Scene<'_>)) -> Result<Rescue> {
    unless_interrupted(carry_through(demo, cancel, tell), cancel)
}

fn carry_through(demo: &Demo, cancel: &Cancel, tell: &dyn Fn(&Scene<'_>)) -> Result<Rescue> {
    let engine = Engine::new(&demo.config)?;
    let target = before_the_accident(&demo.story, TimelineChoice::Number(TimelineId::FIRST))?;
    let directory = demo.directory.join("recovery");
    let made = plan(&engine, &demo.config, target, &directory, &[], cancel)?;
    let misleading = misleading(&engine, demo, cancel)?;
    tell(&Scene::Planned { plan: &made, misleading });

    let paused = engine.begin(&made, &made.hash()?, &|_| {}, cancel)?;
    tell(&Scene::Paused(&paused));
    if paused.matches_prediction != Some(true) {
        return Err(Error::failed("prediction-wrong", "PostgreSQL did not stop where it was predicted to")
            .because(format!("predicted: {:?} transaction {:?}", made.resolved.stop, made.resolved.xid))
            .because(format!("happened: {:?}", paused.stopped)));
    }
    let rows = compare(&demo.story, &made.server)?;
    tell(&Scene::Counted(&rows));
    if let Some(wrong) = rows.iter().find(|rows| rows.before != rows.recovered) {
        return Err(Error::failed("rows-missing", format!("the rows of {} are not back: {wrong:?}", wrong.table)));
    }
    let promoted = promote(&engine, &made, demo.story.transactions)?;
    tell(&Scene::Promoted(&promoted));
    match promoted.leftovers.as_slice() {
        [] => Ok(Rescue { plan: made, misleading, paused, rows, promoted }),
        left => Err(Error::failed("leftovers", format!("this is left of the recovery: {}", left.join(", ")))),
    }
}

fn before_the_accident(story: &Story, timeline: TimelineChoice) -> Result<Target> {
    let first = story.accident.first().ok_or_else(|| Error::failed("no-accident", "there was no accident"))?;
    Ok(Target { inclusive: false, timeline, ..Target::new(TargetKind::Xid(first.xid)) })
}

/// The timeline that is the latest, where the accident is not on it.
fn misleading(engine: &Engine, demo: &Demo, cancel: &Cancel) -> Result<Option<TimelineId>> {
    let target = before_the_accident(&demo.story, TimelineChoice::Latest)?;
    match plan(engine, &demo.config, target, &demo.directory.join("recovery"), &[], cancel) {
        Err(error) if error.report().code == "target-not-reached" => Ok(Some(demo.story.stray.timeline)),
        Err(error) => Err(error),
        Ok(_) => Ok(None),
    }
}

fn compare(story: &Story, server: &ServerPlan) -> Result<Vec<TableRows>> {
    let recovered = count(&Session::open(&server.socket_directory, server.port, DATABASE)?)?;
    let times = story.before.iter().zip(&story.after).zip(recovered);
    let rows = times.map(|((before, after), recovered)| TableRows {
        table: recovered.table,
        before: before.rows,
        after: after.rows,
        recovered: recovered.rows,
    });
    Ok(rows.collect())
}

fn promote(engine: &Engine, plan: &Plan, number: u32) -> Result<Promoted> {
    let recovery = engine.promote(&plan.recovery, &|_| {})?;
    let shop = Session::open(&plan.server.socket_directory, plan.server.port, DATABASE)?;
    let before: Vec<_> = count(&shop)?;
    trade_once(&shop, number)?;
    let takes_writes = count(&shop)? != before;
    if !takes_writes {
        return Err(Error::failed("no-writes", "the promoted server did not take a write"));
    }
    Ok(Promoted { recovery, takes_writes, leftovers: leftovers(plan)? })
}

/// Settings and files of recovery that promotion should have taken away.
fn leftovers(plan: &Plan) -> Result<Vec<String>> {
    let path = plan.directory.join("postgresql.auto.conf");
    let text = std::fs::read_to_string(&path)
        .map_err(|error| Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error))?;
    let settings = AutoConf::parse(&text);
    let set = RECOVERY_SETTINGS.into_iter().filter(|name| settings.get(name).is_some());
    let signals = ["recovery.signal", "standby.signal"].into_iter().filter(|name| plan.directory.join(name).exists());
    Ok(set.chain(signals).map(str::to_owned).collect())
}
