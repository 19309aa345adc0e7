//! What is to be where, from the intent and facts alone.

use std::time::Duration;

use ipnet::IpNet;
use podrun_netlink::Link;

use super::{Limit, Queue, Shaper, Style};
use crate::error::Result;
use crate::filter::{Classifier, Filter, Mirred, Protocol, U32};
use crate::handle::Handle;
use crate::qdisc::{FqCodel, Htb, HtbClass, Qdisc, QdiscKind, Tbf};
use crate::units::{Bytes, Rate};

/// The two root disciplines have different handles, so that one can take the other's place at once.
pub(super) const TBF: Handle = Handle::qdisc(1);
pub(super) const HTB: Handle = Handle::qdisc(2);
const TBF_CLASS: Handle = Handle::new(1, 1);
pub(super) const SHAPED: Handle = Handle::new(2, 0x10);
pub(super) const UNSHAPED: Handle = Handle::new(2, 0x20);
const SHAPED_LEAF: Handle = Handle::qdisc(0x10);
const UNSHAPED_LEAF: Handle = Handle::qdisc(0x20);

/// Filters of one priority are for one protocol.
const IPV4_PRIORITY: u16 = 10;
const IPV6_PRIORITY: u16 = 11;
/// Nothing comes before it.
pub(super) const REDIRECT_PRIORITY: u16 = 1;

/// More than any link carries, and few enough bytes in 10 ms for the kernel's ticks.
const NO_LIMIT: Rate = Rate::from_bits_per_second(1_000_000_000_000);
const NO_LIMIT_BURST: Bytes = Bytes::new(1_250_000_000);
/// The kernel's default for links, in packets.
const QUEUE_LENGTH: u32 = 1000;
/// What `fq_codel` aims at, and the round trip it expects, by default.
const TARGET: Duration = Duration::from_millis(5);
const INTERVAL: Duration = Duration::from_millis(100);

/// What a plan depends on besides the intent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct Facts {
    /// The link's MTU in bytes.
    pub mtu: u32,
    /// Whether the kernel has `fq_codel`.
    pub has_fq_codel: bool,
}

impl Facts {
    pub(super) fn of(link: &Link, has_fq_codel: bool) -> Self {
        Self { mtu: link.mtu, has_fq_codel }
    }
}

/// What shall hang where.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Plan {
    /// Where the link sends.
    pub to_peer: Option<Tree>,
    /// Where the ifb sends.
    pub from_peer: Option<Tree>,
    /// How what the link receives gets to the ifb.
    pub redirect: Option<Redirect>,
}

/// The disciplines, classes and filters where a link sends.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Tree {
    /// The discipline at the root.
    pub root: Qdisc,
    /// Its classes.
    pub classes: Vec<HtbClass>,
    /// The disciplines below its classes.
    pub leaves: Vec<Qdisc>,
    /// Which packets go to which class.
    pub filters: Vec<Filter>,
}

/// The discipline for what a link receives. Its filter needs the index of the ifb.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Redirect {
    /// `clsact` or `ingress`.
    pub qdisc: Qdisc,
    /// Where the filter is.
    pub parent: Handle,
    /// Whether the filter must be a `u32` one.
    pub only_u32: bool,
}

impl Redirect {
    pub(super) fn new(style: Style) -> Self {
        match style {
            Style::Native => Self { qdisc: Qdisc::clsact(), parent: Handle::CLSACT_INGRESS, only_u32: false },
            Style::Cni => Self { qdisc: Qdisc::ingress(), parent: Handle::INGRESS_FILTERS, only_u32: true },
        }
    }

    /// Returns the filter that sends everything to a link.
    pub fn filter(&self, ifb: u32, classifier: Classifier) -> Filter {
        Filter::new(self.parent, REDIRECT_PRIORITY, Protocol::ALL, classifier).action(Mirred::redirect(ifb))
    }
}

/// Whose address counts for what is unshaped.
#[derive(Debug, Clone, Copy)]
enum Far {
    Source,
    Destination,
}

