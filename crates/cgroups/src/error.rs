//! What can go wrong, by what was attempted.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::availability::Availability;
use crate::controllers::{Controller, Controllers};
use crate::resources::Mismatch;

/// A `Result` whose error is this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An operation on a cgroup that failed: the verb, the value and the path are in the text, the cause is the source.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A cgroup directory could not be opened.
    #[error("open cgroup {}", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A directory is not part of a cgroup v2 hierarchy.
    #[error("{} is not on a cgroup2 file system", path.display())]
    NotCgroup2 {
        /// The directory.
        path: PathBuf,
    },
    /// No cgroup2 file system is mounted where this process can see it.
    #[error("find a cgroup2 mount in /proc/self/mountinfo: none is listed")]
    NoCgroup2Mount,
    /// A process has no place below the mounted hierarchy.
    #[error("find the cgroup of process {pid} below {}", mount.display())]
    NoCgroupOfProcess {
        /// The process, `self` for the caller.
        pid: String,
        /// The mount point searched.
        mount: PathBuf,
    },
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file could not be written.
    #[error("write {value:?} to {}", path.display())]
    Write {
        /// What was written.
        value: String,
        /// The file.
        path: PathBuf,
        /// The cause: what the kernel says about the value, or about the file.
        source: io::Error,
    },
    /// A file was read but holds something unexpected.
    #[error("parse {}", path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// What was expected and what was found.
        source: ParseError,
    },
    /// A file is absent because its controller is absent.
    #[error("{} needs the {controller} controller, which {availability}", path.display())]
    ControllerMissing {
        /// The controller.
        controller: Controller,
        /// The file that was to be read or written.
        path: PathBuf,
        /// Who holds the controller.
        availability: Availability,
    },
    /// Controllers cannot be enabled for the children of a cgroup that has processes of its own.
    #[error("enable {controllers} for the children of {}, which has processes of its own", path.display())]
    HasProcesses {
        /// The cgroup.
        path: PathBuf,
        /// The controllers that were to be enabled.
        controllers: Controllers,
        /// `EBUSY`.
        source: io::Error,
    },
    /// A name cannot be the name of a cgroup.
    #[error("use {name:?} as the name of a cgroup: it {reason}")]
    InvalidName {
        /// The name.
        name: String,
        /// Why not.
        reason: &'static str,
    },
    /// A cgroup could not be created.
    #[error("create cgroup {}", path.display())]
    Create {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A cgroup could not be removed.
    #[error("remove cgroup {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A cgroup stayed busy until the deadline.
    #[error("remove cgroup {}: still busy after {waited:?}", path.display())]
    StillBusy {
        /// The deepest directory that could not be removed.
        path: PathBuf,
        /// For how long it was tried.
        waited: Duration,
    },
    /// A state was not reached before the deadline.
    #[error("wait for \"{state}\" in {}: not seen after {waited:?}", path.display())]
    TimedOut {
        /// The state, in the words of the file.
        state: &'static str,
        /// The file.
        path: PathBuf,
        /// For how long it was awaited.
        waited: Duration,
    },
    /// Waiting itself failed.
    #[error("poll {}", path.display())]
    Poll {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The kernel refused the device filter.
    #[error("load a device filter of {rules} rules")]
    LoadFilter {
        /// The number of rules.
        rules: usize,
        /// The cause; `EPERM` without `CAP_BPF` or `CAP_SYS_ADMIN`.
        source: io::Error,
    },
    /// The device filter of a cgroup could not be attached, detached or listed.
    #[error("{action} the device filter of {}", path.display())]
    Filter {
        /// `attach`, `detach` or `list`.
        action: &'static str,
        /// The cgroup.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Values were written without an error, but the kernel holds other ones.
    #[error("read back the values of {}: {}", path.display(), crate::resources::join(mismatches))]
    Mismatch {
        /// The cgroup.
        path: PathBuf,
        /// The files that differ.
        mismatches: Vec<Mismatch>,
    },
}

impl Error {
    /// Returns the errno of the cause, if a system call is the cause.
    pub fn raw_os_error(&self) -> Option<i32> {
        match self {
            Self::Open { source, .. }
            | Self::Read { source, .. }
            | Self::Write { source, .. }
            | Self::HasProcesses { source, .. }
            | Self::Create { source, .. }
            | Self::Remove { source, .. }
            | Self::Poll { source, .. }
            | Self::LoadFilter { source, .. }
            | Self::Filter { source, .. } => source.raw_os_error(),
            Self::NotCgroup2 { .. }
            | Self::NoCgroup2Mount
            | Self::NoCgroupOfProcess { .. }
            | Self::Parse { .. }
            | Self::ControllerMissing { .. }
            | Self::InvalidName { .. }
            | Self::StillBusy { .. }
            | Self::TimedOut { .. }
            | Self::Mismatch { .. } => None,
        }
    }

    /// Whether the cause says that the cgroup, or the file, does not exist (any more).
    ///
    /// An open file of a removed cgroup answers `ENODEV`, everything else `ENOENT`.
    pub fn is_gone(&self) -> bool {
        matches!(self.raw_os_error(), Some(libc::ENOENT | libc::ENODEV))
    }
}

/// A text that is not what a cgroup file holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}, found {found:?}")]
pub struct ParseError {
    /// What the text should have been.
    pub expected: &'static str,
    /// The text, or the part of it that is wrong.
    pub found: String,
}

impl ParseError {
    pub(crate) fn new(expected: &'static str, found: &str) -> Self {
        Self { expected, found: found.to_owned() }
    }
}
