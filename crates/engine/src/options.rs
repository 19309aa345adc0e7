//! How Pods are run, beyond what their manifests say.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use podrun_plan::facts::{PodNetwork, UnenforcedLimits};
use serde::{Deserialize, Serialize};

use crate::facts;

/// How a Pod is to be run, beyond what its manifest says. Fixed when the Pod is created.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodOptions {
    /// This machine's name.
    pub node_name: String,
    /// Labels of this machine beside those of the configuration file.
    #[serde(default)]
    pub node_labels: BTreeMap<String, String>,
    /// What to do with limits that the host cannot enforce.
    pub unenforced_limits: UnenforcedLimits,
    /// Processes that the Pod may have.
    pub pod_pids_limit: PidsLimit,
    /// Write memory.high and reservations from requests.
    pub memory_qos: bool,
    /// Remove the Pod when it has ended.
    pub remove_when_finished: bool,
    /// What it gets of the network.
    #[serde(default)]
    pub network: NetworkOptions,
}

/// What a Pod gets of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkOptions {
    /// What a Pod gets that is not in the host's network.
    pub pod_network: PodNetwork,
    /// Subnets of the Pods, one of IPv4 and perhaps one of IPv6; empty lets podrun choose.
    pub pod_cidr: Vec<IpNet>,
    /// The file that is the base of Pods' resolv.conf; empty gives them no resolvers but the machine itself.
    pub resolv_conf: PathBuf,
    /// Name servers of the cluster, if there is one.
    pub cluster_dns: Vec<IpAddr>,
    /// Domain of the cluster.
    pub cluster_domain: String,
}

impl Default for NetworkOptions {
    fn default() -> Self {
        Self {
            pod_network: PodNetwork::default(),
            pod_cidr: Vec::new(),
            resolv_conf: facts::resolv_conf(),
            cluster_dns: Vec::new(),
            cluster_domain: "cluster.local".to_owned(),
        }
    }
}

impl PodOptions {
    /// Returns how Pods are run where nobody says otherwise.
    pub fn new(node_name: String) -> Self {
        Self {
            node_name,
            node_labels: BTreeMap::new(),
            unenforced_limits: UnenforcedLimits::default(),
            pod_pids_limit: PidsLimit::default(),
            memory_qos: false,
            remove_when_finished: false,
            network: NetworkOptions::default(),
        }
    }
}

/// How many processes a Pod may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PidsLimit {
    /// 4096 where the pids controller is available, unlimited where it is not.
    #[default]
    Default,
    /// As many as the machine can hold.
    Unlimited,
    /// So many, or the Pod is told that it is not enforced.
    Limit(u64),
}

impl PidsLimit {
    /// What [`PidsLimit::Default`] means: more than a Pod of threads needs, less than a fork bomb wants.
    const DEFAULT: u64 = 4096;

    /// Returns the limit on a host with or without the pids controller.
    pub(crate) const fn on_host(self, has_controller: bool) -> Option<u64> {
        match self {
            Self::Default if has_controller => Some(Self::DEFAULT),
            Self::Default | Self::Unlimited => None,
            Self::Limit(limit) => Some(limit),
        }
    }
}
