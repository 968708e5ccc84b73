//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::catalog::PointKind;
use crate::config::{Colour, Overrides};
use crate::core::time::{BadTime, Timestamp, parse_end, parse_time, same_time_of_day};
use crate::core::{Action, Lsn, RestorePointName, Target, TargetKind, TimelineChoice, TimelineId, Xid, Zone};
use crate::error::{Error, Result};
use crate::plan::checklist::ItemId;
use crate::plan::{Pristine, StepTo};

/// Walks a PostgreSQL cluster back to its last good moment.
///
/// Without a command it opens the interface: base backups, timelines and every place where recovery can stop. A PATH is a
/// directory below which base backups and WAL archives are looked for, short for --in PATH.
/// Nothing is changed before you say so, sources are only ever read, and recoveries go into new directories.
#[derive(Debug, Parser)]
#[command(name = "walback", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
#[command(override_usage = "walback [OPTIONS] [PATH]...\n       walback [OPTIONS] [PATH]... <COMMAND>")]
pub struct Cli {
    /// What holds for every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Option<Command>,
}

const EXAMPLES: &str = "\
Examples:
  walback demo                                             try everything on a cluster of its own
  walback /backups                                         find backups and archives there, open the interface
  walback init /backups                                    say what is there and why, write a configuration
  walback --backups /backups/base --wal /backups/wal       open the interface
  walback --plain …                                        the same as lines, for screen readers and pipes
  walback … backups                                        what there is to recover from
  walback … suspects                                       which transactions destroyed data
  walback … plan --time '14:29' --into /srv/restore        what a recovery would do, and whether it would work
  walback … restore --name before_deploy --into /srv/restore
  walback promote restore                                  end the paused recovery “restore”";

const POINTS_EXAMPLES: &str = "\
Examples:
  walback … points --from '14:00' --to '14:30'             what ended in this half hour
  walback … points --kind restore-point                    the restore points, with their names
  walback … --json points | jq 'select(.drops > 0)'        transactions that dropped something";

const SUSPECTS_EXAMPLES: &str = "\
Examples:
  walback … suspects                                       what destroyed data, the worst first
  walback … suspects --from '2 h ago' --rows 100           smaller deletes and updates too
  walback … restore --xid 746 --exclusive --timeline 1 --into /srv/restore
                                                           stop just before one, with the options that it has";

const LOCATE_EXAMPLES: &str = "\
Examples:
  walback … locate --time '2024-10-02 14:30'               which transaction is the last one before that
  walback … locate --xid 746 --exclusive                   what stopping just before this one keeps
  walback … --json locate --name before_deploy             the same for a script";

const RETARGET_EXAMPLES: &str = "\
Examples:
  walback retarget shop --time '14:31'                     another time
  walback retarget shop --next                             just after the next commit
  walback retarget shop --previous                         just before the last commit that is there now
  walback --json retarget shop --name before_deploy --dry-run";

const CHECK_EXAMPLES: &str = "\
Examples:
  walback … check                                          read everything
  walback … check --quick                                  names, sizes and headers: seconds for a large archive
  walback … check --deep                                   base backups too, held against their manifests
  walback … check --quick --format nagios                  one line, and Nagios' exit status
  walback … check --format prometheus --output walback.prom
  walback … --json check | jq '.findings[] | select(.severity == \"error\")'";

const SQL_EXAMPLES: &str = "\
Examples:
  walback sql 'select count(*) from orders' --database shop
  walback --json sql 'table orders' restore --database shop --rows 10";

const DRILL_EXAMPLES: &str = "\
Examples:
  walback --source shop drill                              the newest base backup, to the end of WAL
  walback --source shop drill --backup oldest --immediate  does the oldest one restore at all
  walback --source shop drill --backup random --random-point
  walback --source shop drill --report /srv/www/drills/    with the report where others find it";

const CHECKLIST_EXAMPLES: &str = "\
Examples:
  walback checklist shop                                   what is left to do, and what each would change
  walback checklist shop --do statistics --do archiving
  walback checklist shop --do base-backup --into /backups/after
  walback checklist shop --skip integrity                  it is not wanted, or was done by hand";

const INIT_EXAMPLES: &str = "\
Examples:
  walback init /backups                                    writes ./walback.yaml
  walback init /backups /srv/old-server/data --output /etc/walback/walback.yaml
  walback init /backups --output -                         only shows what it would write
  walback --json init /backups | jq '.found.sources[].name'";

