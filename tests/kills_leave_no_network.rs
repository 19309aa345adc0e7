//! Pods come and go while their supervisors are killed at random moments. Afterwards `podrun gc` leaves nothing of them in the
//! network: no links, addresses, ports, entries of sets, routes. A Pod that stays keeps all it has meanwhile.
//!
//! `PODRUN_CYCLES` sets how many Pods, `PODRUN_SEED` repeats the moments of an earlier run.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use common::{Podrun, WAIT_FOR_TERM, container, pod, processes, sh, with};
use podrun_netlink::{Action, Connection, Message, Protocol, RouteFilter, Rtnetlink, attributes};
use podrun_testkit::{links, require};
use serde_json::{Value, json};

/// How many Pods come and go unless the environment says otherwise.
const CYCLES: usize = 15;
/// Longer than a start or an end takes on a machine that has nothing else to do.
const MOMENTS: Duration = Duration::from_millis(120);
/// `NFNL_SUBSYS_NFTABLES`, and of it what asks for sets and for their elements.
const NFTABLES: u8 = 10;
const GET_TABLE: u8 = 1;
const GET_SET: u8 = 10;
const GET_ELEMENTS: u8 = 13;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// Marsaglia's xorshift: moments need no better.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    fn moment(&mut self) -> Duration {
        Duration::from_micros(self.below(u64::try_from(MOMENTS.as_micros()).expect("a short time")))
    }
}

/// A Pod with everything that the network has: limits in both directions and ports of three protocols.
fn networked(name: &str, command: Value, port: u16) -> Value {
    let ports = json!({ "ports": [
        { "containerPort": 80, "hostPort": port },
        { "containerPort": 53, "hostPort": port, "protocol": "UDP" },
        { "containerPort": 99, "hostPort": port, "protocol": "SCTP", "hostIP": "127.0.0.1" },
    ] });
    let mut pod = pod(name, &[with(command, ports)]);
    pod["metadata"]["annotations"] = json!({
        "kubernetes.io/ingress-bandwidth": "20M",
        "kubernetes.io/egress-bandwidth": "10M",
    });
    pod
}

fn names_in(dir: &std::path::Path) -> BTreeSet<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().filter_map(Result::ok);
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Kills a supervisor of any Pod but the one that stays, after a while; returns whether there was one to kill.
fn kill_one(podrun: &Podrun, stays: &str, after: Duration) -> bool {
    let supervisors = podrun.state().join("run/supervisors");
    let deadline = Instant::now() + MOMENTS;
    let victim = loop {
        let mut uids = names_in(&supervisors).into_iter().filter(|uid| uid != stays);
        if let Some(uid) = uids.find(|uid| processes::supervisor(podrun, uid).is_some()) {
            break uid;
        }
        if Instant::now() > deadline {
            return false;
        }
    };
    processes::let_pass(after);
    let found = processes::supervisor(podrun, &victim);
    found.iter().for_each(processes::kill);
    found.is_some()
}

/// What of nftables there is in this network: tables, and elements of their sets.
struct Tables {
    names: Vec<String>,
    elements: Vec<Vec<u8>>,
}

impl Tables {
    fn read() -> Self {
        let mut netfilter = Connection::open(Protocol::Netfilter).expect("nfnetlink");
        let action = Action::new("list", "nftables");
        let message =
            |kind, family: u8| Message::new(u16::from_be_bytes([NFTABLES, kind]), 0, &[family, 0, 0, 0]);
        // Family, and the attributes of kind 1 and 2, which are names.
        let names = |reply: podrun_netlink::Reply<'_>| {
            let (header, rest) = reply.split::<4>("nfgenmsg")?;
            let text = |kind| {
                let found = attributes(rest).filter_map(Result::ok).find(|found| found.kind() == kind)?;
                Some(String::from_utf8_lossy(found.payload()).trim_end_matches('\0').to_owned())
            };
            Ok(Some((header[0], text(1).unwrap_or_default(), text(2).unwrap_or_default())))
        };
        let tables = netfilter.dump(&action, &message(GET_TABLE, 0), names).expect("tables");
        let sets = netfilter.dump(&action, &message(GET_SET, 0), names).expect("sets");
        let mut elements = Vec::new();
        for (family, table, set) in sets {
            let mut ask = message(GET_ELEMENTS, family);
            ask.body.text(1, &table).text(2, &set);
            // NFTA_SET_ELEM_LIST_ELEMENTS, in which there is one attribute for each.
            let list = |reply: podrun_netlink::Reply<'_>| {
                let (_, rest) = reply.split::<4>("nfgenmsg")?;
                let list = attributes(rest).filter_map(Result::ok).find(|found| found.kind() == 3);
                let each =
                    list.into_iter().flat_map(|list| attributes(list.payload()).filter_map(Result::ok));
                Ok(Some(each.map(|element| element.payload().to_vec()).collect::<Vec<_>>()))
            };
            elements.extend(netfilter.dump(&action, &ask, list).expect("elements").concat());
        }
        Self { names: tables.into_iter().map(|(_, name, _)| name).collect(), elements }
    }

    /// Whether an element carries this UID.
    fn mention(&self, uid: &str) -> bool {
        self.elements.iter().any(|bytes| bytes.windows(uid.len()).any(|part| part == uid.as_bytes()))
    }
}

