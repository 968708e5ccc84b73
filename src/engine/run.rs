//! Carries plans out, and what may follow: each act announced in the journal before it is done.

use std::path::{Path, PathBuf};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{EventBuffer, Recovery, RecoveryState, Strategy, What};
use crate::pgdata::server_log::LogLine;
use crate::plan::{Approach, Finding, Plan, StepId};
use crate::source::Cancel;

use super::facts::server_account;
use super::host::{Account, Host};
use super::mark::{self, Mark};
use super::record::{Recorder, Recoveries, Watch};
use super::server::{LogTail, running};
use super::steps::{
    combine, configure, directory, discard, fetching, make_way, promote, replay, snapshot, start, stop, unpack,
};
use super::strategy::settled;
use super::way::Place;

/// Carries out plans on this machine.
#[derive(Debug, Clone)]
pub struct Engine {
    pub(super) host: Host,
    recoveries: Recoveries,
    cache: Option<PathBuf>,
}

impl Engine {
    /// # Errors
    /// With `--read-only`.
    pub fn new(config: &Config) -> Result<Engine> {
        Ok(Engine {
            host: Host::new(config.read_only)?,
            recoveries: Recoveries::below(&config.state_directory),
            cache: config.cache_directory.clone(),
        })
    }

    /// Where what is read of WAL is kept for the next time.
    #[must_use]
    pub fn cache(&self) -> Option<&Path> {
        self.cache.as_deref()
    }

    /// The recoveries that this machine knows.
    #[must_use]
    pub fn recoveries(&self) -> &Recoveries {
        &self.recoveries
    }

    /// Carries a plan out until the server is paused, promoted or shut down at the target.
    ///
    /// # Errors
    /// When a finding forbids it, when the plan is not the one whose hash this is, or when a step fails. What an
    /// unpacking that failed has left is removed again.
    pub fn begin(&self, plan: &Plan, hash: &str, watch: Watch<'_>, cancel: &Cancel) -> Result<Recovery> {
        check_plan(plan, hash)?;
        if self.recoveries.has(&plan.recovery) {
            return Err(Error::failed(
                "recovery-exists",
                format!("there is a recovery of this name already: {}", plan.recovery),
            )
            .hint("make the plan again; it will get another name"));
        }
        let recorder = Recorder::open(&self.host, &self.recoveries, &plan.recovery, watch)?;
        if recorder.buffer().plan.is_some() {
            return Err(Error::failed(
                "recovery-exists",
                format!("a recovery of this name was begun just now: {}", plan.recovery),
            )
            .hint("make the plan again; it will get another name"));
        }
        recorder.emit(What::Planned { plan: Box::new(plan.clone()), hash: hash.to_owned(), strategy: None })?;
        self.make_way(plan, &recorder)?;
        self.unpack(plan, &recorder, cancel)?;
        self.configure_and_replay(plan, &recorder, cancel)?;
        finished(&recorder)
    }

    /// Renames the data directory that is in the way, where the plan says so and it was not done yet. Where it is another
    /// recovery's, nobody works on that one meanwhile.
    pub(super) fn make_way(&self, plan: &Plan, recorder: &Recorder<'_>) -> Result<()> {
        if plan.make_way.is_none() || recorder.buffer().made_way {
            return Ok(());
        }
        recorder.step(StepId::MakeWay, || {
            let others = mark::named_by(&plan.directory).filter(|id| *id != plan.recovery && self.recoveries.has(id));
            let _held = others.map(|id| Recorder::open(&self.host, &self.recoveries, &id, &|_| {})).transpose()?;
            make_way::make_way(&self.host, plan).map(|()| None)
        })
    }

    /// How a copy is made anew that cannot go on as it is.
    pub(super) fn anew(&self, plan: &Plan) -> Strategy {
        if snapshot::is_there(plan) { Strategy::Snapshot } else { Strategy::Unpack }
    }

