//! Requests against what the node has (`pkg/scheduler/framework/plugins/noderesources`).

use podrun_spec::model::ResourceList;
use podrun_spec::quantity::Quantity;

use super::{Claim, Refusal};

/// The resource that counts Pods.
const PODS: &str = "pods";

/// Limits say nothing about room, and a request that just fits fits.
pub(super) fn check(requests: &ResourceList, allocatable: &ResourceList, held: &[Claim]) -> Option<Refusal> {
    let of = |list: &ResourceList, name: &str| list.get(name).copied().unwrap_or(Quantity::ZERO);
    let mut refusal = Refusal { reasons: Vec::new(), of_pod: false, preemption_could_help: true };
    let pods = u64::try_from(held.len()).unwrap_or(u64::MAX);
    if Quantity::from_units(pods) >= of(allocatable, PODS) {
        refusal.reasons.push("Too many pods".to_owned());
    }
    for (name, request) in requests.iter().filter(|(_, request)| !request.is_zero()) {
        let room = of(allocatable, name);
        let used: Quantity = held.iter().map(|claim| of(&claim.requests, name)).sum();
        if *request + used > room {
            refusal.reasons.push(format!("Insufficient {name}"));
            // What is more than the whole node is not helped by its being empty.
            refusal.preemption_could_help &= *request <= room;
        }
    }
    (!refusal.reasons.is_empty()).then_some(refusal)
}
