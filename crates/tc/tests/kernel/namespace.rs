//! Two network namespaces with a veth pair between them, for one test.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::thread;

use nix::sched::{CloneFlags, setns, unshare};
use podrun_netlink::{LinkFilter, NewAddress, NewLink, Peer, Rtnetlink};
use podrun_testkit::LeakCheck;

pub(crate) const HOST: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 1);
pub(crate) const PEER: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);

/// The host's end is `veth` and up, the other one `eth0` in a namespace of its own.
pub(crate) struct Pair {
    pub(crate) here: Rtnetlink,
    pub(crate) there: Rtnetlink,
    pub(crate) link: u32,
    pub(crate) netns: File,
}

impl Pair {
    /// Returns how many ifbs there are.
    pub(crate) fn ifbs(&mut self) -> usize {
        self.here.links(LinkFilter::new().kind("ifb")).unwrap().len()
    }
}

/// Calls `body` on a thread in new network namespaces, and checks that nothing is left when the thread has ended.
pub(crate) fn with_pair(body: impl FnOnce(&mut Pair) + Send) {
    let leaks = LeakCheck::start();
    thread::scope(|scope| {
        let inside = scope.spawn(|| {
            let netns = scope.spawn(new_netns).join().unwrap();
            drop(new_netns());
            let mut here = Rtnetlink::open().unwrap();
            let mut there = Rtnetlink::open_in(&netns).unwrap();
            let peer = Peer::new("eth0").in_netns(netns.as_fd());
            let link = here.create_link(&NewLink::veth("veth", peer).up()).unwrap();
            for (socket, name, ip) in [(&mut here, "veth", HOST), (&mut there, "eth0", PEER)] {
                let index = socket.link(name).unwrap().index;
                let network = format!("{ip}/24").parse().unwrap();
                socket.add_address(index, &NewAddress::new(network)).unwrap();
                socket.set_up("lo").unwrap();
                socket.set_up(index).unwrap();
            }
            body(&mut Pair { here, there, link, netns });
        });
        if let Err(payload) = inside.join() {
            std::panic::resume_unwind(payload);
        }
    });
    leaks.finish();
}

/// Moves this thread into a new network namespace and returns its file.
fn new_netns() -> File {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    File::open("/proc/thread-self/ns/net").unwrap()
}

/// Calls `body` on a thread in a network namespace.
pub(crate) fn inside<T: Send>(netns: &File, body: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET).unwrap();
            body()
        });
        thread.join().unwrap_or_else(|payload| std::panic::resume_unwind(payload))
    })
}

/// Whether the kernel has a kind of queueing discipline; where everything must be there, its lack is a failure.
pub(crate) fn has_qdisc(pair: &mut Pair, kind: &str) -> bool {
    let mut tc = podrun_tc::TrafficControl::new(&mut pair.here).unwrap();
    let has = tc.has_qdisc_kind(pair.link, kind).unwrap();
    let required = std::env::var_os("PODRUN_REQUIRE_ALL").is_some_and(|value| value == "1");
    assert!(has || !required, "the kernel lacks {kind}");
    has
}
