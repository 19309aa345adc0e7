//! Init's half of a start: the process of a container.
//!
//! Mostly what init clones is that process, the first of its pid namespace, where nobody can see it before it has started
//! others. In a pid namespace that containers share somebody may lie in wait there for whoever still has init's rights
//! (CVE-2016-9962). What init clones then is a helper in its own pid namespace, where no container sees it. The helper
//! prepares and confines itself, and only then forks the container's process into the shared namespace, as a child of
//! init.

mod birth;
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
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
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

pub use birth::Birth;
use reaper::bear_children_beside;
pub use reaper::share_processes;
pub use report::{Report, ReportReader};

use crate::seccomp::Filter;
use crate::sys;

/// A process that is on its way to become a container's program.
#[derive(Debug)]
pub struct Spawned {
    /// The process.
    pub process: Process,
    /// Where it tells how the start went, for a [`ReportReader`]. Non-blocking.
    pub report: OwnedFd,
    /// What it writes to standard output. Non-blocking.
    pub stdout: OwnedFd,
    /// What it writes to standard error. Non-blocking.
    pub stderr: OwnedFd,
    /// Directory of its cgroup.
    pub cgroup: OwnedFd,
}

/// Who has been cloned. Ids are those of the caller's pid namespace.
#[derive(Debug)]
pub enum Process {
    /// The process that will execute the program.
    Main(i32, PidFd),
    /// The helper that will fork that process, and then ends.
    Helper(i32, Birth),
}

/// The pid namespace that containers share, for the start of another one in it.
#[derive(Clone, Copy, Debug)]
pub struct SharedProcesses<'a> {
    /// Its process 1.
    pub reaper: &'a PidFd,
    /// A /proc of the caller's own pid namespace.
    pub proc: BorrowedFd<'a>,
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

/// Clones the process of a container, or the helper that bears it among `shared` processes, and returns it with its log.
/// What goes wrong later, the process reports itself.
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
    shared: Option<SharedProcesses<'_>>,
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
    let birth = shared.map(|_| Birth::expect()).transpose().map_err(failed)?;
    // SAFETY: the process has one thread, as the caller promises, and the child never leaves this block.
    match unsafe { clone3(&args) }.map_err(failed)? {
        Cloned::Parent { pid, pidfd } => {
            let process = match birth {
                Some(birth) => Process::Helper(pid, birth.after_clone(&pidfd).map_err(failed)?),
                None => Process::Main(pid, pidfd),
            };
            Ok((Spawned { process, report, stdout, stderr, cgroup: fds.cgroup }, log))
        }
        Cloned::Child => {
            let shared = shared.zip(birth.as_ref());
            become_container(request, &fds, filter, shared, report_in, [stdout_in, stderr_in])
        }
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
    shared: Option<(SharedProcesses<'_>, &Birth)>,
    report: OwnedFd,
    outputs: [OwnedFd; 2],
) -> ! {
    // Modes are said in full here; the mask of whoever started podrun must take nothing from them.
    umask(Mode::empty());
    let mut report = File::from(report);
    let prepared =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(request, fds, filter, shared)));
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
    shared: Option<(SharedProcesses<'a>, &'a Birth)>,
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
    if let Some((shared, _)) = shared {
        // Of it only children become members.
        let entered = bear_children_beside(shared.reaper);
        at(Stage::Clone, "enter the pid namespace of the containers", entered)?;
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
    // This process is in the container's /proc only if it will be the container's.
    let proc = shared.map_or(system.proc.as_fd(), |(shared, _)| shared.proc);
    process::set_oom_score(proc, setup.oom_score_adj, &mut warnings)?;
    process::set_limits(&security.rlimits, &mut warnings)?;
    let user = process::find_user(root, setup)?;
    process::enter_directory(root, Path::new(&setup.cwd))?;
    let null = at(Stage::Process, "open /dev/null", system.open_null())?;
    Ok(exec::Ready { setup, user, warnings, null, filter, birth: shared.map(|(_, birth)| birth) })
}

/// Names the stage of an error.
pub(crate) fn at<T>(stage: Stage, what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| failure(stage, what, &error))
}
