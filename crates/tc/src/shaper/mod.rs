//! Both directions of one link, shaped: intent, apply, read back, compare.

mod apply;
mod limit;
mod plan;
mod verify;

use ipnet::IpNet;
use podrun_netlink::Rtnetlink;

use crate::control::TrafficControl;
use crate::difference::Difference;
use crate::error::Result;
use crate::statistics::Statistics;

pub use limit::Limit;
pub use plan::{Facts, Plan, Redirect, Tree};

/// What the rates of one link shall be, in the two directions of the host's end of a veth pair.
///
/// What goes *to* the peer is shaped where the link sends it. What comes *from* the peer is redirected to an ifb and shaped
/// there, because what a link receives cannot be queued. Both are out of reach of whoever owns the peer.
///
/// [`apply`](Self::apply) makes it so and may be repeated; what is right already is left alone, and a rate that changes is
/// changed in place, without losing a packet. [`verify`](Self::verify) reads everything back and tells each field that
/// differs. [`remove`](Self::remove) leaves nothing behind.
///
/// ```no_run
/// use podrun_netlink::Rtnetlink;
/// use podrun_tc::{Limit, Rate, Shaper};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let mut netlink = Rtnetlink::open()?;
/// let shaper = Shaper::new("veth-blue")
///     .to_peer(Limit::new(Rate::from_bits_per_second(100_000_000)))
///     .from_peer(Limit::new(Rate::from_bits_per_second(10_000_000)), "ifb-blue")
///     .unshaped(["10.1.0.0/16".parse()?]);
/// shaper.apply(&mut netlink)?;
/// for difference in shaper.verify(&mut netlink)? {
///     println!("{difference}"); // ifb-blue: root: rate: wanted 10 Mbit/s, found 20 Mbit/s
/// }
/// shaper.remove(&mut netlink)?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Shaper {
    link: String,
    to_peer: Option<Limit>,
    from_peer: Option<Limit>,
    ifb: Option<String>,
    alias: Option<String>,
    unshaped: Vec<IpNet>,
    queue: Queue,
    style: Style,
}

/// What waits below the rate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Queue {
    /// `fq_codel` where the kernel has it, else `bfifo`.
    #[default]
    Auto,
    /// `fq_codel`, which keeps the delay short for everybody whoever fills the link.
    FqCodel,
    /// One queue for all, of the length that the limit's latency says.
    Fifo,
}

/// By whose rules.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Style {
    /// This crate's.
    #[default]
    Native,
    /// Those of the CNI plugin `bandwidth`: `tbf` alone, `ingress`, and a `u32` filter. Goes with [`Limit::cni`].
    Cni,
}

impl Shaper {
    /// Returns a shaper of a link that shapes nothing yet.
    pub fn new(link: impl Into<String>) -> Self {
        Self {
            link: link.into(),
            to_peer: None,
            from_peer: None,
            ifb: None,
            alias: None,
            unshaped: Vec::new(),
            queue: Queue::default(),
            style: Style::default(),
        }
    }

    /// Limits what the link sends to its peer.
    pub fn to_peer(self, limit: Limit) -> Self {
        Self { to_peer: Some(limit), ..self }
    }

    /// Limits what the link receives from its peer, by way of an ifb with a name. It is made if it is absent.
    pub fn from_peer(self, limit: Limit, ifb: impl Into<String>) -> Self {
        Self { from_peer: Some(limit), ifb: Some(ifb.into()), ..self }
    }

    /// Names the ifb of a shaper that limits nothing from the peer, so that one from before is removed.
    pub fn ifb(self, ifb: impl Into<String>) -> Self {
        Self { ifb: Some(ifb.into()), ..self }
    }

    /// Gives the ifb an alias when it is made, by which its owner can be told.
    pub fn alias(self, alias: impl Into<String>) -> Self {
        Self { alias: Some(alias.into()), ..self }
    }

    /// Leaves packets between the peer and these networks alone; for this HTB takes the place of TBF. Not with
    /// [`Style::Cni`].
    pub fn unshaped(self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self { unshaped: networks.into_iter().map(|network| network.trunc()).collect(), ..self }
    }

    /// Sets what waits below the rate.
    pub fn queue(self, queue: Queue) -> Self {
        Self { queue, ..self }
    }

    /// Sets by whose rules it is done.
    pub fn style(self, style: Style) -> Self {
        Self { style, ..self }
    }

    /// Makes it so. What is right already is left alone.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`](crate::Error::Netlink): `ENODEV` if the link is absent, `ENOENT` if the kernel lacks what is asked
    /// for, `EPERM`. [`Error::NotIfb`](crate::Error::NotIfb), [`Error::InvalidValue`](crate::Error::InvalidValue). What was
    /// done before the error stays; it can be applied again or removed.
    pub fn apply(&self, netlink: &mut Rtnetlink) -> Result<()> {
        apply::apply(self, &mut TrafficControl::new(netlink)?)
    }

    /// Reads back what the kernel holds and returns every difference; none if all is right.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`](crate::Error::Netlink) if the kernel cannot be asked. That a link is absent is a difference.
    pub fn verify(&self, netlink: &mut Rtnetlink) -> Result<Vec<Difference>> {
        verify::verify(self, &mut TrafficControl::new(netlink)?)
    }

    /// Takes away all that [`apply`](Self::apply) made. What is gone already is fine, the link itself too.
    ///
    /// The link loses its filter before the ifb is deleted: a packet on the way to a deleted ifb would be dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`](crate::Error::Netlink): `EPERM`. [`Error::NotIfb`](crate::Error::NotIfb).
    pub fn remove(&self, netlink: &mut Rtnetlink) -> Result<()> {
        let nothing = Self { to_peer: None, from_peer: None, ..self.clone() };
        apply::apply(&nothing, &mut TrafficControl::new(netlink)?)
    }

    /// Returns what went through and what was dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Netlink`](crate::Error::Netlink): `ENODEV` if the link or the ifb is absent.
    pub fn statistics(&self, netlink: &mut Rtnetlink) -> Result<ShaperStatistics> {
        verify::statistics(self, &mut TrafficControl::new(netlink)?)
    }
}

/// What went through a [`Shaper`]; a direction without limit has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ShaperStatistics {
    /// What the link sent to its peer.
    pub to_peer: Option<DirectionStatistics>,
    /// What the link received from its peer.
    pub from_peer: Option<DirectionStatistics>,
}

/// What went through in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct DirectionStatistics {
    /// Everything.
    pub total: Statistics,
    /// What the limit was for.
    pub shaped: Statistics,
    /// What went from or to the unshaped networks, if there are any.
    pub unshaped: Option<Statistics>,
}
