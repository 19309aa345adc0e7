//! Commands of probes and hooks: started by the Pod's init, which is the parent of its containers.

use std::io;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use podrun_namespaces::ExitStatus;
use podrun_probes::exec::{Process, Spawner};
use podrun_probes::{Error, Result};
use podrun_sandbox::protocol::{self, ExecTarget};
use podrun_sandbox::{Exec, ExecEvent, Execs, Stdio};
use tokio::io::unix::AsyncFd;

use super::async_fd::readable;
use crate::error::chain;

/// How long a caller waits for the end of what was killed: a verdict must not wait for a process that cannot die.
const PATIENCE: Duration = Duration::from_millis(100);

/// Starts commands in one attempt of a container.
///
/// Each command has a connection to init of its own, so that this knows nothing of the supervisor's, and goes on when
/// that is made anew.
#[derive(Clone, Debug)]
pub(crate) struct ContainerSpawner {
    execs: Arc<Execs>,
    id: String,
}

impl ContainerSpawner {
    /// Returns a spawner for the attempt with this id, `<uid>_<name>_<attempt>`.
    pub(crate) fn new(execs: Arc<Execs>, id: String) -> Self {
        Self { execs, id }
    }
}

impl Spawner for ContainerSpawner {
    type Process = ContainerProcess;

    async fn spawn(&self, command: &[String], output: OwnedFd) -> Result<ContainerProcess> {
        let stdio = Stdio::Pipes { stdin: None, stdout: output.as_fd(), stderr: output.as_fd() };
        let exec = self.execs.start(ExecTarget::Id(self.id.clone()), command, &stdio);
        let exec = exec.map_err(|error| Error::Spawner { message: chain(&error) })?;
        Ok(ContainerProcess {
            exec,
            id: self.id.clone(),
            events: None,
            started: false,
            status: None,
            gone: false,
        })
    }
}

/// A command in a container. Dropped, it is killed by init, as when this process dies.
#[derive(Debug)]
pub(crate) struct ContainerProcess {
    exec: Exec,
    /// The container's.
    id: String,
    /// Once something had to be waited for.
    events: Option<AsyncFd<OwnedFd>>,
    started: bool,
    status: Option<ExitStatus>,
    gone: bool,
}

impl ContainerProcess {
    /// Waits for the next event, and keeps what has to be known later.
    async fn next(&mut self) -> Result<ExecEvent> {
        loop {
            let received = self.exec.recv().map_err(|error| Error::Spawner { message: chain(&error) })?;
            if let Some(event) = received {
                match &event {
                    ExecEvent::Started => self.started = true,
                    ExecEvent::Exited(status) => self.status = Some(status_of(*status)),
                    ExecEvent::Gone => self.gone = true,
                    ExecEvent::Failed(_) => {}
                }
                return Ok(event);
            }
            let watch = |source| Error::Watch { source };
            let events = match &self.events {
                Some(events) => events,
                None => self.events.insert(readable(self.exec.events()).map_err(watch)?),
            };
            events.readable().await.map_err(watch)?.clear_ready();
        }
    }
}

impl Process for ContainerProcess {
    async fn wait(&mut self) -> Result<ExitStatus> {
        loop {
            match (self.status, self.gone) {
                (Some(status), _) => return Ok(status),
                (None, true) if !self.started => {
                    return Err(Error::Spawner { message: format!("container {} has ended", self.id) });
                }
                // Whoever could have told was killed too, with the container.
                (None, true) => {
                    return Ok(ExitStatus::Signaled { signal: libc::SIGKILL, core_dumped: false });
                }
                (None, false) => {
                    if let ExecEvent::Failed(failure) = self.next().await? {
                        return Err(Error::Spawner { message: failure.message });
                    }
                }
            }
        }
    }

    async fn finish(mut self) -> Result<()> {
        // Nothing is left in most cases, and that is told at the same time as the end.
        while !self.gone {
            match self.exec.recv().map_err(|error| Error::Spawner { message: chain(&error) })? {
                Some(event) => self.gone = event == ExecEvent::Gone,
                None => break,
            }
        }
        if self.gone {
            return Ok(());
        }
        match self.exec.kill() {
            // ENOTCONN: init has closed the connection, because nothing is left.
            Err(error) if error.kind() != io::ErrorKind::NotConnected => {
                return Err(Error::Spawner { message: chain(&error) });
            }
            _ => {}
        }
        let end = async {
            while !self.gone {
                self.next().await?;
            }
            Ok(())
        };
        // Init goes on with it.
        tokio::time::timeout(PATIENCE, end).await.unwrap_or(Err(Error::StillAlive))
    }

    async fn leave(self) -> Result<()> {
        // It ends with the container at the latest.
        self.exec.leave().map_err(|error| Error::Spawner { message: chain(&error) })
    }
}

fn status_of(status: protocol::ExitStatus) -> ExitStatus {
    match status {
        protocol::ExitStatus::Code(code) => ExitStatus::Exited(code),
        protocol::ExitStatus::Signal(signal) => ExitStatus::Signaled { signal, core_dumped: false },
    }
}
