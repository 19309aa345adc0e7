//! Processes by descriptor instead of by number.

use std::fmt;
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use crate::{Error, Result, sys};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// A signal killed it.
    Signaled {
        /// The signal's number.
        signal: i32,
        /// Whether it dumped core.
        core_dumped: bool,
    },
}

impl ExitStatus {
    /// Returns whether it exited with code 0.
    pub const fn success(self) -> bool {
        matches!(self, Self::Exited(0))
    }

    /// Returns the exit code, if it exited.
    pub const fn code(self) -> Option<i32> {
        match self {
            Self::Exited(code) => Some(code),
            Self::Signaled { .. } => None,
        }
    }

    /// Returns the number of the signal that killed it, if one did.
    pub const fn signal(self) -> Option<i32> {
        match self {
            Self::Exited(_) => None,
            Self::Signaled { signal, .. } => Some(signal),
        }
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Signaled { signal, core_dumped: false } => write!(f, "killed by signal {signal}"),
            Self::Signaled { signal, core_dumped: true } => {
                write!(f, "killed by signal {signal}, core dumped")
            }
        }
    }
}

/// A descriptor that refers to a process for as long as it is open, whatever becomes of its number.
///
/// It is close-on-exec, and readable for poll and epoll as soon as the process has ended, reaped or not. See
/// [pidfd_open(2)](https://man7.org/linux/man-pages/man2/pidfd_open.2.html).
#[derive(Debug)]
pub struct PidFd {
    fd: OwnedFd,
}

impl PidFd {
    /// Opens process `pid` of the caller's pid namespace.
    ///
    /// Only a parent that has not yet reaped `pid` can be sure which process that is.
    ///
    /// # Errors
    ///
    /// [`Error::OpenPidFd`]: `ESRCH` if there is no such process, `EINVAL` if `pid` is not positive, `ENOENT` or
    /// `EINVAL` (by kernel) if it is the id of a thread that does not lead its process.
    #[doc(alias = "pidfd_open")]
    pub fn open(pid: libc::pid_t) -> Result<Self> {
        let fd = sys::pidfd_open(pid).map_err(|source| Error::OpenPidFd { pid, source })?;
        Ok(Self { fd })
    }

    /// Wraps what clone3 made, which needs no proof.
    pub(crate) const fn from_clone(fd: OwnedFd) -> Self {
        Self { fd }
    }

    /// Sends a signal; 0 only asks whether that is possible.
    ///
    /// # Errors
    ///
    /// [`Error::Signal`]: `ESRCH` if the process has ended and been reaped, `EPERM` without permission, `EINVAL` for
    /// a number that is no signal or a process outside the caller's pid namespace.
    #[doc(alias = "pidfd_send_signal")]
    pub fn send_signal(&self, signal: i32) -> Result<()> {
        sys::pidfd_send_signal(self.as_fd(), signal).map_err(|source| Error::Signal { signal, source })
    }

    /// Waits for the end of the process, which must be a child of the caller, and reaps it.
    ///
    /// # Errors
    ///
    /// [`Error::Wait`]: `ECHILD` if it is no child of the caller, or has been reaped before.
    #[doc(alias = "waitid")]
    pub fn wait(&self) -> Result<ExitStatus> {
        loop {
            // Without WNOHANG there is an answer the first time.
            if let Some(status) = sys::waitid(self.as_fd(), 0).map_err(|source| Error::Wait { source })? {
                return Ok(status);
            }
        }
    }

    /// Reaps the process if it has ended; returns `None` if it still runs.
    ///
    /// # Errors
    ///
    /// As [`wait`](Self::wait).
    pub fn try_wait(&self) -> Result<Option<ExitStatus>> {
        sys::waitid(self.as_fd(), libc::WNOHANG).map_err(|source| Error::Wait { source })
    }

