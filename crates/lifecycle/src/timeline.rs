//! What happened to a Pod as lines of text: facts, decisions, events, and what changed in the status.

use std::fmt;
use std::time::Duration;

use podrun_spec::status::{Condition, ContainerState, ContainerStatus, PodStatus, Terminated};

use crate::action::{Action, EventKind};
use crate::input::{ExitStatus, Input, StartFailure};

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LineKind {
    /// Something happened to the Pod.
    Fact,
    /// The machine wants something done.
    Decision,
    /// An event was recorded.
    Event,
    /// The status changed.
    Status,
}

/// A line of a timeline. It prints as `TIME KIND TEXT` in columns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// Since the beginning of the timeline.
    pub at: Duration,
    /// What it tells.
    pub kind: LineKind,
    /// The text.
    pub text: String,
}

impl LineKind {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Fact => "fact",
            Self::Decision => "do",
            Self::Event => "event",
            Self::Status => "status",
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.at.as_secs(), self.at.subsec_millis());
        write!(f, "{seconds:>6}.{millis:03}s  {:<6}  {}", self.kind.as_str(), self.text)
    }
}

/// Returns the lines of one step: the fact, what follows from it, and how the status changed.
pub(crate) fn lines(
    at: Duration,
    input: &Input,
    actions: &[Action],
    before: &PodStatus,
    after: &PodStatus,
) -> Vec<Line> {
    let line = |kind, text| Line { at, kind, text };
    let mut lines: Vec<_> = fact(input).map(|text| line(LineKind::Fact, text)).into_iter().collect();
    for action in actions {
        lines.push(match action {
            Action::Emit(event) => {
                let kind = match event.kind {
                    EventKind::Normal => "Normal",
                    EventKind::Warning => "Warning",
                };
                let about = event.field_path.as_deref().map(|path| format!(" {path}")).unwrap_or_default();
                line(LineKind::Event, format!("{kind} {}{about}: {}", event.reason, event.message))
            }
            other => line(LineKind::Decision, decision(other)),
        });
    }
    lines.extend(changes(before, after).into_iter().map(|text| line(LineKind::Status, text)));
    lines
}

/// Returns a fact in words; none for the mere passing of time.
fn fact(input: &Input) -> Option<String> {
    Some(match input {
        Input::Tick => return None,
        Input::Created => "the Pod is accepted".to_owned(),
        Input::Unschedulable { message } => format!("no room: {message}"),
        Input::Rejected { reason, message } => format!("rejected: {reason}: {message}"),
        Input::VolumesReady => "volumes are ready".to_owned(),
        Input::VolumesFailed { message } => format!("volumes failed: {message}"),
        Input::SandboxReady { pod_ips } => format!("the sandbox stands [{}]", pod_ips.join(" ")),
        Input::SandboxFailed { message } => format!("the sandbox failed: {message}"),
        Input::SandboxLost => "the sandbox is lost".to_owned(),
        Input::ImagePulling { container, volume } => {
            format!(
                "{}: the image{} is being pulled",
                whose(container.as_deref()),
                of_volume(volume.as_deref())
            )
        }
        Input::ImageReady { container, volume, pulled, .. } => {
            let how = if pulled.is_some() { "pulled" } else { "here" };
            format!("{}: the image{} is {how}", whose(container.as_deref()), of_volume(volume.as_deref()))
        }
        Input::ImageFailed { container, volume, reason, message } => {
            format!(
                "{}: no image{}: {reason}: {message}",
                whose(container.as_deref()),
                of_volume(volume.as_deref())
            )
        }
        Input::Started { container, attempt, .. } => format!("{container}#{attempt} runs"),
        Input::StartFailed { container, attempt, failure } => {
            let (StartFailure::Config { message, .. } | StartFailure::Exec { message, .. }) = failure;
            format!("{container}#{attempt} did not start: {message}")
        }
        Input::Exited { container, attempt, status, oom_killed, .. } => {
            let how = match status {
                ExitStatus::Code(code) => format!("ended with {code}"),
                ExitStatus::Signal(signal) => format!("was ended by signal {signal}"),
                ExitStatus::Lost => "ended, nobody knows how".to_owned(),
            };
            format!("{container}#{attempt} {how}{}", if *oom_killed { " for lack of memory" } else { "" })
        }
        Input::Probed { container, attempt, probe, healthy, event } => {
            let verdict = match (healthy, event) {
                (Some(true), _) => "succeeds".to_owned(),
                (Some(false), _) => "fails".to_owned(),
                (None, Some((_, message))) => format!("says: {message}"),
                (None, None) => "says nothing".to_owned(),
            };
            format!("{container}#{attempt} {probe:?} {verdict}")
        }
        Input::HookDone { container, attempt, hook, failure, .. } => {
            let how = failure.as_ref().map_or_else(|| "is done".to_owned(), |why| format!("failed: {why}"));
            format!("{container}#{attempt} {hook:?} {how}")
        }
        Input::ConditionSet { kind, status, .. } => format!("condition {kind}={}", word(*status)),
        Input::Evicted { message } => format!("evicted: {message}"),
        Input::Delete { grace_seconds: None } => "delete".to_owned(),
        Input::Delete { grace_seconds: Some(seconds) } => format!("delete with {seconds} s of grace"),
        Input::SandboxStopped => "the sandbox is gone".to_owned(),
        Input::CleanedUp => "nothing is left".to_owned(),
    })
}

