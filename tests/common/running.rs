//! A program that runs, with what it prints line by line.

use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use podrun_namespaces::PidFd;

/// Nothing that a test waits for takes longer, not even in an emulated machine.
const LIMIT: Duration = Duration::from_secs(120);

/// A running program.
pub(crate) struct Running {
    child: Child,
    what: String,
    stdout: Receiver<String>,
    stderr: Receiver<String>,
}

/// What a program printed and how it ended.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) what: String,
    /// The exit code; 128 and the number for a signal.
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// Returns what it printed on standard output; it must have ended well.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}\n{}{}", self.what, self.stdout, self.stderr);
        self.stdout
    }

    /// Returns what it printed on standard error; it must have ended with this code.
    #[track_caller]
    pub(crate) fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}{}", self.what, self.stdout, self.stderr);
        self.stderr
    }
}

impl Running {
    /// Starts a program.
    pub(crate) fn start(mut command: Command) -> Self {
        let what = format!("{command:?}");
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
        let stdout = lines_of(child.stdout.take().expect("piped"));
        let stderr = lines_of(child.stderr.take().expect("piped"));
        Self { child, what, stdout, stderr }
    }

    /// Starts a program that reads `input`.
    pub(crate) fn start_with_input(mut command: Command, input: &str) -> Self {
        command.stdin(Stdio::piped());
        let mut running = Self::start(command);
        let mut stdin = running.child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("the program reads");
        running
    }

    /// Returns the program's process id, which is its own until [`finish`](Self::finish).
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Returns the next line of standard output, or none at its end.
    pub(crate) fn line(&mut self) -> Option<String> {
        next(&self.stdout, &self.what)
    }

    /// Returns the next line of standard error, or none at its end.
    pub(crate) fn error_line(&mut self) -> Option<String> {
        next(&self.stderr, &self.what)
    }

    /// Waits for a line on standard output.
    #[track_caller]
    pub(crate) fn wait_line(&mut self, mut wanted: impl FnMut(&str) -> bool) -> String {
        let mut seen = Vec::new();
        while let Some(line) = self.line() {
            if wanted(&line) {
                return line;
            }
            seen.push(line);
        }
        let stderr: Vec<String> = self.stderr.iter().collect();
        panic!("{} ended after {seen:#?} {stderr:#?}", self.what);
    }

    /// Sends a signal. The program is our child and not reaped, so its number is its own.
    pub(crate) fn signal(&self, signal: i32) {
        let pid = self.child.id().try_into().expect("a pid is an int");
        PidFd::open(pid).and_then(|process| process.send_signal(signal)).expect("our own child");
    }

    /// Ends the program at once.
    pub(crate) fn kill(mut self) {
        self.child.kill().and_then(|()| self.child.wait()).expect("our own child");
    }

    /// Waits for the end of the program; what was read before is not part of the output.
    pub(crate) fn finish(mut self) -> Output {
        use std::os::unix::process::ExitStatusExt as _;
        let (mut stdout, mut stderr) = (String::new(), String::new());
        for (text, lines) in [(&mut stdout, &self.stdout), (&mut stderr, &self.stderr)] {
            while let Some(line) = next(lines, &self.what) {
                text.push_str(&line);
                text.push('\n');
            }
        }
        let status = self.child.wait().expect("our own child");
        let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
        Output { what: self.what, code, stdout, stderr }
    }
}

#[track_caller]
fn next(lines: &Receiver<String>, what: &str) -> Option<String> {
    match lines.recv_timeout(LIMIT) {
        Ok(line) => Some(line),
        Err(RecvTimeoutError::Disconnected) => None,
        Err(RecvTimeoutError::Timeout) => {
            panic!("{what} printed nothing for {LIMIT:?} and holds its output open")
        }
    }
}

fn lines_of(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { return };
            // Nobody listens to a program that was killed.
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
        }
    });
    receiver
}