impl Shaper {
    /// Returns what [`apply`](Self::apply) will do: pure, for a look beforehand and for tests.
    ///
    /// # Errors
    ///
    /// [`Error::InvalidValue`](crate::Error::InvalidValue) if a rate is below 8 bit/s, or a burst is too small for a frame or
    /// too large for 32 bits.
    pub fn plan(&self, facts: Facts) -> Result<Plan> {
        let tree = |limit: Option<Limit>, far| limit.map(|limit| self.tree(&limit, far, facts)).transpose();
        Ok(Plan {
            to_peer: tree(self.to_peer, Far::Source)?,
            from_peer: tree(self.from_peer, Far::Destination)?,
            redirect: self.from_peer.map(|_| Redirect::new(self.style)),
        })
    }

    fn tree(&self, limit: &Limit, far: Far, facts: Facts) -> Result<Tree> {
        let burst = limit.burst_on(facts.mtu);
        let queue = limit.queue_on(facts.mtu);
        // Its checks of rate and sizes hold for both.
        let tbf = Tbf::new(limit.rate(), burst, queue);
        tbf.check(facts.mtu)?;
        let root = Qdisc::root(TBF, QdiscKind::Tbf(tbf));
        if self.style == Style::Cni {
            return Ok(Tree { root, classes: Vec::new(), leaves: Vec::new(), filters: Vec::new() });
        }
        let has_fq_codel = self.queue == Queue::FqCodel || (self.queue == Queue::Auto && facts.has_fq_codel);
        let leaf = if has_fq_codel {
            QdiscKind::FqCodel(fq_codel(limit.rate(), facts.mtu))
        } else {
            QdiscKind::Bfifo { limit: queue }
        };
        if self.unshaped.is_empty() {
            let leaves = vec![Qdisc::below(TBF_CLASS, SHAPED_LEAF, leaf)];
            return Ok(Tree { root, classes: Vec::new(), leaves, filters: Vec::new() });
        }
        let free_leaf = if has_fq_codel {
            QdiscKind::FqCodel(fq_codel(NO_LIMIT, facts.mtu))
        } else {
            QdiscKind::Pfifo { limit: QUEUE_LENGTH }
        };
        // Neither class borrows from the other, so how they take turns does not matter; without a quantum the kernel
        // reckons one and complains of it.
        let quantum = facts.mtu.saturating_add(14);
        Ok(Tree {
            root: Qdisc::root(HTB, QdiscKind::Htb(Htb::new(SHAPED.minor()))),
            classes: vec![
                HtbClass::new(HTB, SHAPED, limit.rate(), burst).quantum(quantum),
                HtbClass::new(HTB, UNSHAPED, NO_LIMIT, NO_LIMIT_BURST).quantum(quantum),
            ],
            leaves: vec![
                Qdisc::below(SHAPED, SHAPED_LEAF, leaf),
                Qdisc::below(UNSHAPED, UNSHAPED_LEAF, free_leaf),
            ],
            filters: self.unshaped.iter().map(|network| unshaped(*network, far)).collect(),
        })
    }
}

fn unshaped(network: IpNet, far: Far) -> Filter {
    let keys = match far {
        Far::Source => U32::source(network),
        Far::Destination => U32::destination(network),
    };
    let (priority, protocol) = match network {
        IpNet::V4(_) => (IPV4_PRIORITY, Protocol::IPV4),
        IpNet::V6(_) => (IPV6_PRIORITY, Protocol::IPV6),
    };
    Filter::new(HTB, priority, protocol, Classifier::U32(keys)).class(UNSHAPED)
}

