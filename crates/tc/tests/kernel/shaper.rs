use std::net::UdpSocket;

use podrun_netlink::{LinkChange, NewLink};
use podrun_tc::{Bytes, Error, Field, Handle, Limit, Queue, Rate, Shaper, Style, TrafficControl};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{HOST, PEER, Pair, inside, with_pair};

pub(crate) fn limit(megabits: u64) -> Limit {
    Limit::new(Rate::from_bits_per_second(megabits * 1_000_000))
}

pub(crate) fn both(megabits: u64) -> Shaper {
    Shaper::new("veth").to_peer(limit(megabits)).from_peer(limit(megabits), "ifb-veth").alias("test")
}

fn unshaped(megabits: u64) -> Shaper {
    both(megabits).unshaped(["10.9.0.0/16".parse().unwrap(), "fd09::/16".parse().unwrap()])
}

fn cni(megabits: u64) -> Shaper {
    let limit = Limit::cni(Rate::from_bits_per_second(megabits * 1_000_000), None);
    Shaper::new("veth").to_peer(limit).from_peer(limit, "ifb-veth").style(Style::Cni)
}

/// What the kernel holds, as text, without counters.
fn state(pair: &mut Pair) -> String {
    let links: Vec<u32> =
        pair.here.links(podrun_netlink::LinkFilter::new()).unwrap().iter().map(|link| link.index).collect();
    let mut tc = TrafficControl::new(&mut pair.here).unwrap();
    let mut text = String::new();
    for link in links {
        let qdiscs: Vec<_> = tc.qdiscs(link).unwrap().into_iter().map(|found| found.qdisc).collect();
        let classes: Vec<_> = tc.classes(link).unwrap().into_iter().map(|found| found.class).collect();
        let mut filters = Vec::new();
        for parent in [Handle::qdisc(2), Handle::CLSACT_INGRESS] {
            for found in tc.filters(link, parent).unwrap() {
                filters.push((found.handle, format!("{:?}", found.filter.classifier)));
            }
        }
        text += &format!("{link}: {qdiscs:?} {classes:?} {filters:?}\n");
    }
    text
}

