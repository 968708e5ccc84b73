//! Carries out what the program decides, with the engine and the source, each on a thread of its own: no key ever
//! waits for them.

mod drills;

use std::collections::HashMap;
use std::ops::{ControlFlow, RangeInclusive};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::plain;
use super::run::{self, MsgSender, Perform};
use super::theme::{Background, Bars, Depth, detect::Wishes};
use crate::app::keys::Keys;
use crate::app::msg::ActionKind;
use crate::app::query::{Checks, likeliest};
use crate::app::state::{Known, Setup, Wanted};
use crate::app::{Effect, Msg, State, archive, log};
use crate::catalog::inspection::Inspection;
use crate::catalog::suspect::MANY_ROWS;
use crate::catalog::{Catalog, Overview, Point, PointKind};
use crate::config::{Colour, Config, FROM_COMMAND_LINE, RestoreConfig, SourceConfig, interface, is_utf8_locale};
use crate::core::{Check, Target, TimelineId, Xid, Zone};
use crate::drill::Drills;
use crate::engine::archive::space;
use crate::engine::checklist;
use crate::engine::host::{Host, facts::server_account, now};
use crate::engine::prepare::plan_retarget;
use crate::engine::primary::archiver;
use crate::engine::query::{ask, check, databases};
use crate::engine::resume::{Standing, standing};
use crate::engine::runbook::Runbook;
use crate::engine::server::{LogTail, last_lines};
use crate::engine::{Engine, Preparation, Recoveries, Request};
use crate::error::{Error, Result};
use crate::event::{Event, Recovery, RecoveryState, What};
use crate::plan::archive::Report;
use crate::plan::audit::Audit;
use crate::plan::{Plan, ServerPlan, to_database};
use crate::source::index::Index;
use crate::source::inspect::inspect;
use crate::source::names::NameBook;
use crate::source::{Cancel, LocalSource, Source};

/// How often the journal of a recovery that another Walback drives is read.
const READ_EVERY: Duration = Duration::from_millis(200);
/// Rows of an answer that are shown, at most.
const MOST_ROWS: usize = 1000;
/// Lines of a server's log that are shown when a recovery is opened.
const LOG_LINES: usize = 100;

/// Opens the interface on the configured source, as a screen or as lines, and returns its exit status when the operator
/// leaves it. Where it is `fleeting`,
/// nothing is there afterwards: no recovery can be picked up again.
///
/// # Errors
/// When no source is configured, it may not be trusted, or the terminal cannot be used.
pub fn open(config: Config, fleeting: bool) -> Result<u8> {
    let source = config.source_to_restore()?.clone();
    let variable = |name: &str| std::env::var(name).ok();
    let (wishes, is_utf8) = (wishes(&config), is_utf8_locale(variable));
    let mut state = State::new(Setup {
        source: shown_name(&source),
        zone: config.zone,
        now: now(),
        read_only: config.read_only,
        unicode: wishes.unicode(is_utf8),
        directory: default_directory(&source, config.zone),
    });
    state.fleeting = fleeting;
    state.keys = keys(&config)?;
    state.tmux = std::env::var_os("TMUX").is_some_and(|tmux| !tmux.is_empty());
    state.thresholds = config.thresholds;
    state.invocation.extend(config.invocation.iter().cloned());
    state.drills.source = Some(source.name.clone()).filter(|name| name != FROM_COMMAND_LINE);
    state.drills.scratch = source.drill.scratch.as_ref().map(|scratch| scratch.display().to_string());
    if !source.checks.is_empty() {
        state.checks = Checks::Waiting;
    }
    if source.primary.is_some() {
        state.archive.primary = archive::Primary::Asking;
    }
    if let Some(why) = plain::why(config.plain) {
        return plain::run(state, Performer::new(config, source), why);
    }
    // What crossterm makes of NO_COLOR was weighed here, and may have been overruled.
    crossterm::style::force_color_output(true);
    run::run(state, Performer::new(config, source), wishes.theme(is_utf8, variable)).map(|()| 0)
}

