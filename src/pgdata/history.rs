//! `TTTTTTTT.history`: from which timelines a timeline descends, and where it left each.

use serde::Serialize;

use crate::core::{Lsn, TimelineId, TimelinePath};

/// One timeline's history file (`src/backend/access/transam/timeline.c`). Timeline 1 has none; its history is
/// [`History::of_first`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct History {
    /// Whose history it is.
    pub timeline: TimelineId,
    /// Its ancestors, oldest first. Where the switch was made during a recovery that stopped before its target
    /// timeline began, the places at which they ended go backwards: the server writes such files, reads them, and
    /// so does [`History::path`].
    pub entries: Vec<HistoryEntry>,
}

/// One ancestor in a history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HistoryEntry {
    /// The ancestor.
    pub timeline: TimelineId,
    /// Where it was left for the next one.
    pub ended_at: Lsn,
    /// Why, in the server's words: `before transaction 728`, `at restore point "x"`, `no recovery target specified`.
    pub reason: String,
}

/// Why a text is not a history file. Lines count from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadHistory {
    /// Neither blank nor a comment, and no ancestor either.
    #[error("line {line}, “{}”, is not a timeline's number and the LSN where it ended", .text.escape_debug())]
    Syntax {
        /// Which line.
        line: usize,
        /// How it begins.
        text: String,
    },
    /// Ancestors are listed oldest first.
    #[error("line {line} names timeline {timeline} after timeline {after}; their numbers must rise")]
    NotRising {
        /// Which line.
        line: usize,
        /// What it names.
        timeline: TimelineId,
        /// What stands before it.
        after: TimelineId,
    },
    /// A child's number is higher than that of any ancestor.
    #[error("it names timeline {ancestor} as an ancestor of timeline {timeline}, whose number is not higher")]
    NotAChild {
        /// The highest ancestor.
        ancestor: TimelineId,
        /// Whose file it is.
        timeline: TimelineId,
    },
}

impl History {
    /// The history of timeline 1, which has no file.
    #[must_use]
    pub fn of_first() -> History {
        History { timeline: TimelineId::FIRST, entries: Vec::new() }
    }

    /// Reads the history file of `timeline`, refusing what the server refuses (`readTimeLineHistory`).
    ///
    /// # Errors
    /// See [`BadHistory`].
    pub fn parse(timeline: TimelineId, text: &str) -> Result<History, BadHistory> {
        let mut entries: Vec<HistoryEntry> = Vec::new();
        for (number, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let syntax = || BadHistory::Syntax { line: number, text: text.chars().take(80).collect() };
            let entry = entry(text).ok_or_else(syntax)?;
            match entries.last() {
                Some(last) if entry.timeline <= last.timeline => {
                    return Err(BadHistory::NotRising { line: number, timeline: entry.timeline, after: last.timeline });
                }
                _ => entries.push(entry),
            }
        }
        match entries.last() {
            Some(last) if last.timeline >= timeline => Err(BadHistory::NotAChild { ancestor: last.timeline, timeline }),
            _ => Ok(History { timeline, entries }),
        }
    }

    /// The way through the ancestors to this timeline.
    #[must_use]
    pub fn path(&self) -> TimelinePath {
        let ancestors: Vec<_> = self.entries.iter().map(|entry| (entry.timeline, entry.ended_at)).collect();
        TimelinePath::new(&ancestors, self.timeline)
    }

    /// The timeline that this one forked off; `None` for a first one.
    ///
    /// The server writes down the timeline that recovery was to follow. Where it stopped before that one had
    /// begun, the WAL really left is an older one's: `path().timeline_at()` of the byte before the fork.
    #[must_use]
    pub fn parent(&self) -> Option<TimelineId> {
        self.entries.last().map(|entry| entry.timeline)
    }

    /// Where this timeline begins.
    #[must_use]
    pub fn forked_at(&self) -> Option<Lsn> {
        self.entries.last().map(|entry| entry.ended_at)
    }

    /// Why this timeline was begun, in the server's words.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.entries.last().map(|entry| entry.reason.as_str())
    }
}

