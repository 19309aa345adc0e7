//! A machine of its own for each test: a network namespace with Pods, and with a neighbour behind a cable.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd as _, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::socket::{Shutdown, SockProtocol, shutdown};
use podrun_netlink::{NewAddress, NewLink, Peer, Route, Rtnetlink};
use podrun_network::{Network, Result, Wanted};
use podrun_plan::model::{BandwidthPlan, BridgePlan, PortMapping};
use podrun_plan::names::{LinkNames, NodeNames, POD_INTERFACE};
use podrun_spec::model::Protocol;
use podrun_testkit::LeakCheck;
use tempfile::TempDir;

/// No packet of these tests takes longer, not even in an emulated machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);
/// What does not come in this time does not come.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// A network namespace.
pub(crate) struct Netns(pub(crate) File);

impl Netns {
    /// Makes one with loopback up, which lives as long as this does or something is in it.
    pub(crate) fn new() -> Self {
        let made = thread::scope(|scope| {
            let made = scope.spawn(|| {
                unshare(CloneFlags::CLONE_NEWNET).unwrap();
                File::open("/proc/thread-self/ns/net").unwrap()
            });
            made.join().unwrap()
        });
        let netns = Self(made);
        Rtnetlink::open_in(&netns.0).unwrap().set_up("lo").unwrap();
        netns
    }

    /// Returns the calling thread's.
    pub(crate) fn of_this_thread() -> Self {
        Self(File::open("/proc/thread-self/ns/net").unwrap())
    }

    /// Calls a function in it.
    pub(crate) fn enter<T: Send>(&self, body: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).unwrap();
                body()
            });
            inside.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
        })
    }
}

/// The machine. The test's thread is in its network namespace.
pub(crate) struct Machine {
    pub(crate) network: Network,
    pub(crate) names: NodeNames,
    pub(crate) neighbour: Netns,
    pub(crate) subnets: Vec<IpNet>,
    _dir: TempDir,
}

/// The addresses at both ends of the cable.
pub(crate) const OWN: &str = "192.0.2.1";
pub(crate) const NEIGHBOUR: &str = "192.0.2.2";
pub(crate) const OWN6: &str = "2001:db8::1";
pub(crate) const NEIGHBOUR6: &str = "2001:db8::2";

/// Calls `body` on a thread in a new machine, and checks that nothing is left when the thread has ended.
pub(crate) fn on_a_machine(subnets: &[&str], body: impl FnOnce(&Machine) + Send) {
    let leaks = LeakCheck::start();
    let subnets = subnets.iter().map(|subnet| subnet.parse().unwrap()).collect();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            body(&Machine::new(subnets));
        });
        inside.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload));
    });
    leaks.finish();
}

impl Machine {
    fn new(subnets: Vec<IpNet>) -> Self {
        let mut route = Rtnetlink::open().unwrap();
        route.set_up("lo").unwrap();
        let neighbour = Netns::new();
        let peer = Peer::new("eth0").in_netns(neighbour.0.as_fd());
        let cable = route.create_link(&NewLink::veth("eth0", peer).up()).unwrap();
        let mut there = Rtnetlink::open_in(&neighbour.0).unwrap();
        there.set_up("eth0").unwrap();
        let address = |ip: &str, len| NewAddress::new(IpNet::new(ip.parse().unwrap(), len).unwrap()).no_dad();
        for (own, neighbours, len) in [(OWN, NEIGHBOUR, 24), (OWN6, NEIGHBOUR6, 64)] {
            route.add_address(cable, &address(own, len)).unwrap();
            let index = there.link("eth0").unwrap().index;
            there.add_address(index, &address(neighbours, len)).unwrap();
        }
        route.add_route(&Route::default_via(NEIGHBOUR.parse().unwrap())).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let network = Network::open(dir.path()).unwrap();
        Self { network, names: NodeNames::of(dir.path()), neighbour, subnets, _dir: dir }
    }

