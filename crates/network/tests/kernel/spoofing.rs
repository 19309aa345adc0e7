//! What a Pod with every right in its network namespace may tell the others: nothing but what is true.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socket};
use podrun_netlink::{LinkChange, MacAddress, NewAddress, Rtnetlink};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{Machine, PATIENCE, Pod, SILENCE, on_a_machine, tamper_with_tables, udp};

/// Everything that arrives at a Pod's interface.
struct Tap(OwnedFd);

impl Tap {
    fn on(pod: &Pod) -> Self {
        // ETH_P_ALL in network order as the protocol: bound to every interface, of which the Pod has one that matters.
        pod.netns.enter(|| {
            let socket = raw_socket();
            Self(socket)
        })
    }

    /// Returns whether a frame that pleases comes within a while.
    fn sees(&self, patience: Duration, pleases: impl Fn(&[u8]) -> bool) -> bool {
        let deadline = std::time::Instant::now() + patience;
        loop {
            let left = deadline.saturating_duration_since(std::time::Instant::now());
            let mut fds = [PollFd::new(std::os::fd::AsFd::as_fd(&self.0), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap();
            if poll(&mut fds, timeout).unwrap() == 0 {
                return false;
            }
            let mut frame = [0; 2048];
            let length = recv(self.0.as_raw_fd(), &mut frame, MsgFlags::empty()).unwrap();
            if pleases(&frame[..length]) {
                return true;
            }
        }
    }
}

fn raw_socket() -> OwnedFd {
    use nix::sys::socket::SockProtocol;
    socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::EthAll).unwrap()
}

/// Sends a frame out of a Pod's interface.
fn send_frame(pod: &Pod, frame: &[u8]) {
    pod.netns.enter(|| {
        let index = Rtnetlink::open().unwrap().link("eth0").unwrap().index;
        let socket = raw_socket();
        // SAFETY: all zero is a value of this structure of numbers.
        let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        to.sll_family = u16::try_from(libc::AF_PACKET).unwrap();
        to.sll_ifindex = i32::try_from(index).unwrap();
        let size = libc::socklen_t::try_from(size_of_val(&to)).unwrap();
        let sent =
            // SAFETY: frame and address live until the call returns, with the lengths that are given.
            unsafe { libc::sendto(socket.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0, (&raw const to).cast(), size) };
        assert_eq!(sent, isize::try_from(frame.len()).unwrap(), "{}", std::io::Error::last_os_error());
    });
}

fn mac(pod: &Pod) -> [u8; 6] {
    match pod.addresses[0] {
        IpAddr::V4(ip) => {
            let [a, b, c, d] = ip.octets();
            [0x0a, 0x58, a, b, c, d]
        }
        IpAddr::V6(_) => unreachable!(),
    }
}

fn ip(pod: &Pod) -> Ipv4Addr {
    match pod.addresses[0] {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => unreachable!(),
    }
}

const EVERYBODY: [u8; 6] = [0xff; 6];

fn ethernet(to: [u8; 6], from: [u8; 6], kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

/// An announcement that an address is at a MAC address.
fn arp(mac: [u8; 6], ip: Ipv4Addr) -> Vec<u8> {
    [&[0, 1, 8, 0, 6, 4, 0, 2][..], &mac, &ip.octets(), &EVERYBODY, &ip.octets()].concat()
}

fn ipv6(from: &str, to: &str, icmp: &[u8]) -> Vec<u8> {
    let octets = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
    let length = u16::try_from(icmp.len()).unwrap().to_be_bytes();
    [&[0x60, 0, 0, 0][..], &length, &[58, 255], &octets(from), &octets(to), icmp].concat()
}

fn link_local(mac: [u8; 6]) -> String {
    let mut address = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, mac[0] ^ 2, 0, 0, 0xff, 0xfe, 0, 0, 0];
    address[9..11].copy_from_slice(&mac[1..3]);
    address[13..].copy_from_slice(&mac[3..]);
    std::net::Ipv6Addr::from(address).to_string()
}

fn two(machine: &Machine) -> (Pod, Pod) {
    (machine.pod("uid-a", &[]), machine.pod("uid-b", &[]))
}

/// A frame, its name, and whether it may pass.
type Case = (&'static str, bool, Vec<u8>);

fn frames(liar: &Pod, other: &Pod) -> Vec<Case> {
    let (own_mac, own_ip) = (mac(liar), ip(liar));
    let strange_mac = [0x0a, 0x58, 1, 2, 3, 4];
    let gateway = Ipv4Addr::new(10, 91, 0, 1);
    let own6 = liar.addresses[1].to_string();
    let advert = |target: &str| {
        let target = target.parse::<std::net::Ipv6Addr>().unwrap().octets();
        [&[136, 0, 0, 0, 0x20, 0, 0, 0][..], &target].concat()
    };
    let own_link_local = link_local(own_mac);
    let to_all6 = [0x33, 0x33, 0, 0, 0, 1];
    vec![
        ("own announcement", true, ethernet(EVERYBODY, own_mac, 0x0806, &arp(own_mac, own_ip))),
        ("the gateway's address", false, ethernet(EVERYBODY, own_mac, 0x0806, &arp(own_mac, gateway))),
        ("another's address", false, ethernet(EVERYBODY, own_mac, 0x0806, &arp(own_mac, ip(other)))),
        ("a strange MAC inside", false, ethernet(EVERYBODY, own_mac, 0x0806, &arp(strange_mac, own_ip))),
        ("a strange MAC outside", false, ethernet(EVERYBODY, strange_mac, 0x0806, &arp(own_mac, own_ip))),
        ("another protocol", false, ethernet(mac(other), own_mac, 0x88b5, &[0; 46])),
        ("a VLAN", false, {
            let tagged = [&[0, 5, 8, 6][..], &arp(own_mac, own_ip)].concat();
            ethernet(EVERYBODY, own_mac, 0x8100, &tagged)
        }),
        ("own neighbour advertisement", true, {
            ethernet(to_all6, own_mac, 0x86dd, &ipv6(&own6, "ff02::1", &advert(&own6)))
        }),
        ("an advertisement of the gateway", false, {
            ethernet(to_all6, own_mac, 0x86dd, &ipv6(&own6, "ff02::1", &advert("fd00:91::1")))
        }),
        ("a router advertisement", false, {
            let icmp = [&[134, 0, 0, 0, 64, 0, 7, 8][..], &[0; 8]].concat();
            ethernet(to_all6, own_mac, 0x86dd, &ipv6(&own_link_local, "ff02::1", &icmp))
        }),
        ("a redirect", false, {
            let icmp = [&[137, 0, 0, 0][..], &[0; 36]].concat();
            ethernet(to_all6, own_mac, 0x86dd, &ipv6(&own_link_local, "ff02::1", &icmp))
        }),
        ("a strange source of IPv6", false, {
            let icmp = [128, 0, 0, 0, 0, 0, 0, 0];
            ethernet(to_all6, own_mac, 0x86dd, &ipv6("fd00:91::77", "ff02::1", &icmp))
        }),
    ]
}

/// Sends each frame and sees whether it arrives.
fn send_all(liar: &Pod, other: &Pod, passes: impl Fn(&Case) -> bool) {
    let tap = Tap::on(other);
    for case in frames(liar, other) {
        let (name, _, frame) = &case;
        send_frame(liar, frame);
        let passes = passes(&case);
        let patience = if passes { PATIENCE } else { SILENCE };
        // The kernel takes a tag out of the frame and tells of it beside that.
        let rest = if frame[12..14] == [0x81, 0] { &frame[16..] } else { &frame[12..] };
        let seen = tap.sees(patience, |seen| seen.starts_with(&frame[..12]) && seen.ends_with(rest));
        assert_eq!(seen, passes, "{name}");
    }
}

#[test]
#[file_serial(kernel)]
#[serial]
fn frames_carry_the_pods_own_addresses_or_are_lost() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let (liar, other) = two(machine);
        send_all(&liar, &other, |(_, may_pass, _)| *may_pass);
        machine.remove(liar);
        machine.remove(other);
    });
}

