//! Why a Pod is not started, for whoever has just launched it.

use podrun_spec::status::Phase;

use crate::engine::Engine;
use crate::record::Published;

/// Reason of the event that tells who has a port of the machine.
pub(crate) const PORT_TAKEN: &str = "HostPortTaken";

/// Why a Pod is not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeldBack {
    /// In the words of the scheduler, or of the kubelet.
    pub why: String,
    /// Who has the ports of the machine that it wants: a line for each.
    pub ports: Vec<String>,
}

impl Engine {
    /// Returns why a Pod that has just been launched is not started: it waits for room, or is rejected.
    pub fn held_back(&self, uid: &str) -> Option<HeldBack> {
        held_back(self.records().published(uid).ok()?)
    }
}

fn held_back(published: Published) -> Option<HeldBack> {
    let Published { status, events, .. } = published;
    if status.phase == Phase::Failed {
        return Some(HeldBack { why: status.message?, ports: Vec::new() });
    }
    let unscheduled = status.conditions.into_iter().find(|c| c.kind == "PodScheduled" && !c.status)?;
    let ports = events.into_iter().filter(|event| event.reason == PORT_TAKEN).map(|event| event.message);
    Some(HeldBack { why: unscheduled.message?, ports: ports.collect() })
}
