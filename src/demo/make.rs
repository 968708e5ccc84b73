//! Makes the cluster, its history and its accident.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use crate::config::{Config, Overrides};
use crate::core::{Action, Lsn, Target, TargetKind, TimelineChoice, TimelineId, Xid, Zone};
use crate::engine::host::facts::server_account;
use crate::engine::host::{Host, current_account};
use crate::engine::{Engine, Preparation, Request};
use crate::error::{Error, ErrorKind, Result};
use crate::source::{Cancel, LocalSource, Source};

use super::base_backup;
use super::cluster::{Cluster, Session, archive_command};
use super::place::{Guard, programs, state_directory};
use super::story::{Act, RestorePoint, Scene, Story, Stray, TABLES, TableCount};

/// The shop's tables and first rows.
const SHOP: &str = include_str!("../../assets/demo/shop.sql");
/// One transaction of trade.
const TRADE: &str = include_str!("../../assets/demo/trade.sql");
/// What the restore point is made for.
const DEPLOY: &str = include_str!("../../assets/demo/deploy.sql");
/// One transaction on the timeline that nobody meant to have.
const STRAY: &str = include_str!("../../assets/demo/stray.sql");

/// The shop's database.
pub const DATABASE: &str = "shop";
/// The restore point.
const RESTORE_POINT: &str = "before_deploy";
/// What was typed in haste, in the order in which it was.
const ACCIDENT: [(&str, &str); 2] =
    [("order_items", "DELETE FROM order_items"), ("customers", "DROP TABLE customers CASCADE")];

/// Transactions of trade up to the restore point, while the stray timeline comes to be, and after that up to the
/// accident; between its two acts; until somebody notices.
const BEFORE_DEPLOY: u32 = 130;
const MEANWHILE: u32 = 110;
const AFTERWARDS: u32 = 25;
const BETWEEN: u32 = 9;
const UNNOTICED: u32 = 30;
/// Transactions on the stray timeline.
const STRAYED: u32 = 8;
/// Milliseconds between two transactions on an ordinary day, and while something goes wrong: enough for an axis of
/// time to show something.
const PACE_MS: u64 = 26;
const SLOW_MS: u64 = 90;

/// What is asked for.
pub struct Wish<'a> {
    /// The directory that stays; `None` for a temporary one.
    pub into: Option<&'a Path>,
    /// Where the server's programs are; `None` to look for them.
    pub bin_dir: Option<&'a Path>,
    /// For saying times.
    pub zone: Zone,
    /// Nothing may be changed, and so nothing made.
    pub read_only: bool,
    /// Asks it to stop.
    pub cancel: &'a Cancel,
    /// Told what has just been done.
    pub tell: &'a dyn Fn(&Scene<'_>),
}

/// The demonstration as it was made: its server is stopped.
#[derive(Debug)]
pub struct Demo {
    /// The configuration that opens it.
    pub config: Config,
    /// What happened.
    pub story: Story,
    /// Where everything is.
    pub directory: PathBuf,
}

impl Demo {
    /// The configuration file that opens it again.
    #[must_use]
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("walback.yaml")
    }
}

/// Makes everything; what was made is gone with the guard, or where a directory was asked for, stays.
///
/// # Errors
/// When there is no PostgreSQL, or anything fails; nothing is left running then.
pub fn make(wish: &Wish<'_>) -> Result<(Demo, Guard)> {
    let host = Host::new(wish.read_only)?;
    let bin_dir = match wish.bin_dir {
        Some(given) => Some(std::path::absolute(given).map_err(|error| {
            Error::usage("bad-path", format!("this is no path: {}", given.display())).caused_by(&error)
        })?),
        None => None,
    };
    let programs = programs(bin_dir.as_deref(), server_account(None))?;
    let guard = Guard::make(host.clone(), wish.into, &programs.2)?;
    let directory = guard.directory().to_path_buf();
    (wish.tell)(&Scene::Begun { directory: &directory, major: programs.1 });
    let made = Cluster::create(&host, &directory, programs, wish.cancel).and_then(|cluster| {
        (wish.tell)(&Scene::Running);
        Author { wish, host: &host, directory: &directory, cluster: &cluster }.write()
    });
    let (config, story) = unless_interrupted(made, wish.cancel)?;
    Ok((Demo { config, story, directory }, guard))
}

