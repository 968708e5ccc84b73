//! Makes a plan of what an operator asks for: chooses the base backup, resolves the target against WAL, looks at this
//! machine. Changes nothing.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use crate::catalog::suspect::MANY_ROWS;
use crate::catalog::{Backup, BackupFiles, Catalog, Gap};
use crate::config::RestoreConfig;
use crate::core::time::Timestamp;
use crate::core::{Action, Lsn, SegmentName, Target, TargetKind, TimelineChoice, TimelineId, TimelinePath, Zone};
use crate::error::{Error, ErrorKind, Reachable, Result};
use crate::plan::build::{Draft, name_recovery};
use crate::plan::candidates::Way;
use crate::plan::chain::Amounts;
use crate::plan::estimate::Work;
use crate::plan::fetch;
use crate::plan::preflight::{ADD_UNARCHIVED, BackupFacts, add_wal, obstacles, wal_missing};
use crate::plan::settings::shell_quote;
use crate::plan::stop_findings::stop_findings;
use crate::plan::{Approach, Candidate, Finding, Plan, Pristine, first_database, tablespaces};
use crate::resolve::{BeforeWhat, Place, Resolved, Resolver, StopSide, Unreachable};
use crate::source::names::NameBook;
use crate::source::scan::EndCause;
use crate::source::{Cancel, Index, Source, backup_files};
use crate::wal::summary::MarkKind;

use super::experience;
use super::facts::{self, Wanted};
use super::find::{Find, Trust};
use super::host::{clusters, is_root, now};
use super::record::Recoveries;
use super::run::Engine;
use super::strategy::{Ways, with_preparation};

/// What an operator asks for.
#[derive(Debug, Clone)]
pub struct Request {
    /// Where recovery shall stop.
    pub target: Target,
    /// From which base backup; `None` for the best one.
    pub backup: Option<String>,
    /// Into which directory, absolute.
    pub directory: PathBuf,
    /// How recoveries of this source are made.
    pub restore: RestoreConfig,
    /// How a copy of the unpacked data is kept to go back to.
    pub pristine: Option<Pristine>,
    /// Whether a data directory that is there shall make way: be renamed.
    pub make_way: bool,
    /// For saying times.
    pub zone: Zone,
}

/// What is known while plans are made.
pub struct Preparation<'a> {
    /// The source.
    pub source: &'a dyn Source,
    /// What it has.
    pub catalog: &'a Catalog,
    /// The recoveries that have names already.
    pub recoveries: &'a Recoveries,
    /// Where what is read of WAL is kept for the next time.
    pub cache: Option<&'a Path>,
    /// The names that base backups know: read once for all who share it, since a compressed backup is read for that.
    pub names: &'a Mutex<NameBook>,
    /// Told the bytes of WAL that were read.
    pub progress: &'a dyn Fn(u64),
    /// Asks it to stop.
    pub cancel: &'a Cancel,
}

/// What recovery goes along, and how it is found out where it stops.
struct Along<'a> {
    index: &'a Index<'a>,
    backup: &'a Backup,
    path: &'a TimelinePath,
    trust: Trust,
    /// Where a server that replayed already starts again.
    restart: Option<Lsn>,
}

impl<'a> Preparation<'a> {
    /// Makes the plan.
    ///
    /// # Errors
    /// When no base backup leads to the target, or WAL cannot be read. What is wrong with this machine is in the
    /// plan's findings.
    pub fn plan(&self, request: &Request) -> Result<Plan> {
        let (backup, path, mut resolved) = self.choose(request, Trust::Nothing)?;
        let ways = self.ways(request, &backup.id, &path, &resolved);
        resolved.backups = usable(&ways);
        self.look_around(&path, &mut resolved, Trust::Nothing)?;
        let database = self.database(backup, &resolved)?;
        let major = backup.pg_version.ok_or_else(|| {
            Error::failed(
                "unknown-version",
                format!("it cannot be told of which PostgreSQL version the backup {} is", backup.id),
            )
            .hint("the WAL segment at its start would tell; is the right archive given with --wal?")
        })?;
        let missing = self.missing(backup, &path, &resolved);
        let port = facts::choose_port(request.restore.port);
        // Behind a slash at its end the system follows a link, as if the directory itself was named.
        let directory: PathBuf = request.directory.components().collect();
        let (archives, commands) = (self.source.archives(), self.source.commands());
        let absent =
            if commands.is_empty() { BTreeSet::new() } else { self.absent(backup, &path, resolved.replay_end) };
        let sources: Vec<PathBuf> = archives.iter().chain(self.source.backups()).cloned().collect();
        let (tablespaces, misplaced) = tablespaces::place(backup, &directory, &request.restore.tablespaces);
        let chain = self.catalog.chain_of(backup);
        let backup_facts = BackupFacts::of(self.files_of(backup, &chain)?, major);
        let partials = self.catalog.partials_on(&path, resolved.replay_end);
        let host = facts::gather(&Wanted {
            directory: &directory,
            backup,
            chain: &chain,
            backup_facts: &backup_facts,
            tablespaces: &tablespaces,
            newest: self.newest_archived(&path).filter(|_| resolved.stop == StopSide::EndOfWal),
            major,
            port,
            restore: &request.restore,
            make_way: request.make_way,
            sources: &sources,
            journals: self.recoveries.directory(),
            archives,
            commands,
            fetches: !commands.is_empty() || fetch::is_needed(archives, self.catalog, &partials),
            decompressors: self.catalog.compressions.iter().filter_map(|used| Some(used.program()?.0)).collect(),
        });
        let experience = experience::gather(self.recoveries, ways.iter().map(|(backup, _)| *backup));
        let in_place = host.combine.as_ref().map(|facts| facts.in_place.clone()).unwrap_or_default();
        let candidate = |(backup, why_not): &(&Backup, Option<String>)| Candidate {
            backup: backup.id.clone(),
            estimate: why_not.is_none().then(|| {
                let chain = self.catalog.chain_of(backup);
                let amounts = Amounts::of(backup, &chain, &in_place);
                experience.estimate(&self.work(backup, &chain, amounts, resolved.replay_end, host.free_bytes))
            }),
            why_not: why_not.clone(),
        };
        let candidates = ways.iter().map(candidate).collect();
        let branches = self.branches(request.target.timeline, backup, &path);
        let draft = Draft {
            recovery: name_recovery(&directory, &|name| self.recoveries.has(name)),
            directory: directory.clone(),
            backup,
            chain: &chain,
            major,
            segment_size: self.catalog.segment_size,
            target: &request.target,
            resolved,
            missing,
            facts: &backup_facts,
            notices: branches.into_iter().chain(misplaced).collect(),
            candidates,
            archives,
            commands,
            absent,
            compressions: &self.catalog.compressions,
            unmarked: &self.catalog.unmarked,
            layouts: self.catalog.layouts,
            older_files: self.catalog.older_files(backup),
            partials,
            port,
            database: database.unwrap_or_else(first_database),
            role: request.restore.role.clone().unwrap_or_else(|| "postgres".to_owned()),
            settings: request.restore.settings.clone().into_iter().collect(),
            tablespaces,
            host: &host,
            pristine: request.pristine,
            make_way: request.make_way,
            as_root: is_root(),
            zone: request.zone,
            now: now(),
        };
        Ok(draft.build())
    }

