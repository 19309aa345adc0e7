//! Whether a Pod may run on this node: the scheduler's rules for what can wait, the kubelet's for what cannot.
//!
//! A Pod that a label, a port or room keeps out is [`Admission::Unschedulable`] and may be asked about again when the node
//! has changed; in a cluster the scheduler would leave it Pending. A Pod that this node can never run is
//! [`Admission::Rejected`], as by the kubelet, and fails.
//!
//! The plugins of the scheduler are asked in its order, and the first one that says no gives the reasons, as on a real
//! node: name, selector and affinity, ports, resources.

mod affinity;
mod ports;
mod rejection;
mod room;

use std::collections::BTreeMap;

use podrun_spec::model::{Pod, ResourceList};
use podrun_spec::resources::effective_requests;
use serde::{Deserialize, Serialize};

pub use self::ports::{HostPort, Listener, PortHolder, TakenPort, taken_ports};
pub use self::rejection::{Rejection, rejection};

/// What of a node decides about its Pods.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its labels, the well-known ones among them.
    pub labels: BTreeMap<String, String>,
    /// What all Pods together may request; `pods` is how many there may be.
    pub allocatable: ResourceList,
    /// Sockets of the machine that a Pod's ports must not take anything from.
    pub listeners: Vec<Listener>,
}

/// What an admitted Pod holds of its node until it has ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Its requests.
    pub requests: ResourceList,
    /// Its ports on the node.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<HostPort>,
}

impl Claim {
    /// Returns what a Pod wants to hold.
    pub fn of(pod: &Pod) -> Self {
        Self { requests: effective_requests(&pod.spec), ports: ports::of(&pod.spec) }
    }
}

/// Whether a Pod may run here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Fits,
    /// Not now.
    Unschedulable {
        /// In the scheduler's words.
        message: String,
    },
    /// Never.
    Rejected(Rejection),
}

/// Why a plugin of the scheduler says no.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    reasons: Vec<String>,
    /// The reasons are of no node but of the Pod itself.
    of_pod: bool,
    /// Whether ending other Pods could help.
    preemption_could_help: bool,
}

impl Refusal {
    fn node(reason: &str, preemption_could_help: bool) -> Self {
        Self { reasons: vec![reason.to_owned()], of_pod: false, preemption_could_help }
    }

    /// Returns the message of the scheduler of Kubernetes 1.36 about a cluster of this node alone.
    ///
    /// It never ends other Pods for this one's sake, as no scheduler does among Pods of the same priority.
    fn message(mut self) -> String {
        let reasons = if self.of_pod {
            self.reasons.join(", ")
        } else {
            self.reasons.sort_unstable();
            self.reasons.iter().map(|reason| format!("1 {reason}")).collect::<Vec<_>>().join(", ")
        };
        let preemption = if self.preemption_could_help {
            "No preemption victims found for incoming pod"
        } else {
            "Preemption is not helpful for scheduling"
        };
        format!(
            "0/1 nodes are available: {reasons}. no new claims to deallocate, preemption: 0/1 nodes are available: 1 \
             {preemption}."
        )
    }
}

/// Decides whether a Pod may run on a node where others hold `held`.
///
/// ```
/// use podrun_plan::admission::{Admission, Claim, Node, admit};
/// use podrun_spec::quantity::Quantity;
///
/// let text = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {containers: [
///     {name: c, image: i, resources: {requests: {cpu: 1500m}}}]}}";
/// let pod = podrun_spec::parse("p.yaml", text)?.pods.remove(0).pod;
/// let mut node = Node::default();
/// for (name, amount) in [("cpu", 2), ("pods", 110)] {
///     node.allocatable.insert(name.to_owned(), Quantity::from_units(amount));
/// }
/// assert_eq!(admit(&pod, &node, &[]), Admission::Fits);
/// let Admission::Unschedulable { message } = admit(&pod, &node, &[Claim::of(&pod)]) else { panic!() };
/// assert!(message.starts_with("0/1 nodes are available: 1 Insufficient cpu. "));
/// # Ok::<(), podrun_spec::Faults>(())
/// ```
pub fn admit(pod: &Pod, node: &Node, held: &[Claim]) -> Admission {
    if let Some(rejection) = rejection(pod) {
        return Admission::Rejected(rejection);
    }
    let claim = Claim::of(pod);
    let refusal = affinity::check_candidates(&pod.spec, &node.name)
        .or_else(|| check_name(pod, node))
        .or_else(|| affinity::check(&pod.spec, node))
        .or_else(|| ports::check(&claim.ports, &node.listeners, held))
        .or_else(|| room::check(&claim.requests, &node.allocatable, held));
    match refusal {
        None => Admission::Fits,
        Some(refusal) => Admission::Unschedulable { message: refusal.message() },
    }
}

fn check_name(pod: &Pod, node: &Node) -> Option<Refusal> {
    let wanted = pod.spec.node_name.as_ref()?;
    (*wanted != node.name).then(|| Refusal::node("node(s) didn't match the requested node name", false))
}

#[cfg(test)]
mod tests;
