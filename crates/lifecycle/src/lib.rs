//! The Pod lifecycle of the kubelet as a pure state machine with an injected clock.

#![forbid(unsafe_code)]

mod action;
mod backoff;
mod conditions;
mod container;
mod events;
mod facts;
mod input;
mod machine;
mod phase;
mod setup;
mod start;
mod state;
mod status;
mod stop;

pub use action::{Action, EventKind, PodEvent};
pub use container::container_id;
pub use input::{ExitStatus, Input, Now, StartFailure};
pub use machine::Machine;
pub use state::{Stage, State};
