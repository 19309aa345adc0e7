//! The status that the state amounts to.

use podrun_spec::model::ContainerKind;
use podrun_spec::status::{ContainerState, ContainerStatus, Phase, Terminated};

use crate::conditions::{self, conditions};
use crate::container::{Record, RunState, container_id, is_restarted};
use crate::facts::PodFacts;
use crate::input::Now;
use crate::phase::phase;
use crate::state::{Stage, State};

/// All termination messages of a Pod together have so many bytes.
const MESSAGE_BUDGET: usize = 12 * 1024;

/// Brings `state.status` up to date.
pub(crate) fn publish(pod: &PodFacts, state: &mut State, now: Now) {
    if state.stage == Stage::New {
        return;
    }
    let statuses: Vec<_> =
        (0..pod.containers.len()).map(|i| container(pod, &state.containers[i], i)).collect();
    let (init, regular) = statuses.split_at(pod.init_count);
    let (before, all_stopped) = (state.status.phase, state.stage >= Stage::CleaningUp);

    if state.closed {
        if !before.is_terminal() {
            // A Pod that was ended before anything could decide on success.
            state.status.phase = Phase::Failed;
        }
    } else {
        let computed = phase(pod.restart_policy, init, regular, all_stopped);
        let facts = conditions::Facts {
            phase: computed,
            sandbox_ready: state.sandbox_ready,
            any_regular_ran: state.containers[pod.init_count..].iter().any(|r| r.run.is_some()),
            init,
            regular,
            generation: pod.generation,
        };
        state.status.conditions = conditions(&facts, &state.status.conditions, now.wall);
        // The terminal phase comes last, when nothing can run any more, and it is never left.
        if !before.is_terminal() && (all_stopped || !computed.is_terminal()) {
            state.status.phase = computed;
        }
    }

    state.status.observed_generation = Some(pod.generation);
    state.status.init_container_statuses = init.to_vec();
    let mut regular = regular.to_vec();
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    state.status.container_statuses = regular;
}

fn container(pod: &PodFacts, record: &Record, index: usize) -> ContainerStatus {
    let facts = &pod.containers[index];
    let limit = MESSAGE_BUDGET / pod.containers.len();
    let previous = || record.previous.as_ref().map(|(_, end)| trimmed(end, limit));
    let (state, last_state) = match record.run.as_ref().map(|run| &run.state) {
        None => (waiting(pod, record), None),
        Some(RunState::Running { started_at, .. }) => {
            (ContainerState::Running { started_at: *started_at }, previous())
        }
        Some(RunState::Ended { terminated, .. }) => {
            let terminated = trimmed(terminated, limit);
            // Why it does not run again yet is shown only of a container that will.
            if record.waiting.is_some() && is_restarted(pod.restart_policy, facts.kind, &terminated) {
                (waiting(pod, record), Some(terminated))
            } else {
                (ContainerState::Terminated(terminated), previous())
            }
        }
    };
    let running = record.is_running();
    let ready = match facts.kind {
        ContainerKind::Init => record.ended().is_some_and(|end| end.exit_code == 0),
        ContainerKind::Sidecar | ContainerKind::Regular => running,
    };
    let run = record.run.as_ref();
    let attempt = run.and_then(|r| r.attempt);
    ContainerStatus {
        name: facts.name.clone(),
        state,
        last_state,
        ready,
        started: running,
        restart_count: attempt.unwrap_or(0),
        image: facts.image.clone(),
        image_id: run.map(|r| r.image_id.clone()).unwrap_or_default(),
        container_id: attempt.map_or_else(String::new, |attempt| {
            format!("podrun://{}", container_id(&pod.uid, &facts.name, attempt))
        }),
        volume_mounts: facts.mounts.clone(),
        user: run.and_then(|r| r.user.clone()),
        ..ContainerStatus::default()
    }
}

fn waiting(pod: &PodFacts, record: &Record) -> ContainerState {
    if let Some(waiting) = &record.waiting {
        return ContainerState::Waiting { reason: waiting.reason.clone(), message: waiting.message.clone() };
    }
    let reason = if pod.init_count == 0 { "ContainerCreating" } else { "PodInitializing" };
    ContainerState::Waiting { reason: reason.to_owned(), message: None }
}

/// Cuts the message to its share of the budget, at a character's border.
fn trimmed(terminated: &Terminated, limit: usize) -> Terminated {
    let mut terminated = terminated.clone();
    if let Some(message) = &mut terminated.message {
        let end = (0..=limit.min(message.len())).rev().find(|&i| message.is_char_boundary(i));
        message.truncate(end.unwrap_or(0));
    }
    terminated
}
