//! The plan: everything that will be done for a Pod, as data.

use std::path::PathBuf;
use std::time::Duration;

use podrun_spec::model::{
    ContainerKind, HostPathType, MountPropagation, PullPolicy, RecursiveReadOnly, TerminationMessagePolicy,
};
use serde::{Deserialize, Serialize};

use crate::text;

mod network;

pub use network::{Attachment, BandwidthPlan, BridgePlan, HostsPlan, NetworkPlan, PortMapping, RatePlan};

/// What will be done for a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Plan {
    /// What the containers share.
    pub sandbox: SandboxPlan,
    /// Containers in the order in which they start: init containers first, each group in spec order.
    pub containers: Vec<ContainerPlan>,
    /// Limits that were asked for and will not be enforced here, each with its reason.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unenforced: Vec<Unenforced>,
}

impl Plan {
    /// Returns the plan of the named container.
    pub fn container(&self, name: &str) -> Option<&ContainerPlan> {
        self.containers.iter().find(|c| c.name == name)
    }

    /// Returns the names of the containers in the steps in which they start.
    ///
    /// A step begins when everything in the step before has run to success, or, if it is a sidecar, has passed its
    /// startup. Within a step, containers are started one after the other without waiting for any to become ready. So
    /// each init container and each sidecar is a step of its own, and the regular containers are the last one.
    pub fn start_order(&self) -> Vec<Vec<&str>> {
        let (regular, init): (Vec<_>, Vec<_>) =
            self.containers.iter().partition(|c| c.kind == ContainerKind::Regular);
        let init = init.into_iter().map(|c| vec![c.name.as_str()]);
        init.chain([regular.into_iter().map(|c| c.name.as_str()).collect()]).collect()
    }

    /// Returns the names of the containers in the steps in which they are stopped: all at once but the sidecars, which
    /// follow one by one, the last one first.
    pub fn stop_order(&self) -> Vec<Vec<&str>> {
        let (sidecars, others): (Vec<_>, Vec<_>) =
            self.containers.iter().partition(|c| c.kind == ContainerKind::Sidecar);
        let sidecars = sidecars.into_iter().rev().map(|c| vec![c.name.as_str()]);
        std::iter::once(others.into_iter().map(|c| c.name.as_str()).collect()).chain(sidecars).collect()
    }
}

/// Returns true for what need not be printed because it is what a reader assumes.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// A limit that this host cannot enforce.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Unenforced {
    /// Whose limit: `container "web"` or `pod`.
    pub object: String,
    /// The cgroup controller it needs: `memory`.
    pub controller: String,
    /// What would have been written: `memory.max = 134217728`.
    pub value: String,
    /// Who holds the controller.
    pub why: String,
}

/// The shared context of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SandboxPlan {
    /// UID of the Pod; the names of all kernel objects derive from it.
    pub uid: String,
    /// Name of the Pod.
    pub name: String,
    /// This machine's name: what `HOSTNAME` says where the host's UTS namespace is used.
    #[serde(default)]
    pub node_name: String,
    /// Namespace of the Pod.
    pub namespace: String,
    /// `<run>/pods/<uid>`: sockets and live state.
    pub run_dir: PathBuf,
    /// `<data>/pods/<uid>`: volumes, containers, records.
    pub data_dir: PathBuf,
    /// `<data>/logs/<namespace>_<name>_<uid>`.
    pub log_dir: PathBuf,
    /// Which namespaces are made for the Pod and which are the host's.
    pub namespaces: NamespacePlan,
    /// Host name to set in the Pod's UTS namespace; none with the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// Namespaced kernel parameters to set once, in order: `net.ipv4.ip_unprivileged_port_start` = `0`.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "text::pairs")]
    pub sysctls: Vec<(String, String)>,
    /// The Pod's cgroup.
    pub cgroup: CgroupPlan,
    /// Volumes to make ready before any container starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<VolumePlan>,
    /// Files that podrun writes and mounts into every container: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`.
    pub files: Vec<FilePlan>,
    /// The Pod's place in the network.
    #[serde(default)]
    pub network: NetworkPlan,
    /// What the Pod has to be told about its settings by events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<Notice>,
    /// Bytes of the Pod's shared /dev/shm; none where the host's IPC namespace is used (then the host's /dev/shm).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
}

