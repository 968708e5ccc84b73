//! The colours themselves.
//!
//! What is told apart by its colour is blue or orange, and light or dark: no two roles differ in red and green alone.

use ratatui::style::{Color, Modifier, Style};

use super::{Background, Depth, Role};

/// A role's colour; `None` for the terminal's own.
pub(super) fn colour(depth: Depth, background: Background, role: Role) -> Option<Color> {
    match depth {
        Depth::None => None,
        Depth::Sixteen => sixteen(role),
        Depth::Many => many(background, role).map(Color::Indexed),
        Depth::True => truecolor(background, role).map(Color::from_u32),
    }
}

/// How the row under the cursor looks, whatever stands in it.
pub(super) fn selected(depth: Depth, background: Background) -> Style {
    let row = |fg: Color, bg: Color| Style::new().fg(fg).bg(bg).add_modifier(Modifier::BOLD);
    match (depth, background) {
        (Depth::None, _) => Style::new().add_modifier(Modifier::REVERSED),
        (Depth::True, Background::Dark) => row(Color::from_u32(0xff_ffff), Color::from_u32(0x26_4f78)),
        (Depth::True, Background::Light) => row(Color::from_u32(0x00_0000), Color::from_u32(0xb4_d5ff)),
        (Depth::Many, Background::Dark) => row(Color::Indexed(231), Color::Indexed(24)),
        (Depth::Many, Background::Light) => row(Color::Indexed(16), Color::Indexed(153)),
        (Depth::Sixteen, _) | (_, Background::Unknown) => reversed(),
    }
}

/// Reversed as a whole: the colours in the row would become a patchwork.
pub(super) fn reversed() -> Style {
    Style::new().fg(Color::Reset).add_modifier(Modifier::REVERSED)
}

/// The terminal's own colours, which its owner chose for its background. Its blue and its green are not among them:
/// the one is hardly read on black, the other is red to many.
fn sixteen(role: Role) -> Option<Color> {
    Some(match role {
        Role::Plain | Role::Strong => return None,
        Role::Dim | Role::Frame | Role::Unreachable => Color::DarkGray,
        Role::Label | Role::Focus | Role::Key | Role::Replay => Color::Cyan,
        Role::Good | Role::Bar => Color::LightBlue,
        Role::Warning | Role::Target => Color::Yellow,
        Role::Bad => Color::Red,
        Role::Name => Color::Magenta,
    })
}

/// Of xterm's 256 only those from 16 on: the others look different everywhere.
fn many(background: Background, role: Role) -> Option<u8> {
    let (dark, light, unknown) = match role {
        Role::Plain | Role::Strong => return None,
        Role::Dim | Role::Unreachable => (247, 241, 243),
        Role::Label => (115, 23, 29),
        Role::Frame => (243, 102, 243),
        Role::Focus => (75, 25, 63),
        Role::Key | Role::Replay => (80, 24, 30),
        Role::Good => (111, 25, 63),
        Role::Warning => (222, 94, 130),
        Role::Bad => (209, 124, 131),
        Role::Name => (183, 91, 163),
        Role::Bar => (68, 25, 63),
        Role::Target => (221, 94, 130),
    };
    Some(of(background, dark, light, unknown))
}

/// As `0xRRGGBB`. Those for an unknown background lie where black and white are equally far.
fn truecolor(background: Background, role: Role) -> Option<u32> {
    let (dark, light, unknown) = match role {
        Role::Plain | Role::Strong => return None,
        Role::Dim | Role::Unreachable => (0x9a_a0a9, 0x5f_6670, 0x6e_7682),
        Role::Label => (0x7f_d1c7, 0x00_655c, 0x07_8475),
        Role::Frame => (0x6f_7782, 0x80_868f, 0x6e_7681),
        Role::Focus => (0x5f_afff, 0x00_57b8, 0x0c_75dd),
        Role::Key | Role::Replay => (0x5f_d7e7, 0x00_5f78, 0x08_8192),
        Role::Good => (0x6c_b6ff, 0x00_50b3, 0x0c_74dc),
        Role::Warning => (0xf5_d76e, 0x72_5000, 0x90_7208),
        Role::Bad => (0xff_8c5a, 0xa8_3000, 0xd0_460b),
        Role::Name => (0xd7_a6ff, 0x7a_2fa0, 0xa3_3ef5),
        Role::Bar => (0x5b_9bd5, 0x2f_6fb3, 0x0b_76d7),
        Role::Target => (0xff_d75f, 0x72_5000, 0x93_7108),
    };
    Some(of(background, dark, light, unknown))
}

