//! What is known about one container: its newest run, the run before, and its attempts to start.

use std::time::Duration;

use podrun_spec::status::{Terminated, UserStatus};
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::grace::Stop;
use crate::input::ExitStatus;

/// Text for a run of which nobody knows how it ended, and for a container that never ran, in the kubelet's words.
const NOT_LOCATED: &str = "The container could not be located when the pod was terminated";

/// Returns the id of a run, which `containerID` shows after `podrun://`.
///
/// It is made of the Pod's UID, the container's name and the attempt, joined by `_`, which none of them can contain.
pub fn container_id(pod_uid: &str, container: &str, attempt: u32) -> String {
    format!("{pod_uid}_{container}_{attempt}")
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Record {
    /// The newest run.
    pub(crate) run: Option<Run>,
    /// The run before it.
    pub(crate) previous: Option<Past>,
    /// The number of the next start.
    pub(crate) next_attempt: u32,
    /// The newest run took place in this sandbox, and after the last restart of all containers.
    pub(crate) is_current: bool,
    /// A start that was given up unanswered; what it left is removed with the next sandbox.
    pub(crate) abandoned: Option<u32>,
    /// Why the last try to start it failed, or what the next one waits for.
    pub(crate) waiting: Option<Waiting>,
    /// What the last outcome led to has stood in a status; a back-off may be shown over it.
    pub(crate) outcome_shown: bool,
    /// No try before this time.
    pub(crate) retry_at: Option<Duration>,
    /// Restarts.
    pub(crate) backoff: Backoff,
    /// What the image resolved to, for the run that is about to start.
    pub(crate) image_id: String,
    /// What the probes say of the newest run.
    pub(crate) verdicts: Verdicts,
    /// Why the postStart hook of the newest run failed, until the run has ended.
    pub(crate) hook_error: Option<String>,
    /// It was told to stop.
    pub(crate) stop: Option<Stop>,
    /// A probe had it killed: it runs again whatever its exit code.
    pub(crate) comes_back: bool,
    /// It was killed to be started again and need not wait for that.
    pub(crate) is_restart_due: bool,
    /// The Pod has ended while it waited: it is reported as lost.
    pub(crate) is_lost: bool,
}

/// What the probes say of a run. Of liveness there is nothing to remember: a failure is acted upon at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Verdicts {
    /// Unknown until it has succeeded or failed.
    pub(crate) startup: Option<bool>,
    /// False until it has succeeded.
    pub(crate) readiness: bool,
}

/// `state.waiting`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    pub(crate) reason: String,
    pub(crate) message: Option<String>,
}

/// A run of a container: from its start to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    pub(crate) attempt: u32,
    pub(crate) image_id: String,
    pub(crate) user: Option<UserStatus>,
    /// Its postStart hook has not returned: the run before it is reported.
    pub(crate) is_hidden: bool,
    pub(crate) state: RunState,
}

/// Whether a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunState {
    Running { started_at: Timestamp, started_boot: Duration },
    Ended { terminated: Terminated, finished_boot: Duration },
}

/// A run that is over and has a successor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Past {
    /// None where all that was known was removed.
    pub(crate) attempt: Option<u32>,
    pub(crate) image_id: String,
    pub(crate) user: Option<UserStatus>,
    pub(crate) terminated: Terminated,
    pub(crate) finished_boot: Option<Duration>,
}