/// What holds for every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Configuration file [default: $WALBACK_CONFIG, ./walback.yaml, ~/.config/walback/walback.yaml,
    /// /etc/walback/walback.yaml].
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Which of the configured sources.
    #[arg(long, global = true, value_name = "NAME")]
    pub source: Option<String>,
    /// Directory with base backups, or one itself. May be repeated.
    #[arg(long, global = true, value_name = "DIR")]
    pub backups: Vec<PathBuf>,
    /// Directory with archived WAL. May be repeated; asked in this order.
    #[arg(long, global = true, value_name = "DIR")]
    pub wal: Vec<PathBuf>,
    /// Command that fetches one file of archived WAL, as a restore_command: 'wal-g wal-fetch %f %p'. Asked after the
    /// directories, segment by segment. May be repeated.
    #[arg(long, global = true, value_name = "CMD")]
    pub wal_command: Vec<String>,
    /// Find base backups and WAL archives below this directory. May be repeated; the same as a PATH before the command.
    #[arg(long = "in", global = true, value_name = "PATH")]
    pub below: Vec<PathBuf>,
    /// Zone in which times are read and shown, like Europe/Berlin [default: the system's].
    #[arg(long, global = true, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Change nothing at all.
    #[arg(long, global = true)]
    pub read_only: bool,
    /// Print JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
    /// The interface as lines instead of a screen: for screen readers, serial consoles, pipes.
    #[arg(long, global = true)]
    pub plain: bool,
    /// When to use colour.
    #[arg(long, global = true, value_enum, default_value = "auto", value_name = "WHEN")]
    pub color: Color,
}

/// When to use colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl From<Color> for Colour {
    fn from(color: Color) -> Colour {
        match color {
            Color::Auto => Colour::Auto,
            Color::Always => Colour::Always,
            Color::Never => Colour::Never,
        }
    }
}

