//! What podrun has nftables do, as data: one table in `inet` and one in `bridge`.
//!
//! Both are the same for every Pod. What differs from Pod to Pod stands in their sets and maps: see
//! [`elements`](super::element). In the words of `nft`:
//!
#![doc = "```text"]
#![doc = include_str!("../../tests/golden/ruleset.nft")]
#![doc = "```"]

use ipnet::IpNet;
use podrun_netlink::{Body, Message};

use super::expr::{Base, Expr, Meta, Register, Verdict};
use super::wire::{NFTABLES, message, octets};

/// `NFPROTO_INET`: IPv4 and IPv6.
pub(crate) const INET: u8 = 1;
/// `NFPROTO_IPV4`
pub(crate) const IPV4: u8 = 2;
/// `NFPROTO_BRIDGE`
pub(crate) const BRIDGE: u8 = 7;
/// `NFPROTO_IPV6`
pub(crate) const IPV6: u8 = 10;

/// Returns the name that `nft` has for the family of a table.
pub(crate) fn family_name(family: u8) -> &'static str {
    if family == BRIDGE { "bridge" } else { "inet" }
}

pub(crate) const PORTS4: &str = "ports4";
pub(crate) const PORTS4_AT: &str = "ports4_at";
pub(crate) const PORTS6: &str = "ports6";
pub(crate) const PORTS6_AT: &str = "ports6_at";
pub(crate) const LINKS: &str = "links";
pub(crate) const OWN_ARP: &str = "own_arp";
pub(crate) const OWN4: &str = "own4";
pub(crate) const OWN6: &str = "own6";

/// A table with all that is in it but elements.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) family: u8,
    pub(crate) name: String,
    pub(crate) chains: Vec<Chain>,
    pub(crate) sets: Vec<Set>,
    /// Number of the first set; the tables of one batch have numbers of their own.
    pub(crate) first_set: u32,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) name: String,
    pub(crate) hook: Option<Hook>,
    pub(crate) rules: Vec<Vec<Expr>>,
}

/// Where packets enter a chain. Those that reach its end go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hook {
    /// `filter`, `nat`
    pub(crate) kind: String,
    /// `NF_INET_*`
    pub(crate) number: u32,
    pub(crate) priority: i32,
}

/// A set, or a map where it has data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: String,
    pub(crate) key: Type,
    pub(crate) data: Option<Type>,
}

/// What the bytes of a key mean, for `nft list`, and how many there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Type {
    /// `nft`'s numbers of data types, six bits each.
    pub(crate) number: u32,
    pub(crate) len: u32,
}

const ADDRESS4: Type = Type { number: 7, len: 4 };
const ADDRESS6: Type = Type { number: 8, len: 16 };
/// Six bytes, and two to the next register.
const ETHER: Type = Type { number: 9, len: 8 };
const PROTOCOL: Type = Type { number: 12, len: 4 };
const SERVICE: Type = Type { number: 13, len: 4 };
const INTERFACE: Type = Type { number: 41, len: 16 };

fn concatenation(parts: &[Type]) -> Type {
    parts.iter().fold(Type { number: 0, len: 0 }, |whole, part| Type {
        number: whole.number << 6 | part.number,
        len: whole.len + part.len,
    })
}

fn set(name: &str, key: &[Type]) -> Set {
    Set { name: name.to_owned(), key: concatenation(key), data: None }
}

fn map(name: &str, key: &[Type], data: &[Type]) -> Set {
    Set { data: Some(concatenation(data)), ..set(name, key) }
}

const PREROUTING: u32 = 0;
const OUTPUT: u32 = 3;
const POSTROUTING: u32 = 4;

fn chain(name: &str, rules: Vec<Vec<Expr>>) -> Chain {
    Chain { name: name.to_owned(), hook: None, rules }
}

fn base_chain(name: &str, kind: &str, number: u32, priority: i32, rules: Vec<Vec<Expr>>) -> Chain {
    let hook = Some(Hook { kind: kind.to_owned(), number, priority });
    Chain { hook, ..chain(name, rules) }
}

