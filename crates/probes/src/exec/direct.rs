//! Commands as children of this process.

use std::fs::File;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use nix::unistd::{AccessFlags, access};
use podrun_cgroups::Cgroup;
use podrun_namespaces::{Command, ExitStatus, Namespace, PidFd};

use super::spawner::{Process, Spawner};
use crate::async_fd::readable;
use crate::thread::{enter, on_thread, start};
use crate::{Error, Result};

/// Where a program is looked up if the environment has no `PATH`: as container runtimes do.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long the end of what was killed is awaited on the runtime's own thread. Killing takes microseconds.
const BRIEFLY: Duration = Duration::from_millis(2);
/// How long a caller waits for the end of what was killed: a verdict must not wait for a process that cannot die.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long the background goes on with it.
const LONG: Duration = Duration::from_secs(60);

/// Starts commands as children of this process: one clone3 each, straight into a cgroup of its own and in given
/// namespaces.
///
/// The thread that clones is a short one, which has entered the namespaces before; so user and time namespaces, which
/// only a process with a single thread can enter, are not possible. The command has the user, the capabilities and the
/// limits of the caller: this is no wall against a hostile container.
///
/// When the command ends or is killed, everything that it has started is killed by `cgroup.kill`, which no double fork
/// and no new session escapes. The command itself is reaped here. What it has started and left behind is reaped by the
/// first process of its PID namespace, as all orphans are.
#[derive(Clone, Debug)]
pub struct DirectSpawner {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    parent: Cgroup,
    namespaces: Vec<Namespace>,
    environment: Vec<(String, String)>,
    directory: Option<PathBuf>,
    /// Opened beforehand: the one in a container may be anything.
    null: File,
    next: AtomicU64,
}

impl DirectSpawner {
    /// Returns a spawner whose commands run in new cgroups below `parent`, in the caller's namespaces, without
    /// environment.
    ///
    /// The names of the cgroups begin with `probe-` and the id of this process.
    ///
    /// # Errors
    ///
    /// [`Error::Output`]: `ENOENT` if there is no `/dev/null`.
    pub fn new(parent: Cgroup) -> Result<Self> {
        let null = File::options().read(true).write(true).open("/dev/null");
        let null = null.map_err(|source| Error::Output { action: "connect", source })?;
        let (namespaces, environment, directory) = (Vec::new(), Vec::new(), None);
        let next = AtomicU64::new(0);
        let shared = Shared { parent, namespaces, environment, directory, null, next };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Changes what is shared, before there are clones of it.
    fn change(mut self, change: impl FnOnce(&mut Shared)) -> Self {
        if let Some(shared) = Arc::get_mut(&mut self.shared) {
            change(shared);
        }
        self
    }

    /// Enters these namespaces for each command, in this order.
    #[must_use]
    pub fn namespaces(self, namespaces: Vec<Namespace>) -> Self {
        self.change(|shared| shared.namespaces = namespaces)
    }

    /// Gives each command this environment. Programs are looked up in its `PATH`.
    #[must_use]
    pub fn environment(self, environment: Vec<(String, String)>) -> Self {
        self.change(|shared| shared.environment = environment)
    }

    /// Starts each command in this directory, seen from inside the namespaces.
    #[must_use]
    pub fn directory(self, directory: impl AsRef<Path>) -> Self {
        self.change(|shared| shared.directory = Some(directory.as_ref().to_owned()))
    }
}

impl Spawner for DirectSpawner {
    type Process = DirectProcess;

    async fn spawn(&self, command: &[String], output: OwnedFd) -> Result<DirectProcess> {
        let (shared, command) = (Arc::clone(&self.shared), command.to_vec());
        on_thread(move || shared.start(&command, output)).await?
    }
}

impl Shared {
    /// Runs on a thread of its own. What it returns cleans up after itself if nobody waits for it any more.
    fn start(&self, command: &[String], output: OwnedFd) -> Result<DirectProcess> {
        let program = command.first().ok_or(Error::EmptyCommand)?;
        enter(&self.namespaces, self.directory.as_deref())?;
        let path = self.find(program)?;
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let leaf = self.parent.create_child(&format!("probe-{}-{number}", std::process::id()));
        let leaf = leaf.map_err(|source| Error::Cgroup { action: "create", source })?;
        let started = Command::new(path)
            .arg0(program)
            .args(&command[1..])
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .fds([self.null.as_fd(), output.as_fd(), output.as_fd()])
            .into_cgroup(leaf.as_fd())
            .setsid(true)
            .spawn();
        match started {
            Ok(child) => {
                let running = Running { pidfd: child.into_pidfd(), leaf, status: None };
                Ok(DirectProcess { running: Some(running) })
            }
            Err(source) => {
                // Nothing has run in it; what matters is why.
                drop(leaf.remove_tree(Instant::now() + BRIEFLY));
                Err(Error::Start { program: program.clone(), source })
            }
        }
    }

