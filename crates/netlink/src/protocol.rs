//! Which part of the kernel a socket talks to.

use std::fmt;

use neli::consts::socket::NlFamily;

/// A netlink protocol, the third argument of `socket(2)`; see
/// [netlink(7)](https://man7.org/linux/man-pages/man7/netlink.7.html).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Protocol {
    /// Links, addresses, routes, neighbours, queueing disciplines.
    #[doc(alias = "NETLINK_ROUTE")]
    Route,
    /// nftables, conntrack and the rest of netfilter.
    #[doc(alias = "NETLINK_NETFILTER")]
    Netfilter,
    /// Generic netlink.
    #[doc(alias = "NETLINK_GENERIC")]
    Generic,
    /// Sockets (`ss`).
    #[doc(alias = "NETLINK_SOCK_DIAG")]
    SockDiag,
}

impl Protocol {
    pub(crate) fn family(self) -> NlFamily {
        match self {
            Self::Route => NlFamily::Route,
            Self::Netfilter => NlFamily::Netfilter,
            Self::Generic => NlFamily::Generic,
            Self::SockDiag => NlFamily::SockOrInetDiag,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Route => "NETLINK_ROUTE",
            Self::Netfilter => "NETLINK_NETFILTER",
            Self::Generic => "NETLINK_GENERIC",
            Self::SockDiag => "NETLINK_SOCK_DIAG",
        })
    }
}
