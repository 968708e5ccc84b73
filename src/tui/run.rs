//! The loop: message → update → effects → draw.

pub(super) mod lend;

use std::io::Write;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crossterm::event::{
    Event as TerminalEvent, EventStream, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseEvent,
};
use crossterm::event::{MouseButton, MouseEventKind};
use futures_util::StreamExt;
use ratatui::layout::Rect;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};

use super::canvas::hit_at;
use super::terminal::{self, Terminal};
use super::theme::Theme;
use crate::app::{Effect, Hit, Key, Msg, State, update};
use crate::core::Timestamp;
use crate::error::Error;
use lend::Errand;

/// Carries effects out.
pub trait Perform {
    /// Begins what an effect asks for, and returns at once; what comes of it is sent as messages. What needs the
    /// terminal itself never comes here: psql, pager, editor, clipboard, the way to the shell and the way out.
    fn perform(&mut self, effect: Effect, reply: &MsgSender);

    /// The command that looks at a recovery's server (psql), and the database that it opens; `None` where there is none.
    fn look_command(&self, recovery: &str) -> Option<(Command, String)>;

    /// Brings to its end what must not be left behind when the program ends; the terminal was given back. `say` tells what
    /// takes long.
    fn leave(&mut self, say: &mut dyn FnMut(&str));

    /// Where the log of a recovery's server is; `None` where there is none.
    fn log_of(&self, recovery: &str) -> Option<PathBuf>;
}

/// Where answers go; for any thread, and harmless after the program has left.
#[derive(Debug, Clone)]
pub struct MsgSender(UnboundedSender<Msg>);

impl MsgSender {
    /// Sends a message to the loop. Returns `false` once the program has left and nobody listens.
    pub fn send(&self, msg: Msg) -> bool {
        self.0.send(msg).is_ok()
    }

    /// A sender and what it sends, for testing what carries effects out.
    #[must_use]
    pub fn channel() -> (MsgSender, UnboundedReceiver<Msg>) {
        let (sender, receiver) = unbounded_channel();
        (MsgSender(sender), receiver)
    }
}

/// Between two frames at least, unless a key was pressed: a flood of progress is not worth more.
const FRAME: Duration = Duration::from_millis(33);
/// After so long of taking messages in, a key gets its turn.
const BATCH: Duration = Duration::from_millis(8);

/// Runs the interactive program until the operator leaves it or the terminal goes away. Recoveries go on.
///
/// # Errors
/// When the terminal cannot be used.
pub fn run(state: State, perform: impl Perform, theme: Theme) -> Result<(), Error> {
    let broken = |error: std::io::Error| Error::failed("terminal", "cannot use this terminal").caused_by(&error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let left = runtime.block_on(async {
        let mut terminal = Terminal::enter(theme)?;
        let mut looped = Loop::new(state, perform)?;
        let ran = looped.run(&mut terminal).await;
        Ok((ran, looped))
    });
    let (ran, mut looped) = left.map_err(broken)?;
    // The line may be dead by now.
    let mut say = |line: &str| _ = writeln!(std::io::stderr(), "{line}");
    looped.perform.leave(&mut say);
    ran.map_err(broken)?;
    if let Some(farewell) = looped.state.farewell() {
        say(&farewell);
    }
    Ok(())
}

/// What the loop does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Go,
    Leave,
}

/// The signals that end the program, of which one must not while another program has the terminal; and the one that
/// comes when it goes on after it was stopped.
pub(super) struct Signals {
    pub(super) terminate: Signal,
    pub(super) hangup: Signal,
    pub(super) interrupt: Signal,
    go_on: Signal,
}

impl Signals {
    pub(super) fn new() -> std::io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            go_on: signal(SignalKind::from_raw(nix::libc::SIGCONT))?,
        })
    }

    async fn next(&mut self) -> Signaled {
        tokio::select! {
            _ = self.terminate.recv() => Signaled::End,
            _ = self.hangup.recv() => Signaled::End,
            _ = self.interrupt.recv() => Signaled::End,
            _ = self.go_on.recv() => Signaled::GoOn,
        }
    }
}

/// What a signal means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signaled {
    /// Leave.
    End,
    /// Somebody stopped the program, and it goes on.
    GoOn,
}

