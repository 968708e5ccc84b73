//! Finding something by what was typed: a name, a relation, a transaction id, a time, a position.

use std::collections::BTreeMap;

use super::points::{Place, Points};
use super::suspects;
use crate::catalog::{Point, Suspect};
use crate::core::progress::{counted, grouped};
use crate::core::time::{BadTime, parse_time};
use crate::core::xid::BadXid;
use crate::core::{Lsn, TimelineId, Timestamp, Xid, Zone};

/// Transactions of which it is remembered where they ended.
const LOCATED: usize = 256;

/// Where transactions ended that were looked for in the whole archive.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Located {
    known: BTreeMap<Xid, Vec<Point>>,
    asked: Option<Xid>,
}

impl Located {
    /// The ends of a transaction; numbers come round again, so there may be several. `None` where nobody looked.
    #[must_use]
    pub fn get(&self, xid: Xid) -> Option<&[Point]> {
        self.known.get(&xid).map(Vec::as_slice)
    }

    /// Whether it is being looked for.
    #[must_use]
    pub fn is_asked(&self, xid: Xid) -> bool {
        self.asked == Some(xid)
    }

    /// Notes that it is looked for; `false` where that is not needed.
    pub fn ask(&mut self, xid: Xid) -> bool {
        if self.known.contains_key(&xid) || self.asked == Some(xid) {
            return false;
        }
        self.asked = Some(xid);
        true
    }

    /// Takes in what was found.
    pub fn put(&mut self, xid: Xid, points: Vec<Point>) {
        if self.asked == Some(xid) {
            self.asked = None;
        }
        while self.known.len() >= LOCATED && self.known.pop_first().is_some() {}
        self.known.insert(xid, points);
    }

    /// It could not be looked for.
    pub fn give_up(&mut self, xid: Xid) {
        self.asked = self.asked.filter(|asked| *asked != xid);
    }

    /// What was not found may be there now: more has been read.
    pub fn forget_missing(&mut self) {
        self.known.retain(|_, points| !points.is_empty());
    }
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Match {
    /// Where it is; of a time, where its segment begins.
    pub place: Place,
    /// The time, where that is what was looked for.
    pub at: Option<Timestamp>,
    /// What is there, where that is known.
    pub point: Option<Point>,
    /// What it is.
    pub kind: MatchKind,
}

/// What was found, by what it was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MatchKind {
    /// A suspect: its kind, a relation, its id.
    Suspect,
    /// A restore point's name.
    RestorePoint,
    /// A transaction's id.
    Transaction,
    /// A position.
    Lsn,
    /// A time.
    Time,
}

/// What was looked for, and what was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// What was typed.
    pub text: String,
    /// What was found, by position.
    pub matches: Vec<Match>,
    /// The one that the cursor was put to.
    pub current: Option<usize>,
    /// The transaction id that it may be, where the archive has not been searched for it.
    pub unlocated: Option<Xid>,
    /// The time that it was read as.
    pub read_as: Option<String>,
    /// Why it is no time, though it looks like one.
    pub note: Option<String>,
    /// Not everything has been read yet.
    pub partial: bool,
}

/// What a search needs to know besides the points.
#[derive(Debug, Clone, Copy)]
pub struct Around<'a> {
    /// In which times are read.
    pub zone: Zone,
    /// What relative times count from.
    pub now: Timestamp,
    /// Transactions that were looked for.
    pub located: &'a Located,
}

impl Search {
    /// Looks for what was typed.
    #[must_use]
    pub fn new(text: &str, points: &Points, around: Around<'_>) -> Search {
        let text = text.trim();
        let mut search = Search {
            text: text.to_owned(),
            matches: Vec::new(),
            current: None,
            unlocated: None,
            read_as: None,
            note: None,
            partial: !points.overview().complete,
        };
        if text.is_empty() {
            return search;
        }
        search.names(points);
        search.suspects(points);
        search.transactions(points, around.located);
        search.positions(points);
        search.times(points, around);
        search.matches.sort_by_key(|found| (found.place, found.kind));
        // A suspect is a transaction too: once is enough.
        search.matches.dedup_by_key(|found| found.place);
        search
    }

    /// The same search in what is known now, at the same place.
    #[must_use]
    pub fn again(&self, points: &Points, around: Around<'_>) -> Search {
        let mut search = Search::new(&self.text, points, around);
        let place = self.current.and_then(|current| self.matches.get(current)).map(|found| found.place);
        search.current = place.and_then(|place| search.matches.iter().position(|found| found.place == place));
        search
    }