fn of<T>(background: Background, dark: T, light: T, unknown: T) -> T {
    match background {
        Background::Dark => dark,
        Background::Light => light,
        Background::Unknown => unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Relative luminance, as WCAG 2.1 defines it.
    fn luminance((red, green, blue): (u8, u8, u8)) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(red) + 0.7152 * linear(green) + 0.0722 * linear(blue)
    }

    fn contrast(one: (u8, u8, u8), other: (u8, u8, u8)) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    /// What xterm shows for a number from 16 on.
    fn rgb(colour: Color) -> (u8, u8, u8) {
        const LEVELS: [u8; 6] = [0, 95, 135, 175, 215, 255];
        match colour {
            Color::Rgb(red, green, blue) => (red, green, blue),
            Color::Indexed(number @ 232..) => [8 + 10 * (number - 232); 3].into(),
            Color::Indexed(number @ 16..) => {
                let level = |by: u8| LEVELS[usize::from((number - 16) / by % 6)];
                (level(36), level(6), level(1))
            }
            other => panic!("{other:?} looks different everywhere"),
        }
    }

    const BLACK: (u8, u8, u8) = (0, 0, 0);
    const WHITE: (u8, u8, u8) = (255, 255, 255);
    /// The background of One Dark, and the paper of Solarized.
    const NEARLY: ((u8, u8, u8), (u8, u8, u8)) = ((0x28, 0x2c, 0x34), (0xfd, 0xf6, 0xe3));

    #[test]
    fn every_role_can_be_read_on_its_backgrounds() {
        for depth in [Depth::Many, Depth::True] {
            for role in Role::ALL {
                for (background, seen_on, text) in [
                    (Background::Dark, [BLACK, NEARLY.0], 4.5),
                    (Background::Light, [WHITE, NEARLY.1], 4.5),
                    // No colour is further than 4.58 from both; few of the 256 come near that.
                    (Background::Unknown, [BLACK, WHITE], if depth == Depth::True { 4.5 } else { 4.3 }),
                ] {
                    let Some(colour) = colour(depth, background, role) else { continue };
                    let least = if role.is_text() { text } else { 3.0 };
                    for behind in seen_on {
                        let contrast = contrast(rgb(colour), behind);
                        assert!(contrast >= least, "{depth:?} {background:?} {role:?} on {behind:?}: {contrast:.2}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_row_under_the_cursor_can_be_read() {
        for depth in [Depth::Many, Depth::True] {
            for background in [Background::Dark, Background::Light] {
                let style = selected(depth, background);
                assert!(contrast(rgb(style.fg.unwrap()), rgb(style.bg.unwrap())) >= 4.5, "{depth:?} {background:?}");
            }
        }
    }

    /// Without red and green, what is left of a colour is how blue and how light it is.
    #[test]
    fn good_is_blue_and_bad_is_orange() {
        for depth in [Depth::Many, Depth::True] {
            for background in [Background::Dark, Background::Light, Background::Unknown] {
                let of = |role| rgb(colour(depth, background, role).unwrap());
                let (good, bad, warning) = (of(Role::Good), of(Role::Bad), of(Role::Warning));
                assert!(good.2 > good.0 && good.2 > good.1, "{depth:?} {background:?}: {good:?}");
                for warm in [bad, warning] {
                    assert!(warm.0 > warm.2, "{depth:?} {background:?}: {warm:?}");
                }
            }
        }
        assert_eq!(colour(Depth::None, Background::Dark, Role::Bad), None);
    }
}