    /// The segments on the way that no archive has, up to the one in which replay ends.
    fn absent(&self, backup: &Backup, path: &TimelinePath, replay_end: Lsn) -> BTreeSet<SegmentName> {
        let size = self.catalog.segment_size;
        let first = size.number_of(backup.start_lsn.unwrap_or(Lsn::INVALID));
        let last = size.number_of(Lsn(replay_end.0.saturating_sub(1)));
        let files = (first..=last).flat_map(|number| {
            path.owners_of(number, size).into_iter().map(move |timeline| SegmentName::new(timeline, number, size))
        });
        files.filter(|name| !self.catalog.segments.contains(name)).collect()
    }

    /// Where recovery would stop, without asking whether this machine can do it. Reads few segments, even where none
    /// are known, and trusts that times and transaction ids go up along WAL, see [`crate::source::search`]: a plan
    /// proves what this says.
    ///
    /// # Errors
    /// When no base backup leads to the target, or WAL cannot be read.
    pub fn locate(&self, request: &Request) -> Result<Resolved> {
        let (backup, path, mut resolved) = self.choose(request, Trust::Order)?;
        resolved.backups = usable(&self.ways(request, &backup.id, &path, &resolved));
        self.look_around(&path, &mut resolved, Trust::Order)?;
        Ok(resolved)
    }