    /// Takes a recovery to another target, in the announced way; where that is in place and the stopped copy turns out
    /// not to allow it, in the other way that was announced with it.
    ///
    /// # Errors
    /// When it was promoted or discarded, when a finding forbids it, or when a step fails.
    pub fn retarget(
        &self,
        plan: &Plan,
        hash: &str,
        announced: &Approach,
        watch: Watch<'_>,
        cancel: &Cancel,
    ) -> Result<Recovery> {
        check_plan(plan, hash)?;
        let (recorder, _) = self.open(&plan.recovery, watch)?;
        let before = recorder.buffer();
        refuse_after_promotion(&before, &plan.recovery)?;
        Mark::check(&plan.directory, &plan.recovery)?;
        let strategy = Some(announced.strategy);
        recorder.emit(What::Planned { plan: Box::new(plan.clone()), hash: hash.to_owned(), strategy })?;
        recorder.step(StepId::Stop, || stop::stop_at_once(&self.host, &plan.directory).map(|()| None))?;
        self.go_as_it_allows(plan, &before, announced, &recorder, cancel)?;
        finished(&recorder)
    }

    /// Goes to the target of a retarget whose server is stopped: in place where the copy still allows that.
    pub(super) fn go_as_it_allows(
        &self,
        plan: &Plan,
        before: &EventBuffer,
        announced: &Approach,
        recorder: &Recorder<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        let settled = settled(self, before, plan, announced, cancel).inspect_err(|error| {
            // The journal says it, or cannot be written; the error itself is told in any case.
            let _ = recorder.failed(None, error);
        })?;
        let Approach { strategy, why, estimate, .. } = settled;
        recorder.emit(What::Approach { strategy, why, estimate: estimate.clone() })?;
        let plan = &Plan { estimate, ..plan.clone() };
        self.make_data(plan, strategy, recorder, cancel)?;
        self.configure_and_replay(plan, recorder, cancel)
    }

    /// Makes the data directory what it was before its first start, where it is not to be gone on with as it is.
    pub(super) fn make_data(
        &self,
        plan: &Plan,
        strategy: Strategy,
        recorder: &Recorder<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        if strategy.empties_directory() {
            recorder.step(StepId::Discard, || discard::clear_for_unpacking(&self.host, plan).map(|()| None))?;
        }
        match strategy {
            Strategy::InPlace => Ok(()),
            Strategy::Snapshot => {
                let owner = owner_of(plan)?;
                recorder
                    .step(StepId::Snapshot, || snapshot::go_back(&self.host, plan, &owner, recorder, cancel).map(Some))
            }
            Strategy::Unpack => self.unpack(plan, recorder, cancel),
        }
    }

