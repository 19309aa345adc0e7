//! What can go wrong before a container's process exists.

use std::io;
use std::path::PathBuf;

use podrun_sandbox::SandboxError;

/// A container that cannot be prepared.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PrepareError {
    /// The Pod forbids user 0, and that is who the process would be, or might be.
    #[error("{message}")]
    NonRoot {
        /// The kubelet's words.
        message: String,
    },
    /// A sub path cannot be used.
    #[error("failed to prepare subPath for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        /// Name of the volume.
        volume: String,
        /// Name of the container.
        container: String,
        /// The cause; `EXDEV` if the path leads out of the volume.
        source: io::Error,
    },
    /// The source of a mount cannot be used.
    #[error("mount {} at {target:?}", path.display())]
    Mount {
        /// What is to be mounted.
        path: PathBuf,
        /// Where.
        target: String,
        /// The cause.
        source: io::Error,
    },
    /// An image that is a volume cannot be mounted.
    #[error("mount the image of volume {volume:?} at {target:?}")]
    ImageVolume {
        /// Name of the volume.
        volume: String,
        /// Where.
        target: String,
        /// The cause.
        source: io::Error,
    },
    /// There are more mounts than can be sent to init.
    #[error("container {container:?} has {count} mounts, and {max} are the most there can be")]
    TooManyMounts {
        /// Name of the container.
        container: String,
        /// How many.
        count: usize,
        /// The most.
        max: usize,
    },
    /// The root file system cannot be made.
    #[error("make the root file system of container {container:?}")]
    Rootfs {
        /// Name of the container.
        container: String,
        /// The cause.
        source: io::Error,
    },
    /// A file or directory cannot be made.
    #[error("{action} {}", path.display())]
    File {
        /// `create`, `open`.
        action: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// This attempt runs already.
    #[error("container {id} is running")]
    Running {
        /// Its id.
        id: String,
    },
    /// What an earlier preparation has left cannot be removed.
    #[error("clear {}", dir.display())]
    Clear {
        /// The attempt's directory.
        dir: PathBuf,
        /// The cause.
        source: SandboxError,
    },
    /// The cgroup cannot be made or a value is refused.
    #[error("make the cgroup of container {container:?}")]
    Cgroup {
        /// Name of the container.
        container: String,
        /// The cause.
        source: SandboxError,
    },
}

impl PrepareError {
    /// Returns the reason that Kubernetes gives a container that waits because of this.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NonRoot { .. } | Self::SubPath { .. } => "CreateContainerConfigError",
            _ => "CreateContainerError",
        }
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> PrepareError {
        let path = path.into();
        move |source| PrepareError::File { action, path, source }
    }
}