/// How the program is to look, as configured.
fn wishes(config: &Config) -> Wishes {
    let interface = config.interface;
    Wishes {
        coloured: match config.colour {
            Colour::Auto => None,
            Colour::Always => Some(true),
            Colour::Never => Some(false),
        },
        depth: interface.colours.map(|colours| match colours {
            interface::Colours::Truecolor => Depth::True,
            interface::Colours::Many => Depth::Many,
            interface::Colours::Sixteen => Depth::Sixteen,
            interface::Colours::None => Depth::None,
        }),
        background: interface.theme.map(|theme| match theme {
            interface::Background::Dark => Background::Dark,
            interface::Background::Light => Background::Light,
        }),
        unicode: interface.glyphs.map(|glyphs| glyphs == interface::Glyphs::Unicode),
        bars: interface.chart.map(|chart| match chart {
            interface::Bars::Braille => Bars::Braille,
            interface::Bars::Blocks => Bars::Blocks,
            interface::Bars::Ascii => Bars::Ascii,
        }),
    }
}

/// What a source is called on the screen: by where its backups are, if no configuration gives it a name.
fn shown_name(source: &SourceConfig) -> String {
    let path = source.backups.first().or(source.wal.first()).filter(|_| source.name == FROM_COMMAND_LINE);
    path.map_or_else(|| source.name.clone(), |path| path.display().to_string())
}

/// The keys of the commands, as the configuration has them.
fn keys(config: &Config) -> Result<Keys> {
    Keys::new(&config.keys).map_err(|wrong| {
        let file = config.file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        Error::usage("keys-wrong", format!("the keys of the configuration are wrong: {file}"))
            .because(wrong.what)
            .hint(wrong.hint)
    })
}

/// Where a recovery goes unless the operator says otherwise: as configured, else a new directory in the home of the
/// server's user, which that user can reach.
fn default_directory(source: &SourceConfig, zone: Zone) -> String {
    if let Some(directory) = &source.restore.directory {
        return directory.display().to_string();
    }
    let home = server_account(source.restore.run_as.as_deref()).ok().and_then(|account| account.home);
    let name = format!("restore-{}", now().compact_in(zone));
    home.map(|home| home.join(name).display().to_string()).unwrap_or_default()
}

struct Performer {
    config: Config,
    restore: RestoreConfig,
    source: Arc<LocalSource>,
    shared: Arc<Shared>,
    scan: Cancel,
    /// Gives up finding out where recovery would stop.
    resolving: Cancel,
    /// What a recovered server is asked at the pause.
    checks: Vec<Check>,
    /// Gives up the query that an operator typed.
    query: Cancel,
    /// How the primary is reached, where one is configured.
    primary: Option<String>,
    /// Ends telling what a server logs.
    log: Cancel,
    /// Where questions about the archive go, once it is being read.
    archive: Option<Sender<Question>>,
    /// The drill that is being made.
    drill: drills::Begun,
}

/// What the threads share.
#[derive(Default)]
struct Shared {
    catalog: Mutex<Option<Arc<Catalog>>>,
    /// What the base backups of that know of names. It is locked while they are read, and only by who needs them.
    names: Mutex<Arc<Mutex<NameBook>>>,
    /// What names, sizes and beginnings of files tell, and of which catalog: they are looked at once.
    inspected: Mutex<Option<(Arc<Catalog>, Arc<Inspection>)>>,
    /// The hash of every plan that was shown, by the name of its recovery.
    hashes: Mutex<HashMap<String, String>>,
    /// What asks the running step of a recovery to stop.
    steps: Mutex<HashMap<String, Cancel>>,
}

