//! What drills do with a recovery that nobody else does.

use crate::error::Result;
use crate::event::{Recovery, RecoveryState, What};
use crate::plan::{Plan, StepId};
use crate::source::Cancel;

use super::mark::Mark;
use super::record::{Recorder, Watch};
use super::run::{Engine, finished};
use super::steps::{directory, discard, stop};

impl Engine {
    /// Stops the server of a recovery so that everything it replayed is written: `pg_checksums` asks for that. The copy
    /// cannot go back any more.
    ///
    /// # Errors
    /// When it is not there, does not stop, or it was cancelled.
    pub fn stop_cleanly(&self, id: &str, watch: Watch<'_>, cancel: &Cancel) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        Mark::check(&plan.directory, id)?;
        recorder.step(StepId::Stop, || stop::stop_written(&self.host, &plan.directory, cancel).map(|()| None))?;
        recorder.emit(What::State { state: RecoveryState::ShutDown })?;
        finished(&recorder)
    }

    /// Stops the server of a recovery, whatever it came to, and removes what the recovery made; nothing where it is
    /// discarded already.
    ///
    /// # Errors
    /// When another Walback works on it, when the directory does not carry its mark, or cannot be removed.
    pub fn tear_down(&self, id: &str, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        if recorder.buffer().state == Some(RecoveryState::Discarded) {
            return finished(&recorder);
        }
        match self.stop_and_remove(&plan, &recorder) {
            // The disk may be full of just what is to be removed.
            Err(error) if error.report().code == "journal-unwritable" => self.remove_unannounced(&plan, &recorder)?,
            removed => removed?,
        }
        finished(&recorder)
    }

    fn stop_and_remove(&self, plan: &Plan, recorder: &Recorder<'_>) -> Result<()> {
        if Mark::check(&plan.directory, &plan.recovery).is_ok() {
            recorder.step(StepId::Stop, || stop::stop_at_once(&self.host, &plan.directory).map(|()| None))?;
        }
        self.remove_what_was_made(plan, recorder)
    }

    /// That a drill's copy goes was said when it was begun: it is announced afterwards, where there was no room for that before.
    fn remove_unannounced(&self, plan: &Plan, recorder: &Recorder<'_>) -> Result<()> {
        Mark::check(&plan.directory, &plan.recovery)?;
        stop::stop_at_once(&self.host, &plan.directory)?;
        discard::discard(&self.host, plan)?;
        recorder.emit(What::Discarding)?;
        directory::remove_further(&self.host, recorder)?;
        recorder.state(RecoveryState::Discarded)
    }
}
