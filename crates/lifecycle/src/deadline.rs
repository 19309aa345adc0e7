//! Pods that are ended although they would go on: activeDeadlineSeconds and eviction.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::events;
use crate::facts::PodFacts;
use crate::machine::Step;
use crate::state::{Stage, State};

/// Grace of an evicted Pod.
const EVICTION_GRACE: Duration = Duration::from_secs(1);

/// Why a Pod fails whatever its containers do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    /// `DeadlineExceeded`, `Evicted`.
    pub(crate) reason: String,
    /// The reason in words.
    pub(crate) message: String,
    /// None takes the Pod's own.
    pub(crate) grace: Option<Duration>,
    /// A Pod all of whose containers end with 0 succeeds all the same.
    pub(crate) spares_success: bool,
}

/// Returns when the Pod will have been active for too long.
///
/// The kubelet looks at it between two steps: a pull, a start and a postStart hook are waited for.
pub(crate) fn deadline(pod: &PodFacts, state: &State) -> Option<Duration> {
    let is_active =
        matches!(state.stage, Stage::Volumes | Stage::Sandbox | Stage::Running | Stage::Restarting);
    let start = state.start_boot.filter(|_| is_active && state.in_flight.is_none())?;
    Some(start.saturating_add(pod.active_deadline?))
}

impl Step<'_> {
    /// Fails the Pod if it has been active for too long.
    pub(crate) fn check_deadline(&mut self) {
        if deadline(self.pod, self.state).is_some_and(|at| at <= self.now.boot) {
            let message = "Pod was active on the node longer than the specified deadline";
            self.emit(events::deadline_exceeded(message), None);
            self.state.failure = Some(Failure {
                reason: "DeadlineExceeded".to_owned(),
                message: message.to_owned(),
                grace: None,
                spares_success: false,
            });
            self.begin_stopping();
        }
    }

    pub(crate) fn evicted(&mut self, message: String) {
        let is_active = (Stage::Volumes..Stage::Stopping).contains(&self.state.stage);
        if !is_active {
            return;
        }
        self.emit(events::warning("Evicted".to_owned(), message.clone()), None);
        self.state.failure = Some(Failure {
            reason: "Evicted".to_owned(),
            message,
            grace: Some(EVICTION_GRACE),
            spares_success: true,
        });
        self.stop_in_any_stage(EVICTION_GRACE);
    }
}