fn entry(text: &str) -> Option<HistoryEntry> {
    let (timeline, rest) = text.split_once(char::is_whitespace)?;
    let rest = rest.trim_start();
    let (ended_at, reason) = rest.split_once(char::is_whitespace).unwrap_or((rest, ""));
    let timeline = timeline.parse().ok().filter(|id| *id > 0).map(TimelineId)?;
    Some(HistoryEntry { timeline, ended_at: ended_at.parse().ok()?, reason: reason.trim_start().to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By a 15.18 server that recovered twice: to a transaction, then to the end of WAL.
    const FOURTH: &str = "1\t0/4002610\tafter transaction 728\n\n3\t0/5000000\tno recovery target specified\n";

    fn parse(timeline: u32, text: &str) -> Result<History, BadHistory> {
        History::parse(TimelineId(timeline), text)
    }

    #[test]
    fn ancestors_come_oldest_first() {
        let history = parse(4, FOURTH).unwrap();
        assert_eq!(history.path().to_string(), "1 → 3 (at 0/4002610) → 4 (at 0/5000000)");
        assert_eq!((history.parent(), history.forked_at()), (Some(TimelineId(3)), Some(Lsn(0x500_0000))));
        assert_eq!(history.reason(), Some("no recovery target specified"));
        assert_eq!(history.entries[0].reason, "after transaction 728");
    }

    #[test]
    fn comments_blank_lines_and_a_time_targets_extra_line_end_are_skipped() {
        let text = "# by hand\n\n2\t0/5000148\tbefore 2026-11-20 20:24:40.318428+00\n\n\n   \n7 0/6000000\n";
        let history = parse(9, text).unwrap();
        assert_eq!(history.path().to_string(), "2 → 7 (at 0/5000148) → 9 (at 0/6000000)");
        assert_eq!(history.entries[0].reason, "before 2026-11-20 20:24:40.318428+00");
        assert_eq!(history.reason(), Some(""));
    }

    #[test]
    fn a_timeline_without_ancestors_is_a_first_one() {
        for history in [History::of_first(), parse(1, "# nothing\n").unwrap()] {
            assert_eq!((history.parent(), history.forked_at(), history.reason()), (None, None, None));
            assert_eq!(history.path().last(), TimelineId(1));
        }
    }

    /// By a server of each of 13 to 18 whose target timeline, 3, began after the point at which it stopped.
    #[test]
    fn a_switch_point_may_lie_before_the_one_above_it() {
        let history =
            parse(4, "1\t0/50000F8\tat restore point \"b\"\n\n3\t0/3002108\tat restore point \"a\"\n").unwrap();
        assert_eq!((history.parent(), history.forked_at()), (Some(TimelineId(3)), Some(Lsn(0x300_2108))));
        assert_eq!(history.path().timeline_at(Lsn(0x300_2107)), Some(TimelineId(1)), "what was really left");
    }

    #[test]
    fn what_the_server_refuses_is_refused() {
        let error = |timeline, text: &str| parse(timeline, text).unwrap_err().to_string();
        assert_eq!(
            error(3, "1\t0/4002610\tx\n1\t0/4002610\ty\n"),
            "line 2 names timeline 1 after timeline 1; their numbers must rise"
        );
        assert_eq!(
            error(3, "3\t0/4002610\tx\n"),
            "it names timeline 3 as an ancestor of timeline 3, whose number is not higher"
        );
        for bad in ["x", "1", "1\t", "1\t4002610\tx", "-1\t0/0\tx", "0\t0/1\tx", "\u{1F}\u{0}"] {
            let error = error(3, &format!("\n{bad}\n"));
            assert!(error.starts_with("line 2, ") && error.ends_with("the LSN where it ended"), "{bad:?}: {error}");
        }
        assert!(error(3, &"x".repeat(100_000)).len() < 300);
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(timeline: u32, text: String) {
            let _ = parse(timeline, &text);
        }

        #[test]
        fn what_a_server_would_write_reads_back(ends in prop::collection::vec(any::<u64>(), 0..6)) {
            let ids = || (1..).map(TimelineId);
            let text: String = ends.iter().zip(ids()).map(|(end, id)| format!("{id}\t{}\tx y\n\n", Lsn(*end))).collect();
            let history = parse(ends.len() as u32 + 1, &text).unwrap();
            let read: Vec<_> = history.entries.iter().map(|entry| (entry.timeline, entry.ended_at.0)).collect();
            prop_assert_eq!(read, ids().zip(ends).collect::<Vec<_>>());
        }
    }
}
