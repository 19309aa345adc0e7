//! `podrun exec`: a command in a container.

use std::fs::File;
use std::io::{self, PipeReader, PipeWriter, Read as _, Write};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::SignalFd;
use podrun_engine::{Engine, Exec, ExecEvent, ExitStatus, Failure, PodView, Stage, Stdio, TerminalSize};

use crate::cli::{ExecArgs, Global};
use crate::context;
use crate::exit_code::Code;
use crate::print;
use crate::report::{self, CommandError, CommandResult};
use crate::selection::pod_and_container;
use crate::terminal::{self, RawTerminal};

/// What is copied at once.
const CHUNK: usize = 64 * 1024;

/// What a terminal is taken for that does not know its size.
const DEFAULT_SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

pub(crate) fn run(global: &Global, args: &ExecArgs) -> CommandResult {
    let engine = context::engine(global)?;
    let (name, slashed) = pod_and_container(&args.pod);
    let view = engine.pod(global.namespace(), name)?;
    let container = context::container(&view, args.container.as_deref().or(slashed), args.quiet)?;
    let phase = view.published.status.phase;
    if phase.is_terminal() {
        let message =
            format!("cannot exec into a container in a completed pod; current phase is {}", phase.as_str());
        return Err(CommandError::new(Code::Failure, message));
    }
    let session = Target { engine: &engine, view: &view, container: &container, args };
    // As kubectl: without input there is no terminal.
    if args.tty && args.stdin {
        if terminal::has_input() {
            return session.on_terminal();
        }
        if !args.quiet {
            report::warning("standard input is no terminal: the command gets none either");
        }
    }
    session.with_pipes()
}

/// What is to be done where.
struct Target<'a> {
    engine: &'a Engine,
    view: &'a PodView,
    container: &'a str,
    args: &'a ExecArgs,
}

impl Target<'_> {
    fn start(&self, stdio: &Stdio<'_>) -> Result<Exec, CommandError> {
        Ok(self.engine.exec(&self.view.pod, self.container, &self.args.command, stdio)?)
    }

    /// Runs the command with pipes, whose other ends are copied to and from this process's own streams: a container must
    /// not get hold of those.
    fn with_pipes(&self) -> CommandResult {
        let failed = |error: io::Error| CommandError::new(Code::Engine, format!("make a pipe: {error}"));
        let (stdout, stdout_in) = io::pipe().map_err(failed)?;
        let (stderr, stderr_in) = io::pipe().map_err(failed)?;
        let input = if self.args.stdin { Some(io::pipe().map_err(failed)?) } else { None };
        let (stdin_out, stdin) = input.unzip();
        let exec = self.start(&Stdio::Pipes {
            stdin: stdin_out.as_ref().map(|reader| reader.as_fd()),
            stdout: stdout_in.as_fd(),
            stderr: stderr_in.as_fd(),
        })?;
        // The command has copies; with ours the pipes would never end.
        drop((stdin_out, stdout_in, stderr_in));
        let mut session = Session { exec, signals: None, terminal: None };
        session.started()?;
        let (done, running) = io::pipe().map_err(failed)?;
        copy_out(stdout, print::bytes, running.try_clone().map_err(failed)?);
        copy_out(stderr, |text| io::stderr().write_all(text).is_ok(), running);
        if let Some(stdin) = stdin {
            copy_in(stdin);
        }
        session.finish(&done)
    }

    /// Runs the command on a terminal of the container's own.
    fn on_terminal(&self) -> CommandResult {
        let failed = |error: io::Error| CommandError::new(Code::Engine, format!("use the terminal: {error}"));
        let signals = terminal::catch_signals().map_err(failed)?;
        let exec = self.start(&Stdio::Terminal(own_size()))?;
        let mut session = Session { exec, signals: Some(signals), terminal: None };
        session.started()?;
        let other = session
            .exec
            .terminal()
            .map_err(|error| CommandError::new(Code::Engine, report::chain(&error)))?;
        let (input, output) = (other.try_clone().map_err(failed)?, other.try_clone().map_err(failed)?);
        session.terminal = Some(other);
        // It may have changed between the question and the signals.
        session.resize();
        let (done, running) = io::pipe().map_err(failed)?;
        let _raw = RawTerminal::new().map_err(failed)?;
        copy_out(File::from(output), print::bytes, running);
        copy_in(File::from(input));
        session.finish(&done)
    }
}

fn own_size() -> TerminalSize {
    match TerminalSize::of(io::stdin()) {
        Ok(size) if size.rows > 0 && size.columns > 0 => size,
        _ => DEFAULT_SIZE,
    }
}

