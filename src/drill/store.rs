//! Where drills are kept: below the state directory, each with its report, and the reports in a chain.
//!
//! A report has the SHA-256 of the one before, and `chain.jsonl` a line with its own: that a report, or a document made of
//! it, is missing or was changed shows. Who can write all of that can make another chain: the last line's hash, kept
//! elsewhere, proves the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::page;
use crate::core::Zone;
use crate::engine::host::Host;
use crate::engine::host::lock::{self, Holder};
use crate::engine::record::DRILLS;
use crate::error::{Error, Result};
use crate::event::DrillReport;
use crate::event::drill::{Drilled, document};

const CHAIN: &str = "chain.jsonl";
const JOURNAL: &str = "journal.jsonl";
/// So many former drills are shown in a report.
const TREND: usize = 30;
/// How long another drill may take to write its report.
const PATIENCE: Duration = Duration::from_secs(10);

/// The drills that this machine knows.
#[derive(Debug, Clone)]
pub struct Drills {
    directory: PathBuf,
}

/// A line of the chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// Which report, from 1.
    pub number: u64,
    /// The drill's name.
    pub id: String,
    /// SHA-256 of the report's file, in hexadecimal.
    pub hash: String,
}

/// How far a drill has come that is not over: a line of its journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Draft {
    /// Whether nothing is left to be done but to remove what it made: its result stands.
    pub judged: bool,
    /// Whether the drill has promoted its copy, or was about to.
    pub promotes: bool,
    /// What is known so far.
    pub report: DrillReport,
}

/// A drill, as far as it is known.
#[derive(Debug, Clone, PartialEq)]
pub enum Known {
    /// It is over.
    Over(Box<DrillReport>),
    /// Its report cannot be read; why.
    Broken(String, String),
    /// It goes on; who makes it.
    Running(Box<DrillReport>, Option<Holder>),
    /// It was killed, and nobody has cleared up behind it yet.
    Killed(Box<Draft>),
}

/// A report in its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Sealed {
    /// The report.
    pub report: DrillReport,
    /// Its SHA-256.
    pub hash: String,
    /// Where its documents are.
    pub directory: PathBuf,
}

/// What came of looking at the chain.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Verified {
    /// Reports in the chain.
    pub reports: u64,
    /// The hash of the last of them.
    pub head: Option<String>,
    /// What is wrong, in words.
    pub problems: Vec<String>,
}

/// The journal of a drill that is being made, locked.
#[derive(Debug)]
pub struct DrillJournal {
    file: File,
    promotes: bool,
}

impl Drills {
    /// Those below a state directory.
    #[must_use]
    pub fn below(state_directory: &Path) -> Drills {
        Drills { directory: state_directory.join(DRILLS) }
    }

    /// Below which directory they are.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Whether a drill has this name.
    #[must_use]
    pub fn has(&self, id: &str) -> bool {
        self.directory.join(id).symlink_metadata().is_ok()
    }

    /// Whether what a drill restored was kept, as its report says.
    #[must_use]
    pub fn is_kept(&self, id: &str) -> bool {
        self.report(id).is_ok_and(|report| report.kept)
    }

    /// Where a drill's report and documents are.
    #[must_use]
    pub fn place(&self, id: &str) -> PathBuf {
        self.directory.join(id)
    }

    /// Begins a drill of this name.
    ///
    /// # Errors
    /// When it cannot be written, or another Walback has it.
    pub fn begin(&self, host: &Host, id: &str) -> Result<DrillJournal> {
        let place = self.place(id);
        host.make_state_directory(&place)?;
        let file = host.open_journal(&place.join(JOURNAL))?;
        Ok(DrillJournal { file, promotes: false })
    }