/// But for the names of base backups a lock is only ever held for a moment, and what it guards is whole even where a
/// thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Perform for Performer {
    fn perform(&mut self, effect: Effect, reply: &MsgSender) {
        match effect {
            Effect::LoadCatalog => self.load_catalog(reply),
            Effect::LoadOverview => self.load_overview(reply),
            Effect::LoadPoints { timeline, numbers } => self.ask(Question::Points(timeline, numbers)),
            Effect::Locate { xid } => self.ask(Question::Locate(xid)),
            Effect::CancelScan => self.scan.cancel(),
            Effect::LoadRecoveries => self.load_recoveries(reply),
            Effect::MakePlan(wanted) => self.make_plan(wanted, reply),
            Effect::Resolve { target } => self.resolve(target, reply),
            Effect::WriteRunbook { plan, file, replace } => self.write_runbook(plan, file, replace, reply),
            Effect::PlanRetarget { recovery, target } => self.plan_retarget(recovery, target, reply),
            Effect::Start { plan } => {
                let shared = Arc::clone(&self.shared);
                self.act(reply, ActionKind::Start, plan.recovery.clone(), move |engine, watch, cancel| {
                    engine.begin(&plan, &shared.hash_of(&plan), watch, cancel)
                });
            }
            Effect::Retarget { plan, approach } => {
                let shared = Arc::clone(&self.shared);
                self.act(reply, ActionKind::Retarget, plan.recovery.clone(), move |engine, watch, cancel| {
                    engine.retarget(&plan, &shared.hash_of(&plan), &approach, watch, cancel)
                });
            }
            Effect::Resume { recovery } => {
                self.act(reply, ActionKind::Resume, recovery.clone(), move |engine, watch, cancel| {
                    engine.resume(&recovery, watch, cancel)
                });
            }
            Effect::Follow { recovery } => self.follow(recovery, reply),
            Effect::Promote { recovery } => {
                self.act(reply, ActionKind::Promote, recovery.clone(), move |engine, watch, _| {
                    engine.promote(&recovery, watch)
                });
            }
            Effect::Stop { recovery } => {
                self.act(reply, ActionKind::Stop, recovery.clone(), move |engine, watch, _| {
                    engine.stop(&recovery, watch)
                });
            }
            Effect::Discard { recovery } => {
                self.act(reply, ActionKind::Discard, recovery.clone(), move |engine, watch, _| {
                    engine.discard(&recovery, watch)
                });
            }
            Effect::RunChecks { recovery } => {
                let checks = self.checks.clone();
                let drills = Drills::below(&self.config.state_directory);
                let source = self.source.name().to_owned();
                self.ask_server(
                    recovery,
                    reply,
                    move |recovery, plan| {
                        let last = |name: &str| drills.last_value(&source, name);
                        Msg::Checked(check(recovery, plan, &checks, &last, &Cancel::default()))
                    },
                    Msg::Checked,
                );
            }
            Effect::LoadDatabases { recovery } => {
                self.ask_server(
                    recovery,
                    reply,
                    |recovery, plan| Msg::Databases(databases(recovery, plan)),
                    Msg::Databases,
                );
            }
            Effect::Query { recovery, database, sql } => {
                self.query = Cancel::default();
                let (cancel, zone) = (self.query.clone(), Some(self.config.zone));
                self.ask_server(
                    recovery,
                    reply,
                    move |recovery, plan| {
                        Msg::Answered(ask(recovery, plan, (&database, zone), &sql, MOST_ROWS, &cancel))
                    },
                    Msg::Answered,
                );
            }
            Effect::CancelQuery => self.query.cancel(),
            Effect::LoadChecklist { recovery } => {
                let recoveries = Recoveries::below(&self.config.state_directory);
                work(reply, move |reply| {
                    let answer = checklist::list(&recoveries, &recovery);
                    reply.send(Msg::Checklist(answer));
                    Ok(())
                });
            }
            Effect::DoItem { recovery, item, into } => {
                self.act(reply, ActionKind::Item, recovery.clone(), move |engine, watch, cancel| {
                    engine.do_item(&recovery, item, into.as_deref().map(Path::new), watch, cancel)
                });
            }
            Effect::SkipItem { recovery, item } => {
                self.act(reply, ActionKind::Item, recovery.clone(), move |engine, watch, _| {
                    engine.skip_item(&recovery, item, watch)
                });
            }
            Effect::CancelStep { recovery } => {
                if let Some(cancel) = lock(&self.shared.steps).get(&recovery) {
                    cancel.cancel();
                }
            }
            Effect::Archive(archive::Ask::Judge(overview)) => self.judge(overview, reply),
            Effect::Archive(archive::Ask::Look) => self.look_around(reply),
            Effect::Drill(ask) => self.drill(ask, reply),
            Effect::Log(log::Ask::Open { recovery }) => self.open_log(recovery, reply),
            Effect::Log(log::Ask::Close) => self.log.cancel(),
            Effect::Look { .. }
            | Effect::Page { .. }
            | Effect::Read { .. }
            | Effect::Edit(_)
            | Effect::Copy { .. }
            | Effect::Suspend
            | Effect::Quit => {}
        }
    }

    fn look_command(&self, recovery: &str) -> Option<(Command, String)> {
        let buffer = Recoveries::below(&self.config.state_directory).load(recovery).ok()?;
        let recovery = buffer.recovery()?;
        let plan = buffer.plan?;
        let databases = databases_soon(&recovery, &plan);
        let database = likeliest(&databases, &plan.server.database).to_owned();
        let beside = plan.server.bin_dir.join("psql");
        let program = if beside.is_file() { beside } else { PathBuf::from("psql") };
        let mut command = Command::new(program);
        command.arg(to_database(&recovery.connection, &database));
        // Times that are asked for are those that the screens tell.
        command.env("PGTZ", self.config.zone.to_string());
        // Keys that were meant for psql make its pager write no files.
        command.env("LESSSECURE", "1");
        Some((command, database))
    }

    fn leave(&mut self, say: &mut dyn FnMut(&str)) {
        self.drill.leave(say);
    }

    fn log_of(&self, recovery: &str) -> Option<PathBuf> {
        let plan = Recoveries::below(&self.config.state_directory).load(recovery).ok()?.plan?;
        Some(plan.server.log)
    }
}

