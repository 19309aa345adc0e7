//! Lifecycle hooks: the start that waits for postStart, and the answers of both.

use podrun_spec::model::{Hook, HookKind};

use crate::action::Action;
use crate::events;
use crate::grace::Cause;
use crate::machine::Step;
use crate::state::{InFlight, Stage, StartStep};

impl Step<'_> {
    /// Runs the postStart hook of a container whose process has just started; the start goes on until it returns.
    ///
    /// Returns whether there is one to wait for.
    pub(crate) fn begin_post_start(&mut self, container: usize, attempt: u32) -> bool {
        let has_hook = self.pod.containers[container].life.post_start.is_some();
        if !has_hook || self.state.stage != Stage::Running {
            return false;
        }
        self.state.in_flight = Some(InFlight { container, step: StartStep::PostStart { attempt } });
        let (container, hook) = (self.name(container), HookKind::PostStart);
        self.actions.push(Action::RunHook { container, attempt, hook });
        true
    }

    pub(crate) fn hook_done(
        &mut self,
        name: &str,
        attempt: u32,
        hook: HookKind,
        failure: Option<String>,
        event: Option<(String, String)>,
    ) {
        let Some(container) = self.hear_of(name, attempt, event) else { return };
        match hook {
            HookKind::PreStop => self.pre_stop_done(container, failure.is_some()),
            HookKind::PostStart => self.post_start_done(container, attempt, failure),
        }
    }

    fn post_start_done(&mut self, container: usize, attempt: u32, failure: Option<String>) {
        let start = InFlight { container, step: StartStep::PostStart { attempt } };
        let is_awaited =
            self.state.in_flight == Some(start) && self.state.containers[container].hook_error.is_none();
        if !is_awaited {
            return;
        }
        let Some(message) = failure else { return self.end_post_start(container) };
        self.emit(events::post_start_failed(), Some(container));
        self.state.containers[container].hook_error = Some(message);
        if self.state.containers[container].is_running() {
            // The start goes on until the container has ended.
            let grace = self.pod.grace;
            self.begin_stop(container, Cause::PostStart, grace, events::killing("FailedPostStartHook"));
        } else {
            self.emit(events::killing("FailedPostStartHook"), Some(container));
            self.end_post_start(container);
        }
    }

    /// Takes in that a container has ended; its postStart hook may still run.
    ///
    /// A command dies with its container, and a request gets no answer: their answers are waited for, because they tell
    /// why. A sleep says nothing.
    pub(crate) fn container_of_hook_ended(&mut self, container: usize) {
        let is_starting = self.state.in_flight.is_some_and(|start| {
            start.container == container && matches!(start.step, StartStep::PostStart { .. })
        });
        let is_sleep = matches!(self.pod.containers[container].life.post_start, Some(Hook::Sleep(_)));
        if is_starting && (is_sleep || self.state.containers[container].hook_error.is_some()) {
            self.end_post_start(container);
        }
    }

    /// Ends the start of a container: the next one may begin.
    fn end_post_start(&mut self, container: usize) {
        self.state.in_flight = None;
        let record = &mut self.state.containers[container];
        record.reveal();
        if let Some(message) = record.hook_error.take()
            && self.state.stage == Stage::Running
        {
            self.set_waiting(container, "PostStartHookError", message);
        }
    }

    /// Waits no longer for a postStart hook.
    pub(crate) fn abandon_post_start(&mut self) {
        if let Some(InFlight { container, step: StartStep::PostStart { .. } }) = self.state.in_flight {
            self.state.in_flight = None;
            self.state.containers[container].reveal();
        }
    }
}
