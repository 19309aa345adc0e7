//! What is said about commands that are run in a container beside its main process.
//!
//! Each command has a connection to init's socket and a pipe of its own; the supervisor's connection has no part in it.
//!
//! ```text
//!   caller                         init                     the command's processes
//!   ──────                         ────                     ───────────────────────
//!   connect, Request::Exec ──────> leaf cgroup, clone3 ──>  prepare and confine, then
//!            <───────────────────── ExecAnswer::Terminal    (if one was asked for)
//!            <──────────────────────────── report pipe ──── Started | Failed, then Exited;
//!                                                           its end: every process of the command is gone
//!   shut down or close ──────────> cgroup.kill
//!            <── closed ────────── the leaf is removed
//! ```
//!
//! A caller that dies has closed its end: commands that nobody waits for are killed, by whatever it was that they were
//! started.

use serde::{Deserialize, Serialize};

use super::{ExitStatus, Failure};

/// A command to run in a container that runs.
///
/// The descriptors beside it are all ends of pipes, in this order: where to write [`ExecReport`]s, then, without a
/// terminal, standard input if `stdin`, standard output and standard error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecRequest {
    /// Where to run it.
    pub container: ExecTarget,
    /// Program and arguments; the program is looked up in the container's `PATH`. Nothing is expanded.
    pub args: Vec<String>,
    /// Run it on a terminal of the container's own, of this size. The other end comes with [`ExecAnswer::Terminal`].
    pub terminal: Option<TerminalSize>,
    /// Standard input is among the descriptors. Otherwise it is the null device.
    pub stdin: bool,
}

/// Names a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecTarget {
    /// This attempt: `<uid>_<name>_<attempt>`.
    Id(String),
    /// The attempt that runs of the container of this name.
    Name(String),
}

impl std::fmt::Display for ExecTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Id(text) | Self::Name(text)) = self;
        f.pad(text)
    }
}

/// The size of a terminal in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Lines.
    pub rows: u16,
    /// Characters in a line.
    pub columns: u16,
}

/// What a caller may say after its request. To close the connection, or its sending half, is to have everything killed
/// that the command has started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecOrder {
    /// Let what the command has left behind live on, as long as the container does.
    Leave,
}

/// What comes over the connection of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecAnswer {
    /// The other end of the command's terminal comes with it.
    Terminal,
}

/// What comes through the report pipe of a command, one line of JSON each. After the end of the command the pipe stays
/// open as long as something lives that it has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExecReport {
    /// The program has been executed.
    Started,
    /// It could not be executed; nothing of it is there.
    Failed(Failure),
    /// The command itself has ended.
    Exited(ExitStatus),
}
