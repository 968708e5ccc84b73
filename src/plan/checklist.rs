//! What is left to do after promotion, to be gone through item by item: what each would change, and how the settings
//! look without Walback's. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::Plan;
use super::build::OWN_DIRECTORY;
use super::settings::Isolation;
use crate::pgdata::auto_conf::AutoConf;

/// An item of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemId {
    /// Statistics for the planner.
    Statistics,
    /// Tables and indexes are looked through for damage.
    Integrity,
    /// Replication slots that came with the backup.
    Slots,
    /// Preloaded libraries, with them jobs that run by themselves.
    Preload,
    /// Subscriptions to publications of other servers.
    Subscriptions,
    /// Other servers that commits wait for, and a primary to follow.
    Standbys,
    /// Limits that recovery needed as high as they were on the primary.
    Limits,
    /// What the log has, and where it goes.
    Logging,
    /// Archiving.
    Archiving,
    /// A new base backup.
    BaseBackup,
    /// TCP, TLS and who may connect.
    Network,
    /// The port and the directory of the socket.
    Port,
}

impl ItemId {
    /// All, in the order in which they are best gone through: what looks at the data first, what lets clients in last.
    pub const ALL: [ItemId; 12] = [
        ItemId::Statistics,
        ItemId::Integrity,
        ItemId::Slots,
        ItemId::Preload,
        ItemId::Subscriptions,
        ItemId::Standbys,
        ItemId::Limits,
        ItemId::Logging,
        ItemId::Archiving,
        ItemId::BaseBackup,
        ItemId::Network,
        ItemId::Port,
    ];

    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Statistics => "statistics",
            Self::Integrity => "integrity",
            Self::Slots => "slots",
            Self::Preload => "preload",
            Self::Subscriptions => "subscriptions",
            Self::Standbys => "standbys",
            Self::Limits => "limits",
            Self::Logging => "logging",
            Self::Archiving => "archiving",
            Self::BaseBackup => "base-backup",
            Self::Network => "network",
            Self::Port => "port",
        }
    }

    /// What it does, in a few words.
    #[must_use]
    pub fn title(self) -> &'static str {
        match self {
            Self::Statistics => "collect statistics for the planner",
            Self::Integrity => "look through tables and indexes for damage",
            Self::Slots => "drop replication slots that nobody uses",
            Self::Preload => "preload libraries again",
            Self::Subscriptions => "let subscriptions run again",
            Self::Standbys => "wait for standbys, and know a primary, again",
            Self::Limits => "have the limits of the backup's configuration",
            Self::Logging => "log as before",
            Self::Archiving => "archive WAL again",
            Self::BaseBackup => "take a new base backup",
            Self::Network => "listen on TCP, with TLS, access and sessions as before",
            Self::Port => "use the old port and socket",
        }
    }

    /// What has to be known to decide.
    #[must_use]
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Statistics => {
                "What autovacuum counts is gone after a recovery, so that it would not run ANALYZE by itself for a while."
            }
            Self::Integrity => {
                "Reads everything, and puts the extension amcheck into databases that do not have it. A large cluster takes long."
            }
            Self::Slots => {
                "A slot that nobody reads from keeps WAL until the disk is full. Its consumers have to be set up anew."
            }
            Self::Preload => {
                "With the libraries come jobs that run by themselves, like those of pg_cron, and hooks that extensions need."
            }
            Self::Subscriptions => {
                "They take up where the backup's slots on the publisher are. Not while the original server runs: both would use the same slots."
            }
            Self::Standbys => {
                "Commits wait for the standbys that are named here. Not before these standbys were set up anew."
            }
            Self::Limits => "Recovery needs them as high as they ever were in the WAL that it replays. That is over.",
            Self::Logging => "From then on the log goes where it went before, and no longer to Walback's file.",
            Self::Archiving => {
                "WAL of the new timeline goes where the original server's went. Not while another server archives there on a timeline of the same number."
            }
            Self::BaseBackup => {
                "What is written from now on can only be recovered from a base backup of the new timeline."
            }
            Self::Network => {
                "Clients can come, with the rules of the backup's pg_hba.conf. Not while they should reach the original server."
            }
            Self::Port => "The original server must not run on this port any more.",
        }
    }

    /// The settings that it takes back.
    #[must_use]
    pub fn settings(self) -> &'static [&'static str] {
        match self {
            Self::Statistics | Self::Integrity | Self::Slots | Self::BaseBackup => &[],
            Self::Preload => &["local_preload_libraries", "session_preload_libraries", "shared_preload_libraries"],
            Self::Subscriptions => &["max_logical_replication_workers"],
            Self::Standbys => &[
                "hot_standby",
                "primary_conninfo",
                "primary_slot_name",
                "promote_trigger_file",
                "synchronous_standby_names",
            ],
            Self::Limits => &[
                "max_connections",
                "max_locks_per_transaction",
                "max_prepared_transactions",
                "max_wal_senders",
                "max_worker_processes",
            ],
            Self::Logging => &[
                "lc_messages",
                "log_destination",
                "log_error_verbosity",
                "log_line_prefix",
                "log_min_messages",
                "log_timezone",
                "logging_collector",
                "stats_temp_directory",
            ],
            Self::Archiving => &["archive_command", "archive_library", "archive_mode"],
            Self::Network => &["default_transaction_isolation", "hba_file", "ident_file", "listen_addresses", "ssl"],
            Self::Port => &[
                "cluster_name",
                "external_pid_file",
                "port",
                "unix_socket_directories",
                "unix_socket_group",
                "unix_socket_permissions",
            ],
        }
    }
}