    /// The chain's lines.
    ///
    /// # Errors
    /// When it cannot be read, or a line in it is none of ours.
    pub fn chain(&self) -> Result<Vec<Link>> {
        let path = self.directory.join(CHAIN);
        let Some(text) = read(&path)? else { return Ok(Vec::new()) };
        let text = String::from_utf8_lossy(&text).into_owned();
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        let broken = |line: usize, why: String| {
            Error::failed("chain-broken", format!("the chain of reports is broken: {}, line {line}", path.display()))
                .because(why)
                .hint(format!("move {} away, and keep it: the next drill begins a new chain", self.directory.display()))
        };
        let parse = |(place, line): (usize, &str)| {
            let link: Link = serde_json::from_str(line).map_err(|error| broken(place + 1, error.to_string()))?;
            // It becomes a part of a path.
            let is_name = !link.id.is_empty()
                && link.id.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'));
            if is_name { Ok(link) } else { Err(broken(place + 1, "it names no drill".to_owned())) }
        };
        whole.lines().enumerate().map(parse).collect()
    }

    /// The report of a drill.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn report(&self, id: &str) -> Result<DrillReport> {
        let path = self.place(id).join(document::JSON);
        let bytes = read(&path)?;
        let bytes = bytes.ok_or_else(|| Error::failed("report-missing", format!("there is no {}", path.display())))?;
        parse(&bytes, &path)
    }

    /// What the value of a check was in the last drill of a source to the end of WAL in which it passed: what was wrong once
    /// does not become what is expected. A new cluster under the same name, as `pg_upgrade` makes it, has the same data.
    #[must_use]
    pub fn last_value(&self, source: &str, check: &str) -> Option<String> {
        let chain = self.chain().ok()?;
        let mut reports = chain.iter().rev().filter_map(|link| self.report(&link.id).ok());
        reports.find_map(|report| match report.source.name == source && report.is_of_latest() {
            true => report.value_of(check).map(str::to_owned),
            false => None,
        })
    }

    /// Every drill, those that are over first, in the order of the chain.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub fn all(&self) -> Result<Vec<Known>> {
        let chain = self.chain()?;
        let mut all: Vec<Known> = Vec::new();
        for link in &chain {
            all.push(match self.report(&link.id) {
                Ok(report) => Known::Over(Box::new(report)),
                Err(error) => Known::Broken(link.id.clone(), error.report().message.clone()),
            });
        }
        all.extend(self.unfinished(&chain));
        Ok(all)
    }

    /// The drills that were killed, and that nobody has cleared up behind yet.
    ///
    /// # Errors
    /// When the chain cannot be read.
    pub(super) fn killed(&self) -> Result<Vec<Draft>> {
        let unfinished = self.unfinished(&self.chain()?).into_iter();
        Ok(unfinished.filter_map(|known| if let Known::Killed(draft) = known { Some(*draft) } else { None }).collect())
    }

    /// The drills that have no report in the chain.
    fn unfinished(&self, chain: &[Link]) -> Vec<Known> {
        let over: BTreeSet<&str> = chain.iter().map(|link| link.id.as_str()).collect();
        let names = self.names().into_iter().filter(|id| !over.contains(id.as_str()));
        names
            .filter_map(|id| {
                let journal = self.place(&id).join(JOURNAL);
                let draft = last_draft(&journal)?;
                Some(match lock::holder(&journal) {
                    Some(holder) => Known::Running(Box::new(draft.report), holder),
                    None => Known::Killed(Box::new(draft)),
                })
            })
            .collect()
    }

    /// The names of all drills, in their order.
    fn names(&self) -> BTreeSet<String> {
        let entries = fs::read_dir(&self.directory).into_iter().flatten().flatten();
        let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        directories.filter_map(|entry| entry.file_name().into_string().ok()).collect()
    }

    /// Puts a report into the chain, and its documents beside it.
    ///
    /// # Errors
    /// When something cannot be written: then it is not in the chain.
    pub fn seal(&self, host: &Host, mut report: DrillReport, zone: Zone) -> Result<Sealed> {
        host.make_state_directory(&self.place(&report.id))?;
        let mut chain = self.lock_chain(host)?;
        let links = self.chain()?;
        let former = self.former(&links, &report.source);
        report.number = links.len() as u64 + 1;
        report.previous = links.last().map(|link| link.hash.clone());
        report.documents.clear();
        let directory = self.place(&report.id);
        for (name, text) in [
            (document::HTML, page::html(&report, &former, zone)),
            (document::MARKDOWN, page::markdown(&report, &former, zone)),
        ] {
            host.write_document(&directory.join(name), &text, 0o600, true)?;
            report.documents.insert(name.to_owned(), hash(text.as_bytes()));
        }
        let mut text = serde_json::to_string_pretty(&report).map_err(|error| {
            Error::failed("no-json", "the report cannot be written as JSON")
                .caused_by(&error)
                .hint("paths have to be UTF-8")
        })?;
        text.push('\n');
        host.write_document(&directory.join(document::JSON), &text, 0o600, true)?;
        let link = Link { number: report.number, id: report.id.clone(), hash: hash(text.as_bytes()) };
        self.add(host, &mut chain, &link)?;
        Ok(Sealed { report, hash: link.hash, directory })
    }

    /// Puts a report into the chain whose line is missing, as it is: its drill was killed before it could write the line, or
    /// the line was removed. `None` where there is no report yet.
    ///
    /// # Errors
    /// When the chain cannot be read or written; when the report does not fit behind the last one: then it is left as it is,
    /// for whoever wants to know how that came about.
    pub fn link_again(&self, host: &Host, id: &str) -> Result<Option<DrillReport>> {
        let mut chain = self.lock_chain(host)?;
        let links = self.chain()?;
        let Some(bytes) = read(&self.place(id).join(document::JSON))? else { return Ok(None) };
        let link = Link { number: links.len() as u64 + 1, id: id.to_owned(), hash: hash(&bytes) };
        let before = links.last().map(|link| link.hash.as_str());
        if let Some(problem) = self.verify_one(&link, before)?.first() {
            let place = self.place(id);
            return Err(Error::failed(
                "chain-broken",
                format!("its report is not in the chain, and does not fit: {problem}"),
            )
            .hint(format!("find out who has changed the chain; move {} away then, and keep it", place.display())));
        }
        self.add(host, &mut chain, &link)?;
        self.report(id).map(Some)
    }

    /// Which number a drill's report has, where it was written.
    pub(super) fn number_of(&self, id: &str) -> Option<u64> {
        self.report(id).ok().map(|report| report.number)
    }

    fn add(&self, host: &Host, chain: &mut File, link: &Link) -> Result<()> {
        let line = serde_json::to_string(link)
            .map_err(|error| Error::failed("no-json", "the chain cannot be written").caused_by(&error))?;
        host.append(chain, &format!("{line}\n"))
    }

    /// Waits for another drill that writes its report just now.
    fn lock_chain(&self, host: &Host) -> Result<File> {
        let started = Instant::now();
        loop {
            match host.open_journal(&self.directory.join(CHAIN)) {
                Err(error) if error.report().code == "recovery-busy" && started.elapsed() < PATIENCE => {
                    std::thread::sleep(Duration::from_millis(50));
                }
                opened => return opened,
            }
        }
    }

    /// The last drills of a source that are over, in order.
    fn former(&self, links: &[Link], source: &Drilled) -> Vec<DrillReport> {
        let reports = links.iter().rev().filter_map(|link| self.report(&link.id).ok());
        let mut former: Vec<DrillReport> = reports.filter(|report| report.is_of(source)).take(TREND).collect();
        former.reverse();
        former
    }

    /// Looks whether every report of the chain and every document is there, and as it was written.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn verify(&self) -> Result<Verified> {
        let links = match self.chain() {
            Ok(links) => links,
            Err(error) => return Ok(Verified { problems: vec![error.in_words()], ..Verified::default() }),
        };
        let mut verified = Verified { head: links.last().map(|link| link.hash.clone()), ..Verified::default() };
        let mut before: Option<&str> = None;
        for (place, link) in links.iter().enumerate() {
            verified.reports += 1;
            let number = place as u64 + 1;
            if link.number != number {
                verified.problems.push(format!("line {number} of the chain is for report {}", link.number));
            }
            let problems = self.verify_one(link, before)?;
            verified.problems.extend(problems.into_iter().map(|problem| format!("{}: {problem}", link.id)));
            before = Some(&link.hash);
        }
        // Another drill may have added its line meanwhile.
        let links = self.chain().unwrap_or(links.clone());
        let known: BTreeSet<&str> = links.iter().map(|link| link.id.as_str()).collect();
        for id in self.names().iter().filter(|id| !known.contains(id.as_str())) {
            // One that is being written just now is not in it yet.
            if self.place(id).join(document::JSON).exists() && lock::holder(&self.place(id).join(JOURNAL)).is_none() {
                verified.problems.push(format!("{id}: this report is not in the chain"));
            }
        }
        Ok(verified)
    }

    fn verify_one(&self, link: &Link, before: Option<&str>) -> Result<Vec<String>> {
        let place = self.place(&link.id);
        let Some(bytes) = read(&place.join(document::JSON))? else {
            return Ok(vec!["its report was removed".to_owned()]);
        };
        if hash(&bytes) != link.hash {
            return Ok(vec!["its report was changed".to_owned()]);
        }
        let report = match parse(&bytes, &place.join(document::JSON)) {
            Ok(report) => report,
            Err(error) => return Ok(vec![error.report().message.clone()]),
        };
        let mut problems = Vec::new();
        if (report.number, report.id.as_str()) != (link.number, link.id.as_str()) {
            problems.push(format!("its report says that it is number {} of {}", report.number, report.id));
        }
        if report.previous.as_deref() != before {
            problems.push("its report does not follow the one before it".to_owned());
        }
        problems.extend(changed_documents(&place, &report.documents)?);
        Ok(problems)
    }
}