impl Global {
    /// The part that goes before the configuration file.
    #[must_use]
    pub fn overrides(&self) -> Overrides {
        Overrides {
            file: self.config.clone(),
            source: self.source.clone(),
            backups: self.backups.clone(),
            wal: self.wal.clone(),
            wal_commands: self.wal_command.clone(),
            time_zone: self.time_zone.clone(),
            read_only: self.read_only,
            colour: self.color.into(),
            plain: self.plain,
        }
    }
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a small real cluster with an accident, and recover it.
    ///
    /// Needs PostgreSQL's server programs and nothing else. Makes a cluster with a shop's database, a base backup,
    /// traffic, a restore point, a second timeline, and an accident: a DELETE without WHERE and a DROP TABLE. Then it
    /// opens the interface on it; with --auto it recovers to just before the accident and prints what happened.
    Demo {
        /// Make it below this new directory and leave it there [default: a temporary one, removed at the end].
        #[arg(long, value_name = "DIR")]
        into: Option<PathBuf>,
        /// Recover without a terminal, and print the story.
        #[arg(long)]
        auto: bool,
        /// Where the server's programs are [default: looked for].
        #[arg(long, value_name = "DIR")]
        bin_dir: Option<PathBuf>,
    },
    /// List base backups.
    Backups,
    /// List timelines with what the archive has of each.
    Timelines,
    /// List everything that recovery can stop at, in WAL's order.
    ///
    /// Commits, rollbacks, restore points, ends of backups and of recovery, and where WAL ends. Prints as it reads; with
    /// --json one object a line.
    #[command(after_help = POINTS_EXAMPLES)]
    Points {
        /// Which part of the archive.
        #[command(flatten)]
        window: WindowArgs,
        /// Only points of this kind. May be repeated; prepare and checkpoint are listed only where they are named.
        #[arg(long, value_enum, value_name = "K")]
        kind: Vec<KindArg>,
    },
    /// List transactions that destroyed data, the worst first.
    ///
    /// Finds dropped and truncated relations, deletes and updates of many rows, relations that were written anew, and
    /// dropped databases. Each has the options that make a recovery stop just before it.
    #[command(after_help = SUSPECTS_EXAMPLES)]
    Suspects {
        /// Which part of the archive.
        #[command(flatten)]
        window: WindowArgs,
        /// List deletes and updates of at least so many rows [default: 1000].
        #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
        rows: Option<u64>,
    },
    /// Say where in WAL a recovery to a target would stop, what it keeps and what it loses.
    ///
    /// Needs no PostgreSQL on this machine, and changes nothing. Exit status 4 where the target cannot be reached.
    #[command(after_help = LOCATE_EXAMPLES)]
    Locate {
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
        /// From this base backup [default: the best that leads to the target].
        #[arg(long, value_name = "ID")]
        backup: Option<String>,
    },
    /// Look for what is missing or damaged in the archive and the backups, and say what that means.
    ///
    /// Reads every segment that was not read before. Exit status 3 where it found errors.
    #[command(after_help = CHECK_EXAMPLES)]
    Check(CheckArgs),
    /// Say everything that a recovery would do, and whether it would work.
    ///
    /// Changes nothing. Exit status 3 where a finding forbids the recovery, 4 where the target cannot be reached.
    Plan {
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
        /// From what, into where.
        #[command(flatten)]
        restore: RestoreArgs,
        /// The same as a script.
        #[command(flatten)]
        script: ScriptArgs,
    },
    /// Recover into a new directory, up to the target.
    ///
    /// Unpacks a base backup, starts a server of its own on it, isolated, and has it replay WAL until it is paused
    /// at the target. Promote it then, retarget it, or discard it.
    Restore {
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
        /// From what, into where.
        #[command(flatten)]
        restore: RestoreArgs,
        /// How to ask and tell.
        #[command(flatten)]
        act: ActArgs,
    },
    /// List the recoveries that this machine knows.
    Recoveries,
    /// Show where one recovery stands.
    Status {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// Print its events as JSON lines, those to come too, until it comes to rest.
        #[arg(long)]
        events: bool,
    },
    /// Go on with a recovery that was interrupted, that failed, or whose server was stopped.
    Resume {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// Print events as JSON lines on standard output, the recovery at the end.
        #[arg(long)]
        events: bool,
    },
    /// Take a recovery to another target: as it is where its copy allows that, or from its base backup again.
    ///
    /// Says which way it takes, why and how long, before it is confirmed. A copy can go on, and it can go back as far as
    /// its files do not have what was replayed since.
    #[command(after_help = RETARGET_EXAMPLES)]
    Retarget {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
        /// To the commit beside it.
        #[command(flatten)]
        step: StepArgs,
        /// Say which way it would take, why and how long, and change nothing.
        #[arg(long)]
        dry_run: bool,
        /// How to ask and tell.
        #[command(flatten)]
        act: ActArgs,
    },
    /// End a paused recovery: its server takes writes, on a new timeline. There is no way back.
    Promote {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// How to ask and tell.
        #[command(flatten)]
        act: ActArgs,
    },
    /// Carry out the checks of the configuration on a recovered server.
    ///
    /// Each is a query with what its first value should be. Exit status 3 where one fails.
    Checks {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
    },
    /// Ask a recovered server one query, which can change nothing.
    #[command(after_help = SQL_EXAMPLES)]
    Sql(SqlArgs),
    /// Go through what is left to do after promotion: statistics, archiving, a new base backup, letting clients in.
    ///
    /// Without --do and --skip it lists what there is, with every change that it would make. What Walback set to keep
    /// the copy by itself is given back item by item; the server is restarted for it, and if it does not start so,
    /// everything is as before.
    #[command(after_help = CHECKLIST_EXAMPLES)]
    Checklist {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// What to do.
        #[command(flatten)]
        checklist: ChecklistArgs,
        /// How to ask and tell.
        #[command(flatten)]
        act: ActArgs,
    },
    /// Stop a recovery's server, and leave everything else.
    Stop {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
    },
    /// Stop a recovery's server, and remove what the recovery made.
    Discard {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// How to ask and tell.
        #[command(flatten)]
        act: ActArgs,
    },
    /// Restore a base backup beside everything else, check it, measure, report, and remove it again.
    ///
    /// Without a target it goes to the end of WAL. Exit status 0 where it passed, 3 where it failed, 130 where it was
    /// interrupted; whatever it came to is in its report. What a drill has left that was killed, the next one removes.
    #[command(after_help = DRILL_EXAMPLES, mut_group("where", |group| group.required(false)))]
    Drill {
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
        /// From what, below where.
        #[command(flatten)]
        drill: DrillArgs,
    },
    /// List the drills that this machine knows; with --source those of that one.
    Drills {
        /// Look whether every report is there and as it was written. Exit status 3 where one is not.
        #[arg(long)]
        verify: bool,
        /// This is the SHA-256 of one of them, which was kept elsewhere: with it, none up to that one can have been made anew.
        #[arg(long, value_name = "SHA256", requires = "verify")]
        head: Option<String>,
    },
    /// Get a file of WAL for a recovering server; it runs this itself, as its restore_command.
    ///
    /// Used where cp is not enough: for archives compressed with gzip, lz4, zstd, xz or bzip2, for several, and for a
    /// .partial segment. The server runs it in the data directory, where a recovery has left what it needs to know. Takes
    /// the first whole copy, checks its name, size and header, and makes the next segments ready. Exit status 0: done.
    /// 1: no archive has it. 126 or more: an archive cannot be asked, or what it has is damaged, and recovery has to stop.
    Fetch {
        /// The recovery, or its data directory.
        #[arg(long, value_name = "ID")]
        recovery: PathBuf,
        /// What the server asks for, %f: a segment or a history file.
        file: std::ffi::OsString,
        /// Where it goes, %p.
        to: PathBuf,
    },
    /// Find base backups and WAL archives, say what was taken for what and why, and write that as a configuration file.
    ///
    /// Looks below the directories at names, at what backups say of themselves and at the headers of segments; tells
    /// clusters apart by their system identifiers, and makes a source of each. Changes nothing but the file, which it
    /// never replaces unless --force says so.
    #[command(after_help = INIT_EXAMPLES)]
    Init(InitArgs),
    /// Say what is configured.
    Config {
        /// What of it.
        #[command(subcommand)]
        what: ConfigCommand,
    },
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// What to find, and where to write it.
#[derive(Debug, Clone, Args)]
pub struct InitArgs {
    /// Directories below which it looks [default: those where backups customarily are; it says which].
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The file to write; - prints it.
    #[arg(long, short, value_name = "FILE", default_value = "walback.yaml")]
    pub output: PathBuf,
    /// Replace the file where it is there already.
    #[arg(long)]
    pub force: bool,
}

/// What of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum ConfigCommand {
    /// Print every value that is in effect, and where it comes from: a line of the file, the environment, the command
    /// line, or nowhere, so that it is the default. Passwords are masked.
    Show,
}

