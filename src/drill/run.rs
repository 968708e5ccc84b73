//! Makes a drill: plans, restores, checks, measures, removes, reports.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::aim::{self, Aim, PassedOver, Which};
use super::checks::Checks;
use super::limit::Limit;
use super::measure::{self, AtRest};
use super::store::{DrillJournal, Drills, Sealed};
use super::verdict::{Ended, as_predicted, in_one_line, judge, summarize, told_of_drill};
use crate::catalog::Catalog;
use crate::catalog::suspect::MANY_ROWS;
use crate::config::{Config, RestoreConfig, SourceConfig};
use crate::core::progress::Bytes;
use crate::engine::host::{Host, now};
use crate::engine::{Engine, Preparation, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::event::drill::{DrillCheck, DrillPhase, DrillResult, DrilledBackup, PLANNING};
use crate::event::{DrillReport, Event, Recovery, RecoveryState};
use crate::plan::Plan;
use crate::plan::settings::REACHING_OUT;
use crate::source::{Cancel, Index, LocalSource, Source};

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

/// What came of asking the primary at the beginning.
#[derive(Debug, Default)]
struct AskedPrimary {
    /// How long that took: nobody asks a primary that is gone.
    asking: Duration,
    /// Where it stood, where no transaction was going on.
    at_rest: Option<AtRest>,
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

    /// Everything from the plan to the last check.
    fn make(&self, asked: &Asked, report: &mut DrillReport, journal: &mut DrillJournal, limit: &Limit) -> Result<()> {
        (self.listen)(&report.id, Heard::Doing(PLANNING));
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
        if checks.has_all_of(primary.at_rest, report) {
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
                return AskedPrimary { asking, at_rest: then.at_rest };
            }
            // Whoever set a limit is not to be told that it was kept.
            Err(why) if report.rpo_limit_s.is_some() => {
                report.failures.push(format!("the RPO cannot be told: {why}"));
            }
            Err(why) => report.notes.push(why),
        }
        AskedPrimary { asking, at_rest: None }
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
}

fn phase(name: &str, started: Instant) -> DrillPhase {
    let counts = matches!(name, measure::PLAN | measure::CHECKS);
    DrillPhase { name: name.to_owned(), seconds: started.elapsed().as_secs_f64(), bytes: None, counts }
}