/// What is lost is lost because of the filter: without it every lie arrives, so the tests here can fail.
#[test]
#[file_serial(kernel)]
#[serial]
fn without_the_filter_every_lie_arrives() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        const DELETE_TABLE: u8 = 2;
        let (liar, other) = two(machine);
        tamper_with_tables(7, DELETE_TABLE, |body| {
            body.text(1, &machine.names.table);
        });
        send_all(&liar, &other, |_| true);
        machine.network.repair_node().unwrap();
        send_all(&liar, &other, |(_, may_pass, _)| *may_pass);
        machine.remove(liar);
        machine.remove(other);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_pod_cannot_take_another_address_or_mac() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let (liar, other) = two(machine);
        let server = other.netns.enter(|| UdpSocket::bind("0.0.0.0:7").unwrap());
        server.set_read_timeout(Some(SILENCE)).unwrap();
        let to = SocketAddr::new(other.addresses[0], 7);
        let arrives = |patience| {
            server.set_read_timeout(Some(patience)).unwrap();
            server.recv_from(&mut [0; 8]).is_ok()
        };
        liar.netns.enter(|| udp(to).send_to(b"?", to).unwrap());
        assert!(arrives(PATIENCE));
        // With an address that nobody has.
        let free = "10.91.0.200";
        liar.netns.enter(|| {
            let mut route = Rtnetlink::open().unwrap();
            let index = route.link("eth0").unwrap().index;
            route.add_address(index, &NewAddress::new(format!("{free}/24").parse().unwrap())).unwrap();
            UdpSocket::bind((free, 0)).unwrap().send_to(b"?", to).unwrap();
        });
        assert!(!arrives(SILENCE), "the address {free} is not the Pod's");
        liar.netns.enter(|| {
            let strange = LinkChange::new().mac(MacAddress::new([2, 0, 0, 0, 0, 9]));
            Rtnetlink::open().unwrap().change_link("eth0", &strange).unwrap();
            // The way to the other may have to be asked for anew, and that is not answered either.
            let _ = udp(to).send_to(b"?", to);
        });
        assert!(!arrives(SILENCE), "the MAC address is not the Pod's");
        machine.remove(liar);
        machine.remove(other);
    });
}
