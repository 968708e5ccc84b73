//! Tells how far an unpacking has come: bytes of the backup that were read.

use std::time::{Duration, Instant};

use crate::core::progress::Pace;
use crate::error::Result;
use crate::event::{Progress, What};
use crate::plan::{Plan, StepId};

use super::super::super::record::Recorder;
use super::write::Work;

/// Progress is told about so often.
pub(super) const TELL_EVERY: Duration = Duration::from_millis(100);

pub(super) struct Meter<'a> {
    recorder: &'a Recorder<'a>,
    total: u64,
    /// Of the backups before this one, where it is one of a chain; and what an earlier run had unpacked of them.
    before: (u64, u64),
    pace: Pace,
    started: Instant,
}

impl<'a> Meter<'a> {
    pub(super) fn new(plan: &Plan, recorder: &'a Recorder<'a>) -> Meter<'a> {
        let total = plan.amounts().read;
        Meter { recorder, total, before: (0, 0), pace: Pace::default(), started: Instant::now() }
    }

    /// The next one of a chain follows.
    pub(super) fn next(&mut self, done: u64, skipped: u64) {
        self.before = (self.before.0 + done, self.before.1 + skipped);
    }

    /// # Errors
    /// When nobody can be told.
    pub(super) fn tell(&mut self, work: &Work<'_>) -> Result<()> {
        // What an earlier run had unpacked says nothing about how fast this one is.
        let (done, skipped) = (self.before.0 + work.count.bytes(), self.before.1 + work.skipped());
        self.pace.observe(self.started.elapsed().as_secs_f64(), done.saturating_sub(skipped));
        self.recorder.emit(What::Progress(Progress {
            step: StepId::Unpack,
            done: done.min(self.total),
            total: Some(self.total),
            unit: "bytes".into(),
            rate: self.pace.per_second(),
            eta_s: self.pace.eta_s(self.total.saturating_sub(skipped)),
            replayed_lsn: None,
            last_commit_at: None,
            doing: Some(work.doing()).filter(|doing| !doing.is_empty()),
            waits_for: None,
        }))
    }
}