/// Whose a namespace is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Owner {
    /// Made for the Pod and shared by its containers.
    Pod,
    /// The host's.
    Host,
    /// Each container has its own.
    Container,
}

/// The namespaces of a Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacePlan {
    /// Network: Pod or Host.
    pub net: Owner,
    /// System V and POSIX IPC: Pod or Host.
    pub ipc: Owner,
    /// Host name: Pod or Host.
    pub uts: Owner,
    /// Process ids: Container, Pod (shareProcessNamespace) or Host.
    pub pid: Owner,
    /// Mounts: always Container.
    pub mnt: Owner,
    /// Cgroup root: Container, or Host for privileged containers.
    pub cgroup: Owner,
}

/// A cgroup and what is written to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CgroupPlan {
    /// Path below the cgroup2 mount: `podrun/pod<uid>`; a container's own is `<pod>/<container>.<attempt>`.
    pub path: String,
    /// Controllers to enable for children, on the way down to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub controllers: Vec<String>,
    /// Files and values in the order in which they are written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<FileValue>,
}

/// A file of a cgroup and the text to write.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FileValue {
    /// `cpu.max`
    pub file: String,
    /// `50000 100000`
    pub value: String,
}

/// A volume to make ready.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumePlan {
    /// The volume's name.
    pub name: String,
    /// How it is made.
    pub source: VolumeSourcePlan,
    /// Group that gets the volume's files; not for host paths.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_group: Option<u32>,
}

/// How a volume is made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum VolumeSourcePlan {
    /// A directory of mode 0777 below the Pod's data directory.
    Directory {
        /// `<data>/pods/<uid>/volumes/<name>`
        path: PathBuf,
    },
    /// A tmpfs of mode 1777 that lives in the sandbox.
    Tmpfs {
        /// Size in bytes.
        size: u64,
    },
    /// A file or directory of the host.
    HostPath {
        /// Absolute path.
        path: PathBuf,
        /// What has to be there.
        kind: HostPathType,
    },
    /// The layers of an image, which is looked for or pulled with each start of a container that mounts it.
    Image {
        /// Its name as written.
        reference: String,
        /// When to ask a registry.
        pull_policy: PullPolicy,
    },
}

/// The text of a warning event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Notice {
    /// `DNSConfigForming`, `MissingClusterDNS`.
    pub reason: String,
    /// Its message.
    pub message: String,
}

/// A file that podrun writes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FilePlan {
    /// Where containers see it: `/etc/hosts`.
    pub target: String,
    /// What is mounted: `<data>/pods/<uid>/files/hosts`, written with mode 0644.
    pub path: PathBuf,
    /// Its text. That of /etc/hosts has a word in the place of an address that is not known yet; the file is written
    /// again when it is.
    pub content: String,
}

/// One container. Complete once its image is resolved: see [`ContainerSetup`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerPlan {
    /// The container's name.
    pub name: String,
    /// Init or regular.
    pub kind: ContainerKind,
    /// The image as written.
    pub image: String,
    /// When to ask a registry.
    pub pull_policy: PullPolicy,
    /// `<data>/pods/<uid>/containers/<name>`; each attempt has its own directory in it.
    pub dir: PathBuf,
    /// `<log_dir>/<name>`; each attempt writes `<attempt>.log`.
    pub log_dir: PathBuf,
    /// `<pod cgroup>/<name>`; an attempt appends `.<attempt>`.
    pub cgroup: CgroupPlan,
    /// Mounts of volumes and files, in the order in which they are made: none hides one that came before.
    pub mounts: Vec<MountPlan>,
    /// Identity and confinement.
    pub security: SecurityPlan,
    /// `/proc/self/oom_score_adj` of the process.
    pub oom_score_adj: i32,
    /// Where the container finds the file for its last words.
    pub termination_message_path: String,
    /// Where its last words are looked for.
    pub termination_message_policy: TerminationMessagePolicy,
}