/// What something came to. Ctrl-C also ends the programs that were just run: what then failed is no news.
pub(super) fn unless_interrupted<T>(done: Result<T>, cancel: &Cancel) -> Result<T> {
    if cancel.is_cancelled() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted", "the demonstration was interrupted")
            .because("its servers were stopped"));
    }
    done
}

/// Makes the story happen.
struct Author<'a> {
    wish: &'a Wish<'a>,
    host: &'a Host,
    directory: &'a Path,
    cluster: &'a Cluster,
}

impl Author<'_> {
    fn write(&self) -> Result<(Config, Story)> {
        let cancel = self.wish.cancel;
        let shop = self.open_shop()?;
        let backup = self.back_up()?;
        let config = self.configure()?;

        trade(&shop, 0, BEFORE_DEPLOY, PACE_MS, cancel)?;
        self.tell(&Scene::Traded(BEFORE_DEPLOY));
        let restore_point = self.deploy(&shop)?;

        let (stray, meanwhile) = std::thread::scope(|scope| {
            let trading = scope.spawn(|| trade(&shop, BEFORE_DEPLOY, MEANWHILE, PACE_MS, cancel));
            let stray = self.stray(&config);
            (stray, trading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        });
        let stray = stray?;
        meanwhile?;
        self.tell(&Scene::Strayed(&stray));
        trade(&shop, BEFORE_DEPLOY + MEANWHILE, AFTERWARDS, PACE_MS, cancel)?;
        self.tell(&Scene::Traded(MEANWHILE + AFTERWARDS));

        let before = count(&shop)?;
        let accident = self.accident(&shop, BEFORE_DEPLOY + MEANWHILE + AFTERWARDS)?;
        let after = count(&shop)?;
        self.cluster.archive_all(&shop, TimelineId::FIRST, cancel)?;
        drop(shop);
        self.cluster.stop()?;
        self.tell(&Scene::Stopped(UNNOTICED));

        let story = Story {
            pg_version: self.cluster.major,
            backup,
            before,
            after,
            restore_point,
            stray,
            accident,
            transactions: BEFORE_DEPLOY + MEANWHILE + AFTERWARDS + BETWEEN + UNNOTICED,
            transactions_after: BETWEEN + UNNOTICED,
        };
        self.keep(&story)?;
        Ok((config, story))
    }

    fn tell(&self, scene: &Scene<'_>) {
        (self.wish.tell)(scene);
    }

    fn open_shop(&self) -> Result<Session> {
        self.cluster.session("postgres")?.run(&format!("CREATE DATABASE {DATABASE}"))?;
        let shop = self.cluster.session(DATABASE)?;
        shop.run(SHOP)?;
        self.tell(&Scene::Filled(&count(&shop)?));
        Ok(shop)
    }

    fn back_up(&self) -> Result<String> {
        let backups = self.directory.join("backups");
        self.host.make_directory(&backups, &self.cluster.account)?;
        let taken = base_backup::take(self.host, self.cluster, &backups, self.wish.zone)?;
        self.tell(&Scene::BackedUp { id: &taken.id, bytes: taken.bytes });
        Ok(taken.id)
    }

    /// Writes the configuration that opens this cluster, and reads it back as any other.
    fn configure(&self) -> Result<Config> {
        let file = self.directory.join("walback.yaml");
        let run_as = if current_account() == self.cluster.account {
            String::new()
        } else {
            format!(", run_as: {}", quoted(&self.cluster.account.name))
        };
        let text = format!(
            "# Written by “walback demo”. Paths are relative to this file.\n\
             time_zone: {}\n\
             sources:\n  shop:\n    \
             backups: [{{path: backups}}]\n    \
             wal: [{{path: archive}}]\n    \
             restore: {{directory: recovery, bin_dir: {}{run_as}}}\n    \
             drill: {{scratch: drills, rto: 5min}}\n",
            quoted(&self.wish.zone.to_string()),
            quoted(&self.cluster.bin_dir.display().to_string()),
        );
        self.host.write_file(&file, text.as_bytes(), 0o644, &current_account())?;
        self.host.make_directory(&self.directory.join("drills"), &self.cluster.account)?;
        let state = state_directory(self.directory);
        Config::load(&Overrides { file: Some(file), ..Overrides::default() }, &|name| {
            (name == "WALBACK_STATE_DIR").then(|| OsString::from(&state))
        })
    }

    fn deploy(&self, shop: &Session) -> Result<RestorePoint> {
        let lsn: Lsn = shop.value(&format!("SELECT pg_create_restore_point('{RESTORE_POINT}')"))?;
        let restore_point = RestorePoint { name: RESTORE_POINT.to_owned(), lsn };
        self.tell(&Scene::RestorePoint(&restore_point));
        shop.run(DEPLOY)?;
        self.cluster.archive_all(shop, TimelineId::FIRST, self.wish.cancel)?;
        Ok(restore_point)
    }

    /// Somebody restores to the restore point, for a test, promotes, and has forgotten that archiving is on: the
    /// archive has a second timeline from then on, which PostgreSQL takes for the latest.
    fn stray(&self, config: &Config) -> Result<Stray> {
        let cancel = self.wish.cancel;
        let state_directory = self.directory.join("test-restore-state");
        let mut config = config.clone();
        config.state_directory.clone_from(&state_directory);
        let engine = Engine::new(&config)?;
        let directory = self.directory.join("test-restore");
        let name = RESTORE_POINT.to_owned().try_into().map_err(|_| Error::failed("bad-name", "no restore point"))?;
        let target = Target {
            timeline: TimelineChoice::Number(TimelineId::FIRST),
            action: Action::Promote,
            ..Target::new(TargetKind::Name(name))
        };
        let settings = [("archive_mode", "on".to_owned()), ("archive_command", archive_command(&self.cluster.archive))];
        let plan = plan(&engine, &config, target, &directory, &settings, cancel)?;
        let recovery = engine.begin(&plan, &plan.hash()?, &|_| {}, cancel)?;
        let session = Session::open(&plan.server.socket_directory, plan.server.port, DATABASE)?;
        for number in 1..=STRAYED {
            session.run(&numbered(STRAY, number))?;
            std::thread::sleep(Duration::from_millis(SLOW_MS));
        }
        self.cluster.archive_all(&session, recovery.timeline, cancel)?;
        drop(session);
        engine.stop(&recovery.id, &|_| {})?;
        engine.discard(&recovery.id, &|_| {})?;
        self.host.empty_directory(&state_directory, None)?;
        self.host.remove_directory(&state_directory)?;
        Ok(Stray { timeline: recovery.timeline, transactions: STRAYED })
    }

    fn accident(&self, shop: &Session, traded: u32) -> Result<Vec<Act>> {
        let cancel = self.wish.cancel;
        let [delete, drop] = ACCIDENT;
        let first = self.destroy(shop, delete)?;
        trade(shop, traded, BETWEEN, SLOW_MS, cancel)?;
        let second = self.destroy(shop, drop)?;
        trade(shop, traded + BETWEEN, UNNOTICED, PACE_MS, cancel)?;
        Ok(vec![first, second])
    }

    fn destroy(&self, shop: &Session, (table, sql): (&str, &str)) -> Result<Act> {
        let rows = shop.value(&format!("SELECT count(*) FROM {table}"))?;
        let xid: Xid = shop.value(&format!("BEGIN; {sql}; SELECT txid_current(); COMMIT"))?;
        let micros: i64 = shop
            .value(&format!("SELECT (extract(epoch FROM pg_xact_commit_timestamp('{xid}'::xid)) * 1000000)::bigint"))?;
        let at = crate::core::time::Timestamp::from_unix_micros(micros)
            .ok_or_else(|| Error::failed("sql-unexpected", "the server's clock is outside of the years 1 to 9999"))?;
        let act = Act { sql: sql.to_owned(), xid, at, rows };
        self.tell(&Scene::Destroyed(&act));
        Ok(act)
    }

    fn keep(&self, story: &Story) -> Result<()> {
        let text = serde_json::to_vec_pretty(story)
            .map_err(|error| Error::failed("no-json", "the story cannot be written as JSON").caused_by(&error))?;
        self.host.write_file(&self.directory.join("story.json"), &text, 0o644, &current_account())
    }
}

