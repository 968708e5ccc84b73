//! Goes on with a recovery that was interrupted, at whatever moment.

use crate::error::{Error, Result};
use crate::event::{EventBuffer, Recovery, RecoveryState, Strategy, What};
use crate::plan::retarget::Otherwise;
use crate::plan::{Approach, Plan, StepId};
use crate::source::Cancel;

use super::host::lock::{self, Holder};
use super::mark::Mark;
use super::record::{Recorder, Recoveries, Watch};
use super::remains::settle;
use super::run::{Engine, finished, owner_of};
use super::server::{Sql, running};
use super::steps::directory::taken_by_others;
use super::steps::promote::{Outcome, outcome};
use super::steps::{configure, snapshot, stop};
use super::way::{Place, Way, World, missed};

/// Where a recovery stands that nobody works on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// A Walback works on it: this one, where it says so.
    Held(Option<Holder>),
    /// It was interrupted, and can be gone on with; what was found, in words.
    Interrupted(String),
    /// It is where it was to come to, or goes on by itself.
    AtRest,
}

/// Where a recovery stands: by its journal, its directory and its processes. Changes nothing.
///
/// # Errors
/// When its journal cannot be read.
pub fn standing(recoveries: &Recoveries, id: &str) -> Result<Standing> {
    if let Some(holder) = lock::holder(&recoveries.journal(id)) {
        return Ok(Standing::Held(holder));
    }
    let journal = recoveries.load(id)?;
    let Some(plan) = &journal.plan else { return Ok(Standing::AtRest) };
    let world = World::of(plan, running(&plan.directory));
    let way = Way::of(&journal, &world);
    // Stopped by the operator is not interrupted, and what a server does by itself needs nobody.
    let by_choice = journal.state == Some(RecoveryState::ShutDown) && way == Way::Start;
    Ok(match way {
        Way::AtRest | Way::Follow => Standing::AtRest,
        _ if by_choice => Standing::AtRest,
        way => Standing::Interrupted(way.in_words(&journal, &world)),
    })
}

impl Engine {
    /// Goes on with a recovery that was interrupted, by what its journal says and by what there is: its directory, its
    /// server, their files. One that failed is tried again, one that was stopped is started again, and one that stands
    /// where it was to come to is left alone.
    ///
    /// # Errors
    /// When it cannot go on from there, or a step fails.
    pub fn resume(&self, id: &str, watch: Watch<'_>, cancel: &Cancel) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        let journal = recorder.buffer();
        let world = World::of(&plan, settle_unless_promoting(&journal, &plan)?);
        let way = match Way::of(&journal, &world) {
            Way::AtRest if is_on_its_way(&journal, &plan)? => Way::Follow,
            way => way,
        };
        if way == Way::AtRest {
            return finished(&recorder);
        }
        recorder.emit(What::Resumed { found: way.in_words(&journal, &world) })?;
        match way {
            Way::AtRest => {}
            Way::Discard => self.remove_what_was_made(&plan, &recorder)?,
            Way::Stop => {
                Mark::check(&plan.directory, id)?;
                recorder.step(StepId::Stop, || stop::stop(&self.host, &plan.directory).map(|()| None))?;
                recorder.state(RecoveryState::ShutDown)?;
            }
            Way::Item | Way::Promotion if world.place == Place::Foreign => {
                Mark::check(&plan.directory, id).map(drop)?
            }
            Way::Item => self.go_on_with_item(&plan, &recorder, cancel)?,
            Way::Promotion => self.go_on_with_promotion(&plan, &recorder, cancel)?,
            Way::Unpack => self.unpack_anew(&plan, &recorder, &world, cancel)?,
            Way::Start => self.start_again(&plan, &recorder, &world, cancel)?,
            Way::Follow => {
                recorder.state(RecoveryState::Replaying)?;
                self.replay(&plan, &owner_of(&plan)?, &recorder, cancel, None)?;
            }
        }
        finished(&recorder)
    }

    fn unpack_anew(&self, plan: &Plan, recorder: &Recorder<'_>, world: &World, cancel: &Cancel) -> Result<()> {
        let journal = recorder.buffer();
        if journal.makes_way() {
            self.make_way(plan, recorder)?;
            self.unpack(plan, recorder, cancel)?;
            return self.configure_and_replay(plan, recorder, cancel);
        }
        // What an unpacking has left is gone on with; what is of before it was to be removed first.
        let failed_at = journal.failure.as_ref().and_then(|failure| failure.step);
        let is_unpacking = |step: Option<StepId>| matches!(step, Some(StepId::Unpack | StepId::Combine));
        // Between the two steps, neither runs.
        let between = plan.chain.is_some() && journal.phases.last().is_some_and(|phase| phase.step == StepId::Unpack);
        let begun = is_unpacking(journal.running) || is_unpacking(failed_at) || between;
        match world.place {
            Place::Foreign => return Err(taken_by_others(plan)),
            Place::Marked if begun => self.unpack(plan, recorder, cancel)?,
            Place::Marked => self.make_data(plan, self.anew(plan), recorder, cancel)?,
            Place::Absent | Place::Bare => self.unpack(plan, recorder, cancel)?,
        }
        self.configure_and_replay(plan, recorder, cancel)
    }

