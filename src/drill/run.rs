//! Makes a drill: plans, restores, checks, measures, removes, reports.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::aim::{self, Aim, PassedOver, Which};
use super::checks::Checks;
use super::limit::{Limit, Room, TooMuch};
use super::measure;
use super::remains::taken_over;
use super::store::{DrillJournal, Drills, Sealed};
use crate::catalog::Catalog;
use crate::catalog::suspect::MANY_ROWS;
use crate::config::{Config, RestoreConfig, SourceConfig};
use crate::core::progress::{Bytes, Seconds};
use crate::engine::facts::source_of;
use crate::engine::host::lock::host_name;
use crate::engine::host::programs::Program;
use crate::engine::host::{Host, current_account, now};
use crate::engine::{Engine, Preparation, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::event::drill::{By, CheckKind, DrillCheck, DrillPhase, DrillResult, Drilled, DrilledBackup, FORMAT};
use crate::event::{DrillReport, Event, Failure, Recovery, RecoveryState, What};
use crate::plan::build::name_recovery;
use crate::plan::settings::REACHING_OUT;
use crate::plan::{Finding, Plan, Severity, tablespaces};
use crate::source::{Cancel, Index, LocalSource, Source};

/// How long the command for failures may take.
const ALARM: Duration = Duration::from_secs(60);

/// What a drill is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// To where.
    pub aim: Aim,
    /// From which base backup.
    pub which: Which,
    /// Below which directory; `None` for the configured one.
    pub scratch: Option<PathBuf>,
    /// Where the server's programs are; `None` for the configured place.
    pub bin_dir: Option<PathBuf>,
    /// Whether what was restored stays, whatever is configured.
    pub keep: bool,
}

