//! Plans of Pods on this host, whether they are to be created or exist already.

use std::borrow::Cow;

use podrun_plan::admission;
use podrun_plan::facts::{HostFacts, UnenforcedLimits};
use podrun_plan::model::Plan;
use podrun_plan::plan;
use podrun_spec::model::Pod;

use crate::error::{Error, Result};
use crate::facts::Host;
use crate::record::PodView;

/// Computes the plan of a Pod, with all faults as one error.
pub(crate) fn make_plan(pod: &Pod, host: &HostFacts) -> Result<Plan> {
    plan(pod, host)
        .map_err(|faults| Error::Unplannable { faults: faults.iter().map(ToString::to_string).collect() })
}

/// Returns a Pod without that for which a kubelet rejects it. A rejected Pod never runs, but it has to be named and removed.
pub(crate) fn without_rejected(pod: &Pod) -> Cow<'_, Pod> {
    let mut pod = Cow::Borrowed(pod);
    if admission::rejection(&pod).is_some() {
        pod.to_mut().spec.security.sysctls.clear();
    }
    pod
}

/// Plans a Pod that exists already: what this host cannot enforce any more is no reason to give up on the rest.
pub(crate) fn plan_leniently(host: &Host, view: &PodView) -> Result<(Plan, HostFacts)> {
    let mut host = host.facts(&view.options)?;
    host.unenforced_limits = UnenforcedLimits::Warn;
    Ok((make_plan(&without_rejected(&view.pod), &host)?, host))
}
