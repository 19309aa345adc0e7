//! What we send, beside what `tc(8)` sends.

use std::time::Duration;

use podrun_netlink::Message;

use crate::filter::{Bpf, Classifier, Filter, Flower, Mirred, Protocol, U32};
use crate::handle::Handle;
use crate::psched::Psched;
use crate::qdisc::{FqCodel, Htb, HtbClass, Netem, Qdisc, QdiscKind, Tbf};
use crate::units::{Bytes, Rate};

const CREATE: i32 = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
const REPLACE: i32 = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;
/// The indexes of the links where the bytes were captured.
const V0: u32 = 10;
const IFB0: u32 = 20;
const ONE: Handle = Handle::qdisc(1);
const TWO: Handle = Handle::qdisc(2);
const SHAPED: Handle = Handle::new(2, 0x10);
const UNSHAPED: Handle = Handle::new(2, 0x20);

/// Returns the bytes of a captured message.
fn golden(name: &str) -> Vec<u8> {
    let text = include_str!("tc.txt");
    let start = format!("\n[{name}] ");
    let (_, rest) = text.split_once(&start).unwrap_or_else(|| panic!("there is no [{name}]"));
    let hex: String = rest.lines().skip(1).take_while(|line| !line.is_empty()).collect();
    let digits = hex.as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

fn check(name: &str, message: &Message) {
    let (mut expected, mut ours) = (golden(name), message.to_bytes());
    // The acknowledgement is asked for when the message is sent.
    let flags = u16::from_ne_bytes([expected[6], expected[7]]) & !u16::try_from(libc::NLM_F_ACK).unwrap();
    expected[6..8].copy_from_slice(&flags.to_ne_bytes());
    let at = ours.iter().zip(&expected).position(|(ours, expected)| ours != expected);
    if ours != expected {
        let around = at.unwrap_or(ours.len().min(expected.len())) / 4 * 4;
        ours.drain(..around);
        expected.drain(..around);
        ours.truncate(32);
        expected.truncate(32);
        panic!("{name} differs from byte {around} on:\n ours {ours:02x?}\n tc   {expected:02x?}");
    }
}

fn mbit(megabits: u64) -> Rate {
    Rate::from_bits_per_second(megabits * 1_000_000)
}

fn kib(kibibytes: u64) -> Bytes {
    Bytes::new(kibibytes << 10)
}

fn root(handle: Handle, kind: QdiscKind, flags: i32) -> Message {
    Qdisc::root(handle, kind).message(V0, flags, Psched::default())
}

fn tbf(tbf: Tbf, flags: i32) -> Message {
    root(ONE, QdiscKind::Tbf(tbf), flags)
}

#[test]
fn token_buckets() {
    // tc makes the limit of the latency: rate * 50 ms + burst.
    check("tbf", &tbf(Tbf::new(mbit(10), kib(32), Bytes::new(62_500 + (32 << 10))), CREATE));
    check("tbf_replace", &tbf(Tbf::new(mbit(20), kib(64), kib(100)), REPLACE));
    check("tbf_change", &tbf(Tbf::new(mbit(25), kib(64), kib(100)), 0));
    let fast = Tbf::new(mbit(40_000), kib(50 << 10), kib(100 << 10));
    check("tbf_64bit", &tbf(fast, CREATE));
    check("tbf_peak", &tbf(Tbf::new(mbit(10), kib(32), kib(100)).peak(mbit(20), Bytes::new(3000)), CREATE));
    check("tbf_peak_64bit", &tbf(fast.peak(mbit(50_000), Bytes::new(70_000)), CREATE));
    check("tbf_slow", &tbf(Tbf::new(Rate::from_bits_per_second(1_000), kib(30), kib(100)), CREATE));
}

#[test]
fn hierarchies() {
    check("htb", &root(TWO, QdiscKind::Htb(Htb::new(0x10)), CREATE));
    let htb = Htb { rate_to_quantum: 20, direct_queue_length: Some(500), ..Htb::new(0x10) };
    check("htb_r2q", &root(TWO, QdiscKind::Htb(htb), CREATE));

    let class =
        HtbClass::new(TWO, SHAPED, mbit(10), kib(16)).ceiling(mbit(20), kib(24)).priority(3).quantum(3000);
    check("htb_class_full", &class.message(V0, libc::NLM_F_CREATE, Psched::default()));
    let class = HtbClass::new(TWO, UNSHAPED, mbit(40_000), kib(50 << 10)).quantum(60_000);
    check("htb_class_64bit", &class.message(V0, CREATE, Psched::default()));
    let class = HtbClass::new(TWO, SHAPED, mbit(11), kib(70));
    check("htb_class_change", &class.message(V0, 0, Psched::default()));
    check("htb_class_delete", &HtbClass::deletion(V0, UNSHAPED));
}

#[test]
fn queues_and_what_receives() {
    let below = |class, kind, flags| {
        Qdisc::below(class, Handle::qdisc(0x10), kind).message(V0, flags, Psched::default())
    };
    check("pfifo", &below(SHAPED, QdiscKind::Pfifo { limit: 100 }, CREATE));
    check("bfifo", &below(SHAPED, QdiscKind::Bfifo { limit: Bytes::new(100_000) }, CREATE));
    check("fq_codel", &below(Handle::new(1, 1), QdiscKind::FqCodel(FqCodel::new()), CREATE));
    let full = FqCodel::new()
        .limit(1000)
        .flows(256)
        .quantum(1514)
        .target(Duration::from_millis(6))
        .interval(Duration::from_millis(120))
        .memory_limit(kib(4 << 10))
        .ecn(true)
        .mark_threshold(Duration::from_millis(3))
        .drop_batch(32);
    check("fq_codel_full", &below(SHAPED, QdiscKind::FqCodel(full), REPLACE));
    check("ingress", &Qdisc::ingress().message(V0, CREATE, Psched::default()));
    check("clsact", &Qdisc::clsact().message(V0, CREATE, Psched::default()));
    check("delete_root", &Qdisc::deletion(V0, Handle::ROOT, None));
    check("delete_clsact", &Qdisc::deletion(V0, Handle::INGRESS, Some("clsact")));
    check("delete_ingress", &Qdisc::deletion(V0, Handle::INGRESS, Some("ingress")));
}

#[test]
fn bad_networks() {
    let netem = |netem| root(Handle::qdisc(3), QdiscKind::Netem(netem), CREATE);
    let delay = Netem::new().delay(Duration::from_millis(10));
    check("netem", &netem(delay));
    let full = delay.jitter(Duration::from_millis(2)).limit(500).loss(0.01).duplicate(0.02).rate(mbit(1));
    check("netem_full", &netem(full));
}

fn filter(parent: Handle, priority: u16, protocol: Protocol, classifier: Classifier) -> Filter {
    Filter::new(parent, priority, protocol, classifier)
}

#[test]
fn filters_that_redirect() {
    let all = |parent, priority, classifier| filter(parent, priority, Protocol::ALL, classifier);
    let u32 = || Classifier::U32(U32::all());
    let redirect = all(Handle::INGRESS_FILTERS, 1, u32()).action(Mirred::redirect(IFB0));
    check("u32_all_redirect", &redirect.message(V0, CREATE));
    let redirect = all(Handle::CLSACT_INGRESS, 1, u32()).action(Mirred::redirect(IFB0));
    check("u32_all_redirect_clsact", &redirect.message(V0, CREATE));
    let mirror = all(Handle::CLSACT_EGRESS, 7, u32()).action(Mirred::mirror(IFB0));
    check("u32_mirror", &mirror.message(V0, CREATE));
    let redirect = all(Handle::CLSACT_INGRESS, 1, Classifier::MatchAll).action(Mirred::redirect(IFB0));
    check("matchall_redirect", &redirect.message(V0, CREATE));
    let redirect = all(Handle::CLSACT_INGRESS, 1, Classifier::Bpf(Bpf::all())).class(UNSHAPED);
    check("bpf_bytecode", &redirect.action(Mirred::redirect(IFB0)).message(V0, CREATE));
    check("delete_filter_pref", &Filter::deletion(V0, Handle::CLSACT_INGRESS, 1, None));
    check("delete_filter_parent", &Filter::deletion(V0, TWO, 10, Some(Protocol::IPV4)));
}

#[test]
fn filters_by_address() {
    let ipv4 =
        |u32| filter(TWO, 10, Protocol::IPV4, Classifier::U32(u32)).class(UNSHAPED).message(V0, CREATE);
    check("u32_ip_dst", &ipv4(U32::destination("10.0.0.0/8".parse().unwrap())));
    check("u32_ip_src", &ipv4(U32::source("192.168.128.0/17".parse().unwrap())));
    check("u32_ip_proto_dport", &ipv4(U32::new([]).ip_protocol(17).destination_port(53)));
    let ipv6 =
        |u32| filter(TWO, 11, Protocol::IPV6, Classifier::U32(u32)).class(UNSHAPED).message(V0, CREATE);
    check("u32_ip6_dst", &ipv6(U32::destination("fd00:1::/44".parse().unwrap())));
    check("u32_ip6_src_host", &ipv6(U32::source("fd00::1/128".parse().unwrap())));

    let flower = Flower::new().destination("10.0.0.0/8".parse().unwrap());
    let by_destination = filter(TWO, 10, Protocol::IPV4, Classifier::Flower(flower)).class(UNSHAPED);
    check("flower_dst", &by_destination.message(V0, CREATE));
    let flower = Flower::new().source("fd00:1::/44".parse().unwrap()).tcp(80);
    let web = filter(Handle::CLSACT_INGRESS, 10, Protocol::IPV6, Classifier::Flower(flower));
    check("flower_dst6_tcp", &web.action(Mirred::redirect(IFB0)).message(V0, CREATE));
}
