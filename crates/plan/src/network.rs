//! Where a Pod is in the network, and what of the machine leads to it.

use std::net::IpAddr;

use ipnet::IpNet;
use podrun_spec::model::Pod;

use crate::dns::resolv_conf;
use crate::facts::{HostFacts, PodNetwork};
use crate::fault::PlanFault;
use crate::hostname::HostName;
use crate::model::{
    Attachment, BandwidthPlan, BridgePlan, HostsPlan, NetworkPlan, Notice, PortMapping, RatePlan,
};
use crate::names::{LinkNames, NodeNames, POD_INTERFACE};

/// Returns the network of a Pod, the text of its resolv.conf, and what had to be left out of it. `name` is none where
/// the host's UTS and network namespaces are used.
pub(crate) fn network(
    pod: &Pod,
    uid: &str,
    name: Option<&HostName>,
    host: &HostFacts,
    faults: &mut Vec<PlanFault>,
) -> (NetworkPlan, String, Vec<Notice>) {
    let ports = ports(pod, faults);
    let (attachment, dns) = if pod.spec.host_network {
        (Attachment::Host, resolv_conf(pod, &host.network))
    } else {
        match host.network.pod_network {
            PodNetwork::Bridge => (
                Attachment::Bridge(Box::new(bridge(pod, uid, host, faults))),
                resolv_conf(pod, &host.network),
            ),
            PodNetwork::None => {
                faults.extend(
                    ports.iter().map(|port| PlanFault::HostPortWithoutNetwork { port: port.to_string() }),
                );
                // A network of its own that leads nowhere has no name servers.
                (Attachment::Loopback, (String::new(), Vec::new()))
            }
        }
    };
    let hosts = HostsPlan {
        names: name.map(HostName::names).unwrap_or_default(),
        of_host: name.is_none().then(|| host.network.hosts.clone()),
        aliases: pod.spec.host_aliases.clone(),
    };
    let (resolv_conf, notices) = dns;
    (NetworkPlan { attachment, ports, hosts }, resolv_conf, notices)
}

fn bridge(pod: &Pod, uid: &str, host: &HostFacts, faults: &mut Vec<PlanFault>) -> BridgePlan {
    let node = NodeNames::of(&host.run_dir);
    let links = LinkNames::of(uid, &node.bridge);
    BridgePlan {
        bridge: node.bridge,
        table: node.table,
        subnets: host.network.pod_cidr.clone(),
        interface: POD_INTERFACE.to_owned(),
        host_interface: links.host,
        bandwidth: bandwidth(pod, links.shaper, faults),
    }
}

/// Returns the ports of the machine that the Pod claims: those of regular containers, as the kubelet takes them.
fn ports(pod: &Pod, faults: &mut Vec<PlanFault>) -> Vec<PortMapping> {
    let mut mappings = Vec::new();
    for container in &pod.spec.containers {
        for port in &container.ports {
            let Some(host_port) = port.host_port.filter(|port| *port != 0) else { continue };
            let host_ip = match port.host_ip.as_deref().filter(|ip| !ip.is_empty()) {
                None => None,
                Some(text) => match text.parse::<IpAddr>() {
                    Ok(ip) => Some(ip),
                    // In the host's network it says nothing.
                    Err(_) if pod.spec.host_network => None,
                    Err(_) => {
                        let (container, value) = (container.name.clone(), text.to_owned());
                        faults.push(PlanFault::HostIp { container, value });
                        continue;
                    }
                },
            };
            let (protocol, container_port) = (port.protocol, port.container_port);
            mappings.push(PortMapping { protocol, host_ip, host_port, container_port });
        }
    }
    mappings
}

fn bandwidth(pod: &Pod, device: String, faults: &mut Vec<PlanFault>) -> Option<BandwidthPlan> {
    let wanted = &pod.spec.bandwidth;
    if wanted.ingress.is_none() && wanted.egress.is_none() {
        return None;
    }
    let rate = |bits: Option<u64>, burst: Option<u64>| {
        bits.map(|bits_per_second| RatePlan { bits_per_second, burst_bytes: burst })
    };
    let mut unshaped = Vec::new();
    for text in &wanted.unshaped {
        match text.parse::<IpNet>() {
            Ok(subnet) => unshaped.push(subnet.trunc()),
            Err(_) => faults.push(PlanFault::UnshapedSubnet { value: text.clone() }),
        }
    }
    Some(BandwidthPlan {
        ingress: rate(wanted.ingress, wanted.ingress_burst),
        egress: rate(wanted.egress, wanted.egress_burst),
        egress_device: device,
        unshaped,
        cni: wanted.cni,
    })
}

