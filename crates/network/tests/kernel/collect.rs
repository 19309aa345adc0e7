use podrun_netlink::{LinkFilter, NewLink, Rtnetlink};
use podrun_spec::model::Protocol;
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{on_a_machine, port};

fn links() -> Vec<String> {
    Rtnetlink::open().unwrap().links(LinkFilter::new()).unwrap().into_iter().map(|link| link.name).collect()
}

#[test]
#[file_serial(kernel)]
#[serial]
fn what_is_nobodys_goes_and_nothing_else() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let kept = machine.pod("uid-kept", &[port(Protocol::Tcp, 81, 80)]);
        let orphan = machine.pod("uid-gone", &[port(Protocol::Tcp, 82, 80), port(Protocol::Udp, 82, 80)]);
        let host = orphan.plan.host_interface.clone();
        let mut route = Rtnetlink::open().unwrap();
        // Somebody else's, of another podrun and without a name.
        route.create_link(&NewLink::ifb("other").alias("podrun-other000 pod uid-gone")).unwrap();
        route.create_link(&NewLink::ifb("unnamed")).unwrap();

        assert!(machine.network.collect(|_| true).unwrap().is_empty());
        let collected = machine.network.collect(|uid| uid == "uid-kept").unwrap();
        assert_eq!(collected.links, std::slice::from_ref(&host));
        assert_eq!((collected.leases, collected.bridge), (3, None));
        // Itself, ARP, IPv4, three of IPv6; two ports of two families.
        assert_eq!(collected.elements, 10);
        assert!(!links().contains(&host) && links().contains(&"other".to_owned()));
        assert!(
            machine
                .network
                .verify_pod(kept.wanted(), std::os::fd::AsFd::as_fd(&kept.netns.0))
                .unwrap()
                .is_empty()
        );

        machine.remove(kept);
        let collected = machine.network.collect(|_| false).unwrap();
        assert_eq!(collected.bridge.as_deref(), Some(machine.names.bridge.as_str()));
        assert!(machine.network.collect(|_| false).unwrap().is_empty());
        assert_eq!(links(), ["lo", "eth0", "other", "unnamed"]);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_link_without_an_alias_goes_by_its_lease() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let lock = machine.network.leases().lock().unwrap();
        machine.network.leases().acquire(&lock, "uid-gone", "10.91.0.0/24".parse().unwrap()).unwrap();
        drop(lock);
        let name = machine.plan("uid-gone").host_interface;
        Rtnetlink::open().unwrap().create_link(&NewLink::ifb(&name)).unwrap();
        let collected = machine.network.collect(|_| false).unwrap();
        assert_eq!((collected.links, collected.leases), (vec![name], 1));
    });
}
