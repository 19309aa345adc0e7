//! Why a Pod cannot be planned, and why a container cannot be completed.

use thiserror::Error;

/// Something that a Pod asks for and that cannot be done on this host.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PlanFault {
    /// Limits need a controller that cgroup v2 does not have here.
    #[error(
        "cannot enforce {}: this needs the {controller} controller, which {why}; boot the host with cgroup v2 alone \
         (systemd.unified_cgroup_hierarchy=1), or run without these limits: --unenforced-limits=warn",
        limits.join(", ")
    )]
    Unenforceable {
        /// The controller: `memory`.
        controller: String,
        /// Who holds it, as a sentence that goes on after "which".
        why: String,
        /// What cannot be enforced, one text per value: `memory.max = 134217728 (container "web")`.
        limits: Vec<String>,
    },
    /// The kernel's host name is at most 64 characters long.
    #[error(
        "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is \
         the max, {} characters requested)",
        fqdn.len()
    )]
    FqdnTooLong {
        /// The name.
        fqdn: String,
    },
    /// A kernel parameter that is not among those that a Pod may set.
    #[error("forbidden sysctl: \"{name}\" not allowlisted")]
    SysctlNotAllowed {
        /// The parameter as it was written.
        name: String,
    },
    /// A kernel parameter of a namespace that is the host's in this Pod.
    #[error("forbidden sysctl: \"{name}\" not allowed with host {namespace} enabled")]
    SysctlOfHost {
        /// The parameter as it was written.
        name: String,
        /// `net` or `ipc`.
        namespace: &'static str,
    },
    /// The host has no huge pages of that size.
    #[error("{object} limits {resource}, but this host has huge pages of {}", sizes(available))]
    NoSuchHugePages {
        /// Whose limit: `container "web"`.
        object: String,
        /// `hugepages-2Mi`
        resource: String,
        /// The sizes that there are.
        available: Vec<String>,
    },
    /// No capability has that name.
    #[error("container \"{container}\" names the capability \"{name}\", which does not exist")]
    UnknownCapability {
        /// The container.
        container: String,
        /// The name as it was written.
        name: String,
    },
    /// The capability is younger than the kernel.
    #[error("container \"{container}\" adds the capability \"{name}\", which this kernel does not have")]
    CapabilityNotInKernel {
        /// The container.
        container: String,
        /// The name as it was written.
        name: String,
    },
    /// A mount would hide something that every container needs to be as it is.
    #[error("container \"{container}\" mounts volume \"{volume}\" at {target}, where nothing may be mounted")]
    MountTarget {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
        /// The path in the container.
        target: String,
    },
    /// An address of the machine that is none.
    #[error("container \"{container}\" asks for a port at hostIP \"{value}\", which is no IP address")]
    HostIp {
        /// The container.
        container: String,
        /// What was written.
        value: String,
    },
    /// A port of the machine cannot lead to a Pod that has no network.
    #[error("host port {port} cannot be opened: the Pod gets no network (--network=none)")]
    HostPortWithoutNetwork {
        /// The port: `80/TCP`.
        port: String,
    },
    /// A subnet that shall not be shaped and is none.
    #[error("annotation podrun.io/unshaped-subnets: \"{value}\" is no subnet")]
    UnshapedSubnet {
        /// What was written.
        value: String,
    },
    /// A mount names a volume that the Pod does not have.
    #[error("cannot find volume \"{volume}\" to mount into container \"{container}\"")]
    NoSuchVolume {
        /// The container.
        container: String,
        /// The volume.
        volume: String,
    },
}

fn sizes(available: &[String]) -> String {
    if available.is_empty() { "no size".to_owned() } else { format!("{} only", available.join(", ")) }
}

/// Why a container cannot be created although its image is here. Nothing of it was made.
///
/// The text is the message of the container's waiting state, [`ConfigFault::reason`] its reason.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigFault {
    /// `runAsNonRoot` with `runAsUser: 0`.
    #[error("container's runAsUser breaks non-root policy (pod: \"{pod}\", container: {container})")]
    RunAsRoot {
        /// `name_namespace(uid)`
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` and an image whose user is 0 or nobody in particular.
    #[error("container has runAsNonRoot and image will run as root (pod: \"{pod}\", container: {container})")]
    ImageRunsAsRoot {
        /// `name_namespace(uid)`
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` and an image whose user is a name, which might be another name of root.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root \
         (pod: \"{pod}\", container: {container})"
    )]
    ImageUserIsName {
        /// The image's user.
        user: String,
        /// `name_namespace(uid)`
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` and an image whose user is a number that no user has.
    #[error(
        "container has runAsNonRoot and image has an invalid user id ({user}). (Must be 1-(2147483647)): must be \
         between 0 and 2147483647, inclusive (pod: \"{pod}\", container: {container})"
    )]
    ImageUserOutOfRange {
        /// The image's user.
        user: i64,
        /// `name_namespace(uid)`
        pod: String,
        /// The container.
        container: String,
    },
    /// `subPathExpr` uses variables that are unset or empty.
    #[error("missing value for {}", names.join(", "))]
    SubPathVariables {
        /// The variables, sorted.
        names: Vec<String>,
    },
    /// The expanded `subPathExpr` is absolute.
    #[error("error SubPath `{sub_path}` must not be an absolute path")]
    SubPathAbsolute {
        /// After expansion.
        sub_path: String,
    },
    /// The expanded `subPathExpr` leads out of the volume.
    #[error("unable to provision SubPath `{sub_path}`: must not contain '..'")]
    SubPathBacksteps {
        /// After expansion.
        sub_path: String,
    },
    /// The image that is a volume was not looked for.
    #[error("the image of volume \"{volume}\" is not here")]
    NoVolumeImage {
        /// The volume.
        volume: String,
    },
    /// Neither the container nor its image names a program.
    #[error("no command specified")]
    NoCommand,
    /// The image's stop signal is none that exists.
    #[error("the image's stop signal \"{signal}\" does not exist")]
    StopSignal {
        /// As the image has it.
        signal: String,
    },
}

impl ConfigFault {
    /// Returns the reason of the container's waiting state.
    pub fn reason(&self) -> &'static str {
        match self {
            // What the kubelet leaves to the runtime, and what the runtime refuses.
            Self::NoCommand | Self::StopSignal { .. } | Self::NoVolumeImage { .. } => "CreateContainerError",
            _ => "CreateContainerConfigError",
        }
    }
}
