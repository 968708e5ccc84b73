//! How a recovery that was interrupted goes on: by its journal, and by what there is, since the journal says what was
//! about to be done and not how far that came.

use crate::core::Action;
use crate::event::{EventBuffer, RecoveryState};
use crate::pgdata::control_file::{ClusterState, ControlFile};
use crate::plan::{Plan, StepId};

use super::data_directory::control_file;
use super::mark::{Mark, is_bare};
use super::steps::promote::was_promoted;

/// What there is of a recovery, whatever its journal says.
#[derive(Debug, Clone, PartialEq)]
pub struct World {
    /// Its directory.
    pub place: Place,
    /// The server that runs there.
    pub server: Option<u32>,
    /// Whether recovery has ended in the data that is there.
    pub promoted: bool,
    /// `pg_control`, where it can be read.
    pub control: Option<ControlFile>,
    /// Whether replay has begun: the server takes the backup's label away then.
    pub begun: bool,
}

/// What a recovery's directory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Not there.
    Absent,
    /// Empty, or with half a mark in it.
    Bare,
    /// It carries the mark.
    Marked,
    /// It holds something, and no mark of this recovery.
    Foreign,
}

impl Place {
    /// Looks at it.
    #[must_use]
    pub fn of(plan: &Plan) -> Place {
        let directory = &plan.directory;
        match Mark::check(directory, &plan.recovery) {
            Ok(_) => Place::Marked,
            Err(_) if directory.symlink_metadata().is_err() => Place::Absent,
            Err(_) if is_bare(directory) => Place::Bare,
            Err(_) => Place::Foreign,
        }
    }
}

impl World {
    /// Looks at it; `server` is the process of the server that runs there.
    #[must_use]
    pub fn of(plan: &Plan, server: Option<u32>) -> World {
        let directory = &plan.directory;
        let place = Place::of(plan);
        if place == Place::Foreign {
            // What runs there, and what its files say, is somebody else's: another recovery's, for which this one's directory
            // was renamed.
            return World { place, server: None, promoted: false, control: None, begun: false };
        }
        World {
            place,
            server,
            promoted: was_promoted(directory),
            control: control_file(directory).ok(),
            begun: !directory.join("backup_label").exists(),
        }
    }

    fn in_words(&self) -> String {
        let place = match self.place {
            Place::Absent => "there is no directory",
            Place::Bare => "its directory is empty",
            Place::Marked => "its directory carries the mark",
            Place::Foreign => "its directory does not carry the mark",
        };
        let server = self.server.map_or("no server runs".to_owned(), |pid| format!("its server runs, process {pid}"));
        let control = self.control.as_ref().filter(|_| self.place == Place::Marked);
        let control = control.map(|control| format!(", and pg_control says “{}”", control.state)).unwrap_or_default();
        format!("{place}, {server}{control}")
    }
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// Not at all: it stands where it was to come to.
    AtRest,
    /// Removing what was made is brought to its end.
    Discard,
    /// The server is stopped.
    Stop,
    /// An item of the checklist, for which the server was being restarted, is brought to its end.
    Item,
    /// It is found out whether the promotion took place.
    Promotion,
    /// The base backup is unpacked, and everything behind that is done.
    Unpack,
    /// The settings are written, and the server is started.
    Start,
    /// The server runs, and is followed to where it stops.
    Follow,
}

impl Way {
    /// How a recovery goes on.
    #[must_use]
    pub fn of(journal: &EventBuffer, world: &World) -> Way {
        use RecoveryState::{Configured, Discarded, Paused, Planned, Promoting, Replaying, ShutDown};
        let Some(state) = journal.state else { return Way::Unpack };
        let failed_at = journal.failure.as_ref().and_then(|failure| failure.step);
        let promoting = state == Promoting || failed_at == Some(StepId::Promote);
        match state {
            Discarded => Way::AtRest,
            _ if journal.discarding => Way::Discard,
            _ if promoting => Way::Promotion,
            // A retarget stops the server too, and goes on.
            _ if journal.running == Some(StepId::Stop) && state != Planned => Way::Stop,
            _ if journal.promoted_to.is_some() && journal.restarting.is_some() => Way::Item,
            _ if journal.promoted_to.is_some() => Way::AtRest,
            _ if !journal.unpacked => Way::Unpack,
            Paused if world.server.is_some() => Way::AtRest,
            Replaying | Configured if world.server.is_some() => Way::Follow,
            // It ended recovery while nobody looked: its log says how.
            Replaying if world.promoted => Way::Follow,
            ShutDown if is_where_it_ends(journal) => Way::AtRest,
            _ => Way::Start,
        }
    }