#[cfg(test)]
mod tests {
    use podrun_spec::model::{ContainerPort, Protocol};

    use super::*;
    use crate::test_support::{host, pod};

    fn port(host_port: Option<u16>, host_ip: Option<&str>) -> ContainerPort {
        let host_ip = host_ip.map(str::to_owned);
        ContainerPort { name: None, container_port: 80, host_port, host_ip, protocol: Protocol::Tcp }
    }

    fn planned(change: impl FnOnce(&mut Pod), host: &HostFacts) -> (NetworkPlan, Vec<String>) {
        let mut pod = pod("web");
        change(&mut pod);
        let name =
            (!pod.spec.host_network).then(|| crate::hostname::host_name(&pod, "cluster.local").unwrap());
        let mut faults = Vec::new();
        let (plan, ..) = network(&pod, "7f3c", name.as_ref(), host, &mut faults);
        (plan, faults.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn ports_of_regular_containers_are_claimed() {
        let (plan, faults) = planned(
            |pod| {
                pod.spec.containers[0].ports = vec![
                    port(None, None),
                    port(Some(0), None),
                    port(Some(8080), Some("")),
                    port(Some(81), Some("127.0.0.1")),
                    port(Some(82), Some("x")),
                ];
                let mut init = pod.spec.containers[0].clone();
                init.ports = vec![port(Some(9), None)];
                pod.spec.init_containers = vec![init];
            },
            &host(),
        );
        let texts: Vec<_> = plan.ports.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["8080/TCP", "127.0.0.1:81/TCP"]);
        assert_eq!(faults, ["container \"c\" asks for a port at hostIP \"x\", which is no IP address"]);
    }

    #[test]
    fn a_pod_is_where_it_and_the_host_say() {
        let attachment = |host_network: bool, pod_network: PodNetwork| {
            let mut host = host();
            host.network.pod_network = pod_network;
            planned(|pod| pod.spec.host_network = host_network, &host).0.attachment
        };
        assert_eq!(attachment(true, PodNetwork::Bridge), Attachment::Host);
        assert_eq!(attachment(true, PodNetwork::None), Attachment::Host);
        assert_eq!(attachment(false, PodNetwork::None), Attachment::Loopback);
        match attachment(false, PodNetwork::Bridge) {
            Attachment::Bridge(bridge) => {
                assert_eq!((bridge.bridge.as_str(), bridge.host_interface.len()), ("podrun0", 15));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_port_needs_a_network() {
        let mut host = host();
        host.network.pod_network = PodNetwork::None;
        let ports = |pod: &mut Pod| pod.spec.containers[0].ports = vec![port(Some(80), None)];
        assert_eq!(
            planned(ports, &host).1,
            ["host port 80/TCP cannot be opened: the Pod gets no network (--network=none)"]
        );
    }

    #[test]
    fn bandwidth_is_planned_where_it_is_wanted() {
        let of = |change: &dyn Fn(&mut Pod)| match planned(change, &host()).0.attachment {
            Attachment::Bridge(bridge) => bridge.bandwidth,
            other => panic!("{other:?}"),
        };
        assert_eq!(of(&|_| ()), None);
        let plan = of(&|pod| {
            pod.spec.bandwidth.egress = Some(10_000_000);
            pod.spec.bandwidth.egress_burst = Some(65536);
            pod.spec.bandwidth.unshaped = vec!["10.1.2.3/8".into()];
        });
        let plan = plan.unwrap();
        assert_eq!(plan.ingress, None);
        assert_eq!(plan.egress, Some(RatePlan { bits_per_second: 10_000_000, burst_bytes: Some(65536) }));
        assert_eq!(plan.unshaped, ["10.0.0.0/8".parse().unwrap()]);
    }
}
