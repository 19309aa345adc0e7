use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podrun_netlink::{LinkFilter, Rtnetlink};
use podrun_plan::model::{BandwidthPlan, RatePlan};
use podrun_plan::names::LinkNames;
use podrun_tc::{Handle, Qdisc, QdiscKind, Rate, Tbf, TrafficControl};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{Machine, Netns, PATIENCE, Pod, on_a_machine};

const MEGABIT: u64 = 1_000_000;

fn plan(machine: &Machine, uid: &str, ingress: u64, egress: u64) -> BandwidthPlan {
    let rate = |bits_per_second| Some(RatePlan { bits_per_second, burst_bytes: None });
    BandwidthPlan {
        ingress: rate(ingress),
        egress: rate(egress),
        egress_device: LinkNames::of(uid, &machine.names.bridge).shaper,
        unshaped: Vec::new(),
        cni: false,
    }
}

fn shaped(machine: &Machine, uid: &str, ingress: u64, egress: u64) -> Pod {
    let bandwidth = plan(machine, uid, ingress, egress);
    machine.pod_with(uid, &[], Some(bandwidth))
}

fn differences(machine: &Machine, pod: &Pod) -> Vec<String> {
    let found = machine.network.verify_pod(pod.wanted(), pod.netns.0.as_fd()).unwrap();
    found.iter().map(ToString::to_string).collect()
}

/// Returns megabits per second towards the Pod and from it.
fn measured(machine: &Machine, pod: &Pod) -> [f64; 2] {
    let netns = pod.netns.0.as_fd();
    let found = machine.network.measure(&pod.uid, netns, Duration::from_secs(2)).unwrap();
    [found.ingress, found.egress].map(|found| found.bits_per_second() / 1e6)
}

/// Measures until the rates are what is wanted. More is never right; less, a few times, is a machine that is busy.
#[track_caller]
fn near<const N: usize>(wanted: [f64; N], mut measure: impl FnMut() -> [f64; N]) {
    const TRIES: usize = 5;
    let mut found = [0.0; N];
    for _ in 0..TRIES {
        found = measure();
        let ratios: Vec<f64> = found.iter().zip(wanted).map(|(found, wanted)| found / wanted).collect();
        assert!(ratios.iter().all(|ratio| *ratio < 1.05), "{found:?} where {wanted:?} is wanted");
        if ratios.iter().all(|ratio| *ratio > 0.95) {
            return;
        }
    }
    panic!("{found:?} where {wanted:?} is wanted, {TRIES} times too little");
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_pod_keeps_to_its_rates_and_they_change_while_it_runs() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let mut pod = shaped(machine, "uid-a", 20 * MEGABIT, 10 * MEGABIT);
        assert_eq!(differences(machine, &pod), [""; 0]);
        near([20.0, 10.0], || measured(machine, &pod));
        // With every right in its own namespace it cannot take the limit away.
        pod.netns.enter(|| {
            let mut inside = Rtnetlink::open().unwrap();
            let index = inside.link("eth0").unwrap().index;
            TrafficControl::new(&mut inside).unwrap().delete_qdisc(index, Handle::ROOT).unwrap();
        });
        let faster = plan(machine, "uid-a", 40 * MEGABIT, 30 * MEGABIT);
        machine.network.shape("uid-a", Some(&faster)).unwrap();
        assert!(!differences(machine, &pod).is_empty(), "the old plan says something else");
        pod.plan.bandwidth = Some(faster);
        assert_eq!(differences(machine, &pod), [""; 0]);
        near([40.0, 30.0], || measured(machine, &pod));
        let state = machine.network.state("uid-a", pod.plan.bandwidth.as_ref()).unwrap().unwrap();
        assert!(state.egress.shaped.unwrap().overlimits > 0 && state.ingress.shaped.unwrap().bytes > 0);
        machine.network.shape("uid-a", None).unwrap();
        assert!(measured(machine, &pod)[1] > 100.0);
        machine.remove(pod);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn tampering_with_a_limit_is_named() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let pod = shaped(machine, "uid-a", 20 * MEGABIT, 10 * MEGABIT);
        let names = LinkNames::of("uid-a", &machine.names.bridge);
        let (host, ifb) = (names.host.as_str(), names.shaper.as_str());
        let index = |name: &str| Rtnetlink::open().unwrap().link(name).unwrap().index;
        let with_tc = |body: &dyn Fn(&mut TrafficControl<'_>)| {
            let mut route = Rtnetlink::open().unwrap();
            body(&mut TrafficControl::new(&mut route).unwrap());
        };
        let bucket = |link: &str, change: &dyn Fn(&mut Tbf)| {
            with_tc(&|tc| {
                let mut found = tc.qdisc(index(link), Handle::ROOT).unwrap().unwrap().qdisc;
                let QdiscKind::Tbf(bucket) = &mut found.kind else { panic!("{found:?}") };
                change(bucket);
                tc.replace_qdisc(index(link), &found).unwrap();
            });
        };
        let check = |expected: &[String], tamper: &dyn Fn()| {
            assert_eq!(differences(machine, &pod), [""; 0], "before {expected:?}");
            tamper();
            let found = differences(machine, &pod);
            let named = expected.iter().zip(&found).all(|(begins, line)| line.starts_with(begins));
            assert!(named && found.len() == expected.len(), "{expected:?}: {found:#?}");
            machine.network.repair_pod(pod.wanted(), pod.netns.0.as_fd()).unwrap();
        };
        // Another discipline in the place of the bucket, and none.
        check(&[format!("{host}: root: handle: "), format!("{host}: root: kind: ")], &|| {
            let other = Qdisc::root(Handle::qdisc(9), QdiscKind::Pfifo { limit: 9 });
            with_tc(&|tc| tc.replace_qdisc(index(host), &other).unwrap());
        });
        check(&[format!("{ifb}: root: kind: ")], &|| {
            with_tc(&|tc| assert!(tc.delete_qdisc(index(ifb), Handle::ROOT).unwrap()));
        });
        let fast = Rate::from_bits_per_second(90 * MEGABIT);
        check(&[format!("{host}: root: rate: 20 Mbit/s expected, found 90 Mbit/s")], &|| {
            bucket(host, &|tbf| tbf.rate = fast);
        });
        check(&[format!("{ifb}: root: rate: 10 Mbit/s expected, found 90 Mbit/s")], &|| {
            bucket(ifb, &|tbf| tbf.rate = fast);
        });
        check(&[format!("{ifb}: root: burst: ")], &|| {
            bucket(ifb, &|tbf| tbf.burst = podrun_tc::Bytes::new(tbf.burst.get() * 2));
        });
        check(&[format!("{host}: ingress: filters: 1 expected, found 0")], &|| {
            with_tc(&|tc| {
                assert!(tc.delete_filters(index(host), Handle::CLSACT_INGRESS, 1, None).unwrap());
            });
        });
        check(&[format!("{ifb}: link: ")], &|| {
            assert!(Rtnetlink::open().unwrap().delete_link(ifb).unwrap());
        });
        machine.remove(pod);
    });
}

