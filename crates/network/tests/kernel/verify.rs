use podrun_netlink::{LinkChange, NewAddress, PortOptions, Rtnetlink};
use podrun_spec::model::Protocol;
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{Machine, Pod, differences, on_a_machine, port, tamper_with_tables};

/// Changes something, expects one complaint about it that begins so, and changes it back.
#[track_caller]
fn tamper(machine: &Machine, pod: &Pod, begins: &str, change: impl FnOnce(), undo: impl FnOnce()) {
    change();
    let found = differences(machine, pod);
    assert!(found.len() == 1 && found[0].starts_with(begins), "{begins}: {found:#?}");
    undo();
    assert_eq!(differences(machine, pod), [""; 0], "after {begins}");
}

fn change(link: &str, change: &LinkChange<'_>) {
    Rtnetlink::open().unwrap().change_link(link, change).unwrap();
}

/// Deletes something of nftables: a message kind, and the names of table and chain or set.
fn nft_delete(family: u8, kind: u8, fill: impl FnOnce(&mut podrun_netlink::Body), table: &str) {
    tamper_with_tables(family, kind, |body| {
        body.text(1, table);
        fill(body);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn every_single_tampering_is_named() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let pod = machine.pod("uid-a", &[port(Protocol::Tcp, 8080, 80)]);
        assert_eq!(differences(machine, &pod), [""; 0]);
        let (bridge, host) = (machine.names.bridge.as_str(), pod.plan.host_interface.as_str());
        let tamper =
            |begins: &str, change: &dyn Fn(), undo: &dyn Fn()| tamper(machine, &pod, begins, change, undo);

        tamper(
            &format!("link {bridge:?}, address fd00:91::1/64"),
            &|| {
                let mut route = Rtnetlink::open().unwrap();
                let index = route.link(bridge).unwrap().index;
                assert!(route.delete_address(index, "fd00:91::1/64".parse().unwrap()).unwrap());
            },
            &|| {
                let mut route = Rtnetlink::open().unwrap();
                let index = route.link(bridge).unwrap().index;
                route
                    .add_address(index, &NewAddress::new("fd00:91::1/64".parse().unwrap()).no_dad())
                    .unwrap();
            },
        );
        tamper(
            &format!("link {host:?}, up: true expected, found false"),
            &|| change(host, &LinkChange::new().down()),
            &|| change(host, &LinkChange::new().up()),
        );
        tamper(
            &format!("link {host:?}, mtu: 1500 expected, found 1400"),
            &|| change(host, &LinkChange::new().mtu(1400)),
            &|| change(host, &LinkChange::new().mtu(1500)),
        );
        tamper(&format!("link {host:?}, alias"), &|| change(host, &LinkChange::new().alias("mine")), &|| {
            change(host, &LinkChange::new().alias(&format!("{bridge} pod uid-a")));
        });
        tamper(
            &format!("link {host:?}, hairpin: true expected, found false"),
            &|| change(host, &LinkChange::new().port(PortOptions::new().hairpin(false))),
            &|| change(host, &LinkChange::new().port(PortOptions::new().hairpin(true))),
        );
        let forward = |value: &'static str| std::fs::write("/proc/sys/net/ipv4/ip_forward", value).unwrap();
        tamper("net.ipv4.ip_forward: Some(\"1\") expected, found Some(\"0\")", &|| forward("0"), &|| {
            forward("1");
        });

        let inside = |change: &dyn Fn(&mut Rtnetlink)| change(&mut Rtnetlink::open_in(&pod.netns.0).unwrap());
        let route = podrun_netlink::Route::default_via("fd00:91::1".parse().unwrap());
        tamper(
            "link \"eth0\" of the pod, default route by way of fd00:91::1",
            &|| inside(&|pod| assert!(pod.delete_route(&route).unwrap())),
            &|| inside(&|pod| assert_eq!(pod.add_route(&route).unwrap(), podrun_netlink::Existing::New)),
        );
        tamper(
            "link \"eth0\" of the pod, mac",
            &|| {
                inside(&|pod| {
                    pod.change_link("eth0", &LinkChange::new().mac(podrun_netlink::MacAddress::new([2; 6])))
                        .unwrap();
                });
            },
            &|| {
                let [a, b, c, d] = match pod.addresses[0] {
                    std::net::IpAddr::V4(ip) => ip.octets(),
                    std::net::IpAddr::V6(_) => unreachable!(),
                };
                let mac = podrun_netlink::MacAddress::new([0x0a, 0x58, a, b, c, d]);
                inside(&|pod| pod.change_link("eth0", &LinkChange::new().mac(mac)).unwrap());
            },
        );
        machine.remove(pod);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn rules_and_entries_are_compared_too() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let pod = machine.pod("uid-a", &[port(Protocol::Tcp, 8080, 80)]);
        let table = machine.names.table.as_str();
        assert_eq!(differences(machine, &pod), [""; 0]);
        // All rules of a chain.
        nft_delete(
            7,
            8,
            |body| {
                body.text(2, "prerouting");
            },
            table,
        );
        let found = differences(machine, &pod);
        assert_eq!(
            found,
            [format!("table bridge {table}, chain prerouting, rule 1: there expected, found nothing")]
        );
        // The entry of a port: TCP and 8080.
        let key = [6, 0, 0, 0, 0x1f, 0x90, 0, 0];
        nft_delete(
            1,
            14,
            |body| {
                body.text(2, "ports4").nest(3, |list| {
                    list.nest(1, |element| {
                        element.nest(1, |value| {
                            value.bytes(1, &key);
                        });
                    });
                });
            },
            table,
        );
        let found = differences(machine, &pod);
        assert!(
            found.iter().any(|line| line.starts_with("table inet") && line.contains("set ports4, element")),
            "{found:#?}"
        );
        // The whole table.
        nft_delete(1, 2, |_| (), table);
        let found = differences(machine, &pod);
        assert!(
            found.iter().any(|line| line.contains("chain postrouting: there expected, found nothing")),
            "{found:#?}"
        );
        machine.remove(pod);
    });
}