    fn work<'b>(
        &self,
        backup: &'b Backup,
        chain: &'b [&'b Backup],
        amounts: Amounts,
        replay_end: Lsn,
        free_bytes: Option<u64>,
    ) -> Work<'b> {
        let packed_wal = !self.catalog.compressions.is_empty();
        Work { backup, chain, amounts, replay_end, segment_size: self.catalog.segment_size, packed_wal, free_bytes }
    }

    pub(super) fn index(&self) -> Index<'_> {
        Index::new(self.source, self.catalog, self.cache, MANY_ROWS)
    }

    /// The files of the backup that a plan has to know.
    fn files_of(&self, backup: &Backup, chain: &[&Backup]) -> Result<BackupFiles> {
        match chain {
            [] => backup_files::read(backup, self.cancel),
            chain => backup_files::read_all(chain, self.cancel),
        }
    }

    /// Another target for a recovery that there is already, from the same base backup.
    ///
    /// # Errors
    /// When the target cannot be reached from that backup, or WAL cannot be read.
    pub fn replan(&self, current: &Plan, target: &Target, zone: Zone) -> Result<Plan> {
        self.replan_with(current, target, zone, None)
    }

    /// The same for a server that goes on, starting at `redo`.
    pub(super) fn replan_from(&self, current: &Plan, target: &Target, zone: Zone, redo: Lsn) -> Result<Plan> {
        self.replan_with(current, target, zone, Some(redo))
    }

    fn replan_with(&self, current: &Plan, target: &Target, zone: Zone, restart: Option<Lsn>) -> Result<Plan> {
        // What is there already does not need it any more: only who unpacks again does.
        let backup = self.backup_again(current).unwrap_or(&current.backup);
        let request = Request {
            target: target.clone(),
            backup: None,
            directory: current.directory.clone(),
            restore: RestoreConfig::default(),
            pristine: None,
            make_way: false,
            zone,
        };
        let path = self.path_for(backup, target.timeline)?;
        self.check_time(backup, &request)?;
        let index = self.index();
        let mut resolved = self.resolve(&index, backup, &path, &request, Trust::Nothing, restart)?;
        resolved.backups = vec![current.backup.id.clone()];
        self.look_around(&path, &mut resolved, Trust::Nothing)?;
        let database = self.database(backup, &resolved)?;
        let missing = self.missing(backup, &path, &resolved);
        let mut findings: Vec<Finding> = wal_missing(&missing, &resolved).into_iter().collect();
        findings.extend(obstacles(&resolved, current.server.major, &current.settings));
        findings.extend(stop_findings(target, &resolved, zone));
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
        let experience = experience::gather(self.recoveries, std::iter::once(backup));
        let chain: Vec<&Backup> = current.backups_read().filter(|_| current.chain.is_some()).collect();
        let work = self.work(backup, &chain, current.amounts(), resolved.replay_end, None);
        let estimate = match restart {
            Some(redo) => experience.going_on(&work, redo),
            None => experience.estimate(&work),
        };
        let absent = self.absent(backup, &path, resolved.replay_end);
        let mut plan = current.retargeted(target, resolved, findings, estimate, now());
        if let Some(fetch) = plan.fetch.as_mut().filter(|_| !current.commands.is_empty()) {
            fetch.absent = absent;
        }
        plan.server.database = database.unwrap_or(plan.server.database);
        Ok(plan)
    }

    /// The base backup of a recovery, where it still can be used, with all that it builds upon.
    pub(super) fn backup_again(&self, current: &Plan) -> Option<&Backup> {
        let is_it = |backup: &&Backup| {
            current.chain.is_none()
                || backup.location == current.backup.location && backup.start_lsn == current.backup.start_lsn
        };
        self.catalog.backups.iter().find(is_it).filter(|backup| backup.is_usable())
    }

    /// The base backup to recover from, the way to the target, and where it leads.
    fn choose(&self, request: &Request, trust: Trust) -> Result<(&Backup, TimelinePath, Resolved)> {
        let index = self.index();
        if let Some(id) = &request.backup {
            let backup = self.named(id)?;
            let path = self.path_for(backup, request.target.timeline)?;
            let resolved = self
                .check_time(backup, request)
                .and_then(|()| self.resolve(&index, backup, &path, request, trust, None));
            let resolved = resolved.map_err(|error| match self.another_backup(&error, &index, backup, request) {
                Some(other) => error.hint(format!("the backup {0} leads there: --backup {0}", shell_quote(&other.id))),
                None => self.elsewhere(error, &index, request, &[path.last()]),
            })?;
            return Ok((backup, path, resolved));
        }
        let (mut refused, mut tried_on) = (None::<Error>, Vec::new());
        for backup in self.catalog.best_first().into_iter().filter(|backup| backup.is_usable()) {
            let tried = self.path_for(backup, request.target.timeline).and_then(|path| {
                self.check_time(backup, request)?;
                tried_on.push(path.last());
                Ok((self.resolve(&index, backup, &path, request, trust, None)?, path))
            });
            match tried {
                Ok((resolved, path)) => return Ok((backup, path, resolved)),
                Err(error) if error.report().kind == ErrorKind::Interrupted => return Err(error),
                // What the newest backup cannot do, an older one may; what it said is the likeliest to help. But where
                // the target lies before all of them, the oldest one says where the earliest is; and where an older
                // one comes to a gap, the target may lie behind that.
                Err(error) => match &refused {
                    Some(newer)
                        if newer.report().code != TIMELINE_UNREACHABLE
                            && error.report().code != BEFORE_BACKUP_END
                            && (is_mistyped(newer) || stops_at_gap(newer) || !stops_at_gap(&error)) => {}
                    Some(_) if error.report().code == TIMELINE_UNREACHABLE => {}
                    _ => refused = Some(error),
                },
            }
        }
        if let Some(error) = refused {
            return Err(self.elsewhere(error, &index, request, &tried_on));
        }
        Err({
            let broken = self
                .catalog
                .backups
                .iter()
                .flat_map(|backup| backup.problems.iter().map(move |problem| format!("{}: {problem}", backup.id)));
            broken.fold(
                Error::failed("no-usable-backup", "there is no base backup that can be used")
                    .hint("“walback backups” lists them with their problems"),
                Error::because,
            )
        })
    }

    /// The best other backup that leads to the target, where a backup was named that does not.
    fn another_backup(&self, error: &Error, index: &Index<'_>, named: &Backup, request: &Request) -> Option<&Backup> {
        if error.report().kind != ErrorKind::Unreachable {
            return None;
        }
        let others = self.catalog.best_first().into_iter().filter(|backup| backup.is_usable() && backup.id != named.id);
        others.into_iter().find(|backup| {
            let leads = self.path_for(backup, request.target.timeline).and_then(|path| {
                self.check_time(backup, request)?;
                self.resolve(index, backup, &path, request, Trust::Order, None)
            });
            leads.is_ok_and(|resolved| resolved.stop != StopSide::EndOfWal)
        })
    }

    /// Where a transaction or a restore point is not on the way, it may be on another branch: names the timeline and the
    /// backup that lead there. What is not known of restore points without reading is not read for this.
    fn elsewhere(&self, error: Error, index: &Index<'_>, request: &Request, tried: &[TimelineId]) -> Error {
        let report = error.report();
        // Behind a gap may be the very one that is meant: a number is given out again on another timeline.
        if report.code != NOT_REACHED || stops_at_gap(&error) {
            return error;
        }
        let others = self.catalog.timelines.iter().rev().map(|timeline| timeline.id).filter(|id| !tried.contains(id));
        for id in others {
            let Some(path) = self.catalog.path_to(id) else { continue };
            let leads = |backup: &&Backup| backup.is_usable() && self.catalog.leads_along(backup, &path);
            let mut backups = self.catalog.best_first().into_iter().filter(leads);
            let found = match &request.target.kind {
                TargetKind::Xid(_) => backups.find_map(|backup| {
                    let resolved = self.resolve(index, backup, &path, request, Trust::Order, None).ok()?;
                    (resolved.path.last() == Some(&id)).then_some((backup, resolved.lsn, resolved.at))
                }),
                TargetKind::Name(name) => self.restore_point(index, id, name.as_str()).and_then(|lsn| {
                    let before =
                        |backup: &&Backup| backup.stop_lsn.or(backup.start_lsn).is_some_and(|stop| stop <= lsn);
                    Some((backups.find(before)?, lsn, None))
                }),
                _ => return error,
            };
            let Some((backup, lsn, at)) = found else { continue };
            let target = Target { timeline: TimelineChoice::Number(id), ..request.target.clone() };
            let mut words = target.to_options();
            let also = match &request.backup {
                Some(asked) if *asked != backup.id => {
                    words.extend(["--backup".to_owned(), backup.id.clone()]);
                    format!(", from the backup {}", backup.id)
                }
                _ => format!("; the backup {} leads there", backup.id),
            };
            let one = match request.target.kind {
                TargetKind::Xid(_) => "one of this number is",
                _ => "it is",
            };
            let hint = format!("{one} on timeline {id}: {}{also}", in_shell(&words));
            return error.hint(hint).reachable(Some(Reachable { target: words, lsn, at }));
        }
        error
    }

    /// Where a restore point of this name is on a timeline, as far as its segments are known.
    fn restore_point(&self, index: &Index<'_>, timeline: TimelineId, name: &str) -> Option<Lsn> {
        self.catalog.segments_of(timeline).find_map(|segment| {
            let summary = index.known(*segment)?.ok()?;
            let named = |kind: &MarkKind| matches!(kind, MarkKind::RestorePoint(known) if known == name);
            summary.marks.iter().find(|mark| named(&mark.kind)).map(|mark| mark.lsn)
        })
    }

    /// The restore points on a path, as far as its segments are known.
    fn known_names(&self, index: &Index<'_>, path: &TimelinePath) -> Vec<String> {
        let segments = path.stretches().iter().flat_map(|stretch| self.catalog.segments_of(stretch.timeline));
        let marks =
            segments.filter_map(|segment| index.known(*segment)?.ok()).flat_map(|summary| summary.marks.clone());
        let names = marks.filter_map(|mark| match mark.kind {
            MarkKind::RestorePoint(name) => Some(name),
            _ => None,
        });
        names.collect()
    }

    fn named(&self, id: &str) -> Result<&Backup> {
        let known = || self.catalog.backups.iter().map(|backup| backup.id.as_str()).collect::<Vec<_>>().join(", ");
        let backup = self.catalog.backup(id).ok_or_else(|| {
            Error::usage("unknown-backup", format!("there is no base backup of this name: {id}"))
                .hint(format!("there are: {}", known()))
        })?;
        let broken =
            Error::failed("backup-broken", format!("this base backup cannot be used: {}", backup.location.display()));
        match backup.problems.as_slice() {
            [] => Ok(backup),
            problems => Err(problems
                .iter()
                .fold(broken, |error, problem| error.because(problem.clone()))
                .hint("choose another one: “walback backups” lists them")),
        }
    }

    /// The way from a backup to the timeline that was asked for.
    fn path_for(&self, backup: &Backup, choice: TimelineChoice) -> Result<TimelinePath> {
        let id = match choice {
            TimelineChoice::Number(id) => Some(id),
            TimelineChoice::Current => backup.timeline,
            TimelineChoice::Latest => self.catalog.newest_reachable(backup).or(backup.timeline),
        };
        let known =
            || self.catalog.timelines.iter().map(|timeline| timeline.id.to_string()).collect::<Vec<_>>().join(", ");
        let unknown = |id: &dyn std::fmt::Display| {
            Error::new(
                ErrorKind::Unreachable,
                "unknown-timeline",
                format!("the archive has no history that leads to timeline {id}"),
            )
            .hint(format!("the timelines are: {}", known()))
        };
        let id = id.ok_or_else(|| unknown(&choice))?;
        let path = self.catalog.path_to(id).ok_or_else(|| unknown(&id))?;
        if self.catalog.leads_along(backup, &path) {
            return Ok(path);
        }
        let able = self.catalog.usable_backups().find(|other| self.catalog.leads_along(other, &path));
        let error = Error::new(
            ErrorKind::Unreachable,
            TIMELINE_UNREACHABLE,
            format!(
                "timeline {id} cannot be reached from the backup {}: it forked off before the backup ended ({path})",
                backup.id
            ),
        );
        Err(match able {
            Some(other) => error.hint(format!("the backup {0} leads there: --backup {0}", shell_quote(&other.id))),
            None => error.hint("no backup leads there; choose another timeline"),
        })
    }

    /// A time before the backup's end: on an idle server recovery would stop later than asked, without a word.
    fn check_time(&self, backup: &Backup, request: &Request) -> Result<()> {
        let TargetKind::Time(time) = request.target.kind else { return Ok(()) };
        let ended = backup.finished_at.or(backup.started_at);
        match ended {
            Some(ended) if time < ended => {
                Err(self.before_backup_end(backup, &time.in_zone(request.zone), Some(ended), request.zone))
            }
            _ => Ok(()),
        }
    }

    /// Where recovery from `backup` along `path` stops, and what the server is told for that.
    fn resolve(
        &self,
        index: &Index<'_>,
        backup: &Backup,
        path: &TimelinePath,
        request: &Request,
        trust: Trust,
        restart: Option<Lsn>,
    ) -> Result<Resolved> {
        let target = &request.target;
        let start = backup.start_lsn.unwrap_or(Lsn::INVALID);
        // Between the backup's start and its end only its records tell: the one that ends it may be stopped at.
        if let (TargetKind::Lsn(lsn), Some(_)) = (&target.kind, backup.stop_lsn)
            && *lsn <= start
        {
            return Err(self.before_backup_end(backup, &lsn.to_string(), None, request.zone));
        }
        let way = Along { index, backup, path, trust, restart };
        let mut resolved = self.stop_for(&way, target, request)?;
        if !resolved.before.is_empty() {
            resolved = self.before_what(&way, resolved, request)?;
        }
        // Where nobody can connect, the server would promote instead of pausing (`recoveryPausesHere`).
        if !resolved.is_readable && target.action == Action::Pause {
            let told = resolved.as_told(target).clone();
            resolved.told = Some(Target { action: Action::Shutdown, ..told });
        }
        Ok(resolved)
    }

    /// “Before this transaction” is one of several places: the best one that loses no other commit, where the
    /// transaction was named.
    fn before_what(&self, way: &Along<'_>, at_commit: Resolved, request: &Request) -> Result<Resolved> {
        let mut before = at_commit.before.clone();
        let find = self.find(way);
        for place in before.iter_mut().filter(|place| place.what != BeforeWhat::Commit) {
            place.commits_lost = find.commits_between(place.lsn, at_commit.lsn)?;
        }
        let named = matches!(request.target.kind, TargetKind::Xid(_));
        let better = before.iter().position(|place| {
            named && place.what != BeforeWhat::Commit && place.commits_lost == 0 && place.lsn >= at_commit.consistent_at
        });
        let Some(better) = better else { return Ok(Resolved { before, ..at_commit }) };
        for (i, place) in before.iter_mut().enumerate() {
            place.chosen = i == better;
        }
        let lsn = before.get(better).map_or(at_commit.lsn, |place| place.lsn);
        let told = Target { kind: TargetKind::Lsn(lsn), inclusive: false, ..request.target.clone() };
        let resolved = self.stop_for(way, &told, request)?;
        Ok(Resolved { before, told: Some(told), ..resolved })
    }

    fn find<'f>(&'f self, way: &Along<'f>) -> Find<'f> {
        Find {
            source: self.source,
            catalog: self.catalog,
            index: way.index,
            backup: way.backup,
            path: way.path,
            progress: self.progress,
            cancel: self.cancel,
            done: Cell::new(0),
            names: RefCell::default(),
            on_the_way: RefCell::default(),
        }
    }

    /// Where the server stops for `target`.
    fn stop_for(&self, way: &Along<'_>, target: &Target, request: &Request) -> Result<Resolved> {
        let Along { backup, path, trust, .. } = *way;
        let start = backup.start_lsn.unwrap_or(Lsn::INVALID);
        // A backup from a primary ends with a record that names its start: where that is not met, the WAL is not
        // that of this backup.
        let stop = backup.stop_lsn.filter(|_| backup.from_standby);
        let mut resolver = Resolver::new(target, path, start, stop);
        if let Some(redo) = way.restart {
            resolver = resolver.restarting_at(redo);
        }
        let find = self.find(way);
        let end = find.run(&mut resolver, start, trust)?;
        let reached = resolver.consistent_at().zip(resolver.last_record());
        let goes_on = end.cause.segment().is_some_and(|name| self.catalog.goes_on_behind(*name, path));
        let was_over = matches!(target.kind, TargetKind::Xid(xid) if resolver.was_over(xid));
        let mut resolved = resolver.finish(end.at).map_err(|unreachable| {
            let error = self.explain(&unreachable, backup, path, request, &end.cause);
            let error = offer_the_last(error, &unreachable, path, reached);
            match &target.kind {
                TargetKind::Name(name) => {
                    // Those before the backup are known, or not: it may be one of them that is meant.
                    let mut names = self.known_names(way.index, path);
                    names.append(&mut find.names.borrow_mut());
                    name_the_nearest(error, name.as_str(), &names)
                }
                TargetKind::Xid(xid) if was_over => error.hint(format!(
                    "transaction {xid} is from before the base backup {}: only an older one leads there, give it with --backups",
                    backup.id
                )),
                _ => error,
            }
        })?;
        // Who trusts does not look at all that is on the way.
        if trust == Trust::Nothing {
            find.on_the_way.borrow().tell(&mut resolved);
        }
        match end.cause {
            EndCause::EndOfWal(..) if resolved.stop == StopSide::EndOfWal && goes_on => {
                Err(broken_midway(path, &end.cause, resolved.lsn))
            }
            EndCause::Damaged(..) if resolved.stop == StopSide::EndOfWal => {
                Err(broken_midway(path, &end.cause, resolved.lsn))
            }
            _ => Ok(resolved),
        }
    }

    fn explain(
        &self,
        unreachable: &Unreachable,
        backup: &Backup,
        path: &TimelinePath,
        request: &Request,
        cause: &EndCause,
    ) -> Error {
        match unreachable {
            // For a position there always was a record to stop at: else it would not have been reached.
            Unreachable::BeforeConsistency { stop, at, .. }
                if matches!(cause, EndCause::Enough)
                    || at.is_some()
                    || matches!(request.target.kind, TargetKind::Lsn(_)) =>
            {
                let what = match request.target.kind {
                    TargetKind::Lsn(lsn) => lsn.to_string(),
                    _ => at.map_or_else(|| stop.to_string(), |at| at.in_zone(request.zone)),
                };
                self.before_backup_end(backup, &what, None, request.zone)
            }
            Unreachable::BeforeConsistency { .. } => Error::new(
                ErrorKind::Unreachable,
                "backup-incomplete",
                format!("the WAL ends before the base backup {} is consistent", backup.id),
            )
            .because(end_in_words(cause))
            .hint(
                "add the archive that has the missing segments with another --wal; is it the archive of this cluster?",
            ),
            Unreachable::NotReached { .. } => self.not_reached(unreachable, backup, path, request, cause),
        }
    }

    fn not_reached(
        &self,
        unreachable: &Unreachable,
        backup: &Backup,
        path: &TimelinePath,
        request: &Request,
        cause: &EndCause,
    ) -> Error {
        let (end, last, last_record) = match unreachable {
            Unreachable::NotReached { end, last, last_record } => (*end, *last, *last_record),
            Unreachable::BeforeConsistency { stop, .. } => (*stop, None, None),
        };
        let timeline = path.last();
        let error = Error::new(
            ErrorKind::Unreachable,
            NOT_REACHED,
            format!(
                "the WAL of timeline {timeline} ends at {end}, before the target is reached: {}",
                request.target.in_words_on(request.zone, timeline)
            ),
        );
        let ends = last.and_then(|place| place.at).filter(|_| matches!(request.target.kind, TargetKind::Time(_)));
        let error = error.times(self.begins(backup, path, request).zip(ends));
        let error = match last {
            Some(Place { xid: Some(xid), at: Some(at), .. }) => {
                error.because(format!("the last transaction in it is {xid}, {}", at.in_zone(request.zone)))
            }
            _ => error.because("there is no transaction in it"),
        };
        if let (TargetKind::Lsn(lsn), Some(last)) = (&request.target.kind, last_record)
            && *lsn <= end
        {
            return error.hint(format!(
                "no record starts there or later: the last one starts at {last}, and --latest stops behind it"
            ));
        }
        let error = match cause {
            EndCause::NoSegment(name) if self.catalog.cut_off.contains(name) => {
                return error
                    .because(format!("the file of segment {name} is cut off: it is not as long as a segment"))
                    .hint(format!("{GOOD_COPY}; or choose an earlier target"));
            }
            EndCause::NoSegment(name) if self.catalog.goes_on_behind(*name, path) => {
                return error.because(end_in_words(cause)).hint(ADD_ARCHIVE);
            }
            EndCause::Damaged(..) => {
                return error.because(end_in_words(cause)).hint(format!("{GOOD_COPY}; or choose an earlier target"));
            }
            EndCause::EndOfWal(name, _) if self.catalog.goes_on_behind(*name, path) => {
                return error.because(end_in_words(cause)).hint(format!("{GOOD_COPY}; or choose an earlier target"));
            }
            _ => error,
        };
        // What was never archived is in the server's own directory, if that is still there.
        let unarchived = self
            .newest_archived(path)
            .and_then(|newest| clusters::unarchived(backup.system_identifier, newest, self.source.archives()));
        if let Some(wal) = unarchived {
            let more = format!("{} has newer segments, up to {}", wal.directory.display(), wal.newest);
            return error.because(more).hint(add_wal(&wal.directory));
        }
        let others: Vec<String> = self
            .catalog
            .timelines
            .iter()
            .filter(|other| other.id != timeline)
            .map(|other| other.id.to_string())
            .collect();
        match (others.is_empty(), &request.target.kind) {
            (false, TargetKind::Time(_)) => error.hint(format!(
                "choose an earlier time, or --latest for everything that there is; or another timeline with --timeline {}",
                others.join(" or ")
            )),
            (false, TargetKind::Xid(_) | TargetKind::Name(_)) => error.hint(format!(
                "it may be on another timeline, try --timeline {}; or from before the base backup {} ended",
                others.join(" or "),
                backup.id
            )),
            (false, _) => error.hint(format!("it may be on another timeline; try --timeline {}", others.join(" or "))),
            (true, TargetKind::Time(_)) => {
                error.hint("choose an earlier time, or --latest for everything that there is")
            }
            (true, TargetKind::Xid(_) | TargetKind::Name(_)) => error.hint(format!(
                "is it from before the base backup {} ended, or from WAL that is not archived yet? “walback timelines” shows what there is",
                backup.id
            )),
            (true, _) => error.hint("“walback timelines” shows what there is; is the newest WAL archived yet?"),
        }
    }

    /// From when on there are transactions that a backup leads to: any, unless one was chosen.
    fn begins(&self, backup: &Backup, path: &TimelinePath, request: &Request) -> Option<Timestamp> {
        let others = self.catalog.usable_backups().filter(|other| self.catalog.leads_along(other, path));
        let others = others.filter(|_| request.backup.is_none());
        others.chain([backup]).filter_map(|backup| backup.finished_at.or(backup.started_at)).min()
    }

    /// What is to be known of the timelines that recovery does not follow.
    fn branches(&self, choice: TimelineChoice, backup: &Backup, path: &TimelinePath) -> Vec<Finding> {
        match choice {
            TimelineChoice::Latest => self.left_behind(path).into_iter().chain(self.newer(backup, path)).collect(),
            TimelineChoice::Current | TimelineChoice::Number(_) => self.other_branches(path).into_iter().collect(),
        }
    }

    /// Where a timeline was chosen: those that forked off it, or off one on the way to it, and are followed no more.
    fn other_branches(&self, path: &TimelinePath) -> Option<Finding> {
        const NAMED: usize = 3;
        let is_on = |id: TimelineId| path.end_of(id).is_some();
        let mut others: Vec<(Lsn, TimelineId, TimelineId)> = self
            .catalog
            .timelines
            .iter()
            .filter(|other| !is_on(other.id) && other.segments > 0)
            .filter_map(|other| Some((other.forked_at_lsn?, other.id, other.parent.filter(|id| is_on(*id))?)))
            .collect();
        others.sort_unstable_by(|a, b| b.cmp(a));
        let (_, newest, _) = others.iter().max_by_key(|(_, id, _)| *id)?;
        let named = others.iter().take(NAMED).map(|(fork, id, parent)| format!("{id} (off {parent} at {fork})"));
        let named = named.collect::<Vec<_>>().join(", ");
        let more = match others.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let are = if others.len() == 1 { "timeline" } else { "timelines" };
        let text = format!("recovery follows timeline {}; not followed: {are} {named}{more}", path.last());
        let finding = Finding::note("other-branches", text);
        let own = path.last();
        Some(finding.hint(format!(
            "this is right to get back what only timeline {own} has; did production go on with timeline {newest}, and is \
             that what is wanted, then give --timeline {newest}"
        )))
    }

    /// Where “latest” is not the newest of all: the backup does not lead to that one.
    fn newer(&self, backup: &Backup, path: &TimelinePath) -> Option<Finding> {
        let newest = self.catalog.timelines.iter().rev().find(|timeline| timeline.segments > 0)?.id;
        let theirs = self.catalog.path_to(newest).filter(|_| newest > path.last())?;
        let text = format!(
            "timeline {newest} is newer than {}, and the backup {} does not lead there: it forked off before that ended",
            path.last(),
            backup.id
        );
        let able = self
            .catalog
            .best_first()
            .into_iter()
            .find(|other| other.is_usable() && self.catalog.leads_along(other, &theirs));
        let hint = match able {
            Some(other) => {
                format!("the backup {0} leads there: --timeline {newest} --backup {0}", shell_quote(&other.id))
            }
            None => "no backup leads there; if production went on with it, take one now".to_owned(),
        };
        Some(Finding::note("newer-timeline", text).hint(hint))
    }

    /// Where "latest" chose a timeline: the WAL of those that it forked off, behind the fork. A test restore that was
    /// promoted with archiving on makes such a fork, and then "latest" is not what production went on with.
    fn left_behind(&self, path: &TimelinePath) -> Vec<Finding> {
        let size = self.catalog.segment_size;
        let goes_on = path.stretches().iter().filter_map(|stretch| {
            let fork = stretch.end?;
            let last = self.catalog.segments_of(stretch.timeline).next_back()?.number(size);
            (last > size.number_of(fork)).then_some((stretch.timeline, fork))
        });
        let latest = path.last();
        let warn = |(timeline, fork)| {
            Finding::warning(
                "timeline-left",
                format!("“latest” is timeline {latest}, which left timeline {timeline} at {fork}; timeline {timeline} goes on after that in the archive"),
            )
            .hint(format!("if production went on with timeline {timeline}, give --timeline {timeline}"))
        };
        goes_on.map(warn).collect()
    }

    /// The segments that are missing on the way to the target. The end of WAL is the end of the archive: what lies
    /// behind a gap is not to be given up without a word.
    fn missing(&self, backup: &Backup, path: &TimelinePath, resolved: &Resolved) -> Vec<Gap> {
        let until = match resolved.stop {
            StopSide::EndOfWal => self.catalog.end_of_cut_off(path),
            _ => Some(resolved.replay_end),
        };
        self.catalog.missing(backup, path, until)
    }

    /// The newest segment of the archives on the way.
    fn newest_archived(&self, path: &TimelinePath) -> Option<SegmentName> {
        self.catalog.segments_of(path.last()).next_back().copied()
    }

    /// Every backup, with why it does not lead to the same place.
    fn ways(
        &self,
        request: &Request,
        chosen: &str,
        path: &TimelinePath,
        resolved: &Resolved,
    ) -> Vec<(&'a Backup, Option<String>)> {
        Way { catalog: self.catalog, path, target: &request.target, resolved, zone: request.zone }.backups(chosen)
    }

    fn before_backup_end(&self, backup: &Backup, target: &str, ended: Option<Timestamp>, zone: Zone) -> Error {
        let mut words = Target::new(TargetKind::Immediate).to_options();
        if self.catalog.backups.len() > 1 {
            words.extend(["--backup".to_owned(), backup.id.clone()]);
        }
        before_backup_end(backup, target, ended, zone, words)
    }
}