/// A mount in a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MountPlan {
    /// The volume it shows; none for a file of podrun's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<String>,
    /// What is mounted.
    pub source: MountSource,
    /// Absolute path in the container.
    pub target: String,
    /// Path below the source; already expanded in a [`ContainerSetup`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path: Option<String>,
    /// As `sub_path`, with `$(VAR)` not yet expanded; none in a [`ContainerSetup`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sub_path_expr: Option<String>,
    /// Mount read-only.
    pub read_only: bool,
    /// Whether read-only covers the mounts below.
    #[serde(default, skip_serializing_if = "is_default")]
    pub recursive_read_only: RecursiveReadOnly,
    /// Propagation.
    #[serde(default, skip_serializing_if = "is_default")]
    pub propagation: MountPropagation,
    /// Set nosuid and nodev (everything but host paths).
    pub restricted: bool,
}

/// What a mount shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum MountSource {
    /// A file or directory of the host's tree.
    Path(PathBuf),
    /// A tmpfs of the sandbox, by the volume's name.
    SandboxTmpfs(String),
    /// The files of an image. Mounted noexec besides, whatever the Pod says.
    Image {
        /// Unpacked layers, the lowest first; none before the image is here, in a [`ContainerPlan`].
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        layers: Vec<PathBuf>,
    },
}

/// Identity and confinement of a container's process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SecurityPlan {
    /// `runAsUser`; none means the image's user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_user: Option<u32>,
    /// `runAsGroup`; none means the user's primary group in the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as_group: Option<u32>,
    /// Refuse user 0.
    pub run_as_non_root: bool,
    /// fsGroup first, then supplementalGroups.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub supplemental_groups: Vec<u32>,
    /// Whether the image's /etc/group adds to them.
    pub merge_image_groups: bool,
    /// Bit set of capabilities: bounding, permitted and effective set of a root process.
    #[serde(with = "text::capabilities")]
    pub capabilities: u64,
    /// Set no_new_privs.
    pub no_new_privs: bool,
    /// Filter system calls with podrun's default profile.
    pub seccomp: bool,
    /// Every device of the host, no device filter, /sys and cgroup writable, host's cgroup namespace.
    pub privileged: bool,
    /// Mount the root file system read-only.
    pub read_only_rootfs: bool,
    /// Paths hidden: files by /dev/null, directories by an empty read-only tmpfs. Missing ones are skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masked_paths: Vec<String>,
    /// Paths made read-only. Missing ones are skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_only_paths: Vec<String>,
    /// Resource limits: name as in `getrlimit(2)` without the prefix (`NOFILE`), soft, hard.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "text::rlimits")]
    pub rlimits: Vec<(String, u64, u64)>,
}

/// A container ready to start: its plan, its image and its environment put together.
///
/// This is what the sandbox's init is given.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerSetup {
    /// `<uid>_<name>_<attempt>`
    pub id: String,
    /// The container's name.
    pub name: String,
    /// 0 for the first start.
    pub attempt: u32,
    /// The namespaces of the Pod.
    pub namespaces: NamespacePlan,
    /// Cgroup of this attempt and its values.
    pub cgroup: CgroupPlan,
    /// `<data>/pods/<uid>/containers/<name>/<attempt>`: `upper`, `work`, `termination-log`.
    pub dir: PathBuf,
    /// `<log_dir>/<attempt>.log`
    pub log_path: PathBuf,
    /// Unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Program and arguments; the program is looked up in the container's `PATH`.
    pub args: Vec<String>,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// Absolute working directory.
    pub cwd: String,
    /// `user`, `uid`, `user:group` of the image, where the plan names no user.
    pub image_user: String,
    /// Mounts, sub paths expanded, termination log included.
    pub mounts: Vec<MountPlan>,
    /// Identity and confinement.
    pub security: SecurityPlan,
    /// `/proc/self/oom_score_adj` of the process.
    pub oom_score_adj: i32,
    /// Bytes of the sandbox's /dev/shm; none binds the host's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm_size: Option<u64>,
    /// Signal that asks the process to end.
    pub stop_signal: i32,
    /// Time between the stop signal and SIGKILL.
    pub grace_period: Duration,
}
