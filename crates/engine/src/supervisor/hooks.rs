//! postStart and preStop hooks: each in a task of its own until it is done or its container has ended.

use podrun_lifecycle::Input;
use podrun_probes::{HookDone, HookError};
use podrun_spec::model::HookKind;
use tokio::sync::oneshot;

use super::{Done, Supervisor, handlers};
use crate::error::chain;

/// A hook that runs. Dropped, it is given up: its command is killed, its request ended.
///
/// One that was running when a supervisor died was killed with the supervisor's connection. The next supervisor runs a
/// preStop hook again, since the container is still to be stopped, and takes a container as it is whose postStart hook
/// was cut off, as a kubelet does.
pub(super) struct RunningHook {
    container: String,
    attempt: u32,
    _given_up: oneshot::Sender<()>,
}

impl Supervisor {
    pub(super) fn run_hook(&mut self, container: String, attempt: u32, hook: HookKind) {
        let spec = self.pod.spec.container(&container).map(|(_, spec)| spec);
        let wanted = spec.and_then(|spec| Some((spec.life.hook(hook)?, spec)));
        let handler = wanted.map(|(wanted, spec)| handlers::hook(wanted, spec));
        let (handler, executor) = match (handler, self.executor(&container, attempt)) {
            (Some(Ok(handler)), Some(executor)) => (handler, executor),
            (Some(Err(error)), _) => {
                self.inputs.push_back(answer(container, attempt, hook, Err(error.into())));
                return;
            }
            // Without a sandbox there is no container; its loss is told otherwise.
            (None, _) | (_, None) => return,
        };
        let (given_up, ended) = oneshot::channel();
        self.hooks.push(RunningHook { container: container.clone(), attempt, _given_up: given_up });
        let done = self.done.clone();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = executor.hook(&handler) => result,
                _ = ended => Err(HookError::Request { message: "the container has ended".to_owned() }),
            };
            // The loop is gone only when the process is ending.
            let _ = done.send(Done::Answer(answer(container, attempt, hook, result))).await;
        });
    }

    /// Takes note of what ends hooks before their time.
    pub(super) fn end_hooks(&mut self, input: &Input) {
        match input {
            Input::Exited { container, attempt, .. } => {
                self.hooks.retain(|hook| (&hook.container, &hook.attempt) != (container, attempt));
            }
            Input::SandboxLost => self.hooks.clear(),
            // A preStop hook of the same run may come after a postStart hook that is done: nothing is kept of that.
            Input::HookDone { container, attempt, .. } => {
                self.hooks.retain(|hook| (&hook.container, &hook.attempt) != (container, attempt));
            }
            _ => {}
        }
    }
}

fn answer(
    container: String,
    attempt: u32,
    hook: HookKind,
    result: std::result::Result<HookDone, HookError>,
) -> Input {
    let (failure, event) = match result {
        Ok(HookDone { event }) => (None, event),
        Err(error) => (Some(chain(&error)), None),
    };
    let event = event.map(|event| (event.reason.to_owned(), event.message));
    Input::HookDone { container, attempt, hook, failure, event }
}
