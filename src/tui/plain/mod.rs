//! The interactive program as lines: the same state, commands and effects without a screen, for screen readers, serial
//! consoles, logs and pipes.
//!
//! Lines are only ever added, and nothing in them steers a terminal. With input from a pipe, each command waits until what
//! was asked for before has come to its end or to a question, so that a list of commands is a script.

mod drawn;
mod drills;
mod home;
mod lend;
mod next;
mod question;
mod session;
mod tell;
mod text;
mod wait;
mod words;

use std::io::{BufRead, IsTerminal, Read, Write};
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::run::{MsgSender, Perform, Signals, now, ticks};
use crate::app::{Msg, State};
use crate::error::Error;
use session::{Next, Session};

/// What stands before what is typed.
const PROMPT: &str = "walback> ";
/// A line has at most so many bytes: more than any query or path, less than what a mistaken file brings.
const LINE: u64 = 1 << 20;
/// After so long of taking messages in, what they brought is told.
const BATCH: Duration = Duration::from_millis(50);

/// Why there is no screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// It was asked for.
    Asked,
    /// The terminal says that it can do nothing (`TERM=dumb`).
    Dumb,
    /// Input or output is no terminal.
    NoTerminal,
}

/// Whether the interface has to be lines, and why; `asked` where `--plain` was given.
#[must_use]
pub fn why(asked: bool) -> Option<Why> {
    let terminal = std::io::stdin().is_terminal() && std::io::stdout().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    match (asked, terminal, dumb) {
        (true, ..) => Some(Why::Asked),
        (false, false, _) => Some(Why::NoTerminal),
        (false, true, true) => Some(Why::Dumb),
        (false, true, false) => None,
    }
}

/// Runs the program as lines until the operator leaves it or the input ends, and gives the exit status. Recoveries go on.
///
/// # Errors
/// When the process cannot listen to signals.
pub fn run(state: State, perform: impl Perform, why: Why) -> Result<u8, Error> {
    let broken = |error: std::io::Error| Error::failed("terminal", "cannot use this terminal").caused_by(&error);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(broken)?;
    let status = runtime.block_on(async {
        let mut looped = Loop::new(state, perform, why)?;
        looped.run().await;
        Ok(looped.end())
    });
    status.map_err(broken)
}

/// Standard output, until nobody reads it any more.
struct Out {
    unicode: bool,
    gone: bool,
    at_prompt: bool,
}

impl Out {
    fn write(&mut self, text: &str) {
        let mut out = std::io::stdout().lock();
        self.gone |= out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err();
    }

    fn line(&mut self, line: &str) {
        // What was being typed stays, and what happens begins a line of its own.
        let before = if std::mem::take(&mut self.at_prompt) { "\n" } else { "" };
        self.write(&format!("{before}{}\n", text::plain(line, self.unicode)));
    }

    fn prompt(&mut self) {
        self.write(PROMPT);
        self.at_prompt = true;
    }
}

struct Loop<P> {
    session: Session,
    perform: P,
    reply: MsgSender,
    messages: UnboundedReceiver<Msg>,
    signals: Signals,
    input: Input,
    out: Out,
    why: Why,
    /// Whether somebody types.
    typed: bool,
}

impl<P: Perform> Loop<P> {
    fn new(state: State, perform: P, why: Why) -> std::io::Result<Loop<P>> {
        let (reply, messages) = MsgSender::channel();
        let out = Out { unicode: state.unicode, gone: false, at_prompt: false };
        let typed = std::io::stdin().is_terminal();
        let session = Session::new(state, typed, typed && std::io::stdout().is_terminal());
        let signals = Signals::new()?;
        Ok(Loop { session, perform, reply, messages, signals, input: Input::open(), out, why, typed })
    }

