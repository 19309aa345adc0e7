//! What somebody has taken away is put back, by asking for it or with the next Pod.

use std::net::SocketAddr;
use std::os::fd::AsFd as _;

use podrun_netlink::{LinkChange, NewLink, Rtnetlink};
use podrun_plan::model::{BandwidthPlan, RatePlan};
use podrun_plan::names::LinkNames;
use podrun_spec::model::Protocol;
use podrun_tc::{Handle, TrafficControl};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{
    Machine, Mirror, NEIGHBOUR, OWN, PATIENCE, Pod, SILENCE, ask, call, differences, flush_ruleset,
    on_a_machine, port, tamper_with_tables, udp,
};

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

/// Sees that a Pod's ports lead to it, from elsewhere and from the machine itself.
#[track_caller]
fn serves(machine: &Machine, pod: &Pod) {
    let _mirrors = (Mirror::tcp(&pod.netns, 80), Mirror::udp(&pod.netns, 53));
    let neighbour = &machine.neighbour;
    assert_eq!(neighbour.enter(|| call(at(OWN, 8080))).unwrap(), NEIGHBOUR);
    assert!(call(at("127.0.0.1", 8080)).is_ok());
    let to = at(OWN, 8053);
    assert_eq!(neighbour.enter(|| ask(&udp(to), to, PATIENCE)).as_deref(), Some(NEIGHBOUR));
}

fn limited(machine: &Machine, uid: &str) -> Pod {
    let rate = Some(RatePlan { bits_per_second: 50_000_000, burst_bytes: None });
    let bandwidth = BandwidthPlan {
        ingress: rate,
        egress: rate,
        egress_device: LinkNames::of(uid, &machine.names.bridge).shaper,
        unshaped: Vec::new(),
        cni: false,
    };
    machine.pod_with(uid, &[port(Protocol::Tcp, 8080, 80), port(Protocol::Udp, 8053, 53)], Some(bandwidth))
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_flushed_ruleset_is_made_again_with_the_next_pod() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let pod = limited(machine, "uid-a");
        machine.network.reserve("uid-host", &[port(Protocol::Tcp, 22, 22)]).unwrap();
        flush_ruleset();
        assert!(machine.neighbour.enter(|| call(at(OWN, 8080))).is_err(), "nothing leads to the Pod");
        // A client that goes on sending meanwhile must not be led astray for ever.
        let to = at(OWN, 8053);
        let client = machine.neighbour.enter(|| udp(to));
        assert_eq!(ask(&client, to, SILENCE), None);
        assert!(!differences(machine, &pod).is_empty());

        let next = machine.pod("uid-b", &[]);
        assert_eq!(differences(machine, &pod), [""; 0]);
        assert_eq!(differences(machine, &next), [""; 0]);
        serves(machine, &pod);
        let mirror = Mirror::udp(&pod.netns, 53);
        assert_eq!(ask(&client, to, PATIENCE).as_deref(), Some(NEIGHBOUR));
        drop(mirror);
        // The port of the Pod in the host's network leads nowhere, as before.
        let ssh = std::net::TcpListener::bind("127.0.0.1:22").unwrap();
        assert!(std::net::TcpStream::connect("127.0.0.1:22").is_ok());
        drop(ssh);
        machine.network.teardown("uid-host").unwrap();
        machine.remove(next);
        machine.remove(pod);
        assert!(machine.network.collect(|_| false).unwrap().elements == 0, "no entry is left of either");
    });
}

/// Tampers, sees that it was noticed, repairs, and sees that all is as it was.
#[track_caller]
fn check(machine: &Machine, pod: &Pod, name: &str, tamper: impl FnOnce()) {
    tamper();
    assert!(!differences(machine, pod).is_empty(), "{name}");
    machine.network.repair_node().unwrap();
    machine.network.repair_pod(pod.wanted(), pod.netns.0.as_fd()).unwrap();
    assert_eq!(differences(machine, pod), [""; 0], "{name}");
    serves(machine, pod);
}