/// A delay below the time that one frame takes cannot be reached, and aiming at it would drop every other packet.
fn fq_codel(rate: Rate, mtu: u32) -> FqCodel {
    let frame = (u64::from(mtu) + 14).saturating_mul(8_000_000);
    let one_and_a_half = Duration::from_micros(frame.saturating_mul(3) / rate.bits_per_second().max(8) / 2);
    let target = one_and_a_half.clamp(TARGET, Duration::from_secs(10));
    FqCodel::new().target(target).interval(INTERVAL + target.saturating_sub(TARGET))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: Facts = Facts { mtu: 1500, has_fq_codel: true };

    fn limit(bits: u64) -> Limit {
        Limit::new(Rate::from_bits_per_second(bits))
    }

    #[test]
    fn one_rate_is_a_token_bucket_over_fair_queues() {
        let plan = Shaper::new("v").to_peer(limit(10_000_000)).plan(FACTS).unwrap();
        let tree = plan.to_peer.unwrap();
        assert_eq!((tree.root.kind.name(), tree.root.parent), ("tbf", Handle::ROOT));
        assert_eq!(tree.leaves[0].kind, QdiscKind::FqCodel(FqCodel::new().target(TARGET).interval(INTERVAL)));
        assert!(plan.from_peer.is_none() && plan.redirect.is_none());
    }

    #[test]
    fn without_fq_codel_the_queue_is_as_long_as_the_latency() {
        let facts = Facts { has_fq_codel: false, ..FACTS };
        let plan = Shaper::new("v").from_peer(limit(100_000_000), "i").plan(facts).unwrap();
        let tree = plan.from_peer.unwrap();
        // 50 ms and the burst of 10 ms.
        assert_eq!(tree.leaves[0].kind, QdiscKind::Bfifo { limit: Bytes::new(625_000 + 125_000) });
        assert_eq!(plan.redirect, Some(Redirect::new(Style::Native)));
    }

    #[test]
    fn a_slow_link_aims_at_a_delay_it_can_reach() {
        let codel = fq_codel(Rate::from_bits_per_second(1_000_000), 1500);
        assert_eq!(codel.target, Some(Duration::from_micros(18_168)));
        assert_eq!(codel.interval, Some(Duration::from_micros(113_168)));
    }

    #[test]
    fn unshaped_networks_are_sources_to_the_peer_and_destinations_from_it() {
        let networks: [IpNet; 2] = ["10.1.0.0/16".parse().unwrap(), "fd00::/16".parse().unwrap()];
        let shaper =
            Shaper::new("v").to_peer(limit(1_000_000)).from_peer(limit(2_000_000), "i").unshaped(networks);
        let plan = shaper.plan(FACTS).unwrap();
        let (to, from) = (plan.to_peer.unwrap(), plan.from_peer.unwrap());
        assert_eq!(to.root.kind, QdiscKind::Htb(Htb::new(0x10)));
        assert_eq!(to.filters[0].classifier, Classifier::U32(U32::source(networks[0])));
        assert_eq!(from.filters[0].classifier, Classifier::U32(U32::destination(networks[0])));
        assert_eq!((from.filters[1].protocol, from.filters[1].priority), (Protocol::IPV6, 11));
        assert_eq!(from.classes[0].rate, Rate::from_bits_per_second(2_000_000));
    }

    #[test]
    fn cni_is_a_bucket_alone() {
        let limit = Limit::cni(Rate::from_bits_per_second(10_000_000), None);
        let shaper = Shaper::new("v").to_peer(limit).from_peer(limit, "i").style(Style::Cni);
        let plan = shaper.plan(FACTS).unwrap();
        let (burst, queue) = (Bytes::new(536_870_911), Bytes::new(536_902_161));
        let tbf = Tbf::new(Rate::from_bits_per_second(10_000_000), burst, queue);
        let root = Qdisc::root(TBF, QdiscKind::Tbf(tbf));
        let alone = Tree { root, classes: Vec::new(), leaves: Vec::new(), filters: Vec::new() };
        assert_eq!((plan.to_peer.as_ref(), plan.from_peer.as_ref()), (Some(&alone), Some(&alone)));
        assert_eq!(plan.redirect.unwrap().qdisc, Qdisc::ingress());
    }

    #[test]
    fn a_burst_that_would_drop_every_full_frame_is_refused() {
        let small = limit(1_000_000).burst(Bytes::new(1000));
        let error = Shaper::new("v").to_peer(small).plan(FACTS).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a burst of 1000 bytes: the largest packet has 1514 bytes and would be dropped"
        );
        assert!(Shaper::new("v").to_peer(limit(7)).plan(FACTS).is_err());
    }
}