/// Returns the table that gives Pods the world and the world their ports.
///
/// - Only what is addressed to this machine is looked up in the maps, so nobody's traffic to that port elsewhere is
///   touched.
/// - The address of whoever calls is kept, except where the answer would not come back: from the machine's loopback
///   addresses, and from Pods, which would answer each other directly.
/// - The machine's loopback addresses can be called by itself alone.
pub(crate) fn inet(table: &str, bridge: &str, subnets: &[IpNet]) -> Table {
    let first = Register(0);
    let to_ports = || jump_if_local("hostports");
    let by_map = |family: u8, address: Option<(u32, u32)>, map: &str| {
        let mut rule = family_is(family);
        let mut at = 0;
        if let Some((offset, len)) = address {
            rule.push(Expr::Payload { base: Base::Network, offset, len, to: first });
            at = len;
        }
        rule.push(Expr::Meta { key: Meta::L4Proto, to: Register(at) });
        rule.push(Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: Register(at + 4) });
        rule.push(Expr::Lookup { set: map.to_owned(), id: 0, from: first, to: Some(first), inverted: false });
        // A map's value is the address and the port.
        let port = Register(if family == IPV4 { 4 } else { 16 });
        rule.push(Expr::Dnat { family, address: first, port });
        rule
    };
    let drop_loopback = |offset| {
        [interface(Meta::IifName, true, bridge), family_is(IPV4), loopback4(offset), drop()].concat()
    };
    let mut postrouting = vec![
        [
            interface(Meta::OifName, true, bridge),
            is_redirected(),
            family_is(IPV4),
            loopback4(SOURCE4),
            masquerade(),
        ]
        .concat(),
    ];
    for subnet in subnets {
        let from = source_in(*subnet);
        let redirected =
            [interface(Meta::OifName, true, bridge), is_redirected(), from.clone(), masquerade()].concat();
        postrouting
            .extend([redirected, [interface(Meta::OifName, false, bridge), from, masquerade()].concat()]);
    }
    let loopback6 = [
        family_is(IPV6),
        vec![
            Expr::Payload { base: Base::Network, offset: DESTINATION6, len: 16, to: first },
            equal(std::net::Ipv6Addr::LOCALHOST.octets().to_vec()),
            Expr::Verdict(Verdict::Return),
        ],
    ]
    .concat();
    Table {
        family: INET,
        name: table.to_owned(),
        first_set: 1,
        chains: vec![
            chain(
                "hostports",
                vec![
                    by_map(IPV4, Some((DESTINATION4, 4)), PORTS4_AT),
                    by_map(IPV4, None, PORTS4),
                    by_map(IPV6, Some((DESTINATION6, 16)), PORTS6_AT),
                    by_map(IPV6, None, PORTS6),
                ],
            ),
            base_chain(
                "raw",
                "filter",
                PREROUTING,
                -300,
                vec![drop_loopback(DESTINATION4), drop_loopback(SOURCE4)],
            ),
            base_chain("prerouting", "nat", PREROUTING, -100, vec![to_ports()]),
            // No packet from ::1 may leave the machine, so its ports are not there for ::1.
            base_chain("output", "nat", OUTPUT, -100, vec![loopback6, to_ports()]),
            base_chain("postrouting", "nat", POSTROUTING, 100, postrouting),
        ],
        sets: vec![
            map(PORTS4, &[PROTOCOL, SERVICE], &[ADDRESS4, SERVICE]),
            map(PORTS4_AT, &[ADDRESS4, PROTOCOL, SERVICE], &[ADDRESS4, SERVICE]),
            map(PORTS6, &[PROTOCOL, SERVICE], &[ADDRESS6, SERVICE]),
            map(PORTS6_AT, &[ADDRESS6, PROTOCOL, SERVICE], &[ADDRESS6, SERVICE]),
        ],
    }
}

