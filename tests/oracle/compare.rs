//! Asks Walback for its prediction, lets the server do it, and says what differs.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;
use walback::core::{Lsn, Target, TargetKind, TimelineChoice, Timestamp};
use walback::plan::settings::TARGET_SETTINGS;

use crate::past::{MOST_CONNECTIONS, Past};
use crate::recovery::{Bench, End, Happened, Settings, Stop};
use crate::support::{Answer, ask, walback};
use crate::targets::{Aim, Ground};

const NOT_REACHED: &str = "recovery ended before configured recovery target was reached";
const NOT_CONSISTENT: &str = "requested recovery stop point is before consistent recovery point";

/// Whether plans know that the server promotes instead of pausing where an overflowed snapshot keeps it from taking
/// connections. Where they do not, it is counted as known.
const PLANS_KNOW_PROMOTIONS: bool = true;

/// Whether plans set `max_connections` as high as a server in recovery needs it. Where they do not, it is set for them.
const PLANS_RAISE_SETTINGS: bool = true;

/// In what the answer of `locate` has to be that of `plan`: all that says where recovery stops.
const LOCATED: [&str; 13] = [
    "timeline",
    "path",
    "stop",
    "lsn",
    "replay_end",
    "xid",
    "at",
    "name",
    "consistent_at",
    "last_kept",
    "first_lost",
    "ambiguous",
    "backups",
];

/// What came out for one target.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// What to count it as.
    pub(crate) counts: Vec<String>,
    /// Each a way in which the server did something else.
    pub(crate) differences: Vec<String>,
    /// Whether the server did what plans do not take into account yet.
    is_known: bool,
    /// What was asked for.
    options: String,
    /// What Walback said.
    predicted: String,
    /// What the servers said.
    logs: Vec<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.options)?;
        for difference in &self.differences {
            writeln!(f, "  DIFFERS: {difference}")?;
        }
        write!(f, "predicted: {}", self.predicted)?;
        for log in &self.logs {
            write!(f, "\n--- log\n{}", log.trim_end())?;
        }
        Ok(())
    }
}

impl Verdict {
    fn differs(&mut self, what: &str, predicted: impl fmt::Debug, happened: impl fmt::Debug) {
        self.differences.push(format!("{what}: predicted {predicted:?}, PostgreSQL {happened:?}"));
    }

    pub(crate) fn same<T: PartialEq + fmt::Debug>(&mut self, what: &str, predicted: T, happened: T) {
        if predicted != happened {
            self.differs(what, predicted, happened);
        }
    }

    fn count(&mut self, what: &str) {
        self.counts.push(what.to_owned());
    }

    fn heard(&mut self, happened: &Happened) {
        self.logs.push(happened.log.clone());
    }

    /// Whether the server did what plans do not take into account yet, where it should have ended like that.
    fn is_known(&mut self, end: &End, happened: &Happened) -> bool {
        let is_open = !happened.log.contains("ready to accept read");
        self.is_known = !PLANS_KNOW_PROMOTIONS && is_open && *end == End::Paused && happened.end == End::Promoted;
        if self.is_known {
            self.count("KNOWN: promoted instead of paused");
        }
        self.is_known
    }
}

