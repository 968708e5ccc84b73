//! A terminal to run the program in: tmux, without a screen.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::cluster::LIMIT;
use super::{Directory, describe};

/// A terminal with one program in it. It ends, and the program with it, when this is dropped.
#[derive(Debug)]
pub struct Tmux {
    socket: PathBuf,
}

impl Tmux {
    /// Runs `command`, with the environment that was set in it and no other, in a terminal of that size.
    #[track_caller]
    pub fn start(directory: &Directory, command: &Command, width: u16, height: u16) -> Tmux {
        let number = (0..).find(|number| !directory.path().join(format!("tmux{number}")).exists()).unwrap();
        let tmux = Tmux { socket: directory.path().join(format!("tmux{number}")) };
        let mut start = tmux.command();
        start.args(["start-server", ";", "set-option", "-g", "remain-on-exit", "on", ";"]);
        start.args([
            "set-option",
            "-g",
            "remain-on-exit-format",
            "",
            ";",
            "set-option",
            "-sg",
            "escape-time",
            "0",
            ";",
        ]);
        start.args(["set-option", "-g", "status", "off", ";", "new-session", "-d"]);
        start.args(["-x", &width.to_string(), "-y", &height.to_string()]);
        if let Some(place) = command.get_current_dir() {
            start.arg("-c").arg(place);
        }
        start.args(["--", "env", "-i"]);
        let settings = command.get_envs().filter(|(name, _)| *name != "TERM");
        let settings = settings.filter_map(|(name, value)| Some(format!("{}={}", name.to_str()?, value?.to_str()?)));
        start.args(settings.map(|setting| plain(&setting)));
        start.arg("TERM=screen-256color").arg(command.get_program());
        start.args(command.get_args().filter_map(|argument| argument.to_str()).map(plain));
        tmux.run(&mut start);
        tmux
    }

    fn command(&self) -> Command {
        let mut command = Command::new("tmux");
        command.env_remove("TMUX").arg("-u").arg("-S").arg(&self.socket).args(["-f", "/dev/null"]);
        command
    }

    #[track_caller]
    fn run(&self, command: &mut Command) -> String {
        let output = command.output().unwrap_or_else(|error| panic!("tmux: {error}: tests/run.sh installs it"));
        assert!(output.status.success(), "{}", describe(command, &output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Presses keys, by tmux's names for them: `q`, `Enter`, `Escape`, `Up`, `C-c`, `M-x`, `F1`, `Space`, `BTab`.
    #[track_caller]
    pub fn send(&self, keys: &[&str]) {
        self.run(self.command().args(["send-keys", "--"]).args(keys.iter().map(|key| plain(key))));
    }

    /// Types text as it is.
    #[track_caller]
    pub fn type_text(&self, text: &str) {
        self.run(self.command().args(["send-keys", "-l", "--", &plain(text)]));
    }

    /// Changes the terminal's size.
    #[track_caller]
    pub fn resize(&self, width: u16, height: u16) {
        self.run(self.command().args(["resize-window", "-x", &width.to_string(), "-y", &height.to_string()]));
    }

    /// What is on the screen, a line for each row, without the spaces at their ends.
    #[track_caller]
    pub fn screen(&self) -> String {
        self.run(self.command().args(["capture-pane", "-p"]))
    }

    /// The same with the escape sequences of colours and styles.
    #[track_caller]
    pub fn screen_with_styles(&self) -> String {
        self.run(self.command().args(["capture-pane", "-p", "-e"]))
    }

    /// Waits until `text` is on the screen and gives the screen; panics with the screen when it does not come.
    #[track_caller]
    pub fn wait_for(&self, text: &str, limit: Duration) -> String {
        self.wait_for_screen(&format!("{text:?}"), limit, |screen| screen.contains(text))
    }

    /// Waits until the screen is as `condition` wants it and is drawn to its end, and gives it: tmux shows a frame
    /// while it comes in, so that a screen counts when the next look sees the same.
    #[track_caller]
    pub fn wait_for_screen(&self, what: &str, limit: Duration, condition: impl Fn(&str) -> bool) -> String {
        let start = Instant::now();
        let mut before = None;
        loop {
            let screen = self.screen();
            let wanted = condition(&screen);
            if wanted && before.as_ref() == Some(&screen) {
                return screen;
            }
            before = wanted.then(|| screen.clone());
            assert!(start.elapsed() < limit, "after {limit:?}, still no {what} on the screen:\n{}", framed(&screen));
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// What tmux knows about the terminal, by its names for it: `alternate_on`, `cursor_flag`, `mouse_any_flag`, …
    #[track_caller]
    pub fn knows(&self, name: &str) -> String {
        self.run(self.command().args(["display-message", "-p", &format!("#{{{name}}}")])).trim_end().to_owned()
    }

    /// Lets programs in it set the clipboard.
    #[track_caller]
    pub fn allow_clipboard(&self) {
        self.run(self.command().args(["set-option", "-s", "set-clipboard", "on"]));
    }

    /// What was sent to the clipboard last.
    #[track_caller]
    pub fn clipboard(&self) -> Option<String> {
        let output = self.command().arg("show-buffer").output().unwrap();
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// The process that was started in it.
    #[track_caller]
    pub fn pid(&self) -> u32 {
        self.knows("pane_pid").parse().unwrap()
    }

    /// Waits until the program has ended, and gives its exit status.
    #[track_caller]
    pub fn wait_for_exit(&self, limit: Duration) -> i32 {
        let start = Instant::now();
        loop {
            // The terminal is closed a moment before tmux is told how the program ended.
            if let Ok(status) = self.knows("pane_dead_status").parse() {
                return status;
            }
            let signal = self.knows("pane_dead_signal");
            assert!(signal.is_empty(), "the program was killed by signal {signal}:\n{}", framed(&self.screen()));
            if self.knows("pane_dead") == "1" {
                // tmux 3.3 sometimes misses that its child has ended, and leaves it a zombie: it is told again.
                let _ = kill(Pid::from_raw(self.knows("pid").parse().unwrap()), Signal::SIGCHLD);
            }
            assert!(start.elapsed() < limit, "after {limit:?}, it still runs:\n{}", framed(&self.screen()));
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Presses `key` and waits for what it brings. After Escape the screen has to change, too: what it uncovers may have
/// been in view before, and a key that follows Escape at once is one with Alt to any terminal program.
#[track_caller]
pub fn press(tmux: &Tmux, key: &str, brings: &str) -> String {
    let before = if key == "Escape" { tmux.screen() } else { String::new() };
    tmux.send(&[key]);
    tmux.wait_for_screen(&format!("{brings:?}"), LIMIT, |screen| screen.contains(brings) && screen != before)
}

impl Drop for Tmux {
    fn drop(&mut self) {
        let _ = self.command().arg("kill-server").stderr(Stdio::null()).status();
    }
}

/// As an argument of tmux, which ends its command where one ends with a semicolon.
fn plain(argument: &str) -> String {
    argument.strip_suffix(';').map_or_else(|| argument.to_owned(), |start| format!("{start}\\;"))
}

fn framed(screen: &str) -> String {
    screen.lines().map(|line| format!("| {line}\n")).collect()
}
