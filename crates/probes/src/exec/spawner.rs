//! Who starts commands, and what is asked of it.

use std::os::fd::OwnedFd;

use podrun_namespaces::ExitStatus;

use crate::{Error, Result};

/// Starts commands where they belong: in a container.
///
/// [`DirectSpawner`](super::DirectSpawner) starts them from this process. A supervisor whose containers have another
/// parent implements this trait by asking that parent.
pub trait Spawner: Send + Sync {
    /// A started command.
    type Process: Process;

    /// Starts a command whose standard output and error are `output`.
    ///
    /// `output` is the writing end of a pipe, and no copy of it may stay with the spawner. Whether the program can be
    /// executed may be found out later; then [`Process::wait`] tells. If the future is dropped, the command must not be left
    /// running.
    ///
    /// # Errors
    ///
    /// That the command could not be started, for instance because there is no such program. That says nothing about
    /// the health of the container.
    fn spawn(
        &self,
        command: &[String],
        output: OwnedFd,
    ) -> impl Future<Output = Result<Self::Process>> + Send;
}

/// A started command and all that it starts.
///
/// Dropping it must do what [`finish`](Self::finish) does, in the background.
pub trait Process: Send {
    /// Waits for the end of the command itself, not of what it has started, and reaps it. May be dropped and called
    /// again.
    ///
    /// # Errors
    ///
    /// That it cannot be known how it ended, or that it could not be started.
    fn wait(&mut self) -> impl Future<Output = Result<ExitStatus>> + Send;

    /// Kills what is left of the command and everything it has started, and removes what was made for it.
    ///
    /// # Errors
    ///
    /// What is left. A caller that gets one can do no more about it.
    fn finish(self) -> impl Future<Output = Result<()>> + Send;

    /// Gives a command up that has ended by itself, and lets live on what it has started: a `postStart` hook may start a
    /// daemon, which then belongs to the container.
    ///
    /// Where nobody would end that later, it does what [`finish`](Self::finish) does.
    ///
    /// # Errors
    ///
    /// As [`finish`](Self::finish).
    fn leave(self) -> impl Future<Output = Result<()>> + Send
    where
        Self: Sized,
    {
        self.finish()
    }
}

/// A spawner for those who have no commands to run: all of them end in [`Error::NoExec`].
#[derive(Clone, Copy, Debug, Default)]
pub struct NoExec;

/// The process of [`NoExec`], of which there is none.
#[derive(Clone, Copy, Debug)]
pub enum NoProcess {}

impl Spawner for NoExec {
    type Process = NoProcess;

    async fn spawn(&self, _command: &[String], _output: OwnedFd) -> Result<NoProcess> {
        Err(Error::NoExec)
    }
}

impl Process for NoProcess {
    async fn wait(&mut self) -> Result<ExitStatus> {
        match *self {}
    }

    async fn finish(self) -> Result<()> {
        match self {}
    }
}