fn changed_documents(place: &Path, documents: &BTreeMap<String, String>) -> Result<Vec<String>> {
    let mut problems = Vec::new();
    // Other names than these could lead anywhere.
    for (name, expected) in
        documents.iter().filter(|(name, _)| [document::HTML, document::MARKDOWN].contains(&name.as_str()))
    {
        match read(&place.join(name))? {
            None => problems.push(format!("{name} was removed")),
            Some(bytes) if hash(&bytes) != *expected => problems.push(format!("{name} was changed")),
            Some(_) => {}
        }
    }
    Ok(problems)
}

impl DrillJournal {
    /// Notes how far the drill has come; `judged`: nothing is left to be done but to remove what it made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note(&mut self, host: &Host, report: &DrillReport, judged: bool) -> Result<()> {
        let draft = Draft { judged, promotes: self.promotes, report: report.clone() };
        let line = serde_json::to_string(&draft).map_err(|error| {
            Error::failed("journal-unwritable", "this cannot be journalled")
                .caused_by(&error)
                .hint("paths have to be UTF-8")
        })?;
        host.append(&mut self.file, &format!("{line}\n"))
    }

    /// Notes that the drill is about to promote its copy: one that was promoted without that is somebody else's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn note_promotion(&mut self, host: &Host, report: &DrillReport) -> Result<()> {
        self.promotes = true;
        self.note(host, report, false)
    }

    /// Whether the drill has promoted its copy, or was about to.
    #[must_use]
    pub fn promotes(&self) -> bool {
        self.promotes
    }
}

/// What a journal said last.
fn last_draft(journal: &Path) -> Option<Draft> {
    let text = fs::read_to_string(journal).ok()?;
    text.lines().rev().find_map(|line| serde_json::from_str(line).ok())
}

/// SHA-256 in hexadecimal.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A file's bytes; `None` where there is none.
fn read(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::failed("unreadable", format!("cannot read {}", path.display())).caused_by(&error)),
    }
}

fn parse(bytes: &[u8], path: &Path) -> Result<DrillReport> {
    serde_json::from_slice(bytes).map_err(|error| {
        Error::failed("report-broken", format!("this is no report of a drill: {}", path.display())).caused_by(&error)
    })
}

#[cfg(test)]
#[path = "store_tests.rs"]
mod tests;
