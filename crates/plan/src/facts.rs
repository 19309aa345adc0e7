//! What the plan is made from besides the Pod: facts about the host and about an image.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// Facts about this host and how podrun is set up on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// Directory of live state, on a tmpfs: sockets.
    pub run_dir: PathBuf,
    /// Directory of lasting state: Pods, volumes, logs, images.
    pub data_dir: PathBuf,
    /// This machine's name.
    pub node_name: String,
    /// Where cgroup v2 is mounted and what it offers.
    pub cgroup: CgroupFacts,
    /// Bytes of memory of the machine, for `oom_score_adj` and the size of memory volumes.
    pub memory_bytes: u64,
    /// Huge page sizes that the kernel has, as cgroup files name them: `2MB`.
    pub huge_page_sizes: Vec<String>,
    /// Highest capability number that the kernel knows (/proc/sys/kernel/cap_last_cap).
    pub last_capability: u8,
    /// Processes that one Pod may have; none is unlimited.
    pub pod_pids_limit: Option<u64>,
    /// What to do with a limit that this host cannot enforce.
    pub unenforced_limits: UnenforcedLimits,
    /// Write `memory.high` and reservations from requests (the kubelet's MemoryQoS).
    pub memory_qos: bool,
    /// Whether the caller may lower `oom_score_adj` and raise limits (CAP_SYS_RESOURCE).
    pub sys_resource: bool,
    /// Hard limit on open files of the caller, the ceiling without CAP_SYS_RESOURCE.
    pub nofile_hard: u64,
    /// What Pods get of the network.
    pub network: NetworkFacts,
}

/// What Pods get of the network, and what this host knows of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkFacts {
    /// What a Pod gets that is not in the host's network.
    pub pod_network: PodNetwork,
    /// Subnets of the Pods, one of IPv4 and perhaps one of IPv6; none lets podrun choose.
    pub pod_cidr: Vec<IpNet>,
    /// The text of the machine's resolv.conf; none where Pods shall have no resolvers but the machine itself.
    pub resolv_conf: Option<String>,
    /// The text of the machine's /etc/hosts.
    pub hosts: String,
    /// Name servers of the cluster, if there is one.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster: `cluster.local`.
    pub cluster_domain: String,
}

/// What a Pod gets that is not in the host's network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum PodNetwork {
    /// An address at the machine's bridge.
    #[default]
    Bridge,
    /// Loopback alone.
    None,
}

/// Where cgroup v2 is mounted and which controllers it can hand out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CgroupFacts {
    /// Mount point of the cgroup2 file system.
    pub mount: PathBuf,
    /// Cgroup below which each Pod gets its own, relative to the mount point.
    pub parent: String,
    /// For each controller name that podrun may need: available, or why not.
    pub controllers: BTreeMap<String, ControllerFact>,
}

/// Whether a controller can be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ControllerFact {
    /// It can be enabled for Pods.
    Available,
    /// It cannot. The text goes on from the words "the memory controller, which" and says who holds it:
    /// `is bound to the cgroup v1 mount /sys/fs/cgroup/memory`.
    Missing(String),
}

/// What happens to a limit that the host cannot enforce.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UnenforcedLimits {
    /// The Pod is refused.
    #[default]
    Refuse,
    /// The Pod runs without the limit, and an event says so.
    Warn,
}

/// What an image says about the process to run, and where its layers are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageFacts {
    /// `sha256:…` of the image's configuration.
    pub id: String,
    /// Unpacked layers, the lowest first.
    pub layers: Vec<PathBuf>,
    /// Entrypoint.
    pub entrypoint: Vec<String>,
    /// Default arguments.
    pub cmd: Vec<String>,
    /// `NAME=value` entries.
    pub env: Vec<String>,
    /// `user`, `uid`, `user:group` or empty.
    pub user: String,
    /// Working directory or empty.
    pub working_dir: String,
    /// Stop signal or empty: `SIGQUIT`, `3`.
    pub stop_signal: String,
}

/// The images of a container that are on this machine.
#[derive(Clone, Copy, Debug)]
pub struct Images<'a> {
    /// The one that it runs.
    pub own: &'a ImageFacts,
    /// Unpacked layers of those that are its volumes, the lowest first, by the volume's name. Others may be among them.
    pub volumes: &'a BTreeMap<String, Vec<PathBuf>>,
}