    /// A known recovery and its plan, as it stands now: somebody may have promoted its server without Walback.
    pub(super) fn open<'a>(&'a self, id: &str, watch: Watch<'a>) -> Result<(Recorder<'a>, Plan)> {
        let recorder = Recorder::open(&self.host, &self.recoveries, id, watch)?;
        let plan = plan_of(&recorder, id)?;
        let buffer = recorder.buffer();
        refuse_newer(&buffer, id)?;
        use RecoveryState::{Failed, Paused, Planned, ShutDown, Unpacking};
        let waits = matches!(buffer.state, Some(Planned | Unpacking | Paused | ShutDown | Failed))
            && buffer.promoted_to.is_none()
            && buffer.configured;
        // What lies at its place may be another recovery's, for which this one's was renamed.
        if waits && Place::of(&plan) == Place::Marked && promote::was_promoted(&plan.directory) {
            recorder.emit(What::Finding(
                Finding::warning("promoted-elsewhere", format!("the server of {id} was promoted, and not by Walback"))
                    .hint("what was written to it since is kept; there is no way back to another target"),
            ))?;
            recorder.emit(What::Promoted { timeline: promote::timeline_of(&plan)? })?;
            configure::forget_recovery(&self.host, &plan.directory, &owner_of(&plan)?)?;
            let state = running(&plan.directory).map_or(RecoveryState::ShutDown, |_| RecoveryState::Promoted);
            recorder.state(state)?;
        }
        Ok((recorder, plan))
    }

    /// Looks once at a recovery that nobody follows, and records what has happened to it since.
    ///
    /// # Errors
    /// When its journal cannot be read or written. That another Walback follows it, or that it failed, is no error.
    pub fn refresh(&self, id: &str, watch: Watch<'_>) -> Result<()> {
        let once = Cancel::default();
        once.cancel();
        match self.follow(id, watch, &once) {
            Err(error)
                if matches!(error.report().code, "journal-unreadable" | "journal-broken" | "journal-unwritable") =>
            {
                Err(error)
            }
            _ => Ok(()),
        }
    }

    /// Follows a recovery whose server replays, until it stops.
    ///
    /// # Errors
    /// When it is not replaying, or replay fails.
    pub fn follow(&self, id: &str, watch: Watch<'_>, cancel: &Cancel) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        if Place::of(&plan) == Place::Foreign {
            Mark::check(&plan.directory, id)?;
        }
        match recorder.buffer().state {
            Some(RecoveryState::Replaying) => self.replay(&plan, &owner_of(&plan)?, &recorder, cancel, None)?,
            // Its walback went down just after it had started the server.
            Some(RecoveryState::Configured) if running(&plan.directory).is_some() => {
                recorder.state(RecoveryState::Replaying)?;
                self.replay(&plan, &owner_of(&plan)?, &recorder, cancel, None)?;
            }
            // … or while it promoted.
            Some(RecoveryState::Promoting) => self.take_up_promotion(&plan, &recorder, cancel)?,
            _ => {}
        }
        finished(&recorder)
    }

    /// Ends recovery: the server takes writes on a new timeline.
    ///
    /// # Errors
    /// When it is not paused at the target, or promotion fails.
    pub fn promote(&self, id: &str, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        let state = recorder.buffer().state;
        if state != Some(RecoveryState::Paused) {
            let state = state.map_or("unknown", RecoveryState::word);
            return Err(Error::failed(
                "not-paused",
                format!("the recovery {id} is not paused at its target: it is {state}"),
            )
            .hint("only a paused recovery can be promoted"));
        }
        Mark::check(&plan.directory, id)?;
        let owner = owner_of(&plan)?;
        promote::check(&plan)?;
        recorder.state(RecoveryState::Promoting)?;
        let mut timeline = None;
        recorder.step(StepId::Promote, || {
            timeline = Some(promote::promote(&self.host, &plan, &owner, &recorder)?);
            Ok(None)
        })?;
        if let Some(timeline) = timeline {
            recorder.emit(What::Promoted { timeline })?;
        }
        recorder.state(RecoveryState::Promoted)?;
        self.forget_pristine(&plan, &recorder)?;
        finished(&recorder)
    }

    /// After promotion there is no way back, and the copy that was kept for one is of no use.
    pub(super) fn forget_pristine(&self, plan: &Plan, recorder: &Recorder<'_>) -> Result<()> {
        let Err(error) = snapshot::forget(&self.host, plan) else { return Ok(()) };
        let report = error.report();
        let finding = Finding::warning("pristine-left", format!("the kept copy is left: {}", report.message));
        recorder.emit(What::Finding(finding.hint(format!("remove {} by hand", plan.pristine_directory().display()))))
    }

    /// Stops the server, and leaves everything else.
    ///
    /// # Errors
    /// When it does not stop.
    pub fn stop(&self, id: &str, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        if recorder.buffer().state == Some(RecoveryState::Discarded) {
            return Err(Error::failed(
                "discarded",
                format!("the recovery {id} was discarded; there is no server to stop"),
            ));
        }
        Mark::check(&plan.directory, id)?;
        let failed = recorder.buffer().state == Some(RecoveryState::Failed);
        // Whoever is promoted writes what it has; whoever is not keeps the way back open.
        let buffer = recorder.buffer();
        let promoted = buffer.promoted_to.is_some()
            || buffer.state == Some(RecoveryState::Promoting)
            || promote::was_promoted(&plan.directory);
        let how = if promoted { stop::stop } else { stop::stop_at_once };
        recorder.step(StepId::Stop, || how(&self.host, &plan.directory).map(|()| None))?;
        if !failed {
            recorder.state(RecoveryState::ShutDown)?;
        }
        finished(&recorder)
    }

    /// Stops the server, and removes what the recovery made.
    ///
    /// # Errors
    /// When the directory does not carry the recovery's mark, or cannot be removed.
    pub fn discard(&self, id: &str, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        self.remove_what_was_made(&plan, &recorder)?;
        finished(&recorder)
    }

    /// Removes what carries the mark, or what was about to get it; also what an earlier removal has left.
    pub(super) fn remove_what_was_made(&self, plan: &Plan, recorder: &Recorder<'_>) -> Result<()> {
        let (id, directory) = (&plan.recovery, &plan.directory);
        let buffer = recorder.buffer();
        // Stopped by Walback and started again by hand, it is in use all the same.
        if buffer.promoted_to.is_some() && Mark::check(directory, id).is_ok() && running(directory).is_some() {
            return Err(Error::failed(
                "in-use",
                format!("the recovery {id} was promoted, its server runs, and may be in use"),
            )
            .hint(format!(
                "if it has to go, stop it first: “walback stop {id}”; what was written to it is then lost"
            )));
        }
        if buffer.configured && !directory.exists() {
            recorder.emit(What::Finding(
                Finding::warning("directory-gone", format!("there is no directory any more: {}", directory.display()))
                    .hint("nothing was removed; if its file system is only not mounted, its data is still there"),
            ))?;
        }
        // What could not even be begun, in a directory that was taken meanwhile, has made nothing; nor did what never came
        // further than to rename what was there.
        let renamed_only = plan.make_way.is_some() && buffer.made_directory.is_none();
        let could_not =
            renamed_only || buffer.failure.as_ref().is_some_and(|failure| failure.step == Some(StepId::Unpack));
        let nothing_made = (could_not || !buffer.has_begun()) && Mark::check(directory, id).is_err();
        if let Some(other) = self.displaced_by(plan).filter(|_| !nothing_made) {
            recorder.emit(What::Finding(displaced(plan, &other)))?;
            self.forget_pristine(plan, recorder)?;
        } else if mark::is_bare(directory) {
            if !nothing_made || buffer.made_directory.is_some() {
                recorder.emit(What::Discarding)?;
                let made = buffer.made_directory == Some(true);
                recorder.step(StepId::Discard, || directory::remove_bare(&self.host, plan, made).map(|()| None))?;
            }
        } else if discard::is_there(plan) && !nothing_made {
            // A refusal is not a failure of the recovery: it stays what it is.
            Mark::check(directory, id)?;
            recorder.emit(What::Discarding)?;
            recorder.step(StepId::Discard, || discard::discard(&self.host, plan).map(|()| None))?;
        }
        directory::remove_further(&self.host, recorder)?;
        if let Some((said, back)) = plan.former_in_words().filter(|_| buffer.making_way) {
            let done = plan.make_way.as_ref().is_some_and(make_way::is_done);
            let finding = Finding::note("former-directory", said).hint(back);
            done.then(|| recorder.emit(What::Finding(finding))).transpose()?;
        }
        recorder.state(RecoveryState::Discarded)
    }

    /// The recovery that has this one's directory since: what this one had made was renamed for it, or moved away.
    fn displaced_by(&self, plan: &Plan) -> Option<String> {
        // A mark of a recovery that nobody knows says nothing.
        let is_another = |other: &String| *other != plan.recovery && self.recoveries.has(other);
        let other = mark::named_by(&plan.directory).filter(is_another)?;
        Mark::check(&plan.directory, &other).is_ok().then_some(other)
    }

    pub(super) fn unpack(&self, plan: &Plan, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        let owner = account_of(plan)?;
        recorder.state(RecoveryState::Unpacking)?;
        let unpacked = recorder.step(StepId::Unpack, || {
            directory::take(&self.host, plan, &owner, recorder)?;
            snapshot::prepare(&self.host, plan, &owner, recorder)?;
            unpack::unpack(&self.host, plan, &owner, recorder, cancel).map(Some)
        });
        let unpacked = unpacked.and_then(|()| self.combine(plan, &owner, recorder, cancel));
        let unpacked = unpacked.and_then(|()| self.keep_pristine(plan, &owner, recorder, cancel));
        unpacked.map_err(|error| self.remove_half_a_backup(plan, recorder, error))
    }

    /// Makes the data of what was unpacked, where that is a chain.
    fn combine(&self, plan: &Plan, owner: &Account, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        if plan.chain.is_none() {
            return Ok(());
        }
        recorder.step(StepId::Combine, || combine::combine(&self.host, plan, owner, recorder, cancel).map(Some))
    }

    /// Keeps a copy of what was unpacked, where the plan wants one.
    pub(super) fn keep_pristine(
        &self,
        plan: &Plan,
        owner: &Account,
        recorder: &Recorder<'_>,
        cancel: &Cancel,
    ) -> Result<()> {
        if plan.pristine.is_none() {
            return Ok(());
        }
        recorder.step(StepId::Snapshot, || snapshot::keep(&self.host, plan, owner, recorder, cancel).map(Some))
    }

    /// Half a backup is of no use to anybody, and it may fill the disk. Gives the error, with what became of that.
    fn remove_half_a_backup(&self, plan: &Plan, recorder: &Recorder<'_>, error: Error) -> Error {
        let told = if Mark::check(&plan.directory, &plan.recovery).is_err() {
            if recorder.buffer().made_directory == Some(true) {
                // Not even the mark could be put: nothing is in it.
                let _ = directory::remove_bare(&self.host, plan, true);
            }
            error
        } else {
            match discard::discard(&self.host, plan).and_then(|()| directory::remove_further(&self.host, recorder)) {
                Ok(()) => error.because("what was unpacked so far was removed again".to_owned()),
                Err(left) => {
                    error.because(format!("what was unpacked so far could not be removed: {}", left.report().message))
                }
            }
        };
        let told = match plan.former_in_words() {
            Some((said, back)) if recorder.buffer().making_way => told.because(format!("{said}; {back}")),
            _ => told,
        };
        if recorder.buffer().failure.is_none() {
            // There was no room for it in the journal; there may be now.
            let _ = recorder.failed(Some(StepId::Unpack), &told);
        }
        told
    }

    pub(super) fn configure_and_replay(&self, plan: &Plan, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        let owner = owner_of(plan)?;
        recorder.step(StepId::Configure, || configure::configure(&self.host, plan, &owner).map(|()| None))?;
        recorder.state(RecoveryState::Configured)?;
        let mut log_position = 0;
        recorder.step(StepId::Start, || {
            log_position = start::start(&self.host, plan, &owner, recorder)?;
            Ok(None)
        })?;
        recorder.state(RecoveryState::Replaying)?;
        self.replay(plan, &owner, recorder, cancel, Some(log_position))?;
        match recorder.buffer().state {
            Some(RecoveryState::Promoted) => self.forget_pristine(plan, recorder),
            _ => Ok(()),
        }
    }

    pub(super) fn replay(
        &self,
        plan: &Plan,
        owner: &Account,
        recorder: &Recorder<'_>,
        cancel: &Cancel,
        log_position: Option<u64>,
    ) -> Result<()> {
        // Where the server was started by another walback, its log is read from the last start on.
        let position =
            log_position.unwrap_or_else(|| last_start(plan, running(&plan.directory).or(recorder.buffer().server_pid)));
        if recorder.buffer().running != Some(StepId::Replay) {
            recorder.emit(What::StepStarted { step: StepId::Replay })?;
        }
        let started = std::time::Instant::now();
        let followed = replay::follow(&self.host, plan, owner, recorder, cancel, position);
        if !matches!(&followed, Err(error) if error.report().kind == ErrorKind::Interrupted) {
            // What is left there of it is of no use, and does no harm either.
            let _ = fetching::clear(&self.host.acting_as(owner), &plan.directory);
        }
        match followed {
            Ok(bytes) => recorder.emit(What::StepFinished {
                step: StepId::Replay,
                seconds: started.elapsed().as_secs_f64(),
                bytes: Some(bytes),
            }),
            // Nobody looks on any more; the recovery itself goes on.
            Err(error) if error.report().kind == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                if error.report().code == replay::TARGET_IGNORED {
                    stop::stop(&self.host, &plan.directory)?;
                }
                recorder.failed(Some(StepId::Replay), &error)?;
                Err(error)
            }
        }
    }
}

