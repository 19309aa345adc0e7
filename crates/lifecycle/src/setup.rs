//! What comes before the containers: volumes and sandbox, and the loss of the sandbox.

use std::time::Duration;

use podrun_spec::model::RestartPolicy;

use crate::action::Action;
use crate::container::Record;
use crate::events;
use crate::machine::Step;
use crate::state::{Setup, Stage, StartStep};

/// Wait after the first failure of the volumes; it doubles, as in the kubelet's nested pending operations.
const VOLUME_RETRY: Duration = Duration::from_millis(500);
/// The longest wait for the volumes.
const VOLUME_RETRY_LONGEST: Duration = Duration::from_secs(122);
/// Wait after an error of the sandbox: the kubelet's wait after a failed sync.
const SANDBOX_RETRY: Duration = Duration::from_secs(10);

impl Step<'_> {
    pub(crate) fn created(&mut self) {
        if self.state.stage == Stage::New {
            self.state.status.start_time = Some(self.now.wall);
            self.state.start_boot = Some(self.now.boot);
            self.state.unschedulable = None;
            self.ask_volumes();
        }
    }

    fn ask_volumes(&mut self) {
        self.state.stage = Stage::Volumes;
        self.state.setup = Some(Setup::Volumes);
        self.state.retry_at = None;
        self.actions.push(Action::PrepareVolumes);
    }

    fn ask_sandbox(&mut self) {
        self.state.stage = Stage::Sandbox;
        self.state.setup = Some(Setup::Sandbox);
        self.state.retry_at = None;
        self.state.sandbox_asked = true;
        self.actions.push(Action::CreateSandbox);
    }

    /// Returns whether this was the answer that is waited for, and notes that it has come.
    fn answered(&mut self, setup: Setup) -> bool {
        let expected = self.state.setup == Some(setup);
        if expected {
            self.state.setup = None;
        }
        expected
    }

    pub(crate) fn volumes_ready(&mut self) {
        if self.answered(Setup::Volumes) && self.state.stage == Stage::Volumes {
            self.state.volume_failures = 0;
            self.ask_sandbox();
        }
    }

    pub(crate) fn volumes_failed(&mut self, message: String) {
        if self.answered(Setup::Volumes) {
            self.emit(events::failed_mount(message), None);
            let doublings = self.state.volume_failures.min(8);
            self.state.volume_failures += 1;
            self.state.retry_at =
                Some(self.now.boot + (VOLUME_RETRY * (1 << doublings)).min(VOLUME_RETRY_LONGEST));
        }
    }

    pub(crate) fn sandbox_ready(&mut self, pod_ips: Vec<String>) {
        if self.answered(Setup::Sandbox) && self.state.stage == Stage::Sandbox {
            self.state.sandbox_ready = true;
            self.state.status.pod_ips = pod_ips;
            self.state.stage = Stage::Running;
        }
    }

    pub(crate) fn sandbox_failed(&mut self, error: &str) {
        if self.answered(Setup::Sandbox) {
            self.emit(events::failed_sandbox(error), None);
            self.state.retry_at = Some(self.now.boot + SANDBOX_RETRY);
        }
    }

    pub(crate) fn retry_setup(&mut self) {
        if self.state.retry_at.is_some_and(|at| at <= self.now.boot) {
            match self.state.stage {
                Stage::Volumes => self.ask_volumes(),
                _ => self.ask_sandbox(),
            }
        }
    }

    /// All containers died with the sandbox's init. A new sandbox is made if something is left to run in it.
    pub(crate) fn sandbox_lost(&mut self) {
        let had_one = matches!(self.state.stage, Stage::Running | Stage::Restarting | Stage::Stopping);
        if !had_one || !self.state.sandbox_ready {
            return;
        }
        self.state.sandbox_ready = false;
        self.lose_running();
        self.abandon_start();
        if self.state.stage == Stage::Stopping {
            return;
        }
        let is_done = match self.pod.restart_policy {
            _ if self.state.is_resetting => false,
            // The kubelet does not make a second sandbox for a Pod of which anything has ever run.
            RestartPolicy::Never => self.state.containers.iter().any(Record::has_run),
            RestartPolicy::Always | RestartPolicy::OnFailure => {
                let any_ran = self.pod.regular().any(|c| self.state.containers[c].has_run());
                any_ran && !self.pod.regular().any(|c| self.wants_start(c))
            }
        };
        if is_done {
            self.begin_stopping();
        } else {
            self.emit(events::sandbox_changed(), None);
            self.state.stage = Stage::Rebuilding;
            self.actions.push(Action::StopSandbox);
        }
    }

    /// The remains of the lost sandbox are gone: the next one is made, and init containers run again in it.
    pub(crate) fn rebuild(&mut self) {
        for index in 0..self.state.containers.len() {
            if let Some(attempt) = self.state.containers[index].abandoned.take() {
                let container = self.name(index);
                self.actions.push(Action::RemoveAttempt { container, attempt });
            }
        }
        if self.state.is_resetting {
            self.reset();
        }
        for record in &mut self.state.containers[..self.pod.init_count] {
            record.is_current = false;
        }
        // If the machine has been restarted nothing has kept them from being removed.
        for unmounted in &mut self.state.unmounted {
            unmounted.is_here = false;
        }
        self.state.cursor = 0;
        self.ask_sandbox();
    }

    /// Forgets the start in progress; an answer that still comes is ignored.
    pub(crate) fn abandon_start(&mut self) {
        self.abandon_post_start();
        if let Some(start) = self.state.in_flight.take()
            && let StartStep::Start { attempt } = start.step
        {
            // The number is not used again, so that a late answer cannot be mistaken for the next one's.
            let record = &mut self.state.containers[start.container];
            record.next_attempt = attempt + 1;
            record.abandoned = Some(attempt);
        }
    }
}
