//! The status that the state amounts to.

use podrun_spec::model::ContainerKind;
use podrun_spec::status::{Condition, ContainerState, ContainerStatus, Phase, Terminated, UserStatus};

use crate::conditions::{self, conditions};
use crate::container::{Record, Run, RunState, container_id, lost};
use crate::facts::PodFacts;
use crate::input::Now;
use crate::phase::{Seen, phase};
use crate::probes::{is_ready, is_started};
use crate::restart_all;
use crate::rules::is_restarted;
use crate::state::{Stage, State};

/// All termination messages of a Pod together have so many bytes.
const MESSAGE_BUDGET: usize = 12 * 1024;

/// Brings `state.status` up to date.
pub(crate) fn publish(pod: &PodFacts, state: &mut State, now: Now) {
    if state.stage == Stage::New || state.is_rejected {
        // Only a scheduler has seen it, or nobody ever will.
        let own = conditions::unscheduled(pod, state.unschedulable.as_deref());
        set_conditions(state, own, now);
        return;
    }
    let statuses: Vec<_> = (0..pod.containers.len()).map(|i| container(pod, state, i)).collect();
    let seen: Vec<_> = statuses.iter().enumerate().map(|(i, status)| seen(pod, state, i, status)).collect();
    let generation = generation(pod, state);
    let before = state.status.phase;
    let all_stopped = state.stage >= Stage::CleaningUp;

    if state.closed {
        if !before.is_terminal() {
            // A Pod that was ended before anything could decide on success.
            set_phase(state, Phase::Failed);
        }
    } else {
        let computed = forced(state, phase(&seen, all_stopped), all_stopped);
        let facts = conditions::Facts {
            pod,
            generation,
            phase: computed,
            sandbox_ready: state.sandbox_ready,
            was_initialized: conditions::is_true(&state.status.conditions, "Initialized"),
            is_restarting_all: state.is_resetting,
            foreign: &state.foreign,
            seen: &seen,
        };
        let own = conditions(&facts);
        set_conditions(state, own, now);
        // The terminal phase comes last, when nothing can run any more, and it is never left.
        if !before.is_terminal() && (all_stopped || !computed.is_terminal()) {
            set_phase(state, computed);
        }
    }

    state.status.observed_generation = Some(generation);
    let (init, regular) = statuses.split_at(pod.init_count);
    state.status.init_container_statuses = init.to_vec();
    let mut regular = regular.to_vec();
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    state.status.container_statuses = regular;
}

/// Returns the generation that the status speaks about. The wish to delete a Pod is a new one; one that has ended is not
/// looked at any more.
fn generation(pod: &PodFacts, state: &State) -> i64 {
    match state.status.observed_generation {
        Some(observed) if state.stage == Stage::Finished => observed,
        _ => pod.generation + i64::from(state.deletion.is_some()),
    }
}

/// Writes the conditions: those of others first, then podrun's own with the times of those whose status is the same.
fn set_conditions(state: &mut State, own: Vec<Condition>, now: Now) {
    let before = std::mem::take(&mut state.status.conditions);
    let stamp = |mut condition: Condition| {
        let same = before.iter().find(|c| c.kind == condition.kind && c.status == condition.status);
        condition.last_transition_time = same.map_or(Some(now.wall), |c| c.last_transition_time);
        condition
    };
    state.status.conditions = state.foreign.iter().cloned().chain(own.into_iter().map(stamp)).collect();
}

/// Returns the phase of a Pod that may have been failed from outside.
fn forced(state: &State, computed: Phase, all_stopped: bool) -> Phase {
    match &state.failure {
        Some(failure) if !failure.spares_success => Phase::Failed,
        Some(_) if all_stopped && computed != Phase::Succeeded => Phase::Failed,
        _ => computed,
    }
}

fn set_phase(state: &mut State, phase: Phase) {
    state.status.phase = phase;
    if let Some(failure) = state.failure.as_ref().filter(|_| phase == Phase::Failed) {
        state.status.reason = Some(failure.reason.clone());
        state.status.message = Some(failure.message.clone());
    }
}

