//! The kernel's rules about threads and namespaces.
//!
//! A namespace is a property of a thread, not of a process, and some the kernel lets only a lone thread change:
//!
//! | kind | join (setns) | create (unshare) |
//! |---|---|---|
//! | user | single-threaded process | single-threaded process |
//! | time | single-threaded process | any thread, for its children |
//! | mnt | a thread that shares root and working directory with no other | any thread |
//! | pid | any thread, for its children | any thread, for its children |
//! | net, ipc, uts, cgroup | any thread | any thread |
//!
//! [`clone3`](crate::clone3) and [`Command`](crate::Command) are free of all this: the child is a process of its own.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::panic;
use std::path::PathBuf;
use std::thread;

use nix::errno::Errno;
use nix::sched::CloneFlags;

use crate::{Error, Kind, Kinds, Namespace, Result};

/// Returns how many threads the process has.
///
/// A thread that was joined a moment ago may still count, for us as for the kernel.
///
/// # Errors
///
/// [`Error::Read`]: `ENOENT` if `/proc` is not mounted.
pub fn count() -> Result<u64> {
    let path = "/proc/self/task";
    let metadata = fs::metadata(path).map_err(|source| Error::Read { path: PathBuf::from(path), source })?;
    // Each thread is a subdirectory, which links to its parent; the directory itself counts as two.
    Ok(metadata.nlink().saturating_sub(2))
}

/// Returns whether the process has one thread only.
///
/// # Errors
///
/// As [`count`].
pub fn is_single_threaded() -> Result<bool> {
    Ok(count()? == 1)
}

/// Checks that the process has one thread only.
///
/// # Errors
///
/// [`Error::MultiThreaded`] that says `what` needs it, or as [`count`].
pub fn require_single_threaded(what: &'static str) -> Result<()> {
    match count()? {
        1 => Ok(()),
        threads => Err(Error::MultiThreaded { what, threads }),
    }
}

/// Calls `work` on a thread of its own inside `namespace`, and returns what it returns. The thread ends with it, so
/// no other thread ever changes its namespace.
///
/// A socket opened by `work` stays one of that network namespace and may be returned.
///
/// ```no_run
/// use std::net::UdpSocket;
/// use podrun_namespaces::{Namespace, on_thread_in};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let blue = Namespace::open("/run/netns/blue")?;
/// let socket = on_thread_in(&blue, || UdpSocket::bind("127.0.0.1:0"))??;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// As [`Namespace::enter`], so user and time namespaces are refused; [`Error::Thread`]: `EAGAIN` at the limit of
/// processes.
///
/// # Panics
///
/// If `work` panics, with its payload.
pub fn on_thread_in<T: Send>(namespace: &Namespace, work: impl FnOnce() -> T + Send) -> Result<T> {
    on_thread_in_all([namespace], work)
}

/// Calls `work` on a thread of its own inside several namespaces, as [`on_thread_in`].
///
/// # Errors
///
/// As [`on_thread_in`].
///
/// # Panics
///
/// If `work` panics, with its payload.
pub fn on_thread_in_all<'a, T: Send>(
    namespaces: impl IntoIterator<Item = &'a Namespace>,
    work: impl FnOnce() -> T + Send,
) -> Result<T> {
    let namespaces: Vec<&Namespace> = namespaces.into_iter().collect();
    thread::scope(|scope| {
        let inside = thread::Builder::new().spawn_scoped(scope, || {
            if namespaces.iter().any(|namespace| namespace.kind() == Kind::Mnt) {
                unshare_fs()?;
            }
            namespaces.iter().try_for_each(|namespace| namespace.enter())?;
            Ok(work())
        });
        let inside = inside.map_err(|source| Error::Thread { source })?;
        inside.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// Gives the thread a root and working directory of its own, without which it cannot join a mount namespace.
fn unshare_fs() -> Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_FS)
        .map_err(|errno| Error::Unshare { kinds: Kinds::MNT, source: errno.into() })
}

/// Fails with [`Error::MultiThreaded`] if that is why joining `kinds` failed with `errno`: the kernel answers `EINVAL`
/// for a mount namespace if the thread shares its root and working directory, and nothing tells so beforehand.
pub(crate) fn explain_fs_sharing(errno: Errno, kinds: Kinds, what: &'static str) -> Result<()> {
    if errno == Errno::EINVAL && kinds.contains(Kind::Mnt) { require_single_threaded(what) } else { Ok(()) }
}
