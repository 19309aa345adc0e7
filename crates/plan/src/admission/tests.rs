//! Tables of Pods, nodes and verdicts.

use podrun_spec::model::{
    ContainerLife, ContainerPort, ContainerRestart, NodeOperator, NodeRequirement, NodeSelectorTerm,
    Protocol, RestartPolicy,
};
use podrun_spec::quantity::Quantity;

use super::*;
use crate::test_support::{container, limit, pod, request};

fn node() -> Node {
    let labels = [("kubernetes.io/os", "linux"), ("disk", "ssd"), ("cores", "8"), ("odd", "many")];
    let allocatable = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3"), ("hugepages-2Mi", "4Mi")];
    Node {
        name: "here".to_owned(),
        labels: labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
        allocatable: allocatable
            .map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).unwrap()))
            .into(),
        listeners: Vec::new(),
    }
}

fn requesting(requests: &[(&str, &str)]) -> Pod {
    let mut pod = pod("p");
    for (name, amount) in requests {
        request(&mut pod.spec.containers[0], name, amount);
    }
    pod
}

/// The reasons, or nothing for a Pod that fits.
fn reasons(pod: &Pod, held: &[Claim]) -> String {
    match admit(pod, &node(), held) {
        Admission::Fits => String::new(),
        Admission::Rejected(rejection) => format!("{}: {}", rejection.reason, rejection.message),
        Admission::Unschedulable { message } => {
            let rest = message.strip_prefix("0/1 nodes are available: ").expect("the scheduler's beginning");
            rest.split_once(". no new claims to deallocate, preemption: ").expect("its end").0.to_owned()
        }
    }
}

fn needs(key: &str, operator: NodeOperator, values: &[&str]) -> NodeRequirement {
    let values = values.iter().map(ToString::to_string).collect();
    NodeRequirement { key: key.to_owned(), operator, values }
}

#[test]
fn messages_are_those_of_the_scheduler() {
    let full = [Claim::of(&requesting(&[("cpu", "1500m")]))];
    for (pod, held, message) in [
        (
            requesting(&[("cpu", "1"), ("memory", "512Mi")]),
            &full[..],
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, preemption: 0/1 nodes are \
             available: 1 No preemption victims found for incoming pod.",
        ),
        (
            requesting(&[("memory", "2Gi"), ("cpu", "1")]),
            &full[..],
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. no new claims to deallocate, \
             preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
        ),
    ] {
        assert_eq!(admit(&pod, &node(), held), Admission::Unschedulable { message: message.to_owned() });
    }
}

#[test]
fn requests_of_all_pods_share_the_node() {
    let half = Claim::of(&requesting(&[("cpu", "1"), ("memory", "512Mi")]));
    for (requests, held, expected) in [
        (&[("cpu", "2"), ("memory", "1Gi")][..], 0, ""),
        (&[("cpu", "2001m")], 0, "1 Insufficient cpu"),
        (&[("cpu", "1"), ("memory", "512Mi")], 1, ""),
        (&[("cpu", "1001m"), ("memory", "1")], 1, "1 Insufficient cpu"),
        (&[("cpu", "1m"), ("memory", "1")], 2, "1 Insufficient cpu, 1 Insufficient memory"),
        (&[("cpu", "0")], 2, ""),
        (&[], 2, ""),
        (&[], 3, "1 Too many pods"),
        (&[("cpu", "1")], 3, "1 Insufficient cpu, 1 Too many pods"),
        (&[("hugepages-2Mi", "4Mi")], 0, ""),
        (&[("hugepages-2Mi", "6Mi")], 0, "1 Insufficient hugepages-2Mi"),
        (&[("example.com/gpu", "1")], 0, "1 Insufficient example.com/gpu"),
        (&[("ephemeral-storage", "1")], 0, "1 Insufficient ephemeral-storage"),
    ] {
        assert_eq!(
            reasons(&requesting(requests), &vec![half.clone(); held]),
            expected,
            "{requests:?} {held}"
        );
    }
}

