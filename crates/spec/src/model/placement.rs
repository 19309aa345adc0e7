//! Where a Pod may run, and what it wants of its network.

use serde::{Deserialize, Serialize};

/// A term of the required node affinity: all of its expressions hold. A term without any matches nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeSelectorTerm {
    /// About the node's labels.
    pub expressions: Vec<NodeRequirement>,
    /// About the node's fields; only `metadata.name`.
    pub fields: Vec<NodeRequirement>,
}

/// `matchExpressions[]` or `matchFields[]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRequirement {
    /// A label or field.
    pub key: String,
    /// How it is compared.
    pub operator: NodeOperator,
    /// What with: none for `Exists` and `DoesNotExist`, one for `Gt` and `Lt`.
    pub values: Vec<String>,
}

/// `operator`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeOperator {
    /// The value is one of them.
    In,
    /// It is none of them, or there is none.
    NotIn,
    /// There is one.
    Exists,
    /// There is none.
    DoesNotExist,
    /// As an integer it is greater.
    Gt,
    /// As an integer it is less.
    Lt,
}

/// `dnsPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum DnsPolicy {
    /// The cluster's DNS; the host's where there is none or the Pod is in the host's network.
    #[default]
    ClusterFirst,
    /// The cluster's DNS in the host's network too.
    ClusterFirstWithHostNet,
    /// The host's.
    Default,
    /// Only what `dnsConfig` says.
    None,
}

/// `dnsConfig`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses of name servers.
    pub nameservers: Vec<String>,
    /// Search domains.
    pub searches: Vec<String>,
    /// Options with their values.
    pub options: Vec<(String, Option<String>)>,
}

/// What the bandwidth annotations ask for, in bits per second, seen from the Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bandwidth {
    /// `kubernetes.io/ingress-bandwidth`: towards the Pod.
    pub ingress: Option<u64>,
    /// `kubernetes.io/egress-bandwidth`: from the Pod.
    pub egress: Option<u64>,
    /// `podrun.io/ingress-burst`, in bytes.
    pub ingress_burst: Option<u64>,
    /// `podrun.io/egress-burst`, in bytes.
    pub egress_burst: Option<u64>,
    /// `podrun.io/unshaped-subnets`: traffic with these is not limited; CIDR notation.
    pub unshaped: Vec<String>,
    /// `podrun.io/bandwidth-mode: cni`: the numbers of the CNI plugin instead of podrun's.
    pub cni: bool,
}
