//! The checks of a drill: what the restored cluster is asked, and what reads all of it.

use std::path::{Path, PathBuf};
use std::time::Instant;

use super::limit::Limit;
use super::measure::AtRest;
use super::remains::script_marks;
use super::run::{Drill, Heard};
use crate::config::drill::DrillConfig;
use crate::core::{Check, Expectation, PgMajor};
use crate::engine::data_directory::control_file;
use crate::engine::facts::client_program;
use crate::engine::host::programs::{Program, Ran};
use crate::engine::host::{Account, owner_of};
use crate::engine::primary::ALL_OVER;
use crate::engine::query::{ask, check_one, databases};
use crate::error::{Error, Result};
use crate::event::drill::{CheckKind, DrillCheck, Skipped};
use crate::event::{DrillReport, Recovery, RecoveryState};
use crate::plan::Plan;

/// The last lines of what a program said that are kept.
const SAID: usize = 20;
/// Reads every row of the catalogs with all its columns, and gives how many there are.
const CATALOGS: &str = "SELECT (SELECT count(md5(c::text)) FROM pg_class c) \
     + (SELECT count(md5(a::text)) FROM pg_attribute a) + (SELECT count(md5(t::text)) FROM pg_type t) \
     + (SELECT count(md5(p::text)) FROM pg_proc p) + (SELECT count(md5(i::text)) FROM pg_index i) \
     + (SELECT count(md5(c::text)) FROM pg_constraint c) + (SELECT count(md5(d::text)) FROM pg_depend d)";
/// Whether the extension is in a database.
const HAS_AMCHECK: &str = "SELECT 1 FROM pg_extension WHERE extname = 'amcheck'";

/// Checks of one restored cluster.
pub(super) struct Checks<'a> {
    pub(super) drill: &'a Drill<'a>,
    pub(super) config: &'a DrillConfig,
    pub(super) plan: &'a Plan,
    pub(super) recovery: &'a Recovery,
    /// The limit of the whole drill.
    pub(super) limit: &'a Limit,
    /// The role that Walback connects as.
    pub(super) role: String,
}

/// What came of something that was done for a check.
struct Came {
    passed: bool,
    value: Option<String>,
    said: Vec<String>,
}

