//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::{IdMap, Kind, Kinds, NamespaceId};

/// The result of the functions of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What was attempted and failed. The cause, where the kernel gave one, is the [`source`](std::error::Error::source).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The name is none of `/proc/PID/ns`.
    #[error("unknown kind of namespace {name:?}")]
    UnknownKind {
        /// The name as given.
        name: String,
    },
    /// The kernel has a kind of namespace that this crate does not know.
    #[error("unknown type of namespace {nstype:#x}")]
    UnknownType {
        /// The answer of the ioctl `NS_GET_NSTYPE`.
        nstype: i32,
    },
    /// A file could not be opened.
    #[error("open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A file of `/proc` could not be read.
    #[error("read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The path leads to a file that is not a namespace.
    #[error("{} is not a namespace", path.display())]
    NotNamespace {
        /// The file.
        path: PathBuf,
    },
    /// The descriptor is not that of a namespace.
    #[error("the file descriptor is not that of a namespace")]
    NotNamespaceFd,
    /// The open namespace file could not be examined.
    #[error("examine a namespace file")]
    Examine {
        /// The errno.
        source: io::Error,
    },
    /// The namespace of a process could not be opened.
    #[error("open the {kind} namespace of a process")]
    OfProcess {
        /// The kind asked for.
        kind: Kind,
        /// The errno.
        source: io::Error,
    },
    /// Joining a namespace failed.
    #[error("enter {namespace}")]
    Enter {
        /// The namespace.
        namespace: NamespaceId,
        /// The errno.
        source: io::Error,
    },
    /// Joining namespaces of a process failed.
    #[error("enter namespaces {kinds} of a process")]
    EnterProcess {
        /// The kinds.
        kinds: Kinds,
        /// The errno.
        source: io::Error,
    },
    /// Moving the caller into new namespaces failed.
    #[error("unshare namespaces {kinds}")]
    Unshare {
        /// The kinds.
        kinds: Kinds,
        /// The errno.
        source: io::Error,
    },
    /// The kernel allows it only to a process of one thread.
    #[error("{what} needs a process with a single thread, this one has {threads}")]
    MultiThreaded {
        /// What was to be done.
        what: &'static str,
        /// How many threads the process has.
        threads: u64,
    },
    /// The owner or the parent of a namespace could not be opened.
    #[error("open the {relation} of {namespace}")]
    Relation {
        /// `owner` or `parent`.
        relation: &'static str,
        /// The namespace.
        namespace: NamespaceId,
        /// The errno.
        source: io::Error,
    },
    /// A namespace could not be pinned.
    #[error("pin {namespace} at {}", path.display())]
    Pin {
        /// The namespace.
        namespace: NamespaceId,
        /// Where.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// A pin could not be removed.
    #[error("unpin {}", path.display())]
    Unpin {
        /// Where.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
    /// The path to unpin holds something that no pin leaves behind; it was left alone.
    #[error("{} is not a pinned namespace", path.display())]
    NotPin {
        /// The file.
        path: PathBuf,
    },
    /// A thread could not be started.
    #[error("start a thread")]
    Thread {
        /// The errno.
        source: io::Error,
    },
    /// A pidfd could not be opened.
    #[error("open a pidfd of process {pid}")]
    OpenPidFd {
        /// The process.
        pid: i32,
        /// The errno.
        source: io::Error,
    },
    /// The descriptor is not a pidfd.
    #[error("the file descriptor is not a pidfd")]
    NotPidFd,
    /// A signal could not be sent.
    #[error("send signal {signal}")]
    Signal {
        /// The signal's number.
        signal: i32,
        /// The errno.
        source: io::Error,
    },
    /// Waiting for a process failed.
    #[error("wait for a process")]
    Wait {
        /// The errno.
        source: io::Error,
    },
    /// A descriptor could not be copied from another process.
    #[error("copy file descriptor {fd} of a process")]
    GetFd {
        /// Its number there.
        fd: i32,
        /// The errno.
        source: io::Error,
    },
    /// A text for the new program holds a NUL byte.
    #[error("NUL byte in {what} {text:?}")]
    Nul {
        /// `path`, `argument` or `variable`.
        what: &'static str,
        /// The text.
        text: String,
    },
    /// The pipes to a new child could not be made, read or written.
    #[error("talk to the new process")]
    ChildPipe {
        /// The errno.
        source: io::Error,
    },
    /// clone3 failed: there is no child.
    #[error("clone a process with new namespaces {kinds}")]
    Clone {
        /// The kinds.
        kinds: Kinds,
        /// The errno.
        source: io::Error,
    },
    /// The child could not become the program. It has been reaped.
    #[error("{step} in the new process")]
    Spawn {
        /// What failed.
        step: Step,
        /// The errno.
        source: io::Error,
    },
    /// An id map has no line.
    #[error("an id map needs at least one line")]
    IdMapEmpty,
    /// An id map is larger than the kernel takes.
    #[error("an id map of {lines} lines and {bytes} bytes is too large (at most 340 lines, 4095 bytes)")]
    IdMapTooLarge {
        /// How many lines it has.
        lines: usize,
        /// How many bytes its text has.
        bytes: usize,
    },
    /// A line maps no id, or runs past the last id.
    #[error("id map line \"{line}\" is empty or runs past the last id")]
    IdMapRange {
        /// The line.
        line: IdMap,
    },
    /// Two lines map the same id.
    #[error("id map lines \"{first}\" and \"{second}\" overlap {side}")]
    IdMapOverlap {
        /// One line.
        first: IdMap,
        /// The other line.
        second: IdMap,
        /// `inside` or `outside`.
        side: &'static str,
    },
    /// A line is not three numbers.
    #[error("id map line {line:?} is not three numbers")]
    IdMapSyntax {
        /// The line.
        line: String,
    },
    /// An id map could not be written.
    #[error("write {text:?} to /proc/PID/{file}")]
    WriteIdMap {
        /// `uid_map`, `gid_map` or `setgroups`.
        file: &'static str,
        /// What was to be written.
        text: String,
        /// The errno.
        source: io::Error,
    },
}

/// What a new child does before it becomes the program of a [`Command`](crate::Command), in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[repr(u8)]
pub enum Step {
    /// Give up supplementary groups in a new user namespace.
    SetGroups = 1,
    /// Become group 0 of a new user namespace.
    SetGid = 2,
    /// Become user 0 of a new user namespace.
    SetUid = 3,
    /// Start a session.
    SetSid = 4,
    /// Put the file descriptors into their places.
    MapFds = 5,
    /// Mark all other file descriptors as to be closed.
    CloseFds = 6,
    /// Execute the program.
    Exec = 7,
}

impl Step {
    pub(crate) fn from_code(code: u8) -> Option<Self> {
        let all = [
            Self::SetGroups,
            Self::SetGid,
            Self::SetUid,
            Self::SetSid,
            Self::MapFds,
            Self::CloseFds,
            Self::Exec,
        ];
        all.into_iter().find(|step| *step as u8 == code)
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::SetGroups => "give up supplementary groups",
            Self::SetGid => "become group 0",
            Self::SetUid => "become user 0",
            Self::SetSid => "start a session",
            Self::MapFds => "place file descriptors",
            Self::CloseFds => "close other file descriptors",
            Self::Exec => "execute the program",
        })
    }
}
