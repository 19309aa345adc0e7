use std::net::{IpAddr, SocketAddr};

use podrun_network::Error;
use podrun_plan::model::PortMapping;
use podrun_spec::model::Protocol;
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{
    Mirror, NEIGHBOUR, OWN, OWN6, PATIENCE, SILENCE, ask, call, call_sctp, differences, on_a_machine, port,
    sctp, tamper_with_tables, udp,
};

const BOTH: &[&str] = &["10.91.0.0/24", "fd00:91::/64"];

fn at(ip: &str, port: u16) -> SocketAddr {
    SocketAddr::new(ip.parse().unwrap(), port)
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_host_port_leads_to_its_pod_from_everywhere() {
    require!(root, netns);
    on_a_machine(BOTH, |machine| {
        let ports = [port(Protocol::Tcp, 8080, 80), port(Protocol::Udp, 8053, 53)];
        let pod = machine.pod("uid-a", &ports);
        let other = machine.pod("uid-b", &[]);
        let _mirrors = (Mirror::tcp(&pod.netns, 80), Mirror::udp(&pod.netns, 53));
        let gateway = "10.91.0.1";

        // From elsewhere, which the Pod sees as it is.
        let neighbour = &machine.neighbour;
        assert_eq!(neighbour.enter(|| call(at(OWN, 8080))).unwrap(), NEIGHBOUR);
        assert_eq!(neighbour.enter(|| call(at(OWN6, 8080))).unwrap(), "2001:db8::2");
        let asked = |to: SocketAddr| ask(&udp(to), to, PATIENCE);
        assert_eq!(neighbour.enter(|| asked(at(OWN, 8053))).as_deref(), Some(NEIGHBOUR));
        // From the machine itself, by loopback and by its own address.
        assert_eq!(call(at("127.0.0.1", 8080)).unwrap(), gateway);
        assert_eq!(call(at("127.8.9.1", 8080)).unwrap(), gateway);
        assert_eq!(asked(at("127.0.0.1", 8053)).as_deref(), Some(gateway));
        assert_eq!(call(at(OWN, 8080)).unwrap(), OWN);
        assert!(call(at("::1", 8080)).is_err(), "no packet from ::1 may leave the machine");
        // From another Pod and from itself: the answer has to come back the same way.
        assert_eq!(other.netns.enter(|| call(at(OWN, 8080))).unwrap(), gateway);
        assert_eq!(other.netns.enter(|| call(at(gateway, 8080))).unwrap(), gateway);
        assert_eq!(pod.netns.enter(|| call(at(OWN, 8080))).unwrap(), gateway);
        assert_eq!(pod.netns.enter(|| call(at(OWN6, 8080))).unwrap(), "fd00:91::1");
        machine.remove(pod);
        assert!(call(at("127.0.0.1", 8080)).is_err());
        assert!(neighbour.enter(|| call(at(OWN, 8080))).is_err());
        machine.remove(other);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_host_port_of_sctp_leads_to_its_pod() {
    require!(root, netns);
    on_a_machine(BOTH, |machine| {
        let local =
            PortMapping { host_ip: Some("127.0.0.1".parse().unwrap()), ..port(Protocol::Sctp, 3869, 3868) };
        let pod = machine.pod("uid-a", &[port(Protocol::Sctp, 3868, 3868), local]);
        assert_eq!(differences(machine, &pod), [""; 0]);
        // The protocol's number, and the port; then the same with an address before it.
        let number = [132, 0, 0, 0, 0x0f, 0x1c, 0, 0];
        for (set, key, hex) in [
            ("ports4", number.to_vec(), "840000000f1c0000"),
            ("ports6", number.to_vec(), "840000000f1c0000"),
            (
                "ports4_at",
                [&[127, 0, 0, 1, 132, 0, 0, 0, 0x0f, 0x1d, 0, 0][..]].concat(),
                "7f000001840000000f1d0000",
            ),
        ] {
            delete_element(&machine.names.table, set, &key);
            let found = differences(machine, &pod);
            let expected = format!("table inet, set {set}, element {hex}: there expected, found nothing");
            assert_eq!(found, [expected]);
            machine.network.repair_pod(pod.wanted(), std::os::fd::AsFd::as_fd(&pod.netns.0)).unwrap();
            assert_eq!(differences(machine, &pod), [""; 0]);
        }
        match machine.neighbour.enter(sctp) {
            None => eprintln!("this kernel has no SCTP: nothing is sent"),
            Some(socket) => {
                let _mirror = Mirror::sctp(&pod.netns, 3868);
                let seen = machine.neighbour.enter(|| call_sctp(socket, at(OWN, 3868))).unwrap();
                assert_eq!(seen, NEIGHBOUR);
            }
        }
        machine.remove(pod);
    });
}

fn delete_element(table: &str, set: &str, key: &[u8]) {
    const DELETE_ELEMENT: u8 = 14;
    tamper_with_tables(1, DELETE_ELEMENT, |body| {
        body.text(1, table).text(2, set).nest(3, |list| {
            list.nest(1, |element| {
                element.nest(1, |value| {
                    value.bytes(1, key);
                });
            });
        });
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn that_port_of_others_is_not_touched() {
    require!(root, netns);
    on_a_machine(BOTH, |machine| {
        let pod = machine.pod("uid-a", &[port(Protocol::Tcp, 53, 53), port(Protocol::Udp, 53, 53)]);
        let other = machine.pod("uid-b", &[]);
        let _mirrors = (Mirror::tcp(&machine.neighbour, 53), Mirror::udp(&machine.neighbour, 53));
        // Nobody listens in the Pod that has the port: an answer can only be the neighbour's.
        for from in [&pod.netns, &other.netns] {
            assert_eq!(from.enter(|| call(at(NEIGHBOUR, 53))).unwrap(), OWN);
            let to = at(NEIGHBOUR, 53);
            assert_eq!(from.enter(|| ask(&udp(to), to, PATIENCE)).as_deref(), Some(OWN));
        }
        assert!(call(at(NEIGHBOUR, 53)).is_ok());
        machine.remove(pod);
        machine.remove(other);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_port_is_open_on_its_address_only() {
    require!(root, netns);
    on_a_machine(BOTH, |machine| {
        let on = |ip: &str, host_port| PortMapping {
            host_ip: Some(ip.parse::<IpAddr>().unwrap()),
            ..port(Protocol::Tcp, host_port, 80)
        };
        let pod = machine.pod("uid-a", &[on("127.0.0.1", 81), on(OWN, 82), on(OWN6, 83), on("0.0.0.0", 84)]);
        let _mirror = Mirror::tcp(&pod.netns, 80);
        let open = |ip: &str, port| call(at(ip, port)).is_ok();
        assert!(open("127.0.0.1", 81) && !open(OWN, 81));
        assert!(open(OWN, 82) && !open("127.0.0.1", 82));
        assert!(open(OWN6, 83) && !open(OWN, 83));
        assert!(open(OWN, 84) && open("127.0.0.1", 84) && !open(OWN6, 84));
        assert!(machine.neighbour.enter(|| !open(OWN, 81) && open(OWN, 82)));
        machine.remove(pod);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn the_machines_loopback_is_its_own() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let pod = machine.pod("uid-a", &[port(Protocol::Tcp, 8080, 80)]);
        let here = std::net::TcpListener::bind("127.0.0.1:9000").unwrap();
        assert!(std::net::TcpStream::connect("127.0.0.1:9000").is_ok());
        drop(here.accept().unwrap());
        here.set_nonblocking(true).unwrap();
        // With a route to it over its own interface, and not over its own loopback.
        pod.netns.enter(|| {
            let mut route = podrun_netlink::Rtnetlink::open().unwrap();
            route.delete_link("lo").unwrap_err();
            let index = route.link("eth0").unwrap().index;
            std::fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").unwrap();
            let lo = route.link("lo").unwrap().index;
            route.delete_address(lo, "127.0.0.1/8".parse().unwrap()).unwrap();
            let via = podrun_netlink::Route::to("127.0.0.1/32".parse().unwrap());
            route.add_route(&via.via("10.91.0.1".parse().unwrap()).dev(index)).unwrap();
            let to = at("127.0.0.1", 9000);
            assert!(std::net::TcpStream::connect_timeout(&to, SILENCE).is_err());
        });
        assert!(here.accept().is_err(), "nobody came");
        machine.remove(pod);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_taken_port_is_refused_with_its_holder() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let first = machine.pod("uid-a", &[port(Protocol::Tcp, 8080, 80)]);
        match machine.try_pod("uid-b", &[port(Protocol::Udp, 8080, 80), port(Protocol::Tcp, 8080, 1)]) {
            Err(Error::PortTaken { port, uid }) => {
                assert_eq!((port.to_string().as_str(), uid.as_str()), ("8080/TCP", "uid-a"));
            }
            other => panic!("{:?}", other.map(|pod| pod.uid)),
        }
        machine.network.reserve("uid-c", &[port(Protocol::Tcp, 22, 22)]).unwrap();
        assert!(machine.try_pod("uid-b", &[port(Protocol::Tcp, 22, 22)]).is_err());
        machine.network.teardown("uid-c").unwrap();
        let second = machine.pod("uid-b", &[port(Protocol::Tcp, 22, 22)]);
        machine.remove(first);
        machine.remove(second);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_client_that_goes_on_sending_finds_the_next_pod() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let neighbour = &machine.neighbour;
        let to = at(OWN, 5353);
        // One socket, so the kernel takes all of it for one connection.
        let client = neighbour.enter(|| udp(to));
        assert_eq!(ask(&client, to, SILENCE), None, "nobody is there yet");
        let ports = [port(Protocol::Udp, 5353, 53)];
        for uid in ["uid-a", "uid-b"] {
            let pod = machine.pod(uid, &ports);
            let mirror = Mirror::udp(&pod.netns, 53);
            assert_eq!(ask(&client, to, PATIENCE).as_deref(), Some(NEIGHBOUR), "{uid}");
            drop(mirror);
            machine.remove(pod);
            assert_eq!(ask(&client, to, SILENCE), None, "after {uid}");
        }
    });
}
