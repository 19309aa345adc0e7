//! Queueing disciplines.

mod fq_codel;
mod htb;
mod netem;
mod tbf;

pub use fq_codel::FqCodel;
pub use htb::{FoundClass, Htb, HtbClass};
pub use netem::Netem;
pub use tbf::{Peak, Tbf};

use podrun_netlink::{Attribute, Body, Malformed, Message, Reply, attributes};

use crate::difference::{Comparison, Difference, Field};
use crate::handle::Handle;
use crate::psched::Psched;
use crate::statistics::Statistics;
use crate::units::Bytes;
use crate::wire::{KIND, OPTIONS, STATS2, Tcmsg};

/// What a queueing discipline is, with its parameters.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum QdiscKind {
    /// A token bucket: one rate for all. tc-tbf(8).
    Tbf(Tbf),
    /// A hierarchy of token buckets, one per class. tc-htb(8).
    Htb(Htb),
    /// Many queues, of which each is kept short. tc-fq_codel(8).
    FqCodel(FqCodel),
    /// A bad network. tc-netem(8).
    Netem(Netem),
    /// A queue of so many packets.
    Pfifo {
        /// How many packets.
        limit: u32,
    },
    /// A queue of so many bytes.
    Bfifo {
        /// How many bytes, headers and all.
        limit: Bytes,
    },
    /// Filters for what a link receives.
    Ingress,
    /// Filters for what a link receives and for what it sends.
    Clsact,
    /// Another kind, as it was found.
    Other(String),
}

impl QdiscKind {
    /// Returns the kernel's name of the kind.
    pub fn name(&self) -> &str {
        match self {
            Self::Tbf(_) => "tbf",
            Self::Htb(_) => "htb",
            Self::FqCodel(_) => "fq_codel",
            Self::Netem(_) => "netem",
            Self::Pfifo { .. } => "pfifo",
            Self::Bfifo { .. } => "bfifo",
            Self::Ingress => "ingress",
            Self::Clsact => "clsact",
            Self::Other(name) => name,
        }
    }

    /// Returns in what `found` differs from this. Parameters that are not set here may be anything, and rounding by the
    /// kernel is no difference.
    pub fn differences(&self, found: &Self, psched: Psched) -> Vec<Difference> {
        match (self, found) {
            (Self::Tbf(wanted), Self::Tbf(found)) => wanted.differences(found, psched),
            (Self::Htb(wanted), Self::Htb(found)) => wanted.differences(found),
            (Self::FqCodel(wanted), Self::FqCodel(found)) => wanted.differences(found),
            (Self::Netem(wanted), Self::Netem(found)) => wanted.differences(found),
            (Self::Pfifo { limit: wanted }, Self::Pfifo { limit: found }) => {
                Comparison::default().equal(Field::Limit, wanted, found).finish()
            }
            (Self::Bfifo { limit: wanted }, Self::Bfifo { limit: found }) => {
                Comparison::default().equal(Field::Limit, wanted, found).finish()
            }
            _ => Comparison::default().equal(Field::Kind, self.name(), found.name()).finish(),
        }
    }

    fn write(&self, psched: Psched, body: &mut Body) {
        body.text(KIND, self.name());
        match self {
            Self::Tbf(tbf) => tbf.write(psched, body),
            Self::Htb(htb) => htb.write(body),
            Self::FqCodel(fq_codel) => fq_codel.write(body),
            Self::Netem(netem) => netem.write(psched, body),
            // struct tc_fifo_qopt
            Self::Pfifo { limit } => _ = body.u32(OPTIONS, *limit),
            Self::Bfifo { limit } => _ = body.u32(OPTIONS, limit.in_32_bits()),
            Self::Ingress | Self::Clsact | Self::Other(_) => {}
        }
    }

    fn read(name: String, options: Option<Attribute<'_>>, psched: Psched) -> Result<Self, Malformed> {
        // Without options there is nothing to tell but the name.
        let Some(options) = options else {
            return Ok(match name.as_str() {
                "ingress" => Self::Ingress,
                "clsact" => Self::Clsact,
                _ => Self::Other(name),
            });
        };
        Ok(match name.as_str() {
            "tbf" => Self::Tbf(Tbf::read(options.nested(), psched)?),
            "htb" => Self::Htb(Htb::read(options.nested())?),
            "fq_codel" => Self::FqCodel(FqCodel::read(options.nested())?),
            "netem" => Self::Netem(Netem::read(options.payload(), psched)?),
            "pfifo" => Self::Pfifo { limit: options.u32()? },
            "bfifo" => Self::Bfifo { limit: Bytes::new(options.u32()?.into()) },
            "ingress" => Self::Ingress,
            "clsact" => Self::Clsact,
            _ => Self::Other(name),
        })
    }
}