impl Shared {
    fn remember(&self, plan: &Plan) -> Result<()> {
        let hash = plan.hash()?;
        lock(&self.hashes).insert(plan.recovery.clone(), hash);
        Ok(())
    }

    /// What names, sizes and beginnings of the files of an archive tell.
    fn inspect(&self, source: &LocalSource, catalog: &Arc<Catalog>) -> Result<Arc<Inspection>> {
        let known = lock(&self.inspected).clone();
        if let Some((_, inspection)) = known.filter(|(of, _)| Arc::ptr_eq(of, catalog)) {
            return Ok(inspection);
        }
        let inspection = Arc::new(inspect(source.archives(), catalog, &Cancel::default())?);
        *lock(&self.inspected) = Some((Arc::clone(catalog), Arc::clone(&inspection)));
        Ok(inspection)
    }

    /// The hash of the plan that was shown for this recovery; of none where none was.
    fn hash_of(&self, plan: &Plan) -> String {
        lock(&self.hashes).get(&plan.recovery).cloned().unwrap_or_default()
    }
}

impl Performer {
    fn new(config: Config, source: SourceConfig) -> Performer {
        Performer {
            restore: source.restore.clone(),
            source: Arc::new(LocalSource::new(&source).remembering(config.cache_directory.as_deref())),
            config,
            shared: Arc::default(),
            scan: Cancel::default(),
            resolving: Cancel::default(),
            checks: source.checks,
            query: Cancel::default(),
            primary: source.primary,
            log: Cancel::default(),
            archive: None,
            drill: drills::Begun::default(),
        }
    }

