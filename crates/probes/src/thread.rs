//! Short threads for what would block the runtime or change the thread it is done on.

use std::io;
use std::path::Path;
use std::thread;

use nix::sched::{CloneFlags, unshare};
use podrun_namespaces::{Kind, Namespace};
use tokio::sync::oneshot;

use crate::{Error, Result};

/// Enough for the C library's resolver, which wants the most of what is done here.
const STACK: usize = 256 * 1024;

/// Calls `work` on a thread of its own and returns what it returns.
///
/// The thread goes on if the future is dropped; what `work` returns is then dropped there.
pub(crate) async fn on_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    let (answer, answered) = oneshot::channel();
    let answering = move || {
        // Nobody waits any more: dropping it is what is left to do.
        drop(answer.send(work()));
    };
    start(answering)?;
    answered.await.map_err(|_| Error::Thread { source: io::Error::other("it ended without an answer") })
}

/// Starts a thread that nobody waits for.
pub(crate) fn start(work: impl FnOnce() + Send + 'static) -> Result<()> {
    let thread = thread::Builder::new().name("podrun-probe".to_owned()).stack_size(STACK);
    thread.spawn(work).map(drop).map_err(|source| Error::Thread { source })
}

/// Moves the calling thread, which must be a short one, into namespaces and a working directory.
pub(crate) fn enter(namespaces: &[Namespace], directory: Option<&Path>) -> Result<()> {
    let enters_mounts = namespaces.iter().any(|namespace| namespace.kind() == Kind::Mnt);
    if enters_mounts || directory.is_some() {
        // Root and working directory are the process's until a thread says otherwise.
        unshare(CloneFlags::CLONE_FS).map_err(|errno| Error::Thread { source: errno.into() })?;
    }
    for namespace in namespaces {
        let entered = namespace.enter();
        entered.map_err(|source| Error::Enter { namespace: namespace.id(), source })?;
    }
    let Some(directory) = directory else { return Ok(()) };
    let changed = nix::unistd::chdir(directory).map_err(io::Error::from);
    changed.map_err(|source| Error::Directory { directory: directory.display().to_string(), source })
}
