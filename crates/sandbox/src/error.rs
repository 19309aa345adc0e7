//! What can go wrong with a sandbox.

use std::io;
use std::path::PathBuf;

use crate::protocol::Failure;

/// An operation on a sandbox that failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// The plan cannot be carried out as it is written.
    #[error("{what} {value:?} cannot be used: {why}")]
    InvalidPlan {
        /// Which part of the plan.
        what: &'static str,
        /// What it says.
        value: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Something is there already under the names of this sandbox.
    #[error("sandbox {uid} exists already")]
    Exists {
        /// UID of the Pod.
        uid: String,
    },
    /// The init program could not be opened for execution.
    #[error("open the init program {}", path.display())]
    Program {
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The init program could not be started.
    #[error("start the init of pod {uid}")]
    Spawn {
        /// UID of the Pod.
        uid: String,
        /// The cause.
        source: podrun_namespaces::Error,
    },
    /// Init could not make its side of the sandbox.
    #[error("set the sandbox up: {}", .0.message)]
    Setup(Failure),
    /// Init has ended: nothing runs in the sandbox any more.
    #[error("the init of pod {uid} is gone")]
    InitGone {
        /// UID of the Pod.
        uid: String,
    },
    /// Init did not answer in time.
    #[error("the init of pod {uid} has not answered within {seconds} s")]
    NoAnswer {
        /// UID of the Pod.
        uid: String,
        /// How long it was waited for.
        seconds: u64,
    },
    /// Talking to init failed.
    #[error("{action} the init of pod {uid}")]
    Channel {
        /// `send to`, `receive from`, `connect to`, `listen for`.
        action: &'static str,
        /// UID of the Pod.
        uid: String,
        /// The cause.
        source: io::Error,
    },
    /// A namespace of the sandbox could not be opened.
    #[error("open a namespace of pod {uid}")]
    Namespace {
        /// UID of the Pod.
        uid: String,
        /// The cause.
        source: podrun_namespaces::Error,
    },
    /// A cgroup could not be made, used or removed.
    #[error(transparent)]
    Cgroup(#[from] podrun_cgroups::Error),
    /// A mount could not be made.
    #[error("mount {what}")]
    Mount {
        /// Which.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A file or directory could not be made, written, changed or removed.
    #[error("{action} {}", path.display())]
    File {
        /// `create`, `write`, `remove`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// What is at a host path is not what the Pod says.
    #[error("hostPath type check failed: {} is not a {expected}", path.display())]
    HostPathType {
        /// The path.
        path: PathBuf,
        /// `directory`, `file`, `socket file`, `character device`, `block device`.
        expected: &'static str,
    },
    /// Making a sandbox failed, and so did taking back what had been done.
    #[error("{first} (and taking it back: {})", join(.undo))]
    NotUndone {
        /// Why it was not made.
        #[source]
        first: Box<SandboxError>,
        /// What could not be removed.
        undo: Vec<SandboxError>,
    },
    /// A container of that id does not belong to this sandbox.
    #[error("container id {id:?} is not of pod {uid}")]
    ForeignContainer {
        /// The id.
        id: String,
        /// UID of the Pod.
        uid: String,
    },
}

fn join(errors: &[SandboxError]) -> String {
    let mut text = String::new();
    for error in errors {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(&error.to_string());
    }
    text
}

impl SandboxError {
    /// Returns a function that wraps an error of the file system.
    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> SandboxError {
        let path = path.into();
        move |source| SandboxError::File { action, path, source }
    }
}
