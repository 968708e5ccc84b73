//! What colours mean. Every colour has a sign or a word beside it.

use ratatui::style::{Color, Modifier, Style};

/// Roles to styles. Sixteen colours, none of them as a background, so that dark and light terminals both work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Theme {
    colours: bool,
}

impl Theme {
    /// With colours, or without (`NO_COLOR`).
    ///
    /// Without, only `Color::Reset` is used: crossterm 0.29 answers any other colour with a reset that takes the
    /// attributes along, so that the reversed cursor would vanish.
    #[must_use]
    pub fn new(colours: bool) -> Theme {
        Theme { colours }
    }

    fn coloured(self, colour: Color) -> Style {
        if self.colours { Style::new().fg(colour) } else { Style::new() }
    }

    /// Ordinary text.
    #[must_use]
    pub fn plain(self) -> Style {
        Style::new()
    }

    /// What is there for completeness.
    #[must_use]
    pub fn dim(self) -> Style {
        self.coloured(Color::DarkGray)
    }

    /// What matters most.
    #[must_use]
    pub fn strong(self) -> Style {
        Style::new().add_modifier(Modifier::BOLD)
    }

    /// Headings and labels.
    #[must_use]
    pub fn label(self) -> Style {
        self.coloured(Color::Cyan)
    }

    /// A frame, with the keys or without.
    #[must_use]
    pub fn frame(self, focused: bool) -> Style {
        if focused { self.coloured(Color::Cyan).add_modifier(Modifier::BOLD) } else { self.dim() }
    }

    /// The row under the cursor.
    #[must_use]
    pub fn selected(self) -> Style {
        Style::new().add_modifier(Modifier::REVERSED)
    }

    /// A key that can be pressed.
    #[must_use]
    pub fn key(self) -> Style {
        self.coloured(Color::Cyan).add_modifier(Modifier::BOLD)
    }

    /// Done, as predicted, healthy.
    #[must_use]
    pub fn good(self) -> Style {
        self.coloured(Color::Green)
    }

    /// Suspects and warnings.
    #[must_use]
    pub fn warning(self) -> Style {
        self.coloured(Color::Yellow).add_modifier(Modifier::BOLD)
    }

    /// Broken, failed, different.
    #[must_use]
    pub fn bad(self) -> Style {
        self.coloured(Color::Red).add_modifier(Modifier::BOLD)
    }

    /// Restore points and other names.
    #[must_use]
    pub fn name(self) -> Style {
        self.coloured(Color::Magenta)
    }

    /// Bars.
    #[must_use]
    pub fn bar(self) -> Style {
        self.coloured(Color::Blue)
    }
}
