//! Starting a program in new namespaces.

use std::ffi::{CString, OsStr, OsString, c_char};
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr;

use crate::child::{self, Plan, REPORT_LEN};
use crate::sys::SignalsBlocked;
use crate::{
    CloneArgs, Cloned, Error, ExitStatus, IdMaps, Kind, Kinds, PidFd, Result, SetGroups, Step, clone3,
    write_id_maps,
};

/// A program to start in new namespaces, in a cgroup, with exactly the descriptors it is given.
///
/// Nothing is inherited by accident: the environment is empty until [`env`](Self::env) fills it, only descriptors of
/// [`fds`](Self::fds) exist, all signals have their default action and none is blocked. What cannot be set here (user,
/// root, limits, working directory) the program inherits.
///
/// Everything is prepared before the clone, and the child makes bare system calls only, so it can be used while other
/// threads run. If the child fails before it has become the program, [`spawn`](Self::spawn) tells at which [`Step`].
///
/// ```no_run
/// use std::fs::File;
/// use std::io::{stderr, stdin, stdout};
/// use std::os::fd::AsFd;
/// use podrun_namespaces::{Command, Kind};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let cgroup = File::open("/sys/fs/cgroup/demo")?;
/// let (stdin, stdout, stderr) = (stdin(), stdout(), stderr());
/// let mut child = Command::new("/bin/hostname")
///     .arg("inner")
///     .fds([stdin.as_fd(), stdout.as_fd(), stderr.as_fd()])
///     .namespaces(Kind::Uts | Kind::Net)
///     .into_cgroup(cgroup.as_fd())
///     .spawn()?;
/// assert!(child.wait()?.success());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Command<'a> {
    program: Program<'a>,
    args: Vec<OsString>,
    env: Vec<(OsString, OsString)>,
    fds: Vec<BorrowedFd<'a>>,
    clone: CloneArgs<'a>,
    id_maps: Option<(IdMaps, IdMaps, SetGroups)>,
    setsid: bool,
}

#[derive(Debug, Clone)]
enum Program<'a> {
    Path(PathBuf),
    Fd(BorrowedFd<'a>),
}

impl<'a> Command<'a> {
    /// Runs the program at `path`, which is also its first argument. No `PATH` is searched.
    pub fn new(path: impl AsRef<Path>) -> Self {
        let path = path.as_ref().to_owned();
        Self::of(path.clone().into_os_string(), Program::Path(path))
    }

    /// Runs the program open as `exe`, which may be open with `O_PATH`, with `arg0` as its first argument.
    ///
    /// The descriptor is closed in the program. A script (`#!`) cannot be run this way: its interpreter would need
    /// to open the descriptor.
    #[doc(alias = "execveat")]
    pub fn from_fd(exe: BorrowedFd<'a>, arg0: impl Into<OsString>) -> Self {
        Self::of(arg0.into(), Program::Fd(exe))
    }

    fn of(arg0: OsString, program: Program<'a>) -> Self {
        Self {
            program,
            args: vec![arg0],
            env: Vec::new(),
            fds: Vec::new(),
            clone: CloneArgs::new().clear_signal_handlers(true),
            id_maps: None,
            setsid: false,
        }
    }