/// Where to stop.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
#[command(group = clap::ArgGroup::new("where").required(true).args(["time", "xid", "lsn", "name", "immediate", "latest"]))]
#[group(skip)]
pub struct TargetArgs {
    /// Keep everything committed up to this time: '2024-10-02 14:30:05+02', '10-02 14:30', 14:30 (the newest that is
    /// not to come), '20:40 New York', '8:40 pm EDT', 'yesterday 14:30', '20 min ago'.
    #[arg(long, alias = "target-time", alias = "recovery-target-time", value_name = "T", allow_hyphen_values = true)]
    pub time: Option<String>,
    /// Stop after this transaction.
    #[arg(long, alias = "target-xid", alias = "recovery-target-xid", value_name = "N")]
    pub xid: Option<Xid>,
    /// Stop after the first record that starts here or later.
    #[arg(long, alias = "target-lsn", alias = "recovery-target-lsn", value_name = "X/Y")]
    pub lsn: Option<Lsn>,
    /// Stop at the first restore point of this name.
    #[arg(long, alias = "target-name", alias = "recovery-target-name", value_name = "S", value_parser = parse_name)]
    pub name: Option<RestorePointName>,
    /// Stop as soon as the data is consistent: at the end of the base backup.
    #[arg(long)]
    pub immediate: bool,
    /// Stop at the end of WAL.
    #[arg(long)]
    pub latest: bool,
    /// Stop just before the target, not after it (time, xid, lsn).
    #[arg(long)]
    pub exclusive: bool,
    /// Along which timeline: a number, current (the backup's) or latest (the newest that the backup leads to) [default:
    /// latest; a retarget stays on the one that the recovery follows].
    #[arg(long, alias = "target-timeline", alias = "recovery-target-timeline", value_name = "N")]
    pub timeline: Option<TimelineChoice>,
    /// What the server does at the target.
    #[arg(
        long,
        alias = "target-action",
        alias = "recovery-target-action",
        value_enum,
        default_value = "pause",
        value_name = "ACTION"
    )]
    pub action: ActionArg,
}