/// Those of the backups that lead there.
fn usable(ways: &[(&Backup, Option<String>)]) -> Vec<String> {
    ways.iter().filter(|(_, why_not)| why_not.is_none()).map(|(backup, _)| backup.id.clone()).collect()
}

/// Plans how a recovery that there is gets to another target: from its own base backup and archives, so that no source
/// has to be given again.
///
/// # Errors
/// When there is no such recovery, or the target cannot be reached from its backup.
pub fn plan_retarget(
    engine: &Engine,
    id: &str,
    target: &Target,
    zone: Zone,
    cancel: &Cancel,
    progress: &dyn Fn(u64),
) -> Result<(Plan, Approach)> {
    let recovery = engine.recoveries().load(id)?;
    let current = recovery.plan.as_ref().ok_or_else(|| {
        Error::failed("journal-empty", format!("the journal of {id} has no plan: nothing was done yet"))
    })?;
    with_preparation(engine, current, cancel, progress, |preparation| {
        Ways { engine, preparation, recovery: &recovery, current }.plan(target, zone)
    })
}

/// The code of the error for a target before the end of a base backup.
const BEFORE_BACKUP_END: &str = "target-before-backup-end";
const TIMELINE_UNREACHABLE: &str = "timeline-unreachable";

/// `earliest`: the options that stop at its end.
fn before_backup_end(
    backup: &Backup,
    target: &str,
    ended: Option<Timestamp>,
    zone: Zone,
    earliest: Vec<String>,
) -> Error {
    let at = ended.or(backup.finished_at);
    let ended = ended.or(backup.finished_at).map(|at| at.in_zone(zone));
    let end = match (backup.stop_lsn, ended) {
        (Some(lsn), Some(at)) => format!("{at}, LSN {lsn}"),
        (Some(lsn), None) => format!("LSN {lsn}"),
        (None, Some(at)) => at,
        (None, None) => "an unknown place".to_owned(),
    };
    Error::new(
        ErrorKind::Unreachable,
        BEFORE_BACKUP_END,
        format!("the target lies before the end of the base backup {}: {target}", backup.id),
    )
    .because(format!("the backup ended at {end}, and nothing before that can be recovered from it"))
    .hint(format!(
        "choose a later target: the earliest from this backup is {}; or give an older base backup with --backups",
        in_shell(&earliest)
    ))
    .reachable(backup.stop_lsn.map(|lsn| Reachable { target: earliest, lsn, at }))
}

