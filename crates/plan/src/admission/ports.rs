//! Ports of the node that Pods hold (`pkg/scheduler/framework/plugins/nodeports`).

use std::fmt;
use std::net::IpAddr;

use podrun_spec::model::{ContainerKind, Pod, PodSpec, Protocol};
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
    /// The container that asks for it; empty where an older podrun wrote it down.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub container: String,
}

/// A socket of the machine's network to which others may send what they have not been asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; `0.0.0.0` and `::` are everywhere.
    pub address: IpAddr,
    /// Transport protocol.
    pub protocol: Protocol,
    /// 1 to 65535.
    pub port: u16,
    /// By this number its process is found.
    pub inode: u64,
}

/// A port of the node that a Pod wants and that is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TakenPort {
    /// What the Pod wants.
    pub wanted: HostPort,
    /// Who has it.
    pub holder: PortHolder,
}

/// Who has a port of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortHolder {
    /// A container of another Pod.
    Pod {
        /// UID of the Pod.
        uid: String,
        /// Name of the container; empty where that is not known.
        container: String,
    },
    /// A process that listens there.
    Socket(Listener),
}

/// As `127.0.0.1:80/TCP`, and `80/TCP` on all addresses.
impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ip.as_str() {
            ANY => {}
            ip if ip.contains(':') => write!(f, "[{ip}]:")?,
            ip => write!(f, "{ip}:")?,
        }
        write!(f, "{}/{}", self.port, self.protocol)
    }
}

impl HostPort {
    fn conflicts_with(&self, other: &Self) -> bool {
        let same_address = self.ip == other.ip || self.ip == ANY || other.ip == ANY;
        same_address && self.protocol == other.protocol && self.port == other.port
    }

    /// Whether what is sent to the socket would go to the port instead. A socket at `::` hears IPv4 too, unless it was told not
    /// to, which nobody can see from outside.
    fn takes_from(&self, listener: &Listener) -> bool {
        let same_address = self.ip == ANY
            || self.ip.parse::<IpAddr>().is_ok_and(|wanted| match listener.address {
                IpAddr::V6(there) if there.is_unspecified() => true,
                there if there.is_unspecified() || wanted.is_unspecified() => {
                    wanted.is_ipv4() == there.is_ipv4()
                }
                there => wanted == there,
            });
        same_address && self.protocol == listener.protocol && self.port == listener.port
    }
}

/// Returns the ports that a Pod holds as long as it runs: those of regular containers and sidecars.
pub(super) fn of(spec: &PodSpec) -> Vec<HostPort> {
    let lasting = spec.all_containers().filter(|(kind, _)| *kind != ContainerKind::Init);
    let ports = lasting.flat_map(|(_, container)| container.ports.iter().map(|port| (&container.name, port)));
    ports
        .filter_map(|(container, port)| {
            let ip = port.host_ip.as_deref().filter(|ip| !ip.is_empty()).unwrap_or(ANY).to_owned();
            let (protocol, container) = (port.protocol, container.clone());
            port.host_port.map(|number| HostPort { ip, protocol, port: number, container })
        })
        .collect()
}

/// Returns the ports that a Pod wants and others have, each with its first holder, where `held` is by the UID of its Pod.
///
/// ```
/// use podrun_plan::admission::{Claim, PortHolder, taken_ports};
///
/// let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [
///     {name: web, image: i, ports: [{containerPort: 80, hostPort: 8080}]}]}}";
/// let pod = podrun_spec::parse("p.yaml", text)?.pods.remove(0).pod;
/// let held = Claim::of(&pod);
/// let taken = taken_ports(&pod, &[], [("uid-a", &held)]);
/// assert_eq!(taken[0].wanted.to_string(), "8080/TCP");
/// assert_eq!(taken[0].holder, PortHolder::Pod { uid: "uid-a".into(), container: "web".into() });
/// # Ok::<(), podrun_spec::Faults>(())
/// ```
pub fn taken_ports<'a>(
    pod: &Pod,
    listeners: &[Listener],
    held: impl IntoIterator<Item = (&'a str, &'a Claim)>,
) -> Vec<TakenPort> {
    let held: Vec<_> = held.into_iter().collect();
    let by_pod = |wanted: &HostPort| {
        held.iter().find_map(|(uid, claim)| {
            let theirs = claim.ports.iter().find(|port| port.conflicts_with(wanted))?;
            Some(PortHolder::Pod { uid: (*uid).to_owned(), container: theirs.container.clone() })
        })
    };
    let by_socket = |wanted: &HostPort| {
        listeners.iter().find(|listener| wanted.takes_from(listener)).copied().map(PortHolder::Socket)
    };
    let taken = of(&pod.spec).into_iter().filter_map(|wanted| {
        let holder = by_pod(&wanted).or_else(|| by_socket(&wanted))?;
        Some(TakenPort { wanted, holder })
    });
    taken.collect()
}

pub(super) fn check(wanted: &[HostPort], listeners: &[Listener], held: &[Claim]) -> Option<Refusal> {
    let taken = |port: &HostPort| {
        held.iter().flat_map(|claim| &claim.ports).any(|p| p.conflicts_with(port))
            || listeners.iter().any(|listener| port.takes_from(listener))
    };
    wanted
        .iter()
        .any(taken)
        .then(|| Refusal::node("node(s) didn't have free ports for the requested pod ports", true))
}