/// The plan that runs is the plan that was shown.
/// Says that nothing is removed there, and what else there is.
fn displaced(plan: &Plan, other: &str) -> Finding {
    let (id, directory) = (&plan.recovery, plan.directory.display());
    let roots = plan.tablespaces.iter().filter(|tablespace| Mark::check(&tablespace.root, id).is_ok());
    let roots: Vec<String> = roots.map(|tablespace| tablespace.root.display().to_string()).collect();
    let tablespaces = match roots.is_empty() {
        true => String::new(),
        false => format!("; its tablespaces are there still, for that: {}", roots.join(", ")),
    };
    Finding::warning("directory-gone", format!("{directory} is the recovery {other}'s now"))
        .hint(format!("nothing of it was removed; what {id} made was renamed, or moved away{tablespaces}"))
}

fn check_plan(plan: &Plan, hash: &str) -> Result<()> {
    let now = plan.hash()?;
    if now != hash {
        return Err(Error::failed("plan-changed", "this is not the plan that was shown").hint("make the plan again"));
    }
    if plan.is_forbidden() {
        let errors = plan.findings.iter().filter(|finding| finding.severity == crate::plan::Severity::Error);
        let error = Error::new(ErrorKind::Problems, "plan-forbidden", "the plan has findings that forbid it");
        let hint = plan.findings.first().and_then(|finding| finding.hint.clone());
        let error = errors.fold(error, |error, finding| error.because(finding.message.clone()));
        return Err(match hint {
            Some(hint) => error.hint(hint),
            None => error,
        });
    }
    Ok(())
}

