//! What is asked of a supervisor through its socket.

use podrun_lifecycle::Input;
use podrun_spec::time::Timestamp;

use super::Supervisor;
use super::server::Wish;
use crate::clock;
use crate::protocol::Request;
use crate::record::Deletion;

/// Conditions that follow from what the Pod does. All others are their owners'.
const OWN_CONDITIONS: [&str; 9] = [
    "PodScheduled",
    "PodReadyToStartContainers",
    "Initialized",
    "ContainersReady",
    "Ready",
    "DisruptionTarget",
    "AllContainersRestarting",
    "PodResizePending",
    "PodResizeInProgress",
];

impl Supervisor {
    pub(super) fn on_wish(&mut self, wish: Wish) {
        let refused = match wish.request {
            Request::Delete { grace_seconds } => {
                self.note_deletion(grace_seconds);
                self.inputs.push_back(Input::Delete { grace_seconds });
                None
            }
            Request::SetCondition { kind, .. } if OWN_CONDITIONS.contains(&kind.as_str()) => {
                Some(format!("condition {kind} follows from what the pod does and cannot be set"))
            }
            Request::SetCondition { kind, status, reason, message } => {
                self.inputs.push_back(Input::ConditionSet { kind, status, reason, message });
                None
            }
            Request::Annotate { changes } => self.annotate(&changes).err(),
            Request::Watch | Request::Drained => None,
        };
        match (wish.recorded, refused) {
            // Whoever has gone away does not want to know.
            (Some(recorded), Some(why)) => drop(recorded.send(Err(why))),
            // The answer follows once the wish is written down.
            (recorded, None) => self.waiting.extend(recorded),
            (None, Some(_)) => {}
        }
    }

    /// Writes down when the Pod has to be gone; a later wish counts only where it is sooner.
    pub(super) fn note_deletion(&mut self, grace_seconds: Option<u64>) {
        let grace = grace_seconds.unwrap_or(self.pod.spec.termination_grace_period.as_secs());
        let sooner = self.published.deletion.is_none_or(|d| grace < d.grace_seconds);
        if sooner {
            let nanos = i64::try_from(grace).unwrap_or(i64::MAX).saturating_mul(1_000_000_000);
            let at = Timestamp(clock::wall().0.saturating_add(nanos));
            self.published.deletion = Some(Deletion { at, grace_seconds: grace });
            self.dirty = true;
        }
    }
}
