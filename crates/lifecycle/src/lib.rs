//! The Pod lifecycle of the kubelet as a pure state machine with an injected clock.
//!
//! A [`Machine`] is told facts ([`Input`]), each with its time, and answers with what is to be done ([`Action`]). It
//! decides what starts when, what is restarted and after which wait, how a deletion goes, and it writes the Pod's
//! status: phase, conditions, container states, in the order and the words of the kubelet.
//!
//! It does no I/O, has no clock, no threads and no randomness: the same inputs lead to the same actions, so a
//! recorded life can be replayed. It does not know how a container is started, only that it was. Probes, lifecycle
//! hooks and sidecars are not part of it yet.
//!
//! ```
//! use std::time::Duration;
//!
//! use podrun_lifecycle::{Action, Input, Machine, Now, Stage};
//! use podrun_spec::model::Pod;
//!
//! /// Lives the life of a Pod.
//! ///
//! /// `next` waits for a fact, at the latest until the boot time that it is given; then it returns a `Tick`.
//! fn live(
//!     pod: &Pod,
//!     clock: impl Fn() -> Now,
//!     mut carry_out: impl FnMut(Action),
//!     mut next: impl FnMut(Option<Duration>) -> Input,
//! ) {
//!     let mut machine = Machine::new(pod);
//!     let mut input = Input::Created;
//!     loop {
//!         machine.step(clock(), input).into_iter().for_each(&mut carry_out);
//!         println!("{:?}", machine.status().phase);
//!         if machine.stage() == Stage::Finished {
//!             break;
//!         }
//!         input = next(machine.deadline());
//!     }
//! }
//! ```
//!
//! # The stages of a Pod
//!
//! Beside the arrows: the action that is asked for, and the input that leads on.
//!
//! ```text
//!   New ── Created ──> Volumes ── VolumesReady ──> Sandbox ── SandboxReady ──> Running <─┐ start, exit,
//!                      PrepareVolumes              CreateSandbox               │  │   └──┘ back-off, restart
//!                        ^    │ VolumesFailed        ^ │  ^ SandboxFailed      │  │
//!                        └────┘ 0.5 s ... 122 s      └─┘  │ 10 s               │  │ SandboxLost, and
//!                                                         │                    │  v something left to run
//!                                                         └─ SandboxStopped ── │ Rebuilding
//!                                                                              │ StopSandbox
//!   Delete (any time), all containers ended for good, init failed for good     │
//!        └──────────────────────┬──────────────────────────────────────────────┘
//!                               v
//!                            Stopping            SendStopSignal to all at once, Kill at the end of the grace
//!                               │ last Exited
//!                               v
//!                        StoppingSandbox         StopSandbox; without a sandbox this is passed over
//!                               │ SandboxStopped: the phase may become terminal from here on
//!                               v
//!                          CleaningUp            CleanUp
//!                               │ CleanedUp
//!                               v
//!                           Finished             Finish; a Delete that comes now asks for Finish { remove: true }
//! ```
//!
//! In Running one container is started at a time, init containers one after the other, then the regular ones in spec
//! order; `EnsureImage` and `Start` have to be answered before the next start. A regular container that cannot be
//! started does not keep the next from its try; an init container does.
//!
//! # What the engine has to keep
//!
//! - Facts come in the order in which they happened: `Started` before the same attempt's `Exited`, and all `Exited`
//!   that are known before `SandboxLost`. What runs then is reported as lost.
//! - Each attempt that was `Started` has one `Exited`, also after `Kill`, or the sandbox is lost: a container that is
//!   being stopped is waited for, and `StopSandbox` comes after the last one has ended.
//! - `StopSandbox` and `CleanUp` may come while an `EnsureImage` is unanswered, and after a deletion without grace
//!   while any request is. Those are to be given up; an answer that still comes is ignored.
//! - [`Machine::state`] is what a supervisor writes down; the next one calls [`Machine::restore`] and carries
//!   [`Machine::outstanding`] out again.
//!
//! # Where it differs from a kubelet
//!
//! Statuses are written after every step, so short-lived ones are seen that a kubelet misses between its syncs.
//! Beyond that, on purpose:
//!
//! - Waits are nominal; a kubelet wakes up 1.0 to 1.5 times as late.
//! - An exit or a failed pull stands in a status of its own, and the back-off that follows is shown at once and for as
//!   long as it lasts. A kubelet shows it at its next sync, often just before it is over.
//! - A deletion with zero seconds of grace kills at once, also while a longer grace is running. (A kubelet gives two
//!   seconds; a second deletion with less grace does not interrupt the first, and that is so here for any other value.)
//! - The Pod's addresses are shown as soon as the sandbox stands, not with the first container.
//! - `lastState` is always the run before; a kubelet that has dropped that record may repeat the newest one.
//! - The ids of a container are made of Pod, name and attempt ([`container_id`]).
//! - When the sandbox is lost all containers die with it and their exit codes are lost; Ready is False at once.
//! - A Pod that has ended is cleaned up like a deleted one, records apart: nothing of it stays in the kernel.
//! - The `Pulled` event of a pull does not tell the size of the image.

#![forbid(unsafe_code)]

mod action;
mod admission;
mod backoff;
mod conditions;
mod container;
mod deadline;
mod events;
mod facts;
mod grace;
mod hooks;
mod input;
pub mod journal;
mod machine;
mod phase;
mod probes;
mod restart_all;
mod rules;
mod run;
mod setup;
mod sidecars;
pub mod simulate;
mod start;
mod state;
mod status;
mod stop;
mod timeline;
mod view;

pub use action::{Action, EventKind, PodEvent};
pub use container::container_id;
pub use input::{ExitStatus, Input, Now, PulledImage, StartFailure};
pub use machine::Machine;
pub use state::{Stage, State};
pub use timeline::{Line, LineKind};
pub use view::{ContainerView, PodView, ProbeView, RunView};