    /// Returns where a Pod of this machine is to be.
    pub(crate) fn plan(&self, uid: &str) -> BridgePlan {
        BridgePlan {
            bridge: self.names.bridge.clone(),
            table: self.names.table.clone(),
            subnets: self.subnets.clone(),
            interface: POD_INTERFACE.to_owned(),
            host_interface: LinkNames::of(uid, &self.names.bridge).host,
            bandwidth: None,
        }
    }

    /// Makes a Pod with ports of the machine.
    pub(crate) fn pod(&self, uid: &str, ports: &[PortMapping]) -> Pod {
        self.try_pod(uid, ports).unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) fn pod_with(&self, uid: &str, ports: &[PortMapping], bandwidth: Option<BandwidthPlan>) -> Pod {
        let made = self.make(uid, ports, bandwidth);
        made.unwrap_or_else(|error| panic!("{error:?}"))
    }

    pub(crate) fn try_pod(&self, uid: &str, ports: &[PortMapping]) -> Result<Pod> {
        self.make(uid, ports, None)
    }

    fn make(&self, uid: &str, ports: &[PortMapping], bandwidth: Option<BandwidthPlan>) -> Result<Pod> {
        let (netns, plan) = (Netns::new(), BridgePlan { bandwidth, ..self.plan(uid) });
        let addresses = self.network.setup(Wanted { uid, plan: &plan, ports }, netns.0.as_fd())?;
        Ok(Pod { uid: uid.to_owned(), netns, plan, ports: ports.to_vec(), addresses })
    }

    /// Removes a Pod as the engine does: the link goes with the namespace.
    pub(crate) fn remove(&self, pod: Pod) {
        self.network.teardown(&pod.uid).unwrap_or_else(|errors| panic!("{errors:?}"));
        let uid = pod.uid.clone();
        drop(pod);
        self.network.remove_link(&uid).unwrap();
    }
}

/// A Pod at the machine's bridge.
pub(crate) struct Pod {
    pub(crate) uid: String,
    pub(crate) netns: Netns,
    pub(crate) plan: BridgePlan,
    pub(crate) ports: Vec<PortMapping>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl Pod {
    pub(crate) fn wanted(&self) -> Wanted<'_> {
        Wanted { uid: &self.uid, plan: &self.plan, ports: &self.ports }
    }
}

/// Returns a port of the machine on all addresses.
pub(crate) fn port(protocol: Protocol, host_port: u16, container_port: u16) -> PortMapping {
    PortMapping { protocol, host_ip: None, host_port, container_port }
}

/// A server that answers each caller with the address from which it is called, until it is dropped.
pub(crate) struct Mirror(Vec<(OwnedFd, JoinHandle<()>)>);

impl Mirror {
    /// Serves TCP in a network namespace.
    pub(crate) fn tcp(netns: &Netns, port: u16) -> Self {
        Self::streams(netns, SockProtocol::Tcp, port)
    }

    /// Serves SCTP, one stream to a caller, where the kernel has it.
    pub(crate) fn sctp(netns: &Netns, port: u16) -> Self {
        Self::streams(netns, SockProtocol::Sctp, port)
    }

    fn streams(netns: &Netns, protocol: SockProtocol, port: u16) -> Self {
        let one = |any| {
            let listener = netns.enter(|| listen(any, protocol, port));
            let socket = listener.as_fd().try_clone_to_owned().unwrap();
            let serve = move || {
                while let Ok((mut stream, peer)) = listener.accept() {
                    // A caller that has hung up is no affair of ours.
                    let _ = stream.write_all(peer.ip().to_string().as_bytes());
                }
            };
            (socket, thread::spawn(serve))
        };
        Self(["0.0.0.0", "::"].map(one).into())
    }