/// What happens during a drill.
#[derive(Debug, Clone, Copy)]
pub enum Heard<'a> {
    /// Something of its recovery.
    Event(&'a Event),
    /// A part is begun, in words.
    Doing(&'a str),
    /// A check was carried out.
    Checked(&'a DrillCheck),
    /// Something to be known.
    Note(&'a str),
}

/// Whoever watches a drill; told its name with what happens.
pub type Listen<'a> = &'a (dyn Fn(&str, Heard<'_>) + 'a);

/// Makes drills of one source.
pub struct Drill<'a> {
    pub(super) config: &'a Config,
    pub(super) source: &'a SourceConfig,
    pub(super) engine: Engine,
    pub(super) host: Host,
    pub(super) drills: Drills,
    pub(super) listen: Listen<'a>,
}

/// A drill that is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Done {
    /// Its report, and where it is.
    pub sealed: Sealed,
    /// Its recovery; `None` where it did not come to one.
    pub recovery: Option<Recovery>,
}

/// How far a drill came that did not come to its end.
struct Ended {
    error: Error,
    /// What was more than it may take, where it was given up for that.
    too_much: Option<TooMuch>,
}

/// What came of asking the primary at the beginning.
#[derive(Debug, Default)]
struct AskedPrimary {
    /// How long that took: nobody asks a primary that is gone.
    asking: Duration,
    /// The id behind its last transaction, where none was going on.
    next_xid: Option<u64>,
}

impl<'a> Drill<'a> {
    /// For the source that the configuration means.
    ///
    /// # Errors
    /// When there is none, or with `--read-only`.
    pub fn new(config: &'a Config, listen: Listen<'a>) -> Result<Drill<'a>> {
        Ok(Drill {
            config,
            source: config.source_to_drill()?,
            engine: Engine::new(config)?,
            host: Host::new(config.read_only)?,
            drills: Drills::below(&config.state_directory),
            listen,
        })
    }

    /// Makes one. Whatever becomes of it is in its report: a drill that fails is no error. Where it fails, or there is no report,
    /// the configured command tells somebody.
    ///
    /// # Errors
    /// When it cannot be begun, or its report cannot be written.
    pub fn run(&self, asked: &Asked, cancel: &Cancel) -> Result<Done> {
        let done = self.run_quietly(asked, cancel);
        match &done {
            Ok(Done { sealed, .. }) if sealed.report.result == DrillResult::Failed => {
                self.raise_alarm(&sealed.report.id, &sealed.report.summary, Some(&sealed.directory));
            }
            // Whoever calls it the wrong way sees that.
            Err(error) if error.report().kind != ErrorKind::Usage => {
                let summary = format!("no drill of {}: {}", self.source.name, in_one_line(&error.report().message));
                self.raise_alarm("", &summary, None);
            }
            _ => {}
        }
        done
    }

    fn run_quietly(&self, asked: &Asked, cancel: &Cancel) -> Result<Done> {
        let scratch = self.scratch(asked)?;
        self.check_named(&asked.which, cancel)?;
        let mut notes = self.clear_up()?;
        notes.extend(self.strangers(&scratch));
        let directory = self.new_directory(&scratch);
        let mut report = self.blank(&directory, notes, asked.keep);
        let mut journal = self.drills.begin(&self.host, &report.id)?;
        journal.note(&self.host, &report, false)?;
        let limit = self.limit(&report.directory, cancel);
        let outcome = self.make(asked, &mut report, &mut journal, &limit);
        if let Err(error) = outcome {
            self.take_failure(&mut report, Ended { error, too_much: limit.exceeded() });
        }
        measure::forget_unproved_rpo(&mut report);
        // What is not there cannot be kept, and what takes too much may not stay.
        report.kept &= limit.exceeded().is_none() && self.engine.recoveries().has(&report.id) && directory.exists();
        judge(&mut report);
        report.ended_at = now();
        // What is known now stands, also where removing is interrupted. Where it cannot be written down, what was made has to
        // go all the same: the disk may be full of it.
        let _ = journal.note(&self.host, &report, true);
        if !report.kept {
            let started = Instant::now();
            self.remove(&mut report, journal.promotes());
            report.phases.push(phase("teardown", started));
        }
        judge(&mut report);
        report.ended_at = now();
        summarize(&mut report);
        let summary = report.summary.clone();
        let sealed = self.drills.seal(&self.host, report, self.config.zone).map_err(|error| error.because(summary))?;
        let recovery = self.engine.recoveries().load(&sealed.report.id).ok().and_then(|buffer| buffer.recovery());
        Ok(Done { sealed, recovery })
    }

    fn limit(&self, directory: &Path, cancel: &Cancel) -> Limit {
        let directories = vec![directory.to_path_buf(), tablespaces::beside(directory)];
        let room = self.source.drill.max_bytes.map(|most| Room { directories, most });
        Limit::with_room(cancel, self.source.drill.timeout, room)
    }

    fn scratch(&self, asked: &Asked) -> Result<PathBuf> {
        let scratch = asked.scratch.clone().or_else(|| self.source.drill.scratch.clone()).ok_or_else(|| {
            Error::usage("no-scratch", "it is not said below which directory the drill shall restore")
                .hint("give it with --scratch DIR, or as “drill: {scratch: DIR}” of the source in the configuration")
        })?;
        let scratch = std::path::absolute(&scratch).map_err(|error| {
            Error::usage("bad-path", format!("this is no path: {}", scratch.display())).caused_by(&error)
        })?;
        // Those of another cluster are somebody's backups as well.
        let sources: Vec<PathBuf> =
            self.config.sources.values().flat_map(|source| source.backups.iter().chain(&source.wal)).cloned().collect();
        match source_of(&scratch, &sources) {
            None => Ok(scratch),
            Some(source) => {
                let message = format!("{} lies inside a source: {}", scratch.display(), source.display());
                Err(Error::usage("inside-source", message)
                    .hint("sources are only ever read: choose another place with --scratch, or in the configuration"))
            }
        }
    }

    /// A directory that is not there, whose name no drill and no recovery has.
    fn new_directory(&self, scratch: &Path) -> PathBuf {
        let time = now().for_server();
        let digits: String = time.chars().filter(char::is_ascii_digit).take(14).collect();
        let source = if self.source.name == crate::config::FROM_COMMAND_LINE { "" } else { self.source.name.as_str() };
        // So long that the whole fits into a name.
        let source: String = source.chars().take(15).collect();
        // Somebody who keeps drills elsewhere may begin one of the same name in the same place in the same second.
        let wanted = format!("drill {source} {digits} {:03x}", aim::below(0x1000));
        let is_taken = |name: &str| {
            let path = scratch.join(name);
            self.drills.has(name) || self.engine.recoveries().has(name) || path.symlink_metadata().is_ok()
        };
        scratch.join(name_recovery(Path::new(&wanted), &is_taken))
    }

    /// The report of a drill that has done nothing yet.
    fn blank(&self, directory: &Path, notes: Vec<String>, keep: bool) -> DrillReport {
        let drill = &self.source.drill;
        let at = now();
        DrillReport {
            format: FORMAT,
            id: directory.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            number: 0,
            previous: None,
            result: DrillResult::Interrupted,
            summary: String::new(),
            failures: Vec::new(),
            notes,
            begun_at: at,
            ended_at: at,
            by: By { user: user(), host: host_name(), walback: env!("CARGO_PKG_VERSION").to_owned(), postgresql: None },
            source: Drilled {
                name: self.source.name.clone(),
                backups: self.source.backups.clone(),
                wal: self.source.wal.clone(),
                system_identifier: None,
            },
            chosen: String::new(),
            backup: None,
            target: None,
            directory: directory.to_path_buf(),
            predicted: None,
            actual: None,
            matches_prediction: None,
            phases: Vec::new(),
            rto_s: None,
            rto_limit_s: drill.rto.map(|limit| limit.as_secs_f64()),
            rpo_s: None,
            rpo_limit_s: drill.rpo.map(|limit| limit.as_secs_f64()),
            rpo_against: None,
            recoverable_at: None,
            newest_known_at: None,
            primary_at: None,
            wal_bytes: None,
            wal_bytes_per_hour: None,
            forecast: None,
            checks: Vec::new(),
            skipped: Vec::new(),
            findings: Vec::new(),
            failure: None,
            kept: keep || drill.keep,
            removed: false,
            documents: BTreeMap::new(),
        }
    }

    /// A name that is mistyped is no drill that failed.
    fn check_named(&self, which: &Which, cancel: &Cancel) -> Result<()> {
        let Which::Named(id) = which else { return Ok(()) };
        let source = LocalSource::new(self.source).remembering(self.config.cache_directory.as_deref());
        aim::named(&source.list(cancel)?, id).map(drop)
    }

    /// What is not there is not to be found out after hours.
    fn check_script(&self) -> Result<()> {
        let Some(script) = self.source.drill.script.as_ref().filter(|script| !script.is_file()) else { return Ok(()) };
        Err(Error::failed("drill-script", format!("the script of the drill is not there: {}", script.display()))
            .hint("mend “drill: {script: …}” of the source in the configuration"))
    }

    /// Everything from the plan to the last check.
    fn make(&self, asked: &Asked, report: &mut DrillReport, journal: &mut DrillJournal, limit: &Limit) -> Result<()> {
        (self.listen)(&report.id, Heard::Doing("planning"));
        self.check_script()?;
        let started = Instant::now();
        let (plan, primary) = self.plan(asked, report, limit)?;
        let planning = phase(measure::PLAN, started);
        let seconds = (planning.seconds - primary.asking.as_secs_f64()).max(0.0);
        report.phases.push(DrillPhase { seconds, ..planning });
        journal.note(&self.host, report, false)?;
        self.check_bounds(&plan)?;
        let watch = |event: &Event| (self.listen)(&event.recovery, Heard::Event(event));
        let begun = self.engine.begin(&plan, &plan.hash()?, &watch, limit.cancel());
        // What its steps took is told also where the last of them failed.
        let buffer = self.engine.recoveries().load(&plan.recovery).ok();
        measure::take_phases(report, buffer.as_ref().map_or(&[], |buffer| &buffer.phases));
        report.forecast = measure::forecast(&plan, &report.phases, begun.is_ok());
        let recovery = begun?;
        report.actual = measure::actual(&recovery);
        report.matches_prediction = recovery.matches_prediction;
        report.wal_bytes_per_hour = measure::wal_bytes_per_hour(&plan, recovery.last_commit_at);
        let role = buffer.and_then(|buffer| buffer.role).unwrap_or_else(|| plan.server.role.clone());
        let config = &self.source.drill;
        let checks = Checks { drill: self, config, plan: &plan, recovery: &recovery, limit, role };
        if checks.has_all_before(primary.next_xid, report) {
            measure::take_nothing_lost(report);
        }
        self.check(&checks, report, journal)
    }

    /// Chooses and plans; what is known by that goes into the report.
    fn plan(&self, asked: &Asked, report: &mut DrillReport, limit: &Limit) -> Result<(Plan, AskedPrimary)> {
        let source = LocalSource::new(self.source).remembering(self.config.cache_directory.as_deref());
        let catalog = source.list(limit.cancel())?;
        report.source.system_identifier = catalog.system_identifier.map(|id| id.to_string());
        report.notes.extend(catalog.problems.iter().cloned());
        let cache = self.config.cache_directory.as_deref();
        let index = Index::new(&source, &catalog, cache, self.config.suspect_rows.unwrap_or(MANY_ROWS));
        // What is known of the archive stands, whatever the target comes to.
        report.newest_known_at = measure::newest_known(&catalog, &index, limit.cancel())?;
        let asked_primary = self.ask_primary(report, &catalog);
        let which = (&asked.which, &asked.aim);
        let mut passed_over = PassedOver::default();
        let chosen = aim::choose(&catalog, &index, which, &mut passed_over, (report.begun_at, limit.cancel()));
        report.notes.append(&mut passed_over.notes);
        report.failures.append(&mut passed_over.failures);
        let chosen = chosen?;
        report.chosen = chosen.how;
        report.target = Some(chosen.target.clone());
        let preparation = Preparation {
            source: &source,
            catalog: &catalog,
            recoveries: self.engine.recoveries(),
            cache,
            names: &Mutex::default(),
            progress: &|_| {},
            cancel: limit.cancel(),
        };
        let plan = preparation.plan(&Request {
            target: chosen.target,
            backup: chosen.backup,
            directory: report.directory.clone(),
            restore: self.restore(asked, &mut report.notes),
            pristine: None,
            make_way: false,
            zone: self.config.zone,
        })?;
        self.take_plan(report, &plan);
        Ok((plan, asked_primary))
    }

    /// What the primary says goes into the report; where it is not to be asked, or does not answer, what that means.
    fn ask_primary(&self, report: &mut DrillReport, catalog: &Catalog) -> AskedPrimary {
        let Some(primary) = &self.source.primary else {
            report.notes.extend(measure::without_primary(report));
            return AskedPrimary::default();
        };
        let begun = Instant::now();
        let answer = measure::primary_now(primary, catalog);
        let asking = begun.elapsed();
        match answer {
            Ok(then) => {
                report.primary_at = Some(then.now);
                return AskedPrimary { asking, next_xid: then.next_xid };
            }
            // Whoever set a limit is not to be told that it was kept.
            Err(why) if report.rpo_limit_s.is_some() => {
                report.failures.push(format!("the RPO cannot be told: {why}"));
            }
            Err(why) => report.notes.push(why),
        }
        AskedPrimary { asking, next_xid: None }
    }

    /// As recoveries of this source are made, but for what a recovery of an accident may need at the same time (its place,
    /// its port, and the places of its tablespaces), and for settings that take away from the isolation: these are noted.
    fn restore(&self, asked: &Asked, notes: &mut Vec<String>) -> RestoreConfig {
        let configured = self.source.restore.clone();
        let reaches_out = |name: &String| REACHING_OUT.iter().any(|one| one.eq_ignore_ascii_case(name));
        let (left_out, settings): (BTreeMap<_, _>, BTreeMap<_, _>) =
            configured.settings.into_iter().partition(|(name, _)| reaches_out(name));
        if !left_out.is_empty() {
            let names: Vec<String> = left_out.into_keys().collect();
            notes.push(format!("a drill is isolated: it goes without the configured {}", names.join(", ")));
        }
        RestoreConfig {
            directory: None,
            port: None,
            tablespaces: Vec::new(),
            bin_dir: asked.bin_dir.clone().or(configured.bin_dir),
            settings,
            ..configured
        }
    }

    fn take_plan(&self, report: &mut DrillReport, plan: &Plan) {
        let backup = &plan.backup;
        report.backup = Some(DrilledBackup {
            id: backup.id.clone(),
            location: backup.location.clone(),
            pg_version: plan.server.major,
            started_at: backup.started_at,
            size_bytes: backup.size_bytes,
            unpacked_bytes: backup.unpacked_bytes,
        });
        report.predicted = Some(measure::predicted(plan));
        report.findings = plan.findings.iter().map(told_of_drill).collect();
        report.recoverable_at = measure::recoverable_at(plan);
        let is_silent = self.source.primary.is_some() && report.primary_at.is_none();
        if !is_silent || report.rpo_limit_s.is_none() {
            measure::take_rpo(report);
        }
    }

    /// Whether it would keep within the configured room.
    fn check_bounds(&self, plan: &Plan) -> Result<()> {
        let Some(most) = self.source.drill.max_bytes else { return Ok(()) };
        let takes = plan.estimate.unpack_bytes.saturating_add(plan.estimate.wal_bytes);
        if takes <= most {
            return Ok(());
        }
        Err(Error::failed(
            "drill-too-large",
            format!("it would take about {}, more than the {} that a drill may take", Bytes(takes), Bytes(most)),
        )
        .hint("raise “drill: {max_bytes: …}” of the source in the configuration"))
    }

    /// Asks, reads everything, and at the end what needs the server stopped.
    fn check(&self, checks: &Checks<'_>, report: &mut DrillReport, journal: &mut DrillJournal) -> Result<()> {
        let id = report.id.clone();
        let watch = |event: &Event| (self.listen)(&event.recovery, Heard::Event(event));
        let started = Instant::now();
        (self.listen)(&report.id, Heard::Doing("checking"));
        report.checks.push(as_predicted(report));
        if checks.recovery.state != RecoveryState::Paused {
            return Err(Error::failed(
                "drill-unreadable",
                "the server takes no queries at this target: nothing could be checked",
            )
            .hint("choose another target: docs/findings.md says where a server cannot pause"));
        }
        let asked = checks.ask(report);
        report.phases.push(phase(measure::CHECKS, started));
        // Who gave it up does not know how long it would have taken.
        asked?;
        report.rto_s = Some(measure::rto_s(&report.phases));
        let started = Instant::now();
        (self.listen)(&report.id, Heard::Doing("reading everything"));
        let promoted = self.source.drill.promote;
        if promoted {
            journal.note_promotion(&self.host, report)?;
            self.engine.promote(&id, &watch)?;
        }
        checks.read_everything(report, promoted)?;
        if checks.wants_checksums(report)? {
            self.engine.stop_cleanly(&id, &watch, checks.limit.cancel())?;
            checks.checksums(report)?;
            if report.kept {
                self.engine.resume(&id, &watch, checks.limit.cancel())?;
            }
        }
        report.phases.push(DrillPhase { counts: false, ..phase("verify", started) });
        Ok(())
    }

    /// Removes what the drill has made, and says in the report how far that came. Where somebody else has taken that over, it
    /// stays. `promotes`: it may be the drill that has promoted it.
    pub(super) fn remove(&self, report: &mut DrillReport, promotes: bool) {
        (self.listen)(&report.id, Heard::Doing("removing what was restored"));
        if !self.engine.recoveries().has(&report.id) {
            report.removed = true;
            return;
        }
        let events = self.engine.recoveries().events(&report.id).unwrap_or_default();
        if let Some(done) = taken_over(&events, promotes) {
            report.kept = true;
            report.notes.push(format!("somebody has {done} what it had made: that is kept, and theirs to discard"));
            return;
        }
        self.host.end_left_behind(&script_marks(&report.id, &report.directory));
        let gone = RefCell::new(None);
        let watch = |event: &Event| {
            if let What::Finding(finding) = &event.what
                && finding.code == "directory-gone"
            {
                gone.replace(Some(finding.message.clone()));
            }
            (self.listen)(&event.recovery, Heard::Event(event));
        };
        match self.engine.tear_down(&report.id, &watch) {
            Ok(_) => match gone.take() {
                None => report.removed = true,
                Some(gone) => {
                    report.notes.push(format!("{gone}; if its file system is not mounted, its data is still there"))
                }
            },
            Err(error) => {
                let why = &error.report().message;
                report.failures.push(format!("what was restored could not be removed: {why}"));
            }
        }
    }

    fn take_failure(&self, report: &mut DrillReport, ended: Ended) {
        let said = ended.error.report();
        let failure = Failure {
            step: None,
            code: said.code.into(),
            message: said.message.clone(),
            causes: said.causes.clone(),
            hint: said.hint.as_deref().map(hint_of_drill),
        };
        let first = match (ended.too_much, said.kind) {
            (Some(TooMuch::Time), _) => {
                let limit = Seconds(self.source.drill.timeout.as_secs_f64());
                format!("it was given up after {limit}, its limit")
            }
            (Some(TooMuch::Room(taken)), _) => {
                let most = Bytes(self.source.drill.max_bytes.unwrap_or_default());
                format!("it was given up: it took {}, more than the {most} that a drill may take", Bytes(taken))
            }
            (None, ErrorKind::Interrupted) => "it was given up before its end".to_owned(),
            (None, _) => said.message.clone(),
        };
        report.result = match (ended.too_much, said.kind) {
            (None, ErrorKind::Interrupted) => DrillResult::Interrupted,
            _ => DrillResult::Failed,
        };
        // What forbids the plan says it better.
        if said.code != "plan-forbidden" {
            report.failures.insert(0, first);
        }
        report.failure = Some(failure);
    }

    /// Has the configured command tell somebody of a failure. `directory`: where the report and its documents are.
    fn raise_alarm(&self, id: &str, summary: &str, directory: Option<&Path>) {
        let Some(command) = &self.source.drill.on_failure else { return };
        let place = |name: &str| directory.map(|place| place.join(name).display().to_string()).unwrap_or_default();
        let environment = [
            ("WALBACK_SUMMARY", summary.to_owned()),
            ("WALBACK_RESULT", DrillResult::Failed.word().to_owned()),
            ("WALBACK_DRILL", id.to_owned()),
            ("WALBACK_SOURCE", self.source.name.clone()),
            ("WALBACK_REPORT", place(super::store::HTML)),
            ("WALBACK_REPORT_JSON", place("report.json")),
            ("WALBACK_REPORT_MARKDOWN", place(super::store::MARKDOWN)),
        ];
        let arguments = ["-c".to_owned(), command.clone()];
        let program = Program {
            path: Path::new("/bin/sh"),
            arguments: &arguments,
            environment: &environment,
            output_to_nowhere: false,
            of_the_copy: false,
        };
        let started = Instant::now();
        let ran = self.host.run_while(&current_account(), &program, &|| started.elapsed() < ALARM);
        let why = match ran {
            Ok(ran) if ran.succeeded() => return,
            Ok(ran) if ran.cut_short => format!("it was given up after {}", Seconds(ALARM.as_secs_f64())),
            Ok(ran) => ran.said.lines().last().unwrap_or("it failed").to_owned(),
            Err(error) => error.report().message.clone(),
        };
        (self.listen)(id, Heard::Note(&format!("“on_failure” did not succeed: {why}")));
    }
}

/// Who runs this program; behind sudo also who did that.
fn user() -> String {
    let name = current_account().name;
    match std::env::var("SUDO_USER") {
        Ok(real) if !real.is_empty() && real != name => format!("{name}, for {real}"),
        _ => name,
    }
}

fn phase(name: &str, started: Instant) -> DrillPhase {
    let counts = matches!(name, measure::PLAN | measure::CHECKS);
    DrillPhase { name: name.to_owned(), seconds: started.elapsed().as_secs_f64(), bytes: None, counts }
}

/// What nobody but the script of a drill, and what that starts, has in its environment.
pub(super) fn script_marks(id: &str, directory: &Path) -> [(&'static str, String); 2] {
    [("WALBACK_DRILL", id.to_owned()), ("WALBACK_DIRECTORY", directory.display().to_string())]
}

/// A hint as it is right for a drill: that has another option for its place.
fn hint_of_drill(hint: &str) -> String {
    hint.replace("--into", "--scratch")
}

fn told_of_drill(finding: &Finding) -> Finding {
    Finding { hint: finding.hint.as_deref().map(hint_of_drill), ..finding.clone() }
}

/// Whether it stopped where it was predicted to.
fn as_predicted(report: &DrillReport) -> DrillCheck {
    let place = |stop: &Option<crate::event::drill::DrilledStop>| {
        stop.as_ref().and_then(|stop| stop.replay_end).map(|lsn| format!("LSN {lsn}"))
    };
    DrillCheck {
        name: "recovery stopped where it was predicted to".to_owned(),
        kind: CheckKind::Stop,
        passed: report.matches_prediction == Some(true),
        value: place(&report.actual),
        expected: place(&report.predicted).unwrap_or_else(|| "not known".to_owned()),
        said: Vec::new(),
        seconds: 0.0,
    }
}

/// Concludes from what was measured and checked how the drill ended. Once more where something was added since.
pub(super) fn judge(report: &mut DrillReport) {
    let interrupted = report.result == DrillResult::Interrupted && report.failure.is_some();
    let mut failures = std::mem::take(&mut report.failures);
    let failed = report.checks.iter().filter(|check| !check.passed).map(DrillCheck::in_words);
    let exceeded = measure::exceeded(report);
    let forbidding = report.findings.iter().filter(|finding| finding.severity == Severity::Error);
    let more: Vec<String> = failed.chain(exceeded).chain(forbidding.map(|finding| finding.message.clone())).collect();
    for failure in more {
        if !failures.contains(&failure) {
            failures.push(failure);
        }
    }
    report.result = match (interrupted, failures.is_empty()) {
        (true, _) => DrillResult::Interrupted,
        (false, true) => DrillResult::Passed,
        (false, false) => DrillResult::Failed,
    };
    report.failures = failures;
}

/// Says all of it in one line.
pub(super) fn summarize(report: &mut DrillReport) {
    let (passed, all) = report.passed_checks();
    let mut parts = vec![format!("drill {} {}", report.id, report.result.word())];
    if let Some(first) = report.failures.first() {
        let more = report.failures.len() - 1;
        parts.push(if more > 0 { format!("{first} (and {more} more)") } else { first.clone() });
    } else if let Some(backup) = &report.backup {
        parts.push(format!("backup {}", backup.id));
    }
    parts.push(format!("{passed} of {all} checks passed"));
    parts.extend(report.rto_s.map(|seconds| format!("RTO {}", Seconds(seconds))));
    parts.extend(report.rpo_s.map(|seconds| format!("RPO {}", Seconds(seconds))));
    let line = parts.join("; ");
    report.summary = in_one_line(&line);
}

/// Whatever an error said.
fn in_one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