/// Offers the last place that recovery comes to: behind the last record, and behind the last transaction. `reached`:
/// where the data became consistent, and where the last record starts.
fn offer_the_last(error: Error, unreachable: &Unreachable, path: &TimelinePath, reached: Option<(Lsn, Lsn)>) -> Error {
    let (Unreachable::NotReached { last, .. }, Some((consistent, record))) = (unreachable, reached) else {
        return error;
    };
    let options = |kind, lsn| {
        let timeline = path.timeline_at(lsn).unwrap_or(path.last());
        Target { timeline: TimelineChoice::Number(timeline), ..Target::new(kind) }.to_options()
    };
    let words = options(TargetKind::Lsn(record), record);
    let ended = last.filter(|place| place.lsn >= consistent);
    let transaction = ended.and_then(|place| Some(options(TargetKind::Xid(place.xid?), place.lsn)));
    let offered = match transaction {
        Some(transaction) => format!(
            "the last transaction that can be reached is {}, the end of WAL {}",
            in_shell(&transaction),
            in_shell(&words)
        ),
        None => format!("the end of WAL can be reached with {}", in_shell(&words)),
    };
    let hint = match &error.report().hint {
        Some(hint) => format!("{hint}; {offered}"),
        None => offered,
    };
    let at = ended.and_then(|place| place.at);
    error.hint(hint).reachable(Some(Reachable { target: words, lsn: record, at }))
}

