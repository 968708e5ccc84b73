//! The Archive screen: is everything there that the base backups need, and does archiving go on?

use std::sync::Arc;

use super::command::Act;
use super::effect::Effect;
use super::keys::key_of;
use super::state::{Loading, Pane, ScanState, Screen, State};
use crate::catalog::Overview;
use crate::core::progress::{Pace, counted};
use crate::core::{Lsn, TimelineId, Timestamp};
use crate::error::Error;
use crate::plan::archive::{Needs, Orphan, Report, Unneeded, without_backups};
use crate::plan::archiving::{Against, Archiver, Space, Verdict};
use crate::plan::audit::ArchiveFinding;
use crate::plan::{Finding, Severity};

/// Seconds between two looks at free space and at the primary: while the screen is open, and else.
const LOOK_EVERY: (f64, f64) = (10.0, 60.0);

/// What the screen wants to know.
#[derive(Debug, Clone, PartialEq)]
pub enum Ask {
    /// What the archive holds, by what is known of its segments. Answered by [`News::Judged`].
    Judge(Arc<Overview>),
    /// How much room there is, and what the primary says, where one is configured. Answered by [`News::Space`] and
    /// [`News::Primary`].
    Look,
}

/// What it is told.
#[derive(Debug, Clone, PartialEq)]
pub enum News {
    /// What the archive holds.
    Judged {
        /// By what is known of its segments.
        overview: Arc<Overview>,
        /// The report; or why there is none.
        report: Result<Arc<Report>, Error>,
    },
    /// How much room there is.
    Space(Vec<Space>),
    /// What the primary says.
    Primary(Result<Archiver, Error>),
}

/// What is known of the primary.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum Primary {
    /// The configuration names none.
    #[default]
    None,
    /// It was not asked yet.
    Asking,
    /// What it says.
    Says(Archiver),
    /// It does not answer.
    Silent(Error),
}

/// What is known of the archive, for the screen and for the word in the header.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Archive {
    /// What it holds, once that is known.
    pub report: Option<Arc<Report>>,
    /// Why that cannot be told.
    pub failed: Option<Error>,
    /// The file systems of archives and backups.
    pub space: Vec<Space>,
    /// What the primary says.
    pub primary: Primary,
    /// The row under the cursor.
    pub cursor: usize,
    /// By what the report was made.
    judged: Option<Arc<Overview>>,
    /// By what one is being made.
    judging: Option<Arc<Overview>>,
    /// When the rest was asked last.
    looked: Option<Timestamp>,
    /// How many answers are still to come.
    awaited: u8,
}

