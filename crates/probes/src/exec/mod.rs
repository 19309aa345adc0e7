//! `exec`: a command in a container.

mod direct;
mod spawner;

use std::io;
use std::os::fd::OwnedFd;
use std::time::Duration;

use podrun_namespaces::ExitStatus;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;
use tokio::time::Instant;

pub use direct::{DirectProcess, DirectSpawner};
pub use spawner::{NoExec, NoProcess, Process, Spawner};

use crate::network::within;
use crate::text::{go_duration, harmless};
use crate::{Error, MAX_OUTPUT, Outcome, Result};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum End {
    /// By itself, with its output closed.
    Ended(ExitStatus),
    /// It was killed because its time was over. A command whose child keeps its output open runs until then, too.
    TimedOut,
}

/// What a command did.
#[derive(Debug)]
pub struct Finished {
    /// How it ended.
    pub end: End,
    /// The beginning of what it wrote, standard output and error as they came: at most [`MAX_OUTPUT`] bytes.
    pub output: Vec<u8>,
    /// Whether everything that it started is gone. It was killed in any case.
    pub cleanup: Result<()>,
}

/// Runs a command to its end or until the timeout; nothing of it is left afterwards.
///
/// No shell is involved and nothing is expanded. What the command writes beyond [`MAX_OUTPUT`] is read and dropped, so
/// that it neither blocks nor costs memory. If the future is dropped, the command is killed.
///
/// # Errors
///
/// Those of the [`Spawner`]; [`Error::EmptyCommand`]; [`Error::Output`]: `EMFILE` if there are too many open files.
pub async fn run<S: Spawner>(spawner: &S, command: &[String], timeout: Option<Duration>) -> Result<Finished> {
    run_with(spawner, command, timeout, Leftovers::Kill).await
}

/// What is done with what a command that has ended by itself leaves behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Leftovers {
    Kill,
    Leave,
}

pub(crate) async fn run_with<S: Spawner>(
    spawner: &S,
    command: &[String],
    timeout: Option<Duration>,
    leftovers: Leftovers,
) -> Result<Finished> {
    if command.is_empty() {
        return Err(Error::EmptyCommand);
    }
    let deadline = timeout.map(|timeout| Instant::now() + timeout);
    let connect = |source| Error::Output { action: "connect", source };
    let (reader, writer) = io::pipe().map_err(connect)?;
    let mut reader = Receiver::from_owned_fd(OwnedFd::from(reader)).map_err(connect)?;
    let Some(spawned) = within(deadline, spawner.spawn(command, writer.into())).await else {
        return Ok(Finished { end: End::TimedOut, output: Vec::new(), cleanup: Ok(()) });
    };
    let mut process = spawned?;
    let mut output = Vec::new();
    // One after the other: the end of a command is mostly that of its output, and who waits for both is woken twice.
    let ended = within(deadline, async {
        let drained = drain(&mut reader, &mut output).await;
        (process.wait().await, drained)
    });
    let ended = ended.await;
    let cleanup = match leftovers {
        Leftovers::Leave if ended.is_some() => process.leave().await,
        Leftovers::Leave | Leftovers::Kill => process.finish().await,
    };
    let end = match ended {
        None => End::TimedOut,
        Some((status, drained)) => {
            drained?;
            End::Ended(status?)
        }
    };
    Ok(Finished { end, output, cleanup })
}

/// Reads until nobody can write any more.
async fn drain(reader: &mut Receiver, output: &mut Vec<u8>) -> Result<()> {
    let mut buffer = [0; 4096];
    loop {
        let read =
            reader.read(&mut buffer).await.map_err(|source| Error::Output { action: "read", source })?;
        if read == 0 {
            return Ok(());
        }
        output.extend_from_slice(&buffer[..read.min(MAX_OUTPUT - output.len())]);
    }
}

/// Runs a command as a probe: exit code 0 is the success, anything else and the timeout a failure.
///
/// # Errors
///
/// As [`run`]: a command that cannot be started says nothing about the health of the container.
pub async fn probe<S: Spawner>(spawner: &S, command: &[String], timeout: Duration) -> Result<Outcome> {
    let finished = run(spawner, command, Some(timeout)).await?;
    // A process that cannot be killed changes nothing about the verdict.
    drop(finished.cleanup);
    let output = harmless(&finished.output);
    Ok(match finished.end {
        End::Ended(status) if status.success() => Outcome::Success { output },
        End::Ended(_) => Outcome::Failure { output },
        End::TimedOut => Outcome::failure(format!(
            "command timed out: {:?} timed out after {}",
            command.join(" "),
            go_duration(timeout)
        )),
    })
}
