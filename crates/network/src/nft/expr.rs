//! Expressions: the instructions of which rules are made, see `include/uapi/linux/netfilter/nf_tables.h`.
//!
//! Attributes are written in the order in which `nft` writes them, and read in any order: the kernel's own differs.

use podrun_netlink::Body;

use super::wire::Fields;

const LIST_ELEM: u16 = 1;
const NAME: u16 = 1;
const DATA: u16 = 2;
const DATA_VALUE: u16 = 1;
const DATA_VERDICT: u16 = 2;

/// A place in the registers, which are 64 bytes: `NFT_REG_1` begins at byte 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Register(pub(crate) u32);

impl Register {
    /// Registers of 16 bytes have numbers from 1, those of 4 bytes in between from 8.
    fn number(self) -> u32 {
        if self.0.is_multiple_of(16) { 1 + self.0 / 16 } else { 8 + self.0 / 4 }
    }

    fn of_number(number: u32) -> Self {
        Self(if number < 8 { number.saturating_sub(1) * 16 } else { (number - 8) * 4 })
    }
}

/// What a packet's journey says about it: `NFT_META_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meta {
    /// Name of the interface it came from, 16 bytes.
    IifName = 6,
    /// Name of the interface it leaves by, 16 bytes.
    OifName = 7,
    /// `NFPROTO_IPV4` or `NFPROTO_IPV6`, one byte.
    NfProto = 15,
    /// Transport protocol, one byte.
    L4Proto = 16,
}

/// Where an offset counts from: `NFT_PAYLOAD_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Base {
    /// The Ethernet header.
    Link = 0,
    /// The IP or ARP header.
    Network = 1,
    /// The TCP, UDP, SCTP or ICMP header.
    Transport = 2,
}

/// What becomes of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is gone.
    Drop,
    /// The hook lets it pass.
    Accept,
    /// The caller of this chain goes on.
    Return,
    /// Another chain, then back here.
    Jump(String),
    /// Another chain, then back to our caller.
    Goto(String),
}

/// An instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Expr {
    /// Loads a fact about the packet.
    Meta { key: Meta, to: Register },
    /// Loads bytes of the packet.
    Payload { base: Base, offset: u32, len: u32, to: Register },
    /// Goes on if the bytes are, or are not, these.
    Cmp { from: Register, equal: bool, value: Vec<u8> },
    /// Ands bytes with a mask, in place.
    Mask { at: Register, mask: Vec<u8> },
    /// Goes on if a set has, or has not, the key; loads what a map says about it.
    Lookup { set: String, id: u32, from: Register, to: Option<Register>, inverted: bool },
    /// Ends or leaves the chain.
    Verdict(Verdict),
    /// Gives the connection another destination.
    Dnat { family: u8, address: Register, port: Register },
    /// Gives the connection the address of the interface as its source.
    Masquerade,
    /// Loads what the routing table says about the destination address: `RTN_*`, 32 bits of the machine.
    FibDestinationType { to: Register },
    /// Loads the status bits of the connection, 32 bits of the machine.
    CtStatus { to: Register },
    /// Counts.
    Counter,
    /// Something that podrun does not use, by name.
    Other(String),
}

impl Expr {
    /// Writes a list of expressions.
    pub(crate) fn write_list(exprs: &[Self], list: &mut Body) {
        for expr in exprs {
            list.nest(LIST_ELEM, |element| {
                element.text(NAME, expr.name()).nest(DATA, |data| expr.write(data));
            });
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Meta { .. } => "meta",
            Self::Payload { .. } => "payload",
            Self::Cmp { .. } => "cmp",
            Self::Mask { .. } => "bitwise",
            Self::Lookup { .. } => "lookup",
            Self::Verdict(_) => "immediate",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::FibDestinationType { .. } => "fib",
            Self::CtStatus { .. } => "ct",
            Self::Counter => "counter",
            Self::Other(name) => name,
        }
    }