/// Makes the plan for a recovery of the demonstration's cluster.
///
/// # Errors
/// When the target cannot be reached.
pub(super) fn plan(
    engine: &Engine,
    config: &Config,
    target: Target,
    directory: &Path,
    settings: &[(&str, String)],
    cancel: &Cancel,
) -> Result<crate::plan::Plan> {
    let configured = config.source()?;
    let source = LocalSource::new(configured);
    let catalog = source.list(cancel)?;
    let mut restore = configured.restore.clone();
    restore.settings.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    let preparation = Preparation {
        source: &source,
        catalog: &catalog,
        recoveries: engine.recoveries(),
        cache: engine.cache(),
        names: &Mutex::default(),
        progress: &|_| {},
        cancel,
    };
    let directory = directory.to_path_buf();
    preparation.plan(&Request {
        target,
        backup: None,
        directory,
        restore,
        pristine: None,
        make_way: false,
        zone: config.zone,
    })
}

/// `transactions` of trade from number `from` on, with so many milliseconds between two of them, more or less: a shop
/// has better and worse moments.
fn trade(shop: &Session, from: u32, transactions: u32, pace_ms: u64, cancel: &Cancel) -> Result<()> {
    for number in from..from + transactions {
        cancel.check()?;
        trade_once(shop, number)?;
        let slack = u64::from((number % 40).abs_diff(20));
        std::thread::sleep(Duration::from_millis(pace_ms * (10 + slack) / 20));
    }
    Ok(())
}

