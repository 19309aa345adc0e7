use podrun_netlink::NewLink;
use podrun_tc::{
    Bpf, Classifier, Field, Filter, Flower, Handle, Htb, Mirred, Protocol, Qdisc, QdiscKind, Rate,
    TrafficControl, U32,
};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::with_pair;

/// Adds a filter, unless the kernel lacks its kind; where everything must be there, that is a failure.
fn add(tc: &mut TrafficControl<'_>, link: u32, filter: &Filter) -> bool {
    match tc.add_filter(link, filter) {
        Ok(()) => true,
        Err(error) if error.is_not_found() && std::env::var_os("PODRUN_REQUIRE_ALL").is_none() => false,
        Err(error) => panic!("{filter:?}: {error:?}"),
    }
}

#[test]
#[file_serial(kernel)]
#[serial]
fn filters_that_redirect_come_back_as_they_were_sent() {
    require!(root, netns);
    with_pair(|pair| {
        let ifb = pair.here.create_link(&NewLink::ifb("ifb").up()).unwrap();
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        for (qdisc, parent) in [
            (Qdisc::clsact(), Handle::CLSACT_INGRESS),
            (Qdisc::clsact(), Handle::CLSACT_EGRESS),
            (Qdisc::ingress(), Handle::INGRESS_FILTERS),
        ] {
            tc.add_qdisc(pair.link, &qdisc).unwrap();
            assert_eq!(tc.qdisc(pair.link, Handle::INGRESS).unwrap().unwrap().qdisc, qdisc);
            for classifier in [Classifier::U32(U32::all()), Classifier::MatchAll, Classifier::Bpf(Bpf::all())]
            {
                let filter = Filter::new(parent, 3, Protocol::ALL, classifier);
                let filter = filter.action(Mirred::redirect(ifb));
                if !add(&mut tc, pair.link, &filter) {
                    continue;
                }
                let found = tc.filters(pair.link, parent).unwrap();
                assert_eq!(found.len(), 1, "{found:?}");
                assert_eq!(found[0].filter, filter);
                assert!(found[0].handle != 0 && found[0].link == pair.link);
                assert!(tc.delete_filters(pair.link, parent, 3, None).unwrap());
                assert!(!tc.delete_filters(pair.link, parent, 3, None).unwrap());
            }
            tc.delete_qdisc(pair.link, Handle::INGRESS).unwrap();
            assert!(
                !tc.delete_filters(pair.link, parent, 3, None).unwrap(),
                "an absent parent has no filters"
            );
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn filters_by_address_come_back_in_their_order() {
    require!(root, netns);
    with_pair(|pair| {
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        let htb = Handle::qdisc(2);
        tc.add_qdisc(pair.link, &Qdisc::root(htb, QdiscKind::Htb(Htb::new(0x10)))).unwrap();
        let class = Handle::new(2, 0x20);
        let rate = Rate::from_bits_per_second(1_000_000);
        let fast = podrun_tc::HtbClass::new(htb, class, rate, podrun_tc::Bytes::new(9_000)).quantum(1514);
        tc.set_class(pair.link, &fast).unwrap();
        let u32 = |priority, protocol, keys| {
            Filter::new(htb, priority, protocol, Classifier::U32(keys)).class(class)
        };
        let wanted = [
            u32(10, Protocol::IPV4, U32::source("10.1.0.0/16".parse().unwrap())),
            u32(10, Protocol::IPV4, U32::destination("192.168.7.0/24".parse().unwrap())),
            u32(10, Protocol::IPV4, U32::source("0.0.0.0/0".parse().unwrap())),
            u32(11, Protocol::IPV6, U32::source("fd00::/9".parse().unwrap())),
            u32(11, Protocol::IPV6, U32::source("fd00::1/128".parse().unwrap())),
        ];
        for filter in &wanted {
            tc.add_filter(pair.link, filter).unwrap();
        }
        let found = tc.filters(pair.link, htb).unwrap();
        let found: Vec<&Filter> = found.iter().map(|found| &found.filter).collect();
        assert_eq!(found, wanted.iter().collect::<Vec<_>>());
        assert!(tc.delete_filters(pair.link, htb, 10, Some(Protocol::IPV4)).unwrap());
        assert_eq!(tc.filters(pair.link, htb).unwrap().len(), 2);

        let flower = Flower::new().source("10.1.0.0/16".parse().unwrap()).tcp(80);
        let filter = Filter::new(htb, 20, Protocol::IPV4, Classifier::Flower(flower)).class(class);
        if add(&mut tc, pair.link, &filter) {
            let found = tc.filters(pair.link, htb).unwrap();
            assert_eq!(found.last().unwrap().filter, filter);
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_target_that_is_deleted_is_a_difference() {
    require!(root, netns);
    with_pair(|pair| {
        let ifb = pair.here.create_link(&NewLink::ifb("ifb").up()).unwrap();
        let wanted = Filter::new(Handle::CLSACT_INGRESS, 1, Protocol::ALL, Classifier::U32(U32::all()));
        let wanted = wanted.action(Mirred::redirect(ifb));
        {
            let mut tc = TrafficControl::new(&mut pair.here).unwrap();
            tc.add_qdisc(pair.link, &Qdisc::clsact()).unwrap();
            tc.add_filter(pair.link, &wanted).unwrap();
        }
        pair.here.delete_link(ifb).unwrap();
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        let found = tc.filters(pair.link, Handle::CLSACT_INGRESS).unwrap();
        let differences = wanted.differences(&found[0].filter);
        assert_eq!(differences.len(), 1, "{differences:?}");
        assert_eq!(differences[0].field, Field::Redirect);
        assert_eq!(differences[0].found, "a link that is gone");
    });
}
