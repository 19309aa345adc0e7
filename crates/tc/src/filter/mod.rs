//! Filters: which packets, and what becomes of them.

mod action;
mod bpf;
mod flower;
mod u32;

pub use action::{Action, Mirred, Mirroring};
pub use bpf::{Bpf, Instruction};
pub use flower::Flower;
pub use u32::{U32, U32Key};

use std::fmt;

use podrun_netlink::{Attribute, Body, Malformed, Message, Reply, attributes};

use crate::difference::{Comparison, Difference, Field};
use crate::handle::Handle;
use crate::statistics::Statistics;
use crate::wire::{KIND, OPTIONS, Tcmsg};

// enum in include/uapi/linux/pkt_cls.h
const TCA_MATCHALL_CLASSID: u16 = 1;
const TCA_MATCHALL_ACT: u16 = 2;

/// Which packets a filter looks at, by what their link-layer header says they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol(u16);

impl Protocol {
    /// Every packet.
    #[doc(alias = "ETH_P_ALL")]
    pub const ALL: Self = Self(3);
    /// IPv4.
    #[doc(alias = "ETH_P_IP")]
    pub const IPV4: Self = Self(0x0800);
    /// IPv6.
    #[doc(alias = "ETH_P_IPV6")]
    pub const IPV6: Self = Self(0x86dd);
    /// ARP.
    #[doc(alias = "ETH_P_ARP")]
    pub const ARP: Self = Self(0x0806);

    /// Returns the protocol with this EtherType.
    pub const fn from_ethertype(ethertype: u16) -> Self {
        Self(ethertype)
    }

    /// Returns the EtherType.
    pub const fn ethertype(self) -> u16 {
        self.0
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::ALL => f.pad("all"),
            Self::IPV4 => f.pad("ip"),
            Self::IPV6 => f.pad("ipv6"),
            Self::ARP => f.pad("arp"),
            Self(other) => write!(f, "{other:#06x}"),
        }
    }
}

/// How a filter tells which packets are meant.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Classifier {
    /// By words of the packet; every kernel has it. tc-u32(8).
    U32(U32),
    /// All of them, cheaply. Not every kernel has it. tc-matchall(8).
    MatchAll,
    /// By a program. tc-bpf(8).
    Bpf(Bpf),
    /// By fields. Not every kernel has it. tc-flower(8).
    Flower(Flower),
    /// Another kind, as it was found.
    Other(String),
}

impl Classifier {
    /// Returns the kernel's name of the kind.
    pub fn name(&self) -> &str {
        match self {
            Self::U32(_) => "u32",
            Self::MatchAll => "matchall",
            Self::Bpf(_) => "bpf",
            Self::Flower(_) => "flower",
            Self::Other(name) => name,
        }
    }

    /// Whether it is for every packet, however it says so.
    pub fn matches_all(&self) -> bool {
        match self {
            Self::MatchAll => true,
            Self::U32(u32) => u32.matches_all(),
            Self::Bpf(bpf) => bpf.matches_all(),
            Self::Flower(_) | Self::Other(_) => false,
        }
    }
}

impl fmt::Display for Classifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::U32(u32) => u32.fmt(f),
            Self::MatchAll | Self::Other(_) => f.pad(self.name()),
            Self::Bpf(bpf) => bpf.fmt(f),
            Self::Flower(flower) => flower.fmt(f),
        }
    }
}

/// A filter and its place.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Filter {
    /// The discipline or class it belongs to: [`Handle::CLSACT_INGRESS`] for instance, or that of an HTB.
    pub parent: Handle,
    /// Its place among the others, 1 first. `0` lets the kernel choose when it is added.
    pub priority: u16,
    /// Which packets it looks at.
    pub protocol: Protocol,
    /// Which of them it is for.
    pub classifier: Classifier,
    /// The class they go to.
    pub class: Option<Handle>,
    /// What is done with them.
    pub actions: Vec<Action>,
}

impl Filter {
    /// Returns a filter that matches packets and does nothing yet.
    pub fn new(parent: Handle, priority: u16, protocol: Protocol, classifier: Classifier) -> Self {
        Self { parent, priority, protocol, classifier, class: None, actions: Vec::new() }
    }

    /// Sends the packets to a class.
    #[must_use]
    pub fn class(self, class: Handle) -> Self {
        Self { class: Some(class), ..self }
    }

    /// Does something with the packets, after what is done already.
    #[must_use]
    pub fn action(mut self, action: impl Into<Action>) -> Self {
        self.actions.push(action.into());
        self
    }

    fn info(&self) -> u32 {
        u32::from(self.priority) << 16 | u32::from(self.protocol.0.to_be())
    }

    pub(crate) fn message(&self, link: u32, flags: i32) -> Message {
        let tcmsg = Tcmsg { link, handle: Handle::NONE, parent: self.parent, info: self.info() };
        let mut message = tcmsg.message(libc::RTM_NEWTFILTER, flags);
        let classifier = &self.classifier;
        message.body.text(KIND, classifier.name()).nest_unmarked(OPTIONS, |options| match classifier {
            Classifier::U32(u32) => u32.write(self, options),
            Classifier::MatchAll => {
                self.write_verdict(TCA_MATCHALL_CLASSID, TCA_MATCHALL_ACT, options);
            }
            Classifier::Bpf(bpf) => bpf.write(self, options),
            Classifier::Flower(flower) => flower.write(self, options),
            Classifier::Other(_) => {}
        });
        message
    }

