//! `walback demo`

use std::cell::Cell;
use std::io::{IsTerminal, Write};
use std::path::Path;
use std::time::Instant;

use crate::core::Zone;
use crate::core::progress::{Bytes, Seconds, counted, grouped};
use crate::core::time::Timestamp;
use crate::demo::rescue::TableRows;
use crate::demo::story::{Act, TableCount};
use crate::demo::{Demo, Guard, Rescue, Scene, Wish, make, rescue};
use crate::engine::host::now;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Recovery;
use crate::plan::settings::shell_quote;
use crate::plan::{Plan, StepId};
use crate::resolve::{Place, StopSide};
use crate::source::Cancel;

use super::table::{Align, Table, plain};
use super::{Context, Outcome, note};

/// Makes the demonstration, and recovers it without a terminal or asks for the interface on it.
///
/// # Errors
/// When there is no PostgreSQL, without a terminal for the interface, or when anything fails; nothing is left running
/// then.
pub fn run(context: &Context, into: Option<&Path>, auto: bool, bin_dir: Option<&Path>) -> Result<Outcome> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    if !auto && !terminal && !context.config.plain {
        return Err(Error::failed("no-terminal", "the demonstration is for a terminal, and this is none")
            .hint("“walback demo --auto” shows a recovery without one, “walback demo --plain” reads commands"));
    }
    let started = Instant::now();
    let teller = Teller::new(context, into.is_some());
    let done = perform(
        context,
        &teller,
        Wish {
            into,
            bin_dir,
            zone: context.config.zone,
            read_only: context.config.read_only,
            cancel: &context.cancel,
            tell: &|scene| teller.scene(scene),
        },
        auto.then_some(started),
    );
    match done {
        // Whoever read it went away; everything was cleared away, and there is nobody to tell.
        Err(error) if teller.gone.get() && error.report().kind == ErrorKind::Interrupted => Ok(Outcome::Done(0)),
        done => done,
    }
}

fn perform(context: &Context, teller: &Teller<'_>, wish: Wish<'_>, auto: Option<Instant>) -> Result<Outcome> {
    let (demo, mut guard) = make(&wish)?;
    let Some(started) = auto else {
        teller.how_to_open(&demo, &guard);
        if !guard.removes() {
            guard.leave_running();
        }
        return Ok(Outcome::Interface { config: Box::new(demo.config), guard: Some(guard) });
    };
    let rescued = rescue(&demo, &context.cancel, &|scene| teller.scene(scene))?;
    let stays = !guard.removes();
    if stays {
        guard.leave_running();
    }
    guard.close()?;
    let seconds = started.elapsed().as_secs_f64();
    if stays {
        teller.where_it_is(&demo, &rescued);
    }
    let left = if stays { "" } else { "Everything was stopped and removed. " };
    teller.line(&format!("\n{left}Done in {}.", Seconds(seconds)));
    if context.json {
        context.print_json("demo", &document(&demo, &rescued, stays, seconds))?;
    }
    Ok(Outcome::Done(0))
}

fn document(demo: &Demo, rescued: &Rescue, stays: bool, seconds: f64) -> serde_json::Value {
    serde_json::json!({
        "directory": demo.directory,
        "stays": stays,
        "story": demo.story,
        "plan": rescued.plan,
        "predicted": rescued.plan.resolved,
        "happened": rescued.paused.stopped,
        "matches_prediction": rescued.paused.matches_prediction,
        "misleading_timeline": rescued.misleading,
        "rows": rescued.rows,
        "promoted": rescued.promoted,
        "seconds": seconds,
    })
}

/// Tells the story line by line, as it happens.
struct Teller<'a> {
    json: bool,
    zone: Zone,
    stays: bool,
    cancel: &'a Cancel,
    /// Nobody reads any more.
    gone: Cell<bool>,
}

