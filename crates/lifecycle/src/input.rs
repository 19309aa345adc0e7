//! What the state machine is told: facts, each with the time at which it was learnt.

use std::time::Duration;

use podrun_spec::model::{HookKind, ProbeKind};
use podrun_spec::status::UserStatus;
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The time of an input on both clocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Now {
    /// Wall clock: what a status records.
    pub wall: Timestamp,
    /// Time since boot, suspended time included (CLOCK_BOOTTIME): what is waited on.
    pub boot: Duration,
}

/// What is told about an image that was pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulledImage {
    /// How long the pull itself took.
    pub took: Duration,
    /// Bytes of the image in the registry.
    pub bytes: u64,
}

/// A fact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Input {
    /// The Pod fits on this node and was accepted. Nothing is done before it comes.
    Created,
    /// The Pod does not fit on this node now; it stays Pending, and `Created` may still come.
    Unschedulable {
        /// In the scheduler's words; also that of the FailedScheduling event.
        message: String,
    },
    /// This node can never run the Pod: it fails at once.
    Rejected {
        /// The kubelet's reason: `PodOSNotSupported`.
        reason: String,
        /// The reason in words, without `Pod was rejected: `.
        message: String,
    },
    /// Time has passed; sent when the machine's own deadline is reached.
    Tick,
    /// All volumes can be mounted.
    VolumesReady,
    /// A volume cannot be made ready; tried again later.
    VolumesFailed {
        /// Text of the FailedMount event.
        message: String,
    },
    /// The sandbox stands: namespaces, cgroup, init.
    SandboxReady {
        /// Addresses of the Pod.
        pod_ips: Vec<String>,
    },
    /// The sandbox could not be made; tried again later.
    SandboxFailed {
        /// Text of the FailedCreatePodSandBox event.
        message: String,
    },
    /// The sandbox's init died without being asked: all containers are dead.
    SandboxLost,
    /// An image that the Pod needs is being pulled: it was not here, or the pull policy is `Always`.
    ///
    /// Optional; it makes the `Pulling` event come when the pull begins rather than with its result.
    ImagePulling {
        /// The container that needs it; none for a volume that no container mounts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The volume that the image is; none for the image that the container runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
    },
    /// An image that the Pod needs is here.
    ImageReady {
        /// The container that needs it; none for a volume that no container mounts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The volume that the image is; none for the image that the container runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
        /// `sha256:…` or `repository@sha256:…`, for `imageID`.
        image_id: String,
        /// Where it was pulled for this start; none where it was here already.
        pulled: Option<PulledImage>,
    },
    /// An image that the Pod needs cannot be had.
    ImageFailed {
        /// The container that needs it; none for a volume that no container mounts.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// The volume that the image is; none for the image that the container runs.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        volume: Option<String>,
        /// `ErrImagePull`, `ErrImageNeverPull`, `InvalidImageName`, `ImageInspectError`.
        reason: String,
        /// The reason in words.
        message: String,
    },
    /// A container's process was exec'ed.
    Started {
        /// The container.
        container: String,
        /// Which start of it, 0 for the first.
        attempt: u32,
        /// When.
        at: Timestamp,
        /// Its identity.
        user: UserStatus,
    },
    /// A container could not be created or started.
    StartFailed {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
        /// What failed.
        failure: StartFailure,
    },
    /// A container's process ended.
    Exited {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
        /// How.
        status: ExitStatus,
        /// The kernel killed a process of it for memory.
        oom_killed: bool,
        /// Its last words, already cut to size; empty where there are none.
        message: String,
        /// When.
        at: Timestamp,
    },
    /// A probe has a new verdict, or something to tell.
    ///
    /// The verdicts with which a run begins need not be told: alive, not ready, not known whether it has come up.
    Probed {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
        /// Which of its probes.
        probe: ProbeKind,
        /// True for success, false for failure; none where the verdict is the same as before.
        healthy: Option<bool>,
        /// Reason and message of an event: `Unhealthy`, `ProbeWarning`.
        event: Option<(String, String)>,
    },
    /// A hook has run to its end, or could not be run.
    HookDone {
        /// The container.
        container: String,
        /// Which start of it.
        attempt: u32,
        /// Which hook.
        hook: HookKind,
        /// Why it failed; none where it succeeded.
        failure: Option<String>,
        /// Reason and message of a further event: `LifecycleHTTPFallback`.
        event: Option<(String, String)>,
    },
    /// A condition that somebody else keeps, for a readiness gate.
    ConditionSet {
        /// `type`.
        kind: String,
        /// True or False.
        status: bool,
        /// A word.
        reason: Option<String>,
        /// The reason in words.
        message: Option<String>,
    },
    /// The Pod uses more of the node than it may: it is stopped with a second of grace, and fails unless all of its
    /// containers end with 0.
    Evicted {
        /// In the kubelet's words, each sentence with a blank behind it; also that of the Evicted event.
        message: String,
    },
    /// Somebody wants the Pod gone.
    Delete {
        /// Seconds of grace; none takes the Pod's own. 0 is immediate.
        grace_seconds: Option<u64>,
    },
    /// The sandbox and all its processes are gone.
    SandboxStopped,
    /// Volumes, cgroup and directories are gone.
    CleanedUp,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It called exit.
    Code(i32),
    /// A signal killed it.
    Signal(i32),
    /// Nobody knows; the record is lost.
    Lost,
}

/// Why a container did not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartFailure {
    /// Nothing was created: the configuration cannot be carried out.
    Config {
        /// `CreateContainerConfigError` or `CreateContainerError`.
        reason: String,
        /// The reason in words.
        message: String,
    },
    /// It was created, but its process could not be exec'ed: terminated 128 `StartError`, waiting `RunContainerError`.
    Exec {
        /// The reason in words.
        message: String,
        /// 128.
        exit_code: i32,
        /// When.
        at: Timestamp,
    },
}
