//! The part of the plan that is about the network.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use podrun_spec::model::{HostAlias, Protocol};
use serde::{Deserialize, Serialize};

use super::is_default;

/// A Pod's place in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NetworkPlan {
    /// Where it is.
    #[serde(flatten)]
    pub attachment: Attachment,
    /// Ports of the machine that are the Pod's. They lead to it, unless it is in the host's network: then they are only
    /// kept from others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortMapping>,
    /// What /etc/hosts is made of, once the Pod's addresses are known.
    #[serde(skip_serializing_if = "is_default", default)]
    pub hosts: HostsPlan,
}

/// Where a Pod is in the network.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "mode")]
pub enum Attachment {
    /// In the host's network namespace.
    Host,
    /// In one of its own that leads nowhere.
    #[default]
    Loopback,
    /// In one of its own, at the machine's bridge.
    Bridge(Box<BridgePlan>),
}

/// A Pod at the machine's bridge.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BridgePlan {
    /// The bridge: `podrun0`.
    pub bridge: String,
    /// The nftables tables with masquerade, host ports and the filter of the Pods' ports: `podrun`.
    pub table: String,
    /// Subnets that the Pods' addresses are of; none lets podrun take one that no route of the machine leads to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subnets: Vec<IpNet>,
    /// The Pod's interface: `eth0`.
    pub interface: String,
    /// Its end on the host.
    pub host_interface: String,
    /// What the Pod may send and receive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth: Option<BandwidthPlan>,
}

/// What a Pod may send and receive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BandwidthPlan {
    /// Towards the Pod: a shaper on the host's end of its link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<RatePlan>,
    /// From the Pod: a shaper on a device that its traffic is led through.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<RatePlan>,
    /// That device.
    pub egress_device: String,
    /// Traffic with these is not limited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unshaped: Vec<IpNet>,
    /// The numbers of the CNI plugin instead of podrun's.
    #[serde(default, skip_serializing_if = "is_default")]
    pub cni: bool,
}

/// A limit of bandwidth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RatePlan {
    /// Bits per second.
    pub bits_per_second: u64,
    /// Bytes that may pass at once after a pause; none takes what suits the rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst_bytes: Option<u64>,
}

/// A port of the machine that is a Pod's.
///
/// Printed as `8080/TCP`, with its address on the machine where it has one: `127.0.0.1:8080/TCP`, `[fd00::1]:53/UDP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PortMapping {
    /// Transport.
    pub protocol: Protocol,
    /// Address of the machine; none is all of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<IpAddr>,
    /// Port of the machine, 1 to 65535.
    pub host_port: u16,
    /// Port of the Pod, 1 to 65535.
    pub container_port: u16,
}

impl PortMapping {
    /// Returns whether both claim one port of one address.
    ///
    /// ```
    /// use podrun_plan::model::PortMapping;
    /// use podrun_spec::model::Protocol;
    /// let at = |ip: Option<&str>, host_port| PortMapping {
    ///     protocol: Protocol::Tcp,
    ///     host_ip: ip.map(|ip| ip.parse().unwrap()),
    ///     host_port,
    ///     container_port: 80,
    /// };
    /// assert!(at(None, 80).collides_with(&at(Some("127.0.0.1"), 80)));
    /// assert!(at(Some("0.0.0.0"), 80).collides_with(&at(Some("127.0.0.1"), 80)));
    /// assert!(!at(Some("0.0.0.0"), 80).collides_with(&at(Some("::"), 80)));
    /// assert!(!at(Some("127.0.0.1"), 80).collides_with(&at(Some("127.0.0.2"), 80)));
    /// assert!(!at(None, 80).collides_with(&at(None, 81)));
    /// ```
    pub fn collides_with(&self, other: &Self) -> bool {
        let overlap = match (self.host_ip, other.host_ip) {
            (None, _) | (_, None) => true,
            (Some(a), Some(b)) => {
                a.is_ipv4() == b.is_ipv4() && (a == b || a.is_unspecified() || b.is_unspecified())
            }
        };
        self.protocol == other.protocol && self.host_port == other.host_port && overlap
    }
}

impl fmt::Display for PortMapping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host_ip {
            Some(IpAddr::V6(ip)) => write!(f, "[{ip}]:")?,
            Some(IpAddr::V4(ip)) => write!(f, "{ip}:")?,
            None => {}
        }
        write!(f, "{}/{}", self.host_port, self.protocol)
    }
}

/// What /etc/hosts is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HostsPlan {
    /// The Pod's names, the fully qualified one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// The host's file, for a Pod in the host's network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of_host: Option<String>,
    /// `hostAliases`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub aliases: Vec<HostAlias>,
}