impl fmt::Display for ItemId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word())
    }
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ItemState {
    /// Nothing yet.
    Open,
    /// It was begun; nobody saw its end.
    Begun,
    /// It was done.
    Done,
    /// The operator does not want it, or does it by hand.
    Skipped,
    /// It was tried, and failed; what it had changed was taken back.
    Failed,
}

impl ItemState {
    /// The word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Begun => "begun",
            Self::Done => "done",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// A setting that is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// Its name.
    pub name: String,
    /// As Walback set it.
    pub now: String,
    /// As it will be; `None` for the server's own default.
    pub then: Option<String>,
    /// Where that stands: `postgresql.auto.conf`, `postgresql.conf`; `None` for a default.
    pub from: Option<&'static str>,
}

/// Isolation sets some settings to what the server has by default, in case the backup has something else there
/// (`src/backend/utils/misc/guc_tables.c`, 13 to 18).
const LIKE_THE_DEFAULT: [&str; 18] = [
    "archive_command",
    "archive_library",
    "archive_mode",
    "default_transaction_isolation",
    "hot_standby",
    "local_preload_libraries",
    "log_destination",
    "log_error_verbosity",
    "log_min_messages",
    "logging_collector",
    "primary_conninfo",
    "primary_slot_name",
    "promote_trigger_file",
    "session_preload_libraries",
    "shared_preload_libraries",
    "ssl",
    "synchronous_standby_names",
    "unix_socket_group",
];

/// The limits' defaults (the same).
const DEFAULT_LIMITS: [(&str, &str); 5] = [
    ("max_connections", "100"),
    ("max_locks_per_transaction", "64"),
    ("max_prepared_transactions", "0"),
    ("max_wal_senders", "10"),
    ("max_worker_processes", "8"),
];

impl Change {
    /// Whether the server will be any different.
    #[must_use]
    pub fn matters(&self) -> bool {
        match &self.then {
            Some(then) => *then != self.now,
            None => {
                let limit = DEFAULT_LIMITS.contains(&(self.name.as_str(), self.now.as_str()));
                !limit && !LIKE_THE_DEFAULT.contains(&self.name.as_str())
            }
        }
    }

