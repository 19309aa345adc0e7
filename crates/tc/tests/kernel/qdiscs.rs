use std::time::Duration;

use podrun_tc::{
    Bytes, Field, FqCodel, Handle, Htb, HtbClass, Netem, Psched, Qdisc, QdiscKind, Rate, Tbf, TrafficControl,
};
use podrun_testkit::require;
use serial_test::{file_serial, serial};

use crate::namespace::{has_qdisc, with_pair};

fn mbit(megabits: u64) -> Rate {
    Rate::from_bits_per_second(megabits * 1_000_000)
}

fn root(kind: QdiscKind) -> Qdisc {
    Qdisc::root(Handle::qdisc(1), kind)
}

#[test]
fn the_unit_of_time_is_that_of_the_kernel() {
    assert_eq!(Psched::read().unwrap(), Psched::default());
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_token_bucket_comes_back_as_it_was_sent() {
    require!(root, netns);
    with_pair(|pair| {
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        assert_eq!(tc.qdisc(pair.link, Handle::ROOT).unwrap(), None);
        for (rate, burst, limit) in [
            (Rate::from_bits_per_second(8_000), 3_028, 4_000),
            (mbit(10), 71_680, 134_180),
            (Rate::from_bits_per_second(10_000_007), 71_681, 134_181),
            (mbit(1_000), 1_250_000, 7_500_000),
            (mbit(40_000), 50_000_000, 300_000_000),
            // What CNI asks for at 10 Mbit/s, 429 s of bucket.
            (mbit(10), 536_870_911, 536_902_161),
        ] {
            let kind = QdiscKind::Tbf(Tbf::new(rate, Bytes::new(burst), Bytes::new(limit)));
            tc.replace_qdisc(pair.link, &root(kind.clone())).unwrap();
            let found = tc.qdisc(pair.link, Handle::ROOT).unwrap().unwrap();
            assert_eq!(found.link, pair.link);
            assert_eq!(kind.differences(&found.qdisc.kind, tc.psched()), [], "{kind:?} {found:?}");
            // A tenth more is no rounding.
            let other = QdiscKind::Tbf(Tbf::new(rate, Bytes::new(burst + burst / 10), Bytes::new(limit)));
            let differences = other.differences(&found.qdisc.kind, tc.psched());
            assert_eq!(differences.iter().map(|one| one.field).collect::<Vec<_>>(), [Field::Burst]);
        }
        let peak =
            Tbf::new(mbit(10), Bytes::new(71_680), Bytes::new(134_180)).peak(mbit(20), Bytes::new(3_000));
        let kind = QdiscKind::Tbf(peak);
        tc.replace_qdisc(pair.link, &root(kind.clone())).unwrap();
        let found = tc.qdiscs(pair.link).unwrap();
        assert_eq!(kind.differences(&found[0].qdisc.kind, tc.psched()), []);
        assert!(tc.delete_qdisc(pair.link, Handle::ROOT).unwrap());
        assert!(!tc.delete_qdisc(pair.link, Handle::ROOT).unwrap(), "twice is fine");
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn classes_of_a_hierarchy_come_back_and_change_in_place() {
    require!(root, netns);
    with_pair(|pair| {
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        let htb = root(QdiscKind::Htb(Htb::new(0x10)));
        tc.add_qdisc(pair.link, &htb).unwrap();
        assert!(tc.add_qdisc(pair.link, &htb).unwrap_err().already_exists());
        let found = tc.qdisc(pair.link, Handle::ROOT).unwrap().unwrap();
        assert_eq!(htb.kind.differences(&found.qdisc.kind, tc.psched()), []);

        let parent = Handle::new(1, 1);
        let outer = HtbClass::new(Handle::qdisc(1), parent, mbit(100), Bytes::new(200_000)).quantum(1514);
        let inner = HtbClass::new(parent, Handle::new(1, 0x10), mbit(10), Bytes::new(70_000)).quantum(3028);
        let inner = inner.ceiling(mbit(40_000), Bytes::new(50_000_000)).priority(3);
        for class in [outer, inner, inner.priority(2).quantum(1514)] {
            tc.set_class(pair.link, &class).unwrap();
            let all = tc.classes(pair.link).unwrap();
            let found = all.iter().find(|found| found.class.handle == class.handle).unwrap();
            assert_eq!(class.differences(&found.class, tc.psched()), [], "{found:?}");
        }
        let all = tc.classes(pair.link).unwrap();
        let parent_of = |handle| all.iter().find(|found| found.class.handle == handle).unwrap().class.parent;
        assert_eq!((parent_of(parent), parent_of(inner.handle)), (Handle::ROOT, parent));
        let leaf =
            Qdisc::below(inner.handle, Handle::qdisc(0x10), QdiscKind::Bfifo { limit: Bytes::new(9_000) });
        tc.add_qdisc(pair.link, &leaf).unwrap();
        assert_eq!(tc.qdisc(pair.link, inner.handle).unwrap().unwrap().qdisc, leaf);
        let leaf = Qdisc { kind: QdiscKind::Pfifo { limit: 7 }, handle: Handle::qdisc(0x11), ..leaf };
        tc.replace_qdisc(pair.link, &leaf).unwrap();
        assert_eq!(tc.qdisc(pair.link, inner.handle).unwrap().unwrap().qdisc, leaf);
        assert!(tc.delete_class(pair.link, inner.handle).unwrap());
        assert!(!tc.delete_class(pair.link, inner.handle).unwrap());
        assert_eq!(tc.classes(pair.link).unwrap().len(), 1);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn kinds_that_the_kernel_has_come_back_as_they_were_sent() {
    require!(root, netns);
    with_pair(|pair| {
        let codel = FqCodel::new()
            .limit(1000)
            .flows(256)
            .quantum(1514)
            .target(Duration::from_millis(6))
            .interval(Duration::from_millis(120))
            .memory_limit(Bytes::new(4 << 20))
            .ecn(false)
            .mark_threshold(Duration::from_millis(3));
        let netem = Netem::new()
            .delay(Duration::from_millis(10))
            .jitter(Duration::from_millis(2))
            .loss(0.01)
            .duplicate(0.02)
            .rate(mbit(1));
        for kind in [
            QdiscKind::FqCodel(codel),
            QdiscKind::Netem(netem),
            QdiscKind::Netem(Netem::new().rate(mbit(40_000))),
        ] {
            if !has_qdisc(pair, kind.name()) {
                continue;
            }
            let mut tc = TrafficControl::new(&mut pair.here).unwrap();
            tc.add_qdisc(pair.link, &root(kind.clone())).unwrap();
            let found = tc.qdisc(pair.link, Handle::ROOT).unwrap().unwrap();
            assert_eq!(kind.differences(&found.qdisc.kind, tc.psched()), [], "{found:?}");
            tc.delete_qdisc(pair.link, Handle::ROOT).unwrap();
        }
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn a_probe_changes_nothing() {
    require!(root, netns);
    with_pair(|pair| {
        for (kind, expected) in
            [("tbf", Some(true)), ("htb", Some(true)), ("fq_codel", None), ("netem", None)]
        {
            let mut tc = TrafficControl::new(&mut pair.here).unwrap();
            for _ in 0..2 {
                let has = tc.has_qdisc_kind(pair.link, kind).unwrap();
                assert!(expected.is_none_or(|expected| has == expected), "{kind}");
            }
            assert_eq!(tc.qdisc(pair.link, Handle::ROOT).unwrap(), None, "{kind}");
        }
        // Below a root that exists too.
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        let kind = QdiscKind::Tbf(Tbf::new(mbit(10), Bytes::new(71_680), Bytes::new(134_180)));
        tc.add_qdisc(pair.link, &root(kind)).unwrap();
        let before = tc.qdisc(pair.link, Handle::ROOT).unwrap().unwrap().qdisc;
        assert!(tc.has_qdisc_kind(pair.link, "htb").unwrap());
        tc.has_qdisc_kind(pair.link, "fq_codel").unwrap();
        // These would take its place without a word.
        for kind in ["pfifo_fast", "noqueue", "no-such-kind"] {
            tc.has_qdisc_kind(pair.link, kind).unwrap_err();
        }
        assert_eq!(tc.qdisc(pair.link, Handle::ROOT).unwrap().unwrap().qdisc, before);
    });
}

#[test]
#[file_serial(kernel)]
#[serial]
fn errors_have_the_words_of_the_kernel() {
    require!(root, netns);
    with_pair(|pair| {
        let mut tc = TrafficControl::new(&mut pair.here).unwrap();
        let error = tc.add_qdisc(pair.link, &root(QdiscKind::Other("no-such-kind".to_owned()))).unwrap_err();
        assert!(error.is_not_found());
        assert_eq!(error.to_string(), format!("add qdisc no-such-kind at root of link {}", pair.link));
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains("Specified qdisc kind is unknown"), "{source}");
        let error = tc.add_qdisc(4711, &root(QdiscKind::Pfifo { limit: 1 })).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert_eq!(tc.qdiscs(4711).unwrap(), []);
    });
}
