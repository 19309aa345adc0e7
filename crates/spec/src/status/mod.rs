//! What happened: the Pod's status as the API reports it.

use serde::{Deserialize, Serialize};

use crate::model::{MountPropagation, QosClass, ResourceList, Resources};
use crate::time::Timestamp;

/// `status` of a Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodStatus {
    /// Where the Pod is in its life.
    pub phase: Phase,
    /// Why, for Pods that were rejected or evicted: `DeadlineExceeded`.
    pub reason: Option<String>,
    /// The reason in words.
    pub message: Option<String>,
    /// Conditions in the order in which the kubelet writes them.
    pub conditions: Vec<Condition>,
    /// Addresses of the machine, the primary one first.
    #[serde(default)]
    pub host_ips: Vec<String>,
    /// Addresses of the Pod, the primary one first.
    pub pod_ips: Vec<String>,
    /// When the Pod was first acknowledged.
    pub start_time: Option<Timestamp>,
    /// Derived from requests and limits.
    pub qos_class: QosClass,
    /// The generation of the spec that this status speaks about.
    pub observed_generation: Option<i64>,
    /// One per init container, in spec order.
    pub init_container_statuses: Vec<ContainerStatus>,
    /// One per regular container, sorted by name.
    pub container_statuses: Vec<ContainerStatus>,
}

/// `status.phase`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Phase {
    /// Accepted; something has yet to start.
    #[default]
    Pending,
    /// At least one container runs or will run again.
    Running,
    /// All containers ended with 0 and none starts again.
    Succeeded,
    /// All containers ended, at least one in failure.
    Failed,
    /// The supervisor cannot be reached.
    Unknown,
}

impl Phase {
    /// Returns true for the phases that are never left.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// Returns the name as the API writes it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
            Self::Unknown => "Unknown",
        }
    }
}

/// An entry of `status.conditions[]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Condition {
    /// `PodScheduled`, `Initialized`, `ContainersReady`, `Ready`, `PodReadyToStartContainers`, `DisruptionTarget`,
    /// `AllContainersRestarting`, or the `conditionType` of a readiness gate.
    pub kind: String,
    /// `True` or `False`.
    pub status: bool,
    /// A word: `ContainersNotReady`.
    pub reason: Option<String>,
    /// The reason in words.
    pub message: Option<String>,
    /// When `status` last changed.
    pub last_transition_time: Option<Timestamp>,
    /// The generation of the spec that this condition speaks about.
    pub observed_generation: Option<i64>,
}

/// An entry of `status.containerStatuses[]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// The container's name.
    pub name: String,
    /// What it is doing.
    pub state: ContainerState,
    /// How its previous run ended.
    pub last_state: Option<Terminated>,
    /// Whether it serves.
    pub ready: bool,
    /// Whether it has passed its startup.
    pub started: bool,
    /// How often it was started again.
    pub restart_count: u32,
    /// The image as written, or its resolved name.
    pub image: String,
    /// What the image resolved to; empty until then.
    pub image_id: String,
    /// `podrun://<id>`; empty until created.
    pub container_id: String,
    /// Mounted volumes.
    pub volume_mounts: Vec<MountStatus>,
    /// The identity of the first process.
    pub user: Option<UserStatus>,
    /// Requests that the node has set aside; none are those of the spec.
    #[serde(default)]
    pub allocated_resources: Option<ResourceList>,
    /// Requests and limits that are in force; none are those of the spec.
    #[serde(default)]
    pub resources: Option<Resources>,
    /// The signal that ends the container, as `SIGTERM`, where it is known.
    #[serde(default)]
    pub stop_signal: Option<String>,
}

/// `state` of a container: one of three.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Not running yet, or not again yet.
    Waiting {
        /// A word: `ContainerCreating`, `CrashLoopBackOff`.
        reason: String,
        /// The reason in words.
        message: Option<String>,
    },
    /// Running.
    Running {
        /// When its process started.
        started_at: Timestamp,
    },
    /// Ended.
    Terminated(Terminated),
}

/// What has not begun is waiting, as in the API.
impl Default for ContainerState {
    fn default() -> Self {
        Self::Waiting { reason: String::new(), message: None }
    }
}

/// How a run of a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminated {
    /// Exit code, or 128 + signal number.
    pub exit_code: i32,
    /// `Completed`, `Error`, `OOMKilled`, `StartError`, `ContainerStatusUnknown`.
    pub reason: String,
    /// Termination message.
    pub message: Option<String>,
    /// None for a container that never ran.
    pub started_at: Option<Timestamp>,
    /// None for a container that never ran.
    pub finished_at: Option<Timestamp>,
    /// `podrun://<id>`.
    pub container_id: String,
}

/// `volumeMounts[]` of a container's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MountStatus {
    /// The volume.
    pub name: String,
    /// Path in the container.
    pub mount_path: String,
    /// Mounted read-only.
    pub read_only: bool,
    /// Only for read-only mounts: whether the mounts below are read-only too.
    pub recursive_read_only: Option<bool>,
    /// Propagation as asked for.
    pub propagation: MountPropagation,
}

/// `user.linux` of a container's status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UserStatus {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All groups.
    pub supplemental_groups: Vec<u32>,
}