    /// Both lines, as in a diff of the configuration.
    #[must_use]
    pub fn diff(&self) -> [String; 2] {
        let quoted = |value: &str| format!("'{}'", value.replace('\'', "''"));
        let then = match (&self.then, self.from) {
            (Some(then), Some(from)) => format!("+ {} = {}  (as in the backup's {from})", self.name, quoted(then)),
            _ => format!("+ {} as PostgreSQL has it by default", self.name),
        };
        [format!("- {} = {}", self.name, quoted(&self.now)), then]
    }
}

/// An item as it stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Which.
    pub item: ItemId,
    /// What became of it.
    pub state: ItemState,
    /// What it does.
    pub title: &'static str,
    /// What has to be known to decide.
    pub meaning: &'static str,
    /// The settings that it takes back.
    pub changes: Vec<Change>,
    /// The commands that it runs.
    pub commands: Vec<String>,
    /// Whether the server is restarted for it.
    pub restarts: bool,
    /// What was found: slots, subscriptions, libraries.
    pub facts: Vec<String>,
    /// That it was begun, and nobody works on it any more, and what is to be done about it.
    pub interrupted: Option<String>,
    /// Why it cannot be done now.
    pub cannot: Option<String>,
    /// What was said when it was done, or tried.
    pub said: Vec<String>,
}

impl Item {
    /// Whether nothing was decided about it, or what was decided did not work.
    #[must_use]
    pub fn is_left(&self) -> bool {
        !matches!(self.state, ItemState::Done | ItemState::Skipped)
    }
}

/// What the configuration says.
pub struct Configured<'a> {
    /// `postgresql.auto.conf`, as it is now.
    pub auto_conf: &'a AutoConf,
    /// `postgresql.auto.conf` as it came with the backup.
    pub copied: &'a AutoConf,
    /// What the files that are read before it set for a name.
    pub main: &'a dyn Fn(&str) -> Option<String>,
}

/// The settings that an item takes back. What somebody has changed since, and what the operator had chosen for the
/// recovery, is not Walback's to take back.
#[must_use]
pub fn changes(plan: &Plan, item: ItemId, configured: &Configured<'_>) -> Vec<Change> {
    let ours = isolation(plan);
    let change = |name: &&str| {
        let now = configured.auto_conf.get(name)?;
        let is_ours = match item {
            ItemId::Limits => plan.setting(name).is_some(),
            _ => ours.iter().any(|(set, value)| set == name && value == now),
        };
        if !is_ours {
            return None;
        }
        let copied = configured.copied.get(name).map(|value| (value.to_owned(), crate::pgdata::configuration::AUTO));
        let main = || (configured.main)(name).map(|value| (value, crate::pgdata::configuration::MAIN));
        let (then, from) = copied.or_else(main).unzip();
        Some(Change { name: (*name).to_owned(), now: now.to_owned(), then, from })
    };
    item.settings().iter().filter_map(change).collect()
}

/// `postgresql.auto.conf` after these changes.
#[must_use]
pub fn changed(auto_conf: &AutoConf, changes: &[Change]) -> AutoConf {
    let mut settings = auto_conf.clone();
    for change in changes {
        settings.remove(&change.name);
        if let (Some(then), Some(crate::pgdata::configuration::AUTO)) = (&change.then, change.from) {
            settings.set(&change.name, then);
        }
    }
    settings
}