    /// Asks a recovered server, on a thread of its own; `failed` says why that cannot even be tried.
    fn ask_server<T: 'static>(
        &self,
        id: String,
        reply: &MsgSender,
        job: impl FnOnce(&Recovery, &Plan) -> Msg + Send + 'static,
        failed: fn(Result<T>) -> Msg,
    ) {
        let recoveries = Recoveries::below(&self.config.state_directory);
        work(reply, move |reply| {
            let known = recoveries.load(&id).map(|buffer| (buffer.recovery(), buffer.plan));
            let answer = match known {
                Ok((Some(recovery), Some(plan))) => job(&recovery, &plan),
                Ok(_) => failed(Err(Error::failed("journal-empty", "the journal has no plan"))),
                Err(error) => failed(Err(error)),
            };
            reply.send(answer);
            Ok(())
        });
    }

    fn load_catalog(&self, reply: &MsgSender) {
        let (source, shared) = (Arc::clone(&self.source), Arc::clone(&self.shared));
        work(reply, move |reply| {
            let catalog = source.list(&Cancel::default());
            if let Ok(catalog) = &catalog {
                *lock(&shared.catalog) = Some(Arc::new(catalog.clone()));
                *lock(&shared.names) = Arc::default();
            }
            reply.send(Msg::Catalog(catalog));
            Ok(())
        });
    }

    /// Reads the archive, and answers what is asked about it from then on.
    fn load_overview(&mut self, reply: &MsgSender) {
        self.scan = Cancel::default();
        let Some(catalog) = lock(&self.shared.catalog).clone() else { return };
        let (source, cancel) = (Arc::clone(&self.source), self.scan.clone());
        let rows = self.config.suspect_rows.unwrap_or(MANY_ROWS);
        let cache = self.config.cache_directory.clone();
        let names = Arc::clone(&lock(&self.shared.names));
        // Whoever served the catalog before ends with the old channel.
        let (ask, asked) = channel();
        self.archive = Some(ask);
        work(reply, move |reply| {
            let index = Index::new(source.as_ref(), &catalog, cache.as_deref(), rows);
            std::thread::scope(|scope| {
                scope.spawn(|| tell_overview(&index, &catalog, &names, &cancel, reply));
                serve(&index, &catalog, &asked, reply);
            });
            Ok(())
        });
    }

    /// Says what the archive holds, by what is known of its segments.
    fn judge(&self, overview: Arc<Overview>, reply: &MsgSender) {
        let Some(catalog) = lock(&self.shared.catalog).clone() else { return };
        let (source, shared, zone) = (Arc::clone(&self.source), Arc::clone(&self.shared), self.config.zone);
        work(reply, move |reply| {
            let report = guarded(|| {
                let inspection = shared.inspect(&source, &catalog)?;
                let overview = Some(overview.as_ref());
                let audit = Audit { catalog: &catalog, inspection: &inspection, overview, zone };
                Ok(Arc::new(Report::of(&audit)))
            });
            reply.send(Msg::Archive(archive::News::Judged { overview, report }));
            Ok(())
        });
    }

    /// Says how much room there is, and what the primary says. A file system or a server that hangs keeps nobody.
    fn look_around(&self, reply: &MsgSender) {
        let source = Arc::clone(&self.source);
        work(reply, move |reply| {
            let space = space(source.archives().iter().chain(source.backups()));
            reply.send(Msg::Archive(archive::News::Space(space)));
            Ok(())
        });
        if let Some(connection) = self.primary.clone() {
            work(reply, move |reply| {
                reply.send(Msg::Archive(archive::News::Primary(guarded(|| archiver(&connection)))));
                Ok(())
            });
        }
    }

    /// Tells what the server of a recovery logs, until that is not wanted any more.
    fn open_log(&mut self, recovery: String, reply: &MsgSender) {
        std::mem::take(&mut self.log).cancel();
        let cancel = self.log.clone();
        let recoveries = Recoveries::below(&self.config.state_directory);
        work(reply, move |reply| {
            let tell = |what| reply.send(Msg::Log(log::News { recovery: recovery.clone(), what }));
            let plan = recoveries.load(&recovery).map(|buffer| buffer.plan);
            match plan {
                Ok(Some(plan)) => tell_lines(&plan.server, &cancel, &tell),
                Ok(None) => _ = tell(log::What::Failed(Error::failed("journal-empty", "the journal has no plan"))),
                Err(error) => _ = tell(log::What::Failed(error)),
            }
            Ok(())
        });
    }

    fn ask(&self, question: Question) {
        if let Some(archive) = &self.archive {
            let _ = archive.send(question);
        }
    }

    fn load_recoveries(&self, reply: &MsgSender) {
        let recoveries = Recoveries::below(&self.config.state_directory);
        let drills = Drills::below(&self.config.state_directory);
        work(reply, move |reply| {
            let all = recoveries.all()?;
            // What drills have made they remove themselves, unless it was to be kept.
            let all = all.into_iter().filter(|(id, _)| !drills.has(id) || drills.is_kept(id));
            let known = all.filter_map(|(_, buffer)| {
                let buffer = buffer.ok()?;
                let system_identifier = buffer.plan.as_ref().and_then(|plan| plan.backup.system_identifier);
                Some(Known { recovery: buffer.recovery()?, system_identifier })
            });
            reply.send(Msg::Recoveries(known.collect()));
            Ok(())
        });
    }

    fn make_plan(&self, wanted: Wanted, reply: &MsgSender) {
        let shared = Arc::clone(&self.shared);
        let mut restore = self.restore.clone();
        restore.port = wanted.port.or(restore.port);
        restore.settings.extend(wanted.settings.iter().cloned());
        let directory = std::path::absolute(Path::new(wanted.directory.trim())).map_err(|error| {
            Error::usage("bad-path", format!("this is no path: {}", wanted.directory)).caused_by(&error)
        });
        self.prepare(reply, Cancel::default(), move |preparation, zone, reply| {
            let planned = directory.and_then(|directory| {
                let Wanted { target, backup, make_way, .. } = wanted;
                let request = Request { target, backup, directory, restore, pristine: None, make_way, zone };
                let plan = preparation.plan(&request)?;
                shared.remember(&plan)?;
                Ok(Box::new(plan))
            });
            reply.send(Msg::Planned(planned));
        });
    }

    fn write_runbook(&self, plan: Box<Plan>, file: String, replace: bool, reply: &MsgSender) {
        let config = self.config.clone();
        work(reply, move |reply| {
            let runbook = Runbook::at(Path::new(&file));
            let written = Host::new(config.read_only)
                .and_then(|host| runbook.write(&host, &plan, config.zone, replace))
                .map(|()| [&runbook.script, &runbook.document].map(|path| path.display().to_string()));
            reply.send(Msg::Runbook { file, answer: written });
            Ok(())
        });
    }

    /// Tells where recovery would stop, until the next target is asked about.
    fn resolve(&mut self, target: Target, reply: &MsgSender) {
        std::mem::take(&mut self.resolving).cancel();
        self.prepare(reply, self.resolving.clone(), move |preparation, zone, reply| {
            let (directory, restore) = (PathBuf::new(), RestoreConfig::default());
            let request = Request { target, backup: None, directory, restore, pristine: None, make_way: false, zone };
            let answer = preparation.locate(&request).map(Box::new);
            if !preparation.cancel.is_cancelled() {
                reply.send(Msg::Resolved { target: request.target, answer });
            }
        });
    }

    /// Does something with all that is known of the source, once that is listed.
    fn prepare(
        &self,
        reply: &MsgSender,
        cancel: Cancel,
        job: impl FnOnce(&Preparation<'_>, Zone, &MsgSender) + Send + 'static,
    ) {
        let Some(catalog) = lock(&self.shared.catalog).clone() else { return };
        let (source, config) = (Arc::clone(&self.source), self.config.clone());
        let names = Arc::clone(&lock(&self.shared.names));
        work(reply, move |reply| {
            let preparation = Preparation {
                source: source.as_ref(),
                catalog: &catalog,
                recoveries: &Recoveries::below(&config.state_directory),
                cache: config.cache_directory.as_deref(),
                names: &names,
                progress: &|_| {},
                cancel: &cancel,
            };
            job(&preparation, config.zone, reply);
            Ok(())
        });
    }

    fn plan_retarget(&self, recovery: String, target: Target, reply: &MsgSender) {
        let (shared, config) = (Arc::clone(&self.shared), self.config.clone());
        work(reply, move |reply| {
            let planned = Engine::new(&config).and_then(|engine| {
                let (plan, approach) =
                    plan_retarget(&engine, &recovery, &target, config.zone, &Cancel::default(), &|_| {})?;
                shared.remember(&plan)?;
                Ok((Box::new(plan), Box::new(approach)))
            });
            reply.send(Msg::RetargetPlanned(planned));
            Ok(())
        });
    }

    /// Has the engine do something to a recovery, and sends its events on.
    fn act(
        &self,
        reply: &MsgSender,
        kind: ActionKind,
        recovery: String,
        action: impl FnOnce(&Engine, &dyn Fn(&Event), &Cancel) -> Result<Recovery> + Send + 'static,
    ) {
        let (config, shared) = (self.config.clone(), Arc::clone(&self.shared));
        let cancel = Cancel::default();
        lock(&shared.steps).insert(recovery, cancel.clone());
        work(reply, move |reply| {
            let engine = Engine::new(&config)?;
            action(
                &engine,
                &|event| {
                    let _ = reply.send(Msg::Event(event.clone()));
                },
                &cancel,
            )?;
            reply.send(Msg::Done(kind));
            Ok(())
        });
    }

    fn follow(&self, id: String, reply: &MsgSender) {
        let config = self.config.clone();
        let cancel = Cancel::default();
        lock(&self.shared.steps).insert(id.clone(), cancel.clone());
        work(reply, move |reply| {
            let recoveries = Recoveries::below(&config.state_directory);
            let mut told = 0;
            loop {
                let events = recoveries.events(&id)?;
                for event in events.iter().skip(told) {
                    reply.send(Msg::Event(event.clone()));
                }
                if told == 0 {
                    tell_log(&recoveries, &id, reply);
                }
                told = events.len();
                let state = recoveries.load(&id)?.state;
                let by_itself = matches!(state, Some(RecoveryState::Replaying | RecoveryState::Promoting));
                if !by_itself && let Standing::Interrupted(found) = standing(&recoveries, &id)? {
                    reply.send(Msg::Interrupted { recovery: id, found });
                    return Ok(());
                }
                if !matches!(
                    state,
                    Some(
                        RecoveryState::Planned
                            | RecoveryState::Unpacking
                            | RecoveryState::Configured
                            | RecoveryState::Replaying
                            | RecoveryState::Promoting
                    )
                ) {
                    return Ok(());
                }
                let server = !matches!(state, Some(RecoveryState::Planned | RecoveryState::Unpacking));
                if server && !config.read_only {
                    // Nobody follows it any more: this one does. Where somebody does, their journal is read on.
                    let followed = Engine::new(&config)?.follow(
                        &id,
                        &|event| {
                            let _ = reply.send(Msg::Event(event.clone()));
                        },
                        &cancel,
                    );
                    match followed {
                        Err(error) if error.report().code == "recovery-busy" => {}
                        followed => return followed.map(drop),
                    }
                }
                if cancel.is_cancelled() {
                    return Ok(());
                }
                std::thread::sleep(READ_EVERY);
            }
        });
    }
}

