//! What the verdicts of probes lead to.

use podrun_spec::model::{ContainerKind, ProbeKind};

use crate::container::{Record, Run, RunState};
use crate::events;
use crate::facts::ContainerFacts;
use crate::grace::Cause;
use crate::machine::Step;
use crate::rules::is_restarted_after_probe;
use crate::state::Stage;

/// Returns whether a container runs and has come up: no startup probe holds it back.
pub(crate) fn is_started(facts: &ContainerFacts, record: &Record) -> bool {
    let runs = matches!(record.run, Some(Run { state: RunState::Running { .. }, is_hidden: false, .. }));
    runs && (facts.life.startup.is_none() || record.verdicts.startup == Some(true))
}

/// Returns whether a container runs and serves.
pub(crate) fn is_ready(facts: &ContainerFacts, record: &Record) -> bool {
    is_started(facts, record) && (facts.life.readiness.is_none() || record.verdicts.readiness)
}

impl Step<'_> {
    pub(crate) fn probed(
        &mut self,
        name: &str,
        attempt: u32,
        probe: ProbeKind,
        healthy: Option<bool>,
        event: Option<(String, String)>,
    ) {
        // A probe may still have something to say of a run that has just ended.
        let Some(container) = self.hear_of(name, attempt, event) else { return };
        let record = &mut self.state.containers[container];
        let (Some(healthy), true) = (healthy, record.is_running()) else { return };
        match probe {
            ProbeKind::Readiness => record.verdicts.readiness = healthy,
            ProbeKind::Startup => record.verdicts.startup = Some(healthy),
            ProbeKind::Liveness => {}
        }
        if !healthy && probe != ProbeKind::Readiness && self.state.stage == Stage::Running {
            self.kill_for_probe(container, probe);
        }
    }

    /// Stops a container whose startup or liveness probe has failed.
    fn kill_for_probe(&mut self, container: usize, probe: ProbeKind) {
        if self.state.containers[container].stop.is_some() {
            return;
        }
        let facts = &self.pod.containers[container];
        let is_sidecar = facts.kind == ContainerKind::Sidecar;
        let comes_back = is_restarted_after_probe(self.pod, facts);
        if !comes_back && !self.is_anything_left_beside(container) {
            // The Pod has nothing left to do: it ends as a whole, and nobody speaks of probes.
            return self.begin_stopping();
        }
        let (what, own) = match probe {
            ProbeKind::Startup => ("startup", &facts.life.startup),
            ProbeKind::Liveness | ProbeKind::Readiness => ("liveness", &facts.life.liveness),
        };
        let grace = own.as_ref().and_then(|p| p.termination_grace_period).unwrap_or(self.pod.grace);
        let text = events::failed_probe(&facts.name, what, is_sidecar, comes_back);
        self.state.containers[container].comes_back = comes_back;
        self.begin_stop(container, Cause::Probe, grace, text);
    }

    /// Decides whether a container that a probe has had killed is started again without a wait.
    ///
    /// The kubelet kills it and starts it again in one go, so the run that its back-off knows of is still the one before: as
    /// long as a run lasts longer than the back-off, nothing is waited for.
    pub(crate) fn plan_restart_after_probe(&mut self, container: usize) {
        let now = self.now.boot;
        let record = &mut self.state.containers[container];
        let before = record.previous.as_ref().and_then(|past| past.finished_boot);
        let is_free = before.and_then(|event| record.backoff.until(event, now)).is_none();
        record.is_restart_due = record.comes_back && is_free;
    }

    /// Returns whether a regular container other than this one runs on or is to be started.
    fn is_anything_left_beside(&self, container: usize) -> bool {
        self.pod.regular().filter(|&c| c != container).any(|c| {
            let record = &self.state.containers[c];
            let is_kept = record.is_running() && record.stop.is_none_or(|s| s.cause != Cause::Probe);
            is_kept || record.comes_back || self.wants_start(c)
        })
    }
}
