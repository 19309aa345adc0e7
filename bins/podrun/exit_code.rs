//! The exit codes of podrun.

use std::process::ExitCode;

/// How a command ended. A foreground `run` ends with the code of its container instead, see [`Code::Container`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Done.
    Ok,
    /// Not done, for a reason that has no code of its own.
    Failure,
    /// The command line is wrong.
    Usage,
    /// The manifest is wrong, or asks for what this version or this host does not do.
    Invalid,
    /// What was named is not there.
    NotFound,
    /// What was to be made is there already, or is in use.
    Conflict,
    /// Time ran out.
    Timeout,
    /// podrun itself, or the host, failed.
    Engine,
    /// A command in a container cannot be executed.
    NotExecutable,
    /// A command is not there in the container.
    NoSuchCommand,
    /// Interrupted.
    Interrupted,
    /// The code of a container.
    Container(u8),
}

impl Code {
    /// Returns the number that the shell sees.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failure => 1,
            Self::Usage => 2,
            Self::Invalid => 3,
            Self::NotFound => 4,
            Self::Conflict => 5,
            Self::Timeout => 124,
            Self::Engine => 125,
            Self::NotExecutable => 126,
            Self::NoSuchCommand => 127,
            Self::Interrupted => 130,
            Self::Container(code) => code,
        }
    }
}

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        Self::from(code.number())
    }
}
