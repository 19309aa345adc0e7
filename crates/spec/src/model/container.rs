//! One container as it was meant.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{ContainerLife, ContainerSecurity, EnvFrom, EnvVar, Resources, RestartPolicy};

/// Which list of the Pod a container stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ContainerKind {
    /// `spec.initContainers[]`: runs to completion before the next one starts.
    Init,
    /// `spec.initContainers[]` with `restartPolicy: Always`: starts in its turn and goes on beside the others.
    Sidecar,
    /// `spec.containers[]`.
    Regular,
}

/// A container of a Pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// A DNS-1123 label, unique in the Pod.
    pub name: String,
    /// The image reference as it was written.
    pub image: String,
    /// When to ask a registry.
    pub pull_policy: PullPolicy,
    /// Replaces the image's entrypoint where not empty; `$(VAR)` not yet expanded.
    pub command: Vec<String>,
    /// Replaces the image's arguments where not empty; `$(VAR)` not yet expanded.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Ports that the container says it listens on.
    pub ports: Vec<ContainerPort>,
    /// Whole ConfigMaps and Secrets as environment.
    pub env_from: Vec<EnvFrom>,
    /// Environment variables.
    pub env: Vec<EnvVar>,
    /// Requests and limits, requests defaulted from limits.
    pub resources: Resources,
    /// Volumes to mount, in order.
    pub volume_mounts: Vec<VolumeMount>,
    /// Where the container may leave its last words.
    pub termination_message_path: String,
    /// Where its last words are looked for.
    pub termination_message_policy: TerminationMessagePolicy,
    /// Security settings of this container, not yet merged with the Pod's.
    pub security: ContainerSecurity,
    /// Probes, hooks and restarts.
    pub life: ContainerLife,
}

impl Container {
    /// Returns what the container is where it stands among the init containers.
    pub fn init_kind(&self) -> ContainerKind {
        if self.life.restart.policy == Some(RestartPolicy::Always) {
            ContainerKind::Sidecar
        } else {
            ContainerKind::Init
        }
    }
}

/// `imagePullPolicy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PullPolicy {
    /// Ask the registry at every start.
    Always,
    /// Pull only what is not here.
    IfNotPresent,
    /// Use what is here or fail.
    Never,
}

/// `ports[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Name, unique in the container.
    pub name: Option<String>,
    /// Port in the Pod, 1 to 65535.
    pub container_port: u16,
    /// Port on the host.
    pub host_port: Option<u16>,
    /// Address on the host.
    pub host_ip: Option<String>,
    /// Transport.
    pub protocol: Protocol,
}

/// Transport protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        })
    }
}

/// `volumeMounts[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeMount {
    /// Names a volume of the Pod.
    pub name: String,
    /// Absolute path in the container.
    pub mount_path: String,
    /// Directory or file below the volume's root; no `..`.
    pub sub_path: Option<String>,
    /// As `sub_path`, with `$(VAR)` expanded from the container's environment.
    pub sub_path_expr: Option<String>,
    /// Mount read-only.
    pub read_only: bool,
    /// Whether read-only covers the mounts below.
    pub recursive_read_only: RecursiveReadOnly,
    /// Which mounts made later are seen on the other side.
    pub propagation: MountPropagation,
}

/// `volumeMounts[].recursiveReadOnly`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum RecursiveReadOnly {
    /// Submounts stay as they are.
    #[default]
    Disabled,
    /// Submounts are made read-only where the kernel can.
    IfPossible,
    /// Submounts are made read-only, or the container does not start.
    Enabled,
}

/// `volumeMounts[].mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountPropagation {
    /// rprivate.
    #[default]
    None,
    /// rslave.
    HostToContainer,
    /// rshared; privileged containers only.
    Bidirectional,
}

/// `terminationMessagePolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum TerminationMessagePolicy {
    /// Only the file.
    #[default]
    File,
    /// The end of the log where the file is empty and the container failed.
    FallbackToLogsOnError,
}
