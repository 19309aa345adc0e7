//! What a supervisor and a Pod's init say to each other.
//!
//! One message is one packet of a `SOCK_SEQPACKET` socket: JSON, and descriptors beside it. Init listens. The first
//! message of a connection tells what it is for. With [`Request::Setup`] or [`Request::Hello`] it is the supervisor's, and
//! the newest one of those is the one init talks to, so that a new supervisor takes over from one that died or hangs.
//! Nothing is lost between two supervisors: what init knows is in the [`Snapshot`] that answers [`Request::Hello`], and
//! the record of an end is kept until [`Request::Forget`]. With [`Request::Exec`] it belongs to one command.

mod channel;
mod exec;

use podrun_plan::model::ContainerSetup;
use podrun_spec::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use channel::{Channel, MAX_FDS, Packet, encode};
pub use exec::{ExecAnswer, ExecOrder, ExecReport, ExecRequest, ExecTarget, TerminalSize};

/// The descriptor at which init finds its listening socket.
pub const LISTENER_FD: i32 = 3;

/// What a supervisor asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::large_enum_variant, reason = "one request lives at a time, and `Start` is the usual one")]
pub enum Request {
    /// Make the sandbox from inside; once. Brings a detached mount for each of `volumes`, then one for /dev/shm.
    Setup(InitSetup),
    /// Tell all that is known.
    Hello,
    /// Start a container.
    Start(StartRequest),
    /// Send a signal to the main process of a container.
    Signal {
        /// The container.
        id: String,
        /// Number of the signal.
        signal: i32,
    },
    /// Drop what is known about a container that has ended: its end is written down elsewhere.
    Forget {
        /// The container.
        id: String,
    },
    /// Exit. Refused with [`Event::Refused`] while containers run.
    Shutdown,
    /// Run a command in a container, on a connection of its own: see [`ExecRequest`].
    Exec(ExecRequest),
}

/// What init does before anything runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InitSetup {
    /// Host name to set.
    pub hostname: Option<String>,
    /// Kernel parameters to set, in order.
    pub sysctls: Vec<(String, String)>,
    /// Bring the loopback interface up: the network namespace is the Pod's own.
    pub loopback: bool,
    /// Adopt orphans: there is no pid namespace that does it.
    pub subreaper: bool,
    /// Containers share a pid namespace, below that of init.
    pub shared_processes: bool,
    /// Names of the tmpfs volumes whose mounts come with the message.
    pub volumes: Vec<String>,
    /// A mount for /dev/shm comes last.
    pub shm: bool,
}

/// A container to start.
///
/// The descriptors beside it are, in this order: the cgroup's directory, the root file system, the log file, the host's
/// /dev/shm if `host_shm`, then one for each of `mounts` that says [`MountOrigin::Fd`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartRequest {
    /// The container.
    pub setup: ContainerSetup,
    /// Where the mount of each of `setup.mounts` comes from.
    pub mounts: Vec<MountOrigin>,
    /// The host's /dev/shm is among the descriptors.
    pub host_shm: bool,
    /// Device nodes to make besides the usual ones.
    pub devices: Vec<DeviceNode>,
}

/// Where a mount comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MountOrigin {
    /// A detached mount beside the message.
    Fd,
    /// A tmpfs of the sandbox, which only processes in it can copy.
    Sandbox,
}

/// A device node of a privileged container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceNode {
    /// Path below /dev.
    pub path: String,
    /// File type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Device number, as in `st_rdev`.
    pub rdev: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// What init reports.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// The sandbox is made.
    Ready,
    /// The sandbox could not be made; init exits.
    SetupFailed(Failure),
    /// The answer to [`Request::Hello`]. A pidfd of init comes first, then one for each running container, in order.
    Snapshot(Snapshot),
    /// A container's program has been executed. Its pidfd comes with the message.
    Started(Started),
    /// A container could not be started.
    StartFailed(StartFailed),
    /// A container's main process has ended, and what it wrote before is in the log.
    Exited(Exited),
    /// Lines could not be written to a container's log, or can be again.
    LogError(LogError),
    /// A request could not be done.
    Refused {
        /// What was asked.
        request: String,
        /// Why not.
        message: String,
    },
}

