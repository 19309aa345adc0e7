//! Ports of the node that Pods hold (`pkg/scheduler/framework/plugins/nodeports`).

use podrun_spec::model::{ContainerKind, PodSpec, Protocol};
use serde::{Deserialize, Serialize};

use super::{Claim, Refusal};

/// All addresses of the node.
const ANY: &str = "0.0.0.0";

/// A port of the node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostPort {
    /// The address; `0.0.0.0` is all of them.
    pub ip: String,
    /// Transport protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
}

impl HostPort {
    fn conflicts_with(&self, other: &Self) -> bool {
        let same_address = self.ip == other.ip || self.ip == ANY || other.ip == ANY;
        same_address && self.protocol == other.protocol && self.port == other.port
    }
}

/// Returns the ports that a Pod holds as long as it runs: those of regular containers and sidecars.
pub(super) fn of(spec: &PodSpec) -> Vec<HostPort> {
    let lasting = spec.all_containers().filter(|(kind, _)| *kind != ContainerKind::Init);
    let ports = lasting.flat_map(|(_, container)| &container.ports);
    ports
        .filter_map(|port| {
            let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ANY).to_owned();
            port.host_port.map(|number| HostPort { ip, protocol: port.protocol, port: number })
        })
        .collect()
}

pub(super) fn check(wanted: &[HostPort], held: &[Claim]) -> Option<Refusal> {
    let taken = |port: &HostPort| held.iter().flat_map(|claim| &claim.ports).any(|p| p.conflicts_with(port));
    wanted
        .iter()
        .any(taken)
        .then(|| Refusal::node("node(s) didn't have free ports for the requested pod ports", true))
}
