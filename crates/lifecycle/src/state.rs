//! Everything that a machine remembers.

use std::collections::BTreeMap;
use std::time::Duration;

use podrun_spec::status::{Condition, PodStatus};
use serde::{Deserialize, Serialize};

use crate::backoff::Backoff;
use crate::container::Record;
use crate::deadline::Failure;

/// Where a Pod is in its life. The diagram is in the crate's documentation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Nothing has happened yet.
    #[default]
    New,
    /// Volumes are being made ready.
    Volumes,
    /// The sandbox is being made.
    Sandbox,
    /// Containers are started, watched and restarted.
    Running,
    /// A restart rule asked for it: all containers are being stopped, to be started anew in the same sandbox.
    Restarting,
    /// The sandbox was lost; its remains are removed before there is a new one.
    Rebuilding,
    /// Nothing is started any more; running containers are being stopped.
    Stopping,
    /// No container runs; the sandbox is being stopped.
    StoppingSandbox,
    /// Volumes, cgroup and directories are being removed.
    CleaningUp,
    /// Nothing is left to do.
    Finished,
}

/// The state of a machine, for a supervisor that takes over.
///
/// Times in it are on the machine's clock, [`Now::boot`](crate::Now::boot), which must not go back: after a reboot its
/// owner goes on from [`State::clock`].
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    pub(crate) stage: Stage,
    /// Boot time of the last input.
    pub(crate) clock: Duration,
    /// A request for volumes or sandbox that is not answered yet.
    pub(crate) setup: Option<Setup>,
    /// When volumes or sandbox are tried again.
    pub(crate) retry_at: Option<Duration>,
    /// How often the volumes failed in a row.
    pub(crate) volume_failures: u32,
    /// A sandbox was asked for, so something of it may exist.
    pub(crate) sandbox_asked: bool,
    /// The sandbox stands.
    pub(crate) sandbox_ready: bool,
    /// Boot time of `status.startTime`.
    pub(crate) start_boot: Option<Duration>,
    /// Why there is no place for the Pod now.
    pub(crate) unschedulable: Option<String>,
    /// The node will never run it.
    pub(crate) is_rejected: bool,
    /// Conditions that others keep.
    pub(crate) foreign: Vec<Condition>,
    /// Why it fails whatever its containers do.
    pub(crate) failure: Option<Failure>,
    /// All containers are to be started anew and have not been forgotten yet.
    pub(crate) is_resetting: bool,
    /// The next restart of all containers comes no sooner.
    pub(crate) reset_at: Option<Duration>,
    /// The one container that is being started.
    pub(crate) in_flight: Option<InFlight>,
    /// The container from which the next search for one to start begins.
    pub(crate) cursor: usize,
    /// Failed pulls by image.
    pub(crate) images: BTreeMap<String, FailedImage>,
    /// Images of volumes that no container mounts, in the order of the facts.
    pub(crate) unmounted: Vec<Unmounted>,
    /// In the order of the facts.
    pub(crate) containers: Vec<Record>,
    pub(crate) deletion: Option<Deletion>,
    /// The Pod had been initialized when it was told to end.
    pub(crate) ended_initialized: bool,
    /// The last status is written; only what never ran is filled in.
    pub(crate) closed: bool,
    pub(crate) status: PodStatus,
}

impl State {
    /// Returns where the Pod is in its life.
    pub const fn stage(&self) -> Stage {
        self.stage
    }

    /// Returns the time of the last input.
    pub const fn clock(&self) -> Duration {
        self.clock
    }
}

/// A request that comes before the containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Setup {
    Volumes,
    Sandbox,
}

/// A start in progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InFlight {
    pub(crate) container: usize,
    pub(crate) step: StartStep,
}

/// Which answer a start in progress waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum StartStep {
    /// `need` is the place of the image among those that the container needs.
    Image {
        since: Duration,
        announced: bool,
        #[serde(default)]
        need: usize,
    },
    Start {
        attempt: u32,
    },
    PostStart {
        attempt: u32,
    },
}

/// An image that could not be pulled.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FailedImage {
    pub(crate) backoff: Backoff,
    /// `ErrImagePull: …`
    pub(crate) error: String,
}

/// The image of a volume that no container mounts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Unmounted {
    /// It was asked for and is waited for.
    pub(crate) asked: Option<Asked>,
    /// It is here: nothing is left to do.
    pub(crate) is_here: bool,
    /// No try before this time.
    pub(crate) retry_at: Option<Duration>,
}

/// A request for an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// Boot time of the request, or of the pull that it led to.
    pub(crate) since: Duration,
    /// An event tells of the pull.
    pub(crate) announced: bool,
}

/// Somebody wants the Pod gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Deletion {
    pub(crate) grace: Duration,
    /// Nothing is waited for but the end of killed processes.
    pub(crate) forced: bool,
}