struct Loop<P> {
    state: State,
    perform: P,
    reply: MsgSender,
    messages: UnboundedReceiver<Msg>,
    signals: Signals,
    /// What the terminal is to be lent for.
    errand: Option<Errand>,
    hits: Vec<(Rect, Hit)>,
}

impl<P: Perform> Loop<P> {
    fn new(state: State, perform: P) -> std::io::Result<Loop<P>> {
        let (reply, messages) = MsgSender::channel();
        Ok(Loop { state, perform, reply, messages, signals: Signals::new()?, errand: None, hits: Vec::new() })
    }

    async fn run(&mut self, terminal: &mut Terminal) -> std::io::Result<()> {
        let mut events = EventStream::new();
        let mut tick = ticks();
        // The first frame comes before anything is asked for.
        self.draw(terminal)?;
        if self.take(Msg::Started) == Next::Leave {
            return Ok(());
        }
        let mut drawn_at = Instant::now();
        let mut dirty = true;
        loop {
            let mut urgent = false;
            let next = tokio::select! {
                biased;
                signaled = self.signals.next() => {
                    if signaled == Signaled::End { Next::Leave } else { urgent = true; self.again(terminal)? }
                }
                event = events.next() => match event {
                    Some(Ok(event)) => { urgent = true; self.input(event) }
                    // No more input: the line is gone.
                    Some(Err(_)) | None => Next::Leave,
                },
                _ = tick.tick() => self.take(Msg::Tick(now(self.state.now))),
                msg = self.messages.recv() => {
                    let next = self.batch(msg);
                    // Signals come with the runtime's own turn, which a flood would keep from it.
                    tokio::task::yield_now().await;
                    next
                }
                () = sleep_until(drawn_at + FRAME), if dirty => Next::Go,
            };
            if next == Next::Leave || terminal.is_gone() {
                return Ok(());
            }
            dirty = true;
            if let Some(errand) = self.errand.take() {
                drop(events);
                if self.lend(terminal, errand).await? == Next::Leave {
                    return Ok(());
                }
                events = EventStream::new();
                tick = ticks();
                urgent = true;
            }
            if urgent || drawn_at.elapsed() >= FRAME {
                self.draw(terminal)?;
                drawn_at = Instant::now();
                dirty = false;
            }
        }
    }

    /// Takes the terminal anew: the shell had it, and it may be in any mode.
    fn again(&mut self, terminal: &mut Terminal) -> std::io::Result<Next> {
        terminal.suspend();
        self.resume(terminal)
    }

    /// Takes the terminal again. Of another size nobody was told meanwhile.
    fn resume(&mut self, terminal: &mut Terminal) -> std::io::Result<Next> {
        terminal.resume()?;
        let (columns, rows) = terminal.size()?;
        Ok(self.take(Msg::Resize(columns, rows)))
    }

    fn draw(&mut self, terminal: &mut Terminal) -> std::io::Result<()> {
        let drawn = terminal.draw(&self.state)?;
        self.hits = drawn.hits;
        update(&mut self.state, Msg::Drawn { scroll_max: drawn.scroll_max, page: drawn.page });
        Ok(())
    }

    /// Folds one message in and begins what follows from it.
    fn take(&mut self, msg: Msg) -> Next {
        let mut next = Next::Go;
        for effect in update(&mut self.state, msg) {
            match effect {
                Effect::Quit => next = Next::Leave,
                Effect::Look { recovery } => self.errand = Some(Errand::Look(recovery)),
                Effect::Page { recovery } => self.errand = Some(Errand::Page(recovery)),
                Effect::Read { file } => self.errand = Some(Errand::Read(file)),
                Effect::Edit(edit) => self.errand = Some(Errand::Edit(edit)),
                Effect::Suspend => self.errand = Some(Errand::Suspend),
                // A terminal that is gone is noticed elsewhere.
                Effect::Copy { text } => _ = terminal::copy(&text),
                effect => self.perform.perform(effect, &self.reply),
            }
        }
        next
    }