/// Bytes at the end of a log that are read when it is opened.
const LOG_BYTES: u64 = 4 << 20;

/// Tells what is in a server's log and what comes to it, until it is cancelled or nobody listens. A log that became
/// shorter is another one, and is told from its beginning.
fn tell_lines(server: &ServerPlan, cancel: &Cancel, tell: &dyn Fn(log::What) -> bool) {
    let mut length = LogTail::end_of(&server.log);
    let from = length.saturating_sub(LOG_BYTES);
    let mut tail = LogTail::new(&server.log, from);
    let path = server.log.display().to_string();
    let mut listened = tell(log::What::Begins { path: path.clone(), earlier: from > 0 });
    let mut is_first = from > 0;
    while listened && !cancel.is_cancelled() {
        let now = LogTail::end_of(&server.log);
        if now < length {
            tail = LogTail::new(&server.log, 0);
            is_first = false;
            listened = tell(log::What::Begins { path: path.clone(), earlier: false });
        }
        length = now;
        let mut lines = tail.lines();
        if lines.is_empty() {
            std::thread::sleep(READ_EVERY);
            continue;
        }
        if std::mem::take(&mut is_first) {
            // It was begun to be read in the middle of a line.
            lines.remove(0);
        }
        listened = tell(log::What::Lines(lines));
    }
}

