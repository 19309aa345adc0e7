use std::net::SocketAddr;

use podrun_netlink::{LinkFilter, Rtnetlink};
use podrun_network::Error;
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{Mirror, NEIGHBOUR, NEIGHBOUR6, OWN, OWN6, call, on_a_machine};

const BOTH: &[&str] = &["10.91.0.0/24", "fd00:91::/64"];

#[test]
#[file_serial(kernel)]
#[serial]
fn pods_reach_each_other_and_the_world() {
    require!(root, netns);
    on_a_machine(BOTH, |machine| {
        let (a, b) = (machine.pod("uid-a", &[]), machine.pod("uid-b", &[]));
        let _mirrors = (Mirror::tcp(&b.netns, 80), Mirror::tcp(&machine.neighbour, 80));
        for family in 0..2 {
            // As itself to another Pod, and to the machine.
            let seen = a.netns.enter(|| call(SocketAddr::new(b.addresses[family], 80)));
            assert_eq!(seen.unwrap(), a.addresses[family].to_string());
            // As the machine to everybody else, who knows no way to Pods.
            let (there, own) = [(NEIGHBOUR, OWN), (NEIGHBOUR6, OWN6)][family];
            let seen = a.netns.enter(|| call(SocketAddr::new(there.parse().unwrap(), 80)));
            assert_eq!(seen.unwrap(), own);
            // And the machine reaches it.
            assert!(call(SocketAddr::new(b.addresses[family], 80)).is_ok());
        }
        machine.remove(a);
        machine.remove(b);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn the_last_pod_takes_the_bridge_along() {
    require!(root, netns);
    on_a_machine(&[], |machine| {
        let a = machine.pod("uid-a", &[]);
        assert!(!machine.network.remove_if_unused().unwrap());
        // The same again is no other Pod's.
        assert_eq!(machine.network.subnets().unwrap().unwrap().ipv4.to_string(), "10.88.0.0/20");
        machine.remove(a);
        assert!(machine.network.remove_if_unused().unwrap());
        assert!(!machine.network.remove_if_unused().unwrap());
        let links = Rtnetlink::open().unwrap().links(LinkFilter::new()).unwrap();
        assert_eq!(links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>(), ["lo", "eth0"]);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn subnets_change_only_without_pods() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let a = machine.pod("uid-a", &[]);
        let mut plan = machine.plan("uid-b");
        plan.subnets = vec!["10.92.0.0/24".parse().unwrap()];
        let netns = crate::machine::Netns::new();
        let wanted = podrun_network::Wanted { uid: "uid-b", plan: &plan, ports: &[] };
        let setup = || machine.network.setup(wanted, std::os::fd::AsFd::as_fd(&netns.0));
        assert!(matches!(setup(), Err(Error::SubnetsInUse { .. })));
        machine.remove(a);
        assert!(setup().unwrap()[0].to_string().starts_with("10.92.0."));
        machine.network.teardown("uid-b").unwrap();
        assert!(machine.network.remove_if_unused().unwrap());
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_setup_that_fails_leaves_nothing() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/29"], |machine| {
        let pods: Vec<_> = (0..5).map(|n| machine.pod(&format!("uid-{n}"), &[])).collect();
        assert!(matches!(machine.try_pod("uid-x", &[]), Err(Error::NoFreeAddress { .. })));
        for pod in pods {
            machine.remove(pod);
        }
        // The Pod's namespace has an interface of that name already: everything before is taken back.
        let netns = crate::machine::Netns::new();
        let mut inside = Rtnetlink::open_in(&netns.0).unwrap();
        inside.create_link(&podrun_netlink::NewLink::ifb("eth0")).unwrap();
        let plan = machine.plan("uid-x");
        let wanted = podrun_network::Wanted { uid: "uid-x", plan: &plan, ports: &[] };
        let error = machine.network.setup(wanted, std::os::fd::AsFd::as_fd(&netns.0)).unwrap_err();
        assert!(error.to_string().contains("create link"), "{error}");
        assert!(machine.network.leases().all().unwrap().is_empty());
        assert!(machine.network.remove_if_unused().unwrap());
    });
}