/// Whoever does not know what was done must not go on with it.
fn refuse_newer(buffer: &EventBuffer, id: &str) -> Result<()> {
    if !buffer.newer {
        return Ok(());
    }
    Err(Error::failed("journal-newer", format!("a newer Walback has worked on the recovery {id}"))
        .because("its journal has events that this one does not know".to_owned())
        .hint("use that one; this one can only show the recovery"))
}

fn refuse_after_promotion(buffer: &EventBuffer, id: &str) -> Result<()> {
    let state = match buffer.state {
        Some(state @ (RecoveryState::Promoting | RecoveryState::Discarded)) => state,
        // Whatever became of its server since.
        _ if buffer.promoted_to.is_some() => RecoveryState::Promoted,
        _ => return Ok(()),
    };
    Err(Error::failed("no-way-back", format!("the recovery {id} is {}: it has no other target any more", state.word()))
        .hint("“walback restore” makes another recovery, into another directory"))
}

fn plan_of(recorder: &Recorder<'_>, id: &str) -> Result<Plan> {
    recorder.buffer().plan.ok_or_else(|| {
        Error::failed("journal-empty", format!("the journal of {id} has no plan: nothing was done yet"))
            .hint("“walback restore” makes another recovery")
    })
}

pub(super) fn finished(recorder: &Recorder<'_>) -> Result<Recovery> {
    recorder.buffer().recovery().ok_or_else(|| Error::failed("journal-empty", "the journal has no plan"))
}

