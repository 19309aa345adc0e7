//! What is said on a supervisor's socket: one JSON document per line.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use podrun_spec::status::PodStatus;
use serde::{Deserialize, Serialize};

use crate::events::EventRecord;
use crate::record::Deletion;

/// Name of the socket in the Pod's directory of live state.
pub(crate) const SOCKET: &str = "supervisor.sock";

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase")]
pub(crate) enum Request {
    /// Answered by all events so far, the present status, and every event and status from now on until the Pod has ended.
    Watch,
    /// Answered by `Ok` once the wish is recorded.
    #[serde(rename_all = "camelCase")]
    Delete {
        /// Seconds of grace; none takes the Pod's own.
        grace_seconds: Option<u64>,
    },
    /// Answered by `Ok` once the condition is recorded.
    SetCondition {
        /// `type`, for instance of a readiness gate.
        kind: String,
        /// True or False.
        status: bool,
        /// A word.
        reason: Option<String>,
        /// The reason in words.
        message: Option<String>,
    },
    /// Answered by `Ok` once the annotations are recorded and what follows from them is done.
    Annotate {
        /// Keys with their new values; none removes one.
        changes: BTreeMap<String, Option<String>>,
    },
    /// The answer of a watcher to [`Message::Ended`]: it has read what it wants. Not answered itself.
    Drained,
}

/// What a supervisor says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "camelCase")]
pub enum Message {
    /// The status has changed.
    #[serde(rename_all = "camelCase")]
    Status {
        /// The status.
        status: Box<PodStatus>,
        /// Set once the Pod is being deleted.
        deletion: Option<Deletion>,
    },
    /// Something happened.
    Event {
        /// It, and how often it did.
        event: EventRecord,
    },
    /// The Pod has ended and is about to be removed, logs included. The supervisor waits a moment for the watcher to say,
    /// by [`Client::drained`](crate::Client::drained), that it has read them.
    Ended,
    /// The Pod has ended and the supervisor with it.
    Finished {
        /// Whether the Pod and its records are gone.
        removed: bool,
    },
    /// The wish is recorded.
    Ok,
    /// The line was not understood.
    Error {
        /// Why.
        message: String,
    },
}

/// A way to a socket that fits into the 108 bytes of a socket address, however deep its directory lies.
pub(crate) struct SocketPath {
    dir: File,
    name: &'static str,
}

impl SocketPath {
    pub(crate) fn new(dir: &Path) -> io::Result<Self> {
        let dir = File::options().read(true).custom_flags(libc::O_DIRECTORY | libc::O_CLOEXEC).open(dir)?;
        Ok(Self { dir, name: SOCKET })
    }

    /// Returns a path that is good while `self` lives, in this process.
    pub(crate) fn path(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}/{}", self.dir.as_raw_fd(), self.name))
    }
}