    /// Takes in what has piled up, so that a flood of messages costs one frame; but never for so long that a key
    /// would have to wait for it.
    fn batch(&mut self, first: Option<Msg>) -> Next {
        let began = Instant::now();
        let mut msg = first;
        while let Some(taken) = msg {
            if self.take(taken) == Next::Leave {
                return Next::Leave;
            }
            msg = if began.elapsed() < BATCH { self.messages.try_recv().ok() } else { None };
        }
        Next::Go
    }

    fn input(&mut self, event: TerminalEvent) -> Next {
        match event {
            TerminalEvent::Key(event) => key(event).map_or(Next::Go, |key| self.take(Msg::Key(key))),
            TerminalEvent::Mouse(event) => self.mouse(event),
            TerminalEvent::Paste(text) => self.take(Msg::Paste(text)),
            TerminalEvent::Resize(columns, rows) => self.take(Msg::Resize(columns, rows)),
            TerminalEvent::FocusGained | TerminalEvent::FocusLost => Next::Go,
        }
    }

    fn mouse(&mut self, event: MouseEvent) -> Next {
        const WHEEL: i32 = 3;
        match event.kind {
            MouseEventKind::Down(MouseButton::Left) => {
                let hit = hit_at(&self.hits, event.column, event.row);
                hit.map_or(Next::Go, |hit| self.take(Msg::Click(hit)))
            }
            MouseEventKind::ScrollUp => self.wheel(-WHEEL, event),
            MouseEventKind::ScrollDown => self.wheel(WHEEL, event),
            _ => Next::Go,
        }
    }

    fn wheel(&mut self, rows: i32, event: MouseEvent) -> Next {
        let over = hit_at(&self.hits, event.column, event.row);
        self.take(Msg::Wheel { rows, over })
    }
}

pub(super) fn ticks() -> Interval {
    let mut tick = interval(Duration::from_secs(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
    tick
}

pub(super) fn now(before: Timestamp) -> Timestamp {
    Timestamp::from_chrono(&chrono::Utc::now()).unwrap_or(before)
}

/// A key press as the program understands it; `None` for what means nothing to it.
fn key(event: KeyEvent) -> Option<Key> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    if event.modifiers.contains(KeyModifiers::ALT) && !control {
        return None;
    }
    Some(match event.code {
        KeyCode::Char(c) if control => Key::Ctrl(c.to_ascii_lowercase()),
        KeyCode::Char(c) => Key::Char(c),
        KeyCode::Enter => Key::Enter,
        KeyCode::Esc => Key::Esc,
        KeyCode::BackTab => Key::BackTab,
        KeyCode::Tab if event.modifiers.contains(KeyModifiers::SHIFT) => Key::BackTab,
        KeyCode::Tab => Key::Tab,
        KeyCode::Backspace => Key::Backspace,
        KeyCode::Delete => Key::Delete,
        KeyCode::Up => Key::Up,
        KeyCode::Down => Key::Down,
        KeyCode::Left => Key::Left,
        KeyCode::Right => Key::Right,
        KeyCode::Home => Key::Home,
        KeyCode::End => Key::End,
        KeyCode::PageUp => Key::PageUp,
        KeyCode::PageDown => Key::PageDown,
        KeyCode::F(number) => Key::F(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_understood_whatever_the_terminal_calls_them() {
        let press = |code, modifiers| key(KeyEvent::new(code, modifiers));
        assert_eq!(press(KeyCode::Char('S'), KeyModifiers::SHIFT), Some(Key::Char('S')));
        assert_eq!(press(KeyCode::Char('C'), KeyModifiers::CONTROL), Some(Key::Ctrl('c')));
        assert_eq!(press(KeyCode::Tab, KeyModifiers::SHIFT), Some(Key::BackTab));
        assert_eq!(press(KeyCode::Char('@'), KeyModifiers::CONTROL | KeyModifiers::ALT), Some(Key::Ctrl('@')));
        assert_eq!(press(KeyCode::Char('b'), KeyModifiers::ALT), None);
        assert_eq!(press(KeyCode::CapsLock, KeyModifiers::NONE), None);
        let release = KeyEvent::new_with_kind(KeyCode::Enter, KeyModifiers::NONE, KeyEventKind::Release);
        assert_eq!(key(release), None);
    }
}