/// Returns what the phase and the conditions ask of a container.
fn seen<'a>(pod: &PodFacts, state: &State, index: usize, status: &'a ContainerStatus) -> Seen<'a> {
    let (facts, record) = (&pod.containers[index], &state.containers[index]);
    let end = match &status.state {
        ContainerState::Terminated(end) => Some(end),
        ContainerState::Waiting { .. } => status.last_state.as_ref(),
        ContainerState::Running { .. } => None,
    };
    let comes_back = end.is_some_and(|end| {
        record.comes_back || end.reason == restart_all::REASON || is_restarted(pod, facts, end)
    });
    Seen { kind: facts.kind, status, comes_back }
}

/// Returns whether a container is shown as waiting.
pub(crate) fn is_waiting(pod: &PodFacts, state: &State, index: usize) -> bool {
    matches!(container(pod, state, index).state, ContainerState::Waiting { .. })
}

/// What is shown of a container's runs.
struct Shown<'a> {
    state: ContainerState,
    last_state: Option<Terminated>,
    restart_count: u32,
    image_id: &'a str,
    container_id: String,
    user: Option<&'a UserStatus>,
}

fn container(pod: &PodFacts, state: &State, index: usize) -> ContainerStatus {
    let (facts, record) = (&pod.containers[index], &state.containers[index]);
    let mut shown = match record.run.as_ref().filter(|run| !run.is_hidden) {
        Some(run) => newest(pod, record, run, index),
        None => predecessor(pod, record),
    };
    if record.is_lost {
        shown.state = ContainerState::Terminated(lost(None, None, String::new()));
    }
    let limit = MESSAGE_BUDGET / pod.containers.len();
    if let ContainerState::Terminated(end) = &mut shown.state {
        trim(end, limit);
    }
    if let Some(end) = &mut shown.last_state {
        trim(end, limit);
    }
    let ready = match facts.kind {
        ContainerKind::Init => matches!(&shown.state, ContainerState::Terminated(end) if end.exit_code == 0),
        ContainerKind::Sidecar | ContainerKind::Regular => is_ready(facts, record),
    };
    ContainerStatus {
        name: facts.name.clone(),
        state: shown.state,
        last_state: shown.last_state,
        ready,
        started: is_started(facts, record),
        restart_count: shown.restart_count,
        image: facts.image.clone(),
        image_id: shown.image_id.to_owned(),
        container_id: shown.container_id,
        volume_mounts: facts.mounts.clone(),
        user: shown.user.cloned(),
        ..ContainerStatus::default()
    }
}

/// Shows the newest run.
fn newest<'a>(pod: &PodFacts, record: &'a Record, run: &'a Run, index: usize) -> Shown<'a> {
    let facts = &pod.containers[index];
    let previous = || record.previous.as_ref().map(|past| past.terminated.clone());
    let (state, last_state) = match &run.state {
        RunState::Running { started_at, .. } => {
            (ContainerState::Running { started_at: *started_at }, previous())
        }
        RunState::Ended { terminated, .. } => {
            // Why it does not run again yet is shown only of a container that will.
            let comes_back = !record.is_current || record.comes_back || is_restarted(pod, facts, terminated);
            if record.waiting.is_some() && comes_back {
                (waiting(pod, record), Some(terminated.clone()))
            } else {
                (ContainerState::Terminated(terminated.clone()), previous())
            }
        }
    };
    Shown {
        state,
        last_state,
        restart_count: run.attempt,
        image_id: &run.image_id,
        container_id: format!("podrun://{}", container_id(&pod.uid, &facts.name, run.attempt)),
        user: run.user.as_ref(),
    }
}

/// Shows a container of which no run is to be seen: it has never run, its newest run is still being started, or all
/// containers are being restarted.
fn predecessor<'a>(pod: &PodFacts, record: &'a Record) -> Shown<'a> {
    let past = record.previous.as_ref();
    // What was forgotten counts as restarted before it runs again.
    let next = record.run.as_ref().map_or(record.next_attempt, |run| run.attempt);
    Shown {
        state: waiting(pod, record),
        last_state: past.map(|past| past.terminated.clone()),
        restart_count: past.map_or(0, |past| past.attempt.unwrap_or(next)),
        image_id: past.map_or("", |past| &past.image_id),
        container_id: past.map_or_else(String::new, |past| past.terminated.container_id.clone()),
        user: past.and_then(|past| past.user.as_ref()),
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
fn trim(terminated: &mut Terminated, limit: usize) {
    if let Some(message) = &mut terminated.message {
        let end = (0..=limit.min(message.len())).rev().find(|&i| message.is_char_boundary(i));
        message.truncate(end.unwrap_or(0));
    }
}