/// Judges predictions about one past.
pub(crate) struct Judge<'a> {
    past: &'a Past,
    ground: &'a Ground,
    /// The backups that were unpacked already.
    unpacked: BTreeMap<String, PathBuf>,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(past: &'a Past, ground: &'a Ground) -> Judge<'a> {
        Judge { past, ground, unpacked: BTreeMap::new() }
    }

    /// Judges the prediction for one target; `whole` also by Walback's own recovery.
    #[track_caller]
    pub(crate) fn judge(&mut self, aim: &Aim, whole: bool) -> Verdict {
        let words = words(aim);
        let place = self.past.directory.path().join("rec");
        let mut plan = walback(&self.past.directory);
        self.source(&mut plan).arg("plan").args(&words).arg("--into").arg(&place);
        self.server_options(&mut plan);
        let plan = ask(&mut plan);
        let mut locate = walback(&self.past.directory);
        self.source(&mut locate).arg("locate").args(&words);
        let locate = ask(&mut locate);
        let mut verdict = Verdict { options: words.join(" "), predicted: plan.shown.clone(), ..Verdict::default() };
        verdict.count(kind(&aim.target.kind));
        match plan.status {
            0 => self.stops(aim, &plan.json()["plan"], &locate, &mut verdict),
            4 => self.refuses(aim, &plan, &locate, &mut verdict),
            status => verdict.differences.push(format!("exit status {status}")),
        }
        if whole && plan.status == 0 && !verdict.is_known {
            self.restores(&words, &plan.json()["plan"], &mut verdict);
        }
        verdict
    }

    pub(crate) fn source<'c>(&self, command: &'c mut std::process::Command) -> &'c mut std::process::Command {
        command.arg("--json").arg("--backups").arg(&self.past.backups).arg("--wal").arg(&self.past.archive)
    }

    pub(crate) fn server_options(&self, command: &mut std::process::Command) {
        command.arg("--bin-dir").arg(&self.past.server.bin_dir);
        if !PLANS_RAISE_SETTINGS {
            command.arg("--set").arg(format!("max_connections={MOST_CONNECTIONS}"));
        }
        command.arg("--set").arg("fsync=off");
    }

    /// The backup of that name, unpacked.
    #[track_caller]
    pub(crate) fn bench(&mut self, id: &str) -> Bench<'a> {
        let past = self.past;
        let unpacked = self.unpacked.entry(id.to_owned()).or_insert_with(|| {
            let (_, backup) = past.taken.iter().find(|(name, _)| name == id).unwrap();
            let into = past.directory.create(&format!("unpacked-{id}"));
            backup.unpack(&into);
            into
        });
        Bench { directory: &past.directory, server: &past.server, unpacked: unpacked.clone() }
    }

    /// A stop was predicted.
    #[track_caller]
    fn stops(&mut self, aim: &Aim, plan: &Value, locate: &Answer, verdict: &mut Verdict) {
        let resolved = &plan["resolved"];
        verdict.predicted = format!("from {} {resolved:#}\nsettings {:#}", plan["backup"]["id"], plan["settings"]);
        if locate.status != 0 {
            verdict.differences.push(format!("locate says something else than plan: {}", locate.shown));
        } else {
            let located = &locate.json()["resolved"];
            for field in LOCATED {
                verdict.same(&format!("locate's {field}"), &resolved[field], &located[field]);
            }
        }
        let settings: Settings = plan["settings"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        let id = plan["backup"]["id"].as_str().unwrap().to_owned();
        let lost = resolved["first_lost"]["xid"].as_u64().map(|xid| xid as u32);
        let happened = self.bench(&id).recover(&settings, lost);
        verdict.heard(&happened);
        compare(resolved, &settings, &happened, verdict);
        let raw = self.raw_target(aim, &id);
        let is_told = |(name, value): &(String, String)| settings.iter().any(|(n, v)| n == name && v == value);
        if !raw.iter().filter(|(name, _)| name != "recovery_target_timeline").all(is_told) {
            self.translated(aim, &id, resolved, verdict);
        }
    }

    /// The server is told something else than what was asked for: what does it do with the latter?
    #[track_caller]
    fn translated(&mut self, aim: &Aim, id: &str, resolved: &Value, verdict: &mut Verdict) {
        verdict.count("translated");
        let happened = self.recover_raw(aim, id);
        verdict.heard(&happened);
        match aim.target.kind {
            // Without a target it goes on to the end, and promotes.
            TargetKind::Latest => {
                verdict.same("the end of the raw target", End::Promoted, happened.end.clone());
                verdict.same("the raw target's replay end", lsn(resolved, "replay_end"), happened.replay_end);
                verdict.same("the raw target's last record", lsn(resolved, "lsn"), happened.redo_done);
            }
            TargetKind::Xid(_) if happened.stop.is_none() => {
                verdict.same("the end of the raw target", End::Fatal(NOT_REACHED.to_owned()), happened.end.clone());
            }
            _ => {}
        }
    }

    /// It was predicted that the target cannot be reached: from that backup, or from any.
    #[track_caller]
    fn refuses(&mut self, aim: &Aim, plan: &Answer, locate: &Answer, verdict: &mut Verdict) {
        let code = error_code(plan);
        verdict.same("what locate says", &code, &error_code(locate));
        verdict.count(&format!("refused: {code}"));
        let all = || self.ground.catalog.usable_backups().map(|backup| backup.id.clone()).collect();
        let backups: Vec<String> = aim.backup.clone().map_or_else(all, |id| vec![id]);
        let only = backups.len() == 1;
        let aim = &self.at_the_whole(aim, &code, verdict);
        for id in backups {
            let happened = self.recover_raw(aim, &id);
            verdict.heard(&happened);
            self.compare_refusal(aim, &id, only.then_some(&*code), &happened, verdict);
        }
    }

    /// At a part of a transaction the server never stops; that it lies before the end of the backup is so where the
    /// whole ended there.
    fn at_the_whole(&self, aim: &Aim, code: &str, verdict: &mut Verdict) -> Aim {
        let TargetKind::Xid(part) = aim.target.kind else { return aim.clone() };
        match self.ground.transaction_of(part).filter(|_| code == "target-before-backup-end") {
            Some(whole) => {
                verdict.count("trap: a subtransaction from before the backup's end");
                Aim { target: Target { kind: TargetKind::Xid(whole), ..aim.target.clone() }, ..aim.clone() }
            }
            None => aim.clone(),
        }
    }

    /// What the server does with a target from a backup for which it was refused, with `code` if that is told.
    fn compare_refusal(&self, aim: &Aim, id: &str, code: Option<&str>, happened: &Happened, verdict: &mut Verdict) {
        let backup = self.ground.catalog.backup(id).unwrap();
        let fatal = match &happened.end {
            End::Fatal(words) => words.as_str(),
            _ => "",
        };
        let never_there = fatal.contains("is not a child of this server's history")
            // The backup's own timeline is none that the wanted one came from (`tliOfPointInHistory` and
            // `tliSwitchPoint`, src/backend/access/transam/timeline.c, 13 to 18).
            || fatal.contains("is not in this server's history")
            // Its checkpoint is not on that timeline.
            || fatal.contains("could not locate required checkpoint record")
            // On the way to the wanted timeline a server was shut down before this backup had ended (`xlog_redo`, xlog.c).
            || fatal.contains("online backup was canceled")
            || fatal.contains("WAL ends before end of online backup")
            || fatal.contains("WAL ends before consistent recovery point");
        // Where the wanted timeline begins in the very place of the backup's checkpoint, or behind it, the server finds a
        // checkpoint there, and replays what is not this backup's WAL; but the end of the backup is not in it.
        let goes_astray = happened.consistent.is_none() && (fatal == NOT_REACHED || fatal == NOT_CONSISTENT);
        let is_right = match code {
            None => fatal == NOT_REACHED || fatal == NOT_CONSISTENT || never_there,
            Some("target-not-reached") => fatal == NOT_REACHED,
            Some("target-before-backup-end") => fatal == NOT_CONSISTENT,
            Some("timeline-unreachable") => never_there || goes_astray,
            Some(_) => false,
        };
        if is_right {
            return;
        }
        // The server does not know that the time is from before the end of the backup. It stops later, or never.
        if let (TargetKind::Time(time), None | Some("target-before-backup-end")) = (&aim.target.kind, code)
            && backup.finished_at.or(backup.started_at).is_some_and(|ended| *time < ended)
            && (matches!(happened.stop, Some(Stop::Transaction { before: true, .. })) || fatal == NOT_REACHED)
        {
            return verdict.count("trap: a time before the backup's end");
        }
        verdict.differences.push(format!(
            "from {id}: refused ({}), but PostgreSQL: {:?}, {:?}",
            code.unwrap_or("all"),
            happened.stop,
            happened.end
        ));
    }

    /// What PostgreSQL is told by somebody who has only its documentation.
    fn raw_target(&self, aim: &Aim, id: &str) -> Settings {
        let target = match &aim.target.kind {
            TargetKind::Time(time) => Some(("recovery_target_time", time.for_server())),
            TargetKind::Xid(xid) => Some(("recovery_target_xid", xid.to_string())),
            TargetKind::Lsn(lsn) => Some(("recovery_target_lsn", lsn.to_string())),
            TargetKind::Name(name) => Some(("recovery_target_name", name.as_str().to_owned())),
            TargetKind::Immediate => Some(("recovery_target", "immediate".to_owned())),
            TargetKind::Latest => None,
        };
        let backup = self.ground.catalog.backup(id).unwrap();
        let timeline = match aim.target.timeline {
            TimelineChoice::Current => "current".to_owned(),
            TimelineChoice::Number(id) => id.to_string(),
            // PostgreSQL's own “latest” may be one that this backup does not lead to.
            TimelineChoice::Latest => self.ground.catalog.newest_reachable(backup).unwrap().to_string(),
        };
        let settings = [
            ("recovery_target_inclusive", if aim.target.inclusive { "on" } else { "off" }.to_owned()),
            ("recovery_target_timeline", timeline),
        ];
        // The backup of a promoted copy has a target in its configuration: all others are to be taken back first.
        let wanted = target.as_ref().map_or("", |(name, _)| name);
        let none = TARGET_SETTINGS.into_iter().filter(|name| *name != wanted).map(|name| (name, String::new()));
        none.chain(target).chain(settings).map(|(name, value)| (name.to_owned(), value)).collect()
    }

    #[track_caller]
    fn recover_raw(&mut self, aim: &Aim, id: &str) -> Happened {
        let settings = [
            ("lc_messages", "C".to_owned()),
            ("log_line_prefix", "%m [%p] %b %e: ".to_owned()),
            ("archive_mode", "off".to_owned()),
            ("max_connections", MOST_CONNECTIONS.to_string()),
            ("restore_command", restore_command(&self.past.archive)),
        ];
        let mut settings: Settings = settings.map(|(name, value)| (name.to_owned(), value)).into();
        settings.extend(self.raw_target(aim, id));
        self.bench(id).recover(&settings, None)
    }

    /// Walback's own recovery, from its command line to its end.
    #[track_caller]
    fn restores(&self, words: &[String], plan: &Value, verdict: &mut Verdict) {
        verdict.count("(by walback restore)");
        let place = self.past.directory.path().join("copy");
        let mut restore = walback(&self.past.directory);
        self.source(&mut restore).args(["restore", "--yes", "--events"]).args(words).arg("--into").arg(&place);
        self.server_options(&mut restore);
        let answer = ask(&mut restore);
        if answer.status != 0 {
            verdict.differences.push(format!("walback restore: {}", answer.shown));
        } else {
            let recovery = answer.recovery();
            verdict.same("walback restore's prediction", &plan["resolved"], &recovery["resolved"]);
            verdict.same("matches_prediction", &Value::Bool(true), &recovery["matches_prediction"]);
        }
        ask(walback(&self.past.directory).args(["--json", "discard", "copy", "--yes"]));
        let _ = std::fs::remove_dir_all(&place);
    }
}

