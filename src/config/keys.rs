//! Every key of the configuration: what is written of it into a new file, and what holds where it is left out.

/// A key of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Where it stands: `sources.NAME.restore.port`. `[]` begins another item of a list, `[+]` goes on with the same item.
    pub name: &'static str,
    /// A value for it as YAML has it: the default where there is one, else an example. Empty for what only has keys below it.
    pub value: &'static str,
    /// What holds where it is left out, in words; empty where nothing does.
    pub default: &'static str,
    /// What it is: one sentence.
    pub doc: &'static str,
    /// Whether it is a path, which is relative to the file.
    pub is_path: bool,
}

const fn key(name: &'static str, value: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, value, default, doc, is_path: false }
}

const fn path(name: &'static str, value: &'static str, default: &'static str, doc: &'static str) -> Key {
    Key { name, value, default, doc, is_path: true }
}

/// All of them, in the order in which they are written. A key that is added to the configuration is a line here.
pub const KEYS: &[Key] = &[
    key("time_zone", "Europe/Berlin", "the system's", "The zone in which local times are read and shown."),
    key("suspects", "", "", "What “walback suspects” lists."),
    key("suspects.rows", "1000", "1000", "Deletes and updates of at least so many rows."),
    key("interface", "", "", "How the interactive program looks."),
    key("interface.colours", "auto", "auto", "auto, truecolor, 256, 16 or none."),
    key("interface.theme", "auto", "auto", "The background that the colours are for: auto, dark or light."),
    key("interface.glyphs", "auto", "auto", "auto, unicode or ascii."),
    key("interface.chart", "auto", "auto", "What the bars are made of: auto, braille, blocks or ascii."),
    key("thresholds", "", "", "From where on what is measured is a warning, and critical."),
    key("thresholds.archive_lag_segments", "[10, 50]", "[10, 50]", "Segments that wait to be archived."),
    key("thresholds.archive_lag_minutes", "[5, 30]", "[5, 30]", "Minutes for which the oldest of them waits."),
    key("thresholds.free_space_percent", "[20, 5]", "[20, 5]", "Free space of a file system, in percent."),
    key("thresholds.backup_age", "[25h, 49h]", "it is not judged", "Age of the newest base backup that can be used."),
    key(
        "keys",
        "{stop-before: [b, F3]}",
        "those of docs/keys.md",
        "Other keys for commands of the interface, by their names.",
    ),
    key("cache", "", "", "What is kept below the cache directory."),
    key("cache.fetched", "2GB", "2GB", "How much of the WAL that commands fetch is kept."),
    key("sources", "", "", "Clusters by name. With several, --source NAME chooses one."),
    key("sources.NAME.backups", "", "", "Directories with base backups, or base backups themselves."),
    path("sources.NAME.backups[].path", "/backups/base", "", "One of them."),
    key("sources.NAME.wal", "", "", "Directories with archived WAL, and commands that fetch it, asked in this order."),
    path("sources.NAME.wal[].path", "/backups/wal", "", "One of them."),
    key(
        "sources.NAME.wal[].command",
        "wal-g wal-fetch %f %p",
        "",
        "Whatever can be a restore_command: it is asked for one file at a time.",
    ),
    key(
        "sources.NAME.wal[+].missing",
        "[74]",
        "those that are customary",
        "The exit statuses with which it says that a file is not there.",
    ),
    key("sources.NAME.wal[+].timeout", "10min", "10min", "How long one call of it may take."),
    key(
        "sources.NAME.primary",
        "host=db1.example.com user=walback_monitor dbname=postgres",
        "it is not asked",
        "The server that writes the WAL: it is asked whether archiving goes on. A connection string of libpq's.",
    ),
    key("sources.NAME.restore", "", "", "How recoveries of this cluster are made."),
    path(
        "sources.NAME.restore.directory",
        "/srv/restore",
        "--into is needed",
        "Where recoveries go unless --into says otherwise: new, or empty.",
    ),
    key("sources.NAME.restore.port", "5499", "the first free one from 5499 on", "The recovered server's port."),
    path(
        "sources.NAME.restore.bin_dir",
        "/usr/lib/postgresql/15/bin",
        "they are looked for",
        "Where postgres and pg_ctl are.",
    ),
    key(
        "sources.NAME.restore.run_as",
        "postgres",
        "postgres",
        "The operating system's user that runs the server, where Walback runs as root.",
    ),
    key(
        "sources.NAME.restore.role",
        "postgres",
        "postgres, then the name of the server's user",
        "The database role that Walback connects as.",
    ),
    key("sources.NAME.restore.settings", "{shared_buffers: 1GB}", "none", "More settings for the recovered server."),
    path(
        "sources.NAME.restore.tablespaces",
        "{/srv/fast: /srv/restore/fast}",
        "beside the new directory",
        "Where tablespaces go, by where they were.",
    ),
    key("sources.NAME.checks", "", "", "What a recovered server is asked, to see whether it is good."),
    key("sources.NAME.checks[].name", "orders are there", "", "What the check is called."),
    key("sources.NAME.checks[+].database", "postgres", "postgres", "The database that is asked."),
    key("sources.NAME.checks[+].sql", "SELECT count(*) FROM orders", "", "A query."),
    key(
        "sources.NAME.checks[+].expect",
        "\"> 0\"",
        "",
        "What its first value should be: = <> < > <= >= and a number or 'text'; within 5% of last.",
    ),
    key("sources.NAME.drill", "", "", "How drills of this cluster are made."),
    path(
        "sources.NAME.drill.scratch",
        "/srv/drills",
        "--scratch is needed",
        "Each drill makes a new directory below this one, and removes it again.",
    ),
    key(
        "sources.NAME.drill.rto",
        "30min",
        "no limit",
        "A drill fails that took longer until the data could be worked with.",
    ),
    key("sources.NAME.drill.rpo", "5min", "no limit", "A drill fails that would have lost more."),
    key(
        "sources.NAME.drill.max_bytes",
        "200GB",
        "no limit",
        "A drill that would take more room fails, and is given up where it does.",
    ),
    key("sources.NAME.drill.timeout", "24h", "24h", "A drill that takes longer is given up, and fails."),
    key("sources.NAME.drill.check_timeout", "1h", "1h", "A check that takes longer is given up, and fails."),
    key("sources.NAME.drill.keep", "false", "false", "What was restored stays, with its server."),
    key(
        "sources.NAME.drill.promote",
        "false",
        "false",
        "The copy is promoted before everything is read, so that pg_amcheck runs in every database.",
    ),
    key("sources.NAME.drill.amcheck", "true", "where it can be run", "Whether pg_amcheck is run."),
    key("sources.NAME.drill.checksums", "true", "where the cluster has checksums", "Whether pg_checksums is run."),
    key("sources.NAME.drill.dump", "false", "false", "Whether everything is read by pg_dumpall."),
    path(
        "sources.NAME.drill.script",
        "/usr/local/bin/check-shop",
        "none",
        "A program of your own that checks the running copy, and ends with 0 where all is well.",
    ),
    key(
        "sources.NAME.drill.on_failure",
        "logger -p user.err -t walback \"$WALBACK_SUMMARY\"",
        "nothing",
        "What the shell runs where a drill fails.",
    ),
];

impl Key {
    /// Its name as the documents have it: `sources.NAME.checks.sql`.
    #[must_use]
    pub fn documented(&self) -> String {
        self.name.replace("[]", "").replace("[+]", "")
    }

    /// Its parts, without those of lists: `sources`, `NAME`, `checks`, `sql`.
    #[must_use]
    pub fn parts(&self) -> Vec<&'static str> {
        self.name.split('.').map(|part| part.trim_end_matches("[]").trim_end_matches("[+]")).collect()
    }
}

/// Finds a key by its parts, as a file has them: whatever a source is called.
#[must_use]
pub fn known(parts: &[&str]) -> Option<&'static Key> {
    KEYS.iter().find(|key| {
        let own = key.parts();
        own.len() == parts.len() && own.iter().zip(parts).all(|(own, part)| *own == "NAME" || own == part)
    })
}
