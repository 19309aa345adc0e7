//! Volumes of a Pod.

use serde::{Deserialize, Serialize};

use super::PullPolicy;
use crate::quantity::Quantity;

/// `volumes[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// A DNS-1123 label, unique in the Pod.
    pub name: String,
    /// What is mounted.
    pub source: VolumeSource,
}

/// What a volume holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory that lives as long as the Pod.
    EmptyDir {
        /// Disk or memory.
        medium: Medium,
        /// At most that many bytes.
        size_limit: Option<Quantity>,
    },
    /// A file or directory of the host.
    HostPath {
        /// Absolute path, no `..`.
        path: String,
        /// What has to be there.
        kind: HostPathType,
    },
    /// The files of an image, which nobody can change.
    Image {
        /// Its name.
        reference: String,
        /// When it is pulled.
        pull_policy: PullPolicy,
    },
}

/// `emptyDir.medium`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Medium {
    /// The file system of the state directory.
    #[default]
    Disk,
    /// A tmpfs.
    Memory,
}

/// `hostPath.type`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum HostPathType {
    /// No check.
    #[default]
    Unset,
    /// A directory, made with mode 0755 where nothing is.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A regular file, made with mode 0644 where nothing is.
    FileOrCreate,
    /// A regular file.
    File,
    /// A Unix socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}
