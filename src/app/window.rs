//! The stretch of time that the chart shows: zooming, panning, and which of its parts a moment lies in.

use crate::core::{Timestamp, Zone};

/// The least that is shown, in microseconds: single transactions, a few microseconds a column.
const LEAST: i64 = 200;

/// A stretch of time in microseconds since 1970: from `from` on, up to `to`, which is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: i64,
    to: i64,
}

impl Window {
    /// Everything from one moment to another one, both of them in it.
    #[must_use]
    pub fn over(from: Timestamp, to: Timestamp) -> Window {
        let (from, to) = (from.min(to).unix_micros(), from.max(to).unix_micros());
        let to = to.saturating_add(1);
        let missing = LEAST.saturating_sub(to.saturating_sub(from)).max(0);
        Window { from: from.saturating_sub(missing / 2), to: to.saturating_add(missing - missing / 2) }
    }

    /// Its first moment.
    #[must_use]
    pub fn from(&self) -> Timestamp {
        moment(self.from)
    }

    /// Its last moment.
    #[must_use]
    pub fn last(&self) -> Timestamp {
        moment(self.to - 1)
    }

    /// How long it is, in microseconds.
    #[must_use]
    pub fn micros(&self) -> i64 {
        self.to - self.from
    }

    /// Whether a moment is in it.
    #[must_use]
    pub fn contains(&self, at: Timestamp) -> bool {
        (self.from..self.to).contains(&at.unix_micros())
    }

    /// Whether any moment from `from` to `to` is in it.
    #[must_use]
    pub fn meets(&self, from: Timestamp, to: Timestamp) -> bool {
        from.unix_micros() < self.to && to.unix_micros() >= self.from
    }

    /// Which of `parts` equal parts a moment lies in.
    #[must_use]
    pub fn part(&self, at: Timestamp, parts: usize) -> Option<usize> {
        if !self.contains(at) || parts == 0 {
            return None;
        }
        let (into, whole) = (i128::from(at.unix_micros() - self.from), i128::from(self.micros()));
        usize::try_from(into * parts as i128 / whole).ok().map(|part| part.min(parts - 1))
    }

    /// Where a moment lies in parts of which the whole has `parts`; before it below 0, behind it above `parts`.
    #[must_use]
    pub fn position(&self, at: i64, parts: usize) -> f64 {
        at.saturating_sub(self.from) as f64 * parts as f64 / self.micros() as f64
    }

    /// The first moment of one of `parts` equal parts.
    #[must_use]
    pub fn start_of(&self, part: usize, parts: usize) -> Timestamp {
        // Rounded up, so that the moment lies in the part and not in the one before it.
        let (whole, parts) = (i128::from(self.micros()), parts.max(1) as i128);
        let into = (whole * part as i128 + parts - 1) / parts;
        moment(self.from.saturating_add(i64::try_from(into).unwrap_or(i64::MAX)))
    }

    /// A window of `numerator`/`denominator` of its length with `about` at the same place in it, not longer than
    /// `bounds` and inside of them.
    #[must_use]
    pub fn zoomed(self, about: Timestamp, numerator: i64, denominator: i64, bounds: Window) -> Window {
        let about = about.unix_micros().clamp(self.from, self.to);
        let old = i128::from(self.micros());
        let wanted = old * i128::from(numerator) / i128::from(denominator.max(1));
        let new = wanted.clamp(i128::from(LEAST), i128::from(bounds.micros().max(LEAST)));
        let before = i128::from(about - self.from) * new / old;
        let from = i64::try_from(i128::from(about) - before).unwrap_or(self.from);
        Window { from, to: from.saturating_add(i64::try_from(new).unwrap_or(LEAST)) }.inside(bounds)
    }

    /// The window moved by so many of `parts` equal parts of it, inside of `bounds`.
    #[must_use]
    pub fn panned(self, by: i64, parts: i64, bounds: Window) -> Window {
        let micros = i128::from(self.micros()) * i128::from(by) / i128::from(parts.max(1));
        // It moves, however short it is.
        let micros = if micros == 0 { i128::from(by.signum()) } else { micros };
        self.moved(i64::try_from(micros).unwrap_or(0)).inside(bounds)
    }

    /// The window moved so that `at` is in it: by no more than it takes, and a bit.
    #[must_use]
    pub fn following(self, at: Timestamp, bounds: Window) -> Window {
        if self.contains(at) {
            return self;
        }
        let (at, length) = (at.unix_micros(), self.micros());
        let outside = if at < self.from { self.from - at } else { at - self.to };
        let into = match (outside > length, at < self.from) {
            (true, _) => length / 2,
            (false, true) => length / 4,
            (false, false) => length - length / 4,
        };
        let from = at.saturating_sub(into);
        Window { from, to: from.saturating_add(length) }.inside(bounds)
    }

