//! Process 1 of the pid namespace that the containers of a Pod share.
//!
//! Containers can name every process of that namespace, and one that was given `CAP_SYS_PTRACE` may take any of them
//! over. Init, with all its capabilities, must therefore not be there. It makes the namespace with a process that has
//! nothing to lose: another user, no capability, no file, an empty root, the system call filter. Container runtimes
//! have a pause container for that. The kernel gives it the orphans, and ends the namespace when it ends.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::pipe2;
use podrun_namespaces::{CloneArgs, Cloned, Kinds, PidFd, clone3};
use podrun_sandbox::protocol::{Failure, Identity, Stage};

use super::report::{self, Report, ReportReader};
use super::{at, exec, failure, mounts, security};
use crate::seccomp::Filter;
use crate::sys;

/// User and group of the process: those of the pause container of Kubernetes.
const ID: u32 = 65_535;

/// Makes a pid namespace with a first process that reaps orphans, and mounts its /proc in the caller's root. Returns the
/// process and its id as the caller sees it, who is not in the namespace.
///
/// # Errors
///
/// A [`Failure`] of [`Stage::Sandbox`].
///
/// # Safety
///
/// The calling process must have one thread, and be the init of a sandbox that has been made.
pub unsafe fn share_processes(filter: &Filter) -> Result<(i32, PidFd), Failure> {
    let failed = |error: io::Error| failure(Stage::Sandbox, "make the pid namespace", &error);
    let (report, report_in) = pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()))?;
    let args = CloneArgs::new().namespaces(Kinds::PID);
    // SAFETY: the process has one thread, as the caller promises, and the child never leaves this block.
    let (pid, pidfd) = match unsafe { clone3(&args) }.map_err(failed)? {
        Cloned::Parent { pid, pidfd } => (pid, pidfd),
        Cloned::Child => become_reaper(filter, report_in),
    };
    drop(report_in);
    match ReportReader::new(report).read() {
        Some(Report::Ready { .. }) => {}
        Some(Report::Failed(failure)) => return Err(failure),
        None => return Err(failed(io::ErrorKind::WouldBlock.into())),
    }
    Ok((pid, pidfd))
}

/// Puts the processes that the caller clones from now on into the pid namespace of a process.
pub(super) fn bear_children_beside(process: &PidFd) -> io::Result<()> {
    Ok(setns(process, CloneFlags::CLONE_NEWPID)?)
}

/// Runs in the child. Its report is read to the end, which comes when it has closed everything.
fn become_reaper(filter: &Filter, report: OwnedFd) -> ! {
    let mut report = File::from(report);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(filter)));
    match result {
        Ok(Ok(())) => {
            let (user, home, warnings) = (Identity::default(), None, Vec::new());
            report::write(&mut report, &Report::Ready { user, home, warnings });
            // SAFETY: nothing of this process runs any more.
            unsafe { sys::reap_for_ever() }
        }
        Ok(Err(failure)) => report::write(&mut report, &Report::Failed(failure)),
        // Silence is a failure too.
        Err(_) => {}
    }
    sys::exit_now(exec::FAILED)
}

fn prepare(filter: &Filter) -> Result<(), Failure> {
    // As long as there is nobody else in the namespace: later, whoever mounts it could be taken over while it may.
    at(Stage::Sandbox, "mount /proc", mounts::shared_proc())?;
    let unshared = unshare(CloneFlags::CLONE_NEWNS).map_err(io::Error::from);
    at(Stage::Sandbox, "make a mount namespace", unshared)?;
    let root = at(Stage::Sandbox, "make an empty root", mounts::empty())?;
    at(Stage::Sandbox, "attach an empty root", mounts::attach_root(root.as_fd()))?;
    at(Stage::Sandbox, "change the root", mounts::pivot(root.as_fd()))?;
    at(Stage::Sandbox, "join a new session keyring", super::process::new_keyring())?;
    let user = Identity { uid: ID, gid: ID, groups: Vec::new() };
    at(Stage::Sandbox, "give up privileges", security::renounce(&user, filter))
}