#[test]
fn limits_are_no_claim_and_init_containers_count_by_their_peak() {
    let mut pod = requesting(&[("cpu", "1")]);
    limit(&mut pod.spec.containers[0], "memory", "1Gi");
    pod.spec.containers[0].resources.limits.insert("cpu".to_owned(), Quantity::from_units(64));
    assert_eq!(reasons(&pod, &[]), "");
    let mut init = container("i");
    request(&mut init, "cpu", "2");
    pod.spec.init_containers.push(init);
    assert_eq!(reasons(&pod, &[]), "", "init and regular containers do not run at the same time");
    request(&mut pod.spec.init_containers[0], "cpu", "3");
    assert_eq!(reasons(&pod, &[]), "1 Insufficient cpu");
}

#[test]
fn every_label_of_the_selector_must_be_there() {
    for (key, value, expected) in [
        ("disk", "ssd", ""),
        ("disk", "hdd", "1 node(s) didn't match Pod's node affinity/selector"),
        ("zone", "a", "1 node(s) didn't match Pod's node affinity/selector"),
    ] {
        let mut pod = pod("p");
        pod.spec.node_selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
        pod.spec.node_selector.insert(key.to_owned(), value.to_owned());
        assert_eq!(reasons(&pod, &[]), expected, "{key}={value}");
    }
}

#[test]
fn operators_of_the_affinity_compare_labels() {
    use NodeOperator::{DoesNotExist, Exists, Gt, In, Lt, NotIn};
    for (key, operator, values, fits) in [
        ("disk", In, &["hdd", "ssd"][..], true),
        ("disk", In, &["hdd"], false),
        ("zone", In, &["a"], false),
        ("disk", NotIn, &["hdd"], true),
        ("disk", NotIn, &["ssd"], false),
        ("zone", NotIn, &["a"], true),
        ("disk", Exists, &[], true),
        ("zone", Exists, &[], false),
        ("disk", DoesNotExist, &[], false),
        ("zone", DoesNotExist, &[], true),
        ("cores", Gt, &["7"], true),
        ("cores", Gt, &["8"], false),
        ("cores", Lt, &["9"], true),
        ("cores", Lt, &["8"], false),
        ("cores", Gt, &["-1"], true),
        ("odd", Gt, &["1"], false),
        ("odd", Lt, &["1"], false),
        ("zone", Gt, &["1"], false),
        ("cores", Gt, &["few"], false),
    ] {
        let mut pod = pod("p");
        let expressions = vec![needs(key, operator, values)];
        pod.spec.node_affinity = Some(vec![NodeSelectorTerm { expressions, fields: Vec::new() }]);
        let expected = if fits { "" } else { "1 node(s) didn't match Pod's node affinity/selector" };
        assert_eq!(reasons(&pod, &[]), expected, "{key} {operator:?} {values:?}");
    }
}

