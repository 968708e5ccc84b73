//! What a terminal can show, as far as the environment says.
//!
//! The terminal itself is not asked for its background: the answer comes among the keys, and waiting for it would
//! delay the first frame by as much as the line to the terminal is long.

use super::{Background, Bars, Depth, Theme};

/// What was configured or said on the command line; the environment decides what is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Wishes {
    /// `--color`: with or without colours, whatever the environment says.
    pub coloured: Option<bool>,
    /// How many of them.
    pub depth: Option<Depth>,
    /// On which background.
    pub background: Option<Background>,
    /// Signs of UTF-8, or of ASCII alone.
    pub unicode: Option<bool>,
    /// What bars are made of.
    pub bars: Option<Bars>,
}

impl Wishes {
    /// Whether signs of UTF-8 are drawn, where the locale has it or has not.
    #[must_use]
    pub fn unicode(&self, is_utf8: bool) -> bool {
        self.unicode.unwrap_or(is_utf8)
    }

    /// The theme for a terminal of which `variable` says what it can.
    #[must_use]
    pub fn theme(&self, is_utf8: bool, variable: impl Fn(&str) -> Option<String>) -> Theme {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        let background = self.background.unwrap_or_else(|| background(variable("COLORFGBG").as_deref()));
        let blocks = if self.unicode(is_utf8) { Bars::Blocks } else { Bars::Ascii };
        let bars = self.bars.filter(|_| self.unicode(is_utf8)).unwrap_or(blocks);
        Theme::of(self.depth(&variable), background).with_bars(bars)
    }

    fn depth(&self, variable: &dyn Fn(&str) -> Option<String>) -> Depth {
        match (self.coloured, self.depth) {
            (Some(false), _) => Depth::None,
            (Some(true), None | Some(Depth::None)) => match depth(variable) {
                Depth::None => Depth::Sixteen,
                depth => depth,
            },
            (_, Some(depth)) => depth,
            (None, None) if variable("NO_COLOR").is_some() => Depth::None,
            (None, None) => depth(variable),
        }
    }
}

fn depth(variable: &dyn Fn(&str) -> Option<String>) -> Depth {
    let term = variable("TERM").unwrap_or_default();
    // GNU screen passes on what the terminal around it says of itself, and cannot do it.
    let is_screen = term.starts_with("screen") && variable("TMUX").is_none();
    let colorterm = variable("COLORTERM").filter(|_| !is_screen);
    match colorterm.as_deref() {
        _ if term == "dumb" => Depth::None,
        Some("truecolor" | "24bit") => Depth::True,
        _ if term.ends_with("-direct") => Depth::True,
        _ if term.contains("256color") => Depth::Many,
        _ => Depth::Sixteen,
    }
}

/// Of `COLORFGBG`, which rxvt, Konsole and others set: foreground and background as numbers of the sixteen colours,
/// `15;0`, and something between them with some.
fn background(colours: Option<&str>) -> Background {
    let behind = colours.and_then(|colours| colours.rsplit(';').next()?.parse::<u8>().ok());
    match behind {
        Some(0..=6 | 8) => Background::Dark,
        Some(7 | 9..=15) => Background::Light,
        _ => Background::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn theme(wishes: Wishes, variables: &[(&str, &str)]) -> Theme {
        let of = |name: &str| variables.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned());
        wishes.theme(true, of)
    }

    #[test]
    fn the_environment_says_how_many_colours_there_are() {
        let unknown = |depth| Theme::of(depth, Background::Unknown);
        for (variables, depth) in [
            (&[("TERM", "xterm")][..], Depth::Sixteen),
            (&[], Depth::Sixteen),
            (&[("TERM", "dumb"), ("COLORTERM", "truecolor")], Depth::None),
            (&[("TERM", "xterm-256color")], Depth::Many),
            (&[("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], Depth::True),
            (&[("TERM", "xterm"), ("COLORTERM", "24bit")], Depth::True),
            (&[("TERM", "xterm-direct")], Depth::True),
            (&[("TERM", "screen"), ("COLORTERM", "truecolor")], Depth::Sixteen),
            (&[("TERM", "screen-256color"), ("COLORTERM", "truecolor"), ("TMUX", "x")], Depth::True),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "1")], Depth::None),
            (&[("TERM", "xterm-256color"), ("NO_COLOR", "")], Depth::Many),
        ] {
            assert_eq!(theme(Wishes::default(), variables), unknown(depth), "{variables:?}");
        }
    }

    #[test]
    fn what_was_said_goes_before_what_the_environment_says() {
        let no_colour = [("TERM", "xterm-256color"), ("NO_COLOR", "1")];
        for (coloured, depth, expected) in [
            (Some(true), None, Depth::Many),
            (Some(true), Some(Depth::None), Depth::Many),
            (None, Some(Depth::Sixteen), Depth::Sixteen),
            (Some(false), Some(Depth::True), Depth::None),
        ] {
            let wishes = Wishes { coloured, depth, ..Wishes::default() };
            assert_eq!(theme(wishes, &no_colour), Theme::of(expected, Background::Unknown), "{wishes:?}");
        }
        let dumb = Wishes { coloured: Some(true), ..Wishes::default() };
        assert_eq!(theme(dumb, &[("TERM", "dumb")]), Theme::new(true));
    }

    #[test]
    fn the_background_is_dark_light_or_unknown() {
        for (value, expected) in [
            ("15;0", Background::Dark),
            ("0;15", Background::Light),
            ("0;default;7", Background::Light),
            ("12;8", Background::Dark),
            ("default;default", Background::Unknown),
        ] {
            assert_eq!(background(Some(value)), expected, "{value}");
        }
        let light = Wishes { background: Some(Background::Light), ..Wishes::default() };
        let variables = [("TERM", "xterm-256color"), ("COLORFGBG", "15;0")];
        assert_eq!(theme(light, &variables), Theme::of(Depth::Many, Background::Light));
    }

    #[test]
    fn bars_are_of_what_the_terminal_shows() {
        let braille = Wishes { bars: Some(Bars::Braille), ..Wishes::default() };
        let bars = |wishes: Wishes, is_utf8| wishes.theme(is_utf8, |_| None).bars();
        assert_eq!((bars(braille, true), bars(braille, false)), (Bars::Braille, Bars::Ascii));
        assert_eq!((bars(Wishes::default(), true), bars(Wishes::default(), false)), (Bars::Blocks, Bars::Ascii));
        let ascii = Wishes { unicode: Some(false), ..Wishes::default() };
        assert_eq!((bars(ascii, true), ascii.unicode(true)), (Bars::Ascii, false));
    }
}
