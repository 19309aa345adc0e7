//! The Pod lifecycle of the kubelet as a pure state machine with an injected clock.

#![forbid(unsafe_code)]

mod action;
mod input;

pub use action::{Action, EventKind, PodEvent};
pub use input::{ExitStatus, Input, Now, StartFailure};
