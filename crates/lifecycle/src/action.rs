//! What the state machine wants done. The engine carries it out and answers with an input.

use podrun_spec::model::HookKind;
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Something to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Make all volumes ready. Answer: `VolumesReady` or `VolumesFailed`.
    PrepareVolumes,
    /// Make the sandbox. Answer: `SandboxReady` or `SandboxFailed`.
    CreateSandbox,
    /// Find or pull an image that the Pod needs. Answer: `ImageReady` or `ImageFailed`.
    EnsureImage {
        /// The container that needs it; none for a volume that no container mounts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The volume that the image is; none for the image that the container runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
    },
    /// Create and start a container. Answer: `Started` or `StartFailed`, and later `Exited`.
    Start {
        /// The container.
        container: String,
        /// Which start of it; names its cgroup, directory and log.
        attempt: u32,
    },
    /// Run a hook. Answer: `HookDone`.
    ///
    /// A postStart hook is always answered, at the latest soon after its container has ended, because the next start waits
    /// for it. A preStop hook that overruns the grace is left to itself and ends with the container; its answer may come late
    /// or not at all.
    RunHook {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
        /// Which hook.
        hook: HookKind,
    },
    /// Send the container's stop signal to its first process.
    SendStopSignal {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
    },
    /// Kill everything in the container's cgroup.
    Kill {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
    },
    /// Remove what an ended attempt left: its cgroup, its root file system. The log stays.
    RemoveAttempt {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
    },
    /// Stop the sandbox: kill what is left in it, end its init. Answer: `SandboxStopped`.
    StopSandbox,
    /// Remove volumes, cgroup and directories. Answer: `CleanedUp`.
    CleanUp,
    /// Record an event.
    Emit(PodEvent),
    /// The Pod has ended and nothing of it is left in the kernel: the supervisor may end.
    /// With `remove` the Pod was deleted and its records go too.
    Finish {
        /// Whether the Pod was deleted.
        remove: bool,
    },
}

/// `type` of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventKind {
    /// The usual course of things.
    Normal,
    /// Something to look at.
    Warning,
}

/// An event of a Pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodEvent {
    /// Normal or Warning.
    pub kind: EventKind,
    /// A word: `Started`, `BackOff`.
    pub reason: String,
    /// The reason in words.
    pub message: String,
    /// `spec.containers{web}` for an event about a container.
    pub field_path: Option<String>,
    /// When it happened.
    pub at: Timestamp,
}
