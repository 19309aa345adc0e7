//! The caller's half of an exec: commands beside the main processes of containers.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{Shutdown, shutdown};
use nix::unistd::pipe2;
use podrun_plan::model::SandboxPlan;

use crate::create::{connect_in, open_run_dir};
use crate::protocol::{
    Channel, ExecAnswer, ExecOrder, ExecReport, ExecRequest, ExecTarget, ExitStatus, Failure, Request,
    TerminalSize,
};
use crate::{SandboxError, sys};

/// A report is never longer: what is, is not ours.
const MAX_REPORT: usize = 64 * 1024;

/// The containers of a sandbox, to run commands in. It needs no supervisor.
#[derive(Debug)]
pub struct Execs {
    run_dir: File,
    uid: String,
}

/// What a command reads and writes.
#[derive(Debug)]
pub enum Stdio<'a> {
    /// Ends of pipes. Anything else is refused: a container must get no hold of a file of the host.
    Pipes {
        /// Standard input; none is the null device.
        stdin: Option<BorrowedFd<'a>>,
        /// Standard output.
        stdout: BorrowedFd<'a>,
        /// Standard error.
        stderr: BorrowedFd<'a>,
    },
    /// A terminal of the container's own. [`Exec::terminal`] returns its other end.
    Terminal(TerminalSize),
}

/// What happens to a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ExecEvent {
    /// Its program has been executed.
    Started,
    /// It could not be executed.
    Failed(Failure),
    /// It has ended. What it has started may live on.
    Exited(ExitStatus),
    /// Nothing is left of it and of what it has started.
    Gone,
}

impl Execs {
    /// Looks for the init of a sandbox by its names.
    ///
    /// # Errors
    ///
    /// [`SandboxError::File`]: `ENOENT` if there is no sandbox.
    pub fn new(plan: &SandboxPlan) -> Result<Self, SandboxError> {
        Self::in_directory(&plan.run_dir, &plan.uid)
    }

    /// Looks for the init whose socket is in a directory, `<run>/pods/<uid>`.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new).
    pub fn in_directory(run_dir: &Path, uid: &str) -> Result<Self, SandboxError> {
        Ok(Self { run_dir: open_run_dir(run_dir)?, uid: uid.to_owned() })
    }

    /// Asks for a command in a container that runs. [`ExecEvent::Started`] or [`ExecEvent::Failed`] follows.
    ///
    /// It runs as the container's main process does: its namespaces, user, groups, capabilities, limits, environment and
    /// working directory. What it uses counts for the container.
    ///
    /// # Errors
    ///
    /// [`SandboxError::InitGone`] if nothing runs in the sandbox; [`SandboxError::Channel`]: `EAGAIN` if init is too busy
    /// to hear, `EMFILE` if the caller has too many open files.
    pub fn start(
        &self,
        container: ExecTarget,
        args: &[String],
        stdio: &Stdio<'_>,
    ) -> Result<Exec, SandboxError> {
        let failed = |action| {
            move |errno: Errno| SandboxError::Channel { action, uid: self.uid.clone(), source: errno.into() }
        };
        let socket = match connect_in(&self.run_dir) {
            Err(Errno::ENOENT | Errno::ECONNREFUSED) => {
                return Err(SandboxError::InitGone { uid: self.uid.clone() });
            }
            socket => socket.map_err(failed("connect to"))?,
        };
        let (report, report_in) = pipe2(OFlag::O_CLOEXEC).map_err(failed("make a pipe to"))?;
        fcntl(&report, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(failed("make a pipe to"))?;
        let mut fds = vec![report_in.as_fd()];
        let (terminal, stdin) = match stdio {
            Stdio::Terminal(size) => (Some(*size), false),
            Stdio::Pipes { stdin, stdout, stderr } => {
                fds.extend(stdin);
                fds.extend([stdout, stderr]);
                (None, stdin.is_some())
            }
        };
        let request = Request::Exec(ExecRequest { container, args: args.to_vec(), terminal, stdin });
        let channel = Channel::new(socket);
        channel.send(&request, &fds).map_err(|source| self.broken(source))?;
        Ok(Exec { channel, report: report.into(), text: Vec::new(), uid: self.uid.clone() })
    }

    fn broken(&self, source: io::Error) -> SandboxError {
        let uid = self.uid.clone();
        match source.raw_os_error() {
            Some(libc::EPIPE | libc::ECONNRESET) => SandboxError::InitGone { uid },
            _ => SandboxError::Channel { action: "send to", uid, source },
        }
    }
}

/// A command in a container. Dropping it kills the command and everything that it has started.
#[derive(Debug)]
pub struct Exec {
    channel: Channel,
    report: File,
    text: Vec<u8>,
    uid: String,
}

impl Exec {
    /// Returns the pipe that is readable when [`recv`](Self::recv) has something.
    pub fn events(&self) -> BorrowedFd<'_> {
        self.report.as_fd()
    }

