//! Matching by words of the packet.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use podrun_netlink::{Attributes, Body, Malformed};

use super::{Classifier, Filter, Options, action};
use crate::handle::Handle;

// enum in include/uapi/linux/pkt_cls.h
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
/// `TC_U32_TERMINAL`
const TERMINAL: u8 = 1;
/// `struct tc_u32_sel` without its keys, and `struct tc_u32_key`.
const SELECTOR: usize = 16;
const KEY: usize = 16;

/// A word of the packet that must have a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct U32Key {
    /// Which bits count.
    pub mask: u32,
    /// What they must be.
    pub value: u32,
    /// Where the word is, in bytes from the start of the network header.
    pub offset: i32,
}

/// Matches packets of which all keys hold.
///
/// ```
/// use podrun_tc::U32;
/// let dns = U32::destination("10.96.0.10/32".parse()?).ip_protocol(17).destination_port(53);
/// assert_eq!(dns.to_string(), "0a60000a/ffffffff at 16, 00110000/00ff0000 at 8, 00000035/0000ffff at 20");
/// # Ok::<(), ipnet::AddrParseError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct U32 {
    keys: Vec<U32Key>,
}

impl U32 {
    /// Matches every packet, by a key that no bit of counts.
    pub fn all() -> Self {
        Self::new([U32Key { mask: 0, value: 0, offset: 0 }])
    }

    /// Matches packets of which these keys hold, at most 128.
    pub fn new(keys: impl IntoIterator<Item = U32Key>) -> Self {
        Self { keys: keys.into_iter().take(128).collect() }
    }

    /// Matches packets that come from a network. The filter must be for the protocol of the network.
    pub fn source(network: IpNet) -> Self {
        Self::network(network, 12, 8)
    }

    /// Matches packets that go to a network. The filter must be for the protocol of the network.
    pub fn destination(network: IpNet) -> Self {
        Self::network(network, 16, 24)
    }

    fn network(network: IpNet, offset_v4: i32, offset_v6: i32) -> Self {
        let (address, mask) = (network.addr(), network.netmask());
        let offset = if address.is_ipv4() { offset_v4 } else { offset_v6 };
        let words = (0..).step_by(4).zip(words(address).into_iter().zip(words(mask)));
        // A word that no bit of counts says nothing, unless there is no other.
        let keys: Vec<U32Key> = words
            .filter(|(_, (_, mask))| *mask != 0)
            .map(|(place, (value, mask))| U32Key { mask, value: value & mask, offset: offset + place })
            .collect();
        if keys.is_empty() { Self::all() } else { Self { keys } }
    }

    /// And of which the IPv4 header names a protocol: 6 for TCP, 17 for UDP.
    #[must_use]
    pub fn ip_protocol(self, number: u8) -> Self {
        self.and(U32Key { mask: 0x00ff_0000, value: u32::from(number) << 16, offset: 8 })
    }

    /// And which go to a port, if the IPv4 header has no options.
    #[must_use]
    pub fn destination_port(self, port: u16) -> Self {
        self.and(U32Key { mask: 0x0000_ffff, value: port.into(), offset: 20 })
    }

    /// And of which this key holds.
    #[must_use]
    pub fn and(mut self, key: U32Key) -> Self {
        self.keys.push(key);
        Self::new(self.keys)
    }

    /// Returns the keys.
    pub fn keys(&self) -> &[U32Key] {
        &self.keys
    }

    /// Whether every packet matches.
    pub fn matches_all(&self) -> bool {
        self.keys.iter().all(|key| key.mask == 0)
    }

    pub(super) fn write(&self, filter: &Filter, options: &mut Body) {
        filter.write_verdict(TCA_U32_CLASSID, TCA_U32_ACT, options);
        let mut selector = [0; SELECTOR];
        selector[0] = TERMINAL;
        selector[2] = u8::try_from(self.keys.len()).expect("there are at most 128");
        let mut bytes = selector.to_vec();
        for key in &self.keys {
            bytes.extend_from_slice(&key.mask.to_be_bytes());
            bytes.extend_from_slice(&key.value.to_be_bytes());
            bytes.extend_from_slice(&key.offset.to_ne_bytes());
            bytes.extend_from_slice(&[0; 4]);
        }
        options.bytes(TCA_U32_SEL, &bytes);
    }

    /// Reads a filter; a hash table, which the kernel lists too, is none.
    pub(super) fn read(attributes: Attributes<'_>) -> Result<Option<Options>, Malformed> {
        let (mut selector, mut class, mut actions) = (None, None, <_>::default());
        for attribute in attributes {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_U32_CLASSID => class = Some(Handle::from_raw(attribute.u32()?)),
                TCA_U32_SEL => selector = Some(attribute.payload()),
                TCA_U32_ACT => actions = action::read(attribute.nested())?,
                _ => {}
            }
        }
        let Some(selector) = selector else { return Ok(None) };
        let keys = selector.get(SELECTOR..).unwrap_or_default().chunks_exact(KEY).map(|key| {
            let part = |at: usize| [key[at], key[at + 1], key[at + 2], key[at + 3]];
            U32Key {
                mask: u32::from_be_bytes(part(0)),
                value: u32::from_be_bytes(part(4)),
                offset: i32::from_ne_bytes(part(8)),
            }
        });
        Ok(Some(Options { classifier: Classifier::U32(Self::new(keys)), class, actions }))
    }
}

/// Returns the words of an address in the order of the packet.
fn words(address: IpAddr) -> Vec<u32> {
    match address {
        IpAddr::V4(v4) => vec![v4.to_bits()],
        IpAddr::V6(v6) => {
            let bits = v6.to_bits();
            [96, 64, 32, 0]
                .map(|shift| u32::try_from((bits >> shift) & 0xffff_ffff).expect("32 bits"))
                .to_vec()
        }
    }
}

impl fmt::Display for U32 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.matches_all() {
            return f.pad("all");
        }
        let keys =
            self.keys.iter().map(|key| format!("{:08x}/{:08x} at {}", key.value, key.mask, key.offset));
        f.pad(&keys.collect::<Vec<_>>().join(", "))
    }
}
