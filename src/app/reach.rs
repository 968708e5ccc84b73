//! Where recovery can get to at all: from the end of a usable backup on, up to the first WAL that is missing.

use std::collections::BTreeMap;

use crate::catalog::overview::DamagedPlace;
use crate::catalog::{Backup, Catalog, Gap, Point};
use crate::core::{Lsn, TimelineId, TimelinePath};

/// Stretches of WAL that recovery reaches from some usable backup, by timeline.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// From where to where; `None` before the catalog is known.
    stretches: Option<BTreeMap<TimelineId, Vec<(Lsn, Lsn)>>>,
}

/// Why recovery does not come somewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// WAL is missing or damaged between every backup and there.
    BehindGap,
    /// It lies before the end of the first usable backup.
    TooEarly,
    /// No usable backup leads to the timeline.
    NoBackup,
}

impl Why {
    /// Every one, in the order of the declaration.
    pub const ALL: [Why; 3] = [Why::BehindGap, Why::TooEarly, Why::NoBackup];

    /// Which stretch that is.
    #[must_use]
    pub fn in_words(self) -> &'static str {
        match self {
            Why::BehindGap => "behind the gap: cannot be reached",
            Why::TooEarly => "before the first usable backup: cannot be reached",
            Why::NoBackup => "no usable backup leads here: cannot be reached",
        }
    }
}

impl Reach {
    /// Of these stretches, from where to where.
    #[cfg(test)]
    pub(crate) fn from_stretches(stretches: impl IntoIterator<Item = (TimelineId, Vec<(Lsn, Lsn)>)>) -> Reach {
        Reach { stretches: Some(stretches.into_iter().collect()) }
    }

    /// Of the backups and archives of this catalog, with what is known to be damaged.
    #[must_use]
    pub fn of(catalog: &Catalog, damaged: &[DamagedPlace]) -> Reach {
        let on = |timeline: TimelineId| {
            let path = catalog.path_to(timeline)?;
            let backups = catalog.usable_backups().filter(|backup| catalog.leads_along(backup, &path));
            let stretches = backups.filter_map(|backup| {
                let from = backup.stop_lsn.or(backup.start_lsn)?;
                Some((from, limit(catalog, damaged, backup, &path))).filter(|(from, to)| from <= to)
            });
            Some(stretches.collect())
        };
        let timelines = catalog.timelines.iter();
        Reach { stretches: Some(timelines.map(|t| (t.id, on(t.id).unwrap_or_default())).collect()) }
    }

    /// Whether recovery can stop at this point, as far as can be seen.
    #[must_use]
    pub fn reaches(&self, point: &Point) -> bool {
        let Some(all) = &self.stretches else { return true };
        // The record that ends a backup makes it consistent: recovery can stop just behind it.
        let within = |(from, to): &(Lsn, Lsn)| point.end_lsn.max(point.lsn) >= *from && point.lsn < *to;
        all.get(&point.timeline).is_some_and(|stretches| stretches.iter().any(within))
    }

    fn of_timeline(&self, timeline: TimelineId) -> Option<&[(Lsn, Lsn)]> {
        Some(self.stretches.as_ref()?.get(&timeline).map_or(&[], Vec::as_slice))
    }