/// Expressions and fields.
type Term<'a> = (&'a [&'a NodeRequirement], &'a [&'a NodeRequirement]);

#[test]
fn terms_are_alternatives_and_their_expressions_are_not() {
    use NodeOperator::{In, NotIn};
    let (yes, no) = (needs("disk", In, &["ssd"]), needs("disk", NotIn, &["ssd"]));
    let (here, there) = (needs("metadata.name", In, &["here"]), needs("metadata.name", In, &["there"]));
    let not_here = needs("metadata.name", NotIn, &["here"]);
    let mismatch = "1 node(s) didn't match Pod's node affinity/selector";
    let elsewhere = "1 node(s) didn't satisfy plugin(s) [NodeAffinity]";
    let cases: [(&[Term<'_>], &str); 13] = [
        (&[(&[&yes], &[])], ""),
        (&[(&[&yes, &no], &[])], mismatch),
        (&[(&[&no], &[]), (&[&yes], &[])], ""),
        (&[], mismatch),
        (&[(&[], &[])], mismatch),
        (&[(&[], &[&here])], ""),
        (&[(&[&yes], &[&here])], ""),
        (&[(&[&no], &[&here])], mismatch),
        (&[(&[], &[&not_here])], mismatch),
        (&[(&[], &[&there])], elsewhere),
        (&[(&[], &[&there]), (&[&yes], &[])], ""),
        (&[(&[], &[&there]), (&[&no], &[&here])], mismatch),
        (&[(&[], &[&here, &there])], "pod affinity terms conflict"),
    ];
    let list = |requirements: &[&NodeRequirement]| requirements.iter().map(|&r| r.clone()).collect();
    for (terms, expected) in cases {
        let mut pod = pod("p");
        let term = |(expressions, fields): &Term<'_>| NodeSelectorTerm {
            expressions: list(expressions),
            fields: list(fields),
        };
        pod.spec.node_affinity = Some(terms.iter().map(term).collect());
        assert_eq!(reasons(&pod, &[]), expected, "{terms:?}");
        // The selector counts beside the affinity.
        pod.spec.node_selector.insert("disk".to_owned(), "hdd".to_owned());
        assert_ne!(reasons(&pod, &[]), "", "{terms:?}");
    }
}

#[test]
fn a_pod_may_name_its_node() {
    for (name, expected) in [("here", ""), ("there", "1 node(s) didn't match the requested node name")] {
        let mut pod = requesting(&[("cpu", if name == "here" { "1" } else { "64" })]);
        pod.spec.node_name = Some(name.to_owned());
        assert_eq!(reasons(&pod, &[]), expected, "the first plugin that says no gives the reason");
    }
}

fn with_port(ip: Option<&str>, protocol: Protocol, number: u16) -> Pod {
    let mut pod = pod("p");
    pod.spec.containers[0].ports.push(ContainerPort {
        name: None,
        container_port: 80,
        host_port: Some(number),
        host_ip: ip.map(str::to_owned),
        protocol,
    });
    pod
}

#[test]
fn ports_of_the_node_are_held_by_one_pod() {
    let conflict = "1 node(s) didn't have free ports for the requested pod ports";
    for (first, second, expected) in [
        ((None, Protocol::Tcp, 80), (None, Protocol::Tcp, 80), conflict),
        ((None, Protocol::Tcp, 80), (None, Protocol::Tcp, 81), ""),
        ((None, Protocol::Tcp, 80), (None, Protocol::Udp, 80), ""),
        ((None, Protocol::Tcp, 80), (Some("10.0.0.1"), Protocol::Tcp, 80), conflict),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), (Some("0.0.0.0"), Protocol::Tcp, 80), conflict),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), (Some("10.0.0.2"), Protocol::Tcp, 80), ""),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), (Some("10.0.0.1"), Protocol::Tcp, 80), conflict),
        ((Some("::"), Protocol::Tcp, 80), (Some("10.0.0.1"), Protocol::Tcp, 80), ""),
    ] {
        let (first, second) = (with_port(first.0, first.1, first.2), with_port(second.0, second.1, second.2));
        assert_eq!(reasons(&second, &[Claim::of(&first)]), expected, "{:?}", second.spec.containers[0].ports);
    }
}

#[test]
fn a_port_of_a_process_is_not_taken_away() {
    let conflict = "1 node(s) didn't have free ports for the requested pod ports";
    let listener = |address: &str, protocol, port| Listener {
        address: address.parse().unwrap(),
        protocol,
        port,
        inode: 7,
    };
    for (wanted, there, taken) in [
        ((None, Protocol::Tcp, 80), ("0.0.0.0", Protocol::Tcp, 80), true),
        ((None, Protocol::Tcp, 80), ("127.0.0.53", Protocol::Tcp, 80), true),
        ((None, Protocol::Tcp, 80), ("::1", Protocol::Tcp, 80), true),
        ((None, Protocol::Tcp, 80), ("0.0.0.0", Protocol::Tcp, 81), false),
        ((None, Protocol::Tcp, 80), ("0.0.0.0", Protocol::Udp, 80), false),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), ("0.0.0.0", Protocol::Tcp, 80), true),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), ("::", Protocol::Tcp, 80), true),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), ("10.0.0.1", Protocol::Tcp, 80), true),
        ((Some("10.0.0.1"), Protocol::Tcp, 80), ("127.0.0.1", Protocol::Tcp, 80), false),
        ((Some("fd00::1"), Protocol::Tcp, 80), ("0.0.0.0", Protocol::Tcp, 80), false),
        ((Some("::"), Protocol::Tcp, 80), ("fd00::1", Protocol::Tcp, 80), true),
        ((Some("::"), Protocol::Tcp, 80), ("127.0.0.1", Protocol::Tcp, 80), false),
    ] {
        let pod = with_port(wanted.0, wanted.1, wanted.2);
        let listeners = vec![listener("192.0.2.9", Protocol::Tcp, 80), listener(there.0, there.1, there.2)];
        let listeners = if wanted.0.is_none() { listeners[1..].to_vec() } else { listeners };
        let node = Node { listeners: listeners.clone(), ..node() };
        let refused = match admit(&pod, &node, &[]) {
            Admission::Fits => false,
            Admission::Unschedulable { message } => message.contains(conflict),
            Admission::Rejected(rejection) => panic!("{rejection:?}"),
        };
        assert_eq!(refused, taken, "{wanted:?} {there:?}");
        let holders: Vec<_> = taken_ports(&pod, &listeners, []).into_iter().map(|port| port.holder).collect();
        let expected = PortHolder::Socket(*listeners.last().unwrap());
        assert_eq!(holders, if taken { vec![expected] } else { Vec::new() }, "{wanted:?} {there:?}");
    }
}

