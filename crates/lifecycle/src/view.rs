//! What a prober needs to know of a Pod and one of its containers.

use std::time::Duration;

use crate::container::{Run, RunState};
use crate::machine::Machine;
use crate::probes::is_started;
use crate::start::wants_start;
use crate::state::Stage;

/// What of its Pod matters to a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PodView {
    /// It runs or is to run.
    Active,
    /// It is being stopped: startup and liveness probes end, readiness probes go on.
    Deleting,
    /// No container runs any more.
    Ended,
}

/// What of a container's newest run matters to its probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContainerView {
    /// Which start of it; tells one run from the next.
    pub attempt: u32,
    /// Whether it runs.
    pub run: RunView,
}

/// Whether a container runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunView {
    /// It does.
    Running {
        /// Since when, in boot time.
        since: Duration,
        /// `started` of its status: its startup probe has succeeded, or it has none.
        started: bool,
    },
    /// It does not.
    Stopped {
        /// It will be started again; false for one that has ended for good.
        comes_back: bool,
    },
}

/// What a prober needs to know: see [`Machine::probe_view`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProbeView {
    /// The Pod.
    pub pod: PodView,
    /// The container; none before its first run, which begins when its postStart hook has returned.
    pub container: Option<ContainerView>,
}

impl Machine {
    /// Returns what the probes of a container depend on; none where the Pod has no such container.
    ///
    /// It changes only in [`step`](Self::step).
    pub fn probe_view(&self, container: &str) -> Option<ProbeView> {
        let index = self.pod.index_of(container)?;
        let pod = match self.state.stage {
            Stage::StoppingSandbox | Stage::CleaningUp | Stage::Finished => PodView::Ended,
            Stage::Stopping => PodView::Deleting,
            _ => PodView::Active,
        };
        let record = &self.state.containers[index];
        let facts = &self.pod.containers[index];
        let container =
            record.run.as_ref().filter(|run| !run.is_hidden).map(|Run { attempt, state, .. }| {
                let run = match state {
                    RunState::Running { started_boot, .. } => {
                        RunView::Running { since: *started_boot, started: is_started(facts, record) }
                    }
                    RunState::Ended { .. } => RunView::Stopped {
                        comes_back: pod == PodView::Active && wants_start(&self.pod, record, index),
                    },
                };
                ContainerView { attempt: *attempt, run }
            });
        Some(ProbeView { pod, container })
    }
}