/// To the commit beside where recovery is paused.
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Target")]
pub struct StepArgs {
    /// Stop just after the next commit.
    #[arg(long, group = "where", conflicts_with_all = ["exclusive", "timeline"])]
    pub next: bool,
    /// Stop just before the last commit that is kept now.
    #[arg(long, group = "where", conflicts_with_all = ["exclusive", "timeline"])]
    pub previous: bool,
}

impl StepArgs {
    /// The step that is asked for.
    #[must_use]
    pub fn step(self) -> Option<StepTo> {
        match (self.next, self.previous) {
            (true, _) => Some(StepTo::Next),
            (_, true) => Some(StepTo::Previous),
            _ => None,
        }
    }
}

/// What the server does at the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ActionArg {
    /// Stay there, readable, until it is told to go on.
    Pause,
    /// End recovery and take writes.
    Promote,
    /// Shut down.
    Shutdown,
}

fn parse_name(name: &str) -> std::result::Result<RestorePointName, String> {
    RestorePointName::try_from(name.to_owned()).map_err(|error| error.to_string())
}

impl TargetArgs {
    /// What the server is to do at the target.
    #[must_use]
    pub fn action(&self) -> Action {
        match self.action {
            ActionArg::Pause => Action::Pause,
            ActionArg::Promote => Action::Promote,
            ActionArg::Shutdown => Action::Shutdown,
        }
    }

    /// The target, its time read in `zone`.
    ///
    /// # Errors
    /// When the time is none, or not exactly one.
    pub fn target(&self, zone: Zone, now: Timestamp) -> Result<Target> {
        let kind = match (&self.time, self.xid, self.lsn, &self.name, self.immediate) {
            (Some(text), ..) => TargetKind::Time(read_time(text, zone, now)?),
            (_, Some(xid), ..) => TargetKind::Xid(xid),
            (_, _, Some(lsn), ..) => TargetKind::Lsn(lsn),
            (_, _, _, Some(name), _) => TargetKind::Name(name.clone()),
            (.., true) => TargetKind::Immediate,
            _ => TargetKind::Latest,
        };
        if self.exclusive && !Target::new(kind.clone()).has_sides() {
            return Err(Error::usage("no-sides", "--exclusive goes with --time, --xid or --lsn: this target has no sides")
                .hint("leave --exclusive out; recovery stops just after a restore point, and at the end of a backup or of WAL"));
        }
        let action = self.action();
        let timeline = self.timeline.unwrap_or(TimelineChoice::Latest);
        Ok(Target { inclusive: !self.exclusive, timeline, action, ..Target::new(kind) })
    }

    /// An error of a target, and where that is a time behind the end of WAL, the same time of an earlier day that can
    /// be reached: mostly it is the day that is wrong.
    #[must_use]
    pub fn with_offer(&self, error: Error, zone: Zone) -> Error {
        let (Some(text), Some((from, to))) = (&self.time, error.report().times) else { return error };
        let offered = same_time_of_day(text, zone, Some(from), to);
        if offered.is_empty() {
            return error;
        }
        let offered = offered.iter().map(|time| format!("--time '{time}'")).collect::<Vec<_>>().join(" or ");
        let others = error.report().hint.as_ref().map(|hint| format!("; else {hint}")).unwrap_or_default();
        error.hint(format!("did you mean {offered}? WAL has that{others}"))
    }
}

/// A query.
#[derive(Debug, Clone, Args)]
pub struct SqlArgs {
    /// One SQL statement. It runs in a transaction that can only read.
    pub query: String,
    /// The recovery's name, the beginning of it, or its directory [default: the only one].
    pub recovery: Option<String>,
    /// Ask this database.
    #[arg(long, default_value = "postgres", value_name = "NAME")]
    pub database: String,
    /// Print so many rows, at most.
    #[arg(long, default_value_t = 1000, value_name = "N")]
    pub rows: usize,
}

/// What to do of a checklist.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Checklist")]
pub struct ChecklistArgs {
    /// Do this item. May be repeated; they are done in this order.
    #[arg(long = "do", value_name = "ITEM", value_parser = item_parser())]
    pub items: Vec<ItemId>,
    /// Note that this item is not wanted, or was done by hand. May be repeated.
    #[arg(long, value_name = "ITEM", value_parser = item_parser())]
    pub skip: Vec<ItemId>,
    /// Where the new base backup goes, a directory that is new or empty.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
}

