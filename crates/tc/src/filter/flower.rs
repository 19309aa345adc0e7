//! Matching by fields.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use podrun_netlink::{Attributes, Body, Malformed};

use super::{Classifier, Filter, Options, action};
use crate::handle::Handle;

// enum in include/uapi/linux/pkt_cls.h
const TCA_FLOWER_CLASSID: u16 = 1;
const TCA_FLOWER_ACT: u16 = 3;
const TCA_FLOWER_KEY_ETH_TYPE: u16 = 8;
const TCA_FLOWER_KEY_IP_PROTO: u16 = 9;
/// Each is followed by its mask, and IPv6 by 4 more.
const TCA_FLOWER_KEY_IPV4_SRC: u16 = 10;
const TCA_FLOWER_KEY_IPV4_DST: u16 = 12;
const TCA_FLOWER_KEY_IPV6_SRC: u16 = 14;
const TCA_FLOWER_KEY_IPV6_DST: u16 = 16;
const TCA_FLOWER_KEY_TCP_DST: u16 = 19;
const TCA_FLOWER_KEY_UDP_DST: u16 = 21;
const TCA_FLOWER_FLAGS: u16 = 22;

const TCP: u8 = 6;
const UDP: u8 = 17;

/// Matches packets of which all fields that are set hold. The filter must be for IPv4 or IPv6.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Flower {
    /// Where packets come from.
    pub source: Option<IpNet>,
    /// Where they go.
    pub destination: Option<IpNet>,
    /// What is above IP: 6 for TCP, 17 for UDP.
    pub ip_protocol: Option<u8>,
    /// The port they go to; with TCP or UDP.
    pub destination_port: Option<u16>,
}

impl Flower {
    /// Matches everything.
    pub fn new() -> Self {
        Self::default()
    }

    /// And which come from a network.
    #[must_use]
    pub fn source(self, network: IpNet) -> Self {
        Self { source: Some(network.trunc()), ..self }
    }

    /// And which go to a network.
    #[must_use]
    pub fn destination(self, network: IpNet) -> Self {
        Self { destination: Some(network.trunc()), ..self }
    }

    /// And which are TCP, to a port.
    #[must_use]
    pub fn tcp(self, port: u16) -> Self {
        Self { ip_protocol: Some(TCP), destination_port: Some(port), ..self }
    }

    /// And which are UDP, to a port.
    #[must_use]
    pub fn udp(self, port: u16) -> Self {
        Self { ip_protocol: Some(UDP), destination_port: Some(port), ..self }
    }

    pub(super) fn write(&self, filter: &Filter, options: &mut Body) {
        if let Some(protocol) = self.ip_protocol {
            options.u8(TCA_FLOWER_KEY_IP_PROTO, protocol);
        }
        for (network, v4, v6) in [
            (self.destination, TCA_FLOWER_KEY_IPV4_DST, TCA_FLOWER_KEY_IPV6_DST),
            (self.source, TCA_FLOWER_KEY_IPV4_SRC, TCA_FLOWER_KEY_IPV6_SRC),
        ] {
            if let Some(network) = network {
                let kind = if network.addr().is_ipv4() { v4 } else { v6 };
                options.ip(kind, network.addr()).ip(kind + 1, network.netmask());
            }
        }
        if let Some(port) = self.destination_port {
            let is_udp = self.ip_protocol == Some(UDP);
            // Without a mask all bits count.
            options.be16(if is_udp { TCA_FLOWER_KEY_UDP_DST } else { TCA_FLOWER_KEY_TCP_DST }, port);
        }
        filter.write_verdict(TCA_FLOWER_CLASSID, TCA_FLOWER_ACT, options);
        options.u32(TCA_FLOWER_FLAGS, 0).be16(TCA_FLOWER_KEY_ETH_TYPE, filter.protocol.ethertype());
    }

    pub(super) fn read(attributes: Attributes<'_>) -> Result<Options, Malformed> {
        let (mut class, mut actions, mut flower) = (None, <_>::default(), Self::default());
        let (mut source, mut destination) = ((None, None), (None, None));
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_FLOWER_CLASSID => class = Some(Handle::from_raw(attribute.u32()?)),
                TCA_FLOWER_ACT => actions = action::read(attribute.nested())?,
                TCA_FLOWER_KEY_IP_PROTO => flower.ip_protocol = Some(attribute.u8()?),
                TCA_FLOWER_KEY_TCP_DST | TCA_FLOWER_KEY_UDP_DST => {
                    flower.destination_port = Some(attribute.be16()?);
                }
                TCA_FLOWER_KEY_IPV4_SRC | TCA_FLOWER_KEY_IPV6_SRC => source.0 = Some(attribute.ip()?),
                TCA_FLOWER_KEY_IPV4_DST | TCA_FLOWER_KEY_IPV6_DST => destination.0 = Some(attribute.ip()?),
                kind if kind == TCA_FLOWER_KEY_IPV4_SRC + 1 || kind == TCA_FLOWER_KEY_IPV6_SRC + 1 => {
                    source.1 = Some(attribute.ip()?);
                }
                kind if kind == TCA_FLOWER_KEY_IPV4_DST + 1 || kind == TCA_FLOWER_KEY_IPV6_DST + 1 => {
                    destination.1 = Some(attribute.ip()?);
                }
                _ => {}
            }
        }
        flower.source = network(source);
        flower.destination = network(destination);
        Ok(Options { classifier: Classifier::Flower(flower), class, actions })
    }
}

fn network((address, mask): (Option<IpAddr>, Option<IpAddr>)) -> Option<IpNet> {
    IpNet::with_netmask(address?, mask?).ok()
}

impl fmt::Display for Flower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts = Vec::new();
        parts.extend(self.source.map(|network| format!("from {network}")));
        parts.extend(self.destination.map(|network| format!("to {network}")));
        parts.extend(self.ip_protocol.map(|protocol| format!("protocol {protocol}")));
        parts.extend(self.destination_port.map(|port| format!("port {port}")));
        f.pad(&if parts.is_empty() { "all".to_owned() } else { parts.join(", ") })
    }
}