    fn moved(self, micros: i64) -> Window {
        Window { from: self.from.saturating_add(micros), to: self.to.saturating_add(micros) }
    }

    /// Moved by as little as possible so that nothing of it is outside of `bounds`.
    fn inside(self, bounds: Window) -> Window {
        if self.micros() >= bounds.micros() {
            return bounds;
        }
        if self.from < bounds.from {
            return self.moved(bounds.from - self.from);
        }
        self.moved(bounds.to.saturating_sub(self.to).min(0))
    }

    /// Moments at round times of a zone with at least so much of `parts` between them, with what stands there.
    #[must_use]
    pub fn ticks(&self, zone: Zone, columns: usize, least: usize) -> Vec<Tick> {
        let step = step(self.micros(), columns, least);
        let mut ticks: Vec<Tick> = Vec::new();
        let mut from = self.from();
        for _ in 0..=columns {
            let at = round(from, zone, step);
            let Some(column) = self.part(at, columns) else { break };
            // Where clocks are changed, two of them may be nearer to each other than a step.
            if ticks.last().is_none_or(|last| last.column + last.words.len() < column) {
                ticks.push(Tick { column, words: words(at, zone, step) });
            }
            from = at.plus_micros(1);
        }
        ticks
    }
}

/// A round time on the axis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tick {
    /// Its column.
    pub column: usize,
    /// The time as it is written there.
    pub words: String,
}

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The least round length that takes at least `least` columns and what is written at its end.
fn step(micros: i64, columns: usize, least: usize) -> i64 {
    let decimal = (0..6).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_i64.pow(power)));
    let clock = [1, 2, 5, 10, 15, 30].map(|n| n * SECOND).into_iter().chain([1, 2, 5, 10, 15, 30].map(|n| n * MINUTE));
    let long = [1, 2, 3, 6, 12].map(|n| n * HOUR).into_iter().chain([1, 2, 7, 14, 30, 90, 365].map(|n| n * DAY));
    let fits =
        |step: &i64| i128::from(*step) * columns as i128 >= i128::from(micros) * (least + columns_of(*step)) as i128;
    decimal.chain(clock).chain(long).find(fits).unwrap_or(micros.max(1))
}

/// The first moment from `from` on at which clocks show a whole number of steps. Where they are changed on the way
/// there, what they show after that counts: a time that they leave out is no tick, and one that they show twice is two.
fn round(from: Timestamp, zone: Zone, step: i64) -> Timestamp {
    let offset = |at: i64| moment(at).utc_offset_s(zone).saturating_mul(1_000_000);
    let (start, shown) = (from.unix_micros(), offset(from.unix_micros()));
    let missing = (step - start.saturating_add(shown).rem_euclid(step)) % step;
    let at = start.saturating_add(missing);
    if offset(at) == shown {
        return moment(at);
    }
    // The clocks are changed behind `before`, and at `changed` or before it.
    let (mut before, mut changed) = (start, at);
    while changed - before > 1 {
        let middle = before + (changed - before) / 2;
        if offset(middle) == shown { before = middle } else { changed = middle }
    }
    let missing = (step - changed.saturating_add(offset(changed)).rem_euclid(step)) % step;
    moment(changed.saturating_add(missing))
}

/// Columns of the words at a tick.
fn columns_of(step: i64) -> usize {
    match step {
        ..1000 => 15,
        1000..SECOND => 12,
        SECOND..MINUTE => 8,
        _ => 5,
    }
}

/// A tick's time, as finely as its step; midnight is the date.
fn words(at: Timestamp, zone: Zone, step: i64) -> String {
    let full = at.in_zone(zone);
    let clock = full.get(11..26).unwrap_or_default();
    let is_midnight = clock == "00:00:00.000000";
    let part =
        if step >= MINUTE && (step >= DAY || is_midnight) { full.get(5..10) } else { clock.get(..columns_of(step)) };
    let is_clock = part.is_some_and(|part| clock.starts_with(part));
    let offset = if is_clock { at.offset_if_twice(zone) } else { String::new() };
    format!("{}{offset}", part.unwrap_or_default())
}