    fn names(&mut self, points: &Points) {
        let wanted = self.text.to_lowercase();
        let found =
            points.restore_points().filter(|p| p.name.as_ref().is_some_and(|n| n.to_lowercase().contains(&wanted)));
        self.matches.extend(found.map(|point| Match::of(point.clone(), MatchKind::RestorePoint)));
    }

    fn suspects(&mut self, points: &Points) {
        let wanted = self.text.to_lowercase();
        let found = points.suspects().filter(|suspect| is_like(suspect, &wanted));
        self.matches.extend(found.map(|suspect| Match::of(suspects::point(suspect), MatchKind::Suspect)));
    }

    fn transactions(&mut self, points: &Points, located: &Located) {
        // Whoever looks for an id with its epoch means its lower half.
        let xid = match self.text.parse::<Xid>() {
            Ok(xid) | Err(BadXid::WithEpoch { xid, .. }) => xid,
            Err(_) => return,
        };
        match located.get(xid) {
            Some(found) => self.matches.extend(found.iter().map(|p| Match::of(p.clone(), MatchKind::Transaction))),
            None => {
                self.unlocated = Some(xid);
                let at_hand = points.transaction(xid);
                self.matches.extend(at_hand.map(|point| Match::of(point, MatchKind::Transaction)));
            }
        }
    }

    fn positions(&mut self, points: &Points) {
        let Ok(lsn) = self.text.parse::<Lsn>() else { return };
        let number = points.segment_size().number_of(lsn);
        let with = points.timelines().into_iter().filter(|timeline| points.has_segment(*timeline, number));
        self.matches.extend(with.map(|timeline| Match {
            place: (timeline, lsn),
            at: None,
            point: None,
            kind: MatchKind::Lsn,
        }));
    }

    fn times(&mut self, points: &Points, around: Around<'_>) {
        let at = match parse_time(&self.text, around.zone, around.now) {
            Ok(at) => at,
            Err(bad) if !matches!(bad, BadTime::NotATime(_) | BadTime::Zone { .. }) => {
                self.note = Some(bad.to_string());
                return;
            }
            Err(_) => return,
        };
        let timelines: Vec<TimelineId> = points.timelines();
        let found = timelines.into_iter().filter_map(|timeline| points.segment_at(timeline, at));
        let found: Vec<Match> =
            found.map(|place| Match { place, at: Some(at), point: None, kind: MatchKind::Time }).collect();
        let read_as = at.in_zone(around.zone);
        self.read_as = read_as.get(..19).map(|time| format!("{time}{}", at.offset_if_twice(around.zone)));
        if found.is_empty() {
            self.note = Some(format!("nothing was read of {}", at.in_zone(around.zone)));
        }
        self.matches.extend(found);
    }

    /// What was looked for and what was found, in words.
    #[must_use]
    pub fn in_words(&self) -> String {
        let mut text = format!("“{}”: ", self.text);
        match self.matches.len() as u64 {
            0 => text.push_str(self.note.as_deref().unwrap_or("nothing like it")),
            number => text.push_str(&format!("{} ({})", matches(number), self.kinds())),
        }
        if let Some(xid) = self.unlocated {
            text.push_str(&format!("; transaction {xid} is being looked for"));
        }
        if self.partial {
            text.push_str("; not everything has been read yet");
        }
        text
    }

    /// Which of the places the cursor is at, in words, with the keys that lead to the others.
    #[must_use]
    pub fn current_in_words(&self, next: &str, previous: &str) -> String {
        let count = grouped(self.matches.len() as u64);
        let here = self.current.map_or(0, |current| current as u64 + 1);
        let others = if self.matches.len() > 1 { format!("; {next} next, {previous} previous") } else { String::new() };
        let partial = if self.partial { "; not everything has been read yet" } else { "" };
        format!("match {} of {count} for “{}” ({}){others}{partial}", grouped(here), self.text, self.kinds())
    }

    fn kinds(&self) -> String {
        let mut numbers: BTreeMap<MatchKind, u64> = BTreeMap::new();
        for found in &self.matches {
            *numbers.entry(found.kind).or_default() += 1;
        }
        let words = |(kind, number): (MatchKind, u64)| match kind {
            MatchKind::Time => {
                format!("{} on {}", self.read_as.as_deref().unwrap_or("that time"), counted(number, "timeline"))
            }
            MatchKind::Lsn => format!("that position on {}", counted(number, "timeline")),
            MatchKind::Suspect => counted(number, "suspect"),
            MatchKind::RestorePoint => counted(number, "restore point"),
            MatchKind::Transaction => counted(number, "transaction"),
        };
        numbers.into_iter().map(words).collect::<Vec<_>>().join(", ")
    }
}

fn matches(number: u64) -> String {
    if number == 1 { "1 match".to_owned() } else { format!("{}es", counted(number, "match").trim_end_matches('s')) }
}

