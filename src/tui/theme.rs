//! What colours mean. Every colour has a sign or a word beside it.

pub(super) mod detect;
mod palette;

use ratatui::style::{Color, Modifier, Style};

/// What something on the screen is; how that looks is the [`Theme`]'s.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Role {
    /// Ordinary text.
    Plain,
    /// What is there for completeness.
    Dim,
    /// What matters most.
    Strong,
    /// Headings and labels.
    Label,
    /// A frame without the keys.
    Frame,
    /// The frame that has the keys.
    Focus,
    /// A key that can be pressed.
    Key,
    /// Done, as predicted, healthy.
    Good,
    /// Suspects and warnings.
    Warning,
    /// Broken, failed, different.
    Bad,
    /// Restore points and other names.
    Name,
    /// Bars.
    Bar,
    /// Where recovery does not come.
    Unreachable,
    /// Where recovery is to stop.
    Target,
    /// How far replay has come.
    Replay,
}

impl Role {
    /// Every role, in the order of the declaration.
    pub const ALL: [Role; 15] = [
        Role::Plain,
        Role::Dim,
        Role::Strong,
        Role::Label,
        Role::Frame,
        Role::Focus,
        Role::Key,
        Role::Good,
        Role::Warning,
        Role::Bad,
        Role::Name,
        Role::Bar,
        Role::Unreachable,
        Role::Target,
        Role::Replay,
    ];

    /// Frames and bars are seen, the rest is read.
    #[must_use]
    pub fn is_text(self) -> bool {
        !matches!(self, Role::Frame | Role::Bar)
    }

    /// What is bold in every theme, so that it stands out without colours too.
    fn is_bold(self) -> bool {
        matches!(self, Role::Strong | Role::Focus | Role::Key | Role::Warning | Role::Bad | Role::Target | Role::Replay)
    }
}

/// How many colours a terminal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// None, or none are wanted.
    None,
    /// The terminal's own sixteen.
    Sixteen,
    /// The 256 of xterm, of which 16 to 255 are the same everywhere.
    Many,
    /// Red, green and blue from 0 to 255.
    True,
}

/// What colours are seen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Black, or nearly.
    Dark,
    /// White, or nearly.
    Light,
    /// The terminal does not say: colours are taken that can be read on both.
    Unknown,
}

/// What bars are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bars {
    /// Dots of Braille: two bars a column, four steps a row.
    Braille,
    /// Blocks: eight steps a row.
    Blocks,
    /// ASCII: eight signs, the lightest first.
    Ascii,
}

/// Roles to styles, and what bars are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    styles: [Style; Role::ALL.len()],
    selected: Style,
    bars: Bars,
}

impl Theme {
    /// With the terminal's sixteen colours, or without any (`NO_COLOR`).
    #[must_use]
    pub fn new(colours: bool) -> Theme {
        Theme::of(if colours { Depth::Sixteen } else { Depth::None }, Background::Unknown)
    }

    /// With as many colours as there are, on this background.
    ///
    /// Without colours, only `Color::Reset` is used: crossterm 0.29 answers any other colour with a reset that takes
    /// the attributes along, so that the reversed cursor would vanish.
    #[must_use]
    pub fn of(depth: Depth, background: Background) -> Theme {
        Theme {
            styles: Role::ALL.map(|role| style(role, palette::colour(depth, background, role))),
            selected: palette::selected(depth, background),
            bars: Bars::Blocks,
        }
    }

    /// Every role in a colour that no other role has, for looking at which role is where: the palette's entry of the
    /// role's number.
    #[must_use]
    pub fn by_role() -> Theme {
        Theme {
            styles: Role::ALL.map(|role| style(role, Some(Color::Indexed(role as u8)))),
            selected: palette::reversed(),
            bars: Bars::Blocks,
        }
    }

    /// The same with other bars.
    #[must_use]
    pub fn with_bars(self, bars: Bars) -> Theme {
        Theme { bars, ..self }
    }

    /// What bars are made of.
    #[must_use]
    pub fn bars(self) -> Bars {
        self.bars
    }

    /// How a role looks.
    #[must_use]
    pub fn style(self, role: Role) -> Style {
        self.styles.get(role as usize).copied().unwrap_or_default()
    }

    /// Ordinary text.
    #[must_use]
    pub fn plain(self) -> Style {
        self.style(Role::Plain)
    }

    /// What is there for completeness.
    #[must_use]
    pub fn dim(self) -> Style {
        self.style(Role::Dim)
    }

    /// What matters most.
    #[must_use]
    pub fn strong(self) -> Style {
        self.style(Role::Strong)
    }

    /// Headings and labels.
    #[must_use]
    pub fn label(self) -> Style {
        self.style(Role::Label)
    }

    /// A frame, with the keys or without.
    #[must_use]
    pub fn frame(self, focused: bool) -> Style {
        self.style(if focused { Role::Focus } else { Role::Frame })
    }

    /// The row under the cursor: laid over what is drawn there.
    #[must_use]
    pub fn selected(self) -> Style {
        self.selected
    }

    /// A key that can be pressed.
    #[must_use]
    pub fn key(self) -> Style {
        self.style(Role::Key)
    }

    /// Done, as predicted, healthy.
    #[must_use]
    pub fn good(self) -> Style {
        self.style(Role::Good)
    }

    /// Suspects and warnings.
    #[must_use]
    pub fn warning(self) -> Style {
        self.style(Role::Warning)
    }

    /// Broken, failed, different.
    #[must_use]
    pub fn bad(self) -> Style {
        self.style(Role::Bad)
    }

    /// Restore points and other names.
    #[must_use]
    pub fn name(self) -> Style {
        self.style(Role::Name)
    }

    /// Bars.
    #[must_use]
    pub fn bar(self) -> Style {
        self.style(Role::Bar)
    }

    /// Where recovery does not come.
    #[must_use]
    pub fn unreachable(self) -> Style {
        self.style(Role::Unreachable)
    }

    /// Where recovery is to stop.
    #[must_use]
    pub fn target(self) -> Style {
        self.style(Role::Target)
    }

    /// How far replay has come.
    #[must_use]
    pub fn replay(self) -> Style {
        self.style(Role::Replay)
    }
}

fn style(role: Role, colour: Option<Color>) -> Style {
    let style = colour.map_or(Style::new(), |colour| Style::new().fg(colour));
    if role.is_bold() { style.add_modifier(Modifier::BOLD) } else { style }
}
