//! Who is to be started among init containers and sidecars, and in which order sidecars stop.
//!
//! Both follow the kubelet's `computeInitContainerActions` and `terminationOrdering`.

use podrun_spec::model::ContainerKind;

use crate::container::{Record, RunState, init_failed};
use crate::facts::PodFacts;
use crate::machine::Step;
use crate::probes::is_started;
use crate::rules::is_restarted;
use crate::start::wants_start;
use crate::state::State;

/// What is to be started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Agenda {
    /// In spec order.
    pub(crate) starts: Vec<usize>,
    /// An init container has failed for good.
    pub(crate) has_failed: bool,
}

/// Returns the containers that are to be started, now or as soon as their back-off is over.
///
/// The init containers are gone through from the last to the first: the last one that has run here says how far the
/// Pod has come. Once a regular container runs, only sidecars are kept running.
pub(crate) fn agenda(pod: &PodFacts, state: &State) -> Agenda {
    let mut starts = Vec::new();
    let last = pod.init_count.checked_sub(1);
    let mut initialized = last.is_none() || pod.regular().any(|c| state.containers[c].is_running());
    let mut is_behind = initialized;
    for index in (0..pod.init_count).rev() {
        let (facts, record) = (&pod.containers[index], &state.containers[index]);
        let is_sidecar = facts.kind == ContainerKind::Sidecar;
        let Some(run) = record.run.as_ref().filter(|_| record.is_current) else {
            if is_behind && is_sidecar {
                starts.push(index);
            }
            continue;
        };
        if is_behind && !is_sidecar {
            continue;
        }
        let is_done = match &run.state {
            RunState::Running { .. } => is_sidecar && is_started(facts, record),
            RunState::Ended { .. } if is_sidecar => {
                starts.push(index);
                false
            }
            RunState::Ended { terminated, .. } if !init_failed(terminated) => true,
            RunState::Ended { terminated, .. } if is_restarted(pod, facts, terminated) => {
                starts.push(index);
                false
            }
            RunState::Ended { .. } => return Agenda { starts: Vec::new(), has_failed: true },
        };
        if is_done && Some(index) == last {
            initialized = true;
        } else if is_done && !is_behind {
            starts.push(index + 1);
        }
        is_behind = true;
    }
    if !is_behind {
        starts.push(0);
    }
    starts.reverse();
    if initialized {
        let wants = |&c: &usize| wants_start(pod, &state.containers[c], c);
        starts.extend(pod.regular().filter(wants));
    }
    Agenda { starts, has_failed: false }
}

impl Step<'_> {
    /// Returns whether a container that is being stopped with the Pod may get its signal.
    ///
    /// A sidecar waits for all regular containers and for the next sidecar behind it; others wait for nobody.
    pub(crate) fn has_turn(&self, container: usize) -> bool {
        let is_sidecar = |&c: &usize| self.pod.containers[c].kind == ContainerKind::Sidecar;
        if !is_sidecar(&container) {
            return true;
        }
        let next = (container + 1..self.pod.init_count).find(is_sidecar);
        let runs = |c: usize| Record::is_running(&self.state.containers[c]);
        let is_starting = self.state.in_flight.is_some_and(|f| self.pod.regular().contains(&f.container));
        !is_starting && !self.pod.regular().chain(next).any(runs)
    }
}