    async fn run(&mut self) {
        self.greet();
        let mut tick = ticks();
        let mut next = self.session.take(Msg::Started);
        while next == Next::Go {
            next = self.session.work();
            self.tell();
            for effect in std::mem::take(&mut self.session.effects) {
                self.perform.perform(effect, &self.reply);
            }
            if next == Next::Leave || self.out.gone {
                return;
            }
            if let Some(errand) = self.session.errand.take() {
                next = self.lend(errand).await;
                continue;
            }
            self.ask();
            next = tokio::select! {
                biased;
                _ = self.signals.terminate.recv() => Next::Leave,
                _ = self.signals.hangup.recv() => Next::Leave,
                _ = self.signals.interrupt.recv() => self.interrupt(),
                line = self.input.lines.recv() => { self.came(line.flatten()); Next::Go }
                _ = tick.tick() => self.session.take(Msg::Tick(now(self.session.state.now))),
                msg = self.messages.recv() => {
                    let next = self.batch(msg);
                    tokio::task::yield_now().await;
                    next
                }
            };
        }
    }

    /// The farewell, and the exit status.
    fn end(mut self) -> u8 {
        self.tell();
        if std::mem::take(&mut self.out.at_prompt) {
            self.out.write("\n");
        }
        let out = &mut self.out;
        self.perform.leave(&mut |line| out.line(line));
        if let Some(farewell) = self.session.state.farewell() {
            self.out.line(&farewell);
        }
        self.session.status()
    }

    fn greet(&mut self) {
        for line in home::heading(&self.session.state) {
            self.out.line(&line);
        }
        let why = match self.why {
            Why::Dumb => "these are lines because TERM is “dumb”: with TERM=xterm, say, the full screen opens",
            Why::NoTerminal if self.typed => "these are lines because the output goes to no terminal",
            Why::Asked | Why::NoTerminal => return,
        };
        self.out.line(why);
    }

    fn batch(&mut self, first: Option<Msg>) -> Next {
        let began = Instant::now();
        let mut msg = first;
        while let Some(taken) = msg {
            if self.session.take(taken) == Next::Leave {
                return Next::Leave;
            }
            msg = if began.elapsed() < BATCH { self.messages.try_recv().ok() } else { None };
        }
        Next::Go
    }

    fn tell(&mut self) {
        for text in self.session.told.take() {
            for line in text.split('\n') {
                self.out.line(line);
            }
        }
    }

    /// Asks for the next line, where that was not done, and shows that it is waited for.
    fn ask(&mut self) {
        if !self.session.wants_line() {
            return;
        }
        self.input.ask();
        let asks = self.session.state.dialog.is_some() || !self.session.is_waiting();
        if self.typed && !self.out.at_prompt && asks {
            self.out.prompt();
        }
    }

    fn interrupt(&mut self) -> Next {
        if self.typed {
            // The terminal has shown ^C.
            self.out.write("\n");
            self.out.at_prompt = false;
        }
        self.session.interrupt()
    }

    fn came(&mut self, line: Option<String>) {
        self.input.asked = false;
        match line {
            Some(line) => {
                // Its end was typed, too.
                self.out.at_prompt = false;
                self.session.read(line);
            }
            None => self.session.end(),
        }
    }
}

/// Lines of standard input, read one at a time and only when asked for: what psql is to read stays there.
struct Input {
    wanted: std::sync::mpsc::Sender<()>,
    lines: UnboundedReceiver<Option<String>>,
    asked: bool,
}

impl Input {
    fn open() -> Input {
        let (wanted, asked) = std::sync::mpsc::channel();
        let (read, lines) = unbounded_channel();
        std::thread::spawn(move || while asked.recv().is_ok() && read.send(read_line()).is_ok() {});
        Input { wanted, lines, asked: false }
    }

    fn ask(&mut self) {
        if !self.asked {
            self.asked = self.wanted.send(()).is_ok();
        }
    }
}

/// The next line without its end; `None` at the end of the input, and for what is too long to be a line.
fn read_line() -> Option<String> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(LINE).read_until(b'\n', &mut bytes);
    let is_whole = bytes.last() == Some(&b'\n') || (bytes.len() as u64) < LINE;
    let is_line = read.is_ok_and(|count| count > 0) && is_whole;
    is_line.then(|| String::from_utf8_lossy(&bytes).trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests;