    /// Replaces the first argument, which by convention is the program's name.
    pub fn arg0(&mut self, arg0: impl Into<OsString>) -> &mut Self {
        self.args[0] = arg0.into();
        self
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl Into<OsString>) -> &mut Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    pub fn args<T: Into<OsString>>(&mut self, args: impl IntoIterator<Item = T>) -> &mut Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Adds an environment variable. Names are not compared: the program sees what is added, in that order.
    pub fn env(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> &mut Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Adds environment variables, as [`env`](Self::env).
    pub fn envs<N: Into<OsString>, V: Into<OsString>>(
        &mut self,
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> &mut Self {
        self.env.extend(variables.into_iter().map(|(name, value)| (name.into(), value.into())));
        self
    }

    /// Gives the program these descriptors and no other: entry `i` becomes its descriptor `i`, so the first three are
    /// its stdin, stdout and stderr. The same descriptor may appear more than once.
    pub fn fds(&mut self, fds: impl IntoIterator<Item = BorrowedFd<'a>>) -> &mut Self {
        self.fds = fds.into_iter().collect();
        self
    }

    /// Creates these namespaces for the program. With [`Kind::Pid`] it is process 1 there.
    pub fn namespaces(&mut self, kinds: Kinds) -> &mut Self {
        self.clone = self.clone.namespaces(kinds);
        self
    }

    /// Starts the program in the cgroup of this open cgroup2 directory.
    #[doc(alias = "CLONE_INTO_CGROUP")]
    pub fn into_cgroup(&mut self, directory: BorrowedFd<'a>) -> &mut Self {
        self.clone = self.clone.into_cgroup(directory);
        self
    }

    /// Adds a user namespace with these maps, as user 0 and group 0 of which the program starts, without
    /// supplementary groups unless `setgroups` is denied. Both maps must hold id 0 inside.
    pub fn id_maps(&mut self, uid: IdMaps, gid: IdMaps, setgroups: SetGroups) -> &mut Self {
        self.clone = self.clone.namespaces(self.clone.kinds() | Kind::User);
        self.id_maps = Some((uid, gid, setgroups));
        self
    }

    /// Makes the program the leader of a new session, without a controlling terminal.
    pub fn setsid(&mut self, setsid: bool) -> &mut Self {
        self.setsid = setsid;
        self
    }

    /// Starts the program. Returns once it has been executed, or has failed to.
    ///
    /// A program that was killed before it was executed counts as started: its status tells.
    ///
    /// # Errors
    ///
    /// - [`Error::Nul`] for a text with a NUL byte;
    /// - [`Error::Clone`] with the errors of [`clone3`];
    /// - [`Error::Spawn`] if the child failed: the [`Step`] and its errno, for instance `ENOENT` or `EACCES` of
    ///   [`Step::Exec`]. The child is reaped;
    /// - [`Error::WriteIdMap`] if an id map was refused. The child is killed and reaped;
    /// - [`Error::ChildPipe`]: `EMFILE` if the caller has too many open files.
    pub fn spawn(&self) -> Result<Child> {
        let argv = self.args.iter().map(|arg| c_string("argument", arg)).collect::<Result<Vec<_>>>()?;
        let envp = self.env.iter().map(|(name, value)| variable(name, value)).collect::<Result<Vec<_>>>()?;
        let (argv_pointers, envp_pointers) = (pointers(&argv), pointers(&envp));
        let (path, exe) = match &self.program {
            Program::Path(path) => (c_string("path", path.as_os_str())?, None),
            Program::Fd(fd) => (CString::default(), Some(fd.as_raw_fd())),
        };
        let mut fds: Vec<RawFd> = self.fds.iter().map(AsRawFd::as_raw_fd).collect();
        let (report_read, report_write) = io::pipe().map_err(|source| Error::ChildPipe { source })?;
        let go = match self.id_maps {
            Some(_) => Some(io::pipe().map_err(|source| Error::ChildPipe { source })?),
            None => None,
        };
        let mut plan = Plan {
            report: report_write.as_raw_fd(),
            go: go.as_ref().map(|(read, write)| (read.as_raw_fd(), write.as_raw_fd())),
            become_root: self.id_maps.is_some(),
            drop_groups: matches!(self.id_maps, Some((_, _, SetGroups::Allow))),
            setsid: self.setsid,
            fds: &mut fds,
            exe,
            path: path.as_ptr(),
            argv: argv_pointers.as_ptr(),
            envp: envp_pointers.as_ptr(),
        };

        let blocked = SignalsBlocked::new();
        // SAFETY: the child only runs `child::run`, which makes system calls alone and never returns.
        let cloned = unsafe { clone3(&self.clone) };
        if let Ok(Cloned::Child) = cloned {
            // SAFETY: this is the child of a clone without CLONE_VM; the plan's pointers lead into `path`, `argv` and
            // `envp`, which outlive it.
            unsafe { child::run(&mut plan) }
        }
        drop(blocked);
        let mut child = match cloned {
            Ok(Cloned::Parent { pid, pidfd }) => Child { pid, pidfd, status: None },
            Ok(Cloned::Child) => unreachable!("the child has left above"),
            Err(source) => return Err(Error::Clone { kinds: self.clone.kinds(), source }),
        };

        // Our copies of the child's ends must go, or the pipes would never end.
        drop(report_write);
        let started = match (&self.id_maps, go) {
            (Some((uid, gid, setgroups)), Some((go_read, mut go_write))) => {
                drop(go_read);
                write_id_maps(child.as_fd(), uid, gid, *setgroups)
                    .and_then(|()| go_write.write_all(b"g").map_err(|source| Error::ChildPipe { source }))
            }
            _ => Ok(()),
        };
        match started.and_then(|()| read_report(report_read)) {
            Ok(()) => Ok(child),
            Err(error) => {
                // A child that has reported is dying anyway; the first error is the one to tell.
                drop(child.kill());
                drop(child.wait());
                Err(error)
            }
        }
    }
}

/// Reads what the child has to say: nothing, once it has become the program.
fn read_report(mut pipe: PipeReader) -> Result<()> {
    let mut report = Vec::with_capacity(REPORT_LEN);
    pipe.read_to_end(&mut report).map_err(|source| Error::ChildPipe { source })?;
    let Some((step, errno)) = report.split_first() else {
        return Ok(());
    };
    // One write of a few bytes to an empty pipe arrives whole (pipe(7)).
    let step = Step::from_code(*step).expect("the child reports one of its steps");
    let errno = errno.try_into().map(i32::from_ne_bytes).expect("the child reports an int");
    Err(Error::Spawn { step, source: io::Error::from_raw_os_error(errno) })
}

fn c_string(what: &'static str, text: &OsStr) -> Result<CString> {
    CString::new(text.as_bytes()).map_err(|_| Error::Nul { what, text: text.to_string_lossy().into_owned() })
}

fn variable(name: &OsStr, value: &OsStr) -> Result<CString> {
    let mut text = OsString::with_capacity(name.len() + 1 + value.len());
    text.push(name);
    text.push("=");
    text.push(value);
    c_string("variable", &text)
}

/// Returns the null-terminated array that exec wants.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([ptr::null()]).collect()
}

/// A started program. Dropping it neither kills nor reaps the process.
///
/// As a descriptor it is the pidfd, readable once the process has ended.
#[derive(Debug)]
pub struct Child {
    pid: libc::pid_t,
    pidfd: PidFd,
    status: Option<ExitStatus>,
}

impl Child {
    /// Returns the process's id in the caller's pid namespace. Once it is reaped the number may be another's.
    pub const fn pid(&self) -> libc::pid_t {
        self.pid
    }

    /// Returns the process's pidfd.
    pub const fn pidfd(&self) -> &PidFd {
        &self.pidfd
    }

    /// Gives up the child for its pidfd.
    pub fn into_pidfd(self) -> PidFd {
        self.pidfd
    }

    /// Waits for the end of the process and reaps it. Later calls return the same again.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`]: `ECHILD` if somebody else has reaped it.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let status = match self.status {
            Some(status) => status,
            None => self.pidfd.wait()?,
        };
        self.status = Some(status);
        Ok(status)
    }

    /// Reaps the process if it has ended; returns `None` if it still runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.pidfd.try_wait()?;
        }
        Ok(self.status)
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// [`Error::Signal`]: `ESRCH` once the process has been reaped, `EPERM` if it runs as somebody else now.
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        self.pidfd.send_signal(signal)
    }

    /// Sends `SIGKILL`. With a new pid namespace this ends every process in it.
    ///
    /// # Errors
    ///
    /// As [`send_signal`](Self::send_signal).
    pub fn kill(&self) -> Result<()> {
        self.send_signal(libc::SIGKILL)
    }
}

impl AsFd for Child {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}
