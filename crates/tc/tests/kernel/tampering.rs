//! Whatever somebody changes behind our back, verifying says which field.

use podrun_netlink::{LinkChange, NewLink};
use podrun_tc::{
    Bytes, Classifier, Field, Filter, Handle, HtbClass, Mirred, Protocol, Qdisc, QdiscKind, Queue, Rate,
    Shaper, Tbf, TrafficControl, U32,
};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{Pair, with_pair};
use crate::shaper::both;

/// Changes one parameter of the bucket on a link.
fn tamper_with_bucket(pair: &mut Pair, link: u32, change: impl FnOnce(&mut Tbf)) {
    let mut tc = TrafficControl::new(&mut pair.here).unwrap();
    let mut found = tc.qdisc(link, Handle::ROOT).unwrap().unwrap().qdisc;
    let QdiscKind::Tbf(bucket) = &mut found.kind else { panic!("{found:?}") };
    change(bucket);
    tc.replace_qdisc(link, &found).unwrap();
}

fn with_tc(pair: &mut Pair, tamper: impl FnOnce(&mut TrafficControl<'_>)) {
    tamper(&mut TrafficControl::new(&mut pair.here).unwrap());
}

/// Applies, tampers, expects these fields of these links to differ, and mends it by applying again.
fn check(
    shaper: &Shaper,
    name: &str,
    expected: &[(&str, Field)],
    tamper: impl FnOnce(&mut Pair, u32) + Send,
) {
    with_pair(|pair| {
        shaper.apply(&mut pair.here).unwrap();
        assert_eq!(shaper.verify(&mut pair.here).unwrap(), []);
        let ifb = pair.here.link("ifb-veth").unwrap().index;
        tamper(pair, ifb);
        let found = shaper.verify(&mut pair.here).unwrap();
        let fields: Vec<_> =
            found.iter().map(|one| (one.place.split(':').next().unwrap(), one.field)).collect();
        assert_eq!(fields, expected, "{name}: {found:#?}");
        shaper.apply(&mut pair.here).unwrap();
        assert_eq!(shaper.verify(&mut pair.here).unwrap(), [], "{name}");
        shaper.remove(&mut pair.here).unwrap();
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn tampering_with_a_bucket_is_seen() {
    require!(root, netns);
    let shaper = both(10);
    let root = |kind| Qdisc::root(Handle::qdisc(9), kind);
    check(&shaper, "another discipline", &[("veth", Field::Handle), ("veth", Field::Kind)], |pair, _| {
        let link = pair.link;
        with_tc(pair, |tc| tc.replace_qdisc(link, &root(QdiscKind::Pfifo { limit: 9 })).unwrap());
    });
    check(&shaper, "no discipline", &[("veth", Field::Kind)], |pair, _| {
        let link = pair.link;
        with_tc(pair, |tc| assert!(tc.delete_qdisc(link, Handle::ROOT).unwrap()));
    });
    check(&shaper, "no discipline on the ifb", &[("ifb-veth", Field::Kind)], |pair, ifb| {
        with_tc(pair, |tc| assert!(tc.delete_qdisc(ifb, Handle::ROOT).unwrap()));
    });
    check(&shaper, "the rate", &[("veth", Field::Rate)], |pair, _| {
        let link = pair.link;
        tamper_with_bucket(pair, link, |tbf| tbf.rate = Rate::from_bits_per_second(20_000_000));
    });
    check(&shaper, "the burst", &[("ifb-veth", Field::Burst)], |pair, ifb| {
        tamper_with_bucket(pair, ifb, |tbf| tbf.burst = Bytes::new(tbf.burst.get() * 2));
    });
    // A leaf that is a queue in bytes gets the new limit too, fq_codel does not.
    let limits = [("veth", Field::Limit), ("veth", Field::Limit)];
    check(&shaper.clone().queue(Queue::Fifo), "the limit", &limits, |pair, _| {
        let link = pair.link;
        tamper_with_bucket(pair, link, |tbf| tbf.limit = Bytes::new(tbf.limit.get() * 2));
    });
    check(&shaper, "a peak rate", &[("veth", Field::PeakRate)], |pair, _| {
        let link = pair.link;
        tamper_with_bucket(pair, link, |tbf| {
            *tbf = tbf.peak(Rate::from_bits_per_second(30_000_000), Bytes::new(2000));
        });
    });
    check(&shaper, "the leaf", &[("veth", Field::Handle), ("veth", Field::Kind)], |pair, _| {
        let link = pair.link;
        let leaf = Qdisc::below(Handle::new(1, 1), Handle::qdisc(0x99), QdiscKind::Pfifo { limit: 5 });
        with_tc(pair, |tc| tc.replace_qdisc(link, &leaf).unwrap());
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn tampering_with_the_redirection_is_seen() {
    require!(root, netns);
    let shaper = both(10);
    let ingress = Handle::CLSACT_INGRESS;
    check(&shaper, "no filter", &[("veth", Field::Filters)], |pair, _| {
        let link = pair.link;
        with_tc(pair, |tc| assert!(tc.delete_filters(link, ingress, 1, None).unwrap()));
    });
    check(&shaper, "no clsact", &[("veth", Field::Kind)], |pair, _| {
        let link = pair.link;
        with_tc(pair, |tc| assert!(tc.delete_qdisc(link, Handle::INGRESS).unwrap()));
    });
    let filter = |keys| Filter::new(ingress, 1, Protocol::ALL, Classifier::U32(keys));
    check(&shaper, "a second filter", &[("veth", Field::Filters)], |pair, ifb| {
        let link = pair.link;
        let one = U32::source("10.0.0.2/32".parse().unwrap());
        with_tc(pair, |tc| {
            tc.delete_filters(link, ingress, 1, None).unwrap();
            for keys in [one, U32::all()] {
                tc.add_filter(link, &filter(keys).action(Mirred::redirect(ifb))).unwrap();
            }
        });
    });
    check(&shaper, "another target", &[("veth", Field::Redirect)], |pair, _| {
        let (link, other) = (pair.link, pair.here.create_link(&NewLink::ifb("other")).unwrap());
        with_tc(pair, |tc| {
            tc.delete_filters(link, ingress, 1, None).unwrap();
            tc.add_filter(link, &filter(U32::all()).action(Mirred::redirect(other))).unwrap();
        });
    });
    check(&shaper, "a copy instead of a redirection", &[("veth", Field::Action)], |pair, ifb| {
        let link = pair.link;
        with_tc(pair, |tc| {
            tc.delete_filters(link, ingress, 1, None).unwrap();
            tc.add_filter(link, &filter(U32::all()).action(Mirred::mirror(ifb))).unwrap();
        });
    });
    check(&shaper, "another match", &[("veth", Field::Match)], |pair, ifb| {
        let link = pair.link;
        let ipv4 = Filter::new(ingress, 1, Protocol::IPV4, Classifier::U32(U32::all()));
        with_tc(pair, |tc| {
            tc.delete_filters(link, ingress, 1, None).unwrap();
            tc.add_filter(link, &ipv4.action(Mirred::redirect(ifb))).unwrap();
        });
    });
    check(&shaper, "the ifb is down", &[("ifb-veth", Field::Up)], |pair, ifb| {
        pair.here.change_link(ifb, &LinkChange::new().down()).unwrap();
    });
    check(&shaper, "the ifb is gone", &[("ifb-veth", Field::Link)], |pair, ifb| {
        assert!(pair.here.delete_link(ifb).unwrap());
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn tampering_with_a_hierarchy_is_seen() {
    require!(root, netns);
    let shaper = both(10).unshaped(["10.9.0.0/16".parse().unwrap(), "fd09::/16".parse().unwrap()]);
    let class = |pair: &mut Pair, link, minor, change: &dyn Fn(HtbClass) -> HtbClass| {
        with_tc(pair, |tc| {
            let handle = Handle::new(2, minor);
            let found = tc.classes(link).unwrap();
            let found = found.iter().find(|found| found.class.handle == handle).unwrap().class;
            let mut found = found;
            found.parent = Handle::qdisc(2);
            tc.set_class(link, &change(found)).unwrap();
        });
    };
    let fast = Rate::from_bits_per_second(50_000_000);
    check(&shaper, "the ceiling", &[("veth", Field::Ceiling)], |pair, _| {
        let link = pair.link;
        class(pair, link, 0x10, &|class| class.ceiling(fast, class.burst));
    });
    check(&shaper, "the rate", &[("ifb-veth", Field::Rate)], |pair, ifb| {
        class(pair, ifb, 0x10, &|mut class| {
            class.rate = Rate::from_bits_per_second(5_000_000);
            class
        });
    });
    check(&shaper, "no filter for IPv6", &[("ifb-veth", Field::Filters)], |pair, ifb| {
        with_tc(pair, |tc| {
            assert!(tc.delete_filters(ifb, Handle::qdisc(2), 11, Some(Protocol::IPV6)).unwrap());
        });
    });
    check(&shaper, "another network", &[("veth", Field::Match)], |pair, _| {
        let link = pair.link;
        let keys = U32::source("10.8.0.0/16".parse().unwrap());
        let other = Filter::new(Handle::qdisc(2), 10, Protocol::IPV4, Classifier::U32(keys));
        with_tc(pair, |tc| {
            tc.delete_filters(link, Handle::qdisc(2), 10, Some(Protocol::IPV4)).unwrap();
            tc.add_filter(link, &other.class(Handle::new(2, 0x20))).unwrap();
        });
    });
    check(&shaper, "the hierarchy is gone", &[("veth", Field::Kind)], |pair, _| {
        let link = pair.link;
        with_tc(pair, |tc| assert!(tc.delete_qdisc(link, Handle::ROOT).unwrap()));
    });
}
