//! Init's half of an exec: a command beside the main process of a container.
//!
//! ```text
//!   init ── clone3 into a leaf cgroup ──> helper              in init's pid namespace, where no container sees it: joins
//!                                           │                 the container's namespaces, prepares and confines itself
//!                                           └── fork ──────> parent          in the container's pid namespace, with
//!                                                              │             nothing but what the container may have
//!                                                              └── vfork ──> the command
//! ```
//!
//! So nothing that a container can name has ever more rights than the container: not even one that may trace its
//! processes gains anything from the moment before the execution (CVE-2016-9962). The helper ends when it has forked.
//! The parent, a child of init, tells how the command was started and how it ended. It adopts what the command leaves
//! behind and reaps it, because the container's process 1 may never do that; it ends when nothing is left.

mod parent;
mod terminal;

use std::fs::File;
use std::io::{self, Write};
use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag};
use nix::sched::{CloneFlags, setns};
use nix::sys::stat::{Mode, fstat, major, minor, umask};
use podrun_namespaces::{CloneArgs, Cloned, PidFd, clone3};
use podrun_plan::model::{ContainerSetup, SecurityPlan};
use podrun_sandbox::path::{self, Walk};
use podrun_sandbox::protocol::{ExecReport, ExecRequest, Failure, Identity, Stage};

use crate::seccomp::Filter;
use crate::spawn::program::{Program, variable};
use crate::spawn::security::confine;
use crate::spawn::{at, failure, process};
use crate::sys;

/// What a terminal is taken for where the container does not say.
const TERM: &str = "TERM=xterm";

/// What a container was made with, as far as it concerns other commands in it.
#[derive(Debug)]
pub(crate) struct Context {
    env: Vec<String>,
    cwd: String,
    pub(crate) security: SecurityPlan,
    oom_score_adj: i32,
    user: Identity,
    home: Option<String>,
}

impl Context {
    /// Keeps what is needed of a setup. Whom the container runs as is known when it does.
    pub(crate) fn new(setup: &ContainerSetup) -> Self {
        Self {
            env: setup.env.clone(),
            cwd: setup.cwd.clone(),
            security: setup.security.clone(),
            oom_score_adj: setup.oom_score_adj,
            user: Identity::default(),
            home: None,
        }
    }

    /// Notes whom the container's main process runs as: commands are the same user's, whatever the container's files
    /// say by then.
    pub(crate) fn runs_as(&mut self, user: Identity, home: Option<String>) {
        (self.user, self.home) = (user, home);
    }
}

/// Where a command is to run.
pub(crate) struct Place<'a> {
    pub(crate) context: &'a Context,
    /// The container's main process.
    pub(crate) main: &'a PidFd,
    /// Directory of the command's cgroup.
    pub(crate) leaf: BorrowedFd<'a>,
    /// A /proc of init's own.
    pub(crate) proc: BorrowedFd<'a>,
    pub(crate) filter: Option<&'a Filter>,
    /// The caller's connection.
    pub(crate) connection: BorrowedFd<'a>,
}

/// The descriptors that come with an [`ExecRequest`].
#[derive(Debug)]
pub(crate) struct Fds {
    report: File,
    stdin: Option<OwnedFd>,
    /// Without a terminal.
    outputs: Option<[OwnedFd; 2]>,
}

impl Fds {
    /// Sorts the descriptors of a request. None if they are too few, or not all of them pipes: what a container is given
    /// must not lead to anything of the host.
    pub(crate) fn sort(request: &ExecRequest, fds: Vec<OwnedFd>) -> Option<Self> {
        if !fds.iter().all(|fd| is_pipe(fd.as_fd())) {
            return None;
        }
        let mut fds = fds.into_iter();
        let report = fds.next()?.into();
        if request.terminal.is_some() {
            return Some(Self { report, stdin: None, outputs: None });
        }
        let stdin = if request.stdin { Some(fds.next()?) } else { None };
        let outputs = Some([fds.next()?, fds.next()?]);
        Some(Self { report, stdin, outputs })
    }

    /// Tells the caller of a failure.
    pub(crate) fn fail(mut self, failure: Failure) {
        tell(&mut self.report, &ExecReport::Failed(failure));
    }
}

fn is_pipe(fd: BorrowedFd<'_>) -> bool {
    fstat(fd).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFIFO)
}

/// Writes a report. One to a caller that is gone helps nobody, so errors do not matter.
fn tell(pipe: &mut File, report: &ExecReport) {
    let mut line = serde_json::to_vec(report).unwrap_or_default();
    line.push(b'\n');
    drop(pipe.write_all(&line));
}

/// Clones the helper of a command and returns its id. What goes wrong later, it reports itself.
///
/// # Errors
///
/// A [`Failure`] of [`Stage::Clone`]: `EAGAIN` or `ENOMEM` if there can be no more processes.
///
/// # Safety
///
/// The calling process must have one thread, be the init of a sandbox, and clone into its own pid namespace.
pub(crate) unsafe fn exec(place: &Place<'_>, request: &ExecRequest, fds: &Fds) -> Result<i32, Failure> {
    let args = CloneArgs::new().into_cgroup(place.leaf);
    // SAFETY: the process has one thread, as the caller promises, and the child never leaves this block.
    match at(Stage::Clone, "clone the process", unsafe { clone3(&args) })? {
        Cloned::Parent { pid, .. } => Ok(pid),
        Cloned::Child => help(place, request, fds),
    }
}

/// A process that has everything but its confinement.
struct Ready<'a> {
    place: &'a Place<'a>,
    program: Program,
    stdio: [OwnedFd; 3],
    has_terminal: bool,
}