fn item_parser() -> impl clap::builder::TypedValueParser<Value = ItemId> {
    use clap::builder::{PossibleValuesParser, TypedValueParser};
    let item = |word: String| ItemId::ALL.into_iter().find(|item| item.word() == word).unwrap_or(ItemId::Statistics);
    PossibleValuesParser::new(ItemId::ALL.map(ItemId::word)).map(item)
}

/// A part of the archive.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Part of the archive")]
pub struct WindowArgs {
    /// Only what ended at this time or later: '2024-10-02 14:30:05+02', 14:30, '20:40 New York', '20 min ago'.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// Only what ended at this time or before; a mere 14:30 is the first one after --from.
    #[arg(long, value_name = "T", allow_hyphen_values = true)]
    pub to: Option<String>,
    /// Only this timeline [default: all].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub timeline: Option<u32>,
}

/// A part of the archive, with its times read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// What ended earlier is left out.
    pub from: Option<Timestamp>,
    /// What ended later is left out.
    pub to: Option<Timestamp>,
    /// Other timelines are left out.
    pub timeline: Option<TimelineId>,
}

impl WindowArgs {
    /// The part that is meant, its times read in `zone`.
    ///
    /// # Errors
    /// When a time is none, or the end lies before the beginning.
    pub fn window(&self, zone: Zone, now: Timestamp) -> Result<Window> {
        let refused = |error: BadTime| refused(&error, zone);
        let from = self.from.as_deref().map(|text| parse_time(text, zone, now)).transpose().map_err(refused)?;
        let end = |text: &str| match from {
            Some(from) => parse_end(text, zone, now, from),
            None => parse_time(text, zone, now),
        };
        let to = self.to.as_deref().map(end).transpose().map_err(refused)?;
        if let (Some(from), Some(to)) = (from, to)
            && to < from
        {
            let message =
                format!("--to lies before --from: {} is earlier than {}", to.in_zone(zone), from.in_zone(zone));
            return Err(Error::usage("bad-time", message).hint("exchange them"));
        }
        Ok(Window { from, to, timeline: self.timeline.map(TimelineId) })
    }
}

impl Window {
    /// Whether something that ended then lies in it.
    #[must_use]
    pub fn has(&self, at: Timestamp) -> bool {
        self.from.is_none_or(|from| at >= from) && self.to.is_none_or(|to| at <= to)
    }

    /// Whether anything from the one time to the other may lie in it.
    #[must_use]
    pub fn meets(&self, earliest: Timestamp, latest: Timestamp) -> bool {
        self.from.is_none_or(|from| latest >= from) && self.to.is_none_or(|to| earliest <= to)
    }

    /// Whether it is a part of time, and not all of it.
    #[must_use]
    pub fn is_bounded(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }
}

fn read_time(text: &str, zone: Zone, now: Timestamp) -> Result<Timestamp> {
    parse_time(text, zone, now).map_err(|error| refused(&error, zone))
}

fn refused(error: &BadTime, zone: Zone) -> Error {
    Error::usage("bad-time", error.to_string())
        .hint(format!("local times without a zone are read in {zone}; --time-zone chooses another zone"))
}

/// How deep `check` looks, and how it tells.
#[derive(Debug, Clone, Args)]
pub struct CheckArgs {
    /// Look at names, sizes and the beginnings of segments only.
    #[arg(long)]
    pub quick: bool,
    /// Read all base backups too, and hold every file against their manifests.
    #[arg(long)]
    pub deep: bool,
    /// Ask this server how its archiving goes: a connection string like “host=db1 user=monitor dbname=postgres”.
    ///
    /// The role needs pg_monitor. Its password is that of PGPASSWORD or ~/.pgpass. Without the option it is the “primary”
    /// of the configuration, where that names one.
    #[arg(long, value_name = "CONNSTR")]
    pub primary: Option<String>,
    /// How to tell: text, json, nagios or prometheus.
    ///
    /// With nagios the exit status is that of Nagios: 0 ok, 1 warning, 2 critical, 3 unknown. With all others it is 3 where
    /// there are errors.
    #[arg(long, value_enum, hide_possible_values = true)]
    pub format: Option<CheckFormat>,
    /// Write that to FILE instead: beside it, and then renamed, so that nobody reads half of it.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// How `check` tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CheckFormat {
    /// In words.
    Text,
    /// As one JSON document.
    Json,
    /// As a plugin of Nagios or Icinga does.
    Nagios,
    /// As metrics for Prometheus.
    Prometheus,
}