    fn write(&self, data: &mut Body) {
        let value = |data: &mut Body, kind, bytes: &[u8]| {
            data.nest(kind, |data| {
                data.bytes(DATA_VALUE, bytes);
            });
        };
        match self {
            Self::Meta { key, to } => {
                data.be32(2, *key as u32).be32(1, to.number());
            }
            Self::Payload { base, offset, len, to } => {
                data.be32(1, to.number()).be32(2, *base as u32).be32(3, *offset).be32(4, *len);
            }
            Self::Cmp { from, equal, value: bytes } => {
                data.be32(1, from.number()).be32(2, u32::from(!equal));
                value(data, 3, bytes);
            }
            Self::Mask { at, mask } => {
                let len = u32::try_from(mask.len()).expect("as long as an address");
                data.be32(1, at.number()).be32(2, at.number()).be32(3, len);
                value(data, 4, mask);
                value(data, 5, &vec![0; mask.len()]);
            }
            Self::Lookup { set, id, from, to, inverted } => {
                data.be32(2, from.number());
                if let Some(to) = to {
                    data.be32(3, to.number());
                }
                data.text(1, set).be32(4, *id);
                if *inverted {
                    data.be32(5, 1);
                }
            }
            Self::Verdict(verdict) => {
                data.be32(1, 0).nest(2, |data| {
                    data.nest(DATA_VERDICT, |data| {
                        data.be32(1, verdict.code().cast_unsigned());
                        if let Verdict::Jump(chain) | Verdict::Goto(chain) = verdict {
                            data.text(2, chain);
                        }
                    });
                });
            }
            Self::Dnat { family, address, port } => {
                data.be32(1, 1).be32(2, (*family).into()).be32(3, address.number()).be32(5, port.number());
            }
            Self::FibDestinationType { to } => {
                data.be32(3, 2).be32(2, 3).be32(1, to.number());
            }
            Self::CtStatus { to } => {
                data.be32(2, 2).be32(1, to.number());
            }
            Self::Masquerade | Self::Counter | Self::Other(_) => {}
        }
    }

    /// Reads a list of expressions as the kernel gives it.
    pub(crate) fn read_list(list: Fields<'_>) -> Vec<Self> {
        let of = |(_, element)| {
            let element = Fields(element);
            let name = element.text(NAME).unwrap_or_default();
            Self::read(name, element.nested(DATA)).unwrap_or_else(|| Self::Other(name.to_owned()))
        };
        list.iter().filter(|(kind, _)| *kind == LIST_ELEM).map(of).collect()
    }

    /// Returns none for what podrun would not have written.
    fn read(name: &str, data: Fields<'_>) -> Option<Self> {
        let register = |kind| data.u32(kind).map(Register::of_number);
        let value = |kind| data.nested(kind).get(DATA_VALUE).map(<[u8]>::to_vec);
        Some(match name {
            "meta" => Self::Meta { key: Meta::of(data.u32(2)?)?, to: register(1)? },
            "payload" => Self::Payload {
                base: Base::of(data.u32(2)?)?,
                offset: data.u32(3)?,
                len: data.u32(4)?,
                to: register(1)?,
            },
            "cmp" => {
                let equal = match data.u32(2)? {
                    0 => true,
                    1 => false,
                    _ => return None,
                };
                Self::Cmp { from: register(1)?, equal, value: value(3)? }
            }
            "bitwise" => {
                let (at, xor) = (register(1)?, value(5)?);
                let plain = data.u32(6).unwrap_or(0) == 0 && register(2)? == at;
                return (plain && xor.iter().all(|byte| *byte == 0))
                    .then_some(Self::Mask { at, mask: value(4)? });
            }
            "lookup" => Self::Lookup {
                set: data.text(1)?.to_owned(),
                // A name for the length of a batch.
                id: 0,
                from: register(2)?,
                to: register(3),
                inverted: data.u32(5).unwrap_or(0) & 1 != 0,
            },
            "immediate" => Self::Verdict(Verdict::read(data.nested(2).nested(DATA_VERDICT))?),
            "nat" => {
                if data.u32(1)? != 1 || data.u32(7).is_some_and(|flags| flags & !FLAGS_IMPLIED != 0) {
                    return None;
                }
                let family = u8::try_from(data.u32(2)?).ok()?;
                Self::Dnat { family, address: register(3)?, port: register(5)? }
            }
            "masq" => return data.u32(1).is_none_or(|flags| flags == 0).then_some(Self::Masquerade),
            "fib" => {
                return (data.u32(2)? == 3 && data.u32(3)? == 2)
                    .then_some(Self::FibDestinationType { to: register(1)? });
            }
            "ct" => return (data.u32(2)? == 2).then_some(Self::CtStatus { to: register(1)? }),
            "counter" => Self::Counter,
            _ => return None,
        })
    }