    /// Returns the process's id in the pid namespace of the mounted `/proc`; `None` if it has been reaped or is not
    /// visible from there.
    ///
    /// # Errors
    ///
    /// [`Error::Read`] if `/proc` is not mounted.
    pub fn pid(&self) -> Result<Option<libc::pid_t>> {
        pid_of(self.as_fd())
    }

    /// Copies descriptor number `fd` of the process, as if it had sent it over a socket. The copy is close-on-exec.
    ///
    /// # Errors
    ///
    /// [`Error::GetFd`]: `EBADF` if the process has no such descriptor, `ESRCH` if it has ended, `EPERM` without the
    /// permission to trace it (`PTRACE_MODE_ATTACH_REALCREDS`).
    #[doc(alias = "pidfd_getfd")]
    pub fn getfd(&self, fd: i32) -> Result<OwnedFd> {
        sys::pidfd_getfd(self.as_fd(), fd).map_err(|source| Error::GetFd { fd, source })
    }

    /// Returns another descriptor of the same process.
    ///
    /// # Errors
    ///
    /// [`Error::Open`]: `EMFILE` if the caller has too many open files.
    pub fn try_clone(&self) -> Result<Self> {
        let path = || PathBuf::from(format!("/proc/self/fd/{}", self.fd.as_raw_fd()));
        let fd = self.fd.try_clone().map_err(|source| Error::Open { path: path(), source })?;
        Ok(Self { fd })
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<PidFd> for OwnedFd {
    fn from(pidfd: PidFd) -> Self {
        pidfd.fd
    }
}

impl TryFrom<OwnedFd> for PidFd {
    type Error = Error;

    /// Takes over a descriptor, for instance one received over a socket, if it is a pidfd.
    fn try_from(fd: OwnedFd) -> Result<Self> {
        let pidfd = Self { fd };
        pidfd.pid()?;
        Ok(pidfd)
    }
}

/// Looks up what [`PidFd::pid`] returns.
pub(crate) fn pid_of(pidfd: BorrowedFd<'_>) -> Result<Option<libc::pid_t>> {
    let path = PathBuf::from(format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd()));
    let info = fs::read_to_string(&path).map_err(|source| Error::Read { path, source })?;
    parse_pid(&info)
}

/// Reads the `Pid:` line of a pidfd's fdinfo: -1 once reaped, 0 if out of sight. Other files have no such line.
fn parse_pid(fdinfo: &str) -> Result<Option<libc::pid_t>> {
    let value = fdinfo.lines().find_map(|line| line.strip_prefix("Pid:")).ok_or(Error::NotPidFd)?;
    let pid: libc::pid_t = value.trim().parse().map_err(|_| Error::NotPidFd)?;
    Ok((pid > 0).then_some(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pid_is_read_from_fdinfo() {
        // `cat /proc/self/fdinfo/3` with a pidfd as 3, Linux 6.18
        let golden = "pos:\t0\nflags:\t02000002\nmnt_id:\t16\nino:\t8361\nPid:\t1742\nNSpid:\t1742\n";
        let table = [
            (golden, Some(Some(1742))),
            ("pos:\t0\nPid:\t-1\n", Some(None)),
            ("Pid:\t0\nNSpid:\t0\n", Some(None)),
            ("pos:\t0\nflags:\t02\n", None),
            ("NSpid:\t7\n", None),
            ("Pid:\tx\n", None),
        ];
        for (text, pid) in table {
            assert_eq!(parse_pid(text).ok(), pid, "{text:?}");
        }
    }

    #[test]
    fn exit_status_tells_codes_from_signals() {
        let killed = ExitStatus::Signaled { signal: 9, core_dumped: false };
        assert_eq!((killed.code(), killed.signal(), killed.success()), (None, Some(9), false));
        let failed = ExitStatus::Exited(3);
        assert_eq!((failed.code(), failed.signal(), failed.success()), (Some(3), None, false));
        assert!(ExitStatus::Exited(0).success());
        assert_eq!(failed.to_string(), "exited with code 3");
        assert_eq!(killed.to_string(), "killed by signal 9");
    }
}