/// Copies until nobody can write any more, or nobody reads. `_running` is closed then.
fn copy_out(
    mut from: impl io::Read + Send + 'static,
    takes: impl Fn(&[u8]) -> bool + Send + 'static,
    running: PipeWriter,
) {
    thread::spawn(move || {
        let _running = running;
        let mut buffer = vec![0; CHUNK];
        loop {
            match from.read(&mut buffer) {
                // EIO is the end of a terminal.
                Ok(0) => return,
                Ok(count) if takes(&buffer[..count]) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
}

/// Copies standard input until it ends, or the command reads no more.
fn copy_in(mut to: impl Write + Send + 'static) {
    thread::spawn(move || {
        let mut buffer = vec![0; CHUNK];
        // Not by way of std's buffer, which would keep what the command does not take.
        let Ok(mut stdin) = io::stdin().as_fd().try_clone_to_owned().map(File::from) else { return };
        loop {
            match stdin.read(&mut buffer) {
                Ok(0) => return,
                Ok(count) if to.write_all(&buffer[..count]).is_ok() => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return,
            }
        }
    });
}

/// A command that runs.
struct Session {
    exec: Exec,
    signals: Option<SignalFd>,
    /// The other end of its terminal.
    terminal: Option<OwnedFd>,
}

impl Session {
    /// Waits until the program has been executed.
    fn started(&mut self) -> Result<(), CommandError> {
        loop {
            match self.next_event()? {
                Some(ExecEvent::Started) => return Ok(()),
                Some(ExecEvent::Failed(failure)) => return Err(not_started(failure)),
                Some(ExecEvent::Exited(_) | ExecEvent::Gone) => {
                    return Err(CommandError::new(
                        Code::Failure,
                        "the container ended before the command began",
                    ));
                }
                None => drop(wait(&mut [PollFd::new(self.exec.events(), PollFlags::POLLIN)])?),
            }
        }
    }

    /// Waits until the command has ended and all its output is copied; returns its exit code.
    fn finish(mut self, done: &PipeReader) -> CommandResult {
        let (mut status, mut copied, mut gone) = (None, false, false);
        while !(copied && (status.is_some() || gone)) {
            let mut fds = Vec::new();
            // At the end of a pipe poll returns at once, so what has ended is not asked again.
            let asked = (!gone, !copied);
            fds.extend(asked.0.then(|| PollFd::new(self.exec.events(), PollFlags::POLLIN)));
            fds.extend(asked.1.then(|| PollFd::new(done.as_fd(), PollFlags::POLLIN)));
            fds.extend(self.signals.as_ref().map(|signals| PollFd::new(signals.as_fd(), PollFlags::POLLIN)));
            wait(&mut fds)?;
            copied = copied || fds[usize::from(asked.0)].any().unwrap_or(false);
            drop(fds);
            while !gone {
                match self.next_event()? {
                    Some(ExecEvent::Exited(exit)) => status = Some(exit),
                    Some(ExecEvent::Gone) => gone = true,
                    Some(ExecEvent::Started | ExecEvent::Failed(_)) => {}
                    None => break,
                }
            }
            if let Some(code) = self.signalled()? {
                return Ok(code);
            }
        }
        // What it has left in the background lives on.
        if !gone {
            self.exec.leave().map_err(|error| CommandError::new(Code::Engine, report::chain(&error)))?;
        }
        // Killed with the container, and nobody left who could tell.
        let status = status.unwrap_or(ExitStatus::Signal(libc::SIGKILL));
        Ok(Code::Container(u8::try_from(status.exit_code()).unwrap_or(u8::MAX)))
    }

    fn next_event(&mut self) -> Result<Option<ExecEvent>, CommandError> {
        self.exec.recv().map_err(|error| CommandError::new(Code::Engine, report::chain(&error)))
    }

    /// Handles signals; returns the exit code if one wants this process to end.
    fn signalled(&mut self) -> Result<Option<Code>, CommandError> {
        let Some(signals) = &mut self.signals else { return Ok(None) };
        let failed = |errno: Errno| CommandError::new(Code::Engine, format!("read a signal: {errno}"));
        let Some(signal) = signals.read_signal().map_err(failed)? else { return Ok(None) };
        if i32::try_from(signal.ssi_signo) == Ok(libc::SIGWINCH) {
            self.resize();
            return Ok(None);
        }
        Ok(Some(Code::Container(u8::try_from(128 + signal.ssi_signo).unwrap_or(u8::MAX))))
    }

    fn resize(&self) {
        if let Some(terminal) = &self.terminal {
            // A terminal that has ended needs no size.
            let _ = own_size().give_to(terminal);
        }
    }
}

fn wait(fds: &mut [PollFd<'_>]) -> Result<(), CommandError> {
    match poll(fds, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(CommandError::new(Code::Engine, format!("wait for the command: {errno}"))),
    }
}

/// Returns the error of a command that was not started, with the exit code that a shell has for it.
fn not_started(failure: Failure) -> CommandError {
    let code = match (failure.stage, failure.errno) {
        (Stage::Exec, libc::ENOENT | libc::ENOTDIR) => Code::NoSuchCommand,
        (Stage::Exec, _) => Code::NotExecutable,
        // The container has just ended, or has not begun.
        (Stage::Sandbox, libc::ESRCH) => Code::Failure,
        _ => Code::Engine,
    };
    CommandError::new(code, failure.message)
}