/// The user that the plan names.
pub(super) fn account_of(plan: &Plan) -> Result<Account> {
    server_account(Some(&plan.server.run_as)).map_err(|why| {
        Error::failed("no-server-user", why).hint("PostgreSQL never runs as root: name a user with --run-as")
    })
}

/// The user that owns the data directory: the server is started as nobody else.
pub(super) fn owner_of(plan: &Plan) -> Result<Account> {
    let owner = super::host::owner_of(&plan.directory);
    let owner = owner.and_then(|owner| server_account(Some(&owner.name)));
    owner.map_err(|why| {
        Error::failed("no-server-user", why).hint("the data directory has to belong to the server's user")
    })
}

/// Where in the log the last start of this server begins; its end, where the server has not said anything yet: what stands
/// there is of the one before.
fn last_start(plan: &Plan, server: Option<u32>) -> u64 {
    let mut log = LogTail::new(&plan.server.log, 0);
    let (mut position, mut start) = (0_u64, None);
    loop {
        let bytes = log.bytes();
        if bytes.is_empty() {
            return start.unwrap_or(position);
        }
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            if begins_anew(&String::from_utf8_lossy(line), server) {
                start = Some(position);
            }
            position += line.len() as u64;
        }
    }
}

/// Whether what was said before this line of a log is of no account any more: the server starts, or starts over after one
/// of its processes was killed.
fn begins_anew(line: &str, server: Option<u32>) -> bool {
    let line = LogLine::parse(line);
    let begins =
        line.text.starts_with("starting PostgreSQL ") || line.text == "all server processes terminated; reinitializing";
    begins && (server.is_none() || line.pid == server)
}