/// A queueing discipline and its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Qdisc {
    /// Where it is: [`Handle::ROOT`], [`Handle::INGRESS`], or a class.
    pub parent: Handle,
    /// Its name.
    pub handle: Handle,
    /// What it is.
    pub kind: QdiscKind,
}

impl Qdisc {
    /// Returns a root discipline.
    pub fn root(handle: Handle, kind: QdiscKind) -> Self {
        Self { parent: Handle::ROOT, handle, kind }
    }

    /// Returns a discipline below a class.
    pub fn below(class: Handle, handle: Handle, kind: QdiscKind) -> Self {
        Self { parent: class, handle, kind }
    }

    /// Returns `ingress`.
    pub fn ingress() -> Self {
        Self { parent: Handle::INGRESS, handle: Handle::INGRESS_FILTERS, kind: QdiscKind::Ingress }
    }

    /// Returns `clsact`.
    pub fn clsact() -> Self {
        Self { kind: QdiscKind::Clsact, ..Self::ingress() }
    }

    pub(crate) fn message(&self, link: u32, flags: i32, psched: Psched) -> Message {
        let tcmsg = Tcmsg { link, handle: self.handle, parent: self.parent, info: 0 };
        let mut message = tcmsg.message(libc::RTM_NEWQDISC, flags);
        self.kind.write(psched, &mut message.body);
        message
    }

    /// Returns the message that deletes the discipline at a place; with a kind, only if it is of that kind.
    pub(crate) fn deletion(link: u32, parent: Handle, kind: Option<&str>) -> Message {
        let handle = if parent == Handle::INGRESS { Handle::INGRESS_FILTERS } else { Handle::NONE };
        let mut message = Tcmsg { link, handle, parent, info: 0 }.message(libc::RTM_DELQDISC, 0);
        if let Some(kind) = kind {
            message.body.text(KIND, kind);
        }
        message
    }
}

/// A queueing discipline as the kernel tells it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoundQdisc {
    /// The link it is on, by index.
    pub link: u32,
    /// Where it is, its name and what it is.
    pub qdisc: Qdisc,
    /// What went through.
    pub statistics: Statistics,
}

impl FoundQdisc {
    pub(crate) fn read(reply: Reply<'_>, psched: Psched) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWQDISC {
            return Ok(None);
        }
        let (tcmsg, rest) = Tcmsg::read(&reply)?;
        let parts = Parts::read(rest)?;
        let kind = QdiscKind::read(parts.kind, parts.options, psched)?;
        let qdisc = Qdisc { parent: tcmsg.parent, handle: tcmsg.handle, kind };
        Ok(Some(Self { link: tcmsg.link, qdisc, statistics: parts.statistics }))
    }
}

/// The attributes that disciplines and classes have in common.
pub(crate) struct Parts<'a> {
    pub(crate) kind: String,
    pub(crate) options: Option<Attribute<'a>>,
    pub(crate) statistics: Statistics,
}

impl<'a> Parts<'a> {
    pub(crate) fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let mut parts = Self { kind: String::new(), options: None, statistics: Statistics::default() };
        for attribute in attributes(bytes) {
            let attribute = attribute?;
            match attribute.kind() {
                KIND => parts.kind = attribute.text(),
                OPTIONS => parts.options = Some(attribute),
                STATS2 => parts.statistics = Statistics::read(attribute.nested())?,
                _ => {}
            }
        }
        Ok(parts)
    }
}

/// Returns a structure of `N` bytes that must be there.
pub(crate) fn structure<const N: usize>(
    attribute: Option<Attribute<'_>>,
    what: &'static str,
) -> Result<[u8; N], Malformed> {
    let attribute = attribute.ok_or(Malformed { what, found: 0, expected: N })?;
    attribute.array().map_err(|malformed| Malformed { what, ..malformed })
}

/// Puts words one after the other.
pub(crate) fn words<const N: usize>(words: [u32; N]) -> Vec<u8> {
    words.into_iter().flat_map(u32::to_ne_bytes).collect()
}
