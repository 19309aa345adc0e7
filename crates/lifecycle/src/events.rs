//! The texts of events, as the kubelet writes them (`pkg/kubelet/events/event.go` and its users).

use std::time::Duration;

use podrun_spec::model::ContainerKind;
use podrun_spec::time::Timestamp;

use crate::action::{EventKind, PodEvent};
use crate::backoff::go_duration;
use crate::facts::{ContainerFacts, PodFacts};
use crate::input::PulledImage;

/// An event without its time.
pub(crate) struct Text {
    kind: EventKind,
    reason: String,
    message: String,
}

impl Text {
    fn normal(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Normal, reason: reason.to_owned(), message: message.into() }
    }

    fn warning(reason: &str, message: impl Into<String>) -> Self {
        Self { kind: EventKind::Warning, reason: reason.to_owned(), message: message.into() }
    }

    /// Returns the event of the Pod, or of one of its containers.
    pub(crate) fn at(self, at: Timestamp, about: Option<&ContainerFacts>) -> PodEvent {
        let field_path = about.map(|c| match c.kind {
            ContainerKind::Init | ContainerKind::Sidecar => format!("spec.initContainers{{{}}}", c.name),
            ContainerKind::Regular => format!("spec.containers{{{}}}", c.name),
        });
        PodEvent { kind: self.kind, reason: self.reason, message: self.message, field_path, at }
    }
}

pub(crate) fn failed_mount(message: String) -> Text {
    Text::warning("FailedMount", message)
}

pub(crate) fn failed_sandbox(error: &str) -> Text {
    Text::warning("FailedCreatePodSandBox", format!("Failed to create pod sandbox: {error}"))
}

pub(crate) fn sandbox_changed() -> Text {
    Text::normal("SandboxChanged", "Pod sandbox changed, it will be killed and re-created.")
}

pub(crate) fn pulling(image: &str) -> Text {
    Text::normal("Pulling", format!("Pulling image \"{image}\""))
}

pub(crate) fn pulled(image: &str, pulled: PulledImage, waited: Duration) -> Text {
    // One that was pulled ahead took longer than anybody waited for it.
    let (took, waited) = (go_duration(pulled.took), go_duration(waited.max(pulled.took)));
    let bytes = pulled.bytes;
    let message = format!(
        "Successfully pulled image \"{image}\" in {took} ({waited} including waiting). Image size: {bytes} bytes."
    );
    Text::normal("Pulled", message)
}

pub(crate) fn present(image: &str) -> Text {
    Text::normal("Pulled", format!("Container image \"{image}\" already present on machine"))
}

pub(crate) fn pull_failed(image: &str, error: &str) -> Text {
    Text::warning("Failed", format!("Failed to pull image \"{image}\": {error}"))
}

pub(crate) fn image_absent(message: &str) -> Text {
    Text::warning("ErrImageNeverPull", message)
}

pub(crate) fn inspect_failed(message: &str) -> Text {
    Text::warning("InspectFailed", message)
}

pub(crate) fn pull_backoff(image: &str) -> Text {
    Text::normal("BackOff", format!("Back-off pulling image \"{image}\""))
}

pub(crate) fn failed(error: &str) -> Text {
    Text::warning("Failed", format!("Error: {error}"))
}

pub(crate) fn created() -> Text {
    Text::normal("Created", "Container created")
}

pub(crate) fn started() -> Text {
    Text::normal("Started", "Container started")
}

pub(crate) fn restart_backoff(container: &str, pod: &PodFacts) -> Text {
    Text::warning(
        "BackOff",
        format!("Back-off restarting failed container {container} in pod {}", pod.title()),
    )
}

pub(crate) fn killing(message: &str) -> Text {
    Text::normal("Killing", message)
}

pub(crate) fn stopping(container: &str) -> Text {
    Text::normal("Killing", format!("Stopping container {container}"))
}

/// A container is killed for a `startup` or `liveness` probe.
pub(crate) fn failed_probe(container: &str, probe: &str, is_sidecar: bool, comes_back: bool) -> Text {
    let message = match (is_sidecar, comes_back) {
        (true, _) => format!("Init container {container} failed {probe} probe"),
        (false, true) => format!("Container {container} failed {probe} probe, will be restarted"),
        (false, false) => format!("Container {container} failed {probe} probe"),
    };
    Text::normal("Killing", message)
}

pub(crate) fn post_start_failed() -> Text {
    Text::warning("FailedPostStartHook", "PostStartHook failed")
}

pub(crate) fn pre_stop_failed() -> Text {
    Text::warning("FailedPreStopHook", "PreStopHook failed")
}

pub(crate) fn deadline_exceeded(message: &str) -> Text {
    Text::normal("DeadlineExceeded", message)
}

pub(crate) fn failed_scheduling(message: &str) -> Text {
    Text::warning("FailedScheduling", message)
}

/// A warning in somebody else's words.
pub(crate) fn warning(reason: String, message: String) -> Text {
    Text { kind: EventKind::Warning, reason, message }
}
