//! The Pod lifecycle of the kubelet as a pure state machine with an injected clock.
//!
//! A [`Machine`] is told facts ([`Input`]), each with its time, and answers with what is to be done ([`Action`]). It
//! decides what starts when, what is restarted and after which wait, what a probe or a hook leads to, how sidecars go along
//! and how a deletion goes, and it writes the Pod's status: phase, conditions, container states, in the order and the words
//! of the kubelet.
//!
//! It does no I/O, has no clock, no threads and no randomness: the same inputs lead to the same actions. [`journal`] writes
//! a life down and replays it; [`simulate`] tells what would become of a Pod. The machine does not know how a container is
//! started, only that it was, and it runs no probes: it is told their verdicts, and [`Machine::probe_view`] says what their
//! makers have to know.
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
//!         Unschedulable: Pending, and Created may still come      Rejected: Failed, and nothing else ever happens
//!    ┌──────┐
//!   New <───┘── Created ──> Volumes ── VolumesReady ──> Sandbox ── SandboxReady ──> Running <─┐ start, exit, probe,
//!                           PrepareVolumes              CreateSandbox               │ ^ │ └───┘ hook, back-off, restart
//!                             ^    │ VolumesFailed        ^ │  ^ SandboxFailed      │ │ │
//!                             └────┘ 0.5 s ... 122 s      └─┘  │ 10 s               │ │ v RestartAllContainers
//!                                                              │                    │ Restarting    all are stopped and
//!                                                              └─ SandboxStopped ── │ Rebuilding    forgotten
//!                                                                                   │ ^ StopSandbox
//!                                                                                   │ └── SandboxLost, and something
//!                                                                                   │     left to run
//!   Delete, Evicted, activeDeadlineSeconds (any time), all regular containers       │
//!   ended for good, an init container failed for good                               │
//!        └───────────────────────┬──────────────────────────────────────────────────┘
//!                                v
//!                             Stopping            RunHook preStop, SendStopSignal, Kill; sidecars in their turn
//!                                │ last Exited
//!                                v
//!                         StoppingSandbox         StopSandbox; without a sandbox this is passed over
//!                                │ SandboxStopped: the phase may become terminal from here on
//!                                v
//!                           CleaningUp            CleanUp
//!                                │ CleanedUp
//!                                v
//!                            Finished             Finish; a Delete that comes now asks for Finish { remove: true }
//! ```
//!
//! In Running one container is started at a time; `EnsureImage`, `Start` and a postStart hook have to be answered before
//! the next start. Init containers and sidecars come one after the other, each when the one before it has succeeded or has
//! *started*, then the regular ones in spec order. A regular container or sidecar that cannot be started does not keep the
//! next from its try; an init container does. Sidecars come back whatever the Pod's policy, until all regular containers have
//! ended for good. The images of volumes that no container mounts are asked for beside all that, one at a time: no start
//! waits for them, and the Pod does not fail for them.
//!
//! A stop has up to four steps, whatever its cause: the preStop hook, for a sidecar at the end of its Pod the wait for its
//! turn, the stop signal, the kill. Hook and wait last at most as long as the grace, which loses the whole seconds that they
//! took; at least two seconds lie between signal and kill.
//!
//! # What the engine has to keep
//!
//! - Facts come in the order in which they happened: `Started` before the same attempt's `Exited`, and all `Exited`
//!   that are known before `SandboxLost`. What runs then is reported as lost.
//! - Each attempt that was `Started` has one `Exited`, also after `Kill`, or the sandbox is lost: a container that is
//!   being stopped is waited for, and `StopSandbox` comes after the last one has ended.
//! - A postStart hook is always answered, also when its container has ended: with a failure if it was a command. A preStop
//!   hook need not be.
//! - Probers begin anew with each attempt and report changes of their verdict. Those with which an attempt begins (alive, not
//!   ready, not known whether it has come up) need not be told.
//! - `StopSandbox` and `CleanUp` may come while an `EnsureImage` is unanswered, and after a deletion without grace
//!   while any request is. Those are to be given up; an answer that still comes is ignored.
//! - [`Machine::state`] is what a supervisor writes down; the next one calls [`Machine::restore`] and carries
//!   [`Machine::outstanding`] out again. A preStop hook that was running is run again, within what is left of the grace; a
//!   postStart hook is not, and its container counts as started: both as after a restart of a kubelet.
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
//! - A container that is killed for a probe holds up nobody: others are restarted meanwhile, and the Pod's deadline is not
//!   waited for. A kubelet does one thing at a time.
//! - A deletion that comes while a container is stopped for another reason sets the grace anew, as in a kubelet, but neither
//!   the hook nor the signal comes a second time. A postStart hook is given up without an event then.
//! - A container that a probe has had killed comes back from its back-off whatever its exit code; a kubelet forgets why
//!   it was killed, and under `OnFailure` leaves one alone that ended with 0.
//! - All containers are restarted within four seconds (regular ones, then the others, each in parallel); what was removed
//!   shows neither id nor readiness. Such restarts begin at least a second apart.
//! - A container that is in the way of nothing but its own policy is not started in a second sandbox; a kubelet starts one
//!   with `restartPolicy: Never` again there if the Pod has no init containers.
//! - A new supervisor keeps all verdicts of probes; a new kubelet forgets those of containers younger than 10 s.
//! - The Pod's addresses are shown as soon as the sandbox stands, not with the first container.
//! - `lastState` is always the run before; a kubelet that has dropped that record may repeat the newest one.
//! - The ids of a container are made of Pod, name and attempt ([`container_id`]).
//! - The images of volumes that no container mounts are pulled beside the containers and looked for until they are here. A
//!   kubelet pulls the images of all volumes before it starts a container, again in every sync (until 1.36) or in every sync
//!   that starts one.
//! - When the sandbox is lost all containers die with it and their exit codes are lost; Ready is False at once.
//! - A Pod that has ended is cleaned up like a deleted one, records apart: nothing of it stays in the kernel.
//!
//! The recordings of a real kubelet in `tests/golden` are replayed, with these differences named one by one.

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
mod images;
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
