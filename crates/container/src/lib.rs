//! One container in a Pod's sandbox: root file system, mounts, security, spawn, exit, logs.
//!
//! ```text
//!   supervisor                     podrun-init                        the container's process
//!   ──────────                     ───────────                        ───────────────────────
//!   prepare: cgroup, overlay,
//!     volumes, log: descriptors
//!       └── Sandbox::start ──────> spawn: clone3 into the cgroup ──>  mounts, pivot_root, user,
//!                                    own mnt and pid namespace          capabilities, seccomp, exec
//!   InitEvent::Started <────────── the report pipe is closed <──────  execve
//!                                  stdout, stderr ── log framer ──>   (writes)
//!   InitEvent::Exited <─────────── waitid                             (ends)
//! ```
//!
//! - [`prepare`] is the supervisor's half. It alone sees the host's tree; what it opens there travels as descriptors.
//! - [`spawn`] is init's half: one ordered procedure in a child of init, with what the container sees as its only tree.
//!   Nothing below a root file system or a volume is ever found by a string path.
//! - [`log`] turns what the processes write into the kubelet's log format; [`init`] is the loop around it all.
//!
//! It does not restart anything, knows no probes and no images: layers are directories.
//!
//! ```no_run
//! use podrun_plan::model::ContainerSetup;
//! use podrun_sandbox::Sandbox;
//!
//! fn start(sandbox: &Sandbox, setup: &ContainerSetup) -> Result<(), Box<dyn std::error::Error>> {
//!     let prepared = podrun_container::prepare(setup, sandbox)?;
//!     sandbox.start(setup, prepared)?;
//!     Ok(())
//! }
//! ```

mod devices;
mod error;
mod exec;
pub mod init;
pub mod log;
mod oom;
mod overlay;
mod prepare;
pub mod seccomp;
pub mod spawn;
mod sys;
mod termination;
mod volume;

use std::path::Path;

pub use error::PrepareError;
pub use oom::oom_killed;
pub use prepare::prepare;
pub use termination::read_termination_message;

/// Deletes the directory of a container's attempt with its root file system's changes. May be repeated.
///
/// # Errors
///
/// The first entry that cannot be deleted, after everything else is gone.
pub fn remove(dir: &Path) -> Result<(), podrun_sandbox::SandboxError> {
    podrun_sandbox::remove_tree(dir)
}
