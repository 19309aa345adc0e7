//! The options that say how Pods are run on this machine.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

/// How Pods are run on this machine.
#[derive(Clone, Debug, Args)]
pub(crate) struct NodeArgs {
    /// What to do with limits that this host cannot enforce.
    #[arg(long, value_enum, default_value_t = Unenforced::Refuse, env = "PODRUN_UNENFORCED_LIMITS", value_name = "WHAT")]
    pub(crate) unenforced_limits: Unenforced,
    /// Processes that one Pod may have; -1 is unlimited. [default: 4096 where the pids controller is available]
    #[arg(long, allow_negative_numbers = true, value_name = "N")]
    pub(crate) pod_max_pids: Option<i64>,
    /// Throttle memory above the request (memory.high), as the kubelet's MemoryQoS.
    #[arg(long)]
    pub(crate) memory_qos: bool,
    /// Name of this machine in place of its host name.
    #[arg(long, env = "PODRUN_NODE_NAME", value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// A label of this machine beside those of the configuration file; may be given several times.
    #[arg(long = "node-label", value_parser = label, value_name = "KEY=VALUE")]
    pub(crate) node_labels: Vec<(String, String)>,
    /// What Pods get of the network that are not in the host's.
    #[arg(long, value_enum, default_value_t = PodNetworkArg::Bridge, env = "PODRUN_NETWORK", value_name = "WHAT")]
    pub(crate) network: PodNetworkArg,
    /// Subnets of the Pods: one of IPv4 and perhaps one of IPv6, separated by a comma. [default: an unused one of IPv4]
    #[arg(long, env = "PODRUN_POD_CIDR", value_delimiter = ',', value_name = "CIDR")]
    pub(crate) pod_cidr: Vec<ipnet::IpNet>,
    /// The file that the resolver's settings of Pods are made of; empty gives them none. [default: the machine's]
    #[arg(long, env = "PODRUN_RESOLV_CONF", value_name = "FILE")]
    pub(crate) resolv_conf: Option<PathBuf>,
    /// Name servers of the cluster, for Pods with the DNS policy ClusterFirst.
    #[arg(long, value_delimiter = ',', value_name = "IP")]
    pub(crate) cluster_dns: Vec<std::net::IpAddr>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local", value_name = "NAME")]
    pub(crate) cluster_domain: String,
}

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or_else(|| "expected KEY=VALUE".to_owned())?;
    match podrun_spec::label_faults(key, value).into_iter().next() {
        Some(why) => Err(why),
        None => Ok((key.to_owned(), value.to_owned())),
    }
}

/// What Pods get of the network that are not in the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum PodNetworkArg {
    /// An address at the machine's bridge.
    Bridge,
    /// Loopback alone.
    None,
}

/// What to do with a limit that the host cannot enforce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Unenforced {
    /// Refuse the Pod.
    Refuse,
    /// Run it without the limit and say so in an event.
    Warn,
}