/// A kind of recovery point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A transaction committed.
    Commit,
    /// A transaction was rolled back.
    Abort,
    /// A transaction was prepared; recovery never stops there.
    Prepare,
    /// pg_create_restore_point().
    RestorePoint,
    /// A checkpoint.
    Checkpoint,
    /// A base backup ended.
    BackupEnd,
    /// A server was promoted.
    EndOfRecovery,
    /// WAL ends here.
    EndOfWal,
}

impl From<KindArg> for PointKind {
    fn from(kind: KindArg) -> PointKind {
        match kind {
            KindArg::Commit => PointKind::Commit,
            KindArg::Abort => PointKind::Abort,
            KindArg::Prepare => PointKind::Prepare,
            KindArg::RestorePoint => PointKind::RestorePoint,
            KindArg::Checkpoint => PointKind::Checkpoint,
            KindArg::BackupEnd => PointKind::BackupEnd,
            KindArg::EndOfRecovery => PointKind::EndOfRecovery,
            KindArg::EndOfWal => PointKind::EndOfWal,
        }
    }
}

/// From what, into where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Recovery")]
pub struct RestoreArgs {
    /// From this base backup [default: the best that leads to the target].
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// Into this directory, which is new or empty.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
    /// Rename the data directory that is there, where its server does not run; nothing of it is removed. The plan says what it
    /// is called then.
    #[arg(long)]
    pub make_way: bool,
    /// Port of the recovered server [default: the first free one from 5499 on].
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1024..))]
    pub port: Option<u16>,
    /// Where the server's programs are [default: looked for in PATH and the usual places].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// User that runs the server, where Walback runs as root [default: postgres].
    #[arg(long, value_name = "USER")]
    pub run_as: Option<String>,
    /// Database role to connect as [default: postgres, else the one named like the user].
    #[arg(long, value_name = "ROLE")]
    pub role: Option<String>,
    /// Keep a copy of the unpacked data, so that a retarget further back need not unpack again: reflink shares its blocks
    /// with the data, where the file system can do that; copy takes the space a second time.
    #[arg(
        long,
        value_enum,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "reflink",
        value_name = "HOW"
    )]
    pub keep_pristine: Option<PristineArg>,
    /// One more setting for the server, like shared_buffers=1GB. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
    /// Put the tablespace that was in OLDDIR, or has that OID, into NEWDIR [default: beside the new directory]. May be
    /// repeated.
    #[arg(long = "tablespace", value_name = "OLDDIR=NEWDIR", value_parser = parse_tablespace)]
    pub tablespaces: Vec<(String, PathBuf)>,
}

/// As `pg_basebackup --tablespace-mapping` has it: a backslash takes away what `=` means.
fn parse_tablespace(text: &str) -> std::result::Result<(String, PathBuf), String> {
    let mut sides = [String::new(), String::new()];
    let (mut side, mut characters) = (0, text.chars().peekable());
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&'=') => sides[side].extend(characters.next()),
            '=' if side == 0 => side = 1,
            '=' => return Err("there is more than one “=”; write \\= for one in a path".to_owned()),
            _ => sides[side].push(character),
        }
    }
    let [from, to] = sides;
    if from.is_empty() || to.is_empty() {
        return Err("a tablespace's place is written OLDDIR=NEWDIR".to_owned());
    }
    let to = std::path::absolute(&to).map_err(|error| format!("“{to}” is no path: {error}"))?;
    Ok((from, to))
}

/// From what a drill is made, and what becomes of it.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Drill")]
pub struct DrillArgs {
    /// From this base backup: its name, or newest, oldest, random [default: the newest; for a target that it does not lead
    /// to, the best that does].
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// Stop just behind a commit that is drawn at random from all that the backup leads to.
    #[arg(long, group = "where", conflicts_with_all = ["exclusive", "timeline"])]
    pub random_point: bool,
    /// Make a new directory below this one, and restore into that [default: as configured].
    #[arg(long, value_name = "DIR")]
    pub scratch: Option<PathBuf>,
    /// Where the server's programs are [default: looked for in PATH and the usual places].
    #[arg(long, value_name = "DIR")]
    pub bin_dir: Option<PathBuf>,
    /// Write the report to this new file too, as its name ends: .html, .md or .json; or all three into a directory.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Leave what was restored, with its server, for looking at.
    #[arg(long)]
    pub keep: bool,
    /// Print events as JSON lines on standard output, the drill at the end.
    #[arg(long)]
    pub events: bool,
}