    /// Serves UDP over IPv4.
    pub(crate) fn udp(netns: &Netns, port: u16) -> Self {
        let server = netns.enter(|| UdpSocket::bind(("0.0.0.0", port)).unwrap());
        let socket = server.as_fd().try_clone_to_owned().unwrap();
        let serve = move || {
            let mut buffer = [0; 64];
            while let Ok((1.., peer)) = server.recv_from(&mut buffer) {
                let _ = server.send_to(peer.ip().to_string().as_bytes(), peer);
            }
        };
        Self(vec![(socket, thread::spawn(serve))])
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for (socket, server) in self.0.drain(..) {
            // ENOTCONN of UDP, which is woken up all the same.
            let _ = shutdown(std::os::fd::AsRawFd::as_raw_fd(&socket), Shutdown::Both);
            server.join().unwrap();
        }
    }
}

fn listen(any: &str, protocol: SockProtocol, port: u16) -> TcpListener {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket,
        sockopt,
    };
    let address = SocketAddr::new(any.parse().unwrap(), port);
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, protocol).unwrap();
    // Connections of an earlier one may not have been forgotten yet.
    setsockopt(&socket, sockopt::ReuseAddr, &true).unwrap();
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true).unwrap();
    }
    bind(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(address)).unwrap();
    listen(&socket, Backlog::new(16).unwrap()).unwrap();
    socket.into()
}

/// Calls a mirror by TCP; returns what address it saw.
pub(crate) fn call(to: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Returns a socket of SCTP that may call somebody; none where the kernel has no SCTP.
pub(crate) fn sctp() -> Option<OwnedFd> {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
    match socket(AddressFamily::Inet, SockType::Stream, SockFlag::SOCK_CLOEXEC, SockProtocol::Sctp) {
        Err(nix::errno::Errno::EPROTONOSUPPORT | nix::errno::Errno::ESOCKTNOSUPPORT) => None,
        socket => Some(socket.unwrap()),
    }
}

/// Calls a mirror by SCTP; returns what address it saw.
pub(crate) fn call_sctp(socket: OwnedFd, to: SocketAddr) -> std::io::Result<String> {
    use nix::sys::socket::{SockaddrStorage, connect};
    connect(std::os::fd::AsRawFd::as_raw_fd(&socket), &SockaddrStorage::from(to))?;
    let mut stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut text = [0; 64];
    let length = stream.read(&mut text)?;
    Ok(String::from_utf8_lossy(&text[..length]).into_owned())
}

/// Returns all that is not as it should be.
pub(crate) fn differences(machine: &Machine, pod: &Pod) -> Vec<String> {
    let mut all = machine.network.verify_node().unwrap();
    all.extend(machine.network.verify_pod(pod.wanted(), pod.netns.0.as_fd()).unwrap());
    all.iter().map(ToString::to_string).collect()
}

/// Sends one message to nftables as a transaction.
pub(crate) fn tamper_with_tables(family: u8, kind: u8, fill: impl FnOnce(&mut podrun_netlink::Body)) {
    use podrun_netlink::{Action, Connection, Message, Protocol};
    const NFTABLES: u8 = 10;
    let mut message = Message::new(u16::from_be_bytes([NFTABLES, kind]), 0, &[family, 0, 0, 0]);
    fill(&mut message.body);
    let mut connection = Connection::open(Protocol::Netfilter).unwrap();
    let action = Action::new("tamper with", "nftables");
    connection.transaction::<()>(&action, NFTABLES.into(), &[message], |_| Ok(None)).unwrap();
}

/// Takes away all tables, whosever they are: `nft flush ruleset`.
pub(crate) fn flush_ruleset() {
    const DELETE_TABLE: u8 = 2;
    tamper_with_tables(0, DELETE_TABLE, |_| ());
}

/// Calls a mirror by UDP, as a client with a socket that it keeps.
pub(crate) fn ask(socket: &UdpSocket, to: SocketAddr, patience: Duration) -> Option<String> {
    socket.set_read_timeout(Some(patience)).unwrap();
    // ICMP errors of a packet before count as an answer that says no.
    socket.send_to(b"?", to).ok()?;
    let mut buffer = [0; 64];
    let (length, _) = socket.recv_from(&mut buffer).ok()?;
    Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
}

/// Returns an UDP socket of an address's family.
pub(crate) fn udp(like: SocketAddr) -> UdpSocket {
    UdpSocket::bind(if like.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" }).unwrap()
}
