//! What a Pod's place in the network costs to make and to take away, beside the least that the kernel needs for it: alone, and
//! with many Pods at the same bridge. And what a limit costs each packet that goes through it.
//!
//! The Pod's network namespace is made before the clock starts; with podrun it is there anyway, together with the sandbox.

#[path = "floor/network.rs"]
mod floor;
#[path = "common/report.rs"]
mod report;

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use podrun_netlink::Rtnetlink;
use podrun_network::{Network, Wanted};
use podrun_plan::model::{BandwidthPlan, BridgePlan, PortMapping, RatePlan};
use podrun_plan::names::{LinkNames, NodeNames, POD_INTERFACE};
use podrun_spec::model::Protocol;
use podrun_testkit::{TempRoot, own_network, require};

use floor::Floor;
use report::{Options, Report, Samples};

/// How many Pods are at the bridge, with the one that is measured.
const CROWDS: [usize; 3] = [1, 100, 1000];
const WARM_UP: usize = 3;
/// Faster than anything goes here: a packet passes the shaper and never waits in it.
const NEVER_REACHED: u64 = 100_000_000_000;
/// How many packets are sent to see what one costs, and what is in each.
const PACKETS: u32 = 200_000;
const PAYLOAD: usize = 1400;
const FLOORS: &str = "floor";

fn main() -> io::Result<()> {
    require!(root, netns);
    let options = Options::parse(30);
    let mut report = Report::new("network setup", options);
    // In a network of its own, with as many descriptors as there are Pods.
    own_network();
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, most.min(1 << 16), most)?;
    let root = TempRoot::new();
    let node = Node::new(root.path())?;
    // The first one makes the bridge, which stays from then on.
    node.setup("first", &netns()?, &[], false)?;
    node.teardown("first")?;

    let mut crowd = Vec::new();
    for pods in CROWDS {
        while crowd.len() + 1 < pods {
            let netns = netns()?;
            node.setup(&format!("resident-{}", crowd.len()), &netns, &[], false)?;
            crowd.push(netns);
        }
        measure(&node, &mut report, pods, options.count)?;
    }
    for number in 0..crowd.len() {
        node.teardown(&format!("resident-{number}"))?;
    }
    drop(crowd);
    shaper_cost(&node, &mut report)?;
    node.network.remove_if_unused().map_err(io::Error::other)?;
    report.note("floor: veth pair with its end in the namespace, bridge port, address, route, one message each, no look at anything");
    report.note("podrun: these, and lease, alias, entries of the filter in one transaction; a port is a second transaction");
    report.note("rounds of floor and podrun take turns, and the ratio is pair by pair");
    report.print();
    root.close();
    Ok(())
}

/// podrun's network, and the floor's at the same bridge.
struct Node {
    network: Network,
    names: NodeNames,
}

/// What one round of podrun's took.
struct Took {
    setup: Duration,
    /// When the addresses were free again.
    returned: Duration,
    /// When the link was gone too.
    gone: Duration,
}

impl Node {
    fn new(run: &Path) -> io::Result<Self> {
        let network = Network::open(run).map_err(io::Error::other)?;
        Ok(Self { network, names: NodeNames::of(run) })
    }

    fn plan(&self, uid: &str, limited: bool) -> BridgePlan {
        let links = LinkNames::of(uid, &self.names.bridge);
        let rate = Some(RatePlan { bits_per_second: NEVER_REACHED, burst_bytes: None });
        let bandwidth = BandwidthPlan {
            ingress: rate,
            egress: rate,
            egress_device: links.shaper,
            unshaped: Vec::new(),
            cni: false,
        };
        BridgePlan {
            bridge: self.names.bridge.clone(),
            table: self.names.table.clone(),
            subnets: Vec::new(),
            interface: POD_INTERFACE.to_owned(),
            host_interface: links.host,
            bandwidth: limited.then_some(bandwidth),
        }
    }

    fn setup(
        &self,
        uid: &str,
        netns: &File,
        ports: &[PortMapping],
        limited: bool,
    ) -> io::Result<Vec<IpAddr>> {
        let plan = self.plan(uid, limited);
        self.network.setup(Wanted { uid, plan: &plan, ports }, netns.as_fd()).map_err(io::Error::other)
    }

    /// As the engine does it: what is in the tables first, and the link when nobody waits any more.
    fn teardown(&self, uid: &str) -> io::Result<(Duration, Duration)> {
        let start = Instant::now();
        self.network.teardown(uid).map_err(|mut errors| io::Error::other(errors.remove(0)))?;
        let returned = start.elapsed();
        self.network.remove_link(uid).map_err(io::Error::other)?;
        Ok((returned, start.elapsed()))
    }

    fn round(&self, ports: &[PortMapping], limited: bool) -> io::Result<Took> {
        let netns = netns()?;
        let start = Instant::now();
        self.setup("measured", &netns, ports, limited)?;
        let setup = start.elapsed();
        let (returned, gone) = self.teardown("measured")?;
        Ok(Took { setup, returned, gone })
    }
}

fn floor_round(floor: &Floor, address: Ipv4Addr) -> io::Result<[Duration; 2]> {
    let netns = netns()?;
    let start = Instant::now();
    floor.setup(FLOORS, &netns, address)?;
    let setup = start.elapsed();
    let start = Instant::now();
    floor.teardown(FLOORS)?;
    Ok([setup, start.elapsed()])
}