/// Returns the table that lets a Pod speak in its own name only.
///
/// On a Pod's port the bridge takes ARP and IP from the Pod's MAC and addresses, no router advertisements and
/// redirects, no neighbour advertisements for somebody else's address, and nothing else at all. A frame that is not
/// taken is not learned from either.
pub(crate) fn bridge(table: &str) -> Table {
    let own = |ethertype: u16, source: &[Expr], set: &str| {
        let key = [source_link(), source.to_vec(), vec![in_set(set, false), Expr::Verdict(Verdict::Accept)]];
        [ethertype_is(ethertype), key.concat()].concat()
    };
    let network = |offset, len, to| Expr::Payload { base: Base::Network, offset, len, to: Register(to) };
    let foreign_advert = [
        icmpv6_is(NEIGHBOUR_ADVERTISEMENT),
        source_link(),
        vec![
            // The target address stands behind type, code, checksum and flags.
            Expr::Payload { base: Base::Transport, offset: 8, len: 16, to: Register(AFTER_LINK) },
            in_set(OWN6, true),
            Expr::Verdict(Verdict::Drop),
        ],
    ]
    .concat();
    Table {
        family: BRIDGE,
        name: table.to_owned(),
        first_set: 5,
        chains: vec![
            chain(
                "pod",
                vec![
                    own(0x0806, &[network(8, 6, AFTER_LINK), network(14, 4, AFTER_LINK + 8)], OWN_ARP),
                    own(0x0800, &[network(SOURCE4, 4, AFTER_LINK)], OWN4),
                    [icmpv6_is(ROUTER_ADVERTISEMENT), drop()].concat(),
                    [icmpv6_is(REDIRECT), drop()].concat(),
                    foreign_advert,
                    own(0x86dd, &[network(SOURCE6, 16, AFTER_LINK)], OWN6),
                    [vec![Expr::Counter], drop()].concat(),
                ],
            ),
            base_chain(
                "prerouting",
                "filter",
                PREROUTING,
                -300,
                vec![vec![
                    Expr::Meta { key: Meta::IifName, to: Register(0) },
                    in_set(LINKS, false),
                    Expr::Verdict(Verdict::Goto("pod".to_owned())),
                ]],
            ),
        ],
        sets: vec![
            set(LINKS, &[INTERFACE]),
            set(OWN_ARP, &[INTERFACE, ETHER, ETHER, ADDRESS4]),
            set(OWN4, &[INTERFACE, ETHER, ADDRESS4]),
            set(OWN6, &[INTERFACE, ETHER, ADDRESS6]),
        ],
    }
}

const SOURCE4: u32 = 12;
const DESTINATION4: u32 = 16;
const SOURCE6: u32 = 8;
const DESTINATION6: u32 = 24;
/// Behind the name of the interface and the MAC address.
const AFTER_LINK: u32 = 24;
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// `IPS_DST_NAT`
const DESTINATION_REWRITTEN: u32 = 1 << 5;
/// `RTN_LOCAL`
const LOCAL: u32 = 2;

fn equal(value: Vec<u8>) -> Expr {
    Expr::Cmp { from: Register(0), equal: true, value }
}

fn drop() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Drop)]
}

fn masquerade() -> Vec<Expr> {
    vec![Expr::Masquerade]
}

fn in_set(set: &str, inverted: bool) -> Expr {
    Expr::Lookup { set: set.to_owned(), id: 0, from: Register(0), to: None, inverted }
}

fn interface(key: Meta, equal: bool, name: &str) -> Vec<Expr> {
    let value = interface_bytes(name);
    vec![Expr::Meta { key, to: Register(0) }, Expr::Cmp { from: Register(0), equal, value }]
}

/// Returns the name of an interface as a register holds it.
pub(crate) fn interface_bytes(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.resize(16, 0);
    bytes
}

fn family_is(family: u8) -> Vec<Expr> {
    vec![Expr::Meta { key: Meta::NfProto, to: Register(0) }, equal(vec![family])]
}

fn ethertype_is(ethertype: u16) -> Vec<Expr> {
    vec![
        Expr::Payload { base: Base::Link, offset: 12, len: 2, to: Register(0) },
        equal(ethertype.to_be_bytes().to_vec()),
    ]
}