/// Sends datagrams as fast as can be for a while; returns the megabits per second of whole frames that came.
fn flood(from: &Netns, to: &Netns, at: SocketAddr) -> f64 {
    /// With the headers of UDP, IPv6 and Ethernet a frame of less than 1514 bytes.
    const PAYLOAD: usize = 1400;
    let headers = if at.is_ipv4() { 42 } else { 62 };
    let receiver = to.enter(|| UdpSocket::bind(at).unwrap());
    receiver.set_read_timeout(Some(PATIENCE)).unwrap();
    let sender = from.enter(|| crate::machine::udp(at));
    sender.connect(at).unwrap();
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // ENOBUFS: the queue is full, as it should be.
                let _ = sender.send(&[0; PAYLOAD]);
            }
        });
        let mut buffer = [0; PAYLOAD];
        let mut count = |time: Duration| {
            let (begin, mut bytes) = (Instant::now(), 0);
            while begin.elapsed() < time {
                bytes += receiver.recv(&mut buffer).unwrap() + headers;
            }
            f64::from(u32::try_from(bytes).unwrap()) * 8.0 / 1e6 / begin.elapsed().as_secs_f64()
        };
        // The bucket and the queue are full after that.
        count(Duration::from_millis(500));
        let rate = count(Duration::from_secs(2));
        stop.store(true, Ordering::Relaxed);
        rate
    })
}

#[test]
#[file_serial(kernel)]
#[serial]
fn datagrams_of_both_families_are_limited_too() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24", "fd00:91::/64"], |machine| {
        let pod = shaped(machine, "uid-a", 20 * MEGABIT, 10 * MEGABIT);
        let gateways: [IpAddr; 2] = ["10.91.0.1".parse().unwrap(), "fd00:91::1".parse().unwrap()];
        let here = Netns::of_this_thread();
        for (inside, outside) in pod.addresses.iter().zip(gateways) {
            assert_eq!(inside.is_ipv4(), outside.is_ipv4());
            near([20.0], || [flood(&here, &pod.netns, SocketAddr::new(*inside, 7))]);
            near([10.0], || [flood(&pod.netns, &here, SocketAddr::new(outside, 7))]);
        }
        // Without its limits the same traffic is not slow for other reasons.
        machine.network.shape("uid-a", None).unwrap();
        let inside = SocketAddr::new(pod.addresses[1], 7);
        assert!(flood(&here, &pod.netns, inside) > 40.0);
        machine.remove(pod);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn nothing_of_a_shaper_outlives_its_pod() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let ifbs = || Rtnetlink::open().unwrap().links(LinkFilter::new().kind("ifb")).unwrap().len();
        let pod = shaped(machine, "uid-a", 20 * MEGABIT, 10 * MEGABIT);
        assert_eq!(ifbs(), 1);
        // The address is given back last, so a Pod that has none has no shaper.
        machine.network.teardown("uid-a").unwrap();
        assert_eq!(ifbs(), 0);
        drop(pod);
        machine.network.remove_link("uid-a").unwrap();

        let pod = shaped(machine, "uid-b", 20 * MEGABIT, 10 * MEGABIT);
        Rtnetlink::open()
            .unwrap()
            .delete_link(LinkNames::of("uid-b", &machine.names.bridge).shaper.as_str())
            .unwrap();
        let found = differences(machine, &pod);
        assert!(found.iter().any(|line| line.contains("link")), "{found:#?}");
        drop(pod);
        let collected = machine.network.collect(|_| false).unwrap();
        assert_eq!((ifbs(), collected.leases), (0, 1));
    });
}