/// Makes a network namespace with loopback up.
fn netns() -> io::Result<File> {
    let make = || -> io::Result<File> {
        unshare(CloneFlags::CLONE_NEWNET)?;
        File::open("/proc/thread-self/ns/net")
    };
    let netns = thread::scope(|scope| scope.spawn(make).join().expect("no panic"))?;
    Rtnetlink::open_in(&netns).and_then(|mut inside| inside.set_up("lo")).map_err(io::Error::other)?;
    Ok(netns)
}

/// Measures a Pod among others, and the floor beside it.
fn measure(node: &Node, report: &mut Report, pods: usize, count: usize) -> io::Result<()> {
    let subnets = node.network.subnets().map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    let mut route = Rtnetlink::open().map_err(io::Error::other)?;
    let bridge = route.link(node.names.bridge.as_str()).map_err(io::Error::other)?.index;
    let gateway = Ipv4Addr::from(u32::from(subnets.ipv4.network()) + 1);
    let floor = Floor::new(bridge, gateway, subnets.ipv4.prefix_len())?;
    // None that podrun gives out.
    let address = Ipv4Addr::from(u32::from(subnets.ipv4.broadcast()) - 1);
    let port = [PortMapping { protocol: Protocol::Tcp, host_ip: None, host_port: 18080, container_port: 80 }];

    let [mut least, mut least_gone] = [Samples::default(), Samples::default()];
    let [mut setup, mut returned, mut gone] = [Samples::default(), Samples::default(), Samples::default()];
    let [mut with_port, mut with_limits] = [Samples::default(), Samples::default()];
    let [mut ratio, mut ratio_gone] = [Samples::default(), Samples::default()];
    for round in 0..count + WARM_UP {
        let [floor_setup, floor_gone] = floor_round(&floor, address)?;
        let plain = node.round(&[], false)?;
        let port = node.round(&port, false)?;
        let limits = node.round(&[], true)?;
        if round < WARM_UP {
            continue;
        }
        least.extend([floor_setup]);
        least_gone.extend([floor_gone]);
        setup.extend([plain.setup]);
        returned.extend([plain.returned]);
        gone.extend([plain.gone]);
        with_port.extend([port.setup]);
        with_limits.extend([limits.setup]);
        ratio.extend([plain.setup.as_secs_f64() / floor_setup.as_secs_f64()]);
        ratio_gone.extend([plain.gone.as_secs_f64() / floor_gone.as_secs_f64()]);
    }
    for (name, unit, samples) in [
        ("floor: setup", "ms", &least),
        ("podrun: setup", "ms", &setup),
        ("podrun / floor: setup", "x", &ratio),
        ("podrun: setup with a host port", "ms", &with_port),
        ("podrun: setup with limits", "ms", &with_limits),
        ("floor: link gone", "ms", &least_gone),
        ("podrun: teardown returned", "ms", &returned),
        ("podrun: link gone", "ms", &gone),
        ("podrun / floor: link gone", "x", &ratio_gone),
    ] {
        report.row(format!("{pods} at the bridge, {name}"), unit, samples);
    }
    Ok(())
}

/// Measures the CPU time of packets with and without a shaper in their way that holds none of them up.
fn shaper_cost(node: &Node, report: &mut Report) -> io::Result<()> {
    let subnets = node.network.subnets().map_err(io::Error::other)?.ok_or(io::ErrorKind::NotFound)?;
    let gateway = Ipv4Addr::from(u32::from(subnets.ipv4.network()) + 1);
    let mut costs = Vec::new();
    for limited in [false, true] {
        let netns = netns()?;
        let addresses = node.setup("sender", &netns, &[], limited)?;
        let [mut to_pod, mut from_pod] = [Samples::default(), Samples::default()];
        for _ in 0..5 {
            to_pod.extend([nanoseconds(None, Some(&netns), addresses[0])?]);
            from_pod.extend([nanoseconds(Some(&netns), None, gateway.into())?]);
        }
        node.teardown("sender")?;
        costs.push([to_pod, from_pod]);
    }
    for (index, direction) in ["to the Pod", "from the Pod"].into_iter().enumerate() {
        let [without, with] = [&costs[0][index], &costs[1][index]];
        report.row(format!("a packet {direction}, no limit"), "ns", without);
        report.row(format!("a packet {direction}, through a limit"), "ns", with);
        let more = [with.median() - without.median()].into_iter().collect();
        report.row(format!("a packet {direction}, what the limit costs"), "ns", &more);
    }
    report.note(format!(
        "a packet: CPU time of sending UDP of {PAYLOAD} bytes, of {PACKETS} packets that nobody reads"
    ));
    Ok(())
}

/// Returns the nanoseconds of CPU time that sending a packet takes. The receiver's buffer is full soon, which costs the same with
/// and without a shaper.
fn nanoseconds(from: Option<&File>, to: Option<&File>, address: IpAddr) -> io::Result<f64> {
    let receiver = inside(to, || UdpSocket::bind((address, 0)))?;
    let at = receiver.local_addr()?;
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let sender = inside(from, || UdpSocket::bind(any))?;
    sender.connect(at)?;
    let before = cpu_time()?;
    for _ in 0..PACKETS {
        sender.send(&[0; PAYLOAD])?;
    }
    let spent = cpu_time()?.saturating_sub(before);
    Ok(spent.as_secs_f64() * 1e9 / f64::from(PACKETS))
}

fn inside<T: Send>(netns: Option<&File>, body: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    let Some(netns) = netns else { return body() };
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            body()
        });
        inside.join().expect("no panic")
    })
}

fn cpu_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_THREAD)?;
    let times = [usage.user_time(), usage.system_time()];
    let micros: i64 = times.iter().map(|time| time.tv_sec() * 1_000_000 + time.tv_usec()).sum();
    Ok(Duration::from_micros(micros.try_into().unwrap_or(0)))
}
