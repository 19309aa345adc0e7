use std::os::fd::AsFd as _;
use std::time::Duration;

use podrun_netlink::{LinkFilter, Rtnetlink};
use podrun_plan::model::{BandwidthPlan, RatePlan};
use podrun_plan::names::LinkNames;
use podrun_tc::{Handle, TrafficControl};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::machine::{Machine, Pod, on_a_machine};

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
fn measured(machine: &Machine, pod: &Pod) -> (f64, f64) {
    let netns = pod.netns.0.as_fd();
    let found = machine.network.measure(&pod.uid, netns, Duration::from_secs(2)).unwrap();
    (found.ingress.bits_per_second() / 1e6, found.egress.bits_per_second() / 1e6)
}

#[track_caller]
fn near(found: f64, wanted: f64) {
    assert!((found / wanted - 1.0).abs() < 0.05, "{found} where {wanted} is wanted");
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_pod_keeps_to_its_rates_and_they_change_while_it_runs() {
    require!(root, netns);
    on_a_machine(&["10.91.0.0/24"], |machine| {
        let mut pod = shaped(machine, "uid-a", 20 * MEGABIT, 10 * MEGABIT);
        assert_eq!(differences(machine, &pod), [""; 0]);
        let (ingress, egress) = measured(machine, &pod);
        near(ingress, 20.0);
        near(egress, 10.0);
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
        let (ingress, egress) = measured(machine, &pod);
        near(ingress, 40.0);
        near(egress, 30.0);
        let state = machine.network.state("uid-a", pod.plan.bandwidth.as_ref()).unwrap().unwrap();
        assert!(state.egress.shaped.unwrap().overlimits > 0 && state.ingress.shaped.unwrap().bytes > 0);
        machine.network.shape("uid-a", None).unwrap();
        assert!(measured(machine, &pod).1 > 100.0);
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