/// Returns who needs an image: a volume that no container mounts is the Pod's alone.
fn whose(container: Option<&str>) -> &str {
    container.unwrap_or("the Pod")
}

/// Returns which of the images is meant.
fn of_volume(volume: Option<&str>) -> String {
    volume.map_or_else(String::new, |name| format!(" of volume {name}"))
}

fn decision(action: &Action) -> String {
    match action {
        Action::PrepareVolumes => "prepare volumes".to_owned(),
        Action::CreateSandbox => "create the sandbox".to_owned(),
        Action::EnsureImage { container, volume } => {
            format!("{}: ensure the image{}", whose(container.as_deref()), of_volume(volume.as_deref()))
        }
        Action::Start { container, attempt } => format!("{container}#{attempt}: start"),
        Action::RunHook { container, attempt, hook } => format!("{container}#{attempt}: run {hook:?}"),
        Action::SendStopSignal { container, attempt } => {
            format!("{container}#{attempt}: send the stop signal")
        }
        Action::Kill { container, attempt } => format!("{container}#{attempt}: kill"),
        Action::RemoveAttempt { container, attempt } => format!("{container}#{attempt}: remove what it left"),
        Action::StopSandbox => "stop the sandbox".to_owned(),
        Action::CleanUp => "clean up".to_owned(),
        Action::Emit(event) => event.message.clone(),
        Action::Finish { remove: true } => "finish, and forget the Pod".to_owned(),
        Action::Finish { remove: false } => "finish".to_owned(),
    }
}

const fn word(status: bool) -> &'static str {
    if status { "True" } else { "False" }
}

/// Returns what changed between two statuses: the phase, containers, conditions.
fn changes(before: &PodStatus, after: &PodStatus) -> Vec<String> {
    let mut changes = Vec::new();
    if before.phase != after.phase {
        let why = after.reason.as_deref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        changes.push(format!("{} -> {}{why}", before.phase.as_str(), after.phase.as_str()));
    }
    let all = |s: &PodStatus| [s.init_container_statuses.clone(), s.container_statuses.clone()].concat();
    let old = all(before);
    for new in all(after) {
        let old = old.iter().find(|old| old.name == new.name).map(container);
        let new_text = container(&new);
        if old.as_ref() != Some(&new_text) {
            changes.push(format!("{}: {new_text}", new.name));
        }
    }
    for new in &after.conditions {
        let old = before.conditions.iter().find(|old| old.kind == new.kind);
        let is_same = old.is_some_and(|old| {
            (old.status, &old.reason, &old.message) == (new.status, &new.reason, &new.message)
        });
        if !is_same {
            changes.push(condition(new));
        }
    }
    changes
}

/// Returns a container's status in one line: `Running ready started restarts=1 last=Error(1)`.
pub(crate) fn container(status: &ContainerStatus) -> String {
    let end = |end: &Terminated| format!("{}({})", end.reason, end.exit_code);
    let mut text = match &status.state {
        ContainerState::Waiting { reason, .. } => format!("Waiting {reason}"),
        ContainerState::Running { .. } => "Running".to_owned(),
        ContainerState::Terminated(terminated) => format!("Terminated {}", end(terminated)),
    };
    if status.started {
        text.push_str(" started");
    }
    if status.ready {
        text.push_str(" ready");
    }
    if status.restart_count > 0 {
        text.push_str(&format!(" restarts={}", status.restart_count));
    }
    if let Some(last) = &status.last_state {
        text.push_str(&format!(" last={}", end(last)));
    }
    text
}

fn condition(condition: &Condition) -> String {
    let mut text = format!("{}={}", condition.kind, word(condition.status));
    if let Some(reason) = &condition.reason {
        text.push_str(&format!(" {reason}"));
    }
    if let Some(message) = &condition.message {
        text.push_str(&format!(": {message}"));
    }
    text
}