impl Checks<'_> {
    /// Asks every database, and the questions of the configuration.
    ///
    /// # Errors
    /// When the drill was given up.
    pub(super) fn ask(&self, report: &mut DrillReport) -> Result<()> {
        match databases(self.recovery, self.plan) {
            Ok(names) => {
                report.by.postgresql = names.first().and_then(|name| self.server_version(name));
                for name in &names {
                    self.open_database(name, report)?;
                }
            }
            Err(error) => self.take(report, "databases are listed", CheckKind::Database, "> 0", || {
                Ok(Came { passed: false, value: None, said: error.lines() })
            })?,
        }
        for check in &self.drill.source.checks {
            if check.expect.is_about_last() && !report.is_of_latest() {
                let why = "it is compared with the last drill to the end of WAL, and this one goes elsewhere";
                report.skipped.push(Skipped { name: check.name.clone(), why: why.to_owned() });
                continue;
            }
            let last = self.drill.drills.last_value(&self.drill.source.name, &check.name);
            self.ask_one(report, &check.name, CheckKind::Sql, check, last.as_deref())?;
        }
        Ok(())
    }

    fn server_version(&self, database: &str) -> Option<String> {
        self.value_of("SHOW server_version", database)
    }

    fn value_of(&self, query: &str, database: &str) -> Option<String> {
        let answer = ask(self.recovery, self.plan, (database, None), query, 1, self.limit.cancel()).ok()?;
        answer.rows.into_iter().next()?.into_iter().next()?
    }

    /// Whether the copy, at the end of WAL, has every transaction that there was on a primary on which none was going on.
    pub(super) fn has_all_of(&self, primary: Option<AtRest>, report: &DrillReport) -> bool {
        let is_paused = self.recovery.state == RecoveryState::Paused;
        let is_its_past = |at: &AtRest| at.timeline == self.recovery.resolved.timeline;
        let Some(primary) = primary.filter(|at| is_paused && report.is_of_latest() && is_its_past(at)) else {
            return false;
        };
        let databases = databases(self.recovery, self.plan).unwrap_or_default();
        let here = databases.first().and_then(|database| self.value_of(ALL_OVER, database));
        here.and_then(|here| here.parse::<u64>().ok()).is_some_and(|here| here == primary.next_xid)
    }

    fn open_database(&self, name: &str, report: &mut DrillReport) -> Result<()> {
        // A fixed text that parses.
        let Ok(expect) = "> 0".parse::<Expectation>() else { return Ok(()) };
        let called = format!("database {name} opens, and its catalogs are read");
        let check = Check { name: called.clone(), database: name.to_owned(), sql: CATALOGS.to_owned(), expect };
        self.ask_one(report, &called, CheckKind::Database, &check, None)
    }

    fn ask_one(
        &self,
        report: &mut DrillReport,
        name: &str,
        kind: CheckKind,
        check: &Check,
        last: Option<&str>,
    ) -> Result<()> {
        let expected = check.expect.in_words(last);
        self.take(report, name, kind, &expected, || {
            let limit = Limit::new(self.limit.cancel(), self.config.check_timeout);
            let came = match check_one(self.recovery, self.plan, check, last, limit.cancel()) {
                Ok(checked) => {
                    Came { passed: checked.passed, value: checked.value, said: checked.error.into_iter().collect() }
                }
                Err(_) if limit.exceeded().is_some() => self.too_long(),
                Err(error) => return Err(error),
            };
            Ok(came)
        })
    }

    /// Carries one check out, and tells of it.
    fn take(
        &self,
        report: &mut DrillReport,
        name: &str,
        kind: CheckKind,
        expected: &str,
        work: impl FnOnce() -> Result<Came>,
    ) -> Result<()> {
        let started = Instant::now();
        let Came { passed, value, said } = work()?;
        // A server that answers nothing any more, because the drill was given up, has not failed.
        self.limit.cancel().check()?;
        let check = DrillCheck {
            name: name.to_owned(),
            kind,
            passed,
            value,
            expected: expected.to_owned(),
            said,
            seconds: started.elapsed().as_secs_f64(),
        };
        (self.drill.listen)(&report.id, Heard::Checked(&check));
        report.checks.push(check);
        Ok(())
    }

    /// What reads all of it while the server runs.
    ///
    /// # Errors
    /// When the drill was given up.
    pub(super) fn read_everything(&self, report: &mut DrillReport, promoted: bool) -> Result<()> {
        self.amcheck(report, promoted)?;
        if self.config.dump {
            self.dump(report)?;
        }
        self.script(report)
    }

    fn amcheck(&self, report: &mut DrillReport, promoted: bool) -> Result<()> {
        const NAME: &str = "pg_amcheck";
        if self.config.amcheck == Some(false) {
            return Ok(());
        }
        let found = self.found(NAME);
        let cannot = match &found {
            _ if !self.plan.server.major.has_amcheck_program() => {
                Some(format!("{NAME} knows no server of PostgreSQL {}", self.plan.server.major))
            }
            Some(_) => None,
            None => Some(not_there(NAME)),
        };
        if let (Some(program), None) = (found, &cannot) {
            let mut arguments = self.connection();
            if promoted {
                arguments.extend(["--all", "--install-missing"].map(str::to_owned));
            } else {
                let installed = self.databases_with_amcheck()?;
                if installed.is_empty() {
                    let why = "no database has the extension amcheck: create it on the primary, or set “promote”";
                    return self.skip(report, NAME, why.to_owned(), self.config.amcheck);
                }
                arguments.extend(installed.iter().map(|name| format!("--database={}", pattern(name))));
            }
            return self.take(report, NAME, CheckKind::Amcheck, "no corruption", || {
                let ran = self.run(&program, &arguments, &[], false)?;
                Ok(self.came(ran, "no corruption", "corruption, or it could not look"))
            });
        }
        self.skip(report, NAME, cannot.unwrap_or_default(), self.config.amcheck)
    }

    fn databases_with_amcheck(&self) -> Result<Vec<String>> {
        let mut installed = Vec::new();
        for name in databases(self.recovery, self.plan).unwrap_or_default() {
            self.limit.cancel().check()?;
            let answer = ask(self.recovery, self.plan, (&name, None), HAS_AMCHECK, 1, self.limit.cancel());
            if answer.is_ok_and(|rows| !rows.rows.is_empty()) {
                installed.push(name);
            }
        }
        Ok(installed)
    }

    fn dump(&self, report: &mut DrillReport) -> Result<()> {
        const NAME: &str = "pg_dumpall";
        let Some(program) = self.found(NAME) else { return self.skip(report, NAME, not_there(NAME), Some(true)) };
        let major = self.plan.server.major;
        // That is nothing that the data could help.
        if let Some(older) = self.version_of(&program).filter(|version| !version.dumps(major)) {
            let why = format!("{NAME} of PostgreSQL {older} reads no server of {major}: install that of {major}");
            return self.skip(report, NAME, why, Some(true));
        }
        self.take(report, NAME, CheckKind::Dump, "everything can be read", || {
            let ran = self.run(&program, &self.connection(), &[], true)?;
            Ok(self.came(ran, "everything was read", "not everything could be read"))
        })
    }

    fn script(&self, report: &mut DrillReport) -> Result<()> {
        let Some(script) = &self.config.script else { return Ok(()) };
        let name = script.file_name().map_or_else(|| "script".to_owned(), |name| name.to_string_lossy().into_owned());
        let server = &self.plan.server;
        let environment = [
            ("PGHOST", server.socket_directory.display().to_string()),
            ("PGPORT", server.port.to_string()),
            ("PGUSER", self.role.clone()),
            ("PGDATABASE", server.database.clone()),
            ("WALBACK_SOURCE", report.source.name.clone()),
        ];
        let environment: Vec<_> =
            environment.into_iter().chain(script_marks(&report.id, &self.plan.directory)).collect();
        self.take(report, &name, CheckKind::Script, "status 0", || {
            let ran = self.run(script, &[], &environment, false)?;
            let status = ran.status.map_or_else(|| "killed".to_owned(), |status| format!("status {status}"));
            Ok(Came { value: Some(status), ..self.came(ran, "", "") })
        })
    }

    /// Whether `pg_checksums` is to be run, and can be: the server has to be stopped for it. Where it cannot, that is told.
    pub(super) fn wants_checksums(&self, report: &mut DrillReport) -> Result<bool> {
        const NAME: &str = "pg_checksums";
        if self.config.checksums == Some(false) {
            return Ok(false);
        }
        let why = match control_file(&self.plan.directory) {
            Ok(control) if !control.data_checksums => "the cluster has no data checksums".to_owned(),
            Ok(_) => match self.found(NAME).map(|program| self.version_of(&program)) {
                None => not_there(NAME),
                // It knows the data of its own version only.
                Some(version) if version != Some(self.plan.server.major) => {
                    format!("{NAME} of PostgreSQL {} is not there", self.plan.server.major)
                }
                Some(_) => return Ok(true),
            },
            Err(why) => why,
        };
        self.skip(report, NAME, why, self.config.checksums)?;
        Ok(false)
    }

    /// Reads every block of the stopped copy.
    ///
    /// # Errors
    /// When the drill was given up.
    pub(super) fn checksums(&self, report: &mut DrillReport) -> Result<()> {
        const NAME: &str = "pg_checksums";
        let Some(program) = self.found(NAME) else { return Ok(()) };
        let arguments = ["--check".to_owned(), "-D".to_owned(), self.plan.directory.display().to_string()];
        self.take(report, NAME, CheckKind::Checksums, "0 bad", || {
            let ran = self.run(&program, &arguments, &[], false)?;
            let told = |what: &str| {
                let line = ran.said.lines().find(|line| line.starts_with(what))?;
                Some(line.rsplit(':').next()?.trim().to_owned())
            };
            let value = told("Bad checksums").zip(told("Blocks scanned"));
            let value = value.map(|(bad, blocks)| format!("{bad} bad of {blocks} blocks"));
            Ok(Came { value, ..self.came(ran, "", "") })
        })
    }

    /// Leaves a check out; where it was asked for, that is a failure.
    fn skip(&self, report: &mut DrillReport, name: &str, why: String, asked: Option<bool>) -> Result<()> {
        if asked == Some(true) {
            let kind = match name {
                "pg_amcheck" => CheckKind::Amcheck,
                "pg_dumpall" => CheckKind::Dump,
                _ => CheckKind::Checksums,
            };
            return self.take(report, name, kind, "it can be run", || {
                Ok(Came { passed: false, value: None, said: vec![why] })
            });
        }
        report.skipped.push(Skipped { name: name.to_owned(), why });
        Ok(())
    }

    fn found(&self, name: &str) -> Option<PathBuf> {
        let path = client_program(name, &self.plan.server.bin_dir, self.plan.server.major);
        path.is_file().then_some(path)
    }

    /// The major version of a program of PostgreSQL, as it says itself.
    fn version_of(&self, program: &Path) -> Option<PgMajor> {
        let said = self.drill.host.run_as(&self.owner().ok()?, program, &["--version"]).ok()?;
        PgMajor::parse(said.split("(PostgreSQL)").nth(1)?)
    }

    fn connection(&self) -> Vec<String> {
        let server = &self.plan.server;
        vec![
            format!("--host={}", server.socket_directory.display()),
            format!("--port={}", server.port),
            format!("--username={}", self.role),
        ]
    }

    fn run(&self, path: &Path, arguments: &[String], environment: &[(&str, String)], to_nowhere: bool) -> Result<Ran> {
        let limit = Limit::new(self.limit.cancel(), self.config.check_timeout);
        let program = Program { path, arguments, environment, output_to_nowhere: to_nowhere, of_the_copy: true };
        self.drill.host.run_while(&self.owner()?, &program, &|| !limit.cancel().is_cancelled())
    }

    fn owner(&self) -> Result<Account> {
        owner_of(&self.plan.directory).map_err(|why| Error::failed("no-server-user", why))
    }

    fn came(&self, ran: Ran, good: &str, bad: &str) -> Came {
        if ran.cut_short {
            return self.too_long();
        }
        let passed = ran.succeeded();
        let lines: Vec<String> = ran.said.lines().map(str::to_owned).collect();
        let last = lines.get(lines.len().saturating_sub(SAID)..).unwrap_or_default().to_vec();
        Came {
            passed,
            value: Some(if passed { good } else { bad }.to_owned()),
            said: if passed { Vec::new() } else { last },
        }
    }

    fn too_long(&self) -> Came {
        let limit = crate::core::progress::Seconds(self.config.check_timeout.as_secs_f64());
        Came { passed: false, value: None, said: vec![format!("it was given up after {limit}, its limit")] }
    }
}

fn not_there(name: &str) -> String {
    format!("{name} is not there: install all programs of this PostgreSQL version")
}

/// A name as `pg_amcheck` takes it for itself, and not for a pattern.
fn pattern(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