#[test]
#[file_serial(kernel)]
#[serial]
fn every_single_tampering_is_repaired() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let pod = limited(machine, "uid-a");
        let other = machine.pod("uid-b", &[]);
        let (bridge, table) = (machine.names.bridge.as_str(), machine.names.table.as_str());
        let names = LinkNames::of("uid-a", bridge);
        let route = || Rtnetlink::open().unwrap();
        let index = |name: &str| route().link(name).unwrap().index;
        let change = |name: &str, change: &LinkChange<'_>| route().change_link(name, change).unwrap();
        let with_tc = |body: &dyn Fn(&mut TrafficControl<'_>)| {
            body(&mut TrafficControl::new(&mut route()).unwrap());
        };
        let inside = |body: &dyn Fn(&mut Rtnetlink)| body(&mut Rtnetlink::open_in(&pod.netns.0).unwrap());
        let check = |name: &str, tamper: &dyn Fn()| check(machine, &pod, name, tamper);

        check("all tables", &flush_ruleset);
        check("all rules, but not the stamp", &|| {
            tamper_with_tables(1, 8, |body| {
                body.text(1, table);
            });
        });
        check("all entries of a map", &|| {
            tamper_with_tables(1, 14, |body| {
                body.text(1, table).text(2, "ports4");
            });
        });
        check("the bridge", &|| assert!(route().delete_link(bridge).unwrap()));
        assert_eq!(differences(machine, &other), [""; 0], "its link is at the new bridge too");
        check("an address of the bridge", &|| {
            assert!(route().delete_address(index(bridge), "10.91.0.1/24".parse().unwrap()).unwrap());
        });
        check("a kernel parameter", &|| std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap());
        check("the link", &|| assert!(route().delete_link(names.host.as_str()).unwrap()));
        check("its state", &|| change(&names.host, &LinkChange::new().down()));
        check("its place", &|| change(&names.host, &LinkChange::new().master(0)));
        check("the address of the Pod", &|| {
            inside(&|pod| {
                let link = pod.link("eth0").unwrap().index;
                let all = pod.addresses(Some(link)).unwrap();
                let ipv4 = all.iter().find(|found| found.network.addr().is_ipv4()).unwrap();
                assert!(pod.delete_address(link, ipv4.network).unwrap());
            });
        });
        check("its route", &|| {
            let default = podrun_netlink::Route::default_via("10.91.0.1".parse().unwrap());
            inside(&|pod| assert!(pod.delete_route(&default).unwrap()));
        });
        check("its limit", &|| {
            with_tc(&|tc| assert!(tc.delete_qdisc(index(&names.host), Handle::ROOT).unwrap()));
        });
        check("its filter", &|| {
            with_tc(&|tc| assert!(tc.delete_qdisc(index(&names.host), Handle::INGRESS).unwrap()));
        });
        check("its ifb", &|| assert!(route().delete_link(names.shaper.as_str()).unwrap()));
        // A stranger's of that name is not ours to change.
        route().delete_link(bridge).unwrap();
        route().create_link(&NewLink::ifb(bridge)).unwrap();
        let error = machine.network.repair_node().unwrap_err();
        assert!(error.to_string().contains("a link of kind \"ifb\" has that name"), "{error}");
        route().delete_link(bridge).unwrap();
        machine.network.repair_node().unwrap();
        machine.remove(pod);
        machine.remove(other);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn where_no_pod_is_nothing_is_repaired() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        machine.network.repair_node().unwrap();
        let pod = machine.pod("uid-a", &[]);
        let netns = pod.netns.0.as_fd().try_clone_to_owned().unwrap();
        let plan = pod.plan.clone();
        machine.remove(pod);
        machine.network.remove_if_unused().unwrap();
        machine.network.repair_node().unwrap();
        // Of a Pod that is being taken down nothing is made again.
        let wanted = podrun_network::Wanted { uid: "uid-a", plan: &plan, ports: &[] };
        machine.network.repair_pod(wanted, netns.as_fd()).unwrap();
        let left = Rtnetlink::open().unwrap().find_link(machine.names.bridge.as_str()).unwrap();
        assert_eq!(left, None);
    });
}