    /// Writes class and actions as attributes of these types.
    fn write_verdict(&self, class: u16, actions: u16, options: &mut Body) {
        if let Some(handle) = self.class {
            options.u32(class, handle.raw());
        }
        action::write(actions, &self.actions, options);
    }

    /// Returns the message that deletes all filters with a parent, a priority and a protocol; [`Protocol`] 0 means any.
    pub(crate) fn deletion(link: u32, parent: Handle, priority: u16, protocol: Option<Protocol>) -> Message {
        let ethertype = protocol.map_or(0, |protocol| protocol.0.to_be());
        let info = u32::from(priority) << 16 | u32::from(ethertype);
        Tcmsg { link, handle: Handle::NONE, parent, info }.message(libc::RTM_DELTFILTER, 0)
    }

    /// Returns in what `found` differs from this. A filter for all packets may be of any kind that says so.
    pub fn differences(&self, found: &Self) -> Vec<Difference> {
        let mut comparison = Comparison::default();
        let (wanted_match, found_match) = (&self.classifier, &found.classifier);
        if !(wanted_match.matches_all() && found_match.matches_all()) {
            if wanted_match.name() == found_match.name() {
                comparison.equal(Field::Match, wanted_match, found_match);
            } else {
                comparison.equal(Field::Kind, wanted_match.name(), found_match.name());
            }
        }
        let class = |class: Option<Handle>| class.map_or("nothing".to_owned(), |class| class.to_string());
        comparison
            .agree(
                Field::Priority,
                self.priority == 0 || self.priority == found.priority,
                self.priority,
                found.priority,
            )
            .equal(Field::Match, self.protocol, found.protocol)
            .equal(Field::Class, class(self.class), class(found.class));
        match (self.actions.as_slice(), found.actions.as_slice()) {
            ([Action::Mirred(wanted)], [Action::Mirred(found)]) if wanted.mirroring == found.mirroring => {
                comparison.equal(Field::Redirect, target(wanted.link), target(found.link));
            }
            (wanted, found) => _ = comparison.equal(Field::Action, action::list(wanted), action::list(found)),
        }
        comparison.finish()
    }
}

/// The kernel forgets the target when its link is deleted, and drops what would go there.
fn target(link: u32) -> String {
    if link == 0 { "a link that is gone".to_owned() } else { format!("link {link}") }
}

/// A filter as the kernel tells it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct FoundFilter {
    /// The link it is on, by index.
    pub link: u32,
    /// Its number among those with the same parent and priority.
    pub handle: u32,
    /// The filter.
    pub filter: Filter,
    /// What each of its actions has seen.
    pub statistics: Vec<Statistics>,
}

impl FoundFilter {
    pub(crate) fn read(reply: Reply<'_>) -> Result<Option<Self>, Malformed> {
        if reply.kind() != libc::RTM_NEWTFILTER {
            return Ok(None);
        }
        let (tcmsg, rest) = Tcmsg::read(&reply)?;
        let (mut kind, mut options) = (String::new(), None);
        for attribute in attributes(rest) {
            let attribute = attribute?;
            match attribute.kind() {
                KIND => kind = attribute.text(),
                OPTIONS => options = Some(attribute),
                _ => {}
            }
        }
        // What has no options is the head of a chain or of a hash table, not a filter.
        let Some(options) = options else { return Ok(None) };
        let Some(options) = read_options(kind, options)? else { return Ok(None) };
        let Options { classifier, class, actions: (actions, statistics) } = options;
        // The upper half is a number of its own, the lower one the EtherType in network order.
        let info = Handle::from_raw(tcmsg.info);
        let filter = Filter {
            parent: tcmsg.parent,
            priority: info.major(),
            protocol: Protocol(u16::from_be(info.minor())),
            classifier,
            class,
            actions,
        };
        Ok(Some(Self { link: tcmsg.link, handle: tcmsg.handle.raw(), filter, statistics }))
    }
}

/// What a filter matches, where to, and what is done.
struct Options {
    classifier: Classifier,
    class: Option<Handle>,
    actions: (Vec<Action>, Vec<Statistics>),
}

fn read_options(kind: String, options: Attribute<'_>) -> Result<Option<Options>, Malformed> {
    match kind.as_str() {
        "u32" => U32::read(options.nested()),
        "bpf" => Bpf::read(options.nested()).map(Some),
        "flower" => Flower::read(options.nested()).map(Some),
        "matchall" => {
            let (mut class, mut actions) = (None, <_>::default());
            for attribute in options.nested() {
                let attribute = attribute?;
                match attribute.kind() {
                    TCA_MATCHALL_CLASSID => class = Some(Handle::from_raw(attribute.u32()?)),
                    TCA_MATCHALL_ACT => actions = action::read(attribute.nested())?,
                    _ => {}
                }
            }
            Ok(Some(Options { classifier: Classifier::MatchAll, class, actions }))
        }
        _ => Ok(Some(Options { classifier: Classifier::Other(kind), class: None, actions: <_>::default() })),
    }
}