#[test]
#[file_serial(kernel)]
#[serial]
fn what_is_applied_verifies_and_applying_again_changes_nothing() {
    require!(root, netns);
    with_pair(|pair| {
        let before = state(pair);
        for shaper in [
            both(10),
            both(1),
            both(40_000),
            both(10).queue(Queue::Fifo),
            unshaped(10),
            unshaped(10).queue(Queue::Fifo),
            cni(10),
            Shaper::new("veth").to_peer(limit(5)).ifb("ifb-veth"),
            Shaper::new("veth").from_peer(limit(5), "ifb-veth"),
        ] {
            shaper.apply(&mut pair.here).unwrap();
            assert_eq!(shaper.verify(&mut pair.here).unwrap(), [], "{shaper:?}");
            let once = state(pair);
            shaper.apply(&mut pair.here).unwrap();
            assert_eq!(state(pair), once);
            shaper.remove(&mut pair.here).unwrap();
            assert_eq!(state(pair), before, "{shaper:?}");
            shaper.remove(&mut pair.here).unwrap();
            assert!(!shaper.verify(&mut pair.here).unwrap().is_empty());
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn every_shaper_takes_the_place_of_every_other() {
    require!(root, netns);
    with_pair(|pair| {
        let all = [
            both(10),
            unshaped(20),
            cni(30),
            both(40).queue(Queue::Fifo),
            Shaper::new("veth").to_peer(limit(5)).ifb("ifb-veth"),
            Shaper::new("veth").from_peer(limit(5), "ifb-veth"),
            Shaper::new("veth").ifb("ifb-veth"),
        ];
        for first in &all {
            for second in &all {
                first.apply(&mut pair.here).unwrap();
                second.apply(&mut pair.here).unwrap();
                assert_eq!(second.verify(&mut pair.here).unwrap(), [], "{second:?} after {first:?}");
            }
        }
        both(1).remove(&mut pair.here).unwrap();
        assert_eq!(pair.ifbs(), 0);
    });
}

/// Sends packets of 1000 bytes to the peer.
fn send(count: usize) {
    let socket = UdpSocket::bind((HOST, 0)).unwrap();
    for _ in 0..count {
        socket.send_to(&[0; 1000], (PEER, 9)).unwrap();
    }
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_rate_changes_in_place_and_keeps_what_was_counted() {
    require!(root, netns);
    with_pair(|pair| {
        for shaped in [both, unshaped] {
            shaped(10).apply(&mut pair.here).unwrap();
            send(5);
            let before = shaped(10).statistics(&mut pair.here).unwrap().to_peer.unwrap();
            assert!(before.shaped.bytes >= Bytes::new(5 * 1042), "{before:?}");
            shaped(20).apply(&mut pair.here).unwrap();
            assert_eq!(shaped(20).verify(&mut pair.here).unwrap(), []);
            let after = shaped(20).statistics(&mut pair.here).unwrap().to_peer.unwrap();
            assert!(after.shaped.bytes >= before.shaped.bytes, "{before:?} {after:?}");
            let fields: Vec<Field> =
                shaped(10).verify(&mut pair.here).unwrap().iter().map(|found| found.field).collect();
            assert!(fields.contains(&Field::Rate), "{fields:?}");
            shaped(20).remove(&mut pair.here).unwrap();
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn unshaped_networks_are_counted_apart() {
    require!(root, netns);
    with_pair(|pair| {
        let shaper = both(1).unshaped(["10.0.0.1/32".parse().unwrap()]);
        shaper.apply(&mut pair.here).unwrap();
        // More than the burst of 1 Mbit/s holds, from and to the unshaped host.
        send(100);
        inside(&pair.netns, || {
            let socket = UdpSocket::bind((PEER, 0)).unwrap();
            for _ in 0..100 {
                socket.send_to(&[0; 1000], (HOST, 9)).unwrap();
            }
        });
        let statistics = shaper.statistics(&mut pair.here).unwrap();
        for direction in [statistics.to_peer.unwrap(), statistics.from_peer.unwrap()] {
            let unshaped = direction.unshaped.unwrap();
            assert!(unshaped.bytes >= Bytes::new(100 * 1042), "{direction:?}");
            assert_eq!((unshaped.drops, direction.shaped.drops), (0, 0));
        }
        shaper.remove(&mut pair.here).unwrap();
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn nothing_is_touched_that_is_somebody_elses() {
    require!(root, netns);
    with_pair(|pair| {
        let bridge = pair.here.create_link(&NewLink::bridge("ifb-veth")).unwrap();
        let error = both(1).apply(&mut pair.here).unwrap_err();
        assert!(matches!(&error, Error::NotIfb { kind, .. } if kind == "bridge"), "{error:?}");
        assert!(both(1).remove(&mut pair.here).is_err());
        assert!(pair.here.find_link(bridge).unwrap().is_some());
        pair.here.delete_link(bridge).unwrap();

        // A filter of another program's on the same discipline.
        both(1).apply(&mut pair.here).unwrap();
        let other = podrun_tc::Filter::new(
            Handle::CLSACT_EGRESS,
            77,
            podrun_tc::Protocol::ALL,
            podrun_tc::Classifier::U32(podrun_tc::U32::all()),
        );
        let veth = pair.link;
        TrafficControl::new(&mut pair.here).unwrap().add_filter(veth, &other).unwrap();
        both(1).remove(&mut pair.here).unwrap();
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        assert_eq!(tc.filters(veth, Handle::CLSACT_EGRESS).unwrap().len(), 1);
        assert_eq!(tc.filters(veth, Handle::CLSACT_INGRESS).unwrap(), []);
        assert_eq!(pair.ifbs(), 0);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_link_that_is_gone_leaves_no_ifb_behind() {
    require!(root, netns);
    with_pair(|pair| {
        let shaper = both(10);
        shaper.apply(&mut pair.here).unwrap();
        assert_eq!(pair.here.link("ifb-veth").unwrap().alias.as_deref(), Some("test"));
        let link = pair.link;
        pair.here.delete_link(link).unwrap();
        assert_eq!(shaper.verify(&mut pair.here).unwrap()[0].field, Field::Link);
        let error = shaper.apply(&mut pair.here).unwrap_err();
        assert!(error.is_not_found(), "{error:?}");
        shaper.remove(&mut pair.here).unwrap();
        assert_eq!(pair.ifbs(), 0);
        shaper.remove(&mut pair.here).unwrap();
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_larger_mtu_is_taken_over_by_the_ifb() {
    require!(root, netns);
    with_pair(|pair| {
        both(10).apply(&mut pair.here).unwrap();
        let link = pair.link;
        pair.here.change_link(link, &LinkChange::new().mtu(9000)).unwrap();
        pair.there.change_link("eth0", &LinkChange::new().mtu(9000)).unwrap();
        let fields: Vec<Field> =
            both(10).verify(&mut pair.here).unwrap().iter().map(|found| found.field).collect();
        assert!(fields.contains(&Field::Mtu), "{fields:?}");
        both(10).apply(&mut pair.here).unwrap();
        assert_eq!(both(10).verify(&mut pair.here).unwrap(), []);
        assert_eq!(pair.here.link("ifb-veth").unwrap().mtu, 9000);
        both(10).remove(&mut pair.here).unwrap();
    });
}