/// One more transaction of trade.
pub(super) fn trade_once(shop: &Session, number: u32) -> Result<()> {
    shop.run(&numbered(TRADE, number))
}

fn numbered(sql: &str, number: u32) -> String {
    sql.replace(":n", &number.to_string())
}

/// How many rows the shop's tables have.
///
/// # Errors
/// When the server does not answer.
pub(super) fn count(shop: &Session) -> Result<Vec<TableCount>> {
    let count = |table: &str| {
        let exists: String = shop.value(&format!("SELECT to_regclass('{table}') IS NOT NULL"))?;
        let rows = if exists == "t" { Some(shop.value(&format!("SELECT count(*) FROM {table}"))?) } else { None };
        Ok(TableCount { table: table.to_owned(), rows })
    };
    TABLES.into_iter().map(count).collect()
}

/// A value in YAML, whatever is in it: every string of JSON is one of YAML.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transaction_gets_its_number() {
        for sql in [TRADE, STRAY] {
            assert!(sql.contains(":n"));
            assert!(!numbered(sql, 7).contains(":n"));
        }
    }

    #[test]
    fn values_in_the_configuration_are_safe_in_yaml() {
        let read: String = serde_yaml::from_str(&quoted("/a: b #\n\"c\" 'd'\\")).unwrap();
        assert_eq!(read, "/a: b #\n\"c\" 'd'\\");
    }
}
