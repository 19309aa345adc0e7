//! Kubernetes probes and lifecycle hooks for one container on one Linux machine.
//!
//! What it does:
//!
//! - [`Prober`] decides when a startup, liveness or readiness probe is made and what its results mean: initial delay,
//!   period, thresholds and all the kubelet's rules, as a pure state machine that is told the time;
//! - [`Executor`] makes the probes on tokio: [`exec`], [`http`], [`tcp`] and [`grpc`], and runs `postStart` and `preStop`
//!   hooks ([`Hook`]);
//! - [`Network`] makes connections from inside a network namespace, without a process or a thread that stays there;
//! - [`exec::DirectSpawner`] starts commands by one clone3 into a cgroup of their own, and kills them as a tree;
//!   [`exec::Spawner`] is for those who start them otherwise;
//! - [`probe_event`] and [`HookKind::failure_event`] put results into the kubelet's words.
//!
//! What it does not do: it knows no manifests, reads no status, restarts no containers and emits no events: it says what
//! they should be. It never prints, and reads no environment variables and no clock but tokio's timers.
//!
//! A probe has three ends. [`Outcome::Success`] and [`Outcome::Failure`] are verdicts about the container; an [`Error`] is
//! none, because the probe could not be made, and is not counted.
//!
//! ```
//! use std::time::Duration;
//! use podrun_probes::{Attempt, Container, Kind, Observation, Pod, Prober, Run, Settings, Step, Verdict};
//!
//! let settings = Settings { failure_threshold: 2, ..Settings::new(Kind::Liveness) };
//! let mut prober = Prober::new(settings, Duration::ZERO);
//! let run = Run::Running { since: Duration::ZERO, started: true };
//! let running = Observation { pod: Pod::Active, container: Some(Container { id: "first", run }) };
//!
//! // The first tick is due at once; the container counts as alive until the contrary is known.
//! let tick = prober.tick(Duration::ZERO, &running);
//! assert_eq!((tick.step, tick.published), (Step::Probe, Some(Verdict::Success)));
//! assert_eq!(prober.finish(Attempt::Failed), None);
//!
//! // The second failure in a row is the order to kill it.
//! assert_eq!(prober.next_tick(), Some(Duration::from_secs(10)));
//! assert_eq!(prober.tick(Duration::from_secs(10), &running).step, Step::Probe);
//! assert_eq!(prober.finish(Attempt::Failed), Some(Verdict::Failure));
//! ```

#![deny(unsafe_code)]

mod async_fd;
mod error;
pub mod exec;
mod executor;
pub mod grpc;
mod hook;
pub mod http;
mod network;
mod outcome;
mod prober;
pub mod tcp;
mod text;
mod thread;

pub use error::{Error, Result};
pub use executor::{Executor, Handler, MAX_ATTEMPTS};
pub use grpc::Grpc;
pub use hook::{Hook, HookDone, HookError, HookKind};
pub use http::{HttpGet, Scheme};
pub use network::{Network, resolve_port};
pub use outcome::{Event, Kind, Outcome, probe_event};
pub use prober::{
    Attempt, Container, MIN_PERIOD, Observation, Pod, Prober, Run, Settings, Step, Tick, Verdict,
    start_jitter,
};
pub use tcp::TcpSocket;
pub use text::MAX_OUTPUT;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