/// Options as they are typed.
fn in_shell(words: &[String]) -> String {
    words.iter().map(|word| shell_quote(word)).collect::<Vec<_>>().join(" ")
}

/// Adds the restore points that there are, those whose names are most like the one that was asked for first.
fn name_the_nearest(error: Error, asked: &str, names: &[String]) -> Error {
    const NAMED: usize = 10;
    let mut known: Vec<&String> = names.iter().collect();
    known.sort_unstable();
    known.dedup();
    if known.is_empty() {
        return error.because("there is no restore point in it");
    }
    let likeness = |name: &str| strsim::jaro_winkler(asked, name);
    known.sort_by(|a, b| likeness(b).total_cmp(&likeness(a)));
    let shown = |name: &str| {
        name.chars()
            .map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() })
            .collect::<String>()
    };
    let listed = known.iter().take(NAMED).map(|name| format!("“{}”", shown(name))).collect::<Vec<_>>().join(", ");
    let more = match known.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more; “walback points --kind restore-point” lists them"),
    };
    let error = error.because(format!("the restore points in it are: {listed}{more}"));
    // WAL that was never archived may well have the very name.
    let has_more = error.report().hint.as_deref().is_some_and(|hint| hint.starts_with(ADD_UNARCHIVED));
    match known.first().filter(|name| likeness(name) > 0.7 && !has_more) {
        Some(nearest) => error.hint(format!("{DID_YOU_MEAN} “{nearest}”?")),
        None => error,
    }
}