/// A `restore_command` that puts the other timelines' files of a segment into `pg_wal` too: without them the server
/// cannot replay every beginning of a timeline, which is not the target's fault.
fn restore_command(archive: &Path) -> String {
    let archive = archive.display();
    format!(
        "f=%f; case $f in *.*) ;; *) for o in {archive}/????????${{f#????????}}; do \
         test -f pg_wal/${{o##*/}} || cp $o pg_wal/; done;; esac; cp {archive}/$f \"%p\""
    )
}

/// The words of a command line.
pub(crate) fn words(aim: &Aim) -> Vec<String> {
    let mut words = aim.target.to_options();
    words.extend(aim.backup.iter().flat_map(|id| ["--backup".to_owned(), id.clone()]));
    words
}

fn kind(kind: &TargetKind) -> &'static str {
    match kind {
        TargetKind::Time(_) => "time",
        TargetKind::Xid(_) => "xid",
        TargetKind::Lsn(_) => "lsn",
        TargetKind::Name(_) => "name",
        TargetKind::Immediate => "immediate",
        TargetKind::Latest => "latest",
    }
}

fn error_code(answer: &Answer) -> String {
    let parsed: Option<Value> = [&answer.out, &answer.err].into_iter().find_map(|text| serde_json::from_str(text).ok());
    parsed.and_then(|value| Some(value["error"]["code"].as_str()?.to_owned())).unwrap_or_else(|| answer.shown.clone())
}

