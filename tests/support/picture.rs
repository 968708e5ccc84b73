//! A terminal's screen as an SVG: an exact grid of cells, whatever font it is shown with.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar;

/// A cell's width, in pixels.
const WIDTH: f64 = 8.4;
/// A cell's height.
const HEIGHT: f64 = 18.0;
/// The font's size: of the usual fonts, 0.6 of it is a cell's width.
const SIZE: f64 = 14.0;
/// From a cell's top to where its letters stand.
const BASELINE: f64 = 13.5;
/// The space around the grid.
const PADDING: f64 = 10.0;
/// The height of the window's title.
const TITLE: f64 = 26.0;

const FOREGROUND: Colour = Colour(0xd8, 0xdc, 0xe2);
const BACKGROUND: Colour = Colour(0x16, 0x19, 0x21);
/// The sixteen colours: those that terminals with dark grounds have, a little softer.
const PALETTE: [Colour; 16] = [
    Colour(0x2a, 0x2e, 0x38),
    Colour(0xf0, 0x71, 0x78),
    Colour(0x8f, 0xcb, 0x6b),
    Colour(0xff, 0xc6, 0x5c),
    Colour(0x5f, 0xa8, 0xf5),
    Colour(0xd2, 0x90, 0xf5),
    Colour(0x55, 0xc9, 0xd8),
    Colour(0xc5, 0xca, 0xd3),
    Colour(0x74, 0x7d, 0x8e),
    Colour(0xff, 0x8b, 0x92),
    Colour(0xad, 0xe6, 0x8a),
    Colour(0xff, 0xd9, 0x85),
    Colour(0x85, 0xbf, 0xff),
    Colour(0xe0, 0xae, 0xff),
    Colour(0x7d, 0xe2, 0xee),
    Colour(0xff, 0xff, 0xff),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Colour(u8, u8, u8);

impl Colour {
    /// One of the 256: the sixteen, a cube of 6×6×6, and 24 greys.
    fn indexed(index: u8) -> Colour {
        let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
        match index {
            0..16 => PALETTE[usize::from(index)],
            16..232 => {
                let index = index - 16;
                Colour(level(index / 36), level(index / 6 % 6), level(index % 6))
            }
            _ => Colour(8 + 10 * (index - 232), 8 + 10 * (index - 232), 8 + 10 * (index - 232)),
        }
    }

    /// Half way to another one.
    fn towards(self, other: Colour) -> Colour {
        let mean = |a: u8, b: u8| a.midpoint(b);
        Colour(mean(self.0, other.0), mean(self.1, other.1), mean(self.2, other.2))
    }

    fn hex(self) -> String {
        format!("#{:02x}{:02x}{:02x}", self.0, self.1, self.2)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Style {
    foreground: Option<Colour>,
    background: Option<Colour>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
}

impl Style {
    /// Letters and ground, as they are seen.
    fn colours(self) -> (Colour, Colour) {
        let foreground = self.foreground.unwrap_or(FOREGROUND);
        let background = self.background.unwrap_or(BACKGROUND);
        let (foreground, background) = if self.reverse { (background, foreground) } else { (foreground, background) };
        (if self.dim { foreground.towards(background) } else { foreground }, background)
    }

    /// Takes the numbers of one `CSI … m` in (ECMA-48, 8.3.117; 38 and 48 as xterm has them).
    fn take(&mut self, parameters: &str) {
        let numbers: Vec<u16> = parameters.split([';', ':']).map(|number| number.parse().unwrap_or(0)).collect();
        let mut rest = numbers.as_slice();
        while let [number, after @ ..] = rest {
            rest = after;
            match number {
                0 => *self = Style::default(),
                1 => self.bold = true,
                2 => self.dim = true,
                3 => self.italic = true,
                4 => self.underline = true,
                7 => self.reverse = true,
                22 => (self.bold, self.dim) = (false, false),
                23 => self.italic = false,
                24 => self.underline = false,
                27 => self.reverse = false,
                30..38 => self.foreground = Some(Colour::indexed((number - 30) as u8)),
                38 => self.foreground = extended(&mut rest).or(self.foreground),
                39 => self.foreground = None,
                40..48 => self.background = Some(Colour::indexed((number - 40) as u8)),
                48 => self.background = extended(&mut rest).or(self.background),
                49 => self.background = None,
                90..98 => self.foreground = Some(Colour::indexed((number - 82) as u8)),
                100..108 => self.background = Some(Colour::indexed((number - 92) as u8)),
                _ => {}
            }
        }
    }
}

/// The rest of `38;5;N` or `38;2;R;G;B`.
fn extended(rest: &mut &[u16]) -> Option<Colour> {
    let (colour, left) = match rest {
        [5, index, left @ ..] => (Colour::indexed(*index as u8), left),
        [2, red, green, blue, left @ ..] => (Colour(*red as u8, *green as u8, *blue as u8), left),
        _ => return None,
    };
    *rest = left;
    Some(colour)
}

/// A character, its style, and how many cells it takes.
type Cell = (char, Style, usize);

/// Lines of text with `CSI … m` in them, as `tmux capture-pane -p -e` prints them, as cells.
fn cells(screen: &str) -> Vec<Vec<Cell>> {
    let mut style = Style::default();
    screen
        .lines()
        .map(|line| {
            let mut row = Vec::new();
            let mut rest = line;
            while let Some(character) = rest.chars().next() {
                if let Some(sequence) = rest.strip_prefix("\x1b[") {
                    let end = sequence.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(sequence.len() - 1);
                    if sequence[end..].starts_with('m') {
                        style.take(&sequence[..end]);
                    }
                    rest = &sequence[end + 1..];
                    continue;
                }
                rest = &rest[character.len_utf8()..];
                if let Some(columns) = character.width() {
                    row.push((character, style, columns));
                }
            }
            row
        })
        .collect()
}

/// A window with the screen in it.
pub fn svg(screen: &str, columns: u16, rows: u16, title: &str) -> String {
    let (grid_width, grid_height) = (f64::from(columns) * WIDTH, f64::from(rows) * HEIGHT);
    let (width, height) = (grid_width + 2.0 * PADDING, grid_height + TITLE + 2.0 * PADDING);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.0}\" \
         height=\"{height:.0}\" font-family=\"'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace\" \
         font-size=\"{SIZE}\" xml:space=\"preserve\">\n"
    );
    let (ground, bar) = (BACKGROUND.hex(), PALETTE[0].hex());
    let _ = writeln!(out, "<rect width=\"{width:.1}\" height=\"{height:.1}\" rx=\"8\" fill=\"{ground}\"/>");
    let _ = writeln!(
        out,
        "<path d=\"M0 {TITLE}V8a8 8 0 0 1 8-8H{:.1}a8 8 0 0 1 8 8V{TITLE}z\" fill=\"{bar}\"/>",
        width - 8.0
    );
    for (place, colour) in [PALETTE[1], PALETTE[3], PALETTE[2]].into_iter().enumerate() {
        let x = 16.0 + 18.0 * place as f64;
        let _ = writeln!(out, "<circle cx=\"{x}\" cy=\"13\" r=\"5\" fill=\"{}\"/>", colour.hex());
    }
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"17.5\" text-anchor=\"middle\" font-size=\"12\" fill=\"{}\">{}</text>",
        width / 2.0,
        PALETTE[7].hex(),
        escaped(title)
    );
    let _ = writeln!(out, "<g transform=\"translate({PADDING} {:.1})\">", TITLE + PADDING);
    for (row, cells) in cells(screen).iter().take(usize::from(rows)).enumerate() {
        draw_row(&mut out, cells, row as f64 * HEIGHT);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

fn draw_row(out: &mut String, cells: &[Cell], top: f64) {
    let mut column = 0;
    let mut placed = Vec::new();
    for (character, style, columns) in cells {
        placed.push((column, *character, *style, *columns));
        column += columns;
    }
    out.push_str("<g>");
    for run in placed.chunk_by(|a, b| a.2.colours().1 == b.2.colours().1) {
        let (from, ground) = (run[0].0, run[0].2.colours().1);
        let columns: usize = run.iter().map(|cell| cell.3).sum();
        if ground != BACKGROUND {
            rectangle(out, from as f64 * WIDTH, top, columns as f64 * WIDTH, HEIGHT, ground, 1.0);
        }
    }
    let is_long = |c: char| matches!(c, '─' | '░' | '▁'..='█');
    let is_text = |c: char| c.is_ascii() || c.is_alphabetic();
    for run in placed.chunk_by(|a, b| a.2 == b.2 && (a.1 == b.1 && is_long(a.1) || is_text(a.1) && is_text(b.1))) {
        let (from, first, style, _) = run[0];
        let (x, colour) = (from as f64 * WIDTH, style.colours().0);
        let columns: usize = run.iter().map(|cell| cell.3).sum();
        if draw_sign(out, first, columns, (x, top), colour) {
            continue;
        }
        let text: String = run.iter().map(|cell| cell.1).collect();
        draw_text(out, &text, (x, top + BASELINE), columns, style);
    }
    out.push_str("</g>\n");
}

/// Text whose letters stand in their cells; without the spaces around it.
fn draw_text(out: &mut String, text: &str, (x, y): (f64, f64), columns: usize, style: Style) {
    let spaces = text.len() - text.trim_start_matches(' ').len();
    let (x, columns) = (x + spaces as f64 * WIDTH, columns - spaces);
    let trimmed = text.trim_start_matches(' ').trim_end_matches(' ');
    if trimmed.is_empty() {
        return;
    }
    let behind = text.len() - text.trim_end_matches(' ').len();
    let length = (columns - behind) as f64 * WIDTH;
    let _ =
        write!(out, "<text x=\"{x:.1}\" y=\"{y:.1}\" textLength=\"{length:.1}\" fill=\"{}\"", style.colours().0.hex());
    for (on, attribute) in [
        (style.bold, " font-weight=\"bold\""),
        (style.italic, " font-style=\"italic\""),
        (style.underline, " text-decoration=\"underline\""),
    ] {
        out.push_str(if on { attribute } else { "" });
    }
    let _ = write!(out, ">{}</text>", escaped(trimmed));
}

fn rectangle(out: &mut String, x: f64, y: f64, width: f64, height: f64, colour: Colour, opacity: f64) {
    let _ = write!(
        out,
        "<rect shape-rendering=\"crispEdges\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{}\"",
        colour.hex()
    );
    if opacity < 1.0 {
        let _ = write!(out, " fill-opacity=\"{opacity}\"");
    }
    out.push_str("/>");
}

/// Frames and bars, which have to meet from cell to cell: drawn, because letters of a font do not.
///
/// Only lines and bars come several times in one piece.
fn draw_sign(out: &mut String, sign: char, columns: usize, (x, y): (f64, f64), colour: Colour) -> bool {
    let wide = WIDTH * columns as f64;
    let (right, bottom) = (x + wide, y + HEIGHT);
    let (middle, centre) = (x + WIDTH / 2.0, y + HEIGHT / 2.0);
    let path = match sign {
        '─' => format!("M{x:.1} {centre:.1}H{right:.1}"),
        '│' => format!("M{middle:.1} {y:.1}V{bottom:.1}"),
        '╭' => format!("M{right:.1} {centre:.1}q-{0:.1} 0 -{0:.1} {1:.1}", WIDTH / 2.0, HEIGHT / 2.0),
        '╮' => format!("M{x:.1} {centre:.1}q{0:.1} 0 {0:.1} {1:.1}", WIDTH / 2.0, HEIGHT / 2.0),
        '╰' => format!("M{right:.1} {centre:.1}q-{0:.1} 0 -{0:.1} -{1:.1}", WIDTH / 2.0, HEIGHT / 2.0),
        '╯' => format!("M{x:.1} {centre:.1}q{0:.1} 0 {0:.1} -{1:.1}", WIDTH / 2.0, HEIGHT / 2.0),
        '├' => format!("M{middle:.1} {y:.1}V{bottom:.1}M{middle:.1} {centre:.1}H{right:.1}"),
        '┤' => format!("M{middle:.1} {y:.1}V{bottom:.1}M{middle:.1} {centre:.1}H{x:.1}"),
        '┴' => format!("M{x:.1} {centre:.1}H{right:.1}M{middle:.1} {centre:.1}V{y:.1}"),
        '┬' => format!("M{x:.1} {centre:.1}H{right:.1}M{middle:.1} {centre:.1}V{bottom:.1}"),
        '┼' => format!("M{x:.1} {centre:.1}H{right:.1}M{middle:.1} {y:.1}V{bottom:.1}"),
        '▁'..='█' => {
            let height = HEIGHT * f64::from(sign as u32 - '▁' as u32 + 1) / 8.0;
            rectangle(out, x, bottom - height, wide, height, colour, 1.0);
            return true;
        }
        '░' => {
            rectangle(out, x, y, wide, HEIGHT, colour, 0.25);
            return true;
        }
        _ => return false,
    };
    let _ = write!(out, "<path d=\"{path}\" stroke=\"{}\" fill=\"none\"/>", colour.hex());
    true
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// The words of an SVG, a line for each row of the screen; or why it is none: every element has to end, in order.
pub fn text_of(svg: &str) -> Result<String, String> {
    let mut open = Vec::new();
    let mut words = String::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let (text, tag) = rest.split_at(start);
        let end = tag.find('>').ok_or("a tag does not end")?;
        if open.last() == Some(&"text") {
            words.push_str(&unescaped(text)?);
            words.push(' ');
        }
        let tag = &tag[1..end];
        rest = &rest[start + end + 1..];
        if let Some(name) = tag.strip_prefix('/') {
            if open.pop() != Some(name) {
                return Err(format!("</{name}> ends nothing"));
            }
            words.push_str(if name == "g" { "\n" } else { "" });
        } else if !tag.ends_with('/') {
            open.push(tag.split(' ').next().unwrap_or_default());
        }
        if tag.matches('"').count() % 2 != 0 {
            return Err(format!("a quote is missing in <{tag}>"));
        }
    }
    match (open.as_slice(), svg.starts_with("<svg ")) {
        ([], true) => Ok(words),
        (open, _) => Err(format!("no SVG, or not to its end: {open:?}")),
    }
}

fn unescaped(text: &str) -> Result<String, String> {
    let plain = text.replace("&lt;", "<").replace("&gt;", ">");
    let loose = plain.replace("&amp;", "").contains('&');
    if loose { Err(format!("a loose & in {text:?}")) } else { Ok(plain.replace("&amp;", "&")) }
}
