//! The overview of an archive, put together from its segments' summaries.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::SystemTime;

use crate::catalog::{Overview, OverviewBuilder, Timeline};
use crate::core::{SegmentName, TimelineId, Xid};
use crate::error::Result;
use crate::wal::summary::Fate;
use crate::wal::{Body, Record};

use super::super::Cancel;
use super::super::identity::in_parallel;
use super::super::summarize::{Show, Summarized};
use super::{Entry, Index, settled};

/// What to do where it is not known how transactions ended in a segment.
pub(super) enum Ask<'a> {
    /// Nothing.
    Nobody,
    /// Note what was to be read, and go on as if they had been rolled back there.
    Later(&'a mut Vec<(Entry, Vec<Xid>)>),
    /// Read the segment.
    Now,
}

impl Index<'_> {
    /// Puts the overview together; where it is `complete`, what is missing is read, else it is left out.
    ///
    /// How transactions ended in other segments is read on all cores: the first pass only notes where. As it takes them to have
    /// ended there, it may not come to all that the second one asks for, but hardly ever does it miss any.
    pub(super) fn overview(&self, entries: &[Entry], complete: bool, cancel: &Cancel) -> Result<Overview> {
        if !complete {
            return self.put_together(entries, false, &mut Ask::Nobody, cancel);
        }
        let mut later = Vec::new();
        let overview = self.put_together(entries, true, &mut Ask::Later(&mut later), cancel)?;
        if later.is_empty() {
            return Ok(overview);
        }
        in_parallel(&later, 2, &|part| {
            part.iter().map(|(entry, xids)| self.read_fates_to_keep(entry, xids, cancel)).collect()
        });
        self.put_together(entries, true, &mut Ask::Now, cancel)
    }

    fn put_together(&self, entries: &[Entry], complete: bool, ask: &mut Ask, cancel: &Cancel) -> Result<Overview> {
        let mut builder = OverviewBuilder::new(self.rows, self.catalog.segment_size);
        for timeline in &self.catalog.timelines {
            let start = entries.partition_point(|entry| entry.name.timeline < timeline.id);
            let end = entries.partition_point(|entry| entry.name.timeline <= timeline.id);
            let mine = entries.get(start..end).unwrap_or_default();
            self.put_timeline(timeline, mine, complete, &mut builder, ask, cancel)?;
        }
        Ok(builder.finish())
    }

    fn put_timeline(
        &self,
        timeline: &Timeline,
        entries: &[Entry],
        complete: bool,
        builder: &mut OverviewBuilder,
        ask: &mut Ask,
        cancel: &Cancel,
    ) -> Result<()> {
        builder.begin_timeline(timeline.id);
        let mut forks = self.forks_of(timeline.id);
        let mut end = None;
        self.stream_known(entries, &mut |entry, known| {
            cancel.check()?;
            for (_, child) in forks.extract_if(.., |(at, _)| *at <= entry.number) {
                builder.fork(child);
            }
            let read = if complete { Some(self.known_or_read(entry, known, cancel)?) } else { known };
            match read {
                Some(Ok(summary)) => {
                    let mut fates = |xids: &[Xid]| self.fates(entry, xids, ask, cancel);
                    builder.segment(timeline.id, entry.number, Some(&summary), &mut fates);
                    end = (summary.records > 0).then_some(summary.end).or(end);
                }
                Some(Err(why)) => builder.unreadable(timeline.id, entry.number, why.to_string()),
                None => builder.segment(timeline.id, entry.number, None, &mut |_| BTreeMap::new()),
            }
            Ok(ControlFlow::Continue(()))
        })?;
        cancel.check()?;
        for (_, child) in forks {
            builder.fork(child);
        }
        if let Some(end) = end.filter(|_| complete) {
            builder.end_of_wal(timeline.id, end);
        }
        if complete { self.damaged_files(timeline, builder, cancel) } else { Ok(()) }
    }

    /// How these transactions ended in a segment, as far as it is known, or is to be read.
    pub(super) fn fates(&self, entry: &Entry, xids: &[Xid], ask: &mut Ask, cancel: &Cancel) -> BTreeMap<Xid, Fate> {
        let (scope, basis) = (self.scope(entry), self.basis(std::slice::from_ref(entry), 0, 0));
        let mut fates = BTreeMap::new();
        let mut unknown = Vec::new();
        for xid in xids {
            let known = self.cache().fate(scope, entry.number, xid.0, &basis);
            match known.and_then(|packed| postcard::from_bytes::<Option<Fate>>(&packed).ok()) {
                Some(fate) => fates.extend(fate.map(|fate| (*xid, fate))),
                None => unknown.push(*xid),
            }
        }
        if unknown.is_empty() {
            return fates;
        }
        match ask {
            Ask::Nobody => {}
            Ask::Later(later) => {
                fates.extend(unknown.iter().map(|xid| (*xid, Fate::RolledBack)));
                later.push((*entry, unknown));
            }
            Ask::Now => fates.extend(self.read_fates_to_keep(entry, &unknown, cancel)),
        }
        fates
    }

    /// Reads from a segment how these transactions ended in it, and keeps that. Nothing where it cannot be read.
    fn read_fates_to_keep(&self, entry: &Entry, xids: &[Xid], cancel: &Cancel) -> BTreeMap<Xid, Fate> {
        let (scope, basis) = (self.scope(entry), self.basis(std::slice::from_ref(entry), 0, 0));
        let started = SystemTime::now();
        let Ok(found) = self.read_fates(entry.name, xids, cancel) else { return BTreeMap::new() };
        let now = self.entries(std::iter::once(entry.name));
        let same = now.first().is_some_and(|now| now.identity == entry.identity && now.identity.is_some());
        let durable = same && settled(&now, started);
        for xid in xids {
            if let Ok(packed) = postcard::to_stdvec(&found.get(xid)) {
                self.cache().keep_fate(scope, entry.number, xid.0, &basis, &packed, durable);
            }
        }
        found
    }

    fn read_fates(&self, name: SegmentName, xids: &[Xid], cancel: &Cancel) -> Result<BTreeMap<Xid, Fate>> {
        let (mut fates, mut wanted) = (BTreeMap::new(), xids.to_vec());
        let each = &mut |record: &Record| {
            if let Body::Commit(outcome) | Body::Abort(outcome) = &record.body {
                let ended = || std::iter::once(&outcome.xid).chain(&outcome.subxacts);
                wanted.retain(|xid| !ended().any(|ended| ended == xid));
                if matches!(record.body, Body::Abort(_)) {
                    let asked = ended().filter(|xid| xids.contains(xid));
                    fates.extend(asked.map(|xid| (*xid, Fate::RolledBack)));
                }
            }
            // A transaction ends once.
            if wanted.is_empty() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let Summarized { read, .. } = self.read(name, 0, cancel, Show::Ends(each))?;
        // What was shown of a file that turned out to be damaged does not count.
        let Ok(summary) = read else { return Ok(BTreeMap::new()) };
        for ended in summary.notable {
            let mut all = std::iter::once(&ended.xid).chain(&ended.subxacts);
            if let Some(xid) = all.find(|xid| xids.contains(xid)).copied() {
                fates.insert(xid, Fate::Committed(Box::new(ended)));
            }
        }
        Ok(fates)
    }

    /// The timelines that forked off this one, with the segments in which they did.
    fn forks_of(&self, parent: TimelineId) -> Vec<(u64, TimelineId)> {
        let children = self.catalog.timelines.iter().filter(|timeline| timeline.parent == Some(parent));
        let forks =
            children.filter_map(|child| Some((self.catalog.segment_size.number_of(child.forked_at_lsn?), child.id)));
        forks.collect()
    }

    fn damaged_files(&self, timeline: &Timeline, builder: &mut OverviewBuilder, cancel: &Cancel) -> Result<()> {
        for name in self.damaged_names(timeline) {
            let reason = match self.summary(name, cancel)? {
                Err(why) => why.to_string(),
                Ok(summary) => match summary.damage.into_iter().next_back() {
                    Some(damage) => damage.reason,
                    None => "the file is longer than a segment".to_owned(),
                },
            };
            builder.damaged_file(timeline.id, name.number(self.catalog.segment_size), reason);
        }
        Ok(())
    }
}