fn lsn(resolved: &Value, field: &str) -> Option<Lsn> {
    resolved[field].as_str()?.parse().ok()
}

/// A time in JSON, in microseconds since 1970.
fn micros(value: &Value) -> Option<i64> {
    serde_json::from_value::<Timestamp>(value.clone()).ok().map(Timestamp::unix_micros)
}

/// What was predicted, and what a server did with the settings of the plan.
pub(crate) fn compare(resolved: &Value, settings: &Settings, happened: &Happened, verdict: &mut Verdict) {
    let setting = |name: &str| settings.iter().rfind(|(n, _)| n == name).map_or("", |(_, value)| value.as_str());
    let end = match setting("recovery_target_action") {
        "promote" => End::Promoted,
        "shutdown" => End::ShutDown,
        _ => End::Paused,
    };
    if !verdict.is_known(&end, happened) {
        verdict.same("the end", end, happened.end.clone());
    }
    compare_stop(resolved, &setting, happened, verdict);
    verdict.same("consistent at", lsn(resolved, "consistent_at"), happened.consistent);
    if happened.replay_end.is_some() {
        verdict.same("replay end", lsn(resolved, "replay_end"), happened.replay_end);
    }
    // Where it does not stop after a record, the server tells the one that it had read ahead.
    if happened.redo_done.is_some() && (resolved["stop"] == "after" || resolved["stop"] == "end-of-wal") {
        verdict.same("last record", lsn(resolved, "lsn"), happened.redo_done);
    }
    if let Some(last) = happened.last_committed {
        verdict.same("last kept", resolved["last_kept"]["xid"].as_u64().unwrap_or(0), last.into());
    }
    if happened.has_lost == Some(true) {
        verdict.differs("first lost", &resolved["first_lost"], "committed");
    }
}