    /// Whether recovery comes to any of the WAL from one position up to another one, as far as can be seen.
    #[must_use]
    pub fn meets(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> bool {
        let Some(stretches) = self.of_timeline(timeline) else { return true };
        stretches.iter().any(|(first, limit)| *first < to && *limit > from)
    }

    /// Why recovery does not come to all of the WAL from one position up to another one; `None` where it does.
    #[must_use]
    pub fn why(&self, timeline: TimelineId, from: Lsn, to: Lsn) -> Option<Why> {
        let stretches = self.of_timeline(timeline)?;
        if stretches.iter().any(|(first, limit)| *first <= from && *limit >= to) {
            return None;
        }
        Some(match stretches.iter().map(|(first, _)| *first).min() {
            None => Why::NoBackup,
            Some(first) if from < first => Why::TooEarly,
            Some(_) => Why::BehindGap,
        })
    }

    /// Why recovery cannot stop there; `None` where it can, as far as can be seen.
    #[must_use]
    pub fn why_not(&self, point: &Point) -> Option<String> {
        if self.reaches(point) {
            return None;
        }
        let (timeline, lsn) = (point.timeline, point.lsn);
        let stretches = self.stretches.as_ref()?.get(&timeline).map_or(&[][..], Vec::as_slice);
        Some(match stretches.iter().map(|(from, _)| *from).min() {
            None => format!("No usable base backup leads to timeline {timeline}."),
            Some(first) if lsn < first => {
                format!("No usable base backup reaches back to here; the first stop is {first}.")
            }
            Some(_) => "WAL is missing or damaged between every earlier base backup and here.".into(),
        })
    }
}

/// Where WAL first ends for recovery from `backup` along `path`; at the end of all positions where nothing is missing.
fn limit(catalog: &Catalog, damaged: &[DamagedPlace], backup: &Backup, path: &TimelinePath) -> Lsn {
    let size = catalog.segment_size;
    let start = size.number_of(backup.start_lsn.unwrap_or(Lsn::INVALID));
    // What the backup brought along is not missed in the archive.
    let own = backup.own_wal.iter().map(|name| name.number(size)).max();
    let needed = own.map_or(start, |last| start.max(last + 1));
    let timeline = |id: TimelineId| catalog.timelines.iter().find(|timeline| timeline.id == id);
    let first = backup.timeline.and_then(timeline).and_then(|timeline| timeline.first_segment);
    let mut limit = Lsn(u64::MAX);
    if first.is_some_and(|first| first.number(size) > needed) {
        limit = size.start_of(needed);
    }
    for stretch in path.stretches() {
        let gaps = timeline(stretch.timeline).map_or(&[][..], |timeline| &timeline.gaps);
        let counts = |gap: &&Gap| {
            let starts = gap.first.start(size);
            gap.last.number(size) >= needed && stretch.end.is_none_or(|end| starts < end)
        };
        for gap in gaps.iter().filter(counts) {
            let from = size.start_of(gap.first.number(size).max(needed)).max(stretch.begin);
            limit = limit.min(from);
        }
        let counts = |place: &&DamagedPlace| {
            let at = place.damage.at;
            let needed = place.number >= needed && at >= stretch.begin && stretch.end.is_none_or(|end| at < end);
            place.timeline == stretch.timeline && needed
        };
        let ends = damaged.iter().filter(counts).map(|place| place.damage.at);
        limit = ends.fold(limit, Lsn::min);
    }
    limit
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::update::tests::{backup, catalog, timeline};
    use crate::catalog::PointKind;
    use crate::catalog::overview::Extent;
    use crate::core::{SegmentName, SegmentSize};
    use crate::wal::summary::Damage;

    fn segment(number: u64) -> SegmentName {
        SegmentName::new(TimelineId(1), number, SegmentSize::DEFAULT)
    }

    /// A transaction that ended there.
    fn point(number: u64) -> Point {
        Point::at(PointKind::Commit, TimelineId(1), at(number), at(number).plus(8))
    }

    fn at(number: u64) -> Lsn {
        SegmentSize::DEFAULT.start_of(number).plus(100)
    }

    #[test]
    fn it_begins_at_a_backups_end_and_ends_at_a_gap() {
        let mut catalog = catalog();
        let mut one = timeline(1);
        one.first_segment = Some(segment(2));
        one.gaps = vec![Gap { first: segment(8), last: segment(9), segments: 2 }];
        catalog.timelines = vec![one];
        catalog.backups = vec![backup("a")];
        catalog.backups[0].start_lsn = Some(at(4));
        catalog.backups[0].stop_lsn = Some(at(5));
        let why = |catalog: &Catalog, number| Reach::of(catalog, &[]).why_not(&point(number)).unwrap_or_default();
        assert!(why(&catalog, 3).contains("reaches back") && why(&catalog, 4).contains("reaches back"));
        assert_eq!(why(&catalog, 5) + &why(&catalog, 7), "");
        assert!(why(&catalog, 10).contains("WAL is missing"));
        let damage = Damage { at: at(6), found: at(6), resumed: None, reason: String::new() };
        let damaged = DamagedPlace {
            timeline: TimelineId(1),
            number: 6,
            file: segment(6).to_string(),
            extent: Extent::Part,
            damage,
        };
        let reach = Reach::of(&catalog, &[damaged]);
        assert!(reach.reaches(&point(5)) && !reach.reaches(&point(6)) && !reach.reaches(&point(7)));
        let end = Point { end_lsn: at(5), ..Point::at(PointKind::BackupEnd, TimelineId(1), Lsn(at(5).0 - 40), at(5)) };
        assert_eq!(Reach::of(&catalog, &[]).why_not(&end), None, "just behind it the backup is consistent");
        catalog.backups.push(backup("b"));
        catalog.backups[1].start_lsn = Some(at(10));
        catalog.backups[1].stop_lsn = Some(at(10));
        assert_eq!(why(&catalog, 10), "", "another backup is behind the gap");
        catalog.backups[0].problems.push("broken".to_owned());
        assert!(why(&catalog, 5).contains("reaches back"));
        catalog.backups.clear();
        assert!(why(&catalog, 5).contains("No usable base backup leads"));
        assert_eq!(Reach::default().why_not(&point(5)), None, "nothing is known yet");
    }

    #[test]
    fn what_a_backup_brought_along_is_not_missed() {
        let mut catalog = catalog();
        let mut one = timeline(1);
        one.first_segment = Some(segment(6));
        catalog.timelines = vec![one];
        catalog.backups = vec![backup("a")];
        catalog.backups[0].start_lsn = Some(at(4));
        catalog.backups[0].stop_lsn = Some(at(5));
        assert!(Reach::of(&catalog, &[]).why_not(&point(7)).is_some(), "its own segments are gone");
        catalog.backups[0].own_wal = vec![segment(4), segment(5)];
        assert_eq!(Reach::of(&catalog, &[]).why_not(&point(7)), None);
    }
}
