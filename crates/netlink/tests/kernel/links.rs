use std::os::fd::AsFd as _;
use std::time::Duration;

use podrun_netlink::{
    BridgeOptions, Error, FdbEntry, LinkChange, LinkFilter, LinkKind, MacAddress, NewLink, OperState, Peer,
    PortOptions, Rtnetlink,
};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{another, in_new, veth};

#[test]
#[file_serial(kernel)]
#[serial]
fn the_peer_of_a_veth_is_born_in_its_namespace() {
    require!(root, netns);
    in_new(|here| {
        let netns = another();
        let mac = MacAddress::new([0x0a, 0x58, 10, 1, 2, 3]);
        let peer = Peer::new("eth0").in_netns(netns.as_fd()).mac(mac).mtu(1400);
        let index = here.create_link(&NewLink::veth("host0", peer).mtu(1450).alias("pod 4711").up()).unwrap();
        let host = here.link(index).unwrap();
        assert_eq!((host.name.as_str(), host.kind.as_deref(), host.mtu), ("host0", Some("veth"), 1450));
        assert_eq!(host.alias.as_deref(), Some("pod 4711"));
        assert!(host.is_up && host.state != OperState::Up, "the peer is down: {host:?}");
        assert!(here.find_link("eth0").unwrap().is_none());

        let mut there = Rtnetlink::open_in(&netns).unwrap();
        let peer = there.link("eth0").unwrap();
        assert_eq!((peer.mac, peer.mtu, peer.is_up), (Some(mac), 1400, false));
        assert_eq!(host.peer, Some(peer.index));
        assert!(host.peer_netns.is_some());
        there.set_up("eth0").unwrap();
        assert_eq!(here.link(index).unwrap().state, OperState::Up);

        assert!(here.delete_link(index).unwrap());
        assert!(there.find_link("eth0").unwrap().is_none());
        assert!(!here.delete_link(index).unwrap(), "twice is fine");
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_bridge_and_its_ports_keep_their_options() {
    require!(root, netns);
    in_new(|here| {
        let options = BridgeOptions::new()
            .ageing(Duration::from_secs(30))
            .forward_delay(Duration::from_secs(2))
            .stp(false);
        let bridge = here.create_link(&NewLink::bridge_with("br0", options).up()).unwrap();
        let found = here.link(bridge).unwrap().bridge.unwrap();
        assert_eq!(
            (found.ageing, found.forward_delay, found.stp),
            (options.ageing, options.forward_delay, Some(false))
        );
        // Kernels are built without these, and refuse even to switch them off.
        for options in
            [BridgeOptions::new().vlan_filtering(false), BridgeOptions::new().multicast_snooping(false)]
        {
            match here.change_link(bridge, &LinkChange::new().bridge(options)) {
                Ok(()) => {
                    let found = here.link(bridge).unwrap().bridge.unwrap();
                    assert!(options.vlan_filtering.is_none_or(|_| found.vlan_filtering == Some(false)));
                    assert!(
                        options.multicast_snooping.is_none_or(|_| found.multicast_snooping == Some(false))
                    );
                }
                Err(error) => assert!(error.is_unsupported(), "{error:?}"),
            }
        }

        let port = here.create_link(&NewLink::veth("a", Peer::new("b")).master(bridge)).unwrap();
        let defaults = here.link(port).unwrap();
        assert_eq!(defaults.master, Some(bridge));
        assert_eq!(defaults.port.unwrap().learning, Some(true));
        let wanted = PortOptions::new().hairpin(true).isolated(true).learning(false).unicast_flood(false);
        here.change_link(port, &LinkChange::new().port(wanted)).unwrap();
        let found = here.link(port).unwrap().port.unwrap();
        assert_eq!(
            (found.hairpin, found.isolated, found.learning, found.unicast_flood, found.broadcast_flood),
            (Some(true), Some(true), Some(false), Some(false), Some(true))
        );

        let faster = BridgeOptions::new().ageing(Duration::from_millis(500));
        here.change_link("br0", &LinkChange::new().bridge(faster)).unwrap();
        assert_eq!(here.link(bridge).unwrap().bridge.unwrap().ageing, Some(Duration::from_millis(500)));

        let ports = here.links(LinkFilter::new().master(bridge)).unwrap();
        assert_eq!(ports.iter().map(|link| link.index).collect::<Vec<_>>(), [port]);
        here.change_link(port, &LinkChange::new().no_master()).unwrap();
        assert_eq!(here.link(port).unwrap().master, None);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_link_changes_everything_it_may() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        let mac = MacAddress::new([2, 0, 0, 0, 0, 9]);
        let change = LinkChange::new()
            .down()
            .name("c")
            .mtu(9000)
            .tx_queue_length(17)
            .mac(mac)
            .alias("text")
            .no_link_local();
        here.change_link(a, &change).unwrap();
        let link = here.link("c").unwrap();
        assert_eq!((link.index, link.mtu, link.tx_queue_length), (a, 9000, 17));
        assert_eq!((link.mac, link.alias.as_deref(), link.is_up), (Some(mac), Some("text"), false));
        here.change_link(a, &LinkChange::new().alias("").up()).unwrap();
        assert_eq!(here.link("c").unwrap().alias, None);
        let addresses = here.addresses(Some(a)).unwrap();
        assert!(addresses.is_empty(), "no link-local address was asked for: {addresses:?}");
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_link_moves_by_the_descriptor_of_a_namespace() {
    require!(root, netns);
    in_new(|here| {
        let netns = another();
        let (a, _) = veth(here);
        here.change_link("b", &LinkChange::new().netns(netns.as_fd()).name("eth7")).unwrap_err();
        let b = here.link("b").unwrap().index;
        here.change_link(b, &LinkChange::new().down().netns(netns.as_fd()).name("eth7")).unwrap();
        assert!(here.find_link("eth7").unwrap().is_none());
        let mut there = Rtnetlink::open_in(&netns).unwrap();
        assert_eq!(there.link("eth7").unwrap().kind.as_deref(), Some("veth"));
        here.delete_link(a).unwrap();
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn an_ifb_is_found_by_its_kind() {
    require!(root, netns);
    in_new(|here| {
        let index = here.create_link(&NewLink::ifb("shape0").tx_queue_length(0).mtu(1400).up()).unwrap();
        veth(here);
        let ifbs = here.links(LinkFilter::new().kind("ifb")).unwrap();
        assert_eq!(ifbs.iter().map(|link| link.index).collect::<Vec<_>>(), [index]);
        assert_eq!((ifbs[0].mtu, ifbs[0].is_up), (1400, true));
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn errors_name_what_was_attempted_and_keep_the_errno() {
    require!(root, netns);
    in_new(|here| {
        veth(here);
        let error = here.create_link(&NewLink::ifb("a")).unwrap_err();
        assert!(error.already_exists(), "{error:?}");
        assert_eq!(error.to_string(), "create link \"a\" of kind ifb");
        let error = here.create_link(&NewLink::new("x", LinkKind::Other("no-such-kind"))).unwrap_err();
        assert!(error.is_unsupported());
        assert_eq!(error.kernel().unwrap().message.as_deref(), Some("Unknown device type"));
        let error = here.link("nothing").unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), "look up link \"nothing\"");
        let error = here.change_link(4711, &LinkChange::new().up()).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        let error = here.change_link("a", &LinkChange::new().mtu(70_000)).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        assert!(error.kernel().unwrap().message.is_some(), "{error:?}");
        let error = here.create_link(&NewLink::ifb("sixteen-bytes-xx")).unwrap_err();
        assert!(matches!(error, Error::InvalidName { .. }));
        let error = here.create_link(&NewLink::ifb("i").alias(&"x".repeat(256))).unwrap_err();
        assert!(matches!(error, Error::InvalidValue { .. }));
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn counters_move() {
    require!(root, netns);
    in_new(|here| {
        let (a, _) = veth(here);
        // Neighbour discovery speaks by itself as soon as the link is up.
        let before = here.link(a).unwrap().statistics;
        let address = "10.0.0.1/24".parse().unwrap();
        here.add_address(a, &podrun_netlink::NewAddress::new(address)).unwrap();
        let socket = std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
        let peer =
            podrun_netlink::Neighbour::permanent(a, "10.0.0.2".parse().unwrap(), MacAddress::new([2; 6]));
        here.set_neighbour(&peer).unwrap();
        socket.send_to(&[0; 1000], "10.0.0.2:9").unwrap();
        let after = here.link(a).unwrap().statistics;
        assert!(after.tx_bytes >= before.tx_bytes + 1000, "{before:?} {after:?}");
        assert!(after.tx_packets > before.tx_packets);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn an_address_is_fixed_behind_a_port() {
    require!(root, netns);
    in_new(|here| {
        let bridge = here.create_link(&NewLink::bridge("br0").up()).unwrap();
        let port = here.create_link(&NewLink::veth("a", Peer::new("b")).master(bridge).up()).unwrap();
        let other = here.create_link(&NewLink::veth("c", Peer::new("d")).master(bridge).up()).unwrap();
        let mac = MacAddress::new([2, 0, 0, 0, 0, 7]);
        for port in [port, other, port] {
            let entry = FdbEntry::fixed(port, mac);
            here.set_fdb_entry(&entry).unwrap();
            let found = here.fdb(bridge).unwrap();
            let found: Vec<_> =
                found.iter().filter(|found| found.mac == mac && found.vlan.is_none()).collect();
            assert_eq!(found, [&entry]);
        }
        assert!(here.delete_fdb_entry(port, mac).unwrap());
        assert!(!here.delete_fdb_entry(port, mac).unwrap());
        let error = here.set_fdb_entry(&FdbEntry::fixed(4711, mac)).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
    });
}