fn isolation(plan: &Plan) -> Vec<(String, String)> {
    let own = plan.directory.join(OWN_DIRECTORY);
    Isolation {
        major: plan.server.major,
        port: plan.server.port,
        socket_directory: &plan.server.socket_directory,
        hba_file: &own.join("pg_hba.conf"),
        ident_file: &own.join("pg_ident.conf"),
        external_pid_file: &own.join("server.pid"),
    }
    .settings()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;
    use crate::plan::files::auto_conf;
    use std::collections::BTreeSet;

    /// The example's plan with the settings of isolation.
    fn plan() -> Plan {
        let plan = example();
        let settings = isolation(&plan).into_iter().chain(plan.settings.clone()).collect();
        Plan { settings, ..plan }
    }

    #[test]
    fn every_setting_of_the_isolation_that_is_left_after_promotion_belongs_to_one_item() {
        let mut of_items: Vec<&str> = ItemId::ALL.iter().flat_map(|item| item.settings()).copied().collect();
        let all = of_items.len();
        of_items.sort_unstable();
        of_items.dedup();
        assert_eq!(of_items.len(), all, "no setting belongs to two");
        let plan = plan();
        let left: BTreeSet<String> = isolation(&plan).into_iter().map(|(name, _)| name).collect();
        for name in &left {
            let is_recovery = crate::plan::settings::RECOVERY_SETTINGS.contains(&name.as_str());
            let belongs = of_items.contains(&name.as_str());
            assert!(belongs || is_recovery, "{name} is never taken back");
        }
    }

    #[test]
    fn what_was_there_before_comes_back() {
        let plan = plan();
        let copied = AutoConf::parse("archive_command = 'cp %p /wal/%f'\nwork_mem = '8MB'\n");
        let now = AutoConf::parse(&auto_conf(&copied.render(), &plan, None));
        let main = |name: &str| (name == "archive_mode").then(|| "on".to_owned());
        let configured = Configured { auto_conf: &now, copied: &copied, main: &main };
        let found = changes(&plan, ItemId::Archiving, &configured);
        let diff: Vec<[String; 2]> = found.iter().map(Change::diff).collect();
        assert_eq!(
            diff[0],
            [
                "- archive_command = ''",
                "+ archive_command = 'cp %p /wal/%f'  (as in the backup's postgresql.auto.conf)"
            ]
        );
        let mode = diff.iter().find(|lines| lines[0].contains("archive_mode")).unwrap();
        assert_eq!(mode, &["- archive_mode = 'off'", "+ archive_mode = 'on'  (as in the backup's postgresql.conf)"]);
        let lifted = changed(&now, &found);
        assert_eq!((lifted.get("archive_command"), lifted.get("archive_mode")), (Some("cp %p /wal/%f"), None));
        assert_eq!(
            (lifted.get("work_mem"), lifted.get("port")),
            (Some("8MB"), now.get("port")),
            "nothing else changes"
        );
        let again = Configured { auto_conf: &lifted, ..configured };
        assert_eq!(changes(&plan, ItemId::Archiving, &again), [], "once is enough");
    }

    #[test]
    fn what_somebody_else_has_set_stays() {
        let mut plan = plan();
        let set_by_hand = AutoConf::parse("archive_mode = 'always'\nssl = 'off'\n");
        let none = |_: &str| None;
        let configured = Configured { auto_conf: &set_by_hand, copied: &AutoConf::default(), main: &none };
        assert_eq!(changes(&plan, ItemId::Archiving, &configured), [], "changed since");
        let network = changes(&plan, ItemId::Network, &configured);
        assert_eq!((network.len(), network[0].name.as_str(), network[0].then.as_deref()), (1, "ssl", None));
        assert!(!network[0].matters(), "it is off by default");
        assert!(Change { then: Some("on".to_owned()), ..network[0].clone() }.matters());
        assert_eq!(network[0].diff()[1], "+ ssl as PostgreSQL has it by default");
        plan.settings.retain(|(name, _)| name != "archive_mode");
        plan.settings.push(("archive_mode".to_owned(), "on".to_owned()));
        let chosen = AutoConf::parse("archive_mode = 'on'\n");
        let configured = Configured { auto_conf: &chosen, ..configured };
        assert_eq!(changes(&plan, ItemId::Archiving, &configured), [], "the operator had chosen it");
    }

    #[test]
    fn words_are_what_json_has() {
        for item in ItemId::ALL {
            assert_eq!(serde_json::to_value(item).unwrap(), item.word());
        }
        for state in [ItemState::Open, ItemState::Begun, ItemState::Done, ItemState::Skipped, ItemState::Failed] {
            assert_eq!(serde_json::to_value(state).unwrap(), state.word());
        }
    }
}