/// Whether the recovery's server runs now, whatever the journal says.
#[must_use]
pub fn server_runs(plan: &Plan) -> bool {
    running(&plan.directory).is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Target, TargetKind, Xid};
    use crate::plan::example;

    fn code<T: std::fmt::Debug>(result: Result<T>) -> &'static str {
        result.unwrap_err().report().code
    }

    #[test]
    fn only_the_plan_that_was_shown_runs() {
        let shown = example();
        let hash = shown.hash().unwrap();
        assert_eq!(check_plan(&shown, &hash), Ok(()));
        let other = Plan { target: Target::new(TargetKind::Xid(Xid(736))), ..shown.clone() };
        assert_eq!(code(check_plan(&other, &hash)), "plan-changed");
        let forbidden = Plan { findings: vec![Finding::error("x", "no").hint("do y")], ..shown };
        let error = check_plan(&forbidden, &forbidden.hash().unwrap()).unwrap_err();
        assert_eq!((error.report().code, error.report().hint.as_deref()), ("plan-forbidden", Some("do y")));
    }

    /// A server that was just started has said nothing; the pause in its log is of the one before.
    #[test]
    fn what_another_server_said_is_not_this_ones() {
        let directory = tempfile::tempdir().unwrap();
        let mut plan = example();
        plan.server.log = directory.path().join("server.log");
        let line = |pid: u32, text: &str| format!("2026-11-20 20:24:42.273 UTC [{pid}] startup 00000: LOG:  {text}\n");
        let first = line(7, "starting PostgreSQL 15.18") + &line(9, "pausing at the end of recovery");
        std::fs::write(&plan.server.log, &first).unwrap();
        let end = first.len() as u64;
        assert_eq!((last_start(&plan, Some(7)), last_start(&plan, None)), (0, 0));
        assert_eq!(last_start(&plan, Some(8)), end, "it has said nothing yet");
        let anew = first.clone() + &line(7, "all server processes terminated; reinitializing");
        std::fs::write(&plan.server.log, anew).unwrap();
        assert_eq!(last_start(&plan, Some(7)), end);
    }

    #[test]
    fn nothing_that_changes_anything_can_be_had_with_read_only() {
        assert_eq!(Host::new(true).err().map(|error| error.report().code), Some("read-only"));
    }

    #[test]
    fn what_fails_was_announced_before_it_was_tried() {
        let directory = tempfile::tempdir().unwrap();
        let (host, recoveries) = (Host::new(false).unwrap(), Recoveries::below(directory.path()));
        let journal = || recoveries.events("x").unwrap().into_iter().map(|event| event.what).collect::<Vec<_>>();
        let recorder = Recorder::open(&host, &recoveries, "x", &|_| {}).unwrap();
        let mut before = Vec::new();
        let failed = recorder.step(StepId::Unpack, || {
            before = journal();
            Err(Error::failed("broken", "it broke"))
        });
        assert_eq!(failed.unwrap_err().report().code, "broken");
        assert_eq!(before, [What::StepStarted { step: StepId::Unpack }], "synced before the step began");
        assert!(matches!(journal().last(), Some(What::Failed(failure)) if failure.code == "broken"));
        assert_eq!(code(Recorder::open(&host, &recoveries, "x", &|_| {}).map(drop)), "recovery-busy");
    }
}