/// The side, and at what.
fn compare_stop<'s>(resolved: &Value, setting: &dyn Fn(&str) -> &'s str, happened: &Happened, verdict: &mut Verdict) {
    let before = resolved["stop"] == "before";
    let is_set = |name: &str| !setting(name).is_empty();
    let (at, xid) = (micros(&resolved["at"]), resolved["xid"].as_u64());
    let expected = if is_set("recovery_target_time") || is_set("recovery_target_xid") {
        let transaction = |(xid, at)| Stop::Transaction { before, xid, at };
        xid.map(|xid| xid as u32).zip(at).map(transaction)
    } else if is_set("recovery_target_lsn") {
        lsn(resolved, "lsn").map(|lsn| Stop::Lsn { before, lsn })
    } else if is_set("recovery_target_name") {
        let name = resolved["name"].as_str().map(str::to_owned);
        name.zip(at).map(|(name, at)| Stop::RestorePoint { name, at })
    } else {
        Some(Stop::Consistency)
    };
    verdict.same("the stop", expected.as_ref(), happened.stop.as_ref());
    let side = match (&happened.stop, resolved["stop"].as_str()) {
        (Some(Stop::Consistency), side) => side == Some("consistency"),
        (Some(Stop::RestorePoint { .. }), side) => side == Some("after"),
        (Some(Stop::Transaction { before, .. } | Stop::Lsn { before, .. }), side) => {
            *before == (side == Some("before"))
        }
        (None, _) => true,
    };
    if !side {
        verdict.differs("the side", &resolved["stop"], &happened.stop);
    }
}
