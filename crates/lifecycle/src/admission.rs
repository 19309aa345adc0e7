//! What is said about a Pod from outside: whether it has a place here, and conditions for its readiness gates.

use podrun_spec::status::{Condition, Phase};

use crate::action::Action;
use crate::conditions::is_own;
use crate::events;
use crate::machine::Step;
use crate::state::Stage;

impl Step<'_> {
    pub(crate) fn unschedulable(&mut self, message: String) {
        if self.state.stage != Stage::New || self.state.unschedulable.as_ref() == Some(&message) {
            return;
        }
        self.emit(events::failed_scheduling(&message), None);
        self.state.unschedulable = Some(message);
    }

    /// Fails a Pod that this node can never run. Nothing of it exists, so nothing is left to remove.
    pub(crate) fn rejected(&mut self, reason: String, message: &str) {
        if self.state.stage != Stage::New {
            return;
        }
        self.emit(events::warning(reason.clone(), message.to_owned()), None);
        let status = &mut self.state.status;
        status.phase = Phase::Failed;
        status.reason = Some(reason);
        status.message = Some(format!("Pod was rejected: {message}"));
        status.start_time = Some(self.now.wall);
        status.observed_generation = Some(self.pod.generation);
        self.state.is_rejected = true;
        self.state.unschedulable = None;
        self.state.stage = Stage::Finished;
        self.actions.push(Action::Finish { remove: self.state.deletion.is_some() });
    }

    /// Takes in a condition that somebody else keeps. podrun's own cannot be set.
    pub(crate) fn condition_set(
        &mut self,
        kind: String,
        status: bool,
        reason: Option<String>,
        message: Option<String>,
    ) {
        if is_own(&kind) {
            return;
        }
        let now = Some(self.now.wall);
        let mut new =
            Condition { kind, status, reason, message, last_transition_time: now, observed_generation: None };
        match self.state.foreign.iter_mut().find(|c| c.kind == new.kind) {
            Some(old) => {
                if old.status == status {
                    new.last_transition_time = old.last_transition_time;
                }
                *old = new;
            }
            None => self.state.foreign.push(new),
        }
    }
}
