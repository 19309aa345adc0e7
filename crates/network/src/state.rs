//! What a Pod's link and its shapers have counted.

use podrun_netlink::{LinkStatistics, Rtnetlink};
use podrun_plan::model::BandwidthPlan;
use podrun_tc::{Shaper, ShaperStatistics};

use crate::error::Result;
use crate::node::Network;

/// Counters of a Pod's link, seen from the Pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodState {
    /// Towards the Pod.
    pub ingress: Direction,
    /// From the Pod.
    pub egress: Direction,
}

/// What went through in one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Direction {
    /// Bytes.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that were lost on the link.
    pub drops: u64,
    /// What the shaper has counted, if there is one.
    pub shaped: Option<Shaped>,
}

/// What a shaper has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shaped {
    /// Bytes that went through.
    pub bytes: u64,
    /// Packets that found no room.
    pub drops: u64,
    /// How often a packet had to wait.
    pub overlimits: u64,
    /// Bytes that wait.
    pub backlog: u64,
}

impl Network {
    /// Returns the counters of a Pod; none where it has no link.
    ///
    /// # Errors
    ///
    /// What could not be read.
    pub fn state(&self, uid: &str, plan: Option<&BandwidthPlan>) -> Result<Option<PodState>> {
        let mut route = Rtnetlink::open()?;
        let Some(link) = route.find_link(self.link_names(uid).host.as_str())? else { return Ok(None) };
        let shaped = counted(&self.shaper(uid, plan), &mut route)?;
        Ok(Some(state(&link.statistics, &shaped)))
    }
}

/// A shaper that was tampered with has lost its counters.
fn counted(shaper: &Shaper, route: &mut Rtnetlink) -> Result<ShaperStatistics> {
    match shaper.statistics(route) {
        Err(podrun_tc::Error::Netlink(error)) if error.is_not_found() => Ok(ShaperStatistics::default()),
        counted => Ok(counted?),
    }
}

/// What the host's end sends is what the Pod receives.
fn state(link: &LinkStatistics, shaped: &ShaperStatistics) -> PodState {
    let of = |found: Option<podrun_tc::DirectionStatistics>| {
        found.map(|found| Shaped {
            bytes: found.shaped.bytes.get(),
            drops: found.shaped.drops,
            overlimits: found.shaped.overlimits,
            backlog: found.shaped.backlog.get(),
        })
    };
    PodState {
        ingress: Direction {
            bytes: link.tx_bytes,
            packets: link.tx_packets,
            drops: link.tx_dropped,
            shaped: of(shaped.to_peer),
        },
        egress: Direction {
            bytes: link.rx_bytes,
            packets: link.rx_packets,
            drops: link.rx_dropped,
            shaped: of(shaped.from_peer),
        },
    }
}