/// The end of a server's log, as events: the journal does not have it.
fn tell_log(recoveries: &Recoveries, id: &str, reply: &MsgSender) {
    let Some(plan) = recoveries.load(id).ok().and_then(|buffer| buffer.plan) else { return };
    for line in last_lines(&plan.server.log, LOG_LINES) {
        reply.send(Msg::Event(Event { at: now(), recovery: id.to_owned(), what: What::Log { line } }));
    }
}

/// Tells what is known of the archive, more and more, until everything is.
fn tell_overview(index: &Index<'_>, catalog: &Catalog, names: &Mutex<NameBook>, cancel: &Cancel, reply: &MsgSender) {
    let read = guarded(|| read_archive(index, catalog, names, cancel, reply));
    reply.send(Msg::ScanFinished(read));
    // Without a cache everything works, only slower.
    if let Some(warning) = index.warnings().into_iter().next() {
        reply.send(Msg::Note(warning));
    }
}

fn read_archive(
    index: &Index<'_>,
    catalog: &Catalog,
    names: &Mutex<NameBook>,
    cancel: &Cancel,
    reply: &MsgSender,
) -> Result<()> {
    let mut told = None;
    let mut overview = index.build(
        cancel,
        &mut |done, total| {
            // A message for every segment would only be in the way.
            let share = done.saturating_mul(200).checked_div(total);
            if told != share {
                told = share;
                reply.send(Msg::ScanProgress { done, total });
            }
        },
        &mut |overview| {
            reply.send(Msg::Overview(Arc::new(overview)));
        },
    )?;
    reply.send(Msg::Overview(Arc::new(overview.clone())));
    // Names come last: reading them may take a while.
    lock(names).name(&mut overview.suspects, catalog, cancel)?;
    reply.send(Msg::Overview(Arc::new(overview)));
    Ok(())
}

