//! What can go wrong apart from the verdict of a probe.

use std::error::Error as _;
use std::fmt::Write as _;
use std::io;

use podrun_namespaces::NamespaceId;

/// The result of the functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a probe could not be made. It says nothing about the container: a kubelet tries three times and then throws the
/// attempt away, counters untouched, with an event.
///
/// An unreachable server or a command that fails is no error but an [`Outcome::Failure`](crate::Outcome::Failure).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A port's name is none of the container's, and no number either.
    #[error("strconv.Atoi: parsing {name:?}: invalid syntax")]
    PortName {
        /// The name.
        name: String,
    },
    /// A port is out of range.
    #[error("invalid port number: {port}")]
    Port {
        /// The number.
        port: i64,
    },
    /// A command has no words.
    #[error("the command is empty")]
    EmptyCommand,
    /// The command's program is in no directory of `PATH`.
    #[error("executable file {program:?} not found in $PATH")]
    NotFound {
        /// The first word of the command.
        program: String,
    },
    /// The command was not started.
    #[error("start {program:?}")]
    Start {
        /// The first word of the command.
        program: String,
        /// Why.
        source: podrun_namespaces::Error,
    },
    /// The working directory of a command could not be entered.
    #[error("change to directory {directory:?}")]
    Directory {
        /// The directory.
        directory: String,
        /// The errno.
        source: io::Error,
    },
    /// A namespace could not be entered.
    #[error("enter {namespace}")]
    Enter {
        /// The namespace.
        namespace: NamespaceId,
        /// Why.
        source: podrun_namespaces::Error,
    },
    /// The cgroup of a command could not be made, killed or removed.
    #[error("{action} the cgroup of a command")]
    Cgroup {
        /// `create`, `empty and remove`.
        action: &'static str,
        /// Why.
        source: podrun_cgroups::Error,
    },
    /// The output of a command could not be connected or read.
    #[error("{action} the output of a command")]
    Output {
        /// `connect`, `read`.
        action: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// The end of a command could not be awaited.
    #[error("wait for the end of a command")]
    Wait {
        /// Why.
        source: podrun_namespaces::Error,
    },
    /// The end of a command could not be awaited, because its pidfd could not be watched.
    #[error("watch the pidfd of a command")]
    Watch {
        /// The errno; or there is no tokio runtime with I/O enabled.
        source: io::Error,
    },
    /// A command was killed and is still there, in uninterruptible sleep. The background goes on waiting for its end.
    #[error("a killed command is still there")]
    StillAlive,
    /// A thread could not be started, or ended without an answer.
    #[error("start a thread")]
    Thread {
        /// The errno.
        source: io::Error,
    },
    /// A socket could not be made.
    #[error("make a socket")]
    Socket {
        /// The errno.
        source: io::Error,
    },
    /// Commands cannot be run here: [`NoExec`](crate::exec::NoExec) is in use.
    #[error("commands cannot be run here")]
    NoExec,
    /// A [`Spawner`](crate::exec::Spawner) from elsewhere failed.
    #[error("{message}")]
    Spawner {
        /// What it says.
        message: String,
    },
}

impl Error {
    /// Returns the error with all its causes in one line, as it stands in an event.
    pub fn in_one_line(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            // Writing to a String cannot fail.
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_in_one_line() {
        let source = io::Error::from_raw_os_error(24);
        let error = Error::Output { action: "connect", source };
        assert_eq!(error.in_one_line(), "connect the output of a command: Too many open files (os error 24)");
    }
}
