//! The context that the containers of a Pod share: namespaces, cgroup, volumes in memory, and the init that is the
//! parent of them all.
//!
//! ```text
//!   supervisor                        the sandbox
//!   ──────────                        ───────────────────────────────────────────────────────────
//!   Sandbox  ──── seqpacket socket ──> podrun-init      in cgroup <pod>/init, PID 1 of the Pod, owner of
//!     requests and detached mounts ──>   │              net, ipc, uts namespaces; root is a tmpfs with
//!     events and pidfds           <──    │              /volumes/<name>, /shm, /rootfs and nothing else
//!                                        ├─ container   in cgroup <pod>/<name>.<attempt>, own mnt, cgroup
//!                                        └─ container   and (unless shared) pid namespace
//! ```
//!
//! - Init is made by one clone3: its cgroup and its namespaces are there before its first instruction. It is executed
//!   through a read-only mount of its own, which no container can write.
//! - No mount of a Pod appears in the host's mount table. The supervisor makes [detached mounts](mount) and sends them;
//!   the process that needs one attaches it in its own mount namespace.
//! - A supervisor may die at any moment. Init goes on, keeps what has happened, and [tells](Sandbox::adopt) the next.
//! - All names derive from the Pod's UID, so [`remove`] needs no memory of what was made.
//!
//! It does not decide anything: when to start, restart or stop a container is its caller's affair. Containers'
//! file systems and processes are the business of `podrun-container`.
//!
//! ```no_run
//! use podrun_sandbox::{InitProgram, Sandbox, SandboxError, remove};
//! use std::path::Path;
//!
//! fn live(plan: &podrun_plan::model::SandboxPlan) -> Result<(), SandboxError> {
//!     let cgroup_mount = Path::new("/sys/fs/cgroup");
//!     let mut sandbox = Sandbox::create(plan, &InitProgram::new("/usr/bin/podrun-init"), cgroup_mount)?;
//!     // Poll `sandbox.events()` and `sandbox.pidfd()`, then:
//!     while let Some(event) = sandbox.recv()? {
//!         println!("{event:?}");
//!     }
//!     remove(plan, cgroup_mount).map_err(|mut errors| errors.remove(0))
//! }
//! ```

mod cgroup;
mod create;
mod error;
mod exec;
pub mod init;
pub mod mount;
pub mod path;
mod program;
pub mod protocol;
mod remove;
mod sandbox;
mod sys;
mod tree;
pub mod volumes;

pub use cgroup::apply_values;
pub use error::SandboxError;
pub use exec::{Exec, ExecEvent, Execs, Stdio};
pub use program::InitProgram;
pub use remove::{remove, remove_tree, stop};
pub use sandbox::{Adopted, InitEvent, Prepared, Process, Sandbox};