#[test]
fn a_taken_port_names_its_holder() {
    let mut wanted = with_port(Some("10.0.0.1"), Protocol::Tcp, 80);
    wanted.spec.containers[0]
        .ports
        .extend(with_port(None, Protocol::Udp, 53).spec.containers[0].ports.clone());
    wanted.spec.containers[0]
        .ports
        .extend(with_port(None, Protocol::Tcp, 81).spec.containers[0].ports.clone());
    let mut first = with_port(None, Protocol::Tcp, 80);
    first.spec.containers[0].name = "web".to_owned();
    let mut old = Claim::of(&with_port(None, Protocol::Udp, 53));
    old.ports[0].container.clear();
    let held = [("u-1", Claim::default()), ("u-2", Claim::of(&first)), ("u-3", old)];
    let address = "0.0.0.0".parse().unwrap();
    // Of the two that listen at 80 the Pod is named: it has the right to the port.
    let listeners = [80, 81].map(|port| Listener { address, protocol: Protocol::Tcp, port, inode: 7 });
    let taken = taken_ports(&wanted, &listeners, held.iter().map(|(uid, claim)| (*uid, claim)));
    let texts: Vec<_> = taken.iter().map(|port| format!("{} {:?}", port.wanted, port.holder)).collect();
    let pod = |uid: &str, container: &str| PortHolder::Pod { uid: uid.into(), container: container.into() };
    assert_eq!(
        texts,
        [
            format!("10.0.0.1:80/TCP {:?}", pod("u-2", "web")),
            format!("53/UDP {:?}", pod("u-3", "")),
            format!("81/TCP {:?}", PortHolder::Socket(listeners[1])),
        ]
    );
    assert_eq!(taken[0].wanted.container, wanted.spec.containers[0].name);
}

#[test]
fn ports_of_sidecars_are_held_and_those_of_init_containers_are_not() {
    let port = || ContainerPort {
        name: None,
        container_port: 80,
        host_port: Some(80),
        host_ip: None,
        protocol: Protocol::Tcp,
    };
    for (policy, held) in [(None, 0), (Some(RestartPolicy::Always), 1)] {
        let mut pod = pod("p");
        let mut init = container("i");
        init.ports.push(port());
        init.life =
            ContainerLife { restart: ContainerRestart { policy, rules: Vec::new() }, ..init.life.clone() };
        pod.spec.init_containers.push(init);
        assert_eq!(Claim::of(&pod).ports.len(), held, "{policy:?}");
    }
}

#[test]
fn what_no_waiting_can_mend_is_rejected_first() {
    let mut pod = requesting(&[("cpu", "64")]);
    pod.spec.os = Some("linux".to_owned());
    assert_eq!(reasons(&pod, &[]), "1 Insufficient cpu");
    pod.spec.os = Some("windows".to_owned());
    assert_eq!(
        reasons(&pod, &[]),
        "PodOSNotSupported: Failed to admit pod as the OS field doesn't match node OS"
    );
    pod.spec.security.sysctls.insert("kernel.msgmax".to_owned(), "1".to_owned());
    assert_eq!(reasons(&pod, &[]), "SysctlForbidden: forbidden sysctl: \"kernel.msgmax\" not allowlisted");
}

#[test]
fn a_claim_outlives_the_process_that_made_it() {
    let mut pod = requesting(&[("cpu", "1500m")]);
    pod.spec.containers[0].ports.push(ContainerPort {
        name: None,
        container_port: 80,
        host_port: Some(8080),
        host_ip: None,
        protocol: Protocol::Udp,
    });
    let text = serde_json::to_string(&Claim::of(&pod)).unwrap();
    assert_eq!(serde_json::from_str::<Claim>(&text).unwrap(), Claim::of(&pod), "{text}");
}