impl Match {
    fn of(point: Point, kind: MatchKind) -> Match {
        Match { place: (point.timeline, point.lsn), at: None, point: Some(point), kind }
    }
}

/// Whether a suspect is what was typed: its kind, a relation's name or number, its id.
fn is_like(suspect: &Suspect, wanted: &str) -> bool {
    let kind = suspect.kind.name();
    let by_kind = wanted.len() > 2 && (kind.starts_with(wanted) || kind.replace('-', " ").starts_with(wanted));
    let by_relation = suspect.relations.iter().any(|relation| {
        let named = relation.name.as_ref().is_some_and(|name| name.to_lowercase().contains(wanted));
        named || relation.relfilenode.is_some_and(|number| number.to_string() == wanted)
    });
    by_kind || by_relation || suspect.xid.to_string() == wanted
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::app::points::tests::{archive, commit};
    use crate::catalog::PointKind;
    use crate::core::SegmentSize;

    /// A restore point, a drop of three files, a deletion, and a second timeline.
    fn points() -> Points {
        let named = Point { kind: PointKind::RestorePoint, name: Some("release_300".to_owned()), ..commit(1, 100) };
        let all = [
            commit(1, 50),
            named,
            Point { drops: 3, ..commit(1, 200) },
            Point { deletes: 5000, ..commit(1, 300) },
            commit(1, 400),
            commit(2, 350),
        ];
        let (overview, _) = archive(&all, SegmentSize::DEFAULT);
        let mut points = Points::default();
        points.set_overview(Arc::new(overview));
        points
    }

    fn search(text: &str, located: &Located) -> Search {
        let now = commit(1, 0).at.unwrap();
        Search::new(text, &points(), Around { zone: Zone::UTC, now, located })
    }

    fn found(text: &str) -> Vec<(u32, u64, MatchKind)> {
        let place = |found: &Match| (found.place.0.0, found.place.1.0, found.kind);
        search(text, &Located::default()).matches.iter().map(place).collect()
    }

    #[test]
    fn things_are_found_by_what_they_are_called() {
        use MatchKind::{Lsn, RestorePoint, Suspect, Time};
        assert_eq!(found("Release"), [(1, 100, RestorePoint)]);
        assert_eq!(found("drop"), [(1, 200, Suspect)]);
        assert_eq!(found("16385"), [(1, 200, Suspect)], "the number of a dropped file");
        assert_eq!(found("16384").len(), 2);
        assert_eq!(found("300"), [(1, 100, RestorePoint), (1, 300, Suspect)], "a part of a name and an id");
        assert_eq!(found("0/FF"), [(1, 255, Lsn), (2, 255, Lsn)]);
        assert_eq!(found("2024-10-02T11:56:00Z"), [(1, 0, Time)], "only one timeline had that time");
        assert_eq!(found("  "), []);
        assert_eq!(found("e\u{301}/%"), []);
    }

    #[test]
    fn what_was_found_is_said_and_what_is_not_known_too() {
        let none = Located::default();
        assert_eq!(search("drop", &none).in_words(), "“drop”: 1 match (1 suspect)");
        assert_eq!(
            search("300", &none).in_words(),
            "“300”: 2 matches (1 suspect, 1 restore point); transaction 300 is being looked for"
        );
        let at = search("2024-10-02T11:56:00Z", &none).in_words();
        assert_eq!(at, "“2024-10-02T11:56:00Z”: 1 match (2024-10-02 11:56:00 on 1 timeline)");
        assert_eq!(search("nobody", &none).in_words(), "“nobody”: nothing like it");
        assert!(search("2030-01-01", &none).in_words().contains("nothing was read of 2030-01-01"));
        let partial = Search { partial: true, ..search("drop", &none) };
        assert!(partial.in_words().ends_with("; not everything has been read yet"));
    }

    #[test]
    fn a_transaction_is_looked_for_once() {
        let mut located = Located::default();
        assert!(located.ask(Xid(400)) && !located.ask(Xid(400)) && located.is_asked(Xid(400)));
        located.put(Xid(400), vec![commit(1, 400), commit(2, 400)]);
        assert!(!located.ask(Xid(400)));
        let search = search("400", &located);
        assert_eq!((search.matches.len(), search.unlocated), (2, None), "numbers come round again");
        located.put(Xid(7), Vec::new());
        located.forget_missing();
        assert!(located.get(Xid(7)).is_none() && located.get(Xid(400)).is_some());
        for xid in 1000..2000 {
            located.put(Xid(xid), Vec::new());
        }
        assert!(located.known.len() <= LOCATED);
    }

    proptest::proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,40}") {
            let _ = search(&text, &Located::default()).in_words();
        }
    }
}
