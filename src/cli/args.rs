//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::config::{Colour, Overrides};
use crate::core::time::{Timestamp, parse_time};
use crate::core::{Action, Lsn, RestorePointName, Target, TargetKind, TimelineChoice, Xid, Zone};
use crate::error::{Error, Result};

/// Walks a PostgreSQL cluster back to its last good moment.
///
/// Without a command it opens the interface: base backups, timelines and every place where recovery can stop.
/// Nothing is changed before you say so, sources are only ever read, and recoveries go into new directories.
#[derive(Debug, Parser)]
#[command(name = "walback", version, max_term_width = 100, disable_help_subcommand = true, after_help = EXAMPLES)]
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
  walback --backups /backups/base --wal /backups/wal       open the interface
  walback … backups                                        what there is to recover from
  walback … plan --time '14:29' --into /srv/restore        what a recovery would do, and whether it would work
  walback … restore --name before_deploy --into /srv/restore
  walback promote restore                                  end the paused recovery “restore”";

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
    /// Zone in which times are read and shown, like Europe/Berlin [default: the system's].
    #[arg(long, global = true, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// Change nothing at all.
    #[arg(long, global = true)]
    pub read_only: bool,
    /// Print JSON on standard output.
    #[arg(long, global = true)]
    pub json: bool,
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
            time_zone: self.time_zone.clone(),
            read_only: self.read_only,
            colour: self.color.into(),
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
    /// List transactions that destroyed data, the worst first.
    Suspects,
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
    /// Take a recovery to another target: on from where it is, or from its base backup again.
    Retarget {
        /// Its name, the beginning of it, or its directory [default: the only one].
        recovery: Option<String>,
        /// Where to stop.
        #[command(flatten)]
        target: TargetArgs,
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
    /// Print completions for a shell.
    Completions {
        /// Which shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page.
    Man,
}

/// Where to stop.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Target")]
#[command(group = clap::ArgGroup::new("where").required(true).args(["time", "xid", "lsn", "name", "immediate", "latest"]))]
#[group(skip)]
pub struct TargetArgs {
    /// Keep everything committed up to this time: “2024-10-02 14:30:05+02”, “14:30”, “20 min ago”.
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
    /// Along which timeline: a number, current (the backup's) or latest (the newest that the backup leads to).
    #[arg(
        long,
        alias = "target-timeline",
        alias = "recovery-target-timeline",
        value_name = "N",
        default_value = "latest"
    )]
    pub timeline: TimelineChoice,
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
    /// The target, its time read in `zone`.
    ///
    /// # Errors
    /// When the time is none, or not exactly one.
    pub fn target(&self, zone: Zone, now: Timestamp) -> Result<Target> {
        let kind = match (&self.time, self.xid, self.lsn, &self.name, self.immediate) {
            (Some(text), ..) => TargetKind::Time(parse_time(text, zone, now).map_err(|error| {
                Error::usage("bad-time", error.to_string())
                    .hint(format!("local times are read in {zone}; --time-zone chooses another zone"))
            })?),
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
        let action = match self.action {
            ActionArg::Pause => Action::Pause,
            ActionArg::Promote => Action::Promote,
            ActionArg::Shutdown => Action::Shutdown,
        };
        Ok(Target { inclusive: !self.exclusive, timeline: self.timeline, action, ..Target::new(kind) })
    }
}

/// From what, into where.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Recovery")]
pub struct RestoreArgs {
    /// From this base backup [default: the newest that leads to the target].
    #[arg(long, value_name = "ID")]
    pub backup: Option<String>,
    /// Into this directory, which is new or empty.
    #[arg(long, value_name = "DIR")]
    pub into: Option<PathBuf>,
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
    /// One more setting for the server, like shared_buffers=1GB. May be repeated.
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_setting)]
    pub settings: Vec<(String, String)>,
}

fn parse_setting(text: &str) -> std::result::Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("a setting is written NAME=VALUE")?;
    let name = name.trim();
    if !crate::pgdata::is_setting_name(name) {
        return Err(format!("“{name}” cannot be the name of a setting"));
    }
    Ok((name.to_owned(), value.trim().to_owned()))
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