/// Runs in the helper, whose memory is a copy: nothing it does is seen by init, and it never returns into its code.
fn help(place: &Place<'_>, request: &ExecRequest, fds: &Fds) -> ! {
    umask(Mode::from_bits_truncate(0o022));
    let prepared = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| prepare(place, request, fds)));
    let prepared = prepared.unwrap_or_else(|_| {
        Err(Failure { stage: Stage::Process, errno: 0, message: "the preparation panicked".to_owned() })
    });
    let report = fds.report.as_fd().try_clone_to_owned();
    let Ok(report) = report else { sys::exit_now(parent::FAILED) };
    match prepared {
        Ok(ready) => finish(ready, report),
        Err(failure) => {
            tell(&mut report.into(), &ExecReport::Failed(failure));
            sys::exit_now(parent::FAILED)
        }
    }
}

/// The ordered procedure: from a clone of init to a process in the container that is still init's equal.
fn prepare<'a>(place: &'a Place<'a>, request: &ExecRequest, fds: &Fds) -> Result<Ready<'a>, Failure> {
    let context = place.context;
    // What is refused here was refused to the main process too, and told then.
    process::set_oom_score(place.proc, context.oom_score_adj, &mut Vec::new())?;
    join(place.main)?;
    let root = path::open(AT_FDCWD, Path::new("/"), OFlag::O_PATH | OFlag::O_DIRECTORY, Walk::InRoot);
    let root = at(Stage::Rootfs, "open the root file system", root)?;
    let root = root.as_fd();
    let stdio = match (request.terminal, &fds.outputs) {
        (Some(size), _) => terminal::open(root, size, context.user.uid, place.connection)?,
        (None, Some([stdout, stderr])) => {
            process::give_outputs([stdout.as_fd(), stderr.as_fd()], context.user.uid)?;
            let copy = |fd: &OwnedFd| at(Stage::Process, "copy a pipe", fd.try_clone());
            let stdin = match &fds.stdin {
                Some(stdin) => copy(stdin)?,
                None => at(Stage::Process, "open /dev/null", nothing(root))?,
            };
            [stdin, copy(stdout)?, copy(stderr)?]
        }
        (None, None) => return Err(failure(Stage::Process, "find the outputs", &Errno::EBADF.into())),
    };
    at(Stage::Process, "join a new session keyring", process::new_keyring())?;
    let program = program(context, request)?;
    process::enter_existing_directory(root, Path::new(&context.cwd))?;
    Ok(Ready { place, program, stdio, has_terminal: request.terminal.is_some() })
}

/// Joins the namespaces that the main process is in. Of its pid namespace only children become members.
fn join(main: &PidFd) -> Result<(), Failure> {
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS;
    at(Stage::Clone, "join the container's namespaces", setns(main, all).map_err(io::Error::from))
}

fn program(context: &Context, request: &ExecRequest) -> Result<Program, Failure> {
    let home = context.home.as_deref();
    if request.terminal.is_some() && variable(&context.env, "TERM").is_none() {
        let env: Vec<String> = context.env.iter().cloned().chain([TERM.to_owned()]).collect();
        return Program::new(&request.args, &env, home);
    }
    Program::new(&request.args, &context.env, home)
}

/// Returns something to read nothing from: the null device of the container, if that is what stands in its place. The
/// host's own would be a way to change its mode.
fn nothing(root: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_NONBLOCK;
    if let Ok(null) = path::open(root, Path::new("dev/null"), flags, Walk::NoLinks) {
        let stat = fstat(&null)?;
        let is_device = stat.st_mode & libc::S_IFMT == libc::S_IFCHR;
        if is_device && (major(stat.st_rdev), minor(stat.st_rdev)) == (1, 3) {
            nix::fcntl::fcntl(&null, nix::fcntl::FcntlArg::F_SETFL(OFlag::empty()))?;
            return Ok(null);
        }
    }
    let (reader, _) = io::pipe()?;
    Ok(reader.into())
}

/// Keeps the standard streams and the report alone, gives up all privileges, and forks the command's parent.
fn finish(ready: Ready<'_>, report: OwnedFd) -> ! {
    let Ready { place, program, stdio, has_terminal } = ready;
    // From here on numbers change their meaning: owners of descriptors are forgotten, never dropped.
    let stdio = mem::ManuallyDrop::new(stdio);
    // SAFETY: all owners in this process are forgotten here or live in frames that are never returned to.
    let report = unsafe { sys::keep_only(stdio.each_ref().map(AsFd::as_fd), report) };
    let Ok(report) = report else { sys::exit_now(parent::FAILED) };
    let mut report = mem::ManuallyDrop::new(File::from(report));
    let forked = give_up(place).and_then(|()| {
        // SAFETY: this process has one thread, and both copies of it leave by `_exit`.
        at(Stage::Clone, "fork the process", unsafe { sys::fork_sibling() })
    });
    match forked {
        Ok(sys::Forked::Parent) => sys::exit_now(0),
        Ok(sys::Forked::Child) => parent::run(&program, has_terminal, &mut report),
        Err(failure) => {
            tell(&mut report, &ExecReport::Failed(failure));
            sys::exit_now(parent::FAILED)
        }
    }
}

/// Becomes what the container's main process is.
fn give_up(place: &Place<'_>) -> Result<(), Failure> {
    let context = place.context;
    process::set_limits(&context.security.rlimits, &mut Vec::new())?;
    confine(&context.security, &context.user, place.filter)?;
    // Another user's process may become inspectable for that user, as fs.suid_dumpable says.
    let hidden = nix::sys::prctl::set_dumpable(false).map_err(io::Error::from);
    at(Stage::Security, "forbid inspection", hidden)?;
    sys::reset_signal_handlers();
    // The container may signal what comes now. Init ends it by this one if it is not wanted any more.
    sys::block_signals(Some(libc::SIGTERM));
    Ok(())
}
