//! Running programs, and how a task fails.

use std::ffi::OsStr;
use std::io::{Read, Write as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long output may still arrive after a program has ended, from children it left behind.
const STRAGGLERS: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_millis(50);

/// Why a task failed, for a person, and what `xtask` exits with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
}

pub(crate) type Result<T> = std::result::Result<T, Failure>;

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 1 }
    }

    /// The caller, or the machine, must change before this can work.
    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self { message: message.into(), code: 2 }
    }
}

/// Adds what was attempted to an error.
pub(crate) trait Context<T> {
    fn context(self, what: impl std::fmt::Display) -> Result<T>;
}

impl<T, E: std::fmt::Display> Context<T> for std::result::Result<T, E> {
    fn context(self, what: impl std::fmt::Display) -> Result<T> {
        self.map_err(|error| Failure::new(format!("{what}: {error}")))
    }
}

/// Returns a command; the one place where this program starts others.
#[expect(clippy::disallowed_methods, reason = "a development tool drives cargo, apt and qemu")]
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    Command::new(program)
}

/// Returns cargo as it runs us.
pub(crate) fn cargo() -> Command {
    command(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Describes a command as a person would type it.
pub(crate) fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Runs a command that must succeed, with our own output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let shown = describe(command);
    eprintln!("+ {shown}");
    let status = command.status().context(&shown)?;
    if status.success() { Ok(()) } else { Err(Failure::new(format!("{shown}: {status}"))) }
}

/// Runs a command that must succeed and returns what it prints.
pub(crate) fn capture(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).stderr(Stdio::inherit()).output().context(&shown)?;
    if !output.status.success() {
        return Err(Failure::new(format!("{shown}: {}", output.status)));
    }
    String::from_utf8(output.stdout).context(&shown)
}

/// How a program ended that was watched while it ran.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Absent if it was killed because its time was up.
    pub(crate) status: Option<ExitStatus>,
    pub(crate) output: String,
}

/// A running program whose standard output is passed on and kept.
pub(crate) struct Watched {
    child: Child,
    chunks: Receiver<Vec<u8>>,
    output: Vec<u8>,
    deadline: Instant,
}

impl Watched {
    /// Starts a program without standard input.
    pub(crate) fn start(command: &mut Command, limit: Duration) -> Result<Self> {
        let shown = describe(command);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context(&shown)?;
        let mut stdout = child.stdout.take().expect("it was asked to be a pipe");
        let (sender, chunks) = mpsc::channel();
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(count @ 1..) = stdout.read(&mut buffer) {
                if sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, chunks, output: Vec::new(), deadline: Instant::now() + limit })
    }

    /// Tells whether a text was among the output so far.
    pub(crate) fn has_printed(&self, text: &str) -> bool {
        self.output.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Ends the program at once.
    pub(crate) fn stop(mut self) -> Result<()> {
        self.child.kill().context("kill")?;
        self.child.wait().context("wait").map(drop)
    }

    /// Passes on what arrives during one tick; tells how the program ended if it did.
    pub(crate) fn tick(&mut self) -> Result<Option<ExitStatus>> {
        match self.chunks.recv_timeout(TICK) {
            Ok(chunk) => {
                self.pass_on(&chunk);
                return Ok(None);
            }
            Err(RecvTimeoutError::Timeout) => {}
            // Its output is closed, so it is about to end.
            Err(RecvTimeoutError::Disconnected) => return self.child.wait().map(Some).context("wait"),
        }
        self.child.try_wait().context("wait")
    }

    /// Waits for the end, or for the time limit, and kills the program then.
    pub(crate) fn finish(mut self) -> Result<Outcome> {
        let status = loop {
            if let Some(status) = self.tick()? {
                break Some(status);
            }
            if Instant::now() >= self.deadline {
                self.child.kill().context("kill")?;
                self.child.wait().context("wait")?;
                break None;
            }
        };
        let last = Instant::now() + STRAGGLERS;
        while let Ok(chunk) = self.chunks.recv_timeout(last.saturating_duration_since(Instant::now())) {
            self.pass_on(&chunk);
        }
        Ok(Outcome { status, output: String::from_utf8_lossy(&self.output).into_owned() })
    }

    fn pass_on(&mut self, chunk: &[u8]) {
        // Whoever closed our output does not want it; the run itself goes on.
        let mut stdout = std::io::stdout().lock();
        let _ = stdout.write_all(chunk).and_then(|()| stdout.flush());
        self.output.extend_from_slice(chunk);
    }
}