/// A row of the list.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Row<'a> {
    /// Something that is wrong.
    Finding(&'a ArchiveFinding),
    /// There is no base backup.
    NoBackup,
    /// What the primary says.
    Primary,
    /// A file system.
    Space(&'a Space),
    /// What a base backup needs.
    Backup(&'a Needs),
    /// What no base backup needs any more.
    Unneeded(&'a Unneeded),
    /// What no base backup can use.
    Orphan(&'a Orphan),
    /// Something good to know.
    Note(&'a ArchiveFinding),
}

impl Archive {
    /// How many rows the list has.
    #[must_use]
    pub fn len(&self) -> usize {
        let Some(report) = &self.report else { return 1 + self.space.len() };
        let ends = Ends::of(report, self);
        ends.notes
    }

    /// Whether it has none; it never is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row of the list. Nothing is made for it: there may be very many.
    #[must_use]
    pub fn row(&self, row: usize) -> Option<Row<'_>> {
        let Some(report) = &self.report else {
            return if row == 0 { Some(Row::Primary) } else { self.space.get(row - 1).map(Row::Space) };
        };
        let ends = Ends::of(report, self);
        Some(match row {
            _ if row < ends.findings => Row::Finding(report.findings.get(row)?),
            _ if row < ends.no_backup => Row::NoBackup,
            _ if row < ends.primary => Row::Primary,
            _ if row < ends.space => Row::Space(self.space.get(row - ends.primary)?),
            _ if row < ends.backups => Row::Backup(report.backups.get(row - ends.space)?),
            _ if row < ends.unneeded => Row::Unneeded(report.unneeded.as_ref()?),
            _ if row < ends.orphans => Row::Orphan(report.orphans.get(row - ends.unneeded)?),
            _ => Row::Note(report.notes.get(row - ends.orphans)?),
        })
    }

    /// The findings on the primary and on free space, the worst first.
    #[must_use]
    pub fn around(&self, state: &State) -> Vec<Finding> {
        let thresholds = &state.thresholds;
        let mut found: Vec<Finding> = self.space.iter().filter_map(|space| space.finding(thresholds)).collect();
        found.extend(self.report.as_deref().and_then(without_backups));
        if let (Primary::Says(archiver), Some(catalog)) = (&self.primary, state.loaded()) {
            found.extend(archiver.findings(&Against::older(Some(catalog), thresholds)));
        }
        found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        found
    }

    /// What it all comes to, and why; `None` while nothing is known of it.
    #[must_use]
    pub fn verdict(&self, state: &State) -> Option<(Verdict, String)> {
        let report = self.report.as_ref()?;
        let around: Vec<Finding> =
            self.around(state).into_iter().filter(|finding| finding.severity > Severity::Note).collect();
        let first = report.findings.first().map(|found| &found.finding);
        let worst = first.into_iter().chain(&around).max_by_key(|finding| finding.severity);
        let verdict = Verdict::of(worst.map(|finding| finding.severity), report.complete);
        let why = match (worst, verdict) {
            (Some(worst), _) => {
                match report.findings.len() + around.len() {
                    0 | 1 => worst.message.clone(),
                    // How many comes first: it is not what is cut off.
                    all => format!("{} are wrong, the worst: {}", counted(all as u64, "thing"), worst.message),
                }
            }
            (None, Verdict::Unread) => "nothing is wrong with what was read; the rest is not known".to_owned(),
            (None, _) => {
                "every segment was read, and nothing that the base backups need is missing or damaged".to_owned()
            }
        };
        Some((verdict, why))
    }

    pub(super) fn step(&mut self, rows: isize) {
        self.cursor = self.cursor.saturating_add_signed(rows).min(self.len().saturating_sub(1));
    }

    /// Chooses a row; returns whether it was the chosen one already.
    pub(super) fn choose(&mut self, row: usize) -> bool {
        let row = row.min(self.len().saturating_sub(1));
        std::mem::replace(&mut self.cursor, row) == row
    }
}

/// Rows of the list up to the end of each part.
struct Ends {
    findings: usize,
    no_backup: usize,
    primary: usize,
    space: usize,
    backups: usize,
    unneeded: usize,
    orphans: usize,
    notes: usize,
}

impl Ends {
    fn of(report: &Report, archive: &Archive) -> Ends {
        let findings = report.findings.len();
        let no_backup = findings + usize::from(report.backups.is_empty());
        let primary = no_backup + 1;
        let space = primary + archive.space.len();
        let backups = space + report.backups.len();
        let unneeded = backups + usize::from(report.unneeded.is_some());
        let orphans = unneeded + report.orphans.len();
        Ends { findings, no_backup, primary, space, backups, unneeded, orphans, notes: orphans + report.notes.len() }
    }
}

/// Asks for what has to be known: the report once the archive was read, or with every news while the screen is open.
pub(super) fn look_after(state: &mut State) -> Vec<Effect> {
    let archive = &mut state.archive;
    if !matches!(state.catalog, Loading::Loaded(_)) {
        // What was listed before does not count any more.
        (archive.report, archive.failed) = (None, None);
        (archive.judged, archive.judging) = (None, None);
        return Vec::new();
    }
    let mut effects = Vec::new();
    let is_open = state.screens.last() == Some(&Screen::Archive);
    let is_read = !matches!(state.scan.state, ScanState::Running | ScanState::Waiting);
    let known = state.points.known();
    let is_judged = archive.judged.as_ref().is_some_and(|judged| Arc::ptr_eq(judged, &known));
    if (is_open || is_read) && !is_judged && archive.judging.is_none() {
        archive.judging = Some(Arc::clone(&known));
        effects.push(Effect::Archive(Ask::Judge(known)));
    }
    let every = if is_open { LOOK_EVERY.0 } else { LOOK_EVERY.1 };
    let is_due = archive.looked.is_none_or(|looked| state.now.seconds_since(looked) >= every);
    if (is_open || is_read) && is_due && archive.awaited == 0 {
        archive.looked = Some(state.now);
        archive.awaited = 1 + u8::from(archive.primary != Primary::None);
        effects.push(Effect::Archive(Ask::Look));
    }
    effects
}

/// Takes in what was asked for.
pub(super) fn came(state: &mut State, news: News) {
    let archive = &mut state.archive;
    match news {
        News::Judged { overview, report } => {
            if archive.judging.take_if(|asked| Arc::ptr_eq(asked, &overview)).is_none() {
                return;
            }
            archive.judged = Some(overview);
            match report {
                Ok(report) => (archive.report, archive.failed) = (Some(report), None),
                Err(error) => archive.failed = Some(error),
            }
        }
        News::Space(space) => {
            archive.awaited = archive.awaited.saturating_sub(1);
            archive.space = space;
        }
        News::Primary(answer) => {
            archive.awaited = archive.awaited.saturating_sub(1);
            archive.primary = match answer {
                Ok(archiver) => Primary::Says(archiver),
                Err(error) => Primary::Silent(error),
            };
        }
    }
    archive.step(0);
}

/// Begins to read every segment that was not read yet, or stops it.
pub(super) fn check(state: &mut State) -> Vec<Effect> {
    match state.scan.state {
        ScanState::Running => vec![Effect::CancelScan],
        _ if state.points.overview().complete => {
            let reload = key_of(state, Act::Reload);
            state.say(format!(
                "every segment was read already; {reload} lists the archive again, and reads what is new"
            ));
            Vec::new()
        }
        _ => {
            state.scan.state = ScanState::Running;
            (state.scan.done, state.scan.total, state.scan.pace) = (0, 0, Pace::default());
            vec![Effect::LoadOverview]
        }
    }
}

/// The place in WAL that the chosen row is about.
pub(super) fn place(state: &State) -> Option<(TimelineId, Lsn)> {
    match state.archive.row(state.archive.cursor)? {
        Row::Finding(found) | Row::Note(found) => found.timeline.zip(found.lsn),
        _ => None,
    }
}

/// Goes to the chosen row's place on the home screen: missing or damaged WAL, or a base backup.
pub(super) fn go(state: &mut State) {
    if let Some(Row::Backup(needs)) = state.archive.row(state.archive.cursor) {
        let id = needs.backup.clone();
        let place = state.loaded().and_then(|catalog| catalog.backups.iter().position(|backup| backup.id == id));
        if let Some(place) = place {
            (state.backup, state.pane) = (place, Pane::Backups);
            return leave(state);
        }
    }
    let Some((timeline, lsn)) = place(state) else { return };
    let number = state.points.segment_size().number_of(lsn);
    let lacks = state.points.lacks();
    let is_near = |exact: bool| {
        lacks
            .iter()
            .position(|lack| lack.timeline == timeline && if exact { lack.lsn == lsn } else { lack.number == number })
    };
    let lack = is_near(true).or_else(|| is_near(false));
    let there = match lack {
        Some(lack) => state.points.go_to_lack(lack),
        None => state.points.go_to((timeline, lsn), None),
    };
    if there {
        state.pane = Pane::Points;
        leave(state);
    } else {
        state.refuse("the home screen has no row for this place");
    }
}

fn leave(state: &mut State) {
    state.screens.truncate(1);
    (state.scroll, state.planning) = (0, None);
}