    /// Returns the next event, or none if nothing has happened. Does not wait. After [`ExecEvent::Gone`] it comes again.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`]: what came is no report.
    pub fn recv(&mut self) -> Result<Option<ExecEvent>, SandboxError> {
        let failed = |source| SandboxError::Channel {
            action: "hear of a command from",
            uid: self.uid.clone(),
            source,
        };
        loop {
            if let Some(end) = self.text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.text.drain(..=end).collect();
                let report = serde_json::from_slice(&line).map_err(|error| failed(error.into()))?;
                return Ok(Some(match report {
                    ExecReport::Started => ExecEvent::Started,
                    ExecReport::Failed(failure) => ExecEvent::Failed(failure),
                    ExecReport::Exited(status) => ExecEvent::Exited(status),
                }));
            }
            if self.text.len() > MAX_REPORT {
                return Err(failed(io::ErrorKind::InvalidData.into()));
            }
            let mut chunk = [0; 4096];
            match self.report.read(&mut chunk) {
                Ok(0) => return Ok(Some(ExecEvent::Gone)),
                Ok(count) => self.text.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }

    /// Returns the other end of the command's terminal, which is there before [`ExecEvent::Started`]. Does not wait.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`]: `EAGAIN` if none has come.
    pub fn terminal(&mut self) -> Result<OwnedFd, SandboxError> {
        let failed = |source| SandboxError::Channel { action: "receive from", uid: self.uid.clone(), source };
        match self.channel.recv::<ExecAnswer>() {
            Ok(Some((ExecAnswer::Terminal, mut fds))) if !fds.is_empty() => Ok(fds.remove(0)),
            Ok(_) => Err(failed(Errno::ENOTTY.into())),
            Err(error) => Err(failed(error)),
        }
    }

    /// Returns the connection, which init closes when nothing is left, the command's cgroup included.
    pub fn connection(&self) -> BorrowedFd<'_> {
        self.channel.as_fd()
    }

    /// Kills the command and everything that it has started. [`ExecEvent::Gone`] tells of the end. May be repeated.
    ///
    /// # Errors
    ///
    /// None that matter: `ENOTCONN` if all is gone.
    pub fn kill(&self) -> io::Result<()> {
        Ok(shutdown(self.channel.as_fd().as_raw_fd(), Shutdown::Write)?)
    }

    /// Lets what the command has started live on, as long as the container does, and gives it up.
    ///
    /// # Errors
    ///
    /// [`SandboxError::Channel`] if init cannot be told; it is killed then.
    pub fn leave(self) -> Result<(), SandboxError> {
        match self.channel.send(&ExecOrder::Leave, &[]) {
            // There was nothing left.
            Err(error) if matches!(error.raw_os_error(), Some(libc::EPIPE | libc::ECONNRESET)) => Ok(()),
            result => result.map_err(|source| SandboxError::Channel {
                action: "send to",
                uid: self.uid.clone(),
                source,
            }),
        }
    }
}

impl TerminalSize {
    /// Returns the size of a terminal.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for what is no terminal.
    #[doc(alias = "TIOCGWINSZ")]
    pub fn of(terminal: impl AsFd) -> io::Result<Self> {
        let (rows, columns) = sys::window_size(terminal.as_fd())?;
        Ok(Self { rows, columns })
    }

    /// Gives a terminal this size. Whoever is in its foreground hears of it by `SIGWINCH`.
    ///
    /// # Errors
    ///
    /// `ENOTTY` for what is no terminal.
    #[doc(alias = "TIOCSWINSZ")]
    pub fn give_to(self, terminal: impl AsFd) -> io::Result<()> {
        sys::set_window_size(terminal.as_fd(), self.rows, self.columns)
    }
}
