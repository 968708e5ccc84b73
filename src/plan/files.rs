//! What a recovery writes into the data directory, as text: the engine and the runbook write the same. Pure.

use crate::pgdata::auto_conf::AutoConf;

use crate::resolve::Requirements;

use super::settings::RECOVERY_SETTINGS;
use super::{Plan, parameters};

/// The settings that win over all others in files.
pub use crate::pgdata::configuration::AUTO as AUTO_CONF;
/// The copied one is kept under this name, in Walback's own directory.
pub const COPIED_AUTO_CONF: &str = "postgresql.auto.conf.from-backup";
/// Makes the server recover from the archive.
pub const SIGNAL: &str = "recovery.signal";
/// What a running server leaves behind, and what would make the new one refuse to start or take it for another.
pub const LEFT_OUT: [&str; 5] =
    ["postmaster.pid", "postmaster.opts", "standby.signal", "recovery.signal", "recovery.conf"];
/// Directories whose contents a server makes anew whenever it starts, or which are no copy's (replication slots: they
/// would hold WAL back for nobody). `pg_basebackup` leaves them out (`excludeDirContents`,
/// `src/backend/backup/basebackup.c` of 15), and a copy by other programs may have them.
pub const EMPTIED: [&str; 7] =
    ["pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans"];
/// How the names begin of what sorting and hashing wrote to disk, and of what is kept of catalogs to begin sessions sooner
/// (`PG_TEMP_FILE_PREFIX`, `src/include/common/file_utils.h` of 15; `RELCACHE_INIT_FILENAME`,
/// `src/include/utils/relcache.h`).
pub const TEMPORARY: [&str; 2] = ["pgsql_tmp", "pg_internal.init"];
/// Directories that a server needs, though a backup may leave them out (`src/backend/backup/basebackup.c`).
pub const NEEDED_DIRECTORIES: [&str; 2] = ["pg_wal", "pg_wal/archive_status"];

/// Who may connect while the server is isolated: whoever can enter the directory of its socket, which is its own
/// user and root.
pub const HBA: &str = "# Written by Walback for the time of the recovery. The socket lies in a directory that only the\n\
                       # server's user and root can enter, and there is no TCP.\n\
                       local all all trust\n\
                       local replication all trust\n";
/// No user of the operating system stands for a role of another name.
pub const IDENT: &str = "# Written by Walback.\n";

/// `postgresql.auto.conf` with what an earlier recovery left taken out, and the plan's settings at its end, in their
/// order; those of which a server in recovery needs enough are as high as `needed`, where that is known.
#[must_use]
pub fn auto_conf(copied: &str, plan: &Plan, needed: Option<Requirements>) -> String {
    let mut settings = AutoConf::parse(copied);
    for name in RECOVERY_SETTINGS {
        settings.remove(name);
    }
    let mut planned = plan.settings.clone();
    if let Some(needed) = needed {
        parameters::raise(&mut planned, needed);
    }
    // A target that is set to nothing after another one would be refused: what was added comes first.
    let added = planned.split_off(plan.settings.len());
    for (name, value) in added.iter().chain(&planned) {
        settings.set(name, value);
    }
    settings.render()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;

    #[test]
    fn what_an_earlier_recovery_left_is_taken_out_and_the_rest_is_kept() {
        let copied = "# by hand\nwork_mem = '8MB'\nRECOVERY_TARGET_NAME = 'old'\nrestore_command = 'true'\n";
        let text = auto_conf(copied, &example(), None);
        assert!(text.starts_with("# by hand\nwork_mem = '8MB'\nrecovery_target = ''\n"), "{text}");
        assert!(!text.contains("'old'") && text.ends_with("recovery_target_action = 'pause'\n"), "{text}");
    }
}
