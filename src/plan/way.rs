//! The way from the base backup through the timelines to the stop, drawn in one line.

use crate::resolve::{Resolved, StopSide};

/// `1 ──(0/5000060)──▶ 2 ──▶ stop 0/6000148`: the timelines with the places at which they were left, and the stop.
#[must_use]
pub fn draw(resolved: &Resolved) -> String {
    let mut line = String::new();
    for (position, timeline) in resolved.path.iter().enumerate() {
        if position > 0 {
            match resolved.forks.get(position - 1) {
                Some(fork) => line.push_str(&format!(" ──({fork})──▶ ")),
                None => line.push_str(" ──▶ "),
            }
        }
        line.push_str(&timeline.to_string());
    }
    let stop = match resolved.stop {
        StopSide::Before => format!("stop before {}", resolved.lsn),
        StopSide::After => format!("stop after {}", resolved.lsn),
        StopSide::EndOfWal => format!("end {}", resolved.replay_end),
        StopSide::Consistency => format!("stop {}", resolved.consistent_at),
    };
    line.push_str(&format!(" ──▶ {stop}"));
    if resolved.path.last().is_some_and(|last| *last != resolved.timeline) {
        line.push_str(&format!(", before timeline {} begins", resolved.timeline));
    }
    line
}

/// The same for a terminal that shows nothing but ASCII.
#[must_use]
pub fn draw_ascii(resolved: &Resolved) -> String {
    draw(resolved).replace('─', "-").replace('▶', ">")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::{Lsn, TimelineId};

    #[test]
    fn the_way_is_drawn_with_its_forks() {
        let straight = Resolved::new(TimelineId(1), StopSide::Before, Lsn(0x600_0148));
        assert_eq!(draw(&straight), "1 ──▶ stop before 0/6000148");
        let way = Resolved {
            path: vec![TimelineId(1), TimelineId(2)],
            forks: vec![Lsn(0x500_0060)],
            ..Resolved::new(TimelineId(2), StopSide::After, Lsn(0x600_0148))
        };
        assert_eq!(draw(&way), "1 ──(0/5000060)──▶ 2 ──▶ stop after 0/6000148");
        assert_eq!(draw_ascii(&way), "1 --(0/5000060)--> 2 --> stop after 0/6000148");
        let short = Resolved { path: vec![TimelineId(1)], forks: Vec::new(), ..way };
        assert_eq!(draw_ascii(&short), "1 --> stop after 0/6000148, before timeline 2 begins");
    }
}
