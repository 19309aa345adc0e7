//! Security settings of the Pod and of its containers.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// `spec.securityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodSecurity {
    /// Default user of the containers.
    pub run_as_user: Option<u32>,
    /// Default primary group of the containers.
    pub run_as_group: Option<u32>,
    /// Refuse to start a container as user 0.
    pub run_as_non_root: Option<bool>,
    /// Group that owns the volumes, and a supplementary group of each container.
    pub fs_group: Option<u32>,
    /// Further groups of each container.
    pub supplemental_groups: Vec<u32>,
    /// Whether the image's /etc/group adds to them.
    pub supplemental_groups_policy: SupplementalGroupsPolicy,
    /// Default seccomp profile of the containers.
    pub seccomp: Option<SeccompProfile>,
    /// Namespaced kernel parameters, dotted names.
    pub sysctls: BTreeMap<String, String>,
}

/// `securityContext` of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerSecurity {
    /// Wins over the Pod's.
    pub run_as_user: Option<u32>,
    /// Wins over the Pod's.
    pub run_as_group: Option<u32>,
    /// Wins over the Pod's.
    pub run_as_non_root: Option<bool>,
    /// All capabilities and devices, nothing masked, no seccomp.
    pub privileged: bool,
    /// The root file system is read-only.
    pub read_only_root_filesystem: bool,
    /// `Some(false)` sets no_new_privs.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities added to and dropped from the default set.
    pub capabilities: Capabilities,
    /// Wins over the Pod's.
    pub seccomp: Option<SeccompProfile>,
}

/// `capabilities`: names without the `CAP_` prefix, upper case; `ALL` stands for every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// Added after `drop`.
    pub add: Vec<String>,
    /// Dropped from the default set.
    pub drop: Vec<String>,
}

/// `seccompProfile`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SeccompProfile {
    /// No filter.
    Unconfined,
    /// podrun's own profile.
    RuntimeDefault,
}

/// `supplementalGroupsPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SupplementalGroupsPolicy {
    /// The image's groups of the user count too.
    #[default]
    Merge,
    /// Only the groups of the manifest.
    Strict,
}