impl Record {
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.run, Some(Run { state: RunState::Running { .. }, .. }))
    }

    /// Returns the attempt that runs.
    pub(crate) fn running(&self) -> Option<u32> {
        self.run.as_ref().filter(|_| self.is_running()).map(|run| run.attempt)
    }

    /// Returns how the newest run ended; none while it runs.
    pub(crate) fn ended(&self) -> Option<&Terminated> {
        match &self.run {
            Some(Run { state: RunState::Ended { terminated, .. }, .. }) => Some(terminated),
            _ => None,
        }
    }

    /// Returns when the newest run ended; none while it runs.
    pub(crate) const fn finished_boot(&self) -> Option<Duration> {
        match self.run {
            Some(Run { state: RunState::Ended { finished_boot, .. }, .. }) => Some(finished_boot),
            _ => None,
        }
    }

    /// Returns whether it has ever run.
    pub(crate) const fn has_run(&self) -> bool {
        self.run.is_some() || self.previous.is_some()
    }

    /// Makes `run` the newest one.
    pub(crate) fn begin(&mut self, run: Run) {
        if let Some(Run { attempt, image_id, user, state, .. }) = self.run.take()
            && let RunState::Ended { terminated, finished_boot } = state
        {
            let (attempt, finished_boot) = (Some(attempt), Some(finished_boot));
            self.previous = Some(Past { attempt, image_id, user, terminated, finished_boot });
        }
        self.next_attempt = run.attempt + 1;
        self.is_current = true;
        self.waiting = None;
        self.retry_at = None;
        self.outcome_shown = false;
        self.verdicts = Verdicts::default();
        self.hook_error = None;
        self.stop = None;
        self.comes_back = false;
        self.is_restart_due = false;
        self.run = Some(run);
    }

    /// Ends the run that is going on; without one nothing happens.
    pub(crate) fn end(&mut self, terminated: Terminated, finished_boot: Duration) {
        if let Some(Run { state, .. }) = &mut self.run
            && let RunState::Running { started_boot, .. } = *state
        {
            // A wall clock that was set back must not move the end before the start.
            *state = RunState::Ended { terminated, finished_boot: finished_boot.max(started_boot) };
            self.stop = None;
            self.outcome_shown = false;
        }
    }

    /// Reports the newest run although its postStart hook has not returned.
    pub(crate) const fn reveal(&mut self) {
        if let Some(run) = &mut self.run {
            run.is_hidden = false;
        }
    }
}

/// Returns exit code and reason of an ended process.
///
/// A process that the kernel killed for memory makes the reason `OOMKilled` whatever the exit code, as in containerd.
pub(crate) fn exit_code_and_reason(status: ExitStatus, oom_killed: bool) -> (i32, &'static str) {
    let code = match status {
        ExitStatus::Code(code) => code,
        ExitStatus::Signal(signal) => signal.saturating_add(128),
        ExitStatus::Lost => return (137, "ContainerStatusUnknown"),
    };
    let reason = match code {
        _ if oom_killed => "OOMKilled",
        0 => "Completed",
        _ => "Error",
    };
    (code, reason)
}

/// Returns the end of a run of which no record exists.
pub(crate) fn lost(
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    container_id: String,
) -> Terminated {
    Terminated {
        exit_code: 137,
        reason: "ContainerStatusUnknown".to_owned(),
        message: Some(NOT_LOCATED.to_owned()),
        started_at,
        finished_at,
        container_id,
    }
}

/// Returns whether an init container did not do its job. Being killed for memory is a failure even with exit code 0.
pub(crate) fn init_failed(terminated: &Terminated) -> bool {
    terminated.exit_code != 0 || terminated.reason == "OOMKilled"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_statuses_become_codes_and_reasons() {
        for (status, oom, expected) in [
            (ExitStatus::Code(0), false, (0, "Completed")),
            (ExitStatus::Code(3), false, (3, "Error")),
            (ExitStatus::Signal(9), false, (137, "Error")),
            (ExitStatus::Signal(15), false, (143, "Error")),
            (ExitStatus::Signal(9), true, (137, "OOMKilled")),
            (ExitStatus::Code(0), true, (0, "OOMKilled")),
            (ExitStatus::Lost, false, (137, "ContainerStatusUnknown")),
        ] {
            assert_eq!(exit_code_and_reason(status, oom), expected, "{status:?} {oom}");
        }
    }

    #[test]
    fn ids_are_unambiguous() {
        assert_eq!(container_id("0f1e-2d", "web-1", 2), "0f1e-2d_web-1_2");
    }
}