/// The code of the error for a target that WAL does not come to.
const NOT_REACHED: &str = "target-not-reached";
const DID_YOU_MEAN: &str = "did you mean";
const ADD_ARCHIVE: &str = "add the archive that has the missing segments with another --wal";
const GOOD_COPY: &str = "give an archive with a good copy of the segment as the first --wal";

/// Whether this says how a restore point is really called.
fn is_mistyped(error: &Error) -> bool {
    error.report().hint.as_deref().unwrap_or_default().starts_with(DID_YOU_MEAN)
}

/// Whether this says that WAL is missing or broken, and goes on behind that place.
fn stops_at_gap(error: &Error) -> bool {
    let hint = error.report().hint.as_deref().unwrap_or_default();
    hint.starts_with(ADD_ARCHIVE) || hint.starts_with(GOOD_COPY)
}

/// The end of WAL was asked for, and something broken hides it.
fn broken_midway(path: &TimelinePath, cause: &EndCause, last: Lsn) -> Error {
    let timeline = TimelineChoice::Number(path.timeline_at(last).unwrap_or(path.last()));
    let words = Target { timeline, ..Target::new(TargetKind::Lsn(last)) }.to_options();
    Error::new(
        ErrorKind::Unreachable,
        "wal-broken",
        format!("the WAL of timeline {} is broken, and the archive has more behind that place", path.last()),
    )
    .because(end_in_words(cause))
    .hint(format!("{GOOD_COPY}; or stop at the last record before that place with {}", in_shell(&words)))
    .reachable(Some(Reachable { target: words, lsn: last, at: None }))
}

fn end_in_words(cause: &EndCause) -> String {
    match cause {
        EndCause::NoSegment(name) => format!("segment {name} is missing"),
        EndCause::EndOfWal(name, reason) => format!("in segment {name}: {reason}"),
        EndCause::Damaged(_, why) => why.clone(),
        EndCause::Enough => "it was not read further".to_owned(),
    }
}
