//! What is known about one container: its newest run, the run before, and its attempts to start.

use std::time::Duration;

use podrun_spec::model::{ContainerKind, RestartPolicy};
use podrun_spec::status::{Terminated, UserStatus};
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::input::ExitStatus;

/// Text for a run of which nobody knows how it ended, and for a container that never ran, in the kubelet's words.
pub(crate) const NOT_LOCATED: &str = "The container could not be located when the pod was terminated";

/// Returns the id of a run, which `containerID` shows after `podrun://`.
///
/// It is made of the Pod's UID, the container's name and the attempt, joined by `_`, which none of them can contain.
pub fn container_id(pod_uid: &str, container: &str, attempt: u32) -> String {
    format!("{pod_uid}_{container}_{attempt}")
}

/// One container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The newest run.
    pub(crate) run: Option<Run>,
    /// How the run before it ended, and which attempt that was.
    pub(crate) previous: Option<(u32, Terminated)>,
    /// The number of the next start.
    pub(crate) next_attempt: u32,
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
    /// It was told to stop.
    pub(crate) stop: Option<Stop>,
}

/// A stop in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Stop {
    pub(crate) kill_at: Duration,
    pub(crate) killed: bool,
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
    /// None for a container that never ran but is reported as ended.
    pub(crate) attempt: Option<u32>,
    pub(crate) image_id: String,
    pub(crate) user: Option<UserStatus>,
    pub(crate) state: RunState,
}

/// Whether a run goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RunState {
    Running { started_at: Timestamp, started_boot: Duration },
    Ended { terminated: Terminated, finished_boot: Duration },
}

impl Record {
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.run, Some(Run { state: RunState::Running { .. }, .. }))
    }

    /// Returns how the newest run ended; none while it runs.
    pub(crate) fn ended(&self) -> Option<&Terminated> {
        match &self.run {
            Some(Run { state: RunState::Ended { terminated, .. }, .. }) => Some(terminated),
            _ => None,
        }
    }

    /// Returns when the newest run ended; none while it runs.
    pub(crate) fn finished_boot(&self) -> Option<Duration> {
        match self.run {
            Some(Run { state: RunState::Ended { finished_boot, .. }, .. }) => Some(finished_boot),
            _ => None,
        }
    }

    /// Makes `run` the newest one.
    pub(crate) fn begin(&mut self, run: Run) {
        if let Some(Run { attempt: Some(attempt), state: RunState::Ended { terminated, .. }, .. }) =
            self.run.take()
        {
            self.previous = Some((attempt, terminated));
        }
        self.next_attempt = run.attempt.map_or(self.next_attempt, |a| a + 1);
        self.waiting = None;
        self.retry_at = None;
        self.outcome_shown = false;
        self.stop = None;
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

/// Returns whether the restart policy starts a container again that ended like this.
pub(crate) fn is_restarted(policy: RestartPolicy, kind: ContainerKind, terminated: &Terminated) -> bool {
    match kind {
        ContainerKind::Init => policy != RestartPolicy::Never && init_failed(terminated),
        ContainerKind::Sidecar => true,
        ContainerKind::Regular => match policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => terminated.exit_code != 0,
            RestartPolicy::Never => false,
        },
    }
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
    fn the_restart_policy_decides_by_kind_and_exit() {
        use ContainerKind::{Init, Regular};
        use RestartPolicy::{Always, Never, OnFailure};
        let end = |exit_code, reason: &str| Terminated {
            exit_code,
            reason: reason.to_owned(),
            message: None,
            started_at: None,
            finished_at: None,
            container_id: String::new(),
        };
        for (policy, kind, terminated, expected) in [
            (Always, Regular, end(0, "Completed"), true),
            (Always, Regular, end(1, "Error"), true),
            (OnFailure, Regular, end(0, "Completed"), false),
            (OnFailure, Regular, end(1, "Error"), true),
            (OnFailure, Regular, end(0, "OOMKilled"), false),
            (Never, Regular, end(1, "Error"), false),
            (Always, Init, end(0, "Completed"), false),
            (Always, Init, end(1, "Error"), true),
            (OnFailure, Init, end(0, "OOMKilled"), true),
            (Never, Init, end(1, "Error"), false),
        ] {
            assert_eq!(
                is_restarted(policy, kind, &terminated),
                expected,
                "{policy:?} {kind:?} {terminated:?}"
            );
        }
    }

    #[test]
    fn ids_are_unambiguous() {
        assert_eq!(container_id("0f1e-2d", "web-1", 2), "0f1e-2d_web-1_2");
    }
}
