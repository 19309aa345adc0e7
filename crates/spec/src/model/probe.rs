//! Probes, lifecycle hooks and restart rules of a container.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::RestartPolicy;

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum ProbeKind {
    /// Holds the other probes back until the container has come up; a failure kills it.
    Startup,
    /// A failure kills the container.
    Liveness,
    /// Tells whether the container serves.
    Readiness,
}

/// `startupProbe`, `livenessProbe` or `readinessProbe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is done.
    pub handler: ProbeHandler,
    /// No probe before the container has run for as long; whole seconds.
    pub initial_delay: Duration,
    /// Between two probes; whole seconds unless an annotation says otherwise.
    pub period: Duration,
    /// For one probe; whole seconds.
    pub timeout: Duration,
    /// Successes in a row that make a success, at least 1.
    pub success_threshold: u32,
    /// Failures in a row that make a failure, at least 1.
    pub failure_threshold: u32,
    /// Grace of a container that is killed because of this probe; none takes the Pod's.
    pub termination_grace_period: Option<Duration>,
}

/// What a probe does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ProbeHandler {
    /// Runs a command in the container; `$(VAR)` not yet expanded.
    Exec(Vec<String>),
    /// Makes an HTTP request.
    HttpGet(HttpGet),
    /// Makes a connection.
    TcpSocket(TcpSocket),
    /// Makes a gRPC health check.
    Grpc {
        /// 1 to 65535.
        port: u16,
        /// The name that is asked for; empty is the server as a whole.
        service: String,
    },
}

/// `lifecycle.postStart` or `lifecycle.preStop`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hook {
    /// Runs a command in the container, which is taken as it is written.
    Exec(Vec<String>),
    /// Makes an HTTP request.
    HttpGet(HttpGet),
    /// Accepted by the API, fails when it is due.
    TcpSocket(TcpSocket),
    /// Waits; whole seconds.
    Sleep(Duration),
}

/// Which of the two hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum HookKind {
    /// Right after the start, beside the entrypoint.
    PostStart,
    /// Before the stop signal.
    PreStop,
}

/// `httpGet`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// Path, with a query where there is one.
    pub path: String,
    /// Port.
    pub port: Port,
    /// None is the Pod's address.
    pub host: Option<String>,
    /// With TLS, whose certificate is not verified.
    pub https: bool,
    /// Headers in order, names as written.
    pub headers: Vec<(String, String)>,
}

/// `tcpSocket`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Port.
    pub port: Port,
    /// None is the Pod's address.
    pub host: Option<String>,
}

/// A port by number or by its name among the container's ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Port {
    /// 1 to 65535.
    Number(u16),
    /// Looked up when it is needed; one that is not found makes the probe an error.
    Name(String),
}

/// An entry of `restartPolicyRules[]`: the first one that matches an exit decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartRule {
    /// What happens.
    pub action: RestartAction,
    /// True for `In`, false for `NotIn`.
    pub is_in: bool,
    /// Exit codes.
    pub exit_codes: Vec<i32>,
}

/// `restartPolicyRules[].action`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartAction {
    /// The container is started again.
    Restart,
    /// All containers of the Pod are killed and started anew, init containers included.
    RestartAllContainers,
}

/// What decides about the restart of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerRestart {
    /// `restartPolicy` of the container; none takes the Pod's.
    pub policy: Option<RestartPolicy>,
    /// Asked before the policy.
    pub rules: Vec<RestartRule>,
}

/// Everything that is done with a container between its start and its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ContainerLife {
    /// `startupProbe`.
    pub startup: Option<Probe>,
    /// `livenessProbe`.
    pub liveness: Option<Probe>,
    /// `readinessProbe`.
    pub readiness: Option<Probe>,
    /// `lifecycle.postStart`.
    pub post_start: Option<Hook>,
    /// `lifecycle.preStop`.
    pub pre_stop: Option<Hook>,
    /// `lifecycle.stopSignal`, as `SIGUSR1`; none takes the image's.
    pub stop_signal: Option<String>,
    /// Restart policy and rules of its own.
    pub restart: ContainerRestart,
}

impl ContainerLife {
    /// Returns the probe of that kind.
    pub const fn probe(&self, kind: ProbeKind) -> Option<&Probe> {
        match kind {
            ProbeKind::Startup => self.startup.as_ref(),
            ProbeKind::Liveness => self.liveness.as_ref(),
            ProbeKind::Readiness => self.readiness.as_ref(),
        }
    }

    /// Returns the hook of that kind.
    pub const fn hook(&self, kind: HookKind) -> Option<&Hook> {
        match kind {
            HookKind::PostStart => self.post_start.as_ref(),
            HookKind::PreStop => self.pre_stop.as_ref(),
        }
    }
}
