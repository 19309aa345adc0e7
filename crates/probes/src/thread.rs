//! Short threads for what would block the runtime or change the thread it is done on.

use std::io;
use std::path::Path;
use std::process;
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

/// Calls `work`, which must not wait, in network namespaces: the calling thread goes there and comes back, which costs a
/// small part of what a thread of its own does. Returns none, and does nothing, if it could not come back.
///
/// Whoever may enter the namespace that it is in already, may enter it again. Should the kernel have no memory for that, the
/// process is aborted: what this thread does next must not be done in a container's network.
pub(crate) fn visit<T>(namespaces: &[Namespace], work: impl FnOnce() -> T) -> Result<Option<T>> {
    let Ok(own) = Namespace::of_current(Kind::Net) else { return Ok(None) };
    if own.enter().is_err() {
        return Ok(None);
    }
    let worked = enter(namespaces, None).map(|()| work());
    if own.enter().is_err() {
        process::abort();
    }
    worked.map(Some)
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