/// What went wrong, where.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What was attempted.
    pub stage: Stage,
    /// The system's error number, 0 if it was none.
    pub errno: i32,
    /// The whole story.
    pub message: String,
}

/// A step of a start, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stage {
    /// Making the sandbox from inside.
    Sandbox,
    /// Making the process: its namespaces and its cgroup.
    Clone,
    /// Attaching the root file system.
    Rootfs,
    /// Mounting /proc, /sys and /dev.
    SystemMounts,
    /// Finding the sub path of a volume.
    SubPath,
    /// Finding the sub path of an image that is a volume.
    ImageSubPath,
    /// Mounting volumes and files.
    Mounts,
    /// Hiding and write-protecting paths.
    MaskedPaths,
    /// Making the root file system the root.
    PivotRoot,
    /// Setting limits, the OOM score and the keyring.
    Process,
    /// Finding user and groups in the image.
    User,
    /// Entering the working directory.
    WorkingDir,
    /// Giving up privileges.
    Security,
    /// Executing the program.
    Exec,
}

impl Stage {
    /// Returns the reason that Kubernetes gives a container that waits because of a failure at this stage.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::SubPath => "CreateContainerConfigError",
            Self::User | Self::ImageSubPath => "CreateContainerError",
            _ => "RunContainerError",
        }
    }
}

/// All that init knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Whether the sandbox has been made.
    pub ready: bool,
    /// Containers that have not been forgotten.
    pub containers: Vec<ContainerRecord>,
}

/// What init knows about a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRecord {
    /// `<uid>_<name>_<attempt>`
    pub id: String,
    /// How far it is.
    pub state: ContainerState,
    /// What its log lacks.
    pub lost: LogLoss,
}

/// How far a container is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ContainerState {
    /// Its process exists and has not executed the program yet. An event follows.
    Starting,
    /// It runs.
    Running(Started),
    /// It ran and has ended.
    Exited {
        /// Its start.
        started: Started,
        /// Its end.
        exited: Exited,
    },
    /// It never ran.
    StartFailed(StartFailed),
}

/// A container's program has been executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// The container.
    pub id: String,
    /// Its process in init's pid namespace.
    pub pid: i32,
    /// When.
    pub started_at: Timestamp,
    /// As whom.
    pub user: Identity,
    /// What was asked for and could not be done, though the container runs.
    pub warnings: Vec<String>,
}

/// Whom a process runs as.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// User.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Supplementary groups.
    pub groups: Vec<u32>,
}

/// A container could not be started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartFailed {
    /// The container.
    pub id: String,
    /// Why.
    pub failure: Failure,
    /// What a container runtime reports in place of an exit code.
    pub exit_code: i32,
    /// When.
    pub failed_at: Timestamp,
}

/// Exit code of a container that could not be started, as containerd reports it with reason `StartError`.
pub const START_ERROR_CODE: i32 = 128;

/// A container has ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// The container.
    pub id: String,
    /// How.
    pub status: ExitStatus,
    /// When.
    pub finished_at: Timestamp,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Code(i32),
    /// This signal killed it.
    Signal(i32),
}

impl ExitStatus {
    /// Returns the exit code that Kubernetes shows: 128 + n for signal n.
    pub const fn exit_code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// What is missing in a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLoss {
    /// Entries that were not, or not wholly, written.
    pub entries: u64,
    /// Bytes of them.
    pub bytes: u64,
}

/// A log could not be written, or can be again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogError {
    /// The container.
    pub id: String,
    /// The error number of the last write, 0 once writing works again.
    pub errno: i32,
    /// What is missing so far.
    pub lost: LogLoss,
}