    /// What was found, and what is done about it.
    #[must_use]
    pub fn in_words(self, journal: &EventBuffer, world: &World) -> String {
        let state = journal.state.map_or("planned", RecoveryState::word);
        let step = journal.running.map(|step| format!(", in the step {step}")).unwrap_or_default();
        let does = match self {
            Way::Start | Way::Promotion | Way::Item if world.place == Place::Foreign => "it cannot be gone on with",
            Way::AtRest => "nothing has to be done",
            Way::Discard => "the rest of it is removed",
            Way::Stop => "the server is stopped",
            Way::Item => "the item of the checklist that the server was being restarted for is brought to its end",
            Way::Promotion => "whether it was promoted is asked",
            Way::Unpack if journal.makes_way() => "what is there makes way, and the base backup is unpacked",
            Way::Unpack => "the base backup is unpacked",
            Way::Start => "the server is started, and recovers to the target",
            Way::Follow => "the server is followed",
        };
        format!("it was {state}{step}; {}: {does}", world.in_words())
    }
}

/// The server shut down at the target, as it was told to.
fn is_where_it_ends(journal: &EventBuffer) -> bool {
    let told = journal.plan.as_ref().map(|plan| plan.resolved.action(&plan.target));
    told == Some(Action::Shutdown) && journal.stopped.is_some()
}