impl<'a> Teller<'a> {
    fn new(context: &'a Context, stays: bool) -> Teller<'a> {
        let (json, zone) = (context.json, context.config.zone);
        Teller { json, zone, stays, cancel: &context.cancel, gone: Cell::new(false) }
    }

    /// A line on standard output, or on standard error where the output is JSON. A reader that went away must not
    /// end the process here: it would leave servers behind.
    fn line(&self, text: &str) {
        if self.json {
            return note(text);
        }
        if writeln!(std::io::stdout().lock(), "{text}").is_err() {
            self.gone.set(true);
            self.cancel.cancel();
        }
    }

    /// A line that begins with the time of day.
    fn now(&self, text: &str) {
        let at: String = now().time_of_day(self.zone).chars().take(8).collect();
        self.line(&format!("  {at:15}  {text}"));
    }

    /// A line that begins with a word.
    fn named(&self, name: &str, text: &str) {
        self.line(&format!("  {name:9}  {text}"));
    }

    fn scene(&self, scene: &Scene<'_>) {
        match scene {
            Scene::Begun { directory, major } => {
                self.line(&format!("A real PostgreSQL {major} cluster, an accident, and the way back.\n"));
                self.named("where", &plain(&directory.display().to_string()));
                self.named("", if self.stays { "it stays there" } else { "removed at the end" });
                self.named("times", &format!("as in {}", self.zone));
                self.line("\nThe shop");
            }
            Scene::Running => self.now("a cluster of its own runs, and archives its WAL"),
            Scene::Filled(counts) => self.now(&filled(counts)),
            Scene::BackedUp { id, bytes } => self.now(&format!("base backup {id}, {}", Bytes(*bytes))),
            Scene::Traded(transactions) => self.now(&format!("{} of trade", transactions_in_words(*transactions))),
            Scene::RestorePoint(point) => self.now(&format!("restore point “{}”, then a deployment", point.name)),
            Scene::Strayed(stray) => {
                self.now("somebody restored to that point, for a test, and promoted the");
                self.line(&format!("{:19}copy with archiving on: the archive has timeline {} now", "", stray.timeline));
            }
            Scene::Destroyed(act) => self.act(act),
            Scene::Stopped(unnoticed) => {
                self.now(&format!("noticed after {}; server stopped", transactions_in_words(*unnoticed)));
            }
            Scene::Planned { plan, misleading } => {
                self.line("\nThe plan");
                self.plan(plan);
                if let Some(timeline) = misleading {
                    self.named(
                        "",
                        &format!("(“latest”, PostgreSQL's default, is timeline {timeline}, which lacks it)"),
                    );
                }
            }
            Scene::Paused(recovery) => self.paused(recovery),
            Scene::Counted(rows) => self.counted(rows),
            Scene::Promoted(promoted) => {
                self.line("\nThe promotion");
                self.named("timeline", &format!("{}, and it takes writes", promoted.recovery.timeline));
                let left = promoted.leftovers.join(", ");
                let left = if left.is_empty() { "no setting of recovery, no recovery.signal" } else { &left };
                self.named("left over", left);
            }
        }
    }

    fn act(&self, act: &Act) {
        if act.sql.starts_with("DELETE") {
            self.line("\nThe accident");
        }
        self.line(&format!("  {}  {}", act.at.time_of_day(self.zone), act.sql));
        self.line(&format!("{:19}transaction {}: {} gone", "", act.xid, counted(act.rows, "row")));
    }

    fn plan(&self, plan: &Plan) {
        let resolved = &plan.resolved;
        let side = if resolved.stop == StopSide::Before { "before" } else { "after" };
        let xid = resolved.xid.map(|xid| xid.to_string()).unwrap_or_default();
        self.named("target", &format!("just {side} transaction {xid} on timeline {}; then pause", resolved.timeline));
        self.named("predicted", &format!("stops {side} transaction {xid}, {}", self.at(resolved.at)));
        self.named("", &format!("where WAL has LSN {}", resolved.lsn));
        self.named("keeps", &format!("{}, and all before", self.place(resolved.last_kept.as_ref())));
        self.named("loses", &format!("{}, and all after", self.place(resolved.first_lost.as_ref())));
        let estimate = &plan.estimate;
        self.named(
            "work",
            &format!("{} to unpack, {} of WAL to replay", Bytes(estimate.unpack_bytes), Bytes(estimate.wal_bytes)),
        );
    }

    fn paused(&self, recovery: &Recovery) {
        self.line("\nThe recovery");
        for phase in recovery.phases.iter().filter(|phase| matches!(phase.step, StepId::Unpack | StepId::Replay)) {
            let bytes = phase.bytes.map(|bytes| format!("{} in ", Bytes(bytes))).unwrap_or_default();
            self.named(phase.step.name(), &format!("{bytes}{}", Seconds(phase.seconds)));
        }
        let Some(stopped) = &recovery.stopped else { return };
        let side = if stopped.before { "before" } else { "after" };
        let xid = stopped.xid.map(|xid| format!("transaction {xid}, ")).unwrap_or_default();
        self.named("happened", &format!("PostgreSQL stopped {side} {xid}{}", self.at(stopped.at)));
        self.named("", if recovery.matches_prediction == Some(true) { "as predicted" } else { "NOT as predicted" });
    }

    fn counted(&self, rows: &[TableRows]) {
        let heads = [("before", Align::Right), ("after", Align::Right), ("recovered", Align::Right)];
        let mut table = Table::new(&[&[("The rows         ", Align::Left)][..], &heads].concat());
        for row in rows {
            let cell = |rows: Option<u64>| rows.map_or_else(|| "no table".to_owned(), grouped);
            table.row(vec![format!("  {}", row.table), cell(row.before), cell(row.after), cell(row.recovered)]);
        }
        self.line(&format!("\n{}", table.render()));
    }

    fn at(&self, at: Option<Timestamp>) -> String {
        at.map(|at| at.time_of_day(self.zone)).unwrap_or_default()
    }

    fn place(&self, place: Option<&Place>) -> String {
        let Some(place) = place else { return "nothing".to_owned() };
        let xid = place.xid.map(|xid| format!("transaction {xid}, ")).unwrap_or_default();
        format!("{xid}{}", self.at(place.at))
    }

    /// Before the interface opens; it is on the screen again when that has ended.
    fn how_to_open(&self, demo: &Demo, guard: &Guard) {
        if guard.removes() {
            return self.line("\nThe interface opens. Everything is removed when it ends.");
        }
        self.line("\nThe interface opens. To open it again:");
        self.line(&open_again(demo));
    }

    fn where_it_is(&self, demo: &Demo, rescued: &Rescue) {
        let server = &rescued.plan.server;
        self.line("\nThe recovered server still runs:");
        let psql = format!("psql {}", shell_quote(&server.connection(None).replace("dbname=postgres", "dbname=shop")));
        self.line(&plain(&format!("  {psql}")));
        self.line("To stop it, and to open all of this in the interface:");
        self.line(&plain(&format!("  {} stop {}", variables(demo), shell_quote(&rescued.plan.recovery))));
        self.line(&open_again(demo));
    }
}

fn filled(counts: &[TableCount]) -> String {
    let rows = |count: &TableCount| count.rows.map_or_else(String::new, grouped);
    let words = counts.iter().map(|count| format!("{} {}", rows(count), count.table.replace("order_items", "items")));
    words.collect::<Vec<_>>().join(", ")
}

fn transactions_in_words(transactions: u32) -> String {
    counted(transactions.into(), "transaction")
}

/// The journals of the demonstration's recoveries are in its own directory, and no key of the configuration says so.
fn variables(demo: &Demo) -> String {
    let state = shell_quote(&demo.config.state_directory.display().to_string());
    format!("WALBACK_STATE_DIR={state} walback")
}

fn open_again(demo: &Demo) -> String {
    let file = shell_quote(&demo.config_file().display().to_string());
    plain(&format!("  {} --config {file}", variables(demo)))
}