fn icmpv6_is(kind: u8) -> Vec<Expr> {
    let rest = vec![
        Expr::Meta { key: Meta::L4Proto, to: Register(0) },
        equal(vec![58]),
        Expr::Payload { base: Base::Transport, offset: 0, len: 1, to: Register(0) },
        equal(vec![kind]),
    ];
    [ethertype_is(0x86dd), rest].concat()
}

/// Loads the port of the bridge and the sender's MAC address.
fn source_link() -> Vec<Expr> {
    vec![
        Expr::Meta { key: Meta::IifName, to: Register(0) },
        Expr::Payload { base: Base::Link, offset: 6, len: 6, to: Register(16) },
    ]
}

fn loopback4(offset: u32) -> Vec<Expr> {
    vec![Expr::Payload { base: Base::Network, offset, len: 1, to: Register(0) }, equal(vec![127])]
}

/// The destination is an address of this machine.
fn jump_if_local(chain: &str) -> Vec<Expr> {
    vec![
        Expr::FibDestinationType { to: Register(0) },
        equal(LOCAL.to_ne_bytes().to_vec()),
        Expr::Verdict(Verdict::Jump(chain.to_owned())),
    ]
}

fn is_redirected() -> Vec<Expr> {
    let mask = DESTINATION_REWRITTEN.to_ne_bytes().to_vec();
    vec![
        Expr::CtStatus { to: Register(0) },
        Expr::Mask { at: Register(0), mask },
        Expr::Cmp { from: Register(0), equal: false, value: vec![0; 4] },
    ]
}

fn source_in(subnet: IpNet) -> Vec<Expr> {
    let (family, offset) = match subnet {
        IpNet::V4(_) => (IPV4, SOURCE4),
        IpNet::V6(_) => (IPV6, SOURCE6),
    };
    let (mut network, mask) = (octets(subnet.network()), octets(subnet.netmask()));
    let whole = usize::from(subnet.prefix_len() / 8);
    let mut rule = family_is(family);
    // As nft does: bytes alone where the prefix ends with one.
    if subnet.prefix_len().is_multiple_of(8) {
        network.truncate(whole);
    }
    let len = u32::try_from(network.len()).expect("as long as an address");
    rule.push(Expr::Payload { base: Base::Network, offset, len, to: Register(0) });
    if !subnet.prefix_len().is_multiple_of(8) {
        rule.push(Expr::Mask { at: Register(0), mask });
    }
    rule.push(equal(network));
    rule
}

pub(crate) const NEW_TABLE: u8 = 0;
pub(crate) const GET_TABLE: u8 = 1;
pub(crate) const DELETE_TABLE: u8 = 2;
const NEW_CHAIN: u8 = 3;
pub(crate) const GET_CHAIN: u8 = 4;
const NEW_RULE: u8 = 6;
pub(crate) const GET_RULE: u8 = 7;
const NEW_SET: u8 = 9;
pub(crate) const GET_SET: u8 = 10;

/// `NF_ACCEPT`, what happens at the end of a base chain.
const ACCEPT: u32 = 1;
/// `NFT_SET_MAP`
const IS_MAP: u32 = 8;
pub(crate) const TABLE_USERDATA: u16 = 6;

impl Table {
    /// Returns the messages that make the table where there is none.
    ///
    /// `stamp` is kept with the table, for whoever asks whether it is this one.
    pub(crate) fn create(&self, stamp: &[u8]) -> Vec<Message> {
        [self.structure(stamp), self.rules()].concat()
    }

    /// Returns the message that deletes the table with everything in it.
    pub(crate) fn delete(&self) -> Message {
        self.message(DELETE_TABLE, 0, |_| ())
    }

    /// Returns a message about the table or something in it.
    pub(crate) fn message(&self, kind: u8, bits: i32, fill: impl FnOnce(&mut Body)) -> Message {
        let mut message = message(NFTABLES, kind, bits, self.family);
        message.body.text(1, &self.name);
        fill(&mut message.body);
        message
    }

