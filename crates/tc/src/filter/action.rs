//! What is done with packets that a filter matches.

use std::fmt;

use podrun_netlink::{Attributes, Body, Malformed};

use crate::statistics::Statistics;
use crate::wire::word;

// enum in include/uapi/linux/pkt_cls.h
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_ACT_STATS: u16 = 4;
// include/uapi/linux/tc_act/tc_mirred.h
const TCA_MIRRED_PARMS: u16 = 2;

/// `TC_ACT_PIPE`: go on with the next action.
const PIPE: u32 = 3;
/// `TC_ACT_STOLEN`: the packet is not ours any more.
const STOLEN: u32 = 4;

/// What is done with a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// It goes to another link.
    Mirred(Mirred),
    /// Something else, as it was found.
    Other(String),
}

impl From<Mirred> for Action {
    fn from(mirred: Mirred) -> Self {
        Self::Mirred(mirred)
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mirred(mirred) => mirred.fmt(f),
            Self::Other(kind) => f.pad(kind),
        }
    }
}

/// How a packet goes to another link; see tc-mirred(8).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Mirroring {
    /// It is sent there instead.
    EgressRedirect,
    /// It is sent there too.
    EgressMirror,
    /// It is received there instead.
    IngressRedirect,
    /// It is received there too.
    IngressMirror,
}

impl Mirroring {
    const ALL: [Self; 4] =
        [Self::EgressRedirect, Self::EgressMirror, Self::IngressRedirect, Self::IngressMirror];

    fn code(self) -> u32 {
        match self {
            Self::EgressRedirect => 1,
            Self::EgressMirror => 2,
            Self::IngressRedirect => 3,
            Self::IngressMirror => 4,
        }
    }

    fn verdict(self) -> u32 {
        match self {
            Self::EgressRedirect | Self::IngressRedirect => STOLEN,
            Self::EgressMirror | Self::IngressMirror => PIPE,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::EgressRedirect => "egress redirect",
            Self::EgressMirror => "egress mirror",
            Self::IngressRedirect => "ingress redirect",
            Self::IngressMirror => "ingress mirror",
        }
    }
}

/// Sends a packet to another link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mirred {
    /// How.
    pub mirroring: Mirroring,
    /// The link, by index; 0 if it was deleted meanwhile, and then the packets are dropped.
    pub link: u32,
}

impl Mirred {
    /// Sends packets to another link instead of where they were going. Delete the filter before that link.
    pub fn redirect(link: u32) -> Self {
        Self::new(Mirroring::EgressRedirect, link)
    }

    /// Sends copies to another link.
    pub fn mirror(link: u32) -> Self {
        Self::new(Mirroring::EgressMirror, link)
    }

    /// Does either with what a link sends or receives.
    pub fn new(mirroring: Mirroring, link: u32) -> Self {
        Self { mirroring, link }
    }
}

impl fmt::Display for Mirred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to link {}", self.mirroring.name(), self.link)
    }
}

/// Writes actions as an attribute; their numbers, from 1, are the types of the attributes inside.
pub(super) fn write(kind: u16, actions: &[Action], options: &mut Body) {
    if actions.is_empty() {
        return;
    }
    options.nest_unmarked(kind, |list| {
        for (number, action) in (1..).zip(actions) {
            list.nest_unmarked(number, |body| match action {
                Action::Mirred(mirred) => {
                    // struct tc_mirred: the index and what is counted is the kernel's.
                    let (verdict, code) = (mirred.mirroring.verdict(), mirred.mirroring.code());
                    let parameters: Vec<u8> = [0, 0, verdict, 0, 0, code, mirred.link]
                        .into_iter()
                        .flat_map(u32::to_ne_bytes)
                        .collect();
                    body.text(TCA_ACT_KIND, "mirred").nest(TCA_ACT_OPTIONS, |inner| {
                        inner.bytes(TCA_MIRRED_PARMS, &parameters);
                    });
                }
                Action::Other(kind) => _ = body.text(TCA_ACT_KIND, kind),
            });
        }
    });
}

/// Reads actions, and what each of them has seen.
pub(super) fn read(list: Attributes<'_>) -> Result<(Vec<Action>, Vec<Statistics>), Malformed> {
    let (mut actions, mut seen) = (Vec::new(), Vec::new());
    for entry in list {
        let (mut kind, mut parameters, mut statistics) = (String::new(), None, Statistics::default());
        for attribute in entry?.nested() {
            let attribute = attribute?;
            match attribute.kind() {
                TCA_ACT_KIND => kind = attribute.text(),
                TCA_ACT_STATS => statistics = Statistics::read(attribute.nested())?,
                TCA_ACT_OPTIONS => {
                    for option in attribute.nested() {
                        let option = option?;
                        if option.kind() == TCA_MIRRED_PARMS {
                            parameters = option.array::<28>().ok();
                        }
                    }
                }
                _ => {}
            }
        }
        let mirred = parameters.filter(|_| kind == "mirred").and_then(|parameters| {
            let code = word(&parameters, 20);
            let mirroring = Mirroring::ALL.into_iter().find(|mirroring| mirroring.code() == code)?;
            Some(Mirred { mirroring, link: word(&parameters, 24) })
        });
        actions.push(mirred.map_or(Action::Other(kind), Action::Mirred));
        seen.push(statistics);
    }
    Ok((actions, seen))
}

/// Returns a list for people.
pub(super) fn list(actions: &[Action]) -> String {
    if actions.is_empty() {
        return "nothing".to_owned();
    }
    actions.iter().map(Action::to_string).collect::<Vec<_>>().join(", ")
}
