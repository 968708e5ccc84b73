//! The terminal, borrowed: raw mode, alternate screen, mouse and paste; given back on every way out.

use std::io::{self, Stdout, Write};
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once, PoisonError};
use std::thread::ThreadId;

use crossterm::clipboard::CopyToClipboard;
use crossterm::event::{DisableBracketedPaste, DisableMouseCapture, EnableBracketedPaste, EnableMouseCapture};
use crossterm::terminal::{
    BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode,
    enable_raw_mode,
};
use crossterm::{cursor, execute};
use ratatui::backend::CrosstermBackend;

use super::theme::Theme;
use super::{Drawn, draw};
use crate::app::State;

/// The thread that has the terminal, while one has it.
static OWNER: Mutex<Option<ThreadId>> = Mutex::new(None);
/// What other threads said when they panicked: said again when the terminal is back.
static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// Standard output that remembers when it is gone, and then takes everything.
///
/// Ratatui shows the cursor when a terminal is dropped and prints to standard error when that fails, which panics
/// when the line is dead. So writing never fails here; the loop asks [`Terminal::is_gone`] instead.
struct Tty {
    stdout: Stdout,
    gone: bool,
}

static GONE: AtomicBool = AtomicBool::new(false);

impl Tty {
    fn new() -> Tty {
        Tty { stdout: io::stdout(), gone: false }
    }

    fn note<T>(&mut self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(_) => {
                self.gone = true;
                GONE.store(true, Ordering::Relaxed);
                Ok(instead)
            }
            ok => ok,
        }
    }
}

impl Write for Tty {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gone {
            return Ok(bytes.len());
        }
        let written = self.stdout.write(bytes);
        self.note(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.gone {
            return Ok(());
        }
        let flushed = self.stdout.flush();
        self.note(flushed, ())
    }
}

/// The terminal, while the program has it. Dropping it gives it back.
pub(super) struct Terminal {
    screen: ratatui::Terminal<CrosstermBackend<Tty>>,
    theme: Theme,
    /// The mouse is the program's.
    mouse: bool,
}

impl Terminal {
    /// Takes the terminal.
    pub(super) fn enter(theme: Theme) -> io::Result<Terminal> {
        HOOK.call_once(install_hook);
        GONE.store(false, Ordering::Relaxed);
        let screen = ratatui::Terminal::new(CrosstermBackend::new(Tty::new()))?;
        let mut terminal = Terminal { screen, theme, mouse: true };
        terminal.resume()?;
        Ok(terminal)
    }

    /// Takes the terminal again after [`Terminal::suspend`], and draws everything anew with the next frame.
    pub(super) fn resume(&mut self) -> io::Result<()> {
        set_owner(Some(std::thread::current().id()));
        enable_raw_mode()?;
        execute!(Tty::new(), EnterAlternateScreen, EnableBracketedPaste, cursor::Hide)?;
        if self.mouse {
            execute!(Tty::new(), EnableMouseCapture)?;
        }
        let size = self.screen.size()?;
        // Clears without asking where the cursor is, which `Terminal::clear` does: the answer could be taken for keys.
        self.screen.resize(ratatui::layout::Rect::new(0, 0, size.width, size.height))
    }

    /// Columns and rows.
    pub(super) fn size(&self) -> io::Result<(u16, u16)> {
        let size = self.screen.size()?;
        Ok((size.width, size.height))
    }

    /// Lends the terminal to another program.
    pub(super) fn suspend(&mut self) {
        give_back();
    }

    /// Draws the state, in one piece where the terminal can do that.
    pub(super) fn draw(&mut self, state: &State) -> io::Result<Drawn> {
        if self.mouse != state.mouse {
            self.mouse = state.mouse;
            if self.mouse {
                execute!(Tty::new(), EnableMouseCapture)?
            } else {
                execute!(Tty::new(), DisableMouseCapture)?
            }
        }
        let _update = SynchronizedUpdate::begin();
        let mut drawn = Drawn::default();
        let theme = self.theme;
        self.screen.draw(|frame| {
            drawn = draw(state, theme, frame.buffer_mut());
            if let Some(cursor) = drawn.cursor {
                frame.set_cursor_position(cursor);
            }
        })?;
        Ok(drawn)
    }

    /// Whether there is no terminal any more.
    pub(super) fn is_gone(&self) -> bool {
        GONE.load(Ordering::Relaxed)
    }
}

/// Sends a text to the terminal's clipboard (OSC 52), from where nothing is ever read. No terminal says whether it took it.
pub(super) fn copy(text: &str) -> io::Result<()> {
    execute!(Tty::new(), CopyToClipboard::to_clipboard_from(text))
}

impl Drop for Terminal {
    fn drop(&mut self) {
        give_back();
    }
}

/// Everything drawn between its beginning and its end appears at once.
struct SynchronizedUpdate;

impl SynchronizedUpdate {
    fn begin() -> SynchronizedUpdate {
        let _ = execute!(Tty::new(), BeginSynchronizedUpdate);
        SynchronizedUpdate
    }
}

impl Drop for SynchronizedUpdate {
    fn drop(&mut self) {
        let _ = execute!(Tty::new(), EndSynchronizedUpdate);
    }
}

fn set_owner(owner: Option<ThreadId>) -> Option<ThreadId> {
    let mut current = OWNER.lock().unwrap_or_else(PoisonError::into_inner);
    std::mem::replace(&mut current, owner)
}

fn owner() -> Option<ThreadId> {
    *OWNER.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Gives the terminal back, once; never fails and never panics, whatever has become of it.
fn give_back() {
    if set_owner(None).is_none() {
        return;
    }
    let mut tty = Tty::new();
    let _ = execute!(
        tty,
        EndSynchronizedUpdate,
        DisableBracketedPaste,
        DisableMouseCapture,
        LeaveAlternateScreen,
        cursor::Show
    );
    let _ = disable_raw_mode();
    let panics = std::mem::take(&mut *PANICS.lock().unwrap_or_else(PoisonError::into_inner));
    for panic in panics {
        let _ = writeln!(io::stderr(), "{panic}");
    }
}

/// A panic of the thread that has the terminal gives it back before anything is printed. One of any other thread
/// prints nothing over the screen, which goes on.
fn install_hook() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic: &PanicHookInfo<'_>| match owner() {
        Some(owner) if owner == std::thread::current().id() => {
            give_back();
            before(panic);
        }
        Some(_) => PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string()),
        None => before(panic),
    }));
}
