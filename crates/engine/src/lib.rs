//! Carries the Pod lifecycle out: one supervisor per Pod, state on disk, a socket to ask it.
//!
//! What it does: [`Engine`] records Pods, launches their supervisors, lists and removes them. A supervisor is a process
//! that feeds [`podrun_lifecycle::Machine`] with facts and carries its actions out through the sandbox, container and
//! image crates. [`Client`] watches a Pod or asks for its end.
//!
//! What it does not do: it prints nothing, reads no environment and knows no command line; any caller with one thread
//! may launch Pods.
//!
//! ```no_run
//! use podrun_engine::{Engine, Paths};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let engine = Engine::new(Paths::system(), "/usr/libexec/podrun-init".into());
//! for view in engine.pods()?.views {
//!     println!("{} is {}", view.pod.meta.name, view.published.status.phase.as_str());
//! }
//! # Ok(())
//! # }
//! ```

mod changes;
mod claims;
mod client;
mod clock;
mod collect;
mod config;
mod engine;
mod error;
mod events;
mod facts;
mod held_back;
mod launch;
mod listeners;
mod memory;
mod network;
mod node;
mod options;
mod paths;
mod planning;
mod protocol;
mod record;
mod registries;
mod root;
mod supervisor;
mod upkeep;
mod usage;

pub use changes::PodChanges;
pub use client::Client;
pub use config::{Config, NodeConfig};
pub use engine::{CgroupReadBack, Engine, Launcher, PodFault, Pods, lease_of};
pub use error::{Error, Result, chain};
pub use events::EventRecord;
pub use held_back::HeldBack;
pub use memory::return_large_blocks;
pub use network::NetworkView;
pub use options::{NetworkOptions, PidsLimit, PodOptions};
pub use paths::Paths;
pub use podrun_lifecycle::EventKind;
pub use podrun_network::{
    Collected, Difference, Measured, PodState, Throughput, forward_policies, try_out as try_out_network,
};
pub use podrun_sandbox::protocol::{ExitStatus, Failure, Stage, TerminalSize};
pub use podrun_sandbox::{Exec, ExecEvent, Stdio};
pub use protocol::Message;
pub use record::{Deletion, PodView, Published};
pub use usage::{ContainerUsage, PodUsage};