    /// Finds a program as a shell does. A name with a slash is a path.
    fn find(&self, program: &str) -> Result<PathBuf> {
        if program.contains('/') {
            return Ok(PathBuf::from(program));
        }
        let path = self.environment.iter().rev().find(|(name, _)| name == "PATH");
        let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
        let places = path.split(':').map(|place| Path::new(if place.is_empty() { "." } else { place }));
        let found = places
            .map(|place| place.join(program))
            .find(|path| path.is_file() && access(path, AccessFlags::X_OK).is_ok());
        found.filter(|_| !program.is_empty()).ok_or_else(|| Error::NotFound { program: program.to_owned() })
    }
}

/// A command started by [`DirectSpawner`].
#[derive(Debug)]
pub struct DirectProcess {
    running: Option<Running>,
}

/// A command that is to be killed, reaped and cleaned up after.
#[derive(Debug)]
struct Running {
    pidfd: PidFd,
    leaf: Cgroup,
    status: Option<ExitStatus>,
}

impl Running {
    async fn wait(&mut self) -> Result<ExitStatus> {
        if let Some(status) = self.status {
            return Ok(status);
        }
        let watched = readable(self.pidfd.as_fd()).map_err(|source| Error::Watch { source })?;
        loop {
            let mut ready = watched.readable().await.map_err(|source| Error::Watch { source })?;
            if let Some(status) = self.pidfd.try_wait().map_err(|source| Error::Wait { source })? {
                self.status = Some(status);
                return Ok(status);
            }
            ready.clear_ready();
        }
    }

    /// Kills everything and waits for its end until the deadline.
    fn finish(&mut self, deadline: Instant) -> Result<()> {
        let failed = |source| Error::Cgroup { action: "empty and remove", source };
        let removed = self.leaf.remove_tree(deadline).map_err(failed);
        // Only the living keep a cgroup busy: if it is gone, or everything in it has died, the command can be reaped.
        if self.status.is_none() {
            self.status = self.pidfd.try_wait().map_err(|source| Error::Wait { source })?;
        }
        removed
    }
}

impl Process for DirectProcess {
    async fn wait(&mut self) -> Result<ExitStatus> {
        match &mut self.running {
            Some(running) => running.wait().await,
            // Taken by `finish` and `drop` alone, after which there is no process to ask.
            None => Err(Error::StillAlive),
        }
    }

    async fn finish(mut self) -> Result<()> {
        let Some(mut running) = self.running.take() else { return Ok(()) };
        if running.finish(Instant::now() + BRIEFLY).is_ok() && running.status.is_some() {
            return Ok(());
        }
        let cleaning = on_thread(move || clean_up(running));
        match tokio::time::timeout(PATIENCE, cleaning).await {
            Ok(result) => result?,
            // The thread goes on.
            Err(_) => Err(Error::StillAlive),
        }
    }
}

impl Drop for DirectProcess {
    fn drop(&mut self) {
        if let Some(running) = self.running.take() {
            // Killed at once, awaited elsewhere; there it is tried again if it failed, and nobody is left to be told.
            drop(running.leaf.kill());
            drop(start(move || drop(clean_up(running))));
        }
    }
}

/// Kills, waits and reaps for as long as it takes, up to a minute.
fn clean_up(mut running: Running) -> Result<()> {
    let cleaned = running.finish(Instant::now() + LONG);
    if running.status.is_none() {
        running.status = Some(running.pidfd.wait().map_err(|source| Error::Wait { source })?);
    }
    cleaned
}