/// How a copy of the unpacked data is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PristineArg {
    /// Its files share their blocks with the data's.
    Reflink,
    /// It is written a second time.
    Copy,
}

impl From<PristineArg> for Pristine {
    fn from(kind: PristineArg) -> Pristine {
        match kind {
            PristineArg::Reflink => Pristine::Reflink,
            PristineArg::Copy => Pristine::Copy,
        }
    }
}

fn parse_setting(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is written NAME=VALUE")?;
    let name = name.trim();
    if !crate::pgdata::is_setting_name(name) {
        return Err(format!("“{name}” cannot be the name of a setting"));
    }
    Ok((name.to_owned(), value.trim().to_owned()))
}

/// The plan as a script.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Runbook")]
pub struct ScriptArgs {
    /// Write the plan as a shell script to this file, and as Markdown beside it: run.sh and run.md.
    ///
    /// The script needs no Walback: it does the same with the programs of PostgreSQL and the system.
    #[arg(long, value_name = "FILE")]
    pub script: Option<PathBuf>,
    /// Write these files anew where they are there already.
    #[arg(long, short, requires = "script")]
    pub yes: bool,
}

/// How to ask and tell.
#[derive(Debug, Clone, Copy, Args)]
pub struct ActArgs {
    /// Do not ask.
    #[arg(long, short)]
    pub yes: bool,
    /// Print events as JSON lines on standard output, the recovery at the end.
    #[arg(long)]
    pub events: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        target: TargetArgs,
    }

    #[derive(Parser)]
    struct Stretch {
        #[command(flatten)]
        window: WindowArgs,
    }

    fn utc(text: &str) -> Timestamp {
        parse_time(text, Zone::UTC, Timestamp::UNIX_EPOCH).unwrap()
    }

    #[test]
    fn of_a_time_behind_the_end_of_wal_that_of_the_newest_day_is_offered() {
        let berlin: Zone = "Europe/Berlin".parse().unwrap();
        let times = Some((utc("2026-10-23T00:00:00Z"), utc("2026-10-25T02:00:00Z")));
        let offered = |words: &[&str], times| {
            let line = Line::parse_from(std::iter::once(&"walback").chain(words));
            let error = Error::new(ErrorKind::Unreachable, "target-not-reached", "it ends").hint("choose another");
            let error = line.target.with_offer(error.times(times), berlin);
            error.report().hint.clone().unwrap()
        };
        // In New York daylight saving goes on for a week more: by Berlin's clock it was another time the day before.
        assert_eq!(
            offered(&["--time", "2026-10-25 20:40 New York"], times),
            "did you mean --time '2026-10-24 20:40:00 -04:00'? WAL has that; else choose another"
        );
        assert_eq!(
            offered(&["--time", "02:40"], times),
            "did you mean --time '2026-10-25 02:40:00 +02:00' or --time '2026-10-25 02:40:00 +01:00'? WAL has that; else choose another"
        );
        for (words, times) in
            [(["--time", "20 min ago"], times), (["--time", "20:40"], None), (["--xid", "746"], times)]
        {
            assert_eq!(offered(&words, times), "choose another", "{words:?}");
        }
    }

    #[test]
    fn the_end_of_a_stretch_may_be_still_to_come() {
        let stretch = |words: &[&str]| {
            let line = Stretch::parse_from(std::iter::once(&"walback").chain(words));
            line.window.window(Zone::UTC, utc("2026-10-25T14:15:00Z"))
        };
        let window = stretch(&["--from", "14:00", "--to", "14:30"]).unwrap();
        assert_eq!((window.from, window.to), (Some(utc("2026-10-25T14:00:00Z")), Some(utc("2026-10-25T14:30:00Z"))));
        let window = stretch(&["--from", "23:00", "--to", "01:00"]).unwrap();
        assert_eq!((window.from, window.to), (Some(utc("2026-10-24T23:00:00Z")), Some(utc("2026-10-25T01:00:00Z"))));
        assert!(stretch(&["--from", "10-25 14:00", "--to", "10-25 13:00"]).is_err());
    }
}