/// Returns how many routes there are beside those of loopback.
fn routes() -> usize {
    let mut route = Rtnetlink::open().expect("rtnetlink");
    let lo = route.link("lo").expect("there is one").index;
    let all = route.routes(RouteFilter::new()).expect("routes");
    all.iter().filter(|route| route.link.is_some_and(|link| link != lo)).count()
}

/// Returns the holders of addresses and of ports.
fn holders(podrun: &Podrun) -> Vec<String> {
    let mut holders = Vec::new();
    for dir in ["leases", "ports"] {
        let dir = podrun.state().join("run/network").join(dir);
        for name in names_in(&dir) {
            let target = fs::read_link(dir.join(name)).expect("a lease is a link");
            holders.push(target.to_string_lossy().split('@').next().unwrap_or_default().to_owned());
        }
    }
    holders
}

#[test]
fn kills_leave_no_network() {
    require!(root, cgroup2, overlay, netns, program("busybox"));
    let cycles = setting("PODRUN_CYCLES").unwrap_or(CYCLES);
    let seed = setting("PODRUN_SEED").unwrap_or_else(|| u64::from(std::process::id()) * 0x9e37_79b9 + 1);
    let podrun = Podrun::new();
    let routes_before = routes();
    let stays = podrun.start(&networked("stays", sh("c", WAIT_FOR_TERM), 20_001));
    podrun.wait_running("stays", "c");
    let with_one = (links().len(), routes(), holders(&podrun), Tables::read().elements.len());
    assert_eq!(with_one.0, 3, "bridge, veth and ifb: {:?}", links());
    // It is known at its port, by ARP and by IPv4; and it has three ports.
    assert_eq!(with_one.3, 6);

    let (mut random, mut kills, mut seen) = (Random(seed), 0, BTreeSet::new());
    let begun = Instant::now();
    for cycle in 0..cycles {
        let command = if random.below(2) == 0 { &["true"][..] } else { &["sleep", "3600"] };
        let path = podrun.write(&networked("goes", container("c", command), 20_002));
        let run = podrun.spawn(&["run", "-d", &path]);
        kills += usize::from(kill_one(&podrun, &stays, random.moment()));
        drop(run.finish());
        fs::remove_file(path).expect("it was written");
        seen.extend(names_in(&podrun.state().join("data/pods")));
        // At times somebody looks, and with that a new supervisor takes over, to be killed too.
        if random.below(2) == 0 {
            let look = podrun.spawn(&["get", "pod", "goes"]);
            kills += usize::from(kill_one(&podrun, &stays, random.moment()));
            drop(look.finish());
        }
        let force = ["--force", "--grace-period=0", "--ignore-not-found"];
        let delete = podrun.spawn(&[&["delete", "pod", "goes"], &force[..]].concat());
        kills += usize::from(kill_one(&podrun, &stays, random.moment()));
        drop(delete.finish());
        // Whoever lost its supervisor is told so, and asks again.
        podrun.podrun(&[&["delete", "pod", "goes"], &force[..]].concat()).ok();
        if cycle % 100 == 99 {
            podrun.podrun(&["net", "verify"]).ok();
        }
    }
    seen.remove(&stays);
    let rate = f64::from(u32::try_from(cycles).expect("few")) / begun.elapsed().as_secs_f64();
    let told = format!("{cycles} cycles, {kills} kills, {rate:.1} cycles a second, seed {seed}");
    tell(&told);
    assert!(kills * 2 >= cycles, "too few were struck: {told}");

    podrun.podrun(&["gc"]).ok();
    assert_eq!(podrun.podrun(&["gc"]).ok(), "", "the first one left something: {told}");
    // The kernel frees namespaces, and the links in them, in its own time.
    processes::wait_for("links to go", || (links().len() == with_one.0).then_some(()));
    let tables = Tables::read();
    let now = (links().len(), routes(), holders(&podrun), tables.elements.len());
    assert_eq!(now, with_one, "{told}");
    assert!(tables.mention(&stays), "elements carry the UIDs of their Pods");
    let left: Vec<_> = seen.iter().filter(|uid| tables.mention(uid)).collect();
    assert!(left.is_empty(), "{left:?}: {told}");
    podrun.podrun(&["net", "verify", "stays"]).ok();

    podrun.podrun(&["delete", "pod", "stays", "--force", "--grace-period=0"]).ok();
    podrun.podrun(&["gc"]).ok();
    processes::wait_for("the bridge to go", || links().is_empty().then_some(()));
    assert_eq!((routes(), holders(&podrun)), (routes_before, Vec::new()), "{told}");
    let tables = Tables::read();
    assert!(tables.names.is_empty() && tables.elements.is_empty(), "{:?}: {told}", tables.names);
    podrun.finish();
}

#[expect(clippy::print_stderr, reason = "how much was tried, and how to try it again")]
fn tell(text: &str) {
    eprintln!("{text}");
}