fn moment(micros: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH.plus_micros(micros)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_unix_seconds(seconds).unwrap()
    }

    /// 2024-10-02 from 12:00 to 15:00 in Berlin.
    fn afternoon() -> Window {
        Window::over(at(1_727_863_200), at(1_727_874_000))
    }

    fn berlin() -> Zone {
        "Europe/Berlin".parse().unwrap()
    }

    #[test]
    fn one_moment_is_a_window_too() {
        let window = Window::over(at(7), at(7));
        assert_eq!((window.micros(), window.part(at(7), 2)), (LEAST, Some(0)));
        assert_eq!(window.zoomed(at(7), 1, 3, window), window, "it cannot be any shorter");
    }

    #[test]
    fn zooming_in_and_out_comes_back_to_everything() {
        let all = afternoon();
        let about = at(1_727_870_000);
        let mut window = all;
        let column = window.part(about, 80);
        for _ in 0..40 {
            window = window.zoomed(about, 1, 3, all);
            assert!(window.contains(about) && window.part(about, 80).unwrap().abs_diff(column.unwrap()) <= 1);
        }
        assert!(window.micros() < 1000, "{window:?}");
        for _ in 0..40 {
            window = window.zoomed(about, 3, 1, all);
        }
        assert_eq!(window, all);
    }

    #[test]
    fn panning_stops_at_the_ends() {
        let all = afternoon();
        let window = all.zoomed(at(1_727_863_200), 1, 4, all);
        assert_eq!(window.from(), all.from());
        assert_eq!(window.panned(-1, 4, all), window);
        let right = window.panned(1, 4, all);
        assert_eq!((right.micros(), right.from().seconds_since(window.from()).round()), (window.micros(), 675.0));
        assert_eq!(right.panned(999, 4, all).last(), all.last());
    }

    #[test]
    fn it_follows_what_has_left_it() {
        let all = afternoon();
        let window = all.zoomed(at(1_727_863_200), 1, 10, all);
        assert_eq!(window.following(at(1_727_863_300), all), window);
        for seconds in [1_727_864_300, 1_727_870_000, 1_727_874_000] {
            let followed = window.following(at(seconds), all);
            assert!(followed.contains(at(seconds)) && followed.micros() == window.micros());
            assert!(followed.following(at(1_727_863_200), all).contains(at(1_727_863_200)));
        }
    }

    #[test]
    fn ticks_are_at_round_times_of_the_zone() {
        let words = |window: Window| {
            window.ticks(berlin(), 78, 4).into_iter().map(|tick| (tick.column, tick.words)).collect::<Vec<_>>()
        };
        let hours = ["12:00", "12:30", "13:00", "13:30", "14:00", "14:30"].map(str::to_owned);
        assert_eq!(words(afternoon()).into_iter().map(|tick| tick.1).take(6).collect::<Vec<_>>(), hours);
        let night = Window::over(at(1_727_812_800), at(1_727_827_200));
        assert!(words(night).contains(&(38, "10-02".to_owned())), "{:?}", words(night));
        let short = Window::over(at(1_727_870_000), at(1_727_870_000).plus_micros(900));
        assert_eq!(words(short).first().map(|tick| tick.1.as_str()), Some("13:53:20.000000"));
        // 2024-03-31 from 01:00 to 06:00 in Berlin, where there was no 02:00.
        let spring = Window::over(at(1_711_843_200), at(1_711_857_600));
        let hours: Vec<String> = words(spring).into_iter().map(|tick| tick.1).collect();
        assert_eq!(hours[..4], ["01:00", "01:30", "03:00", "03:30"].map(str::to_owned));
        // 2024-10-27 from 01:00 to 04:00, with 02:00 twice.
        let autumn = Window::over(at(1_729_983_600), at(1_729_998_000));
        let hours: Vec<String> = words(autumn).into_iter().map(|tick| tick.1).collect();
        let twice = ["01:00", "01:30", "02:00+02", "02:30+02", "02:00+01", "02:30+01", "03:00"].map(str::to_owned);
        assert_eq!(hours[..7], twice);
        let days = Window::over(at(1_727_000_000), at(1_727_870_000));
        assert_eq!(words(days).first().map(|tick| tick.1.as_str()), Some("09-24"));
    }

    proptest! {
        #[test]
        fn no_window_is_ever_outside_or_empty(
            from in 0_i64..4_000_000_000, length in 0_i64..400_000_000,
            steps in proptest::collection::vec((0_usize..4, -10_i64..500_000_000), 0..40),
        ) {
            let all = Window::over(at(from), at(from + length));
            let mut window = all;
            for (what, number) in steps {
                let about = at(from).plus_micros(number.saturating_mul(977));
                window = match what {
                    0 => window.zoomed(about, 1, 3, all),
                    1 => window.zoomed(about, 3, 1, all),
                    2 => window.panned(number % 7, 4, all),
                    _ => window.following(about.clamp(all.from(), all.last()), all),
                };
                prop_assert!(window.micros() >= LEAST && window.from >= all.from && window.to <= all.to, "{:?}", window);
                let ticks = window.ticks(berlin(), 78, 4);
                prop_assert!(ticks.windows(2).all(|pair| pair[0].column + pair[0].words.len() < pair[1].column + 2), "{:?}", ticks);
            }
        }

        #[test]
        fn a_part_starts_in_itself(length in 1_i64..1_000_000_000, parts in 1_usize..300, part in 0_usize..300) {
            let window = Window::over(at(0), at(0).plus_micros(length));
            prop_assume!(part < parts && window.micros() >= parts as i64);
            prop_assert_eq!(window.part(window.start_of(part, parts), parts), Some(part));
        }
    }
}