    /// Returns the expression without what is a name for the length of a batch only.
    pub(crate) fn lasting(&self) -> Self {
        match self.clone() {
            Self::Lookup { set, from, to, inverted, .. } => Self::Lookup { set, id: 0, from, to, inverted },
            other => other,
        }
    }
}

/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel adds them where there are registers.
const FLAGS_IMPLIED: u32 = 1 | 2;

impl Meta {
    fn of(key: u32) -> Option<Self> {
        [Self::IifName, Self::OifName, Self::NfProto, Self::L4Proto].into_iter().find(|m| *m as u32 == key)
    }
}

impl Base {
    fn of(base: u32) -> Option<Self> {
        [Self::Link, Self::Network, Self::Transport].into_iter().find(|b| *b as u32 == base)
    }
}

impl Verdict {
    fn code(&self) -> i32 {
        match self {
            Self::Drop => 0,
            Self::Accept => 1,
            Self::Jump(_) => -3,
            Self::Goto(_) => -4,
            Self::Return => -5,
        }
    }

    fn read(verdict: Fields<'_>) -> Option<Self> {
        let chain = || verdict.text(2).map(str::to_owned);
        Some(match verdict.u32(1)?.cast_signed() {
            0 => Self::Drop,
            1 => Self::Accept,
            -3 => Self::Jump(chain()?),
            -4 => Self::Goto(chain()?),
            -5 => Self::Return,
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_have_the_numbers_that_nft_gives_them() {
        for (offset, number) in [(0, 1), (4, 9), (8, 10), (16, 2), (20, 13), (24, 14), (32, 3)] {
            assert_eq!(Register(offset).number(), number);
            assert_eq!(Register::of_number(number), Register(offset));
        }
        // The kernel may answer with the other name of a place.
        assert_eq!(Register::of_number(8), Register(0));
        assert_eq!(Register::of_number(12), Register(16));
    }

    #[test]
    fn what_is_written_reads_back() {
        let r = Register(0);
        let all = vec![
            Expr::Meta { key: Meta::OifName, to: r },
            Expr::Payload { base: Base::Transport, offset: 2, len: 2, to: Register(4) },
            Expr::Cmp { from: r, equal: false, value: vec![1, 2, 3] },
            Expr::Mask { at: r, mask: vec![255, 240] },
            Expr::Lookup { set: "s".into(), id: 0, from: r, to: Some(Register(16)), inverted: true },
            Expr::Verdict(Verdict::Drop),
            Expr::Verdict(Verdict::Accept),
            Expr::Verdict(Verdict::Return),
            Expr::Verdict(Verdict::Jump("a".into())),
            Expr::Verdict(Verdict::Goto("b".into())),
            Expr::Dnat { family: 2, address: r, port: Register(4) },
            Expr::Masquerade,
            Expr::FibDestinationType { to: r },
            Expr::CtStatus { to: r },
            Expr::Counter,
        ];
        let mut list = Body::new();
        Expr::write_list(&all, &mut list);
        assert_eq!(Expr::read_list(Fields(list.as_bytes())), all);
    }

    #[test]
    fn what_others_wrote_is_not_taken_for_ours() {
        let other = |name: &str, fill: fn(&mut Body)| {
            let mut list = Body::new();
            list.nest(LIST_ELEM, |element| {
                element.text(NAME, name).nest(DATA, fill);
            });
            assert_eq!(Expr::read_list(Fields(list.as_bytes())), [Expr::Other(name.to_owned())]);
        };
        other("limit", |_| ());
        // snat; a masquerade with random ports; a lookup of the source address; less than.
        other("nat", |data| {
            data.be32(1, 0).be32(2, 2).be32(3, 1).be32(5, 9);
        });
        other("masq", |data| {
            data.be32(1, 4);
        });
        other("fib", |data| {
            data.be32(3, 1).be32(2, 3).be32(1, 1);
        });
        other("cmp", |data| {
            data.be32(1, 1).be32(2, 2);
        });
    }
}
