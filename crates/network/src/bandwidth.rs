//! What a Pod may send and receive: on the host's end of its link, where its own rights do not reach.

use podrun_netlink::Rtnetlink;
use podrun_plan::model::{BandwidthPlan, RatePlan};
use podrun_tc::{Bytes, Limit, Rate, Shaper, Style};

use crate::error::Result;
use crate::node::Network;

impl Network {
    /// Shapes a Pod as its plan says; without one it is not shaped. May be repeated, and changes rates in place.
    ///
    /// # Errors
    ///
    /// [`Error::Shaping`](crate::Error::Shaping): `ENODEV` if the Pod has no link, `ENOENT` if the kernel lacks what is
    /// needed.
    pub fn shape(&self, uid: &str, plan: Option<&BandwidthPlan>) -> Result<()> {
        self.shape_with(&mut Rtnetlink::open()?, uid, plan)
    }

    pub(crate) fn shape_with(
        &self,
        route: &mut Rtnetlink,
        uid: &str,
        plan: Option<&BandwidthPlan>,
    ) -> Result<()> {
        Ok(self.shaper(uid, plan).apply(route)?)
    }

    pub(crate) fn shaper(&self, uid: &str, plan: Option<&BandwidthPlan>) -> Shaper {
        let names = self.link_names(uid);
        let shaper = Shaper::new(names.host).ifb(names.shaper.clone()).alias(names.alias);
        let Some(plan) = plan else { return shaper };
        let style = if plan.cni { Style::Cni } else { Style::Native };
        let shaper = shaper.style(style).unshaped(plan.unshaped.iter().copied());
        let shaper = match plan.ingress {
            Some(rate) => shaper.to_peer(limit(rate, plan.cni)),
            None => shaper,
        };
        match plan.egress {
            Some(rate) => shaper.from_peer(limit(rate, plan.cni), names.shaper),
            None => shaper,
        }
    }
}

fn limit(plan: RatePlan, cni: bool) -> Limit {
    let rate = Rate::from_bits_per_second(plan.bits_per_second);
    if cni {
        return Limit::cni(rate, plan.burst_bytes.map(|bytes| bytes.saturating_mul(8)));
    }
    match plan.burst_bytes {
        Some(bytes) => Limit::new(rate).burst(Bytes::new(bytes)),
        None => Limit::new(rate),
    }
}