/// Why a server that is started in this data would not stop where the plan says: it starts to replay at its last
/// restartpoint, and is consistent only as far on as it has been (`StartupXLOG`, `CheckRecoveryConsistency`). `None` where
/// it would.
#[must_use]
pub fn missed(plan: &Plan, world: &World) -> Option<String> {
    use ClusterState::{InArchiveRecovery, ShutDownInRecovery};
    let control = world.control.as_ref().filter(|_| world.begun)?;
    if !matches!(control.state, InArchiveRecovery | ShutDownInRecovery) {
        return None;
    }
    let (stop, end) = (plan.resolved.lsn, plan.resolved.replay_end);
    if let Some(least) = control.min_recovery_point.filter(|least| *least > end) {
        return Some(format!("the data is consistent from LSN {least} on only, and replay was to end at {end}"));
    }
    // A shutdown checkpoint that replay begins at is not replayed again, and not stopped at.
    let begins_behind = control.redo == control.checkpoint;
    let passed = control.redo > stop || control.redo == stop && begins_behind;
    (passed && end > stop)
        .then(|| format!("replay would begin at LSN {}, and the record to stop at is at {stop}", control.redo))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::time::Timestamp;
    use crate::event::{Event, Failure, Strategy, What};
    use crate::plan::{Chain, example};

    const NOTHING: World = World { place: Place::Marked, server: None, promoted: false, control: None, begun: true };
    const RUNS: World = World { server: Some(4711), ..NOTHING };

    fn fold(whats: &[What]) -> EventBuffer {
        let mut buffer = EventBuffer::default();
        for what in whats {
            buffer.fold(&Event { at: Timestamp::UNIX_EPOCH, recovery: "x".to_owned(), what: what.clone() });
        }
        buffer
    }

    fn planned(strategy: Option<Strategy>) -> What {
        What::Planned { plan: Box::new(example()), hash: "x".to_owned(), strategy }
    }

    fn state(state: RecoveryState) -> What {
        What::State { state }
    }

    fn begun(step: StepId) -> What {
        What::StepStarted { step }
    }

    fn done(step: StepId) -> [What; 2] {
        [begun(step), What::StepFinished { step, seconds: 0.0, bytes: None }]
    }

    fn failed(step: StepId) -> What {
        What::Failed(Failure { step: Some(step), code: "x".into(), message: String::new(), causes: vec![], hint: None })
    }

    /// Everything that a restore journals, to its pause.
    fn restore() -> Vec<What> {
        let mut all = vec![planned(None), state(RecoveryState::Unpacking)];
        all.extend([begun(StepId::Unpack), What::Directory { made: true }]);
        all.push(What::StepFinished { step: StepId::Unpack, seconds: 0.0, bytes: Some(1) });
        all.extend(done(StepId::Configure));
        all.push(state(RecoveryState::Configured));
        all.extend([begun(StepId::Start), What::ServerStarted { pid: 4711 }]);
        all.push(What::StepFinished { step: StepId::Start, seconds: 0.0, bytes: None });
        all.extend([state(RecoveryState::Replaying), begun(StepId::Replay), state(RecoveryState::Paused)]);
        all
    }

    #[test]
    fn a_restore_goes_on_from_every_line_of_its_journal() {
        let all = restore();
        let ways: Vec<[Way; 2]> =
            (1..=all.len()).map(|lines| [&NOTHING, &RUNS].map(|world| Way::of(&fold(&all[..lines]), world))).collect();
        let (unpack, start, follow) = (Way::Unpack, Way::Start, Way::Follow);
        let expected = [
            [unpack; 2],
            [unpack; 2],
            [unpack; 2],
            [unpack; 2],
            // Unpacked; a server that runs before the settings are written is nobody's, and is stopped.
            [start; 2],
            [start; 2],
            [start; 2],
            [start, follow],
            [start, follow],
            [start, follow],
            [start, follow],
            [start, follow],
            [start, follow],
            [start, Way::AtRest],
        ];
        assert_eq!(ways, expected);
    }

    /// Unpacked is not enough: what was unpacked is no data before it was combined.
    #[test]
    fn a_chain_goes_on_from_every_line_of_its_journal() {
        let plan = Plan { chain: Some(Chain { program: "x".into(), links: Vec::new() }), ..example() };
        let planned = What::Planned { plan: Box::new(plan), hash: "x".to_owned(), strategy: None };
        let unpacked = [state(RecoveryState::Unpacking)].into_iter().chain(done(StepId::Unpack));
        let all: Vec<What> = std::iter::once(planned).chain(unpacked).chain(done(StepId::Combine)).collect();
        let ways: Vec<Way> = (1..=all.len()).map(|lines| Way::of(&fold(&all[..lines]), &NOTHING)).collect();
        assert_eq!(ways, [vec![Way::Unpack; 5], vec![Way::Start]].concat());
        let failed = [all.clone(), vec![failed(StepId::Combine)]].concat();
        assert_eq!(Way::of(&fold(&failed[..5]), &NOTHING), Way::Unpack);
    }

    #[test]
    fn a_retarget_goes_on_from_every_line_of_its_journal() {
        let in_place = [restore(), vec![planned(Some(Strategy::InPlace))], done(StepId::Stop).to_vec()].concat();
        for lines in restore().len() + 1..=in_place.len() {
            assert_eq!(Way::of(&fold(&in_place[..lines]), &RUNS), Way::Start, "{lines}");
        }
        let again =
            [restore(), vec![planned(Some(Strategy::Unpack))], done(StepId::Stop).into(), done(StepId::Discard).into()];
        let again = again.concat();
        for lines in restore().len() + 1..=again.len() {
            assert_eq!(
                Way::of(&fold(&again[..lines]), &RUNS),
                Way::Unpack,
                "{lines}: the old data is not the new target's"
            );
        }
        // … also where the server could not be stopped.
        let failed = [restore(), vec![planned(Some(Strategy::Unpack)), failed(StepId::Stop)]].concat();
        assert_eq!(Way::of(&fold(&failed), &NOTHING), Way::Unpack);
    }

    #[test]
    fn what_is_made_anew_after_all_is_not_started_before_it_is_whole() {
        let approach =
            |strategy| What::Approach { strategy, why: String::new(), estimate: crate::plan::Estimate::default() };
        let stopped = [restore(), vec![planned(Some(Strategy::InPlace))], done(StepId::Stop).to_vec()].concat();
        let after = |more: &[What]| Way::of(&fold(&[stopped.clone(), more.to_vec()].concat()), &NOTHING);
        assert_eq!(after(&[approach(Strategy::InPlace)]), Way::Start);
        assert_eq!(after(&[approach(Strategy::Unpack)]), Way::Unpack);
        let going_back = vec![approach(Strategy::Snapshot), begun(StepId::Snapshot)];
        assert_eq!(after(&going_back), Way::Unpack, "half of it is there");
        assert_eq!(after(&[going_back, vec![failed(StepId::Snapshot)]].concat()), Way::Unpack);
        let back = [vec![approach(Strategy::Snapshot)], done(StepId::Snapshot).to_vec()].concat();
        assert_eq!(after(&back), Way::Start);
        // A restore of which a copy could not be kept has removed what it had unpacked.
        let unpacked = done(StepId::Unpack);
        let lost = [vec![planned(None)], unpacked.to_vec(), vec![failed(StepId::Snapshot)]].concat();
        assert_eq!(Way::of(&fold(&lost), &NOTHING), Way::Unpack);
    }

    #[test]
    fn a_stop_that_lies_behind_is_not_come_to_again() {
        use crate::core::Lsn;
        let plan = example();
        let (stop, end) = (plan.resolved.lsn, plan.resolved.replay_end.max(plan.resolved.lsn.plus(8)));
        let mut after = plan.clone();
        after.resolved.replay_end = end;
        let control = ControlFile {
            checkpoint: Lsn(stop.0 - 100),
            redo: Lsn(stop.0 - 200),
            min_recovery_point: Some(end),
            ..crate::pgdata::control_file::example()
        };
        let missed = |control: &ControlFile, begun| {
            missed(&after, &World { control: Some(control.clone()), begun, ..NOTHING }).is_some()
        };
        assert!(!missed(&control, true), "it is ahead");
        let further = ControlFile { min_recovery_point: Some(end.plus(8)), ..control.clone() };
        assert!(missed(&further, true), "consistent only behind it");
        assert!(!missed(&further, false), "the backup's own, before anything was replayed");
        let at_it = ControlFile { checkpoint: stop, redo: stop, ..control.clone() };
        assert!(missed(&at_it, true), "the shutdown checkpoint that it was to stop after");
        let online = ControlFile { checkpoint: stop, ..control.clone() };
        assert!(!missed(&online, true), "an online checkpoint is replayed again");
        assert!(missed(&ControlFile { redo: stop.plus(8), ..control }, true), "replay begins behind it");
    }

    #[test]
    fn what_was_asked_for_last_is_brought_to_its_end() {
        let after = |more: &[What]| Way::of(&fold(&[restore(), more.to_vec()].concat()), &NOTHING);
        assert_eq!(after(&[What::Discarding]), Way::Discard);
        assert_eq!(after(&[What::Discarding, begun(StepId::Discard)]), Way::Discard);
        assert_eq!(after(&[What::Discarding, failed(StepId::Discard)]), Way::Discard);
        assert_eq!(after(&[What::Discarding, state(RecoveryState::Discarded)]), Way::AtRest);
        let promoting = state(RecoveryState::Promoting);
        assert_eq!(after(&[What::Discarding, promoting]), Way::Promotion, "something else was decided since");
        assert_eq!(after(&[begun(StepId::Stop)]), Way::Stop);
        assert_eq!(after(&[state(RecoveryState::ShutDown)]), Way::Start);
        assert_eq!(after(&[state(RecoveryState::Promoting)]), Way::Promotion);
        let promoted = What::Promoted { timeline: crate::core::TimelineId(2) };
        assert_eq!(after(&[state(RecoveryState::Promoting), promoted.clone()]), Way::Promotion);
        assert_eq!(after(&[promoted, state(RecoveryState::Promoted)]), Way::AtRest);
        assert_eq!(after(&[failed(StepId::Replay)]), Way::Start);
    }

    #[test]
    fn a_server_that_is_being_restarted_for_an_item_is_started_again() {
        use crate::plan::checklist::{ItemId, ItemState};
        let item = |state, restarts| What::Item { item: ItemId::Port, state, said: vec![], connection: None, restarts };
        let promoted = [What::Promoted { timeline: crate::core::TimelineId(2) }, state(RecoveryState::Promoted)];
        let after = |more: &[What]| Way::of(&fold(&[restore(), promoted.to_vec(), more.to_vec()].concat()), &NOTHING);
        let begun = item(ItemState::Begun, true);
        assert_eq!(after(std::slice::from_ref(&begun)), Way::Item);
        for (end, restarts) in [(ItemState::Done, true), (ItemState::Failed, false)] {
            assert_eq!(after(&[begun.clone(), item(end, restarts)]), Way::AtRest);
        }
        assert_eq!(after(&[begun.clone(), item(ItemState::Failed, true)]), Way::Item, "the server is down");
        assert_eq!(after(&[item(ItemState::Begun, false)]), Way::AtRest, "it did not run");
        assert_eq!(after(&[begun, state(RecoveryState::ShutDown)]), Way::AtRest, "and is not to run any more");
    }
}
