//! Init's half of a start: the process of a container.

mod exec;
mod mounts;
pub(crate) mod process;
pub(crate) mod program;
mod reaper;
mod report;
pub(crate) mod security;
pub(crate) mod user;

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sched::{CloneFlags, unshare};
use nix::sys::stat::{Mode, umask};
use nix::unistd::pipe2;
use podrun_namespaces::{CloneArgs, Cloned, Kinds, PidFd, clone3};
use podrun_plan::model::Owner;
use podrun_sandbox::mount;
use podrun_sandbox::protocol::{Failure, MountOrigin, Stage, StartRequest};

pub(crate) use reaper::bear_children_beside;
pub use reaper::share_processes;
pub use report::{Report, ReportReader};

use crate::seccomp::Filter;
use crate::sys;

/// A process that is on its way to become a container's program.
#[derive(Debug)]
pub struct Spawned {
    /// Its id in the caller's pid namespace.
    pub pid: i32,
    /// The process.
    pub pidfd: PidFd,
    /// Where it tells how the start went, for a [`ReportReader`]. Non-blocking.
    pub report: OwnedFd,
    /// What it writes to standard output. Non-blocking.
    pub stdout: OwnedFd,
    /// What it writes to standard error. Non-blocking.
    pub stderr: OwnedFd,
    /// Directory of its cgroup.
    pub cgroup: OwnedFd,
}

/// The descriptors that come with a [`StartRequest`].
pub(crate) struct Fds {
    pub(crate) cgroup: OwnedFd,
    pub(crate) rootfs: OwnedFd,
    pub(crate) host_shm: Option<OwnedFd>,
    pub(crate) mounts: Vec<Option<OwnedFd>>,
}

impl Fds {
    /// Sorts the descriptors of a request; the second is the log. None if there are too few.
    fn sort(request: &StartRequest, fds: Vec<OwnedFd>) -> Option<(Self, OwnedFd)> {
        let mut fds = fds.into_iter();
        let (cgroup, rootfs, log) = (fds.next()?, fds.next()?, fds.next()?);
        let host_shm = if request.host_shm { Some(fds.next()?) } else { None };
        let mut take = |origin: &MountOrigin| match origin {
            MountOrigin::Fd => fds.next().map(Some),
            MountOrigin::Sandbox => Some(None),
        };
        let mounts = request.mounts.iter().map(&mut take).collect::<Option<Vec<_>>>()?;
        (mounts.len() == request.setup.mounts.len())
            .then_some((Self { cgroup, rootfs, host_shm, mounts }, log))
    }
}

/// Clones the process of a container and returns it with its log. What goes wrong later, the process reports itself.
///
/// # Errors
///
/// A [`Failure`] of [`Stage::Clone`]: `EINVAL` if the request is incomplete, `EAGAIN` or `ENOMEM` if there can be no
/// more processes, `ENODEV` if the cgroup is gone.
///
/// # Safety
///
/// The calling process must have one thread, and be the init of a sandbox.
pub unsafe fn spawn(
    request: &StartRequest,
    fds: Vec<OwnedFd>,
    filter: Option<&Filter>,
) -> Result<(Spawned, OwnedFd), Failure> {
    let failed = |error: io::Error| failure(Stage::Clone, "clone the process", &error);
    let incomplete = || failed(Errno::EINVAL.into());
    let (fds, log) = Fds::sort(request, fds).ok_or_else(incomplete)?;
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| failed(errno.into()));
    let ((report, report_in), (stdout, stdout_in), (stderr, stderr_in)) = (pipe()?, pipe()?, pipe()?);
    for end in [&report, &stdout, &stderr] {
        fcntl(end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).map_err(|errno| failed(errno.into()))?;
    }
    let kinds = match request.setup.namespaces.pid {
        Owner::Container => Kinds::MNT | Kinds::PID,
        Owner::Pod | Owner::Host => Kinds::MNT,
    };
    let args = CloneArgs::new().namespaces(kinds).into_cgroup(fds.cgroup.as_fd());
    // SAFETY: the process has one thread, as the caller promises, and the child never leaves this block.
    match unsafe { clone3(&args) }.map_err(failed)? {
        Cloned::Parent { pid, pidfd } => {
            Ok((Spawned { pid, pidfd, report, stdout, stderr, cgroup: fds.cgroup }, log))
        }
        Cloned::Child => become_container(request, &fds, filter, report_in, [stdout_in, stderr_in]),
    }
}

pub(crate) fn failure(stage: Stage, what: &str, error: &io::Error) -> Failure {
    let errno = mount::errno(error).unwrap_or(0);
    Failure { stage, errno, message: format!("{what}: {}", text(error)) }
}

/// Returns an error in the words of the C library, without the number that std adds.
pub(crate) fn text(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(errno) => Errno::from_raw(errno).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// Runs in the child, whose memory is a copy: nothing it does is seen by init, and it never returns into its code.
fn become_container(
    request: &StartRequest,
    fds: &Fds,
    filter: Option<&Filter>,
    report: OwnedFd,
    outputs: [OwnedFd; 2],
) -> ! {
    // Modes are said in full here; the mask of whoever started podrun must take nothing from them.
    umask(Mode::empty());
    let mut report = File::from(report);
    let prepared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(request, fds, filter)));
    let prepared = prepared.unwrap_or_else(|_| {
        Err(Failure { stage: Stage::Process, errno: 0, message: "the preparation panicked".to_owned() })
    });
    match prepared {
        Ok(ready) => exec::run(ready, report, outputs),
        Err(failure) => {
            report::write(&mut report, &Report::Failed(failure));
            sys::exit_now(exec::FAILED)
        }
    }
}

/// The ordered procedure: from a clone of init to a process that only has to be executed.
fn prepare<'a>(
    request: &'a StartRequest,
    fds: &Fds,
    filter: Option<&'a Filter>,
) -> Result<exec::Ready<'a>, Failure> {
    let setup = &request.setup;
    let security = &setup.security;
    let root = fds.rootfs.as_fd();

    // The namespace's root is the cgroup that the caller is in: clone3's flag would take that of init.
    if setup.namespaces.cgroup == Owner::Container {
        at(
            Stage::Clone,
            "make a cgroup namespace",
            unshare(CloneFlags::CLONE_NEWCGROUP).map_err(io::Error::from),
        )?;
    }
    at(Stage::Rootfs, "attach the root file system", mounts::attach_root(root))?;
    let system = mounts::system(root, request, fds)?;
    mounts::volumes(root, request, fds, &system)?;
    mounts::mask(root, &system, &security.masked_paths)?;
    mounts::protect(root, &security.read_only_paths)?;
    if security.read_only_rootfs {
        let read_only = mount::adjust(root, mount::Attributes::RDONLY, None, false);
        at(Stage::MaskedPaths, "make the root file system read-only", read_only)?;
    }
    at(Stage::PivotRoot, "change the root", mounts::pivot(root))?;

    let mut warnings = Vec::new();
    at(Stage::Process, "join a new session keyring", process::new_keyring())?;
    process::set_oom_score(system.proc.as_fd(), setup.oom_score_adj, &mut warnings)?;
    process::set_limits(&security.rlimits, &mut warnings)?;
    let user = process::find_user(root, setup)?;
    process::enter_directory(root, Path::new(&setup.cwd))?;
    let null = at(Stage::Process, "open /dev/null", system.open_null())?;
    Ok(exec::Ready { setup, user, warnings, null, filter })
}

/// Names the stage of an error.
pub(crate) fn at<T>(stage: Stage, what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| failure(stage, what, &error))
}
