//! What drills do with a recovery that nobody else does.

use crate::error::Result;
use crate::event::{Recovery, RecoveryState, What};
use crate::plan::StepId;

use super::mark::Mark;
use super::record::Watch;
use super::run::{Engine, finished};
use super::steps::stop;

impl Engine {
    /// Stops the server of a recovery so that everything it replayed is written: `pg_checksums` asks for that. The copy
    /// cannot go back any more.
    ///
    /// # Errors
    /// When it is not there, or does not stop.
    pub fn stop_cleanly(&self, id: &str, watch: Watch<'_>) -> Result<Recovery> {
        let (recorder, plan) = self.open(id, watch)?;
        Mark::check(&plan.directory, id)?;
        recorder.step(StepId::Stop, || stop::stop(&self.host, &plan.directory).map(|()| None))?;
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
        if Mark::check(&plan.directory, id).is_ok() {
            recorder.step(StepId::Stop, || stop::stop_at_once(&self.host, &plan.directory).map(|()| None))?;
        }
        self.remove_what_was_made(&plan, &recorder)?;
        finished(&recorder)
    }
}