    /// The data is there: a server that is started in it replays from its last restartpoint on, and comes to the same
    /// stop.
    fn start_again(&self, plan: &Plan, recorder: &Recorder<'_>, world: &World, cancel: &Cancel) -> Result<()> {
        if world.place == Place::Absent {
            return Err(Error::failed(
                "directory-gone",
                format!("the directory of {} is not there: {}", plan.recovery, plan.directory.display()),
            )
            .hint(format!(
                "is its file system mounted? Where it was removed, “walback discard {}” forgets the recovery",
                plan.recovery
            )));
        }
        Mark::check(&plan.directory, &plan.recovery)?;
        let journal = recorder.buffer();
        if world.server.is_some() {
            recorder.step(StepId::Stop, || stop::stop_at_once(&self.host, &plan.directory).map(|()| None))?;
        }
        if !journal.configured && !snapshot::is_there(plan) {
            // Nothing was started in it: the copy that was to be kept can still be made.
            let owner = owner_of(plan)?;
            snapshot::prepare(&self.host, plan, &owner, recorder)?;
            self.keep_pristine(plan, &owner, recorder, cancel)?;
        }
        if journal.strategy == Some(Strategy::InPlace) && !journal.settled {
            return self.go_as_it_allows(plan, &journal, &self.announced(plan), recorder, cancel);
        }
        if let Some(why) = missed(plan, &World::of(plan, None)) {
            return Err(Error::failed(
                "stop-passed",
                format!("the server of {} would not stop at the target again", plan.recovery),
            )
            .because(why)
            .hint(format!("“walback retarget {}” to the same target unpacks the base backup again", plan.recovery)));
        }
        self.configure_and_replay(plan, recorder, cancel)
    }

    /// What was announced of a retarget in place: that it may have to be made anew.
    fn announced(&self, plan: &Plan) -> Approach {
        let estimate = plan.estimate.clone();
        let otherwise = Otherwise { strategy: self.anew(plan), estimate: estimate.clone() };
        Approach { strategy: Strategy::InPlace, why: String::new(), estimate, otherwise: Some(otherwise) }
    }

    fn go_on_with_promotion(&self, plan: &Plan, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        self.take_up_promotion(plan, recorder, cancel)?;
        let paused = recorder.buffer().state == Some(RecoveryState::Paused);
        if paused && running(&plan.directory).is_none() {
            return self.start_again(plan, recorder, &World::of(plan, None), cancel);
        }
        Ok(())
    }

    /// What became of a promotion that nobody saw the end of: it is over, or it never began.
    pub(super) fn take_up_promotion(&self, plan: &Plan, recorder: &Recorder<'_>, cancel: &Cancel) -> Result<()> {
        match outcome(plan, cancel)? {
            Some(Outcome::Promoted(timeline)) => {
                configure::forget_recovery(&self.host, &plan.directory, &owner_of(plan)?)?;
                recorder.emit(What::Promoted { timeline })?;
                let runs = running(&plan.directory).is_some();
                recorder.state(if runs { RecoveryState::Promoted } else { RecoveryState::ShutDown })?;
                self.forget_pristine(plan, recorder)
            }
            Some(Outcome::Recovers) => recorder.state(RecoveryState::Paused),
            None => Ok(()),
        }
    }
}

/// A promotion has a `pg_ctl` at work for as long as it takes, and is asked about in its own way.
fn settle_unless_promoting(journal: &EventBuffer, plan: &Plan) -> Result<Option<u32>> {
    match journal.state {
        Some(RecoveryState::Promoting) => Ok(running(&plan.directory)),
        _ => settle(&plan.directory),
    }
}

/// Whether the server of a recovery that was paused replays: somebody has started it again by hand.
fn is_on_its_way(journal: &EventBuffer, plan: &Plan) -> Result<bool> {
    if journal.state != Some(RecoveryState::Paused) || running(&plan.directory).is_none() {
        return Ok(false);
    }
    let status = Sql::new(&plan.server)?.replay_status();
    Ok(status.is_ok_and(|status| status.in_recovery && !status.paused))
}