    /// Table, chains and sets, in the order in which `nft` sends them.
    fn structure(&self, stamp: &[u8]) -> Vec<Message> {
        let table = self.message(NEW_TABLE, 0, |body| {
            body.be32(2, 0);
            if !stamp.is_empty() {
                body.bytes(TABLE_USERDATA, stamp);
            }
        });
        let chain = |chain: &Chain| {
            self.message(NEW_CHAIN, libc::NLM_F_CREATE, |body| {
                body.text(3, &chain.name);
                if let Some(hook) = &chain.hook {
                    body.be32(5, ACCEPT).text(7, &hook.kind).nest(4, |place| {
                        place.be32(1, hook.number).be32(2, hook.priority.cast_unsigned());
                    });
                }
            })
        };
        let set = |(set, id): (&Set, u32)| {
            self.message(NEW_SET, libc::NLM_F_CREATE, |body| {
                let flags = if set.data.is_some() { IS_MAP } else { 0 };
                body.text(2, &set.name).be32(3, flags).be32(4, set.key.number).be32(5, set.key.len);
                if let Some(data) = set.data {
                    body.be32(6, data.number).be32(7, data.len);
                }
                body.be32(10, id);
            })
        };
        let chains = self.chains.iter().map(chain);
        std::iter::once(table).chain(chains).chain(self.numbered().map(set)).collect()
    }

    fn rules(&self) -> Vec<Message> {
        let of = |chain: &Chain, rule: &[Expr]| {
            self.message(NEW_RULE, libc::NLM_F_CREATE | libc::NLM_F_APPEND, |body| {
                body.text(2, &chain.name).nest(4, |list| Expr::write_list(&self.with_ids(rule), list));
            })
        };
        self.chains.iter().flat_map(|chain| chain.rules.iter().map(move |rule| of(chain, rule))).collect()
    }

    /// Sets of the same batch go by numbers.
    fn numbered(&self) -> impl Iterator<Item = (&Set, u32)> {
        self.sets.iter().zip(self.first_set..)
    }

    fn with_ids(&self, rule: &[Expr]) -> Vec<Expr> {
        let id = |name: &str| self.numbered().find(|(set, _)| set.name == name).map_or(0, |(_, id)| id);
        let with_id = |expr: &Expr| match expr.clone() {
            Expr::Lookup { set, from, to, inverted, .. } => {
                Expr::Lookup { id: id(&set), set, from, to, inverted }
            }
            other => other,
        };
        rule.iter().map(with_id).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nft::golden;

    #[test]
    fn the_tables_are_byte_for_byte_what_nft_sends() {
        let subnets = ["10.88.0.0/20", "fd00:88::/64"].map(|subnet| subnet.parse().unwrap());
        let ours = [inet("podrun", "podrun0", &subnets), bridge("podrun")];
        let golden = golden::read(include_str!("../../tests/golden/ruleset.hex"));
        for table in ours {
            let messages = [table.structure(&[]), table.rules()].concat();
            golden::check(&messages, &golden, table.family);
        }
    }

    #[test]
    fn prefixes_are_compared_as_nft_does() {
        let lens = |subnet: &str| {
            let rule = source_in(subnet.parse().unwrap());
            let masked = rule.iter().any(|expr| matches!(expr, Expr::Mask { .. }));
            let len = rule.iter().find_map(|expr| match expr {
                Expr::Payload { len, .. } => Some(*len),
                _ => None,
            });
            (len.unwrap(), masked)
        };
        assert_eq!(lens("10.0.0.0/8"), (1, false));
        assert_eq!(lens("10.88.0.0/16"), (2, false));
        assert_eq!(lens("10.88.0.0/20"), (4, true));
        assert_eq!(lens("10.88.0.1/32"), (4, false));
        assert_eq!(lens("fd00::/48"), (6, false));
        assert_eq!(lens("fd00::/60"), (16, true));
    }
}