/// The databases of a recovered server, on a thread of its own: whoever asks runs in a runtime already. None where it
/// does not answer soon; psql says why.
fn databases_soon(recovery: &Recovery, plan: &Plan) -> Vec<String> {
    const SOON: Duration = Duration::from_secs(2);
    let (sender, receiver) = std::sync::mpsc::channel();
    let (recovery, plan) = (recovery.clone(), plan.clone());
    std::thread::spawn(move || sender.send(guarded(|| databases(&recovery, &plan)).unwrap_or_default()));
    receiver.recv_timeout(SOON).unwrap_or_default()
}

/// What can be asked about the archive.
enum Question {
    /// For the recovery points of segments.
    Points(TimelineId, RangeInclusive<u64>),
    /// Where a transaction ended.
    Locate(Xid),
}

/// Answers questions until nobody asks any more, the latest first: what was asked before may have left the screen.
fn serve(index: &Index<'_>, catalog: &Catalog, asked: &Receiver<Question>, reply: &MsgSender) {
    std::thread::scope(|scope| {
        let mut open = Vec::new();
        while let Some(question) = open.pop().or_else(|| asked.recv().ok()) {
            match question {
                Question::Points(timeline, numbers) => {
                    for number in numbers {
                        let points = guarded(|| index.points(timeline, number, &Cancel::default()));
                        reply.send(Msg::Points { timeline, number, points });
                    }
                }
                // It goes through the whole archive: nobody's rows wait for it.
                Question::Locate(xid) => {
                    scope.spawn(move || {
                        reply.send(Msg::Located { xid, points: guarded(|| ends_of(xid, index, catalog)) })
                    });
                }
            }
            open.extend(asked.try_iter());
        }
    });
}

/// Every commit or rollback of a transaction of this number.
fn ends_of(xid: Xid, index: &Index<'_>, catalog: &Catalog) -> Result<Vec<Point>> {
    let cancel = Cancel::default();
    let mut found = Vec::new();
    for timeline in &catalog.timelines {
        let mut numbers = Vec::new();
        index.for_each(timeline.id, &cancel, &mut |number, read| {
            if read.is_ok_and(|summary| summary.may_end(xid)) {
                numbers.push(number);
            }
            ControlFlow::Continue(())
        })?;
        for number in numbers {
            let points = index.points(timeline.id, number, &cancel)?;
            let ends = |point: &Point| matches!(point.kind, PointKind::Commit | PointKind::Abort);
            found.extend(points.into_iter().filter(|point| ends(point) && point.xid == Some(xid)));
        }
    }
    Ok(found)
}

/// Does something on a thread of its own; what it fails with, a panic too, becomes a message.
fn work(reply: &MsgSender, job: impl FnOnce(&MsgSender) -> Result<()> + Send + 'static) {
    let reply = reply.clone();
    std::thread::spawn(move || {
        if let Err(error) = guarded(|| job(&reply)) {
            reply.send(Msg::Failed(error));
        }
    });
}

/// Does something; a panic of it becomes an error.
fn guarded<T>(job: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|panic| {
        Err(Error::failed("internal", "this is a mistake in Walback")
            .because(panic_text(panic.as_ref()))
            .hint("recoveries go on; please report it"))
    })
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| "it does not say what happened".to_owned())
}
